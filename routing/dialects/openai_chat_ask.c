/* routing/dialects/openai_chat_ask.c - a chat completions request, read whole, in nobody's dialect.
 *
 * Only for a target that speaks another. What decides routing and money was read by openai_chat.c already. Here all else
 * gets its right type or is refused with its place in the request; what no other dialect has is listed, as a hint where the
 * answer is still one to this question without it, as a need where it is not. Takes what servers of this dialect add to it,
 * too: reasoning in the history, Mistral's parts, the legacy function call. */
#include "routing/dialects/openai_priv.h"

#define NEEDS_MAX 8 /* the first is told; the others are for a reader of a core dump */

struct asking {
	struct arena *mem;
	struct chat *chat;
	struct err *err;
	size_t parts;	   /* of all turns so far */
	size_t message;	   /* which is read, for the place in an error */
	struct str legacy; /* id of the last function_call: what a function message answers */
};

static enum rc wrong(const struct asking *a, struct str field, const char *what)
{
	(void)err_set(a->err, RC_INVALID, "invalid_request_error", "%.*s %s.", STR_FMT(field),
		      what);
	err_field(a->err, "%.*s", STR_FMT(field));
	return RC_INVALID;
}

static void need(struct asking *a, struct str field)
{
	if (!a->chat->needs)
		a->chat->needs = ARENA_ARRAY(a->mem, struct str, NEEDS_MAX);
	if (a->chat->needs_count < NEEDS_MAX)
		a->chat->needs[a->chat->needs_count++] = field;
}

static void hint(struct asking *a, struct str field)
{
	for (size_t i = 0; i < a->chat->hints_count; i++)
		if (str_eq(a->chat->hints[i], field))
			return;
	if (!a->chat->hints)
		a->chat->hints = ARENA_ARRAY(a->mem, struct str, CHAT_LOSSES_MAX);
	if (a->chat->hints_count < CHAT_LOSSES_MAX) /* more could not be told */
		a->chat->hints[a->chat->hints_count++] = field;
}

static struct str in_message(const struct asking *a, const char *field)
{
	return arena_printf(a->mem, "messages[%zu].%s", a->message, field);
}

static struct str in_content(const struct asking *a, size_t i, const char *field)
{
	return arena_printf(a->mem, "messages[%zu].content[%zu]%s%s", a->message, i,
			    *field ? "." : "", field);
}

static struct str in_call(const struct asking *a, size_t i, const char *field)
{
	return arena_printf(a->mem, "messages[%zu].tool_calls[%zu].%s", a->message, i, field);
}

static enum rc parts_new(struct asking *a, size_t n, struct chat_part **ret)
{
	void *p;

	a->parts += n;
	if (a->parts > CHAT_PARTS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(a->mem, (n ? n : 1) * sizeof **ret, &p));
	*ret = p;
	return RC_OK;
}

/* Absent, null and the empty string are the same. */
static struct str text_at(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s.len ? s : STR_NULL;
}

/* State of whoever made it: wrapped by us it says who, else it is of this dialect and of nobody known. */
static struct chat_opaque seal_of(const struct asking *a, struct str text)
{
	struct chat_opaque o = {0};

	if (text.ptr && !chat_opaque_unwrap(a->mem, text, &o))
		o = (struct chat_opaque){.value = text, .dialect = STR("openai_chat")};
	return o;
}

/* ---- content ------------------------------------------------------------------------------------------- */

static enum chat_cache cache_of(const struct json *v)
{
	const struct json *control = json_get(v, "cache_control");

	if (json_type(control) == JSON_OBJECT)
		return str_is(text_at(control, "ttl"), "1h") ? CHAT_CACHE_1H : CHAT_CACHE_5M;
	return json_is_null(json_get(v, "prompt_cache_breakpoint")) ? CHAT_CACHE_NONE
								    : CHAT_CACHE_5M;
}

static enum rc read_url(const struct asking *a, struct str url, struct str field,
			struct chat_media *m)
{
	if (url.len == 0)
		return wrong(a, field, "needs a url");
	if (!str_eq_nocase(str_slice(url, 0, 5), STR("data:"))) {
		m->url = url;
		return RC_OK;
	}
	return chat_data_url(url, m) ? RC_OK : wrong(a, field, "must be a data URL in base64");
}

/* {"image_url": {"url"}}, or the bare string of some servers. */
static enum rc read_linked(const struct asking *a, const struct json *part, size_t i,
			   const char *key, struct chat_part *p)
{
	const struct json *v = json_get(part, key);
	struct str url = text_at(part, key);

	if (!url.ptr)
		url = text_at(v, "url");
	p->media.detail = text_at(v, "detail");
	return read_url(a, url, in_content(a, i, key), &p->media);
}

static enum rc read_audio(const struct asking *a, const struct json *part, size_t i,
			  struct chat_part *p)
{
	const struct json *v = json_get(part, "input_audio");
	struct str data = text_at(v, "data"), format = text_at(v, "format");

	p->type = CHAT_AUDIO;
	if (!data.ptr && json_string(v, &data) && !str_starts(data, STR("http")))
		format = STR("mp3"); /* Mistral's form says nothing of it */
	if (!data.ptr || !format.ptr)
		return wrong(a, in_content(a, i, "input_audio"), "needs data and a format");
	if (str_starts(data, STR("http")) || str_starts(data, STR("data:")))
		return read_url(a, data, in_content(a, i, "input_audio"), &p->media);
	p->media.data = data;
	p->media.mime = arena_printf(a->mem, "audio/%.*s", STR_FMT(str_slice(format, 0, 32)));
	return RC_OK;
}

static enum rc read_file(const struct asking *a, const struct json *part, size_t i,
			 struct chat_part *p)
{
	const struct json *v = json_get(part, "file");
	struct str data = text_at(v, "file_data");

	p->type = CHAT_DOCUMENT;
	p->media.name = text_at(v, "filename");
	p->media.file_id = text_at(v, "file_id");
	if (!p->media.file_id.ptr) /* Mistral's stands beside the type */
		p->media.file_id = text_at(part, "file_id");
	if (p->media.file_id.ptr)
		return RC_OK;
	if (!data.ptr)
		return wrong(a, in_content(a, i, "file"), "needs file_data or a file_id");
	if (!str_eq_nocase(str_slice(data, 0, 5), STR("data:")) && !str_starts(data, STR("http"))) {
		p->media.mime = STR("application/pdf"); /* bare base64: the only kind there was */
		p->media.data = data;
		return RC_OK;
	}
	return read_url(a, data, in_content(a, i, "file.file_data"), &p->media);
}

/* Mistral's: {"thinking": [{"type": "text", "text"}], "signature"}. */
static enum rc read_thinking(const struct asking *a, const struct json *part, struct chat_part *p)
{
	struct json_iter it = json_iter(json_get(part, "thinking"));
	struct chat_text text = {0};
	struct json *piece;

	p->type = CHAT_REASONING;
	p->opaque = seal_of(a, text_at(part, "signature"));
	p->text = text_at(part, "thinking");
	while (!p->text.ptr && json_next(&it, NULL, &piece))
		TRY(chat_text_add(a->mem, &text, text_at(piece, "text")));
	if (!p->text.ptr)
		p->text = chat_text_str(&text);
	return RC_OK;
}

static enum rc read_part(struct asking *a, const struct json *part, size_t i, struct chat_part *p)
{
	const struct str type = text_at(part, "type");

	p->cache = cache_of(part);
	if (str_is(type, "text") || str_is(type, "input_text") || str_is(type, "output_text")) {
		p->type = CHAT_TEXT;
		return json_string(json_get(part, "text"), &p->text)
			       ? RC_OK
			       : wrong(a, in_content(a, i, "text"), "must be a string");
	}
	if (str_is(type, "refusal")) {
		p->type = CHAT_REFUSAL;
		return json_string(json_get(part, "refusal"), &p->text)
			       ? RC_OK
			       : wrong(a, in_content(a, i, "refusal"), "must be a string");
	}
	if (str_is(type, "input_audio"))
		return read_audio(a, part, i, p);
	if (str_is(type, "file"))
		return read_file(a, part, i, p);
	if (str_is(type, "thinking"))
		return read_thinking(a, part, p);
	if (str_is(type, "image_url")) {
		p->type = CHAT_IMAGE;
		return read_linked(a, part, i, "image_url", p);
	}
	if (str_is(type, "video_url") || str_is(type, "input_video")) {
		p->type = CHAT_VIDEO;
		return read_linked(a, part, i, "video_url", p);
	}
	if (str_is(type, "document_url")) {
		p->type = CHAT_DOCUMENT;
		p->media.name = text_at(part, "document_name");
		return read_linked(a, part, i, "document_url", p);
	}
	need(a, in_content(a, i, ""));
	p->type = CHAT_TEXT;
	return RC_OK;
}

static size_t content_len(const struct json *content)
{
	return json_type(content) == JSON_STRING ? 1 : json_len(content);
}

/* Into `parts`, which has room for content_len(). Strings and arrays: decode_request() saw to it. */
static enum rc read_content(struct asking *a, const struct json *content, struct chat_part *parts,
			    size_t *count)
{
	struct json_iter it = json_iter(content);
	struct json *part;
	struct str text;

	if (json_string(content, &text)) {
		if (text.len)
			parts[(*count)++] = (struct chat_part){.type = CHAT_TEXT, .text = text};
		return RC_OK;
	}
	for (size_t i = 0; json_next(&it, NULL, &part); i++)
		TRY(read_part(a, part, i, &parts[(*count)++]));
	return RC_OK;
}

/* ---- what an assistant said ----------------------------------------------------------------------------- */

/* A detail is whole: text with its seal, a summary, or a seal alone. */
static bool read_detail(const struct asking *a, const struct json *v, struct chat_part *p)
{
	const struct str type = text_at(v, "type");

	*p = (struct chat_part){.type = CHAT_REASONING};
	if (str_is(type, "reasoning.encrypted")) {
		p->opaque = seal_of(a, text_at(v, "data"));
	} else if (str_is(type, "reasoning.summary")) {
		p->text = text_at(v, "summary");
	} else {
		p->text = text_at(v, "text");
		p->opaque = seal_of(a, text_at(v, "signature"));
	}
	return p->text.ptr || p->opaque.value.ptr;
}

static void read_reasoning(const struct asking *a, const struct json *m, struct chat_turn *t)
{
	struct json_iter it = json_iter(json_get(m, "reasoning_details"));
	struct str text = text_at(m, "reasoning_content");
	bool said = false;
	struct json *v;

	while (json_next(&it, NULL, &v)) {
		struct chat_part *p = &t->parts[t->parts_count];

		if (!read_detail(a, v, p))
			continue;
		said |= p->text.ptr != NULL;
		t->parts_count++;
	}
	if (!text.ptr)
		text = text_at(m, "reasoning");
	if (text.ptr && !said)
		t->parts[t->parts_count++] =
			(struct chat_part){.type = CHAT_REASONING, .text = text};
}

/* Arguments are the text of a JSON object; empty is an empty one. */
static enum rc read_arguments(const struct asking *a, const struct json *v, struct str field,
			      struct str *ret)
{
	AUTO(buf) struct buf text = BUF_INIT(SIZE_MAX / 8);
	struct chat_text copy = {0};
	struct json *root;

	*ret = STR("{}");
	if (json_type(v) == JSON_OBJECT) {
		TRY(json_write(v, &text));
		TRY(chat_text_add(a->mem, &copy, buf_str(&text)));
		*ret = chat_text_str(&copy);
		return RC_OK;
	}
	if (json_is_null(v))
		return RC_OK;
	if (!json_string(v, ret))
		return wrong(a, field, "must be a string");
	*ret = str_trim(*ret);
	if (ret->len == 0)
		*ret = STR("{}");
	if (json_parse(*ret, JSON_ALLOW_DUPLICATES, a->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return wrong(a, field, "must be the text of a JSON object");
	return RC_OK;
}

static struct str signature_of(const struct json *v)
{
	return text_at(json_get(json_get(v, "extra_content"), "google"), "thought_signature");
}

static enum rc read_call(struct asking *a, const struct json *v, size_t i, struct chat_part *p)
{
	const struct json *function = json_get(v, "function");

	*p = (struct chat_part){.type = CHAT_TOOL_CALL,
				.id = text_at(v, "id"),
				.name = text_at(function, "name"),
				.arguments = STR("{}")};
	if (!p->id.ptr)
		return wrong(a, in_call(a, i, "id"), "must be a string that is not empty");
	if (json_type(json_get(v, "custom")) == JSON_OBJECT) {
		p->name = text_at(json_get(v, "custom"), "name");
		need(a, in_call(a, i, "custom"));
		return RC_OK;
	}
	if (!p->name.ptr)
		return wrong(a, in_call(a, i, "function.name"),
			     "must be a string that is not empty");
	p->opaque = seal_of(a, signature_of(v));
	return read_arguments(a, json_get(function, "arguments"),
			      in_call(a, i, "function.arguments"), &p->arguments);
}

/* The form before tools: one call without an id. */
static enum rc read_legacy(struct asking *a, const struct json *m, struct chat_part *p)
{
	const struct json *v = json_get(m, "function_call");

	a->legacy = arena_printf(a->mem, "call_of_message_%zu", a->message);
	*p = (struct chat_part){
		.type = CHAT_TOOL_CALL, .id = a->legacy, .name = text_at(v, "name")};
	if (!p->name.ptr)
		return wrong(a, in_message(a, "function_call.name"),
			     "must be a string that is not empty");
	return read_arguments(a, json_get(v, "arguments"), in_message(a, "function_call.arguments"),
			      &p->arguments);
}

static void sign_last_text(const struct asking *a, struct str signature, struct chat_turn *t)
{
	for (size_t i = t->parts_count; signature.ptr && i-- > 0;) {
		if (t->parts[i].type != CHAT_TEXT)
			continue;
		t->parts[i].opaque = seal_of(a, signature);
		return;
	}
}

static enum rc read_assistant(struct asking *a, const struct json *m, struct chat_turn *t)
{
	const struct json *content = json_get(m, "content"), *calls = json_get(m, "tool_calls");
	const struct str refusal = text_at(m, "refusal");
	struct json_iter it = json_iter(calls);
	struct json *v;

	if (!json_is_null(calls) && json_type(calls) != JSON_ARRAY)
		return wrong(a, in_message(a, "tool_calls"), "must be an array");
	if (!json_is_null(json_get(m, "audio")))
		need(a, in_message(a, "audio"));
	TRY(parts_new(a,
		      json_len(json_get(m, "reasoning_details")) + content_len(content) +
			      json_len(calls) + 3,
		      &t->parts));
	read_reasoning(a, m, t);
	TRY(read_content(a, content, t->parts, &t->parts_count));
	sign_last_text(a, signature_of(m), t);
	if (refusal.ptr)
		t->parts[t->parts_count++] =
			(struct chat_part){.type = CHAT_REFUSAL, .text = refusal};
	for (size_t i = 0; json_next(&it, NULL, &v); i++)
		TRY(read_call(a, v, i, &t->parts[t->parts_count++]));
	if (json_type(json_get(m, "function_call")) == JSON_OBJECT)
		TRY(read_legacy(a, m, &t->parts[t->parts_count++]));
	return RC_OK;
}

/* ---- the other roles -------------------------------------------------------------------------------------- */

static bool is_result(const struct json *m)
{
	const struct str role = text_at(m, "role");

	return str_is(role, "tool") || str_is(role, "function");
}

static enum rc read_result(struct asking *a, const struct json *m, struct chat_part *p)
{
	const struct json *content = json_get(m, "content");

	p->type = CHAT_TOOL_RESULT;
	p->cache = cache_of(m);
	p->id = text_at(m, "tool_call_id");
	if (str_is(text_at(m, "role"), "function") && !p->id.ptr)
		p->id = a->legacy;
	if (!p->id.ptr)
		return wrong(a, in_message(a, "tool_call_id"),
			     "must be a string that is not empty");
	TRY(parts_new(a, content_len(content), &p->parts));
	TRY(read_content(a, content, p->parts, &p->parts_count));
	for (size_t i = 0; i < p->parts_count; i++)
		if (p->parts[i].type != CHAT_TEXT && p->parts[i].type != CHAT_IMAGE &&
		    p->parts[i].type != CHAT_DOCUMENT)
			need(a, in_content(a, i, ""));
	return RC_OK;
}

static enum rc read_turn(struct asking *a, const struct json *m, struct chat_turn *t)
{
	const struct json *content = json_get(m, "content");
	const struct str role = text_at(m, "role");

	if (!json_is_null(json_get(m, "name")) && !is_result(m))
		hint(a, STR("messages.name"));
	if (str_is(role, "assistant")) {
		t->role = CHAT_ASSISTANT;
		return read_assistant(a, m, t);
	}
	t->role = str_is(role, "user")	      ? CHAT_USER
		  : str_is(role, "developer") ? CHAT_DEVELOPER
					      : CHAT_SYSTEM;
	if (t->role == CHAT_SYSTEM && !str_is(role, "system"))
		return wrong(a, in_message(a, "role"), "is none that is known");
	TRY(parts_new(a, content_len(content), &t->parts));
	return read_content(a, content, t->parts, &t->parts_count);
}

/* The results of one assistant turn are one turn: `it` stands behind the first of them. */
static enum rc read_results(struct asking *a, struct json_iter *it, struct json *m,
			    struct chat_turn *t)
{
	struct json_iter ahead = *it;
	struct json *next;
	size_t n = 1;

	while (json_next(&ahead, NULL, &next) && is_result(next))
		n++;
	t->role = CHAT_USER;
	TRY(parts_new(a, n, &t->parts));
	while (true) {
		TRY(read_result(a, m, &t->parts[t->parts_count]));
		if (++t->parts_count == n)
			return RC_OK;
		(void)json_next(it, NULL, &m);
		a->message++;
	}
}

static enum rc read_messages(struct asking *a, const struct json *body)
{
	const struct json *messages = json_get(body, "messages");
	struct json_iter it = json_iter(messages);
	struct chat *chat = a->chat;
	struct json *m;
	void *turns;

	if (json_len(messages) > CHAT_TURNS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(a->mem, json_len(messages) * sizeof *chat->turns, &turns));
	chat->turns = turns;
	for (; json_next(&it, NULL, &m); a->message++) {
		struct chat_turn *t = &chat->turns[chat->turns_count++];

		TRY(is_result(m) ? read_results(a, &it, m, t) : read_turn(a, m, t));
	}
	return RC_OK;
}

/* ---- tools -------------------------------------------------------------------------------------------------- */

static enum rc read_function(const struct asking *a, const struct json *f, struct str field,
			     struct chat_tool *t)
{
	const struct json *parameters = json_get(f, "parameters");
	bool strict;

	t->name = text_at(f, "name");
	t->description = text_at(f, "description");
	if (!t->name.ptr)
		return wrong(a, field, "needs a function with a name");
	if (!json_is_null(parameters)) {
		if (json_type(parameters) != JSON_OBJECT)
			return wrong(a, field, "has parameters that are no object");
		t->parameters = parameters;
	}
	if (json_bool(json_get(f, "strict"), &strict))
		t->strict = strict;
	return RC_OK;
}

static enum rc read_tool(const struct asking *a, const struct json *v, size_t i,
			 struct chat_tool *t)
{
	const struct str field = arena_printf(a->mem, "tools[%zu]", i);
	struct str type = text_at(v, "type");

	t->strict = -1;
	t->cache = cache_of(v);
	if (str_is(type, "function") ||
	    (!type.ptr && json_type(json_get(v, "function")) == JSON_OBJECT))
		return read_function(a, json_get(v, "function"), field, t);
	if (!type.ptr)
		return wrong(a, field, "must be an object with a type");
	t->kind = str_is(type, "custom") ? CHAT_TOOL_CUSTOM : CHAT_TOOL_HOSTED;
	t->name = t->kind == CHAT_TOOL_CUSTOM ? text_at(json_get(v, "custom"), "name") : type;
	return RC_OK;
}

static enum rc read_tools(struct asking *a, const struct json *body)
{
	const struct json *tools = json_get(body, "tools"), *legacy = json_get(body, "functions");
	struct chat *chat = a->chat;
	struct json_iter it;
	struct json *v;
	void *p;

	if (json_len(tools) + json_len(legacy) > CHAT_TOOLS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(a->mem, (json_len(tools) + json_len(legacy) + 1) * sizeof *chat->tools,
			    &p));
	chat->tools = p;
	it = json_iter(tools);
	for (size_t i = 0; json_next(&it, NULL, &v); i++)
		TRY(read_tool(a, v, i, &chat->tools[chat->tools_count++]));
	it = json_iter(legacy);
	for (size_t i = 0; json_next(&it, NULL, &v); i++) {
		chat->tools[chat->tools_count].strict = -1;
		TRY(read_function(a, v, arena_printf(a->mem, "functions[%zu]", i),
				  &chat->tools[chat->tools_count++]));
	}
	return RC_OK;
}

static void choose(struct asking *a, enum chat_choice choice, struct str name)
{
	a->chat->choice = choice;
	if (name.ptr) {
		a->chat->choice_names = ARENA_NEW(a->mem, struct str);
		a->chat->choice_names[0] = name;
		a->chat->choice_names_count = 1;
	}
}

static enum rc read_allowed(struct asking *a, const struct json *v)
{
	const struct json *tools = json_get(v, "tools");
	struct json_iter it = json_iter(tools);
	struct chat *chat = a->chat;
	struct json *tool;
	void *p;

	if (json_len(tools) == 0 || json_len(tools) > CHAT_TOOLS_MAX)
		return wrong(a, STR("tool_choice.allowed_tools.tools"), "must name tools");
	TRY(arena_try_alloc(a->mem, json_len(tools) * sizeof(struct str), &p));
	chat->choice_names = p;
	chat->choice = str_is(text_at(v, "mode"), "required") ? CHAT_CHOICE_ALLOWED_REQUIRED
							      : CHAT_CHOICE_ALLOWED_AUTO;
	while (json_next(&it, NULL, &tool)) {
		struct str name = text_at(json_get(tool, "function"), "name");

		if (!name.ptr)
			name = text_at(tool, "name");
		if (!name.ptr)
			need(a, STR("tool_choice.allowed_tools.tools"));
		else
			chat->choice_names[chat->choice_names_count++] = name;
	}
	return RC_OK;
}

static enum rc read_choice(struct asking *a, const struct json *body)
{
	const struct json *v = json_get(body, "tool_choice");
	const struct json *legacy = json_get(body, "function_call");
	struct str word, name;

	if (json_is_null(v) && !json_is_null(legacy)) {
		v = legacy;
		name = text_at(legacy, "name");
	} else {
		name = text_at(json_get(v, "function"), "name");
	}
	if (json_is_null(v))
		return RC_OK;
	if (json_string(v, &word)) {
		if (str_is(word, "none"))
			choose(a, CHAT_CHOICE_NONE, STR_NULL);
		else if (str_is(word, "required") || str_is(word, "any"))
			choose(a, CHAT_CHOICE_REQUIRED, STR_NULL);
		else if (str_is(word, "auto"))
			choose(a, CHAT_CHOICE_AUTO, STR_NULL);
		else
			return wrong(a, STR("tool_choice"), "is none that is known");
		return RC_OK;
	}
	if (json_type(v) != JSON_OBJECT)
		return wrong(a, STR("tool_choice"), "must be a string or an object");
	if (str_is(text_at(v, "type"), "allowed_tools"))
		return read_allowed(a, json_get(v, "allowed_tools"));
	if (name.ptr)
		choose(a, CHAT_CHOICE_NAMED, name);
	else
		need(a, STR("tool_choice"));
	return RC_OK;
}

/* ---- parameters ------------------------------------------------------------------------------------------- */

static enum rc read_format(struct asking *a, const struct json *body)
{
	const struct json *format = json_get(body, "response_format");
	const struct json *schema = json_get(format, "json_schema");
	const struct str type = text_at(format, "type");
	struct chat *chat = a->chat;
	bool strict;

	if (!type.ptr || str_is(type, "text"))
		return RC_OK;
	chat->format = CHAT_FORMAT_JSON;
	if (str_is(type, "json_object")) {
		schema = json_get(format, "schema"); /* llama.cpp's way to say one */
		if (json_type(schema) != JSON_OBJECT)
			return RC_OK;
		chat->format = CHAT_FORMAT_SCHEMA;
		chat->schema = schema;
		return RC_OK;
	}
	if (!str_is(type, "json_schema")) {
		need(a, STR("response_format"));
		return RC_OK;
	}
	chat->format = CHAT_FORMAT_SCHEMA;
	chat->schema_name = text_at(schema, "name");
	chat->schema_description = text_at(schema, "description");
	if (json_type(json_get(schema, "schema")) != JSON_OBJECT)
		return wrong(a, STR("response_format.json_schema.schema"), "must be an object");
	chat->schema = json_get(schema, "schema");
	if (json_bool(json_get(schema, "strict"), &strict))
		chat->schema_strict = strict;
	return RC_OK;
}

static enum rc read_number(const struct asking *a, const struct json *body, const char *field,
			   const struct json **ret)
{
	const struct json *v = json_get(body, field);

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_INT && json_type(v) != JSON_REAL)
		return wrong(a, str_from(field), "must be a number");
	*ret = v;
	return RC_OK;
}

static enum rc read_string(const struct asking *a, const struct json *body, const char *field,
			   struct str *ret)
{
	const struct json *v = json_get(body, field);

	if (json_is_null(v) || json_string(v, ret))
		return RC_OK;
	return wrong(a, str_from(field), "must be a string");
}

static enum rc read_numbers(const struct asking *a, const struct json *body)
{
	struct chat *chat = a->chat;

	TRY(read_number(a, body, "temperature", &chat->temperature));
	TRY(read_number(a, body, "top_p", &chat->top_p));
	TRY(read_number(a, body, "top_k", &chat->top_k));
	TRY(read_number(a, body, "seed", &chat->seed));
	if (!chat->seed)
		TRY(read_number(a, body, "random_seed", &chat->seed));
	TRY(read_number(a, body, "presence_penalty", &chat->presence_penalty));
	return read_number(a, body, "frequency_penalty", &chat->frequency_penalty);
}

static enum rc read_maps(const struct asking *a, const struct json *body)
{
	const struct json *bias = json_get(body, "logit_bias"), *logprobs;
	struct chat *chat = a->chat;
	bool on = false;

	if (json_len(bias) > 0)
		chat->logit_bias = bias;
	else if (!json_is_null(bias) && json_type(bias) != JSON_OBJECT)
		return wrong(a, STR("logit_bias"), "must be an object");
	logprobs = json_get(body, "logprobs");
	if (json_bool(logprobs, &on) && on)
		chat->logprobs = logprobs;
	else if (!json_is_null(logprobs) && json_type(logprobs) != JSON_BOOL)
		return wrong(a, STR("logprobs"), "must be true or false");
	TRY(read_number(a, body, "top_logprobs", &chat->top_logprobs));
	if (json_len(json_get(body, "metadata")) > 0)
		chat->metadata = json_get(body, "metadata");
	return RC_OK;
}

static enum rc read_stop(struct asking *a, const struct json *body)
{
	const struct json *v = json_get(body, "stop");
	struct json_iter it = json_iter(v);
	struct json *one;
	void *p;

	if (json_is_null(v))
		return RC_OK;
	TRY(arena_try_alloc(a->mem, (json_len(v) + 1) * sizeof(struct str), &p));
	a->chat->stop = p;
	if (json_string(v, &a->chat->stop[0])) {
		a->chat->stop_count = 1;
		return RC_OK;
	}
	if (json_type(v) != JSON_ARRAY)
		return wrong(a, STR("stop"), "must be a string or an array of strings");
	while (json_next(&it, NULL, &one))
		if (!json_string(one, &a->chat->stop[a->chat->stop_count++]))
			return wrong(a, STR("stop"), "must be a string or an array of strings");
	return RC_OK;
}

static enum rc read_effort(const struct asking *a, const struct json *of, const char *key,
			   const char *field)
{
	const struct json *v = json_get(of, key);
	struct str word;

	if (json_is_null(v))
		return RC_OK;
	if (!json_string(v, &word) || chat_effort_parse(word, &a->chat->effort) != RC_OK)
		return wrong(a, str_from(field), "is no effort that is known");
	return RC_OK;
}

/* OpenAI's word, OpenRouter's object, and the switch of DeepSeek and Kimi. */
static enum rc read_thought(const struct asking *a, const struct json *body)
{
	const struct json *reasoning = json_get(body, "reasoning");
	const struct json *thinking = json_get(body, "thinking");
	struct chat *chat = a->chat;
	bool b;

	TRY(read_effort(a, body, "reasoning_effort", "reasoning_effort"));
	TRY(read_effort(a, reasoning, "effort", "reasoning.effort"));
	if (!json_int(json_get(reasoning, "max_tokens"), &chat->reasoning_tokens))
		(void)json_int(json_get(thinking, "budget_tokens"), &chat->reasoning_tokens);
	if (chat->reasoning_tokens < -1)
		return wrong(a, STR("reasoning.max_tokens"), "must not be negative");
	if (json_bool(json_get(reasoning, "exclude"), &b))
		chat->reasoning_shown = !b;
	else if (json_bool(json_get(body, "include_reasoning"), &b))
		chat->reasoning_shown = b;
	if (str_is(text_at(thinking, "type"), "disabled") ||
	    (json_bool(json_get(reasoning, "enabled"), &b) && !b))
		chat->effort = CHAT_EFFORT_none;
	else if (chat->effort == CHAT_EFFORT_UNSAID && chat->reasoning_tokens < 0 &&
		 str_is(text_at(thinking, "type"), "enabled"))
		chat->effort = CHAT_EFFORT_medium; /* what a model does that is told no more */
	return RC_OK;
}

static enum rc read_words(const struct asking *a, const struct json *body)
{
	struct chat *chat = a->chat;

	TRY(read_string(a, body, "verbosity", &chat->verbosity));
	TRY(read_string(a, body, "service_tier", &chat->service_tier));
	TRY(read_string(a, body, "user", &chat->end_user));
	TRY(read_string(a, body, "safety_identifier", &chat->end_user));
	return read_string(a, body, "prompt_cache_key", &chat->cache_key);
}

static enum rc read_parallel(const struct asking *a, const struct json *body)
{
	const struct json *v = json_get(body, "parallel_tool_calls");
	bool on;

	if (json_is_null(v))
		return RC_OK;
	if (!json_bool(v, &on))
		return wrong(a, STR("parallel_tool_calls"), "must be true or false");
	a->chat->parallel_tools = on;
	return RC_OK;
}

static const char *const known[] = {
	"model",
	"messages",
	"stream",
	"stream_options",
	"max_completion_tokens",
	"max_tokens",
	"n",
	"tools",
	"functions",
	"tool_choice",
	"function_call",
	"parallel_tool_calls",
	"response_format",
	"temperature",
	"top_p",
	"top_k",
	"seed",
	"random_seed",
	"presence_penalty",
	"frequency_penalty",
	"logit_bias",
	"logprobs",
	"top_logprobs",
	"metadata",
	"stop",
	"reasoning_effort",
	"reasoning",
	"thinking",
	"include_reasoning",
	"verbosity",
	"service_tier",
	"user",
	"safety_identifier",
	"prompt_cache_key",
};

static bool is_known(struct str field)
{
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_is(field, known[i]))
			return true;
	return false;
}

/* What nobody else has: to be left out by name, or not without. */
static void read_others(struct asking *a, const struct call *c)
{
	struct json_iter it = json_iter(c->body);
	struct str field;
	struct json *v;
	bool on;

	while (json_next(&it, &field, &v)) {
		if (json_is_null(v) || is_known(field))
			continue;
		if (str_is(field, "audio") || str_is(field, "modalities")) {
			if (c->needs & CAP_AUDIO_OUT)
				need(a, STR("modalities"));
		} else if (str_is(field, "web_search_options")) {
			need(a, field);
		} else if (!str_is(field, "store") || !json_bool(v, &on) || on) {
			hint(a, field);
		}
	}
}

enum rc openai_chat_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			       struct err *err)
{
	struct chat chat = {.parallel_tools = -1,
			    .schema_strict = -1,
			    .reasoning_tokens = -1,
			    .reasoning_shown = -1};
	struct asking a = {.mem = mem, .chat = &chat, .err = err, .legacy = STR("function")};

	TRY(read_messages(&a, c->body));
	TRY(read_tools(&a, c->body));
	TRY(read_choice(&a, c->body));
	TRY(read_parallel(&a, c->body));
	TRY(read_format(&a, c->body));
	TRY(read_numbers(&a, c->body));
	TRY(read_maps(&a, c->body));
	TRY(read_stop(&a, c->body));
	TRY(read_thought(&a, c->body));
	TRY(read_words(&a, c->body));
	read_others(&a, c);
	TRY(chat_name_results(&chat, err));
	*ret = (struct ask){.operation = c->operation, .chat = chat};
	return RC_OK;
}
