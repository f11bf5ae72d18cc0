/* loadtest/speak_anthropic.c - Anthropic's Messages, as strict as the provider is.
 *
 * Signatures of thinking blocks are made of the model and the thought, so that a block of another origin is
 * found out. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define BREAKPOINTS_MAX 4 /* of cache_control */

static const char fields[] =
	"model max_tokens messages system stream temperature top_p top_k "
	"stop_sequences tools tool_choice thinking output_config cache_control "
	"metadata service_tier inference_geo container";
static const char beta_fields[] = "context_management mcp_servers speed fallbacks "
				  "fallback_credit_token output_format diagnostics";
static const char count_fields[] =
	"messages model system tools tool_choice thinking output_config cache_control";

static bool bad(struct call *k, const char *words)
{
	return refuse(k, 400, "invalid_request_error", NULL, NULL, "%s", words);
}

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

/* --- what the request says, block by block ------------------------------------------------------------------- */

struct reading {
	struct call *k;
	struct ask *a;
	size_t at;	   /* the message */
	bool assistant;	   /* whose turn it is */
	bool strict_turn;  /* thinking is on: the last turn with tools starts with it */
	size_t last;	   /* message of the assistant */
	bool words_seen;   /* in this turn, before a result */
	bool results_seen; /* in this message */
	bool thought_seen; /* in this turn */
	int breakpoints;
	const char *open[TOOLS_MAX]; /* ids of the last turn's calls without a result */
	size_t open_count;
};

static bool bad_at(struct reading *r, size_t block, const char *words)
{
	return refuse(r->k, 400, "invalid_request_error", NULL, NULL,
		      "messages.%zu.content.%zu: %s", r->at, block, words);
}

static bool is_id(const char *id)
{
	return id != NULL && id[0] != 0 &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
		       strlen(id);
}

/* The source of an image or a document. */
static bool source_read(struct reading *r, size_t n, yyjson_val *block, const char *kind)
{
	yyjson_val *source = yyjson_obj_get(block, "source");
	const char *type = str_of(source, "type");
	const char *media = str_of(source, "media_type");
	const char *data = str_of(source, "data");
	bool image = strcmp(kind, "image") == 0;
	int64_t bytes;

	if (type == NULL)
		return bad_at(r, n, "source: Field required");
	if (strcmp(type, "url") == 0 && str_of(source, "url") != NULL) {
		ask_media_at(r->a, kind, str_of(source, "url"));
		return true;
	}
	if (strcmp(type, "file") == 0 && str_of(source, "file_id") != NULL) {
		ask_media_at(r->a, kind, str_of(source, "file_id"));
		return true;
	}
	if (!image && strcmp(type, "text") == 0 && data != NULL) {
		ask_media(r->a, kind, "text/plain", (int64_t)strlen(data));
		return true;
	}
	if (!image && strcmp(type, "content") == 0)
		return true;
	if (strcmp(type, "base64") != 0 || media == NULL || data == NULL)
		return bad_at(r, n, "source: Input should be 'base64', 'url' or 'file'");
	if (!word_among(media,
			image ? "image/jpeg image/png image/gif image/webp" : "application/pdf"))
		return bad_at(r, n,
			      image ? "source.base64.media_type: Input should be 'image/jpeg', "
				      "'image/png', 'image/gif' or 'image/webp'"
				    : "source.base64.media_type: Input should be "
				      "'application/pdf'");
	bytes = base64_bytes(span_z(data));
	if (bytes < 0)
		return bad_at(r, n, "source.base64.data: The data is not valid base64");
	ask_media(r->a, kind, media, bytes);
	return true;
}

static bool text_read(struct reading *r, size_t n, yyjson_val *block)
{
	const char *text = str_of(block, "text");

	if (text == NULL)
		return bad_at(r, n, "text.text: Field required");
	if (text[0] == 0)
		return refuse(r->k, 400, "invalid_request_error", NULL, NULL,
			      "messages: text content blocks must be non-empty");
	r->words_seen = true;
	r->k->prompt_tokens += words_of(span_z(text), NULL, 0);
	if (!r->assistant)
		said_add(&r->a->said, text);
	return true;
}

static bool result_content(struct reading *r, size_t n, yyjson_val *content)
{
	yyjson_val *part;
	size_t i, max;

	if (content != NULL && !yyjson_is_str(content) && !yyjson_is_arr(content))
		return bad_at(r, n, "tool_result.content: Input should be a valid string");
	if (yyjson_is_str(content)) {
		r->k->prompt_tokens += words_of(span_z(yyjson_get_str(content)), NULL, 0);
		said_add(&r->a->said, yyjson_get_str(content));
	}
	yyjson_arr_foreach(content, i, max, part)
	{
		const char *type = str_of(part, "type");

		if (type == NULL ||
		    !word_among(type, "text image document search_result tool_reference"))
			return bad_at(r, n,
				      "tool_result.content: Input tag is none of the expected");
		if (strcmp(type, "text") == 0 && !text_read(r, n, part))
			return false;
		if (word_among(type, "image document") && !source_read(r, n, part, type))
			return false;
	}
	return true;
}

static bool result_read(struct reading *r, size_t n, yyjson_val *block)
{
	const char *id = str_of(block, "tool_use_id");
	size_t i = 0;

	if (r->assistant)
		return bad_at(r, n, "`tool_result` blocks can only be in `user` messages");
	if (r->words_seen)
		return bad_at(
			r, n,
			"`tool_result` blocks must come before any other content of the turn");
	while (id != NULL && i < r->open_count && strcmp(r->open[i], id) != 0)
		i++;
	if (id == NULL || i == r->open_count)
		return refuse(
			r->k, 400, "invalid_request_error", NULL, NULL,
			"messages.%zu.content.%zu: unexpected `tool_use_id` found in `tool_result` "
			"blocks: %s. Each `tool_result` block must have a corresponding `tool_use` "
			"block in the previous message.",
			r->at, n, id != NULL ? id : "");
	r->open[i] = r->open[--r->open_count];
	r->k->prompt_tokens += 4;
	r->results_seen = true;
	if (!result_content(r, n, yyjson_obj_get(block, "content")))
		return false;
	r->words_seen = false; /* its own words do not count as the turn's */
	return true;
}

static bool use_read(struct reading *r, size_t n, yyjson_val *block)
{
	const char *id = str_of(block, "id");

	if (!r->assistant)
		return bad_at(r, n, "`tool_use` blocks can only be in `assistant` messages");
	if (!is_id(id))
		return bad_at(r, n, "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'");
	if (str_of(block, "name") == NULL)
		return bad_at(r, n, "tool_use.name: Field required");
	if (!yyjson_is_obj(yyjson_obj_get(block, "input")))
		return bad_at(r, n, "tool_use.input: Input should be a valid dictionary");
	if (r->strict_turn && r->at == r->last && !r->thought_seen)
		return bad_at(r, n,
			      "Expected `thinking` or `redacted_thinking`, but found `tool_use`. "
			      "When `thinking` is enabled, a final `assistant` message must start "
			      "with a thinking block.");
	for (size_t i = 0; i < r->open_count; i++)
		if (strcmp(r->open[i], id) == 0)
			return bad_at(r, n, "`tool_use` ids must be unique");
	if (r->open_count < TOOLS_MAX)
		r->open[r->open_count++] = id;
	return true;
}

static bool thought_read(struct reading *r, size_t n, yyjson_val *block)
{
	const char *thought = str_of(block, "thinking");

	if (!r->assistant)
		return bad_at(r, n, "`thinking` blocks can only be in `assistant` messages");
	if (thought == NULL || str_of(block, "signature") == NULL)
		return bad_at(r, n, "thinking.signature: Field required");
	if (!is_sealed(r->k, "thinking", span_z(thought), str_of(block, "signature")))
		return bad_at(r, n, "Invalid `signature` in `thinking` block");
	r->thought_seen = true;
	return true;
}

static bool block_read(struct reading *r, size_t n, yyjson_val *block)
{
	const char *type = str_of(block, "type");

	if (type == NULL)
		return bad_at(r, n, "type: Field required");
	if (yyjson_is_obj(yyjson_obj_get(block, "cache_control")) &&
	    ++r->breakpoints > BREAKPOINTS_MAX)
		return bad(r->k, "A maximum of 4 blocks with cache_control may be provided.");
	if (strcmp(type, "text") == 0)
		return text_read(r, n, block);
	if (word_among(type, "image document") && !r->assistant) {
		r->words_seen = true;
		return source_read(r, n, block, type);
	}
	if (strcmp(type, "tool_use") == 0)
		return use_read(r, n, block);
	if (strcmp(type, "tool_result") == 0)
		return result_read(r, n, block);
	if (strcmp(type, "thinking") == 0)
		return thought_read(r, n, block);
	if (strcmp(type, "redacted_thinking") == 0)
		r->thought_seen = true;
	if (word_among(type,
		       "redacted_thinking server_tool_use web_search_tool_result "
		       "web_fetch_tool_result code_execution_tool_result search_result "
		       "bash_code_execution_tool_result text_editor_code_execution_tool_result "
		       "tool_search_tool_result container_upload"))
		return true;
	return refuse(
		r->k, 400, "invalid_request_error", NULL, NULL,
		"messages.%zu.content.%zu: Input tag '%s' found using 'type' does not match any of "
		"the expected tags",
		r->at, n, type);
}

/* --- messages and turns ---------------------------------------------------------------------------------------- */

static bool results_missing(struct reading *r)
{
	return refuse(
		r->k, 400, "invalid_request_error", NULL, NULL,
		"messages.%zu: `tool_use` ids were found without `tool_result` blocks immediately "
		"after: %s. Each `tool_use` block must have a corresponding `tool_result` block in the "
		"next message.",
		r->at, r->open[0]);
}

/* Another one speaks. */
static bool turn_begin(struct reading *r, bool assistant)
{
	if (assistant && r->open_count > 0)
		return results_missing(r);
	if (assistant)
		r->open_count = 0;
	r->assistant = assistant;
	r->words_seen = r->thought_seen = false;
	text_clear(&r->a->said);
	return true;
}

static bool content_read(struct reading *r, yyjson_val *content, bool last)
{
	const char *text = yyjson_get_str(content);
	yyjson_val *block;
	size_t i, max;

	if (text != NULL) {
		if (text[0] == 0 && !(last && r->assistant))
			return refuse(
				r->k, 400, "invalid_request_error", NULL, NULL,
				"messages.%zu: all messages must have non-empty content except for the "
				"optional final assistant message",
				r->at);
		r->words_seen = true;
		r->k->prompt_tokens += words_of(span_z(text), NULL, 0);
		if (!r->assistant)
			said_add(&r->a->said, text);
		return true;
	}
	if (!yyjson_is_arr(content) || (yyjson_arr_size(content) == 0 && !(last && r->assistant)))
		return refuse(r->k, 400, "invalid_request_error", NULL, NULL,
			      "messages.%zu.content: Input should be a valid list", r->at);
	yyjson_arr_foreach(content, i, max, block)
	{
		if (!block_read(r, i, block))
			return false;
	}
	return true;
}

static bool message_read(struct reading *r, yyjson_val *message, bool last)
{
	const char *role = str_of(message, "role");
	bool assistant = role != NULL && strcmp(role, "assistant") == 0;

	if (role == NULL || !word_among(role, "user assistant"))
		return refuse(r->k, 400, "invalid_request_error", NULL, NULL,
			      "messages.%zu.role: Input should be 'user' or 'assistant'", r->at);
	if (field_unknown(message, "role content") != NULL)
		return refuse(r->k, 400, "invalid_request_error", NULL, NULL,
			      "messages.%zu.%s: Extra inputs are not permitted", r->at,
			      field_unknown(message, "role content"));
	if (r->at == 0 && assistant)
		return bad(r->k, "messages: first message must use the \"user\" role");
	if ((r->at == 0 || assistant != r->assistant) && !turn_begin(r, assistant))
		return false;
	r->results_seen = false;
	if (!content_read(r, yyjson_obj_get(message, "content"), last))
		return false;
	if (!assistant && r->open_count > 0)
		return results_missing(r);
	if (!r->results_seen || r->words_seen)
		r->k->prompt_tokens += 4;
	r->k->turns++;
	r->a->from_user = !assistant && !r->results_seen;
	return true;
}

/* A last word of the assistant that is to be gone on with. */
static bool prefill_is_good(struct call *k, yyjson_val *last)
{
	yyjson_val *content = yyjson_obj_get(last, "content");
	const char *text = yyjson_get_str(content);
	size_t n;

	if (!yyjson_equals_str(yyjson_obj_get(last, "role"), "assistant"))
		return true;
	if (text == NULL)
		text = str_of(yyjson_arr_get_last(content), "text");
	n = text != NULL ? strlen(text) : 0;
	return n == 0 || (text[n - 1] != ' ' && text[n - 1] != '\n') ||
	       bad(k, "messages: final assistant content cannot end with trailing whitespace");
}

static bool messages_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *messages = yyjson_obj_get(root, "messages");
	yyjson_val *message;
	size_t i, max;

	if (!yyjson_is_arr(messages))
		return bad(r->k, "messages: Field required");
	if (yyjson_arr_size(messages) == 0)
		return bad(r->k, "messages: at least one message is required");
	yyjson_arr_foreach(messages, i, max, message)
	{
		if (yyjson_equals_str(yyjson_obj_get(message, "role"), "assistant"))
			r->last = i;
	}
	yyjson_arr_foreach(messages, i, max, message)
	{
		r->at = i;
		if (!message_read(r, message, i + 1 == max))
			return false;
	}
	if (r->assistant && r->open_count > 0)
		return results_missing(r);
	return prefill_is_good(r->k, yyjson_arr_get_last(messages));
}

static bool system_read(struct call *k, yyjson_val *root)
{
	yyjson_val *system = yyjson_obj_get(root, "system");
	yyjson_val *block;
	size_t i, max;

	if (system == NULL)
		return true;
	if (!yyjson_is_str(system) && !yyjson_is_arr(system))
		return bad(k, "system: Input should be a valid string");
	yyjson_arr_foreach(system, i, max, block)
	{
		const char *text = str_of(block, "text");

		if (text == NULL || !yyjson_equals_str(yyjson_obj_get(block, "type"), "text"))
			return bad(k, "system.0.type: Input should be 'text'");
		if (text[0] == 0)
			return bad(k, "system: text content blocks must be non-empty");
	}
	k->prompt_tokens += 4 + content_words(system, NULL);
	return true;
}

/* --- tools and settings ------------------------------------------------------------------------------------------ */

static bool tool_read(struct call *k, struct ask *a, size_t i, yyjson_val *tool)
{
	yyjson_val *schema = yyjson_obj_get(tool, "input_schema");
	const char *type = str_of(tool, "type");
	const char *name = str_of(tool, "name");

	if (type != NULL && strcmp(type, "custom") != 0)
		return true; /* the provider's own */
	if (field_unknown(tool,
			  "name description input_schema type strict cache_control defer_loading "
			  "eager_input_streaming input_examples allowed_callers") != NULL)
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "tools.%zu.custom.%s: Extra inputs are not permitted", i,
			      field_unknown(tool,
					    "name description input_schema type strict "
					    "cache_control defer_loading eager_input_streaming "
					    "input_examples allowed_callers"));
	if (!is_id(name) || strlen(name) > 128)
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "tools.%zu.custom.name: String should match pattern "
			      "'^[a-zA-Z0-9_-]{1,128}$'",
			      i);
	if (!yyjson_is_obj(schema))
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "tools.%zu.custom.input_schema: Field required", i);
	if (!yyjson_equals_str(yyjson_obj_get(schema, "type"), "object"))
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "tools.%zu.custom.input_schema.type: Input should be 'object'", i);
	for (size_t n = 0; n < a->tool_count; n++)
		if (strcmp(a->tools[n].name, name) == 0)
			return bad(k, "tools: Tool names must be unique.");
	ask_tool(a, name, schema);
	return true;
}

static bool choice_read(struct call *k, struct ask *a, yyjson_val *root, bool thinks)
{
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	const char *type = str_of(choice, "type");

	if (choice == NULL)
		return true;
	if (type == NULL || !word_among(type, "auto any tool none"))
		return bad(
			k,
			"tool_choice: Input tag does not match any of the expected tags: 'auto', "
			"'any', 'tool', 'none'");
	if (field_unknown(choice, "type name disable_parallel_tool_use") != NULL)
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "tool_choice.%s: Extra inputs are not permitted",
			      field_unknown(choice, "type name disable_parallel_tool_use"));
	if (yyjson_arr_size(yyjson_obj_get(root, "tools")) == 0)
		return bad(k, "tool_choice may only be specified while providing tools.");
	if (thinks && word_among(type, "any tool"))
		return bad(k, "Thinking may not be enabled when tool_choice forces tool use.");
	a->must = strcmp(type, "any") == 0;
	a->must_not = strcmp(type, "none") == 0;
	if (strcmp(type, "tool") != 0)
		return true;
	a->forced = str_of(choice, "name");
	for (size_t i = 0; a->forced != NULL && i < a->tool_count; i++)
		if (strcmp(a->tools[i].name, a->forced) == 0)
			return true;
	return bad(k, "tool_choice: Tool not found in provided tools");
}

static bool tools_read(struct call *k, struct ask *a, yyjson_val *root, bool thinks)
{
	yyjson_val *tool;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, max, tool)
	{
		if (!tool_read(k, a, i, tool))
			return false;
	}
	return choice_read(k, a, root, thinks);
}

/* Models after Claude Opus 4.6 decide themselves. */
static bool samples_itself(const char *model)
{
	return starts_with(model, "claude-opus-4-7") || starts_with(model, "claude-opus-4-8") ||
	       starts_with(model, "claude-opus-5") || starts_with(model, "claude-sonnet-5") ||
	       starts_with(model, "claude-fable-5");
}

static bool sampling_is_good(struct call *k, yyjson_val *root)
{
	yyjson_val *temperature = yyjson_obj_get(root, "temperature");
	yyjson_val *top_p = yyjson_obj_get(root, "top_p");
	yyjson_val *stop;
	size_t i, max;

	if (temperature != NULL &&
	    (!yyjson_is_num(temperature) || yyjson_get_num(temperature) < 0 ||
	     yyjson_get_num(temperature) > 1))
		return bad(k, "temperature: range: 0..1");
	if (samples_itself(k->model) && temperature != NULL && yyjson_get_num(temperature) != 1)
		return bad(k, "`temperature` is deprecated for this model.");
	if (samples_itself(k->model) && yyjson_obj_get(root, "top_k") != NULL)
		return bad(k, "`top_k` is deprecated for this model.");
	if (samples_itself(k->model) && yyjson_is_num(top_p) && yyjson_get_num(top_p) < 0.99)
		return bad(k, "`top_p` is deprecated for this model.");
	yyjson_arr_foreach(yyjson_obj_get(root, "stop_sequences"), i, max, stop)
	{
		const char *s = yyjson_get_str(stop);

		if (s == NULL || s[strspn(s, " \t\r\n")] == 0)
			return bad(
				k,
				"stop_sequences: each stop sequence must contain non-whitespace");
	}
	return true;
}

static bool thinking_is_good(struct call *k, yyjson_val *root, bool *thinks, bool *strict)
{
	yyjson_val *thinking = yyjson_obj_get(root, "thinking");
	yyjson_val *budget = yyjson_obj_get(thinking, "budget_tokens");
	const char *type = str_of(thinking, "type");
	const char *display = str_of(thinking, "display");

	*thinks = *strict = false;
	k->thinks = true;
	if (thinking == NULL)
		return true;
	if (type == NULL || !word_among(type, "enabled adaptive disabled"))
		return bad(
			k,
			"thinking: Input tag does not match any of the expected tags: 'adaptive', "
			"'disabled', 'enabled'");
	if (field_unknown(thinking, "type budget_tokens display") != NULL)
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "thinking.%s.%s: Extra inputs are not permitted", type,
			      field_unknown(thinking, "type budget_tokens display"));
	k->thinks = *thinks = strcmp(type, "disabled") != 0;
	k->hidden = display != NULL && strcmp(display, "omitted") == 0;
	if (strcmp(type, "enabled") != 0)
		return budget == NULL ||
		       bad(k, "thinking.budget_tokens: Extra inputs are not permitted");
	*strict = true;
	if (!yyjson_is_int(budget))
		return bad(k, "thinking.enabled.budget_tokens: Field required");
	if (yyjson_get_sint(budget) < 1024)
		return bad(
			k,
			"thinking.enabled.budget_tokens: Input should be greater than or equal to "
			"1024");
	if (k->verb == ANTHROPIC_MESSAGES &&
	    yyjson_get_sint(budget) >= yyjson_get_sint(yyjson_obj_get(root, "max_tokens")))
		return bad(k, "`max_tokens` must be greater than `thinking.budget_tokens`.");
	if (yyjson_is_num(yyjson_obj_get(root, "temperature")) &&
	    yyjson_get_num(yyjson_obj_get(root, "temperature")) != 1)
		return bad(k, "`temperature` may only be set to 1 when thinking is enabled.");
	return true;
}

static bool output_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *config = yyjson_obj_get(root, "output_config");
	yyjson_val *format = yyjson_obj_get(config, "format");
	const char *effort = str_of(config, "effort");

	if (field_unknown(config, "effort format task_budget") != NULL)
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "output_config.%s: Extra inputs are not permitted",
			      field_unknown(config, "effort format task_budget"));
	if (effort != NULL && !word_among(effort, "low medium high xhigh max"))
		return bad(
			k,
			"output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or "
			"'max'");
	if (format == NULL || yyjson_is_null(format))
		return true;
	if (!yyjson_equals_str(yyjson_obj_get(format, "type"), "json_schema") ||
	    field_unknown(format, "type schema") != NULL)
		return bad(k,
			   "output_config.format: Input should be {type: 'json_schema', schema}");
	a->json = true;
	a->schema = yyjson_obj_get(format, "schema");
	if (!yyjson_is_obj(a->schema) || !schema_is_closed(a->schema, false))
		return bad(
			k,
			"output_config.format.schema: For 'object' type, 'additionalProperties' must "
			"be explicitly set to false");
	return true;
}

/* --- the request ---------------------------------------------------------------------------------------------------- */

static bool fields_are_good(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	yyjson_val *max = yyjson_obj_get(root, "max_tokens");
	yyjson_val *metadata = yyjson_obj_get(root, "metadata");
	yyjson_val *name, *value;
	struct span v;
	bool beta = http_header(&c->head, "anthropic-beta", &v);
	size_t i, n;

	if (strcmp(k->vendor, "anthropic") == 0 && !http_header(&c->head, "anthropic-version", &v))
		return bad(k, "anthropic-version: header is required");
	yyjson_obj_foreach(root, i, n, name, value)
	{
		const char *field = yyjson_get_str(name);

		if (word_among(field, k->verb == ANTHROPIC_COUNT ? count_fields : fields) ||
		    (beta && word_among(field, beta_fields)))
			continue;
		return refuse(k, 400, "invalid_request_error", NULL, NULL,
			      "%s: Extra inputs are not permitted", field);
	}
	if (k->model[0] == 0)
		return bad(k, "model: Field required");
	if (field_unknown(metadata, "user_id") != NULL)
		return bad(k, "metadata: Extra inputs are not permitted");
	if (k->verb == ANTHROPIC_COUNT)
		return true;
	if (max == NULL)
		return bad(k, "max_tokens: Field required");
	if (!yyjson_is_int(max) || yyjson_get_sint(max) < 0)
		return bad(k, "max_tokens: Input should be greater than or equal to 0");
	return true;
}

static void head_write(struct call *k)
{
	text_f(&k->head,
	       "request-id: req_fake%llu\r\nanthropic-organization-id: org_fake\r\n"
	       "anthropic-ratelimit-requests-limit: 1000\r\n"
	       "anthropic-ratelimit-requests-remaining: 999\r\n"
	       "anthropic-ratelimit-requests-reset: 2026-01-01T00:00:00Z\r\n",
	       (unsigned long long)k->number);
}

static void anthropic_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *model = str_of(root, "model");
	struct ask a = {.allowed = INT64_MAX};
	struct reading r = {.k = k, .a = &a};
	bool thinks;

	snprintf(k->id, sizeof(k->id), "msg_fake%llu", (unsigned long long)k->number);
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	head_write(k);
	k->one_by_one = true;
	if (!fields_are_good(c, root) || !thinking_is_good(k, root, &thinks, &r.strict_turn) ||
	    !sampling_is_good(k, root) || !tools_read(k, &a, root, thinks) ||
	    !output_read(k, &a, root) || !system_read(k, root) || !messages_read(&r, root)) {
		ask_clear(&a);
		return;
	}
	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
	if (k->verb == ANTHROPIC_MESSAGES)
		a.allowed = yyjson_get_sint(yyjson_obj_get(root, "max_tokens"));
	ask_stops(&a, yyjson_obj_get(root, "stop_sequences"));
	call_decide(k, &a);
	if (k->plan.blocked && k->plan.status == 200)
		bad(k, "Output blocked by content filtering policy");
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
