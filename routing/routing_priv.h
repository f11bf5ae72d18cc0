/* routing/routing_priv.h - what the sources of routing/ share: per-worker and per-process state. */
#ifndef ROUTING_ROUTING_PRIV_H
#define ROUTING_ROUTING_PRIV_H
#include "routing/plan.h"
#include "routing/probe.h"
#include "routing/snapshot.h"
#include "server/base/map.h"
#include "server/cli.h"
#include "server/loop.h"

#define ROUTING_ORGS_MAX                                                                           \
	10000 /* pictures cached per worker; a million orgs cost nothing until they call */
#define ROUTING_REFRESH_MS                                                                         \
	(60 * 1000) /* a picture this old is read again although no change was announced */
#define ROUTING_BODY_MAX   (32u << 20)	/* a provider's plain answer (security.md 3.3) */
#define ROUTING_STREAM_MAX (256u << 20) /* a provider's whole stream */
#define ROUTING_ERROR_MAX  (8u << 10)	/* what is kept of a provider's error body */
#define ROUTING_DRAINS_MAX                                                                         \
	64 /* streams read on for their usage after the caller left (ledger.md 3.5) */
#define ROUTING_DRAIN_MS     (120 * 1000)
#define ROUTING_TIMEOUT_MS   60000 /* a call's deadline when no route says otherwise */
#define ROUTING_KEEPALIVE_MS 10000 /* well within the 15 s that interface.md promises */

struct flow;
struct pg_batch;

struct routing_service {	 /* shared by all threads: counters only */
	struct counter calls[2]; /* answered, failed */
	struct counter attempts[ERROR_CLASS_COUNT];
	struct counter fallbacks;
	struct counter tokens_in, tokens_out;
	struct hist duration, overhead, first_event;
	struct counter revoked;
	_Atomic int drains;
};
struct routing_worker { /* one thread's */
	struct worker *worker;
	struct map *orgs; /* struct cell by org id (snapshot.c) */
	struct cell *platform;
	struct cell *catalogue;
	struct map *cooldowns; /* set here, until the picture that has them is read */
	struct flow *flows;    /* running calls, newest first */
	struct revoke *revoke; /* asks whether they may go on */
};
static inline struct routing_service *routing_service(const struct worker *w)
{
	return w->service->state[MODULE_ROUTING];
}
static inline struct routing_worker *routing_worker(const struct worker *w)
{
	return w->state[MODULE_ROUTING];
}

/* snapshot.c */
void snapshot_worker_start(struct routing_worker *rw);
void snapshot_worker_stop(struct routing_worker *rw);
void snapshot_on_change(struct routing_worker *rw, const struct change *c);
void snapshot_outdate(struct routing_worker *rw,
		      struct org_id org); /* read again before the next call */

/* cooldown.c: cool a profile for one model, or as a whole (`model` empty), here at once and in Postgres for all. */
void cooldown_start(struct routing_worker *rw, struct org_id org, const struct profile *p,
		    struct str model, enum error_class class, int64_t retry_after_s);
void cooldown_end(struct routing_worker *rw, struct org_id org, const struct profile *p,
		  struct str model);
/* A picture of `org`, asked for at `asked_us` (monotonic), was read: what had been written by then is its to tell. */
void cooldown_seen(struct routing_worker *rw, struct org_id org, int64_t asked_us);
/* All cooldowns in force for the two pictures, in `mem`. */
void cooldown_collect(struct routing_worker *rw, const struct snapshot_set *set, struct arena *mem,
		      const struct cooldown **ret, size_t *ret_count);

/* flow.c */
/* A call in `dialect` begins; the request is answered by it. `head` is copied; its strings live with the request. */
struct dialect;
struct call_head;
void flow_begin(struct http_request *r, const struct dialect *dialect,
		const struct call_head *head);
void flow_end_all(
	struct routing_worker *rw); /* the worker stops: every call ends, unsettled ones detach */

/* revoke.c: which running calls may not go on since a change. */
void revoke_start(struct routing_worker *rw);
void revoke_stop(struct routing_worker *rw); /* behind flow_end_all() */
void revoke_on_change(struct routing_worker *rw, const struct change *c);

/* routing.c: x-should-retry and Retry-After of an error answer. */
struct error_answer;
void routing_add_error_headers(struct http_request *r, const struct error_answer *a);

/* profiles.c: a batch for the org of the request's path, whose first statement takes one of the operations that an
 * actor has in an hour, or ends it with 429. The further statements' rows follow that one's. */
enum credential_kind { CREDENTIAL_UPDATE, CREDENTIAL_TEST, CREDENTIAL_READ };
struct pg_batch *credential_batch(struct http_request *r, enum credential_kind kind);
/* The health of interface.md as a probe leaves it; `listed`: it says how many models there are. In `mem`. */
struct str profile_health_json(struct arena *mem, const struct probe_result *res, bool listed);

/* profiles.c: the steps of connecting, for who stores several profiles in one transaction. Each answers the request
 * itself where it refuses. A work lives in the request's arena, its secret is wiped with it. */
struct work;
/* As the body of POST .../profiles; a secret may be missing. NULL: refused. */
struct work *profile_work(struct http_request *r, const struct json *body);
const struct profile *profile_work_profile(const struct work *w); /* with a new id */
const struct secret *profile_work_secret(const struct work *w);	  /* NULL: none */
/* It replaces the secret of a profile that stands, instead of making one. */
void profile_work_rotates(struct work *w, struct uuid id, int64_t row_version);
/* Try the connection, unless the body says otherwise, and seal the secret; then `prepared`, which may
 * run before this returns. */
void profile_work_prepare(struct work *w, struct org_id org, void (*prepared)(void *arg),
			  void *arg);
void profile_work_add(struct work *w, struct pg_batch *b); /* the statement that stores it */
/* The statement that changes what is given: ptr NULL, and numbers below 0, leave as it is. */
void profile_change_add(struct pg_batch *b, struct http_request *r, struct str ref, struct str name,
			const struct str *models, size_t models_count, int64_t priority,
			int is_default, struct str status);

/* routes.c: a route as a body says it, as three JSON texts; answers where it refuses. */
struct route_texts {
	struct str match, targets, policy; /* in r->mem */
};
#define ROUTE_FIELDS "match targets policy"
bool route_read(struct http_request *r, const struct json *body, struct route_texts *ret);
void route_add(struct pg_batch *b, struct http_request *r, struct str name,
	       const struct route_texts *t);

/* agents.c: an agent as a body says it; agent_read() answers where it refuses. */
#define AGENT_FIELDS "default_model description status"
struct agent_fields {
	struct str default_model, description, status; /* ptr NULL: none */
};
bool agent_read(struct http_request *r, const struct json *body, struct agent_fields *ret);
void agent_add(struct pg_batch *b, struct http_request *r, struct str name,
	       const struct agent_fields *f);

/* profiles.c, profile_test.c, routes.c, agents.c, tiers.c, models.c: the control plane of this room. */
void handle_profile_create(struct http_request *r);
void handle_profile_list(struct http_request *r);
void handle_profile_show(struct http_request *r);
void handle_profile_change(struct http_request *r);
void handle_profile_default(struct http_request *r);
void handle_profile_rotate(struct http_request *r);
void handle_profile_test(struct http_request *r);
void handle_profile_revoke(struct http_request *r);
void handle_route_put(struct http_request *r);
void handle_route_list(struct http_request *r);
void handle_route_show(struct http_request *r);
void handle_route_delete(struct http_request *r);
void handle_route_explain(struct http_request *r);
void handle_agent_put(struct http_request *r);
void handle_agent_list(struct http_request *r);
void handle_agent_show(struct http_request *r);
void handle_agent_delete(struct http_request *r);
void handle_tier_put(struct http_request *r);
void handle_tier_list(struct http_request *r);
void handle_tier_show(struct http_request *r);
void handle_tier_delete(struct http_request *r);
void handle_config_plan(struct http_request *r); /* orgconfig.c */
void handle_config_apply(struct http_request *r);
int config_command(struct cli *cli, int argc, char **argv); /* orgconfig_cli.c: plan | apply */
void handle_org_models(struct http_request *r);
/* models.c: a page of a list that no table has: its cursor is how many came before. */
struct slice {
	size_t first, limit; /* limit 0: no page, but all of it */
	size_t at;	     /* how many were offered */
	bool more;
};
bool slice_read(struct http_request *r,
		struct slice *ret); /* false, and answered: the query is none of a list */
bool slice_takes(struct slice *s);  /* the next one is there: does it stand on this page? */
void slice_reply(struct http_request *r, const struct slice *s, struct str list);
/* listing.c: what an org, or a key, can ask for. */
/* By the providers and billing sources that the key is bound to. */
bool routing_key_may_use(const struct principal *p, const struct profile *profile);
void handle_data_models(struct http_request *r); /* OpenAI's shape, or Anthropic's */
void handle_data_model(struct http_request *r);
void handle_gemini_models(struct http_request *r);
void handle_gemini_model(struct http_request *r);

/* responses.c: a stored response, asked for again. */
void handle_response_get(struct http_request *r);
void handle_response_items(struct http_request *r);
void handle_response_delete(struct http_request *r);

void handle_model_list(struct http_request *r);
void handle_model_show(struct http_request *r);
void handle_model_put(struct http_request *r);
void handle_provider_list(struct http_request *r);
int routing_command(struct cli *cli, int argc, char **argv); /* profile | route | explain */
/* "/admin/v1/orgs/ORG/REST[/NAME]", what others named percent-encoded. */
struct str routing_org_path(struct cli *cli, const char *org, const char *rest, const char *name);
int validate_command(struct cli *cli, int argc, char **argv); /* validate.c */

/* Who did it, for the audit log: {"type":"key","id":"..."} or {"type":"operator"}. */
/* The sealed field of a profile's secret: it names the origin, so that a secret opens for no other. */
const char *routing_secret_field(struct arena *mem, struct str origin);

#endif
