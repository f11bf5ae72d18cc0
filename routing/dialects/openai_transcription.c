/* routing/dialects/openai_transcription.c - POST /audio/transcriptions, as callers and as OpenAI-shaped providers speak it.
 *
 * A form comes in and goes on: all of its bytes, or its parts with another model in their midst; a file is never copied but
 * into the request that leaves. Answers in plain text have no usage: the same is asked for as JSON, whose usage is exact,
 * and the text is written from that. Must never take the caller's word for how long a recording is. */
#include "routing/dialect.h"
#include "routing/dialects/audio_priv.h"
#include "routing/dialects/field_priv.h"
#include "routing/dialects/form_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/dialects/sound_priv.h"
#include "routing/dialects/transcript_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define FILE_BYTES_MAX	(25u << 20) /* the API's own */
#define BYTES_PER_TOKEN 4
#define TOKENS_PER_S	10

static const struct {
	const char *name, *asked; /* asked of the provider */
	enum transcript_format format;
	const char *type; /* of the answer; NULL: JSON */
} formats[] = {
	{"json", "json", TRANSCRIPT_JSON, NULL},
	{"text", "json", TRANSCRIPT_TEXT, "text/plain; charset=utf-8"},
	{"srt", "verbose_json", TRANSCRIPT_SRT, "text/plain; charset=utf-8"},
	{"vtt", "verbose_json", TRANSCRIPT_VTT, "text/vtt; charset=utf-8"},
	{"verbose_json", "verbose_json", TRANSCRIPT_VERBOSE, NULL},
	{"diarized_json", "diarized_json", TRANSCRIPT_DIARIZED, NULL},
};

/* --- a caller's request ------------------------------------------------------------------------- */

static size_t format_index(const struct form *f)
{
	const struct form_part *p = form_get(f, "response_format");

	for (size_t i = 0; p && i < ARRAY_LEN(formats); i++)
		if (str_is(p->value, formats[i].name))
			return i;
	return p ? ARRAY_LEN(formats) : 0;
}

static enum rc read_file(struct call *c, struct err *err)
{
	const struct form_part *file = form_get(c->form, "file");

	if (!file || !file->filename.ptr)
		return field_bad(err, "file", "is required, as a file");
	if (file->value.len == 0)
		return field_bad(err, "file", "is empty");
	if (file->value.len > FILE_BYTES_MAX) {
		(void)err_set(err, RC_TOO_LARGE, "request_too_large",
			      "The file is larger than 25 MB.");
		err_field(err, "file");
		return RC_TOO_LARGE;
	}
	sound_measure(file->value, &c->counts);
	return RC_OK;
}

static enum rc read_fields(struct call *c, struct err *err)
{
	const struct form_part *model = form_get(c->form, "model");
	const struct form_part *stream = form_get(c->form, "stream");

	if (!model)
		return field_bad(err, "model", "is required");
	c->model = model->value;
	TRY(field_model_ok(c->model, err));
	if (format_index(c->form) == ARRAY_LEN(formats))
		return field_bad(err, "response_format",
				 "must be json, text, srt, verbose_json, vtt or diarized_json");
	if (stream && !str_is(stream->value, "true") && !str_is(stream->value, "false"))
		return field_bad(err, "stream", "must be true or false");
	c->stream = stream && str_is(stream->value, "true");
	for (size_t i = 0; i < c->form->count; i++) {
		const struct form_part *p = &c->form->parts[i];

		if (p->filename.ptr && !str_is(p->name, "file"))
			return field_bad(err, "file", "is the only file of the form");
		if (!p->filename.ptr)
			c->text_bytes += p->value.len;
	}
	return RC_OK;
}

static enum rc decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_transcription,
			 .operation = OPERATION_transcription,
			 .choices = 1,
			 .needs = CAP_AUDIO_IN,
			 .content_type = head->content_type,
			 .body_text = body};
	struct form *form;

	TRY(form_read(head->content_type, body, mem, &form, err));
	c.form = form;
	TRY(read_fields(&c, err));
	TRY(read_file(&c, err));
	/* a file's bytes are no tokens: what the key's limits count is what is heard */
	c.body_bytes = c.text_bytes +
		       (size_t)(c.counts.audio_ms / 1000 + 1) * TOKENS_PER_S * BYTES_PER_TOKEN;
	*ret = c;
	return RC_OK;
}

static bool rewrites(const struct call *c)
{
	return formats[format_index(c->form)].type != NULL;
}

static void ask_read(const struct form *f, struct transcribe *t)
{
	*t = (struct transcribe){.format = formats[format_index(f)].format};
	for (size_t i = 0; i < f->count; i++) {
		const struct form_part *p = &f->parts[i];
		const struct str name = p->name;

		if (str_is(name, "language"))
			t->language = p->value;
		else if (str_is(name, "temperature"))
			t->temperature = p->value;
		else if (str_is(name, "keywords[]") && t->keywords_count < TRANSCRIPT_TERMS_MAX)
			t->keywords[t->keywords_count++] = p->value;
		else if (str_is(name, "timestamp_granularities[]"))
			*(str_is(p->value, "word") ? &t->words : &t->segments) = true;
		else if (str_is(name, "include[]"))
			t->needs = "include";
		else if (str_starts(name, STR("known_speaker_")))
			t->needs = "known_speaker_names";
		else if (str_is(name, "prompt"))
			t->hints[t->hints_count++] = "prompt";
		else if (str_is(name, "chunking_strategy"))
			t->hints[t->hints_count++] = "chunking_strategy";
		else if (str_is(name, "languages[]"))
			t->hints[t->hints_count++] = "languages";
		else if (!str_is(name, "file") && !str_is(name, "model") &&
			 !str_is(name, "response_format") && !str_is(name, "stream"))
			t->hints[t->hints_count++] = "unknown fields of the form";
	}
}

static enum rc decode_ask(const struct call *c, struct arena *mem, struct ask *ret, struct err *err)
{
	(void)mem;
	(void)err;
	ask_read(c->form, &ret->transcribe);
	return RC_OK;
}

/* --- the request to a provider -------------------------------------------------------------------- */

static enum rc encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err)
{
	const size_t format = format_index(c->form);

	(void)err;
	out->content_type = c->content_type;
	if (str_eq(c->model, t->model) && !rewrites(c))
		return outgoing_pass(c, NULL, 0, mem, out);
	TRY(buf_reserve(out->body, c->body_text.len + OUTGOING_SLACK));
	for (size_t i = 0; i < c->form->count; i++) {
		const struct form_part *p = &c->form->parts[i];

		if (str_is(p->name, "model"))
			TRY(form_put_field(out->body, c->form->boundary, "model", t->model));
		else if (str_is(p->name, "response_format") && rewrites(c))
			TRY(form_put_field(out->body, c->form->boundary, "response_format",
					   str_from(formats[format].asked)));
		else
			TRY(form_put_part(out->body, c->form->boundary, p));
	}
	return form_end(out->body, c->form->boundary);
}

/* --- answers ------------------------------------------------------------------------------------ */

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct str data = str_trim(ev->data), type = STR(""), text = STR("");
	struct json *root;

	if (ev->comment || data.len == 0 || str_is(data, "[DONE]")) {
		*ret = f;
		return RC_OK;
	}
	if (json_parse(data, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	(void)json_string(json_get(root, "type"), &type);
	if (openai_error_is(root)) {
		f.error = openai_error_read(200, root, &f.err);
	} else if (str_is(type, "transcript.text.delta")) {
		(void)json_string(json_get(root, "delta"), &text);
		f.content = text.len > 0;
		f.text_bytes = (int64_t)text.len;
	} else if (str_is(type, "transcript.text.segment")) {
		f.content = true;
	} else if (str_is(type, "transcript.text.done")) {
		audio_usage_read(json_get(root, "usage"), false, &f.usage);
		f.terminal = f.ending = true;
		f.finished = 1;
		f.finish = FINISH_STOP;
	}
	ctx->saw_error |= f.error != ERROR_none;
	*ret = f;
	return RC_OK;
}

static enum rc read_spans(struct arena *mem, const struct json *list, const char *text_key,
			  struct transcript_span **ret, size_t *ret_count)
{
	const size_t count = json_len(list);
	struct json_iter it = json_iter(list);
	struct transcript_span *spans;
	struct json *one;
	size_t n = 0;
	void *all;

	if (count > TRANSCRIPT_SPANS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(mem, sizeof *spans * (count + 1), &all));
	spans = all;
	while (json_next(&it, NULL, &one)) {
		struct transcript_span *s = &spans[n++];

		s->text = STR("");
		(void)json_string(json_get(one, text_key), &s->text);
		(void)json_string(json_get(one, "speaker"), &s->speaker);
		(void)audio_ms(json_get(one, "start"), &s->start_ms);
		(void)audio_ms(json_get(one, "end"), &s->end_ms);
	}
	*ret = spans;
	*ret_count = n;
	return RC_OK;
}

static enum rc read_transcript(struct arena *mem, const struct json *root, struct facts *f)
{
	struct transcript *t = ARENA_NEW(mem, struct transcript);

	if (!json_string(json_get(root, "text"), &t->text))
		return RC_PROTOCOL;
	(void)json_string(json_get(root, "language"), &t->language);
	if (!audio_ms(json_get(root, "duration"), &t->duration_ms))
		t->duration_ms = -1;
	TRY(read_spans(mem, json_get(root, "words"), "word", &t->words, &t->words_count));
	TRY(read_spans(mem, json_get(root, "segments"), "text", &t->segments, &t->segments_count));
	f->transcript = t;
	f->text_bytes = (int64_t)t->text.len;
	audio_usage_read(json_get(root, "usage"), false, &f->usage);
	if (!f->usage.present && t->duration_ms >= 0) { /* servers from before there was usage */
		f->usage.present = true;
		f->usage.n[USAGE_audio_in_ms] = t->duration_ms;
	}
	return RC_OK;
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE, .terminal = true, .content = true};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	if (openai_error_is(root)) {
		f.content = false;
		f.error = openai_error_read(200, root, &f.err);
		*ret = f;
		return RC_OK;
	}
	TRY(read_transcript(ctx->mem, root, &f));
	*ret = f;
	return RC_OK;
}

/* Subtitles need times; a transcript without any is one long line. */
static enum rc with_segments(struct dialect_ctx *ctx, const struct transcript *t,
			     struct transcript *ret)
{
	*ret = *t;
	if (ret->segments_count > 0)
		return RC_OK;
	if (ret->words_count > 0)
		return transcript_segment(ret, ctx->mem);
	ret->segments = ARENA_NEW(ctx->mem, struct transcript_span);
	ret->segments[0] = (struct transcript_span){
		.end_ms = t->duration_ms >= 0 ? t->duration_ms : ctx->call->counts.audio_ms,
		.text = t->text};
	ret->segments_count = 1;
	return RC_OK;
}

static enum rc encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct transcribe ask;
	struct transcript t;

	if (!f->transcript)
		return RC_PROTOCOL;
	ask_read(ctx->call->form, &ask);
	TRY(with_segments(ctx, f->transcript, &t));
	ctx->answer_type = formats[format_index(ctx->call->form)].type;
	return transcript_write(&t, &ask, &f->usage, out);
}

/* One event with all of the text, and the last with it and the usage. */
static enum rc encode_whole(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	const char *const types[] = {"transcript.text.delta", "transcript.text.done"};

	(void)ctx;
	if (!f->transcript)
		return RC_PROTOCOL;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct json_out o;

		TRY(buf_append(out, STR("data: ")));
		json_out_begin(&o, out);
		json_obj(&o, NULL);
		json_put_z(&o, "type", types[i]);
		json_put_str(&o, i ? "text" : "delta", f->transcript->text);
		if (i)
			transcript_put_usage(&o, &f->usage);
		json_obj_end(&o);
		TRY(json_out_end(&o));
		TRY(buf_append(out, STR("\n\n")));
	}
	return RC_OK;
}

static enum rc encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	return dialect_openai_chat.encode_error_event(e, tollgate_json, out);
}

static enum rc encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out)
{
	(void)ctx;
	if (f->error != ERROR_none)
		return encode_error_event(&f->err, STR_NULL, out);
	return buf_append(out, ev->raw);
}

const struct dialect dialect_openai_transcription = {
	.name = "openai_transcription",
	.operation = OPERATION_transcription,
	.errors = ERROR_SHAPE_OPENAI,
	.keepalive = ": keep-alive\n\n",
	.decode_request = decode_request,
	.decode_ask = decode_ask,
	.encode_request = encode_request,
	.rewrites = rewrites,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = openai_classify,
	.encode_event = encode_event,
	.encode_whole = encode_whole,
	.encode_response = encode_response,
	.encode_error_event = encode_error_event,
};
