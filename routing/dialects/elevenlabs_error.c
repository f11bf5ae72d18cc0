/* routing/dialects/elevenlabs_error.c - which failure of ElevenLabs is which (contracts: voice.md 5).
 *
 * A 401 there may be a wrong key, a right one without the feature, an account out of credits, or one locked for its
 * activity: `detail.status` tells. Must never pass on words that may name a key or an account. */
#include "routing/dialects/elevenlabs_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/dialects/words_priv.h"

#define WORDS_BYTES_MAX 256

static const struct {
	const char *status; /* of detail: all of it, or with a '*' its beginning */
	enum error_class class;
} statuses[] = {
	{"invalid_api_key", ERROR_auth},
	{"needs_authorization", ERROR_auth},
	{"missing_permissions", ERROR_permission},
	{"detected_unusual_activity", ERROR_permission},
	{"quota_exceeded", ERROR_quota},
	{"payment_required", ERROR_quota},
	{"max_character_limit_exceeded", ERROR_context_length},
	{"text_too_long", ERROR_context_length},
	{"model_not_found", ERROR_not_found},
	{"invalid_model_id", ERROR_not_found},
	/* about the voice that the caller named: one caller's choice must not cool a target that others share */
	{"voice_not_found", ERROR_invalid_request},
	{"voice_not_fine_tuned", ERROR_invalid_request},
	{"only_for_creator*", ERROR_invalid_request},
	{"content_against_policy", ERROR_content_policy},
	{"safety*", ERROR_content_policy},
	{"too_many_concurrent_requests", ERROR_rate_limit},
	{"system_busy", ERROR_overloaded},
};

static enum error_class class_of(int http, struct str status)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (str_glob(str_from(statuses[i].status), status))
			return statuses[i].class;
	if (http == 402)
		return ERROR_quota;
	if (http == 409 || http == 425)
		return ERROR_server_error; /* the next try may get through */
	return ERROR_none;
}

/* detail: an object with status and message, a list of what does not validate, or a sentence. */
static void words_of(const struct json *detail, struct str *status, struct str *message)
{
	const struct json *first = json_type(detail) == JSON_ARRAY ? json_at(detail, 0) : NULL;

	(void)json_string(json_get(detail, "status"), status);
	if (status->len == 0)
		(void)json_string(json_get(detail, "code"), status);
	if (!detail || json_string(detail, message))
		return;
	(void)json_string(json_get(first ? first : detail, first ? "msg" : "message"), message);
}

static const char *own_words(enum error_class c)
{
	switch (c) {
	case ERROR_auth:
		return "The provider refused the credential of this target.";
	case ERROR_permission:
		return "The provider does not allow this target's credential to do that.";
	case ERROR_quota:
		return "The provider's account behind this target is out of credits.";
	case ERROR_not_found:
		return "The provider does not have that voice or model, or not for this credential.";
	case ERROR_rate_limit:
		return "The provider is limiting the calls of this target.";
	case ERROR_overloaded:
		return "The provider is overloaded.";
	default:
		return "The provider failed.";
	}
}

static const char *code_of(enum error_class c)
{
	switch (c) {
	case ERROR_context_length:
		return "context_length_exceeded";
	case ERROR_content_policy:
		return "content_policy_violation";
	case ERROR_invalid_request:
		return "invalid_request_error";
	default:
		return error_class_name(c);
	}
}

enum error_class elevenlabs_classify(int status, struct str body, struct arena *mem,
				     struct err *err)
{
	struct str said = STR(""), message = STR("");
	char text[WORDS_BYTES_MAX];
	struct json *root = NULL;
	struct err unsaid;
	enum error_class c, by_status = openai_classify(status, STR(""), mem, &unsaid);
	size_t len;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, mem, &root, NULL) == RC_OK)
		words_of(json_get(root, "detail"), &said, &message);
	c = class_of(status, said);
	if (c == ERROR_none)
		c = by_status;
	len = message.len < sizeof text ? message.len : sizeof text;
	if (len > 0)
		memcpy(text, message.ptr, len);
	len = words_scrub(text, len);
	if (error_policy(c)->to_caller && len > 0)
		(void)err_set(err, RC_OK, code_of(c), "%.*s", (int)len, text);
	else
		(void)err_set(err, RC_OK, code_of(c), "%s", own_words(c));
	err_detail(err, "status %d, %.*s: %.*s", status, STR_FMT(str_slice(said, 0, 64)), (int)len,
		   text);
	return c;
}
