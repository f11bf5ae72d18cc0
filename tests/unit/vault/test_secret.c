/* vault/secret.c: a secret is known again, and overwritten, wherever it stands whole. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "vault/secret.h"
#include "vault/secret_priv.h"

static const char key[] = "FakeKey-0123456789/abc";

static struct secret_mark mark_of(const char *text)
{
	struct secret s = SECRET_INIT;
	struct secret_mark m;

	ck_assert(secret_from(str_from(text), &s) == RC_OK);
	m = secret_mark(&s);
	secret_clear(&s);
	return m;
}

/* What is left of `text`. The mark outlives the secret. */
static const char *redacted(const struct secret_mark *m, const char *text)
{
	static char out[1024];

	snprintf(out, sizeof out, "%s", text);
	secret_redact(m, out, strlen(out));
	ck_assert_uint_eq(strlen(out), strlen(text));
	return out;
}

static void setup(void)
{
	struct err err = {0};
	bool locked;

	ck_assert(secret_heap_start(&err, &locked) == RC_OK);
}

START_TEST(at_every_place)
{
	const struct secret_mark m = mark_of(key);
	char text[256], want[256];

	for (size_t before = 0; before < 60; before++)
		for (size_t after = 0; after < 60; after += 7) {
			memset(text, 'F', before);
			snprintf(text + before, sizeof text - before, "%s%.*s", key, (int)after,
				 "KeyFakeKey-0123456789/abKey-0123456789/abcFakeKey-0123456789/ab");
			memcpy(want, text, sizeof want);
			memset(want + before, '*', strlen(key));
			ck_assert_str_eq(redacted(&m, text), want);
		}
}
END_TEST

START_TEST(more_than_once)
{
	const struct secret_mark m = mark_of("abcabcabc");

	ck_assert_str_eq(redacted(&m, "abcabcabc"), "*********");
	ck_assert_str_eq(redacted(&m, "abcabcabcabcabcabc"), "******************");
	ck_assert_str_eq(redacted(&m, "x abcabcabc y abcabcabc"), "x ********* y *********");
	ck_assert_str_eq(redacted(&m, "abcabcab"), "abcabcab");
	ck_assert_str_eq(redacted(&m, "abcabcab abcabcabd"), "abcabcab abcabcabd");
	ck_assert_str_eq(redacted(&m, ""), "");
}
END_TEST

START_TEST(what_protects_nothing_is_no_secret)
{
	const struct secret_mark none = {0}, shorter = mark_of("none"), empty = mark_of("");

	ck_assert_str_eq(redacted(&none, "none at all"), "none at all");
	ck_assert_str_eq(redacted(&shorter, "none at all"), "none at all");
	ck_assert_str_eq(redacted(&empty, "none at all"), "none at all");
	secret_redact(&none, NULL, 0);
}
END_TEST

START_TEST(any_byte)
{
	const struct secret_mark m = mark_of("\xff\x80\x01\x7f\xc3\xa4 key");

	ck_assert_str_eq(redacted(&m, "<\xff\x80\x01\x7f\xc3\xa4 key>"), "<**********>");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("secret");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, at_every_place);
	tcase_add_test(t, more_than_once);
	tcase_add_test(t, what_protects_nothing_is_no_secret);
	tcase_add_test(t, any_byte);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
