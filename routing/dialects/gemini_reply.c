/* routing/dialects/gemini_reply.c - an answer as callers of this dialect get it.
 *
 * Of the vendor itself: its own bytes, or, for who asks for one JSON array, what its events hold. Of any other: chunks
 * of new parts, and at the end one with the finishes and the usage. A call goes out whole, so its arguments are gathered
 * until they are an object; one that never becomes one is what the vendor calls malformed. The state of another
 * provider's model goes out wrapped, as signature of the part it belongs to. */
#include "routing/dialects/gemini_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define CITATIONS_MAX 256

struct pending { /* a call whose arguments are still coming */
	struct pending *next;
	int64_t index;
	struct str id, name, seal;
	struct chat_text arguments;
	struct chat_braces braces;
	bool closed; /* its last brace has come: only then is it worth to be parsed */
};
struct cited {
	struct cited *next;
	struct str url, title, text;
};
struct writer {
	bool begun; /* the array, or the first event */
	bool named;
	struct str model; /* as the provider named it */
	struct {
		bool seen, call_sent, malformed;
		enum finish finish;
		struct pending *calls;
		struct cited *cited;
		size_t cited_count;
	} choice[GEMINI_CHOICES_MAX];
};

struct reply { /* what is being written */
	struct dialect_ctx *ctx;
	struct writer *w;
	struct buf *out;
	struct json_out o;
	bool stream;
	int64_t open; /* the choice whose parts are open in a chunk; -1: none */
};

static enum rc writer_of(struct dialect_ctx *ctx, const struct facts *f, struct writer **ret)
{
	struct writer *w = ctx->writer;

	if (!w)
		ctx->writer = w = ARENA_NEW(ctx->keep, struct writer);
	if (!w->named && f && f->model.len > 0) {
		w->model = arena_str(ctx->keep, str_slice(f->model, 0, 256));
		w->named = true;
	}
	*ret = w;
	return RC_OK;
}

/* ---- framing -------------------------------------------------------------------------------------------------- */

static enum rc event_begin(struct writer *w, const struct call *c, struct buf *out)
{
	const bool first = !w->begun;

	w->begun = true;
	if (!c->stream_array)
		return buf_append(out, STR("data: "));
	return buf_append(out, first ? STR("[") : STR(",\r\n"));
}

static enum rc event_end(const struct call *c, struct buf *out)
{
	return c->stream_array ? RC_OK : buf_append(out, STR("\r\n\r\n"));
}

static void put_names(struct reply *r)
{
	json_put_str(&r->o, "modelVersion", r->w->named ? r->w->model : r->ctx->target->model);
	json_put_str(&r->o, "responseId", r->ctx->id);
}

static enum rc chunk_close(struct reply *r)
{
	if (r->open < 0)
		return RC_OK;
	json_arr_end(&r->o);
	json_obj_end(&r->o);
	json_put_int(&r->o, "index", r->open);
	json_obj_end(&r->o);
	json_arr_end(&r->o);
	put_names(r);
	json_obj_end(&r->o);
	r->open = -1;
	TRY(json_out_end(&r->o));
	return event_end(r->ctx->call, r->out);
}

static void candidate_open(struct reply *r)
{
	json_obj(&r->o, NULL);
	json_obj(&r->o, "content");
	json_put_z(&r->o, "role", "model");
	json_arr(&r->o, "parts");
}

/* Parts of `choice` can be written behind this. */
static enum rc parts_open(struct reply *r, int64_t choice)
{
	r->w->choice[choice].seen = true;
	if (!r->stream || r->open == choice)
		return RC_OK;
	TRY(chunk_close(r));
	TRY(event_begin(r->w, r->ctx->call, r->out));
	json_out_begin(&r->o, r->out);
	json_obj(&r->o, NULL);
	json_arr(&r->o, "candidates");
	candidate_open(r);
	r->open = choice;
	return RC_OK;
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static struct str wrapped(struct reply *r, struct str value, struct str dialect)
{
	const struct chat_opaque o = {
		.value = value,
		.dialect = dialect.len > 0 ? dialect : str_from(r->ctx->target->dialect->name),
		.provider = str_from(r->ctx->target->provider->id),
		.model = r->ctx->target->model,
	};

	return chat_opaque_wrap(r->ctx->mem, &o);
}

static enum rc put_text(struct reply *r, int64_t choice, struct str text)
{
	if (text.len == 0)
		return RC_OK;
	TRY(parts_open(r, choice));
	json_obj(&r->o, NULL);
	json_put_str(&r->o, "text", text);
	json_obj_end(&r->o);
	return RC_OK;
}

static enum rc put_thought(struct reply *r, const struct chat_delta *d)
{
	const bool end = d->type == CHAT_DELTA_REASONING_END;

	if (end ? !d->opaque.value.ptr : d->text.len == 0)
		return RC_OK;
	TRY(parts_open(r, d->choice));
	json_obj(&r->o, NULL);
	json_put_str(&r->o, "text", end ? STR("") : d->text);
	json_put_bool(&r->o, "thought", true);
	if (end)
		json_put_str(&r->o, "thoughtSignature",
			     wrapped(r, d->opaque.value, d->opaque.dialect));
	json_obj_end(&r->o);
	return RC_OK;
}

static enum rc put_media(struct reply *r, const struct chat_delta *d)
{
	const struct chat_media *m = &d->media;

	if (!m->data.ptr && !m->url.ptr)
		return RC_OK;
	TRY(parts_open(r, d->choice));
	json_obj(&r->o, NULL);
	json_obj(&r->o, m->data.ptr ? "inlineData" : "fileData");
	json_put_str(&r->o, "mimeType", m->mime.ptr ? m->mime : STR(""));
	json_put_str(&r->o, m->data.ptr ? "data" : "fileUri", m->data.ptr ? m->data : m->url);
	json_obj_end(&r->o);
	json_obj_end(&r->o);
	return RC_OK;
}

/* ---- calls -------------------------------------------------------------------------------------------------------- */

static enum rc kept(struct reply *r, struct str s, struct str *ret)
{
	void *p;

	if (!s.ptr) {
		*ret = STR_NULL;
		return RC_OK;
	}
	TRY(arena_try_alloc(r->ctx->keep, s.len + 1, &p));
	if (s.len > 0)
		memcpy(p, s.ptr, s.len);
	*ret = str_of(p, s.len);
	return RC_OK;
}

static bool is_object(struct reply *r, struct str text)
{
	struct json *v;

	return text.len > 1 && text.ptr[text.len - 1] == '}' &&
	       json_parse(text, JSON_ALLOW_DUPLICATES, r->ctx->mem, &v, NULL) == RC_OK &&
	       json_type(v) == JSON_OBJECT;
}

/* The first call of an answer says whose it is even where its maker seals nothing: it may go back to the vendor. */
static enum rc put_call(struct reply *r, int64_t choice, const struct pending *p, struct str args)
{
	TRY(parts_open(r, choice));
	json_obj(&r->o, NULL);
	json_obj(&r->o, "functionCall");
	json_put_str(&r->o, "id", p->id);
	json_put_str(&r->o, "name", p->name);
	json_put_raw(&r->o, "args", args);
	json_obj_end(&r->o);
	if (p->seal.ptr)
		json_put_str(&r->o, "thoughtSignature", p->seal);
	else if (!r->w->choice[choice].call_sent)
		json_put_str(&r->o, "thoughtSignature", wrapped(r, STR(""), STR("")));
	json_obj_end(&r->o);
	r->w->choice[choice].call_sent = true;
	return RC_OK;
}

/* The calls at the front that are whole; with `all` none is left behind. */
static enum rc calls_flush(struct reply *r, int64_t choice, bool all)
{
	struct pending **list = &r->w->choice[choice].calls;

	while (*list) {
		struct pending *p = *list;
		struct str args = chat_text_str(&p->arguments);

		if (all && args.len == 0)
			args = STR("{}");
		if (!all && !p->closed)
			return RC_OK;
		if (is_object(r, args))
			TRY(put_call(r, choice, p, args));
		else
			r->w->choice[choice].malformed = true;
		*list = p->next;
	}
	return RC_OK;
}

static enum rc call_begin(struct reply *r, const struct chat_delta *d)
{
	struct pending **at = &r->w->choice[d->choice].calls, *p;
	void *mem;

	TRY(calls_flush(r, d->choice, false));
	TRY(arena_try_alloc(r->ctx->keep, sizeof *p, &mem));
	p = mem;
	p->index = d->index;
	TRY(kept(r, d->id, &p->id));
	TRY(kept(r, d->name, &p->name));
	if (d->opaque.value.ptr)
		TRY(kept(r, wrapped(r, d->opaque.value, d->opaque.dialect), &p->seal));
	while (*at)
		at = &(*at)->next;
	*at = p;
	return RC_OK;
}

static enum rc call_goes_on(struct reply *r, const struct chat_delta *d)
{
	struct pending *p = r->w->choice[d->choice].calls;

	while (p && p->index != d->index)
		p = p->next;
	if (!p || p->closed) /* behind the last brace only white space is JSON */
		return RC_OK;
	p->closed = chat_braces_close(&p->braces, d->text);
	return chat_text_add(r->ctx->keep, &p->arguments, d->text);
}

/* ---- deltas --------------------------------------------------------------------------------------------------------- */

static enum rc cite(struct reply *r, const struct chat_delta *d)
{
	struct cited **at = &r->w->choice[d->choice].cited;
	void *mem;

	if (!d->media.url.ptr || r->w->choice[d->choice].cited_count == CITATIONS_MAX)
		return RC_OK;
	r->w->choice[d->choice].cited_count++;
	while (*at)
		at = &(*at)->next;
	TRY(arena_try_alloc(r->ctx->keep, sizeof **at, &mem));
	*at = mem;
	TRY(kept(r, d->media.url, &(*at)->url));
	TRY(kept(r, d->media.name, &(*at)->title));
	return kept(r, d->text, &(*at)->text);
}

static enum rc put_delta(struct reply *r, const struct chat_delta *d)
{
	if (d->type != CHAT_DELTA_TOOL_CALL && d->type != CHAT_DELTA_TOOL_ARGUMENTS)
		TRY(calls_flush(r, d->choice, d->type == CHAT_DELTA_FINISH));
	switch (d->type) {
	case CHAT_DELTA_TEXT:
	case CHAT_DELTA_REFUSAL:
		return put_text(r, d->choice, d->text);
	case CHAT_DELTA_REASONING:
	case CHAT_DELTA_REASONING_END:
		return put_thought(r, d);
	case CHAT_DELTA_TOOL_CALL:
		return call_begin(r, d);
	case CHAT_DELTA_TOOL_ARGUMENTS:
		return call_goes_on(r, d);
	case CHAT_DELTA_CITATION:
		return cite(r, d);
	case CHAT_DELTA_MEDIA:
		return put_media(r, d);
	case CHAT_DELTA_FINISH:
		r->w->choice[d->choice].seen = true;
		r->w->choice[d->choice].finish = d->finish;
		return RC_OK;
	}
	return RC_OK;
}

static bool in_range(const struct chat_delta *d)
{
	return d->choice >= 0 && d->choice < GEMINI_CHOICES_MAX;
}

enum rc gemini_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct reply r = {.ctx = ctx, .out = out, .stream = true, .open = -1};

	TRY(writer_of(ctx, f, &r.w));
	for (size_t i = 0; i < f->deltas_count; i++)
		if (in_range(&f->deltas[i]))
			TRY(put_delta(&r, &f->deltas[i]));
	return chunk_close(&r);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

static const char *finish_word(enum finish f, bool malformed)
{
	switch (f) {
	case FINISH_LENGTH:
		return "MAX_TOKENS"; /* a call that was cut by it, too */
	case FINISH_CONTENT_FILTER:
		return "SAFETY";
	case FINISH_OTHER:
		return malformed ? "MALFORMED_FUNCTION_CALL" : "OTHER";
	default:
		return malformed ? "MALFORMED_FUNCTION_CALL" : "STOP";
	}
}

static void put_support(struct reply *r, const struct cited *c, int64_t i)
{
	if (c->text.len == 0)
		return;
	json_obj(&r->o, NULL);
	json_obj(&r->o, "segment");
	json_put_str(&r->o, "text", c->text);
	json_obj_end(&r->o);
	json_arr(&r->o, "groundingChunkIndices");
	json_put_int(&r->o, NULL, i);
	json_arr_end(&r->o);
	json_obj_end(&r->o);
}

static void put_sources(struct reply *r, const struct cited *first)
{
	int64_t i = 0;

	if (!first)
		return;
	json_obj(&r->o, "groundingMetadata");
	json_arr(&r->o, "groundingChunks");
	for (const struct cited *c = first; c; c = c->next) {
		json_obj(&r->o, NULL);
		json_obj(&r->o, "web");
		json_put_str(&r->o, "uri", c->url);
		if (c->title.len > 0)
			json_put_str(&r->o, "title", c->title);
		json_obj_end(&r->o);
		json_obj_end(&r->o);
	}
	json_arr_end(&r->o);
	json_arr(&r->o, "groundingSupports");
	for (const struct cited *c = first; c; c = c->next)
		put_support(r, c, i++);
	json_arr_end(&r->o);
	json_obj_end(&r->o);
}

static void candidate_close(struct reply *r, int64_t choice)
{
	json_arr_end(&r->o);
	json_obj_end(&r->o);
	json_put_z(&r->o, "finishReason",
		   finish_word(r->w->choice[choice].finish, r->w->choice[choice].malformed));
	json_put_int(&r->o, "index", choice);
	put_sources(r, r->w->choice[choice].cited);
	json_obj_end(&r->o);
}

static bool is_there(const struct reply *r, int64_t choice)
{
	return choice == 0 || r->w->choice[choice].seen;
}

static enum rc put_last(struct reply *r, const struct usage *usage)
{
	TRY(event_begin(r->w, r->ctx->call, r->out));
	json_out_begin(&r->o, r->out);
	json_obj(&r->o, NULL);
	json_arr(&r->o, "candidates");
	for (int64_t i = 0; i < GEMINI_CHOICES_MAX; i++) {
		if (!is_there(r, i))
			continue;
		candidate_open(r);
		json_obj(&r->o, NULL);
		json_put_z(&r->o, "text", ""); /* the clients look for a part */
		json_obj_end(&r->o);
		candidate_close(r, i);
	}
	json_arr_end(&r->o);
	gemini_usage_write(&r->o, usage);
	put_names(r);
	json_obj_end(&r->o);
	TRY(json_out_end(&r->o));
	return event_end(r->ctx->call, r->out);
}

enum rc gemini_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	struct reply r = {.ctx = ctx, .out = out, .stream = true, .open = -1};

	TRY(writer_of(ctx, NULL, &r.w));
	if (ctx->translate) {
		for (int64_t i = 0; i < GEMINI_CHOICES_MAX; i++)
			TRY(calls_flush(&r, i, true));
		TRY(chunk_close(&r));
		TRY(put_last(&r, usage));
	}
	if (!ctx->call->stream_array)
		return RC_OK;
	return buf_append(out, r.w->begun ? STR("]") : STR("[]"));
}

enum rc gemini_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct reply r = {.ctx = ctx, .out = out, .open = -1};
	int64_t choices = 0;

	TRY(writer_of(ctx, f, &r.w));
	for (size_t i = 0; i < f->deltas_count; i++)
		if (in_range(&f->deltas[i]) && f->deltas[i].choice > choices)
			choices = f->deltas[i].choice;
	json_out_begin(&r.o, out);
	json_obj(&r.o, NULL);
	json_arr(&r.o, "candidates");
	for (int64_t c = 0; c <= choices; c++) {
		candidate_open(&r);
		for (size_t i = 0; i < f->deltas_count; i++)
			if (f->deltas[i].choice == c)
				TRY(put_delta(&r, &f->deltas[i]));
		TRY(calls_flush(&r, c, true));
		candidate_close(&r, c);
	}
	json_arr_end(&r.o);
	gemini_usage_write(&r.o, &f->usage);
	put_names(&r);
	json_obj_end(&r.o);
	return json_out_end(&r.o);
}

enum rc gemini_count_encode_response(struct dialect_ctx *ctx, const struct facts *f,
				     struct buf *out)
{
	(void)ctx;
	return buf_printf(out, "{\"totalTokens\":%lld}", (long long)f->counted);
}

/* ---- of the vendor itself ------------------------------------------------------------------------------------------------ */

enum rc gemini_encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_GEMINI);
	const size_t before = out->len;
	enum rc rc = error_json(ERROR_SHAPE_GEMINI, &a, e, NULL, tollgate_json, out);

	/* Bare: its clients parse what they read, and look for an error before they look for events. With nothing behind it:
	 * read together with the event before it, a block that ends is one they pass over, and one that does not they raise
	 * on (js-genai _api_client.ts processStreamResponse). */
	if (rc != RC_OK && out->ptr) {
		out->len = before;
		out->ptr[before] = '\0';
	}
	return rc;
}

enum rc gemini_encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out)
{
	struct writer *w;

	if (f->error !=
	    ERROR_none) /* their words may name keys and projects: f->err is what may be seen */
		return gemini_encode_error_event(&f->err, STR_NULL, out);
	if (!ctx->call->stream_array)
		return buf_append(out, ev->raw);
	if (ev->comment || str_trim(ev->data).len == 0)
		return RC_OK;
	TRY(writer_of(ctx, NULL, &w));
	TRY(event_begin(w, ctx->call, out));
	return buf_append(out, ev->data);
}
