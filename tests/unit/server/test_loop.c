/* server/loop.c: order of events, deferred work, posts over threads, timers, descriptors, signals. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <event2/event.h>

#include "server/base/clock.h"
#include "server/base/str.h"
#include "server/loop.h"

static struct loop *l;
static char trace[256];

static void setup(void)
{
	l = loop_new();
	ck_assert_ptr_nonnull(l);
	alarm(20);
}

static void teardown(void)
{
	loop_free(l);
	loop_free(NULL);
}

static void note(void *arg)
{
	strncat(trace, arg, sizeof trace - strlen(trace) - 1);
}

static void stop(void *arg)
{
	loop_stop(l);
}

static void defer_b_then_note_a(void *arg)
{
	loop_defer(l, note, "b");
	note("a");
}

static void defer_from_deferred(void *arg)
{
	note("d");
	loop_defer(l, note, "e");
	loop_defer(l, stop, NULL);
}

START_TEST(deferred_runs_after_the_event)
{
	loop_post(l, defer_b_then_note_a, NULL);
	loop_post(l, note, "c"); /* the same event, so before b */
	loop_defer(l, defer_from_deferred, NULL);
	loop_run(l);
	ck_assert_str_eq(trace, "acdbe");
}
END_TEST

static char x[] = "x";

static void cancel_x(void *arg)
{
	loop_defer_cancel(l, note, x);
	note("1");
}

START_TEST(deferred_can_be_cancelled)
{
	loop_defer(l, note, x);
	loop_defer(l, note, "2");
	loop_defer_cancel(l, note, x);
	loop_defer(l, cancel_x, NULL);
	loop_defer(l, note, x); /* cancelled by the one before it, in the same turn */
	loop_defer(l, stop, NULL);
	loop_run(l);
	ck_assert_str_eq(trace, "21");
}
END_TEST

#define POSTERS 4
#define POSTS	5000
static struct post {
	int thread, n;
} posts[POSTERS][POSTS];
static int last[POSTERS], ran, misordered;
static pthread_t loop_thread;

static void on_post(void *arg)
{
	struct post *p = arg;

	if (p->n != last[p->thread] + 1 || !pthread_equal(pthread_self(), loop_thread))
		misordered++;
	last[p->thread] = p->n;
	if (++ran == POSTERS * POSTS)
		loop_stop(l);
}

static void *poster(void *arg)
{
	struct post *p = arg;

	for (int i = 0; i < POSTS; i++)
		loop_post(l, on_post, &p[i]);
	return NULL;
}

START_TEST(posts_of_one_thread_keep_their_order)
{
	pthread_t t[POSTERS];

	loop_thread = pthread_self();
	for (int i = 0; i < POSTERS; i++) {
		for (int n = 0; n < POSTS; n++)
			posts[i][n] = (struct post){i, n + 1};
		pthread_create(&t[i], NULL, poster, posts[i]);
	}
	loop_run(l);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
	ck_assert_int_eq(ran, POSTERS * POSTS);
	ck_assert_int_eq(misordered, 0);
}
END_TEST

static void post_again(void *arg)
{
	note("1");
	loop_post(l, note, "2");
	loop_defer(l, note, "3");
}

START_TEST(free_runs_what_is_left)
{
	struct loop *kept = l;

	loop_post(l, post_again, NULL);
	loop_free(l);
	ck_assert_str_eq(trace, "132");
	ck_assert_ptr_eq(kept, l);
	l = NULL;
}
END_TEST

static void stop_then_count(void *arg)
{
	note("s");
	loop_stop(l);
}

START_TEST(stop_and_run_again)
{
	loop_post(l, stop_then_count, NULL);
	loop_run(l);
	loop_post(l, stop_then_count, NULL);
	loop_run(l);
	ck_assert_str_eq(trace, "ss");
}
END_TEST

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static struct loop_timer ta, tb, tc;

static void on_a(void *arg)
{
	note("a");
	ck_assert_ptr_null(ta.ev); /* a timer that ran is clear: its owner may go */
	loop_timer_set(l, &ta, 5, note, "A");
}

START_TEST(timers)
{
	int64_t from = now_us();

	loop_timer_set(l, &tb, 1000000, note, "never");
	loop_timer_set(l, &tb, 10, note, "b"); /* replaces */
	loop_timer_set(l, &ta, 0, on_a, NULL);
	loop_timer_set(l, &tc, 1, note, "cleared");
	loop_timer_clear(&tc);
	loop_timer_clear(&tc);
	loop_timer_set(l, &tc, 30, stop, NULL);
	loop_run(l);
	ck_assert_str_eq(trace, "aAb");
	ck_assert_int_ge(now_us() - from, 30000); /* never early */
	loop_timer_set(l, &tb, -5, stop, NULL);
	loop_run(l);
	loop_timer_set(l, &ta, 100000, stop, NULL);
	loop_timer_clear(&ta);
}
END_TEST

static void clear_tb(void *arg)
{
	loop_timer_clear(&tb);
	note("c");
}

START_TEST(a_timer_cleared_in_the_same_turn_does_not_run)
{
	int64_t from = now_us();

	loop_timer_set(l, &ta, 1, clear_tb, NULL);
	loop_timer_set(l, &tb, 1, note, "wrong");
	loop_timer_set(l, &tc, 20, stop, NULL);
	while (now_us() - from < 3000) /* so that both are due at once */
		;
	loop_run(l);
	ck_assert_str_eq(trace, "c");
}
END_TEST

static struct loop_io io;

static void on_io(void *arg, int fd, int events)
{
	char byte;

	ck_assert_int_eq(events, LOOP_READ);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	note((char[]){byte, 0});
	if (byte == 'z')
		loop_stop(l);
}

START_TEST(descriptors)
{
	int p[2], again;

	ck_assert_int_eq(pipe(p), 0);
	loop_io_set(l, &io, p[0], LOOP_READ, on_io, NULL);
	ck_assert_int_eq(write(p[1], "xyz", 3), 3); /* persists: one byte per call */
	loop_run(l);
	ck_assert_str_eq(trace, "xyz");
	/* the number comes back as another descriptor */
	again = p[0];
	close(p[0]);
	close(p[1]);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(p[0], again);
	loop_io_set(l, &io, p[0], LOOP_READ, on_io, NULL);
	ck_assert_int_eq(write(p[1], "z", 1), 1);
	loop_run(l);
	ck_assert_str_eq(trace, "xyzz");
	loop_io_clear(&io);
	loop_io_clear(&io);
	ck_assert_int_eq(write(p[1], "q", 1), 1);
	loop_timer_set(l, &ta, 5, stop, NULL);
	loop_run(l);
	ck_assert_str_eq(trace, "xyzz");
	loop_io_set(l, &io, p[0], 0, on_io, NULL); /* nothing to wait for is fine */
	loop_io_clear(&io);
	close(p[0]);
	close(p[1]);
}
END_TEST

static int writable;

static void on_writable(void *arg, int fd, int events)
{
	writable = events;
	loop_io_set(l, &io, fd, LOOP_READ, on_io, NULL); /* replaced in its own callback */
	loop_stop(l);
}

START_TEST(interest_can_change_in_the_callback)
{
	int p[2];

	ck_assert_int_eq(pipe(p), 0);
	loop_io_set(l, &io, p[1], LOOP_WRITE, on_writable, NULL);
	loop_run(l);
	ck_assert_int_eq(writable, LOOP_WRITE);
	loop_io_clear(&io);
	close(p[0]);
	close(p[1]);
}
END_TEST

static int64_t seen_us[3];

static void look(void *arg)
{
	int64_t *at = arg;
	int64_t from = now_us();

	at[0] = clock_mono_us();
	while (now_us() - from < 2000)
		;
	at[1] = clock_mono_us();
	loop_stop(l);
}

START_TEST(one_turn_one_time)
{
	int64_t from = now_us();

	loop_timer_set(l, &ta, 20, look, seen_us);
	loop_run(l);
	ck_assert_int_eq(seen_us[0], seen_us[1]);
	ck_assert_int_ge(seen_us[0], from + 20000); /* read behind the wait, not before it */
	ck_assert_int_ge(clock_mono_us(), seen_us[0] + 2000); /* outside a loop it goes on */
}
END_TEST

static void on_signal(void *arg)
{
	note("S");
	loop_stop(l);
}

START_TEST(signals)
{
	struct loop_signal s = {NULL, NULL, NULL};

	loop_signal_set(l, &s, SIGUSR1, on_signal, NULL);
	raise(SIGUSR1);
	loop_run(l);
	ck_assert_str_eq(trace, "S");
	loop_signal_clear(&s);
	loop_signal_clear(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, deferred_runs_after_the_event);
	tcase_add_test(t, deferred_can_be_cancelled);
	tcase_add_test(t, posts_of_one_thread_keep_their_order);
	tcase_add_test(t, free_runs_what_is_left);
	tcase_add_test(t, stop_and_run_again);
	tcase_add_test(t, timers);
	tcase_add_test(t, a_timer_cleared_in_the_same_turn_does_not_run);
	tcase_add_test(t, descriptors);
	tcase_add_test(t, interest_can_change_in_the_callback);
	tcase_add_test(t, one_turn_one_time);
	tcase_add_test(t, signals);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
