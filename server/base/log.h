/* server/base/log.h - one JSON object per line on stderr.
 *
 *   log_info("listening", LOG_STR("surface", "data"), LOG_INT("port", port));
 *
 * Keys are literals in lower_snake. A value is typed: there is no way to pass a struct secret, and
 * LOG_SECRET writes "[redacted]" whatever it is given. Every string passes a scrubber that replaces
 * what looks like a provider key, a tollgate key, "Bearer ..." or a PEM header. The context that
 * log_context_set() installed for this thread (request id, org, state) stands in every line.
 * Thread-safe: one write(2) per line. A blocked sink drops lines and counts them, it never blocks. */
#ifndef SERVER_BASE_LOG_H
#define SERVER_BASE_LOG_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/id.h"
#include "server/base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

enum log_kind {
	LOG_KIND_STR,
	LOG_KIND_INT,
	LOG_KIND_BOOL,
	LOG_KIND_UUID,
	LOG_KIND_REDACTED,
	LOG_KIND_END
};
struct log_field {
	const char *key;
	enum log_kind kind;
	struct str s;
	int64_t i;
	struct uuid u;
};
#define LOG_STR(k, z)  ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .s = str_from(z)})
#define LOG_S(k, v)    ((struct log_field){.key = (k), .kind = LOG_KIND_STR, .s = (v)})
#define LOG_INT(k, v)  ((struct log_field){.key = (k), .kind = LOG_KIND_INT, .i = (int64_t)(v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_BOOL, .i = (v)})
#define LOG_UUID(k, v) ((struct log_field){.key = (k), .kind = LOG_KIND_UUID, .u = (v)})
#define LOG_SECRET(k)  ((struct log_field){.key = (k), .kind = LOG_KIND_REDACTED})
#define LOG_END	       ((struct log_field){.kind = LOG_KIND_END})

void log_init(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *msg,
	       const struct log_field *fields); /* ends with LOG_END */
uint64_t log_dropped(void);
void log_fd_set(int fd); /* write there instead of fd 2 (tests); borrowed */

#define log_at(level, msg, ...)                                                                    \
	do {                                                                                       \
		if (log_enabled(level))                                                            \
			log_write((level), (msg),                                                  \
				  (const struct log_field[]){__VA_ARGS__, LOG_END});               \
	} while (0)
/* At least one field is given; a bare message passes LOG_END. */
#define log_debug(msg, ...) log_at(LOG_LEVEL_DEBUG, msg, __VA_ARGS__)
#define log_info(msg, ...)  log_at(LOG_LEVEL_INFO, msg, __VA_ARGS__)
#define log_warn(msg, ...)  log_at(LOG_LEVEL_WARN, msg, __VA_ARGS__)
#define log_error(msg, ...) log_at(LOG_LEVEL_ERROR, msg, __VA_ARGS__)

struct log_context {		/* borrowed: lives as long as it is installed */
	const char *request_id; /* "req_..." or NULL */
	struct org_id org;	/* zero: none yet */
	const char *state;	/* static, or NULL */
};
/* Install for this thread; NULL removes. Returns what was installed before. */
const struct log_context *log_context_set(const struct log_context *ctx);

/* Replace secrets in place; returns the new length (never longer). Exposed for its fuzz target. */
size_t log_scrub(char *text, size_t len);

#endif
