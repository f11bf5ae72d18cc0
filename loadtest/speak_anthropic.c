/* loadtest/speak_anthropic.c - Anthropic's Messages: answers, streams and errors.
 *
 * What it refuses is in speak_anthropic_read.c. Signatures of thinking blocks are made of the model and the
 * thought, so that a block of another origin is found out. Read it from the end. */
#include <string.h>
#include "fake.h"

/* --- errors --------------------------------------------------------------------------------------------- */

static const char *type_of(int status)
{
	static const struct {
		int status;
		const char *type;
	} types[] = {
		{400, "invalid_request_error"}, {401, "authentication_error"},
		{402, "billing_error"},		{403, "permission_error"},
		{404, "not_found_error"},	{409, "conflict_error"},
		{413, "request_too_large"},	{429, "rate_limit_error"},
		{504, "timeout_error"},		{529, "overloaded_error"},
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (types[i].status == status)
			return types[i].type;
	return status < 500 ? "invalid_request_error" : "api_error";
}

static void error_body(struct text *t, const struct call *k, int status)
{
	const char *type = k->plan.type[0] != 0	 ? k->plan.type
			   : k->why_type != NULL ? k->why_type
						 : type_of(status);

	text_z(t, "{\"type\":\"error\",\"error\":{\"type\":");
	text_json(t, type, strlen(type));
	text_z(t, ",\"message\":");
	if (k->why[0] != 0)
		text_json(t, k->why, strlen(k->why));
	else if (status == 404)
		text_f(t, "\"model: %s\"", k->model);
	else
		text_f(t, "\"The fake provider was told to answer %d.\"", status);
	if (k->plan.code[0] != 0) {
		text_z(t, ",\"details\":{\"error_code\":");
		text_json(t, k->plan.code, strlen(k->plan.code));
		text_z(t, "}");
	}
	text_f(t, "},\"request_id\":\"req_fake%llu\"}", (unsigned long long)k->number);
}

/* --- the answer ------------------------------------------------------------------------------------------- */

static const char *stop_reason(const struct call *k)
{
	if (k->plan.refusal)
		return "refusal";
	if (k->stop[0] != 0)
		return "stop_sequence";
	if (strcmp(k->finish, "length") == 0)
		return "max_tokens";
	if (strcmp(k->finish, "content_filter") == 0)
		return "refusal";
	if (k->tool_count > 0 &&
	    (strcmp(k->finish, "tool_calls") == 0 || strcmp(k->finish, "stop") == 0))
		return "tool_use";
	return strcmp(k->finish, "stop") == 0 ? "end_turn" : k->finish;
}

static void stop_body(struct text *t, const struct call *k)
{
	const char *reason = stop_reason(k);

	text_z(t, "\"stop_reason\":");
	text_json(t, reason, strlen(reason));
	text_z(t, ",\"stop_sequence\":");
	if (k->stop[0] != 0)
		text_json(t, k->stop, strlen(k->stop));
	else
		text_z(t, "null");
	if (strcmp(reason, "refusal") == 0)
		text_z(t, ",\"stop_details\":{\"type\":\"refusal\",\"category\":\"general_harms\","
			  "\"explanation\":\"It was told to refuse.\"}");
	else
		text_z(t, ",\"stop_details\":null");
}

/* Input counts without what came from or went to the cache. `end`: what is known after the last word. */
static void usage_body(struct text *t, const struct call *k, bool end)
{
	const struct plan *p = &k->plan;
	int64_t written = p->cache_write + p->cache_write_1h;
	int64_t input = k->prompt_tokens - p->cached - written;

	text_z(t, "{\"input_tokens\":");
	usage_number(t, k, false, input > 0 ? input : 0);
	text_f(t, ",\"cache_creation_input_tokens\":%lld,\"cache_read_input_tokens\":%lld",
	       (long long)written, (long long)p->cached);
	if (!end || !k->stream)
		text_f(t,
		       ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":%lld,"
		       "\"ephemeral_1h_input_tokens\":%lld}",
		       (long long)p->cache_write, (long long)p->cache_write_1h);
	text_z(t, ",\"output_tokens\":");
	if (end)
		usage_number(t, k, true, k->completion_tokens);
	else
		text_z(t, "1"); /* a placeholder: message_delta has the count */
	if (end)
		text_f(t,
		       ",\"output_tokens_details\":{\"thinking_tokens\":%lld},\"server_tool_use\":{"
		       "\"web_search_requests\":%lld,\"web_fetch_requests\":0}",
		       (long long)p->reasoning, (long long)p->searches);
	if (!end || !k->stream)
		text_z(t, ",\"service_tier\":\"standard\",\"inference_geo\":\"not_available\"");
	text_z(t, "}");
}

static void citation_add(struct text *t, long long i)
{
	text_f(t,
	       "{\"type\":\"web_search_result_location\",\"cited_text\":\"fake\",\"url\":"
	       "\"https://example.com/%lld\",\"title\":\"Source %lld\",\"encrypted_index\":\"ZmFrZQ==\"}",
	       i, i);
}

static void signature_add(struct text *t, const struct call *k)
{
	struct span thought = {k->thoughts.text.at, k->hidden ? 0 : k->thoughts.text.len};

	seal(t, k, "thinking", thought);
}

static void thinking_block(struct text *t, const struct call *k)
{
	text_z(t, "{\"type\":\"thinking\",\"thinking\":");
	text_json(t, k->thoughts.text.at, k->hidden ? 0 : k->thoughts.text.len);
	text_z(t, ",\"signature\":\"");
	signature_add(t, k);
	text_z(t, "\"}");
}

static void text_block(struct text *t, const struct call *k)
{
	text_z(t, "{\"type\":\"text\",\"text\":");
	text_json(t, k->answer.text.at, k->answer.text.len);
	text_z(t, ",\"citations\":");
	text_z(t, k->plan.citations > 0 ? "[" : "null");
	for (long long i = 1; i <= (long long)k->plan.citations; i++) {
		text_z(t, i > 1 ? "," : "");
		citation_add(t, i);
	}
	text_z(t, k->plan.citations > 0 ? "]}" : "}");
}

static void tool_open(struct text *t, const struct call *k, int64_t i)
{
	text_f(t,
	       "{\"type\":\"tool_use\",\"id\":\"toolu_%lld_%lld\",\"name\":", (long long)k->turns,
	       (long long)i + 1);
	text_json(t, k->tools[i].name, strlen(k->tools[i].name));
	text_z(t, ",\"input\":");
}

static void content_add(struct text *t, const struct call *k)
{
	const char *between = "";

	text_z(t, "[");
	if (k->thoughts.words > 0) {
		thinking_block(t, k);
		between = ",";
	}
	if (k->answer.words > 0) {
		text_z(t, between);
		text_block(t, k);
		between = ",";
	}
	for (int64_t i = 0; i < k->tool_count; i++) {
		text_z(t, between);
		tool_open(t, k, i);
		text_z(t, k->tools[i].arguments.text.at);
		text_z(t, "}");
		between = ",";
	}
	text_z(t, "]");
}

static void message_open(struct text *t, const struct call *k)
{
	text_z(t, "{\"id\":");
	text_json(t, k->id, strlen(k->id));
	text_z(t, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
	text_json(t, k->model, strlen(k->model));
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	text_z(t, ",\"container\":null,\"content\":");
}

static void plain_body(struct text *t, const struct call *k)
{
	if (k->verb == ANTHROPIC_COUNT) {
		text_f(t, "{\"input_tokens\":%lld}", (long long)k->prompt_tokens);
		return;
	}
	message_open(t, k);
	if (k->plan.null_content)
		text_z(t, "[]");
	else
		content_add(t, k);
	text_z(t, ",");
	stop_body(t, k);
	if (k->plan.pad > 0)
		text_f(t, ",\"x_pad\":\"%0*d\"", (int)k->plan.pad, 0);
	if (!k->plan.no_usage) {
		text_z(t, ",\"usage\":");
		usage_body(t, k, true);
	}
	text_z(t, "}");
}

/* --- a stream --------------------------------------------------------------------------------------------- */

static void event(struct conn *c, const char *name, const char *more)
{
	struct text t = {0};

	text_f(&t, "{\"type\":\"%s\"%s}", name, more);
	stream_event(c, name, &t);
}

static void delta(struct conn *c, const char *type, const char *field, struct span s)
{
	struct text t = {0};

	text_f(&t,
	       "{\"type\":\"content_block_delta\",\"index\":%lld,\"delta\":{\"type\":\"%s\",\"%s\":",
	       (long long)c->call.block, type, field);
	text_json(&t, s.at, s.len);
	text_z(&t, "}}");
	stream_event(c, "content_block_delta", &t);
}

static void block_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == PIECE_NONE)
		return;
	if (k->block_kind == PIECE_THOUGHTS) {
		signature_add(&t, k);
		delta(c, "signature_delta", "signature", (struct span){t.at, t.len});
		text_clear(&t);
	}
	for (long long i = 1; k->block_kind == PIECE_WORDS && i <= (long long)k->plan.citations;
	     i++) {
		text_f(&t,
		       "{\"type\":\"content_block_delta\",\"index\":%lld,\"delta\":{\"type\":"
		       "\"citations_delta\",\"citation\":",
		       (long long)k->block);
		citation_add(&t, i);
		text_z(&t, "}}");
		stream_event(c, "content_block_delta", &t);
	}
	text_f(&t, "{\"type\":\"content_block_stop\",\"index\":%lld}", (long long)k->block);
	stream_event(c, "content_block_stop", &t);
	k->block_kind = PIECE_NONE;
}

/* The block that `p` belongs to; blocks never overlap. */
static void block_open(struct conn *c, const struct piece *p)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == p->kind && k->block_tool == p->tool)
		return;
	block_close(c);
	k->block++;
	k->block_kind = p->kind;
	k->block_tool = p->tool;
	text_f(&t, "{\"type\":\"content_block_start\",\"index\":%lld,\"content_block\":",
	       (long long)k->block);
	if (p->kind == PIECE_TOOL) {
		tool_open(&t, k, p->tool);
		text_z(&t, "{}}");
	} else {
		text_z(&t,
		       p->kind == PIECE_WORDS
			       ? "{\"type\":\"text\",\"text\":\"\"}"
			       : "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
	}
	text_z(&t, "}");
	stream_event(c, "content_block_start", &t);
	if (p->kind == PIECE_TOOL)
		delta(c, "input_json_delta", "partial_json", span_z(""));
	if (p->kind == PIECE_THOUGHTS)
		event(c, "ping", "");
}

static void stream_open(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	text_z(&t, "{\"type\":\"message_start\",\"message\":");
	message_open(&t, k);
	text_z(&t, "[],\"stop_reason\":null,\"stop_sequence\":null");
	if (!k->plan.no_usage) {
		text_z(&t, ",\"usage\":");
		usage_body(&t, k, false);
	}
	text_z(&t, "}}");
	stream_event(c, "message_start", &t);
	event(c, "ping", "");
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	block_open(c, p);
	if (p->kind == PIECE_WORDS)
		delta(c, "text_delta", "text", p->bytes);
	else if (p->kind == PIECE_TOOL)
		delta(c, "input_json_delta", "partial_json", p->bytes);
	else if (!c->call.hidden)
		delta(c, "thinking_delta", "thinking", p->bytes);
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	block_close(c);
	text_z(&t, "{\"type\":\"message_delta\",\"delta\":{");
	stop_body(&t, k);
	text_z(&t, "}");
	if (!k->plan.no_usage) {
		text_z(&t, ",\"usage\":");
		usage_body(&t, k, true);
	}
	text_z(&t, "}");
	stream_event(c, "message_delta", &t);
	if (!k->plan.no_done)
		event(c, "message_stop", "");
}

static void stream_fail(struct conn *c)
{
	struct text t = {0};

	if (c->call.plan.garbage)
		text_z(&t, "{\"type\":\"content_block_delta\",\"index\":");
	else
		error_body(&t, &c->call, 529);
	stream_event(c, "error", &t);
}

const struct speaker speak_anthropic = {
	.read = anthropic_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
