/* routing/kept.c - state that a provider keeps for a later call: who has it.
 *
 * A stored response, a conversation, a file, a cache live in one provider account. What a call of an org made is
 * remembered with the profile that made it, as a hash, for that org alone; a call that builds on it goes there
 * (plan.c) or is refused. Nothing here ever guesses. */
#include <stdlib.h>

#include "routing/kept.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/pg.h"
#include "sql/queries.h"

struct kept_find {
	struct pg_call *call;
	struct call *of;
	void (*done)(void *arg, enum rc rc);
	void *arg;
};

/* Kinds are ours and have no NUL: two ids of different kinds never meet. An id is as long as its caller made it: no place for
 * the arena, whose cap ends the process. */
static void hash_of(const char *kind, struct str id, uint8_t out[SHA256_BYTES])
{
	const size_t kind_len = strlen(kind);
	AUTO(buf) struct buf text = BUF_INIT(kind_len + 1 + id.len);

	if (buf_append(&text, str_of(kind, kind_len + 1)) != RC_OK ||
	    buf_append(&text, id) != RC_OK)
		abort(); /* it is as large as that */
	sha256(buf_str(&text), out);
}

static void on_found(void *arg, const struct pg_result *res)
{
	struct kept_find *k = arg;
	struct call *c = k->of;

	k->call = NULL;
	for (size_t i = 0; res->rc == RC_OK && i < pg_row_count(res->rows[0]); i++) {
		const int64_t n = pg_int(res->rows[0], i, 0);

		if (n >= 1 && (size_t)n <= c->states_count)
			c->states[n - 1].keeper = pg_uuid(res->rows[0], i, 1);
	}
	if (res->rc != RC_OK && res->rc != RC_CANCELLED)
		log_warn("kept state not read", LOG_STR("error", res->message));
	k->done(k->arg, res->rc);
}

struct kept_find *kept_find(struct worker *w, struct org_id org, struct call *c, struct arena *mem,
			    void (*done)(void *arg, enum rc rc), void *arg)
{
	struct kept_find *k = ARENA_NEW(mem, struct kept_find);
	uint8_t(*hashes)[SHA256_BYTES] = arena_alloc(mem, c->states_count * SHA256_BYTES);
	struct str *list = ARENA_ARRAY(mem, struct str, c->states_count);
	struct pg_batch *b = pg_batch_new();

	for (size_t i = 0; i < c->states_count; i++) {
		hash_of(c->states[i].kind, c->states[i].id, hashes[i]);
		list[i] = str_of(hashes[i], SHA256_BYTES);
	}
	*k = (struct kept_find){.of = c, .done = done, .arg = arg};
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_routing_state_find);
	pg_param_bytes_array(b, list, c->states_count);
	k->call = pg_submit(w->pg, b, on_found, k);
	return k;
}

void kept_find_cancel(struct kept_find *k)
{
	if (k->call)
		pg_cancel(k->call);
	k->call = NULL;
}

struct kept_note {
	struct pg_call *call;
	void (*done)(void *arg);
	void *arg;
};

static void on_noted(void *arg, const struct pg_result *res)
{
	struct kept_note *k = arg;

	k->call = NULL;
	/* the follow-up will be refused as unknown: better than sent where it is not */
	if (res->rc != RC_OK)
		log_warn("kept state not stored", LOG_STR("error", res->message));
	k->done(k->arg);
}

struct kept_note *kept_note(struct worker *w, struct org_id org, const char *kind, struct str id,
			    struct uuid profile, struct arena *mem, void (*done)(void *arg),
			    void *arg)
{
	struct kept_note *k = ARENA_NEW(mem, struct kept_note);
	struct pg_batch *b = pg_batch_new();
	uint8_t hash[SHA256_BYTES];

	hash_of(kind, id, hash);
	*k = (struct kept_note){.done = done, .arg = arg};
	pg_batch_org(b, org);
	pg_batch_add(b, &sql_routing_state_keep);
	pg_param_bytes(b, str_of(hash, sizeof hash));
	pg_param_uuid(b, profile);
	k->call = pg_submit(w->pg, b, on_noted, k);
	return k;
}

void kept_note_cancel(struct kept_note *k)
{
	if (k->call)
		pg_cancel(k->call);
	k->call = NULL;
}
