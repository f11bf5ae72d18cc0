/* server/module.h - how a room shows itself to the floor.
 *
 * vault, billing and routing each export one `const struct module`; server/main.c lists the three
 * and runs them in order. Configuration, --help, the role check and its test come from these
 * tables, so nothing is written twice. Tables end in a row of NULLs. */
#ifndef SERVER_MODULE_H
#define SERVER_MODULE_H
#include "server/base/err.h"
#include "server/config.h"
#include "server/http/http.h"
#include "server/metrics.h"
#include "server/worker.h"

struct cli;
struct command {	   /* `tollgate <name> ...` */
	const char *name;  /* "ledger" */
	const char *usage; /* "verify | export --org O | ..." */
	const char *help;  /* one line; what follows it is for `COMMAND --help` alone */
	int (*run)(struct cli *cli, int argc,
		   char **argv); /* argv[0] is the name; exit status of interface.md */
};
struct job { /* runs on the control thread's loop */
	const char *name;
	int64_t every_ms;
	void (*run)(struct worker *control);
};
struct module {
	const char *name;
	enum module_slot slot;
	const struct setting *settings;
	const struct endpoint *endpoints;
	const struct command *commands;
	const struct job *jobs;
	void (*metrics)(struct service *s, struct metrics_out *out);
	/* Once, before any thread, in the order of main.c. RC_INVALID: a setting is wrong. */
	enum rc (*start)(struct service *s, struct err *err);
	/* On each thread. */
	enum rc (*worker_start)(struct worker *w, struct err *err);
	void (*worker_stop)(struct worker *w);
	void (*stop)(struct service *s);
	/* On each worker's thread. What this worker is asked from then on it answers by what holds since the change. */
	void (*on_change)(struct worker *w, const struct change *c);
	/* seq of the oldest change that on_change() could not bring into force at once, and that is not in force
	 * yet; 0: none. Control thread. */
	int64_t (*behind)(struct service *s);
	/* HUP, when the configuration that stands on disk now is valid: read files again. Control thread. */
	void (*on_reload)(struct service *s);
	/* Is this module able to serve? Appends reasons if not ("price book not loaded"). Control thread. */
	bool (*ready)(struct service *s, struct buf *reasons);
	/* Drain: work left that must not be lost (settlements being tried again)? */
	bool (*busy)(struct service *s);
};

#endif
