/* Flags, envelopes, the human form, secrets, and the admin API against a small answerer. */
#include "server/cli.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "server/base/buf.h"
#include "server/cli_human.h"
#include "server/curlm.h"
#include "server/pg.h"
#include "server/service.h"

extern char **environ;

/* This program's stand-in for the service's tables. */
static const struct setting settings[] = {
	{.name = "admin_listen", .type = SETTING_STRING, .def = "127.0.0.1:1"},
	{.name = "admin_token", .type = SETTING_STRING, .secret = true},
	{.name = "tls_cert_file", .type = SETTING_STRING},
	{.name = "database_url", .type = SETTING_STRING, .required = true, .secret = true},
	SETTING_LAST};

const struct setting *const *service_setting_tables(const struct module *const *modules)
{
	static const struct setting *const tables[] = {settings, NULL};

	(void)modules;
	return tables;
}

static struct cli cli;
static char dir[64];

static void setup(void)
{
	static const char *const names[] = {"ADMIN_LISTEN", "ADMIN_TOKEN", "TLS_CERT_FILE",
					    "DATABASE_URL"};
	char name[64];

	curlm_global_init();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(name, sizeof name, "TOLLGATE_%s", names[i]);
		unsetenv(name);
	}
	cli = (struct cli){.mem = arena_new(16u << 20), .out = BUF_INIT(1u << 20)};
	snprintf(dir, sizeof dir, "/tmp/test_cli_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	config_free(cli.config);
	arena_free(cli.mem);
	buf_clear(&cli.out);
	rmdir(dir);
}

/* What a call prints on stdout, stderr being thrown away. */
static char printed[65536];
static int saved_out, saved_err, capture_fd;

static void capture(void)
{
	FILE *f = tmpfile();

	fflush(stdout);
	fflush(stderr);
	saved_out = dup(1);
	saved_err = dup(2);
	capture_fd = dup(fileno(f));
	fclose(f);
	dup2(capture_fd, 1);
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2);
}

static const char *captured(void)
{
	ssize_t n;

	fflush(stdout);
	fflush(stderr);
	dup2(saved_out, 1);
	dup2(saved_err, 2);
	n = pread(capture_fd, printed, sizeof printed - 1, 0);
	printed[n > 0 ? n : 0] = '\0';
	close(capture_fd);
	return printed;
}

START_TEST(flags)
{
	char a0[] = "key", a1[] = "--org", a2[] = "acme", a3[] = "create", a4[] = "--name=x=y",
	     a5[] = "--json", a6[] = "--json", a7[] = "-5", a8[] = "--organ";
	char *argv[] = {a0, a1, a2, a3, a4, a5, a6, a7, a8, NULL};
	int argc = 9;

	ck_assert_ptr_null(cli_flag(&argc, argv, "--or"));
	ck_assert_str_eq(cli_flag(&argc, argv, "--org"), "acme");
	ck_assert_ptr_null(cli_flag(&argc, argv, "--org"));
	ck_assert_str_eq(cli_flag(&argc, argv, "--name"), "x=y");
	ck_assert(cli_switch(&argc, argv, "--json"));
	ck_assert(!cli_switch(&argc, argv, "--json"));
	ck_assert_int_eq(argc, 4);
	ck_assert_str_eq(argv[1], "create");
	ck_assert_str_eq(argv[2], "-5");
	ck_assert_str_eq(argv[3], "--organ");
	ck_assert_ptr_null(argv[4]);
	capture();
	ck_assert(cli_leftover_flags(&cli, argc, argv));
	ck_assert(!cli_leftover_flags(&cli, 3, argv));
	ck_assert_str_eq(captured(), "");
}
END_TEST

START_TEST(a_flag_without_value_is_left_over)
{
	char a0[] = "x", a1[] = "--org", a2[] = "--name", a3[] = "n";
	char *argv[] = {a0, a1, a2, a3, NULL};
	int argc = 4;

	ck_assert_ptr_null(cli_flag(&argc, argv, "--org"));
	ck_assert_str_eq(cli_flag(&argc, argv, "--name"), "n");
	capture();
	ck_assert(cli_leftover_flags(&cli, argc, argv));
	captured();
}
END_TEST

START_TEST(one_envelope)
{
	struct err err;

	cli.json = true;
	capture();
	ck_assert_int_eq(cli_data(&cli, STR("{\"a\":[1,\"x\"]}"), "human"), CLI_OK);
	ck_assert_str_eq(captured(), "{\"data\":{\"a\":[1,\"x\"]},\"error\":null,\"meta\":{}}\n");
	cli.meta = STR("{\"next_cursor\":\"c\"}");
	capture();
	cli_data(&cli, STR("[]"), NULL);
	ck_assert_str_eq(captured(),
			 "{\"data\":[],\"error\":null,\"meta\":{\"next_cursor\":\"c\"}}\n");
	cli.meta = STR_NULL;
	err_set(&err, RC_INVALID, "bad", "wrong \"%s\"", "it");
	err_field(&err, "name");
	capture();
	ck_assert_int_eq(cli_error(&cli, CLI_USAGE, &err), CLI_USAGE);
	ck_assert_str_eq(captured(),
			 "{\"data\":null,\"error\":{\"code\":\"bad\",\"message\":\"wrong "
			 "\\\"it\\\"\",\"hint\":null,\"field\":\"name\"},\"meta\":{}}\n");
	capture();
	ck_assert_int_eq(
		cli_usage(&cli, &(struct command){.name = "x", .usage = "a | b", .help = "h"}),
		CLI_USAGE);
	ck_assert_ptr_nonnull(strstr(captured(), "\"code\":\"usage\""));
}
END_TEST

START_TEST(human_forms)
{
	static const struct {
		const char *json, *want;
	} cases[] = {
		{"{\"id\":\"7\",\"balance\":\"1.5\",\"at\":null,\"on\":true,\"n\":3,\"m\":[]}",
		 "id       7\nbalance  1.5\nat       -\non       true\nn        3\nm        -\n"},
		{"{\"a\":1,\"deep\":{\"bb\":\"x\",\"c\":[1,2]}}",
		 "a  1\ndeep:\n  bb  x\n  c   1, 2\n"},
		{"[{\"id\":\"1\",\"name\":\"long name\"},{\"id\":\"22\",\"x\":{\"y\":1}}]",
		 "id  name       x\n1   long name  \n22             {\"y\":1}\n"},
		{"{\"items\":[{\"a\":\"\xc3\xa4\",\"b\":1}]}", "items:\n  a  b\n  \xc3\xa4  1\n"},
		{"[]", "(none)\n"},
		{"null", ""},
		{"\"text\"", "text\n"},
		{"[1,2]", "1, 2\n"},
		{"{\"x\":\"a\\u001b[2Jb\\nc\\u009bd\"}", "x  a?[2Jb?c?d\n"},
		{"{\"a\\u001b\":1}", "a?  1\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		capture();
		ck_assert_int_eq(cli_data(&cli, str_from(cases[i].json), NULL), CLI_OK);
		ck_assert_str_eq(captured(), cases[i].want);
	}
	capture();
	cli_data(&cli, STR("{}"), "as given\n");
	ck_assert_str_eq(captured(), "as given\n");
}
END_TEST

START_TEST(settings_on_demand)
{
	struct err err;

	ck_assert_int_eq(cli_config(&cli, &err), RC_INVALID);
	ck_assert_ptr_nonnull(strstr(err.message, "TOLLGATE_DATABASE_URL"));
	setenv("TOLLGATE_DATABASE_URL", "host=/nowhere", 1);
	ck_assert_int_eq(cli_config(&cli, &err), RC_OK);
	ck_assert_str_eq(config_str(cli.config, "database_url"), "host=/nowhere");
	ck_assert_int_eq(cli_config(&cli, &err), RC_OK);
}
END_TEST

static enum rc secret_of(const void *bytes, size_t len, struct buf *out)
{
	char path[128];
	struct err err = {0};
	FILE *f;
	enum rc rc;

	snprintf(path, sizeof path, "%s/s", dir);
	f = fopen(path, "w");
	fwrite(bytes, 1, len, f);
	fclose(f);
	rc = cli_secret(path, out, &err);
	unlink(path);
	if (rc != RC_OK)
		ck_assert(err.code && err.message[0] && out->len == 0);
	return rc;
}

START_TEST(secrets)
{
	struct buf out = BUF_INIT(1 << 16);
	char big[20000];
	struct err err = {0};
	int p[2], zero = dup(0);

	ck_assert_int_eq(secret_of("fake\n", 5, &out), RC_OK);
	ck_assert_str_eq(out.ptr, "fake");
	ck_assert_uint_eq(out.len, 4);
	buf_clear(&out);
	ck_assert_int_eq(secret_of("fa\nke\r\n", 7, &out), RC_OK);
	ck_assert_str_eq(out.ptr, "fa\nke");
	buf_clear(&out);
	ck_assert_int_eq(secret_of("", 0, &out), RC_INVALID);
	ck_assert_int_eq(secret_of("\n", 1, &out), RC_INVALID);
	ck_assert_int_eq(secret_of("a\0b", 3, &out), RC_INVALID);
	memset(big, 'x', sizeof big);
	ck_assert_int_eq(secret_of(big, 16382, &out), RC_OK);
	ck_assert_uint_eq(out.len, 16382);
	buf_clear(&out);
	ck_assert_int_eq(secret_of(big, 16383, &out), RC_INVALID);
	ck_assert_int_eq(secret_of(big, sizeof big, &out), RC_INVALID);
	ck_assert_int_eq(cli_secret("/nonexistent/x", &out, &err), RC_INVALID);
	ck_assert_int_eq(cli_secret(dir, &out, &err), RC_INVALID);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(write(p[1], "from ", 5), 5);
	ck_assert_int_eq(write(p[1], "stdin\n", 6), 6);
	close(p[1]);
	dup2(p[0], 0);
	ck_assert_int_eq(cli_secret("-", &out, &err), RC_OK);
	ck_assert_str_eq(out.ptr, "from stdin");
	dup2(zero, 0);
	close(p[0]);
	close(zero);
	buf_clear(&out);
}
END_TEST

/* --- the admin API ------------------------------------------------------------------------------ */

static struct {
	int fd;
	const char *answer;
	char request[65536];
	pthread_t thread;
} up;

static void *up_answer(void *arg)
{
	int fd = accept(up.fd, NULL, NULL);
	size_t len = 0;
	char *end = NULL, *l;

	(void)arg;
	memset(up.request, 0, sizeof up.request);
	for (;;) {
		ssize_t n = recv(fd, up.request + len, sizeof up.request - 1 - len, 0);

		if (n <= 0)
			break;
		len += (size_t)n;
		end = strstr(up.request, "\r\n\r\n");
		l = strstr(up.request, "Content-Length: ");
		if (end &&
		    len >= (size_t)(end + 4 - up.request) + (l ? strtoul(l + 16, NULL, 10) : 0))
			break;
	}
	send(fd, up.answer, strlen(up.answer), MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

static void up_start(const char *answer)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	char listen_at[64];

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	up.answer = answer;
	up.fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(up.fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(up.fd, 4), 0);
	getsockname(up.fd, (struct sockaddr *)&a, &len);
	snprintf(listen_at, sizeof listen_at, "0.0.0.0:%d", ntohs(a.sin_port));
	setenv("TOLLGATE_ADMIN_LISTEN", listen_at, 1);
	setenv("TOLLGATE_ADMIN_TOKEN", "fake-operator-token", 1);
	pthread_create(&up.thread, NULL, up_answer, NULL);
}

static void up_end(void)
{
	pthread_join(up.thread, NULL);
	close(up.fd);
}

START_TEST(api_call)
{
	struct json *data;
	struct err err = {0};
	struct str name;
	int status;

	up_start("HTTP/1.1 201 Created\r\n\r\n"
		 "{\"data\":{\"name\":\"x\"},\"error\":null,\"meta\":{\"request_id\":\"req_1\"}}");
	ck_assert_int_eq(cli_api(&cli, "POST", STR("/admin/v1/orgs"), STR("{\"slug\":\"a\"}"),
				 &data, &status, &err),
			 RC_OK);
	up_end();
	ck_assert_int_eq(status, 201);
	ck_assert(json_string(json_get(data, "name"), &name) && str_is(name, "x"));
	ck_assert(str_is(cli.meta, "{\"request_id\":\"req_1\"}"));
	ck_assert_ptr_nonnull(strstr(up.request, "POST /admin/v1/orgs HTTP/1.1\r\n"));
	ck_assert_ptr_nonnull(strstr(up.request, "Authorization: Bearer fake-operator-token\r\n"));
	ck_assert_ptr_nonnull(strstr(up.request, "Content-Type: application/json\r\n"));
	ck_assert_ptr_nonnull(strstr(up.request, "Idempotency-Key: "));
	ck_assert_ptr_nonnull(strstr(up.request, "\r\n\r\n{\"slug\":\"a\"}"));
	up_start("HTTP/1.1 200 OK\r\n\r\n"
		 "{\"data\":[],\"error\":null,\"meta\":{}}");
	capture();
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/admin/v1/orgs?limit=200"), STR("")),
			 CLI_OK);
	ck_assert_str_eq(captured(), "(none)\n");
	up_end();
	ck_assert_ptr_nonnull(strstr(up.request, "GET /admin/v1/orgs?limit=200 HTTP/1.1\r\n"));
	ck_assert_ptr_null(strstr(up.request, "Idempotency-Key"));
}
END_TEST

START_TEST(api_errors)
{
	struct json *data;
	struct err err = {0};
	int status;

	up_start("HTTP/1.1 404 Not Found\r\n\r\n"
		 "{\"data\":null,\"error\":{\"code\":\"not_found\",\"message\":\"no such org\","
		 "\"hint\":\"h\",\"field\":\"org\",\"request_id\":\"req_9\"},\"meta\":{}}");
	ck_assert_int_eq(
		cli_api(&cli, "GET", STR("/admin/v1/orgs/x"), STR(""), &data, &status, &err),
		RC_NOT_FOUND);
	up_end();
	ck_assert_int_eq(status, 404);
	ck_assert_str_eq(err.code, "not_found");
	ck_assert_str_eq(err.message, "no such org");
	ck_assert_str_eq(err.field, "org");
	ck_assert_str_eq(err.detail, "req_9");
	up_start("HTTP/1.1 200 OK\r\n\r\nhello");
	ck_assert_int_eq(cli_api(&cli, "GET", STR("/x"), STR(""), &data, &status, &err),
			 RC_PROTOCOL);
	up_end();
	up_start("HTTP/1.1 503 Away\r\n\r\n"
		 "{\"error\":{\"code\":\"away\",\"message\":\"m\"}}  ");
	cli.json = true;
	capture();
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/x"), STR("")), CLI_UNREACHED);
	ck_assert_str_eq(captured(),
			 "{\"data\":null,\"error\":{\"code\":\"away\",\"message\":\"m\","
			 "\"hint\":null},\"meta\":{}}\n");
	up_end();
}
END_TEST

START_TEST(api_not_reachable_or_not_set_up)
{
	capture();
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/x"), STR("")), CLI_USAGE); /* no token */
	setenv("TOLLGATE_ADMIN_TOKEN", "fake", 1);
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/x"), STR("")), CLI_UNREACHED);
	setenv("TOLLGATE_ADMIN_LISTEN", "nonsense", 1);
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/x"), STR("")), CLI_USAGE);
	setenv("TOLLGATE_ADMIN_LISTEN", "unix:/nonexistent/x", 1);
	ck_assert_int_eq(cli_api_print(&cli, "GET", STR("/x"), STR("")), CLI_UNREACHED);
	captured();
}
END_TEST

START_TEST(api_over_a_unix_socket)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct json *data;
	struct err err = {0};
	char listen_at[128];
	int status;

	snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", dir);
	snprintf(listen_at, sizeof listen_at, "unix:%s", a.sun_path);
	setenv("TOLLGATE_ADMIN_LISTEN", listen_at, 1);
	setenv("TOLLGATE_ADMIN_TOKEN", "fake", 1);
	up.answer = "HTTP/1.1 200 OK\r\n\r\n{\"data\":7}";
	up.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(up.fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(up.fd, 4), 0);
	pthread_create(&up.thread, NULL, up_answer, NULL);
	ck_assert_int_eq(cli_api(&cli, "GET", STR("/x"), STR(""), &data, &status, &err), RC_OK);
	up_end();
	ck_assert_int_eq(json_type(data), JSON_INT);
	unlink(a.sun_path);
}
END_TEST

static void on_result(void *arg, const struct pg_result *r)
{
	int *calls = arg;

	ck_assert_int_ne(r->rc, RC_OK);
	(*calls)++;
}

START_TEST(database_away)
{
	static const struct sql_query one = {.name = "one", .text = "SELECT 1"};
	struct err err = {0};
	int calls = 0;

	struct pg_batch *b = pg_batch_new();

	pg_batch_add(b, &one);
	ck_assert_int_eq(cli_pg(&cli, b, on_result, &calls, &err), RC_INVALID);
	ck_assert_int_eq(calls, 0);
	ck_assert_str_eq(err.code, "no_database_url");
	setenv("TOLLGATE_DATABASE_URL", "host=/nonexistent dbname=x", 1);
	b = pg_batch_new();
	pg_batch_add(b, &one);
	ck_assert_int_eq(cli_pg(&cli, b, on_result, &calls, &err), RC_UNAVAILABLE);
	ck_assert_int_eq(calls, 1);
	ck_assert_str_eq(err.code, "database_unreachable");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cli");
	TCase *t = tcase_create("cli");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, flags);
	tcase_add_test(t, a_flag_without_value_is_left_over);
	tcase_add_test(t, one_envelope);
	tcase_add_test(t, human_forms);
	tcase_add_test(t, settings_on_demand);
	tcase_add_test(t, secrets);
	tcase_add_test(t, api_call);
	tcase_add_test(t, api_errors);
	tcase_add_test(t, api_not_reachable_or_not_set_up);
	tcase_add_test(t, api_over_a_unix_socket);
	tcase_add_test(t, database_away);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
