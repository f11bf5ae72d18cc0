/* billing/usage.c - names and totals of the usage vector. Pure. */
#include "billing/usage.h"

#include <assert.h>

static const char *const class_names[USAGE_CLASS_COUNT] = {
#define X(name) [USAGE_##name] = #name,
	USAGE_CLASSES(X)
#undef X
};

const char *usage_class_name(enum usage_class c)
{
	assert((unsigned)c < USAGE_CLASS_COUNT);
	return class_names[c];
}

enum rc usage_class_parse(struct str name, enum usage_class *ret)
{
	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++) {
		if (str_is(name, class_names[c])) {
			*ret = (enum usage_class)c;
			return RC_OK;
		}
	}
	return RC_NOT_FOUND;
}

/* Each counter is at most USAGE_UNITS_MAX once a dialect has clamped it, so a sum cannot overflow;
 * a vector made by hand that could is cut to the bound, which every price refuses. */
static int64_t usage_sum(const struct usage *u, const enum usage_class *classes, size_t count)
{
	int64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		if (__builtin_add_overflow(sum, u->n[classes[i]], &sum))
			return INT64_MAX;
	}
	return sum;
}

static const enum usage_class in_classes[] = {
	USAGE_in_text,	USAGE_in_cached_read,  USAGE_in_cache_write_5m, USAGE_in_cache_write_1h,
	USAGE_in_audio, USAGE_in_audio_cached, USAGE_in_image,		USAGE_in_image_cached,
	USAGE_in_video, USAGE_in_tool_prompt,  USAGE_embed_tokens,
};
static const enum usage_class out_classes[] = {
	USAGE_out_text,
	USAGE_out_reasoning,
	USAGE_out_audio,
	USAGE_out_image,
};

int64_t usage_total_in(const struct usage *u)
{
	return usage_sum(u, in_classes, ARRAY_LEN(in_classes));
}

int64_t usage_total_out(const struct usage *u)
{
	return usage_sum(u, out_classes, ARRAY_LEN(out_classes));
}

static void usage_cut(struct usage *u, const enum usage_class *classes, size_t count, int64_t bound)
{
	int64_t over = usage_sum(u, classes, count) - bound;

	if (bound <= 0 || over <= 0)
		return;
	u->flags |= USAGE_FLAG_CLAMPED;
	for (size_t i = 0; i < count && over > 0; i++) {
		int64_t cut = u->n[classes[i]] < over ? u->n[classes[i]] : over;

		u->n[classes[i]] -= cut;
		over -= cut;
	}
}

void usage_clamp(struct usage *u, int64_t in_max, int64_t out_max)
{
	usage_cut(u, in_classes, ARRAY_LEN(in_classes), in_max);
	usage_cut(u, out_classes, ARRAY_LEN(out_classes), out_max);
}
