/* server/base/arena.h - everything of one request, freed together.
 *
 * One owner, one thread. Nothing in it is freed by hand. Foreign things (a curl handle, a database
 * call) register an undo with arena_on_clear(); undos run last-in first-out before memory goes.
 * Allocation past bytes_max ends in RC_TOO_LARGE for the checked form and NULL never: the unchecked
 * forms are for sizes that our own code bounds, and end the process past the cap. */
#ifndef SERVER_BASE_ARENA_H
#define SERVER_BASE_ARENA_H
#include <stddef.h>
#include "server/base/rc.h"
#include "server/base/str.h"

struct arena;

struct arena *arena_new(size_t bytes_max);
void arena_free(struct arena *a); /* NULL is fine */
/* The last `bytes` of the cap are for the unchecked forms alone. For who lets others decide how much is asked of the checked
 * form: else what they leave of the cap may be too little for the few bytes of our own that come next. */
void arena_reserve(struct arena *a, size_t bytes);
void *arena_alloc(struct arena *a, size_t size); /* zeroed, aligned for any type */
MUST_CHECK enum rc arena_try_alloc(struct arena *a, size_t size, void **ret); /* zeroed */
/* Grow or shrink what was handed out with `size_old` bytes; added bytes are not zeroed. Large blocks
 * move without being kept twice. On failure the old block stands. `size` 0 gives it back. */
MUST_CHECK enum rc arena_try_resize(struct arena *a, void *ptr, size_t size_old, size_t size,
				    void **ret);
/* Copies; the result is NUL-terminated. STR_NULL gives an empty string, never NULL. */
char *arena_strdup(struct arena *a, struct str s);
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void arena_on_clear(struct arena *a, void (*undo)(void *arg), void *arg);
size_t arena_bytes(const struct arena *a); /* handed out so far */

#define ARENA_NEW(a, type)	((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))

#endif
