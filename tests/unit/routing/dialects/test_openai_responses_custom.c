/* test_openai_responses_custom.c - tools of free text: as a function for whoever is asked, and a call of it as the caller's own again. */
#include "routing/dialects/openai_responses_priv.h"
#include "routing/provider.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (16u << 20)
#define OUT_BYTES   (1u << 20)

static const struct call_head no_head;
static const struct dialect *const d = &dialect_openai_responses;

#define PATCH                                                                                      \
	"{\"type\":\"custom\",\"name\":\"patch\",\"description\":\"Change files.\",\"format\":{"   \
	"\"type\":\"grammar\",\"syntax\":\"lark\",\"definition\":\"start: \\\"x\\\" LF\\n\"}}"
#define ANY  "{\"type\":\"custom\",\"name\":\"note\"}"
#define RUN  "{\"type\":\"function\",\"name\":\"run\",\"parameters\":{\"type\":\"object\"}}"
#define TEXT "*** \\\"a\\\"\\n\\u00fc\\\\"

/* --- the parts -------------------------------------------------------------------------------- */

static const struct {
	const char *tool, *schema; /* NULL: refused */
	bool grammar;
} schemas[] = {
	{ANY,
	 "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\"The "
	 "whole input, as plain text.\"}},\"required\":[\"input\"],\"additionalProperties\":false}",
	 false},
	{"{\"name\":\"x\",\"format\":{\"type\":\"text\"}}",
	 "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\"The "
	 "whole input, as plain text.\"}},\"required\":[\"input\"],\"additionalProperties\":false}",
	 false},
	{PATCH,
	 "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\"The "
	 "whole input, as plain text. It must be in the language of this lark grammar:\\nstart: "
	 "\\\"x\\\" LF\\n\"}},\"required\":[\"input\"],\"additionalProperties\":false}",
	 true},
	{"{\"format\":{\"type\":\"grammar\",\"syntax\":\"lark\"}}", NULL, true},
	{"{\"format\":{\"type\":\"grammar\",\"definition\":\"x\"}}", NULL, true},
};

START_TEST(tool_is_a_function)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	const struct json *schema;
	struct json *tool;
	bool grammar;
	enum rc rc;

	ck_assert_int_eq(
		json_parse(str_from(schemas[_i].tool), JSON_NO_DUPLICATES, mem, &tool, NULL),
		RC_OK);
	rc = responses_custom_schema(mem, tool, &schema, &grammar);
	ck_assert_int_eq(rc, schemas[_i].schema ? RC_OK : RC_INVALID);
	ck_assert_int_eq(grammar, schemas[_i].grammar);
	if (rc == RC_OK) {
		ck_assert_int_eq(json_write(schema, &out), RC_OK);
		ck_assert_str_eq(out.ptr, schemas[_i].schema);
	}
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

static const struct {
	const char *arguments, *input;
} inputs[] = {
	{"{\"input\":\"" TEXT "\"}", "*** \"a\"\n\xc3\xbc\\"},
	{"{\"input\":\"\"}", ""},
	{"{\"why\":1,\"input\":\"x\"}", "x"},
	{"{}", ""},
	{"", ""},
	/* of another shape: as it stands */
	{"{\"patch\":\"x\"}", "{\"patch\":\"x\"}"},
	{"{\"input\":7}", "{\"input\":7}"},
	{"[]", "[]"},
	{"*** a", "*** a"},
	{"{\"input\":\"cut", "{\"input\":\"cut"},
};

START_TEST(input_is_read_from_arguments)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	const struct str input = responses_custom_input(mem, str_from(inputs[_i].arguments));
	struct str arguments;

	ck_assert(str_is(input, inputs[_i].input));
	ck_assert_int_eq(responses_custom_arguments(mem, input, &arguments), RC_OK);
	ck_assert(str_is(responses_custom_input(mem, arguments), inputs[_i].input));
	arena_free(mem);
}
END_TEST

START_TEST(name_is_looked_up)
{
	static const char body[] = "{\"tools\":[7,{\"type\":\"web_search\"}," RUN "," PATCH
				   ",{\"type\":\"custom\"}," ANY "]}";
	struct arena *mem = arena_new(ARENA_BYTES);
	struct call c = {0};
	struct json *root;
	struct str *names;
	size_t n;

	ck_assert_int_eq(responses_custom_names(mem, NULL, &names, &n), RC_OK);
	ck_assert(n == 0 && !responses_is_custom(names, n, STR("patch")));
	ck_assert_int_eq(responses_custom_names(mem, &c, &names, &n), RC_OK);
	ck_assert(n == 0 && !responses_is_custom(names, n, STR("patch")));
	ck_assert_int_eq(json_parse(str_from(body), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	c.body = root;
	ck_assert_int_eq(responses_custom_names(mem, &c, &names, &n), RC_OK);
	ck_assert_uint_eq(n, 2);
	ck_assert(responses_is_custom(names, n, STR("patch")));
	ck_assert(responses_is_custom(names, n, STR("note")));
	ck_assert(!responses_is_custom(names, n, STR("run")));
	ck_assert(!responses_is_custom(names, n, STR("")));
	arena_free(mem);
}
END_TEST

/* --- the question ------------------------------------------------------------------------------- */

#define QUESTION(more)                                                                                \
	"{\"model\":\"m\",\"max_output_tokens\":9,\"input\":[{\"role\":\"user\",\"content\":\"go\"}," \
	"{\"type\":\"custom_tool_call\",\"id\":\"ctc_1\",\"call_id\":\"call_1\",\"name\":\"patch\","  \
	"\"input\":\"" TEXT "\"},{\"type\":\"custom_tool_call_output\",\"call_id\":\"call_1\","       \
	"\"output\":\"done\"}],\"tools\":[" RUN "," PATCH "]" more "}"

struct asked {
	struct arena *mem;
	struct call call;
	struct ask ask;
	struct err err;
	struct buf body;
	struct outgoing out;
};

static enum rc ask(struct asked *a, const char *body, const char *provider, const char *model)
{
	struct dialect_target t = {.provider = provider_find(str_from(provider)),
				   .model = str_from(model)};

	*a = (struct asked){.mem = arena_new(ARENA_BYTES), .body = BUF_INIT(OUT_BYTES)};
	a->out.body = &a->body;
	ck_assert_int_eq(d->decode_request(&no_head, str_from(body), a->mem, &a->call, &a->err),
			 RC_OK);
	TRY(d->decode_ask(&a->call, a->mem, &a->ask, &a->err));
	t.dialect = t.provider->endpoints[0].dialect;
	return t.dialect->encode_ask(&a->call, &a->ask, &t, a->mem, &a->out, &a->err);
}

static void ask_clear(struct asked *a)
{
	buf_clear(&a->body);
	arena_free(a->mem);
}

static const struct {
	const char *provider, *model;
	const char *tool, *call, *result, *choice;
} targets[] = {
	{"anthropic", "claude-sonnet-4-5",
	 "{\"name\":\"patch\",\"description\":\"Change files.\",\"input_schema\":{\"type\":\"object\"",
	 "\"name\":\"patch\",\"input\":{\"input\":\"*** \\\"a\\\"\\n\xc3\xbc\\\\\"}}",
	 "{\"type\":\"tool_result\",\"tool_use_id\":\"call_1\"",
	 "\"tool_choice\":{\"type\":\"tool\",\"name\":\"patch\"}"},
	{"gemini", "gemini-2.5-flash",
	 "{\"name\":\"patch\",\"description\":\"Change files.\",\"parametersJsonSchema\":{\"type\":"
	 "\"object\"",
	 "\"name\":\"patch\",\"args\":{\"input\":\"*** \\\"a\\\"\\n\xc3\xbc\\\\\"}",
	 "{\"functionResponse\":{\"id\":\"call_1\",\"name\":\"patch\"",
	 "\"allowedFunctionNames\":[\"patch\"]"},
	{"mistral", "mistral-large-latest",
	 "{\"name\":\"patch\",\"description\":\"Change files.\",\"parameters\":{\"type\":\"object\"",
	 "{\"name\":\"patch\",\"arguments\":\"{\\\"input\\\":\\\"*** \\\\\\\"a\\\\\\\"\\\\n\xc3\xbc\\\\\\\\"
	 "\\\"}\"}",
	 "{\"role\":\"tool\"",
	 "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"patch\"}}"},
};

START_TEST(question_goes_to_who_knows_functions)
{
	struct asked a;

	ck_assert_msg(ask(&a, QUESTION(",\"tool_choice\":{\"type\":\"custom\",\"name\":\"patch\"}"),
			  targets[_i].provider, targets[_i].model) == RC_OK,
		      "%s", a.err.message);
	ck_assert_msg(strstr(a.body.ptr, targets[_i].tool), "%s", a.body.ptr);
	ck_assert_msg(strstr(a.body.ptr, targets[_i].call), "%s", a.body.ptr);
	ck_assert_msg(strstr(a.body.ptr, targets[_i].result), "%s", a.body.ptr);
	ck_assert_msg(strstr(a.body.ptr, targets[_i].choice), "%s", a.body.ptr);
	ck_assert(strstr(a.body.ptr, "this lark grammar"));
	ck_assert_uint_eq(a.out.losses.count, 1); /* nobody else is held to it */
	ck_assert(str_is(a.out.losses.name[0], "tools[1].format"));
	ask_clear(&a);
}
END_TEST

START_TEST(choice_among_tools)
{
	struct asked a;

	ck_assert_int_eq(
		ask(&a,
		    QUESTION(",\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\","
			     "\"tools\":[{\"type\":\"custom\",\"name\":\"patch\"}]}"),
		    "openai_compatible", "m"),
		RC_OK);
	ck_assert_uint_eq(a.ask.chat.choice_names_count, 1);
	ck_assert(str_is(a.ask.chat.choice_names[0], "patch"));
	ask_clear(&a);
}
END_TEST

static const struct {
	const char *body, *field;
} senseless[] = {
	{"{\"model\":\"m\",\"input\":\"x\",\"tools\":[{\"type\":\"custom\"}]}", "tools"},
	{"{\"model\":\"m\",\"input\":\"x\",\"tools\":[{\"type\":\"custom\",\"name\":\"x\",\"format\":{"
	 "\"type\":\"grammar\"}}]}",
	 "tools"},
	{"{\"model\":\"m\",\"input\":[{\"type\":\"custom_tool_call\",\"call_id\":\"c\"}]}",
	 "input[0].name"},
	{"{\"model\":\"m\",\"input\":[{\"type\":\"custom_tool_call\",\"name\":\"c\"}]}",
	 "input[0].call_id"},
	{"{\"model\":\"m\",\"input\":[{\"type\":\"custom_tool_call_output\",\"call_id\":\"c\"}]}",
	 "input"},
};

START_TEST(senseless_is_refused)
{
	struct asked a;

	ck_assert_int_eq(ask(&a, senseless[_i].body, "anthropic", "m"), RC_INVALID);
	ck_assert_str_eq(a.err.field, senseless[_i].field);
	ask_clear(&a);
}
END_TEST

/* --- the answer ---------------------------------------------------------------------------------- */

struct answer {
	struct asked a;
	struct dialect_target target;
	struct dialect_ctx ctx;
	struct facts f;
	struct buf out;
};

static void answer_begin(struct answer *w)
{
	ck_assert_int_eq(ask(&w->a, QUESTION(""), "anthropic", "claude-sonnet-4-5"), RC_OK);
	w->target = (struct dialect_target){.provider = provider_find(STR("anthropic")),
					    .model = STR("m")};
	w->ctx = (struct dialect_ctx){.mem = w->a.mem,
				      .keep = w->a.mem,
				      .call = &w->a.call,
				      .target = &w->target,
				      .id = STR("1"),
				      .translate = true};
	w->f = (struct facts){.usage = USAGE_NONE};
	buf_init(&w->out, OUT_BYTES);
}

static void answer_clear(struct answer *w)
{
	buf_clear(&w->out);
	ask_clear(&w->a);
}

static void call_add(struct answer *w, int64_t index, const char *name)
{
	struct chat_delta *x = chat_delta_add(w->a.mem, &w->f, CHAT_DELTA_TOOL_CALL);

	x->index = index;
	x->id = index ? STR("call_b") : STR("call_a");
	x->name = str_from(name);
}

static void arguments_add(struct answer *w, int64_t index, const char *text)
{
	struct chat_delta *x = chat_delta_add(w->a.mem, &w->f, CHAT_DELTA_TOOL_ARGUMENTS);

	x->index = index;
	x->text = str_from(text);
}

/* A call of each kind, their arguments in turns. */
static void two_calls(struct answer *w)
{
	call_add(w, 0, "patch");
	arguments_add(w, 0, "{\"inp");
	call_add(w, 1, "run");
	arguments_add(w, 1, "{\"a\":");
	arguments_add(w, 0, "ut\":\"*** a\\nb\"}");
	arguments_add(w, 1, "1}");
}

#define ITEM_PATCH(status, input)                                                                  \
	"{\"id\":\"ctc_1_0\",\"type\":\"custom_tool_call\",\"status\":\"" status "\",\"call_id\":" \
	"\"call_a\",\"name\":\"patch\",\"input\":\"" input "\"}"
#define EVENT(type, n, rest)                                                                       \
	"event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n "," rest "}\n\n"

START_TEST(call_is_streamed_as_the_callers_own)
{
	static const char *const events[] = {
		EVENT("response.output_item.added", "2",
		      "\"output_index\":0,\"item\":" ITEM_PATCH("in_progress", "")),
		EVENT("response.custom_tool_call_input.delta", "6",
		      "\"item_id\":\"ctc_1_0\",\"output_index\":0,\"delta\":\"*** a\\nb\""),
		EVENT("response.custom_tool_call_input.done", "7",
		      "\"item_id\":\"ctc_1_0\",\"output_index\":0,\"input\":\"*** a\\nb\""),
		EVENT("response.output_item.done", "8",
		      "\"output_index\":0,\"item\":" ITEM_PATCH("completed", "*** a\\nb")),
		EVENT("response.function_call_arguments.done", "9",
		      "\"item_id\":\"fc_1_1\",\"output_index\":1,\"name\":\"run\",\"arguments\":\"{"
		      "\\\"a\\\":1}\""),
	};
	const struct usage none = USAGE_NONE;
	struct answer w;
	const char *at;

	answer_begin(&w);
	two_calls(&w);
	ck_assert_int_eq(d->encode_deltas(&w.ctx, &w.f, &w.out), RC_OK);
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	at = w.out.ptr;
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		at = strstr(at, events[i]);
		ck_assert_msg(at, "%s in %s", events[i], w.out.ptr);
	}
	at = strstr(at, "event: response.completed");
	ck_assert(at && strstr(at, "\"output\":[" ITEM_PATCH("completed", "*** a\\nb")));
	answer_clear(&w);
}
END_TEST

START_TEST(call_of_a_whole_answer)
{
	struct answer w;

	answer_begin(&w);
	two_calls(&w);
	ck_assert_int_eq(d->encode_response(&w.ctx, &w.f, &w.out), RC_OK);
	ck_assert(strstr(w.out.ptr, "\"output\":[" ITEM_PATCH(
					    "completed",
					    "*** a\\nb") ",{\"id\":"
							 "\"fc_1_1\",\"type\":\"function_call\""));
	answer_clear(&w);
}
END_TEST

START_TEST(call_without_input)
{
	const struct usage none = USAGE_NONE;
	struct answer w;

	answer_begin(&w);
	call_add(&w, 0, "patch");
	ck_assert_int_eq(d->encode_deltas(&w.ctx, &w.f, &w.out), RC_OK);
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_ptr_null(strstr(w.out.ptr, "input.delta"));
	ck_assert(strstr(w.out.ptr, "\"item\":" ITEM_PATCH("completed", "")));
	answer_clear(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_responses_custom");
	TCase *tc = tcase_create("openai_responses_custom");

	tcase_add_loop_test(tc, tool_is_a_function, 0, ARRAY_LEN(schemas));
	tcase_add_loop_test(tc, input_is_read_from_arguments, 0, ARRAY_LEN(inputs));
	tcase_add_test(tc, name_is_looked_up);
	tcase_add_loop_test(tc, question_goes_to_who_knows_functions, 0, ARRAY_LEN(targets));
	tcase_add_test(tc, choice_among_tools);
	tcase_add_loop_test(tc, senseless_is_refused, 0, ARRAY_LEN(senseless));
	tcase_add_test(tc, call_is_streamed_as_the_callers_own);
	tcase_add_test(tc, call_of_a_whole_answer);
	tcase_add_test(tc, call_without_input);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
