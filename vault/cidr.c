/* vault/cidr.c - networks that an API key may be used from.
 *
 * An address is always the peer's own of the connection: what a header says of it is never looked at.
 * IPv4 and its form inside IPv6 are one. */
#include "vault/cidr_priv.h"

#include <arpa/inet.h>
#include <stdio.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Returns how many bits an address of its family has; 0: it is none. */
static unsigned address_parse(struct str s, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN + 1];

	if (s.len == 0 || s.len >= sizeof text || memchr(s.ptr, 0, s.len))
		return 0;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	if (inet_pton(AF_INET, text, ret + sizeof mapped) == 1) {
		memcpy(ret, mapped, sizeof mapped);
		return 32;
	}
	return inet_pton(AF_INET6, text, ret) == 1 ? 128 : 0;
}

const char *cidr_parse(struct str s, struct cidr *ret)
{
	struct str rest = s, address = str_cut(&rest, '/');
	struct cidr c = {.bits = 0};
	const unsigned all = address_parse(address, c.addr);
	uint64_t bits = all;

	if (all == 0)
		return "is not an address";
	if (rest.ptr && (rest.len > 3 || str_to_u64(rest, &bits) != RC_OK || bits > all))
		return "has a prefix length that does not fit";
	c.bits = (unsigned)bits + 128 - all;
	for (unsigned i = c.bits; i < 128; i++)
		if (c.addr[i / 8] & (0x80u >> (i % 8)))
			return "has bits set behind its prefix length";
	*ret = c;
	return NULL;
}

struct str cidr_format(const struct cidr *c, char out[CIDR_TEXT_SIZE])
{
	const bool v4 = c->bits >= 96 && memcmp(c->addr, mapped, sizeof mapped) == 0;
	char address[INET6_ADDRSTRLEN] = "";
	int n;

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? c->addr + sizeof mapped : c->addr, address,
		  sizeof address);
	n = snprintf(out, CIDR_TEXT_SIZE, "%s/%u", address, v4 ? c->bits - 96 : c->bits);
	return str_of(out, (size_t)n);
}

static bool has(const struct cidr *c, const uint8_t addr[16])
{
	const unsigned whole = c->bits / 8, left = c->bits % 8;

	if (memcmp(c->addr, addr, whole) != 0)
		return false;
	return left == 0 || ((c->addr[whole] ^ addr[whole]) & (0xff00u >> left) & 0xffu) == 0;
}

bool cidr_has_peer(const struct cidr *list, size_t count, struct str peer)
{
	uint8_t addr[16];
	size_t end = peer.len;

	while (end > 0 && peer.ptr[end - 1] != ':')
		end--;
	if (end < 2)
		return false;
	peer = str_slice(peer, 0, end - 1);
	if (peer.ptr[0] == '[' && peer.ptr[peer.len - 1] == ']')
		peer = str_slice(peer, 1, peer.len - 1);
	if (address_parse(peer, addr) == 0)
		return false;
	for (size_t i = 0; i < count; i++)
		if (has(&list[i], addr))
			return true;
	return false;
}
