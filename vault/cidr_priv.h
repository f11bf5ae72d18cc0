/* vault/cidr_priv.h - networks that an API key may be used from. Pure. */
#ifndef VAULT_CIDR_PRIV_H
#define VAULT_CIDR_PRIV_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/str.h"

#define CIDR_TEXT_SIZE 52

struct cidr { /* IPv4 stands as ::ffff:a.b.c.d, with 96 more bits */
	uint8_t addr[16];
	unsigned bits;
};
/* "10.0.0.0/8", "fd00::/8"; without a length the one address. NULL, or what is wrong with it. */
const char *cidr_parse(struct str s, struct cidr *ret);
/* The one spelling of a network that Postgres reads as the same one. */
struct str cidr_format(const struct cidr *c, char out[CIDR_TEXT_SIZE]);
/* Is the address of "1.2.3.4:567" or "[::1]:567" in one of them? A peer without an address (a unix socket) is in none. */
bool cidr_has_peer(const struct cidr *list, size_t count, struct str peer);

#endif
