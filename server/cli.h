/* server/cli.h - the frame of every subcommand: flags, envelope, exit status, the admin API from a terminal.
 *
 * stdout carries data (one {"data","error","meta"} object with --json), stderr everything else.
 * Exit status: 0 done, 1 the thing asked about failed, 2 usage or configuration, 3 a dependency
 * was not reachable. Secrets come from files, stdin or a hidden prompt, never from flags. */
#ifndef SERVER_CLI_H
#define SERVER_CLI_H
#include "server/base/err.h"
#include "server/base/json.h"
#include "server/config.h"
#include "server/module.h"

#define CLI_OK	      0
#define CLI_FAILED    1
#define CLI_USAGE     2
#define CLI_UNREACHED 3

struct cli {
	bool json;
	struct config *config; /* loaded on demand by cli_config() */
	const char *config_file;
	const char *version; /* of this build */
	const struct module *const *modules;
	struct arena *mem;
	struct buf out;	 /* the human form or the data JSON */
	struct str meta; /* of the last answer of the admin API, JSON; printed with the data */
};

/* What settings say, into cli->mem ("" when unset). Lenient: what is required to serve may be missing. */
MUST_CHECK enum rc cli_settings(struct cli *cli, const char *const *names, const char **values,
				size_t n, struct err *err);
/* --name VALUE or --name=VALUE: removes it from argv and returns the value; NULL: absent. */
const char *cli_flag(int *argc, char **argv, const char *name);
bool cli_switch(int *argc, char **argv, const char *name);
/* An unknown flag left in argv is a usage error: prints and returns true. */
bool cli_leftover_flags(struct cli *cli, int argc, char **argv);
MUST_CHECK enum rc cli_config(struct cli *cli, struct err *err);
/* Print the result and return the exit status. `human` is used without --json (may be NULL: pretty data). */
int cli_data(struct cli *cli, struct str data_json, const char *human);
int cli_error(struct cli *cli, int status, const struct err *err);
int cli_usage(struct cli *cli, const struct command *cmd);
/* Say what is wrong with the arguments; returns CLI_USAGE. */
int cli_usage_error(struct cli *cli, const char *words);
/* Read a secret from FILE ("-" is stdin; NULL prompts hidden on a terminal). Trailing newline cut. */
MUST_CHECK enum rc cli_secret(const char *file, struct buf *out, struct err *err);

/* One call of the admin API at TOLLGATE_ADMIN_LISTEN with TOLLGATE_ADMIN_TOKEN. Blocking. `body` may be
 * empty. On RC_OK `*data` is the envelope's data, parsed into cli->mem; on an error answer `err` has its
 * code and words, `detail` its request id, and `*status` the HTTP status (0: no answer). RC_NETWORK:
 * not reachable. Only the settings it needs must be there: a terminal has no master key. A POST
 * carries an Idempotency-Key of its own. With TLS the certificate must be valid for the address. */
MUST_CHECK enum rc cli_api(struct cli *cli, const char *method, struct str path, struct str body,
			   struct json **data, int *status, struct err *err);
/* The exit status for a failed cli_api(): its result and HTTP status; for anything else that failed, 0 as `status`. */
int cli_status(enum rc rc, int status);
/* cli_api() and print: the whole of most admin commands. */
int cli_api_print(struct cli *cli, const char *method, struct str path, struct str body);
/* Synchronous statements for commands that work on the database (migrate, ledger, vault): connects with
 * TOLLGATE_DATABASE_URL, SET ROLE tollgate_app, runs the batch (taken), calls `cb` before returning,
 * also with a failed result; not when a setting is missing. RC_UNAVAILABLE: not reachable. */
struct pg_batch;
struct pg_result;
MUST_CHECK enum rc cli_pg(struct cli *cli, struct pg_batch *b,
			  void (*cb)(void *arg, const struct pg_result *r), void *arg,
			  struct err *err);
/* The same for a command that runs many: one connection for all of them. */
struct cli_db;
MUST_CHECK enum rc cli_db_open(struct cli *cli, struct cli_db **ret, struct err *err);
MUST_CHECK enum rc cli_db_run(struct cli_db *db, struct pg_batch *b,
			      void (*cb)(void *arg, const struct pg_result *r), void *arg,
			      struct err *err);
void cli_db_close(struct cli_db *db); /* NULL is fine */

#endif
