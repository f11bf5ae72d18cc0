/* routing/cooldown.c - who is left alone for a while after failing.
 *
 * The truth is the cooldown table: it grows the wait and tells every instance. Until the picture that
 * carries it has been read again, the worker that saw the failure keeps its own note, so that its very
 * next call already passes the target over. From then on the picture alone counts: a changed key or an
 * admin may have ended the cooldown. */
#include <stdlib.h>

#include "routing/routing_priv.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/pg.h"
#include "sql/queries.h"

#define COOLDOWN_NOTES_MAX   4096
#define COOLDOWN_FIRST_MS    60000
#define COOLDOWN_QUOTA_MS    (5 * 3600 * 1000)
#define COOLDOWN_HINT_MAX_MS (24 * 3600 * 1000)

struct note {
	struct cooldown cooldown; /* model points behind the struct */
	struct org_id org;
	int64_t written_us; /* monotonic; 0: the table does not have it yet */
	char model[];
};

struct write { /* of a cooldown's start, until Postgres has answered */
	struct routing_worker *rw;
	struct uuid profile;
	struct str model; /* points behind the struct */
	char text[];
};

static struct str note_key(struct arena *mem, struct uuid profile, struct str model)
{
	char id[UUID_TEXT_SIZE];

	return arena_printf(mem, "%.*s/%.*s", STR_FMT(uuid_format(profile, id)), STR_FMT(model));
}

static void note_put(struct routing_worker *rw, struct org_id org, const struct profile *p,
		     struct str model, enum error_class class, int64_t wait_ms)
{
	struct arena *mem = arena_new(4096);
	struct note *n = calloc(1, sizeof *n + model.len + 1);

	if (!n)
		abort();
	memcpy(n->model, model.ptr ? model.ptr : "", model.len);
	n->org = org;
	n->cooldown = (struct cooldown){.profile = p->id,
					.model = str_of(n->model, model.len),
					.class = class,
					.until_wall_ms = clock_wall_ms() + wait_ms,
					.failures = 1};
	if (!rw->cooldowns)
		rw->cooldowns = map_new(COOLDOWN_NOTES_MAX, free);
	map_put(rw->cooldowns, note_key(mem, p->id, model), n);
	arena_free(mem);
}

/* The rows' writes are not waited for: losing one costs a failed attempt, never money. */
static void on_started(void *arg, const struct pg_result *res)
{
	struct write *w = arg;
	struct arena *mem;
	struct note *n;

	if (res->rc != RC_CANCELLED) { /* else the worker is gone */
		mem = arena_new(4096);
		n = w->rw->cooldowns
			    ? map_get(w->rw->cooldowns, note_key(mem, w->profile, w->model))
			    : NULL;
		if (n) {
			n->written_us = clock_mono_us();
			/* Refused as one of a key before (see 0020), it changes nothing that would be announced: without
			 * another read of the picture the note would stand until that grows old. */
			snapshot_outdate(w->rw, n->org);
		}
		arena_free(mem);
	}
	if (res->rc != RC_OK)
		log_warn("cooldown not stored", LOG_STR("error", res->message));
	free(w);
}

static void on_ended(void *arg, const struct pg_result *res)
{
	if (res->rc != RC_OK)
		log_warn("end of a cooldown not stored", LOG_STR("error", res->message));
}

static struct write *write_new(struct routing_worker *rw, const struct profile *p, struct str model)
{
	struct write *w = calloc(1, sizeof *w + model.len + 1);

	if (!w)
		abort();
	*w = (struct write){.rw = rw, .profile = p->id, .model = str_of(w->text, model.len)};
	memcpy(w->text, model.ptr ? model.ptr : "", model.len);
	return w;
}

void cooldown_start(struct routing_worker *rw, struct org_id org, const struct profile *p,
		    struct str model, enum error_class class, int64_t retry_after_s)
{
	const int64_t base = class == ERROR_quota ? COOLDOWN_QUOTA_MS : COOLDOWN_FIRST_MS;
	int64_t hint = retry_after_s > 0 ? retry_after_s * 1000 : 0;
	struct pg_batch *b = pg_batch_new();

	hint = hint > COOLDOWN_HINT_MAX_MS ? COOLDOWN_HINT_MAX_MS : hint;
	note_put(rw, org, p, model, class, hint > base ? hint : base);
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_routing_cooldown_set);
	pg_param_uuid(b, p->id);
	pg_param_str(b, model.ptr ? model : STR(""));
	pg_param_z(b, error_class_name(class));
	pg_param_int(b, retry_after_s > 0 ? retry_after_s : 0);
	pg_param_int(b, p->secret.row_version);
	pg_submit(rw->worker->pg, b, on_started, write_new(rw, p, model));
}

void cooldown_end(struct routing_worker *rw, struct org_id org, const struct profile *p,
		  struct str model)
{
	struct arena *mem = arena_new(4096);
	struct pg_batch *b = pg_batch_new();

	if (rw->cooldowns) {
		map_remove(rw->cooldowns, note_key(mem, p->id, model));
		map_remove(rw->cooldowns, note_key(mem, p->id, STR("")));
	}
	arena_free(mem);
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_routing_cooldown_clear);
	pg_param_uuid(b, p->id);
	pg_param_str(b, model);
	pg_submit(rw->worker->pg, b, on_ended, NULL);
}

struct seen {
	struct org_id org;
	int64_t asked_us;
};

static bool note_is_in_picture(void *arg, struct str key, void *value)
{
	const struct note *n = value;
	const struct seen *s = arg;

	return n->written_us > 0 && n->written_us <= s->asked_us && uuid_eq(n->org.u, s->org.u);
}

void cooldown_seen(struct routing_worker *rw, struct org_id org, int64_t asked_us)
{
	struct seen s = {org, asked_us};

	if (rw->cooldowns)
		map_remove_if(rw->cooldowns, note_is_in_picture, &s);
}

struct collect {
	struct cooldown *list;
	size_t n, max;
	int64_t now_ms;
};

static void collect_one(struct collect *c, const struct cooldown *from)
{
	if (from->until_wall_ms > c->now_ms && c->n < c->max)
		c->list[c->n++] = *from;
}

static bool collect_note(void *arg, struct str key, void *value)
{
	collect_one(arg, &((struct note *)value)->cooldown);
	return true;
}

static bool note_over(void *arg, struct str key, void *value)
{
	return ((struct note *)value)->cooldown.until_wall_ms <= *(const int64_t *)arg;
}

void cooldown_collect(struct routing_worker *rw, const struct snapshot_set *set, struct arena *mem,
		      const struct cooldown **ret, size_t *ret_count)
{
	struct collect c = {.now_ms = clock_wall_ms()};

	if (rw->cooldowns)
		map_remove_if(rw->cooldowns, note_over, &c.now_ms);
	c.max = set->org->cooldowns_count + set->platform->cooldowns_count +
		(rw->cooldowns ? map_len(rw->cooldowns) : 0);
	c.list = ARENA_ARRAY(mem, struct cooldown, c.max + 1);
	for (size_t i = 0; i < set->org->cooldowns_count; i++)
		collect_one(&c, &set->org->cooldowns[i]);
	for (size_t i = 0; i < set->platform->cooldowns_count; i++)
		collect_one(&c, &set->platform->cooldowns[i]);
	if (rw->cooldowns)
		map_each(rw->cooldowns, collect_note, &c);
	*ret = c.list;
	*ret_count = c.n;
}
