/* vault/audit.c - the control plane's /orgs/{org}/audit: who did what in an org, read only.
 *
 * Rows are written by the SQL functions that do the thing itself, in its own transaction; nothing here
 * may ever write or change one. */
#include "server/admin.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define AUDIT_ACTION_MAX 64

bool audit_action_ok(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.ptr[i] < 'a' || s.ptr[i] > 'z') && s.ptr[i] != '_' && s.ptr[i] != '.')
			return false;
	return s.len > 0 && s.len <= AUDIT_ACTION_MAX;
}

void audit_list(struct http_request *r)
{
	struct str action = http_query(r, "action");
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor action") || !admin_page(r, &page))
		return;
	if (action.ptr && !audit_action_ok(action)) {
		(void)admin_refuse(r, "invalid_field", "action",
				   "action: is the beginning of an action's name",
				   "for example action=profile. or action=api_key.revoke");
		return;
	}
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_vault_audit_list);
	pg_param_int(b, page.limit);
	pg_param_str(b, page.cursor.ptr ? page.cursor : STR(""));
	pg_param_str(b, action.ptr ? action : STR(""));
	admin_run(r, b, 200);
}
