/* server/base/hist.c: every value in the right slot, also from many threads. */
#include <check.h>
#include <pthread.h>
#include <signal.h>

#include "server/base/hist.h"

START_TEST(bounds)
{
	ck_assert_int_eq(hist_bounds_us[0], 10);
	ck_assert_int_eq(hist_bounds_us[HIST_BUCKETS - 1], 600000000);
	for (int i = 0; i < HIST_BUCKETS; i++) {
		struct hist h = {0};

		ck_assert(i == 0 || hist_bounds_us[i] > hist_bounds_us[i - 1]);
		hist_add(&h, hist_bounds_us[i]); /* a bound belongs to its own bucket */
		hist_add(&h, hist_bounds_us[i] + 1);
		ck_assert_uint_eq(h.slot[i], 1);
		ck_assert_uint_eq(h.slot[i + 1], 1);
		ck_assert_uint_eq(h.sum_us, 2 * (uint64_t)hist_bounds_us[i] + 1);
		ck_assert_uint_eq(h.count, 2);
	}
}
END_TEST

START_TEST(negative_is_zero)
{
	struct hist h = {0};

	hist_add(&h, -5);
	ck_assert_uint_eq(h.slot[0], 1);
	ck_assert_uint_eq(h.sum_us, 0);
}
END_TEST

static struct hist shared;
static struct counter shared_count;

static void *add_many(void *arg)
{
	for (int i = 0; i < 100000; i++) {
		hist_add(&shared, i % 7);
		counter_add(&shared_count, 2);
	}
	return arg;
}

START_TEST(threads_lose_nothing)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, add_many, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(shared.count, 400000);
	ck_assert_uint_eq(shared.slot[0], 400000);
	ck_assert_uint_eq(counter_get(&shared_count), 800000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hist");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, bounds);
	tcase_add_test(t, negative_is_zero);
	tcase_add_test(t, threads_lose_nothing);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
