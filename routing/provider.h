/* routing/provider.h - a provider is a row: where, which dialect, which auth header, which quirks.
 * Adding one touches this table, its error markers, and its fixtures. Sources per row in providers.c. */
#ifndef ROUTING_PROVIDER_H
#define ROUTING_PROVIDER_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/err.h"
#include "server/base/str.h"
#include "server/curlm.h"

struct dialect;

/* What a free question for the key itself answers with (probe_read.c). */
enum provider_auth {
	PROVIDER_AUTH_MODELS, /* no such question: the list of models needs the key */
	PROVIDER_AUTH_OPENROUTER,
	PROVIDER_AUTH_XAI,
	PROVIDER_AUTH_KIMI,
	PROVIDER_AUTH_DEEPSEEK,
	PROVIDER_AUTH_ELEVENLABS,
};
enum provider_list {
	PROVIDER_LIST_DATA,	  /* {"data":[{"id"}]} */
	PROVIDER_LIST_BARE,	  /* [{"id"}] */
	PROVIDER_LIST_GEMINI,	  /* {"models":[{"name":"models/..."}]} */
	PROVIDER_LIST_ELEVENLABS, /* [{"model_id"}] */
};
/* The smallest paid call of each kind; NONE: it has no such call, or none that is known to work unasked. */
enum provider_text {
	PROVIDER_TEXT_NONE,
	PROVIDER_TEXT_CHAT,
	PROVIDER_TEXT_ANTHROPIC,
	PROVIDER_TEXT_GEMINI
};
enum provider_voice { PROVIDER_VOICE_NONE, PROVIDER_VOICE_OPENAI, PROVIDER_VOICE_ELEVENLABS };

/* One thing that a provider does, and in which words. `path` may have {model}, which is filled in percent-encoded. */
struct provider_endpoint {
	const struct dialect *dialect; /* NULL: the list's end */
	const char *path;
	const char *path_stream; /* NULL: the same */
};
#define PROVIDER_ENDPOINTS_MAX 10

/* What a provider of the chat dialect will not have, or has in words of its own. What it refuses the whole request for is
 * mended, left out by name or refused before it is asked: for calls that pass through, too. */
enum provider_quirk {
	QUIRK_MAX_TOKENS = 1u << 0,	/* knows max_tokens alone */
	QUIRK_MAX_COMPLETION = 1u << 1, /* refuses max_tokens */
	QUIRK_NO_SAMPLING = 1u << 2, /* temperature, top_p: its own, but where reasoning is off */
	QUIRK_NO_PENALTIES = 1u << 3,
	QUIRK_NO_STOP = 1u << 4,
	QUIRK_NO_LOGPROBS = 1u << 5,
	QUIRK_INT_LOGPROBS = 1u << 6, /* logprobs is how many */
	QUIRK_NO_LOGIT_BIAS = 1u << 7,
	QUIRK_NO_SEED = 1u << 8,
	QUIRK_RANDOM_SEED = 1u << 9, /* seed is random_seed */
	QUIRK_NO_CHOICES = 1u << 10, /* n is 1 */
	QUIRK_NO_NAMES = 1u << 11,   /* of messages */
	QUIRK_NO_DEVELOPER = 1u << 12,
	QUIRK_NO_TOOL_CHOICE = 1u << 13,
	QUIRK_NO_PARALLEL = 1u << 14, /* no parallel_tool_calls */
	QUIRK_NO_STRICT = 1u << 15,   /* no strict in a function */
	QUIRK_NO_IMAGE_URLS = 1u << 16,
	QUIRK_NO_JSON_OBJECT = 1u << 17,
	QUIRK_NO_JSON_SCHEMA = 1u << 18,
	QUIRK_NINE_CHAR_IDS = 1u << 19, /* of tool calls */
	QUIRK_MISTRAL =
		1u
		<< 20, /* fields it does not know are a 422; documents, audio, thinking in its own parts */
	QUIRK_THINKING = 1u << 21,	 /* thinking: {type: enabled|disabled} */
	QUIRK_REASONING_BACK = 1u << 22, /* with tools, earlier reasoning_content must come back */
	QUIRK_OPENAI = 1u << 23,	 /* all of what OpenAI's own API has */
	QUIRK_OPENROUTER = 1u << 24, /* reasoning and cache marks as objects, files by address */
	QUIRK_TOP_K = 1u << 25,	     /* knows it */
	QUIRK_CACHE_KEY = 1u << 26,  /* knows prompt_cache_key */
	QUIRK_CACHE_BREAKPOINT = 1u << 27, /* knows prompt_cache_breakpoint */
	QUIRK_REASONING_ALL = 1u << 28	   /* ... and not only where an answer called tools */
};
struct provider_chat {
	const char *models; /* "o3*|o4*": of these; NULL: of all others, and the last row */
	uint32_t quirks;    /* enum provider_quirk */
	uint32_t efforts; /* 1 << enum chat_effort: what reasoning_effort may be; 0: it has none */
	const char *user_as; /* the field for the end user; NULL: none */
};
#define PROVIDER_CHAT_MAX 7

struct provider {
	const char *id;	    /* "openai" */
	const char *label;  /* for people */
	const char *speaks; /* the wire language of its chat, or what else it is for */
	/* What calls go to. Of those for one operation the first is its own language; the others it speaks too, and a caller's
	 * own dialect goes before. */
	struct provider_endpoint endpoints[PROVIDER_ENDPOINTS_MAX];
	const char *base_url;	/* default; NULL: the profile must name one */
	bool base_url_settable; /* may a profile name its own? */
	enum curlm_secret_form secret_form;
	const char *secret_header;
	bool secret_required;
	const char *header_name, *header_value; /* sent with every request; NULL: none */
	const char *key_prefix;			/* format check: "a-" or "a-|b-"; NULL: any */
	int key_len; /* keys without the prefix are so many letters and digits; 0: there are none */
	const char
		*key_example; /* for the error: a shape, never something a scanner takes for real */
	const char *key_page; /* where a person gets one */
	const char *path_chat;	 /* "/chat/completions" */
	const char *path_models; /* "/models", with the query that asks for all */
	enum provider_list list;
	bool list_is_catalogue; /* it names what exists, not what this account can call: not kept */
	bool list_is_public;	/* it comes with any key: no word about this one */
	const char *path_auth;	/* PROVIDER_AUTH_MODELS: NULL */
	enum provider_auth auth;
	bool auth_else_models; /* a key without the right to ask that may still list models */
	enum provider_text text;
	enum provider_voice voice;
	const char *voice_model;    /* the cheapest to speak with; NULL: the asker must name one */
	bool max_completion_tokens; /* reasoning models refuse max_tokens: inject this name */
	bool stream_usage_option;   /* understands stream_options.include_usage */
	struct provider_chat chat[PROVIDER_CHAT_MAX];
};
extern const struct provider providers[];	     /* ends with id NULL */
const struct provider *provider_find(struct str id); /* NULL: no such id */
/* The endpoint for a call in dialect `caller`: one of the same dialect, else the first of the same operation that can be
 * translated to. NULL: the provider cannot do it. Pure. */
const struct provider_endpoint *provider_endpoint(const struct provider *p,
						  const struct dialect *caller);
/* The first row that matches. Pure. */
const struct provider_chat *provider_chat(const struct provider *p, struct str model);
/* Has it an endpoint for `o`, as its enum operation? Pure. */
bool provider_does(const struct provider *p, int operation);
/* Does this look like a key of `p`? RC_INVALID, code invalid_secret: `err` says what it looks like instead (a key
 * of another provider, one of our own), how keys of `p` look and where to get one. Never quotes the key. Pure. */
MUST_CHECK enum rc provider_key_check(const struct provider *p, struct str key, struct err *err);

#endif
