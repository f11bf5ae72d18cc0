/* billing/settle.c - booking what a call cost, exactly once, however often it must be tried.
 *
 * A charge becomes a row of keys and money, and a JSON document of everything else, made once: its
 * hash is what tells a repetition from a conflict. Charges travel in batches, one in flight per
 * worker. While Postgres is away they stay in memory and are tried again (100 ms doubling to 5 s). A
 * batch that the database refuses is halved until the row to blame is alone; that row is set aside
 * in settle_conflict and the rest proceeds. A charge is never dropped because it is inconvenient. */
#include "billing/billing_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/clock.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "sql/queries.h"

/* --- the document ------------------------------------------------------------------------------ */

/* Postgres' jsonb takes no NUL: what a caller or provider named with one must not make a charge unbookable. */
static void doc_put(struct json_out *o, const char *key, struct str s)
{
	char copy[BILLING_DOC_STRING_MAX];
	size_t n = s.len < sizeof copy ? s.len : sizeof copy;

	if (!s.ptr) {
		json_put_null(o, key);
		return;
	}
	for (size_t i = 0; i < n; i++)
		copy[i] = s.ptr[i] ? s.ptr[i] : '?';
	json_put_str(o, key, str_of(copy, n));
}

static void doc_put_part(struct json_out *o, const char *key, struct str json)
{
	bool fits = json.len > 0 && json.len <= BILLING_DOC_PART_MAX &&
		    str_find_str(json, STR("\\u0000")) < 0;

	if (fits)
		json_put_raw(o, key, json);
	else
		json_put_null(o, key);
}

static void doc_put_usage(struct json_out *o, const struct usage *u)
{
	json_obj(o, "usage");
	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++) {
		if (u->n[c] != 0)
			json_put_int(o, usage_class_name((enum usage_class)c), u->n[c]);
	}
	json_obj_end(o);
}

static void doc_put_line(struct json_out *o, const struct rating_line *l)
{
	char text[MONEY_TEXT_SIZE];

	json_obj(o, NULL);
	json_put_z(o, "class", usage_class_name(l->class));
	json_put_int(o, "units", l->units);
	json_put_str(o, "price", money_format_short(money_nano(l->price_nano), text));
	json_put_int(o, "per", l->per_units);
	json_put_str(o, "amount", money_format(l->amount, text));
	json_obj_end(o);
}

/* An amount that no price made (usage that could not be rated) is a line of its own: lines always
 * add up to their amount. */
static void doc_put_lines(struct json_out *o, const struct rating *r)
{
	json_arr(o, "lines");
	for (size_t i = 0; i < r->lines; i++)
		doc_put_line(o, &r->line[i]);
	if (r->lines == 0 && r->amount.nano > 0)
		doc_put_line(
			o, &(struct rating_line){USAGE_requests, 1, r->amount.nano, 1, r->amount});
	json_arr_end(o);
}

static void doc_put_rating(struct json_out *o, const struct billing_charge *c)
{
	json_put_int(o, "flags", (int64_t)(c->usage.flags | (c->rated ? c->rating.flags : 0u)));
	if (!c->rated)
		return;
	if (c->rating.version > 0)
		json_put_int(o, "price_version", c->rating.version);
	json_put_int(o, "rated_amount", c->rating.amount.nano);
	doc_put_lines(o, &c->rating);
}

static void doc_put_who(struct json_out *o, const struct billing_charge *c)
{
	json_put_z(o, "source", billing_source_name(c->source));
	doc_put(o, "provider", c->provider);
	doc_put(o, "model_requested", c->model_requested);
	doc_put(o, "model_used", c->model_used);
	doc_put(o, "profile", c->profile);
	if (!uuid_is_zero(c->key_id))
		json_put_uuid(o, "key_id", c->key_id);
	doc_put(o, "agent", c->agent);
	doc_put(o, "dialect", c->dialect);
	doc_put(o, "provider_request_id", c->provider_request_id);
}

enum rc settle_doc(const struct billing_charge *c, bool whole, struct buf *out)
{
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_z(&o, "status", c->void_call ? "void" : "settled");
	json_put_z(&o, "basis", billing_basis_name(c->basis));
	doc_put_who(&o, c);
	doc_put_rating(&o, c);
	if (c->usage.present || usage_total_in(&c->usage) || usage_total_out(&c->usage))
		doc_put_usage(&o, &c->usage);
	if (c->usage.provider_cost_nano >= 0)
		json_put_int(&o, "provider_cost_nano", c->usage.provider_cost_nano);
	doc_put_part(&o, "attempts", whole ? c->attempts_json : STR_NULL);
	doc_put_part(&o, "plan", whole ? c->plan_json : STR_NULL);
	json_put_int(&o, "duration_ms", c->duration_ms);
	if (c->first_event_ms >= 0)
		json_put_int(&o, "first_event_ms", c->first_event_ms);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* --- asking -------------------------------------------------------------------------------------- */

static void charge_flush(void *arg);

static void charge_flush_soon(struct billing_worker *bw)
{
	if (bw->charge_flush_due || bw->charge_batch.call || bw->charge_retry_ms)
		return;
	bw->charge_flush_due = true;
	loop_defer(bw->w->loop, charge_flush, bw);
}

/* Over key, hold, money and document: a repetition has the same, anything else is a conflict. */
static void charge_hash(struct billing_op *op)
{
	AUTO(buf) struct buf in = BUF_INIT(BILLING_DOC_BYTES_MAX + 256);
	char org[UUID_TEXT_SIZE], call[UUID_TEXT_SIZE], hold[UUID_TEXT_SIZE];
	enum rc rc;

	uuid_format(op->org.u, org);
	uuid_format(op->call, call);
	uuid_format(op->hold, hold);
	rc = buf_printf(&in, "charge/1\n%s\n%s\n%d\n%s\n%lld\n", org, call, op->attempt, hold,
			(long long)op->amount.nano);
	assert(rc == RC_OK);
	rc = buf_append(&in, str_of(op->doc, op->doc_len));
	assert(rc == RC_OK);
	sha256(buf_str(&in), op->hash);
}

static void charge_doc(struct billing_op *op, const struct billing_charge *c)
{
	struct buf doc = BUF_INIT(BILLING_DOC_BYTES_MAX);

	if (settle_doc(c, true, &doc) != RC_OK) {
		enum rc rc;

		buf_clear(&doc);
		rc = settle_doc(c, false, &doc);
		assert(rc == RC_OK); /* all that is left is bounded well below the cap */
	}
	op->doc_len = doc.len;
	op->doc = buf_take(&doc).ptr;
}

/* Only what the platform paid for, was delivered and has a price is money. */
static money_t charge_amount(const struct billing_charge *c)
{
	if (c->source != BILLING_PLATFORM || c->void_call || !c->rated)
		return MONEY_ZERO;
	return c->rating.amount;
}

struct billing_op *billing_settle(struct worker *w, const struct billing_charge *c,
				  billing_settle_cb *cb, void *arg)
{
	struct billing_worker *bw = billing_of(w);
	struct billing_op *op = calloc(1, sizeof *op);

	assert(c->attempt >= 1);
	assert(c->source == BILLING_PLATFORM || uuid_is_zero(c->hold.id));
	if (!op)
		abort();
	*op = (struct billing_op){.bw = bw,
				  .org = c->org,
				  .call = c->call,
				  .attempt = c->attempt,
				  .hold = c->hold.id,
				  .amount = charge_amount(c),
				  .asked_us = clock_mono_us(),
				  .on_settle = cb,
				  .cancelled = cb == NULL,
				  .arg = arg};
	assert(op->amount.nano >= 0 && op->amount.nano <= MONEY_NANO_MAX);
	charge_doc(op, c);
	charge_hash(op);
	/* Usage that is no money may not crowd out money: past the bound its rows are let go, counted. */
	if (c->source != BILLING_PLATFORM &&
	    atomic_load(&bw->b->unbooked) >= 2 * BILLING_UNBOOKED_MAX)
		op->refused = RC_UNAVAILABLE;
	else
		atomic_fetch_add(&bw->b->unbooked, 1);
	op_queue_push(&bw->charges, op);
	charge_flush_soon(bw);
	return op;
}

void billing_settle_detach(struct billing_op *op)
{
	if (op)
		op->cancelled = true;
}

/* --- answers ------------------------------------------------------------------------------------- */

static void charge_free(struct billing_op *op)
{
	free(op->doc);
	free(op);
}

static void charge_answer(struct billing_op *op, enum rc rc, money_t debited)
{
	if (op->refused == RC_OK) {
		int64_t before = atomic_fetch_sub(&op->bw->b->unbooked, 1);

		assert(before > 0);
	}
	hist_add(&op->bw->b->count.settle, clock_mono_us() - op->asked_us);
	if (!op->cancelled)
		op->on_settle(op->arg, rc, debited);
	charge_free(op);
}

static void charge_on_overdraft(const struct billing_op *op, int64_t over)
{
	counter_add(&op->bw->b->count.overdraft_nano, (uint64_t)over);
	log_warn("overdraft: a call cost more than its hold and the balance",
		 LOG_UUID("call", op->call), LOG_UUID("org_id", op->org.u),
		 LOG_INT("over_nano", over));
}

static void charge_on_row(struct billing_op *op, const struct pg_rows *rows, size_t i)
{
	struct billing_counters *count = &op->bw->b->count;
	struct str outcome = pg_str(rows, i, 1);
	money_t debited = money_nano(pg_int(rows, i, 2));
	int64_t over = pg_int(rows, i, 3);

	if (str_is(outcome, "new")) {
		counter_add(&count->booked, 1);
		counter_add(&count->debited_nano, (uint64_t)debited.nano);
		if (over > 0)
			charge_on_overdraft(op, over);
		charge_answer(op, RC_OK, debited);
	} else if (str_is(outcome, "dup")) {
		counter_add(&count->repeated, 1);
		charge_answer(op, RC_OK, debited);
	} else {
		counter_add(&count->conflicts, 1);
		log_error("charge set aside", LOG_S("why", outcome), LOG_UUID("call", op->call),
			  LOG_UUID("org_id", op->org.u), LOG_INT("attempt", op->attempt),
			  LOG_INT("amount_nano", op->amount.nano));
		charge_answer(op, RC_CONFLICT, MONEY_ZERO);
	}
}

static void charge_retry(void *arg)
{
	struct billing_worker *bw = arg;

	charge_flush(bw);
}

static void charge_put_back(struct billing_worker *bw)
{
	struct op_batch *batch = &bw->charge_batch;

	for (size_t i = batch->count; i-- > 0;)
		op_queue_push_front(&bw->charges, batch->op[i]);
	batch->count = 0;
}

static void charge_on_away(struct billing_worker *bw, const struct pg_result *res)
{
	counter_add(&bw->b->count.retries, 1);
	if (bw->charge_retry_ms == 0)
		log_warn("charges wait for Postgres", LOG_STR("why", res->message),
			 LOG_INT("unbooked", atomic_load(&bw->b->unbooked)));
	bw->charge_retry_ms = billing_retry_ms(bw->charge_retry_ms);
	charge_put_back(bw);
	loop_timer_set(bw->w->loop, &bw->charge_timer, bw->charge_retry_ms, charge_retry, bw);
}

static void charge_answered_again(struct billing_worker *bw)
{
	if (bw->charge_retry_ms)
		log_info("charges are booked again",
			 LOG_INT("unbooked", atomic_load(&bw->b->unbooked)));
	bw->charge_retry_ms = 0;
}

/* One row is alone and was refused: it is in settle_conflict now. */
static void charge_on_set_aside(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;
	struct op_batch *batch = &bw->charge_batch;
	struct billing_op *op = batch->op[0];

	batch->call = NULL;
	if (res->rc == RC_CANCELLED) {
		charge_put_back(bw);
		return;
	}
	if (res->rc != RC_OK) {
		charge_on_away(bw, res); /* it is met again, alone */
		return;
	}
	charge_answered_again(bw);
	batch->count = 0;
	bw->charge_rows_max = BILLING_BATCH_ROWS_MAX;
	counter_add(&bw->b->count.refused, 1);
	charge_answer(op, RC_CONFLICT, MONEY_ZERO);
	if (bw->charges.count)
		charge_flush_soon(bw);
}

static void charge_set_aside(struct billing_worker *bw, const struct pg_result *res)
{
	const struct billing_op *op = bw->charge_batch.op[0];
	struct pg_batch *pb = pg_batch_new();

	log_error("charge refused by the database: set aside", LOG_STR("why", res->message),
		  LOG_UUID("call", op->call), LOG_UUID("org_id", op->org.u),
		  LOG_INT("amount_nano", op->amount.nano));
	pg_batch_add(pb, &sql_billing_settle_refused);
	pg_param_uuid(pb, op->org.u);
	pg_param_uuid(pb, op->call);
	pg_param_int(pb, op->attempt);
	pg_param_uuid(pb, op->hold);
	pg_param_int(pb, op->amount.nano);
	pg_param_bytes(pb, str_of(op->hash, sizeof op->hash));
	pg_param_str(pb, str_of(op->doc, op->doc_len));
	pg_param_z(pb, res->message);
	bw->charge_batch.call = pg_submit(bw->w->pg, pb, charge_on_set_aside, bw);
}

static void charge_on_refused(struct billing_worker *bw, const struct pg_result *res)
{
	if (bw->charge_batch.count == 1) {
		charge_set_aside(bw, res);
		return;
	}
	bw->charge_rows_max = bw->charge_batch.count / 2;
	charge_put_back(bw);
	charge_flush_soon(bw);
}

static void charge_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;
	struct op_batch *batch = &bw->charge_batch;
	struct billing_op *op[BILLING_BATCH_ROWS_MAX];
	size_t n = batch->count;

	batch->call = NULL;
	if (res->rc == RC_CANCELLED) {
		charge_put_back(bw); /* the pool is going: settle_stop() counts what is left */
		return;
	}
	if (res->rc == RC_UNAVAILABLE || res->rc == RC_TIMEOUT) {
		charge_on_away(bw, res);
		return;
	}
	charge_answered_again(bw);
	if (res->rc != RC_OK) {
		charge_on_refused(bw, res);
		return;
	}
	assert(res->statements == 1 && pg_row_count(res->rows[0]) == n);
	memcpy(op, batch->op, n * sizeof *op);
	batch->count = 0;
	bw->charge_rows_max = bw->charge_rows_max * 2 < BILLING_BATCH_ROWS_MAX
				      ? bw->charge_rows_max * 2
				      : BILLING_BATCH_ROWS_MAX;
	for (size_t i = 0; i < n; i++)
		charge_on_row(op[i], res->rows[0], i);
	if (bw->charges.count)
		charge_flush_soon(bw);
}

static void charge_submit(struct billing_worker *bw)
{
	struct op_batch *batch = &bw->charge_batch;
	struct uuid org[BILLING_BATCH_ROWS_MAX], call[BILLING_BATCH_ROWS_MAX],
		hold[BILLING_BATCH_ROWS_MAX];
	int64_t attempt[BILLING_BATCH_ROWS_MAX], amount[BILLING_BATCH_ROWS_MAX];
	struct str hash[BILLING_BATCH_ROWS_MAX], doc[BILLING_BATCH_ROWS_MAX];
	struct pg_batch *pb = pg_batch_new();

	for (size_t i = 0; i < batch->count; i++) {
		const struct billing_op *op = batch->op[i];

		org[i] = op->org.u;
		call[i] = op->call;
		hold[i] = op->hold;
		attempt[i] = op->attempt;
		amount[i] = op->amount.nano;
		hash[i] = str_of(op->hash, sizeof op->hash);
		doc[i] = str_of(op->doc, op->doc_len);
	}
	pg_batch_add(pb, &sql_billing_settle);
	pg_param_uuid_array(pb, org, batch->count);
	pg_param_uuid_array(pb, call, batch->count);
	pg_param_int_array(pb, attempt, batch->count);
	pg_param_uuid_array(pb, hold, batch->count);
	pg_param_int_array(pb, amount, batch->count);
	pg_param_bytes_array(pb, hash, batch->count);
	pg_param_str_array(pb, doc, batch->count);
	counter_add(&bw->b->count.settle_batches, 1);
	counter_add(&bw->b->count.settle_rows, batch->count);
	batch->call = pg_submit(bw->w->pg, pb, charge_on_done, bw);
}

static void charge_flush(void *arg)
{
	struct billing_worker *bw = arg;
	struct op_batch *batch = &bw->charge_batch;
	struct billing_op *op;

	bw->charge_flush_due = false;
	if (batch->call)
		return;
	batch->count = 0;
	while (batch->count < bw->charge_rows_max && (op = op_queue_pop(&bw->charges))) {
		if (op->refused == RC_OK) {
			batch->op[batch->count++] = op;
			continue;
		}
		counter_add(&bw->b->count.dropped, 1);
		charge_answer(op, op->refused, MONEY_ZERO);
	}
	if (batch->count)
		charge_submit(bw);
}

/* Charges that are left are lost with the process: a drain waits for busy() to prevent it. */
void settle_stop(struct billing_worker *bw)
{
	struct billing_op *op;

	loop_defer_cancel(bw->w->loop, charge_flush, bw);
	loop_timer_clear(&bw->charge_timer);
	if (bw->charge_batch.call) {
		pg_cancel(bw->charge_batch.call);
		bw->charge_batch.call = NULL;
		charge_put_back(bw);
	}
	if (bw->charges.count)
		log_error("stopping with charges that are not booked",
			  LOG_INT("charges", bw->charges.count));
	while ((op = op_queue_pop(&bw->charges)))
		charge_free(op);
}
