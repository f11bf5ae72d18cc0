/* routing/profiles.c - connect, list, change, test, rotate and revoke provider profiles.
 *
 * A secret is checked for its form, tried against the endpoint unless the caller says otherwise, sealed by the
 * vault, and only then stored; it is never shown again. One struct per request, one step after the other. */
#include <stdio.h>
#include <stdlib.h>

#include "routing/routing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "server/base/log.h"
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
	const char *action; /* test: what was asked */
	bool validate, rotate;
	struct probe_result probe;
	bool probed;
	struct snapshot_set set;
};

const char *routing_secret_field(struct arena *mem, struct str origin)
{
	return arena_printf(mem, "api_key %.*s", STR_FMT(origin)).ptr;
}

static void work_undo(void *arg)
{
	struct work *w = arg;

	secret_clear(&w->secret);
	snapshot_set_clear(&w->set);
}

static struct work *work_new(struct http_request *r)
{
	struct work *w = ARENA_NEW(r->mem, struct work);

	w->req = r;
	w->ref = r->params[1];
	arena_on_clear(r->mem, work_undo, w);
	return w;
}

/* ---- reading the body ------------------------------------------------------------------------ */

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
		if (!json_string(item, &out[n]) || out[n].len == 0 || out[n].len > 256) {
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
	if (!p->provider) {
		admin_refuse(r, "unknown_provider", "provider", "there is no provider of this id",
			     "GET /admin/v1/providers lists them");
		return false;
	}
	if (!p->provider->dialect) {
		admin_refuse(
			r, "not_supported", "provider",
			"this version does not speak this provider's dialect yet",
			"openai, and any OpenAI-compatible endpoint as openai_compatible, can be connected");
		return false;
	}
	return true;
}

static bool read_base_url(struct http_request *r, const struct json *body, struct profile *p)
{
	struct egress_url url;
	struct err e = {0};
	struct str text = STR_NULL;
	enum rc rc = admin_str(body, "base_url", p->provider->base_url == NULL, 512, &text, &e);

	if (rc == RC_OK && text.ptr && !p->provider->base_url_settable) {
		admin_refuse(r, "invalid_field", "base_url", "this provider's address is fixed",
			     "leave base_url out, or connect as openai_compatible");
		return false;
	}
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
	enum rc rc = admin_str(body, "billing_source", false, 16, &text, &e);

	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (billing_source_parse(text, &p->source) != RC_OK ||
	    (p->source == BILLING_PLATFORM) != platform) {
		admin_refuse(r, "invalid_field", "billing_source",
			     "this billing source is not for this org",
			     "byok or private; platform only in the org platform");
		return false;
	}
	if (p->source == BILLING_PRIVATE && !p->provider->base_url_settable) {
		admin_refuse(r, "invalid_field", "billing_source",
			     "private is for the org's own endpoint",
			     "connect it as openai_compatible with its base_url, or use byok");
		return false;
	}
	return true;
}

/* As the provider's keys look, where that is known. */
static bool secret_form_ok(struct http_request *r, const struct provider *p, struct str text)
{
	struct err e = {0};

	if (!p->key_prefix || str_starts(text, str_from(p->key_prefix)))
		return true;
	err_set(&e, RC_INVALID, "invalid_secret", "this does not look like a key of %s", p->label);
	err_hint(&e, "keys look like %s; get one at %s", p->key_example,
		 p->key_page ? p->key_page : "the provider's console");
	err_field(&e, "secret");
	http_reply_err(r, RC_INVALID, &e);
	return false;
}

static bool read_secret(struct http_request *r, const struct json *body, bool required,
			struct work *w)
{
	struct err e = {0};
	struct str text = STR_NULL;
	enum rc rc = admin_str(body, "secret", required, 4096, &text, &e);

	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!text.ptr)
		return true;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= 0x20 || text.ptr[i] >= 0x7f) {
			admin_refuse(r, "invalid_secret", "secret",
				     "the secret has a space, a control or a non-ASCII character",
				     "paste the key alone, without quotes or line ends");
			return false;
		}
	if (text.len == 0 || secret_from(text, &w->secret) != RC_OK) {
		admin_refuse(r, "invalid_secret", "secret", "the secret is empty or too long",
			     "at most 4096 characters");
		return false;
	}
	w->has_secret = true;
	return true;
}

/* ---- steps: probe, seal, store ------------------------------------------------------------------- */

static struct str health_json(struct work *w)
{
	AUTO(buf) struct buf out = BUF_INIT(2048);
	char at[CLOCK_RFC3339_SIZE];
	struct json_out o;

	if (!w->probed)
		return STR_NULL;
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	json_put_z(&o, "status", w->probe.ok ? "ok" : "failed");
	json_put_z(&o, "reason", w->probe.ok ? NULL : w->probe.reason);
	json_put_str(&o, "checked_at", clock_rfc3339(clock_wall_us(), at));
	json_put_int(&o, "latency_ms", w->probe.latency_ms);
	if (w->probe.ok)
		json_put_int(&o, "models", (int64_t)w->probe.models_count);
	else
		json_put_null(&o, "models");
	json_obj_end(&o);
	return json_out_end(&o) == RC_OK ? arena_str(w->req->mem, buf_str(&out)) : STR_NULL;
}

static void store(struct work *w, const struct sealed *sealed)
{
	struct http_request *r = w->req;
	struct pg_batch *b = pg_batch_new();
	struct str health = health_json(w);

	pg_batch_org_ref(b, r->params[0]);
	if (w->rotate) {
		pg_batch_add(b, &sql_routing_profile_rotate);
		pg_param_uuid(b, w->profile.id);
		pg_param_int(b, w->profile.secret.row_version);
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
	if (sealed) {
		pg_param_bytes(b, sealed->blob);
		pg_param_z(b, sealed->masked);
		pg_param_z(b, sealed->fingerprint);
	} else {
		pg_param_null(b);
		pg_param_null(b);
		pg_param_null(b);
	}
	if (!w->rotate) {
		if (w->probed && w->probe.ok)
			pg_param_str_array(b, w->probe.models, w->probe.models_count);
		else
			pg_param_null(b);
		pg_param_str(b, health);
	}
	pg_param_str(b, vault_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, w->rotate ? 200 : 201);
}

static void on_sealed(void *arg, enum rc rc, const struct sealed *sealed, const struct err *err)
{
	struct work *w = arg;

	secret_clear(&w->secret);
	if (rc != RC_OK)
		http_reply_err(w->req, rc, err);
	else
		store(w, sealed);
}

static void seal(struct work *w)
{
	if (!w->has_secret) {
		store(w, NULL);
		return;
	}
	w->profile.secret.org = w->org;
	w->profile.secret.id = w->profile.id;
	w->profile.secret.field = routing_secret_field(w->req->mem, w->profile.origin);
	vault_seal(w->req->worker, &w->profile.secret, &w->secret, on_sealed, w);
}

static void on_validated(void *arg, const struct probe_result *res)
{
	struct work *w = arg;
	struct err e = {0};

	w->probe = *res;
	w->probed = true;
	if (res->ok) {
		seal(w);
		return;
	}
	err_set(&e, RC_INVALID, "connection_failed", "the connection did not validate (%s): %.*s",
		res->reason, STR_FMT(res->words));
	err_hint(&e, "check the address and the key%s%s; \"validate\": false stores it untried",
		 w->profile.provider->key_page ? " at " : "",
		 w->profile.provider->key_page ? w->profile.provider->key_page : "");
	http_reply_err_as(w->req, 422, RC_INVALID, &e);
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
	rc = egress_parse(r->worker->service->egress, pg_str(row, 0, 3), r->mem, &url, &e);
	if (rc != RC_OK) {
		http_reply_err_as(r, 400, rc, &e);
		return false;
	}
	w->profile.origin = url.origin;
	return !w->profile.provider ||
	       secret_form_ok(r, w->profile.provider, secret_str(&w->secret));
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
	w->org.u = pg_uuid(res->rows[0], 0, 0);
	if (w->rotate && !take_row(w, res->rows[1]))
		return;
	if (w->validate)
		probe_start(r->worker->curlm, &w->profile, PROBE_AUTH, STR_NULL,
			    w->has_secret ? &w->secret : NULL, PROBE_MS, r->mem, on_validated, w);
	else
		seal(w);
}

void handle_profile_create(struct http_request *r)
{
	struct json *body = admin_body(
		r, "name provider base_url secret billing_source models priority default validate");
	struct pg_batch *b;
	struct work *w;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	w = work_new(r);
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
		return;
	}
	if (!read_provider(r, body, &w->profile) || !read_base_url(r, body, &w->profile) ||
	    !read_billing(r, body, &w->profile) ||
	    !read_models(r, body, &w->profile.models, &w->profile.models_count) ||
	    !read_secret(r, body, w->profile.provider->secret_required, w) ||
	    (w->has_secret && !secret_form_ok(r, w->profile.provider, secret_str(&w->secret))))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_tier_profile_check);
	pg_param_z(b, billing_source_name(w->profile.source));
	admin_run_cb(r, b, on_org, w);
}

/* ---- rotate and test: the stored profile is needed first ------------------------------------------- */

static const struct profile *profile_in(const struct snapshot *s, struct str ref)
{
	char id[UUID_TEXT_SIZE];

	for (size_t i = 0; i < s->profiles_count; i++)
		if (str_eq(s->profiles[i].name, ref) ||
		    str_eq(uuid_format(s->profiles[i].id, id), ref))
			return &s->profiles[i];
	return NULL;
}

void handle_profile_rotate(struct http_request *r)
{
	struct json *body = admin_body(r, "secret");
	struct pg_batch *b;
	struct work *w;

	if (!body)
		return;
	w = work_new(r);
	w->rotate = true;
	/* A rotation is not tried here: POST .../test does. */
	if (!read_secret(r, body, true, w))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_profile_secret_version);
	pg_param_str(b, w->ref);
	admin_run_cb(r, b, on_org, w);
}

static void on_test_stored(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct work *w = arg;
	AUTO(buf) struct buf out = BUF_INIT(1u << 20);
	struct json_out o;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	json_put_z(&o, "action", w->action);
	json_put_bool(&o, "ok", w->probe.ok);
	json_put_int(&o, "latency_ms", w->probe.latency_ms);
	json_put_z(&o, "reason", w->probe.ok ? NULL : w->probe.reason);
	json_obj(&o, "detail");
	if (!w->probe.ok)
		json_put_str(&o, "message", w->probe.words);
	json_put_int(&o, "models", (int64_t)w->probe.models_count);
	if (w->probe.ok && strcmp(w->action, "list_models") == 0) {
		json_arr(&o, "ids");
		for (size_t i = 0; i < w->probe.models_count; i++)
			json_put_str(&o, NULL, w->probe.models[i]);
		json_arr_end(&o);
	}
	json_obj_end(&o);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		http_reply_err(r, RC_TOO_LARGE, NULL);
	else
		http_reply_data(r, 200, buf_str(&out), STR(""));
}

static void on_tested(void *arg, const struct probe_result *res)
{
	struct work *w = arg;
	struct http_request *r = w->req;
	struct pg_batch *b = pg_batch_new();

	w->probe = *res;
	w->probed = true;
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_health);
	pg_param_uuid(b, w->profile.id);
	pg_param_str(b, health_json(w));
	if (res->ok)
		pg_param_str_array(b, res->models, res->models_count);
	else
		pg_param_null(b);
	pg_param_str(b, vault_actor(r));
	pg_param_z(b, r->id_text);
	admin_run_cb(r, b, on_test_stored, w);
}

static void on_test_opened(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct work *w = arg;
	struct probe_result failed = {.reason = "needs_reconfiguration",
				      .words = STR("the stored secret does not open; rotate it")};

	if (rc == RC_CORRUPT)
		on_tested(w, &failed);
	else if (rc != RC_OK)
		http_reply_err(w->req, rc, err);
	else
		probe_start(w->req->worker->curlm, &w->profile, PROBE_AUTH, STR_NULL, plain,
			    PROBE_MS, w->req->mem, on_tested, w);
}

static void on_test_picture(void *arg, enum rc rc, struct snapshot_set set, const struct err *err)
{
	struct work *w = arg;
	const struct profile *p;

	if (rc != RC_OK) {
		http_reply_err(w->req, rc, err);
		return;
	}
	w->set = set; /* its strings are the profile's */
	p = profile_in(set.org, w->ref);
	if (!p || !p->provider || !p->provider->dialect) {
		struct err e = {0};

		err_set(&e, RC_NOT_FOUND, "profile_not_found", "no such profile");
		http_reply_err(w->req, RC_NOT_FOUND, &e);
		return;
	}
	w->profile = *p;
	if (!p->endpoint_ok)
		on_tested(w, &(struct probe_result){
				     .reason = "egress",
				     .words = STR("this address may not be reached from here")});
	else if (p->has_secret)
		vault_open(w->req->worker, &p->secret, p->sealed, on_test_opened, w);
	else
		probe_start(w->req->worker->curlm, &w->profile, PROBE_AUTH, STR_NULL, NULL,
			    PROBE_MS, w->req->mem, on_tested, w);
}

static void on_test_org(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct work *w = arg;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	w->org.u = pg_uuid(res->rows[0], 0, 0);
	snapshot_get(r->worker, w->org, on_test_picture, w);
}

void handle_profile_test(struct http_request *r)
{
	struct json *body = admin_body(r, "action");
	struct str action = STR_NULL;
	struct pg_batch *b;
	struct work *w;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	rc = admin_str(body, "action", true, 32, &action, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	w = work_new(r);
	if (str_is(action, "test_auth"))
		w->action = "test_auth";
	else if (str_is(action, "list_models"))
		w->action = "list_models";
	else if (str_is(action, "test_text") || str_is(action, "test_voice")) {
		admin_refuse(r, "not_supported", "action", "this version does not run this test",
			     "test_auth or list_models");
		return;
	} else {
		admin_refuse(r, "invalid_field", "action", "there is no such test",
			     "test_auth or list_models");
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	admin_run_cb(r, b, on_test_org, w);
}

/* ---- the rest is one statement each -------------------------------------------------------------------- */

void handle_profile_list(struct http_request *r)
{
	admin_list(r, &sql_routing_profiles_list, true);
}

void handle_profile_show(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_show);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

static void change(struct http_request *r, struct str name, const struct str *models,
		   size_t models_count, int64_t priority, int is_default, struct str status)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_change);
	pg_param_str(b, r->params[1]);
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
	pg_param_str(b, vault_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

void handle_profile_change(struct http_request *r)
{
	struct json *body = admin_body(r, "name models priority default status");
	struct str name = STR_NULL, status = STR_NULL;
	const struct str *models = NULL;
	size_t models_count = 0;
	int64_t priority = -1;
	bool is_default = false;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	rc = admin_str(body, "name", false, 64, &name, &e);
	if (rc == RC_OK)
		rc = admin_str(body, "status", false, 16, &status, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "priority", false, 0, 1000000, &priority, &e);
	if (rc == RC_OK)
		rc = admin_bool(body, "default", false, &is_default, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	if (status.ptr && !str_is(status, "active") && !str_is(status, "disabled")) {
		admin_refuse(r, "invalid_field", "status", "status is active or disabled",
			     "DELETE revokes a profile for good");
		return;
	}
	if (!json_is_null(json_get(body, "models")) &&
	    !read_models(r, body, &models, &models_count))
		return;
	change(r, name, models, models_count, priority,
	       json_is_null(json_get(body, "default")) ? -1 : is_default, status);
}

void handle_profile_default(struct http_request *r)
{
	change(r, STR_NULL, NULL, 0, -1, 1, STR_NULL);
}

void handle_profile_revoke(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_revoke);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, vault_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
