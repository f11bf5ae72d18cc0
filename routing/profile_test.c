/* routing/profile_test.c - POST .../profiles/{profile}/test: ask the endpoint of a stored profile.
 *
 * The row and its sealed secret are read fresh, not from a cached picture: a test right behind a rotation tries the
 * new key. What comes back is told to whoever asked; of it only health, latency and the model ids are kept, and only
 * if the secret is still the one that was tried. */
#include <stdio.h>
#include <stdlib.h>

#include "routing/probe_read.h"
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "server/egress.h"
#include "sql/queries.h"

#define TEST_ANSWER_MAX (1u << 20)

struct test_work { /* in the request's arena */
	struct http_request *req;
	enum probe_action action;
	struct str model;
	struct profile profile;
	struct str sealed;	/* empty: no secret is stored */
	const char *unreadable; /* why it does not open; NULL: it does. Static */
	struct probe_result result;
};

/* ---- the end: store what it says, answer ------------------------------------------------------------- */

static void put_detail(struct json_out *o, const struct test_work *w, const struct json *profile)
{
	const struct probe_result *res = &w->result;

	json_obj(o, "detail");
	if (res->words.len > 0)
		json_put_str(o, "message", res->words);
	if (res->status > 0)
		json_put_int(o, "http_status", res->status);
	if (res->model.len > 0)
		json_put_str(o, "model", res->model);
	json_put_value(o, "health", json_get(profile, "health"));
	if (res->ok && res->models)
		json_put_int(o, "models", (int64_t)res->models_count);
	if (res->ok && w->action == PROBE_MODELS) {
		json_arr(o, "ids");
		for (size_t i = 0; res->models && i < res->models_count; i++)
			json_put_str(o, NULL, res->models[i]);
		json_arr_end(o);
	}
	if (res->ok && w->action == PROBE_VOICES) {
		json_arr(o, "voices");
		for (size_t i = 0; i < res->voices_count; i++) {
			json_obj(o, NULL);
			json_put_str(o, "id", res->voices[i].id);
			json_put_str(o, "name", res->voices[i].name);
			json_obj_end(o);
		}
		json_arr_end(o);
	}
	json_obj_end(o);
}

static void on_stored(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct test_work *w = arg;
	AUTO(buf) struct buf out = BUF_INIT(TEST_ANSWER_MAX);
	struct json *profile = NULL;
	struct json_out o;
	struct err e = {0};
	enum rc rc;

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	rc = json_parse(pg_str(res->rows[w->unreadable ? 2 : 0], 0, 0), JSON_ALLOW_DUPLICATES,
			r->mem, &profile, &e);
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	json_put_z(&o, "action", probe_action_name(w->action));
	json_put_bool(&o, "ok", w->result.ok);
	json_put_int(&o, "latency_ms", w->result.latency_ms);
	json_put_z(&o, "reason", w->result.reason);
	put_detail(&o, w, profile);
	json_obj_end(&o);
	if (rc != RC_OK || json_out_end(&o) != RC_OK)
		http_reply_err(r, RC_TOO_LARGE, NULL);
	else
		http_reply_data(r, 200, buf_str(&out), STR(""));
}

/* The mark that the profile's health is shown by. The vault tells it, too, but in its own time: behind a test the health has
 * to stand. The profile's lock, then its secret's, as everywhere. */
static void add_unreadable(struct test_work *w, struct pg_batch *b)
{
	char id[UUID_TEXT_SIZE];

	pg_batch_add(b, &sql_vault_secret_tried);
	pg_param_uuid(b, w->profile.id);
	pg_param_int(b, w->profile.secret.row_version);
	pg_param_bytes(b, w->sealed);
	pg_param_z(b, w->unreadable);
	pg_batch_add(b, &sql_routing_profile_show);
	pg_param_str(b, uuid_format(w->profile.id, id));
}

static void on_tested(void *arg, const struct probe_result *res)
{
	struct test_work *w = arg;
	struct http_request *r = w->req;
	struct pg_batch *b = pg_batch_new();

	w->result = *res;
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_profile_tested);
	pg_param_uuid(b, w->profile.id);
	pg_param_int(b, w->profile.secret.row_version);
	pg_param_z(b, "test");
	if (res->about_call)
		pg_param_null(b);
	else
		pg_param_str(b, profile_health_json(r->mem, res, res->ok && res->models));
	if (res->listed)
		pg_param_str_array(b, res->models, res->models_count);
	else
		pg_param_null(b);
	pg_param_z(b, res->reason ? res->reason : "ok");
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	if (w->unreadable)
		add_unreadable(w, b);
	admin_run_cb(r, b, on_stored, w);
}

static void fail(struct test_work *w, const char *reason, struct str words)
{
	struct probe_result res = {.health = PROBE_FAILED, .reason = reason, .words = words};

	on_tested(w, &res);
}

/* ---- the middle: which model, which secret ------------------------------------------------------------- */

static bool may_use(const struct profile *p, struct str model)
{
	for (size_t i = 0; i < p->models_count; i++)
		if (str_glob(p->models[i], model))
			return true;
	return false;
}

/* Of the models that the endpoint listed last time, the one whose smallest call costs least in the price book; empty:
 * none is priced, and the probe goes by their names. */
static struct str cheapest(const struct test_work *w)
{
	const struct price_bound bound = {
		.input_tokens_max = 16, .output_tokens_max = 16, .choices = 1};
	const struct profile *p = &w->profile;
	struct price_book *book = billing_book(w->req->worker);
	struct str best = STR_NULL;
	money_t cost, least;

	for (size_t i = 0; book && i < p->listed_count; i++) {
		const struct price_model *price =
			price_find(book, str_from(p->provider->id), p->listed[i]);

		if (!price || !may_use(p, p->listed[i]) ||
		    probe_pick_model(&p->listed[i], 1, false).len == 0 ||
		    probe_possible(p->provider, w->action, p->listed[i], NULL) != RC_OK ||
		    price_bound_cost(price, &bound, &cost) != RC_OK ||
		    (best.ptr && money_cmp(cost, least) >= 0))
			continue;
		best = p->listed[i];
		least = cost;
	}
	price_book_unref(book);
	return best;
}

static void start(struct test_work *w, const struct secret *secret)
{
	if (w->model.len == 0 && w->action == PROBE_TEXT)
		w->model = cheapest(w);
	probe_start(w->req->worker->curlm, &w->profile, w->action, w->model, secret, PROBE_MS,
		    w->req->mem, on_tested, w);
}

static void on_opened(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct test_work *w = arg;

	if (rc == RC_CORRUPT)
		w->unreadable = err->code;
	if (rc == RC_CORRUPT && strcmp(err->code, "vault_version_retired") == 0)
		fail(w, "vault_version_retired",
		     STR("the stored secret is sealed under a data key that is not opened any more"));
	else if (rc == RC_CORRUPT)
		fail(w, "needs_reconfiguration", STR("the stored secret does not open: rotate it"));
	else if (rc != RC_OK)
		http_reply_err(w->req, rc, err);
	else
		start(w, plain);
}

/* ---- the beginning: the row ---------------------------------------------------------------------------- */

static const struct str *read_list(struct arena *mem, struct str text, size_t *count)
{
	struct json *list = NULL, *item;
	struct json_iter it;
	struct str *out;

	*count = 0;
	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &list, NULL) != RC_OK)
		return NULL;
	out = ARENA_ARRAY(mem, struct str, json_len(list) + 1);
	for (it = json_iter(list); json_next(&it, NULL, &item);)
		if (json_string(item, &out[*count]))
			(*count)++;
	return out;
}

/* False, and answered: there is nothing to ask, or not that. */
static bool read_row(struct test_work *w, struct org_id org, const struct pg_rows *row)
{
	struct http_request *r = w->req;
	struct profile *p = &w->profile;
	struct err e = {0};
	enum rc rc = RC_OK;

	p->id = pg_uuid(row, 0, 0);
	p->provider = provider_find(pg_str(row, 0, 1));
	p->base_url = arena_str(r->mem, pg_str(row, 0, 2));
	if (str_is(pg_str(row, 0, 3), "revoked")) {
		rc = err_set(&e, RC_CONFLICT, "profile_revoked", "this profile is revoked");
		err_hint(&e, "connect a new one");
		http_reply_err(r, rc, &e);
		return false;
	}
	p->models = read_list(r->mem, pg_str(row, 0, 4), &p->models_count);
	p->listed = read_list(r->mem, pg_str(row, 0, 5), &p->listed_count);
	p->secret = (struct secret_ref){.org = org, .id = p->id, .row_version = pg_int(row, 0, 6)};
	if (!pg_is_null(row, 0, 7))
		w->sealed = pg_bytes(row, 0, 7, r->mem);
	if (!p->provider)
		rc = err_set(&e, RC_INVALID, "unknown_provider",
			     "this version does not know the profile's provider");
	else
		rc = probe_possible(p->provider, w->action, w->model, &e);
	if (rc != RC_OK)
		http_reply_err_as(r, 400, rc, &e);
	return rc == RC_OK;
}

static void on_row(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct test_work *w = arg;
	struct profile *p = &w->profile;
	struct egress_url url;
	struct org_id org;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	org.u = pg_uuid(res->rows[1], 0, 0);
	if (!read_row(w, org, res->rows[2]))
		return;
	if (egress_parse(r->worker->service->egress, p->base_url, r->mem, &url, &e) != RC_OK) {
		fail(w, "egress", STR("this address may not be reached from here"));
		return;
	}
	p->base_url = url.base;
	p->origin = url.origin;
	p->secret.field = routing_secret_field(r->mem, p->origin);
	if (w->sealed.len > 0)
		vault_open(r->worker, &p->secret, w->sealed, on_opened, w);
	else if (p->provider->secret_required)
		fail(w, "needs_reconfiguration", STR("no secret is stored: rotate it in"));
	else
		start(w, NULL);
}

void handle_profile_test(struct http_request *r)
{
	struct json *body = admin_body(r, "action model");
	struct str action = STR_NULL;
	struct pg_batch *b;
	struct test_work *w;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	w = ARENA_NEW(r->mem, struct test_work);
	w->req = r;
	rc = admin_str(body, "action", true, 32, &action, &e);
	if (rc == RC_OK)
		rc = admin_str(body, "model", false, 256, &w->model, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	if (probe_action_parse(action, &w->action) != RC_OK) {
		admin_refuse(r, "invalid_field", "action", "there is no such test",
			     "test_auth, list_models, test_text, test_voice or list_voices");
		return;
	}
	b = credential_batch(r, CREDENTIAL_TEST);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_profile_open);
	pg_param_str(b, r->params[1]);
	admin_run_cb(r, b, on_row, w);
}
