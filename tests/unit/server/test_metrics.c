/* server/metrics.c: the text a scraper reads. */
#include <check.h>
#include <signal.h>

#include "server/metrics.h"

START_TEST(families_and_samples)
{
	AUTO(buf) struct buf b = BUF_INIT(1000);
	struct metrics_out m = {&b};

	metrics_family(&m, "tollgate_calls_total", "counter", "Calls.\nBy \\ provider.");
	metrics_sample(&m, "tollgate_calls_total", "provider=\"x\"", 5);
	metrics_sample(&m, "tollgate_calls_total", "", INT64_MIN);
	ck_assert_str_eq(b.ptr, "# HELP tollgate_calls_total Calls.\\nBy \\\\ provider.\n"
				"# TYPE tollgate_calls_total counter\n"
				"tollgate_calls_total{provider=\"x\"} 5\n"
				"tollgate_calls_total -9223372036854775808\n");
}
END_TEST

START_TEST(labels_are_escaped)
{
	AUTO(buf) struct buf b = BUF_INIT(100);
	AUTO(buf) struct buf small = BUF_INIT(8);

	metrics_label(&b, "a", STR("x\"y\\z\nw\xff\xc3\xa9"));
	metrics_label(&b, "b", STR(""));
	ck_assert_str_eq(b.ptr, "a=\"x\\\"y\\\\z\\nw\xef\xbf\xbd\xc3\xa9\",b=\"\"");
	metrics_label(&small, "a", STR("x"));
	metrics_label(&small, "b", STR("y"));
	ck_assert_str_eq(small.ptr, "a=\"x\"");
}
END_TEST

START_TEST(histogram)
{
	AUTO(buf) struct buf b = BUF_INIT(10000);
	struct metrics_out m = {&b};
	struct hist h = {0};

	hist_add(&h, 10);
	hist_add(&h, 2500);
	hist_add(&h, 600000000);
	hist_add(&h, 600000001);
	metrics_hist(&m, "d_seconds", "", &h);
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"0.00001\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"0.001\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"0.0025\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"10\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"600\"} 3\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_seconds_bucket{le=\"+Inf\"} 4\n"
					    "d_seconds_sum 1200.002511\nd_seconds_count 4\n"));
	buf_reset(&b);
	metrics_hist(&m, "d", "p=\"x\"", &h);
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_bucket{p=\"x\",le=\"1\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(b.ptr, "d_sum{p=\"x\"} 1200.002511\n"));
}
END_TEST

START_TEST(past_the_cap_only_whole_lines)
{
	for (size_t max = 0; max < 1500; max += 3) {
		AUTO(buf) struct buf b = BUF_INIT(max);
		struct metrics_out m = {&b};
		struct hist h = {0};

		metrics_family(&m, "d", "histogram", "x");
		metrics_hist(&m, "d", "", &h);
		ck_assert(b.len == 0 || b.ptr[b.len - 1] == '\n');
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("metrics");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, families_and_samples);
	tcase_add_test(t, labels_are_escaped);
	tcase_add_test(t, histogram);
	tcase_add_test(t, past_the_cap_only_whole_lines);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
