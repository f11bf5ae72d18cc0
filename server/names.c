/* server/names.c - a small pool of threads for getaddrinfo(), a cache per loop in front of it.
 *
 *   names_start() -> entry of the cache -> job -> queue -> thread -> loop_post() -> on_answer()
 *
 * Askers of the same name share one job. Threads know nothing but their job and the mailbox of the
 * loop that asked: the mailbox outlives the loop, so a thread that hangs in a name server's timeout
 * finds it closed and drops its answer. Nothing here may run getaddrinfo() on a loop. */
#include "server/names.h"

#include <assert.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/clock.h"
#include "server/base/map.h"
#include "server/base/str.h"
#include "server/loop.h"

#define NAMES_THREADS_MAX 4
#define NAMES_QUEUE_MAX	  256  /* jobs of the whole process; a worker has few origins */
#define NAMES_CACHE_MAX	  1024 /* names of one loop */

struct mailbox {
	pthread_mutex_t lock;
	struct loop *loop;   /* under the lock; NULL: closed */
	struct names *names; /* for the loop's thread alone; NULL: closed */
	_Atomic int refs;
};

struct job {
	struct job *next;
	struct mailbox *box;
	names_lookup *lookup;
	enum rc rc;
	struct names_result res;
	char host[NAMES_HOST_MAX + 1];
};

struct entry {
	int64_t ok_at_ms, failed_at_ms; /* -1: never */
	enum rc failed_rc;
	bool pending;	/* a job is out */
	bool answering; /* waiters are being told: keep it */
	struct names_query *waiters;
	struct names_result res;
	char host[NAMES_HOST_MAX + 1];
};

struct names_query {
	struct names *names;
	struct entry *entry; /* NULL: the answer in `rc` is deferred */
	struct names_query *prev, *next;
	struct loop_timer timer;
	enum rc rc;
	struct names_result res;
	names_cb *cb;
	void *arg;
};

struct names {
	struct loop *loop;
	struct map *cache;
	struct mailbox *box;
	names_lookup *lookup;
	struct names_query *deferred; /* answers to be told on the next turn */
};

static void *must_calloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

/* --- the pool ------------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct job *head, **tail;
	int queued, threads, idle;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static void mailbox_unref(struct mailbox *box)
{
	if (atomic_fetch_sub(&box->refs, 1) > 1)
		return;
	pthread_mutex_destroy(&box->lock);
	free(box);
}

static void job_free(struct job *j)
{
	mailbox_unref(j->box);
	free(j);
}

static void on_answer(void *arg);

static void job_deliver(struct job *j)
{
	struct mailbox *box = j->box;
	bool open;

	atomic_fetch_add(&box->refs, 1); /* the job may be gone before we unlock */
	pthread_mutex_lock(&box->lock);
	open = box->loop != NULL;
	if (open)
		loop_post(box->loop, on_answer, j);
	pthread_mutex_unlock(&box->lock);
	if (!open)
		job_free(j);
	mailbox_unref(box);
}

static void *pool_thread(void *arg)
{
	struct job *j;

	(void)arg;
	pthread_mutex_lock(&pool.lock);
	for (;;) {
		while (!pool.head) {
			pool.idle++;
			pthread_cond_wait(&pool.work, &pool.lock);
			pool.idle--;
		}
		j = pool.head;
		pool.head = j->next;
		pool.queued--;
		pthread_mutex_unlock(&pool.lock);
		j->rc = j->lookup(j->host, &j->res);
		job_deliver(j);
		pthread_mutex_lock(&pool.lock);
	}
	return NULL;
}

/* Under the lock. Signals belong to the main thread. */
static void pool_grow(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, &attr, pool_thread, NULL) == 0)
		pool.threads++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
}

static bool pool_put(struct job *j)
{
	bool ok;

	pthread_mutex_lock(&pool.lock);
	if (pool.idle <= pool.queued && pool.threads < NAMES_THREADS_MAX)
		pool_grow();
	ok = pool.threads > 0 && pool.queued < NAMES_QUEUE_MAX;
	if (ok) {
		if (!pool.head)
			pool.tail = &pool.head;
		*pool.tail = j;
		pool.tail = &j->next;
		pool.queued++;
		pthread_cond_signal(&pool.work);
	}
	pthread_mutex_unlock(&pool.lock);
	return ok;
}

static enum rc lookup_system(const char *host, struct names_result *ret)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *list = NULL;

	if (getaddrinfo(host, NULL, &hints, &list) != 0)
		return RC_NETWORK;
	for (const struct addrinfo *a = list; a && ret->count < NAMES_ADDRESSES_MAX;
	     a = a->ai_next) {
		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		memcpy(&ret->addr[ret->count++], a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(list);
	return ret->count > 0 ? RC_OK : RC_NETWORK;
}

/* --- one loop's side ------------------------------------------------------------------------- */

struct names *names_new(struct loop *l, names_lookup *lookup)
{
	struct names *n = must_calloc(sizeof *n);

	n->loop = l;
	n->lookup = lookup ? lookup : lookup_system;
	n->cache = map_new(0, free);
	n->box = must_calloc(sizeof *n->box);
	pthread_mutex_init(&n->box->lock, NULL);
	n->box->loop = l;
	n->box->names = n;
	n->box->refs = 1;
	return n;
}

static void query_unlink(struct names_query **list, struct names_query *q)
{
	if (q->prev)
		q->prev->next = q->next;
	else
		*list = q->next;
	if (q->next)
		q->next->prev = q->prev;
	q->prev = q->next = NULL;
}

static void query_link(struct names_query **list, struct names_query *q)
{
	q->prev = NULL;
	q->next = *list;
	if (*list)
		(*list)->prev = q;
	*list = q;
}

static void on_deferred(void *arg);

static bool entry_end(void *arg, struct str key, void *value)
{
	struct entry *e = value;
	struct names_query *q;

	(void)arg;
	(void)key;
	while ((q = e->waiters)) {
		query_unlink(&e->waiters, q);
		loop_timer_clear(&q->timer);
		free(q);
	}
	return true;
}

void names_free(struct names *n)
{
	struct names_query *q;

	if (!n)
		return;
	pthread_mutex_lock(&n->box->lock);
	n->box->loop = NULL;
	pthread_mutex_unlock(&n->box->lock);
	n->box->names = NULL;
	mailbox_unref(n->box);
	while ((q = n->deferred)) {
		query_unlink(&n->deferred, q);
		loop_defer_cancel(n->loop, on_deferred, q);
		free(q);
	}
	map_each(n->cache, entry_end, NULL);
	map_free(n->cache);
	free(n);
}

static bool entry_is_fresh(const struct entry *e, int64_t now_ms)
{
	return e->ok_at_ms >= 0 && now_ms - e->ok_at_ms < NAMES_FRESH_MS;
}

static bool entry_is_usable(const struct entry *e, int64_t now_ms)
{
	return e->ok_at_ms >= 0 && now_ms - e->ok_at_ms < NAMES_STALE_MS;
}

static bool entry_has_failed(const struct entry *e, int64_t now_ms)
{
	return e->failed_at_ms >= 0 && now_ms - e->failed_at_ms < NAMES_FAILED_MS;
}

static bool entry_is_idle(void *arg, struct str key, void *value)
{
	const struct entry *e = value;

	(void)arg;
	(void)key;
	return !e->pending && !e->answering;
}

static struct entry *entry_get(struct names *n, const char *host)
{
	struct entry *e = map_get(n->cache, str_from(host));

	if (e)
		return e;
	if (map_len(n->cache) >= NAMES_CACHE_MAX)
		map_remove_if(n->cache, entry_is_idle, NULL);
	e = must_calloc(sizeof *e);
	e->ok_at_ms = e->failed_at_ms = -1;
	memcpy(e->host, host, strlen(host) + 1);
	map_put(n->cache, str_from(host), e);
	return e;
}

static bool entry_fetch(struct names *n, struct entry *e)
{
	struct job *j;

	if (e->pending)
		return true;
	j = must_calloc(sizeof *j);
	j->box = n->box;
	j->lookup = n->lookup;
	memcpy(j->host, e->host, sizeof j->host);
	atomic_fetch_add(&n->box->refs, 1);
	e->pending = pool_put(j);
	if (!e->pending)
		job_free(j);
	return e->pending;
}

/* Tell one query, which is on no list any more. Its storage goes once its own timer has returned. */
static void query_tell(struct names_query *q, enum rc rc, const struct names_result *res)
{
	struct loop *l = q->names->loop;

	loop_timer_clear(&q->timer);
	q->cb(q->arg, rc, rc == RC_OK ? res : NULL);
	loop_defer(l, free, q);
}

static void on_answer(void *arg)
{
	struct job *j = arg;
	struct names *n = j->box->names;
	struct entry *e = n ? map_get(n->cache, str_from(j->host)) : NULL;
	struct names_query *q;

	if (e) {
		assert(e->pending);
		e->pending = false;
		if (j->rc == RC_OK) {
			e->res = j->res;
			e->ok_at_ms = clock_mono_ms();
			e->failed_at_ms = -1;
		} else {
			e->failed_at_ms = clock_mono_ms();
			e->failed_rc = j->rc;
		}
		e->answering = true;
		while (j->box->names && (q = e->waiters)) { /* an asker may free all of it */
			query_unlink(&e->waiters, q);
			query_tell(q, j->rc, &e->res);
		}
		if (j->box->names)
			e->answering = false;
	}
	job_free(j);
}

const struct names_result *names_cached(struct names *n, const char *host)
{
	struct entry *e = map_get(n->cache, str_from(host));
	int64_t now_ms = clock_mono_ms();

	if (!e || !entry_is_usable(e, now_ms))
		return NULL;
	/* a refresh that cannot be queued is tried again by the next asker */
	if (!entry_is_fresh(e, now_ms) && !entry_has_failed(e, now_ms))
		(void)entry_fetch(n, e);
	return &e->res;
}

static void on_deadline(void *arg)
{
	struct names_query *q = arg;

	query_unlink(&q->entry->waiters, q);
	query_tell(q, RC_TIMEOUT, NULL);
}

static void on_deferred(void *arg)
{
	struct names_query *q = arg;

	query_unlink(&q->names->deferred, q);
	query_tell(q, q->rc, &q->res);
}

static void query_defer(struct names_query *q, enum rc rc)
{
	q->rc = rc;
	query_link(&q->names->deferred, q);
	loop_defer(q->names->loop, on_deferred, q);
}

struct names_query *names_start(struct names *n, const char *host, names_cb *cb, void *arg)
{
	struct names_query *q = must_calloc(sizeof *q);
	const struct names_result *known;
	struct entry *e;

	q->names = n;
	q->cb = cb;
	q->arg = arg;
	if (strlen(host) > NAMES_HOST_MAX) {
		query_defer(q, RC_NETWORK);
		return q;
	}
	known = names_cached(n, host);
	if (known) {
		q->res = *known;
		query_defer(q, RC_OK);
		return q;
	}
	e = entry_get(n, host);
	if (!e->pending && entry_has_failed(e, clock_mono_ms())) {
		query_defer(q, e->failed_rc);
		return q;
	}
	if (!entry_fetch(n, e)) {
		query_defer(q, RC_UNAVAILABLE);
		return q;
	}
	q->entry = e;
	query_link(&e->waiters, q);
	loop_timer_set(n->loop, &q->timer, NAMES_DEADLINE_MS, on_deadline, q);
	return q;
}

void names_cancel(struct names_query *q)
{
	if (!q)
		return;
	if (q->entry) {
		query_unlink(&q->entry->waiters, q);
	} else {
		query_unlink(&q->names->deferred, q);
		loop_defer_cancel(q->names->loop, on_deferred, q);
	}
	loop_timer_clear(&q->timer);
	loop_defer(q->names->loop, free, q);
}
