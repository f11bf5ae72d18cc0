/* server/base/buf.h - a growing byte buffer with a named cap, owned by its holder.
 *
 * A client can size a buffer only up to its cap; past it every append answers RC_TOO_LARGE and
 * leaves the buffer as it was. Not for threads. A failed malloc ends the process. */
#ifndef SERVER_BASE_BUF_H
#define SERVER_BASE_BUF_H
#include <stdarg.h>
#include <stddef.h>
#include "server/base/rc.h"
#include "server/base/str.h"

struct buf {
	char *ptr; /* NUL-terminated after every append, the NUL not counted */
	size_t len;
	size_t cap;
	size_t bytes_max;
};

#define BUF_INIT(max) ((struct buf){NULL, 0, 0, (max)})

void buf_init(struct buf *b, size_t bytes_max);
void buf_clear(struct buf *b);	    /* frees; keeps the cap, usable again */
void buf_reset(struct buf *b);	    /* empties, keeps the memory */
struct buf buf_take(struct buf *b); /* moves ownership out, leaves `b` empty */
MUST_CHECK enum rc buf_append(struct buf *b, struct str s);
MUST_CHECK enum rc buf_append_char(struct buf *b, char c);
MUST_CHECK enum rc buf_printf(struct buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
MUST_CHECK enum rc buf_vprintf(struct buf *b, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
MUST_CHECK enum rc buf_reserve(struct buf *b, size_t more); /* room for `more` bytes behind len */
void buf_consume(struct buf *b, size_t n);		    /* drop n bytes at the front */
static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->ptr, b->len};
}

#endif
