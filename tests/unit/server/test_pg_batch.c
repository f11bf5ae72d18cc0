/* Parameters as the text Postgres will read, and its errors as ours; no database. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "server/pg_priv.h"
#include "sql/queries.h"

static const struct sql_query one = {"one", "", 1};
static const struct sql_query two = {"two", "", 2};

static void param_is(struct pg_batch *b, const char *want)
{
	const char *got = pg_batch_param(b, &b->statements[b->statements_count - 1], 0);

	ck_assert_int_eq(b->rc, RC_OK);
	if (want)
		ck_assert_str_eq(got, want);
	else
		ck_assert_ptr_null(got);
}

START_TEST(scalars)
{
	struct pg_batch *b = pg_batch_new();
	struct uuid u = org_id_platform.u;

	pg_batch_add(b, &one);
	pg_param_str(b, str_of("xyz", 2));
	param_is(b, "xy");
	pg_batch_add(b, &one);
	pg_param_str(b, STR_NULL);
	param_is(b, NULL);
	pg_batch_add(b, &one);
	pg_param_str(b, STR(""));
	param_is(b, "");
	pg_batch_add(b, &one);
	pg_param_z(b, NULL);
	param_is(b, NULL);
	pg_batch_add(b, &one);
	pg_param_int(b, INT64_MIN);
	param_is(b, "-9223372036854775808");
	pg_batch_add(b, &one);
	pg_param_bool(b, false);
	param_is(b, "f");
	pg_batch_add(b, &one);
	pg_param_uuid(b, u);
	param_is(b, "00000000-0000-7000-8000-000000000000");
	pg_batch_add(b, &one);
	pg_param_bytes(b, str_of("\x00\xffz", 3));
	param_is(b, "\\x00ff7a");
	pg_batch_add(b, &one);
	pg_param_bytes(b, STR(""));
	param_is(b, "\\x");
	pg_batch_add(b, &one);
	pg_param_time(b, 1234567890123456);
	param_is(b, "2009-02-13T23:31:30.123456Z");
	pg_batch_free(b);
}
END_TEST

START_TEST(long_bytes_keep_their_order)
{
	struct pg_batch *b = pg_batch_new();
	char in[200];
	const char *got;

	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (char)i;
	pg_batch_add(b, &one);
	pg_param_bytes(b, str_of(in, sizeof in));
	got = pg_batch_param(b, &b->statements[0], 0);
	ck_assert_uint_eq(strlen(got), 2 + 2 * sizeof in);
	for (size_t i = 0; i < sizeof in; i++) {
		char byte[3] = {got[2 + 2 * i], got[3 + 2 * i], 0};

		ck_assert_uint_eq(strtoul(byte, NULL, 16), i);
	}
	pg_batch_free(b);
}
END_TEST

START_TEST(arrays_quote_what_must_be_quoted)
{
	const int64_t ints[] = {1, -2, INT64_MAX};
	const struct str texts[] = {STR("a\"b\\c"), STR_NULL,	   STR("NULL"),
				    STR(""),	    STR("{x,y} "), STR("\\\"")};
	const struct str bytes[] = {STR("hi"), STR_NULL, STR("")};
	struct uuid u[2] = {org_id_platform.u, org_id_platform.u};
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &one);
	pg_param_int_array(b, ints, 3);
	param_is(b, "{1,-2,9223372036854775807}");
	pg_batch_add(b, &one);
	pg_param_int_array(b, ints, 0);
	param_is(b, "{}");
	pg_batch_add(b, &one);
	pg_param_str_array(b, texts, 6);
	param_is(b, "{\"a\\\"b\\\\c\",NULL,\"NULL\",\"\",\"{x,y} \",\"\\\\\\\"\"}");
	pg_batch_add(b, &one);
	pg_param_bytes_array(b, bytes, 3);
	param_is(b, "{\"\\\\x6869\",NULL,\"\\\\x\"}");
	pg_batch_add(b, &one);
	pg_param_uuid_array(b, u, 2);
	param_is(b, "{00000000-0000-7000-8000-000000000000,00000000-0000-7000-8000-000000000000}");
	pg_batch_free(b);
}
END_TEST

START_TEST(parameters_of_several_statements)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &two);
	pg_param_z(b, "a");
	pg_param_null(b);
	pg_batch_add(b, &one);
	pg_param_z(b, "c");
	/* the text has moved meanwhile: the first ones must still be themselves */
	for (int i = 0; i < 1000; i++) {
		pg_batch_add(b, &one);
		pg_param_int(b, i);
	}
	ck_assert_str_eq(pg_batch_param(b, &b->statements[0], 0), "a");
	ck_assert_ptr_null(pg_batch_param(b, &b->statements[0], 1));
	ck_assert_str_eq(pg_batch_param(b, &b->statements[1], 0), "c");
	ck_assert_str_eq(pg_batch_param(b, &b->statements[1001], 0), "999");
	pg_batch_free(b);
}
END_TEST

START_TEST(what_cannot_be_sent_is_noted)
{
	const struct str nul = str_of("a\0b", 3);
	struct pg_batch *b = pg_batch_new();
	size_t size = PG_BATCH_BYTES_MAX / 8;
	char *big = calloc(1, size);

	pg_batch_add(b, &one);
	pg_param_str(b, nul);
	ck_assert_int_eq(b->rc, RC_INVALID);
	pg_batch_free(b);
	b = pg_batch_new();
	pg_batch_add(b, &one);
	pg_param_str_array(b, &nul, 1);
	ck_assert_int_eq(b->rc, RC_INVALID);
	pg_batch_free(b);
	b = pg_batch_new();
	for (int i = 0; i < 5; i++) { /* as hex each is a quarter of the cap */
		pg_batch_add(b, &one);
		pg_param_bytes(b, str_of(big, size));
	}
	ck_assert_int_eq(b->rc, RC_TOO_LARGE);
	pg_batch_free(b);
	b = pg_batch_new();
	for (int i = 0; i <= PG_BATCH_STATEMENTS_MAX; i++) {
		pg_batch_add(b, &one);
		pg_param_null(b);
	}
	ck_assert_int_eq(b->rc, RC_TOO_LARGE);
	pg_batch_free(b);
	free(big);
}
END_TEST

START_TEST(org_by_name_takes_no_odd_one)
{
	struct pg_batch *b = pg_batch_new();
	char wide[400];

	pg_batch_org_ref(b, STR("acme"));
	ck_assert_ptr_eq(b->org, &sql_server_set_org_ref);
	ck_assert_str_eq(b->org_text, "acme");
	memset(wide, 'a', sizeof wide);
	pg_batch_org_ref(b, str_of(wide, sizeof wide));
	ck_assert_str_eq(b->org_text, "");
	pg_batch_org_ref(b, str_of("acme\0x", 6));
	ck_assert_str_eq(b->org_text, "");
	pg_batch_org(b, org_id_platform);
	ck_assert_ptr_eq(b->org, &sql_server_set_org);
	ck_assert_str_eq(b->org_text, "00000000-0000-7000-8000-000000000000");
	pg_batch_free(b);
}
END_TEST

START_TEST(sqlstates)
{
	static const struct {
		const char *state;
		enum rc rc;
		bool again;
	} want[] = {
		{"23505", RC_CONFLICT, false},	  {"23503", RC_INVALID, false},
		{"23514", RC_INVALID, false},	  {"22P02", RC_INVALID, false},
		{"42501", RC_DENIED, false},	  {"TG400", RC_INVALID, false},
		{"TG403", RC_DENIED, false},	  {"TG404", RC_NOT_FOUND, false},
		{"TG409", RC_CONFLICT, false},	  {"TG429", RC_LIMIT, false},
		{"40001", RC_UNAVAILABLE, true},  {"40P01", RC_UNAVAILABLE, true},
		{"57014", RC_UNAVAILABLE, false}, {"42P01", RC_UNAVAILABLE, false},
		{"", RC_UNAVAILABLE, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		ck_assert_msg(pg_rc_from_sqlstate(want[i].state) == want[i].rc, "%s",
			      want[i].state);
		ck_assert_msg(pg_sqlstate_retries(want[i].state) == want[i].again, "%s",
			      want[i].state);
	}
}
END_TEST

static struct err said(enum rc rc, const char *state, const char *message, const char *hint)
{
	struct pg_result r = {.rc = rc, .message = message, .hint = hint};
	struct err err = {0};

	memcpy(r.sqlstate, state, strlen(state) + 1);
	ck_assert_int_eq(pg_result_err(&r, &err), rc);
	return err;
}

START_TEST(our_functions_speak_for_themselves)
{
	char message[64] = "slug_taken: there is one: already";
	struct err err = said(RC_CONFLICT, "TG409", message, "choose another");

	memset(message, 'x', sizeof message - 1); /* the code must outlive the result */
	ck_assert_str_eq(err.code, "slug_taken");
	ck_assert_str_eq(err.message, "there is one: already");
	ck_assert_str_eq(err.hint, "choose another");
	err = said(RC_CONFLICT, "TG409", "no code at all", "");
	ck_assert_str_eq(err.code, "conflict");
	err = said(RC_DENIED, "TG403", "Bad Code: words", "");
	ck_assert_str_eq(err.code, "forbidden");
}
END_TEST

START_TEST(a_limit_says_when_it_passes)
{
	static const struct {
		const char *hint;
		int wait;
	} hints[] = {
		{"in 1873 s, at 2026-11-20T19:05:41.000000Z", 1873},
		{"in 1 s", 1},
		{"in 0 s, at once", 0},
		{"in 86401 s", 0},
		{"in -5 s", 0},
		{"in x s", 0},
		{"in 5", 0},
		{"in 5 minutes", 0},
		{"in ", 0},
		{"wait 5 s", 0},
		{"", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(hints); i++)
		ck_assert_int_eq(
			said(RC_LIMIT, "TG429", "too_often: words", hints[i].hint).retry_after_s,
			hints[i].wait);
	/* of nothing else */
	ck_assert_int_eq(said(RC_CONFLICT, "TG409", "a: b", "in 5 s").retry_after_s, 0);
	ck_assert_int_eq(said(RC_LIMIT, "53300", "too many", "in 5 s").retry_after_s, 0);
}
END_TEST

START_TEST(the_databases_words_stay_in_the_log)
{
	struct err err = said(RC_INVALID, "22P02", "invalid input syntax: \"canary\"", "canary");

	ck_assert_ptr_null(strstr(err.message, "canary"));
	ck_assert_str_eq(err.hint, "");
	ck_assert_ptr_nonnull(strstr(err.detail, "canary"));
	err = said(RC_CONFLICT, "23505", "slug_taken: not of ours", "");
	ck_assert_str_eq(err.code, "conflict");
	err = said(RC_UNAVAILABLE, "", "the database connection was lost", "");
	ck_assert_int_eq(err.retry_after_s, 1);
	ck_assert_int_eq(pg_result_err(&(struct pg_result){.message = "", .hint = ""}, NULL),
			 RC_OK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pg_batch");
	TCase *t = tcase_create("pg_batch");
	SRunner *r;
	int failed;

	tcase_add_test(t, scalars);
	tcase_add_test(t, long_bytes_keep_their_order);
	tcase_add_test(t, arrays_quote_what_must_be_quoted);
	tcase_add_test(t, parameters_of_several_statements);
	tcase_add_test(t, what_cannot_be_sent_is_noted);
	tcase_add_test(t, org_by_name_takes_no_odd_one);
	tcase_add_test(t, sqlstates);
	tcase_add_test(t, our_functions_speak_for_themselves);
	tcase_add_test(t, a_limit_says_when_it_passes);
	tcase_add_test(t, the_databases_words_stay_in_the_log);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
