/* test_gemini_reply.c - answers of others, as callers of the Gemini dialect get them. */
#include "server/base/json.h"
#include "tests/unit/routing/dialects/gemini_test.h"

static const struct dialect *const d = &dialect_gemini;

struct writing {
	struct arena *mem;
	struct call call;
	struct dialect_target target;
	struct dialect_ctx ctx;
	struct facts f;
	struct buf out;
};

static void begin(struct writing *w, bool array)
{
	*w = (struct writing){.mem = arena_new(ARENA_BYTES),
			      .call = {.choices = 1, .stream = true, .stream_array = array},
			      .target = gemini_target("openai", "gpt-x")};
	w->ctx = (struct dialect_ctx){.mem = w->mem,
				      .keep = w->mem,
				      .call = &w->call,
				      .target = &w->target,
				      .id = STR(FIXTURE_ID),
				      .translate = true};
	w->f.usage = USAGE_NONE;
	buf_init(&w->out, OUT_BYTES);
	ck_assert_int_eq(buf_append(&w->out, STR("")), RC_OK);
}

static void end(struct writing *w)
{
	buf_clear(&w->out);
	arena_free(w->mem);
}

/* One event of deltas, written as a little language: "Ttext", "Rthought", "Eseal", "C0 id name", "A0 text", "F1". A "1/"
 * before it is its choice. */
static void feed(struct writing *w, const char *const *deltas)
{
	w->f.deltas_count = 0;
	for (; *deltas; deltas++) {
		struct str s = str_from(*deltas), rest;
		const bool other = s.len > 1 && s.ptr[1] == '/';
		const char type = s.ptr[other ? 2 : 0];
		struct chat_delta *x;

		x = chat_delta_add(w->mem, &w->f,
				   type == 'T'	 ? CHAT_DELTA_TEXT
				   : type == 'R' ? CHAT_DELTA_REASONING
				   : type == 'E' ? CHAT_DELTA_REASONING_END
				   : type == 'N' ? CHAT_DELTA_REFUSAL
				   : type == 'C' ? CHAT_DELTA_TOOL_CALL
				   : type == 'A' ? CHAT_DELTA_TOOL_ARGUMENTS
				   : type == '@' ? CHAT_DELTA_CITATION
				   : type == 'M' ? CHAT_DELTA_MEDIA
						 : CHAT_DELTA_FINISH);
		x->choice = other ? s.ptr[0] - '0' : 0;
		rest = str_slice(s, other ? 3 : 1, s.len);
		x->text = rest;
		if (type == 'E' && rest.len > 0)
			x->opaque = (struct chat_opaque){.value = rest,
							 .dialect = STR("anthropic_messages")};
		if (type == 'C' || type == 'A') {
			x->index = rest.ptr[0] - '0';
			rest = str_slice(rest, 2, rest.len);
			x->text = type == 'A' ? rest : STR("");
			x->id = str_cut(&rest, ' ');
			x->name = rest;
		}
		if (type == 'F')
			x->finish = (enum finish)(rest.ptr[0] - '0');
		if (type == '@') {
			x->media.url = str_cut(&rest, ' ');
			x->media.name = str_cut(&rest, ' ');
			x->text = rest;
		}
		if (type == 'M')
			x->media = (struct chat_media){.mime = STR("image/png"), .data = rest};
	}
	ck_assert_int_eq(d->encode_deltas(&w->ctx, &w->f, &w->out), RC_OK);
}
#define FEED(w, ...) feed(w, (const char *const[]){__VA_ARGS__, NULL})

#define CHUNK(parts, choice)                                                                       \
	"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" parts                \
	"]},\"index\":" choice "}],\"modelVersion\":\"gpt-x\",\"responseId\":\"0f3c-1\"}\r\n\r\n"
#define LAST(finish, more)                                                                         \
	"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},"    \
	"\"finishReason\":\"" finish "\",\"index\":0" more                                         \
	"}],\"modelVersion\":\"gpt-x\",\"responseId\":\"0f3c-1\"}\r\n\r\n"

static struct str mark(struct writing *w, const char *value, const char *dialect)
{
	const struct chat_opaque o = {.value = str_from(value),
				      .dialect = str_from(dialect),
				      .provider = STR("openai"),
				      .model = STR("gpt-x")};

	return chat_opaque_wrap(w->mem, &o);
}

START_TEST(text_goes_out_as_it_comes)
{
	struct usage none = USAGE_NONE;
	struct writing w;

	begin(&w, false);
	FEED(&w, "TOn ", "Tit\"s");
	FEED(&w, "T");
	ck_assert_str_eq(w.out.ptr, CHUNK("{\"text\":\"On \"},{\"text\":\"it\\\"s\"}", "0"));
	buf_reset(&w.out);
	FEED(&w, "F1");
	ck_assert_uint_eq(w.out.len, 0); /* remembered */
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_str_eq(w.out.ptr, LAST("STOP", ""));
	end(&w);
}
END_TEST

START_TEST(thoughts_are_marked_and_their_seal_is_wrapped)
{
	struct writing w;

	begin(&w, false);
	FEED(&w, "Rhm", "Eseal", "Tyes");
	ck_assert_str_eq(
		w.out.ptr,
		arena_printf(w.mem,
			     "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":["
			     "{\"text\":\"hm\",\"thought\":true},{\"text\":\"\",\"thought\":true,"
			     "\"thoughtSignature\":\"%s\"},{\"text\":\"yes\"}]},\"index\":0}],"
			     "\"modelVersion\":\"gpt-x\",\"responseId\":\"0f3c-1\"}\r\n\r\n",
			     mark(&w, "seal", "anthropic_messages").ptr)
			.ptr);
	buf_reset(&w.out);
	FEED(&w, "Rx", "E"); /* no seal: nothing ends it but what follows */
	ck_assert_str_eq(w.out.ptr, CHUNK("{\"text\":\"x\",\"thought\":true}", "0"));
	end(&w);
}
END_TEST

/* The calls of a stream, whatever the fragments; the first says whose it is. */
static void check_calls(struct writing *w, const char *a, const char *b)
{
	ck_assert_str_eq(
		w->out.ptr,
		arena_printf(
			w->mem,
			"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":["
			"{\"functionCall\":{\"id\":\"c1\",\"name\":\"f\",\"args\":%s},"
			"\"thoughtSignature\":\"%s\"}]},\"index\":0}],\"modelVersion\":\"gpt-x\","
			"\"responseId\":\"0f3c-1\"}\r\n\r\n" CHUNK(
				"{\"functionCall\":{\"id\":\"c2\",\"name\":\"g\",\"args\":%s}}",
				"0"),
			a, mark(w, "", "openai_chat").ptr, b)
			.ptr);
}

START_TEST(a_call_goes_out_whole)
{
	struct writing w;

	begin(&w, false);
	FEED(&w, "C0 c1 f", "A0 {\"a\"");
	FEED(&w, "A0 :1.10}");
	ck_assert_uint_eq(w.out.len, 0);
	FEED(&w, "C1 c2 g");
	FEED(&w, "F3"); /* no arguments at all are none */
	check_calls(&w, "{\"a\":1.10}", "{}");
	end(&w);
}
END_TEST

START_TEST(interleaved_calls_keep_their_order)
{
	struct writing w;

	begin(&w, false);
	FEED(&w, "C0 c1 f", "A0 {\"a\":", "C1 c2 g", "A1 {\"b\":{}}");
	FEED(&w, "A0 2}");
	ck_assert_uint_eq(w.out.len, 0);
	FEED(&w, "T");
	ck_assert(str_find_str(buf_str(&w.out), STR("\"c1\"")) <
		  str_find_str(buf_str(&w.out), STR("\"c2\"")));
	ck_assert_ptr_nonnull(strstr(w.out.ptr, "\"args\":{\"b\":{}}"));
	end(&w);
}
END_TEST

START_TEST(a_call_that_is_no_object_is_malformed)
{
	static const struct {
		const char *args, *finish, *want;
	} cases[] = {
		{"A0 {\"a\":", "F3", "MALFORMED_FUNCTION_CALL"},
		{"A0 [1]", "F3", "MALFORMED_FUNCTION_CALL"},
		{"A0 {\"a\":", "F2", "MAX_TOKENS"},
	};
	struct usage none = USAGE_NONE;
	struct writing w;

	begin(&w, false);
	FEED(&w, "C0 c1 f", cases[_i].args);
	FEED(&w, cases[_i].finish);
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_ptr_null(strstr(w.out.ptr, "functionCall"));
	ck_assert_ptr_nonnull(strstr(w.out.ptr, cases[_i].want));
	end(&w);
}
END_TEST

START_TEST(finish_has_its_word)
{
	static const char *const words[] = {"STOP",   "STOP", "MAX_TOKENS", "STOP",
					    "SAFETY", "STOP", "OTHER"};
	struct usage none = USAGE_NONE;
	struct writing w;
	char finish[] = "F0";

	begin(&w, false);
	finish[1] = (char)('0' + _i);
	FEED(&w, "Nno");
	ck_assert_str_eq(w.out.ptr, CHUNK("{\"text\":\"no\"}", "0"));
	buf_reset(&w.out);
	FEED(&w, finish);
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_ptr_nonnull(
		strstr(w.out.ptr, arena_printf(w.mem, "\"finishReason\":\"%s\"", words[_i]).ptr));
	end(&w);
}
END_TEST

START_TEST(choices_stand_apart)
{
	struct usage none = USAGE_NONE;
	struct writing w;

	begin(&w, false);
	w.call.choices = 2;
	FEED(&w, "Ta", "1/Tb", "1/Tc", "9/Tnobody's");
	ck_assert_str_eq(w.out.ptr, CHUNK("{\"text\":\"a\"}", "0")
					    CHUNK("{\"text\":\"b\"},{\"text\":\"c\"}", "1"));
	buf_reset(&w.out);
	FEED(&w, "F1", "1/F2");
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_ptr_nonnull(strstr(w.out.ptr, "\"finishReason\":\"STOP\",\"index\":0"));
	ck_assert_ptr_nonnull(strstr(w.out.ptr, "\"finishReason\":\"MAX_TOKENS\",\"index\":1"));
	end(&w);
}
END_TEST

START_TEST(sources_stand_at_the_end)
{
	struct usage none = USAGE_NONE;
	struct writing w;

	begin(&w, false);
	FEED(&w, "Ta", "@https://x/ Title words cited", "@https://y/ ", "F1");
	buf_reset(&w.out);
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_str_eq(
		w.out.ptr,
		LAST("STOP",
		     ",\"groundingMetadata\":{\"groundingChunks\":[{\"web\":{\"uri\":\"https://x/\","
		     "\"title\":\"Title\"}},{\"web\":{\"uri\":\"https://y/\"}}],\"groundingSupports\":["
		     "{\"segment\":{\"text\":\"words cited\"},\"groundingChunkIndices\":[0]}]}"));
	end(&w);
}
END_TEST

START_TEST(usage_of_others_is_said_as_here)
{
	struct usage u = USAGE_NONE;
	struct writing w;

	begin(&w, false);
	u.present = true;
	u.n[USAGE_in_text] = 10;
	u.n[USAGE_in_cached_read] = 20;
	u.n[USAGE_in_cache_write_5m] = 30;
	u.n[USAGE_out_text] = 4;
	u.n[USAGE_out_reasoning] = 6;
	FEED(&w, "F1");
	ck_assert_int_eq(d->encode_end(&w.ctx, &u, &w.out), RC_OK);
	ck_assert_ptr_nonnull(strstr(w.out.ptr,
				     "\"usageMetadata\":{\"promptTokenCount\":60,"
				     "\"candidatesTokenCount\":4,\"totalTokenCount\":70,"
				     "\"cachedContentTokenCount\":20,\"thoughtsTokenCount\":6}"));
	end(&w);
}
END_TEST

START_TEST(an_array_is_one_value)
{
	struct usage none = USAGE_NONE;
	struct json *root;
	struct writing w;

	begin(&w, true);
	FEED(&w, "Ta");
	FEED(&w, "Tb", "F1");
	ck_assert_int_eq(d->encode_end(&w.ctx, &none, &w.out), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&w.out), JSON_NO_DUPLICATES, w.mem, &root, NULL),
			 RC_OK);
	ck_assert_uint_eq(json_len(root), 3);
	end(&w);
}
END_TEST

START_TEST(whole_answer_is_written)
{
	struct facts back = {0};
	struct buf deltas = BUF_INIT(OUT_BYTES);
	struct writing w;

	begin(&w, false);
	w.f.model = STR("gpt-x-2026");
	FEED(&w, "Rhm", "Tsure", "MAAA=", "C0 c1 f", "A0 {\"a\":1}", "F3", "1/Tother", "1/F2");
	buf_reset(&w.out);
	w.ctx.writer = NULL;
	ck_assert_int_eq(d->encode_response(&w.ctx, &w.f, &w.out), RC_OK);
	w.call.choices = 2;
	ck_assert_int_eq(d->decode_response(&w.ctx, buf_str(&w.out), &back), RC_OK);
	ck_assert(str_is(back.model, "gpt-x-2026"));
	ck_assert_int_eq(back.finished, 2);
	say_deltas(&deltas, &back);
	ck_assert_str_eq(deltas.ptr,
			 arena_printf(w.mem,
				      "R:hm|E:|T:sure|M:image/png AAA=|C0 f#c1~%s|A0:{\"a\":1}|F3|"
				      "1/T:other|1/F2|",
				      mark(&w, "", "openai_chat").ptr)
				 .ptr);
	buf_clear(&deltas);
	end(&w);
}
END_TEST

/* Past a bound nothing breaks but this answer. */
START_TEST(what_does_not_fit_is_told)
{
	struct writing w;

	begin(&w, false);
	w.out.bytes_max = 40;
	w.f.deltas_count = 0;
	chat_delta_add(w.mem, &w.f, CHAT_DELTA_TEXT)->text = STR("text");
	ck_assert_int_eq(d->encode_deltas(&w.ctx, &w.f, &w.out), RC_TOO_LARGE);
	end(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gemini_reply");
	TCase *t = tcase_create("all");

	tcase_add_test(t, text_goes_out_as_it_comes);
	tcase_add_test(t, thoughts_are_marked_and_their_seal_is_wrapped);
	tcase_add_test(t, a_call_goes_out_whole);
	tcase_add_test(t, interleaved_calls_keep_their_order);
	tcase_add_loop_test(t, a_call_that_is_no_object_is_malformed, 0, 3);
	tcase_add_loop_test(t, finish_has_its_word, 0, FINISH_OTHER + 1);
	tcase_add_test(t, choices_stand_apart);
	tcase_add_test(t, sources_stand_at_the_end);
	tcase_add_test(t, usage_of_others_is_said_as_here);
	tcase_add_test(t, an_array_is_one_value);
	tcase_add_test(t, whole_answer_is_written);
	tcase_add_test(t, what_does_not_fit_is_told);
	suite_add_tcase(s, t);
	return suite_run(s);
}
