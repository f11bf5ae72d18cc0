/* server/pg_batch.c - building a batch: statements and their parameters as text.
 *
 * Pure: no connection, no loop. Everything a caller hands over is copied here, quoted where it goes
 * into an array literal, and never becomes part of a statement. What cannot be sent (too large, a
 * NUL byte, which no text in Postgres can hold) is noted in `rc` and refused by pg_submit(). */
#include "server/pg_priv.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/clock.h"
#include "server/base/hash.h"
#include "sql/queries.h"

static void *grown(void *array, size_t count, size_t *cap, size_t element_size)
{
	void *bigger;

	if (count < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 8;
	bigger = reallocarray(array, *cap, element_size);
	if (!bigger)
		abort();
	return bigger;
}

struct pg_batch *pg_batch_new(void)
{
	struct pg_batch *b = calloc(1, sizeof *b);

	if (!b)
		abort();
	buf_init(&b->text, PG_BATCH_BYTES_MAX);
	b->why = "";
	return b;
}

void pg_batch_free(struct pg_batch *b)
{
	if (!b)
		return;
	/* Parameters may be hashes and sealed secrets: leave nothing to find. */
	if (b->text.ptr)
		explicit_bzero(b->text.ptr, b->text.len);
	buf_clear(&b->text);
	free(b->statements);
	free(b->params);
	free(b);
}

static void refuse(struct pg_batch *b, enum rc rc, const char *why)
{
	if (b->rc != RC_OK)
		return;
	b->rc = rc;
	b->why = why;
}

static void put(struct pg_batch *b, struct str s)
{
	if (b->rc == RC_OK && buf_append(&b->text, s) != RC_OK)
		refuse(b, RC_TOO_LARGE, "the statements' parameters are too large");
}

void pg_batch_org(struct pg_batch *b, struct org_id org)
{
	char text[UUID_TEXT_SIZE];

	b->org = &sql_server_set_org;
	uuid_format(org.u, text);
	snprintf(b->org_text, sizeof b->org_text, "%s", text);
}

void pg_batch_org_ref(struct pg_batch *b, struct str id_or_slug)
{
	b->org = &sql_server_set_org_ref;
	/* What is no name at all is asked for as the empty one, which no org has. */
	if (id_or_slug.len >= sizeof b->org_text || !str_is_utf8(id_or_slug) ||
	    (id_or_slug.len && memchr(id_or_slug.ptr, 0, id_or_slug.len)))
		id_or_slug = STR("");
	if (id_or_slug.len)
		memcpy(b->org_text, id_or_slug.ptr, id_or_slug.len);
	b->org_text[id_or_slug.len] = '\0';
}

void pg_batch_add(struct pg_batch *b, const struct sql_query *q)
{
	assert(b->params_owed == 0);
	assert(q->params >= 0 && q->params <= PG_PARAMS_MAX);
	b->params_owed = q->params;
	if (b->statements_count == PG_BATCH_STATEMENTS_MAX)
		refuse(b, RC_TOO_LARGE, "too many statements in one batch");
	if (b->rc != RC_OK)
		return;
	b->statements = grown(b->statements, b->statements_count, &b->statements_cap,
			      sizeof *b->statements);
	b->statements[b->statements_count++] =
		(struct pg_statement){.query = q, .params_at = b->params_count};
}

static void param_begin(struct pg_batch *b, bool null)
{
	assert(b->params_owed > 0);
	b->params_owed--;
	if (b->rc != RC_OK)
		return;
	b->params = grown(b->params, b->params_count, &b->params_cap, sizeof *b->params);
	b->params[b->params_count++] = (struct pg_param){.at = b->text.len, .null = null};
}

static void param_end(struct pg_batch *b)
{
	put(b, str_of("", 1));
}

static void param_text(struct pg_batch *b, struct str v)
{
	param_begin(b, false);
	put(b, v);
	param_end(b);
}

static void check_text(struct pg_batch *b, struct str v)
{
	if (v.len && memchr(v.ptr, 0, v.len))
		refuse(b, RC_INVALID, "text with a NUL byte cannot be stored");
}

void pg_param_str(struct pg_batch *b, struct str v)
{
	if (!v.ptr) {
		pg_param_null(b);
		return;
	}
	check_text(b, v);
	param_text(b, v);
}

void pg_param_z(struct pg_batch *b, const char *v)
{
	pg_param_str(b, str_from(v));
}

void pg_param_int(struct pg_batch *b, int64_t v)
{
	char text[24];
	int n = snprintf(text, sizeof text, "%lld", (long long)v);

	param_text(b, str_of(text, (size_t)n));
}

void pg_param_bool(struct pg_batch *b, bool v)
{
	param_text(b, v ? STR("t") : STR("f"));
}

void pg_param_uuid(struct pg_batch *b, struct uuid v)
{
	char text[UUID_TEXT_SIZE];

	param_text(b, uuid_format(v, text));
}

/* bytea in its hex form, without the leading "\x". */
static void put_hex(struct pg_batch *b, struct str v)
{
	char piece[2 * 64 + 1];

	for (size_t at = 0; at < v.len; at += 64) {
		struct str part = str_slice(v, at, at + 64);

		hex_encode(part, piece);
		put(b, str_of(piece, 2 * part.len));
	}
}

void pg_param_bytes(struct pg_batch *b, struct str v)
{
	if (!v.ptr) {
		pg_param_null(b);
		return;
	}
	param_begin(b, false);
	put(b, STR("\\x"));
	put_hex(b, v);
	param_end(b);
}

void pg_param_time(struct pg_batch *b, int64_t wall_us)
{
	char text[CLOCK_RFC3339_SIZE];

	param_text(b, clock_rfc3339(wall_us, text));
}

void pg_param_null(struct pg_batch *b)
{
	param_begin(b, true);
}

/* --- arrays: '{...}' ------------------------------------------------------------------------ */
static void array_begin(struct pg_batch *b)
{
	param_begin(b, false);
	put(b, STR("{"));
}

static void array_next(struct pg_batch *b, size_t i)
{
	if (i > 0)
		put(b, STR(","));
}

static void array_end(struct pg_batch *b)
{
	put(b, STR("}"));
	param_end(b);
}

/* Always in quotes: so an empty element, one that reads NULL and one with blanks or braces are
 * themselves. Inside the quotes a backslash and a quote take a backslash. */
static void put_quoted(struct pg_batch *b, struct str v)
{
	size_t from = 0;

	put(b, STR("\""));
	for (size_t i = 0; i < v.len; i++) {
		if (v.ptr[i] != '"' && v.ptr[i] != '\\')
			continue;
		put(b, str_slice(v, from, i));
		put(b, STR("\\"));
		from = i;
	}
	put(b, str_slice(v, from, v.len));
	put(b, STR("\""));
}

void pg_param_int_array(struct pg_batch *b, const int64_t *v, size_t n)
{
	char text[24];

	array_begin(b);
	for (size_t i = 0; i < n; i++) {
		int len = snprintf(text, sizeof text, "%lld", (long long)v[i]);

		array_next(b, i);
		put(b, str_of(text, (size_t)len));
	}
	array_end(b);
}

void pg_param_uuid_array(struct pg_batch *b, const struct uuid *v, size_t n)
{
	char text[UUID_TEXT_SIZE];

	array_begin(b);
	for (size_t i = 0; i < n; i++) {
		array_next(b, i);
		put(b, uuid_format(v[i], text));
	}
	array_end(b);
}

void pg_param_str_array(struct pg_batch *b, const struct str *v, size_t n)
{
	array_begin(b);
	for (size_t i = 0; i < n; i++) {
		array_next(b, i);
		check_text(b, v[i]);
		if (v[i].ptr)
			put_quoted(b, v[i]);
		else
			put(b, STR("NULL"));
	}
	array_end(b);
}

void pg_param_bytes_array(struct pg_batch *b, const struct str *v, size_t n)
{
	array_begin(b);
	for (size_t i = 0; i < n; i++) {
		array_next(b, i);
		if (!v[i].ptr) {
			put(b, STR("NULL"));
			continue;
		}
		put(b, STR("\"\\\\x"));
		put_hex(b, v[i]);
		put(b, STR("\""));
	}
	array_end(b);
}

const char *pg_batch_param(const struct pg_batch *b, const struct pg_statement *s, int i)
{
	const struct pg_param *p = &b->params[s->params_at + (size_t)i];

	assert(i >= 0 && i < s->query->params);
	return p->null ? NULL : b->text.ptr + p->at;
}
