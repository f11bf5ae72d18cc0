/* test_chat.c - what dialects share when one is written in another's words: seals, ids, texts, deltas. */
#include "routing/chat.h"
#include "routing/dialect.h"
#include "routing/provider.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (64u << 20)

static bool nine(struct str id)
{
	return id.len == 9;
}

START_TEST(a_seal_comes_back_and_says_whose_it_is)
{
	static const char *const values[] = {"", "x", "a|b|c", "EqQBCgIYAhIM=="};
	struct arena *mem = arena_new(ARENA_BYTES);
	const struct chat_opaque o = {.value = str_from(values[_i]),
				      .dialect = STR("gemini"),
				      .provider = STR("gemini"),
				      .model = STR("a|12|models/x")};
	struct str text = chat_opaque_wrap(mem, &o);
	struct chat_opaque back = {0};
	char *other = arena_strdup(mem, text);
	size_t len = text.len;

	ck_assert(str_starts(text, STR(CHAT_OPAQUE_MARK)));
	ck_assert(chat_opaque_unwrap(mem, text, &back));
	ck_assert(str_eq(back.value, o.value) && str_eq(back.model, o.model));
	ck_assert(str_eq(back.dialect, o.dialect) && str_eq(back.provider, o.provider));
	/* a client that takes it for bytes may give it back in the other alphabet, without padding */
	while (len > 0 && other[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++)
		other[i] = (char)(other[i] == '+' ? '-' : other[i] == '/' ? '_' : other[i]);
	ck_assert(chat_opaque_unwrap(mem, str_of(other, len), &back));
	ck_assert(str_eq(back.value, o.value));
	arena_free(mem);
}
END_TEST

START_TEST(what_we_did_not_seal_is_not_opened)
{
	static const char *const texts[] = {"",
					    "EqQBCgIYAhIM",
					    CHAT_OPAQUE_MARK,
					    CHAT_OPAQUE_MARK "fA==",
					    CHAT_OPAQUE_MARK "!!!!",
					    CHAT_OPAQUE_MARK "fGF8Ynw5OXxjfGQ=" /* |a|b|99|c|d */};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct chat_opaque o = {0};

	ck_assert(!chat_opaque_unwrap(mem, str_from(texts[_i]), &o));
	arena_free(mem);
}
END_TEST

START_TEST(a_seal_fits_who_made_it_alone)
{
	const struct provider *p = provider_find(STR("openai"));
	const struct dialect_target t = {
		.provider = p, .dialect = &dialect_openai_chat, .model = STR("m")};
	struct chat_opaque o = {.value = STR("v"),
				.dialect = STR("openai_chat"),
				.provider = STR("openai"),
				.model = STR("m")};

	ck_assert(chat_opaque_fits(&o, &t));
	o.model = STR("n");
	ck_assert(!chat_opaque_fits(&o, &t));
	o.model = STR("m");
	o.provider = STR("");
	ck_assert(!chat_opaque_fits(&o, &t));
	o.provider = STR("openai");
	o.dialect = STR("gemini");
	ck_assert(!chat_opaque_fits(&o, &t));
}
END_TEST

START_TEST(data_urls)
{
	struct chat_media m = {0};
	struct arena *mem = arena_new(ARENA_BYTES);

	ck_assert(chat_data_url(STR("data:image/png;base64,AAAA"), &m));
	ck_assert(str_is(m.mime, "image/png") && str_is(m.data, "AAAA"));
	ck_assert(str_is(chat_data_url_make(mem, &m), "data:image/png;base64,AAAA"));
	ck_assert(chat_data_url(STR("DATA:text/plain;charset=utf-8;BASE64,QQ=="), &m));
	ck_assert(str_is(m.mime, "text/plain"));
	ck_assert(!chat_data_url(STR("data:text/plain,hello"), &m));
	ck_assert(!chat_data_url(STR("https://x.test/a,b"), &m));
	ck_assert(!chat_data_url(STR("data:"), &m));
	arena_free(mem);
}
END_TEST

START_TEST(ids_that_do_not_fit_are_made_anew_the_same_each_time)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct str a = chat_call_id(mem, STR("call_0123456789"), "", 9, nine);
	struct str b = chat_call_id(mem, STR("call_0123456789"), "", 9, nine);
	struct str c = chat_call_id(mem, STR("call_0123456788"), "", 9, nine);

	ck_assert(nine(a) && str_eq(a, b) && !str_eq(a, c));
	ck_assert(str_is(chat_call_id(mem, STR("abcdefghi"), "", 9, nine), "abcdefghi"));
	arena_free(mem);
}
END_TEST

START_TEST(texts_grow_and_deltas_are_bounded)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct chat_text t = {0};
	struct facts f = {.usage = USAGE_NONE};

	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(chat_text_add(mem, &t, STR("0123456789")), RC_OK);
	ck_assert_uint_eq(chat_text_str(&t).len, 10000);
	ck_assert(str_ends(chat_text_str(&t), STR("90123456789")));
	for (int i = 0; i < CHAT_DELTAS_MAX; i++)
		chat_delta_add(mem, &f, CHAT_DELTA_TEXT)->index = i;
	ck_assert(!f.deltas_lost);
	ck_assert_int_eq(f.deltas[CHAT_DELTAS_MAX - 1].index, CHAT_DELTAS_MAX - 1);
	ck_assert_int_eq(chat_delta_add(mem, &f, CHAT_DELTA_TEXT)->index, 0);
	ck_assert(f.deltas_lost);
	ck_assert_uint_eq(f.deltas_count, CHAT_DELTAS_MAX);
	arena_free(mem);
}
END_TEST

/* How much is left is what others have decided: where it is nothing the process goes on. */
START_TEST(where_memory_is_out_deltas_are_lost)
{
	struct arena *mem = arena_new(1u << 20);
	char *seal = calloc(1, 1u << 20);
	const struct chat_opaque o = {.value = str_of(seal, 1u << 20)};
	struct str wrapped = STR(CHAT_OPAQUE_MARK);
	struct facts f = {0};
	struct chat_opaque back;
	void *p;

	while (arena_try_alloc(mem, 512, &p) == RC_OK)
		;
	chat_delta_add(mem, &f, CHAT_DELTA_TEXT)->index = 1;
	ck_assert(f.deltas_lost && f.deltas_count == 0);
	ck_assert_uint_eq(chat_opaque_wrap(mem, &o).len, 0);
	memset(seal, 'A', 1u << 20);
	memcpy(seal, wrapped.ptr, wrapped.len);
	ck_assert(!chat_opaque_unwrap(mem, o.value, &back));
	arena_free(mem);
	free(seal);
}
END_TEST

START_TEST(braces_are_counted_across_pieces)
{
	static const char *const texts[] = {"{}", "{\"a\":{\"b\":[1,{}]}}", "{\"}\":\"\\\"}\"}",
					    " {\"a\":[]} "};
	const struct str text = str_from(texts[_i]);
	size_t end = text.len;

	while (text.ptr[end - 1] != '}')
		end--;
	for (size_t cut = 0; cut < end; cut++) {
		struct chat_braces b = {0};

		ck_assert(!chat_braces_close(&b, str_slice(text, 0, cut)));
		ck_assert(chat_braces_close(&b, str_slice(text, cut, text.len)));
	}
}
END_TEST

START_TEST(a_result_has_the_name_of_its_call)
{
	struct chat_part calls[] = {{.type = CHAT_TOOL_CALL, .id = STR("a"), .name = STR("f")},
				    {.type = CHAT_TOOL_CALL, .id = STR("b"), .name = STR("g")}};
	struct chat_part results[] = {{.type = CHAT_TOOL_RESULT, .id = STR("b")},
				      {.type = CHAT_TOOL_RESULT, .id = STR("a")}};
	struct chat_turn turns[] = {{CHAT_ASSISTANT, calls, 2}, {CHAT_USER, results, 2}};
	struct chat chat = {.turns = turns, .turns_count = 2};
	struct err err = {0};

	ck_assert_int_eq(chat_name_results(&chat, &err), RC_OK);
	ck_assert(str_is(results[0].name, "g") && str_is(results[1].name, "f"));
	results[0].id = STR("c");
	ck_assert_int_eq(chat_name_results(&chat, &err), RC_INVALID);
	ck_assert_str_eq(err.field, "messages");
}
END_TEST

#define MANY 50000

/* As many as a body has room for: looked for one by one they would hold the loop for minutes. */
START_TEST(many_calls_and_results_find_each_other)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct chat_part *calls = ARENA_ARRAY(mem, struct chat_part, MANY);
	struct chat_part *results = ARENA_ARRAY(mem, struct chat_part, MANY);
	struct chat_turn turns[] = {{CHAT_ASSISTANT, calls, MANY}, {CHAT_USER, results, MANY}};
	struct chat chat = {.turns = turns, .turns_count = 2};
	struct err err = {0};

	for (int i = 0; i < MANY; i++) {
		calls[i] = (struct chat_part){.type = CHAT_TOOL_CALL,
					      .id = arena_printf(mem, "call_%06d", i),
					      .name = arena_printf(mem, "f%d", i)};
		results[MANY - 1 - i] =
			(struct chat_part){.type = CHAT_TOOL_RESULT, .id = calls[i].id};
	}
	ck_assert_int_eq(chat_name_results(&chat, &err), RC_OK);
	for (int i = 0; i < MANY; i++)
		ck_assert(str_eq(results[MANY - 1 - i].name, calls[i].name));
	arena_free(mem);
}
END_TEST

START_TEST(only_the_tools_that_are_named_may_be_called)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct chat_tool tools[] = {{.name = STR("f")}, {.name = STR("g")}, {.name = STR("h")}};
	struct str names[] = {STR("h"), STR("f"), STR("none")};
	struct chat chat = {.tools = tools,
			    .tools_count = 3,
			    .choice = CHAT_CHOICE_ALLOWED_AUTO,
			    .choice_names = names,
			    .choice_names_count = 3};
	const bool *allowed;

	ck_assert_int_eq(chat_allowed(&chat, mem, &allowed), RC_OK);
	ck_assert(allowed[0] && !allowed[1] && allowed[2]);
	chat.choice = CHAT_CHOICE_NAMED;
	ck_assert_int_eq(chat_allowed(&chat, mem, &allowed), RC_OK);
	ck_assert_ptr_null(allowed);
	arena_free(mem);
}
END_TEST

START_TEST(losses_have_each_name_once)
{
	struct chat_losses l = {0};
	char names[CHAT_LOSSES_MAX + 2][4];

	chat_lose(&l, STR("seed"));
	chat_lose(&l, STR("seed"));
	ck_assert_uint_eq(l.count, 1);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(names[i], sizeof names[i], "%zu", i);
		chat_lose(&l, str_from(names[i]));
	}
	ck_assert_uint_eq(l.count, CHAT_LOSSES_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("chat");
	TCase *t = tcase_create("chat");

	tcase_add_loop_test(t, a_seal_comes_back_and_says_whose_it_is, 0, 4);
	tcase_add_loop_test(t, what_we_did_not_seal_is_not_opened, 0, 6);
	tcase_add_test(t, a_seal_fits_who_made_it_alone);
	tcase_add_test(t, data_urls);
	tcase_add_test(t, ids_that_do_not_fit_are_made_anew_the_same_each_time);
	tcase_add_test(t, texts_grow_and_deltas_are_bounded);
	tcase_add_test(t, where_memory_is_out_deltas_are_lost);
	tcase_add_loop_test(t, braces_are_counted_across_pieces, 0, 4);
	tcase_add_test(t, a_result_has_the_name_of_its_call);
	tcase_add_test(t, many_calls_and_results_find_each_other);
	tcase_add_test(t, only_the_tools_that_are_named_may_be_called);
	tcase_add_test(t, losses_have_each_name_once);
	suite_add_tcase(s, t);
	return suite_run(s);
}
