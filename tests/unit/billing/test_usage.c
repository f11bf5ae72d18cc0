/* The usage vector's bounds: whatever a provider claims, in whichever class, is cut to what a call can use. */
#include <check.h>
#include <stdlib.h>

#include "billing/usage.h"

static bool is_in(enum usage_class c)
{
	struct usage u = {.present = true};

	u.n[c] = 1;
	return usage_total_in(&u) == 1;
}

static bool is_out(enum usage_class c)
{
	struct usage u = {.present = true};

	u.n[c] = 1;
	return usage_total_out(&u) == 1;
}

START_TEST(every_class_is_cut)
{
	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++) {
		struct usage u = {.present = true};
		const bool in = is_in((enum usage_class)c), out = is_out((enum usage_class)c);

		u.n[c] = USAGE_UNITS_MAX;
		usage_clamp(&u, 1000, 100);
		ck_assert_int_eq(u.n[c], in ? 1000 : out ? 100 : USAGE_UNITS_MAX);
		ck_assert_uint_eq(u.flags, in || out ? USAGE_FLAG_CLAMPED : 0);
	}
}
END_TEST

START_TEST(all_classes_together)
{
	struct usage u = {.present = true};

	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++)
		u.n[c] = USAGE_UNITS_MAX;
	usage_clamp(&u, 1000, 100);
	ck_assert_int_eq(usage_total_in(&u), 1000);
	ck_assert_int_eq(usage_total_out(&u), 100);
	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++)
		ck_assert_int_ge(u.n[c], 0);
}
END_TEST

START_TEST(what_fits_or_has_no_bound_stays)
{
	struct usage u = {.present = true};

	u.n[USAGE_in_text] = 900;
	u.n[USAGE_in_audio] = 100;
	u.n[USAGE_out_reasoning] = 100;
	usage_clamp(&u, 1000, 100);
	usage_clamp(&u, 0, -1);
	ck_assert_int_eq(u.n[USAGE_in_text], 900);
	ck_assert_int_eq(u.n[USAGE_in_audio], 100);
	ck_assert_int_eq(u.n[USAGE_out_reasoning], 100);
	ck_assert_uint_eq(u.flags, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("usage");
	TCase *t = tcase_create("clamp");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, every_class_is_cut);
	tcase_add_test(t, all_classes_together);
	tcase_add_test(t, what_fits_or_has_no_bound_stays);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
