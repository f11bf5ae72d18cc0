/* server/base/clock.c: holding, faking, RFC 3339 there and back. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/base/clock.h"

static int64_t parse(const char *z)
{
	int64_t us = -1;

	ck_assert_msg(clock_parse_rfc3339(str_from(z), &us) == RC_OK, "%s", z);
	return us;
}

START_TEST(round_trip)
{
	char text[CLOCK_RFC3339_SIZE];

	srand(1);
	for (int i = 0; i < 20000; i++) {
		int64_t s =
			(int64_t)(((uint64_t)rand() << 31 | (uint64_t)rand()) % 315537897600ull) -
			62135596800ll;
		int64_t us = s * 1000000 + rand() % 1000000;
		time_t t = (time_t)s;
		struct tm tm;
		char libc[40];

		ck_assert(clock_parse_rfc3339(clock_rfc3339(us, text), &s) == RC_OK);
		ck_assert_int_eq(s, us);
		gmtime_r(&t, &tm); /* the C library's calendar says the same */
		snprintf(libc, sizeof libc, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
			 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
		ck_assert_msg(strncmp(text, libc, 19) == 0, "%s is not %s", text, libc);
	}
}
END_TEST

START_TEST(known_instants)
{
	char text[CLOCK_RFC3339_SIZE];

	ck_assert(str_is(clock_rfc3339(0, text), "1970-01-01T00:00:00.000000Z"));
	ck_assert(str_is(clock_rfc3339(-1, text), "1969-12-31T23:59:59.999999Z"));
	ck_assert_int_eq(parse("1970-01-01T00:00:00Z"), 0);
	ck_assert_int_eq(parse("1970-01-01T01:00:00+01:00"), 0);
	ck_assert_int_eq(parse("1969-12-31t19:30:00-04:30"), 0);
	ck_assert_int_eq(parse("2024-02-29T00:00:00.5Z"), 1709164800500000);
	ck_assert_int_eq(parse("1970-01-01T00:00:00.1234569z"), 123456);
	ck_assert_int_eq(parse("2016-12-31T23:59:60Z"), parse("2017-01-01T00:00:00Z"));
}
END_TEST

START_TEST(refused)
{
	static const char *const bad[] = {"",
					  "2024",
					  "2024-01-01",
					  "2024-01-01 00:00:00Z",
					  "2024-01-01T00:00:00",
					  "2023-02-29T00:00:00Z",
					  "1900-02-29T00:00:00Z",
					  "2024-13-01T00:00:00Z",
					  "2024-00-01T00:00:00Z",
					  "2024-04-31T00:00:00Z",
					  "2024-01-01T24:00:00Z",
					  "2024-01-01T00:60:00Z",
					  "2024-01-01T00:00:61Z",
					  "2024-01-01T00:00:00.Z",
					  "2024-01-01T00:00:00ZZ",
					  "2024-01-01T00:00:00+1:00",
					  "2024-01-01T00:00:00+24:00",
					  "2024-01-01T00:00:00+00:60",
					  "-024-01-01T00:00:00Z",
					  "2024-01-01T-1:00:00Z",
					  "2024-01-01T00:00:00Z ",
					  " 2024-01-01T00:00:00Z"};
	int64_t us = 7;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(clock_parse_rfc3339(str_from(bad[i]), &us) == RC_INVALID, "%s",
			      bad[i]);
	for (size_t len = 0; len < 20; len++) /* cut at every byte */
		ck_assert(clock_parse_rfc3339(str_of("2024-01-01T00:00:00Z", len), &us) ==
			  RC_INVALID);
	ck_assert_int_eq(us, 7);
}
END_TEST

/* Spin on the kernel's clock, not on ours. */
static void let_a_millisecond_pass(void)
{
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		clock_gettime(CLOCK_MONOTONIC, &to);
	} while ((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec < 1000000);
}

START_TEST(a_turn_holds_the_clocks)
{
	int64_t mono, wall;

	clock_turn();
	mono = clock_mono_us();
	wall = clock_wall_us();
	let_a_millisecond_pass();
	ck_assert_int_eq(clock_mono_us(), mono);
	ck_assert_int_eq(clock_wall_us(), wall);
	clock_turn();
	ck_assert_int_ge(clock_mono_us(), mono + 1000);
	clock_turn_lazy();
	let_a_millisecond_pass(); /* the wait */
	mono = clock_mono_us();
	let_a_millisecond_pass();
	ck_assert_int_eq(clock_mono_us(), mono);
	clock_turn_end();
	ck_assert_int_ge(clock_mono_us(), mono + 1000);
}
END_TEST

START_TEST(fake)
{
	int64_t before = clock_mono_us();

	clock_fake_set(5000, 1700000000000000);
	ck_assert_int_eq(clock_mono_us(), 5000);
	ck_assert_int_eq(clock_mono_ms(), 5);
	ck_assert_int_eq(clock_wall_ms(), 1700000000000);
	clock_turn();
	ck_assert_int_eq(clock_mono_us(), 5000);
	clock_turn_end();
	clock_fake_set(-1, 0);
	ck_assert_int_ge(clock_mono_us(), before);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("clock");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, known_instants);
	tcase_add_test(t, refused);
	tcase_add_test(t, a_turn_holds_the_clocks);
	tcase_add_test(t, fake);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
