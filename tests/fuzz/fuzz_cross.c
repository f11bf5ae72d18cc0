/* tests/fuzz/fuzz_cross.c - a request of one chat dialect, as every other says it.
 *
 * Input: the first byte chooses the caller's dialect, the rest is the body. Properties: what is read is written for each
 * provider or refused with a field; what is written is JSON that its own dialect reads again; no seal of ours stands in it,
 * unless the body itself says the mark elsewhere. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (256u << 20)
#define OUT_BYTES   (16u << 20)

static const struct {
	const struct dialect *d;
	const char *provider, *model;
} targets[] = {
	{&dialect_openai_chat, "openai", "gpt-5.2"},
	{&dialect_openai_chat, "openrouter", "some/model"},
	{&dialect_openai_chat, "mistral", "mistral-large-latest"},
	{&dialect_openai_responses, "openai", "gpt-5.2"},
	{&dialect_anthropic_messages, "anthropic", "claude-opus-4-6"},
	{&dialect_gemini, "gemini", "gemini-3-flash"},
	{&dialect_gemini, "gemini", "gemini-2.5-flash"},
};
static const struct dialect *const callers[] = {
	&dialect_openai_chat,
	&dialect_openai_responses,
	&dialect_anthropic_messages,
	&dialect_gemini,
};

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void written(const struct call *c, struct str text, size_t to, struct arena *mem)
{
	const struct call_head head = {.model = str_from(targets[to].model), .stream = c->stream};
	const struct call_head none = {0};
	struct err err = {0};
	struct call back;
	struct json *v;

	require(json_parse(text, JSON_ALLOW_DUPLICATES, mem, &v, NULL) == RC_OK);
	require(json_type(v) == JSON_OBJECT);
	require(str_find_str(c->body_text, STR(CHAT_OPAQUE_MARK)) >= 0 ||
		str_find_str(text, STR(CHAT_OPAQUE_MARK)) < 0);
	require(targets[to].d->decode_request(targets[to].d == &dialect_gemini ? &head : &none,
					      text, mem, &back, &err) == RC_OK);
	require(back.stream == c->stream && back.choices == c->choices);
}

static void ask(const struct call *c, const struct ask *question, size_t to, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	const struct dialect_target t = {.provider = provider_find(str_from(targets[to].provider)),
					 .dialect = targets[to].d,
					 .model = str_from(targets[to].model)};
	struct outgoing o = {.body = &out};
	struct err err = {0};
	const enum rc rc = targets[to].d->encode_ask(c, question, &t, mem, &o, &err);

	require(rc == RC_OK || rc == RC_UNSUPPORTED || rc == RC_INVALID || rc == RC_TOO_LARGE);
	if (rc == RC_OK)
		written(c, buf_str(&out), to, mem);
	else if (rc != RC_TOO_LARGE)
		require(err.code && err.message[0] && err.field[0]);
	require(o.losses.count <= CHAT_LOSSES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct call_head head = {.model = STR("m")};
	struct err err = {0};
	struct ask question = {0};
	const struct dialect *from;
	struct arena *mem;
	struct call c;

	if (size < 1)
		return 0;
	from = callers[data[0] & 3];
	mem = arena_new(ARENA_BYTES);
	if (from->decode_request(&head, str_of(data + 1, size - 1), mem, &c, &err) == RC_OK &&
	    from->decode_ask(&c, mem, &question, &err) == RC_OK)
		for (size_t i = 0; i < ARRAY_LEN(targets); i++)
			if (targets[i].d != from)
				ask(&c, &question, i, mem);
	arena_free(mem);
	return 0;
}
