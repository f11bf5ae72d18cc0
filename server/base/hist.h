/* server/base/hist.h - lock-free counters and histograms that any thread may add to.
 *
 * A histogram has fixed upper bounds in microseconds, from 10 us to 600 s. */
#ifndef SERVER_BASE_HIST_H
#define SERVER_BASE_HIST_H
#include <stdatomic.h>
#include <stdint.h>

#define HIST_BUCKETS 24
extern const int64_t hist_bounds_us[HIST_BUCKETS]; /* ascending; values above go to the last slot */

struct hist {
	_Atomic uint64_t slot[HIST_BUCKETS + 1];
	_Atomic uint64_t sum_us;
	_Atomic uint64_t count;
};
void hist_add(struct hist *h, int64_t value_us); /* negative counts as 0 */

struct counter {
	_Atomic uint64_t n;
};
static inline void counter_add(struct counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->n, n, memory_order_relaxed);
}
static inline uint64_t counter_get(const struct counter *c)
{
	return atomic_load_explicit(&((struct counter *)(uintptr_t)c)->n, memory_order_relaxed);
}

#endif
