/* vault/transit_link.c - one loop's requests to the transit engine.
 *
 *   transit_seal/open -> WAITING (for a place) -> RUNNING (in curlm) -> gone
 *                               \-> ENDING (refused at once; told on the next turn) -/
 *
 * At most LINK_CALLS_MAX run at a time on a loop, LINK_WAITING_MAX wait behind them. A 403 is asked again once, when
 * the token's file holds another token by then; nothing else is ever sent twice from here. Bodies stand in
 * buffers that wipe, and libcurl's copies are wiped once used (curlm.h). What the engine says is never logged: it
 * may say back what it was sent. */
#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/curlm.h"
#include "server/loop.h"
#include "vault/transit_link_priv.h"

#define LINK_CALLS_MAX	   16
#define LINK_WAITING_MAX   4096
#define LINK_BODY_MAX	   16384 /* of a request */
#define LINK_ANSWER_MAX	   16384 /* of an answer: a sealed key has some 300 bytes */
#define LINK_PATH_MAX	   512
#define LINK_ARENA_BYTES   (128 * 1024)
#define LINK_BASE64_MAX	   ((TRANSIT_TEXT_MAX / 3 + 1) * 4 + 1)
#define LINK_CONNECT_MS	   3000
#define LINK_RENEW_LOOK_MS 60000 /* another token may have come meanwhile */
#define LINK_RENEW_MIN_MS  500
#define LINK_RENEW_FAIL_MS 5000

enum link_state { LINK_WAITING, LINK_RUNNING, LINK_ENDING };

struct transit_call {
	struct transit_link *l;
	struct transit_call *prev, *next;
	enum transit_what what;
	enum link_state state;
	struct buf body, answer;
	struct curlm_call *http;
	int status;
	bool probe, again;
	uint64_t token_gen;
	transit_cb *cb;
	void *arg;
	struct err err; /* ENDING: why */
};

struct transit_link {
	struct transit *t;
	struct loop *loop;
	struct curlm *curlm;
	struct transit_call *first, *last; /* oldest first */
	size_t running, waiting;
	/* renewal */
	struct loop_timer timer;
	struct transit_call *renewal;
	uint64_t renewed_gen; /* the token whose time is known; 0: none */
	int64_t renew_at_ms;  /* INT64_MAX: it needs none */
};

static void call_run(struct transit_call *c);
static void call_on_ending(void *arg);

/* ---- what is read -------------------------------------------------------------------------------- */

bool transit_text_ver(struct str text, int64_t *ver)
{
	struct str rest = str_slice(text, 7, text.len), digits;

	if (text.len > TRANSIT_TEXT_MAX || !str_starts(text, STR("vault:v")))
		return false;
	digits = str_cut(&rest, ':');
	if (digits.len > 9 || digits.len == 0 || digits.ptr[0] == '0' || rest.len == 0 ||
	    str_to_i64(digits, ver) != RC_OK || *ver < 1)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= 0x20 || text.ptr[i] >= 0x7f)
			return false;
	return true;
}

static enum rc read_opened(const struct json *data, struct transit_answer *ret)
{
	uint8_t bytes[TRANSIT_PLAIN_BYTES + 4];
	struct str base64;
	size_t len = 0;
	bool ok;

	ok = json_string(json_get(data, "plaintext"), &base64) && base64.len <= 48 &&
	     base64_decode(base64, bytes, sizeof bytes, &len) == RC_OK &&
	     len == TRANSIT_PLAIN_BYTES;
	if (ok)
		memcpy(ret->plain, bytes, TRANSIT_PLAIN_BYTES);
	OPENSSL_cleanse(bytes, sizeof bytes);
	return ok ? RC_OK : RC_PROTOCOL;
}

enum rc transit_read(enum transit_what what, struct str body, struct arena *mem,
		     struct transit_answer *ret)
{
	const struct json *data;
	struct json *doc;

	memset(ret, 0, sizeof *ret);
	if (json_parse(body, JSON_NO_DUPLICATES, mem, &doc, NULL) != RC_OK)
		return RC_PROTOCOL;
	data = json_get(doc, "data");
	switch (what) {
	case TRANSIT_SEAL:
		return json_string(json_get(data, "ciphertext"), &ret->text) &&
				       transit_text_ver(ret->text, &ret->ver)
			       ? RC_OK
			       : RC_PROTOCOL;
	case TRANSIT_OPEN:
		return read_opened(data, ret);
	case TRANSIT_RENEW:
		data = json_get(doc, "auth");
		return json_int(json_get(data, "lease_duration"), &ret->lease_s) &&
				       json_bool(json_get(data, "renewable"), &ret->renewable) &&
				       ret->lease_s >= 0
			       ? RC_OK
			       : RC_PROTOCOL;
	}
	return RC_PROTOCOL;
}

/* ---- how a call ends ----------------------------------------------------------------------------- */

static void call_unlink(struct transit_call *c)
{
	struct transit_link *l = c->l;

	*(c->prev ? &c->prev->next : &l->first) = c->next;
	*(c->next ? &c->next->prev : &l->last) = c->prev;
	if (c->state == LINK_RUNNING)
		l->running--;
	else if (c->state == LINK_WAITING)
		l->waiting--;
}

static void call_free(struct transit_call *c)
{
	call_unlink(c);
	buf_clear(&c->body);
	buf_clear(&c->answer);
	free(c);
}

/* A place is free: the oldest that waits takes it. */
static void link_next(struct transit_link *l)
{
	struct transit_call *c = l->first;

	while (c && l->running < LINK_CALLS_MAX) {
		struct transit_call *next = c->next;

		if (c->state == LINK_WAITING)
			call_run(c);
		c = next;
	}
}

/* The call is gone when its callback runs. */
static void call_end(struct transit_call *c, enum rc rc, struct transit_answer *a,
		     const struct err *err)
{
	struct transit_link *const l = c->l;
	transit_cb *const cb = c->cb;
	void *const arg = c->arg;

	call_free(c);
	cb(arg, rc, rc == RC_OK ? a : NULL, err);
	if (a)
		OPENSSL_cleanse(a, sizeof *a);
	link_next(l);
}

static void err_away(struct err *err, int64_t wait_ms, const char *words)
{
	(void)err_set(err, RC_UNAVAILABLE, "vault_unavailable",
		      "the keeper of the master key cannot be asked now");
	err_detail(err, "%s", words);
	err->retry_after_s = (int)((wait_ms + 999) / 1000);
}

static void call_fail(struct transit_call *c, const char *words)
{
	struct err err;

	counter_add(&c->l->t->results[TRANSIT_FAILED], 1);
	err_away(&err, transit_failed(c->l->t, c->probe, words), words);
	call_end(c, RC_UNAVAILABLE, NULL, &err);
}

/* The keeper is there and says no. */
static void call_refused(struct transit_call *c)
{
	struct err err;

	counter_add(&c->l->t->results[TRANSIT_REFUSED], 1);
	transit_worked(c->l->t, c->probe);
	if (c->what == TRANSIT_OPEN) {
		(void)err_set(&err, RC_CORRUPT, "vault_auth",
			      "the transit engine does not open this");
		call_end(c, RC_CORRUPT, NULL, &err);
		return;
	}
	if (c->what == TRANSIT_RENEW) {
		(void)err_set(&err, RC_DENIED, "vault_auth", "the token cannot be renewed");
		call_end(c, RC_DENIED, NULL, &err);
		return;
	}
	err_away(&err, LINK_RENEW_FAIL_MS,
		 "it does not encrypt with that key: is there one of that name, of a type that "
		 "takes associated data, and not derived?");
	call_end(c, RC_UNAVAILABLE, NULL, &err);
}

static void call_answered(struct transit_call *c)
{
	struct arena *mem = arena_new(LINK_ARENA_BYTES);
	struct transit_answer a;

	if (transit_read(c->what, buf_str(&c->answer), mem, &a) != RC_OK) {
		arena_free(mem);
		call_fail(c, "its answer is not that of a transit engine");
		return;
	}
	counter_add(&c->l->t->results[TRANSIT_OK], 1);
	transit_worked(c->l->t, c->probe);
	call_end(c, RC_OK, &a, NULL);
	arena_free(mem);
}

/* Refused: with another token by now, it is worth asking once more. */
static bool call_again(struct transit_call *c)
{
	if (c->again)
		return false;
	if (transit_token_gen(c->l->t) == c->token_gen && !transit_token_reload(c->l->t))
		return false;
	c->again = true;
	transit_left(c->l->t, c->probe);
	c->l->running--;
	c->l->waiting++;
	c->state = LINK_WAITING;
	buf_reset(&c->answer);
	link_next(c->l);
	return true;
}

static void call_on_status(struct transit_call *c)
{
	switch (c->status) {
	case 200:
		call_answered(c);
		return;
	case 400:
		call_refused(c);
		return;
	case 403:
		if (!call_again(c))
			call_fail(c, "it refuses the token (403): it has expired, or its policy "
				     "lacks the key");
		return;
	case 404:
		call_fail(c, "it has no such mount (404)");
		return;
	case 429:
		call_fail(c, "it has too much to do (429)");
		return;
	case 503:
		call_fail(c, "it is sealed or down for maintenance (503)");
		return;
	default:
		call_fail(c, c->status < 400 ? "it answers with a redirect or without a body; name "
					       "the active node in the URL"
					     : "it answers with an error that is its own");
	}
}

static void on_head(void *arg, const struct curlm_response *r)
{
	struct transit_call *c = arg;

	c->status = r->status;
}

static bool on_body(void *arg, struct str bytes)
{
	struct transit_call *c = arg;

	if (buf_append(&c->answer, bytes) != RC_OK)
		c->status = 0; /* curlm has the same cap and ends the call */
	return true;
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct transit_call *c = arg;

	c->http = NULL;
	if (rc == RC_OK)
		call_on_status(c);
	else if (rc == RC_TIMEOUT)
		call_fail(c, "it does not answer in time");
	else if (rc == RC_NETWORK && strcmp(err->code, "tls") == 0)
		call_fail(c, "TLS with it fails: is its certificate valid for the URL's host, and "
			     "its issuer known (TOLLGATE_VAULT_TRANSIT_CA_FILE)?");
	else if (rc == RC_NETWORK)
		call_fail(c, "it cannot be reached");
	else
		call_fail(c, "it does not answer as an HTTP service of its kind does");
}

/* ---- requests ------------------------------------------------------------------------------------ */

static struct str call_path(const struct transit_call *c, char path[LINK_PATH_MAX])
{
	const struct transit *t = c->l->t;
	int len;

	if (c->what == TRANSIT_RENEW)
		return STR("/v1/auth/token/renew-self");
	len = snprintf(path, LINK_PATH_MAX, "/v1/%s/%s/%s", t->mount,
		       c->what == TRANSIT_SEAL ? "encrypt" : "decrypt", t->key);
	assert(len > 0 && len < LINK_PATH_MAX);
	return str_of(path, (size_t)len);
}

static void call_send(struct transit_call *c, const struct secret *token)
{
	static const struct curlm_handlers handlers = {
		.on_head = on_head, .on_body = on_body, .on_done = on_done};
	const struct transit *t = c->l->t;
	const struct curlm_header headers[] = {
		{"Content-Type", STR("application/json")},
		{"X-Vault-Request", STR("true")}, /* agents and proxies may ask for it */
		{"X-Vault-Namespace", str_from(t->name_space)},
	};
	struct curlm_handlers h = handlers;
	char path[LINK_PATH_MAX];

	h.arg = c;
	c->status = 0;
	c->http = curlm_start(
		c->l->curlm,
		&(struct curlm_request){
			.method = "POST",
			.base = str_from(t->base),
			.path = call_path(c, path),
			.headers = headers,
			.headers_count = ARRAY_LEN(headers) - (t->name_space ? 0 : 1),
			.secret_form = CURLM_SECRET_HEADER,
			.secret_header = "X-Vault-Token",
			.secret = secret_str(token),
			.body = buf_str(&c->body),
			.secret_body = true,
			.timeouts = {.connect = LINK_CONNECT_MS < t->timeout_ms ? LINK_CONNECT_MS
										: t->timeout_ms,
				     .first_byte = t->timeout_ms,
				     .idle = t->timeout_ms,
				     .total = t->timeout_ms},
			.body_bytes_max = LINK_ANSWER_MAX,
		},
		&h);
}

/* Told on the next turn. */
static void call_refuse(struct transit_call *c, int64_t wait_ms, const char *words)
{
	counter_add(&c->l->t->results[TRANSIT_SHORT], 1);
	if (c->state == LINK_WAITING)
		c->l->waiting--;
	c->state = LINK_ENDING;
	err_away(&c->err, wait_ms, words);
	loop_defer(c->l->loop, call_on_ending, c);
}

static void call_on_ending(void *arg)
{
	struct transit_call *c = arg;
	const struct err err = c->err;

	call_end(c, RC_UNAVAILABLE, NULL, &err);
}

static void call_run(struct transit_call *c)
{
	AUTO(secret) struct secret token = SECRET_INIT;
	char words[160];
	int64_t wait_ms = transit_enter(c->l->t, &c->probe);

	assert(c->state == LINK_WAITING);
	if (wait_ms > 0) {
		(void)transit_is_well(c->l->t, words, sizeof words);
		call_refuse(c, wait_ms, words);
		return;
	}
	if (transit_token_copy(c->l->t, &token, &c->token_gen) != RC_OK) {
		transit_left(c->l->t, c->probe);
		call_refuse(c, 1, "the secure heap is full");
		return;
	}
	c->l->waiting--;
	c->l->running++;
	c->state = LINK_RUNNING;
	call_send(c, &token);
}

/* Takes `body`. */
static struct transit_call *call_new(struct transit_link *l, enum transit_what what,
				     struct buf body, transit_cb *cb, void *arg)
{
	struct transit_call *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->l = l;
	c->what = what;
	c->body = body;
	c->answer = BUF_INIT(LINK_ANSWER_MAX);
	c->cb = cb;
	c->arg = arg;
	c->state = LINK_WAITING;
	c->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = c;
	l->last = c;
	l->waiting++;
	if (l->waiting > LINK_WAITING_MAX)
		call_refuse(c, 1000, "too many data keys wait for it");
	else if (l->running < LINK_CALLS_MAX)
		call_run(c);
	return c;
}

static void put_base64(struct json_out *o, const char *key, struct str bytes)
{
	uint8_t text[LINK_BASE64_MAX];
	int len;

	assert(bytes.len <= TRANSIT_TEXT_MAX);
	len = EVP_EncodeBlock(text, (const uint8_t *)bytes.ptr, (int)bytes.len);
	json_put_str(o, key, str_of(text, (size_t)len));
	OPENSSL_cleanse(text, sizeof text);
}

/* All that is put in is bounded far below LINK_BODY_MAX. */
static void body_begin(struct json_out *o, struct buf *body, struct str aad)
{
	json_out_begin(o, body);
	json_obj(o, NULL);
	if (aad.len > 0)
		put_base64(o, "associated_data", aad);
}

static void body_end(struct json_out *o)
{
	json_obj_end(o);
	if (json_out_end(o) != RC_OK)
		abort();
}

struct transit_call *transit_seal(struct transit_link *l, const uint8_t plain[TRANSIT_PLAIN_BYTES],
				  struct str aad, int64_t ver, transit_cb *cb, void *arg)
{
	struct buf body = BUF_INIT(LINK_BODY_MAX);
	struct json_out o;

	body_begin(&o, &body, aad);
	put_base64(&o, "plaintext", str_of(plain, TRANSIT_PLAIN_BYTES));
	if (ver > 0)
		json_put_int(&o, "key_version", ver);
	body_end(&o);
	return call_new(l, TRANSIT_SEAL, body, cb, arg);
}

struct transit_call *transit_open(struct transit_link *l, struct str text, struct str aad,
				  transit_cb *cb, void *arg)
{
	struct buf body = BUF_INIT(LINK_BODY_MAX);
	struct json_out o;

	body_begin(&o, &body, aad);
	json_put_str(&o, "ciphertext", text);
	body_end(&o);
	return call_new(l, TRANSIT_OPEN, body, cb, arg);
}

void transit_cancel(struct transit_call *c)
{
	struct transit_link *l;

	if (!c)
		return;
	l = c->l;
	if (c->state == LINK_RUNNING)
		transit_left(l->t, c->probe);
	if (c->state == LINK_ENDING)
		loop_defer_cancel(l->loop, call_on_ending, c);
	curlm_cancel(c->http);
	call_free(c);
	link_next(l);
}

/* ---- renewal ------------------------------------------------------------------------------------- */

static void renew_look(void *arg);

static void renew_later(struct transit_link *l, int64_t ms)
{
	loop_timer_set(l->loop, &l->timer, ms < LINK_RENEW_LOOK_MS ? ms : LINK_RENEW_LOOK_MS,
		       renew_look, l);
}

static void renew_on_done(void *arg, enum rc rc, const struct transit_answer *a,
			  const struct err *err)
{
	struct transit_link *l = arg;
	int64_t wait_ms;

	l->renewal = NULL;
	if (rc != RC_OK && rc != RC_DENIED) {
		l->renewed_gen = 0;
		renew_later(l, err->retry_after_s > 0 ? err->retry_after_s * 1000
						      : LINK_RENEW_FAIL_MS);
		return;
	}
	l->renew_at_ms = INT64_MAX;
	if (rc == RC_OK && a->renewable && a->lease_s > 0) {
		wait_ms = a->lease_s < INT32_MAX ? a->lease_s * 500 : (int64_t)INT32_MAX * 500;
		l->renew_at_ms = clock_mono_ms() +
				 (wait_ms > LINK_RENEW_MIN_MS ? wait_ms : LINK_RENEW_MIN_MS);
	} else if (rc != RC_OK || a->lease_s > 0) {
		log_warn("the transit token cannot be renewed: put another into its file before "
			 "it ends",
			 LOG_INT("lease_s", rc == RC_OK ? a->lease_s : 0));
	}
	log_debug("transit token renewed", LOG_BOOL("renewable", rc == RC_OK && a->renewable),
		  LOG_INT("lease_s", rc == RC_OK ? a->lease_s : 0));
	renew_look(l);
}

/* Half of its time over, or a token that was never asked about? */
static void renew_look(void *arg)
{
	struct transit_link *l = arg;
	struct buf body = BUF_INIT(LINK_BODY_MAX);
	const uint64_t gen = transit_token_gen(l->t);
	const int64_t now = clock_mono_ms();
	struct json_out o;

	if (l->renewed_gen == gen && now < l->renew_at_ms) {
		renew_later(l, l->renew_at_ms - now);
		return;
	}
	l->renewed_gen = gen;
	body_begin(&o, &body, STR_NULL);
	body_end(&o);
	l->renewal = call_new(l, TRANSIT_RENEW, body, renew_on_done, l);
}

void transit_link_renew(struct transit_link *l)
{
	renew_later(l, 0);
}

/* ---- life ---------------------------------------------------------------------------------------- */

struct transit_link *transit_link_new(struct transit *t, struct loop *loop)
{
	struct transit_link *l = calloc(1, sizeof *l);

	if (!l)
		abort();
	l->t = t;
	l->loop = loop;
	l->curlm = curlm_new(loop, t->egress, t->ca_file);
	return l;
}

void transit_link_free(struct transit_link *l)
{
	if (!l)
		return;
	loop_timer_clear(&l->timer);
	while (l->first) {
		struct transit_call *c = l->first;

		if (c->state == LINK_RUNNING)
			transit_left(l->t, c->probe);
		if (c->state == LINK_ENDING)
			loop_defer_cancel(l->loop, call_on_ending, c);
		curlm_cancel(c->http);
		call_free(c);
	}
	curlm_free(l->curlm);
	free(l);
}
