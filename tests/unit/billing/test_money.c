/* Money: text round trips, checked arithmetic, what is refused. */
#include <check.h>
#include <stdlib.h>

#include "billing/money.h"

static money_t parsed(const char *z)
{
	money_t m = {-1};

	ck_assert_msg(money_parse(str_from(z), true, &m) == RC_OK, "%s", z);
	return m;
}

START_TEST(parse_reads_exact_nanos)
{
	static const struct {
		const char *text;
		int64_t nano;
	} rows[] = {
		{"0", 0},
		{"10", 10000000000},
		{"10.00", 10000000000},
		{"0.001234500", 1234500},
		{"0.000000001", 1},
		{"00012.5", 12500000000},
		{"-7.25", -7250000000},
		{"100000000", MONEY_NANO_MAX},
		{"100000000.000000000", MONEY_NANO_MAX},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_int_eq(parsed(rows[i].text).nano, rows[i].nano);
}
END_TEST

START_TEST(parse_refuses_everything_else)
{
	static const char *const rows[] = {
		"",	    ".",
		"1.",	    ".5",
		"+1",	    " 1",
		"1 ",	    "1e3",
		"1,0",	    "0.1234567890",
		"--1",	    "-",
		"1.2.3",    "0x10",
		"NaN",	    "inf",
		"1.-2",	    "100000000.000000001",
		"\xd9\xa3", "99999999999999999999999999",
		"1_000",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		money_t m = {42};

		ck_assert_msg(money_parse(str_from(rows[i]), true, &m) == RC_INVALID, "\"%s\"",
			      rows[i]);
		ck_assert_int_eq(m.nano, 42);
	}
	money_t m = {42};
	ck_assert_int_eq(money_parse(STR("-1"), false, &m), RC_INVALID);
	ck_assert_int_eq(money_parse(str_of("1\0", 2), false, &m), RC_INVALID);
	ck_assert_int_eq(m.nano, 42);
}
END_TEST

START_TEST(format_says_nine_places)
{
	char out[MONEY_TEXT_SIZE];

	ck_assert(str_is(money_format(money_nano(1234500), out), "0.001234500"));
	ck_assert(str_is(money_format(money_nano(0), out), "0.000000000"));
	ck_assert(str_is(money_format(money_nano(-1), out), "-0.000000001"));
	ck_assert(str_is(money_format(money_nano(INT64_MIN), out), "-9223372036.854775808"));
	ck_assert(str_is(money_format(money_nano(INT64_MAX), out), "9223372036.854775807"));
	ck_assert(str_is(money_format_short(money_nano(1234500), out), "0.0012345"));
	ck_assert(str_is(money_format_short(money_nano(3000000000), out), "3"));
	ck_assert(str_is(money_format_short(money_nano(100000000000), out), "100"));
	ck_assert(str_is(money_format_short(money_nano(0), out), "0"));
	ck_assert_str_eq(out, "0");
}
END_TEST

START_TEST(every_amount_survives_the_round_trip)
{
	char out[MONEY_TEXT_SIZE];
	money_t back;

	srandom(7);
	for (int i = 0; i < 200000; i++) {
		int64_t n = (((int64_t)random() << 31) ^ random()) % (MONEY_NANO_MAX + 1);

		if (i % 3 == 0)
			n %= 1000000;
		if (i % 2)
			n = -n;
		ck_assert_int_eq(money_parse(money_format(money_nano(n), out), true, &back), RC_OK);
		ck_assert_int_eq(back.nano, n);
		ck_assert_int_eq(money_parse(money_format_short(money_nano(n), out), true, &back),
				 RC_OK);
		ck_assert_int_eq(back.nano, n);
	}
}
END_TEST

START_TEST(arithmetic_refuses_overflow)
{
	money_t m = {42};

	ck_assert_int_eq(money_add(money_nano(INT64_MAX), money_nano(1), &m), RC_TOO_LARGE);
	ck_assert_int_eq(money_sub(money_nano(INT64_MIN), money_nano(1), &m), RC_TOO_LARGE);
	ck_assert_int_eq(money_sub(money_nano(0), money_nano(INT64_MIN), &m), RC_TOO_LARGE);
	ck_assert_int_eq(m.nano, 42);
	ck_assert_int_eq(money_add(money_nano(INT64_MAX), money_nano(-1), &m), RC_OK);
	ck_assert_int_eq(m.nano, INT64_MAX - 1);
	ck_assert_int_eq(money_sub(money_nano(5), money_nano(8), &m), RC_OK);
	ck_assert_int_eq(m.nano, -3);
	ck_assert_int_lt(money_cmp(money_nano(-1), money_nano(0)), 0);
	ck_assert_int_gt(money_cmp(money_nano(INT64_MAX), money_nano(INT64_MIN)), 0);
	ck_assert_int_eq(money_cmp(money_nano(9), money_nano(9)), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("billing/money");
	TCase *t = tcase_create("money");
	SRunner *r;
	int failed;

	tcase_add_test(t, parse_reads_exact_nanos);
	tcase_add_test(t, parse_refuses_everything_else);
	tcase_add_test(t, format_says_nine_places);
	tcase_add_test(t, every_amount_survives_the_round_trip);
	tcase_add_test(t, arithmetic_refuses_overflow);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
