/* vault/apikey.c - make and check the text of an API key. No table, no clock, no log. */
#include "vault/apikey_priv.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static bool is_base62(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Uniform: bytes past the last whole run of 62 are drawn again. */
static enum rc random_digits(char *out, size_t len)
{
	size_t n = 0;
	uint8_t bytes[64];

	while (n < len) {
		if (RAND_priv_bytes(bytes, sizeof bytes) != 1)
			return RC_IO;
		for (size_t i = 0; i < sizeof bytes && n < len; i++)
			if (bytes[i] < 4 * 62)
				out[n++] = base62[bytes[i] % 62];
	}
	OPENSSL_cleanse(bytes, sizeof bytes);
	return RC_OK;
}

static void checksum(struct str body, char out[APIKEY_CHECKSUM_LEN])
{
	uint32_t crc = crc32_ieee(body);

	for (size_t i = APIKEY_CHECKSUM_LEN; i-- > 0; crc /= 62)
		out[i] = base62[crc % 62];
}

enum rc apikey_make(struct apikey *ret)
{
	char *at = ret->text;

	memcpy(at, APIKEY_PREFIX, 3);
	at += 3;
	TRY(random_digits(at, APIKEY_PUBLIC_LEN));
	memcpy(ret->public_id, at, APIKEY_PUBLIC_LEN);
	ret->public_id[APIKEY_PUBLIC_LEN] = '\0';
	at += APIKEY_PUBLIC_LEN;
	*at++ = '_';
	TRY(random_digits(at, APIKEY_SECRET_LEN));
	at += APIKEY_SECRET_LEN;
	checksum(str_of(ret->text, (size_t)(at - ret->text)), at);
	ret->text[APIKEY_LEN] = '\0';
	return RC_OK;
}

void apikey_clear(struct apikey *k)
{
	if (k)
		OPENSSL_cleanse(k, sizeof *k);
}

enum rc apikey_parse(struct str text, struct str *public_id)
{
	const size_t bar = 3 + APIKEY_PUBLIC_LEN;
	char want[APIKEY_CHECKSUM_LEN];

	if (text.len != APIKEY_LEN || !str_starts(text, STR(APIKEY_PREFIX)) || text.ptr[bar] != '_')
		return RC_INVALID;
	for (size_t i = 3; i < text.len; i++)
		if (i != bar && !is_base62(text.ptr[i]))
			return RC_INVALID;
	checksum(str_slice(text, 0, APIKEY_LEN - APIKEY_CHECKSUM_LEN), want);
	if (memcmp(want, text.ptr + APIKEY_LEN - APIKEY_CHECKSUM_LEN, sizeof want) != 0)
		return RC_INVALID;
	*public_id = str_slice(text, 3, bar);
	return RC_OK;
}

void apikey_hash(struct str pepper, struct str text, uint8_t hash[SHA256_BYTES])
{
	hmac_sha256(pepper, text, hash);
}
