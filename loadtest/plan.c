/* loadtest/plan.c - the words a call of the fake provider is told what to do with, and the rules that say them.
 *
 * A word that nobody knows is no error: it may be part of a sentence. README.md lists them. */
#include <stdlib.h>
#include <string.h>
#include "fake.h"

#define DIRECTIVE_BYTES_MAX 1024
#define RULES_MAX	    64

/* clang-format off */
#define INT(n) {#n, 'i', offsetof(struct plan, n)}
#define TEXT(n) {#n, 's', offsetof(struct plan, n)}
#define FLAG(n) {#n, 'f', offsetof(struct plan, n)}
/* clang-format on */
static const struct {
	const char *name;
	char kind;
	size_t at;
} directives[] = {
	INT(status),
	INT(delay_ms),
	INT(first_ms),
	INT(words),
	INT(chunks),
	INT(chunk_ms),
	INT(dribble),
	INT(cut_after),
	INT(stall_after),
	INT(error_after),
	INT(reasoning),
	INT(cached),
	INT(cache_write),
	INT(tools),
	INT(pad),
	INT(cache_write_1h),
	INT(audio_in),
	INT(preamble),
	INT(citations),
	INT(searches),
	TEXT(redirect),
	TEXT(usage),
	TEXT(code),
	TEXT(type),
	TEXT(cut),
	TEXT(tag),
	TEXT(header),
	TEXT(finish),
	TEXT(id),
	FLAG(no_usage),
	FLAG(usage_always),
	FLAG(garbage),
	FLAG(html),
	FLAG(error_midstream),
	FLAG(no_done),
	FLAG(gzip),
	FLAG(cl_te),
	FLAG(empty),
	FLAG(to_close),
	FLAG(crlf),
	FLAG(comments),
	FLAG(extra),
	FLAG(no_length),
	FLAG(text),
	FLAG(null_content),
	FLAG(think),
	FLAG(refusal),
	FLAG(blocked),
	FLAG(failed),
	{"retry_after", 's', offsetof(struct plan, retry_after)},
	{"retry-after", 's', offsetof(struct plan, retry_after)},
	{"retry_after_ms", 's', offsetof(struct plan, retry_after_ms)},
	{"retry-after-ms", 's', offsetof(struct plan, retry_after_ms)},
};

static size_t text_field_size(size_t at)
{
	static const struct {
		size_t at, size;
	} sizes[] = {
#define SIZE(n) {offsetof(struct plan, n), sizeof(((struct plan *)0)->n)}
		SIZE(retry_after), SIZE(retry_after_ms), SIZE(redirect), SIZE(usage),
		SIZE(code),	   SIZE(type),		 SIZE(cut),	 SIZE(tag),
		SIZE(header),	   SIZE(finish),	 SIZE(id),
	};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		if (sizes[i].at == at)
			return sizes[i].size;
	die("a text directive without a size");
}

static void plan_set(struct plan *p, struct span name, struct span value, bool has_value)
{
	char number[24];

	for (size_t i = 0; i < sizeof(directives) / sizeof(*directives); i++) {
		char *field = (char *)p + directives[i].at;

		if (!span_is(name, directives[i].name))
			continue;
		if (directives[i].kind == 'f') {
			*(bool *)(void *)field = !has_value || !span_is(value, "0");
		} else if (directives[i].kind == 's') {
			span_copy(value, field, text_field_size(directives[i].at));
		} else {
			span_copy(value, number, sizeof(number));
			*(int64_t *)(void *)field = has_value ? strtoll(number, NULL, 10) : 1;
		}
		return;
	}
}

/* name=value name=value, cut at `separator`. Unknown names are nobody's business. */
void plan_read(struct plan *p, struct span s, char separator)
{
	while (s.len > 0) {
		const char *end = memchr(s.at, separator, s.len);
		size_t n = end != NULL ? (size_t)(end - s.at) : s.len;
		const char *eq = memchr(s.at, '=', n);
		size_t name = eq != NULL ? (size_t)(eq - s.at) : n;

		plan_set(p, (struct span){s.at, name},
			 eq != NULL ? (struct span){eq + 1, n - name - 1} : (struct span){"", 0},
			 eq != NULL);
		n += end != NULL;
		s.at += n;
		s.len -= n;
	}
}

/* Every [[...]] of a message. */
void plan_read_message(struct plan *p, struct span s)
{
	const char *open;
	const char *close;

	while ((open = memmem(s.at, s.len, "[[", 2)) != NULL) {
		s.len -= (size_t)(open + 2 - s.at);
		s.at = open + 2;
		close = memmem(s.at, s.len, "]]", 2);
		if (close == NULL || close - s.at > DIRECTIVE_BYTES_MAX)
			return;
		plan_read(p, (struct span){s.at, (size_t)(close - s.at)}, ' ');
	}
}

struct plan plan_none(void)
{
	return (struct plan){.words = NO,
			     .chunks = NO,
			     .cut_after = NO,
			     .stall_after = NO,
			     .error_after = NO,
			     .status = 200};
}

/* --- rules: what POST /_control said about a key or a model ---------------------------------------- */

static struct rule {
	char key[128], model[128]; /* empty: any */
	int64_t times;		   /* left; -1: until cleared */
	struct text words;	   /* directives, separated by spaces */
} rules[RULES_MAX];
static size_t rule_count;

void rules_clear(void)
{
	for (size_t i = 0; i < rule_count; i++)
		text_clear(&rules[i].words);
	rule_count = 0;
}

void rules_apply(struct plan *p, const char *key, const char *model)
{
	for (size_t i = 0; i < rule_count; i++) {
		struct rule *r = &rules[i];

		if (r->times == 0 || (r->key[0] != 0 && strcmp(r->key, key) != 0) ||
		    (r->model[0] != 0 && strcmp(r->model, model) != 0))
			continue;
		if (r->times > 0)
			r->times--;
		plan_read(p, (struct span){r->words.at, r->words.len}, ' ');
	}
}

bool rule_add(struct span body)
{
	yyjson_doc *doc = yyjson_read(body.at, body.len, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	struct rule r = {.times = 1};
	yyjson_obj_iter iter;
	yyjson_val *k;

	if (!yyjson_is_obj(root) || rule_count == RULES_MAX) {
		yyjson_doc_free(doc);
		return false;
	}
	yyjson_obj_iter_init(root, &iter);
	while ((k = yyjson_obj_iter_next(&iter)) != NULL) {
		yyjson_val *v = yyjson_obj_iter_get_val(k);
		const char *name = yyjson_get_str(k);

		if (strcmp(name, "times") == 0)
			r.times = yyjson_get_sint(v);
		else if (strcmp(name, "key") == 0 && yyjson_is_str(v))
			span_copy(span_z(yyjson_get_str(v)), r.key, sizeof(r.key));
		else if (strcmp(name, "model") == 0 && yyjson_is_str(v))
			span_copy(span_z(yyjson_get_str(v)), r.model, sizeof(r.model));
		else if (strcmp(name, "do") == 0 && yyjson_is_str(v))
			text_f(&r.words, "%s ", yyjson_get_str(v));
		else if (yyjson_is_str(v))
			text_f(&r.words, "%s=%s ", name, yyjson_get_str(v));
		else if (yyjson_is_bool(v))
			text_f(&r.words, "%s=%d ", name, yyjson_get_bool(v));
		else if (yyjson_is_int(v))
			text_f(&r.words, "%s=%lld ", name, (long long)yyjson_get_sint(v));
	}
	yyjson_doc_free(doc);
	rules[rule_count++] = r;
	return true;
}
