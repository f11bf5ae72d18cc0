/* server/http/answer.c - what is written back: heads, whole bodies, errors, streams.
 *
 * Every byte of a head passes header_line(), which lets no control byte through: nothing a caller
 * or a provider says can end a header. An answer to a peer that has gone is taken and dropped. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include "server/base/json.h"
#include <assert.h>
#include <stdio.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>

#define ANSWER_HEADERS_BYTES_MAX 32768u /* ours and the provider's few; far above what is used */
#define ERROR_BODY_BYTES_MAX	 65536u

static struct request *own(struct http_request *r)
{
	return (struct request *)(void *)r;
}

/* --- headers ---------------------------------------------------------------------------------- */
static void header_line(struct buf *out, struct str name, struct str value)
{
	size_t before = out->len;

	if (out->bytes_max == 0)
		buf_init(out, ANSWER_HEADERS_BYTES_MAX);
	/* a header that does not fit is left out whole: half of one would be another header */
	if (buf_reserve(out, name.len + value.len + 4) != RC_OK || buf_append(out, name) != RC_OK ||
	    buf_append(out, STR(": ")) != RC_OK || buf_append(out, value) != RC_OK) {
		out->len = before;
		return;
	}
	for (size_t i = before; i < out->len; i++)
		if ((unsigned char)out->ptr[i] < 0x20 || (unsigned char)out->ptr[i] >= 0x7f)
			out->ptr[i] = '?';
	if (buf_append(out, STR("\r\n")) != RC_OK)
		out->len = before;
}

void http_add_header(struct http_request *r, const char *name, struct str value)
{
	assert(!own(r)->answered && !own(r)->streaming);
	header_line(&own(r)->headers, str_from(name), value);
}

static bool header_is_set(const struct request *q, const char *name)
{
	struct str rest = buf_str(&q->headers);

	while (rest.ptr && rest.len > 0) {
		struct str line = str_cut(&rest, '\n');

		if (str_eq_nocase(str_cut(&line, ':'), str_from(name)))
			return true;
	}
	return false;
}

/* The hook's lines are ours, but what they quote may not be: same rule, line by line. */
static void hook_headers(struct request *q, int status)
{
	struct buf extra = BUF_INIT(ANSWER_HEADERS_BYTES_MAX);
	struct str rest;

	if (!http_hooks.add_headers || !q->pub.endpoint || q->pub.surface != SURFACE_DATA)
		return;
	http_hooks.add_headers(&q->pub, status, &extra);
	rest = buf_str(&extra);
	while (rest.ptr && rest.len > 0) {
		struct str line = str_cut(&rest, '\n');
		struct str name = str_cut(&line, ':');

		if (line.ptr && name.len > 0)
			header_line(&q->headers, name,
				    str_trim(line.len && line.ptr[line.len - 1] == '\r'
						     ? str_slice(line, 0, line.len - 1)
						     : line));
	}
	buf_clear(&extra);
}

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} t[] = {{200, "OK"},
		 {201, "Created"},
		 {202, "Accepted"},
		 {204, "No Content"},
		 {304, "Not Modified"},
		 {400, "Bad Request"},
		 {401, "Unauthorized"},
		 {402, "Payment Required"},
		 {403, "Forbidden"},
		 {404, "Not Found"},
		 {405, "Method Not Allowed"},
		 {408, "Request Timeout"},
		 {409, "Conflict"},
		 {411, "Length Required"},
		 {413, "Content Too Large"},
		 {414, "URI Too Long"},
		 {415, "Unsupported Media Type"},
		 {417, "Expectation Failed"},
		 {422, "Unprocessable Content"},
		 {429, "Too Many Requests"},
		 {431, "Request Header Fields Too Large"},
		 {500, "Internal Server Error"},
		 {501, "Not Implemented"},
		 {502, "Bad Gateway"},
		 {503, "Service Unavailable"},
		 {504, "Gateway Timeout"},
		 {505, "HTTP Version Not Supported"},
		 {529, "Overloaded"}};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (t[i].status == status)
			return t[i].reason;
	return "Status";
}

static void put(struct evbuffer *out, struct str s)
{
	if (s.len > 0 && evbuffer_add(out, s.ptr, s.len) != 0)
		assert(false && "out of memory");
}

static void count_status(int status)
{
	if (status >= 100 && status < 600)
		counter_add(&http_counters.status[status / 100], 1);
}

/* Status line and headers; `length` < 0: none is told (a stream, or a status without body). */
static void write_head(struct request *q, int status, const char *type, int64_t length)
{
	struct http_conn *c = q->pub.conn;
	struct evbuffer *out = bufferevent_get_output(c->bev);

	hook_headers(q, status);
	q->status = status;
	count_status(status);
	header_line(&q->headers, STR("x-request-id"), str_from(q->pub.id_text));
	if (type && !header_is_set(q, "content-type"))
		header_line(&q->headers, STR("content-type"), str_from(type));
	if (q->pub.surface == SURFACE_ADMIN && !header_is_set(q, "cache-control"))
		header_line(&q->headers, STR("cache-control"), STR("no-store"));
	/* What a caller or a model wrote stands in bodies: no browser may take it for a page of ours. */
	header_line(&q->headers, STR("x-content-type-options"), STR("nosniff"));
	if (http_conn_will_close(c))
		header_line(&q->headers, STR("connection"), STR("close"));
	evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
	if (length >= 0)
		evbuffer_add_printf(out, "content-length: %lld\r\n", (long long)length);
	if (q->chunked)
		put(out, STR("transfer-encoding: chunked\r\n"));
	put(out, buf_str(&q->headers));
	put(out, STR("\r\n"));
}

/* --- whole answers ---------------------------------------------------------------------------- */
static bool begin_answer(struct request *q)
{
	assert(!q->answered && !q->streaming);
	q->answered = true;
	if (!q->gone)
		return true;
	http_conn_answered_gone(q->pub.conn);
	return false;
}

void http_reply_typed(struct http_request *r, int status, const char *content_type, struct str body)
{
	struct request *q = own(r);
	bool bodyless = status == 204 || status == 304;

	if (!q->gone) {
		assert(!q->answered && !q->streaming);
		write_head(q, status, bodyless ? NULL : content_type,
			   bodyless ? -1 : (int64_t)body.len);
	}
	if (!begin_answer(q))
		return;
	if (!q->head_only && !bodyless)
		put(bufferevent_get_output(r->conn->bev), body);
	http_conn_answered(r->conn);
}

void http_reply(struct http_request *r, int status, struct str body)
{
	http_reply_typed(r, status, "application/json", body);
}

void http_reply_data(struct http_request *r, int status, struct str data_json, struct str meta_json)
{
	struct buf b = BUF_INIT(data_json.len + meta_json.len + 256);
	struct str meta = str_trim(meta_json);

	/* `meta` comes as an object or as its members alone */
	if (meta.len >= 2 && meta.ptr[0] == '{' && meta.ptr[meta.len - 1] == '}')
		meta = str_trim(str_slice(meta, 1, meta.len - 1));
	if (buf_append(&b, STR("{\"data\":")) != RC_OK ||
	    buf_append(&b, data_json.len ? data_json : STR("null")) != RC_OK ||
	    buf_printf(&b, ",\"error\":null,\"meta\":{\"request_id\":\"%s\"%s", r->id_text,
		       meta.len ? "," : "") != RC_OK ||
	    buf_append(&b, meta) != RC_OK || buf_append(&b, STR("}}\n")) != RC_OK)
		assert(false && "the cap was made from the parts");
	http_reply(r, status, buf_str(&b));
	buf_clear(&b);
}

/* --- errors ------------------------------------------------------------------------------------- */
int http_status_of(enum rc rc, const struct err *err)
{
	static const struct {
		const char *code;
		int status;
	} by_code[] = {{"unauthenticated", 401},
		       {"invalid_api_key", 401},
		       {"connection_invalid", 422},
		       {"validation_failed", 422}};
	static const int by_rc[] = {
		[RC_OK] = 200,	      [RC_INVALID] = 400,     [RC_TOO_LARGE] = 413,
		[RC_LIMIT] = 429,     [RC_NOT_FOUND] = 404,   [RC_CONFLICT] = 409,
		[RC_DENIED] = 403,    [RC_UNAVAILABLE] = 503, [RC_TIMEOUT] = 504,
		[RC_CANCELLED] = 503, [RC_PROTOCOL] = 502,    [RC_NETWORK] = 502,
		[RC_CORRUPT] = 500,   [RC_UNSUPPORTED] = 501, [RC_IO] = 500};

	for (size_t i = 0; err && err->code && i < ARRAY_LEN(by_code); i++)
		if (strcmp(err->code, by_code[i].code) == 0)
			return by_code[i].status;
	return (size_t)rc < ARRAY_LEN(by_rc) ? by_rc[rc] : 500;
}

static void put_words(struct json_out *o, const struct err *err, enum rc rc)
{
	json_put_z(o, "code", err->code ? err->code : rc_name(rc));
	json_put_z(o, "message", err->message[0] ? err->message : "The request failed.");
}

static enum rc admin_error(struct request *q, enum rc rc, const struct err *err, struct buf *b)
{
	struct json_out o;

	json_out_begin(&o, b);
	json_obj(&o, NULL);
	json_put_null(&o, "data");
	json_obj(&o, "error");
	put_words(&o, err, rc);
	json_put_z(&o, "hint", err->hint);
	if (err->field[0])
		json_put_z(&o, "field", err->field);
	json_put_z(&o, "request_id", q->pub.id_text);
	json_obj_end(&o);
	json_obj(&o, "meta");
	json_put_z(&o, "request_id", q->pub.id_text);
	json_obj_end(&o);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* The shape most callers read, for when no module says better: malformed heads have no dialect. */
static enum rc plain_error(struct request *q, int status, enum rc rc, const struct err *err,
			   struct buf *b)
{
	struct json_out o;

	json_out_begin(&o, b);
	json_obj(&o, NULL);
	json_obj(&o, "error");
	json_put_z(&o, "message", err->message[0] ? err->message : "The request failed.");
	json_put_z(&o, "type", status < 500 ? "invalid_request_error" : "server_error");
	if (err->field[0])
		json_put_z(&o, "param", err->field);
	else
		json_put_null(&o, "param");
	json_put_z(&o, "code", err->code ? err->code : rc_name(rc));
	json_obj_end(&o);
	json_obj(&o, "tollgate");
	json_put_z(&o, "code", err->code ? err->code : rc_name(rc));
	json_put_z(&o, "reason", err->message);
	json_put_z(&o, "hint", err->hint);
	json_put_z(&o, "request_id", q->pub.id_text);
	json_obj_end(&o);
	json_obj_end(&o);
	return json_out_end(&o);
}

static int render(struct request *q, int status, enum rc rc, const struct err *err, struct buf *b)
{
	int from_hook;
	enum rc wrote;

	if (q->pub.surface == SURFACE_DATA && http_hooks.render_error && q->pub.path.len > 0) {
		from_hook = http_hooks.render_error(&q->pub, rc, err, b);
		if (b->len > 0)
			return status ? status : from_hook;
	}
	status = status ? status : http_status_of(rc, err);
	wrote = q->pub.surface == SURFACE_ADMIN ? admin_error(q, rc, err, b)
						: plain_error(q, status, rc, err, b);
	if (wrote != RC_OK)
		buf_reset(b);
	return status;
}

/* Clients repeat on what they see: say it on every error of the data plane. */
static void retry_headers(struct request *q, enum rc rc, const struct err *err)
{
	char seconds[16];
	bool again = err->retry_after_s > 0 || rc == RC_TIMEOUT || rc == RC_UNAVAILABLE;

	if (err->retry_after_s > 0 && !header_is_set(q, "retry-after")) {
		snprintf(seconds, sizeof seconds, "%d", err->retry_after_s);
		header_line(&q->headers, STR("retry-after"), str_from(seconds));
	}
	if (q->pub.surface == SURFACE_DATA && !header_is_set(q, "x-should-retry"))
		header_line(&q->headers, STR("x-should-retry"), again ? STR("true") : STR("false"));
}

/* The same error, told of a part of the body. */
static const struct err *err_within(struct str part, enum rc rc, const struct err *err,
				    struct err *ret)
{
	(void)err_set(ret, rc, err->code, "%.*s: %s", STR_FMT(part), err->message);
	err_hint(ret, "%s", err->hint);
	err_field(ret, "%.*s%s%s", STR_FMT(part), err->field[0] ? "." : "", err->field);
	err_detail(ret, "%s", err->detail);
	ret->retry_after_s = err->retry_after_s;
	return ret;
}

void http_reply_err_as(struct http_request *r, int status, enum rc rc, const struct err *err)
{
	static const struct err none;
	struct err in_part;
	struct buf b = BUF_INIT(ERROR_BODY_BYTES_MAX);

	if (own(r)->gone) {
		begin_answer(own(r));
		return;
	}
	err = err ? err : &none;
	if (r->within.len > 0)
		err = err_within(r->within, rc, err, &in_part);
	status = render(own(r), status, rc, err, &b);
	retry_headers(own(r), rc, err);
	if (status == 401 && !header_is_set(own(r), "www-authenticate"))
		header_line(&own(r)->headers, STR("www-authenticate"), STR("Bearer"));
	http_reply(r, status, buf_str(&b));
	buf_clear(&b);
}

void http_reply_err(struct http_request *r, enum rc rc, const struct err *err)
{
	http_reply_err_as(r, 0, rc, err);
}

void http_answer_fault(struct request *q, const struct http_fault *f)
{
	struct err err;
	enum rc rc = f->status == 413 ? RC_TOO_LARGE : f->status == 408 ? RC_TIMEOUT : RC_INVALID;

	if (f->status == 404)
		rc = RC_NOT_FOUND;
	if (f->status == 405 || f->status == 501 || f->status == 505)
		rc = RC_UNSUPPORTED;
	if (f->status == 405 &&
	    !header_is_set(q, "allow")) /* refused before its path was looked at */
		http_add_header(&q->pub, "allow", STR(HTTP_METHODS));
	err_set(&err, rc, f->code, "%s", f->message);
	http_reply_err_as(&q->pub, f->status, rc, &err);
}

/* --- streams ------------------------------------------------------------------------------------- */
void http_stream_begin_typed(struct http_request *r, const char *content_type)
{
	struct request *q = own(r);
	struct http_conn *c = r->conn;

	assert(!q->answered && !q->streaming);
	q->streaming = true;
	if (q->gone)
		return;
	q->chunked = !q->http10;
	if (q->http10)
		c->close = true;
	if (!header_is_set(q, "cache-control"))
		header_line(&q->headers, STR("cache-control"), STR("no-cache"));
	if (!header_is_set(q, "x-accel-buffering"))
		header_line(&q->headers, STR("x-accel-buffering"), STR("no"));
	write_head(q, 200, content_type, -1);
	c->state = CONN_STREAM;
	http_conn_flush(c);
}

void http_stream_begin(struct http_request *r)
{
	http_stream_begin_typed(r, "text/event-stream");
}

bool http_stream_write(struct http_request *r, struct str bytes)
{
	struct request *q = own(r);
	struct http_conn *c = r->conn;
	struct evbuffer *out;

	assert(q->streaming && !q->answered);
	if (q->gone || c->dying)
		return true;
	if (bytes.len == 0 || q->head_only)
		return !c->over_high;
	out = bufferevent_get_output(c->bev);
	if (q->chunked)
		evbuffer_add_printf(out, "%zx\r\n", bytes.len);
	put(out, bytes);
	if (q->chunked)
		put(out, STR("\r\n"));
	http_conn_flush(c);
	if (evbuffer_get_length(out) > c->front->limits.stream_high_bytes)
		c->over_high = true;
	return !c->over_high;
}

void http_stream_end(struct http_request *r)
{
	struct request *q = own(r);

	assert(q->streaming && !q->answered);
	q->answered = true;
	if (q->gone) {
		http_conn_answered_gone(r->conn);
		return;
	}
	if (q->chunked && !q->head_only && !r->conn->dying)
		put(bufferevent_get_output(r->conn->bev), STR("0\r\n\r\n"));
	http_conn_answered(r->conn);
}

void http_stream_abort(struct http_request *r)
{
	struct request *q = own(r);

	assert(q->streaming && !q->answered);
	q->answered = true;
	if (q->gone) {
		http_conn_answered_gone(r->conn);
		return;
	}
	r->conn->close = true;
	/* without chunks an orderly close would look like the end: a reset cannot */
	r->conn->reset = !q->chunked;
	http_conn_answered(r->conn);
}

void http_on_drain(struct http_request *r, void (*fn)(void *arg), void *arg)
{
	own(r)->on_drain = fn;
	own(r)->drain_arg = arg;
}

void http_on_gone(struct http_request *r, void (*fn)(void *arg), void *arg)
{
	own(r)->on_gone = fn;
	own(r)->gone_arg = arg;
}

bool http_is_gone(const struct http_request *r)
{
	return ((const struct request *)(const void *)r)->gone;
}
