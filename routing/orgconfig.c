/* routing/orgconfig.c - an org's configuration as one document: the difference to what stands, and making it so.
 *
 * One struct per request, one step after the other: read the document, read what stands of its profiles, compare
 * their secrets, have the difference told (config_plan). An apply goes on: try what is new, seal it, and then one
 * batch with everything in it, which begins by asking whether the org is still as it was planned for. A refusal at
 * any step leaves nothing behind. Must never write a secret anywhere but into the vault's seal, and must never
 * guess: what the document does not name is listed and left alone, unless `prune` is said of what it made itself. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/orgconfig_priv.h"
#include "server/admin.h"
#include "server/egress.h"
#include "sql/queries.h"

#define CONFIG_SCHEMA_VERSION 1
#define CONFIG_NAME_MAX	      64
#define CONFIG_FREE_NAME_MAX  200
#define CONFIG_WANT_BYTES     (8u << 20)  /* the document without its secrets, several times over */
#define CONFIG_ANSWER_BYTES   (32u << 20) /* the difference, before and after */

struct config_run {
	struct http_request *req;
	bool apply, prune;
	int64_t version_asked; /* 0: whatever stands */
	struct str org, managed_by;
	struct config_item *items; /* of the document, and behind them what is to go */
	size_t count, wanted;
	struct org_id org_id;
	int64_t version;
	size_t at; /* of the loop that is running */
	struct json *plan;
	const struct config_item **owners; /* of each statement of the last batch; NULL: of none */
	size_t statements;
};

/* ---- reading the document ---------------------------------------------------------------------------- */

static bool known_fields(struct http_request *r, const struct json *v, const char *allowed)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;

	while (json_next(&it, &key, &item)) {
		struct str list = str_from(allowed);
		bool known = false;

		while (list.ptr && !known)
			known = str_eq(str_cut(&list, ' '), key);
		if (!known)
			return admin_refuse(
				r, "unknown_field", arena_strdup(r->mem, key),
				arena_printf(r->mem, "unknown field \"%.*s\"", STR_FMT(key)).ptr,
				arena_printf(r->mem, "known: %s", allowed).ptr);
	}
	return true;
}

static bool name_ok(const struct config_kind *k, struct str s)
{
	if (k == NULL || (strcmp(k->name, "key") != 0 && strcmp(k->name, "budget") != 0))
		return egress_path_part_ok(s) && s.len <= CONFIG_NAME_MAX && str_find(s, ':') < 0;
	return str_trim(s).len > 0 && s.len <= CONFIG_FREE_NAME_MAX && !memchr(s.ptr, 0, s.len);
}

static bool read_item(struct config_run *c, const struct config_kind *k, const struct json *v,
		      size_t nth)
{
	struct http_request *r = c->req;
	struct config_item *it = &c->items[c->count];

	r->within = arena_printf(r->mem, "%s[%zu]", k->list, nth);
	if (json_type(v) != JSON_OBJECT)
		return admin_refuse(r, "invalid_field", "", "this is not an object", "");
	if (!json_string(json_get(v, "name"), &it->name) || !name_ok(k, it->name))
		return admin_refuse(
			r, "invalid_field", "name", "name is missing, or no name",
			"1 to 64 letters, digits, \".\", \"_\" and \"-\", the first a letter or digit");
	r->within = arena_printf(r->mem, "%s.%.*s", k->list, STR_FMT(it->name));
	for (size_t i = 0; i < c->count; i++)
		if (c->items[i].kind == k && str_eq(c->items[i].name, it->name))
			return admin_refuse(r, "invalid_field", "name", "this name stands twice",
					    "");
	it->kind = k;
	c->count++;
	return known_fields(r, v, k->fields) && k->read(r, v, it);
}

static bool read_kind(struct config_run *c, const struct json *config, const struct config_kind *k)
{
	const struct json *list = json_get(config, k->list);
	struct json_iter it = json_iter(list);
	struct json *v;
	size_t n = 0;

	if (json_is_null(list))
		return true;
	if (json_type(list) != JSON_ARRAY || json_len(list) > k->max)
		return admin_refuse(c->req, "invalid_field", k->list,
				    arena_printf(c->req->mem, "%s is not a list of at most %zu",
						 k->list, k->max)
					    .ptr,
				    "");
	while (json_next(&it, NULL, &v))
		if (!read_item(c, k, v, n++))
			return false;
	c->req->within = STR_NULL;
	return true;
}

/* Two defaults of one provider would take turns at each apply. */
static bool one_default_each(struct config_run *c)
{
	for (size_t i = 0; i < c->count; i++)
		for (size_t k = 0; k < i; k++) {
			const struct profile *a, *b;

			if (!c->items[i].work || !c->items[k].work)
				continue;
			a = profile_work_profile(c->items[i].work);
			b = profile_work_profile(c->items[k].work);
			if (a->is_default && b->is_default && a->provider == b->provider)
				return admin_refuse(
					c->req, "invalid_field", "profiles",
					arena_printf(c->req->mem,
						     "%.*s and %.*s are both the default",
						     STR_FMT(b->name), STR_FMT(a->name))
						.ptr,
					"one profile of a provider is");
		}
	return true;
}

static bool read_config(struct config_run *c, const struct json *config)
{
	struct http_request *r = c->req;
	int64_t schema = 0;
	struct err e = {0};
	size_t room = 0;
	enum rc rc;

	if (json_type(config) != JSON_OBJECT)
		return admin_refuse(r, "invalid_field", "config", "config is not an object", "");
	if (!known_fields(r, config,
			  "schema_version org managed_by profiles agents routes keys budgets"))
		return false;
	rc = admin_int(config, "schema_version", true, 0, INT32_MAX, &schema, &e);
	if (rc == RC_OK)
		rc = admin_str(config, "org", false, 64, &c->org, &e);
	if (rc == RC_OK)
		rc = admin_str(config, "managed_by", false, 64, &c->managed_by, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (schema != CONFIG_SCHEMA_VERSION)
		return admin_refuse(r, "not_supported", "schema_version",
				    "this version reads documents of schema_version 1", "");
	if (!name_ok(NULL, c->managed_by))
		return admin_refuse(r, "invalid_field", "managed_by", "managed_by is no name",
				    "1 to 64 letters, digits, \".\", \"_\" and \"-\"");
	for (const struct config_kind *k = config_kinds; k->name; k++)
		room += k->max;
	c->items = ARENA_ARRAY(r->mem, struct config_item, room);
	for (const struct config_kind *k = config_kinds; k->name; k++)
		if (!read_kind(c, config, k))
			return false;
	return one_default_each(c);
}

/* ---- the plan ------------------------------------------------------------------------------------------- */

static struct config_item *item_of(struct config_run *c, struct str kind, struct str name)
{
	for (size_t i = 0; i < c->wanted; i++)
		if (str_is(kind, c->items[i].kind->name) && str_eq(c->items[i].name, name))
			return &c->items[i];
	return NULL;
}

/* A plan's word on one item, for the apply. */
static void take_action(struct config_item *it, const struct json *v)
{
	struct json_iter changes = json_iter(json_get(v, "changes"));
	struct json *one;
	struct str s;

	if (json_string(json_get(v, "action"), &s))
		it->action = str_is(s, "create")   ? CONFIG_CREATE
			     : str_is(s, "update") ? CONFIG_UPDATE
			     : str_is(s, "delete") ? CONFIG_DELETE
						   : CONFIG_KEEP;
	(void)json_bool(json_get(v, "replaces"), &it->replaces);
	(void)json_string(json_get(v, "id"), &it->id);
	while (json_next(&changes, NULL, &one))
		if (json_string(json_get(one, "field"), &s) && !str_is(s, "secret"))
			it->fields_differ = true;
}

static const struct config_kind *kind_named(struct str name)
{
	for (const struct config_kind *k = config_kinds; k->name; k++)
		if (str_is(name, k->name))
			return k;
	return NULL;
}

/* What the plan says of each item, and those that are to go behind the document's own. */
static void take_plan(struct config_run *c)
{
	const struct json *actions = json_get(c->plan, "actions");
	struct config_item *all =
		ARENA_ARRAY(c->req->mem, struct config_item, c->wanted + json_len(actions) + 1);
	struct json_iter it = json_iter(actions);
	struct json *v;

	if (c->wanted > 0)
		memcpy(all, c->items, c->wanted * sizeof *all);
	c->items = all;
	while (json_next(&it, NULL, &v)) {
		struct str kind = STR(""), name = STR("");
		struct config_item *item;

		(void)json_string(json_get(v, "kind"), &kind);
		(void)json_string(json_get(v, "name"), &name);
		item = item_of(c, kind, name);
		if (!item) {
			item = &c->items[c->count++];
			item->kind = kind_named(kind);
			item->name = name;
		}
		take_action(item, v);
	}
}

static bool makes_profile(const struct config_item *it)
{
	return it->work && (it->action == CONFIG_CREATE || it->replaces);
}

/* Only now is it known which profiles would be made, and so need all that one needs. */
static bool secrets_there(struct config_run *c)
{
	for (size_t i = 0; i < c->wanted; i++) {
		const struct config_item *it = &c->items[i];
		const struct profile *p;

		if (!makes_profile(it))
			continue;
		p = profile_work_profile(it->work);
		if (!p->provider->secret_required || profile_work_secret(it->work))
			continue;
		c->req->within = arena_printf(c->req->mem, "profiles.%.*s", STR_FMT(it->name));
		return admin_refuse(c->req, "secret_missing", "secret",
				    it->replaces ? "it goes elsewhere, and its secret does not go "
						   "with it"
						 : "this provider needs a secret",
				    "secret_env or secret_file in the file says where it is");
	}
	return true;
}

static void reply(struct config_run *c, bool applied)
{
	AUTO(buf) struct buf keys = BUF_INIT(CONFIG_ANSWER_BYTES);
	AUTO(buf) struct buf text = BUF_INIT(CONFIG_ANSWER_BYTES);
	struct json_out o;

	/* Reserved at once, so that growing leaves no copy of a key behind. */
	if (buf_reserve(&keys, c->count * 1536 + 64) != RC_OK)
		abort();
	json_out_begin(&o, &keys);
	json_arr(&o, NULL);
	for (size_t i = 0; applied && i < c->wanted; i++) {
		if (!c->items[i].key.text.ptr)
			continue;
		json_obj(&o, NULL);
		json_put_str(&o, "name", c->items[i].name);
		json_put_uuid(&o, "id", c->items[i].key.id);
		json_put_str(&o, "key", c->items[i].key.text);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	const struct json_edit edits[] = {
		{"version", arena_printf(c->req->mem, "%lld", (long long)c->version)},
		{"applied", applied ? STR("true") : STR("false")},
		{"keys", buf_str(&keys)}};
	if (json_out_end(&o) != RC_OK || buf_reserve(&text, keys.len + (1u << 20)) != RC_OK ||
	    json_write_edited(c->plan, edits, c->apply ? ARRAY_LEN(edits) : 1, &text) != RC_OK)
		http_reply_err(c->req, RC_TOO_LARGE, NULL);
	else
		http_reply_data(c->req, 200, buf_str(&text), STR(""));
	explicit_bzero(keys.ptr, keys.cap);
	if (text.ptr)
		explicit_bzero(text.ptr, text.cap);
}

/* ---- the apply: try and seal, then all at once ------------------------------------------------------------ */

static const char *actions_text(struct config_run *c)
{
	AUTO(buf) struct buf text = BUF_INIT(CONFIG_ANSWER_BYTES);

	return json_write(json_get(c->plan, "actions"), &text) == RC_OK
		       ? arena_strdup(c->req->mem, buf_str(&text))
		       : "[]";
}

static void owned(struct config_run *c, const struct config_item *it, size_t statements)
{
	while (statements-- > 0)
		c->owners[c->statements++] = it;
}

static void add_drops(struct config_run *c, struct pg_batch *b, bool first)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct config_item *it = &c->items[i];

		if (it->action != CONFIG_DELETE || it->kind->drop_first != first)
			continue;
		pg_batch_add(b, it->kind->drop);
		pg_param_str(b, it->id);
		pg_param_str(b, admin_actor(c->req));
		pg_param_z(b, c->req->id_text);
		owned(c, it, 1);
	}
}

static enum rc add_items(struct config_run *c, struct pg_batch *b, struct err *err)
{
	for (size_t i = 0; i < c->wanted; i++) {
		struct config_item *it = &c->items[i];
		size_t n = 0;

		if (it->action == CONFIG_KEEP)
			continue;
		TRY(it->kind->add(c->req, b, it, &n, err));
		assert(n <= CONFIG_STATEMENTS_MAX);
		owned(c, it, n);
	}
	return RC_OK;
}

static void on_stored(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct config_run *c = arg;
	const struct config_item *it;
	struct err e = {0};
	enum rc rc;

	if (res->rc == RC_OK) {
		c->version = pg_int(res->rows[res->statements - 1], 0, 0);
		reply(c, true);
		return;
	}
	/* As many statements as delivered went well; the next one is whose error it is. */
	it = res->statements < c->statements ? c->owners[res->statements] : NULL;
	if (it && res->sqlstate[0])
		r->within = arena_printf(r->mem, "%s.%.*s", it->kind->list, STR_FMT(it->name));
	rc = pg_result_err(res, &e);
	if (res->outcome_unknown)
		err_hint(&e,
			 "all of it was done or nothing: plan again to see which; rotate the keys "
			 "it made, they were not shown");
	http_reply_err(r, rc, &e);
}

static void store(struct config_run *c)
{
	struct http_request *r = c->req;
	struct pg_batch *b = pg_batch_new();
	struct err e = {0};
	enum rc rc;

	c->owners = ARENA_ARRAY(r->mem, const struct config_item *,
				c->count *CONFIG_STATEMENTS_MAX + 2);
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_config_begin);
	pg_param_int(b, c->version);
	owned(c, NULL, 1);
	add_drops(c, b, true);
	rc = add_items(c, b, &e);
	if (rc != RC_OK) {
		pg_batch_free(b);
		http_reply_err(r, rc, &e);
		return;
	}
	add_drops(c, b, false);
	pg_batch_add(b, &sql_routing_config_end);
	pg_param_z(b, actions_text(c));
	pg_param_str(b, c->managed_by);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	owned(c, NULL, 1);
	admin_run_cb(r, b, on_stored, c);
}

static bool needs_preparing(const struct config_item *it)
{
	return it->work && (makes_profile(it) || it->secret_differs);
}

static void prepare_next(struct config_run *c);

static void on_prepared(void *arg)
{
	struct config_run *c = arg;

	c->at++;
	prepare_next(c);
}

/* One after the other: the first that does not validate ends it, and so no more than one dead endpoint is waited for. */
static void prepare_next(struct config_run *c)
{
	struct http_request *r = c->req;

	for (; c->at < c->wanted; c->at++) {
		struct config_item *it = &c->items[c->at];

		if (!needs_preparing(it))
			continue;
		if (!makes_profile(it))
			profile_work_rotates(it->work, it->stored_id, it->stored_version + 1);
		r->within = arena_printf(r->mem, "profiles.%.*s", STR_FMT(it->name));
		profile_work_prepare(it->work, c->org_id, on_prepared, c);
		return;
	}
	r->within = STR_NULL;
	store(c);
}

static void on_taken(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct err e = {0};

	if (res->rc == RC_OK)
		prepare_next(arg);
	else
		http_reply_err(r, pg_result_err(res, &e), &e);
}

/* All of an apply is one update of credentials, taken before anybody is asked whether they are good. */
static void start_apply(struct config_run *c)
{
	for (size_t i = 0; i < c->wanted; i++)
		if (needs_preparing(&c->items[i])) {
			admin_run_cb(c->req, credential_batch(c->req, CREDENTIAL_UPDATE), on_taken,
				     c);
			return;
		}
	prepare_next(c);
}

/* ---- the difference ------------------------------------------------------------------------------------------ */

static bool changes_any(const struct config_run *c)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->items[i].action != CONFIG_KEEP)
			return true;
	return false;
}

static bool version_is(struct config_run *c, int64_t wanted)
{
	struct err e = {0};

	if (wanted == c->version)
		return true;
	err_set(&e, RC_CONFLICT, "config_changed", "the org was changed since this was planned");
	err_hint(&e, "plan again, and look at what is new");
	http_reply_err(c->req, RC_CONFLICT, &e);
	return false;
}

static void on_planned(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct config_run *c = arg;
	const int64_t compared = c->version; /* the secrets, in another transaction */
	struct str text;
	struct err e = {0};
	enum rc rc;

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	text = arena_str(r->mem, pg_str(res->rows[0], 0, 0));
	rc = json_parse(text, JSON_ALLOW_DUPLICATES, r->mem, &c->plan, &e);
	if (rc != RC_OK) {
		http_reply_err(r, RC_CORRUPT, NULL);
		return;
	}
	(void)json_int(json_get(c->plan, "version"), &c->version);
	if (!version_is(c, compared) || (c->version_asked && !version_is(c, c->version_asked)))
		return;
	take_plan(c);
	if (!secrets_there(c))
		return;
	c->at = 0;
	if (c->apply && changes_any(c))
		start_apply(c);
	else
		reply(c, false);
}

static void ask_for_plan(struct config_run *c)
{
	AUTO(buf) struct buf want = BUF_INIT(CONFIG_WANT_BYTES);
	struct pg_batch *b;
	struct json_out o;

	json_out_begin(&o, &want);
	json_arr(&o, NULL);
	for (size_t i = 0; i < c->wanted; i++) {
		const struct config_item *it = &c->items[i];

		json_obj(&o, NULL);
		json_put_z(&o, "kind", it->kind->name);
		json_put_str(&o, "name", it->name);
		json_put_raw(&o, "fields", it->fields);
		json_put_bool(&o, "secret", it->secret_differs);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	if (json_out_end(&o) != RC_OK) {
		admin_refuse(c->req, "invalid_field", "config", "the document is too long", "");
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, c->req->params[0]);
	pg_batch_add(b, &sql_routing_config_plan);
	pg_param_str(b, buf_str(&want));
	pg_param_str(b, c->org);
	pg_param_str(b, c->managed_by);
	pg_param_bool(b, c->prune);
	admin_run_cb(c->req, b, on_planned, c);
}

static void compare_next(struct config_run *c);

/* A secret that does not open any more is one that differs: the document mends it. */
static void on_opened(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct config_run *c = arg;
	struct config_item *it = &c->items[c->at];

	if (rc != RC_OK && rc != RC_CORRUPT) {
		http_reply_err(c->req, rc, err);
		return;
	}
	it->secret_differs =
		rc == RC_CORRUPT || !secret_equal(plain, profile_work_secret(it->work));
	c->at++;
	compare_next(c);
}

/* The secrets themselves and not their fingerprints: eight digits may be the same by chance, or of another data key. */
static void compare_next(struct config_run *c)
{
	struct http_request *r = c->req;

	for (; c->at < c->wanted; c->at++) {
		struct config_item *it = &c->items[c->at];
		struct egress_url url;
		struct secret_ref ref;
		struct err e = {0};

		if (!it->work || !profile_work_secret(it->work))
			continue;
		it->secret_differs = true;
		if (it->stored_version == 0 ||
		    !str_eq(it->stored_url, profile_work_profile(it->work)->base_url) ||
		    egress_parse(r->worker->service->egress, it->stored_url, r->mem, &url, &e) !=
			    RC_OK)
			continue;
		ref = (struct secret_ref){.org = c->org_id,
					  .id = it->stored_id,
					  .field = routing_secret_field(r->mem, url.origin),
					  .row_version = it->stored_version};
		vault_open(r->worker, &ref, it->sealed, on_opened, c);
		return;
	}
	ask_for_plan(c);
}

static void on_standing(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct config_run *c = arg;
	const struct pg_rows *org, *profiles;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	org = res->rows[res->statements - 2];
	profiles = res->rows[res->statements - 1];
	c->org_id.u = pg_uuid(org, 0, 0);
	c->version = pg_int(org, 0, 1);
	for (size_t i = 0; i < pg_row_count(profiles); i++) {
		struct config_item *it = item_of(c, STR("profile"), pg_str(profiles, i, 0));

		if (!it)
			continue;
		it->stands = true;
		it->stored_id = pg_uuid(profiles, i, 1);
		it->stored_url = arena_str(r->mem, pg_str(profiles, i, 2));
		it->stored_version = pg_int(profiles, i, 3);
		if (it->stored_version > 0)
			it->sealed = pg_bytes(profiles, i, 4, r->mem);
	}
	compare_next(c);
}

/* ---- the handlers --------------------------------------------------------------------------------------------- */

static void ask_what_stands(struct config_run *c)
{
	struct str *names = ARENA_ARRAY(c->req->mem, struct str, c->wanted + 1);
	struct pg_batch *b;
	bool secrets = false;
	size_t n = 0;

	for (size_t i = 0; i < c->wanted; i++)
		if (c->items[i].work) {
			names[n++] = c->items[i].name;
			secrets |= profile_work_secret(c->items[i].work) != NULL;
		}
	if (secrets) { /* to be told whether one is the stored one is a read */
		b = credential_batch(c->req, CREDENTIAL_READ);
	} else {
		b = pg_batch_new();
		pg_batch_org_ref(b, c->req->params[0]);
	}
	pg_batch_add(b, &sql_routing_config_org);
	pg_batch_add(b, &sql_routing_config_secrets);
	pg_param_str_array(b, names, n);
	admin_run_cb(c->req, b, on_standing, c);
}

static void config_start(struct http_request *r, bool apply)
{
	struct json *body = admin_body(r, apply ? "config version prune" : "config prune");
	struct config_run *c;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	c = ARENA_NEW(r->mem, struct config_run);
	*c = (struct config_run){.req = r, .apply = apply, .managed_by = STR("default")};
	rc = admin_bool(body, "prune", false, &c->prune, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "version", false, 1, INT64_MAX, &c->version_asked, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	if (!read_config(c, json_get(body, "config")))
		return;
	c->wanted = c->count;
	ask_what_stands(c);
}

void handle_config_plan(struct http_request *r)
{
	config_start(r, false);
}

void handle_config_apply(struct http_request *r)
{
	config_start(r, true);
}
