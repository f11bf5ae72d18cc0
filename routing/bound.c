/* routing/bound.c - the most that an embedding, a speech or a transcription can use, and estimates of what it used.
 *
 * A bound must be true: the hold is made with it, and what a provider states beyond it is cut at settlement, so no org
 * ever pays more than was held. Must never do I/O or allocate. */
#include "routing/bound.h"

#include "routing/snapshot.h"

#define BYTES_PER_TOKEN 4 /* of ordinary text; only where nobody counted */

/* gpt-4o-mini-tts makes about 1,250 audio tokens a minute of speech, and a minute has some 900 letters. The slowest sensible
 * speech, a sign of a language written in signs and half a second for it, takes ten tokens. */
#define SPEECH_TOKENS_PER_CHAR_MAX 10
#define SPEECH_TOKENS_PER_10_CHARS 14
#define SPEECH_SLOWEST		   4 /* speed 0.25 */
/* Ten audio tokens a second are what the transcribing models of OpenAI count. */
#define LISTEN_TOKENS_PER_S	    10
#define LISTEN_TOKENS_PER_S_MAX	    20
#define LISTEN_OUT_TOKENS_PER_S_MAX 20
#define LISTEN_TOKENS_BESIDE	    1024 /* what the models add of their own */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t seconds_up(int64_t ms)
{
	return ms / 1000 + (ms % 1000 != 0);
}

int64_t bound_tokens_of_bytes(int64_t bytes)
{
	return bytes / BYTES_PER_TOKEN + (bytes % BYTES_PER_TOKEN != 0);
}

bool bound_is_for(const struct call *c)
{
	return c->operation == OPERATION_embeddings || c->operation == OPERATION_speech ||
	       c->operation == OPERATION_transcription;
}

/* Each byte may be a token, and what a server adds to each text (two marks) is less than the quotes and commas around it. A
 * picture costs what it likes: then every input may be as long as the window. */
static void bound_embeddings(const struct call *c, int64_t window, struct price_bound *b)
{
	b->input_tokens_max = (int64_t)c->body_bytes;
	if (c->media_by_url)
		b->input_tokens_max += window > 0 ? window * c->counts.inputs : USAGE_UNITS_MAX;
	b->input_tokens_max = least(b->input_tokens_max, USAGE_UNITS_MAX);
}

static void bound_speech(const struct call *c, struct price_bound *b)
{
	b->any_unit = true;
	b->chars_max = c->counts.chars;
	b->input_tokens_max = (int64_t)c->body_bytes;
	b->output_tokens_max = c->counts.chars * SPEECH_TOKENS_PER_CHAR_MAX *
			       (c->counts.slow ? SPEECH_SLOWEST : 1);
}

static void bound_transcription(const struct call *c, const struct model_info *info, int64_t window,
				struct price_bound *b)
{
	const int64_t s = seconds_up(c->counts.audio_ms_max);

	b->any_unit = true;
	b->audio_in_ms_max = c->counts.audio_ms_max;
	b->input_tokens_max =
		s * LISTEN_TOKENS_PER_S_MAX + (int64_t)c->text_bytes + LISTEN_TOKENS_BESIDE;
	b->output_tokens_max = s * LISTEN_OUT_TOKENS_PER_S_MAX + LISTEN_TOKENS_BESIDE;
	if (window > 0) {
		b->input_tokens_max = least(b->input_tokens_max, window);
		b->output_tokens_max = least(b->output_tokens_max, window);
	}
	if (info && info->max_output > 0)
		b->output_tokens_max = least(b->output_tokens_max, info->max_output);
}

void bound_of_call(const struct call *c, const struct model_info *info, struct price_bound *ret)
{
	const int64_t window = info ? info->context_window : 0;
	struct price_bound b = {.choices = 1};

	if (c->operation == OPERATION_embeddings)
		bound_embeddings(c, window, &b);
	else if (c->operation == OPERATION_speech)
		bound_speech(c, &b);
	else
		bound_transcription(c, info, window, &b);
	*ret = b;
}

static bool estimate_speech(const struct call *c, const struct price_model *price, struct usage *u)
{
	if (!price || price_has(price, USAGE_chars)) {
		u->n[USAGE_chars] = c->counts.chars;
		return true;
	}
	u->n[USAGE_in_text] = bound_tokens_of_bytes((int64_t)c->text_bytes);
	u->n[USAGE_out_audio] = (c->counts.chars * SPEECH_TOKENS_PER_10_CHARS + 9) / 10;
	return false;
}

static bool estimate_transcription(const struct call *c, const struct price_model *price,
				   int64_t got, struct usage *u)
{
	if (!price || price_has(price, USAGE_audio_in_ms)) {
		u->n[USAGE_audio_in_ms] = c->counts.audio_ms;
		return c->counts.audio_exact;
	}
	u->n[USAGE_in_audio] = seconds_up(c->counts.audio_ms) * LISTEN_TOKENS_PER_S;
	u->n[USAGE_in_text] = bound_tokens_of_bytes((int64_t)c->text_bytes);
	u->n[USAGE_out_text] = bound_tokens_of_bytes(got);
	return false;
}

bool bound_estimate(const struct call *c, const struct price_model *price, int64_t got,
		    struct usage *u)
{
	bool exact = false;

	*u = USAGE_NONE;
	if (c->operation == OPERATION_speech)
		exact = estimate_speech(c, price, u);
	else if (c->operation == OPERATION_transcription)
		exact = estimate_transcription(c, price, got, u);
	else
		u->n[USAGE_embed_tokens] = bound_tokens_of_bytes((int64_t)c->text_bytes);
	if (!exact)
		u->flags |= USAGE_FLAG_ESTIMATED;
	return exact;
}

static void cut(struct usage *u, enum usage_class class, int64_t max)
{
	if (u->n[class] <= max)
		return;
	u->n[class] = max;
	u->flags |= USAGE_FLAG_CLAMPED;
}

void bound_clamp(const struct price_bound *b, struct usage *u)
{
	usage_clamp(u, b->input_tokens_max, b->output_tokens_max * b->choices);
	if (b->output_tokens_max ==
	    0) /* known to put out none, which usage_clamp() takes for not known */
		for (enum usage_class c = USAGE_out_text; c <= USAGE_out_image; c++)
			cut(u, c, 0);
	cut(u, USAGE_requests, 1);
	cut(u, USAGE_chars, b->chars_max);
	cut(u, USAGE_audio_in_ms, b->audio_in_ms_max);
}
