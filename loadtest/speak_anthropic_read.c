/* loadtest/speak_anthropic_read.c - what Anthropic's Messages take, and what they refuse.
 *
 * Written from the provider's reference, not from the service's encoder. Read it from the end. */
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
	bool results_said; /* the last words of this turn are results */
	bool in_result;
	bool thought_seen; /* in this turn */
	int breakpoints;
	const char *open[TOOLS_MAX]; /* ids of the last turn's calls without a result */
	size_t open_count;
};

/* What the user says after the results is said back, else the results are. */
static void user_says(struct reading *r, const char *words)
{
	if (!r->in_result && r->results_said) {
		text_clear(&r->a->said);
		r->results_said = false;
	}
	said_add(&r->a->said, words);
}

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
		user_says(r, text);
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
		user_says(r, yyjson_get_str(content));
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
	r->results_seen = r->results_said = r->in_result = true;
	if (!result_content(r, n, yyjson_obj_get(block, "content")))
		return false;
	r->in_result = false;
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
	r->words_seen = r->thought_seen = r->results_said = false;
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
			user_says(r, text);
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
	if (!r->results_seen || r->words_seen)
		r->k->prompt_tokens += 4;
	r->k->turns++;
	r->a->from_user = !assistant && !r->results_said;
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
	if (r->open_count > 0)
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

void anthropic_read(struct conn *c, yyjson_val *root)
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
