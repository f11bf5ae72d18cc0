/* loadtest/speak_responses.c - OpenAI's Responses: answers, streams and errors.
 *
 * What it refuses and what it remembers is in speak_responses_read.c. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

/* --- errors ------------------------------------------------------------------------------------------------- */

static const char *error_code(const struct call *k, int status)
{
	if (k->plan.code[0] != 0)
		return k->plan.code;
	if (k->why[0] != 0)
		return k->why_code;
	return status == 401   ? "invalid_api_key"
	       : status == 404 ? "model_not_found"
	       : status == 429 ? "rate_limit_exceeded"
	       : status == 503 ? "server_is_overloaded"
			       : NULL;
}

static void string_or_null(struct text *t, const char *s)
{
	if (s != NULL && s[0] != 0)
		text_json(t, s, strlen(s));
	else
		text_z(t, "null");
}

static void message_add(struct text *t, const struct call *k, int status)
{
	if (k->why[0] != 0)
		text_json(t, k->why, strlen(k->why));
	else
		text_f(t, "\"The fake provider was told to answer %d.\"", status);
}

static void error_body(struct text *t, const struct call *k, int status)
{
	text_z(t, "{\"error\":{\"message\":");
	message_add(t, k, status);
	text_z(t, ",\"type\":");
	string_or_null(t, k->plan.type[0] != 0	? k->plan.type
			  : k->why_type != NULL ? k->why_type
			  : status == 429	? "requests"
			  : status == 503	? "service_unavailable_error"
			  : status >= 500	? "server_error"
						: "invalid_request_error");
	text_z(t, ",\"param\":");
	string_or_null(t, k->why_param);
	text_z(t, ",\"code\":");
	string_or_null(t, error_code(k, status));
	text_z(t, "}}");
}

/* --- items of the output ------------------------------------------------------------------------------------- */

const char *responses_status(const struct call *k)
{
	if (k->plan.failed)
		return "failed";
	return strcmp(k->finish, "length") == 0 || strcmp(k->finish, "content_filter") == 0
		       ? "incomplete"
		       : "completed";
}

static void reasoning_item(struct text *t, const struct call *k, bool done)
{
	text_f(t, "{\"id\":\"rs_fake%llu\",\"type\":\"reasoning\",\"summary\":[",
	       (unsigned long long)k->number);
	if (done && k->thoughts.words > 0) {
		text_z(t, "{\"type\":\"summary_text\",\"text\":");
		text_json(t, k->thoughts.text.at, k->thoughts.text.len);
		text_z(t, "}");
	}
	text_z(t, "]");
	if (done && k->hidden) {
		text_z(t, ",\"encrypted_content\":\"");
		seal(t, k, "reasoning", span_z(""));
		text_z(t, "\"");
	}
	text_z(t, "}");
}

static void annotation_add(struct text *t, long long i)
{
	text_f(t,
	       "{\"type\":\"url_citation\",\"url\":\"https://example.com/%lld\",\"title\":\"Source "
	       "%lld\",\"start_index\":0,\"end_index\":4}",
	       i, i);
}

static void part_add(struct text *t, const struct call *k, bool done)
{
	if (k->plan.refusal) {
		text_z(t, "{\"type\":\"refusal\",\"refusal\":");
		text_json(t, k->answer.text.at, done ? k->answer.text.len : 0);
		text_z(t, "}");
		return;
	}
	text_z(t, "{\"type\":\"output_text\",\"text\":");
	text_json(t, k->answer.text.at, done ? k->answer.text.len : 0);
	text_z(t, ",\"annotations\":[");
	for (long long i = 1; done && i <= (long long)k->plan.citations; i++) {
		text_z(t, i > 1 ? "," : "");
		annotation_add(t, i);
	}
	text_z(t, "],\"logprobs\":[]}");
}

static void message_item(struct text *t, const struct call *k, bool done)
{
	text_f(t,
	       "{\"id\":\"msg_fake%llu\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"%s\",",
	       (unsigned long long)k->number,
	       !done						? "in_progress"
	       : strcmp(responses_status(k), "incomplete") == 0 ? "incomplete"
								: "completed");
	text_z(t, "\"content\":[");
	if (done)
		part_add(t, k, true);
	text_z(t, "]}");
}

static void call_item(struct text *t, const struct call *k, int64_t i, bool done)
{
	const struct tool_call *tool = &k->tools[i];

	text_f(t,
	       "{\"id\":\"fc_fake%llu_%lld\",\"type\":\"function_call\",\"call_id\":\"call_%lld_%lld\","
	       "\"name\":",
	       (unsigned long long)k->number, (long long)i + 1, (long long)k->turns,
	       (long long)i + 1);
	text_json(t, tool->name, strlen(tool->name));
	text_z(t, ",\"arguments\":");
	text_json(t, tool->arguments.text.at, done ? tool->arguments.text.len : 0);
	text_f(t, ",\"status\":\"%s\"}", done ? "completed" : "in_progress");
}

static void search_item(struct text *t, const struct call *k, long long i)
{
	text_f(t,
	       "{\"id\":\"ws_fake%llu_%lld\",\"type\":\"web_search_call\",\"status\":\"completed\","
	       "\"action\":{\"type\":\"search\",\"query\":\"fake\"}}",
	       (unsigned long long)k->number, i);
}

static void output_add(struct text *t, const struct call *k)
{
	const char *between = "";

	text_z(t, "[");
	for (long long i = 1; i <= (long long)k->plan.searches; i++) {
		text_z(t, between);
		search_item(t, k, i);
		between = ",";
	}
	if (k->plan.reasoning > 0) {
		text_z(t, between);
		reasoning_item(t, k, true);
		between = ",";
	}
	if (k->answer.words > 0) {
		text_z(t, between);
		message_item(t, k, true);
		between = ",";
	}
	for (int64_t i = 0; i < k->tool_count; i++) {
		text_z(t, between);
		call_item(t, k, i, true);
		between = ",";
	}
	text_z(t, "]");
}

static void usage_body(struct text *t, const struct call *k)
{
	text_z(t, "{\"input_tokens\":");
	usage_number(t, k, false, k->prompt_tokens);
	text_f(t,
	       ",\"input_tokens_details\":{\"cached_tokens\":%lld,\"cache_write_tokens\":%lld},"
	       "\"output_tokens\":",
	       (long long)k->plan.cached, (long long)k->plan.cache_write);
	usage_number(t, k, true, k->completion_tokens);
	text_f(t, ",\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
	       (long long)k->plan.reasoning, (long long)k->prompt_tokens + k->completion_tokens);
}

/* The whole object. `status`: as it is now; only an end has output and usage. */
void responses_body(struct text *t, const struct call *k, const char *status)
{
	bool ended = word_among(status, "completed incomplete failed");

	text_f(t,
	       "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":",
	       k->id, (long long)k->created, status);
	if (strcmp(status, "failed") == 0)
		text_f(t, "{\"code\":\"%s\",\"message\":\"The fake provider was told to fail.\"}",
		       k->plan.code[0] != 0 ? k->plan.code : "server_error");
	else
		text_z(t, "null");
	text_z(t, ",\"incomplete_details\":");
	if (strcmp(status, "incomplete") == 0)
		text_f(t, "{\"reason\":\"%s\"}",
		       strcmp(k->finish, "length") == 0 ? "max_output_tokens" : "content_filter");
	else
		text_z(t, "null");
	text_z(t, ",\"model\":");
	text_json(t, k->model, strlen(k->model));
	text_z(t, ",\"output\":");
	if (ended && strcmp(status, "failed") != 0)
		output_add(t, k);
	else
		text_z(t, "[]");
	text_add(t, k->kept.at, k->kept.len);
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	if (k->plan.pad > 0)
		text_f(t, ",\"x_pad\":\"%0*d\"", (int)k->plan.pad, 0);
	text_z(t, ",\"service_tier\":\"default\",\"usage\":");
	if (ended && !k->plan.no_usage)
		usage_body(t, k);
	else
		text_z(t, "null");
	text_z(t, "}");
}

static void plain_body(struct text *t, const struct call *k)
{
	if (k->verb == RESPONSES_CREATE)
		responses_body(t, k, k->later ? "queued" : responses_status(k));
	else
		text_add(t, k->kept.at, k->kept.len);
}

/* --- a stream --------------------------------------------------------------------------------------------------- */

/* `t` holds the fields after "type"; the number of the event is added, the text is cleared. */
static void event(struct conn *c, const char *name, struct text *t)
{
	struct text whole = {0};

	text_f(&whole, "{\"type\":\"%s\",%s,\"sequence_number\":%lld}", name, t->at,
	       (long long)c->call.event++);
	text_clear(t);
	stream_event(c, name, &whole);
}

static void lifecycle(struct conn *c, const char *name, const char *status)
{
	struct text t = {0};

	text_z(&t, "\"response\":");
	responses_body(&t, &c->call, status);
	event(c, name, &t);
}

static void item_add(struct text *t, const struct call *k, bool done)
{
	text_f(t, "\"output_index\":%lld,\"item\":", (long long)k->block);
	if (k->block_kind == PIECE_THOUGHTS)
		reasoning_item(t, k, done);
	else if (k->block_kind == PIECE_WORDS)
		message_item(t, k, done);
	else
		call_item(t, k, k->block_tool, done);
}

/* What every event of an item begins with; `inner` names its part. */
static void where_add(struct text *t, const struct call *k, const char *inner)
{
	const char *id = k->block_kind == PIECE_THOUGHTS ? "rs_fake"
			 : k->block_kind == PIECE_WORDS	 ? "msg_fake"
							 : "fc_fake";

	text_f(t, "\"item_id\":\"%s%llu", id, (unsigned long long)k->number);
	if (k->block_kind == PIECE_TOOL)
		text_f(t, "_%lld", (long long)k->block_tool + 1);
	text_f(t, "\",\"output_index\":%lld%s", (long long)k->block, inner);
}

static void words_end(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (long long i = 1; i <= (long long)k->plan.citations; i++) {
		where_add(&t, k, ",\"content_index\":0");
		text_f(&t, ",\"annotation_index\":%lld,\"annotation\":", i - 1);
		annotation_add(&t, i);
		event(c, "response.output_text.annotation.added", &t);
	}
	where_add(&t, k, ",\"content_index\":0");
	text_f(&t, ",\"%s\":", k->plan.refusal ? "refusal" : "text");
	text_json(&t, k->answer.text.at, k->answer.text.len);
	text_z(&t, k->plan.refusal ? "" : ",\"logprobs\":[]");
	event(c, k->plan.refusal ? "response.refusal.done" : "response.output_text.done", &t);
	where_add(&t, k, ",\"content_index\":0");
	text_z(&t, ",\"part\":");
	part_add(&t, k, true);
	event(c, "response.content_part.done", &t);
}

static void thoughts_end(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	where_add(&t, k, ",\"summary_index\":0");
	text_z(&t, ",\"text\":");
	text_json(&t, k->thoughts.text.at, k->thoughts.text.len);
	event(c, "response.reasoning_summary_text.done", &t);
	where_add(&t, k, ",\"summary_index\":0");
	text_z(&t, ",\"part\":{\"type\":\"summary_text\",\"text\":");
	text_json(&t, k->thoughts.text.at, k->thoughts.text.len);
	text_z(&t, "}");
	event(c, "response.reasoning_summary_part.done", &t);
}

static void tool_end(struct conn *c)
{
	struct call *k = &c->call;
	const struct tool_call *tool = &k->tools[k->block_tool];
	struct text t = {0};

	where_add(&t, k, "");
	text_z(&t, ",\"name\":");
	text_json(&t, tool->name, strlen(tool->name));
	text_z(&t, ",\"arguments\":");
	text_json(&t, tool->arguments.text.at, tool->arguments.text.len);
	event(c, "response.function_call_arguments.done", &t);
}

static void item_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == PIECE_NONE)
		return;
	if (k->block_kind == PIECE_WORDS)
		words_end(c);
	else if (k->block_kind == PIECE_TOOL)
		tool_end(c);
	else if (k->thoughts.words > 0)
		thoughts_end(c);
	item_add(&t, k, true);
	event(c, "response.output_item.done", &t);
	k->block_kind = PIECE_NONE;
}

static void item_open(struct conn *c, enum piece_kind kind, int64_t tool)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == kind && k->block_tool == tool)
		return;
	item_close(c);
	k->block++;
	k->block_kind = kind;
	k->block_tool = tool;
	item_add(&t, k, false);
	event(c, "response.output_item.added", &t);
	if (kind == PIECE_WORDS) {
		where_add(&t, k, ",\"content_index\":0");
		text_z(&t, ",\"part\":");
		part_add(&t, k, false);
		event(c, "response.content_part.added", &t);
	} else if (kind == PIECE_THOUGHTS && k->thoughts.words > 0) {
		where_add(
			&t, k,
			",\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}");
		event(c, "response.reasoning_summary_part.added", &t);
	}
}

static void searches_send(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (long long i = 1; i <= (long long)k->plan.searches; i++) {
		static const char *const names[] = {"response.output_item.added",
						    "response.output_item.done"};

		k->block++;
		for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
			text_f(&t, "\"output_index\":%lld,\"item\":", (long long)k->block);
			search_item(&t, k, i);
			event(c, names[n], &t);
		}
	}
}

static void stream_open(struct conn *c)
{
	struct call *k = &c->call;

	lifecycle(c, "response.created", "in_progress");
	lifecycle(c, "response.in_progress", "in_progress");
	searches_send(c);
	/* reasoning that is not shown is an item all the same */
	if (k->plan.reasoning > 0 && k->thoughts.words == 0)
		item_open(c, PIECE_THOUGHTS, 0);
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	struct call *k = &c->call;
	struct text t = {0};

	item_open(c, p->kind, p->tool);
	where_add(&t, k,
		  p->kind == PIECE_WORDS      ? ",\"content_index\":0"
		  : p->kind == PIECE_THOUGHTS ? ",\"summary_index\":0"
					      : "");
	text_z(&t, ",\"delta\":");
	text_json(&t, p->bytes.at, p->bytes.len);
	if (p->kind == PIECE_WORDS && !k->plan.refusal)
		text_z(&t, ",\"logprobs\":[],\"obfuscation\":\"abc\"");
	event(c,
	      p->kind == PIECE_THOUGHTS ? "response.reasoning_summary_text.delta"
	      : p->kind == PIECE_TOOL	? "response.function_call_arguments.delta"
	      : k->plan.refusal		? "response.refusal.delta"
					: "response.output_text.delta",
	      &t);
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	const char *status = responses_status(k);
	char name[64];

	item_close(c);
	snprintf(name, sizeof(name), "response.%s", status);
	if (!k->plan.no_done)
		lifecycle(c, name, status);
}

static void stream_fail(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.garbage) {
		text_z(&t, "{\"type\":\"response.output_text.delta\",");
		stream_event(c, "response.output_text.delta", &t);
		return;
	}
	text_z(&t, "\"code\":");
	string_or_null(&t, k->plan.code[0] != 0 ? k->plan.code : "server_error");
	text_z(&t, ",\"message\":");
	message_add(&t, k, 500);
	text_z(&t, ",\"param\":null");
	event(c, "error", &t);
}

const struct speaker speak_responses = {
	.read = responses_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
