/* routing/embed.c - vectors between their two forms: decimal numbers, and base64 of their bits.
 *
 * Must never pass a number through a wider or narrower type than float32 on its way: what the provider computed is what
 * the caller gets. */
#include "routing/embed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/hash.h"

#define LITERAL_BYTES_MAX 128 /* of one number; more digits than that say nothing */

static enum rc to_float(const struct json *v, struct buf *literal, float *ret)
{
	const enum json_type type = json_type(v);
	char *end;

	if (type != JSON_INT && type != JSON_REAL)
		return RC_PROTOCOL;
	buf_reset(literal);
	if (json_write(v, literal) != RC_OK)
		return RC_PROTOCOL;
	*ret = strtof(literal->ptr, &end);
	return *end == '\0' && isfinite(*ret) ? RC_OK : RC_PROTOCOL;
}

static void put_le(float value, char *at)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof bits);
	for (int i = 0; i < 4; i++)
		at[i] = (char)(bits >> (8 * i));
}

enum rc embed_base64(struct arena *mem, const struct embed_vector *v, struct str *ret)
{
	AUTO(buf) struct buf literal = BUF_INIT(LITERAL_BYTES_MAX);
	AUTO(buf) struct buf text = BUF_INIT(EMBED_VALUES_MAX * 8);
	const size_t count = json_len(v->values);
	struct json_iter it = json_iter(v->values);
	struct json *one;
	void *bytes, *copy;
	size_t n = 0;

	if (!v->values) {
		*ret = v->base64;
		return RC_OK;
	}
	if (json_type(v->values) != JSON_ARRAY || count > EMBED_VALUES_MAX)
		return RC_PROTOCOL;
	TRY(arena_try_alloc(mem, count * 4 + 1, &bytes));
	while (json_next(&it, NULL, &one)) {
		float f;

		TRY(to_float(one, &literal, &f));
		put_le(f, (char *)bytes + n);
		n += 4;
	}
	TRY(base64_encode(str_of(bytes, n), &text));
	TRY(arena_try_alloc(mem, text.len + 1, &copy));
	if (text.len > 0)
		memcpy(copy, text.ptr, text.len);
	*ret = str_of(copy, text.len);
	return RC_OK;
}

static float get_le(const uint8_t *at)
{
	const uint32_t bits = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
			      (uint32_t)at[3] << 24;
	float value;

	memcpy(&value, &bits, sizeof value);
	return value;
}

/* Nine digits always read back as the same float32; fewer where they do, too. */
static enum rc put_float(float value, struct buf *out)
{
	char text[32];

	for (int digits = 6; digits <= 9; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, (double)value);
		if (strtof(text, NULL) == value)
			break;
	}
	return buf_append(out, str_from(text));
}

enum rc embed_values(struct arena *mem, const struct embed_vector *v, struct buf *out)
{
	void *bytes;
	size_t len;

	if (v->values)
		return json_type(v->values) == JSON_ARRAY ? json_write(v->values, out)
							  : RC_PROTOCOL;
	if (v->base64.len > EMBED_VALUES_MAX * 6)
		return RC_PROTOCOL;
	TRY(arena_try_alloc(mem, v->base64.len + 1, &bytes));
	if (base64_decode(v->base64, bytes, v->base64.len, &len) != RC_OK || len % 4 != 0)
		return RC_PROTOCOL;
	TRY(buf_append_char(out, '['));
	for (size_t i = 0; i < len; i += 4) {
		const float value = get_le((const uint8_t *)bytes + i);

		if (!isfinite(value))
			return RC_PROTOCOL;
		if (i > 0)
			TRY(buf_append_char(out, ','));
		TRY(put_float(value, out));
	}
	return buf_append_char(out, ']');
}
