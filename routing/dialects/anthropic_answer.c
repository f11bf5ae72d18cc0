/* routing/dialects/anthropic_answer.c - what a provider of the Messages API answers, as facts and deltas.
 *
 * Read leniently: unknown blocks, events and fields are normal. Tools that the provider runs itself are no calls of the
 * caller's: their blocks are passed over, the text around them stays. A stream is whole with message_stop alone; pings say
 * nothing. Where JSON was had by a forced tool, that tool's input is the text that was asked for. */
#include "routing/dialects/anthropic_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/errors.h"

enum block { BLOCK_OTHER, BLOCK_TEXT, BLOCK_THINKING, BLOCK_CALL, BLOCK_JSON };

struct reader {
	struct anthropic_usage usage;
	enum block block; /* the open one: they never overlap */
	int64_t calls;	  /* of the caller's tools, so far */
	bool arguments;	  /* the open call's input was begun */
	bool whole_input; /* ... and came whole with its beginning */
	bool json;	  /* the answer is the forced tool's input */
	bool finished;
	struct chat_text signature; /* of the open thinking */
};

static struct reader *reader_of(struct dialect_ctx *ctx)
{
	if (!ctx->reader)
		ctx->reader = ARENA_NEW(ctx->keep, struct reader);
	return ctx->reader;
}

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s;
}

/* ---- content ------------------------------------------------------------------------------------------------ */

static void say(struct dialect_ctx *ctx, struct facts *f, enum chat_delta_type type,
		struct str text)
{
	if (text.len == 0)
		return;
	f->content = true;
	f->text_bytes += (int64_t)text.len;
	if (ctx->translate)
		chat_delta_add(ctx->mem, f, type)->text = text;
}

/* A piece of a call's input. */
static void say_input(struct dialect_ctx *ctx, struct reader *r, struct facts *f, struct str text)
{
	struct chat_delta *d;

	if (text.len == 0)
		return;
	r->arguments = true;
	f->content = true;
	f->text_bytes += (int64_t)text.len;
	if (!ctx->translate)
		return;
	if (r->block == BLOCK_JSON) {
		chat_delta_add(ctx->mem, f, CHAT_DELTA_TEXT)->text = text;
		return;
	}
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_TOOL_ARGUMENTS);
	d->index = r->calls - 1;
	d->text = text;
}

static enum rc say_value(struct dialect_ctx *ctx, struct reader *r, struct facts *f,
			 const struct json *input)
{
	AUTO(buf) struct buf raw = BUF_INIT(SSE_LINE_BYTES_MAX * 2);
	void *copy;

	TRY(json_write(input, &raw));
	TRY(arena_try_alloc(ctx->mem, raw.len + 1, &copy));
	memcpy(copy, raw.ptr, raw.len);
	say_input(ctx, r, f, str_of(copy, raw.len));
	return RC_OK;
}

static enum rc keep_signature(struct dialect_ctx *ctx, struct reader *r, struct str text)
{
	return ctx->translate ? chat_text_add(ctx->keep, &r->signature, text) : RC_OK;
}

static void end_thinking(struct dialect_ctx *ctx, struct facts *f, struct str seal)
{
	struct chat_delta *d;

	if (!ctx->translate)
		return;
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_REASONING_END);
	if (seal.len)
		d->opaque = (struct chat_opaque){.value = seal, .dialect = STR(ANTHROPIC_NAME)};
}

static void say_redacted(struct dialect_ctx *ctx, struct facts *f, struct str data)
{
	struct chat_text seal = {0};

	f->content = true;
	if (ctx->translate && chat_text_add(ctx->mem, &seal, STR(ANTHROPIC_REDACTED)) == RC_OK &&
	    chat_text_add(ctx->mem, &seal, data) == RC_OK)
		end_thinking(ctx, f, chat_text_str(&seal));
}

static void say_citation(struct dialect_ctx *ctx, struct facts *f, const struct json *cite)
{
	struct chat_delta *d;

	if (!ctx->translate || json_type(cite) != JSON_OBJECT)
		return;
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_CITATION);
	d->text = text_of(cite, "cited_text");
	d->media.url = text_of(cite, "url");
	if (!d->media.url.ptr)
		d->media.url = text_of(cite, "source");
	d->media.name = text_of(cite, "title");
	if (!d->media.name.ptr)
		d->media.name = text_of(cite, "document_title");
}

static enum rc begin_call(struct dialect_ctx *ctx, struct reader *r, struct facts *f,
			  const struct json *block)
{
	const struct str name = text_of(block, "name");
	const struct json *input = json_get(block, "input");
	struct chat_delta *d;

	r->arguments = r->whole_input = false;
	r->block = BLOCK_CALL;
	f->content = true;
	if (ctx->translate && str_is(name, ANTHROPIC_JSON_TOOL)) {
		r->block = BLOCK_JSON;
		r->json = true;
	} else {
		if (r->calls == CHAT_CALLS_MAX)
			return RC_PROTOCOL;
		r->calls++;
		f->text_bytes += (int64_t)name.len;
	}
	if (ctx->translate && r->block == BLOCK_CALL) {
		d = chat_delta_add(ctx->mem, f, CHAT_DELTA_TOOL_CALL);
		d->index = r->calls - 1;
		d->id = text_of(block, "id");
		if (d->id.len == 0)
			d->id = arena_printf(ctx->mem, "toolu_%.*s_%lld",
					     STR_FMT(str_slice(ctx->id, 0, 64)),
					     (long long)d->index);
		d->name = anthropic_name_in(ctx->mem, name);
	}
	if (json_type(input) == JSON_OBJECT && json_len(input) > 0) {
		r->whole_input = true;
		return say_value(ctx, r, f, input);
	}
	return RC_OK;
}

static enum rc begin_block(struct dialect_ctx *ctx, struct reader *r, struct facts *f,
			   const struct json *block)
{
	const struct str type = text_of(block, "type");
	struct json_iter it = json_iter(json_get(block, "citations"));
	struct json *cite;

	r->block = BLOCK_OTHER;
	if (str_is(type, "tool_use"))
		return begin_call(ctx, r, f, block);
	if (str_is(type, "text")) {
		r->block = BLOCK_TEXT;
		say(ctx, f, CHAT_DELTA_TEXT, text_of(block, "text"));
		while (json_next(&it, NULL, &cite))
			say_citation(ctx, f, cite);
	} else if (str_is(type, "thinking")) {
		r->block = BLOCK_THINKING;
		r->signature = (struct chat_text){0};
		say(ctx, f, CHAT_DELTA_REASONING, text_of(block, "thinking"));
		return keep_signature(ctx, r, text_of(block, "signature"));
	} else if (str_is(type, "redacted_thinking")) {
		say_redacted(ctx, f, text_of(block, "data"));
	} else if (type.len) {
		f->content = true; /* a tool of the provider's own: the answer has begun */
	}
	return RC_OK;
}

static void end_block(struct dialect_ctx *ctx, struct reader *r, struct facts *f)
{
	if (r->block == BLOCK_THINKING)
		end_thinking(ctx, f, chat_text_str(&r->signature));
	if ((r->block == BLOCK_CALL || r->block == BLOCK_JSON) && !r->arguments)
		say_input(ctx, r, f, STR("{}")); /* a call without arguments may say nothing */
	r->block = BLOCK_OTHER;
}

static enum rc read_delta(struct dialect_ctx *ctx, struct reader *r, struct facts *f,
			  const struct json *d)
{
	const struct str type = text_of(d, "type");

	if (str_is(type, "text_delta"))
		say(ctx, f, CHAT_DELTA_TEXT, text_of(d, "text"));
	else if (str_is(type, "thinking_delta"))
		say(ctx, f, CHAT_DELTA_REASONING, text_of(d, "thinking"));
	else if (str_is(type, "citations_delta"))
		say_citation(ctx, f, json_get(d, "citation"));
	else if (str_is(type, "signature_delta") && r->block == BLOCK_THINKING)
		return keep_signature(ctx, r, text_of(d, "signature"));
	else if (str_is(type, "input_json_delta") && !r->whole_input &&
		 (r->block == BLOCK_CALL || r->block == BLOCK_JSON))
		say_input(ctx, r, f, text_of(d, "partial_json"));
	return RC_OK;
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

static enum finish finish_of(const struct reader *r, struct str reason)
{
	static const struct {
		const char *reason;
		enum finish finish;
	} finishes[] = {
		{"end_turn", FINISH_STOP},
		{"stop_sequence", FINISH_STOP},
		{"max_tokens", FINISH_LENGTH},
		{"model_context_window_exceeded", FINISH_LENGTH},
		{"tool_use", FINISH_TOOL_CALLS},
		{"pause_turn", FINISH_PAUSE},
		{"refusal", FINISH_CONTENT_FILTER},
	};

	if (r->json && r->calls == 0 && str_is(reason, "tool_use"))
		return FINISH_STOP;
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++)
		if (str_is(reason, finishes[i].reason))
			return finishes[i].finish;
	return FINISH_OTHER;
}

/* `of` has stop_reason and its details: a whole message, or the delta of one. */
static void read_stop(struct dialect_ctx *ctx, struct reader *r, struct facts *f,
		      const struct json *of)
{
	const struct str reason = text_of(of, "stop_reason");
	const struct str words = text_of(json_get(of, "stop_details"), "explanation");
	struct chat_delta *d;

	if (reason.len == 0 || r->finished)
		return;
	r->finished = true;
	ctx->finished_choices++;
	f->finished++;
	f->finish = finish_of(r, reason);
	if (!ctx->translate)
		return;
	if (str_is(reason, "refusal") && words.len)
		chat_delta_add(ctx->mem, f, CHAT_DELTA_REFUSAL)->text = words;
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_FINISH);
	d->finish = f->finish;
	if (str_is(reason, "stop_sequence"))
		d->text = text_of(of, "stop_sequence");
}

/* The sandbox that the answer left behind, where it says so: only there can the next call find it. */
static void read_container(const struct json *of, struct facts *f)
{
	const struct str id = text_of(json_get(of, "container"), "id");

	if (!id.len)
		return;
	f->state_id = id;
	f->state_kind = "container";
}

static void read_error(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	f->error = openai_error_read(200, root, &f->err);
	ctx->saw_error = true;
}

/* ---- events, and all of it at once ---------------------------------------------------------------------------- */

static enum rc read_event(struct dialect_ctx *ctx, struct reader *r, struct str type,
			  const struct json *root, struct facts *f)
{
	const struct json *message = json_get(root, "message");

	if (str_is(type, "content_block_delta"))
		return read_delta(ctx, r, f, json_get(root, "delta"));
	if (str_is(type, "content_block_start"))
		return begin_block(ctx, r, f, json_get(root, "content_block"));
	if (str_is(type, "content_block_stop")) {
		end_block(ctx, r, f);
	} else if (str_is(type, "message_start")) {
		f->model = text_of(message, "model");
		f->id = text_of(message, "id");
		read_container(message, f);
		anthropic_usage_read(&r->usage, json_get(message, "usage"), &f->usage);
	} else if (str_is(type, "message_delta")) {
		read_container(json_get(root, "delta"), f);
		anthropic_usage_read(&r->usage, json_get(root, "usage"), &f->usage);
		read_stop(ctx, r, f, json_get(root, "delta"));
	} else if (str_is(type, "message_stop")) {
		f->terminal = true;
	}
	return RC_OK;
}

enum rc anthropic_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	const struct str data = str_trim(ev->data);
	struct reader *r = reader_of(ctx);
	struct json *root;
	struct str type;

	if (!ev->comment && data.len > 0) {
		if (json_parse(data, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
		    json_type(root) != JSON_OBJECT)
			return RC_PROTOCOL;
		type = text_of(root, "type");
		if (!type.len)
			type = ev->name;
		if (str_is(type, "error") || openai_error_is(root))
			read_error(ctx, root, &f);
		else
			TRY(read_event(ctx, r, type, root, &f));
	}
	f.ending = r->finished || f.terminal;
	*ret = f;
	return RC_OK;
}

enum rc anthropic_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct reader *r = reader_of(ctx);
	struct json_iter it;
	struct json *root, *block;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	if (str_is(text_of(root, "type"), "error") || openai_error_is(root)) {
		read_error(ctx, root, &f);
		*ret = f;
		return RC_OK;
	}
	if (json_type(json_get(root, "content")) != JSON_ARRAY)
		return RC_PROTOCOL;
	f.model = text_of(root, "model");
	f.id = text_of(root, "id");
	it = json_iter(json_get(root, "content"));
	while (json_next(&it, NULL, &block)) {
		TRY(begin_block(ctx, r, &f, block));
		end_block(ctx, r, &f);
	}
	anthropic_usage_read(&r->usage, json_get(root, "usage"), &f.usage);
	read_container(root, &f);
	read_stop(ctx, r, &f, root);
	f.terminal = f.ending = true;
	*ret = f;
	return RC_OK;
}

enum rc anthropic_decode_counted(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	if (openai_error_is(root))
		read_error(ctx, root, &f);
	else if (!json_int(json_get(root, "input_tokens"), &f.counted) || f.counted < 0)
		return RC_PROTOCOL;
	f.terminal = f.ending = true;
	*ret = f;
	return RC_OK;
}
