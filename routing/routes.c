/* routing/routes.c - chains: write, read, delete, and explain without calling anyone.
 *
 * A route that names what cannot be is refused when it is written: an empty chain, an unknown provider, a policy this
 * version does not keep. That its profiles exist is checked in the same transaction that stores it. */
#include <stdio.h>

#include "routing/dialect.h"
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "sql/queries.h"

#define ROUTE_TARGETS_MAX  16
#define ROUTE_ATTEMPTS_MAX 10
#define ROUTE_TIMEOUT_MAX  600000

/* Every member of `v` is one of `allowed` (space-separated). */
static bool only(struct http_request *r, const struct json *v, const char *what,
		 const char *allowed)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;

	while (json_next(&it, &key, &item)) {
		struct str list = str_from(allowed);
		bool known = false;

		while (list.ptr && !known)
			known = str_eq(str_cut(&list, ' '), key);
		if (!known) {
			struct err e = {0};

			err_set(&e, RC_INVALID, "unknown_field", "%s has an unknown field \"%.*s\"",
				what, STR_FMT(key));
			err_hint(&e, "known: %s", allowed);
			err_field(&e, "%s.%.*s", what, STR_FMT(key));
			http_reply_err(r, RC_INVALID, &e);
			return false;
		}
	}
	return true;
}

/* A string of at most 256 bytes or null; *ret stays STR_NULL when absent. */
static bool read_name(struct http_request *r, const struct json *v, const char *field,
		      struct str *ret)
{
	*ret = STR_NULL;
	if (json_is_null(v))
		return true;
	if (!json_string(v, ret) || ret->len == 0 || ret->len > 256)
		return admin_refuse(r, "invalid_field", field,
				    "this field is a string of 1 to 256 characters, or null", "");
	return true;
}

static bool read_match(struct http_request *r, const struct json *body, struct buf *out)
{
	static const char *const fields[] = {"alias", "agent", "intent", "modality"};
	static const char *const paths[] = {"match.alias", "match.agent", "match.intent",
					    "match.modality"};
	const struct json *match = json_get(body, "match");
	struct json_out o;
	struct str value;
	bool any = false;

	if (json_type(match) != JSON_OBJECT)
		return admin_refuse(r, "invalid_field", "match", "match is not an object",
				    "{\"alias\":\"fast\"}");
	if (!only(r, match, "match", "alias agent intent modality"))
		return false;
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!read_name(r, json_get(match, fields[i]), paths[i], &value))
			return false;
		any = any || value.ptr;
		json_put_str(&o, fields[i], value);
	}
	json_obj_end(&o);
	if (!any)
		return admin_refuse(r, "invalid_field", "match", "match names nothing",
				    "give at least one of alias, agent, intent and modality");
	return json_out_end(&o) == RC_OK ||
	       admin_refuse(r, "invalid_field", "match", "match is too long", "");
}

static bool read_target_billing(struct http_request *r, const struct json *list, struct json_out *o)
{
	struct json_iter it = json_iter(list);
	enum billing_source source;
	struct json *item;
	struct str name;

	if (json_is_null(list))
		return true;
	if (json_type(list) != JSON_ARRAY || json_len(list) == 0)
		return admin_refuse(r, "invalid_field", "targets.billing",
				    "billing is not a list of billing sources",
				    "[\"byok\",\"platform\"]");
	json_arr(o, "billing");
	while (json_next(&it, NULL, &item)) {
		if (!json_string(item, &name) || billing_source_parse(name, &source) != RC_OK)
			return admin_refuse(r, "invalid_field", "targets.billing",
					    "there is no such billing source",
					    "platform, byok or private");
		json_put_str(o, NULL, name);
	}
	json_arr_end(o);
	return true;
}

static bool read_target(struct http_request *r, const struct json *t, struct json_out *o)
{
	struct str profile, provider, model;

	if (json_type(t) != JSON_OBJECT)
		return admin_refuse(r, "invalid_field", "targets", "a target is not an object",
				    "{\"profile\":\"main\",\"model\":\"gpt-5-mini\"}");
	if (!only(r, t, "targets", "profile provider model billing") ||
	    !read_name(r, json_get(t, "profile"), "targets.profile", &profile) ||
	    !read_name(r, json_get(t, "provider"), "targets.provider", &provider) ||
	    !read_name(r, json_get(t, "model"), "targets.model", &model))
		return false;
	if (!model.ptr)
		return admin_refuse(r, "invalid_field", "targets.model", "a target names no model",
				    "the provider's own model id");
	if (!profile.ptr && !provider.ptr)
		return admin_refuse(r, "invalid_field", "targets",
				    "a target names neither profile nor provider",
				    "name one of them");
	if (provider.ptr && !provider_find(provider))
		return admin_refuse(r, "unknown_provider", "targets.provider",
				    "there is no provider of this id",
				    "GET /admin/v1/providers lists them");
	json_obj(o, NULL);
	if (profile.ptr)
		json_put_str(o, "profile", profile);
	if (provider.ptr)
		json_put_str(o, "provider", provider);
	json_put_str(o, "model", model);
	if (!read_target_billing(r, json_get(t, "billing"), o))
		return false;
	json_obj_end(o);
	return true;
}

static bool read_targets(struct http_request *r, const struct json *body, struct buf *out)
{
	const struct json *targets = json_get(body, "targets");
	struct json_iter it = json_iter(targets);
	struct json_out o;
	struct json *t;

	if (json_type(targets) != JSON_ARRAY || json_len(targets) == 0 ||
	    json_len(targets) > ROUTE_TARGETS_MAX)
		return admin_refuse(r, "invalid_field", "targets",
				    "targets is not a list of 1 to 16 targets",
				    "the first one is asked first");
	json_out_begin(&o, out);
	json_arr(&o, NULL);
	while (json_next(&it, NULL, &t))
		if (!read_target(r, t, &o))
			return false;
	json_arr_end(&o);
	return json_out_end(&o) == RC_OK ||
	       admin_refuse(r, "invalid_field", "targets", "targets is too long", "");
}

/* null, or a number from 0 to 1, judged by how it is written: "0", "0.2", "1", "1.0". */
static bool share_ok(const struct json *v)
{
	AUTO(buf) struct buf text = BUF_INIT(64);
	struct str s, rest;

	if (json_is_null(v))
		return true;
	if ((json_type(v) != JSON_REAL && json_type(v) != JSON_INT) ||
	    json_write(v, &text) != RC_OK)
		return false;
	s = rest = buf_str(&text);
	if (str_find(s, 'e') >= 0 || str_find(s, 'E') >= 0)
		return false;
	s = str_cut(&rest, '.');
	for (size_t i = 0; i < rest.len && str_is(s, "1"); i++)
		if (rest.ptr[i] != '0')
			return false;
	return str_is(s, "0") || str_is(s, "1");
}

/* What this version keeps: ordered choice, a bound on attempts and time, consent to platform fallback. The rest of the
 * policy is refused unless it says what is done anyway. */
static bool read_policy(struct http_request *r, const struct json *body, struct buf *out)
{
	const struct json *policy = json_get(body, "policy");
	bool allow = false;
	int64_t attempts = 3, timeout_ms = ROUTING_TIMEOUT_MS;
	struct str choice = STR("order");
	struct err e = {0};
	struct json_out o;
	enum rc rc;

	if (!json_is_null(policy) && json_type(policy) != JSON_OBJECT)
		return admin_refuse(r, "invalid_field", "policy", "policy is not an object", "");
	if (!only(r, policy, "policy",
		  "allow_platform_fallback max_attempts timeout_ms retry_budget choice max_cost"))
		return false;
	rc = admin_bool(policy, "allow_platform_fallback", false, &allow, &e);
	if (rc == RC_OK)
		rc = admin_int(policy, "max_attempts", false, 1, ROUTE_ATTEMPTS_MAX, &attempts, &e);
	if (rc == RC_OK)
		rc = admin_int(policy, "timeout_ms", false, 100, ROUTE_TIMEOUT_MAX, &timeout_ms,
			       &e);
	if (rc == RC_OK)
		rc = admin_str(policy, "choice", false, 16, &choice, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!str_is(choice, "order"))
		return admin_refuse(r, "not_supported", "policy.choice",
				    "this version chooses by order only",
				    "leave choice out, or \"order\"");
	if (!json_is_null(json_get(policy, "max_cost")))
		return admin_refuse(r, "not_supported", "policy.max_cost",
				    "this version keeps no price ceiling",
				    "leave max_cost out, or null");
	if (!share_ok(json_get(policy, "retry_budget")))
		return admin_refuse(r, "invalid_field", "policy.retry_budget",
				    "retry_budget is not a number from 0 to 1", "0.2");
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_bool(&o, "allow_platform_fallback", allow);
	json_put_int(&o, "max_attempts", attempts);
	json_put_int(&o, "timeout_ms", timeout_ms);
	if (!json_is_null(json_get(policy, "retry_budget")))
		json_put_value(
			&o, "retry_budget",
			json_get(policy,
				 "retry_budget")); /* a target is never asked twice: held at 0 */
	json_put_z(&o, "choice", "order");
	json_put_null(&o, "max_cost");
	json_obj_end(&o);
	return json_out_end(&o) == RC_OK ||
	       admin_refuse(r, "invalid_field", "policy", "policy is too long", "");
}

bool route_read(struct http_request *r, const struct json *body, struct route_texts *ret)
{
	AUTO(buf) struct buf match = BUF_INIT(16384);
	AUTO(buf) struct buf targets = BUF_INIT(65536);
	AUTO(buf) struct buf policy = BUF_INIT(4096);

	if (!read_match(r, body, &match) || !read_targets(r, body, &targets) ||
	    !read_policy(r, body, &policy))
		return false;
	ret->match = arena_str(r->mem, buf_str(&match));
	ret->targets = arena_str(r->mem, buf_str(&targets));
	ret->policy = arena_str(r->mem, buf_str(&policy));
	return true;
}

void route_add(struct pg_batch *b, struct http_request *r, struct str name,
	       const struct route_texts *t)
{
	pg_batch_add(b, &sql_routing_route_put);
	pg_param_str(b, name);
	pg_param_str(b, t->match);
	pg_param_str(b, t->targets);
	pg_param_str(b, t->policy);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
}

void handle_route_put(struct http_request *r)
{
	struct json *body = admin_body(r, ROUTE_FIELDS);
	struct route_texts t;
	struct pg_batch *b;

	if (!body || !route_read(r, body, &t))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	route_add(b, r, r->params[1], &t);
	admin_run(r, b, 200);
}

void handle_route_list(struct http_request *r)
{
	admin_list(r, &sql_routing_routes_list, true);
}

void handle_route_show(struct http_request *r)
{
	struct pg_batch *b;

	if (!admin_query_only(r, ""))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_route_show);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

void handle_route_delete(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_route_delete);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

/* ---- explain: the same function a real call uses, on a call that is only described ------------------------ */

struct explain {
	struct http_request *req;
	struct call call;
	int64_t input_tokens;
	money_t available, budget_left;
	bool available_known, budget_known;
	struct snapshot_set set;
};

static void explain_undo(void *arg)
{
	snapshot_set_clear(&((struct explain *)arg)->set);
}

static void on_explain_picture(void *arg, enum rc rc, struct snapshot_set set,
			       const struct err *err)
{
	struct explain *x = arg;
	struct http_request *r = x->req;
	struct routing_worker *rw = routing_worker(r->worker);
	AUTO(buf) struct buf out = BUF_INIT(1u << 20);
	struct price_book *book;
	struct err e = {0};
	struct plan plan;

	if (rc != RC_OK) {
		http_reply_err(r, rc, err);
		return;
	}
	x->set = set;
	book = billing_book(r->worker);
	struct plan_input in = {.call = &x->call,
				.input_tokens_max = x->input_tokens,
				.org = set.org,
				.platform = set.platform,
				.catalogue = set.catalogue,
				.book = book,
				.wall_ms = clock_wall_ms(),
				.available = x->available,
				.available_known = x->available_known,
				.budget_left = x->budget_left,
				.budget_known = x->budget_known};
	cooldown_collect(rw, &set, r->mem, &in.cooldowns, &in.cooldowns_count);
	rc = route_plan_build(&in, r->mem, &plan, &e);
	if (rc == RC_OK)
		rc = route_plan_json(&plan, &out);
	if (rc == RC_OK)
		http_reply_data(r, 200, buf_str(&out), STR(""));
	else
		http_reply_err(r, rc, &e);
	price_book_unref(book);
}

static void on_explain_org(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct explain *x = arg;
	struct org_id org;
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	org.u = pg_uuid(res->rows[0], 0, 0);
	if (pg_row_count(res->rows[1]) > 0) {
		x->available = money_nano(pg_int(res->rows[1], 0, 0));
		x->available_known = true;
		x->budget_known = !pg_is_null(res->rows[1], 0, 1);
		if (x->budget_known)
			x->budget_left = money_nano(pg_int(res->rows[1], 0, 1));
	}
	snapshot_get(r->worker, org, on_explain_picture, x);
}

static bool read_needs(struct http_request *r, const struct json *list, uint32_t *needs)
{
	struct json_iter it = json_iter(list);
	struct json *item;
	struct str name;
	uint32_t bit;

	if (!json_is_null(list) && json_type(list) != JSON_ARRAY)
		return admin_refuse(r, "invalid_field", "needs",
				    "needs is not a list of capabilities", "[\"tools\"]");
	while (json_next(&it, NULL, &item)) {
		if (!json_string(item, &name) || capability_parse(name, &bit) != RC_OK)
			return admin_refuse(r, "invalid_field", "needs",
					    "there is no such capability",
					    "text, vision, audio_in, audio_out, tools or json");
		*needs |= bit;
	}
	return true;
}

/* A call in the dialect that most callers of the operation speak; which profiles can do it does not hang on that. */
static bool read_operation(struct http_request *r, const struct json *body, struct call *c)
{
	static const struct dialect *const dialects[OPERATION_COUNT] = {
		[OPERATION_chat] = &dialect_openai_chat,
		[OPERATION_count_tokens] = &dialect_anthropic_count_tokens,
		[OPERATION_embeddings] = &dialect_openai_embeddings,
		[OPERATION_speech] = &dialect_openai_speech,
		[OPERATION_transcription] = &dialect_openai_transcription,
	};
	const struct json *v = json_get(body, "operation");
	struct str name = STR("chat");

	if (!json_is_null(v) && !json_string(v, &name))
		name = STR("");
	for (int o = 0; o < OPERATION_COUNT; o++) {
		if (!str_is(name, operation_name((enum operation)o)))
			continue;
		c->operation = (enum operation)o;
		c->dialect = dialects[o];
		return true;
	}
	return admin_refuse(r, "invalid_field", "operation", "there is no such operation",
			    "chat, count_tokens, embeddings, speech or transcription");
}

void handle_route_explain(struct http_request *r)
{
	struct json *body =
		admin_body(r, "model agent intent needs input_tokens max_output operation");
	struct explain *x;
	struct pg_batch *b;
	struct err e = {0};
	enum rc rc;

	if (!body)
		return;
	x = ARENA_NEW(r->mem, struct explain);
	x->req = r;
	if (!read_operation(r, body, &x->call))
		return;
	x->call.choices = 1;
	arena_on_clear(r->mem, explain_undo, x);
	rc = admin_str(body, "model", true, 256, &x->call.model, &e);
	if (rc == RC_OK)
		rc = admin_str(body, "agent", false, 256, &x->call.agent, &e);
	if (rc == RC_OK)
		rc = admin_str(body, "intent", false, 256, &x->call.intent, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "input_tokens", false, 0, INT64_C(1) << 40, &x->input_tokens,
			       &e);
	if (rc == RC_OK)
		rc = admin_int(body, "max_output", false, 1, INT64_C(1) << 40, &x->call.max_output,
			       &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	x->call.needs = x->call.operation == OPERATION_speech	       ? CAP_AUDIO_OUT
			: x->call.operation == OPERATION_transcription ? CAP_AUDIO_IN
								       : CAP_TEXT;
	if (!read_needs(r, json_get(body, "needs"), &x->call.needs))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	pg_batch_add(b, &sql_routing_org_funds);
	pg_param_str(b, x->call.agent.len ? x->call.agent : STR_NULL);
	admin_run_cb(r, b, on_explain_org, x);
}
