/* routing/orgconfig_kinds.c - what a document can say of an org: profiles, agents, routes, keys, budgets.
 *
 * A part is checked by what checks it at its own endpoint, and stored by the same statement; here is only how its
 * fields read in the comparison. A field that is left out has the default of its endpoint. */
#include "billing/money.h"
#include "routing/orgconfig_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "sql/queries.h"

#define FIELDS_BYTES_MAX (256u * 1024)

/* ---- profiles ------------------------------------------------------------------------------------- */

static void put_models(struct json_out *o, const struct profile *p)
{
	json_arr(o, "models");
	for (size_t i = 0; i < p->models_count; i++)
		json_put_str(o, NULL, p->models[i]);
	json_arr_end(o);
}

static bool keep_fields(struct http_request *r, struct json_out *o, const struct buf *text,
			struct str *ret)
{
	if (json_out_end(o) != RC_OK)
		return admin_refuse(r, "invalid_field", "", "it is too long", "");
	*ret = arena_str(r->mem, buf_str(text));
	return true;
}

static bool profile_item_read(struct http_request *r, const struct json *body,
			      struct config_item *it)
{
	AUTO(buf) struct buf text = BUF_INIT(FIELDS_BYTES_MAX);
	const struct profile *p;
	struct err e = {0};
	struct json_out o;
	enum rc rc;

	it->status = STR("active");
	rc = admin_str(body, "status", false, 16, &it->status, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!str_is(it->status, "active") && !str_is(it->status, "disabled"))
		return admin_refuse(r, "invalid_field", "status", "status is active or disabled",
				    "");
	it->work = profile_work(r, body);
	if (!it->work)
		return false;
	p = profile_work_profile(it->work);
	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	json_put_z(&o, "provider", p->provider->id);
	json_put_str(&o, "base_url", p->base_url);
	json_put_z(&o, "billing_source", billing_source_name(p->source));
	put_models(&o, p);
	json_put_int(&o, "priority", p->priority);
	json_put_bool(&o, "default", p->is_default);
	json_put_str(&o, "status", it->status);
	json_obj_end(&o);
	return keep_fields(r, &o, &text, &it->fields);
}

static enum rc profile_item_add(struct http_request *r, struct pg_batch *b, struct config_item *it,
				size_t *count, struct err *err)
{
	const struct profile *p = profile_work_profile(it->work);
	const bool makes = it->action == CONFIG_CREATE || it->replaces;

	*count = 0;
	if (it->replaces) {
		pg_batch_add(b, &sql_routing_profile_revoke);
		pg_param_str(b, it->id);
		pg_param_str(b, admin_actor(r));
		pg_param_z(b, r->id_text);
		++*count;
	}
	if (makes || it->secret_differs) {
		profile_work_add(it->work, b);
		++*count;
	}
	if (makes ? str_is(it->status, "disabled") : it->fields_differ) {
		profile_change_add(b, r, it->name, STR_NULL, p->models, p->models_count,
				   p->priority, p->is_default, it->status);
		++*count;
	}
	return RC_OK;
}

/* ---- agents --------------------------------------------------------------------------------------- */

static bool agent_item_read(struct http_request *r, const struct json *body, struct config_item *it)
{
	AUTO(buf) struct buf text = BUF_INIT(FIELDS_BYTES_MAX);
	struct json_out o;

	if (!agent_read(r, body, &it->agent))
		return false;
	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	json_put_str(&o, "default_model", it->agent.default_model);
	json_put_str(&o, "description", it->agent.description);
	json_put_str(&o, "status", it->agent.status);
	json_obj_end(&o);
	return keep_fields(r, &o, &text, &it->fields);
}

static enum rc agent_item_add(struct http_request *r, struct pg_batch *b, struct config_item *it,
			      size_t *count, struct err *err)
{
	agent_add(b, r, it->name, &it->agent);
	*count = 1;
	return RC_OK;
}

/* ---- routes --------------------------------------------------------------------------------------- */

static bool route_item_read(struct http_request *r, const struct json *body, struct config_item *it)
{
	AUTO(buf) struct buf text = BUF_INIT(FIELDS_BYTES_MAX);
	struct json_out o;

	if (!route_read(r, body, &it->route))
		return false;
	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	json_put_raw(&o, "match", it->route.match);
	json_put_raw(&o, "targets", it->route.targets);
	json_put_raw(&o, "policy", it->route.policy);
	json_obj_end(&o);
	return keep_fields(r, &o, &text, &it->fields);
}

static enum rc route_item_add(struct http_request *r, struct pg_batch *b, struct config_item *it,
			      size_t *count, struct err *err)
{
	route_add(b, r, it->name, &it->route);
	*count = 1;
	return RC_OK;
}

/* ---- API keys --------------------------------------------------------------------------------------- */

/* The expiry as the database writes it. A time that is over is no fault of a document that has been applied: whether
 * it is one is decided with the difference (config_plan). */
static bool read_expiry(struct http_request *r, const struct json *body, struct str *ret)
{
	const struct json *v = json_get(body, "expires_at");
	char text[CLOCK_RFC3339_SIZE];
	int64_t at_us;
	struct str s;

	*ret = STR_NULL;
	if (json_is_null(v))
		return true;
	if (!json_string(v, &s) || clock_parse_rfc3339(s, &at_us) != RC_OK)
		return admin_refuse(r, "invalid_field", "expires_at",
				    "expires_at is an RFC 3339 time, or null for never",
				    "\"2027-01-01T00:00:00Z\"");
	*ret = arena_str(r->mem, clock_rfc3339(at_us, text));
	return true;
}

static struct str quoted(struct http_request *r, struct str s)
{
	return s.ptr ? arena_printf(r->mem, "\"%.*s\"", STR_FMT(s)) : STR("null");
}

/* What the key's own endpoint makes of the body without its expiry. */
static bool read_spec(struct http_request *r, const struct json *body, struct json **ret)
{
	AUTO(buf) struct buf text = BUF_INIT(FIELDS_BYTES_MAX);
	const struct json_edit timeless = {"expires_at", STR_NULL};
	struct json *bare;
	struct str spec;
	struct err e = {0};
	enum rc rc = json_write_edited(body, &timeless, 1, &text);

	if (rc == RC_OK)
		rc = json_parse(arena_str(r->mem, buf_str(&text)), JSON_NO_DUPLICATES, r->mem,
				&bare, &e);
	if (rc == RC_OK)
		rc = vault_key_spec(r, bare, &spec, &e);
	if (rc == RC_OK)
		rc = json_parse(spec, JSON_NO_DUPLICATES, r->mem, ret, &e);
	if (rc == RC_OK)
		return true;
	http_reply_err(r, rc, &e);
	return false;
}

static void put_or_null(struct json_out *o, const char *key, const struct json *v)
{
	if (v)
		json_put_value(o, key, v);
	else
		json_put_null(o, key);
}

static bool key_item_read(struct http_request *r, const struct json *body, struct config_item *it)
{
	AUTO(buf) struct buf fields = BUF_INIT(FIELDS_BYTES_MAX);
	AUTO(buf) struct buf spec_text = BUF_INIT(FIELDS_BYTES_MAX);
	AUTO(buf) struct buf patch = BUF_INIT(FIELDS_BYTES_MAX);
	struct json *spec;
	struct str expires;
	struct json_out o;

	if (!read_expiry(r, body, &expires) || !read_spec(r, body, &spec))
		return false;
	const struct json_edit timed = {"expires_at", quoted(r, expires)};
	if (json_write_edited(spec, &timed, 1, &spec_text) != RC_OK)
		return admin_refuse(r, "invalid_field", "models", "models are too long together",
				    "");
	it->spec = arena_str(r->mem, buf_str(&spec_text));
	json_out_begin(&o, &fields);
	json_obj(&o, NULL);
	put_or_null(&o, "role", json_get(spec, "role"));
	put_or_null(&o, "scopes", json_get(spec, "scopes"));
	put_or_null(&o, "models", json_get(spec, "models"));
	json_obj(&o, "limits");
	put_or_null(&o, "rpm", json_get(spec, "rpm"));
	put_or_null(&o, "tpm", json_get(spec, "tpm"));
	json_obj_end(&o);
	json_put_str(&o, "expires_at", expires);
	json_obj_end(&o);
	if (!keep_fields(r, &o, &fields, &it->fields))
		return false;
	json_out_begin(&o, &patch);
	json_obj(&o, NULL);
	put_or_null(&o, "models", json_get(spec, "models"));
	put_or_null(&o, "rpm", json_get(spec, "rpm"));
	put_or_null(&o, "tpm", json_get(spec, "tpm"));
	json_put_str(&o, "expires_at", expires);
	json_obj_end(&o);
	return keep_fields(r, &o, &patch, &it->patch);
}

static enum rc key_item_add(struct http_request *r, struct pg_batch *b, struct config_item *it,
			    size_t *count, struct err *err)
{
	*count = 1;
	if (it->action == CONFIG_CREATE)
		return vault_key_add(r, b, it->spec, &it->key, err);
	pg_batch_add(b, &sql_vault_key_change);
	pg_param_str(b, it->id);
	pg_param_str(b, it->patch);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	return RC_OK;
}

/* ---- budgets ---------------------------------------------------------------------------------------- */

static bool one_of(struct str s, const char *words)
{
	struct str rest = str_from(words);

	while (rest.ptr)
		if (str_eq(str_cut(&rest, ' '), s))
			return true;
	return false;
}

struct budget_words {
	struct str scope, subject, limit, window, status;
	bool hard;
};

static enum rc read_words(const struct json *body, struct budget_words *w, struct err *err)
{
	TRY(admin_str(body, "scope", true, 16, &w->scope, err));
	TRY(admin_str(body, "subject", false, 200, &w->subject, err));
	TRY(admin_str(body, "limit", true, MONEY_TEXT_SIZE, &w->limit, err));
	TRY(admin_str(body, "window", true, 16, &w->window, err));
	TRY(admin_bool(body, "hard", false, &w->hard, err));
	return admin_str(body, "status", false, 16, &w->status, err);
}

/* The words of billing's own endpoint, but for a key, which has its name here. */
static bool words_ok(struct http_request *r, const struct budget_words *w, money_t *limit)
{
	const bool of_org = str_is(w->scope, "org");

	if (!one_of(w->scope, "org key agent"))
		return admin_refuse(r, "invalid_field", "scope", "scope is not known",
				    "org, key or agent");
	if (of_org == (w->subject.len > 0))
		return admin_refuse(r, "invalid_field", "subject",
				    of_org ? "subject is not for scope org" : "subject is missing",
				    "the name of an API key or of an agent");
	if (money_parse(w->limit, false, limit) != RC_OK)
		return admin_refuse(r, "invalid_field", "limit",
				    "limit is not a decimal of credits",
				    "a string such as \"25.00\"");
	if (!one_of(w->window, "day week month total"))
		return admin_refuse(r, "invalid_field", "window", "window is not known",
				    "day, week, month or total");
	return one_of(w->status, "active disabled") ||
	       admin_refuse(r, "invalid_field", "status", "status is active or disabled", "");
}

static bool budget_item_read(struct http_request *r, const struct json *body,
			     struct config_item *it)
{
	struct budget_words w = {.subject = STR_NULL, .status = STR("active"), .hard = true};
	AUTO(buf) struct buf text = BUF_INIT(FIELDS_BYTES_MAX);
	char limit_text[MONEY_TEXT_SIZE];
	struct json_out o;
	struct err e = {0};
	money_t limit = MONEY_ZERO;
	enum rc rc = read_words(body, &w, &e);

	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!words_ok(r, &w, &limit))
		return false;
	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	json_put_str(&o, "scope", w.scope);
	json_put_str(&o, "subject", w.subject.len > 0 ? w.subject : STR_NULL);
	json_put_str(&o, "limit", money_format(limit, limit_text));
	json_put_str(&o, "window", w.window);
	json_put_bool(&o, "hard", w.hard);
	json_put_str(&o, "status", w.status);
	json_obj_end(&o);
	return keep_fields(r, &o, &text, &it->fields);
}

static enum rc budget_item_add(struct http_request *r, struct pg_batch *b, struct config_item *it,
			       size_t *count, struct err *err)
{
	pg_batch_add(b, &sql_routing_config_budget_put);
	pg_param_str(b, it->name);
	pg_param_str(b, it->fields);
	pg_param_uuid(b, uuid_v7());
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	*count = 1;
	return RC_OK;
}

/* ---- the table ------------------------------------------------------------------------------------ */

/* A profile and an agent stand before the route that names them, a key before its budget. The most of each, all together, take well below the
 * time that Postgres is given for one batch. */
const struct config_kind config_kinds[] = {
	{.name = "profile",
	 .list = "profiles",
	 .fields = "name provider base_url secret billing_source credential_source models priority "
		   "default status validate",
	 .max = 64, /* each may be tried against its endpoint, one after the other */
	 .drop_first = true,
	 .read = profile_item_read,
	 .add = profile_item_add,
	 .drop = &sql_routing_profile_revoke},
	{.name = "agent",
	 .list = "agents",
	 .fields = "name " AGENT_FIELDS,
	 .max = 100,
	 .read = agent_item_read,
	 .add = agent_item_add,
	 .drop = &sql_routing_agent_delete},
	{.name = "route",
	 .list = "routes",
	 .fields = "name " ROUTE_FIELDS,
	 .max = 100,
	 .drop_first = true,
	 .read = route_item_read,
	 .add = route_item_add,
	 .drop = &sql_routing_route_delete},
	{.name = "key",
	 .list = "keys",
	 .fields = "name role scopes models limits expires_at",
	 .max = 100,
	 .read = key_item_read,
	 .add = key_item_add,
	 .drop = &sql_vault_key_revoke},
	{.name = "budget",
	 .list = "budgets",
	 .fields = "name scope subject limit window hard status",
	 .max = 100,
	 .read = budget_item_read,
	 .add = budget_item_add,
	 .drop = &sql_billing_budget_delete},
	{.name = NULL}};
