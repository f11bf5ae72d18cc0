/* billing/authorise.c - holds, in batches: money set aside before a call goes upstream.
 *
 * What is asked for in one turn of the loop travels in one batch; while a batch is in flight the next
 * one gathers. A hold's id is made from its attempt, so asking again can never hold twice. Never
 * answers "yes" on its own: without Postgres there is no hold. */
#include "billing/billing_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/clock.h"
#include "server/base/log.h"
#include "sql/queries.h"

void op_queue_push(struct op_queue *q, struct billing_op *op)
{
	op->next = NULL;
	if (q->tail)
		q->tail->next = op;
	else
		q->head = op;
	q->tail = op;
	q->count++;
}

void op_queue_push_front(struct op_queue *q, struct billing_op *op)
{
	op->next = q->head;
	q->head = op;
	if (!q->tail)
		q->tail = op;
	q->count++;
}

struct billing_op *op_queue_pop(struct op_queue *q)
{
	struct billing_op *op = q->head;

	if (!op)
		return NULL;
	q->head = op->next;
	if (!q->head)
		q->tail = NULL;
	q->count--;
	op->next = NULL;
	return op;
}

int64_t billing_retry_ms(int64_t before)
{
	if (before == 0)
		return BILLING_RETRY_MS_MIN;
	return before * 2 < BILLING_RETRY_MS_MAX ? before * 2 : BILLING_RETRY_MS_MAX;
}

struct uuid billing_hold_id(struct uuid call, int attempt)
{
	uint8_t in[sizeof call.b + 8] = {'h', 'o', 'l', 'd'};
	uint8_t digest[SHA256_BYTES];
	struct uuid id;

	for (int i = 0; i < 4; i++)
		in[4 + i] = (uint8_t)((unsigned)attempt >> (24 - 8 * i));
	memcpy(in + 8, call.b, sizeof call.b);
	sha256(str_of(in, sizeof in), digest);
	memcpy(id.b, digest, sizeof id.b);
	id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x80); /* version 8: made from something else */
	id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
	return id;
}

/* --- releases -------------------------------------------------------------------------------- */

static void release_flush(void *arg);

static void release_flush_soon(struct billing_worker *bw)
{
	if (bw->release_flush_due || bw->release_batch.call || bw->release_retry_ms)
		return;
	bw->release_flush_due = true;
	loop_defer(bw->w->loop, release_flush, bw);
}

static void release_push(struct billing_worker *bw, struct release r)
{
	if (bw->releases_count == BILLING_RELEASES_MAX) {
		log_warn("release dropped: the hold expires instead", LOG_UUID("hold", r.hold));
		return;
	}
	if (bw->releases_count == bw->releases_cap) {
		bw->releases_cap = bw->releases_cap ? 2 * bw->releases_cap : 64;
		bw->releases = realloc(bw->releases, bw->releases_cap * sizeof *bw->releases);
		if (!bw->releases)
			abort();
	}
	bw->releases[bw->releases_count++] = r;
}

static void release_retry(void *arg)
{
	struct billing_worker *bw = arg;

	release_flush(bw);
}

static void release_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;
	struct release_batch *batch = &bw->release_batch;

	batch->call = NULL;
	if (res->rc == RC_OK) {
		counter_add(&bw->b->count.released, batch->count);
		bw->release_retry_ms = 0;
		if (bw->releases_count)
			release_flush_soon(bw);
		return;
	}
	if (res->rc == RC_CANCELLED)
		return;
	if (res->rc != RC_UNAVAILABLE) {
		log_error("release refused: the holds expire instead",
			  LOG_STR("why", res->message));
		bw->release_retry_ms = 0;
		if (bw->releases_count)
			release_flush_soon(bw);
		return;
	}
	for (size_t i = 0; i < batch->count; i++)
		release_push(bw, batch->row[i]);
	bw->release_retry_ms = billing_retry_ms(bw->release_retry_ms);
	loop_timer_set(bw->w->loop, &bw->release_timer, bw->release_retry_ms, release_retry, bw);
}

static void release_flush(void *arg)
{
	struct billing_worker *bw = arg;
	struct release_batch *batch = &bw->release_batch;
	struct uuid org[BILLING_BATCH_ROWS_MAX], hold[BILLING_BATCH_ROWS_MAX];
	struct pg_batch *pb;
	size_t n = bw->releases_count;

	bw->release_flush_due = false;
	if (batch->call || n == 0)
		return;
	if (n > BILLING_BATCH_ROWS_MAX)
		n = BILLING_BATCH_ROWS_MAX;
	memcpy(batch->row, bw->releases, n * sizeof *bw->releases);
	batch->count = n;
	bw->releases_count -= n;
	memmove(bw->releases, bw->releases + n, bw->releases_count * sizeof *bw->releases);
	for (size_t i = 0; i < n; i++) {
		org[i] = batch->row[i].org.u;
		hold[i] = batch->row[i].hold;
	}
	pb = pg_batch_new();
	pg_batch_add(pb, &sql_billing_release);
	pg_param_uuid_array(pb, org, n);
	pg_param_uuid_array(pb, hold, n);
	batch->call = pg_submit(bw->w->pg, pb, release_on_done, bw);
}

void billing_release(struct worker *w, struct org_id org, struct billing_hold hold)
{
	struct billing_worker *bw = billing_of(w);

	if (uuid_is_zero(hold.id))
		return;
	release_push(bw, (struct release){org, hold.id});
	release_flush_soon(bw);
}

/* --- holds ----------------------------------------------------------------------------------- */

static void hold_flush(void *arg);

static void hold_flush_soon(struct billing_worker *bw)
{
	if (bw->hold_flush_due || bw->hold_batch.call)
		return;
	bw->hold_flush_due = true;
	loop_defer(bw->w->loop, hold_flush, bw);
}

/* Answer and forget; a hold that nobody waits for any more goes back. */
static void hold_answer(struct billing_op *op, enum rc rc, money_t granted,
			const struct billing_shortfall *shortfall)
{
	struct billing_hold hold = {.id = op->hold, .amount = granted};

	hist_add(&op->bw->b->count.authorise, clock_mono_us() - op->asked_us);
	if (rc != RC_OK)
		hold = (struct billing_hold){0};
	if (!op->cancelled)
		op->on_hold(op->arg, rc, hold, shortfall);
	else if (rc == RC_OK)
		billing_release(op->bw->w, op->org, hold);
	free(op);
}

static void shortfall_of_budget(const struct pg_rows *rows, size_t i, struct billing_shortfall *s)
{
	struct str name = pg_str(rows, i, 6);

	assert(name.len < sizeof s->budget_name);
	s->budget = pg_uuid(rows, i, 5);
	memcpy(s->budget_name, name.ptr, name.len);
}

static void hold_on_row(struct billing_op *op, const struct pg_rows *rows, size_t i)
{
	struct billing_counters *count = &op->bw->b->count;
	struct str outcome = pg_str(rows, i, 1);
	struct billing_shortfall shortfall = {.needed = op->amount,
					      .available = money_nano(pg_int(rows, i, 3)),
					      .held = money_nano(pg_int(rows, i, 4))};

	if (str_is(outcome, "granted")) {
		counter_add(&count->granted, 1);
		hold_answer(op, RC_OK, money_nano(pg_int(rows, i, 2)), NULL);
	} else if (str_is(outcome, "short")) {
		counter_add(&count->short_, 1);
		hold_answer(op, RC_LIMIT, MONEY_ZERO, &shortfall);
	} else if (str_is(outcome, "over_budget")) {
		counter_add(&count->over_budget, 1);
		shortfall_of_budget(rows, i, &shortfall);
		hold_answer(op, RC_LIMIT, MONEY_ZERO, &shortfall);
	} else if (str_is(outcome, "closed")) {
		counter_add(&count->closed, 1);
		hold_answer(op, RC_CONFLICT, MONEY_ZERO, NULL);
	} else { /* suspended, or an org that is gone */
		counter_add(&count->suspended, 1);
		hold_answer(op, RC_DENIED, MONEY_ZERO, NULL);
	}
}

static void hold_on_failed(struct billing_op *op, const struct pg_result *res)
{
	counter_add(&op->bw->b->count.unavailable, 1);
	if (res->outcome_unknown) /* it may have been granted */
		billing_release(op->bw->w, op->org, (struct billing_hold){op->hold, op->amount});
	hold_answer(op, RC_UNAVAILABLE, MONEY_ZERO, NULL);
}

static void hold_on_done(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;
	struct op_batch *batch = &bw->hold_batch;
	size_t n = batch->count;
	/* answered from a copy: a callback may ask for the next hold, never for this batch */
	struct billing_op *op[BILLING_BATCH_ROWS_MAX];

	memcpy(op, batch->op, n * sizeof *op);
	batch->count = 0;
	batch->call = NULL;
	if (res->rc == RC_OK)
		assert(res->statements == 1 && pg_row_count(res->rows[0]) == n);
	else if (res->rc != RC_UNAVAILABLE && res->rc != RC_CANCELLED)
		log_error("holds refused by the database", LOG_STR("why", res->message),
			  LOG_INT("rows", n));
	for (size_t i = 0; i < n; i++) {
		if (res->rc == RC_OK)
			hold_on_row(op[i], res->rows[0], i);
		else
			hold_on_failed(op[i], res);
	}
	if (bw->holds.count)
		hold_flush_soon(bw);
}

static void hold_submit(struct billing_worker *bw)
{
	struct op_batch *batch = &bw->hold_batch;
	struct uuid org[BILLING_BATCH_ROWS_MAX], hold[BILLING_BATCH_ROWS_MAX],
		call[BILLING_BATCH_ROWS_MAX], key[BILLING_BATCH_ROWS_MAX];
	int64_t attempt[BILLING_BATCH_ROWS_MAX], amount[BILLING_BATCH_ROWS_MAX],
		ttl_ms[BILLING_BATCH_ROWS_MAX];
	struct str agent[BILLING_BATCH_ROWS_MAX];
	struct pg_batch *pb = pg_batch_new();

	for (size_t i = 0; i < batch->count; i++) {
		const struct billing_op *op = batch->op[i];

		org[i] = op->org.u;
		hold[i] = op->hold;
		call[i] = op->call;
		attempt[i] = op->attempt;
		amount[i] = op->amount.nano;
		ttl_ms[i] = op->ttl_ms;
		key[i] = op->key_id;
		agent[i] = op->agent[0] ? str_from(op->agent) : STR_NULL;
	}
	pg_batch_add(pb, &sql_billing_hold);
	pg_param_uuid_array(pb, org, batch->count);
	pg_param_uuid_array(pb, hold, batch->count);
	pg_param_uuid_array(pb, call, batch->count);
	pg_param_int_array(pb, attempt, batch->count);
	pg_param_int_array(pb, amount, batch->count);
	pg_param_int_array(pb, ttl_ms, batch->count);
	pg_param_uuid_array(pb, key, batch->count);
	pg_param_str_array(pb, agent, batch->count);
	counter_add(&bw->b->count.hold_batches, 1);
	counter_add(&bw->b->count.hold_rows, batch->count);
	batch->call = pg_submit(bw->w->pg, pb, hold_on_done, bw);
}

static void hold_flush(void *arg)
{
	struct billing_worker *bw = arg;
	struct op_batch *batch = &bw->hold_batch;
	struct billing_op *op;

	bw->hold_flush_due = false;
	if (batch->call)
		return;
	batch->count = 0;
	while (batch->count < BILLING_BATCH_ROWS_MAX && (op = op_queue_pop(&bw->holds))) {
		if (op->cancelled) {
			free(op);
		} else if (op->refused != RC_OK) {
			counter_add(&bw->b->count.unavailable, 1);
			hold_answer(op, op->refused, MONEY_ZERO, NULL);
		} else if (op->amount.nano == 0) {
			op->hold = (struct uuid){{0}}; /* nothing to hold */
			hold_answer(op, RC_OK, MONEY_ZERO, NULL);
		} else {
			batch->op[batch->count++] = op;
		}
	}
	if (batch->count)
		hold_submit(bw);
	else if (bw->holds.count)
		hold_flush_soon(bw);
}

/* A name that no budget can have is left out: what a caller writes in a header must not make a batch unreadable. */
static void hold_agent(struct billing_op *op, struct str agent)
{
	if (agent.len > 0 && agent.len < sizeof op->agent && str_is_utf8(agent) &&
	    !memchr(agent.ptr, 0, agent.len))
		memcpy(op->agent, agent.ptr, agent.len);
}

struct billing_op *billing_authorise(struct worker *w, struct org_id org, struct uuid call,
				     int attempt, const struct billing_payer *payer, money_t amount,
				     int64_t ttl_ms, billing_authorise_cb *cb, void *arg)
{
	struct billing_worker *bw = billing_of(w);
	struct billing_op *op = calloc(1, sizeof *op);

	assert(attempt >= 1 && amount.nano >= 0);
	if (!op)
		abort();
	*op = (struct billing_op){.bw = bw,
				  .org = org,
				  .call = call,
				  .attempt = attempt,
				  .amount = amount,
				  .key_id = payer->key_id,
				  .hold = billing_hold_id(call, attempt),
				  .asked_us = clock_mono_us(),
				  .on_hold = cb,
				  .arg = arg};
	hold_agent(op, payer->agent);
	op->ttl_ms = ttl_ms < BILLING_HOLD_TTL_MS_MIN	? BILLING_HOLD_TTL_MS_MIN
		     : ttl_ms > BILLING_HOLD_TTL_MS_MAX ? BILLING_HOLD_TTL_MS_MAX
							: ttl_ms;
	/* What is finished must stay bookable: with too much of it unbooked nothing new is begun. */
	if (bw->holds.count >= BILLING_HOLDS_WAITING_MAX ||
	    atomic_load(&bw->b->unbooked) >= BILLING_UNBOOKED_MAX)
		op->refused = RC_UNAVAILABLE;
	op_queue_push(&bw->holds, op);
	hold_flush_soon(bw);
	return op;
}

void billing_authorise_cancel(struct billing_op *op)
{
	if (op)
		op->cancelled = true; /* freed when its turn or its answer comes */
}

void authorise_stop(struct billing_worker *bw)
{
	struct billing_op *op;

	loop_defer_cancel(bw->w->loop, hold_flush, bw);
	loop_defer_cancel(bw->w->loop, release_flush, bw);
	loop_timer_clear(&bw->release_timer);
	if (bw->hold_batch.call)
		pg_cancel(bw->hold_batch.call);
	if (bw->release_batch.call)
		pg_cancel(bw->release_batch.call);
	if (bw->hold_batch.call)
		for (size_t i = 0; i < bw->hold_batch.count; i++)
			free(bw->hold_batch.op[i]);
	bw->hold_batch.call = NULL;
	bw->release_batch.call = NULL;
	while ((op = op_queue_pop(&bw->holds)))
		free(op);
	free(bw->releases);
	bw->releases = NULL;
	bw->releases_count = bw->releases_cap = 0;
}
