/* vault/transit_link_priv.h - what transit.c and transit_link.c share. */
#ifndef VAULT_TRANSIT_LINK_PRIV_H
#define VAULT_TRANSIT_LINK_PRIV_H
#include <pthread.h>

#include "server/base/hist.h"
#include "server/egress.h"
#include "vault/secret_priv.h"
#include "vault/transit_priv.h"

#define TRANSIT_TOKEN_MAX                                                                          \
	2048 /* service tokens have about 100 characters, batch tokens some 1,000 */

struct transit { /* immutable after transit_load(), but for what stands behind the lock */
	char id[TRANSIT_ID_SIZE];
	char *base, *mount, *key, *name_space, *ca_file, *token_path;
	struct egress *egress;
	int64_t timeout_ms;
	bool current;
	struct counter results[TRANSIT_RESULTS];
	pthread_mutex_t lock;
	struct secret token;
	uint64_t token_gen; /* counts tokens */
	int failures;	    /* since it last worked; 0: the circuit is closed */
	bool probing;
	int64_t open_until_ms;
	char words[160];
	int64_t canary_ver;
	size_t canary_len;
	char canary[TRANSIT_TEXT_MAX];
};

MUST_CHECK enum rc transit_token_copy(struct transit *t, struct secret *ret, uint64_t *gen);
uint64_t transit_token_gen(struct transit *t);
/* May a request go out now? 0: yes, and `*probe` says that it is the one that tries; then exactly one of the three
 * below follows. Else: not before so many milliseconds. */
int64_t transit_enter(struct transit *t, bool *probe);
void transit_left(struct transit *t, bool probe); /* withdrawn: nothing is known */
void transit_worked(struct transit *t, bool probe);
/* How long to wait now, in milliseconds. */
int64_t transit_failed(struct transit *t, bool probe, const char *words);

#endif
