/* server/base/hash.h - digests and random bytes, over OpenSSL. Pure but for random_bytes(). */
#ifndef SERVER_BASE_HASH_H
#define SERVER_BASE_HASH_H
#include <stddef.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define SHA256_BYTES 32

/* First thing in main(): from here on OpenSSL overwrites what it frees (records and keys of TLS among it). */
void hash_wipe_openssl(void);

void sha256(struct str in, uint8_t out[SHA256_BYTES]);
void hmac_sha256(struct str key, struct str in, uint8_t out[SHA256_BYTES]);
uint32_t crc32_ieee(struct str in); /* zlib's polynomial: GitHub-style key checksums */
uint64_t hash64(struct str in);	    /* keyed at start, for tables; never stored */
/* Public randomness (nonces, salts, ids). RC_IO when the generator fails: nothing may go on. */
MUST_CHECK enum rc random_bytes(void *out, size_t len);
/* Lower-case hex of `in` into `out` (2 * len + 1 bytes). */
void hex_encode(struct str in, char *out);
/* Standard base64 with padding, appended to `out`: 4 characters for each 3 bytes begun. */
MUST_CHECK enum rc base64_encode(struct str in, struct buf *out);
/* Standard base64 with padding, strict: out_size at least 3/4 of the input. */
MUST_CHECK enum rc base64_decode(struct str in, uint8_t *out, size_t out_size, size_t *ret_len);

#endif
