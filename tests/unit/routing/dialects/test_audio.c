/* test_audio.c - speech and transcription: requests in OpenAI's words, what goes out to whom, usage, sounds, errors. */
#include "routing/dialect.h"
#include "routing/dialects/audio_priv.h"
#include "routing/dialects/elevenlabs_priv.h"
#include "routing/dialects/form_priv.h"
#include "routing/dialects/sound_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (8u << 20)
#define OUT_BYTES   (1u << 20)
#define VOICE	    "Fake0Voice0Of0Tests0"
#define TYPE	    "multipart/form-data; boundary=b"
#define FIELD(n, v) "--b\r\nContent-Disposition: form-data; name=\"" n "\"\r\n\r\n" v "\r\n"
#define FILE_PART                                                                                  \
	"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"t.mp3\"\r\n\r\nsound\r\n"

static const struct dialect *const speech = &dialect_openai_speech;
static const struct dialect *const listening = &dialect_openai_transcription;
static const struct dialect *const eleven = &dialect_elevenlabs_transcription;
static const struct call_head no_head, form_head = {.content_type = STR(TYPE)};
static struct arena *mem;

static void setup(void)
{
	mem = arena_new(ARENA_BYTES);
}

static void teardown(void)
{
	arena_free(mem);
}

static struct call asked(const struct dialect *d, const char *body)
{
	struct call c = {.choices = 0};
	struct err err = {0};

	ck_assert_msg(d->decode_request(d == speech ? &no_head : &form_head, str_from(body), mem,
					&c, &err) == RC_OK,
		      "%s", err.message);
	return c;
}

static struct dialect_target target(const char *provider)
{
	return (struct dialect_target){.provider = provider_find(str_from(provider)),
				       .model = STR("there")};
}

static struct sse_event event(const char *data)
{
	return (struct sse_event){.data = str_from(data), .raw = str_from(data)};
}

/* --- speech ------------------------------------------------------------------------------------- */

START_TEST(speech_is_counted_in_code_points)
{
	struct call c = asked(speech, "{\"model\":\"m\",\"input\":\"\xc3\xa4\xf0\x9f\x98\x80x\","
				      "\"voice\":{\"id\":\"v\"},\"instructions\":\"slow\"}");

	ck_assert_int_eq(c.counts.chars, 3);
	ck_assert_uint_eq(c.text_bytes, 7 + 4);
	ck_assert(c.stream && c.bytes && !c.counts.slow);
	ck_assert_uint_eq(c.needs, CAP_AUDIO_OUT);
	c = asked(speech,
		  "{\"model\":\"m\",\"input\":\"a\",\"voice\":\"v\",\"stream_format\":\"sse\","
		  "\"speed\":0.25}");
	ck_assert(c.stream && !c.bytes && c.counts.slow);
}
END_TEST

START_TEST(speech_passes_through)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct dialect_target t = target("openai");
	struct outgoing o = {.body = &out};
	struct call c =
		asked(speech, "{\"model\":\"m\", \"input\":\"a\",\"voice\":\"v\",\"x\":1.50}");
	struct err err = {0};

	ck_assert_int_eq(speech->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr,
			 "{\"model\":\"there\",\"input\":\"a\",\"voice\":\"v\",\"x\":1.50}");
	t.model = STR("m");
	buf_reset(&out);
	ck_assert_int_eq(speech->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr, "{\"model\":\"m\", \"input\":\"a\",\"voice\":\"v\",\"x\":1.50}");
}
END_TEST

START_TEST(speech_at_elevenlabs)
{
	static const struct {
		const char *more, *path, *body;
		size_t losses;
	} cases[] = {
		{"", "mp3_44100_128", "{\"text\":\"a\",\"model_id\":\"there\"}", 0},
		{",\"response_format\":\"pcm\",\"speed\":1.10", "pcm_24000",
		 "{\"text\":\"a\",\"model_id\":\"there\",\"voice_settings\":{\"speed\":1.10}}", 0},
		{",\"response_format\":\"wav\",\"speed\":0.5,\"instructions\":\"i\",\"x\":1",
		 "wav_24000",
		 "{\"text\":\"a\",\"model_id\":\"there\",\"voice_settings\":{\"speed\":0.7}}", 3},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
		struct dialect_target t = target("elevenlabs");
		struct outgoing o = {.body = &out};
		struct str body = arena_printf(
			mem, "{\"model\":\"m\",\"input\":\"a\",\"voice\":\"" VOICE "\"%s}",
			cases[i].more);
		struct call c = asked(speech, body.ptr);
		struct ask ask;
		struct err err = {0};

		ck_assert_int_eq(speech->decode_ask(&c, mem, &ask, &err), RC_OK);
		ck_assert_int_eq(dialect_elevenlabs_speech.encode_ask(&c, &ask, &t, mem, &o, &err),
				 RC_OK);
		ck_assert_str_eq(out.ptr, cases[i].body);
		ck_assert_str_eq(arena_strdup(mem, o.path), arena_printf(mem,
									 "/v1/text-to-speech/" VOICE
									 "/stream?output_format=%s",
									 cases[i].path)
								    .ptr);
		ck_assert_uint_eq(o.losses.count, cases[i].losses);
	}
}
END_TEST

START_TEST(events_of_speech)
{
	struct dialect_ctx ctx = {.mem = mem};
	struct sse_event ev = event("{\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}");
	struct facts f;

	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert(f.content && !f.terminal);
	ck_assert_int_eq(f.text_bytes, 3);
	ev = event(
		"{\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":"
		"101,\"total_tokens\":115}}");
	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert(f.terminal && f.ending && f.usage.present);
	ck_assert_int_eq(f.usage.n[USAGE_in_text], 14);
	ck_assert_int_eq(f.usage.n[USAGE_out_audio], 101);
	ck_assert_uint_eq(f.usage.flags, 0);
	ev = event("{\"type\":\"speech.audio.done\"}"); /* absent is not zero */
	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert(f.terminal && !f.usage.present);
	ev = event("{\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}");
	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert_int_ne(f.error, ERROR_none);
	ev = event("{\"type\":\"speech.new\"}");
	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert(!f.content && !f.terminal);
	ev = event("[1");
	ck_assert_int_eq(speech->decode_event(&ctx, &ev, &f), RC_PROTOCOL);
}
END_TEST

START_TEST(what_elevenlabs_charged_stands_in_the_head)
{
	static const struct {
		const char *model, *cost, *count;
		int64_t chars, want;
	} cases[] = {
		{"eleven_multilingual_v2", "100", "100", 100, 100},
		{"eleven_multilingual_v2", "80", "100", 100, 80}, /* a discount */
		{"eleven_flash_v2_5", "50", "100", 100, 100},
		{"eleven_turbo_v2", "51", "101", 101, 101},
		{"eleven_v3", "", "77", 100, 77},
		{"eleven_v3", "", "", 100, -1},
		{"eleven_v3", "many", "", 100, -1},
		{"eleven_v3", "-5", "", 100, 0},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct call c = {.counts = {.chars = cases[i].chars}};
		struct dialect_target t = {.model = str_from(cases[i].model)};
		struct dialect_ctx ctx = {.mem = mem, .call = &c, .target = &t};
		struct dialect_head h = {str_from(cases[i].cost), str_from(cases[i].count)};
		struct facts f = {.usage = USAGE_NONE};

		dialect_elevenlabs_speech.decode_head(&ctx, &h, &f);
		ck_assert_int_eq(f.usage.present, cases[i].want >= 0);
		if (f.usage.present)
			ck_assert_int_eq(f.usage.n[USAGE_chars], cases[i].want);
	}
}
END_TEST

/* --- transcription ------------------------------------------------------------------------------ */

START_TEST(only_the_model_of_a_form_changes)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct dialect_target t = target("openai");
	struct outgoing o = {.body = &out};
	struct call c =
		asked(listening, FIELD("language", "de") FIELD("model", "m") FILE_PART "--b--\r\n");
	struct err err = {0};

	ck_assert_int_eq(listening->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr,
			 FIELD("language", "de") FIELD("model", "there") FILE_PART "--b--\r\n");
	ck_assert(str_is(o.content_type, TYPE));
	buf_reset(&out);
	c = asked(listening,
		  FIELD("model", "there") FIELD("response_format", "srt") FILE_PART "--b--\r\n");
	ck_assert(listening->rewrites(&c));
	ck_assert_int_eq(listening->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr, FIELD("model", "there") FIELD("response_format", "verbose_json")
					  FILE_PART "--b--\r\n");
}
END_TEST

START_TEST(usage_is_tokens_or_seconds)
{
	struct call c = asked(listening, FIELD("model", "m") FILE_PART "--b--\r\n");
	struct dialect_ctx ctx = {.mem = mem, .call = &c};
	struct facts f;

	ck_assert_int_eq(
		listening->decode_response(
			&ctx,
			STR("{\"text\":\"t\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,"
			    "\"input_token_details\":{\"text_tokens\":4,\"audio_tokens\":10},"
			    "\"output_tokens\":45,\"total_tokens\":59}}"),
			&f),
		RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_in_text], 4);
	ck_assert_int_eq(f.usage.n[USAGE_in_audio], 10);
	ck_assert_int_eq(f.usage.n[USAGE_out_text], 45);
	ck_assert_int_eq(f.usage.n[USAGE_audio_in_ms], 0);
	ck_assert_uint_eq(f.usage.flags, 0);
	/* a double, and rounded up to the next millisecond */
	ck_assert_int_eq(
		listening->decode_response(
			&ctx,
			STR("{\"text\":\"t\",\"usage\":{\"type\":\"duration\",\"seconds\":2.0001}}"),
			&f),
		RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_audio_in_ms], 2001);
	ck_assert_int_eq(
		listening->decode_response(&ctx, STR("{\"text\":\"t\",\"duration\":1.5}"), &f),
		RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_audio_in_ms], 1500);
	ck_assert_int_eq(listening->decode_response(&ctx, STR("{\"text\":\"t\"}"), &f), RC_OK);
	ck_assert(!f.usage.present);
	ck_assert_int_eq(
		listening->decode_response(
			&ctx,
			STR("{\"text\":\"t\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":-1,"
			    "\"input_token_details\":{\"audio_tokens\":9},\"output_tokens\":1}}"),
			&f),
		RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_in_text] + f.usage.n[USAGE_in_audio], 0);
	ck_assert_uint_eq(f.usage.flags, USAGE_FLAG_CLAMPED | USAGE_FLAG_INCONSISTENT);
	ck_assert_int_eq(listening->decode_response(&ctx, STR("plain words"), &f), RC_PROTOCOL);
	ck_assert_int_eq(listening->decode_response(&ctx, STR("{\"t\":1}"), &f), RC_PROTOCOL);
}
END_TEST

#define ELEVEN                                                                                       \
	"{\"language_code\":\"eng\",\"text\":\"Hi you. So!\",\"words\":["                            \
	"{\"text\":\"Hi\",\"start\":0.5,\"end\":1,\"type\":\"word\",\"speaker_id\":\"s0\"},"         \
	"{\"text\":\" \",\"type\":\"spacing\"},"                                                     \
	"{\"text\":\"you\",\"start\":1,\"end\":1.25,\"type\":\"word\",\"speaker_id\":\"s0\"},"       \
	"{\"text\":\".\",\"start\":1.25,\"end\":1.3,\"type\":\"word\",\"speaker_id\":\"s0\"},"       \
	"{\"text\":\" \",\"type\":\"spacing\"},"                                                     \
	"{\"text\":\"So!\",\"start\":3661.001,\"end\":3662,\"type\":\"word\",\"speaker_id\":\"s1\"}" \
	"],\"audio_duration_secs\":3662.5}"
#define USED ",\"usage\":{\"type\":\"duration\",\"seconds\":3662.5}}"

static const struct {
	const char *format, *want, *type;
} forms[] = {
	{"json", "{\"text\":\"Hi you. So!\"" USED, NULL},
	{"text", "Hi you. So!\n", "text/plain; charset=utf-8"},
	{"srt",
	 "1\n00:00:00,500 --> 00:00:01,300\nHi you.\n\n2\n01:01:01,001 --> 01:01:02,000\nSo!\n\n",
	 "text/plain; charset=utf-8"},
	{"vtt",
	 "WEBVTT\n\n00:00:00.500 --> 00:00:01.300\nHi you.\n\n01:01:01.001 --> "
	 "01:01:02.000\nSo!\n\n",
	 "text/vtt; charset=utf-8"},
	{"verbose_json",
	 "{\"task\":\"transcribe\",\"language\":\"english\",\"duration\":3662.5,\"text\":\"Hi you. "
	 "So!\",\"segments\":[{\"id\":0,\"seek\":0,\"start\":0.5,\"end\":1.3,\"text\":\"Hi you.\"},{"
	 "\"id\":1,\"seek\":0,\"start\":3661.001,\"end\":3662.0,\"text\":\"So!\"}]" USED,
	 NULL},
	{"diarized_json",
	 "{\"task\":\"transcribe\",\"duration\":3662.5,\"text\":\"Hi you. So!\",\"segments\":[{"
	 "\"type\":\"transcript.text.segment\",\"id\":\"seg_0\",\"start\":0.5,\"end\":1.3,\"text\":"
	 "\"Hi you.\",\"speaker\":\"s0\"},{\"type\":\"transcript.text.segment\",\"id\":\"seg_1\","
	 "\"start\":3661.001,\"end\":3662.0,\"text\":\"So!\",\"speaker\":\"s1\"}]" USED,
	 NULL},
};

START_TEST(elevenlabs_answers_in_each_form)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct str body = arena_printf(
		mem, FIELD("model", "m") FIELD("response_format", "%s") FILE_PART "--b--\r\n",
		forms[_i].format);
	struct call c = asked(listening, body.ptr);
	struct dialect_ctx ctx = {.mem = mem, .keep = mem, .call = &c};
	struct facts f;

	ck_assert_int_eq(eleven->decode_response(&ctx, STR(ELEVEN), &f), RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_audio_in_ms], 3662500);
	ck_assert_int_eq(listening->encode_response(&ctx, &f, &out), RC_OK);
	ck_assert_str_eq(out.ptr, forms[_i].want);
	if (forms[_i].type)
		ck_assert_str_eq(ctx.answer_type, forms[_i].type);
	else
		ck_assert_ptr_null(ctx.answer_type);
}
END_TEST

START_TEST(a_form_for_elevenlabs)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct dialect_target t = target("elevenlabs");
	struct outgoing o = {.body = &out};
	struct call c = asked(listening,
			      FIELD("model", "m") FIELD("prompt", "p") FIELD("temperature", "0.1")
				      FIELD("response_format", "diarized_json")
					      FIELD("keywords[]", "k") FILE_PART "--b--\r\n");
	struct ask ask;
	struct err err = {0};

	ck_assert_int_eq(listening->decode_ask(&c, mem, &ask, &err), RC_OK);
	ck_assert_int_eq(eleven->encode_ask(&c, &ask, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr,
			 FIELD("model_id", "there") FIELD("temperature", "0.1")
				 FIELD("timestamps_granularity", "word") FIELD("diarize", "true")
					 FIELD("keyterms", "k") FILE_PART "--b--\r\n");
	ck_assert_uint_eq(o.losses.count, 1);
	c = asked(listening,
		  FIELD("model", "m") FIELD("include[]", "logprobs") FILE_PART "--b--\r\n");
	ck_assert_int_eq(listening->decode_ask(&c, mem, &ask, &err), RC_OK);
	ck_assert_int_eq(eleven->encode_ask(&c, &ask, &t, mem, &o, &err), RC_UNSUPPORTED);
	ck_assert_str_eq(err.field, "include");
}
END_TEST

START_TEST(an_answer_that_came_whole_is_told_in_events)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct call c =
		asked(listening, FIELD("model", "m") FIELD("stream", "true") FILE_PART "--b--\r\n");
	struct dialect_ctx ctx = {.mem = mem, .call = &c};
	struct facts f;

	ck_assert(c.stream && !c.bytes);
	ck_assert_int_eq(listening->decode_response(&ctx,
						    STR("{\"text\":\"t\",\"usage\":{\"type\":"
							"\"duration\",\"seconds\":1}}"),
						    &f),
			 RC_OK);
	ck_assert_int_eq(listening->encode_whole(&ctx, &f, &out), RC_OK);
	ck_assert_str_eq(out.ptr,
			 "data: {\"type\":\"transcript.text.delta\",\"delta\":\"t\"}\n\n"
			 "data: {\"type\":\"transcript.text.done\",\"text\":\"t\",\"usage\":{"
			 "\"type\":\"duration\",\"seconds\":1.0}}\n\n");
}
END_TEST

/* --- sounds ------------------------------------------------------------------------------------- */

START_TEST(a_plain_wave_is_measured_by_what_is_there)
{
	char wav[44 + 16000] = "RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0"
			       "\x80\x3e\0\0\x02\0\x10\0data\xff\xff\xff\xff";
	struct call_counts c = {.inputs = 0};

	sound_measure(str_of(wav, sizeof wav), &c); /* its header claims 4 GB */
	ck_assert(c.audio_exact);
	ck_assert_int_eq(c.audio_ms, 1000);
	ck_assert_int_eq(c.audio_ms_max, 2000);
	wav[20] = 2; /* compressed */
	c = (struct call_counts){.inputs = 0};
	sound_measure(str_of(wav, sizeof wav), &c);
	ck_assert(!c.audio_exact);
	for (size_t n = 0; n < sizeof wav; n += n < 60 ? 1 : 999) {
		c = (struct call_counts){.inputs = 0};
		sound_measure(str_of(wav, n), &c);
		ck_assert(c.audio_ms >= 0 && c.audio_ms <= c.audio_ms_max);
	}
}
END_TEST

/* A header that reads in two ways, to make a long recording look short: it is bounded as any other file. */
START_TEST(a_wave_that_contradicts_itself_is_not_believed)
{
	static const char fmt[] = "fmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0";
	static const char fast[] = "fmt \x10\0\0\0\x01\0\x08\0\0\xdc\x05\0\0\0\x77\x01\x40\0\x40\0";
	char wav[12 + 24 + 24 + 8 + 16000] = "RIFF\xff\xff\xff\xffWAVE";
	struct call_counts c = {.inputs = 0};

	memcpy(wav + 12, fmt, 24);
	memcpy(wav + 36, fast, 24);
	memcpy(wav + 60, "data\xff\xff\xff\xff", 8);
	sound_measure(str_of(wav, sizeof wav), &c);
	ck_assert(!c.audio_exact);
	ck_assert_int_ge(c.audio_ms_max, 16000 * 2); /* 500 bytes a second */
	memcpy(wav + 36, "junk\x10\0\0\0", 8);
	sound_measure(str_of(wav, sizeof wav), &c);
	ck_assert(c.audio_exact); /* the same without the second */
	ck_assert_int_eq(c.audio_ms, 1000);
	wav[12 + 8 + 12] = 64; /* a frame that is longer than its samples */
	c.audio_exact = false;
	sound_measure(str_of(wav, sizeof wav), &c);
	ck_assert(!c.audio_exact);
	wav[12 + 8 + 12] = 2;
	wav[12 + 8 + 9] = 1; /* bytes a second */
	sound_measure(str_of(wav, sizeof wav), &c);
	ck_assert(!c.audio_exact);
}
END_TEST

START_TEST(other_sounds_are_bounded_by_their_size)
{
	struct call_counts c = {.inputs = 0};
	char mp3[16000] = "ID3\x04\0\0\0\0\0\x06"
			  "123456"
			  "\xff\xfb\x90"; /* 128 kbit/s */

	sound_measure(str_of(mp3, sizeof mp3), &c);
	ck_assert_int_eq(c.audio_ms, 1000);
	ck_assert_int_eq(c.audio_ms_max, 33000);
	sound_measure(STR("OggS"), &c);
	ck_assert_int_eq(c.audio_ms, 1);
	ck_assert_int_eq(c.audio_ms_max, 1008);
}
END_TEST

/* --- failures ----------------------------------------------------------------------------------- */

static const struct {
	int status;
	const char *body;
	enum error_class class;
} failures[] = {
	{401, "{\"detail\":{\"status\":\"invalid_api_key\",\"message\":\"x\"}}", ERROR_auth},
	{401, "{\"detail\":{\"status\":\"missing_permissions\"}}", ERROR_permission},
	{401, "{\"detail\":{\"status\":\"quota_exceeded\"}}", ERROR_quota},
	{400, "{\"detail\":{\"status\":\"quota_exceeded\"}}", ERROR_quota},
	{401, "{\"detail\":{\"status\":\"detected_unusual_activity\"}}", ERROR_permission},
	{402, "{\"detail\":{\"status\":\"payment_required\"}}", ERROR_quota},
	{402, "", ERROR_quota},
	{400, "{\"detail\":{\"status\":\"text_too_long\"}}", ERROR_context_length},
	{404, "{\"detail\":{\"status\":\"voice_not_found\"}}", ERROR_invalid_request},
	{400, "{\"detail\":{\"status\":\"model_not_found\"}}", ERROR_not_found},
	{403, "{\"detail\":{\"status\":\"only_for_creator+\"}}", ERROR_invalid_request},
	{400, "{\"detail\":{\"status\":\"safety_violation\"}}", ERROR_content_policy},
	{409, "{}", ERROR_server_error},
	{425, "{\"detail\":\"too early\"}", ERROR_server_error},
	{422, "{\"detail\":[{\"loc\":[\"body\",\"text\"],\"msg\":\"Field required\"}]}",
	 ERROR_invalid_request},
	{429, "{\"detail\":{\"status\":\"too_many_concurrent_requests\"}}", ERROR_rate_limit},
	{429, "{\"detail\":{\"status\":\"system_busy\"}}", ERROR_overloaded},
	{500, "<html>", ERROR_server_error},
};

START_TEST(elevenlabs_is_classified_by_detail_status)
{
	struct err err = {0};

	ck_assert_int_eq(
		elevenlabs_classify(failures[_i].status, str_from(failures[_i].body), mem, &err),
		failures[_i].class);
	ck_assert_ptr_nonnull(err.code);
	ck_assert(err.message[0]);
}
END_TEST

START_TEST(words_about_keys_are_not_passed_on)
{
	struct err err = {0};

	elevenlabs_classify(401,
			    STR("{\"detail\":{\"status\":\"invalid_api_key\",\"message\":\"key of "
				"someone@example.com\"}}"),
			    mem, &err);
	ck_assert_ptr_null(strstr(err.message, "someone"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("audio");
	TCase *t = tcase_create("audio");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, speech_is_counted_in_code_points);
	tcase_add_test(t, speech_passes_through);
	tcase_add_test(t, speech_at_elevenlabs);
	tcase_add_test(t, events_of_speech);
	tcase_add_test(t, what_elevenlabs_charged_stands_in_the_head);
	tcase_add_test(t, only_the_model_of_a_form_changes);
	tcase_add_test(t, usage_is_tokens_or_seconds);
	tcase_add_loop_test(t, elevenlabs_answers_in_each_form, 0, sizeof forms / sizeof *forms);
	tcase_add_test(t, a_form_for_elevenlabs);
	tcase_add_test(t, an_answer_that_came_whole_is_told_in_events);
	tcase_add_test(t, a_plain_wave_is_measured_by_what_is_there);
	tcase_add_test(t, a_wave_that_contradicts_itself_is_not_believed);
	tcase_add_test(t, other_sounds_are_bounded_by_their_size);
	tcase_add_loop_test(t, elevenlabs_is_classified_by_detail_status, 0,
			    sizeof failures / sizeof *failures);
	tcase_add_test(t, words_about_keys_are_not_passed_on);
	suite_add_tcase(s, t);
	return suite_run(s);
}
