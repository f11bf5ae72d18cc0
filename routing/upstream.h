/* routing/upstream.h - send one attempt to one provider. The only place outside vault/ that touches plaintext:
 * it writes the auth header and nothing else is done with it. */
#ifndef ROUTING_UPSTREAM_H
#define ROUTING_UPSTREAM_H
#include "routing/plan.h"
#include "server/curlm.h"
#include "vault/secret.h"

struct upstream_request {
	const char *method; /* NULL: POST with a body, else GET */
	const struct candidate *target;
	struct str path;	  /* the provider's path for this dialect */
	struct str body;	  /* borrowed until done; empty, and no pieces: GET */
	const struct str *pieces; /* instead of `body`, their bytes borrowed until done (curlm.h) */
	size_t pieces_count;
	struct str content_type; /* empty: application/json */
	bool same_dialect; /* the caller's: what it says in headers of that dialect goes along */
	bool stream;
	bool any_type; /* what is asked for is neither events nor JSON, or may be neither */
	const struct secret *secret; /* NULL: the endpoint needs none. Borrowed for the call */
	struct curlm_timeouts timeouts;
	size_t body_bytes_max;
	const struct http_request
		*client; /* whose allow-listed headers are forwarded; may be NULL */
};
/* The endpoint's path with {model} filled in, percent-encoded as one segment but for its slashes. In `mem`. */
struct str upstream_path(const struct provider_endpoint *e, struct str model, bool stream,
			 struct arena *mem);
struct curlm_call *upstream_start(struct curlm *m, const struct upstream_request *u,
				  const struct curlm_handlers *h, struct arena *mem);
/* Seconds a provider asks to wait: retry-after-ms before retry-after (seconds or date); where it refuses for its rate
 * and has neither, until its empty buckets are full again; 0: none. At most 24 h. */
int64_t upstream_retry_after_s(const struct curlm_response *r, int64_t wall_ms);

#endif
