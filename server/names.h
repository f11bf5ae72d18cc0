/* server/names.h - names of upstreams to addresses, for the request path: cached, off the loop.
 *
 * One struct names per loop; the few threads that wait in getaddrinfo() are shared by the process.
 * An answer is used for 60 s at once, and for ten minutes more while a new one is fetched; so a name
 * server that is away is not felt. A failure is remembered for a second. What an address may be
 * used for is not decided here: the asker gives every one to server/egress.h. */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H
#include <netinet/in.h>
#include <stddef.h>
#include "server/base/rc.h"

struct loop;
struct names;

#define NAMES_ADDRESSES_MAX 16	 /* more than any sane name has; the rest is dropped */
#define NAMES_DEADLINE_MS   3000 /* what an asker waits */
#define NAMES_FRESH_MS	    60000
#define NAMES_STALE_MS	    660000
#define NAMES_FAILED_MS	    1000
#define NAMES_HOST_MAX	    253

union names_addr { /* the port is 0 */
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};
struct names_result {
	size_t count;
	union names_addr addr[NAMES_ADDRESSES_MAX];
};
/* The blocking lookup; runs on a thread of the pool. RC_OK with count > 0, or RC_NETWORK. */
typedef enum rc names_lookup(const char *host, struct names_result *ret);

/* `lookup` NULL: getaddrinfo(). */
struct names *names_new(struct loop *l, names_lookup *lookup);
void names_free(struct names *n); /* before its loop; waiting queries end without callbacks */

/* What is known already, or NULL. Valid until this loop's next turn. */
const struct names_result *names_cached(struct names *n, const char *host);

/* RC_OK with `res` (valid during the call), RC_NETWORK, RC_TIMEOUT, RC_UNAVAILABLE (too many lookups
 * waiting). Once, on the loop's thread, never before names_start() returned nor after names_cancel(). The query is
 * gone when it is called: do not cancel it then. names_free() is allowed in it. */
typedef void names_cb(void *arg, enum rc rc, const struct names_result *res);
struct names_query;
struct names_query *names_start(struct names *n, const char *host, names_cb *cb, void *arg);
void names_cancel(struct names_query *q);

#endif
