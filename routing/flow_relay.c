/* routing/flow_relay.c - what a provider sends, on its way to the caller.
 *
 * Events are held back until the first that carries content, passed on from then, and kept again from the one that
 * finishes the last choice: that tail waits for the booking. Nothing here decides what happens next: a failure is
 * recorded, and flow.c's states look at it. */
#include "routing/flow_priv.h"

#include <stdio.h>
#include <string.h>

#include "server/base/clock.h"
#include "server/curlm.h"

void flow_kick(void *arg)
{
	flow_run(arg);
}

void flow_attempt_reset(struct flow *f)
{
	buf_reset(&f->answer);
	buf_reset(&f->held);
	buf_reset(&f->tail);
	sse_clear(&f->sse);
	sse_init(&f->sse, SSE_LINE_BYTES_MAX);
	f->ctx = (struct dialect_ctx){
		.mem = f->mem,
		.keep = f->mem,
		.call = &f->call,
		.target = &f->to,
		.id = str_slice(str_from(f->req->id_text), sizeof "req_" - 1, UUID_TEXT_SIZE + 4),
		.created_s = clock_wall_ms() / 1000,
		.translate = flow_translates(f),
	};
	f->usage = USAGE_NONE;
	f->finished = 0;
	f->terminal = f->ending = false;
	loop_timer_clear(&f->drain);
	f->kept_id = STR_NULL;
	f->text_bytes = 0;
	f->status = 0;
	f->event_stream = f->up_done = false;
	f->media_type = NULL;
	f->class = ERROR_none;
	f->retry_after_s = 0;
	f->provider_request_id[0] = '\0';
}

void flow_upstream_cancel(struct flow *f)
{
	if (!f->up)
		return;
	curlm_cancel(f->up);
	f->up = NULL;
	f->upstream_us += clock_mono_us() - f->sent_us;
}

/* ---- to the caller ------------------------------------------------------------------------------ */

static void stream_head(struct flow *f)
{
	const char *type = f->call.stream_array ? "application/json" : "text/event-stream";

	http_stream_begin_typed(f->req, f->call.bytes && f->media_type ? f->media_type : type);
	f->stream_begun = true;
}

void flow_stream_begin(struct flow *f)
{
	if (f->stream_begun)
		return;
	http_add_header(f->req, "Cache-Control", STR("no-cache"));
	http_add_header(f->req, "X-Accel-Buffering", STR("no"));
	flow_headers(f);
	flow_header_limits(f);
	flow_header_overhead(f);
	stream_head(f);
}

void flow_stream_write(struct flow *f, struct str bytes)
{
	if (bytes.len == 0 || f->gone)
		return;
	if (!http_stream_write(f->req, bytes))
		f->paused = true;
	if (flow_has_keepalive(f))
		loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS,
			       flow_on_keepalive, f);
}

void flow_on_keepalive(void *arg)
{
	struct flow *f = arg;

	if (!f->stream_begun) { /* it says nothing: the chain may still fall to another target */
		http_add_header(f->req, "Cache-Control", STR("no-cache"));
		http_add_header(f->req, "X-Accel-Buffering", STR("no"));
		flow_header_limits(f);
		stream_head(f);
	}
	http_stream_write(f->req, str_from(f->call.dialect->keepalive));
	loop_timer_set(f->worker->loop, &f->keepalive, ROUTING_KEEPALIVE_MS, flow_on_keepalive, f);
}

void flow_on_drain(void *arg)
{
	struct flow *f = arg;

	f->paused = false;
	if (f->up)
		curlm_resume(f->up);
}

/* The first content: from here on this target answers, whatever happens. */
static void content_begin(struct flow *f)
{
	if (f->content_sent)
		return;
	f->content_sent = true;
	f->first_event_us = clock_mono_us() - f->started_us;
	hist_add(&routing_service(f->worker)->first_event, f->first_event_us);
	loop_timer_clear(&f->deadline);
	flow_stream_begin(f);
	flow_stream_write(f, buf_str(&f->held));
	buf_reset(&f->held);
}

/* ---- from the provider ---------------------------------------------------------------------------- */

static void event_fail(struct flow *f, enum error_class class, const struct err *err)
{
	f->class = class;
	f->class_err = *err;
}

static void usage_replace(struct flow *f, const struct usage *u)
{
	const bool shrank = f->usage.present && (usage_total_in(u) < usage_total_in(&f->usage) ||
						 usage_total_out(u) < usage_total_out(&f->usage));
	const uint32_t flags = f->usage.flags;

	f->usage = *u; /* a snapshot so far: replaced, never summed */
	f->usage.flags |= flags | (shrank ? USAGE_FLAG_INCONSISTENT : 0);
}

/* The caller is told the provider's own id: a later call may name it. */
static void keep(struct flow *f, const struct facts *facts)
{
	if (f->kept_id.len > 0 || facts->state_id.len == 0 ||
	    facts->state_id.len > KEPT_ID_BYTES_MAX || flow_translates(f))
		return;
	f->kept_id = arena_str(f->mem, facts->state_id);
	f->kept_kind = facts->state_kind;
}

/* The event in the caller's words: its own bytes, or made from what it brought. */
static enum rc event_encode(struct flow *f, const struct sse_event *ev, const struct facts *facts,
			    struct buf *out)
{
	const struct dialect *here = f->call.dialect;

	if (!flow_translates(f))
		return here->encode_event(&f->ctx, ev, facts, out);
	return facts->deltas_lost ? RC_TOO_LARGE : here->encode_deltas(&f->ctx, facts, out);
}

/* Gemini breaks a stream off with an error that is no event at all, bare or as the one element of an array: its dialect
 * reads it. */
static bool is_bare_json(struct str raw)
{
	return raw.len > 0 && (raw.ptr[0] == '{' || raw.ptr[0] == '[');
}

static void on_said_all(void *arg)
{
	struct flow *f = arg;

	flow_upstream_cancel(f);
	f->up_done = true;
	flow_run(f);
}

/* It said its last. Its connection usually ends the answer at once and is good for another; one that does not must not
 * keep the caller from the tail. */
static void said_all(struct flow *f)
{
	f->terminal = true;
	loop_timer_set(f->worker->loop, &f->drain, FLOW_LINGER_MS, on_said_all, f);
}

static bool event_relay(struct flow *f, const struct sse_event *ev)
{
	AUTO(buf) struct buf out = BUF_INIT(FLOW_TAIL_MAX);
	struct facts facts = {.usage = USAGE_NONE};
	struct err words = {0};

	if (ev->comment && !is_bare_json(ev->raw)) {
		if (f->content_sent && !f->ending && !flow_translates(f))
			flow_stream_write(f, ev->raw);
		return true;
	}
	if (f->to.dialect->decode_event(&f->ctx, ev, &facts) != RC_OK) {
		err_set(&words, RC_PROTOCOL, "protocol",
			"the provider sent an event that does not read");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	if (facts.error != ERROR_none) {
		event_fail(f, facts.error, &facts.err);
		return false;
	}
	if (facts.usage.present)
		usage_replace(f, &facts.usage);
	f->finished += facts.finished;
	if (facts.terminal && !f->terminal)
		said_all(f);
	f->ending |= facts.ending;
	f->text_bytes += facts.text_bytes;
	keep(f, &facts);
	if (event_encode(f, ev, &facts, &out) != RC_OK) {
		err_set(&words, RC_TOO_LARGE, "protocol",
			"the provider sent an event that is too long");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	if (f->ending) {
		if (buf_append(&f->tail, buf_str(&out)) != RC_OK) {
			err_set(&words, RC_TOO_LARGE, "protocol",
				"the provider sent too much behind its last event");
			event_fail(f, ERROR_protocol, &words);
			return false;
		}
	} else if (facts.content || f->content_sent) {
		content_begin(f);
		flow_stream_write(f, buf_str(&out));
	} else if (buf_append(&f->held, buf_str(&out)) != RC_OK) {
		err_set(&words, RC_TOO_LARGE, "protocol",
			"the provider sent too much before its first content");
		event_fail(f, ERROR_protocol, &words);
		return false;
	}
	return true;
}

/* What an event is parsed into does not outlive it: a long stream takes no more memory than a short one. */
static bool flow_on_event(void *arg, const struct sse_event *ev)
{
	struct flow *f = arg;
	bool go_on;

	f->ctx.mem = arena_new(FLOW_EVENT_MAX + FLOW_EVENT_RESERVE);
	arena_reserve(f->ctx.mem, FLOW_EVENT_RESERVE);
	go_on = event_relay(f, ev);
	arena_free(f->ctx.mem);
	f->ctx.mem = f->mem;
	return go_on;
}

/* ---- bytes: sound on its way to a caller who wants it as it is, or in events ------------------------- */

static bool bytes_fail(struct flow *f, const char *words)
{
	struct err err;

	err_set(&err, RC_PROTOCOL, "protocol", "%s", words);
	event_fail(f, ERROR_protocol, &err);
	return false;
}

/* `bytes` as the caller wants them: as they are, or each run of them as an event. */
static enum rc bytes_encode(struct flow *f, struct str bytes, struct buf *out)
{
	const struct dialect *here = f->call.dialect;

	if (f->call.bytes || !here->encode_bytes)
		return f->call.bytes ? buf_append(out, bytes) : RC_UNSUPPORTED;
	return here->encode_bytes(&f->ctx, bytes, out);
}

/* All but the last of what has come goes on; that tail waits for the booking, as the last event of a stream does. */
static bool bytes_relay(struct flow *f, struct str bytes)
{
	AUTO(buf) struct buf out = BUF_INIT(FLOW_TAIL_MAX);
	size_t ready;

	f->text_bytes += (int64_t)bytes.len;
	if (buf_append(&f->tail, bytes) != RC_OK)
		return bytes_fail(f, "the provider sent too much at once");
	if (f->tail.len < FLOW_BYTES_KEPT + 3)
		return true;
	ready = f->tail.len - FLOW_BYTES_KEPT;
	ready -= ready % 3; /* in an event they are base64: whole groups */
	if (bytes_encode(f, str_slice(buf_str(&f->tail), 0, ready), &out) != RC_OK)
		return bytes_fail(f, "the provider's answer cannot be written for the caller");
	buf_consume(&f->tail, ready);
	content_begin(f);
	flow_stream_write(f, buf_str(&out));
	return true;
}

/* The tail in the caller's words, once all has come. */
static enum rc bytes_end(struct flow *f)
{
	struct buf whole = BUF_INIT(FLOW_TAIL_MAX);
	enum rc rc;

	if (f->call.bytes)
		return RC_OK;
	rc = bytes_encode(f, buf_str(&f->tail), &whole);
	if (rc == RC_OK)
		rc = f->call.dialect->encode_end(&f->ctx, &f->usage, &whole);
	buf_clear(&f->tail);
	f->tail = whole;
	return rc;
}

/* The type that the provider names, in our own words; NULL: none of those that its dialect answers with. */
static const char *media_of(const struct dialect *d, struct str content_type)
{
	struct str rest = content_type;
	const struct str type = str_trim(str_cut(&rest, ';'));

	for (const char *const *m = d->media; m && *m; m++)
		if (str_eq_nocase(type, str_from(*m)))
			return *m;
	return NULL;
}

static void head_read(struct flow *f, const struct curlm_response *r)
{
	const struct dialect_head head = {r->character_cost, r->character_count};
	struct facts facts = {.usage = USAGE_NONE};

	if (!f->to.dialect->decode_head)
		return;
	f->to.dialect->decode_head(&f->ctx, &head, &facts);
	if (facts.usage.present)
		usage_replace(f, &facts.usage);
}

void flow_on_head(void *arg, const struct curlm_response *r)
{
	struct flow *f = arg;

	f->status = r->status;
	f->event_stream =
		!f->call.bytes && str_find_nocase(r->content_type, STR("text/event-stream")) == 0;
	if (f->status / 100 == 2) {
		if (f->call.stream)
			f->media_type = media_of(f->to.dialect, r->content_type);
		head_read(f, r);
	}
	f->retry_after_s = upstream_retry_after_s(r, clock_wall_ms());
	snprintf(f->provider_request_id, sizeof f->provider_request_id, "%.*s",
		 STR_FMT(r->request_id));
	secret_redact(&f->mark, f->provider_request_id, strlen(f->provider_request_id));
}

bool flow_on_body(void *arg, struct str bytes)
{
	struct flow *f = arg;

	if (f->class != ERROR_none)
		return false; /* failed: the cancel is on its way */
	if (f->media_type) {
		if (!bytes_relay(f, bytes))
			loop_defer(f->worker->loop, flow_kick, f);
		return f->class == ERROR_none && !f->paused;
	}
	if (f->status / 100 == 2 && f->call.stream && f->event_stream) {
		if (sse_feed(&f->sse, bytes, flow_on_event, f) != RC_OK) {
			f->class = ERROR_protocol;
			err_set(&f->class_err, RC_PROTOCOL, "protocol",
				"the provider sent an event that is too long");
		}
		if (f->class != ERROR_none)
			loop_defer(f->worker->loop, flow_kick, f);
		return f->class == ERROR_none && !f->paused;
	}
	if (f->status / 100 != 2 && f->answer.len + bytes.len > ROUTING_ERROR_MAX)
		bytes.len =
			f->answer.len < ROUTING_ERROR_MAX ? ROUTING_ERROR_MAX - f->answer.len : 0;
	if (buf_append(&f->answer, bytes) != RC_OK) {
		f->class = ERROR_protocol;
		err_set(&f->class_err, RC_TOO_LARGE, "protocol",
			"the provider's answer is too large");
		loop_defer(f->worker->loop, flow_kick, f);
		return false;
	}
	return true;
}

static enum error_class class_of_rc(enum rc rc)
{
	switch (rc) {
	case RC_TIMEOUT:
		return ERROR_timeout;
	case RC_NETWORK:
	case RC_DENIED:
	case RC_UNAVAILABLE:
		return ERROR_network;
	default:
		return ERROR_protocol;
	}
}

/* The provider's words about a failure; a wait that they name counts where no header named one. */
static enum error_class answer_classify(struct flow *f, struct str body)
{
	const enum error_class class =
		f->to.dialect->classify(f->status, body, f->mem, &f->class_err);

	if (f->retry_after_s <= 0 && f->class_err.retry_after_s > 0)
		f->retry_after_s = f->class_err.retry_after_s;
	return class;
}

static enum error_class answer_too_large(struct flow *f)
{
	err_set(&f->class_err, RC_TOO_LARGE, "protocol",
		"the provider's answer is too large to be written for the caller");
	return ERROR_protocol;
}

/* Has it said all that streams of its dialect end with? What its connection does behind that is no matter. */
static bool stream_is_whole(const struct flow *f)
{
	if (!f->call.stream || !f->event_stream || f->status / 100 != 2)
		return false;
	return f->to.dialect->finish_ends ? f->finished >= f->call.choices : f->terminal;
}

/* A stream that was written anew needs its end written, too, and one that passed needs the end that its provider left
 * out: with the tail, behind the booking. */
static enum error_class stream_end(struct flow *f)
{
	const char *terminator = f->call.dialect->terminator;

	if (!flow_translates(f) && !f->call.stream_array) {
		if (f->terminal || !terminator ||
		    buf_append(&f->tail, str_from(terminator)) == RC_OK)
			return ERROR_none;
		return answer_too_large(f);
	}
	return f->call.dialect->encode_end(&f->ctx, &f->usage, &f->tail) == RC_OK
		       ? ERROR_none
		       : answer_too_large(f);
}

static enum error_class answer_encode(struct flow *f, const struct facts *facts)
{
	struct buf whole = BUF_INIT(ROUTING_BODY_MAX);

	if (facts->deltas_lost ||
	    f->call.dialect->encode_response(&f->ctx, facts, &whole) != RC_OK) {
		buf_clear(&whole);
		return answer_too_large(f);
	}
	buf_clear(&f->answer);
	f->answer = whole;
	return ERROR_none;
}

/* Is it in other words than the caller's, or in another form than was asked for? */
static bool answer_is_written(const struct flow *f)
{
	const struct dialect *here = f->call.dialect;

	return flow_translates(f) || (here->rewrites && here->rewrites(&f->call));
}

/* A stream that ends early may have said why behind its last event, without the blank line that would make it one. */
static enum error_class left_error(struct flow *f)
{
	const struct str rest = str_trim(buf_str(&f->sse.raw));
	const struct sse_event left = {.data = rest, .raw = rest};
	struct facts facts = {.usage = USAGE_NONE};

	if (!is_bare_json(rest) || f->to.dialect->decode_event(&f->ctx, &left, &facts) != RC_OK)
		return ERROR_none;
	if (facts.error != ERROR_none)
		f->class_err = facts.err;
	return facts.error;
}

/* What came back, once it is complete: ERROR_none if it is a whole answer. */
enum error_class flow_answer_judge(struct flow *f)
{
	struct facts facts = {.usage = USAGE_NONE};
	struct str body = buf_str(&f->answer);
	const bool begun = f->call.stream && f->event_stream && f->status / 100 == 2;
	const enum error_class left = begun && !stream_is_whole(f) ? left_error(f) : ERROR_none;

	if (left != ERROR_none)
		return left;
	if (f->up_rc != RC_OK && !stream_is_whole(f)) {
		f->class_err = f->up_err;
		return class_of_rc(f->up_rc);
	}
	if (f->status / 100 != 2) {
		secret_redact(&f->mark, f->answer.ptr, f->answer.len);
		return answer_classify(f, body);
	}
	if (f->media_type) {
		if (f->text_bytes > 0)
			return bytes_end(f) == RC_OK ? ERROR_none : answer_too_large(f);
		err_set(&f->class_err, RC_PROTOCOL, "protocol", "the provider sent no sound");
		return ERROR_protocol;
	}
	if (f->call.stream && f->event_stream) {
		if (stream_is_whole(f))
			return stream_end(f);
		err_set(&f->class_err, RC_PROTOCOL, "protocol",
			"the provider's stream ended early");
		return ERROR_protocol;
	}
	if (f->to.dialect->decode_response(&f->ctx, body, &facts) != RC_OK ||
	    (f->call.stream && facts.error == ERROR_none && !f->call.dialect->encode_whole)) {
		err_set(&f->class_err, RC_PROTOCOL, "protocol",
			"the provider's answer does not read as one");
		return ERROR_protocol;
	}
	if (facts.error != ERROR_none) {
		f->class_err = facts.err;
		return facts.error;
	}
	if (facts.usage.present)
		usage_replace(f, &facts.usage);
	f->text_bytes = facts.text_bytes;
	keep(f, &facts);
	if (f->call.stream)
		return f->call.dialect->encode_whole(&f->ctx, &facts, &f->tail) == RC_OK
			       ? ERROR_none
			       : answer_too_large(f);
	return answer_is_written(f) ? answer_encode(f, &facts) : ERROR_none;
}
