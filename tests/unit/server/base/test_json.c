/* server/base/json.c: everything the header refuses is refused, everything else passes unchanged. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/json.h"

static struct arena *mem;
static struct err err;

static void setup(void)
{
	mem = arena_new(64 << 20);
}

static void teardown(void)
{
	arena_free(mem);
}

static enum rc parse_flags(struct str text, enum json_flags flags, struct json **ret)
{
	memset(&err, 0, sizeof err);
	return json_parse(text, flags, mem, ret, &err);
}

static struct json *parse(const char *z)
{
	struct json *v = NULL;

	ck_assert_msg(parse_flags(str_from(z), JSON_NO_DUPLICATES, &v) == RC_OK, "%s: %s", z,
		      err.message);
	return v;
}

static const char *written(const struct json *v)
{
	static struct buf out = BUF_INIT(1 << 20);

	buf_reset(&out);
	ck_assert(json_write(v, &out) == RC_OK);
	return out.ptr;
}

/* clang-format off */
#define LIT(s) {s, sizeof(s) - 1}
/* clang-format on */

START_TEST(refused)
{
	static const struct str bad[] = {
		LIT(""),
		LIT(" "),
		LIT("{"),
		LIT("}"),
		LIT("[1,]"),
		LIT("{\"a\":1,}"),
		LIT("{a:1}"),
		LIT("{'a':1}"),
		LIT("nul"),
		LIT("NULL"),
		LIT("NaN"),
		LIT("[NaN]"),
		LIT("Infinity"),
		LIT("[-Infinity]"),
		LIT("-inf"),
		LIT("1e400"),
		LIT("[-1e400]"),
		LIT("{\"a\":1E+309}"),
		LIT("[1e99999999999999999999]"),
		LIT("01"),
		LIT("-01"),
		LIT("+1"),
		LIT(".5"),
		LIT("1."),
		LIT("1.e5"),
		LIT("1e"),
		LIT("0x10"),
		LIT("-"),
		LIT("1 2"),
		LIT("{} {}"),
		LIT("{}x"),
		LIT("{}\0"),
		LIT("\0{}"),
		LIT("{\"a\"\0:1}"),
		LIT("\"a\0b\""),
		LIT("\xef\xbb\xbf{}"),
		LIT("\xff\xfe{\0}\0"),
		LIT("// c\n{}"),
		LIT("{}/* c */"),
		LIT("\"\\ud800\""),
		LIT("\"\\udc00\""),
		LIT("\"\\ud800x\""),
		LIT("\"\\ud800\\u0041\""),
		LIT("\"\\udc00\\ud800\""),
		LIT("\"\xed\xa0\x80\""),
		LIT("\"\xc0\x80\""),
		LIT("\"\xff\""),
		LIT("\"\xf5\x80\x80\x80\""),
		LIT("\"\xc3\""),
		LIT("\"\\x41\""),
		LIT("\"\\u12\""),
		LIT("\"a\nb\""),
		LIT("\"a\tb\""),
		LIT("\"a"),
		LIT("\"a\\"),
		LIT("[\"a\\\"]"),
		LIT("{\"a\"}"),
		LIT("{\"a\":}"),
		LIT("[1 2]"),
		LIT("[,1]"),
		LIT("{,}"),
		LIT("\x0b{}"),
		LIT("\xc2\xa0{}"),
		LIT("[1}"),
		LIT("{]"),
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct json *v = NULL;

		ck_assert_msg(parse_flags(bad[i], JSON_ALLOW_DUPLICATES, &v) == RC_INVALID,
			      "row %zu: %.*s", i, STR_FMT(bad[i]));
		ck_assert_ptr_null(v);
		ck_assert_str_eq(err.code, "invalid_json");
		ck_assert_str_ne(err.message, "");
	}
}
END_TEST

START_TEST(cut_at_every_byte)
{
	static const char text[] =
		"{\"a\":[1,-2.5e3,\"x\\u00e9\\ud83d\\ude00\",true,null],\"b\":{}}";
	struct json *v;

	for (size_t len = 0; len < sizeof text - 1; len++) {
		char *exact = malloc(len ? len : 1); /* so that a sanitizer sees a byte too far */

		memcpy(exact, text, len);
		ck_assert_msg(parse_flags(str_of(exact, len), JSON_NO_DUPLICATES, &v) == RC_INVALID,
			      "%zu", len);
		free(exact);
	}
	ck_assert(parse_flags(str_of(text, sizeof text - 1), JSON_NO_DUPLICATES, &v) == RC_OK);
}
END_TEST

static enum rc parse_nested(size_t depth, const char *open, const char *close)
{
	AUTO(buf) struct buf b = BUF_INIT(32 << 20);
	struct json *v;
	int failed = 0; /* summed up: an assertion a million times takes its time */

	for (size_t i = 0; i < depth; i++)
		failed += buf_append(&b, str_from(open)) != RC_OK;
	failed += buf_append(&b, STR("1")) != RC_OK;
	for (size_t i = 0; i < depth && close; i++)
		failed += buf_append(&b, str_from(close)) != RC_OK;
	ck_assert_int_eq(failed, 0);
	return parse_flags(buf_str(&b), JSON_NO_DUPLICATES, &v);
}

START_TEST(depth)
{
	struct json *v;

	ck_assert(parse_nested(JSON_DEPTH_MAX, "[", "]") == RC_OK);
	ck_assert(parse_nested(JSON_DEPTH_MAX + 1, "[", "]") == RC_INVALID);
	ck_assert_ptr_nonnull(strstr(err.message, "nested"));
	ck_assert(parse_nested(JSON_DEPTH_MAX, "{\"a\":", "}") == RC_OK);
	ck_assert(parse_nested(JSON_DEPTH_MAX + 1, "{\"a\":", "}") == RC_INVALID);
	ck_assert(parse_nested(5000000, "[", NULL) == RC_INVALID);
	ck_assert(parse_nested(2000000, "{\"a\":[", NULL) == RC_INVALID);
	/* brackets in strings do not count, siblings do not add up */
	ck_assert(
		parse_flags(
			STR("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\""),
			JSON_NO_DUPLICATES, &v) == RC_OK);
	ck_assert(
		parse_flags(
			STR("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
			    "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
			    "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]"),
			JSON_NO_DUPLICATES, &v) == RC_OK);
}
END_TEST

START_TEST(duplicates)
{
	static const char *const twice[] = {"{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}",
					    "[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]",
					    "{\"\":1,\"\":2}", "{\"a\\u0000\":1,\"a\\u0000\":1}"};
	struct json *v;
	int64_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(twice); i++) {
		ck_assert(parse_flags(str_from(twice[i]), JSON_NO_DUPLICATES, &v) == RC_INVALID);
		ck_assert_ptr_nonnull(strstr(err.message, "twice"));
		ck_assert(parse_flags(str_from(twice[i]), JSON_ALLOW_DUPLICATES, &v) == RC_OK);
	}
	(void)parse("{\"a\":{\"a\":1},\"b\":{\"a\":1},\"A\":1,\"a\\u0000\":1}");
	ck_assert(parse_flags(str_from(twice[0]), JSON_ALLOW_DUPLICATES, &v) == RC_OK);
	ck_assert(json_int(json_get(v, "a"), &n) && n == 1); /* the first one */
}
END_TEST

START_TEST(duplicates_in_objects_of_every_size)
{
	for (size_t n = 1; n < 300; n = n < 40 ? n + 1 : n * 2) {
		for (size_t twice = 0; twice <= n; twice += n / 7 + 1) {
			AUTO(buf) struct buf b = BUF_INIT(1 << 20);
			struct json *v;
			enum rc rc;

			ck_assert(buf_append(&b, STR("{")) == RC_OK);
			for (size_t i = 0; i < n; i++)
				ck_assert(buf_printf(&b, "\"k%zu\":0,", i) == RC_OK);
			/* `twice` == n is a new key */
			ck_assert(buf_printf(&b, "\"k%zu\":0}", twice) == RC_OK);
			rc = parse_flags(buf_str(&b), JSON_NO_DUPLICATES, &v);
			ck_assert_msg(rc == (twice < n ? RC_INVALID : RC_OK), "%zu of %zu", twice,
				      n);
		}
	}
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		const char *text;
		enum json_type type;
		int64_t n;
	} rows[] = {
		{"0", JSON_INT, 0},
		{"-0", JSON_INT, 0},
		{"9223372036854775807", JSON_INT, INT64_MAX},
		{"-9223372036854775808", JSON_INT, INT64_MIN},
		{"9223372036854775808", JSON_REAL, 0},
		{"18446744073709551615", JSON_REAL, 0},
		{"-9223372036854775809", JSON_REAL, 0},
		{"5.0", JSON_REAL, 0},
		{"1e2", JSON_REAL, 0},
		{"1E+2", JSON_REAL, 0},
		{"0.1000000000000000055511151231257827", JSON_REAL, 0},
		{"123456789012345678901234567890", JSON_REAL, 0},
		{"1e-400", JSON_REAL, 0},
		{"1e308", JSON_REAL, 0},
		{"-1.50", JSON_REAL, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[100];
		struct json *v;
		int64_t n = 7;

		snprintf(text, sizeof text, "[%s,{\"k\":%s}]", rows[i].text, rows[i].text);
		v = parse(text);
		ck_assert_str_eq(written(v), text); /* the literal is kept */
		v = json_at(v, 0);
		ck_assert_int_eq(json_type(v), rows[i].type);
		ck_assert(json_int(v, &n) == (rows[i].type == JSON_INT));
		ck_assert_int_eq(n, rows[i].type == JSON_INT ? rows[i].n : 7);
		v = parse(rows[i].text); /* alone, too */
		ck_assert_int_eq(json_type(v), rows[i].type);
	}
}
END_TEST

START_TEST(integer_too_long_for_a_double)
{
	AUTO(buf) struct buf b = BUF_INIT(4000);
	struct json *v;

	ck_assert(buf_printf(&b, "1%0308d", 0) == RC_OK); /* 1e308 */
	ck_assert(parse_flags(buf_str(&b), JSON_NO_DUPLICATES, &v) == RC_OK);
	ck_assert_int_eq(json_type(v), JSON_REAL);
	ck_assert(buf_append(&b, STR("0")) == RC_OK); /* 1e309 */
	ck_assert(parse_flags(buf_str(&b), JSON_NO_DUPLICATES, &v) == RC_INVALID);
}
END_TEST

START_TEST(reads)
{
	struct json *v = parse(
		"{\"s\":\"a\\u0000b\",\"i\":5,\"t\":true,\"n\":null,\"a\":[1,\"x\",{}],\"o\":{\"k\":1},\"r\":1.5}");
	struct str s = STR("untouched");
	int64_t i = 9;
	bool b = false;

	ck_assert(json_string(json_get(v, "s"), &s) && str_eq(s, STR("a\0b")));
	ck_assert(json_int(json_get(v, "i"), &i) && i == 5);
	ck_assert(json_bool(json_get(v, "t"), &b) && b);
	ck_assert(!json_string(json_get(v, "i"), &s) && !json_string(NULL, &s) && s.len == 3);
	ck_assert(!json_int(json_get(v, "s"), &i) && !json_int(json_get(v, "r"), &i) &&
		  !json_int(NULL, &i) && i == 5);
	ck_assert(!json_bool(json_get(v, "n"), &b) && !json_bool(NULL, &b) && b);
	ck_assert(json_is_null(NULL) && json_is_null(json_get(v, "n")) && !json_is_null(v));
	ck_assert_ptr_null(json_get(v, "absent"));
	ck_assert_ptr_null(json_get(NULL, "s"));
	ck_assert_ptr_null(json_get(json_get(v, "a"), "s"));
	ck_assert_ptr_null(json_get_s(v, STR("s\0")));
	ck_assert_uint_eq(json_len(v), 7);
	ck_assert_uint_eq(json_len(json_get(v, "a")), 3);
	ck_assert_uint_eq(json_len(json_get(v, "s")), 0);
	ck_assert_uint_eq(json_len(NULL), 0);
	ck_assert_int_eq(json_type(json_at(json_get(v, "a"), 2)), JSON_OBJECT);
	ck_assert_ptr_null(json_at(json_get(v, "a"), 3));
	ck_assert_ptr_null(json_at(v, 0));
	ck_assert_int_eq(json_type(NULL), JSON_NULL);
	ck_assert_str_eq(json_type_name(json_type(json_get(v, "r"))), "number");
	ck_assert_str_eq(json_type_name(json_type(json_get(v, "i"))), "integer");
}
END_TEST

START_TEST(iterates)
{
	struct json *v = parse("{\"a\":[1,[2],3],\"b\":{},\"c\":\"x\"}");
	struct json_iter it = json_iter(v);
	struct json *x;
	struct str key;
	char keys[8] = "";
	int64_t sum = 0, n;

	while (json_next(&it, &key, &x))
		strncat(keys, key.ptr, key.len);
	ck_assert_str_eq(keys, "abc");
	ck_assert(!json_next(&it, &key, &x));
	for (it = json_iter(json_get(v, "a")); json_next(&it, NULL, &x);)
		sum += json_int(x, &n) ? n : 100;
	ck_assert_int_eq(sum, 104);
	it = json_iter(json_get(v, "b"));
	ck_assert(!json_next(&it, &key, &x));
	it = json_iter(json_get(v, "c"));
	ck_assert(!json_next(&it, &key, &x));
	it = json_iter(NULL);
	ck_assert(!json_next(&it, &key, &x));
}
END_TEST

START_TEST(memory_cap)
{
	AUTO(buf) struct buf b = BUF_INIT(1 << 20);
	struct arena *small = arena_new(100000);
	struct json *v = NULL;

	ck_assert(buf_append(&b, STR("[0")) == RC_OK);
	for (int i = 0; i < 100000; i++)
		ck_assert(buf_append(&b, STR(",0")) == RC_OK);
	ck_assert(buf_append(&b, STR("]")) == RC_OK);
	ck_assert(json_parse(buf_str(&b), JSON_NO_DUPLICATES, small, &v, &err) == RC_TOO_LARGE);
	ck_assert_ptr_null(v);
	ck_assert(json_parse(buf_str(&b), JSON_NO_DUPLICATES, mem, &v, &err) == RC_OK);
	ck_assert_uint_eq(json_len(v), 100001);
	arena_free(small);
}
END_TEST

START_TEST(writes)
{
	AUTO(buf) struct buf b = BUF_INIT(10000);
	struct json_out o;

	json_out_begin(&o, &b);
	json_obj(&o, NULL);
	json_put_str(&o, "s", STR("a\"\\\n\x01\x7f\xc3\xa9\xff"));
	json_put_str(&o, "null", STR_NULL);
	json_put_z(&o, "z", NULL);
	json_arr(&o, "a");
	json_put_int(&o, NULL, INT64_MIN);
	json_obj(&o, NULL);
	json_obj_end(&o);
	json_arr(&o, NULL);
	json_arr_end(&o);
	json_put_bool(&o, NULL, true);
	json_put_null(&o, NULL);
	json_arr_end(&o);
	json_put_uuid(&o, "u", org_id_platform.u);
	json_put_raw(&o, "r", STR("{\"x\":1.0}"));
	json_put_value(&o, "v", parse("[1e5,\"\\/\"]"));
	json_put_value(&o, "n\"", NULL);
	json_obj_end(&o);
	ck_assert(json_out_end(&o) == RC_OK);
	ck_assert_str_eq(
		b.ptr,
		"{\"s\":\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\",\"null\":null,\"z\":null,"
		"\"a\":[-9223372036854775808,{},[],true,null],"
		"\"u\":\"00000000-0000-7000-8000-000000000000\",\"r\":{\"x\":1.0},"
		"\"v\":[1e5,\"/\"],\"n\\\"\":null}");
	(void)parse(b.ptr);
}
END_TEST

/* A long string is written straight into the buffer, with all that stands around it. */
START_TEST(writes_long_strings)
{
	AUTO(buf) struct buf text = BUF_INIT(1 << 20);
	AUTO(buf) struct buf out = BUF_INIT(45000);
	struct json *v;

	ck_assert(
		buf_printf(
			&text,
			"[[],{},{\"a\":{\"b\":[null,true,false,-1.50e3,\"\\\"\\\\\\n\xc3\xa9\"]}},"
			"{\"\\u0001k\":\"%0*d\",\"z\":[[[\"\"]],0]},\"%0*d\"]",
			JSON_BORROW_MIN, 5, JSON_BORROW_MIN + 7, 6) == RC_OK);
	ck_assert(parse_flags(buf_str(&text), JSON_NO_DUPLICATES, &v) == RC_OK);
	ck_assert_str_eq(written(v), text.ptr);
	ck_assert_uint_eq(strlen(written(json_at(v, 4))), JSON_BORROW_MIN + 9);
	ck_assert(buf_append(&out, STR("keep")) == RC_OK);
	ck_assert(json_write(v, &out) == RC_TOO_LARGE);
	ck_assert_str_eq(out.ptr, "keep");
}
END_TEST

START_TEST(first_failure_sticks)
{
	AUTO(buf) struct buf b = BUF_INIT(10);
	struct json_out o;

	json_out_begin(&o, &b);
	json_arr(&o, NULL);
	json_put_z(&o, NULL, "much too long a text");
	json_put_int(&o, NULL, 1); /* would fit, but the array is broken already */
	json_arr_end(&o);
	ck_assert(json_out_end(&o) == RC_TOO_LARGE);
	ck_assert_ptr_null(strchr(b.ptr, '1'));
}
END_TEST

START_TEST(every_string_survives)
{
	srand(2);
	for (int round = 0; round < 2000; round++) {
		AUTO(buf) struct buf b = BUF_INIT(10000);
		char text[40];
		struct str s = str_of(text, (size_t)(rand() % 40)), back;
		struct json_out o;
		struct json *v;

		for (size_t i = 0; i < s.len; i++)
			text[i] = (char)(rand() % 4 ? rand() % 0x80 : rand());
		json_out_begin(&o, &b);
		json_put_str(&o, NULL, s);
		ck_assert(json_out_end(&o) == RC_OK);
		ck_assert(parse_flags(buf_str(&b), JSON_NO_DUPLICATES, &v) == RC_OK);
		ck_assert(json_string(v, &back));
		if (str_is_utf8(s))
			ck_assert(str_eq(back, s));
	}
}
END_TEST

static const char *spliced(const char *object, const struct json_edit *edits, size_t n)
{
	static struct buf out = BUF_INIT(1 << 16);
	struct str pieces[JSON_PIECES_MAX];
	size_t count;
	struct json *v;

	ck_assert(parse_flags(str_from(object), JSON_ALLOW_DUPLICATES, &v) == RC_OK);
	ck_assert(json_splice(str_from(object), v, edits, n, mem, pieces, &count) == RC_OK);
	buf_reset(&out);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_gt(pieces[i].len, 0);
		ck_assert(buf_append(&out, pieces[i]) == RC_OK);
	}
	return out.ptr;
}

/* Written anew; spliced it has to be the same. */
static const char *edited(const char *object, const struct json_edit *edits, size_t n)
{
	static struct buf out = BUF_INIT(1 << 16);
	struct json *v, *other;

	ck_assert(parse_flags(str_from(object), JSON_ALLOW_DUPLICATES, &v) == RC_OK);
	buf_reset(&out);
	ck_assert(json_write_edited(v, edits, n, &out) == RC_OK);
	ck_assert(parse_flags(str_from(spliced(object, edits, n)), JSON_ALLOW_DUPLICATES, &other) ==
		  RC_OK);
	ck_assert_str_eq(written(other), out.ptr);
	return out.ptr;
}

START_TEST(edits)
{
	const struct json_edit model[] = {{"model", {"\"m2\"", 4}}};
	const struct json_edit drop[] = {{"x", {NULL, 0}}, {"absent", {NULL, 0}}};
	const struct json_edit three[] = {
		{"b", {"[1]", 3}}, {"new", {"true", 4}}, {"a", {NULL, 0}}};

	ck_assert_str_eq(
		edited("{\"a\":1.10,\"model\":\"m1\",\"z\":[1e3,{\"model\":2}]}", model, 1),
		"{\"a\":1.10,\"model\":\"m2\",\"z\":[1e3,{\"model\":2}]}");
	ck_assert_str_eq(edited("{}", model, 1), "{\"model\":\"m2\"}");
	ck_assert_str_eq(edited("{\"x\":1}", drop, 2), "{}");
	ck_assert_str_eq(edited("{\"w\":0,\"x\":1,\"y\":2,\"x\":3}", drop, 2), "{\"w\":0,\"y\":2}");
	ck_assert_str_eq(edited("{\"a\":1,\"b\":2,\"c\":3}", three, 3),
			 "{\"b\":[1],\"c\":3,\"new\":true}");
	ck_assert_str_eq(edited("{\"model\":1,\"k\":2,\"m\\u006fdel\":3}", model, 1),
			 "{\"model\":\"m2\",\"k\":2}");
	ck_assert_str_eq(edited("{\"q\\\"\\u0000\":1}", NULL, 0), "{\"q\\\"\\u0000\":1}");
}
END_TEST

START_TEST(edits_refused)
{
	AUTO(buf) struct buf b = BUF_INIT(12);

	ck_assert(buf_append(&b, STR("keep")) == RC_OK);
	ck_assert(json_write_edited(parse("{\"a\":\"long enough\"}"), NULL, 0, &b) == RC_TOO_LARGE);
	ck_assert_str_eq(b.ptr, "keep");
	ck_assert(json_write_edited(parse("[]"), NULL, 0, &b) == RC_INVALID);
	ck_assert(json_write_edited(NULL, NULL, 0, &b) == RC_INVALID);
	ck_assert_str_eq(b.ptr, "keep");
}
END_TEST

START_TEST(spliced_bytes_stay)
{
	const struct json_edit model[] = {{"model", {"\"m2\"", 4}}};
	const struct json_edit drop[] = {{"x", {NULL, 0}}};
	const struct json_edit both[] = {{"x", {NULL, 0}}, {"new", {"1", 1}}};

	ck_assert_str_eq(
		spliced(" { \"a\" : 1.10 ,\n \"model\" : [ {} , \"}\\\"\" ] , \"z\":\"\\u00e9\\/\" } ",
			model, 1),
		" { \"a\" : 1.10 ,\n \"model\" : \"m2\" , \"z\":\"\\u00e9\\/\" } ");
	ck_assert_str_eq(spliced("{ \"a\" : 1 }\n", model, 1), "{ \"a\" : 1,\"model\":\"m2\" }\n");
	ck_assert_str_eq(spliced("{ }", model, 1), "{\"model\":\"m2\" }");
	ck_assert_str_eq(spliced("{ \"x\" : -1e5 , \"y\" : null }", drop, 1), "{\"y\" : null }");
	ck_assert_str_eq(spliced("{\"y\":[[]] , \"x\":true}", drop, 1), "{\"y\":[[]]}");
	ck_assert_str_eq(
		spliced("{\"x\":1,\"x\":2,\"y\":3,\"x\":4,\"x\":5,\"z\":6,\"x\":7}", drop, 1),
		"{\"y\":3,\"z\":6}");
	ck_assert_str_eq(spliced("{\"x\":1,\"x\":2}", both, 2), "{\"new\":1}");
	ck_assert_str_eq(spliced("{\"a\":0,\"x\":1}", both, 2), "{\"a\":0,\"new\":1}");
}
END_TEST

START_TEST(splice_refused)
{
	const struct json_edit edit[] = {{"x", {"1", 1}}};
	struct str pieces[JSON_PIECES_MAX];
	AUTO(buf) struct buf many = BUF_INIT(1 << 16);
	struct json *v;
	size_t count;

	ck_assert(json_splice(STR("[]"), parse("[]"), edit, 1, mem, pieces, &count) == RC_INVALID);
	ck_assert(buf_append(&many, STR("{\"x\":0")) == RC_OK);
	for (int i = 0; i < JSON_PIECES_MAX; i++)
		ck_assert(buf_printf(&many, ",\"k%d\":0,\"x\":0", i) == RC_OK);
	ck_assert(buf_append(&many, STR("}")) == RC_OK);
	ck_assert(parse_flags(buf_str(&many), JSON_ALLOW_DUPLICATES, &v) == RC_OK);
	ck_assert(json_splice(buf_str(&many), v, edit, 1, mem, pieces, &count) == RC_INVALID);
}
END_TEST

static struct json *parse_held(const char *z, size_t min)
{
	struct json *v = NULL;

	ck_assert_msg(json_parse_held(str_from(z), JSON_NO_DUPLICATES, min, mem, &v, &err) == RC_OK,
		      "%s: %s", z, err.message);
	return v;
}

static bool points_into(const struct json *v, const char *z)
{
	struct str s;

	return json_string(v, &s) && s.ptr >= z && s.ptr < z + strlen(z);
}

START_TEST(held_text)
{
	static const char text[] =
		"{\"image\":\"abcdefgh\",\"short\":\"abc\",\"longer than that\":[1.50,\"ab\\/defgh\","
		"\"abcdefg\xc3\xa9\",\"01234567\\\\\",\"\",\"another long one\"]}";
	struct json *plain = parse(text), *v = parse_held(text, 8), *list;
	char copy[sizeof text];

	strcpy(copy, written(plain));
	ck_assert_str_eq(written(v), copy);
	ck_assert(points_into(json_get(v, "image"), text));
	ck_assert(!points_into(json_get(v, "short"), text));
	list = json_get(v, "longer than that");
	ck_assert_uint_eq(json_len(list), 6);
	for (size_t i = 1; i < 5; i++) /* escapes and letters beyond ASCII: copied */
		ck_assert(!points_into(json_at(list, i), text));
	ck_assert(points_into(json_at(list, 5), text));
	ck_assert_str_eq(written(parse_held(text, 1)), copy);
	ck_assert_str_eq(written(parse_held(text, 1000)), copy);
	ck_assert_str_eq(written(parse_held("\"0123456789\"", 8)), "\"0123456789\"");
}
END_TEST

START_TEST(held_text_refused)
{
	static const char *const bad[] = {"{\"aaaaaaaaaa\":1,\"aaaaaaaaaa\":2}",
					  "[\"aaaaaaaaaa\" 1]",
					  "[\"aaaaaaaaaa\",\"bbbbbbbbbb]",
					  "[\"aaaaaaaaaa\nb\"]",
					  "[\"aaaaaaaaaa\xff\"]",
					  "\"aaaaaaaaaa\"\"bbbbbbbbbb\"",
					  "[\"aaaaaaaaaa\",nul]"};
	struct json *v;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err plain;

		ck_assert(parse_flags(str_from(bad[i]), JSON_NO_DUPLICATES, &v) == RC_INVALID);
		plain = err;
		memset(&err, 0, sizeof err);
		ck_assert(json_parse_held(str_from(bad[i]), JSON_NO_DUPLICATES, 4, mem, &v, &err) ==
			  RC_INVALID);
		ck_assert_str_eq(err.message, plain.message); /* the place too */
	}
}
END_TEST

/* More long strings than may be borrowed: the rest is copied. Long enough for whole blocks, and one more byte. */
START_TEST(held_text_of_many)
{
	AUTO(buf) struct buf text = BUF_INIT(1 << 20);
	AUTO(buf) struct buf copy = BUF_INIT(1 << 20);
	struct json *plain, *v;

	ck_assert(buf_append(&text, STR("[0")) == RC_OK);
	for (int i = 0; i < JSON_BORROWS_MAX + 2; i++)
		ck_assert(buf_printf(&text, ",\"%0*d\"", 127 + i % 4, i) == RC_OK);
	ck_assert(buf_append(&text, STR("]")) == RC_OK);
	ck_assert(parse_flags(buf_str(&text), JSON_NO_DUPLICATES, &plain) == RC_OK);
	v = parse_held(text.ptr, 64);
	ck_assert(json_write(plain, &copy) == RC_OK);
	ck_assert_str_eq(written(v), copy.ptr);
	ck_assert(points_into(json_at(v, JSON_BORROWS_MAX), text.ptr));
	ck_assert(!points_into(json_at(v, JSON_BORROWS_MAX + 1), text.ptr));
	text.ptr[200] = '\x1f'; /* inside a block */
	ck_assert(json_parse_held(buf_str(&text), JSON_NO_DUPLICATES, 64, mem, &v, &err) ==
		  RC_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, refused);
	tcase_add_test(t, cut_at_every_byte);
	tcase_add_test(t, depth);
	tcase_add_test(t, duplicates);
	tcase_add_test(t, duplicates_in_objects_of_every_size);
	tcase_add_test(t, numbers);
	tcase_add_test(t, integer_too_long_for_a_double);
	tcase_add_test(t, reads);
	tcase_add_test(t, iterates);
	tcase_add_test(t, memory_cap);
	tcase_add_test(t, writes);
	tcase_add_test(t, writes_long_strings);
	tcase_add_test(t, first_failure_sticks);
	tcase_add_test(t, every_string_survives);
	tcase_add_test(t, edits);
	tcase_add_test(t, edits_refused);
	tcase_add_test(t, spliced_bytes_stay);
	tcase_add_test(t, splice_refused);
	tcase_add_test(t, held_text);
	tcase_add_test(t, held_text_refused);
	tcase_add_test(t, held_text_of_many);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
