/* test_probe_read.c - what providers answer to a probe, and what a probe asks. */
#include "routing/probe_read.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

static struct arena *mem;

static void setup(void)
{
	mem = arena_new(64u << 20);
}

static void teardown(void)
{
	arena_free(mem);
}

static const struct provider *provider(const char *id)
{
	const struct provider *p = provider_find(str_from(id));

	ck_assert_msg(p != NULL, "%s", id);
	return p;
}

static struct json *parsed(const char *text)
{
	struct json *doc = NULL;

	if (json_parse(str_from(text), JSON_ALLOW_DUPLICATES, mem, &doc, NULL) != RC_OK)
		return NULL;
	return doc;
}

/* ---- errors: the recorded bodies of every provider ----------------------------------------------- */

static bool told_by_a_probe(struct str class)
{
	static const char *const classes[] = {"auth",	     "permission", "quota",
					      "rate_limit",  "not_found",  "overloaded",
					      "server_error"};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (str_is(class, classes[i]))
			return true;
	return false;
}

START_TEST(recorded_errors_have_their_class)
{
	AUTO(buf) struct buf file = fixture_read("errors.json");
	struct json *list = parsed(file.ptr), *row;
	struct json_iter it = json_iter(list);
	int seen = 0;

	while (json_next(&it, NULL, &row)) {
		AUTO(buf) struct buf body = BUF_INIT(65536);
		struct str id, class;
		int64_t status;

		ck_assert(json_string(json_get(row, "provider"), &id));
		ck_assert(json_string(json_get(row, "class"), &class));
		ck_assert(json_int(json_get(row, "status"), &status));
		if (!told_by_a_probe(class))
			continue;
		ck_assert_int_eq(json_write(json_get(row, "body"), &body), RC_OK);
		const struct provider *p =
			provider_find(id) ? provider_find(id) : provider("openai");
		enum error_class got =
			probe_read_error(p, (int)status, buf_str(&body), json_get(row, "body"));

		ck_assert_msg(str_is(class, error_class_name(got)), "%.*s %lld: %s, not %.*s",
			      STR_FMT(id), (long long)status, error_class_name(got),
			      STR_FMT(class));
		seen++;
	}
	ck_assert_int_ge(seen, 15);
}
END_TEST

static const struct {
	const char *provider;
	int status;
	const char *body;
	enum error_class want;
	enum probe_health health;
} errors[] = {
	{"openai", 401, "{}", ERROR_auth, PROBE_FAILED},
	{"openai", 403, "{}", ERROR_permission, PROBE_DEGRADED},
	{"openai", 402, "", ERROR_quota, PROBE_DEGRADED},
	{"openai", 429, "<html>", ERROR_rate_limit, PROBE_DEGRADED},
	{"openai", 404, "", ERROR_not_found, PROBE_FAILED},
	{"openai", 500, "", ERROR_server_error, PROBE_UNKNOWN},
	{"openai", 503, "", ERROR_overloaded, PROBE_UNKNOWN},
	{"openai", 504, "", ERROR_timeout, PROBE_UNKNOWN},
	{"openai", 418, "", ERROR_invalid_request, PROBE_FAILED},
	/* a marker is its provider's, and its status' */
	{"openai", 400, "Incorrect API key provided", ERROR_invalid_request, PROBE_FAILED},
	{"grok", 400, "Incorrect API key provided", ERROR_auth, PROBE_FAILED},
	{"grok", 403, "You ran out of CREDITS", ERROR_quota, PROBE_DEGRADED},
	{"grok", 403, "blocked", ERROR_permission, PROBE_DEGRADED},
	{"gemini", 400, "{\"reason\":\"API_KEY_INVALID\"}", ERROR_auth, PROBE_FAILED},
	{"gemini", 400, "{\"status\":\"INVALID_ARGUMENT\"}", ERROR_invalid_request, PROBE_FAILED},
	{"gemini", 403, "API_KEY_INVALID", ERROR_permission, PROBE_DEGRADED},
	{"elevenlabs", 401, "{\"detail\":{\"status\":\"missing_permissions\"}}", ERROR_permission,
	 PROBE_DEGRADED},
	{"elevenlabs", 401, "{}", ERROR_auth, PROBE_FAILED},
	{"kimi", 429, "{\"error\":{\"type\":\"exceeded_current_quota_error\"}}", ERROR_quota,
	 PROBE_DEGRADED},
	{"anthropic", 429,
	 "{\"error\":{\"details\":{\"error_code\":\"enforced_spend_limit_reached\"}}}", ERROR_quota,
	 PROBE_DEGRADED},
	/* a 200 that carries its status inside */
	{"openrouter", 200, "{\"error\":{\"code\":401}}", ERROR_auth, PROBE_FAILED},
	{"openrouter", 200, "{\"error\":{\"code\":\"x\"}}", ERROR_server_error, PROBE_UNKNOWN},
	{"openrouter", 200, "{\"error\":{\"code\":99999999}}", ERROR_server_error, PROBE_UNKNOWN},
};

START_TEST(an_error_is_read_by_marker_then_status)
{
	const struct provider *p = provider(errors[_i].provider);
	enum error_class got = probe_read_error(p, errors[_i].status, str_from(errors[_i].body),
						parsed(errors[_i].body));

	ck_assert_str_eq(error_class_name(got), error_class_name(errors[_i].want));
	ck_assert_int_eq(probe_health_of(got), errors[_i].health);
}
END_TEST

START_TEST(words_are_found_where_errors_have_them)
{
	static const struct {
		const char *body, *want;
	} rows[] = {
		{"{\"error\":{\"message\":\"a b\"}}", "a b"},
		{"{\"error\":\"plain\"}", "plain"},
		{"{\"code\":\"c\",\"error\":\"flat\"}", "flat"},
		{"{\"message\":\"edge\",\"request_id\":\"r\"}", "edge"},
		{"{\"detail\":\"Unauthorized\"}", "Unauthorized"},
		{"{\"detail\":{\"status\":\"s\",\"message\":\"eleven\"}}", "eleven"},
		{"{\"detail\":[{\"loc\":[],\"msg\":\"field\"}]}", "field"},
		{"[{\"error\":{\"message\":\"in a list\"}}]", "in a list"},
		{"{\"error\":{\"message\":\"tab\\tnew\\nline\\u0000 \\u00e9\"}}",
		 "tab?new?line? ??"},
		{"{\"error\":{\"message\":7}}", ""},
		{"{}", ""},
		{"[]", ""},
		{"null", ""},
		{"<html>", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_str_eq(probe_read_words(parsed(rows[i].body), mem).ptr, rows[i].want);
}
END_TEST

/* ---- the key's own page ----------------------------------------------------------------------------- */

static const struct {
	const char *provider, *body;
	enum error_class want;
} pages[] = {
	{"openrouter", "{\"data\":{\"limit_remaining\":null}}", ERROR_none},
	{"openrouter", "{\"data\":{\"limit_remaining\":0.0000001}}", ERROR_none},
	{"openrouter", "{\"data\":{\"limit_remaining\":1e9}}", ERROR_none},
	{"openrouter", "{\"data\":{\"limit_remaining\":0}}", ERROR_quota},
	{"openrouter", "{\"data\":{\"limit_remaining\":0.0}}", ERROR_quota},
	{"openrouter", "{\"data\":{\"limit_remaining\":0e5}}", ERROR_quota},
	{"openrouter", "{\"data\":{\"limit_remaining\":-3}}", ERROR_quota},
	{"openrouter", "{\"data\":[]}", ERROR_protocol},
	{"openrouter", "{\"object\":\"list\"}", ERROR_protocol},
	{"grok", "{\"redacted_api_key\":\"x\",\"team_blocked\":false}", ERROR_none},
	{"grok", "{\"team_id\":\"t\",\"api_key_disabled\":true}", ERROR_auth},
	{"grok", "{\"team_id\":\"t\",\"api_key_blocked\":true}", ERROR_auth},
	{"grok", "{\"team_id\":\"t\",\"team_blocked\":true}", ERROR_permission},
	{"grok", "{}", ERROR_protocol},
	{"kimi", "{\"data\":{\"available_balance\":49.58}}", ERROR_none},
	{"kimi", "{\"data\":{\"available_balance\":0.00}}", ERROR_quota},
	{"kimi", "{\"data\":{\"available_balance\":-0.01}}", ERROR_quota},
	{"kimi", "{\"data\":null}", ERROR_protocol},
	{"deepseek", "{\"is_available\":true}", ERROR_none},
	{"deepseek", "{\"is_available\":false}", ERROR_quota},
	{"deepseek", "{\"is_available\":\"true\"}", ERROR_protocol},
	{"elevenlabs", "{\"subscription\":{\"character_count\":1,\"character_limit\":2}}",
	 ERROR_none},
	{"elevenlabs", "{\"subscription\":{\"character_count\":2,\"character_limit\":2}}",
	 ERROR_quota},
	{"elevenlabs",
	 "{\"subscription\":{\"character_count\":2,\"character_limit\":2,\"can_extend_character_limit\":true}}",
	 ERROR_none},
	{"elevenlabs", "{\"subscription\":{}}", ERROR_none},
	{"elevenlabs", "{\"user_id\":\"u\"}", ERROR_protocol},
	{"elevenlabs", "[]", ERROR_protocol},
	{"elevenlabs", "<html>", ERROR_protocol},
};

START_TEST(what_a_key_says_of_itself)
{
	ck_assert_str_eq(error_class_name(probe_read_auth(provider(pages[_i].provider),
							  parsed(pages[_i].body))),
			 error_class_name(pages[_i].want));
}
END_TEST

/* ---- lists ---------------------------------------------------------------------------------------------- */

static const struct {
	const char *provider, *body, *want; /* NULL: not a list */
} lists[] = {
	{"openai", "{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}", "a b "},
	{"openai", "{\"object\":\"list\",\"data\":[]}", ""},
	{"ollama", "{\"object\":\"list\",\"data\":null}", ""},
	{"ollama", "{\"data\":null}", NULL},
	{"openai", "[{\"id\":\"a\"}]", NULL},
	{"openai", "{\"data\":[{\"name\":\"a\"}]}", NULL},
	{"openai", "{\"data\":[\"a\"]}", NULL},
	{"openai", "{\"data\":[{\"id\":\"\"},{\"id\":\"b\"}]}", "b "},
	{"openai", "{\"data\":[{\"id\":\"a\\u0000\"},{\"id\":\"b\"}]}", "b "},
	{"openai", "{}", NULL},
	{"openai", "\"data\"", NULL},
	{"together", "[{\"id\":\"a/b\"}]", "a/b "},
	{"together", "{\"data\":[{\"id\":\"a\"}]}", NULL},
	{"gemini", "{\"models\":[{\"name\":\"models/g\"},{\"name\":\"h\"}]}", "g h "},
	{"gemini", "{\"models\":[{\"name\":\"models/\"}]}", ""},
	{"gemini", "{\"data\":[{\"id\":\"g\"}]}", NULL},
	{"elevenlabs", "[{\"model_id\":\"eleven_v3\"}]", "eleven_v3 "},
	{"elevenlabs", "[{\"id\":\"x\"}]", NULL},
	{"anthropic", "{\"data\":[{\"type\":\"model\",\"id\":\"c\"}],\"has_more\":false}", "c "},
};

START_TEST(a_list_in_each_shape)
{
	AUTO(buf) struct buf got = BUF_INIT(4096);
	const struct str *models = NULL;
	size_t count = 0;
	enum rc rc = probe_read_models(provider(lists[_i].provider), parsed(lists[_i].body), mem,
				       &models, &count);

	ck_assert_int_eq(rc, lists[_i].want ? RC_OK : RC_PROTOCOL);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(buf_printf(&got, "%.*s ", STR_FMT(models[i])), RC_OK);
	if (lists[_i].want)
		ck_assert_str_eq(got.ptr ? got.ptr : "", lists[_i].want);
}
END_TEST

START_TEST(a_long_list_is_cut)
{
	AUTO(buf) struct buf body = BUF_INIT(1u << 20);
	const struct str *models = NULL;
	size_t count = 0;

	ck_assert_int_eq(buf_append(&body, STR("{\"data\":[{\"id\":\"m\"}")), RC_OK);
	for (int i = 0; i < PROBE_LISTED_MAX + 100; i++)
		ck_assert_int_eq(buf_printf(&body, ",{\"id\":\"m%d\"}", i), RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("]}")), RC_OK);
	ck_assert_int_eq(
		probe_read_models(provider("openai"), parsed(body.ptr), mem, &models, &count),
		RC_OK);
	ck_assert_uint_eq(count, PROBE_LISTED_MAX);
}
END_TEST

START_TEST(a_voice_fit_for_a_path)
{
	struct str voice;

	ck_assert_int_eq(
		probe_read_voice(parsed("{\"voices\":[{\"voice_id\":\"v1\"}]}"), mem, &voice),
		RC_OK);
	ck_assert(str_is(voice, "v1"));
	ck_assert_int_eq(
		probe_read_voice(parsed("{\"voices\":[{\"voice_id\":\"../../v2\"}]}"), mem, &voice),
		RC_PROTOCOL);
	ck_assert_int_eq(probe_read_voice(parsed("{\"voices\":[]}"), mem, &voice), RC_PROTOCOL);
	ck_assert_int_eq(probe_read_voice(NULL, mem, &voice), RC_PROTOCOL);
}
END_TEST

START_TEST(voices_are_ids_and_names)
{
	const struct probe_voice *voices;
	size_t n;

	ck_assert_int_eq(
		probe_read_voices(parsed("{\"voices\":[{\"voice_id\":\"v1\",\"name\":\"A\"},{"
					 "\"voice_id\":\"v2\"}],\"has_more\":true}"),
				  mem, &voices, &n),
		RC_OK);
	ck_assert_uint_eq(n, 2);
	ck_assert(str_is(voices[0].id, "v1") && str_is(voices[0].name, "A"));
	ck_assert(str_is(voices[1].id, "v2") && voices[1].name.len == 0);
	ck_assert_int_eq(probe_read_voices(parsed("{\"voices\":[]}"), mem, &voices, &n), RC_OK);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(probe_read_voices(parsed("{\"voices\":[{}]}"), mem, &voices, &n),
			 RC_PROTOCOL);
	ck_assert_int_eq(probe_read_voices(parsed("{\"voices\":{}}"), mem, &voices, &n),
			 RC_PROTOCOL);
	ck_assert_int_eq(probe_read_voices(NULL, mem, &voices, &n), RC_PROTOCOL);
}
END_TEST

/* ---- which model, and the smallest call --------------------------------------------------------------------- */

START_TEST(the_small_ones_first)
{
	const struct str openai[] = {STR("tts-1"),
				     STR("text-embedding-3-small"),
				     STR("gpt-5"),
				     STR("gpt-4o-mini-tts"),
				     STR("gpt-5-mini"),
				     STR("gpt-5-nano"),
				     STR("gpt-4o-mini-transcribe")};
	const struct str none[] = {STR("text-embedding-3-small"), STR("whisper-1")};
	const struct str plain[] = {STR("my-model"), STR("other")};

	ck_assert(str_is(probe_pick_model(openai, ARRAY_LEN(openai), false), "gpt-5-nano"));
	ck_assert(str_is(probe_pick_model(openai, ARRAY_LEN(openai), true), "gpt-4o-mini-tts"));
	ck_assert(str_is(probe_pick_model(plain, ARRAY_LEN(plain), false), "my-model"));
	ck_assert_uint_eq(probe_pick_model(none, ARRAY_LEN(none), false).len, 0);
	ck_assert_uint_eq(probe_pick_model(NULL, 0, false).len, 0);
}
END_TEST

START_TEST(the_smallest_call_of_each)
{
	static const struct {
		const char *provider, *path, *body;
	} rows[] = {
		{"openai", "/chat/completions",
		 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Say: ok\"}],\"max_completion_tokens\":16}"},
		{"mistral", "/chat/completions",
		 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Say: ok\"}],\"max_tokens\":1}"},
		{"anthropic", "/v1/messages",
		 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Say: ok\"}],\"max_tokens\":1}"},
		{"gemini", "/models/m:generateContent",
		 "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Say: ok\"}]}],\"generationConfig\":{\"maxOutputTokens\":1}}"},
	};
	struct str path, body;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_int_eq(
			probe_write_text(provider(rows[i].provider), STR("m"), mem, &path, &body),
			RC_OK);
		ck_assert_msg(str_is(path, rows[i].path), "%.*s", STR_FMT(path));
		ck_assert_msg(str_is(body, rows[i].body), "%.*s", STR_FMT(body));
	}
	ck_assert_int_eq(probe_write_text(provider("gemini"), STR("a/b"), mem, &path, &body),
			 RC_INVALID);
	ck_assert_int_eq(probe_write_text(provider("openai"), STR(""), mem, &path, &body),
			 RC_INVALID);
	ck_assert_int_eq(
		probe_write_voice(provider("elevenlabs"), STR("m"), STR("v1"), mem, &path, &body),
		RC_OK);
	ck_assert(str_is(path, "/v1/text-to-speech/v1?output_format=mp3_22050_32"));
	ck_assert(str_is(body, "{\"text\":\"ok\",\"model_id\":\"m\"}"));
	ck_assert_int_eq(
		probe_write_voice(provider("elevenlabs"), STR("m"), STR("a?b"), mem, &path, &body),
		RC_INVALID);
	ck_assert_int_eq(
		probe_write_voice(provider("openai"), STR("tts-1"), STR_NULL, mem, &path, &body),
		RC_OK);
	ck_assert(str_is(path, "/audio/speech"));
}
END_TEST

START_TEST(what_cannot_be_asked_is_said_so)
{
	struct err e = {0};

	for (const struct provider *p = providers; p->id; p++) {
		ck_assert_int_eq(probe_possible(p, PROBE_AUTH, STR_NULL, &e), RC_OK);
		ck_assert_int_eq(probe_possible(p, PROBE_MODELS, STR_NULL, &e), RC_OK);
	}
	ck_assert_int_eq(probe_possible(provider("elevenlabs"), PROBE_TEXT, STR_NULL, &e),
			 RC_UNSUPPORTED);
	ck_assert_str_eq(e.code, "not_supported");
	ck_assert_int_eq(probe_possible(provider("openai"), PROBE_VOICES, STR_NULL, &e),
			 RC_UNSUPPORTED);
	ck_assert_int_eq(probe_possible(provider("elevenlabs"), PROBE_VOICES, STR_NULL, &e), RC_OK);
	ck_assert_int_eq(probe_possible(provider("grok"), PROBE_VOICE, STR("m"), &e),
			 RC_UNSUPPORTED);
	ck_assert_int_eq(probe_possible(provider("openai_compatible"), PROBE_VOICE, STR_NULL, &e),
			 RC_INVALID);
	ck_assert_str_eq(e.code, "model_required");
	ck_assert_int_eq(probe_possible(provider("openai_compatible"), PROBE_VOICE, STR("m"), &e),
			 RC_OK);
	ck_assert_int_eq(probe_possible(provider("gemini"), PROBE_TEXT, STR("../x"), &e),
			 RC_INVALID);
}
END_TEST

START_TEST(an_answer_or_none)
{
	ck_assert(probe_read_text(provider("openai"), parsed("{\"choices\":[{}]}")));
	ck_assert(!probe_read_text(provider("openai"), parsed("{\"choices\":[]}")));
	ck_assert(probe_read_text(provider("anthropic"), parsed("{\"content\":[]}")));
	ck_assert(probe_read_text(provider("gemini"), parsed("{\"usageMetadata\":{}}")));
	ck_assert(!probe_read_text(provider("gemini"), parsed("{}")));
	ck_assert(!probe_read_text(provider("gemini"), NULL));
	ck_assert(!probe_read_text(provider("elevenlabs"), parsed("{\"choices\":[{}]}")));
}
END_TEST

/* ---- the table and its keys ------------------------------------------------------------------------------- */

START_TEST(every_row_is_whole)
{
	for (const struct provider *p = providers; p->id; p++) {
		ck_assert_msg(p->speaks && p->path_models && p->key_example, "%s", p->id);
		ck_assert_msg((p->path_auth != NULL) == (p->auth != PROVIDER_AUTH_MODELS), "%s",
			      p->id);
		ck_assert_msg(p->base_url || p->base_url_settable, "%s", p->id);
		ck_assert_msg(!p->base_url || (p->secret_required && p->key_page), "%s", p->id);
		ck_assert_msg(p->text == PROVIDER_TEXT_NONE || p->text == PROVIDER_TEXT_GEMINI ||
				      p->path_chat,
			      "%s", p->id);
		ck_assert_msg((p->header_name != NULL) == (p->header_value != NULL), "%s", p->id);
	}
}
END_TEST

START_TEST(a_key_by_its_form)
{
	static const struct {
		const char *provider, *key, *says; /* NULL: fine */
	} keys[] = {
		{"openai", "sk-fake", NULL},
		{"kimi", "sk-fake", NULL},
		{"deepseek", "sk-fake", NULL},
		{"openai", "sk-ant-fake", "Anthropic"},
		{"kimi", "sk-or-fake", "OpenRouter"},
		{"anthropic", "sk-fake", "OpenAI"},
		{"anthropic", "sk-ant-fake", NULL},
		{"gemini", "AIzafake", NULL},
		{"gemini", "AQ.fake", NULL},
		{"gemini", "fake", "does not look like"},
		{"mistral", "abcdefghijklmnopqrstuvwxyz012345", NULL},
		{"mistral", "abcdefghijklmnopqrstuvwxyz01234", "does not look like"},
		{"mistral", "abcdefghijklmnopqrstuvwxyz01234-", "does not look like"},
		{"mistral", "sk-fake", "OpenAI"},
		{"elevenlabs", "sk_fake", NULL},
		{"elevenlabs", "0123456789abcdef0123456789abcdef", NULL},
		{"elevenlabs", "short", "does not look like"},
		{"together", "anything", NULL},
		{"together", "gsk_fake", "Groq"},
		/* an endpoint of one's own may want anything but a key of ours */
		{"openai_compatible", "sk-ant-fake", NULL},
		{"azure_openai", "sk-fake", NULL},
		{"openai_compatible", "tg_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbcccccc",
		 "nothing"},
		{"vllm", "tg_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbccccccc", "nothing"},
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct err e = {0};
		enum rc rc =
			provider_key_check(provider(keys[i].provider), str_from(keys[i].key), &e);
		bool own = strncmp(keys[i].key, "tg_", 3) == 0 && strlen(keys[i].key) == 49;

		ck_assert_msg(rc == (keys[i].says && (own || strcmp(keys[i].says, "nothing") != 0)
					     ? RC_INVALID
					     : RC_OK),
			      "%s %s", keys[i].provider, keys[i].key);
		if (rc == RC_OK)
			continue;
		ck_assert_str_eq(e.code, "invalid_secret");
		ck_assert_str_eq(e.field, "secret");
		ck_assert_ptr_nonnull(strstr(e.hint, "look like"));
		ck_assert_ptr_null(strstr(e.message, keys[i].key));
		if (!own)
			ck_assert_msg(strstr(e.message, keys[i].says) != NULL, "%s", e.message);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("probe_read");
	TCase *tc = tcase_create("probe_read");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, recorded_errors_have_their_class);
	tcase_add_loop_test(tc, an_error_is_read_by_marker_then_status, 0, ARRAY_LEN(errors));
	tcase_add_test(tc, words_are_found_where_errors_have_them);
	tcase_add_loop_test(tc, what_a_key_says_of_itself, 0, ARRAY_LEN(pages));
	tcase_add_loop_test(tc, a_list_in_each_shape, 0, ARRAY_LEN(lists));
	tcase_add_test(tc, a_long_list_is_cut);
	tcase_add_test(tc, a_voice_fit_for_a_path);
	tcase_add_test(tc, voices_are_ids_and_names);
	tcase_add_test(tc, the_small_ones_first);
	tcase_add_test(tc, the_smallest_call_of_each);
	tcase_add_test(tc, what_cannot_be_asked_is_said_so);
	tcase_add_test(tc, an_answer_or_none);
	tcase_add_test(tc, every_row_is_whole);
	tcase_add_test(tc, a_key_by_its_form);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
