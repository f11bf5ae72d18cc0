/* routing/dialects/field.c - the fields of field_priv.h. Must never guess: what has the wrong type is refused. */
#include "routing/dialects/field_priv.h"

enum rc field_bad(struct err *err, const char *field, const char *what)
{
	(void)err_set(err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(err, "%s", field);
	return RC_INVALID;
}

enum rc field_body(struct str body, struct arena *mem, struct json **ret, struct err *err)
{
	struct json *root;

	TRY(json_parse(body, JSON_NO_DUPLICATES, mem, &root, err));
	if (json_type(root) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_request_error",
			       "The body must be a JSON object.");
	*ret = root;
	return RC_OK;
}

enum rc field_model_ok(struct str model, struct err *err)
{
	if (model.len == 0 || model.len > FIELD_MODEL_BYTES_MAX)
		return field_bad(err, "model", "must have 1 to 256 characters");
	for (size_t i = 0; i < model.len; i++)
		if (model.ptr[i] <= ' ' || model.ptr[i] > '~')
			return field_bad(err, "model", "must be printable ASCII without spaces");
	return RC_OK;
}

enum rc field_model(const struct json *root, struct str *ret, struct err *err)
{
	const struct json *v = json_get(root, "model");
	struct str model;

	if (json_is_null(v))
		return field_bad(err, "model", "is required");
	if (!json_string(v, &model))
		return field_bad(err, "model", "must be a string");
	TRY(field_model_ok(model, err));
	*ret = model;
	return RC_OK;
}

enum rc field_int(const struct json *root, const char *field, int64_t max, int64_t *ret,
		  struct err *err)
{
	const struct json *v = json_get(root, field);
	int64_t n;

	if (json_is_null(v))
		return RC_OK;
	if (!json_int(v, &n) || n < 1 || n > max) {
		(void)field_bad(err, field, "must be a positive integer");
		err_hint(err, "An integer from 1 to %lld, without quotes or a fraction.",
			 (long long)max);
		return RC_INVALID;
	}
	*ret = n;
	return RC_OK;
}

enum rc field_string(const struct json *root, const char *field, struct str *ret, struct err *err)
{
	const struct json *v = json_get(root, field);

	if (json_is_null(v) || json_string(v, ret))
		return RC_OK;
	return field_bad(err, field, "must be a string");
}

enum rc field_quoted(struct str s, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(s.len * 6 + 3);
	void *copy;

	TRY(buf_append_char(&out, '"'));
	TRY(json_escape(s, &out));
	TRY(buf_append_char(&out, '"'));
	TRY(arena_try_alloc(mem, out.len, &copy));
	memcpy(copy, out.ptr, out.len);
	*ret = str_of(copy, out.len);
	return RC_OK;
}

int64_t field_code_points(struct str s)
{
	int64_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
	return n;
}
