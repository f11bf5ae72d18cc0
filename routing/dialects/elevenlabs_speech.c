/* routing/dialects/elevenlabs_speech.c - text to speech at ElevenLabs, asked for in OpenAI's words (contracts: voice.md 6).
 *
 * Nobody calls us in this dialect: it is only written. A voice is a path there and an id of 20 letters and digits; a name
 * of another vendor's voice has no counterpart and is refused, never replaced by some default. What a call costs stands in
 * the head of its answer. */
#include "routing/dialect.h"
#include "routing/dialects/audio_priv.h"
#include "routing/dialects/elevenlabs_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"

#define VOICE_ID_CHARS	20
#define SPEED_MILLI_MIN 700
#define SPEED_MILLI_MAX 1200

static const struct {
	const char *format, *output;
} outputs[] = {
	{"mp3", "mp3_44100_128"},
	{"opus", "opus_48000_128"},
	{"pcm", "pcm_24000"},
	{"wav", "wav_24000"},
};

static bool is_voice_id(struct str s)
{
	if (s.len != VOICE_ID_CHARS)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!(s.ptr[i] >= '0' && s.ptr[i] <= '9') &&
		    !(s.ptr[i] >= 'a' && s.ptr[i] <= 'z') && !(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z'))
			return false;
	return true;
}

static const char *output_of(struct str format)
{
	for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
		if (str_is(format, outputs[i].format))
			return outputs[i].output;
	return NULL;
}

static void put_speed(struct json_out *o, const struct speech *s, struct chat_losses *losses)
{
	struct str speed = s->speed;

	if (s->speed_milli < SPEED_MILLI_MIN || s->speed_milli > SPEED_MILLI_MAX) {
		speed = s->speed_milli < SPEED_MILLI_MIN ? STR("0.7") : STR("1.2");
		chat_lose(losses, STR("speed"));
	}
	json_obj(o, "voice_settings");
	json_put_raw(o, "speed", speed);
	json_obj_end(o);
}

static enum rc encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err)
{
	const struct speech *s = &ask->speech;
	const char *output = output_of(s->format);
	struct json_out o;

	(void)c;
	if (!output)
		return chat_cannot(err, t->provider->label, "response_format");
	if (!is_voice_id(s->voice)) {
		(void)chat_cannot(err, t->provider->label, "voice");
		err_hint(err, "A voice there is an id of 20 letters and digits.");
		return RC_UNSUPPORTED;
	}
	out->path = arena_printf(mem, "/v1/text-to-speech/%.*s/stream?output_format=%s",
				 STR_FMT(s->voice), output);
	if (s->instructions.len > 0)
		chat_lose(&out->losses, STR("instructions"));
	for (size_t i = 0; i < s->hints_count; i++)
		chat_lose(&out->losses, s->hints[i]);
	json_out_begin(&o, out->body);
	json_obj(&o, NULL);
	json_put_str(&o, "text", s->text);
	json_put_str(&o, "model_id", t->model);
	if (s->speed.ptr)
		put_speed(&o, s, &out->losses);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* Flash and Turbo cost half a credit for a character, all others a whole one (contracts: voice.md 2). The catalogue's price
 * is per character. Half a credit is rounded up: an odd text is not one character longer for it. */
static int64_t chars_of_credits(const struct dialect_ctx *ctx, int64_t credits)
{
	const struct str model = ctx->target->model;
	const int64_t chars = ctx->call->counts.chars;
	const bool half = str_find_nocase(model, STR("flash")) >= 0 ||
			  str_find_nocase(model, STR("turbo")) >= 0;

	if (!half)
		return credits;
	return credits * 2 == chars + 1 ? chars : credits * 2;
}

/* What was charged, else what was counted; a discount of the account shows in the first alone. */
static void decode_head(struct dialect_ctx *ctx, const struct dialect_head *h, struct facts *ret)
{
	const bool credits = h->character_cost.len > 0;
	struct str said = str_trim(credits ? h->character_cost : h->character_count);
	struct usage u = USAGE_NONE;
	int64_t n;

	if (said.len == 0 || openai_decimal(said, 0, &n) != RC_OK)
		return;
	u.present = true;
	if (n < 0 || n > USAGE_UNITS_MAX / 2) {
		u.flags |= USAGE_FLAG_CLAMPED;
		n = n < 0 ? 0 : USAGE_UNITS_MAX / 2;
	}
	u.n[USAGE_chars] = credits ? chars_of_credits(ctx, n) : n;
	ret->usage = u;
}

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	(void)ctx;
	(void)ev;
	(void)ret;
	return RC_PROTOCOL; /* it sends sound */
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	(void)ctx;
	(void)body;
	(void)ret;
	return RC_PROTOCOL; /* the same */
}

const struct dialect dialect_elevenlabs_speech = {
	.name = "elevenlabs_speech",
	.operation = OPERATION_speech,
	.errors = ERROR_SHAPE_OPENAI,
	.media = audio_media,
	.encode_ask = encode_ask,
	.decode_head = decode_head,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = elevenlabs_classify,
};
