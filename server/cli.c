/* server/cli.c - flags, the envelope, secrets from files and terminals.
 *
 * stdout carries exactly one thing: the data, or with --json one envelope. Words for a person go to
 * stderr. Must never take a secret from argv, where every process of the machine can read it. */
#include "server/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "server/base/buf.h"
#include "server/cli_human.h"
#include "server/service.h"

#define CLI_SECRET_BYTES_MAX   16382	   /* vault/secret.h takes no more */
#define CLI_ENVELOPE_BYTES_MAX (64u << 20) /* a list of 200, an export's summary */

/* --- flags ---------------------------------------------------------------------------------- */

static void args_remove(int *argc, char **argv, int at, int count)
{
	for (int i = at; i + count <= *argc; i++) /* the NULL at the end moves too */
		argv[i] = argv[i + count];
	*argc -= count;
}

static bool looks_like_flag(const char *arg)
{
	return arg[0] == '-' && (arg[1] == '-' || (arg[1] >= 'A' && arg[1] <= 'z'));
}

const char *cli_flag(int *argc, char **argv, const char *name)
{
	size_t len = strlen(name);
	const char *value;

	for (int i = 1; i < *argc; i++) {
		if (strncmp(argv[i], name, len) != 0)
			continue;
		if (argv[i][len] == '=') {
			value = argv[i] + len + 1;
			args_remove(argc, argv, i, 1);
			return value;
		}
		/* a flag without its value stays, for cli_leftover_flags() to complain about */
		if (argv[i][len] == '\0' && i + 1 < *argc && !looks_like_flag(argv[i + 1])) {
			value = argv[i + 1];
			args_remove(argc, argv, i, 2);
			return value;
		}
	}
	return NULL;
}

bool cli_switch(int *argc, char **argv, const char *name)
{
	bool found = false;

	for (int i = 1; i < *argc; i++)
		if (strcmp(argv[i], name) == 0) {
			args_remove(argc, argv, i--, 1);
			found = true;
		}
	return found;
}

bool cli_leftover_flags(struct cli *cli, int argc, char **argv)
{
	struct err err;

	for (int i = 1; i < argc; i++) {
		if (!looks_like_flag(argv[i]))
			continue;
		err_set(&err, RC_INVALID, "usage",
			"%s: unknown here, given twice, or without its value", argv[i]);
		err_hint(&err, "tollgate %s --help lists what there is.", argv[0]);
		cli_error(cli, CLI_USAGE, &err);
		return true;
	}
	return false;
}

enum rc cli_config(struct cli *cli, struct err *err)
{
	if (cli->config)
		return RC_OK;
	return config_load(service_setting_tables(cli->modules), cli->config_file, &cli->config,
			   err);
}

/* --- the envelope --------------------------------------------------------------------------- */

static int print(FILE *to, struct str s)
{
	if (fwrite(s.ptr ? s.ptr : "", 1, s.len, to) != s.len || fflush(to) != 0)
		return CLI_FAILED; /* a full disk, a closed pipe */
	return CLI_OK;
}

static int print_envelope(struct cli *cli, struct str data, const struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT(CLI_ENVELOPE_BYTES_MAX);
	struct json_out o;

	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	if (data.len > 0)
		json_put_raw(&o, "data", data);
	else
		json_put_null(&o, "data");
	if (err) {
		json_obj(&o, "error");
		json_put_z(&o, "code", err->code ? err->code : "failed");
		json_put_z(&o, "message", err->message);
		json_put_z(&o, "hint", err->hint[0] ? err->hint : NULL);
		if (err->field[0])
			json_put_z(&o, "field", err->field);
		if (strncmp(err->detail, "req_", 4) == 0)
			json_put_z(&o, "request_id", err->detail);
		json_obj_end(&o);
	} else {
		json_put_null(&o, "error");
	}
	json_put_raw(&o, "meta", cli->meta.len > 0 ? cli->meta : STR("{}"));
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK || buf_append_char(&text, '\n') != RC_OK)
		return CLI_FAILED;
	return print(stdout, buf_str(&text));
}

/* Lists are cut at a page: say how to go on. */
static void print_next(struct cli *cli)
{
	struct json *meta;
	struct str cursor;

	if (cli->meta.len > 0 &&
	    json_parse(cli->meta, JSON_ALLOW_DUPLICATES, cli->mem, &meta, NULL) == RC_OK &&
	    json_string(json_get(meta, "next_cursor"), &cursor))
		fprintf(stderr, "more: cursor=%.*s\n", STR_FMT(cursor));
}

int cli_data(struct cli *cli, struct str data_json, const char *human)
{
	AUTO(buf) struct buf text = BUF_INIT(CLI_ENVELOPE_BYTES_MAX);
	struct json *data;
	int status;

	if (cli->json)
		return print_envelope(cli, data_json, NULL);
	if (human)
		return print(stdout, str_from(human));
	if (json_parse(data_json, JSON_ALLOW_DUPLICATES, cli->mem, &data, NULL) == RC_OK &&
	    cli_human(data, &text) == RC_OK)
		status = print(stdout, buf_str(&text));
	else
		status = print(stdout, data_json);
	print_next(cli);
	return status;
}

int cli_error(struct cli *cli, int status, const struct err *err)
{
	if (cli->json) {
		print_envelope(cli, STR_NULL, err);
		return status;
	}
	fprintf(stderr, "tollgate: %s\n", err->message[0] ? err->message : "failed");
	if (err->hint[0])
		fprintf(stderr, "  %s\n", err->hint);
	if (strncmp(err->detail, "req_", 4) == 0)
		fprintf(stderr, "  request id: %s\n", err->detail);
	return status;
}

int cli_usage_error(struct cli *cli, const char *words)
{
	struct err err = {0};

	err_set(&err, RC_INVALID, "usage", "%s", words);
	return cli_error(cli, CLI_USAGE, &err);
}

int cli_usage(struct cli *cli, const struct command *cmd)
{
	struct err err;

	if (cli->json) {
		err_set(&err, RC_INVALID, "usage", "usage: tollgate %s %s", cmd->name, cmd->usage);
		err_hint(&err, "%s", cmd->help);
		return cli_error(cli, CLI_USAGE, &err);
	}
	fprintf(stderr, "usage: tollgate %s %s\n%s\n", cmd->name, cmd->usage, cmd->help);
	return CLI_USAGE;
}

/* --- secrets -------------------------------------------------------------------------------- */

static enum rc secret_bad(struct buf *out, struct err *err, const char *why)
{
	if (out->ptr)
		explicit_bzero(out->ptr, out->cap);
	buf_clear(out);
	err_set(err, RC_INVALID, "secret", "The secret cannot be read: %s.", why);
	err_hint(err, "Give it in a file, by '-' on standard input, or at the prompt.");
	return RC_INVALID;
}

/* To the end, or of a terminal one line. Reserved at once, so that growing leaves no copy behind. */
static enum rc secret_read(int fd, bool line, struct buf *out, struct err *err)
{
	ssize_t n;

	if (out->len != 0 || buf_reserve(out, CLI_SECRET_BYTES_MAX + 3) != RC_OK)
		return secret_bad(out, err, "there is no room for it");
	do {
		n = read(fd, out->ptr + out->len, CLI_SECRET_BYTES_MAX + 2 - out->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return secret_bad(out, err, strerror(errno));
		out->len += (size_t)n;
	} while (n > 0 && out->len < CLI_SECRET_BYTES_MAX + 2 &&
		 !(line && out->ptr[out->len - 1] == '\n'));
	if (out->len > 0 && out->ptr[out->len - 1] == '\n')
		out->len--;
	if (out->len > 0 && out->ptr[out->len - 1] == '\r')
		out->len--;
	out->ptr[out->len] = '\0';
	if (out->len == 0)
		return secret_bad(out, err, "it is empty");
	if (out->len > CLI_SECRET_BYTES_MAX)
		return secret_bad(out, err, "it is longer than 16382 bytes");
	if (memchr(out->ptr, '\0', out->len))
		return secret_bad(out, err, "it holds a NUL byte");
	return RC_OK;
}

static enum rc secret_prompt(struct buf *out, struct err *err)
{
	static const char prompt[] = "secret (not shown): ";
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios before, quiet;
	enum rc rc;

	if (fd < 0 || tcgetattr(fd, &before) != 0) {
		if (fd >= 0)
			close(fd);
		return secret_bad(out, err, "there is no terminal to ask at");
	}
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(fd, TCSAFLUSH, &quiet);
	rc = write(fd, prompt, sizeof prompt - 1) < 0 ? secret_bad(out, err, strerror(errno))
						      : secret_read(fd, true, out, err);
	tcsetattr(fd, TCSAFLUSH, &before);
	if (write(fd, "\n", 1) < 0)
		rc = rc == RC_OK ? secret_bad(out, err, strerror(errno)) : rc;
	close(fd);
	return rc;
}

enum rc cli_secret(const char *file, struct buf *out, struct err *err)
{
	enum rc rc;
	int fd;

	if (!file)
		return secret_prompt(out, err);
	if (strcmp(file, "-") == 0)
		return secret_read(STDIN_FILENO, false, out, err);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return secret_bad(out, err, strerror(errno));
	rc = secret_read(fd, false, out, err);
	close(fd);
	return rc;
}
