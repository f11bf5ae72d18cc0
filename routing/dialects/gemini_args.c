/* routing/dialects/gemini_args.c - arguments of a call that come as values under JSON paths.
 *
 * {"jsonPath":"$.a.b[0]","stringValue":"x","willContinue":true}: a string may grow over several fragments. What has come
 * stands in a tree of named and numbered children and is written as JSON once the call is whole. The tree is in the arena
 * of the attempt, its size bounded here, its depth that of JSON, so that writing it may recurse. */
#include "routing/dialects/gemini_priv.h"

#define ARGS_MAX  4096
#define INDEX_MAX 4096

struct gemini_arg {
	struct gemini_arg *next, *children;
	struct str key; /* of an object's member */
	int64_t index;	/* of an array's element; -1: a member */
	bool is_string;
	struct chat_text text; /* a leaf: a string's content, or JSON */
};

struct step {
	struct str key;
	int64_t index;
};

/* The next step of ".a", "['a']", "[0]"; false: at the end, or no path. */
static bool step_next(struct str *path, struct step *ret)
{
	size_t n = 1;
	bool quoted;

	if (path->len < 2)
		return false;
	*ret = (struct step){.index = -1};
	if (path->ptr[0] == '.') {
		while (n < path->len && path->ptr[n] != '.' && path->ptr[n] != '[')
			n++;
		ret->key = str_slice(*path, 1, n);
		*path = str_slice(*path, n, path->len);
		return true;
	}
	quoted = path->ptr[1] == '\'' || path->ptr[1] == '"';
	if (path->ptr[0] != '[')
		return false;
	for (n = quoted ? 2 : 1; n < path->len; n++)
		if (quoted ? path->ptr[n] == path->ptr[1] && n + 1 < path->len &&
				     path->ptr[n + 1] == ']'
			   : path->ptr[n] == ']')
			break;
	if (n >= path->len)
		return false;
	if (quoted)
		ret->key = str_slice(*path, 2, n);
	else if (str_to_i64(str_slice(*path, 1, n), &ret->index) != RC_OK || ret->index < 0 ||
		 ret->index > INDEX_MAX)
		return false;
	*path = str_slice(*path, n + (quoted ? 2 : 1), path->len);
	return true;
}

static enum rc arg_new(struct arena *mem, struct gemini_args *a, const struct step *s,
		       struct gemini_arg **ret)
{
	void *p, *key;

	if (a->count == ARGS_MAX)
		return RC_PROTOCOL;
	a->count++;
	TRY(arena_try_alloc(mem, sizeof **ret, &p));
	*ret = p;
	(*ret)->index = s->index;
	if (s->key.len > 0) {
		TRY(arena_try_alloc(mem, s->key.len, &key));
		memcpy(key, s->key.ptr, s->key.len);
		(*ret)->key = str_of(key, s->key.len);
	}
	return RC_OK;
}

/* The child at `s`, made where it is not there; behind its siblings. */
static enum rc child(struct arena *mem, struct gemini_args *a, struct gemini_arg *of,
		     const struct step *s, struct gemini_arg **ret)
{
	struct gemini_arg **at = &of->children;

	for (; *at; at = &(*at)->next) {
		if (((*at)->index < 0) != (s->index < 0))
			return RC_PROTOCOL; /* an object and an array at once */
		if ((*at)->index == s->index && str_eq((*at)->key, s->key)) {
			*ret = *at;
			return RC_OK;
		}
	}
	TRY(arg_new(mem, a, s, at));
	*ret = *at;
	return RC_OK;
}

static enum rc value_add(struct arena *mem, struct gemini_arg *leaf, const struct json *partial)
{
	const struct json *number = json_get(partial, "numberValue");
	struct str s;
	bool yes;

	if (json_string(json_get(partial, "stringValue"), &s)) {
		leaf->is_string = true;
		return chat_text_add(mem, &leaf->text, s);
	}
	if (leaf->is_string || leaf->text.len > 0)
		return RC_OK; /* the end of a string, or said again */
	if (json_bool(json_get(partial, "boolValue"), &yes))
		return chat_text_add(mem, &leaf->text, yes ? STR("true") : STR("false"));
	if (json_type(number) == JSON_INT || json_type(number) == JSON_REAL) {
		TRY(gemini_json_text(mem, number, &s));
		return chat_text_add(mem, &leaf->text, s);
	}
	return json_get(partial, "nullValue") ? chat_text_add(mem, &leaf->text, STR("null"))
					      : RC_OK;
}

enum rc gemini_args_add(struct arena *mem, struct gemini_args *a, const struct json *partial)
{
	struct gemini_arg *at;
	struct step s = {.index = -1};
	struct str path;
	int depth = 0;

	if (!json_string(json_get(partial, "jsonPath"), &path) || !str_starts(path, STR("$")))
		return RC_PROTOCOL;
	if (!a->root)
		TRY(arg_new(mem, a, &s, &a->root));
	path = str_slice(path, 1, path.len);
	for (at = a->root; step_next(&path, &s); depth++) {
		if (depth == JSON_DEPTH_MAX - 2 || at->text.len > 0 || at->is_string ||
		    (at == a->root && s.index >= 0))
			return RC_PROTOCOL;
		TRY(child(mem, a, at, &s, &at));
	}
	if (path.len > 0 || at == a->root || at->children)
		return RC_PROTOCOL;
	return value_add(mem, at, partial);
}

static enum rc write_string(struct str s, struct buf *out)
{
	TRY(buf_append_char(out, '"'));
	TRY(json_escape(s, out));
	return buf_append_char(out, '"');
}

static enum rc arg_write(const struct gemini_arg *a, struct buf *out)
{
	const struct gemini_arg *c = a->children;
	const bool array = c && c->index >= 0;

	if (a->is_string)
		return write_string(chat_text_str(&a->text), out);
	if (!c)
		return buf_append(out, a->text.len > 0 ? chat_text_str(&a->text) : STR("null"));
	/* elements come in order: what a path left out before one is not there */
	TRY(buf_append_char(out, array ? '[' : '{'));
	for (; c; c = c->next) {
		if (!array) {
			TRY(write_string(c->key, out));
			TRY(buf_append_char(out, ':'));
		}
		TRY(arg_write(c, out));
		if (c->next)
			TRY(buf_append_char(out, ','));
	}
	return buf_append_char(out, array ? ']' : '}');
}

enum rc gemini_args_write(const struct gemini_args *a, struct buf *out)
{
	if (!a->root || !a->root->children)
		return buf_append(out, STR("{}"));
	return arg_write(a->root, out);
}
