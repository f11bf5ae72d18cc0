/* vault/limits.c - requests and tokens per minute and key, exact over all workers of this process.
 *
 * A fixed window: a key's minute starts with its first call and all that is taken until it ends
 * counts. The table is cut into shards, each with its own lock, held for a few instructions and
 * never over a call. Nothing here knows of Postgres: two instances each grant the whole limit. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/map.h"
#include "vault/limits_priv.h"
#include "vault/vault.h"

#define LIMITS_SHARDS	 64
#define LIMITS_SHARD_MAX 4096 /* keys with a running minute: 262,144 in all, some 30 MB */
#define LIMITS_WINDOW_MS 60000

struct minute {
	int64_t start_ms;
	int64_t requests, tokens;
};
struct shard {
	pthread_mutex_t lock;
	struct map *minutes; /* key id -> struct minute */
};
static struct shard limits_shards[LIMITS_SHARDS];

void limits_start(void)
{
	for (size_t i = 0; i < LIMITS_SHARDS; i++) {
		if (limits_shards[i].minutes)
			continue;
		pthread_mutex_init(&limits_shards[i].lock, NULL);
		limits_shards[i].minutes = map_new(0, free);
	}
}

void limits_stop(void)
{
	for (size_t i = 0; i < LIMITS_SHARDS; i++) {
		if (!limits_shards[i].minutes)
			continue;
		map_free(limits_shards[i].minutes);
		limits_shards[i].minutes = NULL;
		pthread_mutex_destroy(&limits_shards[i].lock);
	}
}

size_t limits_count(void)
{
	size_t n = 0;

	for (size_t i = 0; i < LIMITS_SHARDS; i++) {
		pthread_mutex_lock(&limits_shards[i].lock);
		n += map_len(limits_shards[i].minutes);
		pthread_mutex_unlock(&limits_shards[i].lock);
	}
	return n;
}

static struct shard *shard_of(const struct uuid *key)
{
	return &limits_shards[key->b[15] % LIMITS_SHARDS]; /* the random end of a UUIDv7 */
}

static struct str key_str(const struct uuid *key)
{
	return str_of(key->b, sizeof key->b);
}

static bool is_over(void *arg, struct str key, void *value)
{
	const struct minute *m = value;

	return *(const int64_t *)arg - m->start_ms >= LIMITS_WINDOW_MS;
}

/* The key's running minute; a new one where the last is over. NULL: the shard is full of running ones. */
static struct minute *minute_now(struct shard *s, const struct uuid *key, int64_t now)
{
	struct minute *m = map_get(s->minutes, key_str(key));

	if (m) {
		if (now - m->start_ms >= LIMITS_WINDOW_MS)
			*m = (struct minute){.start_ms = now};
		return m;
	}
	if (map_len(s->minutes) >= LIMITS_SHARD_MAX)
		map_remove_if(s->minutes, is_over, &now);
	if (map_len(s->minutes) >= LIMITS_SHARD_MAX)
		return NULL;
	m = calloc(1, sizeof *m);
	if (!m)
		abort();
	m->start_ms = now;
	map_put(s->minutes, key_str(key), m);
	return m;
}

static void fill(const struct principal *p, const struct minute *m, int64_t now,
		 struct vault_limits *ret)
{
	const int64_t left = m ? m->start_ms + LIMITS_WINDOW_MS - now : LIMITS_WINDOW_MS;
	const int64_t reset = left > LIMITS_WINDOW_MS ? LIMITS_WINDOW_MS : left;

	*ret = (struct vault_limits){.requests_limit = p->rpm, .tokens_limit = p->tpm};
	if (p->rpm > 0) {
		ret->requests_remaining = m && m->requests < p->rpm ? p->rpm - m->requests : 0;
		ret->requests_reset_ms = reset;
	}
	if (p->tpm > 0) {
		ret->tokens_remaining = m && m->tokens < p->tpm ? p->tpm - m->tokens : 0;
		ret->tokens_reset_ms = reset;
	}
}

static enum rc refuse(struct err *err, const char *what, int64_t limit, int64_t reset_ms)
{
	enum rc rc = err_set(err, RC_LIMIT, "rate_limit_exceeded",
			     "this API key's limit of %lld %s a minute is reached",
			     (long long)limit, what);

	err_hint(err, "wait for Retry-After, or ask an admin of the org for a higher limit");
	if (err)
		err->retry_after_s = (int)((reset_ms + 999) / 1000);
	return rc;
}

/* Under the shard's lock. */
static enum rc take(const struct principal *p, struct minute *m, int64_t tokens, int64_t now,
		    struct vault_limits *ret, struct err *err)
{
	const bool requests_ok = p->rpm <= 0 || (m && m->requests < p->rpm);
	const bool tokens_ok = p->tpm <= 0 || (m && m->tokens <= p->tpm - tokens);

	if (m && requests_ok && tokens_ok) {
		m->requests++;
		m->tokens += tokens;
	}
	fill(p, m, now, ret);
	if (!requests_ok)
		return refuse(err, "requests", p->rpm, ret->requests_reset_ms);
	if (!tokens_ok)
		return refuse(err, "tokens", p->tpm, ret->tokens_reset_ms);
	return RC_OK;
}

enum rc vault_limits_take(const struct principal *p, int64_t tokens, struct vault_limits *ret,
			  struct err *err)
{
	const int64_t now = clock_mono_ms();
	struct shard *s = shard_of(&p->key_id);
	enum rc rc;

	assert(tokens >= 0);
	if (p->rpm <= 0 && p->tpm <= 0) {
		*ret = (struct vault_limits){0};
		return RC_OK;
	}
	pthread_mutex_lock(&s->lock);
	if (p->tpm > 0 && tokens > p->tpm) {
		fill(p, minute_now(s, &p->key_id, now), now, ret);
		rc = err_set(err, RC_INVALID, "invalid_request_error",
			     "the call may use %lld tokens, this API key's limit is %lld in any "
			     "minute",
			     (long long)tokens, (long long)p->tpm);
		err_hint(err, "send less, or a lower limit on the answer's length");
	} else {
		rc = take(p, minute_now(s, &p->key_id, now), tokens, now, ret, err);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void vault_limits_correct(struct uuid key_id, int64_t reserved, int64_t actual,
			  int64_t taken_at_mono_ms)
{
	struct shard *s = shard_of(&key_id);
	struct minute *m;

	assert(reserved >= 0 && actual >= 0);
	pthread_mutex_lock(&s->lock);
	m = map_get(s->minutes, key_str(&key_id));
	/* A window that is over has nothing to give back. */
	if (m && taken_at_mono_ms >= m->start_ms &&
	    taken_at_mono_ms - m->start_ms < LIMITS_WINDOW_MS) {
		if (actual <= reserved)
			m->tokens -= reserved - actual < m->tokens ? reserved - actual : m->tokens;
		else if (m->tokens <= INT64_MAX - (actual - reserved))
			m->tokens += actual - reserved;
	}
	pthread_mutex_unlock(&s->lock);
}
