/* routing/validate_report.c - the words of validate-connection: hints, one JSON object, a list for a person.
 *
 * Pure but for the printing. Whatever comes from a file, a service or an endpoint may hold control characters:
 * none of them reaches a terminal. */
#include <stdio.h>

#include "routing/validate_priv.h"
#include "server/base/clock.h"

#define REPORT_BYTES_MAX (16u << 20)

/* ---- hints --------------------------------------------------------------------------------------------- */

static const struct {
	const char *reason, *hint;
} hints[] = {
	{"permission", "the key is known, but may not do this: widen what it may do"},
	{"quota",
	 "the key is good, but its account has nothing left: add credit, or raise its limit"},
	{"rate_limit", "the key is good, but too much is asked of it just now: try again later"},
	{"not_found",
	 "check base_url: it ends where /models begins, most often with /v1; check provider too"},
	{"invalid_request",
	 "check provider and base_url: this endpoint does not understand its questions"},
	{"timeout",
	 "check base_url and that the server is up; behind a firewall packets get lost like that"},
	{"network",
	 "check host and port of base_url, and that the server is up and reachable from here"},
	{"egress", "addresses that are not public must stand in TOLLGATE_EGRESS_ALLOW, such as "
		   "127.0.0.1/32:8000; the service's own rule holds here too"},
	{"redirect", "write into base_url where the endpoint really is"},
	{"protocol", "check provider and base_url: something else answers there"},
	{"overloaded", "the provider is overloaded: try again later"},
	{"server_error", "the provider is in trouble: try again later"},
	{"bad_base_url",
	 "write it like https://host/v1, without name, password, query or fragment"},
	{"not_supported", "this version cannot ask this provider"},
	{"model_not_listed", "correct model_id, or ask the provider for access to it"},
	{"needs_reconfiguration", "connect it anew: its stored key does not open"},
};

static struct str with_page(struct arena *mem, const struct provider *p, struct str hint)
{
	if (!p || !p->key_page)
		return hint;
	return arena_printf(mem, "%.*s (%s)", STR_FMT(hint), p->key_page);
}

struct str check_hint(struct arena *mem, const struct provider *p, struct str reason,
		      const char *place)
{
	if (str_is(reason, "auth"))
		return with_page(mem, p,
				 arena_printf(mem,
					      "the key is wrong or revoked: make a new one and %s",
					      place));
	for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
		if (!str_is(reason, hints[i].reason))
			continue;
		if (str_is(reason, "permission") || str_is(reason, "quota"))
			return with_page(mem, p, str_from(hints[i].hint));
		return str_from(hints[i].hint);
	}
	return STR_NULL;
}

void check_models(struct arena *mem, struct check *c, const struct str *listed, size_t count)
{
	size_t missing = 0;

	for (size_t i = 0; i < c->models_count; i++) {
		struct check_model *m = &c->models[i];

		m->listed = LISTED_NO;
		for (size_t k = 0; k < count && m->listed == LISTED_NO; k++)
			if (str_eq(listed[k], m->id))
				m->listed = LISTED_YES;
		missing += m->listed == LISTED_NO;
	}
	if (missing == 0 || !c->ok)
		return;
	c->ok = false;
	c->reason = STR("model_not_listed");
	c->words = arena_printf(mem,
				"the key is good, but the endpoint does not list %zu of the %zu "
				"models that are wanted of it",
				missing, c->models_count);
	c->hint = check_hint(mem, c->provider, c->reason, "");
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void put_text(struct json_out *o, const char *key, struct str s)
{
	json_put_str(o, key, s.len ? s : STR_NULL);
}

static void put_model(struct json_out *o, const struct check_model *m)
{
	json_obj(o, NULL);
	json_put_str(o, "model", m->id);
	if (m->listed == LISTED_UNKNOWN)
		json_put_null(o, "listed");
	else
		json_put_bool(o, "listed", m->listed == LISTED_YES);
	json_arr(o, "used_by");
	for (size_t i = 0; i < m->used_by_count; i++)
		json_put_str(o, NULL, m->used_by[i]);
	json_arr_end(o);
	json_obj_end(o);
}

static void put_check(struct json_out *o, const struct check *c)
{
	json_obj(o, NULL);
	if (c->org.len)
		json_put_str(o, "org", c->org);
	json_put_str(o, "name", c->name);
	json_put_str(o, "provider", c->provider_id);
	put_text(o, "base_url", c->base_url);
	json_put_bool(o, "ok", c->ok);
	put_text(o, "reason", c->reason);
	put_text(o, "message", c->words);
	put_text(o, "hint", c->hint);
	json_put_z(o, "key_page", c->provider ? c->provider->key_page : NULL);
	if (c->latency_ms < 0)
		json_put_null(o, "latency_ms");
	else
		json_put_int(o, "latency_ms", c->latency_ms);
	json_put_int(o, "attempts", c->attempts);
	json_arr(o, "models");
	for (size_t i = 0; i < c->models_count; i++)
		put_model(o, &c->models[i]);
	json_arr_end(o);
	json_obj_end(o);
}

/* Thousandths as a decimal number of seconds. */
static void put_seconds(struct json_out *o, const char *key, int64_t ms)
{
	char text[32];

	(void)snprintf(text, sizeof text, "%lld.%03lld", (long long)ms / 1000,
		       (long long)ms % 1000);
	json_put_raw(o, key, str_from(text));
}

static void put_use(struct json_out *o, const struct connections *all,
		    const struct connection_use *u)
{
	json_obj(o, NULL);
	json_put_z(o, "kind", connection_user_name(u->user));
	put_text(o, "name", u->name);
	put_text(o, "phase", u->phase);
	json_put_str(o, "endpoint", all->endpoints[u->endpoint].name);
	json_put_str(o, "model_id", u->model);
	put_seconds(o, "timeout_s", u->tuning.timeout_ms);
	json_put_int(o, "max_retries", u->tuning.max_retries);
	put_seconds(o, "backoff_s", u->tuning.backoff_ms);
	json_obj_end(o);
}

static size_t bad_count(const struct report *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->count; i++)
		n += !r->checks[i].ok;
	return n;
}

static enum rc write_json(const struct report *r, struct buf *out)
{
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_bool(&o, "valid", bad_count(r) == 0);
	json_put_z(&o, "source", r->source);
	json_arr(&o, "endpoints");
	for (size_t i = 0; i < r->count; i++)
		put_check(&o, &r->checks[i]);
	json_arr_end(&o);
	if (r->connections) {
		json_arr(&o, "uses");
		for (size_t i = 0; i < r->connections->uses_count; i++)
			put_use(&o, r->connections, &r->connections->uses[i]);
		json_arr_end(&o);
	}
	json_obj_end(&o);
	return json_out_end(&o);
}

static void meta_begin(struct cli *cli, struct json_out *o, struct buf *out, int64_t began_ms)
{
	json_out_begin(o, out);
	json_obj(o, NULL);
	json_put_z(o, "version", cli->version);
	json_put_int(o, "duration_ms", clock_mono_ms() - began_ms);
}

static void meta_end(struct cli *cli, struct json_out *o, struct buf *out)
{
	json_obj_end(o);
	if (json_out_end(o) == RC_OK)
		cli->meta = arena_str(cli->mem, buf_str(out));
}

void report_meta(struct cli *cli, int64_t began_ms)
{
	AUTO(buf) struct buf out = BUF_INIT(1024);
	struct json_out o;

	meta_begin(cli, &o, &out, began_ms);
	meta_end(cli, &o, &out);
}

static void counts_meta(struct cli *cli, const struct report *r)
{
	AUTO(buf) struct buf out = BUF_INIT(1024);
	size_t models = 0, missing = 0;
	struct json_out o;

	for (size_t i = 0; i < r->count; i++) {
		models += r->checks[i].models_count;
		for (size_t k = 0; k < r->checks[i].models_count; k++)
			missing += r->checks[i].models[k].listed == LISTED_NO;
	}
	meta_begin(cli, &o, &out, r->began_ms);
	json_obj(&o, "counts");
	json_put_int(&o, "endpoints", (int64_t)r->count);
	json_put_int(&o, "ok", (int64_t)(r->count - bad_count(r)));
	json_put_int(&o, "failed", (int64_t)bad_count(r));
	json_put_int(&o, "models", (int64_t)models);
	json_put_int(&o, "models_missing", (int64_t)missing);
	json_obj_end(&o);
	meta_end(cli, &o, &out);
}

/* ---- for a person -------------------------------------------------------------------------------------- */

struct page { /* text and its first failure */
	struct buf *out;
	enum rc rc;
};

static void say(struct page *p, const char *z)
{
	if (p->rc == RC_OK)
		p->rc = buf_append(p->out, str_from(z));
}

/* C0, DEL, and C1 in its UTF-8 form become '?'. */
static void say_clean(struct page *p, struct str s)
{
	for (size_t i = 0; i < s.len && p->rc == RC_OK; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool c1 = c == 0xc2 && i + 1 < s.len && (unsigned char)s.ptr[i + 1] < 0xa0;

		p->rc = buf_append_char(p->out, c1 || c < 0x20 || c == 0x7f ? '?' : (char)c);
		i += c1;
	}
}

static void say_line(struct page *p, const char *before, struct str s)
{
	if (s.len == 0)
		return;
	say(p, before);
	say_clean(p, s);
	say(p, "\n");
}

static void say_model(struct page *p, const struct check_model *m)
{
	say(p, m->listed == LISTED_YES	? "         listed      "
	       : m->listed == LISTED_NO ? "         NOT LISTED  "
					: "         not known   ");
	say_clean(p, m->id);
	for (size_t i = 0; i < m->used_by_count; i++) {
		say(p, i ? ", " : "  <- ");
		say_clean(p, m->used_by[i]);
	}
	say(p, "\n");
}

static void say_check(struct page *p, const struct check *c)
{
	char text[64];

	say(p, c->ok ? "[ ok ]  " : "[FAIL]  ");
	if (c->org.len) {
		say_clean(p, c->org);
		say(p, "/");
	}
	say_clean(p, c->name);
	say(p, "  ");
	say_clean(p, c->provider_id);
	say(p, c->base_url.len ? "  " : "");
	say_clean(p, c->base_url);
	if (c->latency_ms >= 0) {
		(void)snprintf(text, sizeof text, "  %lld ms", (long long)c->latency_ms);
		say(p, text);
	}
	if (c->attempts > 1) {
		(void)snprintf(text, sizeof text, ", %lld attempts", (long long)c->attempts);
		say(p, text);
	}
	say(p, "\n");
	say_line(p, "         what: ", c->reason);
	say_line(p, "         why:  ", c->words);
	say_line(p, "         fix:  ", c->hint);
	for (size_t i = 0; i < c->models_count; i++)
		say_model(p, &c->models[i]);
}

static enum rc write_human(const struct report *r, struct buf *out)
{
	struct page p = {.out = out};
	char text[96];

	for (size_t i = 0; i < r->count; i++)
		say_check(&p, &r->checks[i]);
	(void)snprintf(text, sizeof text, "%zu checked, %zu good, %zu bad\n", r->count,
		       r->count - bad_count(r), bad_count(r));
	say(&p, text);
	return p.rc;
}

int report_print(struct cli *cli, const struct report *r)
{
	AUTO(buf) struct buf json = BUF_INIT(REPORT_BYTES_MAX);
	AUTO(buf) struct buf human = BUF_INIT(REPORT_BYTES_MAX);
	int status;

	counts_meta(cli, r);
	if (write_json(r, &json) != RC_OK || write_human(r, &human) != RC_OK) {
		struct err e = {0};

		err_set(&e, RC_TOO_LARGE, "too_large", "the report is too large to print");
		return cli_error(cli, CLI_FAILED, &e);
	}
	status = cli_data(cli, buf_str(&json), human.ptr);
	return status == CLI_OK && bad_count(r) > 0 ? CLI_FAILED : status;
}
