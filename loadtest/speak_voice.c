/* loadtest/speak_voice.c - speech and transcription as OpenAI and as ElevenLabs say them.
 *
 * A sound is as many bytes as its text has characters, times BYTES_A_CHARACTER, after the format's own first
 * bytes. A recording lasts a second per SECOND_BYTES of its file. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define BYTES_A_CHARACTER     16
#define SECOND_BYTES	      16000
#define SPEECH_CHARACTERS_MAX 4096
#define ELEVEN_CHARACTERS_MAX 40000

static const struct {
	const char *format, *type, *first;
} sounds[] = {
	{"mp3", "audio/mpeg", "ID3"},	  {"opus", "audio/ogg", "OggS"},
	{"aac", "audio/aac", "\xff\xf1"}, {"flac", "audio/flac", "fLaC"},
	{"wav", "audio/wav", "RIFF"},	  {"pcm", "audio/pcm", ""},
	{"ulaw", "audio/basic", ""},	  {"alaw", "audio/basic", ""},
};

static bool is_eleven(const struct call *k)
{
	return k->verb == VOICE_ELEVEN || k->verb == VOICE_ELEVEN_STREAM ||
	       k->verb == VOICE_ELEVEN_TEXT;
}

static int64_t characters_of(const char *s)
{
	int64_t n = 0;

	for (; *s != 0; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* --- errors -------------------------------------------------------------------------------------------- */

static void error_body(struct text *t, const struct call *k, int status)
{
	const char *name = k->plan.code[0] != 0	 ? k->plan.code
			   : k->why_code != NULL ? k->why_code
			   : status == 401	 ? "invalid_api_key"
			   : status == 402	 ? "payment_required"
			   : status == 404	 ? "voice_not_found"
			   : status == 429	 ? "too_many_concurrent_requests"
			   : status >= 500	 ? "internal_server_error"
						 : "invalid_request";

	if (!is_eleven(k)) {
		speak_chat.error(t, k, status);
		return;
	}
	if (status == 422) {
		text_z(t, "{\"detail\":[{\"loc\":[\"body\",");
		text_json(t, k->why_param, strlen(k->why_param));
		text_z(t, "],\"msg\":");
		text_json(t, k->why, strlen(k->why));
		text_z(t, ",\"type\":\"value_error\"}]}");
		return;
	}
	text_z(t, "{\"detail\":{\"status\":");
	text_json(t, name, strlen(name));
	text_z(t, ",\"message\":");
	if (k->why[0] != 0)
		text_json(t, k->why, strlen(k->why));
	else
		text_f(t, "\"The fake provider was told to answer %d.\"", status);
	text_z(t, "}}");
}

/* --- a sound ------------------------------------------------------------------------------------------- */

/* The bytes for `text`, and their type. False: there is no such format. */
static bool sound_make(struct call *k, const char *format, const char *text)
{
	char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	struct span said = span_z(text);

	for (size_t i = 0; i < sizeof(sounds) / sizeof(*sounds); i++) {
		size_t n = strlen(sounds[i].format);

		/* ElevenLabs says the rate behind it: mp3_44100_128 */
		if (strncmp(format, sounds[i].format, n) != 0 ||
		    (format[n] != 0 && format[n] != '_'))
			continue;
		k->type = sounds[i].type;
		text_z(&k->kept, sounds[i].first);
		for (int64_t c = 0; c < characters_of(text) * BYTES_A_CHARACTER; c++)
			text_add(&k->kept, &letters[hash_of((uint64_t)c / 64, said) % 32], 1);
		return true;
	}
	return false;
}

static void usage_of_speech(struct text *t, const struct call *k)
{
	text_f(t, "\"usage\":{\"input_tokens\":%lld,\"output_tokens\":%lld,\"total_tokens\":%lld}",
	       (long long)k->prompt_tokens, (long long)k->completion_tokens,
	       (long long)k->prompt_tokens + k->completion_tokens);
}

static bool speech_is_good(struct call *k, yyjson_val *root)
{
	const char *input = str_of(root, "input");
	const char *format = str_of(root, "response_format");
	const char *stream = str_of(root, "stream_format");
	const char *unknown = field_unknown(
		root, "model input voice instructions response_format speed stream_format");
	yyjson_val *voice = yyjson_obj_get(root, "voice");

	if (unknown != NULL && word_among(k->vendor, "openai azure_openai"))
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", unknown,
			      "Unknown parameter: '%s'.", unknown);
	if (k->model[0] == 0 || input == NULL || input[0] == 0)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      k->model[0] == 0 ? "model" : "input", "Missing required parameter.");
	if (!yyjson_is_str(voice) && str_of(voice, "id") == NULL &&
	    !word_among(k->vendor, "mistral"))
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "voice", "Missing required parameter: 'voice'.");
	if (characters_of(input) > SPEECH_CHARACTERS_MAX)
		return refuse(k, 400, "invalid_request_error", "string_above_max_length", "input",
			      "Invalid 'input': string too long.");
	if (!sound_make(k, format != NULL ? format : "mp3", input))
		return refuse(k, 400, "invalid_request_error", "invalid_value", "response_format",
			      "Invalid value: '%s'.", format);
	if (stream != NULL && strcmp(stream, "sse") == 0 && starts_with(k->model, "tts-1"))
		return refuse(k, 400, "invalid_request_error", "unsupported_value", "stream_format",
			      "'sse' is not supported for this model.");
	return true;
}

/* Tokens: the words that are said; of the sound, twice as many. */
static void speech_read(struct call *k, yyjson_val *root)
{
	const char *input = str_of(root, "input");
	const char *stream = str_of(root, "stream_format");

	if (!speech_is_good(k, root))
		return;
	k->prompt_tokens = words_of(span_z(input), NULL, 0);
	k->completion_tokens = 2 * k->prompt_tokens;
	call_plan(k, input);
	k->stream = true;
	k->events = stream != NULL && strcmp(stream, "sse") == 0;
	k->chunks = k->plan.chunks != NO && k->plan.chunks > 0 ? k->plan.chunks : 4;
	if (k->events)
		k->type = NULL;
}

/* --- ElevenLabs' speech --------------------------------------------------------------------------------- */

static bool eleven_refuse(struct call *k, int status, const char *name, const char *words)
{
	return refuse(k, status, NULL, name, NULL, "%s", words);
}

/* The voice and the format stand in the path. */
static bool eleven_path(struct conn *c, char *format, size_t size)
{
	struct span path = c->head.start[1];
	const char *at = memmem(path.at, path.len, "/text-to-speech/", 16);
	struct span voice = {at + 16, path.len - (size_t)(at + 16 - path.at)};
	const char *told = memmem(path.at, path.len, "output_format=", 14);
	char id[64];

	span_copy(voice, id, sizeof(id));
	id[strcspn(id, "/?")] = 0;
	span_copy(span_z("mp3_44100_128"), format, size);
	if (told != NULL) {
		span_copy((struct span){told + 14, path.len - (size_t)(told + 14 - path.at)},
			  format, size);
		format[strcspn(format, "& ")] = 0;
	}
	/* the fake has one voice, and every id of the vendor's own length */
	if (strcmp(id, "voice1") != 0 && strlen(id) != 20)
		return eleven_refuse(&c->call, 404, "voice_not_found",
				     "A voice with that voice_id was not found.");
	return true;
}

static bool eleven_is_good(struct conn *c, yyjson_val *root, const char *text)
{
	struct call *k = &c->call;
	const char *unknown = field_unknown(
		root,
		"text model_id language_code voice_settings pronunciation_dictionary_locators seed "
		"previous_text next_text previous_request_ids next_request_ids "
		"apply_text_normalization apply_language_text_normalization use_pvc_as_ivc");
	char format[64];

	if (unknown != NULL)
		return refuse(k, 422, NULL, NULL, unknown, "Extra inputs are not permitted");
	if (text[0] == 0)
		return refuse(k, 422, NULL, NULL, "text", "Field required");
	if (!starts_with(k->model, "eleven_"))
		return eleven_refuse(k, 400, "model_not_found",
				     "A model with that id does not exist.");
	if (characters_of(text) > ELEVEN_CHARACTERS_MAX)
		return eleven_refuse(k, 400, "max_character_limit_exceeded",
				     "The text is too long.");
	if (!eleven_path(c, format, sizeof(format)))
		return false;
	return sound_make(k, format, text) ||
	       refuse(k, 422, NULL, NULL, "output_format", "Input should be a known format");
}

static void eleven_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *text = str_of(root, "text");
	const char *model = str_of(root, "model_id");
	long long cost;

	span_copy(span_z(model != NULL ? model : "eleven_multilingual_v2"), k->model,
		  sizeof(k->model));
	if (text == NULL)
		text = "";
	if (!eleven_is_good(c, root, text))
		return;
	call_plan(k, text);
	/* the fast models cost half */
	cost = (long long)characters_of(text);
	if (strstr(k->model, "flash") != NULL || strstr(k->model, "turbo") != NULL)
		cost = (cost + 1) / 2;
	text_f(&k->head,
	       "request-id: fake%llu\r\ncharacter-cost: %lld\r\nx-character-count: %lld\r\n"
	       "history-item-id: fake%llu\r\n",
	       (unsigned long long)k->number, cost, (long long)characters_of(text),
	       (unsigned long long)k->number);
	k->stream = k->verb == VOICE_ELEVEN_STREAM;
	k->chunks = k->plan.chunks != NO && k->plan.chunks > 0 ? k->plan.chunks : 4;
}

/* --- a form ------------------------------------------------------------------------------------------------ */

struct field {
	struct span name, file_name, value;
};

static bool attribute(struct span head, const char *name, struct span *ret)
{
	const char *at = memmem(head.at, head.len, name, strlen(name));
	const char *end;

	if (at == NULL)
		return false;
	at += strlen(name);
	end = memchr(at, '"', head.len - (size_t)(at - head.at));
	*ret = (struct span){at, end != NULL ? (size_t)(end - at) : 0};
	return end != NULL;
}

/* The next part of multipart/form-data. False: there is none. */
static bool field_next(struct span *form, const char *boundary, struct field *ret)
{
	const char *at = memmem(form->at, form->len, boundary, strlen(boundary));
	const char *blank, *end;
	struct span rest, head;

	if (at == NULL)
		return false;
	at += strlen(boundary);
	rest = (struct span){at, form->len - (size_t)(at - form->at)};
	blank = memmem(rest.at, rest.len, "\r\n\r\n", 4);
	if (blank == NULL)
		return false;
	head = (struct span){rest.at, (size_t)(blank - rest.at)};
	rest = (struct span){blank + 4, rest.len - (size_t)(blank + 4 - rest.at)};
	end = memmem(rest.at, rest.len, boundary, strlen(boundary));
	if (end == NULL || end - rest.at < 2)
		return false;
	*ret = (struct field){.value = {rest.at, (size_t)(end - rest.at) - 2}};
	if (!attribute(head, " name=\"", &ret->name))
		return false;
	(void)attribute(head, "filename=\"", &ret->file_name);
	*form = (struct span){end, rest.len - (size_t)(end - rest.at)};
	return true;
}

struct recording {
	struct span file, file_name;
	char model[96], format[32], language[16], prompt[512];
	bool stream, words, unknown, has_file;
};

static void field_take(const struct field *f, struct recording *r)
{
	static const char known[] =
		"file model language languages[] keywords[] prompt response_format temperature include[] "
		"timestamp_granularities[] stream chunking_strategy known_speaker_names[] "
		"known_speaker_references[] model_id language_code tag_audio_events num_speakers "
		"timestamps_granularity diarize diarization_threshold additional_formats file_format "
		"webhook temperature seed use_multi_channel keyterms no_verbatim entity_detection";
	char name[64];

	span_copy(f->name, name, sizeof(name));
	r->unknown = r->unknown || !word_among(name, known);
	if (strcmp(name, "file") == 0) {
		r->file = f->value;
		r->file_name = f->file_name;
		r->has_file = true;
	} else if (word_among(name, "model model_id")) {
		span_copy(f->value, r->model, sizeof(r->model));
	} else if (strcmp(name, "response_format") == 0) {
		span_copy(f->value, r->format, sizeof(r->format));
	} else if (word_among(name, "language language_code")) {
		span_copy(f->value, r->language, sizeof(r->language));
	} else if (strcmp(name, "prompt") == 0) {
		span_copy(f->value, r->prompt, sizeof(r->prompt));
	} else if (strcmp(name, "stream") == 0) {
		r->stream = span_is(f->value, "true");
	} else if (word_among(name, "timestamp_granularities[]")) {
		r->words = r->words || span_is(f->value, "word");
	}
}

static bool form_read(struct conn *c, struct recording *r)
{
	struct span form = {c->body.at != NULL ? c->body.at : "", c->body.len};
	struct span type;
	const char *at;
	char boundary[128] = "--";
	struct field f;

	if (!http_header(&c->head, "Content-Type", &type))
		return false;
	at = memmem(type.at, type.len, "boundary=", 9);
	if (at == NULL)
		return false;
	span_copy((struct span){at + 9, type.len - (size_t)(at + 9 - type.at)}, boundary + 2,
		  sizeof(boundary) - 2);
	if (boundary[2] == '"')
		memmove(boundary + 2, boundary + 3, strlen(boundary + 2));
	boundary[strcspn(boundary, "\";")] = 0;
	while (field_next(&form, boundary, &f))
		field_take(&f, r);
	return true;
}

/* --- a transcription ------------------------------------------------------------------------------------------- */

static int64_t seconds_of(const struct recording *r)
{
	return (int64_t)(r->file.len + SECOND_BYTES - 1) / SECOND_BYTES;
}

/* whisper is counted by the second, the others by the token: ten for a second, and the words. */
static void usage_of_text(struct text *t, const struct call *k, int64_t seconds)
{
	if (starts_with(k->model, "whisper"))
		text_f(t, "\"usage\":{\"type\":\"duration\",\"seconds\":%lld}", (long long)seconds);
	else
		text_f(t,
		       "\"usage\":{\"type\":\"tokens\",\"input_tokens\":%lld,\"input_token_details\":{"
		       "\"text_tokens\":%lld,\"audio_tokens\":%lld},\"output_tokens\":%lld,"
		       "\"total_tokens\":%lld}",
		       (long long)k->prompt_tokens, (long long)k->prompt_tokens - 10 * seconds,
		       (long long)10 * seconds, (long long)k->completion_tokens,
		       (long long)k->prompt_tokens + k->completion_tokens);
}

static void segments_add(struct text *t, const struct call *k, int64_t seconds, bool speaker)
{
	text_f(t, "\"segments\":[{%s\"id\":%s,\"start\":0.0,\"end\":%lld.0,\"text\":",
	       speaker ? "\"type\":\"transcript.text.segment\",\"speaker\":\"A\"," : "",
	       speaker ? "\"seg_0\"" : "0", (long long)seconds);
	text_json(t, k->answer.text.at, k->answer.text.len);
	text_z(t, "}]");
}

/* A second for each word. */
static void words_add(struct text *t, const struct call *k, const char *name)
{
	struct span rest = {k->answer.text.at, k->answer.text.len};
	long long i = 0;

	text_z(t, "\"words\":[");
	while (rest.len > 0) {
		const char *sp = memchr(rest.at, ' ', rest.len);
		size_t n = sp != NULL ? (size_t)(sp - rest.at) : rest.len;

		text_f(t, "%s{\"%s\":", i > 0 ? "," : "", name);
		text_json(t, rest.at, n);
		text_f(t, ",\"start\":%lld.0,\"end\":%lld.0%s}", i, i + 1,
		       strcmp(name, "text") == 0 ? ",\"type\":\"word\"" : "");
		i++;
		n += sp != NULL;
		rest.at += n;
		rest.len -= n;
	}
	text_z(t, "]");
}

static void plain_transcript(struct call *k, const char *format, int64_t seconds)
{
	struct text *t = &k->kept;

	k->type = strcmp(format, "vtt") == 0 ? "text/vtt; charset=utf-8"
					     : "text/plain; charset=utf-8";
	if (strcmp(format, "srt") == 0)
		text_f(t, "1\n00:00:00,000 --> 00:00:%02lld,000\n%s\n\n", (long long)seconds % 60,
		       k->answer.text.at);
	else if (strcmp(format, "vtt") == 0)
		text_f(t, "WEBVTT\n\n00:00:00.000 --> 00:00:%02lld.000\n%s\n\n",
		       (long long)seconds % 60, k->answer.text.at);
	else
		text_f(t, "%s\n", k->answer.text.at);
}

static void transcript_make(struct call *k, const struct recording *r)
{
	struct text *t = &k->kept;
	int64_t seconds = seconds_of(r);
	const char *format = r->format[0] != 0 ? r->format : "json";
	bool verbose = strcmp(format, "verbose_json") == 0;

	if (word_among(format, "text srt vtt")) {
		plain_transcript(k, format, seconds);
		return;
	}
	text_z(t, "{");
	if (verbose)
		text_f(t, "\"task\":\"transcribe\",\"language\":\"english\",\"duration\":%lld.0,",
		       (long long)seconds);
	if (strcmp(format, "diarized_json") == 0)
		text_f(t, "\"task\":\"transcribe\",\"duration\":%lld.0,", (long long)seconds);
	text_z(t, "\"text\":");
	text_json(t, k->answer.text.at, k->answer.text.len);
	if (verbose && r->words) {
		text_z(t, ",");
		words_add(t, k, "word");
	}
	if (verbose || strcmp(format, "diarized_json") == 0) {
		text_z(t, ",");
		segments_add(t, k, seconds, !verbose);
	}
	if (!k->plan.no_usage) {
		text_z(t, ",");
		usage_of_text(t, k, seconds);
	}
	text_z(t, "}");
}

static void eleven_transcript(struct call *k, const struct recording *r)
{
	text_f(&k->kept, "{\"language_code\":\"%s\",\"language_probability\":1.0,\"text\":",
	       r->language[0] != 0 ? r->language : "en");
	text_json(&k->kept, k->answer.text.at, k->answer.text.len);
	text_z(&k->kept, ",");
	words_add(&k->kept, k, "text");
	text_f(&k->kept, ",\"audio_duration_secs\":%lld.0,\"transcription_id\":\"fake%llu\"}",
	       (long long)seconds_of(r), (unsigned long long)k->number);
}

static bool recording_is_good(struct call *k, const struct recording *r)
{
	bool eleven = is_eleven(k);

	if (r->unknown && (eleven || word_among(k->vendor, "openai azure_openai")))
		return refuse(k, eleven ? 422 : 400, "invalid_request_error", "unknown_parameter",
			      "form", "Unknown parameter in the form.");
	if (!r->has_file || r->file.len == 0)
		return refuse(k, eleven ? 422 : 400, "invalid_request_error",
			      "missing_required_parameter", "file", "Field required");
	if (r->model[0] == 0)
		return refuse(k, eleven ? 422 : 400, "invalid_request_error",
			      "missing_required_parameter", eleven ? "model_id" : "model",
			      "you must provide a model parameter");
	if (eleven && !starts_with(r->model, "scribe_"))
		return eleven_refuse(k, 400, "invalid_model_id",
				     "A model with that id does not exist.");
	if (r->format[0] != 0 &&
	    !word_among(r->format, "json text srt verbose_json vtt diarized_json"))
		return refuse(k, 400, "invalid_request_error", "invalid_value", "response_format",
			      "Invalid value: '%s'.", r->format);
	return true;
}

/* What is heard: the bytes and the name of the file, in words. */
static void transcription_read(struct conn *c)
{
	struct call *k = &c->call;
	struct recording r = {.file_name = {"", 0}};

	if (!form_read(c, &r)) {
		refuse(k, 400, "invalid_request_error", NULL, NULL,
		       "The body is no multipart/form-data.");
		return;
	}
	span_copy(span_z(r.model), k->model, sizeof(k->model));
	if (!recording_is_good(k, &r))
		return;
	call_plan(k, r.prompt);
	if (k->plan.words == NO)
		text_f(&k->answer.text, "heard %zu bytes of %.*s", r.file.len, (int)r.file_name.len,
		       r.file_name.at);
	for (int64_t i = 1; k->plan.words != NO && i <= k->plan.words; i++)
		text_f(&k->answer.text, "%sw%lld", i > 1 ? " " : "", (long long)i);
	if (k->answer.text.at == NULL)
		text_z(&k->answer.text, "");
	k->answer.words = words_of((struct span){k->answer.text.at, k->answer.text.len}, NULL, 0);
	k->answer.chunks = k->answer.words;
	k->prompt_tokens = 10 * seconds_of(&r) + words_of(span_z(r.prompt), NULL, 0);
	k->completion_tokens = k->answer.words;
	k->chunks = k->answer.chunks;
	k->turns = seconds_of(&r);
	k->stream = r.stream && !is_eleven(k) && !starts_with(k->model, "whisper");
	if (k->stream)
		return;
	if (is_eleven(k))
		eleven_transcript(k, &r);
	else
		transcript_make(k, &r);
}

/* --- how it is sent ----------------------------------------------------------------------------------------------- */

static void plain_body(struct text *t, const struct call *k)
{
	text_add(t, k->kept.at, k->kept.len);
}

static void stream_open(struct conn *c)
{
}

/* A piece of the sound, or of the transcript. */
static void stream_piece(struct conn *c, const struct piece *p)
{
	struct call *k = &c->call;
	size_t from = k->kept.len * (size_t)k->step / (size_t)k->chunks;
	size_t to = k->kept.len * (size_t)(k->step + 1) / (size_t)k->chunks;
	struct text t = {0};

	if (k->verb == VOICE_TRANSCRIPTION) {
		text_z(&t, "{\"type\":\"transcript.text.delta\",\"delta\":");
		text_json(&t, p->bytes.at, p->bytes.len);
		text_z(&t, "}");
		stream_event(c, NULL, &t);
	} else if (k->events) {
		text_z(&t, "{\"type\":\"speech.audio.delta\",\"audio\":\"");
		base64_add(&t, k->kept.at + from, to - from);
		text_z(&t, "\"}");
		stream_event(c, NULL, &t);
	} else if (to > from) {
		stream_bytes(c, (struct span){k->kept.at + from, to - from});
	}
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.no_done || (k->verb != VOICE_TRANSCRIPTION && !k->events))
		return;
	if (k->verb == VOICE_TRANSCRIPTION) {
		text_z(&t, "{\"type\":\"transcript.text.done\",\"text\":");
		text_json(&t, k->answer.text.at, k->answer.text.len);
		if (!k->plan.no_usage) {
			text_z(&t, ",");
			usage_of_text(&t, k, k->turns);
		}
	} else {
		text_z(&t, "{\"type\":\"speech.audio.done\"");
		if (!k->plan.no_usage) {
			text_z(&t, ",");
			usage_of_speech(&t, k);
		}
	}
	text_z(&t, "}");
	stream_event(c, NULL, &t);
}

/* A sound that breaks is only cut short. */
static void stream_fail(struct conn *c)
{
	struct text t = {0};

	if (c->call.verb != VOICE_TRANSCRIPTION && !c->call.events)
		return;
	error_body(&t, &c->call, 500);
	stream_event(c, NULL, &t);
}

static void voice_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *model = str_of(root, "model");

	if (k->verb == VOICE_TRANSCRIPTION || k->verb == VOICE_ELEVEN_TEXT) {
		transcription_read(c);
	} else if (k->verb == VOICE_SPEECH) {
		span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
		speech_read(k, root);
	} else {
		eleven_read(c, root);
	}
}

const struct speaker speak_voice = {
	.read = voice_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
