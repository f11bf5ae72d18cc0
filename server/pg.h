/* server/pg.h - Postgres from a loop: a small pool of pipelined connections, never blocking.
 *
 * A batch is what must be atomic: its statements go out in one flight, closed by one Sync, and are
 * one implicit transaction (no BEGIN: security.md 2.4). With pg_batch_org() the transaction-local
 * app.org_id is set first, so row-level security lets exactly that org's rows through. Every
 * connection has done SET ROLE tollgate_app and refuses a role that is superuser or BYPASSRLS.
 *
 * Completion promise: the callback runs once, on the loop's thread, never before pg_submit()
 * returned, never after pg_cancel(). While no connection is up, a batch waits at most wait_ms, then
 * ends with RC_UNAVAILABLE. A statement gets deadline_ms from being sent; past it the connection
 * is dropped and every batch in flight on it ends with RC_UNAVAILABLE, `outcome_unknown` set where
 * it had been sent: repeat it with the same ids, all our functions are idempotent. */
#ifndef SERVER_PG_H
#define SERVER_PG_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/id.h"

struct loop;

/* A named statement: generated from sql/queries/<room>.sql into "sql/queries.h". */
struct sql_query {
	const char *name;
	const char *text;
	int params;
};

struct pg;
struct pg_options {
	const char *url;     /* libpq connection string; hostaddr is filled in off the loop */
	const char *role;    /* "tollgate_app"; NULL: stay who we are (migrate) */
	int connections;     /* pool size */
	int64_t deadline_ms; /* per batch once sent (2000) */
	int64_t wait_ms;     /* for a connection (2000) */
	const char *name;    /* application_name */
};
struct pg *pg_new(struct loop *l, const struct pg_options *o);
void pg_free(struct pg *p);	   /* every waiting batch ends with RC_CANCELLED first */
bool pg_is_up(const struct pg *p); /* at least one usable connection */
void pg_last_error(const struct pg *p, char *out,
		   size_t size); /* for the log and the terminal; no secrets */

/* --- a batch: built, submitted once; all parameters are copied ------------------------------- */
struct pg_batch;
struct pg_batch *pg_batch_new(void);
void pg_batch_free(struct pg_batch *b); /* only if never submitted */
void pg_batch_org(struct pg_batch *b, struct org_id org);
/* The same by id or slug, resolved in the same transaction; an unknown one ends it with TG404. */
void pg_batch_org_ref(struct pg_batch *b, struct str id_or_slug);
/* Start a statement; then add exactly q->params parameters in order. */
void pg_batch_add(struct pg_batch *b, const struct sql_query *q);
void pg_param_str(struct pg_batch *b, struct str v); /* text form; ptr NULL is SQL NULL */
void pg_param_z(struct pg_batch *b, const char *v);
void pg_param_int(struct pg_batch *b, int64_t v);
void pg_param_bool(struct pg_batch *b, bool v);
void pg_param_uuid(struct pg_batch *b, struct uuid v);
void pg_param_bytes(struct pg_batch *b, struct str v);	 /* bytea */
void pg_param_time(struct pg_batch *b, int64_t wall_us); /* timestamptz */
void pg_param_null(struct pg_batch *b);
/* Arrays, for set-wise statements. */
void pg_param_int_array(struct pg_batch *b, const int64_t *v, size_t n);
void pg_param_uuid_array(struct pg_batch *b, const struct uuid *v, size_t n);
void pg_param_str_array(struct pg_batch *b, const struct str *v, size_t n); /* ptr NULL is NULL */
void pg_param_bytes_array(struct pg_batch *b, const struct str *v, size_t n);

/* --- results ------------------------------------------------------------------------------ */
struct pg_rows; /* one statement's rows; valid during the callback only */
struct pg_result {
	enum rc rc;	      /* RC_OK: all statements done and committed */
	bool outcome_unknown; /* it may have committed */
	char sqlstate[6];     /* of the failing statement; "" if none */
	const char *message;  /* primary message; static storage or the result's, never NULL */
	const char *hint;     /* never NULL */
	size_t statements; /* that delivered rows, without the org's set_config; of a failed result how
			       * many went well before the one that failed */
	const struct pg_rows *const *rows; /* [statements] */
};
typedef void pg_cb(void *arg, const struct pg_result *res);

/* RC mapping: 23505 RC_CONFLICT; 23503, 23514, 22xxx RC_INVALID; 42501 RC_DENIED; 40001, 40P01 are
 * tried again up to 5 times by pg.c itself; connection loss RC_UNAVAILABLE; SQLSTATE 'TG400'
 * RC_INVALID, 'TG403' RC_DENIED, 'TG404' RC_NOT_FOUND, 'TG409' RC_CONFLICT, 'TG429' RC_LIMIT: raised
 * by our functions with message "code: words" and optional HINT; anything else RC_UNAVAILABLE. */
struct pg_call;
struct pg_call *pg_submit(struct pg *p, struct pg_batch *b, pg_cb *cb, void *arg); /* takes `b` */
void pg_cancel(struct pg_call *c); /* no callback after this; the statement itself may still run */
/* Fill `e` from a failed result: "TG..." messages give their own code, words and hint, and a TG429 whose hint begins
 * with "in N s" its retry_after_s. */
enum rc pg_result_err(const struct pg_result *r, struct err *e);

size_t pg_row_count(const struct pg_rows *r);
int pg_columns(const struct pg_rows *r);
bool pg_is_null(const struct pg_rows *r, size_t row, int col);
struct str pg_str(const struct pg_rows *r, size_t row, int col); /* NULL gives STR_NULL */
/* The following assert the column's shape: our own SQL is the only source. */
int64_t pg_int(const struct pg_rows *r, size_t row, int col);
bool pg_bool(const struct pg_rows *r, size_t row, int col);
struct uuid pg_uuid(const struct pg_rows *r, size_t row, int col);
int64_t pg_time_us(const struct pg_rows *r, size_t row, int col);
struct str pg_bytes(const struct pg_rows *r, size_t row, int col, struct arena *mem); /* bytea */

/* Where the connection string says Postgres is, as far as that can be told without a lookup: literal
 * addresses and "localhost", each with its port. Calls `fn` for each. */
void pg_addresses(const char *url, void (*fn)(void *arg, const struct sockaddr *sa, socklen_t len),
		  void *arg);

/* --- LISTEN: its own connection ------------------------------------------------------------ */
struct pg_listener;
typedef void
pg_notify_cb(void *arg,
	     struct str payload); /* payload ptr NULL: connection (re)made: drop all caches */
struct pg_listener *pg_listen(struct loop *l, const struct pg_options *o, const char *channel,
			      pg_notify_cb *cb, void *arg);
void pg_unlisten(struct pg_listener *l);

#endif
