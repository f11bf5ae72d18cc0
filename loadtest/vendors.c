/* loadtest/vendors.c - what each provider answers when it is asked for a key or its models, and whose call it is.
 *
 * Paths, headers, shapes and errors are those of the vendors' API references, below /PROVIDER_ID and the path of the
 * provider's own address: /grok/v1/api-key. What a key stands for is written in it: a key that has "bad" in it is
 * wrong, "broke" is out of money, and so on. Written without a look at the service's own table, on purpose. */
#include "vendors.h"
#include <stdio.h>
#include <string.h>

enum answers { /* whose error bodies */
	       LIKE_OPENAI,
	       LIKE_OPENROUTER,
	       LIKE_ANTHROPIC,
	       LIKE_GEMINI,
	       LIKE_XAI,
	       LIKE_MISTRAL,
	       LIKE_KIMI,
	       LIKE_DEEPSEEK,
	       LIKE_ELEVENLABS,
};

struct vendor {
	const char *id, *base; /* the path of its address */
	const char *header;    /* NULL: Authorization: Bearer */
	enum answers like;
	const char *auth; /* the path that tells of a key; NULL: none */
	bool open;	  /* serves without a key, too */
};

static const struct vendor vendors[] = {
	{"openai", "/v1", NULL, LIKE_OPENAI, NULL, false},
	{"openai_compatible", "/v1", NULL, LIKE_OPENAI, NULL, true},
	{"openrouter", "/api/v1", NULL, LIKE_OPENROUTER, "/key", false},
	{"anthropic", "", "x-api-key", LIKE_ANTHROPIC, NULL, false},
	{"gemini", "/v1beta", "x-goog-api-key", LIKE_GEMINI, NULL, false},
	{"gemini", "/v1", "x-goog-api-key", LIKE_GEMINI, NULL, false},
	{"grok", "/v1", NULL, LIKE_XAI, "/api-key", false},
	{"mistral", "/v1", NULL, LIKE_MISTRAL, NULL, false},
	{"kimi", "/v1", NULL, LIKE_KIMI, "/users/me/balance", false},
	{"elevenlabs", "", "xi-api-key", LIKE_ELEVENLABS, "/v1/user", false},
	{"deepseek", "", NULL, LIKE_DEEPSEEK, "/user/balance", false},
	{"groq", "/openai/v1", NULL, LIKE_OPENAI, NULL, false},
	{"together", "/v1", NULL, LIKE_OPENAI, NULL, false},
	{"azure_openai", "/openai/v1", "api-key", LIKE_OPENAI, NULL, false},
	{"vllm", "/v1", NULL, LIKE_OPENAI, NULL, true},
	{"ollama", "/v1", NULL, LIKE_OPENAI, NULL, true},
	{"lm_studio", "/v1", NULL, LIKE_OPENAI, NULL, true},
	{"llama_cpp", "/v1", NULL, LIKE_OPENAI, NULL, true},
};

struct asked {
	const struct vendor *vendor;
	struct span path; /* behind the vendor's base */
	struct span body;
	char key[512];
	bool post;
	struct vendor_answer *ret;
};

/* ---- errors ------------------------------------------------------------------------------------ */

static void error_openai(struct asked *a, int status, const char *type, const char *code,
			 const char *words)
{
	a->ret->status = status;
	text_f(&a->ret->body,
	       "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
	       words, type, code);
}

static void error_anthropic(struct asked *a, int status, const char *type, const char *words)
{
	a->ret->status = status;
	text_f(&a->ret->body,
	       "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"%s\"},\"request_id\":\"req_fake\"}",
	       type, words);
}

static void error_gemini(struct asked *a, int status, const char *name, const char *reason,
			 const char *words)
{
	a->ret->status = status;
	text_f(&a->ret->body,
	       "{\"error\":{\"code\":%d,\"message\":\"%s\",\"status\":\"%s\",\"details\":[{\"@type\":"
	       "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"%s\"}]}}",
	       status, words, name, reason);
}

static void error_elevenlabs(struct asked *a, int status, const char *name, const char *words)
{
	a->ret->status = status;
	text_f(&a->ret->body, "{\"detail\":{\"status\":\"%s\",\"message\":\"%s\"}}", name, words);
}

static void error_flat(struct asked *a, int status, const char *format, const char *words)
{
	char code[128];

	a->ret->status = status;
	snprintf(code, sizeof(code), "%s", format);
	text_f(&a->ret->body, "{\"code\":\"%s\",\"error\":\"%s\"}", code, words);
}

/* Every character as JSON's \u00XX: nobody who looks at the bytes alone finds the key in them. */
static void escaped(const char *key, char *to, size_t size)
{
	size_t n = 0;

	for (; *key != 0 && n + 7 < size; key++)
		n += (size_t)snprintf(to + n, size - n, "\\u%04x", (unsigned char)*key);
	to[n] = 0;
}

static void wrong_key(struct asked *a)
{
	char words[4096] = "Incorrect API key provided: ";
	size_t n = strlen(words);

	if (strstr(a->key, "escaped") != NULL)
		escaped(a->key, words + n, sizeof(words) - n);
	else if (strstr(a->key, "echo") != NULL) /* some endpoints say the key back */
		snprintf(words + n, sizeof(words) - n, "%s.", a->key);
	else
		snprintf(words + n, sizeof(words) - n, "****.");
	switch (a->vendor->like) {
	case LIKE_ANTHROPIC:
		error_anthropic(a, 401, "authentication_error", words);
		return;
	case LIKE_GEMINI:
		error_gemini(a, 400, "INVALID_ARGUMENT", "API_KEY_INVALID", words);
		return;
	case LIKE_XAI:
		error_flat(a, 400, "Client specified an invalid argument", words);
		return;
	case LIKE_MISTRAL:
		a->ret->status = 401;
		text_f(&a->ret->body, "{\"detail\":\"%s\"}", words);
		return;
	case LIKE_ELEVENLABS:
		error_elevenlabs(a, 401, "invalid_api_key", words);
		return;
	case LIKE_KIMI:
		error_openai(a, 401, "incorrect_api_key_error", "", words);
		return;
	case LIKE_OPENROUTER:
		a->ret->status = 401;
		text_f(&a->ret->body, "{\"error\":{\"code\":401,\"message\":\"%s\"}}", words);
		return;
	default:
		error_openai(a, 401, "invalid_request_error", "invalid_api_key", words);
	}
}

static void no_money(struct asked *a)
{
	switch (a->vendor->like) {
	case LIKE_ANTHROPIC:
		error_anthropic(a, 400, "invalid_request_error",
				"Your credit balance is too low to access the API.");
		return;
	case LIKE_GEMINI:
		error_gemini(a, 402, "RESOURCE_EXHAUSTED", "BILLING", "Prepay credits depleted.");
		return;
	case LIKE_XAI:
		error_flat(a, 403, "The caller does not have permission",
			   "Your team has used all available credits.");
		return;
	case LIKE_ELEVENLABS:
		error_elevenlabs(a, 401, "quota_exceeded", "Not enough credits.");
		return;
	case LIKE_KIMI:
		error_openai(a, 429, "exceeded_current_quota_error", "", "Your account is empty.");
		return;
	case LIKE_MISTRAL:
	case LIKE_DEEPSEEK:
	case LIKE_OPENROUTER:
		error_openai(a, 402, "unknown_error", "payment_required", "Insufficient Balance");
		return;
	default:
		error_openai(a, 429, "insufficient_quota", "insufficient_quota",
			     "You exceeded your current quota.");
	}
}

static void too_often(struct asked *a)
{
	switch (a->vendor->like) {
	case LIKE_ANTHROPIC:
		error_anthropic(a, 429, "rate_limit_error", "Too many requests.");
		return;
	case LIKE_GEMINI:
		error_gemini(a, 429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "Slow down.");
		return;
	case LIKE_ELEVENLABS:
		error_elevenlabs(a, 429, "too_many_concurrent_requests", "Too many requests.");
		return;
	default:
		error_openai(a, 429, "requests", "rate_limit_exceeded", "Rate limit reached.");
	}
}

static void no_right(struct asked *a)
{
	switch (a->vendor->like) {
	case LIKE_ANTHROPIC:
		error_anthropic(a, 403, "permission_error", "This key may not do that.");
		return;
	case LIKE_GEMINI:
		error_gemini(a, 403, "PERMISSION_DENIED", "SERVICE_DISABLED", "Not enabled.");
		return;
	case LIKE_ELEVENLABS:
		error_elevenlabs(a, 401, "missing_permissions",
				 "The API key is missing a permission.");
		return;
	default:
		error_openai(a, 403, "invalid_request_error", "insufficient_permissions",
			     "This key may not do that.");
	}
}

static void no_model(struct asked *a)
{
	if (a->vendor->like == LIKE_ANTHROPIC)
		error_anthropic(a, 404, "not_found_error", "model: no-such-model");
	else if (a->vendor->like == LIKE_GEMINI)
		error_gemini(a, 404, "NOT_FOUND", "MODEL", "no such model");
	else if (a->vendor->like == LIKE_ELEVENLABS)
		error_elevenlabs(a, 400, "model_not_found", "no such model");
	else
		error_openai(a, 404, "invalid_request_error", "model_not_found", "no such model");
}

/* ---- answers ------------------------------------------------------------------------------------- */

static void auth_answer(struct asked *a)
{
	const bool broke = strstr(a->key, "broke") != NULL;
	struct text *t = &a->ret->body;

	switch (a->vendor->like) {
	case LIKE_OPENROUTER:
		text_f(t,
		       "{\"data\":{\"label\":\"fake\",\"limit\":10,\"limit_remaining\":%s,\"usage\":2.5,"
		       "\"is_free_tier\":false}}",
		       broke ? "0" : "7.5");
		return;
	case LIKE_XAI:
		text_f(t,
		       "{\"redacted_api_key\":\"xai-...fake\",\"name\":\"fake\",\"team_id\":\"t\",\"acls\":[],"
		       "\"api_key_blocked\":false,\"api_key_disabled\":%s,\"team_blocked\":%s}",
		       strstr(a->key, "disabled") != NULL ? "true" : "false",
		       strstr(a->key, "restricted") != NULL ? "true" : "false");
		return;
	case LIKE_KIMI:
		text_f(t,
		       "{\"code\":0,\"status\":true,\"scode\":\"0x0\",\"data\":{\"available_balance\":%s,"
		       "\"voucher_balance\":0,\"cash_balance\":3.00}}",
		       broke ? "0.00" : "3.00");
		return;
	case LIKE_DEEPSEEK:
		text_f(t,
		       "{\"is_available\":%s,\"balance_infos\":[{\"currency\":\"USD\",\"total_balance\":"
		       "\"%s\"}]}",
		       broke ? "false" : "true", broke ? "0.00" : "5.00");
		return;
	case LIKE_ELEVENLABS:
		text_f(t,
		       "{\"user_id\":\"fake\",\"subscription\":{\"tier\":\"creator\",\"status\":\"active\","
		       "\"character_count\":%d,\"character_limit\":1000,"
		       "\"can_extend_character_limit\":false}}",
		       broke ? 1000 : 10);
		return;
	default:
		die("a vendor without a page for its keys");
	}
}

/* Something for images and vectors stands first: a probe must not take it for a chat model. */
static void list_answer(struct asked *a)
{
	static const char *const names[] = {"text-embedding-fake", "fake-large", "fake-mini"};
	const char *id = a->vendor->like == LIKE_GEMINI ? "{\"name\":\"models/%s\"}"
			 : a->vendor->like == LIKE_ELEVENLABS
				 ? "{\"model_id\":\"eleven_%s\"}"
				 : "{\"id\":\"%s\",\"object\":\"model\"}";
	const bool bare =
		a->vendor->like == LIKE_ELEVENLABS || strcmp(a->vendor->id, "together") == 0;
	struct text *t = &a->ret->body;

	text_z(t, bare				   ? "["
		  : a->vendor->like == LIKE_GEMINI ? "{\"models\":["
						   : "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char one[128];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(one, sizeof(one), id, names[i]);
#pragma GCC diagnostic pop
		text_f(t, "%s%s", i > 0 ? "," : "", one);
	}
	text_z(t, bare ? "]" : "]}");
}

static bool ends(struct span path, const char *z)
{
	size_t n = strlen(z);

	return path.len >= n && memcmp(path.at + path.len - n, z, n) == 0;
}

static bool starts(struct span path, const char *z)
{
	size_t n = strlen(z);

	return path.len >= n && memcmp(path.at, z, n) == 0;
}

static bool path_has(struct span path, const char *z)
{
	return memmem(path.at, path.len, z, strlen(z)) != NULL;
}

static bool body_has(const struct asked *a, const char *z)
{
	return path_has(a->body, z);
}

/* Asked for free. False: it is a call, if anything. */
static bool probe_answered(struct asked *a)
{
	const bool eleven = a->vendor->like == LIKE_ELEVENLABS;
	const bool own = a->vendor->like == LIKE_ANTHROPIC || eleven;

	if (a->post)
		return false;
	if (a->vendor->auth != NULL && span_is(a->path, a->vendor->auth)) {
		auth_answer(a);
	} else if (span_is(a->path, own ? "/v1/models" : "/models")) {
		/* where nothing else tells of an empty purse, the list does not come */
		if (strstr(a->key, "broke") != NULL && a->vendor->auth == NULL)
			no_money(a);
		else
			list_answer(a);
	} else if (eleven && (span_is(a->path, "/v2/voices") || span_is(a->path, "/v1/voices"))) {
		text_z(&a->ret->body,
		       "{\"voices\":[{\"voice_id\":\"voice1\",\"name\":\"Fake\"}],\"has_more\":false}");
	} else {
		return false;
	}
	return true;
}

/* What costs: not for those who have no money, and not of a model that is none. */
static bool call_refused(struct asked *a)
{
	if (!a->post)
		return false;
	if (strstr(a->key, "broke") != NULL)
		no_money(a);
	else if (body_has(a, "no-such-model") ||
		 (a->vendor->like == LIKE_GEMINI &&
		  (path_has(a->path, "/no-such-model:") ||
		   ends(a->path, "text-embedding-fake:generateContent"))))
		no_model(a);
	else
		return false;
	return true;
}

/* What the key stands for comes before what is asked. */
static bool refused(struct asked *a)
{
	const bool money_on_auth = a->vendor->like == LIKE_XAI && strstr(a->key, "broke") != NULL;

	if (a->vendor->like == LIKE_OPENROUTER && !a->post && span_is(a->path, "/models"))
		return false; /* the one list that anybody gets */
	if ((a->key[0] == 0 && !a->vendor->open) || strstr(a->key, "bad") != NULL ||
	    strstr(a->key, "echo") != NULL) {
		wrong_key(a);
	} else if (strstr(a->key, "limited") != NULL) {
		too_often(a);
	} else if (strstr(a->key, "restricted") != NULL && a->vendor->like == LIKE_ELEVENLABS) {
		if (!span_is(a->path, "/v1/user"))
			return false; /* such a key may do what it was made for */
		no_right(a);
	} else if (strstr(a->key, "restricted") != NULL && a->vendor->like != LIKE_XAI) {
		no_right(a);
	} else if (strstr(a->key, "down") != NULL) {
		a->ret->status = 503;
		a->ret->type = "text/html";
		text_z(&a->ret->body, "<html><body>503 Service Unavailable</body></html>");
	} else if (strstr(a->key, "garbage") != NULL) {
		a->ret->type = "text/html";
		text_z(&a->ret->body, "<html><body>Welcome to the hotel's network</body></html>");
	} else if (strstr(a->key, "redirect") != NULL) {
		a->ret->status = 302;
		a->ret->location = "http://127.0.0.1:1/elsewhere";
	} else if (money_on_auth) {
		no_money(a);
	} else {
		return false;
	}
	return true;
}

static const struct vendor *vendor_of(struct span *path)
{
	const char *slash;
	struct span id;

	if (path->len < 2 || path->at[0] != '/')
		return NULL;
	slash = memchr(path->at + 1, '/', path->len - 1);
	if (slash == NULL)
		return NULL;
	id = (struct span){path->at + 1, (size_t)(slash - path->at - 1)};
	for (size_t i = 0; i < sizeof(vendors) / sizeof(*vendors); i++) {
		const struct vendor *v = &vendors[i];
		struct span rest = {slash, path->len - (size_t)(slash - path->at)};

		if (span_is(id, v->id) && starts(rest, v->base)) {
			*path = (struct span){rest.at + strlen(v->base),
					      rest.len - strlen(v->base)};
			return v;
		}
	}
	return NULL;
}

static void key_of(struct asked *a, const struct http_head *head, struct span query)
{
	const char *in_query = memmem(query.at, query.len, "key=", 4);
	struct span v;

	if (a->vendor->header != NULL && http_header(head, a->vendor->header, &v)) {
		span_copy(v, a->key, sizeof(a->key));
	} else if (http_header(head, "Authorization", &v) && v.len > 7 &&
		   span_is_nocase((struct span){v.at, 7}, "Bearer ")) {
		span_copy((struct span){v.at + 7, v.len - 7}, a->key, sizeof(a->key));
	} else if (a->vendor->like == LIKE_GEMINI && in_query != NULL) {
		struct span key = {in_query + 4, query.len - (size_t)(in_query + 4 - query.at)};
		const char *end = memchr(key.at, '&', key.len);

		key.len = end != NULL ? (size_t)(end - key.at) : key.len;
		span_copy(key, a->key, sizeof(a->key));
	}
}

/* A provider's other dialects live in folders of their own; the version is said by some bases only. */
static void path_plain(struct span *path, const struct vendor *v)
{
	const char *const folders[] = {v->like == LIKE_GEMINI ? "/openai" : "/anthropic", "/v1"};

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		size_t n = strlen(folders[i]);

		if (starts(*path, folders[i]) && path->len > n && path->at[n] == '/')
			*path = (struct span){path->at + n, path->len - n};
	}
}

enum vendor_found vendor_serve(const struct http_head *head, struct span path, struct span query,
			       struct span body, struct vendor_answer *ret)
{
	struct asked a = {.path = path, .body = body, .ret = ret};
	struct span v;

	a.vendor = vendor_of(&a.path);
	if (a.vendor == NULL)
		return VENDOR_NONE;
	*ret = (struct vendor_answer){.status = 200, .type = "application/json"};
	a.post = span_is(head->start[0], "POST");
	key_of(&a, head, query);
	if (a.vendor->like == LIKE_ANTHROPIC && !http_header(head, "anthropic-version", &v)) {
		error_anthropic(&a, 400, "invalid_request_error",
				"anthropic-version: header is required");
		return VENDOR_ANSWERED;
	}
	if (refused(&a) || probe_answered(&a) || call_refused(&a))
		return VENDOR_ANSWERED;
	ret->vendor = a.vendor->id;
	ret->path = a.path;
	path_plain(&ret->path, a.vendor);
	span_copy(span_z(a.key), ret->key, sizeof(ret->key));
	return VENDOR_CALL;
}
