/* server/base/id.c - UUIDv7 (RFC 9562, 5.7).
 *
 * 48 bits of milliseconds, 4 of version, 12 + 62 of a number that starts random in every millisecond
 * and goes up by a random step inside it, per thread. Must never repeat an id: without randomness
 * the process ends. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/id.h"

const struct org_id org_id_platform = {{{0, 0, 0, 0, 0, 0, 0x70, 0, 0x80}}};

/* Random bytes are fetched many at a time: the generator's lock and set-up cost more than the bytes. */
static void random_take(void *out, size_t len)
{
	static _Thread_local uint8_t pool[512];
	static _Thread_local size_t left;

	assert(len <= sizeof pool);
	if (left < len) {
		if (random_bytes(pool, sizeof pool) != RC_OK)
			abort();
		left = sizeof pool;
	}
	left -= len;
	memcpy(out, pool + left, len);
}

static struct uuid compose(int64_t wall_ms, uint16_t high12, uint64_t low62)
{
	struct uuid u;

	for (int i = 0; i < 6; i++)
		u.b[i] = (uint8_t)((uint64_t)wall_ms >> (40 - 8 * i));
	u.b[6] = (uint8_t)(0x70 | (high12 >> 8 & 0x0f));
	u.b[7] = (uint8_t)high12;
	for (int i = 0; i < 8; i++)
		u.b[8 + i] = (uint8_t)(low62 >> (56 - 8 * i));
	u.b[8] = (uint8_t)(0x80 | (u.b[8] & 0x3f));
	return u;
}

#define LOW_MASK ((1ull << 62) - 1)

struct uuid uuid_v7(void)
{
	static _Thread_local int64_t last_ms;
	static _Thread_local uint16_t high;
	static _Thread_local uint64_t low;
	int64_t now_ms = clock_wall_ms();

	if (now_ms > last_ms) {
		last_ms = now_ms;
		random_take(&high, sizeof high);
		high &= 0x07ff; /* the top bit is left free: room to count */
		random_take(&low, sizeof low);
		low &= LOW_MASK;
	} else { /* same millisecond, or the clock stepped back: go on from the last one */
		uint32_t step;

		random_take(&step, sizeof step);
		low += (uint64_t)step + 1;
		if (low > LOW_MASK) {
			low &= LOW_MASK;
			high++;
		}
		if (high > 0x0fff) {
			high = 0;
			last_ms++;
		}
	}
	return compose(last_ms, high, low);
}

struct uuid uuid_v7_at(int64_t wall_ms)
{
	uint16_t high;
	uint64_t low;

	random_take(&high, sizeof high);
	random_take(&low, sizeof low);
	return compose(wall_ms, high & 0x0fff, low & LOW_MASK);
}

int64_t uuid_time_ms(struct uuid u)
{
	int64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | u.b[i];
	return ms;
}

bool uuid_is_zero(struct uuid u)
{
	return uuid_eq(u, (struct uuid){{0}});
}

struct str uuid_format(struct uuid u, char out[UUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *p = out;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[u.b[i] >> 4];
		*p++ = digits[u.b[i] & 15];
	}
	*p = '\0';
	return str_of(out, UUID_TEXT_SIZE - 1);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum rc uuid_parse(struct str s, struct uuid *ret)
{
	struct uuid u;
	size_t at = 0;

	if (s.len != UUID_TEXT_SIZE - 1)
		return RC_INVALID;
	for (int i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && s.ptr[at++] != '-')
			return RC_INVALID;
		high = hex_digit(s.ptr[at++]);
		low = hex_digit(s.ptr[at++]);
		if (high < 0 || low < 0)
			return RC_INVALID;
		u.b[i] = (uint8_t)(high << 4 | low);
	}
	*ret = u;
	return RC_OK;
}
