/* routing/orgconfig_cli.c - `tollgate plan FILE` and `tollgate apply FILE`: a YAML file to the document that the
 * service is asked about, and its answer for a person.
 *
 * The file says where secrets are, never what they are: they are read here, go into one request, and are wiped.
 * All of them are there before anything is asked. */
#include <stdio.h>
#include <stdlib.h>

#include "routing/routing_priv.h"
#include "server/cli.h"
#include "server/yaml.h"

#define CONFIG_BODY_MAX	  (1u << 20) /* what the admin listener takes */
#define CONFIG_SECRET_MAX 16384
#define CONFIG_TEXT_MAX	  (32u << 20)

struct source {
	const char *path;
	const struct yaml_doc *doc;
	struct arena *mem;
};

/* ---- secrets, from where the file says ------------------------------------------------------------------ */

/* Upper case alone, so that hardly any key passes for the name of a variable. */
static bool is_usual_name(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!(s.ptr[i] == '_' || (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z') ||
		      (i > 0 && s.ptr[i] >= '0' && s.ptr[i] <= '9')))
			return false;
	return s.len <= 128;
}

static enum rc secret_of_env(const struct source *s, const struct json *v, struct json_out *o,
			     struct err *err)
{
	struct str name;
	const char *value;

	if (!json_string(v, &name) || name.len == 0)
		return yaml_doc_bad(s->doc, v, err,
				    "secret_env is not the name of an environment variable");
	value = getenv(arena_strdup(s->mem, name));
	if (!value || !*value) {
		/* what is no usual name may be the secret itself: it is not repeated */
		(void)yaml_doc_bad(s->doc, v, err, "the environment variable %.*s is %s",
				   STR_FMT(is_usual_name(name) ? name : STR("named here")),
				   value ? "empty" : "not set");
		err->code = "secret_missing";
		err_hint(err, "Set it, and run this again: nothing has been asked for yet.");
		return RC_INVALID;
	}
	json_put_z(o, "secret", value);
	return RC_OK;
}

/* A relative path is one from the folder of the YAML file. */
static struct str beside(const struct source *s, struct str path)
{
	const char *slash = strrchr(s->path, '/');

	if (path.ptr[0] == '/' || !slash)
		return path;
	return arena_printf(s->mem, "%.*s/%.*s", (int)(slash - s->path), s->path, STR_FMT(path));
}

static enum rc secret_of_file(const struct source *s, const struct json *v, struct json_out *o,
			      struct err *err)
{
	AUTO(buf) struct buf secret = BUF_INIT(CONFIG_SECRET_MAX * 2);
	struct err why = {0};
	struct str path;
	enum rc rc;

	if (!json_string(v, &path) || path.len == 0 || str_is(path, "-"))
		return yaml_doc_bad(s->doc, v, err, "secret_file is not the path of a file");
	rc = cli_secret(arena_strdup(s->mem, beside(s, path)), &secret, &why);
	if (rc != RC_OK) {
		(void)yaml_doc_bad(s->doc, v, err, "secret_file %.*s: %s", STR_FMT(path),
				   why.message);
		err->code = "secret_missing";
		return RC_INVALID;
	}
	json_put_str(o, "secret", buf_str(&secret));
	explicit_bzero(secret.ptr, secret.cap);
	return RC_OK;
}

static enum rc put_profile(const struct source *s, const struct json *profile, struct json_out *o,
			   struct err *err)
{
	const struct json *env = json_get(profile, "secret_env"),
			  *file = json_get(profile, "secret_file"),
			  *inlined = json_get(profile, "secret");
	struct json_iter it = json_iter(profile);
	struct json *v;
	struct str key;

	if (json_type(profile) != JSON_OBJECT)
		return yaml_doc_bad(s->doc, profile, err, "a profile is not a mapping");
	if (inlined) {
		(void)yaml_doc_bad(s->doc, inlined, err, "a secret does not belong into this file");
		err->code = "inline_secret";
		err_hint(err, "Name where it is: secret_env: VARIABLE or secret_file: PATH. If the "
			      "file was shared, rotate it.");
		return RC_INVALID;
	}
	if (env && file)
		return yaml_doc_bad(s->doc, file, err,
				    "secret_env and secret_file are both there: one of them");
	json_obj(o, NULL);
	while (json_next(&it, &key, &v))
		if (v != env && v != file)
			json_put_value_s(o, key, v);
	if (env)
		TRY(secret_of_env(s, env, o, err));
	if (file)
		TRY(secret_of_file(s, file, o, err));
	json_obj_end(o);
	return RC_OK;
}

/* ---- the document --------------------------------------------------------------------------------------- */

static enum rc put_config(const struct source *s, const struct json *root, struct json_out *o,
			  struct err *err)
{
	struct json_iter it = json_iter(root), each;
	struct json *v, *profile;
	struct str key;

	json_obj(o, "config");
	while (json_next(&it, &key, &v)) {
		if (!str_is(key, "profiles") || json_type(v) != JSON_ARRAY) {
			json_put_value_s(o, key, v);
			continue;
		}
		json_arr(o, "profiles");
		for (each = json_iter(v); json_next(&each, NULL, &profile);)
			TRY(put_profile(s, profile, o, err));
		json_arr_end(o);
	}
	json_obj_end(o);
	return RC_OK;
}

static enum rc body_of(const struct source *s, bool prune, int64_t version, struct buf *body,
		       struct err *err)
{
	struct json_out o;

	json_out_begin(&o, body);
	json_obj(&o, NULL);
	TRY(put_config(s, yaml_doc_root(s->doc), &o, err));
	if (prune)
		json_put_bool(&o, "prune", true);
	if (version > 0)
		json_put_int(&o, "version", version);
	json_obj_end(&o);
	if (json_out_end(&o) != RC_OK)
		return err_set(err, RC_TOO_LARGE, "too_large", "%s is larger than 1 MiB", s->path);
	return RC_OK;
}

/* ---- the answer for a person -------------------------------------------------------------------------------- */

static struct str text_of(const struct json *v, const char *field)
{
	struct str s = STR("");

	(void)json_string(json_get(v, field), &s);
	return s;
}

/* As JSON, in which control characters are escapes. */
static enum rc put_json(struct buf *out, const struct json *v)
{
	return v ? json_write(v, out) : buf_append(out, STR("null"));
}

static enum rc put_change(struct buf *out, const struct json *c, bool create)
{
	TRY(buf_printf(out, "    %.*s: ", STR_FMT(text_of(c, "field"))));
	if (!create) {
		TRY(put_json(out, json_get(c, "before")));
		TRY(buf_append(out, STR(" -> ")));
	}
	TRY(put_json(out, json_get(c, "after")));
	return buf_append_char(out, '\n');
}

static enum rc put_action(struct buf *out, const struct json *a)
{
	const struct str action = text_of(a, "action");
	const bool create = str_is(action, "create");
	struct json_iter it = json_iter(json_get(a, "changes"));
	struct json *c;
	bool replaces = false;

	if (str_is(action, "none"))
		return RC_OK;
	(void)json_bool(json_get(a, "replaces"), &replaces);
	TRY(buf_printf(out, "%s %.*s ",
		       create			  ? "+"
		       : str_is(action, "update") ? "~"
						  : "-",
		       STR_FMT(text_of(a, "kind"))));
	TRY(put_json(out, json_get(a, "name")));
	TRY(buf_append(out, replaces ? STR(" (a new one takes its place)\n") : STR("\n")));
	while (json_next(&it, NULL, &c))
		if (!create || !json_is_null(json_get(c, "after")))
			TRY(put_change(out, c, create));
	return RC_OK;
}

static long long number(const struct json *of, const char *field)
{
	int64_t n = 0;

	(void)json_int(json_get(of, field), &n);
	return (long long)n;
}

static enum rc put_human(struct buf *out, const struct json *data, bool apply)
{
	const struct json *sum = json_get(data, "summary");
	struct json_iter it = json_iter(json_get(data, "actions"));
	struct json *v;

	while (json_next(&it, NULL, &v))
		TRY(put_action(out, v));
	for (it = json_iter(json_get(data, "unmanaged")); json_next(&it, NULL, &v);) {
		TRY(buf_printf(out, "  unmanaged: %.*s ", STR_FMT(text_of(v, "kind"))));
		TRY(put_json(out, json_get(v, "name")));
		TRY(buf_append_char(out, '\n'));
	}
	TRY(buf_printf(out,
		       apply ? "%lld created, %lld updated, %lld deleted, %lld unchanged"
			     : "%lld to create, %lld to update, %lld to delete, %lld unchanged",
		       number(sum, "create"), number(sum, "update"), number(sum, "delete"),
		       number(sum, "none")));
	TRY(buf_printf(out, " (version %lld)\n", number(data, "version")));
	for (it = json_iter(json_get(data, "keys")); json_next(&it, NULL, &v);) {
		TRY(buf_append(out, STR("key ")));
		TRY(put_json(out, json_get(v, "name")));
		TRY(buf_printf(out, ", shown this once: %.*s\n", STR_FMT(text_of(v, "key"))));
	}
	return RC_OK;
}

static int show(struct cli *cli, const struct json *data, bool apply)
{
	AUTO(buf) struct buf text = BUF_INIT(CONFIG_TEXT_MAX);
	AUTO(buf) struct buf human = BUF_INIT(CONFIG_TEXT_MAX);

	if (json_write(data, &text) != RC_OK || put_human(&human, data, apply) != RC_OK)
		return cli_usage_error(cli, "the answer is too long to show");
	return cli_data(cli, buf_str(&text), human.ptr);
}

/* ---- the commands --------------------------------------------------------------------------------------------- */

static bool differs(const struct json *data)
{
	const struct json *sum = json_get(data, "summary");

	return number(sum, "create") + number(sum, "update") + number(sum, "delete") > 0;
}

/* A document that the service refuses for what it says is a wrong file, as one that does not parse is. */
static int status_of(enum rc rc, int http_status)
{
	return http_status == 400 ? CLI_USAGE : cli_status(rc, http_status);
}

static int ask(struct cli *cli, const struct source *s, bool apply, bool prune, int64_t version,
	       struct json **data)
{
	AUTO(buf) struct buf body = BUF_INIT(CONFIG_BODY_MAX);
	struct str org = STR_NULL;
	struct err e = {0};
	int status = 0, failed;
	enum rc rc;

	if (!json_string(json_get(yaml_doc_root(s->doc), "org"), &org) || org.len == 0) {
		err_set(&e, RC_INVALID, "invalid_yaml", "%s: \"org\" is missing: an id or slug",
			s->path);
		return cli_error(cli, CLI_USAGE, &e);
	}
	/* Reserved at once, so that growing leaves no copy of a secret behind. */
	rc = buf_reserve(&body, CONFIG_BODY_MAX - 1);
	if (rc == RC_OK)
		rc = body_of(s, prune, version, &body, &e);
	failed = CLI_USAGE;
	if (rc == RC_OK) {
		rc = cli_api(cli, "POST",
			     routing_org_path(cli, arena_strdup(cli->mem, org),
					      apply ? "config/apply" : "config/plan", NULL),
			     buf_str(&body), data, &status, &e);
		failed = status_of(rc, status);
	}
	if (body.ptr)
		explicit_bzero(body.ptr, body.cap);
	return rc == RC_OK ? CLI_OK : cli_error(cli, failed, &e);
}

int config_command(struct cli *cli, int argc, char **argv)
{
	const bool apply = strcmp(argv[0], "apply") == 0;
	const bool prune = cli_switch(&argc, argv, "--prune");
	const bool detailed = !apply && cli_switch(&argc, argv, "--detailed-exitcode");
	const char *version = apply ? cli_flag(&argc, argv, "--version") : NULL;
	struct yaml_doc *doc = NULL;
	struct json *data = NULL;
	struct err e = {0};
	int64_t n = 0;
	int status;

	if (cli_leftover_flags(cli, argc, argv))
		return detailed ? CLI_FAILED : CLI_USAGE;
	if (argc != 2 || (version && (str_to_i64(str_from(version), &n) != RC_OK || n < 1))) {
		status = cli_usage_error(cli, apply ? "apply FILE [--prune] [--version N]"
						    : "plan FILE [--prune] [--detailed-exitcode]");
		return detailed ? CLI_FAILED : status;
	}
	if (yaml_doc_read(argv[1], cli->mem, &doc, &e) != RC_OK)
		status = cli_error(cli, CLI_USAGE, &e);
	else
		status = ask(cli, &(struct source){argv[1], doc, cli->mem}, apply, prune, n, &data);
	if (status == CLI_OK)
		status = show(cli, data, apply);
	if (!detailed)
		return status;
	/* 2 says one thing alone here. */
	return status == CLI_OK	     ? (differs(data) ? 2 : 0)
	       : status == CLI_USAGE ? CLI_FAILED
				     : status;
}
