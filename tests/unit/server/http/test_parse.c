/* tests/unit/server/http/test_parse.c - the malformed-input table of the HTTP front, as far as bytes
 * alone decide it, and the promise that a verdict does not depend on how the bytes were cut. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/http/parse.h"

struct outcome {
	int status; /* 0: taken; -1: not HTTP; -2: more bytes wanted */
	const char *code;
	size_t used; /* of the taken message */
	size_t fields;
	struct buf body;
	char path[128], query[64];
};

static enum rc take(void *arg, struct str bytes)
{
	return buf_append(arg, bytes);
}

static void read_head(const struct http_parser *p, struct outcome *o)
{
	struct str path = http_parser_str(p, p->path), query = http_parser_str(p, p->query);

	snprintf(o->path, sizeof o->path, "%.*s", STR_FMT(path));
	snprintf(o->query, sizeof o->query, "%.*s", STR_FMT(query));
	o->fields = p->fields_count;
}

/* Feed `wire` in pieces: the first of `first` bytes, the others of `step`. */
static struct outcome feed(struct str wire, size_t first, size_t step)
{
	struct outcome o = {.status = -2, .body = BUF_INIT(1 << 24)};
	struct http_parser p;
	bool head = true;
	size_t at = 0, n = first;

	http_parser_init(&p, &http_parse_limits_default);
	while (at < wire.len && o.status == -2) {
		struct str piece = str_slice(wire, at, at + n);
		size_t used = 0;
		enum http_parse got = head ? http_parser_head(&p, piece, &used)
					   : http_parser_body(&p, piece, &used, take, &o.body);

		n = step;
		at += used;
		if (got == HTTP_PARSE_NOT_HTTP)
			o.status = -1;
		if (got == HTTP_PARSE_BAD) {
			o.status = p.fault->status;
			o.code = p.fault->code;
		}
		if (got == HTTP_PARSE_DONE && head)
			read_head(&p, &o);
		if (got == HTTP_PARSE_DONE && (!head || !http_parser_has_body(&p)))
			o.status = 0;
		if (got == HTTP_PARSE_DONE)
			head = false;
	}
	o.used = o.status == 0 ? at : 0;
	http_parser_clear(&p);
	return o;
}

static void same(struct outcome a, struct outcome b, const char *id, size_t first, size_t step)
{
	ck_assert_msg(a.status == b.status, "%s cut %zu/%zu: %d, whole %d", id, first, step,
		      b.status, a.status);
	ck_assert_msg(a.code == b.code, "%s cut %zu/%zu: code %s, whole %s", id, first, step,
		      b.code, a.code);
	ck_assert_msg(a.used == b.used, "%s cut %zu/%zu: used %zu, whole %zu", id, first, step,
		      b.used, a.used);
	ck_assert_uint_eq(a.fields, b.fields);
	ck_assert_str_eq(a.path, b.path);
	ck_assert_str_eq(a.query, b.query);
	if (a.status == 0)
		ck_assert(str_eq(buf_str(&a.body), buf_str(&b.body)));
	buf_clear(&b.body);
}

/* The whole at once is the truth; every step size and every place of one cut must say the same. */
static struct outcome every_way(struct str wire, const char *id)
{
	struct outcome whole = feed(wire, wire.len, wire.len);

	for (size_t step = 1; step <= wire.len && step <= 64; step++)
		same(whole, feed(wire, step, step), id, step, step);
	for (size_t cut = 1; cut < wire.len && wire.len < 2048; cut++)
		same(whole, feed(wire, cut, wire.len), id, cut, wire.len);
	return whole;
}

/* clang-format off */
#define R(id, text, status) {id, text, sizeof(text) - 1, status}
/* clang-format on */
#define H     "Host: a\r\n"
#define GET   "GET / HTTP/1.1\r\n" H
#define POST  "POST /p HTTP/1.1\r\n" H
#define CHUNK POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct row {
	const char *id, *wire;
	size_t len;
	int status;
} rows[] = {
	R("H00 get", GET "\r\n", 0),
	R("H00 post", POST "Content-Length: 5\r\n\r\nhello", 0),
	R("H01", "GET / HTTP/1.1\r\n\r\n", 400),
	R("H02", GET H "\r\n", 400),
	R("H02 case", GET "hOST: b\r\n\r\n", 400),
	R("H03 space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
	R("H03 user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
	R("H03 slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
	R("H03 empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
	R("H03 list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
	R("H03 port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
	R("H03 port text", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
	R("H03 open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
	R("H03 v6 good", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0),
	R("H03 port good", "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", 0),
	R("H04", "GET /\r\n", 400),
	R("H05", "GET / HTTP/1.0\r\n\r\n", 0),
	R("H05 two", "GET / HTTP/1.0\r\n" H H "\r\n", 400),
	R("H06 2.0", "GET / HTTP/2.0\r\n" H "\r\n", 505),
	R("H06 pri", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
	R("H07", "GET / HTTP/1.2\r\n" H "\r\n", 505),
	R("H08", "GET / HTTP/1.99999999999999999999\r\n" H "\r\n", 400),
	R("H09 httq", "GET / HTTQ/1.1\r\n" H "\r\n", 400),
	R("H09 lower", "GET / http/1.1\r\n" H "\r\n", 400),
	R("H09 short", "GET / HTTP/1\r\n" H "\r\n", 400),
	R("H09 01.1", "GET / HTTP/01.1\r\n" H "\r\n", 400),
	R("H09 trailing sp", "GET / HTTP/1.1 \r\n" H "\r\n", 400),
	R("H10", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", -1),
	R("H11", "BREW / HTTP/1.1\r\n" H "\r\n", 405),
	R("H11 lower", "get / HTTP/1.1\r\n" H "\r\n", 405),
	R("H13 one", "\r\n" GET "\r\n", 0),
	R("H13 two", "\r\n\r\n" GET "\r\n", 400),
	R("H13 lf", "\n" GET "\r\n", 400),
	R("H14 sp", " " GET "\r\n", 400),
	R("H14 tab", "GET\t/\tHTTP/1.1\r\n" H "\r\n", 400),
	R("H15", "GET  / HTTP/1.1\r\n" H "\r\n", 400),
	R("H16", "GET /a b HTTP/1.1\r\n" H "\r\n", 400),
	R("H17", "GET /\x01 HTTP/1.1\r\n" H "\r\n", 400),
	R("H17 del", "GET /\x7f HTTP/1.1\r\n" H "\r\n", 400),
	R("H18", "GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", 400),
	R("H19", "GET /%zz HTTP/1.1\r\n" H "\r\n", 400),
	R("H19 short", "GET /%4 HTTP/1.1\r\n" H "\r\n", 400),
	R("H20", "GET /#frag HTTP/1.1\r\n" H "\r\n", 400),
	R("H21", "GET /%00 HTTP/1.1\r\n" H "\r\n", 400),
	R("H21 query", "GET /?a=%00 HTTP/1.1\r\n" H "\r\n", 400),
	R("H21 good", "GET /%20 HTTP/1.1\r\n" H "\r\n", 0),
	R("H21 backslash", "GET /a\\b HTTP/1.1\r\n" H "\r\n", 400),
	R("H21 bracket", "GET /?a[]=1 HTTP/1.1\r\n" H "\r\n", 400),
	R("H22", "GET /\0 HTTP/1.1\r\n" H "\r\n", 400),
	R("H23", "GET http://b/x HTTP/1.1\r\n" H "\r\n", 400),
	R("H23 same", "GET http://A/x?y HTTP/1.1\r\n" H "\r\n", 0),
	R("H23 user", "GET http://u@a/x HTTP/1.1\r\n" H "\r\n", 400),
	R("H23 other scheme", "GET ftp://a/x HTTP/1.1\r\n" H "\r\n", 400),
	R("H23 relative", "GET x HTTP/1.1\r\n" H "\r\n", 400),
	R("H24", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0),
	R("H24 get", "GET * HTTP/1.1\r\n" H "\r\n", 400),
	R("H25 connect", "CONNECT a:443 HTTP/1.1\r\n" H "\r\n", 405),
	R("H25 trace", "TRACE / HTTP/1.1\r\n" H "\r\n", 405),
	R("H27", GET "X: a\0b\r\n\r\n", 400),
	R("H28", GET "X\0: a\r\n\r\n", 400),
	R("H29", GET "X: a\rb\r\n\r\n", 400),
	R("H30", "GET / HTTP/1.1\nHost: a\n\n", 400),
	R("H30 header", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
	R("H30 end", GET "\n", 400),
	R("H31", POST "X: a\nContent-Length: 5\r\n\r\nhello", 400),
	R("H32", POST "Content-Length : 5\r\n\r\nhello", 400),
	R("H33", POST "Content-Length\t: 5\r\n\r\nhello", 400),
	R("H34", GET "nocolon\r\n\r\n", 400),
	R("H35", GET ": a\r\n\r\n", 400),
	R("H36", GET "X: a\r\n b\r\n\r\n", 400),
	R("H36 tab", GET "X: a\r\n\tb\r\n\r\n", 400),
	R("H37", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
	R("H38", POST " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	R("H39 ff", GET "X\xff: a\r\n\r\n", 400),
	R("H39 (", GET "X(: a\r\n\r\n", 400),
	R("H39 sp", GET "X Y: a\r\n\r\n", 400),
	R("H42", GET "Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 400),
	R("H42 key", GET "x-api-key: a\r\nX-Api-Key: a\r\n\r\n", 400),
	R("H44", POST "Content-Length: +5\r\n\r\nhello", 400),
	R("H45 -", POST "Content-Length: -5\r\n\r\nhello", 400),
	R("H45 x", POST "Content-Length: 0x5\r\n\r\nhello", 400),
	R("H45 sp", POST "Content-Length: 5 5\r\n\r\nhello", 400),
	R("H45 ,", POST "Content-Length: 5,5\r\n\r\nhello", 400),
	R("H45 empty", POST "Content-Length:\r\n\r\nhello", 400),
	R("H46", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
	R("H47", POST "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400),
	R("H47 reversed", POST "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400),
	R("H48", POST "Content-Length: 100000000000000000000\r\n\r\n", 413),
	R("H48 int64", POST "Content-Length: 9223372036854775807\r\n\r\n", 413),
	R("H49",
	  POST "Content-Length: \x0b"
	       "5\r\n\r\nhello",
	  400),
	R("H50", POST "Content-Length: 33554433\r\n\r\n", 413),
	R("H51", GET "Content-Length: 5\r\n\r\nhello", 0),
	R("H54", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	R("H54 reversed", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
	  400),
	R("H55 identity", POST "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
	  400),
	R("H55 x", POST "Transfer-Encoding: xchunked\r\n\r\n", 400),
	R("H55 quoted", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 400),
	R("H55 gzip behind", POST "Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
	R("H55 comma", POST "Transfer-Encoding: chunked,\r\n\r\n", 400),
	R("H55 twice", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
	R("H55 empty", POST "Transfer-Encoding:\r\n\r\n", 400),
	R("H56", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
	R("H57", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
	R("H58", POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
	R("H59 vt",
	  POST "Transfer-Encoding: \x0b"
	       "chunked\r\n\r\n",
	  400),
	R("H59 ff",
	  POST "Transfer-Encoding: \x0c"
	       "chunked\r\n\r\n",
	  400),
	R("H60", POST "Transfer-Encoding : chunked\r\n\r\n", 400),
	R("H61", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	R("H62 0x", CHUNK "0x5\r\nhello\r\n0\r\n\r\n", 400),
	R("H62 0X", CHUNK "0X5\r\nhello\r\n0\r\n\r\n", 400),
	R("H63 +", CHUNK "+5\r\nhello\r\n0\r\n\r\n", 400),
	R("H63 -0", CHUNK "-0\r\n\r\n", 400),
	R("H63 sp", CHUNK " 5\r\nhello\r\n0\r\n\r\n", 400),
	R("H63 sp behind", CHUNK "5 \r\nhello\r\n0\r\n\r\n", 400),
	R("H64 _", CHUNK "5_0\r\nhello\r\n0\r\n\r\n", 400),
	R("H64 zz", CHUNK "zz\r\nhello\r\n0\r\n\r\n", 400),
	R("H64 empty", CHUNK "\r\n5\r\nhello\r\n0\r\n\r\n", 400),
	R("H65 17", CHUNK "00000000000000005\r\nhello\r\n0\r\n\r\n", 400),
	R("H65 7f", CHUNK "7fffffffffffffff\r\nhello\r\n0\r\n\r\n", 413),
	R("H65 ff", CHUNK "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 413),
	R("H66", CHUNK "5;a=b\r\nhello\r\n0\r\n\r\n", 0),
	R("H67 cr", CHUNK "5;a=\rb\r\nhello\r\n0\r\n\r\n", 400),
	R("H67 lf", CHUNK "5;a=\nb\r\nhello\r\n0\r\n\r\n", 400),
	R("H68", CHUNK "5\nhello\n0\n\n", 400),
	R("H68 data", CHUNK "5\r\nhello\n0\r\n\r\n", 400),
	R("H68 last", CHUNK "5\r\nhello\r\n0\n\n", 400),
	R("H68 end", CHUNK "5\r\nhello\r\n0\r\n\n", 400),
	R("H69", CHUNK "5\r\nhelloXX\r\n0\r\n\r\n", 400),
	R("H70", CHUNK "5\r\nhello0\r\n\r\n", 400),
	R("H71",
	  CHUNK
	  "5\r\nhello\r\n0\r\nAuthorization: x\r\nContent-Length: 3\r\nHost: b\r\nX-Org: c\r\n"
	  "Transfer-Encoding: chunked\r\n\r\n",
	  0),
	R("H71 bad", CHUNK "5\r\nhello\r\n0\r\nX : y\r\n\r\n", 400),
	R("H71 fold", CHUNK "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", 400),
	R("H73", POST "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", 0),
	R("H74", POST "Expect: tea\r\nContent-Length: 5\r\n\r\nhello", 417),
	R("H75",
	  POST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	  0),
	R("H78", POST "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", 0),
	R("H78 get", GET "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 0),
	R("H79", GET "Connection: close, Authorization\r\nAuthorization: Bearer a\r\n\r\n", 0),
	R("H96 cr", GET "\rX", 400),
	R("H96 crcrlf", GET "\r\r\n", 400),
	R("H96 lfcr", GET "\n\r", 400),
	R("H96 value", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
};

START_TEST(every_row_in_every_cut)
{
	const struct row *r = &rows[_i];
	struct outcome o = every_way(str_of(r->wire, r->len), r->id);

	ck_assert_msg(o.status == r->status, "%s: %d, expected %d", r->id, o.status, r->status);
	/* chunked, by length, one in GET: all taken bodies of the table are this word or nothing */
	if (o.status == 0 && o.body.len > 0)
		ck_assert(str_is(buf_str(&o.body), "hello"));
	if (o.status == 0)
		ck_assert_uint_eq(o.used, r->len);
	buf_clear(&o.body);
}
END_TEST

static struct outcome big(const char *before, char fill, size_t n, const char *after)
{
	struct buf b = BUF_INIT(1 << 20);
	struct outcome o;

	ck_assert(buf_append(&b, str_from(before)) == RC_OK);
	for (size_t i = 0; i < n; i++)
		ck_assert(buf_append_char(&b, fill) == RC_OK);
	ck_assert(buf_append(&b, str_from(after)) == RC_OK);
	o = feed(buf_str(&b), b.len, b.len);
	same(o, feed(buf_str(&b), 1, 1), before, 1, 1);
	same(o, feed(buf_str(&b), 1000, 1000), before, 1000, 1000);
	buf_clear(&b);
	buf_clear(&o.body);
	return o;
}

START_TEST(bounds)
{
	struct buf many = BUF_INIT(1 << 20);
	struct outcome o;

	ck_assert_int_eq(big("", 'M', 9000, " / HTTP/1.1\r\n" H "\r\n").status, 400);	  /* H12 */
	ck_assert_int_eq(big("GET /", 'a', 20480, " HTTP/1.1\r\n" H "\r\n").status, 414); /* H26 */
	ck_assert_int_eq(big("GET /", 'a', 8191, " HTTP/1.1\r\n" H "\r\n").status, 0);
	ck_assert_int_eq(big("GET /", 'a', 8192, " HTTP/1.1\r\n" H "\r\n").status, 414);
	ck_assert_int_eq(big(GET "X: ", 'a', 20480, "\r\n\r\n").status, 431); /* H40 */
	ck_assert_int_eq(big(GET "X: ", 'a', 8189, "\r\n\r\n").status, 0);
	ck_assert_int_eq(big(GET "X: ", 'a', 8190, "\r\n\r\n").status, 431);
	ck_assert_int_eq(big(GET, 'X', 20480, ": a\r\n\r\n").status, 431);
	ck_assert_int_eq(big(CHUNK "5;a=", 'b', 102400, "\r\nhello\r\n0\r\n\r\n").status,
			 400); /* H67 */
	ck_assert_int_eq(big(CHUNK "5;a=", 'b', 254, "\r\nhello\r\n0\r\n\r\n").status, 0);
	ck_assert_int_eq(big(CHUNK "5\r\nhello\r\n0\r\nX: ", 'b', 5000, "\r\n\r\n").status, 400);
	for (int n = 99; n <= 1000; n = n == 99 ? 100 : 1000) { /* H41; Host is one more */
		buf_reset(&many);
		ck_assert(buf_append(&many, STR(GET)) == RC_OK);
		for (int i = 0; i < n; i++)
			ck_assert(buf_printf(&many, "X%d: %d\r\n", i, i) == RC_OK);
		ck_assert(buf_append(&many, STR("\r\n")) == RC_OK);
		o = feed(buf_str(&many), many.len, many.len);
		ck_assert_int_eq(o.status, n == 99 ? 0 : 431);
		if (n == 1000)
			break;
	}
	buf_clear(&many);
}
END_TEST

START_TEST(tiny_chunks_are_refused_and_ordinary_ones_are_not)
{
	struct buf b = BUF_INIT(1 << 24);
	struct outcome o;

	for (int size = 1; size <= 64; size *= 64) {
		buf_reset(&b);
		ck_assert(buf_append(&b, STR(CHUNK)) == RC_OK);
		for (int i = 0; i < 20000; i++)
			ck_assert(buf_printf(&b, "%x\r\n%0*d\r\n", size, size, 7) == RC_OK);
		ck_assert(buf_append(&b, STR("0\r\n\r\n")) == RC_OK);
		o = feed(buf_str(&b), b.len, b.len);
		ck_assert_int_eq(o.status, size == 1 ? 400 : 0); /* H72 */
		ck_assert(size > 1 || o.body.len < 2000);
		buf_clear(&o.body);
	}
	buf_clear(&b);
}
END_TEST

START_TEST(underscore_names_are_not_there)
{
	struct str wire = STR("GET /a?b HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1\r\n"
			      "Content_Length: 5\r\nX-Real: 2\r\n\r\n");
	struct outcome o = every_way(wire, "H43");

	ck_assert_int_eq(o.status, 0);
	ck_assert_uint_eq(o.fields, 2);
	ck_assert_str_eq(o.path, "/a");
	ck_assert_str_eq(o.query, "b");
}
END_TEST

START_TEST(a_message_ends_where_its_framing_says)
{
	struct str two = STR(POST "Content-Length: 5\r\n\r\nhelloGET /evil HTTP/1.1\r\n" H "\r\n");
	struct str head = STR("HEAD / HTTP/1.1\r\n" H "Content-Length: 35\r\n\r\n"
			      "GET /evil HTTP/1.1\r\nHost: evil....\r\n\r\n");
	struct outcome o = every_way(two, "two");

	ck_assert_uint_eq(o.used, two.len - strlen("GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"));
	buf_clear(&o.body);
	o = every_way(head, "H52");
	ck_assert_int_eq(o.status, 0);
	ck_assert_uint_eq(o.body.len, 35); /* the request inside is body, not a request */
	buf_clear(&o.body);
}
END_TEST

START_TEST(truncated_anywhere_is_never_taken)
{
	struct str wire = STR(CHUNK "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n");

	for (size_t n = 1; n < wire.len; n++) {
		struct outcome o = feed(str_slice(wire, 0, n), n, n);

		ck_assert_msg(o.status == -2, "cut at %zu: %d", n, o.status);
		buf_clear(&o.body);
	}
}
END_TEST

static enum rc full(void *arg, struct str bytes)
{
	(void)arg;
	(void)bytes;
	return RC_TOO_LARGE;
}

START_TEST(bounds_of_the_endpoint_and_of_the_sink)
{
	struct str wire = STR(CHUNK "5\r\nhello\r\n0\r\n\r\n");
	struct http_parser p;
	struct buf body = BUF_INIT(100);
	size_t head, used;

	http_parser_init(&p, &http_parse_limits_default);
	ck_assert(http_parser_head(&p, wire, &head) == HTTP_PARSE_DONE);
	http_parser_body_max(&p, 4);
	ck_assert(http_parser_body(&p, str_slice(wire, head, wire.len), &used, take, &body) ==
		  HTTP_PARSE_BAD);
	ck_assert_int_eq(p.fault->status, 413);
	ck_assert_uint_eq(body.len, 0);
	http_parser_next(&p);
	ck_assert(http_parser_head(&p, wire, &head) == HTTP_PARSE_DONE);
	ck_assert(http_parser_body(&p, str_slice(wire, head, wire.len), &used, full, NULL) ==
		  HTTP_PARSE_BAD);
	ck_assert_int_eq(p.fault->status, 413);
	http_parser_clear(&p);
	buf_clear(&body);
}
END_TEST

START_TEST(keep_alive_and_expect_are_told)
{
	static const struct {
		const char *wire;
		bool keep, expect;
	} t[] = {{GET "\r\n", true, false},
		 {GET "Connection: close\r\n\r\n", false, false},
		 {GET "Connection: foo , CLOSE\r\n\r\n", false, false},
		 {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, false},
		 {POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", true, true}};

	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		struct http_parser p;
		size_t used;

		http_parser_init(&p, &http_parse_limits_default);
		ck_assert(http_parser_head(&p, str_from(t[i].wire), &used) == HTTP_PARSE_DONE);
		ck_assert_msg(p.keep_alive == t[i].keep, "%s", t[i].wire);
		ck_assert_msg(p.expect_continue == t[i].expect, "%s", t[i].wire);
		http_parser_clear(&p);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http parse");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_loop_test(t, every_row_in_every_cut, 0, (int)(sizeof rows / sizeof rows[0]));
	tcase_add_test(t, bounds);
	tcase_add_test(t, tiny_chunks_are_refused_and_ordinary_ones_are_not);
	tcase_add_test(t, underscore_names_are_not_there);
	tcase_add_test(t, a_message_ends_where_its_framing_says);
	tcase_add_test(t, truncated_anywhere_is_never_taken);
	tcase_add_test(t, bounds_of_the_endpoint_and_of_the_sink);
	tcase_add_test(t, keep_alive_and_expect_are_told);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
