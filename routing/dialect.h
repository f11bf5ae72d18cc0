/* routing/dialect.h - a wire language: one table of pure functions, used on the caller's side and the
 * provider's. Same dialect on both sides is the fast path: bytes pass through, only what must change is
 * changed. Nothing in here does I/O, reads a clock, logs, or allocates outside the arena it is given. */
#ifndef ROUTING_DIALECT_H
#define ROUTING_DIALECT_H
#include "routing/call.h"
#include "routing/sse.h"

struct provider;

struct dialect_target { /* what the target needs to be asked */
	const struct provider *provider;
	struct str model; /* upstream's own id */
	int64_t max_output_cap; /* injected when the caller set no maximum, so that the hold's bound is true; 0: none known */
};
/* Per attempt state of a stream; zero-initialise, lives with the attempt. */
struct dialect_ctx {
	/* Scratch: the parsed event and the strings of its facts. Nothing outlives its event, so a long stream
	 * may give a fresh arena from time to time. */
	struct arena *mem;
	const struct call *call;
	int finished_choices;
	bool saw_error;
};

struct dialect {
	const char *name; /* "openai_chat" */
	/* RC_INVALID with code, words, hint, field in `err`. */
	enum rc (*decode_request)(struct str body, struct arena *mem, struct call *ret,
				  struct err *err);
	/* The body for the target. Changes `model`, injects usage and maximum output; all else passes through. */
	enum rc (*encode_request)(const struct call *c, const struct dialect_target *t,
				  struct arena *mem, struct buf *out);
	/* One event of a stream. RC_PROTOCOL: not JSON, or of the wrong shape. */
	enum rc (*decode_event)(struct dialect_ctx *ctx, const struct sse_event *ev,
				struct facts *ret);
	/* The event as the caller gets it: its own bytes, or nothing (stripped usage), `facts` as decoded. */
	enum rc (*encode_event)(struct dialect_ctx *ctx, const struct sse_event *ev,
				const struct facts *f, struct buf *out);
	/* An answer that is not streamed. */
	enum rc (*decode_response)(struct dialect_ctx *ctx, struct str body, struct facts *ret);
	/* A failure: class by in-band markers, then code, type, status. `err` gets the provider's words where the
	 * caller may see them. `body` may be HTML or empty. */
	enum error_class (*classify)(int status, struct str body, struct arena *mem,
				     struct err *err);
	/* An error after the first content, as the dialect's own error event. */
	enum rc (*encode_error_event)(const struct err *e, struct str tollgate_json,
				      struct buf *out);
};
extern const struct dialect dialect_openai_chat;

#endif
