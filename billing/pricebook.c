/* billing/pricebook.c - the price book in memory: read from Postgres, swapped whole.
 *
 * The control thread reads all sell lines in force in one statement and makes an immutable book;
 * workers take references under a mutex. Read again when a "price" change is announced and when a
 * line starts or ends. A book that cannot be made is never swapped in: the old one keeps serving. */
#include "billing/billing_priv.h"

#include <assert.h>
#include <stdlib.h>
#include "server/base/clock.h"
#include "server/base/log.h"
#include "sql/queries.h"

#define PRICEBOOK_RETRY_MS 500

struct price_book *billing_book(struct worker *w)
{
	struct billing *b = billing_of(w)->b;
	struct price_book *book;

	pthread_mutex_lock(&b->lock);
	book = b->book ? price_book_ref(b->book) : NULL;
	pthread_mutex_unlock(&b->lock);
	return book;
}

static void pricebook_swap(struct billing *b, struct price_book *book)
{
	struct price_book *old;

	pthread_mutex_lock(&b->lock);
	old = b->book;
	b->book = book;
	pthread_mutex_unlock(&b->lock);
	atomic_store(&b->loaded, true);
	price_book_unref(old);
}

/* A class this build does not know leaves its line out: usage can not name it either. */
static size_t pricebook_rows(const struct pg_rows *rows, struct price_row *out)
{
	size_t n = 0;

	for (size_t i = 0; i < pg_row_count(rows); i++) {
		struct price_row *r = &out[n];

		if (usage_class_parse(pg_str(rows, i, 3), &r->class) != RC_OK) {
			log_warn("price of an unknown class left out",
				 LOG_S("class", pg_str(rows, i, 3)));
			continue;
		}
		r->provider = pg_str(rows, i, 0);
		r->model = pg_str(rows, i, 1);
		r->version = pg_int(rows, i, 2);
		r->band_min_input = pg_int(rows, i, 4);
		r->service_tier = pg_str(rows, i, 5);
		r->price_nano = pg_int(rows, i, 6);
		r->per_units = pg_int(rows, i, 7);
		n++;
	}
	return n;
}

static void pricebook_load_soon(void *arg)
{
	pricebook_reload(arg);
}

static bool pricebook_on_rows(struct billing_worker *bw, const struct pg_result *res)
{
	size_t count = pg_row_count(res->rows[0]);
	struct price_row *rows = calloc(count + 1, sizeof *rows);
	struct price_book *book;
	struct err err = {0};
	bool swapped = false;

	if (!rows)
		abort();
	count = pricebook_rows(res->rows[0], rows);
	if (price_book_new(rows, count, &book, &err) == RC_OK) {
		log_info("price book loaded", LOG_INT("models", price_book_models(book)),
			 LOG_INT("lines", count));
		pricebook_swap(bw->b, book);
		swapped = true;
	} else {
		log_error("price book refused", LOG_STR("why", err.message));
	}
	free(rows);
	bw->prices_next_us = pg_is_null(res->rows[1], 0, 0) ? 0 : pg_time_us(res->rows[1], 0, 0);
	return swapped;
}

static void pricebook_on_loaded(void *arg, const struct pg_result *res)
{
	struct billing_worker *bw = arg;

	bw->load_call = NULL;
	if (res->rc == RC_CANCELLED)
		return;
	if (res->rc == RC_OK && res->statements == 2) {
		if (pricebook_on_rows(bw, res) && !bw->prices_wanted)
			bw->prices_behind = 0;
	} else {
		log_debug("price book not loaded", LOG_STR("why", res->message));
	}
	if (res->rc != RC_OK || bw->prices_wanted)
		loop_timer_set(bw->w->loop, &bw->load_timer, PRICEBOOK_RETRY_MS,
			       pricebook_load_soon, bw);
}

void pricebook_reload(struct billing_worker *bw)
{
	struct pg_batch *batch;

	assert(bw->w->control);
	if (bw->load_call)
		return; /* its answer sees prices_wanted */
	bw->prices_wanted = false;
	batch = pg_batch_new();
	pg_batch_add(batch, &sql_billing_prices_load);
	pg_batch_add(batch, &sql_billing_prices_next);
	bw->load_call = pg_submit(bw->w->pg, batch, pricebook_on_loaded, bw);
}

void pricebook_on_change(struct billing_worker *bw, int64_t seq)
{
	if (bw->prices_behind == 0)
		bw->prices_behind = seq;
	bw->prices_wanted = true;
	pricebook_reload(bw);
}

void pricebook_tick(struct worker *control)
{
	struct billing_worker *bw = billing_of(control);

	if (bw->prices_next_us != 0 && clock_wall_us() >= bw->prices_next_us)
		pricebook_reload(bw);
}

void pricebook_start(struct billing_worker *bw)
{
	pricebook_reload(bw);
}

void pricebook_stop(struct billing_worker *bw)
{
	loop_timer_clear(&bw->load_timer);
	if (bw->load_call)
		pg_cancel(bw->load_call);
	bw->load_call = NULL;
}
