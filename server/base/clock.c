/* server/base/clock.c - the two clocks, held per turn, and RFC 3339.
 *
 * Must never use the C library's calendar: it takes locks and reads the time zone. */
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "server/base/clock.h"

#define SECOND_US 1000000
#define DAY_S	  86400

enum hold { HOLD_NONE, HOLD_STALE, HOLD_FRESH };
static _Thread_local struct {
	enum hold hold;
	int64_t mono_us, wall_us;
} held;

static _Atomic bool fake_on;
static _Atomic int64_t fake_mono_us, fake_wall_us;

static int64_t read_us(clockid_t id)
{
	struct timespec ts;
	int failed = clock_gettime(id, &ts);

	assert(!failed);
	return (int64_t)ts.tv_sec * SECOND_US + ts.tv_nsec / 1000;
}

static void hold_now(void)
{
	held.mono_us = read_us(CLOCK_MONOTONIC);
	held.wall_us = read_us(CLOCK_REALTIME);
	held.hold = HOLD_FRESH;
}

int64_t clock_mono_us(void)
{
	if (atomic_load_explicit(&fake_on, memory_order_relaxed))
		return atomic_load_explicit(&fake_mono_us, memory_order_relaxed);
	if (held.hold == HOLD_NONE)
		return read_us(CLOCK_MONOTONIC);
	if (held.hold == HOLD_STALE)
		hold_now();
	return held.mono_us;
}

int64_t clock_wall_us(void)
{
	if (atomic_load_explicit(&fake_on, memory_order_relaxed))
		return atomic_load_explicit(&fake_wall_us, memory_order_relaxed);
	if (held.hold == HOLD_NONE)
		return read_us(CLOCK_REALTIME);
	if (held.hold == HOLD_STALE)
		hold_now();
	return held.wall_us;
}

int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

int64_t clock_wall_ms(void)
{
	return clock_wall_us() / 1000;
}

void clock_turn(void)
{
	hold_now();
}

void clock_turn_lazy(void)
{
	held.hold = HOLD_STALE;
}

void clock_turn_end(void)
{
	held.hold = HOLD_NONE;
}

void clock_fake_set(int64_t mono_us, int64_t wall_us)
{
	atomic_store(&fake_mono_us, mono_us);
	atomic_store(&fake_wall_us, wall_us);
	atomic_store(&fake_on, mono_us >= 0);
}

/* --- the proleptic Gregorian calendar, in days since 1970-01-01 -----------------------------------
 * Years are counted from March, so that the leap day is the last of its year. */

#define DAYS_400Y    146097
#define DAYS_TO_1970 719468 /* from 0000-03-01 */

static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * DAYS_400Y + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

static void date_of(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
	int64_t z = days + DAYS_TO_1970;
	int64_t era = (z >= 0 ? z : z - (DAYS_400Y - 1)) / DAYS_400Y;
	int64_t of_era = z - era * DAYS_400Y;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * of_year + 2) / 153;

	*day = of_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = y + era * 400 + (*month <= 2 ? 1 : 0);
}

struct str clock_rfc3339(int64_t wall_us, char out[CLOCK_RFC3339_SIZE])
{
	int64_t us = wall_us % SECOND_US;
	int64_t s = wall_us / SECOND_US;
	int64_t year, month, day, of_day, days;
	int len;

	if (us < 0) {
		us += SECOND_US;
		s--;
	}
	of_day = s % DAY_S;
	days = s / DAY_S;
	if (of_day < 0) {
		of_day += DAY_S;
		days--;
	}
	date_of(days, &year, &month, &day);
	if (year < 0 || year > 9999) /* the format has four digits; nothing of ours is out there */
		return clock_rfc3339(0, out);
	len = snprintf(out, CLOCK_RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", (int)year,
		       (int)month, (int)day, (int)(of_day / 3600), (int)(of_day / 60 % 60),
		       (int)(of_day % 60), (int)us);
	return str_of(out, (size_t)len);
}

/* Take `digits` digits and then the byte `end` (0: none) off the front of *s. */
static bool take(struct str *s, size_t digits, char end, int64_t min, int64_t max, int64_t *ret)
{
	size_t len = digits + (end ? 1 : 0);

	if (s->len < len || str_to_i64(str_slice(*s, 0, digits), ret) != RC_OK || s->ptr[0] == '-')
		return false;
	if (end && s->ptr[digits] != end)
		return false;
	*s = str_slice(*s, len, s->len);
	return *ret >= min && *ret <= max;
}

static int64_t month_days(int64_t year, int64_t month)
{
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	if (month == 2)
		return leap ? 29 : 28;
	return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/* ".123": digits behind the sixth are cut, not rounded. */
static bool take_fraction(struct str *s, int64_t *us)
{
	int64_t unit = SECOND_US / 10;
	size_t i;

	*us = 0;
	if (s->len == 0 || s->ptr[0] != '.')
		return true;
	for (i = 1; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++) {
		*us += (s->ptr[i] - '0') * unit;
		unit /= 10;
	}
	*s = str_slice(*s, i, s->len);
	return i > 1;
}

static bool take_offset(struct str *s, int64_t *offset_s)
{
	int64_t hours, minutes;
	char sign;

	*offset_s = 0;
	if (s->len == 1 && (s->ptr[0] == 'Z' || s->ptr[0] == 'z'))
		return true;
	if (s->len != 6)
		return false;
	sign = s->ptr[0];
	*s = str_slice(*s, 1, s->len);
	if ((sign != '+' && sign != '-') || !take(s, 2, ':', 0, 23, &hours) ||
	    !take(s, 2, 0, 0, 59, &minutes))
		return false;
	*offset_s = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
	return true;
}

enum rc clock_parse_rfc3339(struct str s, int64_t *ret_wall_us)
{
	int64_t year, month, day, hour, minute, second, us, offset_s;

	if (s.len > 64 || !take(&s, 4, '-', 0, 9999, &year) || !take(&s, 2, '-', 1, 12, &month) ||
	    !take(&s, 2, 0, 1, month_days(year, month), &day))
		return RC_INVALID;
	if (s.len == 0 || (s.ptr[0] != 'T' && s.ptr[0] != 't'))
		return RC_INVALID;
	s = str_slice(s, 1, s.len);
	/* second 60 is a leap second: the same instant as the next minute's second 0 */
	if (!take(&s, 2, ':', 0, 23, &hour) || !take(&s, 2, ':', 0, 59, &minute) ||
	    !take(&s, 2, 0, 0, 60, &second) || !take_fraction(&s, &us) ||
	    !take_offset(&s, &offset_s))
		return RC_INVALID;
	*ret_wall_us = (days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second -
			offset_s) *
			       SECOND_US +
		       us;
	return RC_OK;
}
