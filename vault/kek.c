/* vault/kek.c - data keys wrapped and unwrapped, by whichever provider of master keys holds the one in question.
 *
 * A call is one or two steps, each sealing or opening 32 bytes under what is authenticated besides. A provider does
 * a step; this file decides which, and what comes next:
 *
 *   wrap     seal the data key, then the canary of the version that it was sealed with
 *   canary   seal the canary
 *   unwrap   open the data key
 *   check    open the canary, and compare
 *
 * Must never fall back from one provider to another: what one wrapped the other cannot open. */
#include "vault/kek_priv.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/loop.h"
#include "vault/secret_priv.h"

enum kek_work { KEK_WRAP, KEK_CANARY, KEK_UNWRAP, KEK_CHECK };

struct kek_provider {
	const char *name;
	uint32_t aad_ver; /* stands for kek_ver in what is authenticated */
	const char *(*current)(const struct keyring *k); /* NULL: it wraps nothing */
	bool (*holds)(const struct keyring *k, struct str id, int64_t ver);
	/* Do c->seal/c->plain/c->aad/c->text/c->step_ver; kek_step_done() comes later, once. */
	void (*start)(struct kek_call *c);
	void (*stop)(struct kek_call *c); /* kek_step_done() does not come any more */
	bool (*well)(const struct keyring *k, char *words, size_t size);
};

struct kek_client {
	const struct keyring *ring;
	struct loop *loop;
	struct transit_link *transit;
	struct kek_call *calls;
};

struct kek_call {
	struct kek_client *client;
	struct kek_call *prev, *next;
	const struct kek_provider *provider; /* NULL: none holds that key */
	enum kek_work work;
	struct org_id org;
	uint32_t dek_ver;
	char id[KEYRING_ID_SIZE];
	int64_t ver; /* 0: not known before the first step has sealed */
	struct kek_wrapped *out;
	kek_wrap_cb *wrap_cb;
	kek_open_cb *open_cb;
	void *arg;
	/* the step */
	bool seal, on_canary, refused;
	uint8_t *plain; /* secure heap */
	struct aad aad;
	struct kek_text text;
	struct transit_call *remote;
	enum rc rc; /* why it was refused; of a local step, what kek_step_done() will be told */
};

static void kek_step_done(struct kek_call *c, enum rc rc, const struct err *err);

/* ---- the keys of this process -------------------------------------------------------------------- */

static const char *local_current(const struct keyring *k)
{
	return k->transit && transit_is_current(k->transit) ? NULL : k->keks[0].id;
}

static bool local_holds(const struct keyring *k, struct str id, int64_t ver)
{
	return keyring_find(k, id, ver) != NULL;
}

static void local_done(void *arg)
{
	struct kek_call *c = arg;
	struct err err;

	if (c->rc == RC_CORRUPT)
		(void)err_set(&err, c->rc, "vault_auth", "the master key does not open this");
	else
		(void)err_set(&err, c->rc, "vault_unavailable", "no data key can be made now");
	kek_step_done(c, c->rc, &err);
}

static void local_start(struct kek_call *c)
{
	const struct kek *kek = keyring_find(c->client->ring, str_from(c->id), KEYRING_VER);

	assert(kek);
	c->ver = KEYRING_VER;
	if (c->seal) {
		c->rc = keyring_seal(kek, &c->aad, c->plain, (uint8_t *)c->text.bytes);
		c->rc = c->rc == RC_OK ? RC_OK : RC_UNAVAILABLE;
		c->text.len = ENVELOPE_WRAPPED_SIZE;
	} else {
		c->rc = keyring_open(kek, &c->aad, kek_text_str(&c->text), c->plain);
	}
	loop_defer(c->client->loop, local_done, c);
}

static void local_stop(struct kek_call *c)
{
	loop_defer_cancel(c->client->loop, local_done, c);
}

static bool local_well(const struct keyring *k, char *words, size_t size)
{
	return true;
}

static const struct kek_provider kek_local = {
	.name = "local",
	.aad_ver = KEYRING_VER,
	.current = local_current,
	.holds = local_holds,
	.start = local_start,
	.stop = local_stop,
	.well = local_well,
};

/* ---- the transit key ----------------------------------------------------------------------------- */

static const char *remote_current(const struct keyring *k)
{
	return k->transit && transit_is_current(k->transit) ? transit_id(k->transit) : NULL;
}

static bool remote_holds(const struct keyring *k, struct str id, int64_t ver)
{
	return k->transit && ver > 0 && str_is(id, transit_id(k->transit));
}

static void remote_done(void *arg, enum rc rc, const struct transit_answer *a,
			const struct err *err)
{
	struct kek_call *c = arg;
	struct err odd;

	c->remote = NULL;
	if (rc == RC_OK && c->seal && c->ver != 0 && c->ver != a->ver) {
		rc = err_set(&odd, RC_UNAVAILABLE, "vault_unavailable",
			     "the transit engine sealed with another version than was asked for");
		err = &odd;
	} else if (rc == RC_OK && c->seal) {
		c->ver = a->ver;
		c->text.len = a->text.len;
		memcpy(c->text.bytes, a->text.ptr, a->text.len);
		if (c->on_canary)
			transit_canary_put(c->client->ring->transit, c->ver, a->text);
	} else if (rc == RC_OK) {
		memcpy(c->plain, a->plain, TRANSIT_PLAIN_BYTES);
	}
	kek_step_done(c, rc, err);
}

static void remote_start(struct kek_call *c)
{
	struct transit_link *l = c->client->transit;

	if (c->seal)
		c->remote = transit_seal(l, c->plain, aad_str(&c->aad), c->ver, remote_done, c);
	else
		c->remote =
			transit_open(l, kek_text_str(&c->text), aad_str(&c->aad), remote_done, c);
}

static void remote_stop(struct kek_call *c)
{
	transit_cancel(c->remote);
}

static bool remote_well(const struct keyring *k, char *words, size_t size)
{
	return !k->transit || transit_is_well(k->transit, words, size);
}

static const struct kek_provider kek_transit = {
	.name = "transit",
	.aad_ver = 0,
	.current = remote_current,
	.holds = remote_holds,
	.start = remote_start,
	.stop = remote_stop,
	.well = remote_well,
};

/* ---- who ----------------------------------------------------------------------------------------- */

static const struct kek_provider *const providers[] = {&kek_local, &kek_transit};

static const struct kek_provider *provider_current(const struct keyring *k)
{
	return kek_transit.current(k) ? &kek_transit : &kek_local;
}

static const struct kek_provider *provider_of(const struct keyring *k, struct str id, int64_t ver)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (providers[i]->holds(k, id, ver))
			return providers[i];
	return NULL;
}

const char *kek_current(const struct keyring *k)
{
	return provider_current(k)->current(k);
}

bool kek_is_held(const struct keyring *k, struct str kek_id, int64_t kek_ver)
{
	return provider_of(k, kek_id, kek_ver) != NULL;
}

bool kek_is_remote(const struct keyring *k, struct str kek_id)
{
	return kek_transit.holds(k, kek_id, 1);
}

bool kek_is_well(const struct keyring *k, char *words, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(providers); i++)
		if (!providers[i]->well(k, words, size))
			return false;
	return true;
}

/* ---- calls --------------------------------------------------------------------------------------- */

static struct kek_call *call_new(struct kek_client *client, enum kek_work work,
				 const struct kek_provider *p, struct str id, int64_t ver,
				 void *arg)
{
	struct kek_call *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->client = client;
	c->work = work;
	c->provider = p;
	snprintf(c->id, sizeof c->id, "%.*s", STR_FMT(str_slice(id, 0, KEYRING_ID_SIZE - 1)));
	c->ver = ver;
	c->arg = arg;
	c->plain = secret_heap_get(KEYRING_KEY_BYTES);
	c->next = client->calls;
	if (c->next)
		c->next->prev = c;
	client->calls = c;
	return c;
}

static void call_free(struct kek_call *c)
{
	*(c->prev ? &c->prev->next : &c->client->calls) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	secret_heap_give(c->plain, KEYRING_KEY_BYTES);
	free(c->out);
	free(c);
}

static void call_end(struct kek_call *c, enum rc rc, const struct err *err)
{
	const bool wraps = c->work == KEK_WRAP || c->work == KEK_CANARY;

	if (wraps)
		c->wrap_cb(c->arg, rc, rc == RC_OK ? c->out : NULL, err);
	else
		c->open_cb(c->arg, rc, rc == RC_OK && c->work == KEK_UNWRAP ? c->plain : NULL, err);
	call_free(c);
}

/* Before any step. */
static void call_on_refused(void *arg)
{
	struct kek_call *c = arg;
	struct err err;

	if (c->rc == RC_NOT_FOUND)
		(void)err_set(&err, c->rc, "vault_unavailable",
			      "that master key is not configured here");
	else if (c->rc == RC_CORRUPT)
		(void)err_set(&err, c->rc, "vault_auth",
			      "what is stored is not what that master key wrapped");
	else
		(void)err_set(&err, c->rc, "vault_unavailable", "the vault cannot work now");
	err.retry_after_s = c->rc == RC_NOT_FOUND ? 30 : c->rc == RC_CORRUPT ? 0 : 1;
	call_end(c, c->rc, &err);
}

/* What is stored with a transit key's version names that version itself. */
static bool text_fits(const struct kek_call *c)
{
	int64_t ver;

	return c->seal || c->provider != &kek_transit ||
	       (transit_text_ver(kek_text_str(&c->text), &ver) && ver == c->ver);
}

static void call_step(struct kek_call *c, bool canary)
{
	const uint32_t ver = c->provider->aad_ver;

	c->on_canary = canary;
	if (canary)
		keyring_canary_aad(str_from(c->id), ver, &c->aad);
	else
		keyring_dek_aad(c->org, c->dek_ver, str_from(c->id), ver, &c->aad);
	if (canary && c->seal)
		memcpy(c->plain, keyring_canary, KEYRING_KEY_BYTES);
	c->provider->start(c);
}

static void call_begin(struct kek_call *c)
{
	c->rc = !c->plain	? RC_UNAVAILABLE
		: !c->provider	? RC_NOT_FOUND
		: !text_fits(c) ? RC_CORRUPT
				: RC_OK;
	c->refused = c->rc != RC_OK;
	if (c->refused)
		loop_defer(c->client->loop, call_on_refused, c);
	else
		call_step(c, c->work == KEK_CANARY || c->work == KEK_CHECK);
}

/* The data key is wrapped: its version's canary, from memory or sealed now. */
static void call_on_wrapped(struct kek_call *c)
{
	struct kek_text *canary = &c->out->canary;
	struct transit *t = c->client->ring->transit;

	c->out->wrapped = c->text;
	OPENSSL_cleanse(c->plain, KEYRING_KEY_BYTES);
	if (c->provider == &kek_transit &&
	    transit_canary_get(t, c->ver, canary->bytes, &canary->len)) {
		c->out->kek_ver = c->ver;
		call_end(c, RC_OK, NULL);
		return;
	}
	call_step(c, true);
}

static void kek_step_done(struct kek_call *c, enum rc rc, const struct err *err)
{
	struct err odd;

	if (rc != RC_OK) {
		call_end(c, rc, err);
		return;
	}
	if (c->work == KEK_WRAP && !c->on_canary) {
		call_on_wrapped(c);
		return;
	}
	if (c->seal) {
		c->out->canary = c->text;
		c->out->kek_ver = c->ver;
	} else if (c->work == KEK_CHECK &&
		   memcmp(c->plain, keyring_canary, KEYRING_KEY_BYTES) != 0) {
		rc = err_set(&odd, RC_CORRUPT, "vault_auth", "the canary holds something else");
		err = &odd;
	}
	call_end(c, rc, rc == RC_OK ? NULL : err);
}

static struct kek_call *seal_new(struct kek_client *client, enum kek_work work, kek_wrap_cb *cb,
				 void *arg)
{
	const struct kek_provider *p = provider_current(client->ring);
	struct kek_call *c = call_new(client, work, p, str_from(p->current(client->ring)), 0, arg);

	c->seal = true;
	c->wrap_cb = cb;
	c->out = calloc(1, sizeof *c->out);
	if (!c->out)
		abort();
	memcpy(c->out->kek_id, c->id, sizeof c->id);
	return c;
}

struct kek_call *kek_wrap(struct kek_client *client, struct org_id org, uint32_t dek_ver,
			  const uint8_t dek[ENVELOPE_DEK_BYTES], kek_wrap_cb *cb, void *arg)
{
	struct kek_call *c = seal_new(client, KEK_WRAP, cb, arg);

	c->org = org;
	c->dek_ver = dek_ver;
	if (c->plain)
		memcpy(c->plain, dek, ENVELOPE_DEK_BYTES);
	call_begin(c);
	return c;
}

struct kek_call *kek_canary(struct kek_client *client, kek_wrap_cb *cb, void *arg)
{
	struct kek_call *c = seal_new(client, KEK_CANARY, cb, arg);

	call_begin(c);
	return c;
}

static struct kek_call *open_new(struct kek_client *client, enum kek_work work, struct str id,
				 int64_t ver, struct str text, kek_open_cb *cb, void *arg)
{
	struct kek_call *c =
		call_new(client, work, provider_of(client->ring, id, ver), id, ver, arg);

	c->open_cb = cb;
	/* What is too long to be anything of ours stays empty, and does not open. */
	if (text.len <= sizeof c->text.bytes) {
		memcpy(c->text.bytes, text.ptr, text.len);
		c->text.len = text.len;
	}
	return c;
}

struct kek_call *kek_unwrap(struct kek_client *client, struct org_id org, uint32_t dek_ver,
			    struct str kek_id, int64_t kek_ver, struct str wrapped, kek_open_cb *cb,
			    void *arg)
{
	struct kek_call *c = open_new(client, KEK_UNWRAP, kek_id, kek_ver, wrapped, cb, arg);

	c->org = org;
	c->dek_ver = dek_ver;
	call_begin(c);
	return c;
}

struct kek_call *kek_check(struct kek_client *client, struct str kek_id, int64_t kek_ver,
			   struct str canary, kek_open_cb *cb, void *arg)
{
	struct kek_call *c = open_new(client, KEK_CHECK, kek_id, kek_ver, canary, cb, arg);

	call_begin(c);
	return c;
}

void kek_cancel(struct kek_call *c)
{
	if (!c)
		return;
	if (c->refused)
		loop_defer_cancel(c->client->loop, call_on_refused, c);
	else
		c->provider->stop(c);
	call_free(c);
}

/* ---- clients ------------------------------------------------------------------------------------- */

struct kek_client *kek_client_new(const struct keyring *k, struct loop *l)
{
	struct kek_client *c = calloc(1, sizeof *c);

	if (!c)
		abort();
	c->ring = k;
	c->loop = l;
	c->transit = k->transit ? transit_link_new(k->transit, l) : NULL;
	return c;
}

void kek_client_free(struct kek_client *c)
{
	if (!c)
		return;
	while (c->calls)
		kek_cancel(c->calls);
	transit_link_free(c->transit);
	free(c);
}

void kek_client_renew(struct kek_client *c)
{
	if (c->transit)
		transit_link_renew(c->transit);
}

/* ---- waiting ------------------------------------------------------------------------------------- */

struct wait { /* ends by itself: each step has its time limit */
	struct loop *loop;
	struct kek_client *client;
	enum rc rc;
	struct err *err;
	struct kek_wrapped *wrapped;
	uint8_t *dek;
};

static void wait_begin(struct wait *w, const struct keyring *k)
{
	w->loop = loop_new();
	if (!w->loop)
		abort();
	w->client = kek_client_new(k, w->loop);
}

static enum rc wait_end(struct wait *w)
{
	loop_run(w->loop);
	kek_client_free(w->client);
	loop_free(w->loop);
	return w->rc;
}

static void wait_done(struct wait *w, enum rc rc, const struct err *err)
{
	w->rc = rc;
	if (rc != RC_OK)
		*w->err = *err;
	loop_stop(w->loop);
}

static void wait_on_wrapped(void *arg, enum rc rc, const struct kek_wrapped *got,
			    const struct err *err)
{
	struct wait *w = arg;

	if (rc == RC_OK)
		*w->wrapped = *got;
	wait_done(w, rc, err);
}

static void wait_on_opened(void *arg, enum rc rc, const uint8_t *plain, const struct err *err)
{
	struct wait *w = arg;

	if (rc == RC_OK)
		memcpy(w->dek, plain, ENVELOPE_DEK_BYTES);
	wait_done(w, rc, err);
}

enum rc kek_wrap_wait(const struct keyring *k, struct org_id org, uint32_t dek_ver,
		      const uint8_t dek[ENVELOPE_DEK_BYTES], struct kek_wrapped *ret,
		      struct err *err)
{
	struct wait w = {.err = err, .wrapped = ret};

	wait_begin(&w, k);
	(void)kek_wrap(w.client, org, dek_ver, dek, wait_on_wrapped, &w);
	return wait_end(&w);
}

enum rc kek_unwrap_wait(const struct keyring *k, struct org_id org, uint32_t dek_ver,
			struct str kek_id, int64_t kek_ver, struct str wrapped,
			uint8_t dek[ENVELOPE_DEK_BYTES], struct err *err)
{
	struct wait w = {.err = err, .dek = dek};

	wait_begin(&w, k);
	(void)kek_unwrap(w.client, org, dek_ver, kek_id, kek_ver, wrapped, wait_on_opened, &w);
	return wait_end(&w);
}

enum rc kek_canary_wait(const struct keyring *k, struct kek_wrapped *ret, struct err *err)
{
	struct wait w = {.err = err, .wrapped = ret};

	wait_begin(&w, k);
	(void)kek_canary(w.client, wait_on_wrapped, &w);
	return wait_end(&w);
}
