/* server/admin.h - the shape that every control-plane handler shares.
 *
 * Most admin endpoints are: read a body with known fields, run one SQL function in the org's own
 * transaction, answer with the jsonb it returns. SQL refuses with SQLSTATE TG4xx (pg.h). */
#ifndef SERVER_ADMIN_H
#define SERVER_ADMIN_H
#include "server/base/json.h"
#include "server/http/http.h"
#include "server/pg.h"

/* Parse r->body as one JSON object without duplicate keys, whose members are all in `fields`
 * (space-separated list). Query parameters are refused. On failure answers the request and returns NULL. */
struct json *admin_body(struct http_request *r, const char *fields);
/* Typed readers: absent or null gives RC_OK with *ret untouched unless `required`. On RC_INVALID `err` names
 * the field; answer with http_reply_err(). */
MUST_CHECK enum rc admin_str(const struct json *body, const char *field, bool required,
			     size_t len_max, struct str *ret, struct err *err);
MUST_CHECK enum rc admin_int(const struct json *body, const char *field, bool required, int64_t min,
			     int64_t max, int64_t *ret, struct err *err);
MUST_CHECK enum rc admin_bool(const struct json *body, const char *field, bool required, bool *ret,
			      struct err *err);

/* Submit `b` (taken) and answer with row 0, column 0 of its last statement as `data` (jsonb text), row 0
 * column 1, if there is one, as further members of `meta`: '"next_cursor":"key"', or the key alone,
 * or NULL where the list ends. A handler that did not call admin_query_only() or admin_body() takes no query
 * parameters: here they are refused, before anything is asked. SQL names the plain key of the last row; here it becomes the opaque
 * cursor. No row: 404. */
void admin_run(struct http_request *r, struct pg_batch *b, int status_ok);
/* The same, with a say in the answer: `done` may rewrite; it must answer. */
typedef void admin_done(struct http_request *r, const struct pg_result *res, void *arg);
void admin_run_cb(struct http_request *r, struct pg_batch *b, admin_done *done, void *arg);

/* List parameters: limit (1..200, default 50) and cursor (opaque, checked). On failure answers and returns false. */
struct admin_page {
	int64_t limit;
	struct str cursor; /* decoded; empty: from the newest */
};
bool admin_page(struct http_request *r, struct admin_page *ret);
/* For a handler that answers a list by itself: the cursor behind which `key` is; ptr NULL for none. */
struct str admin_cursor(struct arena *mem, struct str key);
/* Refuse query parameters that are unknown or come twice; `allowed` is a space-separated list. Answers and
 * returns false. */
bool admin_query_only(struct http_request *r, const char *allowed);

/* --- the pure parts of the above, for their tests ---------------------------------------------- */
MUST_CHECK enum rc admin_cursor_key(struct arena *mem, struct str cursor, struct str *ret);
MUST_CHECK enum rc admin_page_parse(struct arena *mem, struct str limit, struct str cursor,
				    struct admin_page *ret, struct err *err);
MUST_CHECK enum rc admin_query_check(struct str query, const char *allowed, struct err *err);
MUST_CHECK enum rc admin_body_parse(struct arena *mem, struct str text, const char *fields,
				    struct json **ret, struct err *err);
/* Column 1 of a list to members of "meta", the cursor made opaque. */
MUST_CHECK enum rc admin_meta(struct arena *mem, struct str from_sql, struct buf *out);

/* A list that is one statement over ($1 limit, $2 cursor text): checks the query parameters, runs it, in the
 * transaction of the org that the path's first parameter names if `of_org`, and answers. */
void admin_list(struct http_request *r, const struct sql_query *q, bool of_org);
/* Who calls, as jsonb: what a writing SQL function hands to audit_append(). Lives as long as the request. */
struct str admin_actor(struct http_request *r);
/* Answer 400 with these words. Returns false, so that a reader of fields can end with it. */
bool admin_refuse(struct http_request *r, const char *code, const char *field, const char *words,
		  const char *hint);

#endif
