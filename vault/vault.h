/* vault/vault.h - who is calling, and what may be opened.
 *
 * API keys, orgs and members, rate limits per key, and envelope encryption of provider secrets. Knows
 * the floor alone; never billing or routing. All functions but the start are for a worker's own thread. */
#ifndef VAULT_VAULT_H
#define VAULT_VAULT_H
#include "server/base/json.h"
#include "server/http/http.h"
#include "server/module.h"
#include "vault/secret.h"

extern const struct module vault_module;

/* --- roles and principals ------------------------------------------------------------------ */
enum role_bits { /* bits of struct endpoint.roles; each table row names who may */
		 ROLE_OPERATOR = 1u << 0,
		 ROLE_OWNER = 1u << 1,
		 ROLE_ADMIN = 1u << 2,
		 ROLE_DEVELOPER = 1u << 3,
		 ROLE_FINANCE = 1u << 4,
		 ROLE_AUDITOR = 1u << 5,
		 ROLE_INFERENCE = 1u << 6, /* an API key with scope inference */
};
struct principal {	   /* lives in the request's arena */
	struct org_id org; /* zero for the operator */
	struct str org_slug;
	struct str org_tier, org_status;
	struct uuid key_id; /* zero for the operator */
	struct str name;    /* the key's name, or "operator" */
	uint32_t roles;
	const struct str *models; /* patterns with '*'; a call's model must match one */
	size_t models_count;
	int64_t rpm, tpm;		       /* 0: no limit */
	const struct str *providers, *billing; /* the only ones it may use; count 0: all */
	size_t providers_count, billing_count;
	bool elsewhere; /* the peer is in none of the networks that the key may be used from */
	uint64_t seen;	/* for vault_is_current() */
};
static inline const struct principal *vault_principal(const struct http_request *r)
{
	return (const struct principal *)r->principal;
}
bool vault_model_allowed(const struct principal *p, struct str model);
/* Has nothing been said of any key or org since this caller was looked up? If not, it may be revoked by now. */
bool vault_is_current(struct worker *w, const struct principal *p);

/* --- API keys made together with other things ------------------------------------------------ */
struct pg_batch;
struct vault_new_key {
	struct uuid id;
	struct str
		text; /* the key itself: lives and is wiped with the request; shown once, to its maker */
};
/* What a body of POST .../api-keys asks for, checked as there, as the spec of vault_key_add(); in r->mem. */
MUST_CHECK enum rc vault_key_spec(struct http_request *r, const struct json *body, struct str *spec,
				  struct err *err);
/* Draw a key and add the statement that stores it to `b`, which has its org. */
MUST_CHECK enum rc vault_key_add(struct http_request *r, struct pg_batch *b, struct str spec,
				 struct vault_new_key *ret, struct err *err);

/* --- rate limits per key, exact on one instance (all workers together) ------------------------ */
struct vault_limits { /* for the x-ratelimit-* headers; limit 0: not limited */
	int64_t requests_limit, requests_remaining, requests_reset_ms;
	int64_t tokens_limit, tokens_remaining, tokens_reset_ms;
};
/* One call, reserving `tokens` of the running minute. RC_LIMIT: `err` has code rate_limit_exceeded and
 * retry_after_s; nothing was taken. RC_INVALID: more tokens than the limit allows in any minute. `ret` is always filled. */
MUST_CHECK enum rc vault_limits_take(const struct principal *p, int64_t tokens,
				     struct vault_limits *ret, struct err *err);
/* The call used `actual` instead of `reserved`: give back or take the difference in that window. */
void vault_limits_correct(struct uuid key_id, int64_t reserved, int64_t actual,
			  int64_t taken_at_mono_ms);

/* --- provider secrets ------------------------------------------------------------------------ */
/* A sealed secret is bound to where it stands: (org, id, field, row_version); moved elsewhere it does not open. */
struct secret_ref {
	struct org_id org;
	struct uuid id;	   /* secret.id */
	const char *field; /* static: "api_key", "pepper" */
	int64_t row_version;
};
struct sealed {		     /* what the secret table keeps, valid during the callback */
	struct str blob;     /* layout v1 of security.md 1.4 */
	char masked[16];     /* "…wxyz" or "****" */
	char fingerprint[9]; /* per-org HMAC, 8 hex digits */
};
typedef void vault_seal_cb(void *arg, enum rc rc, const struct sealed *sealed,
			   const struct err *err);
typedef void vault_open_cb(void *arg, enum rc rc, const struct secret *plain,
			   const struct err *err);
struct vault_call;
/* Both answer once, later, on the same loop; the org's data key is fetched (made, when sealing) if it is not
 * cached. `plain` and `blob` are copied. RC_CORRUPT: does not open (code vault_auth), never anything else to
 * fall back to. RC_UNAVAILABLE: Postgres is away and the key is not cached. */
struct vault_call *vault_seal(struct worker *w, const struct secret_ref *ref,
			      const struct secret *plain, vault_seal_cb *cb, void *arg);
struct vault_call *vault_open(struct worker *w, const struct secret_ref *ref, struct str blob,
			      vault_open_cb *cb, void *arg);
void vault_cancel(struct vault_call *c); /* no callback after this */

#endif
