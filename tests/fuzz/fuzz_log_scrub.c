/* tests/fuzz/fuzz_log_scrub.c - log_scrub(): no canary survives.
 *
 * A made-up key of each kind is put between the two halves of the input. Properties: the result is not
 * longer, nor is that of a second pass, and the key's random part is gone. */
#include <stdlib.h>

#include "server/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CANARY		"0Fake1Fake2Fake3Fake4Fake"
#define INPUT_BYTES_MAX 4096

static const char *const keys[] = {
	"sk-" CANARY,	       "sk-ant-" CANARY,
	"AIza" CANARY,	       "gsk_" CANARY,
	"xai-" CANARY,	       "Bearer " CANARY,
	"tg_Ab3dEf9h_" CANARY, "-----BEGIN PRIVATE KEY-----\n" CANARY "\n-----END PRIVATE KEY-----",
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static size_t scrub_checked(char *text, size_t len)
{
	char *exact; /* so that a sanitizer sees a byte too far */
	size_t out = log_scrub(text, len);

	require(out <= len);
	exact = malloc(out ? out : 1);
	memcpy(exact, text, out);
	require(log_scrub(exact, out) <= out);
	free(exact);
	return out;
}

static void with_canary(const uint8_t *data, size_t size, const char *key)
{
	size_t half = size / 2;
	size_t key_len = strlen(key);
	char *text = malloc(size + key_len);
	size_t len;

	memcpy(text, data, half);
	memcpy(text + half, key, key_len);
	memcpy(text + half + key_len, data + half, size - half);
	len = scrub_checked(text, size + key_len);
	require(str_find_str(str_of(data, size), STR("Fake")) >= 0 ||
		str_find_str(str_of(text, len), STR("1Fake2")) < 0);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size > INPUT_BYTES_MAX)
		return 0;
	text = malloc(size ? size : 1);
	if (size)
		memcpy(text, data, size);
	(void)scrub_checked(text, size);
	free(text);
	for (size_t i = 0; i < ARRAY_LEN(keys) && size; i++)
		with_canary(data, size, keys[i]);
	return 0;
}
