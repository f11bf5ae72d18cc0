/* server/loop.h - one event loop per thread, over libevent.
 *
 * Everything here is for the loop's own thread, but loop_post(), which any thread may call.
 * Nothing may block a loop: no synchronous libpq, no file sync, no getaddrinfo. */
#ifndef SERVER_LOOP_H
#define SERVER_LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/rc.h"

struct loop;
struct event_base;

struct loop *loop_new(void); /* NULL when libevent cannot be had */
void loop_free(struct loop *l);
void loop_run(struct loop *l);		      /* until loop_stop() */
void loop_stop(struct loop *l);		      /* from its own thread; from others: loop_post() it */
struct event_base *loop_base(struct loop *l); /* for server/http and server/curlm alone */

typedef void loop_fn(void *arg);
/* Run `fn` once the current event has returned: how an object outlives its own callback. */
void loop_defer(struct loop *l, loop_fn *fn, void *arg);
/* Drop what is still deferred for this (fn, arg). */
void loop_defer_cancel(struct loop *l, loop_fn *fn, void *arg);
/* Run `fn` on that loop's thread, soon, in the order posted. Any thread. Posts that are left when
 * the loop is freed are run by loop_free(). */
void loop_post(struct loop *l, loop_fn *fn, void *arg);

/* A timer: storage the caller owns, zero-initialised. Monotonic. */
struct loop_timer {
	struct event *ev;
	struct loop *loop;
	loop_fn *fn;
	void *arg;
};
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, loop_fn *fn,
		    void *arg);		     /* replaces */
void loop_timer_clear(struct loop_timer *t); /* safe on a zeroed one */

/* A file descriptor: storage the caller owns, zero-initialised. */
enum loop_io_events { LOOP_READ = 1, LOOP_WRITE = 2 };
typedef void loop_io_fn(void *arg, int fd, int events);
struct loop_io {
	struct event *ev;
	struct loop *loop;
	loop_io_fn *fn;
	void *arg;
	int events;
};
void loop_io_set(struct loop *l, struct loop_io *io, int fd, int events, loop_io_fn *fn,
		 void *arg); /* replaces; persists */
void loop_io_clear(struct loop_io *io);

/* Watch a signal on this loop (the main thread's). */
struct loop_signal {
	struct event *ev;
	loop_fn *fn;
	void *arg;
};
void loop_signal_set(struct loop *l, struct loop_signal *s, int signo, loop_fn *fn, void *arg);
void loop_signal_clear(struct loop_signal *s);

#endif
