/* tests/unit/server/test_migrate.c - what is embedded is what stands in sql/migrations, byte for byte. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/buf.h"
#include "server/migrate.h"

static struct buf file_of(const struct sql_migration *m)
{
	struct buf b = BUF_INIT(4u << 20);
	char path[256], chunk[4096];
	FILE *f;
	size_t n;

	snprintf(path, sizeof path, "sql/migrations/%04d_%s.sql", m->version, m->name);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s is not there: the test runs at the root of the tree", path);
	while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
		ck_assert_int_eq(buf_append(&b, str_of(chunk, n)), RC_OK);
	fclose(f);
	return b;
}

/* Leading and trailing white space does not count: the way up ends before the line "-- down". */
static struct str bare(struct str s)
{
	while (s.len > 0 && (s.ptr[0] == '\n' || s.ptr[0] == ' '))
		s = str_slice(s, 1, s.len);
	while (s.len > 0 && (s.ptr[s.len - 1] == '\n' || s.ptr[s.len - 1] == ' '))
		s.len--;
	return s;
}

START_TEST(embedded_migrations_are_their_files)
{
	size_t compared = 0;

	for (size_t i = 0; i < sql_migrations_count; i++) {
		const struct sql_migration *m = &sql_migrations[i];
		struct buf b = file_of(m);
		struct str text = buf_str(&b);
		ptrdiff_t down = str_find_str(text, STR("\n-- down\n"));

		ck_assert_int_eq(m->version, (int)i + 1);
		if (str_find_str(text, STR("\n-- include: ")) < 0) {
			struct str up = down < 0 ? text : str_slice(text, 0, (size_t)down);

			ck_assert_msg(str_eq(bare(up), bare(str_from(m->up))),
				      "%s differs from its file", m->name);
			compared++;
		}
		ck_assert_int_eq(m->down != NULL, down >= 0);
		ck_assert_uint_eq(strlen(m->sha256), 64);
		buf_clear(&b);
	}
	ck_assert_uint_ge(compared, 5);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("migrate");
	TCase *tc = tcase_create("embedded");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, embedded_migrations_are_their_files);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
