/* vault/dek.c - an org's data key: fetched, made on first use, cached; and what is sealed with it.
 *
 * vault_seal() and vault_open() wait here for the org's data key; all that wait for one org share one
 * fetch. What is cached is the data key, in the secure heap, never a plaintext: deriving and opening
 * costs microseconds. A key older than the TTL is fetched again; while Postgres is away it serves on
 * for TOLLGATE_STALE_SECONDS, as everything does that is known to any worker: each puts a copy of
 * what it fetched on the process's shelf, in the secure heap too.
 *
 * A data key under a master key that is kept elsewhere (kek_priv.h) is asked for again when three quarters of the TTL
 * are over, and serves to the end of it whatever comes of that; then, while its keeper gives no answer, nobody gets
 * it. A row that is as it was needs no request before that, on whichever worker it was unwrapped. */
#include <assert.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/loop.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/secret_priv.h"
#include "vault/vault_priv.h"

#define DEK_VERSIONS_MAX 8 /* dek_get() answers no more */
#define DEK_ROW_BYTES	 (128 * 1024)
#define DEK_RENEW_MIN_MS 1000 /* between two tries to renew before the TTL is over */
#define FETCH_AGAIN_S	 30   /* a key that is not here comes with a restart */

struct dek {
	uint32_t ver;
	bool active, remote;
	uint8_t *key;		       /* secure heap */
	int64_t unwrapped_ms;	       /* when its keeper last did */
	uint8_t wrapped[SHA256_BYTES]; /* of what the row held */
};
struct dek_entry {	    /* one org's */
	int64_t fetched_ms; /* or unwrapped, what is older */
	int64_t renew_ms;   /* not before: a try to renew in time */
	uint64_t ticket;
	bool expired;	 /* a change may have been missed: fetch again if one can */
	int64_t min_ver; /* what is older does not open, though its key may stand here */
	size_t count;
	struct dek deks[DEK_VERSIONS_MAX];
};

struct dek_row { /* of Postgres, kept while its key is unwrapped */
	uint32_t ver;
	bool active;
	struct str kek_id, wrapped;
	int64_t kek_ver;
};
struct dek_fetch {
	struct vault_worker *v;
	struct org_id org;
	struct pg_call *pg;
	struct kek_call *kek;
	uint64_t ticket;
	bool pg_away;
	/* unwrapping: one row after another */
	struct arena *mem;
	struct dek_row rows[DEK_VERSIONS_MAX];
	size_t rows_count, row;
	struct dek_entry *entry; /* what was unwrapped so far */
	enum rc rc;		 /* RC_OK, or what the worst row ended with */
	struct err err;
	int64_t min_ver;
	bool changed; /* since it was asked: what comes may be outdated */
};

struct vault_call {
	struct vault_worker *v;
	bool seal;
	struct secret_ref ref;
	struct secret plain; /* to seal */
	struct buf blob;     /* to open */
	vault_seal_cb *seal_cb;
	vault_open_cb *open_cb;
	void *arg;
	struct dek_fetch *fetch; /* waits for it; NULL: is deferred */
	bool no_room;		 /* the secure heap could not take the secret */
	struct vault_call *prev, *next;
};

struct dek_cache {
	struct map *entries; /* org -> struct dek_entry */
	struct map *fetches; /* org -> struct dek_fetch */
	struct vault_call *calls;
};

static void call_step(void *arg);

static struct str org_key(const struct org_id *org)
{
	return str_of(org->u.b, sizeof org->u.b);
}

/* ---- entries ------------------------------------------------------------------------------------ */

static void entry_free(void *value)
{
	struct dek_entry *e = value;

	for (size_t i = 0; i < e->count; i++)
		secret_heap_give(e->deks[i].key, ENVELOPE_DEK_BYTES);
	free(e);
}

static bool entry_is_fresh(const struct vault_worker *v, const struct dek_entry *e, int64_t now)
{
	return !e->expired && now - e->fetched_ms < v->vault->dek_ttl_ms;
}

/* Its keeper gives no answer, Postgres does: to the end of the TTL, and no longer. */
static bool entry_is_young(const struct vault_worker *v, const struct dek_entry *e, int64_t now)
{
	return now - e->fetched_ms < v->vault->dek_ttl_ms;
}

static bool entry_is_remote(const struct dek_entry *e)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->deks[i].remote)
			return true;
	return false;
}

static bool entry_is_usable(const struct vault_worker *v, const struct dek_entry *e, int64_t now)
{
	return entry_is_fresh(v, e, now) || now - e->fetched_ms < v->vault->stale_ms;
}

static const uint8_t *entry_active(const struct dek_entry *e, uint32_t *ver)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->deks[i].active) {
			*ver = e->deks[i].ver;
			return e->deks[i].key;
		}
	return NULL;
}

static const uint8_t *entry_find(const struct dek_entry *e, uint32_t ver)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->deks[i].ver == ver)
			return e->deks[i].key;
	return NULL;
}

/* ---- the shelf: what any worker has fetched ------------------------------------------------------ */

/* NULL: the secure heap is full. */
static struct dek_entry *entry_copy(const struct dek_entry *from)
{
	struct dek_entry *e = calloc(1, sizeof *e);

	if (!e)
		abort();
	e->fetched_ms = from->fetched_ms;
	e->ticket = from->ticket;
	e->min_ver = from->min_ver;
	for (size_t i = 0; i < from->count; i++) {
		e->deks[i] = from->deks[i];
		e->deks[i].key = secret_heap_get(ENVELOPE_DEK_BYTES);
		if (!e->deks[i].key) {
			entry_free(e);
			return NULL;
		}
		memcpy(e->deks[i].key, from->deks[i].key, ENVELOPE_DEK_BYTES);
		e->count = i + 1;
	}
	return e;
}

/* False: something changed since it was asked for, or was read later; then that is what holds. */
static bool entry_share(struct vault_worker *v, const struct org_id *org, const struct dek_entry *e)
{
	struct dek_entry *copy = entry_copy(e);

	if (!copy)
		return true; /* what serves comes before what might */
	return shelf_put(v->vault->dek_shelf, &(struct shelf_put){
						      .key = org_key(org),
						      .tag = org_key(org),
						      .ticket = e->ticket,
						      .read_ms = e->fetched_ms,
						      .bytes = e->count * ENVELOPE_DEK_BYTES,
						      .value = copy,
					      });
}

/* Postgres is away: the newest that any worker has fetched, if that is newer than what is known here; else what
 * is known here, or NULL. Fetched again as soon as it can be. */
static struct dek_entry *entry_adopt(struct vault_worker *v, const struct org_id *org)
{
	struct dek_entry *e = map_get(v->deks->entries, org_key(org)), *found = NULL;
	struct shelf_item *i = shelf_get(v->vault->dek_shelf, org_key(org), e ? e->ticket : 0);

	if (i && clock_mono_ms() - shelf_read_ms(i) < v->vault->stale_ms)
		found = entry_copy(shelf_value(i));
	shelf_give(i);
	if (!found)
		return e;
	found->expired = true;
	map_put(v->deks->entries, org_key(org), found);
	return found;
}

/* ---- calls -------------------------------------------------------------------------------------- */

static struct vault_call *call_new(struct worker *w, const struct secret_ref *ref, bool seal,
				   void *arg)
{
	struct vault_call *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->v = vault_worker_of(w);
	c->seal = seal;
	c->ref = *ref;
	c->arg = arg;
	c->blob = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	c->next = c->v->deks->calls;
	if (c->next)
		c->next->prev = c;
	c->v->deks->calls = c;
	return c;
}

static void call_free(struct vault_call *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->v->deks->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	secret_clear(&c->plain);
	buf_clear(&c->blob);
	free(c);
}

/* The call is gone when its callback runs: that may ask for anything but this call again. */
static void call_fail(struct vault_call *c, enum rc rc, const struct err *err)
{
	vault_seal_cb *const seal_cb = c->seal_cb;
	vault_open_cb *const open_cb = c->open_cb;
	void *const arg = c->arg;
	const bool seal = c->seal;

	if (!seal && rc == RC_CORRUPT)
		counter_add(&c->v->vault->open_failures, 1);
	call_free(c);
	if (seal)
		seal_cb(arg, rc, NULL, err);
	else
		open_cb(arg, rc, NULL, err);
}

static void call_corrupt(struct vault_call *c)
{
	struct err err = {0};

	tried_note(c->v, &c->ref, buf_str(&c->blob), "vault_auth");
	call_fail(c,
		  err_set(&err, RC_CORRUPT, "vault_auth",
			  "the stored secret does not open: set it again"),
		  &err);
}

/* For the admin another code; what the caller is told does not depend on it. */
static void call_retired(struct vault_call *c)
{
	struct err err = {0};

	tried_note(c->v, &c->ref, buf_str(&c->blob), "vault_version_retired");
	call_fail(c,
		  err_set(&err, RC_CORRUPT, "vault_version_retired",
			  "the stored secret was sealed with a data key that is not used any more"),
		  &err);
}

static void call_no_room(struct vault_call *c, enum rc rc)
{
	struct err err = {0};

	if (rc == RC_TOO_LARGE) {
		err_set(&err, rc, "secret_too_large", "a secret may have %d bytes at most",
			SECRET_BYTES_MAX);
	} else {
		rc = err_set(&err, RC_UNAVAILABLE, "vault_unavailable",
			     "the vault cannot work now");
		err.retry_after_s = 1;
	}
	call_fail(c, rc, &err);
}

static void call_seal(struct vault_call *c, const uint8_t *dek, uint32_t ver)
{
	AUTO(buf) struct buf box = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	struct sealed sealed = {.blob = STR_NULL};
	vault_seal_cb *const cb = c->seal_cb;
	void *const arg = c->arg;
	enum rc rc = envelope_seal(dek, ver, &c->ref, secret_str(&c->plain), &box);

	if (rc == RC_OK)
		rc = envelope_fingerprint(dek, secret_str(&c->plain), sealed.fingerprint);
	if (rc != RC_OK) {
		call_no_room(c, rc);
		return;
	}
	counter_add(&c->v->vault->seals, 1);
	envelope_mask(secret_str(&c->plain), sealed.masked);
	sealed.blob = buf_str(&box);
	call_free(c);
	cb(arg, RC_OK, &sealed, NULL);
}

static void call_open(struct vault_call *c, const uint8_t *dek, uint32_t ver)
{
	AUTO(secret) struct secret plain = SECRET_INIT;
	vault_open_cb *const cb = c->open_cb;
	void *const arg = c->arg;
	enum rc rc = envelope_open(dek, ver, &c->ref, buf_str(&c->blob), &plain);

	if (rc == RC_CORRUPT) {
		call_corrupt(c);
	} else if (rc != RC_OK) {
		call_no_room(c, rc);
	} else {
		counter_add(&c->v->vault->opens, 1);
		call_free(c);
		cb(arg, RC_OK, &plain, NULL);
	}
}

/* Use what stands in `e`. False: the version that is wanted is not there. */
static bool call_use(struct vault_call *c, const struct dek_entry *e)
{
	const uint8_t *dek;
	uint32_t ver = 0;

	if (c->seal) {
		dek = entry_active(e, &ver);
		if (dek)
			call_seal(c, dek, ver);
		return dek != NULL;
	}
	if (envelope_dek_ver(buf_str(&c->blob), &ver) != RC_OK) {
		call_corrupt(c);
		return true;
	}
	if (ver < e->min_ver) {
		call_retired(c);
		return true;
	}
	dek = entry_find(e, ver);
	if (dek)
		call_open(c, dek, ver);
	return dek != NULL;
}

/* ---- fetch -------------------------------------------------------------------------------------- */

static struct vault_call *fetch_waiter(const struct dek_fetch *f, bool opens_only)
{
	struct vault_call *c = f->v->deks->calls;

	while (c && (c->fetch != f || (opens_only && c->seal)))
		c = c->next;
	return c;
}

static void fetch_free(struct dek_fetch *f)
{
	if (f->entry)
		entry_free(f->entry);
	arena_free(f->mem);
	free(f);
}

/* Not among what was unwrapped. Where its row may be one that this process could not unwrap, nothing is known about
 * the secret; nothing is sealed without the active one. */
static void call_without_key(struct vault_call *c, const struct dek_fetch *f)
{
	struct err err = {0};

	if (!c->seal && (f->rc == RC_OK || f->rc == RC_CORRUPT)) {
		call_corrupt(c);
		return;
	}
	err_set(&err, RC_UNAVAILABLE, "vault_unavailable",
		"the org's data key cannot be unwrapped here");
	err.retry_after_s = FETCH_AGAIN_S;
	call_fail(c, RC_UNAVAILABLE, &err);
}

/* All that waited go on; each callback may take others with it, so look again each time. */
static void fetch_end(struct dek_fetch *f, enum rc rc, const struct err *err)
{
	struct dek_cache *const cache = f->v->deks;
	const int64_t now = clock_mono_ms();
	struct vault_call *c;

	map_remove(cache->fetches, org_key(&f->org));
	while ((c = fetch_waiter(f, false))) {
		const struct dek_entry *e = map_get(cache->entries, org_key(&f->org));

		c->fetch = NULL;
		if (rc == RC_NOT_FOUND && !c->seal)
			call_corrupt(c);
		else if (rc == RC_OK && (!e || !call_use(c, e)))
			call_without_key(c, f);
		else if (rc != RC_OK && !(rc == RC_UNAVAILABLE && e &&
					  (f->pg_away ? entry_is_usable(f->v, e, now)
						      : entry_is_young(f->v, e, now)) &&
					  call_use(c, e)))
			call_fail(c, rc, err);
	}
	fetch_free(f);
}

static void fetch_failed(struct dek_fetch *f, const struct pg_result *res)
{
	struct err err = {0};
	enum rc rc = pg_result_err(res, &err);

	if (rc != RC_NOT_FOUND) {
		rc = err_set(&err, RC_UNAVAILABLE, "vault_unavailable",
			     "the org's data key cannot be read now");
		err_detail(&err, "%s", res->message);
		err.retry_after_s = 1;
	}
	f->pg_away = res->rc == RC_UNAVAILABLE;
	if (f->pg_away)
		(void)entry_adopt(f->v, &f->org);
	fetch_end(f, rc, &err);
}

/* Secure heap; NULL: full, whatever is given up for it. */
static uint8_t *key_room(struct vault_worker *v)
{
	uint8_t *key = secret_heap_get(ENVELOPE_DEK_BYTES);

	if (!key) { /* full: what is only kept for an outage goes, then this worker's other orgs' keys */
		shelf_clear(v->vault->dek_shelf);
		key = secret_heap_get(ENVELOPE_DEK_BYTES);
	}
	if (!key) {
		map_clear(v->deks->entries);
		key = secret_heap_get(ENVELOPE_DEK_BYTES);
	}
	return key;
}

/* False: no room. */
static bool entry_add(struct dek_fetch *f, const uint8_t *plain, int64_t unwrapped_ms)
{
	const struct dek_row *r = &f->rows[f->row];
	struct dek_entry *e = f->entry;
	uint8_t *key = key_room(f->v);
	struct dek *d = &e->deks[e->count];

	if (!key)
		return false;
	memcpy(key, plain, ENVELOPE_DEK_BYTES);
	*d = (struct dek){.ver = r->ver,
			  .active = r->active,
			  .remote = kek_is_remote(&f->v->vault->keyring, r->kek_id),
			  .key = key,
			  .unwrapped_ms = unwrapped_ms};
	sha256(r->wrapped, d->wrapped);
	if (unwrapped_ms < e->fetched_ms)
		e->fetched_ms = unwrapped_ms;
	e->count++;
	return true;
}

/* The same row, unwrapped less than `age_ms` ago? */
static const struct dek *entry_same(const struct dek_fetch *f, const struct dek_entry *e,
				    int64_t age_ms)
{
	const struct dek_row *r = &f->rows[f->row];
	const int64_t now = clock_mono_ms();
	uint8_t wrapped[SHA256_BYTES];

	sha256(r->wrapped, wrapped);
	for (size_t i = 0; e && i < e->count; i++)
		if (e->deks[i].ver == r->ver && e->deks[i].remote &&
		    memcmp(e->deks[i].wrapped, wrapped, sizeof wrapped) == 0 &&
		    now - e->deks[i].unwrapped_ms < age_ms)
			return &e->deks[i];
	return NULL;
}

/* Is what this worker or another has of it still good? */
static bool fetch_reuse(struct dek_fetch *f, int64_t age_ms)
{
	struct vault *vault = f->v->vault;
	struct shelf_item *i = NULL;
	const struct dek *d;
	bool done;

	if (!kek_is_remote(&vault->keyring, f->rows[f->row].kek_id))
		return false;
	d = entry_same(f, map_get(f->v->deks->entries, org_key(&f->org)), age_ms);
	if (!d) {
		i = shelf_get(vault->dek_shelf, org_key(&f->org), 0);
		d = i ? entry_same(f, shelf_value(i), age_ms) : NULL;
	}
	done = d && entry_add(f, d->key, d->unwrapped_ms);
	shelf_give(i);
	return done;
}

static void fetch_finish(struct dek_fetch *f)
{
	struct dek_entry *e = f->entry;
	const int64_t ttl_ms = f->v->vault->dek_ttl_ms;
	enum rc rc = f->rc;

	if (e->count > 0) { /* a version that is missing shows in call_use() */
		f->entry = NULL;
		e->renew_ms = e->fetched_ms + ttl_ms * 3 / 4;
		if (e->renew_ms < clock_mono_ms() + DEK_RENEW_MIN_MS)
			e->renew_ms = clock_mono_ms() + DEK_RENEW_MIN_MS;
		e->expired = rc == RC_UNAVAILABLE || !entry_share(f->v, &f->org, e);
		map_put(f->v->deks->entries, org_key(&f->org), e);
		rc = rc == RC_UNAVAILABLE ? rc : RC_OK;
	} else if (rc == RC_CORRUPT) {
		(void)err_set(&f->err, rc, "vault_auth", "the org's data key does not open");
	} else if (rc != RC_UNAVAILABLE) {
		rc = err_set(&f->err, RC_UNAVAILABLE, "vault_unavailable",
			     "the org's data key cannot be unwrapped here");
		f->err.retry_after_s = FETCH_AGAIN_S;
	}
	fetch_end(f, rc, &f->err);
}

static void fetch_ask(struct dek_fetch *f);
static void fetch_next(struct dek_fetch *f);

static void fetch_on_unwrapped(void *arg, enum rc rc, const uint8_t *plain, const struct err *err)
{
	struct dek_fetch *f = arg;
	const struct dek_row *r = &f->rows[f->row];

	f->kek = NULL;
	if (rc == RC_OK && !entry_add(f, plain, clock_mono_ms()))
		rc = RC_LIMIT;
	else if (rc == RC_NOT_FOUND || rc == RC_CORRUPT)
		log_error("a data key does not unwrap", LOG_UUID("org_id", f->org.u),
			  LOG_INT("dek_ver", r->ver), LOG_S("kek_id", r->kek_id),
			  LOG_STR("reason",
				  rc == RC_NOT_FOUND ? "master key not configured" : "damaged"));
	if (rc == RC_UNAVAILABLE && fetch_reuse(f, f->v->vault->dek_ttl_ms))
		rc = RC_OK;
	/* That its keeper is silent says the least about a key: it may be there. */
	if (rc == RC_UNAVAILABLE)
		f->err = *err;
	if (rc == RC_UNAVAILABLE || f->rc == RC_OK || f->rc == RC_CORRUPT)
		f->rc = rc != RC_OK ? rc : f->rc; /* what says the least about a row stays */
	f->row++;
	fetch_next(f);
}

/* What was read may be outdated by now: once more from the beginning. */
static void fetch_restart(struct dek_fetch *f)
{
	entry_free(f->entry);
	f->entry = NULL;
	arena_free(f->mem);
	f->mem = NULL;
	f->rows_count = f->row = 0;
	f->rc = RC_OK;
	fetch_ask(f);
}

static void fetch_next(struct dek_fetch *f)
{
	const struct dek_row *r;

	while (f->row < f->rows_count && fetch_reuse(f, f->v->vault->dek_ttl_ms * 3 / 4))
		f->row++;
	if (f->changed) {
		fetch_restart(f);
		return;
	}
	if (f->row == f->rows_count) {
		fetch_finish(f);
		return;
	}
	r = &f->rows[f->row];
	f->kek = kek_unwrap(f->v->kek, f->org, r->ver, r->kek_id, r->kek_ver, r->wrapped,
			    fetch_on_unwrapped, f);
}

static void fetch_store(struct dek_fetch *f, const struct pg_rows *rows)
{
	f->mem = arena_new(DEK_ROW_BYTES);
	f->entry = calloc(1, sizeof *f->entry);
	if (!f->entry)
		abort();
	f->entry->fetched_ms = clock_mono_ms();
	f->entry->ticket = f->ticket;
	f->entry->min_ver = f->min_ver;
	for (size_t i = 0; i < pg_row_count(rows) && i < DEK_VERSIONS_MAX; i++)
		f->rows[f->rows_count++] =
			(struct dek_row){.ver = (uint32_t)pg_int(rows, i, 0),
					 .kek_id = arena_str(f->mem, pg_str(rows, i, 1)),
					 .kek_ver = pg_int(rows, i, 2),
					 .wrapped = pg_bytes(rows, i, 3, f->mem),
					 .active = pg_bool(rows, i, 4)};
	fetch_next(f);
}

static void fetch_on_made(void *arg, const struct pg_result *res)
{
	struct dek_fetch *f = arg;

	f->pg = NULL;
	if (res->rc != RC_OK) {
		fetch_failed(f, res);
	} else {
		f->min_ver = pg_int(res->rows[2], 0, 0);
		fetch_store(f, res->rows[1]);
	}
}

static void fetch_on_wrapped(void *arg, enum rc rc, const struct kek_wrapped *w,
			     const struct err *err)
{
	struct dek_fetch *f = arg;
	struct pg_batch *b;

	f->kek = NULL;
	if (rc != RC_OK) {
		fetch_end(f, rc, err);
		return;
	}
	b = pg_batch_new();
	pg_batch_org(b, f->org);
	pg_batch_add(b, &sql_vault_canary_put); /* no key wraps without its canary */
	pg_param_z(b, w->kek_id);
	pg_param_int(b, w->kek_ver);
	pg_param_bytes(b, kek_text_str(&w->canary));
	pg_batch_add(b, &sql_vault_dek_put);
	pg_param_z(b, w->kek_id);
	pg_param_int(b, w->kek_ver);
	pg_param_bytes(b, kek_text_str(&w->wrapped));
	pg_batch_add(b, &sql_vault_dek_gate);
	f->pg = pg_submit(f->v->worker->pg, b, fetch_on_made, f);
}

/* The org's first data key: made here, wrapped, and stored unless another process was faster. */
static void fetch_make(struct dek_fetch *f)
{
	AUTO(secret) struct secret dek = SECRET_INIT;
	struct err err = {0};

	if (secret_random(&dek, ENVELOPE_DEK_BYTES) != RC_OK) {
		fetch_end(f,
			  err_set(&err, RC_UNAVAILABLE, "vault_unavailable",
				  "no data key can be made now"),
			  &err);
		return;
	}
	f->kek = kek_wrap(f->v->kek, f->org, 1, dek.ptr, fetch_on_wrapped, f);
}

static void fetch_on_rows(void *arg, const struct pg_result *res)
{
	struct dek_fetch *f = arg;
	struct vault_call *c;

	f->pg = NULL;
	if (res->rc != RC_OK) {
		fetch_failed(f, res);
	} else if (f->changed) {
		fetch_ask(f);
	} else if (pg_row_count(res->rows[0]) > 0) {
		f->min_ver = pg_int(res->rows[1], 0, 0);
		fetch_store(f, res->rows[0]);
	} else {
		map_remove(f->v->deks->entries, org_key(&f->org));
		shelf_remove(f->v->vault->dek_shelf, org_key(&f->org), f->ticket);
		while ((c = fetch_waiter(f, true))) { /* without a data key nothing opens */
			c->fetch = NULL;
			call_corrupt(c);
		}
		if (fetch_waiter(f, false))
			fetch_make(f);
		else
			fetch_end(f, RC_OK, NULL);
	}
}

static void fetch_ask(struct dek_fetch *f)
{
	struct pg_batch *b = pg_batch_new();

	f->changed = false;
	f->ticket = shelf_ticket(f->v->vault->dek_shelf);
	pg_batch_org(b, f->org);
	pg_batch_add(b, &sql_vault_dek_get);
	pg_batch_add(b, &sql_vault_dek_gate);
	f->pg = pg_submit(f->v->worker->pg, b, fetch_on_rows, f);
}

/* The one fetch for that org on this worker: begun if there is none. */
static struct dek_fetch *fetch_of(struct vault_worker *v, const struct org_id *org)
{
	struct dek_fetch *f = map_get(v->deks->fetches, org_key(org));

	if (f)
		return f;
	counter_add(&v->vault->dek_misses, 1);
	f = calloc(1, sizeof *f);
	if (!f)
		abort();
	f->v = v;
	f->org = *org;
	map_put(v->deks->fetches, org_key(&f->org), f);
	fetch_ask(f);
	return f;
}

/* Its keeper is asked again while there is time: what is then silent for a while is not noticed by calls. */
static void entry_renew(struct vault_worker *v, const struct org_id *org, struct dek_entry *e,
			int64_t now)
{
	const int64_t pause_ms = v->vault->dek_ttl_ms / 16;

	if (now < e->renew_ms || !entry_is_remote(e))
		return;
	e->renew_ms = now + (pause_ms > DEK_RENEW_MIN_MS ? pause_ms : DEK_RENEW_MIN_MS);
	(void)fetch_of(v, org);
}

static void call_step(void *arg)
{
	struct vault_call *c = arg;
	struct dek_entry *e = map_get(c->v->deks->entries, org_key(&c->ref.org));
	const int64_t now = clock_mono_ms();
	const bool away = !pg_is_up(c->v->worker->pg);

	if (c->no_room) {
		call_no_room(c, RC_LIMIT);
		return;
	}
	if (away && !(e && entry_is_usable(c->v, e, now)))
		e = entry_adopt(c->v, &c->ref.org);
	if (e && (entry_is_fresh(c->v, e, now) || (away && entry_is_usable(c->v, e, now)))) {
		counter_add(&c->v->vault->dek_hits, 1);
		if (!away)
			entry_renew(c->v, &c->ref.org, e, now);
		if (call_use(c, e))
			return;
	}
	c->fetch = fetch_of(c->v, &c->ref.org);
}

/* ---- the outside -------------------------------------------------------------------------------- */

struct vault_call *vault_seal(struct worker *w, const struct secret_ref *ref,
			      const struct secret *plain, vault_seal_cb *cb, void *arg)
{
	struct vault_call *c = call_new(w, ref, true, arg);

	c->seal_cb = cb;
	c->no_room = secret_from(secret_str(plain), &c->plain) != RC_OK;
	loop_defer(w->loop, call_step, c);
	return c;
}

struct vault_call *vault_open(struct worker *w, const struct secret_ref *ref, struct str blob,
			      vault_open_cb *cb, void *arg)
{
	struct vault_call *c = call_new(w, ref, false, arg);

	c->open_cb = cb;
	/* What is too long for a record stays empty, and does not open. */
	if (blob.len <= ENVELOPE_BYTES_MAX && buf_append(&c->blob, blob) != RC_OK)
		abort();
	loop_defer(w->loop, call_step, c);
	return c;
}

void vault_cancel(struct vault_call *c)
{
	if (!c)
		return;
	if (!c->fetch)
		loop_defer_cancel(c->v->worker->loop, call_step, c);
	call_free(c);
}

static bool entry_expire(void *arg, struct str key, void *value)
{
	struct dek_entry *e = value;

	e->expired = true;
	return true;
}

static bool fetch_outdate(void *arg, struct str key, void *value)
{
	struct dek_fetch *f = value;

	f->changed = true;
	return true;
}

/* "org": it may be shredded, nothing of it stays. "vault": its data keys are others now; what is here opens what
 * it did, and is asked for again when it is needed next. */
void dek_on_change(struct vault_worker *v, const struct change *c)
{
	const bool org = strcmp(c->kind, "org") == 0;
	struct dek_fetch *f;
	struct dek_entry *e;

	if (uuid_is_zero(c->org.u)) {
		map_each(v->deks->entries, entry_expire, NULL);
		map_each(v->deks->fetches, fetch_outdate, NULL);
		return;
	}
	if (!org && strcmp(c->kind, "vault") != 0)
		return;
	if ((f = map_get(v->deks->fetches, org_key(&c->org))))
		f->changed = true;
	e = map_get(v->deks->entries, org_key(&c->org));
	if (org)
		map_remove(v->deks->entries, org_key(&c->org));
	else if (e)
		e->expired = true;
	shelf_outdate(v->vault->dek_shelf, org_key(&c->org), v->changes);
}

struct shelf *dek_shelf_new(size_t keys_max)
{
	return shelf_new(keys_max, keys_max * ENVELOPE_DEK_BYTES, entry_free);
}

struct dek_cache *dek_cache_new(size_t entries_max)
{
	struct dek_cache *cache = calloc(1, sizeof *cache);

	if (!cache)
		abort();
	cache->entries = map_new(entries_max, entry_free);
	cache->fetches = map_new(0, NULL);
	return cache;
}

static bool fetch_drop(void *arg, struct str key, void *value)
{
	struct dek_fetch *f = value;

	if (f->pg)
		pg_cancel(f->pg);
	kek_cancel(f->kek);
	fetch_free(f);
	return true;
}

void dek_cache_free(struct vault_worker *v)
{
	struct dek_cache *cache = v->deks;

	if (!cache)
		return;
	while (cache->calls)
		vault_cancel(cache->calls);
	map_remove_if(cache->fetches, fetch_drop, NULL);
	map_free(cache->fetches);
	map_free(cache->entries);
	free(cache);
	v->deks = NULL;
}
