/* routing/dialects/openai_responses_writer.c - deltas as a Responses answer, streamed or whole.
 *
 * A stream of this dialect says everything twice, in pieces and at its end whole: so what was sent is gathered. Each text,
 * reasoning and call is an item of its own; calls stay open to the end, because fragments of several may interleave. The
 * answer is kept nowhere and says so (store false); what a provider must have back stands, wrapped, in reasoning items:
 * before the call or behind the text that it belongs to. Never writes an id that is not made of the call's own. */
#include "routing/dialects/openai_responses_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define ITEMS_AT_ONCE	4
#define MODEL_BYTES_MAX 256 /* of the name that the provider gives it */
#define NOTE_BYTES_MAX	(1u << 20)
#define SEQUENCE_BEHIND                                                                            \
	2147483647 /* of an error event: the caller's own count is not known there */

enum kind { KIND_TEXT, KIND_REFUSAL, KIND_REASONING, KIND_CALL, KIND_CUSTOM, KIND_IMAGE };

struct item {
	enum kind kind;
	bool done;
	const char *status; /* that it ended with */
	struct str id;
	struct chat_text text;	/* or arguments, an image in base64, a custom tool's input */
	struct chat_text notes; /* annotations, as JSON with commas between */
	int64_t notes_count, chars;
	struct str call_id, name;
	int64_t call;
	struct str seal; /* wrapped; of reasoning */
};

struct writer {
	struct item *items;
	size_t count, size;
	size_t open; /* index + 1 of the text or reasoning that goes on; 0: none */
	int64_t sequence;
	bool begun;
	struct str model;
	struct str text_seal; /* wrapped; goes behind the text */
	struct str *custom;   /* names of the caller's custom tools; NULL: not looked at yet */
	size_t custom_count;
	enum finish finish;
};

struct writing {
	struct dialect_ctx *ctx;
	struct writer *w;
	struct buf *out; /* NULL: nothing is sent yet, only gathered */
};

static bool is_call(const struct item *item)
{
	return item->kind == KIND_CALL || item->kind == KIND_CUSTOM;
}

static struct writing writing_of(struct dialect_ctx *ctx, struct buf *out)
{
	if (!ctx->writer)
		ctx->writer = ARENA_NEW(ctx->keep, struct writer);
	return (struct writing){ctx, ctx->writer, out};
}

/* --- JSON --------------------------------------------------------------------------------------- */

static void put_part(struct json_out *o, const char *key, const struct item *item, bool whole)
{
	const struct str text = whole ? chat_text_str(&item->text) : STR("");

	json_obj(o, key);
	if (item->kind == KIND_REFUSAL) {
		json_put_z(o, "type", "refusal");
		json_put_str(o, "refusal", text);
	} else if (item->kind == KIND_REASONING) {
		json_put_z(o, "type", "summary_text");
		json_put_str(o, "text", text);
	} else {
		json_put_z(o, "type", "output_text");
		json_put_str(o, "text", text);
		json_arr(o, "annotations");
		if (whole && item->notes.len > 0)
			json_put_raw(o, NULL, chat_text_str(&item->notes));
		json_arr_end(o);
		json_arr(o, "logprobs");
		json_arr_end(o);
	}
	json_obj_end(o);
}

/* `status` "in_progress": as it begins, empty. */
static void put_item(struct json_out *o, const char *key, const struct item *item,
		     const char *status)
{
	static const char *const types[] = {
		[KIND_TEXT] = "message",
		[KIND_REFUSAL] = "message",
		[KIND_REASONING] = "reasoning",
		[KIND_CALL] = "function_call",
		[KIND_CUSTOM] = "custom_tool_call",
		[KIND_IMAGE] = "image_generation_call",
	};
	const bool whole = !str_is(str_from(status), "in_progress");

	json_obj(o, key);
	json_put_str(o, "id", item->id);
	json_put_z(o, "type", types[item->kind]);
	if (item->kind == KIND_REASONING) {
		json_arr(o, "summary");
		if (whole && item->text.len > 0)
			put_part(o, NULL, item, true);
		json_arr_end(o);
		json_put_str(o, "encrypted_content", whole ? item->seal : STR_NULL);
	} else {
		json_put_z(o, "status", status);
	}
	if (item->kind == KIND_TEXT || item->kind == KIND_REFUSAL) {
		json_put_z(o, "role", "assistant");
		json_arr(o, "content");
		if (whole)
			put_part(o, NULL, item, true);
		json_arr_end(o);
	} else if (is_call(item)) {
		json_put_str(o, "call_id", item->call_id);
		json_put_str(o, "name", item->name);
		json_put_str(o, item->kind == KIND_CALL ? "arguments" : "input",
			     whole ? chat_text_str(&item->text) : STR(""));
	} else if (item->kind == KIND_IMAGE) {
		json_put_str(o, "result", whole ? chat_text_str(&item->text) : STR_NULL);
	}
	json_obj_end(o);
}

static void put_usage(struct json_out *o, const struct usage *u)
{
	const int64_t in = usage_total_in(u), out = usage_total_out(u);

	if (!u->present) {
		json_put_null(o, "usage");
		return;
	}
	json_obj(o, "usage");
	json_put_int(o, "input_tokens", in);
	json_obj(o, "input_tokens_details");
	json_put_int(o, "cached_tokens",
		     u->n[USAGE_in_cached_read] + u->n[USAGE_in_audio_cached] +
			     u->n[USAGE_in_image_cached]);
	json_put_int(o, "cache_write_tokens",
		     u->n[USAGE_in_cache_write_5m] + u->n[USAGE_in_cache_write_1h]);
	json_obj_end(o);
	json_put_int(o, "output_tokens", out);
	json_obj(o, "output_tokens_details");
	json_put_int(o, "reasoning_tokens", u->n[USAGE_out_reasoning]);
	json_obj_end(o);
	json_put_int(o, "total_tokens", in + out);
	json_obj_end(o);
}

/* What the caller asked, said back: clients' types have these fields. */
static void put_question(struct json_out *o, const struct json *body, bool whole)
{
	static const struct {
		const char *key, *unsaid;
		bool large; /* only in the whole response */
	} echoes[] = {
		{"instructions", "null", true},
		{"tools", "[]", true},
		{"max_output_tokens", "null", false},
		{"metadata", "{}", false},
		{"parallel_tool_calls", "true", false},
		{"reasoning", "{\"effort\":null,\"summary\":null}", false},
		{"temperature", "null", false},
		{"text", "{\"format\":{\"type\":\"text\"}}", false},
		{"tool_choice", "\"auto\"", false},
		{"top_p", "null", false},
		{"truncation", "\"disabled\"", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(echoes); i++) {
		const struct json *v = json_get(body, echoes[i].key);

		if (json_is_null(v) || (echoes[i].large && !whole))
			json_put_raw(o, echoes[i].key, str_from(echoes[i].unsaid));
		else
			json_put_value(o, echoes[i].key, v);
	}
}

static const char *incomplete_reason(enum finish finish)
{
	switch (finish) {
	case FINISH_LENGTH:
		return "max_output_tokens";
	case FINISH_CONTENT_FILTER:
		return "content_filter";
	case FINISH_PAUSE:
		return "pause_turn"; /* no word of OpenAI's: the caller sends the answer back to go on */
	default:
		return NULL;
	}
}

/* `usage` NULL: it is in progress. */
static void put_response(struct writing *wr, struct json_out *o, const char *key,
			 const struct usage *usage)
{
	const struct dialect_ctx *ctx = wr->ctx;
	const char *reason = usage ? incomplete_reason(wr->w->finish) : NULL;

	json_obj(o, key);
	json_put_str(o, "id", arena_printf(ctx->mem, "resp_%.*s", STR_FMT(ctx->id)));
	json_put_z(o, "object", "response");
	json_put_int(o, "created_at", ctx->created_s);
	json_put_z(o, "status", !usage ? "in_progress" : reason ? "incomplete" : "completed");
	json_put_bool(o, "background", false);
	json_put_null(o, "error");
	if (reason) {
		json_obj(o, "incomplete_details");
		json_put_z(o, "reason", reason);
		json_obj_end(o);
	} else {
		json_put_null(o, "incomplete_details");
	}
	json_put_str(o, "model", wr->w->model);
	json_arr(o, "output");
	for (size_t i = 0; usage && i < wr->w->count; i++)
		put_item(o, NULL, &wr->w->items[i], wr->w->items[i].status);
	json_arr_end(o);
	put_question(o, ctx->call ? ctx->call->body : NULL, usage != NULL);
	json_put_null(o, "previous_response_id");
	json_put_bool(o, "store", false);
	if (usage)
		put_usage(o, usage);
	else
		json_put_null(o, "usage");
	json_obj_end(o);
}

/* --- events -------------------------------------------------------------------------------------- */

/* Between the two stand the event's own members. */
static enum rc event_begin(struct writing *wr, struct json_out *o, const char *type)
{
	TRY(buf_append(wr->out, STR("event: ")));
	TRY(buf_append(wr->out, str_from(type)));
	TRY(buf_append(wr->out, STR("\ndata: ")));
	json_out_begin(o, wr->out);
	json_obj(o, NULL);
	json_put_z(o, "type", type);
	json_put_int(o, "sequence_number", wr->w->sequence++);
	return RC_OK;
}

static enum rc event_end(struct writing *wr, struct json_out *o)
{
	json_obj_end(o);
	TRY(json_out_end(o));
	return buf_append(wr->out, STR("\n\n"));
}

static enum rc response_event(struct writing *wr, const char *type, const struct usage *usage)
{
	struct json_out o;

	TRY(event_begin(wr, &o, type));
	put_response(wr, &o, "response", usage);
	return event_end(wr, &o);
}

static size_t index_of(const struct writing *wr, const struct item *item)
{
	return (size_t)(item - wr->w->items);
}

static enum rc item_event(struct writing *wr, const char *type, const struct item *item,
			  const char *status)
{
	struct json_out o;

	TRY(event_begin(wr, &o, type));
	json_put_int(&o, "output_index", (int64_t)index_of(wr, item));
	put_item(&o, "item", item, status);
	return event_end(wr, &o);
}

/* The part of a text or reasoning: each has but the one. */
static enum rc part_event(struct writing *wr, const char *type, const struct item *item, bool whole)
{
	struct json_out o;

	TRY(event_begin(wr, &o, type));
	json_put_str(&o, "item_id", item->id);
	json_put_int(&o, "output_index", (int64_t)index_of(wr, item));
	json_put_int(&o, item->kind == KIND_REASONING ? "summary_index" : "content_index", 0);
	put_part(&o, "part", item, whole);
	return event_end(wr, &o);
}

static enum rc text_event(struct writing *wr, const char *type, const struct item *item,
			  const char *key, struct str text)
{
	struct json_out o;

	TRY(event_begin(wr, &o, type));
	json_put_str(&o, "item_id", item->id);
	json_put_int(&o, "output_index", (int64_t)index_of(wr, item));
	if (item->kind == KIND_REASONING)
		json_put_int(&o, "summary_index", 0);
	else if (!is_call(item))
		json_put_int(&o, "content_index", 0);
	if (item->kind == KIND_CALL && str_is(str_from(key), "arguments"))
		json_put_str(&o, "name", item->name);
	json_put_str(&o, key, text);
	if (item->kind == KIND_TEXT) {
		json_arr(&o, "logprobs");
		json_arr_end(&o);
	}
	return event_end(wr, &o);
}

static const struct {
	const char *delta, *done, *part_added, *part_done, *key;
	const char *id; /* prefix */
} words[] = {
	[KIND_TEXT] = {"response.output_text.delta", "response.output_text.done",
		       "response.content_part.added", "response.content_part.done", "text", "msg"},
	[KIND_REFUSAL] = {"response.refusal.delta", "response.refusal.done",
			  "response.content_part.added", "response.content_part.done", "refusal",
			  "msg"},
	[KIND_REASONING] = {"response.reasoning_summary_text.delta",
			    "response.reasoning_summary_text.done",
			    "response.reasoning_summary_part.added",
			    "response.reasoning_summary_part.done", "text", "rs"},
	[KIND_CALL] = {"response.function_call_arguments.delta",
		       "response.function_call_arguments.done", NULL, NULL, "arguments", "fc"},
	[KIND_CUSTOM] = {"response.custom_tool_call_input.delta",
			 "response.custom_tool_call_input.done", NULL, NULL, "input", "ctc"},
	[KIND_IMAGE] = {NULL, NULL, NULL, NULL, NULL, "ig"},
};

/* --- items --------------------------------------------------------------------------------------- */

static enum rc item_new(struct writing *wr, enum kind kind, struct item **ret)
{
	struct writer *w = wr->w;

	if (w->count == RESPONSES_ITEMS_MAX)
		return RC_TOO_LARGE;
	if (w->count == w->size) {
		const size_t size = w->size ? w->size * 2 : ITEMS_AT_ONCE;
		struct item *more = ARENA_ARRAY(wr->ctx->keep, struct item, size);

		if (w->count)
			memcpy(more, w->items, w->count * sizeof *more);
		w->items = more;
		w->size = size;
	}
	*ret = &w->items[w->count];
	**ret = (struct item){
		.kind = kind,
		.id = arena_printf(wr->ctx->keep, "%s_%.*s_%zu", words[kind].id,
				   STR_FMT(wr->ctx->id), w->count),
	};
	w->count++;
	return RC_OK;
}

static enum rc item_added(struct writing *wr, const struct item *item)
{
	if (!wr->out)
		return RC_OK;
	return item_event(wr, "response.output_item.added", item, "in_progress");
}

static enum rc item_close(struct writing *wr, struct item *item, const char *status)
{
	const struct str text = chat_text_str(&item->text);

	if (item->done)
		return RC_OK;
	item->done = true;
	item->status = status;
	if (!wr->out)
		return RC_OK;
	if (words[item->kind].done && (item->kind != KIND_REASONING || item->text.len > 0)) {
		TRY(text_event(wr, words[item->kind].done, item, words[item->kind].key, text));
		if (words[item->kind].part_done)
			TRY(part_event(wr, words[item->kind].part_done, item, true));
	}
	return item_event(wr, "response.output_item.done", item, status);
}

/* A reasoning item that has nothing but a seal. */
static enum rc seal_item(struct writing *wr, struct str seal)
{
	struct item *item;

	TRY(item_new(wr, KIND_REASONING, &item));
	TRY(item_added(wr, item));
	item->seal = seal;
	return item_close(wr, item, "completed");
}

/* What goes on as text or reasoning ends here. */
static enum rc open_close(struct writing *wr, const char *status)
{
	struct writer *w = wr->w;
	const struct str seal = w->text_seal;

	if (w->open == 0)
		return RC_OK;
	TRY(item_close(wr, &w->items[w->open - 1], status));
	w->open = 0;
	w->text_seal = STR_NULL;
	return seal.ptr ? seal_item(wr, seal) : RC_OK;
}

static enum rc open_item(struct writing *wr, enum kind kind, struct item **ret)
{
	struct writer *w = wr->w;

	if (w->open && w->items[w->open - 1].kind == kind) {
		*ret = &w->items[w->open - 1];
		return RC_OK;
	}
	TRY(open_close(wr, "completed"));
	TRY(item_new(wr, kind, ret));
	w->open = w->count;
	TRY(item_added(wr, *ret));
	return wr->out ? part_event(wr, words[kind].part_added, *ret, false) : RC_OK;
}

static struct str seal_wrap(struct writing *wr, const struct chat_opaque *o,
			    enum responses_seal kind)
{
	struct chat_text value = {0};
	const char lead[] = {(char)kind, '|'};
	struct chat_opaque own = {
		.dialect = o->dialect,
		.provider = str_from(wr->ctx->target->provider->id),
		.model = wr->ctx->target->model,
	};

	if (!o->value.ptr || chat_text_add(wr->ctx->mem, &value, str_of(lead, 2)) != RC_OK ||
	    chat_text_add(wr->ctx->mem, &value, o->value) != RC_OK)
		return STR_NULL;
	own.value = chat_text_str(&value);
	return chat_opaque_wrap(wr->ctx->keep, &own);
}

/* --- deltas -------------------------------------------------------------------------------------- */

static int64_t chars_of(struct str s)
{
	int64_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
	return n;
}

static enum rc write_text(struct writing *wr, enum kind kind, const struct chat_delta *d)
{
	struct item *item;

	if (d->text.len > 0) {
		TRY(open_item(wr, kind, &item));
		TRY(chat_text_add(wr->ctx->keep, &item->text, d->text));
		item->chars += chars_of(d->text);
		if (wr->out)
			TRY(text_event(wr, words[kind].delta, item, "delta", d->text));
	}
	if (d->opaque.value.ptr && kind == KIND_TEXT) {
		TRY(open_item(wr, kind, &item)); /* a signature may come with no text at all */
		wr->w->text_seal = seal_wrap(wr, &d->opaque, RESPONSES_SEAL_TEXT);
	}
	return RC_OK;
}

static enum rc write_reasoning_end(struct writing *wr, const struct chat_delta *d)
{
	struct writer *w = wr->w;
	const struct str seal = seal_wrap(wr, &d->opaque, RESPONSES_SEAL_REASONING);

	if (w->open && w->items[w->open - 1].kind == KIND_REASONING) {
		w->items[w->open - 1].seal = seal;
		return open_close(wr, "completed");
	}
	if (!seal.ptr)
		return RC_OK;
	TRY(open_close(wr, "completed"));
	return seal_item(wr, seal);
}

static enum rc kept(struct writing *wr, struct str s, struct str *ret)
{
	struct chat_text t = {0};

	TRY(chat_text_add(wr->ctx->keep, &t, s));
	*ret = chat_text_str(&t);
	return RC_OK;
}

static enum rc write_call(struct writing *wr, const struct chat_delta *d)
{
	struct writer *w = wr->w;
	struct item *item;

	if (!w->custom)
		TRY(responses_custom_names(wr->ctx->keep, wr->ctx->call, &w->custom,
					   &w->custom_count));
	TRY(open_close(wr, "completed"));
	if (d->opaque.value.ptr)
		TRY(seal_item(wr, seal_wrap(wr, &d->opaque, RESPONSES_SEAL_CALL)));
	TRY(item_new(wr,
		     responses_is_custom(w->custom, w->custom_count, d->name) ? KIND_CUSTOM
									      : KIND_CALL,
		     &item));
	item->call = d->index;
	TRY(kept(wr, d->id, &item->call_id));
	TRY(kept(wr, d->name, &item->name));
	return item_added(wr, item);
}

static struct item *call_at(struct writer *w, int64_t call)
{
	for (size_t i = w->count; i-- > 0;)
		if (is_call(&w->items[i]) && w->items[i].call == call)
			return &w->items[i];
	return NULL;
}

static enum rc write_arguments(struct writing *wr, struct item *item, struct str text)
{
	if (!item || text.len == 0)
		return RC_OK;
	TRY(chat_text_add(wr->ctx->keep, &item->text, text));
	if (!wr->out || item->kind == KIND_CUSTOM)
		return RC_OK;
	return text_event(wr, words[KIND_CALL].delta, item, "delta", text);
}

/* What came as JSON is the caller's free text: known, and sent, when it is whole. */
static enum rc custom_done(struct writing *wr, struct item *item)
{
	const struct str input = responses_custom_input(wr->ctx->mem, chat_text_str(&item->text));
	struct chat_text text = {0};

	TRY(chat_text_add(wr->ctx->keep, &text, input));
	item->text = text;
	if (!wr->out || input.len == 0)
		return RC_OK;
	return text_event(wr, words[KIND_CUSTOM].delta, item, "delta", input);
}

/* Where the words cited are the last that were said, that is their place; else the place is the end. */
static enum rc note_json(const struct item *item, const struct chat_delta *d, struct buf *ret)
{
	const struct str text = chat_text_str(&item->text);
	const int64_t cited = str_ends(text, d->text) ? chars_of(d->text) : 0;
	struct json_out o;

	json_out_begin(&o, ret);
	json_obj(&o, NULL);
	json_put_z(&o, "type", "url_citation");
	json_put_int(&o, "start_index", item->chars - cited);
	json_put_int(&o, "end_index", item->chars);
	json_put_str(&o, "url", d->media.url.ptr ? d->media.url : STR(""));
	json_put_str(&o, "title", d->media.name.ptr ? d->media.name : STR(""));
	json_obj_end(&o);
	return json_out_end(&o);
}

static enum rc write_note(struct writing *wr, const struct chat_delta *d)
{
	AUTO(buf) struct buf note = BUF_INIT(NOTE_BYTES_MAX);
	struct json_out o;
	struct item *item;

	TRY(open_item(wr, KIND_TEXT, &item));
	TRY(note_json(item, d, &note));
	if (item->notes.len > 0)
		TRY(chat_text_add(wr->ctx->keep, &item->notes, STR(",")));
	TRY(chat_text_add(wr->ctx->keep, &item->notes, buf_str(&note)));
	item->notes_count++;
	if (!wr->out)
		return RC_OK;
	TRY(event_begin(wr, &o, "response.output_text.annotation.added"));
	json_put_str(&o, "item_id", item->id);
	json_put_int(&o, "output_index", (int64_t)index_of(wr, item));
	json_put_int(&o, "content_index", 0);
	json_put_int(&o, "annotation_index", item->notes_count - 1);
	json_put_raw(&o, "annotation", buf_str(&note));
	return event_end(wr, &o);
}

/* A picture is an item of its own; sound has no place in this dialect, and no caller of it can ask for any. */
static enum rc write_media(struct writing *wr, const struct chat_delta *d)
{
	struct item *item;

	if (!d->media.data.ptr || !str_starts(d->media.mime, STR("image/")))
		return RC_OK;
	TRY(open_close(wr, "completed"));
	TRY(item_new(wr, KIND_IMAGE, &item));
	TRY(item_added(wr, item));
	TRY(chat_text_add(wr->ctx->keep, &item->text, d->media.data));
	return item_close(wr, item, "completed");
}

static enum rc write_delta(struct writing *wr, const struct chat_delta *d)
{
	switch (d->type) {
	case CHAT_DELTA_TEXT:
		return write_text(wr, KIND_TEXT, d);
	case CHAT_DELTA_REFUSAL:
		return write_text(wr, KIND_REFUSAL, d);
	case CHAT_DELTA_REASONING:
		return write_text(wr, KIND_REASONING, d);
	case CHAT_DELTA_REASONING_END:
		return write_reasoning_end(wr, d);
	case CHAT_DELTA_TOOL_CALL:
		return write_call(wr, d);
	case CHAT_DELTA_TOOL_ARGUMENTS:
		return write_arguments(wr, call_at(wr->w, d->index), d->text);
	case CHAT_DELTA_CITATION:
		return write_note(wr, d);
	case CHAT_DELTA_MEDIA:
		return write_media(wr, d);
	case CHAT_DELTA_FINISH:
		wr->w->finish = d->finish;
		return RC_OK;
	}
	return RC_OK;
}

static struct str model_keep(struct dialect_ctx *ctx, struct str model)
{
	return arena_str(ctx->keep, str_slice(model, 0, MODEL_BYTES_MAX));
}

static enum rc begin(struct writing *wr, struct str model)
{
	if (wr->w->begun)
		return RC_OK;
	wr->w->begun = true;
	if (wr->w->model.len == 0)
		wr->w->model = model.len > 0 ? model_keep(wr->ctx, model) : wr->ctx->target->model;
	if (!wr->out)
		return RC_OK;
	TRY(response_event(wr, "response.created", NULL));
	return response_event(wr, "response.in_progress", NULL);
}

/* n is 1 in this dialect: there is no other choice to be written. */
static enum rc write_deltas(struct writing *wr, const struct facts *f)
{
	for (size_t i = 0; i < f->deltas_count; i++)
		if (f->deltas[i].choice == 0)
			TRY(write_delta(wr, &f->deltas[i]));
	return RC_OK;
}

/* All that is open ends, in the order of the items. */
static enum rc close_all(struct writing *wr)
{
	struct writer *w = wr->w;
	const char *last = incomplete_reason(w->finish) ? "incomplete" : "completed";

	for (size_t i = 0; i < w->count; i++) {
		struct item *item = &w->items[i];

		if (w->open == i + 1)
			continue;
		if (item->kind == KIND_CALL && !item->done && item->text.len == 0)
			TRY(write_arguments(wr, item, STR("{}"))); /* clients parse it */
		if (item->kind == KIND_CUSTOM && !item->done)
			TRY(custom_done(wr, item));
		TRY(item_close(wr, &w->items[i], i + 1 == w->count ? last : "completed"));
	}
	return open_close(wr, w->open == w->count ? last : "completed");
}

enum rc responses_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct writing wr = writing_of(ctx, out);

	if (f->model.len > 0 && wr.w->model.len == 0)
		wr.w->model = model_keep(ctx, f->model);
	if (f->deltas_count == 0)
		return RC_OK;
	TRY(begin(&wr, wr.w->model));
	return write_deltas(&wr, f);
}

enum rc responses_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	struct writing wr = writing_of(ctx, out);

	TRY(begin(&wr, wr.w->model));
	TRY(close_all(&wr));
	return response_event(
		&wr, incomplete_reason(wr.w->finish) ? "response.incomplete" : "response.completed",
		usage);
}

enum rc responses_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct writing wr = writing_of(ctx, NULL);
	struct json_out o;

	TRY(begin(&wr, f->model));
	TRY(write_deltas(&wr, f));
	TRY(close_all(&wr));
	json_out_begin(&o, out);
	put_response(&wr, &o, NULL, &f->usage);
	return json_out_end(&o);
}

/* The published event is flat; OpenAI's own servers nest an `error`, and their SDKs raise on that one
 * (openai-python _streaming.py, openai-node core/streaming.ts and ResponseStream.ts): so both. */
enum rc responses_encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	const struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_OPENAI);
	AUTO(buf) struct buf nested = BUF_INIT(out->bytes_max);
	const size_t before = out->len;
	struct json_out o;
	enum rc rc;

	/* {"error":{...},"tollgate":{...}}: its members go behind the flat ones */
	TRY(error_json(ERROR_SHAPE_OPENAI, &a, e, NULL, tollgate_json, &nested));
	rc = buf_append(out, STR("event: error\ndata: "));
	json_out_begin(&o, out);
	o.rc = rc;
	json_obj(&o, NULL);
	json_put_z(&o, "type", "error");
	json_put_z(&o, "code", a.code);
	json_put_z(&o, "message", e->message);
	json_put_str(&o, "param", e->field[0] ? str_from(e->field) : STR_NULL);
	json_put_int(&o, "sequence_number", SEQUENCE_BEHIND);
	rc = json_out_end(&o);
	if (rc == RC_OK)
		rc = buf_append_char(out, ',');
	if (rc == RC_OK)
		rc = buf_append(out, str_slice(buf_str(&nested), 1, nested.len));
	if (rc == RC_OK)
		rc = buf_append(out, STR("\n\n"));
	if (rc != RC_OK && out->ptr) {
		out->len = before;
		out->ptr[before] = '\0';
	}
	return rc;
}
