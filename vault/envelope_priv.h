/* vault/envelope_priv.h - one sealed record, layout v1 (security.md 1.4), big-endian:
 *
 *   0  2  magic "TG"          8  32  salt             84     n   u16 length, secret, zero padding
 *   2  1  format 1           40  12  nonce            84+n  16   GCM tag
 *   3  1  suite 1            52  32  commitment
 *   4  4  dek_ver
 *
 * n is one of 64, 128, ... 16384. What is authenticated besides: everything before the ciphertext and
 * (org, id, field, row_version); org and id as their 16 bytes. Pure but for the random salt and nonce. */
#ifndef VAULT_ENVELOPE_PRIV_H
#define VAULT_ENVELOPE_PRIV_H
#include "server/base/buf.h"
#include "vault/aead_priv.h"
#include "vault/vault.h"

#define ENVELOPE_SALT_BYTES   32
#define ENVELOPE_HEAD_BYTES   84
#define ENVELOPE_BUCKET_MIN   64u
#define ENVELOPE_BUCKET_MAX   16384u
#define ENVELOPE_BYTES_MIN    (ENVELOPE_HEAD_BYTES + ENVELOPE_BUCKET_MIN + AEAD_TAG_BYTES)
#define ENVELOPE_BYTES_MAX    (ENVELOPE_HEAD_BYTES + ENVELOPE_BUCKET_MAX + AEAD_TAG_BYTES)
#define ENVELOPE_DEK_BYTES    32
#define ENVELOPE_WRAPPED_SIZE (1 + AEAD_NONCE_BYTES + ENVELOPE_DEK_BYTES + AEAD_TAG_BYTES)

/* Append the sealed record to `out`. RC_TOO_LARGE: the secret; RC_IO: no randomness: nothing is written. */
MUST_CHECK enum rc envelope_seal(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
				 const struct secret_ref *ref, struct str plain, struct buf *out);
/* The same with a salt and nonce of the caller's: known-answer tests alone. */
MUST_CHECK enum rc envelope_seal_with(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
				      const struct secret_ref *ref, struct str plain,
				      const uint8_t salt[ENVELOPE_SALT_BYTES],
				      const uint8_t nonce[AEAD_NONCE_BYTES], struct buf *out);
/* Which data key does it want? RC_CORRUPT unless length, magic, format and suite are right. */
MUST_CHECK enum rc envelope_dek_ver(struct str blob, uint32_t *ret);
/* Whatever is wrong with the record, the answer is RC_CORRUPT and nothing is released. RC_LIMIT: the secure heap
 * is full. */
MUST_CHECK enum rc envelope_open(const uint8_t dek[ENVELOPE_DEK_BYTES], uint32_t dek_ver,
				 const struct secret_ref *ref, struct str blob, struct secret *ret);

/* What may be shown: "…wxyz" of a printable secret of 20 bytes or more, else "****". */
void envelope_mask(struct str plain, char masked[16]);
/* First 8 hex digits of an HMAC under a key of the org's own: equal secrets of two orgs cannot be linked. */
MUST_CHECK enum rc envelope_fingerprint(const uint8_t dek[ENVELOPE_DEK_BYTES], struct str plain,
					char fingerprint[9]);

#endif
