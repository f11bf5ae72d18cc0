/* routing/sse.h - split a byte stream into server-sent events, whatever the chunks.
 *
 * \n, \r\n and \r line ends, comments, multi-line data, a BOM, "data:" with or without a space. The events are the
 * same for every way of cutting the input. A line of more than line_bytes_max ends in RC_TOO_LARGE. Pure. */
#ifndef ROUTING_SSE_H
#define ROUTING_SSE_H
#include <stdbool.h>
#include "server/base/buf.h"

#define SSE_LINE_BYTES_MAX (16u << 20)
/* A block may hold a line of the largest size, and this much of short lines beside it. */
#define SSE_BLOCK_SLACK_BYTES (64u << 10)
/* Bytes fed while the reader had stopped; feeding goes on only after a pause, so this is a few reads. */
#define SSE_KEPT_BYTES_MAX (32u << 20)

struct sse_event {
	struct str name; /* "event:" value or empty */
	struct str data; /* data lines joined by \n */
	struct str
		raw; /* the bytes of the whole block as they came, with the blank line: pass-through */
	bool comment; /* no data line in it (comments, id, retry, a bare name): nothing for a dialect */
};
enum sse_line_end { SSE_END_NONE, SSE_END_LF, SSE_END_CRLF, SSE_END_CR };
struct sse {
	struct buf raw;	 /* the block being gathered */
	struct buf data; /* joined data lines, from the second on */
	struct buf kept; /* bytes not yet looked at, because the reader stopped */
	size_t line_bytes_max;
	size_t line_start;	    /* of the open line, in raw */
	size_t data_at, data_len;   /* the only data line, in raw */
	size_t name_at, name_len;   /* the last name, in raw */
	size_t data_lines;	    /* in this block */
	enum sse_line_end end_last; /* how the last line of this block ended */
	bool cr_open;		/* the last byte was a \r that ended a line: a \n belongs to it */
	bool blank_open;	/* the blank line came, its \n is awaited */
	unsigned char bom_seen; /* bytes of a BOM at the very start; BOM_DONE behind it */
	bool failed;		/* past a bound: stays so */
};
void sse_init(struct sse *s, size_t line_bytes_max);
void sse_clear(struct sse *s);
/* Feed bytes; `on_event` is called for each complete block, in order, and may return false to stop: the rest of
 * the bytes is kept and delivered by the next sse_feed() (also one with no bytes). The event is valid during
 * the callback, which must not call back into `s`. RC_TOO_LARGE is final. */
typedef bool sse_event_fn(void *arg, const struct sse_event *ev);
MUST_CHECK enum rc sse_feed(struct sse *s, struct str bytes, sse_event_fn *on_event, void *arg);
/* End of input: a last block without its blank line is NOT an event (the stream was cut). True if bytes were left. */
bool sse_end(const struct sse *s);

#endif
