/* vault/boot.c - what must be true before a key is checked or a secret opened.
 *
 * On the control thread, as soon as Postgres answers:
 *
 *   canaries   every master key that a data key needs is configured, and each configured one opens
 *              what it sealed at first; else the process ends with status 2 and one sentence. A keeper
 *              that does not answer is no wrong key: it is asked again
 *   current    the current master key gets its canary if it has none
 *   pepper     read, or made at the very first start, opened, and handed to all workers
 *
 * A failure of Postgres is tried again; until all is done the module is not ready. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/loop.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/vault_priv.h"

#define BOOT_RETRY_MS	  500
#define BOOT_ROW_BYTES	  (1024 * 1024)
#define BOOT_CANARIES_MAX 100 /* vault_boot() answers no more */
#define BOOT_PEPPER_BYTES 32

/* The pepper's place: a sealed record of the platform. */
static const struct uuid boot_pepper_id = {
	{0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x01}};

struct canary {
	struct str kek_id, sealed;
	int64_t kek_ver;
	bool needed;
};
struct boot {
	struct vault_worker *v;
	struct loop_timer timer;
	struct pg_call *pg;
	struct vault_call *call;
	struct kek_call *kek;
	int64_t pepper_ver;
	/* while they are checked, one after another */
	struct arena *mem;
	struct canary canaries[BOOT_CANARIES_MAX];
	size_t canaries_count, canary;
	bool has_current;
};

static void boot_canaries(void *arg);
static void boot_pepper(struct boot *b);

/* Serving with a wrong master key would answer every opened secret with an error, and seal new ones that nobody
 * opens later: there is nothing to stay up for. */
static _Noreturn void boot_fatal(const char *words)
{
	log_error("vault: the process ends", LOG_STR("reason", words));
	fprintf(stderr, "tollgate: %s\n", words);
	_exit(2);
}

static void boot_again(struct boot *b, const char *what, const char *why)
{
	log_debug("vault: not started yet", LOG_STR("step", what), LOG_STR("reason", why));
	loop_timer_set(b->v->worker->loop, &b->timer, BOOT_RETRY_MS, boot_canaries, b);
}

static struct secret_ref pepper_ref(int64_t version)
{
	return (struct secret_ref){.org = org_id_platform,
				   .id = boot_pepper_id,
				   .field = "pepper",
				   .row_version = version};
}

/* ---- pepper ------------------------------------------------------------------------------------- */

void pepper_free(struct pepper *p)
{
	if (!p)
		return;
	secret_clear(&p->bytes);
	free(p);
}

static void pepper_on_open(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct boot *b = arg;
	struct pepper *p;

	b->call = NULL;
	if (rc == RC_CORRUPT || (rc == RC_OK && plain->len != BOOT_PEPPER_BYTES))
		boot_fatal("the pepper of the API keys does not open with the configured master "
			   "keys: the database is damaged or mixed from two installations");
	if (rc != RC_OK) {
		boot_again(b, "pepper", err->message);
		return;
	}
	p = calloc(1, sizeof *p);
	if (!p)
		abort();
	p->ver = b->pepper_ver;
	if (secret_from(secret_str(plain), &p->bytes) != RC_OK) {
		free(p);
		boot_again(b, "pepper", "the secure heap is full");
		return;
	}
	atomic_store_explicit(&b->v->vault->pepper, p, memory_order_release);
	log_info("vault started", LOG_STR("kek_id", kek_current(&b->v->vault->keyring)),
		 LOG_INT("master_keys", b->v->vault->keyring.count),
		 LOG_BOOL("transit", b->v->vault->keyring.transit != NULL));
}

static void pepper_on_put(void *arg, const struct pg_result *res)
{
	struct boot *b = arg;

	b->pg = NULL;
	/* A conflict is another process that was faster: its pepper is read like any. */
	if (res->rc == RC_OK || res->rc == RC_CONFLICT)
		boot_pepper(b);
	else
		boot_again(b, "pepper", res->message);
}

static void pepper_on_sealed(void *arg, enum rc rc, const struct sealed *sealed,
			     const struct err *err)
{
	struct boot *b = arg;
	struct pg_batch *batch;

	b->call = NULL;
	if (rc != RC_OK) {
		boot_again(b, "pepper", err->message);
		return;
	}
	batch = pg_batch_new();
	pg_batch_org(batch, org_id_platform);
	pg_batch_add(batch, &sql_vault_secret_put);
	pg_param_uuid(batch, boot_pepper_id);
	pg_param_z(batch, "pepper");
	pg_param_int(batch, 1);
	pg_param_bytes(batch, sealed->blob);
	pg_param_z(batch, "****");
	pg_param_z(batch, sealed->fingerprint);
	b->pg = pg_submit(b->v->worker->pg, batch, pepper_on_put, b);
}

static void pepper_make(struct boot *b)
{
	AUTO(secret) struct secret pepper = SECRET_INIT;
	const struct secret_ref ref = pepper_ref(1);

	if (secret_random(&pepper, BOOT_PEPPER_BYTES) != RC_OK) {
		boot_again(b, "pepper", "no randomness");
		return;
	}
	b->call = vault_seal(b->v->worker, &ref, &pepper, pepper_on_sealed, b);
}

static void pepper_on_row(void *arg, const struct pg_result *res)
{
	struct boot *b = arg;
	struct arena *mem;
	struct secret_ref ref;

	b->pg = NULL;
	if (res->rc != RC_OK) {
		boot_again(b, "pepper", res->message);
		return;
	}
	if (pg_row_count(res->rows[0]) == 0) {
		pepper_make(b);
		return;
	}
	mem = arena_new(BOOT_ROW_BYTES);
	b->pepper_ver = pg_int(res->rows[0], 0, 0);
	ref = pepper_ref(b->pepper_ver);
	b->call = vault_open(b->v->worker, &ref, pg_bytes(res->rows[0], 0, 1, mem), pepper_on_open,
			     b);
	arena_free(mem);
}

static void boot_pepper(struct boot *b)
{
	struct pg_batch *batch = pg_batch_new();

	pg_batch_org(batch, org_id_platform);
	pg_batch_add(batch, &sql_vault_secret_get);
	pg_param_uuid(batch, org_id_platform.u);
	pg_param_uuid(batch, boot_pepper_id);
	b->pg = pg_submit(b->v->worker->pg, batch, pepper_on_row, b);
}

/* ---- canaries ----------------------------------------------------------------------------------- */

static void canary_on_put(void *arg, const struct pg_result *res)
{
	struct boot *b = arg;

	b->pg = NULL;
	if (res->rc == RC_OK)
		boot_pepper(b);
	else
		boot_again(b, "canary", res->message);
}

static void canary_on_sealed(void *arg, enum rc rc, const struct kek_wrapped *w,
			     const struct err *err)
{
	struct boot *b = arg;
	struct pg_batch *batch;

	b->kek = NULL;
	if (rc != RC_OK) {
		boot_again(b, "canary", err->message);
		return;
	}
	batch = pg_batch_new();
	pg_batch_add(batch, &sql_vault_canary_put);
	pg_param_z(batch, w->kek_id);
	pg_param_int(batch, w->kek_ver);
	pg_param_bytes(batch, kek_text_str(&w->canary));
	b->pg = pg_submit(b->v->worker->pg, batch, canary_on_put, b);
}

static _Noreturn void canary_missing(const struct keyring *ring, struct str kek_id)
{
	char words[384];

	snprintf(words, sizeof words,
		 "data keys in this database are wrapped by master key %.*s, which is neither "
		 "TOLLGATE_MASTER_KEY nor in TOLLGATE_MASTER_KEYS_OLD nor the key of "
		 "TOLLGATE_VAULT_TRANSIT_URL (current is %s)",
		 STR_FMT(kek_id), kek_current(ring));
	boot_fatal(words);
}

static _Noreturn void canary_wrong(const struct keyring *ring, const struct canary *c)
{
	const bool remote = kek_is_remote(ring, c->kek_id);
	char words[384];

	snprintf(words, sizeof words,
		 "master key %.*s version %lld (%s) does not open its canary in this database: it "
		 "is damaged%s or another's",
		 STR_FMT(c->kek_id), (long long)c->kek_ver,
		 remote ? "TOLLGATE_VAULT_TRANSIT_KEY"
			: "TOLLGATE_MASTER_KEY or TOLLGATE_MASTER_KEYS_OLD",
		 remote ? ", below the key's min_decryption_version" : "");
	boot_fatal(words);
}

static void canary_next(struct boot *b);

static void canary_on_checked(void *arg, enum rc rc, const uint8_t *plain, const struct err *err)
{
	struct boot *b = arg;

	b->kek = NULL;
	if (rc == RC_CORRUPT)
		canary_wrong(&b->v->vault->keyring, &b->canaries[b->canary]);
	if (rc != RC_OK) {
		boot_again(b, "canaries", err->message);
		return;
	}
	b->canary++;
	canary_next(b);
}

/* Versions of a transit key that nothing needs any more may be gone there; but one must show that it is the key. */
static bool canary_is_due(const struct boot *b, size_t i)
{
	const struct keyring *ring = &b->v->vault->keyring;
	const struct canary *c = &b->canaries[i];

	if (!kek_is_held(ring, c->kek_id, c->kek_ver))
		return false;
	if (c->needed || !kek_is_remote(ring, c->kek_id))
		return true;
	for (size_t j = 0; j < i; j++) /* newest first */
		if (str_eq(b->canaries[j].kek_id, c->kek_id))
			return false;
	return true;
}

static void canary_next(struct boot *b)
{
	const struct canary *c;

	while (b->canary < b->canaries_count && !canary_is_due(b, b->canary))
		b->canary++;
	if (b->canary < b->canaries_count) {
		c = &b->canaries[b->canary];
		b->kek = kek_check(b->v->kek, c->kek_id, c->kek_ver, c->sealed, canary_on_checked,
				   b);
		return;
	}
	if (b->has_current)
		boot_pepper(b);
	else
		b->kek = kek_canary(b->v->kek, canary_on_sealed, b);
}

static void canary_on_rows(void *arg, const struct pg_result *res)
{
	struct boot *b = arg;
	const struct keyring *ring = &b->v->vault->keyring;
	const struct pg_rows *rows;

	b->pg = NULL;
	if (res->rc != RC_OK) {
		boot_again(b, "canaries", res->message);
		return;
	}
	rows = res->rows[0];
	arena_free(b->mem);
	b->mem = arena_new(BOOT_ROW_BYTES);
	b->canary = b->canaries_count = 0;
	b->has_current = false;
	for (size_t i = 0; i < pg_row_count(rows) && i < BOOT_CANARIES_MAX; i++) {
		struct canary *c = &b->canaries[b->canaries_count++];

		*c = (struct canary){.kek_id = arena_str(b->mem, pg_str(rows, i, 0)),
				     .kek_ver = pg_int(rows, i, 1),
				     .sealed = pg_bytes(rows, i, 2, b->mem),
				     .needed = pg_bool(rows, i, 3)};
		if (c->needed && !kek_is_held(ring, c->kek_id, c->kek_ver))
			canary_missing(ring, c->kek_id);
		b->has_current = b->has_current || str_is(c->kek_id, kek_current(ring));
	}
	canary_next(b);
}

static void boot_canaries(void *arg)
{
	struct boot *b = arg;
	struct pg_batch *batch = pg_batch_new();

	pg_batch_add(batch, &sql_vault_boot);
	b->pg = pg_submit(b->v->worker->pg, batch, canary_on_rows, b);
}

struct boot *boot_new(struct vault_worker *v)
{
	struct boot *b = calloc(1, sizeof *b);

	if (!b)
		abort();
	b->v = v;
	loop_timer_set(v->worker->loop, &b->timer, 0, boot_canaries, b);
	return b;
}

void boot_free(struct boot *b)
{
	if (!b)
		return;
	loop_timer_clear(&b->timer);
	if (b->pg)
		pg_cancel(b->pg);
	if (b->call)
		vault_cancel(b->call);
	kek_cancel(b->kek);
	arena_free(b->mem);
	free(b);
}
