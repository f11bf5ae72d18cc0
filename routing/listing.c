/* routing/listing.c - which models can be asked for: an org's, with prices, for its admins; a key's, in the shape of the
 * dialect that asks.
 *
 * Aliases first, then what the org's own profiles serve, then the platform's; each name once, at whoever serves it
 * first. Nothing is stored: a listing is made from the org's picture, and a page of it is a cut of the whole. */
#include <stdio.h>

#include "routing/errors.h"
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "sql/queries.h"

#define LISTING_MODELS_MAX   5000
#define LISTING_BYTES_MAX    (8u << 20)
#define ANTHROPIC_LIMIT	     20 /* its own default and its own most */
#define ANTHROPIC_LIMIT_MAX  1000
#define GEMINI_PAGE_SIZE     50
#define GEMINI_PAGE_SIZE_MAX 1000

struct entry {
	struct str id;
	const struct profile *profile; /* NULL: an alias of the org */
	const struct model_info *info; /* NULL: not in the catalogue */
};
struct listing { /* in the request's arena */
	struct http_request *req;
	struct snapshot_set set;
	struct slice page;
	struct map *seen; /* model ids, so that each stands once */
	struct price_book *book;
	bool admin;	   /* by profile and with prices; else what the caller's key may ask for */
	struct str wanted; /* one model only; ptr NULL: all */
	struct entry *entries;
	size_t count, size;
	void (*reply)(struct listing *l);
};

static void listing_undo(void *arg)
{
	struct listing *l = arg;

	snapshot_set_clear(&l->set);
	map_free(l->seen);
	price_book_unref(l->book);
}

/* ---- what there is ------------------------------------------------------------------------------- */

static bool serves(const struct profile *p, struct str model)
{
	for (size_t i = 0; i < p->models_count; i++)
		if (str_glob(p->models[i], model))
			return true;
	return false;
}

static bool is_one_of(const struct str *list, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++)
		if (str_is(list[i], word))
			return true;
	return count == 0;
}

bool routing_key_may_use(const struct principal *p, const struct profile *profile)
{
	return is_one_of(p->providers, p->providers_count, profile->provider->id) &&
	       is_one_of(p->billing, p->billing_count, billing_source_name(profile->source));
}

static void entry_add(struct listing *l, struct str key, const struct entry *e)
{
	if (l->count >= LISTING_MODELS_MAX || map_get(l->seen, key))
		return;
	if (l->count == l->size) {
		const size_t size = l->size ? l->size * 2 : 64;
		struct entry *more = ARENA_ARRAY(l->req->mem, struct entry, size);

		if (l->count)
			memcpy(more, l->entries, l->count * sizeof *more);
		l->entries = more;
		l->size = size;
	}
	map_put(l->seen, key, l);
	l->entries[l->count++] = *e;
}

/* As a call may name it: the id, or "provider/id". */
static bool is_wanted(const struct listing *l, const struct profile *p, struct str id)
{
	struct str rest = l->wanted;

	return !l->wanted.ptr || str_eq(id, l->wanted) ||
	       (str_is(str_cut(&rest, '/'), p->provider->id) && rest.ptr && str_eq(rest, id));
}

static void add_model(struct listing *l, const struct profile *p, struct str id)
{
	const struct entry e = {l->wanted.ptr ? l->wanted : id, p,
				catalogue_find(l->set.catalogue, str_from(p->provider->id), id)};
	char key[640];
	int n;

	if (!serves(p, id) || !is_wanted(l, p, id) ||
	    (!l->admin && (!vault_model_allowed(vault_principal(l->req), id) ||
			   !routing_key_may_use(vault_principal(l->req), p))))
		return;
	n = l->admin ? snprintf(key, sizeof key, "%.*s/%.*s", STR_FMT(p->name), STR_FMT(id))
		     : snprintf(key, sizeof key, "%.*s", STR_FMT(id));
	if (n >= 0 && (size_t)n < sizeof key)
		entry_add(l, str_of(key, (size_t)n), &e);
}

struct by_profile {
	struct listing *l;
	const struct profile *p;
};

static bool add_catalogued(void *arg, const struct model_info *m)
{
	struct by_profile *b = arg;

	if (str_is(m->provider, b->p->provider->id))
		add_model(b->l, b->p, m->id);
	return true;
}

static void add_profiles(struct listing *l, const struct snapshot *s)
{
	for (size_t i = 0; i < s->profiles_count; i++) {
		const struct profile *p = &s->profiles[i];
		struct by_profile b = {l, p};

		if (!p->provider || !p->provider->endpoints[0].dialect || !p->endpoint_ok ||
		    !str_is(p->status, "active"))
			continue;
		for (size_t k = 0; k < p->listed_count; k++)
			add_model(l, p, p->listed[k]);
		for (size_t k = 0; k < p->models_count; k++)
			if (str_find(p->models[k], '*') < 0)
				add_model(l, p, p->models[k]);
		catalogue_each(l->set.catalogue, add_catalogued, &b);
	}
}

static void add_aliases(struct listing *l)
{
	for (size_t i = 0; i < l->set.org->routes_count; i++) {
		const struct entry e = {l->set.org->routes[i].alias, NULL, NULL};

		if (e.id.len > 0 && (!l->wanted.ptr || str_eq(e.id, l->wanted)) &&
		    vault_model_allowed(vault_principal(l->req), e.id))
			entry_add(l, e.id, &e);
	}
}

static void on_picture(void *arg, enum rc rc, struct snapshot_set set, const struct err *err)
{
	struct listing *l = arg;
	struct err e = {0};

	if (rc != RC_OK) {
		http_reply_err(l->req, rc, err);
		return;
	}
	l->set = set;
	l->book = billing_book(l->req->worker);
	if (!l->admin)
		add_aliases(l);
	add_profiles(l, set.org);
	if (!uuid_eq(set.org->org.u, org_id_platform.u))
		add_profiles(l, set.platform);
	if (!l->wanted.ptr || l->count > 0) {
		l->reply(l);
		return;
	}
	err_set(&e, RC_NOT_FOUND, "model_not_found",
		"the model %.*s does not exist, or no profile of this org serves it",
		STR_FMT(l->wanted));
	err_hint(&e, "GET /v1/models lists what this key can ask for");
	http_reply_err(l->req, RC_NOT_FOUND, &e);
}

static struct listing *listing_new(struct http_request *r, struct str wanted,
				   void (*reply)(struct listing *l))
{
	struct listing *l = ARENA_NEW(r->mem, struct listing);

	*l = (struct listing){.req = r, .wanted = wanted, .seen = map_new(0, NULL), .reply = reply};
	arena_on_clear(r->mem, listing_undo, l);
	return l;
}

static void reply_with(struct listing *l, struct json_out *o, const struct buf *out)
{
	if (json_out_end(o) == RC_OK)
		http_reply(l->req, 200, buf_str(out));
	else
		http_reply_err(l->req, RC_TOO_LARGE, NULL);
}

static const char *owner(const struct entry *e)
{
	return e->profile ? e->profile->provider->id : "organization";
}

/* The entry with this id; count: there is none. */
static size_t find(const struct listing *l, struct str id)
{
	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->entries[i].id, id))
			return i;
	return l->count;
}

/* ---- OpenAI -------------------------------------------------------------------------------------- */

static void put_openai(struct json_out *o, const struct entry *e)
{
	json_obj(o, NULL);
	json_put_str(o, "id", e->id);
	json_put_z(o, "object", "model");
	json_put_int(o, "created", 0);
	json_put_z(o, "owned_by", owner(e));
	json_obj_end(o);
}

static void reply_openai(struct listing *l)
{
	AUTO(buf) struct buf out = BUF_INIT(LISTING_BYTES_MAX);
	struct json_out o;

	json_out_begin(&o, &out);
	if (l->wanted.ptr) {
		put_openai(&o, &l->entries[0]);
		reply_with(l, &o, &out);
		return;
	}
	json_obj(&o, NULL);
	json_put_z(&o, "object", "list");
	json_arr(&o, "data");
	for (size_t i = 0; i < l->count; i++)
		put_openai(&o, &l->entries[i]);
	json_arr_end(&o);
	/* what one client of this dialect looks for; empty is harmless to the others */
	json_arr(&o, "models");
	json_arr_end(&o);
	json_obj_end(&o);
	reply_with(l, &o, &out);
}

/* ---- Anthropic ------------------------------------------------------------------------------------ */

/* When a model was made is not known here; the shape wants a date, and its own clients only show it. */
static void put_anthropic(struct json_out *o, const struct entry *e)
{
	const struct model_info *m = e->info;

	json_obj(o, NULL);
	json_put_z(o, "type", "model");
	json_put_str(o, "id", e->id);
	json_put_str(o, "display_name", e->id);
	json_put_z(o, "created_at", "1970-01-01T00:00:00Z");
	if (m && m->context_window)
		json_put_int(o, "max_input_tokens", m->context_window);
	if (m && m->max_output)
		json_put_int(o, "max_tokens", m->max_output);
	json_obj_end(o);
}

/* A whole number within 1 and `max`; absent: `def`. False, and answered. */
static bool page_size(struct http_request *r, const char *name, int64_t def, int64_t max,
		      size_t *ret)
{
	const struct str text = http_query(r, name);
	int64_t n = def;
	struct err e = {0};

	if (text.ptr && (str_to_i64(text, &n) != RC_OK || n < 1)) {
		err_set(&e, RC_INVALID, "invalid_request_error", "%s must be a positive integer",
			name);
		err_hint(&e, "A number from 1 to %lld.", (long long)max);
		err_field(&e, "%s", name);
		http_reply_err(r, RC_INVALID, &e);
		return false;
	}
	*ret = (size_t)(n < max ? n : max);
	return true;
}

static void reply_anthropic(struct listing *l)
{
	AUTO(buf) struct buf out = BUF_INIT(LISTING_BYTES_MAX);
	const struct str after = http_query(l->req, "after_id");
	const struct str before = http_query(l->req, "before_id");
	size_t first = 0, end = l->count, limit;
	struct json_out o;
	bool more;

	json_out_begin(&o, &out);
	if (l->wanted.ptr) {
		put_anthropic(&o, &l->entries[0]);
		reply_with(l, &o, &out);
		return;
	}
	if (!page_size(l->req, "limit", ANTHROPIC_LIMIT, ANTHROPIC_LIMIT_MAX, &limit))
		return;
	if (after.ptr && find(l, after) < l->count)
		first = find(l, after) + 1;
	if (before.ptr)
		end = find(l, before);
	if (end < first)
		end = first;
	more = end - first > limit;
	if (more && before.ptr && !after.ptr)
		first = end - limit; /* the page that ends there */
	else if (more)
		end = first + limit;
	json_obj(&o, NULL);
	json_arr(&o, "data");
	for (size_t i = first; i < end; i++)
		put_anthropic(&o, &l->entries[i]);
	json_arr_end(&o);
	json_put_bool(&o, "has_more", more);
	json_put_str(&o, "first_id", first < end ? l->entries[first].id : STR_NULL);
	json_put_str(&o, "last_id", first < end ? l->entries[end - 1].id : STR_NULL);
	json_obj_end(&o);
	reply_with(l, &o, &out);
}

static void reply_gemini(struct listing *l);

/* One path for three dialects: by the header that only one of them sends. */
static void (*data_reply(struct http_request *r))(struct listing *l)
{
	if (http_header(r, "x-goog-api-key").ptr)
		return reply_gemini;
	return http_header(r, "anthropic-version").ptr ? reply_anthropic : reply_openai;
}

void handle_data_models(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_picture,
		     listing_new(r, STR_NULL, data_reply(r)));
}

void handle_data_model(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_picture,
		     listing_new(r, r->params[0], data_reply(r)));
}

/* ---- Gemini ---------------------------------------------------------------------------------------- */

/* By its price: nothing else tells what a model is for. */
static bool is_for_embeddings(const struct listing *l, const struct entry *e)
{
	const struct price_model *price =
		l->book && e->info ? price_find(l->book, e->info->provider, e->info->id) : NULL;

	return price && price_has(price, USAGE_embed_tokens);
}

static void put_gemini(const struct listing *l, struct json_out *o, const struct entry *e)
{
	const struct model_info *m = e->info;
	const bool embeds = is_for_embeddings(l, e);
	struct arena *mem = l->req->mem;

	json_obj(o, NULL);
	json_put_str(o, "name", arena_printf(mem, "models/%.*s", STR_FMT(e->id)));
	json_put_str(o, "baseModelId", e->id);
	json_put_str(o, "displayName", e->id);
	if (m && m->context_window)
		json_put_int(o, "inputTokenLimit", m->context_window);
	if (m && m->max_output)
		json_put_int(o, "outputTokenLimit", m->max_output);
	json_arr(o, "supportedGenerationMethods");
	json_put_z(o, NULL, embeds ? "embedContent" : "generateContent");
	json_put_z(o, NULL, embeds ? "batchEmbedContents" : "countTokens");
	json_arr_end(o);
	json_obj_end(o);
}

static void reply_gemini(struct listing *l)
{
	AUTO(buf) struct buf out = BUF_INIT(LISTING_BYTES_MAX);
	const struct str token = http_query(l->req, "pageToken");
	size_t first = 0, size;
	struct json_out o;

	json_out_begin(&o, &out);
	if (l->wanted.ptr) {
		put_gemini(l, &o, &l->entries[0]);
		reply_with(l, &o, &out);
		return;
	}
	if (!page_size(l->req, "pageSize", GEMINI_PAGE_SIZE, GEMINI_PAGE_SIZE_MAX, &size))
		return;
	if (token.ptr && find(l, token) < l->count)
		first = find(l, token) + 1; /* a token is the last name of the page before */
	json_obj(&o, NULL);
	json_arr(&o, "models");
	for (size_t i = first; i < l->count && i < first + size; i++)
		put_gemini(l, &o, &l->entries[i]);
	json_arr_end(&o);
	if (l->count > first + size)
		json_put_str(&o, "nextPageToken", l->entries[first + size - 1].id);
	json_obj_end(&o);
	reply_with(l, &o, &out);
}

void handle_gemini_models(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_picture,
		     listing_new(r, STR_NULL, reply_gemini));
}

void handle_gemini_model(struct http_request *r)
{
	snapshot_get(r->worker, vault_principal(r)->org, on_picture,
		     listing_new(r, r->params[0], reply_gemini));
}

/* ---- the control plane --------------------------------------------------------------------------------- */

static void put_capabilities(struct json_out *o, uint32_t bits)
{
	json_arr(o, "capabilities");
	for (uint32_t bit = CAP_TEXT; bit <= CAP_JSON; bit <<= 1)
		if (bits & bit)
			json_put_z(o, NULL, capability_name((enum capability)bit));
	json_arr_end(o);
}

static void put_price(struct listing *l, struct json_out *o, struct str provider, struct str model)
{
	const struct price_model *price = l->book ? price_find(l->book, provider, model) : NULL;
	AUTO(buf) struct buf lines = BUF_INIT(16384);

	if (price && price_lines_json(price, &lines) == RC_OK)
		json_put_raw(o, "prices", buf_str(&lines));
	else
		json_put_null(o, "prices");
}

static void put_admin(struct listing *l, struct json_out *o, const struct entry *e)
{
	json_obj(o, NULL);
	json_put_str(o, "id", e->id);
	json_put_z(o, "provider", e->profile->provider->id);
	json_put_str(o, "profile", e->profile->name);
	json_put_z(o, "billing_source", billing_source_name(e->profile->source));
	put_capabilities(o, e->info ? e->info->capabilities : CAP_TEXT);
	if (e->info && e->info->context_window)
		json_put_int(o, "context_window", e->info->context_window);
	else
		json_put_null(o, "context_window");
	put_price(l, o, str_from(e->profile->provider->id), e->id);
	json_obj_end(o);
}

static void reply_admin(struct listing *l)
{
	AUTO(buf) struct buf out = BUF_INIT(LISTING_BYTES_MAX);
	struct json_out o;

	json_out_begin(&o, &out);
	json_arr(&o, NULL);
	for (size_t i = 0; i < l->count; i++)
		if (slice_takes(&l->page))
			put_admin(l, &o, &l->entries[i]);
	json_arr_end(&o);
	if (json_out_end(&o) == RC_OK)
		slice_reply(l->req, &l->page, buf_str(&out));
	else
		http_reply_err(l->req, RC_TOO_LARGE, NULL);
}

static void on_models_org(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct err e = {0};

	if (res->rc != RC_OK) {
		http_reply_err(r, pg_result_err(res, &e), &e);
		return;
	}
	snapshot_get(r->worker, (struct org_id){pg_uuid(res->rows[0], 0, 0)}, on_picture, arg);
}

void handle_org_models(struct http_request *r)
{
	struct listing *l;
	struct slice page = {0};
	struct pg_batch *b;

	if (!slice_read(r, &page))
		return;
	l = listing_new(r, STR_NULL, reply_admin);
	l->admin = true;
	l->page = page;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_org);
	admin_run_cb(r, b, on_models_org, l);
}
