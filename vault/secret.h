/* vault/secret.h - plaintext that must not be seen: secure heap, wiped, never printed.
 *
 * There is no print function. Plaintext exists in vault/ and in the one function that writes the
 * upstream header (routing/upstream.c). */
#ifndef VAULT_SECRET_H
#define VAULT_SECRET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/err.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define SECRET_BYTES_MAX 16382

struct secret {
	uint8_t *ptr; /* secure heap; NULL when empty */
	size_t len;
};
#define SECRET_INIT ((struct secret){NULL, 0})

/* Once per process, before any secret. RC_INVALID: the secure heap cannot be had at all. `*locked` is false when
 * it is there but not locked into memory. */
MUST_CHECK enum rc secret_heap_start(struct err *err, bool *locked);
MUST_CHECK enum rc secret_from(struct str plain,
			       struct secret *ret); /* copies; wipe your own copy */
MUST_CHECK enum rc secret_random(struct secret *ret, size_t len);
void secret_clear(struct secret *s); /* wipes and frees; NULL and empty are fine */
struct secret secret_take(struct secret *s);
bool secret_equal(const struct secret *a,
		  const struct secret *b); /* constant time for equal lengths */
/* The bytes, for the upstream header alone. Borrowed until secret_clear(). */
struct str secret_str(const struct secret *s);

/* By what a secret is known again in what an upstream says, after it was wiped: its length, and a hash under a
 * base drawn at random when the process starts. Zeroed: of no secret. */
struct secret_mark {
	uint64_t hash;
	size_t len;
};
#define SECRET_MARK_MIN 8 /* what is shorter protects nothing, and would stand in many a word */
struct secret_mark secret_mark(const struct secret *s);
/* Overwrite the secret with asterisks wherever it stands whole in `text`. Any thread. */
void secret_redact(const struct secret_mark *m, char *text, size_t len);

#endif
