/* routing/flow_charge.c - what a call used, as the charge that billing books.
 *
 * A provider's own usage is taken, cut to what the hold was made for; where there is none it is estimated from bytes and
 * says so. Absent is not zero. */
#include "routing/bound.h"
#include "routing/flow_priv.h"

#include <string.h>

#include "server/base/clock.h"

static int64_t estimate_tokens(int64_t bytes)
{
	return (bytes + FLOW_BYTES_PER_TOKEN - 1) / FLOW_BYTES_PER_TOKEN;
}

/* A counter past what the call could use is clamped and flagged: a provider's slip is never the org's cost. On the
 * platform's account the bounds are those the hold was made with. */
static void usage_bound(struct flow *f)
{
	int64_t window = f->target->info ? f->target->info->context_window : 0;
	int64_t output = f->call.max_output;

	if (f->target->source == BILLING_PLATFORM) {
		bound_clamp(&f->target->bound, &f->usage);
		return;
	}
	if (window > 0 && output > window)
		output = window;
	usage_clamp(&f->usage, window, output * f->call.choices);
}

/* Does the model have a price for what was stated? A provider may count in other units than its price list. */
static bool is_priced(const struct flow *f)
{
	struct rating r;

	return !f->target->price || price_rate(f->target->price, &f->usage, &r) != RC_NOT_FOUND;
}

/* Embeddings, speech and transcription (bound.h). What the request itself shows, characters say, is no estimate. */
static void usage_of_operation(struct flow *f, enum billing_basis missing, bool insured)
{
	const uint32_t flags = f->usage.flags;

	f->basis = BASIS_PROVIDER_USAGE;
	if (!f->usage.present || !is_priced(f)) {
		if (!bound_estimate(&f->call, f->target->price, f->text_bytes, &f->usage))
			f->basis = missing;
		f->usage.flags |= flags;
		if (insured)
			memset(f->usage.n, 0, sizeof f->usage.n);
	}
	if (f->target->source == BILLING_PLATFORM)
		bound_clamp(&f->target->bound, &f->usage);
}

/* A stream that broke off had counted up to some event before its end, often only the input (Anthropic's first event): what
 * was delivered is the least that was made. */
static void usage_of_cut(struct flow *f)
{
	const int64_t uncounted = estimate_tokens(f->text_bytes) - usage_total_out(&f->usage);

	if (uncounted <= 0)
		return;
	f->usage.n[USAGE_out_text] += uncounted;
	f->usage.flags |= USAGE_FLAG_ESTIMATED;
	f->basis = f->gone ? BASIS_EST_DISCONNECT : BASIS_EST_PARTIAL;
}

void flow_usage_complete(struct flow *f)
{
	const bool cut = f->class != ERROR_none;
	const enum billing_basis missing = !cut	     ? BASIS_EST_MISSING
					   : f->gone ? BASIS_EST_DISCONNECT
						     : BASIS_EST_PARTIAL;
	const bool insured = cut && f->text_bytes == 0 && !flow_is_abandoned(f);

	if (flow_is_free(f)) {
		f->usage = USAGE_NONE; /* a count of tokens is an answer, and nobody's use of any */
		f->basis = BASIS_NONE;
		return;
	}
	if (bound_is_for(&f->call)) {
		usage_of_operation(f, missing, insured);
		return;
	}

	if (!f->usage.present) {
		f->usage = USAGE_NONE;
		f->usage.flags = USAGE_FLAG_ESTIMATED;
		f->usage.n[USAGE_in_text] = estimate_tokens((int64_t)f->call.body_bytes);
		f->usage.n[USAGE_out_text] = estimate_tokens(f->text_bytes);
		f->basis = missing;
		if (insured)
			/* failed and nothing delivered: insured */
			memset(f->usage.n, 0, sizeof f->usage.n);
	} else {
		f->basis = BASIS_PROVIDER_USAGE;
		if (cut)
			usage_of_cut(f);
	}
	usage_bound(f);
}

/* Beyond what can be rated: the whole hold is taken, flagged, for finance to look at. */
static void take_hold(struct flow *f, enum rc rc)
{
	log_error("usage cannot be rated", LOG_STR("target", f->target->target),
		  LOG_STR("rc", rc_name(rc)));
	f->usage.flags |= USAGE_FLAG_CLASS_UNPRICED;
	f->rating = (struct rating){.amount = f->hold.amount};
	f->rated = true;
}

void flow_rate(struct flow *f)
{
	const struct price_model *price = flow_is_free(f) ? NULL : f->target->price;
	const bool platform = f->target->source == BILLING_PLATFORM;
	enum rc rc = RC_NOT_FOUND;

	f->rating = (struct rating){.lines = 0};
	if (price)
		rc = platform ? price_rate_within(price, f->hold.amount, &f->usage, &f->rating)
			      : price_rate(price, &f->usage, &f->rating);
	f->rated = rc == RC_OK;
	if (!platform || flow_is_free(f))
		return;
	if (!f->rated)
		take_hold(f, rc);
	else if (f->rating.flags & USAGE_FLAG_CLASS_UNPRICED)
		log_warn("some of the usage has no price of its own",
			 LOG_STR("target", f->target->target));
}

struct billing_charge flow_charge(struct flow *f, bool is_void)
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
