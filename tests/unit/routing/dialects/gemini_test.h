/* tests/unit/routing/dialects/gemini_test.h - what the tests of the Gemini dialect share: deltas as text, targets. */
#ifndef TESTS_UNIT_ROUTING_DIALECTS_GEMINI_TEST_H
#define TESTS_UNIT_ROUTING_DIALECTS_GEMINI_TEST_H
#include "routing/dialect.h"
#include "routing/dialects/gemini_priv.h"
#include "routing/provider.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (4u << 20)
#define FIXTURE_ID  "0f3c-1"

static inline struct dialect_target gemini_target(const char *provider, const char *model)
{
	const struct provider *p = provider_find(str_from(provider));

	ck_assert_ptr_nonnull(p);
	return (struct dialect_target){
		.provider = p,
		.dialect = str_is(str_from(provider), "gemini") ? &dialect_gemini
								: p->endpoints[0].dialect,
		.model = str_from(model),
	};
}

static inline void say(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void say(struct buf *out, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	ck_assert_int_eq(buf_vprintf(out, fmt, ap), RC_OK);
	va_end(ap);
}

/* Deltas as one line: "R:think|E:seal|T:text|C0 f#id~seal|A0:{}|F3|". A choice but the first stands before it: "1/". */
static inline void say_deltas(struct buf *out, const struct facts *f)
{
	for (size_t i = 0; i < f->deltas_count; i++) {
		const struct chat_delta *d = &f->deltas[i];

		if (d->choice)
			say(out, "%lld/", (long long)d->choice);
		switch (d->type) {
		case CHAT_DELTA_TEXT:
			say(out, "T:%.*s", STR_FMT(d->text));
			break;
		case CHAT_DELTA_REASONING:
			say(out, "R:%.*s", STR_FMT(d->text));
			break;
		case CHAT_DELTA_REASONING_END:
			say(out, "E:%.*s", STR_FMT(d->opaque.value));
			break;
		case CHAT_DELTA_REFUSAL:
			say(out, "N:%.*s", STR_FMT(d->text));
			break;
		case CHAT_DELTA_TOOL_CALL:
			ck_assert_uint_gt(d->id.len, 0);
			say(out, "C%lld %.*s#%.*s~%.*s", (long long)d->index, STR_FMT(d->name),
			    STR_FMT(d->id), STR_FMT(d->opaque.value));
			break;
		case CHAT_DELTA_TOOL_ARGUMENTS:
			say(out, "A%lld:%.*s", (long long)d->index, STR_FMT(d->text));
			break;
		case CHAT_DELTA_CITATION:
			say(out, "@%.*s %.*s %.*s", STR_FMT(d->media.url), STR_FMT(d->media.name),
			    STR_FMT(d->text));
			break;
		case CHAT_DELTA_MEDIA:
			say(out, "M:%.*s %.*s", STR_FMT(d->media.mime), STR_FMT(d->media.data));
			break;
		case CHAT_DELTA_FINISH:
			say(out, "F%d", d->finish);
			break;
		}
		say(out, "|");
	}
}

#endif
