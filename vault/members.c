/* vault/members.c - the control plane's /orgs/{org}/members: the people of an org and their roles.
 *
 * Forms are checked here; who may grant, change and remove whom, and what becomes of a member's keys, is one
 * SQL function each. A member has no secret: what signs in is an API key that may belong to one. */
#include <string.h>

#include "server/admin.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define EMAIL_LEN_MAX	254 /* RFC 5321 4.5.3.1 */
#define EMAIL_LOCAL_MAX 64
#define EMAIL_LABEL_MAX 63

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Words of letters, digits and `also`, with one dot between. */
static bool local_ok(struct str s)
{
	static const char also[] = "!#$%&'*+-/=?^_`{|}~";

	if (s.len == 0 || s.len > EMAIL_LOCAL_MAX || s.ptr[0] == '.' || s.ptr[s.len - 1] == '.')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == '.'
			    ? s.ptr[i - 1] == '.'
			    : !is_alnum(s.ptr[i]) && (s.ptr[i] == '\0' || !strchr(also, s.ptr[i])))
			return false;
	return true;
}

static bool label_ok(struct str s)
{
	if (s.len == 0 || s.len > EMAIL_LABEL_MAX || s.ptr[0] == '-' || s.ptr[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.ptr[i]) && s.ptr[i] != '-')
			return false;
	return true;
}

bool member_email_ok(struct str s)
{
	struct str domain = s, local = str_cut(&domain, '@');

	if (s.len > EMAIL_LEN_MAX || !domain.ptr || !local_ok(local) || str_find(domain, '.') < 0)
		return false;
	while (domain.ptr)
		if (!label_ok(str_cut(&domain, '.')))
			return false;
	return true;
}

static struct str lower(struct arena *mem, struct str s)
{
	char *copy = arena_alloc(mem, s.len + 1);

	for (size_t i = 0; i < s.len; i++)
		copy[i] = (char)(s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? s.ptr[i] + 32 : s.ptr[i]);
	return str_of(copy, s.len);
}

static enum rc read_role(const struct json *body, struct str *role, struct err *err)
{
	TRY(admin_str(body, "role", true, 16, role, err));
	if (!vault_role_bit(*role))
		return vault_bad_field(err, "role",
				       "is one of owner, admin, developer, finance, auditor");
	return RC_OK;
}

static enum rc read_email(struct http_request *r, const struct json *body, struct str *email,
			  struct err *err)
{
	TRY(admin_str(body, "email", true, EMAIL_LEN_MAX, email, err));
	*email = lower(r->mem, str_trim(*email));
	if (!member_email_ok(*email))
		return vault_bad_field(err, "email", "is an address such as ann@example.com");
	return RC_OK;
}

/* The {member} of the path; answers 404 itself. */
static bool member_id(struct http_request *r, struct uuid *ret)
{
	struct err err = {0};

	if (uuid_parse(r->params[1], ret) == RC_OK)
		return true;
	http_reply_err(r, err_set(&err, RC_NOT_FOUND, "not_found", "no such member"), &err);
	return false;
}

void members_invite(struct http_request *r)
{
	struct json *body = admin_body(r, "email role");
	struct str email = STR_NULL, role = STR_NULL;
	struct err err = {0};
	struct pg_batch *b;
	enum rc rc;

	if (!body)
		return;
	rc = read_email(r, body, &email, &err);
	if (rc == RC_OK)
		rc = read_role(body, &role, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_member_invite);
	pg_param_uuid(b, uuid_v7());
	pg_param_str(b, email);
	pg_param_str(b, role);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 201);
}

void members_list(struct http_request *r)
{
	admin_list(r, &sql_vault_member_list, true);
}

void members_show(struct http_request *r)
{
	struct pg_batch *b;
	struct uuid id;

	if (!admin_query_only(r, "") || !member_id(r, &id))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_member_show);
	pg_param_uuid(b, id);
	admin_run(r, b, 200);
}

void members_change(struct http_request *r)
{
	struct json *body = admin_body(r, "role");
	struct str role = STR_NULL;
	struct err err = {0};
	struct pg_batch *b;
	struct uuid id;
	enum rc rc;

	if (!body || !member_id(r, &id))
		return;
	rc = read_role(body, &role, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_member_role);
	pg_param_uuid(b, id);
	pg_param_str(b, role);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

void members_remove(struct http_request *r)
{
	struct pg_batch *b;
	struct uuid id;

	if (!member_id(r, &id))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_member_remove);
	pg_param_uuid(b, id);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
