/* routing/probe_read.c - how each provider answers a probe, and how the smallest call of each is written.
 *
 * Shapes and markers are those of the vendors' API references: OpenRouter openapi.yaml (GET /key), docs.x.ai
 * (GET /api-key; a wrong key is a 400), platform.kimi.ai (users/me/balance), api-docs.deepseek.com (user/balance),
 * docs.anthropic.com (models, errors), ai.google.dev (models.list, API_KEY_INVALID in a 400), elevenlabs.io/docs
 * (user, models, voices; a 401 is read by detail.status), togethercomputer/openapi (a bare array).
 *
 * Must never do I/O. What a stranger's endpoint says is data: bounded, copied, made printable. */
#include "routing/probe_read.h"

#include <assert.h>

#include "server/egress.h"

#define WORDS_BYTES_MAX	 4096 /* of an endpoint's own sentence */
#define MARKER_BYTES_MAX 8192 /* of an error's body are looked at */
#define MODEL_BYTES_MAX	 256
#define BODY_BYTES_MAX	 2048 /* of what we send */

/* ---- errors ------------------------------------------------------------------------------------ */

static const struct marker {
	const char *provider; /* NULL: whoever speaks OpenAI's errors */
	int status;	      /* 0: any */
	const char *text;     /* somewhere in the body, in any case */
	enum error_class class;
} markers[] = {
	{"gemini", 400, "API_KEY_INVALID", ERROR_auth},
	{"gemini", 400, "API key not valid", ERROR_auth},
	{"gemini", 400, "API key expired", ERROR_auth},
	{"gemini", 400, "FAILED_PRECONDITION", ERROR_permission}, /* billing off, or the country */
	{"gemini", 429, "PerDay", ERROR_quota},
	{"grok", 400, "incorrect api key", ERROR_auth},
	{"grok", 400, "invalid api key", ERROR_auth},
	{"grok", 403, "credits", ERROR_quota},
	{"grok", 403, "spending limit", ERROR_quota},
	{"anthropic", 400, "credit balance is too low", ERROR_quota},
	{"anthropic", 400, "API usage limits", ERROR_quota},
	{"anthropic", 429, "enforced_spend_limit_reached", ERROR_quota},
	{"kimi", 429, "exceeded_current_quota_error", ERROR_quota},
	{"kimi", 429, "engine_overloaded_error", ERROR_overloaded},
	{"kimi", 403, "balance", ERROR_quota},
	{"mistral", 429, "capacity exceeded", ERROR_overloaded},
	/* never by the status alone: every one of these comes as a 401 */
	{"elevenlabs", 0, "missing_permissions", ERROR_permission},
	{"elevenlabs", 0, "detected_unusual_activity", ERROR_permission},
	{"elevenlabs", 0, "quota_exceeded", ERROR_quota},
	{"elevenlabs", 0, "invalid_api_key", ERROR_auth},
	{"elevenlabs", 0, "needs_authorization", ERROR_auth},
	{"elevenlabs", 0, "system_busy", ERROR_overloaded},
	{"elevenlabs", 400, "voice_not_found", ERROR_not_found},
	{"elevenlabs", 400, "model_not_found", ERROR_not_found},
	{"elevenlabs", 400, "invalid_model_id", ERROR_not_found},
	{NULL, 429, "insufficient_quota", ERROR_quota},
	{NULL, 429, "credit_balance_exhausted", ERROR_quota},
	{NULL, 429, "spend_limit_exceeded", ERROR_quota},
	{NULL, 429, "usage_limit_exceeded", ERROR_quota},
};

static enum error_class class_of_status(int status)
{
	switch (status) {
	case 401:
		return ERROR_auth;
	case 402:
		return ERROR_quota;
	case 403:
		return ERROR_permission;
	case 404:
	case 405:
	case 410:
		return ERROR_not_found;
	case 408:
	case 499:
	case 504:
	case 524:
		return ERROR_timeout;
	case 429:
	case 498: /* Groq's flex capacity */
		return ERROR_rate_limit;
	case 409:
	case 425:
	case 503:
	case 529:
		return ERROR_overloaded;
	}
	return status >= 500 ? ERROR_server_error : ERROR_invalid_request;
}

/* An error that came with a 200 names its status inside (OpenRouter). */
static int status_inside(const struct json *root)
{
	int64_t code;

	if (json_int(json_get(json_get(root, "error"), "code"), &code) && code >= 400 && code < 600)
		return (int)code;
	return 500;
}

enum error_class probe_read_error(const struct provider *p, int status, struct str body,
				  const struct json *root)
{
	struct str seen = str_slice(body, 0, MARKER_BYTES_MAX);

	if (status / 100 == 2)
		status = status_inside(root);
	for (size_t i = 0; i < ARRAY_LEN(markers); i++) {
		const struct marker *m = &markers[i];

		if ((!m->provider || str_is(str_from(p->id), m->provider)) &&
		    (m->status == 0 || m->status == status) &&
		    str_find_nocase(seen, str_from(m->text)) >= 0)
			return m->class;
	}
	return class_of_status(status);
}

/* The first sentence where errors have one: {error:{message}}, {error:"..."}, {message}, {detail:"..."},
 * {detail:{message}}, {detail:[{msg}]}, [{error:{message}}]. */
struct str probe_read_words(const struct json *root, struct arena *mem)
{
	const struct json *first = json_type(root) == JSON_ARRAY ? json_at(root, 0) : root;
	const struct json *error = json_get(first, "error"), *detail = json_get(first, "detail");
	const struct json *list = json_type(detail) == JSON_ARRAY ? json_at(detail, 0) : NULL;
	const struct json *const places[] = {
		json_get(error, "message"),  error,  json_get(first, "message"),
		json_get(detail, "message"), detail, json_get(list, "msg"),
	};
	struct str words = STR_NULL;

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (json_string(places[i], &words) && words.len > 0)
			break;
	words = str_slice(words, 0, WORDS_BYTES_MAX);
	char *text = arena_strdup(mem, words);

	for (size_t i = 0; i < words.len; i++)
		if (text[i] < ' ' || text[i] > '~')
			text[i] = '?';
	return str_of(text, words.len);
}

enum probe_health probe_health_of(enum error_class c)
{
	switch (c) {
	case ERROR_none:
		return PROBE_OK;
	case ERROR_permission:
	case ERROR_rate_limit:
	case ERROR_quota:
		return PROBE_DEGRADED;
	case ERROR_timeout:
	case ERROR_overloaded:
	case ERROR_server_error:
	case ERROR_network:
		return PROBE_UNKNOWN;
	default:
		return PROBE_FAILED;
	}
}

/* ---- the key's own page ---------------------------------------------------------------------------- */

/* More than nothing? Of a number or a decimal string, read as text: money is never a float here. */
static bool is_positive(const struct json *v)
{
	AUTO(buf) struct buf out = BUF_INIT(64);
	struct str text;

	if (!json_string(v, &text)) {
		if (json_write(v, &out) != RC_OK)
			return true; /* no number of ours to judge */
		text = buf_str(&out);
	}
	if (text.len == 0 || text.ptr[0] == '-')
		return false;
	for (size_t i = 0; i < text.len && text.ptr[i] != 'e' && text.ptr[i] != 'E'; i++)
		if (text.ptr[i] >= '1' && text.ptr[i] <= '9')
			return true;
	return false;
}

static bool is_true(const struct json *root, const char *key)
{
	bool set = false;

	return json_bool(json_get(root, key), &set) && set;
}

/* {"data":{"limit_remaining":null|number, ...}}; null: no limit */
static enum error_class read_openrouter(const struct json *root)
{
	const struct json *data = json_get(root, "data");
	const struct json *left = json_get(data, "limit_remaining");

	if (json_type(data) != JSON_OBJECT)
		return ERROR_protocol;
	return json_is_null(left) || is_positive(left) ? ERROR_none : ERROR_quota;
}

static enum error_class read_xai(const struct json *root)
{
	if (json_is_null(json_get(root, "redacted_api_key")) &&
	    json_is_null(json_get(root, "team_id")))
		return ERROR_protocol;
	if (is_true(root, "api_key_blocked") || is_true(root, "api_key_disabled"))
		return ERROR_auth;
	return is_true(root, "team_blocked") ? ERROR_permission : ERROR_none;
}

static enum error_class read_kimi(const struct json *root)
{
	const struct json *left = json_get(json_get(root, "data"), "available_balance");

	if (json_is_null(left))
		return ERROR_protocol;
	return is_positive(left) ? ERROR_none : ERROR_quota;
}

static enum error_class read_deepseek(const struct json *root)
{
	bool available;

	if (!json_bool(json_get(root, "is_available"), &available))
		return ERROR_protocol;
	return available ? ERROR_none : ERROR_quota;
}

static enum error_class read_elevenlabs(const struct json *root)
{
	const struct json *plan = json_get(root, "subscription");
	int64_t used, limit;

	if (json_type(plan) != JSON_OBJECT)
		return ERROR_protocol;
	if (json_int(json_get(plan, "character_count"), &used) &&
	    json_int(json_get(plan, "character_limit"), &limit) && used >= limit &&
	    !is_true(plan, "can_extend_character_limit"))
		return ERROR_quota;
	return ERROR_none;
}

enum error_class probe_read_auth(const struct provider *p, const struct json *root)
{
	assert(p->auth !=
	       PROVIDER_AUTH_MODELS); /* its list is the question: see probe_read_models() */
	if (json_type(root) != JSON_OBJECT)
		return ERROR_protocol;
	switch (p->auth) {
	case PROVIDER_AUTH_OPENROUTER:
		return read_openrouter(root);
	case PROVIDER_AUTH_XAI:
		return read_xai(root);
	case PROVIDER_AUTH_KIMI:
		return read_kimi(root);
	case PROVIDER_AUTH_DEEPSEEK:
		return read_deepseek(root);
	case PROVIDER_AUTH_ELEVENLABS:
		return read_elevenlabs(root);
	case PROVIDER_AUTH_MODELS:
		break;
	}
	return ERROR_protocol;
}

/* ---- lists ------------------------------------------------------------------------------------------ */

/* Where the list is, and what an item calls its id. */
static const struct json *list_of(const struct provider *p, const struct json *root,
				  const char **id)
{
	const struct json *list = NULL;

	*id = "id";
	switch (p->list) {
	case PROVIDER_LIST_DATA:
		list = json_get(root, "data");
		break;
	case PROVIDER_LIST_BARE:
		list = root;
		break;
	case PROVIDER_LIST_GEMINI:
		*id = "name";
		list = json_get(root, "models");
		break;
	case PROVIDER_LIST_ELEVENLABS:
		*id = "model_id";
		list = root;
		break;
	}
	return json_type(list) == JSON_ARRAY ? list : NULL;
}

/* A server without any model says {"object":"list","data":null} (Ollama). */
static bool list_is_empty(const struct provider *p, const struct json *root)
{
	struct str object;

	return p->list == PROVIDER_LIST_DATA && json_string(json_get(root, "object"), &object) &&
	       str_is(object, "list") && json_is_null(json_get(root, "data"));
}

enum rc probe_read_models(const struct provider *p, const struct json *root, struct arena *mem,
			  const struct str **ret, size_t *count)
{
	const char *id_key;
	const struct json *list = list_of(p, root, &id_key);
	struct str *out = ARENA_ARRAY(mem, struct str, PROBE_LISTED_MAX);
	struct json_iter it = json_iter(list);
	struct json *item;
	struct str id;
	size_t n = 0;

	if (!list && !list_is_empty(p, root))
		return RC_PROTOCOL;
	while (json_next(&it, NULL, &item) && n < PROBE_LISTED_MAX) {
		if (!json_string(json_get(item, id_key), &id))
			return RC_PROTOCOL; /* a list, but not of models */
		if (p->list == PROVIDER_LIST_GEMINI && str_starts(id, STR("models/")))
			id = str_slice(id, 7, id.len);
		if (id.len > 0 && id.len <= MODEL_BYTES_MAX && !memchr(id.ptr, 0, id.len))
			out[n++] = arena_str(mem, id);
	}
	*ret = out;
	*count = n;
	return RC_OK;
}

bool probe_read_text(const struct provider *p, const struct json *root)
{
	switch (p->text) {
	case PROVIDER_TEXT_ANTHROPIC:
		return json_type(json_get(root, "content")) == JSON_ARRAY;
	case PROVIDER_TEXT_GEMINI: /* nothing may be left of one token, but the count is there */
		return json_type(json_get(root, "candidates")) == JSON_ARRAY ||
		       json_type(json_get(root, "usageMetadata")) == JSON_OBJECT;
	case PROVIDER_TEXT_CHAT:
		return json_len(json_get(root, "choices")) > 0;
	case PROVIDER_TEXT_NONE:
		break;
	}
	return false;
}

enum rc probe_read_voice(const struct json *root, struct arena *mem, struct str *ret)
{
	struct str id;

	if (!json_string(json_get(json_at(json_get(root, "voices"), 0), "voice_id"), &id) ||
	    !egress_path_part_ok(id))
		return RC_PROTOCOL;
	*ret = arena_str(mem, id);
	return RC_OK;
}

enum rc probe_read_voices(const struct json *root, struct arena *mem,
			  const struct probe_voice **ret, size_t *count)
{
	const struct json *list = json_get(root, "voices");
	struct probe_voice *voices = ARENA_ARRAY(mem, struct probe_voice, PROBE_VOICES_MAX);
	struct json_iter it = json_iter(list);
	struct json *one;
	size_t n = 0;

	if (json_type(list) != JSON_ARRAY)
		return RC_PROTOCOL;
	while (n < PROBE_VOICES_MAX && json_next(&it, NULL, &one)) {
		struct str id, name = STR("");

		if (!json_string(json_get(one, "voice_id"), &id) || id.len > 128)
			return RC_PROTOCOL;
		(void)json_string(json_get(one, "name"), &name);
		voices[n].id = arena_str(mem, id);
		voices[n++].name = arena_str(mem, str_slice(name, 0, 256));
	}
	*ret = voices;
	*count = n;
	return RC_OK;
}

/* ---- which model ---------------------------------------------------------------------------------------- */

static bool has_word(struct str id, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_find_nocase(id, str_from(words[i])) >= 0)
			return true;
	return false;
}

/* Names of what is no chat model, in the listings of today. */
static bool is_text_model(struct str id)
{
	static const char *const other[] = {
		"embed",   "tts",     "whisper",  "dall-e",	  "moderation",	   "image",
		"audio",   "speech",  "realtime", "transcribe",	  "search",	   "turbo-instruct",
		"davinci", "babbage", "sora",	  "computer-use", "deep-research", "rerank",
		"guard",   "ocr",     "veo-",	  "aqa",	  "diffusion",	   "-live",
		"eleven_", "scribe",
	};

	return !has_word(id, other, ARRAY_LEN(other));
}

static bool is_voice_model(struct str id)
{
	static const char *const voice[] = {"tts", "speech", "eleven_"};

	return has_word(id, voice, ARRAY_LEN(voice));
}

struct str probe_pick_model(const struct str *models, size_t count, bool voice)
{
	static const char *const small[] = {"nano",  "flash-lite", "lite", "mini", "flash",
					    "haiku", "small",	   "8b",   "fast"};
	struct str first = STR_NULL;

	for (size_t s = 0; s < ARRAY_LEN(small); s++)
		for (size_t i = 0; i < count; i++) {
			if (!(voice ? is_voice_model(models[i]) : is_text_model(models[i])))
				continue;
			if (str_find_nocase(models[i], str_from(small[s])) >= 0)
				return models[i];
			if (!first.ptr)
				first = models[i];
		}
	return first;
}

/* ---- the smallest call ------------------------------------------------------------------------------------ */

/* Reasoning models spend tokens before they speak and refuse a lesser bound. */
#define TOKENS_WHERE_REASONING 16

static void put_message(struct json_out *o)
{
	json_arr(o, "messages");
	json_obj(o, NULL);
	json_put_z(o, "role", "user");
	json_put_z(o, "content", "Say: ok");
	json_obj_end(o);
	json_arr_end(o);
}

static void put_gemini(struct json_out *o)
{
	json_arr(o, "contents");
	json_obj(o, NULL);
	json_put_z(o, "role", "user");
	json_arr(o, "parts");
	json_obj(o, NULL);
	json_put_z(o, "text", "Say: ok");
	json_obj_end(o);
	json_arr_end(o);
	json_obj_end(o);
	json_arr_end(o);
	json_obj(o, "generationConfig");
	json_put_int(o, "maxOutputTokens", 1);
	json_obj_end(o);
}

static enum rc finish(struct json_out *o, struct buf *out, struct arena *mem, struct str *body)
{
	json_obj_end(o);
	TRY(json_out_end(o));
	*body = arena_str(mem, buf_str(out));
	return RC_OK;
}

enum rc probe_write_text(const struct provider *p, struct str model, struct arena *mem,
			 struct str *path, struct str *body)
{
	AUTO(buf) struct buf out = BUF_INIT(BODY_BYTES_MAX);
	struct json_out o;

	assert(p->text != PROVIDER_TEXT_NONE);
	if (model.len == 0 || model.len > MODEL_BYTES_MAX)
		return RC_INVALID;
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	if (p->text == PROVIDER_TEXT_GEMINI) {
		if (!egress_path_part_ok(model))
			return RC_INVALID;
		*path = arena_printf(mem, "/models/%.*s:generateContent", STR_FMT(model));
		put_gemini(&o);
		return finish(&o, &out, mem, body);
	}
	*path = str_from(p->path_chat);
	json_put_str(&o, "model", model);
	put_message(&o);
	if (p->max_completion_tokens)
		json_put_int(&o, "max_completion_tokens", TOKENS_WHERE_REASONING);
	else
		json_put_int(&o, "max_tokens", 1);
	return finish(&o, &out, mem, body);
}

enum rc probe_write_voice(const struct provider *p, struct str model, struct str voice,
			  struct arena *mem, struct str *path, struct str *body)
{
	AUTO(buf) struct buf out = BUF_INIT(BODY_BYTES_MAX);
	struct json_out o;

	assert(p->voice != PROVIDER_VOICE_NONE);
	if (model.len == 0 || model.len > MODEL_BYTES_MAX)
		return RC_INVALID;
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	if (p->voice == PROVIDER_VOICE_ELEVENLABS) {
		if (!egress_path_part_ok(voice))
			return RC_INVALID;
		*path = arena_printf(mem, "/v1/text-to-speech/%.*s?output_format=mp3_22050_32",
				     STR_FMT(voice));
		json_put_z(&o, "text", "ok");
		json_put_str(&o, "model_id", model);
	} else {
		*path = STR("/audio/speech");
		json_put_str(&o, "model", model);
		json_put_z(&o, "input", "ok");
		json_put_z(&o, "voice", "alloy");
		json_put_z(&o, "response_format", "mp3");
	}
	return finish(&o, &out, mem, body);
}
