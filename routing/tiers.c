/* routing/tiers.c - tier rules of the platform: write, read, delete. The operator's alone to change.
 *
 * Only rules that are held: in SQL when a profile or a key is made, in plan.c when a call is routed. */
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "sql/queries.h"

#define TIER_LABEL_MAX 200
#define TIER_COUNT_MAX 1000000

struct tier_fields {
	struct str label;
	bool byok, private;
	int64_t max_profiles, max_api_keys; /* -1: no limit */
};

static enum rc read_fields(const struct json *body, struct tier_fields *f, struct err *err)
{
	TRY(admin_str(body, "label", false, TIER_LABEL_MAX, &f->label, err));
	TRY(admin_bool(body, "byok", false, &f->byok, err));
	TRY(admin_bool(body, "private", false, &f->private, err));
	TRY(admin_int(body, "max_profiles", false, 0, TIER_COUNT_MAX, &f->max_profiles, err));
	return admin_int(body, "max_api_keys", false, 0, TIER_COUNT_MAX, &f->max_api_keys, err);
}

static void param_limit(struct pg_batch *b, int64_t n)
{
	if (n < 0)
		pg_param_null(b);
	else
		pg_param_int(b, n);
}

void handle_tier_put(struct http_request *r)
{
	struct json *body = admin_body(r, "label byok private max_profiles max_api_keys");
	struct tier_fields f = {r->params[0], true, true, -1, -1};
	struct err e = {0};
	struct pg_batch *b;
	enum rc rc;

	if (!body)
		return;
	rc = read_fields(body, &f, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	if (str_trim(f.label).len == 0) {
		admin_refuse(r, "invalid_field", "label", "label is empty",
			     "leave it out for the tier's name");
		return;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_tier_put);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, f.label);
	pg_param_bool(b, f.byok);
	pg_param_bool(b, f.private);
	param_limit(b, f.max_profiles);
	param_limit(b, f.max_api_keys);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

void handle_tier_list(struct http_request *r)
{
	admin_list(r, &sql_routing_tiers_list, false);
}

void handle_tier_show(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_routing_tier_show);
	pg_param_str(b, r->params[0]);
	admin_run(r, b, 200);
}

void handle_tier_delete(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_routing_tier_delete);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
