/* vault/vault_priv.h - what the vault's own files share: the process's state and each worker's. */
#ifndef VAULT_VAULT_PRIV_H
#define VAULT_VAULT_PRIV_H
#include <stdatomic.h>

#include "server/base/hash.h"
#include "server/base/hist.h"
#include "server/base/json.h"
#include "server/base/shelf.h"
#include "vault/kek_priv.h"
#include "vault/vault.h"

struct pepper { /* immutable once published */
	struct secret bytes;
	int64_t ver;
};

#define AUTH_RESULTS(X)                                                                            \
	X(OK)                                                                                      \
	X(OPERATOR)                                                                                \
	X(MISSING)   /* no key at all */                                                           \
	X(AMBIGUOUS) /* two different ones, or a header twice */                                   \
	X(MALFORMED) /* form or checksum: never looked up */                                       \
	X(UNKNOWN)   /* no such public id, or another secret */                                    \
	X(REVOKED)                                                                                 \
	X(EXPIRED)                                                                                 \
	X(UNAVAILABLE) /* cannot be told now */
enum auth_result {
#define X(name) AUTH_##name,
	AUTH_RESULTS(X)
#undef X
		AUTH_RESULTS_COUNT
};

struct vault { /* one per process; immutable after start but for the atomics */
	struct keyring keyring;
	bool has_admin_token;
	uint8_t admin_token_hash[SHA256_BYTES];
	int64_t stale_ms, dek_ttl_ms;
	_Atomic(struct pepper *) pepper;
	/* What any worker has read, for the others while Postgres is away; auth.c's and dek.c's. */
	struct shelf *auth_shelf, *dek_shelf;
	struct counter auth[AUTH_RESULTS_COUNT];
	int64_t used_flush_ms;
	int64_t heartbeat_ms;
	_Atomic int used_unsaved; /* workers that know of a use Postgres does not */
	struct counter auth_lookups, dek_hits, dek_misses, seals, opens, open_failures;
};

struct auth_cache;
struct dek_cache;
struct boot;
struct used;
struct vault_worker {
	struct worker *worker;
	struct vault *vault;
	struct auth_cache *auth;
	struct dek_cache *deks;
	struct kek_client *kek;
	struct used *used;
	uint64_t changes; /* seen: the number of the last, the same in all workers */
	struct tried *tried;
	struct nodes *nodes; /* the control thread's alone, as is */
	struct boot *boot;   /* made once the first heartbeat is stored */
};
static inline struct vault_worker *vault_worker_of(struct worker *w)
{
	return (struct vault_worker *)w->state[MODULE_VAULT];
}
/* NULL until it was opened. */
static inline const struct pepper *vault_pepper(struct vault *v)
{
	return atomic_load_explicit(&v->pepper, memory_order_acquire);
}

/* auth.c: the floor's hooks, and the cache of keys seen. */
void auth_authenticate(struct http_request *r, http_auth_done *done, void *arg);
enum rc auth_authorise(struct http_request *r, struct err *err);
/* Did a key or an org change since the principal was read? An operator never is. */
bool auth_is_stale(const struct http_request *r);
struct shelf *auth_shelf_new(void);
struct auth_cache *auth_cache_new(void);
void auth_cache_free(struct vault_worker *v);
void auth_on_change(struct vault_worker *v, const struct change *c);

/* used.c: when keys were last used. */
struct used *used_new(struct vault_worker *v);
void used_free(struct used *u); /* what is not saved by then is lost */
void used_note(struct used *u, struct org_id org, struct uuid key_id);
void used_flush(struct used *u);
/* The control thread's, while draining: asks every worker to save; is there something left? */
bool used_busy(struct service *s);

/* dek.c: data keys, sealing, opening. */
struct shelf *dek_shelf_new(size_t keys_max);
struct dek_cache *dek_cache_new(size_t entries_max);
void dek_cache_free(struct vault_worker *v);
void dek_on_change(struct vault_worker *v, const struct change *c);

/* tried.c: records that did not open, told to the database; `code` is static. At most once a minute for each. */
struct tried *tried_new(void);
void tried_free(struct tried *t);
void tried_note(struct vault_worker *v, const struct secret_ref *ref, struct str blob,
		const char *code);

/* nodes.c: this process among the running ones, and what its master keys are. */
struct nodes *nodes_new(struct vault_worker *v);
void nodes_free(struct nodes *n);
/* The control thread's, when a drain has nothing else left: says goodbye; true until that is done. */
bool nodes_busy(struct service *s);

/* boot.c: canaries and the pepper, once Postgres is there. Ends the process with status 2 when a master key that is
 * needed is missing or wrong. */
struct boot *boot_new(struct vault_worker *v);
void boot_free(struct boot *b);
void pepper_free(struct pepper *p);

/* orgs.c: http_hooks.actor; everybody else asks admin_actor(). */
struct str vault_actor(struct http_request *r);

/* orgs.c, members.c, keys.c: the control plane. */
uint32_t vault_role_bit(struct str role); /* 0: no such role */
/* `field: words`, RC_INVALID. */
enum rc vault_bad_field(struct err *err, const char *field, const char *words);
void orgs_create(struct http_request *r);
void orgs_list(struct http_request *r);
void orgs_show(struct http_request *r);
void orgs_change(struct http_request *r);
void orgs_delete(struct http_request *r);
bool member_email_ok(struct str s); /* lower case already */
void members_invite(struct http_request *r);
void members_list(struct http_request *r);
void members_show(struct http_request *r);
void members_change(struct http_request *r);
void members_remove(struct http_request *r);
void keys_create(struct http_request *r);
void keys_list(struct http_request *r);
void keys_show(struct http_request *r);
void keys_change(struct http_request *r);
void keys_revoke(struct http_request *r);
void keys_rotate(struct http_request *r);

/* bounds.c: a key's member (when it is made), networks, providers and billing sources into the spec that SQL gets. */
MUST_CHECK enum rc bounds_put(const struct json *body, bool make, struct json_out *spec,
			      struct err *err);

/* audit.c */
bool audit_action_ok(struct str s); /* may an action's name begin so? Never empty. */
void audit_list(struct http_request *r);

/* commands.c */
extern const struct command vault_commands[];

#endif
