/* Bodies, fields, pages and cursors of the control plane, without a listener or a database. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "server/admin.h"

static struct arena *mem;

static void setup(void)
{
	mem = arena_new(1 << 20);
}

static void teardown(void)
{
	arena_free(mem);
}

static struct json *parsed(const char *text)
{
	struct json *v = NULL;
	struct err err = {0};

	ck_assert_int_eq(json_parse(str_from(text), JSON_NO_DUPLICATES, mem, &v, &err), RC_OK);
	return v;
}

START_TEST(body_takes_known_fields_and_names_an_unknown_one)
{
	struct json *v = NULL;
	struct err err = {0};

	ck_assert_int_eq(
		admin_body_parse(mem, STR("{\"name\":\"a\",\"role\":null}"), "name role", &v, &err),
		RC_OK);
	ck_assert_uint_eq(json_len(v), 2);
	v = NULL;
	ck_assert_int_eq(
		admin_body_parse(mem, STR("{\"name\":\"a\",\"org_id\":1}"), "name role", &v, &err),
		RC_INVALID);
	ck_assert_ptr_null(v);
	ck_assert_str_eq(err.code, "unknown_field");
	ck_assert_str_eq(err.field, "org_id");
	/* a part of a known name is not a known name, nor are two of them */
	ck_assert_int_eq(admin_body_parse(mem, STR("{\"nam\":1}"), "name role", &v, &err),
			 RC_INVALID);
	ck_assert_int_eq(admin_body_parse(mem, STR("{\"name role\":1}"), "name role", &v, &err),
			 RC_INVALID);
	ck_assert_int_eq(admin_body_parse(mem, STR("{\"\":1}"), "name role", &v, &err), RC_INVALID);
}
END_TEST

START_TEST(body_must_be_one_object_without_duplicates)
{
	static const char *const bad[] = {"", "[]", "null", "1", "{", "{}x", "{\"a\":1,\"a\":2}"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct json *v = NULL;
		struct err err = {0};

		ck_assert_msg(admin_body_parse(mem, str_from(bad[i]), "a", &v, &err) == RC_INVALID,
			      "accepted: %s", bad[i]);
		ck_assert_ptr_nonnull(err.code);
	}
}
END_TEST

START_TEST(str_field)
{
	struct json *v =
		parsed("{\"s\":\"abc\",\"n\":1,\"e\":\"\",\"z\":null,\"nul\":\"a\\u0000b\"}");
	struct str s = STR("before");
	struct err err = {0};

	ck_assert_int_eq(admin_str(v, "absent", false, 9, &s, &err), RC_OK);
	ck_assert_int_eq(admin_str(v, "z", false, 9, &s, &err), RC_OK);
	ck_assert(str_is(s, "before"));
	ck_assert_int_eq(admin_str(v, "z", true, 9, &s, &err), RC_INVALID);
	ck_assert_str_eq(err.code, "invalid_field");
	ck_assert_str_eq(err.field, "z");
	ck_assert_int_eq(admin_str(v, "e", true, 9, &s, &err), RC_INVALID);
	ck_assert_int_eq(admin_str(v, "n", false, 9, &s, &err), RC_INVALID);
	ck_assert_int_eq(admin_str(v, "s", false, 2, &s, &err), RC_INVALID);
	ck_assert_int_eq(admin_str(v, "nul", false, 9, &s, &err), RC_INVALID);
	ck_assert(str_is(s, "before"));
	ck_assert_int_eq(admin_str(v, "s", true, 3, &s, &err), RC_OK);
	ck_assert(str_is(s, "abc"));
	ck_assert_int_eq(admin_str(v, "e", false, 3, &s, &err), RC_OK);
	ck_assert_uint_eq(s.len, 0);
}
END_TEST

START_TEST(int_and_bool_fields)
{
	struct json *v = parsed("{\"i\":5,\"r\":5.0,\"s\":\"5\",\"b\":true,\"z\":null}");
	struct err err = {0};
	int64_t n = -7;
	bool b = false;

	ck_assert_int_eq(admin_int(v, "absent", false, 0, 9, &n, &err), RC_OK);
	ck_assert_int_eq(admin_int(v, "i", false, 6, 9, &n, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "i");
	ck_assert_int_eq(admin_int(v, "i", false, 0, 4, &n, &err), RC_INVALID);
	ck_assert_int_eq(admin_int(v, "r", false, 0, 9, &n, &err), RC_INVALID);
	ck_assert_int_eq(admin_int(v, "s", false, 0, 9, &n, &err), RC_INVALID);
	ck_assert_int_eq(admin_int(v, "absent", true, 0, 9, &n, &err), RC_INVALID);
	ck_assert_int_eq(n, -7);
	ck_assert_int_eq(admin_int(v, "i", true, 5, 5, &n, &err), RC_OK);
	ck_assert_int_eq(n, 5);
	ck_assert_int_eq(admin_bool(v, "i", false, &b, &err), RC_INVALID);
	ck_assert_int_eq(admin_bool(v, "z", true, &b, &err), RC_INVALID);
	ck_assert(!b);
	ck_assert_int_eq(admin_bool(v, "b", true, &b, &err), RC_OK);
	ck_assert(b);
}
END_TEST

START_TEST(page_limits)
{
	static const char *const bad[] = {
		"0", "201", "-1", "abc", "", "1.5", "99999999999999999999"};
	struct admin_page page = {.limit = -1};
	struct err err = {0};

	ck_assert_int_eq(admin_page_parse(mem, STR_NULL, STR_NULL, &page, &err), RC_OK);
	ck_assert_int_eq(page.limit, 50);
	ck_assert_uint_eq(page.cursor.len, 0);
	ck_assert_int_eq(admin_page_parse(mem, STR("200"), STR_NULL, &page, &err), RC_OK);
	ck_assert_int_eq(page.limit, 200);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(admin_page_parse(mem, str_from(bad[i]), STR_NULL, &page, &err) ==
				      RC_INVALID,
			      "limit %s accepted", bad[i]);
		ck_assert_str_eq(err.field, "limit");
	}
	ck_assert_int_eq(page.limit, 200);
}
END_TEST

START_TEST(cursor_goes_out_and_comes_back)
{
	static const char *const bad[] = {"c",	 "616263", "c61626", "c6162G3", "c61626A",
					  "c00", "cff",	   "c6100",  "x616263", "'; --"};
	struct str cursor = admin_cursor(mem, STR("openai/gpt-5 \xc3\xa9"));
	struct admin_page page = {0};
	struct err err = {0};

	ck_assert_ptr_nonnull(cursor.ptr);
	ck_assert_int_lt(str_find_str(cursor, STR("openai")), 0);
	ck_assert_int_eq(admin_page_parse(mem, STR_NULL, cursor, &page, &err), RC_OK);
	ck_assert(str_is(page.cursor, "openai/gpt-5 \xc3\xa9"));
	ck_assert_ptr_null(admin_cursor(mem, STR_NULL).ptr);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(admin_page_parse(mem, STR_NULL, str_from(bad[i]), &page, &err) ==
				      RC_INVALID,
			      "cursor %s accepted", bad[i]);
	ck_assert_str_eq(err.code, "invalid_cursor");
}
END_TEST

START_TEST(query_names)
{
	struct err err = {0};

	ck_assert_int_eq(admin_query_check(STR(""), "limit cursor", &err), RC_OK);
	ck_assert_int_eq(admin_query_check(STR_NULL, "limit cursor", &err), RC_OK);
	ck_assert_int_eq(admin_query_check(STR("limit=1&cursor=c61&"), "limit cursor", &err),
			 RC_OK);
	ck_assert_int_eq(admin_query_check(STR("limit=1&limits=2"), "limit cursor", &err),
			 RC_INVALID);
	ck_assert_str_eq(err.code, "unknown_parameter");
	ck_assert_str_eq(err.field, "limits");
	ck_assert_int_eq(admin_query_check(STR("=1"), "limit cursor", &err), RC_INVALID);
	ck_assert_int_eq(admin_query_check(STR("x"), "", &err), RC_INVALID);
	ck_assert_int_eq(admin_query_check(STR("limit=1&cursor=c61&limit=1"), "limit cursor", &err),
			 RC_INVALID);
	ck_assert_str_eq(err.code, "repeated_parameter");
	ck_assert_str_eq(err.field, "limit");
	ck_assert_int_eq(admin_query_check(STR("limit&limit"), "limit", &err), RC_INVALID);
}
END_TEST

static void meta_is(const char *from, const char *want)
{
	struct buf out = BUF_INIT(4096);

	ck_assert_int_eq(admin_meta(mem, str_from(from), &out), RC_OK);
	ck_assert_msg(str_is(buf_str(&out), want), "%s gave %s", from, out.ptr);
	buf_clear(&out);
}

START_TEST(meta_hides_the_key)
{
	struct buf out = BUF_INIT(4096);

	meta_is("\"next_cursor\":\"abc\"", "\"next_cursor\":\"c616263\"");
	meta_is("\"next_cursor\":null", "\"next_cursor\":null");
	meta_is("\"total\":\"1.00\",\"next_cursor\":\"a\"",
		"\"total\":\"1.00\",\"next_cursor\":\"c61\"");
	meta_is("abc", "\"next_cursor\":\"c616263\"");
	meta_is(NULL, "\"next_cursor\":null");
	ck_assert_int_ne(admin_meta(mem, STR("\"a\":1}, {"), &out), RC_OK);
	buf_clear(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("admin");
	TCase *t = tcase_create("admin");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, body_takes_known_fields_and_names_an_unknown_one);
	tcase_add_test(t, body_must_be_one_object_without_duplicates);
	tcase_add_test(t, str_field);
	tcase_add_test(t, int_and_bool_fields);
	tcase_add_test(t, page_limits);
	tcase_add_test(t, cursor_goes_out_and_comes_back);
	tcase_add_test(t, query_names);
	tcase_add_test(t, meta_hides_the_key);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
