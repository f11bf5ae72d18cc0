/* billing/billing.c - the module: names, start and stop, jobs, metrics. */
#include "billing/billing_priv.h"

#include <assert.h>
#include <stdlib.h>
#include "server/base/log.h"
#include "sql/queries.h"

#define SWEEP_EVERY_MS	      5000
#define SWEEP_LEASES_MAX      5000
#define SWEEP_ORGS_MAX	      500
#define PARTITIONS_EVERY_MS   3600000
#define PARTITIONS_RETRY_MS   1000
#define PRICES_CHECK_EVERY_MS 1000
#define ALERTS_EVERY_MS	      5000

static const char *const source_names[] = {
	[BILLING_PLATFORM] = "platform", [BILLING_BYOK] = "byok", [BILLING_PRIVATE] = "private"};

const char *billing_source_name(enum billing_source s)
{
	assert((unsigned)s < ARRAY_LEN(source_names));
	return source_names[s];
}

enum rc billing_source_parse(struct str s, enum billing_source *ret)
{
	for (unsigned i = 0; i < ARRAY_LEN(source_names); i++) {
		if (str_is(s, source_names[i])) {
			*ret = (enum billing_source)i;
			return RC_OK;
		}
	}
	return RC_INVALID;
}

const char *billing_basis_name(enum billing_basis b)
{
	static const char *const names[] = {[BASIS_PROVIDER_USAGE] = "provider_usage",
					    [BASIS_PROVIDER_COST] = "provider_cost",
					    [BASIS_EST_MISSING] = "est_missing",
					    [BASIS_EST_DISCONNECT] = "est_disconnect",
					    [BASIS_EST_PARTIAL] = "est_partial",
					    [BASIS_NONE] = "none"};

	assert((unsigned)b < ARRAY_LEN(names));
	return names[b];
}

/* --- jobs on the control thread --------------------------------------------------------------- */

static void grants_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;

	bw->sweep_call = NULL;
}

/* A batch of its own: one transaction locks balances in one ascending order, and each of the two has its own. */
static void sweep_grants(struct billing_worker *bw)
{
	struct pg_batch *pb = pg_batch_new();

	pg_batch_add(pb, &sql_billing_grant_expire);
	pg_param_int(pb, SWEEP_ORGS_MAX);
	bw->sweep_call = pg_submit(bw->w->pg, pb, grants_on_done, bw);
}

static void sweep_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;

	bw->sweep_call = NULL;
	if (res->rc != RC_OK)
		return; /* the next round comes soon */
	sweep_grants(bw);
	if (pg_int(res->rows[0], 0, 0) > 0) {
		counter_add(&bw->b->count.reclaimed, (uint64_t)pg_int(res->rows[0], 0, 0));
		log_info("holds past their expiry given back",
			 LOG_INT("holds", pg_int(res->rows[0], 0, 0)));
	}
}

static void sweep_job(struct worker *control)
{
	struct billing_worker *bw = billing_of(control);
	struct pg_batch *pb;

	if (bw->sweep_call || !pg_is_up(control->pg))
		return;
	pb = pg_batch_new();
	pg_batch_add(pb, &sql_billing_lease_expire);
	pg_param_int(pb, SWEEP_LEASES_MAX);
	bw->sweep_call = pg_submit(control->pg, pb, sweep_on_done, bw);
}

static void partitions_job(struct worker *control);

static void partitions_again(void *arg)
{
	struct billing_worker *bw = arg;

	partitions_job(bw->w);
}

static void partitions_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;

	bw->partition_call = NULL;
	if (res->rc == RC_CANCELLED)
		return;
	if (res->rc != RC_OK)
		loop_timer_set(bw->w->loop, &bw->partition_timer, PARTITIONS_RETRY_MS,
			       partitions_again, bw);
	else if (pg_int(res->rows[0], 0, 0) > 0)
		log_info("usage partitions made", LOG_INT("count", pg_int(res->rows[0], 0, 0)));
}

static void partitions_job(struct worker *control)
{
	struct billing_worker *bw = billing_of(control);
	struct pg_batch *pb;

	if (bw->partition_call)
		return;
	pb = pg_batch_new();
	pg_batch_add(pb, &sql_billing_partitions);
	bw->partition_call = pg_submit(control->pg, pb, partitions_on_done, bw);
}

/* --- start and stop ----------------------------------------------------------------------------- */

static enum rc billing_start(struct service *s, struct err *err)
{
	struct billing *b = calloc(1, sizeof *b);

	if (!b)
		abort();
	b->service = s;
	pthread_mutex_init(&b->lock, NULL);
	s->state[MODULE_BILLING] = b;
	return RC_OK;
}

static enum rc billing_worker_start(struct worker *w, struct err *err)
{
	struct billing_worker *bw = calloc(1, sizeof *bw);

	if (!bw)
		abort();
	bw->w = w;
	bw->b = w->service->state[MODULE_BILLING];
	bw->charge_rows_max = BILLING_BATCH_ROWS_MAX;
	w->state[MODULE_BILLING] = bw;
	if (w->control) {
		pricebook_start(bw);
		partitions_job(w);
	}
	return RC_OK;
}

static void billing_worker_stop(struct worker *w)
{
	struct billing_worker *bw = billing_of(w);

	if (!bw)
		return;
	pricebook_stop(bw);
	alerts_stop(bw);
	loop_timer_clear(&bw->partition_timer);
	if (bw->sweep_call)
		pg_cancel(bw->sweep_call);
	if (bw->partition_call)
		pg_cancel(bw->partition_call);
	settle_stop(bw);
	authorise_stop(bw);
	free(bw);
	w->state[MODULE_BILLING] = NULL;
}

static void billing_stop(struct service *s)
{
	struct billing *b = s->state[MODULE_BILLING];

	if (!b)
		return;
	price_book_unref(b->book);
	pthread_mutex_destroy(&b->lock);
	free(b);
	s->state[MODULE_BILLING] = NULL;
}

/* Every thread is told; the book is one for all of them, and the control thread reads it. */
static void billing_on_change(struct worker *w, const struct change *c)
{
	if (!w->control)
		return;
	if (uuid_is_zero(c->org.u) || str_is(str_from(c->kind), "price"))
		pricebook_on_change(billing_of(w), c->seq);
}

static int64_t billing_behind(struct service *s)
{
	return billing_of(s->control)->prices_behind;
}

static bool billing_ready(struct service *s, struct buf *reasons)
{
	struct billing *b = s->state[MODULE_BILLING];

	if (atomic_load(&b->loaded))
		return true;
	if (buf_printf(reasons, "%sprice book not loaded", reasons->len ? "; " : "") != RC_OK)
		return false;
	return false;
}

static bool billing_busy(struct service *s)
{
	struct billing *b = s->state[MODULE_BILLING];

	return atomic_load(&b->unbooked) > 0;
}

/* --- metrics ------------------------------------------------------------------------------------- */

static void sample(struct metrics_out *out, const char *name, const char *labels,
		   const struct counter *c)
{
	metrics_sample(out, name, labels, (int64_t)counter_get(c));
}

static void metrics_holds(const struct billing_counters *n, struct metrics_out *out)
{
	const char *name = "tollgate_billing_holds_total";

	metrics_family(out, name, "counter", "Holds asked for, by outcome.");
	sample(out, name, "outcome=\"granted\"", &n->granted);
	sample(out, name, "outcome=\"short\"", &n->short_);
	sample(out, name, "outcome=\"over_budget\"", &n->over_budget);
	sample(out, name, "outcome=\"denied\"", &n->suspended);
	sample(out, name, "outcome=\"closed\"", &n->closed);
	sample(out, name, "outcome=\"unavailable\"", &n->unavailable);
	metrics_family(out, "tollgate_billing_holds_released_total", "counter",
		       "Holds given back unused.");
	sample(out, "tollgate_billing_holds_released_total", "", &n->released);
	metrics_family(out, "tollgate_billing_holds_reclaimed_total", "counter",
		       "Holds reclaimed past their expiry.");
	sample(out, "tollgate_billing_holds_reclaimed_total", "", &n->reclaimed);
	metrics_family(out, "tollgate_billing_authorise_seconds", "histogram",
		       "From asking for a hold to its answer.");
	metrics_hist(out, "tollgate_billing_authorise_seconds", "", &n->authorise);
}

static void metrics_charges(const struct billing_counters *n, struct metrics_out *out)
{
	const char *name = "tollgate_billing_charges_total";

	metrics_family(out, name, "counter", "Charges sent to Postgres, by outcome.");
	sample(out, name, "outcome=\"booked\"", &n->booked);
	sample(out, name, "outcome=\"repeated\"", &n->repeated);
	sample(out, name, "outcome=\"conflict\"", &n->conflicts);
	sample(out, name, "outcome=\"refused\"", &n->refused);
	sample(out, name, "outcome=\"dropped\"", &n->dropped);
	metrics_family(out, "tollgate_billing_settle_retries_total", "counter",
		       "Batches of charges that have to be tried again.");
	sample(out, "tollgate_billing_settle_retries_total", "", &n->retries);
	metrics_family(out, "tollgate_billing_debited_nano_total", "counter",
		       "Nano-credits debited by this process.");
	sample(out, "tollgate_billing_debited_nano_total", "", &n->debited_nano);
	metrics_family(out, "tollgate_billing_overdraft_nano_total", "counter",
		       "Nano-credits booked as overdraft by this process.");
	sample(out, "tollgate_billing_overdraft_nano_total", "", &n->overdraft_nano);
	metrics_family(out, "tollgate_billing_settle_seconds", "histogram",
		       "From the end of a call to its committed charge.");
	metrics_hist(out, "tollgate_billing_settle_seconds", "", &n->settle);
}

static void metrics_batches(const struct billing_counters *n, struct metrics_out *out)
{
	metrics_family(out, "tollgate_billing_batches_total", "counter", "Batches sent, by kind.");
	sample(out, "tollgate_billing_batches_total", "kind=\"hold\"", &n->hold_batches);
	sample(out, "tollgate_billing_batches_total", "kind=\"settle\"", &n->settle_batches);
	metrics_family(out, "tollgate_billing_batch_rows_total", "counter",
		       "Rows in those batches, by kind.");
	sample(out, "tollgate_billing_batch_rows_total", "kind=\"hold\"", &n->hold_rows);
	sample(out, "tollgate_billing_batch_rows_total", "kind=\"settle\"", &n->settle_rows);
}

static void billing_metrics(struct service *s, struct metrics_out *out)
{
	struct billing *b = s->state[MODULE_BILLING];

	metrics_holds(&b->count, out);
	metrics_charges(&b->count, out);
	metrics_batches(&b->count, out);
	metrics_family(out, "tollgate_alerts_total", "counter",
		       "Alert thresholds crossed, as this process found them.");
	sample(out, "tollgate_alerts_total", "metric=\"budget\"", &b->count.alerts_budget);
	sample(out, "tollgate_alerts_total", "metric=\"balance\"", &b->count.alerts_balance);
	metrics_family(out, "tollgate_billing_unbooked", "gauge",
		       "Charges in memory that are not booked yet.");
	metrics_sample(out, "tollgate_billing_unbooked", "", atomic_load(&b->unbooked));
}

/* --- the table ------------------------------------------------------------------------------------- */

static const struct job jobs[] = {
	{"billing_sweep", SWEEP_EVERY_MS, sweep_job},
	{"billing_partitions", PARTITIONS_EVERY_MS, partitions_job},
	{"billing_prices", PRICES_CHECK_EVERY_MS, pricebook_tick},
	{"billing_alerts", ALERTS_EVERY_MS, alerts_job},
	{NULL, 0, NULL},
};

const struct module billing_module = {
	.name = "billing",
	.slot = MODULE_BILLING,
	.endpoints = billing_endpoints,
	.commands = billing_commands,
	.jobs = jobs,
	.metrics = billing_metrics,
	.start = billing_start,
	.worker_start = billing_worker_start,
	.worker_stop = billing_worker_stop,
	.stop = billing_stop,
	.on_change = billing_on_change,
	.behind = billing_behind,
	.ready = billing_ready,
	.busy = billing_busy,
};
