/* routing/kept.h - state that a provider keeps for a later call: who has it. Both are asynchronous, on the worker's thread;
 * `done` runs after they returned, and what they return, in `mem`, is cancelled before that or not at all. */
#ifndef ROUTING_KEPT_H
#define ROUTING_KEPT_H
#include "routing/call.h"
#include "server/worker.h"

#define KEPT_ID_BYTES_MAX 4096 /* what is longer is no id, and not remembered */

struct kept_find;
/* Fill `keeper` of each of c->states that this org's calls made. RC_OK also where none is known. */
struct kept_find *kept_find(struct worker *w, struct org_id org, struct call *c, struct arena *mem,
			    void (*done)(void *arg, enum rc rc), void *arg);
void kept_find_cancel(struct kept_find *k);

struct kept_note;
/* Remember that `profile` keeps `id` for this org. A failure is logged and is no failure of the call. */
struct kept_note *kept_note(struct worker *w, struct org_id org, const char *kind, struct str id,
			    struct uuid profile, struct arena *mem, void (*done)(void *arg),
			    void *arg);
void kept_note_cancel(struct kept_note *k);

#endif
