/* test_anthropic_messages.c - the Messages API: requests in, the same bytes out, answers, usage, errors. */
#include "routing/dialect.h"
#include "routing/dialects/anthropic_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (32u << 20)
#define OUT_BYTES   (1u << 20)

static const struct dialect *const d = &dialect_anthropic_messages;
static const struct dialect *const counting = &dialect_anthropic_count_tokens;
static const struct call_head no_head;

/* --- requests in ---------------------------------------------------------------------------------- */

#define M  "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define OK "{\"model\":\"m\",\"max_tokens\":9," M
#define BLOCKS(b)                                                                                  \
	"{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[" b "]}]"
#define MESSAGES(m) "{\"model\":\"m\",\"max_tokens\":9,\"messages\":" m "}"

static const struct {
	const char *body;
	const char *field; /* "" for errors of the whole */
} bad_requests[] = {
	{"", ""},
	{"[]", ""},
	{"null", ""},
	{OK, ""},
	{OK "} x", ""},
	{OK ",\"a\":NaN}", ""},
	{OK ",\"model\":\"n\"}", ""},
	{OK ",\"max_tokens\":9}", ""},
	{"{\"max_tokens\":9," M "}", "model"},
	{"{\"model\":7,\"max_tokens\":9," M "}", "model"},
	{"{\"model\":\"\",\"max_tokens\":9," M "}", "model"},
	{"{\"model\":\"a b\",\"max_tokens\":9," M "}", "model"},
	{"{\"model\":\"a\\r\\nx: y\",\"max_tokens\":9," M "}", "model"},
	{"{\"model\":\"m\"," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":null," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":-1," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":\"9\"," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":9.5," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":1000000001," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":99999999999999999999," M "}", "max_tokens"},
	{"{\"model\":\"m\",\"max_tokens\":9}", "messages"},
	{MESSAGES("null"), "messages"},
	{MESSAGES("[]"), "messages"},
	{MESSAGES("\"hi\""), "messages"},
	{MESSAGES("[1]"), "messages"},
	{MESSAGES("[{}]"), "messages"},
	{MESSAGES("[{\"role\":\"user\"}]"), "messages"},
	{MESSAGES("[{\"role\":1,\"content\":\"x\"}]"), "messages"},
	{MESSAGES("[{\"role\":\"user\",\"content\":1}]"), "messages"},
	{MESSAGES("[{\"role\":\"user\",\"content\":{}}]"), "messages"},
	{BLOCKS("1") "}", "messages"},
	{BLOCKS("{}") "}", "messages"},
	{BLOCKS("{\"type\":\"text\"}") "}", "messages"},
	{BLOCKS("{\"type\":\"image\"}") "}", "messages"},
	{BLOCKS("{\"type\":\"image\",\"source\":{\"type\":\"file\"}}") "}", "messages"},
	{BLOCKS("{\"type\":\"container_upload\"}") "}", "messages"},
	{BLOCKS("{\"type\":\"tool_result\",\"content\":[{\"type\":\"image\"}]}") "}", "messages"},
	{OK ",\"system\":5}", "system"},
	{OK ",\"system\":[{\"type\":\"text\"}]}", "system"},
	{OK ",\"stream\":\"true\"}", "stream"},
	{OK ",\"stream\":1}", "stream"},
	{OK ",\"tools\":{}}", "tools"},
	{OK ",\"tools\":[1]}", "tools"},
	{OK ",\"output_config\":\"high\"}", "output_config"},
	{OK ",\"output_format\":7}", "output_format"},
	{OK ",\"container\":7}", "container"},
	{OK ",\"container\":\"\"}", "container"},
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
	ck_assert_msg(err.message[0] != '\0', "no words");
	ck_assert_str_eq(err.field, bad_requests[_i].field);
	ck_assert_int_eq(c.choices, 77); /* outputs only on success */
	arena_free(mem);
}
END_TEST

static const struct {
	const char *body;
	bool stream, media_by_url;
	int64_t max_output;
	uint32_t needs; /* beside text */
	int64_t media;
	size_t text;
	const char *state; /* kind:id, or NULL */
} good_requests[] = {
	{OK "}", .max_output = 9, .text = 2},
	/* 0 fills the cache alone: the smallest answer bounds it */
	{"{\"model\":\"m\",\"max_tokens\":0," M "}", .max_output = 1, .text = 2},
	{OK ",\"stream\":true}", .stream = true, .max_output = 9, .text = 2},
	{OK ",\"stream\":null,\"tools\":null,\"system\":null,\"container\":null}", .max_output = 9,
	 .text = 2},
	{OK ",\"system\":\"abc\"}", .max_output = 9, .text = 5},
	{OK ",\"system\":[{\"type\":\"text\",\"text\":\"abc\"}]}", .max_output = 9, .text = 5},
	{OK ",\"tools\":[]}", .max_output = 9, .text = 2},
	{OK ",\"tools\":[{\"name\":\"f\",\"input_schema\":{}}]}", .max_output = 9,
	 .needs = CAP_TOOLS, .text = 2},
	{OK ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}", .max_output = 9,
	 .needs = CAP_TOOLS, .text = 2},
	/* what a search brings is input that nobody can bound here */
	{OK ",\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]}",
	 .max_output = 9, .needs = CAP_TOOLS, .media_by_url = true, .text = 2},
	{OK ",\"output_config\":{\"effort\":\"high\"}}", .max_output = 9, .text = 2},
	{OK ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{}}}}",
	 .max_output = 9, .needs = CAP_JSON, .text = 2},
	{OK ",\"output_format\":{\"type\":\"json_schema\",\"schema\":{}}}", .max_output = 9,
	 .needs = CAP_JSON, .text = 2},
	{BLOCKS("{\"type\":\"text\",\"text\":\"hello\"}") "}", .max_output = 9, .text = 5},
	{BLOCKS("{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\","
		"\"data\":\"AA\"}}") "}",
	 .max_output = 9, .needs = CAP_VISION, .media = 50000},
	{BLOCKS("{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"https://x/y\"}}") "}",
	 .max_output = 9, .needs = CAP_VISION, .media_by_url = true},
	{BLOCKS("{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"file_1\"}}") "}",
	 .max_output = 9, .needs = CAP_VISION, .media_by_url = true, .state = "file:file_1"},
	{BLOCKS("{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":"
		"\"application/pdf\",\"data\":\"AA\"}}") "}",
	 .max_output = 9, .needs = CAP_VISION, .media_by_url = true},
	{BLOCKS("{\"type\":\"document\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\","
		"\"data\":\"abcd\"}}") "}",
	 .max_output = 9, .text = 4},
	{BLOCKS("{\"type\":\"document\",\"source\":{\"type\":\"content\",\"content\":[{\"type\":"
		"\"text\",\"text\":\"abc\"}]}}") "}",
	 .max_output = 9, .text = 3},
	{BLOCKS("{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":[{\"type\":\"text\","
		"\"text\":\"abc\"},{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"data\":\"\"}}"
		"]}") "}",
	 .max_output = 9, .needs = CAP_VISION, .media = 50000, .text = 3},
	{BLOCKS("{\"type\":\"brand_new\",\"x\":1}") "}", .max_output = 9},
	{OK ",\"container\":\"c_1\"}", .max_output = 9, .text = 2, .state = "container:c_1"},
	{OK ",\"container\":{\"id\":\"c_1\",\"skills\":[]}}", .max_output = 9, .text = 2,
	 .state = "container:c_1"},
	{OK ",\"container\":{\"skills\":[]}}", .max_output = 9, .text = 2},
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
	ck_assert_int_eq(c.media_by_url, good_requests[_i].media_by_url);
	ck_assert_int_eq(c.max_output, good_requests[_i].max_output);
	ck_assert_int_eq(c.choices, 1);
	ck_assert_uint_eq(c.needs, CAP_TEXT | good_requests[_i].needs);
	ck_assert_int_eq(c.media_tokens_max, good_requests[_i].media);
	ck_assert_uint_eq(c.text_bytes, good_requests[_i].text);
	ck_assert_uint_eq(c.body_bytes, body.len);
	ck_assert_uint_eq(c.states_count, good_requests[_i].state ? 1 : 0);
	if (good_requests[_i].state) {
		char got[64];

		snprintf(got, sizeof got, "%s:%.*s", c.states[0].kind, STR_FMT(c.states[0].id));
		ck_assert_str_eq(got, good_requests[_i].state);
	}
	arena_free(mem);
}
END_TEST

START_TEST(counting_needs_no_maximum)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(
		counting->decode_request(&no_head, STR("{\"model\":\"m\"," M "}"), mem, &c, &err),
		RC_OK);
	ck_assert_int_eq(c.operation, OPERATION_count_tokens);
	ck_assert_ptr_eq(c.dialect, counting);
	ck_assert_int_eq(c.max_output, 0);
	ck_assert(!c.stream);
	arena_free(mem);
}
END_TEST

START_TEST(too_many_files_are_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf body = BUF_INIT(OUT_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(buf_append(&body, STR(MESSAGES("[{\"role\":\"user\",\"content\":["))),
			 RC_OK);
	body.len--; /* the macro's brace */
	for (int i = 0; i < CALL_STATES_MAX + 1; i++)
		ck_assert_int_eq(buf_printf(&body,
					    "%s{\"type\":\"image\",\"source\":{\"type\":\"file\","
					    "\"file_id\":\"f%d\"}}",
					    i ? "," : "", i),
				 RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("]}]}")), RC_OK);
	ck_assert_int_eq(d->decode_request(&no_head, buf_str(&body), mem, &c, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "messages");
	buf_clear(&body);
	arena_free(mem);
}
END_TEST

/* --- requests out ----------------------------------------------------------------------------------- */

static struct str sealed(struct arena *mem, const char *dialect, const char *provider,
			 const char *value)
{
	const struct chat_opaque o = {.value = str_from(value),
				      .dialect = str_from(dialect),
				      .provider = str_from(provider),
				      .model = STR("m")};

	return chat_opaque_wrap(mem, &o);
}

/* What goes out for `body`, whose %s is `seal`, to model `model` at Anthropic. */
static void pass(struct arena *mem, const char *format, struct str seal, const char *model,
		 struct buf *out, struct chat_losses *losses)
{
	const struct dialect_target t = {.provider = provider_find(STR("anthropic")),
					 .dialect = d,
					 .model = str_from(model),
					 .max_output_cap = 77};
	struct outgoing o = {.body = out};
	struct buf body = BUF_INIT(OUT_BYTES);
	struct err err = {0};
	struct call c;

	for (const char *p = format; *p; p++) {
		if (*p == '%')
			ck_assert_int_eq(buf_append(&body, seal), RC_OK);
		else
			ck_assert_int_eq(buf_append_char(&body, *p), RC_OK);
	}
	ck_assert_msg(d->decode_request(&no_head, buf_str(&body), mem, &c, &err) == RC_OK, "%s",
		      err.message);
	c.body_text = arena_str(mem, c.body_text);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &o, &err), RC_OK);
	*losses = o.losses;
	buf_clear(&body);
}

static const struct {
	const char *body, *model;
	const char *want; /* NULL: the very same bytes */
} encodings[] = {
	{"{ \"model\" : \"m\",\"max_tokens\":9, " M "}", "m", NULL},
	{OK ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}", "m", NULL},
	{OK ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}", "n",
	 "{\"model\":\"n\",\"max_tokens\":9," M
	 ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}"},
	/* max_tokens stays, whatever cap there is; betas' fields survive */
	{"{\"model\":\"m\",\"max_tokens\":0,\"context_management\":{\"edits\":[{\"a\":[1,null]}]},"
	 "\"speed\":\"fast\"," M "}",
	 "claude-x",
	 "{\"model\":\"claude-x\",\"max_tokens\":0,\"context_management\":{\"edits\":[{\"a\":[1,null]"
	 "}]},\"speed\":\"fast\"," M "}"},
};

START_TEST(request_to_provider)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	struct chat_losses losses;

	pass(mem, encodings[_i].body, STR(""), encodings[_i].model, &out, &losses);
	ck_assert_str_eq(out.ptr, encodings[_i].want ? encodings[_i].want : encodings[_i].body);
	ck_assert_uint_eq(losses.count, 0);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

#define TURNS(a, after)                                                                            \
	"{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"   \
	"{\"role\":\"assistant\",\"content\":[" a "],\"x\":1.0}" after "]"
#define THOUGHT(sig) "{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"" sig "\"}"
#define USE	     "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{\"n\":1.50}}"
#define RESULT                                                                                     \
	",{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\"}]}"
#define GO_ON ",{\"role\":\"user\",\"content\":\"more\"}"

static const struct {
	const char *body; /* % is the seal */
	const char *want;
	const char *lost[2];
} strips[] = {
	/* its own signature passes as it came */
	{TURNS(THOUGHT("EqQB") "," USE, RESULT) "}",
	 TURNS(THOUGHT("EqQB") "," USE, RESULT) "}",
	 {0}},
	{TURNS(THOUGHT("%") "," USE, GO_ON) "}", TURNS(USE, GO_ON) "}", {"messages.thinking"}},
	{TURNS("{\"type\":\"redacted_thinking\",\"data\":\"%\"}," USE, GO_ON) "}",
	 TURNS(USE, GO_ON) "}",
	 {"messages.thinking"}},
	/* a turn that was nothing else goes whole */
	{TURNS(THOUGHT("%"), GO_ON) "}",
	 "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}" GO_ON
	 "]}",
	 {"messages.thinking"}},
	/* a budget of thinking would want that thought back; deciding for itself the model does not */
	{TURNS(THOUGHT("%") "," USE,
	       RESULT) ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
	 TURNS(USE, RESULT) ",\"thinking\":{\"type\":\"disabled\"}}",
	 {"messages.thinking", "thinking"}},
	{TURNS(THOUGHT("%") "," USE, RESULT) ",\"thinking\":{\"type\":\"adaptive\"}}",
	 TURNS(USE, RESULT) ",\"thinking\":{\"type\":\"adaptive\"}}",
	 {"messages.thinking"}},
	{TURNS(THOUGHT("%") "," USE,
	       RESULT GO_ON) ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
	 TURNS(USE, RESULT GO_ON) ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
	 {"messages.thinking"}},
	/* the mark in a text is a text */
	{TURNS("{\"type\":\"text\",\"text\":\"%\"}", GO_ON) "}",
	 TURNS("{\"type\":\"text\",\"text\":\"%\"}", GO_ON) "}",
	 {0}},
	/* a source that another provider found */
	{TURNS("{\"type\":\"text\",\"text\":\"a\",\"citations\":[{\"type\":\"w\",\"encrypted_index\":\"%\"}"
	       ",{\"type\":\"w\",\"encrypted_index\":\"own\"}]}",
	       GO_ON) "}",
	 TURNS("{\"type\":\"text\",\"text\":\"a\",\"citations\":[{\"type\":\"w\",\"encrypted_index\":\"own\"}]}",
	       GO_ON) "}",
	 {0}},
	{TURNS("{\"type\":\"text\",\"text\":\"a\",\"citations\":[{\"type\":\"w\",\"encrypted_index\":\"%\"}]}",
	       GO_ON) "}",
	 TURNS("{\"type\":\"text\",\"text\":\"a\"}", GO_ON) "}",
	 {0}},
};

START_TEST(state_of_others_does_not_pass)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	const struct str seal = sealed(mem, "gemini", "gemini", "sig");
	struct buf out = BUF_INIT(OUT_BYTES), want = BUF_INIT(OUT_BYTES);
	struct chat_losses losses;

	pass(mem, strips[_i].body, seal, "m", &out, &losses);
	for (const char *p = strips[_i].want; *p; p++)
		ck_assert_int_eq(*p == '%' ? buf_append(&want, seal) : buf_append_char(&want, *p),
				 RC_OK);
	ck_assert_str_eq(out.ptr, want.ptr);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(losses.count > i, strips[_i].lost[i] != NULL);
		if (losses.count > i)
			ck_assert(str_is(losses.name[i], strips[_i].lost[i]));
	}
	buf_clear(&want);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

START_TEST(own_state_in_our_wrapping_is_unwrapped)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	struct chat_losses losses;

	pass(mem, TURNS(THOUGHT("%"), GO_ON) "}",
	     sealed(mem, "anthropic_messages", "anthropic", "EqQB"), "m", &out, &losses);
	ck_assert_str_eq(out.ptr, TURNS(THOUGHT("EqQB"), GO_ON) "}");
	ck_assert_uint_eq(losses.count, 0);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

START_TEST(request_that_does_not_fit)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(10);
	struct outgoing o = {.body = &out};
	struct dialect_target t = {
		.provider = provider_find(STR("anthropic")), .dialect = d, .model = STR("n")};
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&no_head, STR(OK "}"), mem, &c, &err), RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &o, &err), RC_TOO_LARGE);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

/* --- streams ---------------------------------------------------------------------------------------- */

struct play { /* a recorded stream, decoded and passed through */
	struct dialect_ctx ctx;
	struct dialect_target to;
	struct call call;
	struct usage usage;
	struct err err;
	struct buf out, said; /* `said`: the deltas, one a line */
	enum error_class error;
	bool terminal, ending, content, protocol;
	int64_t text_bytes;
	enum finish finish;
	char model[64], id[64];
};

static void note(struct play *p, const struct chat_delta *x)
{
	static const char *const names[] = {"text", "reasoning", "end",	  "refusal", "call",
					    "args", "cite",	 "media", "finish"};

	ck_assert_int_eq(x->choice, 0);
	ck_assert_int_eq(buf_printf(&p->said, "%s", names[x->type]), RC_OK);
	if (x->type == CHAT_DELTA_TOOL_CALL || x->type == CHAT_DELTA_TOOL_ARGUMENTS)
		ck_assert_int_eq(buf_printf(&p->said, "%d", (int)x->index), RC_OK);
	if (x->id.len)
		ck_assert_int_eq(buf_printf(&p->said, " id=%.*s", STR_FMT(x->id)), RC_OK);
	if (x->name.len)
		ck_assert_int_eq(buf_printf(&p->said, " name=%.*s", STR_FMT(x->name)), RC_OK);
	if (x->opaque.value.len) {
		ck_assert(str_is(x->opaque.dialect, "anthropic_messages"));
		ck_assert_int_eq(buf_printf(&p->said, " seal=%.*s", STR_FMT(x->opaque.value)),
				 RC_OK);
	}
	if (x->media.url.len)
		ck_assert_int_eq(buf_printf(&p->said, " url=%.*s", STR_FMT(x->media.url)), RC_OK);
	if (x->type == CHAT_DELTA_FINISH)
		ck_assert_int_eq(buf_printf(&p->said, " %d", (int)x->finish), RC_OK);
	if (x->text.len)
		ck_assert_int_eq(buf_printf(&p->said, " %.*s", STR_FMT(x->text)), RC_OK);
	ck_assert_int_eq(buf_append_char(&p->said, '\n'), RC_OK);
}

static void take(struct play *p, const struct facts *f)
{
	if (f->usage.present)
		p->usage = f->usage;
	if (f->error != ERROR_none) {
		p->error = f->error;
		p->err = f->err;
	}
	if (f->finish != FINISH_NONE)
		p->finish = f->finish;
	p->terminal |= f->terminal;
	p->ending |= f->ending;
	p->content |= f->content;
	p->text_bytes += f->text_bytes;
	if (f->model.len > 0)
		snprintf(p->model, sizeof p->model, "%.*s", STR_FMT(f->model));
	if (f->id.len > 0)
		snprintf(p->id, sizeof p->id, "%.*s", STR_FMT(f->id));
	ck_assert(!f->deltas_lost && !f->usage_only);
	ck_assert(p->ctx.translate || f->deltas_count == 0);
	for (size_t i = 0; i < f->deltas_count; i++)
		note(p, &f->deltas[i]);
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f;

	p->ctx.mem = arena_new(ARENA_BYTES); /* as in the flow: nothing outlives its event */
	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
	} else {
		take(p, &f);
		ck_assert_int_eq(d->encode_event(&p->ctx, ev, &f, &p->out), RC_OK);
	}
	arena_free(p->ctx.mem);
	p->ctx.mem = NULL;
	return true;
}

static void play_init(struct play *p, bool translate)
{
	*p = (struct play){.usage = USAGE_NONE, .call = {.choices = 1}};
	p->to = (struct dialect_target){.provider = provider_find(STR("anthropic")),
					.dialect = d,
					.model = STR("claude-x")};
	p->ctx.keep = arena_new(ARENA_BYTES);
	p->ctx.call = &p->call;
	p->ctx.target = &p->to;
	p->ctx.id = STR("abc-1");
	p->ctx.translate = translate;
	buf_init(&p->out, OUT_BYTES);
	buf_init(&p->said, OUT_BYTES);
	ck_assert_int_eq(buf_append(&p->said, STR("")), RC_OK);
}

static void play_stream(struct play *p, struct str wire, bool translate, size_t step)
{
	struct sse s;

	play_init(p, translate);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += step)
		ck_assert_int_eq(sse_feed(&s, str_slice(wire, at, at + step), on_event, p), RC_OK);
	sse_clear(&s);
}

static void play_clear(struct play *p)
{
	arena_free(p->ctx.keep);
	buf_clear(&p->out);
	buf_clear(&p->said);
}

static const struct {
	const char *name;
	int64_t text_bytes, output, reasoning;
	enum finish finish;
	bool terminal;
	enum error_class error;
	const char *said;
} streams[] = {
	{"anthropic-thinking-tool.sse", 14 + 14 + 11 + 19, 48, 40, FINISH_TOOL_CALLS, true,
	 ERROR_none,
	 "reasoning Need the port.\n"
	 "end seal=c2lnbmF0dXJl\n"
	 "text Looking it up.\n"
	 "call0 id=toolu_ex1 name=lookup_port\n"
	 "args0 {\"city\": \"Tal\n"
	 "args0 linn\"}\n"
	 "finish 3\n"},
	{"anthropic-error-midstream.sse", 4, 1, 0, FINISH_NONE, false, ERROR_overloaded,
	 "text The \n"},
	{"anthropic-search-cite.sse", 19, 60, 0, FINISH_STOP, true, ERROR_none,
	 "text It opens\n"
	 "cite url=https://example.com/port quay 4\n"
	 "text  at quay 4.\n"
	 "finish 1 END\n"},
	{"anthropic-refusal.sse", 0, 3, 0, FINISH_CONTENT_FILTER, true, ERROR_none,
	 "refusal That is not for me.\n"
	 "finish 4\n"},
	{"anthropic-parallel-redacted.sse", 1 + 9 + 9 + 2, 30, 0, FINISH_TOOL_CALLS, true,
	 ERROR_none,
	 "end seal=redacted:ZGF0YQ==\n"
	 "end seal=b21pdHRlZA==\n"
	 "call0 id=toolu_a name=f\n"
	 "args0 {\"x\":1.0}\n"
	 "call1 id=toolu_b name=a.b\n"
	 "args1 {}\n"
	 "finish 3\n"},
};

START_TEST(recorded_stream)
{
	struct buf wire = fixture_read(streams[_i].name);

	for (size_t step = 1; step <= wire.len; step++) {
		struct play p;

		play_stream(&p, buf_str(&wire), true, step);
		ck_assert(!p.protocol && p.usage.present);
		ck_assert_str_eq(p.said.ptr, streams[_i].said);
		ck_assert_int_eq(p.text_bytes, streams[_i].text_bytes);
		ck_assert_int_eq(p.finish, streams[_i].finish);
		ck_assert_int_eq(p.ctx.finished_choices, streams[_i].finish != FINISH_NONE);
		ck_assert_int_eq(p.terminal, streams[_i].terminal);
		ck_assert_int_eq(p.error, streams[_i].error);
		ck_assert_int_eq(p.usage.n[USAGE_out_text], streams[_i].output);
		ck_assert_int_eq(p.usage.n[USAGE_out_reasoning], streams[_i].reasoning);
		ck_assert_uint_eq(p.usage.flags, 0);
		ck_assert_str_eq(p.model, "claude-sonnet-5");
		ck_assert_str_eq(p.id, "msg_ex1");
		if (p.error ==
		    ERROR_none) /* pings, unknown events, their order: nothing is changed */
			ck_assert(str_eq(buf_str(&p.out), buf_str(&wire)));
		play_clear(&p);
	}
	buf_clear(&wire);
}
END_TEST

/* Cut anywhere: never a crash, never facts that the whole does not have, never a whole answer. */
START_TEST(truncated_stream)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct play whole;

	play_stream(&whole, buf_str(&wire), true, wire.len);
	for (size_t len = 0; len < wire.len; len++) {
		struct play p;

		play_stream(&p, str_of(wire.ptr, len), true, len ? len : 1);
		ck_assert(!p.protocol);
		ck_assert_int_le(p.text_bytes, whole.text_bytes);
		ck_assert(str_starts(buf_str(&whole.said), buf_str(&p.said)));
		ck_assert(!p.terminal || len + 1 >= wire.len);
		play_clear(&p);
	}
	play_clear(&whole);
	buf_clear(&wire);
}
END_TEST

START_TEST(an_error_in_a_stream_is_encoded_anew)
{
	static const char wire[] =
		"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
		"\"message\":\"Limit for org-Abc123Def456\"}}\n\n";
	struct play p;

	play_stream(&p, str_from(wire), false, 7);
	ck_assert_int_eq(p.error, ERROR_rate_limit);
	ck_assert(p.ctx.saw_error);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("org-Abc")), 0);
	ck_assert(str_starts(buf_str(&p.out), STR("event: error\ndata: {\"type\":\"error\",")));
	ck_assert(str_ends(buf_str(&p.out), STR("}\n\n")));
	play_clear(&p);
}
END_TEST

static const struct {
	const char *data;
	bool protocol, content, terminal, ending;
	enum error_class error;
	enum finish finish;
	int64_t text_bytes;
} events[] = {
	{.data = ""},
	{.data = "x", .protocol = true},
	{.data = "[]", .protocol = true},
	{.data = "{\"type\":", .protocol = true},
	{.data = "{}"},
	{.data = "{\"type\":\"ping\"}"},
	{.data = "{\"type\":\"brand_new\",\"x\":[1]}"},
	{.data = "{\"type\":\"message_start\"}"},
	{.data = "{\"type\":\"message_start\",\"message\":{\"usage\":null}}"},
	{.data = "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"},
	{.data = "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}"},
	{.data = "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"f\"}}",
	 .content = true,
	 .text_bytes = 1},
	{.data = "{\"type\":\"content_block_start\",\"content_block\":{\"type\":\"server_tool_use\"}}",
	 .content = true},
	{.data = "{\"type\":\"content_block_start\"}"},
	{.data = "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"ab\"}}",
	 .content = true,
	 .text_bytes = 2},
	{.data = "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"ab\"}}"},
	{.data = "{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"brand_new\",\"text\":\"ab\"}}"},
	{.data = "{\"type\":\"content_block_delta\",\"delta\":null}"},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null}}"},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}",
	 .ending = true,
	 .finish = FINISH_STOP},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}",
	 .ending = true,
	 .finish = FINISH_LENGTH},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"model_context_window_exceeded\"}}",
	 .ending = true,
	 .finish = FINISH_LENGTH},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"pause_turn\"}}",
	 .ending = true,
	 .finish = FINISH_PAUSE},
	{.data = "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"compaction\"}}",
	 .ending = true,
	 .finish = FINISH_OTHER},
	{.data = "{\"type\":\"message_stop\"}", .terminal = true, .ending = true},
	{.data = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}",
	 .error = ERROR_overloaded},
	{.data = "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}",
	 .error = ERROR_server_error},
	{.data = "{\"type\":\"error\"}", .error = ERROR_server_error},
};

START_TEST(event_facts)
{
	struct sse_event ev = {.data = str_from(events[_i].data)};
	struct facts f = {.finished = 99};
	struct play p;
	enum rc rc;

	play_init(&p, true);
	p.ctx.mem = p.ctx.keep;
	rc = d->decode_event(&p.ctx, &ev, &f);
	ck_assert_int_eq(rc, events[_i].protocol ? RC_PROTOCOL : RC_OK);
	if (rc == RC_OK) {
		ck_assert_int_eq(f.content, events[_i].content);
		ck_assert_int_eq(f.terminal, events[_i].terminal);
		ck_assert_int_eq(f.ending, events[_i].ending);
		ck_assert_int_eq(f.error, events[_i].error);
		ck_assert_int_eq(f.finish, events[_i].finish);
		ck_assert_int_eq(f.finished, events[_i].finish != FINISH_NONE);
		ck_assert_int_eq(f.text_bytes, events[_i].text_bytes);
		ck_assert((f.error == ERROR_none) == (f.err.code == NULL));
	} else {
		ck_assert_int_eq(f.finished, 99);
	}
	play_clear(&p);
}
END_TEST

/* --- whole answers ------------------------------------------------------------------------------------ */

static const struct {
	const char *body;
	bool protocol, content;
	enum error_class error;
	enum finish finish;
	const char *said;
} answers[] = {
	{.body = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":["
		 "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"c2ln\"},"
		 "{\"type\":\"redacted_thinking\",\"data\":\"ZA==\"},"
		 "{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}},"
		 "{\"type\":\"text\",\"text\":\"Blue.\",\"citations\":[{\"type\":\"page_location\","
		 "\"cited_text\":\"blue\",\"document_title\":\"t\"}]},"
		 "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"f\",\"input\":{\"n\":1.50}}],"
		 "\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}",
	 .content = true,
	 .finish = FINISH_TOOL_CALLS,
	 .said = "reasoning hm\nend seal=c2ln\nend seal=redacted:ZA==\ntext Blue.\ncite name=t blue\n"
		 "call0 id=toolu_1 name=f\nargs0 {\"n\":1.50}\nfinish 3\n"},
	{.body = "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}],"
		 "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"##\"}",
	 .content = true,
	 .finish = FINISH_STOP,
	 .said = "text a\nfinish 1 ##\n"},
	/* JSON that was had by the forced tool is the text again */
	{.body = "{\"type\":\"message\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
		 "\"tollgate_json_answer\",\"input\":{\"a\":[1,2.0]}}],\"stop_reason\":\"tool_use\"}",
	 .content = true,
	 .finish = FINISH_STOP,
	 .said = "text {\"a\":[1,2.0]}\nfinish 1\n"},
	{.body = "{\"type\":\"message\",\"content\":[],\"stop_reason\":\"end_turn\"}",
	 .finish = FINISH_STOP,
	 .said = "finish 1\n"},
	{.body = "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}",
	 .error = ERROR_overloaded,
	 .said = ""},
	{.body = "{\"type\":\"message\"}", .protocol = true},
	{.body = "[]", .protocol = true},
	{.body = "", .protocol = true},
	{.body = "<html>", .protocol = true},
};

START_TEST(whole_answer)
{
	struct facts f = {0};
	struct play p;
	enum rc rc;

	play_init(&p, true);
	p.ctx.mem = p.ctx.keep;
	rc = d->decode_response(&p.ctx, str_from(answers[_i].body), &f);
	ck_assert_int_eq(rc, answers[_i].protocol ? RC_PROTOCOL : RC_OK);
	if (rc == RC_OK) {
		for (size_t i = 0; i < f.deltas_count; i++) {
			/* a citation's name is a title, not a tool's */
			f.deltas[i].name = f.deltas[i].type == CHAT_DELTA_CITATION
						   ? f.deltas[i].media.name
						   : f.deltas[i].name;
			note(&p, &f.deltas[i]);
		}
		ck_assert_str_eq(p.said.ptr, answers[_i].said);
		ck_assert_int_eq(f.content, answers[_i].content);
		ck_assert_int_eq(f.finish, answers[_i].finish);
		ck_assert_int_eq(f.error, answers[_i].error);
	}
	play_clear(&p);
}
END_TEST

START_TEST(counted)
{
	static const struct {
		const char *body;
		int64_t want; /* -1: refused */
	} bodies[] = {{"{\"input_tokens\":0}", 0},
		      {"{\"input_tokens\":2095,\"x\":1}", 2095},
		      {"{\"input_tokens\":-1}", -1},
		      {"{\"input_tokens\":1.5}", -1},
		      {"{}", -1},
		      {"[]", -1}};
	struct buf out = BUF_INIT(OUT_BYTES);

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		struct facts f = {0};
		struct play p;

		play_init(&p, true);
		p.ctx.mem = p.ctx.keep;
		ck_assert_int_eq(counting->decode_response(&p.ctx, str_from(bodies[i].body), &f),
				 bodies[i].want < 0 ? RC_PROTOCOL : RC_OK);
		if (bodies[i].want >= 0)
			ck_assert_int_eq(f.counted, bodies[i].want);
		play_clear(&p);
	}
	ck_assert_int_eq(counting->encode_response(NULL, &(struct facts){.counted = 7}, &out),
			 RC_OK);
	ck_assert_str_eq(out.ptr, "{\"input_tokens\":7}");
	buf_clear(&out);
}
END_TEST

/* --- usage ---------------------------------------------------------------------------------------------- */

/* in the order of usages[].want; what is left out is 0 */
static const enum usage_class counters[] = {
	USAGE_in_text,	USAGE_in_cached_read, USAGE_in_cache_write_5m, USAGE_in_cache_write_1h,
	USAGE_out_text, USAGE_out_reasoning,  USAGE_searches,	       USAGE_web_fetches};

static const struct {
	const char *what;
	const char *events[3]; /* usage objects, in order */
	int64_t want[ARRAY_LEN(counters)];
	uint32_t flags;
} usages[] = {
	{"input_tokens_is_beside_cache_reads_and_writes",
	 {"{\"input_tokens\":50,\"cache_read_input_tokens\":1000,\"cache_creation_input_tokens\":300,"
	  "\"cache_creation\":{\"ephemeral_5m_input_tokens\":100,\"ephemeral_1h_input_tokens\":200},"
	  "\"output_tokens\":7}"},
	 {50, 1000, 100, 200, 7},
	 0},
	{"no_split_is_five_minutes",
	 {"{\"input_tokens\":1,\"cache_creation_input_tokens\":300,\"cache_creation\":null,\"output_tokens\":1}"},
	 {1, 0, 300, 0, 1},
	 0},
	{"output_has_the_thinking_in_it",
	 {"{\"input_tokens\":1,\"output_tokens\":88,\"output_tokens_details\":{\"thinking_tokens\":40}}"},
	 {1, 0, 0, 0, 48, 40},
	 0},
	{"deltas_are_totals_not_increments",
	 {"{\"input_tokens\":50,\"output_tokens\":1}", "{\"output_tokens\":30}",
	  "{\"output_tokens\":88}"},
	 {50, 0, 0, 0, 88},
	 0},
	{"null_and_absent_keep_what_was_said",
	 {"{\"input_tokens\":50,\"cache_read_input_tokens\":7,\"output_tokens\":1}",
	  "{\"input_tokens\":null,\"cache_read_input_tokens\":null,\"output_tokens\":88,"
	  "\"output_tokens_details\":null,\"server_tool_use\":null}"},
	 {50, 7, 0, 0, 88},
	 0},
	{"the_split_stands_in_the_first_event_alone",
	 {"{\"input_tokens\":50,\"cache_creation_input_tokens\":300,\"cache_creation\":"
	  "{\"ephemeral_5m_input_tokens\":100,\"ephemeral_1h_input_tokens\":200},\"output_tokens\":1}",
	  "{\"cache_creation_input_tokens\":300,\"output_tokens\":9}"},
	 {50, 0, 100, 200, 9},
	 0},
	{"later_writes_are_of_the_class_that_was_named",
	 {"{\"input_tokens\":5,\"cache_creation_input_tokens\":20,\"cache_creation\":"
	  "{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":20},\"output_tokens\":1}",
	  "{\"cache_creation_input_tokens\":50,\"output_tokens\":9}"},
	 {5, 0, 0, 50, 9},
	 0},
	{"a_split_that_does_not_add_up_is_flagged",
	 {"{\"input_tokens\":5,\"cache_creation_input_tokens\":10,\"cache_creation\":"
	  "{\"ephemeral_5m_input_tokens\":8,\"ephemeral_1h_input_tokens\":8},\"output_tokens\":1}"},
	 {5, 0, 2, 8, 1},
	 USAGE_FLAG_INCONSISTENT},
	{"searches_and_fetches_are_counted",
	 {"{\"input_tokens\":5,\"output_tokens\":1,\"server_tool_use\":{\"web_search_requests\":3,"
	  "\"web_fetch_requests\":2}}"},
	 {5, 0, 0, 0, 1, 0, 3, 2},
	 0},
	{"negative_is_clamped",
	 {"{\"input_tokens\":-5,\"output_tokens\":3}"},
	 {0, 0, 0, 0, 3},
	 USAGE_FLAG_CLAMPED},
	{"absurd_is_clamped",
	 {"{\"input_tokens\":5,\"output_tokens\":9000000000000000000}"},
	 {5, 0, 0, 0, USAGE_UNITS_MAX},
	 USAGE_FLAG_CLAMPED},
	{"a_fraction_is_no_count",
	 {"{\"input_tokens\":5,\"output_tokens\":2}", "{\"output_tokens\":2.5}"},
	 {5, 0, 0, 0, 2},
	 USAGE_FLAG_CLAMPED},
	{"more_thinking_than_output_is_not_believed",
	 {"{\"input_tokens\":5,\"output_tokens\":4,\"output_tokens_details\":{\"thinking_tokens\":9}}"},
	 {5, 0, 0, 0, 4},
	 USAGE_FLAG_INCONSISTENT},
	{"compaction_is_beside_the_totals",
	 {"{\"input_tokens\":10,\"output_tokens\":4,\"iterations\":[{\"type\":\"compaction\",\"input_tokens\":"
	  "100,\"output_tokens\":20},{\"type\":\"message\",\"input_tokens\":10,\"output_tokens\":4}]}"},
	 {110, 0, 0, 0, 24},
	 0},
	{"a_fallback_is_in_the_totals",
	 {"{\"input_tokens\":10,\"output_tokens\":4,\"iterations\":[{\"type\":\"message\",\"input_tokens\":9,"
	  "\"output_tokens\":0},{\"type\":\"fallback_message\",\"input_tokens\":10,\"output_tokens\":4}]}"},
	 {10, 0, 0, 0, 4},
	 0},
	{"an_advisor_is_not_given_away",
	 {"{\"input_tokens\":10,\"output_tokens\":4,\"iterations\":[{\"type\":\"message\",\"input_tokens\":10,"
	  "\"output_tokens\":4},{\"type\":\"advisor_message\",\"input_tokens\":7,\"output_tokens\":1,"
	  "\"cache_creation_input_tokens\":3}]}"},
	 {17, 0, 3, 0, 5},
	 USAGE_FLAG_INCONSISTENT},
};

START_TEST(usage_is_disjoint)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct anthropic_usage state = {0};
	struct usage u = USAGE_NONE;
	struct json *root;

	for (size_t i = 0; i < 3 && usages[_i].events[i]; i++) {
		ck_assert_int_eq(json_parse(str_from(usages[_i].events[i]), JSON_NO_DUPLICATES, mem,
					    &root, NULL),
				 RC_OK);
		anthropic_usage_read(&state, root, &u);
	}
	ck_assert_msg(u.present, "%s", usages[_i].what);
	ck_assert_msg(u.flags == usages[_i].flags, "%s: flags %u", usages[_i].what, u.flags);
	for (size_t i = 0; i < ARRAY_LEN(counters); i++)
		ck_assert_msg(u.n[counters[i]] == usages[_i].want[i], "%s: %s", usages[_i].what,
			      usage_class_name(counters[i]));
	arena_free(mem);
}
END_TEST

START_TEST(usage_absent_is_not_zero)
{
	static const char *const bodies[] = {"null",
					     "{}",
					     "[]",
					     "\"many\"",
					     "{\"input_tokens\":null}",
					     "{\"service_tier\":\"standard\"}"};
	struct arena *mem = arena_new(ARENA_BYTES);

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		struct anthropic_usage state = {0};
		struct usage u;
		struct json *root;

		ck_assert_int_eq(
			json_parse(str_from(bodies[i]), JSON_NO_DUPLICATES, mem, &root, NULL),
			RC_OK);
		anthropic_usage_read(&state, root, &u);
		ck_assert(!u.present);
		ck_assert_int_eq(u.provider_cost_nano, -1);
	}
	arena_free(mem);
}
END_TEST

START_TEST(the_served_tier_is_kept)
{
	struct buf wire = fixture_read("anthropic-thinking-tool.sse");
	struct play p;

	play_stream(&p, buf_str(&wire), false, 999);
	ck_assert_str_eq(p.usage.service_tier, "standard");
	ck_assert_int_eq(p.usage.n[USAGE_in_text], 50);
	ck_assert_int_eq(p.usage.n[USAGE_in_cached_read], 1000);
	ck_assert_int_eq(p.usage.n[USAGE_in_cache_write_5m], 100);
	ck_assert_int_eq(p.usage.n[USAGE_in_cache_write_1h], 200);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

/* --- failures ----------------------------------------------------------------------------------------------- */

#define E(type, message)                                                                           \
	"{\"type\":\"error\",\"error\":{\"type\":\"" type "\",\"message\":\"" message "\"}}"

static const struct {
	int status;
	const char *body;
	enum error_class want;
} classes[] = {
	{400, E("invalid_request_error", "max_tokens: must be at least 1"), ERROR_invalid_request},
	{400, E("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
	 ERROR_context_length},
	{400,
	 E("invalid_request_error",
	   "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
	 ERROR_context_length},
	{400, E("invalid_request_error", "Your credit balance is too low to access the API."),
	 ERROR_quota},
	{400, E("invalid_request_error", "You have reached your specified API usage limits."),
	 ERROR_quota},
	{400,
	 E("invalid_request_error", "You have reached your specified workspace API usage limits."),
	 ERROR_quota},
	{400, E("invalid_request_error", "Output blocked by content filtering policy"),
	 ERROR_content_policy},
	{400,
	 E("invalid_request_error",
	   "messages.1.content.0: Invalid `signature` in `thinking` block"),
	 ERROR_invalid_request},
	{401, E("authentication_error", "invalid x-api-key"), ERROR_auth},
	{402, E("billing_error", "x"), ERROR_quota},
	{403, E("permission_error", "x"), ERROR_permission},
	{404, E("not_found_error", "model: claude-x"), ERROR_not_found},
	{409, E("conflict_error", "x"), ERROR_server_error},
	{413, E("request_too_large", "x"), ERROR_context_length},
	{429, E("rate_limit_error", "x"), ERROR_rate_limit},
	{429,
	 "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"cap\",\"details\":"
	 "{\"error_code\":\"enforced_spend_limit_reached\"}}}",
	 ERROR_quota},
	{500, E("api_error", "x"), ERROR_server_error},
	{504, E("timeout_error", "x"), ERROR_timeout},
	{529, E("overloaded_error", "x"), ERROR_overloaded},
	{529, "", ERROR_overloaded},
	{502, "<html>bad gateway</html>", ERROR_server_error},
};

START_TEST(class_of_a_failure)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};

	ck_assert_str_eq(error_class_name(d->classify(classes[_i].status,
						      str_from(classes[_i].body), mem, &err)),
			 error_class_name(classes[_i].want));
	ck_assert_ptr_nonnull(err.code);
	arena_free(mem);
}
END_TEST

START_TEST(recorded_errors)
{
	struct buf all = fixture_read("errors.json");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct str provider, want;
	struct json *root, *v;
	struct json_iter it;
	size_t seen = 0;

	ck_assert_int_eq(json_parse(buf_str(&all), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	it = json_iter(root);
	while (json_next(&it, NULL, &v)) {
		struct buf body = BUF_INIT(OUT_BYTES);
		struct err err = {0};
		int64_t status;

		ck_assert(json_string(json_get(v, "provider"), &provider));
		if (!str_is(provider, "anthropic"))
			continue;
		seen++;
		ck_assert(json_int(json_get(v, "status"), &status));
		ck_assert(json_string(json_get(v, "class"), &want));
		ck_assert_int_eq(json_write(json_get(v, "body"), &body), RC_OK);
		ck_assert(str_is(want, error_class_name(d->classify((int)status, buf_str(&body),
								    mem, &err))));
		buf_clear(&body);
	}
	ck_assert_uint_ge(seen, 4);
	arena_free(mem);
	buf_clear(&all);
}
END_TEST

START_TEST(error_event)
{
	struct buf out = BUF_INIT(OUT_BYTES);
	struct err e = {0};

	(void)err_set(&e, RC_NETWORK, "all_targets_failed", "It \"broke\".");
	ck_assert_int_eq(d->encode_error_event(&e, STR("{\"code\":\"x\"}"), &out), RC_OK);
	ck_assert_str_eq(
		out.ptr,
		"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
		"\"message\":\"It \\\"broke\\\".\"},\"tollgate\":{\"code\":\"x\"}}\n\n");
	buf_clear(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("anthropic_messages");
	TCase *tc = tcase_create("anthropic_messages");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, bad_request_is_refused, 0, ARRAY_LEN(bad_requests));
	tcase_add_loop_test(tc, good_request_is_read, 0, ARRAY_LEN(good_requests));
	tcase_add_test(tc, counting_needs_no_maximum);
	tcase_add_test(tc, too_many_files_are_refused);
	tcase_add_loop_test(tc, request_to_provider, 0, ARRAY_LEN(encodings));
	tcase_add_loop_test(tc, state_of_others_does_not_pass, 0, ARRAY_LEN(strips));
	tcase_add_test(tc, own_state_in_our_wrapping_is_unwrapped);
	tcase_add_test(tc, request_that_does_not_fit);
	tcase_add_loop_test(tc, recorded_stream, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(tc, truncated_stream, 0, ARRAY_LEN(streams));
	tcase_add_test(tc, an_error_in_a_stream_is_encoded_anew);
	tcase_add_loop_test(tc, event_facts, 0, ARRAY_LEN(events));
	tcase_add_loop_test(tc, whole_answer, 0, ARRAY_LEN(answers));
	tcase_add_test(tc, counted);
	tcase_add_loop_test(tc, usage_is_disjoint, 0, ARRAY_LEN(usages));
	tcase_add_test(tc, usage_absent_is_not_zero);
	tcase_add_test(tc, the_served_tier_is_kept);
	tcase_add_loop_test(tc, class_of_a_failure, 0, ARRAY_LEN(classes));
	tcase_add_test(tc, recorded_errors);
	tcase_add_test(tc, error_event);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
