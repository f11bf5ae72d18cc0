/* test_errors.c - from a refusal to status, headers and body: interface.md's table, row by row. */
#include "routing/errors.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define BODY_BYTES 65536

static const struct {
	const char *code;
	enum rc rc;
	int wait; /* err.retry_after_s */
	int status;
	const char *shown, *type;
	enum error_retry retry;
	int retry_after;
} rows[] = {
	{"invalid_api_key", RC_DENIED, 0, 401, "invalid_api_key", "authentication_error", RETRY_NO,
	 0},
	{"permission_denied", RC_DENIED, 0, 403, "permission_denied", "permission_error", RETRY_NO,
	 0},
	{"model_not_found", RC_NOT_FOUND, 0, 404, "model_not_found", "invalid_request_error",
	 RETRY_NO, 0},
	{"invalid_request_error", RC_INVALID, 0, 400, "invalid_request_error",
	 "invalid_request_error", RETRY_NO, 0},
	{"context_length_exceeded", RC_INVALID, 0, 400, "context_length_exceeded",
	 "invalid_request_error", RETRY_NO, 0},
	{"request_too_large", RC_TOO_LARGE, 0, 413, "request_too_large", "invalid_request_error",
	 RETRY_NO, 0},
	{"insufficient_quota", RC_LIMIT, 0, 429, "insufficient_quota", "insufficient_quota",
	 RETRY_NO, 0},
	{"insufficient_quota", RC_LIMIT, 9, 429, "insufficient_quota", "insufficient_quota",
	 RETRY_NO, 0},
	{"rate_limit_exceeded", RC_LIMIT, 17, 429, "rate_limit_exceeded", "rate_limit_error",
	 RETRY_YES, 17},
	{"rate_limit_exceeded", RC_LIMIT, 0, 429, "rate_limit_exceeded", "rate_limit_error",
	 RETRY_YES, 1},
	{"no_route", RC_UNAVAILABLE, 42, 429, "no_route", "rate_limit_error", RETRY_YES, 42},
	{"no_route", RC_UNAVAILABLE, 0, 503, "no_route", "server_error", RETRY_NO, 0},
	{"all_targets_failed", RC_NETWORK, 0, 502, "all_targets_failed", "server_error", RETRY_YES,
	 0},
	{"upstream_timeout", RC_TIMEOUT, 0, 504, "upstream_timeout", "server_error", RETRY_YES, 0},
	{"billing_unavailable", RC_UNAVAILABLE, 0, 503, "billing_unavailable", "server_error",
	 RETRY_YES, 5},
	{"billing_unavailable", RC_UNAVAILABLE, 2, 503, "billing_unavailable", "server_error",
	 RETRY_YES, 2},
	/* a finer code of ours: by its rc */
	{"invalid_json", RC_INVALID, 0, 400, "invalid_request_error", "invalid_request_error",
	 RETRY_NO, 0},
	{"some_new_code", RC_INVALID, 0, 400, "invalid_request_error", "invalid_request_error",
	 RETRY_NO, 0},
	{"some_new_code", RC_TOO_LARGE, 0, 413, "request_too_large", "invalid_request_error",
	 RETRY_NO, 0},
	{"some_new_code", RC_LIMIT, 3, 429, "rate_limit_exceeded", "rate_limit_error", RETRY_YES,
	 3},
	{"some_new_code", RC_NOT_FOUND, 0, 404, "not_found", "invalid_request_error", RETRY_NO, 0},
	{"some_new_code", RC_DENIED, 0, 403, "permission_denied", "permission_error", RETRY_NO, 0},
	{"some_new_code", RC_TIMEOUT, 0, 504, "upstream_timeout", "server_error", RETRY_YES, 0},
	{"some_new_code", RC_UNAVAILABLE, 0, 503, "unavailable", "server_error", RETRY_YES, 1},
	{"some_new_code", RC_CORRUPT, 0, 500, "internal_error", "server_error", RETRY_UNSAID, 0},
	{"some_new_code", RC_IO, 0, 500, "internal_error", "server_error", RETRY_UNSAID, 0},
	{"some_new_code", RC_UNSUPPORTED, 0, 501, "not_supported", "server_error", RETRY_NO, 0},
	/* the front */
	{"unauthenticated", RC_DENIED, 0, 401, "invalid_api_key", "authentication_error", RETRY_NO,
	 0},
	{"unsupported_encoding", RC_INVALID, 0, 415, "unsupported_encoding",
	 "invalid_request_error", RETRY_NO, 0},
	{"method_not_implemented", RC_INVALID, 0, 501, "method_not_implemented", "server_error",
	 RETRY_NO, 0},
	{"version_not_supported", RC_INVALID, 0, 505, "version_not_supported", "server_error",
	 RETRY_NO, 0},
	{"not_found", RC_NOT_FOUND, 0, 404, "not_found", "invalid_request_error", RETRY_NO, 0},
	{"method_not_allowed", RC_INVALID, 0, 405, "method_not_allowed", "invalid_request_error",
	 RETRY_NO, 0},
	{"length_required", RC_INVALID, 0, 411, "length_required", "invalid_request_error",
	 RETRY_NO, 0},
	{"unsupported_media_type", RC_INVALID, 0, 415, "unsupported_media_type",
	 "invalid_request_error", RETRY_NO, 0},
	{"request_timeout", RC_TIMEOUT, 0, 408, "request_timeout", "invalid_request_error",
	 RETRY_YES, 0},
	{"target_too_long", RC_TOO_LARGE, 0, 414, "target_too_long", "invalid_request_error",
	 RETRY_NO, 0},
	{"header_too_large", RC_TOO_LARGE, 0, 431, "header_too_large", "invalid_request_error",
	 RETRY_NO, 0},
	{"bad_expect", RC_INVALID, 0, 417, "bad_expect", "invalid_request_error", RETRY_NO, 0},
	/* a provider about the request */
	{"unsupported_parameter", RC_INVALID, 0, 400, "unsupported_parameter",
	 "invalid_request_error", RETRY_NO, 0},
	{"content_policy_violation", RC_INVALID, 0, 400, "content_policy_violation",
	 "invalid_request_error", RETRY_NO, 0},
};

START_TEST(answer_per_code)
{
	struct error_answer a;
	struct err e = {0};

	(void)err_set(&e, rows[_i].rc, rows[_i].code, "words");
	e.retry_after_s = rows[_i].wait;
	a = error_answer(rows[_i].rc, &e, ERROR_SHAPE_OPENAI);
	ck_assert_int_eq(a.status, rows[_i].status);
	ck_assert_str_eq(a.code, rows[_i].shown);
	ck_assert_str_eq(a.type, rows[_i].type);
	ck_assert_int_eq(a.should_retry, rows[_i].retry);
	ck_assert_int_eq(a.retry_after_s, rows[_i].retry_after);
}
END_TEST

START_TEST(answer_without_words)
{
	ck_assert_int_eq(error_answer(RC_INVALID, NULL, ERROR_SHAPE_OPENAI).status, 400);
	ck_assert_int_eq(error_answer(RC_OK, NULL, ERROR_SHAPE_OPENAI).status, 500);
	for (int rc = 0; rc <= RC_IO; rc++) {
		struct error_answer a = error_answer((enum rc)rc, NULL, ERROR_SHAPE_OPENAI);

		ck_assert(a.status >= 400 && a.status < 600);
	}
}
END_TEST

START_TEST(body_in_openai_shape)
{
	static const char want[] =
		"{\"error\":{\"message\":\"No such model.\",\"type\":\"invalid_request_error\","
		"\"param\":\"model\",\"code\":\"model_not_found\"},\"tollgate\":{\"code\":"
		"\"model_not_found\",\"reason\":\"model_not_found\",\"hint\":\"Look.\","
		"\"request_id\":\"req_1\",\"targets\":[]}}";
	struct buf body = BUF_INIT(BODY_BYTES);
	struct err e = {0};

	(void)err_set(&e, RC_NOT_FOUND, "model_not_found", "No such model.");
	err_field(&e, "model");
	err_hint(&e, "Look.");
	err_detail(&e, "for the log alone");
	ck_assert_int_eq(
		error_render(RC_NOT_FOUND, &e, "req_1", ERROR_SHAPE_OPENAI, STR_NULL, &body), 404);
	ck_assert_str_eq(body.ptr, want);
	buf_reset(&body);
	ck_assert_int_eq(
		error_render(RC_NOT_FOUND, &e, "req_1", ERROR_SHAPE_OPENAI, STR(""), &body), 404);
	ck_assert_str_eq(body.ptr, want);
	buf_clear(&body);
}
END_TEST

/* Google's own detail; no shape's hint speaks of a member that another shape has. */
START_TEST(field_in_gemini_shape)
{
	static const char detail[] =
		"{\"@type\":\"type.googleapis.com/google.rpc.BadRequest\",\"fieldViolations\":[{"
		"\"field\":\"contents\",\"description\":\"contents is required.\"}]}";
	struct buf body = BUF_INIT(BODY_BYTES);
	struct err e = {0};

	(void)err_set(&e, RC_INVALID, "invalid_request_error", "contents is required.");
	for (int field = 0; field < 2; field++) {
		buf_reset(&body);
		if (field)
			err_field(&e, "contents");
		ck_assert_int_eq(
			error_render(RC_INVALID, &e, "req_1", ERROR_SHAPE_GEMINI, STR(""), &body),
			400);
		ck_assert_int_eq(strstr(body.ptr, detail) != NULL, field);
		ck_assert(!strstr(body.ptr, "error.param"));
	}
	buf_clear(&body);
}
END_TEST

START_TEST(body_with_more_members)
{
	struct buf body = BUF_INIT(BODY_BYTES);
	struct arena *mem = arena_new(1u << 20);
	struct json *root, *t;
	struct str s;
	struct err e = {0};

	(void)err_set(&e, RC_INVALID, "invalid_json", "bad \"thing\"\n\x01");
	ck_assert_int_eq(error_render(RC_INVALID, &e, "req_2", ERROR_SHAPE_OPENAI,
				      STR("\"needed\":\"1.5\",\"targets\":[{\"target\":\"a/b\"}]"),
				      &body),
			 400);
	ck_assert_int_eq(json_parse(buf_str(&body), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	t = json_get(root, "tollgate");
	ck_assert(json_string(json_get(t, "code"), &s) && str_is(s, "invalid_request_error"));
	ck_assert(json_string(json_get(t, "reason"), &s) && str_is(s, "invalid_json"));
	ck_assert(json_string(json_get(t, "needed"), &s) && str_is(s, "1.5"));
	ck_assert_uint_eq(json_len(json_get(t, "targets")), 1);
	ck_assert(json_string(json_get(t, "hint"), &s) && s.len > 0); /* never without one */
	ck_assert(json_is_null(json_get(json_get(root, "error"), "param")));
	arena_free(mem);
	buf_clear(&body);
}
END_TEST

START_TEST(body_without_words)
{
	struct buf body = BUF_INIT(BODY_BYTES);
	struct arena *mem = arena_new(1u << 20);
	struct json *root;

	ck_assert_int_eq(error_render(RC_IO, NULL, NULL, ERROR_SHAPE_OPENAI, STR_NULL, &body), 500);
	ck_assert_int_eq(json_parse(buf_str(&body), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	arena_free(mem);
	buf_clear(&body);
}
END_TEST

/* A body that does not fit is left out whole; the status holds. */
START_TEST(body_that_does_not_fit)
{
	struct err e = {0};

	(void)err_set(&e, RC_INVALID, "invalid_request_error", "words");
	for (size_t max = 0; max < 300; max++) {
		struct buf body = BUF_INIT(max);
		struct arena *mem = arena_new(1u << 20);
		struct json *root;

		ck_assert_int_eq(
			error_render(RC_INVALID, &e, "r", ERROR_SHAPE_OPENAI, STR_NULL, &body),
			400);
		ck_assert(body.len == 0 || json_parse(buf_str(&body), JSON_NO_DUPLICATES, mem,
						      &root, NULL) == RC_OK);
		arena_free(mem);
		buf_clear(&body);
	}
}
END_TEST

static const struct {
	enum error_class last;
	int wait;
	int status;
	const char *code;
	enum error_retry retry;
	int retry_after;
} failures[] = {
	{ERROR_rate_limit, 30, 429, "no_route", RETRY_YES, 30},
	{ERROR_rate_limit, 0, 429, "no_route", RETRY_YES, 1},
	{ERROR_timeout, 0, 504, "upstream_timeout", RETRY_YES, 0},
	{ERROR_invalid_request, 0, 400, "unsupported_value", RETRY_NO, 0},
	{ERROR_context_length, 0, 400, "unsupported_value", RETRY_NO, 0},
	{ERROR_content_policy, 0, 400, "unsupported_value", RETRY_NO, 0},
	{ERROR_auth, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_permission, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_quota, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_not_found, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_overloaded, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_server_error, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_network, 0, 502, "all_targets_failed", RETRY_YES, 0},
	{ERROR_protocol, 0, 502, "all_targets_failed", RETRY_YES, 0},
};

START_TEST(last_class_decides)
{
	struct err words = {0}, ret = {0};
	struct error_answer a;
	enum rc rc;

	(void)err_set(&words, RC_INVALID, "unsupported_value", "their words");
	err_detail(&words, "status 400: raw");
	rc = error_all_failed(failures[_i].last, &words, failures[_i].wait, &ret);
	ck_assert_int_ne(rc, RC_OK);
	a = error_answer(rc, &ret, ERROR_SHAPE_OPENAI);
	ck_assert_int_eq(a.status, failures[_i].status);
	ck_assert_str_eq(a.code, failures[_i].code);
	ck_assert_int_eq(a.should_retry, failures[_i].retry);
	ck_assert_int_eq(a.retry_after_s, failures[_i].retry_after);
	ck_assert_str_eq(ret.detail, "status 400: raw");
	ck_assert((a.status == 400) == (strcmp(ret.message, "their words") == 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("errors");
	TCase *tc = tcase_create("errors");

	tcase_add_loop_test(tc, answer_per_code, 0, ARRAY_LEN(rows));
	tcase_add_test(tc, answer_without_words);
	tcase_add_test(tc, body_in_openai_shape);
	tcase_add_test(tc, body_with_more_members);
	tcase_add_test(tc, field_in_gemini_shape);
	tcase_add_test(tc, body_without_words);
	tcase_add_test(tc, body_that_does_not_fit);
	tcase_add_loop_test(tc, last_class_decides, 0, ARRAY_LEN(failures));
	suite_add_tcase(s, tc);
	return suite_run(s);
}
