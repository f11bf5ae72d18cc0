/* routing/snapshot.h - an org's whole routing picture, read in one statement, cached per worker.
 *
 * A snapshot is immutable and counted (within its worker's thread): a call keeps the one it started with. LRU
 * with a bound; dropped on a change of that org; dropped whole when the listening connection came back; while
 * Postgres is away what is known keeps serving for TOLLGATE_STALE_SECONDS. The platform's is a second one. */
#ifndef ROUTING_SNAPSHOT_H
#define ROUTING_SNAPSHOT_H
#include "billing/billing.h"
#include "routing/call.h"
#include "routing/provider.h"
#include "vault/vault.h"

struct profile {
	struct uuid id;
	struct str name;
	const struct provider *provider;
	struct str base_url, origin; /* judged by egress_parse() again when the snapshot is made */
	bool endpoint_ok;	     /* false: egress refuses it now: passed over as `disabled` */
	enum billing_source source;
	const struct str *models; /* patterns with '*' */
	size_t models_count;
	const struct str *listed; /* the endpoint's own last listing */
	size_t listed_count;
	int64_t priority; /* lower goes first */
	bool is_default;
	struct str status; /* "active", "disabled", "revoked" */
	bool has_secret;
	struct secret_ref secret;
	struct str sealed;
};
struct route_target {
	struct str profile;  /* selector by name, or empty */
	struct str provider; /* selector by provider id, or empty */
	struct str model;
	uint32_t billing; /* bits 1 << billing_source; 0: no restriction */
};
struct route {
	struct str name, alias, agent, intent, modality; /* empty: any */
	const struct route_target *targets;
	size_t targets_count;
	bool allow_platform_fallback;
	int64_t max_attempts, timeout_ms;
};
struct agent { /* whom the org's own software calls for */
	struct str name;
	struct str default_model; /* what a call gets that leaves the choice; empty: none */
	bool disabled;
};
struct tier { /* what orgs of it may be served by */
	struct str name;
	bool byok, private;
};
struct cooldown { /* (profile, model), or the whole profile when model is empty */
	struct uuid profile;
	struct str model;
	enum error_class class;
	int64_t until_wall_ms;
	int64_t failures;
};
struct model_info { /* the catalogue: per (provider, model) */
	struct str provider, id;
	uint32_t capabilities;
	int64_t context_window, max_output; /* 0: unknown */
};
struct catalogue; /* counted, platform-wide */
const struct model_info *catalogue_find(const struct catalogue *c, struct str provider,
					struct str model);
void catalogue_each(const struct catalogue *c, bool (*visit)(void *arg, const struct model_info *m),
		    void *arg);

struct snapshot {
	struct org_id org;
	int64_t version;
	struct str slug, tier, status;
	const struct profile *profiles;
	size_t profiles_count;
	const struct route *routes;
	size_t routes_count;
	const struct agent *agents;
	size_t agents_count;
	const struct tier *tiers; /* the platform's picture alone has them */
	size_t tiers_count;
	const struct cooldown *cooldowns;
	size_t cooldowns_count;
	struct arena *mem; /* its own */
	int refs;
	int64_t read_mono_ms;
};
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);

/* Both pictures a call needs. `cb` runs later, once: RC_OK with three references handed over, RC_UNAVAILABLE. */
struct snapshot_set {
	struct snapshot *org, *platform;
	struct catalogue *catalogue;
};
void snapshot_set_clear(struct snapshot_set *s); /* gives the references back */
typedef void snapshot_cb(void *arg, enum rc rc, struct snapshot_set set, const struct err *err);
struct snapshot_call;
struct snapshot_call *snapshot_get(struct worker *w, struct org_id org, snapshot_cb *cb, void *arg);
void snapshot_cancel(struct snapshot_call *c);
/* Warm: both are cached and fresh; true and filled without a wait. */
bool snapshot_try(struct worker *w, struct org_id org, struct snapshot_set *ret);

#endif
