/* Sealed records: known answers, and every way in which one must not open. All secrets here are fake. */
#include <check.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/hash.h"
#include "vault/envelope_priv.h"
#include "vault/secret_priv.h"

static uint8_t dek[ENVELOPE_DEK_BYTES], salt[ENVELOPE_SALT_BYTES], nonce[AEAD_NONCE_BYTES];
static struct secret_ref ref;
static const char kat_secret[] = "kat-secret-not-real-0123456789";

/* Computed by an independent implementation (Python's cryptography): HKDF, AES-GCM and this layout. */
static const char kat_hex[] =
	"544701010000000701060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c"
	"a0a1a2a3a4a5a6a7a8a9aaab5f14ab7d68e7e19234ac67108418b51d802cc97f8004af7d52db9515"
	"0654c069fd1fb70709c037e933f19fc3dfa8cd278f8d20c48d69ec7a6b134752559d3e564ecb1de8"
	"79ca55e3852d3930597912233e1a105433a89192d941dec2b9f163053df0929c2749453f91b17032"
	"91b2488c";

static void setup(void)
{
	struct err err;
	bool locked;

	ck_assert_int_eq(secret_heap_start(&err, &locked), RC_OK);
	ck_assert_int_eq(aead_start(), RC_OK);
	for (int i = 0; i < 32; i++) {
		dek[i] = (uint8_t)(i * 7 + 3);
		salt[i] = (uint8_t)(i * 5 + 1);
	}
	for (int i = 0; i < 12; i++)
		nonce[i] = (uint8_t)(0xa0 + i);
	ref = (struct secret_ref){.field = "api_key", .row_version = 42};
	ck_assert_int_eq(uuid_parse(STR("019a0000-0000-7000-8000-0000000000ff"), &ref.org.u),
			 RC_OK);
	ck_assert_int_eq(uuid_parse(STR("019a0000-0000-7000-8000-0000000000ee"), &ref.id), RC_OK);
}

static void teardown(void)
{
	aead_stop();
}

static struct buf seal_kat(void)
{
	struct buf out = BUF_INIT(ENVELOPE_BYTES_MAX + 1);

	ck_assert_int_eq(envelope_seal_with(dek, 7, &ref, str_from(kat_secret), salt, nonce, &out),
			 RC_OK);
	return out;
}

static enum rc try_open(struct str blob, const struct secret_ref *where)
{
	struct secret got = SECRET_INIT;
	enum rc rc = envelope_open(dek, 7, where, blob, &got);

	if (rc != RC_OK)
		ck_assert_msg(!got.ptr && got.len == 0, "a refused record released something");
	secret_clear(&got);
	return rc;
}

START_TEST(v04_known_answer)
{
	struct buf out = seal_kat();
	struct secret got = SECRET_INIT;
	char hex[2 * 164 + 1];

	ck_assert_uint_eq(out.len, 164);
	hex_encode(buf_str(&out), hex);
	ck_assert_str_eq(hex, kat_hex);
	ck_assert_int_eq(envelope_open(dek, 7, &ref, buf_str(&out), &got), RC_OK);
	ck_assert(str_is(secret_str(&got), kat_secret));
	secret_clear(&got);
	buf_clear(&out);
}
END_TEST

START_TEST(v05_every_flipped_bit_is_refused)
{
	struct buf out = seal_kat();

	for (size_t bit = 0; bit < out.len * 8; bit++) {
		out.ptr[bit / 8] = (char)(out.ptr[bit / 8] ^ (1 << bit % 8));
		ck_assert_msg(try_open(buf_str(&out), &ref) == RC_CORRUPT, "bit %zu", bit);
		out.ptr[bit / 8] = (char)(out.ptr[bit / 8] ^ (1 << bit % 8));
	}
	ck_assert_int_eq(try_open(buf_str(&out), &ref), RC_OK);
	buf_clear(&out);
}
END_TEST

START_TEST(v06_opens_only_where_it_stands)
{
	struct buf out = seal_kat();
	struct secret_ref moved = ref;

	moved.org.u.b[15] ^= 1;
	ck_assert_int_eq(try_open(buf_str(&out), &moved), RC_CORRUPT);
	moved = ref;
	moved.id.b[0] ^= 1;
	ck_assert_int_eq(try_open(buf_str(&out), &moved), RC_CORRUPT);
	moved = ref;
	moved.field = "pepper";
	ck_assert_int_eq(try_open(buf_str(&out), &moved), RC_CORRUPT);
	moved = ref;
	moved.row_version = 43;
	ck_assert_int_eq(try_open(buf_str(&out), &moved), RC_CORRUPT);
	ck_assert_int_eq(try_open(buf_str(&out), &ref), RC_OK);
	buf_clear(&out);
}
END_TEST

START_TEST(another_key_or_version_is_refused)
{
	struct buf out = seal_kat();
	struct secret got = SECRET_INIT;

	dek[31] ^= 1;
	ck_assert_int_eq(envelope_open(dek, 7, &ref, buf_str(&out), &got), RC_CORRUPT);
	dek[31] ^= 1;
	ck_assert_int_eq(envelope_open(dek, 8, &ref, buf_str(&out), &got), RC_CORRUPT);
	ck_assert_ptr_null(got.ptr);
	buf_clear(&out);
}
END_TEST

START_TEST(v08_cut_or_longer_is_refused)
{
	struct buf out = seal_kat();
	char longer[ENVELOPE_BYTES_MAX + 256] = {0};

	for (size_t len = 0; len < out.len; len++)
		ck_assert_msg(try_open(str_of(out.ptr, len), &ref) == RC_CORRUPT, "length %zu",
			      len);
	memcpy(longer, out.ptr, out.len);
	for (size_t len = out.len + 1; len < sizeof longer; len++)
		ck_assert_int_eq(try_open(str_of(longer, len), &ref), RC_CORRUPT);
	/* A tag shortened to 4, 8 and 12 bytes by moving the end forward. */
	for (size_t cut = 4; cut <= 12; cut += 4)
		ck_assert_int_eq(try_open(str_of(out.ptr, out.len - cut), &ref), RC_CORRUPT);
	ck_assert_int_eq(try_open(STR_NULL, &ref), RC_CORRUPT);
	buf_clear(&out);
}
END_TEST

/* A record with a plaintext of our own making: length field and padding as given, all else right. */
static void craft(const uint8_t *padded, size_t n, char *blob)
{
	struct aad aad = {.len = 0}, info = {.len = 0};
	struct buf good = seal_kat();
	uint8_t keys[64];
	const uint8_t one = 1;

	memcpy(blob, good.ptr, ENVELOPE_HEAD_BYTES);
	buf_clear(&good);
	aad_put(&info, STR("tg/v1/rec"));
	aad_put(&info, str_of(&one, 1));
	aad_put_lp(&info, str_of(ref.org.u.b, 16));
	ck_assert_int_eq(aead_hkdf(str_of(dek, 32), str_of(salt, 32), aad_str(&info), keys, 64),
			 RC_OK);
	aad_put(&aad, STR("tg-vault-aad-1"));
	aad_put(&aad, str_of(blob, ENVELOPE_HEAD_BYTES));
	aad_put_lp(&aad, str_of(ref.org.u.b, 16));
	aad_put_lp(&aad, str_of(ref.id.b, 16));
	aad_put_lp(&aad, STR("api_key"));
	aad_put_u64(&aad, 42);
	ck_assert_int_eq(aead_seal(keys, nonce, aad_str(&aad), str_of(padded, n),
				   (uint8_t *)blob + ENVELOPE_HEAD_BYTES),
			 RC_OK);
}

START_TEST(v08_length_field_and_padding_are_checked)
{
	uint8_t padded[128] = {0, 3, 'a', 'b', 'c'};
	char blob[84 + 128 + 16];

	craft(padded, 64, blob);
	ck_assert_int_eq(try_open(str_of(blob, 164), &ref), RC_OK);
	padded[1] = 62;
	craft(padded, 64, blob);
	ck_assert_int_eq(try_open(str_of(blob, 164), &ref), RC_OK); /* fills the bucket */
	padded[1] = 63;
	craft(padded, 64, blob);
	ck_assert_int_eq(try_open(str_of(blob, 164), &ref), RC_CORRUPT);
	padded[0] = 0xff;
	craft(padded, 64, blob);
	ck_assert_int_eq(try_open(str_of(blob, 164), &ref), RC_CORRUPT);
	padded[0] = 0;
	padded[1] = 3;
	padded[63] = 1;
	craft(padded, 64, blob);
	ck_assert_int_eq(try_open(str_of(blob, 164), &ref), RC_CORRUPT);
	padded[63] = 0;
	craft(padded, 96, blob); /* no bucket has 96 bytes */
	ck_assert_int_eq(try_open(str_of(blob, 84 + 96 + 16), &ref), RC_CORRUPT);
	craft(padded, 32, blob);
	ck_assert_int_eq(try_open(str_of(blob, 84 + 32 + 16), &ref), RC_CORRUPT);
}
END_TEST

START_TEST(every_length_round_trips_into_its_bucket)
{
	static const size_t lens[] = {0,   1,	 61,   62,   63,   126,	 127,  254,  255,  510,
				      511, 1022, 1023, 2046, 2047, 4094, 4095, 8190, 8191, 16382};
	char *text = calloc(1, SECRET_BYTES_MAX + 1);

	for (size_t i = 0; i < SECRET_BYTES_MAX; i++)
		text[i] = (char)(i * 31 + 7);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		struct buf out = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
		struct secret got = SECRET_INIT;
		size_t n = 64;

		while (n < lens[i] + 2)
			n *= 2;
		ck_assert_int_eq(envelope_seal(dek, 1, &ref, str_of(text, lens[i]), &out), RC_OK);
		ck_assert_uint_eq(out.len, 100 + n);
		ck_assert_int_eq(envelope_open(dek, 1, &ref, buf_str(&out), &got), RC_OK);
		ck_assert(str_eq(secret_str(&got), str_of(text, lens[i])));
		secret_clear(&got);
		buf_clear(&out);
	}
	struct buf out = BUF_INIT(2 * ENVELOPE_BYTES_MAX);
	ck_assert_int_eq(envelope_seal(dek, 1, &ref, str_of(text, SECRET_BYTES_MAX + 1), &out),
			 RC_TOO_LARGE);
	ck_assert_uint_eq(out.len, 0);
	buf_clear(&out);
	free(text);
}
END_TEST

/* ---- V07: one ciphertext and tag that two keys accept ------------------------------------------------ */

struct gf { /* an element of GF(2^128) as GHASH reads a block: the first bit is the coefficient of x^0 */
	uint64_t hi, lo;
};

static struct gf gf_read(const uint8_t b[16])
{
	struct gf r = {0, 0};

	for (int i = 0; i < 8; i++) {
		r.hi = r.hi << 8 | b[i];
		r.lo = r.lo << 8 | b[i + 8];
	}
	return r;
}

static void gf_write(struct gf a, uint8_t b[16])
{
	for (int i = 0; i < 8; i++) {
		b[i] = (uint8_t)(a.hi >> (56 - 8 * i));
		b[i + 8] = (uint8_t)(a.lo >> (56 - 8 * i));
	}
}

static struct gf gf_add(struct gf a, struct gf b)
{
	return (struct gf){a.hi ^ b.hi, a.lo ^ b.lo};
}

static struct gf gf_mul(struct gf a, struct gf b)
{
	struct gf r = {0, 0};

	for (int i = 0; i < 128; i++) {
		const uint64_t bit = i < 64 ? a.hi >> (63 - i) & 1 : a.lo >> (127 - i) & 1;
		const uint64_t out = b.lo & 1;

		if (bit)
			r = gf_add(r, b);
		b.lo = b.lo >> 1 | b.hi << 63;
		b.hi = b.hi >> 1 ^ (out ? UINT64_C(0xe1) << 56 : 0);
	}
	return r;
}

/* a^(2^128 - 2) */
static struct gf gf_invert(struct gf a)
{
	struct gf r = {UINT64_C(1) << 63, 0};

	for (int i = 1; i < 128; i++) {
		a = gf_mul(a, a);
		r = gf_mul(r, a);
	}
	return r;
}

static void aes_block(const uint8_t key[32], const uint8_t in[16], uint8_t out[16])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0;

	ck_assert_int_eq(EVP_EncryptInit_ex(ctx, EVP_aes_256_ecb(), NULL, key, NULL), 1);
	ck_assert_int_eq(EVP_EncryptUpdate(ctx, out, &n, in, 16), 1);
	ck_assert_int_eq(n, 16);
	EVP_CIPHER_CTX_free(ctx);
}

/* The counter block `n` of GCM with a 96-bit nonce; 1 masks the tag, 2 and on the text. */
static void gcm_mask(const uint8_t key[32], uint8_t n, uint8_t out[16])
{
	uint8_t block[16] = {0};

	memcpy(block, nonce, sizeof nonce);
	block[15] = n;
	aes_block(key, block, out);
}

/* What `aad`, `text` without its block `hole`, and the lengths come to under one key, tag mask included; and by
 * what the block in the hole is multiplied there. */
static struct gf ghash_rest(const uint8_t key[32], struct str aad, const uint8_t *text,
			    size_t blocks, size_t hole, struct gf *factor)
{
	uint8_t zero[16] = {0}, out[16], block[16];
	struct gf h, sum = {0, 0};

	aes_block(key, zero, out);
	h = gf_read(out);
	for (size_t at = 0; at < aad.len; at += 16) {
		memset(block, 0, sizeof block);
		memcpy(block, aad.ptr + at, aad.len - at < 16 ? aad.len - at : 16);
		sum = gf_mul(gf_add(sum, gf_read(block)), h);
	}
	for (size_t i = 0; i < blocks; i++)
		sum = gf_mul(i == hole ? sum : gf_add(sum, gf_read(text + 16 * i)), h);
	sum = gf_mul(gf_add(sum, (struct gf){aad.len * 8, blocks * 128}), h);
	*factor = h; /* of the length block's neighbour; each block before it once more */
	for (size_t i = hole; i < blocks; i++)
		*factor = gf_mul(*factor, h);
	gcm_mask(key, 1, out);
	return gf_add(sum, gf_read(out));
}

static void keys_of(const uint8_t dek_bytes[32], uint8_t keys[64])
{
	struct aad info = {.len = 0};
	const uint8_t one = 1;

	aad_put(&info, STR("tg/v1/rec"));
	aad_put(&info, str_of(&one, 1));
	aad_put_lp(&info, str_of(ref.org.u.b, 16));
	ck_assert_int_eq(
		aead_hkdf(str_of(dek_bytes, 32), str_of(salt, 32), aad_str(&info), keys, 64),
		RC_OK);
}

/* A record of data key `dek` whose ciphertext and tag the record key of `other` accepts as well: GHASH is linear,
 * so one block of the ciphertext makes the tags equal. What that block says under `dek` is part of the secret. */
static void craft_two_keyed(const uint8_t mine[64], const uint8_t theirs[64], struct str aad,
			    uint8_t *blob)
{
	uint8_t *text = blob + ENVELOPE_HEAD_BYTES, padded[64] = {0, 40}, mask[16];
	struct gf sum[2], factor[2], block, tag;

	memset(padded + 2, 's', 40);
	for (uint8_t i = 0; i < 4; i++) {
		gcm_mask(mine, (uint8_t)(i + 2), mask);
		for (int j = 0; j < 16; j++)
			text[16 * i + j] = padded[16 * i + j] ^ mask[j];
	}
	sum[0] = ghash_rest(mine, aad, text, 4, 1, &factor[0]);
	sum[1] = ghash_rest(theirs, aad, text, 4, 1, &factor[1]);
	block = gf_mul(gf_add(sum[0], sum[1]), gf_invert(gf_add(factor[0], factor[1])));
	gf_write(block, text + 16);
	tag = gf_add(sum[0], gf_mul(block, factor[0]));
	gf_write(tag, text + 64);
}

START_TEST(v07_a_record_that_two_keys_accept_opens_under_one)
{
	uint8_t other[32], mine[64], theirs[64], blob[84 + 64 + 16], out[64];
	struct aad aad = {.len = 0};
	struct secret got = SECRET_INIT;
	struct buf good = seal_kat();

	for (int i = 0; i < 32; i++)
		other[i] = (uint8_t)(i * 11 + 5);
	keys_of(dek, mine);
	keys_of(other, theirs);
	memcpy(blob, good.ptr, ENVELOPE_HEAD_BYTES); /* committed to `dek` */
	buf_clear(&good);
	aad_put(&aad, STR("tg-vault-aad-1"));
	aad_put(&aad, str_of(blob, ENVELOPE_HEAD_BYTES));
	aad_put_lp(&aad, str_of(ref.org.u.b, 16));
	aad_put_lp(&aad, str_of(ref.id.b, 16));
	aad_put_lp(&aad, STR("api_key"));
	aad_put_u64(&aad, 42);
	craft_two_keyed(mine, theirs, aad_str(&aad), blob);
	/* Plain GCM takes it under both keys, as two different texts. */
	ck_assert_int_eq(aead_open(mine, nonce, aad_str(&aad), str_of(blob + 84, 80), out), RC_OK);
	ck_assert_int_eq(out[1], 40);
	ck_assert_int_eq(aead_open(theirs, nonce, aad_str(&aad), str_of(blob + 84, 80), out),
			 RC_OK);
	/* The record opens under the one it is committed to, and under no other. */
	ck_assert_int_eq(envelope_open(dek, 7, &ref, str_of(blob, sizeof blob), &got), RC_OK);
	ck_assert_uint_eq(got.len, 40);
	secret_clear(&got);
	ck_assert_int_eq(envelope_open(other, 7, &ref, str_of(blob, sizeof blob), &got),
			 RC_CORRUPT);
	ck_assert_ptr_null(got.ptr);
	/* Committed to the other one, the tag is wrong for both: the commitment is authenticated. */
	memcpy(blob + 52, theirs + 32, 32);
	ck_assert_int_eq(envelope_open(other, 7, &ref, str_of(blob, sizeof blob), &got),
			 RC_CORRUPT);
	ck_assert_int_eq(envelope_open(dek, 7, &ref, str_of(blob, sizeof blob), &got), RC_CORRUPT);
}
END_TEST

/* ---- V19: every way not to open does the same work ----------------------------------------------------- */

static struct aead_work work_of(const uint8_t key[32], const struct secret_ref *where,
				struct str blob, enum rc want)
{
	const struct aead_work before = aead_work();
	struct secret got = SECRET_INIT;
	struct aead_work after;

	ck_assert_int_eq(envelope_open(key, 7, where, blob, &got), want);
	secret_clear(&got);
	after = aead_work();
	return (struct aead_work){after.derived - before.derived, after.opened - before.opened,
				  after.bytes - before.bytes};
}

START_TEST(v19_every_failure_does_the_work_of_a_success)
{
	static const size_t flips[] = {8, 39, 40, 51, 52, 83, 84, 147, 148, 163};
	struct buf out = seal_kat();
	const struct aead_work want = work_of(dek, &ref, buf_str(&out), RC_OK);
	struct secret_ref moved = ref;
	struct aead_work got;
	uint8_t other[32];

	ck_assert_uint_eq(want.derived, 1);
	ck_assert_uint_eq(want.opened, 1);
	ck_assert_uint_eq(want.bytes, 64);
	for (size_t i = 0; i < ARRAY_LEN(flips); i++) {
		out.ptr[flips[i]] ^= 1;
		got = work_of(dek, &ref, buf_str(&out), RC_CORRUPT);
		ck_assert_msg(memcmp(&got, &want, sizeof got) == 0, "byte %zu", flips[i]);
		out.ptr[flips[i]] ^= 1;
	}
	memcpy(other, dek, sizeof other);
	other[0] ^= 1;
	got = work_of(other, &ref, buf_str(&out), RC_CORRUPT);
	ck_assert_msg(memcmp(&got, &want, sizeof got) == 0, "another data key");
	moved.row_version++;
	got = work_of(dek, &moved, buf_str(&out), RC_CORRUPT);
	ck_assert_msg(memcmp(&got, &want, sizeof got) == 0, "another row");
	buf_clear(&out);
}
END_TEST

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, 44);
}

START_TEST(v09_no_salt_or_nonce_twice)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	const size_t n = 50000;
#else
	const size_t n = 1000000;
#endif
	char *seen = malloc(n * 44);

	for (size_t i = 0; i < n; i++) {
		struct buf out = BUF_INIT(ENVELOPE_BYTES_MAX + 1);

		ck_assert_int_eq(envelope_seal(dek, 1, &ref, STR("x"), &out), RC_OK);
		memcpy(seen + i * 44, out.ptr + 8, 44);
		buf_clear(&out);
	}
	for (size_t from = 0; from <= 32; from += 32) { /* by salt, then by nonce */
		if (from)
			for (size_t i = 0; i < n; i++)
				memmove(seen + i * 44, seen + i * 44 + 32, 12);
		qsort(seen, n, 44, by_bytes);
		for (size_t i = 1; i < n; i++)
			ck_assert(memcmp(seen + i * 44, seen + (i - 1) * 44, from ? 12 : 32) != 0);
	}
	free(seen);
}
END_TEST

static int no_bytes(unsigned char *out, int n)
{
	return 0;
}

/* The old way to replace the generator is the one a test can use without a provider of its own. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
START_TEST(v09_without_randomness_nothing_is_sealed)
{
	static RAND_METHOD broken = {NULL, no_bytes, NULL, NULL, no_bytes, NULL};
	struct buf out = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	struct secret s = SECRET_INIT;

	RAND_set_rand_method(&broken);
	ck_assert_int_eq(envelope_seal(dek, 1, &ref, STR("x"), &out), RC_IO);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(secret_random(&s, 32), RC_IO);
	ck_assert_ptr_null(s.ptr);
	RAND_set_rand_method(NULL);
	ck_assert_int_eq(envelope_seal(dek, 1, &ref, STR("x"), &out), RC_OK);
	buf_clear(&out);
}
END_TEST

START_TEST(what_is_shown)
{
	char masked[16], fpr[9], other[9];

	envelope_mask(STR("sk-not-a-real-secret-wxyz"), masked);
	ck_assert_str_eq(masked, "\xe2\x80\xa6wxyz");
	envelope_mask(STR("short-secret-wxyz"), masked);
	ck_assert_str_eq(masked, "****");
	envelope_mask(STR("long-enough-but-ends-in\n\"\x01x"), masked);
	ck_assert_str_eq(masked, "****");
	envelope_mask(STR(""), masked);
	ck_assert_str_eq(masked, "****");
	ck_assert_int_eq(envelope_fingerprint(dek, str_from(kat_secret), fpr), RC_OK);
	ck_assert_str_eq(fpr, "d5c63548"); /* the independent implementation's */
	dek[0] ^= 1;
	ck_assert_int_eq(envelope_fingerprint(dek, str_from(kat_secret), other), RC_OK);
	ck_assert_str_ne(fpr, other); /* another org's key: not linkable */
}
END_TEST

START_TEST(secrets_hold_and_compare)
{
	struct secret a = SECRET_INIT, b = SECRET_INIT, c;

	ck_assert_int_eq(secret_from(STR("one"), &a), RC_OK);
	ck_assert_int_eq(secret_from(STR("one"), &b), RC_OK);
	ck_assert(secret_equal(&a, &b));
	b.ptr[2] ^= 1;
	ck_assert(!secret_equal(&a, &b));
	c = secret_take(&a);
	ck_assert_ptr_null(a.ptr);
	ck_assert(str_is(secret_str(&c), "one"));
	secret_clear(&a);
	secret_clear(&b);
	secret_clear(&c);
	secret_clear(NULL);
	ck_assert_ptr_null(c.ptr);
	ck_assert_int_eq(secret_from(str_of(kat_hex, SECRET_BYTES_MAX + 1), &a), RC_TOO_LARGE);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("envelope");
	TCase *t = tcase_create("envelope");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 110); /* a million seals on a busy machine */
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, v04_known_answer);
	tcase_add_test(t, v05_every_flipped_bit_is_refused);
	tcase_add_test(t, v06_opens_only_where_it_stands);
	tcase_add_test(t, another_key_or_version_is_refused);
	tcase_add_test(t, v08_cut_or_longer_is_refused);
	tcase_add_test(t, v08_length_field_and_padding_are_checked);
	tcase_add_test(t, v07_a_record_that_two_keys_accept_opens_under_one);
	tcase_add_test(t, v19_every_failure_does_the_work_of_a_success);
	tcase_add_test(t, every_length_round_trips_into_its_bucket);
	tcase_add_test(t, v09_no_salt_or_nonce_twice);
	tcase_add_test(t, v09_without_randomness_nothing_is_sealed);
	tcase_add_test(t, what_is_shown);
	tcase_add_test(t, secrets_hold_and_compare);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
