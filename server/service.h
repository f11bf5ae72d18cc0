/* server/service.h - the process: its settings, its threads, and how it starts, drains and ends.
 *
 * The main thread is the control thread: signals, the admin listener, the change feed, timed jobs,
 * readiness. TOLLGATE_WORKERS further threads each own a loop and serve the data plane. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H
#include "server/module.h"

/* All settings tables, the floor's first: NULL-ended, static storage. */
const struct setting *const *service_setting_tables(const struct module *const *modules);

/* All endpoint tables, the floor's first: NULL-ended, static storage. */
const struct endpoint *const *service_endpoint_tables(const struct module *const *modules);

/* Run until drained. `version` is the binary's own, static. `file` (may be NULL) is read again on HUP. Returns the exit status: 0 drained, 2
 * configuration, 3 cannot listen. */
int service_run(const struct module *const *modules, const struct config *config, const char *file,
		const char *version);

#endif
