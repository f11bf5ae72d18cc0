/* server/base/err.c: words that are safe to show. */
#include <check.h>
#include <signal.h>

#include "server/base/err.h"

START_TEST(fills_and_clears)
{
	struct err e;

	memset(&e, 'x', sizeof e);
	ck_assert(err_set(&e, RC_LIMIT, "no_credit", "needs %d", 5) == RC_LIMIT);
	ck_assert_str_eq(e.code, "no_credit");
	ck_assert_str_eq(e.message, "needs 5");
	ck_assert_str_eq(e.hint, "");
	ck_assert_str_eq(e.field, "");
	ck_assert_str_eq(e.detail, "");
	ck_assert_int_eq(e.retry_after_s, 0);
	err_hint(&e, "top %s", "up");
	err_field(&e, "f");
	err_detail(&e, "d");
	ck_assert_str_eq(e.hint, "top up");
	ck_assert_str_eq(e.field, "f");
	ck_assert_str_eq(e.detail, "d");
	ck_assert(err_set(NULL, RC_IO, "x", "y") == RC_IO);
	err_hint(NULL, "x");
}
END_TEST

START_TEST(control_bytes_and_bad_utf8_become_question_marks)
{
	struct err e;

	(void)err_set(&e, RC_INVALID, "x", "a\r\nb\x1b[0m\x7f \xc3\xa9 \xff.");
	ck_assert_str_eq(e.message, "a??b?[0m? \xc3\xa9 ?.");
}
END_TEST

START_TEST(cut_between_characters)
{
	char text[600];

	for (size_t pad = 0; pad < 4; pad++) {
		struct err e;

		memset(text, 'a', pad);
		for (size_t at = pad; at + 3 < sizeof text; at += 3)
			memcpy(text + at, "\xe2\x82\xac", 4);
		(void)err_set(&e, RC_INVALID, "x", "%s", text);
		ck_assert(str_is_utf8(str_from(e.message)));
		ck_assert_uint_ge(strlen(e.message), sizeof e.message - 4);
		ck_assert_ptr_null(strchr(e.message, '?'));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("err");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, fills_and_clears);
	tcase_add_test(t, control_bytes_and_bad_utf8_become_question_marks);
	tcase_add_test(t, cut_between_characters);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
