/* server/cli_call.c - one call of the admin API, or one batch for Postgres, waited for.
 *
 * The service's own clients (curlm.h, pg.h) on a loop of their own that lives as long as the call. The
 * terminal may reach exactly one address, its service's. Settings are read leniently: what this
 * call does not need may be missing. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/base/buf.h"
#include "server/base/id.h"
#include "server/cli.h"
#include "server/curlm.h"
#include "server/egress.h"
#include "server/loop.h"
#include "server/pg.h"
#include "server/service.h"

#define CLI_ANSWER_BYTES_MAX (16u << 20)
#define CLI_CONNECT_MS	     5000
#define CLI_CALL_MS	     120000 /* a profile is validated against a slow provider */
#define CLI_PG_WAIT_MS	     3000
#define CLI_PG_DEADLINE_MS   3600000 /* ledger verify reads everything there is */

/* --- settings ------------------------------------------------------------------------------- */

/* The same tables with nothing required: `tollgate org list` needs no master key. */
static const struct setting *const *lenient_tables(struct cli *cli)
{
	const struct setting *const *tables = service_setting_tables(cli->modules);
	const struct setting **copy;
	size_t n = 0, rows;

	while (tables[n])
		n++;
	copy = ARENA_ARRAY(cli->mem, const struct setting *, n + 1);
	for (size_t t = 0; t < n; t++) {
		struct setting *row;

		for (rows = 0; tables[t][rows].name; rows++)
			;
		row = ARENA_ARRAY(cli->mem, struct setting, rows + 1);
		memcpy(row, tables[t], (rows + 1) * sizeof *row);
		for (size_t i = 0; i < rows; i++)
			row[i].required = false;
		copy[t] = row;
	}
	return copy;
}

static bool setting_exists(struct cli *cli, const char *name)
{
	const struct setting *const *tables = service_setting_tables(cli->modules);

	for (; *tables; tables++)
		for (const struct setting *s = *tables; s->name; s++)
			if (strcmp(s->name, name) == 0)
				return true;
	return false;
}

/* Copies what is asked for into the arena; "" when unset. */
static enum rc settings_read(struct cli *cli, const char *const *names, const char **values,
			     size_t n, struct err *err)
{
	struct config *own = NULL;
	const struct config *c = cli->config;

	if (!c) {
		TRY(config_load(lenient_tables(cli), cli->config_file, &own, err));
		c = own;
	}
	for (size_t i = 0; i < n; i++)
		values[i] = arena_strdup(cli->mem, setting_exists(cli, names[i])
							   ? str_from(config_str(c, names[i]))
							   : STR_NULL);
	config_free(own);
	return RC_OK;
}

enum rc cli_settings(struct cli *cli, const char *const *names, const char **values, size_t n,
		     struct err *err)
{
	return settings_read(cli, names, values, n, err);
}

static void value_wipe(const char *value)
{
	explicit_bzero((char *)(uintptr_t)value, strlen(value));
}

/* --- where the admin API is -------------------------------------------------------------------- */

struct admin_address {
	const char *unix_socket; /* or */
	struct str base, allow;
};

static enum rc address_bad(struct err *err, const char *listen)
{
	err_set(err, RC_INVALID, "invalid_setting", "admin_listen: \"%s\" is not an address",
		listen);
	err_hint(err, "Write 127.0.0.1:8081, [::1]:8081 or unix:/path.");
	return RC_INVALID;
}

/* A listener on all addresses is reached by loopback. */
static void wildcard_to_loopback(struct sockaddr *sa)
{
	struct sockaddr_in *in = (void *)sa;
	struct sockaddr_in6 *in6 = (void *)sa;

	if (sa->sa_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY))
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		in6->sin6_addr = in6addr_loopback;
}

static enum rc admin_address(struct cli *cli, const char *listen, bool tls,
			     struct admin_address *ret, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	struct str s = str_from(listen), host, port;
	char ip[INET6_ADDRSTRLEN];
	const char *scheme = tls ? "https" : "http";
	ptrdiff_t colon = -1;

	*ret = (struct admin_address){.unix_socket = NULL};
	if (str_starts(s, STR("unix:"))) {
		ret->unix_socket = listen + 5;
		return RC_OK;
	}
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == ':')
			colon = (ptrdiff_t)i;
	if (colon < 1)
		return address_bad(err, listen);
	host = str_slice(s, 0, (size_t)colon);
	port = str_slice(s, (size_t)colon + 1, s.len);
	if (host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		host = str_slice(host, 1, host.len - 1);
	if (getaddrinfo(arena_strdup(cli->mem, host), arena_strdup(cli->mem, port), &hints,
			&list) != 0)
		return address_bad(err, listen);
	wildcard_to_loopback(list->ai_addr);
	if (getnameinfo(list->ai_addr, list->ai_addrlen, ip, sizeof ip, NULL, 0, NI_NUMERICHOST) !=
	    0) {
		freeaddrinfo(list);
		return address_bad(err, listen);
	}
	if (list->ai_family == AF_INET6) {
		ret->base = arena_printf(cli->mem, "%s://[%s]:%.*s", scheme, ip, STR_FMT(port));
		ret->allow = arena_printf(cli->mem, "[%s/128]:%.*s", ip, STR_FMT(port));
	} else {
		ret->base = arena_printf(cli->mem, "%s://%s:%.*s", scheme, ip, STR_FMT(port));
		ret->allow = arena_printf(cli->mem, "%s/32:%.*s", ip, STR_FMT(port));
	}
	freeaddrinfo(list);
	return RC_OK;
}

/* --- the call ----------------------------------------------------------------------------------- */

struct exchange {
	struct loop *loop;
	struct buf body;
	int status;
	enum rc rc;
	struct err err;
};

static void on_head(void *arg, const struct curlm_response *r)
{
	struct exchange *x = arg;

	x->status = r->status;
}

static bool on_body(void *arg, struct str bytes)
{
	struct exchange *x = arg;

	if (x->rc == RC_OK)
		x->rc = buf_append(&x->body, bytes);
	return true;
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct exchange *x = arg;

	if (rc != RC_OK)
		x->rc = rc;
	if (err)
		x->err = *err;
	loop_stop(x->loop);
}

static void exchange_run(struct exchange *x, const struct curlm_request *r, const struct egress *e,
			 const char *ca_file)
{
	struct curlm *m;

	x->loop = loop_new();
	if (!x->loop)
		abort();
	m = curlm_new(x->loop, e, ca_file);
	curlm_start(m, r, &(struct curlm_handlers){on_head, on_body, on_done, x});
	loop_run(x->loop);
	curlm_free(m);
	loop_free(x->loop);
}

static enum rc status_rc(int status)
{
	switch (status) {
	case 401:
	case 403:
		return RC_DENIED;
	case 404:
		return RC_NOT_FOUND;
	case 409:
		return RC_CONFLICT;
	case 413:
		return RC_TOO_LARGE;
	case 429:
		return RC_LIMIT;
	case 500:
		return RC_IO;
	case 501:
		return RC_UNSUPPORTED;
	case 503:
		return RC_UNAVAILABLE;
	default:
		return status < 500 ? RC_INVALID : RC_PROTOCOL;
	}
}

static const char *error_text(struct cli *cli, const struct json *error, const char *field)
{
	struct str s;

	return json_string(json_get(error, field), &s) ? arena_strdup(cli->mem, s) : "";
}

/* The envelope of an error becomes a struct err; its code lives in the arena. */
static enum rc answer_error(struct cli *cli, const struct json *envelope, int status,
			    struct err *err)
{
	const struct json *error = json_get(envelope, "error");
	enum rc rc = status_rc(status);
	const char *code = error_text(cli, error, "code");

	if (!*code)
		return err_set(err, RC_PROTOCOL, "protocol",
			       "The service answered %d without saying why.", status);
	err_set(err, rc, code, "%s", error_text(cli, error, "message"));
	err_hint(err, "%s", error_text(cli, error, "hint"));
	err_field(err, "%s", error_text(cli, error, "field"));
	err_detail(err, "%s", error_text(cli, error, "request_id"));
	return rc;
}

static enum rc answer_read(struct cli *cli, const struct exchange *x, struct json **data,
			   struct err *err)
{
	AUTO(buf) struct buf meta = BUF_INIT(1u << 20);
	struct json *envelope;

	if (json_parse(buf_str(&x->body), JSON_ALLOW_DUPLICATES, cli->mem, &envelope, NULL) !=
		    RC_OK ||
	    json_type(envelope) != JSON_OBJECT)
		return err_set(err, RC_PROTOCOL, "protocol",
			       "What answers at the admin address is not tollgate (status %d).",
			       x->status);
	if (x->status >= 400)
		return answer_error(cli, envelope, x->status, err);
	*data = json_get(envelope, "data");
	if (!*data)
		return err_set(err, RC_PROTOCOL, "protocol", "The service's answer has no data.");
	if (json_type(json_get(envelope, "meta")) == JSON_OBJECT &&
	    json_write(json_get(envelope, "meta"), &meta) == RC_OK)
		cli->meta = arena_str(cli->mem, buf_str(&meta));
	return RC_OK;
}

enum rc cli_api(struct cli *cli, const char *method, struct str path, struct str body,
		struct json **data, int *status, struct err *err)
{
	static const char *const names[] = {"admin_listen", "admin_token", "tls_cert_file"};
	const char *values[ARRAY_LEN(names)];
	char id[UUID_TEXT_SIZE];
	struct curlm_header headers[] = {{"Content-Type", STR("application/json")},
					 {"Accept", STR("application/json")},
					 {"Idempotency-Key", uuid_format(uuid_v7(), id)}};
	struct curlm_request r = {
		.method = method,
		.path = path,
		.headers = headers,
		.headers_count = strcmp(method, "POST") == 0 ? 3 : 2,
		.secret_form = CURLM_SECRET_BEARER,
		.body = body,
		.body_bytes_max = CLI_ANSWER_BYTES_MAX,
		.timeouts = {CLI_CONNECT_MS, CLI_CALL_MS, CLI_CALL_MS, CLI_CALL_MS},
	};
	struct exchange x = {.body = BUF_INIT(CLI_ANSWER_BYTES_MAX)};
	struct admin_address at;
	struct egress *e = NULL;
	enum rc rc;

	*status = 0;
	TRY(settings_read(cli, names, values, ARRAY_LEN(names), err));
	r.secret = str_trim(str_from(values[1]));
	if (r.secret.len == 0) {
		err_set(err, RC_INVALID, "no_admin_token", "TOLLGATE_ADMIN_TOKEN is not set.");
		err_hint(err,
			 "Set it, or TOLLGATE_ADMIN_TOKEN_FILE, to the operator's token or an API "
			 "key with the scope admin.");
		return RC_INVALID;
	}
	rc = admin_address(cli, values[0], *values[2] != '\0', &at, err);
	if (rc == RC_OK)
		rc = egress_new(at.allow.ptr, &e, err);
	if (rc == RC_OK) {
		r.base = at.base;
		r.unix_socket = at.unix_socket;
		exchange_run(&x, &r, e, *values[2] ? values[2] : NULL);
		rc = x.rc;
		*status = x.status;
		if (rc == RC_OK)
			rc = answer_read(cli, &x, data, err);
		else if (rc == RC_INVALID)
			*err = x.err;
		else {
			rc = err_set(err, RC_NETWORK, "unreachable",
				     "The service at %s could not be asked: %s", values[0],
				     x.err.message);
			err_hint(err, "Is tollgate serve running, and TOLLGATE_ADMIN_LISTEN its "
				      "admin address?");
			*status = 0;
		}
	}
	value_wipe(values[1]);
	egress_free(e);
	buf_clear(&x.body);
	return rc;
}

int cli_status(enum rc rc, int status)
{
	if (rc == RC_NETWORK || rc == RC_UNAVAILABLE)
		return CLI_UNREACHED;
	return status == 0 && rc == RC_INVALID ? CLI_USAGE : CLI_FAILED;
}

int cli_api_print(struct cli *cli, const char *method, struct str path, struct str body)
{
	AUTO(buf) struct buf text = BUF_INIT(CLI_ANSWER_BYTES_MAX);
	struct err err = {0};
	struct json *data = NULL;
	int status;
	enum rc rc = cli_api(cli, method, path, body, &data, &status, &err);

	if (rc == RC_OK)
		rc = json_write(data, &text);
	if (rc != RC_OK)
		return cli_error(cli, cli_status(rc, status), &err);
	return cli_data(cli, buf_str(&text), NULL);
}

/* --- Postgres ----------------------------------------------------------------------------------- */

struct cli_db {
	struct loop *loop;
	struct pg *pg;
	/* of the batch that runs: */
	void (*cb)(void *arg, const struct pg_result *r);
	void *arg;
	enum rc rc;
	struct err *err;
};

static void on_result(void *arg, const struct pg_result *r)
{
	struct cli_db *s = arg;
	char why[256];

	s->rc = r->rc;
	if (r->rc != RC_OK)
		s->rc = pg_result_err(r, s->err);
	if (r->rc == RC_UNAVAILABLE && !pg_is_up(s->pg)) {
		pg_last_error(s->pg, why, sizeof why);
		err_set(s->err, RC_UNAVAILABLE, "database_unreachable",
			"The database could not be reached: %s", why[0] ? why : "no answer");
		err_hint(s->err, "TOLLGATE_DATABASE_URL says where it is.");
	}
	s->cb(s->arg, r);
	loop_stop(s->loop);
}

enum rc cli_db_open(struct cli *cli, struct cli_db **ret, struct err *err)
{
	static const char *const names[] = {"database_url"};
	const char *values[ARRAY_LEN(names)];
	struct cli_db *db;
	enum rc rc = settings_read(cli, names, values, ARRAY_LEN(names), err);

	if (rc == RC_OK && !*values[0]) {
		rc = err_set(err, RC_INVALID, "no_database_url",
			     "TOLLGATE_DATABASE_URL is not set.");
		err_hint(err, "Set it to a libpq connection string.");
	}
	if (rc != RC_OK)
		return rc;
	db = calloc(1, sizeof *db);
	if (!db || !(db->loop = loop_new()))
		abort();
	db->pg = pg_new(db->loop, &(struct pg_options){.url = values[0],
						       .role = "tollgate_app",
						       .connections = 1,
						       .deadline_ms = CLI_PG_DEADLINE_MS,
						       .wait_ms = CLI_PG_WAIT_MS,
						       .name = "tollgate cli"});
	value_wipe(values[0]);
	*ret = db;
	return RC_OK;
}

enum rc cli_db_run(struct cli_db *db, struct pg_batch *b,
		   void (*cb)(void *arg, const struct pg_result *r), void *arg, struct err *err)
{
	db->cb = cb;
	db->arg = arg;
	db->err = err;
	pg_submit(db->pg, b, on_result, db);
	loop_run(db->loop);
	return db->rc;
}

void cli_db_close(struct cli_db *db)
{
	if (!db)
		return;
	pg_free(db->pg);
	loop_free(db->loop);
	free(db);
}

enum rc cli_pg(struct cli *cli, struct pg_batch *b,
	       void (*cb)(void *arg, const struct pg_result *r), void *arg, struct err *err)
{
	struct cli_db *db;
	enum rc rc = cli_db_open(cli, &db, err);

	if (rc != RC_OK) {
		pg_batch_free(b);
		return rc;
	}
	rc = cli_db_run(db, b, cb, arg, err);
	cli_db_close(db);
	return rc;
}
