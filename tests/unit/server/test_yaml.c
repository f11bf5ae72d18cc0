/* server/yaml.c: what YAML becomes as JSON, what is refused and in which line, the bounds. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/yaml.h"

static struct arena *mem;
static struct yaml_doc *doc;
static struct err err;

static void setup(void)
{
	mem = arena_new(64u << 20);
	err = (struct err){0};
}

static void teardown(void)
{
	arena_free(mem);
}

static enum rc parse(struct str text)
{
	return yaml_doc_parse(text, "f.yaml", mem, &doc, &err);
}

static const struct row {
	const char *yaml, *json;
} rows[] = {
	{"", "null"},
	{"---\n", "null"},
	{"# words\n", "null"},
	{"--- {}\n...\n", "{}"},
	{"a: 1\nb: [x, 'y', \"z\"]\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\"]}"},
	{"a:\n- b: 1\n  c: 2\n- d\n", "{\"a\":[{\"b\":1,\"c\":2},\"d\"]}"},
	{"a:\nb: ~\nc: null\nd: Null\ne: ''\n",
	 "{\"a\":null,\"b\":null,\"c\":null,\"d\":null,\"e\":\"\"}"},
	{"[true, True, TRUE, false, False, FALSE]", "[true,true,true,false,false,false]"},
	{"[yes, no, on, off, y, tRUE, nULL]",
	 "[\"yes\",\"no\",\"on\",\"off\",\"y\",\"tRUE\",\"nULL\"]"},
	{"['true', \"null\", '12', \"~\"]", "[\"true\",\"null\",\"12\",\"~\"]"},
	{"[0, 12, -7, +7, 007, -0, 00]", "[0,12,-7,7,7,-0,0]"},
	{"[0o17, 0x1F, 0xff, 0o8, 0b1, -0x1]", "[15,31,255,\"0o8\",\"0b1\",\"-0x1\"]"},
	{"[1_000, 1:30, 2026-01-02, 1.2.3, 0x, 0o, +, -, ., e5]",
	 "[\"1_000\",\"1:30\",\"2026-01-02\",\"1.2.3\",\"0x\",\"0o\",\"+\",\"-\",\".\",\"e5\"]"},
	{"[25.00, .5, 5., -.5, +0.10, 1e3, 1E-2, 3.e1, 1e, 1e+]",
	 "[25.00,0.5,5.0,-0.5,0.10,1e3,1E-2,3.0e1,\"1e\",\"1e+\"]"},
	{"99999999999999999999", "99999999999999999999"},
	{"0x7fffffffffffffff", "9223372036854775807"},
	{"a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\\n\"}"},
	{"a: !!str 12\nb: !!int 12\nc: ! 12\nd: !!float 12\ne: !!bool true\nf: !!null ''\n",
	 "{\"a\":\"12\",\"b\":12,\"c\":\"12\",\"d\":12,\"e\":true,\"f\":null}"},
	{"!!map {a: !!seq [1]}", "{\"a\":[1]}"},
	{"1: a\ntrue: b\n'': c\n<<: d\n", "{\"1\":\"a\",\"true\":\"b\",\"\":\"c\",\"<<\":\"d\"}"},
	{"\xef\xbb\xbf"
	 "a: \xc3\xa9\n",
	 "{\"a\":\"\xc3\xa9\"}"},
	{"%YAML 1.2\n---\na: 1\n", "{\"a\":1}"},
	{"{\"a\":{\"b\":[1,2.5,\"c\",null,true]}}", "{\"a\":{\"b\":[1,2.5,\"c\",null,true]}}"},
	{"plain words", "\"plain words\""},
	{"a: \"q\\\"\\u00e9\\t\"\n", "{\"a\":\"q\\\"\xc3\xa9\\t\"}"},
};

START_TEST(what_it_becomes)
{
	AUTO(buf) struct buf out = BUF_INIT(4096);
	const struct row *r = &rows[_i];

	ck_assert_msg(parse(str_from(r->yaml)) == RC_OK, "%s: %s", r->yaml, err.message);
	ck_assert(json_write(yaml_doc_root(doc), &out) == RC_OK);
	ck_assert_str_eq(out.ptr, r->json);
}
END_TEST

static const struct refusal {
	const char *yaml;
	size_t line;
	const char *words;
} refusals[] = {
	{"a: 1\nb: [", 3, "not YAML"},
	{"a: 1\n b: 2\n", 2, "not YAML"},
	{"a: 1\n\tb: 2\n", 2, "not YAML"},
	{"a: 1\nb: 2\na: 3\n", 3, "\"a\" stands twice"},
	{"x:\n  - {b: 1, c: 2,\n     b: 3}\n", 3, "\"b\" stands twice"},
	{"a: 1\n'a': 2\n", 2, "stands twice"},
	{"a: &x 1\nb: *x\n", 1, "anchors"},
	{"a: 1\nb: *x\n", 2, "anchors"},
	{"a: &x [1]\n", 1, "anchors"},
	{"a: &x {b: 1}\n", 1, "anchors"},
	{"&x a: 1\n", 1, "anchors"},
	{"a: 1\nb: !secret x\n", 2, "tag"},
	{"a: !!binary aGk=\n", 1, "tag"},
	{"a: !!int x\n", 1, "tag"},
	{"a: !!bool 'yes'\n", 1, "tag"},
	{"a: !!set {b}\n", 1, "tag"},
	{"!!map [1]\n", 1, "tag"},
	{"? [a]\n: 1\n", 1, "key must be plain text"},
	{"? {a: 1}\n: 1\n", 1, "key must be plain text"},
	{"{a: 1, ~: 2}", 1, "key must be plain text"},
	{"a: 1\nb: .inf\n", 2, "no such number"},
	{"a: -.Inf\n", 1, "no such number"},
	{"a: .nan\n", 1, "no such number"},
	{"a: 1\nb: 1e999\n", 2, "out of range"},
	{"a: 0x8000000000000000\n", 1, "out of range"},
	{"a: \"x\\0y\"\n", 1, "NUL"},
	{"\"x\\0y\": 1\n", 1, "NUL"},
	{"a: 1\n---\nb: 2\n", 2, "second document"},
	{"a: \xff\n", 1, "not YAML"},
	{"a: \x01\n", 1, "not YAML"},
};

START_TEST(what_is_refused)
{
	const struct refusal *r = &refusals[_i];
	char where[32];

	snprintf(where, sizeof where, "f.yaml:%zu: ", r->line);
	ck_assert_msg(parse(str_from(r->yaml)) == RC_INVALID, "%s", r->yaml);
	ck_assert_str_eq(err.code, "invalid_yaml");
	ck_assert_msg(strncmp(err.message, where, strlen(where)) == 0, "%s", err.message);
	ck_assert_msg(strstr(err.message, r->words), "%s", err.message);
}
END_TEST

START_TEST(values_are_not_quoted)
{
	static const char *const texts[] = {"a: &x sk-fake-canary\n", "a: !x sk-fake-canary\n",
					    "a: [sk-fake-canary\nb: 1\n", "a: !!int sk-fake-canary",
					    "a: \"sk-fake-canary\\0\""};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		ck_assert(parse(str_from(texts[i])) == RC_INVALID);
		ck_assert_msg(!strstr(err.message, "canary"), "%s", err.message);
	}
}
END_TEST

START_TEST(every_value_knows_its_line)
{
	struct json *root, *b, *deep;
	struct err why;

	ck_assert(parse(STR("# head\n"
			    "a: 1\n"
			    "b:\n"
			    "  - x\n"
			    "  -\n"
			    "    c:\n"
			    "      true\n"
			    "    d: {e: 1,\n"
			    "        f: |\n"
			    "          text\n"
			    "          more}\n"
			    "}\n"
			    "g: 1\n")) != RC_OK); /* the block swallows the brace */
	ck_assert(parse(STR("# head\n"
			    "a: 1\n"
			    "b:\n"
			    "  - x\n"
			    "  -\n"
			    "    c:\n"
			    "      true\n"
			    "    d: {e: 1,\n"
			    "        f: 'two\n"
			    "          lines'}\n"
			    "g: 1\n")) == RC_OK);
	root = yaml_doc_root(doc);
	b = json_get(root, "b");
	deep = json_get(json_at(b, 1), "d");
	ck_assert_uint_eq(yaml_doc_line(doc, root), 2);
	ck_assert_uint_eq(yaml_doc_line(doc, json_get(root, "a")), 2);
	ck_assert_uint_eq(yaml_doc_line(doc, b), 3);
	ck_assert_uint_eq(yaml_doc_line(doc, json_at(b, 0)), 4);
	ck_assert_uint_eq(yaml_doc_line(doc, json_at(b, 1)), 6);
	ck_assert_uint_eq(yaml_doc_line(doc, json_get(json_at(b, 1), "c")), 6);
	ck_assert_uint_eq(yaml_doc_line(doc, deep), 8);
	ck_assert_uint_eq(yaml_doc_line(doc, json_get(deep, "f")), 9);
	ck_assert_uint_eq(yaml_doc_line(doc, json_get(root, "g")), 11);
	ck_assert_uint_eq(yaml_doc_line(doc, NULL), 0);
	ck_assert(yaml_doc_bad(doc, deep, &why, "no %s", "good") == RC_INVALID);
	ck_assert_str_eq(why.message, "f.yaml:8: no good");
}
END_TEST

static void repeat(struct buf *out, const char *text, size_t n)
{
	buf_reset(out);
	while (n-- > 0)
		ck_assert(buf_append(out, str_from(text)) == RC_OK);
}

START_TEST(the_bounds_hold)
{
	AUTO(buf) struct buf text = BUF_INIT(4u << 20);

	repeat(&text, "[", YAML_DEPTH_MAX);
	ck_assert(buf_append_char(&text, '1') == RC_OK);
	for (int i = 0; i < YAML_DEPTH_MAX; i++)
		ck_assert(buf_append_char(&text, ']') == RC_OK);
	ck_assert(parse(buf_str(&text)) == RC_OK);
	repeat(&text, "[", YAML_DEPTH_MAX + 1);
	ck_assert(parse(buf_str(&text)) == RC_TOO_LARGE);
	repeat(&text, "- ", 100000);
	ck_assert(parse(buf_str(&text)) == RC_TOO_LARGE);
	repeat(&text, "- 1\n", YAML_VALUES_MAX - 1);
	ck_assert(parse(buf_str(&text)) == RC_OK);
	repeat(&text, "- 1\n", YAML_VALUES_MAX);
	ck_assert(parse(buf_str(&text)) == RC_TOO_LARGE);
	repeat(&text, "#", YAML_BYTES_MAX);
	ck_assert(parse(buf_str(&text)) == RC_OK);
	repeat(&text, "#", YAML_BYTES_MAX + 1);
	ck_assert(parse(buf_str(&text)) == RC_TOO_LARGE);
	buf_reset(&text);
	for (int i = 0; i < 4097; i++)
		ck_assert(buf_printf(&text, "k%d: 1\n", i) == RC_OK);
	ck_assert(parse(buf_str(&text)) == RC_TOO_LARGE);
}
END_TEST

START_TEST(a_small_arena_is_an_error)
{
	AUTO(buf) struct buf text = BUF_INIT(1u << 20);
	struct arena *small = arena_new(16384);

	repeat(&text, "- {a: 1, b: some words}\n", 2000);
	ck_assert(yaml_doc_parse(buf_str(&text), "f.yaml", small, &doc, &err) == RC_TOO_LARGE);
	arena_free(small);
}
END_TEST

START_TEST(truncated_anywhere_is_no_crash)
{
	struct str whole =
		STR("# x\na: {b: [1, 'two', \"th\\u00e9\"], c: |\n  text\n}\nd: !!str 1\n");

	for (size_t n = 0; n <= whole.len; n++) {
		enum rc rc = parse(str_slice(whole, 0, n));

		ck_assert(rc == RC_OK || (rc == RC_INVALID && err.code));
	}
}
END_TEST

START_TEST(files_are_read)
{
	char path[] = "/tmp/test-yaml-XXXXXX";
	int fd = mkstemp(path);

	ck_assert(fd >= 0 && write(fd, "a: 1\n", 5) == 5 && close(fd) == 0);
	ck_assert(yaml_doc_read(path, mem, &doc, &err) == RC_OK);
	ck_assert_uint_eq(json_len(yaml_doc_root(doc)), 1);
	ck_assert(truncate(path, YAML_BYTES_MAX + 1) == 0);
	ck_assert(yaml_doc_read(path, mem, &doc, &err) == RC_TOO_LARGE);
	unlink(path);
	ck_assert(yaml_doc_read(path, mem, &doc, &err) == RC_IO);
	ck_assert_str_eq(err.code, "unreadable_file");
	ck_assert(yaml_doc_read("/", mem, &doc, &err) == RC_IO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("yaml");
	TCase *tc = tcase_create("yaml");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 100); /* sanitizers on a loaded machine */
	tcase_add_loop_test(tc, what_it_becomes, 0, ARRAY_LEN(rows));
	tcase_add_loop_test(tc, what_is_refused, 0, ARRAY_LEN(refusals));
	tcase_add_test(tc, values_are_not_quoted);
	tcase_add_test(tc, every_value_knows_its_line);
	tcase_add_test(tc, the_bounds_hold);
	tcase_add_test(tc, a_small_arena_is_an_error);
	tcase_add_test(tc, truncated_anywhere_is_no_crash);
	tcase_add_test(tc, files_are_read);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
