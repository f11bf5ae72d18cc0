/* Networks that a key may be used from: what is one, what is in one. */
#include <check.h>
#include <stdlib.h>

#include "vault/cidr_priv.h"

static bool in(const char *network, const char *peer)
{
	struct cidr c;

	ck_assert_msg(cidr_parse(str_from(network), &c) == NULL, "%s", network);
	return cidr_has_peer(&c, 1, str_from(peer));
}

START_TEST(what_is_in_a_network)
{
	ck_assert(in("127.0.0.0/8", "127.1.2.3:5"));
	ck_assert(!in("127.0.0.0/8", "128.0.0.1:5"));
	ck_assert(in("10.1.2.3", "10.1.2.3:65535"));
	ck_assert(!in("10.1.2.3/32", "10.1.2.2:1"));
	ck_assert(in("10.1.2.128/25", "10.1.2.255:1"));
	ck_assert(!in("10.1.2.128/25", "10.1.2.127:1"));
	ck_assert(in("0.0.0.0/0", "8.8.8.8:1"));
	ck_assert(!in("0.0.0.0/0", "[2001:db8::1]:1"));
	ck_assert(in("::/0", "8.8.8.8:1"));
	ck_assert(in("2001:db8::/32", "[2001:db8:ffff::1]:443"));
	ck_assert(!in("2001:db8::/33", "[2001:db8:8000::1]:443"));
	ck_assert(in("::1", "[::1]:1"));
	/* IPv4 on an IPv6 socket is the same caller */
	ck_assert(in("10.0.0.0/8", "[::ffff:10.9.8.7]:1"));
	ck_assert(in("::ffff:10.0.0.0/104", "10.9.8.7:1"));
}
END_TEST

START_TEST(a_peer_without_an_address_is_in_none)
{
	static const char *const peers[] = {"unix", "",		":",	 "?:1",
					    "[]:1", "10.0.0.1", "[::1]", "x:1"};

	for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
		ck_assert_msg(!in("::/0", peers[i]), "%s", peers[i]);
		ck_assert_msg(!in("0.0.0.0/0", peers[i]), "%s", peers[i]);
	}
	ck_assert(!cidr_has_peer(NULL, 0, STR("10.0.0.1:1")));
}
END_TEST

START_TEST(what_is_no_network)
{
	static const char *const bad[] = {"",
					  "/",
					  "10.0.0.0/33",
					  "10.0.0.0/",
					  "10.0.0.0/-1",
					  "10.0.0.0/8/8",
					  "10.0.0.1/8",
					  "10.0.0",
					  "010.0.0.1",
					  "::/129",
					  "fd00::1/8",
					  "*",
					  "any",
					  "10.0.0.0/0008",
					  " 10.0.0.0/8",
					  "fe80::1%lo",
					  "10.0.0.0/8x"};
	struct cidr c;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(cidr_parse(str_from(bad[i]), &c) != NULL, "%s", bad[i]);
	ck_assert(cidr_parse(str_of("10.0.0.1\0", 9), &c) != NULL);
}
END_TEST

START_TEST(one_spelling)
{
	static const char *const pairs[][2] = {{"10.0.0.0/8", "10.0.0.0/8"},
					       {"10.1.2.3", "10.1.2.3/32"},
					       {"FD00::/8", "fd00::/8"},
					       {"2001:0db8:0::0/32", "2001:db8::/32"},
					       {"::1", "::1/128"},
					       {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
					       {"::/0", "::/0"}};
	char text[CIDR_TEXT_SIZE];
	struct cidr c;

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		ck_assert(cidr_parse(str_from(pairs[i][0]), &c) == NULL);
		ck_assert_msg(str_is(cidr_format(&c, text), pairs[i][1]), "%s", text);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cidr");
	TCase *t = tcase_create("cidr");
	SRunner *r;
	int failed;

	tcase_add_test(t, what_is_in_a_network);
	tcase_add_test(t, a_peer_without_an_address_is_in_none);
	tcase_add_test(t, what_is_no_network);
	tcase_add_test(t, one_spelling);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
