/* tests/fuzz/fuzz_transit.c - what a transit engine, or whoever stands in its place, answers: no crash, and what is
 * taken keeps its bounds.
 *
 * The first byte says which answer was waited for. */
#include <stdlib.h>

#include "vault/transit_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const enum transit_what what = size > 0 ? (enum transit_what)(data[0] % 3) : TRANSIT_SEAL;
	const struct str body = str_of(data + (size > 0), size > 0 ? size - 1 : 0);
	struct transit_answer a;
	struct arena *mem;
	int64_t ver = 0;

	if (body.len > 16384) /* curlm.h ends the call there */
		return 0;
	mem = arena_new(1024 * 1024);
	if (transit_read(what, body, mem, &a) == RC_OK && what == TRANSIT_SEAL)
		require(a.text.len <= TRANSIT_TEXT_MAX && a.ver > 0 && a.ver <= INT32_MAX &&
			transit_text_ver(a.text, &ver) && ver == a.ver);
	if (transit_text_ver(body, &ver))
		require(ver > 0 && ver <= INT32_MAX && body.len <= TRANSIT_TEXT_MAX);
	arena_free(mem);
	return 0;
}
