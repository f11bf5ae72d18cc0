/* loadtest/record.h - the requests the fake provider got, as they came over the wire. */
#ifndef LOADTEST_RECORD_H
#define LOADTEST_RECORD_H
#include "common.h"

/* Keep a request; the oldest go when there are too many. `last`: it is what record_last() shows. */
void record_keep(struct span head, struct span body, bool last);
/* {"head", "body"} of the last call as they came, the key too. */
void record_last(struct text *t);
/* All that are kept, oldest first, without the keys. */
void record_all(struct text *t);
void record_clear(void);

#endif
