/* Master keys: what is refused, wrapping, the canary. The keys here are fake. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/hash.h"
#include "vault/keyring_priv.h"
#include "vault/secret_priv.h"

#define FAKE_A	  "BRAbJjE8R1JdaHN+iZSfqrXAy9bh7PcCDRgjLjlET1o="
#define FAKE_A_ID "960af5631d997bbe"
#define FAKE_B	  "cHV0IGFueXRoaW5nIGhlcmUsIDMyIGJ5dGVzIGxvbmc="

static struct keyring ring;
static struct org_id org;

static void setup(void)
{
	struct err err;
	bool locked;

	ck_assert_int_eq(secret_heap_start(&err, &locked), RC_OK);
	ck_assert_int_eq(aead_start(), RC_OK);
	ck_assert_int_eq(uuid_parse(STR("019a0000-0000-7000-8000-0000000000ff"), &org.u), RC_OK);
	ring.count = 0;
}

static void teardown(void)
{
	keyring_clear(&ring);
	aead_stop();
}

static void refused(const char *base64)
{
	struct err err = {0};

	ck_assert_int_eq(keyring_add(&ring, str_from(base64), "TOLLGATE_MASTER_KEY", &err),
			 RC_INVALID);
	ck_assert_msg(strstr(err.message, "TOLLGATE_MASTER_KEY") != NULL, "%s", err.message);
	ck_assert_msg(strlen(base64) < 8 || !strstr(err.message, base64), "the key is printed");
	ck_assert_uint_eq(ring.count, 0);
}

START_TEST(v17_bad_keys_are_refused)
{
	refused("");
	refused("not base64 at all");
	refused("c2hvcnQ=");
	refused("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"); /* 39 bytes */
	refused("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");	 /* all zero */
	refused("/////////////////////////////////////////w==");	 /* 31 bytes */
	refused("QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=");	 /* all 'B' */
	refused("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");	 /* 0, 1, ... 31 */
	refused("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");	 /* 1, 2, ... 32 */
	refused("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="); /* 0123456789abcdef twice */
}
END_TEST

START_TEST(a_good_key_is_named)
{
	struct err err = {0};

	ck_assert_int_eq(keyring_add(&ring, STR(" " FAKE_A "\r\n"), "X", &err), RC_OK);
	ck_assert_str_eq(ring.keks[0].id, FAKE_A_ID);
	ck_assert_ptr_eq(keyring_find(&ring, STR(FAKE_A_ID), 1), &ring.keks[0]);
	ck_assert_ptr_null(keyring_find(&ring, STR(FAKE_A_ID), 2));
	ck_assert_ptr_null(keyring_find(&ring, STR("0000000000000000"), 1));
	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_A), "X", &err), RC_INVALID); /* twice */
	ck_assert_uint_eq(ring.count, 1);
}
END_TEST

/* Made by the independent implementation. */
START_TEST(wrapped_known_answer)
{
	static const char hex[] =
		"01a0a1a2a3a4a5a6a7a8a9aaab28a230b19a603d89ad1c88d394fb141bc091f54a54e1069d29a9dd"
		"d2ed45c524c3188d30acd7cfb10adc3fca46151ff5";
	uint8_t wrapped[ENVELOPE_WRAPPED_SIZE], dek[32];
	struct err err;

	ck_assert_uint_eq(strlen(hex), 2 * sizeof wrapped);
	for (size_t i = 0; i < sizeof wrapped; i++) {
		unsigned byte;

		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		wrapped[i] = (uint8_t)byte;
	}
	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_A), "X", &err), RC_OK);
	ck_assert_int_eq(keyring_unwrap(&ring, org, 7, STR(FAKE_A_ID), 1,
					str_of(wrapped, sizeof wrapped), dek),
			 RC_OK);
	for (int i = 0; i < 32; i++)
		ck_assert_int_eq(dek[i], (i * 7 + 3) & 255);
}
END_TEST

START_TEST(a_wrapped_key_opens_where_it_belongs)
{
	uint8_t dek[32] = {1, 2, 3}, got[32], wrapped[ENVELOPE_WRAPPED_SIZE];
	struct str box = str_of(wrapped, sizeof wrapped);
	struct org_id other = org;
	struct err err;

	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_A), "X", &err), RC_OK);
	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_B), "X", &err), RC_OK);
	ck_assert_int_eq(keyring_wrap(&ring, org, 1, dek, wrapped), RC_OK);
	ck_assert_int_eq(keyring_unwrap(&ring, org, 1, STR(FAKE_A_ID), 1, box, got), RC_OK);
	ck_assert_mem_eq(got, dek, 32);
	other.u.b[3] ^= 1;
	ck_assert_int_eq(keyring_unwrap(&ring, other, 1, STR(FAKE_A_ID), 1, box, got), RC_CORRUPT);
	ck_assert_int_eq(keyring_unwrap(&ring, org, 2, STR(FAKE_A_ID), 1, box, got), RC_CORRUPT);
	ck_assert_int_eq(keyring_unwrap(&ring, org, 1, str_from(ring.keks[1].id), 1, box, got),
			 RC_CORRUPT);
	ck_assert_int_eq(keyring_unwrap(&ring, org, 1, STR("0123456789abcdef"), 1, box, got),
			 RC_NOT_FOUND);
	for (size_t len = 0; len < box.len; len++)
		ck_assert_int_eq(
			keyring_unwrap(&ring, org, 1, STR(FAKE_A_ID), 1, str_of(wrapped, len), got),
			RC_CORRUPT);
	for (size_t bit = 0; bit < 8 * box.len; bit++) {
		wrapped[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(keyring_unwrap(&ring, org, 1, STR(FAKE_A_ID), 1, box, got),
				 RC_CORRUPT);
		wrapped[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}
END_TEST

START_TEST(the_canary_tells_another_key)
{
	uint8_t canary[KEYRING_CANARY_SIZE];
	struct err err;
	struct kek impostor;

	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_A), "X", &err), RC_OK);
	ck_assert_int_eq(keyring_add(&ring, STR(FAKE_B), "X", &err), RC_OK);
	ck_assert_int_eq(keyring_canary_seal(&ring.keks[0], canary), RC_OK);
	ck_assert_int_eq(keyring_canary_open(&ring.keks[0], str_of(canary, sizeof canary)), RC_OK);
	impostor = ring.keks[0]; /* the right name, the wrong bytes */
	impostor.key = ring.keks[1].key;
	ck_assert_int_eq(keyring_canary_open(&impostor, str_of(canary, sizeof canary)), RC_CORRUPT);
	canary[20] ^= 1;
	ck_assert_int_eq(keyring_canary_open(&ring.keks[0], str_of(canary, sizeof canary)),
			 RC_CORRUPT);
}
END_TEST

START_TEST(v17_an_open_file_is_refused_by_name)
{
	char path[] = "/tmp/tollgate-key-XXXXXX";
	int fd = mkstemp(path);
	struct err err = {0};

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(keyring_check_file(path, "TOLLGATE_MASTER_KEY_FILE", &err), RC_OK);
	static const mode_t bad[] = {0644, 0640, 0604, 0660, 0602, 0620};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_int_eq(chmod(path, bad[i]), 0);
		ck_assert_int_eq(keyring_check_file(path, "TOLLGATE_MASTER_KEY_FILE", &err),
				 RC_INVALID);
		ck_assert_ptr_nonnull(strstr(err.message, path));
		ck_assert_ptr_nonnull(strstr(err.message, "TOLLGATE_MASTER_KEY_FILE"));
	}
	ck_assert_int_eq(chmod(path, 0400), 0);
	ck_assert_int_eq(keyring_check_file(path, "TOLLGATE_MASTER_KEY_FILE", &err), RC_OK);
	unlink(path);
	ck_assert_int_eq(keyring_check_file(path, "TOLLGATE_MASTER_KEY_FILE", &err), RC_INVALID);
	ck_assert_int_eq(keyring_check_file("/tmp", "TOLLGATE_MASTER_KEY_FILE", &err), RC_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("keyring");
	TCase *t = tcase_create("keyring");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, v17_bad_keys_are_refused);
	tcase_add_test(t, a_good_key_is_named);
	tcase_add_test(t, wrapped_known_answer);
	tcase_add_test(t, a_wrapped_key_opens_where_it_belongs);
	tcase_add_test(t, the_canary_tells_another_key);
	tcase_add_test(t, v17_an_open_file_is_refused_by_name);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
