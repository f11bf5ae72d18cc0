/* Z9: the URL and address checker against an oracle of its own.
 *
 * Whatever egress_parse() accepts must parse again to itself, and where getaddrinfo() reads the host as a
 * number the address must be one that egress_address_allowed() lets through. Input: the first byte
 * chooses the allow-list, the rest is the URL (or, for some choices, the allow-list itself). */
#include "server/egress.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const lists[] = {NULL, "127.0.0.0/8", "0.0.0.0/0,::/0", "[::1/128]:8000"};

static void check_host(const struct egress *e, const struct egress_url *u)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *ai;
	char host[256], port[8];

	assert(u->host.len < sizeof host);
	memcpy(host, u->host.ptr, u->host.len);
	host[u->host.len] = '\0';
	snprintf(port, sizeof port, "%u", (unsigned int)u->port);
	if (getaddrinfo(host, port, &hints, &ai) != 0)
		return;
	for (const struct addrinfo *a = ai; a; a = a->ai_next)
		assert(egress_address_allowed(e, a->ai_addr, u->https));
	freeaddrinfo(ai);
}

static void check_url(const struct egress *e, struct str url)
{
	struct arena *mem = arena_new(1 << 16);
	struct egress_url a, b;
	struct err err;

	if (egress_parse(e, url, mem, &a, &err) == RC_OK) {
		assert(a.port != 0 && a.host.len > 0);
		assert(egress_parse(e, a.base, mem, &b, &err) == RC_OK);
		assert(str_eq(a.base, b.base) && str_eq(a.origin, b.origin) && a.port == b.port);
		check_host(e, &a);
	}
	arena_free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct egress *e;
	struct err err;
	char text[1024];

	if (size < 1 || size >= sizeof text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	(void)egress_path_part_ok(str_of(text, size - 1));
	if (data[0] % 5 == 4) {
		if (egress_new(text, &e, &err) == RC_OK) {
			check_url(e, STR("http://127.0.0.1:8000/"));
			egress_free(e);
		}
		return 0;
	}
	if (egress_new(lists[data[0] % 5], &e, &err) != RC_OK)
		abort();
	check_url(e, str_of(text, size - 1));
	egress_free(e);
	return 0;
}
