/* test_gemini_request.c - requests of the Gemini dialect: path, what is read strictly, and the way on to the vendor. */
#include "server/base/json.h"
#include "tests/unit/routing/dialects/gemini_test.h"

static const struct dialect *const d = &dialect_gemini;
static const struct dialect *const counting = &dialect_gemini_count_tokens;
static const struct call_head head = {.model = {"gemini-3-pro", 12}};

#define CS "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]"
#define OK "{" CS

/* ---- the path ---------------------------------------------------------------------------------------- */

static const struct {
	const char *rest, *alt;
	enum rc rc;
	const char *model;
	bool stream, array;
	const struct dialect *dialect;
} paths[] = {
	{"gemini-3-pro:generateContent", NULL, RC_OK, "gemini-3-pro", false, false,
	 &dialect_gemini},
	{"gemini-3-pro:generateContent", "json", RC_OK, "gemini-3-pro", false, false,
	 &dialect_gemini},
	{"gemini-3-pro:streamGenerateContent", "sse", RC_OK, "gemini-3-pro", true, false,
	 &dialect_gemini},
	{"gemini-3-pro:streamGenerateContent", NULL, RC_OK, "gemini-3-pro", true, true,
	 &dialect_gemini},
	{"gemini-3-pro:streamGenerateContent", "json", RC_OK, "gemini-3-pro", true, true,
	 &dialect_gemini},
	{"gemini-3-pro:countTokens", NULL, RC_OK, "gemini-3-pro", false, false,
	 &dialect_gemini_count_tokens},
	{"vendor/m:free:generateContent", NULL, RC_OK, "vendor/m:free", false, false,
	 &dialect_gemini},
	{"m:embedContent", NULL, RC_OK, "m", false, false, &dialect_gemini_embed},
	{"m:batchEmbedContents", NULL, RC_OK, "m", false, false, &dialect_gemini_batch_embed},
	{"m:predict", NULL, RC_NOT_FOUND, NULL, false, false, NULL},
	{"m", NULL, RC_NOT_FOUND, NULL, false, false, NULL},
	{":generateContent", NULL, RC_NOT_FOUND, NULL, false, false, NULL},
	{"m:", NULL, RC_NOT_FOUND, NULL, false, false, NULL},
	{"", NULL, RC_NOT_FOUND, NULL, false, false, NULL},
	{"m:streamGenerateContent", "proto", RC_INVALID, NULL, false, false, NULL},
};

START_TEST(path_is_read)
{
	struct call_head h = {.content_type = STR("application/json")};
	const struct dialect *got = NULL;
	struct err err = {0};

	ck_assert_int_eq(
		gemini_path(str_from(paths[_i].rest), str_from(paths[_i].alt), &h, &got, &err),
		paths[_i].rc);
	if (paths[_i].rc != RC_OK) {
		ck_assert_ptr_nonnull(err.code);
		ck_assert_ptr_null(got);
		return;
	}
	ck_assert(str_is(h.model, paths[_i].model));
	ck_assert_int_eq(h.stream, paths[_i].stream);
	ck_assert_int_eq(h.stream_array, paths[_i].array);
	ck_assert_ptr_eq(got, paths[_i].dialect);
}
END_TEST

/* ---- requests in --------------------------------------------------------------------------------------- */

#define PART(p) "{\"contents\":[{\"parts\":[" p "]}]}"

static const struct {
	const char *body, *field;
} bad_requests[] = {
	{"", ""},
	{"[]", ""},
	{OK, ""},
	{OK ",\"contents\":[]}", ""},
	{OK ",\"a\":\"\xff\"}", ""},
	{"{}", "contents"},
	{"{\"contents\":null}", "contents"},
	{"{\"contents\":[]}", "contents"},
	{"{\"contents\":{}}", "contents"},
	{"{\"contents\":\"hi\"}", "contents"},
	{"{\"contents\":[7]}", "contents"},
	{"{\"contents\":[{\"parts\":{}}]}", "contents"},
	{PART("7"), "contents"},
	{PART("{\"text\":7}"), "contents"},
	{PART("{\"inlineData\":{}}"), "contents"},
	{PART("{\"inlineData\":{\"mimeType\":\"image/png\"}}"), "contents"},
	{PART("{\"inline_data\":{\"data\":\"AA\"}}"), "contents"},
	{PART("{\"inlineData\":{\"mimeType\":\"image/png\",\"mime_type\":\"text/plain\",\"data\":"
	      "\"AA\"}}"),
	 "contents"},
	{PART("{\"fileData\":{}}"), "contents"},
	{PART("{\"fileData\":{\"fileUri\":\"\"}}"), "contents"},
	{OK ",\"systemInstruction\":7}", "systemInstruction"},
	{OK ",\"systemInstruction\":{\"parts\":{}}}", "systemInstruction"},
	{OK ",\"generationConfig\":[]}", "generationConfig"},
	{OK ",\"generationConfig\":{},\"generation_config\":{}}", "generationConfig"},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":0}}", "generationConfig.maxOutputTokens"},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":\"5\"}}",
	 "generationConfig.maxOutputTokens"},
	{OK ",\"generationConfig\":{\"max_output_tokens\":1.5}}",
	 "generationConfig.maxOutputTokens"},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":1,\"max_output_tokens\":9}}",
	 "generationConfig.maxOutputTokens"},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":1000000001}}",
	 "generationConfig.maxOutputTokens"},
	{OK ",\"generationConfig\":{\"candidateCount\":9}}", "generationConfig.candidateCount"},
	{OK ",\"generationConfig\":{\"candidateCount\":-1}}", "generationConfig.candidateCount"},
	{OK ",\"generationConfig\":{\"responseModalities\":\"AUDIO\"}}",
	 "generationConfig.responseModalities"},
	{OK ",\"generationConfig\":{\"responseModalities\":[1]}}",
	 "generationConfig.responseModalities"},
	{OK ",\"generationConfig\":{\"responseMimeType\":1}}", "generationConfig.responseMimeType"},
	{OK ",\"tools\":{}}", "tools"},
	{OK ",\"tools\":[1]}", "tools"},
	{OK ",\"tools\":[{\"functionDeclarations\":{}}]}", "tools"},
	{OK ",\"cachedContent\":7}", "cachedContent"},
	{OK ",\"cachedContent\":\"\"}", "cachedContent"},
};

START_TEST(bad_request_is_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct call c = {.choices = 77};
	struct err err = {0};

	ck_assert_int_eq(d->decode_request(&head, str_from(bad_requests[_i].body), mem, &c, &err),
			 RC_INVALID);
	ck_assert_ptr_nonnull(err.code);
	ck_assert_str_eq(err.field, bad_requests[_i].field);
	ck_assert_int_eq(c.choices, 77);
	arena_free(mem);
}
END_TEST

static const char *const bad_models[] = {"", "models/", "a b", "a\r\nx: y", "\xc3\xa4"};

START_TEST(bad_model_is_refused)
{
	const struct call_head h = {.model = str_from(bad_models[_i])};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&h, STR(OK "}"), mem, &c, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "model");
	arena_free(mem);
}
END_TEST

static const struct {
	const char *body;
	int64_t max_output, choices, media;
	uint32_t needs;
	bool by_url;
	size_t text;
	const char *state; /* kind of the first */
} good_requests[] = {
	{OK "}", 0, 1, 0, 0, false, 2, NULL},
	{OK ",\"generationConfig\":null,\"tools\":null,\"cachedContent\":null}", 0, 1, 0, 0, false,
	 2, NULL},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":7,\"candidateCount\":8}}", 7, 8, 0, 0,
	 false, 2, NULL},
	{OK ",\"generation_config\":{\"max_output_tokens\":7,\"candidate_count\":2}}", 7, 2, 0, 0,
	 false, 2, NULL},
	{OK ",\"generationConfig\":{\"responseMimeType\":\"application/json\"}}", 0, 1, 0, CAP_JSON,
	 false, 2, NULL},
	{OK ",\"generationConfig\":{\"response_schema\":{}}}", 0, 1, 0, CAP_JSON, false, 2, NULL},
	{OK ",\"generationConfig\":{\"responseModalities\":[\"TEXT\",\"AUDIO\"]}}", 0, 1, 0,
	 CAP_AUDIO_OUT, false, 2, NULL},
	{OK ",\"systemInstruction\":{\"parts\":[{\"text\":\"be\"}]}}", 0, 1, 0, 0, false, 4, NULL},
	{OK ",\"system_instruction\":{\"parts\":[{\"text\":\"be\"}]}}", 0, 1, 0, 0, false, 4, NULL},
	{OK ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\"}]}]}", 0, 1, 0, CAP_TOOLS,
	 false, 2, NULL},
	/* what a search finds is input of unknown size */
	{OK ",\"tools\":[{\"googleSearch\":{}}]}", 0, 1, 0, CAP_TOOLS, true, 2, NULL},
	{PART("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA\"}}"), 0, 1, 50000,
	 CAP_VISION, false, 0, NULL},
	{PART("{\"inline_data\":{\"mime_type\":\"IMAGE/png\",\"data\":\"AA\"}}"), 0, 1, 50000,
	 CAP_VISION, false, 0, NULL},
	{PART("{\"inlineData\":{\"mimeType\":\"application/pdf\",\"data\":\"AA\"}}"), 0, 1, 0,
	 CAP_VISION, true, 0, NULL},
	{PART("{\"inlineData\":{\"mimeType\":\"audio/wav\",\"data\":\"AA\"}}"), 0, 1, 0,
	 CAP_AUDIO_IN, false, 0, NULL},
	{PART("{\"inlineData\":{\"mimeType\":\"video/mp4\",\"data\":\"AA\"}}"), 0, 1, 0, CAP_VISION,
	 true, 0, NULL},
	{PART("{\"inlineData\":{\"mimeType\":\"text/plain\",\"data\":\"AA\"}}"), 0, 1, 0, 0, false,
	 0, NULL},
	{PART("{\"fileData\":{\"fileUri\":\"https://x.example/y.png\",\"mimeType\":\"image/png\"}}"),
	 0, 1, 0, CAP_VISION, true, 0, NULL},
	{PART("{\"fileData\":{\"fileUri\":\"https://www.youtube.com/watch?v=1\"}}"), 0, 1, 0,
	 CAP_VISION, true, 0, NULL},
	{PART("{\"file_data\":{\"file_uri\":"
	      "\"https://generativelanguage.googleapis.com/v1beta/files/f\",\"mime_type\":"
	      "\"image/png\"}}"),
	 0, 1, 0, CAP_VISION, true, 0, "file"},
	{PART("{\"fileData\":{\"fileUri\":\"gs://bucket/x\",\"mimeType\":\"audio/wav\"}}"), 0, 1, 0,
	 CAP_AUDIO_IN, true, 0, "file"},
	{OK ",\"cachedContent\":\"cachedContents/c\"}", 0, 1, 0, 0, true, 2, "cache"},
	{OK ",\"news\":{\"x\":[1]},\"safetySettings\":[]}", 0, 1, 0, 0, false, 2, NULL},
};

START_TEST(good_request_is_read)
{
	const struct call_head h = {.model = STR("models/m"), .stream = true, .stream_array = true};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct str body = str_from(good_requests[_i].body);
	struct err err = {0};
	struct call c;

	ck_assert_msg(d->decode_request(&h, body, mem, &c, &err) == RC_OK, "%s", err.message);
	ck_assert(str_is(c.model, "m"));
	ck_assert_ptr_eq(c.dialect, d);
	ck_assert(c.stream && c.stream_array && c.operation == OPERATION_chat);
	ck_assert_int_eq(c.max_output, good_requests[_i].max_output);
	ck_assert_int_eq(c.choices, good_requests[_i].choices);
	ck_assert_int_eq(c.media_tokens_max, good_requests[_i].media);
	ck_assert_uint_eq(c.needs, CAP_TEXT | good_requests[_i].needs);
	ck_assert_int_eq(c.media_by_url, good_requests[_i].by_url);
	ck_assert_uint_eq(c.text_bytes, good_requests[_i].text);
	ck_assert_uint_eq(c.body_bytes, body.len);
	ck_assert_uint_eq(c.states_count, good_requests[_i].state != NULL);
	if (good_requests[_i].state)
		ck_assert_str_eq(c.states[0].kind, good_requests[_i].state);
	arena_free(mem);
}
END_TEST

START_TEST(files_are_counted)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct err err = {0};
	struct call c;

	say(&body, "{\"contents\":[{\"parts\":[");
	for (int i = 0; i <= CALL_STATES_MAX; i++)
		say(&body, "%s{\"fileData\":{\"fileUri\":\"gs://x/%d\"}}", i ? "," : "", i);
	say(&body, "]}]}");
	ck_assert_int_eq(d->decode_request(&head, buf_str(&body), mem, &c, &err), RC_INVALID);
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

static const struct {
	const char *body;
	enum rc rc;
	const char *out; /* to model "n"; NULL: the same bytes */
} count_requests[] = {
	{OK "}", RC_OK, NULL},
	{"{\"generateContentRequest\":{\"model\":\"models/m\"," CS ",\"x\":1}}", RC_OK,
	 "{\"generateContentRequest\":{\"model\":\"models/n\"," CS ",\"x\":1}}"},
	{"{\"generate_content_request\":{" CS "}}", RC_OK,
	 "{\"generate_content_request\":{" CS ",\"model\":\"models/n\"}}"},
	{"{\"generateContentRequest\":{}}", RC_INVALID, NULL},
	{"{\"generateContentRequest\":7}", RC_INVALID, NULL},
	{"{\"generateContentRequest\":{" CS "}," CS "}", RC_INVALID, NULL},
	{"{}", RC_INVALID, NULL},
};

START_TEST(count_request)
{
	struct dialect_target t = gemini_target("gemini", "n");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &body};
	struct err err = {0};
	struct call c;

	t.max_output_cap = 100; /* nothing is put out, so nothing is capped */
	ck_assert_int_eq(
		counting->decode_request(&head, str_from(count_requests[_i].body), mem, &c, &err),
		count_requests[_i].rc);
	if (count_requests[_i].rc == RC_OK) {
		ck_assert_ptr_eq(c.dialect, counting);
		ck_assert_int_eq(c.operation, OPERATION_count_tokens);
		ck_assert_uint_eq(c.text_bytes, 2);
		ck_assert_int_eq(counting->encode_request(&c, &t, mem, &out, &err), RC_OK);
		ck_assert_str_eq(body.ptr, count_requests[_i].out ? count_requests[_i].out
								  : count_requests[_i].body);
	}
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

/* ---- the way on ----------------------------------------------------------------------------------------- */

static const struct {
	const char *body;
	int64_t cap;
	const char *want; /* NULL: the same bytes */
} encodings[] = {
	{"{ " CS " , \"x\": 1.10 }", 0, NULL},
	{OK "}", 50, OK ",\"generationConfig\":{\"maxOutputTokens\":50}}"},
	{OK ",\"generationConfig\":null}", 50,
	 OK ",\"generationConfig\":{\"maxOutputTokens\":50}}"},
	{OK ",\"generationConfig\":{\"topK\":1.0}}", 50,
	 OK ",\"generationConfig\":{\"topK\":1.0,\"maxOutputTokens\":50}}"},
	{OK ",\"generation_config\":{\"max_output_tokens\":null}}", 50,
	 OK ",\"generation_config\":{\"maxOutputTokens\":50}}"},
	{OK ",\"generationConfig\":{\"maxOutputTokens\":7}}", 50, NULL},
	{OK ",\"generationConfig\":{\"max_output_tokens\":7}}", 50, NULL},
};

START_TEST(request_to_the_vendor)
{
	struct dialect_target t = gemini_target("gemini", "other");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &body};
	struct err err = {0};
	struct call c;

	t.max_output_cap = encodings[_i].cap;
	ck_assert_int_eq(d->decode_request(&head, str_from(encodings[_i].body), mem, &c, &err),
			 RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &out, &err), RC_OK);
	ck_assert_str_eq(body.ptr, encodings[_i].want ? encodings[_i].want : encodings[_i].body);
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

/* Seals of another provider leave the request; the vendor's own stay; a call of another maker says that it is one. */
static const struct {
	const char *model, *maker, *value;
	const char *want; /* of the four parts */
} seals[] = {
	{"gemini-3-pro", "openai", "x",
	 "{\"text\":\"a\"},{\"functionCall\":{\"name\":\"f\"},\"thoughtSignature\":"
	 "\"skip_thought_signature_validator\"},{\"text\":\"b\",\"thoughtSignature\":\"b3du\"}"},
	{"gemini-2.5-pro", "openai", "x",
	 "{\"text\":\"a\"},{\"functionCall\":{\"name\":\"f\"}},{\"text\":\"b\","
	 "\"thoughtSignature\":\"b3du\"}"},
	{"gemini-3-pro", "gemini", "seal",
	 "{\"text\":\"t\",\"thought\":true,\"thoughtSignature\":\"seal\"},{\"text\":\"a\","
	 "\"thoughtSignature\":\"seal\"},{\"functionCall\":{\"name\":\"f\"},\"thoughtSignature\":"
	 "\"seal\"},{\"text\":\"b\",\"thoughtSignature\":\"b3du\"}"},
};

START_TEST(seals_of_others_are_taken_out)
{
	struct dialect_target t = gemini_target("gemini", seals[_i].model);
	struct arena *mem = arena_new(ARENA_BYTES);
	const struct chat_opaque o = {.value = str_from(seals[_i].value),
				      .dialect = str_from(seals[_i].maker),
				      .provider = str_from(seals[_i].maker),
				      .model = str_from(seals[_i].model)};
	const char *w = chat_opaque_wrap(mem, &o).ptr;
	struct str body = arena_printf(
		mem,
		"{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"t\",\"thought\":true,"
		"\"thoughtSignature\":\"%s\"},{\"text\":\"a\",\"thought_signature\":\"%s\"},"
		"{\"functionCall\":{\"name\":\"f\"},\"thoughtSignature\":\"%s\"},{\"text\":\"b\","
		"\"thoughtSignature\":\"b3du\"}],\"x\":1}],\"y\":1.0}",
		w, w, w);
	struct buf out_body = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &out_body};
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&head, body, mem, &c, &err), RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &out, &err), RC_OK);
	ck_assert_str_eq(out_body.ptr,
			 arena_printf(mem,
				      "{\"contents\":[{\"role\":\"model\",\"parts\":[%s],\"x\":1}],"
				      "\"y\":1.0}",
				      seals[_i].want)
				 .ptr);
	buf_clear(&out_body);
	arena_free(mem);
}
END_TEST

START_TEST(request_that_does_not_fit)
{
	struct dialect_target t = gemini_target("gemini", "n");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(10);
	struct outgoing out = {.body = &body};
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&head, STR(OK "}"), mem, &c, &err), RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &out, &err), RC_TOO_LARGE);
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

START_TEST(generation_is_in_the_name)
{
	static const struct {
		const char *model;
		bool v3, v25, flash;
	} models[] = {
		{"gemini-3-pro", true, false, false},
		{"gemini-3.5-flash", true, false, true},
		{"gemini-10", true, false, false},
		{"models/gemini-3.1-pro-preview", true, false, false},
		{"gemini-2.5-flash-lite", false, true, true},
		{"gemini-2.5-pro", false, true, false},
		{"gemini-2.0-flash", false, false, true},
		{"gemini-1.5-flash-latest", false, false, true},
		{"gemini-flash-latest", true, false, true},
		{"gemma-3-27b-it", false, false, false},
		{"", false, false, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		const struct gemini_model m = gemini_model_of(str_from(models[i].model));

		ck_assert_msg(m.v3 == models[i].v3 && m.v25 == models[i].v25 &&
				      m.flash == models[i].flash,
			      "%s", models[i].model);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gemini_request");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, path_is_read, 0, ARRAY_LEN(paths));
	tcase_add_loop_test(t, bad_request_is_refused, 0, ARRAY_LEN(bad_requests));
	tcase_add_loop_test(t, bad_model_is_refused, 0, ARRAY_LEN(bad_models));
	tcase_add_loop_test(t, good_request_is_read, 0, ARRAY_LEN(good_requests));
	tcase_add_test(t, files_are_counted);
	tcase_add_loop_test(t, count_request, 0, ARRAY_LEN(count_requests));
	tcase_add_loop_test(t, request_to_the_vendor, 0, ARRAY_LEN(encodings));
	tcase_add_loop_test(t, seals_of_others_are_taken_out, 0, ARRAY_LEN(seals));
	tcase_add_test(t, request_that_does_not_fit);
	tcase_add_test(t, generation_is_in_the_name);
	suite_add_tcase(s, t);
	return suite_run(s);
}
