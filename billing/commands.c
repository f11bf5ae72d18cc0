/* billing/commands.c - credits from a terminal (through the admin API), and finance's check of the
 * ledger (on the database; needs no running service). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "billing/billing_priv.h"
#include "server/base/json.h"
#include "server/cli.h"
#include "sql/queries.h"

#define COMMAND_BODY_MAX (64u << 10)

/* What may stand in a path as it is: an id or a slug. */
static bool org_ok(const char *s)
{
	return s && *s && strlen(s) <= 63 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

/* --- credit -------------------------------------------------------------------------------------- */

static int credit_grant(struct cli *cli, int argc, char **argv, bool top_up)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *org = cli_flag(&argc, argv, "--org");
	const char *amount = cli_flag(&argc, argv, "--amount");
	const char *category = cli_flag(&argc, argv, "--category");
	const char *expires_at = cli_flag(&argc, argv, "--expires-at");
	const char *reason = cli_flag(&argc, argv, "--reason");
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!org_ok(org) || !amount || !reason || argc != 2 || (top_up && (category || expires_at)))
		return cli_usage_error(cli,
				       top_up ? "credit top-up needs --org ORG --amount CREDITS "
						"--reason WORDS, and takes nothing else"
					      : "credit grant needs --org ORG --amount CREDITS "
						"--reason WORDS");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "amount", amount);
	json_put_z(&o, "reason", reason);
	if (category)
		json_put_z(&o, "category", category);
	if (expires_at)
		json_put_z(&o, "expires_at", expires_at);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "the values are too long");
	return cli_api_print(cli, "POST",
			     arena_printf(cli->mem, "/admin/v1/orgs/%s/credits/%s", org,
					  top_up ? "top-up" : "grants"),
			     buf_str(&body));
}

/* GET of something below the org that --org or the last argument names. */
static int org_get(struct cli *cli, int argc, char **argv, const char *rest)
{
	const char *org = cli_flag(&argc, argv, "--org");

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!org && argc == 3)
		org = argv[2];
	else if (argc != 2)
		org = NULL;
	if (!org_ok(org))
		return cli_usage_error(cli, "this needs --org ORG");
	return cli_api_print(cli, "GET", arena_printf(cli->mem, "/admin/v1/orgs/%s/%s", org, rest),
			     STR(""));
}

static int credit_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "grant") == 0 || strcmp(verb, "top-up") == 0)
		return credit_grant(cli, argc, argv, strcmp(verb, "top-up") == 0);
	if (strcmp(verb, "show") == 0)
		return org_get(cli, argc, argv, "credits");
	if (strcmp(verb, "grants") == 0)
		return org_get(cli, argc, argv, "credits/grants?limit=200");
	if (strcmp(verb, "entries") == 0)
		return org_get(cli, argc, argv, "ledger/entries?limit=200");
	return cli_usage_error(cli,
			       "usage: tollgate credit grant --org ORG --amount CREDITS --reason "
			       "WORDS [--category paid|promo|included] [--expires-at TIME] | "
			       "top-up --org ORG --amount CREDITS --reason WORDS | "
			       "show | grants | entries --org ORG");
}

/* --- usage --------------------------------------------------------------------------------------- */

/* A value that may stand in a query or a path as it is: times, request ids, lists of words, model ids. */
static bool plain_ok(const char *s)
{
	return s && *s && strlen(s) <= 512 && !strstr(s, "..") &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:,/") ==
		       strlen(s);
}

static int usage_sums_get(struct cli *cli, int argc, char **argv)
{
	static const char *const flags[] = {"--from", "--to", "--group-by"};
	static const char *const names[] = {"from", "to", "group_by"};
	AUTO(buf) struct buf query = BUF_INIT(COMMAND_BODY_MAX);

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		const char *value = cli_flag(&argc, argv, flags[i]);

		if (value &&
		    (!plain_ok(value) || buf_printf(&query, "%c%s=%s", query.len ? '&' : '?',
						    names[i], value) != RC_OK))
			return cli_usage_error(cli, "--from and --to are RFC 3339 times in UTC, "
						    "--group-by is a list like day,model");
	}
	return org_get(cli, argc, argv,
		       arena_printf(cli->mem, "usage%.*s", STR_FMT(buf_str(&query))).ptr);
}

static int usage_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *id;

	if (strcmp(verb, "sums") == 0)
		return usage_sums_get(cli, argc, argv);
	if (strcmp(verb, "calls") == 0)
		return org_get(cli, argc, argv, "usage/calls?limit=200");
	if (strcmp(verb, "call") == 0) {
		id = cli_flag(&argc, argv, "--id");
		if (plain_ok(id) && !strchr(id, '/'))
			return org_get(cli, argc, argv,
				       arena_printf(cli->mem, "usage/calls/%s", id).ptr);
	}
	return cli_usage_error(cli,
			       "usage: tollgate usage sums --org ORG [--from TIME] [--to TIME] "
			       "[--group-by day,model,...] | calls --org ORG | "
			       "call --org ORG --id REQUEST_ID");
}

/* --- price --------------------------------------------------------------------------------------- */

static enum rc file_read(const char *path, struct buf *out)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char piece[4096];
	enum rc rc = f ? RC_OK : RC_NOT_FOUND;
	size_t n;

	while (rc == RC_OK && (n = fread(piece, 1, sizeof piece, f)) > 0)
		rc = buf_append(out, str_of(piece, n));
	if (f && f != stdin)
		fclose(f);
	return rc;
}

static int price_run(struct cli *cli, int argc, char **argv)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *verb = argc > 1 ? argv[1] : "";
	const char *file = cli_flag(&argc, argv, "--file");
	const bool put = strcmp(verb, "put") == 0;
	struct str path;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 2 && !file)
		return cli_api_print(cli, "GET", STR("/admin/v1/prices?limit=200"), STR(""));
	if (argc == 4 && (put ? file != NULL : strcmp(verb, "show") == 0 && !file) &&
	    plain_ok(argv[2]) && !strchr(argv[2], '/') && plain_ok(argv[3])) {
		if (put && file_read(file, &body) != RC_OK)
			return cli_usage_error(cli,
					       "the file cannot be read, or is larger than 64 KiB");
		path = arena_printf(cli->mem, "/admin/v1/prices/%s/%s", argv[2], argv[3]);
		return cli_api_print(cli, put ? "PUT" : "GET", path, buf_str(&body));
	}
	return cli_usage_error(cli, "usage: tollgate price list | show PROVIDER MODEL | "
				    "put PROVIDER MODEL --file FILE");
}

/* --- ledger -------------------------------------------------------------------------------------- */

struct verify {
	struct buf human, json;
	bool clean, answered;
	enum rc rc;
};

static void verify_row(struct verify *v, struct json_out *o, const struct pg_rows *rows, size_t i)
{
	bool zero = pg_bool(rows, i, 1), bad = zero && !str_is(pg_str(rows, i, 2), "0");

	json_obj(o, NULL);
	json_put_str(o, "name", pg_str(rows, i, 0));
	json_put_bool(o, "must_be_zero", zero);
	json_put_str(o, "value", pg_str(rows, i, 2));
	json_put_str(o, "what", pg_str(rows, i, 3));
	json_obj_end(o);
	if (bad)
		v->clean = false;
	if (v->rc == RC_OK)
		v->rc = buf_printf(&v->human, "%s %-24.*s %12.*s  %.*s\n",
				   bad	  ? "BAD "
				   : zero ? "ok  "
					  : "    ",
				   STR_FMT(pg_str(rows, i, 0)), STR_FMT(pg_str(rows, i, 2)),
				   STR_FMT(pg_str(rows, i, 3)));
}

static void verify_on_rows(void *arg, const struct pg_result *res)
{
	struct verify *v = arg;
	struct json_out o;

	if (res->rc != RC_OK)
		return; /* cli_pg() tells */
	v->answered = true;
	v->clean = true;
	json_out_begin(&o, &v->json);
	json_obj(&o, NULL);
	json_arr(&o, "checks");
	for (size_t i = 0; i < pg_row_count(res->rows[0]); i++)
		verify_row(v, &o, res->rows[0], i);
	json_arr_end(&o);
	json_put_bool(&o, "ok", v->clean);
	json_obj_end(&o);
	if (v->rc == RC_OK)
		v->rc = json_out_end(&o);
}

static int verify_print(struct cli *cli, struct verify *v)
{
	struct err err = {0};
	int status;

	if (v->rc != RC_OK || !v->answered) {
		err_set(&err, RC_CORRUPT, "no_answer", "the audit gave no answer");
		return cli_error(cli, CLI_FAILED, &err);
	}
	if (v->clean)
		return cli_data(cli, buf_str(&v->json), "ledger verify: ok\n");
	if (buf_append(&v->human, STR("ledger verify: failed\n")) != RC_OK)
		return CLI_FAILED;
	status = cli_data(cli, buf_str(&v->json), v->human.ptr);
	return status == CLI_OK ? CLI_FAILED : status;
}

static int ledger_verify(struct cli *cli, int argc, char **argv)
{
	struct verify v = {.human = BUF_INIT(COMMAND_BODY_MAX), .json = BUF_INIT(COMMAND_BODY_MAX)};
	struct pg_batch *b;
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2)
		return cli_usage_error(cli, "ledger verify takes no arguments");
	b = pg_batch_new();
	pg_batch_add(b, &sql_billing_ledger_audit);
	rc = cli_pg(cli, b, verify_on_rows, &v, &err);
	if (rc == RC_OK)
		status = verify_print(cli, &v);
	else
		status = cli_error(cli, cli_status(rc, 0), &err);
	buf_clear(&v.human);
	buf_clear(&v.json);
	return status;
}

static int ledger_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	struct err err = {0};

	if (strcmp(verb, "verify") == 0)
		return ledger_verify(cli, argc, argv);
	if (strcmp(verb, "export") == 0 || strcmp(verb, "statement") == 0 ||
	    strcmp(verb, "reconcile") == 0) {
		err_set(&err, RC_UNSUPPORTED, "not_supported",
			"this version does not have ledger %s", verb);
		return cli_error(cli, CLI_USAGE, &err);
	}
	return cli_usage_error(cli, "usage: tollgate ledger verify");
}

const struct command billing_commands[] = {
	{"credit",
	 "grant --org ORG --amount CREDITS --reason WORDS [--category C] [--expires-at T] | top-up "
	 "--org ORG --amount CREDITS --reason WORDS | show | grants | entries --org ORG",
	 "an org's credits, its grants and its ledger entries", credit_run},
	{"budget",
	 "create --org ORG --name NAME --limit CREDITS --window day|week|month|total [--key KEY_ID | "
	 "--agent NAME] [--soft] | list --org ORG | show | change | delete --org ORG --id ID",
	 "what an org, its keys and its agents may spend", budget_run},
	{"alert",
	 "create --org ORG --name NAME --budget ID --percent N | --balance CREDITS | list --org ORG | "
	 "show | events | change | delete --org ORG --id ID",
	 "tell when a budget or the balance crosses a threshold", alert_run},
	{"usage",
	 "sums --org ORG [--from T] [--to T] [--group-by day,model,...] | calls --org ORG | call "
	 "--org ORG --id REQUEST_ID",
	 "what an org used, and what one call cost and why", usage_run},
	{"price", "list | show PROVIDER MODEL | put PROVIDER MODEL --file FILE",
	 "the platform's price versions", price_run},
	{"ledger", "verify", "check the whole ledger: balances, holds, grants, postings",
	 ledger_run},
	{NULL, NULL, NULL, NULL},
};
