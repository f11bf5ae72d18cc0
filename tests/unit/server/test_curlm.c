/* Outgoing HTTP against a small server on loopback that misbehaves on demand. */
#include "server/curlm.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "server/base/buf.h"
#include "server/base/clock.h"
#include "server/curlm_head.h"
#include "server/loop.h"
#include "server/names.h"

/* --- the upstream ------------------------------------------------------------------------------- */

#define CONNECTIONS_MAX 256

static struct {
	int fd, port;
	pthread_t thread, each[CONNECTIONS_MAX];
	_Atomic int connections, requests;
	_Atomic bool stop;
	_Atomic long written; /* bytes of /endless */
} up;

static void put(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

/* Until the peer has gone: true; or `ms` have passed. */
static bool wait_gone(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char c;

	if (poll(&p, 1, ms) <= 0)
		return atomic_load(&up.stop);
	return recv(fd, &c, 1, MSG_DONTWAIT) <= 0;
}

static void reset(int fd)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

/* One request with its body; false: the peer closed. The rest of the buffer stays zero. */
static bool read_request(int fd, char *text, size_t size)
{
	size_t len = 0, want = 0;
	char *end = NULL, *length;

	memset(text, 0, size);
	while (!end || len < want) {
		ssize_t n = recv(fd, text + len, size - 1 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t)n;
		if (text[0] < 'A' || text[0] > 'Z') /* TLS */
			return false;
		end = strstr(text, "\r\n\r\n");
		if (end && strstr(text, " /unread "))
			return true; /* the body is left in the socket */
		if (end && want == 0) {
			length = strcasestr(text, "Content-Length:");
			want = (size_t)(end + 4 - text) +
			       (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
		}
	}
	return true;
}

static const struct {
	const char *path, *answer;
	bool close;
} scripted[] = {
	{"/plain",
	 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
	 "X-Request-Id: abc\r\nRetry-After: 7\r\n\r\nhello",
	 false},
	{"/chunked",
	 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n"
	 "0\r\nX-Trailer: 1\r\n\r\n",
	 false},
	{"/close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true},
	{"/drop_next", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
	{"/429", "HTTP/1.1 429 Slow\r\nRetry-After-Ms: 1500\r\nContent-Length: 2\r\n\r\n{}", false},
	{"/informational",
	 "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"
	 "Content-Length: 2\r\n\r\nok",
	 false},
	{"/cl_te",
	 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "1\r\na\r\n0\r\n\r\n",
	 false},
	{"/dup_cl", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", false},
	{"/list_cl", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", true},
	{"/minus_cl", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", true},
	{"/space_cl", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", true},
	{"/double_te", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	 true},
	{"/gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
	 false},
	{"/redirect", "HTTP/1.1 307 Go\r\nLocation: /plain\r\nContent-Length: 0\r\n\r\n", false},
	{"/redirect301",
	 "HTTP/1.1 301 Go\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
	 false},
	{"/redirect302",
	 "HTTP/1.1 302 Go\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", false},
	{"/redirect303", "HTTP/1.1 303 Go\r\nLocation: /plain\r\nContent-Length: 0\r\n\r\n", false},
	{"/redirect308", "HTTP/1.1 308 Go\r\nLocation: file:///x\r\nContent-Length: 0\r\n\r\n",
	 false},
	{"/upgrade", "HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n", true},
	{"/garbage", "SSH-2.0-OpenSSH_9.2\r\n\r\n", true},
	{"/http09", "hello\n", true},
	{"/nul", "HTTP/1.1 200 OK\r\nX: a\1b\r\nContent-Length: 2\r\n\r\nok", false},
	{"/bad_chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\na\r\n", true},
	{"/short", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsix...", true},
	{"/short_chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", true},
	{"/excess",
	 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n"
	 "Content-Length: 6\r\n\r\nforged",
	 false},
	{"/nothing", "", true},
};

static bool answer_special(int fd, const char *path)
{
	char big[4097];
	int yes = 1;

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	if (strncmp(path, "/silent", 7) == 0) {
		while (!wait_gone(fd, 50))
			;
	} else if (strncmp(path, "/unread", 7) == 0) {
		usleep(150000);
		reset(fd);
	} else if (strncmp(path, "/stall", 6) == 0) {
		put(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
		while (!wait_gone(fd, 50))
			;
	} else if (strncmp(path, "/drip", 5) == 0) {
		put(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		while (!wait_gone(fd, 10))
			put(fd, "1\r\na\r\n");
	} else if (strncmp(path, "/rst_mid", 8) == 0) {
		put(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
		wait_gone(fd, 30);
		reset(fd);
	} else if (strncmp(path, "/rst", 4) == 0) {
		reset(fd);
	} else if (strncmp(path, "/flood", 6) == 0) {
		for (int i = 0; i < 40; i++)
			put(fd, "HTTP/1.1 103 Hints\r\n\r\n");
		put(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	} else if (strncmp(path, "/bighead", 8) == 0) {
		put(fd, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 20; i++) {
			put(fd, "X: ");
			put(fd, big);
			put(fd, "\r\n");
		}
		put(fd, "Content-Length: 2\r\n\r\nok");
	} else if (strncmp(path, "/big", 4) == 0) {
		put(fd, "HTTP/1.1 200 OK\r\nContent-Length: 204800\r\n\r\n");
		for (int i = 0; i < 50; i++)
			put(fd, big);
		return true;
	} else if (strncmp(path, "/endless", 8) == 0) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &yes, sizeof yes); /* the smallest there is */
		put(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		for (;;) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			if (atomic_load(&up.stop))
				break;
			if (poll(&p, 1, 20) == 0)
				continue;
			if (send(fd, "1000\r\n", 6, MSG_NOSIGNAL) != 6)
				break;
			put(fd, big);
			put(fd, "\r\n");
			atomic_fetch_add(&up.written, 4096);
		}
	}
	return false;
}

static void answer_echo(int fd, const char *request)
{
	char head[128];

	snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
		 strlen(request));
	put(fd, head);
	put(fd, request);
}

static bool answer(int fd, char *request, size_t size)
{
	char *path = strchr(request, ' ') + 1;
	size_t len = strcspn(path, " ");

	if (strncmp(path, "/echo", 5) == 0) {
		answer_echo(fd, request);
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(scripted); i++)
		if (strlen(scripted[i].path) == len && memcmp(scripted[i].path, path, len) == 0) {
			put(fd, scripted[i].answer);
			return !scripted[i].close;
		}
	memset(request + 32, 0, size - 32); /* no copy of the secret on this side */
	return answer_special(fd, path);
}

static void *up_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static _Thread_local char request[131072];
	bool drop = false;

	while (read_request(fd, request, sizeof request) && !drop) {
		drop = strstr(request, " /drop_next ");
		atomic_fetch_add(&up.requests, 1);
		if (!answer(fd, request, sizeof request))
			break;
	}
	close(fd);
	return NULL;
}

static void *up_accept(void *arg)
{
	int count = 0, fd;

	(void)arg;
	while ((fd = accept(up.fd, NULL, NULL)) >= 0 && !atomic_load(&up.stop)) {
		struct timeval tv = {.tv_sec = 5};

		ck_assert_int_lt(count, CONNECTIONS_MAX);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		atomic_store(&up.connections, count + 1);
		pthread_create(&up.each[count++], NULL, up_connection, (void *)(intptr_t)fd);
	}
	if (fd >= 0)
		close(fd);
	for (int i = 0; i < count; i++)
		pthread_join(up.each[i], NULL);
	return NULL;
}

/* --- the caller ---------------------------------------------------------------------------------- */

static struct loop *loop;
static struct egress *egress;
static struct curlm *curlm;
static char base[64];

struct run {
	struct curlm_call *call;
	struct buf body;
	int heads, dones, status, bodies;
	size_t pause_at; /* pause once so many bytes came */
	bool cancel_in_head, cancel_in_body, stop_on_body;
	struct run *cancel_other;
	bool sent;
	enum rc rc;
	char code[32], detail[256], request_id[64], retry_after[16], retry_after_ms[16];
	struct loop_timer timer;
};

static void on_head(void *arg, const struct curlm_response *r)
{
	struct run *x = arg;

	x->heads++;
	x->status = r->status;
	snprintf(x->request_id, sizeof x->request_id, "%.*s", STR_FMT(r->request_id));
	snprintf(x->retry_after, sizeof x->retry_after, "%.*s", STR_FMT(r->retry_after));
	snprintf(x->retry_after_ms, sizeof x->retry_after_ms, "%.*s", STR_FMT(r->retry_after_ms));
	if (x->cancel_in_head) {
		curlm_cancel(x->call);
		loop_stop(loop);
	}
}

static bool on_body(void *arg, struct str bytes)
{
	struct run *x = arg;

	x->bodies++;
	ck_assert_int_eq(buf_append(&x->body, bytes), RC_OK);
	if (x->stop_on_body)
		loop_stop(loop);
	if (x->cancel_in_body) {
		curlm_cancel(x->call);
		loop_stop(loop);
	}
	if (x->cancel_other) {
		curlm_cancel(x->cancel_other->call);
		x->cancel_other = NULL;
	}
	return !x->pause_at || x->body.len < x->pause_at;
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct run *x = arg;

	x->dones++;
	x->rc = rc;
	x->sent = curlm_request_sent(x->call);
	ck_assert((rc == RC_OK) == (err == NULL));
	if (err) {
		ck_assert(err->code && err->message[0]);
		snprintf(x->code, sizeof x->code, "%s", err->code);
		snprintf(x->detail, sizeof x->detail, "%s", err->detail);
	}
	loop_stop(loop);
}

static struct curlm_request request(const char *path)
{
	return (struct curlm_request){
		.method = "GET",
		.base = str_from(base),
		.path = str_from(path),
		.timeouts = {.connect = 2000, .first_byte = 2000, .idle = 2000, .total = 5000},
	};
}

static void begin(struct run *x, const struct curlm_request *r)
{
	struct curlm_handlers h = {on_head, on_body, on_done, x};

	buf_init(&x->body, 64u << 20);
	x->call = curlm_start(curlm, r, &h);
	ck_assert_ptr_nonnull(x->call);
	ck_assert_int_eq(x->dones, 0);
	ck_assert_int_eq(x->heads, 0);
}

static struct run go(const struct curlm_request *r)
{
	struct run x = {0};

	begin(&x, r);
	loop_run(loop);
	ck_assert_int_eq(x.dones, 1);
	return x;
}

static struct run get(const char *path)
{
	struct curlm_request r = request(path);

	return go(&r);
}

static void on_pass(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void pass_ms(int64_t ms)
{
	struct loop_timer t = {0};

	loop_timer_set(loop, &t, ms, on_pass, NULL);
	loop_run(loop);
	loop_timer_clear(&t);
}

static void ends(const char *path, enum rc rc, const char *code)
{
	struct run x = get(path);

	ck_assert_msg(x.rc == rc, "%s: %s %s (%s)", path, rc_name(x.rc), x.code, x.detail);
	ck_assert_msg(strcmp(x.code, code) == 0, "%s: %s (%s)", path, x.code, x.detail);
	ck_assert_msg(x.sent, "%s: not sent", path);
	buf_clear(&x.body);
}

static void setup(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	struct err err;

	signal(SIGPIPE, SIG_IGN);
	curlm_global_init();
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	up.fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(up.fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(up.fd, 64), 0);
	getsockname(up.fd, (struct sockaddr *)&a, &len);
	up.port = ntohs(a.sin_port);
	snprintf(base, sizeof base, "http://127.0.0.1:%d", up.port);
	ck_assert_int_eq(pthread_create(&up.thread, NULL, up_accept, NULL), 0);
	loop = loop_new();
	ck_assert_int_eq(egress_new("127.0.0.0/8", &egress, &err), RC_OK);
	curlm = curlm_new(loop, egress, NULL);
}

static void teardown(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)up.port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	curlm_free(curlm);
	egress_free(egress);
	loop_free(loop);
	atomic_store(&up.stop, true);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	pthread_join(up.thread, NULL);
	close(fd);
	close(up.fd);
}

/* --- tests ---------------------------------------------------------------------------------------- */

START_TEST(plain_answer)
{
	struct run x = get("/plain");

	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_int_eq(x.status, 200);
	ck_assert_int_eq(x.heads, 1);
	ck_assert_str_eq(x.body.ptr, "hello");
	ck_assert_str_eq(x.request_id, "abc");
	ck_assert_str_eq(x.retry_after, "7");
	ck_assert(x.sent);
	buf_clear(&x.body);
}
END_TEST

START_TEST(other_good_answers)
{
	static const struct {
		const char *path, *body;
		int status;
	} cases[] = {{"/chunked", "abc", 200},
		     {"/close", "ok", 200},
		     {"/429", "{}", 429},
		     {"/informational", "ok", 200}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct run x = get(cases[i].path);

		ck_assert_msg(x.rc == RC_OK, "%s %s", cases[i].path, x.detail);
		ck_assert_int_eq(x.status, cases[i].status);
		ck_assert_int_eq(x.heads, 1);
		ck_assert_str_eq(x.body.ptr, cases[i].body);
		if (x.status == 429)
			ck_assert_str_eq(x.retry_after_ms, "1500");
		buf_clear(&x.body);
	}
}
END_TEST

START_TEST(request_as_asked)
{
	struct curlm_request r = request("/echo/x?api-version=1");
	struct curlm_header h[] = {{"Content-Type", STR("application/json")}, {"X-Empty", STR("")}};
	struct run x;

	r.method = "POST";
	r.headers = h;
	r.headers_count = 2;
	r.secret_form = CURLM_SECRET_BEARER;
	r.secret = STR("fake-secret-of-a-test");
	r.body = STR("{\"a\":1}");
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "POST /echo/x?api-version=1 HTTP/1.1\r\n"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "Content-Type: application/json\r\n"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "X-Empty:\r\n"));
	ck_assert_ptr_nonnull(
		strstr(x.body.ptr, "Authorization: Bearer fake-secret-of-a-test\r\n"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "Content-Length: 7\r\n"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "User-Agent: tollgate\r\n"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "\r\n\r\n{\"a\":1}"));
	ck_assert_ptr_null(strcasestr(x.body.ptr, "expect:"));
	ck_assert_ptr_null(strcasestr(x.body.ptr, "accept-encoding"));
	buf_clear(&x.body);
	/* the handle that carried the secret is used again without it */
	x = get("/echo");
	ck_assert_ptr_null(strcasestr(x.body.ptr, "authorization"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "GET /echo HTTP/1.1\r\n"));
	buf_clear(&x.body);
	r.secret_form = CURLM_SECRET_HEADER;
	r.secret_header = "x-api-key";
	r.method = "DELETE";
	r.body = STR("");
	x = go(&r);
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "DELETE /echo/x"));
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "x-api-key: fake-secret-of-a-test\r\n"));
	buf_clear(&x.body);
}
END_TEST

START_TEST(large_request_body)
{
	struct curlm_request r = request("/echo");
	char *body = malloc(60001);
	struct run x;

	memset(body, 'z', 60000);
	body[60000] = '\0';
	r.method = "POST";
	r.body = str_of(body, 60000);
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_ptr_nonnull(strstr(x.body.ptr, body));
	free(body);
	buf_clear(&x.body);
}
END_TEST

/* Cut everywhere around the size of libcurl's buffer, empty ones between. */
START_TEST(body_in_pieces)
{
	struct curlm_request r = request("/echo");
	char *body = malloc(70001);
	struct str pieces[6];
	struct run x;

	for (int i = 0; i < 70000; i++)
		body[i] = (char)('a' + i % 23 + i / 23 % 3);
	body[70000] = '\0';
	r.method = "POST";
	r.pieces = pieces;
	r.pieces_count = 6;
	for (size_t cut = 1; cut < 70000; cut += cut < 65500 || cut > 65570 ? 9357 : 1) {
		pieces[0] = STR("");
		pieces[1] = str_of(body, 1);
		pieces[2] = STR_NULL;
		pieces[3] = str_of(body + 1, cut - 1);
		pieces[4] = str_of(body + cut, 70000 - cut);
		pieces[5] = STR("");
		x = go(&r);
		ck_assert_int_eq(x.rc, RC_OK);
		ck_assert_ptr_nonnull(strstr(x.body.ptr, "Content-Length: 70000\r\n"));
		ck_assert_str_eq(strstr(x.body.ptr, "\r\n\r\n") + 4, body);
		buf_clear(&x.body);
	}
	r.pieces_count = 1; /* nothing is a body too */
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_ptr_nonnull(strstr(x.body.ptr, "Content-Length: 0\r\n"));
	buf_clear(&x.body);
	/* the handle that read them is used again with a body in one place */
	r.pieces_count = 0;
	r.body = STR("whole");
	x = go(&r);
	ck_assert_str_eq(strstr(x.body.ptr, "\r\n\r\n") + 4, "whole");
	buf_clear(&x.body);
	free(body);
}
END_TEST

/* The peer takes all of it on a kept connection and hangs up: it is sent again from its beginning. */
START_TEST(body_in_pieces_is_sent_again)
{
	const struct str pieces[] = {STR("{\"a\":"), STR("[1,2]"), STR("}")};
	struct run x = get("/drop_next");
	struct curlm_request r = request("/echo");

	ck_assert_int_eq(x.rc, RC_OK);
	buf_clear(&x.body);
	r.method = "POST";
	r.pieces = pieces;
	r.pieces_count = ARRAY_LEN(pieces);
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_str_eq(strstr(x.body.ptr, "\r\n\r\n") + 4, "{\"a\":[1,2]}");
	ck_assert_int_eq(up.connections, 2);
	buf_clear(&x.body);
}
END_TEST

START_TEST(connections_are_used_again)
{
	for (int i = 0; i < 5; i++) {
		struct run x = get("/plain");

		ck_assert_int_eq(x.rc, RC_OK);
		buf_clear(&x.body);
	}
	ck_assert_int_eq(up.connections, 1);
	ck_assert_int_eq(up.requests, 5);
}
END_TEST

START_TEST(excess_bytes_are_no_answer_to_the_next)
{
	struct run x = get("/excess");

	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_str_eq(x.body.ptr, "hello");
	buf_clear(&x.body);
	x = get("/plain");
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_str_eq(x.body.ptr, "hello");
	ck_assert_int_eq(up.connections, 2);
	buf_clear(&x.body);
}
END_TEST

START_TEST(broken_answers)
{
	ends("/cl_te", RC_PROTOCOL, "protocol");
	ends("/dup_cl", RC_PROTOCOL, "protocol");
	ends("/list_cl", RC_PROTOCOL, "protocol");
	ends("/minus_cl", RC_PROTOCOL, "protocol");
	ends("/space_cl", RC_PROTOCOL, "protocol");
	ends("/double_te", RC_PROTOCOL, "protocol");
	ends("/gzip", RC_PROTOCOL, "protocol");
	ends("/redirect", RC_PROTOCOL, "upstream_redirect");
	ends("/upgrade", RC_PROTOCOL, "protocol");
	ends("/garbage", RC_PROTOCOL, "protocol");
	ends("/http09", RC_PROTOCOL, "protocol");
	ends("/bad_chunk", RC_PROTOCOL, "protocol");
	ends("/flood", RC_PROTOCOL, "protocol");
	ends("/bighead", RC_PROTOCOL, "protocol");
	ends("/short", RC_NETWORK, "network");
	ends("/short_chunk", RC_NETWORK, "network");
	ends("/rst", RC_NETWORK, "network");
	ends("/rst_mid", RC_NETWORK, "network");
	ends("/nothing", RC_NETWORK, "network");
}
END_TEST

START_TEST(s51_redirects_are_not_followed)
{
	static const char *const paths[] = {"/redirect301", "/redirect302", "/redirect303",
					    "/redirect", "/redirect308"};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct run x = get(paths[i]);

		ck_assert_int_eq(x.rc, RC_PROTOCOL);
		ck_assert_str_eq(x.code, "upstream_redirect");
		ck_assert_int_eq(x.heads, 0);
		ck_assert_int_eq(up.requests, (int)i + 1);
		buf_clear(&x.body);
	}
}
END_TEST

START_TEST(timeouts)
{
	struct curlm_request r = request("/silent");
	int64_t from = clock_mono_ms();
	struct run x;

	r.timeouts.first_byte = 60;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TIMEOUT);
	ck_assert_str_eq(x.code, "timeout");
	ck_assert(x.sent);
	ck_assert_int_eq(x.heads, 0);
	r = request("/stall");
	r.timeouts.idle = 60;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TIMEOUT);
	ck_assert_int_eq(x.heads, 1);
	ck_assert_str_eq(x.body.ptr, "a");
	buf_clear(&x.body);
	r = request("/drip");
	r.timeouts.idle = 1000;
	r.timeouts.total = 120;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TIMEOUT);
	ck_assert_int_gt(x.body.len, 1);
	buf_clear(&x.body);
	ck_assert_int_lt(clock_mono_ms() - from, 1500);
	/* an idle limit that progress keeps moving away does not fire */
	r = request("/drip");
	r.timeouts.idle = 80;
	r.timeouts.total = 300;
	from = clock_mono_ms();
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TIMEOUT);
	ck_assert_int_ge(clock_mono_ms() - from, 290);
	buf_clear(&x.body);
}
END_TEST

START_TEST(connect_timeout)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0), fill[3];
	char full[64];
	struct curlm_request r;
	struct run x;

	/* a listener whose queue is full: the handshake is never answered */
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	for (int i = 0; i < 3; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&a, sizeof a);
	}
	snprintf(full, sizeof full, "http://127.0.0.1:%d", ntohs(a.sin_port));
	r = request("/");
	r.base = str_from(full);
	r.timeouts.connect = 80;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TIMEOUT);
	ck_assert(!x.sent);
	for (int i = 0; i < 3; i++)
		close(fill[i]);
	close(fd);
}
END_TEST

START_TEST(refused_connection)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char closed[64];
	struct curlm_request r = request("/");
	struct run x;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0); /* bound, not listening */
	getsockname(fd, (struct sockaddr *)&a, &len);
	snprintf(closed, sizeof closed, "http://127.0.0.1:%d", ntohs(a.sin_port));
	r.base = str_from(closed);
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_NETWORK);
	ck_assert_str_eq(x.code, "network");
	ck_assert(!x.sent);
	close(fd);
}
END_TEST

START_TEST(body_cap)
{
	struct curlm_request r = request("/big");
	struct run x;

	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_int_eq(x.body.len, 204800);
	buf_clear(&x.body);
	r.body_bytes_max = 204799;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TOO_LARGE);
	ck_assert_str_eq(x.code, "too_large");
	ck_assert_int_le(x.body.len, 204799);
	buf_clear(&x.body);
	r.body_bytes_max = 204800;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_OK);
	buf_clear(&x.body);
	r = request("/endless");
	r.body_bytes_max = 1 << 20;
	x = go(&r);
	ck_assert_int_eq(x.rc, RC_TOO_LARGE);
	buf_clear(&x.body);
}
END_TEST

START_TEST(pause_stops_the_upstream_and_resume_goes_on)
{
	struct curlm_request r = request("/endless");
	struct run x = {.pause_at = 10000};
	size_t paused_len;
	long written;

	r.stream = true;
	r.body_bytes_max = 1 << 30;
	r.timeouts.idle = 50; /* stands still while paused */
	begin(&x, &r);
	pass_ms(150);
	paused_len = x.body.len;
	written = atomic_load(&up.written);
	ck_assert_int_ge(paused_len, 10000);
	ck_assert_int_lt(paused_len, 10000 + 65536);
	pass_ms(150);
	ck_assert_int_eq(x.body.len, paused_len);
	/* the socket pushes back; what is buffered on the way may still move a little */
	ck_assert_int_lt(atomic_load(&up.written), written + 65536);
	ck_assert_int_eq(x.dones, 0);
	for (int i = 0; i < 5; i++) {
		x.pause_at = x.body.len + 100000;
		curlm_resume(x.call);
		pass_ms(30);
		ck_assert_int_ge(x.body.len, x.pause_at);
	}
	ck_assert_int_gt(atomic_load(&up.written), written);
	for (size_t i = 0; i < x.body.len; i++) /* nothing lost, nothing twice, in order */
		ck_assert_int_eq(x.body.ptr[i], 'x');
	curlm_cancel(x.call);
	pass_ms(5);
	ck_assert_int_eq(x.dones, 0);
	buf_clear(&x.body);
}
END_TEST

START_TEST(every_byte_once_with_pauses)
{
	struct curlm_request r = request("/big");
	struct run x = {.pause_at = 1};

	r.stream = true;
	begin(&x, &r);
	for (int i = 0; i < 1000 && !x.dones; i++) {
		x.pause_at = x.body.len + 1;
		curlm_resume(x.call);
		pass_ms(1);
	}
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_int_eq(x.dones, 1);
	ck_assert_int_eq(x.body.len, 204800);
	buf_clear(&x.body);
}
END_TEST

START_TEST(cancel_anywhere)
{
	struct curlm_request r = request("/drip");
	struct run x = {0};

	begin(&x, &r);
	curlm_cancel(x.call); /* at once */
	pass_ms(20);
	ck_assert_int_eq(x.dones + x.heads, 0);

	x = (struct run){.cancel_in_head = true};
	begin(&x, &r);
	loop_run(loop);
	pass_ms(20);
	ck_assert_int_eq(x.heads, 1);
	ck_assert_int_eq(x.dones + x.bodies, 0);

	x = (struct run){.cancel_in_body = true};
	begin(&x, &r);
	loop_run(loop);
	pass_ms(40);
	ck_assert_int_eq(x.bodies, 1);
	ck_assert_int_eq(x.dones, 0);
	buf_clear(&x.body);

	x = (struct run){.stop_on_body = true};
	begin(&x, &r);
	loop_run(loop);
	curlm_cancel(x.call);
	pass_ms(20);
	ck_assert_int_eq(x.bodies, 1);
	ck_assert_int_eq(x.dones, 0);
	buf_clear(&x.body);

	r = request("/x\ny"); /* refused: cancelled before it is told */
	x = (struct run){0};
	begin(&x, &r);
	curlm_cancel(x.call);
	pass_ms(5);
	ck_assert_int_eq(x.dones, 0);
}
END_TEST

START_TEST(cancel_another_from_a_callback)
{
	enum { BODY_BYTES = 16 << 20 };
	struct curlm_request r = request("/drip"), post = request("/unread");
	struct run a = {0}, b = {0};
	char *body = malloc(BODY_BYTES);

	memset(body, 'y', BODY_BYTES);
	post.method = "POST";
	post.body = str_of(body, BODY_BYTES);
	begin(&b, &post);
	a.stop_on_body = true;
	begin(&a, &r);
	loop_run(loop);
	a.stop_on_body = false;
	pass_ms(20);
	ck_assert_int_eq(b.dones, 0);
	ck_assert(curlm_request_sent(b.call));
	a.cancel_other = &b; /* while half of its body is sent */
	while (a.cancel_other)
		pass_ms(1);
	free(body); /* libcurl must not come back to it */
	pass_ms(50);
	ck_assert_int_eq(b.dones, 0);
	curlm_cancel(a.call);
	buf_clear(&a.body);
	/* and one that has not begun */
	a = (struct run){.stop_on_body = true};
	b = (struct run){0};
	begin(&a, &r);
	loop_run(loop);
	a.stop_on_body = false;
	a.cancel_other = &b;
	post.body = STR("{}");
	begin(&b, &post);
	while (a.cancel_other)
		pass_ms(1);
	pass_ms(20);
	ck_assert_int_eq(b.dones, 0);
	curlm_cancel(a.call);
	buf_clear(&a.body);
}
END_TEST

START_TEST(free_with_calls_running)
{
	struct curlm_request r = request("/drip"), s = request("/silent");
	struct run x[4] = {0};

	r.stream = true;
	for (int i = 0; i < 4; i++)
		begin(&x[i], i % 2 ? &r : &s);
	pass_ms(30);
	curlm_free(curlm);
	curlm = NULL;
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(x[i].dones, 0);
		buf_clear(&x[i].body);
	}
}
END_TEST

START_TEST(many_streams_at_once)
{
	enum { N = 150 }; /* more than two multi handles hold */
	static struct run x[N];
	struct curlm_request r = request("/plain");
	int done = 0;

	r.stream = true;
	for (int i = 0; i < N; i++)
		begin(&x[i], &r);
	while (done < N) {
		loop_run(loop);
		done = 0;
		for (int i = 0; i < N; i++)
			done += x[i].dones;
	}
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(x[i].dones, 1);
		ck_assert_int_eq(x[i].rc, RC_OK);
		ck_assert_str_eq(x[i].body.ptr, "hello");
		buf_clear(&x[i].body);
	}
	pass_ms(5);
}
END_TEST

START_TEST(s52_proxy_of_the_environment_is_ignored)
{
	struct run x;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	x = get("/plain");
	ck_assert_int_eq(x.rc, RC_OK);
	buf_clear(&x.body);
}
END_TEST

static void refused(const struct curlm_request *r, enum rc rc)
{
	struct run x = go(r);

	ck_assert_msg(x.rc == rc, "%s %s", rc_name(x.rc), x.code);
	ck_assert(!x.sent);
	ck_assert_int_eq(x.heads, 0);
}

START_TEST(requests_that_are_not_sent)
{
	static const char *const paths[] = {"/a b",  "/a\r\nX: y", "/a#b", "a",
					    "/a\\b", "/a/../b",	   "/..",  "/\xc3\xa9"};
	static const struct {
		const char *name, *value;
	} headers[] = {{"X", "a\r\nY: b"},
		       {"X", "a\nb"},
		       {"X", "a\x7f"},
		       {"X", "a\tb"},
		       {"X y", "a"},
		       {"X:", "a"},
		       {"", "a"},
		       {"Host", "a"},
		       {"Content-Length", "5"},
		       {"transfer-encoding", "chunked"}};
	struct curlm_request r;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		r = request(paths[i]);
		refused(&r, RC_INVALID);
	}
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		struct curlm_header h = {headers[i].name, str_from(headers[i].value)};

		r = request("/plain");
		r.headers = &h;
		r.headers_count = 1;
		refused(&r, RC_INVALID);
	}
	r = request("/plain");
	r.secret_form = CURLM_SECRET_BEARER;
	refused(&r, RC_INVALID); /* empty */
	r.secret = STR("fake\r\nX: y");
	refused(&r, RC_INVALID);
	r = request("/plain");
	r.method = "GET /x";
	refused(&r, RC_INVALID);
	r = request("/plain");
	r.base = STR("http://10.0.0.1:9");
	refused(&r, RC_DENIED);
	r.base = STR("https://169.254.169.254");
	refused(&r, RC_DENIED);
	r.base = STR("file:///etc/passwd");
	refused(&r, RC_INVALID);
	ck_assert_int_eq(up.connections, 0);
}
END_TEST

START_TEST(unix_socket)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/test_curlm_XXXXXX";
	struct curlm_request r = request("/plain");
	struct run x;
	int tcp = up.fd;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(a.sun_path, sizeof a.sun_path, "%s/s", dir);
	/* a second acceptor in the place of the first one's descriptor is not needed: answer by hand */
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	r.unix_socket = a.sun_path;
	r.base = STR("");
	x = (struct run){0};
	begin(&x, &r);
	pass_ms(20);
	{
		static char text[65536];
		int peer = accept(fd, NULL, NULL);

		ck_assert(read_request(peer, text, sizeof text));
		put(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
		loop_run(loop);
		close(peer);
	}
	ck_assert_int_eq(x.rc, RC_OK);
	ck_assert_str_eq(x.body.ptr, "ok");
	ck_assert_int_eq(tcp, up.fd);
	buf_clear(&x.body);
	close(fd);
	unlink(a.sun_path);
	rmdir(dir);
}
END_TEST

/* Where in writable memory does the secret stand? `hidden` is it, each byte xor 0x5a. */
__attribute__((no_sanitize("address"), no_sanitize("thread"), noinline)) static int
occurrences(const unsigned char *hidden, size_t len)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512], perms[8];
	int found = 0;

	while (fgets(line, sizeof line, maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) != 3 || perms[0] != 'r' ||
		    perms[1] != 'w' || to - from > (1ul << 28) || strstr(line, "[v"))
			continue;
		for (const volatile unsigned char *p = (void *)from; (unsigned long)p + len <= to;
		     p++) {
			size_t i = 0;

			while (i < len && (p[i] ^ 0x5a) == hidden[i])
				i++;
			found += i == len;
		}
	}
	fclose(maps);
	return found;
}

static void secret_goes(struct curlm_request r)
{
	struct run x = {.stop_on_body = true};
	unsigned char hidden[32];
	char secret[32];

	for (size_t i = 0; i < sizeof hidden; i++) { /* a made-up value, nowhere else in memory */
		hidden[i] = (unsigned char)(('A' + (i * 7 + (size_t)getpid()) % 26) ^ 0x5a);
		secret[i] = (char)(hidden[i] ^ 0x5a);
	}
	r.stream = true;
	r.method = "POST";
	r.body = STR("{}");
	r.secret_form = CURLM_SECRET_BEARER;
	r.secret = str_of(secret, sizeof secret);
	ck_assert_int_ge(occurrences(hidden, sizeof hidden), 1); /* the search itself works */
	begin(&x, &r);
	explicit_bzero(secret, sizeof secret);
	ck_assert_int_ge(occurrences(hidden, sizeof hidden), 1);
	loop_run(loop);
	ck_assert_msg(x.dones == 0 && x.bodies > 0, "%s (%s)", x.code, x.detail);
	ck_assert_int_eq(occurrences(hidden, sizeof hidden), 0);
	curlm_cancel(x.call);
	ck_assert_int_eq(occurrences(hidden, sizeof hidden), 0);
	buf_clear(&x.body);
}

START_TEST(secret_is_gone_once_the_answer_begins)
{
	secret_goes(request("/drip"));
}
END_TEST

static SSL_CTX *tls_server(const char *cert_file)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_EXTENSION *name =
		X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
	FILE *f = fopen(cert_file, "w");

	X509_set_version(cert, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
				   (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	ck_assert(X509_add_ext(cert, name, -1) == 1);
	ck_assert(X509_sign(cert, key, EVP_sha256()) > 0);
	ck_assert(f && PEM_write_X509(f, cert) == 1 && fclose(f) == 0);
	ck_assert(SSL_CTX_use_certificate(ctx, cert) == 1);
	ck_assert(SSL_CTX_use_PrivateKey(ctx, key) == 1);
	X509_EXTENSION_free(name);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

/* One request; its answer never ends. */
static void tls_answer(SSL_CTX *ctx, int fd)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun";
	SSL *ssl = SSL_new(ctx);
	char in[4096];

	alarm(20);
	SSL_set_fd(ssl, accept(fd, NULL, NULL));
	if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof in) > 0 &&
	    SSL_write(ssl, text, sizeof text - 1) > 0)
		while (SSL_read(ssl, in, sizeof in) > 0)
			;
	_exit(0);
}

/* Over TLS libcurl sends from other buffers. The peer is a process: its copies are not found here. */
START_TEST(secret_is_gone_over_tls)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char cert_file[] = "/tmp/test-curlm-XXXXXX", tls_base[64];
	struct curlm_request r = request("/");
	int fd = mkstemp(cert_file);
	socklen_t len = sizeof a;
	SSL_CTX *ctx;
	pid_t peer;

	ck_assert_int_ge(fd, 0);
	close(fd);
	ctx = tls_server(cert_file);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	peer = fork();
	ck_assert_int_ge(peer, 0);
	if (peer == 0)
		tls_answer(ctx, fd);
	close(fd);
	SSL_CTX_free(ctx);
	curlm_free(curlm);
	curlm = curlm_new(loop, egress, cert_file);
	snprintf(tls_base, sizeof tls_base, "https://127.0.0.1:%d", ntohs(a.sin_port));
	r.base = str_from(tls_base);
	secret_goes(r);
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	unlink(cert_file);
}
END_TEST

/* --- names ------------------------------------------------------------------------------------------ */

static _Atomic int lookups;
static _Atomic bool lookup_blocked, lookup_fails;

static enum rc fake_lookup(const char *host, struct names_result *ret)
{
	int n = atomic_fetch_add(&lookups, 1);

	while (atomic_load(&lookup_blocked))
		usleep(1000);
	if (atomic_load(&lookup_fails) || strcmp(host, "none.example") == 0)
		return RC_NETWORK;
	ret->count = 1;
	ret->addr[0].in.sin_family = AF_INET;
	ret->addr[0].in.sin_addr.s_addr = htonl(0x01010100u + (uint32_t)n);
	return RC_OK;
}

struct asked {
	int calls;
	enum rc rc;
	uint32_t ip;
};

static void on_names(void *arg, enum rc rc, const struct names_result *res)
{
	struct asked *a = arg;

	a->calls++;
	a->rc = rc;
	a->ip = res ? ntohl(res->addr[0].in.sin_addr.s_addr) : 0;
	ck_assert((rc == RC_OK) == (res != NULL));
	loop_stop(loop);
}

START_TEST(names_are_cached_and_shared)
{
	struct names *n = names_new(loop, fake_lookup);
	struct asked a = {0}, b = {0}, c = {0};

	ck_assert_ptr_null(names_cached(n, "a.example"));
	names_start(n, "a.example", on_names, &a);
	names_start(n, "a.example", on_names, &b);
	names_cancel(names_start(n, "a.example", on_names, &c));
	ck_assert_int_eq(a.calls, 0);
	while (!a.calls || !b.calls)
		loop_run(loop);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_uint_eq(a.ip, 0x01010100u);
	ck_assert_uint_eq(b.ip, a.ip);
	ck_assert_int_eq(atomic_load(&lookups), 1);
	ck_assert_ptr_nonnull(names_cached(n, "a.example"));
	names_start(n, "a.example", on_names, &c);
	ck_assert_int_eq(c.calls, 0);
	loop_run(loop);
	ck_assert_int_eq(c.calls, 1);
	ck_assert_int_eq(atomic_load(&lookups), 1);
	/* old: still served, and fetched again behind it */
	clock_fake_set((clock_mono_ms() + NAMES_FRESH_MS + 1) * 1000, clock_wall_us());
	ck_assert_ptr_nonnull(names_cached(n, "a.example"));
	while (atomic_load(&lookups) < 2)
		pass_ms(1);
	/* too old */
	clock_fake_set((clock_mono_ms() + NAMES_STALE_MS + 1) * 1000, clock_wall_us());
	pass_ms(10);
	clock_fake_set((clock_mono_ms() + NAMES_STALE_MS + 1) * 1000, clock_wall_us());
	ck_assert_ptr_null(names_cached(n, "a.example"));
	clock_fake_set(-1, 0);
	names_free(n);
}
END_TEST

START_TEST(names_failures)
{
	struct names *n = names_new(loop, fake_lookup);
	struct asked a = {0}, b = {0}, c = {0};

	names_start(n, "none.example", on_names, &a);
	loop_run(loop);
	ck_assert_int_eq(a.rc, RC_NETWORK);
	names_start(n, "none.example", on_names, &b); /* remembered for a second */
	loop_run(loop);
	ck_assert_int_eq(b.rc, RC_NETWORK);
	ck_assert_int_eq(atomic_load(&lookups), 1);
	clock_fake_set((clock_mono_ms() + NAMES_FAILED_MS + 1) * 1000, clock_wall_us());
	names_start(n, "none.example", on_names, &c);
	loop_run(loop);
	ck_assert_int_eq(c.rc, RC_NETWORK);
	ck_assert_int_eq(atomic_load(&lookups), 2);
	clock_fake_set(-1, 0);
	names_free(n);
}
END_TEST

START_TEST(names_freed_while_a_thread_waits)
{
	struct names *n = names_new(loop, fake_lookup);
	struct asked a = {0}, b = {0};

	atomic_store(&lookup_blocked, true);
	names_start(n, "a.example", on_names, &a);
	names_cancel(names_start(n, "b.example", on_names, &b));
	while (atomic_load(&lookups) < 1)
		pass_ms(1);
	names_free(n);
	atomic_store(&lookup_blocked, false);
	pass_ms(20);
	ck_assert_int_eq(a.calls + b.calls, 0);
}
END_TEST

/* mixed.example: one allowed and one private address; the others as their names say. */
static enum rc lookup_mixed(const char *host, struct names_result *ret)
{
	static const char *const ips[] = {"127.0.0.1", "10.0.0.1"};
	bool mixed = strcmp(host, "mixed.example") == 0,
	     private = strcmp(host, "private.example") == 0;

	atomic_fetch_add(&lookups, 1);
	if (strcmp(host, "six.example") == 0) { /* S50: the AAAA is private, the A is not */
		ret->addr[ret->count].in6.sin6_family = AF_INET6;
		inet_pton(AF_INET6, "fd00::1", &ret->addr[ret->count++].in6.sin6_addr);
	}
	for (int i = private ? 1 : 0; i < (mixed || private ? 2 : 1); i++) {
		ret->addr[ret->count].in.sin_family = AF_INET;
		inet_pton(AF_INET, ips[i], &ret->addr[ret->count++].in.sin_addr);
	}
	return strcmp(host, "none.example") == 0 ? RC_NETWORK : RC_OK;
}

static struct run name_call(const char *host)
{
	struct curlm_request r = request("/plain");
	char url[128];
	struct run x;

	snprintf(url, sizeof url, "https://%s:%d", host, up.port);
	r.base = str_from(url);
	x = go(&r);
	ck_assert(!x.sent);
	ck_assert_int_eq(x.heads, 0);
	return x;
}

/* S49: an alias that leads to private.example ends in the same addresses: only they are judged. */
START_TEST(s48_s49_s50_one_denied_address_refuses_the_name)
{
	ck_assert_int_eq(
		egress_address_allowed(egress,
				       &(union names_addr){.in.sin_family = AF_INET,
							   .in.sin_port = htons(443),
							   .in.sin_addr.s_addr = htonl(0x0a000001)}
						.sa,
				       true),
		false);
	curlm_lookup_set(curlm, lookup_mixed);
	ck_assert_int_eq(name_call("mixed.example").rc, RC_DENIED);
	ck_assert_int_eq(name_call("mixed.example").rc, RC_DENIED); /* from the cache as well */
	ck_assert_int_eq(name_call("private.example").rc, RC_DENIED);
	ck_assert_int_eq(name_call("six.example").rc, RC_DENIED);
	ck_assert_int_eq(name_call("none.example").rc, RC_NETWORK);
	ck_assert_int_eq(up.connections, 0);
	/* the pure one is called: it does not speak TLS, but the connection is there */
	for (int i = 0; i < 2; i++) {
		struct run x = name_call("pure.example");

		ck_assert_int_eq(x.rc, RC_NETWORK);
		ck_assert_str_eq(x.code, "tls");
	}
	pass_ms(10);
	ck_assert_int_eq(up.connections, 2);
	ck_assert_int_eq(atomic_load(&lookups), 5);
}
END_TEST

/* The first answer may be reached, the next may not: a name whose owner changes his mind (TTL 0). */
static enum rc lookup_rebinding(const char *host, struct names_result *ret)
{
	const bool first = atomic_fetch_add(&lookups, 1) == 0;

	ret->count = 1;
	ret->addr[0].in.sin_family = AF_INET;
	inet_pton(AF_INET, first ? "127.0.0.1" : "169.254.169.254", &ret->addr[0].in.sin_addr);
	return RC_OK;
}

START_TEST(s47_a_rebound_name_is_judged_again)
{
	int64_t now = clock_mono_ms();

	curlm_lookup_set(curlm, lookup_rebinding);
	ck_assert_str_eq(name_call("rebind.example").code, "tls"); /* it was connected to */
	ck_assert_int_eq(atomic_load(&lookups), 1);
	/* Within a minute the first answer stands: what was judged is what is connected to. */
	ck_assert_str_eq(name_call("rebind.example").code, "tls");
	ck_assert_int_eq(atomic_load(&lookups), 1);
	pass_ms(10);
	ck_assert_int_eq(up.connections, 2);
	clock_fake_set((now + NAMES_STALE_MS + 1000) * 1000, clock_wall_us());
	ck_assert_int_eq(name_call("rebind.example").rc, RC_DENIED);
	ck_assert_int_eq(atomic_load(&lookups), 2);
	ck_assert_int_eq(up.connections, 2);
	clock_fake_set(-1, 0);
}
END_TEST

/* --- heads ------------------------------------------------------------------------------------------ */

START_TEST(head_rules)
{
	static const struct {
		const char *lines[5];
		enum rc rc; /* of the last line */
	} cases[] = {
		{{"HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n", "\r\n"}, RC_OK},
		{{"HTTP/1.0 200 OK\r\n", "\r\n"}, RC_OK},
		{{"HTTP/1.1 200\r\n", "\r\n"}, RC_OK},
		{{"HTTP/1.1 100 C\r\n", "\r\n", "HTTP/1.1 200 OK\r\n", "\r\n"}, RC_OK},
		{{"HTTP/1.1 200 OK\r\n", "Content-Encoding: identity\r\n", "\r\n"}, RC_OK},
		{{"HTTP/2 200\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 20 OK\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 600 OK\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1  200 OK\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", " folded: x\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "no colon\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", ": x\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Content-Length: +5\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Content-Length: 5x\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Content-Length:\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Content-Length: 9999999999999999999\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Transfer-Encoding: chunked\r\n",
		  "Transfer-Encoding: chunked\r\n"},
		 RC_PROTOCOL},
		{{"HTTP/1.0 200 OK\r\n", "Transfer-Encoding: chunked\r\n", "\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 200 OK\r\n", "Content-Encoding: br\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 304 Not\r\n", "\r\n"}, RC_PROTOCOL},
		{{"HTTP/1.1 101 Up\r\n", "\r\n"}, RC_PROTOCOL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct curlm_head h = {0};
		struct err err;
		enum rc rc = RC_OK;

		for (int j = 0; j < 5 && cases[i].lines[j]; j++) {
			ck_assert_msg(rc == RC_OK, "case %zu", i);
			rc = curlm_head_line(&h, str_from(cases[i].lines[j]), &err);
		}
		ck_assert_msg(rc == cases[i].rc, "case %zu", i);
		ck_assert_msg(h.complete == (rc == RC_OK), "case %zu", i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("curlm");
	TCase *t = tcase_create("curlm");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, plain_answer);
	tcase_add_test(t, other_good_answers);
	tcase_add_test(t, request_as_asked);
	tcase_add_test(t, large_request_body);
	tcase_add_test(t, body_in_pieces);
	tcase_add_test(t, body_in_pieces_is_sent_again);
	tcase_add_test(t, connections_are_used_again);
	tcase_add_test(t, excess_bytes_are_no_answer_to_the_next);
	tcase_add_test(t, broken_answers);
	tcase_add_test(t, s51_redirects_are_not_followed);
	tcase_add_test(t, timeouts);
	tcase_add_test(t, connect_timeout);
	tcase_add_test(t, refused_connection);
	tcase_add_test(t, body_cap);
	tcase_add_test(t, pause_stops_the_upstream_and_resume_goes_on);
	tcase_add_test(t, every_byte_once_with_pauses);
	tcase_add_test(t, cancel_anywhere);
	tcase_add_test(t, cancel_another_from_a_callback);
	tcase_add_test(t, free_with_calls_running);
	tcase_add_test(t, many_streams_at_once);
	tcase_add_test(t, s52_proxy_of_the_environment_is_ignored);
	tcase_add_test(t, requests_that_are_not_sent);
	tcase_add_test(t, unix_socket);
	tcase_add_test(t, secret_is_gone_once_the_answer_begins);
	tcase_add_test(t, secret_is_gone_over_tls);
	tcase_add_test(t, names_are_cached_and_shared);
	tcase_add_test(t, names_failures);
	tcase_add_test(t, names_freed_while_a_thread_waits);
	tcase_add_test(t, s47_a_rebound_name_is_judged_again);
	tcase_add_test(t, s48_s49_s50_one_denied_address_refuses_the_name);
	tcase_add_test(t, head_rules);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
