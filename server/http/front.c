/* server/http/front.c - one per worker: its connections, its limits, its drain; and what all
 * workers count together: connections at all, and by address.
 *
 * Addresses are counted in slots of a keyed hash rather than in a table of addresses: a flood of
 * new addresses costs no memory, and two that share a slot merely share a limit. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include <assert.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/metrics.h"

const struct setting http_settings[] = {
	{.name = "max_body_bytes",
	 .type = SETTING_BYTES,
	 .def = "32MiB",
	 .min = 1024,
	 .max = 1024 * 1024 * 1024,
	 .help = "largest request body of the data plane; larger ones get 413"},
	{.name = "http_admin_body_bytes_max",
	 .type = SETTING_BYTES,
	 .def = "1MiB",
	 .min = 1024,
	 .max = 64 * 1024 * 1024,
	 .help = "largest request body of the control plane"},
	{.name = "http_head_timeout_ms",
	 .type = SETTING_INT,
	 .def = "10000",
	 .min = 1,
	 .max = 600000,
	 .help = "a request head must be complete within this"},
	{.name = "http_body_timeout_ms",
	 .type = SETTING_INT,
	 .def = "30000",
	 .min = 1,
	 .max = 3600000,
	 .help = "a request body must be complete within this, and a second per "
		 "http_body_bytes_per_second_min"},
	{.name = "http_body_bytes_per_second_min",
	 .type = SETTING_BYTES,
	 .def = "64KiB",
	 .min = 1024,
	 .max = 1024 * 1024 * 1024,
	 .help = "a body this slow just meets its deadline"},
	{.name = "http_idle_timeout_ms",
	 .type = SETTING_INT,
	 .def = "60000",
	 .min = 1,
	 .max = 3600000,
	 .help = "a kept-alive connection without a request is closed after this"},
	{.name = "http_lifetime_ms",
	 .type = SETTING_INT,
	 .def = "3600000",
	 .min = 1,
	 .max = 86400000,
	 .help = "a connection this old ends with its next answer"},
	{.name = "http_write_stall_ms",
	 .type = SETTING_INT,
	 .def = "30000",
	 .min = 1,
	 .max = 3600000,
	 .help = "a peer that takes no byte of its answer for this long is cut"},
	{.name = "http_tls_timeout_ms",
	 .type = SETTING_INT,
	 .def = "5000",
	 .min = 1,
	 .max = 600000,
	 .help = "a TLS handshake must be complete within this"},
	{.name = "http_linger_ms",
	 .type = SETTING_INT,
	 .def = "2000",
	 .min = 1,
	 .max = 60000,
	 .help = "how long a closing connection waits for the peer to read its answer"},
	{.name = "http_requests_per_connection_max",
	 .type = SETTING_INT,
	 .def = "10000",
	 .min = 1,
	 .max = 1000000000,
	 .help = "a connection ends after this many requests"},
	{.name = "http_connections_max",
	 .type = SETTING_INT,
	 .def = "0",
	 .min = 0,
	 .max = 10000000,
	 .help = "data-plane connections at all; 0: nine tenths of the descriptor limit"},
	{.name = "http_connections_per_ip_max",
	 .type = SETTING_INT,
	 .def = "512",
	 .min = 1,
	 .max = 10000000,
	 .help = "connections from one address (IPv6: one /64); raise it behind a proxy"},
	{.name = "http_bad_heads_per_minute_max",
	 .type = SETTING_INT,
	 .def = "50",
	 .min = 0,
	 .max = 1000000000,
	 .help = "malformed requests from one address before it is dropped for the minute; 0: never"},
	{.name = "http_target_bytes_max",
	 .type = SETTING_BYTES,
	 .def = "8KiB",
	 .min = 256,
	 .max = 16000,
	 .help = "longest request target"},
	{.name = "http_header_line_bytes_max",
	 .type = SETTING_BYTES,
	 .def = "8KiB",
	 .min = 256,
	 .max = 32768,
	 .help = "longest header line"},
	{.name = "http_headers_bytes_max",
	 .type = SETTING_BYTES,
	 .def = "32KiB",
	 .min = 1024,
	 .max = 32768,
	 .help = "all header lines together"},
	{.name = "http_headers_max",
	 .type = SETTING_INT,
	 .def = "100",
	 .min = 8,
	 .max = 100,
	 .help = "number of header lines"},
	{.name = "http_stream_high_bytes",
	 .type = SETTING_BYTES,
	 .def = "256KiB",
	 .min = 4096,
	 .max = 16 * 1024 * 1024,
	 .help = "a stream is paused when this much waits for its reader"},
	{.name = "http_stream_low_bytes",
	 .type = SETTING_BYTES,
	 .def = "64KiB",
	 .min = 0,
	 .max = 16 * 1024 * 1024,
	 .help = "and goes on when this much is left"},
	SETTING_LAST};

const struct http_limits http_limits_default = {
	.parse = {.target_bytes_max = 8192,
		  .header_line_bytes_max = 8192,
		  .headers_bytes_max = 32768,
		  .headers_max = HTTP_HEADERS_MAX,
		  .body_bytes_max = 0},
	.head_timeout_ms = 10000,
	.body_timeout_ms = 30000,
	.body_bytes_per_second_min = 65536,
	.idle_timeout_ms = 60000,
	.lifetime_ms = 3600000,
	.write_stall_ms = 30000,
	.tls_timeout_ms = 5000,
	.linger_ms = 2000,
	.requests_per_connection_max = 10000,
	.connections_max = 0,
	.connections_per_ip_max = 512,
	.bad_heads_per_minute_max = 50,
	.body_bytes_max = 32 * 1024 * 1024,
	.admin_body_bytes_max = 1024 * 1024,
	.stream_high_bytes = 256 * 1024,
	.stream_low_bytes = 64 * 1024,
};

static struct http_limits limits_from(const struct config *c)
{
	struct http_limits l = http_limits_default;

	l.parse.target_bytes_max = (size_t)config_int(c, "http_target_bytes_max");
	l.parse.header_line_bytes_max = (size_t)config_int(c, "http_header_line_bytes_max");
	l.parse.headers_bytes_max = (size_t)config_int(c, "http_headers_bytes_max");
	l.parse.headers_max = (size_t)config_int(c, "http_headers_max");
	l.head_timeout_ms = config_int(c, "http_head_timeout_ms");
	l.body_timeout_ms = config_int(c, "http_body_timeout_ms");
	l.body_bytes_per_second_min = config_int(c, "http_body_bytes_per_second_min");
	l.idle_timeout_ms = config_int(c, "http_idle_timeout_ms");
	l.lifetime_ms = config_int(c, "http_lifetime_ms");
	l.write_stall_ms = config_int(c, "http_write_stall_ms");
	l.tls_timeout_ms = config_int(c, "http_tls_timeout_ms");
	l.linger_ms = config_int(c, "http_linger_ms");
	l.requests_per_connection_max = config_int(c, "http_requests_per_connection_max");
	l.connections_max = config_int(c, "http_connections_max");
	l.connections_per_ip_max = config_int(c, "http_connections_per_ip_max");
	l.bad_heads_per_minute_max = config_int(c, "http_bad_heads_per_minute_max");
	l.body_bytes_max = (size_t)config_int(c, "max_body_bytes");
	l.admin_body_bytes_max = (size_t)config_int(c, "http_admin_body_bytes_max");
	l.stream_high_bytes = (size_t)config_int(c, "http_stream_high_bytes");
	l.stream_low_bytes = (size_t)config_int(c, "http_stream_low_bytes");
	return l;
}

size_t http_body_cap(const struct http_front *f, const struct endpoint *e, enum surface s)
{
	if (e->body_bytes_max)
		return e->body_bytes_max;
	return s == SURFACE_ADMIN ? f->limits.admin_body_bytes_max : f->limits.body_bytes_max;
}

static int64_t connections_by_rlimit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
		return 1000000;
	return (int64_t)(r.rlim_cur / 10 * 9);
}

struct http_front *http_front_new_limits(struct worker *w, const struct endpoint *const *tables,
					 const struct http_limits *limits)
{
	struct http_front *f = calloc(1, sizeof *f);
	uint64_t largest;

	if (!f)
		abort();
	f->worker = w;
	f->loop = w->loop;
	f->tables = tables;
	f->limits = *limits;
	if (f->limits.connections_max == 0)
		f->limits.connections_max = connections_by_rlimit();
	if (f->limits.stream_low_bytes > f->limits.stream_high_bytes)
		f->limits.stream_low_bytes = f->limits.stream_high_bytes;
	/* what no endpoint takes is refused before anyone asks which it is */
	largest = f->limits.body_bytes_max > f->limits.admin_body_bytes_max
			  ? f->limits.body_bytes_max
			  : f->limits.admin_body_bytes_max;
	for (const struct endpoint *const *t = tables; *t; t++)
		for (const struct endpoint *e = *t; e->path; e++)
			if (e->body_bytes_max > largest)
				largest = e->body_bytes_max;
	f->limits.parse.body_bytes_max = largest;
	signal(SIGPIPE, SIG_IGN); /* answers are written with writev, which knows no MSG_NOSIGNAL */
	return f;
}

struct http_front *http_front_new(struct worker *w, const struct endpoint *const *tables)
{
	struct http_limits l = limits_from(w->service->config);

	return http_front_new_limits(w, tables, &l);
}

void http_front_unused(struct http_front *f)
{
	if (f->freed && !f->conns)
		free(f);
}

void http_front_drain(struct http_front *f)
{
	struct http_conn *next;

	f->draining = true;
	http_listeners_close(f);
	for (struct http_conn *c = f->conns; c; c = next) {
		next = c->next;
		http_conn_drain(c);
	}
}

void http_front_cut(struct http_front *f)
{
	struct http_conn *next;

	http_front_drain(f);
	for (struct http_conn *c = f->conns; c; c = next) {
		next = c->next;
		http_conn_cut(c);
	}
}

/* A handler that has not answered keeps its connection's memory until it does, and the last such
 * connection takes the front with it. */
void http_front_free(struct http_front *f)
{
	if (!f)
		return;
	http_front_cut(f);
	f->freed = true;
	http_front_unused(f);
}

size_t http_front_open(const struct http_front *f)
{
	return f->open;
}

/* --- counted over all workers ------------------------------------------------------------------------ */
#define SLOTS (1u << 14)
static _Atomic int64_t slot_open[SLOTS];
static struct {
	_Atomic int64_t minute, bad;
} slot_bad[SLOTS];

unsigned http_ip_slot(const struct sockaddr *sa)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)sa;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)sa;

	if (sa->sa_family == AF_INET)
		return (unsigned)(hash64(str_of(&v4->sin_addr, 4)) % SLOTS);
	if (sa->sa_family != AF_INET6)
		return HTTP_NO_SLOT;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return (unsigned)(hash64(str_of(v6->sin6_addr.s6_addr + 12, 4)) % SLOTS);
	return (unsigned)(hash64(str_of(&v6->sin6_addr, 8)) % SLOTS);
}

bool http_ip_enter(const struct http_front *f, unsigned slot)
{
	if (slot == HTTP_NO_SLOT)
		return true;
	if (atomic_fetch_add(&slot_open[slot], 1) < f->limits.connections_per_ip_max)
		return true;
	atomic_fetch_sub(&slot_open[slot], 1);
	return false;
}

void http_ip_leave(unsigned slot)
{
	if (slot != HTTP_NO_SLOT)
		atomic_fetch_sub(&slot_open[slot], 1);
}

void http_ip_bad_head(unsigned slot, int64_t now_ms)
{
	int64_t minute = now_ms / 60000;

	if (slot == HTTP_NO_SLOT)
		return;
	if (atomic_exchange(&slot_bad[slot].minute, minute) != minute)
		atomic_store(&slot_bad[slot].bad, 0);
	atomic_fetch_add(&slot_bad[slot].bad, 1);
}

bool http_ip_too_bad(const struct http_front *f, unsigned slot, int64_t now_ms)
{
	return slot != HTTP_NO_SLOT && f->limits.bad_heads_per_minute_max > 0 &&
	       atomic_load(&slot_bad[slot].minute) == now_ms / 60000 &&
	       atomic_load(&slot_bad[slot].bad) >= f->limits.bad_heads_per_minute_max;
}

/* The control plane may use the last tenth too: it is how an overload is looked at. */
bool http_room_left(const struct http_front *f, enum surface s)
{
	return s == SURFACE_ADMIN || atomic_load(&http_counters.open) < f->limits.connections_max;
}

/* --- metrics ------------------------------------------------------------------------------------------ */
void http_metrics(struct metrics_out *out)
{
	static const struct {
		const char *name, *help;
		const struct counter *n;
	} rows[] = {
		{"tollgate_http_connections_total", "Connections accepted.",
		 &http_counters.accepted},
		{"tollgate_http_connections_refused_total",
		 "Connections closed at once because of their address.", &http_counters.refused_ip},
		{"tollgate_http_accept_pauses_total", "Times accepting paused for want of room.",
		 &http_counters.refused_global},
		{"tollgate_http_requests_total", "Requests whose head was complete or refused.",
		 &http_counters.requests},
		{"tollgate_http_malformed_total", "Requests refused before any endpoint saw them.",
		 &http_counters.faults},
		{"tollgate_http_timeouts_total", "Connections ended by a deadline.",
		 &http_counters.timeouts},
		{"tollgate_http_peer_gone_total", "Peers that left before their answer.",
		 &http_counters.gone},
	};
	char label[32];

	metrics_family(out, "tollgate_http_connections_open", "gauge", "Connections open now.");
	metrics_sample(out, "tollgate_http_connections_open", "", atomic_load(&http_counters.open));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		metrics_family(out, rows[i].name, "counter", rows[i].help);
		metrics_sample(out, rows[i].name, "", (int64_t)counter_get(rows[i].n));
	}
	metrics_family(out, "tollgate_http_answers_total", "counter", "Answers by status class.");
	for (int i = 2; i < 6; i++) {
		snprintf(label, sizeof label, "class=\"%dxx\"", i);
		metrics_sample(out, "tollgate_http_answers_total", label,
			       (int64_t)counter_get(&http_counters.status[i]));
	}
}
