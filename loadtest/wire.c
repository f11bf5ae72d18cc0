/* loadtest/wire.c - an answer of the fake provider as bytes: whole, or piece by piece, or broken in the ways it was
 * told.
 *
 * Read call_step(). What stands in the bytes is the speaker's part. */
#include <string.h>
#include "fake.h"

#define OUT_BYTES_HIGH	(64 * 1024) /* a stream pauses while this much is unsent */
#define EVENTS_PER_TURN 64

const char *reason_of(int status)
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

void answer(struct conn *c, int status, const char *type, struct span body)
{
	text_f(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
	       status, reason_of(status), type, body.len,
	       c->close_after ? "Connection: close\r\n" : "");
	text_add(&c->out, body.at, body.len);
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
	if (p->retry_after[0] != 0 && c->call.speaker != &speak_gemini) /* in the body there */
		text_f(&c->out, "Retry-After: %s\r\n", p->retry_after);
	if (p->retry_after_ms[0] != 0)
		text_f(&c->out, "retry-after-ms: %s\r\n", p->retry_after_ms);
	text_add(&c->out, c->call.head.at, c->call.head.len);
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
		k->speaker->error(&body, k, status);
	else
		k->speaker->plain(&body, k);
	if (is_html && status == 200)
		status = 502;
	head_open(c, status,
		  is_html			    ? "text/html"
		  : p->text			    ? "text/plain"
		  : k->type != NULL && status < 300 ? k->type
						    : "application/json");
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

void stream_bytes(struct conn *c, struct span s)
{
	if (!c->call.plan.to_close)
		text_f(&c->out, "%zx\r\n", s.len);
	text_add(&c->out, s.at, s.len);
	if (!c->call.plan.to_close)
		text_z(&c->out, "\r\n");
}

/* The first event of a padded stream is a line as long as that. */
static void event_pad(struct call *k, struct text *data)
{
	struct text padded = {0};

	if (k->plan.pad <= 0 || k->padded || data->at[0] != '{')
		return;
	text_f(&padded, "{\"x_pad\":\"%0*d\",", (int)k->plan.pad, 0);
	text_add(&padded, data->at + 1, data->len - 1);
	text_clear(data);
	*data = padded;
	k->padded = true;
}

void stream_event(struct conn *c, const char *name, struct text *data)
{
	const char *nl = c->call.plan.crlf ? "\r\n" : "\n";
	struct text t = {0};

	if (c->call.plan.comments)
		text_f(&t, ": still here%s%s", nl, nl);
	event_pad(&c->call, data);
	if (name != NULL)
		text_f(&t, "event: %s%s", name, nl);
	text_f(&t, "data: %s%s%s", data->at, nl, nl);
	stream_bytes(c, (struct span){t.at, t.len});
	text_clear(&t);
	text_clear(data);
}

static void stream_open(struct conn *c)
{
	const struct plan *p = &c->call.plan;

	if (p->to_close)
		c->close_after = true;
	head_open(c, 200,
		  p->text		 ? "text/plain"
		  : c->call.type != NULL ? c->call.type
					 : "text/event-stream; charset=utf-8");
	text_f(&c->out, "Cache-Control: no-cache\r\n%s\r\n",
	       p->to_close ? "" : "Transfer-Encoding: chunked\r\n");
	c->call.speaker->open(c);
}

/* As many words, each with the space before it, as are the next chunk's. */
static struct span utter_next(struct utter *u)
{
	int64_t words = (u->step + 1) * u->words / u->chunks - u->step * u->words / u->chunks;
	size_t at = u->sent;
	size_t end = at;

	while (words-- > 0 && end < u->text.len) {
		const char *sp = memchr(u->text.at + end + 1, ' ', u->text.len - end - 1);

		end = sp != NULL ? (size_t)(sp - u->text.at) : u->text.len;
	}
	if (++u->step == u->chunks)
		end = u->text.len;
	u->sent = end;
	return (struct span){u->text.at + at, end - at};
}

/* What is streamed next: the reasoning, the words, then the calls, which may take turns. */
static struct utter *utter_due(struct call *k, struct piece *p)
{
	struct utter *due = NULL;

	*p = (struct piece){.kind = PIECE_THOUGHTS};
	if (k->thoughts.step < k->thoughts.chunks)
		return &k->thoughts;
	p->kind = PIECE_WORDS;
	if (k->answer.step < k->answer.chunks)
		return &k->answer;
	p->kind = PIECE_TOOL;
	for (int64_t i = 0; i < k->tool_count; i++) {
		struct utter *u = &k->tools[i].arguments;

		if (u->step == u->chunks ||
		    (due != NULL && (k->one_by_one || u->step >= due->step)))
			continue;
		due = u;
		p->tool = i;
	}
	return due;
}

static void stream_piece(struct conn *c)
{
	struct call *k = &c->call;
	struct piece p;
	struct utter *due = utter_due(k, &p);

	/* a sound has no words: its speaker cuts it */
	if (due != NULL)
		p.bytes = utter_next(due);
	k->speaker->piece(c, &p);
	k->step++;
}

/* The end of a stream, a good one or not. */
static void stream_close(struct conn *c, void (*say)(struct conn *c))
{
	say(c);
	if (!c->call.plan.to_close)
		text_z(&c->out, "0\r\n\r\n");
	c->call.ended = true;
}

void call_step(struct conn *c)
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
			stream_open(c);
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
			stream_close(c, k->speaker->fail);
		} else if (k->step < k->chunks) {
			stream_piece(c);
			if (p->chunk_ms > 0) {
				timer_start(c, p->chunk_ms);
				return;
			}
		} else {
			stream_close(c, k->speaker->close);
		}
	}
}
