/* routing/probe.h - is this endpoint there, does it take this key, and does it answer?
 *
 * Questions with fixed, harmless bodies: nothing of a tenant goes out but the key, nothing of an answer is kept but
 * model ids and a few words for a person. Needs a loop's curl group and nothing else: no Postgres, no service.
 * One thread (the loop's). */
#ifndef ROUTING_PROBE_H
#define ROUTING_PROBE_H
#include "routing/snapshot.h"
#include "server/curlm.h"
#include "vault/secret.h"

#define PROBE_MS	 10000 /* what a whole probe may take, all its requests together */
#define PROBE_LISTED_MAX 2000  /* model ids kept of one listing */
#define PROBE_VOICES_MAX 100   /* the most that one page has */

enum probe_action {
	PROBE_AUTH,   /* does it take the key? Free of charge everywhere */
	PROBE_MODELS, /* what does it list? Free */
	PROBE_TEXT,   /* the smallest completion: costs a few tokens */
	PROBE_VOICE,  /* the smallest speech: costs a few characters */
	PROBE_VOICES, /* whose voices can it speak with? Free */
};
const char *probe_action_name(enum probe_action a); /* "test_auth", "list_models", ... */
MUST_CHECK enum rc probe_action_parse(struct str name, enum probe_action *ret);

enum probe_health {
	PROBE_UNKNOWN, /* nothing was learned about the key: slow, away, overloaded */
	PROBE_OK,
	PROBE_DEGRADED, /* the key is good, but out of money, limited or restricted */
	PROBE_FAILED,	/* wrong key, wrong address, or no answer of the shape that was asked for */
};
const char *probe_health_name(enum probe_health h);

struct probe_voice {
	struct str id, name; /* name may be empty */
};
struct probe_result {
	bool ok; /* what was asked for came: a word about the key, a list, a token, a sound */
	enum probe_health health; /* what it says about the connection */
	bool about_call; /* it says nothing of the connection: the endpoint refused this call and not the key, or
			  * answers whoever asks */
	int status;	    /* HTTP; 0: no answer */
	int64_t latency_ms; /* of the request that decided */
	const char
		*reason;  /* static machine word; NULL: nothing to remark. An error class, "egress",
			     * "redirect", "not_supported" or "needs_reconfiguration" */
	struct str words; /* for a person; no secret in it */
	bool listed;	  /* `models` is the endpoint's own listing */
	const struct str *models; /* in the asker's arena */
	size_t models_count;
	struct str model;		  /* TEXT and VOICE: which was asked */
	const struct probe_voice *voices; /* VOICES: the first page of them, in the asker's arena */
	size_t voices_count;
};
typedef void probe_cb(void *arg, const struct probe_result *res);

struct probe;
/* Ask the endpoint of `p` (its provider, base_url, and for a model that is not named its `models`). `model`: empty
 * lets the probe choose, the cheapest by name of those listed. `secret` (NULL: none) is copied where a second
 * request will need it. `cb` runs once, later, never before this returns; `mem` and what `p` points to must live
 * until then. Within `timeout_ms` (PROBE_MS at most) it has answered, whatever the endpoint does. */
struct probe *probe_start(struct curlm *m, const struct profile *p, enum probe_action action,
			  struct str model, const struct secret *secret, int64_t timeout_ms,
			  struct arena *mem, probe_cb *cb, void *arg);
void probe_cancel(struct probe *p); /* no callback after this; NULL is fine */
/* To be asked before probe_start(), which asserts it. RC_UNSUPPORTED and `err`: the provider has no such call.
 * RC_INVALID: `model` must be named, or its name cannot be put to this provider. */
MUST_CHECK enum rc probe_possible(const struct provider *p, enum probe_action action,
				  struct str model, struct err *err);

#endif
