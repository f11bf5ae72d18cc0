/* billing/alerts.c - thresholds on budgets and balances: their control plane, and the job that finds crossings.
 *
 * The job runs on the control thread, one at a time over all instances; whoever moves money does nothing for an
 * alert. An event is a row in the database first; the log line and the metric follow it and may be missed by a
 * process that dies between the two. */
#include "billing/endpoints_priv.h"

#include "billing/billing_priv.h"
#include "server/admin.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "sql/queries.h"

#define PERCENT_MAX	   1000
#define CHANGES_OF_RUN_MAX 500

struct alert_request {
	struct str name, metric, status;
	bool of_budget;
	struct uuid budget;
	bool by_percent, by_amount;
	int64_t percent;
	money_t threshold;
};

static enum rc read_thresholds(const struct json *body, struct alert_request *q, struct err *err)
{
	q->by_percent = !json_is_null(json_get(body, "threshold_percent"));
	TRY(admin_int(body, "threshold_percent", false, 1, PERCENT_MAX, &q->percent, err));
	TRY(billing_read_money(body, "threshold", false, &q->by_amount, &q->threshold, err));
	if (q->by_percent && q->by_amount)
		return billing_bad_field(err, "threshold",
					 "and threshold_percent are not given together");
	return RC_OK;
}

static enum rc read_subject(const struct json *body, struct alert_request *q, struct err *err)
{
	struct str budget = STR_NULL;

	TRY(admin_str(body, "metric", true, 16, &q->metric, err));
	TRY(admin_str(body, "budget", false, 64, &budget, err));
	q->of_budget = str_is(q->metric, "budget");
	if (!q->of_budget && !str_is(q->metric, "balance")) {
		billing_bad_field(err, "metric", "is not known");
		err_hint(err, "budget or balance");
		return RC_INVALID;
	}
	if (!q->of_budget && budget.ptr)
		return billing_bad_field(err, "budget", "is not for metric balance");
	if (q->of_budget && (!budget.ptr || uuid_parse(budget, &q->budget) != RC_OK))
		return billing_bad_field(err, "budget", "is not the id of a budget");
	return RC_OK;
}

static enum rc read_alert(const struct json *body, struct alert_request *q, struct err *err)
{
	*q = (struct alert_request){.name = STR_NULL};
	TRY(billing_read_name(body, true, &q->name, err));
	TRY(read_subject(body, q, err));
	TRY(read_thresholds(body, q, err));
	if (q->by_percent && !q->of_budget)
		return billing_bad_field(err, "threshold_percent",
					 "has no limit to be taken of: give threshold");
	if (!q->by_percent && !q->by_amount) {
		billing_bad_field(err, "threshold", "is required");
		err_hint(err, q->of_budget ? "threshold in credits, or threshold_percent"
					   : "in credits: what is left when the alert is given");
		return RC_INVALID;
	}
	return RC_OK;
}

static void param_thresholds(struct pg_batch *b, const struct alert_request *q)
{
	billing_param_opt(b, q->by_percent, q->percent);
	billing_param_opt(b, q->by_amount, q->threshold.nano);
}

void alerts_create(struct http_request *r)
{
	struct json *body = admin_body(r, "name metric budget threshold_percent threshold");
	struct alert_request q;
	struct err err = {0};
	struct pg_batch *b;
	enum rc rc;

	if (!body)
		return;
	rc = read_alert(body, &q, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = billing_org_batch(r, &sql_billing_alert_create);
	pg_param_uuid(b, uuid_v7());
	pg_param_str(b, q.name);
	pg_param_str(b, q.metric);
	if (q.of_budget)
		pg_param_uuid(b, q.budget);
	else
		pg_param_null(b);
	param_thresholds(b, &q);
	billing_submit(r, b, 201);
}

void alerts_list(struct http_request *r)
{
	billing_list(r, &sql_billing_alerts, NULL);
}

void alerts_show(struct http_request *r)
{
	struct uuid id;
	struct pg_batch *b;

	if (!admin_query_only(r, "") || !billing_path_id(r, "alert", &id))
		return;
	b = billing_org_batch(r, &sql_billing_alert);
	pg_param_uuid(b, id);
	admin_run(r, b, 200);
}

void alerts_events(struct http_request *r)
{
	struct uuid id;

	if (billing_path_id(r, "alert", &id))
		billing_list(r, &sql_billing_alert_events, &id);
}

static enum rc read_alert_patch(const struct json *body, struct alert_request *q, struct err *err)
{
	*q = (struct alert_request){.name = STR_NULL, .status = STR_NULL};
	TRY(billing_read_name(body, false, &q->name, err));
	TRY(billing_read_status(body, &q->status, err));
	TRY(read_thresholds(body, q, err));
	if (!q->name.ptr && !q->status.ptr && !q->by_percent && !q->by_amount)
		return err_set(err, RC_INVALID, "nothing_to_change",
			       "give at least one of name, threshold, threshold_percent, status");
	return RC_OK;
}

void alerts_change(struct http_request *r)
{
	struct json *body = admin_body(r, "name threshold_percent threshold status");
	struct alert_request q;
	struct err err = {0};
	struct pg_batch *b;
	struct uuid id;
	enum rc rc;

	if (!body || !billing_path_id(r, "alert", &id))
		return;
	rc = read_alert_patch(body, &q, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = billing_org_batch(r, &sql_billing_alert_change);
	pg_param_uuid(b, id);
	pg_param_str(b, q.name);
	param_thresholds(b, &q);
	pg_param_str(b, q.status);
	billing_submit(r, b, 200);
}

void alerts_delete(struct http_request *r)
{
	struct pg_batch *b;
	struct uuid id;

	if (!billing_path_id(r, "alert", &id))
		return;
	b = billing_org_batch(r, &sql_billing_alert_delete);
	pg_param_uuid(b, id);
	billing_submit(r, b, 200);
}

/* --- the job ------------------------------------------------------------------------------------ */

static void alert_tell(struct billing *b, const struct pg_rows *rows, size_t i)
{
	const bool budget = str_is(pg_str(rows, i, 3), "budget");

	counter_add(budget ? &b->count.alerts_budget : &b->count.alerts_balance, 1);
	log_warn("alert: threshold crossed", LOG_UUID("org_id", pg_uuid(rows, i, 0)),
		 LOG_UUID("alert", pg_uuid(rows, i, 1)), LOG_S("name", pg_str(rows, i, 2)),
		 LOG_STR("metric", budget ? "budget" : "balance"),
		 LOG_INT("value_nano", pg_int(rows, i, 4)),
		 LOG_INT("threshold_nano", pg_int(rows, i, 5)));
}

static void alerts_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;

	bw->alerts_call = NULL;
	if (res->rc != RC_OK)
		return; /* the next round comes soon */
	for (size_t i = 0; i < pg_row_count(res->rows[0]); i++)
		alert_tell(bw->b, res->rows[0], i);
}

void alerts_job(struct worker *control)
{
	struct billing_worker *bw = billing_of(control);
	struct pg_batch *pb;

	if (bw->alerts_call || !pg_is_up(control->pg))
		return;
	pb = pg_batch_new();
	pg_batch_add(pb, &sql_billing_alerts_run);
	pg_param_int(pb, CHANGES_OF_RUN_MAX);
	bw->alerts_call = pg_submit(control->pg, pb, alerts_on_done, bw);
}

void alerts_stop(struct billing_worker *control)
{
	if (control->alerts_call)
		pg_cancel(control->alerts_call);
	control->alerts_call = NULL;
}
