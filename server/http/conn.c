/* server/http/conn.c - the life of a connection, from accept to close.
 *
 *   TLS -> HEAD -> AUTH -> BODY -> HANDLE [-> STREAM] -> FLUSH -+-> HEAD (kept alive)
 *            ^                                                  +-> LINGER -> closed
 *            +--------------------------------------------------+
 *   any of them -> GONE when the peer leaves or a deadline cuts it; GONE waits for the handler.
 *
 * One request at a time. While it is handled at most one read's worth of what comes behind it is
 * taken from the kernel, then reading stops (`paused`); a slow tick asks the socket whether the
 * peer is still there. One timer per connection serves every deadline: it is set for the earliest
 * and, when it fires early because a deadline moved, set again; so a request costs no timer call.
 *
 * An object is never freed inside its own callbacks: conn_die() closes the socket at once and
 * defers the rest. Nothing here may look at what a body means. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server/base/clock.h"

#define WATCH_MS	     500 /* a reset peer is noticed within this while not read */
#define ARENA_BYTES_MIN	     (64u * 1024 * 1024) /* a request's own memory, beside its body */
#define ARENA_PER_BODY	     16u		 /* a parsed body is a few times its text */
#define BODY_PIECE_BYTES     65536u
#define BODY_PIECES_PER_TURN 8			/* then the other connections get their turn */
#define LINGER_BYTES	     (4u * 1024 * 1024) /* of a refused body are read before we hang up */

struct http_hooks http_hooks;
struct http_counters http_counters;

static void conn_arm(struct http_conn *c);
static void conn_input(struct http_conn *c);
static void conn_refuse(struct http_conn *c, const struct http_fault *f);

#define FAULT(name, st, cd, msg)                                                                   \
	static const struct http_fault name = {.status = (st), .code = (cd), .message = (msg)}
FAULT(head_timeout, 408, "request_timeout", "The request head took too long.");
FAULT(body_timeout, 408, "request_timeout", "The request body took too long.");
FAULT(no_route, 404, "not_found", "There is nothing at this path.");
FAULT(no_method, 405, "method_not_allowed", "This path does not take this method.");
FAULT(no_length, 411, "length_required", "This path needs a body with Content-Length or chunks.");
FAULT(encoded, 415, "unsupported_encoding", "Request bodies may not be compressed.");
FAULT(too_large, 413, "request_too_large", "The request body is larger than this path takes.");

/* --- timers -------------------------------------------------------------------------------------- */
static bool is_busy(const struct http_conn *c)
{
	return c->state == CONN_AUTH || c->state == CONN_HANDLE || c->state == CONN_STREAM ||
	       c->state == CONN_FLUSH;
}

static size_t output_len(const struct http_conn *c)
{
	return c->bev ? evbuffer_get_length(bufferevent_get_output(c->bev)) : 0;
}

static void conn_set_state(struct http_conn *c, enum conn_state s, int64_t timeout_ms)
{
	c->state = s;
	c->since_ms = clock_mono_ms();
	c->deadline_ms = timeout_ms > 0 ? c->since_ms + timeout_ms : 0;
	conn_arm(c);
}

/* A body may take its time by its size: what is announced, or what came so far. */
static int64_t body_deadline(const struct http_conn *c)
{
	const struct http_limits *l = &c->front->limits;
	uint64_t bytes = c->parser.chunked ? c->body_received : c->parser.content_length;

	return c->since_ms + l->body_timeout_ms +
	       (int64_t)(bytes / (uint64_t)l->body_bytes_per_second_min) * 1000;
}

static int64_t earliest(int64_t a, int64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t next_ms(const struct http_conn *c)
{
	int64_t at = c->state == CONN_BODY ? body_deadline(c) : c->deadline_ms;

	if (output_len(c) > 0)
		at = earliest(at, c->progress_ms + c->front->limits.write_stall_ms);
	if (is_busy(c) && (c->paused || c->half_closed))
		at = earliest(at, clock_mono_ms() + WATCH_MS);
	return at;
}

static bool peer_is_reset(const struct http_conn *c)
{
	struct pollfd p = {.fd = c->fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP));
}

static void conn_free_cb(void *arg)
{
	http_conn_free(arg);
}

/* The socket goes now. What a handler still holds goes when it has answered. */
static void conn_die(struct http_conn *c)
{
	struct request *q = c->req;
	bool handler_has_it = is_busy(c) && q && !q->answered;

	if (c->state == CONN_GONE)
		return;
	c->state = CONN_GONE;
	c->deadline_ms = 0;
	loop_timer_clear(&c->timer);
	if (c->reset || c->dying) {
		struct linger l = {.l_onoff = 1, .l_linger = 0};

		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	}
	bufferevent_free(c->bev);
	c->bev = NULL;
	if (!handler_has_it) {
		loop_defer(c->front->loop, conn_free_cb, c);
		return;
	}
	counter_add(&http_counters.gone, 1);
	q->gone = true;
	if (q->on_gone)
		q->on_gone(q->gone_arg);
}

static void conn_die_cb(void *arg)
{
	conn_die(arg);
}

static void conn_timeout(struct http_conn *c)
{
	counter_add(&http_counters.timeouts, 1);
	if (c->state == CONN_HEAD && http_parser_begun(&c->parser))
		conn_refuse(c, &head_timeout);
	else if (c->state == CONN_BODY)
		conn_refuse(c, &body_timeout);
	else
		conn_die(c); /* nothing was asked, or nobody listens */
}

static void conn_on_timer(void *arg)
{
	struct http_conn *c = arg;
	int64_t now = clock_mono_ms();
	int64_t deadline = c->state == CONN_BODY ? body_deadline(c) : c->deadline_ms;

	c->armed_ms = 0;
	if (output_len(c) > 0 && now >= c->progress_ms + c->front->limits.write_stall_ms) {
		counter_add(&http_counters.timeouts, 1);
		c->reset = true; /* what is queued will never be read */
		conn_die(c);
		return;
	}
	if (deadline && now >= deadline) {
		conn_timeout(c);
		return;
	}
	if (is_busy(c) && (c->paused || c->half_closed) && peer_is_reset(c)) {
		conn_die(c);
		return;
	}
	conn_arm(c);
}

static void conn_arm(struct http_conn *c)
{
	int64_t at = c->state == CONN_GONE ? 0 : next_ms(c);
	int64_t now;

	if (at == 0 || (c->armed_ms && c->armed_ms <= at))
		return;
	now = clock_mono_ms();
	c->armed_ms = at;
	loop_timer_set(c->front->loop, &c->timer, at > now ? at - now : 0, conn_on_timer, c);
}

/* --- requests -------------------------------------------------------------------------------------- */
static struct request *request_new(struct http_conn *c)
{
	size_t cap = c->surface == SURFACE_ADMIN ? c->front->limits.admin_body_bytes_max
						 : c->front->limits.body_bytes_max;
	struct arena *mem = arena_new(ARENA_BYTES_MIN + ARENA_PER_BODY * cap);
	struct request *q = ARENA_NEW(mem, struct request);
	char uuid[UUID_TEXT_SIZE];

	q->pub.worker = c->front->worker;
	q->pub.conn = c;
	q->pub.mem = mem;
	q->pub.surface = c->surface;
	q->pub.id = uuid_v7();
	q->pub.accepted_us = clock_mono_us();
	uuid_format(q->pub.id, uuid);
	snprintf(q->pub.id_text, sizeof q->pub.id_text, "req_%s", uuid);
	snprintf(q->pub.peer, sizeof q->pub.peer, "%s", c->peer);
	q->pub.method = q->pub.target = q->pub.path = q->pub.query = STR("");
	q->pub.body = STR("");
	q->log.request_id = q->pub.id_text;
	c->req = q;
	c->requests++;
	c->front->open++;
	counter_add(&http_counters.requests, 1);
	return q;
}

static void request_free(struct http_conn *c)
{
	struct request *q = c->req;

	if (!q)
		return;
	c->req = NULL;
	c->front->open--;
	buf_clear(&q->body);
	buf_clear(&q->headers);
	arena_free(q->pub.mem);
}

static struct str in_head(struct str head, struct http_span s)
{
	return s.len ? str_of(head.ptr + s.from, s.len) : STR("");
}

/* Copy what the parser found into the request, which outlives the parser's buffer. */
static void request_read_head(struct request *q, const struct http_parser *p)
{
	struct http_request *r = &q->pub;
	struct str head = arena_str(r->mem, http_parser_head_bytes(p));
	struct http_header *h = ARENA_ARRAY(r->mem, struct http_header, p->fields_count + 1);

	r->method = in_head(head, p->method);
	r->target = in_head(head, p->target);
	r->path = in_head(head, p->path);
	r->query = in_head(head, p->query);
	if (r->path.len == 0)
		r->path = p->asterisk ? STR("*") : STR("/");
	for (size_t i = 0; i < p->fields_count; i++) {
		h[i].name = in_head(head, p->fields[i].name);
		h[i].value = in_head(head, p->fields[i].value);
	}
	r->headers = h;
	r->headers_count = p->fields_count;
	if (r->surface == SURFACE_DATA)
		r->path = http_alias(r->path);
	q->head_only = str_is(r->method, "HEAD");
	q->http10 = p->http10;
}

/* Answer and hang up: whatever else the peer sends now cannot be told from a request. */
static void conn_refuse(struct http_conn *c, const struct http_fault *f)
{
	counter_add(&http_counters.faults, 1);
	log_debug("request refused", LOG_STR("code", f->code), LOG_INT("status", f->status),
		  LOG_STR("peer", c->peer));
	if (!c->req)
		request_new(c);
	c->close = true;
	conn_set_state(c, CONN_HANDLE, 0);
	http_answer_fault(c->req, f);
}

static bool body_is_pending(const struct http_conn *c)
{
	return http_parser_has_body(&c->parser) && c->state != CONN_HANDLE &&
	       !(c->req && c->req->body_read);
}

/* An error before the handler: the body, if there is one, was not read, so the connection ends. */
static void request_fault(struct http_conn *c, const struct http_fault *f)
{
	if (body_is_pending(c) || f == &no_length)
		c->close = true;
	conn_set_state(c, CONN_HANDLE, 0);
	http_answer_fault(c->req, f);
}

static void request_error(struct http_conn *c, int status, enum rc rc, const struct err *err)
{
	if (body_is_pending(c))
		c->close = true;
	conn_set_state(c, CONN_HANDLE, 0);
	http_reply_err_as(&c->req->pub, status, rc, err);
}

/* --- the order of a request: route, who, may, size, body, handler ------------------------------------ */
static void request_handle(struct http_conn *c)
{
	struct request *q = c->req;
	const struct log_context *before = log_context_set(&q->log);

	q->pub.body = q->body.len ? buf_str(&q->body) : STR("");
	conn_set_state(c, CONN_HANDLE, 0);
	q->pub.endpoint->handle(&q->pub);
	log_context_set(before);
}

static void conn_unpause(struct http_conn *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	if (!c->half_closed)
		bufferevent_enable(c->bev, EV_READ);
}

static void request_begin_body(struct http_conn *c)
{
	struct request *q = c->req;
	struct evbuffer *in = bufferevent_get_input(c->bev);
	size_t cap = http_body_cap(c->front, q->pub.endpoint, c->surface);
	uint64_t length = c->parser.content_length;
	struct str encoding = http_header(&q->pub, "content-encoding");

	if (encoding.ptr && !str_eq_nocase(encoding, STR("identity"))) {
		request_fault(c, &encoded);
		return;
	}
	if (length > cap) {
		request_fault(c, &too_large);
		return;
	}
	if (q->pub.endpoint->body_required && !c->parser.has_length && !c->parser.chunked) {
		request_fault(c, &no_length);
		return;
	}
	if (!http_parser_has_body(&c->parser)) {
		request_handle(c);
		return;
	}
	http_parser_body_max(&c->parser, cap);
	buf_init(&q->body, cap + 1);
	if (length > 0 && buf_reserve(&q->body, (size_t)length) != RC_OK)
		assert(false && "the length was held against the cap");
	c->body_received = 0;
	conn_set_state(c, CONN_BODY, 0);
	conn_unpause(c); /* the body may have come while we asked whose it is */
	if (c->parser.expect_continue && evbuffer_get_length(in) == 0) {
		evbuffer_add(bufferevent_get_output(c->bev), "HTTP/1.1 100 Continue\r\n\r\n", 25);
		http_conn_flush(c);
	}
}

static void request_authenticated(struct http_conn *c)
{
	struct request *q = c->req;
	const struct endpoint *e = q->pub.endpoint;
	struct err err = {.code = NULL};
	enum rc rc;

	if (q->auth_rc != RC_OK) {
		request_error(c, q->auth_rc == RC_DENIED ? 401 : 0, q->auth_rc, &q->auth_err);
		return;
	}
	/* Before the roles: what is another's does not exist, also for who might not see it at home. */
	if (e->roles != ROLES_ANYONE && http_hooks.authorise) {
		rc = http_hooks.authorise(&q->pub, &err);
		if (rc != RC_OK) {
			request_error(c, 0, rc, &err);
			return;
		}
	}
	if (e->roles != ROLES_ANYONE && !(q->pub.roles & e->roles)) {
		err_set(&err, RC_DENIED, "permission_denied", "This key may not do this.");
		request_error(c, 403, RC_DENIED, &err);
		return;
	}
	if (q->body_read)
		request_handle(c);
	else
		request_begin_body(c);
}

static void on_auth(void *arg, enum rc rc, const struct err *err)
{
	struct request *q = arg;
	struct http_conn *c = q->pub.conn;

	assert(!q->auth_done);
	q->auth_done = true;
	q->auth_rc = rc;
	if (err)
		q->auth_err = *err;
	if (q->in_auth)
		return; /* request_authenticate() goes on when the hook has returned */
	if (q->gone) {
		http_conn_answered_gone(c);
		return;
	}
	request_authenticated(c);
	conn_input(c);
}

static void request_authenticate(struct http_conn *c)
{
	struct request *q = c->req;
	const struct log_context *before;

	conn_set_state(c, CONN_AUTH, 0);
	if (q->pub.endpoint->roles == ROLES_ANYONE) {
		request_authenticated(c);
		return;
	}
	if (!http_hooks.authenticate) { /* nobody can tell who this is: nobody may */
		q->auth_rc = err_set(&q->auth_err, RC_DENIED, "unauthenticated", "Who are you?");
		request_authenticated(c);
		return;
	}
	before = log_context_set(&q->log);
	q->in_auth = true;
	http_hooks.authenticate(&q->pub, on_auth, q);
	q->in_auth = false;
	log_context_set(before);
	if (q->auth_done)
		request_authenticated(c);
}

/* The head said who calls. A body may come as slowly as its bytes a second allow: whoever was revoked meanwhile
 * does nothing any more. */
static void request_body_read(struct http_conn *c)
{
	struct request *q = c->req;

	q->body_read = true;
	if (q->pub.endpoint->roles == ROLES_ANYONE || !http_hooks.is_stale ||
	    !http_hooks.is_stale(&q->pub)) {
		request_handle(c);
		return;
	}
	q->auth_done = false;
	request_authenticate(c);
}

/* OPTIONS says which methods a path has, to anyone, and does nothing else. */
static void request_not_routed(struct http_conn *c, struct str allowed)
{
	struct request *q = c->req;
	bool options = str_is(q->pub.method, "OPTIONS");

	if (c->parser.asterisk)
		allowed = STR(HTTP_METHODS);
	if (allowed.len == 0) {
		request_fault(c, &no_route);
		return;
	}
	http_add_header(&q->pub, "allow", allowed);
	if (!options) {
		request_fault(c, &no_method);
		return;
	}
	if (body_is_pending(c))
		c->close = true;
	conn_set_state(c, CONN_HANDLE, 0);
	http_reply(&q->pub, 204, STR(""));
}

static void request_begin(struct http_conn *c)
{
	struct request *q = request_new(c);
	struct http_request *r = &q->pub;
	struct str params[HTTP_PATH_PARAMS_MAX] = {STR_NULL};
	struct buf allowed = BUF_INIT(256);

	request_read_head(q, &c->parser);
	r->endpoint =
		http_route(c->front->tables, c->surface, r->method, r->path, params, &allowed);
	if (r->endpoint) {
		for (size_t i = 0; i < HTTP_PATH_PARAMS_MAX; i++)
			if (params[i].ptr)
				r->params[i] = http_percent_decode(r->mem, params[i], false);
		request_authenticate(c);
	} else {
		request_not_routed(c, allowed.len ? buf_str(&allowed) : STR(""));
	}
	buf_clear(&allowed);
}

/* --- input ------------------------------------------------------------------------------------------ */
static struct str input_peek(struct evbuffer *in)
{
	struct evbuffer_iovec v;

	if (evbuffer_get_length(in) == 0 || evbuffer_peek(in, -1, NULL, &v, 1) < 1)
		return STR_NULL;
	return str_of(v.iov_base, v.iov_len);
}

/* These return true when there may be more to do in another state. */
static bool input_head(struct http_conn *c, struct evbuffer *in)
{
	bool idle = !http_parser_begun(&c->parser);
	struct str bytes = input_peek(in);
	size_t used = 0;
	enum http_parse got;

	if (bytes.len == 0)
		return false;
	got = http_parser_head(&c->parser, bytes, &used);
	evbuffer_drain(in, used);
	switch (got) {
	case HTTP_PARSE_MORE:
		if (idle && c->requests > 0)
			conn_set_state(c, CONN_HEAD, c->front->limits.head_timeout_ms);
		return true;
	case HTTP_PARSE_DONE:
		request_begin(c);
		return true;
	case HTTP_PARSE_BAD:
		/* a method that nobody takes is well-formed: a client's mistake, no attack on the parser */
		if (c->parser.fault->status != 405)
			http_ip_bad_head(c->ip_slot, clock_mono_ms());
		conn_refuse(c, c->parser.fault);
		return true;
	default:
		conn_die(c);
		return false;
	}
}

static enum rc body_sink(void *arg, struct str bytes)
{
	struct http_conn *c = arg;

	c->body_received += bytes.len;
	return buf_append(&c->req->body, bytes);
}

static void body_parsed(struct http_conn *c, enum http_parse got)
{
	if (got == HTTP_PARSE_DONE)
		request_body_read(c);
	else if (got == HTTP_PARSE_BAD)
		conn_refuse(c, c->parser.fault);
}

/* libevent reads 4 KiB at a time. A large body of known length is read in larger pieces, never past
 * its end, and a bounded number of them per event. A close or an error is left to libevent to find,
 * but for a reset, which the kernel tells only once. */
static void body_read_direct(struct http_conn *c)
{
	char piece[BODY_PIECE_BYTES];

	for (int i = 0; i < BODY_PIECES_PER_TURN && c->state == CONN_BODY; i++) {
		uint64_t left = c->parser.content_length - c->body_received;
		size_t want = left < sizeof piece ? (size_t)left : sizeof piece, used;
		ssize_t n = recv(c->fd, piece, want, MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			conn_die(c);
		if (n <= 0)
			return;
		body_parsed(c, http_parser_body(&c->parser, str_of(piece, (size_t)n), &used,
						body_sink, c));
	}
}

static bool input_body(struct http_conn *c, struct evbuffer *in)
{
	struct str bytes = input_peek(in);
	size_t used = 0;
	enum http_parse got;

	if (bytes.len == 0) {
		if (!c->tls && !c->parser.chunked && !c->half_closed)
			body_read_direct(c);
		return false;
	}
	got = http_parser_body(&c->parser, bytes, &used, body_sink, c);
	evbuffer_drain(in, used);
	body_parsed(c, got);
	return true;
}

static void input_linger(struct http_conn *c, struct evbuffer *in)
{
	c->body_received += evbuffer_get_length(in);
	evbuffer_drain(in, evbuffer_get_length(in));
	if (c->half_closed || c->body_received > LINGER_BYTES)
		conn_die(c);
}

static void conn_input(struct http_conn *c)
{
	bool more = true;

	while (more && c->bev) {
		struct evbuffer *in = bufferevent_get_input(c->bev);

		if (c->state == CONN_HEAD)
			more = input_head(c, in);
		else if (c->state == CONN_BODY)
			more = input_body(c, in);
		else
			more = false;
		if (c->state == CONN_LINGER)
			input_linger(c, in);
	}
	/* half a request, and no more will come */
	if (c->bev && c->half_closed && (c->state == CONN_HEAD || c->state == CONN_BODY))
		conn_die(c);
}

/* --- output ------------------------------------------------------------------------------------------ */
bool http_conn_will_close(struct http_conn *c)
{
	if (!c->parser.keep_alive || c->front->draining ||
	    c->requests >= c->front->limits.requests_per_connection_max ||
	    clock_mono_ms() - c->born_ms >= c->front->limits.lifetime_ms)
		c->close = true;
	return c->close;
}

static void conn_linger(struct http_conn *c)
{
	if (c->half_closed || c->reset) {
		conn_die(c);
		return;
	}
	c->body_received = 0;
	if (c->tls)
		SSL_shutdown(bufferevent_openssl_get_ssl(c->bev));
	shutdown(c->fd, SHUT_WR);
	conn_set_state(c, CONN_LINGER, c->front->limits.linger_ms);
	bufferevent_enable(c->bev, EV_READ);
	conn_input(c);
}

/* Deferred behind the answer, so that a handler may look at its request until it returns. */
static void conn_next(void *arg)
{
	struct http_conn *c = arg;

	if (c->state != CONN_FLUSH)
		return;
	request_free(c);
	if (c->close || c->front->draining) {
		conn_linger(c);
		return;
	}
	http_parser_next(&c->parser);
	conn_set_state(c, CONN_HEAD, c->front->limits.idle_timeout_ms);
	conn_unpause(c);
	conn_input(c);
}

static void conn_wrote(struct http_conn *c)
{
	size_t left = output_len(c);

	if (c->state == CONN_FLUSH && left == 0) {
		loop_defer_cancel(c->front->loop, conn_next, c);
		loop_defer(c->front->loop, conn_next, c);
	} else if (c->state == CONN_STREAM && c->over_high &&
		   left <= c->front->limits.stream_low_bytes) {
		c->over_high = false;
		if (c->req->on_drain)
			c->req->on_drain(c->req->drain_arg);
	}
}

/* A plain socket mostly takes an answer at once: writing here saves asking epoll to say so. Only
 * what is left waits for the socket (EV_WRITE), and as long as it waits, libevent writes. */
void http_conn_flush(struct http_conn *c)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	conn_arm(c);
	if (c->dying || c->tls || (bufferevent_get_enabled(c->bev) & EV_WRITE))
		return;
	evbuffer_unfreeze(out, 1);
	if (evbuffer_get_length(out) > 0 && evbuffer_write(out, c->fd) < 0 && errno != EAGAIN &&
	    errno != EINTR) {
		c->dying = true;
		loop_defer(c->front->loop, conn_die_cb, c);
	}
	evbuffer_freeze(out, 1);
	if (!c->dying && evbuffer_get_length(out) > 0)
		bufferevent_enable(c->bev, EV_WRITE);
}

void http_conn_answered(struct http_conn *c)
{
	conn_set_state(c, CONN_FLUSH, 0);
	http_conn_flush(c);
	if (!c->dying)
		conn_wrote(c);
}

void http_conn_answered_gone(struct http_conn *c)
{
	assert(c->state == CONN_GONE);
	loop_defer(c->front->loop, conn_free_cb, c);
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
	struct http_conn *c = arg;

	(void)out;
	if (info->n_deleted > 0 || info->orig_size == 0)
		c->progress_ms = clock_mono_ms();
}

/* --- what libevent tells ---------------------------------------------------------------------------- */
static void on_read(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;

	if (c->state == CONN_LINGER) {
		input_linger(c, bufferevent_get_input(bev));
		return;
	}
	if (is_busy(c)) { /* it can wait, and so can the peer */
		c->paused = true;
		bufferevent_disable(bev, EV_READ);
		conn_arm(c);
		return;
	}
	conn_input(c);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;

	if (!c->tls && output_len(c) == 0)
		bufferevent_disable(bev, EV_WRITE);
	conn_wrote(c);
}

static void on_half_close(struct http_conn *c)
{
	c->half_closed = true;
	/* libevent writes nothing more on TLS behind the peer's close, so there it is the end */
	if (c->tls || c->state == CONN_LINGER || peer_is_reset(c)) {
		conn_die(c);
		return;
	}
	if (is_busy(c))
		conn_arm(c); /* the answer is still wanted; watch for a reset */
	else
		conn_input(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)bev;
	if (what & BEV_EVENT_CONNECTED)
		http_conn_handshaken(c);
	else if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING))
		on_half_close(c);
	else
		conn_die(c);
}

void http_conn_handshaken(struct http_conn *c)
{
	conn_set_state(c, CONN_HEAD, c->front->limits.head_timeout_ms);
	conn_input(c);
}

/* --- birth and death ---------------------------------------------------------------------------------- */
static struct bufferevent *bev_new(struct http_front *f, int fd, SSL *ssl)
{
	struct event_base *base = loop_base(f->loop);
	struct bufferevent *bev;

	if (!ssl)
		return bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	bev = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
					     BEV_OPT_CLOSE_ON_FREE);
	if (bev) /* a peer that hangs up without close_notify has hung up */
		bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
	else
		SSL_free(ssl);
	return bev;
}

void http_conn_new(struct http_front *f, int fd, enum surface s, struct ssl_st *ssl,
		   const char *peer, unsigned ip_slot)
{
	struct http_conn *c = calloc(1, sizeof *c);
	struct bufferevent *bev = c ? bev_new(f, fd, ssl) : NULL;

	if (!bev)
		abort();
	c->front = f;
	c->bev = bev;
	c->fd = fd;
	c->tls = ssl != NULL;
	c->surface = s;
	c->ip_slot = ip_slot;
	c->born_ms = clock_mono_ms();
	snprintf(c->peer, sizeof c->peer, "%s", peer);
	http_parser_init(&c->parser, &f->limits.parse);
	c->next = f->conns;
	if (c->next)
		c->next->prev = c;
	f->conns = c;
	atomic_fetch_add(&http_counters.open, 1);
	counter_add(&http_counters.accepted, 1);
	evbuffer_add_cb(bufferevent_get_output(bev), on_output, c);
	bufferevent_setcb(bev, on_read, on_write, on_event, c);
	bufferevent_setwatermark(bev, EV_WRITE, f->limits.stream_low_bytes, 0);
	if (!c->tls)
		bufferevent_disable(bev, EV_WRITE);
	conn_set_state(c, c->tls ? CONN_TLS : CONN_HEAD,
		       c->tls ? f->limits.tls_timeout_ms : f->limits.head_timeout_ms);
	bufferevent_enable(bev, EV_READ);
}

void http_conn_free(struct http_conn *c)
{
	struct http_front *f = c->front;

	loop_defer_cancel(f->loop, conn_next, c);
	loop_defer_cancel(f->loop, conn_die_cb, c);
	loop_defer_cancel(f->loop, conn_free_cb, c);
	loop_timer_clear(&c->timer);
	request_free(c);
	if (c->bev)
		bufferevent_free(c->bev);
	http_parser_clear(&c->parser);
	if (c->prev)
		c->prev->next = c->next;
	else
		f->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	http_ip_leave(c->ip_slot);
	atomic_fetch_sub(&http_counters.open, 1);
	free(c);
	http_front_unused(f);
}

void http_conn_drain(struct http_conn *c)
{
	if (c->state == CONN_TLS || (c->state == CONN_HEAD && !http_parser_begun(&c->parser)))
		conn_die(c);
}

void http_conn_cut(struct http_conn *c)
{
	conn_die(c);
}
