/* billing/money.h - money is integer nano-credits; one credit is one US dollar.
 *
 * A struct, so it cannot be added to a token count. Every operation is checked: RC_TOO_LARGE on
 * overflow, and the caller refuses the call; nothing wraps. No float or double in this folder. */
#ifndef BILLING_MONEY_H
#define BILLING_MONEY_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/rc.h"
#include "server/base/str.h"

typedef struct {
	int64_t nano;
} money_t;

#define MONEY_ZERO	      ((money_t){0})
#define MONEY_NANO_PER_CREDIT INT64_C(1000000000)
#define MONEY_NANO_MAX	      INT64_C(100000000000000000) /* 1e17: $100M per transfer (ledger.md 2.1) */

static inline money_t money_nano(int64_t nano)
{
	return (money_t){nano};
}
MUST_CHECK enum rc money_add(money_t a, money_t b, money_t *ret);
MUST_CHECK enum rc money_sub(money_t a, money_t b, money_t *ret);
int money_cmp(money_t a, money_t b);
/* "10", "10.00", "0.001234500": nine decimals at most, no sign unless `negative_ok`, no exponent, no
 * spaces, at most MONEY_NANO_MAX; RC_INVALID otherwise. */
MUST_CHECK enum rc money_parse(struct str s, bool negative_ok, money_t *ret);
#define MONEY_TEXT_SIZE 24
/* "0.001234500": always nine decimals. */
struct str money_format(money_t m, char out[MONEY_TEXT_SIZE]);
/* "0.0012345": as few decimals as say it, at least none. */
struct str money_format_short(money_t m, char out[MONEY_TEXT_SIZE]);

#endif
