/* routing/dialects/elevenlabs_transcription.c - speech to text at ElevenLabs, asked for in OpenAI's words (contracts: voice.md 7).
 *
 * Nobody calls us in this dialect: a form of OpenAI's is written anew, its file as it came, under its own boundary, which
 * none of its parts can hold. What it costs is the time that the answer states. */
#include "routing/dialect.h"
#include "routing/dialects/audio_priv.h"
#include "routing/dialects/elevenlabs_priv.h"
#include "routing/dialects/form_priv.h"
#include "routing/dialects/transcript_priv.h"
#include "routing/provider.h"

static bool is_plain(struct str value)
{
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.ptr[i] < ' ')
			return false;
	return true;
}

static enum rc put(struct outgoing *out, const struct form *f, const char *name, struct str value)
{
	return form_put_field(out->body, f->boundary, name, value);
}

static enum rc put_keywords(struct outgoing *out, const struct form *f, const struct transcribe *t)
{
	for (size_t i = 0; i < t->keywords_count; i++) {
		if (is_plain(t->keywords[i]))
			TRY(put(out, f, "keyterms", t->keywords[i]));
		else
			chat_lose(&out->losses, STR("keywords"));
	}
	return RC_OK;
}

static enum rc encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err)
{
	const struct transcribe *a = &ask->transcribe;
	const struct form *f = c->form;
	const bool timed = a->format != TRANSCRIPT_JSON && a->format != TRANSCRIPT_TEXT;

	(void)mem;
	if (a->needs)
		return chat_cannot(err, t->provider->label, a->needs);
	if (!is_plain(a->language) || !is_plain(a->temperature))
		return chat_cannot(err, t->provider->label, "language");
	for (size_t i = 0; i < a->hints_count; i++)
		chat_lose(&out->losses, str_from(a->hints[i]));
	out->content_type = c->content_type;
	TRY(put(out, f, "model_id", t->model));
	if (a->language.len > 0)
		TRY(put(out, f, "language_code", a->language));
	if (a->temperature.len > 0)
		TRY(put(out, f, "temperature", a->temperature));
	TRY(put(out, f, "timestamps_granularity", timed ? STR("word") : STR("none")));
	if (a->format == TRANSCRIPT_DIARIZED)
		TRY(put(out, f, "diarize", STR("true")));
	TRY(put_keywords(out, f, a));
	TRY(form_put_part(out->body, f->boundary, form_get(f, "file")));
	return form_end(out->body, f->boundary);
}

/* Where it says what stands between words, a word without that is glued to the one before. */
static enum rc read_words(struct arena *mem, const struct json *list, struct transcript *t)
{
	struct json_iter it = json_iter(list);
	bool spaced = true, says_spaces = false;
	struct json *one;
	void *all;

	if (json_len(list) > TRANSCRIPT_SPANS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(mem, sizeof *t->words * (json_len(list) + 1), &all));
	t->words = all;
	while (json_next(&it, NULL, &one)) {
		struct str type = STR("word");
		struct transcript_span *w = &t->words[t->words_count];

		(void)json_string(json_get(one, "type"), &type);
		if (!str_is(type, "word")) {
			says_spaces |= str_is(type, "spacing");
			spaced = true;
			continue;
		}
		if (!json_string(json_get(one, "text"), &w->text))
			continue;
		(void)json_string(json_get(one, "speaker_id"), &w->speaker);
		(void)audio_ms(json_get(one, "start"), &w->start_ms);
		(void)audio_ms(json_get(one, "end"), &w->end_ms);
		w->glued = !spaced;
		spaced = false;
		t->words_count++;
	}
	for (size_t i = 0; !says_spaces && i < t->words_count; i++)
		t->words[i].glued = false;
	return RC_OK;
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE, .terminal = true, .content = true};
	struct transcript *t = ARENA_NEW(ctx->mem, struct transcript);
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    !json_string(json_get(root, "text"), &t->text))
		return RC_PROTOCOL;
	(void)json_string(json_get(root, "language_code"), &t->language);
	t->duration_ms = -1;
	TRY(read_words(ctx->mem, json_get(root, "words"), t));
	if (audio_ms(json_get(root, "audio_duration_secs"), &t->duration_ms)) {
		f.usage.present = true;
		f.usage.n[USAGE_audio_in_ms] = t->duration_ms;
	}
	f.transcript = t;
	f.text_bytes = (int64_t)t->text.len;
	*ret = f;
	return RC_OK;
}

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	(void)ctx;
	(void)ev;
	(void)ret;
	return RC_PROTOCOL; /* it has no stream */
}

const struct dialect dialect_elevenlabs_transcription = {
	.name = "elevenlabs_transcription",
	.operation = OPERATION_transcription,
	.errors = ERROR_SHAPE_OPENAI,
	.encode_ask = encode_ask,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = elevenlabs_classify,
};
