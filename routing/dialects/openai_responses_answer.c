/* routing/dialects/openai_responses_answer.c - what a provider answers, as facts and deltas.
 *
 * The same text comes up to four times: in deltas, in the part's done event, in the item's, and in the terminal event's
 * whole response. It counts once, from whichever comes first: servers leave out any of the others. All is kept by
 * output_index, because item ids change between events behind some proxies. Usage is read from a terminal event alone,
 * what hosted tools did from their items, since it stands in no usage. */
#include "routing/dialects/openai_priv.h"
#include "routing/dialects/openai_responses_priv.h"

#define CONTAINERS_MAX	 32 /* told apart; each further code call counts as a session of its own */
#define CONTAINER_ID_MAX 256
#define ITEMS_AT_ONCE	 8

enum item_kind { ITEM_UNKNOWN, ITEM_MESSAGE, ITEM_REASONING, ITEM_CALL, ITEM_CUSTOM, ITEM_OTHER };

struct item {
	enum item_kind kind;
	bool done;
	bool begun;	 /* a call that was told of */
	bool ended;	 /* a reasoning whose end was told */
	bool full_text;	 /* of reasoning: its text, not its summary, is what is told */
	bool parted;	 /* `part` is set */
	int64_t part;	 /* the part that the last text was of */
	size_t seen;	 /* bytes told of that part */
	size_t seen_all; /* ... of all */
	size_t notes;	 /* annotations told */
	int64_t call;	 /* its index among the calls */
};

struct reader {
	struct item *items;
	size_t count, size;
	int64_t calls;
	int64_t thinking; /* output_index + 1 of a reasoning that is open; 0: none */
	int64_t searches, file_searches, code_sessions, images;
	struct str containers[CONTAINERS_MAX];
	size_t containers_count;
};

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s;
}

static struct reader *reader_of(struct dialect_ctx *ctx)
{
	if (!ctx->reader)
		ctx->reader = ARENA_NEW(ctx->keep, struct reader);
	return ctx->reader;
}

/* NULL: no such index can be. */
static struct item *item_at(struct dialect_ctx *ctx, int64_t index)
{
	struct reader *r = reader_of(ctx);

	if (index < 0 || index >= RESPONSES_ITEMS_MAX)
		return NULL;
	if ((size_t)index >= r->size) {
		size_t size = r->size ? r->size : ITEMS_AT_ONCE;
		struct item *more;

		while (size <= (size_t)index)
			size *= 2;
		more = ARENA_ARRAY(ctx->keep, struct item, size);
		if (r->count)
			memcpy(more, r->items, r->count * sizeof *more);
		r->items = more;
		r->size = size;
	}
	if ((size_t)index >= r->count)
		r->count = (size_t)index + 1;
	return &r->items[index];
}

/* --- text --------------------------------------------------------------------------------------- */

static void thinking_end(struct dialect_ctx *ctx, struct facts *f, struct str seal)
{
	struct chat_delta *d;

	if (!ctx->translate)
		return;
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_REASONING_END);
	d->opaque.value = seal;
	d->opaque.dialect = seal.ptr ? STR(RESPONSES_SEAL_DIALECT) : STR_NULL;
}

/* Something that is not of item `index` is told: a reasoning before it is at its end. */
static void thinking_leave(struct dialect_ctx *ctx, struct facts *f, int64_t index)
{
	struct reader *r = reader_of(ctx);

	if (r->thinking == 0 || r->thinking == index + 1)
		return;
	r->items[r->thinking - 1].ended = true;
	r->thinking = 0;
	thinking_end(ctx, f, STR_NULL);
}

static void tell(struct dialect_ctx *ctx, struct facts *f, enum chat_delta_type type,
		 struct str text)
{
	f->content = true;
	f->text_bytes += (int64_t)text.len;
	if (ctx->translate)
		chat_delta_add(ctx->mem, f, type)->text = text;
}

/* Text of a part: a fragment, or (`whole`) all of it, which is news only where no fragment came. */
static void text_read(struct dialect_ctx *ctx, struct facts *f, int64_t index, int64_t part,
		      enum chat_delta_type type, struct str text, bool whole)
{
	struct item *item = item_at(ctx, index);
	const bool another = item && (!item->parted || part != item->part);

	if (!item || text.len == 0 || (whole && item->parted && part < item->part))
		return;
	if (whole && !another && item->seen > 0)
		return;
	thinking_leave(ctx, f, index);
	if (another) {
		if (type == CHAT_DELTA_REASONING && item->seen_all > 0)
			tell(ctx, f, type, STR("\n\n")); /* summaries are paragraphs */
		item->parted = true;
		item->part = part;
		item->seen = 0;
	}
	item->seen += text.len;
	item->seen_all += text.len;
	if (type == CHAT_DELTA_REASONING && !item->ended)
		reader_of(ctx)->thinking = index + 1;
	tell(ctx, f, type, text);
}

/* Some models show a summary, some their text, some both: what comes first is told, the other is the same again. */
static void reasoning_read(struct dialect_ctx *ctx, struct facts *f, int64_t index, int64_t part,
			   bool full_text, struct str text, bool whole)
{
	struct item *item = item_at(ctx, index);

	if (!item)
		return;
	if (item->seen_all == 0)
		item->full_text = full_text;
	if (item->full_text == full_text)
		text_read(ctx, f, index, part, CHAT_DELTA_REASONING, text, whole);
}

/* A part as it stands in an item or in a part's event. */
static void part_read(struct dialect_ctx *ctx, struct facts *f, int64_t index, int64_t part,
		      const struct json *v)
{
	const struct str type = text_of(v, "type");

	if (str_is(type, "refusal"))
		text_read(ctx, f, index, part, CHAT_DELTA_REFUSAL, text_of(v, "refusal"), true);
	else if (str_is(type, "reasoning_text"))
		reasoning_read(ctx, f, index, part, true, text_of(v, "text"), true);
	else if (str_is(type, "summary_text"))
		reasoning_read(ctx, f, index, part, false, text_of(v, "text"), true);
	else
		text_read(ctx, f, index, part, CHAT_DELTA_TEXT, text_of(v, "text"), true);
}

static void note_read(struct dialect_ctx *ctx, struct facts *f, int64_t index,
		      const struct json *note)
{
	struct item *item = item_at(ctx, index);
	struct chat_delta *d;

	if (!item)
		return;
	item->notes++;
	if (!ctx->translate || !str_is(text_of(note, "type"), "url_citation"))
		return;
	thinking_leave(ctx, f, index);
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_CITATION);
	d->media.url = text_of(note, "url");
	d->media.name = text_of(note, "title");
}

/* --- calls -------------------------------------------------------------------------------------- */

static void call_begin(struct dialect_ctx *ctx, struct facts *f, int64_t index, struct item *item,
		       const struct json *v)
{
	const struct str name = text_of(v, "name");
	struct chat_delta *d;
	struct str id = text_of(v, "call_id");

	if (item->begun || name.len == 0)
		return;
	item->begun = true;
	item->call = reader_of(ctx)->calls++;
	f->content = true;
	f->text_bytes += (int64_t)name.len;
	thinking_leave(ctx, f, index);
	if (!ctx->translate)
		return;
	if (id.len == 0)
		id = text_of(v, "id");
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_TOOL_CALL);
	d->index = item->call;
	d->name = name;
	d->id = id.len ? id : arena_printf(ctx->mem, "call_%lld", (long long)item->call);
}

static void arguments_read(struct dialect_ctx *ctx, struct facts *f, int64_t index, struct str text,
			   bool whole)
{
	struct item *item = item_at(ctx, index);
	struct chat_delta *d;

	if (!item || !item->begun || text.len == 0 || (whole && item->seen > 0))
		return; /* what came before its call's name comes again with the item */
	item->seen += text.len;
	f->content = true;
	f->text_bytes += (int64_t)text.len;
	if (!ctx->translate)
		return;
	d = chat_delta_add(ctx->mem, f, CHAT_DELTA_TOOL_ARGUMENTS);
	d->index = item->call;
	d->text = text;
}

/* --- items --------------------------------------------------------------------------------------- */

static enum item_kind kind_of(struct str type)
{
	static const struct {
		const char *type;
		enum item_kind kind;
	} kinds[] = {
		{"message", ITEM_MESSAGE},
		{"reasoning", ITEM_REASONING},
		{"function_call", ITEM_CALL},
		{"custom_tool_call", ITEM_CUSTOM},
	};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_is(type, kinds[i].type))
			return kinds[i].kind;
	return ITEM_OTHER;
}

static void item_begin(struct dialect_ctx *ctx, struct facts *f, int64_t index,
		       const struct json *v)
{
	struct item *item = item_at(ctx, index);

	if (!item || item->kind != ITEM_UNKNOWN || !v)
		return;
	item->kind = kind_of(text_of(v, "type"));
	if (item->kind == ITEM_CALL || item->kind == ITEM_CUSTOM)
		call_begin(ctx, f, index, item, v);
	else if (item->kind == ITEM_OTHER)
		f->content = true; /* a hosted tool is at work, and it costs */
}

static void message_done(struct dialect_ctx *ctx, struct facts *f, int64_t index,
			 const struct json *v)
{
	struct json_iter parts = json_iter(json_get(v, "content"));
	struct json *part, *note;
	size_t notes = 0;

	for (int64_t i = 0; json_next(&parts, NULL, &part); i++) {
		struct json_iter it = json_iter(json_get(part, "annotations"));

		part_read(ctx, f, index, i, part);
		while (json_next(&it, NULL, &note))
			if (++notes > item_at(ctx, index)->notes)
				note_read(ctx, f, index, note);
	}
}

static struct str seal_join(struct dialect_ctx *ctx, struct facts *f, struct str id,
			    struct str seal)
{
	struct chat_text t = {0};

	if (chat_text_add(ctx->mem, &t, id) == RC_OK &&
	    chat_text_add(ctx->mem, &t, STR("|")) == RC_OK &&
	    chat_text_add(ctx->mem, &t, seal) == RC_OK)
		return chat_text_str(&t);
	f->deltas_lost = true;
	return STR_NULL;
}

static void reasoning_done(struct dialect_ctx *ctx, struct facts *f, int64_t index,
			   const struct json *v)
{
	static const char *const lists[] = {"summary", "content"};
	const struct str seal = text_of(v, "encrypted_content");
	struct item *item = item_at(ctx, index);
	struct str value = STR_NULL;
	struct json *part;

	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		struct json_iter parts = json_iter(json_get(v, lists[l]));

		for (int64_t i = 0; json_next(&parts, NULL, &part); i++)
			part_read(ctx, f, index, i, part);
	}
	if (seal.len > 0 && ctx->translate)
		value = seal_join(ctx, f, text_of(v, "id"), seal);
	if (!value.ptr && (item->seen_all == 0 || item->ended))
		return; /* nothing to end */
	thinking_leave(ctx, f, index);
	reader_of(ctx)->thinking = 0;
	item->ended = true;
	thinking_end(ctx, f, value);
}

static void container_count(struct dialect_ctx *ctx, struct str id)
{
	struct reader *r = reader_of(ctx);

	for (size_t i = 0; id.len > 0 && i < r->containers_count; i++)
		if (str_eq(r->containers[i], id))
			return;
	r->code_sessions++;
	if (id.len > 0 && id.len <= CONTAINER_ID_MAX && r->containers_count < CONTAINERS_MAX)
		r->containers[r->containers_count++] = arena_str(ctx->keep, id);
}

/* What a hosted tool costs beside tokens (ledger.md 4.2). Opening a page that a search found is no search. */
static void hosted_count(struct dialect_ctx *ctx, const struct json *v)
{
	const struct str type = text_of(v, "type");
	const struct str action = text_of(json_get(v, "action"), "type");
	struct reader *r = reader_of(ctx);

	if (str_is(type, "web_search_call"))
		r->searches += action.len == 0 || str_is(action, "search");
	else if (str_is(type, "file_search_call"))
		r->file_searches++;
	else if (str_is(type, "code_interpreter_call"))
		container_count(ctx, text_of(v, "container_id"));
	else if (str_is(type, "image_generation_call"))
		r->images++;
}

static void item_done(struct dialect_ctx *ctx, struct facts *f, int64_t index, const struct json *v)
{
	struct item *item = item_at(ctx, index);

	if (!item || item->done || !v)
		return;
	item_begin(ctx, f, index, v);
	if (item->kind != kind_of(text_of(v, "type")))
		return; /* another item than that of this index: the list is not the stream's */
	item->done = true;
	switch (item->kind) {
	case ITEM_MESSAGE:
		message_done(ctx, f, index, v);
		break;
	case ITEM_REASONING:
		reasoning_done(ctx, f, index, v);
		break;
	case ITEM_CALL:
	case ITEM_CUSTOM:
		call_begin(ctx, f, index, item, v);
		arguments_read(ctx, f, index,
			       text_of(v, item->kind == ITEM_CALL ? "arguments" : "input"), true);
		break;
	default:
		hosted_count(ctx, v);
	}
}

/* --- the response ------------------------------------------------------------------------------- */

/* Names and where it is kept. */
static void response_read(struct dialect_ctx *ctx, struct facts *f, const struct json *response)
{
	bool kept = ctx->call && ctx->call->keeps_state;

	f->model = text_of(response, "model");
	f->id = text_of(response, "id");
	(void)json_bool(json_get(response, "store"), &kept);
	if (!kept)
		return;
	f->state_id = f->id;
	f->state_kind = "response";
}

static void tier_read(struct str tier, struct usage *u)
{
	if (tier.len >= sizeof u->service_tier)
		return;
	for (size_t i = 0; i < tier.len; i++)
		if (tier.ptr[i] <= ' ' || tier.ptr[i] > '~')
			return;
	if (tier.len > 0)
		memcpy(u->service_tier, tier.ptr, tier.len);
	u->service_tier[tier.len] = '\0';
}

static void usage_read(struct dialect_ctx *ctx, struct facts *f, const struct json *response)
{
	const struct reader *r = reader_of(ctx);

	openai_usage_read_responses(json_get(response, "usage"), &f->usage);
	if (!f->usage.present)
		return;
	f->usage.n[USAGE_searches] = r->searches;
	f->usage.n[USAGE_file_searches] = r->file_searches;
	f->usage.n[USAGE_code_sessions] = r->code_sessions;
	f->usage.n[USAGE_images_n] = r->images;
	tier_read(text_of(response, "service_tier"), &f->usage);
}

static enum finish finish_of(const struct reader *r, struct str status, struct str reason)
{
	if (str_is(status, "incomplete")) {
		if (str_is(reason, "max_output_tokens"))
			return FINISH_LENGTH;
		return str_is(reason, "content_filter") ? FINISH_CONTENT_FILTER : FINISH_OTHER;
	}
	return r->calls > 0 ? FINISH_TOOL_CALLS : FINISH_STOP;
}

static void error_read(struct dialect_ctx *ctx, struct facts *f, const struct json *of)
{
	f->error = openai_error_read(200, of, &f->err);
	ctx->saw_error = true;
}

/* It is over: whatever no event told stands in it. `status` is the event's where the response says none. */
static void response_end(struct dialect_ctx *ctx, struct facts *f, const struct json *response,
			 struct str status)
{
	struct json_iter it = json_iter(json_get(response, "output"));
	const struct str said = text_of(response, "status");
	struct json *item;

	f->terminal = f->ending = true;
	if (said.len > 0 && !str_is(said, "in_progress"))
		status = said;
	if (str_is(status, "failed") || str_is(status, "cancelled") || openai_error_is(response)) {
		usage_read(ctx, f, response);
		error_read(ctx, f, response);
		return;
	}
	for (int64_t i = 0; json_next(&it, NULL, &item); i++)
		item_done(ctx, f, i, item);
	thinking_leave(ctx, f, RESPONSES_ITEMS_MAX);
	usage_read(ctx, f, response);
	if (ctx->finished_choices > 0)
		return;
	ctx->finished_choices = f->finished = 1;
	f->finish = finish_of(reader_of(ctx), status,
			      text_of(json_get(response, "incomplete_details"), "reason"));
	if (ctx->translate)
		chat_delta_add(ctx->mem, f, CHAT_DELTA_FINISH)->finish = f->finish;
}

/* --- events -------------------------------------------------------------------------------------- */

enum event {
	EVENT_BEGIN, /* carries a response that is not over */
	EVENT_END,
	EVENT_ERROR,
	EVENT_ITEM_BEGIN,
	EVENT_ITEM_DONE,
	EVENT_PART_DONE,
	EVENT_TEXT,
	EVENT_TEXT_DONE,
	EVENT_REFUSAL,
	EVENT_REFUSAL_DONE,
	EVENT_SUMMARY,
	EVENT_SUMMARY_DONE,
	EVENT_SUMMARY_PART_DONE,
	EVENT_REASONING,
	EVENT_REASONING_DONE,
	EVENT_ARGUMENTS,
	EVENT_ARGUMENTS_DONE,
	EVENT_INPUT_DONE,
	EVENT_NOTE,
	EVENT_AUDIO,
	EVENT_OTHER,
};

static const struct {
	const char *type;
	enum event event;
} events[] = {
	{"response.output_text.delta", EVENT_TEXT},
	{"response.function_call_arguments.delta", EVENT_ARGUMENTS},
	{"response.custom_tool_call_input.delta", EVENT_ARGUMENTS},
	{"response.reasoning_summary_text.delta", EVENT_SUMMARY},
	{"response.reasoning_text.delta", EVENT_REASONING},
	{"response.refusal.delta", EVENT_REFUSAL},
	{"response.created", EVENT_BEGIN},
	{"response.queued", EVENT_BEGIN},
	{"response.in_progress", EVENT_BEGIN},
	{"response.completed", EVENT_END},
	{"response.incomplete", EVENT_END},
	{"response.failed", EVENT_END},
	{"response.cancelled", EVENT_END},
	{"error", EVENT_ERROR},
	{"response.output_item.added", EVENT_ITEM_BEGIN},
	{"response.output_item.done", EVENT_ITEM_DONE},
	{"response.content_part.done", EVENT_PART_DONE},
	{"response.output_text.done", EVENT_TEXT_DONE},
	{"response.refusal.done", EVENT_REFUSAL_DONE},
	{"response.reasoning_summary_text.done", EVENT_SUMMARY_DONE},
	{"response.reasoning_summary_part.done", EVENT_SUMMARY_PART_DONE},
	{"response.reasoning_text.done", EVENT_REASONING_DONE},
	{"response.function_call_arguments.done", EVENT_ARGUMENTS_DONE},
	{"response.custom_tool_call_input.done", EVENT_INPUT_DONE},
	{"response.output_text.annotation.added", EVENT_NOTE},
	{"response.audio.delta", EVENT_AUDIO},
};

static enum event event_of(struct str type)
{
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (str_is(type, events[i].type))
			return events[i].event;
	return EVENT_OTHER;
}

static int64_t place(const struct json *root, const char *key)
{
	int64_t n = 0;

	(void)json_int(json_get(root, key), &n);
	return n;
}

static void text_event(struct dialect_ctx *ctx, struct facts *f, enum event event, int64_t index,
		       const struct json *root)
{
	const struct str delta = text_of(root, "delta"), text = text_of(root, "text");
	const int64_t part = place(root, "content_index"), summary = place(root, "summary_index");

	switch (event) {
	case EVENT_TEXT:
		text_read(ctx, f, index, part, CHAT_DELTA_TEXT, delta, false);
		break;
	case EVENT_TEXT_DONE:
		text_read(ctx, f, index, part, CHAT_DELTA_TEXT, text, true);
		break;
	case EVENT_REFUSAL:
		text_read(ctx, f, index, part, CHAT_DELTA_REFUSAL, delta, false);
		break;
	case EVENT_REFUSAL_DONE:
		text_read(ctx, f, index, part, CHAT_DELTA_REFUSAL, text_of(root, "refusal"), true);
		break;
	case EVENT_SUMMARY:
		reasoning_read(ctx, f, index, summary, false, delta, false);
		break;
	case EVENT_SUMMARY_DONE:
		reasoning_read(ctx, f, index, summary, false, text, true);
		break;
	case EVENT_SUMMARY_PART_DONE:
		part_read(ctx, f, index, summary, json_get(root, "part"));
		break;
	case EVENT_REASONING:
		reasoning_read(ctx, f, index, part, true, delta, false);
		break;
	case EVENT_REASONING_DONE:
		reasoning_read(ctx, f, index, part, true, text, true);
		break;
	default:
		part_read(ctx, f, index, part, json_get(root, "part"));
	}
}

/* Events that are not known here: of hosted tools, of times to come. */
static void other_event(struct facts *f, struct str type, const struct json *root)
{
	if (!str_ends(type, STR(".delta")))
		return;
	f->content = true;
	f->text_bytes += (int64_t)text_of(root, "delta").len;
}

static void event_read(struct dialect_ctx *ctx, struct facts *f, struct str type,
		       const struct json *root)
{
	const struct json *response = json_get(root, "response");
	const int64_t index = place(root, "output_index");
	const enum event event = event_of(type);

	switch (event) {
	case EVENT_BEGIN:
		response_read(ctx, f, response);
		break;
	case EVENT_END:
		response_read(ctx, f, response);
		response_end(ctx, f, response, str_slice(type, sizeof "response." - 1, type.len));
		break;
	case EVENT_ERROR:
		f->terminal = f->ending = true;
		error_read(ctx, f, root);
		break;
	case EVENT_ITEM_BEGIN:
		item_begin(ctx, f, index, json_get(root, "item"));
		break;
	case EVENT_ITEM_DONE:
		item_done(ctx, f, index, json_get(root, "item"));
		break;
	case EVENT_ARGUMENTS:
		arguments_read(ctx, f, index, text_of(root, "delta"), false);
		break;
	case EVENT_ARGUMENTS_DONE:
		arguments_read(ctx, f, index, text_of(root, "arguments"), true);
		break;
	case EVENT_INPUT_DONE:
		arguments_read(ctx, f, index, text_of(root, "input"), true);
		break;
	case EVENT_NOTE:
		note_read(ctx, f, index, json_get(root, "annotation"));
		break;
	case EVENT_AUDIO:
		f->content = true;
		break;
	case EVENT_OTHER:
		other_event(f, type, root);
		break;
	default:
		text_event(ctx, f, event, index, root);
	}
}

enum rc responses_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	const struct str data = str_trim(ev->data);
	struct json *root;
	struct str type;

	/* [DONE] is no part of this dialect, but servers of two dialects send it */
	if (!ev->comment && data.len > 0 && !str_is(data, "[DONE]")) {
		if (json_parse(data, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
		    json_type(root) != JSON_OBJECT)
			return RC_PROTOCOL;
		type = text_of(root, "type");
		if (type.len == 0)
			type = openai_error_is(root) ? STR("error") : ev->name;
		event_read(ctx, &f, type, root);
	}
	*ret = f;
	return RC_OK;
}

enum rc responses_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;
	struct str status;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	status = text_of(root, "status");
	/* neither an answer nor an error, or one that is not there yet */
	if (!openai_error_is(root) && !str_is(status, "failed") && !str_is(status, "cancelled") &&
	    (json_type(json_get(root, "output")) != JSON_ARRAY || str_is(status, "queued") ||
	     str_is(status, "in_progress")))
		return RC_PROTOCOL;
	response_read(ctx, &f, root);
	response_end(ctx, &f, root, STR("completed"));
	*ret = f;
	return RC_OK;
}
