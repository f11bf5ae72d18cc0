/* vault/aead.c - AES-256-GCM and HKDF-SHA256 over OpenSSL's EVP.
 *
 * The only file that calls a cipher. It makes no nonce and keeps no key. */
#include "vault/aead_priv.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

static EVP_CIPHER *aead_gcm;
static EVP_KDF *aead_kdf;
static _Thread_local struct aead_work aead_done;

struct aead_work aead_work(void)
{
	return aead_done;
}

enum rc aead_start(void)
{
	if (!aead_gcm)
		aead_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	if (!aead_kdf)
		aead_kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	return aead_gcm && aead_kdf ? RC_OK : RC_UNSUPPORTED;
}

void aead_stop(void)
{
	EVP_CIPHER_free(aead_gcm);
	EVP_KDF_free(aead_kdf);
	aead_gcm = NULL;
	aead_kdf = NULL;
}

static const uint8_t *bytes(struct str s)
{
	static const uint8_t none[1];

	return s.ptr ? (const uint8_t *)s.ptr : none;
}

enum rc aead_seal(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES],
		  struct str aad, struct str plain, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0, last = 0;
	bool ok;

	assert(aead_gcm && plain.len <= INT32_MAX && aad.len <= INT32_MAX);
	ok = ctx && EVP_EncryptInit_ex2(ctx, aead_gcm, key, nonce, NULL) == 1 &&
	     EVP_EncryptUpdate(ctx, NULL, &n, bytes(aad), (int)aad.len) == 1 &&
	     EVP_EncryptUpdate(ctx, out, &n, bytes(plain), (int)plain.len) == 1 &&
	     EVP_EncryptFinal_ex(ctx, out + n, &last) == 1 &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, out + plain.len) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return ok ? RC_OK : RC_IO;
}

enum rc aead_open(const uint8_t key[AEAD_KEY_BYTES], const uint8_t nonce[AEAD_NONCE_BYTES],
		  struct str aad, struct str sealed, uint8_t *out)
{
	uint8_t tag[AEAD_TAG_BYTES];
	EVP_CIPHER_CTX *ctx;
	size_t text_len;
	int n = 0, last = 0;
	bool ok;

	assert(aead_gcm && aad.len <= INT32_MAX);
	if (sealed.len < AEAD_TAG_BYTES || sealed.len > INT32_MAX)
		return RC_CORRUPT;
	text_len = sealed.len - AEAD_TAG_BYTES;
	aead_done.opened++;
	aead_done.bytes += text_len;
	memcpy(tag, sealed.ptr + text_len, sizeof tag);
	ctx = EVP_CIPHER_CTX_new();
	ok = ctx && EVP_DecryptInit_ex2(ctx, aead_gcm, key, nonce, NULL) == 1 &&
	     EVP_DecryptUpdate(ctx, NULL, &n, bytes(aad), (int)aad.len) == 1 &&
	     EVP_DecryptUpdate(ctx, out, &n, bytes(sealed), (int)text_len) == 1 &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_BYTES, tag) == 1 &&
	     EVP_DecryptFinal_ex(ctx, out + n, &last) == 1;
	EVP_CIPHER_CTX_free(ctx);
	if (!ok)
		OPENSSL_cleanse(out, text_len);
	return ok ? RC_OK : RC_CORRUPT;
}

/* OSSL_PARAM takes what it only reads as void *. */
static void *param_bytes(struct str s)
{
	return (void *)(uintptr_t)bytes(s);
}

enum rc aead_hkdf(struct str ikm, struct str salt, struct str info, uint8_t *out, size_t out_len)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[5], *p = params;
	EVP_KDF_CTX *ctx;
	bool ok;

	assert(aead_kdf);
	aead_done.derived++;
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, param_bytes(ikm), ikm.len);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, param_bytes(info), info.len);
	if (salt.len > 0)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, param_bytes(salt),
							 salt.len);
	*p = OSSL_PARAM_construct_end();
	ctx = EVP_KDF_CTX_new(aead_kdf);
	ok = ctx && EVP_KDF_derive(ctx, out, out_len, params) == 1;
	EVP_KDF_CTX_free(ctx);
	return ok ? RC_OK : RC_IO;
}

void aad_put(struct aad *a, struct str part)
{
	assert(part.len <= sizeof a->b - a->len);
	if (part.len > 0)
		memcpy(a->b + a->len, part.ptr, part.len);
	a->len += part.len;
}

void aad_put_u32(struct aad *a, uint32_t v)
{
	const uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8),
			       (uint8_t)v};

	aad_put(a, str_of(be, sizeof be));
}

void aad_put_u64(struct aad *a, uint64_t v)
{
	aad_put_u32(a, (uint32_t)(v >> 32));
	aad_put_u32(a, (uint32_t)v);
}

void aad_put_lp(struct aad *a, struct str part)
{
	aad_put_u32(a, (uint32_t)part.len);
	aad_put(a, part);
}
