/* vault/rotate.c - `tollgate vault rotate` and `gate`: an org's data key is changed under load.
 *
 *   pending      made and stored, nobody uses it
 *   active       promoted, once every running node can unwrap it: new secrets are sealed with it
 *   re-sealing   the stored ones follow, 100 at a time, each only if it is still what was read
 *   finished     nothing older is left or can come; what is older opens for the grace time, and is
 *                then destroyed by any running node, or by the next of these commands
 *
 * Each step is a transaction of its own and says in the database where it stands: whoever calls next
 * goes on from there. All orgs go in two passes, so that the time in which nodes hear of a new key
 * is waited for once. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/base/clock.h"
#include "sql/queries.h"
#include "vault/operate_priv.h"
#include "vault/secret_priv.h"
#include "vault/vault_priv.h"

#define ROTATE_PAGE_BYTES (8u << 20) /* 100 records of at most 16 KiB, and as text */
#define ROTATE_TRIES_MAX  30	     /* to meet a moment in which no older record is left */

struct rotate {
	struct operate o;
	int64_t grace_s;
	int64_t rotated, resealed, unreadable;
	struct operate_bad bad;
};

struct rotate_org { /* one org's, while it is worked on */
	struct rotate *r;
	struct org_id org;
	char slug[64];
	uint32_t ver;
	char step[16]; /* "": it has no data key */
	struct operate_keys keys;
	const uint8_t *key; /* of `ver`, in `keys` */
};

struct page {
	struct arena *mem;
	const struct rotate_org *of;
	struct operate_record records[OPERATE_BATCH];
	size_t count;
};

/* ---- pages of records ------------------------------------------------------------------------------- */

static void page_on_rows(void *arg, const struct pg_result *res)
{
	struct page *p = arg;
	const struct pg_rows *rows;

	if (res->rc != RC_OK)
		return;
	rows = res->rows[0];
	for (; p->count < pg_row_count(rows) && p->count < OPERATE_BATCH; p->count++) {
		const size_t i = p->count;

		p->records[i] = (struct operate_record){
			.org = p->of->org,
			.id = pg_uuid(rows, i, 0),
			.field = arena_strdup(p->mem, pg_str(rows, i, 1)),
			.row_version = pg_int(rows, i, 2),
			.sealed = pg_bytes(rows, i, 3, p->mem),
		};
	}
}

static enum rc page_read(struct rotate_org *ro, struct uuid after, struct page *p, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	*p = (struct page){.mem = arena_new(ROTATE_PAGE_BYTES), .of = ro};
	pg_batch_org(b, ro->org);
	pg_batch_add(b, &sql_vault_secret_page_old);
	pg_param_int(b, ro->ver);
	pg_param_uuid(b, after);
	pg_param_int(b, OPERATE_BATCH);
	return cli_db_run(ro->r->o.db, b, page_on_rows, p, err);
}

/* ---- re-sealing ------------------------------------------------------------------------------------- */

struct resealed { /* columns of one statement; in the page's arena */
	struct uuid ids[OPERATE_BATCH];
	int64_t versions[OPERATE_BATCH];
	struct str was[OPERATE_BATCH], sealed[OPERATE_BATCH], prints[OPERATE_BATCH];
	size_t n;
};

static enum rc seal_again(const struct rotate_org *ro, const struct operate_record *rec,
			  const struct secret *plain, struct page *p, struct resealed *to)
{
	const struct secret_ref ref = {rec->org, rec->id, rec->field, rec->row_version};
	AUTO(buf) struct buf box = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	char print[9];

	TRY(envelope_seal(ro->key, ro->ver, &ref, secret_str(plain), &box));
	TRY(envelope_fingerprint(ro->key, secret_str(plain), print));
	to->ids[to->n] = rec->id;
	to->versions[to->n] = rec->row_version;
	to->was[to->n] = rec->sealed;
	to->sealed[to->n] = arena_str(p->mem, buf_str(&box));
	to->prints[to->n++] = arena_str(p->mem, str_from(print));
	return RC_OK;
}

static enum rc missing_key(const struct rotate_org *ro, struct err *err)
{
	const char *kek = "";

	for (size_t i = 0; i < ro->keys.count; i++)
		if (ro->keys.keys[i].missing[0])
			kek = ro->keys.keys[i].missing;
	err_set(err, RC_INVALID, "master_key_missing",
		"a data key of org %s is wrapped by master key %s, which is not configured here",
		ro->slug, kek);
	err_hint(err, "put it into TOLLGATE_MASTER_KEYS_OLD of this command");
	return RC_INVALID;
}

/* A record that does not open stays as it is, is marked, and told of. */
static void reseal_failed(struct rotate_org *ro, const struct operate_record *rec, const char *code,
			  struct pg_batch *b)
{
	char id[UUID_TEXT_SIZE];

	operate_tried(b, rec, code);
	ro->r->unreadable++;
	operate_bad_add(&ro->r->bad, str_from(ro->slug), uuid_format(rec->id, id), code,
			"this stored secret does not open and keeps its old data key");
}

static enum rc reseal_page(struct rotate_org *ro, struct page *p, bool again, struct err *err)
{
	struct resealed *to = ARENA_NEW(p->mem, struct resealed);
	struct pg_batch *b = pg_batch_new();
	enum rc rc = RC_OK;
	int64_t n;

	pg_batch_org(b, ro->org);
	for (size_t i = 0; i < p->count && rc == RC_OK; i++) {
		AUTO(secret) struct secret plain = SECRET_INIT;
		const char *code;

		rc = operate_record_open(&ro->keys, &p->records[i], &plain, &code);
		if (rc == RC_OK)
			rc = seal_again(ro, &p->records[i], &plain, p, to);
		else if (rc == RC_NOT_FOUND)
			rc = missing_key(ro, err);
		else if (rc == RC_CORRUPT && !again)
			reseal_failed(ro, &p->records[i], code, b);
		if (rc == RC_CORRUPT)
			rc = RC_OK;
		else if (rc != RC_OK && !err->code)
			err_set(err, rc, "vault_unavailable", "a secret could not be sealed again");
	}
	if (rc != RC_OK) {
		pg_batch_free(b);
		return rc;
	}
	pg_batch_add(b, &sql_vault_secret_reseal);
	pg_param_int(b, ro->ver);
	pg_param_uuid_array(b, to->ids, to->n);
	pg_param_int_array(b, to->versions, to->n);
	pg_param_bytes_array(b, to->was, to->n);
	pg_param_bytes_array(b, to->sealed, to->n);
	pg_param_str_array(b, to->prints, to->n);
	TRY(operate_number(&ro->r->o, b, &n, err));
	ro->r->resealed += n;
	fprintf(stderr, "%s: %lld secrets sealed with data key %u\n", ro->slug, (long long)n,
		ro->ver);
	return RC_OK;
}

/* All that is older. `again`: what does not open is told of at another time. */
static enum rc reseal_all(struct rotate_org *ro, bool again, struct err *err)
{
	struct uuid after = {{0}};
	struct page *p = calloc(1, sizeof *p);
	enum rc rc = RC_OK;
	size_t count = OPERATE_BATCH;

	if (!p)
		abort();
	while (rc == RC_OK && count == OPERATE_BATCH) {
		rc = page_read(ro, after, p, err);
		count = p->count;
		if (rc == RC_OK && count > 0) {
			after = p->records[count - 1].id;
			rc = reseal_page(ro, p, again, err);
		}
		arena_free(p->mem);
	}
	free(p);
	return rc;
}

/* ---- one org ---------------------------------------------------------------------------------------- */

static void open_on_rows(void *arg, const struct pg_result *res)
{
	struct rotate_org *ro = arg;

	if (res->rc != RC_OK || pg_row_count(res->rows[0]) == 0)
		return;
	ro->ver = (uint32_t)pg_int(res->rows[0], 0, 0);
	snprintf(ro->step, sizeof ro->step, "%.*s", STR_FMT(pg_str(res->rows[0], 0, 1)));
}

static enum rc rotate_open(struct rotate_org *ro, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org(b, ro->org);
	pg_batch_add(b, &sql_vault_rotation_open);
	pg_param_z(b, ro->r->o.kek_id);
	pg_param_int(b, OPERATE_KEYS_LIVE);
	return cli_db_run(ro->r->o.db, b, open_on_rows, ro, err);
}

static enum rc rotate_make(struct rotate_org *ro, struct err *err)
{
	AUTO(secret) struct secret dek = SECRET_INIT;
	AUTO(buf) struct buf wrapped = BUF_INIT(4096);
	struct pg_batch *b;

	TRY(operate_canary(&ro->r->o, err));
	if (secret_random(&dek, ENVELOPE_DEK_BYTES) != RC_OK ||
	    operate_wrap(&ro->r->o, ro->org, ro->ver, dek.ptr, &wrapped) != RC_OK)
		return err_set(err, RC_IO, "vault_unavailable", "no data key can be made now");
	b = pg_batch_new();
	pg_batch_org(b, ro->org);
	pg_batch_add(b, &sql_vault_rotation_pending);
	pg_param_int(b, ro->ver);
	pg_param_z(b, ro->r->o.kek_id);
	pg_param_int(b, ro->r->o.kek_ver);
	pg_param_bytes(b, buf_str(&wrapped));
	return operate_do(&ro->r->o, b, err);
}

static enum rc rotate_promote(struct rotate_org *ro, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org(b, ro->org);
	pg_batch_add(b, &sql_vault_rotation_promote);
	pg_param_int(b, ro->ver);
	pg_param_z(b, OPERATE_ACTOR);
	pg_param_z(b, OPERATE_REQ);
	TRY(operate_do(&ro->r->o, b, err));
	fprintf(stderr, "%s: data key %u is active\n", ro->slug, ro->ver);
	return RC_OK;
}

/* What stands in the database is what counts: another command may have been faster. */
static enum rc rotate_keys(struct rotate_org *ro, struct err *err)
{
	operate_keys_clear(&ro->keys);
	ro->key = NULL;
	TRY(operate_keys_load(&ro->r->o, ro->org, &ro->keys, err));
	for (size_t i = 0; i < ro->keys.count; i++) {
		if (ro->keys.keys[i].missing[0])
			return missing_key(ro, err);
		if (ro->keys.keys[i].ver == ro->ver)
			ro->key = ro->keys.keys[i].key;
	}
	return RC_OK;
}

struct finish {
	int64_t rows_left, wait_ms;
};

static void finish_on_rows(void *arg, const struct pg_result *res)
{
	struct finish *f = arg;

	if (res->rc != RC_OK)
		return;
	f->rows_left = pg_int(res->rows[0], 0, 0);
	f->wait_ms = pg_int(res->rows[0], 0, 1);
}

static enum rc rotate_finish(struct rotate_org *ro, struct err *err)
{
	struct finish f = {.rows_left = 1};

	for (int i = 0; i < ROTATE_TRIES_MAX; i++) {
		struct pg_batch *b = pg_batch_new();

		pg_batch_org(b, ro->org);
		pg_batch_add(b, &sql_vault_rotation_finish);
		pg_param_int(b, ro->ver);
		pg_param_int(b, ro->r->grace_s);
		TRY(cli_db_run(ro->r->o.db, b, finish_on_rows, &f, err));
		if (f.wait_ms > 0)
			nanosleep(&(struct timespec){f.wait_ms / 1000, f.wait_ms % 1000 * 1000000},
				  NULL);
		else if (f.rows_left == 0)
			return RC_OK;
		TRY(reseal_all(ro, true, err));
	}
	return err_set(err, RC_CONFLICT, "rotation_unfinished",
		       "secrets are still being sealed with an older data key: repeat");
}

static enum rc rotate_steps(struct rotate_org *ro, bool finish, struct err *err)
{
	TRY(rotate_open(ro, err));
	if (!ro->step[0])
		return RC_OK;
	TRY(rotate_keys(ro, err)); /* nothing is begun that could not be ended */
	if (strcmp(ro->step, "new") == 0)
		TRY(rotate_make(ro, err));
	if (strcmp(ro->step, "resealing") != 0)
		TRY(rotate_promote(ro, err));
	TRY(rotate_keys(ro, err));
	if (!ro->key)
		return err_set(err, RC_CORRUPT, "vault_auth",
			       "data key %u of org %s does not unwrap: it is damaged", ro->ver,
			       ro->slug);
	TRY(reseal_all(ro, !finish, err)); /* told of in the last pass alone */
	if (finish) {
		TRY(rotate_finish(ro, err));
		ro->r->rotated++;
	}
	return RC_OK;
}

static enum rc rotate_one(struct rotate *r, struct org_id org, const char *slug, bool finish,
			  struct err *err)
{
	struct rotate_org *ro = calloc(1, sizeof *ro);
	enum rc rc;

	if (!ro)
		abort();
	ro->r = r;
	ro->org = org;
	snprintf(ro->slug, sizeof ro->slug, "%s", slug);
	rc = rotate_steps(ro, finish, err);
	if (rc == RC_OK && !ro->step[0] && finish)
		fprintf(stderr, "%s: has no data key, there is nothing to do\n", slug);
	operate_keys_clear(&ro->keys);
	free(ro);
	return rc;
}

/* ---- all orgs ----------------------------------------------------------------------------------------- */

struct orgs { /* one page of them */
	struct org_id ids[OPERATE_BATCH];
	char slugs[OPERATE_BATCH][64];
	size_t count;
};

static void orgs_on_rows(void *arg, const struct pg_result *res)
{
	struct orgs *p = arg;

	p->count = 0;
	if (res->rc != RC_OK)
		return;
	for (; p->count < pg_row_count(res->rows[0]) && p->count < OPERATE_BATCH; p->count++) {
		p->ids[p->count].u = pg_uuid(res->rows[0], p->count, 0);
		snprintf(p->slugs[p->count], sizeof p->slugs[0], "%.*s",
			 STR_FMT(pg_str(res->rows[0], p->count, 1)));
	}
}

struct run {
	char began[64];
	int64_t done;
};

static void run_on_rows(void *arg, const struct pg_result *res)
{
	struct run *run = arg;

	if (res->rc != RC_OK)
		return;
	snprintf(run->began, sizeof run->began, "%.*s", STR_FMT(pg_str(res->rows[0], 0, 0)));
	run->done = pg_int(res->rows[0], 0, 1);
}

static enum rc run_note(struct rotate *r, int64_t more, bool at_end, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_run_note);
	pg_param_z(b, "rotate_all");
	pg_param_int(b, more);
	pg_param_int(b, r->bad.count);
	pg_param_bool(b, at_end);
	return operate_do(&r->o, b, err);
}

/* What stops one org stops the others only where it would stop them too. */
static bool stops_all(enum rc rc, const struct err *err)
{
	return rc == RC_UNAVAILABLE || rc == RC_INVALID || rc == RC_IO ||
	       (err->code && strcmp(err->code, "node_without_key") == 0);
}

static enum rc pass_page(struct rotate *r, const struct orgs *p, bool finish, struct err *err)
{
	for (size_t i = 0; i < p->count; i++) {
		struct err one = {0};
		enum rc rc = rotate_one(r, p->ids[i], p->slugs[i], finish, &one);

		if (rc != RC_OK && stops_all(rc, &one)) {
			*err = one;
			return rc;
		}
		if (rc != RC_OK && finish)
			operate_bad_add(&r->bad, str_from(p->slugs[i]), STR("rotation"), one.code,
					one.message);
		if (finish)
			TRY(run_note(r, rc == RC_OK, false, err));
	}
	return RC_OK;
}

static enum rc pass(struct rotate *r, const struct run *run, bool finish, struct err *err)
{
	struct orgs *p = calloc(1, sizeof *p);
	struct uuid after = {{0}};
	enum rc rc = RC_OK;

	if (!p)
		abort();
	do {
		struct pg_batch *b = pg_batch_new();

		pg_batch_add(b, &sql_vault_orgs_to_rotate);
		pg_param_z(b, run->began);
		pg_param_uuid(b, after);
		pg_param_int(b, OPERATE_BATCH);
		rc = cli_db_run(r->o.db, b, orgs_on_rows, p, err);
		if (rc == RC_OK && p->count > 0) {
			after = p->ids[p->count - 1].u;
			rc = pass_page(r, p, finish, err);
		}
	} while (rc == RC_OK && p->count == OPERATE_BATCH);
	free(p);
	return rc;
}

static enum rc rotate_all(struct rotate *r, struct err *err)
{
	struct run run = {.began = ""};
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_run_begin);
	pg_param_z(b, "rotate_all");
	pg_param_z(b, "");
	TRY(cli_db_run(r->o.db, b, run_on_rows, &run, err));
	if (run.done > 0)
		fprintf(stderr, "going on with the rotation begun at %s: %lld orgs are done\n",
			run.began, (long long)run.done);
	TRY(pass(r, &run, false, err));
	TRY(pass(r, &run, true, err));
	return run_note(r, 0, true, err);
}

/* ---- the command ---------------------------------------------------------------------------------------- */

static enum rc sweep(struct operate *o, struct err *err)
{
	int64_t n = OPERATE_BATCH;

	while (n == OPERATE_BATCH) {
		struct pg_batch *b = pg_batch_new();

		pg_batch_add(b, &sql_vault_dek_sweep);
		pg_param_int(b, OPERATE_BATCH);
		TRY(operate_number(o, b, &n, err));
	}
	return RC_OK;
}

static enum rc rotate_named(struct rotate *r, const char *ref, struct err *err)
{
	struct orgs *p = calloc(1, sizeof *p);
	struct pg_batch *b = pg_batch_new();
	enum rc rc;

	if (!p)
		abort();
	pg_batch_org_ref(b, str_from(ref));
	pg_batch_add(b, &sql_vault_org_resolve);
	rc = cli_db_run(r->o.db, b, orgs_on_rows, p, err);
	if (rc == RC_OK && p->count == 0)
		rc = err_set(err, RC_NOT_FOUND, "org_not_found", "no such org");
	if (rc == RC_OK)
		rc = rotate_one(r, p->ids[0], p->slugs[0], true, err);
	free(p);
	return rc;
}

static int rotate_print(struct rotate *r)
{
	AUTO(buf) struct buf json = BUF_INIT(OPERATE_BODY_MAX);
	AUTO(buf) struct buf human = BUF_INIT(1024);
	const bool ok = r->bad.count == 0;
	struct json_out o;
	int status;

	json_out_begin(&o, &json);
	json_obj(&o, NULL);
	json_put_int(&o, "rotated", r->rotated);
	json_put_int(&o, "resealed", r->resealed);
	json_put_int(&o, "unreadable", r->unreadable);
	json_put_int(&o, "grace_seconds", r->grace_s);
	operate_bad_end(&r->bad, &o, "failed");
	json_put_bool(&o, "ok", ok);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK ||
	    buf_printf(&human,
		       "%lld orgs rotated, %lld secrets sealed again, %lld failures; earlier data "
		       "keys are destroyed in %lld s\n",
		       (long long)r->rotated, (long long)r->resealed, (long long)r->bad.count,
		       (long long)r->grace_s) != RC_OK)
		return CLI_FAILED;
	status = cli_data(r->o.cli, buf_str(&json), human.ptr);
	return status == CLI_OK && !ok ? CLI_FAILED : status;
}

static int rotate_run(struct cli *cli, const char *org, int64_t grace_s)
{
	struct rotate r = {.grace_s = grace_s};
	struct err err = {0};
	int status;
	enum rc rc = operate_open(&r.o, cli, &err);

	operate_bad_begin(&r.bad);
	if (rc == RC_OK && grace_s < 0)
		r.grace_s = config_int(cli->config, "vault_grace_seconds");
	if (rc == RC_OK)
		rc = operate_current(&r.o, &err);
	if (rc == RC_OK)
		rc = sweep(&r.o, &err);
	if (rc == RC_OK)
		rc = org ? rotate_named(&r, org, &err) : rotate_all(&r, &err);
	if (rc == RC_OK && r.grace_s == 0)
		rc = sweep(&r.o, &err);
	status = rc == RC_OK ? rotate_print(&r) : cli_error(cli, cli_status(rc, 0), &err);
	buf_clear(&r.bad.text);
	operate_close(&r.o);
	return status;
}

int operate_rotate(struct cli *cli, int argc, char **argv)
{
	const char *org = cli_flag(&argc, argv, "--org");
	const char *grace = cli_flag(&argc, argv, "--grace-seconds");
	const bool all = cli_switch(&argc, argv, "--all");
	int64_t grace_s = -1;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2 || all == (org != NULL))
		return cli_usage_error(cli, "vault rotate needs --org ORG, or --all");
	if (grace &&
	    (str_to_i64(str_from(grace), &grace_s) != RC_OK || grace_s < 0 || grace_s > 2592000))
		return cli_usage_error(cli, "--grace-seconds is a whole number of seconds, at most "
					    "2592000 (30 days)");
	return rotate_run(cli, org, grace_s);
}

/* ---- gate ------------------------------------------------------------------------------------------------ */

struct shown {
	struct buf text;
	enum rc rc;
};

static void gate_on_rows(void *arg, const struct pg_result *res)
{
	struct shown *s = arg;

	if (res->rc == RC_OK)
		s->rc = buf_append(&s->text, pg_str(res->rows[0], 0, 0));
}

static void gate_param(struct pg_batch *b, const char *text, int64_t n)
{
	if (text)
		pg_param_int(b, n);
	else
		pg_param_null(b);
}

int operate_gate(struct cli *cli, int argc, char **argv)
{
	const char *org = cli_flag(&argc, argv, "--org");
	const char *encrypt = cli_flag(&argc, argv, "--min-encrypt");
	const char *decrypt = cli_flag(&argc, argv, "--min-decrypt");
	struct shown s = {.text = BUF_INIT(4096)};
	int64_t least[2] = {0};
	struct pg_batch *b;
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2 || !org || (!encrypt && !decrypt) ||
	    (encrypt && str_to_i64(str_from(encrypt), &least[0]) != RC_OK) ||
	    (decrypt && str_to_i64(str_from(decrypt), &least[1]) != RC_OK))
		return cli_usage_error(cli,
				       "vault gate needs --org ORG and --min-encrypt or "
				       "--min-decrypt with the number of a data key's version");
	b = pg_batch_new();
	pg_batch_org_ref(b, str_from(org));
	pg_batch_add(b, &sql_vault_gate_set);
	gate_param(b, encrypt, least[0]);
	gate_param(b, decrypt, least[1]);
	pg_param_z(b, OPERATE_ACTOR);
	pg_param_z(b, OPERATE_REQ);
	rc = cli_pg(cli, b, gate_on_rows, &s, &err);
	if (rc != RC_OK || s.rc != RC_OK)
		status = cli_error(cli, cli_status(rc != RC_OK ? rc : s.rc, 0), &err);
	else
		status = cli_data(cli, buf_str(&s.text), NULL);
	buf_clear(&s.text);
	return status;
}
