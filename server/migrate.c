/* server/migrate.c - `tollgate migrate up | down [N] | status`.
 *
 * Each migration is one transaction together with its row in tollgate.migration, so there is no
 * half-applied one. The first makes the roles and runs as the login; the later ones run as
 * tollgate_owner. Blocking libpq: this is a command, never called from a loop. It must never go on
 * when what was applied is not what this binary carries. */
#include "server/migrate.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/buf.h"
#include "server/cli.h"
#include "server/pg.h"
#include "sql/queries.h"

#define MIGRATE_CONNECT_SECONDS "10"
#define MIGRATE_OUTPUT_MAX	((size_t)1 << 20)

struct applied {
	int64_t version;
	const char *name, *sha256, *at; /* in `list` */
};
struct migrate {
	struct cli *cli;
	PGconn *pq;
	PGresult *list;
	struct applied *applied; /* ascending */
	size_t applied_count;
	struct buf data, human;
};

static const struct command usage = {.name = "migrate",
				     .usage = "up | down [N] | status",
				     .help = "schema migrations, embedded and checksummed",
				     .run = migrate_command};

static void first_line(const char *words, char out[256])
{
	snprintf(out, 256, "%.*s", (int)strcspn(words, "\n"), words);
}

/* --- the database ------------------------------------------------------------------------- */
static void drop_notice(void *arg, const char *message)
{
}

static enum rc connect_to(struct migrate *m, const char *url, struct err *err)
{
	const char *keys[] = {"connect_timeout", "application_name", "options", "dbname", NULL};
	const char *values[] = {MIGRATE_CONNECT_SECONDS, "tollgate migrate",
				"-c client_min_messages=warning -c TimeZone=UTC", url, NULL};
	PQconninfoOption *parsed = PQconninfoParse(url, NULL);
	char words[256];

	/* What is no connection string libpq would take for a database's name, and say it aloud. */
	if (!parsed)
		return err_set(err, RC_INVALID, "invalid_setting",
			       "TOLLGATE_DATABASE_URL is not a valid connection string");
	PQconninfoFree(parsed);
	/* The string's own values win: it comes last. */
	m->pq = PQconnectdbParams(keys, values, 1);
	if (PQstatus(m->pq) == CONNECTION_OK) {
		PQsetNoticeProcessor(m->pq, drop_notice, NULL);
		return RC_OK;
	}
	first_line(PQerrorMessage(m->pq), words);
	err_set(err, RC_UNAVAILABLE, "database_unreachable", "%s", words);
	err_hint(err, "is Postgres running, and does TOLLGATE_DATABASE_URL name it?");
	return RC_UNAVAILABLE;
}

/* The words of the database in `err`; takes `res`. */
static enum rc checked(struct migrate *m, PGresult *res, struct err *err)
{
	ExecStatusType status = PQresultStatus(res);
	const char *said = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *where = PQresultErrorField(res, PG_DIAG_CONTEXT);
	char words[256];
	enum rc rc = RC_OK;

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		rc = PQstatus(m->pq) == CONNECTION_BAD ? RC_UNAVAILABLE : RC_CONFLICT;
		first_line(said ? said : PQerrorMessage(m->pq), words);
		err_set(err, rc, rc == RC_UNAVAILABLE ? "database_unreachable" : "migration_failed",
			"%s", words);
		if (where)
			err_detail(err, "%s", where);
	}
	PQclear(res);
	return rc;
}

static enum rc run_text(struct migrate *m, const char *text, struct err *err)
{
	return checked(m, PQexec(m->pq, text), err);
}

static enum rc run(struct migrate *m, const struct sql_query *q, struct err *err)
{
	return run_text(m, q->text, err);
}

static enum rc run_params(struct migrate *m, const struct sql_query *q, const char *const *values,
			  struct err *err)
{
	return checked(m, PQexecParams(m->pq, q->text, q->params, NULL, values, NULL, NULL, 0),
		       err);
}

static enum rc has_table(struct migrate *m, bool *ret, struct err *err)
{
	PGresult *res = PQexec(m->pq, sql_server_migrate_exists.text);

	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return checked(m, res, err);
	*ret = PQgetvalue(res, 0, 0)[0] == 't';
	PQclear(res);
	return RC_OK;
}

/* Read what is applied, as the role that may see it. */
static enum rc load_applied(struct migrate *m, struct err *err)
{
	bool there = false;

	TRY(has_table(m, &there, err));
	if (!there)
		return RC_OK;
	TRY(run(m, &sql_server_begin, err));
	TRY(run(m, &sql_server_migrate_owner, err));
	m->list = PQexec(m->pq, sql_server_migrate_list.text);
	if (PQresultStatus(m->list) != PGRES_TUPLES_OK) {
		PGresult *res = m->list;

		m->list = NULL;
		return checked(m, res, err);
	}
	TRY(run(m, &sql_server_commit, err));
	m->applied_count = (size_t)PQntuples(m->list);
	m->applied = calloc(m->applied_count + 1, sizeof *m->applied);
	if (!m->applied)
		abort();
	for (size_t i = 0; i < m->applied_count; i++) {
		m->applied[i] = (struct applied){.name = PQgetvalue(m->list, (int)i, 1),
						 .sha256 = PQgetvalue(m->list, (int)i, 2),
						 .at = PQgetvalue(m->list, (int)i, 3)};
		TRY(str_to_i64(str_from(PQgetvalue(m->list, (int)i, 0)), &m->applied[i].version));
	}
	return RC_OK;
}

/* --- what is applied against what we carry --------------------------------------------------- */
static const struct sql_migration *ours(int64_t version)
{
	for (size_t i = 0; i < sql_migrations_count; i++)
		if (sql_migrations[i].version == version)
			return &sql_migrations[i];
	return NULL;
}

static const struct applied *applied_as(const struct migrate *m, int64_t version)
{
	for (size_t i = 0; i < m->applied_count; i++)
		if (m->applied[i].version == version)
			return &m->applied[i];
	return NULL;
}

static const char *state_of(const struct applied *a, const struct sql_migration *s)
{
	if (!a)
		return "pending";
	if (!s)
		return "unknown";
	return strcmp(a->sha256, s->sha256) == 0 ? "applied" : "changed";
}

/* Refuse to build on a schema that is not the one this binary knows. */
static enum rc check_applied(const struct migrate *m, struct err *err)
{
	for (size_t i = 0; i < m->applied_count; i++) {
		const struct applied *a = &m->applied[i];
		const struct sql_migration *s = ours(a->version);

		if (!s) {
			err_set(err, RC_CONFLICT, "migration_unknown",
				"the database has migration %04lld_%s, which this binary does not know",
				(long long)a->version, a->name);
			err_hint(err, "use the binary that applied it, or a newer one");
			return RC_CONFLICT;
		}
		if (strcmp(a->sha256, s->sha256) != 0) {
			err_set(err, RC_CONFLICT, "migration_changed",
				"migration %04d_%s was applied with another text than this "
				"binary's",
				s->version, s->name);
			err_hint(err, "an applied migration is never edited: add a new one");
			return RC_CONFLICT;
		}
	}
	return RC_OK;
}

/* --- one migration ---------------------------------------------------------------------------- */
static enum rc begin(struct migrate *m, const struct sql_migration *s, struct err *err)
{
	TRY(run(m, &sql_server_begin, err));
	if (s->version == 1)
		return RC_OK;
	TRY(run(m, &sql_server_migrate_owner, err));
	return run(m, &sql_server_migrate_path, err);
}

static enum rc apply(struct migrate *m, const struct sql_migration *s, struct err *err)
{
	char version[16];
	const char *row[] = {version, s->name, s->sha256};

	snprintf(version, sizeof version, "%d", s->version);
	TRY(begin(m, s, err));
	TRY(run_text(m, s->up, err));
	TRY(run_params(m, &sql_server_migrate_record, row, err));
	return run(m, &sql_server_commit, err);
}

static enum rc undo(struct migrate *m, const struct sql_migration *s, struct err *err)
{
	char version[16];
	const char *row[] = {version};

	snprintf(version, sizeof version, "%d", s->version);
	if (!s->down)
		return err_set(err, RC_CONFLICT, "migration_failed", "there is no way back");
	TRY(begin(m, s, err));
	TRY(run_text(m, s->down, err));
	if (s->version > 1) /* the first takes the table with it */
		TRY(run_params(m, &sql_server_migrate_forget, row, err));
	return run(m, &sql_server_commit, err);
}

/* Put the migration's name before the database's words, and leave no transaction open. */
static enum rc named_failure(struct migrate *m, const struct sql_migration *s, struct err *err,
			     enum rc rc)
{
	struct err said = *err;

	PQclear(PQexec(m->pq, sql_server_rollback.text));
	err_set(err, rc, said.code, "migration %04d_%s: %s", s->version, s->name, said.message);
	err_detail(err, "%s", said.detail);
	if (rc != RC_UNAVAILABLE)
		err_hint(err, "nothing of it was applied: it is one transaction");
	return rc;
}

/* --- the three commands ----------------------------------------------------------------------- */
static enum rc note_done(struct migrate *m, struct json_out *o, const struct sql_migration *s,
			 const char *what)
{
	json_obj(o, NULL);
	json_put_int(o, "version", s->version);
	json_put_z(o, "name", s->name);
	json_obj_end(o);
	return buf_printf(&m->human, "%s %04d_%s\n", what, s->version, s->name);
}

static enum rc up(struct migrate *m, struct err *err)
{
	struct json_out o;
	enum rc rc;

	TRY(check_applied(m, err));
	json_out_begin(&o, &m->data);
	json_obj(&o, NULL);
	json_arr(&o, "applied");
	for (size_t i = 0; i < sql_migrations_count; i++) {
		const struct sql_migration *s = &sql_migrations[i];

		if (applied_as(m, s->version))
			continue;
		rc = apply(m, s, err);
		if (rc != RC_OK)
			return named_failure(m, s, err, rc);
		TRY(note_done(m, &o, s, "applied"));
	}
	json_arr_end(&o);
	json_put_int(&o, "version", sql_migrations[sql_migrations_count - 1].version);
	json_obj_end(&o);
	TRY(buf_printf(&m->human, "the schema is at version %d\n",
		       sql_migrations[sql_migrations_count - 1].version));
	return json_out_end(&o);
}

static enum rc down(struct migrate *m, int64_t count, struct err *err)
{
	struct json_out o;
	size_t left = m->applied_count;
	enum rc rc;

	TRY(check_applied(m, err));
	json_out_begin(&o, &m->data);
	json_obj(&o, NULL);
	json_arr(&o, "undone");
	for (; left > 0 && count > 0; count--) {
		const struct sql_migration *s = ours(m->applied[--left].version);

		rc = undo(m, s, err);
		if (rc != RC_OK)
			return named_failure(m, s, err, rc);
		TRY(note_done(m, &o, s, "undone"));
	}
	json_arr_end(&o);
	json_put_int(&o, "version", left > 0 ? m->applied[left - 1].version : 0);
	json_obj_end(&o);
	TRY(buf_printf(&m->human, "the schema is at version %lld\n",
		       left > 0 ? (long long)m->applied[left - 1].version : 0LL));
	return json_out_end(&o);
}

static enum rc status_row(struct migrate *m, struct json_out *o, int64_t version, bool *sound)
{
	const struct applied *a = applied_as(m, version);
	const struct sql_migration *s = ours(version);
	const char *name = s ? s->name : a ? a->name : "";
	const char *state = state_of(a, s);

	if (strcmp(state, "changed") == 0 || strcmp(state, "unknown") == 0)
		*sound = false;
	json_obj(o, NULL);
	json_put_int(o, "version", version);
	json_put_z(o, "name", name);
	json_put_z(o, "state", state);
	json_put_z(o, "applied_at", a ? a->at : NULL);
	json_obj_end(o);
	return buf_printf(&m->human, "%04lld_%-24s %-8s %s\n", (long long)version, name, state,
			  a ? a->at : "");
}

static enum rc status(struct migrate *m, bool *sound)
{
	struct json_out o;

	json_out_begin(&o, &m->data);
	json_obj(&o, NULL);
	json_put_int(&o, "version",
		     m->applied_count ? m->applied[m->applied_count - 1].version : 0);
	json_put_int(&o, "known", sql_migrations[sql_migrations_count - 1].version);
	json_arr(&o, "migrations");
	for (size_t i = 0; i < sql_migrations_count; i++)
		TRY(status_row(m, &o, sql_migrations[i].version, sound));
	for (size_t i = 0; i < m->applied_count; i++)
		if (!ours(m->applied[i].version))
			TRY(status_row(m, &o, m->applied[i].version, sound));
	json_arr_end(&o);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* --- the frame -------------------------------------------------------------------------------- */
enum verb { VERB_NONE, VERB_UP, VERB_DOWN, VERB_STATUS };

static enum verb verb_of(int argc, char **argv, int64_t *count)
{
	const char *verb = argc > 1 ? argv[1] : "";

	*count = 1;
	if (strcmp(verb, "up") == 0 && argc == 2)
		return VERB_UP;
	if (strcmp(verb, "status") == 0 && argc == 2)
		return VERB_STATUS;
	if (strcmp(verb, "down") != 0 || argc > 3)
		return VERB_NONE;
	if (argc == 3 && (str_to_i64(str_from(argv[2]), count) != RC_OK || *count < 1))
		return VERB_NONE;
	return VERB_DOWN;
}

static enum rc run_verb(struct migrate *m, enum verb verb, int64_t count, bool *sound,
			struct err *err)
{
	const char *url = config_str(m->cli->config, "database_url");

	if (!url)
		return err_set(err, RC_INVALID, "missing_setting",
			       "TOLLGATE_DATABASE_URL is not set");
	TRY(connect_to(m, url, err));
	if (verb != VERB_STATUS)
		TRY(run(m, &sql_server_migrate_lock, err));
	TRY(load_applied(m, err));
	switch (verb) {
	case VERB_UP:
		return up(m, err);
	case VERB_DOWN:
		return down(m, count, err);
	default:
		return status(m, sound);
	}
}

int migrate_command(struct cli *cli, int argc, char **argv)
{
	struct migrate m = {.cli = cli,
			    .data = BUF_INIT(MIGRATE_OUTPUT_MAX),
			    .human = BUF_INIT(MIGRATE_OUTPUT_MAX)};
	struct err err = {0};
	bool sound = true;
	int64_t count;
	enum verb verb;
	enum rc rc;
	int ret;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	verb = verb_of(argc, argv, &count);
	if (verb == VERB_NONE)
		return cli_usage(cli, &usage);
	rc = cli_config(cli, &err);
	if (rc != RC_OK)
		return cli_error(cli, CLI_USAGE, &err);
	rc = run_verb(&m, verb, count, &sound, &err);
	if (rc == RC_OK)
		ret = cli_data(cli, buf_str(&m.data), m.human.ptr);
	else
		ret = cli_error(cli, cli_status(rc, 0), &err);
	if (rc == RC_OK && !sound)
		ret = CLI_FAILED;
	PQclear(m.list);
	PQfinish(m.pq);
	free(m.applied);
	buf_clear(&m.data);
	buf_clear(&m.human);
	return ret;
}
