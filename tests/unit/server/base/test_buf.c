/* server/base/buf.c: the cap holds, and a refused append changes nothing. */
#include <check.h>
#include <signal.h>

#include "server/base/buf.h"

START_TEST(appends)
{
	AUTO(buf) struct buf b = BUF_INIT(1000);

	ck_assert(buf_append(&b, STR("ab")) == RC_OK);
	ck_assert(buf_append_char(&b, 'c') == RC_OK);
	ck_assert(buf_printf(&b, "%d-%s", 42, "x") == RC_OK);
	ck_assert_str_eq(b.ptr, "abc42-x");
	ck_assert_uint_eq(b.len, 7);
	buf_consume(&b, 3);
	ck_assert_str_eq(b.ptr, "42-x");
	buf_consume(&b, 4);
	ck_assert_uint_eq(b.len, 0);
	ck_assert_str_eq(b.ptr, "");
}
END_TEST

START_TEST(empty_append_gives_a_pointer)
{
	AUTO(buf) struct buf b = BUF_INIT(0);

	ck_assert(buf_append(&b, STR("")) == RC_OK);
	ck_assert_ptr_nonnull(buf_str(&b).ptr);
	ck_assert(buf_append(&b, STR("x")) == RC_TOO_LARGE);
}
END_TEST

START_TEST(cap_holds_for_every_length)
{
	char text[700];

	memset(text, 'x', sizeof text);
	for (size_t max = 0; max < 600; max += 7) {
		AUTO(buf) struct buf b = BUF_INIT(max);

		ck_assert(buf_append(&b, str_of(text, max + 1)) == RC_TOO_LARGE);
		ck_assert_uint_eq(b.len, 0);
		ck_assert(buf_append(&b, str_of(text, max)) == RC_OK);
		ck_assert_uint_eq(b.len, max);
		ck_assert(buf_append_char(&b, 'y') == RC_TOO_LARGE);
		ck_assert(buf_printf(&b, "%s", "y") == RC_TOO_LARGE);
		ck_assert(buf_reserve(&b, 1) == RC_TOO_LARGE);
		ck_assert(buf_append(&b, str_of(text, SIZE_MAX - 2)) == RC_TOO_LARGE);
		ck_assert_uint_eq(b.len, max);
		ck_assert_uint_eq(strlen(b.ptr), max);
		ck_assert_uint_le(b.cap, max + 1);
	}
}
END_TEST

START_TEST(refused_printf_leaves_no_trace)
{
	AUTO(buf) struct buf b = BUF_INIT(300);

	ck_assert(buf_append(&b, STR("start")) == RC_OK);
	ck_assert(buf_printf(&b, "%0400d", 7) == RC_TOO_LARGE);
	ck_assert_str_eq(b.ptr, "start");
	ck_assert(buf_printf(&b, "%0295d", 7) == RC_OK);
	ck_assert_uint_eq(b.len, 300);
}
END_TEST

START_TEST(take_moves)
{
	struct buf b = BUF_INIT(10);
	struct buf taken;

	ck_assert(buf_append(&b, STR("abc")) == RC_OK);
	taken = buf_take(&b);
	ck_assert_ptr_null(b.ptr);
	ck_assert_uint_eq(b.bytes_max, 10);
	ck_assert_str_eq(taken.ptr, "abc");
	ck_assert(buf_append(&b, STR("z")) == RC_OK);
	ck_assert_str_eq(taken.ptr, "abc");
	buf_clear(&taken);
	buf_reset(&b);
	ck_assert_str_eq(b.ptr, "");
	buf_clear(&b);
	buf_clear(&b);
	ck_assert_uint_eq(b.bytes_max, 10);
	buf_clear(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, appends);
	tcase_add_test(t, empty_append_gives_a_pointer);
	tcase_add_test(t, cap_holds_for_every_length);
	tcase_add_test(t, refused_printf_leaves_no_trace);
	tcase_add_test(t, take_moves);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
