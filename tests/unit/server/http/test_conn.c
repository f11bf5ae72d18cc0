/* tests/unit/server/http/test_conn.c - a real loop, front and listener in a thread, and a peer that
 * speaks bytes. What a test waits for is the server's doing (an answer, a close, a count), never time;
 * deadlines are made short, and a receive timeout turns a hang into a failure. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "server/http/http.h"
#include "server/http/http_priv.h"

#define WAIT_S 5

/* --- the server -------------------------------------------------------------------------------- */
static struct {
	struct worker worker;
	struct http_front *front;
	pthread_t thread;
	char bound[128], admin[128], unix_path[128];
	_Atomic int handled, gone, paused, drained, authenticated, finished;
	_Atomic bool stale;
	struct http_request *held;
	size_t streamed;
	bool produce_ended;
} s;

static void handle_echo(struct http_request *r)
{
	s.handled++;
	http_reply_typed(r, 200, "text/plain", r->body);
}

static void handle_show(struct http_request *r)
{
	struct str text = arena_printf(r->mem, "%.*s|%.*s|%.*s|%s|%d", STR_FMT(r->path),
				       STR_FMT(r->params[0]), STR_FMT(r->params[1]),
				       r->endpoint->path, (int)r->headers_count);

	s.handled++;
	http_reply_typed(r, 200, "text/plain", text);
}

static void handle_inject(struct http_request *r)
{
	s.handled++;
	http_add_header(r, "x-evil", STR("a\r\nX-Split: 1\r\n\r\n<b>\x80\x7f\0z"));
	http_add_header(r, "x-na\r\nme: y\nz", STR("v"));
	http_reply(r, 200, STR("{}"));
}

static void handle_fail(struct http_request *r)
{
	struct err e;

	s.handled++;
	err_set(&e, RC_LIMIT, "rate_limit_exceeded", "slow \"down\"\r\nX: y");
	e.retry_after_s = 7;
	http_reply_err(r, RC_LIMIT, &e);
}

static void handle_data(struct http_request *r)
{
	s.handled++;
	http_reply_data(r, 201, STR("{\"a\":1}"), STR("\"next_cursor\":null"));
}

static void handle_stream(struct http_request *r)
{
	s.handled++;
	http_stream_begin(r);
	http_stream_write(r, STR("data: one\n\n"));
	http_stream_write(r, STR(""));
	http_stream_write(r, STR("data: two\n\n"));
	if (http_query(r, "cut").ptr)
		http_stream_abort(r);
	else
		http_stream_end(r);
}

static void gone_answer(void *arg)
{
	s.gone++;
	ck_assert(http_is_gone(arg));
	http_reply(arg, 200, STR("{}"));
}

static void handle_hang(struct http_request *r)
{
	s.handled++;
	http_on_gone(r, gone_answer, r);
}

static void hold_release(void *arg)
{
	(void)arg;
	http_reply_typed(s.held, 200, "text/plain", STR("released"));
}

static void handle_hold(struct http_request *r)
{
	s.held = r;
	s.handled++;
}

static const char block[16384];
static void produce(void *arg)
{
	while (s.streamed < 32u * 1024 * 1024) {
		s.streamed += sizeof block;
		if (!http_stream_write(arg, str_of(block, sizeof block))) {
			s.paused++;
			return;
		}
	}
	if (!s.produce_ended)
		http_stream_end(arg);
	s.produce_ended = true;
	s.finished++;
}

static void on_drain(void *arg)
{
	s.drained++;
	produce(arg);
}

static void on_big_gone(void *arg)
{
	s.gone++;
	http_stream_end(arg);
	s.produce_ended = true;
}

static void handle_big(struct http_request *r)
{
	s.handled++;
	s.streamed = 0;
	s.produce_ended = false;
	http_on_drain(r, on_drain, r);
	http_on_gone(r, on_big_gone, r);
	http_stream_begin(r);
	produce(r);
}

#define BOTH (SURFACE_DATA | SURFACE_ADMIN)
static const struct endpoint endpoints[] = {
	{"POST", "/echo", SURFACE_DATA, 1, 0, true, handle_echo, ""},
	{"POST", "/small", SURFACE_DATA, 1, 10, true, handle_echo, ""},
	{"GET", "/public", BOTH, ROLES_ANYONE, 0, false, handle_show, ""},
	{"GET", "/items/{id}/{rest...}", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_show, ""},
	{"GET", "/v1/models", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_show, ""},
	{"GET", "/inject", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_inject, ""},
	{"GET", "/fail", BOTH, ROLES_ANYONE, 0, false, handle_fail, ""},
	{"GET", "/data", SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_data, ""},
	{"GET", "/stream", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_stream, ""},
	{"GET", "/hang", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_hang, ""},
	{"GET", "/hold", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_hold, ""},
	{"GET", "/big", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_big, ""},
	{.path = NULL}};
static const struct endpoint *const tables[] = {endpoints, NULL};

struct later {
	http_auth_done *done;
	void *arg;
};
static struct later later;

static void auth_later(void *arg)
{
	(void)arg;
	later.done(later.arg, RC_OK, NULL);
}

static void authenticate(struct http_request *r, http_auth_done *done, void *arg)
{
	struct str key = http_header(r, "authorization");
	struct err e;

	s.authenticated++;
	r->roles = str_is(key, "Bearer weak") ? 2 : 1;
	r->principal = r;
	if (str_is(key, "Bearer slow")) {
		later = (struct later){done, arg};
		loop_defer(s.worker.loop, auth_later, NULL);
	} else if (str_is(key, "Bearer held")) {
		later = (struct later){done, arg};
	} else if (str_is(key, "Bearer once") && s.authenticated == 1) {
		done(arg, RC_OK, NULL);
	} else if (str_is(key, "Bearer good") || str_is(key, "Bearer weak") ||
		   str_is(key, "Bearer other")) {
		done(arg, RC_OK, NULL);
	} else {
		r->principal = NULL;
		done(arg, err_set(&e, RC_DENIED, "invalid_api_key", "No such key."), &e);
	}
}

static enum rc authorise(struct http_request *r, struct err *err)
{
	if (str_is(http_header(r, "authorization"), "Bearer other"))
		return err_set(err, RC_NOT_FOUND, "not_found", "Not yours.");
	return RC_OK;
}

static bool is_stale(const struct http_request *r)
{
	return s.stale;
}

static void *server_main(void *arg)
{
	loop_run(s.worker.loop);
	return arg;
}

static void stop(void *arg)
{
	http_front_free(s.front);
	s.front = NULL;
	loop_stop(arg);
}

static void start_with(const struct http_limits *l)
{
	struct http_listener *listener;
	struct err err;

	memset(&s, 0, sizeof s);
	http_hooks = (struct http_hooks){
		.authenticate = authenticate, .authorise = authorise, .is_stale = is_stale};
	s.worker = (struct worker){.loop = loop_new()};
	s.front = http_front_new_limits(&s.worker, tables, l);
	ck_assert(http_listen(s.front, "127.0.0.1:0", SURFACE_DATA, &listener, s.bound, &err) ==
		  RC_OK);
	ck_assert(http_listen(s.front, "[::1]:0", SURFACE_ADMIN, &listener, s.admin, &err) ==
			  RC_OK ||
		  http_listen(s.front, "127.0.0.1:0", SURFACE_ADMIN, &listener, s.admin, &err) ==
			  RC_OK);
	ck_assert(pthread_create(&s.thread, NULL, server_main, NULL) == 0);
}

static struct http_limits short_limits(void)
{
	struct http_limits l = http_limits_default;

	l.head_timeout_ms = 300;
	l.body_timeout_ms = 300;
	l.idle_timeout_ms = 300;
	l.write_stall_ms = 300;
	l.linger_ms = 300;
	l.bad_heads_per_minute_max = 0;
	l.body_bytes_max = 1 << 20;
	return l;
}

static void start(void)
{
	struct http_limits l = short_limits();

	start_with(&l);
}

static void finish(void)
{
	loop_post(s.worker.loop, stop, s.worker.loop);
	pthread_join(s.thread, NULL);
	loop_free(s.worker.loop);
	ck_assert_int_eq(atomic_load(&http_counters.open), 0);
	http_tls_unload();
}

/* --- the peer ------------------------------------------------------------------------------------ */
static int dial_to(const char *address)
{
	struct timeval tv = {.tv_sec = WAIT_S};
	const char *colon = strrchr(address, ':');
	struct sockaddr_in v4 = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)atoi(colon + 1)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
				  .sin6_port = v4.sin_port,
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool six = address[0] == '[';
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	ck_assert(connect(fd, six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
			  six ? sizeof v6 : sizeof v4) == 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	return fd;
}

static int dial(void)
{
	return dial_to(s.bound);
}

static void say(int fd, const char *text)
{
	size_t n = strlen(text);

	ck_assert_int_eq(send(fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
}

static char heard[1 << 21];

/* Read until `needle` has come `times` times; fails on close or silence. */
static void hear(int fd, const char *needle, int times)
{
	size_t n = 0;

	heard[0] = '\0';
	for (;;) {
		int found = 0;
		ssize_t got;

		for (char *p = heard; (p = strstr(p, needle)); p++)
			found++;
		if (found >= times)
			return;
		got = recv(fd, heard + n, sizeof heard - 1 - n, 0);
		ck_assert_msg(got > 0, "no \"%s\" in: %s", needle, heard);
		n += (size_t)got;
		heard[n] = '\0';
	}
}

/* Read to the close; returns the bytes. A reset after the answer is no failure of the peer's. */
static size_t hear_all(int fd)
{
	size_t n = 0;
	ssize_t got;

	while ((got = recv(fd, heard + n, sizeof heard - 1 - n, 0)) > 0)
		n += (size_t)got;
	ck_assert_msg(got == 0 || errno == ECONNRESET, "not closed: %s", strerror(errno));
	heard[n] = '\0';
	close(fd);
	return n;
}

static int status(void)
{
	return strncmp(heard, "HTTP/1.1 ", 9) == 0 ? atoi(heard + 9) : 0;
}

static void ask(const char *wire)
{
	int fd = dial();

	say(fd, wire);
	hear_all(fd);
}

static void wait_for(_Atomic int *n, int value)
{
	for (int i = 0; i < WAIT_S * 1000 && atomic_load(n) < value; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	ck_assert_int_ge(atomic_load(n), value);
}

#define GOOD	   "Authorization: Bearer good\r\n"
#define CLOSE	   "Connection: close\r\n"
#define HEAD(m, p) m " " p " HTTP/1.1\r\nHost: a\r\n"

/* Until the server has seen the last peer's close. */
static void wait_empty(void)
{
	for (int i = 0; i < WAIT_S * 1000 && atomic_load(&http_counters.open) > 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	ck_assert_int_eq(atomic_load(&http_counters.open), 0);
}

/* --- tests ----------------------------------------------------------------------------------------- */
START_TEST(plain_answers)
{
	ask(HEAD("GET", "/public?x=1") CLOSE "\r\n");
	ck_assert_int_eq(status(), 200);
	ck_assert_ptr_nonnull(strstr(heard, "/public|||/public|2"));
	ck_assert_ptr_nonnull(strstr(heard, "x-request-id: req_"));
	ck_assert_ptr_nonnull(strstr(heard, "connection: close"));
	ask(HEAD("HEAD", "/public") CLOSE "\r\n");
	ck_assert_int_eq(status(), 200);
	ck_assert_ptr_nonnull(strstr(heard, "content-length: 19\r\n"));
	ck_assert_str_eq(strstr(heard, "\r\n\r\n"), "\r\n\r\n");
	ask(HEAD("GET", "/items/a%20b/c/d%2Fe") CLOSE "\r\n");
	ck_assert_ptr_nonnull(strstr(heard, "|a b|c/d/e|"));
	ask(HEAD("GET", "/openai/v1/models") CLOSE "\r\n");
	ck_assert_ptr_nonnull(strstr(heard, "/v1/models|"));
	ask("GET /public HTTP/1.0\r\n\r\n");
	ck_assert_int_eq(status(), 200);
	ask(HEAD("POST", "/echo") GOOD CLOSE
	    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
	ck_assert_ptr_nonnull(strstr(heard, "\r\n\r\nabc"));
	ask(HEAD("POST", "/echo") "Authorization: Bearer slow\r\n" CLOSE
				  "Content-Length: 3\r\n\r\nxyz");
	ck_assert_ptr_nonnull(strstr(heard, "\r\n\r\nxyz"));
}
END_TEST

START_TEST(kept_alive_and_pipelined)
{
	char many[100 * 80];
	int fd = dial(), n = 0;

	for (int i = 0; i < 100; i++)
		n += snprintf(many + n, sizeof many - (size_t)n, HEAD("GET", "/items/%d/x") "\r\n",
			      i);
	say(fd, many);
	hear(fd, "/x|", 100);
	for (int i = 0; i < 99; i++) { /* in order */
		char a[32], b[32];

		snprintf(a, sizeof a, "/items/%d/x|", i);
		snprintf(b, sizeof b, "/items/%d/x|", i + 1);
		ck_assert(strstr(heard, a) < strstr(heard, b));
	}
	say(fd, HEAD("POST", "/echo") GOOD "Content-Length: 2\r\n\r\nhi");
	hear(fd, "\r\n\r\nhi", 1);
	ck_assert_int_eq(status(), 200);
	hear_all(fd); /* closed when idle for long enough */
	ck_assert_str_eq(heard, "");
}
END_TEST

static const struct refused {
	const char *wire;
	int status;
	bool authenticated;
} refused[] = {
	{"GET / HTTP/1.1\r\n\r\n", 400, false},
	{"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 405, false},
	{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, false},
	{HEAD("CONNECT", "a:1") "\r\n", 405, false},
	{HEAD("GET", "/nowhere") CLOSE "\r\n", 404, false},
	{HEAD("GET", "//public") CLOSE "\r\n", 404, false},
	{HEAD("GET", "/data") CLOSE "\r\n", 404, false},
	{HEAD("POST", "/public") CLOSE "\r\n", 405, false},
	{HEAD("POST", "/echo") "Content-Length: 2\r\n\r\nhi", 401, true},
	{HEAD("POST", "/echo") "Authorization: Bearer weak\r\nContent-Length: 2\r\n\r\nhi", 403,
	 true},
	{HEAD("POST", "/echo") "Authorization: Bearer other\r\nContent-Length: 2\r\n\r\nhi", 404,
	 true},
	{HEAD("POST", "/echo") GOOD "\r\nhi", 411, true},
	{HEAD("POST", "/echo") GOOD "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi", 415,
	 true},
	{HEAD("POST", "/echo") GOOD "Expect: tea\r\nContent-Length: 2\r\n\r\nhi", 417, false},
	{HEAD("POST", "/small") GOOD "Content-Length: 11\r\n\r\n01234567890", 413, true},
	{HEAD("POST", "/small") GOOD "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n", 413,
	 true},
	{HEAD("POST", "/small") "Content-Length: 1\r\nExpect: 100-continue\r\n\r\n", 401, true},
	{HEAD("POST", "/small") GOOD
	 "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
	 413, true},
	{HEAD("POST", "/echo") GOOD "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", 400, true},
	{HEAD("POST", "/echo") GOOD
	 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	 400, false},
	{HEAD("POST", "/echo") GOOD "Content-Length: 100\r\n\r\nabc", 408, true},
	{HEAD("POST", "/echo") GOOD "Transfer-Encoding: chunked\r\n\r\n5\r\nhe", 408, true},
	{"GET / HT", 408, false},
};

START_TEST(refused_and_closed_without_effect)
{
	const struct refused *r = &refused[_i];

	ask(r->wire);
	ck_assert_msg(status() == r->status, "%s\n-> %s", r->wire, heard);
	ck_assert_int_eq(s.handled, 0);
	ck_assert_int_eq(s.authenticated, r->authenticated);
	ck_assert_ptr_nonnull(strstr(heard, "connection: close\r\n"));
	ck_assert_ptr_nonnull(strstr(heard, "x-request-id: req_"));
	ck_assert_ptr_nonnull(strstr(heard, "\"tollgate\":{"));
	ck_assert_ptr_null(strstr(heard, "100 Continue"));
	/* nothing behind it was answered */
	ck_assert_ptr_null(strstr(strstr(heard, "x-request-id") + 1, "x-request-id"));
	/* of the path; of all paths where the method alone was enough to refuse */
	if (r->status == 405)
		ck_assert_ptr_nonnull(strstr(heard, strchr("BC", r->wire[0])
							    ? "allow: GET, HEAD, POST,"
							    : "allow: GET, HEAD\r\n"));
}
END_TEST

START_TEST(silence_and_tls_are_closed_without_a_word)
{
	int fd = dial();

	ck_assert_uint_eq(hear_all(fd), 0);
	fd = dial();
	send(fd, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, MSG_NOSIGNAL);
	ck_assert_uint_eq(hear_all(fd), 0);
}
END_TEST

START_TEST(options)
{
	ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n" CLOSE "\r\n");
	ck_assert_int_eq(status(), 204);
	ask(HEAD("OPTIONS", "/public") CLOSE "\r\n");
	ck_assert_int_eq(status(), 204);
	ck_assert_ptr_nonnull(strstr(heard, "allow: GET, HEAD\r\n"));
	ck_assert_ptr_null(strstr(heard, "content-length"));
	ask(HEAD("OPTIONS", "/nowhere") CLOSE "\r\n");
	ck_assert_int_eq(status(), 404);
	ck_assert_int_eq(s.handled, 0);
}
END_TEST

START_TEST(continue_only_when_the_body_is_wanted)
{
	int fd = dial();

	say(fd,
	    HEAD("POST", "/echo") GOOD CLOSE "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	hear(fd, "HTTP/1.1 100 Continue\r\n\r\n", 1);
	ck_assert_int_eq(s.handled, 0);
	say(fd, "ok");
	hear_all(fd);
	ck_assert_int_eq(status(), 200);
	ck_assert_ptr_nonnull(strstr(heard, "\r\n\r\nok"));
}
END_TEST

START_TEST(a_body_may_come_while_its_sender_is_looked_up)
{
	int fd = dial();

	say(fd, HEAD("POST", "/echo") "Authorization: Bearer held\r\n" CLOSE
				      "Content-Length: 6\r\n\r\n");
	wait_for(&s.authenticated, 1);
	say(fd, "abc");
	/* the server has read those when it answers another connection */
	ask(HEAD("GET", "/public") CLOSE "\r\n");
	loop_post(s.worker.loop, auth_later, NULL);
	say(fd, "def");
	hear_all(fd);
	ck_assert_ptr_nonnull(strstr(heard, "\r\n\r\nabcdef"));
}
END_TEST

START_TEST(who_may_have_been_revoked_is_asked_again_behind_the_body)
{
	static const char *const keys[] = {"good", "slow", "once"};

	for (int i = 0; i < 3; i++) {
		char head[256];
		int fd = dial();

		s.authenticated = s.handled = 0;
		s.stale = false;
		snprintf(head, sizeof head,
			 HEAD("POST", "/echo") "Authorization: Bearer %s\r\n"
					       "Content-Length: 6\r\n\r\nabc",
			 keys[i]);
		say(fd, head);
		wait_for(&s.authenticated, 1);
		s.stale = true;
		say(fd, "def");
		/* the body was read: another request may follow on this connection */
		say(fd, HEAD("GET", "/public") CLOSE "\r\n");
		hear_all(fd);
		ck_assert_int_eq(s.authenticated, 2);
		ck_assert_int_eq(status(), i < 2 ? 200 : 401);
		ck_assert_int_eq(s.handled, i < 2 ? 2 : 1);
		ck_assert_int_eq(strstr(heard, "\r\n\r\nabcdef") != NULL, i < 2);
	}
}
END_TEST

START_TEST(a_large_body_arrives_whole_and_no_further)
{
	static char body[1000000 + 1];
	int fd = dial();
	char *at;

	for (size_t i = 0; i < sizeof body - 1; i++)
		body[i] = (char)('a' + i * 7 % 23);
	say(fd, HEAD("POST", "/echo") GOOD "Content-Length: 1000000\r\n\r\n");
	say(fd, body);
	say(fd, HEAD("GET", "/public") CLOSE "\r\n");
	hear_all(fd);
	at = strstr(heard, "\r\n\r\n") + 4;
	ck_assert(memcmp(at, body, sizeof body - 1) == 0);
	ck_assert(strncmp(at + sizeof body - 1, "HTTP/1.1 200 ", 13) == 0);
	fd = dial(); /* a body that ends too early is no body */
	say(fd, HEAD("POST", "/echo") GOOD "Content-Length: 1000000\r\n\r\nabc");
	shutdown(fd, SHUT_WR);
	hear_all(fd);
	ck_assert_int_eq(s.handled, 2);
}
END_TEST

START_TEST(nothing_splits_an_answer)
{
	ask(HEAD("GET", "/inject") CLOSE "\r\n");
	ck_assert_int_eq(status(), 200);
	ck_assert_ptr_null(strstr(heard, "\nX-Split"));
	ck_assert_ptr_nonnull(strstr(heard, "x-evil: a?\?X-Split: 1?\?\?\?<b>?\?\?z\r\n"));
	ck_assert_ptr_nonnull(strstr(heard, "x-na?\?me: y?z: v\r\n"));
	ask(HEAD("GET", "/fail") CLOSE "\r\n");
	ck_assert_int_eq(status(), 429);
	ck_assert_ptr_nonnull(strstr(heard, "retry-after: 7\r\n"));
	ck_assert_ptr_nonnull(strstr(heard, "x-should-retry: true\r\n"));
	ck_assert_ptr_nonnull(strstr(heard, "slow \\\"down\\\""));
}
END_TEST

START_TEST(the_admin_envelope)
{
	int fd = dial_to(s.admin);

	say(fd, HEAD("GET", "/data") CLOSE "\r\n");
	hear_all(fd);
	ck_assert_int_eq(status(), 201);
	ck_assert_ptr_nonnull(strstr(
		heard, "{\"data\":{\"a\":1},\"error\":null,\"meta\":{\"request_id\":\"req_"));
	ck_assert_ptr_nonnull(strstr(heard, "\",\"next_cursor\":null}}"));
	fd = dial_to(s.admin);
	say(fd, HEAD("GET", "/fail") CLOSE "\r\n");
	hear_all(fd);
	ck_assert_int_eq(status(), 429);
	ck_assert_ptr_nonnull(
		strstr(heard, "{\"data\":null,\"error\":{\"code\":\"rate_limit_exceeded\""));
	fd = dial_to(s.admin);
	say(fd, HEAD("POST", "/echo") GOOD "Content-Length: 1\r\n\r\nx");
	hear_all(fd);
	ck_assert_int_eq(status(), 404); /* the other surface's */
}
END_TEST

START_TEST(streams)
{
	ask(HEAD("GET", "/stream") CLOSE "\r\n");
	ck_assert_ptr_nonnull(strstr(heard, "content-type: text/event-stream\r\n"));
	ck_assert_ptr_nonnull(strstr(heard, "x-accel-buffering: no\r\n"));
	ck_assert_ptr_nonnull(
		strstr(heard, "\r\n\r\nb\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n0\r\n\r\n"));
	ask(HEAD("GET", "/stream?cut") CLOSE "\r\n");
	ck_assert_ptr_nonnull(strstr(heard, "two"));
	ck_assert_ptr_null(strstr(heard, "\r\n0\r\n"));
	ask("GET /stream HTTP/1.0\r\n\r\n");
	ck_assert_str_eq(strstr(heard, "\r\n\r\n"), "\r\n\r\ndata: one\n\ndata: two\n\n");
	ck_assert_ptr_null(strstr(heard, "transfer-encoding"));
	ask(HEAD("HEAD", "/stream") CLOSE "\r\n");
	ck_assert_str_eq(strstr(heard, "\r\n\r\n"), "\r\n\r\n");
}
END_TEST

START_TEST(a_slow_reader_is_waited_for)
{
	int fd = dial(), little = 65536;
	size_t n = 0;
	ssize_t got;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
	say(fd, HEAD("GET", "/big") CLOSE "\r\n");
	wait_for(&s.paused, 1); /* the stream is larger than all buffers of the kernel */
	while ((got = recv(fd, heard, sizeof heard, 0)) > 0)
		n += (size_t)got;
	close(fd);
	ck_assert_int_eq(got, 0);
	ck_assert_uint_gt(n, 32u * 1024 * 1024);
	wait_for(&s.finished, 1);
	ck_assert_int_ge(s.drained, 1);
	ck_assert_int_eq(s.gone, 0);
}
END_TEST

START_TEST(who_never_reads_is_cut)
{
	int fd = dial();

	say(fd, HEAD("GET", "/big") "\r\n");
	wait_for(&s.gone, 1);
	/* what was produced is what the kernel took and one high-water mark, not the stream */
	ck_assert_uint_lt(s.streamed, 32u * 1024 * 1024);
	close(fd);
}
END_TEST

static void reset(int fd)
{
	struct linger l = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(fd);
}

START_TEST(a_reset_is_noticed_while_the_handler_works)
{
	int fd = dial();

	say(fd, HEAD("GET", "/hang") "\r\n");
	wait_for(&s.handled, 1);
	reset(fd);
	wait_for(&s.gone, 1);
	/* the same when it had sent more, and we had stopped reading */
	fd = dial();
	say(fd, HEAD("GET", "/hang") "\r\n" HEAD("GET", "/public") "\r\n");
	wait_for(&s.handled, 2);
	say(fd, HEAD("GET", "/public") "\r\n");
	reset(fd);
	wait_for(&s.gone, 2);
	ck_assert_int_eq(s.handled, 2);
}
END_TEST

START_TEST(a_half_closed_peer_gets_its_answer)
{
	int fd = dial();

	say(fd, HEAD("GET", "/hold") "\r\n" HEAD("GET", "/public") "\r\n");
	shutdown(fd, SHUT_WR);
	wait_for(&s.handled, 1);
	loop_post(s.worker.loop, hold_release, NULL);
	hear_all(fd);
	ck_assert_ptr_nonnull(strstr(heard, "released"));
	ck_assert_ptr_nonnull(strstr(heard, "/public|||"));
	ck_assert_int_eq(s.gone, 0);
	fd = dial(); /* and after a reset it is noticed even so */
	say(fd, HEAD("GET", "/hang") "\r\n");
	shutdown(fd, SHUT_WR);
	wait_for(&s.handled, 3);
	reset(fd);
	wait_for(&s.gone, 1);
}
END_TEST

START_TEST(bytes_behind_a_request_wait)
{
	static const char filler[65536] = {'x'};
	int fd = dial(), sent = 0;
	ssize_t n;

	say(fd, HEAD("GET", "/hold") "\r\n");
	wait_for(&s.handled, 1);
	/* far more than is taken: the kernel's buffers fill, ours do not */
	while (sent < 64 * 1024 * 1024 &&
	       (n = send(fd, filler, sizeof filler, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		sent += (int)n;
	ck_assert_int_lt(sent, 64 * 1024 * 1024);
	loop_post(s.worker.loop, hold_release, NULL);
	hear(fd, "HTTP/1.1 ", 2);
	ck_assert_int_eq(s.handled, 1);
	ck_assert_ptr_nonnull(strstr(heard, "released"));
	close(fd);
}
END_TEST

START_TEST(drain)
{
	int idle = dial(), busy = dial();
	struct http_front *f = s.front;

	say(idle, HEAD("GET", "/public") "\r\n");
	hear(idle, "/public|", 1);
	say(busy, HEAD("GET", "/hold") "\r\n");
	wait_for(&s.handled, 2);
	ck_assert_uint_eq(http_front_open(f), 1);
	loop_post(s.worker.loop, (loop_fn *)(void *)http_front_drain, f);
	ck_assert_uint_eq(hear_all(idle), 0);
	loop_post(s.worker.loop, hold_release, NULL);
	hear_all(busy);
	ck_assert_ptr_nonnull(strstr(heard, "connection: close"));
	ck_assert_ptr_nonnull(strstr(heard, "released"));
}
END_TEST

START_TEST(cut)
{
	int fd = dial();

	say(fd, HEAD("GET", "/hang") "\r\n");
	wait_for(&s.handled, 1);
	loop_post(s.worker.loop, (loop_fn *)(void *)http_front_cut, s.front);
	ck_assert_uint_eq(hear_all(fd), 0);
	ck_assert_int_eq(s.gone, 1);
}
END_TEST

START_TEST(places_are_limited)
{
	struct http_limits l = short_limits();
	int a, b;

	l.connections_per_ip_max = 1;
	l.bad_heads_per_minute_max = 2;
	l.requests_per_connection_max = 2;
	start_with(&l);
	a = dial();
	say(a, HEAD("GET", "/public") "\r\n");
	hear(a, "/public|", 1);
	b = dial();
	ck_assert_uint_eq(hear_all(b), 0); /* the second from one address */
	say(a, HEAD("GET", "/public") "\r\n");
	hear_all(a);
	ck_assert_ptr_nonnull(
		strstr(heard, "connection: close")); /* the last request it may make */
	wait_empty();
	ask("GET / HTTP/3\r\n");
	ck_assert_int_eq(status(), 400);
	wait_empty();
	ask(HEAD("QUERY", "/public") CLOSE "\r\n"); /* not taken, but well-formed: does not count */
	ck_assert_int_eq(status(), 405);
	ck_assert_ptr_nonnull(strstr(heard, "allow: GET, HEAD, POST"));
	wait_empty();
	ask("GET / HTTP/3\r\n");
	ck_assert_int_eq(status(), 400);
	wait_empty();
	ask(HEAD("GET", "/public") CLOSE "\r\n");
	ck_assert_str_eq(heard, ""); /* too many malformed heads: dropped */
	finish();
}
END_TEST

START_TEST(accepting_pauses_when_full)
{
	struct http_limits l = short_limits();
	int a, b;

	l.connections_max = 1;
	l.idle_timeout_ms = 100;
	start_with(&l);
	a = dial();
	say(a, HEAD("GET", "/public") "\r\n");
	hear(a, "/public|", 1);
	b = dial(); /* waits in the backlog until `a` is closed for being idle */
	say(b, HEAD("GET", "/public") "\r\n");
	hear_all(a);
	hear(b, "/public|", 1);
	close(b);
	finish();
}
END_TEST

START_TEST(unix_sockets_are_shared_and_stale_ones_replaced)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct http_listener *l;
	char dir[] = "/tmp/tollgate-test-XXXXXX", address[128], bound[128];
	struct http_front *other;
	struct timeval tv = {.tv_sec = WAIT_S};
	struct err err;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s/s", dir);
	snprintf(address, sizeof address, "unix:%s", sa.sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0); /* left over by a server that was killed */
	ck_assert(bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	close(fd);
	memset(&s, 0, sizeof s);
	s.worker = (struct worker){.loop = loop_new()};
	s.front = http_front_new_limits(&s.worker, tables, &http_limits_default);
	other = http_front_new_limits(&s.worker, tables, &http_limits_default);
	ck_assert(http_listen(s.front, address, SURFACE_DATA, &l, bound, &err) == RC_OK);
	ck_assert(http_listen(other, address, SURFACE_DATA, &l, bound, &err) == RC_OK);
	ck_assert_str_eq(bound, address);
	http_front_free(other);
	ck_assert(pthread_create(&s.thread, NULL, server_main, NULL) == 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	ck_assert(connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	say(fd, HEAD("GET", "/public") CLOSE "\r\n");
	hear_all(fd);
	ck_assert_int_eq(status(), 200);
	finish();
	ck_assert(access(sa.sun_path, F_OK) != 0);
	rmdir(dir);
}
END_TEST

START_TEST(bad_addresses)
{
	static const char *const bad[] = {
		"8080",		  ":8080",  "127.0.0.1", "127.0.0.1:99999",
		"example.com:80", "::1:80", "unix:",	 "[::1:80"};
	struct worker w = {.loop = loop_new()};
	struct http_front *f = http_front_new_limits(&w, tables, &http_limits_default);
	struct http_listener *l;
	char bound[128];
	struct err err;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(http_listen(f, bad[i], SURFACE_DATA, &l, bound, &err) == RC_INVALID,
			      "%s", bad[i]);
	http_front_free(f);
	loop_free(w.loop);
}
END_TEST

/* --- TLS --------------------------------------------------------------------------------------------- */
static void make_certificate(const char *cert_file, const char *key_file)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	FILE *f;

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), 0);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_sign(x, key, EVP_sha256());
	f = fopen(cert_file, "w");
	PEM_write_X509(f, x);
	fclose(f);
	f = fopen(key_file, "w");
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
}

static void tls_get(int max_version, bool works)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	int fd = dial(), n, at = 0;
	static const char get[] = HEAD("GET", "/public") CLOSE "\r\n";

	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, max_version);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	ck_assert_int_eq(SSL_connect(ssl) == 1, works);
	if (works) {
		ck_assert_int_eq(SSL_write(ssl, get, sizeof get - 1), (int)sizeof get - 1);
		while ((n = SSL_read(ssl, heard + at, (int)sizeof heard - 1 - at)) > 0)
			at += n;
		heard[at] = '\0';
		ck_assert_int_eq(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN); /* told, not cut */
		ck_assert_int_eq(status(), 200);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
}

START_TEST(tls)
{
	char dir[] = "/tmp/tollgate-test-XXXXXX", cert[64], key[64], key2[64];
	struct http_limits l = short_limits();
	struct err err;
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(cert, sizeof cert, "%s/cert", dir);
	snprintf(key, sizeof key, "%s/key", dir);
	snprintf(key2, sizeof key2, "%s/key2", dir);
	make_certificate(cert, key2);
	make_certificate(cert, key);
	ck_assert(http_tls_load(cert, key2, &err) == RC_INVALID); /* not its key */
	ck_assert(!http_tls_loaded());
	ck_assert(http_tls_load(cert, key, &err) == RC_OK);
	ck_assert(http_tls_load(cert, "/nowhere", &err) == RC_INVALID);
	ck_assert(http_tls_loaded()); /* the old one stays */
	l.tls_timeout_ms = 300;
	start_with(&l);
	tls_get(TLS1_3_VERSION, true);
	tls_get(TLS1_2_VERSION, true);
	tls_get(TLS1_1_VERSION, false);
	make_certificate(cert, key);
	ck_assert(http_tls_load(cert, key, &err) == RC_OK);
	tls_get(TLS1_3_VERSION, true);
	fd = dial(); /* a handshake that never comes */
	ck_assert_uint_eq(hear_all(fd), 0);
	ask(HEAD("GET", "/public") "\r\n"); /* no TLS at all */
	ck_assert_int_eq(status(), 0);
	finish();
	unlink(cert);
	unlink(key);
	unlink(key2);
	rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("http conn");
	TCase *t = tcase_create("served"), *own = tcase_create("own server");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, start, finish);
	tcase_set_timeout(t, 60);
	tcase_set_timeout(own, 60);
	tcase_add_test(t, plain_answers);
	tcase_add_test(t, kept_alive_and_pipelined);
	tcase_add_loop_test(t, refused_and_closed_without_effect, 0,
			    (int)(sizeof refused / sizeof refused[0]));
	tcase_add_test(t, silence_and_tls_are_closed_without_a_word);
	tcase_add_test(t, options);
	tcase_add_test(t, continue_only_when_the_body_is_wanted);
	tcase_add_test(t, a_body_may_come_while_its_sender_is_looked_up);
	tcase_add_test(t, who_may_have_been_revoked_is_asked_again_behind_the_body);
	tcase_add_test(t, a_large_body_arrives_whole_and_no_further);
	tcase_add_test(t, nothing_splits_an_answer);
	tcase_add_test(t, the_admin_envelope);
	tcase_add_test(t, streams);
	tcase_add_test(t, a_slow_reader_is_waited_for);
	tcase_add_test(t, who_never_reads_is_cut);
	tcase_add_test(t, a_reset_is_noticed_while_the_handler_works);
	tcase_add_test(t, a_half_closed_peer_gets_its_answer);
	tcase_add_test(t, bytes_behind_a_request_wait);
	tcase_add_test(t, drain);
	tcase_add_test(t, cut);
	tcase_add_test(own, places_are_limited);
	tcase_add_test(own, accepting_pauses_when_full);
	tcase_add_test(own, unix_sockets_are_shared_and_stale_ones_replaced);
	tcase_add_test(own, bad_addresses);
	tcase_add_test(own, tls);
	suite_add_tcase(suite, own); /* first: without forks, what is counted by address adds up */
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
