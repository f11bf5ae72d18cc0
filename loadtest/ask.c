/* loadtest/ask.c - what a request says, and what the fake provider answers to it.
 *
 * All dialects come through call_decide(), so the same content costs the same tokens in each of them.
 * Nothing here knows a dialect: that is the speakers' part. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "fake.h"

#define ECHO_WORDS_MAX	  100
#define THOUGHT_WORDS_MAX 1000 /* said; all of them are counted */
#define THOUGHT_CHUNKS	  4
#define SCHEMA_DEPTH_MAX  16

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

/* --- small helpers of the speakers ------------------------------------------------------------------ */

const char *str_of(yyjson_val *object, const char *field)
{
	return yyjson_get_str(yyjson_obj_get(object, field));
}

bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool word_among(const char *word, const char *words)
{
	size_t n = strlen(word);

	for (const char *at = strstr(words, word); n > 0 && at != NULL; at = strstr(at + 1, word))
		if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0))
			return true;
	return false;
}

const char *field_unknown(yyjson_val *object, const char *names)
{
	yyjson_val *name, *value;
	size_t i, max;

	yyjson_obj_foreach(object, i, max, name, value)
	{
		if (!word_among(yyjson_get_str(name), names))
			return yyjson_get_str(name);
	}
	return NULL;
}

bool is_json_object(const char *text)
{
	yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
	bool is = yyjson_is_obj(yyjson_doc_get_root(doc)) || text[0] == 0;

	yyjson_doc_free(doc);
	return is;
}

bool refuse(struct call *k, int status, const char *type, const char *code, const char *param,
	    const char *format, ...)
{
	va_list args;

	if (k->why[0] != 0)
		return false;
	va_start(args, format);
	vsnprintf(k->why, sizeof(k->why), format, args);
	va_end(args);
	span_copy(span_z(param != NULL ? param : ""), k->why_param, sizeof(k->why_param));
	k->why_type = type;
	k->why_code = code;
	k->plan.status = status;
	return false;
}

void said_add(struct text *said, const char *words)
{
	if (said->len > 0)
		text_add(said, " ", 1);
	text_z(said, words);
}

void usage_number(struct text *t, const struct call *k, bool output, int64_t value)
{
	const char *comma = strchr(k->plan.usage, ',');

	if (comma == NULL)
		text_f(t, "%lld", (long long)value);
	else if (output)
		text_z(t, comma + 1);
	else
		text_add(t, k->plan.usage, (size_t)(comma - k->plan.usage));
}

int64_t out_words(const struct call *k)
{
	return k->completion_tokens - k->plan.reasoning;
}

uint64_t hash_of(uint64_t seed, struct span s)
{
	uint64_t h = 14695981039346656037u ^ seed;

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.at[i]) * 1099511628211u;
	return h ^ (h >> 29);
}

void base64_add(struct text *t, const void *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)b[i] << 16;
		char four[4] = {0, 0, '=', '='};

		if (i + 1 < len)
			v |= (uint32_t)b[i + 1] << 8;
		if (i + 2 < len)
			v |= b[i + 2];
		four[0] = digits[v >> 18];
		four[1] = digits[v >> 12 & 63];
		if (i + 1 < len)
			four[2] = digits[v >> 6 & 63];
		if (i + 2 < len)
			four[3] = digits[v & 63];
		text_add(t, four, 4);
	}
}

int64_t base64_bytes(struct span s)
{
	size_t n = s.len;

	while (n > 0 && s.at[n - 1] == '=')
		n--;
	if (s.len == 0 || s.len - n > 2 || n % 4 == 1 || (s.len != n && s.len % 4 != 0))
		return -1;
	for (size_t i = 0; i < n; i++) {
		char c = s.at[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '+' || c == '/' || c == '-' || c == '_'))
			return -1;
	}
	return (int64_t)(n * 3 / 4);
}

void seal(struct text *t, const struct call *k, const char *what, struct span bytes)
{
	const char *plus = strchr(k->model, '+');
	struct span model = {k->model, plus != NULL ? (size_t)(plus - k->model) : strlen(k->model)};
	uint64_t h = hash_of(hash_of(hash_of(0, span_z(what)), model), bytes);
	char plain[64];

	snprintf(plain, sizeof(plain), "fake seal %s %016llx", what, (unsigned long long)h);
	base64_add(t, plain, strlen(plain));
}

bool is_sealed(const struct call *k, const char *what, struct span bytes, const char *given)
{
	struct text t = {0};
	bool is;

	seal(&t, k, what, bytes);
	is = given != NULL && t.len > 0 && strcmp(t.at, given) == 0;
	text_clear(&t);
	return is;
}

/* --- media ------------------------------------------------------------------------------------------- */

void ask_clear(struct ask *a)
{
	text_clear(&a->said);
	text_clear(&a->seen);
}

static int *media_count(struct ask *a, const char *kind)
{
	return kind[0] == 'i' ? &a->images : kind[0] == 'd' ? &a->documents : &a->audios;
}

void ask_media(struct ask *a, const char *kind, const char *type, int64_t bytes)
{
	text_f(&a->seen, " [%s %d %lld bytes %s]", kind, ++*media_count(a, kind), (long long)bytes,
	       type);
}

void ask_media_at(struct ask *a, const char *kind, const char *where)
{
	text_f(&a->seen, " [%s %d at %s]", kind, ++*media_count(a, kind), where);
}

bool ask_media_uri(struct ask *a, const char *kind, const char *uri)
{
	const char *comma = strchr(uri, ',');
	const char *semicolon = strchr(uri, ';');
	char type[64];
	int64_t bytes;

	if (!starts_with(uri, "data:")) {
		ask_media_at(a, kind, uri);
		return true;
	}
	if (comma == NULL || semicolon == NULL || semicolon > comma)
		return false;
	bytes = base64_bytes(span_z(comma + 1));
	if (bytes < 0)
		return false;
	span_copy((struct span){uri + 5, (size_t)(semicolon - uri - 5)}, type, sizeof(type));
	ask_media(a, kind, type, bytes);
	return true;
}

void ask_stops(struct ask *a, yyjson_val *stops)
{
	yyjson_val *stop;
	size_t i, max;

	if (yyjson_is_str(stops))
		a->stops[a->stop_count++] = yyjson_get_str(stops);
	yyjson_arr_foreach(stops, i, max, stop)
	{
		if (yyjson_is_str(stop) && yyjson_get_len(stop) > 0 && a->stop_count < STOPS_MAX)
			a->stops[a->stop_count++] = yyjson_get_str(stop);
	}
}

void ask_tool(struct ask *a, const char *name, yyjson_val *schema)
{
	if (name != NULL && a->tool_count < TOOLS_MAX)
		a->tools[a->tool_count++] = (struct tool){name, schema};
}

/* --- values that fit a schema --------------------------------------------------------------------------- */

struct fit {
	struct text *out;
	yyjson_val *root; /* $ref starts here */
	bool all;	  /* every property, not only the required ones */
};

static void fit_value(const struct fit *f, yyjson_val *schema, int depth);

static const char *schema_type(yyjson_val *schema)
{
	yyjson_val *type = yyjson_obj_get(schema, "type");

	if (yyjson_is_arr(type))
		type = yyjson_arr_get_first(type);
	if (yyjson_is_str(type))
		return yyjson_get_str(type);
	return yyjson_obj_get(schema, "properties") != NULL ? "object" : "string";
}

static bool is_required(yyjson_val *schema, const char *name)
{
	yyjson_val *one;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(schema, "required"), i, max, one)
	{
		if (yyjson_equals_str(one, name))
			return true;
	}
	return false;
}

static void fit_object(const struct fit *f, yyjson_val *schema, int depth)
{
	bool all = f->all || yyjson_obj_get(schema, "required") == NULL;
	yyjson_val *name, *property;
	const char *between = "";
	size_t i, max;

	text_z(f->out, "{");
	yyjson_obj_foreach(yyjson_obj_get(schema, "properties"), i, max, name, property)
	{
		if (!all && !is_required(schema, yyjson_get_str(name)))
			continue;
		text_z(f->out, between);
		text_json(f->out, yyjson_get_str(name), yyjson_get_len(name));
		text_z(f->out, ": ");
		fit_value(f, property, depth + 1);
		between = ", ";
	}
	text_z(f->out, "}");
}

static void fit_number(const struct fit *f, yyjson_val *schema)
{
	yyjson_val *low = yyjson_obj_get(schema, "minimum");
	yyjson_val *high = yyjson_obj_get(schema, "maximum");
	double value = 7;

	if (yyjson_is_num(high) && value > yyjson_get_num(high))
		value = yyjson_get_num(high);
	if (yyjson_is_num(low) && value < yyjson_get_num(low))
		value = yyjson_get_num(low);
	text_f(f->out, "%.15g", value);
}

static void fit_json(const struct fit *f, yyjson_val *value)
{
	char *text = yyjson_val_write(value, 0, NULL);

	text_z(f->out, text != NULL ? text : "null");
	free(text);
}

/* What the schema names itself: a reference, a constant, one of some. False: none of these. */
static bool fit_given(const struct fit *f, yyjson_val *schema, int depth)
{
	const char *ref = str_of(schema, "$ref");
	yyjson_val *given = yyjson_obj_get(schema, "const");
	yyjson_val *any = yyjson_obj_get(schema, "anyOf");

	if (any == NULL)
		any = yyjson_obj_get(schema, "oneOf");
	if (given == NULL)
		given = yyjson_arr_get_first(yyjson_obj_get(schema, "enum"));
	if (ref != NULL && ref[0] == '#')
		fit_value(f, yyjson_ptr_get(f->root, ref + 1), depth + 1);
	else if (given != NULL)
		fit_json(f, given);
	else if (yyjson_is_arr(any))
		fit_value(f, yyjson_arr_get_first(any), depth + 1);
	else
		return false;
	return true;
}

/* A value of the schema's type; type names may be Gemini's, in capitals. */
static void fit_value(const struct fit *f, yyjson_val *schema, int depth)
{
	const char *type = schema_type(schema);
	yyjson_val *least = yyjson_obj_get(schema, "minItems");

	if (depth > SCHEMA_DEPTH_MAX) {
		text_z(f->out, "null");
	} else if (fit_given(f, schema, depth)) {
		return;
	} else if (strcasecmp(type, "integer") == 0 || strcasecmp(type, "number") == 0) {
		fit_number(f, schema);
	} else if (strcasecmp(type, "boolean") == 0) {
		text_z(f->out, "true");
	} else if (strcasecmp(type, "null") == 0) {
		text_z(f->out, "null");
	} else if (strcasecmp(type, "object") == 0) {
		fit_object(f, schema, depth);
	} else if (strcasecmp(type, "array") == 0) {
		text_z(f->out, "[");
		for (int64_t i = 0; i < yyjson_get_sint(least) && i < 10; i++) {
			text_z(f->out, i > 0 ? ", " : "");
			fit_value(f, yyjson_obj_get(schema, "items"), depth + 1);
		}
		text_z(f->out, "]");
	} else {
		text_z(f->out, "\"Paris\"");
	}
}

static bool object_is_closed(yyjson_val *schema, bool required)
{
	yyjson_val *name, *property;
	size_t i, max;

	if (!yyjson_is_false(yyjson_obj_get(schema, "additionalProperties")))
		return false;
	yyjson_obj_foreach(yyjson_obj_get(schema, "properties"), i, max, name, property)
	{
		if ((required && !is_required(schema, yyjson_get_str(name))) ||
		    !schema_is_closed(property, required))
			return false;
	}
	return true;
}

bool schema_is_closed(yyjson_val *schema, bool required)
{
	yyjson_val *items = yyjson_obj_get(schema, "items");

	if (yyjson_obj_get(schema, "$ref") != NULL)
		return true;
	if (strcmp(schema_type(schema), "object") == 0 && !object_is_closed(schema, required))
		return false;
	return items == NULL || schema_is_closed(items, required);
}

/* --- the answer ------------------------------------------------------------------------------------------- */

/* Call `tool` once more, with every property its schema has. */
static void tool_call(struct call *k, const struct tool *tool)
{
	struct tool_call *made = &k->tools[k->tool_count++];
	struct utter *u = &made->arguments;
	struct fit f = {&u->text, tool->schema, true};

	span_copy(span_z(tool->name), made->name, sizeof(made->name));
	fit_object(&f, tool->schema, 0);
	u->words = words_of((struct span){u->text.at, u->text.len}, NULL, 0);
}

/* Tools are called when there are some and the last turn, a user's, says "tool" or was told to. */
static void choose_tools(struct call *k, const struct ask *a)
{
	size_t first = 0;

	if (a->tool_count == 0 || a->must_not || k->plan.refusal)
		return;
	if (a->forced == NULL && !a->must &&
	    (!a->from_user || (strstr(a->said.at, "tool") == NULL && k->plan.tools == 0)))
		return;
	for (size_t i = 0; i < a->tool_count; i++)
		if (a->forced != NULL && strcmp(a->tools[i].name, a->forced) == 0)
			first = i;
	do {
		tool_call(k, &a->tools[a->forced != NULL ? first
							 : (size_t)k->tool_count % a->tool_count]);
	} while (k->tool_count < k->plan.tools && k->tool_count < TOOL_CALLS_MAX);
	k->finish = a->forced != NULL ? "stop" : "tool_calls";
	for (int64_t i = 1; i <= k->plan.preamble; i++)
		text_f(&k->answer.text, "%sw%lld", i > 1 ? " " : "", (long long)i);
	k->answer.words = k->plan.preamble;
}

/* The words of the last turn are said back, as JSON where that is wanted. */
static void answer_text(struct call *k, struct ask *a, struct text *t)
{
	struct text *said = &a->said;

	directives_strip(said);
	if (k->plan.refusal) {
		text_z(t, "I cannot help with that.");
	} else if (a->json && a->schema != NULL) {
		fit_value(&(struct fit){t, a->schema, false}, a->schema, 0);
	} else if (a->json) {
		for (size_t i = 0; i < said->len; i++)
			if (said->at[i] == '"' || said->at[i] == '\\')
				said->at[i] = '\'';
		text_z(t, "{\"echo\": \"");
		text_add(t, said->at, said->len);
	} else {
		text_z(t, "echo ");
		text_add(t, said->at, said->len);
		text_add(t, a->seen.at, a->seen.len);
	}
}

static int64_t answer_echo(struct call *k, struct ask *a, int64_t max)
{
	struct text echo = {0};
	int64_t words;

	answer_text(k, a, &echo);
	words = words_of((struct span){echo.at, echo.len}, &k->answer.text,
			 max < ECHO_WORDS_MAX ? max : ECHO_WORDS_MAX);
	words = words < ECHO_WORDS_MAX ? words : ECHO_WORDS_MAX;
	if (a->json && a->schema == NULL && !k->plan.refusal && words <= max)
		text_z(&k->answer.text, "\"}");
	text_clear(&echo);
	return words;
}

/* End before the first stop sequence. */
static void answer_stop(struct call *k, const struct ask *a)
{
	struct text *t = &k->answer.text;

	for (size_t i = 0; i < a->stop_count && t->len > 0; i++) {
		const char *at = strstr(t->at, a->stops[i]);

		if (at == NULL || a->stops[i][0] == 0)
			continue;
		t->len = (size_t)(at - t->at);
		while (t->len > 0 && is_space(t->at[t->len - 1]))
			t->len--;
		t->at[t->len] = 0;
		k->answer.words = words_of((struct span){t->at, t->len}, NULL, 0);
		k->finish = "stop";
		span_copy(span_z(a->stops[i]), k->stop, sizeof(k->stop));
	}
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
	answer_stop(k, a);
}

/* As many words of reasoning as there are tokens of it. */
static void choose_thoughts(struct call *k)
{
	struct utter *u = &k->thoughts;

	if (!k->thinks && !k->plan.think)
		return;
	u->words = k->plan.reasoning < THOUGHT_WORDS_MAX ? k->plan.reasoning : THOUGHT_WORDS_MAX;
	for (int64_t i = 1; i <= u->words; i++)
		text_f(&u->text, "%sr%lld", i > 1 ? " " : "", (long long)i);
	u->chunks = u->words < THOUGHT_CHUNKS ? u->words : THOUGHT_CHUNKS;
	k->chunks += u->chunks;
}

/* Into how many pieces a stream cuts it. */
static void utter_cut(struct call *k, struct utter *u, bool whole)
{
	u->chunks = k->plan.chunks != NO && k->plan.chunks > 0 ? k->plan.chunks : u->words;
	if (whole && u->chunks > 1)
		u->chunks = 1;
	if (u->chunks > u->words)
		u->chunks = u->words;
	k->chunks += u->chunks;
	if (u->text.at == NULL)
		text_z(&u->text, "");
}

void call_plan(struct call *k, const char *said)
{
	const char *plus = strchr(k->model, '+');

	if (plus != NULL)
		plan_read(&k->plan, span_z(plus + 1), '+');
	plan_read_message(&k->plan, span_z(said));
	rules_apply(&k->plan, k->key, k->model);
}

void call_decide(struct call *k, struct ask *a)
{
	if (a->said.at == NULL)
		text_z(&a->said, "");
	call_plan(k, a->said.at);
	k->finish = "stop";
	choose_thoughts(k);
	choose_tools(k, a);
	if (k->tool_count == 0)
		choose_answer(k, a);
	ask_clear(a);
	utter_cut(k, &k->answer, false);
	k->completion_tokens = k->answer.words;
	for (int64_t i = 0; i < k->tool_count; i++) {
		utter_cut(k, &k->tools[i].arguments, k->whole_calls);
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
