/* routing/dialects/openai_responses_question.c - a Responses request as struct chat, and struct chat as one.
 *
 * Items have no turns: those of the assistant that stand together (reasoning, message, calls) are one answer, and so one
 * turn. What only OpenAI runs or keeps (hosted tools, references, files) goes to chat->needs, so that no other dialect is
 * asked without it. Reasoning goes out only with the seal of the very target; without it OpenAI refuses the item. */
#include <stdio.h>

#include "routing/dialects/openai_responses_priv.h"
#include "routing/provider.h"

#define CALL_ID_MAX   64 /* call_id's maxLength */
#define CALL_ID_CHARS 24
#define FIELD_TEXT    64
#define LIST_AT_ONCE  8 /* of hints, needs */

/* --- a request as struct chat --------------------------------------------------------------------- */

enum open_turn { /* what the next item may still belong to */
		 OPEN_NONE,
		 OPEN_RESULTS,
		 OPEN_ANSWER,	      /* the assistant's */
		 OPEN_ANSWER_MESSAGE, /* ... and its last item is a message */
};

struct reading {
	struct arena *mem;
	struct chat *chat;
	struct err *err;
	size_t item; /* in work */
	size_t parts_all;
	size_t hints_size, needs_size;
	enum open_turn open;
	struct chat_opaque call_seal; /* for the call that comes next */
};

static enum rc bad(struct reading *r, const char *field, const char *what)
{
	(void)err_set(r->err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(r->err, "%s", field);
	return RC_INVALID;
}

static enum rc bad_item(struct reading *r, const char *member, const char *what)
{
	char field[FIELD_TEXT];

	(void)snprintf(field, sizeof field, "input[%zu].%s", r->item, member);
	return bad(r, field, what);
}

static void list_add(struct arena *mem, struct str **list, size_t *count, size_t *size,
		     struct str name)
{
	for (size_t i = 0; i < *count; i++)
		if (str_eq((*list)[i], name))
			return;
	if (*count == *size) {
		struct str *more = ARENA_ARRAY(mem, struct str, *size * 2 + LIST_AT_ONCE);

		if (*count)
			memcpy(more, *list, *count * sizeof *more);
		*list = more;
		*size = *size * 2 + LIST_AT_ONCE;
	}
	(*list)[(*count)++] = name;
}

static void hint(struct reading *r, struct str name)
{
	if (r->chat->hints_count < CHAT_LOSSES_MAX) /* more could not be told */
		list_add(r->mem, &r->chat->hints, &r->chat->hints_count, &r->hints_size, name);
}

/* Only the first is ever told. */
static void need(struct reading *r, struct str name)
{
	if (r->chat->needs_count == 0)
		list_add(r->mem, &r->chat->needs, &r->chat->needs_count, &r->needs_size, name);
}

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s;
}

/* --- turns and parts --- */

/* Grows by doubling: a list of 2^n parts is full. */
static enum rc part_add(struct reading *r, struct chat_part **parts, size_t *count,
			enum chat_part_type type, struct chat_part **ret)
{
	const size_t n = *count;
	void *p = *parts;

	if (r->parts_all == CHAT_PARTS_MAX)
		return RC_TOO_LARGE;
	if (n == 0)
		TRY(arena_try_alloc(r->mem, sizeof **parts, &p));
	else if ((n & (n - 1)) == 0)
		TRY(arena_try_resize(r->mem, *parts, n * sizeof **parts, 2 * n * sizeof **parts,
				     &p));
	r->parts_all++;
	*parts = p;
	(*parts)[n] = (struct chat_part){.type = type};
	*count = n + 1;
	*ret = &(*parts)[n];
	return RC_OK;
}

static struct chat_turn *turn_last(struct reading *r)
{
	return &r->chat->turns[r->chat->turns_count - 1];
}

/* There is one turn's room for each item, and one for the instructions. */
static struct chat_turn *turn_new(struct reading *r, enum chat_role role, enum open_turn open)
{
	r->open = open;
	r->chat->turns[r->chat->turns_count++] = (struct chat_turn){.role = role};
	return turn_last(r);
}

/* The assistant's turn that an item belongs to: two messages behind each other are two answers. */
static struct chat_turn *turn_of_answer(struct reading *r, bool message)
{
	const enum open_turn now = message ? OPEN_ANSWER_MESSAGE : OPEN_ANSWER;

	if (r->open < OPEN_ANSWER || (message && r->open == OPEN_ANSWER_MESSAGE))
		return turn_new(r, CHAT_ASSISTANT, now);
	r->open = now;
	return turn_last(r);
}

/* --- content --- */

static enum rc image_part(struct reading *r, const struct json *v, struct chat_part *part)
{
	struct chat_media *m = &part->media;
	struct str url = text_of(v, "image_url");

	m->detail = text_of(v, "detail");
	m->file_id = text_of(v, "file_id");
	if (url.ptr && !chat_data_url(url, m))
		m->url = url;
	if (!url.ptr && !m->file_id.ptr)
		return bad_item(r, "content", "has an image without image_url or file_id");
	return RC_OK;
}

static enum rc file_part(struct reading *r, const struct json *v, struct chat_part *part)
{
	struct chat_media *m = &part->media;
	struct str data = text_of(v, "file_data");

	m->name = text_of(v, "filename");
	m->url = text_of(v, "file_url");
	m->file_id = text_of(v, "file_id");
	if (data.ptr && !chat_data_url(data, m)) {
		m->data = data;
		m->mime = str_ends(m->name, STR(".pdf")) ? STR("application/pdf") : STR("");
	}
	if (!m->data.ptr && !m->url.ptr && !m->file_id.ptr)
		return bad_item(r, "content", "has a file without file_data, file_url or file_id");
	return RC_OK;
}

static void audio_part(const struct json *v, struct chat_part *part)
{
	const struct json *audio = json_get(v, "input_audio");

	part->media.data = text_of(audio, "data");
	part->media.mime =
		str_is(text_of(audio, "format"), "mp3") ? STR("audio/mpeg") : STR("audio/wav");
}

static const struct {
	const char *type;
	enum chat_part_type part;
} part_types[] = {
	{"input_text", CHAT_TEXT},     {"output_text", CHAT_TEXT},  {"text", CHAT_TEXT},
	{"summary_text", CHAT_TEXT},   {"refusal", CHAT_REFUSAL},   {"input_image", CHAT_IMAGE},
	{"input_file", CHAT_DOCUMENT}, {"input_audio", CHAT_AUDIO},
};

/* -1: a part of another kind. */
static int part_type(struct str type)
{
	for (size_t i = 0; i < ARRAY_LEN(part_types); i++)
		if (str_is(type, part_types[i].type))
			return (int)part_types[i].part;
	return -1;
}

static enum rc content_part(struct reading *r, const struct json *v, size_t at,
			    struct chat_part **parts, size_t *count)
{
	const struct str type = text_of(v, "type");
	const int kind = part_type(type);
	struct chat_part *part;

	if (kind < 0 && r->chat->needs_count == 0)
		need(r, arena_printf(r->mem, "input[%zu].content[%zu]", r->item, at));
	if (kind < 0)
		return RC_OK;
	TRY(part_add(r, parts, count, (enum chat_part_type)kind, &part));
	part->text = text_of(v, kind == CHAT_REFUSAL ? "refusal" : "text");
	if (!json_is_null(json_get(v, "prompt_cache_breakpoint")))
		part->cache = CHAT_CACHE_5M;
	if (kind == CHAT_IMAGE)
		TRY(image_part(r, v, part));
	if (kind == CHAT_DOCUMENT)
		TRY(file_part(r, v, part));
	if (kind == CHAT_AUDIO)
		audio_part(v, part);
	if (part->media.file_id.ptr)
		need(r, arena_printf(r->mem, "input[%zu].content[%zu].file_id", r->item, at));
	return RC_OK;
}

static enum rc content(struct reading *r, const struct json *v, struct chat_part **parts,
		       size_t *count)
{
	struct json_iter it = json_iter(v);
	struct chat_part *part;
	struct json *one;

	if (json_type(v) == JSON_STRING) {
		TRY(part_add(r, parts, count, CHAT_TEXT, &part));
		(void)json_string(v, &part->text);
		return RC_OK;
	}
	for (size_t i = 0; json_next(&it, NULL, &one); i++)
		TRY(content_part(r, one, i, parts, count));
	return RC_OK;
}

/* --- items --- */

static enum rc message_item(struct reading *r, const struct json *item)
{
	static const struct {
		const char *name;
		enum chat_role role;
	} roles[] = {
		{"user", CHAT_USER},
		{"assistant", CHAT_ASSISTANT},
		{"system", CHAT_SYSTEM},
		{"developer", CHAT_DEVELOPER},
	};
	const struct str role = text_of(item, "role");
	struct chat_turn *turn = NULL;

	for (size_t i = 0; i < ARRAY_LEN(roles) && !turn; i++)
		if (str_is(role, roles[i].name))
			turn = roles[i].role == CHAT_ASSISTANT
				       ? turn_of_answer(r, true)
				       : turn_new(r, roles[i].role, OPEN_NONE);
	if (!turn)
		return bad_item(r, "role", "is none of user, assistant, system, developer");
	if (!json_is_null(json_get(item, "phase")))
		hint(r, STR("input.phase"));
	if (json_is_null(json_get(item, "content")))
		return RC_OK;
	return content(r, json_get(item, "content"), &turn->parts, &turn->parts_count);
}

/* What a model called was an object, or nothing: else no dialect can say it again. */
static enum rc arguments_check(struct reading *r, struct str *arguments)
{
	struct json *v;

	*arguments = str_trim(*arguments);
	if (arguments->len == 0)
		*arguments = STR("{}");
	if (str_is(*arguments, "{}"))
		return RC_OK;
	if (json_parse(*arguments, JSON_ALLOW_DUPLICATES, r->mem, &v, NULL) != RC_OK ||
	    json_type(v) != JSON_OBJECT)
		return bad_item(r, "arguments", "must be a JSON object in a string");
	return RC_OK;
}

/* `custom`: of a tool whose input is free text. */
static enum rc call_item(struct reading *r, const struct json *item, bool custom)
{
	struct chat_turn *turn = turn_of_answer(r, false);
	struct chat_part *part;

	TRY(part_add(r, &turn->parts, &turn->parts_count, CHAT_TOOL_CALL, &part));
	part->id = text_of(item, "call_id");
	part->name = text_of(item, "name");
	part->arguments = text_of(item, "arguments");
	part->opaque = r->call_seal;
	r->call_seal = (struct chat_opaque){0};
	if (part->id.len == 0)
		return bad_item(r, "call_id", "is required");
	if (part->name.len == 0)
		return bad_item(r, "name", "is required");
	if (custom)
		return responses_custom_arguments(r->mem, text_of(item, "input"), &part->arguments);
	return arguments_check(r, &part->arguments);
}

static enum rc result_item(struct reading *r, const struct json *item)
{
	struct chat_turn *turn =
		r->open == OPEN_RESULTS ? turn_last(r) : turn_new(r, CHAT_USER, OPEN_RESULTS);
	struct chat_part *part;
	struct chat_part *parts = NULL;
	size_t count = 0;

	TRY(content(r, json_get(item, "output"), &parts, &count));
	TRY(part_add(r, &turn->parts, &turn->parts_count, CHAT_TOOL_RESULT, &part));
	part->id = text_of(item, "call_id");
	part->parts = parts;
	part->parts_count = count;
	if (part->id.len == 0)
		return bad_item(r, "call_id", "is required");
	return RC_OK;
}

/* The texts of `parts`, a blank line between them. */
static enum rc texts_join(struct reading *r, const struct json *parts, struct chat_text *ret)
{
	struct json_iter it = json_iter(parts);
	struct json *one;

	while (json_next(&it, NULL, &one)) {
		const struct str text = text_of(one, "text");

		if (text.len == 0)
			continue;
		if (ret->len > 0)
			TRY(chat_text_add(r->mem, ret, STR("\n\n")));
		TRY(chat_text_add(r->mem, ret, text));
	}
	return RC_OK;
}

/* A seal that we wrapped goes back to what it sealed; true: `o` is not the item's own. */
static bool seal_put_back(struct reading *r, struct chat_opaque *o)
{
	const char kind = o->value.len > 1 && o->value.ptr[1] == '|' ? o->value.ptr[0] : '\0';
	struct chat_turn *turn = r->chat->turns_count ? turn_last(r) : NULL;

	if (kind != RESPONSES_SEAL_REASONING && kind != RESPONSES_SEAL_CALL &&
	    kind != RESPONSES_SEAL_TEXT)
		return false;
	o->value = str_slice(o->value, 2, o->value.len);
	if (kind == RESPONSES_SEAL_REASONING)
		return false;
	if (kind == RESPONSES_SEAL_CALL) {
		r->call_seal = *o;
		return true;
	}
	if (turn && r->open >= OPEN_ANSWER && turn->parts_count > 0 &&
	    turn->parts[turn->parts_count - 1].type == CHAT_TEXT)
		turn->parts[turn->parts_count - 1].opaque = *o;
	return true;
}

static enum rc reasoning_item(struct reading *r, const struct json *item)
{
	const struct str seal = text_of(item, "encrypted_content");
	struct chat_opaque o = {0};
	struct chat_text text = {0};
	struct chat_part *part;
	struct chat_turn *turn;

	if (seal.ptr && chat_opaque_unwrap(r->mem, seal, &o)) {
		if (seal_put_back(r, &o))
			return RC_OK;
	} else if (seal.len > 0) {
		const struct str id = text_of(item, "id");

		TRY(chat_text_add(r->mem, &text, id));
		TRY(chat_text_add(r->mem, &text, STR("|")));
		TRY(chat_text_add(r->mem, &text, seal));
		o = (struct chat_opaque){.value = chat_text_str(&text),
					 .dialect = STR(RESPONSES_SEAL_DIALECT)};
		text = (struct chat_text){0};
	}
	TRY(texts_join(r, json_get(item, "summary"), &text));
	if (text.len == 0)
		TRY(texts_join(r, json_get(item, "content"), &text));
	if (text.len == 0 && !o.value.ptr)
		return RC_OK; /* the name of something that is elsewhere, or nothing */
	turn = turn_of_answer(r, false);
	TRY(part_add(r, &turn->parts, &turn->parts_count, CHAT_REASONING, &part));
	part->text = chat_text_str(&text);
	part->opaque = o;
	return RC_OK;
}

static enum rc read_item(struct reading *r, const struct json *item)
{
	const struct str type = text_of(item, "type");

	if (type.len == 0 || str_is(type, "message"))
		return message_item(r, item);
	if (str_is(type, "function_call"))
		return call_item(r, item, false);
	if (str_is(type, "custom_tool_call"))
		return call_item(r, item, true);
	if (str_is(type, "function_call_output") || str_is(type, "custom_tool_call_output"))
		return result_item(r, item);
	if (str_is(type, "reasoning"))
		return reasoning_item(r, item);
	need(r, arena_printf(r->mem, "input[%zu].%.*s", r->item, STR_FMT(str_slice(type, 0, 32))));
	return RC_OK;
}

static enum rc read_turns(struct reading *r, const struct json *root)
{
	const struct json *input = json_get(root, "input");
	const struct str instructions = text_of(root, "instructions");
	const size_t most = json_type(input) == JSON_ARRAY ? json_len(input) : 1;
	struct json_iter it = json_iter(input);
	struct chat_part *part;
	struct chat_turn *turn;
	struct json *item;
	void *turns;

	if (most > CHAT_TURNS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(r->mem, (most + 1) * sizeof *r->chat->turns, &turns));
	r->chat->turns = turns;
	if (instructions.len > 0) {
		turn = turn_new(r, CHAT_SYSTEM, OPEN_NONE);
		TRY(part_add(r, &turn->parts, &turn->parts_count, CHAT_TEXT, &part));
		part->text = instructions;
	}
	if (input && json_type(input) == JSON_STRING) {
		turn = turn_new(r, CHAT_USER, OPEN_NONE);
		return content(r, input, &turn->parts, &turn->parts_count);
	}
	for (r->item = 0; json_next(&it, NULL, &item); r->item++)
		TRY(read_item(r, item));
	if (chat_name_results(r->chat, r->err) != RC_OK) {
		err_field(r->err, "input");
		return RC_INVALID;
	}
	return RC_OK;
}

/* --- tools --- */

static int tristate(const struct json *v)
{
	bool b;

	return json_bool(v, &b) ? b : -1;
}

static enum rc custom_tool(struct reading *r, const struct json *v, size_t i,
			   struct chat_tool *tool)
{
	bool grammar;
	enum rc rc = responses_custom_schema(r->mem, v, &tool->parameters, &grammar);

	if (rc == RC_INVALID)
		return bad(r, "tools", "has a grammar without syntax or definition");
	if (rc == RC_OK && grammar)
		hint(r, arena_printf(r->mem, "tools[%zu].format", i));
	return rc;
}

static enum rc read_tools(struct reading *r, const struct json *tools)
{
	const size_t most = json_len(tools);
	struct json_iter it = json_iter(tools);
	struct json *v;
	void *p;

	if (most == 0)
		return RC_OK;
	if (most > CHAT_TOOLS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(r->mem, most * sizeof *r->chat->tools, &p));
	r->chat->tools = p;
	for (size_t i = 0; json_next(&it, NULL, &v); i++) {
		struct chat_tool tool = {.kind = CHAT_TOOL_FUNCTION,
					 .name = text_of(v, "name"),
					 .description = text_of(v, "description"),
					 .strict = tristate(json_get(v, "strict"))};
		const struct str type = text_of(v, "type");
		const bool custom = str_is(type, "custom");

		if (!custom && !str_is(type, "function")) { /* run by OpenAI */
			need(r, arena_printf(r->mem, "tools[%zu].%.*s", i,
					     STR_FMT(str_slice(type, 0, 32))));
			continue;
		}
		if (tool.name.len == 0)
			return bad(r, "tools", "has a function without a name");
		if (custom)
			TRY(custom_tool(r, v, i, &tool));
		else if (!json_is_null(json_get(v, "parameters")))
			tool.parameters = json_get(v, "parameters");
		if (tool.parameters && json_type(tool.parameters) != JSON_OBJECT)
			return bad(r, "tools", "has parameters that are no object");
		r->chat->tools[r->chat->tools_count++] = tool;
	}
	return RC_OK;
}

/* What the caller runs itself. */
static bool is_callable(struct str type)
{
	return str_is(type, "function") || str_is(type, "custom");
}

static enum rc choice_names(struct reading *r, const struct json *tools)
{
	struct json_iter it = json_iter(tools);
	struct json *v;
	void *p;

	if (json_len(tools) > CHAT_TOOLS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(r->mem, (json_len(tools) + 1) * sizeof(struct str), &p));
	r->chat->choice_names = p;
	while (json_next(&it, NULL, &v)) {
		const struct str name = text_of(v, "name");

		if (!is_callable(text_of(v, "type")) || name.len == 0)
			need(r, STR("tool_choice.tools"));
		else
			r->chat->choice_names[r->chat->choice_names_count++] = name;
	}
	return RC_OK;
}

static enum rc read_choice(struct reading *r, const struct json *v)
{
	struct chat *chat = r->chat;
	struct str word, type;

	if (json_is_null(v))
		return RC_OK;
	if (json_string(v, &word)) {
		chat->choice = str_is(word, "auto")	  ? CHAT_CHOICE_AUTO
			       : str_is(word, "none")	  ? CHAT_CHOICE_NONE
			       : str_is(word, "required") ? CHAT_CHOICE_REQUIRED
							  : CHAT_CHOICE_UNSAID;
		return chat->choice ? RC_OK
				    : bad(r, "tool_choice", "is none of auto, none, required");
	}
	type = text_of(v, "type");
	if (is_callable(type)) {
		chat->choice = CHAT_CHOICE_NAMED;
		chat->choice_names = ARENA_NEW(r->mem, struct str);
		chat->choice_names[0] = text_of(v, "name");
		chat->choice_names_count = 1;
		return chat->choice_names[0].len ? RC_OK
						 : bad(r, "tool_choice", "names no function");
	}
	if (str_is(type, "allowed_tools")) {
		chat->choice = str_is(text_of(v, "mode"), "required") ? CHAT_CHOICE_ALLOWED_REQUIRED
								      : CHAT_CHOICE_ALLOWED_AUTO;
		return choice_names(r, json_get(v, "tools"));
	}
	if (type.len == 0)
		return bad(r, "tool_choice", "must be a word, or an object with a type");
	need(r, STR("tool_choice"));
	return RC_OK;
}

/* --- parameters --- */

static enum rc read_text(struct reading *r, const struct json *text)
{
	const struct json *format = json_get(text, "format");
	const struct str type = text_of(format, "type");
	struct chat *chat = r->chat;

	chat->verbosity = text_of(text, "verbosity");
	if (str_is(type, "json_object")) {
		chat->format = CHAT_FORMAT_JSON;
	} else if (str_is(type, "json_schema")) {
		chat->format = CHAT_FORMAT_SCHEMA;
		chat->schema_name = text_of(format, "name");
		chat->schema_description = text_of(format, "description");
		chat->schema_strict = tristate(json_get(format, "strict"));
		chat->schema = json_get(format, "schema");
		if (!chat->schema || json_type(chat->schema) != JSON_OBJECT)
			return bad(r, "text.format.schema", "must be an object");
	} else if (type.len > 0 && !str_is(type, "text")) {
		need(r, STR("text.format"));
	}
	return RC_OK;
}

static enum rc read_reasoning(struct reading *r, const struct json *v)
{
	static const char *const others[] = {"reasoning.mode", "reasoning.context"};
	const struct str effort = text_of(v, "effort");

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_OBJECT)
		return bad(r, "reasoning", "must be an object");
	if (effort.ptr && chat_effort_parse(effort, &r->chat->effort) != RC_OK)
		return bad(r, "reasoning.effort", "is no effort that is known here");
	if (text_of(v, "summary").ptr || text_of(v, "generate_summary").ptr)
		r->chat->reasoning_shown = 1;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (!json_is_null(json_get(v, others[i] + sizeof "reasoning." - 1)))
			hint(r, str_from(others[i]));
	return RC_OK;
}

static void read_include(struct reading *r, const struct json *include)
{
	struct json_iter it = json_iter(include);
	struct str what;
	struct json *v;

	while (json_next(&it, NULL, &v)) {
		if (!json_string(v, &what))
			continue;
		if (str_is(what, "reasoning.encrypted_content"))
			r->chat->state_wanted = true;
		else if (str_is(what, "message.output_text.logprobs"))
			need(r, STR("include"));
		else
			hint(r, STR("include"));
	}
}

static enum rc number(struct reading *r, const struct json *root, const char *field,
		      const struct json **ret)
{
	const struct json *v = json_get(root, field);

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_INT && json_type(v) != JSON_REAL)
		return bad(r, field, "must be a number");
	*ret = v;
	return RC_OK;
}

/* All that is read somewhere, here or in decode_request(). The rest are hints. */
static const char *const known[] = {
	"model",
	"input",
	"instructions",
	"tools",
	"tool_choice",
	"parallel_tool_calls",
	"text",
	"reasoning",
	"include",
	"temperature",
	"top_p",
	"top_logprobs",
	"max_output_tokens",
	"stream",
	"background",
	"previous_response_id",
	"conversation",
	"prompt",
	"service_tier",
	"user",
	"safety_identifier",
	"prompt_cache_key",
	"metadata",
};

static void read_hints(struct reading *r, const struct json *root)
{
	struct json_iter it = json_iter(root);
	struct str key = STR_NULL;
	bool kept = true;
	struct json *v;
	size_t i;

	while (json_next(&it, &key, &v)) {
		for (i = 0; i < ARRAY_LEN(known) && !str_is(key, known[i]); i++)
			;
		if (i < ARRAY_LEN(known) || json_is_null(v))
			continue;
		if (str_is(key, "store") && json_bool(v, &kept) && !kept)
			continue; /* so it is, wherever it goes */
		hint(r, key);
	}
}

static void read_needs(struct reading *r, const struct json *root)
{
	static const char *const fields[] = {"previous_response_id", "conversation", "prompt"};
	int64_t logprobs = 0;

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (!json_is_null(json_get(root, fields[i])))
			need(r, str_from(fields[i]));
	if (json_int(json_get(root, "top_logprobs"), &logprobs) && logprobs > 0)
		need(r, STR("top_logprobs"));
}

static enum rc read_parameters(struct reading *r, const struct json *root)
{
	struct chat *chat = r->chat;

	TRY(number(r, root, "temperature", &chat->temperature));
	TRY(number(r, root, "top_p", &chat->top_p));
	TRY(read_text(r, json_get(root, "text")));
	TRY(read_reasoning(r, json_get(root, "reasoning")));
	read_include(r, json_get(root, "include"));
	chat->parallel_tools = tristate(json_get(root, "parallel_tool_calls"));
	chat->service_tier = text_of(root, "service_tier");
	chat->cache_key = text_of(root, "prompt_cache_key");
	chat->end_user = text_of(root, "safety_identifier");
	if (!chat->end_user.ptr)
		chat->end_user = text_of(root, "user");
	if (json_len(json_get(root, "metadata")) > 0)
		chat->metadata = json_get(root, "metadata");
	return RC_OK;
}

enum rc responses_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			     struct err *err)
{
	struct reading r = {.mem = mem, .chat = &ret->chat, .err = err};

	*ret = (struct ask){.operation = c->operation};
	ret->chat.parallel_tools = ret->chat.schema_strict = -1;
	ret->chat.reasoning_tokens = ret->chat.reasoning_shown = -1;
	read_needs(&r, c->body);
	TRY(read_turns(&r, c->body));
	TRY(read_tools(&r, json_get(c->body, "tools")));
	TRY(read_choice(&r, json_get(c->body, "tool_choice")));
	TRY(read_parameters(&r, c->body));
	read_hints(&r, c->body);
	return RC_OK;
}

/* --- struct chat as a request ---------------------------------------------------------------------- */

struct writing {
	struct json_out o;
	struct arena *mem;
	const struct call *call;
	const struct chat *chat;
	const struct dialect_target *target;
	struct outgoing *out;
	struct err *err;
	bool sealed; /* some reasoning went out */
};

static enum rc cannot(struct writing *w, const char *field)
{
	return chat_cannot(w->err, w->target->provider->label, field);
}

static void lose(struct writing *w, const char *field)
{
	chat_lose(&w->out->losses, str_from(field));
}

static bool call_id_fits(struct str id)
{
	return id.len > 0 && id.len <= CALL_ID_MAX;
}

static struct str call_id(struct writing *w, struct str id)
{
	return chat_call_id(w->mem, id, "call_", CALL_ID_CHARS, call_id_fits);
}

static void put_text(struct json_out *o, const char *type, struct str text)
{
	json_obj(o, NULL);
	json_put_z(o, "type", type);
	json_put_str(o, str_is(str_from(type), "refusal") ? "refusal" : "text", text);
	json_obj_end(o);
}

static enum rc put_image(struct writing *w, const struct chat_media *m)
{
	struct json_out *o = &w->o;

	if (!m->data.ptr && !m->url.ptr)
		return cannot(w, "file_id");
	json_obj(o, NULL);
	json_put_z(o, "type", "input_image");
	json_put_str(o, "image_url", m->data.ptr ? chat_data_url_make(w->mem, m) : m->url);
	if (m->detail.len > 0)
		json_put_str(o, "detail", m->detail);
	json_obj_end(o);
	return RC_OK;
}

static enum rc put_document(struct writing *w, const struct chat_media *m, const char *text_type)
{
	struct json_out *o = &w->o;

	if (m->name.len > 0 && (m->text.ptr || !m->data.ptr))
		lose(w, "title");
	if (m->text.ptr) {
		put_text(o, text_type, m->text);
		return RC_OK;
	}
	if (!m->data.ptr && !m->url.ptr)
		return cannot(w, "file_id");
	json_obj(o, NULL);
	json_put_z(o, "type", "input_file");
	if (m->data.ptr) {
		/* file_data is only taken with a name */
		json_put_str(o, "filename", m->name.len > 0 ? m->name : STR("document.pdf"));
		json_put_str(o, "file_data", chat_data_url_make(w->mem, m));
	} else {
		json_put_str(o, "file_url", m->url);
	}
	json_obj_end(o);
	return RC_OK;
}

static enum rc put_content(struct writing *w, const struct chat_part *p, enum chat_role role)
{
	const char *text = role == CHAT_ASSISTANT ? "output_text" : "input_text";

	if (p->cache != CHAT_CACHE_NONE)
		lose(w, "cache_control");
	switch (p->type) {
	case CHAT_TEXT:
		put_text(&w->o, text, p->text);
		return RC_OK;
	case CHAT_REFUSAL:
		put_text(&w->o, role == CHAT_ASSISTANT ? "refusal" : text, p->text);
		return RC_OK;
	case CHAT_IMAGE:
		return put_image(w, &p->media);
	case CHAT_DOCUMENT:
		return put_document(w, &p->media, text);
	case CHAT_AUDIO:
		return cannot(w, "input_audio");
	default:
		return cannot(w, p->type == CHAT_VIDEO ? "video" : "content");
	}
}

static void put_call(struct writing *w, const struct chat_part *p)
{
	struct json_out *o = &w->o;

	json_obj(o, NULL);
	json_put_z(o, "type", "function_call");
	json_put_str(o, "call_id", call_id(w, p->id));
	json_put_str(o, "name", p->name);
	json_put_str(o, "arguments", p->arguments);
	json_obj_end(o);
}

static enum rc put_result(struct writing *w, const struct chat_part *p)
{
	struct json_out *o = &w->o;

	json_obj(o, NULL);
	if (p->is_error)
		lose(w, "is_error");
	json_put_z(o, "type", "function_call_output");
	json_put_str(o, "call_id", call_id(w, p->id));
	if (p->parts_count == 0) {
		json_put_z(o, "output", "");
	} else if (p->parts_count == 1 && p->parts[0].type == CHAT_TEXT) {
		json_put_str(o, "output", p->parts[0].text);
	} else {
		json_arr(o, "output");
		for (size_t i = 0; i < p->parts_count; i++)
			TRY(put_content(w, &p->parts[i], CHAT_USER));
		json_arr_end(o);
	}
	json_obj_end(o);
	return RC_OK;
}

static void put_reasoning(struct writing *w, const struct chat_part *p)
{
	struct json_out *o = &w->o;
	struct str seal = p->opaque.value;
	struct str id;

	if (!chat_opaque_fits(&p->opaque, w->target)) {
		lose(w, "reasoning"); /* translation.md 7: not without its seal */
		return;
	}
	id = str_cut(&seal, '|');
	json_obj(o, NULL);
	json_put_z(o, "type", "reasoning");
	if (id.len > 0)
		json_put_str(o, "id", id);
	json_arr(o, "summary");
	if (p->text.len > 0)
		put_text(o, "summary_text", p->text);
	json_arr_end(o);
	json_put_str(o, "encrypted_content", seal.ptr ? seal : STR(""));
	json_obj_end(o);
	w->sealed = true;
}

static void message_open(struct writing *w, enum chat_role role, bool *open)
{
	static const char *const roles[] = {
		[CHAT_SYSTEM] = "system",
		[CHAT_DEVELOPER] = "developer",
		[CHAT_USER] = "user",
		[CHAT_ASSISTANT] = "assistant",
	};

	if (*open)
		return;
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", "message");
	json_put_z(&w->o, "role", roles[role]);
	json_arr(&w->o, "content");
	*open = true;
}

static void message_close(struct writing *w, bool *open)
{
	if (!*open)
		return;
	json_arr_end(&w->o);
	json_obj_end(&w->o);
	*open = false;
}

static enum rc put_turn(struct writing *w, const struct chat_turn *t)
{
	bool open = false;

	for (size_t i = 0; i < t->parts_count; i++) {
		const struct chat_part *p = &t->parts[i];

		switch (p->type) {
		case CHAT_TOOL_CALL:
			message_close(w, &open);
			put_call(w, p);
			break;
		case CHAT_TOOL_RESULT:
			message_close(w, &open);
			TRY(put_result(w, p));
			break;
		case CHAT_REASONING:
			message_close(w, &open);
			put_reasoning(w, p);
			break;
		default:
			if (p->type == CHAT_TEXT && p->text.len == 0)
				break;
			message_open(w, t->role, &open);
			TRY(put_content(w, p, t->role));
		}
	}
	message_close(w, &open);
	return RC_OK;
}

/* A first system turn that is only text is the instructions; true: it was. */
static enum rc put_instructions(struct writing *w, bool *ret)
{
	const struct chat_turn *t = w->chat->turns;
	struct chat_text text = {0};

	*ret = false;
	if (w->chat->turns_count == 0 || t->role != CHAT_SYSTEM)
		return RC_OK;
	for (size_t i = 0; i < t->parts_count; i++)
		if (t->parts[i].type != CHAT_TEXT)
			return RC_OK;
	for (size_t i = 0; i < t->parts_count; i++) {
		if (t->parts[i].cache != CHAT_CACHE_NONE)
			lose(w, "cache_control");
		if (text.len > 0)
			TRY(chat_text_add(w->mem, &text, STR("\n\n")));
		TRY(chat_text_add(w->mem, &text, t->parts[i].text));
	}
	json_put_str(&w->o, "instructions", chat_text_str(&text));
	*ret = true;
	return RC_OK;
}

static enum rc put_input(struct writing *w)
{
	size_t before;
	bool first;

	TRY(put_instructions(w, &first));
	json_arr(&w->o, "input");
	before = w->o.buf->len;
	for (size_t i = first; i < w->chat->turns_count; i++)
		TRY(put_turn(w, &w->chat->turns[i]));
	if (w->o.rc == RC_OK && w->o.buf->len == before && !first)
		return cannot(w, "messages"); /* nothing is asked */
	json_arr_end(&w->o);
	return RC_OK;
}

static enum rc put_tools(struct writing *w)
{
	struct json_out *o = &w->o;

	if (w->chat->tools_count == 0)
		return RC_OK;
	json_arr(o, "tools");
	for (size_t i = 0; i < w->chat->tools_count; i++) {
		const struct chat_tool *t = &w->chat->tools[i];

		if (t->kind != CHAT_TOOL_FUNCTION)
			return cannot(w, "tools");
		if (t->cache != CHAT_CACHE_NONE)
			lose(w, "cache_control");
		json_obj(o, NULL);
		json_put_z(o, "type", "function");
		json_put_str(o, "name", t->name);
		if (t->description.ptr)
			json_put_str(o, "description", t->description);
		if (t->parameters)
			json_put_value(o, "parameters", t->parameters);
		else
			json_put_raw(o, "parameters",
				     STR("{\"type\":\"object\",\"properties\":{}}"));
		json_put_bool(o, "strict", t->strict == 1); /* unsaid it would be true */
		json_obj_end(o);
	}
	json_arr_end(o);
	return RC_OK;
}

static void put_choice(struct writing *w)
{
	const struct chat *chat = w->chat;
	struct json_out *o = &w->o;

	if (chat->parallel_tools >= 0 && chat->tools_count > 0)
		json_put_bool(o, "parallel_tool_calls", chat->parallel_tools);
	switch (chat->choice) {
	case CHAT_CHOICE_UNSAID:
		return;
	case CHAT_CHOICE_AUTO:
		json_put_z(o, "tool_choice", "auto");
		return;
	case CHAT_CHOICE_NONE:
		json_put_z(o, "tool_choice", "none");
		return;
	case CHAT_CHOICE_REQUIRED:
		json_put_z(o, "tool_choice", "required");
		return;
	default:
		break;
	}
	json_obj(o, "tool_choice");
	if (chat->choice == CHAT_CHOICE_NAMED) {
		json_put_z(o, "type", "function");
		json_put_str(o, "name", chat->choice_names[0]);
	} else {
		json_put_z(o, "type", "allowed_tools");
		json_put_z(o, "mode",
			   chat->choice == CHAT_CHOICE_ALLOWED_AUTO ? "auto" : "required");
		json_arr(o, "tools");
		for (size_t i = 0; i < chat->choice_names_count; i++) {
			json_obj(o, NULL);
			json_put_z(o, "type", "function");
			json_put_str(o, "name", chat->choice_names[i]);
			json_obj_end(o);
		}
		json_arr_end(o);
	}
	json_obj_end(o);
}

static void put_format(struct writing *w)
{
	const struct chat *chat = w->chat;
	struct json_out *o = &w->o;

	if (chat->format == CHAT_FORMAT_TEXT && !chat->verbosity.ptr)
		return;
	json_obj(o, "text");
	if (chat->format == CHAT_FORMAT_JSON) {
		json_put_raw(o, "format", STR("{\"type\":\"json_object\"}"));
	} else if (chat->format == CHAT_FORMAT_SCHEMA) {
		json_obj(o, "format");
		json_put_z(o, "type", "json_schema");
		json_put_str(o, "name",
			     chat->schema_name.len ? chat->schema_name : STR("response"));
		if (chat->schema_description.ptr)
			json_put_str(o, "description", chat->schema_description);
		if (chat->schema)
			json_put_value(o, "schema", chat->schema);
		else
			json_put_raw(o, "schema", STR("{}"));
		if (chat->schema_strict >= 0)
			json_put_bool(o, "strict", chat->schema_strict);
		json_obj_end(o);
	}
	if (chat->verbosity.ptr)
		json_put_str(o, "verbosity", chat->verbosity);
	json_obj_end(o);
}

/* A budget as an effort: OpenAI has none in tokens. The limits are those of translation.md 5 for the other way. */
static const char *effort_of(const struct chat *chat)
{
	if (chat->effort != CHAT_EFFORT_UNSAID)
		return chat_effort_name(chat->effort);
	if (chat->reasoning_tokens <= 0)
		return NULL;
	return chat->reasoning_tokens <= 4096	? "low"
	       : chat->reasoning_tokens <= 8192 ? "medium"
						: "high";
}

static void put_reasoning_options(struct writing *w)
{
	const struct chat *chat = w->chat;
	const char *effort = effort_of(chat);
	const bool thinks = effort && chat->effort != CHAT_EFFORT_none;
	struct json_out *o = &w->o;

	if (!effort && chat->reasoning_tokens == 0)
		lose(w, "thinking"); /* "none" is refused by the models that have no reasoning */
	if (effort || chat->reasoning_shown == 1) {
		json_obj(o, "reasoning");
		if (effort)
			json_put_z(o, "effort", effort);
		if (chat->reasoning_shown == 1)
			json_put_z(o, "summary", "auto");
		json_obj_end(o);
	}
	/* models without reasoning refuse to be asked for its seal */
	if (w->call->operation == OPERATION_chat &&
	    (thinks || chat->reasoning_shown == 1 || chat->state_wanted || w->sealed))
		json_put_raw(o, "include", STR("[\"reasoning.encrypted_content\"]"));
}

static enum rc check_sayable(struct writing *w)
{
	const struct chat *chat = w->chat;

	if (w->call->choices > 1)
		return cannot(w, "n");
	if (chat->logprobs)
		return cannot(w, "logprobs");
	if (chat->logit_bias)
		return cannot(w, "logit_bias");
	if (chat->stop_count > 0)
		return cannot(w, "stop");
	return RC_OK;
}

static void lose_parameters(struct writing *w)
{
	const struct chat *chat = w->chat;

	if (chat->top_k)
		lose(w, "top_k");
	if (chat->seed)
		lose(w, "seed");
	if (chat->presence_penalty)
		lose(w, "presence_penalty");
	if (chat->frequency_penalty)
		lose(w, "frequency_penalty");
	for (size_t i = 0; i < chat->hints_count; i++)
		chat_lose(&w->out->losses, chat->hints[i]);
}

static void put_tier(struct writing *w)
{
	static const char *const here[] = {"auto", "default",  "flex",	   "scale",
					   "fast", "priority", "ultrafast"};
	const struct str tier = w->chat->service_tier;

	if (!tier.ptr)
		return;
	if (str_is(tier, "standard_only") || str_is(tier, "standard")) {
		json_put_z(&w->o, "service_tier", "default"); /* its name here */
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(here); i++) {
		if (!str_is(tier, here[i]))
			continue;
		json_put_z(&w->o, "service_tier", here[i]);
		return;
	}
	lose(w, "service_tier");
}

/* What only an answer has; the count of the input knows none of it. */
static void put_parameters(struct writing *w)
{
	const int64_t most = w->call->max_output ? w->call->max_output : w->target->max_output_cap;
	const struct chat *chat = w->chat;
	struct json_out *o = &w->o;

	json_put_bool(o, "store", false); /* nobody could come back to it */
	if (w->call->stream)
		json_put_bool(o, "stream", true);
	if (most > 0)
		json_put_int(o, "max_output_tokens", most);
	if (chat->temperature)
		json_put_value(o, "temperature", chat->temperature);
	if (chat->top_p)
		json_put_value(o, "top_p", chat->top_p);
	put_tier(w);
	if (chat->end_user.ptr)
		json_put_str(o, "safety_identifier", chat->end_user);
	if (chat->cache_key.ptr)
		json_put_str(o, "prompt_cache_key", chat->cache_key);
	if (chat->metadata)
		json_put_value(o, "metadata", chat->metadata);
}

enum rc responses_encode_ask(const struct call *c, const struct ask *ask,
			     const struct dialect_target *t, struct arena *mem,
			     struct outgoing *out, struct err *err)
{
	struct writing w = {
		.mem = mem, .call = c, .chat = &ask->chat, .target = t, .out = out, .err = err};

	TRY(chat_check_needs(&ask->chat, t, err));
	TRY(check_sayable(&w));
	json_out_begin(&w.o, out->body);
	json_obj(&w.o, NULL);
	json_put_str(&w.o, "model", t->model);
	TRY(put_input(&w));
	TRY(put_tools(&w));
	put_choice(&w);
	put_format(&w);
	put_reasoning_options(&w);
	if (c->operation == OPERATION_chat)
		put_parameters(&w);
	lose_parameters(&w);
	json_obj_end(&w.o);
	return json_out_end(&w.o);
}
