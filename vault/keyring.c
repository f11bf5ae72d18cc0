/* vault/keyring.c - read the master keys, refuse the bad ones, wrap and unwrap data keys.
 *
 * Never makes a master key: a key that appears by itself hides that the right one is missing. */
#include "vault/keyring_priv.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "server/base/hash.h"
#include "vault/kek_priv.h"
#include "vault/secret_priv.h"

#define WRAP_FORMAT    1
#define BASE64_LEN_MAX 64 /* 32 bytes are 44 digits */

const char keyring_canary[KEYRING_KEY_BYTES] = "tollgate master key canary v1";

static struct str trim_lines(struct str s)
{
	while (s.len > 0 && strchr(" \t\r\n", s.ptr[0]))
		s = str_slice(s, 1, s.len);
	while (s.len > 0 && strchr(" \t\r\n", s.ptr[s.len - 1]))
		s.len--;
	return s;
}

/* Keys that stand in examples and tests everywhere: one repeated byte, and runs of bytes. */
static bool is_known(const uint8_t key[KEYRING_KEY_BYTES])
{
	static const char *const texts[] = {
		"0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF",
		"01234567890123456789012345678901", "12345678901234567890123456789012",
		"abcdefghijklmnopqrstuvwxyz012345", "abcdefghijklmnopqrstuvwxyz123456",
	};
	bool same = true, up = true, down = true;

	for (size_t i = 1; i < KEYRING_KEY_BYTES; i++) {
		same = same && key[i] == key[0];
		up = up && key[i] == (uint8_t)(key[i - 1] + 1);
		down = down && key[i] == (uint8_t)(key[i - 1] - 1);
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		same = same || memcmp(key, texts[i], KEYRING_KEY_BYTES) == 0;
	return same || up || down;
}

static void kek_name(struct kek *kek)
{
	uint8_t mac[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	hmac_sha256(str_of(kek->key, KEYRING_KEY_BYTES), STR("tg-kek-id"), mac);
	hex_encode(str_of(mac, sizeof mac), hex);
	memcpy(kek->id, hex, KEYRING_ID_SIZE - 1);
	kek->id[KEYRING_ID_SIZE - 1] = '\0';
}

enum rc keyring_add(struct keyring *k, struct str base64, const char *setting, struct err *err)
{
	struct kek kek = {.key = NULL};
	size_t len = 0;
	bool decoded;

	base64 = trim_lines(base64);
	if (k->count == KEYRING_MAX)
		return err_set(err, RC_INVALID, "config", "%s: at most %d master keys", setting,
			       KEYRING_MAX);
	kek.key = secret_heap_get(BASE64_LEN_MAX);
	if (!kek.key)
		return err_set(err, RC_INVALID, "config", "%s: the secure heap is full", setting);
	decoded = base64.len <= BASE64_LEN_MAX &&
		  base64_decode(base64, kek.key, BASE64_LEN_MAX, &len) == RC_OK;
	if (!decoded || len != KEYRING_KEY_BYTES) {
		secret_heap_give(kek.key, BASE64_LEN_MAX);
		return err_set(err, RC_INVALID, "config",
			       "%s: a master key is 32 random bytes as base64 (make one with: "
			       "openssl rand -base64 32)",
			       setting);
	}
	if (is_known(kek.key)) {
		secret_heap_give(kek.key, BASE64_LEN_MAX);
		return err_set(err, RC_INVALID, "config",
			       "%s: this is a test key that everybody knows; make one with: "
			       "openssl rand -base64 32",
			       setting);
	}
	kek_name(&kek);
	if (keyring_find(k, str_from(kek.id), KEYRING_VER)) {
		secret_heap_give(kek.key, BASE64_LEN_MAX);
		return err_set(err, RC_INVALID, "config", "%s: the same master key stands twice",
			       setting);
	}
	k->keks[k->count++] = kek;
	return RC_OK;
}

enum rc keyring_check_file(const char *path, const char *setting, struct err *err)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return err_set(err, RC_INVALID, "config", "%s: cannot read %s: %s", setting, path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(err, RC_INVALID, "config", "%s: %s is not a regular file", setting,
			       path);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(err, RC_INVALID, "config",
			       "%s: %s is open to others than its owner (mode %04o): chmod 600 it",
			       setting, path, (unsigned)(st.st_mode & 07777));
	return RC_OK;
}

static enum rc check_env_file(const char *env, struct err *err)
{
	const char *path = getenv(env);

	return path && *path ? keyring_check_file(path, env, err) : RC_OK;
}

static enum rc add_all(struct keyring *k, const struct config *c, struct err *err)
{
	const char *current = config_str(c, "master_key");
	const char *old = config_str(c, "master_keys_old");
	struct str rest;

	TRY(transit_load(c, &k->transit, err));
	if ((!current || !*current) && k->transit && !transit_is_current(k->transit))
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_VAULT_TRANSIT_CURRENT is false, and there is no "
			       "TOLLGATE_MASTER_KEY that would wrap instead");
	if ((!current || !*current) && !k->transit)
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_MASTER_KEY (or TOLLGATE_MASTER_KEY_FILE) is required: 32 "
			       "random bytes as base64; or TOLLGATE_VAULT_TRANSIT_URL");
	TRY(check_env_file("TOLLGATE_MASTER_KEY_FILE", err));
	TRY(check_env_file("TOLLGATE_MASTER_KEYS_OLD_FILE", err));
	if (current && *current)
		TRY(keyring_add(k, str_from(current), "TOLLGATE_MASTER_KEY", err));
	for (rest = str_from(old); rest.ptr;) {
		struct str one = trim_lines(str_cut(&rest, ','));

		if (one.len > 0)
			TRY(keyring_add(k, one, "TOLLGATE_MASTER_KEYS_OLD", err));
	}
	return RC_OK;
}

enum rc keyring_load(struct keyring *k, const struct config *c, struct err *err)
{
	enum rc rc;

	*k = (struct keyring){.count = 0};
	rc = add_all(k, c, err);
	if (rc != RC_OK)
		keyring_clear(k);
	return rc;
}

void keyring_clear(struct keyring *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->count; i++)
		secret_heap_give(k->keks[i].key, BASE64_LEN_MAX);
	transit_free(k->transit);
	*k = (struct keyring){.count = 0};
}

const struct kek *keyring_find(const struct keyring *k, struct str id, int64_t ver)
{
	for (size_t i = 0; i < k->count && ver == KEYRING_VER; i++)
		if (str_is(id, k->keks[i].id))
			return &k->keks[i];
	return NULL;
}

/* format ‖ nonce ‖ ciphertext ‖ tag under a master key. */
enum rc keyring_seal(const struct kek *kek, const struct aad *aad,
		     const uint8_t plain[KEYRING_KEY_BYTES], uint8_t out[ENVELOPE_WRAPPED_SIZE])
{
	out[0] = WRAP_FORMAT;
	TRY(random_bytes(out + 1, AEAD_NONCE_BYTES));
	return aead_seal(kek->key, out + 1, aad_str(aad), str_of(plain, KEYRING_KEY_BYTES),
			 out + 1 + AEAD_NONCE_BYTES);
}

enum rc keyring_open(const struct kek *kek, const struct aad *aad, struct str sealed,
		     uint8_t plain[KEYRING_KEY_BYTES])
{
	const size_t head = 1 + AEAD_NONCE_BYTES;

	if (sealed.len != ENVELOPE_WRAPPED_SIZE || sealed.ptr[0] != WRAP_FORMAT)
		return RC_CORRUPT;
	return aead_open(kek->key, (const uint8_t *)sealed.ptr + 1, aad_str(aad),
			 str_slice(sealed, head, sealed.len), plain);
}

void keyring_dek_aad(struct org_id org, uint32_t dek_ver, struct str kek_id, uint32_t kek_ver,
		     struct aad *aad)
{
	aad->len = 0;
	aad_put(aad, STR("tg-dek-aad-1"));
	aad_put_lp(aad, str_of(org.u.b, sizeof org.u.b));
	aad_put_u32(aad, dek_ver);
	aad_put_lp(aad, kek_id);
	aad_put_u32(aad, kek_ver);
}

enum rc keyring_wrap(const struct keyring *k, struct org_id org, uint32_t dek_ver,
		     const uint8_t dek[ENVELOPE_DEK_BYTES], uint8_t out[ENVELOPE_WRAPPED_SIZE])
{
	const struct kek *kek = &k->keks[0];
	struct aad aad;

	if (k->transit && transit_is_current(k->transit))
		return RC_UNSUPPORTED;
	assert(k->count > 0);
	keyring_dek_aad(org, dek_ver, str_from(kek->id), KEYRING_VER, &aad);
	return keyring_seal(kek, &aad, dek, out);
}

enum rc keyring_unwrap(const struct keyring *k, struct org_id org, uint32_t dek_ver,
		       struct str kek_id, int64_t kek_ver, struct str wrapped,
		       uint8_t dek[ENVELOPE_DEK_BYTES])
{
	const struct kek *kek = keyring_find(k, kek_id, kek_ver);
	struct err err;
	struct aad aad;

	if (!kek && kek_is_held(k, kek_id, kek_ver))
		return kek_unwrap_wait(k, org, dek_ver, kek_id, kek_ver, wrapped, dek, &err);
	if (!kek)
		return RC_NOT_FOUND;
	keyring_dek_aad(org, dek_ver, kek_id, KEYRING_VER, &aad);
	return keyring_open(kek, &aad, wrapped, dek);
}

void keyring_canary_aad(struct str kek_id, uint32_t kek_ver, struct aad *aad)
{
	aad->len = 0;
	aad_put(aad, STR("tg-kek-canary-1"));
	aad_put_lp(aad, kek_id);
	aad_put_u32(aad, kek_ver);
}

enum rc keyring_canary_seal(const struct kek *kek, uint8_t out[KEYRING_CANARY_SIZE])
{
	struct aad aad;

	keyring_canary_aad(str_from(kek->id), KEYRING_VER, &aad);
	return keyring_seal(kek, &aad, (const uint8_t *)keyring_canary, out);
}

enum rc keyring_canary_open(const struct kek *kek, struct str sealed)
{
	uint8_t plain[sizeof keyring_canary];
	struct aad aad;

	keyring_canary_aad(str_from(kek->id), KEYRING_VER, &aad);
	TRY(keyring_open(kek, &aad, sealed, plain));
	return memcmp(plain, keyring_canary, sizeof plain) == 0 ? RC_OK : RC_CORRUPT;
}
