/* test_sse.c - the same events for every way of cutting the input, and nothing past the bounds. */
#include "routing/sse.h"
#include "tests/unit/routing/fixture.h"

#define TRACE_BYTES_MAX (4u << 20)

struct trace {
	struct buf text; /* every event, field by field, in an unambiguous form */
	struct buf raw;	 /* what pass-through would have sent */
	size_t events, comments;
	size_t stop_every; /* return false at every n-th event; 0: never */
	size_t seen;
	bool stopped;
};

static void trace_init(struct trace *t, size_t stop_every)
{
	*t = (struct trace){.stop_every = stop_every};
	buf_init(&t->text, TRACE_BYTES_MAX);
	buf_init(&t->raw, TRACE_BYTES_MAX);
}

static void trace_clear(struct trace *t)
{
	buf_clear(&t->text);
	buf_clear(&t->raw);
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct trace *t = arg;

	ck_assert_int_eq(buf_printf(&t->text, "[%zu:%zu:%zu:%d]", ev->name.len, ev->data.len,
				    ev->raw.len, ev->comment),
			 RC_OK);
	ck_assert_int_eq(buf_append(&t->text, ev->name), RC_OK);
	ck_assert_int_eq(buf_append(&t->text, ev->data), RC_OK);
	ck_assert_int_eq(buf_append(&t->text, ev->raw), RC_OK);
	ck_assert_int_eq(buf_append(&t->raw, ev->raw), RC_OK);
	t->events++;
	t->comments += ev->comment;
	t->stopped = t->stop_every && ++t->seen % t->stop_every == 0;
	return !t->stopped;
}

/* Feed in pieces of `step` bytes; after a stop, resume with empty feeds. */
static enum rc feed_in_steps(struct sse *s, struct str wire, size_t step, struct trace *t)
{
	for (size_t at = 0; at < wire.len; at += step) {
		enum rc rc = sse_feed(s, str_slice(wire, at, at + step), on_event, t);

		while (rc == RC_OK && t->stopped) {
			t->stopped = false;
			rc = sse_feed(s, STR_NULL, on_event, t);
		}
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

static void check_all_cuts(struct str wire)
{
	struct trace want, got;
	bool left;
	struct sse s;

	trace_init(&want, 0);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, wire, on_event, &want), RC_OK);
	left = sse_end(&s);
	sse_clear(&s);
	for (size_t step = 1; step <= wire.len; step++) {
		for (size_t stop = 0; stop <= 2; stop++) {
			trace_init(&got, stop);
			sse_init(&s, SSE_LINE_BYTES_MAX);
			ck_assert_int_eq(feed_in_steps(&s, wire, step, &got), RC_OK);
			ck_assert_msg(str_eq(buf_str(&want.text), buf_str(&got.text)),
				      "chunk size %zu, stop every %zu", step, stop);
			ck_assert_int_eq(sse_end(&s), left);
			sse_clear(&s);
			trace_clear(&got);
		}
	}
	trace_clear(&want);
}

static const char *const fixtures[] = {
	"chat-text.sse",
	"chat-parallel-tools.sse",
	"chat-error-midstream.sse",
	"chat-truncated-no-terminator.sse",
	"openrouter-comments-and-cost.sse",
	"openrouter-error-midstream.sse",
	"mistral-usage-with-finish.sse",
	"deepseek-keepalive-reasoning.sse",
	"xai-reasoning-additive.sse",
};

START_TEST(same_events_for_every_chunk_size)
{
	struct buf wire = fixture_read(fixtures[_i]);

	check_all_cuts(buf_str(&wire));
	buf_clear(&wire);
}
END_TEST

/* The same fixture with other line ends carries the same events. */
START_TEST(same_events_for_every_line_end)
{
	static const char *const ends[] = {"\r\n", "\r"};
	struct buf wire = fixture_read(fixtures[_i]);
	struct trace want;
	struct sse s;

	trace_init(&want, 0);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, buf_str(&wire), on_event, &want), RC_OK);
	sse_clear(&s);
	for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
		struct buf other = BUF_INIT(TRACE_BYTES_MAX);
		struct trace got;

		for (size_t i = 0; i < wire.len; i++)
			ck_assert_int_eq(buf_append(&other, wire.ptr[i] == '\n'
								    ? str_from(ends[e])
								    : str_of(wire.ptr + i, 1)),
					 RC_OK);
		check_all_cuts(buf_str(&other));
		trace_init(&got, 0);
		sse_init(&s, SSE_LINE_BYTES_MAX);
		ck_assert_int_eq(sse_feed(&s, buf_str(&other), on_event, &got), RC_OK);
		ck_assert_uint_eq(got.events, want.events);
		ck_assert_uint_eq(got.comments, want.comments);
		ck_assert(str_eq(buf_str(&got.raw), buf_str(&other)));
		ck_assert(!sse_end(&s));
		sse_clear(&s);
		trace_clear(&got);
		buf_clear(&other);
	}
	trace_clear(&want);
	buf_clear(&wire);
}
END_TEST

/* Cut anywhere: the events before the cut, all of them, and no half one. */
START_TEST(truncated_at_every_byte)
{
	struct buf wire = fixture_read(fixtures[_i]);
	struct trace whole;
	struct sse s;

	trace_init(&whole, 0);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, buf_str(&wire), on_event, &whole), RC_OK);
	sse_clear(&s);
	for (size_t len = 0; len <= wire.len; len++) {
		struct trace got;

		trace_init(&got, 0);
		sse_init(&s, SSE_LINE_BYTES_MAX);
		ck_assert_int_eq(sse_feed(&s, str_of(wire.ptr, len), on_event, &got), RC_OK);
		ck_assert(str_starts(buf_str(&whole.text), buf_str(&got.text)));
		ck_assert(str_eq(buf_str(&got.raw), str_of(wire.ptr, got.raw.len)));
		ck_assert_int_eq(sse_end(&s), got.raw.len < len);
		sse_clear(&s);
		trace_clear(&got);
	}
	trace_clear(&whole);
	buf_clear(&wire);
}
END_TEST

static const struct {
	const char *wire;
	const char *want; /* name|data|comment per event, joined by ; */
} forms[] = {
	{"data: a\n\n", "|a|0;"},
	{"data:a\n\n", "|a|0;"},
	{"data:  a\n\n", "| a|0;"},
	{"data\n\n", "||0;"},
	{"data: a\ndata: b\n\n", "|a~b|0;"},
	{"data: a\ndata\ndata:b\n\n", "|a~~b|0;"},
	{"event: x\ndata: a\n\n", "x|a|0;"},
	{"data: a\nevent: x\nevent: y\n\n", "y|a|0;"},
	{"event: x\n\n", "x||1;"},
	{": ping\n\n", "||1;"},
	{": ping\ndata: a\n\n", "|a|0;"},
	{"id: 1\nretry: 5\n\n", "||1;"},
	{"\n\n\ndata: a\n\n\n\ndata: b\n\n", "|a|0;|b|0;"},
	{"data: a\r\rdata: b\r\r", "|a|0;|b|0;"},
	{"data: a\r\n\r\ndata: b\r\n\r\n", "|a|0;|b|0;"},
	{"data: a\n\r\ndata: b\r\n\n", "|a|0;|b|0;"},
	{"data: a\r\n\rdata: b\n\n", "|a|0;|b|0;"},
	{"\r\n\r\ndata: a\n\n", "|a|0;"},
	{"\xEF\xBB\xBF"
	 "data: a\n\n",
	 "|a|0;"},
	{"\xEF\xBB"
	 "data: a\n\n",
	 "||1;"},
	{"data: \xEF\xBB\xBF\n\n", "|\xEF\xBB\xBF|0;"},
	{"data: a", ""},
	{"data: a\n", ""},
	{"data: a\r\n\r", ""},
	{"", ""},
	{"\n", ""},
};

static bool on_form(void *arg, const struct sse_event *ev)
{
	struct buf *out = arg;

	ck_assert_int_eq(buf_append(out, ev->name), RC_OK);
	ck_assert_int_eq(buf_append_char(out, '|'), RC_OK);
	for (size_t i = 0; i < ev->data.len; i++)
		ck_assert_int_eq(
			buf_append_char(out, ev->data.ptr[i] == '\n' ? '~' : ev->data.ptr[i]),
			RC_OK);
	ck_assert_int_eq(buf_printf(out, "|%d;", ev->comment), RC_OK);
	return true;
}

START_TEST(forms_of_events)
{
	struct buf out = BUF_INIT(4096);
	struct sse s;

	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, str_from(forms[_i].wire), on_form, &out), RC_OK);
	ck_assert_str_eq(out.ptr ? out.ptr : "", forms[_i].want);
	sse_clear(&s);
	buf_clear(&out);
	check_all_cuts(str_from(forms[_i].wire));
}
END_TEST

/* What comes before the line that is too long is delivered, then the failure sticks; at every chunk size. */
START_TEST(line_too_long)
{
	static const char wire[] = "data: ok\n\ndata: 0123456789abcdef\n\ndata: never\n\n";

	for (size_t step = 1; step < sizeof wire; step++) {
		struct trace t;
		struct sse s;

		trace_init(&t, 0);
		sse_init(&s, 16);
		ck_assert_int_eq(feed_in_steps(&s, str_from(wire), step, &t), RC_TOO_LARGE);
		ck_assert_uint_eq(t.events, 1);
		ck_assert_int_eq(sse_feed(&s, STR("\n\ndata: x\n\n"), on_event, &t), RC_TOO_LARGE);
		ck_assert_uint_eq(t.events, 1);
		sse_clear(&s);
		trace_clear(&t);
	}
}
END_TEST

START_TEST(line_just_fits)
{
	struct trace t;
	struct sse s;

	trace_init(&t, 0);
	sse_init(&s, 16);
	ck_assert_int_eq(sse_feed(&s, STR("data: 0123456789\n\n"), on_event, &t), RC_OK);
	ck_assert_uint_eq(t.events, 1);
	sse_clear(&s);
	trace_clear(&t);
}
END_TEST

/* Short lines without an end of the block cannot grow it without bound either. */
START_TEST(block_too_large)
{
	struct trace t;
	struct sse s;
	enum rc rc = RC_OK;
	size_t fed = 0;

	trace_init(&t, 0);
	sse_init(&s, 1024);
	while (rc == RC_OK && fed < 4 * SSE_BLOCK_SLACK_BYTES) {
		rc = sse_feed(&s, STR("data: again\n"), on_event, &t);
		fed += 12;
	}
	ck_assert_int_eq(rc, RC_TOO_LARGE);
	ck_assert_uint_le(fed, SSE_BLOCK_SLACK_BYTES + 1024 + 12);
	sse_clear(&s);
	trace_clear(&t);
}
END_TEST

START_TEST(kept_bytes_are_bounded)
{
	static char block[1u << 20];
	struct trace t;
	struct sse s;
	enum rc rc = RC_OK;
	size_t fed = 0;

	memset(block, 'x', sizeof block);
	trace_init(&t, 1);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	ck_assert_int_eq(sse_feed(&s, STR("data: a\n\ndata: b\n\n"), on_event, &t), RC_OK);
	for (; rc == RC_OK && fed < 2 * SSE_KEPT_BYTES_MAX; fed += sizeof block)
		rc = sse_feed(&s, str_of(block, sizeof block), on_event, &t);
	ck_assert_int_eq(rc, RC_TOO_LARGE);
	sse_clear(&s);
	trace_clear(&t);
}
END_TEST

START_TEST(clear_takes_null)
{
	sse_clear(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sse");
	TCase *tc = tcase_create("sse");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, same_events_for_every_chunk_size, 0, ARRAY_LEN(fixtures));
	tcase_add_loop_test(tc, same_events_for_every_line_end, 0, ARRAY_LEN(fixtures));
	tcase_add_loop_test(tc, truncated_at_every_byte, 0, ARRAY_LEN(fixtures));
	tcase_add_loop_test(tc, forms_of_events, 0, ARRAY_LEN(forms));
	tcase_add_test(tc, line_too_long);
	tcase_add_test(tc, line_just_fits);
	tcase_add_test(tc, block_too_large);
	tcase_add_test(tc, kept_bytes_are_bounded);
	tcase_add_test(tc, clear_takes_null);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
