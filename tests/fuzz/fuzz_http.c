/* tests/fuzz/fuzz_http.c - the HTTP front: heads (Z1), chunked bodies (Z2), and the connection's state
 * machine under sequences of bytes, turns, answers and departures (Z20).
 *
 * The first byte chooses. Properties: no crash; a verdict, its place and the payload do not depend
 * on how the bytes were cut; whatever the peer does, after it has left and the handlers have
 * answered no request and no connection is left. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "server/http/http.h"
#include "server/http/http_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- Z1, Z2 -------------------------------------------------------------------------------------- */
struct verdict {
	int status; /* -2: more wanted, -1: not HTTP, 0: taken */
	size_t used, fields;
	uint64_t payload_hash, payload_bytes;
};

static enum rc take(void *arg, struct str bytes)
{
	struct verdict *v = arg;

	for (size_t i = 0; i < bytes.len; i++)
		v->payload_hash = v->payload_hash * 1099511628211u + (uint8_t)bytes.ptr[i];
	v->payload_bytes += bytes.len;
	return RC_OK;
}

static struct verdict read_cut(struct str wire, size_t step)
{
	struct verdict v = {.status = -2};
	struct http_parser p;
	bool head = true;
	size_t at = 0;

	http_parser_init(&p, &http_parse_limits_default);
	while (at < wire.len && v.status == -2) {
		struct str piece = str_slice(wire, at, at + step);
		size_t used = 0;
		enum http_parse got = head ? http_parser_head(&p, piece, &used)
					   : http_parser_body(&p, piece, &used, take, &v);

		assert(used <= piece.len);
		at += used;
		if (got == HTTP_PARSE_NOT_HTTP)
			v.status = -1;
		else if (got == HTTP_PARSE_BAD)
			v.status = p.fault->status;
		else if (got == HTTP_PARSE_DONE && (!head || !http_parser_has_body(&p)))
			v.status = 0;
		if (got == HTTP_PARSE_DONE) {
			v.fields = p.fields_count;
			head = false;
		}
	}
	v.used = v.status == 0 ? at : 0;
	http_parser_clear(&p);
	return v;
}

static void parse_every_way(struct str wire)
{
	static const size_t steps[] = {1, 2, 3, 7, 64, 1000};
	struct verdict whole = read_cut(wire, wire.len + 1);

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		struct verdict v = read_cut(wire, steps[i]);

		assert(v.status == whole.status && v.used == whole.used);
		assert(v.fields == whole.fields);
		/* up to a bad byte the pieces may have delivered more or less of the payload */
		if (v.status == 0)
			assert(v.payload_hash == whole.payload_hash &&
			       v.payload_bytes == whole.payload_bytes);
	}
}

static void parse_chunked(const uint8_t *data, size_t size)
{
	static const char head[] =
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
	char *wire = malloc(sizeof head + size);

	memcpy(wire, head, sizeof head - 1);
	if (size)
		memcpy(wire + sizeof head - 1, data, size);
	parse_every_way(str_of(wire, sizeof head - 1 + size));
	free(wire);
}

/* --- Z20 ----------------------------------------------------------------------------------------- */
static struct worker worker;
static struct http_front *front;
static struct http_request *held[64];
static size_t held_count;

static void handle_echo(struct http_request *r)
{
	http_reply(r, 200, r->body);
}

static void release(size_t i, bool abort_it)
{
	struct http_request *r = held[i];

	held[i] = held[--held_count];
	if (r->user && abort_it)
		http_stream_abort(r);
	else if (r->user)
		http_stream_end(r);
	else
		http_reply(r, 200, STR("held"));
}

static void handle_hold(struct http_request *r)
{
	if (held_count == sizeof held / sizeof held[0])
		release(0, false);
	held[held_count++] = r;
}

static void handle_stream(struct http_request *r)
{
	r->user = r;
	http_stream_begin(r);
	handle_hold(r);
}

static const struct endpoint endpoints[] = {
	{"POST", "/e", SURFACE_DATA, ROLES_ANYONE, 0, true, handle_echo, ""},
	{"GET", "/h", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_hold, ""},
	{"GET", "/s", SURFACE_DATA, ROLES_ANYONE, 0, false, handle_stream, ""},
	{"POST", "/a", SURFACE_DATA, 1, 16, true, handle_echo, ""},
	{.path = NULL}};
static const struct endpoint *const tables[] = {endpoints, NULL};

static struct { /* an authentication that has not been answered */
	http_auth_done *done;
	void *arg;
} asked;

static void authenticate(struct http_request *r, http_auth_done *done, void *arg)
{
	if (asked.done) {
		done(arg, RC_DENIED, NULL);
		return;
	}
	r->roles = 1;
	asked.done = done;
	asked.arg = arg;
}

static void auth_answer(enum rc rc)
{
	http_auth_done *done = asked.done;

	asked.done = NULL;
	if (done)
		done(asked.arg, rc, NULL);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

static void turn(void)
{
	loop_defer(worker.loop, stop, worker.loop);
	loop_run(worker.loop);
}

static void peer_say(int fd, const uint8_t *data, size_t size)
{
	if (fd >= 0 && send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* it has hung up, which is its right */
}

static void connection(const uint8_t *data, size_t size)
{
	static char sink[4096];
	int pair[2];
	size_t i = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		abort();
	http_conn_new(front, pair[0], SURFACE_DATA, NULL, "peer", HTTP_NO_SLOT);
	while (i < size) {
		uint8_t op = data[i++];
		size_t n = op >> 3;

		n = n < size - i ? n : size - i;
		switch (op & 7) {
		case 0:
		case 1:
			peer_say(pair[1], data + i, n);
			i += n;
			break;
		case 2:
			turn();
			break;
		case 3:
			if (held_count)
				release(op % held_count, (op >> 6) & 1);
			break;
		case 4:
			if (held_count && held[op % held_count]->user)
				http_stream_write(held[op % held_count], str_of(sink, op));
			break;
		case 5:
			if (pair[1] >= 0 && recv(pair[1], sink, sizeof sink, MSG_DONTWAIT) < 0)
				break;
			break;
		case 6:
			auth_answer(op & 8 ? RC_OK : RC_DENIED);
			break;
		default:
			if (pair[1] >= 0 && op & 8) {
				close(pair[1]);
				pair[1] = -1;
			} else if (pair[1] >= 0) {
				shutdown(pair[1], SHUT_WR);
			}
		}
	}
	if (pair[1] >= 0)
		close(pair[1]);
	for (i = 0; i < 200 && (front->conns || held_count); i++) {
		turn();
		auth_answer(RC_OK);
		while (held_count)
			release(0, false);
	}
	assert(!front->conns);
	assert(http_front_open(front) == 0);
	assert(atomic_load(&http_counters.open) == 0);
}

static void connection_setup(void)
{
	if (front)
		return;
	http_hooks.authenticate = authenticate;
	worker.loop = loop_new();
	front = http_front_new_limits(&worker, tables, &http_limits_default);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] % 3 == 0) {
		parse_every_way(str_of(data + 1, size - 1));
	} else if (data[0] % 3 == 1) {
		parse_chunked(data + 1, size - 1);
	} else {
		connection_setup();
		connection(data + 1, size - 1);
	}
	return 0;
}
