/* vault/secret.c - the secure heap and the one type whose bytes live there.
 *
 * Every byte of plaintext and every key stands in OpenSSL's secure heap (locked, guarded, left
 * out of core dumps) and is wiped when it is given back. Nothing here may log or print. */
#include "vault/secret.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>

#include "vault/secret_priv.h"

#define SECRET_HEAP_BYTES (1u << 20)
#define SECRET_HEAP_CHUNK 16

enum rc secret_heap_start(struct err *err, bool *locked)
{
	int got;

	*locked = true;
	if (CRYPTO_secure_malloc_initialized())
		return RC_OK;
	got = CRYPTO_secure_malloc_init(SECRET_HEAP_BYTES, SECRET_HEAP_CHUNK);
	if (got == 0)
		return err_set(err, RC_INVALID, "secure_heap",
			       "the secure heap for keys cannot be made: raise RLIMIT_MEMLOCK to "
			       "at least 1 MiB");
	*locked = got == 1;
	return RC_OK;
}

void *secret_heap_get(size_t len)
{
	assert(CRYPTO_secure_malloc_initialized()); /* else OpenSSL would take the common heap */
	return OPENSSL_secure_zalloc(len);
}

void secret_heap_give(void *ptr, size_t len)
{
	if (ptr)
		OPENSSL_secure_clear_free(ptr, len);
}

enum rc secret_from(struct str plain, struct secret *ret)
{
	struct secret s = SECRET_INIT;

	if (plain.len > SECRET_BYTES_MAX)
		return RC_TOO_LARGE;
	if (plain.len > 0) {
		s.ptr = secret_heap_get(plain.len);
		if (!s.ptr)
			return RC_LIMIT;
		memcpy(s.ptr, plain.ptr, plain.len);
		s.len = plain.len;
	}
	*ret = s;
	return RC_OK;
}

enum rc secret_random(struct secret *ret, size_t len)
{
	struct secret s = SECRET_INIT;

	assert(len > 0 && len <= SECRET_BYTES_MAX);
	s.ptr = secret_heap_get(len);
	if (!s.ptr)
		return RC_LIMIT;
	s.len = len;
	if (RAND_priv_bytes(s.ptr, (int)len) != 1) {
		secret_clear(&s);
		return RC_IO;
	}
	*ret = s;
	return RC_OK;
}

void secret_clear(struct secret *s)
{
	if (!s)
		return;
	secret_heap_give(s->ptr, s->len);
	*s = SECRET_INIT;
}

struct secret secret_take(struct secret *s)
{
	struct secret taken = *s;

	*s = SECRET_INIT;
	return taken;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	return a->len == b->len && (a->len == 0 || CRYPTO_memcmp(a->ptr, b->ptr, a->len) == 0);
}

struct str secret_str(const struct secret *s)
{
	return str_of(s->ptr, s->len);
}

/* ---- marks --------------------------------------------------------------------------------------- */

#define MARK_PRIME ((UINT64_C(1) << 61) - 1)

static uint64_t mark_base;
static pthread_once_t mark_once = PTHREAD_ONCE_INIT;

static void mark_start(void)
{
	if (RAND_priv_bytes((unsigned char *)&mark_base, sizeof mark_base) != 1)
		abort();
	mark_base = mark_base % (MARK_PRIME - 1000) + 500;
}

static uint64_t mark_mul(uint64_t a, uint64_t b)
{
	return (uint64_t)((unsigned __int128)a * b % MARK_PRIME);
}

static uint64_t mark_add(uint64_t hash, char c)
{
	return (mark_mul(hash, mark_base) + (unsigned char)c + 1) % MARK_PRIME;
}

struct secret_mark secret_mark(const struct secret *s)
{
	struct secret_mark m = {0, 0};

	if (!s || s->len < SECRET_MARK_MIN)
		return m;
	pthread_once(&mark_once, mark_start);
	m.len = s->len;
	for (size_t i = 0; i < s->len; i++)
		m.hash = mark_add(m.hash, (char)s->ptr[i]);
	return m;
}

/* A rolling hash: each place costs the same, however long the secret is. */
void secret_redact(const struct secret_mark *m, char *text, size_t len)
{
	uint64_t hash = 0, first = 1, next;
	size_t from = 0; /* what stands before is done */

	if (m->len == 0 || len < m->len)
		return;
	for (size_t i = 1; i < m->len; i++)
		first = mark_mul(first, mark_base);
	for (size_t i = 0; i < m->len; i++)
		hash = mark_add(hash, text[i]);
	for (size_t at = 0;; at++) {
		/* the window moves before its bytes are overwritten: they are needed to leave it */
		next = hash;
		if (at + m->len < len) {
			next = (hash + MARK_PRIME -
				mark_mul(first, (unsigned char)text[at] + UINT64_C(1))) %
			       MARK_PRIME;
			next = mark_add(next, text[at + m->len]);
		}
		if (hash == m->hash && at >= from)
			from = at + m->len;
		if (at < from)
			text[at] = '*';
		if (at + m->len >= len)
			break;
		hash = next;
	}
	for (size_t at = len - m->len; at < from; at++)
		text[at] = '*';
}
