/* vault/apikey_priv.h - the text of an API key: tg_ + 8 base62 + _ + 32 base62 + 6 base62 checksum.
 *
 * For secret scanners: ^tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$. The checksum is CRC32 of everything before it,
 * so garbage dies without a lookup. What is stored is an HMAC under the pepper. Pure. */
#ifndef VAULT_APIKEY_PRIV_H
#define VAULT_APIKEY_PRIV_H
#include "server/base/hash.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define APIKEY_PREFIX	    "tg_"
#define APIKEY_PUBLIC_LEN   8
#define APIKEY_SECRET_LEN   32
#define APIKEY_CHECKSUM_LEN 6
#define APIKEY_LEN	    (3 + APIKEY_PUBLIC_LEN + 1 + APIKEY_SECRET_LEN + APIKEY_CHECKSUM_LEN)

struct apikey { /* holds the secret: wipe with apikey_clear() */
	char text[APIKEY_LEN + 1];
	char public_id[APIKEY_PUBLIC_LEN + 1];
};
/* A new random key. RC_IO: no randomness. */
MUST_CHECK enum rc apikey_make(struct apikey *ret);
void apikey_clear(struct apikey *k);
/* Form and checksum; `*public_id` points into `text`. RC_INVALID otherwise. */
MUST_CHECK enum rc apikey_parse(struct str text, struct str *public_id);
void apikey_hash(struct str pepper, struct str text, uint8_t hash[SHA256_BYTES]);

#endif
