/* vault/nodes.c - this process among the running ones: which master keys it has, every few seconds.
 *
 * A master key must be everywhere before it wraps anything: `tollgate vault rotate` and `rewrap`
 * refuse while a row here says that a live node lacks it. So the first heartbeat is stored before
 * boot.c reads what this process must be able to unwrap; whichever comes first, the other sees it.
 * The same turn destroys data keys whose time has come (dek_sweep): any node may, they agree by
 * row locks. Must never say more of a master key than its id. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/loop.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define NODES_BEATS	4 /* missed in a row: it is taken for gone */
#define NODES_VALID_MIN 2000
#define NODES_RETRY_MS	500 /* until the first is stored */
#define NODES_SWEEP_MAX 20  /* orgs in one transaction */

struct nodes {
	struct vault_worker *v;
	struct loop_timer timer;
	struct pg_call *call;
	struct uuid id;
	char name[200];
	bool known;	    /* a heartbeat was stored */
	bool leaving, left; /* the drain's */
};

static void nodes_beat(void *arg);

static void nodes_again(struct nodes *n)
{
	const int64_t ms = n->known ? n->v->vault->heartbeat_ms : NODES_RETRY_MS;

	if (!n->leaving)
		loop_timer_set(n->v->worker->loop, &n->timer, ms, nodes_beat, n);
}

static void nodes_on_swept(void *arg, const struct pg_result *res)
{
	struct nodes *n = arg;

	n->call = NULL;
	if (res->rc == RC_OK && pg_int(res->rows[0], 0, 0) > 0)
		log_info("data keys destroyed", LOG_INT("count", pg_int(res->rows[0], 0, 0)));
	else if (res->rc != RC_OK)
		log_debug("data keys not swept", LOG_STR("reason", res->message));
	nodes_again(n);
}

static void nodes_on_beat(void *arg, const struct pg_result *res)
{
	struct nodes *n = arg;
	struct pg_batch *b;

	n->call = NULL;
	if (res->rc != RC_OK) {
		log_debug("heartbeat not stored", LOG_STR("reason", res->message));
		nodes_again(n);
		return;
	}
	n->known = true;
	if (!n->v->boot)
		n->v->boot = boot_new(n->v);
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_dek_sweep);
	pg_param_int(b, NODES_SWEEP_MAX);
	n->call = pg_submit(n->v->worker->pg, b, nodes_on_swept, n);
}

static void nodes_beat(void *arg)
{
	struct nodes *n = arg;
	const struct keyring *ring = &n->v->vault->keyring;
	const int64_t valid = NODES_BEATS * n->v->vault->heartbeat_ms;
	struct str ids[KEYRING_MAX + 1];
	struct pg_batch *b = pg_batch_new();

	for (size_t i = 0; i < ring->count; i++)
		ids[i] = str_from(ring->keks[i].id);
	if (ring->transit)
		ids[ring->count] = str_from(transit_id(ring->transit));
	pg_batch_add(b, &sql_vault_node_beat);
	pg_param_uuid(b, n->id);
	pg_param_z(b, n->name);
	pg_param_z(b, kek_current(ring));
	pg_param_str_array(b, ids, ring->count + (ring->transit ? 1 : 0));
	pg_param_int(b, valid > NODES_VALID_MIN ? valid : NODES_VALID_MIN);
	n->call = pg_submit(n->v->worker->pg, b, nodes_on_beat, n);
}

/* ---- the drain ------------------------------------------------------------------------------------ */

static void nodes_on_left(void *arg, const struct pg_result *res)
{
	struct nodes *n = arg;

	n->call = NULL;
	n->left = true; /* or its row expires by itself */
}

bool nodes_busy(struct service *s)
{
	struct vault_worker *v = vault_worker_of(s->control);
	struct nodes *n = v ? v->nodes : NULL;
	struct pg_batch *b;

	if (!n || n->left || !pg_is_up(s->control->pg))
		return false;
	n->leaving = true;
	loop_timer_clear(&n->timer);
	if (!n->call) { /* after a heartbeat that is on its way */
		b = pg_batch_new();
		pg_batch_add(b, &sql_vault_node_leave);
		pg_param_uuid(b, n->id);
		n->call = pg_submit(s->control->pg, b, nodes_on_left, n);
	}
	return true;
}

struct nodes *nodes_new(struct vault_worker *v)
{
	struct nodes *n = calloc(1, sizeof *n);
	char host[128];

	if (!n)
		abort();
	n->v = v;
	n->id = uuid_v7();
	if (gethostname(host, sizeof host) != 0)
		snprintf(host, sizeof host, "unknown");
	host[sizeof host - 1] = '\0';
	snprintf(n->name, sizeof n->name, "%s:%ld", host, (long)getpid());
	loop_timer_set(v->worker->loop, &n->timer, 0, nodes_beat, n);
	return n;
}

void nodes_free(struct nodes *n)
{
	if (!n)
		return;
	loop_timer_clear(&n->timer);
	if (n->call)
		pg_cancel(n->call);
	free(n);
}
