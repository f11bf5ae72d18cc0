/* billing/price_priv.h - how a price book is made: the pricebook's loader and the tests. */
#ifndef BILLING_PRICE_PRIV_H
#define BILLING_PRICE_PRIV_H
#include "billing/price.h"
#include "server/base/err.h"

#define PRICE_TIER_SIZE	    16			/* as struct usage keeps it */
#define PRICE_NANO_MAX	    (INT64_C(1) << 50)	/* ledger.md 2.1 */
#define PRICE_PER_UNITS_MAX INT64_C(1000000000) /* price_book.per_units */
#define PRICE_ROWS_MAX	    1000000 /* of a book: fifty times what every provider together lists */

struct price_row {
	struct str provider, model;
	int64_t version;
	enum usage_class class;
	int64_t band_min_input;	 /* total input tokens from which on it holds; 0: always */
	struct str service_tier; /* "" : any that has no line of its own */
	int64_t price_nano, per_units;
};
/* Build a book of one reference. Rows are copied and must be sorted by (provider, model); all rows of one model
 * have one version. RC_INVALID with words: out of range, unsorted, the same line twice. */
MUST_CHECK enum rc price_book_new(const struct price_row *rows, size_t count,
				  struct price_book **ret, struct err *err);
size_t price_book_models(const struct price_book *b);

/* Cost of one line, rounded half away from zero to a whole nano: multiply first, divide once, and
 * round here and nowhere else. RC_INVALID: negative; RC_TOO_LARGE: past a bound. */
MUST_CHECK enum rc price_cost(int64_t units, int64_t price_nano, int64_t per_units, money_t *ret);

#endif
