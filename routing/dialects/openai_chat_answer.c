/* routing/dialects/openai_chat_answer.c - deltas as a chat completions answer: chunks of a stream, or a whole one.
 *
 * For a caller of this dialect whose target speaks another. Chunks are as OpenAI makes them: the role first, one thing per
 * chunk, finish, usage where it was asked for, [DONE]. Reasoning is `reasoning_content`; its seal, wrapped, and with it the
 * text it seals, is one entry of `reasoning_details`, which comes back unchanged from clients that keep what they do not
 * know; a seal on a call or on text is `extra_content`, as Gemini's own endpoint of this dialect has it. */
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"

#define MODEL_BYTES_MAX 256 /* of the name that the provider gives it */

struct choice_written {
	bool begun;
	bool called;
	enum finish finish;
	int64_t chars;		    /* of content so far: where a citation stands */
	struct chat_text reasoning; /* of the block that is open, for its seal */
	int64_t blocks;		    /* sealed so far: an index for clients that merge by it */
};
struct writer {
	struct str model, head; /* head: of every chunk, up to the choice */
	struct choice_written *choices[OPENAI_CHOICES_MAX];
	int64_t choices_count; /* one more than the last begun */
};

static struct writer *writer_of(struct dialect_ctx *ctx)
{
	if (!ctx->writer)
		ctx->writer = ARENA_NEW(ctx->keep, struct writer);
	return ctx->writer;
}

static struct choice_written *choice_of(struct dialect_ctx *ctx, int64_t i)
{
	struct writer *w = writer_of(ctx);

	if (i < 0 || i >= OPENAI_CHOICES_MAX)
		i = 0;
	if (!w->choices[i])
		w->choices[i] = ARENA_NEW(ctx->keep, struct choice_written);
	if (i >= w->choices_count)
		w->choices_count = i + 1;
	return w->choices[i];
}

static struct str wrapped(struct dialect_ctx *ctx, const struct chat_opaque *seal)
{
	struct chat_opaque o = *seal;

	o.provider = str_from(ctx->target->provider->id);
	o.model = ctx->target->model;
	return chat_opaque_wrap(ctx->mem, &o);
}

static int64_t chars_of(struct str s)
{
	int64_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return n;
}

/* ---- what stands in a delta and in a message alike ------------------------------------------------------------ */

static void put_extra(struct json_out *o, struct str seal)
{
	json_obj(o, "extra_content");
	json_obj(o, "google");
	json_put_str(o, "thought_signature", seal);
	json_obj_end(o);
	json_obj_end(o);
}

/* `text` is what is sealed; without it the seal is all there is of hidden reasoning. */
static void put_detail(struct json_out *o, struct str text, struct str seal, int64_t index)
{
	json_obj(o, NULL);
	json_put_z(o, "type", text.len ? "reasoning.text" : "reasoning.encrypted");
	if (text.len)
		json_put_str(o, "text", text);
	json_put_str(o, text.len ? "signature" : "data", seal);
	json_put_int(o, "index", index);
	json_obj_end(o);
}

/* The words cited end where the content does now. */
static void put_citation(struct json_out *o, const struct chat_delta *d, int64_t at)
{
	const int64_t cited = chars_of(d->text);

	json_obj(o, NULL);
	json_put_z(o, "type", "url_citation");
	json_obj(o, "url_citation");
	json_put_str(o, "url", d->media.url.ptr ? d->media.url : STR(""));
	json_put_str(o, "title", d->media.name.ptr ? d->media.name : STR(""));
	json_put_int(o, "start_index", cited < at ? at - cited : 0);
	json_put_int(o, "end_index", at);
	json_obj_end(o);
	json_obj_end(o);
}

static void put_image(struct json_out *o, struct arena *mem, const struct chat_media *m)
{
	struct str url = m->data.ptr ? chat_data_url_make(mem, m) : m->url;

	json_obj(o, NULL);
	json_put_z(o, "type", "image_url");
	json_obj(o, "image_url");
	json_put_str(o, "url", url.ptr ? url : STR(""));
	json_obj_end(o);
	json_obj_end(o);
}

static void put_call(struct json_out *o, struct dialect_ctx *ctx, const struct chat_delta *d,
		     bool indexed, struct str arguments)
{
	json_obj(o, NULL);
	if (indexed)
		json_put_int(o, "index", d->index);
	json_put_str(o, "id", d->id);
	json_put_z(o, "type", "function");
	json_obj(o, "function");
	json_put_str(o, "name", d->name);
	json_put_str(o, "arguments", arguments);
	json_obj_end(o);
	if (d->opaque.value.ptr)
		put_extra(o, wrapped(ctx, &d->opaque));
	json_obj_end(o);
}

/* pause_turn has no word here: the answer stops, and who knows the field sees that it can go on. */
static void put_finish(struct json_out *o, enum finish finish, bool called)
{
	const char *reason = "stop";

	switch (finish) {
	case FINISH_LENGTH:
		reason = "length";
		break;
	case FINISH_CONTENT_FILTER:
		reason = "content_filter";
		break;
	case FINISH_TOOL_CALLS:
		reason = "tool_calls";
		break;
	case FINISH_NONE:
	case FINISH_STOP:
	case FINISH_OTHER:
		reason = called ? "tool_calls" : "stop";
		break;
	case FINISH_PAUSE:
		break;
	}
	json_put_z(o, "finish_reason", reason);
	if (finish == FINISH_PAUSE)
		json_put_z(o, "native_finish_reason", "pause_turn");
}

/* ---- a stream --------------------------------------------------------------------------------------------------- */

static void put_head(struct json_out *o, struct dialect_ctx *ctx, const char *object,
		     struct str model)
{
	json_put_str(o, "id", arena_printf(ctx->mem, "chatcmpl-%.*s", STR_FMT(ctx->id)));
	json_put_z(o, "object", object);
	json_put_int(o, "created", ctx->created_s);
	json_put_str(o, "model", model);
}

/* Every chunk begins alike: written once. */
static enum rc head_make(struct dialect_ctx *ctx, const struct facts *f)
{
	AUTO(buf) struct buf text = BUF_INIT(64u << 10);
	struct writer *w = writer_of(ctx);
	struct json_out o;

	if (w->model.len == 0 && f && f->model.len)
		w->model = arena_str(ctx->keep, str_slice(f->model, 0, MODEL_BYTES_MAX));
	if (w->head.ptr)
		return RC_OK;
	if (f && f->deltas_count == 0)
		return RC_OK; /* nothing begins: a later event may name the model */
	TRY(buf_append(&text, STR("data: ")));
	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	put_head(&o, ctx, "chat.completion.chunk", w->model.len ? w->model : ctx->target->model);
	if (ctx->call->usage_asked)
		json_put_null(&o, "usage");
	TRY(json_out_end(&o));
	w->head = arena_str(ctx->keep, buf_str(&text));
	return RC_OK;
}

/* Up to the delta's members. */
static enum rc chunk_begin(struct dialect_ctx *ctx, int64_t choice, struct json_out *o,
			   struct buf *out)
{
	TRY(buf_append(out, writer_of(ctx)->head));
	json_out_begin(o, out);
	o->comma = true;
	json_arr(o, "choices");
	json_obj(o, NULL);
	json_put_int(o, "index", choice);
	json_obj(o, "delta");
	return RC_OK;
}

static enum rc chunk_end(struct json_out *o, const struct choice_written *finished)
{
	json_obj_end(o);
	json_put_null(o, "logprobs");
	if (finished)
		put_finish(o, finished->finish, finished->called);
	else
		json_put_null(o, "finish_reason");
	json_obj_end(o);
	json_arr_end(o);
	json_obj_end(o);
	TRY(json_out_end(o));
	return buf_append(o->buf, STR("\n\n"));
}

static enum rc choice_begin(struct dialect_ctx *ctx, int64_t i, struct buf *out)
{
	struct choice_written *c = choice_of(ctx, i);
	struct json_out o;

	if (c->begun)
		return RC_OK;
	c->begun = true;
	TRY(chunk_begin(ctx, i, &o, out));
	json_put_z(&o, "role", "assistant");
	json_put_str(&o, "content", STR(""));
	json_put_null(&o, "refusal");
	return chunk_end(&o, NULL);
}

static void put_arguments(struct json_out *o, const struct chat_delta *d)
{
	json_obj(o, NULL);
	json_put_int(o, "index", d->index);
	json_obj(o, "function");
	json_put_str(o, "arguments", d->text);
	json_obj_end(o);
	json_obj_end(o);
}

static void put_media(struct json_out *o, struct arena *mem, const struct chat_delta *d)
{
	if (str_starts(d->media.mime, STR("audio/"))) {
		json_obj(o, "audio");
		json_put_str(o, "data", d->media.data.ptr ? d->media.data : STR(""));
		json_obj_end(o);
		return;
	}
	json_arr(o, "images");
	put_image(o, mem, &d->media);
	json_arr_end(o);
}

/* The members of one delta. */
static void put_delta(struct json_out *o, struct dialect_ctx *ctx, struct choice_written *c,
		      const struct chat_delta *d)
{
	switch (d->type) {
	case CHAT_DELTA_TEXT:
		c->chars += chars_of(d->text);
		json_put_str(o, "content", d->text);
		if (d->opaque.value.ptr)
			put_extra(o, wrapped(ctx, &d->opaque));
		break;
	case CHAT_DELTA_REASONING:
		json_put_str(o, "reasoning_content", d->text);
		break;
	case CHAT_DELTA_REASONING_END:
		json_arr(o, "reasoning_details");
		put_detail(o, chat_text_str(&c->reasoning), wrapped(ctx, &d->opaque), c->blocks++);
		json_arr_end(o);
		break;
	case CHAT_DELTA_REFUSAL:
		json_put_str(o, "refusal", d->text);
		break;
	case CHAT_DELTA_TOOL_CALL:
		c->called = true;
		json_arr(o, "tool_calls");
		put_call(o, ctx, d, true, STR(""));
		json_arr_end(o);
		break;
	case CHAT_DELTA_TOOL_ARGUMENTS:
		json_arr(o, "tool_calls");
		put_arguments(o, d);
		json_arr_end(o);
		break;
	case CHAT_DELTA_CITATION:
		json_arr(o, "annotations");
		put_citation(o, d, c->chars);
		json_arr_end(o);
		break;
	case CHAT_DELTA_MEDIA:
		put_media(o, ctx->mem, d);
		break;
	case CHAT_DELTA_FINISH:
		break;
	}
}

static enum rc delta_write(struct dialect_ctx *ctx, const struct chat_delta *d, struct buf *out)
{
	struct choice_written *c = choice_of(ctx, d->choice);
	const bool ends = d->type == CHAT_DELTA_REASONING_END;
	struct json_out o;

	if (d->type == CHAT_DELTA_FINISH) {
		c->finish = d->finish;
		return RC_OK;
	}
	if (d->type == CHAT_DELTA_REASONING)
		TRY(chat_text_add(ctx->keep, &c->reasoning, d->text));
	if (!ends || d->opaque.value.ptr) {
		TRY(chunk_begin(ctx, d->choice, &o, out));
		put_delta(&o, ctx, c, d);
		TRY(chunk_end(&o, NULL));
	}
	if (ends)
		c->reasoning.len = 0;
	return RC_OK;
}

/* What does not fit is not there at all. */
static enum rc whole_or_nothing(struct buf *out, size_t before, enum rc rc)
{
	if (rc != RC_OK && out->ptr) {
		out->len = before;
		out->ptr[before] = '\0';
	}
	return rc;
}

enum rc openai_chat_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	const size_t before = out->len;
	enum rc rc = head_make(ctx, f);

	for (size_t i = 0; i < f->deltas_count && rc == RC_OK; i++) {
		rc = choice_begin(ctx, f->deltas[i].choice, out);
		if (rc == RC_OK)
			rc = delta_write(ctx, &f->deltas[i], out);
	}
	return whole_or_nothing(out, before, rc);
}

static enum rc usage_chunk(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	struct writer *w = writer_of(ctx);
	struct json_out o;

	TRY(buf_append(out, STR("data: ")));
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	put_head(&o, ctx, "chat.completion.chunk", w->model.len ? w->model : ctx->target->model);
	json_arr(&o, "choices");
	json_arr_end(&o);
	openai_usage_write(&o, "usage", usage);
	json_obj_end(&o);
	TRY(json_out_end(&o));
	return buf_append(out, STR("\n\n"));
}

static enum rc end_write(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	struct writer *w = writer_of(ctx);
	struct json_out o;

	TRY(head_make(ctx, NULL));
	TRY(choice_begin(ctx, 0, out));
	for (int64_t i = 0; i < w->choices_count; i++) {
		if (!w->choices[i])
			continue;
		TRY(chunk_begin(ctx, i, &o, out));
		TRY(chunk_end(&o, w->choices[i]));
	}
	if (ctx->call->usage_asked && usage->present)
		TRY(usage_chunk(ctx, usage, out));
	return buf_append(out, STR("data: [DONE]\n\n"));
}

enum rc openai_chat_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	const size_t before = out->len;

	return whole_or_nothing(out, before, end_write(ctx, usage, out));
}

/* ---- a whole answer ------------------------------------------------------------------------------------------------ */

struct call_written {
	const struct chat_delta *begins;
	struct chat_text arguments;
};
struct message { /* one choice, gathered */
	int64_t choice;
	struct chat_text content, reasoning, refusal;
	struct call_written *calls;
	size_t calls_count;
	size_t details, citations, media;
	struct str signature; /* of the text */
	enum finish finish;
};

static bool is_of(const struct message *m, const struct chat_delta *d, enum chat_delta_type type)
{
	return d->choice == m->choice && d->type == type;
}

static enum rc gather_one(struct dialect_ctx *ctx, const struct chat_delta *d, struct message *m)
{
	switch (d->type) {
	case CHAT_DELTA_TEXT:
		if (d->opaque.value.ptr)
			m->signature = wrapped(ctx, &d->opaque);
		return chat_text_add(ctx->mem, &m->content, d->text);
	case CHAT_DELTA_REASONING:
		return chat_text_add(ctx->mem, &m->reasoning, d->text);
	case CHAT_DELTA_REFUSAL:
		return chat_text_add(ctx->mem, &m->refusal, d->text);
	case CHAT_DELTA_TOOL_CALL:
		if (d->index >= 0 && (size_t)d->index < m->calls_count)
			m->calls[d->index].begins = d;
		break;
	case CHAT_DELTA_TOOL_ARGUMENTS:
		if (d->index >= 0 && (size_t)d->index < m->calls_count)
			return chat_text_add(ctx->mem, &m->calls[d->index].arguments, d->text);
		break;
	case CHAT_DELTA_REASONING_END:
		m->details += d->opaque.value.ptr != NULL;
		break;
	case CHAT_DELTA_CITATION:
		m->citations++;
		break;
	case CHAT_DELTA_MEDIA:
		m->media++;
		break;
	case CHAT_DELTA_FINISH:
		m->finish = d->finish;
		break;
	}
	return RC_OK;
}

static enum rc gather(struct dialect_ctx *ctx, const struct facts *f, struct message *m)
{
	void *calls;

	for (size_t i = 0; i < f->deltas_count; i++)
		m->calls_count += is_of(m, &f->deltas[i], CHAT_DELTA_TOOL_CALL);
	TRY(arena_try_alloc(ctx->mem, (m->calls_count + 1) * sizeof *m->calls, &calls));
	m->calls = calls;
	for (size_t i = 0; i < f->deltas_count; i++)
		if (f->deltas[i].choice == m->choice)
			TRY(gather_one(ctx, &f->deltas[i], m));
	return RC_OK;
}

static enum rc put_details(struct json_out *o, struct dialect_ctx *ctx, const struct facts *f,
			   const struct message *m)
{
	struct chat_text block = {0};
	int64_t n = 0;

	json_arr(o, "reasoning_details");
	for (size_t i = 0; i < f->deltas_count; i++) {
		const struct chat_delta *d = &f->deltas[i];

		if (is_of(m, d, CHAT_DELTA_REASONING))
			TRY(chat_text_add(ctx->mem, &block, d->text));
		if (!is_of(m, d, CHAT_DELTA_REASONING_END))
			continue;
		if (d->opaque.value.ptr)
			put_detail(o, chat_text_str(&block), wrapped(ctx, &d->opaque), n++);
		block.len = 0;
	}
	json_arr_end(o);
	return RC_OK;
}

static void put_annotations(struct json_out *o, const struct facts *f, const struct message *m)
{
	int64_t chars = 0;

	json_arr(o, "annotations");
	for (size_t i = 0; i < f->deltas_count; i++) {
		if (is_of(m, &f->deltas[i], CHAT_DELTA_TEXT))
			chars += chars_of(f->deltas[i].text);
		if (is_of(m, &f->deltas[i], CHAT_DELTA_CITATION))
			put_citation(o, &f->deltas[i], chars);
	}
	json_arr_end(o);
}

static void put_images(struct json_out *o, struct arena *mem, const struct facts *f,
		       const struct message *m)
{
	json_arr(o, "images");
	for (size_t i = 0; i < f->deltas_count; i++)
		if (is_of(m, &f->deltas[i], CHAT_DELTA_MEDIA))
			put_image(o, mem, &f->deltas[i].media);
	json_arr_end(o);
}

static void put_calls(struct json_out *o, struct dialect_ctx *ctx, const struct message *m)
{
	json_arr(o, "tool_calls");
	for (size_t i = 0; i < m->calls_count; i++)
		if (m->calls[i].begins)
			put_call(o, ctx, m->calls[i].begins, false,
				 chat_text_str(&m->calls[i].arguments));
	json_arr_end(o);
}

static enum rc put_message(struct json_out *o, struct dialect_ctx *ctx, const struct facts *f,
			   const struct message *m)
{
	json_obj(o, "message");
	json_put_z(o, "role", "assistant");
	if (m->content.len || (m->calls_count == 0 && m->refusal.len == 0))
		json_put_str(o, "content", chat_text_str(&m->content));
	else
		json_put_null(o, "content");
	json_put_str(o, "refusal", m->refusal.len ? chat_text_str(&m->refusal) : STR_NULL);
	if (m->reasoning.len)
		json_put_str(o, "reasoning_content", chat_text_str(&m->reasoning));
	if (m->details)
		TRY(put_details(o, ctx, f, m));
	if (m->calls_count)
		put_calls(o, ctx, m);
	if (m->signature.ptr)
		put_extra(o, m->signature);
	if (m->media)
		put_images(o, ctx->mem, f, m);
	put_annotations(o, f, m);
	json_obj_end(o);
	return RC_OK;
}

static enum rc put_choice(struct json_out *o, struct dialect_ctx *ctx, const struct facts *f,
			  int64_t i)
{
	struct message m = {.choice = i};

	TRY(gather(ctx, f, &m));
	json_obj(o, NULL);
	json_put_int(o, "index", i);
	TRY(put_message(o, ctx, f, &m));
	json_put_null(o, "logprobs");
	put_finish(o, m.finish, m.calls_count > 0);
	json_obj_end(o);
	return RC_OK;
}

static enum rc response_write(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	int64_t choices = 1;
	struct json_out o;

	for (size_t i = 0; i < f->deltas_count; i++)
		if (f->deltas[i].choice >= choices && f->deltas[i].choice < OPENAI_CHOICES_MAX)
			choices = f->deltas[i].choice + 1;
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	put_head(&o, ctx, "chat.completion", f->model.len ? f->model : ctx->target->model);
	json_arr(&o, "choices");
	for (int64_t i = 0; i < choices; i++)
		TRY(put_choice(&o, ctx, f, i));
	json_arr_end(&o);
	if (f->usage.present)
		openai_usage_write(&o, "usage", &f->usage);
	json_obj_end(&o);
	return json_out_end(&o);
}

enum rc openai_chat_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	const size_t before = out->len;

	return whole_or_nothing(out, before, response_write(ctx, f, out));
}
