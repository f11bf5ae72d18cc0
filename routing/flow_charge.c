/* routing/flow_charge.c - what a call used, as the charge that billing books.
 *
 * A provider's own usage is taken, cut to what the hold was made for; where there is none it is estimated from bytes and
 * says so. Absent is not zero. */
#include "routing/flow_priv.h"

#include <string.h>

#include "server/base/clock.h"

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

void flow_usage_complete(struct flow *f)
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
