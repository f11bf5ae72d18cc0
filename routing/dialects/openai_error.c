/* routing/dialects/openai_error.c - which class a failure is, and what the caller may read of it.
 *
 * Looked at in this order: markers in the words (they tell apart what a code does not: a 429 that no waiting
 * helps), then the codes, most specific member first, then the status. Codes that many servers use for
 * anything ("invalid_request_error") are not in the table and fall through to the status.
 *
 * A provider's words go to the caller only for what the caller must mend, and scrubbed; for everything that
 * is about our credential or account we use our own words, because theirs name keys, organisations, addresses. */
#include "routing/dialects/openai_priv.h"
#include "routing/dialects/words_priv.h"

#define WORDS_BYTES_MAX	     384
#define FIELD_BYTES_MAX	     64
#define ACCOUNT_ID_CHARS_MIN 6 /* "org-" and "proj_" ids are longer; ordinary words are not hit */

enum status_set { ANY = 0, AT_LIMIT = 1, AT_REFUSAL = 2, AT_MONEY = 4 };

static bool status_in(int status, enum status_set set)
{
	switch (set) {
	case AT_LIMIT: /* a limit that the request itself is larger than */
		return status == 429 || status == 413;
	case AT_REFUSAL: /* where servers put what is wrong with the request */
		return status == 200 || status == 400 || status == 403 || status == 413 ||
		       status == 422 || status == 500;
	case AT_MONEY:
		return status == 200 || status == 400 || status == 402 || status == 403 ||
		       status == 429;
	case ANY:
		break;
	}
	return true;
}

static const struct {
	const char *words;
	enum status_set at;
	enum error_class class;
} markers[] = {
	{"request too large", AT_LIMIT, ERROR_context_length},
	{"maximum context length", AT_REFUSAL, ERROR_context_length},
	{"exceed the context length", AT_REFUSAL, ERROR_context_length},
	{"exceeds the available context", AT_REFUSAL, ERROR_context_length},
	{"exceed context limit", AT_REFUSAL, ERROR_context_length},
	{"exceeded model token limit", AT_REFUSAL, ERROR_context_length},
	{"input token length too long", AT_REFUSAL, ERROR_context_length},
	{"prompt is too long", AT_REFUSAL, ERROR_context_length},
	{"content filtering policy", AT_REFUSAL, ERROR_content_policy},
	{"incorrect api key", AT_REFUSAL, ERROR_auth},
	{"credit balance is too low", AT_MONEY, ERROR_quota},
	{"insufficient balance", AT_MONEY, ERROR_quota},
	{"insufficient credits", AT_MONEY, ERROR_quota},
	{"exceeded your current quota", AT_MONEY, ERROR_quota},
	{"api usage limits", AT_MONEY, ERROR_quota},
	{"spending limit", AT_MONEY, ERROR_quota},
	{"out of credits", AT_MONEY, ERROR_quota},
};

static const struct {
	const char *code;
	enum error_class class;
} codes[] = {
	{"insufficient_quota", ERROR_quota},
	{"credit_balance_exhausted", ERROR_quota},
	{"organization_spend_limit_exceeded", ERROR_quota},
	{"project_spend_limit_exceeded", ERROR_quota},
	{"organization_usage_limit_exceeded", ERROR_quota},
	{"billing_hard_limit_reached", ERROR_quota},
	{"billing_not_active", ERROR_quota},
	{"exceeded_current_quota_error", ERROR_quota},
	{"enforced_spend_limit_reached", ERROR_quota},
	{"quota_exceeded", ERROR_quota},
	{"payment_required", ERROR_quota},
	{"weight_exceeds_budget", ERROR_quota},
	{"billing_error", ERROR_quota},

	{"invalid_api_key", ERROR_auth},
	{"incorrect_api_key_error", ERROR_auth},
	{"invalid_authentication_error", ERROR_auth},
	{"authentication_error", ERROR_auth},
	{"authentication", ERROR_auth},

	{"unsupported_country_region_territory", ERROR_permission},
	{"insufficient_permissions", ERROR_permission},
	{"missing_permissions", ERROR_permission},
	{"permission_denied", ERROR_permission},
	{"permission_denied_error", ERROR_permission},
	{"permission_error", ERROR_permission},
	{"region_restricted", ERROR_permission},

	{"context_length_exceeded", ERROR_context_length},
	{"exceed_context_size_error", ERROR_context_length},
	{"max_tokens_exceeded", ERROR_context_length},
	{"token_limit_exceeded", ERROR_context_length},
	{"request_too_large", ERROR_context_length}, /* as translation.md 10 has it */

	{"content_policy_violation", ERROR_content_policy},
	{"moderation_blocked", ERROR_content_policy},
	{"invalid_prompt", ERROR_content_policy},
	{"content_filter", ERROR_content_policy},
	{"refusal", ERROR_content_policy},

	/* inside a failed response: status 200 says nothing about whose fault it is */
	{"bio_policy", ERROR_content_policy},
	{"image_content_policy_violation", ERROR_content_policy},
	{"invalid_image", ERROR_invalid_request},
	{"invalid_image_format", ERROR_invalid_request},
	{"invalid_base64_image", ERROR_invalid_request},
	{"invalid_image_url", ERROR_invalid_request},
	{"invalid_image_mode", ERROR_invalid_request},
	{"image_too_large", ERROR_invalid_request},
	{"image_too_small", ERROR_invalid_request},
	{"image_parse_error", ERROR_invalid_request},
	{"image_file_too_large", ERROR_invalid_request},
	{"image_file_not_found", ERROR_invalid_request},
	{"unsupported_image_media_type", ERROR_invalid_request},
	{"empty_image_file", ERROR_invalid_request},
	{"failed_to_download_image", ERROR_invalid_request},
	{"data_residency_mismatch", ERROR_permission},
	{"vector_store_timeout", ERROR_timeout},

	{"model_not_found", ERROR_not_found},
	{"DeploymentNotFound", ERROR_not_found},
	{"no_endpoints", ERROR_not_found},
	{"model_deprecated", ERROR_not_found},
	{"model_unavailable_upstream", ERROR_not_found},
	{"not_found", ERROR_not_found},
	{"not_found_error", ERROR_not_found},
	{"resource_not_found_error", ERROR_not_found},

	{"rate_limit_exceeded", ERROR_rate_limit},
	{"rate_limit_error", ERROR_rate_limit},
	{"rate_limit_reached_error", ERROR_rate_limit},
	{"RateLimitReached", ERROR_rate_limit},
	{"too_many_concurrent_requests", ERROR_rate_limit},
	{"capacity_exhausted", ERROR_rate_limit},
	{"in_flight_budget_exhausted", ERROR_rate_limit},

	{"server_is_overloaded", ERROR_overloaded},
	{"engine_overloaded_error", ERROR_overloaded},
	{"overloaded_error", ERROR_overloaded},
	{"provider_overloaded", ERROR_overloaded},
	{"temporarily_unavailable", ERROR_overloaded},
	{"service_unavailable_error", ERROR_overloaded},
	{"unavailable_error", ERROR_overloaded},
	{"system_busy", ERROR_overloaded},
	{"NoCapacity", ERROR_overloaded},
	{"insufficient_system_resource", ERROR_overloaded},

	{"timeout", ERROR_timeout},
	{"timeout_error", ERROR_timeout},
	{"provider_unavailable", ERROR_server_error},
	{"server_error", ERROR_server_error},
	{"api_error", ERROR_server_error},
};

/* What is wrong with a request, in codes that client libraries know: kept, and as static strings. */
static const char *const caller_codes[] = {
	"previous_response_not_found",
	"unsupported_parameter",
	"unsupported_value",
	"invalid_value",
	"invalid_type",
	"unknown_parameter",
	"missing_required_parameter",
	"invalid_image_url",
	"string_above_max_length",
	"invalid_function_parameters",
	"content_policy_violation",
	"moderation_blocked",
	"invalid_prompt",
	"content_filter",
};

struct words { /* of one error body; parts that are not there have length 0 */
	struct str message, code, type, finer, param;
	int64_t number; /* `code` as an HTTP status, where it is a number */
};

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s;
}

static void words_of(const struct json *e, struct words *w)
{
	const struct json *metadata = json_get(e, "metadata");

	w->message = text_of(e, "message");
	w->code = text_of(e, "code");
	w->type = text_of(e, "type");
	w->param = text_of(e, "param");
	(void)json_int(json_get(e, "code"), &w->number);
	w->finer = text_of(metadata, "error_type");
	if (w->finer.len == 0)
		w->finer = text_of(json_get(e, "details"), "error_code");
	if (w->finer.len == 0)
		w->finer = text_of(e, "status");
}

/* The shapes: {error:{…}}, {error:"…"}, {detail:{…}}, {detail:"…"}, and all members at the top. */
static void words_read(const struct json *body, struct words *w)
{
	const struct json *e = json_get(body, "error");
	const struct json *detail = json_get(body, "detail");

	*w = (struct words){0};
	if (e && json_type(e) == JSON_OBJECT) {
		words_of(e, w);
	} else if (json_string(e, &w->message)) {
		w->code = text_of(body, "code");
	} else if (detail && json_type(detail) == JSON_OBJECT) {
		words_of(detail, w);
	} else if (!json_string(detail, &w->message)) {
		words_of(body, w);
	}
}

bool openai_error_is(const struct json *body)
{
	return !json_is_null(json_get(body, "error")) || str_is(text_of(body, "object"), "error");
}

static enum error_class class_of_code(struct str code)
{
	for (size_t i = 0; code.len > 0 && i < ARRAY_LEN(codes); i++)
		if (str_is(code, codes[i].code))
			return codes[i].class;
	return ERROR_none;
}

static enum error_class class_of_status(int status)
{
	switch (status) {
	case 401:
		return ERROR_auth;
	case 402:
		return ERROR_quota;
	case 403:
	case 451:
		return ERROR_permission;
	case 404:
	case 410:
		return ERROR_not_found;
	case 408:
	case 504:
		return ERROR_timeout;
	case 409: /* a lock: the next target has another */
	case 424:
		return ERROR_server_error;
	case 429:
	case 498:
		return ERROR_rate_limit;
	case 503:
	case 529:
		return ERROR_overloaded;
	default:
		if (status >= 300 && status < 400)
			return ERROR_protocol; /* redirects are never followed */
		return status >= 400 && status < 499 ? ERROR_invalid_request : ERROR_server_error;
	}
}

static enum error_class class_of(int status, const struct words *w)
{
	enum error_class c;

	for (size_t i = 0; i < ARRAY_LEN(markers); i++)
		if (status_in(status, markers[i].at) &&
		    str_find_nocase(w->message, str_from(markers[i].words)) >= 0)
			return markers[i].class;
	if (str_is(w->code, "slow_down")) /* one code, told by where it came with */
		return status == 429 ? ERROR_rate_limit : ERROR_overloaded;
	c = class_of_code(w->code);
	if (c == ERROR_none)
		c = class_of_code(w->finer);
	if (c == ERROR_none) {
		c = class_of_code(w->type);
		if (c == ERROR_server_error && status >= 400)
			c = ERROR_none; /* the type of whatever is no fault of the caller's */
	}
	if (c == ERROR_not_found && status == 403)
		return ERROR_permission; /* it is there, but not for this project */
	if (c != ERROR_none)
		return c;
	if (status < 300 && w->number >= 300 && w->number < 600)
		status = (int)w->number;
	return class_of_status(status);
}

/* "org-…" and "proj_…" ids become "[id]", in place; returns the new length. */
static size_t scrub_accounts(char *text, size_t len)
{
	static const char id[] = "[id]";
	size_t out = 0;

	for (size_t i = 0; i < len;) {
		struct str rest = str_of(text + i, len - i);
		size_t prefix = str_starts(rest, STR("org-"))	 ? 4
				: str_starts(rest, STR("proj_")) ? 5
								 : 0;
		size_t end = prefix;

		while (prefix && end < rest.len &&
		       ((rest.ptr[end] >= '0' && rest.ptr[end] <= '9') ||
			(rest.ptr[end] >= 'a' && rest.ptr[end] <= 'z') ||
			(rest.ptr[end] >= 'A' && rest.ptr[end] <= 'Z')))
			end++;
		if (prefix && end - prefix >= ACCOUNT_ID_CHARS_MIN) {
			memcpy(text + out, id, sizeof id - 1);
			out += sizeof id - 1;
			i += end;
		} else {
			text[out++] = text[i++];
		}
	}
	return out;
}

static struct str scrubbed(struct str s, char out[WORDS_BYTES_MAX])
{
	size_t len = s.len < WORDS_BYTES_MAX - 1 ? s.len : WORDS_BYTES_MAX - 1;

	if (len > 0)
		memcpy(out, s.ptr, len);
	len = words_scrub(out, len);
	return str_of(out, scrub_accounts(out, len));
}

static const char *own_words(enum error_class c)
{
	switch (c) {
	case ERROR_auth:
		return "The provider refused the credential of this target.";
	case ERROR_permission:
		return "The provider does not allow this target's credential to do that.";
	case ERROR_not_found:
		return "The provider does not have that model, or not for this credential.";
	case ERROR_rate_limit:
		return "The provider is limiting the rate of this target.";
	case ERROR_quota:
		return "The provider's account behind this target is out of money or quota.";
	case ERROR_timeout:
		return "The provider did not answer in time.";
	case ERROR_overloaded:
		return "The provider is overloaded.";
	case ERROR_context_length:
		return "The request is longer than the model's context window.";
	case ERROR_content_policy:
		return "The provider refused the request under its content policy.";
	case ERROR_invalid_request:
		return "The provider refused the request as invalid.";
	default:
		return "The provider failed.";
	}
}

static const char *code_for(enum error_class c, const struct words *w)
{
	if (c == ERROR_context_length)
		return "context_length_exceeded";
	if (c != ERROR_invalid_request && c != ERROR_content_policy)
		return error_class_name(c);
	for (size_t i = 0; i < ARRAY_LEN(caller_codes); i++)
		if (str_is(w->code, caller_codes[i]))
			return caller_codes[i];
	return c == ERROR_content_policy ? "content_policy_violation" : "invalid_request_error";
}

enum error_class openai_error_read(int status, const struct json *body, struct err *err)
{
	char text[WORDS_BYTES_MAX];
	struct words w;
	enum error_class c;
	struct str said;
	bool theirs;

	words_read(body, &w);
	c = class_of(status, &w);
	said = scrubbed(w.message, text);
	theirs = error_policy(c)->to_caller && said.len > 0;
	if (theirs) {
		(void)err_set(err, RC_OK, code_for(c, &w), "%.*s", STR_FMT(said));
		err_field(err, "%.*s", STR_FMT(str_slice(w.param, 0, FIELD_BYTES_MAX)));
	} else {
		(void)err_set(err, RC_OK, code_for(c, &w), "%s", own_words(c));
	}
	err_detail(err, "status %d: %.*s", status, STR_FMT(said));
	return c;
}

enum error_class openai_classify(int status, struct str body, struct arena *mem, struct err *err)
{
	struct json *root = NULL;

	/* HTML, an empty body, or half of one: the status is all there is */
	if (json_parse(body, JSON_ALLOW_DUPLICATES, mem, &root, NULL) != RC_OK)
		root = NULL;
	return openai_error_read(status, root, err);
}
