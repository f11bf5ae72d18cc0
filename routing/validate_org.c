/* routing/validate_org.c - validate-connection for an org: the running service asks its profiles, one after the other.
 *
 * No secret leaves the service: this command lists profiles, routes and agents, works out which models are wanted of
 * which profile, has each profile tested (`POST .../test`) and compares. A test counts against the caller's limit
 * of tests; when that is reached the rest is reported as not asked. */
#include "routing/probe.h"
#include "routing/routing_priv.h"
#include "routing/validate_priv.h"

#define ORG_ROWS_MAX	   10000       /* of one list: what one org may have is far less */
#define ORG_BYTES_MAX	   (64u << 20) /* lists and answers of one org */
#define ORG_CHECKS_FIRST   64
#define ORG_PATH_BYTES_MAX 1024

struct rows {
	const struct json **list;
	size_t count, cap;
};
struct user {
	struct str words;
	struct user *next;
};
struct wanted {
	struct str id;
	struct user *users;
	size_t users_count;
	struct wanted *next;
};
struct org_run {
	struct cli *cli;   /* the command's: results live in its arena */
	struct cli asking; /* the same with an arena for this org alone */
	const char *org;
	struct rows profiles, routes, agents;
	struct check *checks;
	size_t count, cap;
	bool limited; /* no further test is granted now */
	struct err limit;
	struct err err;
	int status;
};

/* ---- asking the service -------------------------------------------------------------------------------- */

static struct str text_of(const struct json *v, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(v, key), &s);
	return s;
}

static enum rc rows_add(struct arena *mem, struct rows *r, const struct json *v)
{
	size_t cap = r->cap ? r->cap * 2 : ORG_CHECKS_FIRST;
	void *grown;

	if (r->count == r->cap) {
		TRY(arena_try_resize(mem, r->list, r->cap * sizeof(*r->list),
				     cap * sizeof(*r->list), &grown));
		r->list = grown;
		r->cap = cap;
	}
	r->list[r->count++] = v;
	return RC_OK;
}

/* meta.next_cursor of the last answer; empty at the end. */
static struct str next_cursor(struct cli *cli)
{
	struct json *meta;

	if (cli->meta.len == 0 ||
	    json_parse(cli->meta, JSON_ALLOW_DUPLICATES, cli->mem, &meta, NULL) != RC_OK)
		return STR_NULL;
	return text_of(meta, "next_cursor");
}

/* One call; of an error that comes with an answer the code outlives the org's arena. */
static enum rc ask(struct org_run *o, const char *method, struct str path, struct str body,
		   struct json **data)
{
	enum rc rc = cli_api(&o->asking, method, path, body, data, &o->status, &o->err);

	if (rc != RC_OK && o->err.code)
		o->err.code = arena_strdup(o->cli->mem, str_from(o->err.code));
	return rc;
}

/* All pages of a list. */
static enum rc fetch(struct org_run *o, struct str path, struct rows *ret)
{
	struct cli *cli = &o->asking;
	struct str cursor = STR_NULL;
	struct json *data, *row;
	struct json_iter it;

	do {
		struct str page = arena_printf(cli->mem, "%.*s?limit=200%s%.*s", STR_FMT(path),
					       cursor.len ? "&cursor=" : "", STR_FMT(cursor));

		TRY(ask(o, "GET", page, STR(""), &data));
		it = json_iter(data);
		while (json_next(&it, NULL, &row))
			if (rows_add(cli->mem, ret, row) != RC_OK || ret->count > ORG_ROWS_MAX)
				return err_set(&o->err, RC_TOO_LARGE, "too_large",
					       "the list at %.*s is too long", STR_FMT(path));
		cursor = next_cursor(cli);
	} while (cursor.len > 0 && json_len(data) > 0);
	return RC_OK;
}

static enum rc fetch_of_org(struct org_run *o, const char *what, struct rows *ret)
{
	return fetch(o, routing_org_path(&o->asking, o->org, what, NULL), ret);
}

/* A service that has no such resource: an older one. */
static bool is_no_path(const struct org_run *o)
{
	return o->status == 404 && o->err.code && strcmp(o->err.code, "not_found") == 0;
}

static enum rc fetch_all(struct org_run *o, const char *profile)
{
	struct json *one;
	enum rc rc;

	if (profile) {
		TRY(ask(o, "GET", routing_org_path(&o->asking, o->org, "profiles", profile),
			STR(""), &one));
		TRY(rows_add(o->asking.mem, &o->profiles, one));
	} else {
		TRY(fetch_of_org(o, "profiles", &o->profiles));
	}
	TRY(fetch_of_org(o, "routes", &o->routes));
	rc = fetch_of_org(o, "agents", &o->agents);
	return rc != RC_OK && is_no_path(o) ? RC_OK : rc;
}

/* ---- which models are wanted of a profile -------------------------------------------------------------- */

static void want(struct arena *mem, struct wanted **list, struct str id, struct str words)
{
	struct user **u;

	if (id.len == 0 || str_find(id, '*') >= 0)
		return;
	while (*list && !str_eq((*list)->id, id))
		list = &(*list)->next;
	if (!*list) {
		*list = ARENA_NEW(mem, struct wanted);
		(*list)->id = id;
	}
	for (u = &(*list)->users; *u; u = &(*u)->next)
		if (str_eq((*u)->words, words))
			return;
	*u = ARENA_NEW(mem, struct user);
	(*u)->words = words;
	(*list)->users_count++;
}

static bool serves(const struct json *profile, struct str model)
{
	struct json_iter it = json_iter(json_get(profile, "models"));
	struct json *pattern;
	struct str s;

	while (json_next(&it, NULL, &pattern))
		if (json_string(pattern, &s) && str_glob(s, model))
			return true;
	return false;
}

static bool billing_fits(const struct json *profile, const struct json *allowed)
{
	struct str mine = text_of(profile, "billing_source"), s;
	struct json_iter it = json_iter(allowed);
	struct json *v;

	if (json_len(allowed) == 0)
		return true;
	while (json_next(&it, NULL, &v))
		if (json_string(v, &s) && str_eq(s, mine))
			return true;
	return false;
}

/* Would a call through this target come to this profile? */
static bool target_hits(const struct json *profile, const struct json *t)
{
	struct str name = text_of(t, "profile"), provider = text_of(t, "provider");

	if (!billing_fits(profile, json_get(t, "billing")))
		return false;
	if (name.len)
		return str_eq(name, text_of(profile, "name"));
	if (provider.len && !str_eq(provider, text_of(profile, "provider")))
		return false;
	return serves(profile, text_of(t, "model"));
}

static void want_route(struct arena *mem, const struct json *profile, const struct json *route,
		       struct str words, struct wanted **list)
{
	struct json_iter it = json_iter(json_get(route, "targets"));
	struct json *t;

	while (json_next(&it, NULL, &t))
		if (target_hits(profile, t))
			want(mem, list, text_of(t, "model"), words);
}

static const struct json *route_find(const struct org_run *o, struct str name, struct str alias)
{
	for (size_t i = 0; i < o->routes.count; i++) {
		const struct json *r = o->routes.list[i];

		if (name.len ? str_eq(text_of(r, "name"), name)
			     : str_eq(text_of(json_get(r, "match"), "alias"), alias))
			return r;
	}
	return NULL;
}

/* What a call of this agent gets that names no model: its own chain, else its default model in any of its forms. */
static void want_agent(const struct org_run *o, const struct json *profile,
		       const struct json *agent, struct wanted **list)
{
	struct arena *mem = o->asking.mem;
	struct str model = text_of(agent, "default_model"), chain = text_of(agent, "route");
	struct str words = arena_printf(mem, "agent %.*s", STR_FMT(text_of(agent, "name")));
	const struct json *route = NULL;
	struct str rest = model, provider;

	if (str_is(text_of(agent, "status"), "disabled"))
		return;
	if (chain.len || model.len)
		route = route_find(o, chain, model);
	if (route) {
		want_route(mem, profile, route, words, list);
		return;
	}
	provider = str_cut(&rest, '/');
	if (rest.ptr && provider_find(provider)) {
		if (!str_eq(provider, text_of(profile, "provider")))
			return;
		model = rest;
	}
	if (model.len && serves(profile, model))
		want(mem, list, model, words);
}

static struct wanted *wanted_of(const struct org_run *o, const struct json *profile)
{
	struct json_iter it = json_iter(json_get(profile, "models"));
	struct arena *mem = o->asking.mem;
	struct wanted *list = NULL;
	struct json *pattern;
	struct str s;

	while (json_next(&it, NULL, &pattern))
		if (json_string(pattern, &s))
			want(mem, &list, s, STR("profile"));
	for (size_t i = 0; i < o->routes.count; i++)
		want_route(mem, profile, o->routes.list[i],
			   arena_printf(mem, "route %.*s",
					STR_FMT(text_of(o->routes.list[i], "name"))),
			   &list);
	for (size_t i = 0; i < o->agents.count; i++)
		want_agent(o, profile, o->agents.list[i], &list);
	return list;
}

/* ---- one profile --------------------------------------------------------------------------------------- */

static void take_models(struct org_run *o, struct check *c, const struct wanted *list)
{
	struct arena *mem = o->cli->mem;
	size_t n = 0;

	for (const struct wanted *w = list; w; w = w->next)
		n++;
	c->models = ARENA_ARRAY(mem, struct check_model, n + 1);
	for (const struct wanted *w = list; w; w = w->next) {
		struct check_model *m = &c->models[c->models_count++];
		struct str *by = ARENA_ARRAY(mem, struct str, w->users_count + 1);

		m->id = arena_str(mem, w->id);
		m->used_by = by;
		for (const struct user *u = w->users; u; u = u->next)
			by[m->used_by_count++] = arena_str(mem, u->words);
	}
}

static enum rc check_new(struct org_run *o, const struct json *profile, struct check **ret)
{
	struct arena *mem = o->cli->mem;
	size_t cap = o->cap ? o->cap * 2 : ORG_CHECKS_FIRST;
	struct str provider = text_of(profile, "provider");
	void *grown;

	if (o->count == o->cap) {
		TRY(arena_try_resize(mem, o->checks, o->cap * sizeof *o->checks,
				     cap * sizeof *o->checks, &grown));
		o->checks = grown;
		o->cap = cap;
	}
	*ret = &o->checks[o->count++];
	**ret = (struct check){.org = arena_str(mem, str_from(o->org)),
			       .name = arena_str(mem, text_of(profile, "name")),
			       .provider = provider_find(provider),
			       .provider_id = arena_str(mem, provider),
			       .base_url = arena_str(mem, text_of(profile, "base_url")),
			       .latency_ms = -1};
	return RC_OK;
}

/* What an earlier test said of the connection stands. */
static void refused(struct check *c, struct arena *mem, const struct err *e)
{
	c->reason = arena_str(mem, str_from(e->code ? e->code : "failed"));
	c->words = arena_str(mem, str_from(e->message));
	c->hint = arena_str(mem, str_from(e->hint));
}

/* Have one test run. RC_OK also when the service refused it: then `*data` is NULL and the check says why. */
static enum rc test(struct org_run *o, struct check *c, const struct json *profile,
		    struct str action, struct json **data)
{
	struct str path = routing_org_path(&o->asking, o->org, "profiles",
					   arena_strdup(o->asking.mem, text_of(profile, "id")));
	enum rc rc;

	*data = NULL;
	if (!o->limited) {
		path = arena_printf(o->asking.mem, "%.*s/test", STR_FMT(path));
		rc = ask(o, "POST", path, action, data);
		if (rc == RC_OK) {
			c->attempts++;
			return RC_OK;
		}
		if (o->status == 0 || o->status == 401 || o->status == 403 || o->status >= 500)
			return rc; /* it will be the same for the next one */
		o->limited = o->status == 429;
		o->limit = o->err;
	}
	refused(c, o->cli->mem, &o->limit);
	return RC_OK;
}

static void take_answer(struct org_run *o, struct check *c, const struct json *data)
{
	struct arena *mem = o->cli->mem;
	const struct json *detail = json_get(data, "detail");

	(void)json_bool(json_get(data, "ok"), &c->ok);
	(void)json_int(json_get(data, "latency_ms"), &c->latency_ms);
	c->reason = arena_str(mem, text_of(data, "reason"));
	c->words = arena_str(mem, text_of(detail, "message"));
	c->hint = STR_NULL;
	if (c->reason.len)
		c->hint =
			check_hint(mem, c->provider, c->reason,
				   arena_printf(mem, "run tollgate profile rotate --org %.*s %.*s",
						STR_FMT(c->org), STR_FMT(c->name))
					   .ptr);
	/* as in the file form: an empty account serves no call, but a key that may not list is good */
	if (str_is(c->reason, error_class_name(ERROR_quota)))
		c->ok = false;
	if (str_is(c->reason, error_class_name(ERROR_permission)) ||
	    str_is(c->reason, error_class_name(ERROR_rate_limit)))
		c->ok = true;
}

static void take_listing(struct org_run *o, struct check *c, const struct json *data)
{
	const struct json *ids = json_get(json_get(data, "detail"), "ids");
	struct json_iter it = json_iter(ids);
	struct str *list;
	struct json *id;
	size_t n = 0;

	/* a catalogue, or a list that was cut, proves nothing about what it lacks */
	if (json_type(ids) != JSON_ARRAY || json_len(ids) >= PROBE_LISTED_MAX ||
	    (c->provider && c->provider->list_is_catalogue))
		return;
	list = ARENA_ARRAY(o->asking.mem, struct str, json_len(ids) + 1);
	while (json_next(&it, NULL, &id))
		n += json_string(id, &list[n]);
	check_models(o->cli->mem, c, list, n);
}

/* Where listing is what shows that the key is good, one test tells both. */
static bool list_tells_all(const struct check *c)
{
	return c->models_count > 0 && c->provider && !c->provider->path_auth;
}

static enum rc check_profile(struct org_run *o, const struct json *profile)
{
	const struct str list = STR("{\"action\":\"list_models\"}");
	struct json *data;
	struct check *c;

	TRY(check_new(o, profile, &c));
	take_models(o, c, wanted_of(o, profile));
	if (!list_tells_all(c)) {
		TRY(test(o, c, profile, STR("{\"action\":\"test_auth\"}"), &data));
		if (!data)
			return RC_OK;
		take_answer(o, c, data);
		if (!c->ok || c->reason.len || c->models_count == 0)
			return RC_OK;
	}
	TRY(test(o, c, profile, list, &data));
	if (!data)
		return RC_OK;
	take_answer(o, c, data);
	take_listing(o, c, data);
	return RC_OK;
}

/* ---- orgs ---------------------------------------------------------------------------------------------- */

static enum rc check_org(struct org_run *o, const char *org, const char *profile)
{
	enum rc rc;

	o->org = org;
	o->limited = false; /* the limit is one of each org */
	o->profiles = o->routes = o->agents = (struct rows){.count = 0};
	o->asking = *o->cli;
	o->asking.mem = arena_new(ORG_BYTES_MAX);
	rc = fetch_all(o, profile);
	for (size_t i = 0; i < o->profiles.count && rc == RC_OK; i++)
		if (profile || str_is(text_of(o->profiles.list[i], "status"), "active"))
			rc = check_profile(o, o->profiles.list[i]);
	arena_free(o->asking.mem);
	return rc;
}

static enum rc check_every_org(struct org_run *o)
{
	struct rows orgs = {.count = 0};

	o->asking = *o->cli;
	TRY(fetch(o, STR("/admin/v1/orgs"), &orgs));
	for (size_t i = 0; i < orgs.count; i++) {
		const char *slug = arena_strdup(o->cli->mem, text_of(orgs.list[i], "slug"));

		if (str_is(text_of(orgs.list[i], "status"), "active"))
			TRY(check_org(o, slug, NULL));
	}
	return RC_OK;
}

int validate_org(struct cli *cli, const char *org, const char *profile, int64_t began_ms)
{
	struct org_run o = {.cli = cli};
	enum rc rc = org ? check_org(&o, org, profile) : check_every_org(&o);

	if (rc != RC_OK) {
		report_meta(cli, began_ms);
		return cli_error(cli, cli_status(rc, o.status), &o.err);
	}
	return report_print(cli, &(struct report){.source = "org",
						  .checks = o.checks,
						  .count = o.count,
						  .began_ms = began_ms});
}
