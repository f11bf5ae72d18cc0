/* routing/errors.c - the one table from a refusal to what the caller sees.
 *
 * Rows stand in the order of interface.md's error table, then what the HTTP front refuses, then what a provider
 * may say of a request in the caller's own dialect (those codes are kept, because client libraries know them).
 * Another shape of error is its own type words, its statuses where they differ, and a body function. */
#include "routing/errors.h"
#include <assert.h>
#include <stdio.h>
#include "server/base/json.h"

#define RETRY_AFTER_DEFAULT_S 1 /* a limit per minute frees some of itself every second */
#define RETRY_AFTER_BILLING_S 5 /* a database that fails over is back in about that time */

struct row {
	const char *code;
	int status;
	enum error_retry retry;
	int retry_after_s;	/* when the error itself names no time; 0: no header */
	const char *shown;	/* the code in the body; NULL: the same */
	const char *type_other; /* NULL: by status */
};

static const struct row rows[] = {
	/* interface.md, data plane */
	{"invalid_api_key", 401, RETRY_NO, 0, NULL, NULL},
	{"permission_denied", 403, RETRY_NO, 0, NULL, NULL},
	{"model_not_found", 404, RETRY_NO, 0, NULL, NULL},
	{"invalid_request_error", 400, RETRY_NO, 0, NULL, NULL},
	{"context_length_exceeded", 400, RETRY_NO, 0, NULL, NULL},
	{"request_too_large", 413, RETRY_NO, 0, NULL, NULL},
	{"insufficient_quota", 429, RETRY_NO, 0, NULL, "insufficient_quota"},
	{"rate_limit_exceeded", 429, RETRY_YES, RETRY_AFTER_DEFAULT_S, NULL, NULL},
	{"no_route", 503, RETRY_NO, 0, NULL, NULL}, /* 429 when it passes with time: below */
	{"all_targets_failed", 502, RETRY_YES, 0, NULL, NULL},
	{"upstream_timeout", 504, RETRY_YES, 0, NULL, NULL},
	{"billing_unavailable", 503, RETRY_YES, RETRY_AFTER_BILLING_S, NULL, NULL},
	/* the front, and what any service may have to say */
	{"unauthenticated", 401, RETRY_NO, 0, "invalid_api_key", NULL},
	{"not_found", 404, RETRY_NO, 0, NULL, NULL},
	{"method_not_allowed", 405, RETRY_NO, 0, NULL, NULL},
	{"request_timeout", 408, RETRY_YES, 0, NULL, NULL},
	{"conflict", 409, RETRY_NO, 0, NULL, NULL},
	{"length_required", 411, RETRY_NO, 0, NULL, NULL},
	{"target_too_long", 414, RETRY_NO, 0, NULL, NULL},
	{"unsupported_media_type", 415, RETRY_NO, 0, NULL, NULL},
	{"unsupported_encoding", 415, RETRY_NO, 0, NULL, NULL},
	{"bad_expect", 417, RETRY_NO, 0, NULL, NULL},
	{"header_too_large", 431, RETRY_NO, 0, NULL, NULL},
	{"internal_error", 500, RETRY_UNSAID, 0, NULL, NULL},
	{"method_not_implemented", 501, RETRY_NO, 0, NULL, NULL},
	{"not_supported", 501, RETRY_NO, 0, NULL, NULL},
	{"unavailable", 503, RETRY_YES, RETRY_AFTER_DEFAULT_S, NULL, NULL},
	{"version_not_supported", 505, RETRY_NO, 0, NULL, NULL},
	/* a provider about the request itself */
	{"previous_response_not_found", 400, RETRY_NO, 0, NULL, NULL},
	{"state_not_found", 404, RETRY_NO, 0, NULL, NULL},
	{"unsupported_parameter", 400, RETRY_NO, 0, NULL, NULL},
	{"unsupported_value", 400, RETRY_NO, 0, NULL, NULL},
	{"invalid_value", 400, RETRY_NO, 0, NULL, NULL},
	{"invalid_type", 400, RETRY_NO, 0, NULL, NULL},
	{"missing_required_parameter", 400, RETRY_NO, 0, NULL, NULL},
	{"unknown_parameter", 400, RETRY_NO, 0, NULL, NULL},
	{"invalid_image_url", 400, RETRY_NO, 0, NULL, NULL},
	{"string_above_max_length", 400, RETRY_NO, 0, NULL, NULL},
	{"invalid_function_parameters", 400, RETRY_NO, 0, NULL, NULL},
	{"content_policy_violation", 400, RETRY_NO, 0, NULL, NULL},
	{"moderation_blocked", 400, RETRY_NO, 0, NULL, NULL},
	{"invalid_prompt", 400, RETRY_NO, 0, NULL, NULL},
	{"content_filter", 400, RETRY_NO, 0, NULL, NULL},
};

static const struct row *row_find(const char *code)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (str_is(str_from(code), rows[i].code))
			return &rows[i];
	return NULL;
}

/* A finer code of ours ("duplicate_key", "bad_cursor") is told by its rc; it stays visible as the reason. */
static const char *code_of_rc(enum rc rc)
{
	switch (rc) {
	case RC_OK: /* an error without a cause is a bug of ours, and reads as one */
	case RC_CORRUPT:
	case RC_CANCELLED:
	case RC_IO:
		return "internal_error";
	case RC_INVALID:
		return "invalid_request_error";
	case RC_TOO_LARGE:
		return "request_too_large";
	case RC_LIMIT:
		return "rate_limit_exceeded";
	case RC_NOT_FOUND:
		return "not_found";
	case RC_CONFLICT:
		return "conflict";
	case RC_DENIED:
		return "permission_denied";
	case RC_UNAVAILABLE:
		return "unavailable";
	case RC_TIMEOUT:
		return "upstream_timeout";
	case RC_PROTOCOL:
	case RC_NETWORK:
		return "all_targets_failed";
	case RC_UNSUPPORTED:
		return "not_supported";
	}
	return "internal_error";
}

static const char *openai_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 429:
		return "rate_limit_error";
	default:
		return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

static const char *anthropic_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 402:
		return "billing_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 529:
		return "overloaded_error";
	default:
		return status >= 500 ? "api_error" : "invalid_request_error";
	}
}

static const char *gemini_status(int status)
{
	switch (status) {
	case 401:
		return "UNAUTHENTICATED";
	case 403:
		return "PERMISSION_DENIED";
	case 404:
		return "NOT_FOUND";
	case 409:
		return "ABORTED";
	case 429:
		return "RESOURCE_EXHAUSTED";
	case 500:
		return "INTERNAL";
	case 501:
		return "UNIMPLEMENTED";
	case 502:
	case 503:
		return "UNAVAILABLE";
	case 504:
		return "DEADLINE_EXCEEDED";
	default:
		return status >= 500 ? "INTERNAL" : "INVALID_ARGUMENT";
	}
}

/* Where a shape's clients know another status than OpenAI's for the same thing (interface.md). */
static int status_of(enum error_shape shape, struct str code, int status)
{
	if (shape == ERROR_SHAPE_ANTHROPIC && str_is(code, "insufficient_quota"))
		return 402;
	if (shape == ERROR_SHAPE_ANTHROPIC && str_is(code, "no_route"))
		return 529;
	if (shape == ERROR_SHAPE_GEMINI && str_is(code, "no_route"))
		return 503;
	return status;
}

struct error_answer error_answer(enum rc rc, const struct err *e, enum error_shape shape)
{
	const struct row *row = e && e->code ? row_find(e->code) : NULL;
	int wait = e && e->retry_after_s > 0 ? e->retry_after_s : 0;
	struct error_answer a;

	if (!row)
		row = row_find(code_of_rc(rc));
	assert(row);
	a = (struct error_answer){
		.status = row->status,
		.code = row->shown ? row->shown : row->code,
		.should_retry = row->retry,
		.retry_after_s = wait ? wait : row->retry_after_s,
	};
	if (str_is(str_from(a.code), "no_route") && wait) {
		a.status = 429;
		a.should_retry = RETRY_YES;
	}
	if (a.should_retry == RETRY_NO)
		a.retry_after_s = 0;
	a.status = status_of(shape, str_from(a.code), a.status);
	if (shape == ERROR_SHAPE_ANTHROPIC)
		a.type = anthropic_type(a.status);
	else if (shape == ERROR_SHAPE_GEMINI)
		a.type = gemini_status(a.status);
	else
		a.type = row->type_other ? row->type_other : openai_type(a.status);
	return a;
}

static void openai_error(struct json_out *o, const struct error_answer *a, const char *message,
			 const char *field)
{
	json_obj(o, "error");
	json_put_z(o, "message", message);
	json_put_z(o, "type", a->type);
	json_put_z(o, "param", field);
	json_put_z(o, "code", a->code);
	json_obj_end(o);
}

static void anthropic_error(struct json_out *o, const struct error_answer *a, const char *message,
			    const char *request_id)
{
	json_put_z(o, "type", "error");
	json_obj(o, "error");
	json_put_z(o, "type", a->type);
	json_put_z(o, "message", message);
	json_obj_end(o);
	if (request_id)
		json_put_z(o, "request_id", request_id);
}

static void gemini_detail(struct json_out *o, const char *type)
{
	json_obj(o, NULL);
	json_put_z(o, "@type", type);
}

/* The machine code, the field at fault and the wait as Google's own error details have them. */
static void gemini_error(struct json_out *o, const struct error_answer *a, const char *message,
			 const char *field)
{
	char delay[32];

	json_obj(o, "error");
	json_put_int(o, "code", a->status);
	json_put_z(o, "message", message);
	json_put_z(o, "status", a->type);
	json_arr(o, "details");
	gemini_detail(o, "type.googleapis.com/google.rpc.ErrorInfo");
	json_put_z(o, "reason", a->code);
	json_put_z(o, "domain", "tollgate");
	json_obj_end(o);
	if (field && a->status == 400) {
		gemini_detail(o, "type.googleapis.com/google.rpc.BadRequest");
		json_arr(o, "fieldViolations");
		json_obj(o, NULL);
		json_put_z(o, "field", field);
		json_put_z(o, "description", message);
		json_obj_end(o);
		json_arr_end(o);
		json_obj_end(o);
	}
	if (a->retry_after_s > 0) {
		snprintf(delay, sizeof delay, "%ds", a->retry_after_s);
		gemini_detail(o, "type.googleapis.com/google.rpc.RetryInfo");
		json_put_z(o, "retryDelay", delay);
		json_obj_end(o);
	}
	json_arr_end(o);
	json_obj_end(o);
}

enum rc error_json(enum error_shape shape, const struct error_answer *a, const struct err *e,
		   const char *request_id, struct str tollgate_json, struct buf *out)
{
	const char *message = e && e->message[0] ? e->message : "The request failed.";
	const char *field = e && e->field[0] ? e->field : NULL;
	struct json_out o;

	json_out_begin(&o, out);
	json_obj(&o, NULL);
	if (shape == ERROR_SHAPE_ANTHROPIC)
		anthropic_error(&o, a, message, request_id);
	else if (shape == ERROR_SHAPE_GEMINI)
		gemini_error(&o, a, message, field);
	else
		openai_error(&o, a, message, field);
	if (tollgate_json.len > 0)
		json_put_raw(&o, "tollgate", tollgate_json);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* What to do about it where whoever refused had nothing finer to say. */
static const char *hint_of(int status, const struct err *e)
{
	static const struct {
		int status;
		const char *hint;
	} hints[] = {
		{400, "Mend the request: the message tells what is wrong, and where."},
		{401,
		 "Send the API key as Authorization: Bearer tg_...; an org admin can make one."},
		{403, "An org admin can change what this key may do."},
		{404,
		 "Check the path and the ids in it; GET /v1/models lists what this key can ask for."},
		{405, "The Allow header names what this path takes."},
		{408, "Send the whole request at once; a slow upload is cut off."},
		{411, "Send Content-Length, or Transfer-Encoding: chunked."},
		{413, "Send a smaller body; the operator's max_body_bytes is the limit."},
		{415, "Send the body as plain application/json, without Content-Encoding."},
		{429,
		 "Wait as long as Retry-After says; x-should-retry tells whether waiting helps."},
	};

	if (e && e->hint[0])
		return e->hint;
	for (size_t i = 0; i < ARRAY_LEN(hints); i++)
		if (hints[i].status == status)
			return hints[i].hint;
	return status < 500
		       ? "Mend the request."
		       : "Try again later; the request id finds the call in the operator's log.";
}

/* {code, reason, hint, request_id, targets, ...}: the same in every dialect that has room for it. */
static enum rc tollgate_member(const struct error_answer *a, const struct err *e,
			       const char *request_id, struct str extra_json, struct buf *out)
{
	AUTO(buf) struct buf fixed = BUF_INIT(out->bytes_max);
	struct json_out o;

	json_out_begin(&o, &fixed);
	json_obj(&o, NULL);
	json_put_z(&o, "code", a->code);
	json_put_z(&o, "reason", e && e->code ? e->code : a->code);
	json_put_z(&o, "hint", hint_of(a->status, e));
	json_put_z(&o, "request_id", request_id);
	json_obj_end(&o);
	TRY(json_out_end(&o));
	TRY(buf_append(out, str_slice(buf_str(&fixed), 0, fixed.len - 1)));
	if (str_find_str(extra_json, STR("\"targets\":")) < 0)
		TRY(buf_append(out, STR(",\"targets\":[]")));
	if (extra_json.len > 0) {
		TRY(buf_append_char(out, ','));
		TRY(buf_append(out, extra_json));
	}
	return buf_append_char(out, '}');
}

int error_render(enum rc rc, const struct err *e, const char *request_id, enum error_shape shape,
		 struct str extra_json, struct buf *body)
{
	AUTO(buf) struct buf tollgate = BUF_INIT(body->bytes_max);
	struct error_answer a = error_answer(rc, e, shape);
	size_t before = body->len;

	if (tollgate_member(&a, e, request_id, extra_json, &tollgate) != RC_OK)
		buf_reset(&tollgate);
	if (error_json(shape, &a, e, request_id, buf_str(&tollgate), body) != RC_OK && body->ptr) {
		body->len = before;
		body->ptr[before] = '\0';
	}
	return a.status;
}

enum rc error_all_failed(enum error_class last, const struct err *words, int retry_after_s,
			 struct err *ret)
{
	enum rc rc = RC_NETWORK;

	switch (last) {
	case ERROR_rate_limit:
		rc = err_set(ret, RC_LIMIT, "no_route", "Every target is rate limited.");
		err_hint(ret, "Try again later, or add a target to the chain.");
		ret->retry_after_s = retry_after_s > 0 ? retry_after_s : RETRY_AFTER_DEFAULT_S;
		break;
	case ERROR_timeout:
		rc = err_set(ret, RC_TIMEOUT, "upstream_timeout",
			     "The provider did not answer in time.");
		err_hint(ret, "Try again, or give the route a longer timeout_ms.");
		break;
	case ERROR_invalid_request:
	case ERROR_context_length:
	case ERROR_content_policy:
		*ret = *words;
		rc = RC_INVALID;
		break;
	default:
		rc = err_set(ret, RC_NETWORK, "all_targets_failed",
			     "Every target failed; the last one with %s.", error_class_name(last));
		err_hint(ret, "tollgate.targets tells what happened to each.");
		break;
	}
	if (words && words->detail[0])
		err_detail(ret, "%s", words->detail);
	return rc;
}
