/* billing/money.c - checked arithmetic on nano-credits, and their text.
 *
 * Pure. Never floating point, never wraps, never rounds: text with more than nine decimals is
 * refused, not cut. */
#include "billing/money.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define MONEY_DECIMALS 9

enum rc money_add(money_t a, money_t b, money_t *ret)
{
	int64_t sum;

	if (__builtin_add_overflow(a.nano, b.nano, &sum))
		return RC_TOO_LARGE;
	*ret = money_nano(sum);
	return RC_OK;
}

enum rc money_sub(money_t a, money_t b, money_t *ret)
{
	int64_t difference;

	if (__builtin_sub_overflow(a.nano, b.nano, &difference))
		return RC_TOO_LARGE;
	*ret = money_nano(difference);
	return RC_OK;
}

int money_cmp(money_t a, money_t b)
{
	return (a.nano > b.nano) - (a.nano < b.nano);
}

/* Append one decimal digit to *n; false past MONEY_NANO_MAX, so that nothing can overflow. */
static bool money_push_digit(int64_t *n, int digit)
{
	*n = *n * 10 + digit;
	return *n <= MONEY_NANO_MAX;
}

static bool money_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

enum rc money_parse(struct str s, bool negative_ok, money_t *ret)
{
	bool negative = negative_ok && s.len > 0 && s.ptr[0] == '-';
	size_t i = negative ? 1 : 0;
	size_t whole_from = i;
	int64_t n = 0;
	int decimals = 0;

	for (; i < s.len && money_is_digit(s.ptr[i]); i++) {
		if (!money_push_digit(&n, s.ptr[i] - '0'))
			return RC_INVALID;
	}
	if (i == whole_from)
		return RC_INVALID;
	if (i < s.len) {
		if (s.ptr[i] != '.' || i + 1 == s.len)
			return RC_INVALID;
		for (i++; i < s.len; i++, decimals++) {
			if (!money_is_digit(s.ptr[i]) || decimals == MONEY_DECIMALS ||
			    !money_push_digit(&n, s.ptr[i] - '0'))
				return RC_INVALID;
		}
	}
	for (; decimals < MONEY_DECIMALS; decimals++) {
		if (!money_push_digit(&n, 0))
			return RC_INVALID;
	}
	*ret = money_nano(negative ? -n : n);
	return RC_OK;
}

struct str money_format(money_t m, char out[MONEY_TEXT_SIZE])
{
	uint64_t n = m.nano < 0 ? -(uint64_t)m.nano : (uint64_t)m.nano;
	uint64_t unit = (uint64_t)MONEY_NANO_PER_CREDIT;
	int len = snprintf(out, MONEY_TEXT_SIZE, "%s%" PRIu64 ".%09" PRIu64, m.nano < 0 ? "-" : "",
			   n / unit, n % unit);

	assert(len > 0 && len < MONEY_TEXT_SIZE);
	return str_of(out, (size_t)len);
}

struct str money_format_short(money_t m, char out[MONEY_TEXT_SIZE])
{
	struct str s = money_format(m, out);

	while (out[s.len - 1] == '0')
		s.len--;
	if (out[s.len - 1] == '.')
		s.len--;
	out[s.len] = '\0';
	return str_of(out, s.len);
}
