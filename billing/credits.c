/* billing/credits.c - the control plane of money: balances, grants, ledger entries, usage.
 *
 * Handlers read parameters, name one statement and answer with the jsonb it returns; row-level
 * security decides what an org sees. Only grants and top-ups write, only for the operator, and only
 * under an Idempotency-Key. */
#include "billing/endpoints_priv.h"

#include <string.h>
#include "billing/billing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "sql/queries.h"

#define REASON_MAX	    500
#define IDEMPOTENCY_KEY_MAX 255
#define PRIORITY_MAX	    100
#define USAGE_RANGE_US_MAX  (INT64_C(400) * 86400 * 1000000)
#define USAGE_RANGE_US_DEF  (INT64_C(30) * 86400 * 1000000)

enum rc billing_bad_field(struct err *err, const char *field, const char *words)
{
	err_set(err, RC_INVALID, "invalid_field", "%s %s", field, words);
	err_field(err, "%s", field);
	return RC_INVALID;
}

struct pg_batch *billing_org_batch(struct http_request *r, const struct sql_query *q)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, q);
	return b;
}

/* --- credits --------------------------------------------------------------------------------- */

void credits_show(struct http_request *r)
{
	if (admin_query_only(r, ""))
		admin_run(r, billing_org_batch(r, &sql_billing_credits), 200);
}

/* A cursor that is an id: the last one seen. Empty: NULL. */
bool billing_page_uuid(struct http_request *r, struct str cursor, struct pg_batch *b)
{
	struct uuid id;
	struct err err = {0};

	if (cursor.len == 0) {
		pg_param_null(b);
		return true;
	}
	if (uuid_parse(cursor, &id) == RC_OK) {
		pg_param_uuid(b, id);
		return true;
	}
	pg_batch_free(b);
	err_set(&err, RC_INVALID, "invalid_cursor", "cursor is not one of this list");
	http_reply_err(r, RC_INVALID, &err);
	return false;
}

bool billing_page_int(struct http_request *r, struct str cursor, struct pg_batch *b)
{
	int64_t n;
	struct err err = {0};

	if (cursor.len == 0) {
		pg_param_null(b);
		return true;
	}
	if (str_to_i64(cursor, &n) == RC_OK) {
		pg_param_int(b, n);
		return true;
	}
	pg_batch_free(b);
	err_set(&err, RC_INVALID, "invalid_cursor", "cursor is not one of this list");
	http_reply_err(r, RC_INVALID, &err);
	return false;
}

void grants_list(struct http_request *r)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = billing_org_batch(r, &sql_billing_grants);
	pg_param_int(b, page.limit);
	if (billing_page_uuid(r, page.cursor, b))
		admin_run(r, b, 200);
}

struct grant_request {
	struct str category, reason;
	money_t amount;
	int64_t priority;
	bool expires;
	int64_t expires_us;
};

static enum rc read_amount(const struct json *body, money_t *ret, struct err *err)
{
	struct str text = STR_NULL;

	TRY(admin_str(body, "amount", true, MONEY_TEXT_SIZE, &text, err));
	if (money_parse(text, false, ret) != RC_OK) {
		billing_bad_field(err, "amount", "is not a decimal of credits");
		err_hint(err, "a string such as \"10.00\", at most nine places");
		return RC_INVALID;
	}
	return ret->nano > 0 ? RC_OK : billing_bad_field(err, "amount", "must be above zero");
}

static enum rc read_grant(const struct json *body, bool top_up, struct grant_request *g,
			  struct err *err)
{
	struct str expires = STR_NULL;

	*g = (struct grant_request){.category = STR("paid"), .priority = 50};
	TRY(read_amount(body, &g->amount, err));
	TRY(admin_str(body, "reason", true, REASON_MAX, &g->reason, err));
	if (top_up)
		return RC_OK;
	TRY(admin_str(body, "category", false, 16, &g->category, err));
	if (!str_is(g->category, "paid") && !str_is(g->category, "promo") &&
	    !str_is(g->category, "included")) {
		billing_bad_field(err, "category", "is not known");
		err_hint(err, "paid, promo or included");
		return RC_INVALID;
	}
	TRY(admin_int(body, "priority", false, 0, PRIORITY_MAX, &g->priority, err));
	TRY(admin_str(body, "expires_at", false, CLOCK_RFC3339_SIZE + 8, &expires, err));
	g->expires = expires.ptr != NULL;
	if (g->expires && clock_parse_rfc3339(expires, &g->expires_us) != RC_OK)
		return billing_bad_field(err, "expires_at", "is not an RFC 3339 time");
	return RC_OK;
}

static enum rc read_key(const struct http_request *r, struct str *ret, struct err *err)
{
	struct str key = http_header(r, "idempotency-key");

	if (!key.ptr || key.len == 0) {
		err_set(err, RC_INVALID, "idempotency_key_required",
			"the Idempotency-Key header is required where money moves");
		err_hint(err, "send a fresh random key, and the same one when you repeat");
		return RC_INVALID;
	}
	if (key.len > IDEMPOTENCY_KEY_MAX || !str_is_utf8(key)) {
		err_set(err, RC_INVALID, "invalid_idempotency_key",
			"Idempotency-Key is too long or no text");
		return RC_INVALID;
	}
	*ret = key;
	return RC_OK;
}

static void grant_book(struct http_request *r, const char *operation, struct str key,
		       const struct grant_request *g)
{
	struct pg_batch *b = billing_org_batch(r, &sql_billing_credit_grant);

	pg_param_str(b, key);
	pg_param_z(b, operation);
	pg_param_str(b, g->category);
	pg_param_int(b, g->amount.nano);
	pg_param_int(b, g->priority);
	if (g->expires)
		pg_param_time(b, g->expires_us);
	else
		pg_param_null(b);
	pg_param_str(b, g->reason);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 201);
}

static void grant_handle(struct http_request *r, bool top_up)
{
	struct json *body = admin_body(r, top_up ? "amount reason"
						 : "amount category priority expires_at reason");
	struct grant_request g;
	struct str key = STR_NULL;
	struct err err = {0};
	enum rc rc;

	if (!body)
		return;
	rc = read_key(r, &key, &err);
	if (rc == RC_OK)
		rc = read_grant(body, top_up, &g, &err);
	if (rc == RC_OK)
		grant_book(r, top_up ? "topup" : "grant", key, &g);
	else
		http_reply_err(r, rc, &err);
}

void grants_create(struct http_request *r)
{
	grant_handle(r, false);
}

void topup_create(struct http_request *r)
{
	grant_handle(r, true);
}

/* --- ledger ---------------------------------------------------------------------------------- */

void ledger_entries(struct http_request *r)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = billing_org_batch(r, &sql_billing_ledger_entries);
	pg_param_int(b, page.limit);
	if (billing_page_int(r, page.cursor, b))
		admin_run(r, b, 200);
}

/* --- usage ----------------------------------------------------------------------------------- */

/* "req_<uuid>", or the uuid alone. */
static enum rc call_id(struct str text, struct uuid *ret)
{
	if (str_starts(text, STR("req_")))
		text = str_slice(text, 4, text.len);
	return uuid_parse(text, ret);
}

/* Last call and attempt seen: "<uuid>-<attempt>". */
static bool page_call(struct http_request *r, struct str cursor, struct pg_batch *b)
{
	struct uuid id;
	int64_t attempt;
	struct err err = {0};

	if (cursor.len == 0) {
		pg_param_null(b);
		pg_param_null(b);
		return true;
	}
	if (cursor.len > UUID_TEXT_SIZE && cursor.ptr[UUID_TEXT_SIZE - 1] == '-' &&
	    uuid_parse(str_slice(cursor, 0, UUID_TEXT_SIZE - 1), &id) == RC_OK &&
	    str_to_i64(str_slice(cursor, UUID_TEXT_SIZE, cursor.len), &attempt) == RC_OK) {
		pg_param_uuid(b, id);
		pg_param_int(b, attempt);
		return true;
	}
	pg_batch_free(b);
	err_set(&err, RC_INVALID, "invalid_cursor", "cursor is not one of this list");
	http_reply_err(r, RC_INVALID, &err);
	return false;
}

void calls_list(struct http_request *r)
{
	struct admin_page page;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return;
	b = billing_org_batch(r, &sql_billing_calls);
	pg_param_int(b, page.limit);
	if (page_call(r, page.cursor, b))
		admin_run(r, b, 200);
}

static void no_such_call(struct http_request *r)
{
	struct err err = {0};

	err_set(&err, RC_NOT_FOUND, "call_not_found", "no call of this id is booked or open");
	http_reply_err(r, RC_NOT_FOUND, &err);
}

void calls_show(struct http_request *r)
{
	struct uuid id;
	struct pg_batch *b;

	if (!admin_query_only(r, ""))
		return;
	if (call_id(r->params[1], &id) != RC_OK) {
		no_such_call(r);
		return;
	}
	b = billing_org_batch(r, &sql_billing_call);
	pg_param_uuid(b, id);
	admin_run(r, b, 200);
}

static const char *const dimensions[] = {"day", "model", "profile", "billing_source",
					 "key", "agent", "provider"};

static enum rc read_dimensions(struct str list, bool asked[ARRAY_LEN(dimensions)], struct err *err)
{
	struct str rest = list;

	while (rest.ptr) {
		struct str name = str_trim(str_cut(&rest, ','));
		size_t i = 0;

		while (i < ARRAY_LEN(dimensions) && !str_is(name, dimensions[i]))
			i++;
		if (i == ARRAY_LEN(dimensions)) {
			err_set(err, RC_INVALID, "invalid_parameter",
				"group_by does not know \"%.*s\"", STR_FMT(name));
			err_field(err, "group_by");
			err_hint(err, "day, model, profile, billing_source, key, agent, provider");
			return RC_INVALID;
		}
		asked[i] = true;
	}
	return RC_OK;
}

/* A time, or a day, which is its first moment. */
static enum rc read_time(struct http_request *r, const char *name, int64_t otherwise, int64_t *ret,
			 struct err *err)
{
	struct str text = http_query(r, name);

	*ret = otherwise;
	if (!text.ptr)
		return RC_OK;
	if (text.len == 10)
		text = arena_printf(r->mem, "%.*sT00:00:00Z", STR_FMT(text));
	if (clock_parse_rfc3339(text, ret) == RC_OK)
		return RC_OK;
	err_set(err, RC_INVALID, "invalid_parameter", "%s is neither an RFC 3339 time nor a date",
		name);
	err_field(err, "%s", name);
	return RC_INVALID;
}

static enum rc read_range(struct http_request *r, int64_t *from_us, int64_t *to_us, struct err *err)
{
	TRY(read_time(r, "to", clock_wall_us() + 1, to_us, err));
	TRY(read_time(r, "from", *to_us - USAGE_RANGE_US_DEF, from_us, err));
	if (*from_us < *to_us && *to_us - *from_us <= USAGE_RANGE_US_MAX)
		return RC_OK;
	err_set(err, RC_INVALID, "invalid_parameter",
		"from must be before to, at most 400 days apart");
	err_field(err, "from");
	return RC_INVALID;
}

void usage_sums(struct http_request *r)
{
	bool asked[ARRAY_LEN(dimensions)] = {false};
	int64_t from_us = 0, to_us = 0;
	struct str list;
	struct pg_batch *b;
	struct err err = {0};
	enum rc rc;

	if (!admin_query_only(r, "from to group_by"))
		return;
	list = http_query(r, "group_by");
	rc = read_dimensions(list.ptr ? list : STR("day,model,billing_source"), asked, &err);
	if (rc == RC_OK)
		rc = read_range(r, &from_us, &to_us, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = billing_org_batch(r, &sql_billing_usage);
	pg_param_time(b, from_us);
	pg_param_time(b, to_us);
	for (size_t i = 0; i < ARRAY_LEN(dimensions); i++)
		pg_param_bool(b, asked[i]);
	admin_run(r, b, 200);
}

/* --- the data plane's two, called by who knows the caller's org -------------------------------- */

/* What an SDK-less client reads: the object itself, without the control plane's envelope. */
static void reply_plain(struct http_request *r, const struct pg_result *res, void *arg)
{
	struct err err = {0};

	if (res->rc != RC_OK)
		http_reply_err(r, pg_result_err(res, &err), &err);
	else if (pg_row_count(res->rows[0]) == 0)
		no_such_call(r);
	else
		http_reply(r, 200, pg_str(res->rows[0], 0, 0));
}

void billing_reply_credits(struct http_request *r, struct org_id org)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org(b, org);
	pg_batch_add(b, &sql_billing_credits);
	admin_run_cb(r, b, reply_plain, NULL);
}

void billing_reply_generation(struct http_request *r, struct org_id org, struct str request_id)
{
	struct uuid id;
	struct pg_batch *b;

	if (call_id(request_id, &id) != RC_OK) {
		no_such_call(r);
		return;
	}
	b = pg_batch_new();
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_billing_call);
	pg_param_uuid(b, id);
	admin_run_cb(r, b, reply_plain, NULL);
}
