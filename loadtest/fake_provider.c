/* loadtest/fake_provider.c - a provider that speaks OpenAI chat and does what it is told.
 *
 *   fake_provider --listen 127.0.0.1:0 [--log FILE]
 *
 * Its answers and its usage follow from the request alone, so a test can compute every bill. The probes of
 * all other providers are answered below /PROVIDER_ID (vendors.c). It can be slow, fail, rate-limit, lie and break off; README.md lists the words it understands.
 *
 * One thread, one epoll. A waiting call is a timer, so a slow answer never holds up another one.
 * It must never be reachable from beside this machine: it has no limits worth the name.
 *
 * Read it from the end: main(), loop(), conn_run(), call_begin(), call_step(). */
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
#include <yyjson.h>
#include "common.h"
#include "vendors.h"

#define OUT_BYTES_HIGH	    (64 * 1024)	       /* a stream pauses while this much is unsent */
#define BODY_BYTES_MAX	    (64 * 1024 * 1024) /* twice the service's own default */
#define LOG_BYTES_MAX	    (64 * 1024 * 1024) /* of GET /_log; later calls are only counted */
#define ECHO_WORDS_MAX	    100
#define DIRECTIVE_BYTES_MAX 1024
#define RULES_MAX	    64
#define EVENTS_PER_TURN	    64
#define CUT_DELAY_MS	    5 /* lets the peer read what came before the reset */
#define NO		    INT64_MIN

/* --- what a call is told to do ------------------------------------------------------------------ */

struct plan {
	int64_t status, delay_ms, first_ms, words, chunks, chunk_ms, dribble;
	int64_t cut_after, stall_after, error_after, reasoning, cached, cache_write, tools, pad;
	char retry_after[32], retry_after_ms[32], redirect[512], usage[128], code[64], type[64];
	char cut[8], tag[64], header[256], finish[32], id[64];
	bool no_usage, usage_always, garbage, html, error_midstream, no_done, gzip, cl_te, empty;
	bool to_close, crlf, comments, extra, no_length, text, null_content;
};

/* clang-format off */
#define INT(n) {#n, 'i', offsetof(struct plan, n)}
#define TEXT(n) {#n, 's', offsetof(struct plan, n)}
#define FLAG(n) {#n, 'f', offsetof(struct plan, n)}
/* clang-format on */
static const struct {
	const char *name;
	char kind;
	size_t at;
} directives[] = {
	INT(status),
	INT(delay_ms),
	INT(first_ms),
	INT(words),
	INT(chunks),
	INT(chunk_ms),
	INT(dribble),
	INT(cut_after),
	INT(stall_after),
	INT(error_after),
	INT(reasoning),
	INT(cached),
	INT(cache_write),
	INT(tools),
	INT(pad),
	TEXT(redirect),
	TEXT(usage),
	TEXT(code),
	TEXT(type),
	TEXT(cut),
	TEXT(tag),
	TEXT(header),
	TEXT(finish),
	TEXT(id),
	FLAG(no_usage),
	FLAG(usage_always),
	FLAG(garbage),
	FLAG(html),
	FLAG(error_midstream),
	FLAG(no_done),
	FLAG(gzip),
	FLAG(cl_te),
	FLAG(empty),
	FLAG(to_close),
	FLAG(crlf),
	FLAG(comments),
	FLAG(extra),
	FLAG(no_length),
	FLAG(text),
	FLAG(null_content),
	{"retry_after", 's', offsetof(struct plan, retry_after)},
	{"retry-after", 's', offsetof(struct plan, retry_after)},
	{"retry_after_ms", 's', offsetof(struct plan, retry_after_ms)},
	{"retry-after-ms", 's', offsetof(struct plan, retry_after_ms)},
};

static size_t text_field_size(size_t at)
{
	static const struct {
		size_t at, size;
	} sizes[] = {
#define SIZE(n) {offsetof(struct plan, n), sizeof(((struct plan *)0)->n)}
		SIZE(retry_after), SIZE(retry_after_ms), SIZE(redirect), SIZE(usage),
		SIZE(code),	   SIZE(type),		 SIZE(cut),	 SIZE(tag),
		SIZE(header),	   SIZE(finish),	 SIZE(id),
	};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		if (sizes[i].at == at)
			return sizes[i].size;
	die("a text directive without a size");
}

static void plan_set(struct plan *p, struct span name, struct span value, bool has_value)
{
	char number[24];

	for (size_t i = 0; i < sizeof(directives) / sizeof(*directives); i++) {
		char *field = (char *)p + directives[i].at;

		if (!span_is(name, directives[i].name))
			continue;
		if (directives[i].kind == 'f') {
			*(bool *)(void *)field = !has_value || !span_is(value, "0");
		} else if (directives[i].kind == 's') {
			span_copy(value, field, text_field_size(directives[i].at));
		} else {
			span_copy(value, number, sizeof(number));
			*(int64_t *)(void *)field = has_value ? strtoll(number, NULL, 10) : 1;
		}
		return;
	}
}

/* name=value name=value, cut at `separator`. Unknown names are nobody's business. */
static void plan_read(struct plan *p, struct span s, char separator)
{
	while (s.len > 0) {
		const char *end = memchr(s.at, separator, s.len);
		size_t n = end != NULL ? (size_t)(end - s.at) : s.len;
		const char *eq = memchr(s.at, '=', n);
		size_t name = eq != NULL ? (size_t)(eq - s.at) : n;

		plan_set(p, (struct span){s.at, name},
			 eq != NULL ? (struct span){eq + 1, n - name - 1} : (struct span){"", 0},
			 eq != NULL);
		n += end != NULL;
		s.at += n;
		s.len -= n;
	}
}

/* Every [[...]] of a message. */
static void plan_read_message(struct plan *p, struct span s)
{
	const char *open;
	const char *close;

	while ((open = memmem(s.at, s.len, "[[", 2)) != NULL) {
		s.len -= (size_t)(open + 2 - s.at);
		s.at = open + 2;
		close = memmem(s.at, s.len, "]]", 2);
		if (close == NULL || close - s.at > DIRECTIVE_BYTES_MAX)
			return;
		plan_read(p, (struct span){s.at, (size_t)(close - s.at)}, ' ');
	}
}

static struct plan plan_none(void)
{
	return (struct plan){.words = NO,
			     .chunks = NO,
			     .cut_after = NO,
			     .stall_after = NO,
			     .error_after = NO,
			     .status = 200};
}

/* --- rules: what POST /_control said about a key or a model ---------------------------------------- */

static struct rule {
	char key[128], model[128]; /* empty: any */
	int64_t times;		   /* left; -1: until cleared */
	struct text words;	   /* directives, separated by spaces */
} rules[RULES_MAX];
static size_t rule_count;

static void rules_clear(void)
{
	for (size_t i = 0; i < rule_count; i++)
		text_clear(&rules[i].words);
	rule_count = 0;
}

static void rules_apply(struct plan *p, const char *key, const char *model)
{
	for (size_t i = 0; i < rule_count; i++) {
		struct rule *r = &rules[i];

		if (r->times == 0 || (r->key[0] != 0 && strcmp(r->key, key) != 0) ||
		    (r->model[0] != 0 && strcmp(r->model, model) != 0))
			continue;
		if (r->times > 0)
			r->times--;
		plan_read(p, (struct span){r->words.at, r->words.len}, ' ');
	}
}

static bool rule_add(struct span body)
{
	yyjson_doc *doc = yyjson_read(body.at, body.len, 0);
	yyjson_val *root = yyjson_doc_get_root(doc);
	struct rule r = {.times = 1};
	yyjson_obj_iter iter;
	yyjson_val *k;

	if (!yyjson_is_obj(root) || rule_count == RULES_MAX) {
		yyjson_doc_free(doc);
		return false;
	}
	yyjson_obj_iter_init(root, &iter);
	while ((k = yyjson_obj_iter_next(&iter)) != NULL) {
		yyjson_val *v = yyjson_obj_iter_get_val(k);
		const char *name = yyjson_get_str(k);

		if (strcmp(name, "times") == 0)
			r.times = yyjson_get_sint(v);
		else if (strcmp(name, "key") == 0 && yyjson_is_str(v))
			span_copy(span_z(yyjson_get_str(v)), r.key, sizeof(r.key));
		else if (strcmp(name, "model") == 0 && yyjson_is_str(v))
			span_copy(span_z(yyjson_get_str(v)), r.model, sizeof(r.model));
		else if (strcmp(name, "do") == 0 && yyjson_is_str(v))
			text_f(&r.words, "%s ", yyjson_get_str(v));
		else if (yyjson_is_str(v))
			text_f(&r.words, "%s=%s ", name, yyjson_get_str(v));
		else if (yyjson_is_bool(v))
			text_f(&r.words, "%s=%d ", name, yyjson_get_bool(v));
		else if (yyjson_is_int(v))
			text_f(&r.words, "%s=%lld ", name, (long long)yyjson_get_sint(v));
	}
	yyjson_doc_free(doc);
	rules[rule_count++] = r;
	return true;
}

/* --- a call and its connection --------------------------------------------------------------------- */

struct call {
	bool active, stream, include_usage, answered;
	struct plan plan;
	char path[64], key[128], model[128], request_id[96], idempotency_key[96];
	char id[96], tool[72];
	int64_t created, prompt_tokens, completion_tokens, choices;
	const char *finish;
	struct text answer; /* words separated by one space */
	struct text arguments;
	int64_t words, step, chunks; /* of a stream: content chunks sent, to send */
	size_t answer_sent;
	int status;
	size_t body_bytes;
	uint64_t began_us;
	bool head_sent, ended;
};

struct conn {
	int fd;
	uint32_t events;
	struct text in, out, body;
	size_t out_sent;
	struct http_head head;
	struct http_body reading;
	bool in_body, close_after, reset_after, gone;
	struct call call;
	uint64_t due_us;	   /* of the timer; 0: none */
	size_t timer_at;	   /* place in the heap, from 1 */
	struct conn *next, **link; /* of all connections; of the dead ones `next` only */
};

static int epoll_fd;
static struct conn **timers; /* a heap by due_us, from 1 */
static size_t timer_count, timer_room;
static struct conn *conns;
static struct conn *dead;
static int log_fd = -1;
static struct text log_pending, log_kept, last;
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

static void timer_start(struct conn *c, int64_t ms)
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
	text_clear(&k->answer);
	text_clear(&k->arguments);
}

/* --- answers ---------------------------------------------------------------------------------------- */

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {{200, "OK"},
		       {302, "Found"},
		       {400, "Bad Request"},
		       {401, "Unauthorized"},
		       {404, "Not Found"},
		       {429, "Too Many Requests"},
		       {500, "Internal Error"},
		       {503, "Service Unavailable"}};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status";
}

static void answer(struct conn *c, int status, const char *type, struct span body)
{
	text_f(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
	       status, reason_of(status), type, body.len,
	       c->close_after ? "Connection: close\r\n" : "");
	text_add(&c->out, body.at, body.len);
}

static void error_body(struct text *t, int status, const struct plan *p)
{
	const char *type = status >= 500 ? "server_error" : "invalid_request_error";
	const char *code = NULL;

	if (status == 401)
		code = "invalid_api_key";
	else if (status == 404)
		code = "model_not_found";
	else if (status == 429)
		type = "requests", code = "rate_limit_exceeded";
	else if (status == 503)
		type = "service_unavailable_error", code = "server_is_overloaded";
	if (p->type[0] != 0)
		type = p->type;
	if (p->code[0] != 0)
		code = p->code;
	text_f(t, "{\"error\":{\"message\":\"The fake provider was told to answer %d.\",\"type\":",
	       status);
	text_json(t, type, strlen(type));
	text_z(t, ",\"param\":null,\"code\":");
	if (code != NULL)
		text_json(t, code, strlen(code));
	else
		text_z(t, "null");
	text_z(t, "}}");
}

static void usage_body(struct text *t, const struct call *k)
{
	const struct plan *p = &k->plan;
	const char *comma = strchr(p->usage, ',');

	text_z(t, "{\"prompt_tokens\":");
	if (comma != NULL)
		text_add(t, p->usage, (size_t)(comma - p->usage));
	else
		text_f(t, "%lld", (long long)k->prompt_tokens);
	text_z(t, ",\"completion_tokens\":");
	if (comma != NULL)
		text_z(t, comma + 1);
	else
		text_f(t, "%lld", (long long)k->completion_tokens);
	text_f(t,
	       ",\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld,"
	       "\"cache_write_tokens\":%lld,\"audio_tokens\":0},\"completion_tokens_details\":{"
	       "\"reasoning_tokens\":%lld,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
	       "\"rejected_prediction_tokens\":0}}",
	       (long long)k->prompt_tokens + k->completion_tokens, (long long)p->cached,
	       (long long)p->cache_write, (long long)p->reasoning);
}

/* Up to and including the fields every object of an answer starts with. */
static void object_open(struct text *t, const struct call *k, const char *object)
{
	text_z(t, "{\"id\":");
	text_json(t, k->id, strlen(k->id));
	text_f(t, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, (long long)k->created);
	text_json(t, k->model, strlen(k->model));
	text_z(t, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_fake\"");
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	text_z(t, ",\"choices\":[");
}

static void tool_calls(struct text *t, const struct call *k, bool indexed, bool with_arguments)
{
	text_z(t, "\"tool_calls\":[");
	for (int64_t i = 0; i < k->plan.tools; i++) {
		text_z(t, i > 0 ? ",{" : "{");
		if (indexed)
			text_f(t, "\"index\":%lld,", (long long)i);
		text_f(t, "\"id\":\"call_%lld\",\"type\":\"function\",\"function\":{\"name\":",
		       (long long)i + 1);
		text_json(t, k->tool, strlen(k->tool));
		text_z(t, ",\"arguments\":");
		text_json(t, k->arguments.at, with_arguments ? k->arguments.len : 0);
		text_z(t, "}}");
	}
	text_z(t, "]");
}

static void plain_body(struct text *t, const struct call *k)
{
	object_open(t, k, "chat.completion");
	for (int64_t i = 0; i < k->choices; i++) {
		text_f(t, "%s{\"index\":%lld,\"message\":{\"role\":\"assistant\",\"content\":",
		       i > 0 ? "," : "", (long long)i);
		if (k->tool[0] != 0 || k->plan.null_content)
			text_z(t, "null");
		else
			text_json(t, k->answer.at, k->answer.len);
		text_z(t, ",\"refusal\":null,\"annotations\":[]");
		if (k->tool[0] != 0) {
			text_z(t, ",");
			tool_calls(t, k, false, true);
		}
		text_f(t, "},\"logprobs\":null,\"finish_reason\":\"%s\"}", k->finish);
	}
	text_z(t, "]");
	if (k->plan.pad > 0) {
		text_z(t, ",\"x_pad\":\"");
		for (int64_t i = 0; i < k->plan.pad; i++)
			text_add(t, "p", 1);
		text_z(t, "\"");
	}
	if (!k->plan.no_usage) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
	}
	text_z(t, "}");
}

/* A real gzip member that holds `body` uncompressed (RFC 1952, RFC 1951 3.2.4). */
static void gzip_stored(struct text *t, struct span body)
{
	uint32_t crc = UINT32_MAX;
	size_t n = body.len < UINT16_MAX ? body.len : UINT16_MAX;
	unsigned char head[15] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1};
	unsigned char tail[8];

	head[11] = (unsigned char)(n & 0xff);
	head[12] = (unsigned char)(n >> 8);
	head[13] = (unsigned char)~head[11];
	head[14] = (unsigned char)~head[12];
	for (size_t i = 0; i < n; i++) {
		crc ^= (unsigned char)body.at[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
	}
	crc = ~crc;
	for (unsigned int i = 0; i < 4; i++) {
		tail[i] = (unsigned char)(crc >> (8 * i));
		tail[4 + i] = (unsigned char)(n >> (8 * i));
	}
	text_add(t, (const char *)head, sizeof(head));
	text_add(t, body.at, n);
	text_add(t, (const char *)tail, sizeof(tail));
}

static void head_open(struct conn *c, int status, const char *type)
{
	const struct plan *p = &c->call.plan;

	c->call.status = status;
	text_f(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nx-request-id: %s\r\n", status,
	       reason_of(status), type, c->call.id);
	if (p->retry_after[0] != 0)
		text_f(&c->out, "Retry-After: %s\r\n", p->retry_after);
	if (p->retry_after_ms[0] != 0)
		text_f(&c->out, "retry-after-ms: %s\r\n", p->retry_after_ms);
	if (p->redirect[0] != 0)
		text_f(&c->out, "Location: %s\r\n", p->redirect);
	if (p->header[0] != 0)
		text_f(&c->out, "%s\r\n", p->header);
	if (c->close_after)
		text_z(&c->out, "Connection: close\r\n");
}

/* End this connection after what is queued was sent; a reset gives the peer a moment to read. */
static void conn_cut(struct conn *c)
{
	c->close_after = true;
	c->reset_after = strcmp(c->call.plan.cut, "fin") != 0;
}

static void plain_answer(struct conn *c)
{
	struct call *k = &c->call;
	const struct plan *p = &k->plan;
	struct text body = {0};
	struct text packed = {0};
	int status = p->redirect[0] != 0 && p->status == 200 ? 302 : (int)p->status;
	bool is_html = p->html;

	if (p->empty)
		text_z(&body, "");
	else if (is_html)
		text_z(&body, "<html><head><title>502 Bad Gateway</title></head>"
			      "<body>this is no JSON</body></html>");
	else if (p->garbage)
		text_z(&body, "{\"id\":\"chatcmpl-broken\",\"choices\":[{\"index\":0,");
	else if (status >= 300)
		error_body(&body, status, p);
	else
		plain_body(&body, k);
	if (is_html && status == 200)
		status = 502;
	head_open(c, status, is_html ? "text/html" : p->text ? "text/plain" : "application/json");
	if (p->gzip) {
		gzip_stored(&packed, (struct span){body.at, body.len});
		text_z(&c->out, "Content-Encoding: gzip\r\n");
		text_clear(&body);
		body = packed;
	}
	if (p->cl_te)
		text_z(&c->out, "Transfer-Encoding: chunked\r\n");
	if (p->no_length)
		c->close_after = true;
	else
		text_f(&c->out, "Content-Length: %zu\r\n", body.len);
	text_z(&c->out, "\r\n");
	if (p->cut_after != NO) {
		if (p->cut_after >= 0 && (size_t)p->cut_after < body.len)
			body.len = (size_t)p->cut_after;
		conn_cut(c);
	}
	if (p->cl_te)
		text_f(&c->out, "%zx\r\n", body.len);
	text_add(&c->out, body.at, body.len);
	if (p->cl_te)
		text_z(&c->out, "\r\n0\r\n\r\n");
	text_clear(&body);
	k->ended = true;
}

/* --- a stream, event by event ------------------------------------------------------------------------- */

static void stream_bytes(struct conn *c, struct span s)
{
	if (!c->call.plan.to_close)
		text_f(&c->out, "%zx\r\n", s.len);
	text_add(&c->out, s.at, s.len);
	if (!c->call.plan.to_close)
		text_z(&c->out, "\r\n");
}

static void stream_event(struct conn *c, struct text *data)
{
	const char *nl = c->call.plan.crlf ? "\r\n" : "\n";
	struct text t = {0};

	if (c->call.plan.comments)
		text_f(&t, ": still here%s%s", nl, nl);
	text_f(&t, "data: %s%s%s", data->at, nl, nl);
	stream_bytes(c, (struct span){t.at, t.len});
	text_clear(&t);
	text_clear(data);
}

static void chunk_close(struct text *t, const struct call *k, bool is_last)
{
	text_z(t, "]");
	if (k->plan.usage_always || (is_last && k->include_usage && !k->plan.no_usage)) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
	} else if (k->include_usage) {
		text_z(t, ",\"usage\":null");
	}
	text_z(t, "}");
}

/* One chunk for one choice; `delta` is what stands between the braces of its delta. */
static void stream_chunk(struct conn *c, int64_t choice, struct span delta, const char *finish)
{
	struct text t = {0};

	object_open(&t, &c->call, "chat.completion.chunk");
	text_f(&t, "{\"index\":%lld,\"delta\":{", (long long)choice);
	text_add(&t, delta.at, delta.len);
	text_z(&t, "},\"logprobs\":null,\"finish_reason\":");
	if (finish != NULL)
		text_f(&t, "\"%s\"}", finish);
	else
		text_z(&t, "null}");
	chunk_close(&t, &c->call, false);
	stream_event(c, &t);
}

static void stream_head(struct conn *c)
{
	const struct plan *p = &c->call.plan;
	struct text delta = {0};

	if (p->to_close)
		c->close_after = true;
	head_open(c, 200, p->text ? "text/plain" : "text/event-stream; charset=utf-8");
	text_f(&c->out, "Cache-Control: no-cache\r\n%s\r\n",
	       p->to_close ? "" : "Transfer-Encoding: chunked\r\n");
	for (int64_t i = 0; i < c->call.choices; i++) {
		text_z(&delta, "\"role\":\"assistant\",\"content\":");
		text_z(&delta, c->call.tool[0] != 0 ? "null" : "\"\"");
		text_z(&delta, ",\"refusal\":null");
		if (c->call.tool[0] != 0) {
			text_z(&delta, ",");
			tool_calls(&delta, &c->call, true, false);
		}
		stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
		text_clear(&delta);
	}
}

/* The next piece of the answer: as many words, each with the space before it, as are this chunk's. */
static struct span stream_piece(struct call *k, const struct text *from)
{
	int64_t words = (k->step + 1) * k->words / k->chunks - k->step * k->words / k->chunks;
	size_t at = k->answer_sent;
	size_t end = at;

	while (words-- > 0 && end < from->len) {
		const char *sp = memchr(from->at + end + 1, ' ', from->len - end - 1);

		end = sp != NULL ? (size_t)(sp - from->at) : from->len;
	}
	if (k->step + 1 == k->chunks)
		end = from->len;
	k->answer_sent = end;
	return (struct span){from->at + at, end - at};
}

static void stream_content(struct conn *c)
{
	struct call *k = &c->call;
	bool is_tool = k->tool[0] != 0;
	struct span piece = stream_piece(k, is_tool ? &k->arguments : &k->answer);
	struct text delta = {0};

	for (int64_t i = 0; i < k->choices; i++) {
		for (int64_t n = 0; n < (is_tool ? k->plan.tools : 1); n++) {
			if (is_tool)
				text_f(&delta,
				       "\"tool_calls\":[{\"index\":%lld,\"function\":{"
				       "\"arguments\":",
				       (long long)n);
			else
				text_z(&delta, "\"content\":");
			text_json(&delta, piece.at, piece.len);
			text_z(&delta, is_tool ? "}}]" : "");
			stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
			text_clear(&delta);
		}
	}
	k->step++;
}

static void stream_end(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (int64_t i = 0; i < k->choices; i++)
		stream_chunk(c, i, (struct span){"", 0}, k->finish);
	if (k->include_usage && !k->plan.no_usage) {
		object_open(&t, k, "chat.completion.chunk");
		chunk_close(&t, k, true);
		stream_event(c, &t);
	}
	if (!k->plan.no_done) {
		text_z(&t, "[DONE]");
		stream_event(c, &t);
	}
	if (!k->plan.to_close)
		text_z(&c->out, "0\r\n\r\n");
	k->ended = true;
}

/* A failure after the head: the error as an event, then the end of the stream, no [DONE]. */
static void stream_error(struct conn *c)
{
	struct text t = {0};

	if (c->call.plan.garbage)
		text_z(&t, "{\"id\":\"chatcmpl-broken\",\"choices\":[{\"index\":0,");
	else
		error_body(&t, 500, &c->call.plan);
	stream_event(c, &t);
	if (!c->call.plan.to_close)
		text_z(&c->out, "0\r\n\r\n");
	c->call.ended = true;
}

static void call_step(struct conn *c)
{
	struct call *k = &c->call;
	const struct plan *p = &k->plan;

	if (!k->stream || p->status >= 300 || p->redirect[0] != 0 || p->html || p->empty ||
	    p->gzip || p->cl_te) {
		plain_answer(c);
		return;
	}
	for (int i = 0; i < EVENTS_PER_TURN && !k->ended && c->out.len < OUT_BYTES_HIGH; i++) {
		if (!k->head_sent) {
			k->head_sent = true;
			stream_head(c);
			if (p->first_ms > 0) {
				timer_start(c, p->first_ms);
				return;
			}
		}
		if (p->cut_after != NO && k->step >= p->cut_after) {
			conn_cut(c);
			k->ended = true;
		} else if (p->stall_after != NO && k->step >= p->stall_after) {
			timer_start(c, 3600 * 1000);
			return;
		} else if (p->error_after != NO && k->step >= p->error_after) {
			stream_error(c);
		} else if (k->step < k->chunks) {
			stream_content(c);
			if (p->chunk_ms > 0) {
				timer_start(c, p->chunk_ms);
				return;
			}
		} else {
			stream_end(c);
		}
	}
}

/* --- what the request says ------------------------------------------------------------------------------ */

static bool is_space(char ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* Count the words of `s`; the first `max` of them, one space between, go to `out` without [[...]]. */
static int64_t words_of(struct span s, struct text *out, int64_t max)
{
	int64_t count = 0;
	int64_t added = 0;
	size_t i = 0;

	while (i < s.len) {
		size_t from;

		if (is_space(s.at[i])) {
			i++;
			continue;
		}
		for (from = i; i < s.len && !is_space(s.at[i]);)
			i++;
		count++;
		if (out == NULL || added >= max)
			continue;
		text_f(out, out->len > 0 ? " %.*s" : "%.*s", (int)(i - from), s.at + from);
		added++;
	}
	return count;
}

static void directives_strip(struct text *t)
{
	char *open;
	char *close;

	while (t->len > 0 && (open = strstr(t->at, "[[")) != NULL &&
	       (close = strstr(open, "]]")) != NULL) {
		size_t after = (size_t)(t->at + t->len - (close + 2));

		memmove(open, close + 2, after + 1);
		t->len = (size_t)(open - t->at) + after;
	}
}

/* Words of all text of a message's content; `text` (if any) gets the text itself. */
static int64_t content_words(yyjson_val *content, struct text *text)
{
	size_t i, max;
	yyjson_val *part;
	int64_t n = 0;

	if (yyjson_is_str(content)) {
		struct span s = {yyjson_get_str(content), yyjson_get_len(content)};

		if (text != NULL)
			text_add(text, s.at, s.len);
		return words_of(s, NULL, 0);
	}
	if (!yyjson_is_arr(content))
		return 0;
	yyjson_arr_foreach(content, i, max, part)
	{
		yyjson_val *t = yyjson_obj_get(part, "text");

		if (text != NULL && text->len > 0)
			text_add(text, " ", 1);
		n += yyjson_is_str(t) ? content_words(t, text) : 0;
	}
	return n;
}

/* Arguments that fit the tool's schema: every property of it, with a value of its type. */
static void tool_arguments(struct call *k, yyjson_val *function)
{
	yyjson_val *schema = yyjson_obj_get(function, "parameters");
	yyjson_val *properties = yyjson_obj_get(schema, "properties");
	struct text *t = &k->arguments;
	yyjson_val *name, *property;
	size_t i, max;

	text_z(t, "{");
	yyjson_obj_foreach(properties, i, max, name, property)
	{
		const char *type = yyjson_get_str(yyjson_obj_get(property, "type"));
		const char *value = "\"Paris\"";

		if (type != NULL && (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0))
			value = "7";
		else if (type != NULL && strcmp(type, "boolean") == 0)
			value = "true";
		else if (type != NULL && strcmp(type, "array") == 0)
			value = "[]";
		else if (type != NULL && strcmp(type, "object") == 0)
			value = "{}";
		text_z(t, i > 0 ? ", " : "");
		text_json(t, yyjson_get_str(name), yyjson_get_len(name));
		text_f(t, ": %s", value);
	}
	text_z(t, "}");
}

/* A tool is called when tools are given and the last message, a user's, says "tool". */
static void choose_tool(struct call *k, yyjson_val *root, const char *role, const struct text *said)
{
	yyjson_val *tools = yyjson_obj_get(root, "tools");
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	yyjson_val *function = yyjson_obj_get(yyjson_arr_get_first(tools), "function");
	const char *forced =
		yyjson_get_str(yyjson_obj_get(yyjson_obj_get(choice, "function"), "name"));
	const char *mode = yyjson_get_str(choice);
	const char *name;
	yyjson_val *tool;
	size_t i, max;

	if (!yyjson_is_arr(tools) || (mode != NULL && strcmp(mode, "none") == 0))
		return;
	if (forced == NULL && (mode == NULL || strcmp(mode, "required") != 0) &&
	    (role == NULL || strcmp(role, "user") != 0 || said->len == 0 ||
	     strstr(said->at, "tool") == NULL))
		return;
	yyjson_arr_foreach(tools, i, max, tool)
	{
		yyjson_val *f = yyjson_obj_get(tool, "function");

		name = yyjson_get_str(yyjson_obj_get(f, "name"));
		if (forced != NULL && name != NULL && strcmp(name, forced) == 0)
			function = f;
	}
	name = yyjson_get_str(yyjson_obj_get(function, "name"));
	if (name == NULL)
		return;
	span_copy(span_z(name), k->tool, sizeof(k->tool));
	tool_arguments(k, function);
	k->plan.tools = k->plan.tools > 0 ? k->plan.tools : 1;
	k->finish = forced != NULL ? "stop" : "tool_calls";
}

/* What is answered in words, cut to what the caller allows; its words are its tokens. */
static void choose_answer(struct call *k, yyjson_val *root, struct text *said)
{
	yyjson_val *max = yyjson_obj_get(root, "max_completion_tokens");
	yyjson_val *format = yyjson_obj_get(yyjson_obj_get(root, "response_format"), "type");
	bool json = yyjson_is_str(format) && strncmp(yyjson_get_str(format), "json", 4) == 0;
	int64_t words = k->plan.words;
	int64_t allowed = INT64_MAX;

	if (!yyjson_is_int(max))
		max = yyjson_obj_get(root, "max_tokens");
	if (yyjson_is_int(max))
		allowed = yyjson_get_sint(max) - k->plan.reasoning;
	if (words == NO && k->plan.chunks != NO)
		words = k->plan.chunks;
	if (words != NO) {
		for (int64_t i = 1; i <= words && i <= allowed; i++)
			text_f(&k->answer, "%sw%lld", i > 1 ? " " : "", (long long)i);
	} else {
		struct text echo = {0};

		directives_strip(said);
		text_z(&echo, json ? "{\"echo\": \"" : "echo");
		if (!json)
			text_z(&echo, " ");
		for (size_t i = 0; json && i < said->len; i++)
			if (said->at[i] == '"' || said->at[i] == '\\')
				said->at[i] = '\'';
		text_add(&echo, said->at, said->len);
		words = words_of((struct span){echo.at, echo.len}, &k->answer,
				 allowed < ECHO_WORDS_MAX ? (allowed > 0 ? allowed : 0)
							  : ECHO_WORDS_MAX);
		words = words < ECHO_WORDS_MAX ? words : ECHO_WORDS_MAX;
		if (json && words <= allowed)
			text_z(&k->answer, "\"}");
		text_clear(&echo);
	}
	k->words = words <= allowed ? words : allowed > 0 ? allowed : 0;
	if (words > allowed)
		k->finish = "length";
	if (k->answer.at == NULL)
		text_z(&k->answer, "");
}

static void call_read(struct call *k, yyjson_val *root)
{
	yyjson_val *messages = yyjson_obj_get(root, "messages");
	yyjson_val *options = yyjson_obj_get(root, "stream_options");
	yyjson_val *n = yyjson_obj_get(root, "n");
	const char *model = yyjson_get_str(yyjson_obj_get(root, "model"));
	const char *role = NULL;
	struct text said = {0};
	const char *plus;
	yyjson_val *message;
	size_t i, max;

	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
	k->include_usage = k->stream && yyjson_is_true(yyjson_obj_get(options, "include_usage"));
	k->choices = yyjson_is_int(n) && yyjson_get_sint(n) > 1 ? yyjson_get_sint(n) : 1;
	k->finish = "stop";
	yyjson_arr_foreach(messages, i, max, message)
	{
		role = yyjson_get_str(yyjson_obj_get(message, "role"));
		text_clear(&said);
		k->prompt_tokens += 4 + content_words(yyjson_obj_get(message, "content"), &said);
	}
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	plus = strchr(k->model, '+');
	if (plus != NULL)
		plan_read(&k->plan, span_z(plus + 1), '+');
	if (said.at == NULL)
		text_z(&said, "");
	plan_read_message(&k->plan, (struct span){said.at, said.len});
	rules_apply(&k->plan, k->key, k->model);
	choose_tool(k, root, role, &said);
	if (k->tool[0] != 0)
		k->words = words_of((struct span){k->arguments.at, k->arguments.len}, NULL, 0);
	else
		choose_answer(k, root, &said);
	text_clear(&said);
	k->completion_tokens =
		(k->tool[0] != 0 ? (k->words + 1) * k->plan.tools : k->words) * k->choices +
		k->plan.reasoning;
	k->chunks = k->plan.chunks != NO && k->plan.chunks > 0 ? k->plan.chunks : k->words;
	if (k->chunks > k->words)
		k->chunks = k->words;
	if (k->plan.finish[0] != 0)
		k->finish = k->plan.finish;
	if (k->plan.id[0] != 0)
		span_copy(span_z(k->plan.id), k->id, sizeof(k->id));
	if ((k->plan.error_midstream || k->plan.garbage) && k->plan.error_after == NO)
		k->plan.error_after = k->chunks / 2;
}

/* --- requests --------------------------------------------------------------------------------------------- */

static void header_copy(const struct conn *c, const char *name, char *to, size_t size)
{
	struct span v;

	if (to[0] == 0 && http_header(&c->head, name, &v))
		span_copy(v, to, size);
}

/* The bearer key; false: missing or one of the keys this provider does not know. */
static bool key_read(struct conn *c)
{
	struct span v;

	if (!http_header(&c->head, "Authorization", &v) || v.len < 8 ||
	    !span_is_nocase((struct span){v.at, 7}, "Bearer "))
		return false;
	span_copy((struct span){v.at + 7, v.len - 7}, c->call.key, sizeof(c->call.key));
	return strcmp(c->call.key, "bad") != 0 && strncmp(c->call.key, "bad-", 4) != 0;
}

static void call_begin(struct conn *c)
{
	struct call *k = &c->call;
	yyjson_doc *doc;

	calls_count++;
	in_flight++;
	*k = (struct call){.active = true, .plan = plan_none(), .began_us = now_us()};
	k->created = (int64_t)time(NULL);
	k->body_bytes = c->body.len;
	snprintf(k->id, sizeof(k->id), "chatcmpl-fake%llu", (unsigned long long)calls_count);
	span_copy(c->head.start[1], k->path, sizeof(k->path));
	for (char *p = k->path; *p != 0; p++)
		if (*p == '"' || *p == '\\')
			*p = '_';
	header_copy(c, "x-client-request-id", k->request_id, sizeof(k->request_id));
	header_copy(c, "x-request-id", k->request_id, sizeof(k->request_id));
	header_copy(c, "idempotency-key", k->idempotency_key, sizeof(k->idempotency_key));
	doc = yyjson_read(c->body.at, c->body.len, 0);
	if (!key_read(c))
		k->plan.status = 401;
	else if (!yyjson_is_obj(yyjson_doc_get_root(doc)))
		k->plan.status = 400;
	else
		call_read(k, yyjson_doc_get_root(doc));
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
	c->call.plan = plan_none();
	if (!key_read(c)) {
		error_body(&t, 401, &c->call.plan);
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
		error_body(&t, 404, &c->call.plan);
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

/* What the last call looked like on the wire, for tests of what a provider gets to see. */
static void last_keep(const struct conn *c)
{
	last.len = 0;
	text_z(&last, "{\"head\":");
	text_json(&last, c->in.at, c->head.size);
	text_z(&last, ",\"body\":");
	text_json(&last, c->body.at, c->body.len);
	text_z(&last, "}\n");
}

static void control_answer(struct conn *c, bool ok)
{
	answer(c, ok ? 200 : 400, "application/json",
	       span_z(ok ? "{\"ok\":true}\n" : "{\"ok\":false}\n"));
}

/* A probe below /PROVIDER_ID: one answer, kept for GET /_last. */
static bool vendor_answered(struct conn *c, struct span path)
{
	struct vendor_answer a;

	if (!vendor_serve(&c->head, path, (struct span){c->body.at, c->body.len}, &a))
		return false;
	last_keep(c);
	models_count++;
	text_f(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s%s%s\r\n",
	       a.status, reason_of(a.status), a.type, a.body.len,
	       a.location != NULL ? "Location: " : "", a.location != NULL ? a.location : "",
	       a.location != NULL ? "\r\n" : "", c->close_after ? "Connection: close\r\n" : "");
	text_add(&c->out, a.body.at != NULL ? a.body.at : "", a.body.len);
	text_clear(&a.body);
	return true;
}

static void request_serve(struct conn *c)
{
	struct span method = c->head.start[0];
	struct span path = c->head.start[1];
	const char *query = memchr(path.at, '?', path.len);
	bool is_get = span_is(method, "GET");
	bool is_post = span_is(method, "POST");

	if (query != NULL)
		path.len = (size_t)(query - path.at);
	if (is_post &&
	    (span_is(path, "/v1/chat/completions") || span_is(path, "/chat/completions"))) {
		last_keep(c);
		call_begin(c);
	} else if (is_get && (span_is(path, "/v1/models") || span_is(path, "/models"))) {
		models_answer(c, (struct span){"", 0});
	} else if (is_get && path.len > 11 && memcmp(path.at, "/v1/models/", 11) == 0) {
		models_answer(c, (struct span){path.at + 11, path.len - 11});
	} else if (is_get && span_is(path, "/_stats")) {
		stats_answer(c);
	} else if (is_get && span_is(path, "/_log")) {
		log_answer(c);
	} else if (is_get && span_is(path, "/_last")) {
		answer(c, 200, "application/json",
		       (struct span){last.at != NULL ? last.at : "{}\n",
				     last.at != NULL ? last.len : 3});
	} else if (is_post && span_is(path, "/_control")) {
		control_answer(c, rule_add((struct span){c->body.at, c->body.len}));
	} else if (span_is(method, "DELETE") && span_is(path, "/_control")) {
		rules_clear();
		control_answer(c, true);
	} else if (span_is(method, "DELETE") && span_is(path, "/_log")) {
		log_kept.len = 0;
		log_dropped = calls_count = models_count = finished_count = failed_count = 0;
		control_answer(c, true);
	} else if (vendor_answered(c, path)) {
		return;
	} else {
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
		c->call.plan = plan_none();
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
	text_clear(&last);
	free(timers);
	return 0;
}
