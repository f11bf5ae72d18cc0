/* vault/envelope.c - seal and open one record; the layout stands in envelope_priv.h.
 *
 * Each record has keys of its own, derived from the org's data key and a random salt, and a
 * commitment to them, so that a record opens under one key and no other. Opening has one error:
 * nothing here says, or may say, which of the checks failed. */
#include "vault/envelope_priv.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>

#include "server/base/hash.h"
#include "vault/secret_priv.h"

#define OFF_DEK_VER 4
#define OFF_SALT    8
#define OFF_NONCE   40
#define OFF_COMMIT  52
#define FORMAT_V1   1
#define SUITE_V1    1
#define KEYS_BYTES  64 /* encryption key, then commitment */

static const uint8_t envelope_start[4] = {'T', 'G', FORMAT_V1, SUITE_V1};

static bool bucket_ok(size_t n)
{
	return n >= ENVELOPE_BUCKET_MIN && n <= ENVELOPE_BUCKET_MAX && (n & (n - 1)) == 0;
}

static size_t bucket_for(size_t len)
{
	size_t n = ENVELOPE_BUCKET_MIN;

	while (n < len + 2)
		n *= 2;
	assert(bucket_ok(n));
	return n;
}

static enum rc record_keys(const uint8_t dek[ENVELOPE_DEK_BYTES], struct org_id org,
			   struct str salt, uint8_t keys[KEYS_BYTES])
{
	static const uint8_t suite = SUITE_V1;
	struct aad info = {.len = 0};

	aad_put(&info, STR("tg/v1/rec"));
	aad_put(&info, str_of(&suite, 1));
	aad_put_lp(&info, str_of(org.u.b, sizeof org.u.b));
	return aead_hkdf(str_of(dek, ENVELOPE_DEK_BYTES), salt, aad_str(&info), keys, KEYS_BYTES);
}

static void record_aad(struct str head, const struct secret_ref *ref, struct aad *aad)
{
	aad->len = 0;
	aad_put(aad, STR("tg-vault-aad-1"));
	aad_put(aad, head);
	aad_put_lp(aad, str_of(ref->org.u.b, sizeof ref->org.u.b));
	aad_put_lp(aad, str_of(ref->id.b, sizeof ref->id.b));
	aad_put_lp(aad, str_from(ref->field));
	aad_put_u64(aad, (uint64_t)ref->row_version);
}

static void write_head(uint8_t *head, uint32_t dek_ver, const uint8_t salt[ENVELOPE_SALT_BYTES],
		       const uint8_t nonce[AEAD_NONCE_BYTES], const uint8_t *commitment)
{
	memcpy(head, envelope_start, sizeof envelope_start);
	head[OFF_DEK_VER] = (uint8_t)(dek_ver >> 24);
	head[OFF_DEK_VER + 1] = (uint8_t)(dek_ver >> 16);
	head[OFF_DEK_VER + 2] = (uint8_t)(dek_ver >> 8);
	head[OFF_DEK_VER + 3] = (uint8_t)dek_ver;
	memcpy(head + OFF_SALT, salt, ENVELOPE_SALT_BYTES);
	memcpy(head + OFF_NONCE, nonce, AEAD_NONCE_BYTES);
	memcpy(head + OFF_COMMIT, commitment, KEYS_BYTES - AEAD_KEY_BYTES);
}

/* The padded plaintext, in the secure heap; the caller gives it back. */
static uint8_t *pad(struct str plain, size_t n)
{
	uint8_t *p = secret_heap_get(n);

	if (!p)
		return NULL;
	p[0] = (uint8_t)(plain.len >> 8);
	p[1] = (uint8_t)plain.len;
	if (plain.len > 0)
		memcpy(p + 2, plain.ptr, plain.len);
	return p;
}

enum rc envelope_seal_with(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
			   const struct secret_ref *ref, struct str plain,
			   const uint8_t salt[ENVELOPE_SALT_BYTES],
			   const uint8_t nonce[AEAD_NONCE_BYTES], struct buf *out)
{
	uint8_t keys[KEYS_BYTES], head[ENVELOPE_HEAD_BYTES];
	struct aad aad;
	uint8_t *padded = NULL;
	size_t n;
	enum rc rc;

	assert(dek_ver >= 1 && ref->row_version >= 1);
	if (plain.len > SECRET_BYTES_MAX)
		return RC_TOO_LARGE;
	n = bucket_for(plain.len);
	TRY(buf_reserve(out, ENVELOPE_HEAD_BYTES + n + AEAD_TAG_BYTES));
	rc = record_keys(dek, ref->org, str_of(salt, ENVELOPE_SALT_BYTES), keys);
	if (rc == RC_OK && !(padded = pad(plain, n)))
		rc = RC_LIMIT;
	if (rc == RC_OK) {
		uint8_t *box = (uint8_t *)out->ptr + out->len + ENVELOPE_HEAD_BYTES;

		write_head(head, dek_ver, salt, nonce, keys + AEAD_KEY_BYTES);
		record_aad(str_of(head, sizeof head), ref, &aad);
		rc = aead_seal(keys, nonce, aad_str(&aad), str_of(padded, n), box);
		if (rc == RC_OK) {
			memcpy(out->ptr + out->len, head, sizeof head);
			out->len += ENVELOPE_HEAD_BYTES + n + AEAD_TAG_BYTES;
		}
	}
	secret_heap_give(padded, n);
	OPENSSL_cleanse(keys, sizeof keys);
	return rc;
}

enum rc envelope_seal(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
		      const struct secret_ref *ref, struct str plain, struct buf *out)
{
	uint8_t salt[ENVELOPE_SALT_BYTES], nonce[AEAD_NONCE_BYTES];

	TRY(random_bytes(salt, sizeof salt));
	TRY(random_bytes(nonce, sizeof nonce));
	return envelope_seal_with(dek, dek_ver, ref, plain, salt, nonce, out);
}

enum rc envelope_dek_ver(struct str blob, uint32_t *ret)
{
	const uint8_t *b = (const uint8_t *)blob.ptr;
	uint32_t ver;

	if (blob.len < ENVELOPE_BYTES_MIN || blob.len > ENVELOPE_BYTES_MAX ||
	    !bucket_ok(blob.len - ENVELOPE_HEAD_BYTES - AEAD_TAG_BYTES))
		return RC_CORRUPT;
	if (memcmp(b, envelope_start, sizeof envelope_start) != 0)
		return RC_CORRUPT;
	ver = (uint32_t)b[OFF_DEK_VER] << 24 | (uint32_t)b[OFF_DEK_VER + 1] << 16 |
	      (uint32_t)b[OFF_DEK_VER + 2] << 8 | b[OFF_DEK_VER + 3];
	if (ver == 0)
		return RC_CORRUPT;
	*ret = ver;
	return RC_OK;
}

/* Length field and padding of what the tag has vouched for. */
static enum rc unpad(const uint8_t *padded, size_t n, struct secret *ret)
{
	const size_t len = (size_t)padded[0] << 8 | padded[1];
	uint8_t rest = 0;

	if (len > n - 2)
		return RC_CORRUPT;
	for (size_t i = 2 + len; i < n; i++)
		rest |= padded[i];
	if (rest != 0)
		return RC_CORRUPT;
	return secret_from(str_of(padded + 2, len), ret);
}

static enum rc record_open(const uint8_t keys[KEYS_BYTES], const struct secret_ref *ref,
			   struct str blob, struct secret *ret)
{
	const uint8_t *b = (const uint8_t *)blob.ptr;
	const size_t n = blob.len - ENVELOPE_HEAD_BYTES - AEAD_TAG_BYTES;
	/* Without the right commitment nothing is released; that it is wrong is told only after the same work as for
	 * a wrong tag, and by the same branch, so that how long it took says nothing. */
	int wrong =
		CRYPTO_memcmp(keys + AEAD_KEY_BYTES, b + OFF_COMMIT, KEYS_BYTES - AEAD_KEY_BYTES);
	struct aad aad;
	uint8_t *padded;
	enum rc rc;

	padded = secret_heap_get(n);
	if (!padded)
		return RC_LIMIT;
	record_aad(str_slice(blob, 0, ENVELOPE_HEAD_BYTES), ref, &aad);
	wrong |= (int)aead_open(keys, b + OFF_NONCE, aad_str(&aad),
				str_slice(blob, ENVELOPE_HEAD_BYTES, blob.len), padded);
	rc = wrong == (int)RC_OK ? unpad(padded, n, ret) : RC_CORRUPT;
	secret_heap_give(padded, n);
	return rc;
}

enum rc envelope_open(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
		      const struct secret_ref *ref, struct str blob, struct secret *ret)
{
	uint8_t keys[KEYS_BYTES];
	uint32_t ver;
	enum rc rc;

	TRY(envelope_dek_ver(blob, &ver));
	if (ver != dek_ver)
		return RC_CORRUPT;
	rc = record_keys(dek, ref->org, str_slice(blob, OFF_SALT, OFF_NONCE), keys);
	if (rc == RC_OK)
		rc = record_open(keys, ref, blob, ret);
	OPENSSL_cleanse(keys, sizeof keys);
	return rc;
}

void envelope_mask(struct str plain, char masked[16])
{
	bool show = plain.len >= 20;
	const struct str tail = show ? str_slice(plain, plain.len - 4, plain.len) : STR("");

	for (size_t i = 0; show && i < tail.len; i++)
		show = tail.ptr[i] > ' ' && tail.ptr[i] < 0x7f && tail.ptr[i] != '"' &&
		       tail.ptr[i] != '\\';
	if (show)
		snprintf(masked, 16, "\xe2\x80\xa6%.*s", STR_FMT(tail));
	else
		snprintf(masked, 16, "****");
}

enum rc envelope_fingerprint(const uint8_t dek[ENVELOPE_DEK_BYTES], struct str plain,
			     char fingerprint[9])
{
	uint8_t key[SHA256_BYTES], mac[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	TRY(aead_hkdf(str_of(dek, ENVELOPE_DEK_BYTES), STR_NULL, STR("tg/v1/fpr"), key,
		      sizeof key));
	hmac_sha256(str_of(key, sizeof key), plain, mac);
	OPENSSL_cleanse(key, sizeof key);
	hex_encode(str_of(mac, sizeof mac), hex);
	memcpy(fingerprint, hex, 8);
	fingerprint[8] = '\0';
	return RC_OK;
}
