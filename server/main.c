/* server/main.c - the one file that names the three rooms. Everything else is in their tables. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "billing/billing.h"
#include "routing/routing.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/cli.h"
#include "server/curlm.h"
#include "server/migrate.h"
#include "server/service.h"
#include "vault/vault.h"

/* Start order; the reverse is the stop order. */
static const struct module *const modules[] = {&vault_module, &billing_module, &routing_module,
					       NULL};

/* Secrets must not reach the disk with a core. */
static void no_core(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) != 0)
		log_warn("core files cannot be forbidden", LOG_STR("why", strerror(errno)));
}

static int command_serve(struct cli *cli, int argc, char **argv)
{
	struct err err = {0};

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (cli_config(cli, &err) != RC_OK) {
		fprintf(stderr, "tollgate: %s\n", err.message);
		return CLI_USAGE;
	}
	log_init((enum log_level)config_int(cli->config, "log_level"),
		 (enum log_format)config_int(cli->config, "log_format"));
	/* Nobody but root looks into this process from here on. Not earlier: a setting's file may be
	 * a /dev/fd, which such a process cannot open. */
	if (prctl(PR_SET_DUMPABLE, 0) != 0)
		log_warn("this process can be traced by others of its user",
			 LOG_STR("why", strerror(errno)));
	return service_run(modules, cli->config, cli->config_file, TOLLGATE_VERSION);
}

static int command_check_config(struct cli *cli, int argc, char **argv)
{
	AUTO(buf) struct buf text = BUF_INIT(1u << 20);
	AUTO(buf) struct buf json = BUF_INIT(1u << 20);
	struct err err = {0};

	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (cli_config(cli, &err) != RC_OK)
		return cli_error(cli, CLI_USAGE, &err);
	if (config_print(cli->config, false, &text) != RC_OK ||
	    config_print(cli->config, true, &json) != RC_OK)
		return CLI_FAILED;
	return cli_data(cli, buf_str(&json), text.ptr);
}

static int command_version(struct cli *cli, int argc, char **argv)
{
	return cli_data(cli, STR("{\"version\":\"" TOLLGATE_VERSION "\"}"),
			"tollgate " TOLLGATE_VERSION "\n");
}

static const struct command floor_commands[] = {
	{"serve", "[--config FILE]", "run the service: data plane and control plane",
	 command_serve},
	{"check-config", "[--config FILE]",
	 "validate the configuration and print the effective one", command_check_config},
	{"migrate", "up | down [N] | status", "schema migrations, embedded and checksummed",
	 migrate_command},
	{"version", "", "print the version", command_version},
	{NULL, NULL, NULL, NULL}};

static void help_print(FILE *out)
{
	const struct command *tables[8] = {floor_commands};
	size_t n = 1;

	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->commands)
			tables[n++] = modules[i]->commands;
	fprintf(out, "usage: tollgate COMMAND [ARGUMENTS] [--json] [--config FILE]\n\n");
	for (size_t t = 0; t < n; t++)
		for (const struct command *c = tables[t]; c->name; c++)
			fprintf(out, "  %-14s %s\n  %-14s   %.*s\n", c->name, c->usage, "",
				(int)strcspn(c->help, "\n"), c->help);
	fprintf(out, "\nsettings (environment TOLLGATE_<NAME>, or a key of the YAML file):\n\n");
	for (const struct setting *const *t = service_setting_tables(modules); *t; t++)
		for (const struct setting *s = *t; s->name; s++)
			fprintf(out, "  %-28s %s%s%s%s\n", s->name, s->help,
				s->def && *s->def ? " [" : "", s->def && *s->def ? s->def : "",
				s->def && *s->def ? "]" : "");
	fprintf(out,
		"\nexit status: 0 done, 1 the thing asked about failed, 2 usage or configuration, "
		"3 a dependency was not reachable\n");
}

static const struct command *command_find(const char *name)
{
	for (const struct command *c = floor_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	for (size_t i = 0; modules[i]; i++)
		for (const struct command *c = modules[i]->commands; c && c->name; c++)
			if (strcmp(c->name, name) == 0)
				return c;
	return NULL;
}

int main(int argc, char **argv)
{
	struct cli cli = {
		.modules = modules, .version = TOLLGATE_VERSION, .out = BUF_INIT(16u << 20)};
	const struct command *command;
	struct err err = {0};
	int status;

	hash_wipe_openssl();
	curlm_global_init();
	log_init(LOG_LEVEL_WARN, LOG_FORMAT_JSON);
	no_core();
	if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
	    strcmp(argv[1], "-h") == 0) {
		help_print(argc < 2 ? stderr : stdout);
		return argc < 2 ? CLI_USAGE : CLI_OK;
	}
	cli.mem = arena_new(64u << 20);
	cli.json = cli_switch(&argc, argv, "--json");
	command = argc > 1 ? command_find(argv[1]) : NULL;
	if (!command) {
		(void)err_set(&err, RC_INVALID, "usage", "there is no command '%s'",
			      argc > 1 ? argv[1] : "");
		err_hint(&err, "see tollgate --help");
		status = cli_error(&cli, CLI_USAGE, &err);
		arena_free(cli.mem);
		return status;
	}
	argc--;
	argv++;
	cli.config_file = cli_flag(&argc, argv, "--config");
	if (cli_switch(&argc, argv, "--help"))
		status = (printf("usage: tollgate %s %s\n%s\n", command->name, command->usage,
				 command->help),
			  CLI_OK);
	else
		status = command->run(&cli, argc, argv);
	config_free(cli.config);
	buf_clear(&cli.out);
	arena_free(cli.mem);
	return status;
}
