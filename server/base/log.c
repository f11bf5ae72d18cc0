/* server/base/log.c - one line per event on stderr, scrubbed.
 *
 * A line is put together on the stack and leaves with one write(2). Must never block, never
 * allocate, never let a string out that log_scrub() has not seen. */
#include <pthread.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "server/base/clock.h"
#include "server/base/log.h"

/* A pipe takes at most PIPE_BUF (4096) bytes in one piece: a longer line could be torn or could block
 * although poll() saw room. */
#define LOG_LINE_BYTES_MAX  4096
#define LOG_VALUE_BYTES_MAX 1024
/* A value is scrubbed before it is cut, and a little further than it is shown, so that a secret
 * across the cut is still seen. */
#define LOG_SCRUB_BYTES_MAX (LOG_VALUE_BYTES_MAX + 512)
#define LOG_TAIL_RESERVE    64 /* "truncated", "dropped" and the end of the line */

static _Atomic int min_level = LOG_LEVEL_INFO;
static _Atomic int line_format = LOG_FORMAT_JSON;
static _Atomic int sink_fd = STDERR_FILENO;
static _Atomic uint64_t dropped;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local const struct log_context *context;

struct line {
	char text[LOG_LINE_BYTES_MAX];
	size_t len, len_max;
	bool json, full;
};

void log_init(enum log_level level, enum log_format format)
{
	atomic_store(&min_level, (int)level);
	atomic_store(&line_format, (int)format);
}

void log_fd_set(int fd)
{
	atomic_store(&sink_fd, fd);
}

bool log_enabled(enum log_level level)
{
	return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
	return atomic_load(&dropped);
}

const struct log_context *log_context_set(const struct log_context *ctx)
{
	const struct log_context *before = context;

	context = ctx;
	return before;
}

/* --- putting a line together: a field that does not fit is left out whole ------------------------- */

static void line_add(struct line *l, struct str s)
{
	if (s.len > l->len_max - l->len) {
		l->full = true;
		return;
	}
	if (s.len)
		memcpy(l->text + l->len, s.ptr, s.len);
	l->len += s.len;
}

static void line_char(struct line *l, unsigned char c)
{
	char escape[8];
	int len;

	if (c == '"' || c == '\\') {
		line_add(l, STR("\\"));
		line_add(l, str_of(&c, 1));
	} else if (c == '\n') {
		line_add(l, STR("\\n"));
	} else if (c < 0x20 || c == 0x7f) {
		len = snprintf(escape, sizeof escape, "\\u%04x", (unsigned int)c);
		line_add(l, str_of(escape, (size_t)len));
	} else {
		line_add(l, str_of(&c, 1));
	}
}

/* Escaped alike in both formats: a value must not be able to forge a line or a field. */
static void line_escaped(struct line *l, struct str s)
{
	while (s.len) {
		size_t len = str_utf8_len(s);

		if (len == 0)
			line_add(l, STR("\xef\xbf\xbd"));
		else if (len == 1)
			line_char(l, (unsigned char)s.ptr[0]);
		else
			line_add(l, str_slice(s, 0, len));
		s = str_slice(s, len ? len : 1, s.len);
	}
}

static void line_string(struct line *l, struct str s)
{
	char copy[LOG_SCRUB_BYTES_MAX];
	bool cut;

	s = str_slice(s, 0, sizeof copy);
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	s = str_of(copy, log_scrub(copy, s.len));
	cut = s.len > LOG_VALUE_BYTES_MAX;
	if (cut) {
		s.len = LOG_VALUE_BYTES_MAX;
		while (s.len && ((unsigned char)s.ptr[s.len] & 0xc0) == 0x80)
			s.len--; /* not inside a character */
	}
	line_add(l, STR("\""));
	line_escaped(l, s);
	if (cut)
		line_add(l, STR("..."));
	line_add(l, STR("\""));
}

static void line_key(struct line *l, const char *key)
{
	line_add(l, l->json ? STR(",\"") : STR(" "));
	line_add(l, str_from(key));
	line_add(l, l->json ? STR("\":") : STR("="));
}

static void line_value(struct line *l, const struct log_field *f)
{
	char text[64];

	switch (f->kind) {
	case LOG_KIND_STR:
		if (f->s.ptr)
			line_string(l, f->s);
		else
			line_add(l, STR("null"));
		break;
	case LOG_KIND_INT:
		line_add(l, str_of(text,
				   (size_t)snprintf(text, sizeof text, "%lld", (long long)f->i)));
		break;
	case LOG_KIND_BOOL:
		line_add(l, f->i ? STR("true") : STR("false"));
		break;
	case LOG_KIND_UUID:
		line_add(l, STR("\""));
		line_add(l, uuid_format(f->u, text));
		line_add(l, STR("\""));
		break;
	case LOG_KIND_REDACTED:
	case LOG_KIND_END:
		line_add(l, STR("\"[redacted]\""));
		break;
	}
}

static void line_field(struct line *l, struct log_field f)
{
	size_t before = l->len;
	bool full = l->full;

	l->full = false;
	line_key(l, f.key);
	line_value(l, &f);
	if (l->full)
		l->len = before;
	l->full = l->full || full;
}

static bool has_key(const struct log_field *fields, const char *key)
{
	for (; fields->kind != LOG_KIND_END; fields++)
		if (strcmp(fields->key, key) == 0)
			return true;
	return false;
}

static void line_context(struct line *l, const struct log_field *fields)
{
	if (!context)
		return;
	if (context->request_id && !has_key(fields, "request_id"))
		line_field(l, LOG_STR("request_id", context->request_id));
	if (!uuid_is_zero(context->org.u) && !has_key(fields, "org"))
		line_field(l, LOG_UUID("org", context->org.u));
	if (context->state && !has_key(fields, "state"))
		line_field(l, LOG_STR("state", context->state));
}

static void line_head(struct line *l, enum log_level level, const char *msg)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	char when[CLOCK_RFC3339_SIZE];

	line_add(l, l->json ? STR("{\"ts\":\"") : STR(""));
	line_add(l, clock_rfc3339(clock_wall_us(), when));
	line_add(l, l->json ? STR("\",\"level\":\"") : STR(" "));
	line_add(l, str_from(names[level]));
	line_add(l, l->json ? STR("\",\"msg\":") : STR(" "));
	line_string(l, str_from(msg ? msg : ""));
}

/* Called under the lock, so that no other thread takes the room that poll() saw. */
static bool sink_write(const struct line *l)
{
	struct pollfd p = {.fd = atomic_load(&sink_fd), .events = POLLOUT, .revents = 0};

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return false;
	return write(p.fd, l->text, l->len) == (ssize_t)l->len;
}

static void line_send(struct line *l)
{
	static uint64_t told; /* dropped lines that a later line has reported */
	uint64_t lost;

	pthread_mutex_lock(&sink_lock);
	lost = atomic_load(&dropped);
	l->len_max = sizeof l->text;
	if (l->full)
		line_field(l, LOG_BOOL("truncated", true));
	if (lost > told)
		line_field(l, LOG_INT("dropped", lost - told));
	line_add(l, l->json ? STR("}\n") : STR("\n"));
	if (sink_write(l))
		told = lost;
	else
		atomic_fetch_add(&dropped, 1);
	pthread_mutex_unlock(&sink_lock);
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields)
{
	struct line l;

	l.len = 0;
	l.len_max = sizeof l.text - LOG_TAIL_RESERVE;
	l.full = false;
	l.json = atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_FORMAT_JSON;
	line_head(&l, level, msg);
	line_context(&l, fields);
	for (; fields->kind != LOG_KIND_END; fields++)
		line_field(&l, *fields);
	line_send(&l);
}

/* --- the scrubber: the last net, under types that cannot hold a secret --------------------------- */

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_key_char(char c)
{
	return is_alnum(c) || c == '_' || c == '-';
}

static size_t key_run(struct str s)
{
	size_t n = 0;

	while (n < s.len && is_key_char(s.ptr[n]))
		n++;
	return n;
}

static bool has_digit(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] >= '0' && s.ptr[i] <= '9')
			return true;
	return false;
}

/* Where the run that ends at `end` must stop, so that it does not swallow the start of the next secret
 * and leave its rest standing. */
static size_t before_marker(struct str s, size_t from, size_t end)
{
	struct str run = str_slice(s, from, end);

	if (end == s.len || (s.ptr[end] != ' ' && s.ptr[end] != '\t'))
		return end;
	if (str_ends(run, STR("-----BEGIN")))
		return end - 10;
	if (run.len >= 6 && str_eq_nocase(str_slice(run, run.len - 6, run.len), STR("bearer")))
		return end - 6;
	return end;
}

/* Enough of a run to judge by; looking further would make a long one quadratic. */
#define RUN_JUDGED 64

/* Provider keys: a prefix and a long enough run. Inside a word ("task-...") the run must also look
 * random, which for us means a digit in it. Covers "sk-ant-" by its first three characters. */
static size_t match_provider_key(struct str s, bool boundary)
{
	static const struct {
		const char *prefix;
		size_t run_min;
	} keys[] = {{"sk-", 4}, {"AIza", 16}, {"gsk_", 8}, {"xai-", 16}};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct str prefix = str_from(keys[i].prefix);
		struct str run;

		if (!str_starts(s, prefix))
			continue;
		run = str_slice(s, prefix.len, s.len);
		run.len = key_run(str_slice(run, 0, RUN_JUDGED));
		if (run.len >= keys[i].run_min && (boundary || (run.len >= 16 && has_digit(run))))
			return before_marker(s, 0, key_run(s));
	}
	return 0;
}

/* Ours: tg_, 8 base62 characters, '_', and the secret part. */
static size_t match_own_key(struct str s)
{
	if (!str_starts(s, STR("tg_")) || s.len < 13 || s.ptr[11] != '_')
		return 0;
	for (size_t i = 3; i < 11; i++)
		if (!is_alnum(s.ptr[i]))
			return 0;
	return is_key_char(s.ptr[12]) ? before_marker(s, 12, key_run(s)) : 0;
}

static bool ends_bearer(char c)
{
	return (unsigned char)c <= ' ' || c == '"' || c == '\'';
}

/* "Bearer " and its value: `*skip` is the part that stays. */
static size_t match_bearer(struct str s, size_t *skip)
{
	size_t at = 7;

	if (s.len < at || !str_eq_nocase(str_slice(s, 0, 6), STR("bearer")) ||
	    (s.ptr[6] != ' ' && s.ptr[6] != '\t'))
		return 0;
	while (at < s.len && (s.ptr[at] == ' ' || s.ptr[at] == '\t'))
		at++;
	*skip = at;
	while (at < s.len && !ends_bearer(s.ptr[at]))
		at++;
	at = before_marker(s, *skip, at);
	return at > *skip ? at : 0;
}

/* A PEM header and all that follows: where the block ends is for its sender to say. */
static size_t match_pem(struct str s)
{
	return str_starts(s, STR("-----BEGIN ")) ? s.len : 0;
}

static size_t match_secret(struct str s, bool boundary, size_t *skip)
{
	size_t len = 0;

	*skip = 0;
	switch (s.ptr[0]) {
	case 's':
	case 'A':
	case 'g':
	case 'x':
		len = match_provider_key(s, boundary);
		break;
	case 't':
		len = match_own_key(s);
		break;
	case 'B':
	case 'b':
		len = match_bearer(s, skip);
		break;
	case '-':
		len = match_pem(s);
		break;
	default:
		break;
	}
	return len;
}

/* Never longer than what it stands for: a secret too short for the word becomes asterisks. */
static size_t put_redacted(char *out, size_t len)
{
	static const struct str word = {"[redacted]", 10};

	if (len < word.len) {
		memset(out, '*', len);
		return len;
	}
	memcpy(out, word.ptr, word.len);
	return word.len;
}

size_t log_scrub(char *text, size_t len)
{
	size_t in = 0;
	size_t out = 0;

	while (in < len) {
		size_t skip;
		bool boundary = in == 0 || !is_alnum(text[in - 1]);
		size_t hit = match_secret(str_of(text + in, len - in), boundary, &skip);

		if (!hit) {
			text[out++] = text[in++];
			continue;
		}
		memmove(text + out, text + in, skip);
		out += skip;
		out += put_redacted(text + out, hit - skip);
		in += hit;
	}
	return out;
}
