/* tests/fuzz/fuzz_sse.c - sse.c: any way of cutting the input gives the same events.
 *
 * Input: the first byte seeds the cuts, the second chooses a small or the full line bound and whether the
 * reader stops after events, the rest is the stream. Properties: events, their raw bytes and the final result are those
 * of one feed; raw bytes are bytes of the input; data holds no carriage return or line feed that no join made. */
#include <stdlib.h>

#include "routing/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TRACE_BYTES_MAX	 (64u << 20)
#define LINE_BYTES_SMALL 48

static void require(bool holds)
{
	if (!holds)
		abort();
}

struct trace {
	struct buf text;
	size_t raw_bytes, events;
	unsigned stop_every;
	bool stopped;
};

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct trace *t = arg;
	size_t lines = 1;

	for (size_t i = 0; i < ev->data.len; i++) {
		require(ev->data.ptr[i] != '\r');
		lines += ev->data.ptr[i] == '\n';
	}
	require(!ev->comment || ev->data.len == 0);
	require(ev->raw.len >= lines && ev->raw.len > ev->data.len);
	require(buf_printf(&t->text, "[%zu %zu %zu %d]", ev->name.len, ev->data.len, ev->raw.len,
			   ev->comment) == RC_OK);
	require(buf_append(&t->text, ev->name) == RC_OK &&
		buf_append(&t->text, ev->data) == RC_OK && buf_append(&t->text, ev->raw) == RC_OK);
	t->raw_bytes += ev->raw.len;
	t->events++;
	t->stopped = t->stop_every && t->events % t->stop_every == 0;
	return !t->stopped;
}

static enum rc feed(struct sse *s, struct str piece, struct trace *t)
{
	enum rc rc = sse_feed(s, piece, on_event, t);

	while (rc == RC_OK && t->stopped) {
		t->stopped = false;
		rc = sse_feed(s, STR_NULL, on_event, t);
	}
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace whole = {0}, cut = {0};
	struct sse a, b;
	struct str wire;
	enum rc rc_whole, rc_cut = RC_OK;
	uint32_t seed;
	size_t line_max;

	if (size < 2)
		return 0;
	seed = data[0];
	line_max = data[1] & 1 ? LINE_BYTES_SMALL : SSE_LINE_BYTES_MAX;
	cut.stop_every = (data[1] >> 1) & 3;
	wire = str_of(data + 2, size - 2);
	buf_init(&whole.text, TRACE_BYTES_MAX);
	buf_init(&cut.text, TRACE_BYTES_MAX);
	sse_init(&a, line_max);
	sse_init(&b, line_max);
	rc_whole = feed(&a, wire, &whole);
	for (size_t at = 0; rc_cut == RC_OK && at < wire.len;) {
		size_t step = 1 + (seed >> 16) % 7;

		seed = seed * 1103515245u + 12345u;
		rc_cut = feed(&b, str_slice(wire, at, at + step), &cut);
		at += step;
	}
	require(rc_whole == rc_cut && whole.events == cut.events);
	require(str_eq(buf_str(&whole.text), buf_str(&cut.text)));
	require(whole.raw_bytes <= wire.len);
	require(rc_whole != RC_OK || sse_end(&a) == sse_end(&b));
	sse_clear(&a);
	sse_clear(&b);
	buf_clear(&whole.text);
	buf_clear(&cut.text);
	return 0;
}
