/* test_call.c - names, the policy per error class, and the table of providers. */
#include "routing/call.h"
#include "routing/dialect.h"
#include "routing/provider.h"
#include "tests/unit/routing/fixture.h"

START_TEST(capability_names_come_back)
{
	static const char *const names[] = {"text",	 "vision", "audio_in",
					    "audio_out", "tools",  "json"};
	uint32_t all = 0, bit;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ck_assert_int_eq(capability_parse(str_from(names[i]), &bit), RC_OK);
		ck_assert_str_eq(capability_name((enum capability)bit), names[i]);
		ck_assert_uint_eq(all & bit, 0);
		all |= bit;
	}
	bit = 99;
	ck_assert_int_eq(capability_parse(STR("telepathy"), &bit), RC_INVALID);
	ck_assert_int_eq(capability_parse(STR(""), &bit), RC_INVALID);
	ck_assert_int_eq(capability_parse(STR("Text"), &bit), RC_INVALID);
	ck_assert_uint_eq(bit, 99);
}
END_TEST

static const struct {
	const char *name;
	bool fall_over, retry_same, cool_model, cool_profile, to_caller;
} policies[] = {
	{"none", false, false, false, false, false},
	{"auth", true, false, false, true, false},
	{"permission", true, false, false, true, false},
	{"not_found", true, false, true, false, false},
	{"rate_limit", true, true, true, false, false},
	{"quota", true, false, false, true, false},
	{"context_length", true, false, false, false, true},
	{"content_policy", false, false, false, false, true},
	{"invalid_request", false, false, false, false, true},
	{"timeout", true, true, true, false, false},
	{"overloaded", true, true, true, false, false},
	{"server_error", true, true, true, false, false},
	{"network", true, true, true, false, false},
	{"protocol", true, false, true, false, false},
};

START_TEST(policy_per_class)
{
	ck_assert_uint_eq(ARRAY_LEN(policies), ERROR_CLASS_COUNT);
	for (int c = 0; c < ERROR_CLASS_COUNT; c++) {
		const struct error_policy *p = error_policy((enum error_class)c);

		ck_assert_str_eq(error_class_name((enum error_class)c), policies[c].name);
		ck_assert_int_eq(p->fall_over, policies[c].fall_over);
		ck_assert_int_eq(p->retry_same, policies[c].retry_same);
		ck_assert_int_eq(p->cool_model, policies[c].cool_model);
		ck_assert_int_eq(p->cool_profile, policies[c].cool_profile);
		ck_assert_int_eq(p->to_caller, policies[c].to_caller);
		ck_assert(!(p->to_caller && (p->cool_model || p->cool_profile)));
	}
}
END_TEST

/* The ids of interface.md, each a complete row. */
START_TEST(provider_rows)
{
	static const char *const ids[] = {
		"openrouter",	"openai",     "anthropic",
		"gemini",	"grok",	      "mistral",
		"kimi",		"elevenlabs", "openai_compatible",
		"deepseek",	"groq",	      "together",
		"azure_openai", "vllm",	      "ollama",
		"lm_studio",	"llama_cpp",
	};
	size_t rows = 0;

	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		ck_assert_msg(provider_find(str_from(ids[i])) != NULL, "%s", ids[i]);
	for (const struct provider *p = providers; p->id; p++, rows++) {
		ck_assert_ptr_eq(provider_find(str_from(p->id)), p);
		ck_assert_ptr_nonnull(p->label);
		ck_assert_ptr_nonnull(p->key_example);
		ck_assert(p->base_url || p->base_url_settable);
		ck_assert(!p->base_url || str_starts(str_from(p->base_url), STR("https://")));
		ck_assert(!p->base_url || !str_ends(str_from(p->base_url), STR("/")));
		ck_assert((p->secret_form == CURLM_SECRET_HEADER) == (p->secret_header != NULL));
		ck_assert(!p->secret_required || p->key_page);
		ck_assert(p->path_models && p->path_models[0] == '/');
		for (const struct provider_endpoint *e = p->endpoints; e->dialect; e++) {
			ck_assert_int_lt(e - p->endpoints, PROVIDER_ENDPOINTS_MAX - 1);
			ck_assert(e->path && e->path[0] == '/');
			ck_assert(!e->path_stream || e->path_stream[0] == '/');
		}
	}
	ck_assert_uint_eq(rows, ARRAY_LEN(ids));
	ck_assert_ptr_null(provider_find(STR("nobody")));
	ck_assert_ptr_null(provider_find(STR("")));
	ck_assert_ptr_null(provider_find(STR_NULL));
	ck_assert_ptr_null(provider_find(STR("OpenAI")));
}
END_TEST

START_TEST(providers_that_are_spoken)
{
	const struct provider *openai = provider_find(STR("openai"));
	const struct provider *compatible = provider_find(STR("openai_compatible"));

	ck_assert_ptr_eq(openai->endpoints[0].dialect, &dialect_openai_chat);
	ck_assert(openai->max_completion_tokens && openai->stream_usage_option);
	ck_assert(openai->secret_required);
	ck_assert_ptr_eq(compatible->endpoints[0].dialect, &dialect_openai_chat);
	ck_assert(!compatible->max_completion_tokens && compatible->stream_usage_option);
	ck_assert(!compatible->secret_required && !compatible->base_url);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("call");
	TCase *tc = tcase_create("call");

	tcase_add_test(tc, capability_names_come_back);
	tcase_add_test(tc, policy_per_class);
	tcase_add_test(tc, provider_rows);
	tcase_add_test(tc, providers_that_are_spoken);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
