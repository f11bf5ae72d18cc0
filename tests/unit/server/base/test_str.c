/* server/base/str.c: questions about borrowed bytes. */
#include <check.h>
#include <signal.h>

#include "server/base/str.h"

START_TEST(compares)
{
	ck_assert(str_eq(STR("ab"), STR("ab")));
	ck_assert(!str_eq(STR("ab"), STR("abc")));
	ck_assert(str_eq(STR_NULL, STR("")));
	ck_assert(str_eq_nocase(STR("Content-Type"), STR("content-tYPE")));
	ck_assert(!str_eq_nocase(STR("a["), STR("a{"))); /* 0x20 apart, but no letters */
	ck_assert_int_lt(str_cmp(STR("a"), STR("ab")), 0);
	ck_assert_int_gt(str_cmp(STR("\xff"), STR("a")), 0);
	ck_assert_int_eq(str_cmp(STR_NULL, STR("")), 0);
	ck_assert(str_starts(STR("abc"), STR("ab")) && !str_starts(STR("a"), STR("ab")));
	ck_assert(str_ends(STR("abc"), STR("bc")) && !str_ends(STR("c"), STR("bc")));
	ck_assert(str_ends(STR("abc"), STR("")));
}
END_TEST

START_TEST(finds)
{
	ck_assert_int_eq(str_find(STR("a:b:c"), ':'), 1);
	ck_assert_int_eq(str_find(STR_NULL, ':'), -1);
	ck_assert_int_eq(str_find_str(STR("aab"), STR("ab")), 1);
	ck_assert_int_eq(str_find_str(STR("a"), STR("ab")), -1);
	ck_assert_int_eq(str_find_str(STR_NULL, STR("a")), -1);
	ck_assert_int_eq(str_find_str(STR("a"), STR("")), 0);
	ck_assert_int_eq(str_find_nocase(STR("x-AbC"), STR("abc")), 2);
	ck_assert_int_eq(str_find_nocase(STR("ab"), STR("abc")), -1);
}
END_TEST

START_TEST(cuts)
{
	struct str rest = STR("a,,b");

	ck_assert(str_is(str_cut(&rest, ','), "a"));
	ck_assert(str_is(str_cut(&rest, ','), ""));
	ck_assert(rest.ptr);
	ck_assert(str_is(str_cut(&rest, ','), "b"));
	ck_assert_ptr_null(rest.ptr);
	ck_assert(str_is(str_slice(STR("abc"), 1, 99), "bc"));
	ck_assert_uint_eq(str_slice(STR("abc"), 5, 2).len, 0);
	ck_assert(str_is(str_trim(STR(" \ta b\t ")), "a b"));
	ck_assert_uint_eq(str_trim(STR("  ")).len, 0);
	rest = STR("a,");
	(void)str_cut(&rest, ',');
	ck_assert(rest.ptr && rest.len == 0); /* there was a separator: one more, empty part */
}
END_TEST

START_TEST(globs)
{
	static const struct {
		const char *pattern, *s;
		bool match;
	} rows[] = {
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"gpt-*", "gpt-4o", true},
		{"gpt-*", "xgpt-4o", false},
		{"*mini", "4o-mini", true},
		{"*a*b", "xaxbxb", true},
		{"*a*b", "xaxbx", false},
		{"a**b", "ab", true},
		{"a*", "A", false},
		{"a?c", "abc", false},
		{"*x*", "aaa", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_msg(str_glob(str_from(rows[i].pattern), str_from(rows[i].s)) ==
				      rows[i].match,
			      "row %zu", i);
}
END_TEST

START_TEST(numbers)
{
	static const char *const bad[] = {"",
					  "-",
					  "+1",
					  " 1",
					  "1 ",
					  "1.0",
					  "0x1",
					  "--1",
					  "-18446744073709551616",
					  "9223372036854775808",
					  "-9223372036854775809",
					  "1e3"};
	int64_t i = 42;
	uint64_t u = 42;

	for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
		ck_assert_msg(str_to_i64(str_from(bad[k]), &i) == RC_INVALID, "%s", bad[k]);
		ck_assert_int_eq(i, 42);
	}
	ck_assert(str_to_i64(STR("9223372036854775807"), &i) == RC_OK && i == INT64_MAX);
	ck_assert(str_to_i64(STR("-9223372036854775808"), &i) == RC_OK && i == INT64_MIN);
	ck_assert(str_to_i64(STR("-0"), &i) == RC_OK && i == 0);
	ck_assert(str_to_u64(STR("18446744073709551615"), &u) == RC_OK && u == UINT64_MAX);
	ck_assert(str_to_u64(STR("18446744073709551616"), &u) == RC_INVALID);
	ck_assert(str_to_u64(STR("-1"), &u) == RC_INVALID && u == UINT64_MAX);
}
END_TEST

START_TEST(utf8)
{
	static const char *const good[] = {"",
					   "a",
					   "\xc3\xa9",
					   "\xe2\x82\xac",
					   "\xf0\x9f\x98\x80",
					   "\xf4\x8f\xbf\xbf",
					   "\xed\x9f\xbf",
					   "\xee\x80\x80"};
	static const char *const bad[] = {"\x80",
					  "\xc0\x80",
					  "\xc1\xbf",
					  "\xe0\x9f\xbf",
					  "\xed\xa0\x80",
					  "\xf0\x8f\xbf\xbf",
					  "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80",
					  "\xff",
					  "a\xc3",
					  "\xe2\x82",
					  "\xf0\x9f\x98",
					  "\xc3z"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(str_is_utf8(str_from(good[i])), "good %zu", i);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!str_is_utf8(str_from(bad[i])), "bad %zu", i);
	ck_assert(str_is_utf8(STR("a\0b"))); /* NUL is a character */
}
END_TEST

START_TEST(names_of_codes)
{
	ck_assert_str_eq(rc_name(RC_OK), "ok");
	ck_assert_str_eq(rc_name(RC_TOO_LARGE), "too_large");
	ck_assert_str_eq(rc_name(RC_IO), "io");
	ck_assert_str_eq(rc_name((enum rc)999), "unknown");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("str");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, compares);
	tcase_add_test(t, finds);
	tcase_add_test(t, cuts);
	tcase_add_test(t, globs);
	tcase_add_test(t, numbers);
	tcase_add_test(t, utf8);
	tcase_add_test(t, names_of_codes);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
