/* server/http/http_priv.h - what the files of server/http share; nobody else includes it.
 *
 *   listen.c  sockets and accept        tls.c     certificates
 *   front.c   settings, counts, drain   conn.c    the life of a connection, timers, request heads
 *   route.c   paths and endpoints       answer.c  what is written back
 *
 * One front per worker. A connection owns its bufferevent and at most one request. Both live until
 * the handler has answered, even when the peer left long before. */
#ifndef SERVER_HTTP_HTTP_PRIV_H
#define SERVER_HTTP_HTTP_PRIV_H
#include <sys/socket.h>
#include "server/base/hist.h"
#include "server/base/log.h"
#include "server/http/http.h"
#include "server/http/parse.h"
#include "server/loop.h"

struct bufferevent;
struct evbuffer;
struct ssl_st;

/* What the service takes at all; each path takes some of them. */
#define HTTP_METHODS "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

struct http_limits {
	struct http_parse_limits parse;
	int64_t head_timeout_ms, body_timeout_ms, body_bytes_per_second_min, idle_timeout_ms;
	int64_t lifetime_ms, write_stall_ms, tls_timeout_ms, linger_ms;
	int64_t requests_per_connection_max, connections_max, connections_per_ip_max;
	int64_t bad_heads_per_minute_max; /* 0: not counted */
	size_t body_bytes_max, admin_body_bytes_max;
	size_t stream_high_bytes, stream_low_bytes;
};
extern const struct http_limits http_limits_default; /* those of the settings' defaults */

struct http_listener {
	struct http_front *front;
	struct http_listener *next;
	struct loop_io io;
	struct loop_timer retry;
	enum surface surface;
	int fd, reserve_fd; /* the reserve is given up for a moment when descriptors run out */
	bool tcp;
	struct unix_socket *shared; /* NULL for TCP */
};

struct http_front {
	struct worker *worker;
	struct loop *loop;
	const struct endpoint *const *tables;
	struct http_limits limits;
	struct http_listener *listeners;
	struct http_conn *conns;
	_Atomic size_t open; /* requests whose answer has not left yet; other threads read it */
	bool draining, freed;
};

enum conn_state {
	CONN_TLS,    /* handshake */
	CONN_HEAD,   /* waiting for, or reading, a head */
	CONN_AUTH,   /* the authenticate hook has it */
	CONN_BODY,   /* reading the body */
	CONN_HANDLE, /* the handler has it */
	CONN_STREAM, /* the handler is answering bit by bit */
	CONN_FLUSH,  /* answered; bytes are leaving */
	CONN_LINGER, /* closing; what still comes is thrown away so that the answer can be read */
	CONN_GONE    /* no socket any more; waits for its handler, then dies */
};

struct request { /* the front's side of a struct http_request, which it starts with */
	struct http_request pub;
	struct buf body, headers; /* headers: "Name: value\r\n" lines of the answer to come */
	struct log_context log;
	struct err auth_err;
	enum rc auth_rc;
	bool in_auth, auth_done, body_read;
	bool head_only, http10, answered, gone, streaming, chunked;
	int status;
	void (*on_drain)(void *arg);
	void *drain_arg;
	void (*on_gone)(void *arg);
	void *gone_arg;
};

struct http_conn {
	struct http_front *front;
	struct http_conn *prev, *next;
	struct bufferevent *bev; /* NULL once gone */
	int fd;
	enum surface surface;
	enum conn_state state;
	struct http_parser parser;
	struct request *req;
	struct loop_timer timer;
	int64_t armed_ms;    /* when the timer fires; 0: not set */
	int64_t deadline_ms; /* of this state; 0: none */
	int64_t since_ms, born_ms, progress_ms;
	int64_t requests;
	uint64_t body_received;
	bool tls, close, half_closed, paused, over_high, dying, reset;
	unsigned ip_slot; /* HTTP_NO_SLOT: not counted (unix sockets) */
	char peer[64];
};
#define HTTP_NO_SLOT ((unsigned)-1)

/* front.c */
struct http_front *http_front_new_limits(struct worker *w, const struct endpoint *const *tables,
					 const struct http_limits *limits);
void http_front_unused(struct http_front *f); /* frees a front that was given up and is empty */
size_t http_body_cap(const struct http_front *f, const struct endpoint *e, enum surface s);
unsigned http_ip_slot(const struct sockaddr *sa);
/* May one more connection come from there? Takes the place if so. */
bool http_ip_enter(const struct http_front *f, unsigned slot);
void http_ip_leave(unsigned slot);
void http_ip_bad_head(unsigned slot, int64_t now_ms);
bool http_ip_too_bad(const struct http_front *f, unsigned slot, int64_t now_ms);
bool http_room_left(const struct http_front *f, enum surface s);

/* conn.c */
extern struct http_counters {
	struct counter accepted, refused_ip, refused_global, requests, faults, timeouts, gone;
	struct counter status[6]; /* by hundred */
	_Atomic int64_t open;
} http_counters;
/* Takes `fd` (and `ssl`, may be NULL), also on failure. */
void http_conn_new(struct http_front *f, int fd, enum surface s, struct ssl_st *ssl,
		   const char *peer, unsigned ip_slot);
void http_conn_free(struct http_conn *c);
void http_conn_drain(struct http_conn *c); /* close it if it is idle */
void http_conn_cut(struct http_conn *c);   /* close it; its handler hears of it */
/* Bytes were put into the output: send what the socket takes. */
void http_conn_flush(struct http_conn *c);
/* The answer is complete: send it, then go on with the next request or close. */
void http_conn_answered(struct http_conn *c);
/* The request of a connection that is gone was answered into the void. */
void http_conn_answered_gone(struct http_conn *c);
void http_conn_handshaken(struct http_conn *c);
bool http_conn_will_close(struct http_conn *c);

/* answer.c */
int http_status_of(enum rc rc, const struct err *err);
void http_answer_fault(struct request *q, const struct http_fault *f);

/* listen.c */
void http_listeners_close(struct http_front *f);

/* route.c */
struct str http_alias(struct str path);
/* Percent-decode into the arena; plus: '+' is a space. */
struct str http_percent_decode(struct arena *mem, struct str s, bool plus);

/* tls.c */
struct ssl_st *http_tls_new(void); /* NULL: no certificate is loaded */
bool http_tls_loaded(void);

#endif
