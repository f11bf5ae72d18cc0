/* routing/flow_priv.h - one call in the works, shared by the four files that handle it.
 *
 * flow.c decides: it has the states and tells the story. What serves it: flow_relay.c takes what a provider sends and
 * passes it on, flow_tell.c says what happened (headers, errors, log), flow_charge.c makes the charge. None of the three
 * changes the state; they record, and flow_run() lets the states look. */
#ifndef ROUTING_FLOW_PRIV_H
#define ROUTING_FLOW_PRIV_H
#include "routing/dialect.h"
#include "routing/errors.h"
#include "routing/flow.h"
#include "routing/kept.h"
#include "routing/routing_priv.h"
#include "routing/upstream.h"
#include "server/base/log.h"

/* Lifecycle events before the first content: Responses repeats the instructions and tools in two of them. */
#define FLOW_HELD_MAX (2 * (SSE_LINE_BYTES_MAX + SSE_BLOCK_SLACK_BYTES))
#define FLOW_EVENT_MAX                                                                             \
	(6u * SSE_LINE_BYTES_MAX) /* a parsed event takes up to six times its bytes */
#define FLOW_EVENT_RESERVE                                                                         \
	(1u << 20) /* ids that are made: one for each of CHAT_CALLS_MAX, and a few */
#define FLOW_TAIL_MAX                                                                              \
	(SSE_LINE_BYTES_MAX + SSE_BLOCK_SLACK_BYTES) /* kept back until the cost is committed */
#define FLOW_BYTES_KEPT	     4096 /* the last of a relayed sound that wait for the booking */
#define FLOW_LINGER_MS	     500  /* how long a stream that said its last may stay open */
#define FLOW_FALLBACK_TEXT   2048
#define FLOW_ATTEMPTS_TEXT   8192
#define FLOW_PLAN_TEXT	     65536
#define FLOW_BYTES_PER_TOKEN 4 /* estimate where a provider stated no usage */

enum revoked {
	REVOKED_NOT,
	REVOKED_KEY,
	REVOKED_ORG,
	REVOKED_PROFILE /* of the attempt in work */
};
enum standing { STANDING_GOOD, STANDING_SUSPECT, STANDING_ASKED };

struct flow {
	struct flow *next, **link; /* the worker's running calls */
	struct http_request *req;
	struct worker *worker;
	struct routing_worker *rw;
	const struct principal *who;
	struct arena *mem;
	enum flow_state state;
	enum flow_end why;
	bool running, gone, timed_out, stopped;
	enum revoked revoked;
	enum standing standing; /* may it go on, as far as is known */
	size_t asked_at;	/* revoke.c's place for it while it asks */
	bool outdated;		/* a profile changed since `set` was taken */
	bool recheck;		/* ... and the attempt that was just sent is not asked about yet */
	struct log_context log;

	/* the question */
	struct call_head head;
	struct call call;
	struct ask *ask; /* read whole, once a target of another dialect is asked; NULL before */
	struct vault_limits limits;
	int64_t tokens_reserved, reserved_at_ms;
	struct snapshot_set set;
	struct snapshot_call *resolving;
	struct kept_find *finding; /* who keeps the state it builds on */
	struct price_book *book;
	struct plan plan;

	/* the attempt */
	size_t at;		  /* index behind the candidate in work */
	struct candidate *target; /* in work */
	struct candidate *asked;  /* the last that was sent to */
	struct dialect_target to; /* the target in work, as its dialect is told */
	struct outgoing out;	  /* its body is `body` */
	struct err
		unsupported; /* what the last target that was passed over for it has no words for */
	int attempts;
	struct billing_op *op;
	struct billing_hold hold;
	struct billing_shortfall shortfall;
	bool stateless; /* the target in work refused reasoning of the history as not its own */
	bool short_of_funds; /* some platform target was passed over for want of credits */
	bool billing_away;   /* ... because the ledger could not be asked */
	struct vault_call *opening;
	struct secret secret;
	struct secret_mark mark; /* of the attempt's: a provider may say it back */
	struct buf body;	 /* as encoded for the target */
	struct curlm_call *up;
	bool up_done, draining_up;
	bool given_up; /* we ended the attempt: the caller left or the process stops; no fault of the target */
	enum rc up_rc;
	struct err up_err;
	int status;
	bool event_stream;
	const char
		*media_type; /* its body is bytes to relay; NULL: it is not. One of its dialect's */
	int64_t retry_after_s;
	char provider_request_id[128];
	enum error_class class; /* of the attempt's failure */
	struct err class_err;
	int64_t window_failed; /* context_length: the next target needs a larger window */

	/* the answer */
	struct buf answer; /* plain body, or an error's */
	struct sse sse;
	struct dialect_ctx ctx;
	struct buf held, tail;
	bool stream_begun, content_sent, paused;
	struct usage usage;
	int finished;
	bool terminal; /* the provider's stream said its last */
	bool ending;   /* all that comes from here on waits for the booking */
	int64_t text_bytes;
	struct rating rating;
	bool rated;
	enum billing_basis basis;
	money_t debited;
	bool settled;
	struct str kept_id; /* what its provider keeps of it; empty: nothing */
	const char *kept_kind;
	struct kept_note *noting;

	/* what the log, the headers and the usage row tell */
	enum rc rc;
	struct err err;
	struct buf fallback, attempts_json, plan_json;
	struct loop_timer deadline, keepalive, drain;
	int64_t started_us, deadline_ms, sent_us, upstream_us, first_event_us;
};

/* Is the answer in work in another dialect than the caller's? */
static inline bool flow_translates(const struct flow *f)
{
	return f->to.dialect != f->call.dialect;
}

/* Is nothing held for the call and nothing booked but that it was? To count tokens is free everywhere. */
static inline bool flow_is_free(const struct flow *f)
{
	return f->call.operation == OPERATION_count_tokens;
}

/* Does silence need a word? Not where what is sent is sound. */
static inline bool flow_has_keepalive(const struct flow *f)
{
	return f->call.dialect->keepalive && !f->call.bytes;
}

/* flow.c: let the states look at what was recorded. A no-op while they are looking. */
void flow_run(struct flow *f);
/* The caller left a call that its provider goes on billing. */
bool flow_is_abandoned(const struct flow *f);
extern const char *const flow_state_names[FLOW_STATE_COUNT];

/* flow_relay.c: callbacks of the attempt in work, and the caller's stream. */
void flow_attempt_reset(struct flow *f); /* nothing has come back yet */
void flow_on_head(void *arg, const struct curlm_response *r);
bool flow_on_body(void *arg, struct str bytes);
/* flow_run(), deferred: behind a callback that may not end its own call. */
void flow_kick(void *arg);
void flow_upstream_cancel(struct flow *f);
/* What came back, once it is complete: ERROR_none if it is a whole answer. */
enum error_class flow_answer_judge(struct flow *f);
void flow_stream_begin(struct flow *f); /* head and headers, once */
void flow_stream_write(struct flow *f, struct str bytes);
void flow_on_keepalive(void *arg);
void flow_on_drain(void *arg);

/* flow_tell.c: for the headers, the usage row and the log. */
void flow_note_fallback(struct flow *f, const struct candidate *c, const char *reason);
void flow_note_attempt(struct flow *f, const char *outcome, bool billed);
void flow_headers(struct flow *f);
void flow_header_overhead(struct flow *f);
void flow_header_limits(struct flow *f);
void flow_error_event(struct flow *f);
void flow_error_reply(struct flow *f);
void flow_log(const struct flow *f);

/* revoke.c: ask whether this call may go on; later f->revoked says if not, and flow_run() is called. */
void revoke_suspect(struct flow *f);
void revoke_forget(struct flow *f);
bool revoke_is_of_caller(
	const struct flow *f);	      /* its key or org, and not the profile it was sent to */
enum rc revoke_words(struct flow *f); /* fills f->err from f->revoked */

/* flow_charge.c */
/* Usage that was not stated is estimated; all of it is cut to the bounds of the hold. */
void flow_usage_complete(struct flow *f);
/* What that costs, and never more than the hold. */
void flow_rate(struct flow *f);
/* The charge; its strings live in the flow's arena. */
struct billing_charge flow_charge(struct flow *f, bool is_void);

#endif
