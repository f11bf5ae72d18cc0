/* vault/operate.c - what the commands of `tollgate vault` stand on: see operate_priv.h.
 *
 * Plain data keys and secrets stand in the secure heap here too, and nothing of them is printed. */
#include "vault/operate_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "sql/queries.h"
#include "vault/secret_priv.h"
#include "vault/vault_priv.h"

enum rc operate_open(struct operate *o, struct cli *cli, struct err *err)
{
	bool locked;

	*o = (struct operate){.cli = cli};
	TRY(cli_config(cli, err));
	TRY(secret_heap_start(err, &locked));
	if (aead_start() != RC_OK)
		return err_set(err, RC_INVALID, "openssl",
			       "this OpenSSL lacks AES-256-GCM or HKDF");
	TRY(keyring_load(&o->ring, cli->config, err));
	o->kek_id = kek_current(&o->ring);
	return cli_db_open(cli, &o->db, err);
}

void operate_close(struct operate *o)
{
	cli_db_close(o->db);
	keyring_clear(&o->ring);
	aead_stop();
}

static void forget_rows(void *arg, const struct pg_result *res)
{
}

enum rc operate_do(struct operate *o, struct pg_batch *b, struct err *err)
{
	return cli_db_run(o->db, b, forget_rows, NULL, err);
}

static void on_number(void *arg, const struct pg_result *res)
{
	int64_t *ret = arg;

	if (res->rc == RC_OK && pg_row_count(res->rows[res->statements - 1]) > 0)
		*ret = pg_int(res->rows[res->statements - 1], 0, 0);
}

enum rc operate_number(struct operate *o, struct pg_batch *b, int64_t *ret, struct err *err)
{
	*ret = 0;
	return cli_db_run(o->db, b, on_number, ret, err);
}

enum rc operate_current(struct operate *o, struct err *err)
{
	struct kek_wrapped now;

	TRY(kek_canary_wait(&o->ring, &now, err));
	o->kek_ver = now.kek_ver;
	o->canary = now.canary;
	return RC_OK;
}

enum rc operate_canary(struct operate *o, struct err *err)
{
	struct pg_batch *b;

	if (o->kek_ver == 0)
		TRY(operate_current(o, err));
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_canary_put);
	pg_param_z(b, o->kek_id);
	pg_param_int(b, o->kek_ver);
	pg_param_bytes(b, kek_text_str(&o->canary));
	return operate_do(o, b, err);
}

enum rc operate_wrap(const struct operate *o, struct org_id org, uint32_t ver, const uint8_t *dek,
		     struct buf *out)
{
	struct kek_wrapped w;
	struct err err;

	TRY(kek_wrap_wait(&o->ring, org, ver, dek, &w, &err));
	if (w.kek_ver != o->kek_ver)
		return RC_CONFLICT;
	return buf_append(out, kek_text_str(&w.wrapped));
}

enum rc operate_unwrap(const struct operate *o, struct org_id org, uint32_t ver, struct str kek_id,
		       int64_t kek_ver, struct str wrapped, uint8_t *dek)
{
	return keyring_unwrap(&o->ring, org, ver, kek_id, kek_ver, wrapped, dek);
}

/* ---- an org's data keys ---------------------------------------------------------------------------- */

struct load {
	const struct operate *o;
	struct operate_keys *k;
	struct arena *mem;
	enum rc rc;
};

static void load_one(struct load *l, const struct pg_rows *rows, size_t i)
{
	struct operate_keys *k = l->k;
	const size_t n = k->count;
	enum rc rc;

	k->keys[n].ver = (uint32_t)pg_int(rows, i, 0);
	k->keys[n].pending = str_is(pg_str(rows, i, 4), "pending");
	k->keys[n].missing[0] = '\0';
	k->keys[n].key = secret_heap_get(ENVELOPE_DEK_BYTES);
	if (!k->keys[n].key) {
		l->rc = RC_LIMIT;
		return;
	}
	k->count++;
	k->min_ver = pg_int(rows, i, 5);
	rc = operate_unwrap(l->o, k->org, k->keys[n].ver, pg_str(rows, i, 1), pg_int(rows, i, 2),
			    pg_bytes(rows, i, 3, l->mem), k->keys[n].key);
	if (rc == RC_OK)
		return;
	secret_heap_give(k->keys[n].key, ENVELOPE_DEK_BYTES);
	k->keys[n].key = NULL;
	if (rc == RC_UNAVAILABLE) /* it may well be right: nothing is said about what it opens */
		l->rc = rc;
	if (rc == RC_NOT_FOUND)
		snprintf(k->keys[n].missing, sizeof k->keys[n].missing, "%.*s",
			 STR_FMT(pg_str(rows, i, 1)));
}

static void load_on_rows(void *arg, const struct pg_result *res)
{
	struct load *l = arg;

	for (size_t i = 0; res->rc == RC_OK && l->rc == RC_OK && i < pg_row_count(res->rows[0]) &&
			   l->k->count < OPERATE_KEYS_MAX;
	     i++)
		load_one(l, res->rows[0], i);
}

enum rc operate_keys_load(struct operate *o, struct org_id org, struct operate_keys *k,
			  struct err *err)
{
	struct load l = {.o = o, .k = k, .mem = arena_new(64 * 1024)};
	struct pg_batch *b = pg_batch_new();
	enum rc rc;

	*k = (struct operate_keys){.org = org};
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_vault_dek_all);
	rc = cli_db_run(o->db, b, load_on_rows, &l, err);
	if (rc == RC_OK && l.rc == RC_UNAVAILABLE)
		rc = err_set(err, l.rc, "vault_unavailable",
			     "the keeper of a master key gives no answer");
	else if (rc == RC_OK && l.rc != RC_OK)
		rc = err_set(err, l.rc, "secure_heap", "the secure heap is full");
	arena_free(l.mem);
	if (rc != RC_OK)
		operate_keys_clear(k);
	return rc;
}

void operate_keys_clear(struct operate_keys *k)
{
	for (size_t i = 0; i < k->count; i++)
		secret_heap_give(k->keys[i].key, ENVELOPE_DEK_BYTES);
	k->count = 0;
}

enum rc operate_record_open(const struct operate_keys *k, const struct operate_record *r,
			    struct secret *plain, const char **code)
{
	const struct secret_ref ref = {r->org, r->id, r->field, r->row_version};
	uint32_t ver;

	*code = "vault_auth";
	TRY(envelope_dek_ver(r->sealed, &ver));
	if (ver < k->min_ver) {
		*code = "vault_version_retired";
		return RC_CORRUPT;
	}
	for (size_t i = 0; i < k->count; i++) {
		if (k->keys[i].ver != ver || k->keys[i].pending)
			continue;
		if (!k->keys[i].key)
			return k->keys[i].missing[0] ? RC_NOT_FOUND : RC_CORRUPT;
		return envelope_open(k->keys[i].key, ver, &ref, r->sealed, plain);
	}
	return RC_CORRUPT;
}

void operate_tried(struct pg_batch *b, const struct operate_record *r, const char *code)
{
	pg_batch_add(b, &sql_vault_secret_tried);
	pg_param_uuid(b, r->id);
	pg_param_int(b, r->row_version);
	pg_param_bytes(b, r->sealed);
	pg_param_z(b, code);
}

/* ---- what failed ------------------------------------------------------------------------------------ */

void operate_bad_begin(struct operate_bad *bad)
{
	bad->text = BUF_INIT(OPERATE_BODY_MAX);
	bad->count = 0;
	json_out_begin(&bad->json, &bad->text);
	json_arr(&bad->json, NULL);
}

void operate_bad_add(struct operate_bad *bad, struct str org, struct str what, const char *code,
		     const char *words)
{
	fprintf(stderr, "%.*s: %.*s: %s\n", STR_FMT(org), STR_FMT(what), words);
	if (++bad->count > OPERATE_LIST_MAX)
		return;
	json_obj(&bad->json, NULL);
	json_put_str(&bad->json, "org", org);
	json_put_str(&bad->json, "what", what);
	json_put_z(&bad->json, "code", code);
	json_put_z(&bad->json, "message", words);
	json_obj_end(&bad->json);
}

void operate_bad_end(struct operate_bad *bad, struct json_out *o, const char *name)
{
	json_arr_end(&bad->json);
	if (json_out_end(&bad->json) == RC_OK)
		json_put_raw(o, name, buf_str(&bad->text));
	else
		json_put_null(o, name);
	buf_clear(&bad->text);
}
