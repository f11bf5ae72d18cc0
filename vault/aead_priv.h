/* vault/aead_priv.h - the three primitives: AES-256-GCM, HKDF-SHA256, and the writing of what is
 * authenticated besides. Pure; any thread. */
#ifndef VAULT_AEAD_PRIV_H
#define VAULT_AEAD_PRIV_H
#include "server/base/rc.h"
#include "server/base/str.h"

#define AEAD_KEY_BYTES	 32
#define AEAD_NONCE_BYTES 12
#define AEAD_TAG_BYTES	 16

/* Fetch the algorithms once, so that a use does not look them up. RC_UNSUPPORTED: this OpenSSL lacks them. */
MUST_CHECK enum rc aead_start(void);
void aead_stop(void);

/* `out` gets plain.len bytes and the tag. RC_IO: OpenSSL refused. */
MUST_CHECK enum rc aead_seal(const uint8_t key[AEAD_KEY_BYTES],
			     const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
			     struct str plain, uint8_t *out);
/* `sealed` is ciphertext and tag; `out` gets sealed.len - 16 bytes. RC_CORRUPT: the tag does not fit, and `out`
 * is wiped. */
MUST_CHECK enum rc aead_open(const uint8_t key[AEAD_KEY_BYTES],
			     const uint8_t nonce[AEAD_NONCE_BYTES], struct str aad,
			     struct str sealed, uint8_t *out);
/* HKDF-SHA256, extract and expand. */
MUST_CHECK enum rc aead_hkdf(struct str ikm, struct str salt, struct str info, uint8_t *out,
			     size_t out_len);

/* Done on this thread so far. All ways in which a record does not open have to cost the same (V19): a test
 * compares this. */
struct aead_work {
	uint64_t derived, opened; /* calls */
	uint64_t bytes;		  /* opened, right or not */
};
struct aead_work aead_work(void);

/* What is authenticated: fixed words and length-prefixed parts, never concatenated raw. */
#define AAD_BYTES_MAX 512 /* a field may name an origin: some 280 bytes */
struct aad {
	uint8_t b[AAD_BYTES_MAX];
	size_t len;
};
void aad_put(struct aad *a, struct str bytes);
void aad_put_u32(struct aad *a, uint32_t v);
void aad_put_u64(struct aad *a, uint64_t v);
void aad_put_lp(struct aad *a, struct str bytes); /* u32 length, then the bytes */
static inline struct str aad_str(const struct aad *a)
{
	return str_of(a->b, a->len);
}

#endif
