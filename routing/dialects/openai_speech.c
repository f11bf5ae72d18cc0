/* routing/dialects/openai_speech.c - POST /audio/speech, as callers and as OpenAI-shaped providers speak it.
 *
 * JSON in; out comes sound, which is relayed as it comes, or events with the sound in base64. A model that is sold by
 * characters is charged for those of `input`, which are known before anything is sent; one that is sold by tokens states
 * them only in its last event. Must never gather the sound. */
#include "routing/dialect.h"
#include "routing/dialects/audio_priv.h"
#include "routing/dialects/field_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"
#include "server/base/hash.h"

#define NUMBER_BYTES_MAX 64
#define SPEED_MILLI_MIN	 250
#define SPEED_MILLI_MAX	 4000

/* --- a caller's request ------------------------------------------------------------------------- */

static enum rc read_text(const struct json *root, struct speech *s, struct call *c, struct err *err)
{
	const struct json *input = json_get(root, "input");

	if (json_is_null(input))
		return field_bad(err, "input", "is required");
	if (!json_string(input, &s->text))
		return field_bad(err, "input", "must be a string");
	c->counts.chars = field_code_points(s->text);
	if (c->counts.chars < 1 || c->counts.chars > SPEECH_CHARS_MAX)
		return field_bad(err, "input", "must have 1 to 4096 characters");
	c->text_bytes = s->text.len;
	return RC_OK;
}

/* A name, or {"id": "..."} of one's own. */
static enum rc read_voice(const struct json *root, struct speech *s, struct err *err)
{
	const struct json *voice = json_get(root, "voice");

	if (json_is_null(voice))
		return field_bad(err, "voice", "is required");
	if (!json_string(voice, &s->voice) && !json_string(json_get(voice, "id"), &s->voice))
		return field_bad(err, "voice", "must be a string, or an object with an id");
	if (s->voice.len == 0)
		return field_bad(err, "voice", "must not be empty");
	return RC_OK;
}

static enum rc read_speed(const struct json *root, struct arena *mem, struct speech *s,
			  struct err *err)
{
	AUTO(buf) struct buf literal = BUF_INIT(NUMBER_BYTES_MAX);
	const struct json *v = json_get(root, "speed");
	const enum json_type type = json_type(v);

	if (json_is_null(v))
		return RC_OK;
	if ((type != JSON_INT && type != JSON_REAL) || json_write(v, &literal) != RC_OK ||
	    openai_decimal(buf_str(&literal), 3, &s->speed_milli) != RC_OK ||
	    s->speed_milli < SPEED_MILLI_MIN || s->speed_milli > SPEED_MILLI_MAX)
		return field_bad(err, "speed", "must be a number from 0.25 to 4");
	s->speed = arena_str(mem, buf_str(&literal));
	return RC_OK;
}

static enum rc read_stream(const struct json *root, bool *events, struct err *err)
{
	struct str format = STR("audio");

	TRY(field_string(root, "stream_format", &format, err));
	*events = str_is(format, "sse");
	if (*events || str_is(format, "audio"))
		return RC_OK;
	return field_bad(err, "stream_format", "must be audio or sse");
}

static enum rc read_speech(const struct json *root, struct arena *mem, struct speech *s,
			   struct call *c, struct err *err)
{
	s->format = STR("mp3");
	TRY(read_text(root, s, c, err));
	TRY(read_voice(root, s, err));
	TRY(field_string(root, "instructions", &s->instructions, err));
	TRY(field_string(root, "response_format", &s->format, err));
	TRY(read_speed(root, mem, s, err));
	c->text_bytes += s->instructions.len;
	c->counts.slow = s->speed.ptr && s->speed_milli < 1000;
	return RC_OK;
}

static enum rc decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_speech,
			 .operation = OPERATION_speech,
			 .choices = 1,
			 .stream = true, /* sound or events, it comes bit by bit */
			 .needs = CAP_AUDIO_OUT,
			 .body_bytes = body.len,
			 .body_text = body};
	struct speech s = {.format = STR_NULL};
	bool events;

	(void)head;
	TRY(field_body(body, mem, &c.body, err));
	TRY(field_model(c.body, &c.model, err));
	TRY(read_speech(c.body, mem, &s, &c, err));
	TRY(read_stream(c.body, &events, err));
	c.bytes = !events;
	*ret = c;
	return RC_OK;
}

static enum rc decode_ask(const struct call *c, struct arena *mem, struct ask *ret, struct err *err)
{
	static const char *const known[] = {"model",	    "input",	       "voice",
					    "instructions", "response_format", "speed",
					    "stream_format"};
	struct json_iter it = json_iter(c->body);
	struct speech s = {.format = STR_NULL};
	struct call again = {.choices = 1};
	struct json *v;
	struct str key;
	void *names;

	TRY(read_speech(c->body, mem, &s, &again, err));
	TRY(arena_try_alloc(mem, sizeof *s.hints * (json_len(c->body) + 1), &names));
	s.hints = names;
	while (json_next(&it, &key, &v)) {
		bool is_known = json_is_null(v);

		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			is_known |= str_is(key, known[i]);
		if (!is_known)
			s.hints[s.hints_count++] = key;
	}
	ret->speech = s;
	return RC_OK;
}

static enum rc encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err)
{
	struct json_edit edit = {.key = "model"};

	(void)err;
	if (str_eq(c->model, t->model))
		return buf_append(out->body, c->body_text);
	TRY(field_quoted(t->model, mem, &edit.raw_json));
	return json_write_edited(c->body, &edit, 1, out->body);
}

/* --- answers ------------------------------------------------------------------------------------ */

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct str data = str_trim(ev->data), type = STR(""), audio = STR("");
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
	} else if (str_is(type, "speech.audio.delta")) {
		(void)json_string(json_get(root, "audio"), &audio);
		f.content = audio.len > 0;
		f.text_bytes = (int64_t)(audio.len / 4 * 3);
	} else if (str_is(type, "speech.audio.done")) {
		audio_usage_read(json_get(root, "usage"), true, &f.usage);
		f.terminal = f.ending = true;
		f.finished = 1;
		f.finish = FINISH_STOP;
	}
	ctx->saw_error |= f.error != ERROR_none;
	*ret = f;
	return RC_OK;
}

/* A good answer that is neither sound nor events can only be an error in disguise. */
static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    !openai_error_is(root))
		return RC_PROTOCOL;
	f.error = openai_error_read(200, root, &f.err);
	*ret = f;
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

static enum rc encode_bytes(struct dialect_ctx *ctx, struct str bytes, struct buf *out)
{
	(void)ctx;
	if (bytes.len == 0)
		return RC_OK;
	TRY(buf_append(out, STR("data: {\"type\":\"speech.audio.delta\",\"audio\":\"")));
	TRY(base64_encode(bytes, out));
	return buf_append(out, STR("\"}\n\n"));
}

/* Who makes sound without events counts no tokens: zeros, as its clients need the numbers. */
static enum rc encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	const int64_t in = usage_total_in(usage), made = usage_total_out(usage), all = in + made;

	(void)ctx;
	return buf_printf(out,
			  "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":%lld,"
			  "\"output_tokens\":%lld,\"total_tokens\":%lld}}\n\n",
			  (long long)in, (long long)made, (long long)all);
}

const struct dialect dialect_openai_speech = {
	.name = "openai_speech",
	.operation = OPERATION_speech,
	.errors = ERROR_SHAPE_OPENAI,
	.keepalive = ": keep-alive\n\n",
	.media = audio_media,
	.decode_request = decode_request,
	.decode_ask = decode_ask,
	.encode_request = encode_request,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = openai_classify,
	.encode_event = encode_event,
	.encode_bytes = encode_bytes,
	.encode_end = encode_end,
	.encode_error_event = encode_error_event,
};
