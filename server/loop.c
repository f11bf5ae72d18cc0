/* server/loop.c - one event loop per thread, over libevent.
 *
 * A turn: wait, run every event that is ready, run what they deferred. The clock is read once per
 * turn, at the first question after the wait. Must never run a callback whose owner cleared it. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <event2/event.h>
#include <event2/thread.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/wipe.h"
#include "server/loop.h"

/* A changelist saves a system call in twenty. It takes a closed descriptor out of epoll one turn late, when
 * another thread may have been given its number: harmless to epoll, which knows files and not numbers, but the
 * thread sanitizer calls it a race. */
#if defined(__SANITIZE_THREAD__)
#define LOOP_CHANGELIST 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LOOP_CHANGELIST 0
#endif
#endif
#ifndef LOOP_CHANGELIST
#define LOOP_CHANGELIST 1
#endif
/* Every post belongs to a call or a change that is under way; a million waiting ones mean that a
 * thread posts in a circle, which is our bug. */
#define LOOP_POSTS_MAX (1u << 20)
/* What is left when a loop is freed may post and defer again; so often, and then it is a circle. */
#define LOOP_FREE_ROUNDS_MAX 1000

struct todo { /* fn NULL: cancelled */
	loop_fn *fn;
	void *arg;
};

struct todo_list {
	struct todo *items;
	size_t len, cap;
};

struct loop {
	struct event_base *base;
	bool stop;
	struct todo_list deferred; /* for the end of this turn */
	struct todo_list running;  /* the end of this turn, being run */
	struct event *wake;
	int wake_fd;
	pthread_mutex_t posts_lock; /* guards `posts` */
	struct todo_list posts;
};

static void todo_add(struct todo_list *l, loop_fn *fn, void *arg)
{
	if (l->len == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 32;
		l->items = realloc(l->items, l->cap * sizeof *l->items);
		if (!l->items)
			abort();
	}
	l->items[l->len++] = (struct todo){fn, arg};
}

static void todo_cancel(struct todo_list *l, loop_fn *fn, void *arg)
{
	for (size_t i = 0; i < l->len; i++)
		if (l->items[i].fn == fn && l->items[i].arg == arg)
			l->items[i].fn = NULL;
}

static void todo_run(struct todo_list *l)
{
	for (size_t i = 0; i < l->len; i++) {
		struct todo t = l->items[i];

		l->items[i].fn = NULL;
		if (t.fn)
			t.fn(t.arg);
	}
	l->len = 0;
}

/* --- life ---------------------------------------------------------------------------------------- */

static void run_posts(struct loop *l)
{
	struct todo_list posts;

	pthread_mutex_lock(&l->posts_lock);
	posts = l->posts;
	l->posts = (struct todo_list){NULL, 0, 0};
	pthread_mutex_unlock(&l->posts_lock);
	todo_run(&posts);
	free(posts.items);
}

static void run_deferred(struct loop *l)
{
	struct todo_list spare = l->running;

	assert(spare.len == 0);
	l->running = l->deferred;
	l->deferred = spare;
	todo_run(&l->running);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
		log_warn("loop wake-up could not be read", LOG_INT("errno", errno));
	run_posts(arg);
}

static void *event_malloc(size_t size)
{
	return malloc(size);
}

/* libevent's buffers hold whatever is sent and received, keys and secrets among it: what it frees is
 * overwritten. Before any other call of libevent. */
static void threads_init(void)
{
	event_set_mem_functions(event_malloc, wipe_realloc, wipe_free);
	if (evthread_use_pthreads() != 0)
		abort();
}

static struct event_base *base_new(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct event_config *cfg;
	struct event_base *base = NULL;

	pthread_once(&once, threads_init);
	cfg = event_config_new();
	if (!cfg)
		return NULL;
	/* precise: the coarse clock lags by up to a scheduler tick, and timers would run early */
	if ((!LOOP_CHANGELIST ||
	     event_config_set_flag(cfg, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0) &&
	    event_config_set_flag(cfg, EVENT_BASE_FLAG_PRECISE_TIMER) == 0)
		base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return base;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	pthread_mutex_init(&l->posts_lock, NULL);
	l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->base = base_new();
	if (l->base && l->wake_fd >= 0)
		l->wake = event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
	if (!l->wake || event_add(l->wake, NULL) != 0) {
		loop_free(l);
		return NULL;
	}
	return l;
}

static bool has_posts(struct loop *l)
{
	bool some;

	pthread_mutex_lock(&l->posts_lock);
	some = l->posts.len > 0;
	pthread_mutex_unlock(&l->posts_lock);
	return some;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	for (int i = 0; has_posts(l) || l->deferred.len; i++) {
		assert(i < LOOP_FREE_ROUNDS_MAX);
		run_posts(l);
		run_deferred(l);
	}
	if (l->wake)
		event_free(l->wake);
	if (l->base)
		event_base_free(l->base);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	pthread_mutex_destroy(&l->posts_lock);
	free(l->posts.items);
	free(l->deferred.items);
	free(l->running.items);
	free(l);
}

void loop_run(struct loop *l)
{
	while (!l->stop) {
		int flags = EVLOOP_ONCE | (l->deferred.len ? EVLOOP_NONBLOCK : 0);

		clock_turn_lazy();
		if (event_base_loop(l->base, flags) < 0)
			abort(); /* the kernel refused to wait: no event will ever come again */
		run_deferred(l);
	}
	l->stop = false;
	clock_turn_end();
}

void loop_stop(struct loop *l)
{
	l->stop = true;
	event_base_loopbreak(l->base);
}

struct event_base *loop_base(struct loop *l)
{
	return l->base;
}

void loop_defer(struct loop *l, loop_fn *fn, void *arg)
{
	todo_add(&l->deferred, fn, arg);
}

void loop_defer_cancel(struct loop *l, loop_fn *fn, void *arg)
{
	todo_cancel(&l->deferred, fn, arg);
	todo_cancel(&l->running, fn, arg);
}

void loop_post(struct loop *l, loop_fn *fn, void *arg)
{
	static const uint64_t one = 1;
	bool first;
	ssize_t written = 0;

	pthread_mutex_lock(&l->posts_lock);
	first = l->posts.len == 0;
	assert(l->posts.len < LOOP_POSTS_MAX);
	todo_add(&l->posts, fn, arg);
	/* under the lock: once it is released, the loop may run this post and be freed by it */
	if (first)
		written = write(l->wake_fd, &one, sizeof one);
	pthread_mutex_unlock(&l->posts_lock);
	assert(written >= 0 || errno == EAGAIN); /* EAGAIN: awake already */
}

/* --- timers, descriptors, signals ---------------------------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;
	loop_fn *fn = t->fn;
	void *fn_arg = t->arg;

	(void)fd;
	(void)what;
	loop_timer_clear(t); /* before: the callback may set it again, or free its storage */
	fn(fn_arg);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t delay_ms, loop_fn *fn, void *arg)
{
	int64_t ms = delay_ms > 0 ? delay_ms : 0;
	struct timeval tv = {.tv_sec = (time_t)(ms / 1000),
			     .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	assert(!t->ev || t->loop == l);
	if (!t->ev)
		t->ev = event_new(l->base, -1, 0, on_timer, t);
	if (!t->ev || event_add(t->ev, &tv) != 0)
		abort();
	t->loop = l;
	t->fn = fn;
	t->arg = arg;
}

void loop_timer_clear(struct loop_timer *t)
{
	if (!t->ev)
		return;
	event_free(t->ev);
	t->ev = NULL;
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct loop_io *io = arg;
	int events = (what & EV_READ ? LOOP_READ : 0) | (what & EV_WRITE ? LOOP_WRITE : 0);

	io->fn(io->arg, fd, events);
}

/* An equal request is not skipped: the number may by now be another, newly opened descriptor. */
void loop_io_set(struct loop *l, struct loop_io *io, int fd, int events, loop_io_fn *fn, void *arg)
{
	int what = EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) |
		   (events & LOOP_WRITE ? EV_WRITE : 0);

	loop_io_clear(io);
	io->loop = l;
	io->fn = fn;
	io->arg = arg;
	io->events = events;
	if (!(events & (LOOP_READ | LOOP_WRITE)))
		return;
	io->ev = event_new(l->base, fd, (short)what, on_io, io);
	if (!io->ev || event_add(io->ev, NULL) != 0)
		abort();
}

void loop_io_clear(struct loop_io *io)
{
	if (!io->ev)
		return;
	event_free(io->ev);
	io->ev = NULL;
	io->events = 0;
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct loop_signal *s = arg;

	(void)signo;
	(void)what;
	s->fn(s->arg);
}

void loop_signal_set(struct loop *l, struct loop_signal *s, int signo, loop_fn *fn, void *arg)
{
	loop_signal_clear(s);
	s->fn = fn;
	s->arg = arg;
	s->ev = evsignal_new(l->base, signo, on_signal, s);
	if (!s->ev || event_add(s->ev, NULL) != 0)
		abort();
}

void loop_signal_clear(struct loop_signal *s)
{
	if (!s->ev)
		return;
	event_free(s->ev);
	s->ev = NULL;
}
