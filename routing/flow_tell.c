/* routing/flow_tell.c - what is told of a call: its headers, its errors, its line in the log. */
#include "routing/flow_priv.h"

#include <stdio.h>

#include "server/base/clock.h"

static const char *const end_names[] = {
#define X(name) #name,
	FLOW_ENDS(X)
#undef X
};

void flow_note_fallback(struct flow *f, const struct candidate *c, const char *reason)
{
	size_t before = f->fallback.len;

	if (buf_printf(&f->fallback, "%s%s=%s", before ? ", " : "", c->target, reason) != RC_OK)
		f->fallback.len =
			before; /* the header has a bound; the log and the plan have all */
}

void flow_note_attempt(struct flow *f, const char *outcome, bool billed)
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

/* What of the request had no words at the target and was left out: never silently. */
static void header_dropped(struct flow *f)
{
	AUTO(buf) struct buf list = BUF_INIT(FLOW_FALLBACK_TEXT);
	const struct chat_losses *l = &f->out.losses;

	for (size_t i = 0; i < l->count; i++)
		if (buf_printf(&list, "%s%.*s", i ? ", " : "", STR_FMT(l->name[i])) != RC_OK)
			break;
	for (size_t i = 0; i < list.len; i++)
		if (list.ptr[i] < ' ' || list.ptr[i] > '~')
			list.ptr[i] = '?';
	if (list.len > 0)
		http_add_header(f->req, "x-tollgate-dropped", buf_str(&list));
}

void flow_headers(struct flow *f)
{
	struct http_request *r = f->req;
	char number[32];

	if (f->target) {
		http_add_header(r, "x-tollgate-provider", str_from(f->target->provider->id));
		http_add_header(r, "x-tollgate-model", f->target->model);
		http_add_header(r, "x-tollgate-profile", f->target->profile->name);
		http_add_header(r, "x-tollgate-billing-source",
				str_from(billing_source_name(f->target->source)));
		header_dropped(f); /* of a target that was passed over nothing was left out */
	}
	snprintf(number, sizeof number, "%d", f->attempts);
	http_add_header(r, "x-tollgate-attempts", str_from(number));
	if (f->fallback.len > 0)
		http_add_header(r, "x-tollgate-fallback", buf_str(&f->fallback));
}

void flow_header_overhead(struct flow *f)
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

static void number_header(struct http_request *r, const char *name, int64_t n)
{
	char value[32];

	snprintf(value, sizeof value, "%lld", (long long)(n > 0 ? n : 0));
	http_add_header(r, name, str_from(value));
}

enum limited { LIMITED_REQUESTS, LIMITED_TOKENS };

/* OpenAI says how long, Anthropic says when; each client reads its own. */
static void limit_headers(struct http_request *r, bool anthropic, enum limited what, int64_t limit,
			  int64_t remaining, int64_t reset_ms)
{
	static const char *const openai[][3] = {
		{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
		 "x-ratelimit-reset-requests"},
		{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
		 "x-ratelimit-reset-tokens"}};
	static const char *const anthropics[][3] = {
		{"anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
		 "anthropic-ratelimit-requests-reset"},
		{"anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining",
		 "anthropic-ratelimit-tokens-reset"}};
	const char *const *names = anthropic ? anthropics[what] : openai[what];
	char value[CLOCK_RFC3339_SIZE];

	if (limit <= 0)
		return;
	number_header(r, names[0], limit);
	number_header(r, names[1], remaining);
	if (anthropic)
		clock_rfc3339((clock_wall_ms() + reset_ms) * 1000, value);
	else if (reset_ms < 1000)
		snprintf(value, sizeof value, "%lldms", (long long)reset_ms);
	else
		snprintf(value, sizeof value, "%llds", (long long)((reset_ms + 999) / 1000));
	http_add_header(r, names[2], str_from(value));
}

/* With every answer, so also what else each dialect's clients look for there. */
void flow_header_limits(struct flow *f)
{
	const struct vault_limits *l = &f->limits;
	const bool anthropic = f->call.dialect->errors == ERROR_SHAPE_ANTHROPIC;

	if (anthropic)
		http_add_header(f->req, "request-id", str_from(f->req->id_text));
	limit_headers(f->req, anthropic, LIMITED_REQUESTS, l->requests_limit, l->requests_remaining,
		      l->requests_reset_ms);
	limit_headers(f->req, anthropic, LIMITED_TOKENS, l->tokens_limit, l->tokens_remaining,
		      l->tokens_reset_ms);
}

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

static enum rc put_shortfall(const struct billing_shortfall *s, struct buf *out)
{
	char text[MONEY_TEXT_SIZE];
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_str(&o, "needed", money_format(s->needed, text));
	json_put_str(
		&o, "available",
		money_format(money_cmp(s->available, MONEY_ZERO) < 0 ? MONEY_ZERO : s->available,
			     text));
	json_put_str(&o, "held", money_format(s->held, text));
	if (!uuid_is_zero(s->budget)) {
		json_obj(&o, "budget");
		json_put_uuid(&o, "id", s->budget);
		json_put_z(&o, "name", s->budget_name);
		json_obj_end(&o);
	}
	json_obj_end(&o);
	return json_out_end(&o);
}

static struct str error_extra(struct flow *f)
{
	AUTO(buf) struct buf funds = BUF_INIT(FLOW_PLAN_TEXT);
	struct str targets = targets_json(f);

	if (!f->short_of_funds || put_shortfall(&f->shortfall, &funds) != RC_OK)
		return targets;
	/* the members alone, without their braces */
	return arena_printf(f->mem, "%.*s%s%.*s", (int)(funds.len - 2), funds.ptr + 1,
			    targets.len ? "," : "", STR_FMT(targets));
}

/* A stream that is one JSON array stays one: the error is its last element. */
static enum rc error_event(struct flow *f, struct str tollgate, struct buf *out)
{
	if (f->call.stream_array)
		TRY(buf_append(out, f->content_sent ? STR(",") : STR("[")));
	TRY(f->call.dialect->encode_error_event(&f->err, tollgate, out));
	return f->call.stream_array ? buf_append(out, STR("]")) : RC_OK;
}

void flow_error_event(struct flow *f)
{
	AUTO(buf) struct buf out = BUF_INIT(FLOW_PLAN_TEXT);

	if (f->call.bytes) { /* sound has no words for it: a body without its end is the sign */
		http_stream_abort(f->req);
		return;
	}
	struct str tollgate = arena_printf(f->mem, "{\"code\":\"%s\",\"request_id\":\"%s\"}",
					   f->err.code, f->req->id_text);

	if (error_event(f, tollgate, &out) == RC_OK)
		http_stream_write(f->req, buf_str(&out));
	http_stream_end(f->req);
}

void flow_error_reply(struct flow *f)
{
	AUTO(buf) struct buf body = BUF_INIT(2 * FLOW_PLAN_TEXT);
	const enum error_shape shape = f->call.dialect->errors;
	struct error_answer a = error_answer(f->rc, &f->err, shape);
	int status = error_render(f->rc, &f->err, f->req->id_text, shape, error_extra(f), &body);

	flow_headers(f);
	flow_header_limits(f);
	flow_header_overhead(f);
	routing_add_error_headers(f->req, &a);
	http_reply(f->req, status, buf_str(&body));
}

void flow_log(const struct flow *f)
{
	struct routing_service *s = routing_service(f->worker);
	const int64_t took_us = clock_mono_us() - f->started_us;

	counter_add(&s->calls[f->why != FLOW_END_answered], 1);
	counter_add(&s->tokens_in, (uint64_t)usage_total_in(&f->usage));
	counter_add(&s->tokens_out, (uint64_t)usage_total_out(&f->usage));
	hist_add(&s->duration, took_us);
	log_info("call", LOG_STR("why", end_names[f->why]),
		 LOG_STR("gen_ai.operation.name", operation_name(f->call.dialect->operation)),
		 LOG_STR("dialect", f->call.dialect->name),
		 LOG_STR("target_dialect", f->target && f->to.dialect ? f->to.dialect->name : NULL),
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
