/* billing/price.h - the price book: what a class of usage costs, and what a call can cost at most.
 *
 * A book is an immutable, counted snapshot shared by all threads; a call pins the one it started
 * with. Rating is pure: integers, 128-bit products, one rounding per line (ledger.md 2.1), and the
 * total is the sum of the rounded lines. */
#ifndef BILLING_PRICE_H
#define BILLING_PRICE_H
#include "billing/money.h"
#include "billing/usage.h"
#include "server/base/arena.h"

struct price_book;  /* counted */
struct price_model; /* lives as long as its book */

struct price_book *price_book_ref(struct price_book *b); /* any thread */
void price_book_unref(struct price_book *b);
/* NULL: no sell price for it: refused for the platform (`price_unknown`), never rated at zero. */
const struct price_model *price_find(const struct price_book *b, struct str provider,
				     struct str model);
int64_t price_version(const struct price_model *m); /* the price_book row version that rates it */

#define RATING_LINES_MAX 16
struct rating_line {
	enum usage_class class;
	int64_t units;
	int64_t price_nano, per_units;
	money_t amount;
};
struct rating {
	struct rating_line line[RATING_LINES_MAX];
	size_t lines;
	money_t amount; /* sum of the lines */
	int64_t version;
	uint32_t flags; /* USAGE_FLAG_CLASS_UNPRICED */
};
/* RC_TOO_LARGE: overflow; RC_NOT_FOUND: tokens, characters or sound, which is what was sold, have neither a price nor a
 * priced parent. What is counted beside them (searches, sessions, pages, the seconds of sound that was counted in tokens,
 * too) and has no price is left out, flagged. */
MUST_CHECK enum rc price_rate(const struct price_model *m, const struct usage *u,
			      struct rating *ret);
/* The same, for a call that `max` was held for: what is counted beside tokens, which no hold is made for, is cut in `u` to
 * what `max` leaves for it, and flagged. RC_TOO_LARGE also where the rest alone is more. */
MUST_CHECK enum rc price_rate_within(const struct price_model *m, money_t max, struct usage *u,
				     struct rating *ret);

struct price_bound {		  /* what a call can use at most, known before it is sent */
	int64_t input_tokens_max; /* every byte of the body may be a token; never more than the window */
	int64_t output_tokens_max;
	int64_t choices;   /* n */
	int64_t chars_max; /* what is priced by characters or by the length of the sound taken in */
	int64_t audio_in_ms_max;
	/* One model is priced by tokens, another by characters or milliseconds: what this one has no price for is not what it
	 * is charged by. Else every number that is not 0 needs its price. */
	bool any_unit;
};
/* The dearest input class and output class, at every band the bound can reach. RC_NOT_FOUND: something of it has no
 * price; with any_unit, nothing of it has one. */
MUST_CHECK enum rc price_bound_cost(const struct price_model *m, const struct price_bound *b,
				    money_t *ret);
/* Has the model a price for this very class, whatever its parents cost? */
bool price_has(const struct price_model *m, enum usage_class class);
/* Lines of the model's current sell price, for /models: writes a JSON array of {class, price, per}. */
MUST_CHECK enum rc price_lines_json(const struct price_model *m, struct buf *out);

#endif
