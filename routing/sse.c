/* routing/sse.c - server-sent events out of a byte stream, for every way of cutting it.
 *
 * Bytes are gathered block by block in `raw`, because pass-through wants the block as it came; data and name are
 * ranges of it, and only a second data line makes a copy. Blank lines between blocks, and a BOM, belong to
 * no block and are dropped.
 *
 * The one subtle place is a blank line that ends in \r: the \n that may follow is part of it. A block whose
 * lines end in \r\n waits for that byte, so that raw is whole; a block that has used a bare \r does not wait, so that
 * the last event of such a stream is not held back. Which of the two depends on the bytes alone, never on the cut.
 *
 * Must never do I/O, or let the far end size memory past the bounds of sse.h. */
#include "routing/sse.h"
#include <assert.h>

#define BOM_DONE 3

void sse_init(struct sse *s, size_t line_bytes_max)
{
	*s = (struct sse){.line_bytes_max = line_bytes_max};
	buf_init(&s->raw, line_bytes_max + SSE_BLOCK_SLACK_BYTES);
	buf_init(&s->data, line_bytes_max + SSE_BLOCK_SLACK_BYTES);
	buf_init(&s->kept, SSE_KEPT_BYTES_MAX);
}

void sse_clear(struct sse *s)
{
	if (!s)
		return;
	buf_clear(&s->raw);
	buf_clear(&s->data);
	buf_clear(&s->kept);
}

static void block_reset(struct sse *s)
{
	buf_reset(&s->raw);
	buf_reset(&s->data);
	s->line_start = 0;
	s->data_lines = 0;
	s->name_len = 0;
	s->end_last = SSE_END_NONE;
	s->blank_open = false;
}

/* One data line, at raw[at..at+len). */
static enum rc line_data(struct sse *s, size_t at, size_t len)
{
	if (s->data_lines == 0) {
		s->data_at = at;
		s->data_len = len;
	} else {
		if (s->data_lines == 1)
			TRY(buf_append(&s->data, str_of(s->raw.ptr + s->data_at, s->data_len)));
		TRY(buf_append_char(&s->data, '\n'));
		TRY(buf_append(&s->data, str_of(s->raw.ptr + at, len)));
	}
	s->data_lines++;
	return RC_OK;
}

/* The line raw[line_start..line_start+len), without its end. */
static enum rc line_field(struct sse *s, size_t len)
{
	const char *line = s->raw.ptr + s->line_start;
	const char *colon = memchr(line, ':', len);
	size_t name_len = colon ? (size_t)(colon - line) : len;
	size_t value = colon ? name_len + 1 : len;

	if (value < len && line[value] == ' ')
		value++;
	if (str_eq(str_of(line, name_len), STR("data")))
		return line_data(s, s->line_start + value, len - value);
	if (str_eq(str_of(line, name_len), STR("event"))) {
		s->name_at = s->line_start + value;
		s->name_len = len - value;
	}
	return RC_OK;
}

static bool block_emit(struct sse *s, sse_event_fn *on_event, void *arg)
{
	struct sse_event ev = {
		.name = s->name_len ? str_of(s->raw.ptr + s->name_at, s->name_len) : STR(""),
		.data = STR(""),
		.raw = buf_str(&s->raw),
		.comment = s->data_lines == 0,
	};
	bool more;

	if (s->data_lines == 1)
		ev.data = str_of(s->raw.ptr + s->data_at, s->data_len);
	else if (s->data_lines > 1)
		ev.data = buf_str(&s->data);
	more = on_event(arg, &ev);
	block_reset(s);
	return more;
}

/* The bytes at the very start that are still those of a BOM: taken, or given back as text. */
static enum rc skip_bom(struct sse *s, struct str *in)
{
	static const char bom[] = "\xEF\xBB\xBF";

	while (s->bom_seen < BOM_DONE && in->len > 0) {
		if (in->ptr[0] != bom[s->bom_seen]) {
			enum rc rc = buf_append(&s->raw, str_of(bom, s->bom_seen));

			s->bom_seen = BOM_DONE;
			return rc;
		}
		s->bom_seen++;
		*in = str_slice(*in, 1, in->len);
	}
	return RC_OK;
}

/* Finds \n and \r without looking at a byte twice, however the two are mixed. */
struct finder {
	const char *lf, *cr, *end;
};
static const char *find_from(const char *at, const char *from, const char *end, char c)
{
	if (at && at >= from)
		return at;
	at = from < end ? memchr(from, c, (size_t)(end - from)) : NULL;
	return at ? at : end;
}
static const char *find_line_end(struct finder *f, const char *from)
{
	f->lf = find_from(f->lf, from, f->end, '\n');
	f->cr = find_from(f->cr, from, f->end, '\r');
	return f->lf < f->cr ? f->lf : f->cr;
}

/* A line ended with `c`. `*emit` tells that the block is complete. */
static enum rc line_end(struct sse *s, char c, bool *emit)
{
	size_t len = s->raw.len - s->line_start;
	bool blank = len == 0;

	s->cr_open = c == '\r';
	if (blank && s->raw.len == 0)
		return RC_OK; /* between blocks: no part of any */
	if (!blank)
		TRY(line_field(s, len));
	TRY(buf_append_char(&s->raw, c));
	s->line_start = s->raw.len;
	if (!blank)
		s->end_last = c == '\r' ? SSE_END_CR : SSE_END_LF;
	else if (c == '\r' && s->end_last == SSE_END_CRLF)
		s->blank_open = true;
	else
		*emit = true;
	return RC_OK;
}

/* The byte behind a \r that ended a line. True: it was the \n of that line end. */
static enum rc after_cr(struct sse *s, char c, bool *taken, bool *emit)
{
	s->cr_open = false;
	*taken = c == '\n';
	*emit = s->blank_open;
	if (*taken && s->raw.len > 0) {
		TRY(buf_append_char(&s->raw, '\n'));
		s->line_start = s->raw.len;
		s->end_last = SSE_END_CRLF;
	}
	return RC_OK;
}

/* Take what makes one step: a part of a line, a line end, or the \n of one. */
static enum rc take(struct sse *s, struct finder *f, const char **at, bool *emit)
{
	const char *end;
	size_t len;

	*emit = false;
	if (s->cr_open) {
		bool taken;

		TRY(after_cr(s, **at, &taken, emit));
		*at += taken;
		if (taken || *emit)
			return RC_OK;
	}
	end = find_line_end(f, *at);
	len = (size_t)(end - *at);
	if (len > s->line_bytes_max - (s->raw.len - s->line_start))
		return RC_TOO_LARGE;
	TRY(buf_append(&s->raw, str_of(*at, len)));
	*at = end;
	if (end == f->end)
		return RC_OK;
	(*at)++;
	return line_end(s, *end, emit);
}

/* `*used` tells how many bytes of `in` were looked at when the reader stopped. */
static enum rc feed(struct sse *s, struct str in, size_t *used, sse_event_fn *on_event, void *arg)
{
	struct finder f = {.end = in.ptr + in.len};
	const char *at = in.ptr;

	while (at < f.end) {
		bool emit;

		TRY(take(s, &f, &at, &emit));
		assert(s->line_start <= s->raw.len);
		if (emit && !block_emit(s, on_event, arg))
			break;
	}
	*used = (size_t)(at - in.ptr);
	return RC_OK;
}

static enum rc feed_kept(struct sse *s, struct str in, sse_event_fn *on_event, void *arg)
{
	bool from_kept = s->kept.len > 0;
	size_t used = 0;

	if (from_kept) {
		TRY(buf_append(&s->kept, in));
		in = buf_str(&s->kept);
	}
	TRY(skip_bom(s, &in));
	if (in.len > 0)
		TRY(feed(s, in, &used, on_event, arg));
	if (from_kept)
		buf_consume(&s->kept, used);
	else
		TRY(buf_append(&s->kept, str_slice(in, used, in.len)));
	return RC_OK;
}

enum rc sse_feed(struct sse *s, struct str bytes, sse_event_fn *on_event, void *arg)
{
	enum rc rc = s->failed ? RC_TOO_LARGE : feed_kept(s, bytes, on_event, arg);

	s->failed = rc != RC_OK;
	return rc;
}

bool sse_end(const struct sse *s)
{
	bool part_of_bom = s->bom_seen > 0 && s->bom_seen < BOM_DONE;

	return s->raw.len > 0 || s->kept.len > 0 || part_of_bom;
}
