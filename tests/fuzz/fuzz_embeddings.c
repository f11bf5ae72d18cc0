/* tests/fuzz/fuzz_embeddings.c - embeddings in OpenAI's and Gemini's words, on whatever comes.
 *
 * Input: the first byte chooses the dialect and the part (request, answer), the rest is the text. Properties: an accepted
 * request can be written for its own dialect and, where it has words for it, for the other; a read answer can be
 * written in each; an error always has a code and words. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (16u << 20)

static const struct dialect *const all[] = {&dialect_openai_embeddings, &dialect_gemini_embed,
					    &dialect_gemini_batch_embed};
static const struct call_head head = {.model = STR("m")};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void request(const struct dialect *d, struct str body, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	const bool openai = d == all[0];
	struct dialect_target t = {.provider = provider_find(STR("openai")),
				   .dialect = openai ? all[2] : all[0],
				   .model = STR("vendor/new")};
	struct outgoing o = {.body = &out};
	struct ask ask = {.operation = OPERATION_embeddings};
	struct call c, back;
	struct err err = {0};
	enum rc rc = d->decode_request(&head, body, mem, &c, &err);

	if (rc != RC_OK) {
		require(err.code && err.message[0]);
		return;
	}
	require(c.counts.inputs >= 1 && c.counts.inputs <= EMBED_INPUTS_MAX);
	require(c.text_bytes <= 4 * body.len);
	require(d->encode_request(&c, &t, mem, &o, &err) == RC_OK);
	require(d->decode_request(&head, buf_str(&out), mem, &back, &err) == RC_OK);
	require(back.counts.inputs == c.counts.inputs && back.text_bytes == c.text_bytes);
	buf_reset(&out);
	rc = d->decode_ask(&c, mem, &ask, &err);
	require(rc == RC_OK || rc == RC_UNSUPPORTED);
	if (rc == RC_OK)
		rc = t.dialect->encode_ask(&c, &ask, &t, mem, &o, &err);
	require(rc == RC_OK || rc == RC_UNSUPPORTED);
	if (rc == RC_OK)
		(void)t.dialect->decode_request(&head, buf_str(&out), mem, &back, &err);
}

static void answer(const struct dialect *d, struct str body, struct arena *mem)
{
	struct json *empty;
	struct dialect_target t = {.provider = provider_find(STR("openai")), .model = STR("m")};
	struct call c = {.choices = 1};
	struct dialect_ctx ctx = {.mem = mem, .keep = mem, .call = &c, .target = &t};
	struct facts f = {.error = ERROR_none};

	require(json_parse(STR("{\"encoding_format\":\"base64\"}"), 0, mem, &empty, NULL) == RC_OK);
	c.body = empty;
	if (d->decode_response(&ctx, body, &f) != RC_OK || f.error != ERROR_none)
		return;
	require(f.usage.n[USAGE_embed_tokens] >= 0 && f.vectors_count >= 1);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
		struct json *v;

		c.dialect = all[i];
		if (all[i]->encode_response(&ctx, &f, &out) == RC_OK)
			require(json_parse(buf_str(&out), 0, mem, &v, NULL) == RC_OK);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem;

	if (size < 1)
		return 0;
	mem = arena_new(ARENA_BYTES);
	if (data[0] & 4)
		answer(all[data[0] % 3], str_of(data + 1, size - 1), mem);
	else
		request(all[data[0] % 3], str_of(data + 1, size - 1), mem);
	arena_free(mem);
	return 0;
}
