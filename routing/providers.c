/* routing/providers.c - the table of providers.
 *
 * A row says where a provider is, which dialect it speaks, how it wants its key, and its quirks; a new provider of a
 * known dialect is a row, its error markers and its fixtures. A row whose dialect is NULL is known by name
 * and refused clearly where a profile would use it. Base URLs and auth forms are those that the vendors'
 * own API references state; private servers (vllm, ollama, ...) have no address of their own.
 *
 * Key examples are shapes for a person ("sk-..."), never something that a secret scanner takes for a key. */
#include "routing/provider.h"
#include "routing/dialect.h"

#define CHAT	  .path_chat = "/chat/completions", .path_models = "/models"
#define BEARER	  .secret_form = CURLM_SECRET_BEARER
#define HEADER(h) .secret_form = CURLM_SECRET_HEADER, .secret_header = (h)

const struct provider providers[] = {
	{
		.id = "openai",
		.label = "OpenAI",
		.dialect = &dialect_openai_chat,
		.base_url = "https://api.openai.com/v1",
		.base_url_settable = true, /* regional hosts */
		BEARER,
		.secret_required = true,
		.key_prefix = "sk-",
		.key_example = "sk-...",
		.key_page = "https://platform.openai.com/api-keys",
		CHAT,
		.max_completion_tokens = true,
		.stream_usage_option = true,
	},
	{
		.id = "openai_compatible",
		.label = "OpenAI-compatible endpoint",
		.dialect = &dialect_openai_chat,
		.base_url_settable = true,
		BEARER,
		.key_example = "whatever the endpoint expects",
		CHAT,
		.stream_usage_option = true,
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
		.stream_usage_option = true,
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
		.path_chat = "/v1/messages",
		.path_models = "/v1/models",
	},
	{
		.id = "gemini",
		.label = "Google Gemini",
		.base_url = "https://generativelanguage.googleapis.com/v1beta",
		HEADER("x-goog-api-key"),
		.secret_required = true,
		.key_example = "AIza...",
		.key_page = "https://aistudio.google.com/apikey",
		.path_models = "/models",
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
		.max_completion_tokens = true,
		.stream_usage_option = true,
	},
	{
		.id = "mistral",
		.label = "Mistral",
		.base_url = "https://api.mistral.ai/v1",
		BEARER,
		.secret_required = true,
		.key_example = "32 letters and digits",
		.key_page = "https://console.mistral.ai/api-keys",
		CHAT, /* refuses stream_options, sends usage with the finish */
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
		.stream_usage_option = true,
	},
	{
		.id = "elevenlabs",
		.label = "ElevenLabs",
		.base_url = "https://api.elevenlabs.io",
		HEADER("xi-api-key"),
		.secret_required = true,
		.key_example = "sk_...",
		.key_page = "https://elevenlabs.io/app/settings/api-keys",
		.path_models = "/v1/models",
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
		.stream_usage_option = true,
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
		.max_completion_tokens = true,
		.stream_usage_option = true,
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
		.stream_usage_option = true,
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
		.max_completion_tokens = true,
		.stream_usage_option = true,
	},
	{
		.id = "vllm",
		.label = "vLLM",
		.base_url_settable = true,
		BEARER,
		.key_example = "what --api-key was given",
		CHAT,
		.stream_usage_option = true,
	},
	{
		.id = "ollama",
		.label = "Ollama",
		.base_url_settable = true,
		BEARER,
		.key_example = "none, or what your proxy expects",
		CHAT,
		.stream_usage_option = true,
	},
	{
		.id = "lm_studio",
		.label = "LM Studio",
		.base_url_settable = true,
		BEARER,
		.key_example = "none, or the server's token",
		CHAT,
		.stream_usage_option = true,
	},
	{
		.id = "llama_cpp",
		.label = "llama.cpp server",
		.base_url_settable = true,
		BEARER,
		.key_example = "what --api-key was given",
		CHAT,
		.stream_usage_option = true,
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
