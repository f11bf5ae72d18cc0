/* server/curlm.h - outgoing HTTP from a loop, over libcurl multi.
 *
 * A worker has one group of multi handles: one for plain calls, several bounded ones for streams
 * (1,000 open streams in the same multi make every other call on it twice as dear). Every option
 * of security.md 3.1 (6) is set here and nowhere else: no redirects, no proxy, no netrc, TLS 1.2
 * or later, names resolved off the loop (server/names.h), every address judged by server/egress.h
 * before connecting and again on reuse.
 *
 * Completion promise: on_done runs once, on the loop's thread, never before curlm_start() returned,
 * never after curlm_cancel(). The call is gone when on_done returns. When a kept connection turns
 * out to have been closed by the peer, and no byte of an answer came, libcurl sends the request
 * again on another one; that is the only resend. */
#ifndef SERVER_CURLM_H
#define SERVER_CURLM_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/err.h"
#include "server/base/str.h"
#include "server/egress.h"

struct loop;
struct curlm;
struct curlm *curlm_new(struct loop *l, const struct egress *e,
			const char *ca_file /* NULL: system */);
struct names_result;
/* Answer names from here instead of getaddrinfo() (names.h; tests). Before the first call. */
void curlm_lookup_set(struct curlm *m,
		      enum rc (*lookup)(const char *host, struct names_result *ret));
void curlm_free(struct curlm *m); /* running calls end with RC_CANCELLED, without callbacks */

enum curlm_secret_form { CURLM_SECRET_NONE, CURLM_SECRET_BEARER, CURLM_SECRET_HEADER };
struct curlm_header {
	const char *name;
	struct str value; /* checked: no control bytes, at most 4 KiB */
};
#define CURLM_PIECES_MAX 1024
struct curlm_timeouts { /* milliseconds */
	int64_t connect, first_byte, idle, total;
};
/* Everything is copied by curlm_start(), but the bytes of the body, which must live until done. */
struct curlm_request {
	const char *method;
	struct str base; /* from egress_parse() */
	struct str
		path; /* "/chat/completions": made of parts our code or egress_path_part_ok() vouches for */
	const struct curlm_header *headers;
	size_t headers_count;
	/* The provider's secret: copied into one header node, which is overwritten in place once the
	 * response's first header came, and wiped at the end. Borrowed for the call only. */
	enum curlm_secret_form secret_form;
	const char *secret_header; /* CURLM_SECRET_HEADER: its name */
	struct str secret;
	struct str body;
	/* Instead of `body`: it is these, one behind the other. Sent from where they stand. */
	const struct str *pieces;
	size_t pieces_count; /* at most CURLM_PIECES_MAX, more is our bug and asserts; 0: `body` */
	bool secret_body; /* what is sent and answered is secret: libcurl's copies are wiped once used */
	bool stream;	  /* choose a multi handle of the streams' */
	struct curlm_timeouts timeouts;
	size_t body_bytes_max; /* of the response; past it the call ends with RC_TOO_LARGE; 0: 32 MiB */
	/* Who may share a connection (org class, credential version). Today a connection carries nothing of
	 * a tenant: no client certificate, no proxy, and the secret is a header of each request. So
	 * calls with equal origins share whatever the key says; client certificates will need it. */
	struct str pool_key;
	/* The terminal's admin client alone: connect to this socket; `base` is then not judged. */
	const char *unix_socket;
};
#define CURLM_BUCKETS 4
struct curlm_response { /* valid from on_head to on_done */
	int status;
	struct str content_type;
	struct str retry_after, retry_after_ms, request_id; /* as sent; len 0: absent */
	struct str character_cost,
		character_count; /* ElevenLabs says there what it charges, and for how much */
	/* The buckets of a provider's limits that it named, in no order: "0" and when it is full again, as sent. */
	struct curlm_bucket {
		struct str remaining, reset;
	} buckets[CURLM_BUCKETS];
	struct str bucket_reset; /* of a provider with one bucket: x-ratelimit-reset, as sent */
};
struct curlm_call;
struct curlm_handlers {
	/* Headers are complete and framing is sane (no CL+TE, one CL, no unasked encoding). */
	void (*on_head)(void *arg, const struct curlm_response *r);
	/* Body bytes. Return false to pause: the bytes count as delivered, none come until curlm_resume(),
	 * and the idle timeout stands still; on_done may come while paused (nothing was left). */
	bool (*on_body)(void *arg, struct str bytes);
	/* RC_OK: complete by its framing. RC_TIMEOUT "timeout", RC_NETWORK "network" or "tls",
	 * RC_PROTOCOL "protocol" or "upstream_redirect", RC_TOO_LARGE "too_large", RC_DENIED
	 * "egress_denied", RC_INVALID "bad_request" (our own request is malformed), RC_UNAVAILABLE
	 * "overloaded" (a bound here is reached). curlm_request_sent() tells whether it may count
	 * upstream. `err` has words, in `detail` libcurl's own for the log. */
	void (*on_done)(void *arg, enum rc rc, const struct err *err);
	void *arg;
};
struct curlm_call *curlm_start(struct curlm *m, const struct curlm_request *r,
			       const struct curlm_handlers *h);
void curlm_resume(struct curlm_call *c);
/* Closes the connection if it is in use. The body may be freed afterwards. Not after on_done. */
void curlm_cancel(struct curlm_call *c);
bool curlm_request_sent(const struct curlm_call *c); /* did any byte of the request leave? */

void curlm_global_init(void); /* once, before any thread: wiping allocators for libcurl */

#endif
