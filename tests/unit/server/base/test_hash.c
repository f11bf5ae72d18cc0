/* server/base/hash.c against published vectors (FIPS 180-4, RFC 4231, RFC 4648, zlib). */
#include <check.h>
#include <signal.h>

#include "server/base/hash.h"

static const char *hex(const uint8_t *bytes, size_t len)
{
	static char out[200];

	hex_encode(str_of(bytes, len), out);
	return out;
}

START_TEST(digests)
{
	uint8_t d[SHA256_BYTES];
	char long_key[131], k[20];

	sha256(STR(""), d);
	ck_assert_str_eq(hex(d, sizeof d),
			 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256(STR("abc"), d);
	ck_assert_str_eq(hex(d, sizeof d),
			 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	memset(k, 0x0b, sizeof k);
	hmac_sha256(str_of(k, sizeof k), STR("Hi There"), d);
	ck_assert_str_eq(hex(d, sizeof d),
			 "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	memset(long_key, 0xaa, sizeof long_key);
	hmac_sha256(str_of(long_key, sizeof long_key),
		    STR("Test Using Larger Than Block-Size Key - Hash Key First"), d);
	ck_assert_str_eq(hex(d, sizeof d),
			 "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	ck_assert_uint_eq(crc32_ieee(STR("123456789")), 0xcbf43926u);
	ck_assert_uint_eq(crc32_ieee(STR("")), 0);
}
END_TEST

START_TEST(base64)
{
	static const char *const bad[] = {"Z",	      "Zg",	  "Zg=",  "Zg===",  "Zh==",
					  "Zm9=",     "Z===",	  "====", "Zm9v\n", "Zm 9",
					  "Zg==Zg==", "Zm9vYg=a", "Zm-_"};
	static const char *const good[] = {"",	       "Zg==",	   "Zm8=",    "Zm9v",
					   "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	uint8_t out[16];
	size_t len = 99;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		ck_assert(base64_decode(str_from(good[i]), out, sizeof out, &len) == RC_OK);
		ck_assert_uint_eq(len, i);
		ck_assert(memcmp(out, "foobar", i) == 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(base64_decode(str_from(bad[i]), out, sizeof out, &len) == RC_INVALID,
			      "%s", bad[i]);
	ck_assert(base64_decode(STR("Zm9vYmFy"), out, 5, &len) == RC_TOO_LARGE);
	ck_assert(base64_decode(STR("Zm9vYmE="), out, 5, &len) == RC_OK); /* exactly fits */
}
END_TEST

START_TEST(hash64_tells_apart)
{
	uint64_t seen[300];
	char text[300];

	memset(text, 'x', sizeof text);
	for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
		seen[i] = hash64(str_of(text, i));
		ck_assert_uint_eq(seen[i], hash64(str_of(text, i)));
		for (size_t j = 0; j < i; j++)
			ck_assert_uint_ne(seen[i], seen[j]);
	}
	for (size_t i = 0; i < 64; i++) { /* every byte counts */
		text[i] = 'y';
		ck_assert_uint_ne(hash64(str_of(text, 64)), seen[64]);
		text[i] = 'x';
	}
}
END_TEST

START_TEST(randomness)
{
	static uint8_t a[100000], b[100000];

	ck_assert(random_bytes(a, sizeof a) == RC_OK);
	ck_assert(random_bytes(b, sizeof b) == RC_OK);
	ck_assert(memcmp(a + sizeof a - 32, b + sizeof b - 32, 32) != 0);
	ck_assert(memcmp(a, b, 32) != 0);
	ck_assert(random_bytes(a, 0) == RC_OK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hash");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, digests);
	tcase_add_test(t, base64);
	tcase_add_test(t, hash64_tells_apart);
	tcase_add_test(t, randomness);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
