/* routing/dialects/anthropic_ask.c - all that a caller of the Messages API asks, for a target of another dialect.
 *
 * Nothing is dropped without a word: what other families have no place for is either a hint (the answer is still one to
 * this question: it is named as lost) or a need (no other dialect is asked). Unknown fields are hints: clients send the
 * betas of the day with every call. */
#include <assert.h>
#include "routing/dialects/anthropic_priv.h"

#define NAMES_MAX                                                                                  \
	64 /* different names of hints, and of needs; what is said beyond them is said already */

struct asking {
	const struct call *c;
	struct arena *mem;
	struct chat *chat;
	struct err *err;
	size_t parts; /* of all turns so far */
	size_t last;  /* the last message's number */
};

static enum rc bad(struct asking *x, const char *field, const char *what)
{
	(void)err_set(x->err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(x->err, "%s", field);
	return RC_INVALID;
}

static enum rc too_many(struct asking *x, const char *field)
{
	(void)err_set(x->err, RC_TOO_LARGE, "request_too_large", "%s has too many entries.", field);
	err_field(x->err, "%s", field);
	return RC_TOO_LARGE;
}

static void name_add(struct asking *x, struct str **names, size_t *n, struct str name)
{
	for (size_t i = 0; i < *n; i++)
		if (str_eq((*names)[i], name))
			return;
	if (*n == NAMES_MAX)
		return;
	if (!*names)
		*names = ARENA_ARRAY(x->mem, struct str, NAMES_MAX);
	(*names)[(*n)++] = name;
}

static void hint(struct asking *x, struct str name)
{
	name_add(x, &x->chat->hints, &x->chat->hints_count, name);
}

static void need(struct asking *x, struct str name)
{
	name_add(x, &x->chat->needs, &x->chat->needs_count, name);
}

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s;
}

static enum chat_cache cache_of(const struct json *of)
{
	const struct json *mark = json_get(of, "cache_control");

	if (json_is_null(mark))
		return CHAT_CACHE_NONE;
	return str_is(text_of(mark, "ttl"), "1h") ? CHAT_CACHE_1H : CHAT_CACHE_5M;
}

/* --- turns -------------------------------------------------------------------------------------------- */

struct parts { /* room for the parts of one turn, or of one result */
	struct chat_part *ptr;
	size_t count, size;
	size_t message; /* where they stand, for names */
};

static enum rc parts_room(struct asking *x, struct parts *p, size_t size)
{
	void *ptr;

	x->parts += size;
	if (x->parts > CHAT_PARTS_MAX)
		return too_many(x, "messages");
	TRY(arena_try_alloc(x->mem, (size ? size : 1) * sizeof *p->ptr, &ptr));
	p->ptr = ptr;
	p->size = size;
	return RC_OK;
}

static struct chat_part *part_add(struct parts *p, enum chat_part_type type)
{
	assert(p->ptr && p->count < p->size);
	p->ptr[p->count] = (struct chat_part){.type = type};
	return &p->ptr[p->count++];
}

/* "messages[3].content.document.title" without a number of the block: clients name the message. */
static struct str field_of(struct asking *x, const struct parts *p, const char *what)
{
	return arena_printf(x->mem, "messages[%zu].content.%s", p->message, what);
}

/* The texts of blocks, one after the other, as a document's text. */
static enum rc texts_of(struct asking *x, const struct json *blocks, struct str *ret)
{
	struct chat_text all = {0};
	struct json_iter it = json_iter(json_type(blocks) == JSON_ARRAY ? blocks : NULL);
	struct json *b;
	struct str text;

	if (json_string(blocks, ret))
		return RC_OK;
	while (json_next(&it, NULL, &b)) {
		if (!json_string(json_get(b, "text"), &text))
			return bad(x, "messages",
				   "has a document with something else than text in it");
		if (all.len)
			TRY(chat_text_add(x->mem, &all, STR("\n\n")));
		TRY(chat_text_add(x->mem, &all, text));
	}
	*ret = chat_text_str(&all);
	return RC_OK;
}

static enum rc read_source(struct asking *x, const struct parts *p, const struct json *source,
			   struct chat_media *m)
{
	const struct str type = text_of(source, "type");

	m->mime = text_of(source, "media_type");
	if (str_is(type, "base64")) {
		m->data = text_of(source, "data");
		if (!m->data.ptr)
			return bad(x, "messages", "has an image or document without data");
	} else if (str_is(type, "url")) {
		m->url = text_of(source, "url");
		if (!m->url.ptr)
			return bad(x, "messages", "has an image or document without a url");
	} else if (str_is(type, "file")) {
		m->file_id = text_of(source, "file_id");
		need(x, field_of(x, p, "source.file_id"));
	} else if (str_is(type, "text")) {
		m->text = text_of(source, "data");
		if (!m->text.ptr)
			return bad(x, "messages", "has a text document without data");
	} else if (str_is(type, "content")) {
		if (!m->mime.ptr)
			m->mime = STR("text/plain");
		return texts_of(x, json_get(source, "content"), &m->text);
	} else {
		need(x, field_of(x, p, "source"));
	}
	return RC_OK;
}

static enum rc read_media(struct asking *x, struct parts *p, const struct json *b, bool is_image)
{
	struct chat_part *part = part_add(p, is_image ? CHAT_IMAGE : CHAT_DOCUMENT);
	bool cited = false;

	TRY(read_source(x, p, json_get(b, "source"), &part->media));
	part->cache = cache_of(b);
	part->media.name = text_of(b, "title");
	if (!json_is_null(json_get(b, "transformations")))
		hint(x, field_of(x, p, "transformations"));
	if (!json_is_null(json_get(b, "context")))
		hint(x, field_of(x, p, "context"));
	if (json_bool(json_get(json_get(b, "citations"), "enabled"), &cited) && cited)
		hint(x, field_of(x, p, "citations"));
	return RC_OK;
}

/* A found page is a document that has words and a title; where it was found has no place elsewhere. */
static enum rc read_search_result(struct asking *x, struct parts *p, const struct json *b)
{
	struct chat_part *part = part_add(p, CHAT_DOCUMENT);

	TRY(texts_of(x, json_get(b, "content"), &part->media.text));
	part->media.mime = STR("text/plain");
	part->media.name = text_of(b, "title");
	part->cache = cache_of(b);
	hint(x, field_of(x, p, "source"));
	return RC_OK;
}

/* A seal in one of our own wrappings says whose it is; any other was made by a provider of this dialect. */
static void read_seal(struct asking *x, struct str text, struct chat_opaque *ret)
{
	if (text.len == 0)
		return;
	if (chat_opaque_unwrap(x->mem, text, ret)) {
		if (ret->value.len == 0)
			*ret = (struct chat_opaque){0}; /* the mark of reasoning that had no seal */
		return;
	}
	*ret = (struct chat_opaque){.value = text,
				    .dialect = STR(ANTHROPIC_NAME),
				    .provider = STR(""),
				    .model = STR("")};
}

static enum rc read_call(struct asking *x, struct parts *p, const struct json *b)
{
	AUTO(buf) struct buf raw = BUF_INIT(x->c->body_bytes * 2 + 64);
	const struct json *input = json_get(b, "input");
	struct chat_part *before = p->count ? &p->ptr[p->count - 1] : NULL;
	struct chat_part call = {.type = CHAT_TOOL_CALL, .cache = cache_of(b)};
	void *copy;

	call.id = text_of(b, "id");
	call.name = text_of(b, "name");
	if (call.id.len == 0 || call.name.len == 0)
		return bad(x, "messages", "has a tool_use without an id or a name");
	if (!json_is_null(input) && json_type(input) != JSON_OBJECT)
		return bad(x, "messages", "has a tool_use whose input is no object");
	call.arguments = STR("{}");
	if (!json_is_null(input)) {
		TRY(json_write(input, &raw));
		TRY(arena_try_alloc(x->mem, raw.len + 1, &copy));
		memcpy(copy, raw.ptr, raw.len);
		call.arguments = str_of(copy, raw.len);
	}
	/* what a call's own seal was put into on the way out (anthropic_writer.c) */
	if (before && before->type == CHAT_REASONING && before->text.len == 0 &&
	    str_starts(before->opaque.value, STR(ANTHROPIC_OF_CALL))) {
		call.opaque = before->opaque;
		call.opaque.value = str_slice(call.opaque.value, sizeof ANTHROPIC_OF_CALL - 1,
					      call.opaque.value.len);
		p->count--;
	}
	*part_add(p, CHAT_TOOL_CALL) = call;
	return RC_OK;
}

static enum rc read_block(struct asking *x, struct parts *p, const struct json *b);

static enum rc read_result(struct asking *x, struct parts *p, const struct json *b)
{
	const struct json *content = json_get(b, "content");
	struct chat_part *part = part_add(p, CHAT_TOOL_RESULT);
	struct parts inner = {.message = p->message};
	struct json_iter it = json_iter(content);
	struct json *one;
	struct str text;

	part->id = text_of(b, "tool_use_id");
	if (part->id.len == 0)
		return bad(x, "messages", "has a tool_result without a tool_use_id");
	part->cache = cache_of(b);
	(void)json_bool(json_get(b, "is_error"), &part->is_error);
	if (json_string(content, &text)) {
		TRY(parts_room(x, &inner, 1));
		part_add(&inner, CHAT_TEXT)->text = text;
	} else {
		TRY(parts_room(x, &inner, json_len(content)));
		while (json_next(&it, NULL, &one)) {
			if (str_is(text_of(one, "type"), "tool_result"))
				return bad(x, "messages", "has a tool_result inside another");
			TRY(read_block(x, &inner, one));
		}
	}
	part->parts = inner.ptr;
	part->parts_count = inner.count;
	return RC_OK;
}

/* What the provider itself did in an earlier answer: its results can be read by it alone. At the very end of the question
 * it has to go on with them. */
static void read_foreign(struct asking *x, const struct parts *p, struct str type)
{
	const struct str name = arena_printf(x->mem, "messages[%zu].content.%.*s", p->message,
					     STR_FMT(str_slice(type, 0, 40)));
	const bool known = str_is(type, "server_tool_use") || str_is(type, "mcp_tool_use") ||
			   str_ends(type, STR("_tool_result"));

	if (known && p->message != x->last)
		hint(x, name);
	else
		need(x, name);
}

static enum rc read_block(struct asking *x, struct parts *p, const struct json *b)
{
	const struct str type = text_of(b, "type");
	struct chat_part *part;

	if (str_is(type, "text")) {
		part = part_add(p, CHAT_TEXT);
		part->text = text_of(b, "text");
		part->cache = cache_of(b);
		if (json_len(json_get(b, "citations")) > 0)
			hint(x, field_of(x, p, "citations"));
	} else if (str_is(type, "image") || str_is(type, "document")) {
		return read_media(x, p, b, str_is(type, "image"));
	} else if (str_is(type, "search_result")) {
		return read_search_result(x, p, b);
	} else if (str_is(type, "tool_use")) {
		return read_call(x, p, b);
	} else if (str_is(type, "tool_result")) {
		return read_result(x, p, b);
	} else if (str_is(type, "thinking")) {
		part = part_add(p, CHAT_REASONING);
		part->text = text_of(b, "thinking");
		if (!part->text.ptr)
			part->text = STR("");
		read_seal(x, text_of(b, "signature"), &part->opaque);
	} else if (str_is(type, "redacted_thinking")) {
		part = part_add(p, CHAT_REASONING);
		part->text = STR("");
		read_seal(x, text_of(b, "data"), &part->opaque);
	} else {
		read_foreign(x, p, type);
	}
	return RC_OK;
}

static enum rc read_content(struct asking *x, struct parts *p, const struct json *content,
			    bool results)
{
	struct json_iter it = json_iter(json_type(content) == JSON_ARRAY ? content : NULL);
	struct json *b;
	struct str text;

	if (json_string(content, &text)) {
		if (!results)
			part_add(p, CHAT_TEXT)->text = text;
		return RC_OK;
	}
	while (json_next(&it, NULL, &b))
		if (str_is(text_of(b, "type"), "tool_result") == results)
			TRY(read_block(x, p, b));
	return RC_OK;
}

static size_t blocks_in(const struct json *message)
{
	const struct json *content = json_get(message, "content");

	return json_type(content) == JSON_ARRAY ? json_len(content) : 1;
}

static enum rc role_of(struct asking *x, const struct json *m, enum chat_role *ret)
{
	const struct str role = text_of(m, "role");

	if (str_is(role, "user"))
		*ret = CHAT_USER;
	else if (str_is(role, "assistant"))
		*ret = CHAT_ASSISTANT;
	else if (str_is(role, "system"))
		*ret = CHAT_SYSTEM;
	else
		return bad(x, "messages", "has a role that is none of user, assistant, system");
	return RC_OK;
}

/* Messages [from, to) are one turn: several only where they hold the results of one turn's calls. */
static enum rc read_turn(struct asking *x, const struct json *const *messages, size_t from,
			 size_t to, enum chat_role role)
{
	struct chat_turn *turn = &x->chat->turns[x->chat->turns_count++];
	struct parts p = {0};
	size_t size = 0;

	for (size_t i = from; i < to; i++)
		size += blocks_in(messages[i]);
	TRY(parts_room(x, &p, size));
	for (int results = 1; results >= 0; results--) {
		for (size_t i = from; i < to; i++) {
			p.message = i;
			TRY(read_content(x, &p, json_get(messages[i], "content"), results));
		}
	}
	*turn = (struct chat_turn){.role = role, .parts = p.ptr, .parts_count = p.count};
	for (size_t i = 0; i < p.count; i++)
		if ((p.ptr[i].type == CHAT_TOOL_RESULT && role != CHAT_USER) ||
		    ((p.ptr[i].type == CHAT_TOOL_CALL || p.ptr[i].type == CHAT_REASONING) &&
		     role != CHAT_ASSISTANT))
			return bad(x, "messages", "has a block that its role cannot have");
	return RC_OK;
}

static bool has_results(const struct json *message)
{
	struct json_iter it = json_iter(json_get(message, "content"));
	struct json *b;

	while (json_next(&it, NULL, &b))
		if (str_is(text_of(b, "type"), "tool_result"))
			return true;
	return false;
}

static enum rc read_messages(struct asking *x)
{
	const struct json *all = json_get(x->c->body, "messages");
	const size_t n = json_len(all);
	struct json_iter it = json_iter(all);
	const struct json **messages;
	enum chat_role role, next;
	struct json *m;
	void *ptr;

	if (n > CHAT_TURNS_MAX - 1)
		return too_many(x, "messages");
	TRY(arena_try_alloc(x->mem, (n + 1) * sizeof *messages, &ptr));
	messages = ptr;
	for (size_t i = 0; json_next(&it, NULL, &m); i++)
		messages[i] = m;
	x->last = n - 1;
	for (size_t from = 0, to; from < n; from = to) {
		TRY(role_of(x, messages[from], &role));
		for (to = from + 1; to < n && role == CHAT_USER; to++) {
			TRY(role_of(x, messages[to], &next));
			if (next != role || !has_results(messages[to]))
				break;
		}
		TRY(read_turn(x, messages, from, to, role));
	}
	return RC_OK;
}

static enum rc read_system(struct asking *x)
{
	const struct json *system = json_get(x->c->body, "system");
	struct chat_turn *turn;
	struct parts p = {0};

	if (json_is_null(system))
		return RC_OK;
	TRY(parts_room(x, &p, json_type(system) == JSON_ARRAY ? json_len(system) : 1));
	TRY(read_content(x, &p, system, false));
	for (size_t i = 0; i < p.count; i++)
		if (p.ptr[i].type != CHAT_TEXT)
			return bad(x, "system", "has a block that is no text");
	turn = &x->chat->turns[x->chat->turns_count++];
	*turn = (struct chat_turn){.role = CHAT_SYSTEM, .parts = p.ptr, .parts_count = p.count};
	return RC_OK;
}

static enum rc read_turns(struct asking *x)
{
	void *ptr;

	TRY(arena_try_alloc(
		x->mem, (json_len(json_get(x->c->body, "messages")) + 1) * sizeof *x->chat->turns,
		&ptr));
	x->chat->turns = ptr;
	TRY(read_system(x));
	return read_messages(x);
}

/* --- tools ---------------------------------------------------------------------------------------------- */

static enum rc read_tool(struct asking *x, const struct json *v, struct chat_tool *tool)
{
	static const char *const extras[] = {"defer_loading", "eager_input_streaming",
					     "input_examples", "allowed_callers"};
	const struct str type = text_of(v, "type");
	const struct json *schema = json_get(v, "input_schema");
	bool strict;

	*tool = (struct chat_tool){.strict = -1, .cache = cache_of(v)};
	if (type.len && !str_is(type, "custom")) {
		tool->kind = CHAT_TOOL_HOSTED;
		tool->name = type;
		return RC_OK;
	}
	tool->name = text_of(v, "name");
	if (tool->name.len == 0)
		return bad(x, "tools", "has a tool without a name");
	tool->description = text_of(v, "description");
	if (!json_is_null(schema) && json_type(schema) != JSON_OBJECT)
		return bad(x, "tools", "has an input_schema that is no object");
	tool->parameters = json_is_null(schema) ? NULL : schema;
	if (json_bool(json_get(v, "strict"), &strict))
		tool->strict = strict;
	for (size_t i = 0; i < ARRAY_LEN(extras); i++)
		if (!json_is_null(json_get(v, extras[i])))
			hint(x, arena_printf(x->mem, "tools.%s", extras[i]));
	return RC_OK;
}

static enum rc read_tools(struct asking *x)
{
	const struct json *tools = json_get(x->c->body, "tools");
	struct json_iter it = json_iter(tools);
	struct json *v;
	void *ptr;

	if (json_len(tools) == 0)
		return RC_OK;
	if (json_len(tools) > CHAT_TOOLS_MAX)
		return too_many(x, "tools");
	TRY(arena_try_alloc(x->mem, json_len(tools) * sizeof *x->chat->tools, &ptr));
	x->chat->tools = ptr;
	while (json_next(&it, NULL, &v))
		TRY(read_tool(x, v, &x->chat->tools[x->chat->tools_count++]));
	return RC_OK;
}

static enum rc read_choice(struct asking *x)
{
	const struct json *v = json_get(x->c->body, "tool_choice");
	const struct str type = text_of(v, "type");
	struct chat *chat = x->chat;
	bool one;

	if (json_is_null(v))
		return RC_OK;
	if (str_is(type, "auto")) {
		chat->choice = CHAT_CHOICE_AUTO;
	} else if (str_is(type, "any")) {
		chat->choice = CHAT_CHOICE_REQUIRED;
	} else if (str_is(type, "none")) {
		chat->choice = CHAT_CHOICE_NONE;
	} else if (str_is(type, "tool")) {
		chat->choice = CHAT_CHOICE_NAMED;
		chat->choice_names = ARENA_NEW(x->mem, struct str);
		chat->choice_names[0] = text_of(v, "name");
		chat->choice_names_count = 1;
		if (chat->choice_names[0].len == 0)
			return bad(x, "tool_choice", "names no tool");
	} else {
		return bad(x, "tool_choice", "must have a type of auto, any, tool or none");
	}
	if (json_bool(json_get(v, "disable_parallel_tool_use"), &one))
		chat->parallel_tools = !one;
	return RC_OK;
}

/* --- how to answer ------------------------------------------------------------------------------------ */

static enum rc read_number(struct asking *x, const char *field, const struct json **ret)
{
	const struct json *v = json_get(x->c->body, field);

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_INT && json_type(v) != JSON_REAL)
		return bad(x, field, "must be a number");
	*ret = v;
	return RC_OK;
}

static enum rc read_stop(struct asking *x)
{
	const struct json *v = json_get(x->c->body, "stop_sequences");
	struct json_iter it = json_iter(v);
	struct json *one;
	void *ptr;

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_ARRAY)
		return bad(x, "stop_sequences", "must be an array");
	TRY(arena_try_alloc(x->mem, (json_len(v) + 1) * sizeof *x->chat->stop, &ptr));
	x->chat->stop = ptr;
	while (json_next(&it, NULL, &one))
		if (!json_string(one, &x->chat->stop[x->chat->stop_count++]))
			return bad(x, "stop_sequences", "must be an array of strings");
	return RC_OK;
}

static enum rc read_thinking(struct asking *x)
{
	const struct json *v = json_get(x->c->body, "thinking");
	const struct str type = text_of(v, "type"), display = text_of(v, "display");
	int64_t budget;

	if (json_is_null(v))
		return RC_OK;
	if (str_is(type, "disabled")) {
		x->chat->reasoning_tokens = 0;
	} else if (str_is(type, "enabled")) {
		if (!json_int(json_get(v, "budget_tokens"), &budget) || budget < 1)
			return bad(x, "thinking.budget_tokens", "must be a positive integer");
		x->chat->reasoning_tokens = budget;
	} else if (!str_is(type, "adaptive")) {
		return bad(x, "thinking", "must have a type of enabled, adaptive or disabled");
	}
	if (str_is(display, "summarized"))
		x->chat->reasoning_shown = 1;
	else if (str_is(display, "omitted"))
		x->chat->reasoning_shown = 0;
	return RC_OK;
}

static enum rc read_output(struct asking *x)
{
	const struct json *config = json_get(x->c->body, "output_config");
	const struct json *format = json_get(config, "format");
	const struct str effort = text_of(config, "effort");
	struct json_iter it = json_iter(config);
	const char *field = "output_config.format";
	struct str key;

	if (json_is_null(format)) {
		format = json_get(x->c->body, "output_format");
		field = "output_format";
	}
	if (!json_is_null(format)) {
		if (!str_is(text_of(format, "type"), "json_schema") ||
		    json_type(json_get(format, "schema")) != JSON_OBJECT)
			return bad(x, field, "must be a json_schema with a schema");
		x->chat->format = CHAT_FORMAT_SCHEMA;
		x->chat->schema = json_get(format, "schema");
	}
	if (effort.len && chat_effort_parse(effort, &x->chat->effort) != RC_OK)
		hint(x, STR("output_config.effort"));
	while (x->chat->hints_count < NAMES_MAX && json_next(&it, &key, NULL))
		if (!str_is(key, "format") && !str_is(key, "effort"))
			hint(x, arena_printf(x->mem, "output_config.%.*s",
					     STR_FMT(str_slice(key, 0, 64))));
	return RC_OK;
}

static void read_labels(struct asking *x)
{
	const struct json *metadata = json_get(x->c->body, "metadata");
	const struct str tier = text_of(x->c->body, "service_tier");
	struct json_iter it = json_iter(metadata);
	struct str key;

	x->chat->end_user = text_of(metadata, "user_id");
	while (json_next(&it, &key, NULL))
		if (!str_is(key, "user_id"))
			hint(x, STR("metadata"));
	if (tier.len) /* "not priority" is what the others call default */
		x->chat->service_tier = str_is(tier, "standard_only") ? STR("default") : tier;
}

/* Fields without a counterpart. Where the answer is made and what it may read is no matter of taste; how it is made is. */
static void read_rest(struct asking *x)
{
	static const char *const known[] = {
		"model",    "max_tokens",   "messages",	      "system",
		"stream",   "temperature",  "top_p",	      "top_k",
		"tools",    "thinking",	    "stop_sequences", "tool_choice",
		"metadata", "service_tier", "output_config",  "output_format"};
	static const char *const needed[] = {"container", "inference_geo", "mcp_servers"};
	struct json_iter it = json_iter(x->c->body);
	struct str key;
	struct json *v;
	int64_t n;

	while (json_next(&it, &key, &v)) {
		bool is_known = json_is_null(v), is_needed = false;

		for (size_t i = 0; i < ARRAY_LEN(known) && !is_known; i++)
			is_known = str_is(key, known[i]);
		for (size_t i = 0; i < ARRAY_LEN(needed); i++)
			is_needed |= str_is(key, needed[i]);
		if (is_known || (is_needed && json_type(v) == JSON_ARRAY && json_len(v) == 0))
			continue;
		key = str_slice(key, 0, 64);
		if (is_needed)
			need(x, key);
		else
			hint(x, key);
	}
	/* to fill the cache and answer nothing: others have no such call */
	if (json_int(json_get(x->c->body, "max_tokens"), &n) && n == 0)
		need(x, STR("max_tokens"));
}

enum rc anthropic_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			     struct err *err)
{
	struct chat chat = {.parallel_tools = -1,
			    .schema_strict = -1,
			    .reasoning_tokens = -1,
			    .reasoning_shown = -1};
	struct asking x = {.c = c, .mem = mem, .chat = &chat, .err = err};

	TRY(read_turns(&x));
	TRY(chat_name_results(&chat, err));
	TRY(read_tools(&x));
	TRY(read_choice(&x));
	TRY(read_number(&x, "temperature", &chat.temperature));
	TRY(read_number(&x, "top_p", &chat.top_p));
	TRY(read_number(&x, "top_k", &chat.top_k));
	TRY(read_stop(&x));
	TRY(read_thinking(&x));
	TRY(read_output(&x));
	read_labels(&x);
	read_rest(&x);
	ret->operation = c->operation;
	ret->chat = chat;
	return RC_OK;
}
