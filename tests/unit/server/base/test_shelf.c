/* server/base/shelf.c: bounds, who is refused, who is dropped and when; and many threads at once. */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/shelf.h"

static atomic_int made, dropped;
static struct shelf *s;
static uint64_t changes;

struct fact { /* what a reader sees must be whole */
	int org, version, check;
};

static void drop(void *value)
{
	struct fact *f = value;

	ck_assert_int_eq(f->check, f->org * 31 + f->version);
	f->check = -1;
	free(f);
	atomic_fetch_add(&dropped, 1);
}

static struct fact *fact(int org, int version)
{
	struct fact *f = malloc(sizeof *f);

	*f = (struct fact){org, version, org * 31 + version};
	atomic_fetch_add(&made, 1);
	return f;
}

static bool put_sized(const char *key, const char *tag, uint64_t ticket, int version, size_t bytes)
{
	return shelf_put(s, &(struct shelf_put){.key = str_from(key),
						.tag = str_from(tag),
						.ticket = ticket,
						.read_ms = 1000 + version,
						.bytes = bytes,
						.value = fact(1, version)});
}

static bool put(const char *key, const char *tag, uint64_t ticket, int version)
{
	return put_sized(key, tag, ticket, version, 10);
}

/* The version that stands there; -1: nothing. */
static int version_after(const char *key, uint64_t after)
{
	struct shelf_item *i = shelf_get(s, str_from(key), after);
	int version = i ? ((const struct fact *)shelf_value(i))->version : -1;

	if (i)
		ck_assert_int_eq(shelf_read_ms(i), 1000 + version);
	shelf_give(i);
	return version;
}

static int version(const char *key)
{
	return version_after(key, 0);
}

static void outdate(const char *tag)
{
	shelf_outdate(s, str_from(tag), ++changes);
}

static void setup(void)
{
	atomic_store(&made, 0);
	atomic_store(&dropped, 0);
	changes = 0;
	s = shelf_new(4, 100, drop);
}

static void teardown(void)
{
	shelf_free(s);
	ck_assert_int_eq(atomic_load(&made), atomic_load(&dropped));
}

START_TEST(what_is_put_is_got)
{
	uint64_t ticket = shelf_ticket(s);

	ck_assert_int_eq(version("a"), -1);
	ck_assert(put("a", "org", ticket, 1));
	ck_assert_int_eq(version("a"), 1);
	ck_assert_int_eq(version_after("a", ticket - 1), 1);
	ck_assert_int_eq(version_after("a", ticket), -1); /* nothing newer than what one has */
	ck_assert_uint_eq(shelf_len(s), 1);
	ck_assert_uint_eq(shelf_bytes(s), 10);
}
END_TEST

START_TEST(the_later_read_wins)
{
	uint64_t first = shelf_ticket(s), second = shelf_ticket(s);

	ck_assert_uint_gt(second, first);
	ck_assert(put("a", "org", second, 2));
	ck_assert(!put("a", "org", first, 1)); /* its reply came later, its question was earlier */
	ck_assert(!put("a", "org", second, 3));
	ck_assert_int_eq(version("a"), 2);
	ck_assert(put("a", "org", shelf_ticket(s), 4));
	ck_assert_int_eq(version("a"), 4);
	ck_assert_uint_eq(shelf_len(s), 1);
	ck_assert_uint_eq(shelf_bytes(s), 10);
	ck_assert_int_eq(atomic_load(&dropped), 3);
}
END_TEST

START_TEST(a_change_drops_its_tag_and_nothing_else)
{
	ck_assert(put("a", "org", shelf_ticket(s), 1));
	ck_assert(put("b", "org", shelf_ticket(s), 1));
	ck_assert(put("c", "other", shelf_ticket(s), 1));
	outdate("org");
	ck_assert_int_eq(version("a"), -1);
	ck_assert_int_eq(version("b"), -1);
	ck_assert_int_eq(version("c"), 1);
	ck_assert_uint_eq(shelf_bytes(s), 10);
}
END_TEST

START_TEST(a_read_from_before_a_change_cannot_come_in_behind_it)
{
	uint64_t before = shelf_ticket(s);

	outdate("org");
	ck_assert(!put("a", "org", before, 1));
	ck_assert_int_eq(version("a"), -1);
	ck_assert(put("b", "other", before, 1));
	ck_assert(put("a", "org", shelf_ticket(s), 2));
	ck_assert_int_eq(version("a"), 2);
}
END_TEST

START_TEST(a_change_counts_once)
{
	ck_assert(put("a", "org", shelf_ticket(s), 1));
	shelf_outdate(s, STR("org"), 7); /* the first worker hears of it */
	ck_assert_int_eq(version("a"), -1);
	ck_assert(put("a", "org", shelf_ticket(s), 2)); /* ... and reads anew */
	shelf_outdate(s, STR("org"), 7);		/* the second one */
	shelf_outdate(s, STR("org"), 6);
	ck_assert_int_eq(version("a"), 2);
	shelf_outdate(s, STR("org"), 8);
	ck_assert_int_eq(version("a"), -1);
}
END_TEST

START_TEST(gone_at_the_source)
{
	uint64_t before = shelf_ticket(s);

	ck_assert(put("a", "org", shelf_ticket(s), 1));
	shelf_remove(s, STR("a"), before); /* an older answer says nothing about it */
	ck_assert_int_eq(version("a"), 1);
	shelf_remove(s, STR("a"), shelf_ticket(s));
	shelf_remove(s, STR("b"), shelf_ticket(s));
	ck_assert_int_eq(version("a"), -1);
	ck_assert_uint_eq(shelf_len(s), 0);
}
END_TEST

START_TEST(entries_are_bounded)
{
	static const char *const keys[] = {"a", "b", "c", "d", "e"};

	for (size_t i = 0; i < 4; i++)
		ck_assert(put(keys[i], "org", shelf_ticket(s), (int)i));
	ck_assert_int_eq(version("a"), 0); /* used: the next one stands in for it */
	ck_assert(put("e", "org", shelf_ticket(s), 4));
	ck_assert_uint_eq(shelf_len(s), 4);
	ck_assert_int_eq(version("b"), -1);
	ck_assert_int_eq(version("a"), 0);
	ck_assert_int_eq(version("e"), 4);
}
END_TEST

START_TEST(bytes_are_bounded)
{
	ck_assert(put_sized("a", "org", shelf_ticket(s), 1, 40));
	ck_assert(put_sized("b", "org", shelf_ticket(s), 1, 40));
	ck_assert(put_sized("c", "org", shelf_ticket(s), 1, 60));
	ck_assert_int_eq(version("a"), -1);
	ck_assert_uint_eq(shelf_bytes(s), 100);
	ck_assert(!put_sized("d", "org", shelf_ticket(s), 1, 101));
	ck_assert_uint_eq(shelf_bytes(s), 100);
	ck_assert(put_sized("c", "org", shelf_ticket(s), 2, 100)); /* in the place of itself */
	ck_assert_uint_eq(shelf_len(s), 1);
	shelf_clear(s);
	ck_assert_uint_eq(shelf_bytes(s), 0);
	ck_assert(put("a", "org", shelf_ticket(s), 3)); /* nothing was outdated by that */
}
END_TEST

START_TEST(what_is_held_outlives_the_shelf)
{
	struct shelf_item *i;
	uint64_t ticket = shelf_ticket(s);

	ck_assert(put("a", "org", ticket, 1));
	i = shelf_get(s, STR("a"), 0);
	ck_assert_uint_eq(shelf_item_ticket(i), ticket);
	outdate("org");
	ck_assert_int_eq(version("a"), -1);
	ck_assert_int_eq(atomic_load(&dropped), 0);
	shelf_free(s);
	ck_assert_int_eq(((const struct fact *)shelf_value(i))->version, 1);
	shelf_give(i);
	ck_assert_int_eq(atomic_load(&dropped), 1);
	shelf_give(NULL);
	s = shelf_new(1, 1, drop);
}
END_TEST

/* ---- threads: a source whose orgs change, workers that read, share and outdate -------------------- */

#define ORGS	4
#define WORKERS 4
#define TURNS	20000

static atomic_int source[ORGS]; /* the current version of each org */
/* The changes as announced, in order: source[] was set before. */
static atomic_int feed[TURNS];
static atomic_int feed_len;
static atomic_int found;

static void *changer(void *arg)
{
	for (int n = 0; n < TURNS / 10; n++) {
		const int org = n % ORGS;

		atomic_fetch_add(&source[org], 1);
		atomic_store(&feed[n], org);
		atomic_store(&feed_len, n + 1);
		if (n % 8 == 0)
			sched_yield();
	}
	return NULL;
}

struct mind {
	int heard;
	int known[ORGS]; /* versions that this worker was told are over: what it gets is later */
};

static void hear(struct mind *m)
{
	const int len = atomic_load(&feed_len);

	while (m->heard < len) {
		const int org = atomic_load(&feed[m->heard++]);
		const char tag[] = {(char)('0' + org), 0};

		shelf_outdate(s, str_from(tag), (uint64_t)m->heard);
		m->known[org]++; /* one announcement per version */
	}
}

static void *worker(void *arg)
{
	struct mind m = {0};

	for (int n = 0; n < TURNS; n++) {
		const int org = (n + (int)(intptr_t)arg) % ORGS;
		const char key[] = {(char)('0' + org), 0};
		struct shelf_item *i;
		uint64_t ticket;
		int read;

		hear(&m);
		i = shelf_get(s, str_from(key), 0);
		if (i) {
			const struct fact *f = shelf_value(i);

			ck_assert_int_eq(f->org, org);
			ck_assert_int_eq(f->check, org * 31 + f->version);
			ck_assert_int_ge(f->version, m.known[org]); /* never what is over */
			shelf_give(i);
			atomic_fetch_add(&found, 1);
			if (n % 3)
				continue;
		}
		ticket = shelf_ticket(s);
		read = atomic_load(&source[org]);
		if (n % 7 == 0)
			sched_yield(); /* the reply is on its way */
		(void)shelf_put(s, &(struct shelf_put){.key = str_from(key),
						       .tag = str_from(key),
						       .ticket = ticket,
						       .bytes = 10,
						       .value = fact(org, read)});
	}
	return NULL;
}

START_TEST(threads_never_get_what_they_know_to_be_over)
{
	pthread_t t[WORKERS + 1];

	pthread_create(&t[WORKERS], NULL, changer, NULL);
	for (intptr_t i = 0; i < WORKERS; i++)
		pthread_create(&t[i], NULL, worker, (void *)i);
	for (int i = 0; i <= WORKERS; i++)
		pthread_join(t[i], NULL);
	ck_assert_int_gt(atomic_load(&found), TURNS / 10);
	ck_assert_uint_le(shelf_len(s), ORGS);
	ck_assert_uint_eq(shelf_bytes(s), 10 * shelf_len(s));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shelf");
	TCase *t = tcase_create("shelf");
	SRunner *r = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_put_is_got);
	tcase_add_test(t, the_later_read_wins);
	tcase_add_test(t, a_change_drops_its_tag_and_nothing_else);
	tcase_add_test(t, a_read_from_before_a_change_cannot_come_in_behind_it);
	tcase_add_test(t, a_change_counts_once);
	tcase_add_test(t, gone_at_the_source);
	tcase_add_test(t, entries_are_bounded);
	tcase_add_test(t, bytes_are_bounded);
	tcase_add_test(t, what_is_held_outlives_the_shelf);
	tcase_add_test(t, threads_never_get_what_they_know_to_be_over);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
