/* routing/revoke.c - calls that run when their key, org or provider profile is taken away.
 *
 * A change that may concern a running call makes it a suspect; all suspects of a worker are asked about in one
 * statement, and those that may not go on are told so and end themselves (flow.c). Changes come by NOTIFY, or
 * within a second by the poll that stands behind it; where the question itself fails it is asked again. A key
 * that expires is no change: its calls run to their end. Never ends a call on a guess: no answer, no verdict. */
#include "routing/flow_priv.h"

#include <stdlib.h>

#include "server/loop.h"
#include "server/pg.h"
#include "sql/queries.h"

#define REVOKE_ASK_MAX	1024 /* calls in one statement: 70 KiB of it */
#define REVOKE_RETRY_MS 1000

struct revoke { /* per worker */
	struct routing_worker *rw;
	struct pg_call *asking;
	bool telling; /* the answer is being told: `asked` stands still */
	struct loop_timer retry;
	size_t count; /* of the calls in the statement that runs */
	struct {
		struct flow *f; /* NULL: it has ended meanwhile */
		struct uuid profile;
	} asked[REVOKE_ASK_MAX];
};

/* ---- the verdict ------------------------------------------------------------------------------------ */

bool revoke_is_of_caller(const struct flow *f)
{
	return f->revoked == REVOKED_KEY || f->revoked == REVOKED_ORG;
}

enum rc revoke_words(struct flow *f)
{
	switch (f->revoked) {
	case REVOKED_KEY:
		err_set(&f->err, RC_DENIED, "invalid_api_key",
			"this API key was revoked while the call ran");
		err_hint(&f->err, "what had been used until then is booked; use another key");
		return RC_DENIED;
	case REVOKED_ORG:
		err_set(&f->err, RC_DENIED, "permission_denied",
			"the org was suspended or deleted while the call ran");
		err_hint(&f->err, "ask the platform's operator");
		return RC_DENIED;
	default:
		err_set(&f->err, RC_NETWORK, "all_targets_failed",
			"the profile %.*s was revoked or disabled while the call ran",
			STR_FMT(f->asked->profile->name));
		err_hint(&f->err, "send the call again: what is left of its chain may serve it");
		return RC_NETWORK;
	}
}

static bool asks_profile(const struct flow *f)
{
	return f->state == FLOW_RELAYING && f->up && f->target;
}

static void judge(struct revoke *v, size_t i, struct str verdict)
{
	struct flow *f = v->asked[i].f;

	if (str_is(verdict, "key"))
		f->revoked = REVOKED_KEY;
	else if (str_is(verdict, "org"))
		f->revoked = REVOKED_ORG;
	else if (asks_profile(f) && uuid_eq(f->target->profile->id, v->asked[i].profile))
		f->revoked = REVOKED_PROFILE;
	else
		return; /* it has gone on to another target since */
	flow_run(f);
}

/* ---- the question ----------------------------------------------------------------------------------- */

static void ask(struct revoke *v);

static void on_retry(void *arg)
{
	ask(arg);
}

static void on_rows(void *arg, const struct pg_result *res)
{
	struct revoke *v = arg;
	const bool ok = res->rc == RC_OK;

	v->asking = NULL;
	v->telling = true;
	for (size_t i = 0; i < v->count; i++)
		if (v->asked[i].f && v->asked[i].f->standing == STANDING_ASKED)
			v->asked[i].f->standing = ok ? STANDING_GOOD : STANDING_SUSPECT;
	for (size_t i = 0; ok && i < pg_row_count(res->rows[0]); i++) {
		const int64_t n = pg_int(res->rows[0], i, 0);

		if (n >= 1 && (size_t)n <= v->count && v->asked[n - 1].f)
			judge(v, (size_t)n - 1, pg_str(res->rows[0], i, 1));
	}
	v->count = 0;
	v->telling = false;
	if (ok)
		ask(v); /* who came meanwhile, or did not fit */
	else
		loop_timer_set(v->rw->worker->loop, &v->retry, REVOKE_RETRY_MS, on_retry, v);
}

static void ask(struct revoke *v)
{
	static const struct uuid none;
	struct uuid orgs[REVOKE_ASK_MAX], keys[REVOKE_ASK_MAX], owners[REVOKE_ASK_MAX],
		profiles[REVOKE_ASK_MAX];
	int64_t secrets[REVOKE_ASK_MAX];
	struct pg_batch *b;
	size_t n = 0;

	if (v->asking || v->telling)
		return;
	for (struct flow *f = v->rw->flows; f && n < REVOKE_ASK_MAX; f = f->next) {
		const bool sent = asks_profile(f);

		if (f->standing != STANDING_SUSPECT)
			continue;
		f->standing = STANDING_ASKED;
		f->asked_at = n;
		orgs[n] = f->who->org.u;
		keys[n] = f->who->key_id;
		owners[n] = sent && f->target->source == BILLING_PLATFORM ? org_id_platform.u
									  : f->who->org.u;
		profiles[n] = sent ? f->target->profile->id : none;
		secrets[n] = sent && f->target->profile->has_secret;
		v->asked[n].f = f;
		v->asked[n].profile = profiles[n];
		n++;
	}
	v->count = n;
	if (n == 0)
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_standing);
	pg_param_uuid_array(b, orgs, n);
	pg_param_uuid_array(b, keys, n);
	pg_param_uuid_array(b, owners, n);
	pg_param_uuid_array(b, profiles, n);
	pg_param_int_array(b, secrets, n);
	v->asking = pg_submit(v->rw->worker->pg, b, on_rows, v);
}

/* ---- who is asked about ------------------------------------------------------------------------------ */

void revoke_suspect(struct flow *f)
{
	f->standing = STANDING_SUSPECT;
	ask(f->rw->revoke);
}

void revoke_forget(struct flow *f)
{
	struct revoke *v = f->rw->revoke;

	if (f->asked_at < v->count && v->asked[f->asked_at].f == f)
		v->asked[f->asked_at].f = NULL;
}

void revoke_on_change(struct routing_worker *rw, const struct change *c)
{
	const struct str kind = str_from(c->kind);
	const bool all = uuid_is_zero(c->org.u), of_profile = all || str_is(kind, "profile");
	const bool platform = uuid_eq(c->org.u, org_id_platform.u);

	if (!of_profile && !str_is(kind, "key") && !str_is(kind, "org"))
		return;
	for (struct flow *f = rw->flows; f; f = f->next) {
		if (!all && !uuid_eq(f->who->org.u, c->org.u) && !(of_profile && platform))
			continue;
		f->standing = STANDING_SUSPECT;
		f->outdated = f->outdated || of_profile;
	}
	ask(rw->revoke);
}

/* ---- life -------------------------------------------------------------------------------------------- */

void revoke_start(struct routing_worker *rw)
{
	rw->revoke = calloc(1, sizeof *rw->revoke);
	if (!rw->revoke)
		abort();
	rw->revoke->rw = rw;
}

void revoke_stop(struct routing_worker *rw)
{
	struct revoke *v = rw->revoke;

	if (v->asking)
		pg_cancel(v->asking);
	loop_timer_clear(&v->retry);
	free(v);
	rw->revoke = NULL;
}
