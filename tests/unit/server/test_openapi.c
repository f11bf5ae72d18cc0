/* Tables and descriptions merged: what is written, and what is missed. And that nothing is missed in the real ones. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "billing/billing.h"
#include "routing/routing.h"
#include "server/base/json.h"
#include "server/openapi.h"
#include "server/service.h"
#include "vault/vault.h"

static struct arena *mem;
static struct buf doc, gaps;

static void setup(void)
{
	mem = arena_new(16u << 20);
	doc = BUF_INIT(4u << 20);
	gaps = BUF_INIT(64u << 10);
}

static void teardown(void)
{
	buf_clear(&doc);
	buf_clear(&gaps);
	arena_free(mem);
}

static void nothing(struct http_request *r)
{
}

static const struct endpoint things[] = {
	{"GET", "/admin/v1/orgs/{org}/things", SURFACE_ADMIN, 3, 0, false, nothing, "Things"},
	{"POST", "/admin/v1/orgs/{org}/things", SURFACE_ADMIN, 1, 0, true, nothing, "Make one"},
	{"GET", "/things/{thing...}", SURFACE_DATA, ROLES_ANYONE, 0, false, nothing, "One"},
	{.method = NULL}};
static const struct endpoint *const tables[] = {things, NULL};

static const char floor_json[] =
	"{\"document\":{\"info\":{\"title\":\"t\"},\"servers\":[]},"
	"\"parameters\":{\"org\":{},\"thing\":{},\"limit\":{},\"cursor\":{},\"idempotency-key\":{}},"
	"\"headers\":{\"x-request-id\":{}},\"schemas\":{\"Meta\":{},\"MetaPage\":{}},"
	"\"responses\":{\"400\":{},\"401\":{},\"403\":{},\"404\":{},\"409\":{},\"411\":{},\"413\":{},"
	"\"415\":{},\"429\":{},\"503\":{}}}";

static const char *role(uint32_t bit)
{
	return bit == 1 ? "first" : bit == 2 ? "second" : NULL;
}

static enum rc write_with(const char *operations, struct err *err)
{
	const struct openapi_fragment fragments[] = {
		{"floor", floor_json}, {"room", operations}, {NULL, NULL}};

	return openapi_write(&(struct openapi_input){.tables = tables,
						     .fragments = fragments,
						     .version = "v1",
						     .role_name = role},
			     &doc, &gaps, err);
}

static struct json *written(void)
{
	struct json *v = NULL;
	struct err err = {0};

	ck_assert_int_eq(json_parse(buf_str(&doc), JSON_NO_DUPLICATES, mem, &v, &err), RC_OK);
	return v;
}

static const char whole[] =
	"{\"operations\":{"
	"\"GET /admin/v1/orgs/{org}/things\":{\"operationId\":\"listThings\",\"list\":true,"
	"\"query\":{\"of\":{\"description\":\"d\",\"schema\":{\"type\":\"string\"}}},"
	"\"response\":{\"type\":\"array\"}},"
	"\"POST /admin/v1/orgs/{org}/things\":{\"operationId\":\"makeThing\",\"status\":201,"
	"\"request\":{\"type\":\"object\"},\"response\":{\"type\":\"object\"},\"errors\":[409,400]},"
	"\"GET /things/{thing...}\":{\"operationId\":\"getThing\",\"plain\":true,"
	"\"response\":{\"type\":\"string\"}}}}";

START_TEST(tables_and_descriptions_make_a_document)
{
	const struct json *paths, *list, *make, *one, *answer;
	struct err err = {0};
	struct str s;

	ck_assert_int_eq(write_with(whole, &err), RC_OK);
	ck_assert_str_eq(gaps.len ? gaps.ptr : "", "");
	paths = json_get(written(), "paths");
	ck_assert_uint_eq(json_len(paths), 2); /* two methods of one path are one path */
	list = json_get(json_get(paths, "/admin/v1/orgs/{org}/things"), "get");
	make = json_get(json_get(paths, "/admin/v1/orgs/{org}/things"), "post");
	one = json_get(json_get(paths, "/things/{thing}"), "get");
	ck_assert_uint_eq(json_len(json_get(list, "x-roles")), 2);
	ck_assert_uint_eq(json_len(json_get(make, "x-roles")), 1);
	ck_assert_ptr_null(json_get(list, "security"));
	ck_assert_ptr_nonnull(json_get(one, "security")); /* empty: anyone */
	/* {org}, of, limit, cursor */
	ck_assert_uint_eq(json_len(json_get(list, "parameters")), 4);
	ck_assert(json_string(json_at(json_get(list, "tags"), 0), &s) && str_is(s, "things"));
	ck_assert(json_string(json_get(one, "x-path"), &s) && str_is(s, "/things/{thing...}"));
	answer = json_get(make, "responses");
	ck_assert_ptr_null(json_get(answer, "200"));
	ck_assert_ptr_nonnull(json_get(answer, "201"));
	ck_assert_ptr_nonnull(json_get(answer, "409"));
	ck_assert_ptr_nonnull(json_get(answer, "411")); /* it takes a body */
	ck_assert_ptr_null(json_get(json_get(list, "responses"), "411"));
	ck_assert_ptr_nonnull(json_get(json_get(one, "responses"), "default"));
	ck_assert(json_string(json_get(json_get(written(), "info"), "version"), &s) &&
		  str_is(s, "v1"));
}
END_TEST

static void expect_gap(const char *operations, const char *words)
{
	struct err err = {0};

	buf_reset(&doc);
	buf_reset(&gaps);
	ck_assert_int_eq(write_with(operations, &err), RC_OK);
	if (!gaps.len || !strstr(gaps.ptr, words))
		ck_abort_msg("wanted \"%s\" in: %s", words, gaps.len ? gaps.ptr : "(no gaps)");
	(void)written(); /* a document all the same */
}

START_TEST(what_is_missing_is_named)
{
	expect_gap("{\"operations\":{}}",
		   "GET /admin/v1/orgs/{org}/things: no room's openapi.json");
	ck_assert_ptr_nonnull(strstr(doc.ptr, "\"x-undescribed\":true"));
	expect_gap("{\"operations\":{\"GET /gone\":{\"operationId\":\"gone\"}}}",
		   "GET /gone: described by room/openapi.json, served by no table");
	expect_gap("{\"operations\":{\"POST /admin/v1/orgs/{org}/things\":{\"response\":{}}}}",
		   "POST /admin/v1/orgs/{org}/things: no operationId");
	expect_gap(
		"{\"operations\":{\"POST /admin/v1/orgs/{org}/things\":{\"operationId\":\"a\"}}}",
		"needs a body");
	expect_gap("{\"operations\":{\"GET /admin/v1/orgs/{org}/things\":{\"operationId\":\"a\","
		   "\"respons\":{}}}}",
		   "nobody reads \"respons\"");
	expect_gap("{\"operations\":{\"GET /admin/v1/orgs/{org}/things\":{\"operationId\":\"a\","
		   "\"errors\":[418]}}}",
		   "no room describes the error 418");
	expect_gap("{\"operations\":{},\"schemas\":{\"Meta\":{}}}",
		   "schemas Meta: room/openapi.json is not the first");
	expect_gap("{\"operation\":{}}", "room/openapi.json: nobody reads \"operation\"");
}
END_TEST

START_TEST(a_fragment_that_is_no_json_is_refused)
{
	struct err err = {0};

	ck_assert_int_eq(write_with("{\"operations\":{}", &err), RC_INVALID);
	ck_assert_ptr_nonnull(strstr(err.message, "room/openapi.json"));
	ck_assert_int_eq(write_with("{\"operations\":{},\"operations\":{}}", &err), RC_INVALID);
}
END_TEST

START_TEST(every_endpoint_of_the_binary_is_described)
{
	static const struct module *const modules[] = {&vault_module, &billing_module,
						       &routing_module, NULL};
	struct err err = {0};

	ck_assert_int_eq(
		openapi_write(&(struct openapi_input){.tables = service_endpoint_tables(modules),
						      .fragments = openapi_fragments,
						      .version = "v1"},
			      &doc, &gaps, &err),
		RC_OK);
	if (gaps.len)
		ck_abort_msg("%s", gaps.ptr);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openapi");
	TCase *t = tcase_create("openapi");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, tables_and_descriptions_make_a_document);
	tcase_add_test(t, what_is_missing_is_named);
	tcase_add_test(t, a_fragment_that_is_no_json_is_refused);
	tcase_add_test(t, every_endpoint_of_the_binary_is_described);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
