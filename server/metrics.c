/* server/metrics.c - the Prometheus text format, version 0.0.4.
 *
 * Every line is written whole or, past the buffer's cap, not at all. Times are kept in whole
 * microseconds and printed as decimal seconds, so no fraction is ever rounded. */
#include <inttypes.h>
#include <stdio.h>

#include "server/metrics.h"

#define SECOND_US 1000000

/* A line that does not fit any more is left out: a scrape must end in whole lines. */
static void line(struct metrics_out *m, const char *name, const char *suffix, const char *labels,
		 const char *more, const char *value)
{
	bool both = labels && *labels && *more;
	bool any = (labels && *labels) || *more;

	if (buf_printf(m->buf, "%s%s%s%s%s%s%s %s\n", name, suffix, any ? "{" : "",
		       labels ? labels : "", both ? "," : "", more, any ? "}" : "", value) != RC_OK)
		return;
}

/* HELP text: a line end would end the comment. */
static void help_text(const char *help, char *out, size_t size)
{
	size_t at = 0;

	for (; help && *help && at + 3 < size; help++) {
		if (*help == '\n' || *help == '\\')
			out[at++] = '\\';
		out[at++] = *help == '\n' ? 'n' : *help;
	}
	out[at] = '\0';
}

void metrics_family(struct metrics_out *m, const char *name, const char *type, const char *help)
{
	char text[512];

	help_text(help, text, sizeof text);
	if (buf_printf(m->buf, "# HELP %s %s\n# TYPE %s %s\n", name, text, name, type) != RC_OK)
		return;
}

void metrics_label(struct buf *labels, const char *name, struct str value)
{
	size_t len = labels->len;
	enum rc rc = buf_printf(labels, "%s%s=\"", len ? "," : "", name);

	while (rc == RC_OK && value.len) {
		size_t step = str_utf8_len(value);

		if (step == 0)
			rc = buf_append(labels, STR("\xef\xbf\xbd"));
		else if (value.ptr[0] == '\n')
			rc = buf_append(labels, STR("\\n"));
		else if (value.ptr[0] == '"' || value.ptr[0] == '\\')
			rc = buf_printf(labels, "\\%c", value.ptr[0]);
		else
			rc = buf_append(labels, str_slice(value, 0, step));
		value = str_slice(value, step ? step : 1, value.len);
	}
	if (rc == RC_OK)
		rc = buf_append(labels, STR("\""));
	if (rc != RC_OK && labels->ptr) {
		labels->len = len;
		labels->ptr[len] = '\0';
	}
}

void metrics_sample(struct metrics_out *m, const char *name, const char *labels, int64_t value)
{
	char text[32];

	(void)snprintf(text, sizeof text, "%" PRId64, value);
	line(m, name, "", labels, "", text);
}

/* "0.0025", "10": microseconds as seconds, without zeros at the end. */
static void seconds_text(uint64_t us, char out[48])
{
	int len = snprintf(out, 48, "%" PRIu64 ".%06" PRIu64, us / SECOND_US, us % SECOND_US);

	while (out[len - 1] == '0')
		out[--len] = '\0';
	if (out[len - 1] == '.')
		out[--len] = '\0';
}

void metrics_hist(struct metrics_out *m, const char *name, const char *labels, const struct hist *h)
{
	struct hist *live = (struct hist *)(uintptr_t)h; /* an atomic load wants no const */
	uint64_t total = 0;
	char number[32], bound[48], le[64];

	for (int i = 0; i <= HIST_BUCKETS; i++) {
		total += atomic_load_explicit(&live->slot[i], memory_order_relaxed);
		if (i < HIST_BUCKETS)
			seconds_text((uint64_t)hist_bounds_us[i], bound);
		else
			(void)snprintf(bound, sizeof bound, "+Inf");
		(void)snprintf(le, sizeof le, "le=\"%s\"", bound);
		(void)snprintf(number, sizeof number, "%" PRIu64, total);
		line(m, name, "_bucket", labels, le, number);
	}
	seconds_text(atomic_load_explicit(&live->sum_us, memory_order_relaxed), bound);
	line(m, name, "_sum", labels, "", bound);
	/* the slots' own total, so that it always equals the +Inf bucket */
	line(m, name, "_count", labels, "", number);
}
