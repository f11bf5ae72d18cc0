/* vault/status.c - `tollgate vault status`: which master keys there are and who needs them, how far changes
 * are, what was shredded; with --check, whether every stored secret opens.
 *
 * Status 1 when a master key that is needed is not configured here, or a secret does not open. The
 * check tells the database what it found, so that lists of profiles show it. */
#include <stdio.h>
#include <stdlib.h>

#include "sql/queries.h"
#include "vault/operate_priv.h"
#include "vault/secret_priv.h"
#include "vault/vault_priv.h"

#define STATUS_PAGE_BYTES (8u << 20) /* 100 records of at most 16 KiB, and as text */

struct status {
	struct operate o;
	struct json_out json;
	struct buf text, human;
	bool seen[KEYRING_MAX], seen_current;
	bool missing;
	enum rc rc;
	int64_t checked, unreadable;
};

static void say(struct status *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct status *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (s->rc == RC_OK)
		s->rc = buf_vprintf(&s->human, fmt, ap);
	va_end(ap);
}

/* ---- master keys -------------------------------------------------------------------------------------- */

struct line {
	struct str kek_id, since;
	bool configured, current, wraps;
	int64_t deks;
};

static void key_line(struct status *s, const struct line *l)
{
	const bool removable = l->deks == 0 && !l->current && !l->wraps;

	json_obj(&s->json, NULL);
	json_put_str(&s->json, "kek_id", l->kek_id);
	json_put_bool(&s->json, "configured", l->configured);
	json_put_bool(&s->json, "current", l->current);
	json_put_int(&s->json, "data_keys", l->deks);
	json_put_bool(&s->json, "removable", removable);
	json_put_str(&s->json, "since", l->since);
	json_obj_end(&s->json);
	say(s, "%.*s  %s  %lld data keys%s\n", STR_FMT(l->kek_id),
	    l->current	    ? "current       "
	    : l->configured ? "configured    "
			    : "NOT CONFIGURED",
	    (long long)l->deks, removable ? ": needed by nobody, may be removed" : "");
}

static void keys_on_rows(struct status *s, const struct pg_rows *rows)
{
	const struct keyring *ring = &s->o.ring;

	for (size_t i = 0; i < pg_row_count(rows); i++) {
		const struct kek *kek = keyring_find(ring, pg_str(rows, i, 0), pg_int(rows, i, 1));
		const struct line l = {
			.kek_id = pg_str(rows, i, 0),
			.since = pg_str(rows, i, 3),
			.configured = kek_is_held(ring, pg_str(rows, i, 0), pg_int(rows, i, 1)),
			.current = str_is(pg_str(rows, i, 0), s->o.kek_id),
			.wraps = pg_bool(rows, i, 4),
			.deks = pg_int(rows, i, 2)};

		if (kek)
			s->seen[kek - ring->keks] = true;
		s->missing = s->missing || (!l.configured && l.deks > 0);
		s->seen_current = s->seen_current || l.current;
		key_line(s, &l);
	}
	for (size_t i = 0; i < ring->count; i++)
		if (!s->seen[i])
			key_line(s, &(struct line){
					    .kek_id = str_from(ring->keks[i].id),
					    .since = STR_NULL,
					    .configured = true,
					    .current = strcmp(ring->keks[i].id, s->o.kek_id) == 0});
	if (!s->seen_current && kek_is_remote(ring, str_from(s->o.kek_id)))
		key_line(s, &(struct line){.kek_id = str_from(s->o.kek_id),
					   .since = STR_NULL,
					   .configured = true,
					   .current = true});
}

/* ---- the report --------------------------------------------------------------------------------------- */

static void say_each(struct status *s, struct str list, const char *what,
		     const char *const members[3])
{
	struct json *doc;
	struct json_iter it;
	struct json *one;

	if (json_parse(list, JSON_ALLOW_DUPLICATES, s->o.cli->mem, &doc, NULL) != RC_OK)
		return;
	it = json_iter(doc);
	while (json_next(&it, NULL, &one)) {
		say(s, "%s", what);
		for (size_t i = 0; i < 3; i++) {
			AUTO(buf) struct buf v = BUF_INIT(1u << 20);

			if (json_write(json_get(one, members[i]), &v) == RC_OK)
				say(s, "  %s %.*s", members[i], STR_FMT(buf_str(&v)));
		}
		say(s, "\n");
	}
}

static void report_on_rows(void *arg, const struct pg_result *res)
{
	static const char *const names[] = {"nodes", "runs", "orgs", "shreds"};
	static const char *const what[] = {"node", "run", "org", "shred"};
	static const char *const members[][3] = {
		{"name", "current_master_key", "seen_at"},
		{"kind", "done", "finished_at"},
		{"org", "rotation", "data_keys"},
		{"org", "shred_requested_at", "shred_effective_at"}};
	struct status *s = arg;

	if (res->rc != RC_OK)
		return;
	json_arr(&s->json, "master_keys");
	keys_on_rows(s, res->rows[0]);
	json_arr_end(&s->json);
	for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
		json_put_raw(&s->json, names[i], pg_str(res->rows[1], 0, i));
		say_each(s, pg_str(res->rows[1], 0, i), what[i], members[i]);
	}
}

static enum rc status_report(struct status *s, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_master_keys);
	pg_batch_add(b, &sql_vault_report);
	pg_param_int(b, config_int(s->o.cli->config, "vault_backup_days"));
	return cli_db_run(s->o.db, b, report_on_rows, s, err);
}

/* ---- does every secret open? ---------------------------------------------------------------------------- */

struct check {
	struct status *s;
	struct arena *mem;
	struct operate_record page[OPERATE_BATCH];
	size_t count;
	struct operate_keys keys;
	struct operate_bad bad;
};

static void check_on_rows(void *arg, const struct pg_result *res)
{
	struct check *c = arg;
	const struct pg_rows *rows;

	c->count = 0;
	if (res->rc != RC_OK)
		return;
	rows = res->rows[0];
	for (; c->count < pg_row_count(rows) && c->count < OPERATE_BATCH; c->count++) {
		const size_t i = c->count;

		c->page[i] = (struct operate_record){
			.org.u = pg_uuid(rows, i, 0),
			.slug = arena_str(c->mem, pg_str(rows, i, 1)),
			.id = pg_uuid(rows, i, 2),
			.field = arena_strdup(c->mem, pg_str(rows, i, 3)),
			.row_version = pg_int(rows, i, 4),
			.sealed = pg_bytes(rows, i, 5, c->mem),
			.name = arena_str(c->mem, pg_str(rows, i, 6)),
			.unreadable = pg_is_null(rows, i, 7)
					      ? STR_NULL
					      : arena_str(c->mem, pg_str(rows, i, 7)),
		};
	}
}

/* What was found, if the database does not know it yet. Without its master key nothing is known of a record. */
static enum rc check_tell(struct check *c, const struct operate_record *r, const char *code,
			  struct err *err)
{
	struct pg_batch *b;

	if (str_eq(r->unreadable, str_from(code)) && (r->unreadable.ptr != NULL) == (code != NULL))
		return RC_OK;
	b = pg_batch_new();
	pg_batch_org(b, r->org);
	operate_tried(b, r, code);
	return operate_do(&c->s->o, b, err);
}

static enum rc check_one(struct check *c, const struct operate_record *r, struct err *err)
{
	AUTO(secret) struct secret plain = SECRET_INIT;
	const char *code;
	enum rc rc;

	if (!uuid_eq(c->keys.org.u, r->org.u)) {
		operate_keys_clear(&c->keys);
		TRY(operate_keys_load(&c->s->o, r->org, &c->keys, err));
	}
	rc = operate_record_open(&c->keys, r, &plain, &code);
	c->s->checked++;
	if (rc == RC_OK)
		return check_tell(c, r, NULL, err);
	if (rc == RC_NOT_FOUND) {
		operate_bad_add(&c->bad, r->slug, r->name, "master_key_missing",
				"the master key of its data key is not configured here");
		return RC_OK;
	}
	if (rc != RC_CORRUPT)
		return err_set(err, rc, "vault_unavailable", "a secret could not be opened now");
	operate_bad_add(&c->bad, r->slug, r->name, code,
			strcmp(code, "vault_auth") == 0
				? "the stored secret does not open: enter it again"
				: "the stored secret was sealed with a data key that is retired");
	return check_tell(c, r, code, err);
}

static enum rc check_page(struct check *c, const struct operate_record *after, struct err *err)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &sql_vault_secret_page_all);
	pg_param_uuid(b, after->org.u);
	pg_param_uuid(b, after->id);
	pg_param_int(b, OPERATE_BATCH);
	TRY(cli_db_run(c->s->o.db, b, check_on_rows, c, err));
	/* Keys that were read before the page may lack the one that a rotation sealed it with meanwhile. */
	operate_keys_clear(&c->keys);
	c->keys.org = (struct org_id){{{0}}};
	for (size_t i = 0; i < c->count; i++)
		TRY(check_one(c, &c->page[i], err));
	return RC_OK;
}

static enum rc status_check(struct status *s, struct err *err)
{
	struct check *c = calloc(1, sizeof *c);
	struct operate_record after = {.row_version = 0};
	enum rc rc;

	if (!c)
		abort();
	c->s = s;
	operate_bad_begin(&c->bad);
	do {
		c->mem = arena_new(STATUS_PAGE_BYTES);
		rc = check_page(c, &after, err);
		if (c->count > 0)
			after = (struct operate_record){.org = c->page[c->count - 1].org,
							.id = c->page[c->count - 1].id};
		arena_free(c->mem);
	} while (rc == RC_OK && c->count == OPERATE_BATCH);
	s->unreadable = c->bad.count;
	json_obj(&s->json, "check");
	json_put_int(&s->json, "secrets", s->checked);
	json_put_int(&s->json, "unreadable", s->unreadable);
	operate_bad_end(&c->bad, &s->json, "failed");
	json_obj_end(&s->json);
	say(s, "%lld secrets tried, %lld do not open\n", (long long)s->checked,
	    (long long)s->unreadable);
	operate_keys_clear(&c->keys);
	free(c);
	return rc;
}

/* ---- the command ---------------------------------------------------------------------------------------- */

static enum rc status_run(struct status *s, bool check, struct err *err)
{
	json_out_begin(&s->json, &s->text);
	json_obj(&s->json, NULL);
	TRY(status_report(s, err));
	if (check)
		TRY(status_check(s, err));
	json_put_bool(&s->json, "ok", !s->missing && s->unreadable == 0);
	json_obj_end(&s->json);
	TRY(json_out_end(&s->json));
	return s->rc;
}

int operate_status(struct cli *cli, int argc, char **argv)
{
	const bool check = cli_switch(&argc, argv, "--check");
	struct status s = {.text = BUF_INIT(OPERATE_BODY_MAX), .human = BUF_INIT(OPERATE_BODY_MAX)};
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2)
		return cli_usage_error(cli, "usage: tollgate vault status [--check]");
	rc = operate_open(&s.o, cli, &err);
	if (rc == RC_OK)
		rc = status_run(&s, check, &err);
	if (rc != RC_OK)
		status = cli_error(cli, cli_status(rc, 0), &err);
	else
		status = cli_data(cli, buf_str(&s.text), s.human.ptr);
	if (status == CLI_OK && (s.missing || s.unreadable > 0))
		status = CLI_FAILED;
	buf_clear(&s.text);
	buf_clear(&s.human);
	operate_close(&s.o);
	return status;
}
