/* server/base/hash.c - digests and random bytes. Must never fall back to weaker randomness. */
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "server/base/hash.h"
#include "server/base/wipe.h"

#define SHA256_BLOCK 64

/* Fetched once: the lookup by name costs more than a short digest. Lives as long as the process. */
static EVP_MD *sha256_md;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void sha256_fetch(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!sha256_md)
		abort();
}

static void *ssl_malloc(size_t size, const char *file, int line)
{
	return size ? malloc(size) : NULL;
}

static void *ssl_realloc(void *ptr, size_t size, const char *file, int line)
{
	if (size > 0)
		return wipe_realloc(ptr, size);
	wipe_free(ptr);
	return NULL;
}

static void ssl_free(void *ptr, const char *file, int line)
{
	wipe_free(ptr);
}

void hash_wipe_openssl(void)
{
	if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
		abort(); /* something of OpenSSL ran before: our bug */
}

static void sha256_two(struct str a, struct str b, uint8_t out[SHA256_BYTES])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok;

	pthread_once(&sha256_once, sha256_fetch);
	ok = ctx && EVP_DigestInit_ex2(ctx, sha256_md, NULL) &&
	     EVP_DigestUpdate(ctx, a.ptr, a.len) && EVP_DigestUpdate(ctx, b.ptr, b.len) &&
	     EVP_DigestFinal_ex(ctx, out, NULL);
	if (!ok)
		abort();
	EVP_MD_CTX_free(ctx);
}

void sha256(struct str in, uint8_t out[SHA256_BYTES])
{
	sha256_two(in, STR_NULL, out);
}

void hmac_sha256(struct str key, struct str in, uint8_t out[SHA256_BYTES])
{
	uint8_t block[SHA256_BLOCK] = {0};
	uint8_t inner[SHA256_BYTES];

	if (key.len > sizeof block)
		sha256(key, block);
	else if (key.len)
		memcpy(block, key.ptr, key.len);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36;
	sha256_two(str_of(block, sizeof block), in, inner);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36 ^ 0x5c;
	sha256_two(str_of(block, sizeof block), str_of(inner, sizeof inner), out);
	OPENSSL_cleanse(block, sizeof block);
	OPENSSL_cleanse(inner, sizeof inner);
}

uint32_t crc32_ieee(struct str in)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < in.len; i++) {
		crc ^= (uint8_t)in.ptr[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* --- SipHash-1-3 under a key made at the first call: table slots cannot be chosen from outside ----- */

static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void sip_key_make(void)
{
	if (random_bytes(sip_key, sizeof sip_key) != RC_OK)
		abort();
}

static inline uint64_t rotl(uint64_t x, int n)
{
	return (x << n) | (x >> (64 - n));
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

uint64_t hash64(struct str in)
{
	uint64_t v[4];
	uint64_t word;
	size_t at = 0;

	pthread_once(&sip_once, sip_key_make);
	v[0] = sip_key[0] ^ 0x736f6d6570736575u;
	v[1] = sip_key[1] ^ 0x646f72616e646f6du;
	v[2] = sip_key[0] ^ 0x6c7967656e657261u;
	v[3] = sip_key[1] ^ 0x7465646279746573u;
	for (; in.len - at >= sizeof word; at += sizeof word) {
		memcpy(&word, in.ptr + at, sizeof word);
		sip_word(v, word);
	}
	word = (uint64_t)(in.len & 0xff) << 56;
	for (int shift = 0; at < in.len; at++, shift += 8)
		word |= (uint64_t)(uint8_t)in.ptr[at] << shift;
	sip_word(v, word);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

enum rc random_bytes(void *out, size_t len)
{
	unsigned char *at = out;

	while (len) {
		int step = len > 65536 ? 65536 : (int)len;

		if (RAND_bytes(at, step) != 1)
			return RC_IO;
		at += step;
		len -= (size_t)step;
	}
	return RC_OK;
}

void hex_encode(struct str in, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < in.len; i++) {
		*out++ = digits[(uint8_t)in.ptr[i] >> 4];
		*out++ = digits[(uint8_t)in.ptr[i] & 15];
	}
	*out = '\0';
}

enum rc base64_encode(struct str in, struct buf *out)
{
	if (in.len > INT_MAX / 4 * 3 - 3)
		return RC_TOO_LARGE;
	TRY(buf_reserve(out, (in.len + 2) / 3 * 4 + 1));
	/* writes a NUL behind it, for which there is room */
	out->len += (size_t)EVP_EncodeBlock((unsigned char *)out->ptr + out->len,
					    (const unsigned char *)in.ptr, (int)in.len);
	return RC_OK;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* One group of four; `bytes` says how many of the three it carries. Spare bits must be zero, so that
 * every value has exactly one spelling. */
static bool base64_group(const char *in, size_t bytes, uint8_t out[3])
{
	uint32_t bits = 0;

	for (size_t i = 0; i < 4; i++) {
		int digit = i <= bytes ? base64_digit(in[i]) : in[i] == '=' ? 0 : -1;

		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
	}
	out[0] = (uint8_t)(bits >> 16);
	out[1] = (uint8_t)(bits >> 8);
	out[2] = (uint8_t)bits;
	return (bytes > 1 || out[1] == 0) && (bytes > 2 || out[2] == 0);
}

enum rc base64_decode(struct str in, uint8_t *out, size_t out_size, size_t *ret_len)
{
	size_t len = in.len / 4 * 3;
	size_t pad = 0;

	if (in.len % 4)
		return RC_INVALID;
	if (in.len && in.ptr[in.len - 1] == '=')
		pad = in.ptr[in.len - 2] == '=' ? 2 : 1;
	if (len - pad > out_size)
		return RC_TOO_LARGE;
	for (size_t i = 0, o = 0; i < in.len; i += 4, o += 3) {
		size_t bytes = i + 4 == in.len ? 3 - pad : 3;
		uint8_t group[3];

		if (!base64_group(in.ptr + i, bytes, group))
			return RC_INVALID;
		memcpy(out + o, group, bytes);
	}
	*ret_len = len - pad;
	return RC_OK;
}
