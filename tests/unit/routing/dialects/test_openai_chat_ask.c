/* test_openai_chat_ask.c - a chat completions question, read whole and told in each provider's own way; and the same
 * question on its way through as it came. */
#include "routing/dialect.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (8u << 20)

static const struct dialect *const d = &dialect_openai_chat;
static const struct call_head no_head;
/* callers of other dialects: only their names are looked at */
static const struct dialect from_responses = {.name = "openai_responses"};
static const struct dialect from_anthropic = {.name = "anthropic_messages"};
static const struct dialect from_gemini = {.name = "gemini"};

struct told {
	struct arena *mem;
	struct buf out;
	struct outgoing o;
	struct err err;
	struct call call;
	struct ask ask;
	struct dialect_target target;
	enum rc rc;
	char losses[512]; /* with spaces between */
};

static void told_begin(struct told *t, const char *provider, const char *model, const char *body)
{
	*t = (struct told){.mem = arena_new(ARENA_BYTES), .out = BUF_INIT(OUT_BYTES)};
	t->o.body = &t->out;
	t->target = (struct dialect_target){.provider = provider_find(str_from(provider)),
					    .dialect = d,
					    .model = str_from(model)};
	ck_assert_ptr_nonnull(t->target.provider);
	ck_assert_msg(d->decode_request(&no_head, str_from(body), t->mem, &t->call, &t->err) ==
			      RC_OK,
		      "%s: %s", body, t->err.message);
}

static void told_end(struct told *t)
{
	for (size_t i = 0; i < t->o.losses.count; i++)
		snprintf(t->losses + strlen(t->losses), sizeof t->losses - strlen(t->losses),
			 "%s%.*s", i ? " " : "", STR_FMT(t->o.losses.name[i]));
}

static void told_clear(struct told *t)
{
	buf_clear(&t->out);
	arena_free(t->mem);
}

/* Through what stands between the dialects, as for a caller of `from`. */
static void tell(struct told *t, const char *provider, const char *model, const char *body,
		 const struct dialect *from)
{
	told_begin(t, provider, model, body);
	t->rc = d->decode_ask(&t->call, t->mem, &t->ask, &t->err);
	if (t->rc != RC_OK)
		return;
	t->call.dialect = from;
	t->rc = d->encode_ask(&t->call, &t->ask, &t->target, t->mem, &t->o, &t->err);
	told_end(t);
}

static void pass(struct told *t, const char *provider, const char *model, const char *body)
{
	told_begin(t, provider, model, body);
	t->rc = d->encode_request(&t->call, &t->target, t->mem, &t->o, &t->err);
	told_end(t);
}

static void check_told(const struct told *t, const char *want, const char *losses)
{
	ck_assert_msg(t->rc == RC_OK, "%s %s", t->err.field, t->err.message);
	ck_assert_str_eq(t->out.ptr, want);
	ck_assert_str_eq(t->losses, losses ? losses : "");
}

#define USER	"{\"role\":\"user\",\"content\":\"Hi\"}"
#define M	"\"messages\":[" USER "]"
#define Q(more) "{\"model\":\"m\"," M more "}"
#define S(list) "{\"model\":\"m\",\"messages\":[" list "]}"
#define CALL(id)                                                                                   \
	"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"" id                   \
	"\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}"
#define RESULT(id) "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"ok\"}"
#define TOOLS                                                                                       \
	",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":" \
	"\"object\"}}},{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]"

/* ---- what is told ---------------------------------------------------------------------------------------- */

static const struct {
	const char *provider, *model, *body, *want, *losses;
} tells[] = {
	{"openai_compatible", "m", Q(""), Q(""), NULL},
	{"openai_compatible", "m",
	 Q(",\"max_tokens\":7,\"temperature\":0.70,\"seed\":12345678901234567890,\"stream\":true"),
	 Q(",\"temperature\":0.70,\"seed\":12345678901234567890,\"max_tokens\":7,\"stream\":true,"
	   "\"stream_options\":{\"include_usage\":true}"),
	 NULL},
	{"mistral", "m",
	 Q(",\"max_completion_tokens\":7,\"seed\":3,\"stream\":true,\"user\":\"u\""),
	 Q(",\"random_seed\":3,\"max_tokens\":7,\"stream\":true"), "user"},
	/* roles */
	{"openai", "gpt-5", S("{\"role\":\"developer\",\"content\":\"D\"}," USER),
	 "{\"model\":\"gpt-5\",\"messages\":[{\"role\":\"developer\",\"content\":\"D\"}," USER "]}",
	 NULL},
	{"kimi", "m", S("{\"role\":\"developer\",\"content\":\"D\"}," USER),
	 S("{\"role\":\"system\",\"content\":\"D\"}," USER), NULL},
	/* tools, and their ids */
	{"openai", "m", S(USER "," CALL("call_1") "," RESULT("call_1")),
	 S(USER "," CALL("call_1") "," RESULT("call_1")), NULL},
	{"mistral", "m", S(USER "," CALL("abcdefgh1") "," RESULT("abcdefgh1")),
	 S(USER "," CALL("abcdefgh1") "," RESULT("abcdefgh1")), NULL},
	{"openai", "m",
	 Q(TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
		 "\"parallel_tool_calls\":false"),
	 Q(TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
		 "\"parallel_tool_calls\":false"),
	 NULL},
	{"openai", "m",
	 Q(TOOLS
	   ",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":"
	   "\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}}"),
	 Q(TOOLS
	   ",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":"
	   "\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}}"),
	 NULL},
	{"groq", "m",
	 Q(TOOLS
	   ",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":"
	   "\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}}"),
	 Q(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],\"tool_choice\":"
	   "\"required\""),
	 NULL},
	{"ollama", "m", Q(TOOLS ",\"tool_choice\":\"none\""), Q(""), NULL},
	{"ollama", "m", Q(TOOLS ",\"tool_choice\":\"auto\",\"parallel_tool_calls\":false"),
	 Q(TOOLS), "parallel_tool_calls"},
	{"mistral", "m", Q(",\"functions\":[{\"name\":\"g\"}],\"function_call\":\"auto\""),
	 Q(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\",\"parameters\":{"
	   "\"type\":\"object\",\"properties\":{}}}}],\"tool_choice\":\"auto\""),
	 NULL},
	/* the form before tools */
	{"openai", "m",
	 S(USER ",{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\","
		"\"arguments\":\"{}\"}},{\"role\":\"function\",\"name\":\"f\",\"content\":\"ok\"}"),
	 S(USER ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
		"\"call_of_message_1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
		"\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
		"\"call_of_message_1\",\"content\":\"ok\"}"),
	 NULL},
	/* content */
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
	   "\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAA\",\"detail\":"
	   "\"low\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"BBBB\",\"format\":"
	   "\"wav\"}},{\"type\":\"file\",\"file\":{\"filename\":\"x.pdf\",\"file_data\":"
	   "\"data:application/pdf;base64,CCCC\"}}]}"),
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
	   "\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAA\",\"detail\":"
	   "\"low\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"BBBB\",\"format\":"
	   "\"wav\"}},{\"type\":\"file\",\"file\":{\"filename\":\"x.pdf\",\"file_data\":"
	   "\"data:application/pdf;base64,CCCC\"}}]}"),
	 NULL},
	{"mistral", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{\"data\":"
	   "\"BBBB\",\"format\":\"mp3\"}},{\"type\":\"file\",\"file\":{\"filename\":\"x.pdf\","
	   "\"file_data\":\"data:application/pdf;base64,CCCC\"}}]}"),
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":\"BBBB\"},{"
	   "\"type\":\"document_url\",\"document_url\":\"data:application/pdf;base64,CCCC\","
	   "\"document_name\":\"x.pdf\"}]}"),
	 NULL},
	{"openrouter", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\","
	   "\"prompt_cache_breakpoint\":{\"mode\":\"explicit\"}}]}"),
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{"
	   "\"type\":\"ephemeral\"}}]}"),
	 NULL},
	{"groq", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\","
	   "\"prompt_cache_breakpoint\":{\"mode\":\"explicit\"}}]}"),
	 S("{\"role\":\"user\",\"content\":\"a\"}"), "prompt_cache_breakpoint"},
	{"deepseek", "m",
	 S("{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
	   "\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"
	   "\"c\"},{\"type\":\"refusal\",\"refusal\":\"d\"}]}"),
	 S("{\"role\":\"system\",\"content\":\"a\\n\\nb\"},{\"role\":\"assistant\",\"content\":"
	   "\"cd\"}"),
	 NULL},
	/* structured output */
	{"openai", "m",
	 Q(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
	   "\"schema\":{\"type\":\"object\"},\"strict\":true}}"),
	 Q(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
	   "\"schema\":{\"type\":\"object\"},\"strict\":true}}"),
	 NULL},
	{"deepseek", "m", Q(",\"response_format\":{\"type\":\"json_object\"}"),
	 Q(",\"response_format\":{\"type\":\"json_object\"}"), NULL},
	/* reasoning models have no sampling */
	{"openai", "o3-mini", Q(",\"temperature\":0.5,\"top_p\":0.5,\"presence_penalty\":1"),
	 "{\"model\":\"o3-mini\"," M "}", "temperature top_p presence_penalty"},
	{"openai", "gpt-5.2", Q(",\"temperature\":0.5,\"reasoning_effort\":\"none\""),
	 "{\"model\":\"gpt-5.2\"," M ",\"temperature\":0.5,\"reasoning_effort\":\"none\"}", NULL},
	{"kimi", "kimi-k2.5", Q(",\"temperature\":0.5,\"top_p\":0.5"),
	 "{\"model\":\"kimi-k2.5\"," M "}", "temperature top_p"},
	/* efforts, each in the nearest word of the target */
	{"openai", "o3", Q(",\"reasoning_effort\":\"max\""),
	 "{\"model\":\"o3\"," M ",\"reasoning_effort\":\"high\"}", NULL},
	{"openai", "o3", Q(",\"reasoning_effort\":\"none\""), "{\"model\":\"o3\"," M "}",
	 "reasoning_effort"},
	{"openai", "gpt-4o", Q(",\"reasoning_effort\":\"none\""), "{\"model\":\"gpt-4o\"," M "}",
	 NULL},
	{"openai", "gpt-4o", Q(",\"reasoning_effort\":\"low\""), "{\"model\":\"gpt-4o\"," M "}",
	 "reasoning_effort"},
	{"deepseek", "m", Q(",\"reasoning_effort\":\"minimal\""),
	 Q(",\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"low\""), NULL},
	{"deepseek", "m", Q(",\"reasoning_effort\":\"medium\""),
	 Q(",\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"high\""), NULL},
	{"deepseek", "m", Q(",\"reasoning_effort\":\"xhigh\""),
	 Q(",\"thinking\":{\"type\":\"enabled\"},\"reasoning_effort\":\"high\""), NULL},
	{"deepseek", "m", Q(",\"reasoning_effort\":\"none\""),
	 Q(",\"thinking\":{\"type\":\"disabled\"}"), NULL},
	{"kimi", "kimi-k2.6", Q(",\"reasoning_effort\":\"low\""),
	 "{\"model\":\"kimi-k2.6\"," M ",\"thinking\":{\"type\":\"enabled\"}}", NULL},
	{"grok", "grok-4", Q(",\"reasoning_effort\":\"low\""), "{\"model\":\"grok-4\"," M "}",
	 "reasoning_effort"},
	{"openrouter", "m", Q(",\"reasoning\":{\"max_tokens\":2000,\"exclude\":true}"),
	 Q(",\"reasoning\":{\"max_tokens\":2000,\"exclude\":true}"), NULL},
	{"openai", "o3", Q(",\"reasoning\":{\"max_tokens\":2000}"),
	 "{\"model\":\"o3\"," M ",\"reasoning_effort\":\"low\"}", NULL},
	/* words */
	{"openai", "m",
	 Q(",\"service_tier\":\"flex\",\"user\":\"u\",\"verbosity\":\"low\",\"prompt_cache_key\":"
	   "\"k\",\"metadata\":{\"a\":\"b\"},\"store\":true,\"prediction\":{\"type\":\"content\"}"),
	 Q(",\"service_tier\":\"flex\",\"safety_identifier\":\"u\",\"verbosity\":\"low\","
	   "\"prompt_cache_key\":\"k\",\"metadata\":{\"a\":\"b\"}"),
	 "store prediction"},
	{"groq", "m",
	 Q(",\"service_tier\":\"flex\",\"verbosity\":\"low\",\"prompt_cache_key\":\"k\","
	   "\"metadata\":{\"a\":\"b\"},\"store\":false,\"top_k\":4,\"whatever\":1,\"void\":null"),
	 Q(""), "whatever top_k service_tier verbosity prompt_cache_key metadata"},
	{"openai", "m", S("{\"role\":\"user\",\"content\":\"Hi\",\"name\":\"Ann\"}"), Q(""),
	 "messages.name"},
	{"openai", "m", Q(",\"stop\":\"x\""), Q(",\"stop\":[\"x\"]"), NULL},
	{"openai", "m", Q(",\"n\":2"), Q(",\"n\":2"), NULL},
	/* earlier reasoning goes where it must, and nowhere else */
	{"deepseek", "m",
	 "{\"model\":\"m\",\"messages\":[" USER
	 ",{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"because\"}," USER
	 "]" TOOLS "}",
	 "{\"model\":\"m\",\"messages\":[" USER
	 ",{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"because\"}," USER
	 "]" TOOLS "}",
	 NULL},
	{"deepseek", "m",
	 S(USER
	   ",{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"because\"}," USER),
	 S(USER ",{\"role\":\"assistant\",\"content\":\"x\"}," USER), "messages.reasoning_content"},
	{"deepseek", "m",
	 "{\"model\":\"m\",\"messages\":[" USER ",{\"role\":\"assistant\",\"content\":\"x\"}," USER
	 "]" TOOLS "}",
	 "{\"model\":\"m\",\"messages\":[" USER ",{\"role\":\"assistant\",\"content\":\"x\"}," USER
	 "]" TOOLS ",\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort"},
	{"kimi", "kimi-k2.5", S(USER "," CALL("call_1") "," RESULT("call_1")),
	 "{\"model\":\"kimi-k2.5\",\"messages\":[" USER
	 "," CALL("call_1") "," RESULT("call_1") "],\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort"},
	{"openai", "m",
	 S(USER ",{\"role\":\"assistant\",\"content\":\"x\",\"reasoning_content\":\"because\","
		"\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"because\","
		"\"signature\":\"theirs\"}]}," USER),
	 S(USER ",{\"role\":\"assistant\",\"content\":\"x\"}," USER), "messages.reasoning_content"},
	/* a turn that was nothing but reasoning */
	{"openai", "m",
	 S(USER ",{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"because\"}"),
	 Q(""), "messages.reasoning_content"},
};

START_TEST(told_in_the_providers_way)
{
	struct told t;

	tell(&t, tells[_i].provider, tells[_i].model, tells[_i].body, d);
	check_told(&t, tells[_i].want, tells[_i].losses);
	told_clear(&t);
}
END_TEST

static const struct {
	const char *provider, *model, *body;
	enum rc rc;
	const char *field;
} refusals[] = {
	{"openai", "m", Q(",\"logprobs\":true"), RC_UNSUPPORTED, "logprobs"},
	{"groq", "m", Q(",\"logit_bias\":{\"1\":2}"), RC_UNSUPPORTED, "logit_bias"},
	{"groq", "m", Q(",\"n\":2"), RC_UNSUPPORTED, "n"},
	{"openai", "o3", Q(",\"stop\":\"x\""), RC_UNSUPPORTED, "stop"},
	{"grok", "grok-4", Q(",\"stop\":\"x\""), RC_UNSUPPORTED, "stop"},
	{"openai", "m", Q(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]"), RC_UNSUPPORTED, "stop"},
	{"ollama", "m", Q(TOOLS ",\"tool_choice\":\"required\""), RC_UNSUPPORTED, "tool_choice"},
	{"deepseek", "m",
	 Q(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
	   "\"schema\":{}}}"),
	 RC_UNSUPPORTED, "response_format"},
	{"lm_studio", "m", Q(",\"response_format\":{\"type\":\"json_object\"}"), RC_UNSUPPORTED,
	 "response_format"},
	{"openai", "m", Q(",\"modalities\":[\"text\",\"audio\"],\"audio\":{}"), RC_UNSUPPORTED,
	 "modalities"},
	{"openai", "m", Q(",\"web_search_options\":{}"), RC_UNSUPPORTED, "web_search_options"},
	{"openai", "m", Q(",\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"c\"}}]"),
	 RC_UNSUPPORTED, "tools[0]"},
	{"openai", "m", Q(",\"tools\":[{\"type\":\"web_search\"}]"), RC_UNSUPPORTED, "tools[0]"},
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"news\",\"x\":1},{\"type\":\"text\",\"text\":"
	   "\"a\"}]}"),
	 RC_UNSUPPORTED, "messages[0].content[0]"},
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_id\":\"f\"}}]}"),
	 RC_UNSUPPORTED, "messages.file.file_id"},
	{"ollama", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
	   "\"https://x.test/a.png\"}}]}"),
	 RC_UNSUPPORTED, "messages.image.url"},
	{"llama_cpp", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
	   "\"file:///etc/passwd\"}}]}"),
	 RC_UNSUPPORTED, "messages.image.url"},
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{\"data\":"
	   "\"AA\",\"format\":\"flac\"}}]}"),
	 RC_UNSUPPORTED, "messages.audio"},
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"video_url\",\"video_url\":{\"url\":"
	   "\"https://x.test/a.mp4\"}}]}"),
	 RC_UNSUPPORTED, "messages.video"},
	{"kimi", "kimi-k2-thinking", S(USER "," CALL("call_1") "," RESULT("call_1")),
	 RC_UNSUPPORTED, "messages.reasoning"},
	/* what makes no sense anywhere */
	{"openai", "m", S(USER "," RESULT("nobody")), RC_INVALID, "messages"},
	{"openai", "m", S("{\"role\":\"tool\",\"content\":\"x\"}"), RC_INVALID,
	 "messages[0].tool_call_id"},
	{"openai", "m", S("{\"role\":\"king\",\"content\":\"x\"}"), RC_INVALID, "messages[0].role"},
	{"openai", "m",
	 S(USER
	   ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\","
	   "\"arguments\":\"{half\"}}]}"),
	 RC_INVALID, "messages[1].tool_calls[0].function.arguments"},
	{"openai", "m",
	 S(USER
	   ",{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\","
	   "\"arguments\":\"[1]\"}}]}"),
	 RC_INVALID, "messages[1].tool_calls[0].function.arguments"},
	{"openai", "m", S(USER ",{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}"),
	 RC_INVALID, "messages[1].tool_calls[0].id"},
	{"openai", "m", S(USER ",{\"role\":\"assistant\",\"tool_calls\":{}}"), RC_INVALID,
	 "messages[1].tool_calls"},
	{"openai", "m", Q(",\"temperature\":\"hot\""), RC_INVALID, "temperature"},
	{"openai", "m", Q(",\"stop\":[1]"), RC_INVALID, "stop"},
	{"openai", "m", Q(",\"reasoning_effort\":\"huge\""), RC_INVALID, "reasoning_effort"},
	{"openai", "m", Q(",\"tool_choice\":\"perhaps\""), RC_INVALID, "tool_choice"},
	{"openai", "m", Q(",\"tools\":[{}]"), RC_INVALID, "tools[0]"},
	{"openai", "m", Q(",\"tools\":[{\"type\":\"function\"}]"), RC_INVALID, "tools[0]"},
	{"openai", "m", Q(",\"user\":7"), RC_INVALID, "user"},
	{"openai", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
	   "\"data:image/png,raw\"}}]}"),
	 RC_INVALID, "messages[0].content[0].image_url"},
	{"openai", "m",
	 Q(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\"}}"),
	 RC_INVALID, "response_format.json_schema.schema"},
};

START_TEST(refused_by_name)
{
	struct told t;

	tell(&t, refusals[_i].provider, refusals[_i].model, refusals[_i].body, d);
	ck_assert_msg(t.rc == refusals[_i].rc, "%s: %s, %s", refusals[_i].body, rc_name(t.rc),
		      t.out.ptr ? t.out.ptr : "");
	ck_assert_str_eq(t.err.field, refusals[_i].field);
	ck_assert_ptr_nonnull(t.err.code);
	ck_assert_str_ne(t.err.message, "");
	told_clear(&t);
}
END_TEST

/* A caller is told in its own words. */
START_TEST(losses_are_named_as_the_caller_names_them)
{
	static const struct {
		const struct dialect *from;
		const char *losses, *field;
	} rows[] = {
		{&from_responses, "temperature reasoning", "top_logprobs"},
		{&from_anthropic, "temperature thinking", "logprobs"},
		{&from_gemini, "generationConfig.temperature generationConfig.thinkingConfig",
		 "generationConfig.responseLogprobs"},
	};
	struct told t;

	tell(&t, "openai", "o3", Q(",\"temperature\":2,\"reasoning_effort\":\"none\""),
	     rows[_i].from);
	check_told(&t, "{\"model\":\"o3\"," M "}", rows[_i].losses);
	told_clear(&t);
	tell(&t, "openai", "m", Q(",\"logprobs\":true"), rows[_i].from);
	ck_assert_int_eq(t.rc, RC_UNSUPPORTED);
	ck_assert_str_eq(t.err.field, rows[_i].field);
	told_clear(&t);
}
END_TEST

/* The same id for a call and its result, in every turn, and back to the same again. */
START_TEST(ids_are_rewritten_alike)
{
	struct told t, again;
	struct json *root, *messages;
	struct str a, b;

	tell(&t, "mistral", "m",
	     S(USER "," CALL("toolu_01A-b") "," RESULT("toolu_01A-b") "," CALL("call_2") "," RESULT(
		     "call_2")),
	     d);
	ck_assert_int_eq(t.rc, RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&t.out), JSON_NO_DUPLICATES, t.mem, &root, NULL),
			 RC_OK);
	messages = json_get(root, "messages");
	for (size_t i = 1; i < 5; i += 2) {
		const struct json *call = json_at(json_get(json_at(messages, i), "tool_calls"), 0);

		ck_assert(json_string(json_get(call, "id"), &a));
		ck_assert(json_string(json_get(json_at(messages, i + 1), "tool_call_id"), &b));
		ck_assert(str_eq(a, b));
		ck_assert_uint_eq(a.len, 9);
	}
	pass(&again, "mistral", "m",
	     S(USER "," CALL("toolu_01A-b") "," RESULT("toolu_01A-b") "," CALL("call_2") "," RESULT(
		     "call_2")));
	ck_assert_str_eq(again.out.ptr, t.out.ptr);
	told_clear(&again);
	told_clear(&t);
}
END_TEST

/* State goes back to who made it, as it was, and to nobody else; what a caller wrote into it cannot break out. */
START_TEST(seals_go_home)
{
	static const struct {
		const char *provider, *model, *value, *want;
	} rows[] = {
		{"openrouter", "x/y", "[{\"type\":\"reasoning.encrypted\",\"data\":\"zz\"}]",
		 "\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"data\":\"zz\"}]"},
		{"openrouter", "x/z", "[{\"type\":\"reasoning.encrypted\",\"data\":\"zz\"}]", NULL},
		{"groq", "x/y", "[{\"type\":\"reasoning.encrypted\",\"data\":\"zz\"}]", NULL},
		{"openrouter", "x/y", "[1]],\"model\":\"dear\",\"x\":[[", NULL},
		{"openrouter", "x/y", "{\"model\":\"dear\"}", NULL},
		{"mistral", "x/y", "sig",
		 "\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":"
		 "\"t\"}],\"signature\":\"sig\"},{\"type\":\"text\",\"text\":\"a\"}]"},
	};
	const char *maker =
		str_is(str_from(rows[_i].provider), "groq") ? "openrouter" : rows[_i].provider;
	struct arena *mem = arena_new(ARENA_BYTES);
	struct chat_opaque o = {.value = str_from(rows[_i].value),
				.dialect = STR("openai_chat"),
				.provider = str_from(maker),
				.model = STR("x/y")};
	struct str seal = chat_opaque_wrap(mem, &o), body;
	struct told t;

	body = arena_printf(mem,
			    "{\"model\":\"m\",\"messages\":[" USER ",{\"role\":\"assistant\","
			    "\"content\":\"a\",\"reasoning_details\":[{\"type\":\"reasoning.text\","
			    "\"text\":\"t\",\"signature\":\"%.*s\"}]}," USER "]}",
			    STR_FMT(seal));
	tell(&t, rows[_i].provider, rows[_i].model, body.ptr, d);
	ck_assert_msg(t.rc == RC_OK, "%s", t.err.message);
	if (rows[_i].want)
		ck_assert_msg(str_find_str(buf_str(&t.out), str_from(rows[_i].want)) > 0, "%s",
			      t.out.ptr);
	else
		ck_assert_msg(str_find_str(buf_str(&t.out), STR("details")) < 0, "%s", t.out.ptr);
	ck_assert_int_lt(str_find_str(buf_str(&t.out), STR("dear")), 0);
	ck_assert_int_lt(str_find_str(buf_str(&t.out), STR(CHAT_OPAQUE_MARK)), 0);
	told_clear(&t);
	/* on the way through it is taken out, whoever it is of */
	pass(&t, rows[_i].provider, rows[_i].model, body.ptr);
	ck_assert_int_eq(t.rc, RC_OK);
	ck_assert_int_lt(str_find_str(buf_str(&t.out), STR(CHAT_OPAQUE_MARK)), 0);
	ck_assert_str_eq(t.losses, "messages.reasoning_details");
	told_clear(&t);
	arena_free(mem);
}
END_TEST

/* Told once, read again, told again: the same. What both can say is not lost. */
START_TEST(round_trip)
{
	static const char *const targets[] = {"openai", "openrouter", "mistral",
					      "openai_compatible"};

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct told t, back;

		tell(&t, targets[i], "m", tells[_i].body, d);
		if (t.rc == RC_OK) {
			tell(&back, targets[i], "m", t.out.ptr, d);
			ck_assert_msg(back.rc == RC_OK, "%s: %s", t.out.ptr, back.err.message);
			ck_assert_str_eq(back.out.ptr, t.out.ptr);
			told_clear(&back);
		}
		told_clear(&t);
	}
}
END_TEST

/* ---- what passes ------------------------------------------------------------------------------------------- */

static const struct {
	const char *provider, *model, *body;
	const char *want; /* NULL: as it came, or refused */
	const char *losses;
	const char *field; /* of the refusal; NULL: none */
} passes[] = {
	{"openai", "m", Q(",\"new_field\":{\"a\":1.50}"), NULL, NULL, NULL},
	/* one number under two names */
	{"openai", "o3", Q(",\"max_tokens\":5"),
	 "{\"model\":\"o3\"," M ",\"max_completion_tokens\":5}", NULL, NULL},
	{"mistral", "m", Q(",\"max_completion_tokens\":5"), Q(",\"max_tokens\":5"), NULL, NULL},
	{"mistral", "m", Q(",\"max_tokens\":5,\"max_completion_tokens\":5"), Q(",\"max_tokens\":5"),
	 NULL, NULL},
	{"together", "m", Q(",\"max_completion_tokens\":5"), Q(",\"max_tokens\":5"), NULL, NULL},
	{"vllm", "m", Q(",\"max_completion_tokens\":5"), NULL, NULL, NULL},
	{"openai_compatible", "m", Q(",\"max_completion_tokens\":5,\"seed\":4"), NULL, NULL, NULL},
	/* Mistral's closed schema */
	{"mistral", "m",
	 Q(",\"seed\":5,\"store\":true,\"user\":\"u\",\"safe_prompt\":true,\"x\":null,\"logprobs\":"
	   "false"),
	 Q(",\"safe_prompt\":true,\"random_seed\":5"), "store user", NULL},
	{"mistral", "m", Q(",\"logit_bias\":{\"1\":2}"), NULL, NULL, "logit_bias"},
	{"mistral", "m", Q(",\"logprobs\":true"), NULL, NULL, "logprobs"},
	{"mistral", "m", Q(",\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"x\"}}]"), NULL,
	 NULL, "tools"},
	{"mistral", "m", Q(",\"functions\":[{\"name\":\"x\"}]"), NULL, NULL, "functions"},
	{"mistral", "m",
	 S("{\"role\":\"developer\",\"content\":\"D\",\"name\":\"n\"}," USER
	   ",{\"role\":\"assistant\",\"content\":\"x\",\"refusal\":null,\"annotations\":[],"
	   "\"reasoning_content\":\"r\",\"prefix\":true}"),
	 S("{\"role\":\"system\",\"content\":\"D\"}," USER
	   ",{\"role\":\"assistant\",\"content\":\"x\",\"prefix\":true}"),
	 "messages.name messages.reasoning_content", NULL},
	{"mistral", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\","
	   "\"prompt_cache_breakpoint\":{}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":"
	   "\"B\",\"format\":\"wav\"}},{\"type\":\"file\",\"file\":{\"filename\":\"x\","
	   "\"file_data\":\"data:application/pdf;base64,CC\"}}]}"),
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
	   "\"input_audio\",\"input_audio\":\"B\"},{\"type\":\"document_url\",\"document_url\":"
	   "\"data:application/pdf;base64,CC\",\"document_name\":\"x\"}]}"),
	 "messages.prompt_cache_breakpoint", NULL},
	{"mistral", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"file_id\":\"f\"}}]}"),
	 NULL, NULL, "messages.file"},
	/* reasoning models */
	{"openai", "gpt-5", Q(",\"temperature\":0.2,\"top_p\":1"),
	 "{\"model\":\"gpt-5\"," M ",\"top_p\":1}", "temperature", NULL},
	{"openai", "gpt-5.2", Q(",\"temperature\":0.2,\"reasoning_effort\":\"none\""),
	 "{\"model\":\"gpt-5.2\"," M ",\"temperature\":0.2,\"reasoning_effort\":\"none\"}", NULL,
	 NULL},
	{"openai", "gpt-5.2",
	 "{\"model\":\"gpt-5.2\"," M ",\"logprobs\":true,\"reasoning_effort\":\"none\"}", NULL,
	 NULL, NULL},
	{"openai", "gpt-5.2", Q(",\"logprobs\":true"), NULL, NULL, "logprobs"},
	{"grok", "grok-4", Q(",\"presence_penalty\":1"), "{\"model\":\"grok-4\"," M "}",
	 "presence_penalty", NULL},
	{"grok", "grok-4", Q(",\"stop\":\"x\""), NULL, NULL, "stop"},
	{"grok", "grok-3", Q(",\"stop\":\"x\""), "{\"model\":\"grok-3\"," M ",\"stop\":\"x\"}",
	 NULL, NULL},
	{"kimi", "kimi-k2.5", Q(",\"temperature\":1,\"n\":1"),
	 "{\"model\":\"kimi-k2.5\"," M ",\"n\":1}", "temperature", NULL},
	{"kimi", "kimi-k2.5", Q(",\"n\":2"), NULL, NULL, "n"},
	/* reasoning that must come back */
	{"kimi", "kimi-k2.5",
	 "{\"model\":\"kimi-k2.5\",\"messages\":[" USER "," CALL("c") "," RESULT("c") "]" TOOLS "}",
	 "{\"model\":\"kimi-k2.5\",\"messages\":[" USER
	 "," CALL("c") "," RESULT("c") "]" TOOLS ",\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort", NULL},
	{"kimi", "kimi-k2.5",
	 "{\"model\":\"kimi-k2.5\",\"messages\":[" USER
	 "," CALL("c") "," RESULT("c") "]" TOOLS ",\"thinking\":{\"type\":\"enabled\"}}",
	 NULL, NULL, NULL},
	{"kimi", "kimi-k2-thinking",
	 "{\"model\":\"m\",\"messages\":[" USER "," CALL("c") "," RESULT("c") "]" TOOLS "}", NULL,
	 NULL, "messages.reasoning_content"},
	/* the others */
	{"groq", "m", S("{\"role\":\"user\",\"content\":\"Hi\",\"name\":\"Ann\"}"), Q(""),
	 "messages.name", NULL},
	{"groq", "m", Q(",\"n\":3"), NULL, NULL, "n"},
	{"together", "m", Q(",\"logprobs\":true,\"top_logprobs\":5"), Q(",\"logprobs\":5"), NULL,
	 NULL},
	{"together", "m", Q(",\"logprobs\":false"), Q(""), NULL, NULL},
	{"ollama", "m", Q(TOOLS ",\"tool_choice\":\"required\""), NULL, NULL, "tool_choice"},
	{"deepseek", "m",
	 Q(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\"}}"),
	 NULL, NULL, "response_format"},
	{"openai_compatible", "m",
	 S("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
	   "\"FILE:///etc/passwd\"}}]}"),
	 NULL, NULL, "messages.image_url"},
};

START_TEST(passes_but_for_what_would_be_refused)
{
	struct told t;

	pass(&t, passes[_i].provider, passes[_i].model, passes[_i].body);
	if (passes[_i].field) {
		ck_assert_int_eq(t.rc, RC_UNSUPPORTED);
		ck_assert_str_eq(t.err.field, passes[_i].field);
		ck_assert_uint_eq(t.out.len, 0);
	} else {
		check_told(&t, passes[_i].want ? passes[_i].want : passes[_i].body,
			   passes[_i].losses);
	}
	told_clear(&t);
}
END_TEST

/* As many as a body has room for: what could not be told is not kept, nor looked through for each. */
START_TEST(many_unknown_fields)
{
	AUTO(buf) struct buf body = BUF_INIT(32u << 20);
	struct arena *mem = arena_new(256u << 20);
	struct err err = {0};
	struct ask ask = {0};
	struct call c;

	ck_assert_int_eq(
		buf_printf(&body,
			   "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]"),
		RC_OK);
	for (int i = 0; i < 300000; i++)
		ck_assert_int_eq(buf_printf(&body, ",\"unknown_%06d\":1", i), RC_OK);
	ck_assert_int_eq(buf_append_char(&body, '}'), RC_OK);
	ck_assert_int_eq(d->decode_request(&no_head, buf_str(&body), mem, &c, &err), RC_OK);
	ck_assert_int_eq(d->decode_ask(&c, mem, &ask, &err), RC_OK);
	ck_assert_uint_eq(ask.chat.hints_count, CHAT_LOSSES_MAX);
	arena_free(mem);
}
END_TEST

/* Every row is complete: its own endpoint, and rules for every model. */
START_TEST(every_row_ends)
{
	for (const struct provider *p = providers; p->id; p++) {
		size_t n = 0;

		while (n < PROVIDER_CHAT_MAX && p->chat[n].models)
			n++;
		ck_assert_msg(n < PROVIDER_CHAT_MAX, "%s", p->id);
		if (!str_is(str_from(p->speaks), "openai_chat"))
			continue;
		ck_assert_ptr_eq(p->endpoints[0].dialect, d);
		ck_assert_ptr_nonnull(provider_chat(p, STR("anything")));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_chat_ask");
	TCase *t = tcase_create("ask");

	tcase_add_loop_test(t, told_in_the_providers_way, 0, ARRAY_LEN(tells));
	tcase_add_loop_test(t, refused_by_name, 0, ARRAY_LEN(refusals));
	tcase_add_loop_test(t, losses_are_named_as_the_caller_names_them, 0, 3);
	tcase_add_test(t, ids_are_rewritten_alike);
	tcase_add_loop_test(t, seals_go_home, 0, 6);
	tcase_add_loop_test(t, round_trip, 0, ARRAY_LEN(tells));
	tcase_add_loop_test(t, passes_but_for_what_would_be_refused, 0, ARRAY_LEN(passes));
	tcase_add_test(t, many_unknown_fields);
	tcase_add_test(t, every_row_ends);
	suite_add_tcase(s, t);
	return suite_run(s);
}
