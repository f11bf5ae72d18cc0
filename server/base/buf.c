/* server/base/buf.c - the growing byte buffer.
 *
 * Must never hold more than bytes_max bytes, must never change on a refused append, and must not leave
 * what it held behind. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/buf.h"
#include "server/base/wipe.h"

#define BUF_BYTES_FIRST 256 /* most small answers fit without a second malloc */

void buf_init(struct buf *b, size_t bytes_max)
{
	*b = BUF_INIT(bytes_max);
}

void buf_clear(struct buf *b)
{
	if (!b)
		return;
	/* not its whole capacity: who reserves much and fills little shall not pay for it */
	if (b->ptr)
		explicit_bzero(b->ptr, b->len);
	free(b->ptr);
	*b = BUF_INIT(b->bytes_max);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	if (b->ptr)
		b->ptr[0] = '\0';
}

struct buf buf_take(struct buf *b)
{
	struct buf taken = *b;

	*b = BUF_INIT(b->bytes_max);
	return taken;
}

/* Make room for `more` bytes and the NUL. */
static enum rc grow(struct buf *b, size_t more)
{
	size_t need;
	size_t cap;
	char *ptr;

	assert(b->len <= b->bytes_max && b->bytes_max < SIZE_MAX / 2);
	if (more > b->bytes_max - b->len)
		return RC_TOO_LARGE;
	need = b->len + more + 1;
	if (need <= b->cap)
		return RC_OK;
	cap = b->cap ? b->cap * 2 : BUF_BYTES_FIRST;
	if (cap < need)
		cap = need;
	if (cap > b->bytes_max + 1)
		cap = b->bytes_max + 1;
	ptr = wipe_realloc(b->ptr, cap);
	if (!ptr)
		abort();
	b->ptr = ptr;
	b->cap = cap;
	b->ptr[b->len] = '\0';
	return RC_OK;
}

enum rc buf_reserve(struct buf *b, size_t more)
{
	return grow(b, more);
}

enum rc buf_append(struct buf *b, struct str s)
{
	TRY(grow(b, s.len));
	if (s.len)
		memcpy(b->ptr + b->len, s.ptr, s.len);
	b->len += s.len;
	b->ptr[b->len] = '\0';
	return RC_OK;
}

enum rc buf_append_char(struct buf *b, char c)
{
	TRY(grow(b, 1));
	b->ptr[b->len++] = c;
	b->ptr[b->len] = '\0';
	return RC_OK;
}

enum rc buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	size_t room;
	va_list again;
	int len;

	TRY(grow(b, 0));
	room = b->cap - b->len;
	va_copy(again, ap);
	len = vsnprintf(b->ptr + b->len, room, fmt, again);
	va_end(again);
	assert(len >= 0);
	if ((size_t)len >= room) {
		b->ptr[b->len] = '\0'; /* the cut text must not show if there is no room */
		TRY(grow(b, (size_t)len));
		(void)vsnprintf(b->ptr + b->len, (size_t)len + 1, fmt, ap);
	}
	b->len += (size_t)len;
	return RC_OK;
}

enum rc buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	enum rc rc;

	va_start(ap, fmt);
	rc = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return rc;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->len);
	if (n == 0)
		return;
	b->len -= n;
	memmove(b->ptr, b->ptr + n, b->len);
	b->ptr[b->len] = '\0';
}
