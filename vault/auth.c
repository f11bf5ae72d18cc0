/* vault/auth.c - who calls: from the headers of a request to a principal, and what it may.
 *
 * A key's text is checked before anything is looked up, then found in this worker's cache or in
 * Postgres by its public id; several requests with one unknown key share one lookup. The secret is
 * compared as an HMAC under the pepper, in constant time, for unknown keys too. Neither a key nor
 * its hash is ever logged. While Postgres is away a worker takes from the process's shelf what
 * another one had read. */
#include <assert.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/apikey_priv.h"
#include "vault/cidr_priv.h"
#include "vault/vault_priv.h"

#define AUTH_FRESH_MS	   5000	 /* then it is read again behind the caller's back */
#define AUTH_HARD_MS	   10000 /* then it must be read again first (security.md 2.3) */
#define AUTH_NEGATIVE_MS   1000	 /* unknown and revoked keys */
#define AUTH_RETRY_MS	   1000	 /* between lookups that fail while what is known serves */
#define AUTH_ENTRIES_MAX   16384 /* per worker, and on the shelf; about 4 KiB each */
#define AUTH_SHELF_BYTES   (128u << 20)
#define AUTH_NEGATIVES_MAX 4096
#define AUTH_LOOKUPS_MAX   4096 /* at once, per worker */
#define AUTH_ENTRY_BYTES   (512u * 1024)
#define AUTH_MODELS_MAX	   256

struct auth_entry { /* one key, as read */
	struct arena *mem;
	struct org_id org;
	struct uuid key_id;
	struct str slug, tier, status, name;
	uint32_t role;
	bool inference, admin, revoked;
	const struct str *models;
	size_t models_count;
	const struct str *providers, *billing;
	size_t providers_count, billing_count;
	const struct cidr *from;
	size_t from_count;
	bool bound_from;
	int64_t rpm, tpm, expires_us, pepper_ver;
	uint8_t hash[SHA256_BYTES];
	int64_t fetched_ms, retry_ms, shelf_ms; /* read; when to try again; when to ask the shelf */
	uint64_t ticket;
	bool expired; /* a change may have been missed: read again if one can */
};

struct auth_lookup;
struct auth_waiter { /* in its request's arena */
	struct http_request *r;
	http_auth_done *done;
	void *arg;
	uint8_t hash[SHA256_BYTES];
	uint64_t epoch;		    /* when it asked */
	struct auth_lookup *lookup; /* NULL: answered, or the request has gone */
	struct auth_waiter *prev, *next;
};
struct auth_lookup {
	struct vault_worker *v;
	char public_id[APIKEY_PUBLIC_LEN + 1];
	struct pg_call *pg;
	uint64_t epoch; /* a change came since: what was read may be old */
	uint64_t ticket;
	struct auth_waiter *waiters;
};
struct auth_cache {
	struct map *entries;   /* public id -> struct auth_entry */
	struct map *negatives; /* public id -> monotonic ms until which it is unknown */
	struct map *lookups;   /* public id -> struct auth_lookup */
	uint64_t epoch;
};

static enum rc count(struct vault_worker *v, enum auth_result result, enum rc rc)
{
	counter_add(&v->vault->auth[result], 1);
	return rc;
}

static enum rc refuse_key(struct err *err, const char *words)
{
	enum rc rc = err_set(err, RC_DENIED, "invalid_api_key", "%s", words);

	err_hint(err, "send a key of this installation as: Authorization: Bearer tg_...");
	return rc;
}

static enum rc refuse_now(struct err *err, const char *words)
{
	enum rc rc = err_set(err, RC_UNAVAILABLE, "auth_unavailable", "%s", words);

	err->retry_after_s = 1;
	return rc;
}

/* ---- the key in the request --------------------------------------------------------------------- */

/* What stands in a credential header; another scheme than Bearer gives the whole value, which is no key. */
static struct str credential_in(const struct http_header *h)
{
	const struct str bearer = STR("bearer ");

	if (str_eq_nocase(h->name, STR("authorization")) && h->value.len > bearer.len &&
	    str_eq_nocase(str_slice(h->value, 0, bearer.len), bearer))
		return str_trim(str_slice(h->value, bearer.len, h->value.len));
	return str_trim(h->value);
}

/* One key or none (ptr NULL) from the four headers, or Gemini's query parameter on its own paths. RC_INVALID: a
 * header twice, or two different keys. */
static enum rc credential_find(struct http_request *r, struct str *ret, struct err *err)
{
	static const char *const names[] = {"authorization", "x-api-key", "api-key",
					    "x-goog-api-key"};
	bool seen[ARRAY_LEN(names)] = {false};
	struct str found = STR_NULL, one;

	for (size_t i = 0; i < r->headers_count; i++)
		for (size_t n = 0; n < ARRAY_LEN(names); n++) {
			if (!str_eq_nocase(r->headers[i].name, str_from(names[n])))
				continue;
			one = credential_in(&r->headers[i]);
			if (seen[n] || (found.ptr && !str_eq(found, one)))
				goto ambiguous;
			seen[n] = true;
			found = one;
		}
	if (r->surface == SURFACE_DATA && str_starts(r->path, STR("/v1beta/"))) {
		one = http_query(r, "key");
		if (one.ptr && found.ptr && !str_eq(found, one))
			goto ambiguous;
		found = one.ptr ? one : found;
	}
	*ret = found;
	return RC_OK;
ambiguous:
	err_set(err, RC_INVALID, "invalid_request_error",
		"two different keys, or one header twice, in one request");
	err_hint(err, "send exactly one of Authorization, x-api-key, api-key, x-goog-api-key");
	return RC_INVALID;
}

/* ---- principals --------------------------------------------------------------------------------- */

static enum rc be_operator(struct http_request *r)
{
	struct principal *p = ARENA_NEW(r->mem, struct principal);

	p->name = STR("operator");
	p->roles = ROLE_OPERATOR;
	r->principal = p;
	r->roles = p->roles;
	return RC_OK;
}

static bool is_admin_token(const struct vault *v, struct str token)
{
	uint8_t hash[SHA256_BYTES];

	if (!v->has_admin_token)
		return false;
	sha256(token, hash);
	return CRYPTO_memcmp(hash, v->admin_token_hash, sizeof hash) == 0;
}

static const struct str *list_copy(struct arena *mem, const struct str *list, size_t count)
{
	struct str *copy = ARENA_ARRAY(mem, struct str, count + 1);

	for (size_t i = 0; i < count; i++)
		copy[i] = arena_str(mem, list[i]);
	return copy;
}

/* Everything is copied: the entry may go while the request runs. */
static void be_key(struct http_request *r, const struct auth_entry *e, uint64_t seen)
{
	struct principal *p = ARENA_NEW(r->mem, struct principal);

	p->org = e->org;
	p->org_slug = arena_str(r->mem, e->slug);
	p->org_tier = arena_str(r->mem, e->tier);
	p->org_status = arena_str(r->mem, e->status);
	p->key_id = e->key_id;
	p->name = arena_str(r->mem, e->name);
	p->models = list_copy(r->mem, e->models, e->models_count);
	p->models_count = e->models_count;
	p->providers = list_copy(r->mem, e->providers, e->providers_count);
	p->providers_count = e->providers_count;
	p->billing = list_copy(r->mem, e->billing, e->billing_count);
	p->billing_count = e->billing_count;
	p->elsewhere = e->bound_from && !cidr_has_peer(e->from, e->from_count, str_from(r->peer));
	p->seen = seen;
	p->rpm = e->rpm;
	p->tpm = e->tpm;
	if (r->surface == SURFACE_DATA)
		p->roles = e->inference ? ROLE_INFERENCE : 0;
	else
		p->roles = e->admin ? e->role : 0;
	r->principal = p;
	r->roles = p->roles;
}

/* Is this the key, and does it still stand? Fills the request on RC_OK. `seen`: the changes that `e` knows of. */
static enum rc entry_judge(struct vault_worker *v, struct http_request *r,
			   const struct auth_entry *e, const uint8_t hash[SHA256_BYTES],
			   uint64_t seen, struct err *err)
{
	const struct pepper *pepper = vault_pepper(v->vault);

	if (!pepper || e->pepper_ver != pepper->ver)
		return count(v, AUTH_UNAVAILABLE,
			     refuse_now(err, "keys cannot be checked now: the pepper of this key "
					     "is not loaded"));
	if (CRYPTO_memcmp(e->hash, hash, SHA256_BYTES) != 0)
		return count(v, AUTH_UNKNOWN, refuse_key(err, "this API key is not valid"));
	if (e->revoked || str_is(e->status, "deleted"))
		return count(v, AUTH_REVOKED, refuse_key(err, "this API key was revoked"));
	if (e->expires_us > 0 && clock_wall_us() >= e->expires_us)
		return count(v, AUTH_EXPIRED, refuse_key(err, "this API key has expired"));
	be_key(r, e, seen);
	used_note(v->used, e->org, e->key_id);
	return count(v, AUTH_OK, RC_OK);
}

/* ---- cache -------------------------------------------------------------------------------------- */

static void entry_free(void *value)
{
	struct auth_entry *e = value;

	arena_free(e->mem); /* the entry stands in it */
}

static size_t read_list(struct arena *mem, struct str text, const struct str **ret)
{
	struct json *list = NULL;
	struct json_iter it;
	struct json *one;
	struct str *out;
	size_t n = 0;

	/* The column is our own jsonb: it parses, or there is nothing. */
	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &list, NULL) != RC_OK)
		return 0;
	out = ARENA_ARRAY(mem, struct str, json_len(list) + 1);
	it = json_iter(list);
	while (n < AUTH_MODELS_MAX && json_next(&it, NULL, &one))
		if (json_string(one, &out[n]))
			n++;
	*ret = out;
	return n;
}

static void read_scopes(struct auth_entry *e, struct str text)
{
	const struct str *scopes = NULL;
	size_t n = read_list(e->mem, text, &scopes);

	for (size_t i = 0; i < n; i++) {
		e->inference = e->inference || str_is(scopes[i], "inference");
		e->admin = e->admin || str_is(scopes[i], "admin");
	}
}

/* A network that does not read lets nobody in. */
static void read_from(struct auth_entry *e, struct str text)
{
	const struct str *words = NULL;
	const size_t n = read_list(e->mem, text, &words);
	struct cidr *list = ARENA_ARRAY(e->mem, struct cidr, n + 1);

	for (size_t i = 0; i < n; i++)
		if (!cidr_parse(words[i], &list[e->from_count]))
			e->from_count++;
	e->from = list;
	e->bound_from = text.len > 0;
}

static struct auth_entry *entry_read(const struct pg_rows *rows)
{
	struct arena *mem = arena_new(AUTH_ENTRY_BYTES);
	struct auth_entry *e = ARENA_NEW(mem, struct auth_entry);
	struct str hash;

	e->mem = mem;
	e->org = (struct org_id){pg_uuid(rows, 0, 0)};
	e->slug = arena_str(mem, pg_str(rows, 0, 1));
	e->tier = arena_str(mem, pg_str(rows, 0, 2));
	e->status = arena_str(mem, pg_str(rows, 0, 3));
	e->key_id = pg_uuid(rows, 0, 4);
	e->name = arena_str(mem, pg_str(rows, 0, 5));
	e->role = vault_role_bit(pg_str(rows, 0, 6));
	read_scopes(e, pg_str(rows, 0, 7));
	e->models_count = read_list(mem, pg_str(rows, 0, 8), &e->models);
	e->rpm = pg_int(rows, 0, 9);
	e->tpm = pg_int(rows, 0, 10);
	e->expires_us = pg_int(rows, 0, 11);
	e->revoked = pg_bool(rows, 0, 12);
	hash = pg_bytes(rows, 0, 13, mem);
	assert(hash.len == sizeof e->hash);
	memcpy(e->hash, hash.ptr, sizeof e->hash);
	e->pepper_ver = pg_int(rows, 0, 14);
	read_from(e, pg_str(rows, 0, 15));
	e->providers_count = read_list(mem, pg_str(rows, 0, 16), &e->providers);
	e->billing_count = read_list(mem, pg_str(rows, 0, 17), &e->billing);
	e->fetched_ms = clock_mono_ms();
	return e;
}

static bool entry_is_fresh(const struct auth_entry *e, int64_t now)
{
	return !e->expired && now - e->fetched_ms < (e->revoked ? AUTH_NEGATIVE_MS : AUTH_HARD_MS);
}

static bool entry_serves(const struct vault_worker *v, const struct auth_entry *e, int64_t now)
{
	if (entry_is_fresh(e, now))
		return true;
	/* Postgres is away: what is known keeps serving, and a revoked key stays revoked. */
	return now - e->fetched_ms < v->vault->stale_ms &&
	       (now < e->retry_ms || !pg_is_up(v->worker->pg));
}

/* ---- the shelf: what any worker has read -------------------------------------------------------- */

static struct str org_key(const struct org_id *org)
{
	return str_of(org->u.b, sizeof org->u.b);
}

static struct auth_entry *entry_copy(const struct auth_entry *from)
{
	struct arena *mem = arena_new(AUTH_ENTRY_BYTES);
	struct auth_entry *e = ARENA_NEW(mem, struct auth_entry);
	struct cidr *networks = ARENA_ARRAY(mem, struct cidr, from->from_count + 1);

	*e = *from;
	e->mem = mem;
	e->slug = arena_str(mem, from->slug);
	e->tier = arena_str(mem, from->tier);
	e->status = arena_str(mem, from->status);
	e->name = arena_str(mem, from->name);
	e->models = list_copy(mem, from->models, from->models_count);
	e->providers = list_copy(mem, from->providers, from->providers_count);
	e->billing = list_copy(mem, from->billing, from->billing_count);
	for (size_t i = 0; i < from->from_count; i++)
		networks[i] = from->from[i];
	e->from = networks;
	return e;
}

static void entry_share(struct vault_worker *v, struct str public_id, const struct auth_entry *e)
{
	struct auth_entry *copy = entry_copy(e);

	/* Refused when a change or a later read came in between: then that is what holds. */
	(void)shelf_put(v->vault->auth_shelf, &(struct shelf_put){
						      .key = public_id,
						      .tag = org_key(&e->org),
						      .ticket = e->ticket,
						      .read_ms = e->fetched_ms,
						      .bytes = arena_bytes(copy->mem),
						      .value = copy,
					      });
}

/* Postgres is away: the newest that any worker has read, if that is newer than `e` (NULL: nothing is known
 * here). Read again as soon as it can be. */
static struct auth_entry *entry_adopt(struct vault_worker *v, struct str public_id,
				      struct auth_entry *e, int64_t now)
{
	struct shelf_item *i = shelf_get(v->vault->auth_shelf, public_id, e ? e->ticket : 0);

	if (i && now - shelf_read_ms(i) < v->vault->stale_ms) {
		e = entry_copy(shelf_value(i));
		e->expired = true;
		map_put(v->auth->entries, public_id, e);
	}
	shelf_give(i);
	if (e)
		e->shelf_ms = now + AUTH_RETRY_MS;
	return e;
}

static struct auth_entry *entry_find(struct vault_worker *v, struct str public_id, int64_t now)
{
	struct auth_entry *e = map_get(v->auth->entries, public_id);

	if (pg_is_up(v->worker->pg) || (e && (entry_is_fresh(e, now) || now < e->shelf_ms)))
		return e;
	return entry_adopt(v, public_id, e, now);
}

/* ---- lookup ------------------------------------------------------------------------------------- */

static void waiter_unlink(struct auth_waiter *w)
{
	if (!w->lookup)
		return;
	if (w->prev)
		w->prev->next = w->next;
	else
		w->lookup->waiters = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->lookup = NULL;
}

static void waiter_on_request_gone(void *arg)
{
	waiter_unlink(arg);
}

static void waiter_relink(struct auth_lookup *l, struct auth_waiter *w)
{
	w->lookup = l;
	w->prev = NULL;
	w->next = l->waiters;
	if (w->next)
		w->next->prev = w;
	l->waiters = w;
}

static void waiter_link(struct auth_lookup *l, struct auth_waiter *w)
{
	waiter_relink(l, w);
	arena_on_clear(w->r->mem, waiter_on_request_gone, w);
}

/* Answer all that wait. `e` NULL: `rc` and `err` are the answer. */
static void lookup_end(struct auth_lookup *l, const struct auth_entry *e, enum rc rc,
		       const struct err *err)
{
	struct auth_waiter *w;

	while ((w = l->waiters)) {
		struct err own = {0};

		waiter_unlink(w);
		if (e) {
			rc = entry_judge(l->v, w->r, e, w->hash, l->epoch, &own);
			w->done(w->arg, rc, rc == RC_OK ? NULL : &own);
		} else {
			w->done(w->arg, rc, err);
		}
	}
	free(l);
}

static void lookup_not_found(struct auth_lookup *l)
{
	struct auth_cache *cache = l->v->auth;
	const intptr_t until = (intptr_t)(clock_mono_ms() + AUTH_NEGATIVE_MS);
	struct err err = {0};
	enum rc rc = refuse_key(&err, "this API key is not valid");

	map_remove(cache->entries, str_from(l->public_id));
	shelf_remove(l->v->vault->auth_shelf, str_from(l->public_id), l->ticket);
	map_put(cache->negatives, str_from(l->public_id), (void *)until);
	for (struct auth_waiter *w = l->waiters; w; w = w->next)
		count(l->v, AUTH_UNKNOWN, rc);
	lookup_end(l, NULL, rc, &err);
}

static void lookup_failed(struct auth_lookup *l, const struct pg_result *res)
{
	struct auth_entry *e = map_get(l->v->auth->entries, str_from(l->public_id));
	const int64_t now = clock_mono_ms();
	struct err err = {0};
	enum rc rc = refuse_now(&err, "the API key cannot be checked now");

	err_detail(&err, "%s", res->message);
	if (res->rc == RC_UNAVAILABLE)
		e = entry_adopt(l->v, str_from(l->public_id), e, now);
	if (e && now - e->fetched_ms < l->v->vault->stale_ms) {
		e->retry_ms = now + AUTH_RETRY_MS;
		lookup_end(l, e, RC_OK, NULL);
		return;
	}
	for (struct auth_waiter *w = l->waiters; w; w = w->next)
		count(l->v, AUTH_UNAVAILABLE, rc);
	lookup_end(l, NULL, rc, &err);
}

static struct auth_lookup *lookup_start(struct vault_worker *v, struct str public_id);

/* Who asked behind a change that this lookup may not have seen: another one, begun now, is theirs. */
static void lookup_carry(struct auth_lookup *l)
{
	struct auth_lookup *again;
	struct auth_waiter *w, *next;

	for (w = l->waiters; w; w = next) {
		next = w->next;
		if (w->epoch == l->epoch)
			continue;
		again = lookup_start(l->v,
				     str_from(l->public_id)); /* there is room: `l` has just left */
		waiter_unlink(w);
		waiter_relink(again, w);
	}
}

static void lookup_on_rows(void *arg, const struct pg_result *res)
{
	struct auth_lookup *l = arg;
	struct auth_cache *cache = l->v->auth;
	const bool current = l->epoch == cache->epoch;
	struct auth_entry *e;

	map_remove(cache->lookups, str_from(l->public_id));
	l->pg = NULL;
	if (res->rc == RC_OK && !current)
		lookup_carry(l);
	if (res->rc != RC_OK) {
		lookup_failed(l, res);
		return;
	}
	if (pg_row_count(res->rows[0]) == 0) {
		lookup_not_found(l);
		return;
	}
	e = entry_read(res->rows[0]);
	e->expired = !current; /* a change came meanwhile: good for who waited, then read again */
	e->ticket = l->ticket;
	entry_share(l->v, str_from(l->public_id), e);
	map_put(cache->entries, str_from(l->public_id), e);
	lookup_end(l, e, RC_OK, NULL);
}

/* The running lookup of this key, or a new one; NULL: too many at once. */
static struct auth_lookup *lookup_start(struct vault_worker *v, struct str public_id)
{
	struct auth_lookup *l = map_get(v->auth->lookups, public_id);
	struct pg_batch *b;

	if (l)
		return l;
	if (map_len(v->auth->lookups) >= AUTH_LOOKUPS_MAX)
		return NULL;
	l = calloc(1, sizeof *l);
	if (!l)
		abort();
	l->v = v;
	l->epoch = v->auth->epoch;
	l->ticket = shelf_ticket(v->vault->auth_shelf);
	memcpy(l->public_id, public_id.ptr, APIKEY_PUBLIC_LEN);
	map_put(v->auth->lookups, public_id, l);
	counter_add(&v->vault->auth_lookups, 1);
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_auth_lookup);
	pg_param_str(b, public_id);
	l->pg = pg_submit(v->worker->pg, b, lookup_on_rows, l);
	return l;
}

/* ---- the hooks ---------------------------------------------------------------------------------- */

static bool is_negative(struct auth_cache *cache, struct str public_id)
{
	const intptr_t until = (intptr_t)map_get(cache->negatives, public_id);

	return until != 0 && clock_mono_ms() < (int64_t)until;
}

/* A well-formed key: from the cache at once (true, *rc set), or later by `done` (false). */
static bool key_check(struct vault_worker *v, struct http_request *r, struct str text,
		      struct str public_id, http_auth_done *done, void *arg, enum rc *rc,
		      struct err *err)
{
	const struct pepper *pepper = vault_pepper(v->vault);
	const int64_t now = clock_mono_ms();
	const struct auth_entry *e = entry_find(v, public_id, now);
	struct auth_waiter *w;
	uint8_t hash[SHA256_BYTES];
	struct auth_lookup *l;

	if (!pepper) {
		*rc = count(v, AUTH_UNAVAILABLE,
			    refuse_now(err, "starting: API keys cannot be checked yet"));
		return true;
	}
	apikey_hash(secret_str(&pepper->bytes), text, hash); /* for unknown ids too */
	if (e && entry_serves(v, e, now)) {
		*rc = entry_judge(v, r, e, hash, v->auth->epoch, err);
		if (now - e->fetched_ms >= AUTH_FRESH_MS && now >= e->retry_ms &&
		    pg_is_up(v->worker->pg))
			(void)lookup_start(v, public_id);
		return true;
	}
	if (is_negative(v->auth, public_id)) {
		*rc = count(v, AUTH_UNKNOWN, refuse_key(err, "this API key is not valid"));
		return true;
	}
	l = lookup_start(v, public_id);
	if (!l) {
		*rc = count(v, AUTH_UNAVAILABLE, refuse_now(err, "too many keys to check at once"));
		return true;
	}
	w = ARENA_NEW(r->mem, struct auth_waiter);
	w->r = r;
	w->done = done;
	w->arg = arg;
	w->epoch = v->auth->epoch;
	memcpy(w->hash, hash, sizeof w->hash);
	waiter_link(l, w);
	return false;
}

void auth_authenticate(struct http_request *r, http_auth_done *done, void *arg)
{
	struct vault_worker *v = vault_worker_of(r->worker);
	struct str text, public_id;
	struct err err = {0};
	enum rc rc = credential_find(r, &text, &err);

	if (rc != RC_OK)
		rc = count(v, AUTH_AMBIGUOUS, rc);
	else if (!text.ptr || text.len == 0)
		rc = count(v, AUTH_MISSING, refuse_key(&err, "no API key was sent"));
	else if (r->surface == SURFACE_ADMIN && is_admin_token(v->vault, text))
		rc = count(v, AUTH_OPERATOR, be_operator(r));
	else if (apikey_parse(text, &public_id) != RC_OK)
		rc = count(v, AUTH_MALFORMED, refuse_key(&err, "this API key is not valid"));
	else if (!key_check(v, r, text, public_id, done, arg, &rc, &err))
		return;
	done(arg, rc, rc == RC_OK ? NULL : &err);
}

/* The org that the path names must be the caller's own; another's does not exist. */
static bool path_org_is_own(const struct http_request *r, const struct principal *p)
{
	static const char prefix[] = "/admin/v1/orgs/{org}";
	const char *path = r->endpoint->path;
	struct uuid id;

	if (strncmp(path, prefix, sizeof prefix - 1) != 0)
		return true;
	if (uuid_parse(r->params[0], &id) == RC_OK)
		return uuid_eq(id, p->org.u);
	return str_eq(r->params[0], p->org_slug);
}

enum rc auth_authorise(struct http_request *r, struct err *err)
{
	const struct principal *p = vault_principal(r);
	const bool reads = str_is(r->method, "GET") || str_is(r->method, "HEAD");

	if (!p || (p->roles & ROLE_OPERATOR))
		return RC_OK;
	if (p->elsewhere) {
		err_set(err, RC_DENIED, "permission_denied",
			"this API key may not be used from your address");
		err_hint(err,
			 "the key's allow_from names the networks; an org admin can change it");
		return RC_DENIED;
	}
	if (!path_org_is_own(r, p))
		return err_set(err, RC_NOT_FOUND, "org_not_found", "no such org");
	if (str_is(p->org_status, "active") || (r->surface == SURFACE_ADMIN && reads))
		return RC_OK;
	err_set(err, RC_DENIED, "permission_denied", "the org is suspended");
	err_hint(err, "ask the platform's operator");
	return RC_DENIED;
}

bool auth_is_stale(const struct http_request *r)
{
	const struct principal *p = vault_principal(r);

	return p && !(p->roles & ROLE_OPERATOR) && !vault_is_current(r->worker, p);
}

bool vault_is_current(struct worker *w, const struct principal *p)
{
	return p->seen == vault_worker_of(w)->auth->epoch;
}

/* ---- changes, start, stop ------------------------------------------------------------------------ */

static bool entry_expire(void *arg, struct str key, void *value)
{
	struct auth_entry *e = value;

	e->expired = true;
	return true;
}

static bool entry_is_of(void *arg, struct str key, void *value)
{
	const struct org_id *org = arg;
	const struct auth_entry *e = value;

	return uuid_eq(e->org.u, org->u);
}

void auth_on_change(struct vault_worker *v, const struct change *c)
{
	struct org_id org = c->org;

	if (uuid_is_zero(org.u)) { /* something may have been missed */
		v->auth->epoch++;
		map_each(v->auth->entries, entry_expire, NULL);
		map_clear(v->auth->negatives);
	} else if (strcmp(c->kind, "key") == 0 || strcmp(c->kind, "org") == 0) {
		v->auth->epoch++;
		map_remove_if(v->auth->entries, entry_is_of, &org);
		shelf_outdate(v->vault->auth_shelf, org_key(&org), v->changes);
	}
}

struct shelf *auth_shelf_new(void)
{
	return shelf_new(AUTH_ENTRIES_MAX, AUTH_SHELF_BYTES, entry_free);
}

struct auth_cache *auth_cache_new(void)
{
	struct auth_cache *cache = calloc(1, sizeof *cache);

	if (!cache)
		abort();
	cache->entries = map_new(AUTH_ENTRIES_MAX, entry_free);
	cache->negatives = map_new(AUTH_NEGATIVES_MAX, NULL);
	cache->lookups = map_new(0, NULL);
	return cache;
}

static bool lookup_drop(void *arg, struct str key, void *value)
{
	struct auth_lookup *l = value;
	struct err err = {0};

	pg_cancel(l->pg);
	lookup_end(l, NULL, refuse_now(&err, "the process is stopping"), &err);
	return true;
}

void auth_cache_free(struct vault_worker *v)
{
	struct auth_cache *cache = v->auth;

	if (!cache)
		return;
	map_remove_if(cache->lookups, lookup_drop, NULL);
	map_free(cache->lookups);
	map_free(cache->negatives);
	map_free(cache->entries);
	free(cache);
	v->auth = NULL;
}
