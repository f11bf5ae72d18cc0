/* vault/kek_priv.h - what wraps data keys, wherever it is: one interface over the master keys of this process
 * (keyring_priv.h) and over a transit key that never leaves its keeper (transit_priv.h).
 *
 * Exactly one is current and wraps; everything that is configured unwraps what it wrapped. A data key that comes
 * back stands in the secure heap. Completion promise: once, later, on the client's loop, never after kek_cancel(). */
#ifndef VAULT_KEK_PRIV_H
#define VAULT_KEK_PRIV_H
#include "vault/keyring_priv.h"
#include "vault/transit_priv.h"

#define KEK_TEXT_MAX TRANSIT_TEXT_MAX

struct kek_text { /* something sealed by a master key; no secret */
	size_t len;
	char bytes[KEK_TEXT_MAX];
};
static inline struct str kek_text_str(const struct kek_text *t)
{
	return str_of(t->bytes, t->len);
}
struct kek_wrapped {
	char kek_id[KEYRING_ID_SIZE];
	int64_t kek_ver; /* the one that wrapped: a transit key may have been rotated meanwhile */
	struct kek_text wrapped; /* len 0 when only a canary was asked for */
	/* Of that id and version: store it first, in the same transaction (a key that wraps has a canary). */
	struct kek_text canary;
};

/* --- who --------------------------------------------------------------------------------------- */
const char *kek_current(const struct keyring *k); /* the id that wraps */
bool kek_is_held(const struct keyring *k, struct str kek_id, int64_t kek_ver);
bool kek_is_remote(const struct keyring *k, struct str kek_id); /* each use is a request */
/* Do all answer? If not, `words` says what was the matter last. Any thread. */
bool kek_is_well(const struct keyring *k, char *words, size_t size);

/* --- from a loop ------------------------------------------------------------------------------- */
struct loop;
struct kek_client;
struct kek_call;
struct kek_client *kek_client_new(const struct keyring *k, struct loop *l);
void kek_client_free(struct kek_client *c);  /* running calls end without callbacks */
void kek_client_renew(struct kek_client *c); /* keep tokens alive: one client per process */

/* RC_UNAVAILABLE: it cannot be asked now (code vault_unavailable, retry_after_s). */
typedef void kek_wrap_cb(void *arg, enum rc rc, const struct kek_wrapped *w, const struct err *err);
/* RC_NOT_FOUND: that master key is not configured. RC_CORRUPT: it is, and does not open this. */
typedef void kek_open_cb(void *arg, enum rc rc, const uint8_t *plain, const struct err *err);
struct kek_call *kek_wrap(struct kek_client *c, struct org_id org, uint32_t dek_ver,
			  const uint8_t dek[ENVELOPE_DEK_BYTES], kek_wrap_cb *cb, void *arg);
struct kek_call *kek_unwrap(struct kek_client *c, struct org_id org, uint32_t dek_ver,
			    struct str kek_id, int64_t kek_ver, struct str wrapped, kek_open_cb *cb,
			    void *arg);
/* The current key's canary alone. */
struct kek_call *kek_canary(struct kek_client *c, kek_wrap_cb *cb, void *arg);
/* Does that key open its canary? `plain` is NULL. */
struct kek_call *kek_check(struct kek_client *c, struct str kek_id, int64_t kek_ver,
			   struct str canary, kek_open_cb *cb, void *arg);
void kek_cancel(struct kek_call *c);

/* --- for commands: the same, waited for -------------------------------------------------------- */
/* On a loop of their own that lives as long as the call; never on a thread that has one. */
MUST_CHECK enum rc kek_wrap_wait(const struct keyring *k, struct org_id org, uint32_t dek_ver,
				 const uint8_t dek[ENVELOPE_DEK_BYTES], struct kek_wrapped *ret,
				 struct err *err);
MUST_CHECK enum rc kek_unwrap_wait(const struct keyring *k, struct org_id org, uint32_t dek_ver,
				   struct str kek_id, int64_t kek_ver, struct str wrapped,
				   uint8_t dek[ENVELOPE_DEK_BYTES], struct err *err);
/* What would wrap now: the newest version of the current key, with its canary. */
MUST_CHECK enum rc kek_canary_wait(const struct keyring *k, struct kek_wrapped *ret,
				   struct err *err);

#endif
