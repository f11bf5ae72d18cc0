/* loadtest/speak_chat.c - OpenAI's chat completions.
 *
 * Read it from the end. */
#include <string.h>
#include "fake.h"

static void error_body(struct text *t, const struct call *k, int status)
{
	const struct plan *p = &k->plan;
	const char *type = status >= 500 ? "server_error" : "invalid_request_error";
	const char *code = NULL;

	if (status == 401)
		code = "invalid_api_key";
	else if (status == 404)
		code = "model_not_found";
	else if (status == 429)
		type = "requests", code = "rate_limit_exceeded";
	else if (status == 503)
		type = "service_unavailable_error", code = "server_is_overloaded";
	if (p->type[0] != 0)
		type = p->type;
	if (p->code[0] != 0)
		code = p->code;
	text_f(t, "{\"error\":{\"message\":\"The fake provider was told to answer %d.\",\"type\":",
	       status);
	text_json(t, type, strlen(type));
	text_z(t, ",\"param\":null,\"code\":");
	if (code != NULL)
		text_json(t, code, strlen(code));
	else
		text_z(t, "null");
	text_z(t, "}}");
}

static void usage_body(struct text *t, const struct call *k)
{
	const struct plan *p = &k->plan;
	const char *comma = strchr(p->usage, ',');

	text_z(t, "{\"prompt_tokens\":");
	if (comma != NULL)
		text_add(t, p->usage, (size_t)(comma - p->usage));
	else
		text_f(t, "%lld", (long long)k->prompt_tokens);
	text_z(t, ",\"completion_tokens\":");
	if (comma != NULL)
		text_z(t, comma + 1);
	else
		text_f(t, "%lld", (long long)k->completion_tokens);
	text_f(t,
	       ",\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld,"
	       "\"cache_write_tokens\":%lld,\"audio_tokens\":0},\"completion_tokens_details\":{"
	       "\"reasoning_tokens\":%lld,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
	       "\"rejected_prediction_tokens\":0}}",
	       (long long)k->prompt_tokens + k->completion_tokens, (long long)p->cached,
	       (long long)p->cache_write, (long long)p->reasoning);
}

/* Up to and including the fields every object of an answer starts with. */
static void object_open(struct text *t, const struct call *k, const char *object)
{
	text_z(t, "{\"id\":");
	text_json(t, k->id, strlen(k->id));
	text_f(t, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, (long long)k->created);
	text_json(t, k->model, strlen(k->model));
	text_z(t, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_fake\"");
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	text_z(t, ",\"choices\":[");
}

static void tool_calls(struct text *t, const struct call *k, bool indexed, bool with_arguments)
{
	text_z(t, "\"tool_calls\":[");
	for (int64_t i = 0; i < k->tool_count; i++) {
		const struct tool_call *tool = &k->tools[i];

		text_z(t, i > 0 ? ",{" : "{");
		if (indexed)
			text_f(t, "\"index\":%lld,", (long long)i);
		text_f(t, "\"id\":\"call_%lld\",\"type\":\"function\",\"function\":{\"name\":",
		       (long long)i + 1);
		text_json(t, tool->name, strlen(tool->name));
		text_z(t, ",\"arguments\":");
		text_json(t, tool->arguments.text.at,
			  with_arguments ? tool->arguments.text.len : 0);
		text_z(t, "}}");
	}
	text_z(t, "]");
}

static void plain_body(struct text *t, const struct call *k)
{
	object_open(t, k, "chat.completion");
	for (int64_t i = 0; i < k->choices; i++) {
		text_f(t, "%s{\"index\":%lld,\"message\":{\"role\":\"assistant\",\"content\":",
		       i > 0 ? "," : "", (long long)i);
		if (k->tool_count > 0 || k->plan.null_content)
			text_z(t, "null");
		else
			text_json(t, k->answer.text.at, k->answer.text.len);
		text_z(t, ",\"refusal\":null,\"annotations\":[]");
		if (k->tool_count > 0) {
			text_z(t, ",");
			tool_calls(t, k, false, true);
		}
		text_f(t, "},\"logprobs\":null,\"finish_reason\":\"%s\"}", k->finish);
	}
	text_z(t, "]");
	if (k->plan.pad > 0) {
		text_z(t, ",\"x_pad\":\"");
		for (int64_t i = 0; i < k->plan.pad; i++)
			text_add(t, "p", 1);
		text_z(t, "\"");
	}
	if (!k->plan.no_usage) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
	}
	text_z(t, "}");
}

static void chunk_close(struct text *t, const struct call *k, bool is_last)
{
	text_z(t, "]");
	if (k->plan.usage_always || (is_last && k->include_usage && !k->plan.no_usage)) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
	} else if (k->include_usage) {
		text_z(t, ",\"usage\":null");
	}
	text_z(t, "}");
}

/* One chunk for one choice; `delta` is what stands between the braces of its delta. */
static void stream_chunk(struct conn *c, int64_t choice, struct span delta, const char *finish)
{
	struct text t = {0};

	object_open(&t, &c->call, "chat.completion.chunk");
	text_f(&t, "{\"index\":%lld,\"delta\":{", (long long)choice);
	text_add(&t, delta.at, delta.len);
	text_z(&t, "},\"logprobs\":null,\"finish_reason\":");
	if (finish != NULL)
		text_f(&t, "\"%s\"}", finish);
	else
		text_z(&t, "null}");
	chunk_close(&t, &c->call, false);
	stream_event(c, &t);
}

static void stream_open(struct conn *c)
{
	const struct call *k = &c->call;
	struct text delta = {0};

	for (int64_t i = 0; i < k->choices; i++) {
		text_z(&delta, "\"role\":\"assistant\",\"content\":");
		text_z(&delta, k->tool_count > 0 ? "null" : "\"\"");
		text_z(&delta, ",\"refusal\":null");
		if (k->tool_count > 0) {
			text_z(&delta, ",");
			tool_calls(&delta, k, true, false);
		}
		stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
		text_clear(&delta);
	}
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	struct text delta = {0};

	for (int64_t i = 0; i < c->call.choices; i++) {
		if (p->kind == PIECE_TOOL)
			text_f(&delta,
			       "\"tool_calls\":[{\"index\":%lld,\"function\":{\"arguments\":",
			       (long long)p->tool);
		else
			text_z(&delta, "\"content\":");
		text_json(&delta, p->bytes.at, p->bytes.len);
		text_z(&delta, p->kind == PIECE_TOOL ? "}}]" : "");
		stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
		text_clear(&delta);
	}
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (int64_t i = 0; i < k->choices; i++)
		stream_chunk(c, i, (struct span){"", 0}, k->finish);
	if (k->include_usage && !k->plan.no_usage) {
		object_open(&t, k, "chat.completion.chunk");
		chunk_close(&t, k, true);
		stream_event(c, &t);
	}
	if (!k->plan.no_done) {
		text_z(&t, "[DONE]");
		stream_event(c, &t);
	}
}

/* A failure after the head: the error as an event, then the end of the stream, no [DONE]. */
static void stream_fail(struct conn *c)
{
	struct text t = {0};

	if (c->call.plan.garbage)
		text_z(&t, "{\"id\":\"chatcmpl-broken\",\"choices\":[{\"index\":0,");
	else
		error_body(&t, &c->call, 500);
	stream_event(c, &t);
}

/* --- what the request says --------------------------------------------------------------------------- */

static void tools_read(struct ask *a, yyjson_val *root)
{
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	const char *mode = yyjson_get_str(choice);
	yyjson_val *tool;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, max, tool)
	{
		yyjson_val *f = yyjson_obj_get(tool, "function");
		const char *name = yyjson_get_str(yyjson_obj_get(f, "name"));

		if (name != NULL && a->tool_count < TOOLS_MAX)
			a->tools[a->tool_count++] =
				(struct tool){name, yyjson_obj_get(f, "parameters")};
	}
	a->forced = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(choice, "function"), "name"));
	a->must = mode != NULL && strcmp(mode, "required") == 0;
	a->must_not = mode != NULL && strcmp(mode, "none") == 0;
}

static int64_t allowed_read(yyjson_val *root)
{
	yyjson_val *max = yyjson_obj_get(root, "max_completion_tokens");

	if (!yyjson_is_int(max))
		max = yyjson_obj_get(root, "max_tokens");
	return yyjson_is_int(max) ? yyjson_get_sint(max) : INT64_MAX;
}

static void chat_read(struct call *k, yyjson_val *root)
{
	yyjson_val *n = yyjson_obj_get(root, "n");
	const char *format =
		yyjson_get_str(yyjson_obj_get(yyjson_obj_get(root, "response_format"), "type"));
	const char *model = yyjson_get_str(yyjson_obj_get(root, "model"));
	const char *role = NULL;
	struct ask a = {.allowed = allowed_read(root)};
	yyjson_val *message;
	size_t i, max;

	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
	k->include_usage =
		k->stream && yyjson_is_true(yyjson_obj_get(yyjson_obj_get(root, "stream_options"),
							   "include_usage"));
	k->choices = yyjson_is_int(n) && yyjson_get_sint(n) > 1 ? yyjson_get_sint(n) : 1;
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	yyjson_arr_foreach(yyjson_obj_get(root, "messages"), i, max, message)
	{
		role = yyjson_get_str(yyjson_obj_get(message, "role"));
		text_clear(&a.said);
		k->prompt_tokens += 4 + content_words(yyjson_obj_get(message, "content"), &a.said);
	}
	a.from_user = role != NULL && strcmp(role, "user") == 0;
	a.json = format != NULL && strncmp(format, "json", 4) == 0;
	tools_read(&a, root);
	call_decide(k, &a);
}

const struct speaker speak_chat = {
	.read = chat_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
