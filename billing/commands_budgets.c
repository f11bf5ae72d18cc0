/* billing/commands_budgets.c - budgets and alerts from a terminal, through the admin API. */
#include <stdlib.h>
#include <string.h>

#include "billing/billing_priv.h"
#include "server/base/json.h"
#include "server/cli.h"

#define COMMAND_BODY_MAX (64u << 10)

/* What may stand in a path as it is: an org's id or slug, or any other id. */
static bool word_ok(const char *s)
{
	return s && *s && strlen(s) <= 63 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

struct args { /* flags in the order they are asked for; NULL: not given */
	const char *org, *id, *name, *status;
};

static struct args common_args(int *argc, char **argv)
{
	return (struct args){.org = cli_flag(argc, argv, "--org"),
			     .id = cli_flag(argc, argv, "--id"),
			     .name = cli_flag(argc, argv, "--name"),
			     .status = cli_flag(argc, argv, "--status")};
}

static void put_opt(struct json_out *o, const char *field, const char *value)
{
	if (value)
		json_put_z(o, field, value);
}

static int ask(struct cli *cli, const char *method, struct str path, struct json_out *o,
	       struct buf *body)
{
	json_obj_end(o);
	if (json_out_end(o) != RC_OK)
		return cli_usage_error(cli, "the values are too long");
	return cli_api_print(cli, method, path, buf_str(body));
}

/* list, show, delete and whatever else has no body: the rest of the path behind the id in `more`. */
static int plain(struct cli *cli, const char *method, const char *what, const struct args *a,
		 bool of_one, const char *more)
{
	struct str path;

	if (!word_ok(a->org) || (of_one ? !word_ok(a->id) : a->id != NULL) || a->name || a->status)
		return cli_usage_error(cli, of_one ? "this needs --org ORG --id ID and nothing else"
						   : "this needs --org ORG and nothing else");
	if (of_one)
		path = arena_printf(cli->mem, "/admin/v1/orgs/%s/%s/%s%s", a->org, what, a->id,
				    more);
	else
		path = arena_printf(cli->mem, "/admin/v1/orgs/%s/%s%s", a->org, what, more);
	return cli_api_print(cli, method, path, STR(""));
}

/* --- budget -------------------------------------------------------------------------------------- */

struct budget_args {
	const char *limit, *window, *key, *agent;
	bool soft, hard;
};

static int budget_create(struct cli *cli, const struct args *a, const struct budget_args *q)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	struct json_out o;

	if (!word_ok(a->org) || !a->name || !q->limit || !q->window || a->id || a->status ||
	    (q->key && q->agent) || (q->soft && q->hard))
		return cli_usage_error(cli,
				       "budget create needs --org ORG --name NAME --limit CREDITS "
				       "--window day|week|month|total, and takes --key KEY_ID or "
				       "--agent NAME, and --soft");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "name", a->name);
	json_put_z(&o, "scope", q->key ? "key" : q->agent ? "agent" : "org");
	put_opt(&o, "subject", q->key ? q->key : q->agent);
	json_put_z(&o, "limit", q->limit);
	json_put_z(&o, "window", q->window);
	json_put_bool(&o, "hard", !q->soft);
	return ask(cli, "POST", arena_printf(cli->mem, "/admin/v1/orgs/%s/budgets", a->org), &o,
		   &body);
}

static int budget_change(struct cli *cli, const struct args *a, const struct budget_args *q)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	struct json_out o;

	if (!word_ok(a->org) || !word_ok(a->id) || q->window || q->key || q->agent ||
	    (q->soft && q->hard))
		return cli_usage_error(cli, "budget change needs --org ORG --id ID, and takes "
					    "--name, --limit, --status, --hard or --soft");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	put_opt(&o, "name", a->name);
	put_opt(&o, "limit", q->limit);
	put_opt(&o, "status", a->status);
	if (q->soft || q->hard)
		json_put_bool(&o, "hard", q->hard);
	return ask(cli, "PATCH",
		   arena_printf(cli->mem, "/admin/v1/orgs/%s/budgets/%s", a->org, a->id), &o,
		   &body);
}

int budget_run(struct cli *cli, int argc, char **argv)
{
	struct args a = common_args(&argc, argv);
	struct budget_args q = {.limit = cli_flag(&argc, argv, "--limit"),
				.window = cli_flag(&argc, argv, "--window"),
				.key = cli_flag(&argc, argv, "--key"),
				.agent = cli_flag(&argc, argv, "--agent"),
				.soft = cli_switch(&argc, argv, "--soft"),
				.hard = cli_switch(&argc, argv, "--hard")};
	const bool bare = !q.limit && !q.window && !q.key && !q.agent && !q.soft && !q.hard;
	const char *verb = argc == 2 ? argv[1] : "";

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "create") == 0)
		return budget_create(cli, &a, &q);
	if (strcmp(verb, "change") == 0)
		return budget_change(cli, &a, &q);
	if (bare && strcmp(verb, "list") == 0)
		return plain(cli, "GET", "budgets", &a, false, "?limit=200");
	if (bare && strcmp(verb, "show") == 0)
		return plain(cli, "GET", "budgets", &a, true, "");
	if (bare && strcmp(verb, "delete") == 0)
		return plain(cli, "DELETE", "budgets", &a, true, "");
	return cli_usage_error(
		cli,
		"usage: tollgate budget create --org ORG --name NAME --limit CREDITS --window "
		"day|week|month|total [--key KEY_ID | --agent NAME] [--soft] | list --org ORG | show "
		"--org ORG --id ID | change --org ORG --id ID [--name NAME] [--limit CREDITS] "
		"[--status active|disabled] [--hard | --soft] | delete --org ORG --id ID");
}

/* --- alert --------------------------------------------------------------------------------------- */

struct alert_args {
	const char *budget, *percent, *threshold, *balance;
};

/* Digits go out as the number they are; anything else as text, which the service refuses by name. */
static void put_percent(struct json_out *o, const char *percent)
{
	int64_t n;

	if (percent && str_to_i64(str_from(percent), &n) == RC_OK)
		json_put_int(o, "threshold_percent", n);
	else
		put_opt(o, "threshold_percent", percent);
}

static int alert_create(struct cli *cli, const struct args *a, const struct alert_args *q)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	struct json_out o;

	if (!word_ok(a->org) || !a->name || a->id || a->status || !q->budget == !q->balance ||
	    (q->balance && (q->percent || q->threshold)))
		return cli_usage_error(
			cli, "alert create needs --org ORG --name NAME and either --budget ID with "
			     "--percent N or --threshold CREDITS, or --balance CREDITS");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "name", a->name);
	json_put_z(&o, "metric", q->budget ? "budget" : "balance");
	put_opt(&o, "budget", q->budget);
	put_percent(&o, q->percent);
	put_opt(&o, "threshold", q->balance ? q->balance : q->threshold);
	return ask(cli, "POST", arena_printf(cli->mem, "/admin/v1/orgs/%s/alerts", a->org), &o,
		   &body);
}

static int alert_change(struct cli *cli, const struct args *a, const struct alert_args *q)
{
	AUTO(buf) struct buf body = BUF_INIT(COMMAND_BODY_MAX);
	struct json_out o;

	if (!word_ok(a->org) || !word_ok(a->id) || q->budget || q->balance)
		return cli_usage_error(cli, "alert change needs --org ORG --id ID, and takes "
					    "--name, --percent or --threshold, and --status");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	put_opt(&o, "name", a->name);
	put_percent(&o, q->percent);
	put_opt(&o, "threshold", q->threshold);
	put_opt(&o, "status", a->status);
	return ask(cli, "PATCH",
		   arena_printf(cli->mem, "/admin/v1/orgs/%s/alerts/%s", a->org, a->id), &o, &body);
}

int alert_run(struct cli *cli, int argc, char **argv)
{
	struct args a = common_args(&argc, argv);
	struct alert_args q = {.budget = cli_flag(&argc, argv, "--budget"),
			       .percent = cli_flag(&argc, argv, "--percent"),
			       .threshold = cli_flag(&argc, argv, "--threshold"),
			       .balance = cli_flag(&argc, argv, "--balance")};
	const bool bare = !q.budget && !q.percent && !q.threshold && !q.balance;
	const char *verb = argc == 2 ? argv[1] : "";

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "create") == 0)
		return alert_create(cli, &a, &q);
	if (strcmp(verb, "change") == 0)
		return alert_change(cli, &a, &q);
	if (bare && strcmp(verb, "list") == 0)
		return plain(cli, "GET", "alerts", &a, false, "?limit=200");
	if (bare && strcmp(verb, "show") == 0)
		return plain(cli, "GET", "alerts", &a, true, "");
	if (bare && strcmp(verb, "events") == 0)
		return plain(cli, "GET", "alerts", &a, true, "/events?limit=200");
	if (bare && strcmp(verb, "delete") == 0)
		return plain(cli, "DELETE", "alerts", &a, true, "");
	return cli_usage_error(
		cli,
		"usage: tollgate alert create --org ORG --name NAME (--budget ID (--percent N | "
		"--threshold CREDITS) | --balance CREDITS) | list --org ORG | show | events | "
		"delete --org ORG --id ID | change --org ORG --id ID [--name NAME] [--percent N "
		"| --threshold CREDITS] [--status active|disabled]");
}
