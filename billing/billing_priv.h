/* billing/billing_priv.h - what billing's own sources share: its state, its queues, its bounds. */
#ifndef BILLING_BILLING_PRIV_H
#define BILLING_BILLING_PRIV_H
#include <pthread.h>
#include <stdatomic.h>
#include "billing/billing.h"
#include "billing/price_priv.h"
#include "server/base/hash.h"
#include "server/base/hist.h"
#include "server/http/http.h"
#include "server/loop.h"
#include "server/pg.h"

#define BILLING_BATCH_ROWS_MAX 500 /* ledger.md 3.3: about 5 ms of Postgres */
/* Holds that wait for their batch, per worker: more than a worker has connections. */
#define BILLING_HOLDS_WAITING_MAX 20000
/* Charges in memory that Postgres has not booked yet, all workers together, some 2 KB each. Past it no
 * further platform call is authorised; usage rows of byok and private calls may fill as much again. */
#define BILLING_UNBOOKED_MAX	65536
#define BILLING_RELEASES_MAX	65536 /* per worker; one that is dropped expires in the database */
#define BILLING_RETRY_MS_MIN	100
#define BILLING_RETRY_MS_MAX	5000
#define BILLING_HOLD_TTL_MS_MIN 1000
#define BILLING_HOLD_TTL_MS_MAX INT64_C(86400000)
#define BILLING_DOC_BYTES_MAX	(256u << 10)
#define BILLING_DOC_PART_MAX	(64u << 10) /* a plan or attempts longer than this is left out */
#define BILLING_DOC_STRING_MAX	512

struct billing_counters {
	struct counter granted, short_, over_budget, suspended, closed, unavailable;
	struct counter booked, repeated, conflicts, refused, retries, dropped;
	struct counter debited_nano, overdraft_nano;
	struct counter released, reclaimed;
	struct counter hold_batches, hold_rows, settle_batches, settle_rows;
	struct counter alerts_budget, alerts_balance;
	struct hist authorise, settle; /* from asking to answer */
};

struct billing { /* one per process: service->state[MODULE_BILLING] */
	struct service *service;
	pthread_mutex_t lock;
	struct price_book *book; /* under lock */
	_Atomic bool loaded;
	_Atomic int64_t unbooked;
	struct billing_counters count;
};

struct billing_op { /* one hold asked for, or one charge to book */
	struct billing_op *next;
	struct billing_worker *bw;
	struct org_id org;
	struct uuid call, hold;
	int attempt;
	money_t amount;
	int64_t asked_us;
	bool cancelled; /* nobody listens any more */
	void *arg;
	/* a hold */
	int64_t ttl_ms;
	struct uuid key_id;
	char agent[BILLING_NAME_MAX + 1]; /* "": none, or none that a budget can be for */
	enum rc refused;		  /* not RC_OK: answered without asking Postgres */
	billing_authorise_cb *on_hold;
	/* a charge */
	uint8_t hash[SHA256_BYTES];
	char *doc; /* owned */
	size_t doc_len;
	billing_settle_cb *on_settle;
};

/* The wait after a failure: doubled from the one before, 0 the first time. */
int64_t billing_retry_ms(int64_t before);

struct op_queue {
	struct billing_op *head, *tail;
	size_t count;
};
void op_queue_push(struct op_queue *q, struct billing_op *op);
void op_queue_push_front(struct op_queue *q, struct billing_op *op);
struct billing_op *op_queue_pop(struct op_queue *q);

/* What goes out in one flight; kept until its answer. */
struct op_batch {
	struct pg_call *call; /* NULL: nothing in flight */
	struct billing_op *op[BILLING_BATCH_ROWS_MAX];
	size_t count;
};
struct release {
	struct org_id org;
	struct uuid hold;
};
struct release_batch {
	struct pg_call *call;
	struct release row[BILLING_BATCH_ROWS_MAX];
	size_t count;
};

struct billing_worker { /* worker->state[MODULE_BILLING] */
	struct worker *w;
	struct billing *b;

	struct op_queue holds;
	struct op_batch hold_batch;
	bool hold_flush_due;

	struct op_queue charges;
	struct op_batch charge_batch;
	bool charge_flush_due;
	size_t charge_rows_max; /* halved when a batch is refused, until the row that is to blame is alone */
	int64_t charge_retry_ms; /* 0: Postgres answers */
	struct loop_timer charge_timer;

	struct release *releases; /* a growing array, first in first out */
	size_t releases_count, releases_cap;
	struct release_batch release_batch;
	bool release_flush_due;
	int64_t release_retry_ms;
	struct loop_timer release_timer;

	/* the control thread alone */
	struct pg_call *load_call, *sweep_call, *partition_call, *alerts_call;
	struct loop_timer load_timer, partition_timer;
	int64_t prices_next_us; /* wall clock; 0: no change in sight */
	bool prices_wanted;	/* a change came since the book was asked for last */
	int64_t prices_behind; /* seq of the first change that the book does not have; 0: it has all */
};

static inline struct billing_worker *billing_of(struct worker *w)
{
	return w->state[MODULE_BILLING];
}

/* settle.c: the descriptive part of a charge as JSON, exposed for its test. `whole` false leaves plan and attempts out. */
MUST_CHECK enum rc settle_doc(const struct billing_charge *c, bool whole, struct buf *out);

void authorise_stop(struct billing_worker *bw);
void settle_stop(struct billing_worker *bw);

/* pricebook.c: the control thread */
void pricebook_start(struct billing_worker *control);
void pricebook_stop(struct billing_worker *control);
void pricebook_reload(struct billing_worker *control);
void pricebook_on_change(struct billing_worker *control, int64_t seq);
void pricebook_tick(struct worker *control); /* a job */

/* alerts.c: the control thread */
void alerts_job(struct worker *control);
void alerts_stop(struct billing_worker *control);

/* Id of the hold of one attempt: the same however often it is asked for. */
struct uuid billing_hold_id(struct uuid call, int attempt);

/* commands_budgets.c */
int budget_run(struct cli *cli, int argc, char **argv);
int alert_run(struct cli *cli, int argc, char **argv);

extern const struct endpoint billing_endpoints[];
extern const struct command billing_commands[];

#endif
