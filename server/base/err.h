/* server/base/err.h - why something was refused, in words, filled once where it is first known.
 *
 * A value: the asker keeps it. `code` points at a static string. Everything but `detail` may be
 * shown to the caller; `detail` is for the log alone. Nothing in it may ever hold a secret. */
#ifndef SERVER_BASE_ERR_H
#define SERVER_BASE_ERR_H
#include "server/base/rc.h"
#include "server/base/str.h"

struct err {
	const char *code;  /* stable machine code, lower_snake; NULL: nothing set */
	char message[384]; /* what went wrong */
	char hint[256];	   /* how to mend it; may be empty */
	char field[96];	   /* which input field; may be empty */
	char detail[256];  /* for the log alone */
	int retry_after_s; /* > 0: worth trying again after so many seconds */
};

/* Fill code and message (printf style; truncated to fit, control bytes become '?') and clear the
 * rest. `e` may be NULL. Returns `rc`, so: return err_set(e, RC_INVALID, "bad_model", "..."); */
enum rc err_set(struct err *e, enum rc rc, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_field(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_detail(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
