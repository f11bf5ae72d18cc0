/* routing/flow.c - the life of a call. Read this first.
 *
 *   DECODE -> RESOLVE(ING) -> FIND/ING -> PLAN -> TARGET -> ENCODE -> AUTHORISE/ING -> OPEN(ING) -> SEND -> RELAYING
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
#include "routing/flow_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/pg.h"

#define FLOW_ARENA_MAX (512u << 20) /* decode tree, plan, what stands between two dialects */
#define FLOW_ARENA_RESERVE                                                                         \
	(64u << 20) /* names of fields, ids: some hundred bytes for each of CHAT_PARTS_MAX */
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
	10000 /* a caller at its deadline still waits this long for the booking */

const char *const flow_state_names[FLOW_STATE_COUNT] = {
#define X(name) #name,
	FLOW_STATES(X)
#undef X
};

static struct flow *flow_new(struct http_request *r, const struct dialect *dialect,
			     const struct call_head *head)
{
	struct flow *f = calloc(1, sizeof *f);

	if (!f)
		abort();
	f->req = r;
	f->call.dialect = dialect;
	f->head = *head;
	f->worker = r->worker;
	f->rw = routing_worker(r->worker);
	f->who = vault_principal(r);
	f->mem = arena_new(FLOW_ARENA_MAX);
	arena_reserve(f->mem, FLOW_ARENA_RESERVE);
	f->started_us = r->accepted_us;
	f->usage = USAGE_NONE;
	f->log = (struct log_context){
		.request_id = r->id_text, .org = f->who->org, .state = flow_state_names[0]};
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

/* What its key may use, and of that what the call asked for. */
static bool bind_to_key(struct flow *f)
{
	enum billing_source source;
	uint32_t may = 0;

	f->call.providers = f->who->providers;
	f->call.providers_count = f->who->providers_count;
	for (size_t i = 0; i < f->who->billing_count; i++)
		if (billing_source_parse(f->who->billing[i], &source) == RC_OK)
			may |= 1u << source;
	if (f->who->billing_count == 0)
		return true;
	f->call.billing_allowed = f->call.billing_allowed ? f->call.billing_allowed & may : may;
	if (f->call.billing_allowed)
		return true;
	err_set(&f->err, RC_DENIED, "permission_denied",
		"this API key may not use the billing sources of x-tollgate-billing");
	err_hint(&f->err, "the key's list billing decides; an org admin can change it");
	return false;
}

static enum flow_state flow_decode(struct flow *f)
{
	struct http_request *r = f->req;
	struct str billing = http_header(r, "x-tollgate-billing");
	enum rc rc = f->call.dialect->decode_request(&f->head, r->body, f->mem, &f->call, &f->err);

	if (rc != RC_OK)
		return flow_refuse(f, rc, FLOW_END_refused);
	f->call.agent = http_header(r, "x-tollgate-agent");
	f->call.intent = http_header(r, "x-tollgate-intent");
	f->call.session = http_header(r, "x-tollgate-session");
	if (billing.ptr && !read_billing_header(f, billing))
		return flow_refuse(f, RC_INVALID, FLOW_END_refused);
	if (!bind_to_key(f))
		return flow_refuse(f, RC_DENIED, FLOW_END_refused);
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
		return FLOW_FIND;
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

/* Left, stopped, revoked or out of time while nothing has been sent: nothing to pay, nothing to wait for. */
static bool flow_is_over(const struct flow *f)
{
	return f->gone || f->timed_out || f->stopped || revoke_is_of_caller(f);
}

static enum flow_state flow_revoked(struct flow *f)
{
	const enum rc rc = revoke_words(f);

	counter_add(&routing_service(f->worker)->revoked, 1);
	return flow_refuse(f, rc, FLOW_END_revoked);
}

static enum flow_state flow_over(struct flow *f)
{
	if (revoke_is_of_caller(f) && !f->gone && !f->stopped)
		return flow_revoked(f);
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
	return FLOW_FIND;
}

/* ---- FIND: who keeps the response, conversation or file that this call builds on ------------------------------ */

static void flow_on_found(void *arg, enum rc rc)
{
	struct flow *f = arg;

	f->finding = NULL;
	f->rc = rc;
	flow_run(f);
}

static enum flow_state flow_find(struct flow *f)
{
	if (f->call.states_count == 0)
		return FLOW_PLAN;
	f->finding = kept_find(f->worker, f->who->org, &f->call, f->mem, flow_on_found, f);
	return FLOW_FINDING;
}

static enum flow_state flow_finding(struct flow *f)
{
	if (flow_is_over(f)) {
		if (f->finding)
			kept_find_cancel(f->finding);
		f->finding = NULL;
		return flow_over(f);
	}
	if (f->finding)
		return FLOW_WAIT;
	if (f->rc == RC_OK)
		return FLOW_PLAN;
	err_set(&f->err, RC_UNAVAILABLE, "unavailable",
		"who keeps what %s names cannot be looked up now", f->call.states[0].field);
	err_hint(&f->err, "try again shortly");
	f->err.retry_after_s = 2;
	return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
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
	if (f->call.stream && flow_has_keepalive(f))
		loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS,
			       flow_on_keepalive, f);
	return FLOW_TARGET;
}

/* ---- TARGET: the next candidate, or the end of the chain ----------------------------------------------- */

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

/* Whose money falls short: the org's, or what a budget leaves of it. */
static struct str funds_words(struct flow *f, bool passes, const char **hint)
{
	const struct billing_shortfall *s = &f->shortfall;
	char needed[MONEY_TEXT_SIZE], available[MONEY_TEXT_SIZE], held[MONEY_TEXT_SIZE];
	const money_t left = money_cmp(s->available, MONEY_ZERO) < 0 ? MONEY_ZERO : s->available;

	money_format_short(s->needed, needed);
	money_format_short(left, available);
	money_format_short(s->held, held);
	if (uuid_is_zero(s->budget)) {
		*hint = passes ? "try again when calls in flight have ended"
			       : "top up the org's credits, or set a smaller max_tokens";
		return arena_printf(f->mem,
				    "this call can cost %s credits; %s are available and %s are "
				    "held by calls in flight",
				    needed, available, held);
	}
	*hint = passes ? "try again when calls in flight have ended"
		       : "an org admin can raise the budget; a smaller max_tokens needs less of it";
	return arena_printf(f->mem,
			    "over budget: this call can cost %s credits; the budget %s leaves %s "
			    "and %s are held by calls in flight",
			    needed, s->budget_name, available, held);
}

static enum flow_state refuse_for_funds(struct flow *f)
{
	money_t both = MONEY_ZERO;
	/* All of it is held by calls in flight: it passes with time. */
	const bool passes = money_add(f->shortfall.available, f->shortfall.held, &both) == RC_OK &&
			    money_cmp(both, f->shortfall.needed) >= 0;
	const char *hint;
	struct str words = funds_words(f, passes, &hint);

	err_set(&f->err, RC_LIMIT, passes ? "rate_limit_exceeded" : "insufficient_quota", "%.*s",
		STR_FMT(words));
	err_hint(&f->err, "%s", hint);
	f->err.retry_after_s = passes ? 1 : 0;
	return flow_refuse(f, RC_LIMIT, passes ? FLOW_END_no_target : FLOW_END_refused);
}

/* Nobody was asked, or nobody is left to ask. Of mixed reasons what passes with time wins, then the purse. */
static enum flow_state flow_no_target(struct flow *f)
{
	const int64_t wait_ms = earliest_ms(&f->plan);
	enum rc rc;

	if (f->revoked == REVOKED_PROFILE) /* the last that was asked */
		return flow_revoked(f);
	if (f->attempts > 0) {
		rc = error_all_failed(f->class, &f->class_err, (int)((wait_ms + 999) / 1000),
				      &f->err);
		return flow_refuse(f, rc, FLOW_END_failed);
	}
	if (f->unsupported.code && wait_ms == 0 && !f->billing_away && !f->short_of_funds) {
		f->err = f->unsupported; /* the caller can mend it, and nobody else */
		return flow_refuse(f, RC_INVALID, FLOW_END_refused);
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
			flow_note_fallback(f, c, c->reason);
			continue;
		}
		if (f->attempts >= f->plan.max_attempts)
			break;
		f->target = c;
		f->stateless = false;
		return FLOW_ENCODE;
	}
	return flow_no_target(f);
}

/* ---- ENCODE: the question in the target's own words, before anything is held for it --------------------------- */

static enum flow_state flow_pass_over(struct flow *f, const char *reason)
{
	f->target->use = false;
	snprintf(f->target->reason, sizeof f->target->reason, "%s", reason);
	flow_note_fallback(f, f->target, reason);
	return FLOW_TARGET;
}

/* A reason becomes a header: what a field's name may not have there is left out. */
static enum flow_state pass_over_field(struct flow *f, const struct err *err)
{
	char reason[sizeof f->target->reason];
	int n = snprintf(reason, sizeof reason, "capability_missing:%s",
			 err->field[0] ? err->field : "request");

	f->unsupported = *err;
	for (int i = 0; i < n && i < (int)sizeof reason - 1; i++)
		if (reason[i] <= ' ' || reason[i] > '~' || reason[i] == ',' || reason[i] == '=')
			reason[i] = '_';
	return flow_pass_over(f, reason);
}

/* Where the caller's dialect is the target's its bytes go on; else what it asked is read whole, once. */
static enum rc encode(struct flow *f, struct err *err)
{
	const struct dialect *there = f->to.dialect;

	if (!flow_translates(f))
		return there->encode_request(&f->call, &f->to, f->mem, &f->out, err);
	if (!f->ask) {
		struct ask *ask = ARENA_NEW(f->mem, struct ask);

		ask->operation = f->call.operation;
		TRY(f->call.dialect->decode_ask(&f->call, f->mem, ask, err));
		f->ask = ask;
	}
	return there->encode_ask(&f->call, f->ask, &f->to, f->mem, &f->out, err);
}

/* Nothing is written yet to the target in work, by this endpoint of it. */
static void target_by(struct flow *f, const struct provider_endpoint *e)
{
	const struct candidate *c = f->target;

	buf_reset(&f->body);
	f->to = (struct dialect_target){
		.provider = c->provider,
		.dialect = e->dialect,
		.model = c->model,
		.max_output_cap = c->max_output_cap,
		.max_output_known = c->info ? c->info->max_output : 0,
		.stateless = f->stateless,
	};
	f->out = (struct outgoing){
		.body = &f->body,
		.path = upstream_path(e, c->model, f->call.stream, f->mem),
		.content_type = STR("application/json"),
	};
	/* written anew it is about as long */
	if (flow_translates(f) &&
	    buf_reserve(&f->body, f->call.body_bytes + OUTGOING_SLACK) != RC_OK)
		return; /* past the cap: whoever writes is told */
}

static enum flow_state flow_encode(struct flow *f)
{
	const struct candidate *c = f->target;
	struct err err = {0};
	enum rc rc;

	target_by(f, c->endpoint);
	rc = encode(f, &err);
	/* what its own language has no words for another that it speaks may have */
	for (const struct provider_endpoint *e = c->provider->endpoints;
	     rc == RC_UNSUPPORTED && e->dialect; e++) {
		if (e == c->endpoint || e->dialect->operation != f->call.operation ||
		    !e->dialect->encode_ask)
			continue;
		target_by(f, e);
		rc = encode(f, &(struct err){0});
	}
	switch (rc) {
	case RC_OK:
		return c->source == BILLING_PLATFORM && !flow_is_free(f) ? FLOW_AUTHORISE
									 : FLOW_OPEN;
	case RC_UNSUPPORTED:
		return pass_over_field(f, &err);
	case RC_INVALID:
		f->err = err;
		return flow_refuse(f, rc, FLOW_END_refused);
	default: /* past a bound of ours */
		err_set(&f->err, RC_TOO_LARGE, "request_too_large",
			"the request is too large to be written for %s", c->provider->label);
		return flow_refuse(f, RC_TOO_LARGE, FLOW_END_refused);
	}
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

	const struct billing_payer payer = {.key_id = f->who->key_id, .agent = f->call.agent};

	f->op = billing_authorise(f->worker, f->who->org, f->req->id, f->attempts + 1, &payer,
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
		return flow_pass_over(f, uuid_is_zero(f->shortfall.budget) ? "insufficient_credits"
									   : "limit_reached");
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
	f->retry_after_s = rc == RC_OK ? 0 : err->retry_after_s;
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
	if (f->rc == RC_CORRUPT) {
		err_set(&f->err, RC_UNAVAILABLE, "no_route",
			"the secret of profile %.*s cannot be opened",
			STR_FMT(f->target->profile->name));
		err_hint(&f->err, "an org admin must enter it again (rotate the profile)");
	} else { /* ours is what is missing, not a target: 503 */
		err_set(&f->err, RC_UNAVAILABLE, "vault_unavailable",
			"the secret of profile %.*s cannot be opened now",
			STR_FMT(f->target->profile->name));
		err_hint(&f->err, "try again shortly");
		f->err.retry_after_s = f->retry_after_s > 0 ? (int)f->retry_after_s : 2;
	}
	snprintf(f->target->reason, sizeof f->target->reason, "secret_unavailable");
	flow_note_fallback(f, f->target, "secret_unavailable");
	return flow_refuse(f, RC_UNAVAILABLE, FLOW_END_no_target);
}

/* ---- SEND: one attempt goes out ---------------------------------------------------------------------------------- */

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

static enum flow_state flow_send(struct flow *f)
{
	const int64_t left_ms =
		f->deadline_ms - clock_mono_ms() > 1 ? f->deadline_ms - clock_mono_ms() : 1;

	flow_attempt_reset(f);
	f->attempts++; /* a hold belongs to the attempt of its number */
	struct upstream_request u = {
		.target = f->target,
		.path = f->out.path,
		.body = f->out.pieces_count ? STR_NULL : buf_str(&f->body),
		.pieces = f->out.pieces,
		.pieces_count = f->out.pieces_count,
		.content_type = f->out.content_type,
		.same_dialect = !flow_translates(f),
		.stream = f->call.stream,
		.any_type = f->call.bytes || f->to.dialect->media ||
			    f->call.operation == OPERATION_transcription,
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
	assert(!revoke_is_of_caller(f)); /* nothing goes out for who is gone */
	f->revoked = REVOKED_NOT;	 /* what stood there was of the attempt before */
	f->sent_us = clock_mono_us();
	f->up = upstream_start(f->worker->curlm, &u, &handlers, f->mem);
	f->mark = secret_mark(&f->secret);
	secret_clear(&f->secret);
	f->recheck = f->outdated; /* the profile may be gone since the plan was made */
	return FLOW_RELAYING;
}

/* ---- RELAYING: events as they come; what failed before content goes to the next target --------------------------- */

static void profile_out(struct flow *f, const char *why)
{
	for (size_t i = f->at; i < f->plan.candidates_count; i++) {
		struct candidate *c = &f->plan.candidates[i];

		if (c->use && uuid_eq(c->profile->id, f->target->profile->id)) {
			c->use = false;
			snprintf(c->reason, sizeof c->reason, "%s", why);
		}
	}
}

/* The caller left a call that the provider goes on billing: it is paid for as far as we can tell. Where this process
 * stops, it was we who left. */
bool flow_is_abandoned(const struct flow *f)
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

/* For those who ask why: `reason` of the target in work, and when it may be asked again where it said so. */
static void target_failed(struct flow *f, const char *reason, bool passes)
{
	struct candidate *c = f->target;

	c->use = false;
	snprintf(c->reason, sizeof c->reason, "%s", reason);
	c->retry_after_ms = passes && f->retry_after_s > 0 ? f->retry_after_s * 1000 : 0;
	flow_note_fallback(f, c, reason);
}

/* The reasoning that the caller kept was made by another provider of the same dialect. Only the target could tell, and it
 * can answer without. */
static bool refused_state(const struct flow *f)
{
	return f->class == ERROR_invalid_request && !f->stateless && !flow_translates(f) &&
	       f->to.dialect->refuses_state && f->to.dialect->refuses_state(&f->class_err) &&
	       f->attempts < f->plan.max_attempts && !flow_is_over(f);
}

static enum flow_state attempt_failed(struct flow *f)
{
	const struct error_policy *policy = error_policy(f->class);
	const struct org_id owner =
		f->target->source == BILLING_PLATFORM ? org_id_platform : f->who->org;
	char cooling[64];

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
	if (policy->cool_profile) {
		snprintf(cooling, sizeof cooling, "cooling_down:%s:60", error_class_name(f->class));
		profile_out(f, cooling);
	}
	if (f->content_sent || flow_is_abandoned(f)) {
		f->why = f->gone ? FLOW_END_client_gone : FLOW_END_cut;
		return FLOW_SETTLE;
	}
	flow_note_attempt(f, error_class_name(f->class), false);
	target_failed(f, error_class_name(f->class), policy->retry_same);
	flow_release(f);
	if (refused_state(f)) {
		f->stateless = true;
		return FLOW_ENCODE;
	}
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

/* Its key, its org or the profile it was sent to is gone. No fault of the target: nothing cools. What the caller has
 * got is settled; before that a call of a good key goes on to its next target. */
static enum flow_state attempt_revoked(struct flow *f)
{
	const bool of_caller = revoke_is_of_caller(f);

	flow_upstream_cancel(f);
	f->given_up = f->gone;
	f->class = ERROR_permission;
	err_set(&f->class_err, RC_DENIED, "permission", "revoked while the call ran");
	if (f->content_sent || flow_is_abandoned(f)) {
		counter_add(&routing_service(f->worker)->revoked, 1);
		f->rc = revoke_words(f);
		f->why = f->gone ? FLOW_END_client_gone : FLOW_END_revoked;
		return FLOW_SETTLE;
	}
	flow_note_attempt(f, "revoked", false);
	flow_release(f);
	if (of_caller)
		return flow_revoked(f);
	target_failed(f, "revoked", false);
	profile_out(f, "revoked");
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
		flow_upstream_cancel(f);
		f->given_up |= f->stopped;
		if (f->class == ERROR_none) {
			f->class = ERROR_timeout;
			err_set(&f->class_err, RC_TIMEOUT, "timeout",
				f->stopped ? "the instance stopped" : "the call's time was up");
		}
		return attempt_failed(f);
	}
	if (f->class != ERROR_none) {
		flow_upstream_cancel(f);
		return attempt_failed(f);
	}
	/* A caller who left is told nothing; the provider is read on for what it bills. */
	if (f->revoked != REVOKED_NOT && !(f->gone && revoke_is_of_caller(f)))
		return attempt_revoked(f);
	if (f->recheck) {
		f->recheck = false;
		revoke_suspect(f);
	}
	if (!f->up_done)
		return FLOW_WAIT;
	f->class = flow_answer_judge(f);
	if (f->class != ERROR_none)
		return attempt_failed(f);
	f->why = f->gone ? FLOW_END_client_gone : FLOW_END_answered;
	target_works(f);
	return FLOW_SETTLE;
}

/* ---- SETTLE: what it cost, booked once, before the caller gets the last bytes -------------------------------------- */

static void flow_on_settled(void *arg, enum rc rc, money_t debited)
{
	struct flow *f = arg;

	f->op = NULL;
	f->rc = rc;
	f->debited = debited;
	f->settled = true;
	flow_run(f);
}

static void flow_on_noted(void *arg)
{
	struct flow *f = arg;

	f->noting = NULL;
	flow_run(f);
}

static enum flow_state flow_settle(struct flow *f)
{
	const int64_t left_ms = f->deadline_ms - clock_mono_ms();
	int64_t wait_ms = left_ms > FLOW_SETTLE_MIN_MS ? left_ms : FLOW_SETTLE_MIN_MS;

	loop_timer_clear(&f->keepalive);
	loop_timer_clear(&f->drain);
	flow_usage_complete(f);
	flow_rate(f);
	flow_note_attempt(f,
			  f->class == ERROR_none      ? "ok"
			  : f->revoked != REVOKED_NOT ? "revoked"
						      : error_class_name(f->class),
			  true);
	struct billing_charge charge = flow_charge(f, false);

	f->timed_out = false;
	if (f->target->source != BILLING_PLATFORM)
		wait_ms = FLOW_SETTLE_OWN_MS;
	loop_timer_set(f->worker->loop, &f->deadline, wait_ms, flow_on_deadline, f);
	f->op = billing_settle(f->worker, &charge, flow_on_settled, f);
	if (f->kept_id.len > 0) /* before its last bytes: the next call may come at once */
		f->noting = kept_note(f->worker, f->who->org, f->kept_kind, f->kept_id,
				      f->target->profile->id, f->mem, flow_on_noted, f);
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
	return f->settled && !(f->noting && !f->timed_out && !f->stopped) ? FLOW_ANSWER : FLOW_WAIT;
}

/* ---- ANSWER and REFUSE: the last bytes ------------------------------------------------------------------------------- */

static enum flow_state flow_answer(struct flow *f)
{
	char cost[MONEY_TEXT_SIZE];

	if (f->class != ERROR_none && f->why == FLOW_END_cut)
		(void)error_all_failed(f->class, &f->class_err, 0,
				       &f->err); /* its words, not its status: that is gone */
	if (f->err.code && f->why != FLOW_END_answered) {
		if (f->stream_begun)
			flow_error_event(f);
		else
			flow_error_reply(f);
		return FLOW_DONE;
	}
	if (f->call.stream) {
		flow_stream_begin(f);
		flow_stream_write(f, buf_str(&f->held));
		flow_stream_write(f, buf_str(&f->tail));
		http_stream_end(f->req);
		return FLOW_DONE;
	}
	http_add_header(f->req, "Cache-Control", STR("private, no-store"));
	http_add_header(f->req, "Vary", STR("Authorization"));
	flow_headers(f);
	flow_header_limits(f);
	http_add_header(f->req, "x-tollgate-cost", money_format(f->debited, cost));
	flow_header_overhead(f);
	http_reply_typed(f->req, 200, f->ctx.answer_type ? f->ctx.answer_type : "application/json",
			 buf_str(&f->answer));
	return FLOW_DONE;
}

/* A call that somebody was asked for and nobody answered leaves a row that says so; any other leaves none. */
static void book_void(struct flow *f)
{
	if (f->attempts == 0)
		return;
	f->target = f->asked;
	struct billing_charge charge = flow_charge(f, true);

	billing_settle_detach(billing_settle(f->worker, &charge, flow_on_settled, f));
}

static enum flow_state flow_refusal(struct flow *f)
{
	loop_timer_clear(&f->keepalive);
	book_void(f);
	if (f->stream_begun)
		flow_error_event(f);
	else
		flow_error_reply(f);
	return FLOW_DONE;
}

/* ---- DONE, and the one loop -------------------------------------------------------------------------------------------- */

static void flow_free(struct flow *f)
{
	if (f->draining_up)
		atomic_fetch_sub(&routing_service(f->worker)->drains, 1);
	if (f->tokens_reserved)
		vault_limits_correct(f->who->key_id, f->tokens_reserved,
				     usage_total_in(&f->usage) + usage_total_out(&f->usage),
				     f->reserved_at_ms);
	if (f->noting)
		kept_note_cancel(f->noting);
	revoke_forget(f);
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
	[FLOW_DECODE] = flow_decode,	   [FLOW_RESOLVE] = flow_resolve,
	[FLOW_RESOLVING] = flow_resolving, [FLOW_FIND] = flow_find,
	[FLOW_FINDING] = flow_finding,	   [FLOW_PLAN] = flow_plan,
	[FLOW_TARGET] = flow_target,	   [FLOW_AUTHORISE] = flow_authorise,
	[FLOW_ENCODE] = flow_encode,	   [FLOW_AUTHORISING] = flow_authorising,
	[FLOW_OPEN] = flow_open,	   [FLOW_OPENING] = flow_opening,
	[FLOW_SEND] = flow_send,	   [FLOW_RELAYING] = flow_relaying,
	[FLOW_SETTLE] = flow_settle,	   [FLOW_SETTLING] = flow_settling,
	[FLOW_ANSWER] = flow_answer,	   [FLOW_REFUSE] = flow_refusal,
};

/* The only loop in the flow. A callback that comes while it runs is seen by the state it runs into. */
void flow_run(struct flow *f)
{
	const struct log_context *before;
	enum flow_state next;

	if (f->running)
		return;
	f->running = true;
	before = log_context_set(&f->log);
	while (f->state != FLOW_DONE && (next = flow_do[f->state](f)) != FLOW_WAIT) {
		f->state = next;
		f->log.state = flow_state_names[next];
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
		if (!f->terminal) /* else its end is near already */
			loop_timer_set(f->worker->loop, &f->drain,
				       f->draining_up ? ROUTING_DRAIN_MS : 1, flow_on_drain_over,
				       f);
		if (f->paused)
			flow_on_drain(f);
		return;
	}
	flow_run(f);
}

void flow_begin(struct http_request *r, const struct dialect *dialect, const struct call_head *head)
{
	struct flow *f = flow_new(r, dialect, head);

	http_on_gone(r, flow_on_gone, f);
	http_on_drain(r, flow_on_drain, f);
	if (!vault_is_current(f->worker,
			      f->who)) /* its body came slowly: the key may be gone by now */
		revoke_suspect(f);
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
