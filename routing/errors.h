/* routing/errors.h - what a caller sees when something was refused or failed: one table.
 *
 * A code (err.h) leads to the HTTP status, the words' type, the retry headers and the body in the caller's
 * dialect. No status number of an error is written anywhere else on the data plane. Pure; any thread. */
#ifndef ROUTING_ERRORS_H
#define ROUTING_ERRORS_H
#include "routing/call.h"

enum error_retry { RETRY_UNSAID, RETRY_NO, RETRY_YES }; /* x-should-retry: absent, false, true */

struct error_answer {
	int status;
	const char *code; /* as interface.md names it: static */
	const char *type; /* error.type, at Gemini error.status: static */
	enum error_retry should_retry;
	int retry_after_s; /* > 0: send Retry-After */
};
/* The row for err->code, or for `rc` where the code is one of our finer ones (or `e` is NULL). Status and words are those
 * that clients of the shape know. */
struct error_answer error_answer(enum rc rc, const struct err *e, enum error_shape shape);

/* Append the body in `shape` and return the status.
 * `extra_json`: further members of the `tollgate` object, '"needed":"1.2","targets":[...]', or empty. Nothing
 * in `e` but `detail` is kept from the caller. A body that does not fit `body` is left out: the status still holds. */
int error_render(enum rc rc, const struct err *e, const char *request_id, enum error_shape shape,
		 struct str extra_json, struct buf *body);
/* The same object, complete, for a dialect's error event; `request_id` (NULL: left out) stands in Anthropic's alone,
 * `tollgate_json` may be empty. */
MUST_CHECK enum rc error_json(enum error_shape shape, const struct error_answer *a,
			      const struct err *e, const char *request_id, struct str tollgate_json,
			      struct buf *out);

/* What the caller is told when every attempt failed: the last one's class decides (interface.md). `words` are those that
 * classify() gave; `retry_after_s` is when the earliest target is back (0: not known). Returns the rc to answer with. */
enum rc error_all_failed(enum error_class last, const struct err *words, int retry_after_s,
			 struct err *ret);

#endif
