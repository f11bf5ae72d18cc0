/* billing/billing.h - hold money for an attempt before it goes upstream, book what it cost.
 *
 * A hold ends exactly once: billing_settle() or billing_release(). A hold left behind by a crash
 * expires in the database (billing/README.md). In this "tight mode" a hold is a lease of exactly its
 * size; the holds and settlements of one loop turn or two travel in one batch. Worker's thread only. */
#ifndef BILLING_BILLING_H
#define BILLING_BILLING_H
#include "billing/money.h"
#include "billing/price.h"
#include "billing/usage.h"
#include "server/base/id.h"
#include "server/module.h"

extern const struct module billing_module;

/* Roles are the vault's; to billing, as to the floor, they are bits. routing.c, which sees both
 * headers, asserts that they are the same. */
#define BILLING_ROLE_OPERATOR  (1u << 0)
#define BILLING_ROLE_OWNER     (1u << 1)
#define BILLING_ROLE_ADMIN     (1u << 2)
#define BILLING_ROLE_DEVELOPER (1u << 3)
#define BILLING_ROLE_FINANCE   (1u << 4)
#define BILLING_ROLE_AUDITOR   (1u << 5)

enum billing_source { BILLING_PLATFORM, BILLING_BYOK, BILLING_PRIVATE };
const char *billing_source_name(enum billing_source s); /* "platform", "byok", "private" */
MUST_CHECK enum rc billing_source_parse(struct str s, enum billing_source *ret);

/* The current price book, referenced for the caller; NULL until the first load (module not ready). */
struct price_book *billing_book(struct worker *w);

struct billing_hold {	/* a value: the flow that asked keeps it */
	struct uuid id; /* all zero: no hold */
	money_t amount;
};
#define BILLING_NAME_MAX 200 /* bytes of a name given here, and of an agent that a budget is for */
struct billing_shortfall {   /* filled on RC_LIMIT */
	money_t needed, available, held; /* held: by calls in flight */
	/* Not zero: not the balance but this budget falls short, and the three are its own. `available` is
	 * below zero where a limit was lowered under what is spent. */
	struct uuid budget;
	char budget_name[4 * BILLING_NAME_MAX + 1];
};
struct billing_payer { /* whose budgets the hold counts on, besides the org's own */
	struct uuid key_id;
	struct str agent; /* as the caller named it, or empty; copied */
};
typedef void billing_authorise_cb(void *arg, enum rc rc, struct billing_hold hold,
				  const struct billing_shortfall *shortfall);
struct billing_op;
/* Ask for a hold of exactly `amount` for one attempt, expiring ttl_ms from now (the call's deadline + 60 s). `cb`
 * runs later, once, on the same loop. RC_LIMIT: available, or a hard budget of the org, the key or the agent, does
 * not cover it. RC_UNAVAILABLE: Postgres is away. RC_DENIED: the org is suspended. Repeating (call, attempt)
 * returns the same hold. */
struct billing_op *billing_authorise(struct worker *w, struct org_id org, struct uuid call,
				     int attempt, const struct billing_payer *payer, money_t amount,
				     int64_t ttl_ms, billing_authorise_cb *cb, void *arg);
/* Withdraw: no callback after this; a hold that is granted nonetheless is released. */
void billing_authorise_cancel(struct billing_op *op);
/* Give a hold back, unused. Returns at once; tried again until booked. */
void billing_release(struct worker *w, struct org_id org, struct billing_hold hold);

enum billing_basis { /* ledger.md 3.5 */
		     BASIS_PROVIDER_USAGE,
		     BASIS_PROVIDER_COST,
		     BASIS_EST_MISSING,
		     BASIS_EST_DISCONNECT,
		     BASIS_EST_PARTIAL,
		     BASIS_NONE
};
const char *billing_basis_name(enum billing_basis b);
struct billing_charge { /* everything is copied */
	struct org_id org;
	struct uuid call;
	int attempt;		  /* from 1 */
	struct billing_hold hold; /* id zero unless platform */
	enum billing_source source;
	struct str provider, model_requested, model_used, profile;
	struct uuid key_id;
	struct str agent, dialect;
	struct usage usage;
	struct rating
		rating; /* platform: debited; byok and private: informational, amount 0 in the row's debit */
	bool rated; /* false: no price known (byok, private) */
	enum billing_basis basis;
	bool void_call; /* nothing was delivered: a row of amount 0 and status "void" that explains itself */
	/* [{"n":1,"target":"…","outcome":"rate_limit","billed":false},…] */
	struct str attempts_json;
	struct str plan_json; /* as explain returns it */
	struct str provider_request_id;
	int64_t duration_ms, first_event_ms;
};
typedef void billing_settle_cb(void *arg, enum rc rc, money_t debited);
/* Book it, exactly once, however often it must be tried: the row's key is (org, time of call id, call,
 * attempt). `cb` runs once it is committed (RC_OK, or RC_CONFLICT: quarantined, alerted). While Postgres is away the
 * charge stays in memory and is tried again; billing_settle_detach() lets a caller stop waiting. */
struct billing_op *billing_settle(struct worker *w, const struct billing_charge *c,
				  billing_settle_cb *cb, void *arg);
void billing_settle_detach(struct billing_op *op); /* no callback after this; the booking goes on */

/* --- the caller's own money, for GET /v1/credits and GET /v1/generations/{request_id} ------------ */
struct http_request;
/* Answer with the org's balance, or with what one of its calls cost: once, later. */
void billing_reply_credits(struct http_request *r, struct org_id org);
void billing_reply_generation(struct http_request *r, struct org_id org, struct str request_id);

#endif
