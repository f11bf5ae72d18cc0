/* tests/unit/server/http/test_route.c - which path is whose, and that no second spelling is anyone's. */
#include <check.h>
#include <stdlib.h>
#include "server/http/http.h"
#include "server/http/http_priv.h"

static void nothing(struct http_request *r)
{
	(void)r;
}

/* clang-format off */
#define E(m, p, s) {.method = (m), .path = (p), .surface = (s), .handle = nothing}
/* clang-format on */
static const struct endpoint one[] = {E("GET", "/healthz", SURFACE_DATA | SURFACE_ADMIN),
				      E("HEAD", "/", SURFACE_DATA),
				      E("GET", "/v1/models", SURFACE_DATA),
				      E("GET", "/v1/models/{id...}", SURFACE_DATA),
				      E("POST", "/v1/messages", SURFACE_DATA),
				      E("POST", "/v1/messages/count_tokens", SURFACE_DATA),
				      {.path = NULL}};
static const struct endpoint two[] = {
	E("POST", "/v1beta/models/{model...}:generateContent", SURFACE_DATA),
	E("POST", "/v1beta/models/{model...}:streamGenerateContent", SURFACE_DATA),
	E("GET", "/admin/v1/orgs/{org}", SURFACE_ADMIN),
	E("PATCH", "/admin/v1/orgs/{org}", SURFACE_ADMIN),
	E("GET", "/admin/v1/orgs/{org}/profiles/{id}", SURFACE_ADMIN),
	E("PUT", "/admin/v1/orgs/{org}/profiles/{id}/default", SURFACE_ADMIN),
	E("GET", "/admin/v1/orgs/{org}/{any}", SURFACE_ADMIN),
	E("GET", "/admin/v1/orgs/{org}/credits", SURFACE_ADMIN),
	E("PUT", "/admin/v1/prices/{provider}/{model...}", SURFACE_ADMIN),
	{.path = NULL}};
static const struct endpoint *const tables[] = {one, two, NULL};

static const struct {
	enum surface s;
	const char *method, *path, *pattern; /* NULL: none */
	const char *p0, *p1;
} rows[] = {
	{SURFACE_DATA, "GET", "/healthz", "/healthz", NULL, NULL},
	{SURFACE_DATA, "HEAD", "/healthz", "/healthz", NULL, NULL},
	{SURFACE_DATA, "HEAD", "/", "/", NULL, NULL},
	{SURFACE_DATA, "GET", "/", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models", "/v1/models", NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/a", "/v1/models/{id...}", "a", NULL},
	{SURFACE_DATA, "GET", "/v1/models/a/b:c", "/v1/models/{id...}", "a/b:c", NULL},
	{SURFACE_DATA, "GET", "/v1/models/", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "//v1/models", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1//models", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/V1/models", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models;x", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/a;x", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/%3b", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/%6dodels", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/./models", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/..", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/%2e%2e/admin", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/.%2E/admin", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/a%2f..%2fb", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/v1/models/a%2fb", "/v1/models/{id...}", "a%2fb", NULL},
	{SURFACE_DATA, "GET", "/v1/models/...", "/v1/models/{id...}", "...", NULL},
	{SURFACE_DATA, "GET", "v1/models", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "", NULL, NULL, NULL},
	{SURFACE_DATA, "POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", NULL,
	 NULL},
	{SURFACE_DATA, "POST", "/v1beta/models/a/b:c:generateContent",
	 "/v1beta/models/{model...}:generateContent", "a/b:c", NULL},
	{SURFACE_DATA, "POST", "/v1beta/models/a:streamGenerateContent",
	 "/v1beta/models/{model...}:streamGenerateContent", "a", NULL},
	{SURFACE_DATA, "POST", "/v1beta/models/:generateContent", NULL, NULL, NULL},
	{SURFACE_DATA, "GET", "/admin/v1/orgs/x", NULL, NULL, NULL},
	{SURFACE_ADMIN, "GET", "/v1/models", NULL, NULL, NULL},
	{SURFACE_ADMIN, "GET", "/admin/v1/orgs/x", "/admin/v1/orgs/{org}", "x", NULL},
	{SURFACE_ADMIN, "GET", "/admin/v1/orgs/x/profiles/y", "/admin/v1/orgs/{org}/profiles/{id}",
	 "x", "y"},
	{SURFACE_ADMIN, "PUT", "/admin/v1/orgs/x/profiles/y/default",
	 "/admin/v1/orgs/{org}/profiles/{id}/default", "x", "y"},
	{SURFACE_ADMIN, "GET", "/admin/v1/orgs/x/credits", "/admin/v1/orgs/{org}/credits", "x",
	 NULL},
	{SURFACE_ADMIN, "GET", "/admin/v1/orgs/x/other", "/admin/v1/orgs/{org}/{any}", "x",
	 "other"},
	{SURFACE_ADMIN, "PUT", "/admin/v1/prices/p/a/b", "/admin/v1/prices/{provider}/{model...}",
	 "p", "a/b"},
	{SURFACE_ADMIN, "GET", "/admin/v1/orgs//credits", NULL, NULL, NULL},
};

START_TEST(table)
{
	struct str params[HTTP_PATH_PARAMS_MAX] = {STR_NULL};
	const struct endpoint *e = http_route(tables, rows[_i].s, str_from(rows[_i].method),
					      str_from(rows[_i].path), params, NULL);

	ck_assert_msg((e != NULL) == (rows[_i].pattern != NULL), "%s", rows[_i].path);
	if (!e)
		return;
	ck_assert_str_eq(e->path, rows[_i].pattern);
	ck_assert_msg(!rows[_i].p0 || str_is(params[0], rows[_i].p0), "%s", rows[_i].path);
	ck_assert_msg(!rows[_i].p1 || str_is(params[1], rows[_i].p1), "%s", rows[_i].path);
	ck_assert(rows[_i].p0 || !params[0].ptr);
}
END_TEST

START_TEST(allowed_methods)
{
	struct str params[HTTP_PATH_PARAMS_MAX];
	struct buf b = BUF_INIT(100);

	ck_assert(!http_route(tables, SURFACE_ADMIN, STR("POST"), STR("/admin/v1/orgs/x"), params,
			      &b));
	ck_assert_str_eq(b.ptr, "GET, HEAD, PATCH");
	buf_reset(&b);
	ck_assert(!http_route(tables, SURFACE_DATA, STR("POST"), STR("/nowhere"), params, &b));
	ck_assert_uint_eq(b.len, 0);
	buf_clear(&b);
}
END_TEST

START_TEST(aliases)
{
	static const char *const t[][2] = {{"/openai/v1/models", "/v1/models"},
					   {"/openai/v1", "/v1"},
					   {"/openai/v1beta", "/openai/v1beta"},
					   {"/openai/v2", "/openai/v2"},
					   {"/anthropic/v1/messages", "/v1/messages"},
					   {"/anthropic", "/"},
					   {"/anthropicx/v1", "/anthropicx/v1"},
					   {"/genai/v1beta/models", "/v1beta/models"},
					   {"/genai/anthropic/v1", "/anthropic/v1"},
					   {"/v1/models", "/v1/models"}};

	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
		ck_assert_msg(str_is(http_alias(str_from(t[i][0])), t[i][1]), "%s", t[i][0]);
}
END_TEST

START_TEST(query_and_headers)
{
	struct http_header h[] = {{STR("X-A"), STR("1")}, {STR("x-a"), STR("2")}};
	struct http_request r = {.headers = h,
				 .headers_count = 2,
				 .mem = arena_new(1 << 16),
				 .query = STR("a=1&b=x%20y+z&empty=&flag&%61b=%zz%4")};

	ck_assert(str_is(http_header(&r, "x-a"), "1"));
	ck_assert(!http_header(&r, "x-b").ptr);
	ck_assert(str_is(http_query(&r, "a"), "1"));
	ck_assert(str_is(http_query(&r, "b"), "x y z"));
	ck_assert(http_query(&r, "empty").ptr && http_query(&r, "empty").len == 0);
	ck_assert(http_query(&r, "flag").ptr && http_query(&r, "flag").len == 0);
	ck_assert(str_is(http_query(&r, "ab"), "%zz%4"));
	ck_assert(!http_query(&r, "c").ptr);
	arena_free(r.mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http route");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, table, 0, (int)(sizeof rows / sizeof rows[0]));
	tcase_add_test(t, allowed_methods);
	tcase_add_test(t, aliases);
	tcase_add_test(t, query_and_headers);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
