/* The text of API keys: form, checksum, hash. The keys here are made for the test and open nothing. */
#include <check.h>
#include <stdlib.h>

#include "vault/apikey_priv.h"

#define FAKE "tg_AbCd0123_0000000000000000000000000000fake4OH3Nx"

START_TEST(made_keys_parse)
{
	for (int i = 0; i < 2000; i++) {
		struct apikey k;
		struct str id;

		ck_assert_int_eq(apikey_make(&k), RC_OK);
		ck_assert_uint_eq(strlen(k.text), APIKEY_LEN);
		ck_assert_uint_eq(APIKEY_LEN, 50);
		ck_assert_int_eq(apikey_parse(str_from(k.text), &id), RC_OK);
		ck_assert(str_is(id, k.public_id));
		ck_assert_uint_eq(id.len, 8);
		apikey_clear(&k);
		ck_assert_int_eq(k.text[0], 0);
	}
}
END_TEST

START_TEST(keys_differ_and_use_the_alphabet_evenly)
{
	struct apikey a, b;
	size_t seen[128] = {0};

	ck_assert_int_eq(apikey_make(&a), RC_OK);
	ck_assert_int_eq(apikey_make(&b), RC_OK);
	ck_assert_str_ne(a.text, b.text);
	for (int i = 0; i < 2000; i++) {
		ck_assert_int_eq(apikey_make(&a), RC_OK);
		for (size_t n = 12; n < 44; n++)
			seen[(unsigned char)a.text[n]]++;
	}
	for (int c = 0; c < 128; c++) {
		bool base62 =
			(c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		/* 64,000 digits: 1,032 each; 700 to 1,400 is more than ten standard deviations. */
		ck_assert_msg(base62 ? seen[c] > 700 && seen[c] < 1400 : seen[c] == 0, "'%c': %zu",
			      c, seen[c]);
	}
}
END_TEST

/* Made and hashed by an independent implementation (Python's zlib and hmac). */
START_TEST(known_key)
{
	char pepper[32];
	uint8_t hash[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];
	struct str id;

	ck_assert_int_eq(apikey_parse(STR(FAKE), &id), RC_OK);
	ck_assert(str_is(id, "AbCd0123"));
	memset(pepper, 7, sizeof pepper);
	apikey_hash(str_of(pepper, sizeof pepper), STR(FAKE), hash);
	hex_encode(str_of(hash, sizeof hash), hex);
	ck_assert_str_eq(hex, "09eccc64a3f74e7b18192298944391a192352bafc6f439c150ed49578a2abc6f");
}
END_TEST

START_TEST(every_changed_character_is_refused)
{
	static const char others[] = "0Zz_-%' \n\x80";
	char text[] = FAKE;
	struct str id;

	for (size_t i = 0; i < APIKEY_LEN; i++)
		for (size_t n = 0; n < sizeof others; n++) { /* the NUL too */
			char was = text[i];

			if (others[n] == was)
				continue;
			text[i] = others[n];
			ck_assert_msg(apikey_parse(str_of(text, APIKEY_LEN), &id) == RC_INVALID,
				      "position %zu, byte %d", i, others[n]);
			text[i] = was;
		}
	ck_assert_int_eq(apikey_parse(str_of(text, APIKEY_LEN), &id), RC_OK);
}
END_TEST

START_TEST(other_lengths_and_swapped_parts_are_refused)
{
	char longer[] = FAKE "0";
	struct str id;
	char swapped[] = FAKE;

	for (size_t len = 0; len < APIKEY_LEN; len++)
		ck_assert_int_eq(apikey_parse(str_of(longer, len), &id), RC_INVALID);
	ck_assert_int_eq(apikey_parse(str_of(longer, APIKEY_LEN + 1), &id), RC_INVALID);
	ck_assert_int_eq(apikey_parse(STR_NULL, &id), RC_INVALID);
	swapped[3] = 'b'; /* two neighbours exchanged */
	swapped[4] = 'A';
	ck_assert_int_eq(apikey_parse(str_of(swapped, APIKEY_LEN), &id), RC_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("apikey");
	TCase *t = tcase_create("apikey");
	SRunner *r;
	int failed;

	tcase_add_test(t, made_keys_parse);
	tcase_add_test(t, keys_differ_and_use_the_alphabet_evenly);
	tcase_add_test(t, known_key);
	tcase_add_test(t, every_changed_character_is_refused);
	tcase_add_test(t, other_lengths_and_swapped_parts_are_refused);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
