/* test_openai_chat.c - the chat completions dialect: requests in and out, answers, usage, errors. */
#include "routing/dialect.h"
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (8u << 20)
#define OUT_BYTES   (1u << 20)

static const struct dialect *const d = &dialect_openai_chat;
static const struct call_head no_head;

/* --- requests in ---------------------------------------------------------------------------------- */

#define M  "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define OK "{\"model\":\"m\"," M

static const struct {
	const char *body;
	const char *field; /* "" for errors of the whole */
} bad_requests[] = {
	{"", ""},
	{"   ", ""},
	{"null", ""},
	{"[]", ""},
	{"\"x\"", ""},
	{OK, ""},
	{OK "} x", ""},
	{OK "}{}", ""},
	{"\xEF\xBB\xBF" OK "}", ""},
	{OK ",\"a\":NaN}", ""},
	{OK ",\"a\":1e400}", ""},
	{OK ",\"a\":\"\\ud800\"}", ""},
	{OK ",\"a\":\"\xff\"}", ""},
	{OK ",\"a\":'x'}", ""},
	{OK ",}", ""},
	{OK ",\"model\":\"n\"}", ""},
	{OK ",\"max_tokens\":1,\"max_tokens\":2}", ""},
	{OK ",\"x\":{\"a\":1,\"a\":2}}", ""},
	{"{" M "}", "model"},
	{"{\"model\":null," M "}", "model"},
	{"{\"model\":7," M "}", "model"},
	{"{\"model\":\"\"," M "}", "model"},
	{"{\"model\":\"a b\"," M "}", "model"},
	{"{\"model\":\"a\\r\\nx: y\"," M "}", "model"},
	{"{\"model\":\"a\\u0000b\"," M "}", "model"},
	{"{\"model\":\"\xc3\xa4\"," M "}", "model"},
	{"{\"model\":[\"m\"]," M "}", "model"},
	{"{\"model\":\"m\"}", "messages"},
	{"{\"model\":\"m\",\"messages\":null}", "messages"},
	{"{\"model\":\"m\",\"messages\":[]}", "messages"},
	{"{\"model\":\"m\",\"messages\":{}}", "messages"},
	{"{\"model\":\"m\",\"messages\":\"hi\"}", "messages"},
	{"{\"model\":\"m\",\"messages\":[1]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":1}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":1}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":{}}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{}]}]}", "messages"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
	 "messages"},
	{OK ",\"stream\":\"true\"}", "stream"},
	{OK ",\"stream\":1}", "stream"},
	{OK ",\"stream_options\":{}}", "stream_options"},
	{OK ",\"stream\":false,\"stream_options\":{\"include_usage\":true}}", "stream_options"},
	{OK ",\"stream\":true,\"stream_options\":[]}", "stream_options"},
	{OK ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}",
	 "stream_options.include_usage"},
	{OK ",\"max_tokens\":-1}", "max_tokens"},
	{OK ",\"max_tokens\":0}", "max_tokens"},
	{OK ",\"max_tokens\":1e18}", "max_tokens"},
	{OK ",\"max_tokens\":1000000000000000000}", "max_tokens"},
	{OK ",\"max_tokens\":99999999999999999999999}", "max_tokens"},
	{OK ",\"max_tokens\":1000000001}", "max_tokens"},
	{OK ",\"max_tokens\":\"5\"}", "max_tokens"},
	{OK ",\"max_tokens\":0.5}", "max_tokens"},
	{OK ",\"max_tokens\":5.0}", "max_tokens"},
	{OK ",\"max_tokens\":true}", "max_tokens"},
	{OK ",\"max_tokens\":[5]}", "max_tokens"},
	{OK ",\"max_completion_tokens\":-1}", "max_completion_tokens"},
	{OK ",\"max_completion_tokens\":\"5\"}", "max_completion_tokens"},
	{OK ",\"max_completion_tokens\":5,\"max_tokens\":6}", "max_tokens"},
	{OK ",\"n\":0}", "n"},
	{OK ",\"n\":-3}", "n"},
	{OK ",\"n\":129}", "n"},
	{OK ",\"n\":1000000000}", "n"},
	{OK ",\"n\":\"2\"}", "n"},
	{OK ",\"n\":1.5}", "n"},
	{OK ",\"tools\":{}}", "tools"},
	{OK ",\"functions\":\"f\"}", "functions"},
	{OK ",\"modalities\":\"audio\"}", "modalities"},
	{OK ",\"modalities\":[1]}", "modalities"},
	{OK ",\"response_format\":\"json\"}", "response_format"},
	{OK ",\"response_format\":{}}", "response_format"},
};

/* A file that a provider keeps is only where it is kept, whichever way its id is said; said twice it is one. */
START_TEST(files_that_are_kept)
{
	static const char body[] =
		"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":["
		"{\"type\":\"file\",\"file\":{\"file_id\":\"file-1\"}},"
		"{\"type\":\"file\",\"file_id\":\"file-2\"},"
		"{\"type\":\"file\",\"file\":{\"file_id\":\"file-1\"}},"
		"{\"type\":\"file\",\"file\":{\"filename\":\"a\",\"file_data\":\"data:application/pdf;base64,AA==\"}}"
		"]}]}";
	struct arena *mem = arena_new(1u << 20);
	const struct call_head head = {0};
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(dialect_openai_chat.decode_request(&head, str_from(body), mem, &c, &err),
			 RC_OK);
	ck_assert_uint_eq(c.states_count, 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_str_eq(c.states[i].kind, "file");
		ck_assert_str_eq(c.states[i].field, "messages");
	}
	ck_assert(str_is(c.states[0].id, "file-1") && str_is(c.states[1].id, "file-2"));
	arena_free(mem);
}
END_TEST

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

START_TEST(deep_nesting_is_refused)
{
	size_t len = 8u << 20;
	char *deep = malloc(len);
	struct arena *mem = arena_new(ARENA_BYTES);
	struct call c;
	struct err err = {0};

	memset(deep, '[', len);
	ck_assert_int_eq(d->decode_request(&no_head, str_of(deep, len), mem, &c, &err), RC_INVALID);
	ck_assert_ptr_nonnull(err.code);
	arena_free(mem);
	free(deep);
}
END_TEST

#define PART(p) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[" p "]}]"

static const struct {
	const char *body;
	bool stream, usage_asked, media_by_url;
	int64_t max_output, choices;
	uint32_t needs; /* beside text */
	int64_t media;
	size_t text;
} good_requests[] = {
	{OK "}", false, false, false, 0, 1, 0, 0, 2},
	{OK ",\"max_tokens\":null,\"n\":null,\"stream\":null}", false, false, false, 0, 1, 0, 0, 2},
	{OK ",\"max_tokens\":5}", false, false, false, 5, 1, 0, 0, 2},
	{OK ",\"max_completion_tokens\":1000000000}", false, false, false, 1000000000, 1, 0, 0, 2},
	{OK ",\"max_tokens\":9,\"max_completion_tokens\":9}", false, false, false, 9, 1, 0, 0, 2},
	{OK ",\"n\":128}", false, false, false, 0, 128, 0, 0, 2},
	{OK ",\"stream\":true}", true, false, false, 0, 1, 0, 0, 2},
	{OK ",\"stream\":true,\"stream_options\":null}", true, false, false, 0, 1, 0, 0, 2},
	{OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", true, true, false, 0,
	 1, 0, 0, 2},
	{OK ",\"stream\":true,\"stream_options\":{\"include_usage\":false}}", true, false, false, 0,
	 1, 0, 0, 2},
	{OK ",\"tools\":[]}", false, false, false, 0, 1, 0, 0, 2},
	{OK ",\"tools\":[{\"type\":\"function\"}]}", false, false, false, 0, 1, CAP_TOOLS, 0, 2},
	{OK ",\"functions\":[{\"name\":\"f\"}]}", false, false, false, 0, 1, CAP_TOOLS, 0, 2},
	{OK ",\"response_format\":{\"type\":\"text\"}}", false, false, false, 0, 1, 0, 0, 2},
	{OK ",\"response_format\":{\"type\":\"json_object\"}}", false, false, false, 0, 1, CAP_JSON,
	 0, 2},
	{OK ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}}", false, false,
	 false, 0, 1, CAP_JSON, 0, 2},
	{OK ",\"modalities\":[\"text\",\"audio\"]}", false, false, false, 0, 1, CAP_AUDIO_OUT, 0,
	 2},
	{PART("{\"type\":\"text\",\"text\":\"hello\"}") "}", false, false, false, 0, 1, 0, 0, 5},
	{PART("{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://x/y.png\"}}") "}", false,
	 false, true, 0, 1, CAP_VISION, 0, 0},
	{PART("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AA\"}}") "}",
	 false, false, false, 0, 1, CAP_VISION, 50000, 0},
	{PART("{\"type\":\"image_url\",\"image_url\":\"https://x/y.png\"}") "}", false, false, true,
	 0, 1, CAP_VISION, 0, 0},
	{PART("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AA\"}}") "}", false, false,
	 false, 0, 1, CAP_AUDIO_IN, 0, 0},
	{PART("{\"type\":\"file\",\"file\":{\"file_id\":\"f\"}}") "}", false, false, true, 0, 1,
	 CAP_VISION, 0, 0},
	{PART("{\"type\":\"news\",\"x\":1}") "}", false, false, false, 0, 1, 0, 0, 0},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]},"
	 "{\"role\":\"tool\",\"content\":\"abc\"}]}",
	 false, false, false, 0, 1, 0, 0, 3},
};

static const struct {
	const char *body, *kind, *id; /* kind NULL: none */
} kept_parts[] = {
	{PART("{\"type\":\"file\",\"file\":{\"file_id\":\"file-1\"}}") "}", "file", "file-1"},
	{PART("{\"type\":\"file\",\"file_id\":\"1b2c\"}") "}", "file", "1b2c"},
	{PART("{\"type\":\"file\",\"file\":{\"file_data\":\"data:application/pdf;base64,AA\"}}") "}",
	 NULL, NULL},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"audio\":{\"id\":\"audio_1\"}}]}",
	 "audio", "audio_1"},
	{"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", NULL, NULL},
};

/* It is only in the account where it was made: never sent where nobody knows it. */
START_TEST(kept_media_is_state)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(d->decode_request(&no_head, str_from(kept_parts[_i].body), mem, &c, &err),
			 RC_OK);
	ck_assert_uint_eq(c.states_count, kept_parts[_i].kind ? 1 : 0);
	if (kept_parts[_i].kind) {
		ck_assert_str_eq(c.states[0].kind, kept_parts[_i].kind);
		ck_assert(str_is(c.states[0].id, kept_parts[_i].id));
		ck_assert_str_eq(c.states[0].field, "messages");
		ck_assert(c.media_by_url);
	}
	arena_free(mem);
}
END_TEST

START_TEST(too_many_files_are_refused)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	AUTO(buf) struct buf body = BUF_INIT(1 << 16);
	struct err err = {0};
	struct call c;

	ck_assert_int_eq(buf_append(&body, STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
					       "\"content\":[{\"type\":\"text\",\"text\":\"x\"}")),
			 RC_OK);
	for (int i = 0; i <= CALL_STATES_MAX; i++)
		ck_assert_int_eq(
			buf_printf(&body, ",{\"type\":\"file\",\"file\":{\"file_id\":\"f%d\"}}", i),
			RC_OK);
	ck_assert_int_eq(buf_append(&body, STR("]}]}")), RC_OK);
	ck_assert_int_eq(d->decode_request(&no_head, buf_str(&body), mem, &c, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "messages");
	arena_free(mem);
}
END_TEST

START_TEST(good_request_is_read)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct str body = str_from(good_requests[_i].body);
	struct err err = {0};
	struct call c;

	ck_assert_msg(d->decode_request(&no_head, body, mem, &c, &err) == RC_OK, "%s", err.message);
	ck_assert(str_is(c.model, "m"));
	ck_assert_ptr_eq(c.dialect, d);
	ck_assert_int_eq(c.stream, good_requests[_i].stream);
	ck_assert_int_eq(c.usage_asked, good_requests[_i].usage_asked);
	ck_assert_int_eq(c.media_by_url, good_requests[_i].media_by_url);
	ck_assert_int_eq(c.max_output, good_requests[_i].max_output);
	ck_assert_int_eq(c.choices, good_requests[_i].choices);
	ck_assert_uint_eq(c.needs, CAP_TEXT | good_requests[_i].needs);
	ck_assert_int_eq(c.media_tokens_max, good_requests[_i].media);
	ck_assert_uint_eq(c.text_bytes, good_requests[_i].text);
	ck_assert_uint_eq(c.body_bytes, body.len);
	arena_free(mem);
}
END_TEST

/* --- requests out ----------------------------------------------------------------------------------- */

static const struct {
	const char *provider;
	const char *body;
	const char *model;
	int64_t cap;
	const char *want; /* NULL: the very same bytes */
} encodings[] = {
	{"openai", "{ \"model\" : \"m\", " M "}", "m", 0, NULL},
	{"openai", OK ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}", "m", 0, NULL},
	{"openai", OK ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}", "n", 0,
	 "{\"model\":\"n\"," M ",\"x\":1.10,\"y\":1E2,\"z\":12345678901234567890}"},
	{"openai", OK " , \"q\":{\"b\":[ 1,null,{\"u\":\"\\u00e9\"}]} }", "vendor/n", 0,
	 "{\"model\":\"vendor/n\"," M " , \"q\":{\"b\":[ 1,null,{\"u\":\"\\u00e9\"}]} }"},
	{"openai", OK "}", "a\"b\\c", 0, "{\"model\":\"a\\\"b\\\\c\"," M "}"},
	{"openai", OK "}", "m", 100, OK ",\"max_completion_tokens\":100}"},
	{"openai_compatible", OK "}", "m", 100, OK ",\"max_tokens\":100}"},
	{"openai", OK ",\"max_tokens\":7}", "m", 100, NULL},
	{"openai", OK ",\"max_completion_tokens\":7}", "m", 100, NULL},
	{"openai", OK ",\"max_tokens\":null}", "m", 100,
	 OK ",\"max_tokens\":null,\"max_completion_tokens\":100}"},
	{"openai_compatible", OK ",\"max_tokens\":null}", "m", 100, OK ",\"max_tokens\":100}"},
	{"openai", OK ",\"stream\":true}", "m", 0,
	 OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
	{"openai", OK ",\"stream\":true,\"stream_options\":null}", "m", 0,
	 OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
	{"openai", OK ",\"stream\":true,\"stream_options\":{\"include_obfuscation\":false}}", "m",
	 0,
	 OK ",\"stream\":true,\"stream_options\":{\"include_obfuscation\":false,\"include_usage\":"
	    "true}}"},
	{"openai", OK ",\"stream\":true,\"stream_options\":{\"include_usage\":false}}", "m", 0,
	 OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
	{"openai", OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", "m", 0,
	 NULL},
	{"mistral", OK ",\"stream\":true}", "m", 0, NULL},
	{"mistral", OK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", "m", 0,
	 OK ",\"stream\":true}"},
	{"openai", OK ",\"stream\":true}", "n", 50,
	 "{\"model\":\"n\"," M ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
	 "\"max_completion_tokens\":50}"},
};

START_TEST(request_to_provider)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	struct outgoing o = {.body = &out};
	struct dialect_target t = {
		.provider = provider_find(str_from(encodings[_i].provider)),
		.model = str_from(encodings[_i].model),
		.max_output_cap = encodings[_i].cap,
	};
	const char *want = encodings[_i].want ? encodings[_i].want : encodings[_i].body;
	struct err err = {0};
	struct call c;

	ck_assert_ptr_nonnull(t.provider);
	ck_assert_int_eq(d->decode_request(&no_head, str_from(encodings[_i].body), mem, &c, &err),
			 RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_str_eq(out.ptr, want);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

/* A large body is not copied: what stands between the edits is sent from where it came. */
START_TEST(large_request_to_provider)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES), body = BUF_INIT(1 << 20), joined = BUF_INIT(1 << 20);
	struct outgoing o = {.body = &out};
	struct dialect_target t = {.provider = provider_find(STR("openai")), .model = STR("n")};
	struct err err = {0};
	struct call c;
	const char *from;

	ck_assert_int_eq(buf_printf(&body, "%s,\"image\":\"%0*d\",\"x\":1.50}", OK, 100000, 7),
			 RC_OK);
	ck_assert_int_eq(d->decode_request(&no_head, buf_str(&body), mem, &c, &err), RC_OK);
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_uint_eq(o.pieces_count, 3);
	for (size_t i = 0; i < o.pieces_count; i++)
		ck_assert_int_eq(buf_append(&joined, o.pieces[i]), RC_OK);
	ck_assert_ptr_nonnull(strstr(joined.ptr, "{\"model\":\"n\","));
	from = strchr(body.ptr, ',');
	ck_assert_ptr_eq(o.pieces[2].ptr, from);
	ck_assert_str_eq(strchr(joined.ptr, ','), from);
	t.model = STR("m"); /* nothing to edit */
	o = (struct outgoing){.body = &out};
	ck_assert_int_eq(d->encode_request(&c, &t, mem, &o, &err), RC_OK);
	ck_assert_uint_eq(o.pieces_count, 1);
	ck_assert_ptr_eq(o.pieces[0].ptr, body.ptr);
	ck_assert_uint_eq(o.pieces[0].len, body.len);
	buf_clear(&joined);
	buf_clear(&body);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

START_TEST(request_that_does_not_fit)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(10);
	struct outgoing o = {.body = &out};
	struct dialect_target t = {.provider = provider_find(STR("openai")), .model = STR("n")};
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
	struct call call;
	struct usage usage;
	enum error_class error;
	struct err err;
	struct buf out;
	bool terminal, content, protocol;
	int64_t text_bytes;
	enum finish finish;
	size_t usage_only;
	char model[64];
};

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f;

	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
		return true;
	}
	if (f.usage.present)
		p->usage = f.usage;
	if (f.error != ERROR_none) {
		p->error = f.error;
		p->err = f.err;
	}
	if (f.finish != FINISH_NONE)
		p->finish = f.finish;
	p->terminal |= f.terminal;
	p->content |= f.content;
	p->usage_only += f.usage_only;
	p->text_bytes += f.text_bytes;
	if (f.model.len > 0)
		snprintf(p->model, sizeof p->model, "%.*s", STR_FMT(f.model));
	ck_assert_int_eq(d->encode_event(&p->ctx, ev, &f, &p->out), RC_OK);
	return true;
}

static void play_stream(struct play *p, struct str wire, bool usage_asked, size_t step)
{
	struct sse s;

	*p = (struct play){.usage = USAGE_NONE, .call = {.usage_asked = usage_asked}};
	p->ctx.mem = arena_new(ARENA_BYTES);
	p->ctx.call = &p->call;
	buf_init(&p->out, OUT_BYTES);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += step)
		ck_assert_int_eq(sse_feed(&s, str_slice(wire, at, at + step), on_event, p), RC_OK);
	sse_clear(&s);
}

static void play_clear(struct play *p)
{
	arena_free(p->ctx.mem);
	buf_clear(&p->out);
}

static const struct {
	const char *name;
	int64_t text_bytes;
	enum finish finish;
	int finished;
} streams[] = {
	{"chat-text.sse", 14, FINISH_STOP, 1},
	{"chat-parallel-tools.sse", 43, FINISH_TOOL_CALLS, 1},
	{"chat-error-midstream.sse", 7, FINISH_NONE, 0},
	{"chat-truncated-no-terminator.sse", 7, FINISH_NONE, 0},
	{"openrouter-comments-and-cost.sse", 4, FINISH_STOP, 1},
	{"openrouter-error-midstream.sse", 11, FINISH_OTHER, 1},
	{"mistral-usage-with-finish.sse", 17, FINISH_STOP, 1},
	{"deepseek-keepalive-reasoning.sse", 10, FINISH_STOP, 1},
	{"xai-reasoning-additive.sse", 4, FINISH_STOP, 1},
	{"openrouter-reasoning-details.sse", 23, FINISH_TOOL_CALLS, 1},
	{"kimi-reasoning-tool.sse", 37, FINISH_TOOL_CALLS, 1},
	{"mistral-tool-object.sse", 11, FINISH_TOOL_CALLS, 1},
};

/* Compare with tests/fixtures/expected-usage.json: every class it names, and zero for the others. */
static void check_expected(const struct play *p, const struct json *want)
{
	struct str terminal, s;
	int64_t nano, n;
	bool any = false;

	for (enum usage_class c = 0; c < USAGE_CLASS_COUNT; c++) {
		n = 0;
		any |= json_int(json_get(want, usage_class_name(c)), &n);
		ck_assert_msg(p->usage.n[c] == n, "%s: %lld instead of %lld", usage_class_name(c),
			      (long long)p->usage.n[c], (long long)n);
	}
	ck_assert_int_eq(p->usage.present, any);
	ck_assert_uint_eq(p->usage.flags, 0);
	ck_assert(json_string(json_get(want, "terminal"), &terminal));
	ck_assert_int_eq(str_is(terminal, "ok"), p->terminal && p->error == ERROR_none);
	ck_assert_int_eq(str_is(terminal, "error"), p->error != ERROR_none);
	if (json_string(json_get(want, "class"), &s))
		ck_assert(str_is(s, error_class_name(p->error)));
	if (json_string(json_get(want, "provider_cost_usd"), &s)) {
		ck_assert_int_eq(openai_decimal(s, 9, &nano), RC_OK);
		ck_assert_int_eq(p->usage.provider_cost_nano, nano);
	} else {
		ck_assert_int_eq(p->usage.provider_cost_nano, -1);
	}
}

START_TEST(recorded_stream)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct buf expected = fixture_read("expected-usage.json");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;

	ck_assert_int_eq(json_parse(buf_str(&expected), JSON_NO_DUPLICATES, mem, &root, NULL),
			 RC_OK);
	for (size_t step = 1; step <= wire.len; step++) {
		struct play p;

		play_stream(&p, buf_str(&wire), true, step);
		ck_assert(!p.protocol);
		check_expected(&p, json_get(root, streams[_i].name));
		ck_assert_int_eq(p.text_bytes, streams[_i].text_bytes);
		ck_assert_int_eq(p.finish, streams[_i].finish);
		ck_assert_int_eq(p.ctx.finished_choices, streams[_i].finished);
		ck_assert(p.content);
		ck_assert_str_ne(p.model, "");
		if (p.error == ERROR_none) /* the caller asked for usage: nothing is changed */
			ck_assert(str_eq(buf_str(&p.out), buf_str(&wire)));
		play_clear(&p);
	}
	arena_free(mem);
	buf_clear(&expected);
	buf_clear(&wire);
}
END_TEST

/* Cut anywhere: never a crash, never facts that the whole does not have. */
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
		ck_assert(!p.terminal || len + 1 >= wire.len);
		play_clear(&p);
	}
	play_clear(&whole);
	buf_clear(&wire);
}
END_TEST

/* Our injected usage chunk is stripped for a caller who did not ask for it, and nothing else. */
START_TEST(usage_chunk_is_stripped)
{
	struct buf wire = fixture_read("chat-text.sse");
	struct play p;
	ptrdiff_t at;

	play_stream(&p, buf_str(&wire), false, 64);
	ck_assert_uint_eq(p.usage_only, 1);
	ck_assert(p.usage.present);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("prompt_tokens")), 0);
	ck_assert_int_ge(str_find_str(buf_str(&p.out), STR("data: [DONE]")), 0);
	at = str_find_str(buf_str(&wire), STR("\"choices\":[],"));
	ck_assert_int_gt(at, 0);
	ck_assert_uint_gt(p.out.len, 0);
	ck_assert_uint_lt(p.out.len, wire.len);
	ck_assert(str_starts(buf_str(&wire), str_slice(buf_str(&p.out), 0, p.out.len - 14)));
	play_clear(&p);
	buf_clear(&wire);
	/* usage beside choices belongs to the answer and stays */
	wire = fixture_read("openrouter-comments-and-cost.sse");
	play_stream(&p, buf_str(&wire), false, 64);
	ck_assert(str_eq(buf_str(&p.out), buf_str(&wire)));
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

/* An error inside a stream reaches the caller in our words where theirs could name an account. */
START_TEST(error_in_stream_is_encoded_anew)
{
	static const char wire[] =
		"data: {\"error\":{\"message\":\"Rate limit for org-Abc123Def456 reached\","
		"\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}\n\n";
	struct play p;

	play_stream(&p, str_from(wire), true, 7);
	ck_assert_int_eq(p.error, ERROR_rate_limit);
	ck_assert(p.ctx.saw_error);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("org-Abc")), 0);
	ck_assert(str_starts(buf_str(&p.out), STR("data: {\"error\":{\"message\":")));
	ck_assert(str_ends(buf_str(&p.out), STR("}\n\n")));
	play_clear(&p);
}
END_TEST

static const struct {
	const char *data;
	bool protocol, content, usage_only, terminal;
	enum error_class error;
	int finished;
	int64_t text_bytes;
} events[] = {
	{.data = "[DONE]", .terminal = true},
	{.data = " [DONE] ", .terminal = true},
	{.data = "{}"},
	{.data = ""},
	{.data = "x", .protocol = true},
	{.data = "[]", .protocol = true},
	{.data = "{\"choices\":", .protocol = true},
	{.data = "{\"choices\":{}}", .protocol = true},
	{.data = "{\"choices\":null}"},
	{.data = "{\"choices\":[]}"},
	{.data = "{\"choices\":[{}]}"},
	{.data = "{\"choices\":[null]}"},
	{.data = "{\"choices\":[],\"prompt_filter_results\":[{}]}"},
	{.data = "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"},
	{.data = "{\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}",
	 .content = true,
	 .text_bytes = 2},
	{.data = "{\"choices\":[{\"delta\":{\"refusal\":\"no\"}}]}",
	 .content = true,
	 .text_bytes = 2},
	{.data = "{\"choices\":[{\"delta\":{\"reasoning\":\"abc\"}}]}",
	 .content = true,
	 .text_bytes = 3},
	{.data = "{\"choices\":[{\"delta\":{\"reasoning\":\"abc\",\"reasoning_content\":\"abc\"}}]}",
	 .content = true,
	 .text_bytes = 3},
	{.data = "{\"choices\":[{\"delta\":{\"audio\":{\"data\":\"AAAA\"}}}]}", .content = true},
	{.data = "{\"choices\":[{\"delta\":{\"audio\":{\"transcript\":\"hey\"}}}]}",
	 .content = true,
	 .text_bytes = 3},
	{.data = "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\"}}]}}]}",
	 .content = true,
	 .text_bytes = 1},
	{.data = "{\"choices\":[{\"delta\":{\"tool_calls\":[]}}]}"},
	{.data = "{\"choices\":[{\"delta\":{\"function_call\":{\"arguments\":\"{}\"}}}]}",
	 .content = true,
	 .text_bytes = 2},
	{.data = "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"},{\"delta\":{},\"finish_reason\":"
		 "\"length\"}]}",
	 .finished = 2},
	{.data = "{\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}]}",
	 .finished = 1,
	 .error = ERROR_overloaded},
	{.data = "{\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}",
	 .finished = 1,
	 .error = ERROR_server_error},
	{.data = "{\"choices\":[{\"delta\":{},\"finish_reason\":\"brand_new\"}]}", .finished = 1},
	{.data = "{\"choices\":[{\"error\":{\"code\":502,\"message\":\"x\"}}]}",
	 .error = ERROR_server_error},
	{.data = "{\"x_groq\":{\"error\":\"boom\"},\"choices\":[]}", .error = ERROR_server_error},
	{.data = "{\"object\":\"error\",\"message\":\"maximum context length is 5 tokens\"}",
	 .error = ERROR_context_length},
	{.data = "{\"error\":null,\"choices\":[]}"},
	{.data = "{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
	 .usage_only = true},
	{.data = "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}", .usage_only = true},
	{.data = "{\"choices\":[],\"usage\":null}"},
	{.data = "{\"choices\":[],\"usage\":{}}"},
	{.data = "{\"choices\":[],\"usage\":\"many\"}"},
};

START_TEST(event_facts)
{
	struct call call = {.usage_asked = false};
	struct dialect_ctx ctx = {.mem = arena_new(ARENA_BYTES), .call = &call};
	struct sse_event ev = {.data = str_from(events[_i].data)};
	struct facts f = {.finished = 99};
	enum rc rc = d->decode_event(&ctx, &ev, &f);

	ck_assert_int_eq(rc, events[_i].protocol ? RC_PROTOCOL : RC_OK);
	if (rc == RC_OK) {
		ck_assert_int_eq(f.content, events[_i].content);
		ck_assert_int_eq(f.usage_only, events[_i].usage_only);
		ck_assert_int_eq(f.terminal, events[_i].terminal);
		ck_assert_int_eq(f.error, events[_i].error);
		ck_assert_int_eq(f.finished, events[_i].finished);
		ck_assert_int_eq(f.text_bytes, events[_i].text_bytes);
		ck_assert_int_eq(ctx.finished_choices, events[_i].finished);
		ck_assert((f.error == ERROR_none) == (f.err.code == NULL));
	} else {
		ck_assert_int_eq(f.finished, 99);
	}
	arena_free(ctx.mem);
}
END_TEST

START_TEST(comment_has_no_facts)
{
	struct dialect_ctx ctx = {.mem = arena_new(ARENA_BYTES)};
	struct sse_event ev = {.comment = true, .data = STR(""), .raw = STR(": x\n\n")};
	struct facts f;

	ck_assert_int_eq(d->decode_event(&ctx, &ev, &f), RC_OK);
	ck_assert(!f.content && !f.terminal && f.error == ERROR_none && !f.usage.present);
	arena_free(ctx.mem);
}
END_TEST

/* --- whole answers ------------------------------------------------------------------------------------ */

static const struct {
	const char *body;
	bool protocol, content;
	enum error_class error;
	enum finish finish;
	int64_t text_bytes;
} answers[] = {
	{.body = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"Blue.\"},\"finish_reason\":"
		 "\"stop\"}],\"usage\":{\"prompt_tokens\":21,\"completion_tokens\":9,\"total_tokens\":30},"
		 "\"service_tier\":\"default\"}",
	 .content = true,
	 .finish = FINISH_STOP,
	 .text_bytes = 5},
	{.body = "\n\n\n{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}",
	 .content = true,
	 .finish = FINISH_STOP,
	 .text_bytes = 1},
	{.body = "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
		 "\"arguments\":\"\"}}]},\"finish_reason\":\"tool_calls\"}]}",
	 .content = true,
	 .finish = FINISH_TOOL_CALLS,
	 .text_bytes = 1},
	{.body = "{\"choices\":[{\"message\":{\"content\":\"\"},\"finish_reason\":\"content_filter\"}]}",
	 .finish = FINISH_CONTENT_FILTER},
	{.body = "{\"error\":{\"code\":502,\"message\":\"Provider failed\",\"metadata\":{\"error_type\":"
		 "\"provider_unavailable\"}}}",
	 .error = ERROR_server_error},
	{.body = "{\"error\":{\"code\":429,\"message\":\"slow\"}}", .error = ERROR_rate_limit},
	{.body = "{\"error\":\"out of credits\"}", .error = ERROR_quota},
	{.body = "{}", .protocol = true},
	{.body = "{\"choices\":[]}", .protocol = true},
	{.body = "[]", .protocol = true},
	{.body = "", .protocol = true},
	{.body = "<html></html>", .protocol = true},
	{.body = "{\"choices\":[{\"message\":{\"content\":\"half", .protocol = true},
};

START_TEST(whole_answer)
{
	struct dialect_ctx ctx = {.mem = arena_new(ARENA_BYTES)};
	struct facts f;
	enum rc rc = d->decode_response(&ctx, str_from(answers[_i].body), &f);

	ck_assert_int_eq(rc, answers[_i].protocol ? RC_PROTOCOL : RC_OK);
	if (rc == RC_OK) {
		ck_assert_int_eq(f.content, answers[_i].content);
		ck_assert_int_eq(f.error, answers[_i].error);
		ck_assert_int_eq(f.finish, answers[_i].finish);
		ck_assert_int_eq(f.text_bytes, answers[_i].text_bytes);
		ck_assert_int_eq(f.usage.present, _i == 0);
		ck_assert_str_eq(f.usage.service_tier, _i == 0 ? "default" : "");
	}
	arena_free(ctx.mem);
}
END_TEST

/* A later turn names it by its id alone. */
START_TEST(sound_of_an_answer_is_kept)
{
	struct dialect_ctx ctx = {.mem = arena_new(ARENA_BYTES)};
	struct facts f;

	ck_assert_int_eq(
		d->decode_response(
			&ctx,
			STR("{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
			    "\"content\":null,\"audio\":{\"id\":\"audio_1\",\"transcript\":\"Hi\"}},"
			    "\"finish_reason\":\"stop\"}]}"),
			&f),
		RC_OK);
	ck_assert(str_is(f.state_id, "audio_1"));
	ck_assert_str_eq(f.state_kind, "audio");
	arena_free(ctx.mem);
}
END_TEST

/* --- usage ---------------------------------------------------------------------------------------------- */

#define U(prompt, completion, total)                                                               \
	"{\"prompt_tokens\":" #prompt ",\"completion_tokens\":" #completion                        \
	",\"total_tokens\":" #total
#define IN(x)  ",\"prompt_tokens_details\":{" x "}"
#define OUT(x) ",\"completion_tokens_details\":{" x "}"
#define MAXU   USAGE_UNITS_MAX

static const struct {
	const char *usage;
	uint32_t flags;
	int64_t in_text, cached, written, audio, audio_cached, out_text, reasoning, out_audio;
} usages[] = {
	{U(10, 5, 15) "}", 0, 10, 0, 0, 0, 0, 5, 0, 0},
	{U(0, 0, 0) "}", 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{U(100, 50, 150) IN("\"cached_tokens\":40,\"cache_write_tokens\":10,\"audio_tokens\":5")
		 OUT("\"reasoning_tokens\":20,\"audio_tokens\":7") "}",
	 0, 45, 40, 10, 5, 0, 23, 20, 7},
	{U(100, 50, 150) IN("\"cached_tokens\":null") ",\"completion_tokens_details\":null}", 0,
	 100, 0, 0, 0, 0, 50, 0, 0},
	{"{\"prompt_tokens\":10,\"completion_tokens\":5,\"cached_tokens\":4}", 0, 6, 4, 0, 0, 0, 5,
	 0, 0},
	{"{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_cache_hit_tokens\":4,"
	 "\"prompt_cache_miss_tokens\":6}",
	 0, 6, 4, 0, 0, 0, 5, 0, 0},
	/* rejected predictions are inside completion and stay text */
	{U(10, 50, 60) OUT("\"reasoning_tokens\":0,\"rejected_prediction_tokens\":30") "}", 0, 10,
	 0, 0, 0, 0, 50, 0, 0},
	/* cached audio counted as both */
	{U(100, 1, 101) IN("\"cached_tokens\":80,\"audio_tokens\":60") "}", 0, 0, 40, 0, 20, 40, 1,
	 0, 0},
	/* reasoning beside the completion, by the provider's own total */
	{U(32, 9, 151) OUT("\"reasoning_tokens\":110") "}", 0, 32, 0, 0, 0, 0, 9, 110, 0},
	/* cached beside the prompt, by the provider's own total */
	{U(10, 5, 55) IN("\"cached_tokens\":40") "}", 0, 10, 40, 0, 0, 0, 5, 0, 0},
	/* details larger than their total: given up, flagged */
	{U(10, 5, 15) IN("\"cached_tokens\":40") "}", USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0, 5, 0,
	 0},
	{U(10, 5, 15) OUT("\"reasoning_tokens\":40") "}", USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0,
	 5, 0, 0},
	{U(10, 5, 15) OUT("\"audio_tokens\":40") "}", USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0, 0, 0,
	 5},
	{U(10, 5, 99) "}", USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0, 5, 0, 0},
	/* lies */
	{U(-10, 5, 15) "}", USAGE_FLAG_CLAMPED | USAGE_FLAG_INCONSISTENT, 0, 0, 0, 0, 0, 5, 0, 0},
	{U(10, -5, 15) "}", USAGE_FLAG_CLAMPED | USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0, 0, 0, 0},
	{"{\"prompt_tokens\":1000000000000000000,\"completion_tokens\":5}", USAGE_FLAG_CLAMPED,
	 MAXU, 0, 0, 0, 0, 5, 0, 0},
	{"{\"prompt_tokens\":5,\"completion_tokens\":1e18}", USAGE_FLAG_CLAMPED, 5, 0, 0, 0, 0,
	 MAXU, 0, 0},
	{"{\"prompt_tokens\":99999999999999999999999999,\"completion_tokens\":-1e99}",
	 USAGE_FLAG_CLAMPED, MAXU, 0, 0, 0, 0, 0, 0, 0},
	{"{\"prompt_tokens\":10.5,\"completion_tokens\":5.0}", USAGE_FLAG_CLAMPED, 11, 0, 0, 0, 0,
	 5, 0, 0},
	{"{\"prompt_tokens\":\"10\",\"completion_tokens\":5}", USAGE_FLAG_CLAMPED, 10, 0, 0, 0, 0,
	 5, 0, 0},
	{"{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":"
	 "-4}}",
	 USAGE_FLAG_CLAMPED, 10, 0, 0, 0, 0, 5, 0, 0},
	{"{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":"
	 "\"x\"}}",
	 USAGE_FLAG_CLAMPED, 10, 0, 0, 0, 0, 5, 0, 0},
	{"{\"prompt_tokens\":10,\"completion_tokens\":5,\"prompt_tokens_details\":[]}", 0, 10, 0, 0,
	 0, 0, 5, 0, 0},
	/* halves */
	{"{\"prompt_tokens\":10,\"total_tokens\":15}", 0, 10, 0, 0, 0, 0, 5, 0, 0},
	{"{\"completion_tokens\":5,\"total_tokens\":15}", 0, 10, 0, 0, 0, 0, 5, 0, 0},
	{"{\"prompt_tokens\":10}", USAGE_FLAG_INCONSISTENT, 10, 0, 0, 0, 0, 0, 0, 0},
};

START_TEST(usage_is_disjoint)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;
	struct usage u;

	ck_assert_int_eq(
		json_parse(str_from(usages[_i].usage), JSON_NO_DUPLICATES, mem, &root, NULL),
		RC_OK);
	openai_usage_read(root, &u);
	ck_assert(u.present);
	ck_assert_uint_eq(u.flags, usages[_i].flags);
	ck_assert_int_eq(u.n[USAGE_in_text], usages[_i].in_text);
	ck_assert_int_eq(u.n[USAGE_in_cached_read], usages[_i].cached);
	ck_assert_int_eq(u.n[USAGE_in_cache_write_5m], usages[_i].written);
	ck_assert_int_eq(u.n[USAGE_in_audio], usages[_i].audio);
	ck_assert_int_eq(u.n[USAGE_in_audio_cached], usages[_i].audio_cached);
	ck_assert_int_eq(u.n[USAGE_out_text], usages[_i].out_text);
	ck_assert_int_eq(u.n[USAGE_out_reasoning], usages[_i].reasoning);
	ck_assert_int_eq(u.n[USAGE_out_audio], usages[_i].out_audio);
	arena_free(mem);
}
END_TEST

static const char *const no_usages[] = {"{}",
					"[]",
					"null",
					"5",
					"{\"total_tokens\":5}",
					"{\"prompt_tokens\":\"x\"}",
					"{\"prompt_tokens\":null}"};

START_TEST(usage_absent_is_not_zero)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;
	struct usage u;

	ck_assert_int_eq(json_parse(str_from(no_usages[_i]), JSON_NO_DUPLICATES, mem, &root, NULL),
			 RC_OK);
	openai_usage_read(root, &u);
	ck_assert(!u.present);
	ck_assert_int_eq(u.provider_cost_nano, -1);
	arena_free(mem);
}
END_TEST

/* Whatever numbers a provider sends: no class negative, none past the bound, and they add up. */
START_TEST(usage_property)
{
	static const char *const values[] = {"0",  "1",	  "7",	   "100",  "1099511627776",
					     "-1", "2.5", "\"9\"", "null", "1e30"};
	static const size_t n = ARRAY_LEN(values);

	for (size_t i = 0; i < n * n * n * n * n; i++) {
		struct arena *mem = arena_new(1u << 16);
		struct str text = arena_printf(
			mem,
			"{\"prompt_tokens\":%s,\"completion_tokens\":%s,\"total_tokens\":%s,"
			"\"prompt_tokens_details\":{\"cached_tokens\":%s,\"audio_tokens\":%s},"
			"\"completion_tokens_details\":{\"reasoning_tokens\":%s,\"audio_tokens\":%s}}",
			values[i % n], values[i / n % n], values[i / n / n % n],
			values[i / n / n / n % n], values[i / n / n / n / n % n],
			values[i / n / n / n % n], values[i / n / n % n]);
		struct json *root;
		struct usage u;

		ck_assert_int_eq(json_parse(text, JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
		openai_usage_read(root, &u);
		for (size_t c = 0; c < USAGE_CLASS_COUNT; c++)
			ck_assert(u.n[c] >= 0 && u.n[c] <= 2 * USAGE_UNITS_MAX);
		arena_free(mem);
	}
}
END_TEST

static const struct {
	const char *literal;
	int scale;
	int64_t want;
	bool bad;
} decimals[] = {
	{"0", 9, 0, false},
	{"1.84e-05", 9, 18400, false},
	{"0.0000184", 9, 18400, false},
	{"0.0003291", 9, 329100, false},
	{"1", 9, 1000000000, false},
	{"-1.5", 0, -2, false},
	{"1.4", 0, 1, false},
	{"1.5", 0, 2, false},
	{"0.49999999999999999999999999999999999999999999", 0, 0, false},
	{"0.5", 0, 1, false},
	{"0.0000000005", 9, 1, false},
	{"0.00000000049", 9, 0, false},
	{"123456789012345678901234567890123456789012", 0, INT64_MAX, false},
	{"1e400", 0, INT64_MAX, false},
	{"-1e400", 0, -INT64_MAX, false},
	{"1e-400", 9, 0, false},
	{"0e999999999999", 9, 0, false},
	{"1E+3", 0, 1000, false},
	{"000.10", 2, 10, false},
	{"9223372036854775807", 0, INT64_MAX, false},
	{"9223372036854775808", 0, INT64_MAX, false},
	{"", 0, 0, true},
	{"-", 0, 0, true},
	{".", 0, 0, true},
	{"1e", 0, 0, true},
	{"1e+", 0, 0, true},
	{"1.2.3", 0, 0, true},
	{"0x10", 0, 0, true},
	{"nan", 0, 0, true},
	{"e5", 0, 0, true},
};

START_TEST(decimal_is_exact)
{
	int64_t got = 42;
	enum rc rc = openai_decimal(str_from(decimals[_i].literal), decimals[_i].scale, &got);

	ck_assert_int_eq(rc, decimals[_i].bad ? RC_INVALID : RC_OK);
	ck_assert_int_eq(got, decimals[_i].bad ? 42 : decimals[_i].want);
}
END_TEST

/* --- errors --------------------------------------------------------------------------------------------- */

START_TEST(recorded_errors)
{
	struct buf text = fixture_read("errors.json");
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root, *row;
	struct json_iter it;
	size_t rows = 0;

	ck_assert_int_eq(json_parse(buf_str(&text), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	it = json_iter(root);
	for (; json_next(&it, NULL, &row); rows++) {
		struct buf body = BUF_INIT(OUT_BYTES);
		struct str html, want;
		struct err err = {0};
		int64_t status;
		enum error_class c;

		ck_assert(json_int(json_get(row, "status"), &status));
		ck_assert(json_string(json_get(row, "class"), &want));
		if (json_string(json_get(row, "body"), &html))
			ck_assert_int_eq(buf_append(&body, html), RC_OK);
		else
			ck_assert_int_eq(json_write(json_get(row, "body"), &body), RC_OK);
		c = d->classify((int)status, buf_str(&body), mem, &err);
		ck_assert_msg(str_is(want, error_class_name(c)), "%s: %s instead of %.*s", body.ptr,
			      error_class_name(c), STR_FMT(want));
		ck_assert_ptr_nonnull(err.code);
		ck_assert_str_ne(err.message, "");
		buf_clear(&body);
	}
	ck_assert_uint_gt(rows, 20);
	arena_free(mem);
	buf_clear(&text);
}
END_TEST

#define E(message, type, code)                                                                     \
	"{\"error\":{\"message\":\"" message "\",\"type\":\"" type "\",\"code\":\"" code "\"}}"

static const struct {
	int status;
	const char *body;
	enum error_class want;
} classes[] = {
	{400, "", ERROR_invalid_request},
	{401, "", ERROR_auth},
	{402, "", ERROR_quota},
	{403, "", ERROR_permission},
	{404, "", ERROR_not_found},
	{408, "", ERROR_timeout},
	{409, "", ERROR_server_error},
	{413, "", ERROR_invalid_request},
	{415, "", ERROR_invalid_request},
	{422, "", ERROR_invalid_request},
	{429, "", ERROR_rate_limit},
	{500, "", ERROR_server_error},
	{502, "<html>", ERROR_server_error},
	{503, "<html>", ERROR_overloaded},
	{504, "", ERROR_timeout},
	{520, "<html>", ERROR_server_error},
	{529, "", ERROR_overloaded},
	{302, "", ERROR_protocol},
	{429, E("Request too large for m: Limit 100", "tokens", "rate_limit_exceeded"),
	 ERROR_context_length},
	{429, E("Ramp up slower", "requests", "slow_down"), ERROR_rate_limit},
	{503, E("Ramp up slower", "requests", "slow_down"), ERROR_overloaded},
	{429, E("x", "insufficient_quota", "credit_balance_exhausted"), ERROR_quota},
	{429, E("x", "insufficient_quota", "a_new_spend_code"), ERROR_quota},
	{429, E("x", "insufficient_quota", "organization_usage_limit_exceeded"), ERROR_quota},
	{400, E("x", "invalid_request_error", "billing_hard_limit_reached"), ERROR_quota},
	{400, E("x", "invalid_request_error", "moderation_blocked"), ERROR_content_policy},
	{400, E("x", "invalid_request_error", "invalid_prompt"), ERROR_content_policy},
	{400, E("x", "invalid_request_error", "unsupported_parameter"), ERROR_invalid_request},
	{403, E("no access to model", "invalid_request_error", "model_not_found"),
	 ERROR_permission},
	{403, E("x", "request_forbidden", "unsupported_country_region_territory"),
	 ERROR_permission},
	{503, E("x", "service_unavailable_error", "server_is_overloaded"), ERROR_overloaded},
	{400, E("This model's maximum context length is 5 tokens", "BadRequestError", ""),
	 ERROR_context_length},
	/* a word in the message does not make a rate limit something else */
	{429, E("prompt is too long to serve now", "requests", "rate_limit_exceeded"),
	 ERROR_rate_limit},
	{400, "{\"error\":", ERROR_invalid_request},
	{400, "[]", ERROR_invalid_request},
	{400, "{\"error\":[]}", ERROR_invalid_request},
	{400, "{\"error\":{\"message\":5,\"code\":[],\"type\":{}}}", ERROR_invalid_request},
};

START_TEST(class_by_marker_then_code_then_status)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};

	ck_assert_str_eq(error_class_name(d->classify(classes[_i].status,
						      str_from(classes[_i].body), mem, &err)),
			 error_class_name(classes[_i].want));
	arena_free(mem);
}
END_TEST

/* The provider's wording where the caller must mend it; our own where it would tell about our account. */
START_TEST(words_for_the_caller)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};

	(void)d->classify(400,
			  STR("{\"error\":{\"message\":\"Unsupported value: 'temperature'\","
			      "\"param\":\"temperature\",\"code\":\"unsupported_value\"}}"),
			  mem, &err);
	ck_assert_str_eq(err.message, "Unsupported value: 'temperature'");
	ck_assert_str_eq(err.code, "unsupported_value");
	ck_assert_str_eq(err.field, "temperature");

	(void)d->classify(429,
			  STR(E("Rate limit reached for org-Abc123Def456", "requests",
				"rate_limit_exceeded")),
			  mem, &err);
	ck_assert_ptr_null(strstr(err.message, "org-"));
	ck_assert_ptr_null(strstr(err.detail, "org-Abc"));

	(void)d->classify(401, STR(E("Incorrect API key provided: x. See your account", "a", "b")),
			  mem, &err);
	ck_assert_ptr_null(strstr(err.message, "Incorrect"));

	/* an echo of something that looks like a key (a fake one) in a message that is passed on */
	(void)d->classify(
		400,
		STR(E("Bad value 'Bearer sk-FAKEFAKEFAKEFAKEFAKEFAKEFAKE0123' for org-Zzz999Yyy888 "
		      "and proj_Aa11Bb22\\r\\nX: y",
		      "invalid_request_error", "")),
		mem, &err);
	ck_assert_ptr_null(strstr(err.message, "FAKEFAKE"));
	ck_assert_ptr_null(strstr(err.message, "Zzz999"));
	ck_assert_ptr_null(strstr(err.message, "Aa11Bb"));
	ck_assert_ptr_null(strpbrk(err.message, "\r\n"));
	ck_assert_ptr_nonnull(strstr(err.message, "Bad value"));
	arena_free(mem);
}
END_TEST

START_TEST(error_event)
{
	struct buf out = BUF_INIT(OUT_BYTES);
	struct err e = {0};

	(void)err_set(&e, RC_NETWORK, "all_targets_failed", "It \"broke\".");
	ck_assert_int_eq(d->encode_error_event(&e, STR("{\"code\":\"x\"}"), &out), RC_OK);
	ck_assert_str_eq(out.ptr,
			 "data: {\"error\":{\"message\":\"It \\\"broke\\\".\",\"type\":"
			 "\"server_error\",\"param\":null,\"code\":\"all_targets_failed\"},"
			 "\"tollgate\":{\"code\":\"x\"}}\n\n");
	buf_clear(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_chat");
	TCase *tc = tcase_create("openai_chat");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, files_that_are_kept);
	tcase_add_loop_test(tc, bad_request_is_refused, 0, ARRAY_LEN(bad_requests));
	tcase_add_test(tc, deep_nesting_is_refused);
	tcase_add_loop_test(tc, good_request_is_read, 0, ARRAY_LEN(good_requests));
	tcase_add_loop_test(tc, kept_media_is_state, 0, ARRAY_LEN(kept_parts));
	tcase_add_test(tc, too_many_files_are_refused);
	tcase_add_loop_test(tc, request_to_provider, 0, ARRAY_LEN(encodings));
	tcase_add_test(tc, request_that_does_not_fit);
	tcase_add_test(tc, large_request_to_provider);
	tcase_add_loop_test(tc, recorded_stream, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(tc, truncated_stream, 0, ARRAY_LEN(streams));
	tcase_add_test(tc, usage_chunk_is_stripped);
	tcase_add_test(tc, error_in_stream_is_encoded_anew);
	tcase_add_loop_test(tc, event_facts, 0, ARRAY_LEN(events));
	tcase_add_test(tc, comment_has_no_facts);
	tcase_add_loop_test(tc, whole_answer, 0, ARRAY_LEN(answers));
	tcase_add_test(tc, sound_of_an_answer_is_kept);
	tcase_add_loop_test(tc, usage_is_disjoint, 0, ARRAY_LEN(usages));
	tcase_add_loop_test(tc, usage_absent_is_not_zero, 0, ARRAY_LEN(no_usages));
	tcase_add_test(tc, usage_property);
	tcase_add_loop_test(tc, decimal_is_exact, 0, ARRAY_LEN(decimals));
	tcase_add_test(tc, recorded_errors);
	tcase_add_loop_test(tc, class_by_marker_then_code_then_status, 0, ARRAY_LEN(classes));
	tcase_add_test(tc, words_for_the_caller);
	tcase_add_test(tc, error_event);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
