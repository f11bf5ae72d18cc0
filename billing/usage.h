/* billing/usage.h - one vector of disjoint token classes (ledger.md 4.1).
 *
 * Each dialect maps its own counters to it and checks that they add up again. Absent is not zero:
 * `present` says whether the provider stated usage at all. */
#ifndef BILLING_USAGE_H
#define BILLING_USAGE_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/rc.h"
#include "server/base/str.h"

/* clang-format off */
#define USAGE_CLASSES(X) \
	X(in_text) \
	X(in_cached_read) \
	X(in_cache_write_5m) \
	X(in_cache_write_1h) \
	X(in_audio) \
	X(in_audio_cached) \
	X(in_image) \
	X(in_image_cached) \
	X(in_video) \
	X(in_tool_prompt) \
	X(out_text) \
	X(out_reasoning) \
	X(out_audio) \
	X(out_image) \
	X(images_n) \
	X(chars) \
	X(audio_in_ms) \
	X(audio_out_ms) \
	X(video_ms) \
	X(searches) \
	X(web_fetches) \
	X(file_searches) \
	X(code_sessions) \
	X(rerank_units) \
	X(embed_tokens) \
	X(requests) \
	X(cache_storage_token_hours)
/* clang-format on */

enum usage_class {
#define X(name) USAGE_##name,
	USAGE_CLASSES(X)
#undef X
		USAGE_CLASS_COUNT
};

enum usage_flags {
	USAGE_FLAG_CLAMPED = 1u << 0,	   /* a counter was negative or absurd and was clamped */
	USAGE_FLAG_INCONSISTENT = 1u << 1, /* classes do not add up to the provider's totals */
	USAGE_FLAG_ESTIMATED = 1u << 2,
	USAGE_FLAG_CLASS_UNPRICED = 1u << 3, /* charged at the parent class's price */
	USAGE_FLAG_CUT = 1u << 4,
};

#define USAGE_UNITS_MAX (INT64_C(1) << 40) /* ledger.md 2.1 */

struct usage {
	bool present;
	uint32_t flags;
	int64_t n[USAGE_CLASS_COUNT];
	char service_tier[16];	    /* served tier as the provider states it; "" unknown */
	int64_t provider_cost_nano; /* where the provider states one; -1: it does not */
};
#define USAGE_NONE ((struct usage){.provider_cost_nano = -1})

const char *usage_class_name(enum usage_class c);
MUST_CHECK enum rc usage_class_parse(struct str name, enum usage_class *ret);
int64_t usage_total_in(const struct usage *u); /* tokens: decides the long-context band */
int64_t usage_total_out(const struct usage *u);
/* Cut the input and the output classes down to what a call can have used, and flag it; a bound of 0 or
 * less: not known, nothing is cut. */
void usage_clamp(struct usage *u, int64_t in_max, int64_t out_max);

#endif
