/* routing/dialects/gemini_schema.c - the vendor's Schema, a subset of OpenAPI 3.0, as JSON Schema.
 *
 * Types are upper-case enums, sizes are int64 and so strings, "nullable" stands where JSON Schema has a type more, and
 * the order of properties is a hint that it has no word for. Every other member means the same in both. Depth is that of
 * a parsed document, so the recursion is bounded. */
#include "routing/dialects/gemini_priv.h"

#define NAME_BYTES_MAX 64

static void put_schema(struct json_out *o, const char *key, const struct json *schema);

static bool is_nullable(const struct json *schema)
{
	bool nullable = false;

	return json_bool(json_get(schema, "nullable"), &nullable) && nullable;
}

static void put_type(struct json_out *o, const struct json *schema, const struct json *type)
{
	char lower[NAME_BYTES_MAX];
	struct str s;

	if (!json_string(type, &s) || s.len >= sizeof lower) {
		json_put_value(o, "type", type);
		return;
	}
	if (str_eq_nocase(s, STR("TYPE_UNSPECIFIED")))
		return;
	for (size_t i = 0; i < s.len; i++)
		lower[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] - 'A' + 'a'
								     : s.ptr[i]);
	s = str_of(lower, s.len);
	if (!is_nullable(schema) || str_is(s, "null")) {
		json_put_str(o, "type", s);
		return;
	}
	json_arr(o, "type");
	json_put_str(o, NULL, s);
	json_put_z(o, NULL, "null");
	json_arr_end(o);
}

static void put_enum(struct json_out *o, const struct json *schema, const struct json *values)
{
	struct json_iter it = json_iter(values);
	struct json *v;

	json_arr(o, "enum");
	while (json_next(&it, NULL, &v))
		json_put_value(o, NULL, v);
	if (is_nullable(schema))
		json_put_null(o, NULL);
	json_arr_end(o);
}

static void put_any_of(struct json_out *o, const struct json *schema, const struct json *choices)
{
	struct json_iter it = json_iter(choices);
	struct json *v;

	json_arr(o, "anyOf");
	while (json_next(&it, NULL, &v))
		put_schema(o, NULL, v);
	if (is_nullable(schema)) {
		json_obj(o, NULL);
		json_put_z(o, "type", "null");
		json_obj_end(o);
	}
	json_arr_end(o);
}

static void put_properties(struct json_out *o, const struct json *properties)
{
	struct json_iter it = json_iter(properties);
	struct str key;
	struct json *v;

	json_obj(o, "properties");
	while (json_next(&it, &key, &v)) {
		struct json_out member = *o;

		/* the key is the caller's own and of any length: written by hand, its value as a schema */
		if (member.comma && member.rc == RC_OK)
			member.rc = buf_append_char(member.buf, ',');
		if (member.rc == RC_OK)
			member.rc = buf_append_char(member.buf, '"');
		if (member.rc == RC_OK)
			member.rc = json_escape(key, member.buf);
		if (member.rc == RC_OK)
			member.rc = buf_append(member.buf, STR("\":"));
		member.comma = false;
		put_schema(&member, NULL, v);
		*o = member;
		o->comma = true;
	}
	json_obj_end(o);
}

static void put_size(struct json_out *o, const char *key, const struct json *v)
{
	struct str s;
	int64_t n;

	if (json_string(v, &s) && str_to_i64(s, &n) == RC_OK)
		json_put_int(o, key, n);
	else
		json_put_value(o, key, v);
}

static bool is_size(const char *key)
{
	static const char *const sizes[] = {"minItems",	 "maxItems",	  "minLength",
					    "maxLength", "minProperties", "maxProperties"};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (strcmp(key, sizes[i]) == 0)
			return true;
	return false;
}

static void put_member(struct json_out *o, const struct json *schema, struct str key,
		       const struct json *v)
{
	char name[NAME_BYTES_MAX];

	if (!gemini_camel(key, name, sizeof name)) {
		json_put_value_s(o, key, v);
	} else if (strcmp(name, "nullable") == 0 || strcmp(name, "propertyOrdering") == 0) {
		return;
	} else if (strcmp(name, "type") == 0) {
		put_type(o, schema, v);
	} else if (strcmp(name, "enum") == 0) {
		put_enum(o, schema, v);
	} else if (strcmp(name, "anyOf") == 0) {
		put_any_of(o, schema, v);
	} else if (strcmp(name, "items") == 0) {
		put_schema(o, "items", v);
	} else if (strcmp(name, "properties") == 0) {
		put_properties(o, v);
	} else if (strcmp(name, "example") == 0) {
		json_arr(o, "examples");
		json_put_value(o, NULL, v);
		json_arr_end(o);
	} else if (is_size(name)) {
		put_size(o, name, v);
	} else {
		json_put_value(o, name, v);
	}
}

static void put_schema(struct json_out *o, const char *key, const struct json *schema)
{
	struct json_iter it = json_iter(schema);
	struct str name;
	struct json *v;

	if (json_type(schema) != JSON_OBJECT) {
		json_put_value(o, key, schema);
		return;
	}
	json_obj(o, key);
	while (json_next(&it, &name, &v))
		put_member(o, schema, name, v);
	json_obj_end(o);
}

enum rc gemini_schema(struct arena *mem, const struct json *schema, const struct json **ret)
{
	AUTO(buf) struct buf out = BUF_INIT(GEMINI_JSON_MAX);
	struct json *root;
	struct json_out o;

	if (!schema || json_type(schema) != JSON_OBJECT)
		return RC_INVALID;
	json_out_begin(&o, &out);
	put_schema(&o, NULL, schema);
	TRY(json_out_end(&o));
	/* two spellings of one member may have become one key twice: the first counts */
	TRY(json_parse(buf_str(&out), JSON_ALLOW_DUPLICATES, mem, &root, NULL));
	*ret = root;
	return RC_OK;
}
