/* routing/dialects/transcript.c - transcripts in the six forms that OpenAI's transcription has.
 *
 * Times are integers of milliseconds; must never write a float. */
#include "routing/dialects/transcript_priv.h"

#include <stdio.h>

#include "routing/chat.h"

#define SEGMENT_BYTES_MAX 120
#define SEGMENT_GAP_MS	  1000

static const struct {
	const char *code, *code3, *name;
} languages[] = {
	{"ar", "ara", "arabic"},     {"cs", "ces", "czech"},	  {"da", "dan", "danish"},
	{"de", "deu", "german"},     {"el", "ell", "greek"},	  {"en", "eng", "english"},
	{"es", "spa", "spanish"},    {"fi", "fin", "finnish"},	  {"fr", "fra", "french"},
	{"he", "heb", "hebrew"},     {"hi", "hin", "hindi"},	  {"hu", "hun", "hungarian"},
	{"id", "ind", "indonesian"}, {"it", "ita", "italian"},	  {"ja", "jpn", "japanese"},
	{"ko", "kor", "korean"},     {"nl", "nld", "dutch"},	  {"no", "nor", "norwegian"},
	{"pl", "pol", "polish"},     {"pt", "por", "portuguese"}, {"ro", "ron", "romanian"},
	{"ru", "rus", "russian"},    {"sv", "swe", "swedish"},	  {"th", "tha", "thai"},
	{"tr", "tur", "turkish"},    {"uk", "ukr", "ukrainian"},  {"vi", "vie", "vietnamese"},
	{"zh", "zho", "chinese"},
};

/* verbose_json has a language's name. What is not in the table stays as the provider has it. */
static struct str language_name(struct str said)
{
	for (size_t i = 0; i < ARRAY_LEN(languages); i++)
		if (str_is(said, languages[i].code) || str_is(said, languages[i].code3))
			return str_from(languages[i].name);
	return said;
}

static void put_seconds(struct json_out *o, const char *key, int64_t ms)
{
	char text[48];
	int n = snprintf(text, sizeof text, "%lld.%03lld", (long long)(ms / 1000),
			 (long long)(ms % 1000));

	while (n > 1 && text[n - 1] == '0' && text[n - 2] != '.')
		n--;
	json_put_raw(o, key, str_of(text, (size_t)n));
}

void transcript_put_usage(struct json_out *o, const struct usage *u)
{
	const int64_t sound = u->n[USAGE_in_audio], in = usage_total_in(u),
		      out = usage_total_out(u);

	if (!u->present)
		return;
	json_obj(o, "usage");
	if (in + out > 0) {
		json_put_z(o, "type", "tokens");
		json_put_int(o, "input_tokens", in);
		json_obj(o, "input_token_details");
		json_put_int(o, "text_tokens", in - sound);
		json_put_int(o, "audio_tokens", sound);
		json_obj_end(o);
		json_put_int(o, "output_tokens", out);
		json_put_int(o, "total_tokens", in + out);
	} else {
		json_put_z(o, "type", "duration");
		put_seconds(o, "seconds", u->n[USAGE_audio_in_ms]);
	}
	json_obj_end(o);
}

static void put_times(struct json_out *o, const struct transcript_span *s)
{
	put_seconds(o, "start", s->start_ms);
	put_seconds(o, "end", s->end_ms);
}

static void put_words(struct json_out *o, const struct transcript *t)
{
	json_arr(o, "words");
	for (size_t i = 0; i < t->words_count; i++) {
		json_obj(o, NULL);
		json_put_str(o, "word", t->words[i].text);
		put_times(o, &t->words[i]);
		json_obj_end(o);
	}
	json_arr_end(o);
}

static void put_segments(struct json_out *o, const struct transcript *t)
{
	json_arr(o, "segments");
	for (size_t i = 0; i < t->segments_count; i++) {
		json_obj(o, NULL);
		json_put_int(o, "id", (int64_t)i);
		json_put_int(o, "seek", 0);
		put_times(o, &t->segments[i]);
		json_put_str(o, "text", t->segments[i].text);
		json_obj_end(o);
	}
	json_arr_end(o);
}

static void put_speakers(struct json_out *o, const struct transcript *t)
{
	char id[32];

	json_arr(o, "segments");
	for (size_t i = 0; i < t->segments_count; i++) {
		snprintf(id, sizeof id, "seg_%zu", i);
		json_obj(o, NULL);
		json_put_z(o, "type", "transcript.text.segment");
		json_put_z(o, "id", id);
		put_times(o, &t->segments[i]);
		json_put_str(o, "text", t->segments[i].text);
		json_put_str(o, "speaker", t->segments[i].speaker);
		json_obj_end(o);
	}
	json_arr_end(o);
}

static enum rc write_json(const struct transcript *t, const struct transcribe *ask,
			  const struct usage *usage, struct buf *out)
{
	const bool verbose = ask->format == TRANSCRIPT_VERBOSE;
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	if (ask->format != TRANSCRIPT_JSON) {
		json_put_z(&o, "task", "transcribe");
		if (verbose)
			json_put_str(&o, "language", language_name(t->language));
		if (t->duration_ms >= 0)
			put_seconds(&o, "duration", t->duration_ms);
	}
	json_put_str(&o, "text", t->text);
	if (verbose && ask->words)
		put_words(&o, t);
	if (verbose && (ask->segments || !ask->words))
		put_segments(&o, t);
	if (ask->format == TRANSCRIPT_DIARIZED)
		put_speakers(&o, t);
	transcript_put_usage(&o, usage);
	json_obj_end(&o);
	return json_out_end(&o);
}

static enum rc put_clock(struct buf *out, int64_t ms, char point)
{
	return buf_printf(out, "%02lld:%02lld:%02lld%c%03lld", (long long)(ms / 3600000),
			  (long long)(ms / 60000 % 60), (long long)(ms / 1000 % 60), point,
			  (long long)(ms % 1000));
}

static enum rc write_subtitles(const struct transcript *t, bool vtt, struct buf *out)
{
	const char point = vtt ? '.' : ',';

	if (vtt)
		TRY(buf_append(out, STR("WEBVTT\n\n")));
	for (size_t i = 0; i < t->segments_count; i++) {
		const struct transcript_span *s = &t->segments[i];

		if (!vtt)
			TRY(buf_printf(out, "%zu\n", i + 1));
		TRY(put_clock(out, s->start_ms, point));
		TRY(buf_append(out, STR(" --> ")));
		TRY(put_clock(out, s->end_ms, point));
		TRY(buf_append_char(out, '\n'));
		TRY(buf_append(out, str_trim(s->text)));
		TRY(buf_append(out, STR("\n\n")));
	}
	return RC_OK;
}

enum rc transcript_write(const struct transcript *t, const struct transcribe *ask,
			 const struct usage *usage, struct buf *out)
{
	switch (ask->format) {
	case TRANSCRIPT_TEXT:
		TRY(buf_append(out, t->text));
		return buf_append_char(out, '\n');
	case TRANSCRIPT_SRT:
	case TRANSCRIPT_VTT:
		return write_subtitles(t, ask->format == TRANSCRIPT_VTT, out);
	default:
		return write_json(t, ask, usage, out);
	}
}

/* --- words to segments ------------------------------------------------------------------------------------- */

static bool ends_sentence(struct str word)
{
	return word.len > 0 && strchr(".?!", word.ptr[word.len - 1]) != NULL;
}

static bool begins_segment(const struct transcript_span *before, const struct transcript_span *w,
			   size_t len)
{
	return !before || ends_sentence(before->text) || len >= SEGMENT_BYTES_MAX ||
	       w->start_ms - before->end_ms >= SEGMENT_GAP_MS ||
	       !str_eq(before->speaker, w->speaker);
}

enum rc transcript_segment(struct transcript *t, struct arena *mem)
{
	const struct transcript_span *before = NULL;
	struct transcript_span *at = NULL;
	struct chat_text text = {.ptr = NULL};
	void *all;

	TRY(arena_try_alloc(mem, sizeof *t->segments * (t->words_count + 1), &all));
	t->segments = all;
	t->segments_count = 0;
	for (size_t i = 0; i < t->words_count; i++) {
		const struct transcript_span *w = &t->words[i];

		if (begins_segment(before, w, text.len)) {
			text = (struct chat_text){.ptr = NULL};
			at = &t->segments[t->segments_count++];
			*at = *w;
		} else if (!w->glued) {
			TRY(chat_text_add(mem, &text, STR(" ")));
		}
		TRY(chat_text_add(mem, &text, w->text));
		at->text = chat_text_str(&text);
		at->end_ms = w->end_ms;
		before = w;
	}
	return RC_OK;
}
