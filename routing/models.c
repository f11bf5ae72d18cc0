/* routing/models.c - what can be asked for: the platform's catalogue, an org's models, the dialects' listings. */
#include <stdio.h>

#include "routing/errors.h"
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "sql/queries.h"

#define MODELS_SHOWN_MAX 5000
#define MODELS_BYTES_MAX (8u << 20)

/* ---- the catalogue (operator) ------------------------------------------------------------------ */

void handle_model_list(struct http_request *r)
{
	admin_list(r, &sql_routing_models_list, false);
}

void handle_model_show(struct http_request *r)
{
	struct pg_batch *b;

	if (!admin_query_only(r, ""))
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_model_show);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

static enum rc read_capabilities(const struct json *list, struct str out[8], size_t *count,
				 struct err *e)
{
	struct json_iter it = json_iter(list);
	struct json *item;
	uint32_t bit, seen = 0;

	*count = 0;
	if (json_type(list) != JSON_ARRAY || json_len(list) == 0 || json_len(list) > 6) {
		err_set(e, RC_INVALID, "invalid_field",
			"capabilities is not a list of capabilities");
		err_hint(e, "text, vision, audio_in, audio_out, tools, json");
		err_field(e, "capabilities");
		return RC_INVALID;
	}
	while (json_next(&it, NULL, &item)) {
		if (!json_string(item, &out[*count]) ||
		    capability_parse(out[*count], &bit) != RC_OK || (seen & bit)) {
			err_set(e, RC_INVALID, "invalid_field",
				"capabilities has an entry that is none, or stands twice");
			err_hint(e, "text, vision, audio_in, audio_out, tools, json");
			err_field(e, "capabilities");
			return RC_INVALID;
		}
		seen |= bit;
		(*count)++;
	}
	return RC_OK;
}

static bool model_id_ok(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if ((unsigned char)id.ptr[i] < 0x20 || id.ptr[i] == 0x7f)
			return false;
	return id.len > 0 && id.len <= 256;
}

void handle_model_put(struct http_request *r)
{
	struct json *body = admin_body(r, "capabilities context_window max_output");
	int64_t window = 0, max_output = 0;
	struct str caps[8];
	struct err e = {0};
	struct pg_batch *b;
	size_t n;
	enum rc rc;

	if (!body)
		return;
	rc = read_capabilities(json_get(body, "capabilities"), caps, &n, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "context_window", false, 1, INT64_C(1) << 40, &window, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "max_output", false, 1, INT64_C(1) << 40, &max_output, &e);
	if (rc == RC_OK && !provider_find(r->params[0])) {
		rc = err_set(&e, RC_NOT_FOUND, "unknown_provider",
			     "there is no provider of this id");
		err_hint(&e, "GET /admin/v1/providers lists them");
	}
	if (rc == RC_OK && !model_id_ok(r->params[1]))
		rc = err_set(
			&e, RC_INVALID, "invalid_field",
			"a model id has 1 to 256 characters, none of them a control character");
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_model_put);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	pg_param_str_array(b, caps, n);
	if (window)
		pg_param_int(b, window);
	else
		pg_param_null(b);
	if (max_output)
		pg_param_int(b, max_output);
	else
		pg_param_null(b);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

/* A page of a list that no table has: its cursor is how many came before. */
struct slice {
	size_t first, limit; /* limit 0: no page, but all of it */
	size_t at;	     /* how many were offered */
	bool more;
};

/* False, and answered: the query is none of a list. */
static bool slice_read(struct http_request *r, struct slice *ret)
{
	struct admin_page page;
	int64_t first = 0;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return false;
	if (page.cursor.len && (str_to_i64(page.cursor, &first) != RC_OK || first < 0))
		return admin_refuse(r, "invalid_cursor", "cursor", "cursor is not one of ours",
				    "pass meta.next_cursor of the page before, unchanged");
	*ret = (struct slice){.first = (size_t)first, .limit = (size_t)page.limit};
	return true;
}

/* The next one is there: does it stand on this page? */
static bool slice_takes(struct slice *s)
{
	const size_t n = s->at++;

	s->more = s->more || (s->limit && n >= s->first + s->limit);
	return !s->limit || (n >= s->first && n < s->first + s->limit);
}

static void slice_reply(struct http_request *r, const struct slice *s, struct str list)
{
	AUTO(buf) struct buf meta = BUF_INIT(256);
	struct str next = STR("");

	if (s->more)
		next = arena_printf(r->mem, "%zu", s->first + s->limit);
	if (admin_meta(r->mem, next, &meta) == RC_OK)
		http_reply_data(r, 200, list, buf_str(&meta));
	else
		http_reply_err(r, RC_TOO_LARGE, NULL);
}

void handle_provider_list(struct http_request *r)
{
	AUTO(buf) struct buf out = BUF_INIT(MODELS_BYTES_MAX);
	struct slice page = {0};
	struct json_out o;

	if (!slice_read(r, &page))
		return;
	json_out_begin(&o, &out);
	json_arr(&o, NULL);
	for (const struct provider *p = providers; p->id; p++) {
		if (!slice_takes(&page))
			continue;
		json_obj(&o, NULL);
		json_put_z(&o, "id", p->id);
		json_put_z(&o, "label", p->label);
		json_put_z(&o, "base_url", p->base_url);
		json_put_bool(&o, "base_url_settable", p->base_url_settable);
		json_put_bool(&o, "secret_required", p->secret_required);
		json_put_z(&o, "key_example", p->key_example);
		json_put_z(&o, "key_page", p->key_page);
		json_put_z(&o, "dialect", p->speaks);
		json_put_bool(&o, "supported",
			      p->endpoints[0].dialect != NULL); /* calls, not connecting */
		json_arr(&o, "tests");
		json_put_z(&o, NULL, probe_action_name(PROBE_AUTH));
		json_put_z(&o, NULL, probe_action_name(PROBE_MODELS));
		if (p->text != PROVIDER_TEXT_NONE)
			json_put_z(&o, NULL, probe_action_name(PROBE_TEXT));
		if (p->voice != PROVIDER_VOICE_NONE)
			json_put_z(&o, NULL, probe_action_name(PROBE_VOICE));
		json_arr_end(&o);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	if (json_out_end(&o) == RC_OK)
		slice_reply(r, &page, buf_str(&out));
	else
		http_reply_err(r, RC_TOO_LARGE, NULL);
}

/* ---- what an org can use ---------------------------------------------------------------------------- */

struct listing { /* in the request's arena */
	struct http_request *req;
	struct snapshot_set set;
	struct slice page;
	struct map *seen; /* model ids, so that each stands once */
	struct json_out *out;
	struct price_book *book;
	bool admin;	   /* the control plane's shape, else OpenAI's */
	struct str wanted; /* one model only; ptr NULL: all */
	size_t shown;
};

static void listing_undo(void *arg)
{
	struct listing *l = arg;

	snapshot_set_clear(&l->set);
	map_free(l->seen);
	price_book_unref(l->book);
}

static bool serves(const struct profile *p, struct str model)
{
	for (size_t i = 0; i < p->models_count; i++)
		if (str_glob(p->models[i], model))
			return true;
	return false;
}

static void put_capabilities(struct json_out *o, uint32_t bits)
{
	json_arr(o, "capabilities");
	for (uint32_t bit = CAP_TEXT; bit <= CAP_JSON; bit <<= 1)
		if (bits & bit)
			json_put_z(o, NULL, capability_name((enum capability)bit));
	json_arr_end(o);
}

static void put_price(struct listing *l, struct str provider, struct str model)
{
	const struct price_model *price = l->book ? price_find(l->book, provider, model) : NULL;
	AUTO(buf) struct buf lines = BUF_INIT(16384);

	if (price && price_lines_json(price, &lines) == RC_OK)
		json_put_raw(l->out, "prices", buf_str(&lines));
	else
		json_put_null(l->out, "prices");
}

static bool is_one_of(const struct str *list, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++)
		if (str_is(list[i], word))
			return true;
	return count == 0;
}

/* By what its key is bound to. */
static bool caller_may(const struct principal *p, const struct profile *profile, struct str model)
{
	return vault_model_allowed(p, model) &&
	       is_one_of(p->providers, p->providers_count, profile->provider->id) &&
	       is_one_of(p->billing, p->billing_count, billing_source_name(profile->source));
}

static void put_model(struct listing *l, const struct profile *p, struct str id)
{
	const struct model_info *info =
		catalogue_find(l->set.catalogue, str_from(p->provider->id), id);
	char key[640];
	int n;

	if (l->shown >= MODELS_SHOWN_MAX || !serves(p, id) ||
	    (l->wanted.ptr && !str_eq(id, l->wanted)))
		return;
	if (!l->admin && !caller_may(vault_principal(l->req), p, id))
		return;
	n = l->admin ? snprintf(key, sizeof key, "%.*s/%.*s", STR_FMT(p->name), STR_FMT(id))
		     : snprintf(key, sizeof key, "%.*s", STR_FMT(id));
	if (n < 0 || (size_t)n >= sizeof key || map_get(l->seen, str_of(key, (size_t)n)))
		return;
	map_put(l->seen, str_of(key, (size_t)n), l);
	l->shown++;
	if (!slice_takes(&l->page))
		return;
	json_obj(l->out, NULL);
	json_put_str(l->out, "id", id);
	if (!l->admin) {
		json_put_z(l->out, "object", "model");
		json_put_int(l->out, "created", 0);
		json_put_z(l->out, "owned_by", p->provider->id);
	} else {
		json_put_z(l->out, "provider", p->provider->id);
		json_put_str(l->out, "profile", p->name);
		json_put_z(l->out, "billing_source", billing_source_name(p->source));
		put_capabilities(l->out, info ? info->capabilities : CAP_TEXT);
		if (info && info->context_window)
			json_put_int(l->out, "context_window", info->context_window);
		else
			json_put_null(l->out, "context_window");
		put_price(l, str_from(p->provider->id), id);
	}
	json_obj_end(l->out);
}

struct by_profile {
	struct listing *l;
	const struct profile *p;
};

static bool put_catalogued(void *arg, const struct model_info *m)
{
	struct by_profile *b = arg;

	if (str_is(m->provider, b->p->provider->id))
		put_model(b->l, b->p, m->id);
	return true;
}

static void put_profiles(struct listing *l, const struct snapshot *s)
{
	for (size_t i = 0; i < s->profiles_count; i++) {
		const struct profile *p = &s->profiles[i];
		struct by_profile b = {l, p};

		if (!p->provider || !p->provider->endpoints[0].dialect || !p->endpoint_ok ||
		    !str_is(p->status, "active"))
			continue;
		for (size_t k = 0; k < p->listed_count; k++)
			put_model(l, p, p->listed[k]);
		for (size_t k = 0; k < p->models_count; k++)
			if (str_find(p->models[k], '*') < 0)
				put_model(l, p, p->models[k]);
		catalogue_each(l->set.catalogue, put_catalogued, &b);
	}
}

static void put_aliases(struct listing *l)
{
	for (size_t i = 0; i < l->set.org->routes_count; i++) {
		struct str alias = l->set.org->routes[i].alias;

		if (alias.len == 0 || (l->wanted.ptr && !str_eq(alias, l->wanted)) ||
		    map_get(l->seen, alias) || !vault_model_allowed(vault_principal(l->req), alias))
			continue;
		map_put(l->seen, alias, l);
		l->shown++;
		json_obj(l->out, NULL);
		json_put_str(l->out, "id", alias);
		json_put_z(l->out, "object", "model");
		json_put_int(l->out, "created", 0);
		json_put_z(l->out, "owned_by", "organization");
		json_obj_end(l->out);
	}
}

static void reply_one(struct listing *l, struct str list)
{
	struct err e = {0};

	if (l->shown > 0) { /* the list's only element, without its brackets */
		http_reply(l->req, 200, str_slice(list, 1, list.len - 1));
		return;
	}
	err_set(&e, RC_NOT_FOUND, "model_not_found",
		"the model %.*s does not exist, or no profile of this org serves it",
		STR_FMT(l->wanted));
	err_hint(&e, "GET /v1/models lists what this key can ask for");
	http_reply_err(l->req, RC_NOT_FOUND, &e);
}

static void on_listing_picture(void *arg, enum rc rc, struct snapshot_set set,
			       const struct err *err)
{
	struct listing *l = arg;
	AUTO(buf) struct buf out = BUF_INIT(MODELS_BYTES_MAX);
	struct json_out o;

	if (rc != RC_OK) {
		http_reply_err(l->req, rc, err);
		return;
	}
	l->set = set;
	l->book = billing_book(l->req->worker);
	l->out = &o;
	json_out_begin(&o, &out);
	json_arr(&o, NULL);
	if (!l->admin)
		put_aliases(l);
	put_profiles(l, set.org);
	if (!uuid_eq(set.org->org.u, org_id_platform.u))
		put_profiles(l, set.platform);
	json_arr_end(&o);
	l->out = NULL;
	if (json_out_end(&o) != RC_OK)
		http_reply_err(l->req, RC_TOO_LARGE, NULL);
	else if (l->wanted.ptr)
		reply_one(l, buf_str(&out));
	else if (l->admin)
		slice_reply(l->req, &l->page, buf_str(&out));
	else /* "models": what one client of this dialect looks for; empty is harmless to the others */
		http_reply(l->req, 200,
			   arena_printf(l->req->mem,
					"{\"object\":\"list\",\"data\":%.*s,\"models\":[]}",
					STR_FMT(buf_str(&out))));
}

static struct listing *listing_new(struct http_request *r, bool admin, struct str wanted)
{
	struct listing *l = ARENA_NEW(r->mem, struct listing);

	*l = (struct listing){.req = r, .admin = admin, .wanted = wanted, .seen = map_new(0, NULL)};
	arena_on_clear(r->mem, listing_undo, l);
	return l;
}

void handle_openai_models(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_listing_picture,
		     listing_new(r, false, STR_NULL));
}

void handle_openai_model(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_listing_picture,
		     listing_new(r, false, r->params[0]));
}

static void on_models_org(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	snapshot_get(r->worker, (struct org_id){pg_uuid(res->rows[0], 0, 0)}, on_listing_picture,
		     arg);
}

void handle_org_models(struct http_request *r)
{
	struct listing *l;
	struct slice page = {0};
	struct pg_batch *b;

	if (!slice_read(r, &page))
		return;
	l = listing_new(r, true, STR_NULL);
	l->page = page;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	admin_run_cb(r, b, on_models_org, l);
}
