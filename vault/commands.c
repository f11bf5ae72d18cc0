/* vault/commands.c - orgs, keys and the audit log from a terminal (through the admin API), and on the
 * database the proof of the audit log. `tollgate vault` is told here and done in operate.c. */
#include <stdio.h>
#include <stdlib.h>

#include "server/cli.h"
#include "server/pg.h"
#include "sql/queries.h"
#include "vault/operate_priv.h"
#include "vault/vault_priv.h"

#define COMMAND_BODY_MAX (64u * 1024)
#define CURSOR_LETTERS	 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

/* What may stand in a path as it is: an id or a slug. */
static bool path_part_ok(const char *s)
{
	return s && *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s) &&
	       strlen(s) <= 63;
}

static struct str org_path(struct cli *cli, const char *org, const char *tail)
{
	return arena_printf(cli->mem, "/admin/v1/orgs/%s%s", org, tail);
}

/* ---- org ----------------------------------------------------------------------------------------- */

static int org_create(struct cli *cli, int argc, char **argv)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *slug = cli_flag(&argc, argv, "--slug");
	const char *name = cli_flag(&argc, argv, "--name");
	const char *tier = cli_flag(&argc, argv, "--tier");
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!slug || argc != 2)
		return cli_usage_error(cli, "org create needs --slug SLUG");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "slug", slug);
	json_put_z(&o, "name", name ? name : slug);
	if (tier)
		json_put_z(&o, "tier", tier);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "the values are too long");
	return cli_api_print(cli, "POST", STR("/admin/v1/orgs"), buf_str(&body));
}

/* Every --set NAME=VALUE: a number, null, or else a word. */
static bool put_settings(struct json_out *o, int *argc, char **argv)
{
	const char *given = cli_flag(argc, argv, "--set");
	int64_t n;

	if (!given)
		return true;
	json_obj(o, "settings");
	for (; given; given = cli_flag(argc, argv, "--set")) {
		const char *value = strchr(given, '=');
		char name[64];

		if (!value || value == given || (size_t)(value - given) >= sizeof name)
			return false;
		snprintf(name, sizeof name, "%.*s", (int)(value - given), given);
		value++;
		if (str_to_i64(str_from(value), &n) == RC_OK)
			json_put_int(o, name, n);
		else
			json_put_z(o, name, strcmp(value, "null") == 0 ? NULL : value);
	}
	json_obj_end(o);
	return true;
}

static int org_change(struct cli *cli, int argc, char **argv)
{
	static const char *const flags[] = {"--name", "--tier", "--status"};
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *value;
	struct json_out o;
	bool settings;

	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if ((value = cli_flag(&argc, argv, flags[i])))
			json_put_z(&o, flags[i] + 2, value);
	settings = put_settings(&o, &argc, argv);
	json_obj_end(&o);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 3 || !path_part_ok(argv[2]) || !settings || json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "org change needs ORG and one of --name, --tier, "
					    "--status, --set NAME=VALUE");
	return cli_api_print(cli, "PATCH", org_path(cli, argv[2], ""), buf_str(&body));
}

static int org_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "create") == 0)
		return org_create(cli, argc, argv);
	if (strcmp(verb, "change") == 0)
		return org_change(cli, argc, argv);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 2)
		return cli_api_print(cli, "GET", STR("/admin/v1/orgs?limit=200"), STR(""));
	if (strcmp(verb, "show") == 0 && argc == 3 && path_part_ok(argv[2]))
		return cli_api_print(cli, "GET", org_path(cli, argv[2], ""), STR(""));
	return cli_usage_error(cli,
			       "usage: tollgate org create --slug SLUG [--name NAME] [--tier TIER] "
			       "| list | show ORG | change ORG [--name NAME] [--tier TIER] "
			       "[--status active|suspended] [--set NAME=VALUE]...");
}

/* ---- key ----------------------------------------------------------------------------------------- */

static void put_words(struct json_out *o, const char *name, const char *comma_list)
{
	struct str rest = str_from(comma_list);

	if (!comma_list)
		return;
	json_arr(o, name);
	while (rest.ptr)
		json_put_str(o, NULL, str_trim(str_cut(&rest, ',')));
	json_arr_end(o);
}

static bool put_number(struct json_out *o, const char *name, const char *text)
{
	int64_t n;

	if (!text)
		return true;
	if (str_to_i64(str_from(text), &n) != RC_OK)
		return false;
	json_put_int(o, name, n);
	return true;
}

static int key_create(struct cli *cli, int argc, char **argv, const char *org)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *name = cli_flag(&argc, argv, "--name");
	const char *role = cli_flag(&argc, argv, "--role");
	const char *scopes = cli_flag(&argc, argv, "--scopes");
	const char *models = cli_flag(&argc, argv, "--models");
	const char *rpm = cli_flag(&argc, argv, "--rpm");
	const char *tpm = cli_flag(&argc, argv, "--tpm");
	const char *expires = cli_flag(&argc, argv, "--expires-at");
	const char *member = cli_flag(&argc, argv, "--member");
	const char *from = cli_flag(&argc, argv, "--allow-from");
	const char *providers = cli_flag(&argc, argv, "--providers");
	const char *billing = cli_flag(&argc, argv, "--billing");
	bool numbers;
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!name || argc != 2)
		return cli_usage_error(cli, "key create needs --org ORG --name NAME");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "name", name);
	if (role)
		json_put_z(&o, "role", role);
	put_words(&o, "scopes", scopes);
	put_words(&o, "models", models);
	json_obj(&o, "limits");
	numbers = put_number(&o, "rpm", rpm) && put_number(&o, "tpm", tpm);
	json_obj_end(&o);
	if (expires)
		json_put_z(&o, "expires_at", expires);
	if (member)
		json_put_z(&o, "member", member);
	put_words(&o, "allow_from", from);
	put_words(&o, "providers", providers);
	put_words(&o, "billing", billing);
	json_obj_end(&o);
	if (!numbers || json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "--rpm and --tpm are whole numbers");
	return cli_api_print(cli, "POST", org_path(cli, org, "/api-keys"), buf_str(&body));
}

static int key_rotate(struct cli *cli, int argc, char **argv, const char *org)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	const char *overlap = cli_flag(&argc, argv, "--overlap-seconds");
	bool number;
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 3 || !path_part_ok(argv[2]))
		return cli_usage_error(cli, "key rotate needs --org ORG and the ID of a key");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	number = put_number(&o, "overlap_seconds", overlap);
	json_obj_end(&o);
	if (!number || json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "--overlap-seconds is a whole number");
	return cli_api_print(
		cli, "POST",
		arena_printf(cli->mem, "/admin/v1/orgs/%s/api-keys/%s/rotate", org, argv[2]),
		buf_str(&body));
}

static int key_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *org = cli_flag(&argc, argv, "--org");
	struct str path;

	if (argc > 1 && !path_part_ok(org))
		return cli_usage_error(cli, "--org is an org's id or slug");
	if (strcmp(verb, "create") == 0)
		return key_create(cli, argc, argv, org);
	if (strcmp(verb, "rotate") == 0)
		return key_rotate(cli, argc, argv, org);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 2)
		return cli_api_print(cli, "GET", org_path(cli, org, "/api-keys?limit=200"),
				     STR(""));
	if ((strcmp(verb, "show") == 0 || strcmp(verb, "revoke") == 0) && argc == 3 &&
	    path_part_ok(argv[2])) {
		path = arena_printf(cli->mem, "/admin/v1/orgs/%s/api-keys/%s", org, argv[2]);
		return cli_api_print(cli, *verb == 's' ? "GET" : "DELETE", path, STR(""));
	}
	return cli_usage_error(cli,
			       "usage: tollgate key create --org ORG --name NAME [--role ROLE] "
			       "[--scopes S,S] [--models M,M] [--rpm N] [--tpm N] [--expires-at T] "
			       "[--member ID] [--allow-from CIDR,CIDR] [--providers P,P] "
			       "[--billing B,B] | list --org ORG | show | revoke --org ORG ID "
			       "| rotate --org ORG ID [--overlap-seconds N]");
}

/* ---- member -------------------------------------------------------------------------------------- */

static int member_send(struct cli *cli, const char *method, struct str path, const char *email,
		       const char *role)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	struct json_out o;

	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	if (email)
		json_put_z(&o, "email", email);
	json_put_z(&o, "role", role);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		return cli_usage_error(cli, "the values are too long");
	return cli_api_print(cli, method, path, buf_str(&body));
}

static int member_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *org = cli_flag(&argc, argv, "--org");
	const char *email = cli_flag(&argc, argv, "--email");
	const char *role = cli_flag(&argc, argv, "--role");
	const bool invites = strcmp(verb, "invite") == 0;
	struct str path;

	if (argc > 1 && !path_part_ok(org))
		return cli_usage_error(cli, "--org is an org's id or slug");
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	path = org_path(cli, org, "/members");
	if (invites && argc == 2 && email && role)
		return member_send(cli, "POST", path, email, role);
	if (!email && !role && strcmp(verb, "list") == 0 && argc == 2)
		return cli_api_print(cli, "GET", org_path(cli, org, "/members?limit=200"), STR(""));
	if (email || role || argc < 3 || !path_part_ok(argv[2]))
		goto usage;
	path = arena_printf(cli->mem, "/admin/v1/orgs/%s/members/%s", org, argv[2]);
	if (strcmp(verb, "role") == 0 && argc == 4)
		return member_send(cli, "PATCH", path, NULL, argv[3]);
	if (strcmp(verb, "show") == 0 && argc == 3)
		return cli_api_print(cli, "GET", path, STR(""));
	if (strcmp(verb, "remove") == 0 && argc == 3)
		return cli_api_print(cli, "DELETE", path, STR(""));
usage:
	return cli_usage_error(cli,
			       "usage: tollgate member invite --org ORG --email EMAIL --role ROLE "
			       "| list --org ORG | show | remove --org ORG ID "
			       "| role --org ORG ID ROLE");
}

/* ---- vault --------------------------------------------------------------------------------------- */

static int vault_run(struct cli *cli, int argc, char **argv)
{
	static const struct {
		const char *verb;
		int (*run)(struct cli *cli, int argc, char **argv);
	} verbs[] = {{"status", operate_status},
		     {"rotate", operate_rotate},
		     {"rewrap", operate_rewrap},
		     {"gate", operate_gate},
		     {"forget", operate_forget}};
	const char *verb = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verb, verbs[i].verb) == 0)
			return verbs[i].run(cli, argc, argv);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	return cli_usage_error(cli, "usage: tollgate vault " OPERATE_USAGE);
}

/* ---- audit --------------------------------------------------------------------------------------- */

static int audit_print_list(struct cli *cli, int argc, char **argv, const char *org)
{
	const char *action = cli_flag(&argc, argv, "--action");
	const char *cursor = cli_flag(&argc, argv, "--cursor");
	struct str path;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2 || !org)
		return cli_usage_error(cli, "audit list needs --org ORG");
	if (action && !audit_action_ok(str_from(action)))
		return cli_usage_error(cli,
				       "--action is the beginning of an action's name: profile.");
	if (cursor && (!*cursor || strlen(cursor) != strspn(cursor, CURSOR_LETTERS)))
		return cli_usage_error(cli, "--cursor is what the page before named");
	path = arena_printf(cli->mem, "/admin/v1/orgs/%s/audit?limit=200%s%s%s%s", org,
			    action ? "&action=" : "", action ? action : "",
			    cursor ? "&cursor=" : "", cursor ? cursor : "");
	return cli_api_print(cli, "GET", path, STR(""));
}

struct verify { /* of vault_audit_verify, while it is printed */
	struct buf json, human;
	int64_t rows, orgs, bad;
	bool answered;
	enum rc rc;
};

static void verify_bad(struct verify *v, struct json_out *o, const struct pg_rows *rows, size_t i)
{
	/* An org whose own row is gone has no slug. */
	const struct str org = pg_str(rows, i, pg_is_null(rows, i, 3) ? 4 : 3);

	json_obj(o, NULL);
	json_put_str(o, "org", pg_str(rows, i, 3));
	json_put_str(o, "org_id", pg_str(rows, i, 4));
	json_put_int(o, "seq", pg_int(rows, i, 5));
	json_put_str(o, "what", pg_str(rows, i, 6));
	json_obj_end(o);
	if (v->rc == RC_OK)
		v->rc = buf_printf(&v->human, "BAD %.*s: seq %lld: %.*s\n", STR_FMT(org),
				   (long long)pg_int(rows, i, 5), STR_FMT(pg_str(rows, i, 6)));
}

static void verify_on_rows(void *arg, const struct pg_result *res)
{
	const struct pg_rows *rows;
	struct verify *v = arg;
	struct json_out o;

	if (res->rc != RC_OK)
		return; /* cli_pg() tells */
	rows = res->rows[res->statements - 1];
	if (pg_row_count(rows) == 0)
		return;
	v->answered = true;
	v->orgs = pg_int(rows, 0, 0);
	v->rows = pg_int(rows, 0, 1);
	v->bad = pg_int(rows, 0, 2);
	json_out_begin(&o, &v->json);
	json_obj(&o, NULL);
	json_put_int(&o, "rows", v->rows);
	json_put_int(&o, "orgs", v->orgs);
	json_put_int(&o, "bad_orgs", v->bad);
	json_arr(&o, "bad");
	for (size_t i = 0; v->bad > 0 && i < pg_row_count(rows); i++)
		verify_bad(v, &o, rows, i);
	json_arr_end(&o);
	json_put_bool(&o, "ok", v->bad == 0);
	json_obj_end(&o);
	if (v->rc == RC_OK)
		v->rc = json_out_end(&o);
}

static int verify_print(struct cli *cli, struct verify *v)
{
	struct err err = {0};
	int status;

	if (v->rc == RC_OK && v->answered)
		v->rc = buf_printf(&v->human, "audit verify: %s (%lld rows, %lld orgs)\n",
				   v->bad == 0 ? "ok" : "failed", (long long)v->rows,
				   (long long)v->orgs);
	if (v->rc != RC_OK || !v->answered) {
		(void)err_set(&err, RC_CORRUPT, "no_answer", "the audit log gave no answer");
		return cli_error(cli, CLI_FAILED, &err);
	}
	status = cli_data(cli, buf_str(&v->json), v->human.ptr);
	return status == CLI_OK && v->bad > 0 ? CLI_FAILED : status;
}

static int audit_verify(struct cli *cli, int argc, char **argv, const char *org)
{
	struct verify v = {.json = BUF_INIT(COMMAND_BODY_MAX), .human = BUF_INIT(COMMAND_BODY_MAX)};
	struct pg_batch *b;
	struct err err = {0};
	enum rc rc;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2)
		return cli_usage_error(cli,
				       "audit verify takes --org ORG, or nothing for all orgs");
	b = pg_batch_new();
	if (org)
		pg_batch_org_ref(b, str_from(org));
	pg_batch_add(b, org ? &sql_vault_audit_verify : &sql_vault_audit_verify_all);
	rc = cli_pg(cli, b, verify_on_rows, &v, &err);
	if (rc == RC_OK)
		status = verify_print(cli, &v);
	else
		status = cli_error(cli, cli_status(rc, 0), &err);
	buf_clear(&v.json);
	buf_clear(&v.human);
	return status;
}

static int audit_run(struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *org = cli_flag(&argc, argv, "--org");

	if (org && !path_part_ok(org))
		return cli_usage_error(cli, "--org is an org's id or slug");
	if (strcmp(verb, "verify") == 0)
		return audit_verify(cli, argc, argv, org);
	if (strcmp(verb, "list") == 0)
		return audit_print_list(cli, argc, argv, org);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	return cli_usage_error(cli, "usage: tollgate audit verify [--org ORG] "
				    "| list --org ORG [--action BEGINNING] [--cursor CURSOR]");
}

const struct command vault_commands[] = {
	{"org",
	 "create --slug SLUG [--name NAME] [--tier TIER] | list | show ORG | change ORG [--name N] "
	 "[--tier T] [--status S] [--set NAME=VALUE]...",
	 "tenants, through the admin API", org_run},
	{"key",
	 "create --org ORG --name NAME [--role R] [--scopes S,S] [--models M,M] [--rpm N] [--tpm N] "
	 "[--expires-at T] [--member ID] [--allow-from CIDR,CIDR] [--providers P,P] [--billing B,B] "
	 "| list --org ORG | show | revoke --org ORG ID "
	 "| rotate --org ORG ID [--overlap-seconds N]",
	 "API keys of an org, through the admin API", key_run},
	{"member",
	 "invite --org ORG --email EMAIL --role ROLE | list --org ORG | show | remove --org ORG ID "
	 "| role --org ORG ID ROLE",
	 "people of an org and their roles, through the admin API", member_run},
	{"vault", OPERATE_USAGE,
	 "master keys and data keys: what there is, change them under load, resume what was cut off",
	 vault_run},
	{"audit", "verify [--org ORG] | list --org ORG [--action BEGINNING] [--cursor CURSOR]",
	 "prove the audit log's hash chains on the database; read it through the admin API",
	 audit_run},
	{NULL, NULL, NULL, NULL}};
