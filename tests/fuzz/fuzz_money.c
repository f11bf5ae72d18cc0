/* Money text and rating: what is accepted must say itself again, what is rated must be the nearest
 * whole nano and never above its bound. First byte: 0 and 1 parse the rest, others rate with it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "billing/price_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct str text, bool negative_ok)
{
	char out[MONEY_TEXT_SIZE];
	money_t m, again;

	if (money_parse(text, negative_ok, &m) != RC_OK)
		return;
	assert(m.nano <= MONEY_NANO_MAX && m.nano >= (negative_ok ? -MONEY_NANO_MAX : 0));
	assert(money_parse(money_format(m, out), true, &again) == RC_OK && again.nano == m.nano);
	assert(money_parse(money_format_short(m, out), true, &again) == RC_OK &&
	       again.nano == m.nano);
}

static uint32_t word(const uint8_t **p, const uint8_t *end)
{
	uint32_t w = 0;

	for (int i = 0; i < 4 && *p < end; i++)
		w = w << 8 | *(*p)++;
	return w;
}

static size_t make_rows(struct price_row *rows, size_t max, const uint8_t **p, const uint8_t *end)
{
	static const char *const tiers[] = {"", "", "flex", "priority"};
	size_t n = 0;

	while (n < max && *p + 8 < end) {
		uint32_t w = word(p, end);

		rows[n++] = (struct price_row){
			.provider = w & 1 ? STR("anthropic") : STR("mistral"),
			.model = STR("m"),
			.class = (enum usage_class)((w >> 1) % USAGE_CLASS_COUNT),
			.band_min_input = (w >> 8) % 3 ? 0 : (w >> 10) % 5000,
			.service_tier = str_from(tiers[(w >> 24) % 4]),
			.price_nano = word(p, end),
			.per_units = 1 + (w >> 16) % 1000000,
		};
		rows[n - 1].provider = rows[0].provider;
	}
	return n;
}

static void check_rating(const struct price_model *m, const struct usage *u)
{
	struct price_bound b = {.input_tokens_max = usage_total_in(u),
				.output_tokens_max = usage_total_out(u),
				.choices = 1};
	struct rating r;
	money_t max;

	if (price_rate(m, u, &r) != RC_OK)
		return;
	for (size_t i = 0; i < r.lines; i++) {
		const struct rating_line *l = &r.line[i];
		__int128 d = 2 * ((__int128)l->amount.nano * l->per_units -
				  (__int128)l->units * l->price_nano);

		assert(d <= l->per_units && d > -l->per_units);
	}
	if (price_bound_cost(m, &b, &max) == RC_OK)
		assert(r.amount.nano <= max.nano);
}

static void check_book(const uint8_t *p, const uint8_t *end)
{
	struct price_row rows[12];
	struct price_book *b;
	struct usage u = USAGE_NONE;
	size_t n = make_rows(rows, ARRAY_LEN(rows), &p, end);

	if (n == 0 || price_book_new(rows, n, &b, NULL) != RC_OK)
		return;
	while (p < end) {
		uint32_t w = word(&p, end);
		unsigned class = w % USAGE_CLASS_COUNT;

		/* what a bound covers: tokens */
		if (class <= USAGE_out_image || class == USAGE_embed_tokens)
			u.n[class] += w >> 5;
		if (w & 16)
			strcpy(u.service_tier, w & 32 ? "flex" : "priority");
	}
	check_rating(price_find(b, rows[0].provider, STR("m")), &u);
	price_book_unref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] < 2)
		check_text(str_of(data + 1, size - 1), data[0] == 1);
	else
		check_book(data + 1, data + size);
	return 0;
}
