/* server/base/arena.c: zeroed, aligned, capped, and undone in reverse. */
#include <check.h>
#include <signal.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/base/arena.h"

START_TEST(zeroed_and_aligned)
{
	struct arena *a = arena_new(1 << 24);

	for (size_t size = 0; size < 20000; size = size * 3 / 2 + 1) {
		unsigned char *p = arena_alloc(a, size);

		ck_assert_uint_eq((uintptr_t)p % alignof(max_align_t), 0);
		for (size_t i = 0; i < size; i++)
			ck_assert_uint_eq(p[i], 0);
		memset(p, 0xee, size);
	}
	arena_free(a);
	arena_free(NULL);
}
END_TEST

START_TEST(checked_form_stops_at_the_cap)
{
	struct arena *a = arena_new(20000);
	void *p = (void *)1;

	ck_assert(arena_try_alloc(a, 20001, &p) == RC_TOO_LARGE);
	ck_assert(arena_try_alloc(a, SIZE_MAX, &p) == RC_TOO_LARGE);
	ck_assert_ptr_eq(p, (void *)1);
	ck_assert(arena_try_alloc(a, 15000, &p) == RC_OK);
	ck_assert(arena_try_alloc(a, 5001, &p) == RC_TOO_LARGE);
	ck_assert_uint_eq(arena_bytes(a), 15000);
	ck_assert(arena_try_alloc(a, 16, &p) == RC_OK);
	arena_free(a);
}
END_TEST

START_TEST(many_tiny_ones_cannot_outgrow_the_cap)
{
	struct arena *a = arena_new(16000);
	size_t n = 0;
	void *p;

	while (arena_try_alloc(a, 1, &p) == RC_OK)
		n++;
	ck_assert_uint_le(n, 1000);
	ck_assert_uint_ge(n, 500);
	arena_free(a);
}
END_TEST

START_TEST(what_is_reserved_is_for_the_unchecked_form)
{
	struct arena *a = arena_new(20000);
	void *p;

	arena_reserve(a, 4000);
	ck_assert(arena_try_alloc(a, 16001, &p) == RC_TOO_LARGE);
	ck_assert(arena_try_alloc(a, 9000, &p) == RC_OK);
	ck_assert(arena_try_resize(a, p, 9000, 16001, &p) == RC_TOO_LARGE);
	ck_assert(arena_try_resize(a, p, 9000, 15900, &p) == RC_OK);
	ck_assert(arena_try_alloc(a, 200, &p) == RC_TOO_LARGE);
	ck_assert_ptr_nonnull(arena_alloc(a, 3000));
	ck_assert(arena_try_alloc(a, 16, &p) == RC_TOO_LARGE);
	arena_free(a);
}
END_TEST

/* aborts: unchecked_form_ends_the_process */
START_TEST(unchecked_form_ends_the_process)
{
	arena_alloc(arena_new(100), 101);
}
END_TEST

START_TEST(strings)
{
	struct arena *a = arena_new(100000);
	struct str s = arena_printf(a, "%s-%d", "x", 7);

	ck_assert(str_is(s, "x-7"));
	ck_assert_str_eq(arena_strdup(a, STR_NULL), "");
	ck_assert_str_eq(arena_strdup(a, str_slice(STR("abcdef"), 1, 3)), "bc");
	ck_assert_ptr_nonnull(arena_str(a, STR_NULL).ptr);
	arena_free(a);
}
END_TEST

static char order[8];
static struct arena *undoing;

static void undo_late(void *arg)
{
	strcat(order, arg);
}

static void undo(void *arg)
{
	strcat(order, arg);
	if (strcmp(arg, "b") == 0)
		arena_on_clear(undoing, undo_late, "x");
}

START_TEST(undo_runs_in_reverse)
{
	undoing = arena_new(0); /* an undo is taken even when the cap is reached */
	arena_on_clear(undoing, undo, "a");
	arena_on_clear(undoing, undo, "b");
	arena_on_clear(undoing, undo, "c");
	ck_assert_str_eq(order, "");
	arena_free(undoing);
	ck_assert_str_eq(order, "cbxa");
}
END_TEST

START_TEST(resize_keeps_the_bytes)
{
	static const size_t sizes[] = {10, 9000, 50000, 100, 8192, 8191, 1, 60000};
	struct arena *a = arena_new(200000);
	size_t old = 0;
	void *p = NULL;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		void *q;
		size_t kept = old < sizes[i] ? old : sizes[i];

		ck_assert(arena_try_resize(a, p, old, sizes[i], &q) == RC_OK);
		for (size_t k = 0; k < kept; k++)
			ck_assert_int_eq(((char *)q)[k], (char)(k * 7));
		for (size_t k = 0; k < sizes[i]; k++)
			((char *)q)[k] = (char)(k * 7);
		p = q;
		old = sizes[i];
	}
	ck_assert(arena_try_resize(a, p, old, 300000, &p) == RC_TOO_LARGE);
	ck_assert_int_eq(((char *)p)[59999], (char)(59999 * 7));
	ck_assert_uint_lt(arena_bytes(a), 100000); /* the larger ones were given back */
	arena_free(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("arena");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, zeroed_and_aligned);
	tcase_add_test(t, checked_form_stops_at_the_cap);
	tcase_add_test(t, what_is_reserved_is_for_the_unchecked_form);
	tcase_add_test(t, many_tiny_ones_cannot_outgrow_the_cap);
	tcase_add_test_raise_signal(t, unchecked_form_ends_the_process, SIGABRT);
	tcase_add_test(t, strings);
	tcase_add_test(t, undo_runs_in_reverse);
	tcase_add_test(t, resize_keeps_the_bytes);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
