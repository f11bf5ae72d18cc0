/* loadtest/common.h - what the programs of this folder share: a growing text, a clock, sockets, and
 * as much HTTP/1.1 as a test tool needs.
 *
 * These are tools, not the service: memory that cannot be had and a misused option end the process.
 * Nothing here is thread-safe. */
#ifndef LOADTEST_COMMON_H
#define LOADTEST_COMMON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Print the words and end the process with status 2. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
uint64_t now_us(void); /* monotonic */

/* --- text: bytes that grow; all zero is empty; `at` is NUL-terminated once something was added --- */
struct text {
	char *at;
	size_t len;
	size_t cap;
};
void text_add(struct text *t, const char *bytes, size_t len);
void text_z(struct text *t, const char *z);
void text_f(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_json(struct text *t, const char *bytes, size_t len); /* as a quoted JSON string */
void text_drop(struct text *t, size_t len);		       /* from the front */
void text_clear(struct text *t);			       /* free it */

/* --- span: a borrowed piece of bytes --- */
struct span {
	const char *at;
	size_t len;
};
struct span span_z(const char *z);
bool span_is(struct span s, const char *z);
bool span_is_nocase(struct span s, const char *z);
/* Copy as a C string, cut to the room there is. */
void span_copy(struct span s, char *to, size_t size);

/* --- sockets: IPv4 loopback tools, "HOST:PORT" with a numeric host --- */
/* Listen, non-blocking; `shown` gets the address with the port taken. */
int listen_on(const char *address, char *shown, size_t size);
/* Start a non-blocking connection; completion shows as writable. */
int dial(const char *address);

/* --- HTTP/1.1 messages --- */
struct http_head {
	struct span start[3]; /* method, target, version; or version, status, reason */
	struct span fields;   /* the header lines */
	size_t size;	      /* of the whole head, blank line included */
	bool chunked;
	bool has_length;
	bool close; /* the sender closes after this message */
	uint64_t length;
};
/* Parse the head at the front of `in`. 1: there, 0: more bytes are needed, -1: not HTTP. */
int http_head_parse(struct span in, struct http_head *ret);
bool http_header(const struct http_head *h, const char *name, struct span *ret);

/* A body as it arrives. Start with http_body_start(). */
struct http_body {
	enum {
		BODY_NONE,
		BODY_LENGTH,
		BODY_CHUNK_SIZE,
		BODY_CHUNK,
		BODY_CHUNK_END,
		BODY_TRAILER,
		BODY_TO_CLOSE
	} kind;
	uint64_t left;
	bool done;
	bool bad;
};
void http_body_start(struct http_body *b, const struct http_head *h, bool is_answer);
/* Take from `in` what belongs to the body, append its content to `out` (NULL: drop it); returns the
 * bytes taken. `b->done` and `b->bad` tell how it ended. */
size_t http_body_feed(struct http_body *b, struct span in, struct text *out);

#endif
