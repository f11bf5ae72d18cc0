/* vault/tried.c - records that did not open are told to the database, so that lists show them.
 *
 * A secret that cannot be opened is an admin's to enter again, and the call that met it is long
 * over. Only a hint: told once a minute and worker, not told again when that fails, and stored only
 * if the record still is what was tried. Must never keep a call waiting. */
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define TRIED_MAX      16 /* records that do not open at one time are few, or all of an org's */
#define TRIED_AGAIN_MS 60000

struct tried {
	struct {
		struct uuid id;
		int64_t at_ms;
	} last[TRIED_MAX];
	size_t next;
};

struct tried *tried_new(void)
{
	struct tried *t = calloc(1, sizeof *t);

	if (!t)
		abort();
	return t;
}

void tried_free(struct tried *t)
{
	free(t);
}

static bool told_lately(const struct tried *t, struct uuid id, int64_t now)
{
	for (size_t i = 0; i < TRIED_MAX; i++)
		if (uuid_eq(t->last[i].id, id) && now - t->last[i].at_ms < TRIED_AGAIN_MS)
			return true;
	return false;
}

static void on_told(void *arg, const struct pg_result *res)
{
	if (res->rc != RC_OK && res->rc != RC_CANCELLED)
		log_debug("a secret that does not open is not marked",
			  LOG_STR("reason", res->message));
}

void tried_note(struct vault_worker *v, const struct secret_ref *ref, struct str blob,
		const char *code)
{
	struct tried *t = v->tried;
	const int64_t now = clock_mono_ms();
	struct pg_batch *b;

	if (told_lately(t, ref->id, now))
		return;
	t->last[t->next].id = ref->id;
	t->last[t->next].at_ms = now;
	t->next = (t->next + 1) % TRIED_MAX;
	log_error("a stored secret does not open", LOG_UUID("org_id", ref->org.u),
		  LOG_UUID("secret_id", ref->id), LOG_STR("code", code));
	b = pg_batch_new();
	pg_batch_org(b, ref->org);
	pg_batch_add(b, &sql_vault_secret_tried);
	pg_param_uuid(b, ref->id);
	pg_param_int(b, ref->row_version);
	pg_param_bytes(b, blob);
	pg_param_z(b, code);
	(void)pg_submit(v->worker->pg, b, on_told, NULL); /* nobody waits: it ends by itself */
}
