/* tests/fuzz/fuzz_apikey.c - apikey_parse(): no crash; what is accepted has the form and one checksum only. */
#include <stdlib.h>

#include "vault/apikey_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool is_base62(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_of(data, size), id, again;
	char other[APIKEY_LEN];

	if (apikey_parse(text, &id) != RC_OK)
		return 0;
	require(text.len == APIKEY_LEN && id.len == APIKEY_PUBLIC_LEN && id.ptr == text.ptr + 3);
	for (size_t i = 3; i < text.len; i++)
		require(i == 11 ? text.ptr[i] == '_' : is_base62(text.ptr[i]));
	for (size_t i = 0; i < APIKEY_LEN; i++) { /* any one character changed: refused */
		memcpy(other, text.ptr, sizeof other);
		other[i] = other[i] == '0' ? '1' : '0';
		require(apikey_parse(str_of(other, sizeof other), &again) == RC_INVALID);
	}
	return 0;
}
