/* server/metrics.h - Prometheus text, written by each module in turn. Any thread may count; the
 * control thread writes. Names follow ecosystem.md 1.9: base units, _total, _seconds. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H
#include "server/base/buf.h"
#include "server/base/hist.h"

struct metrics_out {
	struct buf *buf;
};
/* One family: HELP and TYPE once, then samples. `labels` is "" or `provider="x",code="y"` (already escaped). */
void metrics_family(struct metrics_out *m, const char *name, const char *type, const char *help);
/* Append `name="value"` to `labels`, escaped, with a comma where one is needed; labels->ptr then serves
 * as `labels` below. Past the buffer's cap the label is left out. */
void metrics_label(struct buf *labels, const char *name, struct str value);
void metrics_sample(struct metrics_out *m, const char *name, const char *labels, int64_t value);
void metrics_hist(struct metrics_out *m, const char *name, const char *labels,
		  const struct hist *h); /* seconds */

#endif
