/* routing/probe.c - is this endpoint there, and does it take this key?
 *
 * One GET of the provider's model listing: free of charge everywhere. Of the answer only the ids are kept. */
#include <stdio.h>
#include <stdlib.h>

#include "routing/dialect.h"
#include "routing/routing_priv.h"
#include "routing/upstream.h"
#include "server/base/clock.h"

#define PROBE_BODY_MAX (4u << 20)

struct probe {
	struct worker *worker;
	struct arena *mem;
	const struct profile *profile;
	struct candidate target;
	struct curlm_call *up;
	struct secret_mark mark; /* an endpoint may say the key back */
	struct buf body;
	int status;
	int64_t sent_ms;
	probe_cb *cb;
	void *arg;
};

static void on_head(void *arg, const struct curlm_response *r)
{
	((struct probe *)arg)->status = r->status;
}

static bool on_body(void *arg, struct str bytes)
{
	struct probe *p = arg;

	return buf_append(&p->body, bytes) == RC_OK; /* past the cap curlm ends it */
}

static void read_models(struct probe *p, const struct json *doc, struct probe_result *res)
{
	const struct json *data = json_get(doc, "data");
	struct str *list = ARENA_ARRAY(p->mem, struct str, ROUTING_LISTED_MAX);
	struct json_iter it = json_iter(data);
	struct json *item;
	struct str id;

	while (json_next(&it, NULL, &item) && res->models_count < ROUTING_LISTED_MAX)
		if (json_string(json_get(item, "id"), &id) && id.len > 0 && id.len <= 256)
			list[res->models_count++] = arena_str(p->mem, id);
	res->models = list;
	res->ok = true;
}

static const char *reason_of(enum rc rc)
{
	return rc == RC_TIMEOUT				 ? "timeout"
	       : rc == RC_PROTOCOL || rc == RC_TOO_LARGE ? "protocol"
							 : "network";
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct probe *p = arg;
	struct probe_result res = {.status = p->status, .latency_ms = clock_mono_ms() - p->sent_ms};
	struct err words = {0};
	struct json *doc;

	p->up = NULL;
	secret_redact(&p->mark, p->body.ptr, p->body.len);
	if (rc != RC_OK) {
		res.reason = reason_of(rc);
		res.words = arena_str(p->mem, str_from(err ? err->message : rc_name(rc)));
	} else if (p->status / 100 != 2) {
		enum error_class class = p->profile->provider->dialect->classify(
			p->status, buf_str(&p->body), p->mem, &words);

		res.reason = error_class_name(class);
		res.words = arena_printf(p->mem, "the endpoint answered %d: %s", p->status,
					 words.message);
	} else if (json_parse(buf_str(&p->body), JSON_ALLOW_DUPLICATES, p->mem, &doc, &words) !=
			   RC_OK ||
		   json_type(json_get(doc, "data")) != JSON_ARRAY) {
		res.reason = "protocol";
		res.words = STR("the endpoint answered, but not with a list of models");
	} else {
		read_models(p, doc, &res);
	}
	p->cb(p->arg, &res);
	probe_cancel(p);
}

struct probe *probe_start(struct worker *w, const struct profile *profile,
			  const struct secret *secret, struct arena *mem, probe_cb *cb, void *arg)
{
	const struct curlm_handlers h = {on_head, on_body, on_done, NULL};
	struct probe *p = calloc(1, sizeof *p);
	struct curlm_handlers mine = h;

	if (!p)
		abort();
	*p = (struct probe){.worker = w,
			    .mem = mem,
			    .profile = profile,
			    .cb = cb,
			    .arg = arg,
			    .mark = secret_mark(secret),
			    .sent_ms = clock_mono_ms()};
	p->body = BUF_INIT(PROBE_BODY_MAX);
	p->target = (struct candidate){.profile = profile, .provider = profile->provider};
	mine.arg = p;
	struct upstream_request u = {
		.target = &p->target,
		.path = str_from(profile->provider->path_models),
		.secret = secret,
		.timeouts = {.connect = 5000,
			     .first_byte = ROUTING_PROBE_MS,
			     .idle = ROUTING_PROBE_MS,
			     .total = ROUTING_PROBE_MS},
		.body_bytes_max = PROBE_BODY_MAX,
	};
	p->up = upstream_start(w->curlm, &u, &mine, mem);
	return p;
}

void probe_cancel(struct probe *p)
{
	if (!p)
		return;
	if (p->up)
		curlm_cancel(p->up);
	buf_clear(&p->body);
	free(p);
}
