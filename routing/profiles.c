/* routing/profiles.c - connect, list, change, rotate and revoke provider profiles; profile_test.c tries them.
 *
 * A secret is checked for its form, tried against the endpoint unless the caller says otherwise, sealed by the
 * vault, and only then stored; it is never shown again. One struct per request, one step after the other. What an
 * actor may do in an hour is taken before anything is asked of an endpoint: a stolen key cannot be tried here for
 * free. */
#include <stdio.h>
#include <stdlib.h>

#include "routing/routing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/config.h"
#include "server/egress.h"
#include "sql/queries.h"

#define PROFILE_MODELS_MAX 200

struct work { /* in the request's arena; the secret is wiped when that goes */
	struct http_request *req;
	struct profile profile;
	struct secret secret;
	bool has_secret;
	struct str ref; /* id or name, as in the path */
	struct org_id org;
	bool validate, rotate;
	bool secret_later;	   /* whether it has one to be complete is not known yet */
	int64_t began_ms;	   /* of the probes: they share one time limit */
	struct probe_result probe; /* of the key */
	struct probe_result list;  /* of the models, where that is another question */
	bool probed;
	struct err refusal;
	void (*prepared)(void *arg); /* the storing is somebody else's */
	void *arg;
	struct sealed *kept; /* for it; NULL: no secret */
};

const char *routing_secret_field(struct arena *mem, struct str origin)
{
	return arena_printf(mem, "api_key %.*s", STR_FMT(origin)).ptr;
}

static void work_undo(void *arg)
{
	struct work *w = arg;

	secret_clear(&w->secret);
}

static struct work *work_new(struct http_request *r)
{
	struct work *w = ARENA_NEW(r->mem, struct work);

	w->req = r;
	w->ref = r->params[1];
	arena_on_clear(r->mem, work_undo, w);
	return w;
}

struct pg_batch *credential_batch(struct http_request *r, enum credential_kind kind)
{
	static const struct {
		const char *name, *setting;
	} kinds[] = {
		[CREDENTIAL_UPDATE] = {"update", "credential_updates_per_hour"},
		[CREDENTIAL_TEST] = {"test", "credential_tests_per_hour"},
		[CREDENTIAL_READ] = {"read", "credential_reads_per_hour"},
	};
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_credential_take);
	pg_param_z(b, kinds[kind].name);
	pg_param_str(b, admin_actor(r));
	pg_param_int(b, config_int(r->worker->service->config, kinds[kind].setting));
	return b;
}

/* ---- reading the body ------------------------------------------------------------------------ */

/* As the table has it: here, so that nothing is asked of an endpoint, and no operation taken, for what cannot be. */
static bool name_ok(struct http_request *r, struct str name)
{
	return (egress_path_part_ok(name) && name.len <= 64 && str_find(name, ':') < 0) ||
	       admin_refuse(r, "invalid_field", "name", "name has a character that no name has",
			    "1 to 64 letters, digits, \".\", \"_\" and \"-\", the first a letter "
			    "or digit");
}

/* Patterns of models; NULL and answered on failure. Absent gives one "*". */
static bool read_models(struct http_request *r, const struct json *body, const struct str **ret,
			size_t *count)
{
	const struct json *list = json_get(body, "models");
	struct str *out = ARENA_ARRAY(r->mem, struct str, PROFILE_MODELS_MAX + 1);
	struct json_iter it = json_iter(list);
	struct json *item;
	size_t n = 0;

	if (json_is_null(list)) {
		out[n++] = STR("*");
	} else if (json_type(list) != JSON_ARRAY || json_len(list) == 0 ||
		   json_len(list) > PROFILE_MODELS_MAX) {
		admin_refuse(r, "invalid_field", "models",
			     "models is not a list of 1 to 200 model ids",
			     "ids or patterns with *, such as [\"gpt-*\"]");
		return false;
	}
	while (json_next(&it, NULL, &item)) {
		if (!json_string(item, &out[n]) || out[n].len == 0 || out[n].len > 256 ||
		    memchr(out[n].ptr, 0, out[n].len)) {
			admin_refuse(r, "invalid_field", "models",
				     "an entry of models is not a model id",
				     "ids or patterns with *, 256 characters at most");
			return false;
		}
		n++;
	}
	*ret = out;
	*count = n;
	return true;
}

static bool read_provider(struct http_request *r, const struct json *body, struct profile *p)
{
	struct err e = {0};
	struct str id = STR_NULL;
	enum rc rc = admin_str(body, "provider", true, 64, &id, &e);

	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	p->provider = provider_find(id);
	if (!p->provider)
		return admin_refuse(r, "unknown_provider", "provider",
				    "there is no provider of this id",
				    "GET /admin/v1/providers lists them");
	return true;
}

/* Every part of a path, resource or deployment, is one that cannot turn the address into another
 * (security.md 3.1 (4)). */
static bool path_parts_ok(const struct egress_url *url)
{
	struct str rest = url->base;

	rest = str_slice(rest, url->https ? 8 : 7, rest.len); /* https:// */
	(void)str_cut(&rest, '/');
	while (rest.ptr)
		if (!egress_path_part_ok(str_cut(&rest, '/')))
			return false;
	return true;
}

/* A provider with an address of its own may be reached elsewhere only where the operator says so: by a literal
 * address of the allow-list, such as a proxy on the operator's own network. */
static bool may_be_at(const struct provider *p, const struct egress_url *url)
{
	return p->base_url_settable || url->listed;
}

/* `required`: a provider without an address of its own must be told one. Answers on failure. */
static bool read_base_url(struct http_request *r, const struct json *body, struct profile *p,
			  bool required)
{
	struct egress_url url;
	struct err e = {0};
	struct str text = STR_NULL;
	enum rc rc =
		admin_str(body, "base_url", required && !p->provider->base_url, 512, &text, &e);

	if (rc == RC_OK)
		rc = egress_parse(r->worker->service->egress,
				  text.ptr ? text : str_from(p->provider->base_url), r->mem, &url,
				  &e);
	if (rc != RC_OK) {
		if (!e.field[0])
			err_field(&e, "base_url");
		http_reply_err_as(r, 400, rc, &e);
		return false;
	}
	if (text.ptr && !may_be_at(p->provider, &url))
		return admin_refuse(
			r, "invalid_field", "base_url", "this provider's address is fixed",
			"leave base_url out, or connect as openai_compatible; an operator can "
			"allow a literal address in TOLLGATE_EGRESS_ALLOW");
	if (!path_parts_ok(&url))
		return admin_refuse(r, "invalid_field", "base_url",
				    "a part of its path has a character that is not allowed there",
				    "letters and digits, and behind the first also . _ : -");
	p->base_url = url.base;
	p->origin = url.origin;
	return true;
}

static bool read_billing(struct http_request *r, const struct json *body, struct profile *p)
{
	const bool platform = str_is(r->params[0], "platform") ||
			      str_is(r->params[0], "00000000-0000-7000-8000-000000000000");
	struct err e = {0};
	struct str text = platform ? STR("platform") : STR("byok");
	struct str source = platform ? STR("platform_vault") : STR("organization_auth_profile");
	const struct str usual = source;
	enum rc rc = admin_str(body, "billing_source", false, 16, &text, &e);

	if (rc == RC_OK)
		rc = admin_str(body, "credential_source", false, 64, &source, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (billing_source_parse(text, &p->source) != RC_OK ||
	    (p->source == BILLING_PLATFORM) != platform)
		return admin_refuse(r, "invalid_field", "billing_source",
				    "this billing source is not for this org",
				    "byok or private; platform only in the org platform");
	if (p->source == BILLING_PRIVATE && !p->provider->base_url_settable)
		return admin_refuse(
			r, "invalid_field", "billing_source",
			"private is for the org's own endpoint",
			"connect it as openai_compatible with its base_url, or use byok");
	if (!str_eq(source, usual))
		return admin_refuse(
			r, "not_supported", "credential_source",
			"a secret can come from nowhere else in this version",
			platform ? "platform_vault: sealed here, in the org platform"
				 : "organization_auth_profile: sealed here, in this profile");
	return true;
}

static bool read_secret(struct http_request *r, const struct json *body, bool required,
			struct work *w)
{
	struct err e = {0};
	struct str text = STR_NULL;
	enum rc rc = admin_str(body, "secret", required, 4096, &text, &e);

	if (rc != RC_OK) {
		if (w->profile.provider && w->profile.provider->key_page)
			err_hint(&e, "keys of %s look like %s; get one at %s",
				 w->profile.provider->label, w->profile.provider->key_example,
				 w->profile.provider->key_page);
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!text.ptr)
		return true;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= 0x20 || text.ptr[i] >= 0x7f)
			return admin_refuse(
				r, "invalid_secret", "secret",
				"the secret has a space, a control or a non-ASCII character",
				"paste the key alone, without quotes or line ends");
	if (text.len == 0 || secret_from(text, &w->secret) != RC_OK)
		return admin_refuse(r, "invalid_secret", "secret",
				    "the secret is empty or too long", "at most 4096 characters");
	w->has_secret = true;
	return true;
}

/* As the provider's keys look, where that is known. */
static bool secret_form_ok(struct work *w)
{
	struct err e = {0};

	if (!w->has_secret ||
	    provider_key_check(w->profile.provider, secret_str(&w->secret), &e) == RC_OK)
		return true;
	http_reply_err(w->req, RC_INVALID, &e);
	return false;
}

/* ---- steps: probe, seal, store ------------------------------------------------------------------- */

struct str profile_health_json(struct arena *mem, const struct probe_result *res, bool listed)
{
	AUTO(buf) struct buf out = BUF_INIT(2048);
	char at[CLOCK_RFC3339_SIZE];
	struct json_out o;

	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	json_put_z(&o, "status", probe_health_name(res->health));
	json_put_z(&o, "reason", res->reason);
	json_put_str(&o, "checked_at", clock_rfc3339(clock_wall_us(), at));
	json_put_int(&o, "latency_ms", res->latency_ms);
	if (listed)
		json_put_int(&o, "models", (int64_t)res->models_count);
	else
		json_put_null(&o, "models");
	json_obj_end(&o);
	return json_out_end(&o) == RC_OK ? arena_str(mem, buf_str(&out)) : STR_NULL;
}

static void add_probe(struct work *w, struct pg_batch *b)
{
	struct probe_result res = w->probe;
	const bool listed = w->list.ok;

	if (!w->probed) {
		pg_param_null(b);
		pg_param_null(b);
		return;
	}
	res.models_count = w->list.models_count;
	if (w->list.listed)
		pg_param_str_array(b, w->list.models, w->list.models_count);
	else
		pg_param_null(b);
	pg_param_str(b, profile_health_json(w->req->mem, &res, listed));
}

static void add_sealed(struct pg_batch *b, const struct sealed *sealed)
{
	if (sealed) {
		pg_param_bytes(b, sealed->blob);
		pg_param_z(b, sealed->masked);
		pg_param_z(b, sealed->fingerprint);
	} else {
		pg_param_null(b);
		pg_param_null(b);
		pg_param_null(b);
	}
}

/* The statement that stores what is prepared. */
static void add_store(struct work *w, struct pg_batch *b, const struct sealed *sealed)
{
	struct http_request *r = w->req;

	if (w->rotate) {
		pg_batch_add(b, &sql_routing_profile_rotate);
		pg_param_uuid(b, w->profile.id);
		pg_param_int(b, w->profile.secret.row_version);
		pg_param_str(b, w->profile.base_url);
	} else {
		pg_batch_add(b, &sql_routing_profile_create);
		pg_param_uuid(b, w->profile.id);
		pg_param_str(b, w->profile.name);
		pg_param_z(b, w->profile.provider->id);
		pg_param_str(b, w->profile.base_url);
		pg_param_z(b, billing_source_name(w->profile.source));
		pg_param_str_array(b, w->profile.models, w->profile.models_count);
		pg_param_int(b, w->profile.priority);
		pg_param_bool(b, w->profile.is_default);
	}
	add_sealed(b, sealed);
	add_probe(w, b);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
}

static void store(struct work *w, const struct sealed *sealed)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, w->req->params[0]);
	add_store(w, b, sealed);
	admin_run(w->req, b, w->rotate ? 200 : 201);
}

/* Prepared: store it, or hand on to who stores it with more. */
static void finish(struct work *w, const struct sealed *sealed)
{
	if (!w->prepared) {
		store(w, sealed);
		return;
	}
	if (sealed) {
		w->kept = ARENA_NEW(w->req->mem, struct sealed);
		*w->kept = *sealed;
		w->kept->blob = arena_str(w->req->mem, sealed->blob);
	}
	w->prepared(w->arg);
}

static void on_sealed(void *arg, enum rc rc, const struct sealed *sealed, const struct err *err)
{
	struct work *w = arg;

	secret_clear(&w->secret);
	if (rc != RC_OK)
		http_reply_err(w->req, rc, err);
	else
		finish(w, sealed);
}

static void seal(struct work *w)
{
	if (!w->has_secret) {
		finish(w, NULL);
		return;
	}
	w->profile.secret.org = w->org;
	w->profile.secret.id = w->profile.id;
	w->profile.secret.field = routing_secret_field(w->req->mem, w->profile.origin);
	vault_seal(w->req->worker, &w->profile.secret, &w->secret, on_sealed, w);
}

/* The audit log knows of it now, or Postgres is away: the answer is the same. */
static void on_refusal_noted(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct work *w = arg;

	http_reply_err_as(r, 422, RC_INVALID, &w->refusal);
}

static void refuse_connection(struct work *w, const struct probe_result *res)
{
	struct http_request *r = w->req;
	struct pg_batch *b = pg_batch_new();
	char id[UUID_TEXT_SIZE];

	err_set(&w->refusal, RC_INVALID, "connection_failed",
		"the connection did not validate (%s): %.*s", res->reason, STR_FMT(res->words));
	if (res->health == PROBE_UNKNOWN)
		err_hint(
			&w->refusal,
			"nothing is known of the key: try again, or \"validate\": false stores it untried");
	else
		err_hint(&w->refusal,
			 "check the address and the key%s%s; \"validate\": false stores it untried",
			 w->profile.provider->key_page ? " at " : "",
			 w->profile.provider->key_page ? w->profile.provider->key_page : "");
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_refused);
	pg_param_z(b, w->rotate ? "profile.rotate" : "profile.create");
	if (w->rotate)
		pg_param_str(b, uuid_format(w->profile.id, id));
	else
		pg_param_str(b, w->profile.name);
	pg_param_z(b, res->reason);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run_cb(r, b, on_refusal_noted, w);
}

/* A list that does not come is no reason against a key that is good. */
static void on_listed(void *arg, const struct probe_result *res)
{
	struct work *w = arg;

	w->list = *res;
	seal(w);
}

static void ask(struct work *w, enum probe_action action, probe_cb *cb)
{
	const int64_t left = PROBE_MS - (clock_mono_ms() - w->began_ms);

	probe_start(w->req->worker->curlm, &w->profile, action, STR_NULL,
		    w->has_secret ? &w->secret : NULL, left, w->req->mem, cb, w);
}

static void on_validated(void *arg, const struct probe_result *res)
{
	struct work *w = arg;

	w->probe = *res;
	w->probed = true;
	if (res->health != PROBE_OK && res->health != PROBE_DEGRADED) {
		refuse_connection(w, res);
	} else if (w->profile.provider->path_auth && res->models_count == 0) {
		ask(w, PROBE_MODELS, on_listed);
	} else {
		w->list = *res;
		seal(w);
	}
}

/* A rotation: what the stored profile says. Answers on failure. */
static bool take_row(struct work *w, const struct pg_rows *row)
{
	struct http_request *r = w->req;
	struct egress_url url;
	struct err e = {0};
	enum rc rc;

	w->profile.id = pg_uuid(row, 0, 0);
	w->profile.secret.row_version = pg_int(row, 0, 1);
	w->profile.provider = provider_find(pg_str(row, 0, 2));
	if (!w->profile.provider)
		return admin_refuse(r, "unknown_provider", "provider",
				    "this version does not know the profile's provider",
				    "connect it anew");
	rc = egress_parse(r->worker->service->egress, pg_str(row, 0, 3), r->mem, &url, &e);
	if (rc != RC_OK) {
		http_reply_err_as(r, 400, rc, &e);
		return false;
	}
	w->profile.base_url = url.base;
	w->profile.origin = url.origin;
	return secret_form_ok(w);
}

/* The vault binds a secret to the org's id: a slug in the path must be resolved before sealing. */
static void on_org(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct work *w = arg;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	w->org.u = pg_uuid(res->rows[1], 0, 0);
	if (w->rotate && !take_row(w, res->rows[2]))
		return;
	w->began_ms = clock_mono_ms();
	if (w->validate)
		ask(w, PROBE_AUTH, on_validated);
	else
		seal(w);
}

/* A body that connects a profile. Answers where it refuses. */
static bool read_profile(struct http_request *r, const struct json *body, struct work *w)
{
	struct err e = {0};
	enum rc rc;

	w->validate = true;
	w->profile.id = uuid_v7();
	w->profile.priority = 100;
	w->profile.secret.row_version = 1;
	rc = admin_str(body, "name", true, 64, &w->profile.name, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "priority", false, 0, 1000000, &w->profile.priority, &e);
	if (rc == RC_OK)
		rc = admin_bool(body, "default", false, &w->profile.is_default, &e);
	if (rc == RC_OK)
		rc = admin_bool(body, "validate", false, &w->validate, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	return name_ok(r, w->profile.name) && read_provider(r, body, &w->profile) &&
	       read_base_url(r, body, &w->profile, true) && read_billing(r, body, &w->profile) &&
	       read_models(r, body, &w->profile.models, &w->profile.models_count) &&
	       read_secret(r, body, !w->secret_later && w->profile.provider->secret_required, w) &&
	       secret_form_ok(w);
}

void handle_profile_create(struct http_request *r)
{
	struct json *body = admin_body(
		r,
		"name provider base_url secret billing_source credential_source models priority default validate");
	struct pg_batch *b;
	struct work *w;

	if (!body)
		return;
	w = work_new(r);
	if (!read_profile(r, body, w))
		return;
	b = credential_batch(r, CREDENTIAL_UPDATE);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_tier_profile_check);
	pg_param_z(b, billing_source_name(w->profile.source));
	admin_run_cb(r, b, on_org, w);
}

void handle_profile_rotate(struct http_request *r)
{
	struct json *body = admin_body(r, "secret validate");
	struct pg_batch *b;
	struct work *w;
	struct err e = {0};

	if (!body)
		return;
	w = work_new(r);
	w->rotate = true;
	if (admin_bool(body, "validate", false, &w->validate, &e) != RC_OK) {
		http_reply_err(r, RC_INVALID, &e);
		return;
	}
	if (!read_secret(r, body, true, w))
		return;
	b = credential_batch(r, CREDENTIAL_UPDATE);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_profile_secret_version);
	pg_param_str(b, w->ref);
	admin_run_cb(r, b, on_org, w);
}

/* ---- the same steps for who stores several in one transaction ------------------------------------------ */

struct work *profile_work(struct http_request *r, const struct json *body)
{
	struct work *w = work_new(r);

	w->secret_later = true;
	return read_profile(r, body, w) ? w : NULL;
}

const struct profile *profile_work_profile(const struct work *w)
{
	return &w->profile;
}

const struct secret *profile_work_secret(const struct work *w)
{
	return w->has_secret ? &w->secret : NULL;
}

void profile_work_rotates(struct work *w, struct uuid id, int64_t row_version)
{
	w->rotate = true;
	w->profile.id = id;
	w->profile.secret.row_version = row_version;
}

void profile_work_prepare(struct work *w, struct org_id org, void (*prepared)(void *arg), void *arg)
{
	w->org = org;
	w->prepared = prepared;
	w->arg = arg;
	w->began_ms = clock_mono_ms();
	if (w->validate)
		ask(w, PROBE_AUTH, on_validated);
	else
		seal(w);
}

void profile_work_add(struct work *w, struct pg_batch *b)
{
	add_store(w, b, w->kept);
}

/* ---- change ------------------------------------------------------------------------------------------ */

struct change_work { /* what is absent stays as it is */
	struct http_request *req;
	const struct json *body;
	struct str name, status, base_url;
	const struct str *models;
	size_t models_count;
	int64_t priority; /* -1: absent */
	int is_default;	  /* -1: absent */
};

static void add_change(struct pg_batch *b, struct http_request *r, struct str ref, struct str name,
		       const struct str *models, size_t models_count, int64_t priority,
		       int is_default, struct str status, struct str base_url)
{
	pg_batch_add(b, &sql_routing_profile_change);
	pg_param_str(b, ref);
	pg_param_str(b, name);
	if (models)
		pg_param_str_array(b, models, models_count);
	else
		pg_param_null(b);
	if (priority >= 0)
		pg_param_int(b, priority);
	else
		pg_param_null(b);
	if (is_default >= 0)
		pg_param_bool(b, is_default != 0);
	else
		pg_param_null(b);
	pg_param_str(b, status);
	pg_param_str(b, base_url);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
}

void profile_change_add(struct pg_batch *b, struct http_request *r, struct str ref, struct str name,
			const struct str *models, size_t models_count, int64_t priority,
			int is_default, struct str status)
{
	add_change(b, r, ref, name, models, models_count, priority, is_default, status, STR_NULL);
}

static void change_store(struct change_work *w)
{
	struct http_request *r = w->req;
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	add_change(b, r, r->params[1], w->name, w->models, w->models_count, w->priority,
		   w->is_default, w->status, w->base_url);
	admin_run(r, b, 200);
}

/* The provider is known now: may it be at the new address? */
static void on_change_row(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct change_work *w = arg;
	struct profile p = {0};
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	p.provider = provider_find(pg_str(res->rows[1], 0, 2));
	if (!p.provider) {
		admin_refuse(r, "unknown_provider", "provider",
			     "this version does not know the profile's provider",
			     "connect it anew");
		return;
	}
	if (!read_base_url(r, w->body, &p, true))
		return;
	w->base_url = p.base_url;
	change_store(w);
}

static bool read_change(struct change_work *w)
{
	struct http_request *r = w->req;
	bool is_default = false;
	struct err e = {0};
	enum rc rc = admin_str(w->body, "name", false, 64, &w->name, &e);

	if (rc == RC_OK)
		rc = admin_str(w->body, "status", false, 16, &w->status, &e);
	if (rc == RC_OK)
		rc = admin_int(w->body, "priority", false, 0, 1000000, &w->priority, &e);
	if (rc == RC_OK)
		rc = admin_bool(w->body, "default", false, &is_default, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (w->name.ptr && !name_ok(r, w->name))
		return false;
	if (!json_is_null(json_get(w->body, "default")))
		w->is_default = is_default;
	if (w->status.ptr && !str_is(w->status, "active") && !str_is(w->status, "disabled"))
		return admin_refuse(r, "invalid_field", "status", "status is active or disabled",
				    "DELETE revokes a profile for good");
	return json_is_null(json_get(w->body, "models")) ||
	       read_models(r, w->body, &w->models, &w->models_count);
}

void handle_profile_change(struct http_request *r)
{
	struct change_work *w = ARENA_NEW(r->mem, struct change_work);
	struct pg_batch *b;

	*w = (struct change_work){.req = r, .priority = -1, .is_default = -1};
	w->body = admin_body(r, "name base_url models priority default status");
	if (!w->body || !read_change(w))
		return;
	if (json_is_null(json_get(w->body, "base_url"))) {
		change_store(w);
		return;
	}
	b = credential_batch(r, CREDENTIAL_UPDATE); /* it can erase a secret */
	pg_batch_add(b, &sql_routing_profile_secret_version);
	pg_param_str(b, r->params[1]);
	admin_run_cb(r, b, on_change_row, w);
}

void handle_profile_default(struct http_request *r)
{
	struct change_work w = {.req = r, .priority = -1, .is_default = 1};

	if (r->body.len == 0 || admin_body(r, "")) /* it takes nothing */
		change_store(&w);
}

/* ---- the rest is one statement each -------------------------------------------------------------------- */

void handle_profile_list(struct http_request *r)
{
	admin_list(r, &sql_routing_profiles_list, true);
}

void handle_profile_show(struct http_request *r)
{
	struct pg_batch *b = credential_batch(r, CREDENTIAL_READ);

	pg_batch_add(b, &sql_routing_profile_show);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

/* Never limited: a key that leaked must go at once. */
void handle_profile_revoke(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_revoke);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
