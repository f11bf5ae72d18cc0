/* routing/responses.c - a stored response, asked for again: GET, its input items, DELETE.
 *
 * A provider keeps it, in the account of the profile that made it; which one that was is remembered for the org that
 * asked (kept.h). Nothing is generated, so nothing is held or booked. An id that this org did not get is not there, also
 * where another org's is: the account may be the platform's. */
#include <stdio.h>

#include "routing/dialect.h"
#include "routing/errors.h"
#include "routing/kept.h"
#include "routing/provider.h"
#include "routing/routing_priv.h"
#include "routing/upstream.h"

#define STORED_ID_BYTES_MAX 128
#define STORED_CONNECT_MS   5000
#define STORED_TIMEOUT_MS   30000
#define STORED_PATH_BYTES   1024

struct stored { /* in the request's arena; its undo ends what is under way */
	struct http_request *req;
	const char *method, *suffix, *query; /* the names of the parameters that go along */
	struct str path;
	struct call call;
	struct call_state state;
	struct kept_find *finding;
	struct snapshot_call *resolving;
	struct snapshot_set set;
	struct candidate target;
	struct vault_call *opening;
	struct secret secret;
	struct secret_mark mark;
	struct curlm_call *up;
	struct buf body;
	int status;
};

static void stored_undo(void *arg)
{
	struct stored *s = arg;

	if (s->finding)
		kept_find_cancel(s->finding);
	snapshot_cancel(s->resolving);
	if (s->opening)
		vault_cancel(s->opening);
	if (s->up)
		curlm_cancel(s->up);
	snapshot_set_clear(&s->set);
	secret_clear(&s->secret);
	buf_clear(&s->body);
}

static void reply_not_there(struct stored *s)
{
	struct err e = {0};

	err_set(&e, RC_NOT_FOUND, "state_not_found", "Response with id '%.*s' not found.",
		STR_FMT(s->state.id));
	err_hint(
		&e,
		"Only what this org's calls made with store on is there, as long as its provider keeps it.");
	http_reply_err(s->req, RC_NOT_FOUND, &e);
}

static void reply_away(struct stored *s, const char *words)
{
	struct err e = {0};

	err_set(&e, RC_UNAVAILABLE, "unavailable", "%s", words);
	err_hint(&e, "try again shortly");
	e.retry_after_s = 2;
	http_reply_err(s->req, RC_UNAVAILABLE, &e);
}

/* ---- the provider's answer ------------------------------------------------------------------------- */

static void on_head(void *arg, const struct curlm_response *r)
{
	struct stored *s = arg;

	s->status = r->status;
}

static bool on_body(void *arg, struct str bytes)
{
	struct stored *s = arg;

	return buf_append(&s->body, bytes) == RC_OK;
}

static void reply_failure(struct stored *s)
{
	struct err words = {0}, e = {0};
	const enum error_class class = dialect_openai_responses.classify(
		s->status, buf_str(&s->body), s->req->mem, &words);
	enum rc rc;

	if (s->status == 404 || class == ERROR_not_found) {
		reply_not_there(s);
		return;
	}
	/* the body may have written them in JSON's other ways */
	secret_redact(&s->mark, words.message, strlen(words.message));
	secret_redact(&s->mark, words.field, strlen(words.field));
	secret_redact(&s->mark, words.detail, strlen(words.detail));
	rc = error_all_failed(class, &words, words.retry_after_s, &e);
	http_reply_err(s->req, rc, &e);
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct stored *s = arg;

	s->up = NULL;
	if (rc != RC_OK) {
		reply_away(s, "the provider that keeps the response cannot be reached now");
		return;
	}
	if (s->status / 100 != 2) {
		secret_redact(&s->mark, s->body.ptr, s->body.len);
		reply_failure(s);
		return;
	}
	http_add_header(s->req, "x-tollgate-provider", str_from(s->target.provider->id));
	http_add_header(s->req, "x-tollgate-profile", s->target.profile->name);
	http_add_header(s->req, "Cache-Control", STR("private, no-store"));
	http_reply(s->req, 200, buf_str(&s->body));
}

/* ---- the question ---------------------------------------------------------------------------------------- */

static bool is_plain(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') ||
		      (s.ptr[i] >= 'a' && s.ptr[i] <= 'z') ||
		      (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z') || s.ptr[i] == '_' || s.ptr[i] == '-' ||
		      s.ptr[i] == '.'))
			return false;
	return s.len > 0 && s.len <= STORED_ID_BYTES_MAX;
}

static bool goes_along(const struct stored *s, struct str name)
{
	struct str names = str_from(s->query);

	while (names.ptr)
		if (str_eq_nocase(str_cut(&names, ' '), name))
			return name.len > 0;
	return false;
}

/* The path below the profile's address, with those of the caller's parameters that may go along: each as often as it stands
 * there. */
static enum rc read_path(struct stored *s, struct err *err)
{
	AUTO(buf) struct buf path = BUF_INIT(STORED_PATH_BYTES);
	struct str rest = s->req->query;
	enum rc rc = buf_printf(&path, "/responses/%.*s%s", STR_FMT(s->state.id), s->suffix);
	struct str wrong = STR("");
	char mark = '?';

	while (rest.ptr && rc == RC_OK) {
		struct str value = str_cut(&rest, '&');
		struct str name = str_cut(&value, '=');

		if (!goes_along(s, name))
			continue;
		rc = is_plain(value)
			     ? buf_printf(&path, "%c%.*s=%.*s", mark, STR_FMT(name), STR_FMT(value))
			     : RC_INVALID;
		wrong = str_cut(&name, '%');
		mark = '&';
	}
	if (rc != RC_OK) {
		(void)err_set(err, RC_INVALID, "invalid_request_error",
			      "%.*s has a value that it cannot have, or stands there too often",
			      STR_FMT(wrong));
		err_field(err, "%.*s", STR_FMT(wrong));
		return RC_INVALID;
	}
	s->path = arena_str(s->req->mem, buf_str(&path));
	return RC_OK;
}

static void ask_keeper(struct stored *s)
{
	const struct curlm_handlers handlers = {on_head, on_body, on_done, s};
	struct upstream_request u = {
		.method = s->method,
		.target = &s->target,
		.path = s->path,
		.secret = s->target.profile->has_secret ? &s->secret : NULL,
		.timeouts = {.connect = STORED_CONNECT_MS,
			     .first_byte = STORED_TIMEOUT_MS,
			     .idle = STORED_TIMEOUT_MS,
			     .total = STORED_TIMEOUT_MS},
		.body_bytes_max = ROUTING_BODY_MAX,
		.client = s->req,
		.same_dialect = true,
	};

	s->up = upstream_start(s->req->worker->curlm, &u, &handlers, s->req->mem);
	s->mark = secret_mark(&s->secret);
	secret_clear(&s->secret);
}

static void on_opened(void *arg, enum rc rc, const struct secret *plain, const struct err *err)
{
	struct stored *s = arg;

	s->opening = NULL;
	if (rc == RC_OK)
		rc = secret_from(secret_str(plain), &s->secret);
	if (rc == RC_OK)
		ask_keeper(s);
	else
		reply_away(
			s,
			"the secret of the profile that keeps the response cannot be opened now");
}

/* The profile that keeps it, if it is still in use, speaks the dialect, and the caller's key may use it. */
static const struct profile *keeper(const struct stored *s, const struct snapshot *of)
{
	for (size_t i = 0; of && i < of->profiles_count; i++) {
		const struct profile *p = &of->profiles[i];
		const struct provider_endpoint *e;

		if (!uuid_eq(p->id, s->state.keeper))
			continue;
		e = p->provider ? provider_endpoint(p->provider, &dialect_openai_responses) : NULL;
		if (!e || e->dialect != &dialect_openai_responses || !p->endpoint_ok ||
		    !str_is(p->status, "active") ||
		    (p->provider->secret_required && !p->has_secret) ||
		    !routing_key_may_use(vault_principal(s->req), p))
			return NULL;
		return p;
	}
	return NULL;
}

static void on_picture(void *arg, enum rc rc, struct snapshot_set set, const struct err *err)
{
	struct stored *s = arg;
	const struct profile *p;

	s->resolving = NULL;
	if (rc != RC_OK) {
		reply_away(s, "the org's configuration cannot be read now");
		return;
	}
	s->set = set;
	p = keeper(s, set.org);
	if (!p)
		p = keeper(s, set.platform);
	if (!p) {
		reply_not_there(s);
		return;
	}
	s->target = (struct candidate){.profile = p, .provider = p->provider, .source = p->source};
	if (p->has_secret)
		s->opening = vault_open(s->req->worker, &p->secret, p->sealed, on_opened, s);
	else
		ask_keeper(s);
}

static void on_found(void *arg, enum rc rc)
{
	struct stored *s = arg;

	s->finding = NULL;
	if (rc != RC_OK)
		reply_away(s, "who keeps the response cannot be looked up now");
	else if (uuid_is_zero(s->state.keeper))
		reply_not_there(s);
	else
		s->resolving =
			snapshot_get(s->req->worker, vault_principal(s->req)->org, on_picture, s);
}

static void stored_begin(struct http_request *r, const char *method, const char *suffix,
			 const char *query)
{
	const struct principal *who = vault_principal(r);
	struct stored *s = ARENA_NEW(r->mem, struct stored);
	struct vault_limits limits;
	struct err e = {0};
	enum rc rc;

	*s = (struct stored){
		.req = r,
		.method = method,
		.suffix = suffix,
		.query = query,
		.state = {.kind = "response", .id = r->params[0], .field = "response_id"},
		.body = BUF_INIT(ROUTING_BODY_MAX),
	};
	s->call.states = &s->state;
	s->call.states_count = 1;
	arena_on_clear(r->mem, stored_undo, s);
	rc = vault_limits_take(who, 0, &limits, &e);
	if (rc == RC_OK && str_is(http_query(r, "stream"), "true")) {
		rc = err_set(&e, RC_UNSUPPORTED, "not_supported",
			     "a stored response is not streamed again here");
		err_field(&e, "stream");
	}
	if (rc == RC_OK && is_plain(s->state.id))
		rc = read_path(s, &e);
	if (rc != RC_OK)
		http_reply_err(r, rc, &e);
	else if (!is_plain(s->state.id))
		reply_not_there(s);
	else
		s->finding = kept_find(r->worker, who->org, &s->call, r->mem, on_found, s);
}

void handle_response_get(struct http_request *r)
{
	stored_begin(r, "GET", "", "include include%5B%5D");
}

void handle_response_items(struct http_request *r)
{
	stored_begin(r, "GET", "/input_items", "limit order after include include%5B%5D");
}

void handle_response_delete(struct http_request *r)
{
	stored_begin(r, "DELETE", "", "");
}
