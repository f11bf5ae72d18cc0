/* loadtest/speak_chat_rules.c - what each provider of chat completions takes, what it refuses, and how it says so.
 *
 * A row is written from the provider's reference, not from the service's table of quirks: a tool that shared
 * it would share its errors. */
#include <string.h>
#include "speak_chat.h"

#define OPENAI_FIELDS                                                                                     \
	"model messages stream stream_options max_completion_tokens max_tokens temperature top_p n stop " \
	"frequency_penalty presence_penalty logit_bias logprobs top_logprobs seed tools tool_choice "     \
	"parallel_tool_calls functions function_call response_format reasoning_effort verbosity "         \
	"modalities audio prediction web_search_options service_tier store metadata prompt_cache_key "    \
	"prompt_cache_options prompt_cache_retention safety_identifier user moderation"
#define MISTRAL_FIELDS                                                                                  \
	"model temperature top_p max_tokens stream stop random_seed metadata messages response_format " \
	"tools tool_choice presence_penalty frequency_penalty n prediction parallel_tool_calls "        \
	"reasoning_effort prompt_mode guardrails prompt_cache_key service_tier safe_prompt"

static const struct manner manners[] = {
	{.vendor = "", .thoughts = "reasoning_content"},
	{.vendor = "openai", .fields = OPENAI_FIELDS, .strict = true},
	{.vendor = "azure_openai", .fields = OPENAI_FIELDS, .strict = true},
	{.vendor = "openrouter", .thoughts = "reasoning", .strict = true, .usage_unasked = true},
	{.vendor = "grok", .thoughts = "reasoning_content", .strict = true, .additive = true},
	{.vendor = "mistral",
	 .fields = MISTRAL_FIELDS,
	 .thoughts = "chunks",
	 .strict = true,
	 .nine = true,
	 .usage_with_finish = true},
	{.vendor = "kimi", .thoughts = "reasoning_content", .strict = true, .thoughts_back = true},
	{.vendor = "deepseek",
	 .thoughts = "reasoning_content",
	 .strict = true,
	 .thoughts_back = true,
	 .usage_with_finish = true},
	{.vendor = "gemini", .strict = true},
	{.vendor = "groq",
	 .refused = "logprobs logit_bias top_logprobs",
	 .thoughts = "reasoning",
	 .strict = true},
	{.vendor = "together", .thoughts = "reasoning", .strict = true, .usage_with_finish = true},
	{.vendor = "ollama", .thoughts = "reasoning"},
	{.vendor = "vllm", .thoughts = "reasoning"},
	{.vendor = "lm_studio", .thoughts = "reasoning_content"},
	{.vendor = "llama_cpp", .thoughts = "reasoning_content"},
	{.vendor = "openai_compatible", .thoughts = "reasoning_content"},
};

const struct manner *manner_of(const char *vendor)
{
	for (size_t i = 0; i < sizeof(manners) / sizeof(*manners); i++)
		if (strcmp(manners[i].vendor, vendor) == 0)
			return &manners[i];
	return &manners[0];
}

/* --- errors ---------------------------------------------------------------------------------------------- */

static const char *words_for(const struct call *k, int status, char *buffer, size_t size)
{
	struct text t = {0};

	if (k->why[0] != 0)
		return k->why;
	text_f(&t, "The fake provider was told to answer %d.", status);
	span_copy((struct span){t.at, t.len}, buffer, size);
	text_clear(&t);
	return buffer;
}

static const char *type_of(const struct call *k, int status, const char *usual)
{
	return k->plan.type[0] != 0 ? k->plan.type : k->why_type != NULL ? k->why_type : usual;
}

static const char *code_of(const struct call *k, int status)
{
	if (k->plan.code[0] != 0)
		return k->plan.code;
	if (k->why[0] != 0)
		return k->why_code;
	switch (status) {
	case 401:
		return "invalid_api_key";
	case 404:
		return "model_not_found";
	case 429:
		return "rate_limit_exceeded";
	case 503:
		return "server_is_overloaded";
	default:
		return NULL;
	}
}

static void string_or_null(struct text *t, const char *s)
{
	if (s != NULL && s[0] != 0)
		text_json(t, s, strlen(s));
	else
		text_z(t, "null");
}

static void openai_error(struct text *t, const struct call *k, int status, const char *words)
{
	const char *usual = status == 429   ? "requests"
			    : status == 503 ? "service_unavailable_error"
			    : status >= 500 ? "server_error"
					    : "invalid_request_error";

	text_z(t, "{\"error\":{\"message\":");
	text_json(t, words, strlen(words));
	text_z(t, ",\"type\":");
	string_or_null(t, type_of(k, status, usual));
	text_z(t, ",\"param\":");
	string_or_null(t, k->why_param);
	text_z(t, ",\"code\":");
	string_or_null(t, code_of(k, status));
	text_z(t, "}}");
}

static void mistral_error(struct text *t, const struct call *k, int status, const char *words)
{
	if (status == 422) {
		text_z(t, "{\"detail\":[{\"type\":");
		string_or_null(t, type_of(k, status, "extra_forbidden"));
		text_z(t, ",\"loc\":[\"body\",");
		string_or_null(t, k->why_param);
		text_z(t, "],\"msg\":");
		text_json(t, words, strlen(words));
		text_z(t, "}]}");
		return;
	}
	text_z(t, "{\"object\":\"error\",\"message\":");
	text_json(t, words, strlen(words));
	text_z(t, ",\"type\":");
	string_or_null(
		t, type_of(k, status, status == 429 ? "rate_limited" : "invalid_request_error"));
	text_z(t, ",\"param\":null,\"code\":");
	string_or_null(t, k->plan.code[0] != 0 ? k->plan.code : k->why_code);
	text_z(t, "}");
}

/* {"error":{"code":429,...}} of OpenRouter, vLLM and llama.cpp; each with its own beside it. */
static void number_error(struct text *t, const struct call *k, int status, const char *words)
{
	const bool is_router = strcmp(k->vendor, "openrouter") == 0;

	text_f(t, "{\"error\":{\"code\":%d,\"message\":", status);
	text_json(t, words, strlen(words));
	if (is_router) {
		text_z(t, ",\"metadata\":{\"error_type\":");
		string_or_null(t, k->plan.code[0] != 0 ? k->plan.code
				  : status == 429      ? "rate_limit_exceeded"
				  : status == 503      ? "provider_overloaded"
				  : status == 401      ? "authentication"
				  : status == 402      ? "payment_required"
				  : status == 404      ? "not_found"
				  : status >= 500      ? "provider_unavailable"
						       : "invalid_request");
		text_z(t, "}}}");
		return;
	}
	text_z(t, ",\"type\":");
	string_or_null(
		t, type_of(k, status,
			   strcmp(k->vendor, "vllm") != 0
				   ? status == 503 ? "unavailable_error" : "invalid_request_error"
			   : status == 404 ? "NotFoundError"
			   : status >= 500 ? "InternalServerError"
					   : "BadRequestError"));
	text_z(t, ",\"param\":null}}");
}

/* {"code":"words","error":"words"} of xAI. */
static void xai_error(struct text *t, const struct call *k, int status, const char *words)
{
	text_z(t, "{\"code\":");
	string_or_null(t, k->plan.code[0] != 0 ? k->plan.code
			  : status == 429      ? "Some resource has been exhausted"
			  : status == 404      ? "Some requested entity was not found"
			  : status == 503      ? "The service is currently unavailable"
			  : status >= 500      ? "Internal error"
					       : "Client specified an invalid argument");
	text_z(t, ",\"error\":");
	text_json(t, words, strlen(words));
	text_z(t, "}");
}

static void kimi_error(struct text *t, const struct call *k, int status, const char *words)
{
	text_z(t, "{\"error\":{\"message\":");
	text_json(t, words, strlen(words));
	text_z(t, ",\"type\":");
	string_or_null(t, type_of(k, status,
				  status == 429	  ? "rate_limit_reached_error"
				  : status == 503 ? "engine_overloaded_error"
				  : status == 404 ? "resource_not_found_error"
				  : status == 403 ? "permission_denied_error"
				  : status >= 500 ? "server_error"
						  : "invalid_request_error"));
	text_z(t, "}}");
}

static void azure_error(struct text *t, const struct call *k, int status, const char *words)
{
	if (k->plan.blocked) {
		text_z(t, "{\"error\":{\"code\":\"content_filter\",\"status\":400,\"message\":");
		text_json(t, words, strlen(words));
		text_z(t, ",\"param\":\"prompt\",\"type\":null,\"innererror\":{\"code\":"
			  "\"ResponsibleAIPolicyViolation\",\"content_filter_result\":{\"hate\":"
			  "{\"filtered\":true,\"severity\":\"high\"}}}}}");
		return;
	}
	if (k->why[0] != 0) {
		openai_error(t, k, status, words);
		return;
	}
	text_z(t, "{\"error\":{\"code\":");
	if (status == 404)
		text_z(t, "\"DeploymentNotFound\"");
	else
		text_f(t, "\"%d\"", status);
	text_z(t, ",\"message\":");
	text_json(t, words, strlen(words));
	text_z(t, "}}");
}

void chat_error(struct text *t, const struct call *k, int status)
{
	static const struct {
		const char *vendors;
		void (*write)(struct text *t, const struct call *k, int status, const char *words);
	} shapes[] = {
		{"mistral", mistral_error},    {"openrouter vllm llama_cpp", number_error},
		{"grok", xai_error},	       {"kimi", kimi_error},
		{"azure_openai", azure_error},
	};
	char buffer[64];
	const char *words = words_for(k, status, buffer, sizeof(buffer));

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		if (word_among(k->vendor, shapes[i].vendors)) {
			shapes[i].write(t, k, status, words);
			return;
		}
	}
	if (strcmp(k->vendor, "lm_studio") == 0) {
		text_z(t, "{\"error\":");
		text_json(t, words, strlen(words));
		text_z(t, "}");
		return;
	}
	openai_error(t, k, status, words);
}

/* --- fields ------------------------------------------------------------------------------------------------ */

static bool is_vendor(const struct call *k, const char *vendors)
{
	return word_among(k->vendor, vendors);
}

/* Models that think and take max_completion_tokens only. */
static bool is_thinker(const char *model)
{
	return (model[0] == 'o' && model[1] >= '1' && model[1] <= '9') ||
	       starts_with(model, "gpt-5");
}

/* A parameter that the provider takes, but not with this model. */
static bool model_is_good(struct call *k, yyjson_val *root, const char *model)
{
	static const char *const fixed = "temperature top_p n presence_penalty frequency_penalty";
	yyjson_val *field, *value;
	size_t i, max;

	yyjson_obj_foreach(root, i, max, field, value)
	{
		const char *name = yyjson_get_str(field);

		if (is_vendor(k, "grok") && starts_with(model, "grok-4") &&
		    strstr(model, "non-reasoning") == NULL &&
		    word_among(name, "presence_penalty frequency_penalty stop"))
			return refuse(k, 400, NULL, NULL, name,
				      "Argument not supported on this model: %s", name);
		if (is_vendor(k, "kimi") &&
		    (starts_with(model, "kimi-k2.") || starts_with(model, "kimi-k3")) &&
		    word_among(name, fixed))
			return refuse(k, 400, "invalid_request_error", NULL, NULL,
				      "invalid %s: it is fixed for this model", name);
		if (is_vendor(k, "together") && strcmp(name, "logprobs") == 0 &&
		    !yyjson_is_int(value))
			return refuse(k, 400, "invalid_request_error", NULL, name,
				      "'logprobs' must be an integer between 0 and 20");
	}
	if (is_vendor(k, "lm_studio") &&
	    yyjson_equals_str(yyjson_obj_get(yyjson_obj_get(root, "response_format"), "type"),
			      "json_object"))
		return refuse(k, 400, NULL, NULL, NULL,
			      "'response_format.type' must be 'json_schema' or 'text'");
	return true;
}

/* Models of these two that answer without a thought. */
static bool never_thinks(const char *model)
{
	return starts_with(model, "moonshot-v1") || starts_with(model, "kimi-k2-0905") ||
	       starts_with(model, "kimi-k2-turbo") || starts_with(model, "deepseek-chat");
}

static bool mistral_refuse(struct call *k, const char *field)
{
	return refuse(k, 422, "extra_forbidden", NULL, field, "Extra inputs are not permitted");
}

static bool fields_are_good(struct call *k, const struct manner *m, yyjson_val *root)
{
	const char *model = str_of(root, "model");
	const char *unknown = m->fields != NULL ? field_unknown(root, m->fields) : NULL;
	yyjson_val *field, *value;
	size_t i, max;

	if (unknown != NULL && m->nine)
		return mistral_refuse(k, unknown);
	if (unknown != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", unknown,
			      "Unknown parameter: '%s'.", unknown);
	yyjson_obj_foreach(root, i, max, field, value)
	{
		if (m->refused != NULL && word_among(yyjson_get_str(field), m->refused))
			return refuse(k, 400, "invalid_request_error", NULL, yyjson_get_str(field),
				      "property '%s' is unsupported", yyjson_get_str(field));
	}
	if (model == NULL || model[0] == 0)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "model", "you must provide a model parameter");
	if (is_vendor(k, "openai azure_openai") && is_thinker(model) &&
	    yyjson_obj_get(root, "max_tokens") != NULL)
		return refuse(
			k, 400, "invalid_request_error", "unsupported_parameter", "max_tokens",
			"Unsupported parameter: 'max_tokens' is not supported with this model. "
			"Use 'max_completion_tokens' instead.");
	if (is_vendor(k, "openai azure_openai") && is_thinker(model) &&
	    yyjson_is_num(yyjson_obj_get(root, "temperature")) &&
	    yyjson_get_num(yyjson_obj_get(root, "temperature")) != 1)
		return refuse(
			k, 400, "invalid_request_error", "unsupported_value", "temperature",
			"Unsupported value: 'temperature' does not support this value with this "
			"model. Only the default (1) value is supported.");
	if (yyjson_obj_get(root, "stream_options") != NULL && m->strict &&
	    !yyjson_is_true(yyjson_obj_get(root, "stream")))
		return refuse(k, 400, "invalid_request_error", NULL, "stream_options",
			      "The 'stream_options' parameter is only allowed when 'stream' is "
			      "enabled.");
	if (is_vendor(k, "groq ollama lm_studio") && yyjson_get_sint(yyjson_obj_get(root, "n")) > 1)
		return refuse(k, 400, "invalid_request_error", NULL, "n", "'n' must be 1");
	return model_is_good(k, root, model);
}

static bool tool_is_good(struct call *k, yyjson_val *tool)
{
	yyjson_val *f = yyjson_obj_get(tool, "function");
	yyjson_val *parameters = yyjson_obj_get(f, "parameters");
	const char *type = str_of(tool, "type");
	const char *name = str_of(f, "name");

	if (type == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools[0].type", "Missing required parameter: 'tools[0].type'.");
	if (strcmp(type, "function") != 0)
		return true;
	if (name == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools[0].function",
			      "Missing required parameter: 'tools[0].function'.");
	if (strlen(name) > 64 ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
		    strlen(name))
		return refuse(k, 400, "invalid_request_error", "invalid_value",
			      "tools[0].function.name",
			      "Invalid 'tools[0].function.name': string does not match pattern.");
	if (yyjson_is_true(yyjson_obj_get(f, "strict")) && !schema_is_closed(parameters, true))
		return refuse(
			k, 400, "invalid_request_error", "invalid_function_parameters",
			"tools[0].function.parameters",
			"Invalid schema for function '%s': 'additionalProperties' is required to be "
			"supplied and to be false, and every property to be required.",
			name);
	return true;
}

static bool format_is_good(struct call *k, yyjson_val *root)
{
	yyjson_val *format = yyjson_obj_get(root, "response_format");
	yyjson_val *schema = yyjson_obj_get(format, "json_schema");
	const char *type = str_of(format, "type");

	if (format == NULL || type == NULL || strcmp(type, "json_schema") != 0)
		return true;
	if (is_vendor(k, "deepseek"))
		return refuse(k, 400, "invalid_request_error", NULL, "response_format",
			      "This response_format type is unavailable now");
	if (str_of(schema, "name") == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "response_format.json_schema.name",
			      "Missing required parameter: 'response_format.json_schema.name'.");
	if (yyjson_is_true(yyjson_obj_get(schema, "strict")) &&
	    !schema_is_closed(yyjson_obj_get(schema, "schema"), true))
		return refuse(k, 400, "invalid_request_error", NULL, "response_format",
			      "Invalid schema for response_format '%s': 'additionalProperties' is "
			      "required to be supplied and to be false, and every property to be "
			      "required.",
			      str_of(schema, "name"));
	return true;
}

static bool tools_are_good(struct call *k, yyjson_val *root)
{
	yyjson_val *tools = yyjson_obj_get(root, "tools");
	yyjson_val *tool;
	size_t i, max;

	if (tools != NULL && yyjson_arr_size(tools) == 0)
		return refuse(k, 400, "invalid_request_error", "empty_array", "tools",
			      "Invalid 'tools': empty array.");
	yyjson_arr_foreach(tools, i, max, tool)
	{
		if (!tool_is_good(k, tool))
			return false;
	}
	if (tools == NULL && (yyjson_obj_get(root, "tool_choice") != NULL ||
			      yyjson_obj_get(root, "parallel_tool_calls") != NULL))
		return refuse(k, 400, "invalid_request_error", NULL, "tool_choice",
			      "'tool_choice' is only allowed when 'tools' are specified.");
	return true;
}

/* --- messages ------------------------------------------------------------------------------------------------ */

/* The calls of the last assistant message that no tool has answered yet. */
struct open_calls {
	const char *ids[TOOLS_MAX];
	size_t count;
};

static bool calls_open(struct call *k, const struct manner *m, yyjson_val *message,
		       struct open_calls *open)
{
	yyjson_val *call;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(message, "tool_calls"), i, max, call)
	{
		yyjson_val *f = yyjson_obj_get(call, "function");
		const char *id = str_of(call, "id");
		const char *arguments = str_of(f, "arguments");

		if (id == NULL || str_of(f, "name") == NULL ||
		    (arguments == NULL &&
		     !(m->nine && yyjson_is_obj(yyjson_obj_get(f, "arguments")))))
			return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
				      "messages.tool_calls",
				      "Missing required parameter: 'messages[].tool_calls[]'.");
		if (arguments != NULL && !is_json_object(arguments) &&
		    !is_vendor(k, "openai azure_openai"))
			return refuse(k, 400, "invalid_request_error", NULL, "messages.tool_calls",
				      "function arguments must be valid JSON");
		if (m->nine && (strlen(id) != 9 ||
				strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789") != 9))
			return refuse(
				k, 400, "invalid_request_error", "3280", NULL,
				"Tool call id was %s but must be a-z, A-Z, 0-9, with a length of 9.",
				id);
		/* calls that this provider made without a thought have none to bring back */
		if (m->thoughts_back && !starts_with(id, "plain_") && !k->plan.think &&
		    !yyjson_is_str(yyjson_obj_get(message, "reasoning_content")))
			return refuse(
				k, 400, "invalid_request_error", NULL, NULL,
				"thinking is enabled but reasoning_content is missing in assistant "
				"tool call message");
		if (open->count < TOOLS_MAX)
			open->ids[open->count++] = id;
	}
	return true;
}

static bool call_close(struct call *k, yyjson_val *message, struct open_calls *open)
{
	const char *id = str_of(message, "tool_call_id");

	for (size_t i = 0; id != NULL && i < open->count; i++) {
		if (strcmp(open->ids[i], id) == 0) {
			open->ids[i] = open->ids[--open->count];
			return true;
		}
	}
	return refuse(
		k, 400, "invalid_request_error", NULL, "messages",
		"Invalid parameter: messages with role 'tool' must be a response to a preceeding "
		"message with 'tool_calls'.");
}

static bool part_is_good(struct call *k, yyjson_val *part, const char *role)
{
	const char *type = str_of(part, "type");
	const char *url = str_of(yyjson_obj_get(part, "image_url"), "url");

	if (type == NULL ||
	    !word_among(type, "text image_url input_audio file refusal thinking reference "
			      "document_url video_url"))
		return refuse(k, 400, "invalid_request_error", "invalid_value",
			      "messages.content.type",
			      "Invalid value: '%s'. Supported values are: 'text', 'image_url', "
			      "'input_audio', 'refusal', 'audio', and 'file'.",
			      type != NULL ? type : "");
	if (is_vendor(k, "openai azure_openai") &&
	    word_among(type, "thinking reference document_url video_url"))
		return refuse(k, 400, "invalid_request_error", "invalid_value",
			      "messages.content.type", "Invalid value: '%s'.", type);
	if (strcmp(type, "image_url") == 0 && url == NULL &&
	    !(is_vendor(k, "mistral") && yyjson_is_str(yyjson_obj_get(part, "image_url"))))
		return refuse(k, 400, "invalid_request_error", NULL, "messages.content.image_url",
			      "Invalid type for 'messages.content.image_url': expected an object.");
	if (is_vendor(k, "openai azure_openai") && strcmp(role, "user") != 0 &&
	    word_among(type, "image_url input_audio file"))
		return refuse(
			k, 400, "invalid_request_error", NULL, "messages",
			"Invalid 'messages'. Image URLs are only allowed for messages with role "
			"'user', but this message with role '%s' contains an image URL.",
			role);
	return true;
}

static bool content_is_good(struct call *k, yyjson_val *message, const char *role)
{
	yyjson_val *content = yyjson_obj_get(message, "content");
	yyjson_val *part;
	size_t i, max;

	if (content == NULL || yyjson_is_null(content)) {
		if (strcmp(role, "assistant") == 0 &&
		    (yyjson_arr_size(yyjson_obj_get(message, "tool_calls")) > 0 ||
		     yyjson_obj_get(message, "audio") != NULL ||
		     yyjson_obj_get(message, "function_call") != NULL ||
		     yyjson_is_str(yyjson_obj_get(message, "refusal"))))
			return true;
		return refuse(k, 400, "invalid_request_error", NULL, "messages.content",
			      "Invalid value for 'content': expected a string, got null.");
	}
	if (!yyjson_is_str(content) && !yyjson_is_arr(content))
		return refuse(k, 400, "invalid_request_error", NULL, "messages.content",
			      "Invalid type for 'content': expected a string or an array.");
	yyjson_arr_foreach(content, i, max, part)
	{
		if (!part_is_good(k, part, role))
			return false;
	}
	return true;
}

static const char *mistral_message(const char *role)
{
	return strcmp(role, "assistant") == 0 ? "role content tool_calls prefix"
	       : strcmp(role, "tool") == 0    ? "role content tool_call_id name"
					      : "role content";
}

static bool message_is_good(struct call *k, const struct manner *m, yyjson_val *message,
			    struct open_calls *open)
{
	const char *role = str_of(message, "role");

	if (role == NULL ||
	    !word_among(role, m->nine ? "system user assistant tool"
				      : "system developer user assistant tool function"))
		return refuse(
			k, m->nine ? 422 : 400,
			m->nine ? "union_tag_invalid" : "invalid_request_error",
			m->nine ? NULL : "invalid_value", m->nine ? "messages" : "messages.role",
			"Invalid value: '%s'. Supported values are: 'system', 'assistant', 'user', "
			"'tool'.",
			role != NULL ? role : "");
	if (m->nine && field_unknown(message, mistral_message(role)) != NULL)
		return mistral_refuse(k, field_unknown(message, mistral_message(role)));
	if (is_vendor(k, "groq") && yyjson_obj_get(message, "name") != NULL)
		return refuse(k, 400, "invalid_request_error", NULL, "messages.name",
			      "property 'name' is unsupported");
	if (!content_is_good(k, message, role))
		return false;
	if (strcmp(role, "tool") == 0)
		return call_close(k, message, open);
	if (open->count > 0)
		return refuse(
			k, 400, "invalid_request_error", NULL, "messages",
			"An assistant message with 'tool_calls' must be followed by tool messages "
			"responding to each 'tool_call_id'. The following tool_call_ids did not have "
			"response messages: %s",
			open->ids[0]);
	return calls_open(k, m, message, open);
}

static bool messages_are_good(struct call *k, const struct manner *m, yyjson_val *root)
{
	yyjson_val *messages = yyjson_obj_get(root, "messages");
	struct open_calls open = {.count = 0};
	const char *role = NULL;
	yyjson_val *message;
	size_t i, max;

	if (!yyjson_is_arr(messages) || yyjson_arr_size(messages) == 0)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "messages", "Missing required parameter: 'messages'.");
	yyjson_arr_foreach(messages, i, max, message)
	{
		role = str_of(message, "role");
		if (!message_is_good(k, m, message, &open))
			return false;
	}
	if (open.count > 0)
		return refuse(
			k, 400, "invalid_request_error", NULL, "messages",
			"An assistant message with 'tool_calls' must be followed by tool messages "
			"responding to each 'tool_call_id'. The following tool_call_ids did not have "
			"response messages: %s",
			open.ids[0]);
	if (m->nine && strcmp(role, "assistant") == 0 &&
	    !yyjson_is_true(yyjson_obj_get(yyjson_arr_get_last(messages), "prefix")))
		return refuse(k, 400, "invalid_request_error", "3230", NULL,
			      "Expected last role User or Tool (or Assistant with prefix True) for "
			      "serving but got assistant");
	return true;
}

bool chat_is_good(struct call *k, const struct manner *m, yyjson_val *root)
{
	struct manner calm = *m;
	const char *thinking = str_of(yyjson_obj_get(root, "thinking"), "type");

	if (k->vendor[0] == 0)
		return true;
	if (!m->strict)
		return fields_are_good(k, m, root);
	if ((thinking != NULL && strcmp(thinking, "disabled") == 0) || never_thinks(k->model))
		calm.thoughts_back = false;
	return fields_are_good(k, m, root) && tools_are_good(k, root) && format_is_good(k, root) &&
	       messages_are_good(k, &calm, root);
}
