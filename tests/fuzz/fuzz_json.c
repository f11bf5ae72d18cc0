/* tests/fuzz/fuzz_json.c - json.c: no crash, and what is accepted comes back the same.
 *
 * Properties: an accepted text is well-formed UTF-8 and no deeper than the cap; written out and parsed
 * again it is accepted and writes the same bytes; an edit is seen and nothing else changes in count; spliced it
 * is the same as written anew; and a text that is held is read like any other. */
#include <stdlib.h>

#include "server/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* Touch every value through the public readers; returns the depth below `v`. */
static size_t walk(const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *value;
	struct str key, s;
	size_t deepest = 0, seen = 0;
	int64_t n;
	bool b;

	require(json_int(v, &n) == (json_type(v) == JSON_INT));
	require(json_string(v, &s) == (json_type(v) == JSON_STRING));
	require(json_bool(v, &b) == (json_type(v) == JSON_BOOL));
	require(json_type(v) != JSON_STRING || str_is_utf8(s));
	while (json_next(&it, &key, &value)) {
		size_t depth = walk(value);

		require(json_type(v) != JSON_OBJECT || json_get_s(v, key));
		deepest = depth > deepest ? depth : deepest;
		seen++;
	}
	require(seen == json_len(v));
	return deepest + (json_type(v) >= JSON_ARRAY ? 1 : 0);
}

static void splice(struct str text, const struct json *v, const struct json_edit *edits, size_t n,
		   const struct json *written, struct arena *mem)
{
	struct str pieces[JSON_PIECES_MAX];
	AUTO(buf) struct buf joined = BUF_INIT(1 << 24);
	AUTO(buf) struct buf first = BUF_INIT(1 << 24);
	AUTO(buf) struct buf second = BUF_INIT(1 << 24);
	struct json *back;
	size_t count;

	if (json_splice(text, v, edits, n, mem, pieces, &count) != RC_OK)
		return; /* so many duplicates */
	for (size_t i = 0; i < count; i++)
		require(buf_append(&joined, pieces[i]) == RC_OK);
	require(json_parse(buf_str(&joined), JSON_ALLOW_DUPLICATES, mem, &back, NULL) == RC_OK);
	require(json_write(back, &first) == RC_OK && json_write(written, &second) == RC_OK);
	require(str_eq(buf_str(&first), buf_str(&second)));
}

/* Every string of some length borrowed: the same tree, or the same words against it. */
static void held(struct str text, const struct json *plain, const struct err *why,
		 struct arena *mem)
{
	AUTO(buf) struct buf first = BUF_INIT(1 << 24);
	AUTO(buf) struct buf second = BUF_INIT(1 << 24);
	struct json *v;
	struct err err;
	enum rc rc = json_parse_held(text, JSON_ALLOW_DUPLICATES, 3, mem, &v, &err);

	require((rc == RC_OK) == (plain != NULL));
	if (!plain) {
		require(str_is(str_from(err.message), why->message));
		return;
	}
	(void)walk(v);
	require(json_write(plain, &first) == RC_OK && json_write(v, &second) == RC_OK);
	require(str_eq(buf_str(&first), buf_str(&second)));
}

static void edit(struct str text, const struct json *v, struct arena *mem)
{
	const struct json_edit edits[] = {{"model", STR("\"m\"")}, {"stream", STR_NULL}};
	AUTO(buf) struct buf out = BUF_INIT(1 << 24);
	struct json *back;
	struct str s;

	if (json_write_edited(v, edits, ARRAY_LEN(edits), &out) != RC_OK)
		return;
	require(json_parse(buf_str(&out), JSON_ALLOW_DUPLICATES, mem, &back, NULL) == RC_OK);
	require(json_string(json_get(back, "model"), &s) && str_is(s, "m"));
	require(!json_get(back, "stream"));
	splice(text, v, edits, ARRAY_LEN(edits), back, mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(1 << 26);
	AUTO(buf) struct buf first = BUF_INIT(1 << 24);
	AUTO(buf) struct buf second = BUF_INIT(1 << 24);
	struct str text = str_of(data, size);
	struct json *v, *strict, *back;
	struct err err;

	if (json_parse(text, JSON_ALLOW_DUPLICATES, mem, &v, &err) == RC_OK) {
		require(str_is_utf8(text) && walk(v) <= JSON_DEPTH_MAX);
		require(json_write(v, &first) == RC_OK);
		require(json_parse(buf_str(&first), JSON_ALLOW_DUPLICATES, mem, &back, &err) ==
			RC_OK);
		require(json_write(back, &second) == RC_OK);
		require(str_eq(buf_str(&first), buf_str(&second)));
		if (json_type(v) == JSON_OBJECT)
			edit(text, v, mem);
		held(text, v, NULL, mem);
	} else {
		held(text, NULL, &err, mem);
		require(err.code && str_is_utf8(str_from(err.message)));
		require(json_parse(text, JSON_NO_DUPLICATES, mem, &strict, &err) != RC_OK);
	}
	arena_free(mem);
	return 0;
}
