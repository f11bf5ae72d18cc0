/* routing/dialects/anthropic_writer.c - an answer made in another dialect, for a caller of the Messages API.
 *
 * Blocks of a stream never overlap here, while calls elsewhere may come in pieces that alternate. So there is a queue of
 * blocks in the order in which they began: the first that is not at its end is open and written as it comes, what belongs
 * to those behind it is kept until their turn. A call is at its end with its input's last brace, anything else with what
 * begins next; the end of the answer ends all. Kept is only what cannot be written yet, but for whole answers. */
#include <assert.h>
#include "routing/dialects/anthropic_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define BLOCKS_MAX   (2 * CHAT_DELTAS_MAX)
#define BLOCKS_FIRST 8
#define CALLS_MAX    4096 /* the most that any reader tells of */

enum block_kind { BLOCK_TEXT, BLOCK_THINKING, BLOCK_SEAL, BLOCK_CALL };

struct block {
	enum block_kind kind;
	struct str id, name;
	struct chat_text text;	/* what could not be written yet: text, thought, input */
	struct chat_text cites; /* the same: one JSON text a line */
	struct str seal;	/* wrapped; ptr NULL: none */
	bool ended;
	struct chat_braces braces; /* how far the input has been read */
};

struct writer {
	struct dialect_ctx *ctx;
	struct block *blocks;
	size_t count, size;
	size_t at;	       /* the block that is open, or to be opened */
	bool opened;	       /* its beginning was written */
	bool started;	       /* message_start was */
	bool whole;	       /* not a stream: everything is kept */
	size_t *block_of_call; /* by the call's index: its block's number and 1; 0: none yet */
	size_t calls_size;
	bool calls; /* the answer has any */
	struct str model;
	struct usage usage; /* for message_start, where it is known by then */
	enum finish finish;
	struct str stop; /* the sequence that was met; may be empty */
	struct json_out o;
};

static enum rc keep_str(struct dialect_ctx *ctx, struct str s, struct str *ret)
{
	void *copy;

	TRY(arena_try_alloc(ctx->keep, s.len + 1, &copy));
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	*ret = str_of(copy, s.len);
	return RC_OK;
}

static struct writer *writer_of(struct dialect_ctx *ctx)
{
	struct writer *w = ctx->writer;

	if (!w) {
		w = ctx->writer = ARENA_NEW(ctx->keep, struct writer);
		w->usage = USAGE_NONE;
		w->stop = STR("");
	}
	w->ctx = ctx;
	return w;
}

/* ---- events -------------------------------------------------------------------------------------------------- */

static void event_begin(struct writer *w, struct buf *out, const char *type)
{
	json_out_begin(&w->o, out);
	w->o.rc = buf_append(out, STR("event: "));
	if (w->o.rc == RC_OK)
		w->o.rc = buf_append(out, str_from(type));
	if (w->o.rc == RC_OK)
		w->o.rc = buf_append(out, STR("\ndata: "));
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", type);
}

static enum rc event_end(struct writer *w, struct buf *out)
{
	json_obj_end(&w->o);
	TRY(json_out_end(&w->o));
	return buf_append(out, STR("\n\n"));
}

static void put_head(struct writer *w, struct json_out *o)
{
	struct dialect_ctx *ctx = w->ctx;

	json_put_str(o, "id",
		     arena_printf(ctx->mem, "msg_%.*s", STR_FMT(str_slice(ctx->id, 0, 64))));
	json_put_z(o, "type", "message");
	json_put_z(o, "role", "assistant");
	json_put_str(o, "model", w->model.len ? w->model : ctx->target->model);
}

static enum rc write_start(struct writer *w, struct buf *out)
{
	if (w->started)
		return RC_OK;
	w->started = true;
	event_begin(w, out, "message_start");
	json_obj(&w->o, "message");
	put_head(w, &w->o);
	json_arr(&w->o, "content");
	json_arr_end(&w->o);
	json_put_null(&w->o, "stop_reason");
	json_put_null(&w->o, "stop_sequence");
	json_obj(
		&w->o,
		"usage"); /* zeros where nobody has counted yet: the truth comes with message_delta */
	anthropic_put_usage(&w->o, &w->usage);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	return event_end(w, out);
}

static enum rc write_block_start(struct writer *w, const struct block *b, struct buf *out)
{
	event_begin(w, out, "content_block_start");
	json_put_int(&w->o, "index", (int64_t)w->at);
	json_obj(&w->o, "content_block");
	switch (b->kind) {
	case BLOCK_TEXT:
		json_put_z(&w->o, "type", "text");
		json_put_z(&w->o, "text", "");
		break;
	case BLOCK_THINKING:
		json_put_z(&w->o, "type", "thinking");
		json_put_z(&w->o, "thinking", "");
		json_put_z(&w->o, "signature", "");
		break;
	case BLOCK_SEAL:
		json_put_z(&w->o, "type", "redacted_thinking");
		json_put_str(&w->o, "data", b->seal);
		break;
	case BLOCK_CALL:
		json_put_z(&w->o, "type", "tool_use");
		json_put_str(&w->o, "id", b->id);
		json_put_str(&w->o, "name", b->name);
		json_obj(&w->o, "input");
		json_obj_end(&w->o);
		break;
	}
	json_obj_end(&w->o);
	return event_end(w, out);
}

static void delta_begin(struct writer *w, struct buf *out, const char *type)
{
	event_begin(w, out, "content_block_delta");
	json_put_int(&w->o, "index", (int64_t)w->at);
	json_obj(&w->o, "delta");
	json_put_z(&w->o, "type", type);
}

static enum rc delta_end(struct writer *w, struct buf *out)
{
	json_obj_end(&w->o);
	return event_end(w, out);
}

static enum rc write_text(struct writer *w, const struct block *b, struct str text, struct buf *out)
{
	static const struct {
		const char *type, *key;
	} words[] = {[BLOCK_TEXT] = {"text_delta", "text"},
		     [BLOCK_THINKING] = {"thinking_delta", "thinking"},
		     [BLOCK_SEAL] = {"", ""},
		     [BLOCK_CALL] = {"input_json_delta", "partial_json"}};

	if (text.len == 0 || b->kind == BLOCK_SEAL)
		return RC_OK;
	delta_begin(w, out, words[b->kind].type);
	json_put_str(&w->o, words[b->kind].key, text);
	return delta_end(w, out);
}

static enum rc write_cite(struct writer *w, struct str json, struct buf *out)
{
	delta_begin(w, out, "citations_delta");
	json_put_raw(&w->o, "citation", json);
	return delta_end(w, out);
}

static enum rc write_block_stop(struct writer *w, const struct block *b, struct buf *out)
{
	if (b->kind == BLOCK_THINKING && b->seal.len) {
		delta_begin(w, out, "signature_delta");
		json_put_str(&w->o, "signature", b->seal);
		TRY(delta_end(w, out));
	}
	event_begin(w, out, "content_block_stop");
	json_put_int(&w->o, "index", (int64_t)w->at);
	return event_end(w, out);
}

/* Write what can be written: open the first block that is due, what was kept for it, and close it where it is whole. */
static enum rc pump(struct writer *w, struct buf *out)
{
	while (!w->whole && w->at < w->count) {
		struct block *b = &w->blocks[w->at];
		struct str cites = chat_text_str(&b->cites);

		if (!w->opened) {
			TRY(write_block_start(w, b, out));
			TRY(write_text(w, b, chat_text_str(&b->text), out));
			while (cites.len > 0)
				TRY(write_cite(w, str_cut(&cites, '\n'), out));
			w->opened = true;
		}
		if (!b->ended)
			break;
		TRY(write_block_stop(w, b, out));
		w->opened = false;
		w->at++;
	}
	return RC_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------------------------- */

static struct block *last_of(struct writer *w, enum block_kind kind)
{
	struct block *b = w->count ? &w->blocks[w->count - 1] : NULL;

	return b && b->kind == kind && !b->ended ? b : NULL;
}

static enum rc seal_wrap(struct writer *w, struct str before, const struct chat_opaque *made,
			 struct str *ret)
{
	const struct dialect_target *t = w->ctx->target;
	struct chat_text value = {0};
	struct chat_opaque o = {.dialect = made->dialect.len ? made->dialect
							     : str_from(t->dialect->name),
				.provider = str_from(t->provider->id),
				.model = t->model};

	TRY(chat_text_add(w->ctx->mem, &value, before));
	TRY(chat_text_add(w->ctx->mem, &value, made->value));
	o.value = chat_text_str(&value);
	return keep_str(w->ctx, chat_opaque_wrap(w->ctx->mem, &o), ret);
}

/* Reasoning whose maker sealed nothing is marked as theirs all the same: sent back to Anthropic itself it would be refused
 * for its missing signature, so the way there must know it (anthropic_request.c). */
static enum rc end_thinking(struct writer *w, struct block *b, const struct chat_opaque *made)
{
	b->ended = true;
	return seal_wrap(w, STR(""), made, &b->seal);
}

static enum rc block_add(struct writer *w, enum block_kind kind, struct block **ret)
{
	static const struct chat_opaque none;
	struct block *last = w->count ? &w->blocks[w->count - 1] : NULL;
	void *more;

	assert(w->count == 0 || w->blocks);
	if (last && last->kind == BLOCK_THINKING && !last->ended)
		TRY(end_thinking(w, last, &none));
	if (last && last->kind != BLOCK_CALL)
		last->ended = true;
	if (w->count == w->size) {
		const size_t size = w->size ? w->size * 2 : BLOCKS_FIRST;

		if (size > BLOCKS_MAX)
			return RC_TOO_LARGE;
		TRY(arena_try_alloc(w->ctx->keep, size * sizeof *w->blocks, &more));
		if (w->count)
			memcpy(more, w->blocks, w->count * sizeof *w->blocks);
		w->blocks = more;
		w->size = size;
	}
	assert(w->blocks);
	*ret = &w->blocks[w->count++];
	**ret = (struct block){.kind = kind};
	return RC_OK;
}

/* Is `b` being written just now, so that what belongs to it need not be kept? */
static bool is_open(const struct writer *w, const struct block *b)
{
	return !w->whole && w->opened && b == &w->blocks[w->at];
}

static enum rc block_say(struct writer *w, struct block *b, struct str text, struct buf *out)
{
	if (is_open(w, b))
		return write_text(w, b, text, out);
	return chat_text_add(w->ctx->keep, &b->text, text);
}

static enum rc on_text(struct writer *w, enum block_kind kind, struct str text, struct buf *out)
{
	struct block *b = last_of(w, kind);

	if (text.len == 0)
		return RC_OK;
	if (!b)
		TRY(block_add(w, kind, &b));
	return block_say(w, b, text, out);
}

static enum rc on_seal(struct writer *w, struct str before, const struct chat_opaque *made)
{
	struct block *b;

	if (made->value.len == 0)
		return RC_OK;
	TRY(block_add(w, BLOCK_SEAL, &b));
	b->ended = true;
	return seal_wrap(w, before, made, &b->seal);
}

static enum rc on_reasoning_end(struct writer *w, const struct chat_delta *d)
{
	struct block *b = last_of(w, BLOCK_THINKING);

	return b ? end_thinking(w, b, &d->opaque) : on_seal(w, STR(""), &d->opaque);
}

static enum rc call_at(struct writer *w, int64_t index, size_t block)
{
	size_t size = w->calls_size ? w->calls_size : BLOCKS_FIRST;
	void *more;

	if (index < 0 || index >= CALLS_MAX)
		return RC_PROTOCOL;
	while (size <= (size_t)index)
		size *= 2;
	if (size != w->calls_size) {
		TRY(arena_try_alloc(w->ctx->keep, size * sizeof *w->block_of_call, &more));
		if (w->calls_size)
			memcpy(more, w->block_of_call, w->calls_size * sizeof *w->block_of_call);
		w->block_of_call = more;
		w->calls_size = size;
	}
	w->block_of_call[index] = block + 1;
	return RC_OK;
}

static enum rc on_call(struct writer *w, const struct chat_delta *d)
{
	struct block *b;

	w->calls = true;
	/* a tool_use has no place for a seal: it goes before it as hidden thinking, which clients give back as it is */
	TRY(on_seal(w, STR(ANTHROPIC_OF_CALL), &d->opaque));
	TRY(block_add(w, BLOCK_CALL, &b));
	TRY(call_at(w, d->index, w->count - 1));
	TRY(keep_str(w->ctx, d->id, &b->id));
	return keep_str(w->ctx, d->name, &b->name);
}

static enum rc on_arguments(struct writer *w, const struct chat_delta *d, struct buf *out)
{
	struct block *b;

	if (d->index < 0 || (size_t)d->index >= w->calls_size || !w->block_of_call[d->index])
		return RC_OK;
	b = &w->blocks[w->block_of_call[d->index] - 1];
	if (b->ended) /* behind the last brace only white space is JSON */
		return RC_OK;
	TRY(block_say(w, b, d->text, out));
	b->ended = chat_braces_close(&b->braces, d->text);
	return RC_OK;
}

/* A source that another provider names. It is read back by whoever named it alone, so its index is marked as theirs. */
static enum rc on_citation(struct writer *w, const struct chat_delta *d, struct buf *out)
{
	AUTO(buf) struct buf json = BUF_INIT(SSE_LINE_BYTES_MAX);
	struct block *b = last_of(w, BLOCK_TEXT);
	static const struct chat_opaque none;
	struct json_out o;
	struct str mark;

	if (!b)
		return RC_OK; /* no words of the answer that it could belong to */
	TRY(seal_wrap(w, STR(""), &none, &mark));
	json_out_begin(&o, &json);
	json_obj(&o, NULL);
	json_put_z(&o, "type", "web_search_result_location");
	json_put_str(&o, "cited_text", d->text.ptr ? d->text : STR(""));
	json_put_str(&o, "url", d->media.url.ptr ? d->media.url : STR(""));
	json_put_str(&o, "title", d->media.name);
	json_put_str(&o, "encrypted_index", mark);
	json_obj_end(&o);
	TRY(json_out_end(&o));
	if (is_open(w, b))
		return write_cite(w, buf_str(&json), out);
	if (b->cites.len)
		TRY(chat_text_add(w->ctx->keep, &b->cites, STR("\n")));
	return chat_text_add(w->ctx->keep, &b->cites, buf_str(&json));
}

static enum rc on_delta(struct writer *w, const struct chat_delta *d, struct buf *out)
{
	switch (d->type) {
	case CHAT_DELTA_TEXT:
	case CHAT_DELTA_REFUSAL:
		return on_text(w, BLOCK_TEXT, d->text, out);
	case CHAT_DELTA_REASONING:
		return on_text(w, BLOCK_THINKING, d->text, out);
	case CHAT_DELTA_REASONING_END:
		return on_reasoning_end(w, d);
	case CHAT_DELTA_TOOL_CALL:
		return on_call(w, d);
	case CHAT_DELTA_TOOL_ARGUMENTS:
		return on_arguments(w, d, out);
	case CHAT_DELTA_CITATION:
		return on_citation(w, d, out);
	case CHAT_DELTA_MEDIA: /* an answer of this dialect has no place for it */
		return RC_OK;
	case CHAT_DELTA_FINISH:
		w->finish = d->finish;
		return keep_str(w->ctx, d->text, &w->stop);
	}
	return RC_OK;
}

static enum rc take_facts(struct writer *w, const struct facts *f, struct buf *out)
{
	if (f->model.len && !w->model.len)
		TRY(keep_str(w->ctx, f->model, &w->model));
	if (f->usage.present)
		w->usage = f->usage;
	if (f->deltas_count > 0 && !w->whole)
		TRY(write_start(w, out));
	for (size_t i = 0; i < f->deltas_count; i++) {
		if (f->deltas[i].choice > 0)
			continue; /* this dialect asks for one */
		TRY(on_delta(w, &f->deltas[i], out));
		TRY(pump(w, out));
	}
	return RC_OK;
}

enum rc anthropic_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	return take_facts(writer_of(ctx), f, out);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static const char *stop_reason(const struct writer *w)
{
	switch (w->finish) {
	case FINISH_LENGTH:
		return "max_tokens";
	case FINISH_TOOL_CALLS:
		return "tool_use";
	case FINISH_CONTENT_FILTER:
		return "refusal";
	case FINISH_PAUSE:
		return "pause_turn";
	case FINISH_NONE:
	case FINISH_STOP:
	case FINISH_OTHER:
		break;
	}
	if (w->calls)
		return "tool_use"; /* some have no finish of their own for it */
	return w->stop.len ? "stop_sequence" : "end_turn";
}

static void put_stop(struct writer *w)
{
	const char *reason = stop_reason(w);
	const bool by_sequence = str_is(str_from(reason), "stop_sequence");

	json_put_z(&w->o, "stop_reason", reason);
	json_put_str(&w->o, "stop_sequence", by_sequence ? w->stop : STR_NULL);
	if (w->finish != FINISH_CONTENT_FILTER)
		return;
	json_obj(&w->o, "stop_details");
	json_put_z(&w->o, "type", "refusal");
	json_put_null(&w->o, "category");
	json_put_null(&w->o, "explanation"); /* where there is one it stands in the text */
	json_obj_end(&w->o);
}

static enum rc end_blocks(struct writer *w)
{
	static const struct chat_opaque none;
	struct block *last = last_of(w, BLOCK_THINKING);

	if (last)
		TRY(end_thinking(w, last, &none));
	for (size_t i = 0; i < w->count; i++)
		w->blocks[i].ended = true;
	return RC_OK;
}

enum rc anthropic_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	struct writer *w = writer_of(ctx);

	TRY(write_start(w, out));
	TRY(end_blocks(w));
	TRY(pump(w, out));
	event_begin(w, out, "message_delta");
	json_obj(&w->o, "delta");
	put_stop(w);
	json_obj_end(&w->o);
	json_obj(&w->o, "usage");
	anthropic_put_usage(&w->o, usage);
	json_obj_end(&w->o);
	TRY(event_end(w, out));
	event_begin(w, out, "message_stop");
	return event_end(w, out);
}

/* ---- all of it at once ---------------------------------------------------------------------------------------------- */

static void put_cites(struct writer *w, const struct block *b)
{
	struct str cites = chat_text_str(&b->cites);

	if (cites.len == 0)
		return;
	json_arr(&w->o, "citations");
	while (cites.len > 0)
		json_put_raw(&w->o, NULL, str_cut(&cites, '\n'));
	json_arr_end(&w->o);
}

/* Input that is no object (a model's slip, or cut off by the maximum) is shown as the text that it is. */
static void put_input(struct writer *w, const struct block *b)
{
	const struct str text = chat_text_str(&b->text);
	struct json *v;

	if (text.len == 0) {
		json_put_raw(&w->o, "input", STR("{}"));
	} else if (json_parse(text, JSON_ALLOW_DUPLICATES, w->ctx->mem, &v, NULL) == RC_OK &&
		   json_type(v) == JSON_OBJECT) {
		json_put_raw(&w->o, "input", str_trim(text));
	} else {
		json_obj(&w->o, "input");
		json_put_str(&w->o, "INVALID_JSON", text);
		json_obj_end(&w->o);
	}
}

static void put_block(struct writer *w, const struct block *b)
{
	json_obj(&w->o, NULL);
	switch (b->kind) {
	case BLOCK_TEXT:
		json_put_z(&w->o, "type", "text");
		json_put_str(&w->o, "text", chat_text_str(&b->text));
		put_cites(w, b);
		break;
	case BLOCK_THINKING:
		json_put_z(&w->o, "type", "thinking");
		json_put_str(&w->o, "thinking", chat_text_str(&b->text));
		json_put_str(&w->o, "signature", b->seal);
		break;
	case BLOCK_SEAL:
		json_put_z(&w->o, "type", "redacted_thinking");
		json_put_str(&w->o, "data", b->seal);
		break;
	case BLOCK_CALL:
		json_put_z(&w->o, "type", "tool_use");
		json_put_str(&w->o, "id", b->id);
		json_put_str(&w->o, "name", b->name);
		put_input(w, b);
		break;
	}
	json_obj_end(&w->o);
}

enum rc anthropic_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct writer *w = writer_of(ctx);

	w->whole = true;
	TRY(take_facts(w, f, out));
	TRY(end_blocks(w));
	json_out_begin(&w->o, out);
	json_obj(&w->o, NULL);
	put_head(w, &w->o);
	json_arr(&w->o, "content");
	for (size_t i = 0; i < w->count; i++)
		put_block(w, &w->blocks[i]);
	json_arr_end(&w->o);
	put_stop(w);
	json_obj(&w->o, "usage");
	anthropic_put_usage(&w->o, &w->usage);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	return json_out_end(&w->o);
}

enum rc anthropic_encode_counted(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct json_out o;

	(void)ctx;
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	json_put_int(&o, "input_tokens", f->counted);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* ---- the same dialect on both sides, and errors --------------------------------------------------------------------- */

enum rc anthropic_encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_ANTHROPIC);
	const size_t before = out->len;
	enum rc rc = buf_append(out, STR("event: error\ndata: "));

	if (rc == RC_OK)
		rc = error_json(ERROR_SHAPE_ANTHROPIC, &a, e, NULL, tollgate_json, out);
	if (rc == RC_OK)
		rc = buf_append(out, STR("\n\n"));
	if (rc != RC_OK && out->ptr) {
		out->len = before;
		out->ptr[before] = '\0';
	}
	return rc;
}

enum rc anthropic_encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       const struct facts *f, struct buf *out)
{
	(void)ctx;
	if (f->error != ERROR_none) /* their words may name accounts: f->err is what may be seen */
		return anthropic_encode_error_event(&f->err, STR_NULL, out);
	return buf_append(out, ev->raw);
}
