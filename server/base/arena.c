/* server/base/arena.c - memory of one request.
 *
 * Small pieces are cut from chunks; a large piece is a block of its own, so that it can be resized or
 * given back without leaving a hole. Must never hand out more than bytes_max in all, nor leave behind what
 * stood in it: a request may hold a secret. */
#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/arena.h"
#include "server/base/wipe.h"

#define ARENA_ALIGN	  alignof(max_align_t)
#define ARENA_CHUNK_FIRST 4096	/* a small request lives in one malloc */
#define ARENA_CHUNK_MAX	  65536 /* later chunks double up to this */
#define ARENA_LARGE_BYTES 8192	/* from here on a piece is a block of its own */

struct chunk {
	struct chunk *next;
	size_t used, cap;
	alignas(max_align_t) unsigned char bytes[];
};

struct block {
	struct block *next, *prev;
	alignas(max_align_t) unsigned char bytes[];
};

struct undo {
	struct undo *next;
	void (*fn)(void *arg);
	void *arg;
};

struct arena {
	size_t bytes, bytes_max;
	size_t reserved;     /* of bytes_max, for the unchecked forms */
	struct chunk *chunk; /* the newest; older ones behind it */
	struct block *blocks;
	struct undo *undo;
};

static void *must(void *ptr)
{
	if (!ptr)
		abort(); /* nothing can be said safely once memory is out */
	return ptr;
}

static size_t aligned(size_t size)
{
	return (size + (ARENA_ALIGN - 1)) & ~(ARENA_ALIGN - 1);
}

static struct chunk *chunk_new(size_t cap)
{
	struct chunk *c = must(malloc(sizeof *c + cap));

	c->next = NULL;
	c->used = 0;
	c->cap = cap;
	return c;
}

struct arena *arena_new(size_t bytes_max)
{
	struct arena *a = must(calloc(1, sizeof *a));

	assert(bytes_max < SIZE_MAX / 4);
	a->bytes_max = bytes_max;
	return a;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	while (a->undo) {
		struct undo *u = a->undo; /* it lives in the arena: an undo may register another */

		a->undo = u->next;
		u->fn(u->arg);
	}
	while (a->blocks) {
		struct block *b = a->blocks;

		a->blocks = b->next;
		wipe_free(b);
	}
	while (a->chunk) {
		struct chunk *c = a->chunk;

		a->chunk = c->next;
		explicit_bzero(c->bytes, c->used);
		free(c);
	}
	free(a);
}

static void *block_link(struct arena *a, struct block *b)
{
	b->prev = NULL;
	b->next = a->blocks;
	if (b->next)
		b->next->prev = b;
	a->blocks = b;
	return b->bytes;
}

static void block_unlink(struct arena *a, struct block *b)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		a->blocks = b->next;
	if (b->next)
		b->next->prev = b->prev;
}

static struct block *block_of(void *ptr)
{
	return (struct block *)((unsigned char *)ptr - offsetof(struct block, bytes));
}

static void *small_alloc(struct arena *a, size_t size)
{
	struct chunk *c = a->chunk;
	void *ptr;

	if (!c || c->cap - c->used < size) {
		size_t cap = c ? c->cap * 2 : ARENA_CHUNK_FIRST;

		if (cap > ARENA_CHUNK_MAX)
			cap = ARENA_CHUNK_MAX;
		if (cap < size)
			cap = size;
		c = chunk_new(cap);
		c->next = a->chunk;
		a->chunk = c;
	}
	ptr = c->bytes + c->used;
	c->used += size;
	return ptr;
}

void arena_reserve(struct arena *a, size_t bytes)
{
	assert(bytes <= a->bytes_max);
	a->reserved = bytes;
}

static enum rc alloc_below(struct arena *a, size_t bytes_max, size_t size, void **ret)
{
	/* a small piece counts as what it takes, so that many tiny ones cannot outgrow the cap */
	size_t cost = size < ARENA_LARGE_BYTES ? aligned(size ? size : 1) : size;

	if (cost > bytes_max || a->bytes > bytes_max - cost)
		return RC_TOO_LARGE;
	a->bytes += cost;
	if (size >= ARENA_LARGE_BYTES)
		*ret = block_link(a, must(calloc(1, sizeof(struct block) + size)));
	else
		*ret = memset(small_alloc(a, cost), 0, cost);
	return RC_OK;
}

enum rc arena_try_alloc(struct arena *a, size_t size, void **ret)
{
	return alloc_below(a, a->bytes_max - a->reserved, size, ret);
}

static void give_back(struct arena *a, void *ptr, size_t size)
{
	if (!ptr)
		return;
	if (size < ARENA_LARGE_BYTES)
		return; /* small pieces wait for the end, and stay counted */
	a->bytes -= size;
	block_unlink(a, block_of(ptr));
	wipe_free(block_of(ptr));
}

enum rc arena_try_resize(struct arena *a, void *ptr, size_t size_old, size_t size, void **ret)
{
	const size_t bytes_max = a->bytes_max - a->reserved;
	void *fresh;

	if (size == 0) {
		give_back(a, ptr, size_old);
		*ret = NULL;
		return RC_OK;
	}
	if (ptr && size_old >= ARENA_LARGE_BYTES && size >= ARENA_LARGE_BYTES) {
		struct block *b = block_of(ptr);

		if (size > bytes_max || a->bytes - size_old > bytes_max - size)
			return RC_TOO_LARGE;
		block_unlink(a, b);
		*ret = block_link(a, must(wipe_realloc(b, sizeof *b + size)));
		a->bytes = a->bytes - size_old + size;
		return RC_OK;
	}
	TRY(arena_try_alloc(a, size, &fresh));
	if (ptr)
		memcpy(fresh, ptr, size_old < size ? size_old : size);
	give_back(a, ptr, size_old);
	*ret = fresh;
	return RC_OK;
}

void *arena_alloc(struct arena *a, size_t size)
{
	void *ptr;

	if (alloc_below(a, a->bytes_max, size, &ptr) != RC_OK) {
		fprintf(stderr, "arena: %zu of %zu bytes are used, %zu more were asked\n", a->bytes,
			a->bytes_max, size);
		abort();
	}
	return ptr;
}

char *arena_strdup(struct arena *a, struct str s)
{
	char *z = arena_alloc(a, s.len + 1);

	if (s.len)
		memcpy(z, s.ptr, s.len);
	return z;
}

struct str arena_str(struct arena *a, struct str s)
{
	return str_of(arena_strdup(a, s), s.len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int len;
	char *z;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	assert(len >= 0);
	z = arena_alloc(a, (size_t)len + 1);
	va_start(ap, fmt);
	(void)vsnprintf(z, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return str_of(z, (size_t)len);
}

void arena_on_clear(struct arena *a, void (*undo)(void *arg), void *arg)
{
	/* past the cap on purpose: an undo that is not registered is a leak of something foreign */
	struct undo *u = small_alloc(a, aligned(sizeof *u));

	u->fn = undo;
	u->arg = arg;
	u->next = a->undo;
	a->undo = u;
}

size_t arena_bytes(const struct arena *a)
{
	return a->bytes;
}
