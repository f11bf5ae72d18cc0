/* server/base/wipe.c: what is kept when a block grows, shrinks and moves. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/wipe.h"

START_TEST(grows_and_shrinks_with_its_bytes)
{
	static const size_t sizes[] = {1, 24, 25, 4096, 100, 99, 60, 40000, 3, 3};
	unsigned char *p = NULL;
	size_t kept, had = 0;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		p = wipe_realloc(p, sizes[i]);
		ck_assert_ptr_nonnull(p);
		kept = had < sizes[i] ? had : sizes[i];
		for (size_t k = 0; k < kept; k++)
			ck_assert_uint_eq(p[k], (unsigned char)(k * 7));
		for (size_t k = 0; k < sizes[i]; k++)
			p[k] = (unsigned char)(k * 7);
		had = sizes[i];
	}
	wipe_free(p);
	wipe_free(NULL);
}
END_TEST

START_TEST(takes_what_malloc_gave)
{
	char *p = malloc(10);

	ck_assert_ptr_nonnull(p);
	memcpy(p, "123456789", 10);
	p = wipe_realloc(p, 100000);
	ck_assert_str_eq(p, "123456789");
	free(p); /* and the other way round */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wipe");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, grows_and_shrinks_with_its_bytes);
	tcase_add_test(t, takes_what_malloc_gave);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
