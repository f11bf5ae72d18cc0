/* vault/vault.c - the room's table: settings, endpoints, start and stop, metrics. */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "server/base/log.h"
#include "vault/limits_priv.h"
#include "vault/secret_priv.h"
#include "vault/vault_priv.h"

#define VAULT_DEKS_MAX	    4096  /* cached per worker, and on the shelf (security.md 1.6) */
#define VAULT_DEKS_ALL	    16384 /* in all of these together: half of the secure heap */
#define VAULT_TOKEN_LEN_MIN 16	  /* a shorter operator token could be guessed */
#define VAULT_TOKEN_KINDS   8	  /* and so could one of fewer different characters */

static const struct setting vault_settings[] = {
	{.name = "master_key",
	 .type = SETTING_STRING,
	 .secret = true,
	 .help = "current master key, 32 random bytes as base64; needed by serve, but with a transit key"},
	{.name = "master_keys_old",
	 .type = SETTING_STRING,
	 .secret = true,
	 .help = "earlier master keys, comma-separated: they open what they wrapped"},
	{.name = "vault_transit_url",
	 .type = SETTING_STRING,
	 .help = "HashiCorp Vault or OpenBao whose transit key wraps data keys instead: "
		 "https://host[:port]"},
	{.name = "vault_transit_mount",
	 .type = SETTING_STRING,
	 .def = "transit",
	 .help = "where its transit engine is mounted"},
	{.name = "vault_transit_key", .type = SETTING_STRING, .help = "name of the transit key"},
	{.name = "vault_transit_token",
	 .type = SETTING_STRING,
	 .secret = true,
	 .help = "token for it, renewed; its file is read again on HUP and when it is refused"},
	{.name = "vault_transit_namespace",
	 .type = SETTING_STRING,
	 .help = "namespace of mount and key"},
	{.name = "vault_transit_ca_file",
	 .type = SETTING_STRING,
	 .help = "PEM of who signed its certificate; unset: the system's"},
	{.name = "vault_transit_timeout_ms",
	 .type = SETTING_INT,
	 .def = "3000",
	 .min = 100,
	 .max = 30000,
	 .help = "longest wait for one of its answers"},
	{.name = "vault_transit_current",
	 .type = SETTING_BOOL,
	 .def = "true",
	 .help = "false: it opens what it wrapped, and TOLLGATE_MASTER_KEY wraps (the way back)"},
	{.name = "vault_data_key_ttl_seconds",
	 .type = SETTING_INT,
	 .def = "300",
	 .min = 1,
	 .max = 3600,
	 .help = "how long an unwrapped data key serves before it is read and unwrapped again"},
	{.name = "admin_token",
	 .type = SETTING_STRING,
	 .secret = true,
	 .help = "the operator's token for the admin API"},
	{.name = "vault_last_used_flush_ms",
	 .type = SETTING_INT,
	 .def = "60000",
	 .min = 100,
	 .max = 3600000,
	 .help = "how often a worker writes down when API keys were last used"},
	{.name = "vault_heartbeat_ms",
	 .type = SETTING_INT,
	 .def = "5000",
	 .min = 100,
	 .max = 60000,
	 .help = "how often a running service says which master keys it has"},
	{.name = "vault_grace_seconds",
	 .type = SETTING_INT,
	 .def = "3600",
	 .min = 0,
	 .max = 2592000,
	 .help = "how long an org's earlier data key opens after a rotation, for calls under way"},
	{.name = "vault_backup_days",
	 .type = SETTING_INT,
	 .def = "30",
	 .min = 0,
	 .max = 3650,
	 .help = "how long backups of the database are kept: by then a shredded org is gone"},
	SETTING_LAST};

#define ROLES_READ                                                                                 \
	(ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN | ROLE_DEVELOPER | ROLE_FINANCE | ROLE_AUDITOR)
#define ROLES_KEYS_READ	 (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN | ROLE_DEVELOPER | ROLE_AUDITOR)
#define ROLES_KEYS_WRITE (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN | ROLE_DEVELOPER)
#define ROLES_AUDIT	 (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN | ROLE_AUDITOR)
#define ROLES_ADMINS	 (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN)
#define ORG		 "/admin/v1/orgs/{org}"

static const struct endpoint vault_endpoints[] = {
	{"POST", "/admin/v1/orgs", SURFACE_ADMIN, ROLE_OPERATOR, 0, true, orgs_create,
	 "Create an org"},
	{"GET", "/admin/v1/orgs", SURFACE_ADMIN, ROLE_OPERATOR, 0, false, orgs_list,
	 "All orgs, newest first"},
	{"GET", ORG, SURFACE_ADMIN, ROLES_READ, 0, false, orgs_show, "One org"},
	{"PATCH", ORG, SURFACE_ADMIN, ROLES_ADMINS, 0, true, orgs_change,
	 "Change an org's name and settings; its tier and status for the operator"},
	{"DELETE", ORG, SURFACE_ADMIN, ROLE_OPERATOR, 0, false, orgs_delete,
	 "Delete an org: revokes its keys and shreds its secrets"},
	{"POST", ORG "/members", SURFACE_ADMIN, ROLES_ADMINS, 0, true, members_invite,
	 "Invite somebody, with a role"},
	{"GET", ORG "/members", SURFACE_ADMIN, ROLES_AUDIT, 0, false, members_list,
	 "Members, newest first, the removed too"},
	{"GET", ORG "/members/{member}", SURFACE_ADMIN, ROLES_AUDIT, 0, false, members_show,
	 "One member"},
	{"PATCH", ORG "/members/{member}", SURFACE_ADMIN, ROLES_ADMINS, 0, true, members_change,
	 "Change a member's role; its API keys above the new one are revoked"},
	{"DELETE", ORG "/members/{member}", SURFACE_ADMIN, ROLES_ADMINS, 0, false, members_remove,
	 "Remove a member; its API keys are revoked"},
	{"POST", ORG "/api-keys", SURFACE_ADMIN, ROLES_KEYS_WRITE, 0, true, keys_create,
	 "Make an API key; its secret is shown this once"},
	{"GET", ORG "/api-keys", SURFACE_ADMIN, ROLES_KEYS_READ, 0, false, keys_list,
	 "API keys, newest first"},
	{"GET", ORG "/api-keys/{id}", SURFACE_ADMIN, ROLES_KEYS_READ, 0, false, keys_show,
	 "One API key"},
	{"PATCH", ORG "/api-keys/{id}", SURFACE_ADMIN, ROLES_KEYS_WRITE, 0, true, keys_change,
	 "Change an API key's name, models, limits, expiry, and what else it is bound to"},
	{"DELETE", ORG "/api-keys/{id}", SURFACE_ADMIN, ROLES_KEYS_WRITE, 0, false, keys_revoke,
	 "Revoke an API key"},
	{"POST", ORG "/api-keys/{id}/rotate", SURFACE_ADMIN, ROLES_KEYS_WRITE, 0, true, keys_rotate,
	 "A new secret for an API key, shown this once; the old one works for overlap_seconds more"},
	{"GET", ORG "/audit", SURFACE_ADMIN, ROLES_AUDIT, 0, false, audit_list,
	 "Who did what in an org, newest first"},
	{.method = NULL}};

static size_t kinds_of_bytes(struct str s)
{
	bool seen[256] = {false};
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		n += !seen[(uint8_t)s.ptr[i]];
		seen[(uint8_t)s.ptr[i]] = true;
	}
	return n;
}

static enum rc vault_start_token(struct vault *v, const struct config *c, struct err *err)
{
	struct str token = str_trim(str_from(config_str(c, "admin_token")));

	if (token.len == 0)
		return RC_OK;
	if (token.len < VAULT_TOKEN_LEN_MIN)
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_ADMIN_TOKEN: at least %d characters (make one with: "
			       "openssl rand -hex 24)",
			       VAULT_TOKEN_LEN_MIN);
	if (kinds_of_bytes(token) < VAULT_TOKEN_KINDS)
		return err_set(err, RC_INVALID, "config",
			       "TOLLGATE_ADMIN_TOKEN: at least %d different characters (make one "
			       "with: openssl rand -hex 24)",
			       VAULT_TOKEN_KINDS);
	sha256(token, v->admin_token_hash);
	v->has_admin_token = true;
	return RC_OK;
}

/* The secrets are where they are needed now: the copies in configuration and environment go. */
static void vault_start_wipe(const struct config *c)
{
	struct config *ours = (struct config *)(uintptr_t)c; /* no other thread runs yet */

	config_wipe(ours, "master_key");
	config_wipe(ours, "master_keys_old");
	config_wipe(ours, "vault_transit_token");
	config_wipe(ours, "admin_token");
}

static enum rc vault_start_all(struct vault *v, struct service *s, struct err *err)
{
	bool locked;

	TRY(secret_heap_start(err, &locked));
	if (!locked)
		log_warn("keys stand in memory that is not locked: it may be swapped out",
			 LOG_STR("hint", "raise RLIMIT_MEMLOCK to at least 1 MiB"));
	if (aead_start() != RC_OK)
		return err_set(err, RC_INVALID, "openssl",
			       "this OpenSSL has no AES-256-GCM or no HKDF");
	TRY(keyring_load(&v->keyring, s->config, err));
	TRY(vault_start_token(v, s->config, err));
	vault_start_wipe(s->config);
	v->stale_ms = config_int(s->config, "stale_seconds") * 1000;
	v->dek_ttl_ms = config_int(s->config, "vault_data_key_ttl_seconds") * 1000;
	v->used_flush_ms = config_int(s->config, "vault_last_used_flush_ms");
	v->heartbeat_ms = config_int(s->config, "vault_heartbeat_ms");
	limits_start();
	v->auth_shelf = auth_shelf_new();
	v->dek_shelf = dek_shelf_new(VAULT_DEKS_MAX);
	return RC_OK;
}

static const char *role_word(uint32_t bit)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} words[] = {{ROLE_OPERATOR, "operator"},  {ROLE_OWNER, "owner"},
		     {ROLE_ADMIN, "admin"},	   {ROLE_DEVELOPER, "developer"},
		     {ROLE_FINANCE, "finance"},	   {ROLE_AUDITOR, "auditor"},
		     {ROLE_INFERENCE, "inference"}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (words[i].bit == bit)
			return words[i].name;
	return NULL;
}

static enum rc vault_start(struct service *s, struct err *err)
{
	struct vault *v = calloc(1, sizeof *v);
	enum rc rc;

	if (!v)
		abort();
	rc = vault_start_all(v, s, err);
	if (rc != RC_OK) {
		keyring_clear(&v->keyring);
		aead_stop();
		free(v);
		return rc;
	}
	s->state[MODULE_VAULT] = v;
	http_hooks.authenticate = auth_authenticate;
	http_hooks.is_stale = auth_is_stale;
	http_hooks.authorise = auth_authorise;
	http_hooks.actor = vault_actor;
	http_hooks.role_name = role_word;
	return RC_OK;
}

static void vault_stop(struct service *s)
{
	struct vault *v = s->state[MODULE_VAULT];

	if (!v)
		return;
	s->state[MODULE_VAULT] = NULL;
	http_hooks.authenticate = NULL;
	http_hooks.is_stale = NULL;
	http_hooks.authorise = NULL;
	http_hooks.actor = NULL;
	http_hooks.role_name = NULL;
	pepper_free(atomic_load(&v->pepper));
	shelf_free(v->auth_shelf);
	shelf_free(v->dek_shelf);
	keyring_clear(&v->keyring);
	limits_stop();
	aead_stop();
	free(v);
}

static enum rc vault_worker_start(struct worker *w, struct err *err)
{
	struct vault_worker *v = calloc(1, sizeof *v);
	size_t deks;

	if (!v)
		abort();
	v->worker = w;
	v->vault = w->service->state[MODULE_VAULT];
	w->state[MODULE_VAULT] = v;
	deks = (VAULT_DEKS_ALL - VAULT_DEKS_MAX) / ((size_t)w->service->workers_count + 1);
	v->kek = kek_client_new(&v->vault->keyring, w->loop);
	v->deks = dek_cache_new(deks < VAULT_DEKS_MAX ? deks : VAULT_DEKS_MAX);
	v->auth = auth_cache_new();
	v->used = used_new(v);
	v->tried = tried_new();
	if (w->control) {
		v->nodes = nodes_new(v);
		kek_client_renew(v->kek);
	}
	return RC_OK;
}

static void vault_worker_stop(struct worker *w)
{
	struct vault_worker *v = vault_worker_of(w);

	if (!v)
		return;
	nodes_free(v->nodes);
	boot_free(v->boot);
	auth_cache_free(v);
	used_free(v->used);
	dek_cache_free(v);
	kek_client_free(v->kek);
	tried_free(v->tried);
	free(v);
	w->state[MODULE_VAULT] = NULL;
}

static void vault_on_change(struct worker *w, const struct change *c)
{
	struct vault_worker *v = vault_worker_of(w);

	v->changes++;
	auth_on_change(v, c);
	dek_on_change(v, c);
}

static bool vault_ready(struct service *s, struct buf *reasons)
{
	struct vault *v = s->state[MODULE_VAULT];

	char words[160];
	enum rc rc;

	if (vault_pepper(v))
		return true;
	if (kek_is_well(&v->keyring, words, sizeof words))
		rc = buf_append(reasons,
				STR("vault: the pepper of the API keys is not loaded yet"));
	else
		rc = buf_printf(reasons, "vault: waits for the transit engine: %s", words);
	(void)rc; /* if it does not fit, the module's name has to do */
	return false;
}

static void vault_on_reload(struct service *s)
{
	struct vault *v = s->state[MODULE_VAULT];

	if (v->keyring.transit)
		(void)transit_token_reload(v->keyring.transit);
}

static bool vault_busy(struct service *s)
{
	return used_busy(s) ||
	       nodes_busy(s); /* in this order: nothing is left when it says goodbye */
}

static void sample(struct metrics_out *out, const char *name, const char *labels,
		   const struct counter *c)
{
	metrics_sample(out, name, labels, (int64_t)counter_get(c));
}

static void transit_metrics(struct transit *t, struct metrics_out *out)
{
	static const char *const labels[TRANSIT_RESULTS] = {
		[TRANSIT_OK] = "result=\"ok\"",
		[TRANSIT_REFUSED] = "result=\"refused\"",
		[TRANSIT_FAILED] = "result=\"failed\"",
		[TRANSIT_SHORT] = "result=\"not_sent\"",
	};
	char words[160];

	if (!t)
		return;
	metrics_family(out, "tollgate_vault_transit_up", "gauge",
		       "1 while the transit engine answers what it is asked");
	metrics_sample(out, "tollgate_vault_transit_up", "",
		       transit_is_well(t, words, sizeof words));
	metrics_family(out, "tollgate_vault_transit_requests_total", "counter",
		       "Requests for the transit engine, by how they ended");
	for (size_t i = 0; i < TRANSIT_RESULTS; i++)
		metrics_sample(out, "tollgate_vault_transit_requests_total", labels[i],
			       (int64_t)transit_count(t, (enum transit_result)i));
}

static void vault_metrics(struct service *s, struct metrics_out *out)
{
	static const char *const labels[AUTH_RESULTS_COUNT] = {
		[AUTH_OK] = "result=\"ok\"",
		[AUTH_OPERATOR] = "result=\"operator\"",
		[AUTH_MISSING] = "result=\"missing\"",
		[AUTH_AMBIGUOUS] = "result=\"ambiguous\"",
		[AUTH_MALFORMED] = "result=\"malformed\"",
		[AUTH_UNKNOWN] = "result=\"unknown\"",
		[AUTH_REVOKED] = "result=\"revoked\"",
		[AUTH_EXPIRED] = "result=\"expired\"",
		[AUTH_UNAVAILABLE] = "result=\"unavailable\"",
	};
	struct vault *v = s->state[MODULE_VAULT];

	metrics_family(out, "tollgate_auth_total", "counter", "Callers authenticated, by result");
	for (size_t i = 0; i < AUTH_RESULTS_COUNT; i++)
		sample(out, "tollgate_auth_total", labels[i], &v->auth[i]);
	metrics_family(out, "tollgate_auth_lookups_total", "counter",
		       "API keys read from Postgres");
	sample(out, "tollgate_auth_lookups_total", "", &v->auth_lookups);
	metrics_family(out, "tollgate_vault_data_keys_total", "counter",
		       "Uses of an org's data key, from the cache or fetched");
	sample(out, "tollgate_vault_data_keys_total", "result=\"hit\"", &v->dek_hits);
	sample(out, "tollgate_vault_data_keys_total", "result=\"miss\"", &v->dek_misses);
	metrics_family(out, "tollgate_vault_secrets_total", "counter", "Secrets sealed and opened");
	sample(out, "tollgate_vault_secrets_total", "result=\"sealed\"", &v->seals);
	sample(out, "tollgate_vault_secrets_total", "result=\"opened\"", &v->opens);
	sample(out, "tollgate_vault_secrets_total", "result=\"refused\"", &v->open_failures);
	transit_metrics(v->keyring.transit, out);
	metrics_family(out, "tollgate_key_limits", "gauge",
		       "API keys with a rate limit and a running minute");
	metrics_sample(out, "tollgate_key_limits", "", (int64_t)limits_count());
}

const struct module vault_module = {
	.name = "vault",
	.slot = MODULE_VAULT,
	.settings = vault_settings,
	.endpoints = vault_endpoints,
	.commands = vault_commands,
	.metrics = vault_metrics,
	.start = vault_start,
	.worker_start = vault_worker_start,
	.worker_stop = vault_worker_stop,
	.stop = vault_stop,
	.on_change = vault_on_change,
	.on_reload = vault_on_reload,
	.ready = vault_ready,
	.busy = vault_busy,
};
