/* server/egress.h - which addresses an outgoing call may reach (security.md 3.1).
 *
 * One parse of a URL, one table of denied ranges, one allow-list that the operator sets. Pure: no
 * lookup and no connection is made here. Immutable after egress_new(); any thread. */
#ifndef SERVER_EGRESS_H
#define SERVER_EGRESS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/err.h"

struct egress;
/* `allow`: TOLLGATE_EGRESS_ALLOW, a comma list of CIDRs with optional :port ("[cidr]:port" for IPv6);
 * NULL or empty: public addresses only. RC_INVALID names the bad entry. */
MUST_CHECK enum rc egress_new(const char *allow, struct egress **ret, struct err *err);
void egress_free(struct egress *e);
/* Our own listeners' and Postgres' addresses are always denied, whatever the allow-list says. */
void egress_deny_own(struct egress *e, const struct sockaddr *sa, socklen_t len);

struct egress_url {
	struct str origin; /* "https://host:port", lower case, port always written */
	struct str host;   /* without brackets */
	struct str base;   /* re-serialised: scheme://host[:port]/path without a trailing slash */
	uint16_t port;
	bool https;
	bool listed; /* the host is a literal address that the operator's allow-list names, port and all */
};
/* Parse and judge a base URL as security.md 3.1 (3) lays out: no userinfo, fragment, query, backslash,
 * white space, control, non-ASCII, '%' in host, trailing dot, odd numeric hosts; https, or http
 * only for a literal address the allow-list names. A literal address is judged at once. */
MUST_CHECK enum rc egress_parse(const struct egress *e, struct str url, struct arena *mem,
				struct egress_url *ret, struct err *err);
/* May we connect there? Metadata addresses never; the rest of the deny table only if allowed. */
bool egress_address_allowed(const struct egress *e, const struct sockaddr *sa, bool https);
/* A path part made from outside input: ^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$ */
bool egress_path_part_ok(struct str s);

#endif
