/* routing/dialects/gemini_error.c - which class a failure of this API is, and what the caller may read of it.
 *
 * A google.rpc.Status: `status` is the class of most, but a bad key is an INVALID_ARGUMENT (its reason tells), an empty
 * account a RESOURCE_EXHAUSTED, and a prompt that is too long is told by its words. The wait stands in the body.
 *
 * A provider's words go to the caller only for what the caller must mend, and scrubbed of keys and projects; about our
 * credential and account we use our own words. */
#include "routing/dialects/gemini_priv.h"
#include "routing/dialects/words_priv.h"

#define WORDS_BYTES_MAX	   384
#define WAIT_MAX_S	   86400 /* a daily quota, the longest that is named */
#define PROJECT_DIGITS_MIN 9	 /* project numbers have twelve; no token count comes near */

static const struct {
	const char *words; /* in the message, whatever its case */
	enum error_class class;
} markers[] = {
	{"api key not valid", ERROR_auth},
	{"api key expired", ERROR_auth},
	{"api key not found", ERROR_auth},
	{"exceeds the maximum number of tokens", ERROR_context_length},
	{"input token count", ERROR_context_length},
	{"input context is too long", ERROR_context_length},
	{"prepay", ERROR_quota},
	{"billing account", ERROR_quota},
	{"enable billing", ERROR_quota},
	{"user location is not supported", ERROR_permission},
};

static const struct {
	const char *code; /* a `reason` of the details, or the `status` */
	enum error_class class;
} codes[] = {
	{"API_KEY_INVALID", ERROR_auth},
	{"API_KEY_EXPIRED", ERROR_auth},
	{"ACCESS_TOKEN_EXPIRED", ERROR_auth},
	{"BILLING_DISABLED", ERROR_quota},
	{"payment_required", ERROR_quota},
	{"SERVICE_DISABLED", ERROR_permission},
	{"UNAUTHENTICATED", ERROR_auth},
	{"PERMISSION_DENIED", ERROR_permission},
	{"FAILED_PRECONDITION", ERROR_permission},
	{"NOT_FOUND", ERROR_not_found},
	{"RESOURCE_EXHAUSTED", ERROR_rate_limit},
	{"UNAVAILABLE", ERROR_overloaded},
	{"DEADLINE_EXCEEDED", ERROR_timeout},
	{"INTERNAL", ERROR_server_error},
	{"UNKNOWN", ERROR_server_error},
	{"ABORTED", ERROR_server_error},
	{"CANCELLED", ERROR_server_error}, /* not by us: we do not listen any more when we cancel */
	{"INVALID_ARGUMENT", ERROR_invalid_request},
	{"OUT_OF_RANGE", ERROR_invalid_request},
};

struct words {
	struct str message, status, reason;
	int64_t code;	/* HTTP; 0: not said */
	bool per_day;	/* a quota that comes back at midnight */
	int64_t wait_s; /* 0: not said */
};

static struct str text_of(const struct json *of, const char *key)
{
	struct str s = STR("");

	(void)json_string(json_get(of, key), &s);
	return s;
}

/* "17s", "0.5s": whole seconds, rounded up. 0: it is no such duration. */
static int64_t seconds_up(struct str s)
{
	ptrdiff_t dot = str_find(s, '.');
	int64_t n;

	if (!str_ends(s, STR("s")))
		return 0;
	s = str_slice(s, 0, s.len - 1);
	if (str_to_i64(dot < 0 ? s : str_slice(s, 0, (size_t)dot), &n) != RC_OK || n < 0)
		return 0;
	n = n < WAIT_MAX_S ? n : WAIT_MAX_S;
	for (size_t i = dot < 0 ? s.len : (size_t)dot + 1; i < s.len; i++)
		if (s.ptr[i] != '0')
			return n + 1;
	return n;
}

static void detail_read(const struct json *detail, struct words *w)
{
	struct json_iter it = json_iter(json_get(detail, "violations"));
	const struct str reason = text_of(detail, "reason");
	const int64_t wait = seconds_up(text_of(detail, "retryDelay"));
	struct json *violation;

	if (reason.len > 0 && w->reason.len == 0)
		w->reason = reason;
	if (wait > 0 && w->wait_s == 0)
		w->wait_s = wait;
	while (json_next(&it, NULL, &violation))
		w->per_day |= str_find_str(text_of(violation, "quotaId"), STR("PerDay")) >= 0;
}

const struct json *gemini_error_of(const struct json *body)
{
	const struct json *e;

	if (body && json_type(body) == JSON_ARRAY)
		body = json_at(body, 0);
	e = json_get(body, "error");
	return json_is_null(e) ? NULL : e;
}

static void words_read(const struct json *body, struct words *w)
{
	const struct json *e = gemini_error_of(body);
	struct json_iter it = json_iter(json_get(e, "details"));
	struct json *detail;

	*w = (struct words){.message = text_of(e, "message"), .status = text_of(e, "status")};
	if (e && json_type(e) == JSON_STRING)
		(void)json_string(e, &w->message);
	if (!json_int(json_get(e, "code"), &w->code) && w->status.len == 0)
		w->status = text_of(e, "code"); /* the newer surface: {"code":"invalid_request"} */
	while (json_next(&it, NULL, &detail))
		detail_read(detail, w);
}

static enum error_class class_of_status(int64_t status)
{
	switch (status) {
	case 401:
		return ERROR_auth;
	case 402:
		return ERROR_quota;
	case 403:
		return ERROR_permission;
	case 404:
		return ERROR_not_found;
	case 408:
	case 504:
		return ERROR_timeout;
	case 429:
		return ERROR_rate_limit;
	case 503:
		return ERROR_overloaded;
	default:
		if (status >= 300 && status < 400)
			return ERROR_protocol; /* redirects are never followed */
		return status >= 400 && status < 499 ? ERROR_invalid_request : ERROR_server_error;
	}
}

static enum error_class class_of_code(struct str code)
{
	for (size_t i = 0; code.len > 0 && i < ARRAY_LEN(codes); i++)
		if (str_is(code, codes[i].code))
			return codes[i].class;
	return ERROR_none;
}

static enum error_class class_of(int status, const struct words *w)
{
	const int64_t http = status == 200 && w->code > 0 ? w->code : status;
	enum error_class c;

	/* what is over until tomorrow is no limit that waiting a little helps against */
	if (http == 402 || (http == 429 && w->per_day))
		return ERROR_quota;
	for (size_t i = 0; i < ARRAY_LEN(markers); i++)
		/* a rate may be one of input tokens, too */
		if ((http != 429 || markers[i].class != ERROR_context_length) &&
		    str_find_nocase(w->message, str_from(markers[i].words)) >= 0)
			return markers[i].class;
	c = class_of_code(w->reason);
	if (c == ERROR_none)
		c = class_of_code(w->status);
	return c == ERROR_none ? class_of_status(http) : c;
}

/* Numbers as long as a project's become "[id]", in place; returns the new length. */
static size_t scrub_projects(char *text, size_t len)
{
	static const char id[] = "[id]";
	size_t out = 0, end;

	for (size_t i = 0; i < len; i = end) {
		for (end = i; end < len && text[end] >= '0' && text[end] <= '9'; end++)
			;
		if (end - i >= PROJECT_DIGITS_MIN) {
			memcpy(text + out, id, sizeof id - 1);
			out += sizeof id - 1;
			continue;
		}
		if (end == i)
			end++;
		memmove(text + out, text + i, end - i);
		out += end - i;
	}
	return out;
}

static struct str scrubbed(struct str s, char out[WORDS_BYTES_MAX])
{
	size_t len = s.len < WORDS_BYTES_MAX - 1 ? s.len : WORDS_BYTES_MAX - 1;

	if (len > 0)
		memcpy(out, s.ptr, len);
	len = words_scrub(out, len);
	return str_of(out, scrub_projects(out, len));
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
	case ERROR_invalid_request:
		return "The provider refused the request as invalid.";
	default:
		return "The provider failed.";
	}
}

static const char *code_for(enum error_class c)
{
	if (c == ERROR_context_length)
		return "context_length_exceeded";
	return c == ERROR_invalid_request ? "invalid_request_error" : error_class_name(c);
}

enum error_class gemini_error_read(int status, const struct json *body, struct err *err)
{
	char text[WORDS_BYTES_MAX];
	struct words w;
	enum error_class c;
	struct str said;

	words_read(body, &w);
	c = class_of(status, &w);
	said = scrubbed(w.message, text);
	if (error_policy(c)->to_caller && said.len > 0)
		(void)err_set(err, RC_OK, code_for(c), "%.*s", STR_FMT(said));
	else
		(void)err_set(err, RC_OK, code_for(c), "%s", own_words(c));
	err_detail(err, "status %d: %.*s", status, STR_FMT(said));
	err->retry_after_s = (int)w.wait_s;
	return c;
}

enum error_class gemini_classify(int status, struct str body, struct arena *mem, struct err *err)
{
	struct json *root = NULL;

	/* HTML, an empty body, or half of one: the status is all there is */
	if (json_parse(body, JSON_ALLOW_DUPLICATES, mem, &root, NULL) != RC_OK)
		root = NULL;
	return gemini_error_read(status, root, err);
}
