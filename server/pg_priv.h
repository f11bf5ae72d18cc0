/* server/pg_priv.h - what pg.c, pg_batch.c and pg_err.c share; nobody else's. */
#ifndef SERVER_PG_PRIV_H
#define SERVER_PG_PRIV_H
#include "server/pg.h"

#define PG_PARAMS_MAX		64		   /* of one statement: wider ones take arrays */
#define PG_BATCH_STATEMENTS_MAX 10000		   /* one per booked item of a large set */
#define PG_BATCH_BYTES_MAX	((size_t)64 << 20) /* all parameters: a few sealed bodies */

/* A batch is built once and read often: it is sent again after a serialisation failure. */
struct pg_param {
	size_t at; /* in `text`, NUL-terminated */
	bool null;
};
struct pg_statement {
	const struct sql_query *query;
	size_t params_at; /* of its first parameter in `params` */
};
struct pg_batch {
	struct pg_statement *statements;
	size_t statements_count, statements_cap;
	struct pg_param *params;
	size_t params_count, params_cap;
	struct buf text;
	int params_owed;	     /* by the last statement */
	const struct sql_query *org; /* NULL, or the statement that sets the tenant */
	char org_text[256];	     /* its parameter: a uuid or a slug */
	enum rc rc;		     /* RC_OK, or why it cannot be sent: sticks */
	const char *why;	     /* static */
};
/* The text of parameter `i` of a statement; NULL is SQL NULL. */
const char *pg_batch_param(const struct pg_batch *b, const struct pg_statement *s, int i);

enum rc pg_rc_from_sqlstate(const char *sqlstate);
/* Nothing was done and the same batch may pass next time. */
bool pg_sqlstate_retries(const char *sqlstate);

#endif
