/* server/config.h - settings: one table row each, environment over YAML file over default.
 *
 * Each module brings a table of struct setting; the server merges them. The environment name is
 * TOLLGATE_<NAME in upper case>, the YAML key is the name itself. Rows with `secret` may also come
 * from <ENV>_FILE and print as "[set]". An unknown key in the file, and an unknown TOLLGATE_*
 * variable, is an error. The result is read-only; a reload makes a new one. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/err.h"

enum setting_type { SETTING_STRING, SETTING_INT, SETTING_BYTES, SETTING_BOOL, SETTING_ENUM };
struct setting {
	const char *name; /* "drain_seconds"; units at the end of the name */
	enum setting_type type;
	const char *def; /* default as text; NULL: none. SETTING_BYTES takes "32MiB" */
	int64_t min, max;
	const char *values; /* SETTING_ENUM: "json|text" */
	bool required, secret, reloadable;
	const char *help; /* one line */
};
/* clang-format off */
#define SETTING_LAST {.name = NULL}
/* clang-format on */

struct config;
/* `tables` is a NULL-ended array of tables that end in SETTING_LAST. `file` may be NULL.
 * RC_INVALID: `err` is one sentence that names the setting (and file:line where it came from one). */
MUST_CHECK enum rc config_load(const struct setting *const *tables, const char *file,
			       struct config **ret, struct err *err);
void config_free(struct config *c);
/* The name must be in the tables: an unknown one is a bug and asserts. Strings: NULL when unset. */
const char *config_str(const struct config *c, const char *name);
int64_t config_int(const struct config *c, const char *name); /* also bytes; enums give the index */
bool config_bool(const struct config *c, const char *name);
bool config_is_set(const struct config *c, const char *name); /* by file or environment */
/* The file that a secret setting was read from; NULL: it was given directly, or not at all. */
const char *config_secret_path(const struct config *c, const char *name);
/* Overwrite the stored copy of a secret setting, and its original in the environment block. */
void config_wipe(struct config *c, const char *name);
/* "name: value   # origin" per line, secrets masked; or a JSON object of the same. */
MUST_CHECK enum rc config_print(const struct config *c, bool json, struct buf *out);

#endif
