/* tests/fuzz/fuzz_gemini.c - the Gemini dialect on whatever comes.
 *
 * Input: the first byte chooses the part (request, stream, answer, failure, count, path), the rest is the text. Properties: an
 * accepted request is within its bounds, goes to the vendor as one that reads the same, and if it can be read whole it
 * can be written in the same dialect again and read once more; an answer's deltas can be written for a caller, and what is
 * written reads as an answer; facts are never negative; an error always has a code and words without control bytes. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/provider.h"
#include "server/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (512u << 20)
#define OUT_BYTES   (64u << 20)
#define CAP_TOKENS  4096

static const struct dialect *const d = &dialect_gemini;
static const struct dialect *const counting = &dialect_gemini_count_tokens;
static const struct call_head head = {.model = {"m", 1}, .stream = true};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_err(const struct err *e)
{
	require(e->code && e->message[0]);
	for (const char *p = e->message; *p; p++)
		require((unsigned char)*p >= 0x20);
	for (const char *p = e->field; *p; p++)
		require((unsigned char)*p >= 0x20);
}

static void translated(const struct call *c, const struct dialect_target *t, struct arena *mem)
{
	AUTO(buf) struct buf body = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &body};
	struct ask ask = {0}, again = {0};
	struct call back;
	struct err err = {0};
	enum rc rc = c->dialect->decode_ask(c, mem, &ask, &err);

	if (rc != RC_OK) {
		if (rc == RC_INVALID)
			check_err(&err);
		return;
	}
	rc = d->encode_ask(c, &ask, t, mem, &out, &err);
	require(rc == RC_OK || rc == RC_UNSUPPORTED || rc == RC_TOO_LARGE);
	if (rc == RC_UNSUPPORTED)
		check_err(&err);
	if (rc != RC_OK)
		return;
	require(c->dialect->decode_request(&head, buf_str(&body), mem, &back, &err) == RC_OK);
	require(back.choices == c->choices && back.text_bytes <= c->text_bytes * 4 + body.len);
	require(c->dialect->decode_ask(&back, mem, &again, &err) == RC_OK);
	require(again.chat.tools_count == ask.chat.tools_count);
	require(again.chat.stop_count == ask.chat.stop_count);
	require((again.chat.schema != NULL) == (ask.chat.schema != NULL));
}

static void request(const struct dialect *in, struct str body, const char *model, struct arena *mem)
{
	AUTO(buf) struct buf sent = BUF_INIT(OUT_BYTES);
	struct outgoing out = {.body = &sent};
	struct dialect_target t = {.provider = provider_find(STR("gemini")),
				   .dialect = d,
				   .model = str_from(model),
				   .max_output_cap = CAP_TOKENS};
	struct call c, back;
	struct err err = {0};

	if (in->decode_request(&head, body, mem, &c, &err) != RC_OK) {
		check_err(&err);
		return;
	}
	require(c.choices >= 1 && c.choices <= 8 && c.states_count <= CALL_STATES_MAX);
	require(c.max_output >= 0 && c.max_output <= 1000000000 && c.text_bytes <= body.len);
	require(c.media_tokens_max >= 0 && (c.needs & CAP_TEXT));
	require(in->encode_request(&c, &t, mem, &out, &err) == RC_OK);
	require(in->decode_request(&head, buf_str(&sent), mem, &back, &err) == RC_OK);
	require(back.needs == c.needs && back.choices == c.choices);
	require(back.media_by_url == c.media_by_url && back.states_count == c.states_count);
	if (in == d)
		require(back.max_output == (c.max_output ? c.max_output : CAP_TOKENS));
	translated(&c, &t, mem);
}

static void check_facts(const struct facts *f)
{
	require(f->text_bytes >= 0 && f->finished >= 0 && f->counted >= 0);
	for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
		require(f->usage.n[i] >= 0 && f->usage.n[i] <= USAGE_UNITS_MAX);
	require((f->error == ERROR_none) == (f->err.code == NULL));
	if (f->error != ERROR_none)
		check_err(&f->err);
	for (size_t i = 0; i < f->deltas_count; i++) {
		require(f->deltas[i].choice >= 0 && f->deltas[i].choice < 8);
		require(f->deltas[i].type != CHAT_DELTA_TOOL_CALL || f->deltas[i].id.len > 0);
	}
}

struct play {
	struct dialect_ctx ctx, writing;
	struct buf out;
};

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f;

	if (d->decode_event(&p->ctx, ev, &f) != RC_OK)
		return false;
	check_facts(&f);
	if (f.error != ERROR_none)
		return false;
	require(d->encode_deltas(&p->writing, &f, &p->out) == RC_OK);
	return true;
}

static void stream(struct str wire, bool array, struct arena *mem)
{
	const struct dialect_target t = {.provider = provider_find(STR("openai")),
					 .dialect = &dialect_openai_chat,
					 .model = STR("m")};
	struct call call = {.choices = 2, .stream = true, .stream_array = array};
	struct play p = {.ctx = {.mem = mem,
				 .keep = mem,
				 .call = &call,
				 .target = &t,
				 .id = STR("x"),
				 .translate = true}};
	struct usage usage = USAGE_NONE;
	struct json *root;
	struct sse s;

	p.writing = p.ctx;
	buf_init(&p.out, OUT_BYTES);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, wire, on_event, &p) == RC_OK);
	require(d->encode_end(&p.writing, &usage, &p.out) == RC_OK);
	if (array)
		require(json_parse(buf_str(&p.out), JSON_NO_DUPLICATES, mem, &root, NULL) == RC_OK);
	sse_clear(&s);
	buf_clear(&p.out);
}

static void answer(struct str body, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = {.provider = provider_find(STR("openai")),
					 .dialect = &dialect_openai_chat,
					 .model = STR("m")};
	struct call call = {.choices = 8};
	struct dialect_ctx ctx = {.mem = mem,
				  .keep = mem,
				  .call = &call,
				  .target = &t,
				  .id = STR("x"),
				  .translate = true};
	struct dialect_ctx again = ctx;
	struct facts f, back;

	if (d->decode_response(&ctx, body, &f) != RC_OK)
		return;
	check_facts(&f);
	if (f.error != ERROR_none)
		return;
	require(d->encode_response(&ctx, &f, &out) == RC_OK);
	require(d->decode_response(&again, buf_str(&out), &back) == RC_OK);
	check_facts(&back);
}

static void failure(struct str body, int status, struct arena *mem)
{
	struct err err = {0};

	require(d->classify(status, body, mem, &err) != ERROR_none);
	check_err(&err);
	require(err.retry_after_s >= 0);
}

static void path(struct str rest)
{
	const struct dialect *got = NULL;
	struct call_head h = {0};
	struct err err = {0};

	if (gemini_path(rest, STR("sse"), &h, &got, &err) == RC_OK)
		require(got && h.model.len > 0 && h.model.len < rest.len);
	else
		check_err(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {400, 401, 402, 403, 404, 408, 413, 422,
				       429, 498, 500, 502, 503, 504, 529, 302};
	struct arena *mem;
	struct str text;

	if (size < 1)
		return 0;
	mem = arena_new(ARENA_BYTES);
	text = str_of(data + 1, size - 1);
	switch (data[0] & 7) {
	case 0:
	case 1:
		request(d, text, data[0] & 8 ? "gemini-3-pro" : "gemini-2.5-flash", mem);
		break;
	case 2:
		request(counting, text, "gemini-3-pro", mem);
		break;
	case 3:
	case 4:
		stream(text, data[0] & 8, mem);
		break;
	case 5:
		answer(text, mem);
		break;
	case 6:
		failure(text, statuses[(data[0] >> 3) & 15], mem);
		break;
	default:
		path(text);
		break;
	}
	arena_free(mem);
	return 0;
}
