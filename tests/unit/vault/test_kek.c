/* One interface over local and remote master keys, waited for as commands do; and what a transit engine says. The
 * engine here is a thread on loopback that gives one answer to everything. All keys and tokens are fake. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/curlm.h"
#include "vault/kek_priv.h"
#include "vault/secret_priv.h"

#define FAKE_A "BRAbJjE8R1JdaHN+iZSfqrXAy9bh7PcCDRgjLjlET1o="

static const struct setting settings[] = {
	{.name = "master_key", .type = SETTING_STRING, .secret = true},
	{.name = "master_keys_old", .type = SETTING_STRING, .secret = true},
	{.name = "vault_transit_url", .type = SETTING_STRING},
	{.name = "vault_transit_mount", .type = SETTING_STRING, .def = "transit"},
	{.name = "vault_transit_key", .type = SETTING_STRING},
	{.name = "vault_transit_token", .type = SETTING_STRING, .secret = true},
	{.name = "vault_transit_namespace", .type = SETTING_STRING},
	{.name = "vault_transit_ca_file", .type = SETTING_STRING},
	{.name = "vault_transit_timeout_ms",
	 .type = SETTING_INT,
	 .def = "5000",
	 .min = 100,
	 .max = 30000},
	{.name = "vault_transit_current", .type = SETTING_BOOL, .def = "true"},
	SETTING_LAST};
static const struct setting *const tables[] = {settings, NULL};

static struct keyring ring;
static struct org_id org;
static const uint8_t dek[ENVELOPE_DEK_BYTES] = "thirty-two bytes of a data key.";

/* ---- the engine ---------------------------------------------------------------------------------- */

static struct {
	int fd, port, status, requests;
	const char *answer;
	char request[8192]; /* the last */
	pthread_t thread;
} engine;

static void *engine_main(void *arg)
{
	char head[256];
	int fd;

	while ((fd = accept(engine.fd, NULL, NULL)) >= 0) {
		size_t len = 0;
		char *end = NULL;

		memset(engine.request, 0, sizeof engine.request);
		while (!end ||
		       len < (size_t)(end + 4 - engine.request) +
				       strtoul(strstr(engine.request, "Content-Length:") + 15, NULL,
					       10)) {
			ssize_t n =
				recv(fd, engine.request + len, sizeof engine.request - 1 - len, 0);

			if (n <= 0)
				break;
			len += (size_t)n;
			end = strstr(engine.request, "\r\n\r\n");
		}
		engine.requests++;
		snprintf(head, sizeof head,
			 "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
			 engine.status, strlen(engine.answer));
		(void)!send(fd, head, strlen(head), MSG_NOSIGNAL);
		(void)!send(fd, engine.answer, strlen(engine.answer), MSG_NOSIGNAL);
		close(fd);
	}
	return NULL;
}

static void engine_start(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	socklen_t len = sizeof in;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	engine.fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(engine.fd, (struct sockaddr *)&in, sizeof in), 0);
	ck_assert_int_eq(listen(engine.fd, 8), 0);
	ck_assert_int_eq(getsockname(engine.fd, (struct sockaddr *)&in, &len), 0);
	engine.port = ntohs(in.sin_port);
	engine.requests = 0;
	ck_assert_int_eq(pthread_create(&engine.thread, NULL, engine_main, NULL), 0);
}

static void engine_stop(void)
{
	shutdown(engine.fd, SHUT_RDWR);
	close(engine.fd);
	pthread_join(engine.thread, NULL);
}

/* ---- fixtures ------------------------------------------------------------------------------------ */

static void setup(void)
{
	struct err err;
	bool locked;

	clearenv();
	signal(SIGPIPE, SIG_IGN);
	curlm_global_init();
	ck_assert_int_eq(secret_heap_start(&err, &locked), RC_OK);
	ck_assert_int_eq(aead_start(), RC_OK);
	ck_assert_int_eq(uuid_parse(STR("019a0000-0000-7000-8000-0000000000ff"), &org.u), RC_OK);
	ring = (struct keyring){.count = 0};
}

static void teardown(void)
{
	keyring_clear(&ring);
	aead_stop();
}

static void load(void)
{
	struct config *c = NULL;
	struct err err = {0};

	ck_assert_msg(config_load(tables, NULL, &c, &err) == RC_OK, "%s", err.message);
	ck_assert_msg(keyring_load(&ring, c, &err) == RC_OK, "%s", err.message);
	config_free(c);
}

static void load_transit(void)
{
	char url[64];

	snprintf(url, sizeof url, "http://127.0.0.1:%d", engine.port);
	setenv("TOLLGATE_VAULT_TRANSIT_URL", url, 1);
	setenv("TOLLGATE_VAULT_TRANSIT_KEY", "tollgate", 1);
	setenv("TOLLGATE_VAULT_TRANSIT_TOKEN", "hvs.fake-token", 1);
	load();
}

/* ---- tests --------------------------------------------------------------------------------------- */

START_TEST(a_local_key_wraps_and_unwraps)
{
	uint8_t got[ENVELOPE_DEK_BYTES];
	struct kek_wrapped w = {.kek_ver = 0};
	struct err err;

	setenv("TOLLGATE_MASTER_KEY", FAKE_A, 1);
	load();
	ck_assert_int_eq(kek_wrap_wait(&ring, org, 3, dek, &w, &err), RC_OK);
	ck_assert_str_eq(w.kek_id, ring.keks[0].id);
	ck_assert_str_eq(w.kek_id, kek_current(&ring));
	ck_assert_int_eq(w.kek_ver, KEYRING_VER);
	ck_assert_int_eq(keyring_canary_open(&ring.keks[0], kek_text_str(&w.canary)), RC_OK);
	ck_assert_int_eq(kek_unwrap_wait(&ring, org, 3, str_from(w.kek_id), w.kek_ver,
					 kek_text_str(&w.wrapped), got, &err),
			 RC_OK);
	ck_assert_mem_eq(got, dek, sizeof got);
	/* The blocking function of before says the same. */
	ck_assert_int_eq(keyring_unwrap(&ring, org, 3, str_from(w.kek_id), w.kek_ver,
					kek_text_str(&w.wrapped), got),
			 RC_OK);
	ck_assert_int_eq(kek_unwrap_wait(&ring, org, 4, str_from(w.kek_id), w.kek_ver,
					 kek_text_str(&w.wrapped), got, &err),
			 RC_CORRUPT);
	ck_assert_int_eq(kek_unwrap_wait(&ring, org, 3, STR("0123456789abcdef"), 1,
					 kek_text_str(&w.wrapped), got, &err),
			 RC_NOT_FOUND);
}
END_TEST

START_TEST(a_transit_key_wraps_and_unwraps)
{
	uint8_t got[ENVELOPE_DEK_BYTES], out[ENVELOPE_WRAPPED_SIZE];
	struct kek_wrapped w = {.kek_ver = 0};
	struct err err;

	engine.status = 200;
	engine.answer = "{\"data\":{\"ciphertext\":\"vault:v7:QUJD\",\"key_version\":7}}";
	engine_start();
	load_transit();
	ck_assert_int_eq(keyring_wrap(&ring, org, 1, dek, out), RC_UNSUPPORTED);
	ck_assert_int_eq(kek_wrap_wait(&ring, org, 1, dek, &w, &err), RC_OK);
	ck_assert_int_eq(engine.requests, 2); /* the key, and the canary of its version */
	ck_assert_ptr_nonnull(strstr(engine.request, "POST /v1/transit/encrypt/tollgate HTTP"));
	ck_assert_ptr_nonnull(strstr(engine.request, "X-Vault-Token: hvs.fake-token\r\n"));
	ck_assert_ptr_nonnull(strstr(engine.request, "\"key_version\":7"));
	ck_assert_str_eq(w.kek_id, transit_id(ring.transit));
	ck_assert_str_eq(w.kek_id, kek_current(&ring));
	ck_assert_int_eq(w.kek_ver, 7);
	ck_assert(str_is(kek_text_str(&w.wrapped), "vault:v7:QUJD"));
	ck_assert_int_eq(kek_wrap_wait(&ring, org, 2, dek, &w, &err), RC_OK);
	ck_assert_int_eq(engine.requests, 3); /* its canary is known */

	engine.answer = "{\"data\":{\"plaintext\":"
			"\"dGhpcnR5LXR3byBieXRlcyBvZiBhIGRhdGEga2V5LgA=\"}}";
	ck_assert_int_eq(
		keyring_unwrap(&ring, org, 1, str_from(w.kek_id), 7, STR("vault:v7:QUJD"), got),
		RC_OK);
	ck_assert_mem_eq(got, dek, sizeof got);
	/* Not the version of its row: never sent. */
	engine.requests = 0;
	ck_assert_int_eq(
		keyring_unwrap(&ring, org, 1, str_from(w.kek_id), 6, STR("vault:v7:QUJD"), got),
		RC_CORRUPT);
	ck_assert_int_eq(engine.requests, 0);
	engine.status = 400;
	engine.answer = "{\"errors\":[\"cipher: message authentication failed\"]}";
	ck_assert_int_eq(
		keyring_unwrap(&ring, org, 1, str_from(w.kek_id), 7, STR("vault:v7:QUJD"), got),
		RC_CORRUPT);
	engine_stop();
}
END_TEST

START_TEST(v18_an_engine_that_fails_is_left_alone_for_a_while)
{
	struct kek_wrapped w;
	struct err err;
	char words[160];

	engine.status = 503;
	engine.answer = "{\"errors\":[\"Vault is sealed\"]}";
	engine_start();
	load_transit();
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(kek_wrap_wait(&ring, org, 1, dek, &w, &err), RC_UNAVAILABLE);
		ck_assert_str_eq(err.code, "vault_unavailable");
		ck_assert_int_ge(err.retry_after_s, 1);
	}
	ck_assert_int_le(engine.requests, 2);
	ck_assert(!kek_is_well(&ring, words, sizeof words));
	ck_assert_ptr_nonnull(strstr(words, "sealed"));
	ck_assert_uint_ge(transit_count(ring.transit, TRANSIT_SHORT), 3);
	engine_stop();
}
END_TEST

START_TEST(what_a_text_of_transit_looks_like)
{
	static const char *const good[] = {"vault:v1:A", "vault:v999999999:AAAA+/=="};
	static const char *const bad[] = {"",
					  "vault:v1:",
					  "vault:v0:A",
					  "vault:v:A",
					  "vault:v01:A",
					  "vault:v1A",
					  "vault:v-1:A",
					  "Vault:v1:A",
					  "vault:v1:a b",
					  "vault:v1",
					  "vault:v1234567890:A",
					  "vault:v1:\n",
					  "vault:v1:\xc3\xa4"};
	char longest[TRANSIT_TEXT_MAX + 2];
	int64_t ver;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		ck_assert_msg(transit_text_ver(str_from(good[i]), &ver), "%s", good[i]);
	ck_assert_int_eq(ver, 999999999);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!transit_text_ver(str_from(bad[i]), &ver), "%s", bad[i]);
	memset(longest, 'A', sizeof longest);
	memcpy(longest, "vault:v1:", 9);
	ck_assert(transit_text_ver(str_of(longest, TRANSIT_TEXT_MAX), &ver));
	ck_assert(!transit_text_ver(str_of(longest, TRANSIT_TEXT_MAX + 1), &ver));
}
END_TEST

static enum rc reads(enum transit_what what, const char *body)
{
	struct arena *mem = arena_new(65536);
	struct transit_answer a;
	enum rc rc = transit_read(what, str_from(body), mem, &a);

	arena_free(mem);
	return rc;
}

START_TEST(what_is_no_answer_of_a_transit_engine)
{
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"data\":null}",
		"{\"data\":[]}",
		"{\"data\":{\"ciphertext\":7}}",
		"{\"data\":{\"ciphertext\":\"vault:v1:\"}}",
		"{\"data\":{\"ciphertext\":\"vault:v1:A\"}",
		"{\"data\":{\"plaintext\":\"QUJD\"}}",
		"{\"data\":{\"plaintext\":\"dGhpcnR5LXR3byBieXRlcyBvZiBhIGRhdGEga2V5LgAA\"}}",
		"{\"data\":{\"plaintext\":\"*GhpcnR5LXR3byBieXRlcyBvZiBhIGRhdGEga2V5LgA=\"}}",
		"{\"auth\":{}}",
		"{\"auth\":{\"lease_duration\":-1,\"renewable\":true}}",
		"{\"auth\":{\"lease_duration\":1.5,\"renewable\":true}}",
		"{\"auth\":{\"lease_duration\":1,\"renewable\":\"yes\"}}"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		for (int what = TRANSIT_SEAL; what <= TRANSIT_RENEW; what++)
			ck_assert_msg(reads((enum transit_what)what, bad[i]) == RC_PROTOCOL, "%s",
				      bad[i]);
	ck_assert_int_eq(
		reads(TRANSIT_RENEW, "{\"auth\":{\"lease_duration\":60,\"renewable\":true}}"),
		RC_OK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kek");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_local_key_wraps_and_unwraps);
	tcase_add_test(t, a_transit_key_wraps_and_unwraps);
	tcase_add_test(t, v18_an_engine_that_fails_is_left_alone_for_a_while);
	tcase_add_test(t, what_a_text_of_transit_looks_like);
	tcase_add_test(t, what_is_no_answer_of_a_transit_engine);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
