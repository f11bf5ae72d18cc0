/* server/base/id.c: form, order per thread, no repetition over threads. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/id.h"

#define THREADS 4
#define EACH	20000

static struct uuid made[THREADS][EACH];

static void *make(void *arg)
{
	struct uuid *u = arg;

	for (int i = 0; i < EACH; i++)
		u[i] = uuid_v7();
	return NULL;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct uuid));
}

START_TEST(ascend_per_thread_and_never_repeat)
{
	pthread_t threads[THREADS];
	struct uuid *all = &made[0][0];

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, make, made[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < THREADS; i++)
		for (int k = 1; k < EACH; k++)
			ck_assert_int_lt(compare(&made[i][k - 1], &made[i][k]), 0);
	qsort(all, THREADS * EACH, sizeof *all, compare);
	for (int i = 1; i < THREADS * EACH; i++)
		ck_assert(!uuid_eq(all[i - 1], all[i]));
}
END_TEST

START_TEST(ascend_while_the_clock_stands_or_steps_back)
{
	struct uuid last, next;

	clock_fake_set(0, 1700000000000000);
	last = uuid_v7();
	ck_assert_int_eq(uuid_time_ms(last), 1700000000000);
	for (int i = 0; i < 100000; i++) {
		clock_fake_set(0, 1700000000000000 - i * 1000);
		next = uuid_v7();
		ck_assert_int_lt(compare(&last, &next), 0);
		last = next;
	}
	ck_assert_int_eq(uuid_time_ms(last), 1700000000000); /* room enough in one millisecond */
	clock_fake_set(0, 1700000001000000);
	ck_assert_int_eq(uuid_time_ms(uuid_v7()), 1700000001000);
	clock_fake_set(-1, 0);
}
END_TEST

START_TEST(at_a_given_time)
{
	struct uuid a = uuid_v7_at(1234567890123);
	struct uuid b = uuid_v7_at(1234567890123);

	ck_assert(!uuid_eq(a, b));
	ck_assert_int_eq(uuid_time_ms(a), 1234567890123);
	ck_assert_int_eq(uuid_time_ms(b), 1234567890123);
	ck_assert_int_eq(a.b[6] >> 4, 7);
	ck_assert_int_eq(a.b[8] >> 6, 2);
}
END_TEST

START_TEST(text)
{
	static const char *const bad[] = {"",
					  "018bcfe5-6800-7000-8000-00000000000",
					  "018bcfe5-6800-7000-8000-0000000000000",
					  "018bcfe5-6800-7000-8000-00000000000g",
					  "018bcfe5068000700008000-00000000000",
					  "{18bcfe5-6800-7000-8000-00000000000}",
					  "018bcfe56800700080000000000000000000"};
	char out[UUID_TEXT_SIZE];
	struct uuid u, back = {{9}};

	for (int i = 0; i < 1000; i++) {
		u = uuid_v7();
		ck_assert(uuid_parse(uuid_format(u, out), &back) == RC_OK);
		ck_assert(uuid_eq(u, back));
	}
	ck_assert(uuid_parse(STR("00000000-0000-7000-8000-0000000000AB"), &u) == RC_OK);
	ck_assert_str_eq((uuid_format(u, out), out), "00000000-0000-7000-8000-0000000000ab");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(uuid_parse(str_from(bad[i]), &back) == RC_INVALID, "%s", bad[i]);
	ck_assert_str_eq((uuid_format(org_id_platform.u, out), out),
			 "00000000-0000-7000-8000-000000000000");
	ck_assert(uuid_is_zero((struct uuid){{0}}) && !uuid_is_zero(org_id_platform.u));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("id");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, ascend_per_thread_and_never_repeat);
	tcase_add_test(t, ascend_while_the_clock_stands_or_steps_back);
	tcase_add_test(t, at_a_given_time);
	tcase_add_test(t, text);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
