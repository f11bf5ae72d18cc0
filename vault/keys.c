/* vault/keys.c - the control plane's /orgs/{org}/api-keys.
 *
 * The secret is shown once, in the answer of the POST that made it, and stored as a hash alone.
 * Who may make or change which key is decided in SQL (key_may), from the actor given; that a developer's
 * key makes none with more models or higher limits than its own is decided here, for the rest of what binds
 * a key (bounds.c) in SQL. */
#include <openssl/crypto.h>

#include "server/admin.h"
#include "server/base/clock.h"
#include "sql/queries.h"
#include "vault/apikey_priv.h"
#include "vault/vault_priv.h"

#define KEY_NAME_MAX   200
#define KEY_MODELS_MAX 256 /* as the table's CHECK */
#define KEY_MODEL_MAX  256
#define KEY_LIMIT_MAX  1000000000000
#define KEY_DRAWS_MAX  3 /* of a public id that is taken */
#define KEY_OVERLAP_S  604800
#define KEY_SPEC_BYTES (256u * 1024)

bool vault_model_allowed(const struct principal *p, struct str model)
{
	for (size_t i = 0; i < p->models_count; i++)
		if (str_glob(p->models[i], model))
			return true;
	return false;
}

/* ---- the body's parts: each is checked, and written into the spec that SQL gets ------------------- */

static enum rc put_name(const struct json *body, bool required, struct json_out *spec,
			struct err *err)
{
	struct str name = STR_NULL;

	TRY(admin_str(body, "name", required, KEY_NAME_MAX, &name, err));
	if (name.ptr && str_trim(name).len == 0)
		return vault_bad_field(err, "name", "may not be empty");
	if (name.ptr)
		json_put_str(spec, "name", name);
	return RC_OK;
}

static enum rc put_role(const struct json *body, struct json_out *spec, struct err *err)
{
	struct str role = STR("developer");

	TRY(admin_str(body, "role", false, 16, &role, err));
	if (!vault_role_bit(role))
		return vault_bad_field(err, "role",
				       "is one of owner, admin, developer, finance, auditor");
	json_put_str(spec, "role", role);
	return RC_OK;
}

static enum rc put_scopes(const struct json *body, struct json_out *spec, struct err *err)
{
	const struct json *scopes = json_get(body, "scopes");
	struct json_iter it = json_iter(scopes);
	bool inference = false, admin = false, *seen;
	struct json *one;
	struct str s;

	if (json_is_null(scopes)) {
		inference = true;
	} else if (json_type(scopes) != JSON_ARRAY || json_len(scopes) == 0) {
		return vault_bad_field(err, "scopes", "is a list of inference, admin or both");
	}
	while (json_next(&it, NULL, &one)) {
		if (!json_string(one, &s) || (!str_is(s, "inference") && !str_is(s, "admin")))
			return vault_bad_field(err, "scopes",
					       "is a list of inference, admin or both");
		seen = str_is(s, "admin") ? &admin : &inference;
		if (*seen)
			return vault_bad_field(err, "scopes", "names one scope twice");
		*seen = true;
	}
	json_arr(spec, "scopes");
	if (inference)
		json_put_z(spec, NULL, "inference");
	if (admin)
		json_put_z(spec, NULL, "admin");
	json_arr_end(spec);
	return RC_OK;
}

/* A pattern is within another when that one matches it letter by letter, its '*' included. */
static enum rc put_models(const struct principal *p, const struct json *body, bool make,
			  struct json_out *spec, struct err *err)
{
	static const char form[] = "is a list of 1 to 256 model patterns, 256 characters at most";
	const struct json *models = json_get(body, "models");
	struct json_iter it = json_iter(models);
	const bool bound = p->roles & ROLE_DEVELOPER;
	struct json *one;
	struct str s;

	if (json_is_null(models)) {
		if (!make)
			return RC_OK;
		if (bound && !vault_model_allowed(p, STR("*")))
			return vault_bad_field(err, "models",
					       "name those of your own key: it may not use all");
		json_arr(spec, "models");
		json_put_z(spec, NULL, "*");
		json_arr_end(spec);
		return RC_OK;
	}
	if (json_type(models) != JSON_ARRAY || json_len(models) == 0 ||
	    json_len(models) > KEY_MODELS_MAX)
		return vault_bad_field(err, "models", form);
	json_arr(spec, "models");
	while (json_next(&it, NULL, &one)) {
		if (!json_string(one, &s) || s.len == 0 || s.len > KEY_MODEL_MAX ||
		    memchr(s.ptr, 0, s.len))
			return vault_bad_field(err, "models", form);
		if (bound && !vault_model_allowed(p, s)) {
			err_set(err, RC_DENIED, "permission_denied",
				"models: your own key may not use %.*s", STR_FMT(s));
			err_field(err, "models");
			return RC_DENIED;
		}
		json_put_str(spec, NULL, s);
	}
	json_arr_end(spec);
	return RC_OK;
}

/* `own`: the caller's own limit, which nothing it makes may pass; 0: none. */
static enum rc put_limit(const struct json *limits, const char *name, int64_t own, bool make,
			 struct json_out *spec, struct err *err)
{
	struct json *v = json_get(limits, name);
	int64_t n = 0;
	char field[32];

	snprintf(field, sizeof field, "limits.%s", name);
	if (!json_is_null(v) && (!json_int(v, &n) || n < 1 || n > KEY_LIMIT_MAX))
		return vault_bad_field(err, field,
				       "is a whole number above 0, or null for no limit");
	/* Left out of a change, it stays as it is. */
	if (own > 0 && (make || v) && (n == 0 || n > own)) {
		err_set(err, RC_DENIED, "permission_denied",
			"%s: may not pass your own key's limit of %lld", field, (long long)own);
		err_field(err, "%s", field);
		return RC_DENIED;
	}
	if (n > 0)
		json_put_int(spec, name, n);
	else if (v)
		json_put_null(spec, name);
	return RC_OK;
}

static enum rc put_limits(const struct principal *p, const struct json *body, bool make,
			  struct json_out *spec, struct err *err)
{
	const struct json *limits = json_get(body, "limits");
	const bool bound = p->roles & ROLE_DEVELOPER;
	struct json_iter it = json_iter(limits);
	char field[96];
	struct str name;

	if (!make && !limits)
		return RC_OK;
	if (!json_is_null(limits) && json_type(limits) != JSON_OBJECT)
		return vault_bad_field(err, "limits", "is an object with rpm and tpm");
	while (json_next(&it, &name, NULL))
		if (!str_is(name, "rpm") && !str_is(name, "tpm")) {
			snprintf(field, sizeof field, "limits.%.*s",
				 (int)(name.len < 64 ? name.len : 64), name.ptr);
			err_set(err, RC_INVALID, "unknown_field", "unknown field %s", field);
			err_field(err, "%s", field);
			return RC_INVALID;
		}
	if (!make && json_is_null(limits)) { /* "limits": null takes both away */
		if (bound && (p->rpm > 0 || p->tpm > 0))
			return vault_bad_field(err, "limits", "may not pass your own key's");
		json_put_null(spec, "rpm");
		json_put_null(spec, "tpm");
		return RC_OK;
	}
	TRY(put_limit(limits, "rpm", bound ? p->rpm : 0, make, spec, err));
	return put_limit(limits, "tpm", bound ? p->tpm : 0, make, spec, err);
}

static enum rc put_expiry(const struct json *body, struct json_out *spec, struct err *err)
{
	struct json *v = json_get(body, "expires_at");
	char text[CLOCK_RFC3339_SIZE];
	int64_t at_us = 0;
	struct str s;

	if (!v)
		return RC_OK;
	if (json_is_null(v)) {
		json_put_null(spec, "expires_at");
		return RC_OK;
	}
	if (!json_string(v, &s) || clock_parse_rfc3339(s, &at_us) != RC_OK)
		return vault_bad_field(err, "expires_at", "is an RFC 3339 time, or null for never");
	if (at_us <= clock_wall_us())
		return vault_bad_field(err, "expires_at", "lies in the past");
	json_put_str(spec, "expires_at", clock_rfc3339(at_us, text));
	return RC_OK;
}

/* The budget is a statement of its own behind the one that makes or changes the key. How large a limit may be,
 * and whether this actor may give it, is decided in SQL. */
struct key_budget {
	bool given;	 /* else the key keeps what it has */
	struct str spec; /* JSON; ptr NULL: none */
};

static bool decimal_ok(struct str s)
{
	size_t whole = 0, places = 0;

	while (whole < s.len && s.ptr[whole] >= '0' && s.ptr[whole] <= '9')
		whole++;
	for (size_t i = whole + 1; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
		places++;
	return whole > 0 && whole <= 9 && places <= 9 &&
	       (whole == s.len ||
		(s.ptr[whole] == '.' && places > 0 && whole + 1 + places == s.len));
}

static enum rc read_budget_fields(const struct json *budget, struct str *limit, struct str *window,
				  struct err *err)
{
	struct json_iter it = json_iter(budget);
	struct str name;

	while (json_next(&it, &name, NULL))
		if (!str_is(name, "limit") && !str_is(name, "window")) {
			err_set(err, RC_INVALID, "unknown_field", "unknown field budget.%.*s",
				(int)(name.len < 64 ? name.len : 64), name.ptr);
			err_field(err, "budget.%.*s", (int)(name.len < 64 ? name.len : 64),
				  name.ptr);
			return RC_INVALID;
		}
	if (!json_string(json_get(budget, "limit"), limit) || !decimal_ok(*limit)) {
		vault_bad_field(err, "budget.limit", "is not a decimal of credits");
		err_hint(err, "a string such as \"25.00\", not below zero, at most nine places");
		return RC_INVALID;
	}
	if (!json_string(json_get(budget, "window"), window) ||
	    (!str_is(*window, "day") && !str_is(*window, "week") && !str_is(*window, "month") &&
	     !str_is(*window, "total")))
		return vault_bad_field(err, "budget.window", "is one of day, week, month, total");
	return RC_OK;
}

static enum rc read_budget(struct http_request *r, const struct json *body, struct key_budget *ret,
			   struct err *err)
{
	const struct json *budget = json_get(body, "budget");
	struct str limit, window;

	*ret = (struct key_budget){.given = budget != NULL, .spec = STR_NULL};
	if (json_is_null(budget))
		return RC_OK;
	if (json_type(budget) != JSON_OBJECT)
		return vault_bad_field(err, "budget",
				       "is an object with limit and window, or null");
	TRY(read_budget_fields(budget, &limit, &window, err));
	ret->spec = arena_printf(r->mem, "{\"limit\":\"%.*s\",\"window\":\"%.*s\"}", STR_FMT(limit),
				 STR_FMT(window));
	return RC_OK;
}

static void add_budget(struct http_request *r, struct pg_batch *b, struct uuid key,
		       const struct key_budget *budget)
{
	pg_batch_add(b, &sql_vault_key_budget_put);
	pg_param_uuid(b, key);
	pg_param_str(b, budget->spec);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
}

static enum rc read_spec(const struct principal *p, const struct json *body, bool make,
			 struct buf *text, struct err *err)
{
	struct json_out spec;

	json_out_begin(&spec, text);
	json_obj(&spec, NULL);
	TRY(put_name(body, make, &spec, err));
	if (make)
		TRY(put_role(body, &spec, err));
	if (make)
		TRY(put_scopes(body, &spec, err));
	TRY(put_models(p, body, make, &spec, err));
	TRY(put_limits(p, body, make, &spec, err));
	TRY(put_expiry(body, &spec, err));
	TRY(bounds_put(body, make, &spec, err));
	json_obj_end(&spec);
	if (json_out_end(&spec) != RC_OK)
		return vault_bad_field(err, "models", "are too long together");
	return RC_OK;
}

/* ---- create -------------------------------------------------------------------------------------- */

struct key_new { /* in the request's arena; the key's text is wiped with it */
	struct uuid id;
	struct apikey key;
	struct str spec;
	struct key_budget budget;
	bool rotates; /* in place of `was`, which works for overlap_s more; `spec` is that one's */
	struct uuid was;
	int64_t overlap_s;
	int draws;
};

static void key_new_wipe(void *arg)
{
	struct key_new *n = arg;

	apikey_clear(&n->key);
}

static void key_submit(struct http_request *r, struct key_new *n);

/* The row as JSON, and the key itself, this once. */
static void key_show_once(struct http_request *r, const struct key_new *n, struct str row)
{
	AUTO(buf) struct buf text = BUF_INIT(KEY_SPEC_BYTES);
	enum rc rc = buf_reserve(&text, row.len + sizeof n->key.text + 16);

	if (rc == RC_OK && row.len > 1)
		rc = buf_printf(&text, "{\"key\":\"%s\",", n->key.text);
	if (rc == RC_OK)
		rc = buf_append(&text, str_slice(row, 1, row.len));
	if (rc != RC_OK) /* both parts are ours and bounded */
		abort();
	http_reply_data(r, 201, buf_str(&text), STR(""));
	OPENSSL_cleanse(text.ptr, text.len);
}

static void key_on_made(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct key_new *n = arg;
	struct err err = {0};
	enum rc rc;

	if (res->rc == RC_OK && pg_row_count(res->rows[res->statements - 1]) > 0) {
		key_show_once(r, n, pg_str(res->rows[res->statements - 1], 0, 0));
		return;
	}
	rc = pg_result_err(res, &err);
	if (rc == RC_CONFLICT && err.code && strcmp(err.code, "key_id_taken") == 0 &&
	    ++n->draws < KEY_DRAWS_MAX && apikey_make(&n->key) == RC_OK)
		key_submit(r, n);
	else
		http_reply_err(r, rc, &err);
}

/* The statement that stores it. */
static enum rc key_add(struct http_request *r, struct pg_batch *b, const struct key_new *n,
		       struct err *err)
{
	const struct pepper *pepper = vault_pepper(vault_worker_of(r->worker)->vault);
	struct str text = str_of(n->key.text, APIKEY_LEN);
	uint8_t hash[SHA256_BYTES];

	if (!pepper) {
		err_set(err, RC_UNAVAILABLE, "vault_unavailable", "the vault has not started yet");
		err->retry_after_s = 1;
		return RC_UNAVAILABLE;
	}
	apikey_hash(secret_str(&pepper->bytes), text, hash);
	if (n->rotates) {
		pg_batch_add(b, &sql_vault_key_budget_within);
		pg_param_uuid(b, n->was);
		pg_param_str(b, admin_actor(r));
	}
	pg_batch_add(b, n->rotates ? &sql_vault_key_rotate : &sql_vault_key_create);
	if (n->rotates)
		pg_param_uuid(b, n->was);
	pg_param_uuid(b, n->id);
	pg_param_z(b, n->key.public_id);
	pg_param_bytes(b, str_of(hash, sizeof hash));
	pg_param_int(b, pepper->ver);
	pg_param_str(b, str_slice(text, text.len - 4, text.len));
	if (n->rotates)
		pg_param_int(b, n->overlap_s);
	else
		pg_param_str(b, n->spec);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	return RC_OK;
}

static void key_submit(struct http_request *r, struct key_new *n)
{
	struct pg_batch *b = pg_batch_new();
	struct err err = {0};
	enum rc rc;

	pg_batch_org_ref(b, r->params[0]);
	rc = key_add(r, b, n, &err);
	if (rc != RC_OK) {
		pg_batch_free(b);
		http_reply_err(r, rc, &err);
		return;
	}
	if (!n->rotates) /* without one too: whose own key has a budget may not make a key that has none */
		add_budget(r, b, n->id, &n->budget);
	admin_run_cb(r, b, key_on_made, n);
}

static struct key_new *key_new(struct http_request *r)
{
	struct key_new *n = ARENA_NEW(r->mem, struct key_new);

	arena_on_clear(r->mem, key_new_wipe, n);
	n->id = uuid_v7();
	return n;
}

static enum rc key_draw(struct key_new *n, struct err *err)
{
	if (apikey_make(&n->key) == RC_OK)
		return RC_OK;
	return err_set(err, RC_UNAVAILABLE, "vault_unavailable", "no key can be made now");
}

void keys_create(struct http_request *r)
{
	struct json *body = admin_body(r, "name role scopes models limits budget expires_at member "
					  "allow_from providers billing");
	AUTO(buf) struct buf spec = BUF_INIT(KEY_SPEC_BYTES);
	struct err err = {0};
	struct key_new *n;
	enum rc rc;

	if (!body)
		return;
	n = key_new(r);
	rc = read_spec(vault_principal(r), body, true, &spec, &err);
	if (rc == RC_OK)
		rc = read_budget(r, body, &n->budget, &err);
	if (rc == RC_OK)
		rc = key_draw(n, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	n->spec = arena_str(r->mem, buf_str(&spec));
	key_submit(r, n);
}

/* ---- for who makes keys among other things --------------------------------------------------------- */

enum rc vault_key_spec(struct http_request *r, const struct json *body, struct str *spec,
		       struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT(KEY_SPEC_BYTES);

	TRY(read_spec(vault_principal(r), body, true, &text, err));
	*spec = arena_str(r->mem, buf_str(&text));
	return RC_OK;
}

enum rc vault_key_add(struct http_request *r, struct pg_batch *b, struct str spec,
		      struct vault_new_key *ret, struct err *err)
{
	struct key_new *n = key_new(r);

	n->spec = spec;
	TRY(key_draw(n, err));
	TRY(key_add(r, b, n, err));
	*ret = (struct vault_new_key){.id = n->id, .text = str_of(n->key.text, APIKEY_LEN)};
	return RC_OK;
}

/* ---- the others ---------------------------------------------------------------------------------- */

/* The {id} of the path; answers 404 itself: what is no id names nothing. */
static bool key_id(struct http_request *r, struct uuid *ret)
{
	struct err err = {0};

	if (uuid_parse(r->params[1], ret) == RC_OK)
		return true;
	http_reply_err(r, err_set(&err, RC_NOT_FOUND, "not_found", "no such API key"), &err);
	return false;
}

void keys_list(struct http_request *r)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_key_list);
	pg_param_str(b, admin_actor(r));
	pg_param_int(b, page.limit);
	pg_param_str(b, page.cursor.ptr ? page.cursor : STR(""));
	admin_run(r, b, 200);
}

void keys_show(struct http_request *r)
{
	struct uuid id;
	struct pg_batch *b;

	if (!admin_query_only(r, "") || !key_id(r, &id))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_key_show);
	pg_param_str(b, admin_actor(r));
	pg_param_uuid(b, id);
	admin_run(r, b, 200);
}

void keys_change(struct http_request *r)
{
	struct json *body = admin_body(r, "name models limits budget expires_at allow_from "
					  "providers billing");
	AUTO(buf) struct buf patch = BUF_INIT(KEY_SPEC_BYTES);
	struct key_budget budget;
	struct err err = {0};
	struct pg_batch *b;
	struct uuid id;
	enum rc rc;

	if (!body || !key_id(r, &id))
		return;
	rc = read_spec(vault_principal(r), body, false, &patch, &err);
	if (rc == RC_OK)
		rc = read_budget(r, body, &budget, &err);
	if (rc == RC_OK && !budget.given && str_is(buf_str(&patch), "{}"))
		rc = err_set(&err, RC_INVALID, "nothing_to_change",
			     "give at least one of name, models, limits, budget, expires_at, "
			     "allow_from, providers, billing");
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_key_change);
	pg_param_uuid(b, id);
	pg_param_str(b, buf_str(&patch));
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	if (budget.given)
		add_budget(r, b, id, &budget);
	admin_run(r, b, 200);
}

void keys_revoke(struct http_request *r)
{
	struct pg_batch *b;
	struct uuid id;

	if (!key_id(r, &id))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_key_revoke);
	pg_param_uuid(b, id);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

/* The grant is copied in SQL, under the lock of the key's row: what it may do now is what the new one may. */
void keys_rotate(struct http_request *r)
{
	struct json *body = admin_body(r, "overlap_seconds");
	struct err err = {0};
	struct key_new *n;
	struct uuid was;
	enum rc rc;

	if (!body || !key_id(r, &was))
		return;
	n = key_new(r);
	n->rotates = true;
	n->was = was;
	rc = admin_int(body, "overlap_seconds", false, 0, KEY_OVERLAP_S, &n->overlap_s, &err);
	if (rc == RC_OK)
		rc = key_draw(n, &err);
	if (rc == RC_OK)
		key_submit(r, n);
	else
		http_reply_err(r, rc, &err);
}
