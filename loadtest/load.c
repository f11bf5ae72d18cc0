/* loadtest/load.c - a closed-loop HTTP client: each connection sends its next call when its last one
 * ended.
 *
 *   load --to HOST:PORT [--path P] [--key K] [--model M] [--connections N] [--seconds S | --calls N]
 *        [--warm S] [--bytes N] [--words N] [--stream] [--json]
 *
 * Prints calls, calls per second, latency quantiles in milliseconds and errors (an answer that is
 * not 200, or a connection that broke). With --stream also the time to the first event. Latency is
 * counted from the first byte sent to the last byte read; a closed loop understates the queueing of
 * an overloaded server, so compare runs at the same --connections.
 *
 * One thread, one epoll. Never reports a call as done whose answer was not whole. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common.h"

#define CONNECTIONS_MAX	  10000
#define SAMPLES_MAX	  (64 * 1024 * 1024)
#define ANSWER_WAIT_S	  60   /* a call that takes longer ends the run */
#define CONNECT_TRIES_MAX 1000 /* in a row, without one answer between: nobody is there */

struct client {
	int fd;
	struct text in;
	struct http_head head;
	struct http_body body;
	size_t sent;
	bool in_body, sending;
	uint64_t began_us, first_us;
};

static struct options {
	const char *to, *path, *key, *model;
	long connections, calls, bytes, words;
	long seconds, warm;
	bool stream, json;
} opt = {.path = "/v1/chat/completions",
	 .key = "fake-key",
	 .model = "demo-model",
	 .connections = 16,
	 .bytes = 2048,
	 .words = 16,
	 .seconds = 3};

struct samples {
	uint32_t *us;
	size_t count, room;
};

static int epoll_fd;
static struct client *clients;
static struct text wire; /* the request, the same for every call */
static struct samples whole, first;
static uint64_t errors, started_calls, measure_us, end_us, last_answer_us;
static long failed_connects;
static int odd_status;

static void sample_add(struct samples *s, uint64_t us)
{
	if (s->count == SAMPLES_MAX)
		return;
	if (s->count == s->room) {
		s->room = s->room > 0 ? s->room * 2 : 65536;
		s->us = realloc(s->us, s->room * sizeof(*s->us));
		if (s->us == NULL)
			die("out of memory");
	}
	s->us[s->count++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static int sample_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void samples_sort(struct samples *s)
{
	if (s->count > 0)
		qsort(s->us, s->count, sizeof(*s->us), sample_order);
}

static double quantile_ms(const struct samples *s, double q)
{
	if (s->count == 0)
		return 0;
	return (double)s->us[(size_t)(q * (double)(s->count - 1))] / 1000;
}

/* --- one client ------------------------------------------------------------------------------------ */

static bool may_begin(uint64_t now)
{
	if (opt.calls > 0)
		return started_calls < (uint64_t)opt.calls;
	return now < end_us;
}

static void client_watch(struct client *c, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(epoll_fd, op, c->fd, &ev) < 0)
		die("cannot watch a connection: %s", strerror(errno));
}

static void client_connect(struct client *c)
{
	if (failed_connects > CONNECT_TRIES_MAX)
		die("nobody answers at %s", opt.to);
	c->fd = dial(opt.to);
	if (c->fd < 0)
		die("cannot connect to %s", opt.to);
	c->in.len = 0;
	client_watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void client_begin(struct client *c, uint64_t now)
{
	c->sent = 0;
	c->sending = may_begin(now);
	c->in_body = false;
	c->began_us = now;
	c->first_us = 0;
	if (c->sending)
		started_calls++;
}

static void client_drop(struct client *c, uint64_t now, bool is_error)
{
	if (is_error && c->sending) {
		errors++;
		failed_connects++;
	}
	close(c->fd);
	c->fd = -1;
	client_begin(c, now);
	if (c->sending)
		client_connect(c);
}

static void client_done(struct client *c, uint64_t now)
{
	bool is_ok = span_is(c->head.start[1], "200");

	failed_connects = 0;
	last_answer_us = now;
	if (!is_ok) {
		char text[8];

		span_copy(c->head.start[1], text, sizeof(text));
		odd_status = (int)strtol(text, NULL, 10);
		errors++;
	} else if (c->began_us >= measure_us) {
		sample_add(&whole, now - c->began_us);
		if (c->first_us > 0)
			sample_add(&first, c->first_us - c->began_us);
	}
	if (c->head.close) {
		client_drop(c, now, false);
		return;
	}
	c->in.len = 0;
	client_begin(c, now);
	if (!c->sending)
		client_drop(c, now, false);
}

static void client_send(struct client *c, uint64_t now)
{
	while (c->sending && c->sent < wire.len) {
		ssize_t n = send(c->fd, wire.at + c->sent, wire.len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			client_watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0) {
			client_drop(c, now, true);
			return;
		}
		c->sent += (size_t)n;
		if (c->sent == wire.len)
			client_watch(c, EPOLL_CTL_MOD, EPOLLIN);
	}
}

static void client_read(struct client *c, uint64_t now)
{
	char bytes[65536];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);
	struct span rest = {bytes, n > 0 ? (size_t)n : 0};
	int there;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		if (c->in_body && c->body.kind == BODY_TO_CLOSE && n == 0)
			client_done(c, now);
		else
			client_drop(c, now, c->sent > 0 || n < 0);
		return;
	}
	if (!c->in_body) {
		text_add(&c->in, bytes, (size_t)n);
		there = http_head_parse((struct span){c->in.at, c->in.len}, &c->head);
		if (there < 0)
			client_drop(c, now, true);
		if (there <= 0)
			return;
		http_body_start(&c->body, &c->head, true);
		c->in_body = true;
		rest = (struct span){c->in.at + c->head.size, c->in.len - c->head.size};
	}
	if (rest.len > 0 && c->first_us == 0)
		c->first_us = now;
	(void)http_body_feed(&c->body, rest, NULL);
	if (c->body.bad)
		client_drop(c, now, true);
	else if (c->body.done)
		client_done(c, now);
}

/* --- the run --------------------------------------------------------------------------------------- */

static void wire_make(void)
{
	struct text body = {0};

	text_f(&body,
	       "{\"model\":\"%s\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"",
	       opt.model,
	       opt.stream ? "true,\"stream_options\":{\"include_usage\":true}" : "false");
	while (body.len + 24 < (size_t)opt.bytes)
		text_z(&body, "lorem ");
	text_f(&body, "[[words=%ld]]\"}]}", opt.words);
	text_f(&wire,
	       "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
	       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	       opt.path, opt.to, opt.key, body.len);
	text_add(&wire, body.at, body.len);
	text_clear(&body);
}

static bool anyone_left(void)
{
	for (long i = 0; i < opt.connections; i++)
		if (clients[i].fd >= 0)
			return true;
	return false;
}

static uint64_t run(void)
{
	struct epoll_event events[256];
	uint64_t now = now_us();

	measure_us = now + (uint64_t)opt.warm * 1000000;
	end_us = measure_us + (uint64_t)opt.seconds * 1000000;
	last_answer_us = now;
	for (long i = 0; i < opt.connections; i++) {
		clients[i].fd = -1;
		client_begin(&clients[i], now);
		if (clients[i].sending)
			client_connect(&clients[i]);
	}
	while (now < end_us || opt.calls > 0 || anyone_left()) {
		int n = epoll_wait(epoll_fd, events, sizeof(events) / sizeof(*events), 100);

		now = now_us();
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			int fd = c->fd;

			if (fd >= 0 && (events[i].events & EPOLLOUT) != 0)
				client_send(c, now);
			else if (fd >= 0)
				client_read(c, now);
			/* the next call of a connection that stayed */
			if (c->fd == fd && fd >= 0 && c->sent == 0 && c->sending && c->in.len == 0)
				client_send(c, now);
		}
		if (!anyone_left())
			break;
		if (now > last_answer_us + (uint64_t)ANSWER_WAIT_S * 1000000)
			die("no answer from %s for %d s", opt.to, ANSWER_WAIT_S);
	}
	return now < end_us || opt.calls == 0 ? (now < end_us ? now : end_us) : now;
}

static void print(double seconds)
{
	const char *format =
		opt.json
			? "{\"calls\":%zu,\"errors\":%llu,\"status\":%d,\"seconds\":%.3f,"
			  "\"per_s\":%.1f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,"
			  "\"max_ms\":%.3f,\"first_p50_ms\":%.3f,\"first_p99_ms\":%.3f}\n"
			: "calls=%zu errors=%llu odd_status=%d seconds=%.3f per_s=%.1f p50_ms=%.3f "
			  "p90_ms=%.3f p99_ms=%.3f max_ms=%.3f first_p50_ms=%.3f first_p99_ms=%.3f\n";

	samples_sort(&whole);
	samples_sort(&first);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	printf(format, whole.count, (unsigned long long)errors, odd_status, seconds,
	       seconds > 0 ? (double)whole.count / seconds : 0, quantile_ms(&whole, 0.5),
	       quantile_ms(&whole, 0.9), quantile_ms(&whole, 0.99), quantile_ms(&whole, 1),
	       quantile_ms(&first, 0.5), quantile_ms(&first, 0.99));
#pragma GCC diagnostic pop
}

static long number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == 0 || *end != 0 || n < 0)
		die("'%s' is not a number", text);
	return n;
}

static void options_read(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(name, "--stream") == 0) {
			opt.stream = true;
			continue;
		}
		if (strcmp(name, "--json") == 0) {
			opt.json = true;
			continue;
		}
		if (value == NULL)
			die("%s: unknown, or without its value; the top of load.c says how", name);
		i++;
		if (strcmp(name, "--to") == 0)
			opt.to = value;
		else if (strcmp(name, "--path") == 0)
			opt.path = value;
		else if (strcmp(name, "--key") == 0)
			opt.key = value;
		else if (strcmp(name, "--model") == 0)
			opt.model = value;
		else if (strcmp(name, "--connections") == 0)
			opt.connections = number(value);
		else if (strcmp(name, "--seconds") == 0)
			opt.seconds = number(value);
		else if (strcmp(name, "--calls") == 0)
			opt.calls = number(value);
		else if (strcmp(name, "--warm") == 0)
			opt.warm = number(value);
		else if (strcmp(name, "--bytes") == 0)
			opt.bytes = number(value);
		else if (strcmp(name, "--words") == 0)
			opt.words = number(value);
		else
			die("unknown option %s; the top of load.c says how", name);
	}
	if (opt.to == NULL || opt.connections < 1 || opt.connections > CONNECTIONS_MAX)
		die("--to HOST:PORT is needed, and 1 to %d connections", CONNECTIONS_MAX);
}

int main(int argc, char **argv)
{
	uint64_t ended_us;

	options_read(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	wire_make();
	clients = calloc((size_t)opt.connections, sizeof(*clients));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (clients == NULL || epoll_fd < 0)
		die("cannot start: %s", strerror(errno));
	ended_us = run();
	print((double)(ended_us - measure_us) / 1e6);
	for (long i = 0; i < opt.connections; i++)
		text_clear(&clients[i].in);
	free(clients);
	free(whole.us);
	free(first.us);
	text_clear(&wire);
	return errors > 0;
}
