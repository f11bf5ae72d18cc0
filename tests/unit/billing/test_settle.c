/* What is sent to be booked: the hold's id, and the document of a charge. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "billing/billing_priv.h"
#include "server/base/json.h"

static struct billing_charge charge(void)
{
	struct billing_charge c = {
		.org = {uuid_v7()},
		.call = uuid_v7(),
		.attempt = 1,
		.source = BILLING_PLATFORM,
		.provider = STR("openai"),
		.model_requested = STR("fast"),
		.model_used = STR("gpt-5-mini"),
		.profile = STR("main"),
		.dialect = STR("openai_chat"),
		.usage = USAGE_NONE,
		.rated = true,
		.basis = BASIS_PROVIDER_USAGE,
		.attempts_json = STR("[{\"n\":1}]"),
		.plan_json = STR("{\"targets\":[]}"),
		.duration_ms = 12,
		.first_event_ms = -1,
	};
	c.usage.present = true;
	c.usage.n[USAGE_in_text] = 812;
	c.rating.lines = 1;
	c.rating.line[0] =
		(struct rating_line){USAGE_in_text, 812, 3000000000, 1000000, money_nano(2436000)};
	c.rating.amount = money_nano(2436000);
	c.rating.version = 12;
	return c;
}

static struct json *doc(const struct billing_charge *c, struct arena *mem, struct buf *out)
{
	struct json *j = NULL;
	struct err err = {0};

	ck_assert_int_eq(settle_doc(c, true, out), RC_OK);
	ck_assert_msg(json_parse(buf_str(out), JSON_NO_DUPLICATES, mem, &j, &err) == RC_OK,
		      "%s: %s", err.message, out->ptr);
	return j;
}

static void is_text(const struct json *j, const char *key, const char *want)
{
	struct str s = STR_NULL;

	ck_assert_msg(json_string(json_get(j, key), &s) && str_is(s, want), "%s: %.*s", key,
		      STR_FMT(s));
}

START_TEST(a_hold_has_one_id_per_attempt)
{
	struct uuid call = uuid_v7(), other = uuid_v7();

	ck_assert(uuid_eq(billing_hold_id(call, 1), billing_hold_id(call, 1)));
	ck_assert(!uuid_eq(billing_hold_id(call, 1), billing_hold_id(call, 2)));
	ck_assert(!uuid_eq(billing_hold_id(call, 1), billing_hold_id(call, 257)));
	ck_assert(!uuid_eq(billing_hold_id(call, 1), billing_hold_id(other, 1)));
	ck_assert(!uuid_is_zero(billing_hold_id(call, 1)));
}
END_TEST

START_TEST(a_document_says_what_a_person_asks)
{
	struct arena *mem = arena_new(1 << 20);
	AUTO(buf) struct buf out = BUF_INIT(BILLING_DOC_BYTES_MAX);
	struct billing_charge c = charge();
	struct json *j = doc(&c, mem, &out), *line;
	int64_t n;

	is_text(j, "status", "settled");
	is_text(j, "source", "platform");
	is_text(j, "basis", "provider_usage");
	is_text(j, "model_used", "gpt-5-mini");
	ck_assert(json_is_null(json_get(j, "agent")));
	ck_assert(json_is_null(json_get(j, "first_event_ms")));
	ck_assert(json_int(json_get(j, "price_version"), &n) && n == 12);
	ck_assert(json_int(json_get(j, "rated_amount"), &n) && n == 2436000);
	ck_assert(json_int(json_get(json_get(j, "usage"), "in_text"), &n) && n == 812);
	ck_assert_uint_eq(json_len(json_get(j, "usage")), 1);
	line = json_at(json_get(j, "lines"), 0);
	is_text(line, "class", "in_text");
	is_text(line, "price", "3");
	is_text(line, "amount", "0.002436000");
	ck_assert_uint_eq(json_len(json_get(j, "attempts")), 1);
	arena_free(mem);
}
END_TEST

START_TEST(absent_usage_and_price_stay_absent)
{
	struct arena *mem = arena_new(1 << 20);
	AUTO(buf) struct buf out = BUF_INIT(BILLING_DOC_BYTES_MAX);
	struct billing_charge c = charge();
	struct json *j;

	c.usage = USAGE_NONE;
	c.rated = false;
	c.void_call = true;
	c.source = BILLING_BYOK;
	j = doc(&c, mem, &out);
	is_text(j, "status", "void");
	is_text(j, "source", "byok");
	ck_assert(json_is_null(json_get(j, "usage")));
	ck_assert(json_is_null(json_get(j, "rated_amount")));
	ck_assert(json_is_null(json_get(j, "price_version")));
	ck_assert(json_is_null(json_get(j, "provider_cost_nano")));
	arena_free(mem);
}
END_TEST

START_TEST(an_amount_without_a_price_is_a_line_of_its_own)
{
	struct arena *mem = arena_new(1 << 20);
	AUTO(buf) struct buf out = BUF_INIT(BILLING_DOC_BYTES_MAX);
	struct billing_charge c = charge();
	struct json *j, *line;

	c.rating = (struct rating){.amount = money_nano(1500)};
	j = doc(&c, mem, &out);
	ck_assert_uint_eq(json_len(json_get(j, "lines")), 1);
	line = json_at(json_get(j, "lines"), 0);
	is_text(line, "class", "requests");
	is_text(line, "amount", "0.000001500");
	ck_assert(json_is_null(json_get(j, "price_version")));
	arena_free(mem);
}
END_TEST

START_TEST(nothing_a_peer_says_makes_it_unbookable)
{
	struct arena *mem = arena_new(16 << 20);
	AUTO(buf) struct buf out = BUF_INIT(BILLING_DOC_BYTES_MAX);
	struct billing_charge c = charge();
	char *huge = calloc(1, BILLING_DOC_PART_MAX + 3);
	struct json *j;

	memset(huge, ' ', BILLING_DOC_PART_MAX + 2);
	memcpy(huge, "[]", 2);
	c.model_used = str_of("a\0b\xff\x1f", 5);
	c.agent = str_of(huge, BILLING_DOC_PART_MAX);
	c.provider_request_id = STR("\xc3");
	c.plan_json = str_of(huge, BILLING_DOC_PART_MAX + 2);
	c.attempts_json = STR("[\"\\u0000\"]"); /* good JSON, but no jsonb */
	j = doc(&c, mem, &out);
	ck_assert_ptr_null(strstr(out.ptr, "\\u0000"));
	ck_assert(json_is_null(json_get(j, "plan")));
	ck_assert(json_is_null(json_get(j, "attempts")));
	ck_assert_uint_lt(out.len, 4096);
	free(huge);
	arena_free(mem);
}
END_TEST

START_TEST(sources_and_bases_have_names)
{
	enum billing_source s;

	ck_assert_int_eq(billing_source_parse(STR("byok"), &s), RC_OK);
	ck_assert_int_eq(s, BILLING_BYOK);
	ck_assert_int_eq(billing_source_parse(STR("Byok"), &s), RC_INVALID);
	ck_assert_str_eq(billing_source_name(BILLING_PRIVATE), "private");
	ck_assert_str_eq(billing_basis_name(BASIS_EST_PARTIAL), "est_partial");
	ck_assert_str_eq(billing_basis_name(BASIS_NONE), "none");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("billing/settle");
	TCase *t = tcase_create("settle");
	SRunner *r;
	int failed;

	tcase_add_test(t, a_hold_has_one_id_per_attempt);
	tcase_add_test(t, a_document_says_what_a_person_asks);
	tcase_add_test(t, absent_usage_and_price_stay_absent);
	tcase_add_test(t, an_amount_without_a_price_is_a_line_of_its_own);
	tcase_add_test(t, nothing_a_peer_says_makes_it_unbookable);
	tcase_add_test(t, sources_and_bases_have_names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
