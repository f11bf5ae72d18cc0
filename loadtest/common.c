/* loadtest/common.c - what the programs of this folder share. See common.h.
 *
 * Never used by the service and never uses it: a tool that measures something must not have its
 * bugs. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common.h"

#define LISTEN_BACKLOG 1024
#define HEAD_BYTES_MAX (256 * 1024) /* more than any server under test sends */
#define CHUNK_LINE_MAX 256

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void text_room(struct text *t, size_t more)
{
	size_t cap = t->cap > 0 ? t->cap : 256;

	if (t->len + more + 1 <= t->cap)
		return;
	while (cap < t->len + more + 1)
		cap *= 2;
	t->at = realloc(t->at, cap);
	if (t->at == NULL)
		die("out of memory");
	t->cap = cap;
}

void text_add(struct text *t, const char *bytes, size_t len)
{
	text_room(t, len);
	if (len > 0)
		memcpy(t->at + t->len, bytes, len);
	t->len += len;
	t->at[t->len] = 0;
}

void text_z(struct text *t, const char *z)
{
	text_add(t, z, strlen(z));
}

void text_f(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0)
		die("cannot format a text");
	text_room(t, (size_t)n);
	va_start(args, format);
	n = vsnprintf(t->at + t->len, (size_t)n + 1, format, args);
	va_end(args);
	t->len += (size_t)n;
}

void text_json(struct text *t, const char *bytes, size_t len)
{
	size_t from = 0;

	text_add(t, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		text_add(t, bytes + from, i - from);
		if (c == '"' || c == '\\')
			text_f(t, "\\%c", c);
		else
			text_f(t, "\\u%04x", (unsigned int)c);
		from = i + 1;
	}
	text_add(t, bytes + from, len - from);
	text_add(t, "\"", 1);
}

void text_drop(struct text *t, size_t len)
{
	if (len == 0)
		return;
	memmove(t->at, t->at + len, t->len - len);
	t->len -= len;
	t->at[t->len] = 0;
}

void text_clear(struct text *t)
{
	free(t->at);
	*t = (struct text){0};
}

struct span span_z(const char *z)
{
	return (struct span){z, strlen(z)};
}

bool span_is(struct span s, const char *z)
{
	return s.len == strlen(z) && memcmp(s.at, z, s.len) == 0;
}

bool span_is_nocase(struct span s, const char *z)
{
	return s.len == strlen(z) && strncasecmp(s.at, z, s.len) == 0;
}

void span_copy(struct span s, char *to, size_t size)
{
	size_t n = s.len < size - 1 ? s.len : size - 1;

	if (n > 0)
		memcpy(to, s.at, n);
	to[n] = 0;
}

static struct sockaddr_in address_parse(const char *address)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	const char *colon = strrchr(address, ':');
	char host[INET_ADDRSTRLEN];
	char *end;
	unsigned long port;

	if (colon == NULL || colon[1] == 0)
		die("'%s' is not HOST:PORT", address);
	span_copy((struct span){address, (size_t)(colon - address)}, host, sizeof(host));
	port = strtoul(colon + 1, &end, 10);
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1 || *end != 0 || port > UINT16_MAX)
		die("'%s' is not a numeric HOST:PORT", address);
	in.sin_port = htons((uint16_t)port);
	return in;
}

int listen_on(const char *address, char *shown, size_t size)
{
	struct sockaddr_in in = address_parse(address);
	socklen_t len = sizeof(in);
	char host[INET_ADDRSTRLEN];
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("cannot make a socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, LISTEN_BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		die("cannot listen on %s: %s", address, strerror(errno));
	inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
	snprintf(shown, size, "%s:%u", host, (unsigned int)ntohs(in.sin_port));
	return fd;
}

int dial(const char *address)
{
	struct sockaddr_in in = address_parse(address);
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("cannot make a socket: %s", strerror(errno));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One line without its CRLF; false: the end of the line has not come. */
static bool line_take(struct span *in, struct span *line)
{
	const char *nl = memchr(in->at, '\n', in->len);
	size_t n;

	if (nl == NULL)
		return false;
	n = (size_t)(nl - in->at);
	*line = (struct span){in->at, n > 0 && nl[-1] == '\r' ? n - 1 : n};
	in->at = nl + 1;
	in->len -= n + 1;
	return true;
}

static bool number_parse(struct span s, unsigned int base, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.len == 0 || s.len > 15)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.at[i];
		unsigned int d;

		if (c >= '0' && c <= '9')
			d = (unsigned int)(c - '0');
		else if (c >= 'a' && c <= 'f')
			d = (unsigned int)(c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			d = (unsigned int)(c - 'A') + 10;
		else
			return false;
		if (d >= base)
			return false;
		v = v * base + d;
	}
	*ret = v;
	return true;
}

bool http_header(const struct http_head *h, const char *name, struct span *ret)
{
	struct span rest = h->fields;
	struct span line;
	size_t n = strlen(name);

	while (line_take(&rest, &line)) {
		if (line.len <= n || line.at[n] != ':' || strncasecmp(line.at, name, n) != 0)
			continue;
		line.at += n + 1;
		line.len -= n + 1;
		while (line.len > 0 && (*line.at == ' ' || *line.at == '\t')) {
			line.at++;
			line.len--;
		}
		while (line.len > 0 &&
		       (line.at[line.len - 1] == ' ' || line.at[line.len - 1] == '\t'))
			line.len--;
		*ret = line;
		return true;
	}
	return false;
}

static bool start_line_parse(struct span line, struct span ret[3])
{
	for (int i = 0; i < 2; i++) {
		const char *sp = memchr(line.at, ' ', line.len);
		size_t n = sp != NULL ? (size_t)(sp - line.at) : line.len;

		if (n == 0)
			return false;
		ret[i] = (struct span){line.at, n};
		line.at += sp != NULL ? n + 1 : n;
		line.len -= sp != NULL ? n + 1 : n;
	}
	ret[2] = line;
	return true;
}

int http_head_parse(struct span in, struct http_head *ret)
{
	struct http_head h = {0};
	struct span rest = in;
	struct span line;
	struct span v;

	if (in.len == 0)
		return 0;
	if (!line_take(&rest, &line))
		return in.len > HEAD_BYTES_MAX ? -1 : 0;
	if (!start_line_parse(line, h.start))
		return -1;
	h.fields.at = rest.at;
	do {
		h.fields.len = (size_t)(rest.at - h.fields.at);
		if (!line_take(&rest, &line))
			return in.len > HEAD_BYTES_MAX ? -1 : 0;
	} while (line.len > 0);
	h.size = (size_t)(rest.at - in.at);
	h.chunked = http_header(&h, "Transfer-Encoding", &v) && span_is_nocase(v, "chunked");
	if (http_header(&h, "Content-Length", &v)) {
		if (!number_parse(v, 10, &h.length))
			return -1;
		h.has_length = true;
	}
	h.close = http_header(&h, "Connection", &v) && span_is_nocase(v, "close");
	*ret = h;
	return 1;
}

void http_body_start(struct http_body *b, const struct http_head *h, bool is_answer)
{
	*b = (struct http_body){.kind = BODY_NONE, .left = h->length};
	if (h->chunked)
		b->kind = BODY_CHUNK_SIZE;
	else if (h->has_length)
		b->kind = h->length > 0 ? BODY_LENGTH : BODY_NONE;
	else if (is_answer)
		b->kind = BODY_TO_CLOSE;
	b->done = b->kind == BODY_NONE;
}

/* A line of the chunked framing: a size, the end of a chunk, or a trailer. */
static size_t body_line(struct http_body *b, struct span in)
{
	struct span rest = in;
	struct span line;
	const char *ext;

	if (!line_take(&rest, &line)) {
		b->bad = in.len > CHUNK_LINE_MAX;
		return 0;
	}
	if (b->kind == BODY_CHUNK_END) {
		b->bad = line.len > 0;
		b->kind = BODY_CHUNK_SIZE;
	} else if (b->kind == BODY_TRAILER) {
		b->done = line.len == 0;
	} else {
		ext = memchr(line.at, ';', line.len);
		if (ext != NULL)
			line.len = (size_t)(ext - line.at);
		b->bad = !number_parse(line, 16, &b->left);
		b->kind = b->left > 0 ? BODY_CHUNK : BODY_TRAILER;
	}
	return in.len - rest.len;
}

size_t http_body_feed(struct http_body *b, struct span in, struct text *out)
{
	size_t taken = 0;

	while (!b->done && !b->bad && taken < in.len) {
		struct span rest = {in.at + taken, in.len - taken};
		size_t n = rest.len;

		if (b->kind == BODY_LENGTH || b->kind == BODY_CHUNK || b->kind == BODY_TO_CLOSE) {
			if (b->kind != BODY_TO_CLOSE && n > b->left)
				n = (size_t)b->left;
			if (out != NULL)
				text_add(out, rest.at, n);
			if (b->kind != BODY_TO_CLOSE)
				b->left -= n;
			if (b->kind == BODY_LENGTH)
				b->done = b->left == 0;
			else if (b->kind == BODY_CHUNK && b->left == 0)
				b->kind = BODY_CHUNK_END;
		} else {
			n = body_line(b, rest);
			if (n == 0)
				break;
		}
		taken += n;
	}
	return taken;
}
