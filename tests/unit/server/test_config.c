/* server/config.c: precedence, every kind of mistake and its sentence, secrets that do not show. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/arena.h"
#include "server/base/json.h"
#include "server/config.h"

static const struct setting server_settings[] = {
	{.name = "listen", .type = SETTING_STRING, .def = "127.0.0.1:8080", .help = "where"},
	{.name = "drain_seconds",
	 .type = SETTING_INT,
	 .def = "300",
	 .min = 0,
	 .max = 3600,
	 .reloadable = true},
	{.name = "max_body_bytes",
	 .type = SETTING_BYTES,
	 .def = "32MiB",
	 .min = 1024,
	 .max = 1ll << 30},
	{.name = "log_format", .type = SETTING_ENUM, .def = "json", .values = "json|text"},
	{.name = "tls_cert_file", .type = SETTING_STRING},
	{.name = "trace", .type = SETTING_BOOL, .def = "false"},
	SETTING_LAST,
};
static const struct setting vault_settings[] = {
	{.name = "master_key",
	 .type = SETTING_STRING,
	 .required = true,
	 .secret = true,
	 .help = "the key"},
	{.name = "admin_token", .type = SETTING_STRING, .secret = true},
	SETTING_LAST,
};
static const struct setting *const tables[] = {server_settings, vault_settings, NULL};

static char dir[] = "/tmp/test-config-XXXXXX", path[64], secret_path[64];
static struct err err;
static struct config *c;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/c.yaml", dir);
	snprintf(secret_path, sizeof secret_path, "%s/secret", dir);
	clearenv();
	setenv("TOLLGATE_MASTER_KEY", "fake-master", 1);
}

static void teardown(void)
{
	config_free(c);
	config_free(NULL);
	unlink(path);
	unlink(secret_path);
	rmdir(dir);
}

static void put(const char *where, const char *text, mode_t mode)
{
	FILE *f = fopen(where, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	chmod(where, mode);
}

static enum rc load(const char *yaml)
{
	config_free(c);
	c = NULL;
	memset(&err, 0, sizeof err);
	if (yaml)
		put(path, yaml, 0600);
	return config_load(tables, yaml ? path : NULL, &c, &err);
}

static void refused(const char *yaml, const char *says)
{
	ck_assert_msg(load(yaml) == RC_INVALID, "accepted: %s", yaml ? yaml : "(environment)");
	ck_assert_ptr_null(c);
	ck_assert_msg(strstr(err.message, says) != NULL, "\"%s\" does not say \"%s\"", err.message,
		      says);
	ck_assert_str_eq(err.code, "bad_config");
}

START_TEST(defaults)
{
	ck_assert_msg(load(NULL) == RC_OK, "%s", err.message);
	ck_assert_str_eq(config_str(c, "listen"), "127.0.0.1:8080");
	ck_assert_int_eq(config_int(c, "drain_seconds"), 300);
	ck_assert_int_eq(config_int(c, "max_body_bytes"), 32 << 20);
	ck_assert_int_eq(config_int(c, "log_format"), 0);
	ck_assert_str_eq(config_str(c, "log_format"), "json");
	ck_assert(!config_bool(c, "trace"));
	ck_assert_ptr_null(config_str(c, "tls_cert_file"));
	ck_assert_ptr_null(config_str(c, "admin_token"));
	ck_assert(!config_is_set(c, "listen") && config_is_set(c, "master_key"));
}
END_TEST

START_TEST(environment_over_file_over_default)
{
	setenv("TOLLGATE_DRAIN_SECONDS", "7", 1);
	setenv("TOLLGATE_TLS_CERT_FILE", "/x.pem", 1);
	setenv("TOLLGATE_LISTEN", "", 1); /* empty: not set */
	setenv("OTHER", "1", 1);
	ck_assert_msg(
		load("# c\ndrain_seconds: 5\nlog_format: 'text'\nmax_body_bytes: 4 KiB\ntrace: yes\n"
		     "admin_token: \"fake token\"\nlisten: 0.0.0.0:1\ntls_cert_file:\n") == RC_OK,
		"%s", err.message);
	ck_assert_int_eq(config_int(c, "drain_seconds"), 7);
	ck_assert_int_eq(config_int(c, "log_format"), 1);
	ck_assert_int_eq(config_int(c, "max_body_bytes"), 4096);
	ck_assert(config_bool(c, "trace"));
	ck_assert_str_eq(config_str(c, "listen"), "0.0.0.0:1");
	ck_assert_str_eq(config_str(c, "tls_cert_file"), "/x.pem");
	ck_assert_str_eq(config_str(c, "admin_token"), "fake token");
	ck_assert_msg(load("") == RC_OK && load("---\n") == RC_OK && load("# only\n") == RC_OK &&
			      load("{}") == RC_OK,
		      "%s", err.message);
}
END_TEST

START_TEST(bad_values_name_their_place)
{
	refused("\n\ndrain_seconds: soon\n",
		"c.yaml:3: drain_seconds must be a whole number from 0 to 3600, not \"soon\"");
	ck_assert_str_eq(err.field, "drain_seconds");
	refused("drain_seconds: -1", "c.yaml:1: drain_seconds");
	refused("drain_seconds: 3601", "from 0 to 3600");
	refused("drain_seconds: 1.5", "whole number");
	refused("max_body_bytes: 1", "max_body_bytes must be a size");
	refused("max_body_bytes: 99999999999GiB", "must be a size");
	refused("max_body_bytes: 1MB", "must be a size");
	refused("log_format: xml", "one of json|text");
	refused("trace: maybe", "true or false");
	refused("listen: \"a\\nb\"", "control");
	setenv("TOLLGATE_DRAIN_SECONDS", "x", 1);
	refused("drain_seconds: 5", "TOLLGATE_DRAIN_SECONDS must be a whole number");
	refused(NULL, "TOLLGATE_DRAIN_SECONDS must be a whole number");
}
END_TEST

START_TEST(unknown_names)
{
	refused("listen: a\nlisten_port: 5\n", "c.yaml:2: there is no setting \"listen_port\"");
	refused("listen_file: x\n", "no setting \"listen_file\""); /* only secrets have that form */
	refused("LISTEN: x\n", "no setting \"LISTEN\"");
	setenv("TOLLGATE_DRAIN_SECOND", "5", 1);
	refused(NULL, "there is no setting TOLLGATE_DRAIN_SECOND");
	unsetenv("TOLLGATE_DRAIN_SECOND");
	setenv("TOLLGATE_listen", "5", 1);
	refused(NULL, "no setting TOLLGATE_listen");
	unsetenv("TOLLGATE_listen");
	setenv("TOLLGATE_LISTEN_FILE", "5", 1);
	refused(NULL, "no setting TOLLGATE_LISTEN_FILE");
	unsetenv("TOLLGATE_LISTEN_FILE");
	setenv("TOLLGATE_", "5", 1);
	refused(NULL, "no setting TOLLGATE_");
	unsetenv("TOLLGATE_");
	setenv("TOLLGATE_A_VERY_LONG_NAME_THAT_GOES_ON_AND_ON_AND_ON_AND_ON_AND_ON_AND_ON_AND_ON",
	       "", 1);
	refused(NULL, "no setting TOLLGATE_A_VERY");
}
END_TEST

START_TEST(bad_files)
{
	refused("listen: a\nlisten: b\n", "c.yaml:2: listen is set twice");
	refused("admin_token: a\nadmin_token_file: b\n", "admin_token is set twice");
	refused("listen: [a, b]\n", "listen must be one plain value");
	refused("listen: {a: b}\n", "listen must be one plain value");
	refused("- listen\n", "one mapping");
	refused("listen\n", "one mapping");
	refused("listen: a\n---\nlisten: b\n", "one document");
	refused("a: &x 1\n", "no setting");
	refused("listen: &x a\n", "plain value");
	refused("listen: *x\n", "c.yaml:1");
	refused("listen: !!int 5\n", "plain value");
	refused("? [a]\n: b\n", "name was expected");
	refused("listen: \"a\n", "c.yaml:");
	refused("listen: a\n\tdrain_seconds: 4\n", "c.yaml:2");
	refused("listen: \"a\\0b\"\n", "plain value");
	refused("listen: \xff\n", "c.yaml:");
	ck_assert(config_load(tables, "/nonexistent/c.yaml", &c, &err) == RC_INVALID);
	ck_assert_ptr_nonnull(strstr(err.message, "/nonexistent/c.yaml"));
	ck_assert(config_load(tables, "/tmp", &c, &err) == RC_INVALID);
}
END_TEST

START_TEST(required)
{
	unsetenv("TOLLGATE_MASTER_KEY");
	refused(NULL, "TOLLGATE_MASTER_KEY is required: the key");
	ck_assert_str_ne(err.hint, "");
	ck_assert_str_eq(err.field, "master_key");
	setenv("TOLLGATE_MASTER_KEY", "", 1);
	refused(NULL, "TOLLGATE_MASTER_KEY is required");
	ck_assert(load("master_key: fake\n") == RC_OK);
}
END_TEST

START_TEST(secrets_from_files)
{
	put(secret_path, "fake secret\n", 0600);
	setenv("TOLLGATE_ADMIN_TOKEN_FILE", secret_path, 1);
	ck_assert_msg(load(NULL) == RC_OK, "%s", err.message);
	ck_assert_str_eq(config_str(c, "admin_token"), "fake secret");
	put(secret_path, "fake\r\n", 0400);
	ck_assert(load(NULL) == RC_OK);
	ck_assert_str_eq(config_str(c, "admin_token"), "fake");
	setenv("TOLLGATE_ADMIN_TOKEN", "fake2", 1);
	refused(NULL, "both set");
	unsetenv("TOLLGATE_ADMIN_TOKEN");
	chmod(secret_path, 0640);
	refused(NULL, "open to other users");
	chmod(secret_path, 0604);
	refused(NULL, "open to other users");
	put(secret_path, "\n", 0600);
	refused(NULL, "empty");
	unlink(secret_path);
	refused(NULL, "TOLLGATE_ADMIN_TOKEN_FILE: cannot read");
	unsetenv("TOLLGATE_ADMIN_TOKEN_FILE");
	refused("admin_token_file: /nonexistent\n",
		"c.yaml:1: admin_token_file: cannot read /nonexistent");
	setenv("TOLLGATE_ADMIN_TOKEN", "fake3",
	       1); /* the environment wins, the file must still be right */
	put(secret_path, "fake4", 0600);
	ck_assert(load("admin_token: fake5\n") == RC_OK);
	ck_assert_str_eq(config_str(c, "admin_token"), "fake3");
}
END_TEST

START_TEST(prints_without_secrets)
{
	struct arena *mem = arena_new(1 << 20);
	AUTO(buf) struct buf out = BUF_INIT(10000);
	struct json *v;
	struct str s;
	int64_t n = 0;

	setenv("TOLLGATE_LISTEN", "a:1", 1);
	ck_assert(load("drain_seconds: 5\nadmin_token: fake-token\n") == RC_OK);
	ck_assert(config_print(c, false, &out) == RC_OK);
	ck_assert_ptr_nonnull(strstr(out.ptr, "listen: a:1   # TOLLGATE_LISTEN\n"));
	ck_assert_ptr_nonnull(strstr(out.ptr, "c.yaml:1\n"));
	ck_assert_ptr_nonnull(strstr(out.ptr, "master_key: [set]   # TOLLGATE_MASTER_KEY\n"));
	ck_assert_ptr_null(strstr(out.ptr, "fake"));
	buf_reset(&out);
	ck_assert(config_print(c, true, &out) == RC_OK);
	ck_assert_ptr_null(strstr(out.ptr, "fake"));
	ck_assert(json_parse(buf_str(&out), JSON_NO_DUPLICATES, mem, &v, NULL) == RC_OK);
	ck_assert(json_int(json_get(json_get(v, "drain_seconds"), "value"), &n) && n == 5);
	ck_assert(json_string(json_get(json_get(v, "admin_token"), "value"), &s) &&
		  str_is(s, "[set]"));
	ck_assert(json_is_null(json_get(json_get(v, "tls_cert_file"), "value")));
	arena_free(mem);
}
END_TEST

START_TEST(a_refused_secret_is_not_repeated)
{
	static const struct setting odd[] = {
		{.name = "pin", .type = SETTING_INT, .max = 5, .secret = true}, SETTING_LAST};
	static const struct setting *const t[] = {odd, NULL};

	unsetenv("TOLLGATE_MASTER_KEY");
	setenv("TOLLGATE_PIN", "98765", 1);
	ck_assert(config_load(t, NULL, &c, &err) == RC_INVALID);
	ck_assert_ptr_null(strstr(err.message, "98765"));
}
END_TEST

START_TEST(wipe)
{
	static char variable[] = "TOLLGATE_MASTER_KEY=fake-in-the-block";

	putenv(variable); /* the block itself, as after exec */
	ck_assert(load(NULL) == RC_OK);
	ck_assert_str_eq(config_str(c, "master_key"), "fake-in-the-block");
	config_wipe(c, "master_key");
	ck_assert_ptr_null(config_str(c, "master_key"));
	ck_assert(config_is_set(c, "master_key"));
	ck_assert_ptr_null(getenv("TOLLGATE_MASTER_KEY"));
	for (size_t i = sizeof "TOLLGATE_MASTER_KEY"; i < sizeof variable; i++)
		ck_assert_int_eq(variable[i], 0);
	ck_assert_msg(load(NULL) == RC_OK, "%s", err.message); /* a reload does not miss it */
	ck_assert(config_is_set(c, "master_key"));
	ck_assert_ptr_null(config_str(c, "master_key"));
	config_wipe(c, "master_key");
	config_wipe(c, "admin_token"); /* never set */
}
END_TEST

/* aborts: an_unknown_name_is_a_bug */
START_TEST(an_unknown_name_is_a_bug)
{
	ck_assert(load(NULL) == RC_OK);
	rmdir(dir); /* no teardown follows */
	(void)config_int(c, "no_such");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, defaults);
	tcase_add_test(t, environment_over_file_over_default);
	tcase_add_test(t, bad_values_name_their_place);
	tcase_add_test(t, unknown_names);
	tcase_add_test(t, bad_files);
	tcase_add_test(t, required);
	tcase_add_test(t, secrets_from_files);
	tcase_add_test(t, prints_without_secrets);
	tcase_add_test(t, a_refused_secret_is_not_repeated);
	tcase_add_test(t, wipe);
	tcase_add_test_raise_signal(t, an_unknown_name_is_a_bug, SIGABRT);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
