/* server/service.c - threads, listeners, change feed, jobs, readiness, drain.
 *
 * Everything is made on the main thread before any other runs, and ended in the reverse order. It
 * knows modules only through their tables. */
#include "server/service.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/base/hash.h"
#include "server/base/json.h"
#include "server/base/log.h"
#include "server/curlm.h"
#include "server/egress.h"
#include "server/loop.h"
#include "server/migrate.h"
#include "server/openapi.h"
#include "server/pg.h"
#include "sql/queries.h"

#define SERVICE_TICK_MS	    250	  /* readiness is at most this old */
#define SERVICE_POLL_MS	    1000  /* the change feed's poll behind NOTIFY (security.md 2.3) */
#define SERVICE_SETTLE_MS   10000 /* after cut streams: time for their settlements to be booked */
#define SERVICE_JOBS_MAX    16
#define SERVICE_TABLES_MAX  16
#define SERVICE_REASONS_MAX 2048
#define SERVICE_METRICS_MAX (4u << 20)
#define SERVICE_OPENAPI_MAX (4u << 20)

static const struct setting service_settings[] = {
	{.name = "database_url",
	 .type = SETTING_STRING,
	 .required = true,
	 .secret = true,
	 .help = "libpq connection string of Postgres 15 or later"},
	{.name = "listen",
	 .type = SETTING_STRING,
	 .def = "127.0.0.1:8080",
	 .help = "data plane: address:port, [v6]:port or unix:/path; port 0 takes a free one"},
	{.name = "admin_listen",
	 .type = SETTING_STRING,
	 .def = "127.0.0.1:8081",
	 .help = "control plane and /metrics"},
	{.name = "tls_cert_file",
	 .type = SETTING_STRING,
	 .reloadable = true,
	 .help = "certificate chain, PEM, for both listeners"},
	{.name = "tls_key_file",
	 .type = SETTING_STRING,
	 .reloadable = true,
	 .help = "its private key, PEM"},
	{.name = "workers",
	 .type = SETTING_INT,
	 .def = "0",
	 .min = 0,
	 .max = 256,
	 .help = "event-loop threads; 0: as many as CPUs"},
	{.name = "egress_allow",
	 .type = SETTING_STRING,
	 .def = "",
	 .help = "CIDRs[:port] provider endpoints may resolve to besides public addresses"},
	{.name = "stale_seconds",
	 .type = SETTING_INT,
	 .def = "1800",
	 .min = 0,
	 .max = 86400,
	 .help = "how long known keys and org pictures keep serving while Postgres is away"},
	{.name = "drain_seconds",
	 .type = SETTING_INT,
	 .def = "300",
	 .min = 0,
	 .max = 86400,
	 .help = "how long a drain waits for running streams"},
	{.name = "journal_dir",
	 .type = SETTING_STRING,
	 .def = "./var/journal",
	 .help = "local usage journal; this version books synchronously and writes none"},
	{.name = "log_level",
	 .type = SETTING_ENUM,
	 .def = "info",
	 .values = "debug|info|warn|error",
	 .reloadable = true,
	 .help = "least severe line that is written"},
	{.name = "log_format",
	 .type = SETTING_ENUM,
	 .def = "json",
	 .values = "json|text",
	 .help = "form of a line"},
	{.name = "otlp_endpoint",
	 .type = SETTING_STRING,
	 .help = "OpenTelemetry traces over OTLP/HTTP; this version sends none and refuses it"},
	{.name = "pg_connections",
	 .type = SETTING_INT,
	 .def = "2",
	 .min = 1,
	 .max = 32,
	 .help = "Postgres connections per thread"},
	{.name = "pg_deadline_ms",
	 .type = SETTING_INT,
	 .def = "2000",
	 .min = 50,
	 .max = 60000,
	 .help = "a statement that takes longer ends with its connection"},
	{.name = "pg_wait_ms",
	 .type = SETTING_INT,
	 .def = "2000",
	 .min = 0,
	 .max = 60000,
	 .help = "how long a statement waits for a connection"},
	SETTING_LAST};

struct app { /* one per process: the machinery around struct service */
	struct service service;
	const struct module *const *modules;
	const char *config_file; /* NULL: none */
	const char *version;
	const struct endpoint *const *tables;
	struct buf openapi;			 /* written once, before any thread */
	char openapi_etag[2 * SHA256_BYTES + 3]; /* with its quotes */
	pthread_t *threads;
	struct http_front **fronts; /* per worker */
	struct http_front *control_front;
	struct loop_timer tick, poll, drain_timer;
	struct loop_timer job_timer[SERVICE_JOBS_MAX];
	const struct job *job[SERVICE_JOBS_MAX];
	int jobs;
	struct loop_signal on_term, on_int, on_hup;
	struct pg_listener *listener;
	struct pg_call *polling;
	bool poll_again;
	bool feed_known; /* change_seq holds a position */
	int64_t change_seq;
	int64_t schema_version; /* -1: not read yet */
	int64_t drain_until_ms;
	int signals;
	int status;
	pthread_mutex_t ready_lock; /* guards what follows: read by every thread's /readyz */
	char reasons[SERVICE_REASONS_MAX];
	bool ready;
};
static struct app *app; /* handlers have no other way to it */

/* ---- settings ------------------------------------------------------------------------------- */

const struct setting *const *service_setting_tables(const struct module *const *modules)
{
	static const struct setting *tables[SERVICE_TABLES_MAX];
	size_t n = 0;

	tables[n++] = service_settings;
	tables[n++] = http_settings;
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->settings)
			tables[n++] = modules[i]->settings;
	tables[n] = NULL;
	return tables;
}

/* ---- health, readiness, metrics --------------------------------------------------------------- */

static void handle_root(struct http_request *r)
{
	http_reply(r, 200, STR("{\"service\":\"tollgate\"}"));
}

static void handle_healthz(struct http_request *r)
{
	http_reply(r, 200, STR("{\"status\":\"ok\"}"));
}

static void handle_readyz(struct http_request *r)
{
	struct str reasons;
	bool ready;

	pthread_mutex_lock(&app->ready_lock);
	ready = app->ready;
	reasons = arena_str(r->mem, str_from(app->reasons));
	pthread_mutex_unlock(&app->ready_lock);
	http_reply(r, ready ? 200 : 503,
		   arena_printf(r->mem, "{\"ready\":%s,\"reasons\":[%.*s]}",
				ready ? "true" : "false", STR_FMT(reasons)));
}

/* Who reads here that a change is in force may rely on it: every call that comes in from now on is decided on it. */
static void metrics_changes(struct metrics_out *out)
{
	const struct service *s = &app->service;
	int64_t in_force = atomic_load(&s->control->change);

	for (int i = 0; i < s->workers_count; i++) {
		const int64_t seq = atomic_load(&s->workers[i]->change);

		in_force = seq < in_force ? seq : in_force;
	}
	for (size_t i = 0; app->modules[i]; i++) {
		const int64_t seq =
			app->modules[i]->behind ? app->modules[i]->behind(&app->service) : 0;

		in_force = seq > 0 && seq - 1 < in_force ? seq - 1 : in_force;
	}
	metrics_family(out, "tollgate_change_seq", "gauge",
		       "Newest configuration change, read and in force in every thread");
	metrics_sample(out, "tollgate_change_seq", "state=\"read\"", app->change_seq);
	metrics_sample(out, "tollgate_change_seq", "state=\"in_force\"", in_force);
}

static void handle_metrics(struct http_request *r)
{
	AUTO(buf) struct buf text = BUF_INIT(SERVICE_METRICS_MAX);
	struct metrics_out out = {&text};
	bool ready;

	metrics_family(&out, "tollgate_ready", "gauge", "1 when /readyz answers 200");
	pthread_mutex_lock(&app->ready_lock);
	ready = app->ready;
	pthread_mutex_unlock(&app->ready_lock);
	metrics_sample(&out, "tollgate_ready", "", ready);
	metrics_family(&out, "tollgate_inflight_requests", "gauge", "Calls not yet settled");
	metrics_sample(&out, "tollgate_inflight_requests", "",
		       atomic_load(&app->service.calls_open));
	metrics_family(&out, "tollgate_log_dropped_total", "counter",
		       "Log lines dropped: the sink was blocked");
	metrics_sample(&out, "tollgate_log_dropped_total", "", (int64_t)log_dropped());
	metrics_changes(&out);
	http_metrics(&out);
	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->metrics)
			app->modules[i]->metrics(&app->service, &out);
	http_reply_typed(r, 200, "text/plain; version=0.0.4", buf_str(&text));
}

/* The same text for everybody, whoever asks: nothing of this installation is in it. */
static void handle_openapi(struct http_request *r)
{
	struct str seen = http_header(r, "if-none-match");

	if (r->query.len > 0) {
		struct err err = {0};

		err_set(&err, RC_INVALID, "unknown_parameter",
			"this path takes no query parameters");
		http_reply_err(r, RC_INVALID, &err);
		return;
	}
	http_add_header(r, "ETag", str_from(app->openapi_etag));
	http_add_header(r, "Cache-Control", STR("no-cache"));
	if (seen.ptr && str_find_str(seen, str_from(app->openapi_etag)) >= 0)
		http_reply(r, 304, STR(""));
	else
		http_reply(r, 200, buf_str(&app->openapi));
}

static const struct endpoint service_endpoints[] = {
	{"GET", "/", SURFACE_DATA | SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_root,
	 "What answers here"},
	{"GET", "/healthz", SURFACE_DATA | SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_healthz,
	 "The process is alive"},
	{"GET", "/readyz", SURFACE_DATA | SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_readyz,
	 "Able to serve, or why not"},
	{"GET", "/metrics", SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_metrics,
	 "Prometheus text"},
	{"GET", "/admin/v1/openapi.json", SURFACE_ADMIN, ROLES_ANYONE, 0, false, handle_openapi,
	 "This description of the API, OpenAPI 3.1"},
	{.method = NULL}};

const struct endpoint *const *service_endpoint_tables(const struct module *const *modules)
{
	static const struct endpoint *tables[SERVICE_TABLES_MAX];
	size_t n = 0;

	tables[n++] = service_endpoints;
	for (size_t i = 0; modules[i]; i++)
		if (modules[i]->endpoints)
			tables[n++] = modules[i]->endpoints;
	tables[n] = NULL;
	return tables;
}

/* Once, behind the modules' start: they have said by then what a role is called. */
static enum rc openapi_make(struct err *err)
{
	AUTO(buf) struct buf gaps = BUF_INIT(SERVICE_OPENAPI_MAX);
	uint8_t digest[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	app->openapi = BUF_INIT(SERVICE_OPENAPI_MAX);
	TRY(openapi_write(&(struct openapi_input){.tables = app->tables,
						  .fragments = openapi_fragments,
						  .version = app->version,
						  .role_name = http_hooks.role_name},
			  &app->openapi, &gaps, err));
	sha256(buf_str(&app->openapi), digest);
	hex_encode(str_of((const char *)digest, sizeof digest), hex);
	snprintf(app->openapi_etag, sizeof app->openapi_etag, "\"%s\"", hex);
	if (gaps.len) /* our own omission, which tests find: no reason not to serve */
		log_error("the API's description has gaps", LOG_S("gaps", buf_str(&gaps)));
	return RC_OK;
}

static void reason_add(struct buf *reasons, const char *words)
{
	AUTO(buf) struct buf text = BUF_INIT(SERVICE_REASONS_MAX);

	if (json_escape(str_from(words), &text) != RC_OK ||
	    buf_printf(reasons, "%s\"%.*s\"", reasons->len ? "," : "", STR_FMT(buf_str(&text))) !=
		    RC_OK)
		return; /* the list is full: what stands there is enough to act on */
}

static void ready_update(void)
{
	AUTO(buf) struct buf reasons = BUF_INIT(SERVICE_REASONS_MAX - 1);
	AUTO(buf) struct buf module = BUF_INIT(256);
	char words[256];
	bool changed, is;

	if (atomic_load(&app->service.draining))
		reason_add(&reasons, "draining");
	if (!pg_is_up(app->service.control->pg)) {
		/* Anyone may ask, and libpq's words name hosts, ports and users: pg.c logs them. */
		reason_add(&reasons, "postgres is not reachable: the log says why");
	} else if (app->schema_version >= 0 &&
		   app->schema_version != (int64_t)sql_migrations_count) {
		snprintf(
			words, sizeof words,
			"schema is at version %lld, this binary needs %zu: run tollgate migrate up",
			(long long)app->schema_version, sql_migrations_count);
		reason_add(&reasons, words);
	} else if (app->schema_version < 0) {
		reason_add(&reasons,
			   "schema version is not read yet: has tollgate migrate up been run?");
	}
	for (size_t i = 0; app->modules[i]; i++) {
		buf_reset(&module);
		if (app->modules[i]->ready && !app->modules[i]->ready(&app->service, &module))
			reason_add(&reasons, module.len ? module.ptr : app->modules[i]->name);
	}
	is = reasons.len == 0;
	pthread_mutex_lock(&app->ready_lock);
	changed = app->ready != is || strcmp(app->reasons, reasons.ptr ? reasons.ptr : "") != 0;
	app->ready = is;
	snprintf(app->reasons, sizeof app->reasons, "%s", reasons.ptr ? reasons.ptr : "");
	pthread_mutex_unlock(&app->ready_lock);
	if (changed)
		log_info(is ? "ready" : "not ready", LOG_S("reasons", buf_str(&reasons)));
}

/* ---- change feed ------------------------------------------------------------------------------ */

struct post {
	struct worker *worker;
	void (*fn)(struct worker *w, void *arg);
	void *arg;
};

static void post_run(void *arg)
{
	struct post p = *(struct post *)arg;

	free(arg);
	p.fn(p.worker, p.arg);
}

static void post_to(struct worker *w, void (*fn)(struct worker *, void *), void *arg)
{
	struct post *p = malloc(sizeof *p);

	if (!p)
		abort();
	*p = (struct post){w, fn, arg};
	loop_post(w->loop, post_run, p);
}

void service_post_all(struct service *s, void (*fn)(struct worker *w, void *arg), void *arg)
{
	for (int i = 0; i < s->workers_count; i++)
		post_to(s->workers[i], fn, arg);
	post_to(s->control, fn, arg);
}

static void change_deliver(struct worker *w, void *arg)
{
	struct change *c = arg; /* a copy per worker: freed here */

	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->on_change)
			app->modules[i]->on_change(w, c);
	if (c->seq > 0)
		atomic_store(&w->change, c->seq);
	free(c);
}

static void change_post(struct worker *w, const struct change *c)
{
	struct change *copy = malloc(sizeof *copy);

	if (!copy)
		abort();
	*copy = *c;
	post_to(w, change_deliver, copy);
}

static void change_announce(const struct change *c)
{
	for (int i = 0; i < app->service.workers_count; i++)
		change_post(app->service.workers[i], c);
	change_post(app->service.control, c);
}

static void feed_poll(void);

static void feed_on_rows(void *arg, const struct pg_result *res)
{
	bool again = app->poll_again;

	app->polling = NULL;
	app->poll_again = false;
	if (res->rc == RC_OK) {
		app->schema_version = pg_int(res->rows[0], 0, 0);
		if (!app->feed_known) {
			/* What was read before this position was known may lack what came before it. */
			struct change all = {.kind = "all", .seq = pg_int(res->rows[0], 0, 1)};

			app->change_seq = all.seq;
			app->feed_known = true;
			change_announce(&all);
		}
		for (size_t i = 0; i < pg_row_count(res->rows[1]); i++) {
			struct change c = {.org = {pg_uuid(res->rows[1], i, 2)},
					   .version = pg_int(res->rows[1], i, 3),
					   .seq = pg_int(res->rows[1], i, 0)};
			struct str kind = pg_str(res->rows[1], i, 1);

			snprintf(c.kind, sizeof c.kind, "%.*s", STR_FMT(kind));
			change_announce(&c);
			app->change_seq = c.seq > app->change_seq ? c.seq : app->change_seq;
			again = again || i == 999; /* a full page: there is more */
		}
	}
	if (again)
		feed_poll();
}

/* Read what changed since. One poll at a time; a NOTIFY in between makes it run again. */
static void feed_poll(void)
{
	struct pg_batch *b;

	if (app->polling) {
		app->poll_again = true;
		return;
	}
	if (!pg_is_up(app->service.control->pg))
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_server_feed_head);
	pg_batch_add(b, &sql_server_changes_since);
	pg_param_int(b, app->feed_known ? app->change_seq : INT64_MAX);
	app->polling = pg_submit(app->service.control->pg, b, feed_on_rows, NULL);
}

static void feed_on_timer(void *arg)
{
	feed_poll();
	loop_timer_set(app->service.control->loop, &app->poll, SERVICE_POLL_MS, feed_on_timer,
		       NULL);
}

static void feed_on_notify(void *arg, struct str payload)
{
	struct change all = {.kind = "all"};

	if (!payload.ptr) /* the connection is new: something may have been missed */
		change_announce(&all);
	feed_poll();
}

/* ---- jobs -------------------------------------------------------------------------------------- */

static void job_on_timer(void *arg)
{
	const int i = (int)(intptr_t)arg;

	if (!atomic_load(&app->service.draining))
		app->job[i]->run(app->service.control);
	loop_timer_set(app->service.control->loop, &app->job_timer[i], app->job[i]->every_ms,
		       job_on_timer, arg);
}

static void jobs_start(void)
{
	for (size_t m = 0; app->modules[m]; m++)
		for (const struct job *j = app->modules[m]->jobs;
		     j && j->name && app->jobs < SERVICE_JOBS_MAX; j++) {
			const int i = app->jobs++;

			app->job[i] = j;
			loop_timer_set(app->service.control->loop, &app->job_timer[i], j->every_ms,
				       job_on_timer, (void *)(intptr_t)i);
		}
}

/* ---- drain -------------------------------------------------------------------------------------- */

static bool modules_busy(void)
{
	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->busy && app->modules[i]->busy(&app->service))
			return true;
	return false;
}

static struct http_front *front_of(const struct worker *w)
{
	return w->control ? app->control_front : app->fronts[w->index];
}

static void drain_front(struct worker *w, void *arg)
{
	http_front_drain(front_of(w));
}

static void cut_front(struct worker *w, void *arg)
{
	http_front_cut(front_of(w));
}

/* Requests whose answer has not left: the control plane's too, a key that was made must be shown. */
static size_t requests_open(void)
{
	size_t n = http_front_open(app->control_front);

	for (int i = 0; i < app->service.workers_count; i++)
		n += http_front_open(app->fronts[i]);
	return n;
}

static void on_tick(void *arg)
{
	const int64_t now = clock_mono_ms();
	const bool draining = atomic_load(&app->service.draining);

	if (!pg_is_up(app->service.control->pg))
		app->schema_version = -1;
	ready_update();
	if (draining) {
		const bool idle = atomic_load(&app->service.calls_open) == 0 && !modules_busy() &&
				  requests_open() == 0;

		if (idle || now >= app->drain_until_ms + SERVICE_SETTLE_MS) {
			if (!idle)
				log_error("drain ended with work left",
					  LOG_INT("calls_open",
						  atomic_load(&app->service.calls_open)),
					  LOG_INT("requests_open", (int64_t)requests_open()));
			loop_stop(app->service.control->loop);
			return;
		}
		if (now >= app->drain_until_ms)
			service_post_all(&app->service, cut_front, NULL);
	}
	loop_timer_set(app->service.control->loop, &app->tick, SERVICE_TICK_MS, on_tick, NULL);
}

static void on_term(void *arg)
{
	const int64_t wait_ms = config_int(app->service.config, "drain_seconds") * 1000;

	if (++app->signals == 1) {
		log_info("draining", LOG_INT("calls_open", atomic_load(&app->service.calls_open)),
			 LOG_INT("drain_ms", wait_ms));
		atomic_store(&app->service.draining, true);
		app->drain_until_ms = clock_mono_ms() + wait_ms;
		service_post_all(&app->service, drain_front, NULL);
	} else {
		app->drain_until_ms = clock_mono_ms(); /* a second signal: cut what still runs */
	}
	loop_timer_set(app->service.control->loop, &app->tick, 1, on_tick, NULL);
}

/* A setting that needs a start to take effect: say so, rather than seem to have taken it. */
static void reload_tell(const struct config *fresh, const struct setting *s)
{
	const char *was, *is;

	if (s->reloadable || s->secret)
		return;
	was = config_str(app->service.config, s->name);
	is = config_str(fresh, s->name);
	if (strcmp(was ? was : "", is ? is : "") != 0)
		log_warn("reload: this setting takes effect with the next start",
			 LOG_STR("setting", s->name));
}

static void reload_tls(const struct config *fresh)
{
	struct err err = {0};

	if (!config_is_set(app->service.config, "tls_cert_file"))
		return; /* the listeners are plain, and stay it */
	if (!config_is_set(fresh, "tls_cert_file") || !config_is_set(fresh, "tls_key_file"))
		log_error("reload: certificate kept as it was", LOG_STR("error", "none is named"));
	else if (http_tls_load(config_str(fresh, "tls_cert_file"),
			       config_str(fresh, "tls_key_file"), &err) != RC_OK)
		log_error("reload: certificate kept as it was", LOG_STR("error", err.message));
}

static void on_hup(void *arg)
{
	const struct setting *const *tables = service_setting_tables(app->modules);
	struct config *fresh = NULL;
	struct err err = {0};

	if (config_load(tables, app->config_file, &fresh, &err) != RC_OK) {
		log_error("reload: everything kept as it was", LOG_STR("error", err.message));
		return;
	}
	log_init((enum log_level)config_int(fresh, "log_level"),
		 (enum log_format)config_int(app->service.config, "log_format"));
	reload_tls(fresh);
	for (; *tables; tables++)
		for (const struct setting *s = *tables; s->name; s++)
			reload_tell(fresh, s);
	config_free(fresh);
	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->on_reload)
			app->modules[i]->on_reload(&app->service);
	log_info("reloaded", LOG_BOOL("tls", config_is_set(app->service.config, "tls_cert_file")));
}

/* ---- threads ------------------------------------------------------------------------------------- */

static struct worker *worker_new(int index, struct err *err)
{
	struct service *s = &app->service;
	struct worker *w = calloc(1, sizeof *w);
	char name[32];

	if (!w)
		abort();
	w->index = index;
	w->control = index < 0;
	w->service = s;
	w->loop = loop_new();
	if (!w->loop)
		abort();
	snprintf(name, sizeof name, w->control ? "tollgate control" : "tollgate worker %d", index);
	w->pg = pg_new(w->loop, &(struct pg_options){
					.url = config_str(s->config, "database_url"),
					.role = "tollgate_app",
					.connections = (int)config_int(s->config, "pg_connections"),
					.deadline_ms = config_int(s->config, "pg_deadline_ms"),
					.wait_ms = config_int(s->config, "pg_wait_ms"),
					.name = name,
				});
	w->curlm = curlm_new(w->loop, s->egress, NULL);
	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->worker_start && app->modules[i]->worker_start(w, err) != RC_OK)
			return NULL;
	return w;
}

/* On the worker's own thread; the reverse of worker_new(). */
static void worker_end(struct worker *w, void *arg)
{
	size_t n = 0;

	http_front_free(front_of(w));
	while (app->modules[n])
		n++;
	while (n-- > 0)
		if (app->modules[n]->worker_stop)
			app->modules[n]->worker_stop(w);
	curlm_free(w->curlm);
	pg_free(w->pg);
	if (!w->control)
		loop_stop(w->loop);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	loop_run(w->loop);
	return NULL;
}

/* No provider endpoint may lead back here. `bound` is what http_listen() wrote. */
static void deny_bound(const char *bound)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	const char *colon = strrchr(bound, ':');
	char host[INET6_ADDRSTRLEN];
	struct str text;
	int64_t port;

	if (!colon || str_to_i64(str_from(colon + 1), &port) != RC_OK || port < 1 || port > 65535)
		return; /* unix:/path */
	text = str_of(bound, (size_t)(colon - bound));
	if (text.len >= 2 && text.ptr[0] == '[')
		text = str_slice(text, 1, text.len - 1);
	snprintf(host, sizeof host, "%.*s", STR_FMT(text));
	in.sin_port = in6.sin6_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &in.sin_addr) == 1)
		egress_deny_own(app->service.egress, (struct sockaddr *)&in, sizeof in);
	else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1)
		egress_deny_own(app->service.egress, (struct sockaddr *)&in6, sizeof in6);
}

static void deny_address(void *arg, const struct sockaddr *sa, socklen_t len)
{
	egress_deny_own(arg, sa, len);
}

static enum rc listen_all(struct err *err)
{
	struct service *s = &app->service;
	char address[128], bound[128] = "";

	snprintf(address, sizeof address, "%s", config_str(s->config, "listen"));
	for (int i = 0; i < s->workers_count; i++) {
		struct http_listener *l;

		TRY(http_listen(app->fronts[i], address, SURFACE_DATA, &l, bound, err));
		snprintf(address, sizeof address, "%s",
			 bound); /* port 0: the others share the first's */
	}
	deny_bound(bound);
	log_info("listening", LOG_STR("surface", "data"), LOG_STR("address", bound),
		 LOG_INT("workers", s->workers_count));
	struct http_listener *l;

	TRY(http_listen(app->control_front, config_str(s->config, "admin_listen"), SURFACE_ADMIN,
			&l, bound, err));
	deny_bound(bound);
	pg_addresses(config_str(s->config, "database_url"), deny_address, s->egress);
	log_info("listening", LOG_STR("surface", "admin"), LOG_STR("address", bound));
	return RC_OK;
}

static enum rc tls_check(const struct config *c, struct err *err)
{
	const bool cert = config_is_set(c, "tls_cert_file"), key = config_is_set(c, "tls_key_file");

	if (cert != key)
		return err_set(err, RC_INVALID, "bad_configuration", "%s is set without %s",
			       cert ? "tls_cert_file" : "tls_key_file",
			       cert ? "tls_key_file" : "tls_cert_file");
	if (cert)
		return http_tls_load(config_str(c, "tls_cert_file"), config_str(c, "tls_key_file"),
				     err);
	return RC_OK;
}

static enum rc service_start(struct err *err)
{
	struct service *s = &app->service;
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (config_is_set(s->config, "otlp_endpoint"))
		return err_set(err, RC_INVALID, "bad_configuration",
			       "otlp_endpoint is set, but this version sends no traces: unset it");
	TRY(tls_check(s->config, err));
	TRY(egress_new(config_str(s->config, "egress_allow"), &s->egress, err));
	for (size_t i = 0; app->modules[i]; i++)
		if (app->modules[i]->start)
			TRY(app->modules[i]->start(s, err));
	app->tables = service_endpoint_tables(app->modules);
	TRY(openapi_make(err));
	s->workers_count = (int)config_int(s->config, "workers");
	if (s->workers_count == 0)
		s->workers_count = cpus > 0 ? (int)cpus : 1;
	s->workers = calloc((size_t)s->workers_count, sizeof *s->workers);
	app->fronts = calloc((size_t)s->workers_count, sizeof *app->fronts);
	app->threads = calloc((size_t)s->workers_count, sizeof *app->threads);
	if (!s->workers || !app->fronts || !app->threads)
		abort();
	s->control = worker_new(-1, err);
	if (!s->control)
		return RC_INVALID;
	app->control_front = http_front_new(s->control, app->tables);
	for (int i = 0; i < s->workers_count; i++) {
		s->workers[i] = worker_new(i, err);
		if (!s->workers[i])
			return RC_INVALID;
		app->fronts[i] = http_front_new(s->workers[i], app->tables);
	}
	return listen_all(err);
}

static void control_start(void)
{
	struct service *s = &app->service;
	struct loop *l = s->control->loop;

	signal(SIGPIPE, SIG_IGN);
	loop_signal_set(l, &app->on_term, SIGTERM, on_term, NULL);
	loop_signal_set(l, &app->on_int, SIGINT, on_term, NULL);
	loop_signal_set(l, &app->on_hup, SIGHUP, on_hup, NULL);
	app->listener = pg_listen(
		l,
		&(struct pg_options){.url = config_str(s->config, "database_url"),
				     .role = "tollgate_app",
				     .connections = 1,
				     .deadline_ms = config_int(s->config, "pg_deadline_ms"),
				     .wait_ms = config_int(s->config, "pg_wait_ms"),
				     .name = "tollgate listener"},
		"tollgate_change", feed_on_notify, NULL);
	jobs_start();
	feed_on_timer(NULL);
	on_tick(NULL);
}

static void threads_start(void)
{
	sigset_t all, old;

	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_BLOCK, &all, &old);
	for (int i = 0; i < app->service.workers_count; i++)
		if (pthread_create(&app->threads[i], NULL, worker_main, app->service.workers[i]) !=
		    0)
			abort();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void service_end(void)
{
	struct service *s = &app->service;
	size_t n = 0;

	for (int i = 0; i < s->workers_count; i++)
		post_to(s->workers[i], worker_end, NULL);
	for (int i = 0; i < s->workers_count; i++)
		pthread_join(app->threads[i], NULL);
	loop_timer_clear(&app->tick);
	loop_timer_clear(&app->poll);
	for (int i = 0; i < app->jobs; i++)
		loop_timer_clear(&app->job_timer[i]);
	loop_signal_clear(&app->on_term);
	loop_signal_clear(&app->on_int);
	loop_signal_clear(&app->on_hup);
	if (app->polling)
		pg_cancel(app->polling);
	pg_unlisten(app->listener);
	worker_end(s->control, NULL);
	while (app->modules[n])
		n++;
	while (n-- > 0)
		if (app->modules[n]->stop)
			app->modules[n]->stop(s);
	for (int i = 0; i < s->workers_count; i++) {
		loop_free(s->workers[i]->loop);
		free(s->workers[i]);
	}
	loop_free(s->control->loop);
	free(s->control);
	free(s->workers);
	free(app->fronts);
	free(app->threads);
	http_tls_unload();
	egress_free(s->egress);
	buf_clear(&app->openapi);
}

int service_run(const struct module *const *modules, const struct config *config, const char *file,
		const char *version)
{
	struct err err = {0};
	enum rc rc;

	app = calloc(1, sizeof *app);
	if (!app)
		abort();
	app->modules = modules;
	app->service.config = config;
	app->config_file = file;
	app->version = version;
	app->schema_version = -1;
	pthread_mutex_init(&app->ready_lock, NULL);
	snprintf(app->reasons, sizeof app->reasons, "\"starting\"");
	rc = service_start(&err);
	if (rc != RC_OK) {
		/* The process ends here: what was made goes with it. */
		fprintf(stderr, "tollgate: %s\n", err.message);
		return rc == RC_INVALID ? 2 : 3;
	}
	control_start();
	threads_start();
	loop_run(app->service.control->loop);
	log_info("stopping", LOG_INT("signals", app->signals));
	service_end();
	pthread_mutex_destroy(&app->ready_lock);
	free(app);
	app = NULL;
	return 0;
}
