/* loadtest/ask.c - what a request says, and what the fake provider answers to it.
 *
 * All dialects come through call_decide(), so the same content costs the same tokens in each of them.
 * Nothing here knows a dialect: that is the speakers' part. */
#include <string.h>
#include "fake.h"

#define ECHO_WORDS_MAX 100

static bool is_space(char ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* Count the words of `s`; the first `max` of them, one space between, go to `out` without [[...]]. */
int64_t words_of(struct span s, struct text *out, int64_t max)
{
	int64_t count = 0;
	int64_t added = 0;
	size_t i = 0;

	while (i < s.len) {
		size_t from;

		if (is_space(s.at[i])) {
			i++;
			continue;
		}
		for (from = i; i < s.len && !is_space(s.at[i]);)
			i++;
		count++;
		if (out == NULL || added >= max)
			continue;
		text_f(out, out->len > 0 ? " %.*s" : "%.*s", (int)(i - from), s.at + from);
		added++;
	}
	return count;
}

static void directives_strip(struct text *t)
{
	char *open;
	char *close;

	while (t->len > 0 && (open = strstr(t->at, "[[")) != NULL &&
	       (close = strstr(open, "]]")) != NULL) {
		size_t after = (size_t)(t->at + t->len - (close + 2));

		memmove(open, close + 2, after + 1);
		t->len = (size_t)(open - t->at) + after;
	}
}

/* Words of all text of a message's content; `text` (if any) gets the text itself. */
int64_t content_words(yyjson_val *content, struct text *text)
{
	size_t i, max;
	yyjson_val *part;
	int64_t n = 0;

	if (yyjson_is_str(content)) {
		struct span s = {yyjson_get_str(content), yyjson_get_len(content)};

		if (text != NULL)
			text_add(text, s.at, s.len);
		return words_of(s, NULL, 0);
	}
	if (!yyjson_is_arr(content))
		return 0;
	yyjson_arr_foreach(content, i, max, part)
	{
		yyjson_val *t = yyjson_obj_get(part, "text");

		if (text != NULL && text->len > 0)
			text_add(text, " ", 1);
		n += yyjson_is_str(t) ? content_words(t, text) : 0;
	}
	return n;
}

/* Arguments that fit the tool's schema: every property of it, with a value of its type. */
static void tool_arguments(struct text *t, yyjson_val *schema)
{
	yyjson_val *properties = yyjson_obj_get(schema, "properties");
	yyjson_val *name, *property;
	size_t i, max;

	text_z(t, "{");
	yyjson_obj_foreach(properties, i, max, name, property)
	{
		const char *type = yyjson_get_str(yyjson_obj_get(property, "type"));
		const char *value = "\"Paris\"";

		if (type != NULL && (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0))
			value = "7";
		else if (type != NULL && strcmp(type, "boolean") == 0)
			value = "true";
		else if (type != NULL && strcmp(type, "array") == 0)
			value = "[]";
		else if (type != NULL && strcmp(type, "object") == 0)
			value = "{}";
		text_z(t, i > 0 ? ", " : "");
		text_json(t, yyjson_get_str(name), yyjson_get_len(name));
		text_f(t, ": %s", value);
	}
	text_z(t, "}");
}

/* Call `tool` once more. */
static void tool_call(struct call *k, const struct tool *tool)
{
	struct tool_call *made = &k->tools[k->tool_count++];
	struct utter *u = &made->arguments;

	span_copy(span_z(tool->name), made->name, sizeof(made->name));
	tool_arguments(&u->text, tool->schema);
	u->words = words_of((struct span){u->text.at, u->text.len}, NULL, 0);
}

/* A tool is called when tools are given and the last turn, a user's, says "tool". */
static void choose_tools(struct call *k, const struct ask *a)
{
	size_t first = 0;

	if (a->tool_count == 0 || a->must_not)
		return;
	if (a->forced == NULL && !a->must && (!a->from_user || strstr(a->said.at, "tool") == NULL))
		return;
	for (size_t i = 0; i < a->tool_count; i++)
		if (a->forced != NULL && strcmp(a->tools[i].name, a->forced) == 0)
			first = i;
	do {
		tool_call(k, &a->tools[first]);
	} while (k->tool_count < k->plan.tools && k->tool_count < TOOL_CALLS_MAX);
	k->finish = a->forced != NULL ? "stop" : "tool_calls";
}

/* The words of the last turn are said back, as JSON where that is wanted. */
static int64_t answer_echo(struct call *k, struct ask *a, int64_t max)
{
	struct text *said = &a->said;
	struct text echo = {0};
	int64_t words;

	directives_strip(said);
	text_z(&echo, a->json ? "{\"echo\": \"" : "echo");
	if (!a->json)
		text_z(&echo, " ");
	for (size_t i = 0; a->json && i < said->len; i++)
		if (said->at[i] == '"' || said->at[i] == '\\')
			said->at[i] = '\'';
	text_add(&echo, said->at, said->len);
	words = words_of((struct span){echo.at, echo.len}, &k->answer.text,
			 max < ECHO_WORDS_MAX ? max : ECHO_WORDS_MAX);
	words = words < ECHO_WORDS_MAX ? words : ECHO_WORDS_MAX;
	if (a->json && words <= max)
		text_z(&k->answer.text, "\"}");
	text_clear(&echo);
	return words;
}

/* What is answered in words, cut to what the caller allows; its words are its tokens. */
static void choose_answer(struct call *k, struct ask *a)
{
	int64_t allowed = a->allowed != INT64_MAX ? a->allowed - k->plan.reasoning : INT64_MAX;
	int64_t words = k->plan.words;

	if (allowed < 0)
		allowed = 0;
	if (words == NO && k->plan.chunks != NO)
		words = k->plan.chunks;
	if (words == NO)
		words = answer_echo(k, a, allowed);
	else
		for (int64_t i = 1; i <= words && i <= allowed; i++)
			text_f(&k->answer.text, "%sw%lld", i > 1 ? " " : "", (long long)i);
	k->answer.words = words <= allowed ? words : allowed;
	if (words > allowed)
		k->finish = "length";
}

/* Into how many pieces a stream cuts it. */
static void utter_cut(struct call *k, struct utter *u)
{
	u->chunks = k->plan.chunks != NO && k->plan.chunks > 0 ? k->plan.chunks : u->words;
	if (u->chunks > u->words)
		u->chunks = u->words;
	k->chunks += u->chunks;
	if (u->text.at == NULL)
		text_z(&u->text, "");
}

void call_decide(struct call *k, struct ask *a)
{
	const char *plus = strchr(k->model, '+');

	if (plus != NULL)
		plan_read(&k->plan, span_z(plus + 1), '+');
	if (a->said.at == NULL)
		text_z(&a->said, "");
	plan_read_message(&k->plan, (struct span){a->said.at, a->said.len});
	rules_apply(&k->plan, k->key, k->model);
	k->finish = "stop";
	choose_tools(k, a);
	if (k->tool_count == 0)
		choose_answer(k, a);
	text_clear(&a->said);
	utter_cut(k, &k->answer);
	k->completion_tokens = k->answer.words;
	for (int64_t i = 0; i < k->tool_count; i++) {
		utter_cut(k, &k->tools[i].arguments);
		k->completion_tokens += k->tools[i].arguments.words + 1;
	}
	k->completion_tokens = k->completion_tokens * k->choices + k->plan.reasoning;
	if (k->plan.finish[0] != 0)
		k->finish = k->plan.finish;
	if (k->plan.id[0] != 0)
		span_copy(span_z(k->plan.id), k->id, sizeof(k->id));
	if ((k->plan.error_midstream || k->plan.garbage) && k->plan.error_after == NO)
		k->plan.error_after = k->chunks / 2;
}
