/* server/worker.h - what one thread owns: a loop, a curl group, Postgres connections, and a slot of
 * state per module. A call lives and dies on one worker. The control thread is a worker too: it
 * has the admin listener, the LISTEN connection and the timed jobs (`control` is true). */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H
#include <stdatomic.h>
#include <stdbool.h>
#include "server/base/err.h"
#include "server/base/id.h"

struct loop;
struct pg;
struct curlm;
struct config;
struct egress;
struct service;

enum module_slot { MODULE_VAULT, MODULE_BILLING, MODULE_ROUTING, MODULE_COUNT };

struct worker {
	int index; /* 0.. for workers; -1 for the control thread */
	bool control;
	struct service *service;
	struct loop *loop;
	struct pg *pg;
	struct curlm *curlm;
	void *state[MODULE_COUNT]; /* each module's own, made by its worker_start */
	_Atomic int64_t change;	   /* seq of the newest change that this thread has taken in */
};

struct service { /* one per process; immutable once serving but for the atomics */
	const struct config *config;
	struct egress *egress;
	struct worker *control;
	struct worker **workers;
	int workers_count;
	void *state[MODULE_COUNT]; /* shared by all threads, made by a module's start */
	_Atomic bool draining;
	_Atomic int calls_open; /* calls not yet settled: a drain waits for them */
};

/* Post `fn` to every worker and to the control thread. `arg` is borrowed until all ran: pass what
 * lives forever, or use the copying form below. Any thread. */
void service_post_all(struct service *s, void (*fn)(struct worker *w, void *arg), void *arg);

/* A configuration change: org zero means "drop everything" (a lost listener is back). Delivered on
 * every worker's thread to every module's on_change. kind: "org", "key", "profile", "route",
 * "price", "model", ... */
struct change {
	char kind[32];
	struct org_id org;
	int64_t version;
	int64_t seq; /* its number, in the order of the commits; 0: none of its own ("all") */
};

#endif
