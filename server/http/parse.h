/* server/http/parse.h - one HTTP/1.1 request at a time out of bytes; pure: no I/O, no clock, no log.
 *
 * Two readers see every byte: a scanner of our own, which holds the grammar and the bounds of
 * security.md 4.3, and llhttp in strict mode, which holds the framing. A message is taken only if
 * both took it and both say the same about its end. The verdict depends on the bytes alone, never
 * on how they were cut into pieces.
 *
 *   init -> head (until DONE) -> body (until DONE, if http_parser_has_body) -> next -> head ...
 *
 * After BAD or NOT_HTTP nothing more may be fed. One thread. */
#ifndef SERVER_HTTP_PARSE_H
#define SERVER_HTTP_PARSE_H
#include <llhttp.h>
#include <stdbool.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define HTTP_HEAD_BYTES_MAX    (48u * 1024u) /* request line and headers together */
#define HTTP_LINE_BYTES_MAX    (16u * 1024u) /* request line */
#define HTTP_HEADERS_MAX       100u
#define HTTP_METHOD_BYTES_MAX  24u    /* the longest we know has 7; past it nothing is a method */
#define HTTP_CHUNK_DIGITS_MAX  16u    /* hex digits of 64 bits */
#define HTTP_CHUNK_EXT_MAX     256u   /* bytes of one chunk extension, ignored */
#define HTTP_CHUNK_COST_BYTES  32u    /* what a chunk costs us beside its framing bytes */
#define HTTP_CHUNK_COST_FACTOR 16u    /* cost allowed per byte of payload */
#define HTTP_CHUNK_COST_FREE   16384u /* so that short bodies may come in any pieces */
#define HTTP_TRAILER_BYTES_MAX 4096u

struct http_parse_limits {
	size_t target_bytes_max;      /* 414 past it; at most HTTP_LINE_BYTES_MAX */
	size_t header_line_bytes_max; /* 431 */
	size_t headers_bytes_max;     /* 431; all lines together */
	size_t headers_max;	      /* 431; at most HTTP_HEADERS_MAX */
	uint64_t body_bytes_max;      /* 413; the largest that any endpoint takes */
};
extern const struct http_parse_limits http_parse_limits_default;

struct http_fault { /* why a message was refused; static storage */
	int status;
	const char *code;
	const char *message;
};

enum http_parse {
	HTTP_PARSE_MORE,    /* all was used, more is needed */
	HTTP_PARSE_DONE,    /* the head (or the body) is complete; `*used` says where it ended */
	HTTP_PARSE_BAD,	    /* see ->fault: answer it and close */
	HTTP_PARSE_NOT_HTTP /* a TLS handshake: close, there is nobody to answer */
};

struct http_span { /* bytes [from, from + len) of the head */
	uint16_t from, len;
};
struct http_field {
	struct http_span name, value;
};

typedef enum rc http_body_sink(void *arg, struct str bytes); /* not RC_OK: 413 */

struct http_parser {
	/* the verdict on the head, valid from DONE until http_parser_next() */
	struct http_span method, target, path,
		query;				    /* path of an absolute-form may be empty: "/" */
	struct http_field fields[HTTP_HEADERS_MAX]; /* without the names that hold '_' */
	size_t fields_count;
	bool http10, keep_alive, expect_continue, chunked, has_length, asterisk;
	uint64_t content_length;
	const struct http_fault *fault;

	/* private */
	const struct http_parse_limits *limits;
	struct buf head;
	int state;
	bool crlf_seen, underscore;
	size_t pos, mark, start, line_bytes, headers_bytes, lines;
	struct http_span name;
	uint64_t body_max, left, payload, cost;
	size_t digits, ext_bytes, trailer_bytes;
	llhttp_t ll;
	bool ll_head, ll_done;
	enum rc sink_rc;
	http_body_sink *sink;
	void *sink_arg;
};

void http_parser_init(struct http_parser *p, const struct http_parse_limits *limits); /* borrows */
void http_parser_clear(struct http_parser *p);
void http_parser_next(struct http_parser *p); /* forget this message, expect another */

/* Feed bytes of a head. `*used` is at most in.len; what is behind belongs to the body. */
enum http_parse http_parser_head(struct http_parser *p, struct str in, size_t *used);
/* Has a byte of this head been seen? (An idle connection has none.) */
bool http_parser_begun(const struct http_parser *p);
struct str http_parser_str(const struct http_parser *p, struct http_span s);
struct str http_parser_head_bytes(const struct http_parser *p);

bool http_parser_has_body(const struct http_parser *p);
/* Narrow the body's bound to this endpoint's. */
void http_parser_body_max(struct http_parser *p, uint64_t bytes_max);
/* Feed bytes of the body; payload goes to `sink` as it comes. */
enum http_parse http_parser_body(struct http_parser *p, struct str in, size_t *used,
				 http_body_sink *sink, void *arg);

#endif
