/* test_embeddings.c - embeddings in OpenAI's and Gemini's words: requests, vectors in both forms, usage, and each way
 * from one to the other. */
#include "routing/dialect.h"
#include "routing/provider.h"
#include "server/base/hash.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (8u << 20)
#define OUT_BYTES   (1u << 20)

static const struct dialect *const openai = &dialect_openai_embeddings;
static const struct dialect *const one = &dialect_gemini_embed;
static const struct dialect *const batch = &dialect_gemini_batch_embed;
static const struct call_head no_head, at_gemini = {.model = STR("gemini-embedding-001")};

static struct arena *mem;

static void setup(void)
{
	mem = arena_new(ARENA_BYTES);
}

static void teardown(void)
{
	arena_free(mem);
}

static struct call asked(const struct dialect *d, const char *body)
{
	struct call c = {.choices = 0};
	struct err err = {0};

	ck_assert_msg(d->decode_request(d == openai ? &no_head : &at_gemini, str_from(body), mem,
					&c, &err) == RC_OK,
		      "%s", err.message);
	return c;
}

static struct dialect_target target(const char *provider, const struct dialect *d,
				    const char *model)
{
	return (struct dialect_target){.provider = provider_find(str_from(provider)),
				       .dialect = d,
				       .model = str_from(model)};
}

/* --- requests ---------------------------------------------------------------------------------- */

static const struct {
	const struct dialect *d;
	const char *body, *field;
} bad[] = {
	{&dialect_openai_embeddings, "[]", ""},
	{&dialect_openai_embeddings, "{\"input\":\"a\"}", "model"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"model\":\"n\",\"input\":\"a\"}", ""},
	{&dialect_openai_embeddings, "{\"model\":\"m\"}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":\"\"}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[\"\"]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[\"a\",1]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[\"a\",[1]]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[1,\"a\"]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[-1]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[1.5]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":[[]]}", "input"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":{}}", "input"},
	{&dialect_openai_embeddings,
	 "{\"model\":\"m\",\"input\":\"a\",\"encoding_format\":\"int8\"}", "encoding_format"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":\"a\",\"encoding_format\":1}",
	 "encoding_format"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":\"a\",\"dimensions\":0}",
	 "dimensions"},
	{&dialect_openai_embeddings, "{\"model\":\"m\",\"input\":\"a\",\"dimensions\":16385}",
	 "dimensions"},
	{&dialect_gemini_embed, "{}", "content"},
	{&dialect_gemini_embed, "{\"content\":{\"parts\":[]}}", "content"},
	{&dialect_gemini_embed,
	 "{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"outputDimensionality\":\"8\"}",
	 "outputDimensionality"},
	{&dialect_gemini_batch_embed, "{\"content\":{\"parts\":[{\"text\":\"a\"}]}}", "requests"},
	{&dialect_gemini_batch_embed, "{\"requests\":[]}", "requests"},
	{&dialect_gemini_batch_embed, "{\"requests\":[1]}", "requests"},
};

START_TEST(bad_request_is_refused)
{
	struct call c = {.choices = 77};
	struct err err = {0};

	ck_assert_int_eq(
		bad[_i].d->decode_request(&at_gemini, str_from(bad[_i].body), mem, &c, &err),
		RC_INVALID);
	ck_assert_str_eq(err.field, bad[_i].field);
	ck_assert_ptr_nonnull(err.code);
	ck_assert_int_eq(c.choices, 77);
}
END_TEST

START_TEST(too_many_inputs_are_refused)
{
	AUTO(buf) struct buf b = BUF_INIT(OUT_BYTES);
	struct call c;
	struct err err = {0};

	ck_assert_int_eq(buf_append(&b, STR("{\"model\":\"m\",\"input\":[\"a\"")), RC_OK);
	for (int i = 0; i < 2047; i++)
		ck_assert_int_eq(buf_append(&b, STR(",\"a\"")), RC_OK);
	ck_assert_int_eq(buf_append(&b, STR("]}")), RC_OK);
	ck_assert_int_eq(openai->decode_request(&no_head, buf_str(&b), mem, &c, &err), RC_OK);
	ck_assert_int_eq(c.counts.inputs, 2048);
	b.len -= 2;
	ck_assert_int_eq(buf_append(&b, STR(",\"a\"]}")), RC_OK);
	ck_assert_int_eq(openai->decode_request(&no_head, buf_str(&b), mem, &c, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "input");
}
END_TEST

START_TEST(a_request_is_counted)
{
	struct call c = asked(openai, "{\"model\":\"m\",\"input\":[\"abc\",\"de\"]}");

	ck_assert_int_eq(c.operation, OPERATION_embeddings);
	ck_assert_int_eq(c.counts.inputs, 2);
	ck_assert_uint_eq(c.text_bytes, 5);
	c = asked(openai, "{\"model\":\"m\",\"input\":[1,2,3]}");
	ck_assert_int_eq(c.counts.inputs, 1);
	ck_assert_uint_eq(c.text_bytes, 12); /* three tokens, told as their bytes */
	c = asked(openai, "{\"model\":\"m\",\"input\":[[1,2],[3]]}");
	ck_assert_int_eq(c.counts.inputs, 2);
	c = asked(batch, "{\"requests\":[{\"content\":{\"parts\":[{\"text\":\"ab\"}]}},"
			 "{\"content\":{\"parts\":[{\"text\":\"c\"}]}}]}");
	ck_assert_int_eq(c.counts.inputs, 2);
	ck_assert_uint_eq(c.text_bytes, 3);
	ck_assert(!c.media_by_url);
	c = asked(one, "{\"content\":{\"parts\":[{\"inlineData\":{\"data\":\"AA\"}}]}}");
	ck_assert(c.media_by_url && (c.needs & CAP_VISION));
}
END_TEST

/* What goes out, and what had to be left out. */
static void goes_out(const struct dialect *from, const char *body, const char *provider,
		     const struct dialect *to, const char *want, const char *lost)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	AUTO(buf) struct buf names = BUF_INIT(OUT_BYTES);
	struct dialect_target t = target(provider, to, "there");
	struct outgoing o = {.body = &out};
	struct call c = asked(from, body);
	struct ask ask = {.operation = OPERATION_embeddings};
	struct err err = {0};

	if (from == to) {
		ck_assert_int_eq(to->encode_request(&c, &t, mem, &o, &err), RC_OK);
	} else {
		ck_assert_int_eq(from->decode_ask(&c, mem, &ask, &err), RC_OK);
		ck_assert_int_eq(to->encode_ask(&c, &ask, &t, mem, &o, &err), RC_OK);
	}
	ck_assert_str_eq(out.ptr, want);
	for (size_t i = 0; i < o.losses.count; i++)
		ck_assert_int_eq(
			buf_printf(&names, "%s%.*s", i ? "," : "", STR_FMT(o.losses.name[i])),
			RC_OK);
	ck_assert_str_eq(names.len ? names.ptr : "", lost);
}

START_TEST(the_same_dialect_passes_through)
{
	goes_out(openai, "{\"model\":\"there\", \"input\":\"a\",\"x\":1.10}", "openai", openai,
		 "{\"model\":\"there\", \"input\":\"a\",\"x\":1.10}", "");
	goes_out(openai, "{\"model\":\"m\",\"input\":[1,2],\"x\":1.10,\"dimensions\":8}", "openai",
		 openai, "{\"model\":\"there\",\"input\":[1,2],\"x\":1.10,\"dimensions\":8}", "");
	goes_out(one, "{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"y\":2}", "gemini", one,
		 "{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"y\":2}", "");
	goes_out(one, "{\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"a\"}]}}",
		 "gemini", one,
		 "{\"model\":\"models/there\",\"content\":{\"parts\":[{\"text\":\"a\"}]}}", "");
	goes_out(
		batch,
		"{\"requests\":[{\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"a\"}]},"
		"\"z\":1.50},{\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"b\"}]}}]}",
		"gemini", batch,
		"{\"requests\":[{\"model\":\"models/there\",\"content\":{\"parts\":[{\"text\":\"a\"}]},"
		"\"z\":1.50},{\"model\":\"models/there\",\"content\":{\"parts\":[{\"text\":\"b\"}]}}]}",
		"");
}
END_TEST

START_TEST(mistral_has_a_name_of_its_own_for_the_size)
{
	goes_out(openai, "{\"model\":\"m\",\"input\":\"a\",\"dimensions\":8,\"user\":\"u\"}",
		 "mistral", openai, "{\"model\":\"there\",\"input\":\"a\",\"output_dimension\":8}",
		 "user");
	goes_out(one, "{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"output_dimensionality\":4}",
		 "mistral", openai,
		 "{\"model\":\"there\",\"input\":[\"a\"],\"output_dimension\":4}", "");
}
END_TEST

START_TEST(openai_asks_gemini)
{
	goes_out(
		openai,
		"{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"dimensions\":8,\"user\":\"u\","
		"\"encoding_format\":\"base64\"}",
		"gemini", batch,
		"{\"requests\":[{\"model\":\"models/there\",\"content\":{\"parts\":[{\"text\":\"a\"}]},"
		"\"outputDimensionality\":8},{\"model\":\"models/there\",\"content\":{\"parts\":["
		"{\"text\":\"b\"}]},\"outputDimensionality\":8}]}",
		"user");
}
END_TEST

START_TEST(gemini_asks_openai)
{
	goes_out(one,
		 "{\"content\":{\"parts\":[{\"text\":\"a\"},{\"text\":\"b\"}]},\"task_type\":"
		 "\"RETRIEVAL_DOCUMENT\",\"title\":\"t\",\"outputDimensionality\":8}",
		 "openai", openai, "{\"model\":\"there\",\"input\":[\"a\\nb\"],\"dimensions\":8}",
		 "taskType,title");
}
END_TEST

static void cannot(const struct dialect *from, const char *body, const char *provider,
		   const struct dialect *to, const char *field)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct dialect_target t = target(provider, to, "there");
	struct outgoing o = {.body = &out};
	struct call c = asked(from, body);
	struct ask ask = {.operation = OPERATION_embeddings};
	struct err err = {0};
	enum rc rc = RC_OK;

	if (from == to)
		rc = to->encode_request(&c, &t, mem, &o, &err);
	else
		rc = from->decode_ask(&c, mem, &ask, &err);
	if (from != to && rc == RC_OK)
		rc = to->encode_ask(&c, &ask, &t, mem, &o, &err);
	ck_assert_int_eq(rc, RC_UNSUPPORTED);
	ck_assert_str_eq(err.field, field);
}

START_TEST(what_has_no_words_is_refused_by_name)
{
	cannot(openai, "{\"model\":\"m\",\"input\":[1,2]}", "gemini", batch, "input");
	cannot(openai, "{\"model\":\"m\",\"input\":[[1],[2]]}", "mistral", openai, "input");
	cannot(one, "{\"content\":{\"parts\":[{\"inlineData\":{\"data\":\"AA\"}}]}}", "openai",
	       openai, "content.parts");
	cannot(batch,
	       "{\"requests\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}},{\"content\":{\"parts\":["
	       "{\"text\":\"b\"}]},\"outputDimensionality\":4}]}",
	       "openai", openai, "requests.outputDimensionality");
}
END_TEST

/* --- answers ------------------------------------------------------------------------------------ */

static enum rc translated(const struct dialect *here, const struct call *c,
			  const struct dialect *there, const char *body, struct facts *f,
			  struct buf *out)
{
	struct dialect_target t = target(there == openai ? "openai" : "gemini", there, "there");
	struct dialect_ctx ctx = {
		.mem = mem, .keep = mem, .call = c, .target = &t, .translate = true};

	TRY(there->decode_response(&ctx, str_from(body), f));
	return f->error == ERROR_none ? here->encode_response(&ctx, f, out) : RC_OK;
}

START_TEST(usage_of_openai_is_what_was_embedded)
{
	struct facts f;
	struct dialect_ctx ctx = {.mem = mem};

	ck_assert_int_eq(
		openai->decode_response(
			&ctx,
			STR("{\"object\":\"list\",\"model\":\"x\",\"data\":[{\"index\":0,\"embedding\":"
			    "[1,2]}],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}"),
			&f),
		RC_OK);
	ck_assert(f.usage.present);
	ck_assert_int_eq(f.usage.n[USAGE_embed_tokens], 7);
	ck_assert_int_eq(f.usage.n[USAGE_in_text], 0);
	ck_assert_uint_eq(f.usage.flags, 0);
	ck_assert_int_eq(openai->decode_response(
				 &ctx, STR("{\"data\":[{\"embedding\":[1]}],\"usage\":null}"), &f),
			 RC_OK);
	ck_assert(!f.usage.present); /* absent is not zero */
	ck_assert_int_eq(openai->decode_response(&ctx,
						 STR("{\"data\":[{\"embedding\":[1]}],\"usage\":{"
						     "\"prompt_tokens\":-3,\"total_tokens\":-3}}"),
						 &f),
			 RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_embed_tokens], 0);
	ck_assert(f.usage.flags & USAGE_FLAG_CLAMPED);
}
END_TEST

START_TEST(gemini_answers_an_openai_caller_in_base64)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct call c = asked(openai, "{\"model\":\"m\",\"input\":[\"abcde\",\"b\"],"
				      "\"encoding_format\":\"base64\"}");
	struct facts f;

	/* 1.0 is 0000803f, -2.5 is 000020c0, 0.1 is cdcccc3d: little endian */
	ck_assert_int_eq(translated(openai, &c, batch,
				    "{\"embeddings\":[{\"values\":[1,-2.5]},{\"values\":[0.1,0]}]}",
				    &f, &out),
			 RC_OK);
	ck_assert(!f.usage.present);
	ck_assert_str_eq(
		out.ptr,
		"{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":"
		"\"AACAPwAAIMA=\"},{\"object\":\"embedding\",\"index\":1,\"embedding\":"
		"\"zczMPQAAAAA=\"}],\"model\":\"there\",\"usage\":{\"prompt_tokens\":2,"
		"\"total_tokens\":2}}");
}
END_TEST

START_TEST(gemini_answers_an_openai_caller_in_its_own_literals)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct call c = asked(openai, "{\"model\":\"m\",\"input\":\"a\"}");
	struct facts f;

	ck_assert_int_eq(translated(openai, &c, batch,
				    "{\"embeddings\":[{\"values\":[0.123456789012345678,1e-9,3]}],"
				    "\"usageMetadata\":{\"promptTokenCount\":5}}",
				    &f, &out),
			 RC_OK);
	ck_assert_int_eq(f.usage.n[USAGE_embed_tokens], 5);
	ck_assert_ptr_nonnull(strstr(out.ptr, "[0.123456789012345678,1e-9,3]"));
	ck_assert_ptr_nonnull(strstr(out.ptr, "\"prompt_tokens\":5,"));
}
END_TEST

START_TEST(openai_answers_a_gemini_caller)
{
	AUTO(buf) struct buf out = BUF_INIT(OUT_BYTES);
	struct call c = asked(one, "{\"content\":{\"parts\":[{\"text\":\"a\"}]}}");
	struct facts f;

	ck_assert_int_eq(translated(one, &c, openai,
				    "{\"data\":[{\"index\":0,\"embedding\":[0.5,1.25]}]}", &f,
				    &out),
			 RC_OK);
	ck_assert_str_eq(out.ptr, "{\"embedding\":{\"values\":[0.5,1.25]}}");
	buf_reset(&out);
	/* a server that answers in base64 unasked */
	ck_assert_int_eq(translated(one, &c, openai,
				    "{\"data\":[{\"index\":0,\"embedding\":\"AACAPwAAIMDNzMw9\"}]}",
				    &f, &out),
			 RC_OK);
	ck_assert_str_eq(out.ptr, "{\"embedding\":{\"values\":[1,-2.5,0.1]}}");
	buf_reset(&out);
	c = asked(batch, "{\"requests\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}},"
			 "{\"content\":{\"parts\":[{\"text\":\"b\"}]}}]}");
	ck_assert_int_eq(translated(batch, &c, openai,
				    "{\"data\":[{\"index\":1,\"embedding\":[2]},{\"index\":0,"
				    "\"embedding\":[1]}]}",
				    &f, &out),
			 RC_OK);
	ck_assert_str_eq(out.ptr, "{\"embeddings\":[{\"values\":[1]},{\"values\":[2]}]}");
}
END_TEST

static const struct {
	const struct dialect *d;
	const char *body;
} broken[] = {
	{&dialect_openai_embeddings, ""},
	{&dialect_openai_embeddings, "<html>"},
	{&dialect_openai_embeddings, "[]"},
	{&dialect_openai_embeddings, "{}"},
	{&dialect_openai_embeddings, "{\"data\":[]}"},
	{&dialect_openai_embeddings, "{\"data\":[{}]}"},
	{&dialect_openai_embeddings, "{\"data\":[{\"embedding\":{}}]}"},
	{&dialect_openai_embeddings, "{\"data\":[{\"embedding\":[1],\"index\":1}]}"},
	{&dialect_openai_embeddings, "{\"data\":[{\"embedding\":[1],\"index\":-1}]}"},
	{&dialect_openai_embeddings,
	 "{\"data\":[{\"embedding\":[1],\"index\":0},{\"embedding\":[1],\"index\":0}]}"},
	{&dialect_gemini_batch_embed, "{}"},
	{&dialect_gemini_batch_embed, "{\"embeddings\":[]}"},
	{&dialect_gemini_batch_embed, "{\"embeddings\":[{}]}"},
	{&dialect_gemini_embed, "{\"embedding\":{\"values\":1}}"},
};

START_TEST(a_broken_answer_is_told)
{
	struct dialect_ctx ctx = {.mem = mem};
	struct facts f;

	ck_assert_int_eq(broken[_i].d->decode_response(&ctx, str_from(broken[_i].body), &f),
			 RC_PROTOCOL);
}
END_TEST

START_TEST(a_text_without_its_vector_is_no_answer)
{
	struct call c = asked(openai, "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}");
	struct dialect_ctx ctx = {.mem = mem, .call = &c};
	struct facts f;

	ck_assert_int_eq(openai->decode_response(&ctx, STR("{\"data\":[{\"embedding\":[1]}]}"), &f),
			 RC_PROTOCOL);
	ck_assert_int_eq(
		batch->decode_response(&ctx, STR("{\"embeddings\":[{\"values\":[1]}]}"), &f),
		RC_PROTOCOL);
}
END_TEST

START_TEST(what_is_no_vector_is_told)
{
	static const char *const bad_values[] = {"[\"1\"]", "[null]", "[1e39]", "[true]"};
	struct json *v;
	struct str text;

	for (size_t i = 0; i < sizeof bad_values / sizeof *bad_values; i++) {
		ck_assert_int_eq(
			json_parse(str_from(bad_values[i]), JSON_ALLOW_DUPLICATES, mem, &v, NULL),
			RC_OK);
		ck_assert_int_eq(embed_base64(mem, &(struct embed_vector){.values = v}, &text),
				 RC_PROTOCOL);
	}
}
END_TEST

START_TEST(an_error_inside_a_good_answer_is_found)
{
	struct dialect_ctx ctx = {.mem = mem};
	struct facts f;

	ck_assert_int_eq(openai->decode_response(
				 &ctx, STR("{\"error\":{\"message\":\"x\",\"code\":429}}"), &f),
			 RC_OK);
	ck_assert_int_eq(f.error, ERROR_rate_limit);
}
END_TEST

START_TEST(a_bad_key_is_400_at_gemini)
{
	struct err err = {0};

	ck_assert_int_eq(
		one->classify(400,
			      STR("{\"error\":{\"code\":400,\"message\":\"API key not valid\","
				  "\"status\":\"INVALID_ARGUMENT\",\"details\":[{\"reason\":"
				  "\"API_KEY_INVALID\"}]}}"),
			      mem, &err),
		ERROR_auth);
	ck_assert_int_eq(
		one->classify(400,
			      STR("{\"error\":{\"code\":400,\"message\":\"bad\",\"status\":"
				  "\"INVALID_ARGUMENT\"}}"),
			      mem, &err),
		ERROR_invalid_request);
	ck_assert_int_eq(one->classify(429, STR("{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\"}}"),
				       mem, &err),
			 ERROR_rate_limit);
}
END_TEST

/* Each float32 that is written as a number reads back as itself. */
START_TEST(numbers_and_bits_are_the_same_vector)
{
	uint32_t bits = 12345;

	for (int i = 0; i < 2000; i++) {
		AUTO(buf) struct buf b64 = BUF_INIT(64), text = BUF_INIT(64);
		char raw[4];
		struct json *v;
		struct str back;

		bits = bits * 1664525u + 1013904223u;
		if ((bits & 0x7f800000u) == 0x7f800000u)
			continue;
		for (int k = 0; k < 4; k++)
			raw[k] = (char)(bits >> (8 * k));
		ck_assert_int_eq(base64_encode(str_of(raw, 4), &b64), RC_OK);
		ck_assert_int_eq(
			embed_values(mem, &(struct embed_vector){.base64 = buf_str(&b64)}, &text),
			RC_OK);
		ck_assert_int_eq(json_parse(buf_str(&text), JSON_ALLOW_DUPLICATES, mem, &v, NULL),
				 RC_OK);
		ck_assert_int_eq(embed_base64(mem, &(struct embed_vector){.values = v}, &back),
				 RC_OK);
		ck_assert(str_eq(back, buf_str(&b64)));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("embeddings");
	TCase *t = tcase_create("embeddings");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, bad_request_is_refused, 0, sizeof bad / sizeof *bad);
	tcase_add_test(t, too_many_inputs_are_refused);
	tcase_add_test(t, a_request_is_counted);
	tcase_add_test(t, the_same_dialect_passes_through);
	tcase_add_test(t, mistral_has_a_name_of_its_own_for_the_size);
	tcase_add_test(t, openai_asks_gemini);
	tcase_add_test(t, gemini_asks_openai);
	tcase_add_test(t, what_has_no_words_is_refused_by_name);
	tcase_add_test(t, usage_of_openai_is_what_was_embedded);
	tcase_add_test(t, gemini_answers_an_openai_caller_in_base64);
	tcase_add_test(t, gemini_answers_an_openai_caller_in_its_own_literals);
	tcase_add_test(t, openai_answers_a_gemini_caller);
	tcase_add_loop_test(t, a_broken_answer_is_told, 0, sizeof broken / sizeof *broken);
	tcase_add_test(t, a_text_without_its_vector_is_no_answer);
	tcase_add_test(t, what_is_no_vector_is_told);
	tcase_add_test(t, an_error_inside_a_good_answer_is_found);
	tcase_add_test(t, a_bad_key_is_400_at_gemini);
	tcase_add_test(t, numbers_and_bits_are_the_same_vector);
	suite_add_tcase(s, t);
	return suite_run(s);
}
