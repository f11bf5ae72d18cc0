/* server/base/hist.c - histograms that any thread adds to without a lock. Must never block. */
#include "server/base/hist.h"

const int64_t hist_bounds_us[HIST_BUCKETS] = {
	10,	 25,	  50,	    100,      250,	500,	   1000,      2500,
	5000,	 10000,	  25000,    50000,    100000,	250000,	   500000,    1000000,
	2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000,
};

void hist_add(struct hist *h, int64_t value_us)
{
	int low = 0;
	int high = HIST_BUCKETS;

	if (value_us < 0)
		value_us = 0;
	while (low < high) { /* the first bound that is not below the value */
		int middle = (low + high) / 2;

		if (hist_bounds_us[middle] < value_us)
			low = middle + 1;
		else
			high = middle;
	}
	atomic_fetch_add_explicit(&h->slot[low], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, (uint64_t)value_us, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
}
