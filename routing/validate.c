/* routing/validate.c - validate-connection: every endpoint of a file is asked, some at a time, on a loop of this command.
 *
 * The story of one endpoint: its address is judged, its key is read, the probe for the key runs, then, where models
 * are wanted that this did not list, the one for the list; what passes with time is tried again as the file says.
 * Needs no service, no database and no settings but TOLLGATE_EGRESS_ALLOW. Must never print a key: it goes from the
 * environment or its file into the secure heap and to the endpoint, and nowhere else. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "routing/probe.h"
#include "routing/routing_priv.h"
#include "routing/validate_priv.h"
#include "server/base/clock.h"
#include "server/egress.h"

#define VALIDATE_PARALLEL	   8	       /* endpoints asked at one time */
#define VALIDATE_ATTEMPT_BYTES_MAX (64u << 20) /* an answer of 4 MiB, parsed */
#define VALIDATE_WAIT_MS_MAX	   10000       /* between two attempts */

enum ping_state { PING_IDLE, PING_RUNNING, PING_DONE };

struct ping {
	struct run *run;
	const struct connection_endpoint *endpoint;
	struct check *check;
	enum ping_state state;
	enum probe_action action;
	struct profile profile;
	struct secret secret;
	struct arena *attempt; /* memory of the running attempt */
	struct probe *probe;
	struct loop_timer timer;
	bool again; /* what the last attempt ended with passes with time */
	int64_t retries_left, wait_ms;
};
struct run {
	struct cli *cli;
	struct loop *loop;
	struct curlm *curlm;
	struct egress *egress;
	struct ping *pings;
	size_t count, running;
};

/* ---- one endpoint -------------------------------------------------------------------------------------- */

static void run_next(struct run *r);

/* Where the key of this endpoint stands, for hints. */
static const char *key_place(struct arena *mem, const struct connection_endpoint *e)
{
	if (e->key_env.len)
		return arena_printf(mem, "put it into the environment variable %.*s",
				    STR_FMT(e->key_env))
			.ptr;
	if (e->key_file.len)
		return arena_printf(mem, "put it into the file %.*s", STR_FMT(e->key_file)).ptr;
	return "name where it stands with api_key_env or api_key_file";
}

static void fail(struct ping *p, const char *reason, struct str words, struct str hint)
{
	struct arena *mem = p->run->cli->mem;

	p->check->ok = false;
	p->check->reason = str_from(reason);
	p->check->words = arena_str(mem, words);
	p->check->hint = hint.len ? arena_str(mem, hint)
				  : check_hint(mem, p->endpoint->provider, p->check->reason,
					       key_place(mem, p->endpoint));
}

static void ping_done(struct ping *p)
{
	struct run *r = p->run;

	assert(p->state == PING_RUNNING);
	secret_clear(&p->secret);
	p->state = PING_DONE;
	r->running--;
	run_next(r);
}

static bool passes_with_time(struct str reason)
{
	static const char *const reasons[] = {"network", "timeout", "rate_limit", "overloaded",
					      "server_error"};

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (str_is(reason, reasons[i]))
			return true;
	return false;
}

static void on_probe(void *arg, const struct probe_result *res);

static void ping_ask(void *arg)
{
	struct ping *p = arg;

	assert(!p->attempt);
	p->attempt = arena_new(VALIDATE_ATTEMPT_BYTES_MAX);
	p->check->attempts++;
	p->probe = probe_start(p->run->curlm, &p->profile, p->action, STR_NULL, &p->secret,
			       p->endpoint->ask.timeout_ms, p->attempt, on_probe, p);
}

static void ping_again(struct ping *p)
{
	int64_t wait = p->wait_ms;

	p->retries_left--;
	p->wait_ms = wait * 2 < VALIDATE_WAIT_MS_MAX ? wait * 2 : VALIDATE_WAIT_MS_MAX;
	loop_timer_set(p->run->loop, &p->timer,
		       wait < VALIDATE_WAIT_MS_MAX ? wait : VALIDATE_WAIT_MS_MAX, ping_ask, p);
}

static bool wants_list(const struct ping *p)
{
	return p->action == PROBE_AUTH && p->check->ok && p->check->models_count > 0 &&
	       p->check->models[0].listed == LISTED_UNKNOWN && p->check->reason.len == 0;
}

/* The probe's callback has returned: its memory may go, and the next step begin. */
static void ping_step(void *arg)
{
	struct ping *p = arg;

	arena_free(p->attempt);
	p->attempt = NULL;
	if (p->again && p->retries_left > 0) {
		ping_again(p);
	} else if (wants_list(p)) {
		p->action = PROBE_MODELS;
		ping_ask(p);
	} else {
		ping_done(p);
	}
}

static void on_probe(void *arg, const struct probe_result *res)
{
	struct ping *p = arg;
	struct check *c = p->check;
	struct arena *mem = p->run->cli->mem;

	p->probe = NULL;
	p->again = passes_with_time(str_from(res->reason));
	c->ok = res->ok || (p->action == PROBE_MODELS && res->health == PROBE_DEGRADED);
	if (str_is(str_from(res->reason), error_class_name(ERROR_quota)))
		c->ok = false; /* its account takes the key and serves no call */
	c->latency_ms = res->latency_ms;
	c->reason = c->words = c->hint = STR_NULL;
	if (res->reason) {
		c->reason = str_from(res->reason);
		c->words = arena_str(mem, res->words);
		c->hint = check_hint(mem, p->endpoint->provider, c->reason,
				     key_place(mem, p->endpoint));
	}
	/* a listing that was cut proves nothing about what it lacks */
	if (res->ok && res->listed && res->models_count < PROBE_LISTED_MAX)
		check_models(mem, c, res->models, res->models_count);
	loop_defer(p->run->loop, ping_step, p);
}

/* ---- before asking: address and key -------------------------------------------------------------------- */

static bool judge_address(struct ping *p)
{
	const struct provider *provider = p->endpoint->provider;
	struct egress_url url;
	struct err e = {0};
	enum rc rc =
		egress_parse(p->run->egress, p->endpoint->base_url, p->run->cli->mem, &url, &e);

	if (rc != RC_OK) {
		fail(p, rc == RC_DENIED ? "egress" : "bad_base_url", str_from(e.message),
		     rc == RC_DENIED ? STR_NULL : str_from(e.hint));
		return false;
	}
	/* as for a profile: elsewhere only where the operator's list says so */
	if (!provider->base_url_settable && !url.listed &&
	    !str_eq(url.base, str_from(provider->base_url))) {
		fail(p, "bad_base_url",
		     arena_printf(p->run->cli->mem, "the address of %s is fixed", provider->label),
		     STR("leave base_url out, use provider: openai_compatible, or name a literal "
			 "address that TOLLGATE_EGRESS_ALLOW lists"));
		return false;
	}
	p->profile.base_url = url.base;
	p->profile.origin = url.origin;
	p->check->base_url = url.base;
	return true;
}

static enum rc read_key_env(struct ping *p, struct err *err)
{
	const char *value = getenv(arena_strdup(p->run->cli->mem, p->endpoint->key_env));
	struct str text = str_trim(str_from(value));

	if (text.len == 0)
		return err_set(err, RC_NOT_FOUND, "secret_missing",
			       "the environment variable %.*s is not set",
			       STR_FMT(p->endpoint->key_env));
	return secret_from(text, &p->secret);
}

static enum rc read_key_file(struct ping *p, struct err *err)
{
	const char *path = arena_strdup(p->run->cli->mem, p->endpoint->key_file);
	struct buf text = BUF_INIT(SECRET_BYTES_MAX + 16);
	struct stat st;
	enum rc rc;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO)))
		return err_set(err, RC_INVALID, "secret_missing",
			       "the file %s holds a key and is open to other users: chmod 600 it",
			       path);
	rc = cli_secret(path, &text, err);
	if (rc != RC_OK)
		return err_set(err, rc, "secret_missing", "the key cannot be read from the file %s",
			       path);
	rc = secret_from(str_trim(buf_str(&text)), &p->secret);
	explicit_bzero(text.ptr, text.cap);
	buf_clear(&text);
	return rc;
}

static bool key_is_clean(struct str key)
{
	for (size_t i = 0; i < key.len; i++)
		if (key.ptr[i] <= 0x20 || key.ptr[i] >= 0x7f)
			return false;
	return key.len > 0;
}

static bool read_key(struct ping *p)
{
	const struct connection_endpoint *e = p->endpoint;
	struct err err = {0};
	enum rc rc = RC_OK;

	if (e->key_env.len)
		rc = read_key_env(p, &err);
	else if (e->key_file.len)
		rc = read_key_file(p, &err);
	else if (e->provider->secret_required)
		rc = err_set(&err, RC_NOT_FOUND, "secret_missing",
			     "%s wants a key, and none is named", e->provider->label);
	else
		return true;
	if (rc != RC_OK) {
		fail(p, err.code ? err.code : "secret_missing",
		     err.code ? str_from(err.message) : STR("the key is too long"),
		     arena_printf(p->run->cli->mem, "%s%s%s", key_place(p->run->cli->mem, e),
				  e->provider->key_page ? "; keys are made at " : "",
				  e->provider->key_page ? e->provider->key_page : ""));
		return false;
	}
	if (!key_is_clean(secret_str(&p->secret)))
		err_set(&err, RC_INVALID, "invalid_secret",
			"the key is empty, or has a space, a control or a non-ASCII character");
	else if (provider_key_check(e->provider, secret_str(&p->secret), &err) == RC_OK)
		return true;
	fail(p, "invalid_secret", str_from(err.message), str_from(err.hint));
	return false;
}

static void ping_start(struct ping *p)
{
	p->state = PING_RUNNING;
	p->run->running++;
	if (!judge_address(p) || !read_key(p))
		loop_defer(p->run->loop, ping_step, p);
	else
		ping_ask(p);
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static void run_next(struct run *r)
{
	bool left = false;

	for (size_t i = 0; i < r->count; i++) {
		if (r->pings[i].state == PING_IDLE && r->running < VALIDATE_PARALLEL)
			ping_start(&r->pings[i]);
		left = left || r->pings[i].state != PING_DONE;
	}
	if (!left)
		loop_stop(r->loop);
}

static void run_begin(void *arg)
{
	run_next(arg);
}

static struct check *checks_new(struct arena *mem, const struct connections *all)
{
	struct check *checks = ARENA_ARRAY(mem, struct check, all->endpoints_count);

	for (size_t i = 0; i < all->endpoints_count; i++) {
		const struct connection_endpoint *e = &all->endpoints[i];
		struct check *c = &checks[i];

		*c = (struct check){.name = e->name,
				    .provider = e->provider,
				    .provider_id = str_from(e->provider->id),
				    .latency_ms = -1,
				    .models_count = e->models_count};
		c->models = ARENA_ARRAY(mem, struct check_model, e->models_count + 1);
		for (size_t k = 0; k < e->models_count; k++)
			c->models[k] =
				(struct check_model){.id = e->models[k].id,
						     .used_by = e->models[k].used_by,
						     .used_by_count = e->models[k].used_by_count};
	}
	return checks;
}

static void run_all(struct run *r, const struct connections *all, struct check *checks)
{
	r->pings = ARENA_ARRAY(r->cli->mem, struct ping, all->endpoints_count);
	r->count = all->endpoints_count;
	for (size_t i = 0; i < r->count; i++) {
		const struct connection_endpoint *e = &all->endpoints[i];

		r->pings[i] = (struct ping){
			.run = r,
			.endpoint = e,
			.check = &checks[i],
			.action = PROBE_AUTH,
			.profile = {.provider = e->provider, .name = e->name, .endpoint_ok = true},
			.retries_left = e->ask.max_retries,
			.wait_ms = e->ask.backoff_ms,
		};
	}
	r->loop = loop_new();
	if (!r->loop)
		abort();
	r->curlm = curlm_new(r->loop, r->egress, NULL);
	loop_defer(r->loop, run_begin, r);
	loop_run(r->loop);
	for (size_t i = 0; i < r->count; i++)
		loop_timer_clear(&r->pings[i].timer);
	curlm_free(r->curlm);
	loop_free(r->loop);
}

/* ---- the file form ------------------------------------------------------------------------------------- */

static enum rc egress_of_settings(struct cli *cli, struct egress **ret, struct err *err)
{
	static const char *const names[] = {"egress_allow"};
	const char *allow = NULL;

	TRY(cli_settings(cli, names, &allow, 1, err));
	return egress_new(allow, ret, err);
}

static int validate_file(struct cli *cli, const char *path, int64_t began_ms)
{
	struct run r = {.cli = cli};
	struct connections all;
	struct yaml_doc *doc;
	struct check *checks;
	struct err err = {0};
	bool locked;
	enum rc rc = yaml_doc_read(path, cli->mem, &doc, &err);

	if (rc == RC_OK)
		rc = connections_resolve(doc, cli->mem, &all, &err);
	if (rc == RC_OK)
		rc = egress_of_settings(cli, &r.egress, &err);
	if (rc == RC_OK)
		rc = secret_heap_start(&err, &locked);
	if (rc != RC_OK) {
		egress_free(r.egress);
		report_meta(cli, began_ms);
		return cli_error(cli, CLI_USAGE, &err);
	}
	checks = checks_new(cli->mem, &all);
	run_all(&r, &all, checks);
	egress_free(r.egress);
	return report_print(cli, &(struct report){.source = "file",
						  .checks = checks,
						  .count = all.endpoints_count,
						  .connections = &all,
						  .began_ms = began_ms});
}

/* ---- the command --------------------------------------------------------------------------------------- */

int validate_command(struct cli *cli, int argc, char **argv)
{
	const int64_t began_ms = clock_mono_ms();
	const char *org = cli_flag(&argc, argv, "--org"),
		   *profile = cli_flag(&argc, argv, "--profile");
	const bool all = cli_switch(&argc, argv, "--all");
	const char *file = cli->config_file;

	cli->config_file = NULL; /* it is the list here, not the service's configuration */
	report_meta(cli, began_ms);
	if (cli_leftover_flags(cli, argc, argv))
		return CLI_USAGE;
	if (argc > 1)
		return cli_usage_error(
			cli, "validate-connection takes flags only; --config FILE is the list");
	if (file && (org || profile))
		return cli_usage_error(
			cli, "--config is a file of endpoints, --org an org of the service: "
			     "give one of them");
	if (profile && (!org || all))
		return cli_usage_error(cli, "--profile names one profile of --org, without --all");
	if (file)
		return validate_file(cli, file, began_ms);
	if (!org && !all)
		return cli_usage_error(
			cli, "what to validate is missing: --config FILE, --org ORG, or --all "
			     "for every org");
	return validate_org(cli, org, profile, began_ms);
}
