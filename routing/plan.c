/* routing/plan.c - which target, and why (architecture.md, "Which target, and why").
 *
 * Three steps. What was asked is resolved to a chain: an alias's route, else the profiles that serve the model, else
 * (for a call that names no model) its agent's route or default model, or the route of its intent or modality. The
 * chain becomes candidates in order. Each candidate is judged: use, or a reason. All candidates stay in the plan, so
 * that explain, the response header and the usage row tell the same story.
 *
 * The rule that must never break: a call does not come to cost the org credits without its consent. So a model that no
 * route names goes to the org's own profiles or to the platform's, never to both, and also a disabled or revoked own
 * profile counts as "the org serves it itself"; and in a chain, a platform target behind an own one needs
 * allow_platform_fallback.
 *
 * Must never do I/O or read a clock: the same input gives the same plan. */
#include "routing/plan.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "routing/bound.h"
#include "routing/dialect.h"
#include "routing/provider.h"
#include "server/base/json.h"

/* No ordinary text takes fewer tokens than a sixteenth of its bytes: below that a prompt surely does not fit. */
#define TEXT_BYTES_PER_TOKEN_MAX 16
/* Injected for a platform call where neither caller nor catalogue name a maximum. */
#define OUTPUT_CAP_DEFAULT_TOKENS INT64_C(16384)
#define TOKENS_MAX		  (INT64_C(1) << 40) /* keeps the sums far from overflow */
/* What a vendor tells its model of its own account where there are tools or a form to keep: Anthropic states up to some 800
 * tokens. Without these a body has more bytes than its question and a vendor's marks have tokens. */
#define INPUT_BESIDE_TOKENS 1024
/* No sound is sent with fewer than 4 kbit a second, none is heard at less than a token a second. */
#define SOUND_MS_PER_BYTE  2
#define SOUND_MS_PER_TOKEN 1000

struct build {
	const struct plan_input *in;
	struct arena *mem;
	struct plan *plan;
	struct str asked; /* the model that was looked for last */
	bool own_before;  /* an own (byok, private) candidate stands earlier in the chain */
};
struct selector {			 /* one target of a chain */
	const struct provider *provider; /* NULL: any */
	struct str model;
	uint32_t billing; /* 0: no restriction */
	bool named;	  /* the route names the profile: its patterns are enough */
	bool unasked;	  /* a platform profile here is one that nobody named */
};

static uint32_t source_bit(enum billing_source s)
{
	return 1u << s;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* --- who serves what ------------------------------------------------------------------------------ */

static bool listed(const struct profile *p, struct str model)
{
	for (size_t i = 0; i < p->listed_count; i++)
		if (str_eq(p->listed[i], model))
			return true;
	return false;
}

static const struct model_info *model_info(const struct plan_input *in, const struct profile *p,
					   struct str model)
{
	return in->catalogue ? catalogue_find(in->catalogue, str_from(p->provider->id), model)
			     : NULL;
}

/* `models` match it, and somebody who knows names it: the catalogue, the endpoint, or the org word for word. */
static bool serves(const struct plan_input *in, const struct profile *p, const struct selector *s)
{
	bool matched = false;

	if (!p->provider || (s->provider && s->provider != p->provider))
		return false;
	for (size_t i = 0; i < p->models_count; i++) {
		if (str_eq(p->models[i], s->model) && str_find(p->models[i], '*') < 0)
			return true;
		matched |= str_glob(p->models[i], s->model);
	}
	return matched && (s->named || model_info(in, p, s->model) != NULL || listed(p, s->model));
}

static int profile_order(const void *va, const void *vb)
{
	const struct profile *a = *(const struct profile *const *)va;
	const struct profile *b = *(const struct profile *const *)vb;
	int by_name;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->is_default != b->is_default)
		return a->is_default ? -1 : 1;
	by_name = str_cmp(a->name, b->name);
	return by_name ? by_name : memcmp(a->id.b, b->id.b, sizeof a->id.b);
}

/* --- judging a candidate --------------------------------------------------------------------------- */

static void reason(struct candidate *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void reason(struct candidate *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->reason, sizeof c->reason, fmt, ap);
	va_end(ap);
}

static bool judge_profile(const struct call *call, struct candidate *c)
{
	const struct profile *p = c->profile;

	if (str_is(p->status, "revoked"))
		reason(c, "revoked");
	else if (!str_is(p->status, "active") || !p->endpoint_ok ||
		 (p->provider->secret_required && !p->has_secret))
		reason(c, "disabled");
	else if (!c->endpoint && provider_does(c->provider, (int)call->dialect->operation))
		reason(c, "capability_missing:%s", call->dialect->name);
	else if (!c->endpoint) /* it may be connected for something else */
		reason(c, "capability_missing:%s", operation_name(call->dialect->operation));
	return c->reason[0] == '\0';
}

/* May this candidate be paid this way? Asked for each, in order: consent looks at what stood before. */
static bool may_pay(struct build *b, const struct selector *s, const struct candidate *c)
{
	uint32_t asked = b->in->call->billing_allowed;
	bool selected = (!asked || (asked & source_bit(c->source))) &&
			(!s->billing || (s->billing & source_bit(c->source)));
	bool consent = c->source != BILLING_PLATFORM || b->plan->allow_platform_fallback ||
		       (!b->own_before && !s->unasked);

	/* what the caller or the target ruled out is not in the chain: falling from it is no falling */
	if (selected && c->source != BILLING_PLATFORM)
		b->own_before = true;
	return selected && consent;
}

/* Does the org's tier have profiles that are billed so? A tier that is not told has no rule. */
static bool tier_allows(const struct plan_input *in, enum billing_source source)
{
	for (size_t i = 0; in->platform && i < in->platform->tiers_count; i++) {
		const struct tier *t = &in->platform->tiers[i];

		if (str_eq(t->name, in->org->tier))
			return source == BILLING_PLATFORM ||
			       (source == BILLING_BYOK ? t->byok : t->private);
	}
	return true;
}

/* The key's own bound. It does not take an own target out of the chain: what stands behind it is still fallen to. */
static bool judge_provider(const struct call *call, struct candidate *c)
{
	for (size_t i = 0; i < call->providers_count; i++)
		if (str_is(call->providers[i], c->provider->id))
			return true;
	if (call->providers_count > 0)
		reason(c, "provider_not_allowed");
	return call->providers_count == 0;
}

static bool judge_capabilities(const struct call *call, struct candidate *c)
{
	uint32_t missing;

	if (!c->info || c->info->capabilities == 0)
		return true; /* nobody knows: the endpoint will say */
	missing = call->needs & ~c->info->capabilities;
	for (uint32_t bit = CAP_TEXT; bit <= CAP_JSON; bit <<= 1) {
		if (!(missing & bit))
			continue;
		reason(c, "capability_missing:%s", capability_name((enum capability)bit));
		return false;
	}
	return true;
}

/* What a provider keeps is read in its own dialect, by who has it. Whose keeper is not known may still be the org's only own
 * account (drop_ambiguous()); the platform's accounts are everybody's, so there an unknown id is nobody's. */
static bool judge_state(const struct call *call, struct candidate *c)
{
	for (size_t i = 0; i < call->states_count; i++) {
		const struct call_state *s = &call->states[i];

		if (c->endpoint->dialect == call->dialect &&
		    (uuid_is_zero(s->keeper) ? c->source != BILLING_PLATFORM
					     : uuid_eq(s->keeper, c->profile->id)))
			continue;
		c->no_state = s;
		reason(c, "capability_missing:%s", s->field);
		return false;
	}
	return true;
}

/* Bytes bound tokens from above only, so a prompt is passed over for its length only where it surely is too
 * long; the provider judges the rest, and its context_length moves the call on. */
static bool judge_context(const struct plan_input *in, struct candidate *c)
{
	int64_t window = c->info ? c->info->context_window : 0;
	int64_t text = (int64_t)(in->call->text_bytes / TEXT_BYTES_PER_TOKEN_MAX);

	if (bound_is_for(in->call)) /* many inputs, or sound: its bytes are no prompt */
		return true;
	int64_t input = in->input_tokens_min > text ? in->input_tokens_min : text;

	if (window <= 0 ||
	    least(input, TOKENS_MAX) <= window - least(in->call->max_output, window + 1))
		return true;
	reason(c, "context_too_long");
	return false;
}

static bool judge_cooldown(const struct plan_input *in, struct candidate *c)
{
	const struct cooldown *longest = NULL;

	for (size_t i = 0; i < in->cooldowns_count; i++) {
		const struct cooldown *cool = &in->cooldowns[i];

		if (!uuid_eq(cool->profile, c->profile->id) ||
		    (cool->model.len > 0 && !str_eq(cool->model, c->model)) ||
		    cool->until_wall_ms <= in->wall_ms)
			continue;
		if (!longest || cool->until_wall_ms > longest->until_wall_ms)
			longest = cool;
	}
	if (!longest)
		return true;
	c->retry_after_ms = longest->until_wall_ms - in->wall_ms;
	reason(c, "cooling_down:%s:%lld", error_class_name(longest->class),
	       (long long)((c->retry_after_ms + 999) / 1000));
	return false;
}

/* The field by which the call may cost what no hold bounds; NULL: none. OpenRouter searches for a model of this ending. */
static const char *beyond_hold(const struct call *call, const struct candidate *c)
{
	const struct str online = STR(":online");

	if (call->beyond_hold)
		return call->beyond_hold;
	return c->model.len > online.len && str_is(str_from(c->provider->id), "openrouter") &&
			       str_eq(str_slice(c->model, c->model.len - online.len, c->model.len),
				      online)
		       ? "model"
		       : NULL;
}

/* The most the call can cost at the platform's prices; fills hold and the cap that makes it true. RC_NOT_FOUND: it has no
 * price. RC_UNSUPPORTED: it has no bound. */
static enum rc bound(const struct plan_input *in, struct candidate *c)
{
	const struct call *call = in->call;
	int64_t window = c->info && c->info->context_window > 0 ? c->info->context_window : 0;
	int64_t output = call->max_output;
	struct price_bound pb = {.any_unit = false};

	if (call->operation ==
	    OPERATION_count_tokens) /* free everywhere, whatever the model costs */
		return RC_OK;
	if (beyond_hold(call, c))
		return RC_UNSUPPORTED;
	if (bound_is_for(call)) {
		bound_of_call(call, c->info, &c->bound);
		return c->price ? price_bound_cost(c->price, &c->bound, &c->hold) : RC_NOT_FOUND;
	}
	if (output == 0) {
		output = c->info && c->info->max_output > 0 ? c->info->max_output
							    : OUTPUT_CAP_DEFAULT_TOKENS;
		if (window > 0)
			output = least(output, window);
		c->max_output_cap = output;
	}
	pb.choices = call->choices > 0 ? call->choices : 1;
	pb.output_tokens_max = window > 0 ? least(output, window) : output;
	pb.input_tokens_max =
		least(in->input_tokens_max, TOKENS_MAX) + least(call->media_tokens_max, TOKENS_MAX);
	if (call->needs & (CAP_TOOLS | CAP_JSON))
		pb.input_tokens_max += INPUT_BESIDE_TOKENS;
	if (in->input_is_window || call->media_by_url)
		pb.input_tokens_max = window > 0 ? window : PLAN_WINDOW_UNKNOWN_TOKENS;
	else if (window > 0)
		pb.input_tokens_max = least(pb.input_tokens_max, window);
	if (call->needs & CAP_AUDIO_IN)
		pb.audio_in_ms_max = call->media_by_url
					     ? pb.input_tokens_max * SOUND_MS_PER_TOKEN
					     : (int64_t)call->body_bytes * SOUND_MS_PER_BYTE;
	c->bound = pb;
	if (!c->price)
		return RC_NOT_FOUND;
	if (!price_has(c->price, USAGE_audio_in_ms)) /* the sound is sold as tokens */
		pb.audio_in_ms_max = 0;
	return price_bound_cost(c->price, &pb, &c->hold);
}

static void judge_unbounded(const struct call *call, struct candidate *c)
{
	c->beyond_hold = beyond_hold(call, c);
	reason(c, "price_unknown");
}

static void judge(struct build *b, const struct selector *s, struct candidate *c)
{
	const struct plan_input *in = b->in;
	bool platform = c->source == BILLING_PLATFORM;
	enum rc bounded = platform ? bound(in, c) : RC_OK;
	bool payable = may_pay(b, s, c);

	if (!judge_profile(in->call, c))
		return;
	if (!payable)
		reason(c, "billing_not_allowed");
	else if (!tier_allows(in, c->source))
		reason(c, "tier_not_eligible");
	else if (!judge_provider(in->call, c) || !judge_capabilities(in->call, c) ||
		 !judge_state(in->call, c) || !judge_context(in, c))
		return;
	else if (bounded == RC_UNSUPPORTED)
		judge_unbounded(in->call, c);
	else if (bounded != RC_OK)
		reason(c, "price_unknown");
	else if (!judge_cooldown(in, c))
		return;
	else if (platform && in->available_known && money_cmp(c->hold, in->available) > 0)
		reason(c, "insufficient_credits");
	else if (platform && in->budget_known && money_cmp(c->hold, in->budget_left) > 0)
		reason(c, "limit_reached");
	else
		c->use = true;
}

/* --- from a chain to candidates ------------------------------------------------------------------- */

static void name_target(struct candidate *c, struct str profile)
{
	int n = snprintf(c->target, sizeof c->target, "%.*s/%.*s", STR_FMT(profile),
			 STR_FMT(c->model));

	assert(n >= 0);
	for (char *p = c->target; *p; p++) /* it becomes a header */
		if (*p <= ' ' || *p > '~' || *p == ',' || *p == '=')
			*p = '?';
}

static struct candidate *candidate_new(struct build *b, struct str model, struct str profile)
{
	struct candidate *c = &b->plan->candidates[b->plan->candidates_count];

	if (b->plan->candidates_count == PLAN_CANDIDATES_MAX)
		return NULL;
	b->plan->candidates_count++;
	*c = (struct candidate){.model = model};
	name_target(c, profile);
	return c;
}

static bool already_in(const struct plan *p, const struct profile *profile, struct str model)
{
	for (size_t i = 0; i < p->candidates_count; i++)
		if (p->candidates[i].profile && str_eq(p->candidates[i].model, model) &&
		    uuid_eq(p->candidates[i].profile->id, profile->id))
			return true;
	return false;
}

static void add(struct build *b, const struct selector *s, const struct profile *p)
{
	struct candidate *c;

	if (already_in(b->plan, p, s->model))
		return;
	c = candidate_new(b, s->model, p->name);
	if (!c)
		return;
	c->profile = p;
	c->provider = p->provider;
	c->endpoint = provider_endpoint(p->provider, b->in->call->dialect);
	c->info = model_info(b->in, p, s->model);
	c->price =
		b->in->book ? price_find(b->in->book, str_from(p->provider->id), s->model) : NULL;
	c->source = p->source;
	judge(b, s, c);
	b->plan->usable += c->use;
}

/* All profiles of one picture that serve the selector, in their order. Returns how many there were. */
static size_t add_serving(struct build *b, const struct snapshot *of, const struct selector *s)
{
	const struct profile **found;
	size_t n = 0;

	if (!of || of->profiles_count == 0)
		return 0;
	found = ARENA_ARRAY(b->mem, const struct profile *, of->profiles_count);
	for (size_t i = 0; i < of->profiles_count; i++)
		if (serves(b->in, &of->profiles[i], s))
			found[n++] = &of->profiles[i];
	if (n > 0)
		qsort(found, n, sizeof *found, profile_order);
	for (size_t i = 0; i < n; i++)
		add(b, s, found[i]);
	return n;
}

static const struct profile *profile_named(const struct snapshot *of, struct str name)
{
	for (size_t i = 0; of && i < of->profiles_count; i++)
		if (str_eq(of->profiles[i].name, name))
			return &of->profiles[i];
	return NULL;
}

/* A target that nobody serves stays visible. */
/* A target that stands for nobody still shows what it asked for. */
static void add_nobody(struct build *b, const struct route_target *t, const char *why)
{
	struct candidate *c = candidate_new(b, t->model, t->profile.len ? t->profile : t->provider);

	if (!c)
		return;
	c->asked = t;
	reason(c, "%s", why);
}

/* The chain names an own profile that is gone or does not serve the model: what stands behind is fallen to. */
static void own_is_named(struct build *b, const struct selector *s)
{
	const uint32_t own = source_bit(BILLING_BYOK) | source_bit(BILLING_PRIVATE);
	const uint32_t asked = b->in->call->billing_allowed;

	if ((!asked || (asked & own)) && (!s->billing || (s->billing & own)))
		b->own_before = true;
}

/* A target that names its profile: the org's, else the platform's of that name. */
static void add_named(struct build *b, const struct route_target *t, const struct selector *s)
{
	const struct profile *p = profile_named(b->in->org, t->profile);

	if (!p)
		p = profile_named(b->in->platform, t->profile);
	if (p && serves(b->in, p, s)) {
		add(b, s, p);
		return;
	}
	if (!p || p->source != BILLING_PLATFORM)
		own_is_named(b, s);
	add_nobody(b, t, p ? "not_served" : "revoked");
}

static void add_target(struct build *b, const struct route_target *t)
{
	struct selector s = {.model = t->model, .billing = t->billing};
	size_t own;

	s.provider = t->provider.len > 0 ? provider_find(t->provider) : NULL;
	s.named = t->profile.len > 0;
	if (t->provider.len > 0 && !s.provider) {
		add_nobody(b, t, "not_served");
		return;
	}
	if (s.named) {
		add_named(b, t, &s);
		return;
	}
	own = add_serving(b, b->in->org, &s);
	/* With own profiles there, the platform's are not what "provider: openai" says, unless `billing` does. */
	s.unasked = own > 0 && !(t->billing & source_bit(BILLING_PLATFORM));
	if (add_serving(b, b->in->platform, &s) == 0 && own == 0)
		add_nobody(b, t, "not_served");
}

static void add_route(struct build *b, const struct route *r, const char *resolved_by)
{
	struct plan *p = b->plan;

	p->resolved_by = resolved_by;
	p->route = r;
	p->allow_platform_fallback = r->allow_platform_fallback;
	if (r->max_attempts > 0)
		p->max_attempts = r->max_attempts;
	if (r->timeout_ms > 0)
		p->timeout_ms = r->timeout_ms;
	for (size_t i = 0; i < r->targets_count; i++)
		add_target(b, &r->targets[i]);
}

/* --- from what was asked to a chain ---------------------------------------------------------------- */

static bool field_matches(struct str wanted, struct str have)
{
	return wanted.len == 0 || str_eq(wanted, have);
}

/* A modality is a capability's name, or its everyday word. */
static bool modality_matches(struct str wanted, uint32_t needs)
{
	uint32_t bits = 0;

	if (wanted.len == 0)
		return true;
	if (str_is(wanted, "audio") || str_is(wanted, "voice"))
		return (needs & (CAP_AUDIO_IN | CAP_AUDIO_OUT)) != 0;
	if (str_is(wanted, "image"))
		return (needs & CAP_VISION) != 0;
	if (str_is(wanted, "text"))
		return !(needs & (CAP_VISION | CAP_AUDIO_IN | CAP_AUDIO_OUT));
	return capability_parse(wanted, &bits) == RC_OK && (needs & bits) != 0;
}

static int specificity(const struct route *r)
{
	return (r->agent.len > 0) * 4 + (r->intent.len > 0) * 2 + (r->modality.len > 0);
}

/* The most specific route with this alias (empty: those without one) that the call matches; ties by name. */
static const struct route *route_for(const struct snapshot *of, struct str alias,
				     const struct call *call)
{
	const struct route *best = NULL;

	for (size_t i = 0; of && i < of->routes_count; i++) {
		const struct route *r = &of->routes[i];
		int by_weight;

		if (!str_eq(r->alias, alias) || !field_matches(r->agent, call->agent) ||
		    !field_matches(r->intent, call->intent) ||
		    !modality_matches(r->modality, call->needs))
			continue;
		by_weight = best ? specificity(r) - specificity(best) : 1;
		if (by_weight > 0 || (by_weight == 0 && str_cmp(r->name, best->name) < 0))
			best = r;
	}
	return best;
}

static bool add_model(struct build *b, const struct snapshot *of, const struct provider *provider,
		      struct str model)
{
	struct selector s = {.provider = provider, .model = model};

	return add_serving(b, of, &s) > 0;
}

/* "provider/model", else an id that has a slash itself. */
static bool add_asked(struct build *b, const struct snapshot *of, struct str asked)
{
	struct str rest = asked;
	struct str head = str_cut(&rest, '/');
	const struct provider *provider = rest.ptr ? provider_find(head) : NULL;

	return (provider && rest.len > 0 && add_model(b, of, provider, rest)) ||
	       add_model(b, of, NULL, asked);
}

/* The org's own profiles, however the name reads; where none serves it the platform's; never both. */
static bool resolve_model(struct build *b, struct str asked)
{
	b->plan->resolved_by = "model";
	if (asked.len == 0)
		return false;
	return add_asked(b, b->in->org, asked) || add_asked(b, b->in->platform, asked);
}

static const struct agent *agent_of(const struct build *b)
{
	const struct snapshot *org = b->in->org;

	for (size_t i = 0; i < org->agents_count; i++)
		if (str_eq(org->agents[i].name, b->in->call->agent))
			return &org->agents[i];
	return NULL;
}

/* The agent's default stands for what the call would have asked: an alias of the org, else a model. */
static bool resolve_agent_model(struct build *b, struct str model)
{
	const struct route *r = route_for(b->in->org, model, b->in->call);

	b->asked = model;
	if (r)
		add_route(b, r, "agent");
	else if (!resolve_model(b, model))
		return false;
	b->plan->resolved_by = "agent";
	return true;
}

/* A call that names no model of its own: its agent's route, the agent's default model, the route of its intent and
 * modality, the org's, the platform's. What is named first is it, also where nobody serves it. */
static bool resolve_default(struct build *b)
{
	const struct call *call = b->in->call;
	const struct agent *agent = agent_of(b);
	const struct route *r = route_for(b->in->org, STR(""), call);

	if (call->model.len > 0 && !str_is(call->model, "auto") && !str_is(call->model, "default"))
		return false;
	if (agent && agent->default_model.len > 0 && !(r && r->agent.len > 0))
		return resolve_agent_model(b, agent->default_model);
	if (!r)
		r = route_for(b->in->platform, STR(""), call);
	if (!r)
		return false;
	add_route(b, r, r->agent.len > 0 ? "agent" : specificity(r) > 0 ? "route" : "default");
	return true;
}

static bool resolve(struct build *b)
{
	struct str asked = b->in->call->model;
	const struct route *r = asked.len > 0 ? route_for(b->in->org, asked, b->in->call) : NULL;

	b->asked = asked;
	if (r) {
		add_route(b, r, "alias");
		return true;
	}
	return resolve_model(b, asked) || resolve_default(b);
}

/* Could it have what nobody here saw made? Whatever else it was passed over for: a disabled account still has its files. */
static bool may_keep(const struct call *call, const struct candidate *c)
{
	return c->profile && c->source != BILLING_PLATFORM && c->endpoint &&
	       c->endpoint->dialect == call->dialect && !str_is(str_from(c->reason), "revoked");
}

/* State whose keeper is not known: where several own profiles could have it, nobody is guessed. */
static void drop_ambiguous(struct build *b)
{
	const struct call *call = b->in->call;
	const struct call_state *unknown = NULL;
	const struct profile *only = NULL;
	bool several = false;
	struct plan *p = b->plan;

	for (size_t i = 0; i < call->states_count && !unknown; i++)
		unknown = uuid_is_zero(call->states[i].keeper) ? &call->states[i] : NULL;
	for (size_t i = 0; unknown && i < p->candidates_count; i++) {
		const struct candidate *c = &p->candidates[i];

		if (!may_keep(call, c))
			continue;
		several |= only && !uuid_eq(only->id, c->profile->id);
		only = c->profile;
	}
	for (size_t i = 0; several && i < p->candidates_count; i++) {
		struct candidate *c = &p->candidates[i];

		if (!c->use)
			continue;
		c->use = false;
		c->no_state = unknown;
		reason(c, "capability_missing:%s", unknown->field);
		p->usable--;
	}
}

/* --- the answer ------------------------------------------------------------------------------------ */

/* Of mixed reasons: what passes with time, then out of credits, then what the caller can mend. */
static void refuse(struct plan *p)
{
	size_t broke = 0, too_long = 0;

	for (size_t i = 0; i < p->candidates_count; i++) {
		const struct candidate *c = &p->candidates[i];
		struct str why = str_from(c->reason);

		if (c->retry_after_ms > 0 &&
		    (p->retry_after_ms == 0 || c->retry_after_ms < p->retry_after_ms))
			p->retry_after_ms = c->retry_after_ms;
		broke += str_is(why, "insufficient_credits") || str_is(why, "limit_reached");
		too_long += str_is(why, "context_too_long");
		if (c->no_state && !p->state)
			p->state = c->no_state;
		if (c->beyond_hold)
			p->beyond_hold = c->beyond_hold;
	}
	if (p->retry_after_ms > 0)
		p->refusal = "no_route";
	else if (broke > 0)
		p->refusal = "insufficient_quota";
	else if (p->state)
		p->refusal = "state_not_found";
	else if (p->beyond_hold)
		p->refusal = "unsupported_parameter";
	else if (too_long > 0 && too_long == p->candidates_count)
		p->refusal = "context_length_exceeded";
	else
		p->refusal = "no_route";
}

enum rc route_plan_build(const struct plan_input *in, struct arena *mem, struct plan *ret,
			 struct err *err)
{
	struct plan plan = {.max_attempts = PLAN_ATTEMPTS_DEFAULT,
			    .timeout_ms = PLAN_TIMEOUT_MS_DEFAULT};
	struct build b = {.in = in, .mem = mem, .plan = &plan};

	assert(in->call && in->org);
	if (agent_of(&b) && agent_of(&b)->disabled) {
		(void)err_set(err, RC_DENIED, "agent_disabled", "The agent '%.*s' is disabled.",
			      STR_FMT(str_slice(in->call->agent, 0, 256)));
		err_field(err, "x-tollgate-agent");
		err_hint(err, "An org admin can enable it again.");
		return RC_DENIED;
	}
	plan.candidates = ARENA_ARRAY(mem, struct candidate, PLAN_CANDIDATES_MAX);
	if (!resolve(&b)) {
		(void)err_set(err, RC_NOT_FOUND, "model_not_found",
			      "No profile serves the model '%.*s'.",
			      STR_FMT(str_slice(b.asked, 0, 256)));
		err_field(err, "model");
		err_hint(err, "GET /v1/models lists what this key can use.");
		return RC_NOT_FOUND;
	}
	drop_ambiguous(&b);
	if (plan.usable == 0)
		refuse(&plan);
	*ret = plan;
	return RC_OK;
}

/* In the words that clients of the dialect know. */
static enum rc state_refused(const struct call_state *s, struct err *err)
{
	const bool response = str_is(str_from(s->kind), "response");

	if (response)
		(void)err_set(err, RC_INVALID, "previous_response_not_found",
			      "Previous response with id '%.*s' not found.",
			      STR_FMT(str_slice(s->id, 0, 128)));
	else
		(void)err_set(err, RC_NOT_FOUND, "state_not_found", "The %s '%.*s' was not found.",
			      s->kind, STR_FMT(str_slice(s->id, 0, 128)));
	err_field(err, "%s", s->field);
	err_hint(
		err,
		"One provider account keeps it; which one is not known here, or it cannot be asked now.");
	return response ? RC_INVALID : RC_NOT_FOUND;
}

static enum rc beyond_refused(const char *field, struct err *err)
{
	(void)err_set(
		err, RC_INVALID, "unsupported_parameter",
		"%s may cost more than can be held for a call: what the provider runs or chooses "
		"itself has no price that bounds it, so it is not offered on the platform's "
		"accounts.",
		field);
	err_hint(err, "Leave it out, or use a provider profile of your own.");
	err_field(err, "%s", field);
	return RC_INVALID;
}

enum rc route_plan_refused(const struct plan *p, struct err *err)
{
	struct str code = str_from(p->refusal);
	enum rc rc;

	assert(p->refusal && p->usable == 0);
	if (str_is(code, "insufficient_quota")) {
		rc = err_set(err, RC_LIMIT, "insufficient_quota",
			     "The available credits or a budget do not cover what this call can "
			     "cost.");
		err_hint(err, "Add credits, ask for less output, or use a profile of your own.");
	} else if (str_is(code, "state_not_found")) {
		rc = state_refused(p->state, err);
	} else if (str_is(code, "unsupported_parameter")) {
		rc = beyond_refused(p->beyond_hold, err);
	} else if (str_is(code, "context_length_exceeded")) {
		rc = err_set(err, RC_INVALID, "context_length_exceeded",
			     "The request is longer than the context window of every target.");
		err_hint(err, "Shorten the messages, or ask for less output.");
	} else {
		rc = err_set(err, RC_UNAVAILABLE, "no_route", "No target can serve this call%s.",
			     p->retry_after_ms > 0 ? " right now" : "");
		err_hint(err, "tollgate.targets tells why each was passed over.");
		if (err)
			err->retry_after_s =
				(int)least((p->retry_after_ms + 999) / 1000, INT32_MAX);
	}
	return rc;
}

static struct str asked_or_null(const struct route_target *t, bool profile)
{
	struct str s = !t ? STR_NULL : profile ? t->profile : t->provider;

	return s.len > 0 ? s : STR_NULL;
}

static void target_json(struct json_out *o, const struct candidate *c)
{
	char hold[MONEY_TEXT_SIZE];

	json_obj(o, NULL);
	json_put_str(o, "profile", c->profile ? c->profile->name : asked_or_null(c->asked, true));
	json_put_str(o, "provider",
		     c->provider ? str_from(c->provider->id) : asked_or_null(c->asked, false));
	json_put_str(o, "model", c->model);
	json_put_z(o, "billing_source", c->profile ? billing_source_name(c->source) : NULL);
	json_put_z(o, "verdict", c->use ? "use" : "skip");
	json_put_z(o, "reason", c->use ? NULL : c->reason);
	json_put_str(o, "hold", money_format_short(c->hold, hold));
	json_obj_end(o);
}

enum rc route_plan_json(const struct plan *p, struct buf *out)
{
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_z(&o, "resolved_by", p->resolved_by);
	json_put_str(&o, "route", p->route ? p->route->name : STR_NULL);
	json_arr(&o, "targets");
	for (size_t i = 0; i < p->candidates_count; i++)
		target_json(&o, &p->candidates[i]);
	json_arr_end(&o);
	json_put_z(&o, "refusal", p->usable == 0 ? p->refusal : NULL);
	json_obj_end(&o);
	return json_out_end(&o);
}
