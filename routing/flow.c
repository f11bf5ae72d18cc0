/* routing/flow.c - the life of a call. Read this first.
 *
 *   DECODE -> RESOLVE(ING) -> PLAN -> TARGET -> AUTHORISE/ING -> OPEN(ING) -> SEND -> RELAYING
 *                                       ^                                                |
 *                                       |  failed before the first content: next target  |
 *                                       +------------------------------------------------+
 *                                                                                        |
 *                        DONE <- ANSWER <- SETTLE/SETTLING <-----------------------------+
 *                        DONE <- REFUSE <- from any state before the first content
 *
 * The floor has read the head, found out who calls, and gathered the body before DECODE begins. A hold
 * belongs to one attempt: falling to the next target gives it back and asks anew. The tail of a stream (the
 * event that finishes the last choice and all behind it) and a plain answer are kept until their cost is
 * committed. A caller who leaves ends nothing by itself: the provider is read on, within bounds, for what it
 * says was used. Callbacks record what they were given and call flow_run(); the states decide. */
#include "routing/flow.h"

#include <stdio.h>
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/errors.h"
#include "routing/routing_priv.h"
#include "routing/upstream.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/pg.h"

#define FLOW_ARENA_MAX (256u << 20) /* decode tree, plan, one request body per attempt */
#define FLOW_HELD_MAX  (256u << 10) /* lifecycle events before the first content */
#define FLOW_EVENT_MAX                                                                             \
	(6u * SSE_LINE_BYTES_MAX)	 /* a parsed event takes up to six times its bytes */
#define FLOW_TAIL_MAX	     (16u << 20) /* what is kept back until the cost is committed */
#define FLOW_FALLBACK_TEXT   2048
#define FLOW_ATTEMPTS_TEXT   8192
#define FLOW_PLAN_TEXT	     65536
#define FLOW_CONNECT_MS	     5000
#define FLOW_FIRST_BYTE_MS   60000
#define FLOW_IDLE_MS	     90000
#define FLOW_PATIENCE_MS     30000 /* what a shared target gets before a caller's deadline cools it */
#define FLOW_STREAM_TOTAL_MS (30 * 60 * 1000)
#define FLOW_HOLD_GRACE_MS                                                                         \
	60000 /* a hold outlives its call's deadline by this much (ledger.md 2.3) */
#define FLOW_SETTLE_OWN_MS                                                                         \
	3000 /* a byok or private call waits no longer for its row (a statement has 2 s) */
#define FLOW_SETTLE_MIN_MS                                                                         \
	10000		       /* a caller at its deadline still waits this long for the booking */
#define FLOW_BYTES_PER_TOKEN 4 /* estimate where a provider stated no usage */

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
	struct log_context log;

	/* the question */
	struct call call;
	struct vault_limits limits;
	int64_t tokens_reserved, reserved_at_ms;
	struct snapshot_set set;
	struct snapshot_call *resolving;
	struct price_book *book;
	struct plan plan;

	/* the attempt */
	size_t at;		  /* index behind the candidate in work */
	struct candidate *target; /* in work */
	struct candidate *asked;  /* the last that was sent to */
	int attempts;
	struct billing_op *op;
	struct billing_hold hold;
	struct billing_shortfall shortfall;
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
	int64_t text_bytes;
	struct rating rating;
	bool rated;
	enum billing_basis basis;
	money_t debited;
	bool settled;

	/* what the log, the headers and the usage row tell */
	enum rc rc;
	struct err err;
	struct buf fallback, attempts_json, plan_json;
	struct loop_timer deadline, keepalive, drain;
	int64_t started_us, deadline_ms, sent_us, upstream_us, first_event_us;
};

static const char *const state_names[] = {
#define X(name) #name,
	FLOW_STATES(X)
#undef X
};
static const char *const end_names[] = {
#define X(name) #name,
	FLOW_ENDS(X)
#undef X
};

static void flow_run(struct flow *f);
static void flow_on_keepalive(void *arg);

static struct flow *flow_new(struct http_request *r)
{
	struct flow *f = calloc(1, sizeof *f);

	if (!f)
		abort();
	f->req = r;
	f->worker = r->worker;
	f->rw = routing_worker(r->worker);
	f->who = vault_principal(r);
	f->mem = arena_new(FLOW_ARENA_MAX);
	f->started_us = r->accepted_us;
	f->usage = USAGE_NONE;
	f->log = (struct log_context){
		.request_id = r->id_text, .org = f->who->org, .state = state_names[0]};
	f->body = BUF_INIT(FLOW_ARENA_MAX);
	f->answer = BUF_INIT(ROUTING_BODY_MAX);
	f->held = BUF_INIT(FLOW_HELD_MAX);
	f->tail = BUF_INIT(FLOW_TAIL_MAX);
	f->fallback = BUF_INIT(FLOW_FALLBACK_TEXT);
	f->attempts_json = BUF_INIT(FLOW_ATTEMPTS_TEXT);
	f->plan_json = BUF_INIT(FLOW_PLAN_TEXT);
	sse_init(&f->sse, SSE_LINE_BYTES_MAX);
	f->next = f->rw->flows;
	f->link = &f->rw->flows;
	if (f->next)
		f->next->link = &f->next;
	f->rw->flows = f;
	atomic_fetch_add(&f->worker->service->calls_open, 1);
	return f;
}

/* ---- DECODE: is this a call, and may this key make it? --------------------------------------- */

static enum flow_state flow_refuse(struct flow *f, enum rc rc, enum flow_end why)
{
	f->rc = rc;
	f->why = why;
	return FLOW_REFUSE;
}

static bool read_billing_header(struct flow *f, struct str list)
{
	enum billing_source source;

	while (list.ptr) {
		struct str one = str_trim(str_cut(&list, ','));

		if (billing_source_parse(one, &source) != RC_OK) {
			err_set(&f->err, RC_INVALID, "invalid_request_error",
				"x-tollgate-billing has an entry that is no billing source");
			err_hint(&f->err, "a comma list of platform, byok and private");
			err_field(&f->err, "x-tollgate-billing");
			return false;
		}
		f->call.billing_allowed |= 1u << source;
	}
	return true;
}

static enum flow_state flow_decode(struct flow *f)
{
	struct http_request *r = f->req;
	struct str billing = http_header(r, "x-tollgate-billing");
	enum rc rc = dialect_openai_chat.decode_request(r->body, f->mem, &f->call, &f->err);

	if (rc != RC_OK)
		return flow_refuse(f, rc, FLOW_END_refused);
	f->call.dialect = &dialect_openai_chat;
	f->call.agent = http_header(r, "x-tollgate-agent");
	f->call.intent = http_header(r, "x-tollgate-intent");
	f->call.session = http_header(r, "x-tollgate-session");
	if (billing.ptr && !read_billing_header(f, billing))
		return flow_refuse(f, RC_INVALID, FLOW_END_refused);
	if (!vault_model_allowed(f->who, f->call.model)) {
		err_set(&f->err, RC_DENIED, "permission_denied",
			"this API key may not use the model %.*s", STR_FMT(f->call.model));
		err_hint(&f->err, "the key's list of models decides; an org admin can change it");
		return flow_refuse(f, RC_DENIED, FLOW_END_refused);
	}
	/* What it will probably use; corrected when it is known. */
	f->tokens_reserved = (int64_t)(f->call.body_bytes / FLOW_BYTES_PER_TOKEN) +
			     f->call.max_output * f->call.choices;
	f->reserved_at_ms = clock_mono_ms();
	rc = vault_limits_take(f->who, f->tokens_reserved, &f->limits, &f->err);
	if (rc != RC_OK) {
		f->tokens_reserved = 0;
		return flow_refuse(f, rc, FLOW_END_refused);
	}
	return FLOW_RESOLVE;
}

/* ---- RESOLVE: the org's routing picture, warm or from Postgres ----------------------------------- */

static void flow_on_resolved(void *arg, enum rc rc, struct snapshot_set set, const struct err *err)
{
	struct flow *f = arg;

	f->resolving = NULL;
	f->set = set;
	f->rc = rc;
	if (rc != RC_OK && err)
		f->err = *err;
	flow_run(f);
}

static enum flow_state flow_resolve(struct flow *f)
{
	if (snapshot_try(f->worker, f->who->org, &f->set))
		return FLOW_PLAN;
	f->resolving = snapshot_get(f->worker, f->who->org, flow_on_resolved, f);
	return FLOW_RESOLVING;
}

static enum flow_state flow_deadline_passed(struct flow *f)
{
	err_set(&f->err, RC_TIMEOUT, "upstream_timeout", "no answer within the call's %lld ms",
		(long long)(f->plan.timeout_ms ? f->plan.timeout_ms : ROUTING_TIMEOUT_MS));
	err_hint(&f->err, "try again, or raise timeout_ms in the route's policy");
	return flow_refuse(f, RC_TIMEOUT, FLOW_END_deadline);
}

/* Left, stopped or out of time while nothing has been sent: nothing to pay, nothing to wait for. */
static bool flow_is_over(const struct flow *f)
{
	return f->gone || f->timed_out || f->stopped;
}

static enum flow_state flow_over(struct flow *f)
{
	if (f->timed_out && !f->gone && !f->stopped)
		return flow_deadline_passed(f);
	err_set(&f->err, RC_UNAVAILABLE, "no_route",
		f->stopped ? "this instance is stopping" : "the caller left");
	f->err.retry_after_s = 1;
	return flow_refuse(f, RC_UNAVAILABLE, f->stopped ? FLOW_END_stopped : FLOW_END_client_gone);
}

static enum flow_state flow_resolving(struct flow *f)
{
	if (flow_is_over(f)) {
		snapshot_cancel(f->resolving); /* its callback would find a call that is gone */
		f->resolving = NULL;
		return flow_over(f);
	}
	if (f->resolving)
		return FLOW_WAIT;
	if (f->rc != RC_OK) {
		err_set(&f->err, f->rc, "billing_unavailable",
			"the org's configuration cannot be read now");
		err_hint(&f->err, "try again shortly; /readyz says what is missing");
		f->err.retry_after_s = 2;
		return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
	}
	return FLOW_PLAN;
}

/* ---- PLAN: who could answer, in which order, and why not the others --------------------------------- */

static void flow_on_deadline(void *arg)
{
	struct flow *f = arg;

	f->timed_out = true;
	flow_run(f);
}

static enum flow_state flow_plan(struct flow *f)
{
	struct plan_input in = {.call = &f->call,
				.input_tokens_max = (int64_t)f->call.body_bytes,
				.input_is_window = f->call.media_by_url,
				.org = f->set.org,
				.platform = f->set.platform,
				.catalogue = f->set.catalogue,
				.wall_ms = clock_wall_ms()};
	enum rc rc;

	f->book = billing_book(f->worker);
	in.book = f->book;
	cooldown_collect(f->rw, &f->set, f->mem, &in.cooldowns, &in.cooldowns_count);
	rc = route_plan_build(&in, f->mem, &f->plan, &f->err);
	if (rc != RC_OK)
		return flow_refuse(f, rc, FLOW_END_refused);
	if (route_plan_json(&f->plan, &f->plan_json) != RC_OK)
		buf_reset(&f->plan_json); /* too long to keep: the row goes without */
	if (f->plan.timeout_ms <= 0)
		f->plan.timeout_ms = ROUTING_TIMEOUT_MS;
	f->deadline_ms = f->started_us / 1000 + f->plan.timeout_ms;
	loop_timer_set(f->worker->loop, &f->deadline, f->deadline_ms - clock_mono_ms(),
		       flow_on_deadline, f);
	if (f->call.stream)
		loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS,
			       flow_on_keepalive, f);
	return FLOW_TARGET;
}

/* ---- TARGET: the next candidate, or the end of the chain ----------------------------------------------- */

static void fallback_note(struct flow *f, const struct candidate *c, const char *reason)
{
	size_t before = f->fallback.len;

	if (buf_printf(&f->fallback, "%s%s=%s", before ? ", " : "", c->target, reason) != RC_OK)
		f->fallback.len =
			before; /* the header has a bound; the log and the plan have all */
}

static void attempt_note(struct flow *f, const char *outcome, bool billed)
{
	size_t before = f->attempts_json.len;
	struct json_out o;

	if (before && buf_append_char(&f->attempts_json, ',') != RC_OK)
		return;
	json_out_begin(&o, &f->attempts_json);
	json_obj(&o, NULL);
	json_put_int(&o, "n", f->attempts);
	json_put_z(&o, "target", f->target->target);
	json_put_z(&o, "provider", f->target->provider->id);
	json_put_z(&o, "billing_source", billing_source_name(f->target->source));
	json_put_z(&o, "outcome", outcome);
	json_put_bool(&o, "billed", billed);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		f->attempts_json.len = before;
}

/* Until the first target that is cooling down is back; 0: none is. */
static int64_t earliest_ms(const struct plan *p)
{
	int64_t least = 0;

	for (size_t i = 0; i < p->candidates_count; i++) {
		const int64_t wait = p->candidates[i].use ? 0 : p->candidates[i].retry_after_ms;

		if (wait > 0 && (least == 0 || wait < least))
			least = wait;
	}
	return least;
}

static enum flow_state refuse_for_funds(struct flow *f)
{
	char needed[MONEY_TEXT_SIZE], available[MONEY_TEXT_SIZE], held[MONEY_TEXT_SIZE];
	money_t both = MONEY_ZERO;
	/* All of it is held by calls in flight: it passes with time. */
	const bool passes = money_add(f->shortfall.available, f->shortfall.held, &both) == RC_OK &&
			    money_cmp(both, f->shortfall.needed) >= 0;

	err_set(&f->err, RC_LIMIT, passes ? "rate_limit_exceeded" : "insufficient_quota",
		"this call can cost %s credits; %s are available and %s are held by calls in flight",
		money_format_short(f->shortfall.needed, needed).ptr,
		money_format_short(f->shortfall.available, available).ptr,
		money_format_short(f->shortfall.held, held).ptr);
	err_hint(&f->err, passes ? "try again when calls in flight have ended"
				 : "top up the org's credits, or set a smaller max_tokens");
	f->err.retry_after_s = passes ? 1 : 0;
	return flow_refuse(f, RC_LIMIT, passes ? FLOW_END_no_target : FLOW_END_refused);
}

/* Nobody was asked, or nobody is left to ask. Of mixed reasons what passes with time wins, then the purse. */
static enum flow_state flow_no_target(struct flow *f)
{
	const int64_t wait_ms = earliest_ms(&f->plan);
	enum rc rc;

	if (f->attempts > 0) {
		rc = error_all_failed(f->class, &f->class_err, (int)(wait_ms / 1000), &f->err);
		return flow_refuse(f, rc, FLOW_END_failed);
	}
	if (f->plan.usable == 0) {
		rc = route_plan_refused(&f->plan, &f->err);
		return flow_refuse(f, rc, FLOW_END_no_target);
	}
	if (f->billing_away) {
		err_set(&f->err, RC_UNAVAILABLE, "billing_unavailable",
			"the ledger cannot be reached to hold the call's cost");
		err_hint(&f->err, "nothing was charged; try again shortly");
		f->err.retry_after_s = 2;
		return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
	}
	if (f->short_of_funds && wait_ms == 0)
		return refuse_for_funds(f);
	err_set(&f->err, RC_UNAVAILABLE, "no_route", "no target can serve the model %.*s now",
		STR_FMT(f->call.model));
	err_hint(&f->err, "tollgate.targets says why each one was passed over");
	f->err.retry_after_s = (int)((wait_ms + 999) / 1000);
	return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
}

static bool window_is_larger(const struct flow *f, const struct candidate *c)
{
	return f->window_failed == 0 || (c->info && c->info->context_window > f->window_failed);
}

static enum flow_state flow_target(struct flow *f)
{
	if (flow_is_over(f))
		return flow_over(f);
	f->target = NULL;
	while (f->at < f->plan.candidates_count) {
		struct candidate *c = &f->plan.candidates[f->at++];

		if (c->use && !window_is_larger(f, c)) {
			c->use = false;
			snprintf(c->reason, sizeof c->reason, "context_too_long");
		}
		/* Not asked twice: whether the hold was granted is not known, and the next one would have its id. */
		if (c->use && f->billing_away && c->source == BILLING_PLATFORM) {
			c->use = false;
			snprintf(c->reason, sizeof c->reason, "billing_unavailable");
		}
		if (!c->use) {
			fallback_note(f, c, c->reason);
			continue;
		}
		if (f->attempts >= f->plan.max_attempts)
			break;
		f->target = c;
		return c->source == BILLING_PLATFORM ? FLOW_AUTHORISE : FLOW_OPEN;
	}
	return flow_no_target(f);
}

/* ---- AUTHORISE: hold what the attempt can cost at most ----------------------------------------------------- */

static void flow_on_authorised(void *arg, enum rc rc, struct billing_hold hold,
			       const struct billing_shortfall *shortfall)
{
	struct flow *f = arg;

	f->op = NULL;
	f->rc = rc;
	f->hold = hold;
	if (rc == RC_LIMIT && shortfall)
		f->shortfall = *shortfall;
	flow_run(f);
}

static enum flow_state flow_authorise(struct flow *f)
{
	const int64_t runs_ms =
		f->call.stream ? FLOW_STREAM_TOTAL_MS : f->deadline_ms - clock_mono_ms();

	f->op = billing_authorise(f->worker, f->who->org, f->req->id, f->attempts + 1,
				  f->target->hold, runs_ms + FLOW_HOLD_GRACE_MS, flow_on_authorised,
				  f);
	return FLOW_AUTHORISING;
}

static void flow_release(struct flow *f)
{
	if (!uuid_is_zero(f->hold.id))
		billing_release(f->worker, f->who->org, f->hold);
	f->hold = (struct billing_hold){{{0}}, MONEY_ZERO};
}

static enum flow_state flow_pass_over(struct flow *f, const char *reason)
{
	f->target->use = false;
	snprintf(f->target->reason, sizeof f->target->reason, "%s", reason);
	fallback_note(f, f->target, reason);
	return FLOW_TARGET;
}

static enum flow_state flow_authorising(struct flow *f)
{
	if (flow_is_over(f)) {
		if (f->op)
			billing_authorise_cancel(f->op);
		f->op = NULL;
		flow_release(f);
		return flow_over(f);
	}
	if (f->op)
		return FLOW_WAIT;
	switch (f->rc) {
	case RC_OK:
		return FLOW_OPEN;
	case RC_LIMIT:
		f->short_of_funds = true;
		return flow_pass_over(f, "insufficient_credits");
	case RC_DENIED:
		return flow_pass_over(f, "billing_not_allowed");
	default:
		f->billing_away = true;
		return flow_pass_over(f, "billing_unavailable");
	}
}

/* ---- OPEN: the provider's secret, for exactly this request --------------------------------------------------- */

static void flow_on_opened(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct flow *f = arg;

	f->opening = NULL;
	f->rc = rc;
	if (rc == RC_OK)
		f->rc = secret_from(secret_str(plain), &f->secret);
	flow_run(f);
}

static enum flow_state flow_open(struct flow *f)
{
	const struct profile *p = f->target->profile;

	if (!p->has_secret)
		return FLOW_SEND;
	f->opening = vault_open(f->worker, &p->secret, p->sealed, flow_on_opened, f);
	return FLOW_OPENING;
}

static enum flow_state flow_opening(struct flow *f)
{
	if (flow_is_over(f)) {
		vault_cancel(f->opening);
		f->opening = NULL;
		secret_clear(&f->secret);
		flow_release(f);
		return flow_over(f);
	}
	if (f->opening)
		return FLOW_WAIT;
	if (f->rc == RC_OK)
		return FLOW_SEND;
	/* A secret that does not open is reported, and never replaced by another payer's key. */
	flow_release(f);
	log_error("secret does not open", LOG_S("profile", f->target->profile->name),
		  LOG_STR("rc", rc_name(f->rc)));
	err_set(&f->err, RC_UNAVAILABLE, "no_route", "the secret of profile %.*s cannot be opened",
		STR_FMT(f->target->profile->name));
	err_hint(&f->err, f->rc == RC_CORRUPT
				  ? "an org admin must enter it again (rotate the profile)"
				  : "try again shortly");
	f->err.retry_after_s = f->rc == RC_CORRUPT ? 0 : 2;
	fallback_note(f, f->target, "secret_unavailable");
	return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
}

/* ---- SEND: one attempt goes out ---------------------------------------------------------------------------------- */

static void flow_kick(void *arg)
{
	flow_run(arg);
}

static void flow_on_head(void *arg, const struct curlm_response *r)
{
	struct flow *f = arg;

	f->status = r->status;
	f->event_stream = str_find_nocase(r->content_type, STR("text/event-stream")) == 0;
	f->retry_after_s = upstream_retry_after_s(r, clock_wall_ms());
	snprintf(f->provider_request_id, sizeof f->provider_request_id, "%.*s",
		 STR_FMT(r->request_id));
	secret_redact(&f->mark, f->provider_request_id, strlen(f->provider_request_id));
}

static bool flow_on_event(void *arg, const struct sse_event *ev);

static bool flow_on_body(void *arg, struct str bytes)
{
	struct flow *f = arg;

	if (f->class != ERROR_none)
		return false; /* failed: the cancel is on its way */
	if (f->status / 100 == 2 && f->call.stream && f->event_stream) {
		if (sse_feed(&f->sse, bytes, flow_on_event, f) != RC_OK) {
			f->class = ERROR_protocol;
			err_set(&f->class_err, RC_PROTOCOL, "protocol",
				"the provider sent an event that is too long");
		}
		if (f->class != ERROR_none)
			loop_defer(f->worker->loop, flow_kick, f);
		return f->class == ERROR_none && !f->paused;
	}
	if (f->status / 100 != 2 && f->answer.len + bytes.len > ROUTING_ERROR_MAX)
		bytes.len =
			f->answer.len < ROUTING_ERROR_MAX ? ROUTING_ERROR_MAX - f->answer.len : 0;
	if (buf_append(&f->answer, bytes) != RC_OK) {
		f->class = ERROR_protocol;
		err_set(&f->class_err, RC_TOO_LARGE, "protocol",
			"the provider's answer is too large");
		loop_defer(f->worker->loop, flow_kick, f);
		return false;
	}
	return true;
}

static void flow_on_done(void *arg, enum rc rc, const struct err *err)
{
	struct flow *f = arg;

	f->up = NULL;
	f->up_done = true;
	f->up_rc = rc;
	if (err)
		f->up_err = *err;
	f->upstream_us += clock_mono_us() - f->sent_us;
	flow_run(f);
}

static void attempt_reset(struct flow *f)
{
	buf_reset(&f->body);
	buf_reset(&f->answer);
	buf_reset(&f->held);
	buf_reset(&f->tail);
	sse_clear(&f->sse);
	sse_init(&f->sse, SSE_LINE_BYTES_MAX);
	f->ctx = (struct dialect_ctx){.mem = f->mem, .call = &f->call};
	f->usage = USAGE_NONE;
	f->finished = 0;
	f->text_bytes = 0;
	f->status = 0;
	f->event_stream = f->up_done = false;
	f->class = ERROR_none;
	f->retry_after_s = 0;
	f->provider_request_id[0] = '\0';
}

static enum flow_state flow_send(struct flow *f)
{
	const struct provider *p = f->target->provider;
	const int64_t left_ms =
		f->deadline_ms - clock_mono_ms() > 1 ? f->deadline_ms - clock_mono_ms() : 1;
	struct dialect_target to = {p, f->target->model, f->target->max_output_cap};
	enum rc rc;

	attempt_reset(f);
	rc = p->dialect->encode_request(&f->call, &to, f->mem, &f->body);
	f->attempts++; /* a hold belongs to the attempt of its number, sent or not */
	if (rc != RC_OK) {
		secret_clear(&f->secret);
		flow_release(f);
		return flow_pass_over(f, "capability_missing:text");
	}
	struct upstream_request u = {
		.target = f->target,
		.path = str_from(p->path_chat),
		.body = buf_str(&f->body),
		.stream = f->call.stream,
		.secret = f->target->profile->has_secret ? &f->secret : NULL,
		.timeouts = {.connect = left_ms < FLOW_CONNECT_MS ? left_ms : FLOW_CONNECT_MS,
			     .first_byte = left_ms < FLOW_FIRST_BYTE_MS || !f->call.stream
						   ? left_ms
						   : FLOW_FIRST_BYTE_MS,
			     .idle = FLOW_IDLE_MS,
			     .total = f->call.stream ? FLOW_STREAM_TOTAL_MS : left_ms},
		.body_bytes_max = f->call.stream ? ROUTING_STREAM_MAX : ROUTING_BODY_MAX,
		.client = f->req,
	};
	const struct curlm_handlers handlers = {flow_on_head, flow_on_body, flow_on_done, f};

	f->asked = f->target;
	f->sent_us = clock_mono_us();
	f->up = upstream_start(f->worker->curlm, &u, &handlers, f->mem);
	f->mark = secret_mark(&f->secret);
	secret_clear(&f->secret);
	return FLOW_RELAYING;
}

/* ---- RELAYING: events as they come; what failed before content goes to the next target --------------------------- */

static void flow_headers(struct flow *f)
{
	struct http_request *r = f->req;
	char number[32];

	if (f->target) {
		http_add_header(r, "x-tollgate-provider", str_from(f->target->provider->id));
		http_add_header(r, "x-tollgate-model", f->target->model);
		http_add_header(r, "x-tollgate-profile", f->target->profile->name);
		http_add_header(r, "x-tollgate-billing-source",
				str_from(billing_source_name(f->target->source)));
	}
	snprintf(number, sizeof number, "%d", f->attempts);
	http_add_header(r, "x-tollgate-attempts", str_from(number));
	if (f->fallback.len > 0)
		http_add_header(r, "x-tollgate-fallback", buf_str(&f->fallback));
}

static void flow_header_overhead(struct flow *f)
{
	const int64_t now = clock_mono_us();
	const int64_t waiting = f->up ? now - f->sent_us : 0;
	const int64_t own = now - f->started_us - f->upstream_us - waiting;
	char text[32];

	snprintf(text, sizeof text, "%lld.%03lld", (long long)(own / 1000),
		 (long long)(own % 1000));
	http_add_header(f->req, "x-tollgate-overhead-ms", str_from(text));
	hist_add(&routing_service(f->worker)->overhead, own);
}

static void limit_header(struct http_request *r, const char *what, int64_t limit, int64_t remaining,
			 int64_t reset_ms)
{
	char name[64], value[32];

	if (limit <= 0)
		return;
	snprintf(name, sizeof name, "x-ratelimit-limit-%s", what);
	snprintf(value, sizeof value, "%lld", (long long)limit);
	http_add_header(r, name, str_from(value));
	snprintf(name, sizeof name, "x-ratelimit-remaining-%s", what);
	snprintf(value, sizeof value, "%lld", (long long)(remaining > 0 ? remaining : 0));
	http_add_header(r, name, str_from(value));
	snprintf(name, sizeof name, "x-ratelimit-reset-%s", what);
	if (reset_ms < 1000)
		snprintf(value, sizeof value, "%lldms", (long long)reset_ms);
	else
		snprintf(value, sizeof value, "%llds", (long long)((reset_ms + 999) / 1000));
	http_add_header(r, name, str_from(value));
}

static void flow_header_limits(struct flow *f)
{
	const struct vault_limits *l = &f->limits;

	limit_header(f->req, "requests", l->requests_limit, l->requests_remaining,
		     l->requests_reset_ms);
	limit_header(f->req, "tokens", l->tokens_limit, l->tokens_remaining, l->tokens_reset_ms);
}

static void flow_on_keepalive(void *arg)
{
	struct flow *f = arg;

	if (!f->stream_begun) { /* nothing but a comment: the chain may still fall to another target */
		http_add_header(f->req, "Cache-Control", STR("no-cache"));
		http_add_header(f->req, "X-Accel-Buffering", STR("no"));
		flow_header_limits(f);
		http_stream_begin(f->req);
		f->stream_begun = true;
	}
	http_stream_write(f->req, STR(": keep-alive\n\n"));
	loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS, flow_on_keepalive, f);
}

static void flow_on_drain(void *arg)
{
	struct flow *f = arg;

	f->paused = false;
	if (f->up)
		curlm_resume(f->up);
}

static void stream_begin(struct flow *f)
{
	if (f->stream_begun)
		return;
	http_add_header(f->req, "Cache-Control", STR("no-cache"));
	http_add_header(f->req, "X-Accel-Buffering", STR("no"));
	flow_headers(f);
	flow_header_limits(f);
	flow_header_overhead(f);
	http_stream_begin(f->req);
	f->stream_begun = true;
}

static void stream_write(struct flow *f, struct str bytes)
{
	if (bytes.len == 0 || f->gone)
		return;
	if (!http_stream_write(f->req, bytes))
		f->paused = true;
	loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS, flow_on_keepalive, f);
}

/* The first content: from here on this target answers, whatever happens. */
static void content_begin(struct flow *f)
{
	if (f->content_sent)
		return;
	f->content_sent = true;
	f->first_event_us = clock_mono_us() - f->started_us;
	hist_add(&routing_service(f->worker)->first_event, f->first_event_us);
	loop_timer_clear(&f->deadline);
	stream_begin(f);
	stream_write(f, buf_str(&f->held));
	buf_reset(&f->held);
}

static void event_fail(struct flow *f, enum error_class class, const struct err *err)
{
	f->class = class;
	f->class_err = *err;
}

static void usage_replace(struct flow *f, const struct usage *u)
{
	const bool shrank = f->usage.present && (usage_total_in(u) < usage_total_in(&f->usage) ||
						 usage_total_out(u) < usage_total_out(&f->usage));
	const uint32_t flags = f->usage.flags;

	f->usage = *u; /* a snapshot so far: replaced, never summed */
	f->usage.flags |= flags | (shrank ? USAGE_FLAG_INCONSISTENT : 0);
}

static bool event_relay(struct flow *f, const struct sse_event *ev)
{
	AUTO(buf) struct buf out = BUF_INIT(FLOW_TAIL_MAX);
	struct facts facts = {.usage = USAGE_NONE};
	struct err words = {0};

	if (ev->comment) {
		if (f->content_sent && f->finished < f->call.choices)
			stream_write(f, ev->raw);
		return true;
	}
	if (f->call.dialect->decode_event(&f->ctx, ev, &facts) != RC_OK) {
		err_set(&words, RC_PROTOCOL, "protocol",
			"the provider sent an event that does not read");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	if (facts.error != ERROR_none) {
		event_fail(f, facts.error, &facts.err);
		return false;
	}
	if (facts.usage.present)
		usage_replace(f, &facts.usage);
	f->finished += facts.finished;
	f->text_bytes += facts.text_bytes;
	if (f->call.dialect->encode_event(&f->ctx, ev, &facts, &out) != RC_OK) {
		err_set(&words, RC_TOO_LARGE, "protocol",
			"the provider sent an event that is too long");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	if (f->finished >= f->call.choices || facts.terminal) {
		if (buf_append(&f->tail, buf_str(&out)) != RC_OK) {
			err_set(&words, RC_TOO_LARGE, "protocol",
				"the provider sent too much behind its last event");
			event_fail(f, ERROR_protocol, &words);
			return false;
		}
	} else if (facts.content || f->content_sent) {
		content_begin(f);
		stream_write(f, buf_str(&out));
	} else if (buf_append(&f->held, buf_str(&out)) != RC_OK) {
		err_set(&words, RC_TOO_LARGE, "protocol",
			"the provider sent too much before its first content");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	return true;
}

/* What an event is parsed into does not outlive it: a long stream takes no more memory than a short one. */
static bool flow_on_event(void *arg, const struct sse_event *ev)
{
	struct flow *f = arg;
	bool go_on;

	f->ctx.mem = arena_new(FLOW_EVENT_MAX);
	go_on = event_relay(f, ev);
	arena_free(f->ctx.mem);
	f->ctx.mem = f->mem;
	return go_on;
}

static void upstream_cancel(struct flow *f)
{
	if (!f->up)
		return;
	curlm_cancel(f->up);
	f->up = NULL;
	f->upstream_us += clock_mono_us() - f->sent_us;
}

static enum error_class class_of_rc(enum rc rc)
{
	switch (rc) {
	case RC_TIMEOUT:
		return ERROR_timeout;
	case RC_NETWORK:
	case RC_DENIED:
	case RC_UNAVAILABLE:
		return ERROR_network;
	default:
		return ERROR_protocol;
	}
}

/* What came back, once it is complete: ERROR_none if it is a whole answer. */
static enum error_class answer_judge(struct flow *f)
{
	struct facts facts = {.usage = USAGE_NONE};
	struct str body = buf_str(&f->answer);

	if (f->up_rc != RC_OK) {
		f->class_err = f->up_err;
		return class_of_rc(f->up_rc);
	}
	if (f->status / 100 != 2) {
		secret_redact(&f->mark, f->answer.ptr, f->answer.len);
		return f->call.dialect->classify(f->status, body, f->mem, &f->class_err);
	}
	if (f->call.stream && f->event_stream) {
		if (f->finished >= f->call.choices)
			return ERROR_none;
		err_set(&f->class_err, RC_PROTOCOL, "protocol",
			"the provider's stream ended early");
		return ERROR_protocol;
	}
	if (f->call.dialect->decode_response(&f->ctx, body, &facts) != RC_OK ||
	    (f->call.stream && facts.error == ERROR_none)) {
		err_set(&f->class_err, RC_PROTOCOL, "protocol",
			"the provider's answer does not read as one");
		return ERROR_protocol;
	}
	if (facts.error != ERROR_none) {
		f->class_err = facts.err;
		return facts.error;
	}
	if (facts.usage.present)
		usage_replace(f, &facts.usage);
	f->text_bytes = facts.text_bytes;
	return ERROR_none;
}

static void profile_out(struct flow *f, enum error_class class)
{
	for (size_t i = f->at; i < f->plan.candidates_count; i++) {
		struct candidate *c = &f->plan.candidates[i];

		if (c->use && uuid_eq(c->profile->id, f->target->profile->id)) {
			c->use = false;
			snprintf(c->reason, sizeof c->reason, "cooling_down:%s:60",
				 error_class_name(class));
		}
	}
}

/* The caller left a call that the provider goes on billing: it is paid for as far as we can tell. Where this process
 * stops, it was we who left. */
static bool flow_is_abandoned(const struct flow *f)
{
	return f->given_up && f->gone && !f->stopped && !atomic_load(&f->worker->service->draining);
}

/* Ended by us and no fault of the target. A tenant's short deadline says nothing about a target that all share: cooling
 * it for that would let one org shut it for the others. */
static bool is_our_impatience(const struct flow *f)
{
	const bool deadline = f->class == ERROR_timeout && clock_mono_ms() >= f->deadline_ms;

	return f->given_up || (deadline && f->target->source == BILLING_PLATFORM &&
			       clock_mono_us() - f->sent_us < FLOW_PATIENCE_MS * 1000);
}

static enum flow_state attempt_failed(struct flow *f)
{
	const struct error_policy *policy = error_policy(f->class);
	const struct org_id owner =
		f->target->source == BILLING_PLATFORM ? org_id_platform : f->who->org;

	/* the words may be of an event, or written in JSON's other ways */
	secret_redact(&f->mark, f->class_err.message, strlen(f->class_err.message));
	secret_redact(&f->mark, f->class_err.field, strlen(f->class_err.field));
	secret_redact(&f->mark, f->class_err.detail, strlen(f->class_err.detail));
	counter_add(&routing_service(f->worker)->attempts[f->class], 1);
	log_info("attempt failed", LOG_STR("target", f->target->target),
		 LOG_STR("class", error_class_name(f->class)), LOG_INT("status", f->status),
		 LOG_STR("words", f->class_err.message), LOG_STR("detail", f->class_err.detail));
	if (!is_our_impatience(f) && (policy->cool_profile || policy->cool_model))
		cooldown_start(f->rw, owner, f->target->profile,
			       policy->cool_profile ? STR("") : f->target->model, f->class,
			       f->retry_after_s);
	if (policy->cool_profile)
		profile_out(f, f->class);
	if (f->content_sent || flow_is_abandoned(f)) {
		f->why = f->gone ? FLOW_END_client_gone : FLOW_END_cut;
		return FLOW_SETTLE;
	}
	attempt_note(f, error_class_name(f->class), false);
	fallback_note(f, f->target, error_class_name(f->class));
	flow_release(f);
	if (f->class == ERROR_context_length && f->target->info)
		f->window_failed = f->target->info->context_window;
	if (!policy->fall_over || flow_is_over(f)) {
		enum rc rc =
			error_all_failed(f->class, &f->class_err, (int)f->retry_after_s, &f->err);

		return f->gone || f->stopped
			       ? flow_over(f)
			       : flow_refuse(f, rc,
					     f->timed_out ? FLOW_END_deadline : FLOW_END_failed);
	}
	counter_add(&routing_service(f->worker)->fallbacks, 1);
	return FLOW_TARGET;
}

/* It answered after a cooldown that is over: its next failure starts the growth anew. */
static void target_works(struct flow *f)
{
	const bool platform = f->target->source == BILLING_PLATFORM;
	const struct snapshot *s = platform ? f->set.platform : f->set.org;

	for (size_t i = 0; i < s->cooldowns_count; i++) {
		const struct cooldown *c = &s->cooldowns[i];

		if (uuid_eq(c->profile, f->target->profile->id) &&
		    (c->model.len == 0 || str_eq(c->model, f->target->model))) {
			cooldown_end(f->rw, s->org, f->target->profile, f->target->model);
			return;
		}
	}
}

static enum flow_state flow_relaying(struct flow *f)
{
	if (f->stopped || (f->timed_out && !f->content_sent)) {
		upstream_cancel(f);
		f->given_up |= f->stopped;
		if (f->class == ERROR_none) {
			f->class = ERROR_timeout;
			err_set(&f->class_err, RC_TIMEOUT, "timeout",
				f->stopped ? "the instance stopped" : "the call's time was up");
		}
		return attempt_failed(f);
	}
	if (f->class != ERROR_none) {
		upstream_cancel(f);
		return attempt_failed(f);
	}
	if (!f->up_done)
		return FLOW_WAIT;
	f->class = answer_judge(f);
	if (f->class != ERROR_none)
		return attempt_failed(f);
	f->why = f->gone ? FLOW_END_client_gone : FLOW_END_answered;
	target_works(f);
	return FLOW_SETTLE;
}

/* ---- SETTLE: what it cost, booked once, before the caller gets the last bytes -------------------------------------- */

static int64_t estimate_tokens(int64_t bytes)
{
	return (bytes + FLOW_BYTES_PER_TOKEN - 1) / FLOW_BYTES_PER_TOKEN;
}

/* A counter past what the call could use is clamped and flagged: a provider's slip is never the org's cost. The
 * bounds are those the hold was made with. */
static void usage_bound(struct flow *f)
{
	int64_t window = f->target->info ? f->target->info->context_window : 0;
	int64_t output = f->call.max_output ? f->call.max_output : f->target->max_output_cap;

	if (window <= 0 && f->target->source == BILLING_PLATFORM)
		window = PLAN_WINDOW_UNKNOWN_TOKENS;
	if (window > 0 && output > window)
		output = window;
	usage_clamp(&f->usage, window, output * f->call.choices);
}

static void usage_complete(struct flow *f)
{
	const bool cut = f->class != ERROR_none;

	if (!f->usage.present) {
		f->usage = USAGE_NONE;
		f->usage.flags = USAGE_FLAG_ESTIMATED;
		f->usage.n[USAGE_in_text] = estimate_tokens((int64_t)f->call.body_bytes);
		f->usage.n[USAGE_out_text] = estimate_tokens(f->text_bytes);
		f->basis = !cut	     ? BASIS_EST_MISSING
			   : f->gone ? BASIS_EST_DISCONNECT
				     : BASIS_EST_PARTIAL;
		if (cut && f->text_bytes == 0 && !flow_is_abandoned(f))
			/* failed and nothing delivered: insured */
			memset(f->usage.n, 0, sizeof f->usage.n);
	} else {
		f->basis = BASIS_PROVIDER_USAGE;
	}
	usage_bound(f);
}

static void flow_on_settled(void *arg, enum rc rc, money_t debited)
{
	struct flow *f = arg;

	f->op = NULL;
	f->rc = rc;
	f->debited = debited;
	f->settled = true;
	flow_run(f);
}

static struct billing_charge charge_of(struct flow *f, bool is_void)
{
	return (struct billing_charge){
		.org = f->who->org,
		.call = f->req->id,
		.attempt = f->attempts,
		.hold = f->hold,
		.source = f->target ? f->target->source : BILLING_PLATFORM,
		.provider = f->target ? str_from(f->target->provider->id) : STR(""),
		.model_requested = f->call.model,
		.model_used = f->target ? f->target->model : STR(""),
		.profile = f->target ? f->target->profile->name : STR(""),
		.key_id = f->who->key_id,
		.agent = f->call.agent,
		.dialect = str_from(f->call.dialect->name),
		.usage = is_void ? USAGE_NONE : f->usage,
		.rating = f->rating,
		.rated = f->rated,
		.basis = is_void ? BASIS_NONE : f->basis,
		.void_call = is_void,
		.attempts_json =
			arena_printf(f->mem, "[%.*s]", STR_FMT(buf_str(&f->attempts_json))),
		.plan_json = buf_str(&f->plan_json),
		.provider_request_id = str_from(f->provider_request_id),
		.duration_ms = (clock_mono_us() - f->started_us) / 1000,
		.first_event_ms = f->first_event_us / 1000,
	};
}

static enum flow_state flow_settle(struct flow *f)
{
	const int64_t left_ms = f->deadline_ms - clock_mono_ms();
	int64_t wait_ms = left_ms > FLOW_SETTLE_MIN_MS ? left_ms : FLOW_SETTLE_MIN_MS;
	enum rc rc = RC_NOT_FOUND;

	loop_timer_clear(&f->keepalive);
	loop_timer_clear(&f->drain);
	usage_complete(f);
	f->rating = (struct rating){.lines = 0};
	if (f->target->price)
		rc = price_rate(f->target->price, &f->usage, &f->rating);
	f->rated = rc == RC_OK;
	if (!f->rated && f->target->source == BILLING_PLATFORM) {
		/* Beyond what can be rated: the whole hold is taken, flagged, for finance to look at. */
		log_error("usage cannot be rated", LOG_STR("target", f->target->target),
			  LOG_STR("rc", rc_name(rc)));
		f->usage.flags |= USAGE_FLAG_CLASS_UNPRICED;
		f->rating.amount = f->hold.amount;
		f->rated = true;
	}
	attempt_note(f, f->class == ERROR_none ? "ok" : error_class_name(f->class), true);
	struct billing_charge charge = charge_of(f, false);

	f->timed_out = false;
	if (f->target->source != BILLING_PLATFORM)
		wait_ms = FLOW_SETTLE_OWN_MS;
	loop_timer_set(f->worker->loop, &f->deadline, wait_ms, flow_on_deadline, f);
	f->op = billing_settle(f->worker, &charge, flow_on_settled, f);
	return FLOW_SETTLING;
}

/* Usage of the org's own key or endpoint is no money: with Postgres away its caller is answered at once and the row is
 * booked behind. What the platform paid is never answered unbooked. */
static bool settle_can_wait(const struct flow *f)
{
	return f->target->source != BILLING_PLATFORM &&
	       (f->timed_out || f->stopped || !pg_is_up(f->worker->pg));
}

static enum flow_state flow_settling(struct flow *f)
{
	if (!f->settled && settle_can_wait(f)) {
		billing_settle_detach(f->op);
		f->op = NULL;
		return FLOW_ANSWER;
	}
	if (!f->settled && (f->timed_out || f->stopped)) {
		billing_settle_detach(
			f->op); /* the booking goes on; the caller must not take this for done */
		f->op = NULL;
		err_set(&f->err, RC_UNAVAILABLE, "billing_unavailable",
			"the call's cost cannot be booked now");
		err_hint(&f->err, "it will be booked once; GET /v1/generations/%s tells when",
			 f->req->id_text);
		f->err.retry_after_s = 5;
		f->why = f->stopped ? FLOW_END_stopped : FLOW_END_unbooked;
		f->rc = RC_UNAVAILABLE;
		return FLOW_ANSWER;
	}
	return f->settled ? FLOW_ANSWER : FLOW_WAIT;
}

/* ---- ANSWER and REFUSE: the last bytes ------------------------------------------------------------------------------- */

static struct str targets_json(struct flow *f)
{
	AUTO(buf) struct buf list = BUF_INIT(FLOW_PLAN_TEXT);
	struct json_out o;

	json_out_begin(&o, &list);
	json_arr(&o, NULL);
	for (size_t i = 0; i < f->plan.candidates_count; i++) {
		const struct candidate *c = &f->plan.candidates[i];

		json_obj(&o, NULL);
		json_put_z(&o, "target", c->target);
		json_put_z(&o, "billing_source", billing_source_name(c->source));
		json_put_z(&o, "reason", c->reason[0] ? c->reason : NULL);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	if (json_out_end(&o) != RC_OK)
		return STR("");
	return arena_printf(f->mem, "\"targets\":%.*s", STR_FMT(buf_str(&list)));
}

static struct str error_extra(struct flow *f)
{
	struct str targets = targets_json(f);
	char needed[MONEY_TEXT_SIZE], available[MONEY_TEXT_SIZE], held[MONEY_TEXT_SIZE];

	if (!f->short_of_funds)
		return targets;
	money_format(f->shortfall.needed, needed);
	money_format(f->shortfall.available, available);
	money_format(f->shortfall.held, held);
	return arena_printf(f->mem, "\"needed\":\"%s\",\"available\":\"%s\",\"held\":\"%s\"%s%.*s",
			    needed, available, held, targets.len ? "," : "", STR_FMT(targets));
}

static void error_event(struct flow *f)
{
	AUTO(buf) struct buf out = BUF_INIT(FLOW_PLAN_TEXT);
	struct str tollgate = arena_printf(f->mem, "{\"code\":\"%s\",\"request_id\":\"%s\"}",
					   f->err.code, f->req->id_text);

	if (f->call.dialect->encode_error_event(&f->err, tollgate, &out) == RC_OK)
		http_stream_write(f->req, buf_str(&out));
	http_stream_end(f->req);
}

static void error_reply(struct flow *f)
{
	AUTO(buf) struct buf body = BUF_INIT(2 * FLOW_PLAN_TEXT);
	struct error_answer a = error_answer(f->rc, &f->err);
	int status =
		error_render(f->rc, &f->err, f->req->id_text, "openai_chat", error_extra(f), &body);

	flow_headers(f);
	flow_header_limits(f);
	flow_header_overhead(f);
	routing_add_error_headers(f->req, &a);
	http_reply(f->req, status, buf_str(&body));
}

static enum flow_state flow_answer(struct flow *f)
{
	char cost[MONEY_TEXT_SIZE];

	if (f->class != ERROR_none && f->why == FLOW_END_cut)
		(void)error_all_failed(f->class, &f->class_err, 0,
				       &f->err); /* its words, not its status: that is gone */
	if (f->err.code && f->why != FLOW_END_answered) {
		if (f->stream_begun)
			error_event(f);
		else
			error_reply(f);
		return FLOW_DONE;
	}
	if (f->call.stream) {
		stream_begin(f);
		stream_write(f, buf_str(&f->held));
		stream_write(f, buf_str(&f->tail));
		http_stream_end(f->req);
		return FLOW_DONE;
	}
	http_add_header(f->req, "Cache-Control", STR("private, no-store"));
	http_add_header(f->req, "Vary", STR("Authorization"));
	flow_headers(f);
	flow_header_limits(f);
	http_add_header(f->req, "x-tollgate-cost", money_format(f->debited, cost));
	flow_header_overhead(f);
	http_reply(f->req, 200, buf_str(&f->answer));
	return FLOW_DONE;
}

/* A call that somebody was asked for and nobody answered leaves a row that says so; any other leaves none. */
static void book_void(struct flow *f)
{
	if (f->attempts == 0)
		return;
	f->target = f->asked;
	struct billing_charge charge = charge_of(f, true);

	billing_settle_detach(billing_settle(f->worker, &charge, flow_on_settled, f));
}

static enum flow_state flow_refusal(struct flow *f)
{
	loop_timer_clear(&f->keepalive);
	book_void(f);
	if (f->stream_begun)
		error_event(f);
	else
		error_reply(f);
	return FLOW_DONE;
}

/* ---- DONE, and the one loop -------------------------------------------------------------------------------------------- */

static void flow_log(const struct flow *f)
{
	struct routing_service *s = routing_service(f->worker);
	const int64_t took_us = clock_mono_us() - f->started_us;

	counter_add(&s->calls[f->why != FLOW_END_answered], 1);
	counter_add(&s->tokens_in, (uint64_t)usage_total_in(&f->usage));
	counter_add(&s->tokens_out, (uint64_t)usage_total_out(&f->usage));
	hist_add(&s->duration, took_us);
	log_info("call", LOG_STR("why", end_names[f->why]),
		 LOG_S("gen_ai.request.model", f->call.model),
		 LOG_STR("target", f->target ? f->target->target : NULL),
		 LOG_STR("provider", f->target ? f->target->provider->id : NULL),
		 LOG_STR("billing_source",
			 f->target ? billing_source_name(f->target->source) : NULL),
		 LOG_UUID("key_id", f->who->key_id), LOG_BOOL("stream", f->call.stream),
		 LOG_INT("attempts", f->attempts), LOG_S("fallback", buf_str(&f->fallback)),
		 LOG_INT("gen_ai.usage.input_tokens", usage_total_in(&f->usage)),
		 LOG_INT("gen_ai.usage.output_tokens", usage_total_out(&f->usage)),
		 LOG_INT("debited_nano", f->debited.nano), LOG_STR("code", f->err.code),
		 LOG_INT("duration_ms", took_us / 1000),
		 LOG_INT("first_event_ms", f->first_event_us / 1000),
		 LOG_INT("overhead_us", took_us - f->upstream_us));
}

static void flow_free(struct flow *f)
{
	if (f->draining_up)
		atomic_fetch_sub(&routing_service(f->worker)->drains, 1);
	if (f->tokens_reserved)
		vault_limits_correct(f->who->key_id, f->tokens_reserved,
				     usage_total_in(&f->usage) + usage_total_out(&f->usage),
				     f->reserved_at_ms);
	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
	atomic_fetch_sub(&f->worker->service->calls_open, 1);
	loop_defer_cancel(f->worker->loop, flow_kick, f);
	loop_timer_clear(&f->deadline);
	loop_timer_clear(&f->keepalive);
	loop_timer_clear(&f->drain);
	snapshot_set_clear(&f->set);
	price_book_unref(f->book);
	secret_clear(&f->secret);
	sse_clear(&f->sse);
	buf_clear(&f->body);
	buf_clear(&f->answer);
	buf_clear(&f->held);
	buf_clear(&f->tail);
	buf_clear(&f->fallback);
	buf_clear(&f->attempts_json);
	buf_clear(&f->plan_json);
	arena_free(f->mem);
	free(f);
}

static enum flow_state (*const flow_do[FLOW_STATE_COUNT])(struct flow *) = {
	[FLOW_DECODE] = flow_decode,	       [FLOW_RESOLVE] = flow_resolve,
	[FLOW_RESOLVING] = flow_resolving,     [FLOW_PLAN] = flow_plan,
	[FLOW_TARGET] = flow_target,	       [FLOW_AUTHORISE] = flow_authorise,
	[FLOW_AUTHORISING] = flow_authorising, [FLOW_OPEN] = flow_open,
	[FLOW_OPENING] = flow_opening,	       [FLOW_SEND] = flow_send,
	[FLOW_RELAYING] = flow_relaying,       [FLOW_SETTLE] = flow_settle,
	[FLOW_SETTLING] = flow_settling,       [FLOW_ANSWER] = flow_answer,
	[FLOW_REFUSE] = flow_refusal,
};

/* The only loop in the flow. A callback that comes while it runs is seen by the state it runs into. */
static void flow_run(struct flow *f)
{
	const struct log_context *before;
	enum flow_state next;

	if (f->running)
		return;
	f->running = true;
	before = log_context_set(&f->log);
	while (f->state != FLOW_DONE && (next = flow_do[f->state](f)) != FLOW_WAIT) {
		f->state = next;
		f->log.state = state_names[next];
	}
	f->running = false;
	if (f->state == FLOW_DONE) {
		flow_log(f);
		log_context_set(before);
		flow_free(f);
		return;
	}
	log_context_set(before);
}

static void flow_on_drain_over(void *arg)
{
	struct flow *f = arg;

	if (f->class == ERROR_none) {
		f->given_up = true;
		f->class = ERROR_timeout;
		err_set(&f->class_err, RC_TIMEOUT, "timeout",
			"the caller left and the provider did not end in time");
	}
	flow_run(f);
}

/* The caller left. Before anything was sent the call just ends; while a provider is answering it is read on, within
 * bounds, because it bills what it makes and only its own usage is exact. */
static void flow_on_gone(void *arg)
{
	struct flow *f = arg;
	struct routing_service *s = routing_service(f->worker);

	f->gone = true;
	loop_timer_clear(&f->keepalive);
	if (f->state == FLOW_RELAYING && f->up) {
		f->draining_up = atomic_fetch_add(&s->drains, 1) < ROUTING_DRAINS_MAX &&
				 !atomic_load(&f->worker->service->draining);
		if (!f->draining_up)
			atomic_fetch_sub(&s->drains, 1);
		loop_timer_set(f->worker->loop, &f->drain, f->draining_up ? ROUTING_DRAIN_MS : 1,
			       flow_on_drain_over, f);
		if (f->paused)
			flow_on_drain(f);
		return;
	}
	flow_run(f);
}

void flow_chat_completions(struct http_request *r)
{
	struct flow *f = flow_new(r);

	http_on_gone(r, flow_on_gone, f);
	http_on_drain(r, flow_on_drain, f);
	if (!f->gone)
		f->state = FLOW_DECODE;
	flow_run(f);
}

void flow_end_all(struct routing_worker *rw)
{
	struct flow *f, *next;

	for (f = rw->flows; f; f = next) {
		next = f->next;
		f->stopped = true;
		flow_run(f); /* every state takes `stopped` to its end at once */
	}
}
