/* server/base/map.c: table, order of use, who is dropped and when. */
#include <check.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "server/base/arena.h"
#include "server/base/map.h"

static int drops[4096];

static void drop(void *value)
{
	drops[(uintptr_t)value]++;
}

static void *v(size_t n)
{
	return (void *)n;
}

static struct str key(size_t n)
{
	static char text[32];

	return str_of(text, (size_t)snprintf(text, sizeof text, "key-%zu", n));
}

START_TEST(put_get_remove)
{
	struct map *m = map_new(0, drop);

	for (size_t i = 1; i <= 2000; i++)
		map_put(m, key(i), v(i));
	ck_assert_uint_eq(map_len(m), 2000);
	for (size_t i = 1; i <= 2000; i++)
		ck_assert_ptr_eq(map_get(m, key(i)), v(i));
	ck_assert_ptr_null(map_get(m, STR("key-")));
	ck_assert_ptr_null(map_get(m, STR("key-1\0")));
	for (size_t i = 1; i <= 2000; i += 2)
		ck_assert(map_remove(m, key(i)));
	ck_assert(!map_remove(m, key(1)));
	for (size_t i = 1; i <= 2000; i++) {
		ck_assert_int_eq(drops[i], i % 2);
		ck_assert_ptr_eq(map_get(m, key(i)), i % 2 ? NULL : v(i));
	}
	map_free(m);
	for (size_t i = 1; i <= 2000; i++)
		ck_assert_int_eq(drops[i], 1);
	map_free(NULL);
}
END_TEST

START_TEST(keys_are_bytes_and_copied)
{
	struct map *m = map_new(0, NULL);
	char text[] = "a\0b";

	map_put(m, str_of(text, 3), v(1));
	map_put(m, STR(""), v(2));
	text[2] = 'c';
	ck_assert_ptr_eq(map_get(m, STR("a\0b")), v(1));
	ck_assert_ptr_null(map_get(m, STR("a")));
	ck_assert_ptr_eq(map_get(m, STR_NULL), v(2));
	map_free(m);
}
END_TEST

START_TEST(replacing_drops_the_old_value)
{
	struct map *m = map_new(0, drop);

	map_put(m, STR("a"), v(1));
	map_put(m, STR("a"), v(2));
	ck_assert_int_eq(drops[1], 1);
	map_put(m, STR("a"), v(2)); /* the same again: it does not leave */
	ck_assert_int_eq(drops[2], 0);
	ck_assert_uint_eq(map_len(m), 1);
	map_clear(m);
	ck_assert_int_eq(drops[2], 1);
	ck_assert_uint_eq(map_len(m), 0);
	map_put(m, STR("a"), v(3)); /* usable after a clear */
	ck_assert_ptr_eq(map_get(m, STR("a")), v(3));
	map_free(m);
}
END_TEST

START_TEST(least_recently_used_makes_room)
{
	struct map *m = map_new(3, drop);

	map_put(m, STR("a"), v(1));
	map_put(m, STR("b"), v(2));
	map_put(m, STR("c"), v(3));
	ck_assert_ptr_eq(map_get(m, STR("a")), v(1)); /* a is younger than b now */
	map_put(m, STR("d"), v(4));
	ck_assert_ptr_null(map_get(m, STR("b")));
	ck_assert_int_eq(drops[2], 1);
	map_put(m, STR("c"), v(5)); /* replacing is a use, and evicts nobody */
	ck_assert_uint_eq(map_len(m), 3);
	map_put(m, STR("e"), v(6));
	ck_assert_ptr_null(map_get(m, STR("a")));
	ck_assert_ptr_eq(map_get(m, STR("c")), v(5));
	ck_assert_ptr_eq(map_get(m, STR("d")), v(4));
	for (size_t i = 0; i < 500; i++) {
		map_put(m, key(i), v(7));
		ck_assert_uint_eq(map_len(m), 3);
	}
	map_free(m);
	map_free(map_new(1, drop));
}
END_TEST

static bool even(void *arg, struct str k, void *value)
{
	(*(int *)arg)++;
	return (uintptr_t)value % 2 == 0;
}

static bool three(void *arg, struct str k, void *value)
{
	return ++*(int *)arg < 3;
}

START_TEST(visits)
{
	struct map *m = map_new(0, drop);
	int seen = 0;

	for (size_t i = 1; i <= 100; i++)
		map_put(m, key(i), v(i));
	map_remove_if(m, even, &seen);
	ck_assert_int_eq(seen, 100);
	ck_assert_uint_eq(map_len(m), 50);
	ck_assert_int_eq(drops[2], 1);
	ck_assert_int_eq(drops[3], 0);
	ck_assert_ptr_null(map_get(m, key(2)));
	ck_assert_ptr_eq(map_get(m, key(3)), v(3));
	seen = 0;
	map_each(m, three, &seen);
	ck_assert_int_eq(seen, 3);
	map_free(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("map");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, put_get_remove);
	tcase_add_test(t, keys_are_bytes_and_copied);
	tcase_add_test(t, replacing_drops_the_old_value);
	tcase_add_test(t, least_recently_used_makes_room);
	tcase_add_test(t, visits);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
