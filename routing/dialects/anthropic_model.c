/* routing/dialects/anthropic_model.c - what models of the family take, and what of a request must be put in their form.
 *
 * An id is read for its version alone, because accounts name the same model in many ways; one without a version is taken
 * for the newest, which takes least. Never a list of models: theirs is the catalogue's business. */
#include "routing/dialects/anthropic_priv.h"

#define VERSION(major, minor) ((major)*100 + (minor))
#define VERSION_NEWEST	      VERSION(99, 0)
#define NAME_CHARS_MAX	      128 /* current models; contracts/anthropic.md 2.4 */
#define NAME_ESCAPED	      "tgx-" /* what a name of ours begins with; '-' and two hex digits is a byte */

static bool is_version_part(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	return s.len == 1 || s.len == 2; /* more is a date */
}

static int number_of(struct str s)
{
	int n = 0;

	for (size_t i = 0; i < s.len; i++)
		n = n * 10 + (s.ptr[i] - '0');
	return n;
}

static struct str next_part(struct str *rest)
{
	size_t end = 0;
	struct str part;

	while (end < rest->len && !strchr("-.:@_/", rest->ptr[end]))
		end++;
	part = str_slice(*rest, 0, end);
	*rest = str_slice(*rest, end + 1, rest->len);
	return part;
}

/* claude-3-7-sonnet-20250219, claude-opus-4.6, anthropic/claude-haiku-4-5: the first one or two short numbers. */
static int version_of(struct str id)
{
	const ptrdiff_t at = str_find_nocase(id, STR("claude"));
	int major = -1;

	if (at < 0)
		return VERSION_NEWEST;
	id = str_slice(id, (size_t)at, id.len);
	while (id.len > 0) {
		const struct str part = next_part(&id);

		if (is_version_part(part) && major < 0)
			major = number_of(part);
		else if (major >= 0)
			return VERSION(major, is_version_part(part) ? number_of(part) : 0);
	}
	return major < 0 ? VERSION_NEWEST : VERSION(major, 0);
}

/* Sources: contracts/anthropic.md 2.1 (sampling, thinking), 2.2 (prefill), translation.md 4 and 5 (structured outputs,
 * effort). Thinking came with 3.7, structured outputs with the 4.5 models. */
struct anthropic_model anthropic_model_of(struct str id)
{
	const int v = version_of(id);

	return (struct anthropic_model){
		.thinks = v >= VERSION(3, 7),
		.adaptive = v >= VERSION(4, 6),
		.sampling = v <= VERSION(4, 6),
		.one_of_two = v >= VERSION(4, 0),
		.structured = v >= VERSION(4, 5),
		.prefill = v < VERSION(4, 6),
	};
}

/* ---- schemas ---------------------------------------------------------------------------------------- */

enum below { BELOW_NOTHING, BELOW_SCHEMA, BELOW_LIST, BELOW_MAP };

/* What stands under a keyword of JSON Schema: a name among properties is no keyword. */
static enum below below(struct str key, const struct json *v)
{
	static const char *const one[] = {
		"items",	  "not", "if", "then", "else", "contains", "propertyNames",
		"additionalItems"};
	static const char *const lists[] = {"anyOf", "allOf", "oneOf", "prefixItems", "items"};
	static const char *const maps[] = {"properties", "$defs", "definitions",
					   "patternProperties", "dependentSchemas"};

	if (json_type(v) == JSON_ARRAY) {
		for (size_t i = 0; i < ARRAY_LEN(lists); i++)
			if (str_is(key, lists[i]))
				return BELOW_LIST;
		return BELOW_NOTHING;
	}
	if (json_type(v) != JSON_OBJECT)
		return BELOW_NOTHING;
	for (size_t i = 0; i < ARRAY_LEN(one); i++)
		if (str_is(key, one[i]))
			return BELOW_SCHEMA;
	for (size_t i = 0; i < ARRAY_LEN(maps); i++)
		if (str_is(key, maps[i]))
			return BELOW_MAP;
	return BELOW_NOTHING;
}

static bool is_object_schema(const struct json *v)
{
	const struct json *type = json_get(v, "type");
	struct json_iter it = json_iter(type);
	struct json *one;
	struct str s;

	if (json_string(type, &s))
		return str_is(s, "object");
	while (json_next(&it, NULL, &one))
		if (json_string(one, &s) && str_is(s, "object"))
			return true;
	return !type && json_get(v, "properties");
}

static void put_key(struct json_out *o, struct str key)
{
	/* json_obj() and json_arr() take a C string: a key from outside may hold anything */
	if (o->comma && o->rc == RC_OK)
		o->rc = buf_append_char(o->buf, ',');
	if (o->rc == RC_OK)
		o->rc = buf_append_char(o->buf, '"');
	if (o->rc == RC_OK)
		o->rc = json_escape(key, o->buf);
	if (o->rc == RC_OK)
		o->rc = buf_append(o->buf, STR("\":"));
	o->comma = false;
}

static void put_schema(struct json_out *o, const struct json *v);

static void put_below(struct json_out *o, enum below what, const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *one;
	struct str key;

	if (what == BELOW_SCHEMA) {
		put_schema(o, v);
		return;
	}
	if (what == BELOW_LIST)
		json_arr(o, NULL);
	else
		json_obj(o, NULL);
	while (json_next(&it, &key, &one)) {
		if (what == BELOW_MAP)
			put_key(o, key);
		put_schema(o, one);
	}
	if (what == BELOW_LIST)
		json_arr_end(o);
	else
		json_obj_end(o);
}

/* JSON's own depth bounds the recursion. */
static void put_schema(struct json_out *o, const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *one;
	struct str key;

	if (json_type(v) != JSON_OBJECT) { /* true and false are schemas, too */
		json_put_value(o, NULL, v);
		return;
	}
	json_obj(o, NULL);
	while (json_next(&it, &key, &one)) {
		const enum below what = below(key, one);

		if (what == BELOW_NOTHING) {
			json_put_value_s(o, key, one);
		} else {
			put_key(o, key);
			put_below(o, what, one);
		}
	}
	if (is_object_schema(v) && !json_get(v, "additionalProperties"))
		json_put_bool(o, "additionalProperties", false);
	json_obj_end(o);
}

void anthropic_put_schema(struct json_out *o, const char *key, const struct json *schema)
{
	put_key(o, str_from(key));
	put_schema(o, schema);
}

/* ---- names of tools ------------------------------------------------------------------------------------ */

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_';
}

bool anthropic_name_out(struct arena *mem, struct str name, struct str *ret)
{
	static const char hex[] = "0123456789ABCDEF";
	bool fits = !str_starts(name, STR(NAME_ESCAPED)) && !str_is(name, ANTHROPIC_JSON_TOOL);
	char text[NAME_CHARS_MAX];
	size_t n = sizeof NAME_ESCAPED - 1;

	if (name.len == 0 || name.len > NAME_CHARS_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++)
		fits &= is_word(name.ptr[i]) || name.ptr[i] == '-';
	*ret = name;
	if (fits)
		return true;
	memcpy(text, NAME_ESCAPED, n);
	for (size_t i = 0; i < name.len; i++) {
		const unsigned char c = (unsigned char)name.ptr[i];
		const bool plain = is_word((char)c);

		if (n + (plain ? 1 : 3) > sizeof text)
			return false;
		text[n++] = plain ? (char)c : '-';
		if (!plain) {
			text[n++] = hex[c >> 4];
			text[n++] = hex[c & 15];
		}
	}
	*ret = arena_str(mem, str_of(text, n));
	return true;
}

static int hex_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

struct str anthropic_name_in(struct arena *mem, struct str name)
{
	size_t n = 0;
	char *text;

	if (!str_starts(name, STR(NAME_ESCAPED)) || name.len > NAME_CHARS_MAX)
		return name;
	text = arena_alloc(mem, name.len);
	for (size_t i = sizeof NAME_ESCAPED - 1; i < name.len; i++) {
		if (name.ptr[i] != '-') {
			text[n++] = name.ptr[i];
			continue;
		}
		if (i + 2 >= name.len || hex_of(name.ptr[i + 1]) < 0 || hex_of(name.ptr[i + 2]) < 0)
			return name; /* the model made it up */
		text[n++] = (char)(hex_of(name.ptr[i + 1]) * 16 + hex_of(name.ptr[i + 2]));
		i += 2;
	}
	return str_is_utf8(str_of(text, n)) ? str_of(text, n) : name;
}
