/* server/base/log.c: what a line looks like, what never stands in one, and that nothing blocks.
 * Every key in here is made up. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/base/json.h"
#include "server/base/log.h"

static int sink[2];

static void setup(void)
{
	ck_assert_int_eq(pipe(sink), 0);
	log_fd_set(sink[1]);
	log_init(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	clock_fake_set(0, 1700000000123456);
}

static void teardown(void)
{
	log_fd_set(STDERR_FILENO);
	close(sink[0]);
	close(sink[1]);
}

static const char *logged(void)
{
	static char text[1 << 17];
	ssize_t n;

	fcntl(sink[0], F_SETFL, O_NONBLOCK);
	n = read(sink[0], text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

START_TEST(a_line)
{
	log_info("listening", LOG_STR("surface", "data"), LOG_INT("port", -5),
		 LOG_BOOL("tls", true), LOG_UUID("id", org_id_platform.u), LOG_SECRET("key"),
		 LOG_STR("none", NULL), LOG_S("text", STR("a\"b\nc\x01\xff")));
	ck_assert_str_eq(
		logged(),
		"{\"ts\":\"2023-11-14T22:13:20.123456Z\",\"level\":\"info\",\"msg\":\"listening\","
		"\"surface\":\"data\",\"port\":-5,\"tls\":true,"
		"\"id\":\"00000000-0000-7000-8000-000000000000\",\"key\":\"[redacted]\",\"none\":null,"
		"\"text\":\"a\\\"b\\nc\\u0001\xef\xbf\xbd\"}\n");
	log_error("bare", LOG_END);
	ck_assert_str_eq(
		logged(),
		"{\"ts\":\"2023-11-14T22:13:20.123456Z\",\"level\":\"error\",\"msg\":\"bare\"}\n");
}
END_TEST

START_TEST(text_format)
{
	log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	log_warn("odd thing", LOG_STR("why", "a b\nforged line"), LOG_INT("n", 3));
	ck_assert_str_eq(
		logged(),
		"2023-11-14T22:13:20.123456Z warn \"odd thing\" why=\"a b\\nforged line\" n=3\n");
}
END_TEST

START_TEST(levels)
{
	log_init(LOG_LEVEL_WARN, LOG_FORMAT_JSON);
	ck_assert(!log_enabled(LOG_LEVEL_INFO) && log_enabled(LOG_LEVEL_WARN));
	log_info("quiet", LOG_END);
	ck_assert_str_eq(logged(), "");
	log_warn("loud", LOG_END);
	ck_assert_str_ne(logged(), "");
}
END_TEST

START_TEST(context)
{
	struct log_context a = {"req_1", org_id_platform, "STREAMING"},
			   b = {"req_2", {{{0}}}, NULL};

	ck_assert_ptr_null(log_context_set(&a));
	log_info("x", LOG_INT("n", 1));
	ck_assert_ptr_nonnull(
		strstr(logged(),
		       "\"msg\":\"x\",\"request_id\":\"req_1\",\"org\":\"00000000-0000-7000-8000-"
		       "000000000000\",\"state\":\"STREAMING\",\"n\":1}"));
	log_info("x", LOG_STR("state", "mine")); /* no key twice */
	ck_assert_ptr_null(strstr(logged(), "STREAMING"));
	ck_assert_ptr_eq(log_context_set(&b), &a);
	log_info("x", LOG_END);
	ck_assert_ptr_nonnull(strstr(logged(), "\"msg\":\"x\",\"request_id\":\"req_2\"}"));
	ck_assert_ptr_eq(log_context_set(NULL), &b);
	log_info("x", LOG_END);
	ck_assert_ptr_null(strstr(logged(), "req_"));
}
END_TEST

START_TEST(long_values_are_cut_and_lines_stay_whole)
{
	struct arena *mem = arena_new(1 << 20);
	char big[9000];
	struct json *v;
	struct str s;

	for (size_t pad = 0; pad < 4; pad++) {
		memset(big, 'a', pad);
		for (size_t i = pad; i + 4 < sizeof big; i += 4)
			memcpy(big + i, "\xf0\x9f\x98\x80", 5);
		log_info("big", LOG_STR("one", big), LOG_STR("two", big), LOG_STR("three", big),
			 LOG_STR("four", big), LOG_STR("five", big), LOG_INT("last", 1));
		s = str_from(logged());
		ck_assert_uint_le(s.len, 4096);
		ck_assert(str_ends(s, STR("\"truncated\":true}\n")));
		ck_assert(json_parse(str_trim(str_slice(s, 0, s.len - 1)), JSON_NO_DUPLICATES, mem,
				     &v, NULL) == RC_OK);
		ck_assert(json_string(json_get(v, "one"), &s) && s.len > 1000 &&
			  str_ends(s, STR("...")));
	}
	arena_free(mem);
}
END_TEST

START_TEST(worst_escapes_still_fit)
{
	struct arena *mem = arena_new(1 << 20);
	char big[5000];
	struct json *v;
	struct str s;

	memset(big, 1, sizeof big - 1);
	big[sizeof big - 1] = '\0';
	log_info(big, LOG_STR("x", big), LOG_INT("n", 1));
	s = str_from(logged());
	ck_assert_uint_le(s.len, 4096);
	ck_assert_msg(json_parse(str_slice(s, 0, s.len - 1), JSON_NO_DUPLICATES, mem, &v, NULL) ==
			      RC_OK,
		      "%s", s.ptr);
	arena_free(mem);
}
END_TEST

START_TEST(a_blocked_sink_drops_and_counts)
{
	uint64_t before = log_dropped();
	char big[1001];
	int n;

	memset(big, 'x', 1000);
	big[1000] = '\0';
	alarm(10); /* a write that blocks ends the test */
	for (n = 0; n < 1000; n++)
		log_info("flood", LOG_STR("x", big));
	ck_assert_uint_gt(log_dropped(), before + 500);
	ck_assert_int_eq(fcntl(sink[1], F_GETFL) & O_NONBLOCK, 0); /* others share the descriptor */
	(void)logged();
	before = log_dropped();
	log_info("after", LOG_END);
	ck_assert_ptr_nonnull(strstr(logged(), "\"msg\":\"after\",\"dropped\":"));
	log_info("later", LOG_END); /* told once */
	ck_assert_ptr_null(strstr(logged(), "dropped"));
	ck_assert_uint_eq(log_dropped(), before);
}
END_TEST

static void *log_many(void *arg)
{
	char text[300];

	memset(text, *(char *)arg, sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (int i = 0; i < 30; i++)
		log_info("t", LOG_STR("x", text));
	return NULL;
}

START_TEST(threads_do_not_mix_lines)
{
	pthread_t t[4];
	char names[] = "abcd";
	struct str rest;
	int lines = 0;

	fcntl(sink[1], F_SETPIPE_SZ, 1 << 20);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, log_many, &names[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	rest = str_from(logged());
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		struct str x = str_slice(line, line.len - 301, line.len - 2);

		ck_assert(str_starts(line, STR("{\"ts\"")) && str_ends(line, STR("\"}")));
		for (size_t i = 1; i < x.len; i++)
			ck_assert_int_eq(x.ptr[i], x.ptr[0]);
		lines++;
	}
	ck_assert_int_eq(lines, 120);
}
END_TEST

START_TEST(scrub)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"", ""},
		{"nothing here", "nothing here"},
		{"key sk-fake1234567890 end", "key [redacted] end"},
		{"sk-ant-api03-FAKE_fake-0123456789", "[redacted]"},
		{"sk-proj-FAKEFAKEFAKE,next", "[redacted],next"},
		{"\"sk-fake\"", "\"*******\""},
		{"AIzaSyFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKE1", "[redacted]"},
		{"gsk_FAKEfakeFAKEfake0123", "[redacted]"},
		{"xai-FAKEfakeFAKEfake0123", "[redacted]"},
		{"x=1&key=AIzaSyFAKEFAKEFAKEFAKEFAKEFAKEFAKEFAKE1&y=2", "x=1&key=[redacted]&y=2"},
		{"abcsk-FAKE0123456789FAKE0123", "abc[redacted]"},
		{"%20sk-FAKE0123456789FAKE0123", "%20[redacted]"},
		{"task-management-in-the-large", "task-management-in-the-large"},
		{"task-1", "task-1"},
		{"sk-SK", "sk-SK"},
		{"provider xai-main is up", "provider xai-main is up"},
		{"Authorization: Bearer abc.def~+/=,; x", "Authorization: Bearer [redacted] x"},
		{"bearer  x1", "bearer  **"},
		{"BEARER\tfakefakefakefake\"}", "BEARER\t[redacted]\"}"},
		{"Bearer ", "Bearer "},
		{"tg_Ab3dEf9h_FAKEfakeFAKEfake012", "[redacted]"},
		{"see tg_Ab3dEf9h_x.", "see [redacted]."},
		{"tg_org()", "tg_org()"},
		{"tg_Ab3-Ef9h_open", "tg_Ab3-Ef9h_open"},
		{"a -----BEGIN PRIVATE KEY-----\nRkFLRQ==\n-----END PRIVATE KEY----- b",
		 "a [redacted]"},
		{"-----BEGIN EC PRIVATE KEY-----\nRkFLRQ", "[redacted]"},
		{"sk-aaaaBearer fakefakefake", "*******Bearer [redacted]"},
		{"Bearer bearer fakefakefake", "Bearer bearer [redacted]"},
		{"Bearer fake-----BEGIN KEY-----\nRkFLRQ", "Bearer ****[redacted]"},
		{"sk-----BEGIN KEY-----\nRkFLRQ", "**[redacted]"},
		{"two sk-fake1234567890 and gsk_FAKEfake0123 keys",
		 "two [redacted] and [redacted] keys"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[200];
		size_t len = strlen(rows[i].in);
		size_t again;

		memcpy(text, rows[i].in, len + 1);
		len = log_scrub(text, len);
		ck_assert_uint_le(len, strlen(rows[i].in));
		ck_assert_msg(str_eq(str_of(text, len), str_from(rows[i].out)), "row %zu: %.*s", i,
			      (int)len, text);
		again = log_scrub(text, len); /* may take less room, shows no more */
		ck_assert_uint_le(again, len);
		ck_assert_int_lt(str_find_nocase(str_of(text, again), STR("fake")), 0);
	}
}
END_TEST

START_TEST(lines_are_scrubbed)
{
	char text[3000];

	log_error("bad key sk-fake1234567890", LOG_STR("header", "Bearer fakefakefakefake"));
	ck_assert_ptr_null(strstr(logged(), "fake"));
	for (size_t at = 900; at < 1100; at++) { /* a secret across the cut */
		memset(text, '.', sizeof text);
		memcpy(text + at, "sk-fakefakefake0123456789", 25);
		log_error("x", LOG_S("v", str_of(text, sizeof text)));
		ck_assert_msg(!strstr(logged(), "fakefake"), "at %zu", at);
	}
}
END_TEST

START_TEST(scrub_is_not_quadratic)
{
	size_t len = 3 << 20;
	char *text = malloc(len);

	alarm(10);
	for (size_t i = 0; i < len; i++)
		text[i] = "sk-"[i % 3];
	ck_assert_uint_le(log_scrub(text, len), len);
	for (size_t i = 0; i < len; i++)
		text[i] = "gsk_"[i % 4];
	ck_assert_uint_le(log_scrub(text, len), len);
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_line);
	tcase_add_test(t, text_format);
	tcase_add_test(t, levels);
	tcase_add_test(t, context);
	tcase_add_test(t, long_values_are_cut_and_lines_stay_whole);
	tcase_add_test(t, worst_escapes_still_fit);
	tcase_add_test(t, a_blocked_sink_drops_and_counts);
	tcase_add_test(t, threads_do_not_mix_lines);
	tcase_add_test(t, scrub);
	tcase_add_test(t, lines_are_scrubbed);
	tcase_add_test(t, scrub_is_not_quadratic);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
