/* routing/dialects/audio.c - usage and types of sound, for the dialects that speak and listen.
 *
 * Must never round a duration down: what was heard for a part of a millisecond was heard. */
#include "routing/dialects/audio_priv.h"

#include "routing/dialects/openai_priv.h"

#define NUMBER_BYTES_MAX 64
#define SECONDS_MAX	 (INT64_C(1000000)) /* eleven days of sound: a slip, not a file */
#define MICROS		 6

const char *const audio_media[] = {
	"audio/mpeg",  "audio/mp3",  "audio/ogg",    "audio/opus",
	"audio/aac",   "audio/flac", "audio/x-flac", "audio/wav",
	"audio/x-wav", "audio/wave", "audio/pcm",    "audio/l16",
	"audio/webm",  "audio/mp4",  "audio/basic",  "application/octet-stream",
	NULL};

bool audio_ms(const struct json *seconds, int64_t *ret)
{
	AUTO(buf) struct buf literal = BUF_INIT(NUMBER_BYTES_MAX);
	const enum json_type type = json_type(seconds);
	int64_t micros;

	if (!seconds || (type != JSON_INT && type != JSON_REAL) ||
	    json_write(seconds, &literal) != RC_OK ||
	    openai_decimal(buf_str(&literal), MICROS, &micros) != RC_OK || micros < 0 ||
	    micros > SECONDS_MAX * 1000000)
		return false;
	*ret = micros / 1000 + (micros % 1000 != 0);
	return true;
}

/* A counter, clamped and flagged; false: not stated. */
static bool count(const struct json *of, const char *name, struct usage *u, int64_t *ret)
{
	const struct json *v = json_get(of, name);
	int64_t n;

	if (json_is_null(v))
		return false;
	if (!json_int(v, &n) || n < 0 || n > USAGE_UNITS_MAX) {
		u->flags |= USAGE_FLAG_CLAMPED;
		n = json_int(v, &n) && n > 0 ? USAGE_UNITS_MAX : 0;
	}
	*ret = n;
	return true;
}

static void read_tokens(const struct json *usage, bool out_is_sound, struct usage *u)
{
	const struct json *details = json_get(usage, "input_token_details");
	int64_t in = 0, out = 0, total = 0, sound = 0;
	const bool has_in = count(usage, "input_tokens", u, &in);
	const bool has_out = count(usage, "output_tokens", u, &out);

	if (!has_in && !has_out)
		return;
	u->present = true;
	(void)count(details, "audio_tokens", u, &sound);
	if (sound > in || (count(usage, "total_tokens", u, &total) && total != in + out))
		u->flags |= USAGE_FLAG_INCONSISTENT;
	if (sound > in)
		sound = in;
	u->n[USAGE_in_audio] = sound;
	u->n[USAGE_in_text] = in - sound;
	u->n[out_is_sound ? USAGE_out_audio : USAGE_out_text] = out;
}

void audio_usage_read(const struct json *usage, bool out_is_sound, struct usage *ret)
{
	struct usage u = USAGE_NONE;
	const struct json *seconds = json_get(usage, "seconds");
	int64_t ms;

	if (json_type(usage) != JSON_OBJECT) {
		*ret = u;
		return;
	}
	if (json_is_null(seconds))
		seconds = json_get(usage, "prompt_audio_seconds"); /* Mistral: beside its tokens */
	read_tokens(usage, out_is_sound, &u);
	if (!u.present && !json_is_null(json_get(usage, "prompt_tokens")))
		openai_usage_read(usage, &u);
	if (audio_ms(seconds, &ms)) {
		u.present = true;
		u.n[USAGE_audio_in_ms] = ms;
	} else if (!json_is_null(seconds)) {
		u.flags |= USAGE_FLAG_CLAMPED;
	}
	*ret = u;
}
