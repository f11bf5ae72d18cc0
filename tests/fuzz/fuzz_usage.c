/* tests/fuzz/fuzz_usage.c - usage objects, and the decimal reader under them.
 *
 * Properties: no class is negative or past the bound; without usage nothing is claimed; where nothing is flagged
 * the classes add up to what the provider stated. Input: a usage object; also tried as a number. */
#include <stdlib.h>

#include "routing/dialects/openai_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static int64_t stated(const struct json *usage, const char *key)
{
	int64_t n = -1;

	(void)json_int(json_get(usage, key), &n);
	return n;
}

static void check_sums(const struct json *usage, const struct usage *u)
{
	int64_t prompt = stated(usage, "prompt_tokens"), out = stated(usage, "completion_tokens");
	int64_t total = stated(usage, "total_tokens"), sum_in = 0, sum_out = 0;

	for (int c = USAGE_in_text; c <= USAGE_in_tool_prompt; c++)
		sum_in += u->n[c];
	for (int c = USAGE_out_text; c <= USAGE_out_image; c++)
		sum_out += u->n[c];
	if (total >= 0)
		require(sum_in + sum_out == total);
	else
		require((prompt < 0 || sum_in == prompt) && (out < 0 || sum_out == out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(32u << 20);
	struct str text = str_of(data, size);
	struct json *root;
	struct usage u;
	int64_t whole = 0, nano = 0;

	if (openai_decimal(text, 0, &whole) == RC_OK) {
		require(openai_decimal(text, 9, &nano) == RC_OK);
		require((whole >= 0) == (nano >= 0) || whole == 0);
		require(whole == 0 || llabs(nano) >= llabs(whole));
	}
	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &root, NULL) == RC_OK) {
		openai_usage_read(root, &u);
		for (size_t c = 0; c < USAGE_CLASS_COUNT; c++)
			require(u.n[c] >= 0 && u.n[c] <= 2 * USAGE_UNITS_MAX &&
				(u.present || u.n[c] == 0));
		require(u.provider_cost_nano >= -1);
		if (u.present && u.flags == 0)
			check_sums(root, &u);
	}
	arena_free(mem);
	return 0;
}
