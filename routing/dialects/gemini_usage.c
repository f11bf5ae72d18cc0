/* routing/dialects/gemini_usage.c - usageMetadata as disjoint classes, and back.
 *
 * The prompt includes what was cached; thoughts stand beside the candidates, and what built-in tools fed back stands
 * beside the prompt. Each chunk of a stream repeats the totals so far. What does not add up is flagged and counted on
 * the provider's own totals, details that would make it cheaper given up; nothing read here is negative or unbounded. */
#include <assert.h>
#include "routing/dialects/gemini_priv.h"
#include "routing/dialects/openai_priv.h"

#define NUMBER_BYTES_MAX 64

struct modes { /* a total by modality; documents are text */
	int64_t audio, image, video;
};

struct totals {
	int64_t prompt, cached, candidates, thoughts, tools, total;
	bool has_prompt, has_candidates, has_thoughts, has_total;
	struct modes in, in_cached, out;
};

/* One counter into *ret (0 when it is not stated). True: it was. Anything but a plain integer in range is flagged. */
static bool count(const struct json *v, uint32_t *flags, int64_t *ret)
{
	AUTO(buf) struct buf literal = BUF_INIT(NUMBER_BYTES_MAX);
	struct str s;
	int64_t n;

	*ret = 0;
	if (json_is_null(v))
		return false;
	if (!json_int(v, &n)) {
		/* an int64 of this API may come as a string */
		if (!json_string(v, &s) || str_to_i64(s, &n) != RC_OK) {
			*flags |= USAGE_FLAG_CLAMPED;
			if (json_type(v) != JSON_REAL && json_type(v) != JSON_INT)
				return false;
			if (json_write(v, &literal) != RC_OK ||
			    openai_decimal(buf_str(&literal), 0, &n) != RC_OK)
				return false;
		}
	}
	if (n < 0 || n > USAGE_UNITS_MAX) {
		*flags |= USAGE_FLAG_CLAMPED;
		n = n < 0 ? 0 : USAGE_UNITS_MAX;
	}
	*ret = n;
	return true;
}

static void modes_read(const struct json *details, uint32_t *flags, struct modes *m)
{
	struct json_iter it =
		json_iter(details && json_type(details) == JSON_ARRAY ? details : NULL);
	struct json *one;
	struct str modality;
	int64_t n;

	while (json_next(&it, NULL, &one)) {
		int64_t *to = NULL;

		if (!json_string(json_get(one, "modality"), &modality))
			continue;
		if (str_is(modality, "AUDIO"))
			to = &m->audio;
		else if (str_is(modality, "IMAGE"))
			to = &m->image;
		else if (str_is(modality, "VIDEO"))
			to = &m->video;
		/* each stands once: a repetition replaces */
		if (to && count(json_get(one, "tokenCount"), flags, &n))
			*to = n;
	}
}

static void totals_read(const struct json *u, uint32_t *flags, struct totals *t)
{
	t->has_prompt = count(json_get(u, "promptTokenCount"), flags, &t->prompt);
	t->has_candidates = count(json_get(u, "candidatesTokenCount"), flags, &t->candidates);
	t->has_thoughts = count(json_get(u, "thoughtsTokenCount"), flags, &t->thoughts);
	t->has_total = count(json_get(u, "totalTokenCount"), flags, &t->total);
	(void)count(json_get(u, "cachedContentTokenCount"), flags, &t->cached);
	(void)count(json_get(u, "toolUsePromptTokenCount"), flags, &t->tools);
	modes_read(json_get(u, "promptTokensDetails"), flags, &t->in);
	modes_read(json_get(u, "cacheTokensDetails"), flags, &t->in_cached);
	modes_read(json_get(u, "candidatesTokensDetails"), flags, &t->out);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Where the provider's total is more than its parts, what is not named is output: the dearer side. */
static void settle_total(struct totals *t, struct usage *u)
{
	const int64_t sum = t->prompt + t->candidates + t->thoughts + t->tools;

	if (!t->has_total || t->total == sum)
		return;
	if (t->has_candidates || t->total < sum || !t->has_prompt)
		u->flags |= USAGE_FLAG_INCONSISTENT;
	if (t->total > sum)
		t->candidates += t->total - sum;
}

/* A part of the cache that was media, where no detail says so: what does not fit beside the media was media. */
static void overlap(int64_t *excess, const int64_t *media, int64_t *cached)
{
	const int64_t n = least(*excess, *media - *cached);

	if (n <= 0)
		return;
	*cached += n;
	*excess -= n;
}

static bool input_adds_up(const struct totals *t)
{
	const struct modes *in = &t->in, *c = &t->in_cached;

	return in->audio + in->image + in->video <= t->prompt && t->cached <= t->prompt &&
	       c->audio <= in->audio && c->image <= in->image && c->video <= in->video &&
	       c->audio + c->image + c->video <= t->cached;
}

static void map_input(struct totals *t, struct usage *u)
{
	struct modes *in = &t->in, *c = &t->in_cached;
	int64_t fresh, text, excess;

	if (!input_adds_up(t)) {
		u->flags |= USAGE_FLAG_INCONSISTENT;
		in->audio = least(in->audio, t->prompt);
		in->image = in->video = t->cached = 0;
		*c = (struct modes){0};
	}
	text = t->prompt - in->audio - in->image - in->video;
	excess = t->cached - c->audio - c->image - c->video - text;
	overlap(&excess, &in->video, &c->video);
	overlap(&excess, &in->image, &c->image);
	overlap(&excess, &in->audio, &c->audio);
	fresh = t->prompt - t->cached - (in->audio - c->audio) - (in->image - c->image) -
		(in->video - c->video);
	assert(fresh >= 0);
	u->n[USAGE_in_text] = fresh;
	u->n[USAGE_in_audio] = in->audio - c->audio;
	u->n[USAGE_in_image] = in->image - c->image;
	u->n[USAGE_in_video] = in->video - c->video;
	u->n[USAGE_in_audio_cached] = c->audio;
	u->n[USAGE_in_image_cached] = c->image;
	u->n[USAGE_in_cached_read] = t->cached - c->audio - c->image;
	u->n[USAGE_in_tool_prompt] = t->tools;
}

static void map_output(struct totals *t, struct usage *u)
{
	struct modes *out = &t->out;

	if (out->audio + out->image > t->candidates) {
		u->flags |= USAGE_FLAG_INCONSISTENT;
		out->audio = least(out->audio, t->candidates);
		out->image = least(out->image, t->candidates - out->audio);
	}
	u->n[USAGE_out_text] = t->candidates - out->audio - out->image;
	u->n[USAGE_out_audio] = out->audio;
	u->n[USAGE_out_image] = out->image;
	u->n[USAGE_out_reasoning] = t->thoughts;
}

static void tier_read(const struct json *usage, struct usage *u)
{
	struct str tier;

	if (!json_string(json_get(usage, "serviceTier"), &tier) ||
	    tier.len >= sizeof u->service_tier)
		return;
	for (size_t i = 0; i < tier.len; i++)
		if (tier.ptr[i] <= ' ' || tier.ptr[i] > '~')
			return;
	for (size_t i = 0; i < tier.len; i++)
		u->service_tier[i] =
			(char)(tier.ptr[i] >= 'A' && tier.ptr[i] <= 'Z' ? tier.ptr[i] - 'A' + 'a'
									: tier.ptr[i]);
	u->service_tier[tier.len] = '\0';
}

void gemini_usage_read(const struct json *usage, struct usage *ret)
{
	struct usage u = USAGE_NONE;
	struct totals t = {0};

	if (usage && json_type(usage) == JSON_OBJECT) {
		totals_read(usage, &u.flags, &t);
		u.present = t.has_prompt || t.has_candidates || t.has_thoughts;
	}
	if (u.present) {
		settle_total(&t, &u);
		map_input(&t, &u);
		map_output(&t, &u);
		tier_read(usage, &u);
		/* sums of counters at their bound: each class stays within it */
		for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
			if (u.n[i] > USAGE_UNITS_MAX) {
				u.n[i] = USAGE_UNITS_MAX;
				u.flags |= USAGE_FLAG_CLAMPED;
			}
	}
	*ret = u;
}

/* ---- the other way ----------------------------------------------------------------------------------- */

static void put_mode(struct json_out *o, const char *modality, int64_t n)
{
	if (n <= 0)
		return;
	json_obj(o, NULL);
	json_put_z(o, "modality", modality);
	json_put_int(o, "tokenCount", n);
	json_obj_end(o);
}

/* Only where there is more than text: the totals say the rest. */
static void put_modes(struct json_out *o, const char *key, int64_t total, const struct modes *m)
{
	const int64_t media = m->audio + m->image + m->video;

	if (media == 0)
		return;
	json_arr(o, key);
	put_mode(o, "TEXT", total - media);
	put_mode(o, "AUDIO", m->audio);
	put_mode(o, "IMAGE", m->image);
	put_mode(o, "VIDEO", m->video);
	json_arr_end(o);
}

static void put_count(struct json_out *o, const char *key, int64_t n)
{
	if (n > 0) /* zeros are left out, as the vendor does */
		json_put_int(o, key, n);
}

void gemini_usage_write(struct json_out *o, const struct usage *u)
{
	const int64_t *n = u->n;
	const struct modes in = {n[USAGE_in_audio] + n[USAGE_in_audio_cached],
				 n[USAGE_in_image] + n[USAGE_in_image_cached], n[USAGE_in_video]};
	const struct modes cached = {n[USAGE_in_audio_cached], n[USAGE_in_image_cached], 0};
	const struct modes out = {n[USAGE_out_audio], n[USAGE_out_image], 0};
	const int64_t tools = n[USAGE_in_tool_prompt];
	const int64_t prompt = usage_total_in(u) - tools;
	const int64_t from_cache = n[USAGE_in_cached_read] + cached.audio + cached.image;
	const int64_t candidates = n[USAGE_out_text] + out.audio + out.image;

	if (!u->present)
		return;
	json_obj(o, "usageMetadata");
	json_put_int(o, "promptTokenCount", prompt);
	put_count(o, "candidatesTokenCount", candidates);
	json_put_int(o, "totalTokenCount", prompt + tools + usage_total_out(u));
	put_count(o, "cachedContentTokenCount", from_cache);
	put_count(o, "thoughtsTokenCount", n[USAGE_out_reasoning]);
	put_count(o, "toolUsePromptTokenCount", tools);
	put_modes(o, "promptTokensDetails", prompt, &in);
	put_modes(o, "cacheTokensDetails", from_cache, &cached);
	put_modes(o, "candidatesTokensDetails", candidates, &out);
	if (u->service_tier[0])
		json_put_z(o, "serviceTier", u->service_tier);
	json_obj_end(o);
}
