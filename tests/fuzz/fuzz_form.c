/* tests/fuzz/fuzz_form.c - the reader of multipart/form-data, and the length of sounds, on whatever comes.
 *
 * Input: all of it is the body. Properties: parts lie in the body and hold no boundary; a form that was read is the same form
 * when it is written again; a length is never negative nor over its bound. */
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/dialects/form_priv.h"
#include "routing/dialects/sound_priv.h"
#include "routing/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TYPE "multipart/form-data; boundary=b"

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void again(const struct form *f, struct arena *mem)
{
	AUTO(buf) struct buf out = BUF_INIT(1u << 20);
	struct form *back;
	struct err err;

	for (size_t i = 0; i < f->count; i++)
		require(form_put_part(&out, f->boundary, &f->parts[i]) == RC_OK);
	require(form_end(&out, f->boundary) == RC_OK);
	require(form_read(STR(TYPE), buf_str(&out), mem, &back, &err) == RC_OK);
	require(back->count == f->count);
	for (size_t i = 0; i < f->count; i++)
		require(str_eq(back->parts[i].value, f->parts[i].value) &&
			str_eq(back->parts[i].name, f->parts[i].name));
}

static void call(struct str body, struct arena *mem)
{
	static const char *const to[] = {"openai", "elevenlabs"};
	const struct call_head head = {.content_type = STR(TYPE)};
	const struct dialect *d = &dialect_openai_transcription;
	struct call c;
	struct ask ask;
	struct err err = {0};

	if (d->decode_request(&head, body, mem, &c, &err) != RC_OK) {
		require(err.code && err.message[0]);
		return;
	}
	require(c.counts.audio_ms >= 0 && c.counts.audio_ms <= c.counts.audio_ms_max);
	for (size_t i = 0; i < ARRAY_LEN(to); i++) {
		AUTO(buf) struct buf out = BUF_INIT(1u << 20);
		struct dialect_target t = {.provider = provider_find(str_from(to[i])),
					   .model = STR("there")};
		struct outgoing o = {.body = &out};
		struct form *f;
		enum rc rc;

		require(d->decode_ask(&c, mem, &ask, &err) == RC_OK);
		rc = i ? dialect_elevenlabs_transcription.encode_ask(&c, &ask, &t, mem, &o, &err)
		       : d->encode_request(&c, &t, mem, &o, &err);
		require(rc == RC_OK || (i && rc == RC_UNSUPPORTED));
		if (rc == RC_OK && !i)
			require(form_read(o.content_type, buf_str(&out), mem, &f, &err) == RC_OK);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(64u << 20);
	const struct str body = str_of(data, size);
	struct call_counts counts = {.inputs = 0};
	struct form *f;
	struct err err;

	if (form_read(STR(TYPE), body, mem, &f, &err) == RC_OK) {
		for (size_t i = 0; i < f->count; i++)
			require(str_find_str(f->parts[i].whole, STR("\r\n--b")) < 0);
		again(f, mem);
	}
	call(body, mem);
	sound_measure(body, &counts);
	require(counts.audio_ms >= 0 && counts.audio_ms <= counts.audio_ms_max);
	arena_free(mem);
	return 0;
}
