/* vault/used.c - when each API key was last used, for those who look for keys that nobody needs.
 *
 * A worker keeps it in memory and writes it down from time to time, all keys in one statement. It must
 * never cost a request a write or a wait, and is not exact: a process that is killed forgets the last
 * interval, and beyond USED_KEYS_MAX keys in one interval a use is told by a later one. */
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/loop.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define USED_KEYS_MAX 8192 /* of one interval and worker; half a megabyte as a statement */

struct use {
	struct org_id org;
	struct uuid key_id;
	int64_t at_us;
};
struct used {
	struct vault_worker *v;
	struct map *noted;    /* key id -> struct use, not yet sent */
	struct map *sent;     /* those on their way; swapped with `noted` */
	struct pg_call *call; /* that carries `sent` */
	struct loop_timer timer;
	bool unsaved; /* counted in vault.used_unsaved */
};

static struct str use_key(const struct uuid *key_id)
{
	return str_of(key_id->b, sizeof key_id->b);
}

static void tell_unsaved(struct used *u)
{
	const bool unsaved = u->call || map_len(u->noted) > 0;

	if (unsaved != u->unsaved)
		atomic_fetch_add(&u->v->vault->used_unsaved, unsaved ? 1 : -1);
	u->unsaved = unsaved;
}

static void put(struct map *m, const struct use *use)
{
	struct use *copy = malloc(sizeof *copy);

	if (!copy)
		abort();
	*copy = *use;
	map_put(m, use_key(&use->key_id), copy);
}

void used_note(struct used *u, struct org_id org, struct uuid key_id)
{
	struct use *use = map_get(u->noted, use_key(&key_id));
	const int64_t now = clock_wall_us();

	if (use) {
		use->at_us = now;
		return;
	}
	if (map_len(u->noted) >= USED_KEYS_MAX)
		used_flush(u);
	if (map_len(u->noted) >= USED_KEYS_MAX)
		return;
	put(u->noted, &(struct use){.org = org, .key_id = key_id, .at_us = now});
	tell_unsaved(u);
}

/* ---- writing it down ------------------------------------------------------------------------------ */

static bool note_again(void *arg, struct str key, void *value)
{
	struct used *u = arg;

	if (!map_get(u->noted, key) && map_len(u->noted) < USED_KEYS_MAX)
		put(u->noted, value);
	return true;
}

static void on_flushed(void *arg, const struct pg_result *res)
{
	struct used *u = arg;

	u->call = NULL;
	if (res->rc != RC_OK) {
		log_warn("when API keys were last used is not written down",
			 LOG_STR("error", res->message));
		/* Saying it twice does no harm; a drain does not wait for a Postgres that is away. */
		if (!atomic_load(&u->v->worker->service->draining))
			map_each(u->sent, note_again, u);
	}
	map_clear(u->sent);
	tell_unsaved(u);
}

struct columns {
	struct uuid *orgs, *keys;
	int64_t *at_us;
	size_t n;
};

static bool add_row(void *arg, struct str key, void *value)
{
	struct columns *c = arg;
	const struct use *use = value;

	c->orgs[c->n] = use->org.u;
	c->keys[c->n] = use->key_id;
	c->at_us[c->n++] = use->at_us;
	return true;
}

static struct pg_batch *batch_of(struct map *uses)
{
	const size_t n = map_len(uses);
	struct columns c = {.orgs = calloc(n, sizeof *c.orgs),
			    .keys = calloc(n, sizeof *c.keys),
			    .at_us = calloc(n, sizeof *c.at_us)};
	struct pg_batch *b = pg_batch_new();

	if (!c.orgs || !c.keys || !c.at_us)
		abort();
	map_each(uses, add_row, &c);
	pg_batch_add(b, &sql_vault_key_used);
	pg_param_uuid_array(b, c.orgs, c.n);
	pg_param_uuid_array(b, c.keys, c.n);
	pg_param_int_array(b, c.at_us, c.n);
	free(c.orgs);
	free(c.keys);
	free(c.at_us);
	return b;
}

void used_flush(struct used *u)
{
	struct map *noted = u->noted;

	if (u->call || map_len(noted) == 0)
		return;
	u->noted = u->sent;
	u->sent = noted;
	u->call = pg_submit(u->v->worker->pg, batch_of(u->sent), on_flushed, u);
}

static void on_timer(void *arg)
{
	struct used *u = arg;

	used_flush(u);
	loop_timer_set(u->v->worker->loop, &u->timer, u->v->vault->used_flush_ms, on_timer, u);
}

/* ---- drain, start, stop --------------------------------------------------------------------------- */

static void flush_worker(struct worker *w, void *arg)
{
	struct vault_worker *v = vault_worker_of(w);

	if (v)
		used_flush(v->used);
}

bool used_busy(struct service *s)
{
	struct vault *v = s->state[MODULE_VAULT];

	if (atomic_load(&v->used_unsaved) == 0)
		return false;
	service_post_all(s, flush_worker, NULL);
	return true;
}

struct used *used_new(struct vault_worker *v)
{
	struct used *u = calloc(1, sizeof *u);

	if (!u)
		abort();
	u->v = v;
	u->noted = map_new(0, free);
	u->sent = map_new(0, free);
	loop_timer_set(v->worker->loop, &u->timer, v->vault->used_flush_ms, on_timer, u);
	return u;
}

void used_free(struct used *u)
{
	if (!u)
		return;
	loop_timer_clear(&u->timer);
	if (u->call)
		pg_cancel(u->call);
	map_free(u->noted);
	map_free(u->sent);
	free(u);
}
