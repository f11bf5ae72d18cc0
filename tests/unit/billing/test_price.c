/* Rating (T10): against long-hand rational arithmetic, against amounts worked out by hand from the
 * seed's list prices and the recorded usage of tests' examples, and the bound against the charge. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "billing/price_priv.h"

#define M 1000000
#define BOUND(in, out, n)                                                                          \
	(struct price_bound)                                                                       \
	{                                                                                          \
		.input_tokens_max = (in), .output_tokens_max = (out), .choices = (n)               \
	}

static struct price_row row(const char *provider, const char *model, enum usage_class class,
			    int64_t price_nano, int64_t per)
{
	return (struct price_row){.provider = str_from(provider),
				  .model = str_from(model),
				  .version = 7,
				  .class = class,
				  .service_tier = STR(""),
				  .price_nano = price_nano,
				  .per_units = per};
}

static struct price_row banded(struct price_row r, int64_t from)
{
	r.band_min_input = from;
	return r;
}

static struct price_row tiered(struct price_row r, const char *tier)
{
	r.service_tier = str_from(tier);
	return r;
}

static struct price_book *book(const struct price_row *rows, size_t n)
{
	struct price_book *b = NULL;
	struct err err = {0};

	ck_assert_msg(price_book_new(rows, n, &b, &err) == RC_OK, "%s", err.message);
	return b;
}

static int64_t rated(const struct price_book *b, const char *provider, const char *model,
		     const struct usage *u, uint32_t flags)
{
	const struct price_model *m = price_find(b, str_from(provider), str_from(model));
	struct rating r;
	int64_t sum = 0;

	ck_assert_ptr_nonnull(m);
	ck_assert_int_eq(price_rate(m, u, &r), RC_OK);
	ck_assert_int_eq(r.version, 7);
	ck_assert_uint_eq(r.flags, flags);
	for (size_t i = 0; i < r.lines; i++) {
		ck_assert_int_eq(r.line[i].units, u->n[r.line[i].class]);
		sum += r.line[i].amount.nano;
	}
	ck_assert_int_eq(sum, r.amount.nano); /* statements always foot */
	return r.amount.nano;
}

/* --- one line ------------------------------------------------------------------------------ */

START_TEST(half_a_nano_rounds_away_from_zero)
{
	money_t m;

	ck_assert_int_eq(price_cost(1, 1, 2, &m), RC_OK); /* 0.5 */
	ck_assert_int_eq(m.nano, 1);
	ck_assert_int_eq(price_cost(3, 1, 2, &m), RC_OK); /* 1.5 */
	ck_assert_int_eq(m.nano, 2);
	ck_assert_int_eq(price_cost(1, 1, 3, &m), RC_OK); /* 0.33 */
	ck_assert_int_eq(m.nano, 0);
	ck_assert_int_eq(price_cost(2, 1, 3, &m), RC_OK); /* 0.67 */
	ck_assert_int_eq(m.nano, 1);
	ck_assert_int_eq(price_cost(499999, 1, M, &m), RC_OK);
	ck_assert_int_eq(m.nano, 0);
	ck_assert_int_eq(price_cost(500000, 1, M, &m), RC_OK);
	ck_assert_int_eq(m.nano, 1);
	ck_assert_int_eq(price_cost(20, 20000000, M, &m), RC_OK); /* 20 tokens at $0.02/M */
	ck_assert_int_eq(m.nano, 400);
	ck_assert_int_eq(price_cost(1000, 220000000, 3600000, &m), RC_OK); /* a second at $0.22/h */
	ck_assert_int_eq(m.nano, 61111);
}
END_TEST

START_TEST(cost_is_the_nearest_whole_nano)
{
	srandom(11);
	for (int i = 0; i < 300000; i++) {
		int64_t units = (int64_t)random() % (1 << (1 + i % 30));
		int64_t price = (int64_t)random() % (INT64_C(1) << (1 + i % 33));
		int64_t per = 1 + (int64_t)random() % (1 + (i % 5 ? M : 7));
		money_t m;
		enum rc rc = price_cost(units, price, per, &m);
		/* |2 (m per - units price)| <= per, and a tie goes up: exact in 128 bits, no division */
		__int128 d;

		if (rc == RC_TOO_LARGE) {
			ck_assert((__int128)units * price > (__int128)MONEY_NANO_MAX * per - per);
			continue;
		}
		ck_assert_int_eq(rc, RC_OK);
		d = 2 * ((__int128)m.nano * per - (__int128)units * price);
		ck_assert(d <= per && d > -per);
	}
}
END_TEST

START_TEST(cost_refuses_what_is_out_of_bounds)
{
	money_t m = {42};

	ck_assert_int_eq(price_cost(-1, 1, 1, &m), RC_INVALID);
	ck_assert_int_eq(price_cost(1, -1, 1, &m), RC_INVALID);
	ck_assert_int_eq(price_cost(1, 1, 0, &m), RC_INVALID);
	ck_assert_int_eq(price_cost(USAGE_UNITS_MAX + 1, 1, 1, &m), RC_TOO_LARGE);
	ck_assert_int_eq(price_cost(USAGE_UNITS_MAX, PRICE_NANO_MAX, 1, &m), RC_TOO_LARGE);
	ck_assert_int_eq(price_cost(MONEY_NANO_MAX / 1000000, 1000001, 1, &m), RC_TOO_LARGE);
	ck_assert_int_eq(m.nano, 42);
	ck_assert_int_eq(price_cost(MONEY_NANO_MAX / 1000000, 1000000, 1, &m), RC_OK);
	ck_assert_int_eq(m.nano, MONEY_NANO_MAX);
}
END_TEST

/* --- recorded usage at list prices ------------------------------------------------------------ */

START_TEST(recorded_usage_costs_what_was_worked_out_by_hand)
{
	/* USD per million, as the seed lists them */
	const struct price_row rows[] = {
		row("anthropic", "claude-sonnet-4-6", USAGE_in_text, 3000000000, M),
		row("anthropic", "claude-sonnet-4-6", USAGE_in_cached_read, 300000000, M),
		row("anthropic", "claude-sonnet-4-6", USAGE_in_cache_write_5m, 3750000000, M),
		row("anthropic", "claude-sonnet-4-6", USAGE_in_cache_write_1h, 6000000000, M),
		row("anthropic", "claude-sonnet-4-6", USAGE_out_text, 15000000000, M),
		row("deepseek", "deepseek-v4-pro", USAGE_in_text, 435000000, M),
		row("deepseek", "deepseek-v4-pro", USAGE_in_cached_read, 3625000, M),
		row("deepseek", "deepseek-v4-pro", USAGE_out_text, 870000000, M),
		row("gemini", "gemini-2.5-flash", USAGE_in_text, 300000000, M),
		row("gemini", "gemini-2.5-flash", USAGE_in_cached_read, 30000000, M),
		row("gemini", "gemini-2.5-flash", USAGE_out_text, 2500000000, M),
		row("gemini", "gemini-2.5-flash", USAGE_out_reasoning, 2500000000, M),
		row("mistral", "m", USAGE_in_text, 60000000, M),
		row("mistral", "m", USAGE_out_text, 180000000, M),
	};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	struct usage u = USAGE_NONE;

	/* anthropic-thinking-tool: 50 x 3000 + 1000 x 300 + 100 x 3750 + 200 x 6000 + 48 x 15000 + 40 x 15000 */
	u.n[USAGE_in_text] = 50;
	u.n[USAGE_in_cached_read] = 1000;
	u.n[USAGE_in_cache_write_5m] = 100;
	u.n[USAGE_in_cache_write_1h] = 200;
	u.n[USAGE_out_text] = 48;
	u.n[USAGE_out_reasoning] = 40;
	ck_assert_int_eq(rated(b, "anthropic", "claude-sonnet-4-6", &u, 0), 3345000);

	/* deepseek-keepalive-reasoning: 6 x 435 + 24 x 3.625 + 4 x 870 + 8 x 870 */
	u = USAGE_NONE;
	u.n[USAGE_in_text] = 6;
	u.n[USAGE_in_cached_read] = 24;
	u.n[USAGE_out_text] = 4;
	u.n[USAGE_out_reasoning] = 8;
	ck_assert_int_eq(rated(b, "deepseek", "deepseek-v4-pro", &u, 0), 13137);

	/* gemini-thought-text: 24 x 300 + 16 x 30 + 3 x 2500 + 20 x 2500 */
	u = USAGE_NONE;
	u.n[USAGE_in_text] = 24;
	u.n[USAGE_in_cached_read] = 16;
	u.n[USAGE_out_text] = 3;
	u.n[USAGE_out_reasoning] = 20;
	ck_assert_int_eq(rated(b, "gemini", "gemini-2.5-flash", &u, 0), 65180);

	/* Mistral documents a tenth of the input for cached tokens: 9 x 60 + 7 x 6 + 6 x 180 */
	u = USAGE_NONE;
	u.n[USAGE_in_text] = 9;
	u.n[USAGE_in_cached_read] = 7;
	u.n[USAGE_out_text] = 6;
	ck_assert_int_eq(rated(b, "mistral", "m", &u, 0), 1662);
	price_book_unref(b);
}
END_TEST

/* --- which price holds -------------------------------------------------------------------------- */

START_TEST(missing_classes_take_their_parents_price)
{
	const struct price_row rows[] = {
		row("anthropic", "a", USAGE_in_text, 1000, 1),
		row("anthropic", "a", USAGE_out_text, 5000, 1),
		row("openai", "a", USAGE_in_text, 1000, 1),
		row("openai", "a", USAGE_in_cache_write_5m, 1250, 1),
		row("openai", "a", USAGE_out_text, 5000, 1),
	};
	static const struct {
		const char *provider;
		enum usage_class class;
		int64_t amount;
		uint32_t flags;
	} want[] = {
		{"openai", USAGE_in_cached_read, 1000, 0},
		{"anthropic", USAGE_in_cache_write_5m, 1000, 0},
		{"openai", USAGE_in_cache_write_1h, 1250, 0},	 /* the 5-minute write's */
		{"anthropic", USAGE_in_cache_write_1h, 2000, 0}, /* twice the input */
		{"openai", USAGE_in_audio, 1000, 0},
		{"openai", USAGE_in_image, 1000, 0},
		{"openai", USAGE_in_tool_prompt, 1000, 0},
		{"openai", USAGE_embed_tokens, 1000, 0},
		{"openai", USAGE_out_reasoning, 5000, 0},
		{"openai", USAGE_out_audio, 5000, 0},
		{"openai", USAGE_in_video, 1000, USAGE_FLAG_CLASS_UNPRICED},
		{"openai", USAGE_in_audio_cached, 1000, USAGE_FLAG_CLASS_UNPRICED},
		{"openai", USAGE_in_image_cached, 1000, USAGE_FLAG_CLASS_UNPRICED},
		{"openai", USAGE_out_image, 5000, USAGE_FLAG_CLASS_UNPRICED},
	};
	struct price_book *b = book(rows, ARRAY_LEN(rows));

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct usage u = USAGE_NONE;

		u.n[want[i].class] = 1;
		ck_assert_msg(rated(b, want[i].provider, "a", &u, want[i].flags) == want[i].amount,
			      "%s", usage_class_name(want[i].class));
	}
	price_book_unref(b);
}
END_TEST

START_TEST(what_has_no_price_is_refused_never_free)
{
	const struct price_row rows[] = {row("p", "free", USAGE_in_text, 0, M),
					 row("p", "free", USAGE_out_text, 0, M),
					 row("p", "m", USAGE_in_text, 1000, 1)};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	const struct price_model *m = price_find(b, STR("p"), STR("m"));
	struct usage u = USAGE_NONE;
	struct rating r = {.version = 42};
	money_t bound = {42};

	ck_assert_ptr_null(price_find(b, STR("p"), STR("x")));
	ck_assert_ptr_null(price_find(b, STR("q"), STR("m")));
	ck_assert_ptr_null(price_find(b, STR("p"), STR("")));
	ck_assert_ptr_null(price_find(NULL, STR("p"), STR("m")));
	u.n[USAGE_out_text] = 1;
	ck_assert_int_eq(price_rate(m, &u, &r), RC_NOT_FOUND);
	u = USAGE_NONE;
	u.n[USAGE_chars] = 1;
	ck_assert_int_eq(price_rate(m, &u, &r), RC_NOT_FOUND);
	u.n[USAGE_audio_in_ms] = 1;
	ck_assert_int_eq(price_rate(m, &u, &r), RC_NOT_FOUND);
	ck_assert_int_eq(r.version, 42); /* untouched */
	ck_assert_int_eq(price_bound_cost(m, &BOUND(10, 10, 1), &bound), RC_NOT_FOUND);
	ck_assert_int_eq(bound.nano, 42);
	/* free is what is listed as free */
	u = USAGE_NONE;
	u.n[USAGE_in_text] = u.n[USAGE_out_text] = 1000;
	ck_assert_int_eq(rated(b, "p", "free", &u, 0), 0);
	m = price_find(b, STR("p"), STR("free"));
	ck_assert_int_eq(price_bound_cost(m, &BOUND(10, 10, 1), &bound), RC_OK);
	ck_assert_int_eq(bound.nano, 0);
	price_book_unref(b);
}
END_TEST

/* A search that nobody asked for has no price: the tokens are charged, and it is told. */
START_TEST(what_is_counted_beside_tokens_never_takes_all)
{
	const struct price_row rows[] = {row("p", "m", USAGE_in_text, 1000, 1),
					 row("p", "m", USAGE_out_text, 3000, 1),
					 row("p", "s", USAGE_in_text, 1000, 1),
					 row("p", "s", USAGE_searches, 10000000, 1000),
					 row("p", "t", USAGE_audio_in_ms, 5, 1)};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	const struct price_model *s = price_find(b, STR("p"), STR("s"));
	struct usage u = USAGE_NONE;
	struct rating r;

	u.n[USAGE_in_text] = 10;
	u.n[USAGE_out_text] = 2;
	u.n[USAGE_searches] = 3;
	u.n[USAGE_audio_in_ms] = 4000; /* Mistral's, of what was counted in tokens */
	ck_assert_int_eq(rated(b, "p", "m", &u, USAGE_FLAG_CLASS_UNPRICED), 16000);
	/* sold by time: tokens that a provider counts, too, are not what is charged */
	ck_assert_int_eq(rated(b, "p", "t", &u, USAGE_FLAG_CLASS_UNPRICED), 20000);
	/* a price for it, and a hold that was not made for it */
	u = USAGE_NONE;
	u.n[USAGE_in_text] = 10;
	u.n[USAGE_searches] = 3;
	ck_assert_int_eq(rated(b, "p", "s", &u, 0), 40000);
	ck_assert_int_eq(price_rate_within(s, money_nano(40000), &u, &r), RC_OK);
	ck_assert_uint_eq(u.flags, 0);
	ck_assert_int_eq(price_rate_within(s, money_nano(39999), &u, &r), RC_OK);
	ck_assert_int_eq(r.amount.nano, 30000);
	ck_assert_int_eq(u.n[USAGE_searches], 2);
	ck_assert_uint_eq(u.flags, USAGE_FLAG_CLAMPED);
	ck_assert_int_eq(price_rate_within(s, money_nano(10000), &u, &r), RC_OK);
	ck_assert_int_eq(r.amount.nano, 10000);
	ck_assert_int_eq(u.n[USAGE_searches], 0);
	ck_assert_int_eq(price_rate_within(s, money_nano(9999), &u, &r), RC_TOO_LARGE);
	price_book_unref(b);
}
END_TEST

START_TEST(a_band_holds_for_the_whole_request_strictly_above)
{
	const struct price_row rows[] = {
		row("g", "pro", USAGE_in_text, 1250, 1),
		banded(row("g", "pro", USAGE_in_text, 2500, 1), 200001),
		row("g", "pro", USAGE_in_cached_read, 125, 1),
		row("g", "pro", USAGE_out_text, 10000, 1),
		banded(row("g", "pro", USAGE_out_text, 15000, 1), 200001),
	};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	struct usage u = USAGE_NONE;

	u.n[USAGE_in_text] = 150000;
	u.n[USAGE_in_cached_read] = 50000;
	u.n[USAGE_out_text] = 10;
	ck_assert_int_eq(rated(b, "g", "pro", &u, 0), 150000LL * 1250 + 50000LL * 125 + 100000);
	u.n[USAGE_in_cached_read]++; /* 200,001: cached tokens count; their own price has no band */
	ck_assert_int_eq(rated(b, "g", "pro", &u, 0), 150000LL * 2500 + 50001LL * 125 + 150000);
	price_book_unref(b);
}
END_TEST

START_TEST(the_served_tier_overrides_and_the_rest_stays)
{
	const struct price_row rows[] = {
		row("o", "m", USAGE_in_text, 2000, 1),
		banded(row("o", "m", USAGE_in_text, 4000, 1), 101),
		tiered(row("o", "m", USAGE_in_text, 1000, 1), "flex"),
		tiered(row("o", "m", USAGE_in_text, 9000, 1), "priority"),
		row("o", "m", USAGE_in_cached_read, 200, 1),
		row("o", "m", USAGE_out_text, 10000, 1),
		tiered(row("o", "m", USAGE_out_text, 5000, 1), "flex"),
	};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	struct usage u = USAGE_NONE;

	u.n[USAGE_in_text] = 10;
	u.n[USAGE_in_cached_read] = 10;
	u.n[USAGE_out_text] = 1;
	ck_assert_int_eq(rated(b, "o", "m", &u, 0), 20000 + 2000 + 10000);
	strcpy(u.service_tier, "default");
	ck_assert_int_eq(rated(b, "o", "m", &u, 0), 20000 + 2000 + 10000);
	strcpy(u.service_tier, "flex");
	ck_assert_int_eq(rated(b, "o", "m", &u, 0), 10000 + 2000 + 5000);
	/* long and flex: nobody lists both together; the dearer, flagged */
	u.n[USAGE_in_text] = 100;
	ck_assert_int_eq(rated(b, "o", "m", &u, USAGE_FLAG_CLASS_UNPRICED), 400000 + 2000 + 5000);
	strcpy(u.service_tier, "priority");
	ck_assert_int_eq(rated(b, "o", "m", &u, USAGE_FLAG_CLASS_UNPRICED), 900000 + 2000 + 10000);
	price_book_unref(b);
}
END_TEST

/* --- the bound ------------------------------------------------------------------------------------ */

static const enum usage_class in_classes[] = {
	USAGE_in_text,		 USAGE_in_cached_read, USAGE_in_cache_write_5m,
	USAGE_in_cache_write_1h, USAGE_in_audio,       USAGE_in_image,
	USAGE_in_video,		 USAGE_in_tool_prompt, USAGE_in_audio_cached,
};
static const enum usage_class out_classes[] = {USAGE_out_text, USAGE_out_reasoning, USAGE_out_audio,
					       USAGE_out_image};
static const char *const tiers[] = {"", "flex", "priority"};

static size_t random_model(struct price_row *rows, const char *provider)
{
	size_t n = 0;
	int64_t per = random() % 3 ? M : 1 + random() % 1000;

	rows[n++] = row(provider, "m", USAGE_in_text, random() % 5000000, per);
	rows[n++] = row(provider, "m", USAGE_out_text, random() % 50000000, per);
	for (size_t i = 1; i < ARRAY_LEN(in_classes); i++)
		if (random() % 3 == 0)
			rows[n++] = row(provider, "m", in_classes[i], random() % 5000000, per);
	for (size_t i = 1; i < ARRAY_LEN(out_classes); i++)
		if (random() % 3 == 0)
			rows[n++] = row(provider, "m", out_classes[i], random() % 50000000, per);
	for (size_t i = 0, base = n; i < base; i++) {
		if (random() % 3 == 0) {
			rows[n] = banded(rows[i], 1 + random() % 3000);
			rows[n++].price_nano = random() % 9000000;
		}
		if (random() % 3 == 0) {
			rows[n] = tiered(rows[i], tiers[1 + random() % 2]);
			rows[n++].price_nano = random() % 9000000;
		}
	}
	return n;
}

/* Usage that keeps within the bound, spread over the classes at random. */
static struct usage random_usage(const struct price_bound *b)
{
	struct usage u = USAGE_NONE;
	int64_t in = b->input_tokens_max, out = b->output_tokens_max * b->choices;

	if (random() % 2)
		in = random() % (in + 1);
	while (in > 0) {
		int64_t n = 1 + random() % in;

		u.n[in_classes[random() % (long)ARRAY_LEN(in_classes)]] += n;
		in -= n;
	}
	while (out > 0) {
		int64_t n = 1 + random() % out;

		u.n[out_classes[random() % (long)ARRAY_LEN(out_classes)]] += n;
		out -= n;
	}
	strcpy(u.service_tier, tiers[random() % 3]);
	return u;
}

START_TEST(no_call_within_its_bound_costs_more)
{
	static const char *const providers[] = {"anthropic", "mistral", "openai"};
	struct price_row rows[80];

	srandom(23);
	for (int i = 0; i < 4000; i++) {
		const char *provider = providers[i % 3];
		size_t n = random_model(rows, provider);
		struct price_book *b = book(rows, n);
		const struct price_model *m = price_find(b, str_from(provider), STR("m"));

		for (int k = 0; k < 20; k++) {
			struct price_bound bound = {.input_tokens_max = random() % 5000,
						    .output_tokens_max = random() % 500,
						    .choices = 1 + random() % 3};
			struct usage u = random_usage(&bound);
			struct rating r;
			money_t max;

			ck_assert_int_eq(price_bound_cost(m, &bound, &max), RC_OK);
			ck_assert_int_eq(price_rate(m, &u, &r), RC_OK);
			ck_assert_msg(r.amount.nano <= max.nano, "%lld > %lld",
				      (long long)r.amount.nano, (long long)max.nano);
		}
		price_book_unref(b);
	}
}
END_TEST

START_TEST(the_bound_of_an_ordinary_price_is_exact)
{
	const struct price_row rows[] = {row("o", "m", USAGE_in_text, 3000000000, M),
					 banded(row("o", "m", USAGE_in_text, 6000000000, M), 1001),
					 row("o", "m", USAGE_out_text, 15000000000, M)};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	const struct price_model *m = price_find(b, STR("o"), STR("m"));
	money_t max;

	ck_assert_int_eq(price_bound_cost(m, &BOUND(1000, 200, 2), &max), RC_OK);
	ck_assert_int_eq(max.nano, 1000 * 3000 + 400 * 15000);
	ck_assert_int_eq(price_bound_cost(m, &BOUND(1001, 200, 1), &max), RC_OK);
	ck_assert_int_eq(max.nano, 1001 * 6000 + 200 * 15000);
	ck_assert_int_eq(price_bound_cost(m, &BOUND(0, 0, 1), &max), RC_OK);
	ck_assert_int_eq(max.nano, 0);
	ck_assert_int_eq(price_bound_cost(m, &BOUND(1, INT64_MAX, 2), &max), RC_TOO_LARGE);
	ck_assert_int_eq(price_bound_cost(m, &BOUND(-1, 1, 1), &max), RC_INVALID);
	ck_assert_int_eq(price_bound_cost(m, &BOUND(1, 1, 0), &max), RC_INVALID);
	price_book_unref(b);
}
END_TEST

/* What is no chat: one model sells its speech by characters, another by tokens, a third hears by the millisecond. */
START_TEST(a_bound_takes_the_units_that_have_a_price)
{
	const struct price_row rows[] = {row("o", "listen", USAGE_audio_in_ms, 100000, 1000),
					 row("o", "tokens", USAGE_in_text, 600000000, M),
					 row("o", "tokens", USAGE_out_audio, 12000000000, M),
					 row("o", "tts", USAGE_chars, 15000000000, M)};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	const struct price_model *tts = price_find(b, STR("o"), STR("tts"));
	const struct price_model *tokens = price_find(b, STR("o"), STR("tokens"));
	const struct price_model *listen = price_find(b, STR("o"), STR("listen"));
	struct price_bound speech = {.input_tokens_max = 100,
				     .output_tokens_max = 1000,
				     .choices = 1,
				     .chars_max = 90,
				     .any_unit = true};
	struct price_bound heard = {.choices = 1, .audio_in_ms_max = 60500, .any_unit = true};
	money_t max = {42};

	ck_assert(price_has(tts, USAGE_chars) && !price_has(tts, USAGE_in_text));
	ck_assert(!price_has(tokens, USAGE_in_audio)); /* its parent's price is not its own */
	ck_assert_int_eq(price_bound_cost(tts, &speech, &max), RC_OK);
	ck_assert_int_eq(max.nano, 90 * 15000);
	ck_assert_int_eq(price_bound_cost(tokens, &speech, &max), RC_OK);
	ck_assert_int_eq(max.nano, 100 * 600 + 1000 * 12000);
	ck_assert_int_eq(price_bound_cost(listen, &heard, &max), RC_OK);
	/* 60500 x 100, and room for the rounding of one line where there is any */
	ck_assert_int_eq(max.nano, 60500 * 100);
	max.nano = 42;
	ck_assert_int_eq(price_bound_cost(listen, &speech, &max), RC_NOT_FOUND);
	ck_assert_int_eq(price_bound_cost(tts, &heard, &max), RC_NOT_FOUND);
	speech.any_unit = false; /* every number needs its price */
	ck_assert_int_eq(price_bound_cost(tts, &speech, &max), RC_NOT_FOUND);
	speech.chars_max = -1;
	ck_assert_int_eq(price_bound_cost(tts, &speech, &max), RC_INVALID);
	speech.chars_max = USAGE_UNITS_MAX + 1;
	ck_assert_int_eq(price_bound_cost(tts, &speech, &max), RC_TOO_LARGE);
	ck_assert_int_eq(max.nano, 42);
	price_book_unref(b);
}
END_TEST

/* The input of an embedding has a price of its own, or that of text. */
START_TEST(embeddings_are_bounded_and_rated)
{
	const struct price_row rows[] = {row("g", "own", USAGE_embed_tokens, 150000000, M),
					 row("g", "text", USAGE_in_text, 20000000, M)};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	struct usage u = USAGE_NONE;
	money_t max;

	u.n[USAGE_embed_tokens] = 1000;
	ck_assert_int_eq(rated(b, "g", "own", &u, 0), 150000);
	ck_assert_int_eq(rated(b, "g", "text", &u, 0), 20000);
	ck_assert_int_eq(
		price_bound_cost(price_find(b, STR("g"), STR("own")), &BOUND(1000, 0, 1), &max),
		RC_OK);
	ck_assert_int_eq(max.nano, 150000);
	price_book_unref(b);
}
END_TEST

/* --- the book ----------------------------------------------------------------------------------- */

START_TEST(a_bad_book_is_refused_whole)
{
	struct price_book *b = NULL;
	struct err err = {0};
	struct price_row rows[2] = {row("p", "m", USAGE_in_text, 1, 1),
				    row("p", "m", USAGE_in_text, 2, 1)};

	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID); /* the same line twice */
	rows[1].class = USAGE_out_text;
	rows[1].version = 8; /* two versions at once */
	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID);
	rows[1] = row("a", "m", USAGE_in_text, 1, 1); /* not sorted */
	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID);
	rows[1] = row("p", "n", USAGE_in_text, -1, 1);
	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID);
	rows[1] = row("p", "n", USAGE_in_text, 1, 0);
	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID);
	rows[1] = tiered(row("p", "n", USAGE_in_text, 1, 1), "sixteen bytes !!");
	ck_assert_int_eq(price_book_new(rows, 2, &b, &err), RC_INVALID);
	ck_assert_ptr_null(b);
	ck_assert_int_eq(price_book_new(rows, 0, &b, &err), RC_OK);
	ck_assert_ptr_null(price_find(b, STR("p"), STR("m")));
	price_book_unref(b);
}
END_TEST

START_TEST(every_model_of_a_large_book_is_found)
{
	static struct price_row rows[5000];
	static char names[5000][24];
	struct price_book *b;

	for (int i = 0; i < 5000; i++) {
		snprintf(names[i], sizeof names[i], "model-%06d", i);
		rows[i] = row("p", names[i], USAGE_in_text, i, 1);
	}
	b = book(rows, 5000);
	ck_assert_uint_eq(price_book_models(b), 5000);
	for (int i = 0; i < 5000; i++) {
		struct usage u = USAGE_NONE;

		u.n[USAGE_in_text] = 1;
		ck_assert_int_eq(rated(b, "p", names[i], &u, 0), i);
	}
	price_book_unref(price_book_ref(b));
	price_book_unref(b);
}
END_TEST

START_TEST(lines_are_listed_as_the_control_plane_says)
{
	const struct price_row rows[] = {
		row("p", "m", USAGE_in_text, 3000000000, M),
		tiered(banded(row("p", "m", USAGE_out_text, 1500000, 1000), 201), "flex")};
	struct price_book *b = book(rows, ARRAY_LEN(rows));
	AUTO(buf) struct buf out = BUF_INIT(4096);

	ck_assert_int_eq(price_lines_json(price_find(b, STR("p"), STR("m")), &out), RC_OK);
	ck_assert_str_eq(out.ptr, "[{\"class\":\"in_text\",\"price\":\"3\",\"per\":1000000},"
				  "{\"class\":\"out_text\",\"price\":\"0.0015\",\"per\":1000,"
				  "\"above_input_tokens\":200,\"service_tier\":\"flex\"}]");
	price_book_unref(b);
}
END_TEST

START_TEST(classes_have_names_and_sums)
{
	enum usage_class c;
	struct usage u = USAGE_NONE;

	for (unsigned i = 0; i < USAGE_CLASS_COUNT; i++) {
		ck_assert_int_eq(
			usage_class_parse(str_from(usage_class_name((enum usage_class)i)), &c),
			RC_OK);
		ck_assert_uint_eq(c, i);
		u.n[i] = 1;
	}
	ck_assert_int_eq(usage_class_parse(STR("in_tex"), &c), RC_NOT_FOUND);
	ck_assert_int_eq(usage_total_in(&u), 11);
	ck_assert_int_eq(usage_total_out(&u), 4);
	u.n[USAGE_in_text] = INT64_MAX;
	ck_assert_int_eq(usage_total_in(&u), INT64_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("billing/price");
	TCase *t = tcase_create("price");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, half_a_nano_rounds_away_from_zero);
	tcase_add_test(t, cost_is_the_nearest_whole_nano);
	tcase_add_test(t, cost_refuses_what_is_out_of_bounds);
	tcase_add_test(t, recorded_usage_costs_what_was_worked_out_by_hand);
	tcase_add_test(t, missing_classes_take_their_parents_price);
	tcase_add_test(t, what_has_no_price_is_refused_never_free);
	tcase_add_test(t, what_is_counted_beside_tokens_never_takes_all);
	tcase_add_test(t, a_band_holds_for_the_whole_request_strictly_above);
	tcase_add_test(t, the_served_tier_overrides_and_the_rest_stays);
	tcase_add_test(t, no_call_within_its_bound_costs_more);
	tcase_add_test(t, the_bound_of_an_ordinary_price_is_exact);
	tcase_add_test(t, a_bound_takes_the_units_that_have_a_price);
	tcase_add_test(t, embeddings_are_bounded_and_rated);
	tcase_add_test(t, a_bad_book_is_refused_whole);
	tcase_add_test(t, every_model_of_a_large_book_is_found);
	tcase_add_test(t, lines_are_listed_as_the_control_plane_says);
	tcase_add_test(t, classes_have_names_and_sums);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
