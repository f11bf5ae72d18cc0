/* Rate limits per key: exact, over threads too, by a fake clock. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "vault/limits_priv.h"
#include "vault/vault.h"

static struct principal p;
static struct vault_limits lim;
static struct err err;

static void at_ms(int64_t ms)
{
	clock_fake_set(ms * 1000, ms * 1000);
	clock_turn();
}

static void setup(void)
{
	limits_start();
	at_ms(1000000);
	p = (struct principal){.key_id = {{1, 2, 3}}};
}

static void teardown(void)
{
	limits_stop();
	clock_fake_set(-1, 0);
}

START_TEST(no_limit_keeps_nothing)
{
	ck_assert_int_eq(vault_limits_take(&p, 1000000, &lim, &err), RC_OK);
	ck_assert_int_eq(lim.requests_limit, 0);
	ck_assert_int_eq(lim.tokens_limit, 0);
	ck_assert_uint_eq(limits_count(), 0);
	vault_limits_correct(p.key_id, 5, 1, clock_mono_ms());
}
END_TEST

START_TEST(requests_of_a_minute)
{
	p.rpm = 3;
	for (int i = 0; i < 3; i++) {
		at_ms(1000000 + i * 1000);
		ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_OK);
		ck_assert_int_eq(lim.requests_limit, 3);
		ck_assert_int_eq(lim.requests_remaining, 2 - i);
	}
	at_ms(1000000 + 59999);
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_LIMIT);
	ck_assert_str_eq(err.code, "rate_limit_exceeded");
	ck_assert_int_eq(err.retry_after_s, 1);
	ck_assert_int_eq(lim.requests_remaining, 0);
	ck_assert_int_eq(lim.requests_reset_ms, 1);
	at_ms(1000000 + 60000); /* the next minute */
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_OK);
	ck_assert_int_eq(lim.requests_remaining, 2);
	ck_assert_int_eq(lim.requests_reset_ms, 60000);
}
END_TEST

START_TEST(tokens_are_reserved_and_corrected)
{
	const int64_t taken_at = clock_mono_ms();

	p.tpm = 1000;
	ck_assert_int_eq(vault_limits_take(&p, 600, &lim, &err), RC_OK);
	ck_assert_int_eq(lim.tokens_remaining, 400);
	ck_assert_int_eq(vault_limits_take(&p, 401, &lim, &err), RC_LIMIT);
	ck_assert_int_eq(lim.tokens_remaining, 400); /* nothing was taken */
	ck_assert_int_eq(err.retry_after_s, 60);
	vault_limits_correct(p.key_id, 600, 100, taken_at);
	ck_assert_int_eq(vault_limits_take(&p, 401, &lim, &err), RC_OK);
	ck_assert_int_eq(lim.tokens_remaining, 499);
	vault_limits_correct(p.key_id, 401, 900, taken_at); /* more than reserved */
	ck_assert_int_eq(vault_limits_take(&p, 1, &lim, &err), RC_LIMIT);
	ck_assert_int_eq(lim.tokens_remaining, 0);
	at_ms(1000000 + 60000);
	ck_assert_int_eq(vault_limits_take(&p, 1000, &lim, &err), RC_OK);
	vault_limits_correct(p.key_id, 600, 0, taken_at); /* of the minute before: too late */
	ck_assert_int_eq(vault_limits_take(&p, 1, &lim, &err), RC_LIMIT);
}
END_TEST

START_TEST(more_than_any_minute_allows)
{
	p.tpm = 1000;
	p.rpm = 1;
	ck_assert_int_eq(vault_limits_take(&p, 1001, &lim, &err), RC_INVALID);
	ck_assert_int_eq(lim.tokens_limit, 1000);
	ck_assert_int_eq(lim.requests_remaining, 1); /* the request was not counted */
	ck_assert_int_eq(vault_limits_take(&p, INT64_MAX, &lim, &err), RC_INVALID);
	ck_assert_int_eq(vault_limits_take(&p, 1000, &lim, &err), RC_OK);
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_LIMIT);
}
END_TEST

START_TEST(keys_do_not_share)
{
	struct principal q;

	p.rpm = 1;
	q = p;
	q.key_id.b[15] = 7;
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_OK);
	ck_assert_int_eq(vault_limits_take(&q, 0, &lim, &err), RC_OK);
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_LIMIT);
	ck_assert_int_eq(vault_limits_take(&q, 0, &lim, &err), RC_LIMIT);
	ck_assert_uint_eq(limits_count(), 2);
}
END_TEST

START_TEST(idle_keys_make_room)
{
	p.rpm = 1;
	p.key_id.b[15] = 1; /* one shard */
	for (int i = 0; i < 4096; i++) {
		p.key_id.b[0] = (uint8_t)i;
		p.key_id.b[1] = (uint8_t)(i >> 8);
		ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_OK);
	}
	p.key_id.b[2] = 99;
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_LIMIT); /* all are running */
	at_ms(1000000 + 60000);
	ck_assert_int_eq(vault_limits_take(&p, 0, &lim, &err), RC_OK);
	ck_assert_uint_eq(limits_count(), 1);
}
END_TEST

static _Atomic int granted;

static void *hammer(void *arg)
{
	const struct principal *mine = arg;
	struct vault_limits l;
	struct err e;

	for (int i = 0; i < 5000; i++)
		if (vault_limits_take(mine, 3, &l, &e) == RC_OK)
			atomic_fetch_add(&granted, 1);
	return NULL;
}

START_TEST(exact_over_threads)
{
	pthread_t threads[4];

	p.rpm = 7000;
	p.tpm = 3 * 6500; /* the tokens end first */
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &p), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(atomic_load(&granted), 6500);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("limits");
	TCase *t = tcase_create("limits");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, no_limit_keeps_nothing);
	tcase_add_test(t, requests_of_a_minute);
	tcase_add_test(t, tokens_are_reserved_and_corrected);
	tcase_add_test(t, more_than_any_minute_allows);
	tcase_add_test(t, keys_do_not_share);
	tcase_add_test(t, idle_keys_make_room);
	tcase_add_test(t, exact_over_threads);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
