/* server/base/err.c - filling in why something was refused.
 *
 * What is written here may reach a client and a log: control bytes become '?', text that is cut ends
 * at a whole character. */
#include <stdarg.h>
#include <stdio.h>

#include "server/base/err.h"

__attribute__((format(printf, 3, 0))) static void fill(char *out, size_t size, const char *fmt,
						       va_list ap)
{
	size_t len;
	size_t at = 0;
	int n = vsnprintf(out, size, fmt, ap);

	len = n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
	while (at < len) {
		size_t step = str_utf8_len(str_of(out + at, len - at));

		if (step == 0 && (size_t)n >= size && len - at < 4)
			break; /* the last character was cut in two */
		if (step <= 1 && ((unsigned char)out[at] < 0x20 || out[at] == 0x7f || step == 0))
			out[at] = '?';
		at += step ? step : 1;
	}
	out[at] = '\0';
}

enum rc err_set(struct err *e, enum rc rc, const char *code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return rc;
	memset(e, 0, sizeof *e);
	e->code = code;
	va_start(ap, fmt);
	fill(e->message, sizeof e->message, fmt, ap);
	va_end(ap);
	return rc;
}

#define ERR_PART(name)                                                                             \
	void err_##name(struct err *e, const char *fmt, ...)                                       \
	{                                                                                          \
		va_list ap;                                                                        \
                                                                                                   \
		if (!e)                                                                            \
			return;                                                                    \
		va_start(ap, fmt);                                                                 \
		fill(e->name, sizeof e->name, fmt, ap);                                            \
		va_end(ap);                                                                        \
	}
ERR_PART(hint)
ERR_PART(field)
ERR_PART(detail)
