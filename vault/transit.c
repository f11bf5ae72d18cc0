/* vault/transit.c - the process's side of a transit engine: its settings, the token, and the circuit.
 *
 * The circuit stands between every request and the network. A failure opens it for half a second, each further one
 * for twice as long, up to half a minute; what comes meanwhile is refused at once. When the time is over one
 * request goes through to try, the others still wait for how that ends. An answer that refuses (400) closes it
 * too: somebody is there. The token stands in the secure heap under the lock, and is never printed. */
#include "vault/transit_link_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "vault/keyring_priv.h"

#define CIRCUIT_FIRST_MS   500
#define CIRCUIT_LONGEST_MS 30000
#define PART_BYTES_MAX	   128
#define URL_ARENA_BYTES	   16384

/* ---- settings ------------------------------------------------------------------------------------ */

/* A name in a path of ours: letters, digits and "._-", with '/' between parts where `parts` is set. */
static bool name_ok(const char *s, bool parts)
{
	const size_t len = strlen(s);

	if (len == 0 || len > PART_BYTES_MAX || s[0] == '/' || s[len - 1] == '/' ||
	    strstr(s, "..") || strstr(s, "//"))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
		      (s[i] >= '0' && s[i] <= '9') || strchr("._-", s[i]) ||
		      (parts && s[i] == '/')))
			return false;
	return true;
}

static enum rc name_take(const struct config *c, const char *name, const char *env, bool parts,
			 char **ret, struct err *err)
{
	const char *value = config_str(c, name);

	if (!value || !*value)
		return RC_OK;
	if (!name_ok(value, parts))
		return err_set(err, RC_INVALID, "config",
			       "%s: a name is letters, digits and ._-%s, at most %d", env,
			       parts ? " with / between its parts" : "", PART_BYTES_MAX);
	*ret = strdup(value);
	if (!*ret)
		abort();
	return RC_OK;
}

static bool is_loopback(struct str host)
{
	return str_starts(host, STR("127.")) || str_is(host, "::1");
}

/* The operator names this address, no tenant does: private networks are what it is for. Metadata services stay
 * denied, and without TLS nothing but this machine is reached. */
static enum rc url_take(struct transit *t, const char *url, struct err *err)
{
	struct arena *mem = arena_new(URL_ARENA_BYTES);
	struct egress_url u;
	struct err why = {0};
	enum rc rc = egress_new("0.0.0.0/0,::/0", &t->egress, err);

	if (rc == RC_OK && egress_parse(t->egress, str_from(url), mem, &u, &why) != RC_OK)
		rc = err_set(
			err, RC_INVALID, "config",
			"TOLLGATE_VAULT_TRANSIT_URL: %s https://host[:port], or http:// with a "
			"loopback address, is expected",
			why.message);
	else if (rc == RC_OK && !u.https && !is_loopback(u.host))
		rc = err_set(
			err, RC_INVALID, "config",
			"TOLLGATE_VAULT_TRANSIT_URL: plain http is for a loopback address alone; "
			"use https");
	if (rc == RC_OK) {
		t->base = strndup(u.base.ptr, u.base.len);
		if (!t->base)
			abort();
	}
	arena_free(mem);
	return rc;
}

static void id_make(struct transit *t)
{
	uint8_t hash[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];
	struct aad name = {.len = 0};

	aad_put(&name, STR("tg-kek-transit-1"));
	aad_put_lp(&name, str_from(t->mount));
	aad_put_lp(&name, str_from(t->key));
	sha256(aad_str(&name), hash);
	hex_encode(str_of(hash, sizeof hash), hex);
	snprintf(t->id, sizeof t->id, "%.16s", hex);
}

static enum rc refuse_strays(const struct config *c, struct err *err)
{
	static const char *const names[][2] = {
		{"vault_transit_key", "TOLLGATE_VAULT_TRANSIT_KEY"},
		{"vault_transit_token", "TOLLGATE_VAULT_TRANSIT_TOKEN"},
		{"vault_transit_namespace", "TOLLGATE_VAULT_TRANSIT_NAMESPACE"},
		{"vault_transit_ca_file", "TOLLGATE_VAULT_TRANSIT_CA_FILE"},
		{"vault_transit_current", "TOLLGATE_VAULT_TRANSIT_CURRENT"},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (config_is_set(c, names[i][0]))
			return err_set(err, RC_INVALID, "config",
				       "%s is set without TOLLGATE_VAULT_TRANSIT_URL", names[i][1]);
	return RC_OK;
}

static enum rc ca_take(struct transit *t, const struct config *c, struct err *err)
{
	const char *path = config_str(c, "vault_transit_ca_file");

	if (!path || !*path)
		return RC_OK;
	if (access(path, R_OK) != 0)
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_VAULT_TRANSIT_CA_FILE: cannot read %s: %s", path,
			       strerror(errno));
	t->ca_file = strdup(path);
	if (!t->ca_file)
		abort();
	return RC_OK;
}

/* White space around it is cut; what a header cannot carry is refused. */
static bool token_set(struct transit *t, struct str text)
{
	size_t from = 0, to = text.len;

	while (from < to && strchr(" \t\r\n", text.ptr[from]))
		from++;
	while (to > from && strchr(" \t\r\n", text.ptr[to - 1]))
		to--;
	text = str_slice(text, from, to);
	if (text.len == 0 || text.len > TRANSIT_TOKEN_MAX)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] <= 0x20 || text.ptr[i] >= 0x7f)
			return false;
	if (t->token.ptr && str_eq(secret_str(&t->token), text))
		return true;
	secret_clear(&t->token);
	if (secret_from(text, &t->token) != RC_OK)
		return false;
	t->token_gen++;
	return true;
}

static enum rc token_take(struct transit *t, const struct config *c, struct err *err)
{
	const char *token = config_str(c, "vault_transit_token");
	const char *path = config_secret_path(c, "vault_transit_token");

	if (!token || !*token)
		return err_set(
			err, RC_INVALID, "config",
			"TOLLGATE_VAULT_TRANSIT_URL is set without "
			"TOLLGATE_VAULT_TRANSIT_TOKEN (or TOLLGATE_VAULT_TRANSIT_TOKEN_FILE)");
	if (!token_set(t, str_from(token)))
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_VAULT_TRANSIT_TOKEN: a token is one line of at most %d "
			       "printable characters",
			       TRANSIT_TOKEN_MAX);
	t->token_path = path ? strdup(path) : NULL;
	return RC_OK;
}

static enum rc load(struct transit *t, const struct config *c, struct err *err)
{
	TRY(url_take(t, config_str(c, "vault_transit_url"), err));
	TRY(name_take(c, "vault_transit_mount", "TOLLGATE_VAULT_TRANSIT_MOUNT", true, &t->mount,
		      err));
	TRY(name_take(c, "vault_transit_key", "TOLLGATE_VAULT_TRANSIT_KEY", false, &t->key, err));
	TRY(name_take(c, "vault_transit_namespace", "TOLLGATE_VAULT_TRANSIT_NAMESPACE", true,
		      &t->name_space, err));
	if (!t->key)
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_VAULT_TRANSIT_URL is set without "
			       "TOLLGATE_VAULT_TRANSIT_KEY: the name of the key that wraps");
	TRY(ca_take(t, c, err));
	TRY(token_take(t, c, err));
	t->timeout_ms = config_int(c, "vault_transit_timeout_ms");
	t->current = config_bool(c, "vault_transit_current");
	id_make(t);
	return RC_OK;
}

enum rc transit_load(const struct config *c, struct transit **ret, struct err *err)
{
	const char *url = config_str(c, "vault_transit_url");
	struct transit *t;
	enum rc rc;

	*ret = NULL;
	if (!url || !*url)
		return refuse_strays(c, err);
	t = calloc(1, sizeof *t);
	if (!t)
		abort();
	pthread_mutex_init(&t->lock, NULL);
	rc = load(t, c, err);
	if (rc == RC_OK)
		*ret = t;
	else
		transit_free(t);
	return rc;
}

void transit_free(struct transit *t)
{
	if (!t)
		return;
	egress_free(t->egress);
	secret_clear(&t->token);
	free(t->base);
	free(t->mount);
	free(t->key);
	free(t->name_space);
	free(t->ca_file);
	free(t->token_path);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

const char *transit_id(const struct transit *t)
{
	return t->id;
}

bool transit_is_current(const struct transit *t)
{
	return t->current;
}

uint64_t transit_count(struct transit *t, enum transit_result r)
{
	return counter_get(&t->results[r]);
}

/* ---- token --------------------------------------------------------------------------------------- */

enum rc transit_token_copy(struct transit *t, struct secret *ret, uint64_t *gen)
{
	enum rc rc;

	pthread_mutex_lock(&t->lock);
	rc = secret_from(secret_str(&t->token), ret);
	*gen = t->token_gen;
	pthread_mutex_unlock(&t->lock);
	return rc;
}

uint64_t transit_token_gen(struct transit *t)
{
	uint64_t gen;

	pthread_mutex_lock(&t->lock);
	gen = t->token_gen;
	pthread_mutex_unlock(&t->lock);
	return gen;
}

/* A small file, and only when the token was refused or somebody asks: read in place. */
static bool token_file_read(const char *path, uint8_t *into, size_t size, size_t *len)
{
	struct err err;
	ssize_t n;
	int fd;

	if (keyring_check_file(path, "TOLLGATE_VAULT_TRANSIT_TOKEN_FILE", &err) != RC_OK) {
		log_warn("the token's file is not read", LOG_STR("reason", err.message));
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return false;
	n = read(fd, into, size);
	close(fd);
	*len = n > 0 ? (size_t)n : 0;
	return n > 0 && (size_t)n < size;
}

bool transit_token_reload(struct transit *t)
{
	const size_t size = TRANSIT_TOKEN_MAX + 64;
	uint8_t *text = t->token_path ? secret_heap_get(size) : NULL;
	uint64_t before;
	size_t len = 0;
	bool changed;

	if (!text)
		return false;
	pthread_mutex_lock(&t->lock);
	before = t->token_gen;
	if (token_file_read(t->token_path, text, size, &len) && !token_set(t, str_of(text, len)))
		log_warn("the token's file holds no token, the earlier one stays",
			 LOG_STR("file", t->token_path));
	changed = t->token_gen != before;
	pthread_mutex_unlock(&t->lock);
	secret_heap_give(text, size);
	if (changed)
		log_info("another token for the transit engine was read",
			 LOG_STR("file", t->token_path));
	return changed;
}

/* ---- circuit ------------------------------------------------------------------------------------- */

int64_t transit_enter(struct transit *t, bool *probe)
{
	const int64_t now = clock_mono_ms();
	int64_t wait_ms = 0;

	*probe = false;
	pthread_mutex_lock(&t->lock);
	if (t->failures > 0 && now < t->open_until_ms)
		wait_ms = t->open_until_ms - now;
	else if (t->failures > 0 && t->probing)
		wait_ms = CIRCUIT_FIRST_MS;
	else if (t->failures > 0)
		t->probing = *probe = true;
	pthread_mutex_unlock(&t->lock);
	return wait_ms;
}

void transit_left(struct transit *t, bool probe)
{
	pthread_mutex_lock(&t->lock);
	t->probing = t->probing && !probe;
	pthread_mutex_unlock(&t->lock);
}

void transit_worked(struct transit *t, bool probe)
{
	bool was_open;

	pthread_mutex_lock(&t->lock);
	was_open = t->failures > 0;
	t->failures = 0;
	t->probing = t->probing && !probe;
	t->words[0] = '\0';
	pthread_mutex_unlock(&t->lock);
	if (was_open)
		log_info("the transit engine answers again", LOG_STR("url", t->base));
}

/* Of many that fail together one counts: the others went out before the circuit opened. */
int64_t transit_failed(struct transit *t, bool probe, const char *words)
{
	const int64_t now = clock_mono_ms();
	int64_t wait_ms = CIRCUIT_FIRST_MS;
	bool counts;

	pthread_mutex_lock(&t->lock);
	counts = probe || t->failures == 0;
	t->probing = t->probing && !probe;
	if (counts) {
		for (int i = 0; i < t->failures && wait_ms < CIRCUIT_LONGEST_MS; i++)
			wait_ms *= 2;
		wait_ms = wait_ms < CIRCUIT_LONGEST_MS ? wait_ms : CIRCUIT_LONGEST_MS;
		t->failures++;
		t->open_until_ms = now + wait_ms;
		snprintf(t->words, sizeof t->words, "%s", words);
	}
	wait_ms = t->open_until_ms > now ? t->open_until_ms - now : 1;
	pthread_mutex_unlock(&t->lock);
	if (counts)
		log_warn("the transit engine fails", LOG_STR("reason", words),
			 LOG_STR("url", t->base), LOG_INT("pause_ms", wait_ms));
	return wait_ms;
}

bool transit_is_well(struct transit *t, char *words, size_t size)
{
	bool well;

	pthread_mutex_lock(&t->lock);
	well = t->failures == 0;
	snprintf(words, size, "%s", t->words);
	pthread_mutex_unlock(&t->lock);
	return well;
}

/* ---- canaries ------------------------------------------------------------------------------------ */

bool transit_canary_get(struct transit *t, int64_t ver, char text[TRANSIT_TEXT_MAX], size_t *len)
{
	bool found;

	pthread_mutex_lock(&t->lock);
	found = t->canary_ver == ver && t->canary_len > 0;
	if (found) {
		memcpy(text, t->canary, t->canary_len);
		*len = t->canary_len;
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

void transit_canary_put(struct transit *t, int64_t ver, struct str text)
{
	pthread_mutex_lock(&t->lock);
	if (text.len <= sizeof t->canary) {
		memcpy(t->canary, text.ptr, text.len);
		t->canary_len = text.len;
		t->canary_ver = ver;
	}
	pthread_mutex_unlock(&t->lock);
}
