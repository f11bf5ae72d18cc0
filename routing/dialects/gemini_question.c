/* routing/dialects/gemini_question.c - in this dialect what was asked in another.
 *
 * Turns of one role become one content, system prompts one systemInstruction, results functionResponse parts with the name
 * of their call. A call that another provider's model made goes under the literal signature that the vendor documents
 * for such history. What has no counterpart is refused by the caller's own name for it, or left out by that name. */
#include <stdio.h>
#include "routing/dialects/gemini_priv.h"
#include "routing/provider.h"

#define STOPS_MAX	5   /* the API's own limit */
#define NAME_BYTES_MAX	128 /* of a function */
#define FIELD_BYTES_MAX 96

/* The same thing by the name that each family of callers has for it. */
enum said {
	SAID_effort,
	SAID_parallel,
	SAID_stop,
	SAID_choices,
	SAID_format,
	SAID_schema_name,
	SAID_schema_words,
	SAID_strict,
	SAID_tools,
	SAID_end_user,
	SAID_cache_mark,
	SAID_thoughts,
	SAID_detail,
	SAID_turns,
	SAID_title,
	SAID_COUNT,
};
static const struct {
	const char *chat, *responses, *anthropic;
} names[SAID_COUNT] = {
	[SAID_effort] = {"reasoning_effort", "reasoning", "thinking"},
	[SAID_parallel] = {"parallel_tool_calls", "parallel_tool_calls",
			   "tool_choice.disable_parallel_tool_use"},
	[SAID_stop] = {"stop", "stop", "stop_sequences"},
	[SAID_choices] = {"n", "n", "n"},
	[SAID_format] = {"response_format", "text.format", "output_config.format"},
	[SAID_schema_name] = {"response_format.json_schema.name", "text.format.name",
			      "output_config.format.name"},
	[SAID_schema_words] = {"response_format.json_schema.description", "text.format.description",
			       "output_config.format.description"},
	[SAID_strict] = {"strict", "strict", "strict"},
	[SAID_tools] = {"tools", "tools", "tools"},
	[SAID_end_user] = {"user", "user", "metadata.user_id"},
	[SAID_cache_mark] = {"prompt_cache_breakpoint", "prompt_cache_breakpoint", "cache_control"},
	[SAID_thoughts] = {"reasoning_content", "input.reasoning", "thinking"},
	[SAID_detail] = {"detail", "detail", "detail"},
	[SAID_turns] = {"messages", "input", "messages"},
	[SAID_title] = {"file.filename", "input_file.filename", "document.title"},
};

enum open { OPEN_NOTHING, OPEN_USER, OPEN_MODEL };
struct writing {
	const struct call *call;
	const struct chat *chat;
	const struct dialect_target *t;
	struct gemini_model model;
	struct arena *mem;
	struct chat_losses *losses;
	struct err *err;
	struct json_out o;
	enum open open;
	bool call_made; /* in the content that is open */
	size_t turn;	/* the caller's */
};

static const char *said(const struct writing *w, enum said what)
{
	const struct str caller = str_from(w->call->dialect ? w->call->dialect->name : "");

	if (str_starts(caller, STR("openai_responses")))
		return names[what].responses;
	return str_starts(caller, STR("anthropic")) ? names[what].anthropic : names[what].chat;
}

static void lose(struct writing *w, const char *name)
{
	chat_lose(w->losses, str_from(name));
}

static enum rc cannot(struct writing *w, const char *field)
{
	return chat_cannot(w->err, w->t->provider->label, field);
}

/* "messages[3].image_url": as near as we know it. */
static enum rc cannot_here(struct writing *w, const char *what)
{
	char field[FIELD_BYTES_MAX];

	(void)snprintf(field, sizeof field, "%s[%zu].%s", said(w, SAID_turns), w->turn, what);
	return cannot(w, field);
}

/* ---- contents --------------------------------------------------------------------------------------------- */

static void content_open(struct writing *w, bool model)
{
	const enum open wanted = model ? OPEN_MODEL : OPEN_USER;

	if (w->open == wanted)
		return;
	if (w->open != OPEN_NOTHING) {
		json_arr_end(&w->o);
		json_obj_end(&w->o);
	}
	w->open = wanted;
	w->call_made = false;
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "role", model ? "model" : "user");
	json_arr(&w->o, "parts");
}

static void contents_close(struct writing *w)
{
	if (w->open != OPEN_NOTHING) {
		json_arr_end(&w->o);
		json_obj_end(&w->o);
	}
	json_arr_end(&w->o);
}

static void put_text(struct writing *w, struct str text, const struct chat_opaque *seal)
{
	json_obj(&w->o, NULL);
	json_put_str(&w->o, "text", text);
	if (seal && chat_opaque_fits(seal, w->t))
		json_put_str(&w->o, "thoughtSignature", seal->value);
	json_obj_end(&w->o);
}

static const char *mime_of_ending(struct str url)
{
	static const struct {
		const char *ending, *mime;
	} endings[] = {
		{".png", "image/png"},	     {".jpg", "image/jpeg"},	  {".jpeg", "image/jpeg"},
		{".webp", "image/webp"},     {".gif", "image/gif"},	  {".heic", "image/heic"},
		{".heif", "image/heif"},     {".pdf", "application/pdf"}, {".wav", "audio/wav"},
		{".mp3", "audio/mp3"},	     {".mp4", "video/mp4"},	  {".webm", "video/webm"},
		{".mov", "video/quicktime"}, {".mpeg", "video/mpeg"},	  {".txt", "text/plain"},
	};
	size_t end = 0;

	/* the path alone: a query may end in anything */
	while (end < url.len && url.ptr[end] != '?' && url.ptr[end] != '#')
		end++;
	url = str_slice(url, 0, end);
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		const size_t n = strlen(endings[i].ending);

		if (url.len > n && str_eq_nocase(str_slice(url, url.len - n, url.len),
						 str_from(endings[i].ending)))
			return endings[i].mime;
	}
	return NULL;
}

static bool starts(struct str s, const char *prefix)
{
	return str_eq_nocase(str_slice(s, 0, strlen(prefix)), str_from(prefix));
}

/* A type that ends in a star says a kind and no type. */
static struct str mime_of(const struct chat_part *p)
{
	if (p->media.mime.len > 0 && !str_ends(p->media.mime, STR("*")))
		return str_is(p->media.mime, "audio/mpeg") ? STR("audio/mp3") : p->media.mime;
	if (p->media.url.ptr && mime_of_ending(p->media.url))
		return str_from(mime_of_ending(p->media.url));
	if (p->type == CHAT_VIDEO && (starts(p->media.url, "https://www.youtube.com/") ||
				      starts(p->media.url, "https://youtu.be/")))
		return STR("video/mp4");
	return STR("");
}

static bool mime_fits(const struct chat_part *p, struct str mime)
{
	switch (p->type) {
	case CHAT_IMAGE:
		return starts(mime, "image/");
	case CHAT_AUDIO:
		return starts(mime, "audio/");
	case CHAT_VIDEO:
		return starts(mime, "video/");
	default:
		return str_is(mime, "application/pdf") || starts(mime, "text/");
	}
}

static const char *kind_of(const struct chat_part *p)
{
	switch (p->type) {
	case CHAT_IMAGE:
		return "image";
	case CHAT_AUDIO:
		return "audio";
	case CHAT_VIDEO:
		return "video";
	default:
		return "document";
	}
}

static void put_blob(struct writing *w, const char *key, struct str mime, struct str data)
{
	json_obj(&w->o, key);
	json_put_str(&w->o, "mimeType", mime);
	json_put_str(&w->o, "data", data);
	json_obj_end(&w->o);
}

static void put_detail(struct writing *w, struct str detail)
{
	const bool low = str_is(detail, "low"), high = str_is(detail, "high");

	if (!low && !high) {
		if (detail.len > 0 && !str_is(detail, "auto"))
			lose(w, said(w, SAID_detail));
		return;
	}
	if (!w->model.v3) {
		lose(w, said(w, SAID_detail));
		return;
	}
	json_obj(&w->o, "mediaResolution");
	json_put_z(&w->o, "level", low ? "MEDIA_RESOLUTION_LOW" : "MEDIA_RESOLUTION_HIGH");
	json_obj_end(&w->o);
}

static enum rc put_media(struct writing *w, const struct chat_part *p)
{
	const struct str mime = mime_of(p);

	if (p->media.name.len > 0)
		lose(w, said(w, SAID_title));
	if (p->media.text.ptr && !p->media.data.ptr) {
		if (p->media.text.len > 0)
			put_text(w, p->media.text, NULL);
		return RC_OK;
	}
	if (p->media.file_id.ptr || (!p->media.data.ptr && !starts(p->media.url, "https://")))
		return cannot_here(w,
				   kind_of(p)); /* nobody fetches what is kept, or in the clear */
	if (!mime_fits(p, mime))
		return cannot_here(w, kind_of(p));
	json_obj(&w->o, NULL);
	if (p->media.data.ptr) {
		put_blob(w, "inlineData", mime, p->media.data);
	} else {
		json_obj(&w->o, "fileData");
		json_put_str(&w->o, "fileUri", p->media.url);
		json_put_str(&w->o, "mimeType", mime);
		json_obj_end(&w->o);
	}
	if (p->type == CHAT_IMAGE)
		put_detail(w, p->media.detail);
	json_obj_end(&w->o);
	return RC_OK;
}

/* ---- calls and results -------------------------------------------------------------------------------------- */

static enum rc bad_arguments(struct writing *w)
{
	char field[FIELD_BYTES_MAX];

	(void)snprintf(field, sizeof field, "%s[%zu]", said(w, SAID_turns), w->turn);
	(void)err_set(w->err, RC_INVALID, "invalid_request_error",
		      "%s has a tool call whose arguments are no JSON object.", field);
	err_field(w->err, "%s", field);
	return RC_INVALID;
}

static bool is_object(struct arena *mem, struct str text)
{
	struct json *v;

	return json_parse(text, JSON_ALLOW_DUPLICATES, mem, &v, NULL) == RC_OK &&
	       json_type(v) == JSON_OBJECT;
}

/* Of parallel calls the first alone is signed; from generation 3 on a first call without is refused there. */
static void put_signature(struct writing *w, const struct chat_opaque *seal)
{
	if (chat_opaque_fits(seal, w->t))
		json_put_str(&w->o, "thoughtSignature", seal->value);
	else if (!w->call_made && w->model.v3)
		json_put_z(&w->o, "thoughtSignature", GEMINI_FOREIGN_SEAL);
	w->call_made = true;
}

static enum rc put_call(struct writing *w, const struct chat_part *p)
{
	const struct str args = p->arguments.len > 0 ? p->arguments : STR("{}");

	if (!is_object(w->mem, args))
		return bad_arguments(w);
	json_obj(&w->o, NULL);
	json_obj(&w->o, "functionCall");
	if (p->id.len > 0)
		json_put_str(&w->o, "id", p->id);
	json_put_str(&w->o, "name", p->name);
	json_put_raw(&w->o, "args", args);
	json_obj_end(&w->o);
	put_signature(w, &p->opaque);
	json_obj_end(&w->o);
	return RC_OK;
}

static enum rc joined(struct writing *w, const struct chat_part *p, struct str *ret)
{
	struct chat_text text = {0};
	bool first = true;

	for (size_t i = 0; i < p->parts_count; i++) {
		const struct chat_part *one = &p->parts[i];
		const struct str s = one->type == CHAT_TEXT	  ? one->text
				     : one->type == CHAT_DOCUMENT ? one->media.text
								  : STR_NULL;

		if (!s.ptr)
			continue;
		if (!first)
			TRY(chat_text_add(w->mem, &text, STR("\n")));
		TRY(chat_text_add(w->mem, &text, s));
		first = false;
	}
	*ret = chat_text_str(&text);
	return RC_OK;
}

/* Pictures inside a result: in it from generation 3 on, else behind all results of the turn. */
static enum rc put_result_media(struct writing *w, const struct chat_part *p)
{
	bool any = false;

	for (size_t i = 0; i < p->parts_count; i++) {
		const struct chat_part *one = &p->parts[i];

		if (one->type == CHAT_TEXT || (one->type == CHAT_DOCUMENT && one->media.text.ptr))
			continue;
		if (!one->media.data.ptr || !mime_fits(one, mime_of(one)))
			return cannot_here(w, kind_of(one));
		if (!any)
			json_arr(&w->o, "parts");
		any = true;
		json_obj(&w->o, NULL);
		put_blob(w, "inlineData", mime_of(one), one->media.data);
		json_obj_end(&w->o);
	}
	if (any)
		json_arr_end(&w->o);
	return RC_OK;
}

static enum rc put_result(struct writing *w, const struct chat_part *p)
{
	struct str text;

	TRY(joined(w, p, &text));
	json_obj(&w->o, NULL);
	json_obj(&w->o, "functionResponse");
	if (p->id.len > 0)
		json_put_str(&w->o, "id", p->id);
	json_put_str(&w->o, "name", p->name);
	if (!p->is_error && text.len > 1 && text.ptr[0] == '{' && is_object(w->mem, text)) {
		json_put_raw(&w->o, "response", text);
	} else {
		json_obj(&w->o, "response");
		json_put_str(&w->o, p->is_error ? "error" : "result", text);
		json_obj_end(&w->o);
	}
	if (w->model.v3)
		TRY(put_result_media(w, p));
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	return RC_OK;
}

static enum rc put_media_behind(struct writing *w, const struct chat_turn *turn)
{
	for (size_t i = 0; !w->model.v3 && i < turn->parts_count; i++) {
		const struct chat_part *p = &turn->parts[i];

		for (size_t j = 0; p->type == CHAT_TOOL_RESULT && j < p->parts_count; j++)
			if (p->parts[j].type == CHAT_IMAGE ||
			    (p->parts[j].type == CHAT_DOCUMENT && !p->parts[j].media.text.ptr))
				TRY(put_media(w, &p->parts[j]));
	}
	return RC_OK;
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

static void put_thought(struct writing *w, const struct chat_part *p)
{
	if (!chat_opaque_fits(&p->opaque, w->t)) {
		lose(w, said(w, SAID_thoughts)); /* of another maker, or of none */
		return;
	}
	content_open(w, true);
	json_obj(&w->o, NULL);
	json_put_str(&w->o, "text", p->text);
	json_put_bool(&w->o, "thought", true);
	json_put_str(&w->o, "thoughtSignature", p->opaque.value);
	json_obj_end(&w->o);
}

static enum rc put_part(struct writing *w, const struct chat_part *p, bool model)
{
	if (p->cache != CHAT_CACHE_NONE)
		lose(w, said(w, SAID_cache_mark));
	if (p->type == CHAT_REASONING) {
		put_thought(w, p);
		return RC_OK;
	}
	if ((p->type == CHAT_TEXT || p->type == CHAT_REFUSAL) && p->text.len == 0 &&
	    !chat_opaque_fits(&p->opaque, w->t))
		return RC_OK; /* a part without data is refused there */
	content_open(w, model);
	switch (p->type) {
	case CHAT_TEXT:
	case CHAT_REFUSAL:
		put_text(w, p->text, &p->opaque);
		return RC_OK;
	case CHAT_TOOL_CALL:
		return put_call(w, p);
	case CHAT_TOOL_RESULT:
		return put_result(w, p);
	default:
		return put_media(w, p);
	}
}

static bool is_system(const struct chat_turn *turn)
{
	return turn->role == CHAT_SYSTEM || turn->role == CHAT_DEVELOPER;
}

/* How many turns at the front are instructions; where there is nothing else, the last of them is what is asked. */
static size_t leading(const struct chat *chat)
{
	size_t n = 0;

	while (n < chat->turns_count && is_system(&chat->turns[n]))
		n++;
	return n > 0 && n == chat->turns_count ? n - 1 : n;
}

static enum rc put_system(struct writing *w, size_t n)
{
	bool any = false;

	for (w->turn = 0; w->turn < n; w->turn++) {
		const struct chat_turn *turn = &w->chat->turns[w->turn];

		for (size_t i = 0; i < turn->parts_count; i++) {
			const struct chat_part *p = &turn->parts[i];

			if (p->type != CHAT_TEXT)
				return cannot_here(w, "content");
			if (p->cache != CHAT_CACHE_NONE)
				lose(w, said(w, SAID_cache_mark));
			if (p->text.len == 0)
				continue;
			if (!any) {
				json_obj(&w->o, "systemInstruction");
				json_arr(&w->o, "parts");
			}
			any = true;
			put_text(w, p->text, NULL);
		}
	}
	if (any) {
		json_arr_end(&w->o);
		json_obj_end(&w->o);
	}
	return RC_OK;
}

static enum rc put_contents(struct writing *w, size_t from)
{
	json_arr(&w->o, "contents");
	for (w->turn = from; w->turn < w->chat->turns_count; w->turn++) {
		const struct chat_turn *turn = &w->chat->turns[w->turn];
		const bool model = turn->role == CHAT_ASSISTANT;

		if (model && w->open == OPEN_NOTHING)
			return cannot_here(w, "role"); /* no conversation begins with the model */
		for (size_t i = 0; i < turn->parts_count; i++)
			TRY(put_part(w, &turn->parts[i], model));
		if (!model)
			TRY(put_media_behind(w, turn));
	}
	if (w->open == OPEN_NOTHING)
		return cannot(w, said(w, SAID_turns)); /* nothing is asked */
	contents_close(w);
	return RC_OK;
}

/* ---- tools ---------------------------------------------------------------------------------------------------------- */

static bool is_function_name(struct str s)
{
	if (s.len == 0 || s.len > NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		const char c = s.ptr[i];
		const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
		const bool later = (c >= '0' && c <= '9') || c == '.' || c == ':' || c == '-';

		if (!letter && (i == 0 || !later))
			return false;
	}
	return true;
}

static enum rc cannot_tool(struct writing *w, size_t i, const char *what)
{
	char field[FIELD_BYTES_MAX];

	(void)snprintf(field, sizeof field, "%s[%zu]%s", said(w, SAID_tools), i, what);
	return cannot(w, field);
}

static enum rc put_function(struct writing *w, size_t i)
{
	const struct chat_tool *t = &w->chat->tools[i];

	if (t->kind == CHAT_TOOL_CUSTOM)
		return cannot_tool(w, i, ".custom");
	if (t->kind != CHAT_TOOL_FUNCTION)
		return cannot_tool(w, i, ".type");
	if (!is_function_name(t->name))
		return cannot_tool(w, i, ".name");
	if (t->strict == 1)
		lose(w, said(w, SAID_strict));
	if (t->cache != CHAT_CACHE_NONE)
		lose(w, said(w, SAID_cache_mark));
	json_obj(&w->o, NULL);
	json_put_str(&w->o, "name", t->name);
	if (t->description.len > 0)
		json_put_str(&w->o, "description", t->description);
	if (t->parameters)
		json_put_value(&w->o, "parametersJsonSchema", t->parameters);
	json_obj_end(&w->o);
	return RC_OK;
}

static const char *choice_mode(enum chat_choice c)
{
	switch (c) {
	case CHAT_CHOICE_NONE:
		return "NONE";
	case CHAT_CHOICE_REQUIRED:
	case CHAT_CHOICE_NAMED:
	case CHAT_CHOICE_ALLOWED_REQUIRED:
		return "ANY";
	case CHAT_CHOICE_ALLOWED_AUTO:
		return "VALIDATED"; /* AUTO takes no list of names */
	default:
		return "AUTO";
	}
}

static void put_choice(struct writing *w)
{
	const struct chat *c = w->chat;

	if (c->choice == CHAT_CHOICE_UNSAID)
		return;
	json_obj(&w->o, "toolConfig");
	json_obj(&w->o, "functionCallingConfig");
	json_put_z(&w->o, "mode", choice_mode(c->choice));
	if (c->choice >= CHAT_CHOICE_NAMED && c->choice_names_count > 0) {
		json_arr(&w->o, "allowedFunctionNames");
		for (size_t i = 0; i < c->choice_names_count; i++)
			json_put_str(&w->o, NULL, c->choice_names[i]);
		json_arr_end(&w->o);
	}
	json_obj_end(&w->o);
	json_obj_end(&w->o);
}

static enum rc put_tools(struct writing *w)
{
	const struct chat *c = w->chat;

	if (c->tools_count == 0)
		return RC_OK;
	json_arr(&w->o, "tools");
	json_obj(&w->o, NULL);
	json_arr(&w->o, "functionDeclarations");
	for (size_t i = 0; i < c->tools_count; i++)
		TRY(put_function(w, i));
	json_arr_end(&w->o);
	json_obj_end(&w->o);
	json_arr_end(&w->o);
	put_choice(w);
	if (c->parallel_tools == 0)
		lose(w, said(w, SAID_parallel));
	return RC_OK;
}

/* ---- generationConfig ---------------------------------------------------------------------------------------------- */

static void put_number(struct writing *w, const char *key, const struct json *v)
{
	if (v)
		json_put_value(&w->o, key, v);
}

/* A budget as the nearest of the efforts that others name. */
static enum chat_effort effort_wanted(const struct chat *c)
{
	if (c->effort != CHAT_EFFORT_UNSAID)
		return c->effort;
	if (c->reasoning_tokens < 0)
		return CHAT_EFFORT_UNSAID;
	if (c->reasoning_tokens == 0)
		return CHAT_EFFORT_none;
	if (c->reasoning_tokens <= 1024)
		return CHAT_EFFORT_minimal;
	if (c->reasoning_tokens <= 4096)
		return CHAT_EFFORT_low;
	return c->reasoning_tokens <= 8192 ? CHAT_EFFORT_medium : CHAT_EFFORT_high;
}

/* Generation 3 cannot be kept from thinking, and its large models not below LOW: told as a loss. */
static const char *level_of(struct writing *w, enum chat_effort e)
{
	if (e == CHAT_EFFORT_none)
		lose(w, said(w, SAID_effort));
	if (e == CHAT_EFFORT_none || e == CHAT_EFFORT_minimal)
		return w->model.flash ? "MINIMAL" : "LOW";
	if (e == CHAT_EFFORT_low)
		return "LOW";
	return e == CHAT_EFFORT_medium ? "MEDIUM" : "HIGH";
}

/* translation.md 5; of 2.5 only the flash models can be kept from thinking, the others take 128 to 32768. */
static int64_t budget_of(struct writing *w, enum chat_effort e)
{
	static const int64_t budgets[] = {
		[CHAT_EFFORT_none] = 0,	    [CHAT_EFFORT_minimal] = 1024,
		[CHAT_EFFORT_low] = 4096,   [CHAT_EFFORT_medium] = 8192,
		[CHAT_EFFORT_high] = 24576, [CHAT_EFFORT_xhigh] = 24576,
		[CHAT_EFFORT_max] = 24576,
	};
	int64_t n = w->chat->effort == CHAT_EFFORT_UNSAID ? w->chat->reasoning_tokens : budgets[e];

	if (n > budgets[CHAT_EFFORT_max])
		n = budgets[CHAT_EFFORT_max];
	if (!w->model.flash && n < 128) {
		if (n == 0)
			lose(w, said(w, SAID_effort));
		n = 128;
	}
	return n;
}

static void put_thinking(struct writing *w)
{
	const enum chat_effort e = effort_wanted(w->chat);
	const bool shown = w->chat->reasoning_shown == 1 && e != CHAT_EFFORT_none;

	if (e == CHAT_EFFORT_UNSAID && !shown)
		return;
	if (!w->model.v3 && !w->model.v25) {
		if (e != CHAT_EFFORT_none) /* it does not think anyway */
			lose(w, said(w, SAID_effort));
		return;
	}
	json_obj(&w->o, "thinkingConfig");
	if (shown)
		json_put_bool(&w->o, "includeThoughts", true);
	if (e != CHAT_EFFORT_UNSAID && w->model.v3)
		json_put_z(&w->o, "thinkingLevel", level_of(w, e));
	else if (e != CHAT_EFFORT_UNSAID)
		json_put_int(&w->o, "thinkingBudget", budget_of(w, e));
	json_obj_end(&w->o);
}

static enum rc put_format(struct writing *w)
{
	const struct chat *c = w->chat;

	if (c->format == CHAT_FORMAT_TEXT)
		return RC_OK;
	if (!w->model.v3 && c->tools_count > 0 && c->choice != CHAT_CHOICE_NONE)
		return cannot(w,
			      said(w, SAID_format)); /* not beside functions before generation 3 */
	json_put_z(&w->o, "responseMimeType", "application/json");
	if (c->format == CHAT_FORMAT_SCHEMA && c->schema)
		json_put_value(&w->o, "responseJsonSchema", c->schema);
	if (c->schema_name.len > 0)
		lose(w, said(w, SAID_schema_name));
	if (c->schema_description.len > 0)
		lose(w, said(w, SAID_schema_words));
	if (c->schema_strict == 1)
		lose(w, said(w, SAID_strict));
	return RC_OK;
}

static enum rc put_stops(struct writing *w)
{
	const struct chat *c = w->chat;

	if (c->stop_count == 0)
		return RC_OK;
	if (c->stop_count > STOPS_MAX)
		return cannot(w, said(w, SAID_stop));
	json_arr(&w->o, "stopSequences");
	for (size_t i = 0; i < c->stop_count; i++)
		json_put_str(&w->o, NULL, c->stop[i]);
	json_arr_end(&w->o);
	return RC_OK;
}

static enum rc put_config(struct writing *w)
{
	const struct chat *c = w->chat;
	const int64_t max = w->call->max_output > 0 ? w->call->max_output : w->t->max_output_cap;

	if (w->call->choices > GEMINI_CHOICES_MAX)
		return cannot(w, said(w, SAID_choices));
	json_obj(&w->o, "generationConfig");
	if (max > 0)
		json_put_int(&w->o, "maxOutputTokens", max);
	if (w->call->choices > 1)
		json_put_int(&w->o, "candidateCount", w->call->choices);
	put_number(w, "temperature", c->temperature);
	put_number(w, "topP", c->top_p);
	put_number(w, "topK", c->top_k);
	put_number(w, "seed", c->seed);
	put_number(w, "presencePenalty", c->presence_penalty);
	put_number(w, "frequencyPenalty", c->frequency_penalty);
	TRY(put_stops(w));
	TRY(put_format(w));
	put_thinking(w);
	json_obj_end(&w->o);
	return RC_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static void put_tier(struct writing *w)
{
	const struct str tier = w->chat->service_tier;

	if (tier.len == 0 || str_is(tier, "auto"))
		return;
	if (str_is(tier, "flex") || str_is(tier, "priority"))
		json_put_str(&w->o, "serviceTier", tier);
	else if (str_is(tier, "default") || str_is(tier, "standard") ||
		 str_is(tier, "standard_only"))
		json_put_z(&w->o, "serviceTier", "standard");
	else
		lose(w, "service_tier");
}

/* What an answer of this dialect could not carry back, and what it never hears of. */
static enum rc refuse(struct writing *w)
{
	const struct chat *c = w->chat;
	bool wanted = true;

	TRY(chat_check_needs(c, w->t, w->err));
	if (c->logprobs && (!json_bool(c->logprobs, &wanted) || wanted))
		return cannot(w, "logprobs");
	if (json_len(c->logit_bias) > 0)
		return cannot(w, "logit_bias");
	return RC_OK;
}

static void lose_hints(struct writing *w)
{
	const struct chat *c = w->chat;

	for (size_t i = 0; i < c->hints_count; i++)
		chat_lose(w->losses, c->hints[i]);
	if (c->verbosity.ptr)
		lose(w, "verbosity");
	if (c->end_user.ptr)
		lose(w, said(w, SAID_end_user));
	if (c->cache_key.ptr)
		lose(w, "prompt_cache_key");
	if (c->metadata)
		lose(w, "metadata");
}

static enum rc put_question(struct writing *w)
{
	const size_t system = leading(w->chat);

	TRY(put_system(w, system));
	TRY(put_contents(w, system));
	TRY(put_tools(w));
	if (w->call->operation == OPERATION_chat)
		put_tier(w);
	return put_config(w);
}

/* countTokens takes the whole question only wrapped, and with the model named in it. */
static enum rc put_count(struct writing *w)
{
	const struct str bare = str_starts(w->t->model, STR("models/"))
					? str_slice(w->t->model, 7, w->t->model.len)
					: w->t->model;

	json_obj(&w->o, "generateContentRequest");
	json_put_str(&w->o, "model", arena_printf(w->mem, "models/%.*s", STR_FMT(bare)));
	TRY(put_question(w));
	json_obj_end(&w->o);
	return RC_OK;
}

enum rc gemini_encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err)
{
	struct writing w = {
		.call = c,
		.chat = &ask->chat,
		.t = t,
		.model = gemini_model_of(t->model),
		.mem = mem,
		.losses = &out->losses,
		.err = err,
	};

	TRY(refuse(&w));
	lose_hints(&w);
	json_out_begin(&w.o, out->body);
	json_obj(&w.o, NULL);
	TRY(ask->operation == OPERATION_count_tokens ? put_count(&w) : put_question(&w));
	json_obj_end(&w.o);
	return json_out_end(&w.o);
}
