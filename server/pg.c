/* server/pg.c - Postgres from a loop: connections, the pool of pipelines, LISTEN.
 *
 * Three layers, bottom up: struct conn is one connection that comes back by itself; struct slot is
 * a conn of the pool with the calls in flight on it; struct pg is the queue before the slots. A
 * listener is a conn of its own.
 *
 *   submit -> waiting -> sent (a slot's) -> answered
 *                ^          |-> sleeping: serialisation failure, tried again
 *                `----------'
 *
 * Nothing here may block, and nothing here decides what a statement means. An explicit BEGIN must
 * never be sent through it: an error would leave the transaction open for the batches behind. */
#include "server/pg.h"
#include <arpa/inet.h>
#include <assert.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/map.h"
#include "server/loop.h"
#include "server/names.h"
#include "server/pg_priv.h"
#include "sql/queries.h"

#define PG_INFLIGHT_MAX	    64	  /* batches on one connection: more only adds to a loss */
#define PG_WAITING_MAX	    10000 /* batches before the pool: some seconds of full load */
#define PG_TRIES_MAX	    5	  /* again after a serialisation failure or a deadlock */
#define PG_RETRY_BASE_MS    8	  /* doubled with every try, half of it random */
#define PG_CONNECT_MS	    5000  /* from the first packet to a checked role */
#define PG_BACKOFF_FIRST_MS 100	  /* a restarted server is back in no time */
#define PG_BACKOFF_MS	    1000
#define PG_BACKOFF_MAX_MS   30000
#define PG_STEADY_MS	    1000 /* up for so long: the next loss starts the backoff anew */
#define PG_GRACE_MS	    500	 /* the server's own statement_timeout comes so much later */
#define PG_HOSTS_MAX	    16	 /* addresses of all hosts of the connection string together */

/* ============================================================================================
 * One connection
 * ============================================================================================ */
enum conn_state { CONN_DOWN, CONN_RESOLVING, CONN_CONNECTING, CONN_CHECKING, CONN_UP };

struct conn;
struct conn_type {
	void (*up)(struct conn *c);
	void (*readable)(struct conn *c);
	void (*down)(struct conn *c); /* it was up; its PGconn is gone already */
};
struct conn {
	struct loop *loop;
	const struct conn_type *type;
	char *url, *role, *name;
	int64_t statement_timeout_ms;
	PGconn *pq;
	enum conn_state state;
	struct loop_io io;
	int io_events;		 /* what `io` waits for */
	struct loop_timer timer; /* down: next try; on the way up: the limit */
	int failures;		 /* in a row */
	int64_t up_since_ms;
	char error[256]; /* "" once up */
	/* on the way up: the connection string and its hosts, looked up one after the other */
	PQconninfoOption *options;
	struct names
		*names; /* anew for each way up: an address of yesterday may be a dead server */
	struct names_query *lookup;
	char *hosts_left, *ports_left;
	struct buf hosts, addresses, ports;
	int hosts_count;
};

static void conn_connect(struct conn *c);
static void conn_resolve_next(struct conn *c);
static void conn_on_io(void *arg, int fd, int events);

static char *copy_z(const char *z)
{
	char *copy = z ? strdup(z) : NULL;

	if (z && !copy)
		abort();
	return copy;
}

static int64_t jittered(int64_t ms)
{
	uint32_t r = 0;

	if (random_bytes(&r, sizeof r) != RC_OK)
		r = UINT32_MAX / 2;
	return ms / 2 + (int64_t)r * (ms - ms / 2) / UINT32_MAX;
}

static void conn_forget_way(struct conn *c)
{
	if (c->lookup)
		names_cancel(c->lookup);
	c->lookup = NULL;
	PQconninfoFree(c->options);
	c->options = NULL;
	free(c->hosts_left);
	free(c->ports_left);
	c->hosts_left = c->ports_left = NULL;
	buf_clear(&c->hosts);
	buf_clear(&c->addresses);
	buf_clear(&c->ports);
	c->hosts_count = 0;
}

static void conn_drop(struct conn *c)
{
	loop_timer_clear(&c->timer);
	loop_io_clear(&c->io);
	c->io_events = 0;
	conn_forget_way(c);
	PQfinish(c->pq);
	c->pq = NULL;
	c->state = CONN_DOWN;
}

/* The first line says what happened, libpq's others guess why. */
static void conn_set_error(struct conn *c, const char *words)
{
	char text[sizeof c->error];

	if (!words || !words[0])
		words = "connection lost";
	snprintf(text, sizeof text, "%.*s", (int)strcspn(words, "\n"), words);
	/* Said once, not with every try. */
	if (strcmp(text, c->error) != 0)
		log_warn("no connection to postgres, trying again", LOG_STR("why", text),
			 LOG_STR("application", c->name));
	snprintf(c->error, sizeof c->error, "%s", text);
}

static void conn_start(void *arg);

/* The connection is of no use: drop it, tell its owner, come back later. `why` may belong to it. */
static void conn_fail(struct conn *c, const char *why)
{
	bool was_up = c->state == CONN_UP;
	int64_t delay_ms = PG_BACKOFF_FIRST_MS;

	conn_set_error(c, why);
	conn_drop(c);
	if (was_up && clock_mono_ms() - c->up_since_ms >= PG_STEADY_MS)
		c->failures = 0;
	if (c->failures > 0) {
		delay_ms = PG_BACKOFF_MAX_MS;
		if (c->failures <= 5)
			delay_ms = (int64_t)PG_BACKOFF_MS << (c->failures - 1);
		if (delay_ms > PG_BACKOFF_MAX_MS)
			delay_ms = PG_BACKOFF_MAX_MS;
	}
	c->failures++;
	loop_timer_set(c->loop, &c->timer, jittered(delay_ms), conn_start, c);
	if (was_up)
		c->type->down(c);
}

static void conn_on_too_slow(void *arg)
{
	struct conn *c = arg;

	conn_fail(c, "connecting took too long");
}

/* One of its own choosing, or the environment's, as libpq would have it. */
static const char *conn_option(const struct conn *c, const char *keyword)
{
	for (const PQconninfoOption *o = c->options; o->keyword; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && o->val[0] ? o->val : o->envvar ? getenv(o->envvar) : NULL;
	return NULL;
}

static void conn_start(void *arg)
{
	struct conn *c = arg;
	const char *hosts;

	assert(c->state == CONN_DOWN && !c->pq);
	c->state = CONN_RESOLVING;
	loop_timer_set(c->loop, &c->timer, PG_CONNECT_MS, conn_on_too_slow, c);
	/* Without libpq's words on a bad string: they may quote a password. */
	c->options = PQconninfoParse(c->url, NULL);
	if (!c->options) {
		conn_fail(c, "the connection string is not a valid one");
		return;
	}
	hosts = conn_option(c, "host");
	if (!hosts || conn_option(c, "hostaddr")) {
		conn_connect(c);
		return;
	}
	names_free(c->names);
	c->names = names_new(c->loop, NULL);
	c->hosts_left = copy_z(hosts);
	c->ports_left = copy_z(conn_option(c, "port"));
	buf_init(&c->hosts, 8192);
	buf_init(&c->addresses, 8192);
	buf_init(&c->ports, 8192);
	conn_resolve_next(c);
}

/* The first element of a comma list, cut off; `*list` becomes NULL behind the last one. */
static char *list_cut(char **list)
{
	char *first = *list;
	char *comma = first ? strchr(first, ',') : NULL;

	if (comma) {
		*comma = '\0';
		*list = comma + 1;
	} else {
		*list = NULL;
	}
	return first;
}

static void address_tell(const char *host, const char *port,
			 void (*fn)(void *arg, const struct sockaddr *sa, socklen_t len), void *arg)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *list = NULL;

	if (strcmp(host, "localhost") == 0) {
		address_tell("127.0.0.1", port, fn, arg);
		address_tell("::1", port, fn, arg);
		return;
	}
	if (getaddrinfo(host, port && port[0] ? port : "5432", &hints, &list) != 0)
		return; /* a name, or the folder of a socket */
	fn(arg, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
}

void pg_addresses(const char *url, void (*fn)(void *arg, const struct sockaddr *sa, socklen_t len),
		  void *arg)
{
	struct conn c = {.options = PQconninfoParse(url, NULL)};
	const char *keywords[] = {"host", "hostaddr"};
	char *hosts, *ports, *hosts_left, *ports_left, *port;

	for (size_t i = 0; c.options && i < ARRAY_LEN(keywords); i++) {
		hosts = hosts_left = copy_z(conn_option(&c, keywords[i]));
		ports = ports_left = copy_z(conn_option(&c, "port"));
		port = list_cut(&ports_left);
		while (hosts_left) {
			address_tell(list_cut(&hosts_left), port, fn, arg);
			if (ports_left) /* a lone port is everybody's */
				port = list_cut(&ports_left);
		}
		free(hosts);
		free(ports);
	}
	PQconninfoFree(c.options);
}

static enum rc conn_add_host(struct conn *c, const char *host, const char *address,
			     const char *port)
{
	const char *comma = c->hosts_count ? "," : "";

	if (c->hosts_count == PG_HOSTS_MAX)
		return RC_OK;
	TRY(buf_printf(&c->hosts, "%s%s", comma, host));
	TRY(buf_printf(&c->addresses, "%s%s", comma, address));
	TRY(buf_printf(&c->ports, "%s%s", comma, port));
	c->hosts_count++;
	return RC_OK;
}

/* The host in front is done: step to the next, with its port (a lone port is everybody's). */
static void conn_host_done(struct conn *c)
{
	char *rest_of_hosts = c->hosts_left;
	char *rest_of_ports = c->ports_left;

	list_cut(&rest_of_hosts);
	list_cut(&rest_of_ports);
	if (rest_of_hosts)
		memmove(c->hosts_left, rest_of_hosts, strlen(rest_of_hosts) + 1);
	else
		c->hosts_left[0] = '\0';
	if (rest_of_ports)
		memmove(c->ports_left, rest_of_ports, strlen(rest_of_ports) + 1);
	if (rest_of_hosts) {
		conn_resolve_next(c);
		return;
	}
	if (c->hosts_count) {
		conn_connect(c);
		return;
	}
	conn_fail(c, c->error[0] ? c->error : "no host of the connection string has an address");
}

static void conn_front(const struct conn *c, char host[256], char port[16])
{
	snprintf(host, 256, "%.*s", (int)strcspn(c->hosts_left, ","), c->hosts_left);
	port[0] = '\0';
	if (c->ports_left)
		snprintf(port, 16, "%.*s", (int)strcspn(c->ports_left, ","), c->ports_left);
}

static enum rc conn_add_address(struct conn *c, const char *host, const union names_addr *a,
				const char *port)
{
	char text[INET6_ADDRSTRLEN + 32]; /* and a zone */
	socklen_t size = a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;

	if (getnameinfo(&a->sa, size, text, sizeof text, NULL, 0, NI_NUMERICHOST))
		return RC_OK;
	return conn_add_host(c, host, text, port);
}

static void conn_on_lookup(void *arg, enum rc rc, const struct names_result *res)
{
	struct conn *c = arg;
	char host[256], port[16];
	char words[320];

	c->lookup = NULL;
	conn_front(c, host, port);
	if (rc == RC_OK) {
		for (size_t i = 0; i < res->count && rc == RC_OK; i++)
			rc = conn_add_address(c, host, &res->addr[i], port);
	} else {
		snprintf(words, sizeof words, "the host name %s has no address (%s)", host,
			 rc_name(rc));
		conn_set_error(c, words);
	}
	conn_host_done(c);
}

static void conn_resolve_next(struct conn *c)
{
	char host[256], port[16];
	struct in6_addr six;
	struct in_addr four;
	enum rc rc;

	conn_front(c, host, port);
	if (host[0] == '/' || host[0] == '@' || host[0] == '\0') {
		rc = conn_add_host(c, host, "", port);
	} else if (inet_pton(AF_INET, host, &four) == 1 || inet_pton(AF_INET6, host, &six) == 1) {
		rc = conn_add_host(c, host, host, port);
	} else {
		c->lookup = names_start(c->names, host, conn_on_lookup, c);
		return;
	}
	if (rc != RC_OK) {
		conn_fail(c, "the connection string has too many hosts");
		return;
	}
	conn_host_done(c);
}

/* "-c role=..." and the like: server settings of this session, from its first moment. RESET ROLE
 * comes back to this role, not to the login. A blank or backslash in a value takes a backslash. */
static enum rc conn_session_options(struct conn *c, struct buf *out)
{
	const char *own = conn_option(c, "options");

	if (own)
		TRY(buf_printf(out, "%s ", own));
	TRY(buf_append(out, STR("-c search_path=tollgate,pg_temp -c client_min_messages=warning "
				"-c TimeZone=UTC -c DateStyle=ISO -c bytea_output=hex")));
	if (c->statement_timeout_ms > 0)
		TRY(buf_printf(out, " -c statement_timeout=%lld",
			       (long long)c->statement_timeout_ms));
	if (!c->role)
		return RC_OK;
	TRY(buf_append(out, STR(" -c role=")));
	for (const char *at = c->role; *at; at++) {
		if (*at == ' ' || *at == '\\')
			TRY(buf_append_char(out, '\\'));
		TRY(buf_append_char(out, *at));
	}
	return RC_OK;
}

struct keywords {
	const char *key[64], *value[64];
	int count;
};

static void keyword_set(struct keywords *k, const char *key, const char *value)
{
	for (int i = 0; i < k->count; i++) {
		if (strcmp(k->key[i], key) == 0) {
			k->value[i] = value;
			return;
		}
	}
	assert(k->count < (int)ARRAY_LEN(k->key) - 1);
	k->key[k->count] = key;
	k->value[k->count++] = value;
}

static void keyword_default(struct keywords *k, const char *key, const char *value)
{
	for (int i = 0; i < k->count; i++)
		if (strcmp(k->key[i], key) == 0)
			return;
	keyword_set(k, key, value);
}

static PGconn *conn_open(struct conn *c, const char *session_options)
{
	struct keywords k = {.count = 0};

	for (const PQconninfoOption *o = c->options; o->keyword; o++)
		if (o->val)
			keyword_set(&k, o->keyword, o->val);
	if (c->hosts_count) {
		keyword_set(&k, "host", c->hosts.ptr);
		keyword_set(&k, "hostaddr", c->addresses.ptr);
		if (c->ports_left)
			keyword_set(&k, "port", c->ports.ptr);
	}
	keyword_set(&k, "options", session_options);
	keyword_set(&k, "client_encoding", "UTF8");
	keyword_default(&k, "application_name", c->name ? c->name : "tollgate");
	keyword_default(&k, "keepalives", "1");
	keyword_default(&k, "keepalives_idle", "5");
	keyword_default(&k, "keepalives_interval", "5");
	keyword_default(&k, "keepalives_count", "2");
	keyword_default(&k, "tcp_user_timeout", "10000");
	/* Its negotiation may ask a key server, and would block. */
	keyword_default(&k, "gssencmode", "disable");
	return PQconnectStartParams(k.key, k.value, 0);
}

static void on_notice(void *arg, const char *message)
{
	log_debug("postgres notice", LOG_STR("words", message));
}

static void conn_wait(struct conn *c, int events)
{
	c->io_events = events;
	loop_io_set(c->loop, &c->io, PQsocket(c->pq), events, conn_on_io, c);
}

static void conn_connect(struct conn *c)
{
	AUTO(buf) struct buf session = BUF_INIT(8192);

	if (conn_session_options(c, &session) != RC_OK) {
		conn_fail(c, "the connection string's options are too long");
		return;
	}
	c->state = CONN_CONNECTING;
	c->pq = conn_open(c, session.ptr);
	if (!c->pq)
		abort();
	conn_forget_way(c);
	if (PQstatus(c->pq) == CONNECTION_BAD) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	PQsetNoticeProcessor(c->pq, on_notice, NULL);
	conn_wait(c, LOOP_WRITE);
}

static void conn_set_up(struct conn *c)
{
	c->state = CONN_UP;
	c->up_since_ms = clock_mono_ms();
	loop_timer_clear(&c->timer);
	if (c->error[0])
		log_info("connected to postgres again", LOG_STR("application", c->name));
	c->error[0] = '\0';
	conn_wait(c, LOOP_READ);
	c->type->up(c);
}

static void conn_poll(struct conn *c)
{
	PostgresPollingStatusType next;

	/* The next address of a list gets another socket, perhaps under the same number. */
	loop_io_clear(&c->io);
	next = PQconnectPoll(c->pq);
	if (next == PGRES_POLLING_FAILED) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	if (next != PGRES_POLLING_OK) {
		conn_wait(c, next == PGRES_POLLING_READING ? LOOP_READ : LOOP_WRITE);
		return;
	}
	if (PQsetnonblocking(c->pq, 1) != 0) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	if (!c->role) {
		conn_set_up(c);
		return;
	}
	c->state = CONN_CHECKING;
	if (!PQsendQuery(c->pq, sql_server_role_check.text) || PQflush(c->pq) < 0) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	conn_wait(c, LOOP_READ);
}

/* A role that row-level security does not bind would see every tenant's rows: refuse it. */
static const char *conn_role_fault(const struct conn *c, const PGresult *res)
{
	if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1 || PQnfields(res) != 2)
		return "the role of the session cannot be checked";
	if (strcmp(PQgetvalue(res, 0, 0), c->role) != 0)
		return "the session does not have the role it asked for";
	if (strcmp(PQgetvalue(res, 0, 1), "f") != 0)
		return "the role is superuser or bypasses row-level security: refused";
	return NULL;
}

static void conn_check(struct conn *c)
{
	PGresult *res;
	const char *fault;

	if (!PQconsumeInput(c->pq)) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	if (PQisBusy(c->pq))
		return;
	res = PQgetResult(c->pq);
	fault = conn_role_fault(c, res);
	PQclear(res);
	if (fault) {
		if (strcmp(fault, c->error) != 0)
			log_error("postgres: unusable role", LOG_STR("why", fault),
				  LOG_STR("role", c->role));
		snprintf(c->error, sizeof c->error, "%s", fault);
		conn_fail(c, fault);
		return;
	}
	/* Behind the answer there is nothing but its end: no wait in this. */
	while ((res = PQgetResult(c->pq)))
		PQclear(res);
	conn_set_up(c);
}

/* Send what libpq holds back; wait for room where there is none. */
static void conn_flush(struct conn *c)
{
	int left = PQflush(c->pq);
	int events = LOOP_READ | (left > 0 ? LOOP_WRITE : 0);

	if (left < 0) {
		conn_fail(c, PQerrorMessage(c->pq));
		return;
	}
	if (events != c->io_events)
		conn_wait(c, events);
}

static void conn_on_io(void *arg, int fd, int events)
{
	struct conn *c = arg;
	bool alive = true;

	if (c->state == CONN_CONNECTING) {
		conn_poll(c);
		return;
	}
	if (c->state == CONN_CHECKING) {
		conn_check(c);
		return;
	}
	assert(c->state == CONN_UP);
	if (events & LOOP_READ) {
		alive = PQconsumeInput(c->pq) == 1;
		/* What came before the loss counts. */
		c->type->readable(c);
	}
	if (c->state != CONN_UP)
		return;
	if (alive && PQstatus(c->pq) == CONNECTION_OK)
		conn_flush(c);
	else
		conn_fail(c, PQerrorMessage(c->pq));
}

static void conn_init(struct conn *c, struct loop *l, const struct pg_options *o,
		      const struct conn_type *type)
{
	c->loop = l;
	c->type = type;
	c->url = copy_z(o->url ? o->url : "");
	c->role = copy_z(o->role);
	c->name = copy_z(o->name);
	if (o->deadline_ms > 0)
		c->statement_timeout_ms = o->deadline_ms + PG_GRACE_MS;
	loop_timer_set(l, &c->timer, 0, conn_start, c);
}

static void conn_clear(struct conn *c)
{
	conn_drop(c);
	names_free(c->names);
	c->names = NULL;
	if (c->url)
		explicit_bzero(c->url, strlen(c->url));
	free(c->url);
	free(c->role);
	free(c->name);
	c->url = c->role = c->name = NULL;
}

/* ============================================================================================
 * Calls and the pool
 * ============================================================================================ */
struct pg_rows {
	PGresult *res;
};

struct call_list {
	struct pg_call *first, *last;
	size_t count;
};

struct slot;
struct pg_call {
	struct pg *pool;
	struct pg_batch *batch;
	pg_cb *cb; /* NULL: cancelled, the answer is only read away */
	void *arg;
	struct call_list *in;
	struct pg_call *prev, *next;
	int64_t since_ms; /* in this list */
	int tries;
	struct loop_timer again;
	/* while sent: the answers come in the order of these steps */
	const struct sql_query **prepares; /* each is two steps: prepared, synced */
	size_t prepares_count;
	size_t step; /* prepares, then the org, then the statements, then the sync */
	bool step_answered;
	PGresult *error;      /* the first one */
	struct pg_rows *rows; /* of the statements */
	size_t rows_count;
};

struct slot {
	struct conn conn; /* first: a conn of the pool is a slot */
	struct pg *pool;
	struct map *prepared; /* the queries this connection knows, by address */
	struct call_list sent;
	struct loop_timer deadline;
	bool deadline_set;
	bool retire; /* its plans are stale: reconnect once nothing is in flight */
};

struct pg {
	struct loop *loop;
	int64_t deadline_ms, wait_ms;
	struct call_list waiting;
	struct call_list sleeping; /* until tried again */
	struct call_list refused;  /* not taken: told so in the next turn */
	struct loop_timer wait_over;
	bool wait_set, pump_set, closing;
	int slots_count;
	struct slot *slots;
};

static_assert(offsetof(struct slot, conn) == 0, "a pool's conn is cast to its slot");

static void list_push(struct call_list *l, struct pg_call *c)
{
	assert(!c->in);
	c->in = l;
	c->prev = l->last;
	c->next = NULL;
	*(l->last ? &l->last->next : &l->first) = c;
	l->last = c;
	l->count++;
}

static void list_remove(struct pg_call *c)
{
	struct call_list *l = c->in;

	assert(l && l->count > 0);
	*(c->prev ? &c->prev->next : &l->first) = c->next;
	*(c->next ? &c->next->prev : &l->last) = c->prev;
	l->count--;
	c->in = NULL;
	c->prev = c->next = NULL;
}

static void call_forget_results(struct pg_call *c)
{
	for (size_t i = 0; i < c->rows_count; i++)
		PQclear(c->rows[i].res);
	free(c->rows);
	free(c->prepares);
	PQclear(c->error);
	c->rows = NULL;
	c->prepares = NULL;
	c->error = NULL;
	c->rows_count = c->prepares_count = c->step = 0;
	c->step_answered = false;
}

static void call_free(struct pg_call *c)
{
	assert(!c->in);
	loop_timer_clear(&c->again);
	call_forget_results(c);
	pg_batch_free(c->batch);
	free(c);
}

/* The one ending of a call: tell its asker, if there still is one, and let it go. */
static void call_end(struct pg_call *c, const struct pg_result *res)
{
	pg_cb *cb = c->cb;

	assert(!c->in);
	c->cb = NULL;
	if (cb)
		cb(c->arg, res);
	call_free(c);
}

static void call_fail(struct pg_call *c, enum rc rc, bool outcome_unknown, const char *words)
{
	struct pg_result res = {
		.rc = rc, .outcome_unknown = outcome_unknown, .message = words, .hint = ""};

	call_end(c, &res);
}

static const char *field_or_empty(const PGresult *res, int field)
{
	const char *text = PQresultErrorField(res, field);

	return text ? text : "";
}

static void call_end_with_error(struct pg_call *c)
{
	struct pg_result res = {.hint = ""};

	snprintf(res.sqlstate, sizeof res.sqlstate, "%s",
		 field_or_empty(c->error, PG_DIAG_SQLSTATE));
	res.rc = pg_rc_from_sqlstate(res.sqlstate);
	res.message = field_or_empty(c->error, PG_DIAG_MESSAGE_PRIMARY);
	res.hint = field_or_empty(c->error, PG_DIAG_MESSAGE_HINT);
	if (!res.message[0])
		res.message = "the database refused";
	while (res.statements < c->rows_count && c->rows[res.statements].res)
		res.statements++; /* the next one is whose error it is */
	call_end(c, &res);
}

static void call_end_with_rows(struct pg_call *c)
{
	const struct pg_rows **rows = calloc(c->rows_count + 1, sizeof *rows);
	struct pg_result res = {.rc = RC_OK, .message = "", .hint = ""};

	if (!rows)
		abort();
	for (size_t i = 0; i < c->rows_count; i++)
		rows[i] = &c->rows[i];
	res.statements = c->rows_count;
	res.rows = rows;
	call_end(c, &res);
	free(rows);
}

static void pump(void *arg);

static void pump_soon(struct pg *p)
{
	if (p->pump_set || p->closing)
		return;
	p->pump_set = true;
	loop_defer(p->loop, pump, p);
}

static void call_wait(struct pg_call *c)
{
	c->since_ms = clock_mono_ms();
	list_push(&c->pool->waiting, c);
	pump_soon(c->pool);
}

static void call_on_again(void *arg)
{
	struct pg_call *c = arg;

	list_remove(c);
	call_wait(c);
}

/* Two batches met and the database chose this one: it did nothing, let it try again. */
static void call_again(struct pg_call *c)
{
	int64_t delay_ms = (int64_t)PG_RETRY_BASE_MS << c->tries;

	c->tries++;
	call_forget_results(c);
	list_push(&c->pool->sleeping, c);
	loop_timer_set(c->pool->loop, &c->again, jittered(delay_ms), call_on_again, c);
}

static bool is_stale_plan(const PGresult *error)
{
	return strcmp(field_or_empty(error, PG_DIAG_SQLSTATE), "0A000") == 0 &&
	       strcmp(field_or_empty(error, PG_DIAG_SOURCE_FUNCTION), "RevalidateCachedQuery") == 0;
}

/* The batch is over, committed or rolled back. */
static void call_done(struct slot *s, struct pg_call *c)
{
	list_remove(c);
	if (!c->error) {
		call_end_with_rows(c);
		return;
	}
	if (is_stale_plan(c->error))
		s->retire = true;
	if (c->cb && c->tries < PG_TRIES_MAX &&
	    (is_stale_plan(c->error) ||
	     pg_sqlstate_retries(field_or_empty(c->error, PG_DIAG_SQLSTATE))))
		call_again(c);
	else
		call_end_with_error(c);
}

/* --- sending ------------------------------------------------------------------------------ */
static struct str query_key(const struct sql_query *const *q)
{
	return str_of(q, sizeof *q);
}

/* Prepare a query this connection has not met, closed by a Sync of its own: whatever happens to
 * the batch, the statement stays, and if it cannot be prepared no other one is lost with it. */
static bool send_prepare(struct slot *s, struct pg_call *c, const struct sql_query *q)
{
	if (map_get(s->prepared, query_key(&q)))
		return true;
	map_put(s->prepared, query_key(&q), (void *)(uintptr_t)q);
	c->prepares[c->prepares_count++] = q;
	return PQsendPrepare(s->conn.pq, q->name, q->text, 0, NULL) && PQpipelineSync(s->conn.pq);
}

static bool send_statement(struct slot *s, const struct pg_batch *b, const struct pg_statement *st)
{
	const char *values[PG_PARAMS_MAX + 1] = {NULL};

	for (int i = 0; i < st->query->params; i++)
		values[i] = pg_batch_param(b, st, i);
	return PQsendQueryPrepared(s->conn.pq, st->query->name, st->query->params, values, NULL,
				   NULL, 0);
}

static bool send_batch(struct slot *s, struct pg_call *c)
{
	const struct pg_batch *b = c->batch;
	const char *org = b->org_text;

	if (b->org && !send_prepare(s, c, b->org))
		return false;
	for (size_t i = 0; i < b->statements_count; i++)
		if (!send_prepare(s, c, b->statements[i].query))
			return false;
	if (b->org && !PQsendQueryPrepared(s->conn.pq, b->org->name, 1, &org, NULL, NULL, 0))
		return false;
	for (size_t i = 0; i < b->statements_count; i++)
		if (!send_statement(s, b, &b->statements[i]))
			return false;
	return PQpipelineSync(s->conn.pq) == 1;
}

static void slot_on_deadline(void *arg);

static void slot_set_deadline(struct slot *s)
{
	int64_t left_ms;

	if (s->deadline_set || !s->sent.first || s->pool->deadline_ms <= 0)
		return;
	left_ms = s->sent.first->since_ms + s->pool->deadline_ms - clock_mono_ms();
	s->deadline_set = true;
	loop_timer_set(s->conn.loop, &s->deadline, left_ms > 0 ? left_ms : 0, slot_on_deadline, s);
}

static void slot_send(struct slot *s, struct pg_call *c)
{
	size_t n = c->batch->statements_count;

	list_remove(c);
	c->since_ms = clock_mono_ms();
	c->prepares = calloc(n + 1, sizeof(const struct sql_query *));
	c->rows = calloc(n + 1, sizeof *c->rows);
	if (!c->prepares || !c->rows)
		abort();
	c->rows_count = n;
	list_push(&s->sent, c);
	slot_set_deadline(s);
	if (!send_batch(s, c))
		conn_fail(&s->conn, PQerrorMessage(s->conn.pq));
}

/* The free slot with the least in flight: an idle connection is not held up by another's locks. */
static struct slot *slot_for_next(struct pg *p)
{
	struct slot *best = NULL;

	for (int i = 0; i < p->slots_count; i++) {
		struct slot *s = &p->slots[i];

		if (s->conn.state == CONN_UP && !s->retire && s->sent.count < PG_INFLIGHT_MAX &&
		    (!best || s->sent.count < best->sent.count))
			best = s;
	}
	return best;
}

static void on_wait_over(void *arg);

static void set_wait_timer(struct pg *p)
{
	int64_t left_ms;

	if (p->wait_set || !p->waiting.first)
		return;
	left_ms = p->waiting.first->since_ms + p->wait_ms - clock_mono_ms();
	p->wait_set = true;
	loop_timer_set(p->loop, &p->wait_over, left_ms > 0 ? left_ms : 0, on_wait_over, p);
}

static void tell_refused(struct pg *p, size_t count)
{
	while (count-- > 0 && p->refused.first) {
		struct pg_call *c = p->refused.first;
		enum rc rc = c->batch->rc;

		list_remove(c);
		if (rc != RC_OK)
			call_fail(c, rc, false, c->batch->why);
		else
			call_fail(c, RC_UNAVAILABLE, false, "too many statements wait already");
	}
}

/* Once per turn: send what waits, and flush each connection once. */
static void pump(void *arg)
{
	struct pg *p = arg;
	struct slot *s;

	p->pump_set = false;
	tell_refused(p, p->refused.count);
	while (p->waiting.first && (s = slot_for_next(p)))
		slot_send(s, p->waiting.first);
	for (int i = 0; i < p->slots_count; i++)
		if (p->slots[i].conn.state == CONN_UP)
			conn_flush(&p->slots[i].conn);
	set_wait_timer(p);
}

static void on_wait_over(void *arg)
{
	struct pg *p = arg;
	int64_t now_ms = clock_mono_ms();

	p->wait_set = false;
	while (p->waiting.first && p->waiting.first->since_ms + p->wait_ms <= now_ms) {
		struct pg_call *c = p->waiting.first;

		list_remove(c);
		call_fail(c, RC_UNAVAILABLE, false, "no database connection in time");
	}
	set_wait_timer(p);
}

/* --- answers ------------------------------------------------------------------------------ */
static size_t call_sync_step(const struct pg_call *c)
{
	return 2 * c->prepares_count + (c->batch->org ? 1 : 0) + c->batch->statements_count;
}

static bool step_is_sync(const struct pg_call *c)
{
	return c->step < 2 * c->prepares_count ? c->step % 2 == 1 : c->step == call_sync_step(c);
}

/* Keep the result where it belongs: takes `res`. */
static void call_keep(struct slot *s, struct pg_call *c, PGresult *res)
{
	size_t before = 2 * c->prepares_count + (c->batch->org ? 1 : 0);
	ExecStatusType status = PQresultStatus(res);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		if (c->step < 2 * c->prepares_count)
			map_remove(s->prepared, query_key(&c->prepares[c->step / 2]));
		/* PGRES_PIPELINE_ABORTED has no words: its cause came before it. */
		if (!c->error && status == PGRES_FATAL_ERROR)
			c->error = res;
		else
			PQclear(res);
		return;
	}
	if (c->step >= before && c->step < call_sync_step(c)) {
		assert(!c->rows[c->step - before].res);
		c->rows[c->step - before].res = res;
		return;
	}
	PQclear(res);
}

static void slot_on_result(struct slot *s, PGresult *res)
{
	struct pg_call *c = s->sent.first;
	bool sync = PQresultStatus(res) == PGRES_PIPELINE_SYNC;

	if (!c) { /* a farewell of the server, nobody asked */
		PQclear(res);
		return;
	}
	if (!sync) {
		/* An error in a sync's place is a commit that failed; the sync still follows. */
		c->step_answered = !step_is_sync(c);
		call_keep(s, c, res);
		return;
	}
	PQclear(res);
	if (!step_is_sync(c)) {
		conn_fail(&s->conn, "answers out of order");
		return;
	}
	if (c->step == call_sync_step(c))
		call_done(s, c);
	else
		c->step++;
}

static void slot_read(struct conn *conn)
{
	struct slot *s = (struct slot *)conn;
	int ends = 0; /* NULLs in a row: one ends a statement, two mean that nothing is left */

	while (conn->state == CONN_UP && !PQisBusy(conn->pq)) {
		PGresult *res = PQgetResult(conn->pq);
		struct pg_call *c = s->sent.first;

		if (res) {
			ends = 0;
			slot_on_result(s, res);
			continue;
		}
		if (++ends > 1)
			break;
		if (c && c->step_answered) {
			c->step_answered = false;
			c->step++;
		}
	}
	if (conn->state == CONN_UP && s->retire && !s->sent.first) {
		conn->failures = 0;
		conn_fail(conn, "the schema changed: reconnecting");
	}
	if (s->pool->waiting.first)
		pump_soon(s->pool);
}

static void slot_on_deadline(void *arg)
{
	struct slot *s = arg;
	int64_t deadline_ms = s->pool->deadline_ms;

	s->deadline_set = false;
	/* The answer may be there, and this loop was slow to look. */
	if (PQconsumeInput(s->conn.pq))
		slot_read(&s->conn);
	if (s->conn.state != CONN_UP)
		return;
	if (s->sent.first && s->sent.first->since_ms + deadline_ms <= clock_mono_ms())
		conn_fail(&s->conn, "postgres did not answer within the deadline");
	else
		slot_set_deadline(s);
}

static void slot_up(struct conn *conn)
{
	struct slot *s = (struct slot *)conn;

	s->retire = false;
	if (!PQenterPipelineMode(conn->pq)) {
		conn_fail(conn, PQerrorMessage(conn->pq));
		return;
	}
	pump_soon(s->pool);
}

/* Every call in flight ends: whether it was committed, nobody here can know. */
static void slot_down(struct conn *conn)
{
	struct slot *s = (struct slot *)conn;
	struct call_list lost = {NULL, NULL, 0};

	loop_timer_clear(&s->deadline);
	s->deadline_set = false;
	map_clear(s->prepared);
	while (s->sent.first) {
		struct pg_call *c = s->sent.first;

		list_remove(c);
		list_push(&lost, c);
	}
	while (lost.first) {
		struct pg_call *c = lost.first;

		list_remove(c);
		call_fail(c, RC_UNAVAILABLE, true, "the database connection was lost");
	}
}

static const struct conn_type slot_type = {.up = slot_up, .readable = slot_read, .down = slot_down};

/* --- public ------------------------------------------------------------------------------- */
struct pg *pg_new(struct loop *l, const struct pg_options *o)
{
	struct pg *p = calloc(1, sizeof *p);

	assert(o->connections > 0);
	if (!p)
		abort();
	p->loop = l;
	p->deadline_ms = o->deadline_ms;
	p->wait_ms = o->wait_ms;
	p->slots_count = o->connections;
	p->slots = calloc((size_t)o->connections, sizeof *p->slots);
	if (!p->slots)
		abort();
	for (int i = 0; i < p->slots_count; i++) {
		struct slot *s = &p->slots[i];

		s->pool = p;
		s->prepared = map_new(0, NULL);
		conn_init(&s->conn, l, o, &slot_type);
	}
	return p;
}

static void cancel_all(struct call_list *l, bool sent)
{
	while (l->first) {
		struct pg_call *c = l->first;

		list_remove(c);
		loop_timer_clear(&c->again);
		call_fail(c, RC_CANCELLED, sent, "the service is stopping");
	}
}

void pg_free(struct pg *p)
{
	if (!p)
		return;
	p->closing = true;
	loop_defer_cancel(p->loop, pump, p);
	loop_timer_clear(&p->wait_over);
	for (int i = 0; i < p->slots_count; i++) {
		loop_timer_clear(&p->slots[i].deadline);
		conn_clear(&p->slots[i].conn);
	}
	for (int i = 0; i < p->slots_count; i++)
		cancel_all(&p->slots[i].sent, true);
	cancel_all(&p->waiting, false);
	cancel_all(&p->sleeping, false);
	cancel_all(&p->refused, false); /* last: a callback may have asked once more */
	for (int i = 0; i < p->slots_count; i++)
		map_free(p->slots[i].prepared);
	free(p->slots);
	free(p);
}

bool pg_is_up(const struct pg *p)
{
	for (int i = 0; i < p->slots_count; i++)
		if (p->slots[i].conn.state == CONN_UP)
			return true;
	return false;
}

void pg_last_error(const struct pg *p, char *out, size_t size)
{
	const char *words = "";

	for (int i = 0; i < p->slots_count && !words[0]; i++)
		words = p->slots[i].conn.error;
	snprintf(out, size, "%s", words);
}

struct pg_call *pg_submit(struct pg *p, struct pg_batch *b, pg_cb *cb, void *arg)
{
	struct pg_call *c = calloc(1, sizeof *c);

	assert(cb && b->params_owed == 0);
	assert(b->rc != RC_OK || b->statements_count > 0);
	if (!c)
		abort();
	c->pool = p;
	c->batch = b;
	c->cb = cb;
	c->arg = arg;
	if (b->rc == RC_OK && p->waiting.count < PG_WAITING_MAX && !p->closing) {
		call_wait(c);
		return c;
	}
	list_push(&p->refused, c);
	pump_soon(p);
	return c;
}

void pg_cancel(struct pg_call *c)
{
	if (!c)
		return;
	c->cb = NULL;
	/* In flight its answers must still be read; in its own callback it is about to go. */
	for (int i = 0; i < c->pool->slots_count; i++)
		if (c->in == &c->pool->slots[i].sent)
			return;
	if (c->in != &c->pool->waiting && c->in != &c->pool->sleeping && c->in != &c->pool->refused)
		return;
	list_remove(c);
	call_free(c);
}

/* --- rows --------------------------------------------------------------------------------- */
size_t pg_row_count(const struct pg_rows *r)
{
	return (size_t)PQntuples(r->res);
}

int pg_columns(const struct pg_rows *r)
{
	return PQnfields(r->res);
}

static int row_at(const struct pg_rows *r, size_t row, int col)
{
	assert(row < pg_row_count(r) && col >= 0 && col < PQnfields(r->res));
	return (int)row;
}

bool pg_is_null(const struct pg_rows *r, size_t row, int col)
{
	return PQgetisnull(r->res, row_at(r, row, col), col);
}

struct str pg_str(const struct pg_rows *r, size_t row, int col)
{
	int at = row_at(r, row, col);

	if (PQgetisnull(r->res, at, col))
		return STR_NULL;
	return str_of(PQgetvalue(r->res, at, col), (size_t)PQgetlength(r->res, at, col));
}

int64_t pg_int(const struct pg_rows *r, size_t row, int col)
{
	int64_t v = 0;
	enum rc rc = str_to_i64(pg_str(r, row, col), &v);

	assert(rc == RC_OK);
	return v;
}

bool pg_bool(const struct pg_rows *r, size_t row, int col)
{
	struct str s = pg_str(r, row, col);

	assert(str_eq(s, STR("t")) || str_eq(s, STR("f")));
	return s.ptr[0] == 't';
}

struct uuid pg_uuid(const struct pg_rows *r, size_t row, int col)
{
	struct uuid u = {{0}};
	enum rc rc = uuid_parse(pg_str(r, row, col), &u);

	assert(rc == RC_OK);
	return u;
}

/* "2026-11-20 14:45:58.123456+00": the session's time zone is UTC. */
int64_t pg_time_us(const struct pg_rows *r, size_t row, int col)
{
	struct str s = pg_str(r, row, col);
	char text[48];
	int64_t us = 0;
	enum rc rc;

	if (str_is(s, "infinity"))
		return INT64_MAX;
	if (str_is(s, "-infinity"))
		return INT64_MIN;
	assert(s.len > 11 && s.len < 40 && str_ends(s, STR("+00")));
	snprintf(text, sizeof text, "%.*sT%.*sZ", 10, s.ptr, (int)s.len - 14, s.ptr + 11);
	rc = clock_parse_rfc3339(str_from(text), &us);
	assert(rc == RC_OK);
	return us;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct str pg_bytes(const struct pg_rows *r, size_t row, int col, struct arena *mem)
{
	struct str s = pg_str(r, row, col);
	size_t n;
	char *out;

	if (!s.ptr)
		return STR_NULL;
	assert(str_starts(s, STR("\\x")) && s.len % 2 == 0);
	n = (s.len - 2) / 2;
	out = arena_alloc(mem, n + 1);
	for (size_t i = 0; i < n; i++) {
		int high = hex_value(s.ptr[2 + 2 * i]), low = hex_value(s.ptr[3 + 2 * i]);

		assert(high >= 0 && low >= 0);
		out[i] = (char)(high << 4 | low);
	}
	return str_of(out, n);
}

/* ============================================================================================
 * LISTEN
 * ============================================================================================ */
struct pg_listener {
	struct conn conn; /* first */
	char *channel;
	pg_notify_cb *cb;
	void *arg;
	bool listening;
	struct loop_timer answer;
};

static_assert(offsetof(struct pg_listener, conn) == 0, "a listener's conn is cast to it");

static void listener_on_silence(void *arg)
{
	struct pg_listener *l = arg;

	conn_fail(&l->conn, "postgres did not answer LISTEN");
}

static void listener_up(struct conn *conn)
{
	struct pg_listener *l = (struct pg_listener *)conn;
	char *name = PQescapeIdentifier(conn->pq, l->channel, strlen(l->channel));
	char text[256];
	int n = -1;

	if (name)
		n = snprintf(text, sizeof text, "%s%s", sql_server_listen.text, name);
	PQfreemem(name);
	assert(n > 0 && (size_t)n < sizeof text);
	loop_timer_set(conn->loop, &l->answer, PG_CONNECT_MS, listener_on_silence, l);
	if (!PQsendQuery(conn->pq, text)) {
		conn_fail(conn, PQerrorMessage(conn->pq));
		return;
	}
	conn_flush(conn);
}

static void listener_read(struct conn *conn)
{
	struct pg_listener *l = (struct pg_listener *)conn;
	PGresult *res;
	PGnotify *n;

	while (!PQisBusy(conn->pq) && (res = PQgetResult(conn->pq))) {
		bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;

		PQclear(res);
		if (!ok) {
			conn_fail(conn, PQerrorMessage(conn->pq));
			return;
		}
		loop_timer_clear(&l->answer);
		/* Only now nothing can be missed any more: what was cached before is stale. */
		l->listening = true;
		l->cb(l->arg, STR_NULL);
	}
	while ((n = PQnotifies(conn->pq))) {
		l->cb(l->arg, str_from(n->extra));
		PQfreemem(n);
	}
}

static void listener_down(struct conn *conn)
{
	struct pg_listener *l = (struct pg_listener *)conn;

	l->listening = false;
	loop_timer_clear(&l->answer);
}

static const struct conn_type listener_type = {
	.up = listener_up, .readable = listener_read, .down = listener_down};

struct pg_listener *pg_listen(struct loop *l, const struct pg_options *o, const char *channel,
			      pg_notify_cb *cb, void *arg)
{
	struct pg_listener *n = calloc(1, sizeof *n);

	if (!n)
		abort();
	n->channel = copy_z(channel);
	n->cb = cb;
	n->arg = arg;
	conn_init(&n->conn, l, o, &listener_type);
	return n;
}

void pg_unlisten(struct pg_listener *l)
{
	if (!l)
		return;
	loop_timer_clear(&l->answer);
	conn_clear(&l->conn);
	free(l->channel);
	free(l);
}
