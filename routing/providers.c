/* routing/providers.c - the table of providers.
 *
 * A row says where a provider is, which dialect it speaks, how it wants its key, and its quirks; a new provider of a
 * known dialect is a row, its error markers (probe_read.c) and its fixtures. A row without endpoints can be
 * connected, tested, rotated and revoked, but serves no call, and the plan passes it over by name. Base URLs, auth forms, probes
 * and shapes are those that the vendors' own API references state; private servers (vllm, ollama, ...) have no
 * address of their own.
 *
 * Key examples are shapes for a person ("sk-..."), never something that a secret scanner takes for a key. */
#include "routing/provider.h"
#include "routing/dialect.h"

#define CHAT                                                                                       \
	.speaks = "openai_chat", .path_chat = "/chat/completions", .path_models = "/models",       \
	.text = PROVIDER_TEXT_CHAT
#define TO_RESPONSES                                                                               \
	{                                                                                          \
		&dialect_openai_responses, "/responses", NULL                                      \
	}
#define TO_CHAT                                                                                    \
	{                                                                                          \
		&dialect_openai_chat, "/chat/completions", NULL                                    \
	}

/* Efforts, and what OpenAI's models take (openai.md 2.1): reasoning models have no sampling parameters, and which efforts
 * a generation knows is the vendors' word. */
#define E(name)	   (1u << CHAT_EFFORT_##name)
#define E_LOW_HIGH (E(low) | E(medium) | E(high))
#define E_ALL	   (E(none) | E(minimal) | E_LOW_HIGH | E(xhigh) | E(max))
#define OPENAI_OWN (QUIRK_OPENAI | QUIRK_CACHE_KEY)
#define OPENAI_REASONS                                                                             \
	(OPENAI_OWN | QUIRK_MAX_COMPLETION | QUIRK_NO_SAMPLING | QUIRK_NO_PENALTIES |              \
	 QUIRK_NO_STOP | QUIRK_NO_LOGPROBS | QUIRK_NO_LOGIT_BIAS)
#define OPENAI_CHAT(user)                                                                          \
	{                                                                                          \
		{"*chat-latest*", OPENAI_OWN, 0, user},                                            \
			{"o1*|o3*|o4*", OPENAI_REASONS, E_LOW_HIGH, user},                         \
			{"gpt-5|gpt-5-*", OPENAI_REASONS, E(minimal) | E_LOW_HIGH, user},          \
			{"gpt-5.6*", OPENAI_REASONS | QUIRK_CACHE_BREAKPOINT, E_ALL & ~E(minimal), \
			 user},                                                                    \
			{"gpt-5*", OPENAI_REASONS, E(none) | E_LOW_HIGH | E(xhigh), user},         \
		{                                                                                  \
			NULL, OPENAI_OWN, 0, user                                                  \
		}                                                                                  \
	}
/* xAI's reasoning models refuse penalties and stop, and take logprobs without giving any (openai-compatible.md 2) */
#define GROK_REASONS (QUIRK_NO_PENALTIES | QUIRK_NO_STOP | QUIRK_NO_LOGPROBS)
/* openai-compatible.md 3, and Mistral's own schema, which is closed */
#define MISTRAL_WAYS                                                                               \
	(QUIRK_MISTRAL | QUIRK_MAX_TOKENS | QUIRK_RANDOM_SEED | QUIRK_NO_DEVELOPER |               \
	 QUIRK_NO_NAMES | QUIRK_NO_LOGPROBS | QUIRK_NO_LOGIT_BIAS | QUIRK_NINE_CHAR_IDS |          \
	 QUIRK_CACHE_KEY)
#define KIMI_WAYS (QUIRK_MAX_TOKENS | QUIRK_NO_DEVELOPER | QUIRK_NO_SEED | QUIRK_NO_PARALLEL)
#define DEEPSEEK_WAYS                                                                              \
	(QUIRK_MAX_TOKENS | QUIRK_NO_DEVELOPER | QUIRK_NO_SEED | QUIRK_NO_PARALLEL |               \
	 QUIRK_NO_STRICT | QUIRK_NO_CHOICES | QUIRK_NO_JSON_SCHEMA | QUIRK_NO_LOGIT_BIAS |         \
	 QUIRK_THINKING | QUIRK_REASONING_BACK | QUIRK_REASONING_ALL)
#define GROQ_WAYS (QUIRK_NO_LOGPROBS | QUIRK_NO_LOGIT_BIAS | QUIRK_NO_CHOICES | QUIRK_NO_NAMES)
#define TO_EMBEDDINGS                                                                              \
	{                                                                                          \
		&dialect_openai_embeddings, "/embeddings", NULL                                    \
	}
#define TO_SPEECH                                                                                  \
	{                                                                                          \
		&dialect_openai_speech, "/audio/speech", NULL                                      \
	}
#define TO_TRANSCRIPTION                                                                           \
	{                                                                                          \
		&dialect_openai_transcription, "/audio/transcriptions", NULL                       \
	}
#define BEARER	  .secret_form = CURLM_SECRET_BEARER
#define HEADER(h) .secret_form = CURLM_SECRET_HEADER, .secret_header = (h)

const struct provider providers[] = {
	{
		.id = "openai",
		.label = "OpenAI",
		.base_url = "https://api.openai.com/v1",
		.base_url_settable = true, /* regional hosts */
		BEARER,
		.secret_required = true,
		.key_prefix = "sk-",
		.key_example = "sk-...",
		.key_page = "https://platform.openai.com/api-keys",
		CHAT,
		.endpoints = {TO_CHAT,
			      TO_RESPONSES,
			      {&dialect_openai_input_tokens, "/responses/input_tokens", NULL},
			      TO_EMBEDDINGS,
			      TO_SPEECH,
			      TO_TRANSCRIPTION},
		.voice = PROVIDER_VOICE_OPENAI,
		.voice_model = "tts-1",
		.max_completion_tokens = true,
		.stream_usage_option = true,
		.chat = OPENAI_CHAT("safety_identifier"),
	},
	{
		.id = "openai_compatible",
		.label = "OpenAI-compatible endpoint",
		.base_url_settable = true,
		BEARER,
		.key_example = "whatever the endpoint expects",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS, TO_SPEECH, TO_TRANSCRIPTION},
		.voice = PROVIDER_VOICE_OPENAI,
		.stream_usage_option = true,
		.chat = {{NULL, 0, E_ALL, "user"}},
	},
	{
		.id = "openrouter",
		.label = "OpenRouter",
		.base_url = "https://openrouter.ai/api/v1",
		BEARER,
		.secret_required = true,
		.key_prefix = "sk-or-",
		.key_example = "sk-or-...",
		.key_page = "https://openrouter.ai/settings/keys",
		CHAT,
		.endpoints = {TO_CHAT,
			      TO_RESPONSES,
			      {&dialect_anthropic_messages, "/messages", NULL},
			      TO_EMBEDDINGS,
			      TO_SPEECH,
			      TO_TRANSCRIPTION},
		.list_is_public = true,
		.path_auth = "/key",
		.auth = PROVIDER_AUTH_OPENROUTER,
		.stream_usage_option = true,
		.chat = {{NULL, QUIRK_OPENROUTER | QUIRK_TOP_K | QUIRK_CACHE_KEY, E_ALL, "user"}},
	},
	{
		.id = "anthropic",
		.label = "Anthropic",
		.base_url = "https://api.anthropic.com",
		HEADER("x-api-key"),
		.secret_required = true,
		.key_prefix = "sk-ant-",
		.key_example = "sk-ant-...",
		.key_page = "https://console.anthropic.com/settings/keys",
		.speaks = "anthropic_messages",
		.header_name = "anthropic-version", /* required by every path */
		.header_value = "2023-06-01",
		.path_chat = "/v1/messages",
		.endpoints = {{&dialect_anthropic_messages, "/v1/messages", NULL},
			      {&dialect_anthropic_count_tokens, "/v1/messages/count_tokens", NULL}},
		.path_models = "/v1/models?limit=1000",
		.text = PROVIDER_TEXT_ANTHROPIC,
	},
	{
		.id = "gemini",
		.label = "Google Gemini",
		.base_url = "https://generativelanguage.googleapis.com/v1beta",
		HEADER("x-goog-api-key"),
		.secret_required = true,
		.key_prefix = "AIza|AQ.",
		.key_example = "AIza...",
		.key_page = "https://aistudio.google.com/apikey",
		.speaks = "gemini",
		.path_models = "/models?pageSize=1000",
		.endpoints = {{&dialect_gemini, "/models/{model}:generateContent",
			       "/models/{model}:streamGenerateContent?alt=sse"},
			      {&dialect_gemini_count_tokens, "/models/{model}:countTokens", NULL},
			      {&dialect_gemini_batch_embed, "/models/{model}:batchEmbedContents",
			       NULL},
			      {&dialect_gemini_embed, "/models/{model}:embedContent", NULL}},
		.list = PROVIDER_LIST_GEMINI,
		.text = PROVIDER_TEXT_GEMINI,
	},
	{
		.id = "grok",
		.label = "xAI",
		.base_url = "https://api.x.ai/v1",
		BEARER,
		.secret_required = true,
		.key_prefix = "xai-",
		.key_example = "xai-...",
		.key_page = "https://console.x.ai",
		CHAT,
		.endpoints = {TO_CHAT,
			      TO_RESPONSES,
			      {&dialect_anthropic_messages, "/messages", NULL}},
		.path_auth = "/api-key",
		.auth = PROVIDER_AUTH_XAI,
		.max_completion_tokens = true,
		.stream_usage_option = true,
		.chat = {{"grok-3-mini*|grok-4.3*|grok-4.5*", GROK_REASONS, E(low) | E(high),
			  "user"},
			 {"grok-2*|grok-3*|*non-reasoning*", 0, 0, "user"},
			 {"grok-4*|grok-code*|grok-build*", GROK_REASONS, 0, "user"},
			 {NULL, 0, 0, "user"}},
	},
	{
		.id = "mistral",
		.label = "Mistral",
		.base_url = "https://api.mistral.ai/v1",
		BEARER,
		.secret_required = true,
		.key_len = 32,
		.key_example = "32 letters and digits",
		.key_page = "https://console.mistral.ai/api-keys",
		CHAT, /* refuses stream_options, sends usage with the finish */
		.endpoints = {TO_CHAT, TO_EMBEDDINGS, TO_TRANSCRIPTION},
		.chat = {{"mistral-small-2603|mistral-small-latest|mistral-medium-3-5|mistral-medium-latest",
			  MISTRAL_WAYS, E_ALL & ~E(max), NULL},
			 {NULL, MISTRAL_WAYS, 0, NULL}},
	},
	{
		.id = "kimi",
		.label = "Moonshot (Kimi)",
		.base_url = "https://api.moonshot.ai/v1",
		.base_url_settable = true, /* the mainland platform is a host of its own */
		BEARER,
		.secret_required = true,
		.key_prefix = "sk-",
		.key_example = "sk-...",
		.key_page = "https://platform.moonshot.ai/console/api-keys",
		CHAT,
		.endpoints = {TO_CHAT},
		.path_auth = "/users/me/balance",
		.auth = PROVIDER_AUTH_KIMI,
		.stream_usage_option = true,
		.chat =
			{/* sampling is fixed from k2.5 on (openai-compatible.md 4) */
			 {"kimi-k2-thinking*", KIMI_WAYS | QUIRK_REASONING_BACK, 0, NULL},
			 {"kimi-k2.*|kimi-k3*|kimi-latest",
			  KIMI_WAYS | QUIRK_THINKING | QUIRK_REASONING_BACK | QUIRK_NO_SAMPLING |
				  QUIRK_NO_PENALTIES | QUIRK_NO_CHOICES,
			  E(none), NULL},
			 {NULL, KIMI_WAYS, 0, NULL}},
	},
	{
		.id = "elevenlabs",
		.label = "ElevenLabs",
		.base_url = "https://api.elevenlabs.io",
		HEADER("xi-api-key"),
		.secret_required = true,
		.key_prefix = "sk_",
		.key_len = 32, /* older keys */
		.key_example = "sk_...",
		.key_page = "https://elevenlabs.io/app/settings/api-keys",
		.speaks = "elevenlabs_speech",
		.endpoints = {{&dialect_elevenlabs_speech, "/v1/text-to-speech", NULL},
			      {&dialect_elevenlabs_transcription, "/v1/speech-to-text", NULL}},
		.path_models = "/v1/models",
		.list = PROVIDER_LIST_ELEVENLABS,
		.path_auth = "/v1/user",
		.auth = PROVIDER_AUTH_ELEVENLABS,
		.auth_else_models = true, /* keys can be restricted per feature */
		.voice = PROVIDER_VOICE_ELEVENLABS,
		.voice_model = "eleven_flash_v2_5",
	},
	{
		.id = "deepseek",
		.label = "DeepSeek",
		.base_url = "https://api.deepseek.com",
		BEARER,
		.secret_required = true,
		.key_prefix = "sk-",
		.key_example = "sk-...",
		.key_page = "https://platform.deepseek.com/api_keys",
		CHAT,
		.endpoints = {TO_CHAT},
		.path_auth = "/user/balance",
		.auth = PROVIDER_AUTH_DEEPSEEK,
		.stream_usage_option = true,
		.chat = {{NULL, DEEPSEEK_WAYS, E(none) | E(low) | E(high) | E(max), NULL}},
	},
	{
		.id = "groq",
		.label = "Groq",
		.base_url = "https://api.groq.com/openai/v1",
		BEARER,
		.secret_required = true,
		.key_prefix = "gsk_",
		.key_example = "gsk_...",
		.key_page = "https://console.groq.com/keys",
		CHAT,
		.endpoints = {TO_CHAT},
		.max_completion_tokens = true,
		.stream_usage_option = true,
		.chat = {{"openai/gpt-oss*", GROQ_WAYS, E_LOW_HIGH, "user"},
			 {"qwen/*", GROQ_WAYS, E(none), "user"},
			 {NULL, GROQ_WAYS, 0, "user"}},
	},
	{
		.id = "together",
		.label = "Together AI",
		.base_url = "https://api.together.xyz/v1",
		BEARER,
		.secret_required = true,
		.key_example = "the key of your account page",
		.key_page = "https://api.together.ai/settings/api-keys",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS, TO_SPEECH, TO_TRANSCRIPTION},
		.list = PROVIDER_LIST_BARE,
		.stream_usage_option = true,
		.chat = {{NULL,
			  QUIRK_MAX_TOKENS | QUIRK_NO_DEVELOPER | QUIRK_NO_PARALLEL |
				  QUIRK_NO_STRICT | QUIRK_TOP_K | QUIRK_INT_LOGPROBS,
			  E_LOW_HIGH, NULL}},
	},
	{
		.id = "azure_openai",
		.label = "Azure OpenAI",
		.base_url_settable = true, /* https://<resource>.openai.azure.com/openai/v1 */
		HEADER("api-key"),
		.secret_required = true,
		.key_example = "the key of the resource",
		.key_page = "https://portal.azure.com",
		CHAT,
		.endpoints = {TO_CHAT, TO_RESPONSES, TO_EMBEDDINGS, TO_SPEECH, TO_TRANSCRIPTION},
		.list_is_catalogue = true, /* a call names a deployment */
		.voice = PROVIDER_VOICE_OPENAI,
		.max_completion_tokens = true,
		.stream_usage_option = true,
		.chat = OPENAI_CHAT("user"),
	},
	{
		.id = "vllm",
		.label = "vLLM",
		.base_url_settable = true,
		BEARER,
		.key_example = "what --api-key was given",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS, TO_TRANSCRIPTION},
		.stream_usage_option = true,
		.chat = {{NULL, QUIRK_NO_DEVELOPER | QUIRK_TOP_K, E_ALL, "user"}},
	},
	{
		.id = "ollama",
		.label = "Ollama",
		.base_url_settable = true,
		BEARER,
		.key_example = "none, or what your proxy expects",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS},
		.stream_usage_option = true,
		.chat = {{NULL,
			  QUIRK_MAX_TOKENS | QUIRK_NO_DEVELOPER | QUIRK_NO_TOOL_CHOICE |
				  QUIRK_NO_PARALLEL | QUIRK_NO_STRICT | QUIRK_NO_LOGIT_BIAS |
				  QUIRK_NO_LOGPROBS | QUIRK_NO_CHOICES | QUIRK_NO_IMAGE_URLS,
			  E(none) | E_LOW_HIGH, NULL}},
	},
	{
		.id = "lm_studio",
		.label = "LM Studio",
		.base_url_settable = true,
		BEARER,
		.key_example = "none, or the server's token",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS},
		.stream_usage_option = true,
		.chat = {{NULL,
			  QUIRK_MAX_TOKENS | QUIRK_NO_DEVELOPER | QUIRK_NO_PARALLEL |
				  QUIRK_NO_STRICT | QUIRK_NO_LOGPROBS | QUIRK_NO_CHOICES |
				  QUIRK_NO_JSON_OBJECT | QUIRK_TOP_K,
			  E_ALL, NULL}},
	},
	{
		.id = "llama_cpp",
		.label = "llama.cpp server",
		.base_url_settable = true,
		BEARER,
		.key_example = "what --api-key was given",
		CHAT,
		.endpoints = {TO_CHAT, TO_EMBEDDINGS},
		.stream_usage_option = true,
		.chat = {{NULL, QUIRK_NO_DEVELOPER | QUIRK_NO_STRICT | QUIRK_TOP_K, E_ALL, NULL}},
	},
	{.id = NULL},
};

const struct provider *provider_find(struct str id)
{
	for (const struct provider *p = providers; p->id; p++)
		if (str_is(id, p->id))
			return p;
	return NULL;
}

const struct provider_endpoint *provider_endpoint(const struct provider *p,
						  const struct dialect *caller)
{
	const struct provider_endpoint *found = NULL;

	for (const struct provider_endpoint *e = p->endpoints; e->dialect; e++) {
		if (e->dialect == caller)
			return e;
		if (!found && e->dialect->operation == caller->operation &&
		    e->dialect->encode_ask && caller->decode_ask)
			found = e;
	}
	return found;
}

static bool models_match(const char *patterns, struct str model)
{
	struct str rest = str_from(patterns);

	while (rest.ptr)
		if (str_glob(str_cut(&rest, '|'), model))
			return true;
	return false;
}

const struct provider_chat *provider_chat(const struct provider *p, struct str model)
{
	const struct provider_chat *row = p->chat;

	while (row->models && !models_match(row->models, model))
		row++;
	return row;
}

bool provider_does(const struct provider *p, int operation)
{
	for (const struct provider_endpoint *e = p->endpoints; e->dialect; e++)
		if ((int)e->dialect->operation == operation)
			return true;
	return false;
}

/* ---- what a key looks like -------------------------------------------------------------------- */

/* The longest of the provider's prefixes that `key` starts with; 0: none. */
static size_t prefix_len(const struct provider *p, struct str key)
{
	struct str rest = str_from(p->key_prefix);
	size_t longest = 0;

	while (rest.ptr) {
		struct str one = str_cut(&rest, '|');

		if (one.len > longest && str_starts(key, one))
			longest = one.len;
	}
	return longest;
}

static bool all_alnum(struct str key)
{
	for (size_t i = 0; i < key.len; i++)
		if (!(key.ptr[i] >= '0' && key.ptr[i] <= '9') &&
		    !(key.ptr[i] >= 'a' && key.ptr[i] <= 'z') &&
		    !(key.ptr[i] >= 'A' && key.ptr[i] <= 'Z'))
			return false;
	return true;
}

/* Whose prefix says more about `key` than those of `p` do? "sk-ant-" beats "sk-". */
static const struct provider *better_owner(const struct provider *p, struct str key)
{
	size_t longest = prefix_len(p, key);
	const struct provider *owner = NULL;

	for (const struct provider *o = providers; o->id; o++)
		if (prefix_len(o, key) > longest) {
			longest = prefix_len(o, key);
			owner = o;
		}
	return owner;
}

static bool form_ok(const struct provider *p, struct str key)
{
	if (!p->key_prefix && p->key_len == 0)
		return true;
	return prefix_len(p, key) > 0 || ((size_t)p->key_len == key.len && all_alnum(key));
}

#define OWN_KEY_LEN 49 /* tg_ + 8 + _ + 32 + 6 (interface.md) */

enum rc provider_key_check(const struct provider *p, struct str key, struct err *err)
{
	/* An endpoint of one's own may stand before any vendor and take that one's key. */
	const bool vendor = p->base_url != NULL;
	const struct provider *owner = vendor ? better_owner(p, key) : NULL;

	if (key.len == OWN_KEY_LEN && str_starts(key, STR("tg_")))
		err_set(err, RC_INVALID, "invalid_secret",
			"this is an API key of this service, not a key of %s", p->label);
	else if (owner)
		err_set(err, RC_INVALID, "invalid_secret", "this looks like a key of %s, not of %s",
			owner->label, p->label);
	else if (!form_ok(p, key))
		err_set(err, RC_INVALID, "invalid_secret", "this does not look like a key of %s",
			p->label);
	else
		return RC_OK;
	err_hint(err, "keys of %s look like %s; get one at %s", p->label, p->key_example,
		 p->key_page ? p->key_page : "the endpoint's owner");
	err_field(err, "secret");
	return RC_INVALID;
}
