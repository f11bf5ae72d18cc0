/* tests/fuzz/fuzz_probe_read.c - a stranger's answer to a probe, and a string that is said to be a key.
 *
 * Properties: no answer makes more models than are kept, nor an id that is empty or too long; what is said to a person is
 * printable; a model that was picked is one of those listed; a key is never quoted in its refusal. Input: a body. */
#include <stdlib.h>

#include "routing/probe_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_list(const struct provider *p, const struct json *root, struct arena *mem)
{
	const struct str *models = NULL;
	struct str picked, path, body;
	size_t count = 0;

	if (probe_read_models(p, root, mem, &models, &count) != RC_OK)
		return;
	require(count <= PROBE_LISTED_MAX);
	for (size_t i = 0; i < count; i++)
		require(models[i].len > 0 && models[i].len <= 256);
	picked = probe_pick_model(models, count, false);
	require(picked.len == 0 || count > 0);
	if (picked.len > 0 && p->text != PROVIDER_TEXT_NONE)
		(void)!probe_write_text(p, picked, mem, &path, &body);
}

static void check_words(const struct json *root, struct arena *mem)
{
	struct str words = probe_read_words(root, mem);

	require(words.len <= 4096);
	for (size_t i = 0; i < words.len; i++)
		require(words.ptr[i] >= ' ' && words.ptr[i] <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 400, 401, 403, 429, 503};
	struct arena *mem = arena_new(64u << 20);
	struct str text = str_of(data, size), voice;
	struct json *root = NULL;
	struct err err = {0};

	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &root, NULL) != RC_OK)
		root = NULL;
	for (const struct provider *p = providers; p->id; p++) {
		for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
			require(probe_read_error(p, statuses[i], text, root) != ERROR_none);
		if (p->auth != PROVIDER_AUTH_MODELS)
			(void)probe_read_auth(p, root);
		(void)probe_read_text(p, root);
		check_list(p, root, mem);
		if (provider_key_check(p, text, &err) != RC_OK)
			require(err.code && err.hint[0] && err.field[0]);
	}
	check_words(root, mem);
	if (probe_read_voice(root, mem, &voice) == RC_OK)
		require(voice.len > 0 && voice.len <= 128);
	arena_free(mem);
	return 0;
}
