/* routing/plan.h - which target, and why. Pure: the same input gives the same plan.
 *
 * explain and a real call use this one function, and the plan a call logged is the object explain shows. */
#ifndef ROUTING_PLAN_H
#define ROUTING_PLAN_H
#include "billing/billing.h"
#include "routing/snapshot.h"

/* A chain longer than this is a mistake: targets behind it are not looked at. */
#define PLAN_CANDIDATES_MAX	64
#define PLAN_ATTEMPTS_DEFAULT	3
#define PLAN_TIMEOUT_MS_DEFAULT INT64_C(600000) /* what the official clients wait */
/* Where the catalogue does not know the window but the bound is one: the largest there is. */
#define PLAN_WINDOW_UNKNOWN_TOKENS INT64_C(2097152)

struct plan_input {
	const struct call *call;  /* model, needs, max_output, choices, headers */
	int64_t input_tokens_max; /* bound: bytes of the body, or what explain was told */
	int64_t input_tokens_min; /* certainly so many (explain); 0: judged by the text's bytes */
	bool input_is_window;	  /* media by URL: the bound is the context window of each model */
	const struct snapshot *org, *platform;
	const struct catalogue *catalogue;
	const struct price_book *book;
	const struct cooldown *cooldowns; /* in force, from the worker's live table */
	size_t cooldowns_count;
	int64_t wall_ms;
	money_t available; /* explain only */
	bool available_known;
	money_t budget_left; /* explain only: of the org's and the agent's hard budgets the least */
	bool budget_known;
};
struct candidate {
	/* NULL: nobody answers to the target; never with `use`. `asked` is then what the route said. */
	const struct profile *profile;
	const struct route_target *asked;
	const struct provider *provider;
	const struct provider_endpoint
		*endpoint;		 /* for the call's dialect; never NULL with `use` */
	struct str model;		 /* upstream's id */
	const struct model_info *info;	 /* NULL: not in the catalogue */
	const struct price_model *price; /* NULL: none */
	enum billing_source source;
	money_t hold;		  /* worst case; zero unless platform */
	struct price_bound bound; /* what it was made with: no more is charged */
	int64_t max_output_cap;	  /* to inject when the caller set none */
	bool use;		  /* false: passed over */
	const struct call_state
		*no_state;	 /* ... because this, which the call builds on, is not there */
	const char *beyond_hold; /* ... because of this field of the call: its cost has no bound */
	char reason
		[64]; /* "capability_missing:vision", "cooling_down:rate_limit:42", ... ; "" when used */
	int64_t retry_after_ms; /* for cooling_down */
	char target[128];	/* "profile/model", for headers and logs: printable ASCII */
};
struct plan {
	const char *resolved_by;   /* "alias", "agent", "route", "model", "default" */
	const struct route *route; /* NULL: the model named the profiles itself */
	struct candidate *candidates;
	size_t candidates_count;
	size_t usable;
	bool allow_platform_fallback;
	int64_t max_attempts, timeout_ms;
	/* when usable is 0 */
	const char *refusal;	/* "no_route", "insufficient_quota", "unsupported_parameter", ... */
	int64_t retry_after_ms; /* > 0: it passes with time */
	const char *beyond_hold;	/* refusal unsupported_parameter: which field */
	const struct call_state *state; /* refusal state_not_found: which */
};
/* RC_NOT_FOUND: no profile serves that model (err says which). RC_DENIED: the call's agent is disabled. Allocates in `mem` only. */
MUST_CHECK enum rc route_plan_build(const struct plan_input *in, struct arena *mem,
				    struct plan *ret, struct err *err);
/* The words for a plan with nothing usable: code is p->refusal, retry_after_s is filled. Returns the rc to answer
 * with: RC_LIMIT, RC_INVALID, RC_NOT_FOUND or RC_UNAVAILABLE. */
enum rc route_plan_refused(const struct plan *p, struct err *err);
/* {"resolved_by":…,"targets":[…],"refusal":…} of interface.md. */
MUST_CHECK enum rc route_plan_json(const struct plan *p, struct buf *out);

#endif
