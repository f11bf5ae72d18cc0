/* tests/fuzz/fuzz_anthropic.c - the Messages API on whatever comes.
 *
 * Input: the first byte chooses the part (request, question through what stands between, stream, answer, usage, failure), the
 * rest is the text. Properties: an accepted request is within its bounds and goes out as a request that reads the same;
 * a question that was read whole can be written, or is refused with a name, and what was written reads again; what a stream
 * or an answer brought can be told in this dialect as JSON whose events never overlap; no counter is negative. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/dialects/anthropic_priv.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (256u << 20)
#define OUT_BYTES   (16u << 20)

static const struct call_head no_head;
static const char *const models[] = {"claude-3-haiku-20240307", "claude-haiku-4-5",
				     "claude-opus-4-6", "claude-opus-5"};

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

static struct dialect_target target(const struct dialect *d, unsigned which)
{
	return (struct dialect_target){.provider = provider_find(STR("anthropic")),
				       .dialect = d,
				       .model = str_from(models[which & 3])};
}

static void request(const struct dialect *d, struct str body, unsigned which, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = target(d, which);
	struct outgoing o = {.body = &out};
	struct call c, back;
	struct err err = {0};

	if (d->decode_request(&no_head, body, mem, &c, &err) != RC_OK) {
		check_err(&err);
		return;
	}
	require(c.model.len >= 1 && c.model.len <= 256 && c.choices == 1);
	require(c.max_output >= 0 && c.max_output <= 1000000000 && c.text_bytes <= body.len);
	require(c.media_tokens_max >= 0 && (c.needs & CAP_TEXT) &&
		c.states_count <= CALL_STATES_MAX);
	require(d->encode_request(&c, &t, mem, &o, &err) == RC_OK);
	require(str_find_str(body, STR(CHAT_OPAQUE_MARK)) >= 0 ||
		d->decode_request(&no_head, buf_str(&out), mem, &back, &err) == RC_OK);
}

static void question(const struct dialect *d, struct str body, unsigned which, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = target(d, which);
	struct outgoing o = {.body = &out};
	struct call c, back;
	struct err err = {0};
	struct ask ask = {0};
	enum rc rc;

	if (d->decode_request(&no_head, body, mem, &c, &err) != RC_OK)
		return;
	rc = d->decode_ask(&c, mem, &ask, &err);
	if (rc == RC_OK)
		rc = d->encode_ask(&c, &ask, &t, mem, &o, &err);
	require(rc == RC_OK || rc == RC_INVALID || rc == RC_UNSUPPORTED || rc == RC_TOO_LARGE);
	if (rc != RC_OK) {
		check_err(&err);
		return;
	}
	require(d->decode_request(&no_head, buf_str(&out), mem, &back, &err) == RC_OK);
	require(str_eq(back.model, t.model) && back.stream == c.stream);
}

static void check_facts(const struct facts *f)
{
	require(f->text_bytes >= 0 && f->finished >= 0 && f->finished <= 1);
	for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
		require(f->usage.n[i] >= 0 && f->usage.n[i] <= USAGE_UNITS_MAX);
	require((f->error == ERROR_none) == (f->err.code == NULL));
	if (f->error != ERROR_none)
		check_err(&f->err);
}

struct play {
	struct dialect_ctx ctx, back; /* as the provider's, as the caller's */
	struct arena *mem;
	int64_t open, next; /* blocks of what was told */
	struct buf told;
};

static bool on_told(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct json *v;
	struct str type;
	int64_t index = -1;

	require(json_parse(ev->data, JSON_NO_DUPLICATES, p->mem, &v, NULL) == RC_OK);
	require(json_string(json_get(v, "type"), &type) && str_eq(type, ev->name));
	if (json_int(json_get(v, "index"), &index)) {
		if (str_is(type, "content_block_start")) {
			require(p->open == -1 && index == p->next++);
			p->open = index;
		}
		require(index == p->open);
		if (str_is(type, "content_block_stop"))
			p->open = -1;
	}
	return true;
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct play *p = arg;
	struct facts f;

	if (anthropic_decode_event(&p->ctx, ev, &f) != RC_OK)
		return true;
	check_facts(&f);
	require(anthropic_encode_event(&p->ctx, ev, &f, &out) == RC_OK);
	require(f.error != ERROR_none || str_eq(buf_str(&out), ev->raw));
	require(f.deltas_lost || anthropic_encode_deltas(&p->back, &f, &p->told) == RC_OK);
	return true;
}

static void play_init(struct play *p, struct dialect_target *t, struct arena *mem)
{
	*p = (struct play){.mem = mem, .open = -1, .told = BUF_INIT(OUT_BYTES * 4)};
	p->ctx = (struct dialect_ctx){
		.mem = mem, .keep = mem, .target = t, .id = STR("i-1"), .translate = true};
	p->back = p->ctx;
}

static void stream(struct str wire, struct arena *mem)
{
	struct dialect_target t = target(&dialect_anthropic_messages, 0);
	const struct usage none = USAGE_NONE;
	struct play p;
	struct sse s;

	play_init(&p, &t, mem);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, wire, on_event, &p) == RC_OK);
	sse_clear(&s);
	require(anthropic_encode_end(&p.back, &none, &p.told) == RC_OK);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	require(sse_feed(&s, buf_str(&p.told), on_told, &p) == RC_OK && p.open == -1);
	sse_clear(&s);
	buf_clear(&p.told);
}

static void answer(struct str body, struct arena *mem)
{
	struct dialect_target t = target(&dialect_anthropic_messages, 0);
	struct json *v;
	struct facts f;
	struct play p;

	play_init(&p, &t, mem);
	if (anthropic_decode_response(&p.ctx, body, &f) == RC_OK) {
		check_facts(&f);
		if (f.error == ERROR_none && !f.deltas_lost) {
			require(anthropic_encode_response(&p.back, &f, &p.told) == RC_OK);
			require(json_parse(buf_str(&p.told), JSON_NO_DUPLICATES, mem, &v, NULL) ==
				RC_OK);
		}
	}
	if (anthropic_decode_counted(&p.ctx, body, &f) == RC_OK)
		require(f.counted >= 0);
	buf_clear(&p.told);
}

/* Two snapshots of one answer: the same object twice changes nothing. */
static void usage(struct str text, struct arena *mem)
{
	struct anthropic_usage state = {0};
	struct usage u, again;
	struct json *v;

	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &v, NULL) != RC_OK)
		return;
	anthropic_usage_read(&state, v, &u);
	anthropic_usage_read(&state, v, &again);
	require(u.present == again.present);
	for (size_t i = 0; i < USAGE_CLASS_COUNT; i++)
		require(u.n[i] >= 0 && u.n[i] <= USAGE_UNITS_MAX && u.n[i] == again.n[i] &&
			(u.present || u.n[i] == 0));
}

static void failure(struct str body, int status, struct arena *mem)
{
	struct err err = {0};

	require(dialect_anthropic_messages.classify(status, body, mem, &err) != ERROR_none);
	check_err(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {400, 401, 403, 413, 429, 500, 529, 302};
	struct arena *mem;
	struct str text;
	unsigned which;

	if (size < 1)
		return 0;
	mem = arena_new(ARENA_BYTES);
	text = str_of(data + 1, size - 1);
	which = data[0] >> 3;
	switch (data[0] & 7) {
	case 0:
		request(&dialect_anthropic_messages, text, which, mem);
		break;
	case 1:
		request(&dialect_anthropic_count_tokens, text, which, mem);
		break;
	case 2:
		question(&dialect_anthropic_messages, text, which, mem);
		break;
	case 3:
		question(&dialect_anthropic_count_tokens, text, which, mem);
		break;
	case 4:
		stream(text, mem);
		break;
	case 5:
		answer(text, mem);
		break;
	case 6:
		usage(text, mem);
		break;
	default:
		failure(text, statuses[which & 7], mem);
		break;
	}
	arena_free(mem);
	return 0;
}
