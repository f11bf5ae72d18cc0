/* The SSRF table (S01-S50, S60 as far as no lookup is needed), the allow-list, own addresses. */
#include "server/egress.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static struct egress *egress(const char *allow)
{
	struct egress *e;
	struct err err;

	ck_assert_msg(egress_new(allow, &e, &err) == RC_OK, "%s", allow ? allow : "(null)");
	return e;
}

static enum rc parse(const char *allow, const char *url, char *base, size_t size)
{
	struct egress *e = egress(allow);
	struct arena *mem = arena_new(1 << 16);
	struct egress_url u;
	struct err err = {0};
	enum rc rc = egress_parse(e, str_from(url), mem, &u, &err);

	if (rc == RC_OK && base)
		snprintf(base, size, "%.*s %.*s %.*s %d %d", STR_FMT(u.origin), STR_FMT(u.base),
			 STR_FMT(u.host), u.port, u.https);
	if (rc != RC_OK) {
		ck_assert_msg(err.code && err.message[0], "no words for %s", url);
		ck_assert_str_eq(err.field, "base_url");
	}
	arena_free(mem);
	egress_free(e);
	return rc;
}

static bool address(const char *allow, const char *ip, uint16_t port, bool https)
{
	struct egress *e = egress(allow);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	const struct sockaddr *sa = (struct sockaddr *)&in;
	bool ok;

	if (inet_pton(AF_INET, ip, &in.sin_addr) != 1) {
		ck_assert_msg(inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1, "%s", ip);
		sa = (struct sockaddr *)&in6;
	}
	ok = egress_address_allowed(e, sa, https);
	egress_free(e);
	return ok;
}

START_TEST(g14_s01_s30_literals_are_refused)
{
	static const char *const hosts[] = {
		"127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001",
		"0177.0.0.1", "0x7f.1", "017700000001", "127.0.0.1.", "localhost", "LOCALHOST",
		"ip6-localhost", "[::]", "[::1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:7f00:1]",
		"[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]", "[fd00:ec2::254]",
		"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
		"[::ffff:a9fe:a9fe]", "168.63.129.16", "100.100.100.200",
		"metadata.google.internal",
		/* and their like */
		"127.0.0.01", "0x7F.0.0.1", "127.0.0.0x1", "1.2.3", "1.2.3.4.5", "256.1.1.1",
		"foo.0x7f", "10.1.2.3", "192.168.0.1", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
		"[2001:db8::1]", "[2001::1]", "[fc00::1]", "[ff02::1]", "[fec0::1]",
		"[64:ff9b:1::1]", "[4000::1]", "a.localhost", "[fe80::1]", "[::1", "::1",
		"[127.0.0.1]", "[]", "[:]"};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		char url[128];

		snprintf(url, sizeof url, "http://%s/", hosts[i]);
		ck_assert_msg(parse(NULL, url, NULL, 0) != RC_OK, "%s", url);
		snprintf(url, sizeof url, "https://%s/v1", hosts[i]);
		ck_assert_msg(parse(NULL, url, NULL, 0) != RC_OK, "%s", url);
		snprintf(url, sizeof url, "https://%s:8443", hosts[i]);
		ck_assert_msg(parse(NULL, url, NULL, 0) != RC_OK, "%s", url);
	}
}
END_TEST

START_TEST(s31_s46_parser_tricks_are_refused)
{
	static const char *const urls[] = {"",
					   "https",
					   "https:",
					   "https:/",
					   "https://",
					   "https:///",
					   "https:///etc/passwd",
					   "http://ok@127.0.0.1/",
					   "https://ok@1.1.1.1/",
					   "https://ok:pw@1.1.1.1/",
					   "https://@1.1.1.1/",
					   "http://1.1.1.1:80\\@127.2.2.2/",
					   "https://1.1.1.1:443\\@127.2.2.2/",
					   "http:/127.0.0.1/",
					   "https:/1.1.1.1/",
					   "http:127.0.0.1",
					   "https:1.1.1.1",
					   "http://a#@127.0.0.1/",
					   "https://a#@b/",
					   "https://a.example/#x",
					   "https://a.example?x=1",
					   "https://a.example/v1?x",
					   "http://127.0.0.1%2f@x/",
					   "https://127.0.0.1%2f@x/",
					   "https://a%2eexample/",
					   "https://\xef\xbc\x91.1.1.1/",
					   "https://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1/",
					   ("https://b\xc3\xbc"
					    "cher.example/"),
					   "https://a\t.example/",
					   "https://a\n.example/",
					   "https://a.example/v1\r\nX: y",
					   " https://a.example/",
					   "https://a.example/ ",
					   "https://a.example/a b",
					   "https://a.example/\x7f",
					   "http://x:99999/",
					   "https://x:99999/",
					   "https://x:0/",
					   "https://x:/",
					   "https://x:-1/",
					   "https://x:0443/",
					   "https://x:+443/",
					   "https://x:443x/",
					   "https://x:4 43/",
					   "https://a:1:2/",
					   "https://[2606:4700::1111]x/",
					   "https://[2606:4700::1111]:/",
					   "https://[2606:4700::1111%251]/",
					   "https://.example/",
					   "https://a..example/",
					   "https://a.example./",
					   "https://-a.example/",
					   "https://a,b/",
					   "https://a;b/",
					   "https://a.example/../x",
					   "https://a.example/v1/%2e%2e/x",
					   "https://a.example/./x",
					   "https://a.example/.%2E",
					   "https://a.example/%zz",
					   "https://a.example/%0",
					   "file:///etc/passwd",
					   "gopher://1.1.1.1/",
					   "dict://1.1.1.1/",
					   "ftp://1.1.1.1/",
					   "ldap://1.1.1.1/",
					   "unix:/run/x.sock",
					   "ws://1.1.1.1/",
					   "httpss://1.1.1.1/",
					   "//1.1.1.1/",
					   "1.1.1.1",
					   "a.example",
					   "http://a.example/",
					   "http://1.1.1.1/",
					   "https://a.example:22/",
					   "https://a.example:80/",
					   "https://1.1.1.1:25/",
					   "https://a.example:1023/"};
	char longer[600];

	for (size_t i = 0; i < ARRAY_LEN(urls); i++)
		ck_assert_msg(parse(NULL, urls[i], NULL, 0) != RC_OK, "%s", urls[i]);
	memset(longer, 'a', sizeof longer);
	memcpy(longer, "https://a.example/", 18);
	longer[512] = '\0';
	ck_assert_int_eq(parse(NULL, longer, NULL, 0), RC_OK);
	longer[512] = 'a';
	longer[513] = '\0';
	ck_assert_int_eq(parse(NULL, longer, NULL, 0), RC_INVALID);
	memset(longer, 'a', sizeof longer);
	memcpy(longer, "https://", 8);
	longer[8 + 64] = '\0'; /* a label of 64 */
	ck_assert_int_eq(parse(NULL, longer, NULL, 0), RC_INVALID);
	longer[8 + 63] = '\0';
	ck_assert_int_eq(parse(NULL, longer, NULL, 0), RC_OK);
}
END_TEST

START_TEST(nul_inside_is_refused)
{
	struct egress *e = egress(NULL);
	struct arena *mem = arena_new(1 << 16);
	struct egress_url u;
	struct err err;

	ck_assert_int_eq(egress_parse(e, STR("https://a.example\0.b/"), mem, &u, &err), RC_INVALID);
	arena_free(mem);
	egress_free(e);
}
END_TEST

START_TEST(good_urls_are_written_one_way)
{
	static const struct {
		const char *allow, *url, *want;
	} cases[] = {
		{NULL, "https://api.openai.com/v1",
		 "https://api.openai.com:443 https://api.openai.com/v1 api.openai.com 443 1"},
		{NULL, "HTTPS://API.OpenAI.com:443/v1//",
		 "https://api.openai.com:443 https://api.openai.com/v1 api.openai.com 443 1"},
		{NULL, "https://a.example",
		 "https://a.example:443 https://a.example a.example 443 1"},
		{NULL, "https://a.example:8443/x/y/",
		 "https://a.example:8443 https://a.example:8443/x/y a.example 8443 1"},
		{NULL, "https://1.1.1.1/", "https://1.1.1.1:443 https://1.1.1.1 1.1.1.1 443 1"},
		{NULL, "https://[2606:4700:0:0::1111]:8443/v1",
		 "https://[2606:4700::1111]:8443 https://[2606:4700::1111]:8443/v1 "
		 "2606:4700::1111 8443 1"},
		{NULL, "https://xn--bcher-kva.example/",
		 "https://xn--bcher-kva.example:443 https://xn--bcher-kva.example "
		 "xn--bcher-kva.example 443 1"},
		{"127.0.0.0/8", "http://127.0.0.1:9000/v1/",
		 "http://127.0.0.1:9000 http://127.0.0.1:9000/v1 127.0.0.1 9000 0"},
		{"127.0.0.1/32:80", "http://127.0.0.1",
		 "http://127.0.0.1:80 http://127.0.0.1 127.0.0.1 80 0"},
		{"[::1/128]:8000", "http://[::1]:8000/a",
		 "http://[::1]:8000 http://[::1]:8000/a ::1 8000 0"},
		{"127.0.0.1/32", "https://localhost:22",
		 "https://localhost:22 https://localhost:22 localhost 22 1"},
		{NULL, "https://a.example/@x/..y/a%20b",
		 "https://a.example:443 https://a.example/@x/..y/a%20b a.example 443 1"},
	};
	char got[1024];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ck_assert_msg(parse(cases[i].allow, cases[i].url, got, sizeof got) == RC_OK, "%s",
			      cases[i].url);
		ck_assert_str_eq(got, cases[i].want);
	}
}
END_TEST

START_TEST(reserialising_changes_nothing_more)
{
	static const char *const urls[] = {"https://A.example:443/v1/", "https://1.1.1.1:8443/a/b",
					   "https://[2606:4700::1111]/x//y/"};
	struct egress *e = egress(NULL);

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct arena *mem = arena_new(1 << 16);
		struct egress_url a, b;
		struct err err;

		ck_assert_int_eq(egress_parse(e, str_from(urls[i]), mem, &a, &err), RC_OK);
		ck_assert_int_eq(egress_parse(e, a.base, mem, &b, &err), RC_OK);
		ck_assert(str_eq(a.base, b.base) && str_eq(a.origin, b.origin));
		arena_free(mem);
	}
	egress_free(e);
}
END_TEST

/* A literal address the allow-list names, port and all: not one that is merely public, and no name. */
START_TEST(an_address_that_is_listed_is_said_so)
{
	static const struct {
		const char *url;
		bool listed;
	} cases[] = {
		{"http://10.1.2.3:8000/v1", true},  {"https://10.9.9.9:9443", true},
		{"https://1.1.1.1/v1", false},	    {"https://8.8.8.8:9000/v1", true},
		{"https://8.8.8.8:9001/v1", false}, {"https://api.example/v1", false},
	};
	struct egress *e = egress("10.0.0.0/8,8.8.8.8/32:9000");

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena *mem = arena_new(1 << 16);
		struct egress_url u;
		struct err err;

		ck_assert_int_eq(egress_parse(e, str_from(cases[i].url), mem, &u, &err), RC_OK);
		ck_assert_msg(u.listed == cases[i].listed, "%s", cases[i].url);
		arena_free(mem);
	}
	egress_free(e);
}
END_TEST

START_TEST(deny_table_edges)
{
	static const struct {
		const char *ip;
		bool public;
	} cases[] = {
		{"1.0.0.0", true},
		{"0.255.255.255", false},
		{"9.255.255.255", true},
		{"10.0.0.0", false},
		{"10.255.255.255", false},
		{"11.0.0.0", true},
		{"100.63.255.255", true},
		{"100.64.0.0", false},
		{"100.127.255.255", false},
		{"100.128.0.0", true},
		{"126.255.255.255", true},
		{"127.255.255.255", false},
		{"128.0.0.0", true},
		{"169.253.255.255", true},
		{"169.254.0.0", false},
		{"169.255.0.0", true},
		{"172.15.255.255", true},
		{"172.16.0.0", false},
		{"172.31.255.255", false},
		{"172.32.0.0", true},
		{"192.0.0.255", false},
		{"192.0.1.0", true},
		{"192.0.2.1", false},
		{"192.88.99.1", false},
		{"192.168.255.255", false},
		{"192.169.0.0", true},
		{"198.17.255.255", true},
		{"198.18.0.0", false},
		{"198.19.255.255", false},
		{"198.20.0.0", true},
		{"198.51.100.7", false},
		{"203.0.113.7", false},
		{"223.255.255.255", true},
		{"224.0.0.0", false},
		{"239.255.255.255", false},
		{"240.0.0.0", false},
		{"255.255.255.255", false},
		{"168.63.129.16", false},
		{"168.63.129.17", true},
		{"8.8.8.8", true},
		{"::ffff:8.8.8.8", true},
		{"::ffff:10.0.0.1", false},
		{"::8.8.8.8", false},
		{"64:ff9b::8.8.8.8", true},
		{"64:ff9b::10.0.0.1", false},
		{"64:ff9b::169.254.169.254", false},
		{"64:ff9b:1::8.8.8.8", false},
		{"2002:808:808::1", true},
		{"2002:a00:1::1", false},
		{"2002:7f00:1::1", false},
		{"2001:0:1::1", false},
		{"2001:1ff:ffff::", false},
		{"2001:200::1", true},
		{"2001:db8::1", false},
		{"2606:4700::1", true},
		{"3fff::1", false},
		{"3ffe::1", true},
		{"4000::1", false},
		{"5f00::1", false},
		{"100::1", false},
		{"fbff::1", false},
		{"fc00::1", false},
		{"fdff::1", false},
		{"fe80::1", false},
		{"febf::1", false},
		{"fec0::1", false},
		{"ff02::1", false},
		{"fd00:ec2::254", false},
		{"::", false},
		{"::1", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ck_assert_msg(address(NULL, cases[i].ip, 443, true) == cases[i].public, "%s",
			      cases[i].ip);
		ck_assert_msg(!address(NULL, cases[i].ip, 443, false), "http %s", cases[i].ip);
	}
}
END_TEST

START_TEST(ports)
{
	ck_assert(address(NULL, "8.8.8.8", 443, true));
	ck_assert(address(NULL, "8.8.8.8", 1024, true));
	ck_assert(!address(NULL, "8.8.8.8", 1023, true));
	ck_assert(!address(NULL, "8.8.8.8", 0, true));
	ck_assert(!address("8.8.8.8/32", "8.8.8.8", 0, true));
	ck_assert(address("8.8.8.8/32:25", "8.8.8.8", 25, true));
	ck_assert(!address("8.8.8.8/32:25", "8.8.8.8", 26, true));
	ck_assert(address("8.8.8.8/32:25", "8.8.8.8", 8443, true));
}
END_TEST

START_TEST(allow_list_opens_what_it_names_and_no_more)
{
	ck_assert(address("10.0.0.0/8", "10.1.2.3", 80, false));
	ck_assert(address("10.0.0.0/8", "::ffff:10.1.2.3", 80, false));
	ck_assert(!address("10.0.0.0/8", "11.1.2.3", 80, false));
	ck_assert(address("10.0.0.0/8:8000", "10.1.2.3", 8000, false));
	ck_assert(!address("10.0.0.0/8:8000", "10.1.2.3", 8001, true));
	ck_assert(address(" 10.0.0.0/8 , 192.168.1.5 ,", "192.168.1.5", 1, false));
	ck_assert(!address("192.168.1.5", "192.168.1.6", 443, true));
	ck_assert(address("fd00::/8", "fd12::1", 80, false));
	ck_assert(address("[fd00::/8]", "fd12::1", 80, false));
	ck_assert(address("[fd00::/8]:81", "fd12::1", 81, false));
	ck_assert(!address("[fd00::/8]:81", "fd12::1", 82, false));
	ck_assert(address("::1", "::1", 8080, false));
	ck_assert(address("172.16.0.0/12", "172.31.0.1", 443, true));
	ck_assert(!address("172.16.0.0/12", "172.32.0.1", 443, false));
	/* the carrier must be listed itself, what it carries does not open it */
	ck_assert(!address("127.0.0.0/8", "64:ff9b::7f00:1", 443, true));
	ck_assert(!address("127.0.0.0/8", "::7f00:1", 443, true));
	/* everything of IPv6 is not everything of IPv4, and the other way round */
	ck_assert(!address("::/0", "10.0.0.1", 443, true));
	ck_assert(!address("0.0.0.0/0", "fd00::1", 443, true));
	ck_assert(address("::ffff:10.0.0.0/104", "10.0.0.1", 443, true));
}
END_TEST

START_TEST(metadata_never)
{
	static const char *const ips[] = {"169.254.169.254",
					  "169.254.170.2",
					  "168.63.129.16",
					  "100.100.100.200",
					  "fd00:ec2::254",
					  "::ffff:169.254.169.254",
					  "64:ff9b::a9fe:a9fe",
					  "::a9fe:a9fe",
					  "2002:a9fe:a9fe::1",
					  "64:ff9b:1::a9fe:a9fe",
					  "fe80::5efe:a9fe:a9fe",
					  "fe80::a9fe:a9fe",
					  "2001:0:1:2:3:4:5601:5601",
					  "0.0.0.0",
					  "::"};

	for (size_t i = 0; i < ARRAY_LEN(ips); i++) {
		ck_assert_msg(!address("0.0.0.0/0,::/0", ips[i], 443, true), "%s", ips[i]);
		ck_assert_msg(!address("0.0.0.0/0,::/0", ips[i], 80, false), "%s", ips[i]);
	}
	ck_assert(!address("169.254.169.254/32:80", "169.254.169.254", 80, false));
	ck_assert(address("0.0.0.0/0", "169.254.1.1", 443, true));
	ck_assert_int_eq(parse("0.0.0.0/0,::/0", "http://169.254.169.254/", NULL, 0), RC_DENIED);
	ck_assert_int_eq(parse("0.0.0.0/0", "https://metadata.google.internal/", NULL, 0),
			 RC_DENIED);
}
END_TEST

START_TEST(bad_allow_lists_are_named)
{
	static const char *const lists[] = {"x",
					    "10.0.0.0/33",
					    "10.0.0.0/-1",
					    "10.0.0.0/",
					    "10.0.0.1/8",
					    "10/8",
					    "10.0.0.0/8:",
					    "10.0.0.0/8:0",
					    "10.0.0.0/8:65536",
					    "10.0.0.0/8:http",
					    "fd00::/129",
					    "[fd00::/8",
					    "[fd00::]/8",
					    "[fd00::/8]:x",
					    "[10.0.0.0/8]:80",
					    "localhost",
					    "10.0.0.0/8;11.0.0.0/8",
					    "fd00::1/64",
					    "10.0.0.0/8 11.0.0.0/8",
					    "0x7f.0.0.1/32",
					    "[::1]/128:80"};

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct egress *e = NULL;
		struct err err = {0};

		ck_assert_msg(egress_new(lists[i], &e, &err) == RC_INVALID, "%s", lists[i]);
		ck_assert_ptr_null(e);
		ck_assert_ptr_nonnull(strstr(err.message, "TOLLGATE_EGRESS_ALLOW"));
		ck_assert_ptr_nonnull(strstr(err.message, lists[i]));
	}
}
END_TEST

START_TEST(own_addresses_are_denied)
{
	struct egress *e = egress("127.0.0.0/8,::1");
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)}, b = a;
	struct sockaddr_in6 c = {.sin6_family = AF_INET6, .sin6_port = htons(9090)}, m = c;

	a.sin_addr.s_addr = b.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	b.sin_port = htons(8081);
	ck_assert(egress_address_allowed(e, (struct sockaddr *)&a, false));
	egress_deny_own(e, (struct sockaddr *)&a, sizeof a);
	egress_deny_own(e, (struct sockaddr *)&a, sizeof a);
	ck_assert(!egress_address_allowed(e, (struct sockaddr *)&a, false));
	ck_assert(!egress_address_allowed(e, (struct sockaddr *)&a, true));
	ck_assert(egress_address_allowed(e, (struct sockaddr *)&b, false));
	m.sin6_port = htons(8080);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &m.sin6_addr);
	ck_assert(!egress_address_allowed(e, (struct sockaddr *)&m, false));
	/* a wildcard listener answers on loopback too */
	egress_deny_own(e, (struct sockaddr *)&c, sizeof c);
	b.sin_port = htons(9090);
	ck_assert(!egress_address_allowed(e, (struct sockaddr *)&b, false));
	inet_pton(AF_INET6, "::1", &c.sin6_addr);
	ck_assert(!egress_address_allowed(e, (struct sockaddr *)&c, false));
	c.sin6_port = htons(9091);
	ck_assert(egress_address_allowed(e, (struct sockaddr *)&c, false));
	egress_free(e);
}
END_TEST

START_TEST(path_parts)
{
	char longest[130];

	ck_assert(egress_path_part_ok(STR("gpt-5-mini")));
	ck_assert(egress_path_part_ok(STR("a.b_c:d-E9")));
	ck_assert(egress_path_part_ok(STR("7")));
	ck_assert(!egress_path_part_ok(STR("")));
	ck_assert(!egress_path_part_ok(STR_NULL));
	ck_assert(!egress_path_part_ok(STR("..")));
	ck_assert(!egress_path_part_ok(STR(".a")));
	ck_assert(!egress_path_part_ok(STR("-a")));
	ck_assert(!egress_path_part_ok(STR("a/b")));
	ck_assert(!egress_path_part_ok(STR("httpbin.org#")));
	ck_assert(!egress_path_part_ok(STR("a?b")));
	ck_assert(!egress_path_part_ok(STR("a b")));
	ck_assert(!egress_path_part_ok(STR("a%2f")));
	ck_assert(!egress_path_part_ok(STR("a\r\nb")));
	ck_assert(!egress_path_part_ok(STR("a\0b")));
	ck_assert(!egress_path_part_ok(STR("\xc3\xa9")));
	memset(longest, 'a', sizeof longest);
	ck_assert(egress_path_part_ok(str_of(longest, 128)));
	ck_assert(!egress_path_part_ok(str_of(longest, 129)));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("egress");
	TCase *t = tcase_create("egress");
	SRunner *r;
	int failed;

	tcase_add_test(t, g14_s01_s30_literals_are_refused);
	tcase_add_test(t, s31_s46_parser_tricks_are_refused);
	tcase_add_test(t, nul_inside_is_refused);
	tcase_add_test(t, good_urls_are_written_one_way);
	tcase_add_test(t, reserialising_changes_nothing_more);
	tcase_add_test(t, an_address_that_is_listed_is_said_so);
	tcase_add_test(t, deny_table_edges);
	tcase_add_test(t, ports);
	tcase_add_test(t, allow_list_opens_what_it_names_and_no_more);
	tcase_add_test(t, metadata_never);
	tcase_add_test(t, bad_allow_lists_are_named);
	tcase_add_test(t, own_addresses_are_denied);
	tcase_add_test(t, path_parts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
