/* test_bound.c - what calls that are no chat can use at most, and what they are taken for where nobody counted. */
#include "billing/price_priv.h"
#include "routing/bound.h"
#include "routing/snapshot.h"
#include "tests/unit/routing/fixture.h"

static struct price_book *book_of(enum usage_class class)
{
	const struct price_row row = {.provider = STR("p"),
				      .model = STR("m"),
				      .version = 1,
				      .class = class,
				      .service_tier = STR(""),
				      .price_nano = 1000,
				      .per_units = 1};
	struct price_book *b;

	ck_assert_int_eq(price_book_new(&row, 1, &b, NULL), RC_OK);
	return b;
}

START_TEST(embeddings_are_bounded_by_their_bytes_and_not_by_the_window)
{
	const struct model_info info = {.context_window = 8};
	struct call c = {.operation = OPERATION_embeddings, .body_bytes = 1000};
	struct price_bound b;

	c.counts.inputs = 20;
	bound_of_call(&c, &info, &b);
	ck_assert_int_eq(b.input_tokens_max, 1000);
	ck_assert_int_eq(b.output_tokens_max, 0);
	c.media_by_url = true; /* pictures: each input up to the window */
	bound_of_call(&c, &info, &b);
	ck_assert_int_eq(b.input_tokens_max, 1160);
	bound_of_call(&c, NULL, &b);
	ck_assert_int_eq(b.input_tokens_max, USAGE_UNITS_MAX);
}
END_TEST

START_TEST(a_chat_is_not_for_this_file)
{
	struct call c = {.operation = OPERATION_chat};

	ck_assert(!bound_is_for(&c));
	c.operation = OPERATION_speech;
	ck_assert(bound_is_for(&c));
}
END_TEST

START_TEST(speech_is_counted_in_what_its_model_is_sold_by)
{
	struct price_book *chars = book_of(USAGE_chars), *tokens = book_of(USAGE_in_text);
	struct call c = {.operation = OPERATION_speech, .text_bytes = 41, .body_bytes = 90};
	struct price_bound b;
	struct usage u;

	c.counts.chars = 40;
	ck_assert(bound_estimate(&c, price_find(chars, STR("p"), STR("m")), 0, &u));
	ck_assert_int_eq(u.n[USAGE_chars], 40);
	ck_assert_uint_eq(u.flags, 0);
	ck_assert(!bound_estimate(&c, price_find(tokens, STR("p"), STR("m")), 0, &u));
	ck_assert_int_eq(u.n[USAGE_chars], 0);
	ck_assert_int_eq(u.n[USAGE_in_text], 11);
	ck_assert_int_eq(u.n[USAGE_out_audio], 56);
	ck_assert_uint_eq(u.flags, USAGE_FLAG_ESTIMATED);
	ck_assert(bound_estimate(&c, NULL, 0, &u)); /* without a price: what is certain */
	ck_assert_int_eq(u.n[USAGE_chars], 40);
	bound_of_call(&c, NULL, &b);
	ck_assert(b.any_unit);
	ck_assert_int_eq(b.chars_max, 40);
	ck_assert_int_eq(b.input_tokens_max, 90);
	ck_assert_int_eq(b.output_tokens_max, 400);
	c.counts.slow = true;
	bound_of_call(&c, NULL, &b);
	ck_assert_int_eq(b.output_tokens_max, 1600);
	price_book_unref(chars);
	price_book_unref(tokens);
}
END_TEST

START_TEST(what_is_heard_is_counted_in_what_its_model_is_sold_by)
{
	const struct model_info info = {.context_window = 16000, .max_output = 2000};
	struct price_book *time = book_of(USAGE_audio_in_ms), *tokens = book_of(USAGE_in_text);
	struct call c = {.operation = OPERATION_transcription, .text_bytes = 8};
	struct price_bound b;
	struct usage u;

	c.counts.audio_ms = 2001;
	c.counts.audio_ms_max = 9000;
	ck_assert(!bound_estimate(&c, price_find(time, STR("p"), STR("m")), 100, &u));
	ck_assert_int_eq(u.n[USAGE_audio_in_ms], 2001);
	c.counts.audio_exact = true; /* a WAV says it itself */
	ck_assert(bound_estimate(&c, price_find(time, STR("p"), STR("m")), 100, &u));
	ck_assert_uint_eq(u.flags, 0);
	ck_assert(!bound_estimate(&c, price_find(tokens, STR("p"), STR("m")), 100, &u));
	ck_assert_int_eq(u.n[USAGE_in_audio], 30);
	ck_assert_int_eq(u.n[USAGE_in_text], 2);
	ck_assert_int_eq(u.n[USAGE_out_text], 25);
	bound_of_call(&c, &info, &b);
	ck_assert_int_eq(b.audio_in_ms_max, 9000);
	ck_assert_int_eq(b.input_tokens_max, 9 * 20 + 8 + 1024);
	ck_assert_int_eq(b.output_tokens_max, 9 * 20 + 1024);
	c.counts.audio_ms_max = INT64_C(100) * 3600 * 1000; /* the model's own bounds hold */
	bound_of_call(&c, &info, &b);
	ck_assert_int_eq(b.input_tokens_max, 16000);
	ck_assert_int_eq(b.output_tokens_max, 2000);
	price_book_unref(time);
	price_book_unref(tokens);
}
END_TEST

START_TEST(what_is_over_the_bound_is_cut_and_flagged)
{
	const struct price_bound b = {.input_tokens_max = 10,
				      .output_tokens_max = 5,
				      .chars_max = 7,
				      .audio_in_ms_max = 1000};
	struct usage u = USAGE_NONE;

	u.n[USAGE_embed_tokens] = 10;
	u.n[USAGE_chars] = 7;
	bound_clamp(&b, &u);
	ck_assert_uint_eq(u.flags, 0);
	u.n[USAGE_chars] = 8;
	u.n[USAGE_audio_in_ms] = 1001;
	u.n[USAGE_embed_tokens] = 11;
	bound_clamp(&b, &u);
	ck_assert_int_eq(u.n[USAGE_chars], 7);
	ck_assert_int_eq(u.n[USAGE_audio_in_ms], 1000);
	ck_assert_int_eq(u.n[USAGE_embed_tokens], 10);
	ck_assert_uint_eq(u.flags, USAGE_FLAG_CLAMPED);
}
END_TEST

/* An estimate never costs more than the bound that was held for. */
START_TEST(an_estimate_is_within_its_bound)
{
	static const enum usage_class sold_by[] = {USAGE_in_text, USAGE_chars, USAGE_audio_in_ms};
	static const enum operation operations[] = {OPERATION_embeddings, OPERATION_speech,
						    OPERATION_transcription};

	srandom(5);
	for (int i = 0; i < 3000; i++) {
		struct call c = {.operation = operations[i % 3]};
		struct price_book *book = book_of(sold_by[random() % 3]);
		struct price_bound b;
		struct usage u, before;

		c.counts.chars = 1 + random() % 4096;
		c.text_bytes = (size_t)(c.counts.chars * (1 + random() % 4));
		c.body_bytes = c.text_bytes + 40;
		c.counts.inputs = 1;
		c.counts.audio_ms = 1 + random() % 10000000;
		c.counts.audio_ms_max = c.counts.audio_ms * 2;
		bound_of_call(&c, NULL, &b);
		bound_estimate(&c, price_find(book, STR("p"), STR("m")),
			       c.counts.audio_ms / 1000 * 16, &u);
		before = u;
		bound_clamp(&b, &u);
		ck_assert_mem_eq(&before, &u, sizeof u);
		price_book_unref(book);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("routing/bound");
	TCase *t = tcase_create("bound");

	tcase_add_test(t, embeddings_are_bounded_by_their_bytes_and_not_by_the_window);
	tcase_add_test(t, a_chat_is_not_for_this_file);
	tcase_add_test(t, speech_is_counted_in_what_its_model_is_sold_by);
	tcase_add_test(t, what_is_heard_is_counted_in_what_its_model_is_sold_by);
	tcase_add_test(t, what_is_over_the_bound_is_cut_and_flagged);
	tcase_add_test(t, an_estimate_is_within_its_bound);
	suite_add_tcase(s, t);
	return suite_run(s);
}
