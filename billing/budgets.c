/* billing/budgets.c - the control plane of budgets: what an org, a key or an agent may spend.
 *
 * Only reads fields and names statements. What a budget counts and when it refuses is decided where money is held
 * (authorise.c, migration 0015); nothing here may move money. */
#include "billing/endpoints_priv.h"

#include <string.h>
#include "billing/billing_priv.h"
#include "server/admin.h"
#include "server/base/json.h"
#include "sql/queries.h"

enum rc billing_read_money(const struct json *body, const char *field, bool required, bool *given,
			   money_t *ret, struct err *err)
{
	struct str text = STR_NULL;

	TRY(admin_str(body, field, required, MONEY_TEXT_SIZE, &text, err));
	*given = text.ptr != NULL;
	if (!text.ptr || money_parse(text, false, ret) == RC_OK)
		return RC_OK;
	billing_bad_field(err, field, "is not a decimal of credits");
	err_hint(err, "a string such as \"25.00\", not below zero, at most nine places");
	return RC_INVALID;
}

enum rc billing_read_name(const struct json *body, bool required, struct str *ret, struct err *err)
{
	TRY(admin_str(body, "name", required, BILLING_NAME_MAX, ret, err));
	if (ret->ptr && str_trim(*ret).len == 0)
		return billing_bad_field(err, "name", "may not be empty");
	return RC_OK;
}

enum rc billing_read_status(const struct json *body, struct str *ret, struct err *err)
{
	TRY(admin_str(body, "status", false, 16, ret, err));
	if (ret->ptr && !str_is(*ret, "active") && !str_is(*ret, "disabled")) {
		billing_bad_field(err, "status", "is not known");
		err_hint(err, "active or disabled");
		return RC_INVALID;
	}
	return RC_OK;
}

bool billing_path_id(struct http_request *r, const char *what, struct uuid *ret)
{
	struct err err = {0};

	if (uuid_parse(r->params[1], ret) == RC_OK)
		return true;
	http_reply_err(r, err_set(&err, RC_NOT_FOUND, "not_found", "no such %s", what), &err);
	return false;
}

void billing_list(struct http_request *r, const struct sql_query *q, const struct uuid *of)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = billing_org_batch(r, q);
	pg_param_int(b, page.limit);
	if (!billing_page_uuid(r, page.cursor, b))
		return;
	if (of)
		pg_param_uuid(b, *of);
	admin_run(r, b, 200);
}

void billing_submit(struct http_request *r, struct pg_batch *b, int status)
{
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, status);
}

void billing_param_opt(struct pg_batch *b, bool given, int64_t value)
{
	if (given)
		pg_param_int(b, value);
	else
		pg_param_null(b);
}

/* --- budgets ---------------------------------------------------------------------------------- */

struct budget_request {
	struct str name, scope, subject, window;
	money_t limit;
	bool hard;
};

static enum rc read_scope(const struct json *body, struct budget_request *q, struct err *err)
{
	struct uuid key;

	TRY(admin_str(body, "scope", true, 16, &q->scope, err));
	TRY(admin_str(body, "subject", false, BILLING_NAME_MAX, &q->subject, err));
	if (str_is(q->scope, "org"))
		return q->subject.ptr ? billing_bad_field(err, "subject", "is not for scope org")
				      : RC_OK;
	if (!str_is(q->scope, "key") && !str_is(q->scope, "agent")) {
		billing_bad_field(err, "scope", "is not known");
		err_hint(err, "org, key or agent");
		return RC_INVALID;
	}
	if (!q->subject.len) {
		billing_bad_field(err, "subject", "is required for this scope");
		err_hint(err, "the id of an API key, or the name of an agent");
		return RC_INVALID;
	}
	if (str_is(q->scope, "key") && uuid_parse(q->subject, &key) != RC_OK)
		return billing_bad_field(err, "subject", "is not the id of an API key");
	return RC_OK;
}

static enum rc read_budget(const struct json *body, struct budget_request *q, struct err *err)
{
	bool given;

	*q = (struct budget_request){.hard = true, .subject = STR_NULL};
	TRY(billing_read_name(body, true, &q->name, err));
	TRY(read_scope(body, q, err));
	TRY(billing_read_money(body, "limit", true, &given, &q->limit, err));
	TRY(admin_str(body, "window", true, 16, &q->window, err));
	if (!str_is(q->window, "day") && !str_is(q->window, "week") &&
	    !str_is(q->window, "month") && !str_is(q->window, "total")) {
		billing_bad_field(err, "window", "is not known");
		err_hint(err, "day, week, month or total");
		return RC_INVALID;
	}
	return admin_bool(body, "hard", false, &q->hard, err);
}

void budgets_create(struct http_request *r)
{
	struct json *body = admin_body(r, "name scope subject limit window hard");
	struct budget_request q;
	struct err err = {0};
	struct uuid key;
	struct pg_batch *b;
	char canonical[UUID_TEXT_SIZE];
	enum rc rc;

	if (!body)
		return;
	rc = read_budget(body, &q, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = billing_org_batch(r, &sql_billing_budget_create);
	pg_param_uuid(b, uuid_v7());
	pg_param_str(b, q.name);
	pg_param_str(b, q.scope);
	if (str_is(q.scope, "key") && uuid_parse(q.subject, &key) == RC_OK) {
		uuid_format(key, canonical);
		pg_param_z(b, canonical);
	} else {
		pg_param_str(b, q.subject.ptr ? q.subject : STR(""));
	}
	pg_param_int(b, q.limit.nano);
	pg_param_str(b, q.window);
	pg_param_bool(b, q.hard);
	billing_submit(r, b, 201);
}

void budgets_list(struct http_request *r)
{
	billing_list(r, &sql_billing_budgets, NULL);
}

void budgets_show(struct http_request *r)
{
	struct uuid id;
	struct pg_batch *b;

	if (!admin_query_only(r, "") || !billing_path_id(r, "budget", &id))
		return;
	b = billing_org_batch(r, &sql_billing_budget);
	pg_param_uuid(b, id);
	admin_run(r, b, 200);
}

struct budget_patch {
	struct str name, status;
	money_t limit;
	bool limited, hard_given, hard;
};

static enum rc read_budget_patch(const struct json *body, struct budget_patch *p, struct err *err)
{
	*p = (struct budget_patch){.name = STR_NULL, .status = STR_NULL};
	TRY(billing_read_name(body, false, &p->name, err));
	TRY(billing_read_status(body, &p->status, err));
	TRY(billing_read_money(body, "limit", false, &p->limited, &p->limit, err));
	p->hard_given = !json_is_null(json_get(body, "hard"));
	TRY(admin_bool(body, "hard", false, &p->hard, err));
	if (!p->name.ptr && !p->status.ptr && !p->limited && !p->hard_given)
		return err_set(err, RC_INVALID, "nothing_to_change",
			       "give at least one of name, limit, hard, status");
	return RC_OK;
}

void budgets_change(struct http_request *r)
{
	struct json *body = admin_body(r, "name limit hard status");
	struct budget_patch p;
	struct err err = {0};
	struct pg_batch *b;
	struct uuid id;
	enum rc rc;

	if (!body || !billing_path_id(r, "budget", &id))
		return;
	rc = read_budget_patch(body, &p, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = billing_org_batch(r, &sql_billing_budget_change);
	pg_param_uuid(b, id);
	pg_param_str(b, p.name);
	billing_param_opt(b, p.limited, p.limit.nano);
	if (p.hard_given)
		pg_param_bool(b, p.hard);
	else
		pg_param_null(b);
	pg_param_str(b, p.status);
	billing_submit(r, b, 200);
}

void budgets_delete(struct http_request *r)
{
	struct pg_batch *b;
	struct uuid id;

	if (!billing_path_id(r, "budget", &id))
		return;
	b = billing_org_batch(r, &sql_billing_budget_delete);
	pg_param_uuid(b, id);
	billing_submit(r, b, 200);
}
