/* test_openai_responses.c - the Responses dialect: requests in and out, answers read and written, the count of the input. */
#include "routing/dialect.h"
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (16u << 20)
#define OUT_BYTES   (1u << 20)
#define TRACE_BYTES (64u << 10)

static const struct dialect *const d = &dialect_openai_responses;
static const struct dialect *const counter = &dialect_openai_input_tokens;
static const struct call_head no_head;

/* --- requests in ---------------------------------------------------------------------------------- */

#define OK	  "{\"model\":\"m\",\"input\":\"hi\""
#define ITEMS(i)  "{\"model\":\"m\",\"input\":[" i "]"
#define PARTS(p)  ITEMS("{\"role\":\"user\",\"content\":[" p "]}")
#define OUTPUT(o) ITEMS("{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":" o "}")

static const struct {
	const char *body;
	const char *field;
} bad_requests[] = {
	{"", ""},
	{"[]", ""},
	{OK, ""},
	{OK ",\"model\":\"n\"}", ""},
	{OK ",\"max_output_tokens\":16,\"max_output_tokens\":9999}", ""},
	{"{\"input\":\"hi\"}", "model"},
	{"{\"model\":7,\"input\":\"hi\"}", "model"},
	{"{\"model\":\"a b\",\"input\":\"hi\"}", "model"},
	{"{\"model\":\"m\"}", "input"},
	{"{\"model\":\"m\",\"input\":7}", "input"},
	{ITEMS("\"x\"") "}", "input[0]"},
	{ITEMS("{\"type\":7}") "}", "input[0]"},
	{ITEMS("{\"role\":\"user\",\"content\":\"a\"},{\"content\":\"a\"}") "}", "input[1]"},
	{ITEMS("{\"role\":\"user\",\"content\":7}") "}", "input[0]"},
	{PARTS("7") "}", "input[0]"},
	{PARTS("{}") "}", "input[0]"},
	{ITEMS("{\"type\":\"item_reference\"}") "}", "input[0]"},
	{OK ",\"instructions\":[]}", "instructions"},
	{OK ",\"max_output_tokens\":0}", "max_output_tokens"},
	{OK ",\"max_output_tokens\":\"16\"}", "max_output_tokens"},
	{OK ",\"max_output_tokens\":1e3}", "max_output_tokens"},
	{OK ",\"max_output_tokens\":1000000001}", "max_output_tokens"},
	{OK ",\"stream\":1}", "stream"},
	{OK ",\"store\":\"false\"}", "store"},
	{OK ",\"background\":true}", "background"},
	{OK ",\"background\":1}", "background"},
	{OK ",\"tools\":{}}", "tools"},
	{OK ",\"tools\":[{}]}", "tools"},
	{OK ",\"text\":7}", "text"},
	{OK ",\"text\":{\"format\":{}}}", "text.format"},
	{OK ",\"previous_response_id\":7}", "previous_response_id"},
	{OK ",\"previous_response_id\":\"\"}", "previous_response_id"},
	{OK ",\"conversation\":{}}", "conversation"},
};

START_TEST(bad_request_is_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct call c = {.choices = 77};
	struct err err = {0};

	ck_assert_int_eq(
		d->decode_request(&no_head, str_from(bad_requests[_i].body), mem, &c, &err),
		RC_INVALID);
	ck_assert_ptr_nonnull(err.code);
	ck_assert(err.message[0] != '\0');
	ck_assert_str_eq(err.field, bad_requests[_i].field);
	ck_assert_int_eq(c.choices, 77); /* outputs only on success */
	arena_free(mem);
}
END_TEST

START_TEST(background_is_refused_by_its_own_code)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(
		d->decode_request(&no_head, STR(OK ",\"background\":true}"), mem, &c, &err),
		RC_INVALID);
	ck_assert_str_eq(err.code, "unsupported_parameter");
	ck_assert_int_eq(
		d->decode_request(&no_head, STR(OK ",\"background\":false}"), mem, &c, &err),
		RC_OK);
	arena_free(mem);
}
END_TEST

static const struct {
	const char *body;
	bool stream, keeps, window;
	int64_t max_output;
	uint32_t needs; /* beside text */
	int64_t media;
	size_t text;
} good_requests[] = {
	{OK "}", false, true, false, 0, 0, 0, 2},
	{OK ",\"store\":false,\"stream\":true,\"max_output_tokens\":16}", true, false, false, 16, 0,
	 0, 2},
	{OK ",\"store\":null,\"stream\":null,\"max_output_tokens\":null}", false, true, false, 0, 0,
	 0, 2},
	{OK ",\"instructions\":\"brief\"}", false, true, false, 0, 0, 0, 7},
	{"{\"model\":\"m\",\"previous_response_id\":\"resp_1\"}", false, true, true, 0, 0, 0, 0},
	{OK ",\"conversation\":{\"id\":\"conv_1\"}}", false, true, true, 0, 0, 0, 2},
	{OK ",\"prompt\":{\"id\":\"pmpt_1\"}}", false, true, true, 0, 0, 0, 2},
	{PARTS("{\"type\":\"input_text\",\"text\":\"hello\"}") "}", false, true, false, 0, 0, 0, 5},
	{PARTS("{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA\"}") "}", false,
	 true, false, 0, CAP_VISION, 50000, 0},
	{PARTS("{\"type\":\"input_image\",\"image_url\":\"https://x/y.png\"}") "}", false, true,
	 true, 0, CAP_VISION, 0, 0},
	{PARTS("{\"type\":\"input_image\",\"file_id\":\"file_1\"}") "}", false, true, true, 0,
	 CAP_VISION, 0, 0},
	{PARTS("{\"type\":\"input_file\",\"file_data\":\"AA\"}") "}", false, true, true, 0,
	 CAP_VISION, 0, 0},
	{PARTS("{\"type\":\"news\"}") "}", false, true, true, 0, 0, 0, 0},
	{OUTPUT("\"done\"") "}", false, true, false, 0, 0, 0, 4},
	{OUTPUT("[{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA\"}]") "}",
	 false, true, false, 0, CAP_VISION, 50000, 0},
	{ITEMS("{\"type\":\"computer_call_output\",\"output\":{}}") "}", false, true, true, 0, 0, 0,
	 0},
	{OK ",\"tools\":[]}", false, true, false, 0, 0, 0, 2},
	{OK ",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]}", false, true, false, 0,
	 CAP_TOOLS, 0, 2},
	{OK ",\"tools\":[{\"type\":\"web_search\"}]}", false, true, true, 0, CAP_TOOLS, 0, 2},
	{OK ",\"text\":{\"format\":{\"type\":\"json_schema\"}}}", false, true, false, 0, CAP_JSON,
	 0, 2},
	{OK ",\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"}}", false, true, false,
	 0, 0, 0, 2},
};

START_TEST(good_request_is_read)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct str body = str_from(good_requests[_i].body);
	struct err err = {0};
	struct call c;

	ck_assert_msg(d->decode_request(&no_head, body, mem, &c, &err) == RC_OK, "%s", err.message);
	ck_assert(str_is(c.model, "m"));
	ck_assert_ptr_eq(c.dialect, d);
	ck_assert_int_eq(c.operation, OPERATION_chat);
	ck_assert_int_eq(c.stream, good_requests[_i].stream);
	ck_assert_int_eq(c.keeps_state, good_requests[_i].keeps);
	ck_assert_int_eq(c.media_by_url, good_requests[_i].window);
	ck_assert_int_eq(c.max_output, good_requests[_i].max_output);
	ck_assert_int_eq(c.choices, 1);
	ck_assert_uint_eq(c.needs, CAP_TEXT | good_requests[_i].needs);
	ck_assert_int_eq(c.media_tokens_max, good_requests[_i].media);
	ck_assert_uint_eq(c.text_bytes, good_requests[_i].text);
	ck_assert_uint_eq(c.body_bytes, body.len);
	arena_free(mem);
}
END_TEST

START_TEST(what_a_provider_keeps_is_named)
{
	static const struct {
		const char *kind, *id, *field;
	} want[] = {
		{"item", "msg_1", "input"},	   {"response", "resp_1", "previous_response_id"},
		{"file", "file_1", "input"},	   {"file", "file_2", "tools"},
		{"vector_store", "vs_1", "tools"}, {"container", "cntr_1", "tools"},
	};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(
		d->decode_request(
			&no_head,
			STR("{\"model\":\"m\",\"previous_response_id\":\"resp_1\",\"input\":["
			    "{\"type\":\"item_reference\",\"id\":\"msg_1\"},"
			    "{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_id\":"
			    "\"file_1\"},{\"type\":\"input_file\",\"file_id\":\"file_1\"}]}],"
			    "\"tools\":[{\"type\":\"code_interpreter\",\"container\":{\"type\":"
			    "\"auto\",\"file_ids\":[\"file_2\"]}},{\"type\":\"file_search\","
			    "\"vector_store_ids\":[\"vs_1\"]},{\"type\":\"code_interpreter\","
			    "\"container\":\"cntr_1\"},{\"type\":\"function\",\"name\":\"f\","
			    "\"parameters\":{\"file_id\":\"no state\"}}]}"),
			mem, &c, &err),
		RC_OK);
	ck_assert_uint_eq(c.states_count, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		ck_assert_str_eq(c.states[i].kind, want[i].kind);
		ck_assert_str_eq(c.states[i].field, want[i].field);
		ck_assert(str_is(c.states[i].id, want[i].id));
	}
	ck_assert(c.media_by_url);
	arena_free(mem);
}
END_TEST

START_TEST(too_many_states_are_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(buf_printf(&body, "{\"model\":\"m\",\"input\":["), RC_OK);
	for (int i = 0; i <= CALL_STATES_MAX; i++)
		ck_assert_int_eq(buf_printf(&body, "%s{\"type\":\"item_reference\",\"id\":\"i%d\"}",
					    i ? "," : "", i),
				 RC_OK);
	ck_assert_int_eq(buf_printf(&body, "]}"), RC_OK);
	ck_assert_int_eq(d->decode_request(&no_head, buf_str(&body), mem, &c, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "input");
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

/* --- passing through -------------------------------------------------------------------------------- */

static struct dialect_target target_of(const char *model, int64_t cap)
{
	return (struct dialect_target){.provider = provider_find(STR("openai")),
				       .dialect = d,
				       .model = str_from(model),
				       .max_output_cap = cap};
}

#define FOREIGN                                                                                    \
	"{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[],\"encrypted_content\":"            \
	"\"" CHAT_OPAQUE_MARK "fHh4\"}"
#define HOME "{\"type\":\"reasoning\",\"id\":\"rs_2\",\"encrypted_content\":\"ENC==\"}"
#define SAID "{\"role\":\"user\",\"content\":\"" CHAT_OPAQUE_MARK "\"}"

static const struct {
	const char *body, *model;
	int64_t cap;
	const char *want; /* NULL: the very same bytes */
} encodings[] = {
	{"{ \"model\" : \"m\", \"input\": \"hi\"}", "m", 0, NULL},
	{OK ",\"z\":12345678901234567890,\"y\":1.10}", "m", 0, NULL},
	{OK ",\"z\":12345678901234567890,\"y\":1.10}", "n", 0,
	 "{\"model\":\"n\",\"input\":\"hi\",\"z\":12345678901234567890,\"y\":1.10}"},
	{OK "}", "m", 100, OK ",\"max_output_tokens\":100}"},
	{OK ",\"max_output_tokens\":null}", "m", 100, OK ",\"max_output_tokens\":100}"},
	{OK ",\"max_output_tokens\":7}", "m", 100, NULL},
	{ITEMS(HOME) "}", "m", 0, NULL},
	{ITEMS(FOREIGN "," HOME "," SAID) "}", "m", 0, ITEMS(HOME "," SAID) "}"},
	{ITEMS(SAID) "}", "m", 0, NULL},
	{OK ",\"stream\":true}", "m", 0, NULL},
};

START_TEST(request_passes_through)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &body};
	const struct dialect_target t = target_of(encodings[_i].model, encodings[_i].cap);
	const char *want = encodings[_i].want ? encodings[_i].want : encodings[_i].body;
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&no_head, str_from(encodings[_i].body), mem, &c, &err),
			 RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &out, &err), RC_OK);
	ck_assert_str_eq(body.ptr, want);
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

/* --- the question, translated ------------------------------------------------------------------------ */

struct asked {
	struct arena *mem;
	struct call call;
	struct ask ask;
	struct err err;
	struct buf body;
	struct outgoing out;
	enum rc rc;
};

static void ask_read(struct asked *a, const char *body)
{
	*a = (struct asked){.mem = arena_new(ARENA_BYTES), .body = BUF_INIT(OUT_BYTES)};
	a->out.body = &a->body;
	ck_assert_msg(d->decode_request(&no_head, str_from(body), a->mem, &a->call, &a->err) ==
			      RC_OK,
		      "%s", a->err.message);
	a->rc = d->decode_ask(&a->call, a->mem, &a->ask, &a->err);
}

static void ask_write(struct asked *a, int64_t cap)
{
	const struct dialect_target t = target_of("n", cap);

	a->rc = d->encode_ask(&a->call, &a->ask, &t, a->mem, &a->out, &a->err);
}

static void ask_clear(struct asked *a)
{
	buf_clear(&a->body);
	arena_free(a->mem);
}

/* What both sides can say comes out as it went in. */
static const struct {
	const char *in, *out;
} questions[] = {
	{OK "}",
	 "{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
	 "\"type\":\"input_text\",\"text\":\"hi\"}]}],\"store\":false}"},
	{"{\"model\":\"m\",\"instructions\":\"Be brief.\",\"input\":["
	 "{\"role\":\"developer\",\"content\":\"D\"},"
	 "{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"see\"},"
	 "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA==\",\"detail\":\"low\"},"
	 "{\"type\":\"input_image\",\"image_url\":\"https://x/y.png\"},"
	 "{\"type\":\"input_file\",\"filename\":\"a.pdf\",\"file_data\":\"data:application/"
	 "pdf;base64,BB==\"},"
	 "{\"type\":\"input_file\",\"file_url\":\"https://x/a.pdf\"}]},"
	 "{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"no\"},"
	 "{\"type\":\"refusal\",\"refusal\":\"never\"}]}],\"store\":false}",
	 "{\"model\":\"n\",\"instructions\":\"Be brief.\",\"input\":["
	 "{\"type\":\"message\",\"role\":\"developer\",\"content\":[{\"type\":\"input_text\","
	 "\"text\":\"D\"}]},"
	 "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
	 "\"see\"},"
	 "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,AA==\",\"detail\":\"low\"},"
	 "{\"type\":\"input_image\",\"image_url\":\"https://x/y.png\"},"
	 "{\"type\":\"input_file\",\"filename\":\"a.pdf\",\"file_data\":\"data:application/"
	 "pdf;base64,BB==\"},"
	 "{\"type\":\"input_file\",\"file_url\":\"https://x/a.pdf\"}]},"
	 "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
	 "\"text\":\"no\"},"
	 "{\"type\":\"refusal\",\"refusal\":\"never\"}]}],\"store\":false}"},
	/* parallel calls and their results, in order */
	{ITEMS("{\"role\":\"user\",\"content\":\"go\"},"
	       "{\"type\":\"message\",\"role\":\"assistant\",\"content\":\"on it\"},"
	       "{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"call_1\",\"name\":\"f\","
	       "\"arguments\":\"{\\\"a\\\":1.10}\"},"
	       "{\"type\":\"function_call\",\"call_id\":\"call_2\",\"name\":\"g\",\"arguments\":"
	       "\"\"},"
	       "{\"type\":\"function_call_output\",\"call_id\":\"call_2\",\"output\":\"two\"},"
	       "{\"type\":\"function_call_output\",\"call_id\":\"call_1\",\"output\":[{\"type\":"
	       "\"input_text\",\"text\":\"one\"},{\"type\":\"input_text\",\"text\":\"more\"}]}") ",\"stream\":true,\"max_output_tokens\":99,\"temperature\":0.30,\"top_p\":1,"
												 "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"F\",\"parameters\":{"
												 "\"type\":\"object\"},\"strict\":true},{\"type\":\"function\",\"name\":\"g\",\"strict\":"
												 "false}],\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"required\",\"tools\":[{"
												 "\"type\":\"function\",\"name\":\"f\"}]},\"parallel_tool_calls\":false}",
	 "{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
	 "\"type\":\"input_text\",\"text\":\"go\"}]},"
	 "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
	 "\"text\":\"on it\"}]},"
	 "{\"type\":\"function_call\",\"call_id\":\"call_1\",\"name\":\"f\",\"arguments\":"
	 "\"{\\\"a\\\":1.10}\"},"
	 "{\"type\":\"function_call\",\"call_id\":\"call_2\",\"name\":\"g\",\"arguments\":\"{}\"},"
	 "{\"type\":\"function_call_output\",\"call_id\":\"call_2\",\"output\":\"two\"},"
	 "{\"type\":\"function_call_output\",\"call_id\":\"call_1\",\"output\":[{\"type\":\"input_"
	 "text\",\"text\":\"one\"},{\"type\":\"input_text\",\"text\":\"more\"}]}],"
	 "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"F\",\"parameters\":{"
	 "\"type\":\"object\"},\"strict\":true},{\"type\":\"function\",\"name\":\"g\","
	 "\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":false}],"
	 "\"parallel_tool_calls\":false,\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":"
	 "\"required\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]},\"store\":false,"
	 "\"stream\":true,\"max_output_tokens\":99,\"temperature\":0.30,\"top_p\":1}"},
	/* structured, reasoning, names */
	{OK ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"s\",\"description\":\"D\","
	    "\"schema\":{\"type\":\"object\"},\"strict\":true},\"verbosity\":\"low\"},"
	    "\"reasoning\":{\"effort\":\"high\",\"summary\":\"auto\"},\"include\":[\"reasoning."
	    "encrypted_content\"],\"service_tier\":\"flex\",\"safety_identifier\":\"u1\","
	    "\"prompt_cache_key\":\"k\",\"metadata\":{\"a\":\"b\"},\"store\":false,"
	    "\"tool_choice\":\"none\"}",
	 "{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
	 "\"type\":\"input_text\",\"text\":\"hi\"}]}],\"tool_choice\":\"none\",\"text\":{"
	 "\"format\":{\"type\":\"json_schema\",\"name\":\"s\",\"description\":\"D\",\"schema\":{"
	 "\"type\":\"object\"},\"strict\":true},\"verbosity\":\"low\"},\"reasoning\":{\"effort\":"
	 "\"high\",\"summary\":\"auto\"},\"include\":[\"reasoning.encrypted_content\"],\"store\":"
	 "false,\"service_tier\":\"flex\",\"safety_identifier\":\"u1\",\"prompt_cache_key\":\"k\","
	 "\"metadata\":{\"a\":\"b\"}}"},
	{OK ",\"text\":{\"format\":{\"type\":\"json_object\"}},\"tools\":[{\"type\":\"function\","
	    "\"name\":\"f\"}],\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}}",
	 "{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
	 "\"type\":\"input_text\",\"text\":\"hi\"}]}],\"tools\":[{\"type\":\"function\",\"name\":"
	 "\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":false}],"
	 "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"},\"text\":{\"format\":{\"type\":"
	 "\"json_object\"}},\"store\":false}"},
};

START_TEST(question_both_ways)
{
	struct asked a;

	ask_read(&a, questions[_i].in);
	ck_assert_msg(a.rc == RC_OK, "%s", a.err.message);
	ask_write(&a, 0);
	ck_assert_msg(a.rc == RC_OK, "%s", a.err.message);
	ck_assert_str_eq(a.body.ptr, questions[_i].out);
	ck_assert_uint_eq(a.out.losses.count, 0);
	ask_clear(&a);
}
END_TEST

START_TEST(question_becomes_turns)
{
	const struct chat *chat;
	struct asked a;

	ask_read(&a,
		 ITEMS("{\"role\":\"user\",\"content\":\"go\"},"
		       "{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{\"type\":"
		       "\"summary_text\",\"text\":\"A\"},{\"type\":\"summary_text\",\"text\":"
		       "\"B\"}],\"encrypted_content\":\"ENC==\"},"
		       "{\"type\":\"message\",\"role\":\"assistant\",\"content\":\"on it\"},"
		       "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\","
		       "\"arguments\":\"{}\"},"
		       "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"g\","
		       "\"arguments\":\"{}\"},"
		       "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"1\"},"
		       "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":\"2\"},"
		       "{\"role\":\"assistant\",\"content\":\"one\"},"
		       "{\"role\":\"assistant\",\"content\":\"two\"}") "}");
	ck_assert_int_eq(a.rc, RC_OK);
	chat = &a.ask.chat;
	ck_assert_uint_eq(chat->turns_count, 5);
	ck_assert_int_eq(chat->turns[1].role, CHAT_ASSISTANT);
	ck_assert_uint_eq(chat->turns[1].parts_count, 4);
	ck_assert_int_eq(chat->turns[1].parts[0].type, CHAT_REASONING);
	ck_assert(str_is(chat->turns[1].parts[0].text, "A\n\nB"));
	ck_assert(str_is(chat->turns[1].parts[0].opaque.value, "rs_1|ENC=="));
	ck_assert(str_is(chat->turns[1].parts[0].opaque.dialect, "openai_responses"));
	ck_assert_uint_eq(chat->turns[1].parts[0].opaque.provider.len, 0);
	ck_assert_int_eq(chat->turns[2].role, CHAT_USER);
	ck_assert_uint_eq(chat->turns[2].parts_count, 2);
	ck_assert(str_is(chat->turns[2].parts[1].name, "g"));
	ck_assert_uint_eq(chat->turns[4].parts_count, 1);
	ask_clear(&a);
}
END_TEST

static const struct {
	const char *body, *field;
} senseless[] = {
	{ITEMS("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{\"}") "}",
	 "input[0].arguments"},
	{ITEMS("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"7\"}") "}",
	 "input[0].arguments"},
	{ITEMS("{\"type\":\"function_call\",\"call_id\":\"c\",\"arguments\":\"{}\"}") "}",
	 "input[0].name"},
	{ITEMS("{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"{}\"}") "}",
	 "input[0].call_id"},
	{OUTPUT("\"x\"") "}", "input"},
	{ITEMS("{\"role\":\"robot\",\"content\":\"x\"}") "}", "input[0].role"},
	{PARTS("{\"type\":\"input_image\"}") "}", "input[0].content"},
	{PARTS("{\"type\":\"input_file\"}") "}", "input[0].content"},
	{OK ",\"temperature\":\"1\"}", "temperature"},
	{OK ",\"reasoning\":7}", "reasoning"},
	{OK ",\"reasoning\":{\"effort\":\"heroic\"}}", "reasoning.effort"},
	{OK ",\"tool_choice\":\"maybe\"}", "tool_choice"},
	{OK ",\"tools\":[{\"type\":\"function\"}]}", "tools"},
	{OK ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"s\"}}}",
	 "text.format.schema"},
};

START_TEST(senseless_question_is_refused)
{
	struct asked a;

	ask_read(&a, senseless[_i].body);
	ck_assert_int_eq(a.rc, RC_INVALID);
	ck_assert_str_eq(a.err.field, senseless[_i].field);
	ask_clear(&a);
}
END_TEST

/* What only OpenAI runs or keeps: no other dialect is asked without it. */
static const struct {
	const char *body, *need;
} only_here[] = {
	{OK ",\"previous_response_id\":\"resp_1\"}", "previous_response_id"},
	{OK ",\"conversation\":\"conv_1\"}", "conversation"},
	{OK ",\"prompt\":{\"id\":\"p\"}}", "prompt"},
	{OK ",\"tools\":[{\"type\":\"web_search\"}]}", "tools[0].web_search"},
	{OK ",\"tools\":[{\"type\":\"mcp\",\"server_label\":\"x\"}]}", "tools[0].mcp"},
	{OK ",\"tool_choice\":{\"type\":\"web_search\"}}", "tool_choice"},
	{OK ",\"top_logprobs\":3}", "top_logprobs"},
	{OK ",\"include\":[\"message.output_text.logprobs\"]}", "include"},
	{ITEMS("{\"type\":\"item_reference\",\"id\":\"x\"}") "}", "input[0].item_reference"},
	{PARTS("{\"type\":\"input_file\",\"file_id\":\"f\"}") "}", "input[0].content[0].file_id"},
	{PARTS("{\"type\":\"hologram\"}") "}", "input[0].content[0]"},
};

START_TEST(what_only_openai_has_is_needed)
{
	struct asked a;

	ask_read(&a, only_here[_i].body);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_uint_eq(a.ask.chat.needs_count, 1);
	ck_assert_msg(str_is(a.ask.chat.needs[0], only_here[_i].need), "%.*s",
		      STR_FMT(a.ask.chat.needs[0]));
	ask_write(&a, 0);
	ck_assert_int_eq(a.rc, RC_UNSUPPORTED);
	ck_assert_str_eq(a.err.field, only_here[_i].need);
	ck_assert_uint_eq(a.body.len, 0);
	ask_clear(&a);
}
END_TEST

START_TEST(hints_are_named)
{
	static const char *const want[] = {"reasoning.mode", "include", "store", "truncation",
					   "newfangled"};
	struct asked a;

	ask_read(&a, OK ",\"reasoning\":{\"mode\":\"pro\"},\"include\":[\"file_search_call."
			"results\"],\"store\":true,\"truncation\":\"auto\",\"newfangled\":1,"
			"\"max_tool_calls\":null,\"stream\":false}");
	ask_write(&a, 0);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_uint_eq(a.out.losses.count, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		ck_assert_msg(str_is(a.out.losses.name[i], want[i]), "%.*s",
			      STR_FMT(a.out.losses.name[i]));
	ask_clear(&a);
}
END_TEST

/* A question of another dialect, that has more words than this one. */
START_TEST(what_has_no_words_here)
{
	static const char *const want[] = {
		"cache_control", "reasoning",	     "thinking",	 "top_k",
		"seed",		 "presence_penalty", "frequency_penalty"};
	struct chat_part parts[] = {
		{.type = CHAT_TEXT, .text = STR("hi"), .cache = CHAT_CACHE_5M},
		{.type = CHAT_REASONING, .text = STR("hm")},
	};
	struct chat_turn turns[] = {{.role = CHAT_USER, .parts = parts, .parts_count = 1},
				    {.role = CHAT_ASSISTANT, .parts = parts + 1, .parts_count = 1}};
	struct asked a;
	struct json *one;

	ask_read(&a, OK "}");
	ck_assert_int_eq(json_parse(STR("1"), JSON_NO_DUPLICATES, a.mem, &one, NULL), RC_OK);
	a.ask.chat.turns = turns;
	a.ask.chat.turns_count = 2;
	a.ask.chat.top_k = a.ask.chat.seed = one;
	a.ask.chat.presence_penalty = a.ask.chat.frequency_penalty = one;
	a.ask.chat.reasoning_tokens = 0;
	ask_write(&a, 55);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_str_eq(
		a.body.ptr,
		"{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\","
		"\"content\":[{\"type\":\"input_text\",\"text\":\"hi\"}]}],\"store\":false,"
		"\"max_output_tokens\":55}");
	ck_assert_uint_eq(a.out.losses.count, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		ck_assert(str_is(a.out.losses.name[i], want[i]));
	ask_clear(&a);
}
END_TEST

START_TEST(what_cannot_be_said_is_refused)
{
	static const char *const fields[] = {"n",    "logprobs", "logit_bias",
					     "stop", "tools",	 "input_audio"};
	struct chat_tool tool = {.kind = CHAT_TOOL_CUSTOM, .name = STR("x")};
	struct str stop = STR("END");
	struct asked a;

	ask_read(&a, OK "}");
	switch (_i) {
	case 0:
		a.call.choices = 2;
		break;
	case 1:
		a.ask.chat.logprobs = a.call.body;
		break;
	case 2:
		a.ask.chat.logit_bias = a.call.body;
		break;
	case 3:
		a.ask.chat.stop = &stop;
		a.ask.chat.stop_count = 1;
		break;
	case 4:
		a.ask.chat.tools = &tool;
		a.ask.chat.tools_count = 1;
		break;
	default:
		a.ask.chat.turns[0].parts[0].type = CHAT_AUDIO;
	}
	ask_write(&a, 0);
	ck_assert_int_eq(a.rc, RC_UNSUPPORTED);
	ck_assert_str_eq(a.err.field, fields[_i]);
	ask_clear(&a);
}
END_TEST

/* --- answers read -------------------------------------------------------------------------------------- */

struct play { /* a recorded stream, read and passed through */
	struct dialect_ctx ctx;
	struct dialect_target target;
	struct call call;
	struct usage usage;
	enum error_class error;
	struct err err;
	struct buf out, trace;
	bool terminal, ending, protocol, content;
	int finished;
	int64_t text_bytes;
	enum chat_delta_type last;
	char model[64], state[64];
	const struct dialect *writer; /* NULL: nothing is written */
};

static void trace_add(struct play *p, const struct chat_delta *x)
{
	static const char *const names[] = {"text",	 "think",    "/think", "refusal", "call",
					    "arguments", "citation", "media",  "finish"};
	const bool goes_on = p->trace.len > 0 && p->last == x->type &&
			     x->type <= CHAT_DELTA_REFUSAL && x->type != CHAT_DELTA_REASONING_END;

	if (!goes_on)
		ck_assert_int_eq(
			buf_printf(&p->trace, "%s%s:", p->trace.len ? " " : "", names[x->type]),
			RC_OK);
	p->last = x->type;
	if (x->type == CHAT_DELTA_TOOL_CALL)
		ck_assert_int_eq(buf_printf(&p->trace, "%d,%.*s,%.*s", (int)x->index,
					    STR_FMT(x->id), STR_FMT(x->name)),
				 RC_OK);
	else if (x->type == CHAT_DELTA_TOOL_ARGUMENTS)
		ck_assert_int_eq(buf_printf(&p->trace, "%d,%.*s", (int)x->index, STR_FMT(x->text)),
				 RC_OK);
	else if (x->type == CHAT_DELTA_REASONING_END)
		ck_assert_int_eq(buf_printf(&p->trace, "%.*s", STR_FMT(x->opaque.value)), RC_OK);
	else if (x->type == CHAT_DELTA_CITATION)
		ck_assert_int_eq(buf_printf(&p->trace, "%.*s,%.*s", STR_FMT(x->media.url),
					    STR_FMT(x->media.name)),
				 RC_OK);
	else if (x->type == CHAT_DELTA_FINISH)
		ck_assert_int_eq(buf_printf(&p->trace, "%d", (int)x->finish), RC_OK);
	else
		ck_assert_int_eq(buf_printf(&p->trace, "%.*s", STR_FMT(x->text)), RC_OK);
}

static void facts_take(struct play *p, const struct facts *f)
{
	if (f->usage.present)
		p->usage = f->usage;
	if (f->error != ERROR_none) {
		p->error = f->error;
		p->err = f->err;
	}
	p->terminal |= f->terminal;
	p->ending |= f->ending;
	p->content |= f->content;
	p->finished += f->finished;
	p->text_bytes += f->text_bytes;
	if (f->model.len)
		snprintf(p->model, sizeof p->model, "%.*s", STR_FMT(f->model));
	if (f->state_id.len)
		ck_assert_str_eq(f->state_kind, "response");
	if (f->state_id.len)
		snprintf(p->state, sizeof p->state, "%.*s", STR_FMT(f->state_id));
	for (size_t i = 0; i < f->deltas_count; i++)
		trace_add(p, &f->deltas[i]);
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f = {.usage = USAGE_NONE};

	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
		return true;
	}
	facts_take(p, &f);
	if (!p->ctx.translate)
		ck_assert_int_eq(d->encode_event(&p->ctx, ev, &f, &p->out), RC_OK);
	else if (p->writer && f.error == ERROR_none)
		ck_assert_int_eq(p->writer->encode_deltas(&p->ctx, &f, &p->out), RC_OK);
	return true;
}

static void play_begin(struct play *p, bool translate, const struct dialect *writer)
{
	*p = (struct play){.usage = USAGE_NONE, .writer = writer};
	p->target = target_of("gpt-x", 0);
	p->ctx = (struct dialect_ctx){.mem = arena_new(ARENA_BYTES),
				      .call = &p->call,
				      .target = &p->target,
				      .id = STR("018f-1"),
				      .created_s = 1770000000,
				      .translate = translate};
	p->ctx.keep = p->ctx.mem;
	p->call.choices = 1;
	p->call.keeps_state = true;
	buf_init(&p->out, OUT_BYTES);
	buf_init(&p->trace, TRACE_BYTES);
}

static void play_stream(struct play *p, struct str wire, bool translate,
			const struct dialect *writer, size_t step)
{
	struct sse s;

	play_begin(p, translate, writer);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += step)
		ck_assert_int_eq(sse_feed(&s, str_slice(wire, at, at + step), on_event, p), RC_OK);
	sse_clear(&s);
}

static void play_clear(struct play *p)
{
	arena_free(p->ctx.mem);
	buf_clear(&p->out);
	buf_clear(&p->trace);
}

static const struct {
	const char *name, *trace, *state, *tier;
	enum error_class error;
	int64_t text_bytes;
	int64_t in_text, cached, written, out_text, reasoning, searches;
} streams[] = {
	{"responses-text-and-call.sse",
	 "text:Riga. call:0,call_e1,list_ferries arguments:0,{\"day\":\"Mon\"} finish:3",
	 "resp_ex1", "", ERROR_none, 30, 40, 128, 32, 25, 0, 0},
	{"responses-reasoning-parallel.sse",
	 "think:Two ports.\n\nBoth Monday. /think:rs_2|ENC== call:0,call_a,list_ferries "
	 "call:1,call_b,list_ferries arguments:0,{\"from\": arguments:1,{\"from\":\"Tallinn\"} "
	 "arguments:0,\"Riga\"} finish:3",
	 "resp_ex2", "priority", ERROR_none, 81, 150, 100, 50, 30, 60, 0},
	{"responses-done-only.sse", "text:Quay 4 [1]. citation:https://example.com/p,Port finish:1",
	 "resp_ex2", "", ERROR_none, 11, 150, 100, 50, 30, 60, 1},
	{"responses-refusal-incomplete.sse", "refusal:I cannot. finish:2", "", "", ERROR_none, 9,
	 150, 100, 50, 30, 60, 0},
	{"responses-failed.sse", "text:Quay", "resp_ex2", "", ERROR_rate_limit, 4, 0, 0, 0, 0, 0,
	 0},
};

static void check_stream(const struct play *p, size_t i)
{
	const int64_t *n = p->usage.n;

	ck_assert(!p->protocol && p->terminal && p->ending && p->content);
	ck_assert_str_eq(error_class_name(p->error), error_class_name(streams[i].error));
	ck_assert_int_eq(p->finished, streams[i].error == ERROR_none);
	ck_assert_int_eq(p->text_bytes, streams[i].text_bytes);
	ck_assert_int_eq(p->usage.present, streams[i].error == ERROR_none);
	ck_assert_uint_eq(p->usage.flags, 0);
	ck_assert_int_eq(n[USAGE_in_text], streams[i].in_text);
	ck_assert_int_eq(n[USAGE_in_cached_read], streams[i].cached);
	ck_assert_int_eq(n[USAGE_in_cache_write_5m], streams[i].written);
	ck_assert_int_eq(n[USAGE_out_text], streams[i].out_text);
	ck_assert_int_eq(n[USAGE_out_reasoning], streams[i].reasoning);
	ck_assert_int_eq(n[USAGE_searches], streams[i].searches);
	ck_assert_str_eq(p->usage.service_tier, streams[i].tier);
	ck_assert_str_eq(p->state, streams[i].state);
	if (p->ctx.translate)
		ck_assert_str_eq(p->trace.ptr, streams[i].trace);
}

START_TEST(recorded_stream)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct play p;

	for (size_t step = 1; step <= wire.len; step += step < 200 ? 1 : wire.len) {
		play_stream(&p, buf_str(&wire), true, NULL, step);
		check_stream(&p, (size_t)_i);
		play_clear(&p);
	}
	play_stream(&p, buf_str(&wire), false, NULL, wire.len);
	check_stream(&p, (size_t)_i);
	if (streams[_i].error == ERROR_none) {
		ck_assert_str_eq(p.out.ptr, wire.ptr); /* the very same bytes */
	} else {
		ck_assert_ptr_null(strstr(p.out.ptr, "Abc123")); /* not in their words */
		ck_assert_ptr_nonnull(strstr(p.out.ptr, "event: error\n"));
	}
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

/* Cut behind each event but the last: never whole, and never a usage. */
START_TEST(truncated_stream)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct str all = buf_str(&wire);
	struct play p;

	for (size_t at = 0; at + 2 < all.len; at++) {
		if (all.ptr[at] != '\n' || all.ptr[at + 1] != '\n')
			continue;
		play_stream(&p, str_slice(all, 0, at + 2), true, d, 4096);
		ck_assert(!p.terminal && !p.ending && !p.usage.present && p.finished == 0);
		ck_assert_int_eq(p.error, ERROR_none);
		play_clear(&p);
	}
	buf_clear(&wire);
}
END_TEST

static const struct {
	const char *data;
	enum rc rc;
	const char *trace;
	bool content, terminal;
	enum error_class error;
} events[] = {
	{"{", RC_PROTOCOL, "", false, false, ERROR_none},
	{"[]", RC_PROTOCOL, "", false, false, ERROR_none},
	{"{}", RC_OK, "", false, false, ERROR_none},
	{"[DONE]", RC_OK, "", false, false, ERROR_none},
	{"{\"type\":\"response.brand_new\",\"x\":1}", RC_OK, "", false, false, ERROR_none},
	{"{\"type\":\"response.brand_new.delta\",\"delta\":\"x\"}", RC_OK, "", true, false,
	 ERROR_none},
	{"{\"type\":\"response.output_text.delta\",\"output_index\":-1,\"delta\":\"x\"}", RC_OK, "",
	 false, false, ERROR_none},
	{"{\"type\":\"response.output_text.delta\",\"output_index\":999999999,\"delta\":\"x\"}",
	 RC_OK, "", false, false, ERROR_none},
	{"{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}", RC_OK, "text:x", true, false,
	 ERROR_none},
	{"{\"type\":\"response.output_text.delta\",\"delta\":7}", RC_OK, "", false, false,
	 ERROR_none},
	{"{\"type\":\"response.reasoning_text.delta\",\"delta\":\"x\"}", RC_OK, "think:x", true,
	 false, ERROR_none},
	{"{\"type\":\"response.audio.delta\",\"delta\":\"AAAA\"}", RC_OK, "", true, false,
	 ERROR_none},
	{"{\"type\":\"response.completed\",\"response\":{}}", RC_OK, "finish:1", false, true,
	 ERROR_none},
	{"{\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"custom_tool_"
	 "call\",\"call_id\":\"c\",\"name\":\"patch\",\"input\":\"*** x\"}]}}",
	 RC_OK, "call:0,c,patch arguments:0,*** x finish:3", true, true, ERROR_none},
	{"{\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"reasoning\","
	 "\"id\":\"rs_1\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":\"hm\"}]"
	 "},{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"x\"}]}]}}",
	 RC_OK, "think:hm /think: text:x finish:1", true, true, ERROR_none},
	{"{\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_"
	 "details\":{\"reason\":\"content_filter\"}}}",
	 RC_OK, "finish:4", false, true, ERROR_none},
	{"{\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":null}}",
	 RC_OK, "", false, true, ERROR_server_error},
	{"{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"invalid_prompt\","
	 "\"message\":\"no\"}}}",
	 RC_OK, "", false, true, ERROR_content_policy},
	{"{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"image_too_small\","
	 "\"message\":\"no\"}}}",
	 RC_OK, "", false, true, ERROR_invalid_request},
	{"{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"slow\",\"param\":null,"
	 "\"sequence_number\":3}",
	 RC_OK, "", false, true, ERROR_rate_limit},
	{"{\"type\":\"error\",\"error\":{\"type\":\"insufficient_quota\",\"code\":\"insufficient_"
	 "quota\",\"message\":\"x\"}}",
	 RC_OK, "", false, true, ERROR_quota},
	{"{\"error\":{\"code\":\"server_is_overloaded\",\"message\":\"x\"}}", RC_OK, "", false,
	 true, ERROR_overloaded},
};

START_TEST(event_facts)
{
	struct str data = str_from(events[_i].data);
	struct sse_event ev = {.data = data, .raw = data};
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, true, NULL);
	ck_assert_int_eq(d->decode_event(&p.ctx, &ev, &f), events[_i].rc);
	if (events[_i].rc == RC_OK)
		facts_take(&p, &f);
	ck_assert_str_eq(p.trace.ptr ? p.trace.ptr : "", events[_i].trace);
	ck_assert_int_eq(f.content, events[_i].content);
	ck_assert_int_eq(f.terminal, events[_i].terminal);
	ck_assert_str_eq(error_class_name(f.error), error_class_name(events[_i].error));
	ck_assert_int_eq(p.ctx.saw_error, events[_i].error != ERROR_none);
	play_clear(&p);
}
END_TEST

/* The whole of `name`'s last event, as an answer that is not streamed. */
static struct str whole_of(const struct buf *wire)
{
	struct str rest = buf_str(wire), line = STR_NULL;
	ptrdiff_t end;

	for (struct str l = str_cut(&rest, '\n'); rest.ptr; l = str_cut(&rest, '\n'))
		if (str_starts(l, STR("data: ")))
			line = l;
	line = str_slice(line, (size_t)str_find_str(line, STR("\"response\":")) + 11, line.len);
	end = str_find_str(line, STR(",\"sequence_number\""));
	return str_slice(line, 0, end < 0 ? line.len - 1 : (size_t)end);
}

START_TEST(whole_answer)
{
	static const char *const traces[] = {
		"text:Riga. call:0,call_e1,list_ferries arguments:0,{\"day\":\"Mon\"} finish:3",
		"think:Two ports.\n\nBoth Monday. /think:rs_2|ENC== call:0,call_a,list_ferries "
		"arguments:0,{\"from\":\"Riga\"} call:1,call_b,list_ferries "
		"arguments:1,{\"from\":\"Tallinn\"} finish:3",
		"text:Quay 4 [1]. citation:https://example.com/p,Port finish:1",
		"refusal:I cannot. finish:2",
		"",
	};
	struct buf wire = fixture_read(streams[_i].name);
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, true, NULL);
	ck_assert_int_eq(d->decode_response(&p.ctx, whole_of(&wire), &f), RC_OK);
	facts_take(&p, &f);
	ck_assert_str_eq(p.trace.ptr ? p.trace.ptr : "", traces[_i]);
	ck_assert_int_eq(p.usage.n[USAGE_in_text], streams[_i].in_text);
	ck_assert_int_eq(p.usage.n[USAGE_searches], streams[_i].searches);
	ck_assert_str_eq(error_class_name(p.error), error_class_name(streams[_i].error));
	ck_assert(p.terminal);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

static const struct {
	const char *body;
	enum rc rc;
	enum error_class error;
} answers[] = {
	{"", RC_PROTOCOL, ERROR_none},
	{"[]", RC_PROTOCOL, ERROR_none},
	{"{}", RC_PROTOCOL, ERROR_none},
	{"<html>", RC_PROTOCOL, ERROR_none},
	{"{\"status\":\"queued\",\"output\":[]}", RC_PROTOCOL, ERROR_none},
	{"{\"status\":\"in_progress\",\"output\":[]}", RC_PROTOCOL, ERROR_none},
	{"{\"status\":\"completed\",\"output\":[]}", RC_OK, ERROR_none},
	{"{\"status\":\"failed\",\"output\":[],\"error\":{\"code\":\"server_error\",\"message\":"
	 "\"x\"}}",
	 RC_OK, ERROR_server_error},
	{"{\"status\":\"cancelled\",\"output\":[]}", RC_OK, ERROR_server_error},
	{"{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"x\"}}", RC_OK,
	 ERROR_context_length},
};

START_TEST(whole_answer_or_none)
{
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, true, NULL);
	ck_assert_int_eq(d->decode_response(&p.ctx, str_from(answers[_i].body), &f),
			 answers[_i].rc);
	if (answers[_i].rc == RC_OK)
		ck_assert_str_eq(error_class_name(f.error), error_class_name(answers[_i].error));
	play_clear(&p);
}
END_TEST

/* --- usage (ledger.md 4.2) ------------------------------------------------------------------------------- */

static struct usage usage_of(const char *json)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;
	struct usage u;

	ck_assert_int_eq(json_parse(str_from(json), JSON_ALLOW_DUPLICATES, mem, &root, NULL),
			 RC_OK);
	openai_usage_read_responses(root, &u);
	arena_free(mem);
	return u;
}

START_TEST(usage_input_includes_cached_and_written)
{
	struct usage u = usage_of("{\"input_tokens\":100,\"input_tokens_details\":{\"cached_"
				  "tokens\":70,\"cache_write_tokens\":20},\"output_tokens\":50,"
				  "\"output_tokens_details\":{\"reasoning_tokens\":45},"
				  "\"total_tokens\":150}");

	ck_assert_int_eq(u.n[USAGE_in_text], 10);
	ck_assert_int_eq(u.n[USAGE_in_cached_read], 70);
	ck_assert_int_eq(u.n[USAGE_in_cache_write_5m], 20);
	ck_assert_int_eq(u.n[USAGE_out_text], 5);
	ck_assert_int_eq(u.n[USAGE_out_reasoning], 45);
	ck_assert_uint_eq(u.flags, 0);
}
END_TEST

START_TEST(usage_that_makes_no_sense_is_flagged)
{
	struct usage u = usage_of("{\"input_tokens\":-5,\"output_tokens\":7}");

	ck_assert(u.present);
	ck_assert_int_eq(u.n[USAGE_in_text], 0);
	ck_assert(u.flags & USAGE_FLAG_CLAMPED);
	u = usage_of("{\"input_tokens\":5,\"input_tokens_details\":{\"cached_tokens\":9},"
		     "\"output_tokens\":7}");
	ck_assert(u.flags & USAGE_FLAG_INCONSISTENT);
	ck_assert_int_eq(usage_total_in(&u), 5);
	/* xAI's Responses count reasoning in, its chat beside: the totals tell */
	u = usage_of("{\"input_tokens\":5,\"output_tokens\":7,\"output_tokens_details\":{"
		     "\"reasoning_tokens\":4},\"total_tokens\":12}");
	ck_assert_int_eq(u.n[USAGE_out_text], 3);
}
END_TEST

START_TEST(usage_absent_is_not_zero)
{
	ck_assert(!usage_of("{}").present);
	ck_assert(!usage_of("null").present);
	/* the names of chat completions mean nothing here */
	ck_assert(!usage_of("{\"prompt_tokens\":5,\"completion_tokens\":6}").present);
}
END_TEST

START_TEST(usage_of_hosted_tools_is_counted_from_items)
{
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, false, NULL);
	ck_assert_int_eq(
		d->decode_response(
			&p.ctx,
			STR("{\"status\":\"completed\",\"output\":["
			    "{\"type\":\"web_search_call\",\"action\":{\"type\":\"search\"}},"
			    "{\"type\":\"web_search_call\",\"action\":{\"type\":\"find_in_page\"}},"
			    "{\"type\":\"web_search_call\"},"
			    "{\"type\":\"file_search_call\"},"
			    "{\"type\":\"code_interpreter_call\",\"container_id\":\"a\"},"
			    "{\"type\":\"code_interpreter_call\",\"container_id\":\"a\"},"
			    "{\"type\":\"code_interpreter_call\",\"container_id\":\"b\"}],"
			    "\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}"),
			&f),
		RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_searches], 2);
	ck_assert_int_eq(f.usage.n[USAGE_file_searches], 1);
	ck_assert_int_eq(f.usage.n[USAGE_code_sessions], 2);
	play_clear(&p);
}
END_TEST

/* --- answers written ------------------------------------------------------------------------------------- */

static const char *event_order =
	"response.created response.in_progress response.output_item.added "
	"response.content_part.added response.output_text.delta response.output_text.done "
	"response.content_part.done response.output_item.done response.output_item.added "
	"response.function_call_arguments.delta response.function_call_arguments.done "
	"response.output_item.done response.completed";

struct order {
	struct arena *mem;
	struct buf types;
	int64_t sequence;
};

static bool on_written(void *arg, const struct sse_event *ev)
{
	struct order *o = arg;
	struct json *root;
	struct str type;
	int64_t n;

	ck_assert_int_eq(json_parse(ev->data, JSON_NO_DUPLICATES, o->mem, &root, NULL), RC_OK);
	ck_assert(json_string(json_get(root, "type"), &type) && str_eq(type, ev->name));
	ck_assert(json_int(json_get(root, "sequence_number"), &n) && n == o->sequence++);
	ck_assert_int_eq(buf_printf(&o->types, "%s%.*s", o->types.len ? " " : "", STR_FMT(type)),
			 RC_OK);
	return true;
}

START_TEST(written_stream_has_openai_s_order)
{
	struct buf wire = fixture_read("responses-text-and-call.sse");
	struct order o = {.mem = arena_new(ARENA_BYTES), .types = BUF_INIT(TRACE_BYTES)};
	struct play p;
	struct sse s;

	play_stream(&p, buf_str(&wire), true, d, wire.len);
	ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, buf_str(&p.out), on_written, &o), RC_OK);
	ck_assert(!sse_end(&s));
	ck_assert_str_eq(o.types.ptr, event_order);
	ck_assert_ptr_null(strstr(p.out.ptr, "[DONE]"));
	sse_clear(&s);
	buf_clear(&o.types);
	arena_free(o.mem);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

START_TEST(written_answer_word_for_word)
{
	struct buf wire = fixture_read("responses-text-and-call.sse");
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, true, NULL);
	ck_assert_int_eq(d->decode_response(&p.ctx, whole_of(&wire), &f), RC_OK);
	ck_assert_int_eq(d->encode_response(&p.ctx, &f, &p.out), RC_OK);
	ck_assert_str_eq(
		p.out.ptr,
		"{\"id\":\"resp_018f-1\",\"object\":\"response\",\"created_at\":1770000000,"
		"\"status\":\"completed\",\"background\":false,\"error\":null,\"incomplete_details\":"
		"null,\"model\":\"gpt-5.4-mini\",\"output\":[{\"id\":\"msg_018f-1_0\",\"type\":"
		"\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":"
		"\"output_text\",\"text\":\"Riga.\",\"annotations\":[],\"logprobs\":[]}]},{\"id\":"
		"\"fc_018f-1_1\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":"
		"\"call_e1\",\"name\":\"list_ferries\",\"arguments\":\"{\\\"day\\\":\\\"Mon\\\"}\"}]"
		",\"instructions\":null,\"tools\":[],\"max_output_tokens\":null,\"metadata\":{},"
		"\"parallel_tool_calls\":true,\"reasoning\":{\"effort\":null,\"summary\":null},"
		"\"temperature\":null,\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":"
		"\"auto\",\"top_p\":null,\"truncation\":\"disabled\",\"previous_response_id\":null,"
		"\"store\":false,\"usage\":{\"input_tokens\":200,\"input_tokens_details\":{\"cached_"
		"tokens\":128,\"cache_write_tokens\":32},\"output_tokens\":25,\"output_tokens_"
		"details\":{\"reasoning_tokens\":0},\"total_tokens\":225}}");
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

/* What is written reads as what was said: in a stream, in its last event alone, and as a whole answer. */
START_TEST(written_answer_reads_the_same)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct play p, back;
	struct facts f = {.usage = USAGE_NONE};

	play_stream(&p, buf_str(&wire), true, d, wire.len);
	ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
	play_stream(&back, buf_str(&p.out), true, NULL, 7);
	ck_assert(back.terminal && !back.protocol && back.error == ERROR_none);
	ck_assert_int_eq(back.text_bytes, p.text_bytes);
	ck_assert_int_eq(usage_total_in(&back.usage), usage_total_in(&p.usage));
	ck_assert_int_eq(usage_total_out(&back.usage), usage_total_out(&p.usage));
	ck_assert_str_eq(back.state, ""); /* kept nowhere */
	if (!strstr(p.trace.ptr, "/think"))
		ck_assert_str_eq(back.trace.ptr, p.trace.ptr);
	play_clear(&back);

	play_begin(&back, true, NULL);
	ck_assert_int_eq(d->decode_response(&back.ctx, whole_of(&p.out), &f), RC_OK);
	facts_take(&back, &f);
	ck_assert_int_eq(back.text_bytes, p.text_bytes);
	play_clear(&back);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

static void deltas_seal(struct facts *f, struct arena *mem)
{
	struct chat_delta *x;

	chat_delta_add(mem, f, CHAT_DELTA_REASONING)->text = STR("hm");
	x = chat_delta_add(mem, f, CHAT_DELTA_REASONING_END);
	x->opaque = (struct chat_opaque){.value = STR("SIG1"), .dialect = STR("other")};
	x = chat_delta_add(mem, f, CHAT_DELTA_TEXT);
	x->text = STR("see");
	x->opaque = (struct chat_opaque){.value = STR("SIG2"), .dialect = STR("other")};
	x = chat_delta_add(mem, f, CHAT_DELTA_TOOL_CALL);
	x->id = STR("c1");
	x->name = STR("f");
	x->opaque = (struct chat_opaque){.value = STR("SIG3"), .dialect = STR("other")};
	x = chat_delta_add(mem, f, CHAT_DELTA_TOOL_CALL);
	x->index = 1;
	x->id = STR("c2");
	x->name = STR("g");
	chat_delta_add(mem, f, CHAT_DELTA_FINISH)->finish = FINISH_TOOL_CALLS;
}

/* Another dialect's seals go out in reasoning items, and come back to the parts they belong to. */
START_TEST(seals_come_back_to_their_parts)
{
	struct facts f = {.usage = USAGE_NONE};
	struct buf body = BUF_INIT(OUT_BYTES);
	const struct chat_part *parts;
	struct json *answer;
	struct asked a;
	struct play p;

	play_begin(&p, true, NULL);
	deltas_seal(&f, p.ctx.mem);
	ck_assert_int_eq(d->encode_response(&p.ctx, &f, &p.out), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&p.out), JSON_NO_DUPLICATES, p.ctx.mem, &answer, NULL),
			 RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("{\"model\":\"m\",\"input\":")), RC_OK);
	ck_assert_int_eq(json_write(json_get(answer, "output"), &body), RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("}")), RC_OK);

	ask_read(&a, body.ptr);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_uint_eq(a.ask.chat.turns_count, 1);
	ck_assert_uint_eq(a.ask.chat.turns[0].parts_count, 4);
	parts = a.ask.chat.turns[0].parts;
	ck_assert(str_is(parts[0].text, "hm") && str_is(parts[0].opaque.value, "SIG1"));
	ck_assert(str_is(parts[0].opaque.provider, "openai"));
	ck_assert(str_is(parts[0].opaque.model, "gpt-x"));
	ck_assert(str_is(parts[0].opaque.dialect, "other"));
	ck_assert(str_is(parts[1].text, "see") && str_is(parts[1].opaque.value, "SIG2"));
	ck_assert(str_is(parts[2].name, "f") && str_is(parts[2].opaque.value, "SIG3"));
	ck_assert(str_is(parts[2].arguments, "{}"));
	ck_assert_ptr_null(parts[3].opaque.value.ptr);
	/* nobody else gets them: not in translation, not in passing through */
	ask_write(&a, 0);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_ptr_null(strstr(a.body.ptr, "encrypted_content"));
	buf_reset(&a.body);
	ck_assert_int_eq(d->encode_request(&a.call, &p.target, a.mem, &a.out, &a.err), RC_OK);
	ck_assert_ptr_null(strstr(a.body.ptr, CHAT_OPAQUE_MARK));
	ck_assert_ptr_nonnull(strstr(a.body.ptr, "\"see\""));
	ask_clear(&a);
	buf_clear(&body);
	play_clear(&p);
}
END_TEST

/* Our own kind of seal, kept by a caller of another dialect, goes back to who made it as it was. */
START_TEST(own_seal_goes_back_to_its_maker)
{
	struct chat_part part = {.type = CHAT_REASONING,
				 .text = STR("hm"),
				 .opaque = {.value = STR("rs_7|ENC=="),
					    .dialect = STR("openai_responses"),
					    .provider = STR("openai"),
					    .model = STR("n")}};
	struct chat_turn turn = {.role = CHAT_ASSISTANT, .parts = &part, .parts_count = 1};
	struct asked a;

	ask_read(&a, OK "}");
	a.ask.chat.turns = &turn;
	a.ask.chat.turns_count = 1;
	ask_write(&a, 0);
	ck_assert_str_eq(a.body.ptr,
			 "{\"model\":\"n\",\"input\":[{\"type\":\"reasoning\",\"id\":\"rs_7\","
			 "\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm\"}],\"encrypted_"
			 "content\":\"ENC==\"}],\"include\":[\"reasoning.encrypted_content\"],"
			 "\"store\":false}");
	buf_reset(&a.body);
	part.opaque.model = STR("gpt-other");
	ask_write(&a, 0);
	ck_assert_ptr_null(strstr(a.body.ptr, "ENC"));
	ask_clear(&a);
}
END_TEST

static const struct {
	enum finish finish;
	const char *status, *reason;
} finishes[] = {
	{FINISH_STOP, "\"status\":\"completed\"", "\"incomplete_details\":null"},
	{FINISH_LENGTH, "\"status\":\"incomplete\"", "{\"reason\":\"max_output_tokens\"}"},
	{FINISH_CONTENT_FILTER, "\"status\":\"incomplete\"", "{\"reason\":\"content_filter\"}"},
	{FINISH_PAUSE, "\"status\":\"incomplete\"", "{\"reason\":\"pause_turn\"}"},
	{FINISH_OTHER, "\"status\":\"completed\"", "\"incomplete_details\":null"},
};

START_TEST(finish_is_a_status)
{
	const struct usage none = USAGE_NONE;
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, true, NULL);
	chat_delta_add(p.ctx.mem, &f, CHAT_DELTA_TEXT)->text = STR("x");
	chat_delta_add(p.ctx.mem, &f, CHAT_DELTA_FINISH)->finish = finishes[_i].finish;
	ck_assert_int_eq(d->encode_deltas(&p.ctx, &f, &p.out), RC_OK);
	ck_assert_int_eq(d->encode_end(&p.ctx, &none, &p.out), RC_OK);
	ck_assert_ptr_nonnull(strstr(p.out.ptr, finishes[_i].status));
	ck_assert_ptr_nonnull(strstr(p.out.ptr, finishes[_i].reason));
	ck_assert_ptr_nonnull(strstr(p.out.ptr, "\"usage\":null"));
	play_clear(&p);
}
END_TEST

/* An answer with nothing in it is still a whole stream. */
START_TEST(empty_answer_is_a_whole_stream)
{
	const struct usage none = USAGE_NONE;
	struct play p, back;

	play_begin(&p, true, NULL);
	ck_assert_int_eq(d->encode_end(&p.ctx, &none, &p.out), RC_OK);
	play_stream(&back, buf_str(&p.out), true, NULL, 64);
	ck_assert(back.terminal);
	ck_assert_str_eq(back.model, "gpt-x");
	play_clear(&back);
	play_clear(&p);
}
END_TEST

START_TEST(error_event_is_flat_and_nested)
{
	struct buf out = BUF_INIT(OUT_BYTES), small = BUF_INIT(40);
	struct err e = {0};

	(void)err_set(&e, RC_NETWORK, "all_targets_failed", "It \"broke\".");
	ck_assert_int_eq(d->encode_error_event(&e, STR("{\"code\":\"x\"}"), &out), RC_OK);
	ck_assert_str_eq(out.ptr,
			 "event: error\ndata: {\"type\":\"error\",\"code\":\"all_targets_failed\","
			 "\"message\":\"It \\\"broke\\\".\",\"param\":null,\"sequence_number\":"
			 "2147483647,\"error\":{\"message\":\"It \\\"broke\\\".\",\"type\":"
			 "\"server_error\",\"param\":null,\"code\":\"all_targets_failed\"},"
			 "\"tollgate\":{\"code\":\"x\"}}\n\n");
	ck_assert_int_eq(d->encode_error_event(&e, STR_NULL, &small), RC_TOO_LARGE);
	ck_assert_uint_eq(small.len, 0);
	buf_clear(&small);
	buf_clear(&out);
}
END_TEST

/* --- a count of the input ----------------------------------------------------------------------------------- */

START_TEST(input_is_counted)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct dialect_target t = target_of("n", 100);
	struct buf out = BUF_INIT(OUT_BYTES);
	struct outgoing to = {.body = &out};
	struct dialect_ctx ctx = {.mem = mem, .keep = mem};
	struct facts f = {.usage = USAGE_NONE};
	struct err err = {0};
	struct ask ask;
	struct call c;

	ck_assert_int_eq(counter->decode_request(&no_head,
						 STR(OK ",\"reasoning\":{\"effort\":"
							"\"low\"}}"),
						 mem, &c, &err),
			 RC_OK);
	ck_assert_int_eq(c.operation, OPERATION_count_tokens);
	ck_assert_int_eq(counter->encode_request(&c, &t, mem, &to, &err), RC_OK);
	ck_assert_ptr_null(strstr(out.ptr, "max_output_tokens"));
	buf_reset(&out);
	ck_assert_int_eq(counter->decode_ask(&c, mem, &ask, &err), RC_OK);
	ck_assert_int_eq(counter->encode_ask(&c, &ask, &t, mem, &to, &err), RC_OK);
	ck_assert_str_eq(out.ptr,
			 "{\"model\":\"n\",\"input\":[{\"type\":\"message\",\"role\":\"user\","
			 "\"content\":[{\"type\":\"input_text\",\"text\":\"hi\"}]}],\"reasoning\":{"
			 "\"effort\":\"low\"}}");
	buf_reset(&out);
	ck_assert_int_eq(counter->decode_response(&ctx,
						  STR("{\"object\":\"response.input_tokens\","
						      "\"input_tokens\":11}"),
						  &f),
			 RC_OK);
	ck_assert_int_eq(f.counted, 11);
	ck_assert(!f.usage.present); /* it is free */
	ck_assert_int_eq(counter->encode_response(&ctx, &f, &out), RC_OK);
	ck_assert_str_eq(out.ptr, "{\"object\":\"response.input_tokens\",\"input_tokens\":11}");
	ck_assert_int_eq(counter->decode_response(&ctx, STR("{\"input_tokens\":-1}"), &f),
			 RC_PROTOCOL);
	ck_assert_int_eq(counter->decode_response(&ctx, STR("{}"), &f), RC_PROTOCOL);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_responses");
	TCase *tc = tcase_create("openai_responses");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, bad_request_is_refused, 0, ARRAY_LEN(bad_requests));
	tcase_add_test(tc, background_is_refused_by_its_own_code);
	tcase_add_loop_test(tc, good_request_is_read, 0, ARRAY_LEN(good_requests));
	tcase_add_test(tc, what_a_provider_keeps_is_named);
	tcase_add_test(tc, too_many_states_are_refused);
	tcase_add_loop_test(tc, request_passes_through, 0, ARRAY_LEN(encodings));
	tcase_add_loop_test(tc, question_both_ways, 0, ARRAY_LEN(questions));
	tcase_add_test(tc, question_becomes_turns);
	tcase_add_loop_test(tc, senseless_question_is_refused, 0, ARRAY_LEN(senseless));
	tcase_add_loop_test(tc, what_only_openai_has_is_needed, 0, ARRAY_LEN(only_here));
	tcase_add_test(tc, hints_are_named);
	tcase_add_test(tc, what_has_no_words_here);
	tcase_add_loop_test(tc, what_cannot_be_said_is_refused, 0, 6);
	tcase_add_loop_test(tc, recorded_stream, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(tc, truncated_stream, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(tc, event_facts, 0, ARRAY_LEN(events));
	tcase_add_loop_test(tc, whole_answer, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(tc, whole_answer_or_none, 0, ARRAY_LEN(answers));
	tcase_add_test(tc, usage_input_includes_cached_and_written);
	tcase_add_test(tc, usage_that_makes_no_sense_is_flagged);
	tcase_add_test(tc, usage_absent_is_not_zero);
	tcase_add_test(tc, usage_of_hosted_tools_is_counted_from_items);
	tcase_add_test(tc, written_stream_has_openai_s_order);
	tcase_add_test(tc, written_answer_word_for_word);
	tcase_add_loop_test(tc, written_answer_reads_the_same, 0, 4);
	tcase_add_test(tc, seals_come_back_to_their_parts);
	tcase_add_test(tc, own_seal_goes_back_to_its_maker);
	tcase_add_loop_test(tc, finish_is_a_status, 0, ARRAY_LEN(finishes));
	tcase_add_test(tc, empty_answer_is_a_whole_stream);
	tcase_add_test(tc, error_event_is_flat_and_nested);
	tcase_add_test(tc, input_is_counted);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
