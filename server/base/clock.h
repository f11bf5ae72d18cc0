/* server/base/clock.h - time. Monotonic for durations, wall for records.
 *
 * A loop reads both once per turn (clock_turn()); on other threads every call reads. Tests install
 * a fake with clock_fake_set(); it is process-wide. Units are in the names. */
#ifndef SERVER_BASE_CLOCK_H
#define SERVER_BASE_CLOCK_H
#include <stdint.h>
#include "server/base/str.h"

int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);
int64_t clock_wall_us(void); /* since 1970-01-01 UTC */
int64_t clock_wall_ms(void);
/* Read the clocks now and hold them for this thread until the next clock_turn(). */
void clock_turn(void);
/* The same, but the clocks are read at the first question: for before a wait of unknown length. */
void clock_turn_lazy(void);
/* End the hold: every call on this thread reads again. */
void clock_turn_end(void);
/* Fake both clocks (tests). mono_us < 0 ends the fake. */
void clock_fake_set(int64_t mono_us, int64_t wall_us);

#define CLOCK_RFC3339_SIZE 32
/* "2026-11-20T14:45:58.123456Z" into `out`; returns it as a str. */
struct str clock_rfc3339(int64_t wall_us, char out[CLOCK_RFC3339_SIZE]);
/* RFC 3339 with any offset to microseconds UTC; RC_INVALID otherwise. */
MUST_CHECK enum rc clock_parse_rfc3339(struct str s, int64_t *ret_wall_us);

#endif
