/* server/egress.c - the one place that says which URL and which address an outgoing call may reach.
 *
 * Addresses are judged as 128 bits, IPv4 in its mapped form (::ffff:a.b.c.d), by the longest prefix
 * of one table. The order of judgement never changes:
 *
 *   metadata services and our own listeners   never
 *   what the operator's allow-list names      yes, http too
 *   everything else                           https alone, a public address, an ordinary port
 *
 * An address that carries an IPv4 address inside (NAT64, 6to4) is judged by what it carries. A URL
 * is split by curl_url() alone, the parser that libcurl connects with; the checks on the raw text
 * before it refuse what two parsers could read differently, and the host that comes out must be
 * the one that was written. This file must never look a name up nor open a socket. */
#include "server/egress.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define EGRESS_URL_BYTES_MAX  512
#define EGRESS_HOST_BYTES_MAX 253 /* DNS */
#define EGRESS_ALLOW_MAX      256 /* entries an operator may write */
#define EGRESS_OWN_MAX	      256 /* listeners and Postgres, a wildcard counts once per interface */
#define EGRESS_ENTRY_MAX      64  /* characters of one allow-list entry */

struct addr {
	uint8_t b[16];
};

enum verdict {
	VERDICT_PUBLIC,
	VERDICT_DENY,
	VERDICT_EMBEDDED, /* judged by the IPv4 address inside, at byte `at` */
};
struct prefix {
	struct addr addr;
	unsigned int bits;
	enum verdict verdict;
	unsigned int at;
};

/* clang-format off */
#define V4(a, b, c, d, n) {.addr = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}}, \
			   .bits = 96 + (n), .verdict = VERDICT_DENY}
#define V6(n, v, off, ...) {.addr = {{__VA_ARGS__}}, .bits = n, .verdict = v, .at = off}
/* clang-format on */

/* IANA's special-purpose registries. What is not listed and not global unicast is denied. */
static const struct prefix table[] = {
	V6(0, VERDICT_DENY, 0, 0),
	V6(3, VERDICT_PUBLIC, 0, 0x20), /* 2000::/3, global unicast */
	V6(96, VERDICT_PUBLIC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), /* IPv4 */
	V4(0, 0, 0, 0, 8),
	V4(10, 0, 0, 0, 8),
	V4(100, 64, 0, 0, 10),
	V4(127, 0, 0, 0, 8),
	V4(169, 254, 0, 0, 16),
	V4(172, 16, 0, 0, 12),
	V4(192, 0, 0, 0, 24),
	V4(192, 0, 2, 0, 24),
	V4(192, 88, 99, 0, 24),
	V4(192, 168, 0, 0, 16),
	V4(198, 18, 0, 0, 15),
	V4(198, 51, 100, 0, 24),
	V4(203, 0, 113, 0, 24),
	V4(224, 0, 0, 0, 4),
	V4(240, 0, 0, 0, 4),
	V6(96, VERDICT_DENY, 0, 0), /* ::/96: unspecified, loopback, IPv4-compatible */
	V6(96, VERDICT_EMBEDDED, 12, 0x00, 0x64, 0xff, 0x9b),	     /* NAT64 */
	V6(48, VERDICT_DENY, 0, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01), /* local NAT64 */
	V6(64, VERDICT_DENY, 0, 0x01),				     /* 100::/64 discard */
	V6(23, VERDICT_DENY, 0, 0x20, 0x01),			     /* 2001::/23, Teredo too */
	V6(32, VERDICT_DENY, 0, 0x20, 0x01, 0x0d, 0xb8),	     /* documentation */
	V6(20, VERDICT_DENY, 0, 0x3f, 0xff),			     /* documentation */
	V6(16, VERDICT_EMBEDDED, 2, 0x20, 0x02),		     /* 6to4 */
	V6(7, VERDICT_DENY, 0, 0xfc),				     /* unique local */
	V6(10, VERDICT_DENY, 0, 0xfe, 0x80),			     /* link local */
	V6(10, VERDICT_DENY, 0, 0xfe, 0xc0),			     /* site local */
	V6(8, VERDICT_DENY, 0, 0xff),				     /* multicast */
};

/* Never, whatever the allow-list says: they hand a machine's credentials to whoever asks. The
 * unspecified addresses stand here because Linux connects them to the machine itself. */
static const struct prefix never[] = {
	V4(169, 254, 169, 254, 32),
	V4(169, 254, 169, 253, 32),
	V4(169, 254, 170, 2, 32),
	V4(169, 254, 170, 23, 32),
	V4(168, 63, 129, 16, 32),
	V4(100, 100, 100, 200, 32),
	V4(192, 0, 0, 192, 32),
	V4(0, 0, 0, 0, 32),
	V6(128, VERDICT_DENY, 0, 0),
	V6(128, VERDICT_DENY, 0, 0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54),
	V6(128, VERDICT_DENY, 0, 0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x23),
	V6(128, VERDICT_DENY, 0, 0xfd, 0x20, 0x00, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54),
	V6(128, VERDICT_DENY, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe),
};

struct allow {
	struct addr addr;
	unsigned int bits;
	uint16_t port; /* 0: any */
};
struct own {
	struct addr addr;
	uint16_t port;
};
struct egress {
	struct allow *allow;
	size_t allow_count;
	struct own own[EGRESS_OWN_MAX];
	size_t own_count;
};

/* --- addresses ------------------------------------------------------------------------------ */

static struct addr addr_v4(const uint8_t v4[4])
{
	struct addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};

	memcpy(a.b + 12, v4, 4);
	return a;
}

static bool addr_in(const struct addr *a, const struct addr *net, unsigned int bits)
{
	unsigned int whole = bits / 8, rest = bits % 8;

	if (memcmp(a->b, net->b, whole) != 0)
		return false;
	return rest == 0 || ((a->b[whole] ^ net->b[whole]) >> (8 - rest)) == 0;
}

static bool addr_is_v4(const struct addr *a)
{
	static const struct addr mapped = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};

	return addr_in(a, &mapped, 96);
}

static bool addr_is_unspecified(const struct addr *a)
{
	static const struct addr any;
	const struct addr any4 = addr_v4((const uint8_t[4]){0, 0, 0, 0});

	return memcmp(a, &any, sizeof any) == 0 || memcmp(a, &any4, sizeof any4) == 0;
}

static bool addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret, uint16_t *port)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof in);
		*ret = addr_v4((const uint8_t *)&in.sin_addr);
		*port = ntohs(in.sin_port);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof in6);
		memcpy(ret->b, &in6.sin6_addr, 16);
		*port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

/* Does any reading of the address lead to one that is never allowed? Every place where the RFCs put
 * an IPv4 address inside an IPv6 one is looked at, also in ranges that are denied anyway: an
 * allow-list must not open them by accident. */
static bool addr_is_never(const struct addr *a)
{
	struct addr inside;
	uint8_t teredo[4];

	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (addr_in(a, &never[i].addr, never[i].bits))
			return true;
	if (addr_is_v4(a))
		return false;
	inside = addr_v4(a->b + 12); /* IPv4-compatible, NAT64 */
	if (addr_is_never(&inside) && (a->b[0] == 0x00 || a->b[0] == 0xfe))
		return true;
	if (a->b[0] == 0x20 && a->b[1] == 0x02) { /* 6to4 */
		inside = addr_v4(a->b + 2);
		return addr_is_never(&inside);
	}
	if (a->b[0] == 0x20 && a->b[1] == 0x01 && a->b[2] == 0 && a->b[3] == 0) { /* Teredo */
		for (int i = 0; i < 4; i++)
			teredo[i] = (uint8_t)~a->b[12 + i];
		inside = addr_v4(teredo);
		return addr_is_never(&inside);
	}
	return false;
}

static bool addr_is_public(const struct addr *a)
{
	const struct prefix *best = &table[0];
	struct addr inside;

	for (size_t i = 1; i < ARRAY_LEN(table); i++)
		if (table[i].bits > best->bits && addr_in(a, &table[i].addr, table[i].bits))
			best = &table[i];
	if (best->verdict != VERDICT_EMBEDDED)
		return best->verdict == VERDICT_PUBLIC;
	inside = addr_v4(a->b + best->at);
	return addr_is_public(&inside); /* an IPv4 address: no further embedding */
}

static bool egress_is_own(const struct egress *e, const struct addr *a, uint16_t port)
{
	for (size_t i = 0; i < e->own_count; i++)
		if (e->own[i].port == port && memcmp(&e->own[i].addr, a, sizeof *a) == 0)
			return true;
	return false;
}

static bool egress_is_listed(const struct egress *e, const struct addr *a, uint16_t port)
{
	for (size_t i = 0; i < e->allow_count; i++) {
		const struct allow *w = &e->allow[i];

		/* a short IPv6 prefix, ::/0 say, does not name the IPv4 addresses mapped into it */
		if (addr_is_v4(a) != (w->bits >= 96 && addr_is_v4(&w->addr)))
			continue;
		if ((w->port == 0 || w->port == port) && addr_in(a, &w->addr, w->bits))
			return true;
	}
	return false;
}

static bool port_is_ordinary(uint16_t port)
{
	return port == 443 || port >= 1024;
}

static bool egress_judge(const struct egress *e, const struct addr *a, uint16_t port, bool https)
{
	if (port == 0 || addr_is_never(a) || egress_is_own(e, a, port))
		return false;
	if (egress_is_listed(e, a, port))
		return true;
	return https && port_is_ordinary(port) && addr_is_public(a);
}

bool egress_address_allowed(const struct egress *e, const struct sockaddr *sa, bool https)
{
	struct addr a;
	uint16_t port;

	return addr_from_sockaddr(sa, &a, &port) && egress_judge(e, &a, port, https);
}

/* --- the allow-list --------------------------------------------------------------------------- */

static enum rc allow_bad(struct str entry, struct err *err, const char *why)
{
	err_set(err, RC_INVALID, "invalid_setting", "TOLLGATE_EGRESS_ALLOW: \"%.*s\": %s",
		(int)(entry.len < 64 ? entry.len : 64), entry.ptr, why);
	err_hint(err, "Write CIDRs with an optional port: 10.0.0.0/8, 127.0.0.1/32:9000, "
		      "fd00::/8, [::1/128]:9000.");
	return RC_INVALID;
}

static bool parse_port(struct str s, uint16_t *ret)
{
	uint64_t n;

	if (s.len == 0 || s.len > 5 || s.ptr[0] == '0' || str_to_u64(s, &n) != RC_OK || n > 65535)
		return false;
	*ret = (uint16_t)n;
	return true;
}

/* "10.0.0.0/8" or "fd00::/8", the length optional. */
static const char *allow_parse_cidr(struct str s, struct allow *ret)
{
	char text[INET6_ADDRSTRLEN + 1];
	struct str rest = s, ip = str_cut(&rest, '/');
	uint64_t bits, bits_max;
	uint8_t raw[16];

	if (ip.len == 0 || ip.len >= sizeof text)
		return "this is not an address";
	memcpy(text, ip.ptr, ip.len);
	text[ip.len] = '\0';
	if (inet_pton(AF_INET, text, raw) == 1) {
		ret->addr = addr_v4(raw);
		bits_max = 32;
	} else if (inet_pton(AF_INET6, text, ret->addr.b) == 1) {
		bits_max = 128;
	} else {
		return "this is not an address";
	}
	bits = bits_max;
	if (rest.ptr && (rest.len > 3 || str_to_u64(rest, &bits) != RC_OK || bits > bits_max))
		return "the prefix length does not fit";
	ret->bits = (unsigned int)(bits_max == 32 ? bits + 96 : bits);
	for (unsigned int i = ret->bits; i < 128; i++)
		if (ret->addr.b[i / 8] & (0x80u >> (i % 8)))
			return "bits are set behind the prefix length";
	return NULL;
}

static const char *allow_parse(struct str s, struct allow *ret)
{
	struct str cidr = s, port = STR_NULL;
	ptrdiff_t at;

	if (s.len > EGRESS_ENTRY_MAX)
		return "too long";
	if (s.len > 0 && s.ptr[0] == '[') {
		at = str_find(s, ']');
		if (at < 0)
			return "the closing bracket is missing";
		cidr = str_slice(s, 1, (size_t)at);
		port = str_slice(s, (size_t)at + 1, s.len);
		if (str_find(cidr, ':') < 0)
			return "brackets are for IPv6";
		if (port.len > 0 && port.ptr[0] != ':')
			return "write the prefix length inside the brackets";
		port = port.len > 0 ? str_slice(port, 1, port.len) : STR_NULL;
	} else {
		at = str_find(s, ':');
		if (at >= 0 && str_find(str_slice(s, (size_t)at + 1, s.len), ':') < 0) {
			cidr = str_slice(s, 0, (size_t)at);
			port = str_slice(s, (size_t)at + 1, s.len);
		}
	}
	ret->port = 0;
	if (port.ptr && !parse_port(port, &ret->port))
		return "the port is not a number from 1 to 65535";
	return allow_parse_cidr(cidr, ret);
}

enum rc egress_new(const char *allow, struct egress **ret, struct err *err)
{
	struct str rest = str_from(allow);
	struct egress *e = calloc(1, sizeof *e);

	if (!e || !(e->allow = calloc(EGRESS_ALLOW_MAX, sizeof *e->allow)))
		abort();
	while (rest.ptr) {
		struct str entry = str_trim(str_cut(&rest, ','));
		const char *why;

		if (entry.len == 0)
			continue;
		why = e->allow_count == EGRESS_ALLOW_MAX
			      ? "too many entries"
			      : allow_parse(entry, &e->allow[e->allow_count]);
		if (why) {
			egress_free(e);
			return allow_bad(entry, err, why);
		}
		e->allow_count++;
	}
	*ret = e;
	return RC_OK;
}

void egress_free(struct egress *e)
{
	if (!e)
		return;
	free(e->allow);
	free(e);
}

static void own_add(struct egress *e, const struct sockaddr *sa, uint16_t port)
{
	struct addr a;
	uint16_t unused;

	if (!addr_from_sockaddr(sa, &a, &unused) || egress_is_own(e, &a, port))
		return;
	assert(e->own_count < EGRESS_OWN_MAX);
	e->own[e->own_count++] = (struct own){.addr = a, .port = port};
}

/* A listener on 0.0.0.0 or :: answers on every address of this machine. */
static void own_add_wildcard(struct egress *e, uint16_t port)
{
	struct ifaddrs *all = NULL;
	struct sockaddr_in lo4 = {.sin_family = AF_INET};
	struct sockaddr_in6 lo6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

	lo4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	own_add(e, (const struct sockaddr *)&lo4, port);
	own_add(e, (const struct sockaddr *)&lo6, port);
	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *i = all; i; i = i->ifa_next)
		if (i->ifa_addr && e->own_count < EGRESS_OWN_MAX)
			own_add(e, i->ifa_addr, port);
	freeifaddrs(all);
}

void egress_deny_own(struct egress *e, const struct sockaddr *sa, socklen_t len)
{
	struct addr a;
	uint16_t port;

	(void)len;
	if (!addr_from_sockaddr(sa, &a, &port)) /* a unix socket: not reachable by URL */
		return;
	own_add(e, sa, port);
	if (addr_is_unspecified(&a))
		own_add_wildcard(e, port);
}

/* --- URLs ----------------------------------------------------------------------------------- */

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool egress_path_part_ok(struct str s)
{
	if (s.len == 0 || s.len > 128 || !is_alnum(s.ptr[0]))
		return false;
	for (size_t i = 1; i < s.len; i++)
		if (!is_alnum(s.ptr[i]) && !memchr("._:-", s.ptr[i], 4))
			return false;
	return true;
}

/* What is written: split by hand only as far as needed to refuse. */
struct raw_url {
	bool https;
	struct str host; /* without brackets */
	bool brackets;
	struct str port; /* ptr NULL: none written */
	struct str path;
};

static enum rc url_bad(struct err *err, const char *why)
{
	err_set(err, RC_INVALID, "invalid_base_url", "The base URL is not accepted: %s.", why);
	err_field(err, "base_url");
	err_hint(err, "Write https://host[:port]/path and nothing else.");
	return RC_INVALID;
}

static enum rc url_denied(struct err *err, const char *why)
{
	err_set(err, RC_DENIED, "egress_denied", "The base URL may not be called: %s.", why);
	err_field(err, "base_url");
	err_hint(err, "Providers are reached over https at public addresses; an operator can list "
		      "others in TOLLGATE_EGRESS_ALLOW.");
	return RC_DENIED;
}

static const char *raw_check_bytes(struct str url)
{
	if (url.len == 0)
		return "it is empty";
	if (url.len > EGRESS_URL_BYTES_MAX)
		return "it is longer than 512 bytes";
	for (size_t i = 0; i < url.len; i++) {
		unsigned char c = (unsigned char)url.ptr[i];

		if (c <= 0x20 || c == 0x7f)
			return "it holds white space or a control byte";
		if (c >= 0x80)
			return "it holds a non-ASCII byte (write the name in punycode)";
		if (strchr("\\?#\"<>^`{|}", c))
			return "it holds a backslash, a query, a fragment or a byte that URLs do "
			       "not have";
	}
	return NULL;
}

/* A host whose last label is a number is an IPv4 address to some parsers: the dotted quad alone
 * reads the same everywhere. */
static bool host_ends_in_number(struct str host)
{
	size_t from = host.len, i;

	while (from > 0 && host.ptr[from - 1] != '.')
		from--;
	if (from == host.len)
		return false;
	if (host.len - from >= 2 && host.ptr[from] == '0' && (host.ptr[from + 1] | 0x20) == 'x') {
		for (i = from + 2; i < host.len && is_hex(host.ptr[i]); i++)
			;
		return i == host.len;
	}
	for (i = from; i < host.len; i++)
		if (host.ptr[i] < '0' || host.ptr[i] > '9')
			return false;
	return true;
}

static const char *host_check_name(struct str host)
{
	size_t label = 0;

	if (host.len == 0)
		return "the host is empty";
	if (host.len > EGRESS_HOST_BYTES_MAX)
		return "the host is too long";
	for (size_t i = 0; i < host.len; i++) {
		char c = host.ptr[i];

		if (c == '.') {
			if (label == 0 || i + 1 == host.len)
				return "the host has an empty label or a dot at its end";
			label = 0;
			continue;
		}
		if (!is_alnum(c) && !(c == '-' && label > 0) && c != '_')
			return "the host holds a byte that names do not have";
		if (++label > 63)
			return "a label of the host is too long";
	}
	return NULL;
}

/* One parse of a literal, as strict as inet_pton(): no zone, no leading zeros, four parts. */
static bool host_literal(struct str host, bool brackets, struct addr *ret)
{
	char text[INET6_ADDRSTRLEN + 1];
	uint8_t raw[4];

	if (host.len == 0 || host.len >= sizeof text)
		return false;
	memcpy(text, host.ptr, host.len);
	text[host.len] = '\0';
	if (brackets)
		return inet_pton(AF_INET6, text, ret->b) == 1;
	if (inet_pton(AF_INET, text, raw) != 1)
		return false;
	*ret = addr_v4(raw);
	return true;
}

static const char *path_check(struct str path)
{
	struct str rest = path;

	for (size_t i = 0; i < path.len; i++)
		if (path.ptr[i] == '%' &&
		    (i + 2 >= path.len || !is_hex(path.ptr[i + 1]) || !is_hex(path.ptr[i + 2])))
			return "its path has a '%' without two hex digits";
	while (rest.ptr) {
		struct str part = str_cut(&rest, '/');
		size_t dots = 0, i = 0;

		while (i < part.len) {
			size_t step = part.ptr[i] == '.'				     ? 1
				      : str_eq_nocase(str_slice(part, i, i + 3), STR("%2e")) ? 3
											     : 0;
			if (step == 0)
				break;
			i += step;
			dots++;
		}
		if (part.len > 0 && i == part.len && dots <= 2)
			return "its path has a '.' or '..' segment";
	}
	return NULL;
}

static const char *raw_split_authority(struct str authority, struct raw_url *ret)
{
	struct str rest = authority;
	ptrdiff_t at;

	if (str_find(authority, '@') >= 0)
		return "it holds a user name";
	if (str_find(authority, '%') >= 0)
		return "its host holds a '%'";
	if (authority.len > 0 && authority.ptr[0] == '[') {
		at = str_find(authority, ']');
		if (at < 0)
			return "a bracket is not closed";
		ret->brackets = true;
		ret->host = str_slice(authority, 1, (size_t)at);
		rest = str_slice(authority, (size_t)at + 1, authority.len);
		if (rest.len == 0)
			return NULL;
		if (rest.ptr[0] != ':')
			return "there is something between the bracket and the port";
		ret->port = str_slice(rest, 1, rest.len);
	} else {
		ret->host = str_cut(&rest, ':');
		ret->port = rest;
	}
	return NULL;
}

static const char *raw_split(struct str url, struct raw_url *ret)
{
	static const struct str https = {"https://", 8}, http = {"http://", 7};
	struct str rest;
	const char *why;
	size_t slash = 0;

	memset(ret, 0, sizeof *ret);
	if (str_eq_nocase(str_slice(url, 0, https.len), https)) {
		ret->https = true;
		rest = str_slice(url, https.len, url.len);
	} else if (str_eq_nocase(str_slice(url, 0, http.len), http)) {
		rest = str_slice(url, http.len, url.len);
	} else {
		return "it does not begin with https://";
	}
	while (slash < rest.len && rest.ptr[slash] != '/')
		slash++;
	ret->path = str_slice(rest, slash, rest.len);
	why = raw_split_authority(str_slice(rest, 0, slash), ret);
	return why ? why : path_check(ret->path);
}

/* What libcurl's parser makes of it. Strings are curl's: curl_free(). */
struct parsed_url {
	CURLU *u;
	char *scheme, *host, *port, *path;
};

static void parsed_url_clear(struct parsed_url *p)
{
	curl_free(p->scheme);
	curl_free(p->host);
	curl_free(p->port);
	curl_free(p->path);
	curl_url_cleanup(p->u);
}

static const char *parsed_url_read(struct parsed_url *p, struct str url)
{
	char text[EGRESS_URL_BYTES_MAX + 1];

	memcpy(text, url.ptr, url.len);
	text[url.len] = '\0';
	p->u = curl_url();
	if (!p->u)
		abort();
	if (curl_url_set(p->u, CURLUPART_URL, text, CURLU_DISALLOW_USER) != CURLUE_OK ||
	    curl_url_get(p->u, CURLUPART_SCHEME, &p->scheme, 0) != CURLUE_OK ||
	    curl_url_get(p->u, CURLUPART_HOST, &p->host, 0) != CURLUE_OK ||
	    curl_url_get(p->u, CURLUPART_PORT, &p->port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
	    curl_url_get(p->u, CURLUPART_PATH, &p->path, 0) != CURLUE_OK)
		return "it does not parse";
	return NULL;
}

/* The parser must have read the very host that is written. */
static bool parsed_host_is(const struct parsed_url *p, const struct raw_url *raw, bool literal,
			   const struct addr *a)
{
	struct str host = str_from(p->host);
	struct addr b;

	if (raw->brackets) {
		if (host.len < 2 || host.ptr[0] != '[' || host.ptr[host.len - 1] != ']')
			return false;
		host = str_slice(host, 1, host.len - 1);
	}
	if (literal)
		return host_literal(host, raw->brackets, &b) && memcmp(a, &b, sizeof b) == 0;
	return str_eq_nocase(host, raw->host);
}

static bool host_is_local_name(struct str host)
{
	return str_is(host, "localhost") || str_ends(host, STR(".localhost")) ||
	       str_is(host, "ip6-localhost") || str_is(host, "ip6-loopback") ||
	       str_is(host, "localhost.localdomain");
}

static bool host_is_metadata_name(struct str host)
{
	return str_is(host, "metadata.google.internal") || str_is(host, "metadata.goog") ||
	       str_is(host, "metadata") || str_is(host, "instance-data") ||
	       str_is(host, "instance-data.ec2.internal");
}

/* A name is judged by its addresses when it is called; what can be said before is said here. */
static const char *name_judge(const struct egress *e, struct str host, uint16_t port, bool https)
{
	static const struct addr lo6 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
	const struct addr lo4 = addr_v4((const uint8_t[4]){127, 0, 0, 1});
	bool port_named = false;

	if (host_is_metadata_name(host))
		return "it names a metadata service";
	if (!https)
		return "plain http is for addresses of the operator's allow-list, written as such";
	if (host_is_local_name(host) && !egress_judge(e, &lo4, port, https) &&
	    !egress_judge(e, &lo6, port, https))
		return "it names this machine";
	for (size_t i = 0; i < e->allow_count; i++)
		port_named |= e->allow[i].port == port || e->allow[i].port == 0;
	if (!port_is_ordinary(port) && !port_named)
		return "ports below 1024 other than 443 are not called";
	return NULL;
}

static struct str lower(struct arena *mem, struct str s)
{
	char *p = arena_strdup(mem, s);

	for (size_t i = 0; i < s.len; i++)
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] | 0x20);
	return (struct str){p, s.len};
}

static void url_serialise(struct arena *mem, struct str path, bool brackets, struct egress_url *u)
{
	const char *open = brackets ? "[" : "", *close = brackets ? "]" : "";
	const char *scheme = u->https ? "https" : "http";
	bool default_port = u->port == (u->https ? 443 : 80);

	while (path.len > 0 && path.ptr[path.len - 1] == '/')
		path.len--;
	u->origin = arena_printf(mem, "%s://%s%.*s%s:%u", scheme, open, STR_FMT(u->host), close,
				 (unsigned int)u->port);
	u->base = arena_printf(
		mem, "%.*s%.*s",
		(int)(default_port ? u->origin.len - (u->https ? 4 : 3) : u->origin.len),
		u->origin.ptr, STR_FMT(path));
}

static struct str literal_text(struct arena *mem, const struct addr *a, bool brackets)
{
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(brackets ? AF_INET6 : AF_INET, brackets ? a->b : a->b + 12, text,
		       sizeof text))
		abort();
	return arena_str(mem, str_from(text));
}

static enum rc url_judge(const struct egress *e, const struct raw_url *raw,
			 const struct parsed_url *p, struct arena *mem, struct egress_url *ret,
			 struct err *err)
{
	struct egress_url u = {.https = raw->https};
	struct addr a;
	bool literal = host_literal(raw->host, raw->brackets, &a);
	const char *why;

	if (!parsed_host_is(p, raw, literal, &a) ||
	    !str_is(raw->https ? STR("https") : STR("http"), p->scheme))
		return url_bad(err, "its host can be read in two ways");
	if (!parse_port(str_from(p->port), &u.port))
		return url_bad(err, "the port is not a number from 1 to 65535");
	if (literal) {
		u.host = literal_text(mem, &a, raw->brackets);
		if (!egress_judge(e, &a, u.port, u.https))
			return url_denied(err, "its address is not allowed");
		u.listed = egress_is_listed(e, &a, u.port);
	} else {
		u.host = lower(mem, raw->host);
		why = name_judge(e, u.host, u.port, u.https);
		if (why)
			return url_denied(err, why);
	}
	url_serialise(mem, str_from(p->path), raw->brackets, &u);
	*ret = u;
	return RC_OK;
}

enum rc egress_parse(const struct egress *e, struct str url, struct arena *mem,
		     struct egress_url *ret, struct err *err)
{
	struct raw_url raw = {.https = false};
	struct parsed_url p = {0};
	struct addr a;
	uint16_t port;
	const char *why = raw_check_bytes(url);
	enum rc rc;

	if (!why)
		why = raw_split(url, &raw);
	if (!why && raw.port.ptr && !parse_port(raw.port, &port))
		why = "the port is not a number from 1 to 65535";
	if (!why && raw.brackets && !host_literal(raw.host, true, &a))
		why = "there is no IPv6 address between the brackets";
	if (!why && !raw.brackets && host_ends_in_number(raw.host) &&
	    !host_literal(raw.host, false, &a))
		why = "its host is a number that is not a dotted quad";
	if (!why && !raw.brackets)
		why = host_check_name(raw.host);
	if (!why)
		why = parsed_url_read(&p, url);
	rc = why ? url_bad(err, why) : url_judge(e, &raw, &p, mem, ret, err);
	parsed_url_clear(&p);
	return rc;
}
