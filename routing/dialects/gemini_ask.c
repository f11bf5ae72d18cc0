/* routing/dialects/gemini_ask.c - a caller's request read whole, for a target of another dialect.
 *
 * What this dialect has and no other: calls without ids (they get one, and results find theirs by name and order), results
 * that are objects, signatures on parts, a schema language of its own. What cannot be said elsewhere is listed in `needs`,
 * what can be left out in `hints`, both by the caller's own names. gemini_decode_request() has checked types before. */
#include <assert.h>
#include <stdio.h>
#include "routing/dialects/gemini_priv.h"
#include "server/base/hash.h"

#define NAMES_MAX	64 /* hints, needs: more of them say nothing new */
#define FIELD_BYTES_MAX 96
#define STOPS_MAX	64

struct asking {
	struct chat *chat;
	struct arena *mem;
	struct err *err;
	struct chat_part *parts; /* of all turns, one behind the other */
	size_t parts_count, parts_size;
	size_t inner_count;  /* parts of results */
	enum chat_role role; /* of the turn that is read */
	size_t turn_first;   /* its first part */
	size_t thought_at;   /* parts_count when `thought` was begun; 0: it was not */
	struct chat_text thought;
	struct { /* the calls of the last model turns, until a result answers each */
		struct chat_part **part;
		bool *answered;
		size_t count;
		bool open; /* still in the model's turns */
	} calls;
	size_t calls_made;	  /* ids of our own */
	char at[FIELD_BYTES_MAX]; /* where we read: "contents[2].parts[0]" */
};

static enum rc bad(struct asking *a, const char *field, const char *what)
{
	(void)err_set(a->err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(a->err, "%s", field);
	return RC_INVALID;
}

static void name_add(struct asking *a, struct str **names, size_t *count, struct str name)
{
	if (!*names)
		*names = ARENA_ARRAY(a->mem, struct str, NAMES_MAX);
	(*names)[(*count)++] = name;
}

static void hint(struct asking *a, const char *prefix, struct str name)
{
	if (a->chat->hints_count == NAMES_MAX)
		return;
	name_add(a, &a->chat->hints, &a->chat->hints_count,
		 arena_printf(a->mem, "%s%.*s", prefix,
			      STR_FMT(str_slice(name, 0, FIELD_BYTES_MAX))));
}

static void need(struct asking *a, const char *prefix, struct str name)
{
	if (a->chat->needs_count == NAMES_MAX)
		return;
	name_add(a, &a->chat->needs, &a->chat->needs_count,
		 arena_printf(a->mem, "%s%.*s", prefix,
			      STR_FMT(str_slice(name, 0, FIELD_BYTES_MAX))));
}

static void need_here(struct asking *a, const char *what)
{
	need(a, a->at, arena_printf(a->mem, ".%s", what));
}

/* ---- parts --------------------------------------------------------------------------------------------- */

static struct chat_part *part_add(struct asking *a, enum chat_part_type type)
{
	struct chat_part *p = &a->parts[a->parts_count++];

	*p = (struct chat_part){.type = type};
	return p;
}

static bool is_seal(struct str s)
{
	return s.len > 0 && !str_is(s, GEMINI_FOREIGN_SEAL);
}

/* The seal of a part: ours unwrapped (one without a value only says who made the call), else the vendor's own. */
static void seal_read(struct asking *a, const struct json *part, struct chat_opaque *ret)
{
	struct str s;

	if (!json_string(gemini_get(part, "thoughtSignature"), &s) || !is_seal(s))
		return;
	if (chat_opaque_unwrap(a->mem, s, ret)) {
		if (ret->value.len == 0)
			*ret = (struct chat_opaque){0};
		return;
	}
	*ret = (struct chat_opaque){
		.value = s, .dialect = STR("gemini"), .provider = STR(""), .model = STR("")};
}

static bool mime_is(struct str mime, const char *family)
{
	return str_eq_nocase(str_slice(mime, 0, strlen(family)), str_from(family));
}

static bool is_youtube(struct str url)
{
	static const char *const hosts[] = {"https://www.youtube.com/", "https://youtube.com/",
					    "https://youtu.be/", "https://m.youtube.com/"};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (mime_is(url, hosts[i]))
			return true;
	return false;
}

static enum chat_part_type media_type(struct str mime)
{
	if (mime_is(mime, "image/"))
		return CHAT_IMAGE;
	if (mime_is(mime, "audio/"))
		return CHAT_AUDIO;
	return mime_is(mime, "video/") ? CHAT_VIDEO : CHAT_DOCUMENT;
}

/* A text file is text wherever documents of another kind are not taken. */
static enum rc text_read(struct asking *a, struct chat_media *m)
{
	size_t len;
	void *p;

	if (!mime_is(m->mime, "text/"))
		return RC_OK;
	TRY(arena_try_alloc(a->mem, m->data.len + 4, &p));
	if (base64_decode(m->data, p, m->data.len + 4, &len) != RC_OK ||
	    !str_is_utf8(str_of(p, len)))
		return RC_OK; /* it stays what it is: data */
	m->text = str_of(p, len);
	return RC_OK;
}

/* How closely the picture is to be looked at. */
static void detail_read(struct asking *a, const struct json *part, struct chat_part *p)
{
	const struct json *resolution = gemini_get(part, "mediaResolution");
	struct str level = STR("");

	if (json_is_null(resolution))
		return;
	(void)json_string(json_get(resolution, "level"), &level);
	if (p->type == CHAT_IMAGE && str_is(level, "MEDIA_RESOLUTION_LOW"))
		p->media.detail = STR("low");
	else if (p->type == CHAT_IMAGE && str_is(level, "MEDIA_RESOLUTION_HIGH"))
		p->media.detail = STR("high");
	else
		hint(a, a->at, STR(".mediaResolution"));
}

static enum rc inline_read(struct asking *a, const struct json *blob, const struct json *part)
{
	struct chat_media m = {0};
	struct chat_part *p;

	if (!json_string(gemini_get(blob, "mimeType"), &m.mime) ||
	    !json_string(json_get(blob, "data"), &m.data))
		return bad(a, a->at, "has inlineData without a mimeType and data");
	(void)json_string(gemini_get(blob, "displayName"), &m.name);
	TRY(text_read(a, &m));
	p = part_add(a, media_type(m.mime));
	p->media = m;
	detail_read(a, part, p);
	return RC_OK;
}

/* What anybody can fetch goes on by its address; what the vendor keeps is nowhere else. */
static enum rc file_read(struct asking *a, const struct json *file, const struct json *part)
{
	struct chat_media m = {0};
	struct chat_part *p;
	struct str uri;

	if (!json_string(gemini_get(file, "fileUri"), &uri))
		return bad(a, a->at, "has fileData without a fileUri");
	m.mime = STR("");
	(void)json_string(gemini_get(file, "mimeType"), &m.mime);
	if (mime_is(uri, "https://generativelanguage.googleapis.com/") ||
	    (!mime_is(uri, "https://") && !mime_is(uri, "http://"))) {
		m.file_id = uri;
		need_here(a, "fileData");
	} else {
		m.url = uri;
	}
	p = part_add(a, is_youtube(uri) ? CHAT_VIDEO : media_type(m.mime));
	p->media = m;
	detail_read(a, part, p);
	return RC_OK;
}

/* ---- calls and their results ----------------------------------------------------------------------------- */

static enum rc call_read(struct asking *a, const struct json *call, const struct json *part)
{
	const struct json *args = json_get(call, "args");
	struct chat_part *p;

	if (a->role != CHAT_ASSISTANT)
		return bad(a, a->at, "has a functionCall that is not the model's");
	if (a->calls.count == CHAT_CALLS_MAX)
		return RC_TOO_LARGE;
	p = part_add(a, CHAT_TOOL_CALL);
	if (!json_string(json_get(call, "name"), &p->name) || p->name.len == 0)
		return bad(a, a->at, "has a functionCall without a name");
	if (!json_string(json_get(call, "id"), &p->id) || p->id.len == 0)
		p->id = arena_printf(a->mem, "call_%zu", a->calls_made++);
	if (!json_is_null(args) && json_type(args) != JSON_OBJECT)
		return bad(a, a->at, "has a functionCall whose args are no object");
	p->arguments = STR("{}");
	if (!json_is_null(args))
		TRY(gemini_json_text(a->mem, args, &p->arguments));
	seal_read(a, part, &p->opaque);
	if (!a->calls.part) {
		a->calls.part = ARENA_ARRAY(a->mem, struct chat_part *, CHAT_CALLS_MAX);
		a->calls.answered = ARENA_ARRAY(a->mem, bool, CHAT_CALLS_MAX);
	}
	a->calls.part[a->calls.count] = p;
	a->calls.answered[a->calls.count++] = false;
	return RC_OK;
}

/* The call that a result answers: of its id; else the first of its name that nothing has answered yet. */
static struct chat_part *call_of(struct asking *a, struct str id, struct str name)
{
	for (size_t i = 0; id.len > 0 && i < a->calls.count; i++)
		if (!a->calls.answered[i] && str_eq(a->calls.part[i]->id, id)) {
			a->calls.answered[i] = true;
			return a->calls.part[i];
		}
	for (size_t i = 0; i < a->calls.count; i++)
		if (!a->calls.answered[i] && str_eq(a->calls.part[i]->name, name)) {
			a->calls.answered[i] = true;
			return a->calls.part[i];
		}
	return NULL;
}

/* A result is an object here and text elsewhere: what was wrapped on the way comes out as it went in. */
static enum rc result_text(struct asking *a, const struct json *response, struct chat_part *result,
			   struct str *ret)
{
	struct str s;

	*ret = STR("");
	if (json_is_null(response))
		return RC_OK;
	if (json_len(response) == 1) {
		const struct json *only = json_get(response, "error");

		result->is_error = !json_is_null(only);
		if (!only)
			only = json_get(response, "result");
		if (!only)
			only = json_get(response, "output");
		if (json_string(only, &s)) {
			*ret = s;
			return RC_OK;
		}
		if (only)
			return gemini_json_text(a->mem, only, ret);
	}
	return gemini_json_text(a->mem, response, ret);
}

static enum rc result_media(struct asking *a, const struct json *response, struct chat_part *result)
{
	const struct json *parts = json_get(response, "parts");
	struct json_iter it = json_iter(json_type(parts) == JSON_ARRAY ? parts : NULL);
	struct json *one;

	while (json_next(&it, NULL, &one)) {
		const struct json *blob = gemini_get(one, "inlineData");
		struct chat_part *p = &result->parts[result->parts_count];
		struct str mime, data;

		if (!json_string(gemini_get(blob, "mimeType"), &mime) ||
		    !json_string(json_get(blob, "data"), &data)) {
			need_here(a, "functionResponse.parts");
			continue;
		}
		*p = (struct chat_part){.type = media_type(mime),
					.media = {.mime = mime, .data = data}};
		if (p->type != CHAT_IMAGE && p->type != CHAT_DOCUMENT) {
			need_here(a, "functionResponse.parts");
			continue;
		}
		result->parts_count++;
	}
	return RC_OK;
}

static enum rc response_read(struct asking *a, const struct json *response)
{
	struct chat_part *p, *call;
	const size_t most = 1 + json_len(json_get(response, "parts"));
	struct str id = STR(""), name = STR(""), text;
	void *list;

	if (a->role == CHAT_ASSISTANT)
		return bad(a, a->at, "has a functionResponse in a turn of the model");
	if (json_get(response, "scheduling") || gemini_get(response, "willContinue"))
		hint(a, a->at, STR(".functionResponse.scheduling"));
	(void)json_string(json_get(response, "id"), &id);
	(void)json_string(json_get(response, "name"), &name);
	call = call_of(a, id, name);
	if (!call) {
		err_set(a->err, RC_INVALID, "invalid_request_error",
			"%s answers a call of %.*s, which no turn before it makes.", a->at,
			STR_FMT(str_slice(name, 0, 64)));
		err_field(a->err, "%s", a->at);
		return RC_INVALID;
	}
	p = part_add(a, CHAT_TOOL_RESULT);
	p->id = call->id;
	p->name = call->name;
	/* its own list: one text, and at most what stands in it */
	a->inner_count += most;
	if (a->parts_size + a->inner_count > CHAT_PARTS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(a->mem, most * sizeof *p->parts, &list));
	p->parts = list;
	TRY(result_text(a, json_get(response, "response"), p, &text));
	if (text.len > 0)
		p->parts[p->parts_count++] = (struct chat_part){.type = CHAT_TEXT, .text = text};
	return result_media(a, response, p);
}

/* Thought comes in pieces, as a stream brought it: together they are one, whose seal stands with the last of them and is
 * good for all. False: what stands before this piece is no thought that is still open. */
static enum rc thought_goes_on(struct asking *a, const struct json *part, struct str text,
			       bool *ret)
{
	struct chat_part *p = a->parts_count > a->turn_first ? &a->parts[a->parts_count - 1] : NULL;

	*ret = p && p->type == CHAT_REASONING && p->opaque.value.len == 0;
	if (!*ret)
		return RC_OK;
	if (a->thought_at != a->parts_count) { /* its second piece */
		a->thought = (struct chat_text){0};
		a->thought_at = a->parts_count;
		TRY(chat_text_add(a->mem, &a->thought, p->text));
	}
	TRY(chat_text_add(a->mem, &a->thought, text));
	p->text = chat_text_str(&a->thought);
	seal_read(a, part, &p->opaque);
	return RC_OK;
}

static enum rc text_part(struct asking *a, const struct json *part, struct str text)
{
	bool thought = false, known = false;
	struct chat_part *p;

	(void)json_bool(json_get(part, "thought"), &thought);
	thought = thought && a->role == CHAT_ASSISTANT;
	if (thought)
		TRY(thought_goes_on(a, part, text, &known));
	if (known)
		return RC_OK;
	p = part_add(a, thought ? CHAT_REASONING : CHAT_TEXT);
	p->text = text;
	seal_read(a, part, &p->opaque);
	if (text.len == 0 && !p->opaque.value.ptr)
		a->parts_count--;
	return RC_OK;
}

/* Nothing that is known here. A seal alone, or nothing at all, says nothing to anybody else. */
static void other_read(struct asking *a, const struct json *part)
{
	static const char *const silent[] = {"thought", "thoughtSignature", "partMetadata", "text"};
	struct json_iter it = json_iter(part);
	char name[FIELD_BYTES_MAX];
	struct str key;
	struct json *v;

	while (json_next(&it, &key, &v)) {
		bool says = !json_is_null(v);

		for (size_t i = 0; gemini_camel(key, name, sizeof name) && i < ARRAY_LEN(silent);
		     i++)
			says &= strcmp(name, silent[i]) != 0;
		if (!says)
			continue;
		need(a, arena_printf(a->mem, "%s.", a->at).ptr, key);
		return;
	}
}

static enum rc part_read(struct asking *a, const struct json *part)
{
	static const char *const of_the_vendor[] = {"executableCode", "codeExecutionResult",
						    "toolCall", "toolResponse"};
	const struct json *v;
	struct str text;

	if (gemini_get(part, "videoMetadata"))
		need_here(a, "videoMetadata");
	if (gemini_get(part, "mediaResolution") && !gemini_get(part, "inlineData") &&
	    !gemini_get(part, "fileData"))
		hint(a, a->at, STR(".mediaResolution"));
	if (!json_is_null(v = gemini_get(part, "functionCall")))
		return call_read(a, v, part);
	if (!json_is_null(v = gemini_get(part, "functionResponse")))
		return response_read(a, v);
	if (!json_is_null(v = gemini_get(part, "inlineData")))
		return inline_read(a, v, part);
	if (!json_is_null(v = gemini_get(part, "fileData")))
		return file_read(a, v, part);
	for (size_t i = 0; i < ARRAY_LEN(of_the_vendor); i++)
		if (!json_is_null(gemini_get(part, of_the_vendor[i]))) {
			need_here(a, of_the_vendor[i]);
			return RC_OK;
		}
	if (json_string(json_get(part, "text"), &text))
		return text_part(a, part, text);
	other_read(a, part);
	return RC_OK;
}

/* ---- turns ----------------------------------------------------------------------------------------------- */

/* Results go before what else their turn says; both keep their order. */
static enum rc results_first(struct asking *a, struct chat_turn *turn)
{
	struct chat_part *sorted;
	size_t n = 0;
	void *p;

	if (turn->parts_count < 2)
		return RC_OK;
	TRY(arena_try_alloc(a->mem, turn->parts_count * sizeof *sorted, &p));
	sorted = p;
	for (int results = 1; results >= 0; results--)
		for (size_t i = 0; i < turn->parts_count; i++)
			if ((turn->parts[i].type == CHAT_TOOL_RESULT) == (results == 1))
				sorted[n++] = turn->parts[i];
	memcpy(turn->parts, sorted, n * sizeof *sorted);
	return RC_OK;
}

static bool has_results(const struct chat_part *parts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (parts[i].type == CHAT_TOOL_RESULT)
			return true;
	return false;
}

/* The parts read since `first` as a turn; results in a user turn behind another one belong to that. */
static enum rc turn_close(struct asking *a, enum chat_role role, size_t first)
{
	struct chat *c = a->chat;
	struct chat_part *parts = a->parts + first;
	const size_t n = a->parts_count - first;
	struct chat_turn *turn = c->turns_count > 0 ? &c->turns[c->turns_count - 1] : NULL;

	assert(c->turns); /* turns_read() made room for all */
	if (n == 0)
		return RC_OK;
	if (turn && turn->role == role && role == CHAT_USER && has_results(parts, n)) {
		turn->parts_count += n;
	} else {
		turn = &c->turns[c->turns_count++];
		*turn = (struct chat_turn){.role = role, .parts = parts, .parts_count = n};
	}
	return role == CHAT_USER && has_results(turn->parts, turn->parts_count)
		       ? results_first(a, turn)
		       : RC_OK;
}

static enum rc role_read(struct asking *a, const struct json *content, size_t i,
			 enum chat_role *ret)
{
	struct str role = STR("user");

	(void)json_string(json_get(content, "role"), &role);
	if (str_is(role, "model"))
		*ret = CHAT_ASSISTANT;
	else if (str_is(role, "user") || str_is(role, "function") || role.len == 0)
		*ret = CHAT_USER;
	else {
		snprintf(a->at, sizeof a->at, "contents[%zu].role", i);
		return bad(a, a->at, "must be user or model");
	}
	return RC_OK;
}

static enum rc content_read(struct asking *a, const struct json *content, size_t i)
{
	struct json_iter it = json_iter(json_get(content, "parts"));
	const size_t first = a->parts_count;
	enum chat_role role;
	struct json *part;

	TRY(role_read(a, content, i, &role));
	a->role = role;
	a->turn_first = first;
	a->thought_at = 0;
	if (role == CHAT_ASSISTANT && !a->calls.open)
		a->calls.count = 0; /* a new run of the model's turns */
	a->calls.open = role == CHAT_ASSISTANT;
	for (size_t j = 0; json_next(&it, NULL, &part); j++) {
		snprintf(a->at, sizeof a->at, "contents[%zu].parts[%zu]", i, j);
		TRY(part_read(a, part));
	}
	return turn_close(a, role, first);
}

static enum rc system_read(struct asking *a, const struct json *system)
{
	struct json_iter it = json_iter(json_get(system, "parts"));
	const size_t first = a->parts_count;
	struct str text;
	struct json *part;

	if (json_string(system, &text) && text.len > 0)
		part_add(a, CHAT_TEXT)->text = text;
	while (json_next(&it, NULL, &part)) {
		if (!json_string(json_get(part, "text"), &text))
			need(a, "systemInstruction.parts", STR(""));
		else if (text.len > 0)
			part_add(a, CHAT_TEXT)->text = text;
	}
	return turn_close(a, CHAT_SYSTEM, first);
}

static enum rc turns_read(struct asking *a, const struct json *root)
{
	const struct json *contents = json_get(root, "contents");
	const struct json *system = gemini_get(root, "systemInstruction");
	struct json_iter it = json_iter(contents);
	struct json *content;
	void *p;

	a->parts_size = 1 + json_len(json_get(system, "parts"));
	while (json_next(&it, NULL, &content))
		a->parts_size += json_len(json_get(content, "parts"));
	if (json_len(contents) > CHAT_TURNS_MAX || a->parts_size > CHAT_PARTS_MAX)
		return RC_TOO_LARGE;
	TRY(arena_try_alloc(a->mem, a->parts_size * sizeof *a->parts, &p));
	a->parts = p;
	TRY(arena_try_alloc(a->mem, (json_len(contents) + 1) * sizeof *a->chat->turns, &p));
	a->chat->turns = p;
	if (!json_is_null(system))
		TRY(system_read(a, system));
	it = json_iter(contents);
	for (size_t i = 0; json_next(&it, NULL, &content); i++)
		TRY(content_read(a, content, i));
	return RC_OK;
}

/* ---- tools -------------------------------------------------------------------------------------------------- */

static enum rc function_read(struct asking *a, const struct json *f, struct chat_tool *t)
{
	const struct json *plain = gemini_get(f, "parametersJsonSchema");
	const struct json *schema = json_get(f, "parameters");

	*t = (struct chat_tool){.kind = CHAT_TOOL_FUNCTION, .strict = -1};
	if (!json_string(json_get(f, "name"), &t->name) || t->name.len == 0)
		return bad(a, "tools", "has a function without a name");
	(void)json_string(json_get(f, "description"), &t->description);
	if (!json_is_null(plain) && !json_is_null(schema))
		return bad(a, "tools", "has a function with parameters and parametersJsonSchema");
	if (!json_is_null(plain)) {
		if (json_type(plain) != JSON_OBJECT)
			return bad(a, "tools", "has parameters that are no object");
		t->parameters = plain;
	} else if (!json_is_null(schema)) {
		enum rc rc = gemini_schema(a->mem, schema, &t->parameters);

		if (rc == RC_INVALID)
			return bad(a, "tools", "has parameters that are no schema");
		TRY(rc);
	}
	if (json_get(f, "response") || gemini_get(f, "responseJsonSchema"))
		hint(a, "tools.functionDeclarations.response", STR(""));
	if (json_get(f, "behavior"))
		hint(a, "tools.functionDeclarations.behavior", STR(""));
	return RC_OK;
}

static enum rc tool_read(struct asking *a, const struct json *tool, size_t i)
{
	struct json_iter it = json_iter(tool), functions;
	struct str key;
	struct json *v, *f;
	char prefix[FIELD_BYTES_MAX];

	snprintf(prefix, sizeof prefix, "tools[%zu].", i);
	while (json_next(&it, &key, &v)) {
		if (json_is_null(v))
			continue;
		if (!str_is(key, "functionDeclarations") && !str_is(key, "function_declarations")) {
			need(a, prefix, key);
			a->chat->tools[a->chat->tools_count++] = (struct chat_tool){
				.kind = CHAT_TOOL_HOSTED, .name = key, .strict = -1};
			continue;
		}
		functions = json_iter(v);
		while (json_next(&functions, NULL, &f))
			TRY(function_read(a, f, &a->chat->tools[a->chat->tools_count++]));
	}
	return RC_OK;
}

static enum rc tools_read(struct asking *a, const struct json *root)
{
	const struct json *tools = json_get(root, "tools");
	struct json_iter it = json_iter(tools);
	struct json *tool;
	size_t n = 0;
	void *p;

	while (json_next(&it, NULL, &tool))
		n += json_len(tool) + json_len(gemini_get(tool, "functionDeclarations"));
	if (n > CHAT_TOOLS_MAX)
		return RC_TOO_LARGE;
	if (n == 0)
		return RC_OK;
	TRY(arena_try_alloc(a->mem, n * sizeof *a->chat->tools, &p));
	a->chat->tools = p;
	it = json_iter(tools);
	for (size_t i = 0; json_next(&it, NULL, &tool); i++)
		TRY(tool_read(a, tool, i));
	return RC_OK;
}

static enum rc names_read(struct asking *a, const struct json *names, const char *field,
			  struct str **ret, size_t *ret_count)
{
	struct json_iter it = json_iter(names);
	struct json *v;
	void *p;

	if (json_is_null(names))
		return RC_OK;
	if (json_type(names) != JSON_ARRAY)
		return bad(a, field, "must be an array of strings");
	if (json_len(names) > CHAT_TOOLS_MAX)
		return RC_TOO_LARGE;
	if (json_len(names) == 0)
		return RC_OK;
	TRY(arena_try_alloc(a->mem, json_len(names) * sizeof **ret, &p));
	*ret = p;
	while (json_next(&it, NULL, &v))
		if (!json_string(v, &(*ret)[(*ret_count)++]))
			return bad(a, field, "must be an array of strings");
	return RC_OK;
}

static enum rc choice_read(struct asking *a, const struct json *root)
{
	static const char field[] = "toolConfig.functionCallingConfig";
	const struct json *config = gemini_get(root, "toolConfig");
	const struct json *calling = gemini_get(config, "functionCallingConfig");
	struct chat *c = a->chat;
	struct str mode = STR("");
	struct json_iter it = json_iter(config);
	struct str key;

	while (json_next(&it, &key, NULL))
		if (!str_is(key, "functionCallingConfig") &&
		    !str_is(key, "function_calling_config"))
			hint(a, "toolConfig.", key);
	if (json_is_null(calling))
		return RC_OK;
	(void)json_string(json_get(calling, "mode"), &mode);
	TRY(names_read(a, gemini_get(calling, "allowedFunctionNames"), field, &c->choice_names,
		       &c->choice_names_count));
	if (gemini_get(calling, "streamFunctionCallArguments"))
		hint(a, field, STR(".streamFunctionCallArguments"));
	if (str_is(mode, "NONE"))
		c->choice = CHAT_CHOICE_NONE;
	else if (str_is(mode, "ANY"))
		c->choice = c->choice_names_count == 0	 ? CHAT_CHOICE_REQUIRED
			    : c->choice_names_count == 1 ? CHAT_CHOICE_NAMED
							 : CHAT_CHOICE_ALLOWED_REQUIRED;
	else if (str_is(mode, "VALIDATED") && c->choice_names_count > 0)
		c->choice = CHAT_CHOICE_ALLOWED_AUTO;
	else if (str_is(mode, "AUTO") || str_is(mode, "VALIDATED"))
		c->choice = CHAT_CHOICE_AUTO;
	else if (mode.len > 0 && !str_is(mode, "MODE_UNSPECIFIED"))
		return bad(a, "toolConfig.functionCallingConfig.mode",
			   "must be AUTO, ANY, NONE or VALIDATED");
	return RC_OK;
}

/* ---- generationConfig ------------------------------------------------------------------------------------------ */

static enum rc number_read(struct asking *a, const char *name, const struct json *v,
			   const struct json **ret)
{
	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_INT && json_type(v) != JSON_REAL)
		return bad(a, arena_printf(a->mem, "generationConfig.%s", name).ptr,
			   "must be a number");
	*ret = v;
	return RC_OK;
}

static enum rc thinking_read(struct asking *a, const struct json *thinking)
{
	static const struct {
		const char *level;
		enum chat_effort effort;
	} levels[] = {{"MINIMAL", CHAT_EFFORT_minimal},
		      {"LOW", CHAT_EFFORT_low},
		      {"MEDIUM", CHAT_EFFORT_medium},
		      {"HIGH", CHAT_EFFORT_high}};
	const struct json *budget = gemini_get(thinking, "thinkingBudget");
	struct str level;
	bool shown;
	int64_t n;

	if (json_bool(gemini_get(thinking, "includeThoughts"), &shown))
		a->chat->reasoning_shown = shown;
	if (!json_is_null(budget)) {
		if (!json_int(budget, &n) || n < -1 || n > INT32_MAX)
			return bad(a, "generationConfig.thinkingConfig.thinkingBudget",
				   "must be an integer, -1 for dynamic");
		a->chat->reasoning_tokens = n; /* -1 is the unsaid one */
	}
	if (!json_string(gemini_get(thinking, "thinkingLevel"), &level))
		return RC_OK;
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (!str_eq_nocase(level, str_from(levels[i].level)))
			continue;
		a->chat->effort = levels[i].effort;
		return RC_OK;
	}
	hint(a, "generationConfig.thinkingConfig.thinkingLevel", STR(""));
	return RC_OK;
}

static enum rc schema_read(struct asking *a, const char *field, const struct json *v, bool plain)
{
	struct chat *c = a->chat;
	enum rc rc;

	if (json_is_null(v))
		return RC_OK;
	if (c->schema)
		return bad(a, field, "stands beside another schema of the answer");
	c->format = CHAT_FORMAT_SCHEMA;
	c->schema = v;
	rc = plain ? RC_OK : gemini_schema(a->mem, v, &c->schema);
	return rc == RC_INVALID ? bad(a, field, "is no schema") : rc;
}

static enum rc format_read(struct asking *a, const struct json *config)
{
	struct str mime = STR("");

	(void)json_string(gemini_get(config, "responseMimeType"), &mime);
	if (str_is(mime, "application/json"))
		a->chat->format = CHAT_FORMAT_JSON;
	else if (mime.len > 0 && !str_is(mime, "text/plain"))
		need(a, "generationConfig.responseMimeType", STR(""));
	TRY(schema_read(a, "generationConfig.responseSchema", gemini_get(config, "responseSchema"),
			false));
	return schema_read(a, "generationConfig.responseJsonSchema",
			   gemini_get(config, "responseJsonSchema"), true);
}

static void modalities_read(struct asking *a, const struct json *modalities)
{
	struct json_iter it = json_iter(modalities);
	struct json *v;
	struct str s;

	while (json_next(&it, NULL, &v))
		if (json_string(v, &s) && !str_eq_nocase(s, STR("TEXT"))) {
			need(a, "generationConfig.responseModalities", STR(""));
			return;
		}
}

static enum rc logprobs_read(struct asking *a, const struct json *config)
{
	const struct json *wanted = gemini_get(config, "responseLogprobs");
	bool yes = false;

	if (json_is_null(wanted))
		return RC_OK;
	if (!json_bool(wanted, &yes))
		return bad(a, "generationConfig.responseLogprobs", "must be true or false");
	if (yes)
		a->chat->logprobs = wanted;
	return number_read(a, "logprobs", yes ? json_get(config, "logprobs") : NULL,
			   &a->chat->top_logprobs);
}

/* What is read by one of the functions here, or by gemini_decode_request(). */
static bool config_is_read(struct str key)
{
	static const char *const names[] = {
		"temperature",
		"topP",
		"topK",
		"candidateCount",
		"maxOutputTokens",
		"stopSequences",
		"seed",
		"presencePenalty",
		"frequencyPenalty",
		"responseLogprobs",
		"logprobs",
		"responseMimeType",
		"responseSchema",
		"responseJsonSchema",
		"responseModalities",
		"thinkingConfig",
	};
	char name[FIELD_BYTES_MAX];

	for (size_t i = 0; gemini_camel(key, name, sizeof name) && i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* speech and pictures cannot be had elsewhere by leaving their settings out; the rest can */
static void config_rest(struct asking *a, const struct json *config)
{
	struct json_iter it = json_iter(config);
	struct str key;
	struct json *v;
	char name[FIELD_BYTES_MAX];

	while (json_next(&it, &key, &v)) {
		if (json_is_null(v) || config_is_read(key))
			continue;
		if (gemini_camel(key, name, sizeof name) &&
		    (strcmp(name, "speechConfig") == 0 || strcmp(name, "imageConfig") == 0 ||
		     strcmp(name, "responseFormat") == 0))
			need(a, "generationConfig.", key);
		else
			hint(a, "generationConfig.", key);
	}
}

static enum rc config_read(struct asking *a, const struct json *config)
{
	struct chat *c = a->chat;

	if (json_is_null(config))
		return RC_OK;
	TRY(number_read(a, "temperature", json_get(config, "temperature"), &c->temperature));
	TRY(number_read(a, "topP", gemini_get(config, "topP"), &c->top_p));
	TRY(number_read(a, "topK", gemini_get(config, "topK"), &c->top_k));
	TRY(number_read(a, "seed", json_get(config, "seed"), &c->seed));
	TRY(number_read(a, "presencePenalty", gemini_get(config, "presencePenalty"),
			&c->presence_penalty));
	TRY(number_read(a, "frequencyPenalty", gemini_get(config, "frequencyPenalty"),
			&c->frequency_penalty));
	TRY(names_read(a, gemini_get(config, "stopSequences"), "generationConfig.stopSequences",
		       &c->stop, &c->stop_count));
	if (c->stop_count > STOPS_MAX)
		return bad(a, "generationConfig.stopSequences", "has too many entries");
	TRY(logprobs_read(a, config));
	TRY(thinking_read(a, gemini_get(config, "thinkingConfig")));
	TRY(format_read(a, config));
	modalities_read(a, gemini_get(config, "responseModalities"));
	config_rest(a, config);
	return RC_OK;
}

/* ---- the top level -------------------------------------------------------------------------------------------- */

static void rest_read(struct asking *a, const struct json *root)
{
	static const char *const read[] = {
		"contents",	    "systemInstruction", "tools",	"toolConfig",
		"generationConfig", "cachedContent",	 "serviceTier", "model"};
	struct json_iter it = json_iter(root);
	char name[FIELD_BYTES_MAX];
	struct str key, tier;
	struct json *v;

	while (json_next(&it, &key, &v)) {
		bool known = false;

		if (json_is_null(v))
			continue;
		for (size_t i = 0; gemini_camel(key, name, sizeof name) && i < ARRAY_LEN(read); i++)
			known |= strcmp(name, read[i]) == 0;
		if (!known)
			hint(a, "", key); /* safetySettings, labels, ... */
	}
	if (!json_is_null(gemini_get(root, "cachedContent")))
		need(a, "cachedContent", STR(""));
	if (json_string(gemini_get(root, "serviceTier"), &tier) && tier.len > 0 &&
	    !str_eq_nocase(tier, STR("unspecified")))
		/* what others call the ordinary one */
		a->chat->service_tier =
			str_eq_nocase(tier, STR("standard")) ? STR("default") : tier;
}

enum rc gemini_decode_ask(const struct call *c, struct arena *mem, struct ask *ret, struct err *err)
{
	struct chat chat = {.parallel_tools = -1,
			    .schema_strict = -1,
			    .reasoning_tokens = -1,
			    .reasoning_shown = -1};
	struct asking a = {.chat = &chat, .mem = mem, .err = err};
	const struct json *root = gemini_question(c);

	TRY(turns_read(&a, root));
	TRY(tools_read(&a, root));
	TRY(choice_read(&a, root));
	TRY(config_read(&a, gemini_get(root, "generationConfig")));
	rest_read(&a, root);
	ret->operation = c->operation;
	ret->chat = chat;
	return RC_OK;
}
