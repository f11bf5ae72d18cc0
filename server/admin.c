/* server/admin.c - the shape every control-plane handler shares: body, fields, pages, answer.
 *
 * A handler that came here is routed and authorised already. Nothing in here decides about a tenant:
 * the batch it is given carries its org, and SQL has the last word. Once a batch runs, the answer
 * comes from its callback; the request outlives it, because the front waits for every answer. */
#include "server/admin.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "server/base/hash.h"

#define ADMIN_LIMIT_DEFAULT 50
#define ADMIN_LIMIT_MAX	    200
#define ADMIN_CURSOR_MAX    512 /* a list's key: an id, a name, "provider/model" */
#define ADMIN_META_MAX	    4096

/* --- bodies ------------------------------------------------------------------------------- */
static bool in_list(const char *list, struct str name)
{
	struct str rest = str_from(list);

	while (rest.ptr) {
		struct str one = str_cut(&rest, ' ');

		if (one.len && str_eq(one, name))
			return true;
	}
	return false;
}

static enum rc check_fields(const struct json *body, const char *fields, struct err *err)
{
	struct json_iter it = json_iter(body);
	struct json *value;
	struct str key;

	while (json_next(&it, &key, &value)) {
		if (in_list(fields, key))
			continue;
		err_set(err, RC_INVALID, "unknown_field", "unknown field \"%.*s\"", STR_FMT(key));
		err_field(err, "%.*s", STR_FMT(key));
		err_hint(err, "known fields: %s", fields);
		return RC_INVALID;
	}
	return RC_OK;
}

enum rc admin_body_parse(struct arena *mem, struct str text, const char *fields, struct json **ret,
			 struct err *err)
{
	struct json *body = NULL;

	TRY(json_parse(text, JSON_NO_DUPLICATES, mem, &body, err));
	if (json_type(body) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_body",
			       "the body must be a JSON object, not %s",
			       json_type_name(json_type(body)));
	TRY(check_fields(body, fields, err));
	*ret = body;
	return RC_OK;
}

struct json *admin_body(struct http_request *r, const char *fields)
{
	struct json *body = NULL;
	struct err err = {0};
	enum rc rc = admin_query_check(r->query, "", &err); /* what is asked stands in the body */

	r->query_known = true;
	if (rc == RC_OK)
		rc = admin_body_parse(r->mem, r->body, fields, &body, &err);
	if (rc == RC_OK)
		return body;
	http_reply_err(r, rc, &err);
	return NULL;
}

static enum rc bad_field(struct err *err, const char *field, const char *words)
{
	err_set(err, RC_INVALID, "invalid_field", "%s %s", field, words);
	err_field(err, "%s", field);
	return RC_INVALID;
}

static enum rc absent(const char *field, bool required, struct err *err)
{
	return required ? bad_field(err, field, "is required") : RC_OK;
}

enum rc admin_str(const struct json *body, const char *field, bool required, size_t len_max,
		  struct str *ret, struct err *err)
{
	const struct json *v = json_get(body, field);
	struct str s;

	if (json_is_null(v))
		return absent(field, required, err);
	if (!json_string(v, &s))
		return bad_field(err, field, "must be a string");
	if (required && s.len == 0)
		return bad_field(err, field, "must not be empty");
	if (s.len > len_max) {
		bad_field(err, field, "is too long");
		err_hint(err, "at most %zu bytes", len_max);
		return RC_INVALID;
	}
	/* "\u0000" is good JSON, but no text that could be stored. */
	if (s.len && memchr(s.ptr, 0, s.len))
		return bad_field(err, field, "must not have a NUL character");
	*ret = s;
	return RC_OK;
}

enum rc admin_int(const struct json *body, const char *field, bool required, int64_t min,
		  int64_t max, int64_t *ret, struct err *err)
{
	const struct json *v = json_get(body, field);
	int64_t n;

	if (json_is_null(v))
		return absent(field, required, err);
	if (!json_int(v, &n))
		return bad_field(err, field, "must be an integer");
	if (n < min || n > max) {
		bad_field(err, field, "is out of range");
		err_hint(err, "from %lld to %lld", (long long)min, (long long)max);
		return RC_INVALID;
	}
	*ret = n;
	return RC_OK;
}

enum rc admin_bool(const struct json *body, const char *field, bool required, bool *ret,
		   struct err *err)
{
	const struct json *v = json_get(body, field);
	bool b;

	if (json_is_null(v))
		return absent(field, required, err);
	if (!json_bool(v, &b))
		return bad_field(err, field, "must be true or false");
	*ret = b;
	return RC_OK;
}

/* --- pages -------------------------------------------------------------------------------- */
struct str admin_cursor(struct arena *mem, struct str key)
{
	char *out;

	if (!key.ptr || key.len == 0 || key.len > ADMIN_CURSOR_MAX)
		return STR_NULL;
	out = arena_alloc(mem, 2 * key.len + 2);
	out[0] = 'c';
	hex_encode(key, out + 1);
	return str_of(out, 2 * key.len + 1);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum rc admin_cursor_key(struct arena *mem, struct str cursor, struct str *ret)
{
	size_t n = cursor.len / 2;
	char *out;

	if (cursor.len % 2 != 1 || n == 0 || n > ADMIN_CURSOR_MAX || cursor.ptr[0] != 'c')
		return RC_INVALID;
	out = arena_alloc(mem, n + 1);
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(cursor.ptr[1 + 2 * i]), low = hex_digit(cursor.ptr[2 + 2 * i]);

		if (high < 0 || low < 0)
			return RC_INVALID;
		out[i] = (char)(high << 4 | low);
	}
	if (!str_is_utf8(str_of(out, n)) || memchr(out, 0, n))
		return RC_INVALID;
	*ret = str_of(out, n);
	return RC_OK;
}

enum rc admin_page_parse(struct arena *mem, struct str limit, struct str cursor,
			 struct admin_page *ret, struct err *err)
{
	struct admin_page page = {.limit = ADMIN_LIMIT_DEFAULT, .cursor = STR("")};

	if (limit.ptr && (str_to_i64(limit, &page.limit) != RC_OK || page.limit < 1 ||
			  page.limit > ADMIN_LIMIT_MAX)) {
		err_set(err, RC_INVALID, "invalid_parameter", "limit must be from 1 to %d",
			ADMIN_LIMIT_MAX);
		err_field(err, "limit");
		return RC_INVALID;
	}
	if (cursor.len && admin_cursor_key(mem, cursor, &page.cursor) != RC_OK) {
		err_set(err, RC_INVALID, "invalid_cursor", "cursor is not one of ours");
		err_hint(err, "pass meta.next_cursor of the page before, unchanged");
		err_field(err, "cursor");
		return RC_INVALID;
	}
	*ret = page;
	return RC_OK;
}

bool admin_page(struct http_request *r, struct admin_page *ret)
{
	struct err err = {0};
	enum rc rc = admin_page_parse(r->mem, http_query(r, "limit"), http_query(r, "cursor"), ret,
				      &err);

	if (rc == RC_OK)
		return true;
	http_reply_err(r, rc, &err);
	return false;
}

/* Does a parameter of this name stand in `query`? */
static bool in_query(struct str query, struct str name)
{
	while (query.ptr) {
		struct str pair = str_cut(&query, '&');

		if (str_eq(str_cut(&pair, '='), name))
			return true;
	}
	return false;
}

/* A parameter's name as the caller wrote it: known ones need no escapes, so none are decoded. One that came twice
 * says two things, of which a proxy may have judged the other. */
enum rc admin_query_check(struct str query, const char *allowed, struct err *err)
{
	struct str rest = query;

	while (rest.ptr) {
		struct str pair = str_cut(&rest, '&');
		struct str name = str_cut(&pair, '=');

		if (name.len == 0 && !pair.ptr)
			continue;
		if (in_list(allowed, name) && !in_query(rest, name))
			continue;
		if (in_list(allowed, name)) {
			err_set(err, RC_INVALID, "repeated_parameter",
				"the query parameter \"%.*s\" came twice", STR_FMT(name));
			err_field(err, "%.*s", STR_FMT(name));
			return RC_INVALID;
		}
		err_set(err, RC_INVALID, "unknown_parameter", "unknown query parameter \"%.*s\"",
			STR_FMT(name));
		err_field(err, "%.*s", STR_FMT(name));
		if (allowed[0])
			err_hint(err, "known parameters: %s", allowed);
		return RC_INVALID;
	}
	return RC_OK;
}

bool admin_query_only(struct http_request *r, const char *allowed)
{
	struct err err = {0};
	enum rc rc = admin_query_check(r->query, allowed, &err);

	r->query_known = true;
	if (rc == RC_OK)
		return true;
	http_reply_err(r, rc, &err);
	return false;
}

/* --- answers ------------------------------------------------------------------------------ */
enum rc admin_meta(struct arena *mem, struct str from_sql, struct buf *out)
{
	AUTO(buf) struct buf object = BUF_INIT(ADMIN_META_MAX);
	struct json *meta, *value;
	struct json_iter it;
	struct json_out o;
	struct str key, text;

	if (from_sql.len == 0)
		return buf_append(out, STR("\"next_cursor\":null"));
	if (from_sql.ptr[0] != '"') /* the plain key alone */
		return buf_printf(out, "\"next_cursor\":\"%.*s\"",
				  STR_FMT(admin_cursor(mem, from_sql)));
	TRY(buf_printf(&object, "{%.*s}", STR_FMT(from_sql)));
	TRY(json_parse(buf_str(&object), JSON_NO_DUPLICATES, mem, &meta, NULL));
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	for (it = json_iter(meta); json_next(&it, &key, &value);) {
		const char *name = arena_strdup(mem, key);

		if (str_is(key, "next_cursor") && json_string(value, &text))
			json_put_str(&o, name, admin_cursor(mem, text));
		else
			json_put_value(&o, name, value);
	}
	json_obj_end(&o);
	TRY(json_out_end(&o));
	/* The members alone: the envelope has the braces. */
	out->len--;
	out->ptr[out->len] = '\0';
	buf_consume(out, 1);
	return RC_OK;
}

/* A handler that has not looked at the query takes none; nothing was asked of the database yet. */
static bool query_settled(struct http_request *r, struct pg_batch *b)
{
	if (r->surface != SURFACE_ADMIN || r->query_known || admin_query_only(r, ""))
		return true;
	pg_batch_free(b);
	return false;
}

struct admin_call {
	struct http_request *request;
	admin_done *done;
	void *arg;
	int status_ok;
};

static void reply_not_found(struct http_request *r)
{
	struct err err = {0};

	err_set(&err, RC_NOT_FOUND, "not_found", "no such thing, or not yours");
	http_reply_err(r, RC_NOT_FOUND, &err);
}

static void reply_rows(struct http_request *r, const struct pg_result *res, int status)
{
	AUTO(buf) struct buf meta = BUF_INIT(ADMIN_META_MAX);
	const struct pg_rows *rows = res->rows[res->statements - 1];
	struct err err = {0};

	if (pg_row_count(rows) == 0 || pg_is_null(rows, 0, 0)) {
		reply_not_found(r);
		return;
	}
	if (pg_columns(rows) > 1 && admin_meta(r->mem, pg_str(rows, 0, 1), &meta) != RC_OK) {
		err_set(&err, RC_CORRUPT, "internal_error", "the list's page cannot be told");
		http_reply_err(r, RC_CORRUPT, &err);
		return;
	}
	http_reply_data(r, status, pg_str(rows, 0, 0), buf_str(&meta));
}

static void on_rows(void *arg, const struct pg_result *res)
{
	struct admin_call *c = arg;
	struct err err = {0};

	if (res->rc == RC_OK)
		reply_rows(c->request, res, c->status_ok);
	else
		http_reply_err(c->request, pg_result_err(res, &err), &err);
}

void admin_run(struct http_request *r, struct pg_batch *b, int status_ok)
{
	struct admin_call *c = ARENA_NEW(r->mem, struct admin_call);

	if (!query_settled(r, b))
		return;
	c->request = r;
	c->status_ok = status_ok;
	pg_submit(r->worker->pg, b, on_rows, c);
}

static void on_result(void *arg, const struct pg_result *res)
{
	struct admin_call *c = arg;

	c->done(c->request, res, c->arg);
}

void admin_run_cb(struct http_request *r, struct pg_batch *b, admin_done *done, void *arg)
{
	struct admin_call *c = ARENA_NEW(r->mem, struct admin_call);

	if (!query_settled(r, b))
		return;
	c->request = r;
	c->done = done;
	c->arg = arg;
	pg_submit(r->worker->pg, b, on_result, c);
}

void admin_list(struct http_request *r, const struct sql_query *q, bool of_org)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = pg_batch_new();
	if (of_org)
		pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, q);
	pg_param_int(b, page.limit);
	pg_param_str(b, page.cursor.ptr ? page.cursor : STR(""));
	admin_run(r, b, 200);
}

struct str admin_actor(struct http_request *r)
{
	assert(http_hooks.actor);
	return http_hooks.actor(r);
}

bool admin_refuse(struct http_request *r, const char *code, const char *field, const char *words,
		  const char *hint)
{
	struct err e = {0};
	enum rc rc = err_set(&e, RC_INVALID, code, "%s", words);

	err_hint(&e, "%s", hint);
	err_field(&e, "%s", field);
	http_reply_err(r, rc, &e);
	return false;
}
