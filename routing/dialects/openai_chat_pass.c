/* routing/dialects/openai_chat_pass.c - a chat completions request on its way to a provider of the same dialect.
 *
 * The caller's own bytes, as they came, where nothing must change; unknown fields and numbers survive where something
 * must. Changed are `model`, the request for usage, the cap that makes a hold's bound true, and what this provider answers
 * with 400 or 422 (provider.h): renamed where it has another name, left out by name where the answer is still one to this
 * question, refused where it is not. State that another provider made is taken out. */
#include <assert.h>

#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"

#define MODEL_BYTES_MAX	  256
#define OPTIONS_BYTES_MAX (64u << 10) /* of stream_options, re-written */
#define EDITS_MAX	  24

struct passing {
	const struct call *c;
	const struct dialect_target *t;
	uint32_t quirks;
	struct arena *mem;
	struct chat_losses *losses;
	struct err *err;
	struct json_edit edits[EDITS_MAX];
	size_t edits_count;
	bool marked;   /* somewhere in it is a seal of ours */
	bool messages; /* they must be written anew */
	struct json_out o;
};

static void edit(struct passing *p, const char *key, struct str raw)
{
	assert(p->edits_count < EDITS_MAX);
	p->edits[p->edits_count++] = (struct json_edit){key, raw};
}

static bool has(const struct passing *p, uint32_t quirks)
{
	return (p->quirks & quirks) != 0;
}

static const struct json *asked(const struct passing *p, const char *field)
{
	const struct json *v = json_get(p->c->body, field);

	return json_is_null(v) ? NULL : v;
}

static enum rc cannot(const struct passing *p, const char *field)
{
	return chat_cannot(p->err, p->t->provider->label, field);
}

/* Left out, and named where it said something. */
static void leave_out(struct passing *p, const char *field, bool named)
{
	edit(p, field, STR_NULL);
	if (named)
		chat_lose(p->losses, str_from(field));
}

static enum rc raw_of(const struct json *v, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf text = BUF_INIT(OPTIONS_BYTES_MAX);

	TRY(json_write(v, &text));
	*ret = arena_str(mem, buf_str(&text));
	return RC_OK;
}

/* ---- what always may change ------------------------------------------------------------------------------ */

static enum rc quoted(struct str s, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(MODEL_BYTES_MAX * 8);

	TRY(buf_append_char(&out, '"'));
	TRY(json_escape(s, &out));
	TRY(buf_append_char(&out, '"'));
	*ret = arena_str(mem, buf_str(&out));
	return RC_OK;
}

/* stream_options with include_usage set, whatever else stands in it. */
static enum rc options_with_usage(const struct call *c, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(OPTIONS_BYTES_MAX);
	const struct json_edit usage = {"include_usage", STR("true")};
	const struct json *options = json_get(c->body, "stream_options");

	*ret = STR("{\"include_usage\":true}");
	if (json_is_null(options))
		return RC_OK;
	TRY(json_write_edited(options, &usage, 1, &out));
	*ret = arena_str(mem, buf_str(&out));
	return RC_OK;
}

static enum rc pass_stream(struct passing *p)
{
	struct str raw;

	if (!p->c->stream)
		return RC_OK;
	if (!p->t->provider->stream_usage_option) {
		if (json_get(p->c->body, "stream_options"))
			edit(p, "stream_options", STR_NULL); /* it would be a 422 */
	} else if (!p->c->usage_asked) {
		TRY(options_with_usage(p->c, p->mem, &raw));
		edit(p, "stream_options", raw);
	}
	return RC_OK;
}

/* One number under two names: the one this provider does not know goes, and its value with the other. */
static enum rc pass_max(struct passing *p)
{
	static const char *const fields[] = {"max_tokens", "max_completion_tokens"};
	const bool modern = has(p, QUIRK_MAX_COMPLETION) ||
			    (p->t->provider->max_completion_tokens && !has(p, QUIRK_MAX_TOKENS));
	const char *keep = fields[modern], *drop = fields[!modern];
	const int64_t cap = p->c->max_output ? p->c->max_output : p->t->max_output_cap;
	const bool rename =
		has(p, QUIRK_MAX_TOKENS | QUIRK_MAX_COMPLETION) && json_get(p->c->body, drop);

	if (rename)
		edit(p, drop, STR_NULL);
	if (cap > 0 && ((rename && !asked(p, keep)) || p->c->max_output == 0))
		edit(p, keep, arena_printf(p->mem, "%lld", (long long)cap));
	return RC_OK;
}

/* ---- what this provider refuses ---------------------------------------------------------------------------- */

static bool is_number(const struct json *v, const char *a, const char *b)
{
	AUTO(buf) struct buf text = BUF_INIT(OPTIONS_BYTES_MAX);

	if (!v || json_write(v, &text) != RC_OK)
		return false;
	return str_is(buf_str(&text), a) || str_is(buf_str(&text), b);
}

/* OpenAI's models that need not reason have sampling and logprobs where they do not. */
static bool is_off(const struct passing *p)
{
	struct str effort = STR_NULL;

	return has(p, QUIRK_OPENAI) && json_string(asked(p, "reasoning_effort"), &effort) &&
	       str_is(effort, "none");
}

/* A model that refuses other values takes the default. */
static void pass_sampling(struct passing *p)
{
	static const struct {
		const char *field;
		uint32_t quirk;
		const char *usual, *usual_too;
	} fields[] = {
		{"temperature", QUIRK_NO_SAMPLING, "1", "1.0"},
		{"top_p", QUIRK_NO_SAMPLING, "1", "1.0"},
		{"presence_penalty", QUIRK_NO_PENALTIES, "0", "0.0"},
		{"frequency_penalty", QUIRK_NO_PENALTIES, "0", "0.0"},
	};

	if (is_off(p))
		return;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		const struct json *v = asked(p, fields[i].field);

		if (!v || !has(p, fields[i].quirk))
			continue;
		if (has(p, QUIRK_OPENAI) && is_number(v, fields[i].usual, fields[i].usual_too))
			continue;
		leave_out(p, fields[i].field, true);
	}
}

static enum rc pass_logprobs(struct passing *p)
{
	const struct json *top = asked(p, "top_logprobs");
	bool on = false;
	struct str raw = STR("1");

	if (!json_bool(asked(p, "logprobs"), &on))
		return RC_OK;
	if (on && has(p, QUIRK_NO_LOGPROBS) && !is_off(p))
		return cannot(p, "logprobs");
	if (!has(p, QUIRK_INT_LOGPROBS))
		return RC_OK;
	if (on && top)
		TRY(raw_of(top, p->mem, &raw));
	edit(p, "logprobs", on ? raw : STR_NULL);
	if (top)
		edit(p, "top_logprobs", STR_NULL);
	return RC_OK;
}

static enum rc pass_refused(struct passing *p)
{
	struct str word = STR_NULL;

	if (has(p, QUIRK_NO_STOP) && asked(p, "stop"))
		return cannot(p, "stop");
	if (has(p, QUIRK_NO_LOGIT_BIAS) && json_len(asked(p, "logit_bias")) > 0)
		return cannot(p, "logit_bias");
	if (has(p, QUIRK_NO_CHOICES) && p->c->choices > 1)
		return cannot(p, "n");
	if (has(p, QUIRK_NO_TOOL_CHOICE) && asked(p, "tool_choice")) {
		(void)json_string(asked(p, "tool_choice"), &word);
		if (str_is(word, "none"))
			edit(p, "tools", STR_NULL);
		else if (!str_is(word, "auto"))
			return cannot(p, "tool_choice");
	}
	if (json_string(json_get(asked(p, "response_format"), "type"), &word) &&
	    ((has(p, QUIRK_NO_JSON_OBJECT) && str_is(word, "json_object")) ||
	     (has(p, QUIRK_NO_JSON_SCHEMA) && str_is(word, "json_schema"))))
		return cannot(p, "response_format");
	return pass_logprobs(p);
}

static enum rc pass_seed(struct passing *p)
{
	struct str raw;

	if (!has(p, QUIRK_RANDOM_SEED) || !asked(p, "seed"))
		return RC_OK;
	TRY(raw_of(asked(p, "seed"), p->mem, &raw));
	edit(p, "seed", STR_NULL);
	if (!asked(p, "random_seed"))
		edit(p, "random_seed", raw);
	return RC_OK;
}

/* ---- a provider whose schema is closed ------------------------------------------------------------------------ */

/* Mistral's ChatCompletionRequest; what is not in it is a 422 (openai-compatible.md 3). */
static const char *const mistral_fields[] = {
	"model",
	"temperature",
	"top_p",
	"max_tokens",
	"stream",
	"stop",
	"random_seed",
	"metadata",
	"messages",
	"response_format",
	"tools",
	"tool_choice",
	"presence_penalty",
	"frequency_penalty",
	"n",
	"prediction",
	"parallel_tool_calls",
	"reasoning_effort",
	"prompt_mode",
	"guardrails",
	"prompt_cache_key",
	"service_tier",
	"safe_prompt",
};
static const char *const mistral_in_message[] = {"role",   "content",	   "tool_calls",
						 "prefix", "tool_call_id", "name"};

static bool is_one_of(struct str s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(s, list[i]))
			return true;
	return false;
}

/* Does a value say anything? Clients write null, false and empty ones out of habit. */
static bool says_something(const struct json *v)
{
	bool b = true;

	if (json_is_null(v) || (json_bool(v, &b) && !b))
		return false;
	return (json_type(v) != JSON_ARRAY && json_type(v) != JSON_OBJECT) || json_len(v) > 0;
}

/* Fields that it takes nothing of and that change what is answered. */
static enum rc pass_closed(struct passing *p)
{
	static const char *const needed[] = {"logit_bias", "web_search_options", "audio",
					     "functions", "function_call"};
	struct json_iter it = json_iter(asked(p, "tools"));
	struct json *v;
	struct str type;

	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (says_something(asked(p, needed[i])))
			return cannot(p, needed[i]);
	if (p->c->needs & CAP_AUDIO_OUT)
		return cannot(p, "modalities");
	while (json_next(&it, NULL, &v))
		if (json_string(json_get(v, "type"), &type) && !str_is(type, "function"))
			return cannot(p, "tools");
	if (json_string(json_get(asked(p, "tool_choice"), "type"), &type) &&
	    !str_is(type, "function"))
		return cannot(p, "tool_choice");
	return RC_OK;
}

/* ---- messages --------------------------------------------------------------------------------------------- */

static bool is_marked(const struct json *v)
{
	struct str s;

	return json_string(v, &s) && str_starts(s, STR(CHAT_OPAQUE_MARK));
}

static const struct json *signature_of(const struct json *v)
{
	return json_get(json_get(json_get(v, "extra_content"), "google"), "thought_signature");
}

static bool is_developer(const struct json *m)
{
	struct str role;

	return json_string(json_get(m, "role"), &role) && str_is(role, "developer");
}

static bool has_foreign_id(const struct json *m)
{
	struct json_iter it = json_iter(json_get(m, "tool_calls"));
	struct json *call;
	struct str id;

	if (json_string(json_get(m, "tool_call_id"), &id) && !openai_chat_id_is_nine(id))
		return true;
	while (json_next(&it, NULL, &call))
		if (json_string(json_get(call, "id"), &id) && !openai_chat_id_is_nine(id))
			return true;
	return false;
}

/* What a part at Mistral is not like, or has more of. */
static bool part_differs(const struct json *part)
{
	struct str type = STR_NULL;

	(void)json_string(json_get(part, "type"), &type);
	return str_is(type, "file") || str_is(type, "refusal") ||
	       json_type(json_get(part, "input_audio")) == JSON_OBJECT ||
	       json_get(part, "prompt_cache_breakpoint") || json_get(part, "cache_control");
}

static bool differs_at_mistral(const struct json *m)
{
	struct json_iter it = json_iter(m);
	struct str key;
	struct json *v;

	while (json_next(&it, &key, &v))
		if (!is_one_of(key, mistral_in_message, ARRAY_LEN(mistral_in_message)))
			return true;
	if (json_type(json_get(m, "content")) != JSON_ARRAY)
		return false;
	it = json_iter(json_get(m, "content"));
	while (json_next(&it, NULL, &v))
		if (part_differs(v))
			return true;
	return false;
}

static bool is_result(const struct json *m)
{
	struct str role;

	return json_string(json_get(m, "role"), &role) && str_is(role, "tool");
}

static bool message_differs(const struct passing *p, const struct json *m)
{
	return (has(p, QUIRK_NO_DEVELOPER) && is_developer(m)) ||
	       (has(p, QUIRK_NO_NAMES) && !is_result(m) && json_get(m, "name")) ||
	       (has(p, QUIRK_NINE_CHAR_IDS) && has_foreign_id(m)) ||
	       (has(p, QUIRK_MISTRAL) && differs_at_mistral(m));
}

/* An address on the provider's own disk is nobody's to read. */
static enum rc check_urls(const struct passing *p, const struct json *m)
{
	static const char *const kinds[] = {"image_url", "video_url", "document_url"};
	struct json_iter it = json_iter(json_get(m, "content"));
	struct json *part;
	struct str url;

	if (json_type(json_get(m, "content")) != JSON_ARRAY)
		return RC_OK;
	while (json_next(&it, NULL, &part)) {
		for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
			const struct json *v = json_get(part, kinds[i]);

			if (!json_string(v, &url) && !json_string(json_get(v, "url"), &url))
				continue;
			if (str_eq_nocase(str_slice(url, 0, 5), STR("file:")) ||
			    (has(p, QUIRK_NO_IMAGE_URLS) &&
			     !str_eq_nocase(str_slice(url, 0, 5), STR("data:"))))
				return cannot(p, "messages.image_url");
		}
	}
	return RC_OK;
}

/* Which messages must be written anew, and whether one lacks the reasoning that must come back with it. */
static enum rc look_at_messages(struct passing *p, bool *lacking)
{
	struct json_iter it = json_iter(json_get(p->c->body, "messages"));
	struct json *m;
	struct str role, text;

	p->messages = p->marked;
	while (json_next(&it, NULL, &m)) {
		p->messages |= message_differs(p, m);
		TRY(check_urls(p, m));
		if (!has(p, QUIRK_REASONING_BACK) || !json_string(json_get(m, "role"), &role) ||
		    !str_is(role, "assistant"))
			continue;
		if (json_len(json_get(m, "tool_calls")) == 0 && !has(p, QUIRK_REASONING_ALL))
			continue;
		if (!json_string(json_get(m, "reasoning_content"), &text) || text.len == 0)
			*lacking = true;
	}
	return RC_OK;
}

/* With tools in play a history without its reasoning is a 400, unless the model does not think. */
static enum rc pass_thinking(struct passing *p, bool lacking)
{
	if (!lacking || json_len(asked(p, "tools")) == 0 || asked(p, "thinking"))
		return RC_OK;
	if (!has(p, QUIRK_THINKING))
		return cannot(p, "messages.reasoning_content");
	edit(p, "thinking", STR("{\"type\":\"disabled\"}"));
	if (asked(p, "reasoning_effort"))
		edit(p, "reasoning_effort", STR_NULL);
	chat_lose(p->losses, STR("reasoning_effort"));
	return RC_OK;
}

static void put_id(struct passing *p, const char *key, const struct json *v)
{
	struct str id;

	if (has(p, QUIRK_NINE_CHAR_IDS) && json_string(v, &id))
		json_put_str(&p->o, key, chat_call_id(p->mem, id, "", 9, openai_chat_id_is_nine));
	else
		json_put_value(&p->o, key, v);
}

static void put_calls(struct passing *p, const struct json *calls)
{
	struct json_iter it = json_iter(calls);
	struct json *call, *v;

	json_arr(&p->o, "tool_calls");
	while (json_next(&it, NULL, &call)) {
		struct json_iter members = json_iter(call);
		const bool marked = is_marked(signature_of(call));
		struct str key;

		json_obj(&p->o, NULL);
		while (json_next(&members, &key, &v)) {
			if (str_is(key, "id"))
				put_id(p, "id", v);
			else if (!str_is(key, "extra_content") ||
				 (!marked && !has(p, QUIRK_MISTRAL)))
				json_put_value_s(&p->o, key, v);
		}
		json_obj_end(&p->o);
	}
	json_arr_end(&p->o);
}

/* Details that hold a seal of ours are another provider's state. */
static void put_details(struct passing *p, const struct json *details)
{
	struct json_iter it = json_iter(details);
	bool open = false;
	struct json *v;

	while (json_next(&it, NULL, &v)) {
		if (is_marked(json_get(v, "signature")) || is_marked(json_get(v, "data"))) {
			chat_lose(p->losses, STR("messages.reasoning_details"));
			continue;
		}
		if (!open)
			json_arr(&p->o, "reasoning_details");
		open = true;
		json_put_value(&p->o, NULL, v);
	}
	if (open)
		json_arr_end(&p->o);
}

static enum rc put_file(struct passing *p, const struct json *part)
{
	const struct json *file = json_get(part, "file");
	struct str data, name;

	if (json_string(json_get(part, "file_id"), &data)) { /* its own form already */
		json_put_value(&p->o, NULL, part);
		return RC_OK;
	}
	if (!json_string(json_get(file, "file_data"), &data))
		return cannot(p, "messages.file");
	json_obj(&p->o, NULL);
	json_put_z(&p->o, "type", "document_url");
	json_put_str(&p->o, "document_url", data);
	if (json_string(json_get(file, "filename"), &name))
		json_put_str(&p->o, "document_name", name);
	json_obj_end(&p->o);
	return RC_OK;
}

static enum rc put_part(struct passing *p, const struct json *part)
{
	struct json_iter it = json_iter(part);
	struct str type = STR_NULL, key;
	struct json *v;

	(void)json_string(json_get(part, "type"), &type);
	if (str_is(type, "file"))
		return put_file(p, part);
	json_obj(&p->o, NULL);
	while (json_next(&it, &key, &v)) {
		if (str_is(key, "prompt_cache_breakpoint") || str_is(key, "cache_control"))
			chat_lose(p->losses, STR("messages.prompt_cache_breakpoint"));
		else if (str_is(key, "input_audio") && json_type(v) == JSON_OBJECT)
			json_put_value(&p->o, "input_audio", json_get(v, "data"));
		else if (str_is(type, "refusal") && str_is(key, "type"))
			json_put_z(&p->o, "type", "text");
		else if (str_is(type, "refusal") && str_is(key, "refusal"))
			json_put_value(&p->o, "text", v);
		else
			json_put_value_s(&p->o, key, v);
	}
	json_obj_end(&p->o);
	return RC_OK;
}

static enum rc put_content(struct passing *p, const struct json *content)
{
	struct json_iter it = json_iter(content);
	struct json *part;

	if (!has(p, QUIRK_MISTRAL) || json_type(content) != JSON_ARRAY) {
		json_put_value(&p->o, "content", content);
		return RC_OK;
	}
	json_arr(&p->o, "content");
	while (json_next(&it, NULL, &part))
		TRY(put_part(p, part));
	json_arr_end(&p->o);
	return RC_OK;
}

static void lose_member(struct passing *p, struct str key, const struct json *v)
{
	if (says_something(v))
		chat_lose(p->losses,
			  arena_printf(p->mem, "messages.%.*s", STR_FMT(str_slice(key, 0, 64))));
}

static enum rc put_member(struct passing *p, const struct json *m, struct str key,
			  const struct json *v)
{
	if (has(p, QUIRK_MISTRAL) &&
	    !is_one_of(key, mistral_in_message, ARRAY_LEN(mistral_in_message)))
		lose_member(p, key, v);
	else if (str_is(key, "name") && has(p, QUIRK_NO_NAMES) && !is_result(m))
		lose_member(p, key, v);
	else if (str_is(key, "role") && has(p, QUIRK_NO_DEVELOPER) && is_developer(m))
		json_put_z(&p->o, "role", "system");
	else if (str_is(key, "content"))
		return put_content(p, v);
	else if (str_is(key, "tool_calls") && json_type(v) == JSON_ARRAY)
		put_calls(p, v);
	else if (str_is(key, "tool_call_id"))
		put_id(p, "tool_call_id", v);
	else if (str_is(key, "reasoning_details") && json_type(v) == JSON_ARRAY)
		put_details(p, v);
	else if (!str_is(key, "extra_content") || !is_marked(signature_of(m)))
		json_put_value_s(&p->o, key, v);
	return RC_OK;
}

static enum rc put_messages(struct passing *p, const struct json *messages)
{
	struct json_iter it = json_iter(messages);
	struct json *m, *v;
	struct str key;

	json_arr(&p->o, "messages");
	while (json_next(&it, NULL, &m)) {
		struct json_iter members = json_iter(m);

		if (!p->marked && !message_differs(p, m)) {
			json_put_value(&p->o, NULL, m);
			continue;
		}
		json_obj(&p->o, NULL);
		while (json_next(&members, &key, &v))
			TRY(put_member(p, m, key, v));
		json_obj_end(&p->o);
	}
	json_arr_end(&p->o);
	return RC_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static const struct json_edit *edit_of(const struct passing *p, struct str key)
{
	for (size_t i = 0; i < p->edits_count; i++)
		if (str_is(key, p->edits[i].key))
			return &p->edits[i];
	return NULL;
}

/* Not one of Mistral's: left out, by name if it said something. */
static bool is_closed_to(struct passing *p, struct str key, const struct json *v)
{
	if (!has(p, QUIRK_MISTRAL) || is_one_of(key, mistral_fields, ARRAY_LEN(mistral_fields)))
		return false;
	if (says_something(v))
		chat_lose(p->losses, key);
	return true;
}

static enum rc put_body(struct passing *p)
{
	struct json_iter it = json_iter(p->c->body);
	struct str key;
	struct json *v;

	json_obj(&p->o, NULL);
	while (json_next(&it, &key, &v)) {
		const struct json_edit *e = edit_of(p, key);

		if (e && e->raw_json.ptr)
			json_put_raw(&p->o, e->key, e->raw_json);
		else if (p->messages && str_is(key, "messages"))
			TRY(put_messages(p, v));
		else if (!e && !is_closed_to(p, key, v))
			json_put_value_s(&p->o, key, v);
	}
	for (size_t i = 0; i < p->edits_count; i++)
		if (p->edits[i].raw_json.ptr && !json_get(p->c->body, p->edits[i].key))
			json_put_raw(&p->o, p->edits[i].key, p->edits[i].raw_json);
	json_obj_end(&p->o);
	return json_out_end(&p->o);
}

static bool has_closed_field(const struct passing *p)
{
	struct json_iter it = json_iter(p->c->body);
	struct str key;

	while (has(p, QUIRK_MISTRAL) && json_next(&it, &key, NULL))
		if (!is_one_of(key, mistral_fields, ARRAY_LEN(mistral_fields)))
			return true;
	return false;
}

enum rc openai_chat_encode_request(const struct call *c, const struct dialect_target *t,
				   struct arena *mem, struct outgoing *out, struct err *err)
{
	struct passing p = {.c = c,
			    .t = t,
			    .quirks = provider_chat(t->provider, t->model)->quirks,
			    .mem = mem,
			    .losses = &out->losses,
			    .err = err};
	const size_t before = out->body->len;
	bool lacking = false;
	struct str raw;
	enum rc rc;

	p.marked = str_find_str(c->body_text, STR(CHAT_OPAQUE_MARK)) >= 0;
	TRY(pass_refused(&p));
	if (has(&p, QUIRK_MISTRAL))
		TRY(pass_closed(&p));
	TRY(look_at_messages(&p, &lacking));
	if (!str_eq(c->model, t->model)) {
		TRY(quoted(t->model, mem, &raw));
		edit(&p, "model", raw);
	}
	TRY(pass_stream(&p));
	TRY(pass_max(&p));
	TRY(pass_seed(&p));
	TRY(pass_thinking(&p, lacking));
	pass_sampling(&p);
	if (!p.messages && !has_closed_field(&p))
		return outgoing_pass(c, p.edits, p.edits_count, mem, out);
	TRY(buf_reserve(out->body, c->body_text.len + OUTGOING_SLACK));
	json_out_begin(&p.o, out->body);
	rc = put_body(&p);
	if (rc != RC_OK && out->body->ptr) {
		out->body->len = before;
		out->body->ptr[before] = '\0';
	}
	return rc;
}
