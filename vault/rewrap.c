/* vault/rewrap.c - `tollgate vault rewrap` and `forget`: the master key is changed, and an old one given up.
 *
 * Only wrapped data keys change, one row each, so no running call notices. Needs nothing of its own
 * to go on after it was cut off: what is not under the current master key is what is left to do. */
#include <stdio.h>
#include <stdlib.h>

#include "sql/queries.h"
#include "vault/operate_priv.h"
#include "vault/secret_priv.h"

#define REWRAP_PAGE_BYTES (2u << 20) /* 100 wrapped keys of at most 4 KiB, as text and as bytes */

struct wrapped {
	struct org_id org;
	int64_t ver, kek_ver;
	struct str kek_id, text;
};

struct rewrap {
	struct operate o;
	struct arena *mem; /* of the page */
	struct wrapped page[OPERATE_BATCH];
	size_t count;
	int64_t left, done;
	struct operate_bad bad;
};

static void page_on_rows(void *arg, const struct pg_result *res)
{
	struct rewrap *r = arg;
	const struct pg_rows *rows;

	r->count = 0;
	if (res->rc != RC_OK)
		return;
	rows = res->rows[0];
	r->left = pg_row_count(rows) > 0 ? pg_int(rows, 0, 5) : 0;
	for (; r->count < pg_row_count(rows) && r->count < OPERATE_BATCH; r->count++)
		r->page[r->count] = (struct wrapped){
			.org.u = pg_uuid(rows, r->count, 0),
			.ver = pg_int(rows, r->count, 1),
			.kek_id = arena_str(r->mem, pg_str(rows, r->count, 2)),
			.kek_ver = pg_int(rows, r->count, 3),
			.text = pg_bytes(rows, r->count, 4, r->mem),
		};
}

static enum rc page_read(struct rewrap *r, const struct wrapped *after, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_dek_page_other);
	pg_param_z(b, r->o.kek_id);
	pg_param_int(b, r->o.kek_ver);
	pg_param_uuid(b, after->org.u);
	pg_param_int(b, after->ver);
	pg_param_int(b, OPERATE_BATCH);
	return cli_db_run(r->o.db, b, page_on_rows, r, err);
}

static enum rc wrap_again(struct rewrap *r, const struct wrapped *w, struct buf *out)
{
	uint8_t *dek = secret_heap_get(ENVELOPE_DEK_BYTES);
	enum rc rc = dek ? RC_OK : RC_LIMIT;

	if (rc == RC_OK)
		rc = operate_unwrap(&r->o, w->org, (uint32_t)w->ver, w->kek_id, w->kek_ver, w->text,
				    dek);
	if (rc == RC_OK)
		rc = operate_wrap(&r->o, w->org, (uint32_t)w->ver, dek, out);
	secret_heap_give(dek, ENVELOPE_DEK_BYTES);
	return rc;
}

static void wrap_failed(struct rewrap *r, const struct wrapped *w, enum rc rc)
{
	const bool missing = rc == RC_NOT_FOUND;
	char id[UUID_TEXT_SIZE], words[160];

	snprintf(
		words, sizeof words,
		missing ? "data key %lld is wrapped by master key %.*s, which is not configured here"
			: "data key %lld does not unwrap with master key %.*s",
		(long long)w->ver, STR_FMT(w->kek_id));
	operate_bad_add(&r->bad, uuid_format(w->org.u, id), STR("data key"),
			missing ? "master_key_missing" : "vault_auth", words);
}

struct columns { /* of one statement */
	struct uuid orgs[OPERATE_BATCH];
	int64_t vers[OPERATE_BATCH];
	struct str was[OPERATE_BATCH], now[OPERATE_BATCH];
	size_t n;
};

static enum rc page_store(struct rewrap *r, const struct columns *c, struct err *err)
{
	struct pg_batch *b;
	int64_t n;

	if (c->n > 0)
		TRY(operate_canary(&r->o, err));
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_dek_rewrap);
	pg_param_z(b, r->o.kek_id);
	pg_param_int(b, r->o.kek_ver);
	pg_param_uuid_array(b, c->orgs, c->n);
	pg_param_int_array(b, c->vers, c->n);
	pg_param_bytes_array(b, c->was, c->n);
	pg_param_bytes_array(b, c->now, c->n);
	pg_param_z(b, OPERATE_ACTOR);
	pg_param_z(b, OPERATE_REQ);
	TRY(operate_number(&r->o, b, &n, err));
	r->done += n;
	fprintf(stderr, "%lld data keys rewrapped, %lld left\n", (long long)r->done,
		(long long)(r->left > n ? r->left - n : 0));
	return RC_OK;
}

static enum rc page_do(struct rewrap *r, struct err *err)
{
	struct columns *c = ARENA_NEW(r->mem, struct columns);

	for (size_t i = 0; i < r->count; i++) {
		AUTO(buf) struct buf out = BUF_INIT(4096);
		const struct wrapped *w = &r->page[i];
		enum rc rc = wrap_again(r, w, &out);

		if (rc == RC_NOT_FOUND || rc == RC_CORRUPT) {
			wrap_failed(r, w, rc);
			continue;
		}
		if (rc == RC_CONFLICT)
			return err_set(err, rc, "master_key_rotated",
				       "the master key was rotated meanwhile: repeat the command");
		if (rc != RC_OK)
			return err_set(err, rc, "vault_unavailable",
				       "a data key cannot be wrapped");
		c->orgs[c->n] = w->org.u;
		c->vers[c->n] = w->ver;
		c->was[c->n] = w->text;
		c->now[c->n++] = arena_str(r->mem, buf_str(&out));
	}
	return page_store(r, c, err);
}

static enum rc run_step(struct rewrap *r, bool at_end, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	if (at_end) {
		pg_batch_add(b, &sql_vault_run_note);
		pg_param_z(b, "rewrap");
		pg_param_int(b, 0); /* counted where it was done */
		pg_param_int(b, r->bad.count);
		pg_param_bool(b, true);
	} else {
		pg_batch_add(b, &sql_vault_run_begin);
		pg_param_z(b, "rewrap");
		pg_param_z(b, r->o.kek_id);
	}
	return operate_do(&r->o, b, err);
}

/* A page without rows is asked for as well: whether every node has the key must be right even then. */
static enum rc rewrap_all(struct rewrap *r, struct err *err)
{
	struct wrapped after = {.ver = 0};
	enum rc rc;

	TRY(run_step(r, false, err));
	TRY(operate_current(&r->o, err));
	do {
		r->mem = arena_new(REWRAP_PAGE_BYTES);
		rc = page_read(r, &after, err);
		if (rc == RC_OK)
			rc = page_do(r, err);
		if (r->count > 0)
			after = r->page[r->count - 1];
		arena_free(r->mem);
		if (rc != RC_OK)
			return rc;
	} while (r->count == OPERATE_BATCH);
	return run_step(r, true, err);
}

/* ---- what may go ------------------------------------------------------------------------------------- */

struct spare {
	struct rewrap *r;
	struct json_out *o;
	struct buf *human;
	enum rc rc;
};

static void spare_on_rows(void *arg, const struct pg_result *res)
{
	struct spare *s = arg;
	const struct pg_rows *rows;

	if (res->rc != RC_OK)
		return;
	rows = res->rows[0];
	for (size_t i = 0; i < pg_row_count(rows); i++) {
		const struct str id = pg_str(rows, i, 0);

		if (pg_int(rows, i, 2) > 0 || pg_bool(rows, i, 4) || str_is(id, s->r->o.kek_id))
			continue;
		json_put_str(s->o, NULL, id);
		if (s->rc == RC_OK)
			s->rc = buf_printf(s->human,
					   "master key %.*s is needed by nobody and may "
					   "be removed\n",
					   STR_FMT(id));
	}
}

static enum rc put_spare(struct rewrap *r, struct json_out *o, struct buf *human, struct err *err)
{
	struct spare s = {.r = r, .o = o, .human = human};
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_master_keys);
	json_arr(o, "removable_master_keys");
	TRY(cli_db_run(r->o.db, b, spare_on_rows, &s, err));
	json_arr_end(o);
	return s.rc;
}

static int rewrap_print(struct rewrap *r)
{
	AUTO(buf) struct buf json = BUF_INIT(OPERATE_BODY_MAX);
	AUTO(buf) struct buf human = BUF_INIT(OPERATE_BODY_MAX);
	const bool ok = r->bad.count == 0;
	struct err err = {0};
	struct json_out o;
	enum rc rc;
	int status;

	json_out_begin(&o, &json);
	json_obj(&o, NULL);
	json_put_z(&o, "master_key", r->o.kek_id);
	json_put_int(&o, "rewrapped", r->done);
	operate_bad_end(&r->bad, &o, "failed");
	rc = buf_printf(&human, "%lld data keys rewrapped by master key %s, %lld failures\n",
			(long long)r->done, r->o.kek_id, (long long)r->bad.count);
	if (rc == RC_OK)
		rc = put_spare(r, &o, &human, &err);
	if (rc != RC_OK)
		return cli_error(r->o.cli, cli_status(rc, 0), &err);
	json_put_bool(&o, "ok", ok);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		return CLI_FAILED;
	status = cli_data(r->o.cli, buf_str(&json), human.ptr);
	return status == CLI_OK && !ok ? CLI_FAILED : status;
}

int operate_rewrap(struct cli *cli, int argc, char **argv)
{
	struct rewrap *r;
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2)
		return cli_usage_error(cli, "vault rewrap takes no arguments: it wraps by "
					    "TOLLGATE_MASTER_KEY what another one wraps");
	r = calloc(1, sizeof *r);
	if (!r)
		abort();
	operate_bad_begin(&r->bad);
	rc = operate_open(&r->o, cli, &err);
	if (rc == RC_OK)
		rc = operate_current(&r->o, &err);
	if (rc == RC_OK)
		rc = rewrap_all(r, &err);
	status = rc == RC_OK ? rewrap_print(r) : cli_error(cli, cli_status(rc, 0), &err);
	buf_clear(&r->bad.text);
	operate_close(&r->o);
	free(r);
	return status;
}

/* ---- forget ------------------------------------------------------------------------------------------- */

struct shown {
	struct buf text;
	enum rc rc;
};

static void forget_on_rows(void *arg, const struct pg_result *res)
{
	struct shown *s = arg;

	if (res->rc == RC_OK)
		s->rc = buf_append(&s->text, pg_str(res->rows[0], 0, 0));
}

static enum rc forget_one(struct operate *o, const char *kek, struct shown *s, struct err *err)
{
	struct pg_batch *b;

	if (kek_is_held(&o->ring, str_from(kek), KEYRING_VER)) {
		err_set(err, RC_CONFLICT, "master_key_in_use",
			"master key %s is configured here: it still exists", kek);
		err_hint(err, "destroy every copy of it first, this one too");
		return RC_CONFLICT;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_vault_kek_forget);
	pg_param_z(b, kek);
	pg_param_z(b, OPERATE_ACTOR);
	pg_param_z(b, OPERATE_REQ);
	TRY(cli_db_run(o->db, b, forget_on_rows, s, err));
	return s->rc;
}

int operate_forget(struct cli *cli, int argc, char **argv)
{
	struct shown s = {.text = BUF_INIT(4096)};
	struct operate o;
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 3 || strlen(argv[2]) != KEYRING_ID_SIZE - 1)
		return cli_usage_error(cli,
				       "vault forget needs the id of a master key of which no "
				       "copy exists any more: tollgate vault status lists them");
	rc = operate_open(&o, cli, &err);
	if (rc == RC_OK)
		rc = forget_one(&o, argv[2], &s, &err);
	status = rc == RC_OK ? cli_data(cli, buf_str(&s.text), NULL)
			     : cli_error(cli, cli_status(rc, 0), &err);
	buf_clear(&s.text);
	operate_close(&o);
	return status;
}
