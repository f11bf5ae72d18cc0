/* tests/fuzz/fuzz_openai_responses.c - the Responses dialect on whatever comes.
 *
 * Input: the first byte chooses the part (request, stream, answer, failure), the rest is the text. Properties: an
 * accepted request is within its bounds, passes through as one that reads the same, and what is read whole of it can be
 * written and read again; what a stream or an answer brings can be written, and reads as whole; facts are never negative;
 * an error always has a code and words without control bytes. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (256u << 20)
#define OUT_BYTES   (64u << 20)
#define CAP_TOKENS  4096

static const struct dialect *const d = &dialect_openai_responses;
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

static struct dialect_target target(void)
{
	return (struct dialect_target){.provider = provider_find(STR("openai")),
				       .dialect = d,
				       .model = STR("vendor/new"),
				       .max_output_cap = CAP_TOKENS};
}

static void translate(const struct call *c, struct arena *mem)
{
	AUTO(buf) struct buf body = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = target();
	struct outgoing out = {.body = &body};
	struct err err = {0};
	struct ask ask, again;
	struct call back;
	enum rc rc = d->decode_ask(c, mem, &ask, &err);

	require(rc == RC_OK || rc == RC_INVALID || rc == RC_TOO_LARGE);
	if (rc == RC_INVALID)
		check_err(&err);
	if (rc != RC_OK)
		return;
	rc = d->encode_ask(c, &ask, &t, mem, &out, &err);
	require(rc == RC_OK || rc == RC_UNSUPPORTED);
	if (rc == RC_UNSUPPORTED) {
		check_err(&err);
		return;
	}
	require(d->decode_request(&no_head, buf_str(&body), mem, &back, &err) == RC_OK);
	require(back.stream == c->stream && !back.keeps_state && back.states_count == 0);
	require(back.max_output == (c->max_output ? c->max_output : CAP_TOKENS));
	require(d->decode_ask(&back, mem, &again, &err) == RC_OK);
	require(again.chat.tools_count == ask.chat.tools_count && again.chat.needs_count == 0);
	require(again.chat.choice == ask.chat.choice && again.chat.format == ask.chat.format);
}

static void request(struct str body, struct arena *mem)
{
	AUTO(buf) struct buf text = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = target();
	struct outgoing out = {.body = &text};
	struct call c, back;
	struct err err = {0};

	if (d->decode_request(&no_head, body, mem, &c, &err) != RC_OK) {
		check_err(&err);
		return;
	}
	require(c.model.len >= 1 && c.model.len <= 256 && c.choices == 1);
	require(c.max_output >= 0 && c.max_output <= 1000000000 && c.text_bytes <= body.len);
	require(c.media_tokens_max >= 0 && (c.needs & CAP_TEXT));
	require(c.states_count <= CALL_STATES_MAX && (c.states_count == 0 || c.media_by_url));
	require(d->encode_request(&c, &t, mem, &out, &err) == RC_OK);
	require(d->decode_request(&no_head, buf_str(&text), mem, &back, &err) == RC_OK);
	require(str_eq(back.model, t.model) && back.stream == c.stream);
	require(back.max_output == (c.max_output ? c.max_output : CAP_TOKENS));
	require(back.needs == c.needs && back.text_bytes == c.text_bytes &&
		back.keeps_state == c.keeps_state);
	translate(&c, mem);
}

static void check_facts(const struct facts *f)
{
	require(f->text_bytes >= 0 && f->finished >= 0 && f->finished <= 1);
	require(!f->ending || f->terminal);
	for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
		require(f->usage.n[i] >= 0 && f->usage.n[i] <= 2 * USAGE_UNITS_MAX);
	require((f->error == ERROR_none) == (f->err.code == NULL));
	if (f->error != ERROR_none)
		check_err(&f->err);
	for (size_t i = 0; i < f->deltas_count; i++)
		require(f->deltas[i].type != CHAT_DELTA_TOOL_CALL || f->deltas[i].id.len > 0);
}

struct play {
	struct dialect_ctx ctx;
	struct buf out;
	struct usage usage;
	bool terminal, written, protocol;
	int finished;
};

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f = {.usage = USAGE_NONE};

	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
		return true;
	}
	check_facts(&f);
	if (f.usage.present)
		p->usage = f.usage;
	p->terminal |= f.terminal;
	p->finished += f.finished;
	require(p->finished <= 1);
	if (!p->ctx.translate)
		require(d->encode_event(&p->ctx, ev, &f, &p->out) == RC_OK);
	else if (p->written && !f.deltas_lost)
		require(d->encode_deltas(&p->ctx, &f, &p->out) == RC_OK);
	return true;
}

/* A caller's question with a tool of free text, "p": calls of it are written as its own. */
static struct call call_of(struct arena *mem)
{
	static const char body[] = "{\"tools\":[{\"type\":\"custom\",\"name\":\"p\"}]}";
	struct json *root;

	require(json_parse(str_from(body), JSON_NO_DUPLICATES, mem, &root, NULL) == RC_OK);
	return (struct call){.choices = 1, .body = root};
}

static void play(struct play *p, struct str wire, bool translated, bool written, struct arena *mem)
{
	static struct dialect_target t;
	static struct call call;
	struct sse s;

	t = target();
	call = call_of(mem);
	*p = (struct play){.usage = USAGE_NONE, .written = written, .out = BUF_INIT(OUT_BYTES)};
	p->ctx = (struct dialect_ctx){.mem = mem,
				      .keep = mem,
				      .call = &call,
				      .target = &t,
				      .id = STR("018f"),
				      .translate = translated};
	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, wire, on_event, p) == RC_OK);
	sse_clear(&s);
}

static void stream(struct str wire, bool translated, struct arena *mem)
{
	struct play p, back;

	play(&p, wire, translated, true, mem);
	if (translated) {
		require(d->encode_end(&p.ctx, &p.usage, &p.out) == RC_OK);
		play(&back, buf_str(&p.out), true, false, mem);
		require(back.terminal && back.finished == 1 && !back.protocol);
		require(!back.ctx.saw_error);
		buf_clear(&back.out);
	}
	buf_clear(&p.out);
}

static void answer(struct str body, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct facts f = {.usage = USAGE_NONE}, back = {.usage = USAGE_NONE};
	struct dialect_target t = target();
	struct call call = call_of(mem);
	struct dialect_ctx ctx = {.mem = mem,
				  .keep = mem,
				  .call = &call,
				  .target = &t,
				  .id = STR("018f"),
				  .translate = true};
	struct dialect_ctx again = {.mem = mem, .keep = mem};

	if (d->decode_response(&ctx, body, &f) != RC_OK)
		return;
	check_facts(&f);
	if (f.error != ERROR_none || f.deltas_lost)
		return;
	require(d->encode_response(&ctx, &f, &out) == RC_OK);
	require(d->decode_response(&again, buf_str(&out), &back) == RC_OK);
	check_facts(&back);
	require(back.error == ERROR_none && back.finished == 1);
}

static void failure(struct str body, int status, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct err err = {0};

	require(d->classify(status, body, mem, &err) != ERROR_none);
	check_err(&err);
	require(d->encode_error_event(&err, STR_NULL, &out) == RC_OK);
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
		request(text, mem);
		break;
	case 1:
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
