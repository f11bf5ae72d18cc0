/* tests/fuzz/fuzz_yaml.c - yaml.c: no crash, and what is accepted keeps its rules.
 *
 * Properties: an accepted tree is within the bounds, its text well-formed and without NUL, its keys
 * single; each value knows a line, never before the one in front of it; as JSON it is accepted again;
 * as YAML too, and the same, where it is plain ASCII (JSON's own line rules differ beyond that). */
#include <stdlib.h>

#include "server/yaml.h"

#define ROUND_TRIP_BYTES_MAX 1000 /* YAML takes a key of 1024 characters at most */
#define LINES_ASKED_MAX	     200  /* a line costs a walk of the tree */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

struct walk {
	const struct yaml_doc *doc;
	size_t values, line;
};

static void check_text(struct str s)
{
	require(str_is_utf8(s) && (s.len == 0 || !memchr(s.ptr, '\0', s.len)));
}

static void walk(struct walk *w, const struct json *v, size_t depth)
{
	struct json_iter it = json_iter(v);
	struct json *child;
	struct str key, s;
	size_t line;

	require(depth <= YAML_DEPTH_MAX);
	if (w->values++ < LINES_ASKED_MAX) {
		line = yaml_doc_line(w->doc, v);
		require(line >= w->line && line > 0);
		w->line = line;
	}
	if (json_string(v, &s))
		check_text(s);
	while (json_next(&it, &key, &child)) {
		if (key.ptr) {
			check_text(key);
			require(json_get_s(v, key) == child);
		}
		walk(w, child, depth + 1);
	}
}

static void round_trip(struct str text, struct arena *mem)
{
	AUTO(buf) struct buf again = BUF_INIT(1 << 24);
	struct yaml_doc *doc;
	struct err err;

	if (text.len > ROUND_TRIP_BYTES_MAX)
		return;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] < 0x20 || text.ptr[i] > 0x7e)
			return;
	require(yaml_doc_parse(text, "again", mem, &doc, &err) == RC_OK);
	require(json_write(yaml_doc_root(doc), &again) == RC_OK);
	require(str_eq(buf_str(&again), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(1 << 26);
	AUTO(buf) struct buf out = BUF_INIT(1 << 24);
	struct err err = {0};
	struct yaml_doc *doc;
	struct json *back;
	enum rc rc = yaml_doc_parse(str_of(data, size), "f", mem, &doc, &err);

	if (rc == RC_OK) {
		struct walk w = {.doc = doc};

		walk(&w, yaml_doc_root(doc), 0);
		require(w.values <= YAML_VALUES_MAX);
		require(json_write(yaml_doc_root(doc), &out) == RC_OK);
		require(json_parse(buf_str(&out), JSON_NO_DUPLICATES, mem, &back, &err) == RC_OK);
		round_trip(buf_str(&out), mem);
	} else {
		require(rc == RC_INVALID || rc == RC_TOO_LARGE);
		require(err.code && str_is_utf8(str_from(err.message)));
	}
	arena_free(mem);
	return 0;
}
