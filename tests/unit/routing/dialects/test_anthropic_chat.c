/* test_anthropic_chat.c - the Messages API across dialects: a caller's question read whole, another dialect's question and
 * answer in its words. */
#include "routing/dialect.h"
#include "routing/dialects/anthropic_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (32u << 20)
#define OUT_BYTES   (4u << 20)

static const struct dialect *const d = &dialect_anthropic_messages;
static const struct call_head no_head;

/* --- questions through what stands between: read whole, and written again ------------------------------ */

struct asked {
	struct arena *mem;
	struct call call;
	struct ask ask;
	struct err err;
	struct dialect_target to;
	struct outgoing out;
	struct buf body;
};

static void asked_init(struct asked *a, const char *model)
{
	*a = (struct asked){.mem = arena_new(ARENA_BYTES), .body = BUF_INIT(OUT_BYTES)};
	a->to = (struct dialect_target){.provider = provider_find(STR("anthropic")),
					.dialect = d,
					.model = str_from(model)};
	a->out.body = &a->body;
}

static void asked_clear(struct asked *a)
{
	buf_clear(&a->body);
	arena_free(a->mem);
}

static enum rc ask_read(struct asked *a, const struct dialect *caller, const char *body)
{
	ck_assert_msg(caller->decode_request(&no_head, str_from(body), a->mem, &a->call, &a->err) ==
			      RC_OK,
		      "%s", a->err.message);
	return caller->decode_ask(&a->call, a->mem, &a->ask, &a->err);
}

static enum rc ask_write(struct asked *a)
{
	return d->encode_ask(&a->call, &a->ask, &a->to, a->mem, &a->out, &a->err);
}

#define HEAD	"{\"model\":\"c\",\"max_tokens\":2000"
#define HI	",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]"
#define TOOL	"{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}"
#define TOOLS	",\"tools\":[" TOOL "]"
#define ASSIST	"{\"role\":\"assistant\",\"content\":["
#define USER	"{\"role\":\"user\",\"content\":["
#define TEXT(t) "{\"type\":\"text\",\"text\":\"" t "\"}"
#define USE(id) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"f\",\"input\":{\"n\":1.50}}"
#define RES(id) "{\"type\":\"tool_result\",\"tool_use_id\":\"" id "\",\"content\":\"r\"}"

/* A question that says the same after it was read whole and written: lossless but for what is named. The target's model, the
 * body, what goes out (NULL: the same), what is named as lost (NULL: nothing). */
static const char *const trips[][4] = {
	{"c", HEAD HI "}"},
	{"c", HEAD ",\"stream\":true" HI "}"},
	{"c", HEAD TOOLS HI "}"},
	{"c", HEAD TOOLS ",\"tool_choice\":{\"type\":\"any\"}" HI "}"},
	{"c", HEAD TOOLS ",\"tool_choice\":{\"type\":\"none\"}" HI "}"},
	{"c", HEAD TOOLS
	 ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\",\"disable_parallel_tool_use\":true}" HI
	 "}"},
	{"c", HEAD TOOLS
	 ",\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}" HI "}"},
	/* a choice without tools would be refused */
	{"c", HEAD ",\"tool_choice\":{\"type\":\"any\"}" HI "}", HEAD HI "}"},
	{"c",
	 HEAD ",\"system\":[" TEXT(
		 "a") ",{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}}]" HI
		      "}"},
	{"c", HEAD ",\"system\":\"a\"" HI "}", HEAD ",\"system\":[" TEXT("a") "]" HI "}"},
	/* results of one turn's calls stand first, in one message, whatever the caller did */
	{"c",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST TEXT("w") "," USE("t1") "," USE(
		 "t2") "]}," USER RES("t1") "]}," USER TEXT("x") "," RES("t2") "]}]}",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST TEXT("w") "," USE("t1") "," USE(
		 "t2") "]}," USER RES("t1") "," RES("t2") "," TEXT("x") "]}]}"},
	/* empty texts are dropped, and a turn that has nothing else with them: its neighbours are one */
	{"c",
	 HEAD ",\"messages\":[" USER TEXT("q") "," TEXT("") "]}," ASSIST TEXT(
		 " \\n") "]}," USER TEXT("r") "]}]}",
	 HEAD ",\"messages\":[" USER TEXT("q") "," TEXT("r") "]}]}"},
	/* said over the head in the midst */
	{"c",
	 HEAD ",\"messages\":[" USER TEXT(
		 "q") "]},{\"role\":\"system\",\"content\":\"be brief\"}," USER TEXT("r") "]}]}",
	 HEAD ",\"messages\":[" USER TEXT("q") "," TEXT("<system>\\nbe brief\\n</system>") "," TEXT(
		 "r") "]}]}"},
	/* ids that do not match the pattern: the same for a call and its result */
	{"c",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST USE("call:1") "]}," USER RES(
		 "call:1") "]}]}",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST
		 USE("toolu_AynNQuLTua32VnQ5RkU5YJam") "]}," USER RES(
			 "toolu_AynNQuLTua32VnQ5RkU5YJam") "]}]}"},
	{"c",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST
		 USE("t") "]}," USER "{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":[" TEXT(
			 "a") ",{\"type\":\"image\",\"source\":"
			      "{\"type\":\"url\",\"url\":\"https://x/y\"}}],\"is_error\":true}]}]}"},
	{"c", HEAD
	 ",\"messages\":[" USER
	 "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/webp\",\"data\":\"AA==\"}},"
	 "{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"AA==\"},\"title\":\"t\"},"
	 "{\"type\":\"document\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"words\"}},"
	 "{\"type\":\"document\",\"source\":{\"type\":\"url\",\"url\":\"https://x/y.pdf\"}}]}]}"},
	{"c",
	 HEAD
	 ",\"messages\":[" USER
	 "{\"type\":\"search_result\",\"source\":\"https://x\",\"title\":\"t\",\"content\":[" TEXT(
		 "a") "," TEXT("b") "]}]}]}",
	 HEAD
	 ",\"messages\":[" USER
	 "{\"type\":\"document\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"a\\n\\nb\"},\"title\":\"t\"}]}]}",
	 "messages[0].content.source"},
	/* marks: four at most, the last ones; no longer one behind a shorter */
	{"c",
	 HEAD
	 ",\"system\":[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{\"type\":\"ephemeral\"}},"
	 "{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{\"type\":\"ephemeral\"}},"
	 "{\"type\":\"text\",\"text\":\"c\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}},"
	 "{\"type\":\"text\",\"text\":\"d\",\"cache_control\":{\"type\":\"ephemeral\"}},"
	 "{\"type\":\"text\",\"text\":\"e\",\"cache_control\":{\"type\":\"ephemeral\"}}]" HI "}",
	 HEAD ",\"system\":[" TEXT(
		 "a") ","
		      "{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{\"type\":\"ephemeral\"}},"
		      "{\"type\":\"text\",\"text\":\"c\",\"cache_control\":{\"type\":\"ephemeral\"}},"
		      "{\"type\":\"text\",\"text\":\"d\",\"cache_control\":{\"type\":\"ephemeral\"}},"
		      "{\"type\":\"text\",\"text\":\"e\",\"cache_control\":{\"type\":\"ephemeral\"}}]" HI
		      "}",
	 "prompt_cache_breakpoint"},
	/* sampling: literals stay, what the model refuses is named */
	{"claude-3-haiku-20240307", HEAD HI ",\"temperature\":0.70,\"top_p\":0.9,\"top_k\":5}",
	 "{\"model\":\"claude-3-haiku-20240307\",\"max_tokens\":2000" HI
	 ",\"temperature\":0.70,\"top_p\":0.9,\"top_k\":5}"},
	{"claude-3-haiku-20240307", HEAD HI ",\"temperature\":1.7}",
	 "{\"model\":\"claude-3-haiku-20240307\",\"max_tokens\":2000" HI ",\"temperature\":1}"},
	{"claude-3-haiku-20240307", HEAD HI ",\"temperature\":-1e-3}",
	 "{\"model\":\"claude-3-haiku-20240307\",\"max_tokens\":2000" HI ",\"temperature\":0}"},
	{"claude-sonnet-4-5", HEAD HI ",\"temperature\":0.7,\"top_p\":0.9}",
	 "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":2000" HI ",\"temperature\":0.7}",
	 "top_p"},
	{"claude-opus-5", HEAD HI ",\"temperature\":0.7,\"top_p\":1.0,\"top_k\":5}",
	 "{\"model\":\"claude-opus-5\",\"max_tokens\":2000" HI "}", "temperature top_k"},
	{"claude-opus-5", HEAD HI ",\"temperature\":1.0}",
	 "{\"model\":\"claude-opus-5\",\"max_tokens\":2000" HI "}"},
	/* thought, by generation */
	{"claude-sonnet-5", HEAD HI ",\"output_config\":{\"effort\":\"xhigh\"}}",
	 "{\"model\":\"claude-sonnet-5\",\"max_tokens\":2000" HI
	 ",\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"xhigh\"}}"},
	{"claude-sonnet-5",
	 HEAD HI
	 ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":5000,\"display\":\"omitted\"}}",
	 "{\"model\":\"claude-sonnet-5\",\"max_tokens\":2000" HI
	 ",\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"},\"output_config\":{\"effort\":\"medium\"}}"},
	{"claude-haiku-4-5", HEAD HI ",\"output_config\":{\"effort\":\"high\"}}",
	 "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":2000" HI
	 ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1500}}"},
	{"claude-haiku-4-5",
	 HEAD HI ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},\"temperature\":0.5}",
	 "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":2000" HI
	 ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
	 "temperature"},
	{"claude-haiku-4-5", HEAD HI ",\"thinking\":{\"type\":\"disabled\"}}",
	 "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":2000" HI
	 ",\"thinking\":{\"type\":\"disabled\"}}"},
	{"claude-3-haiku-20240307", HEAD HI ",\"output_config\":{\"effort\":\"high\"}}",
	 "{\"model\":\"claude-3-haiku-20240307\",\"max_tokens\":2000" HI "}", "reasoning_effort"},
	/* too small an answer to think in; forced tools; a turn of calls whose thought is not here */
	{"claude-haiku-4-5",
	 "{\"model\":\"c\",\"max_tokens\":1300" HI ",\"output_config\":{\"effort\":\"high\"}}",
	 "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":1300" HI
	 ",\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort"},
	{"claude-opus-5",
	 HEAD TOOLS ",\"tool_choice\":{\"type\":\"any\"}" HI
		    ",\"output_config\":{\"effort\":\"low\"}}",
	 "{\"model\":\"claude-opus-5\",\"max_tokens\":2000" TOOLS
	 ",\"tool_choice\":{\"type\":\"any\"}" HI ",\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort"},
	{"claude-haiku-4-5",
	 HEAD ",\"messages\":[" USER TEXT(
		 "q") "]}," ASSIST
		      "{\"type\":\"thinking\",\"thinking\":\"h\",\"signature\":\"AA\"}," USE(
			      "t") "]}," USER
			      RES("t") "]}]"
				       ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
	 "{\"model\":\"claude-haiku-4-5\",\"max_tokens\":2000,\"messages\":[" USER
		 TEXT("q") "]}," ASSIST USE("t") "]}," USER RES(
			 "t") "]}]"
			      ",\"thinking\":{\"type\":\"disabled\"}}",
	 "reasoning_effort messages.reasoning_content"},
	{"claude-opus-5",
	 HEAD ",\"messages\":[" USER TEXT("q") "]}," ASSIST USE("t") "]}," USER RES(
		 "t") "]}],\"output_config\":{\"effort\":\"low\"}}",
	 "{\"model\":\"claude-opus-5\",\"max_tokens\":2000,\"messages\":[" USER TEXT(
		 "q") "]}," ASSIST USE("t") "]}," USER
		 RES("t") "]}]"
			  ",\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"low\"}}"},
	/* structured: objects are closed, names among properties are no keywords, literals stay */
	{"claude-opus-5",
	 HEAD HI
	 ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\",\"properties\":{\"type\":"
	 "{\"type\":\"number\",\"maximum\":1.50},\"properties\":{\"type\":\"object\",\"additionalProperties\":true},"
	 "\"o\":{\"anyOf\":[{\"type\":[\"object\",\"null\"]},{\"enum\":[{\"type\":\"object\"}]}]}},\"$defs\":{\"a\":{\"items\":{\"properties\":{}}}}}}}}",
	 "{\"model\":\"claude-opus-5\",\"max_tokens\":2000" HI
	 ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\",\"properties\":{\"type\":"
	 "{\"type\":\"number\",\"maximum\":1.50},\"properties\":{\"type\":\"object\",\"additionalProperties\":true},"
	 "\"o\":{\"anyOf\":[{\"type\":[\"object\",\"null\"],\"additionalProperties\":false},{\"enum\":[{\"type\":\"object\"}]}]}},"
	 "\"$defs\":{\"a\":{\"items\":{\"properties\":{},\"additionalProperties\":false}}},\"additionalProperties\":false}}}}"},
	/* older models: the answer is the input of the one tool */
	{"claude-3-7-sonnet-20250219",
	 HEAD HI ",\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}",
	 "{\"model\":\"claude-3-7-sonnet-20250219\",\"max_tokens\":2000,\"tools\":[{\"name\":\"tollgate_json_answer\",\"description\":"
	 "\"Give the whole answer as the input of this tool.\",\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"tool\","
	 "\"name\":\"tollgate_json_answer\",\"disable_parallel_tool_use\":true}" HI "}"},
	{"c", HEAD HI ",\"stop_sequences\":[\"##\",\"END\"]}"},
	{"c", HEAD HI ",\"metadata\":{\"user_id\":\"u\"},\"service_tier\":\"standard_only\"}",
	 HEAD HI
	 ",\"metadata\":{\"user_id\":\"0bfe935e70c321c7ca3afc75ce0d0ca2f98b5422e008bb31c00c6d7f1f1c0ad6\"},\"service_tier\":\"standard_only\"}"},
	/* what no other dialect has is named */
	{"c",
	 HEAD HI
	 ",\"context_management\":{},\"brand_new\":1,\"thinking\":{\"type\":\"adaptive\"},\"speed\":null}",
	 HEAD HI "}", "context_management brand_new"},
	/* a name that Anthropic does not take */
	{"c", HEAD ",\"tools\":[{\"name\":\"a.b-c\",\"input_schema\":{}}]" HI "}",
	 HEAD ",\"tools\":[{\"name\":\"tgx-a-2Eb-2Dc\",\"input_schema\":{\"type\":\"object\"}}]" HI
	      "}"},
};

START_TEST(a_question_goes_through)
{
	const char *lost = trips[_i][3] ? trips[_i][3] : "";
	struct asked a;
	char names[256] = "";

	asked_init(&a, trips[_i][0]);
	ck_assert_msg(ask_read(&a, d, trips[_i][1]) == RC_OK, "%s", a.err.message);
	ck_assert_msg(ask_write(&a) == RC_OK, "%s", a.err.message);
	ck_assert_str_eq(a.body.ptr, trips[_i][2] ? trips[_i][2] : trips[_i][1]);
	for (size_t i = 0; i < a.out.losses.count; i++) {
		const size_t at = strlen(names);

		snprintf(names + at, sizeof names - at, "%s%.*s", i ? " " : "",
			 STR_FMT(a.out.losses.name[i]));
	}
	ck_assert_str_eq(names, lost);
	asked_clear(&a);
}
END_TEST

/* Refused before anything is asked of anybody, by name. */
static const struct {
	const char *model;
	const char *body;
	enum rc want;
	const char *field;
} refusals[] = {
	{"c", HEAD ",\"container\":\"c1\"" HI "}", RC_UNSUPPORTED, "container"},
	{"c", HEAD ",\"inference_geo\":\"us\"" HI "}", RC_UNSUPPORTED, "inference_geo"},
	{"c", HEAD ",\"mcp_servers\":[{\"url\":\"https://x\"}]" HI "}", RC_UNSUPPORTED,
	 "mcp_servers"},
	{"c", "{\"model\":\"c\",\"max_tokens\":0" HI "}", RC_UNSUPPORTED, "max_tokens"},
	{"c", HEAD ",\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]" HI "}",
	 RC_UNSUPPORTED, "tools"},
	{"c",
	 HEAD ",\"messages\":[" USER
	      "{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"f\"}}]}]}",
	 RC_UNSUPPORTED, "messages[0].content.source.file_id"},
	{"c",
	 HEAD
	 ",\"messages\":[" USER
	 "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/tiff\",\"data\":\"AA\"}}]}]}",
	 RC_UNSUPPORTED, "messages"},
	{"c",
	 HEAD ",\"messages\":[" USER
	      "{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"gs://x\"}}]}]}",
	 RC_UNSUPPORTED, "messages"},
	{"c", HEAD ",\"messages\":[" USER "{\"type\":\"brand_new\"}]}]}", RC_UNSUPPORTED,
	 "messages[0].content.brand_new"},
	{"c", HEAD ",\"messages\":[" ASSIST TEXT("a") "]}," USER TEXT("b") "]}]}", RC_UNSUPPORTED,
	 "messages"},
	{"c", HEAD ",\"messages\":[" USER TEXT(" ") "]}]}", RC_UNSUPPORTED, "messages"},
	/* the last turn is the assistant's: older models go on with it, but not behind white space */
	{"claude-opus-4-6", HEAD ",\"messages\":[" USER TEXT("a") "]}," ASSIST TEXT("b") "]}]}",
	 RC_UNSUPPORTED, "messages"},
	{"claude-haiku-4-5", HEAD ",\"messages\":[" USER TEXT("a") "]}," ASSIST TEXT("b ") "]}]}",
	 RC_UNSUPPORTED, "messages"},
	{"c", HEAD ",\"messages\":[" USER TEXT("a") "]}," ASSIST USE("t") "]}]}", RC_INVALID,
	 "messages"},
	{"c", HEAD HI ",\"stop_sequences\":[\" \\n\"]}", RC_UNSUPPORTED, "stop"},
	/* the forced tool has no place beside others, nor beside thought, and has to be an object */
	{"claude-opus-4-1",
	 HEAD TOOLS HI
	 ",\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}",
	 RC_UNSUPPORTED, "response_format"},
	{"claude-opus-4-1",
	 HEAD HI
	 ",\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}}",
	 RC_UNSUPPORTED, "response_format"},
	{"claude-opus-4-1",
	 HEAD HI ",\"output_format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"array\"}}}",
	 RC_UNSUPPORTED, "response_format"},
	{"c", HEAD ",\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"array\"}}]" HI "}",
	 RC_UNSUPPORTED, "tools"},
	/* no sense anywhere */
	{"c", HEAD ",\"messages\":[" USER RES("t") "]}]}", RC_INVALID, "messages"},
	{"c", HEAD ",\"messages\":[" USER USE("t") "]}]}", RC_INVALID, "messages"},
	{"c",
	 HEAD ",\"messages\":[" USER
	      "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":[]}]}]}",
	 RC_INVALID, "messages"},
	{"c", HEAD ",\"messages\":[{\"role\":\"boss\",\"content\":\"x\"}]}", RC_INVALID,
	 "messages"},
	{"c", HEAD HI ",\"temperature\":\"hot\"}", RC_INVALID, "temperature"},
	{"c", HEAD HI ",\"stop_sequences\":[1]}", RC_INVALID, "stop_sequences"},
	{"c", HEAD HI ",\"tool_choice\":{\"type\":\"most\"}}", RC_INVALID, "tool_choice"},
	{"c", HEAD HI ",\"thinking\":{\"type\":\"enabled\"}}", RC_INVALID,
	 "thinking.budget_tokens"},
	{"c", HEAD HI ",\"thinking\":{}}", RC_INVALID, "thinking"},
	{"c", HEAD HI ",\"output_config\":{\"format\":{\"type\":\"xml\"}}}", RC_INVALID,
	 "output_config.format"},
	{"c", HEAD HI ",\"tools\":[{\"input_schema\":{}}]}", RC_INVALID, "tools"},
};

START_TEST(a_question_is_refused_by_name)
{
	struct asked a;
	enum rc rc;

	asked_init(&a, refusals[_i].model);
	rc = ask_read(&a, d, refusals[_i].body);
	if (rc == RC_OK)
		rc = ask_write(&a);
	ck_assert_int_eq(rc, refusals[_i].want);
	ck_assert_str_eq(a.err.field, refusals[_i].field);
	ck_assert_ptr_nonnull(a.err.code);
	asked_clear(&a);
}
END_TEST

START_TEST(a_continued_answer_goes_to_older_models)
{
	struct asked a;

	asked_init(&a, "claude-haiku-4-5");
	ck_assert_int_eq(ask_read(&a, d,
				  HEAD
				  ",\"messages\":[" USER TEXT("a") "]}," ASSIST TEXT("b") "]}]}"),
			 RC_OK);
	ck_assert_int_eq(ask_write(&a), RC_OK);
	ck_assert_str_eq(
		a.body.ptr,
		"{\"model\":\"claude-haiku-4-5\",\"max_tokens\":2000,\"messages\":[" USER TEXT(
			"a") "]}," ASSIST TEXT("b") "]}]}");
	asked_clear(&a);
}
END_TEST

/* What only other dialects say, on the question `hi`. */
static void ask_hi(struct asked *a, const char *model)
{
	asked_init(a, model);
	ck_assert_int_eq(ask_read(a, d, HEAD HI "}"), RC_OK);
	a->call.dialect = &dialect_openai_chat;
}

START_TEST(the_maximum_is_always_named)
{
	static const struct {
		int64_t said, cap, known;
		const char *want;
	} cases[] = {{500, 70, 90, "\"max_tokens\":90,"}, {50, 70, 90, "\"max_tokens\":50,"},
		     {0, 70, 90, "\"max_tokens\":70,"},	  {0, 0, 64000, "\"max_tokens\":64000,"},
		     {0, 0, 0, "\"max_tokens\":4096,"},	  {0, 99, 90, "\"max_tokens\":90,"},
		     {500, 0, 0, "\"max_tokens\":500,"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct asked a;

		ask_hi(&a, "c");
		a.call.max_output = cases[i].said;
		a.to.max_output_cap = cases[i].cap;
		a.to.max_output_known = cases[i].known;
		ck_assert_int_eq(ask_write(&a), RC_OK);
		ck_assert_msg(strstr(a.body.ptr, cases[i].want) != NULL, "%s", a.body.ptr);
		asked_clear(&a);
	}
}
END_TEST

START_TEST(what_anthropic_cannot_is_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *yes, *bias;

	ck_assert_int_eq(json_parse(STR("true"), 0, mem, &yes, NULL), RC_OK);
	ck_assert_int_eq(json_parse(STR("{\"1\":2}"), 0, mem, &bias, NULL), RC_OK);
	for (int i = 0; i < 6; i++) {
		static const char *const fields[] = {"n",     "logprobs", "logit_bias",
						     "tools", "messages", "response_format"};
		struct chat_part sound = {.type = CHAT_AUDIO, .media.data = STR("AA")};
		struct chat_tool grammar = {.kind = CHAT_TOOL_CUSTOM, .name = STR("g")};
		struct asked a;

		ask_hi(&a, "c");
		if (i == 0) {
			a.call.choices = 2;
		} else if (i == 1) {
			a.ask.chat.logprobs = yes;
		} else if (i == 2) {
			a.ask.chat.logit_bias = bias;
		} else if (i == 3) {
			a.ask.chat.tools = &grammar;
			a.ask.chat.tools_count = 1;
		} else if (i == 4) {
			a.ask.chat.turns[0].parts = &sound;
		} else {
			a.ask.chat.format = CHAT_FORMAT_JSON;
			a.ask.chat.effort = CHAT_EFFORT_low;
		}
		ck_assert_int_eq(ask_write(&a), RC_UNSUPPORTED);
		ck_assert_str_eq(a.err.field, fields[i]);
		asked_clear(&a);
	}
	arena_free(mem);
}
END_TEST

START_TEST(losses_have_the_callers_names)
{
	static const char *const names[] = {"seed",	   "presence_penalty", "frequency_penalty",
					    "verbosity",   "prompt_cache_key", "metadata",
					    "service_tier"};
	struct json *n, *map;
	struct asked a;

	ask_hi(&a, "c");
	ck_assert_int_eq(json_parse(STR("1"), 0, a.mem, &n, NULL), RC_OK);
	ck_assert_int_eq(json_parse(STR("{\"k\":\"v\"}"), 0, a.mem, &map, NULL), RC_OK);
	a.ask.chat.seed = a.ask.chat.presence_penalty = a.ask.chat.frequency_penalty = n;
	a.ask.chat.verbosity = STR("low");
	a.ask.chat.cache_key = STR("k");
	a.ask.chat.metadata = map;
	a.ask.chat.service_tier = STR("flex");
	ck_assert_int_eq(ask_write(&a), RC_OK);
	ck_assert_str_eq(a.body.ptr, HEAD "" HI "}");
	ck_assert_uint_eq(a.out.losses.count, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert(str_is(a.out.losses.name[i], names[i]));
	asked_clear(&a);
}
END_TEST

START_TEST(plain_json_mode_is_the_forced_tool)
{
	struct asked a;

	ask_hi(&a, "claude-opus-5");
	a.ask.chat.format = CHAT_FORMAT_JSON;
	ck_assert_int_eq(ask_write(&a), RC_OK);
	ck_assert_ptr_nonnull(strstr(
		a.body.ptr,
		"\"input_schema\":{\"type\":\"object\"}}],\"tool_choice\":{\"type\":\"tool\","
		"\"name\":\"tollgate_json_answer\","));
	asked_clear(&a);
}
END_TEST

START_TEST(only_the_allowed_tools_go)
{
	struct chat_tool tools[] = {{.name = STR("a"), .strict = -1},
				    {.name = STR("b"), .strict = 1}};
	struct str allowed[] = {STR("b")};
	struct asked a;

	ask_hi(&a, "c");
	a.ask.chat.tools = tools;
	a.ask.chat.tools_count = 2;
	a.ask.chat.choice = CHAT_CHOICE_ALLOWED_REQUIRED;
	a.ask.chat.choice_names = allowed;
	a.ask.chat.choice_names_count = 1;
	ck_assert_int_eq(ask_write(&a), RC_OK);
	ck_assert_str_eq(
		a.body.ptr, HEAD
		",\"tools\":[{\"name\":\"b\",\"input_schema\":{\"type\":\"object\"},\"strict\":true}],"
		"\"tool_choice\":{\"type\":\"any\"}" HI "}");
	asked_clear(&a);
}
END_TEST

START_TEST(images_of_others)
{
	static const struct {
		struct chat_media m;
		const char *want; /* of the source; NULL: refused */
	} cases[] = {
		{{.url = {"data:image/jpg;base64,AAAA", 26}},
		 "{\"type\":\"base64\",\"media_type\":\"image/jpeg\",\"data\":\"AAAA\"}"},
		{{.data = {"iVBORw0KGgoAAA", 14}},
		 "{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"iVBORw0KGgoAAA\"}"},
		{{.mime = {"image/GIF", 9}, .data = {"AA", 2}},
		 "{\"type\":\"base64\",\"media_type\":\"image/gif\",\"data\":\"AA\"}"},
		{{.url = {"https://x/y", 11}, .detail = {"low", 3}},
		 "{\"type\":\"url\",\"url\":\"https://x/y\"}"},
		{{.data = {"AAAA", 4}}, NULL},
		{{.mime = {"image/svg+xml", 13}, .data = {"AA", 2}}, NULL},
		{{.file_id = {"f", 1}}, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct chat_part image = {.type = CHAT_IMAGE, .media = cases[i].m};
		char want[512];
		struct asked a;

		ask_hi(&a, "c");
		a.ask.chat.turns[0].parts = &image;
		ck_assert_int_eq(ask_write(&a), cases[i].want ? RC_OK : RC_UNSUPPORTED);
		if (cases[i].want) {
			snprintf(want, sizeof want,
				 HEAD ",\"messages\":[" USER
				      "{\"type\":\"image\",\"source\":%s}]}]}",
				 cases[i].want);
			ck_assert_str_eq(a.body.ptr, want);
			ck_assert_uint_eq(a.out.losses.count, cases[i].m.detail.len ? 1 : 0);
		}
		asked_clear(&a);
	}
}
END_TEST

/* What this very model thought goes back to it as it was; anybody else's does not. */
START_TEST(thought_goes_back_to_its_maker_alone)
{
	struct chat_part said[] = {
		{.type = CHAT_REASONING,
		 .text = STR("t"),
		 .opaque = {STR("c2ln"), STR("anthropic_messages"), STR("anthropic"), STR("c")}},
		{.type = CHAT_REASONING,
		 .text = STR(""),
		 .opaque = {STR("redacted:ZA=="), STR("anthropic_messages"), STR("anthropic"),
			    STR("c")}},
		{.type = CHAT_REASONING,
		 .text = STR("x"),
		 .opaque = {STR("sig"), STR("gemini"), STR("gemini"), STR("c")}},
		{.type = CHAT_TEXT, .text = STR("a")}};
	struct chat_part q = {.type = CHAT_TEXT, .text = STR("q")},
			 r = {.type = CHAT_TEXT, .text = STR("r")};
	struct chat_turn turns[] = {
		{CHAT_USER, &q, 1}, {CHAT_ASSISTANT, said, 4}, {CHAT_USER, &r, 1}};
	struct asked a;

	ask_hi(&a, "c");
	a.ask.chat.turns = turns;
	a.ask.chat.turns_count = 3;
	ck_assert_int_eq(ask_write(&a), RC_OK);
	ck_assert_str_eq(
		a.body.ptr,
		HEAD ",\"messages\":[" USER TEXT(
			"q") "]}," ASSIST
			     "{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"c2ln\"},{\"type\":\"redacted_thinking\",\"data\":\"ZA==\"}," TEXT(
				     "a") "]}," USER TEXT("r") "]}]}");
	ck_assert_uint_eq(a.out.losses.count, 1);
	ck_assert(str_is(a.out.losses.name[0], "messages.reasoning_content"));
	asked_clear(&a);
}
END_TEST

START_TEST(counting_asks_for_the_same)
{
	struct asked a;

	asked_init(&a, "claude-haiku-4-5");
	ck_assert_int_eq(
		ask_read(
			&a, &dialect_anthropic_count_tokens,
			"{\"model\":\"c\"" TOOLS HI
			",\"temperature\":0.5,\"stop_sequences\":[\"x\"],"
			"\"metadata\":{\"user_id\":\"u\"},\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}"),
		RC_OK);
	a.to.dialect = &dialect_anthropic_count_tokens;
	ck_assert_int_eq(dialect_anthropic_count_tokens.encode_ask(&a.call, &a.ask, &a.to, a.mem,
								   &a.out, &a.err),
			 RC_OK);
	ck_assert_str_eq(a.body.ptr,
			 "{\"model\":\"claude-haiku-4-5\"" TOOLS HI
			 ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}");
	asked_clear(&a);
}
END_TEST

static const struct {
	const char *id;
	bool thinks, adaptive, sampling, structured, prefill;
} models[] = {
	{"claude-3-haiku-20240307", false, false, true, false, true},
	{"claude-3-5-sonnet-20241022", false, false, true, false, true},
	{"claude-3-7-sonnet-20250219", true, false, true, false, true},
	{"claude-opus-4-20250514", true, false, true, false, true},
	{"claude-opus-4-1", true, false, true, false, true},
	{"claude-sonnet-4-5-20250929", true, false, true, true, true},
	{"anthropic/claude-haiku-4.5", true, false, true, true, true},
	{"claude-opus-4-6", true, true, true, true, false},
	{"claude-opus-4-7", true, true, false, true, false},
	{"claude-sonnet-5", true, true, false, true, false},
	{"claude-mythos-preview", true, true, false, true, false},
	{"our-own-name", true, true, false, true, false},
};

START_TEST(generations)
{
	const struct anthropic_model m = anthropic_model_of(str_from(models[_i].id));

	ck_assert_msg(m.thinks == models[_i].thinks && m.adaptive == models[_i].adaptive &&
			      m.sampling == models[_i].sampling &&
			      m.structured == models[_i].structured &&
			      m.prefill == models[_i].prefill,
		      "%s", models[_i].id);
}
END_TEST

START_TEST(names_come_back)
{
	static const char *const names[] = {
		"f", "get-it_2", "a.b", "tgx-x", "tollgate_json_answer", "a:b/c d", "h\xc3\xa9"};
	struct arena *mem = arena_new(ARENA_BYTES);
	char longest[130];
	struct str out;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		ck_assert(anthropic_name_out(mem, str_from(names[i]), &out));
		ck_assert_uint_le(out.len, 128);
		for (size_t k = 0; k < out.len; k++)
			ck_assert(
				strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-",
				       out.ptr[k]) != NULL);
		ck_assert(!str_is(out, ANTHROPIC_JSON_TOOL));
		ck_assert(str_is(anthropic_name_in(mem, out), names[i]));
	}
	memset(longest, 'a', sizeof longest);
	ck_assert(anthropic_name_out(mem, str_of(longest, 128), &out) && out.len == 128);
	ck_assert(!anthropic_name_out(mem, str_of(longest, 129), &out));
	longest[5] = '.';
	ck_assert(!anthropic_name_out(mem, str_of(longest, 128), &out));
	ck_assert(!anthropic_name_out(mem, STR(""), &out));
	ck_assert(str_is(anthropic_name_in(mem, STR("tgx-a-2")), "tgx-a-2"));
	ck_assert(str_is(anthropic_name_in(mem, STR("tgx--FF")), "tgx--FF")); /* no UTF-8 */
	arena_free(mem);
}
END_TEST

/* --- answers in this dialect's words -------------------------------------------------------------------- */

struct told { /* an answer of another dialect on its way to a caller of this one */
	struct arena *mem;
	struct dialect_target from;
	struct dialect_ctx ctx;
	struct facts f;
	struct buf out;
};

static void told_init(struct told *t)
{
	*t = (struct told){.mem = arena_new(ARENA_BYTES),
			   .out = BUF_INIT(OUT_BYTES),
			   .f = {.usage = USAGE_NONE}};
	t->from = (struct dialect_target){.provider = provider_find(STR("openai")),
					  .dialect = &dialect_openai_chat,
					  .model = STR("gpt-x")};
	t->ctx = (struct dialect_ctx){.mem = t->mem,
				      .keep = t->mem,
				      .target = &t->from,
				      .id = STR("0198-a"),
				      .translate = true};
	ck_assert_int_eq(buf_append(&t->out, STR("")), RC_OK);
}

static void told_clear(struct told *t)
{
	buf_clear(&t->out);
	arena_free(t->mem);
}

static struct chat_delta *tell(struct told *t, enum chat_delta_type type, const char *text)
{
	struct chat_delta *x = chat_delta_add(t->mem, &t->f, type);

	x->text = str_from(text);
	return x;
}

static void call(struct told *t, int64_t index, const char *id, const char *name)
{
	struct chat_delta *x = tell(t, CHAT_DELTA_TOOL_CALL, "");

	x->index = index;
	x->id = str_from(id);
	x->name = str_from(name);
}

static void arguments(struct told *t, int64_t index, const char *text)
{
	tell(t, CHAT_DELTA_TOOL_ARGUMENTS, text)->index = index;
}

static void finish(struct told *t, enum finish finish, const char *stop)
{
	tell(t, CHAT_DELTA_FINISH, stop)->finish = finish;
}

/* Each delta as an event of its own, or all at once, and the end. The data lines alone are compared. */
static void say_all(struct told *t, bool singly, const struct usage *usage)
{
	struct facts all = t->f, one = {.usage = USAGE_NONE};

	for (size_t i = 0; singly && i < all.deltas_count; i++) {
		one.deltas = &all.deltas[i];
		one.deltas_count = 1;
		ck_assert_int_eq(d->encode_deltas(&t->ctx, &one, &t->out), RC_OK);
	}
	if (!singly)
		ck_assert_int_eq(d->encode_deltas(&t->ctx, &all, &t->out), RC_OK);
	ck_assert_int_eq(d->encode_end(&t->ctx, usage, &t->out), RC_OK);
}

/* Every event has its name in both places and blocks never overlap; returns what it says in short. */
static char *digest(struct told *t)
{
	struct str rest = buf_str(&t->out);
	struct buf out = BUF_INIT(OUT_BYTES);
	int64_t open = -1, next = 0, index;
	struct json *v;
	struct str type, s;

	while (rest.len > 0) {
		const struct str name = str_cut(&rest, '\n'), data = str_cut(&rest, '\n'),
				 blank = str_cut(&rest, '\n');

		ck_assert(str_starts(name, STR("event: ")) && str_starts(data, STR("data: ")) &&
			  blank.len == 0);
		ck_assert_int_eq(json_parse(str_slice(data, 6, data.len), JSON_NO_DUPLICATES,
					    t->mem, &v, NULL),
				 RC_OK);
		ck_assert(json_string(json_get(v, "type"), &type) &&
			  str_eq(type, str_slice(name, 7, name.len)));
		if (str_is(type, "content_block_start")) {
			ck_assert(open == -1 && json_int(json_get(v, "index"), &open) &&
				  open == next++);
			ck_assert_int_eq(buf_append(&out, STR("<")), RC_OK);
			ck_assert_int_eq(json_write(json_get(v, "content_block"), &out), RC_OK);
		} else if (str_is(type, "content_block_delta")) {
			static const char *const keys[] = {"text", "thinking", "partial_json",
							   "signature"};

			ck_assert(json_int(json_get(v, "index"), &index) && index == open);
			for (size_t i = 0; i < ARRAY_LEN(keys); i++)
				if (json_string(json_get(json_get(v, "delta"), keys[i]), &s))
					ck_assert_int_eq(
						buf_printf(&out, "|%s",
							   str_starts(s, STR(CHAT_OPAQUE_MARK))
								   ? "SEAL"
								   : arena_strdup(t->mem, s)),
						RC_OK);
			if (json_get(json_get(v, "delta"), "citation"))
				ck_assert_int_eq(buf_append(&out, STR("|CITE")), RC_OK);
		} else if (str_is(type, "content_block_stop")) {
			ck_assert(json_int(json_get(v, "index"), &index) && index == open);
			open = -1;
			ck_assert_int_eq(buf_append(&out, STR(">")), RC_OK);
		} else if (str_is(type, "message_delta")) {
			ck_assert_int_eq(json_write(json_get(v, "delta"), &out), RC_OK);
		} else {
			ck_assert_int_eq(buf_printf(&out, "%.*s ", STR_FMT(type)), RC_OK);
		}
	}
	ck_assert_int_eq(open, -1);
	rest = arena_str(t->mem, buf_str(&out));
	buf_clear(&out);
	return (char *)(uintptr_t)rest.ptr;
}

#define TEXT_BLOCK  "<{\"type\":\"text\",\"text\":\"\"}"
#define THINK_BLOCK "<{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"
#define CALL_BLOCK(id, name)                                                                       \
	"<{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name "\",\"input\":{}}"
#define END(reason) "{\"stop_reason\":\"" reason "\",\"stop_sequence\":null}message_stop "

START_TEST(a_text_is_told)
{
	struct usage u = USAGE_NONE;
	struct told t;

	told_init(&t);
	t.f.model = STR("gpt-x-2026");
	tell(&t, CHAT_DELTA_TEXT, "He");
	ck_assert_int_eq(d->encode_deltas(&t.ctx, &t.f, &t.out), RC_OK);
	t.f.deltas_count = 0;
	tell(&t, CHAT_DELTA_TEXT, "y \"you\"");
	finish(&t, FINISH_STOP, "");
	ck_assert_int_eq(d->encode_deltas(&t.ctx, &t.f, &t.out), RC_OK);
	u.present = true;
	u.n[USAGE_in_text] = 5;
	u.n[USAGE_in_audio] = 2;
	u.n[USAGE_in_cached_read] = 7;
	u.n[USAGE_in_cache_write_1h] = 3;
	u.n[USAGE_out_text] = 4;
	u.n[USAGE_out_reasoning] = 6;
	ck_assert_int_eq(d->encode_end(&t.ctx, &u, &t.out), RC_OK);
	ck_assert_str_eq(
		t.out.ptr,
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_0198-a\",\"type\":\"message\","
		"\"role\":\"assistant\",\"model\":\"gpt-x-2026\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{"
		"\"input_tokens\":0,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"cache_creation\":{"
		"\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":0,\"output_tokens_details\":{"
		"\"thinking_tokens\":0}}}}\n\n"
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"He\"}}\n\n"
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"y \\\"you\\\"\"}}\n\n"
		"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{"
		"\"input_tokens\":7,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":7,\"cache_creation\":{"
		"\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":3},\"output_tokens\":10,\"output_tokens_details\":{"
		"\"thinking_tokens\":6}}}\n\n"
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
	told_clear(&t);
}
END_TEST

START_TEST(blocks_never_overlap)
{
	const struct usage none = USAGE_NONE;

	for (int singly = 0; singly < 2; singly++) {
		struct told t;

		told_init(&t);
		tell(&t, CHAT_DELTA_REASONING, "hm");
		tell(&t, CHAT_DELTA_TEXT, "a");
		call(&t, 0, "call_0", "f");
		call(&t, 1, "call_1", "g");
		arguments(&t, 0, "{\"x\":\"}");
		arguments(&t, 1, "{\"y\":");
		tell(&t, CHAT_DELTA_TEXT, "b");
		arguments(&t, 1, "2}");
		arguments(&t, 0, "\"}");
		tell(&t, CHAT_DELTA_TEXT, "c");
		finish(&t, FINISH_TOOL_CALLS, "");
		say_all(&t, singly, &none);
		ck_assert_str_eq(digest(&t),
				 "message_start " THINK_BLOCK "|hm|SEAL>" TEXT_BLOCK
				 "|a>" CALL_BLOCK("call_0", "f") "|{\"x\":\"}|\"}>" CALL_BLOCK(
					 "call_1", "g") "|{\"y\":2}>" TEXT_BLOCK
							"|b|c>" END("tool_use"));
		told_clear(&t);
	}
}
END_TEST

START_TEST(calls_that_never_end_are_told_at_the_end)
{
	const struct usage none = USAGE_NONE;
	struct told t;

	told_init(&t);
	call(&t, 0, "call_0", "f");
	call(&t, 1, "call_1", "g");
	arguments(&t, 1, "{\"cut\":\"o");
	finish(&t, FINISH_LENGTH, "");
	say_all(&t, true, &none);
	ck_assert_str_eq(digest(&t), "message_start " CALL_BLOCK("call_0", "f") ">" CALL_BLOCK(
					     "call_1", "g") "|{\"cut\":\"o>" END("max_tokens"));
	told_clear(&t);
}
END_TEST

START_TEST(seals_are_wrapped)
{
	const struct usage none = USAGE_NONE;
	struct chat_opaque back = {0};
	struct chat_delta *x;
	struct json *v;
	struct told t;
	struct str s;

	told_init(&t);
	tell(&t, CHAT_DELTA_REASONING, "hm");
	x = tell(&t, CHAT_DELTA_REASONING_END, "");
	x->opaque = (struct chat_opaque){.value = STR("enc1"), .dialect = STR("gemini")};
	x = tell(&t, CHAT_DELTA_REASONING_END, "");
	x->opaque = (struct chat_opaque){.value = STR("enc2"), .dialect = STR("gemini")};
	call(&t, 0, "call_0", "f");
	t.f.deltas[3].opaque = (struct chat_opaque){.value = STR("enc3"), .dialect = STR("gemini")};
	arguments(&t, 0, "{}");
	finish(&t, FINISH_STOP, "");
	ck_assert_int_eq(d->encode_response(&t.ctx, &t.f, &t.out), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&t.out), JSON_NO_DUPLICATES, t.mem, &v, NULL), RC_OK);
	for (size_t i = 0; i < 3; i++) {
		static const char *const values[] = {"enc1", "enc2", "call:enc3"};
		const struct json *block = json_at(json_get(v, "content"), i);

		ck_assert(json_string(json_get(block, i ? "data" : "signature"), &s));
		ck_assert(chat_opaque_unwrap(t.mem, s, &back));
		ck_assert(str_is(back.value, values[i]) && str_is(back.dialect, "gemini"));
		ck_assert(str_is(back.provider, "openai") && str_is(back.model, "gpt-x"));
	}
	ck_assert(json_string(json_get(v, "stop_reason"), &s) && str_is(s, "tool_use"));
	(void)none;
	told_clear(&t);
}
END_TEST

/* ... and the caller gives them back: each to where it was, reasoning without a seal to nowhere. */
START_TEST(seals_come_back)
{
	const struct chat_opaque made[] = {
		{STR("enc1"), STR("gemini"), STR("gemini"), STR("g")},
		{STR("call:enc3"), STR("gemini"), STR("gemini"), STR("g")},
		{STR(""), STR("openai_chat"), STR("kimi"), STR("k")}};
	struct asked a;
	struct buf body = BUF_INIT(OUT_BYTES);
	const struct chat_part *p;

	asked_init(&a, "c");
	ck_assert_int_eq(
		buf_append(
			&body,
			STR(HEAD ",\"messages\":[" USER TEXT(
				"q") "]}," ASSIST
				     "{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"")),
		RC_OK);
	ck_assert_int_eq(buf_append(&body, chat_opaque_wrap(a.mem, &made[0])), RC_OK);
	ck_assert_int_eq(
		buf_append(&body,
			   STR("\"},{\"type\":\"thinking\",\"thinking\":\"u\",\"signature\":\"")),
		RC_OK);
	ck_assert_int_eq(buf_append(&body, chat_opaque_wrap(a.mem, &made[2])), RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("\"},{\"type\":\"redacted_thinking\",\"data\":\"")),
			 RC_OK);
	ck_assert_int_eq(buf_append(&body, chat_opaque_wrap(a.mem, &made[1])), RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("\"}," USE("t") "]}," USER RES("t") "]}]}")), RC_OK);
	ck_assert_int_eq(ask_read(&a, d, body.ptr), RC_OK);
	ck_assert_uint_eq(a.ask.chat.turns_count, 3);
	ck_assert_uint_eq(a.ask.chat.turns[1].parts_count, 3);
	p = a.ask.chat.turns[1].parts;
	ck_assert(p[0].type == CHAT_REASONING && str_is(p[0].text, "t") &&
		  str_is(p[0].opaque.value, "enc1") && str_is(p[0].opaque.provider, "gemini"));
	ck_assert(p[1].type == CHAT_REASONING && str_is(p[1].text, "u") && !p[1].opaque.value.ptr);
	ck_assert(p[2].type == CHAT_TOOL_CALL && str_is(p[2].opaque.value, "enc3") &&
		  str_is(p[2].opaque.dialect, "gemini"));
	ck_assert(str_is(a.ask.chat.turns[2].parts[0].name, "f"));
	buf_clear(&body);
	asked_clear(&a);
}
END_TEST

START_TEST(a_whole_answer_is_told)
{
	struct chat_delta *x;
	struct told t;

	told_init(&t);
	t.f.usage.present = true;
	t.f.usage.n[USAGE_in_text] = 5;
	t.f.usage.n[USAGE_out_text] = 4;
	t.f.usage.n[USAGE_searches] = 1;
	tell(&t, CHAT_DELTA_TEXT, "a");
	x = tell(&t, CHAT_DELTA_CITATION, "w");
	x->media.url = STR("https://x");
	x->media.name = STR("X");
	call(&t, 0, "call_0", "f");
	arguments(&t, 0, " {\"n\": 1.50}");
	call(&t, 1, "call_1", "g");
	call(&t, 2, "call_2", "h");
	arguments(&t, 2, "{\"cut");
	finish(&t, FINISH_TOOL_CALLS, "");
	ck_assert_int_eq(d->encode_response(&t.ctx, &t.f, &t.out), RC_OK);
	ck_assert(str_starts(
		buf_str(&t.out),
		STR("{\"id\":\"msg_0198-a\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"gpt-x\",\"content\":[{\"type\":\"text\",\"text\":\"a\","
		    "\"citations\":[{\"type\":\"web_search_result_location\",\"cited_text\":\"w\",\"url\":\"https://x\",\"title\":\"X\",\"encrypted_index\":\"" CHAT_OPAQUE_MARK)));
	ck_assert(str_ends(
		buf_str(&t.out),
		STR("\"}]},{\"type\":\"tool_use\",\"id\":\"call_0\",\"name\":\"f\",\"input\":{\"n\": 1.50}},"
		    "{\"type\":\"tool_use\",\"id\":\"call_1\",\"name\":\"g\",\"input\":{}},"
		    "{\"type\":\"tool_use\",\"id\":\"call_2\",\"name\":\"h\",\"input\":{\"INVALID_JSON\":\"{\\\"cut\"}}],"
		    "\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,"
		    "\"cache_read_input_tokens\":0,\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"
		    "\"output_tokens\":4,\"output_tokens_details\":{\"thinking_tokens\":0},\"server_tool_use\":{\"web_search_requests\":1,"
		    "\"web_fetch_requests\":0}}}")));
	told_clear(&t);
}
END_TEST

static const struct {
	enum finish finish;
	const char *stop;
	const char *want;
} stops[] = {
	{FINISH_STOP, "", "{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}"},
	{FINISH_STOP, "##", "{\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"##\"}"},
	{FINISH_LENGTH, "", "{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null}"},
	{FINISH_TOOL_CALLS, "", "{\"stop_reason\":\"tool_use\",\"stop_sequence\":null}"},
	{FINISH_PAUSE, "", "{\"stop_reason\":\"pause_turn\",\"stop_sequence\":null}"},
	{FINISH_OTHER, "", "{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}"},
	{FINISH_CONTENT_FILTER, "",
	 "{\"stop_reason\":\"refusal\",\"stop_sequence\":null,\"stop_details\":{\"type\":\"refusal\",\"category\":null,\"explanation\":null}}"},
};

START_TEST(reasons_to_stop)
{
	const struct usage none = USAGE_NONE;
	char want[512];
	struct told t;

	told_init(&t);
	tell(&t, CHAT_DELTA_REFUSAL, "no");
	finish(&t, stops[_i].finish, stops[_i].stop);
	say_all(&t, true, &none);
	snprintf(want, sizeof want, "message_start " TEXT_BLOCK "|no>%smessage_stop ",
		 stops[_i].want);
	ck_assert_str_eq(digest(&t), want);
	told_clear(&t);
}
END_TEST

START_TEST(an_answer_of_nothing_is_whole)
{
	const struct usage none = USAGE_NONE;
	struct told t;

	told_init(&t);
	ck_assert_int_eq(d->encode_deltas(&t.ctx, &t.f, &t.out), RC_OK);
	ck_assert_uint_eq(t.out.len, 0);
	ck_assert_int_eq(d->encode_end(&t.ctx, &none, &t.out), RC_OK);
	ck_assert_str_eq(digest(&t), "message_start " END("end_turn"));
	told_clear(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("anthropic_chat");
	TCase *tc = tcase_create("anthropic_chat");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, a_question_goes_through, 0, ARRAY_LEN(trips));
	tcase_add_loop_test(tc, a_question_is_refused_by_name, 0, ARRAY_LEN(refusals));
	tcase_add_test(tc, a_continued_answer_goes_to_older_models);
	tcase_add_test(tc, the_maximum_is_always_named);
	tcase_add_test(tc, what_anthropic_cannot_is_refused);
	tcase_add_test(tc, losses_have_the_callers_names);
	tcase_add_test(tc, plain_json_mode_is_the_forced_tool);
	tcase_add_test(tc, only_the_allowed_tools_go);
	tcase_add_test(tc, images_of_others);
	tcase_add_test(tc, thought_goes_back_to_its_maker_alone);
	tcase_add_test(tc, counting_asks_for_the_same);
	tcase_add_loop_test(tc, generations, 0, ARRAY_LEN(models));
	tcase_add_test(tc, names_come_back);
	tcase_add_test(tc, a_text_is_told);
	tcase_add_test(tc, blocks_never_overlap);
	tcase_add_test(tc, calls_that_never_end_are_told_at_the_end);
	tcase_add_test(tc, seals_are_wrapped);
	tcase_add_test(tc, seals_come_back);
	tcase_add_test(tc, a_whole_answer_is_told);
	tcase_add_loop_test(tc, reasons_to_stop, 0, ARRAY_LEN(stops));
	tcase_add_test(tc, an_answer_of_nothing_is_whole);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
