/* routing/dialects/openai_usage.c - the usage object of chat completions as disjoint classes.
 *
 * The totals include their details: cached, written and media tokens are parts of prompt_tokens, reasoning, audio and
 * rejected predictions parts of completion_tokens. Where a server counts otherwise, its own total_tokens
 * says so (reasoning beside the completion, cached beside the prompt). Whatever does not add up is flagged
 * and counted on the provider's totals, details that would make it cheaper given up; nothing read here can
 * become negative or unbounded. No float: a cost is read off its decimal text. */
#include "routing/dialects/openai_priv.h"
#include <assert.h>

#define LITERAL_BYTES_MAX 64
#define DECIMAL_DIGITS_MAX                                                                         \
	30 /* 10^30 times ten fits 128 bits; the digits behind cannot change a rounding */
#define DECIMAL_EXPONENT_MAX 9999 /* past it a value is zero or the clamp either way */
#define TICKS_PER_NANO	     10	  /* cost_in_usd_ticks: 1 USD is 10^10 ticks */
#define COST_SCALE	     9	  /* decimal places of a nano-credit */
#define SECONDS_SCALE	     6

struct decimal {
	unsigned __int128 digits;
	int64_t exponent;
	bool negative;
};

static enum rc exponent_read(struct str s, int64_t *ret)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	int64_t n = 0;

	if (negative || (s.len > 0 && s.ptr[0] == '+'))
		s = str_slice(s, 1, s.len);
	if (s.len == 0)
		return RC_INVALID;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return RC_INVALID;
		if (n < DECIMAL_EXPONENT_MAX)
			n = n * 10 + (s.ptr[i] - '0');
	}
	*ret = negative ? -n : n;
	return RC_OK;
}

static enum rc decimal_read(struct str s, struct decimal *ret)
{
	struct decimal d = {.negative = s.len > 0 && s.ptr[0] == '-'};
	bool point = false, any = false;
	int64_t exponent = 0;
	int kept = 0;

	for (size_t i = d.negative; i < s.len; i++) {
		char c = s.ptr[i];

		if (c == '.' && !point) {
			point = true;
		} else if ((c == 'e' || c == 'E') && any) {
			TRY(exponent_read(str_slice(s, i + 1, s.len), &exponent));
			break;
		} else if (c < '0' || c > '9') {
			return RC_INVALID;
		} else {
			any = true;
			if (kept < DECIMAL_DIGITS_MAX) {
				d.digits = d.digits * 10 + (unsigned)(c - '0');
				kept += d.digits > 0;
				d.exponent -= point;
			} else {
				d.exponent += !point;
			}
		}
	}
	d.exponent += exponent;
	*ret = d;
	return any ? RC_OK : RC_INVALID;
}

enum rc openai_decimal(struct str literal, int scale, int64_t *ret)
{
	unsigned __int128 n, power = 1;
	struct decimal d;

	TRY(decimal_read(literal, &d));
	n = d.digits;
	d.exponent += scale;
	for (; d.exponent > 0 && n > 0 && n < INT64_MAX; d.exponent--)
		n *= 10;
	for (; d.exponent < 0 && power <= n; d.exponent++)
		power *= 10;
	/* a power past n that is not yet past 2n still rounds up; one further step makes it zero */
	n = d.exponent < 0 ? 0 : (n + power / 2) / power;
	if (n > INT64_MAX)
		n = INT64_MAX;
	*ret = d.negative ? -(int64_t)n : (int64_t)n;
	return RC_OK;
}

static enum rc number_scaled(const struct json *v, int scale, int64_t *ret)
{
	AUTO(buf) struct buf text = BUF_INIT(LITERAL_BYTES_MAX);
	struct str s;

	if (json_type(v) == JSON_STRING && json_string(v, &s))
		return openai_decimal(s, scale, ret);
	if (json_type(v) != JSON_INT && json_type(v) != JSON_REAL)
		return RC_INVALID;
	TRY(json_write(v, &text));
	return openai_decimal(buf_str(&text), scale, ret);
}

/* One counter into *ret (0 when it is not stated). True: it was. Anything but a plain integer in range is flagged. */
static bool count(const struct json *of, const char *key, uint32_t *flags, int64_t *ret)
{
	const struct json *v = json_get(of, key);
	int64_t n;

	*ret = 0;
	if (json_is_null(v))
		return false;
	if (!json_int(v, &n)) {
		*flags |= USAGE_FLAG_CLAMPED;
		if (number_scaled(v, 0, &n) != RC_OK)
			return false;
	}
	if (n < 0 || n > USAGE_UNITS_MAX) {
		*flags |= USAGE_FLAG_CLAMPED;
		n = n < 0 ? 0 : USAGE_UNITS_MAX;
	}
	*ret = n;
	return true;
}

struct totals { /* as the provider states them */
	int64_t prompt, completion, total;
	bool has_prompt, has_completion, has_total;
	int64_t cached, written, audio, image, video; /* of the prompt */
	int64_t reasoning, audio_out, image_out;      /* of the completion */
};

struct names { /* one meaning under two names */
	const char *prompt, *prompt_details, *completion, *completion_details;
};
static const struct names chat_names = {"prompt_tokens", "prompt_tokens_details",
					"completion_tokens", "completion_tokens_details"};
static const struct names responses_names = {"input_tokens", "input_tokens_details",
					     "output_tokens", "output_tokens_details"};

static void totals_read(const struct json *usage, const struct names *names, uint32_t *flags,
			struct totals *t)
{
	const struct json *in = json_get(usage, names->prompt_details);
	const struct json *out = json_get(usage, names->completion_details);

	t->has_prompt = count(usage, names->prompt, flags, &t->prompt);
	t->has_completion = count(usage, names->completion, flags, &t->completion);
	t->has_total = count(usage, "total_tokens", flags, &t->total);
	/* one fact, three places: OpenAI's, Moonshot's, DeepSeek's */
	if (!count(in, "cached_tokens", flags, &t->cached) &&
	    !count(usage, "cached_tokens", flags, &t->cached))
		(void)count(usage, "prompt_cache_hit_tokens", flags, &t->cached);
	(void)count(in, "cache_write_tokens", flags, &t->written);
	(void)count(in, "audio_tokens", flags, &t->audio);
	(void)count(in, "image_tokens", flags, &t->image);
	(void)count(in, "video_tokens", flags, &t->video);
	(void)count(out, "reasoning_tokens", flags, &t->reasoning);
	(void)count(out, "audio_tokens", flags, &t->audio_out);
	(void)count(out, "image_tokens", flags, &t->image_out);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Tokens counted both as cached and as media: they become the class for both. */
static void overlap(int64_t *excess, int64_t *cached, int64_t *media, int64_t *both)
{
	int64_t n = least(*excess, least(*cached, *media));

	*both = n;
	*cached -= n;
	*media -= n;
	*excess -= n;
}

static void map_input(struct totals *t, struct usage *u)
{
	int64_t parts = t->cached + t->written + t->audio + t->image + t->video;
	int64_t excess = parts > t->prompt ? parts - t->prompt : 0;
	int64_t text;

	overlap(&excess, &t->cached, &t->audio, &u->n[USAGE_in_audio_cached]);
	overlap(&excess, &t->cached, &t->image, &u->n[USAGE_in_image_cached]);
	if (excess > 0) {
		u->flags |= USAGE_FLAG_INCONSISTENT;
		u->n[USAGE_in_audio_cached] = u->n[USAGE_in_image_cached] = 0;
		t->audio = least(t->audio, t->prompt);
		t->written = least(t->written, t->prompt - t->audio);
		t->cached = t->image = t->video = 0;
	}
	text = t->prompt - t->cached - t->written - t->audio - t->image - t->video -
	       u->n[USAGE_in_audio_cached] - u->n[USAGE_in_image_cached];
	assert(text >= 0);
	u->n[USAGE_in_text] = text;
	u->n[USAGE_in_cached_read] = t->cached;
	u->n[USAGE_in_cache_write_5m] = t->written;
	u->n[USAGE_in_audio] = t->audio;
	u->n[USAGE_in_image] = t->image;
	u->n[USAGE_in_video] = t->video;
}

static void map_output(struct totals *t, struct usage *u)
{
	if (t->reasoning > t->completion - least(t->completion, t->audio_out + t->image_out) ||
	    t->audio_out + t->image_out > t->completion) {
		u->flags |= USAGE_FLAG_INCONSISTENT;
		t->audio_out = least(t->audio_out, t->completion);
		t->image_out = least(t->image_out, t->completion - t->audio_out);
		t->reasoning = 0;
	}
	u->n[USAGE_out_reasoning] = t->reasoning;
	u->n[USAGE_out_audio] = t->audio_out;
	u->n[USAGE_out_image] = t->image_out;
	u->n[USAGE_out_text] = t->completion - t->reasoning - t->audio_out - t->image_out;
	assert(u->n[USAGE_out_text] >= 0);
}

/* The formula under which the provider's own total is true; makes the parts included ones. */
static void settle_totals(struct totals *t, struct usage *u)
{
	int64_t beside = t->cached > t->prompt ? t->cached : 0;

	if (t->has_total && !t->has_completion && t->total >= t->prompt)
		t->completion = t->total - t->prompt;
	else if (t->has_total && !t->has_prompt && t->total >= t->completion)
		t->prompt = t->total - t->completion;
	else if (!t->has_prompt || !t->has_completion)
		u->flags |= USAGE_FLAG_INCONSISTENT;
	if (!t->has_total || t->total == t->prompt + t->completion)
		return;
	if (t->total == t->prompt + t->completion + t->reasoning) {
		t->completion += t->reasoning;
	} else if (beside && t->total == t->prompt + beside + t->completion) {
		t->prompt += beside;
	} else if (beside && t->total == t->prompt + beside + t->completion + t->reasoning) {
		t->prompt += beside;
		t->completion += t->reasoning;
	} else {
		u->flags |= USAGE_FLAG_INCONSISTENT;
	}
}

/* With a key of one's own OpenRouter's `cost` is its fee alone; what the provider behind it took stands apart. */
static int64_t cost_behind(const struct json *usage)
{
	const struct json *v = json_get(json_get(usage, "cost_details"), "upstream_inference_cost");
	bool own_key = false;
	int64_t nano = 0;

	if (!json_bool(json_get(usage, "is_byok"), &own_key) || !own_key || json_is_null(v) ||
	    number_scaled(v, COST_SCALE, &nano) != RC_OK || nano < 0)
		return 0;
	return nano;
}

static void cost_read(const struct json *usage, struct usage *u)
{
	const struct json *cost = json_get(usage, "cost");
	const int64_t behind = cost_behind(usage);
	int64_t ticks, nano;

	if (!json_is_null(cost)) {
		if (number_scaled(cost, COST_SCALE, &nano) == RC_OK && nano >= 0)
			u->provider_cost_nano =
				nano > INT64_MAX - behind ? INT64_MAX : nano + behind;
		else
			u->flags |= USAGE_FLAG_CLAMPED;
	} else if (json_int(json_get(usage, "cost_in_usd_ticks"), &ticks) && ticks >= 0) {
		u->provider_cost_nano =
			ticks / TICKS_PER_NANO + (ticks % TICKS_PER_NANO >= TICKS_PER_NANO / 2);
	}
}

/* Mistral's, beside its tokens: a started millisecond counts. */
static void seconds_read(const struct json *usage, struct usage *u)
{
	const struct json *seconds = json_get(usage, "prompt_audio_seconds");
	int64_t micros;

	if (json_is_null(seconds))
		return;
	if (number_scaled(seconds, SECONDS_SCALE, &micros) != RC_OK || micros < 0 ||
	    micros / 1000 >= USAGE_UNITS_MAX)
		u->flags |= USAGE_FLAG_CLAMPED;
	else
		u->n[USAGE_audio_in_ms] = micros / 1000 + (micros % 1000 != 0);
}

static void usage_read(const struct json *usage, const struct names *names, struct usage *ret)
{
	struct totals t = {0};
	struct usage u = USAGE_NONE;

	if (usage && json_type(usage) == JSON_OBJECT) {
		totals_read(usage, names, &u.flags, &t);
		u.present = t.has_prompt || t.has_completion;
		cost_read(usage, &u);
	}
	if (u.present) {
		settle_totals(&t, &u);
		map_input(&t, &u);
		map_output(&t, &u);
		seconds_read(usage, &u);
	}
	*ret = u;
}

void openai_usage_read(const struct json *usage, struct usage *ret)
{
	usage_read(usage, &chat_names, ret);
}

void openai_usage_read_responses(const struct json *usage, struct usage *ret)
{
	usage_read(usage, &responses_names, ret);
}

/* Totals include their parts, as everywhere in this family; tokens that were both cached and media are both here, too. */
void openai_usage_write(struct json_out *o, const char *key, const struct usage *u)
{
	const int64_t in = usage_total_in(u), out = usage_total_out(u), *n = u->n;

	json_obj(o, key);
	json_put_int(o, "prompt_tokens", in);
	json_put_int(o, "completion_tokens", out);
	json_put_int(o, "total_tokens", in + out);
	json_obj(o, "prompt_tokens_details");
	json_put_int(o, "cached_tokens",
		     n[USAGE_in_cached_read] + n[USAGE_in_audio_cached] + n[USAGE_in_image_cached]);
	json_put_int(o, "cache_write_tokens",
		     n[USAGE_in_cache_write_5m] + n[USAGE_in_cache_write_1h]);
	json_put_int(o, "audio_tokens", n[USAGE_in_audio] + n[USAGE_in_audio_cached]);
	json_obj_end(o);
	json_obj(o, "completion_tokens_details");
	json_put_int(o, "reasoning_tokens", n[USAGE_out_reasoning]);
	json_put_int(o, "audio_tokens", n[USAGE_out_audio]);
	json_put_int(o, "accepted_prediction_tokens", 0);
	json_put_int(o, "rejected_prediction_tokens", 0);
	json_obj_end(o);
	json_obj_end(o);
}
