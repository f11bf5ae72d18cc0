/* tests/unit/routing/fixture.h - recorded exchanges, read from tests/fixtures (run from the top folder). */
#ifndef TESTS_UNIT_ROUTING_FIXTURE_H
#define TESTS_UNIT_ROUTING_FIXTURE_H
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/buf.h"

#define FIXTURE_BYTES_MAX (1u << 20)

/* The file's bytes; the caller frees with buf_clear(). */
static inline struct buf fixture_read(const char *name)
{
	struct buf b = BUF_INIT(FIXTURE_BYTES_MAX);
	char path[256], chunk[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "tests/fixtures/%s", name);
	f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "cannot open %s", path);
	while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
		ck_assert_int_eq(buf_append(&b, str_of(chunk, n)), RC_OK);
	fclose(f);
	return b;
}

/* Run a suite as every test program does: exit status 0 only if all passed. */
static inline int suite_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
