/* server/pg_err.c - what the database said, as an enum rc and as words for the caller.
 *
 * Pure but for the table of codes. The words of our own functions (SQLSTATE TG4xx) are meant for
 * the caller; the database's own words are for the log alone: they may quote values. */
#include "server/pg_priv.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A code outlives the result it came in, and our SQL knows some dozens of them. */
#define PG_CODES_MAX	 256
#define PG_CODE_SIZE_MAX 64

enum rc pg_rc_from_sqlstate(const char *s)
{
	static const struct {
		const char *state;
		enum rc rc;
	} table[] = {
		{"23505", RC_CONFLICT},	 {"23503", RC_INVALID},	 {"23514", RC_INVALID},
		{"42501", RC_DENIED},	 {"TG400", RC_INVALID},	 {"TG403", RC_DENIED},
		{"TG404", RC_NOT_FOUND}, {"TG409", RC_CONFLICT}, {"TG429", RC_LIMIT},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strcmp(s, table[i].state) == 0)
			return table[i].rc;
	return strncmp(s, "22", 2) == 0 ? RC_INVALID : RC_UNAVAILABLE;
}

bool pg_sqlstate_retries(const char *s)
{
	/* 26000: another batch was to prepare the statement on this connection, and failed. */
	return strcmp(s, "40001") == 0 || strcmp(s, "40P01") == 0 || strcmp(s, "26000") == 0;
}

/* The static copy of a code, NULL when it is none or the table is full. */
static const char *code_static(struct str code)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char codes[PG_CODES_MAX][PG_CODE_SIZE_MAX];
	static size_t count;
	const char *found = NULL;

	if (code.len == 0 || code.len >= PG_CODE_SIZE_MAX)
		return NULL;
	for (size_t i = 0; i < code.len; i++) {
		char c = code.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
			return NULL;
	}
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count && !found; i++)
		if (str_is(code, codes[i]))
			found = codes[i];
	if (!found && count < PG_CODES_MAX) {
		memcpy(codes[count], code.ptr, code.len);
		found = codes[count++];
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static enum rc plain_words(const struct pg_result *r, struct err *e)
{
	switch (r->rc) {
	case RC_INVALID:
		return err_set(e, r->rc, "invalid_value", "a value is not acceptable");
	case RC_TOO_LARGE:
		return err_set(e, r->rc, "too_large", "%s", r->message);
	case RC_CONFLICT:
		return err_set(e, r->rc, "conflict", "it exists already or was changed meanwhile");
	case RC_DENIED:
		return err_set(e, r->rc, "forbidden", "this is not allowed");
	case RC_NOT_FOUND:
		return err_set(e, r->rc, "not_found", "no such thing");
	case RC_LIMIT:
		return err_set(e, r->rc, "limit", "a limit does not allow it now");
	case RC_CANCELLED:
		return err_set(e, r->rc, "cancelled", "the service is stopping");
	default:
		err_set(e, r->rc, "database_unavailable", "the database is not available");
		if (e)
			e->retry_after_s = 1;
		return r->rc;
	}
}

/* A TG429 that knows when it passes begins its hint with "in N s". */
static int wait_of_hint(struct str hint)
{
	struct str number;
	int64_t s;

	if (!str_starts(hint, STR("in ")))
		return 0;
	hint = str_slice(hint, 3, hint.len);
	number = str_cut(&hint, ' ');
	if (!str_starts(hint, STR("s")) || str_to_i64(number, &s) != RC_OK || s < 1 || s > 86400)
		return 0;
	return (int)s;
}

enum rc pg_result_err(const struct pg_result *r, struct err *e)
{
	struct str words = str_from(r->message);
	struct str code = str_cut(&words, ':');
	const char *stable = strncmp(r->sqlstate, "TG", 2) == 0 ? code_static(code) : NULL;

	if (r->rc == RC_OK)
		return RC_OK;
	if (stable && words.ptr) {
		words = str_trim(words);
		err_set(e, r->rc, stable, "%.*s", STR_FMT(words));
	} else {
		plain_words(r, e);
	}
	if (stable && r->hint[0])
		err_hint(e, "%s", r->hint);
	if (stable && e && r->rc == RC_LIMIT)
		e->retry_after_s = wait_of_hint(str_from(r->hint));
	err_detail(e, "%s %s", r->sqlstate, r->message);
	return r->rc;
}
