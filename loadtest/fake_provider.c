/* loadtest/fake_provider.c - a provider that speaks every dialect and does what it is told.
 *
 *   fake_provider --listen 127.0.0.1:0 [--log FILE]
 *
 * Its answers and its usage follow from the request alone, so a test can compute every bill. Below
 * /PROVIDER_ID it stands for that provider (vendors.c). It can be slow, fail, rate-limit,
 * lie and break off; README.md lists the words it understands. This file has the connections, the
 * log, the control and the list of what is served; speak_*.c the dialects, ask.c what is answered,
 * wire.c how it is sent, record.c what was asked.
 *
 * One thread, one epoll. A waiting call is a timer, so a slow answer never holds up another one.
 * It must never be reachable from beside this machine: it has no limits worth the name.
 *
 * Read it from the end: main(), loop(), conn_run(), call_begin(); then call_step() of wire.c. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "fake.h"
#include "record.h"
#include "vendors.h"

#define BODY_BYTES_MAX (64 * 1024 * 1024) /* twice the service's own default */
#define LOG_BYTES_MAX  (64 * 1024 * 1024) /* of GET /_log; later calls are only counted */
#define CUT_DELAY_MS   5		  /* lets the peer read what came before the reset */

static int epoll_fd;
static struct conn **timers; /* a heap by due_us, from 1 */
static size_t timer_count, timer_room;
static struct conn *conns;
static struct conn *dead;
static int log_fd = -1;
static struct text log_pending, log_kept;
static uint64_t calls_count, models_count, finished_count, failed_count, log_dropped, in_flight;
static volatile sig_atomic_t stopping;

/* --- timers ---------------------------------------------------------------------------------------- */

static void timer_place(struct conn *c, size_t at)
{
	timers[at] = c;
	c->timer_at = at;
}

static void timer_sift(struct conn *c, size_t at)
{
	while (at > 1 && timers[at / 2]->due_us > c->due_us) {
		timer_place(timers[at / 2], at);
		at /= 2;
	}
	for (;;) {
		size_t child = at * 2;

		if (child > timer_count)
			break;
		if (child < timer_count && timers[child + 1]->due_us < timers[child]->due_us)
			child++;
		if (timers[child]->due_us >= c->due_us)
			break;
		timer_place(timers[child], at);
		at = child;
	}
	timer_place(c, at);
}

static void timer_stop(struct conn *c)
{
	struct conn *moved;

	if (c->timer_at == 0)
		return;
	moved = timers[timer_count--];
	if (moved != c)
		timer_sift(moved, c->timer_at);
	c->timer_at = 0;
	c->due_us = 0;
}

void timer_start(struct conn *c, int64_t ms)
{
	timer_stop(c);
	if (timer_count + 2 > timer_room) {
		timer_room = timer_room > 0 ? timer_room * 2 : 1024;
		timers = realloc(timers, timer_room * sizeof(struct conn *));
		if (timers == NULL)
			die("out of memory");
	}
	c->due_us = now_us() + (uint64_t)(ms > 0 ? ms : 0) * 1000;
	timer_sift(c, ++timer_count);
}

/* --- the log --------------------------------------------------------------------------------------- */

static void log_flush(void)
{
	size_t sent = 0;

	while (log_fd >= 0 && sent < log_pending.len) {
		ssize_t n = write(log_fd, log_pending.at + sent, log_pending.len - sent);

		if (n < 0 && errno != EINTR)
			die("cannot write the log: %s", strerror(errno));
		sent += n > 0 ? (size_t)n : 0;
	}
	log_pending.len = 0;
}

static void log_field(struct text *t, const char *name, const char *value)
{
	text_f(t, ",\"%s\":", name);
	text_json(t, value, strlen(value));
}

/* One line for a call that is over, whichever way. */
static void call_log(const struct call *k, bool finished)
{
	struct text t = {0};
	size_t key_len = strlen(k->key);

	text_f(&t, "{\"path\":\"%s\"", k->path);
	log_field(&t, "request_id", k->request_id);
	log_field(&t, "idempotency_key", k->idempotency_key);
	log_field(&t, "id", k->id);
	log_field(&t, "model", k->model);
	log_field(&t, "key", key_len > 8 ? k->key + key_len - 8 : k->key);
	log_field(&t, "tag", k->plan.tag);
	text_f(&t,
	       ",\"stream\":%s,\"status\":%d,\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
	       "\"cached_tokens\":%lld,\"reasoning_tokens\":%lld,\"chunks\":%lld,"
	       "\"body_bytes\":%zu,\"ms\":%llu,\"finished\":%s}",
	       k->stream ? "true" : "false", k->status, (long long)k->prompt_tokens,
	       (long long)k->completion_tokens, (long long)k->plan.cached,
	       (long long)k->plan.reasoning, (long long)k->step, k->body_bytes,
	       (unsigned long long)((now_us() - k->began_us) / 1000), finished ? "true" : "false");
	if (log_kept.len + t.len < LOG_BYTES_MAX)
		text_f(&log_kept, "%s%s", log_kept.len > 0 ? ",\n" : "", t.at);
	else
		log_dropped++;
	if (log_fd >= 0)
		text_f(&log_pending, "%s\n", t.at);
	text_clear(&t);
}

static void call_end(struct conn *c, bool finished)
{
	struct call *k = &c->call;

	if (!k->active)
		return;
	call_log(k, finished);
	*(finished ? &finished_count : &failed_count) += 1;
	in_flight--;
	k->active = false;
	text_clear(&k->head);
	text_clear(&k->kept);
	text_clear(&k->thoughts.text);
	text_clear(&k->answer.text);
	for (int64_t i = 0; i < k->tool_count; i++)
		text_clear(&k->tools[i].arguments.text);
}

#define OF_RESPONSES                                                                               \
	"openai azure_openai openrouter grok openai_compatible vllm ollama lm_studio llama_cpp"

/* --- requests --------------------------------------------------------------------------------------------- */

static void header_copy(const struct conn *c, const char *name, char *to, size_t size)
{
	struct span v;

	if (to[0] == 0 && http_header(&c->head, name, &v))
		span_copy(v, to, size);
}

/* The key, in whichever header; false: missing or one of the keys this provider does not know. */
static bool key_read(struct conn *c)
{
	static const char *const names[] = {"x-api-key", "x-goog-api-key", "xi-api-key", "api-key"};
	char *key = c->call.key;
	struct span v;

	if (http_header(&c->head, "Authorization", &v) && v.len >= 8 &&
	    span_is_nocase((struct span){v.at, 7}, "Bearer "))
		span_copy((struct span){v.at + 7, v.len - 7}, key, sizeof(c->call.key));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		header_copy(c, names[i], key, sizeof(c->call.key));
	return key[0] != 0 && strcmp(key, "bad") != 0 && strncmp(key, "bad-", 4) != 0;
}

/* The path as the log shows it: without quotes, and without a key. */
static void path_copy(struct span path, char *to, size_t size)
{
	span_copy(path, to, size);
	for (char *p = to; *p != 0; p++)
		if (*p == '"' || *p == '\\')
			*p = '_';
	if (strstr(to, "key=") != NULL)
		*strchr(to, '?') = 0;
}

/* The endpoints that are called. `*` stands for one segment of the path. */
static const struct route {
	const char *method, *path;
	const struct speaker *speaker;
	int verb;
	const char *vendors; /* who has it; NULL: all who have no other */
} routes[] = {
	{"POST", "/chat/completions", &speak_chat, 0, NULL},
	{"POST", "/messages", &speak_anthropic, ANTHROPIC_MESSAGES,
	 "anthropic openrouter grok deepseek kimi ollama lm_studio llama_cpp"},
	{"POST", "/messages/count_tokens", &speak_anthropic, ANTHROPIC_COUNT, "anthropic"},
	{"POST", "/models/*", &speak_gemini, 0, "gemini"},
	{"POST", "/responses", &speak_responses, RESPONSES_CREATE, OF_RESPONSES},
	{"POST", "/responses/input_tokens", &speak_responses, RESPONSES_COUNT, "openai"},
	{"POST", "/responses/*/cancel", &speak_responses, RESPONSES_CANCEL, OF_RESPONSES},
	{"GET", "/responses/*", &speak_responses, RESPONSES_GET, OF_RESPONSES},
	{"DELETE", "/responses/*", &speak_responses, RESPONSES_DELETE, OF_RESPONSES},
	{"POST", "/embeddings", &speak_vectors, 0, NULL},
	{"POST", "/audio/speech", &speak_voice, VOICE_SPEECH, NULL},
	{"POST", "/audio/transcriptions", &speak_voice, VOICE_TRANSCRIPTION, NULL},
	{"POST", "/text-to-speech/*", &speak_voice, VOICE_ELEVEN, "elevenlabs"},
	{"POST", "/text-to-speech/*/stream", &speak_voice, VOICE_ELEVEN_STREAM, "elevenlabs"},
	{"POST", "/speech-to-text", &speak_voice, VOICE_ELEVEN_TEXT, "elevenlabs"},
};

static bool path_matches(struct span path, const char *pattern)
{
	size_t i = 0;

	while (i < path.len && *pattern != 0) {
		if (*pattern == '*') {
			while (i < path.len && path.at[i] != '/')
				i++;
		} else if (*pattern != path.at[i++]) {
			return false;
		}
		pattern++;
	}
	return i == path.len && *pattern == 0;
}

static const struct route *route_of(struct span method, struct span path, const char *vendor)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
		const struct route *r = &routes[i];
		const char *others = vendor[0] == 0 ? "" : r->vendors != NULL ? r->vendors : NULL;

		if (!span_is(method, r->method) || !path_matches(path, r->path))
			continue;
		if (others == NULL ? !word_among(vendor, "anthropic elevenlabs")
				   : vendor[0] == 0 || word_among(vendor, others))
			return r;
	}
	return NULL;
}

/* Without a PROVIDER_ID a path stands for the provider whose dialect it is; chat completions, embeddings
 * and sounds for an endpoint that minds nothing. */
static const char *vendor_by_dialect(const struct route *r)
{
	if (r->speaker == &speak_anthropic)
		return "anthropic";
	if (r->speaker == &speak_gemini)
		return "gemini";
	if (r->speaker == &speak_responses)
		return "openai";
	return r->vendors != NULL ? "elevenlabs" : "";
}

/* Gemini has no 401 for it. */
static void refuse_key(struct call *k)
{
	if (k->speaker == &speak_gemini)
		refuse(k, 400, "INVALID_ARGUMENT", "API_KEY_INVALID", NULL,
		       "API key not valid. Please pass a valid API key.");
	else
		k->plan.status = 401;
}

static void call_begin(struct conn *c, const struct route *r, const struct vendor_answer *of)
{
	struct call *k = &c->call;
	bool has_json = span_is(c->head.start[0], "POST");
	yyjson_doc *doc;
	struct span v;

	calls_count++;
	in_flight++;
	*k = (struct call){.active = true, .speaker = r->speaker, .verb = r->verb, .block = -1};
	k->plan = plan_none();
	k->began_us = now_us();
	k->choices = 1;
	k->finish = "stop";
	k->vendor = of != NULL ? of->vendor : vendor_by_dialect(r);
	k->created = (int64_t)time(NULL);
	k->body_bytes = c->body.len;
	k->number = calls_count;
	snprintf(k->id, sizeof(k->id), "chatcmpl-fake%llu", (unsigned long long)calls_count);
	path_copy(c->head.start[1], k->path, sizeof(k->path));
	header_copy(c, "x-client-request-id", k->request_id, sizeof(k->request_id));
	header_copy(c, "x-request-id", k->request_id, sizeof(k->request_id));
	header_copy(c, "idempotency-key", k->idempotency_key, sizeof(k->idempotency_key));
	if (http_header(&c->head, "Content-Type", &v) && v.len > 10 &&
	    span_is_nocase((struct span){v.at, 10}, "multipart/"))
		has_json = false;
	doc = has_json ? yyjson_read(c->body.at, c->body.len, 0) : NULL;
	if (of != NULL)
		span_copy(span_z(of->key), k->key, sizeof(k->key));
	if (of == NULL && !key_read(c))
		refuse_key(k);
	else if (has_json && !yyjson_is_obj(yyjson_doc_get_root(doc)))
		k->plan.status = 400;
	else
		k->speaker->read(c, yyjson_doc_get_root(doc));
	yyjson_doc_free(doc);
	if (k->plan.delay_ms > 0)
		timer_start(c, k->plan.delay_ms);
}

static void models_answer(struct conn *c, struct span one)
{
	static const char *const models[] = {"demo-model",  "demo-model-b", "demo-reasoner",
					     "gpt-4o-mini", "gpt-5-mini",   "gpt-5.4-mini"};
	struct text t = {0};

	models_count++;
	c->call = (struct call){.plan = plan_none(), .vendor = ""};
	if (!key_read(c)) {
		speak_chat.error(&t, &c->call, 401);
		answer(c, 401, "application/json", (struct span){t.at, t.len});
		text_clear(&t);
		return;
	}
	if (one.len == 0)
		text_z(&t, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
		if (one.len == 0 || span_is(one, models[i]))
			text_f(&t,
			       "%s{\"id\":\"%s\",\"object\":\"model\",\"created\":1770000000,"
			       "\"owned_by\":\"fake\"}",
			       i > 0 && one.len == 0 ? "," : "", models[i]);
	if (one.len == 0)
		text_z(&t, "]}");
	if (t.len == 0)
		speak_chat.error(&t, &c->call, 404);
	answer(c, t.at[2] == 'e' ? 404 : 200, "application/json", (struct span){t.at, t.len});
	text_clear(&t);
}

static void stats_answer(struct conn *c)
{
	struct text t = {0};

	text_f(&t,
	       "{\"calls\":%llu,\"models\":%llu,\"in_flight\":%llu,\"finished\":%llu,"
	       "\"unfinished\":%llu,\"log_dropped\":%llu}\n",
	       (unsigned long long)calls_count, (unsigned long long)models_count,
	       (unsigned long long)in_flight, (unsigned long long)finished_count,
	       (unsigned long long)failed_count, (unsigned long long)log_dropped);
	answer(c, 200, "application/json", (struct span){t.at, t.len});
	text_clear(&t);
}

static void log_answer(struct conn *c)
{
	struct text t = {0};

	text_z(&t, "[");
	text_add(&t, log_kept.at, log_kept.len);
	text_z(&t, "]\n");
	answer(c, 200, "application/json", (struct span){t.at, t.len});
	text_clear(&t);
}

/* What the requests looked like on the wire, for tests of what a provider gets to see. */
static void record_answer(struct conn *c, void (*write)(struct text *t))
{
	struct text t = {0};

	write(&t);
	answer(c, 200, "application/json", (struct span){t.at, t.len});
	text_clear(&t);
}

static void request_keep(const struct conn *c, bool is_last)
{
	record_keep((struct span){c->in.at, c->head.size},
		    (struct span){c->body.at != NULL ? c->body.at : "", c->body.len}, is_last);
}

static void control_answer(struct conn *c, bool ok)
{
	answer(c, ok ? 200 : 400, "application/json",
	       span_z(ok ? "{\"ok\":true}\n" : "{\"ok\":false}\n"));
}

static void probe_answer(struct conn *c, struct vendor_answer *a)
{
	models_count++;
	text_f(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s%s%s\r\n",
	       a->status, reason_of(a->status), a->type, a->body.len,
	       a->location != NULL ? "Location: " : "", a->location != NULL ? a->location : "",
	       a->location != NULL ? "\r\n" : "", c->close_after ? "Connection: close\r\n" : "");
	text_add(&c->out, a->body.at != NULL ? a->body.at : "", a->body.len);
	text_clear(&a->body);
}

/* What is asked of a provider: a probe or a call, below its PROVIDER_ID or not. False: neither. */
static bool provider_served(struct conn *c, struct span path, struct span query)
{
	struct vendor_answer a;
	const struct route *r;

	switch (vendor_serve(&c->head, path, query,
			     (struct span){c->body.at != NULL ? c->body.at : "", c->body.len},
			     &a)) {
	case VENDOR_ANSWERED:
		request_keep(c, true);
		probe_answer(c, &a);
		return true;
	case VENDOR_CALL:
		r = route_of(c->head.start[0], a.path, a.vendor);
		break;
	default:
		if (path.len > 7 && memcmp(path.at, "/v1beta/", 8) == 0)
			path = (struct span){path.at + 7, path.len - 7};
		else if (path.len > 3 && memcmp(path.at, "/v1/", 4) == 0)
			path = (struct span){path.at + 3, path.len - 3};
		r = route_of(c->head.start[0], path, "");
		a.vendor = NULL;
	}
	if (r == NULL)
		return false;
	request_keep(c, true);
	call_begin(c, r, a.vendor != NULL ? &a : NULL);
	return true;
}

/* What is asked of this program itself. */
static bool control_served(struct conn *c, struct span path)
{
	struct span method = c->head.start[0];
	bool is_get = span_is(method, "GET");
	bool is_delete = span_is(method, "DELETE");

	if (is_get && span_is(path, "/_stats")) {
		stats_answer(c);
	} else if (is_get && span_is(path, "/_log")) {
		log_answer(c);
	} else if (is_get && span_is(path, "/_last")) {
		record_answer(c, record_last);
	} else if (is_get && span_is(path, "/_calls")) {
		record_answer(c, record_all);
	} else if (span_is(method, "POST") && span_is(path, "/_control")) {
		control_answer(c, rule_add((struct span){c->body.at, c->body.len}));
	} else if (is_delete && span_is(path, "/_control")) {
		rules_clear();
		control_answer(c, true);
	} else if (is_delete && span_is(path, "/_log")) {
		log_kept.len = 0;
		log_dropped = calls_count = models_count = finished_count = failed_count = 0;
		record_clear();
		responses_forget();
		control_answer(c, true);
	} else {
		return false;
	}
	return true;
}

static void request_serve(struct conn *c)
{
	struct span path = c->head.start[1];
	const char *query = memchr(path.at, '?', path.len);
	struct span asked = {"", 0};
	bool is_get = span_is(c->head.start[0], "GET");

	if (query != NULL) {
		asked = (struct span){query + 1, path.len - (size_t)(query + 1 - path.at)};
		path.len = (size_t)(query - path.at);
	}
	if (is_get && (span_is(path, "/v1/models") || span_is(path, "/models"))) {
		request_keep(c, false);
		models_answer(c, (struct span){"", 0});
	} else if (is_get && path.len > 11 && memcmp(path.at, "/v1/models/", 11) == 0) {
		request_keep(c, false);
		models_answer(c, (struct span){path.at + 11, path.len - 11});
	} else if (!control_served(c, path) && !provider_served(c, path, asked)) {
		answer(c, 404, "application/json",
		       span_z("{\"error\":{\"message\":\"no such path\",\"type\":"
			      "\"invalid_request_error\",\"param\":null,\"code\":null}}"));
	}
}

/* --- connections -------------------------------------------------------------------------------------------- */

static void conn_watch(struct conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (c->events == events)
		return;
	if (epoll_ctl(epoll_fd, c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("cannot watch a connection: %s", strerror(errno));
	c->events = events;
}

/* The memory goes once the events of this turn have been seen. */
static void conn_close(struct conn *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (c->gone)
		return;
	c->gone = true;
	call_end(c, false);
	timer_stop(c);
	if (c->reset_after)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->next = dead;
	dead = c;
}

static void dead_free(void)
{
	while (dead != NULL) {
		struct conn *c = dead;

		dead = c->next;
		text_clear(&c->in);
		text_clear(&c->out);
		text_clear(&c->body);
		free(c);
	}
}

/* Send what is queued. False: the socket is full (or gone), or the call dribbles. */
static bool conn_flush(struct conn *c)
{
	int64_t dribble = c->call.active ? c->call.plan.dribble : 0;

	while (c->out_sent < c->out.len) {
		size_t n = c->out.len - c->out_sent;
		ssize_t sent;

		if (dribble > 0 && n > (size_t)dribble)
			n = (size_t)dribble;
		sent = send(c->fd, c->out.at + c->out_sent, n, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			conn_watch(c, EPOLLIN | EPOLLOUT);
			return false;
		}
		if (sent < 0) {
			conn_close(c);
			return false;
		}
		c->out_sent += (size_t)sent;
		if (dribble > 0 && c->out_sent < c->out.len) {
			timer_start(c, 1);
			return false;
		}
	}
	c->out_sent = 0;
	c->out.len = 0;
	conn_watch(c, EPOLLIN);
	return true;
}

/* Take the next request from what has come in. False: not all there. */
static bool request_take(struct conn *c)
{
	struct span v;
	int there;

	if (!c->in_body) {
		there = http_head_parse((struct span){c->in.at, c->in.len}, &c->head);
		if (there < 0)
			conn_close(c);
		if (there <= 0)
			return false;
		http_body_start(&c->reading, &c->head, false);
		c->in_body = true;
		c->body.len = 0;
		if (http_header(&c->head, "Expect", &v))
			text_z(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	} else {
		/* the buffer may have moved: the head's spans point into it */
		(void)http_head_parse((struct span){c->in.at, c->in.len}, &c->head);
	}
	if (!c->reading.done) {
		struct span rest = {c->in.at + c->head.size, c->in.len - c->head.size};
		size_t n = http_body_feed(&c->reading, rest, &c->body);

		memmove(c->in.at + c->head.size, rest.at + n, rest.len - n);
		c->in.len -= n;
		if (c->reading.bad || c->body.len > BODY_BYTES_MAX)
			conn_close(c);
		if (!c->reading.done)
			return false;
	}
	c->in_body = false;
	c->close_after = c->head.close;
	return true;
}

/* Do what can be done now: send, go on with the call, take the next request. */
static void conn_run(struct conn *c)
{
	while (!c->gone && c->due_us == 0 && conn_flush(c)) {
		if (c->call.active && c->call.ended) {
			if (c->reset_after && !c->call.answered) {
				c->call.answered = true;
				timer_start(c, CUT_DELAY_MS);
				return;
			}
			call_end(c, c->call.plan.cut_after == NO);
		} else if (c->call.active) {
			call_step(c);
			continue;
		}
		if (c->close_after && !c->in_body) {
			conn_close(c);
			return;
		}
		if (c->in.len == 0 || !request_take(c)) {
			if (!c->gone && c->out.len > 0)
				continue; /* 100 Continue */
			return;
		}
		request_serve(c);
		text_drop(&c->in, c->head.size);
		if (!c->call.active && c->close_after) {
			if (conn_flush(c))
				conn_close(c);
			return;
		}
		c->close_after = c->call.active && c->close_after;
	}
}

static void conn_readable(struct conn *c)
{
	char bytes[65536];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), 0);

	if (n > 0) {
		text_add(&c->in, bytes, (size_t)n);
		if (c->in.len > BODY_BYTES_MAX)
			conn_close(c);
	} else if (n == 0 || errno != EAGAIN) {
		conn_close(c); /* nobody is left to answer to */
	}
}

static void accept_all(int listener)
{
	int on = 1;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));

		if (c == NULL)
			die("out of memory");
		c->fd = fd;
		c->next = conns;
		c->link = &conns;
		if (conns != NULL)
			conns->link = &c->next;
		conns = c;
		c->call = (struct call){.plan = plan_none(), .vendor = ""};
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		conn_watch(c, EPOLLIN);
	}
}

static void timers_run(void)
{
	uint64_t now = now_us();

	while (timer_count > 0 && timers[1]->due_us <= now) {
		struct conn *c = timers[1];

		timer_stop(c);
		conn_run(c);
	}
}

static int wait_ms(void)
{
	uint64_t now;

	if (timer_count == 0)
		return 1000;
	now = now_us();
	if (timers[1]->due_us <= now)
		return 0;
	return (int)((timers[1]->due_us - now) / 1000) + 1;
}

static void loop(int listener)
{
	struct epoll_event events[256];
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev) < 0)
		die("cannot make an epoll: %s", strerror(errno));
	while (!stopping) {
		int n = epoll_wait(epoll_fd, events, sizeof(events) / sizeof(*events), wait_ms());

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c == NULL) {
				accept_all(listener);
				continue;
			}
			if (!c->gone && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
				conn_readable(c);
			if (!c->gone)
				conn_run(c);
		}
		timers_run();
		log_flush();
		dead_free();
	}
}

/* As many connections as the machine allows. */
static void files_raise(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void on_signal(int signo)
{
	stopping = 1;
}

int main(int argc, char **argv)
{
	const char *address = "127.0.0.1:0";
	const char *log_path = NULL;
	struct sigaction act = {.sa_handler = on_signal};
	char shown[64];
	int listener;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--listen") == 0 && i + 1 < argc)
			address = argv[++i];
		else if (strcmp(argv[i], "--log") == 0 && i + 1 < argc)
			log_path = argv[++i];
		else
			die("usage: fake_provider [--listen HOST:PORT] [--log FILE]");
	}
	if (log_path != NULL) {
		log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (log_fd < 0)
			die("cannot open %s: %s", log_path, strerror(errno));
	}
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	files_raise();
	listener = listen_on(address, shown, sizeof(shown));
	printf("listening %s\n", shown);
	fflush(stdout);
	loop(listener);
	while (conns != NULL)
		conn_close(conns);
	dead_free();
	log_flush();
	rules_clear();
	text_clear(&log_pending);
	text_clear(&log_kept);
	record_clear();
	responses_forget();
	free(timers);
	return 0;
}
