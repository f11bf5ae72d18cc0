/* server/http/http.h - HTTP/1.1 for handlers: what was asked, how to answer.
 *
 * Life of a request: head parsed (strictly) -> route found in the endpoint tables -> caller
 * authenticated -> `head` hook of the endpoint -> body read -> `handle` -> http_reply() or
 * http_stream_*() . Anything malformed is answered by the front itself (400 and close) and never
 * reaches a handler. All callbacks run on the connection's own loop; one request at a time per
 * connection; the request and its arena die after the answer has been written (or the peer has
 * gone and the handler has answered). A handler must always answer, even a caller that left. */
#ifndef SERVER_HTTP_HTTP_H
#define SERVER_HTTP_HTTP_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/id.h"
#include "server/config.h"
#include "server/worker.h"

enum surface { SURFACE_DATA = 1, SURFACE_ADMIN = 2 };
struct http_conn;
struct endpoint;

struct http_header {
	struct str name, value; /* name as sent; compare with str_eq_nocase */
};
#define HTTP_PATH_PARAMS_MAX 6

struct http_request {
	struct worker *worker;
	struct http_conn *conn;
	struct arena *mem; /* the request's arena; answers are built in it */
	enum surface surface;
	const struct endpoint *endpoint; /* NULL until routed */
	struct str method, target, path,
		query; /* path without query, aliases resolved, still encoded */
	const struct http_header *headers;
	size_t headers_count;
	struct str body;		  /* complete when `handle` runs */
	struct uuid id;			  /* the call's id */
	char id_text[4 + UUID_TEXT_SIZE]; /* "req_..." */
	struct str params
		[HTTP_PATH_PARAMS_MAX]; /* {names} of the path pattern, in order, percent-decoded */
	int64_t accepted_us;		/* monotonic, when the head was complete */
	char peer[64];
	/* filled by the authenticate hook */
	void *principal;  /* vault's struct principal, in this arena; NULL: nobody */
	uint32_t roles;	  /* bits the endpoint's `roles` is tested against */
	void *user;	  /* the handler's own */
	bool query_known; /* the query was held against what the handler takes (admin.h) */
	/* Which part of its body a handler is at, such as "routes.fast": errors name it. Empty: the whole. */
	struct str within;
};

typedef void http_handler(struct http_request *r);
typedef void http_auth_done(void *arg, enum rc rc, const struct err *err);

/* Who may: bits of the module that owns roles (vault); the floor only tests (r->roles & e->roles). */
#define ROLES_ANYONE 0u /* no authentication at all: health, HEAD / */
struct endpoint {
	const char *method; /* "GET"; GET serves HEAD too */
	const char *
		path; /* "/admin/v1/orgs/{org}/profiles"; a last "{x...}" runs to the end of the path */
	enum surface surface; /* or'ed: both listeners */
	uint32_t roles;
	size_t body_bytes_max; /* 0: the surface's default (TOLLGATE_MAX_BODY_BYTES, or 1 MiB admin) */
	bool body_required;    /* no body length: 411 */
	http_handler *handle;
	const char *summary; /* one line, for OpenAPI */
};

/* What the floor must ask of the modules; filled in before listening. */
struct http_hooks {
	/* Who calls? Fill r->principal and r->roles; call done(arg, ...) once: at once or later.
	 * RC_DENIED: 401 with err. Other failures as err says. */
	void (*authenticate)(struct http_request *r, http_auth_done *done, void *arg);
	/* Is what authenticate said older than a change that may concern it? Then it is asked once more when the
	 * body has come, which may have taken its time. May be NULL. Synchronous. */
	bool (*is_stale)(const struct http_request *r);
	/* May this caller use this endpoint with this path (own org)? After roles matched. Synchronous. */
	enum rc (*authorise)(struct http_request *r, struct err *err);
	/* jsonb of who calls, for the audit log; in the request's arena. Authenticated requests alone. */
	struct str (*actor)(struct http_request *r);
	/* How does an error read on this path? Writes the body (JSON) in the caller's dialect, and returns the
	 * HTTP status for (rc, err->code). NULL for admin paths: the floor's envelope. */
	int (*render_error)(struct http_request *r, enum rc rc, const struct err *err,
			    struct buf *body);
	/* Extra headers for each answer of this path (rate limits, request-id); may be NULL. Data surface,
	 * routed requests. Append "Name: value\r\n" lines; control bytes in them become '?'. */
	void (*add_headers)(struct http_request *r, int status, struct buf *headers);
	/* The name of one bit of `roles`, for the API's description; NULL: that bit is no role. */
	const char *(*role_name)(uint32_t bit);
};
extern struct http_hooks http_hooks;

struct str http_header(const struct http_request *r,
		       const char *name); /* first; ptr NULL: absent */
/* Percent-decoded query parameter into the arena; ptr NULL: absent. */
struct str http_query(struct http_request *r, const char *name);

/* --- answers ------------------------------------------------------------------------------- */
/* Add a header to the answer to come. Control bytes and non-ASCII become '?': nothing a caller or provider
 * says can split a response. */
void http_add_header(struct http_request *r, const char *name, struct str value);
/* Whole answer; the body is copied. Content-Type defaults to application/json. */
void http_reply(struct http_request *r, int status, struct str body);
void http_reply_typed(struct http_request *r, int status, const char *content_type,
		      struct str body);
/* An error, in the caller's dialect by hooks.render_error or in the admin envelope. */
void http_reply_err(struct http_request *r, enum rc rc, const struct err *err);
/* The same with the status given; 0: as above. Both add Retry-After (err->retry_after_s) and, on the
 * data surface, x-should-retry, unless the handler has added its own. */
void http_reply_err_as(struct http_request *r, int status, enum rc rc, const struct err *err);
/* Admin envelope {"data":<json>,"error":null,"meta":{"request_id":...,<meta>}}; `meta` may be empty. */
void http_reply_data(struct http_request *r, int status, struct str data_json,
		     struct str meta_json);

/* Stream: 200 and Content-Type text/event-stream, chunked (HTTP/1.0: until close). Headers added before
 * win over the defaults (content-type, cache-control: no-cache, x-accel-buffering: no). */
void http_stream_begin(struct http_request *r);
/* The same for a body that is no event stream. */
void http_stream_begin_typed(struct http_request *r, const char *content_type);
/* Copies. False: the peer's buffer is over its high-water mark (256 KiB): stop producing until
 * on_drain. Writing to a peer that has gone is allowed and does nothing. */
bool http_stream_write(struct http_request *r, struct str bytes);
void http_stream_end(struct http_request *r);	/* last chunk; the request is finished */
void http_stream_abort(struct http_request *r); /* cut: no last chunk, connection closed */
/* The peer's buffer is below 64 KiB again. */
void http_on_drain(struct http_request *r, void (*fn)(void *arg), void *arg);
/* The peer went away (reset, closed, write stall). Called at most once, not after the answer ended. A
 * half-closed peer still gets its answer and is not "gone". */
void http_on_gone(struct http_request *r, void (*fn)(void *arg), void *arg);
bool http_is_gone(const struct http_request *r);

/* --- listeners (server/main.c) --------------------------------------------------------------- */
struct http_listener;
struct http_front; /* one per worker: its connections, limits from config */
struct http_front *http_front_new(struct worker *w,
				  const struct endpoint *const *tables /* NULL-ended */);
void http_front_free(struct http_front *f);
/* Bind once; "127.0.0.1:8080", "[::1]:0", "unix:/path". SO_REUSEPORT for TCP, so that each worker can bind
 * its own to the same address. `bound` gets the real address as text. Unix sockets are bound once and shared. */
MUST_CHECK enum rc http_listen(struct http_front *f, const char *address, enum surface surface,
			       struct http_listener **ret, char bound[128], struct err *err);
/* TLS for all TCP listeners of the process (a unix socket stays plain): load or reload; keeps the old one on failure. */
MUST_CHECK enum rc http_tls_load(const char *cert_file, const char *key_file, struct err *err);
void http_tls_unload(void); /* at the end of the process */
/* Stop accepting and close idle connections; streams run on. */
void http_front_drain(struct http_front *f);
/* The drain's time is over: close every connection; handlers hear of it by on_gone. */
void http_front_cut(struct http_front *f);
size_t http_front_open(const struct http_front *f); /* requests not yet answered; any thread */
/* The match for (method, path) over the tables, for tests and OpenAPI; NULL: none. `allowed` (may be NULL)
 * gets "GET, HEAD, POST". A parameter may be followed by a literal: "{model...}:generateContent". The more
 * literal bytes, the better a match. `params` are slices of `path`, still encoded; in a request they
 * are decoded. Aliases are not resolved here. */
const struct endpoint *http_route(const struct endpoint *const *tables, enum surface s,
				  struct str method, struct str path,
				  struct str params[HTTP_PATH_PARAMS_MAX], struct buf *allowed);
/* The front's settings: limits and deadlines of security.md 4.2-4.3, all named http_*. */
extern const struct setting http_settings[];
struct metrics_out;
void http_metrics(struct metrics_out *out); /* all workers together; any thread */

#endif
