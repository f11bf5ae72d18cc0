/* vault/orgs.c - the control plane's /orgs: forms are checked here, everything else is one SQL function. */
#include <stdlib.h>

#include "server/admin.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define ORG_SLUG_MAX	   63
#define ORG_NAME_MAX	   200
#define ORG_TIER_MAX	   32
#define ORG_SETTINGS_BYTES 4096

uint32_t vault_role_bit(struct str role)
{
	static const struct {
		const char *name;
		uint32_t bit;
	} roles[] = {{"owner", ROLE_OWNER},
		     {"admin", ROLE_ADMIN},
		     {"developer", ROLE_DEVELOPER},
		     {"finance", ROLE_FINANCE},
		     {"auditor", ROLE_AUDITOR}};

	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (str_is(role, roles[i].name))
			return roles[i].bit;
	return 0;
}

static const char *role_name(uint32_t roles)
{
	return roles & ROLE_OWNER	? "owner"
	       : roles & ROLE_ADMIN	? "admin"
	       : roles & ROLE_DEVELOPER ? "developer"
	       : roles & ROLE_FINANCE	? "finance"
					: "auditor";
}

/* The caller's address without its port and brackets; "unix" on a unix socket. */
static struct str peer_ip(const struct http_request *r)
{
	struct str ip = str_from(r->peer);

	while (ip.len > 0 && ip.ptr[ip.len - 1] >= '0' && ip.ptr[ip.len - 1] <= '9')
		ip.len--;
	if (ip.len == 0 || ip.ptr[ip.len - 1] != ':')
		return str_from(r->peer);
	ip.len--;
	return ip.len > 2 && ip.ptr[0] == '[' ? str_of(ip.ptr + 1, ip.len - 2) : ip;
}

struct str vault_actor(struct http_request *r)
{
	const struct principal *p = vault_principal(r);
	AUTO(buf) struct buf text = BUF_INIT(4096);
	struct json_out o;

	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	if (p->roles & ROLE_OPERATOR) {
		json_put_z(&o, "type", "operator");
	} else {
		json_put_z(&o, "type", "api_key");
		json_put_uuid(&o, "id", p->key_id);
		json_put_str(&o, "name", p->name);
		json_put_z(&o, "role", role_name(p->roles));
	}
	json_put_str(&o, "ip", peer_ip(r));
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK) /* a name has 200 characters at most */
		abort();
	return arena_str(r->mem, buf_str(&text));
}

/* Lower-case letters and digits, and behind the first also those of `also`. */
static bool word_ok(struct str s, const char *also)
{
	for (size_t i = 0; i < s.len; i++) {
		const char c = s.ptr[i];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') &&
		    (i == 0 || c == '\0' || !strchr(also, c)))
			return false;
	}
	return s.len > 0;
}

static bool slug_ok(struct str s)
{
	struct uuid id;

	return word_ok(s, "-") && uuid_parse(s, &id) != RC_OK;
}

enum rc vault_bad_field(struct err *err, const char *field, const char *words)
{
	(void)err_set(err, RC_INVALID, "invalid_field", "%s: %s", field, words);
	err_field(err, "%s", field);
	return RC_INVALID;
}

/* Name and tier, where they are given. */
static enum rc read_name_tier(const struct json *body, bool required, struct str *name,
			      struct str *tier, struct err *err)
{
	TRY(admin_str(body, "name", required, ORG_NAME_MAX, name, err));
	TRY(admin_str(body, "tier", false, ORG_TIER_MAX, tier, err));
	if (name->ptr && str_trim(*name).len == 0)
		return vault_bad_field(err, "name", "may not be empty");
	if (tier->ptr && !word_ok(*tier, "-_"))
		return vault_bad_field(err, "tier", "lower-case letters, digits, '-' and '_' only");
	return RC_OK;
}

void orgs_create(struct http_request *r)
{
	struct json *body = admin_body(r, "slug name tier");
	struct str slug = STR_NULL, name = STR_NULL, tier = STR_NULL;
	struct err err = {0};
	struct pg_batch *b;
	enum rc rc;

	if (!body)
		return;
	rc = admin_str(body, "slug", true, ORG_SLUG_MAX, &slug, &err);
	if (rc == RC_OK && !slug_ok(slug))
		rc = vault_bad_field(
			&err, "slug",
			"lower-case letters, digits and '-' only, not the form of an id");
	if (rc == RC_OK)
		rc = read_name_tier(body, true, &name, &tier, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_org_create);
	pg_param_uuid(b, uuid_v7());
	pg_param_str(b, slug);
	pg_param_str(b, name);
	pg_param_str(b, tier.ptr ? tier : STR("standard"));
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 201);
}

void orgs_list(struct http_request *r)
{
	admin_list(r, &sql_vault_org_list, false);
}

void orgs_show(struct http_request *r)
{
	struct pg_batch *b;

	if (!admin_query_only(r, ""))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_org_show);
	admin_run(r, b, 200);
}

/* ---- settings: each has a row; null takes it back to its default ---------------------------------- */

#define KEY_DAYS_MAX 3650

static bool key_days_ok(const struct json *v)
{
	int64_t days;

	return json_int(v, &days) && days >= 1 && days <= KEY_DAYS_MAX;
}

static bool revoked_streams_ok(const struct json *v)
{
	struct str s;

	return json_string(v, &s) && (str_is(s, "cut") || str_is(s, "finish"));
}

static const struct org_setting {
	const char *name, *field;
	bool (*ok)(const struct json *v);
	const char *form;
} org_settings[] = {
	{"key_max_days", "settings.key_max_days", key_days_ok,
	 "is how many days an API key may live, 1 to 3650, or null for ever"},
	{"revoked_streams", "settings.revoked_streams", revoked_streams_ok,
	 "is cut or finish: what becomes of calls that run when their key, org or profile is revoked"},
};

static const struct org_setting *setting_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(org_settings); i++)
		if (str_is(name, org_settings[i].name))
			return &org_settings[i];
	return NULL;
}

/* The settings of the body, in `text`, empty if it has none. */
static enum rc read_settings(const struct json *body, struct buf *text, struct err *err)
{
	const struct json *settings = json_get(body, "settings");
	struct json_iter it = json_iter(settings);
	const struct org_setting *known;
	struct json *v;
	struct str name;

	if (!settings)
		return RC_OK;
	if (json_type(settings) != JSON_OBJECT || json_len(settings) == 0)
		return vault_bad_field(err, "settings", "is an object with the settings to change");
	while (json_next(&it, &name, &v)) {
		known = setting_find(name);
		if (!known) {
			name = str_slice(name, 0, 64);
			err_set(err, RC_INVALID, "unknown_field", "unknown field settings.%.*s",
				STR_FMT(name));
			err_field(err, "settings.%.*s", STR_FMT(name));
			return RC_INVALID;
		}
		if (!json_is_null(v) && !known->ok(v))
			return vault_bad_field(err, known->field, known->form);
	}
	return json_write(settings, text);
}

static enum rc read_change(const struct principal *p, const struct json *body, struct str *name,
			   struct str *tier, struct str *status, struct err *err)
{
	TRY(read_name_tier(body, false, name, tier, err));
	TRY(admin_str(body, "status", false, 16, status, err));
	if (status->ptr && !str_is(*status, "active") && !str_is(*status, "suspended"))
		return vault_bad_field(err, "status", "is active or suspended");
	if (!name->ptr && !tier->ptr && !status->ptr && !json_get(body, "settings"))
		return err_set(err, RC_INVALID, "nothing_to_change",
			       "give at least one of name, tier, status, settings");
	if ((tier->ptr || status->ptr) && !(p->roles & ROLE_OPERATOR))
		return err_set(err, RC_DENIED, "permission_denied",
			       "tier and status are the operator's to change");
	return RC_OK;
}

void orgs_change(struct http_request *r)
{
	struct json *body = admin_body(r, "name tier status settings");
	AUTO(buf) struct buf settings = BUF_INIT(ORG_SETTINGS_BYTES);
	struct str name = STR_NULL, tier = STR_NULL, status = STR_NULL;
	struct err err = {0};
	struct pg_batch *b;
	enum rc rc;

	if (!body)
		return;
	rc = read_change(vault_principal(r), body, &name, &tier, &status, &err);
	if (rc == RC_OK)
		rc = read_settings(body, &settings, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_org_change);
	pg_param_str(b, name);
	pg_param_str(b, tier);
	pg_param_str(b, status);
	pg_param_str(b, settings.len > 0 ? buf_str(&settings) : STR_NULL);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

void orgs_delete(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_org_delete);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
