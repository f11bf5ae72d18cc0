/* vault/keyring_priv.h - the master keys (KEKs): they wrap data keys and nothing else.
 *
 * The first is current and wraps, unless a transit key is; all unwrap. Loaded once at start, immutable afterwards;
 * any thread. What may stand elsewhere is asked through kek_priv.h; the functions here know this process alone.
 * A wrapped data key is: format 1, nonce, ciphertext of 32 bytes, tag; authenticated besides are
 * org, dek_ver, kek_id and kek_ver. A key of this file has version 1 always. */
#ifndef VAULT_KEYRING_PRIV_H
#define VAULT_KEYRING_PRIV_H
#include "server/base/err.h"
#include "server/config.h"
#include "vault/envelope_priv.h"

#define KEYRING_MAX	  16 /* the current one and 15 earlier: rotated yearly, a long life */
#define KEYRING_ID_SIZE	  17
#define KEYRING_KEY_BYTES 32
#define KEYRING_VER	  1

struct kek {
	char id[KEYRING_ID_SIZE]; /* first 16 hex digits of HMAC-SHA256(key, "tg-kek-id") */
	uint8_t *key;		  /* secure heap */
};
struct transit;
struct keyring {
	struct kek keks[KEYRING_MAX];
	size_t count;
	struct transit *transit; /* NULL: none is configured */
};

/* Read master_key, master_keys_old and where a transit key is. RC_INVALID: one sentence that names the setting (and
 * the file). */
MUST_CHECK enum rc keyring_load(struct keyring *k, const struct config *c, struct err *err);
/* One key as base64 of 32 bytes; white space around it is fine. Refuses what no generator makes. */
MUST_CHECK enum rc keyring_add(struct keyring *k, struct str base64, const char *setting,
			       struct err *err);
/* A key file that others than its owner can read is refused. */
MUST_CHECK enum rc keyring_check_file(const char *path, const char *setting, struct err *err);
void keyring_clear(struct keyring *k);
const struct kek *keyring_find(const struct keyring *k, struct str id, int64_t ver);

/* By a local key, and blocking for none. RC_UNSUPPORTED: a transit key is the current one; kek_wrap_wait() asks it. */
MUST_CHECK enum rc keyring_wrap(const struct keyring *k, struct org_id org, uint32_t dek_ver,
				const uint8_t dek[ENVELOPE_DEK_BYTES],
				uint8_t out[ENVELOPE_WRAPPED_SIZE]);
/* RC_NOT_FOUND: that master key is not configured; RC_CORRUPT: it does not open. What a transit key wrapped is
 * waited for (kek_unwrap_wait(): commands, never a loop's thread); RC_UNAVAILABLE: it gave no answer. */
MUST_CHECK enum rc keyring_unwrap(const struct keyring *k, struct org_id org, uint32_t dek_ver,
				  struct str kek_id, int64_t kek_ver, struct str wrapped,
				  uint8_t dek[ENVELOPE_DEK_BYTES]);

/* What is authenticated besides. A transit key's `kek_ver` is 0: its version is not known before it has wrapped, and
 * is bound by the version's own key. */
void keyring_dek_aad(struct org_id org, uint32_t dek_ver, struct str kek_id, uint32_t kek_ver,
		     struct aad *aad);
void keyring_canary_aad(struct str kek_id, uint32_t kek_ver, struct aad *aad);
/* 32 bytes under a master key: format, nonce, ciphertext, tag. */
MUST_CHECK enum rc keyring_seal(const struct kek *kek, const struct aad *aad,
				const uint8_t plain[KEYRING_KEY_BYTES],
				uint8_t out[ENVELOPE_WRAPPED_SIZE]);
MUST_CHECK enum rc keyring_open(const struct kek *kek, const struct aad *aad, struct str sealed,
				uint8_t plain[KEYRING_KEY_BYTES]);

/* A sealed constant: does the key that bears this id still open what it sealed at first? */
extern const char keyring_canary[KEYRING_KEY_BYTES];
#define KEYRING_CANARY_SIZE (1 + AEAD_NONCE_BYTES + 32 + AEAD_TAG_BYTES)
MUST_CHECK enum rc keyring_canary_seal(const struct kek *kek, uint8_t out[KEYRING_CANARY_SIZE]);
MUST_CHECK enum rc keyring_canary_open(const struct kek *kek, struct str sealed);

#endif
