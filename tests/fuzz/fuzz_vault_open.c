/* tests/fuzz/fuzz_vault_open.c - opening a record that an attacker wrote: no crash, one answer.
 *
 * The input is tried as a record; then, as a change (xor) to a good record and to its place, which may open only
 * when nothing was changed; then as a wrapped data key. */
#include <stdlib.h>

#include "vault/keyring_priv.h"
#include "vault/secret_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static const uint8_t dek[ENVELOPE_DEK_BYTES] = {1, 2, 3, 4};
static struct secret_ref ref = {.org = {{{1}}}, .id = {{2}}, .field = "api_key", .row_version = 1};

static void open_as_record(struct str blob)
{
	struct secret got = SECRET_INIT;
	enum rc rc = envelope_open(dek, 1, &ref, blob, &got);
	uint32_t ver;

	require(rc == RC_CORRUPT && !got.ptr); /* nobody guesses a tag */
	if (envelope_dek_ver(blob, &ver) == RC_OK)
		require(ver > 0 && blob.len >= ENVELOPE_BYTES_MIN &&
			blob.len <= ENVELOPE_BYTES_MAX);
}

static void open_changed(const uint8_t *data, size_t size)
{
	AUTO(buf) struct buf box = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	struct secret got = SECRET_INIT;
	bool changed = false;
	enum rc rc;

	require(envelope_seal(dek, 1, &ref, STR("fake-secret-for-fuzzing"), &box) == RC_OK);
	for (size_t i = 0; i < size; i++) {
		box.ptr[i % box.len] = (char)(box.ptr[i % box.len] ^ data[i]);
		changed = changed || (i < box.len && data[i]);
	}
	rc = envelope_open(dek, 1, &ref, buf_str(&box), &got);
	if (rc == RC_OK)
		require(str_is(secret_str(&got), "fake-secret-for-fuzzing"));
	require(size > box.len || (rc == RC_OK) == !changed);
	secret_clear(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct keyring ring;
	uint8_t out[ENVELOPE_DEK_BYTES];
	struct err err;
	bool locked;

	if (ring.count == 0)
		require(secret_heap_start(&err, &locked) == RC_OK && aead_start() == RC_OK &&
			keyring_add(&ring, STR("BRAbJjE8R1JdaHN+iZSfqrXAy9bh7PcCDRgjLjlET1o="),
				    "fake", &err) == RC_OK);
	open_as_record(str_of(data, size));
	open_changed(data, size);
	require(keyring_unwrap(&ring, ref.org, 1, str_from(ring.keks[0].id), 1, str_of(data, size),
			       out) == RC_CORRUPT);
	return 0;
}
