/* server/base/wipe.h - an allocator that leaves nothing behind: what it frees is overwritten first.
 *
 * For the libraries that copy secrets and bodies onto the common heap (libcurl, OpenSSL, libevent): they take
 * it in place of malloc. Memory of plain malloc() may be given to it. Any thread. */
#ifndef SERVER_BASE_WIPE_H
#define SERVER_BASE_WIPE_H
#include <stddef.h>

void wipe_free(void *ptr); /* NULL is fine */
/* As realloc(), but that it never leaves a copy where the bytes were; NULL: no memory, `ptr` stands. */
void *wipe_realloc(void *ptr, size_t size);

#endif
