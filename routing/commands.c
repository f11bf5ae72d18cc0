/* routing/commands.c - the admin API of this room from a terminal. Each builds one request and prints the answer. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "routing/routing_priv.h"
#include "server/cli.h"

#define FILE_BYTES_MAX (1u << 20)

/* What stands in a path: everything but unreserved characters is percent-encoded. */
static struct str encoded(struct cli *cli, const char *text)
{
	AUTO(buf) struct buf out = BUF_INIT(4096);

	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		const bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
				   (*c >= '0' && *c <= '9') || strchr("-._~/:", *c);

		if ((plain ? buf_append_char(&out, (char)*c) : buf_printf(&out, "%%%02X", *c)) !=
		    RC_OK)
			return STR("");
	}
	return arena_str(cli->mem, buf_str(&out));
}

static struct str org_path(struct cli *cli, const char *org, const char *rest, const char *name)
{
	struct str o = encoded(cli, org), n = name ? encoded(cli, name) : STR("");

	return arena_printf(cli->mem, "/admin/v1/orgs/%.*s/%s%s%.*s", STR_FMT(o), rest,
			    name ? "/" : "", STR_FMT(n));
}

struct str routing_org_path(struct cli *cli, const char *org, const char *rest, const char *name)
{
	return org_path(cli, org, rest, name);
}

static void put_list(struct json_out *o, const char *key, const char *comma_list)
{
	struct str rest = str_from(comma_list);

	json_arr(o, key);
	while (rest.ptr)
		json_put_str(o, NULL, str_trim(str_cut(&rest, ',')));
	json_arr_end(o);
}

static int api_send(struct cli *cli, const char *method, struct str path, struct json_out *o,
		    struct buf *body)
{
	int status = CLI_FAILED;

	if (json_out_end(o) == RC_OK)
		status = cli_api_print(cli, method, path, buf_str(body));
	explicit_bzero(body->ptr, body->cap);
	return status;
}

static bool put_secret(struct cli *cli, struct json_out *o, const char *file, int *status)
{
	AUTO(buf) struct buf secret = BUF_INIT(65536);
	struct err e = {0};

	if (cli_secret(file, &secret, &e) != RC_OK) {
		*status = cli_error(cli, CLI_USAGE, &e);
		return false;
	}
	json_put_str(o, "secret", buf_str(&secret));
	explicit_bzero(secret.ptr, secret.cap);
	return true;
}

static int profile_create(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *name = cli_flag(&argc, argv, "--name"),
		   *provider = cli_flag(&argc, argv, "--provider");
	const char *base_url = cli_flag(&argc, argv, "--base-url"),
		   *billing = cli_flag(&argc, argv, "--billing-source");
	const char *models = cli_flag(&argc, argv, "--models"),
		   *priority = cli_flag(&argc, argv, "--priority");
	const char *secret_file = cli_flag(&argc, argv, "--secret-file");
	const bool no_secret = cli_switch(&argc, argv, "--no-secret"),
		   no_validate = cli_switch(&argc, argv, "--no-validate");
	const bool is_default = cli_switch(&argc, argv, "--default");
	AUTO(buf) struct buf body = BUF_INIT(FILE_BYTES_MAX);
	struct json_out o;
	int64_t n = 0;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!name || !provider)
		return cli_usage_error(
			cli,
			"profile create needs --name and --provider; the secret comes from --secret-file FILE, - or a prompt");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "name", name);
	json_put_z(&o, "provider", provider);
	if (base_url)
		json_put_z(&o, "base_url", base_url);
	if (billing)
		json_put_z(&o, "billing_source", billing);
	if (models)
		put_list(&o, "models", models);
	if (priority && str_to_i64(str_from(priority), &n) != RC_OK)
		return cli_usage_error(cli, "--priority is no number");
	if (priority)
		json_put_int(&o, "priority", n);
	if (is_default)
		json_put_bool(&o, "default", true);
	if (no_validate)
		json_put_bool(&o, "validate", false);
	if (!no_secret && !put_secret(cli, &o, secret_file, &status))
		return status;
	json_obj_end(&o);
	return api_send(cli, "POST", org_path(cli, org, "profiles", NULL), &o, &body);
}

static int profile_rotate(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *secret_file = cli_flag(&argc, argv, "--secret-file");
	const bool validate = cli_switch(&argc, argv, "--validate");
	AUTO(buf) struct buf body = BUF_INIT(FILE_BYTES_MAX);
	struct json_out o;
	int status;

	if (cli_leftover_flags(cli, argc, argv) || argc != 2)
		return cli_usage_error(
			cli, "profile rotate --org O PROFILE [--secret-file FILE] [--validate]");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	if (validate)
		json_put_bool(&o, "validate", true);
	if (!put_secret(cli, &o, secret_file, &status))
		return status;
	json_obj_end(&o);
	return api_send(cli, "POST",
			arena_printf(cli->mem, "%.*s/rotate",
				     STR_FMT(org_path(cli, org, "profiles", argv[1]))),
			&o, &body);
}

static int profile_change(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *name = cli_flag(&argc, argv, "--name"),
		   *base_url = cli_flag(&argc, argv, "--base-url");
	const char *models = cli_flag(&argc, argv, "--models"),
		   *priority = cli_flag(&argc, argv, "--priority");
	const char *state = cli_flag(&argc, argv, "--status");
	AUTO(buf) struct buf body = BUF_INIT(FILE_BYTES_MAX);
	struct json_out o;
	int64_t n = 0;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2 || !(name || base_url || models || priority || state))
		return cli_usage_error(
			cli,
			"profile change --org O PROFILE [--name N] [--base-url URL] [--models LIST] [--priority N] [--status active|disabled]");
	if (priority && str_to_i64(str_from(priority), &n) != RC_OK)
		return cli_usage_error(cli, "--priority is no number");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	if (name)
		json_put_z(&o, "name", name);
	if (base_url)
		json_put_z(&o, "base_url", base_url);
	if (models)
		put_list(&o, "models", models);
	if (priority)
		json_put_int(&o, "priority", n);
	if (state)
		json_put_z(&o, "status", state);
	json_obj_end(&o);
	return api_send(cli, "PATCH", org_path(cli, org, "profiles", argv[1]), &o, &body);
}

/* Exit status 1 when the connection is bad: the answer says why. */
static int profile_test(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *action = cli_flag(&argc, argv, "--action"),
		   *model = cli_flag(&argc, argv, "--model");
	AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX), body = BUF_INIT(4096);
	struct json *data = NULL;
	struct json_out o;
	struct err e = {0};
	struct str path;
	bool ok = false;
	int status = 0, shown;
	enum rc rc;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 2)
		return cli_usage_error(
			cli,
			"profile test --org O PROFILE [--action test_auth|list_models|test_text|test_voice|list_voices] [--model M]");
	path = arena_printf(cli->mem, "%.*s/test",
			    STR_FMT(org_path(cli, org, "profiles", argv[1])));
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "action", action ? action : "test_auth");
	if (model)
		json_put_z(&o, "model", model);
	json_obj_end(&o);
	rc = json_out_end(&o);
	if (rc == RC_OK)
		rc = cli_api(cli, "POST", path, buf_str(&body), &data, &status, &e);
	if (rc == RC_OK)
		rc = json_write(data, &text);
	if (rc != RC_OK)
		return cli_error(cli, cli_status(rc, status), &e);
	(void)json_bool(json_get(data, "ok"), &ok);
	shown = cli_data(cli, buf_str(&text), NULL);
	return shown == CLI_OK && !ok ? CLI_FAILED : shown;
}

static int profile(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *verb = argv[0];

	if (strcmp(verb, "create") == 0)
		return profile_create(cli, org, argc, argv);
	if (strcmp(verb, "rotate") == 0)
		return profile_rotate(cli, org, argc, argv);
	if (strcmp(verb, "change") == 0)
		return profile_change(cli, org, argc, argv);
	if (strcmp(verb, "test") == 0)
		return profile_test(cli, org, argc, argv);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 1)
		return cli_api_print(cli, "GET", org_path(cli, org, "profiles", NULL), STR(""));
	if (strcmp(verb, "show") == 0 && argc == 2)
		return cli_api_print(cli, "GET", org_path(cli, org, "profiles", argv[1]), STR(""));
	if (strcmp(verb, "default") == 0 && argc == 2)
		return cli_api_print(cli, "PUT",
				     arena_printf(cli->mem, "%.*s/default",
						  STR_FMT(org_path(cli, org, "profiles", argv[1]))),
				     STR(""));
	if (strcmp(verb, "revoke") == 0 && argc == 2)
		return cli_api_print(cli, "DELETE", org_path(cli, org, "profiles", argv[1]),
				     STR(""));
	return cli_usage_error(
		cli,
		"profile create | list | show | change | test | rotate | default | revoke  --org O [PROFILE]");
}

static bool read_file(const char *file, struct buf *out)
{
	FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	char chunk[4096];
	bool ok = f != NULL;
	size_t n;

	while (ok && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
		ok = buf_append(out, str_of(chunk, n)) == RC_OK;
	if (f && f != stdin)
		fclose(f);
	return ok;
}

static int route(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *verb = argv[0];
	AUTO(buf) struct buf body = BUF_INIT(FILE_BYTES_MAX);
	const char *file = cli_flag(&argc, argv, "--file");

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 1)
		return cli_api_print(cli, "GET", org_path(cli, org, "routes", NULL), STR(""));
	if (strcmp(verb, "show") == 0 && argc == 2)
		return cli_api_print(cli, "GET", org_path(cli, org, "routes", argv[1]), STR(""));
	if (strcmp(verb, "delete") == 0 && argc == 2)
		return cli_api_print(cli, "DELETE", org_path(cli, org, "routes", argv[1]), STR(""));
	if (strcmp(verb, "put") == 0 && argc == 2) {
		if (!read_file(file ? file : "-", &body))
			return cli_usage_error(
				cli, "route put: the file cannot be read, or is larger than 1 MiB");
		return cli_api_print(cli, "PUT", org_path(cli, org, "routes", argv[1]),
				     buf_str(&body));
	}
	return cli_usage_error(
		cli, "route put NAME --file FILE | list | show NAME | delete NAME  --org O");
}

static int agent_put(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *model_id = cli_flag(&argc, argv, "--default-model"),
		   *description = cli_flag(&argc, argv, "--description"),
		   *status = cli_flag(&argc, argv, "--status");
	AUTO(buf) struct buf body = BUF_INIT(65536);
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv) || argc != 2)
		return cli_usage_error(
			cli,
			"agent put NAME [--default-model M] [--description D] [--status active|disabled] --org O");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "default_model", model_id);
	json_put_z(&o, "description", description);
	if (status)
		json_put_z(&o, "status", status);
	json_obj_end(&o);
	return api_send(cli, "PUT", org_path(cli, org, "agents", argv[1]), &o, &body);
}

static int agent(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *verb = argv[0];

	if (strcmp(verb, "put") == 0)
		return agent_put(cli, org, argc, argv);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 1)
		return cli_api_print(cli, "GET", org_path(cli, org, "agents", NULL), STR(""));
	if (strcmp(verb, "show") == 0 && argc == 2)
		return cli_api_print(cli, "GET", org_path(cli, org, "agents", argv[1]), STR(""));
	if (strcmp(verb, "delete") == 0 && argc == 2)
		return cli_api_print(cli, "DELETE", org_path(cli, org, "agents", argv[1]), STR(""));
	return cli_usage_error(cli, "agent put NAME | list | show NAME | delete NAME  --org O");
}

static int model_put(struct cli *cli, int argc, char **argv)
{
	const char *caps = cli_flag(&argc, argv, "--capabilities");
	const char *window = cli_flag(&argc, argv, "--context-window"),
		   *output = cli_flag(&argc, argv, "--max-output");
	AUTO(buf) struct buf body = BUF_INIT(65536);
	int64_t window_n = 0, output_n = 0;
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc != 3 || !caps || (window && str_to_i64(str_from(window), &window_n) != RC_OK) ||
	    (output && str_to_i64(str_from(output), &output_n) != RC_OK))
		return cli_usage_error(
			cli,
			"model put PROVIDER MODEL --capabilities text,tools [--context-window N] [--max-output N]");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	put_list(&o, "capabilities", caps);
	if (window)
		json_put_int(&o, "context_window", window_n);
	if (output)
		json_put_int(&o, "max_output", output_n);
	json_obj_end(&o);
	return api_send(cli, "PUT",
			arena_printf(cli->mem, "/admin/v1/models/%.*s/%.*s",
				     STR_FMT(encoded(cli, argv[1])),
				     STR_FMT(encoded(cli, argv[2]))),
			&o, &body);
}

static int model(struct cli *cli, int argc, char **argv)
{
	const char *verb = argv[0];

	if (strcmp(verb, "put") == 0)
		return model_put(cli, argc, argv);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (strcmp(verb, "list") == 0 && argc == 1)
		return cli_api_print(cli, "GET", STR("/admin/v1/models?limit=200"), STR(""));
	if (strcmp(verb, "show") == 0 && argc == 3)
		return cli_api_print(cli, "GET",
				     arena_printf(cli->mem, "/admin/v1/models/%.*s/%.*s",
						  STR_FMT(encoded(cli, argv[1])),
						  STR_FMT(encoded(cli, argv[2]))),
				     STR(""));
	return cli_usage_error(
		cli, "model list | show PROVIDER MODEL | put PROVIDER MODEL --capabilities ...");
}

static int explain(struct cli *cli, const char *org, int argc, char **argv)
{
	const char *model_id = cli_flag(&argc, argv, "--model"),
		   *agent = cli_flag(&argc, argv, "--agent");
	const char *intent = cli_flag(&argc, argv, "--intent"),
		   *needs = cli_flag(&argc, argv, "--needs");
	const char *operation = cli_flag(&argc, argv, "--operation");
	AUTO(buf) struct buf body = BUF_INIT(65536);
	struct json_out o;

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (!model_id || argc != 1)
		return cli_usage_error(
			cli,
			"explain --org O --model M [--agent A] [--intent I] [--needs vision,tools] "
			"[--operation chat|embeddings|speech|transcription|count_tokens]");
	json_out_begin(&o, &body);
	json_obj(&o, NULL);
	json_put_z(&o, "model", model_id);
	if (agent)
		json_put_z(&o, "agent", agent);
	if (intent)
		json_put_z(&o, "intent", intent);
	if (needs)
		put_list(&o, "needs", needs);
	if (operation)
		json_put_z(&o, "operation", operation);
	json_obj_end(&o);
	return api_send(cli, "POST", org_path(cli, org, "routes/explain", NULL), &o, &body);
}

int routing_command(struct cli *cli, int argc, char **argv)
{
	const char *noun = argv[0];
	const char *org = cli_flag(&argc, argv, "--org");

	if (strcmp(noun, "model") != 0 && !org)
		return cli_usage_error(cli, "--org is missing: an org's id or slug");
	if (strcmp(noun, "explain") == 0)
		return explain(cli, org, argc, argv);
	if (argc < 2)
		return cli_usage_error(cli, "what to do is missing: see --help");
	argc--; /* from here on argv[0] is the verb */
	argv++;
	if (strcmp(noun, "profile") == 0)
		return profile(cli, org, argc, argv);
	if (strcmp(noun, "route") == 0)
		return route(cli, org, argc, argv);
	if (strcmp(noun, "agent") == 0)
		return agent(cli, org, argc, argv);
	return model(cli, argc, argv);
}
