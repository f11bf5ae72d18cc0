/* test_openai_usage.c - each trap of the usage that chat-shaped providers state (ledger.md 4.2), by its name. */
#include "routing/dialect.h"
#include "routing/dialects/openai_priv.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (1u << 20)

static struct arena *mem;

static void setup(void)
{
	mem = arena_new(ARENA_BYTES);
}

static void teardown(void)
{
	arena_free(mem);
}

static struct usage read_usage(const char *text)
{
	struct json *root;
	struct usage u;

	ck_assert_int_eq(json_parse(str_from(text), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	openai_usage_read(root, &u);
	return u;
}

static struct facts read_event(const char *text)
{
	struct call call = {.choices = 1};
	struct dialect_ctx ctx = {.mem = mem, .call = &call};
	struct sse_event ev = {.data = str_from(text)};
	struct facts f;

	ck_assert_int_eq(dialect_openai_chat.decode_event(&ctx, &ev, &f), RC_OK);
	return f;
}

/* text, cached, written, audio, out, reasoning; everything else is zero, and nothing is flagged */
static void check(const struct usage *u, int64_t text, int64_t cached, int64_t written,
		  int64_t audio, int64_t out, int64_t reasoning)
{
	struct usage want = {.n = {[USAGE_in_text] = text,
				   [USAGE_in_cached_read] = cached,
				   [USAGE_in_cache_write_5m] = written,
				   [USAGE_in_audio] = audio,
				   [USAGE_out_text] = out,
				   [USAGE_out_reasoning] = reasoning}};

	ck_assert(u->present);
	ck_assert_uint_eq(u->flags, 0);
	for (enum usage_class c = 0; c < USAGE_CLASS_COUNT; c++)
		ck_assert_msg(u->n[c] == want.n[c], "%s: %lld", usage_class_name(c),
			      (long long)u->n[c]);
}

START_TEST(openai_prompt_includes_cached_and_written)
{
	struct usage u = read_usage(
		"{\"prompt_tokens\":100,\"completion_tokens\":9,\"total_tokens\":109,"
		"\"prompt_tokens_details\":{\"cached_tokens\":60,\"cache_write_tokens\":30}}");

	check(&u, 10, 60, 30, 0, 9, 0);
}
END_TEST

START_TEST(openai_completion_includes_reasoning_and_rejected_predictions)
{
	struct usage u =
		read_usage("{\"prompt_tokens\":5,\"completion_tokens\":50,\"total_tokens\":55,"
			   "\"completion_tokens_details\":{\"reasoning_tokens\":20,"
			   "\"accepted_prediction_tokens\":4,\"rejected_prediction_tokens\":10}}");

	check(&u, 5, 0, 0, 0, 30, 20);
}
END_TEST

START_TEST(openai_cached_may_overlap_audio)
{
	struct usage u =
		read_usage("{\"prompt_tokens\":100,\"completion_tokens\":1,\"total_tokens\":101,"
			   "\"prompt_tokens_details\":{\"cached_tokens\":80,\"audio_tokens\":60}}");

	ck_assert_int_eq(u.n[USAGE_in_audio_cached], 40);
	ck_assert_int_eq(u.n[USAGE_in_cached_read], 40);
	ck_assert_int_eq(u.n[USAGE_in_audio], 20);
	ck_assert_int_eq(usage_total_in(&u), 100);
	ck_assert_uint_eq(u.flags, 0);
}
END_TEST

/* An interrupted stream has none: that is not zero. */
START_TEST(openai_stream_may_end_without)
{
	struct facts f = read_event("{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],"
				    "\"usage\":null}");

	ck_assert(!f.usage.present);
}
END_TEST

/* The tier that served decides the price, not the one asked for. */
START_TEST(openai_served_tier_is_read)
{
	struct facts f = read_event("{\"choices\":[],\"service_tier\":\"priority\",\"usage\":{"
				    "\"prompt_tokens\":1,\"completion_tokens\":1}}");

	ck_assert_str_eq(f.usage.service_tier, "priority");
}
END_TEST

START_TEST(openrouter_own_key_cost_is_only_the_fee)
{
	struct usage own = read_usage(
		"{\"prompt_tokens\":1,\"completion_tokens\":1,\"cost\":0.0001,\"is_byok\":true,"
		"\"cost_details\":{\"upstream_inference_cost\":0.0025}}");
	struct usage theirs = read_usage(
		"{\"prompt_tokens\":1,\"completion_tokens\":1,\"cost\":0.0001,\"is_byok\":false,"
		"\"cost_details\":{\"upstream_inference_cost\":0.0025}}");

	ck_assert_int_eq(own.provider_cost_nano, 2600000);
	ck_assert_int_eq(theirs.provider_cost_nano, 100000);
}
END_TEST

START_TEST(openrouter_routed_model_is_named)
{
	struct facts f =
		read_event("{\"id\":\"gen-1\",\"model\":\"vendor/served\",\"choices\":[]}");

	ck_assert(str_is(f.model, "vendor/served"));
	ck_assert(str_is(f.id, "gen-1"));
}
END_TEST

START_TEST(mistral_audio_seconds_are_no_tokens)
{
	struct usage u = read_usage("{\"prompt_tokens\":4,\"completion_tokens\":6,"
				    "\"total_tokens\":10,\"prompt_audio_seconds\":203}");

	/* ... and counted beside them: a started millisecond is one */
	ck_assert_int_eq(u.n[USAGE_audio_in_ms], 203000);
	u.n[USAGE_audio_in_ms] = 0;
	check(&u, 4, 0, 0, 0, 6, 0);
	u = read_usage("{\"prompt_tokens\":4,\"completion_tokens\":6,"
		       "\"prompt_audio_seconds\":1.00001}");
	ck_assert_int_eq(u.n[USAGE_audio_in_ms], 1001);
	u = read_usage("{\"prompt_tokens\":4,\"completion_tokens\":6,"
		       "\"prompt_audio_seconds\":-1}");
	ck_assert_int_eq(u.n[USAGE_audio_in_ms], 0);
	ck_assert_uint_eq(u.flags, USAGE_FLAG_CLAMPED);
}
END_TEST

START_TEST(mistral_cache_details_may_be_absent_or_null)
{
	struct usage u = read_usage("{\"prompt_tokens\":4,\"completion_tokens\":6,"
				    "\"total_tokens\":10,\"prompt_tokens_details\":null}");

	check(&u, 4, 0, 0, 0, 6, 0);
}
END_TEST

START_TEST(xai_reasoning_is_beside_the_completion)
{
	struct usage u = read_usage(
		"{\"prompt_tokens\":10120,\"completion_tokens\":1499,\"total_tokens\":14428,"
		"\"completion_tokens_details\":{\"reasoning_tokens\":2809}}");

	check(&u, 10120, 0, 0, 0, 1499, 2809);
}
END_TEST

START_TEST(xai_text_tokens_include_cached)
{
	struct usage u =
		read_usage("{\"prompt_tokens\":32,\"completion_tokens\":9,\"total_tokens\":41,"
			   "\"prompt_tokens_details\":{\"text_tokens\":32,\"cached_tokens\":8}}");

	check(&u, 24, 8, 0, 0, 9, 0);
}
END_TEST

START_TEST(xai_cached_may_be_beside_the_prompt)
{
	struct usage u =
		read_usage("{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":55,"
			   "\"prompt_tokens_details\":{\"cached_tokens\":40}}");

	check(&u, 10, 40, 0, 0, 5, 0);
}
END_TEST

START_TEST(xai_ticks_are_the_cost)
{
	struct usage u = read_usage("{\"prompt_tokens\":1,\"completion_tokens\":1,"
				    "\"cost_in_usd_ticks\":3291000}");

	ck_assert_int_eq(u.provider_cost_nano, 329100);
}
END_TEST

START_TEST(moonshot_cached_has_two_places)
{
	struct usage top =
		read_usage("{\"prompt_tokens\":10,\"completion_tokens\":5,\"cached_tokens\":4}");
	struct usage inner =
		read_usage("{\"prompt_tokens\":10,\"completion_tokens\":5,\"cached_tokens\":4,"
			   "\"prompt_tokens_details\":{\"cached_tokens\":4}}");

	check(&top, 6, 4, 0, 0, 5, 0);
	check(&inner, 6, 4, 0, 0, 5, 0);
}
END_TEST

START_TEST(moonshot_usage_may_stand_in_the_choice)
{
	struct facts f =
		read_event("{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\","
			   "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}]}");

	check(&f.usage, 10, 0, 0, 0, 5, 0);
	ck_assert(!f.usage_only);
}
END_TEST

START_TEST(deepseek_hit_and_miss_are_the_prompt)
{
	struct usage u = read_usage(
		"{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_cache_hit_tokens\":7,"
		"\"prompt_cache_miss_tokens\":3,\"completion_tokens_details\":{"
		"\"reasoning_tokens\":2}}");

	check(&u, 3, 7, 0, 0, 3, 2);
}
END_TEST

START_TEST(groq_usage_may_stand_in_x_groq)
{
	struct facts f = read_event(
		"{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{"
		"\"id\":\"r\",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,"
		"\"queue_time\":0.01}}}");

	check(&f.usage, 10, 0, 0, 0, 5, 0);
}
END_TEST

START_TEST(private_endpoints_may_say_nothing)
{
	struct facts f = read_event("{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
				    "\"stop\"}],\"timings\":{\"prompt_n\":4}}");
	struct usage u = read_usage("{\"prompt_tokens\":null,\"completion_tokens\":null}");

	ck_assert(!f.usage.present && !u.present);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_usage");
	TCase *t = tcase_create("traps");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, openai_prompt_includes_cached_and_written);
	tcase_add_test(t, openai_completion_includes_reasoning_and_rejected_predictions);
	tcase_add_test(t, openai_cached_may_overlap_audio);
	tcase_add_test(t, openai_stream_may_end_without);
	tcase_add_test(t, openai_served_tier_is_read);
	tcase_add_test(t, openrouter_own_key_cost_is_only_the_fee);
	tcase_add_test(t, openrouter_routed_model_is_named);
	tcase_add_test(t, mistral_audio_seconds_are_no_tokens);
	tcase_add_test(t, mistral_cache_details_may_be_absent_or_null);
	tcase_add_test(t, xai_reasoning_is_beside_the_completion);
	tcase_add_test(t, xai_text_tokens_include_cached);
	tcase_add_test(t, xai_cached_may_be_beside_the_prompt);
	tcase_add_test(t, xai_ticks_are_the_cost);
	tcase_add_test(t, moonshot_cached_has_two_places);
	tcase_add_test(t, moonshot_usage_may_stand_in_the_choice);
	tcase_add_test(t, deepseek_hit_and_miss_are_the_prompt);
	tcase_add_test(t, groq_usage_may_stand_in_x_groq);
	tcase_add_test(t, private_endpoints_may_say_nothing);
	suite_add_tcase(s, t);
	return suite_run(s);
}
