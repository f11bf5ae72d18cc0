/* tests/unit/routing/dialects/test_words.c - keys and addresses in a provider's words. All of them are made up. */
#include "routing/dialects/words_priv.h"
#include <string.h>
#include "tests/unit/routing/fixture.h"

static void scrubs(const char *from, const char *to)
{
	char text[256];
	size_t len = strlen(from), n;

	memcpy(text, from, len);
	n = words_scrub(text, len);
	ck_assert_uint_le(n, len);
	ck_assert_mem_eq(text, to, n);
	ck_assert_uint_eq(n, strlen(to));
}

START_TEST(what_is_left_of_a_masked_key_is_taken_out)
{
	scrubs("Key ab-fake****real is wrong.", "Key *** is wrong.");
	scrubs("Key xa***xx.", "Key ***.");
	scrubs("***", "***");
	scrubs("a ***** b", "a *** b");
	scrubs("a**b, 2*3, **bold**", "a**b, 2*3, **bold**");
}
END_TEST

START_TEST(addresses_of_mail_are_taken_out)
{
	scrubs("Ask someone.else+tag@mail.example.test.", "Ask [mail].");
	scrubs("a@b.cd", "[mail]");
	scrubs("<a@b.cd>,a@b.cd", "<[mail]>,[mail]");
	scrubs("@type a@b a@b.c node@1.2.3 a@@b.cd @b.cd a@.cd",
	       "@type a@b a@b.c node@1.2.3 a@@b.cd @b.cd a@.cd");
	scrubs("", "");
}
END_TEST

START_TEST(words_about_the_request_stay)
{
	const char *said =
		"messages[3].content: 'x_y-z' is 7.5 > 2.0 (type=image/png, http://h.example/p?q=%20)";

	scrubs(said, said);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("words");
	TCase *tc = tcase_create("words");

	tcase_add_test(tc, what_is_left_of_a_masked_key_is_taken_out);
	tcase_add_test(tc, addresses_of_mail_are_taken_out);
	tcase_add_test(tc, words_about_the_request_stay);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
