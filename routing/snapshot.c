/* routing/snapshot.c - the pictures a call is decided on: read from Postgres, cached per worker.
 *
 * A cell holds the newest picture of one org (or the catalogue), who waits for it, and whether it is
 * known to be outdated. One read at a time per cell; a change that arrives during a read makes it
 * read again, and who asks behind that change waits for the second read. A picture belongs to its
 * worker's thread; what crosses threads are two shelves with what was read (a picture's text, a
 * catalogue), from which a worker makes a picture of its own while Postgres is away. */
#include "routing/snapshot.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/routing_priv.h"
#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/shelf.h"
#include "server/config.h"
#include "server/egress.h"
#include "server/pg.h"
#include "sql/queries.h"

#define SNAPSHOT_BYTES_MAX (64u << 20)
#define SNAPSHOT_TEXT_MAX  (16u << 20) /* one org's, as Postgres gives it */
#define SNAPSHOT_PER_TEXT                                                                          \
	16 /* bytes of a picture for a byte of its text: lists of short words take most */
#define SNAPSHOT_SHELF_MAX (64u << 20) /* bytes of all orgs' texts together */
#define SNAPSHOT_RETRY_MS  1000	       /* between a cell's questions to the shelf */

struct catalogue {
	struct arena *mem;
	struct map *by_name; /* struct model_info by "provider/id" */
	const struct model_info *models;
	size_t count;
	int refs;
	int64_t read_mono_ms;
};

/* What is common to a picture's cell and the catalogue's. */
struct cell {
	struct routing_worker *rw;
	struct org_id org;
	bool is_catalogue;
	struct snapshot *snapshot;
	struct catalogue *catalogue;
	bool stale;		/* a change was announced since it was read */
	bool changed_meanwhile; /* ... while it is being read */
	uint64_t ticket;	/* of what it holds */
	uint64_t ticket_loading;
	int64_t asked_us; /* when `loading` began */
	int64_t shelf_ms; /* when to ask the shelf again */
	uint64_t changes; /* the catalogue's cell alone: how many this worker has seen */
	struct pg_call *loading;
	uint64_t loads;		       /* reads begun: the last one's number */
	uint64_t have;		       /* number of the last read that succeeded */
	struct snapshot_call *waiting; /* for the read that runs */
	struct snapshot_call *later; /* for the next: they asked behind a change that it may lack */
	int refs;
};

enum { SNAPSHOT_CELLS = 3 }; /* the org's, the platform's, the catalogue's */

struct snapshot_call { /* one asker; waits for up to three cells */
	struct routing_worker *rw;
	struct cell *cells[SNAPSHOT_CELLS]; /* counted */
	uint64_t want[SNAPSHOT_CELLS];	    /* the read that each has to have had */
	snapshot_cb *cb;
	void *arg;
	struct snapshot_call *next, **here; /* in a list of the cell it waits for */
};

/* ---- counted values ----------------------------------------------------------------------- */

struct snapshot *snapshot_ref(struct snapshot *s)
{
	s->refs++;
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	if (s && --s->refs == 0)
		arena_free(s->mem);
}

static void catalogue_unref(struct catalogue *c)
{
	if (c && --c->refs == 0) {
		map_free(c->by_name);
		arena_free(c->mem);
	}
}

void snapshot_set_clear(struct snapshot_set *s)
{
	snapshot_unref(s->org);
	snapshot_unref(s->platform);
	catalogue_unref(s->catalogue);
	*s = (struct snapshot_set){NULL, NULL, NULL};
}

const struct model_info *catalogue_find(const struct catalogue *c, struct str provider,
					struct str model)
{
	char key[512];
	int n = snprintf(key, sizeof key, "%.*s/%.*s", STR_FMT(provider), STR_FMT(model));

	if (!c || n < 0 || (size_t)n >= sizeof key)
		return NULL;
	return map_get(c->by_name, str_of(key, (size_t)n));
}

void catalogue_each(const struct catalogue *c, bool (*visit)(void *arg, const struct model_info *m),
		    void *arg)
{
	for (size_t i = 0; i < c->count; i++)
		if (!visit(arg, &c->models[i]))
			return;
}

/* ---- reading: jsonb to structs -------------------------------------------------------------- */

static struct str copied(struct arena *mem, const struct json *v)
{
	struct str s = STR_NULL;

	return json_string(v, &s) ? arena_str(mem, s) : STR("");
}

static const struct str *copied_list(struct arena *mem, const struct json *v, size_t *count)
{
	struct str *list = ARENA_ARRAY(mem, struct str, json_len(v) + 1);
	struct json_iter it = json_iter(v);
	struct json *item;
	size_t n = 0;

	while (json_next(&it, NULL, &item))
		list[n++] = copied(mem, item);
	*count = n;
	return list;
}

static struct uuid json_uuid(const struct json *v)
{
	struct uuid u = {{0}};
	struct str s;

	if (!json_string(v, &s) || uuid_parse(s, &u) != RC_OK)
		return (struct uuid){{0}};
	return u;
}

static void read_secret(struct snapshot *s, struct profile *p, const struct json *v)
{
	struct str text;
	size_t len;
	uint8_t *bytes;

	if (json_is_null(v) || !json_string(json_get(v, "sealed"), &text))
		return;
	p->has_secret = true;
	p->secret = (struct secret_ref){.org = s->org, .id = p->id};
	p->secret.field = routing_secret_field(s->mem, p->origin);
	(void)json_int(json_get(v, "row_version"), &p->secret.row_version);
	bytes = arena_alloc(s->mem, text.len + 1);
	/* A blob that is no base64 stays empty and will not open: reported, never replaced. */
	if (base64_decode(text, bytes, text.len + 1, &len) == RC_OK)
		p->sealed = str_of(bytes, len);
}

static void read_profile(const struct egress *egress, struct snapshot *s, struct profile *p,
			 const struct json *v)
{
	struct egress_url url;
	struct err err = {0};

	p->id = json_uuid(json_get(v, "id"));
	p->name = copied(s->mem, json_get(v, "name"));
	p->provider = provider_find(copied(s->mem, json_get(v, "provider")));
	p->status = copied(s->mem, json_get(v, "status"));
	p->models = copied_list(s->mem, json_get(v, "models"), &p->models_count);
	p->listed = copied_list(s->mem, json_get(v, "listed"), &p->listed_count);
	(void)json_int(json_get(v, "priority"), &p->priority);
	(void)json_bool(json_get(v, "default"), &p->is_default);
	if (billing_source_parse(copied(s->mem, json_get(v, "billing_source")), &p->source) !=
	    RC_OK)
		p->status = STR("disabled");
	p->base_url = copied(s->mem, json_get(v, "base_url"));
	if (egress_parse(egress, p->base_url, s->mem, &url, &err) == RC_OK) {
		p->endpoint_ok = true;
		p->base_url = url.base;
		p->origin = url.origin;
	}
	read_secret(s, p, json_get(v, "secret")); /* bound to the origin */
}

static uint32_t read_billing(const struct json *list)
{
	struct json_iter it = json_iter(list);
	enum billing_source source;
	uint32_t bits = 0;
	struct json *item;
	struct str s;

	while (json_next(&it, NULL, &item))
		if (json_string(item, &s) && billing_source_parse(s, &source) == RC_OK)
			bits |= 1u << source;
	return bits;
}

static void read_route(struct snapshot *s, struct route *r, const struct json *v)
{
	const struct json *match = json_get(v, "match"), *policy = json_get(v, "policy");
	struct json_iter it = json_iter(json_get(v, "targets"));
	struct route_target *targets =
		ARENA_ARRAY(s->mem, struct route_target, json_len(json_get(v, "targets")) + 1);
	struct json *t;

	r->name = copied(s->mem, json_get(v, "name"));
	r->alias = copied(s->mem, json_get(match, "alias"));
	r->agent = copied(s->mem, json_get(match, "agent"));
	r->intent = copied(s->mem, json_get(match, "intent"));
	r->modality = copied(s->mem, json_get(match, "modality"));
	while (json_next(&it, NULL, &t)) {
		struct route_target *to = &targets[r->targets_count++];

		to->profile = copied(s->mem, json_get(t, "profile"));
		to->provider = copied(s->mem, json_get(t, "provider"));
		to->model = copied(s->mem, json_get(t, "model"));
		to->billing = read_billing(json_get(t, "billing"));
	}
	r->targets = targets;
	r->max_attempts = 3;
	r->timeout_ms = ROUTING_TIMEOUT_MS;
	(void)json_bool(json_get(policy, "allow_platform_fallback"), &r->allow_platform_fallback);
	(void)json_int(json_get(policy, "max_attempts"), &r->max_attempts);
	(void)json_int(json_get(policy, "timeout_ms"), &r->timeout_ms);
}

static void read_agent(struct snapshot *s, struct agent *a, const struct json *v)
{
	a->name = copied(s->mem, json_get(v, "name"));
	a->default_model = copied(s->mem, json_get(v, "default_model"));
	(void)json_bool(json_get(v, "disabled"), &a->disabled);
}

static void read_tier(struct snapshot *s, struct tier *t, const struct json *v)
{
	t->name = copied(s->mem, json_get(v, "name"));
	t->byok = t->private = true;
	(void)json_bool(json_get(v, "byok"), &t->byok);
	(void)json_bool(json_get(v, "private"), &t->private);
}

static enum error_class error_class_parse(struct str s)
{
	for (int c = 0; c < ERROR_CLASS_COUNT; c++)
		if (str_is(s, error_class_name((enum error_class)c)))
			return (enum error_class)c;
	return ERROR_server_error;
}

static void read_cooldown(struct snapshot *s, struct cooldown *c, const struct json *v)
{
	c->profile = json_uuid(json_get(v, "profile"));
	c->model = copied(s->mem, json_get(v, "model"));
	c->class = error_class_parse(copied(s->mem, json_get(v, "class")));
	(void)json_int(json_get(v, "failures"), &c->failures);
	(void)json_int(json_get(v, "until_ms"), &c->until_wall_ms);
}

static enum rc snapshot_read(const struct egress *egress, struct org_id org, struct str text,
			     struct snapshot **ret)
{
	struct arena *mem;
	struct snapshot *s;
	struct err err = {0};
	struct json_iter it;
	struct json *doc, *v;

	/* How much there is, the org decides, and with the models that they list its endpoints: past the bound it
	 * is refused here, before memory that nobody can refuse. */
	if (text.len > SNAPSHOT_TEXT_MAX)
		return RC_TOO_LARGE;
	mem = arena_new((1u << 20) + SNAPSHOT_PER_TEXT * text.len);
	s = ARENA_NEW(mem, struct snapshot);
	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &doc, &err) != RC_OK) {
		arena_free(mem);
		return RC_CORRUPT;
	}
	s->mem = mem;
	s->refs = 1;
	s->org = org;
	(void)json_int(json_get(doc, "version"), &s->version);
	s->slug = copied(mem, json_get(doc, "slug"));
	s->tier = copied(mem, json_get(doc, "tier"));
	s->status = copied(mem, json_get(doc, "status"));
	struct profile *profiles =
		ARENA_ARRAY(mem, struct profile, json_len(json_get(doc, "profiles")) + 1);
	for (it = json_iter(json_get(doc, "profiles")); json_next(&it, NULL, &v);)
		read_profile(egress, s, &profiles[s->profiles_count++], v);
	s->profiles = profiles;
	struct route *routes =
		ARENA_ARRAY(mem, struct route, json_len(json_get(doc, "routes")) + 1);
	for (it = json_iter(json_get(doc, "routes")); json_next(&it, NULL, &v);)
		read_route(s, &routes[s->routes_count++], v);
	s->routes = routes;
	struct agent *agents =
		ARENA_ARRAY(mem, struct agent, json_len(json_get(doc, "agents")) + 1);
	for (it = json_iter(json_get(doc, "agents")); json_next(&it, NULL, &v);)
		read_agent(s, &agents[s->agents_count++], v);
	s->agents = agents;
	struct tier *tiers = ARENA_ARRAY(mem, struct tier, json_len(json_get(doc, "tiers")) + 1);
	for (it = json_iter(json_get(doc, "tiers")); json_next(&it, NULL, &v);)
		read_tier(s, &tiers[s->tiers_count++], v);
	s->tiers = tiers;
	struct cooldown *cooldowns =
		ARENA_ARRAY(mem, struct cooldown, json_len(json_get(doc, "cooldowns")) + 1);
	for (it = json_iter(json_get(doc, "cooldowns")); json_next(&it, NULL, &v);)
		read_cooldown(s, &cooldowns[s->cooldowns_count++], v);
	s->cooldowns = cooldowns;
	s->read_mono_ms = clock_mono_ms();
	*ret = s;
	return RC_OK;
}

static struct catalogue *catalogue_new(size_t count, struct model_info **models)
{
	struct arena *mem = arena_new(SNAPSHOT_BYTES_MAX);
	struct catalogue *c = ARENA_NEW(mem, struct catalogue);

	*models = ARENA_ARRAY(mem, struct model_info, count + 1);
	c->mem = mem;
	c->refs = 1;
	c->by_name = map_new(0, NULL);
	c->models = *models;
	c->count = count;
	return c;
}

static void catalogue_index(struct catalogue *c, struct model_info *m)
{
	map_put(c->by_name, arena_printf(c->mem, "%.*s/%.*s", STR_FMT(m->provider), STR_FMT(m->id)),
		m);
}

static struct catalogue *catalogue_read(const struct pg_rows *rows)
{
	struct model_info *models;
	struct catalogue *c = catalogue_new(pg_row_count(rows), &models);

	for (size_t i = 0; i < c->count; i++) {
		struct model_info *m = &models[i];
		struct str caps = pg_str(rows, i, 2);
		uint32_t bit;

		m->provider = arena_str(c->mem, pg_str(rows, i, 0));
		m->id = arena_str(c->mem, pg_str(rows, i, 1));
		while (caps.len > 0)
			if (capability_parse(str_cut(&caps, ','), &bit) == RC_OK)
				m->capabilities |= bit;
		m->context_window = pg_int(rows, i, 3);
		m->max_output = pg_int(rows, i, 4);
		catalogue_index(c, m);
	}
	c->read_mono_ms = clock_mono_ms();
	return c;
}

static struct catalogue *catalogue_copy(const struct catalogue *from)
{
	struct model_info *models;
	struct catalogue *c = catalogue_new(from->count, &models);

	for (size_t i = 0; i < c->count; i++) {
		models[i] = from->models[i];
		models[i].provider = arena_str(c->mem, from->models[i].provider);
		models[i].id = arena_str(c->mem, from->models[i].id);
		catalogue_index(c, &models[i]);
	}
	c->read_mono_ms = from->read_mono_ms;
	return c;
}

/* ---- the shelves: what any worker has read ------------------------------------------------------ */

/* Made by the first worker, freed by the last. A picture stands there as the text that Postgres gave: the secrets
 * in it are sealed. */
static struct {
	pthread_mutex_t lock; /* of `users` */
	int users;
	struct shelf *pictures;	 /* org id -> struct buf */
	struct shelf *catalogue; /* "" -> struct catalogue */
} snapshot_shelves = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void text_drop(void *value)
{
	buf_clear(value);
	free(value);
}

static void catalogue_drop(void *value)
{
	catalogue_unref(value);
}

static void shelves_join(void)
{
	pthread_mutex_lock(&snapshot_shelves.lock);
	if (snapshot_shelves.users++ == 0) {
		snapshot_shelves.pictures =
			shelf_new(ROUTING_ORGS_MAX, SNAPSHOT_SHELF_MAX, text_drop);
		snapshot_shelves.catalogue = shelf_new(1, SNAPSHOT_BYTES_MAX, catalogue_drop);
	}
	pthread_mutex_unlock(&snapshot_shelves.lock);
}

static void shelves_leave(void)
{
	pthread_mutex_lock(&snapshot_shelves.lock);
	if (--snapshot_shelves.users == 0) {
		shelf_free(snapshot_shelves.pictures);
		shelf_free(snapshot_shelves.catalogue);
		snapshot_shelves.pictures = snapshot_shelves.catalogue = NULL;
	}
	pthread_mutex_unlock(&snapshot_shelves.lock);
}

/* ---- cells ------------------------------------------------------------------------------------ */

static void cell_unref(struct cell *c)
{
	if (--c->refs > 0)
		return;
	snapshot_unref(c->snapshot);
	catalogue_unref(c->catalogue);
	free(c);
}

static void cell_drop(void *value)
{
	cell_unref(value);
}

static struct cell *cell_new(struct routing_worker *rw, struct org_id org, bool is_catalogue)
{
	struct cell *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->rw = rw;
	c->org = org;
	c->is_catalogue = is_catalogue;
	c->refs = 1;
	return c;
}

static struct str org_key(const struct org_id *org)
{
	return str_of(org->u.b, sizeof org->u.b);
}

static struct cell *cell_of(struct routing_worker *rw, struct org_id org)
{
	struct cell *c;

	if (uuid_eq(org.u, org_id_platform.u))
		return rw->platform;
	c = map_get(rw->orgs, org_key(&org));
	if (!c) {
		c = cell_new(rw, org, false);
		map_put(rw->orgs, org_key(&org), c);
	}
	return c;
}

static bool cell_filled(const struct cell *c)
{
	return c->is_catalogue ? c->catalogue != NULL : c->snapshot != NULL;
}

static int64_t cell_age_ms(const struct cell *c)
{
	return clock_mono_ms() -
	       (c->is_catalogue ? c->catalogue->read_mono_ms : c->snapshot->read_mono_ms);
}

static int64_t stale_ms(const struct cell *c)
{
	return config_int(c->rw->worker->service->config, "stale_seconds") * 1000;
}

static struct shelf *cell_shelf(const struct cell *c)
{
	return c->is_catalogue ? snapshot_shelves.catalogue : snapshot_shelves.pictures;
}

static struct str cell_key(const struct cell *c)
{
	return c->is_catalogue ? STR("") : org_key(&c->org);
}

/* What was just read, for the other workers. Refused where a change or a later read came in between. */
static void cell_share(struct cell *c, struct str text)
{
	struct shelf_put put = {.key = cell_key(c), .tag = cell_key(c), .ticket = c->ticket};
	struct buf *copy;

	if (c->is_catalogue) {
		struct catalogue *own = catalogue_copy(c->catalogue);

		put.value = own;
		put.bytes = arena_bytes(own->mem);
		put.read_ms = own->read_mono_ms;
	} else {
		copy = calloc(1, sizeof *copy);
		if (!copy)
			abort();
		*copy = BUF_INIT(text.len + 1);
		if (buf_append(copy, text) != RC_OK)
			abort(); /* it fits, by the line above */
		put.value = copy;
		put.bytes = text.len;
		put.read_ms = c->snapshot->read_mono_ms;
	}
	(void)shelf_put(cell_shelf(c), &put);
}

static bool cell_fill(struct cell *c, const struct shelf_item *i)
{
	struct snapshot *s;

	if (c->is_catalogue) {
		catalogue_unref(c->catalogue);
		c->catalogue = catalogue_copy(shelf_value(i));
		return true;
	}
	if (snapshot_read(c->rw->worker->service->egress, c->org, buf_str(shelf_value(i)), &s) !=
	    RC_OK)
		return false;
	s->read_mono_ms = shelf_read_ms(i);
	snapshot_unref(c->snapshot);
	c->snapshot = s;
	return true;
}

/* Postgres is away: take the newest that any worker has read, if that is newer than what is here. It is read again
 * as soon as it can be. */
static void cell_adopt(struct cell *c)
{
	const int64_t now = clock_mono_ms();
	struct shelf_item *i;

	if (now < c->shelf_ms)
		return;
	c->shelf_ms = now + SNAPSHOT_RETRY_MS;
	i = shelf_get(cell_shelf(c), cell_key(c), c->ticket);
	if (i && now - shelf_read_ms(i) < stale_ms(c) && cell_fill(c, i)) {
		c->ticket = shelf_item_ticket(i);
		c->stale = true;
	}
	shelf_give(i);
}

/* Fit to decide on: fresh, or Postgres is away and it is not too old to go on with. */
static bool cell_usable(struct cell *c)
{
	if (cell_filled(c) && !c->stale && cell_age_ms(c) < ROUTING_REFRESH_MS)
		return true;
	if (pg_is_up(c->rw->worker->pg))
		return false;
	cell_adopt(c);
	return cell_filled(c) && cell_age_ms(c) < stale_ms(c);
}

static void call_advance(struct snapshot_call *call, enum rc failed, const struct err *err);
static void cell_load(struct cell *c);

static void call_link(struct snapshot_call *call, struct snapshot_call **list)
{
	call->next = *list;
	call->here = list;
	if (call->next)
		call->next->here = &call->next;
	*list = call;
}

static void call_unlink(struct snapshot_call *call)
{
	*call->here = call->next;
	if (call->next)
		call->next->here = call->here;
}

static struct snapshot_call *calls_move(struct snapshot_call **from, struct snapshot_call **to)
{
	*to = *from;
	*from = NULL;
	if (*to)
		(*to)->here = to;
	return *to;
}

/* A read has ended. Who asks from here on waits for another, so the list of this one is closed first. */
static void cell_wake(struct cell *c, enum rc rc, const struct err *err)
{
	struct snapshot_call *waking, *call;

	calls_move(&c->waiting, &waking);
	if (calls_move(&c->later, &c->waiting))
		cell_load(c);
	/* One at a time from the head: an answer may cancel others that wait here. */
	while ((call = waking)) {
		call_unlink(call);
		call_advance(call, rc, err);
	}
}

static void cell_on_rows(void *arg, const struct pg_result *res)
{
	struct cell *c = arg;
	struct err err = {0};
	enum rc rc = res->rc;

	c->loading = NULL;
	if (rc == RC_OK && c->is_catalogue) {
		catalogue_unref(c->catalogue);
		c->catalogue = catalogue_read(res->rows[0]);
		c->ticket = c->ticket_loading;
		cell_share(c, STR_NULL);
	} else if (rc == RC_OK && pg_row_count(res->rows[0]) == 0) {
		rc = err_set(&err, RC_NOT_FOUND, "org_not_found", "no such org");
		shelf_remove(cell_shelf(c), cell_key(c), c->ticket_loading);
	} else if (rc == RC_OK) {
		struct snapshot *fresh;

		rc = snapshot_read(c->rw->worker->service->egress, c->org,
				   pg_str(res->rows[0], 0, 0), &fresh);
		if (rc == RC_OK) {
			snapshot_unref(c->snapshot);
			c->snapshot = fresh;
			c->ticket = c->ticket_loading;
			cooldown_seen(c->rw, c->org, c->asked_us);
			cell_share(c, pg_str(res->rows[0], 0, 0));
		} else {
			if (rc == RC_TOO_LARGE)
				err_set(&err, rc, "org_too_large",
					"the org has more profiles and listed models than can be served");
			else
				err_set(&err, rc, "internal_error",
					"the org's stored configuration does not read");
			log_error("picture does not read", LOG_UUID("org_id", c->org.u),
				  LOG_S("why", str_from(err.message)));
		}
	} else {
		rc = pg_result_err(res, &err);
	}
	c->stale = rc == RC_OK ? c->changed_meanwhile : c->stale;
	c->changed_meanwhile = false;
	/* Away, but known: go on with what is known while that is allowed. */
	if (rc == RC_UNAVAILABLE) {
		cell_adopt(c);
		if (cell_filled(c) && cell_age_ms(c) < stale_ms(c))
			rc = RC_OK;
	}
	if (rc ==
	    RC_TOO_LARGE) /* no older picture in its place: it may be there by what was revoked since */
		rc = RC_UNAVAILABLE;
	if (rc == RC_OK)
		c->have = c->loads;
	cell_wake(c, rc, &err);
	cell_unref(c);
}

static void cell_load(struct cell *c)
{
	struct pg_batch *b;

	if (c->loading)
		return;
	b = pg_batch_new();
	if (c->is_catalogue) {
		pg_batch_add(b, &sql_routing_catalogue);
	} else {
		pg_batch_org(b, c->org);
		pg_batch_add(b, &sql_routing_snapshot);
	}
	c->refs++;
	c->loads++;
	c->changed_meanwhile = false;
	c->ticket_loading = shelf_ticket(cell_shelf(c));
	c->asked_us = clock_mono_us();
	c->loading = pg_submit(c->rw->worker->pg, b, cell_on_rows, c);
}

/* ---- asking ------------------------------------------------------------------------------------ */

static bool set_fill(struct routing_worker *rw, struct cell *org, struct snapshot_set *ret)
{
	ret->org = snapshot_ref(org->snapshot);
	ret->platform = snapshot_ref(rw->platform->snapshot);
	ret->catalogue = rw->catalogue->catalogue;
	ret->catalogue->refs++;
	return true;
}

bool snapshot_try(struct worker *w, struct org_id org, struct snapshot_set *ret)
{
	struct routing_worker *rw = routing_worker(w);
	struct cell *c = cell_of(rw, org);

	if (!cell_usable(c) || !cell_usable(rw->platform) || !cell_usable(rw->catalogue))
		return false;
	return set_fill(rw, c, ret);
}

/* The number of the read that who asks now has to have: 0 where what the cell holds will do. The read that runs may
 * have begun before a change that this worker was told of. */
static uint64_t cell_want(struct cell *c)
{
	if (cell_usable(c))
		return 0;
	cell_load(c);
	return c->changed_meanwhile ? c->loads + 1 : c->loads;
}

static void call_wait(struct snapshot_call *call, struct cell *c, uint64_t want)
{
	cell_load(c);
	call_link(call, want > c->loads ? &c->later : &c->waiting);
}

static void call_free(struct snapshot_call *call)
{
	for (size_t i = 0; i < SNAPSHOT_CELLS; i++)
		cell_unref(call->cells[i]);
	free(call);
}

static void call_finish(struct snapshot_call *call, enum rc rc, const struct err *err)
{
	struct snapshot_set set = {NULL, NULL, NULL};

	if (rc == RC_OK)
		set_fill(call->rw, call->cells[0], &set);
	call->cb(call->arg, rc, set, err);
	call_free(call);
}

/* One cell has arrived (or failed): wait for the next that is missing, or answer. */
static void call_advance(struct snapshot_call *call, enum rc failed, const struct err *err)
{
	if (failed != RC_OK) {
		call_finish(call, failed, err);
		return;
	}
	for (size_t i = 0; i < SNAPSHOT_CELLS; i++)
		if (call->cells[i]->have < call->want[i]) {
			call_wait(call, call->cells[i], call->want[i]);
			return;
		}
	call_finish(call, RC_OK, NULL);
}

struct snapshot_call *snapshot_get(struct worker *w, struct org_id org, snapshot_cb *cb, void *arg)
{
	struct routing_worker *rw = routing_worker(w);
	struct snapshot_call *call = calloc(1, sizeof *call);
	size_t first = SNAPSHOT_CELLS;

	if (!call)
		abort();
	*call = (struct snapshot_call){.rw = rw,
				       .cells = {cell_of(rw, org), rw->platform, rw->catalogue},
				       .cb = cb,
				       .arg = arg};
	for (size_t i = 0; i < SNAPSHOT_CELLS; i++) {
		call->cells[i]->refs++;
		call->want[i] =
			cell_want(call->cells[i]); /* all that is missing goes out in one flight */
		if (call->want[i] > 0 && first == SNAPSHOT_CELLS)
			first = i;
	}
	first = first < SNAPSHOT_CELLS
			? first
			: 0; /* nothing is missing: the answer comes later all the same */
	call_wait(call, call->cells[first], call->want[first]);
	return call;
}

void snapshot_cancel(struct snapshot_call *call)
{
	if (!call)
		return;
	call_unlink(call); /* it always waits for some cell */
	call_free(call);
}

/* ---- life of the caches ---------------------------------------------------------------------------- */

static bool cell_mark_stale(void *arg, struct str key, void *value)
{
	struct cell *c = value;

	c->stale = true;
	c->changed_meanwhile = c->loading != NULL;
	return true;
}

/* A picture on the shelf stays where nothing that it decides has changed. */
static bool change_is_of_picture(struct str kind)
{
	return !str_is(kind, "key") && !str_is(kind, "cooldown") && !str_is(kind, "price") &&
	       !str_is(kind, "model") && !str_is(kind, "budget");
}

static void shelves_on_change(struct routing_worker *rw, const struct change *change)
{
	const struct str kind = str_from(change->kind);
	const uint64_t number = ++rw->catalogue->changes;

	if (uuid_is_zero(change->org.u))
		return; /* what was missed comes by name */
	if (str_is(kind, "model"))
		shelf_outdate(snapshot_shelves.catalogue, STR(""), number);
	else if (change_is_of_picture(kind))
		shelf_outdate(snapshot_shelves.pictures, org_key(&change->org), number);
}

void snapshot_outdate(struct routing_worker *rw, struct org_id org)
{
	struct cell *c =
		uuid_eq(org.u, org_id_platform.u) ? rw->platform : map_get(rw->orgs, org_key(&org));

	if (c)
		cell_mark_stale(NULL, STR_NULL, c);
}

void snapshot_on_change(struct routing_worker *rw, const struct change *change)
{
	shelves_on_change(rw, change);
	if (uuid_is_zero(
		    change->org
			    .u)) { /* the listener was away: nothing that is known can be trusted to be current */
		map_each(rw->orgs, cell_mark_stale, NULL);
		cell_mark_stale(NULL, STR_NULL, rw->platform);
		cell_mark_stale(NULL, STR_NULL, rw->catalogue);
		return;
	}
	if (str_is(str_from(change->kind), "model"))
		cell_mark_stale(NULL, STR_NULL, rw->catalogue);
	snapshot_outdate(rw, change->org);
}

void snapshot_worker_start(struct routing_worker *rw)
{
	shelves_join();
	rw->orgs = map_new(ROUTING_ORGS_MAX, cell_drop);
	rw->platform = cell_new(rw, org_id_platform, false);
	rw->catalogue = cell_new(rw, org_id_platform, true);
}

static bool cell_stop(void *arg, struct str key, void *value)
{
	struct cell *c = value;

	if (c->loading) {
		pg_cancel(c->loading);
		c->loading = NULL;
		cell_unref(c);
	}
	return true;
}

void snapshot_worker_stop(struct routing_worker *rw)
{
	map_each(rw->orgs, cell_stop, NULL);
	cell_stop(NULL, STR_NULL, rw->platform);
	cell_stop(NULL, STR_NULL, rw->catalogue);
	map_free(rw->orgs);
	cell_unref(rw->platform);
	cell_unref(rw->catalogue);
	shelves_leave();
}
