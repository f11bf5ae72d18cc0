/* server/curlm.c - outgoing HTTP: libcurl's multi_socket interface on our loop.
 *
 *   curlm_start -> WAITING (a name is looked up) -> RUNNING (in a multi handle) -> gone
 *                       \-> ENDING (refused; on_done comes on the next turn) -/
 *
 * libcurl calls back from inside its own functions, where its handles may not be touched; `in_curl`
 * counts these, and what a handler asks for in that time (start, cancel) is deferred. A call that
 * was cancelled there is `dead`: its handlers are not called and its body is not read any more.
 *
 * The secret stands in one node of the header list and, for the time of sending, in libcurl's send
 * buffer; on_trace() wipes what has been sent from it, and the allocators of curlm_global_init()
 * wipe whatever libcurl frees. Must never follow a redirect, use a proxy, decode an encoding, or
 * connect to an address that egress.h refuses. */
#include "server/curlm.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "server/base/arena.h"
#include "server/base/clock.h"
#include "server/base/map.h"
#include "server/base/wipe.h"
#include "server/curlm_head.h"
#include "server/loop.h"
#include "server/names.h"

#define CURLM_STREAMS_PER_MULTI	 64   /* a call's cost grows with the open streams of its multi */
#define CURLM_STREAM_MULTIS_MAX	 256  /* 16,384 streams a worker */
#define CURLM_STREAM_MULTIS_KEPT 2    /* idle ones, for their connections */
#define CURLM_CONNECTIONS_KEPT	 1024 /* idle, of plain calls */
#define CURLM_HANDLES_KEPT	 256  /* idle easy handles */
#define CURLM_ORIGINS_MAX	 1024 /* parsed base URLs */
#define CURLM_HEADERS_MAX	 64
#define CURLM_PATH_BYTES_MAX	 2048
#define CURLM_BASE_BYTES_MAX	 1024
#define CURLM_BODY_BYTES_DEFAULT (32u << 20)
#define CURLM_BUFFER_PLAIN	 32768L
#define CURLM_BUFFER_STREAM	 16384L /* held by every open stream */
#define CURLM_LIFETIME_S	 300L	/* of a connection: names are checked anew after it */
#define CURLM_HEADER_LINE_MAX	 (64 + 2 + 4096 + 1)

struct multi {
	struct curlm *m;
	CURLM *h;
	struct loop_timer timer;
	size_t calls;
};

struct sock { /* one per descriptor number, kept: libcurl opens and closes them in its own callbacks */
	struct loop_io io;
	struct multi *multi;
};

struct origin { /* a base URL as egress_parse() read it */
	char host[NAMES_HOST_MAX + 1];
	uint16_t port;
	bool https, literal;
};
struct known_origin {
	struct origin origin;
	char base[CURLM_BASE_BYTES_MAX];
};

struct curlm {
	struct loop *loop;
	const struct egress *egress;
	char *ca_file;
	struct names *names;
	struct map *origins;
	struct multi *plain;
	struct multi *streams[CURLM_STREAM_MULTIS_MAX];
	size_t streams_count;
	struct sock **socks; /* by descriptor */
	size_t socks_size;
	CURL *idle[CURLM_HANDLES_KEPT];
	size_t idle_count;
	struct curlm_call *calls;
	int in_curl;
	bool trimming;
};

enum call_state { CALL_WAITING, CALL_RUNNING, CALL_ENDING, CALL_DONE };
enum call_phase { PHASE_CONNECT, PHASE_FIRST_BYTE, PHASE_BODY };

struct curlm_call {
	struct curlm *m;
	struct curlm_call *prev, *next;
	enum call_state state;
	struct curlm_handlers h;
	struct origin origin;
	char method[16];
	char *url; /* until libcurl has its copy */
	char *unix_socket;
	struct str body;    /* of `pieces` all are set but its bytes: there are none in one place */
	struct str *pieces; /* NULL: the body is in one */
	size_t pieces_count, piece, piece_at; /* the next byte to be sent */
	bool stream, secret_body;
	size_t body_bytes, body_bytes_max;
	struct curl_slist *headers, *resolve;
	struct curl_slist *secret_node;
	size_t secret_from, secret_len; /* the secret's place in the node's text */
	struct names_query *query;
	struct multi *multi;
	CURL *easy;
	struct curlm_head head;
	/* time */
	struct curlm_timeouts timeouts;
	enum call_phase phase;
	int64_t phase_at_ms, total_at_ms, armed_ms; /* armed_ms 0: the timer is not set */
	struct loop_timer timer;
	/* what happened */
	bool dead;	  /* cancelled in a callback of libcurl */
	bool paused;	  /* a handler said so */
	bool curl_paused; /* libcurl holds bytes back */
	bool resuming;	  /* call_on_resume() is deferred */
	bool starting;	  /* call_go() is deferred */
	bool connected, sent;
	enum rc rc; /* RC_OK until our own checks refuse something */
	struct err err;
	char errbuf[CURL_ERROR_SIZE];
};

static void call_go(void *arg);
static void call_end(struct curlm_call *c, enum rc rc);
static void call_on_resume(void *arg);
static void call_on_dead(void *arg);
static void call_on_refused(void *arg);
static void call_arm(struct curlm_call *c);

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- allocators that wipe --------------------------------------------------------------------- */

static char *plain_strdup(const char *s)
{
	return strdup(s);
}

static void *plain_calloc(size_t n, size_t size)
{
	return calloc(n, size);
}

static void *plain_malloc(size_t size)
{
	return malloc(size);
}

void curlm_global_init(void)
{
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, plain_malloc, wipe_free, wipe_realloc,
				 plain_strdup, plain_calloc) != CURLE_OK)
		abort();
}

/* --- multi handles on the loop ------------------------------------------------------------------ */

static void multi_drain(struct multi *mu);

static void multi_act(struct multi *mu, curl_socket_t fd, int events)
{
	int running;

	mu->m->in_curl++;
	curl_multi_socket_action(mu->h, fd, events, &running);
	mu->m->in_curl--;
	multi_drain(mu);
}

static void on_multi_timeout(void *arg)
{
	multi_act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_multi_timer(CURLM *h, long delay_ms, void *arg)
{
	struct multi *mu = arg;

	(void)h;
	if (delay_ms < 0)
		loop_timer_clear(&mu->timer);
	else
		loop_timer_set(mu->m->loop, &mu->timer, delay_ms, on_multi_timeout, mu);
	return 0;
}

static void on_socket_ready(void *arg, int fd, int events)
{
	struct sock *s = arg;

	multi_act(s->multi, fd,
		  (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
			  (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0));
}

static struct sock *sock_of(struct curlm *m, curl_socket_t fd)
{
	size_t i = (size_t)fd, size = m->socks_size ? m->socks_size : 64;

	if (i >= m->socks_size) {
		while (size <= i)
			size *= 2;
		m->socks = must(realloc(m->socks, size * sizeof *m->socks));
		memset(m->socks + m->socks_size, 0, (size - m->socks_size) * sizeof *m->socks);
		m->socks_size = size;
	}
	if (!m->socks[i])
		m->socks[i] = must(calloc(1, sizeof *m->socks[i]));
	return m->socks[i];
}

static int on_multi_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock_arg)
{
	struct multi *mu = arg;
	struct sock *s = sock_of(mu->m, fd);
	int events =
		(what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);

	(void)easy;
	(void)sock_arg;
	if (what == CURL_POLL_REMOVE) {
		loop_io_clear(&s->io);
		s->multi = NULL;
		return 0;
	}
	s->multi = mu;
	loop_io_set(mu->m->loop, &s->io, fd, events, on_socket_ready, s);
	return 0;
}

static struct multi *multi_new(struct curlm *m, long connections_kept)
{
	struct multi *mu = must(calloc(1, sizeof *mu));

	mu->m = m;
	mu->h = must(curl_multi_init());
	curl_multi_setopt(mu->h, CURLMOPT_SOCKETFUNCTION, on_multi_socket);
	curl_multi_setopt(mu->h, CURLMOPT_SOCKETDATA, mu);
	curl_multi_setopt(mu->h, CURLMOPT_TIMERFUNCTION, on_multi_timer);
	curl_multi_setopt(mu->h, CURLMOPT_TIMERDATA, mu);
	curl_multi_setopt(mu->h, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(mu->h, CURLMOPT_MAXCONNECTS, connections_kept);
	return mu;
}

static void multi_free(struct multi *mu)
{
	struct curlm *m = mu->m;

	assert(mu->calls == 0 && m->in_curl == 0);
	curl_multi_cleanup(mu->h);
	loop_timer_clear(&mu->timer);
	for (size_t i = 0; i < m->socks_size; i++)
		if (m->socks[i] && m->socks[i]->multi == mu) {
			loop_io_clear(&m->socks[i]->io);
			m->socks[i]->multi = NULL;
		}
	free(mu);
}

/* The first with room, so that the early ones stay warm and the late ones empty. */
static struct multi *multi_choose(struct curlm *m, bool stream)
{
	if (!stream)
		return m->plain;
	for (size_t i = 0; i < m->streams_count; i++)
		if (m->streams[i]->calls < CURLM_STREAMS_PER_MULTI)
			return m->streams[i];
	if (m->streams_count == CURLM_STREAM_MULTIS_MAX)
		return NULL;
	m->streams[m->streams_count] = multi_new(m, CURLM_STREAMS_PER_MULTI);
	return m->streams[m->streams_count++];
}

static void curlm_on_trim(void *arg)
{
	struct curlm *m = arg;

	m->trimming = false;
	while (m->streams_count > CURLM_STREAM_MULTIS_KEPT &&
	       m->streams[m->streams_count - 1]->calls == 0)
		multi_free(m->streams[--m->streams_count]);
}

/* --- life --------------------------------------------------------------------------------------- */

struct curlm *curlm_new(struct loop *l, const struct egress *e, const char *ca_file)
{
	struct curlm *m = must(calloc(1, sizeof *m));

	m->loop = l;
	m->egress = e;
	m->ca_file = ca_file ? must(strdup(ca_file)) : NULL;
	m->names = names_new(l, NULL);
	m->origins = map_new(CURLM_ORIGINS_MAX, free);
	m->plain = multi_new(m, CURLM_CONNECTIONS_KEPT);
	return m;
}

void curlm_lookup_set(struct curlm *m,
		      enum rc (*lookup)(const char *host, struct names_result *ret))
{
	assert(!m->calls);
	names_free(m->names);
	m->names = names_new(m->loop, lookup);
}

static void call_unlink(struct curlm_call *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->m->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
}

static void call_wipe_secret(struct curlm_call *c)
{
	if (!c->secret_node)
		return;
	explicit_bzero(c->secret_node->data + c->secret_from, c->secret_len);
	c->secret_node = NULL;
}

static void easy_give_back(struct curlm *m, CURL *easy)
{
	curl_easy_reset(easy);
	if (m->idle_count < CURLM_HANDLES_KEPT)
		m->idle[m->idle_count++] = easy;
	else
		curl_easy_cleanup(easy);
}

/* Out of its multi handle; an unfinished transfer's connection is closed by that. */
static void call_detach(struct curlm_call *c)
{
	struct curlm *m = c->m;
	long request_bytes = 0;

	assert(m->in_curl == 0);
	if (!c->easy)
		return;
	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
	c->sent = c->connected && request_bytes > 0;
	curl_multi_remove_handle(c->multi->h, c->easy);
	easy_give_back(m, c->easy);
	c->easy = NULL;
	if (--c->multi->calls == 0 && c->stream && !m->trimming) {
		m->trimming = true;
		loop_defer(m->loop, curlm_on_trim, m);
	}
	c->multi = NULL;
}

static void call_free(struct curlm_call *c)
{
	struct curlm *m = c->m;

	call_detach(c);
	names_cancel(c->query);
	if (c->starting)
		loop_defer_cancel(m->loop, call_go, c);
	if (c->resuming)
		loop_defer_cancel(m->loop, call_on_resume, c);
	if (c->state == CALL_ENDING)
		loop_defer_cancel(m->loop, call_on_refused, c);
	if (c->dead)
		loop_defer_cancel(m->loop, call_on_dead, c);
	loop_timer_clear(&c->timer);
	call_wipe_secret(c);
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->resolve);
	call_unlink(c);
	free(c->url);
	free(c->unix_socket);
	free(c->pieces);
	free(c);
}

void curlm_free(struct curlm *m)
{
	if (!m)
		return;
	assert(m->in_curl == 0);
	while (m->calls)
		call_free(m->calls);
	loop_defer_cancel(m->loop, curlm_on_trim, m);
	while (m->streams_count > 0)
		multi_free(m->streams[--m->streams_count]);
	multi_free(m->plain);
	while (m->idle_count > 0)
		curl_easy_cleanup(m->idle[--m->idle_count]);
	names_free(m->names);
	map_free(m->origins);
	for (size_t i = 0; i < m->socks_size; i++)
		free(m->socks[i]);
	free(m->socks);
	free(m->ca_file);
	free(m);
}

/* --- how a call ends ---------------------------------------------------------------------------- */

/* Not from inside libcurl. */
static void call_end(struct curlm_call *c, enum rc rc)
{
	assert(c->state != CALL_DONE);
	call_detach(c);
	call_wipe_secret(c);
	c->state = CALL_DONE;
	c->h.on_done(c->h.arg, rc, rc == RC_OK ? NULL : &c->err);
	call_free(c);
}

/* Before the transfer began: told on the next turn. */
static void call_refuse(struct curlm_call *c)
{
	assert(c->state == CALL_WAITING && !c->easy && c->rc != RC_OK);
	c->state = CALL_ENDING;
	loop_defer(c->m->loop, call_on_refused, c);
}

static void call_on_refused(void *arg)
{
	struct curlm_call *c = arg;

	if (!c->dead)
		call_end(c, c->rc);
}

static enum rc call_map(struct curlm_call *c, CURLcode code)
{
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(&c->err, RC_TIMEOUT, "timeout", "The upstream did not answer.");
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CERTPROBLEM:
		err_set(&c->err, RC_NETWORK, "tls", "TLS with the upstream failed.");
		err_hint(&c->err, "Its certificate must be valid for the host in the base URL.");
		return RC_NETWORK;
	case CURLE_RECV_ERROR:
		/* also used for broken chunks and endless headers; the words tell */
		if (!str_starts(str_from(c->errbuf), STR("Recv failure")) &&
		    !str_starts(str_from(c->errbuf), STR("OpenSSL SSL")) && c->errbuf[0])
			break;
		return err_set(&c->err, RC_NETWORK, "network", "The upstream cut the connection.");
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		return err_set(&c->err, RC_NETWORK, "network", "The upstream cut the connection.");
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(&c->err, RC_NETWORK, "network",
			       "The upstream could not be reached.");
	default:
		break;
	}
	return err_set(&c->err, RC_PROTOCOL, "protocol", "The upstream broke HTTP.");
}

static void call_done(struct curlm_call *c, CURLcode code)
{
	enum rc rc = c->rc;

	if (rc == RC_OK && code == CURLE_OK && !c->head.complete)
		rc = err_set(&c->err, RC_PROTOCOL, "protocol", "The upstream sent no answer.");
	else if (rc == RC_OK && code != CURLE_OK)
		rc = call_map(c, code);
	if (rc != RC_OK && !c->err.detail[0])
		err_detail(&c->err, "curl %d: %s", (int)code,
			   c->errbuf[0] ? c->errbuf : curl_easy_strerror(code));
	call_end(c, rc);
}

static void multi_drain(struct multi *mu)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(mu->h, &left))) {
		struct curlm_call *c = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		if (!c->dead) /* a dead one is taken away by call_on_dead() */
			call_done(c, msg->data.result);
	}
}

/* --- time ----------------------------------------------------------------------------------------- */

static int64_t phase_due_ms(const struct curlm_call *c)
{
	const int64_t limit[] = {
		[PHASE_CONNECT] = c->timeouts.connect,
		[PHASE_FIRST_BYTE] = c->timeouts.first_byte,
		[PHASE_BODY] = c->paused ? 0 : c->timeouts.idle,
	};

	return limit[c->phase] > 0 ? c->phase_at_ms + limit[c->phase] : INT64_MAX;
}

static void call_on_timer(void *arg)
{
	static const char *const words[] = {
		[PHASE_CONNECT] = "did not take the connection in time",
		[PHASE_FIRST_BYTE] = "did not begin to answer in time",
		[PHASE_BODY] = "fell silent in the middle of its answer",
	};
	struct curlm_call *c = arg;
	int64_t now_ms = clock_mono_ms();

	c->armed_ms = 0;
	if (c->state == CALL_ENDING || c->dead)
		return;
	if (now_ms < c->total_at_ms && now_ms < phase_due_ms(c)) {
		call_arm(c);
		return;
	}
	err_set(&c->err, RC_TIMEOUT, "timeout", "The upstream %s.",
		now_ms >= c->total_at_ms ? "took longer than the whole call may" : words[c->phase]);
	call_end(c, RC_TIMEOUT);
}

/* Progress moves deadlines away without touching the timer: it looks again when it fires. */
static void call_arm(struct curlm_call *c)
{
	int64_t due_ms = phase_due_ms(c), now_ms = clock_mono_ms();

	if (c->total_at_ms < due_ms)
		due_ms = c->total_at_ms;
	if (due_ms == INT64_MAX || (c->armed_ms != 0 && c->armed_ms <= due_ms))
		return;
	c->armed_ms = due_ms;
	loop_timer_set(c->m->loop, &c->timer, due_ms > now_ms ? due_ms - now_ms : 1, call_on_timer,
		       c);
}

static void call_phase(struct curlm_call *c, enum call_phase phase)
{
	bool arm = c->phase != phase;

	c->phase = phase;
	c->phase_at_ms = clock_mono_ms();
	if (arm)
		call_arm(c);
}

/* --- libcurl's callbacks: no handle may be touched here ------------------------------------------- */

static size_t on_header(char *ptr, size_t one, size_t len, void *arg)
{
	struct curlm_call *c = arg;
	bool was_complete = c->head.complete;

	(void)one;
	if (c->dead || c->rc != RC_OK)
		return 0;
	call_wipe_secret(c);
	c->rc = curlm_head_line(&c->head, str_of(ptr, len), &c->err);
	if (c->rc != RC_OK)
		return 0;
	if (c->head.r.status >= 200)
		call_phase(c, PHASE_BODY);
	if (c->head.complete && !was_complete && c->h.on_head)
		c->h.on_head(c->h.arg, &c->head.r);
	return c->dead ? 0 : len;
}

static size_t on_write(char *ptr, size_t one, size_t len, void *arg)
{
	struct curlm_call *c = arg;

	(void)one;
	if (c->dead || c->rc != RC_OK)
		return 0;
	if (c->paused) {
		c->curl_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	call_phase(c, PHASE_BODY);
	if (len > c->body_bytes_max - c->body_bytes) {
		c->rc = err_set(&c->err, RC_TOO_LARGE, "too_large",
				"The upstream's answer is larger than %zu bytes.",
				c->body_bytes_max);
		return 0;
	}
	c->body_bytes += len;
	if (c->h.on_body && len > 0 && !c->h.on_body(c->h.arg, str_of(ptr, len)))
		c->paused = true;
	if (c->secret_body) /* newer libcurls keep this buffer as long as the multi handle */
		explicit_bzero(ptr, len);
	return c->dead ? 0 : len;
}

static enum rc denied(struct curlm_call *c, const char *address)
{
	err_set(&c->err, RC_DENIED, "egress_denied",
		"The upstream's name leads to an address that may not be called.");
	err_hint(&c->err, "An operator can list addresses in TOLLGATE_EGRESS_ALLOW.");
	err_detail(&c->err, "host %s, address %s, port %u", c->origin.host, address,
		   (unsigned int)c->origin.port);
	return RC_DENIED;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct curlm_call *c = arg;
	char text[INET6_ADDRSTRLEN] = "?";
	const struct sockaddr *sa = &a->addr;

	if (purpose != CURLSOCKTYPE_IPCXN || c->dead)
		return CURL_SOCKET_BAD;
	if (c->unix_socket && a->family == AF_UNIX)
		return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
	if (c->unix_socket || !egress_address_allowed(c->m->egress, sa, c->origin.https)) {
		if (sa->sa_family == AF_INET)
			inet_ntop(AF_INET,
				  &((const struct sockaddr_in *)(const void *)sa)->sin_addr, text,
				  sizeof text);
		else if (sa->sa_family == AF_INET6)
			inet_ntop(AF_INET6,
				  &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, text,
				  sizeof text);
		c->rc = denied(c, text);
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static bool ip_allowed(const struct curlm_call *c, const char *ip, int port)
{
	union names_addr a = {0};

	if (inet_pton(AF_INET, ip, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons((uint16_t)port);
	} else if (inet_pton(AF_INET6, ip, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons((uint16_t)port);
	} else {
		return false;
	}
	return egress_address_allowed(c->m->egress, &a.sa, c->origin.https);
}

/* Just before the request goes out, on kept connections too. */
static int on_prereq(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct curlm_call *c = arg;

	(void)local_ip;
	(void)local_port;
	if (c->dead)
		return CURL_PREREQFUNC_ABORT;
	if (!c->unix_socket && !ip_allowed(c, ip, port)) {
		c->rc = denied(c, ip);
		return CURL_PREREQFUNC_ABORT;
	}
	c->connected = true;
	call_phase(c, PHASE_FIRST_BYTE);
	return CURL_PREREQFUNC_OK;
}

static size_t on_read(char *to, size_t one, size_t len, void *arg)
{
	struct curlm_call *c = arg;
	size_t put = 0;

	(void)one;
	if (c->dead)
		return CURL_READFUNC_ABORT;
	while (put < len && c->piece < c->pieces_count) {
		struct str left =
			str_slice(c->pieces[c->piece], c->piece_at, len - put + c->piece_at);

		memcpy(to + put, left.ptr, left.len);
		put += left.len;
		c->piece_at += left.len;
		if (c->piece_at == c->pieces[c->piece].len) {
			c->piece++;
			c->piece_at = 0;
		}
	}
	return put;
}

/* For the resend on another connection; libcurl goes back to the beginning only. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct curlm_call *c = arg;

	if (c->dead || offset != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	c->piece = c->piece_at = 0;
	return CURL_SEEKFUNC_OK;
}

/*
 * libcurl keeps a copy of the head in a buffer that lives as long as the handle (of every request
 * with a body from 8.7 on, of every request over TLS before). Once a piece has been sent it is
 * shown here in that very place, and needed no more.
 */
static int on_trace(CURL *easy, curl_infotype what, char *ptr, size_t len, void *arg)
{
	const struct curlm_call *c = arg;

	if (what == CURLINFO_HEADER_OUT || (what == CURLINFO_DATA_OUT && c->secret_body))
		explicit_bzero(ptr, len);
	return 0;
}

/* --- from a request to a transfer ------------------------------------------------------------------ */

#define SET(option, value) (ok &= curl_easy_setopt(c->easy, option, value) == CURLE_OK)

/* Every rule of security.md 3.1 (6). An option that libcurl does not take stops the call. */
static bool easy_set_rules(struct curlm_call *c)
{
	bool ok = true;

	SET(CURLOPT_PROTOCOLS_STR, c->origin.https ? "https" : "http");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "https"); /* 7.88 takes no empty list; none is followed */
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_MAXREDIRS, 0L);
	SET(CURLOPT_PROXY, ""); /* the environment's proxy too is none */
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_UNRESTRICTED_AUTH, 0L);
	SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_NONE);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_HTTP_TRANSFER_DECODING, 1L);
	SET(CURLOPT_TRANSFER_ENCODING, 0L);
	SET(CURLOPT_ACCEPT_ENCODING, NULL);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (c->m->ca_file)
		SET(CURLOPT_CAINFO, c->m->ca_file);
	SET(CURLOPT_MAXLIFETIME_CONN, CURLM_LIFETIME_S);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, 60L);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, c);
	SET(CURLOPT_PREREQFUNCTION, on_prereq);
	SET(CURLOPT_PREREQDATA, c);
	SET(CURLOPT_DEBUGFUNCTION, on_trace);
	SET(CURLOPT_DEBUGDATA, c);
	SET(CURLOPT_VERBOSE, 1L); /* else it is not called */
	return ok;
}

static bool easy_set_transfer(struct curlm_call *c)
{
	bool ok = true;

	SET(CURLOPT_URL, c->url);
	SET(CURLOPT_HTTPHEADER, c->headers);
	if (c->resolve)
		SET(CURLOPT_RESOLVE, c->resolve);
	if (c->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, c->unix_socket);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 60L);
	SET(CURLOPT_TCP_KEEPINTVL, 30L);
	SET(CURLOPT_BUFFERSIZE, c->stream ? CURLM_BUFFER_STREAM : CURLM_BUFFER_PLAIN);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, c);
	SET(CURLOPT_WRITEFUNCTION, on_write);
	SET(CURLOPT_WRITEDATA, c);
	SET(CURLOPT_ERRORBUFFER, c->errbuf);
	SET(CURLOPT_PRIVATE, c);
	if (strcmp(c->method, "GET") == 0 && c->body.len == 0) {
		SET(CURLOPT_HTTPGET, 1L);
		return ok;
	}
	if (strcmp(c->method, "HEAD") == 0) {
		SET(CURLOPT_NOBODY, 1L);
		return ok;
	}
	if (strcmp(c->method, "POST") == 0 || c->body.len > 0) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
		if (!c->pieces)
			SET(CURLOPT_POSTFIELDS, c->body.len ? c->body.ptr : "");
		SET(CURLOPT_READFUNCTION, on_read);
		SET(CURLOPT_READDATA, c);
		SET(CURLOPT_SEEKFUNCTION, on_seek);
		SET(CURLOPT_SEEKDATA, c);
	}
	if (strcmp(c->method, "POST") != 0)
		SET(CURLOPT_CUSTOMREQUEST, c->method);
	return ok;
}

static enum rc call_overloaded(struct curlm_call *c, const char *what)
{
	return err_set(&c->err, RC_UNAVAILABLE, "overloaded", "The gateway has no room: %s.", what);
}

static void call_transfer(struct curlm_call *c)
{
	struct curlm *m = c->m;
	struct multi *mu = multi_choose(m, c->stream);
	bool ok;

	if (!mu) {
		c->rc = call_overloaded(c, "too many streams are open");
		call_refuse(c);
		return;
	}
	c->easy = m->idle_count > 0 ? m->idle[--m->idle_count] : must(curl_easy_init());
	ok = easy_set_rules(c) && easy_set_transfer(c);
	if (ok) {
		c->multi = mu;
		m->in_curl++;
		ok = curl_multi_add_handle(mu->h, c->easy) == CURLM_OK;
		m->in_curl--;
	}
	if (!ok) {
		easy_give_back(m, c->easy);
		c->easy = NULL;
		c->multi = NULL;
		c->rc = call_overloaded(c, "the transfer cannot be set up");
		call_refuse(c);
		return;
	}
	free(c->url);
	c->url = NULL;
	mu->calls++;
	c->state = CALL_RUNNING;
	c->phase = PHASE_CONNECT;
	c->phase_at_ms = clock_mono_ms();
	call_arm(c);
}

/* Hand libcurl the addresses; one that may not be called spoils them all. */
static bool call_take_addresses(struct curlm_call *c, const struct names_result *res)
{
	char text[NAMES_HOST_MAX + 16 + NAMES_ADDRESSES_MAX * (INET6_ADDRSTRLEN + 3)];
	char ip[INET6_ADDRSTRLEN];
	int len = snprintf(text, sizeof text, "+%s:%u:", c->origin.host,
			   (unsigned int)c->origin.port);

	for (size_t i = 0; i < res->count; i++) {
		union names_addr a = res->addr[i];
		bool v6 = a.sa.sa_family == AF_INET6;

		if (v6)
			a.in6.sin6_port = htons(c->origin.port);
		else
			a.in.sin_port = htons(c->origin.port);
		inet_ntop(a.sa.sa_family, v6 ? (void *)&a.in6.sin6_addr : (void *)&a.in.sin_addr,
			  ip, sizeof ip);
		if (!egress_address_allowed(c->m->egress, &a.sa, c->origin.https)) {
			c->rc = denied(c, ip);
			return false;
		}
		len += snprintf(text + len, sizeof text - (size_t)len, v6 ? "%s[%s]" : "%s%s",
				i ? "," : "", ip);
	}
	c->resolve = must(curl_slist_append(NULL, text));
	return true;
}

static void call_on_names(void *arg, enum rc rc, const struct names_result *res)
{
	struct curlm_call *c = arg;

	c->query = NULL;
	if (c->dead)
		return;
	if (rc == RC_OK && call_take_addresses(c, res)) {
		call_transfer(c);
		return;
	}
	if (rc == RC_TIMEOUT)
		c->rc = err_set(&c->err, rc, "timeout",
				"The upstream's name was not resolved in time.");
	else if (rc == RC_UNAVAILABLE)
		c->rc = call_overloaded(c, "too many names are being resolved");
	else if (rc != RC_OK)
		c->rc = err_set(&c->err, RC_NETWORK, "network",
				"The upstream's name could not be resolved.");
	call_refuse(c);
}

/* Look the name up where there is one, and go. Not from inside libcurl: deferred if need be. */
static void call_go(void *arg)
{
	struct curlm_call *c = arg;
	const struct names_result *known;

	if (c->dead)
		return;
	c->starting = c->m->in_curl > 0;
	if (c->starting) {
		loop_defer(c->m->loop, call_go, c);
		return;
	}
	if (c->unix_socket || c->origin.literal) {
		call_transfer(c);
		return;
	}
	known = names_cached(c->m->names, c->origin.host);
	if (!known)
		c->query = names_start(c->m->names, c->origin.host, call_on_names, c);
	else if (call_take_addresses(c, known))
		call_transfer(c);
	else
		call_refuse(c);
}

/* --- what was asked, checked ---------------------------------------------------------------------- */

static enum rc bad_request(struct curlm_call *c, const char *why)
{
	return err_set(&c->err, RC_INVALID, "bad_request", "The upstream call is malformed: %s.",
		       why);
}

static enum rc origin_read(struct curlm *m, struct str base, struct known_origin *ret,
			   struct err *err)
{
	struct arena *mem = arena_new(16384);
	struct egress_url u;
	uint8_t raw[16];
	enum rc rc = egress_parse(m->egress, base, mem, &u, err);

	if (rc == RC_OK) {
		assert(u.host.len <= NAMES_HOST_MAX && u.base.len < sizeof ret->base);
		memcpy(ret->origin.host, u.host.ptr, u.host.len);
		memcpy(ret->base, u.base.ptr, u.base.len);
		ret->origin.port = u.port;
		ret->origin.https = u.https;
		ret->origin.literal = inet_pton(AF_INET, ret->origin.host, raw) == 1 ||
				      inet_pton(AF_INET6, ret->origin.host, raw) == 1;
	}
	arena_free(mem);
	return rc;
}

/* `*ret_base` is valid until the next call of this function. */
static enum rc call_set_origin(struct curlm_call *c, struct str base, const char **ret_base)
{
	struct curlm *m = c->m;
	struct known_origin *o = map_get(m->origins, base);
	enum rc rc = RC_OK;

	if (!o) {
		o = must(calloc(1, sizeof *o));
		rc = origin_read(m, base, o, &c->err);
		if (rc != RC_OK) {
			free(o);
			return rc;
		}
		map_put(m->origins, base, o);
	}
	c->origin = o->origin;
	*ret_base = o->base;
	return RC_OK;
}

static bool path_ok(struct str path)
{
	if (path.len > CURLM_PATH_BYTES_MAX || (path.len > 0 && path.ptr[0] != '/'))
		return false;
	for (size_t i = 0; i < path.len; i++)
		if ((unsigned char)path.ptr[i] <= 0x20 || (unsigned char)path.ptr[i] >= 0x7f ||
		    path.ptr[i] == '#' || path.ptr[i] == '\\')
			return false;
	return str_find_str(path, STR("/../")) < 0 && !str_ends(path, STR("/.."));
}

static enum rc call_set_url(struct curlm_call *c, const struct curlm_request *r)
{
	size_t method_len = strlen(r->method);
	const char *base = "http://localhost";

	if (method_len == 0 || method_len >= sizeof c->method)
		return bad_request(c, "the method is not known");
	for (size_t i = 0; i < method_len; i++)
		if (r->method[i] < 'A' || r->method[i] > 'Z')
			return bad_request(c, "the method is not known");
	memcpy(c->method, r->method, method_len);
	if (!path_ok(r->path))
		return bad_request(c, "the path holds what paths do not have");
	if (!r->unix_socket)
		TRY(call_set_origin(c, r->base, &base));
	if (asprintf(&c->url, "%s%.*s", base, STR_FMT(r->path)) < 0)
		abort();
	return RC_OK;
}

static struct curl_slist *call_append(struct curlm_call *c, const char *line)
{
	struct curl_slist *last = must(curl_slist_append(c->headers, line));

	c->headers = last; /* the head of the list */
	while (last->next)
		last = last->next;
	return last;
}

/* Headers that frame the message are libcurl's alone. */
static bool header_is_framing(struct str name)
{
	static const char *const names[] = {"host",	  "content-length", "transfer-encoding",
					    "connection", "expect",	    "te",
					    "upgrade",	  "trailer",	    "proxy-authorization"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq_nocase(name, str_from(names[i])))
			return true;
	return false;
}

static enum rc call_set_headers(struct curlm_call *c, const struct curlm_request *r)
{
	char line[CURLM_HEADER_LINE_MAX];
	bool agent = false, type = false;

	if (r->headers_count > CURLM_HEADERS_MAX)
		return bad_request(c, "it has too many headers");
	for (size_t i = 0; i < r->headers_count; i++) {
		struct str name = str_from(r->headers[i].name), value = r->headers[i].value;

		if (!curlm_header_name_ok(name) || !curlm_header_value_ok(value) ||
		    header_is_framing(name))
			return bad_request(c, "a header is not acceptable");
		agent |= str_eq_nocase(name, STR("user-agent"));
		type |= str_eq_nocase(name, STR("content-type"));
		if (value.len > 0) /* libcurl writes an empty one as "Name;" */
			snprintf(line, sizeof line, "%s: %.*s", name.ptr, STR_FMT(value));
		else
			snprintf(line, sizeof line, "%s;", name.ptr);
		call_append(c, line);
	}
	if (!agent)
		call_append(c, "User-Agent: tollgate");
	if (!type)
		call_append(c, "Content-Type:"); /* libcurl would call a POST a form */
	call_append(c, "Expect:");
	return RC_OK;
}

/* The node is made with a stand-in of the same length, so that no other copy is ever made. */
static enum rc call_set_secret(struct curlm_call *c, const struct curlm_request *r)
{
	char line[CURLM_HEADER_LINE_MAX];
	bool bearer = r->secret_form == CURLM_SECRET_BEARER;
	const char *name = bearer ? "Authorization" : r->secret_header;
	int len;

	if (r->secret_form == CURLM_SECRET_NONE)
		return RC_OK;
	if (!name || !curlm_header_name_ok(str_from(name)) || header_is_framing(str_from(name)))
		return bad_request(c, "the secret's header is not acceptable");
	if (r->secret.len == 0 || r->secret.len > 4000 || !curlm_header_value_ok(r->secret))
		return bad_request(c, "the secret is empty or holds what a header cannot");
	len = snprintf(line, sizeof line, "%s: %s", name, bearer ? "Bearer " : "");
	memset(line + len, 'x', r->secret.len);
	line[(size_t)len + r->secret.len] = '\0';
	c->secret_node = call_append(c, line);
	c->secret_from = (size_t)len;
	c->secret_len = r->secret.len;
	memcpy(c->secret_node->data + len, r->secret.ptr, r->secret.len);
	return RC_OK;
}

static void call_set_body(struct curlm_call *c, const struct curlm_request *r)
{
	c->body = r->body;
	if (r->pieces_count == 0)
		return;
	assert(r->pieces_count <= CURLM_PIECES_MAX && r->body.len == 0);
	c->pieces = must(calloc(r->pieces_count, sizeof *c->pieces));
	c->body = STR_NULL;
	for (size_t i = 0; i < r->pieces_count; i++) {
		if (r->pieces[i].len == 0)
			continue;
		c->pieces[c->pieces_count++] = r->pieces[i];
		c->body.len += r->pieces[i].len;
	}
}

struct curlm_call *curlm_start(struct curlm *m, const struct curlm_request *r,
			       const struct curlm_handlers *h)
{
	struct curlm_call *c = must(calloc(1, sizeof *c));

	assert(h->on_done);
	c->m = m;
	c->h = *h;
	c->next = m->calls;
	if (m->calls)
		m->calls->prev = c;
	m->calls = c;
	call_set_body(c, r);
	c->stream = r->stream;
	c->secret_body = r->secret_body;
	c->timeouts = r->timeouts;
	c->body_bytes_max = r->body_bytes_max ? r->body_bytes_max : CURLM_BODY_BYTES_DEFAULT;
	c->unix_socket = r->unix_socket ? must(strdup(r->unix_socket)) : NULL;
	c->total_at_ms = r->timeouts.total > 0 ? clock_mono_ms() + r->timeouts.total : INT64_MAX;
	c->phase_at_ms = INT64_MAX / 2; /* no phase's deadline yet: names.h has its own */
	c->rc = call_set_url(c, r);
	if (c->rc == RC_OK)
		c->rc = call_set_headers(c, r);
	if (c->rc == RC_OK)
		c->rc = call_set_secret(c, r);
	if (c->rc != RC_OK) {
		call_refuse(c);
		return c;
	}
	call_arm(c);
	call_go(c);
	return c;
}

/* --- while it runs ---------------------------------------------------------------------------------- */

static void call_on_resume(void *arg)
{
	struct curlm_call *c = arg;
	struct curlm *m = c->m;
	CURLcode code;

	c->resuming = false;
	if (c->dead || c->paused || !c->curl_paused || !c->easy)
		return;
	c->curl_paused = false;
	m->in_curl++;
	code = curl_easy_pause(c->easy, CURLPAUSE_CONT); /* delivers what was held back */
	m->in_curl--;
	if (code != CURLE_OK && !c->dead)
		call_done(c, code);
}

void curlm_resume(struct curlm_call *c)
{
	if (!c->paused || c->state != CALL_RUNNING)
		return;
	c->paused = false;
	c->phase_at_ms = clock_mono_ms();
	call_arm(c);
	if (c->curl_paused && !c->resuming) {
		c->resuming = true;
		loop_defer(c->m->loop, call_on_resume, c);
	}
}

static void call_on_dead(void *arg)
{
	struct curlm_call *c = arg;

	call_free(c);
}

void curlm_cancel(struct curlm_call *c)
{
	if (!c || c->state == CALL_DONE || c->dead)
		return;
	if (c->m->in_curl == 0) {
		call_free(c);
		return;
	}
	c->dead = true;
	call_wipe_secret(c);
	/* libcurl may come to this transfer before we can take it away: it must not send on */
	if (c->easy)
		curl_easy_pause(c->easy, CURLPAUSE_ALL);
	loop_defer(c->m->loop, call_on_dead, c);
}

bool curlm_request_sent(const struct curlm_call *c)
{
	long request_bytes = 0;

	if (!c->easy)
		return c->sent;
	curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
	return c->connected && request_bytes > 0;
}
