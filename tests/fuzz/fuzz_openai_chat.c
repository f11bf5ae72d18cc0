/* tests/fuzz/fuzz_openai_chat.c - the chat completions dialect on whatever comes.
 *
 * Input: the first byte chooses the part (request, stream, answer, failure), the rest is the text. Properties: an
 * accepted request is within its bounds and goes out as a request that reads the same but for what we changed, and for
 * every provider as one that reads at all, passed through or told anew; told twice it is the same; facts are never negative;
 * what an answer brought can be written, and what was written reads; an error always has a code and words without control
 * bytes. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (16u << 20)
#define CAP_TOKENS  4096

static const struct dialect *const d = &dialect_openai_chat;
static const struct call_head no_head;

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

static void request(struct str body, const char *provider, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct outgoing o = {.body = &out};
	struct dialect_target t = {.provider = provider_find(str_from(provider)),
				   .model = STR("vendor/new"),
				   .max_output_cap = CAP_TOKENS};
	struct call c, back;
	struct err err = {0};

	if (d->decode_request(&no_head, body, mem, &c, &err) != RC_OK) {
		check_err(&err);
		return;
	}
	require(c.model.len >= 1 && c.model.len <= 256 && c.choices >= 1 && c.choices <= 128);
	require(c.max_output >= 0 && c.max_output <= 1000000000 && c.text_bytes <= body.len);
	require(c.media_tokens_max >= 0 && (c.needs & CAP_TEXT) && (c.stream || !c.usage_asked));
	require(d->encode_request(&c, &t, mem, &o, &err) == RC_OK);
	require(d->decode_request(&no_head, buf_str(&out), mem, &back, &err) == RC_OK);
	require(str_eq(back.model, t.model) && back.stream == c.stream);
	require(back.usage_asked == (c.stream && t.provider->stream_usage_option));
	require(back.max_output == (c.max_output ? c.max_output : CAP_TOKENS));
	require(back.needs == c.needs && back.choices == c.choices &&
		back.text_bytes == c.text_bytes && back.media_by_url == c.media_by_url);
}

/* RC_OK, or refused for a reason that has a name. */
static bool went_out(enum rc rc, const struct err *err)
{
	if (rc == RC_UNSUPPORTED || rc == RC_INVALID)
		check_err(err);
	else
		require(rc == RC_OK || rc == RC_TOO_LARGE);
	return rc == RC_OK;
}

static void tell(const struct call *c, const struct dialect_target *t, struct arena *mem)
{
	AUTO(buf) struct buf passed = BUF_INIT(OUT_BYTES);
	AUTO(buf) struct buf told = BUF_INIT(OUT_BYTES);
	AUTO(buf) struct buf again = BUF_INIT(OUT_BYTES);
	struct outgoing o = {.body = &passed};
	struct call back;
	struct ask ask;
	struct err err = {0};

	if (went_out(d->encode_request(c, t, mem, &o, &err), &err))
		require(d->decode_request(&no_head, buf_str(&passed), mem, &back, &err) == RC_OK);
	o = (struct outgoing){.body = &told};
	if (!went_out(d->decode_ask(c, mem, &ask, &err), &err) ||
	    !went_out(d->encode_ask(c, &ask, t, mem, &o, &err), &err))
		return;
	if (d->decode_request(&no_head, buf_str(&told), mem, &back, &err) != RC_OK) {
		require(ask.chat.turns_count > 0); /* nothing but reasoning: no message is left */
		require(str_is(str_from(err.field), "messages"));
		return;
	}
	o = (struct outgoing){.body = &again};
	require(d->decode_ask(&back, mem, &ask, &err) == RC_OK);
	if (went_out(d->encode_ask(&back, &ask, t, mem, &o, &err), &err))
		require(str_eq(buf_str(&told), buf_str(&again)));
}

static void tell_everybody(struct str body, struct arena *mem)
{
	static const char *const models[] = {"m", "gpt-5", "kimi-k2.5", "grok-4"};
	struct call c;
	struct err err = {0};

	if (d->decode_request(&no_head, body, mem, &c, &err) != RC_OK)
		return;
	for (const struct provider *p = providers; p->id; p++)
		for (size_t i = 0; p->endpoints[0].dialect == d && i < ARRAY_LEN(models); i++)
			tell(&c,
			     &(struct dialect_target){
				     .provider = p, .dialect = d, .model = str_from(models[i])},
			     mem);
}

static void check_facts(const struct facts *f)
{
	require(f->text_bytes >= 0 && f->finished >= 0);
	for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
		require(f->usage.n[i] >= 0 && f->usage.n[i] <= 2 * USAGE_UNITS_MAX);
	require(f->usage.provider_cost_nano >= -1);
	require((f->error == ERROR_none) == (f->err.code == NULL));
	if (f->error != ERROR_none)
		check_err(&f->err);
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct dialect_ctx *ctx = arg;
	struct facts f;

	if (d->decode_event(ctx, ev, &f) != RC_OK)
		return true;
	check_facts(&f);
	require(d->encode_event(ctx, ev, &f, &out) == RC_OK);
	require(f.error != ERROR_none || out.len == 0 || str_eq(buf_str(&out), ev->raw));
	return true;
}

static void stream(struct str wire, bool usage_asked, struct arena *mem)
{
	struct call call = {.usage_asked = usage_asked};
	struct dialect_ctx ctx = {.mem = mem, .call = &call};
	struct sse s;

	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, wire, on_event, &ctx) == RC_OK);
	require(ctx.finished_choices >= 0);
	sse_clear(&s);
}

struct relay {
	struct dialect_ctx ctx;
	struct usage usage;
	struct buf out;
};

static bool on_translated(void *arg, const struct sse_event *ev)
{
	struct relay *r = arg;
	struct facts f;

	if (d->decode_event(&r->ctx, ev, &f) != RC_OK)
		return true;
	check_facts(&f);
	if (f.usage.present)
		r->usage = f.usage;
	if (!f.deltas_lost)
		require(d->encode_deltas(&r->ctx, &f, &r->out) == RC_OK);
	return true;
}

static bool on_written(void *arg, const struct sse_event *ev)
{
	struct facts f;

	require(d->decode_event(arg, ev, &f) == RC_OK);
	require(f.error == ERROR_none && !f.deltas_lost);
	return true;
}

static void translated(struct str wire, bool usage_asked, struct arena *mem)
{
	struct call call = {.usage_asked = usage_asked, .choices = 1};
	struct dialect_target t = {
		.provider = provider_find(STR("openrouter")), .dialect = d, .model = STR("m")};
	struct relay r = {.ctx = {.mem = mem,
				  .keep = mem,
				  .call = &call,
				  .target = &t,
				  .id = STR("0-1"),
				  .translate = true},
			  .usage = USAGE_NONE,
			  .out = BUF_INIT(OUT_BYTES)};
	struct dialect_ctx back = r.ctx;
	struct sse s;

	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, wire, on_translated, &r) == RC_OK);
	require(d->encode_end(&r.ctx, &r.usage, &r.out) == RC_OK);
	sse_clear(&s);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, buf_str(&r.out), on_written, &back) == RC_OK);
	sse_clear(&s);
	buf_clear(&r.out);
}

static void answer(struct str body, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct call call = {.choices = 1};
	struct dialect_target t = {
		.provider = provider_find(STR("mistral")), .dialect = d, .model = STR("m")};
	struct dialect_ctx ctx = {.mem = mem,
				  .keep = mem,
				  .call = &call,
				  .target = &t,
				  .id = STR("0-1"),
				  .translate = true};
	struct facts f;

	if (d->decode_response(&ctx, body, &f) != RC_OK)
		return;
	check_facts(&f);
	if (f.error != ERROR_none || f.deltas_lost)
		return;
	require(d->encode_response(&ctx, &f, &out) == RC_OK);
	ctx.reader = NULL;
	require(d->decode_response(&ctx, buf_str(&out), &f) == RC_OK && f.error == ERROR_none);
}

static void failure(struct str body, int status, struct arena *mem)
{
	struct err err = {0};

	require(d->classify(status, body, mem, &err) != ERROR_none);
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
	switch (data[0] & 3) {
	case 0:
		request(text, data[0] & 4 ? "openai_compatible" : "openai", mem);
		if (data[0] & 8)
			tell_everybody(text, mem);
		break;
	case 1:
		if (data[0] & 8)
			translated(text, data[0] & 4, mem);
		else
			stream(text, data[0] & 4, mem);
		break;
	case 2:
		answer(text, mem);
		break;
	default:
		failure(text, statuses[(data[0] >> 2) & 15], mem);
		break;
	}
	arena_free(mem);
	return 0;
}
