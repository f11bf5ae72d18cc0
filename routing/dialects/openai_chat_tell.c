/* routing/dialects/openai_chat_tell.c - what was asked in another dialect, as a chat completions request.
 *
 * Sends only what this provider is known to take: its row of quirks (provider.h) says what that is. What it has no words for is
 * left out by its name in the caller's request, or refused before anything is spent. State that somebody else made
 * (chat_opaque_fits()) never leaves; where it does fit, it is read before it is written, because it came from outside. */
#include "routing/dialects/openai_priv.h"

#include <stdio.h>

#include "routing/provider.h"

#define STOPS_MAX	4  /* the API's own limit */
#define NAME_CHARS_MAX	64 /* of a function, of a schema */
#define CALL_ID_MAX	40 /* of a call's id at OpenAI */
#define CALL_ID_MADE	24
#define FIELD_BYTES_MAX 96

struct telling {
	const struct call *c;
	const struct chat *chat;
	const struct dialect_target *t;
	const struct provider_chat *q;
	struct arena *mem;
	struct chat_losses *losses;
	struct err *err;
	struct json_out o;
	enum chat_effort effort; /* asked for, a budget being one too; UNSAID: nothing was */
	bool reasoning_back;	 /* earlier reasoning goes with the turns */
	bool thinking_off;
};

/* What the caller calls it: OpenAI's name, but in the dialects that have another. */
enum param {
	P_choices,
	P_stop,
	P_logprobs,
	P_effort,
	P_top_p,
	P_top_k,
	P_presence,
	P_frequency,
	P_temperature,
	P_seed,
	P_user,
	P_verbosity,
	P_parallel,
	P_choice,
	P_format,
	P_schema_name,
	P_messages,
	P_cache,
	P_detail,
	P_tier,
	P_metadata,
	P_reasoning,
	P_title,
	P_error
};

static const struct {
	const char *chat, *responses, *anthropic, *gemini; /* NULL: as in chat */
} names[] = {
	[P_choices] = {"n", NULL, NULL, "generationConfig.candidateCount"},
	[P_stop] = {"stop", NULL, "stop_sequences", "generationConfig.stopSequences"},
	[P_logprobs] = {"logprobs", "top_logprobs", NULL, "generationConfig.responseLogprobs"},
	[P_effort] = {"reasoning_effort", "reasoning", "thinking",
		      "generationConfig.thinkingConfig"},
	[P_top_p] = {"top_p", NULL, NULL, "generationConfig.topP"},
	[P_top_k] = {"top_k", NULL, NULL, "generationConfig.topK"},
	[P_presence] = {"presence_penalty", NULL, NULL, "generationConfig.presencePenalty"},
	[P_frequency] = {"frequency_penalty", NULL, NULL, "generationConfig.frequencyPenalty"},
	[P_temperature] = {"temperature", NULL, NULL, "generationConfig.temperature"},
	[P_seed] = {"seed", NULL, NULL, "generationConfig.seed"},
	[P_user] = {"user", "safety_identifier", "metadata.user_id", NULL},
	[P_verbosity] = {"verbosity", "text.verbosity", NULL, NULL},
	[P_parallel] = {"parallel_tool_calls", NULL, "tool_choice.disable_parallel_tool_use", NULL},
	[P_choice] = {"tool_choice", NULL, NULL, "toolConfig"},
	[P_format] = {"response_format", "text.format", "output_config.format",
		      "generationConfig.responseMimeType"},
	[P_schema_name] = {"response_format.json_schema.name", "text.format.name", NULL, NULL},
	[P_messages] = {"messages", "input", NULL, "contents"},
	[P_cache] = {"prompt_cache_breakpoint", NULL, "cache_control", NULL},
	[P_detail] = {"image_url.detail", "input_image.detail", NULL,
		      "generationConfig.mediaResolution"},
	[P_tier] = {"service_tier", NULL, NULL, "serviceTier"},
	[P_metadata] = {"metadata", NULL, NULL, "labels"},
	[P_reasoning] = {"messages.reasoning_content", "input.reasoning", "messages.thinking",
			 "contents.parts.thought"},
	[P_title] = {"file.filename", "input_file.filename", "document.title",
		     "inlineData.displayName"},
	[P_error] = {"tool.is_error", NULL, "tool_result.is_error",
		     "functionResponse.response.error"},
};

static const char *said(const struct telling *w, enum param p)
{
	const struct str dialect = str_from(w->c->dialect->name);
	const char *name = NULL;

	if (str_is(dialect, "openai_responses"))
		name = names[p].responses;
	else if (str_is(dialect, "anthropic_messages"))
		name = names[p].anthropic;
	else if (str_is(dialect, "gemini"))
		name = names[p].gemini;
	return name ? name : names[p].chat;
}

static bool has(const struct telling *w, uint32_t quirks)
{
	return (w->q->quirks & quirks) != 0;
}

static void lose(struct telling *w, enum param p)
{
	chat_lose(w->losses, str_from(said(w, p)));
}

static enum rc cannot(const struct telling *w, enum param p)
{
	return chat_cannot(w->err, w->t->provider->label, said(w, p));
}

/* A kind of content that there is no part for. */
static enum rc cannot_say(const struct telling *w, const char *what)
{
	char field[FIELD_BYTES_MAX];

	(void)snprintf(field, sizeof field, "%s.%s", said(w, P_messages), what);
	return chat_cannot(w->err, w->t->provider->label, field);
}

/* ---- reasoning: how much, and what of earlier turns ---------------------------------------------------- */

/* A budget as the effort whose usual budget it is (translation.md 5). */
static enum chat_effort effort_of(const struct chat *chat)
{
	const int64_t n = chat->reasoning_tokens;

	if (chat->effort != CHAT_EFFORT_UNSAID || n < 0)
		return chat->effort;
	return n == 0	   ? CHAT_EFFORT_none
	       : n <= 1024 ? CHAT_EFFORT_minimal
	       : n <= 4096 ? CHAT_EFFORT_low
	       : n <= 8192 ? CHAT_EFFORT_medium
			   : CHAT_EFFORT_high;
}

/* The nearest that the target has; of two, the one nearer to `high`. UNSAID: it has none. */
static enum chat_effort effort_near(uint32_t efforts, enum chat_effort want)
{
	enum chat_effort best = CHAT_EFFORT_UNSAID;
	int best_far = 100;

	for (int e = CHAT_EFFORT_minimal; e <= CHAT_EFFORT_max; e++) {
		const int off = e > (int)want ? e - (int)want : (int)want - e;
		const int far = 2 * off + (e != CHAT_EFFORT_high);

		if ((efforts & (1u << e)) && far < best_far) {
			best = (enum chat_effort)e;
			best_far = far;
		}
	}
	return best;
}

static bool has_call(const struct chat_turn *t)
{
	for (size_t i = 0; i < t->parts_count; i++)
		if (t->parts[i].type == CHAT_TOOL_CALL)
			return true;
	return false;
}

static bool has_reasoning(const struct chat_turn *t)
{
	for (size_t i = 0; i < t->parts_count; i++)
		if (t->parts[i].type == CHAT_REASONING && t->parts[i].text.len > 0)
			return true;
	return false;
}

/* Where tools are in play a turn that lacks its reasoning is a 400: the model must not think then (translation.md 7). */
static enum rc plan_reasoning(struct telling *w)
{
	const struct chat *chat = w->chat;
	bool lacking = false, calls = false;

	w->effort = effort_of(chat);
	w->thinking_off = has(w, QUIRK_THINKING) && w->effort == CHAT_EFFORT_none;
	for (size_t i = 0; i < chat->turns_count; i++) {
		const struct chat_turn *t = &chat->turns[i];

		if (t->role != CHAT_ASSISTANT)
			continue;
		calls |= has_call(t);
		lacking |= (has_call(t) || has(w, QUIRK_REASONING_ALL)) && !has_reasoning(t);
	}
	if (!has(w, QUIRK_REASONING_BACK) || (!calls && chat->tools_count == 0) || w->thinking_off)
		return RC_OK;
	w->reasoning_back = !lacking;
	if (!lacking)
		return RC_OK;
	if (!has(w, QUIRK_THINKING))
		return cannot_say(w, "reasoning");
	w->thinking_off = true;
	lose(w, P_effort);
	return RC_OK;
}

static void tell_openrouter_reasoning(struct telling *w)
{
	const struct chat *chat = w->chat;

	if (w->effort == CHAT_EFFORT_UNSAID && chat->reasoning_shown < 0)
		return;
	json_obj(&w->o, "reasoning");
	if (chat->reasoning_tokens > 0)
		json_put_int(&w->o, "max_tokens", chat->reasoning_tokens);
	else if (w->effort != CHAT_EFFORT_UNSAID)
		json_put_z(&w->o, "effort", chat_effort_name(w->effort));
	if (chat->reasoning_shown >= 0)
		json_put_bool(&w->o, "exclude", chat->reasoning_shown == 0);
	json_obj_end(&w->o);
}

static void tell_reasoning(struct telling *w)
{
	const uint32_t efforts = w->q->efforts;
	enum chat_effort e = w->effort;

	if (has(w, QUIRK_OPENROUTER)) {
		tell_openrouter_reasoning(w);
		return;
	}
	if (has(w, QUIRK_THINKING) && (w->thinking_off || e != CHAT_EFFORT_UNSAID)) {
		json_obj(&w->o, "thinking");
		json_put_z(&w->o, "type", w->thinking_off ? "disabled" : "enabled");
		json_obj_end(&w->o);
	}
	if (e == CHAT_EFFORT_UNSAID || w->thinking_off)
		return;
	if (e == CHAT_EFFORT_none && (efforts & (1u << e))) {
		json_put_z(&w->o, "reasoning_effort", "none");
		return;
	}
	if (e == CHAT_EFFORT_none) { /* a model that does not reason does as asked */
		if (efforts || has(w, QUIRK_REASONING_BACK))
			lose(w, P_effort);
		return;
	}
	e = effort_near(efforts, e);
	if (e != CHAT_EFFORT_UNSAID)
		json_put_z(&w->o, "reasoning_effort", chat_effort_name(e));
	else if (!has(w, QUIRK_THINKING))
		lose(w, P_effort);
}

/* ---- content -------------------------------------------------------------------------------------------- */

static void tell_cache(struct telling *w, enum chat_cache cache)
{
	if (cache == CHAT_CACHE_NONE)
		return;
	if (has(w, QUIRK_OPENROUTER)) {
		json_obj(&w->o, "cache_control");
		json_put_z(&w->o, "type", "ephemeral");
		if (cache == CHAT_CACHE_1H)
			json_put_z(&w->o, "ttl", "1h");
		json_obj_end(&w->o);
	} else if (has(w, QUIRK_CACHE_BREAKPOINT)) {
		json_obj(&w->o, "prompt_cache_breakpoint");
		json_put_z(&w->o, "mode", "explicit");
		json_obj_end(&w->o);
	} else {
		lose(w, P_cache);
	}
}

static bool is_web(struct str url)
{
	return str_eq_nocase(str_slice(url, 0, 8), STR("https://")) ||
	       str_eq_nocase(str_slice(url, 0, 7), STR("http://"));
}

/* `url` or inline as a URL; ptr NULL: neither. */
static struct str url_of(const struct telling *w, const struct chat_media *m)
{
	if (m->data.ptr)
		return chat_data_url_make(w->mem, m);
	return m->url.ptr && is_web(m->url) ? m->url : STR_NULL;
}

static enum rc tell_image(struct telling *w, const struct chat_part *p)
{
	const struct chat_media *m = &p->media;
	const struct str url = url_of(w, m);

	if (!url.ptr || (has(w, QUIRK_NO_IMAGE_URLS) && !m->data.ptr))
		return cannot_say(w, m->file_id.ptr ? "image.file_id" : "image.url");
	if (url.len == 0)
		return RC_TOO_LARGE;
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", "image_url");
	json_obj(&w->o, "image_url");
	json_put_str(&w->o, "url", url);
	if (str_is(m->detail, "auto") || str_is(m->detail, "low") || str_is(m->detail, "high"))
		json_put_str(&w->o, "detail", m->detail);
	else if (m->detail.len)
		lose(w, P_detail);
	json_obj_end(&w->o);
	tell_cache(w, p->cache);
	json_obj_end(&w->o);
	return RC_OK;
}

static const char *audio_format(struct str mime)
{
	static const struct {
		const char *mime, *format;
	} formats[] = {{"audio/wav", "wav"}, {"audio/x-wav", "wav"}, {"audio/wave", "wav"},
		       {"audio/mp3", "mp3"}, {"audio/mpeg", "mp3"},  {"audio/x-mp3", "mp3"}};

	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (str_is(mime, formats[i].mime))
			return formats[i].format;
	return NULL;
}

static enum rc tell_audio(struct telling *w, const struct chat_part *p)
{
	const char *format = audio_format(p->media.mime);

	if (!p->media.data.ptr || !format)
		return cannot_say(w, "audio");
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", "input_audio");
	if (has(w, QUIRK_MISTRAL)) {
		json_put_str(&w->o, "input_audio", p->media.data);
	} else {
		json_obj(&w->o, "input_audio");
		json_put_str(&w->o, "data", p->media.data);
		json_put_z(&w->o, "format", format);
		json_obj_end(&w->o);
	}
	json_obj_end(&w->o);
	return RC_OK;
}

static void tell_text_part(struct telling *w, struct str text, enum chat_cache cache)
{
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", "text");
	json_put_str(&w->o, "text", text);
	tell_cache(w, cache);
	json_obj_end(&w->o);
}

static enum rc tell_document(struct telling *w, const struct chat_part *p)
{
	const struct chat_media *m = &p->media;
	const struct str name = m->name.len ? m->name : STR("document.pdf");
	const struct str url = url_of(w, m);

	if (m->text.ptr) {
		if (m->name.len)
			lose(w, P_title);
		tell_text_part(w, m->text, p->cache);
		return RC_OK;
	}
	if (!url.ptr || !has(w, QUIRK_OPENAI | QUIRK_OPENROUTER | QUIRK_MISTRAL) ||
	    (!m->data.ptr && has(w, QUIRK_OPENAI)))
		return cannot_say(w, m->file_id.ptr ? "file.file_id" : "file");
	if (url.len == 0)
		return RC_TOO_LARGE;
	json_obj(&w->o, NULL);
	if (has(w, QUIRK_MISTRAL)) {
		json_put_z(&w->o, "type", "document_url");
		json_put_str(&w->o, "document_url", url);
		json_put_str(&w->o, "document_name", name);
	} else {
		json_put_z(&w->o, "type", "file");
		json_obj(&w->o, "file");
		json_put_str(&w->o, "filename", name);
		json_put_str(&w->o, "file_data", url);
		json_obj_end(&w->o);
	}
	tell_cache(w, p->cache);
	json_obj_end(&w->o);
	return RC_OK;
}

static enum rc tell_part(struct telling *w, const struct chat_part *p)
{
	switch (p->type) {
	case CHAT_TEXT:
	case CHAT_REFUSAL:
		tell_text_part(w, p->text, p->cache);
		return RC_OK;
	case CHAT_IMAGE:
		return tell_image(w, p);
	case CHAT_AUDIO:
		return tell_audio(w, p);
	case CHAT_DOCUMENT:
		return tell_document(w, p);
	case CHAT_VIDEO:
		return cannot_say(w, "video");
	case CHAT_TOOL_CALL:
	case CHAT_TOOL_RESULT:
	case CHAT_REASONING:
		break;
	}
	return RC_OK;
}

static bool is_content(const struct chat_part *p)
{
	return p->type != CHAT_TOOL_CALL && p->type != CHAT_TOOL_RESULT &&
	       p->type != CHAT_REASONING;
}

static bool is_plain(const struct telling *w, const struct chat_part *p)
{
	const bool marks = has(w, QUIRK_OPENROUTER | QUIRK_CACHE_BREAKPOINT);

	return (p->type == CHAT_TEXT || p->type == CHAT_REFUSAL) &&
	       (!marks || p->cache == CHAT_CACHE_NONE);
}

/* A string where it is one text, and where it is several but the target may not know arrays. NULL between: never joined. */
static enum rc tell_content(struct telling *w, const struct chat_part *parts, size_t n,
			    const char *between)
{
	struct chat_text text = {0};
	size_t contents = 0, plain = 0;

	for (size_t i = 0; i < n; i++) {
		contents += is_content(&parts[i]);
		plain += is_content(&parts[i]) && is_plain(w, &parts[i]);
	}
	if (plain < contents || (contents > 1 && !between)) {
		json_arr(&w->o, "content");
		for (size_t i = 0; i < n; i++)
			TRY(tell_part(w, &parts[i]));
		json_arr_end(&w->o);
		return RC_OK;
	}
	for (size_t i = 0; i < n; i++) {
		if (!is_content(&parts[i]))
			continue;
		if (parts[i].cache != CHAT_CACHE_NONE)
			lose(w, P_cache);
		if (contents == 1) {
			json_put_str(&w->o, "content", parts[i].text);
			return RC_OK;
		}
		if (text.len)
			TRY(chat_text_add(w->mem, &text, str_from(between)));
		TRY(chat_text_add(w->mem, &text, parts[i].text));
	}
	json_put_str(&w->o, "content", chat_text_str(&text));
	return RC_OK;
}

/* ---- turns ------------------------------------------------------------------------------------------------ */

bool openai_chat_id_is_nine(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!(id.ptr[i] >= '0' && id.ptr[i] <= '9') &&
		    !(id.ptr[i] >= 'a' && id.ptr[i] <= 'z') &&
		    !(id.ptr[i] >= 'A' && id.ptr[i] <= 'Z'))
			return false;
	return id.len == 9;
}

static bool id_is_short(struct str id)
{
	return id.len >= 1 && id.len <= CALL_ID_MAX;
}

static struct str call_id(const struct telling *w, struct str id)
{
	return has(w, QUIRK_NINE_CHAR_IDS)
		       ? chat_call_id(w->mem, id, "", 9, openai_chat_id_is_nine)
		       : chat_call_id(w->mem, id, "call_", CALL_ID_MADE, id_is_short);
}

static enum rc tell_result(struct telling *w, const struct chat_part *p)
{
	for (size_t i = 0; i < p->parts_count; i++)
		if (p->parts[i].type != CHAT_TEXT && !has(w, QUIRK_OPENROUTER | QUIRK_MISTRAL))
			return cannot_say(w, "tool_result.image");
	if (p->cache != CHAT_CACHE_NONE)
		lose(w, P_cache);
	if (p->is_error)
		lose(w, P_error); /* its words are all that says so here */
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "role", "tool");
	json_put_str(&w->o, "tool_call_id", call_id(w, p->id));
	TRY(tell_content(w, p->parts, p->parts_count, "\n"));
	json_obj_end(&w->o);
	return RC_OK;
}

/* Results are messages of their own, before what else the turn says. */
static enum rc tell_user(struct telling *w, const struct chat_turn *t)
{
	bool results = false, rest = false;

	for (size_t i = 0; i < t->parts_count; i++) {
		rest |= is_content(&t->parts[i]);
		if (t->parts[i].type != CHAT_TOOL_RESULT)
			continue;
		results = true;
		TRY(tell_result(w, &t->parts[i]));
	}
	if (results && !rest)
		return RC_OK;
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "role", "user");
	TRY(tell_content(w, t->parts, t->parts_count, NULL));
	json_obj_end(&w->o);
	return RC_OK;
}

static enum rc tell_system(struct telling *w, const struct chat_turn *t)
{
	const bool developer = t->role == CHAT_DEVELOPER && has(w, QUIRK_OPENAI | QUIRK_OPENROUTER);

	json_obj(&w->o, NULL);
	json_put_z(&w->o, "role", developer ? "developer" : "system");
	TRY(tell_content(w, t->parts, t->parts_count, "\n\n"));
	json_obj_end(&w->o);
	return RC_OK;
}

/* OpenRouter's details, gathered from the answer as an array and given back as they were. */
static enum rc tell_details(struct telling *w, const struct chat_turn *t)
{
	bool open = false;

	for (size_t i = 0; i < t->parts_count; i++) {
		const struct chat_part *p = &t->parts[i];
		struct json_iter it;
		struct json *root, *v;

		if (p->type != CHAT_REASONING || !chat_opaque_fits(&p->opaque, w->t) ||
		    json_parse(p->opaque.value, JSON_ALLOW_DUPLICATES, w->mem, &root, NULL) !=
			    RC_OK ||
		    json_type(root) != JSON_ARRAY)
			continue;
		if (!open)
			json_arr(&w->o, "reasoning_details");
		open = true;
		it = json_iter(root);
		while (json_next(&it, NULL, &v))
			json_put_value(&w->o, NULL, v);
	}
	if (open)
		json_arr_end(&w->o);
	return RC_OK;
}

static enum rc tell_reasoning_back(struct telling *w, const struct chat_turn *t)
{
	struct chat_text text = {0};

	for (size_t i = 0; i < t->parts_count; i++)
		if (t->parts[i].type == CHAT_REASONING)
			TRY(chat_text_add(w->mem, &text, t->parts[i].text));
	if (text.len)
		json_put_str(&w->o, "reasoning_content", chat_text_str(&text));
	return RC_OK;
}

static void tell_call(struct telling *w, const struct chat_part *p)
{
	json_obj(&w->o, NULL);
	json_put_str(&w->o, "id", call_id(w, p->id));
	json_put_z(&w->o, "type", "function");
	json_obj(&w->o, "function");
	json_put_str(&w->o, "name", p->name);
	json_put_str(&w->o, "arguments", p->arguments);
	json_obj_end(&w->o);
	if (chat_opaque_fits(&p->opaque, w->t)) {
		json_obj(&w->o, "extra_content");
		json_obj(&w->o, "google");
		json_put_str(&w->o, "thought_signature", p->opaque.value);
		json_obj_end(&w->o);
		json_obj_end(&w->o);
	}
	json_obj_end(&w->o);
}

static void tell_calls(struct telling *w, const struct chat_turn *t)
{
	if (!has_call(t))
		return;
	json_arr(&w->o, "tool_calls");
	for (size_t i = 0; i < t->parts_count; i++)
		if (t->parts[i].type == CHAT_TOOL_CALL)
			tell_call(w, &t->parts[i]);
	json_arr_end(&w->o);
}

/* Mistral's thinking stands in the content, before the rest; only its own goes back. */
static enum rc tell_thinking_chunks(struct telling *w, const struct chat_turn *t)
{
	json_arr(&w->o, "content");
	for (size_t i = 0; i < t->parts_count; i++) {
		const struct chat_part *p = &t->parts[i];

		if (p->type != CHAT_REASONING)
			TRY(tell_part(w, p));
		if (p->type != CHAT_REASONING || !chat_opaque_fits(&p->opaque, w->t))
			continue;
		json_obj(&w->o, NULL);
		json_put_z(&w->o, "type", "thinking");
		json_arr(&w->o, "thinking");
		tell_text_part(w, p->text, CHAT_CACHE_NONE);
		json_arr_end(&w->o);
		json_put_str(&w->o, "signature", p->opaque.value);
		json_obj_end(&w->o);
	}
	json_arr_end(&w->o);
	return RC_OK;
}

static enum rc tell_said(struct telling *w, const struct chat_turn *t, bool content)
{
	const char *between = has(w, QUIRK_OPENAI | QUIRK_OPENROUTER | QUIRK_MISTRAL) ? NULL : "";

	if (has(w, QUIRK_MISTRAL))
		for (size_t i = 0; i < t->parts_count; i++)
			if (t->parts[i].type == CHAT_REASONING &&
			    chat_opaque_fits(&t->parts[i].opaque, w->t))
				return tell_thinking_chunks(w, t);
	if (content)
		return tell_content(w, t->parts, t->parts_count, between);
	json_put_null(&w->o, "content");
	return RC_OK;
}

/* Is there reasoning in it that goes nowhere? */
static bool reasoning_stays(const struct telling *w, const struct chat_turn *t)
{
	for (size_t i = 0; !w->reasoning_back && i < t->parts_count; i++)
		if (t->parts[i].type == CHAT_REASONING && t->parts[i].text.len &&
		    !(has(w, QUIRK_OPENROUTER | QUIRK_MISTRAL) &&
		      chat_opaque_fits(&t->parts[i].opaque, w->t)))
			return true;
	return false;
}

/* A turn that was nothing but reasoning has nothing to be sent. */
static enum rc tell_assistant(struct telling *w, const struct chat_turn *t)
{
	bool content = false;

	for (size_t i = 0; i < t->parts_count; i++) {
		if (!is_content(&t->parts[i]))
			continue;
		content = true;
		if (t->parts[i].type != CHAT_TEXT && t->parts[i].type != CHAT_REFUSAL)
			return cannot_say(w, "assistant.image");
	}
	if (reasoning_stays(w, t))
		lose(w, P_reasoning);
	if (!content && !has_call(t))
		return RC_OK;
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "role", "assistant");
	TRY(tell_said(w, t, content));
	if (w->reasoning_back)
		TRY(tell_reasoning_back(w, t));
	if (has(w, QUIRK_OPENROUTER))
		TRY(tell_details(w, t));
	tell_calls(w, t);
	json_obj_end(&w->o);
	return RC_OK;
}

static enum rc tell_turns(struct telling *w)
{
	size_t before;

	json_arr(&w->o, "messages");
	before = w->o.buf->len;
	for (size_t i = 0; i < w->chat->turns_count; i++) {
		const struct chat_turn *t = &w->chat->turns[i];

		if (t->role == CHAT_USER)
			TRY(tell_user(w, t));
		else if (t->role == CHAT_ASSISTANT)
			TRY(tell_assistant(w, t));
		else
			TRY(tell_system(w, t));
	}
	if (w->o.rc == RC_OK && w->o.buf->len == before)
		return cannot(w, P_messages); /* nothing is asked */
	json_arr_end(&w->o);
	return RC_OK;
}

/* ---- tools ------------------------------------------------------------------------------------------------ */

static bool name_fits(struct str name)
{
	for (size_t i = 0; i < name.len; i++) {
		const char c = name.ptr[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    c != '_' && c != '-')
			return false;
	}
	return name.len >= 1 && name.len <= NAME_CHARS_MAX;
}

static enum rc tell_tool(struct telling *w, const struct chat_tool *tool, size_t i)
{
	char field[FIELD_BYTES_MAX];

	(void)snprintf(field, sizeof field, "tools[%zu]", i);
	if (tool->kind != CHAT_TOOL_FUNCTION || !name_fits(tool->name))
		return chat_cannot(w->err, w->t->provider->label, field);
	json_obj(&w->o, NULL);
	json_put_z(&w->o, "type", "function");
	json_obj(&w->o, "function");
	json_put_str(&w->o, "name", tool->name);
	if (tool->description.ptr)
		json_put_str(&w->o, "description", tool->description);
	if (tool->parameters)
		json_put_value(&w->o, "parameters", tool->parameters);
	else if (has(w, QUIRK_MISTRAL)) /* which requires one */
		json_put_raw(&w->o, "parameters", STR("{\"type\":\"object\",\"properties\":{}}"));
	if (tool->strict >= 0 && !has(w, QUIRK_NO_STRICT))
		json_put_bool(&w->o, "strict", tool->strict);
	else if (tool->strict > 0)
		chat_lose(w->losses, STR("tools.strict"));
	json_obj_end(&w->o);
	if (has(w, QUIRK_OPENROUTER))
		tell_cache(w, tool->cache);
	else if (tool->cache != CHAT_CACHE_NONE)
		lose(w, P_cache);
	json_obj_end(&w->o);
	return RC_OK;
}

static void tell_named(struct telling *w, const char *key, struct str name)
{
	json_obj(&w->o, key);
	json_put_z(&w->o, "type", "function");
	json_obj(&w->o, "function");
	json_put_str(&w->o, "name", name);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
}

static void tell_allowed(struct telling *w, const char *mode)
{
	if (!has(w, QUIRK_OPENAI)) { /* the others were left out */
		json_put_z(&w->o, "tool_choice", mode);
		return;
	}
	json_obj(&w->o, "tool_choice");
	json_put_z(&w->o, "type", "allowed_tools");
	json_obj(&w->o, "allowed_tools");
	json_put_z(&w->o, "mode", mode);
	json_arr(&w->o, "tools");
	for (size_t i = 0; i < w->chat->choice_names_count; i++)
		tell_named(w, NULL, w->chat->choice_names[i]);
	json_arr_end(&w->o);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
}

static enum rc tell_choice(struct telling *w)
{
	const enum chat_choice choice = w->chat->choice;

	if (has(w, QUIRK_NO_TOOL_CHOICE)) /* `none` has left the tools out */
		return choice == CHAT_CHOICE_REQUIRED || choice == CHAT_CHOICE_NAMED ||
				       choice == CHAT_CHOICE_ALLOWED_REQUIRED
			       ? cannot(w, P_choice)
			       : RC_OK;
	switch (choice) {
	case CHAT_CHOICE_UNSAID:
		break;
	case CHAT_CHOICE_AUTO:
		json_put_z(&w->o, "tool_choice", "auto");
		break;
	case CHAT_CHOICE_NONE:
		json_put_z(&w->o, "tool_choice", "none");
		break;
	case CHAT_CHOICE_REQUIRED:
		json_put_z(&w->o, "tool_choice", "required");
		break;
	case CHAT_CHOICE_NAMED:
		tell_named(w, "tool_choice", w->chat->choice_names[0]);
		break;
	case CHAT_CHOICE_ALLOWED_AUTO:
		tell_allowed(w, "auto");
		break;
	case CHAT_CHOICE_ALLOWED_REQUIRED:
		tell_allowed(w, "required");
		break;
	}
	return RC_OK;
}

static enum rc tell_tools(struct telling *w)
{
	const struct chat *chat = w->chat;
	const bool *allowed = NULL; /* OpenAI is told which; for the others the rest is left out */
	bool open = false;

	if (chat->choice == CHAT_CHOICE_NONE && has(w, QUIRK_NO_TOOL_CHOICE))
		return RC_OK;
	if (!has(w, QUIRK_OPENAI))
		TRY(chat_allowed(chat, w->mem, &allowed));
	for (size_t i = 0; i < chat->tools_count; i++) {
		if (allowed && !allowed[i])
			continue;
		if (!open)
			json_arr(&w->o, "tools");
		open = true;
		TRY(tell_tool(w, &chat->tools[i], i));
	}
	if (!open)
		return RC_OK;
	json_arr_end(&w->o);
	TRY(tell_choice(w));
	if (chat->parallel_tools >= 0 && !has(w, QUIRK_NO_PARALLEL))
		json_put_bool(&w->o, "parallel_tool_calls", chat->parallel_tools);
	else if (chat->parallel_tools == 0)
		lose(w, P_parallel);
	return RC_OK;
}

/* ---- parameters ------------------------------------------------------------------------------------------- */

static enum rc tell_format(struct telling *w)
{
	const struct chat *chat = w->chat;

	if (chat->format == CHAT_FORMAT_TEXT)
		return RC_OK;
	if (has(w, chat->format == CHAT_FORMAT_JSON ? QUIRK_NO_JSON_OBJECT : QUIRK_NO_JSON_SCHEMA))
		return cannot(w, P_format);
	json_obj(&w->o, "response_format");
	if (chat->format == CHAT_FORMAT_JSON) {
		json_put_z(&w->o, "type", "json_object");
		json_obj_end(&w->o);
		return RC_OK;
	}
	json_put_z(&w->o, "type", "json_schema");
	json_obj(&w->o, "json_schema");
	json_put_str(&w->o, "name", /* required here; no word of it reaches the model's answer */
		     name_fits(chat->schema_name) ? chat->schema_name : STR("response"));
	if (chat->schema_name.len && !name_fits(chat->schema_name))
		lose(w, P_schema_name);
	if (chat->schema_description.ptr)
		json_put_str(&w->o, "description", chat->schema_description);
	json_put_value(&w->o, "schema", chat->schema);
	if (chat->schema_strict >= 0)
		json_put_bool(&w->o, "strict", chat->schema_strict);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	return RC_OK;
}

static void tell_number(struct telling *w, const char *key, const struct json *v, bool taken,
			enum param p)
{
	if (v && taken)
		json_put_value(&w->o, key, v);
	else if (v)
		lose(w, p);
}

static void tell_numbers(struct telling *w)
{
	const struct chat *chat = w->chat;
	/* models that need not reason have sampling where they do not (the GPT-5 generations from 5.1) */
	const bool sampling = !has(w, QUIRK_NO_SAMPLING) ||
			      (w->effort == CHAT_EFFORT_none && has(w, QUIRK_OPENAI) &&
			       (w->q->efforts & (1u << CHAT_EFFORT_none)));
	const bool penalties = !has(w, QUIRK_NO_PENALTIES);

	tell_number(w, "temperature", chat->temperature, sampling, P_temperature);
	tell_number(w, "top_p", chat->top_p, sampling, P_top_p);
	tell_number(w, "top_k", chat->top_k, has(w, QUIRK_TOP_K), P_top_k);
	tell_number(w, has(w, QUIRK_RANDOM_SEED) ? "random_seed" : "seed", chat->seed,
		    !has(w, QUIRK_NO_SEED), P_seed);
	tell_number(w, "presence_penalty", chat->presence_penalty, penalties, P_presence);
	tell_number(w, "frequency_penalty", chat->frequency_penalty, penalties, P_frequency);
	if (chat->logit_bias)
		json_put_value(&w->o, "logit_bias", chat->logit_bias);
}

/* Other vendors' words for the ordinary tier are OpenAI's `default`. */
static void tell_tier(struct telling *w)
{
	struct str tier = w->chat->service_tier;

	if (!tier.ptr)
		return;
	if (str_is(tier, "standard") || str_is(tier, "standard_only"))
		tier = STR("default");
	if (has(w, QUIRK_OPENAI | QUIRK_OPENROUTER) &&
	    (str_is(tier, "auto") || str_is(tier, "default") || str_is(tier, "flex") ||
	     str_is(tier, "priority")))
		json_put_str(&w->o, "service_tier", tier);
	else if (!str_is(tier, "auto") && !str_is(tier, "default"))
		lose(w, P_tier);
}

static void tell_words(struct telling *w)
{
	const struct chat *chat = w->chat;

	tell_tier(w);
	if (chat->end_user.ptr && w->q->user_as)
		json_put_str(&w->o, w->q->user_as, chat->end_user);
	else if (chat->end_user.ptr)
		lose(w, P_user);
	if (chat->verbosity.ptr && has(w, QUIRK_OPENAI))
		json_put_str(&w->o, "verbosity", chat->verbosity);
	else if (chat->verbosity.ptr)
		lose(w, P_verbosity);
	if (chat->cache_key.ptr && has(w, QUIRK_CACHE_KEY))
		json_put_str(&w->o, "prompt_cache_key", chat->cache_key);
	else if (chat->cache_key.ptr)
		chat_lose(w->losses, STR("prompt_cache_key"));
	if (chat->metadata && has(w, QUIRK_OPENAI | QUIRK_OPENROUTER | QUIRK_MISTRAL))
		json_put_value(&w->o, "metadata", chat->metadata);
	else if (chat->metadata)
		lose(w, P_metadata);
}

static void tell_stop(struct telling *w)
{
	if (w->chat->stop_count == 0)
		return;
	json_arr(&w->o, "stop");
	for (size_t i = 0; i < w->chat->stop_count; i++)
		json_put_str(&w->o, NULL, w->chat->stop[i]);
	json_arr_end(&w->o);
}

static void tell_size(struct telling *w)
{
	const int64_t max = w->c->max_output ? w->c->max_output : w->t->max_output_cap;
	const bool modern = w->t->provider->max_completion_tokens && !has(w, QUIRK_MAX_TOKENS);

	if (max > 0)
		json_put_int(&w->o, modern ? "max_completion_tokens" : "max_tokens", max);
	if (w->c->choices > 1)
		json_put_int(&w->o, "n", w->c->choices);
	if (!w->c->stream)
		return;
	json_put_bool(&w->o, "stream", true);
	if (!w->t->provider->stream_usage_option)
		return;
	json_obj(&w->o, "stream_options");
	json_put_bool(&w->o, "include_usage", true);
	json_obj_end(&w->o);
}

/* What decides before a word is written. */
static enum rc check(struct telling *w)
{
	const struct chat *chat = w->chat;

	TRY(chat_check_needs(chat, w->t, w->err));
	if (w->c->needs & CAP_AUDIO_OUT)
		return chat_cannot(w->err, w->t->provider->label, "modalities");
	if (chat->logprobs) /* no other dialect's answer has a place for them that this one fills */
		return cannot(w, P_logprobs);
	if (chat->logit_bias && has(w, QUIRK_NO_LOGIT_BIAS))
		return chat_cannot(w->err, w->t->provider->label, "logit_bias");
	if (w->c->choices > 1 && has(w, QUIRK_NO_CHOICES))
		return cannot(w, P_choices);
	if (chat->stop_count > STOPS_MAX || (chat->stop_count > 0 && has(w, QUIRK_NO_STOP)))
		return cannot(w, P_stop);
	return RC_OK;
}

enum rc openai_chat_encode_ask(const struct call *c, const struct ask *ask,
			       const struct dialect_target *t, struct arena *mem,
			       struct outgoing *out, struct err *err)
{
	struct telling w = {.c = c,
			    .chat = &ask->chat,
			    .t = t,
			    .q = provider_chat(t->provider, t->model),
			    .mem = mem,
			    .losses = &out->losses,
			    .err = err};

	TRY(check(&w));
	TRY(plan_reasoning(&w));
	for (size_t i = 0; i < w.chat->hints_count; i++)
		chat_lose(w.losses, w.chat->hints[i]);
	json_out_begin(&w.o, out->body);
	json_obj(&w.o, NULL);
	json_put_str(&w.o, "model", t->model);
	TRY(tell_turns(&w));
	TRY(tell_tools(&w));
	TRY(tell_format(&w));
	tell_numbers(&w);
	tell_stop(&w);
	tell_reasoning(&w);
	tell_words(&w);
	tell_size(&w);
	json_obj_end(&w.o);
	return json_out_end(&w.o);
}
