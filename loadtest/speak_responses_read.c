/* loadtest/speak_responses_read.c - what OpenAI's Responses take, what they refuse, and what they remember.
 *
 * It remembers what it answered, per key, so that a follow-up that goes to another key finds nothing. What
 * is remembered is not counted: usage follows from the request alone. Written from the provider's
 * reference, not from the service's encoder. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define STORED_MAX	    1024
#define STORED_BYTES_MAX    (64 * 1024 * 1024)
#define OUTPUT_TOKENS_LEAST 16 /* of reasoning models */

static const char fields[] =
	"model input instructions max_output_tokens max_tool_calls temperature top_p top_logprobs tools "
	"tool_choice parallel_tool_calls text reasoning include store previous_response_id conversation "
	"prompt background stream stream_options metadata service_tier prompt_cache_key "
	"prompt_cache_options prompt_cache_retention safety_identifier user context_management "
	"moderation truncation client_metadata";

static bool bad(struct call *k, const char *code, const char *param, const char *words)
{
	return refuse(k, 400, "invalid_request_error", code, param, "%s", words);
}

/* --- what is remembered ----------------------------------------------------------------------------------- */

/* A response, or a conversation that a key has begun. */
static struct stored {
	char id[96], key[128];
	struct text body;  /* the response as it is given back */
	struct text calls; /* ids of its calls, a space before and after each */
} stored[STORED_MAX];
static size_t stored_next, stored_bytes;

static void stored_drop(struct stored *s)
{
	stored_bytes -= s->body.len;
	text_clear(&s->body);
	text_clear(&s->calls);
	s->id[0] = 0;
}

void responses_forget(void)
{
	for (size_t i = 0; i < STORED_MAX; i++)
		stored_drop(&stored[i]);
}

/* The caller fills in the body and tells its size by stored_sized(). */
static struct stored *stored_add(const char *id, const char *key)
{
	struct stored *s = &stored[stored_next];

	stored_next = (stored_next + 1) % STORED_MAX;
	stored_drop(s);
	if (stored_bytes > STORED_BYTES_MAX)
		responses_forget();
	span_copy(span_z(id), s->id, sizeof(s->id));
	span_copy(span_z(key), s->key, sizeof(s->key));
	return s;
}

/* By id; `key` NULL: anybody's. */
static struct stored *stored_find(const char *id, const char *key)
{
	for (size_t i = 0; i < STORED_MAX; i++)
		if (stored[i].id[0] != 0 && strcmp(stored[i].id, id) == 0 &&
		    (key == NULL || strcmp(stored[i].key, key) == 0))
			return &stored[i];
	return NULL;
}

/* Whether an item of this id is in anything that the key has stored. */
static bool item_is_stored(const char *id, const char *key)
{
	struct text quoted = {0};
	bool is = false;

	text_f(&quoted, "\"id\":\"%s\"", id);
	for (size_t i = 0; i < STORED_MAX && !is; i++)
		is = stored[i].body.len > 0 && strcmp(stored[i].key, key) == 0 &&
		     strstr(stored[i].body.at, quoted.at) != NULL;
	text_clear(&quoted);
	return is;
}

/* --- the input ------------------------------------------------------------------------------------------------------ */

struct reading {
	struct call *k;
	struct ask *a;
	const struct stored *before; /* previous_response_id; NULL: none */
	const char *open[TOOLS_MAX]; /* calls without an output */
	size_t open_count;
	bool assistant; /* the last item was the model's */
	bool output;	/* the last item was a tool's */
};

static bool part_read(struct reading *r, yyjson_val *part, bool assistant)
{
	const char *type = str_of(part, "type");
	const char *url = str_of(part, "image_url");
	const char *data = str_of(part, "file_data");
	const char *file_url = str_of(part, "file_url");
	const char *id = str_of(part, "file_id");
	bool image = type != NULL && strcmp(type, "input_image") == 0;

	if (type == NULL || !word_among(type, assistant ? "output_text refusal"
							: "input_text input_image input_file"))
		return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input",
			      "Invalid value: '%s'. Supported values are: %s.",
			      type != NULL ? type : "",
			      assistant ? "'output_text' and 'refusal'"
					: "'input_text', 'input_image', and 'input_file'");
	if (image && url == NULL && id == NULL)
		return bad(
			r->k, "invalid_type", "input",
			"Invalid type for 'input[0].content[0].image_url': expected an image URL, but "
			"got an object instead.");
	if ((url != NULL && !ask_media_uri(r->a, "image", url)) ||
	    (data != NULL &&
	     (!starts_with(data, "data:") || !ask_media_uri(r->a, "document", data))))
		return bad(r->k, "invalid_value", "input", "Invalid 'input': invalid base64 data.");
	if (file_url != NULL)
		ask_media_at(r->a, "document", file_url);
	if (id != NULL)
		ask_media_at(r->a, image ? "image" : "document", id);
	return true;
}

static bool message_read(struct reading *r, yyjson_val *item)
{
	const char *role = str_of(item, "role");
	yyjson_val *content = yyjson_obj_get(item, "content");
	bool assistant;
	yyjson_val *part;
	size_t i, max;

	if (role == NULL || !word_among(role, "user assistant system developer"))
		return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input[0].role",
			      "Invalid value: '%s'. Supported values are: 'assistant', 'system', "
			      "'developer', and 'user'.",
			      role != NULL ? role : "");
	if (field_unknown(item, "type role content id status phase") != NULL)
		return refuse(r->k, 400, "invalid_request_error", "unknown_parameter", "input",
			      "Unknown parameter: 'input[0].%s'.",
			      field_unknown(item, "type role content id status phase"));
	if (!yyjson_is_str(content) && !yyjson_is_arr(content))
		return bad(r->k, "missing_required_parameter", "input[0].content",
			   "Missing required parameter: 'input[0].content'.");
	assistant = strcmp(role, "assistant") == 0;
	yyjson_arr_foreach(content, i, max, part)
	{
		if (!part_read(r, part, assistant))
			return false;
	}
	text_clear(&r->a->said);
	r->k->prompt_tokens += content_words(content, &r->a->said);
	if (!assistant || !r->assistant)
		r->k->prompt_tokens += 4;
	r->a->from_user = strcmp(role, "user") == 0;
	r->assistant = assistant;
	r->output = false;
	return true;
}

static bool function_call_read(struct reading *r, yyjson_val *item)
{
	const char *id = str_of(item, "call_id");

	if (id == NULL || str_of(item, "name") == NULL || str_of(item, "arguments") == NULL)
		return bad(
			r->k, "missing_required_parameter", "input",
			"Missing required parameter: 'input[0].call_id', 'name' or 'arguments'.");
	if (!r->assistant)
		r->k->prompt_tokens += 4;
	if (r->open_count < TOOLS_MAX)
		r->open[r->open_count++] = id;
	r->assistant = true;
	r->output = r->a->from_user = false;
	return true;
}

static bool call_is_known(struct reading *r, const char *id)
{
	char spaced[160];

	for (size_t i = 0; i < r->open_count; i++) {
		if (strcmp(r->open[i], id) == 0) {
			r->open[i] = r->open[--r->open_count];
			return true;
		}
	}
	snprintf(spaced, sizeof(spaced), " %s ", id);
	return r->before != NULL && r->before->calls.at != NULL &&
	       strstr(r->before->calls.at, spaced) != NULL;
}

static bool output_read(struct reading *r, yyjson_val *item)
{
	yyjson_val *output = yyjson_obj_get(item, "output");
	const char *id = str_of(item, "call_id");
	yyjson_val *part;
	size_t i, max;

	if (id == NULL || (!yyjson_is_str(output) && !yyjson_is_arr(output)))
		return bad(r->k, "missing_required_parameter", "input",
			   "Missing required parameter: 'input[0].output' or 'call_id'.");
	if (!call_is_known(r, id))
		return refuse(r->k, 400, "invalid_request_error", NULL, "input",
			      "No tool call found for function call output with call_id %s.", id);
	yyjson_arr_foreach(output, i, max, part)
	{
		if (!part_read(r, part, false))
			return false;
	}
	if (!r->output)
		text_clear(&r->a->said);
	if (r->a->said.len > 0)
		text_z(&r->a->said, " ");
	r->k->prompt_tokens += 4 + content_words(output, &r->a->said);
	r->output = true;
	r->assistant = r->a->from_user = false;
	return true;
}

static bool reasoning_read(struct reading *r, yyjson_val *item)
{
	const char *sealed = str_of(item, "encrypted_content");

	if (!yyjson_is_arr(yyjson_obj_get(item, "summary")))
		return bad(r->k, "missing_required_parameter", "input[0].summary",
			   "Missing required parameter: 'input[0].summary'.");
	if (sealed != NULL && !is_sealed(r->k, "reasoning", span_z(""), sealed))
		return bad(
			r->k, "invalid_encrypted_content", "input",
			"The encrypted content could not be verified. Reason: Encrypted content could "
			"not be decrypted or parsed.");
	if (!r->assistant)
		r->k->prompt_tokens += 4;
	r->assistant = true;
	return true;
}

static bool item_read(struct reading *r, yyjson_val *item)
{
	const char *type = str_of(item, "type");

	if (type == NULL || strcmp(type, "message") == 0)
		return message_read(r, item);
	if (word_among(type, "function_call"))
		return function_call_read(r, item);
	if (word_among(type, "function_call_output custom_tool_call_output"))
		return output_read(r, item);
	if (strcmp(type, "reasoning") == 0)
		return reasoning_read(r, item);
	if (strcmp(type, "custom_tool_call") == 0) {
		if (r->open_count < TOOLS_MAX && str_of(item, "call_id") != NULL)
			r->open[r->open_count++] = str_of(item, "call_id");
		return true;
	}
	if (strcmp(type, "item_reference") == 0)
		return (str_of(item, "id") != NULL &&
			item_is_stored(str_of(item, "id"), r->k->key)) ||
		       refuse(r->k, 404, "invalid_request_error", NULL, "input",
			      "Item with id '%s' not found.",
			      str_of(item, "id") != NULL ? str_of(item, "id") : "");
	if (word_among(type,
		       "web_search_call file_search_call code_interpreter_call computer_call "
		       "computer_call_output image_generation_call mcp_call mcp_list_tools "
		       "mcp_approval_request mcp_approval_response local_shell_call "
		       "local_shell_call_output shell_call shell_call_output apply_patch_call "
		       "apply_patch_call_output tool_search_call compaction"))
		return true;
	return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input",
		      "Invalid value: '%s'. Supported values are: 'message', 'function_call', "
		      "'function_call_output', 'reasoning' and others.",
		      type);
}

static bool input_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *input = yyjson_obj_get(root, "input");
	yyjson_val *item;
	size_t i, max;

	r->a->from_user = true;
	if (yyjson_is_str(input)) {
		r->k->turns = 1;
		r->k->prompt_tokens += 4 + content_words(input, &r->a->said);
		return true;
	}
	if (!yyjson_is_arr(input)) {
		if (input == NULL && (yyjson_obj_get(root, "prompt") != NULL || r->before != NULL))
			return true;
		return bad(r->k, "missing_required_parameter", "input",
			   "Missing required parameter: 'input'.");
	}
	yyjson_arr_foreach(input, i, max, item)
	{
		if (!item_read(r, item))
			return false;
		r->k->turns++;
	}
	return r->open_count == 0 ||
	       refuse(r->k, 400, "invalid_request_error", NULL, "input",
		      "No tool output found for function call %s.", r->open[0]);
}

/* --- tools and settings -------------------------------------------------------------------------------------------------- */

static bool tool_read(struct call *k, struct ask *a, size_t i, yyjson_val *tool)
{
	const char *type = str_of(tool, "type");
	const char *name = str_of(tool, "name");
	yyjson_val *parameters = yyjson_obj_get(tool, "parameters");

	if (type == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools", "Missing required parameter: 'tools[%zu].type'.", i);
	if (strcmp(type, "function") != 0)
		return true; /* hosted, or with a grammar: never called here */
	if (name == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools", "Missing required parameter: 'tools[%zu].name'.", i);
	if (field_unknown(tool, "type name description parameters strict defer_loading "
				"allowed_callers output_schema") != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", "tools",
			      "Unknown parameter: 'tools[%zu].%s'.", i,
			      field_unknown(tool, "type name description parameters strict "
						  "defer_loading allowed_callers output_schema"));
	if (yyjson_is_true(yyjson_obj_get(tool, "strict")) && !schema_is_closed(parameters, true))
		return refuse(
			k, 400, "invalid_request_error", "invalid_function_parameters", "tools",
			"Invalid schema for function '%s': 'additionalProperties' is required to be "
			"supplied and to be false, and every property to be required.",
			name);
	ask_tool(a, name, parameters);
	return true;
}

static bool tools_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	const char *mode = yyjson_get_str(choice);
	const char *type = str_of(choice, "type");
	yyjson_val *tool;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, max, tool)
	{
		if (!tool_read(k, a, i, tool))
			return false;
	}
	if (yyjson_obj_get(choice, "function") != NULL)
		return bad(k, "unknown_parameter", "tool_choice.function",
			   "Unknown parameter: 'tool_choice.function'.");
	if (mode != NULL && !word_among(mode, "none auto required"))
		return bad(k, "invalid_value", "tool_choice", "Invalid value for 'tool_choice'.");
	if (type != NULL && strcmp(type, "allowed_tools") == 0)
		mode = str_of(choice, "mode");
	if (type != NULL && strcmp(type, "function") == 0)
		a->forced = str_of(choice, "name");
	a->must = mode != NULL && strcmp(mode, "required") == 0;
	a->must_not = mode != NULL && strcmp(mode, "none") == 0;
	for (i = 0; a->forced != NULL && i < a->tool_count; i++)
		if (strcmp(a->tools[i].name, a->forced) == 0)
			return true;
	return a->forced == NULL || bad(k, NULL, "tool_choice",
					"Tool choice 'function' not found in 'tools' parameter.");
}

static bool format_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *text = yyjson_obj_get(root, "text");
	yyjson_val *format = yyjson_obj_get(text, "format");
	const char *type = str_of(format, "type");

	if (field_unknown(text, "format verbosity") != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", "text",
			      "Unknown parameter: 'text.%s'.",
			      field_unknown(text, "format verbosity"));
	if (format == NULL)
		return true;
	if (type == NULL || !word_among(type, "text json_object json_schema"))
		return bad(k, "invalid_value", "text.format.type",
			   "Invalid value for 'text.format.type'.");
	a->json = type[0] == 'j';
	if (strcmp(type, "json_schema") != 0)
		return true;
	a->schema = yyjson_obj_get(format, "schema");
	if (str_of(format, "name") == NULL)
		return bad(k, "missing_required_parameter", "text.format.name",
			   "Missing required parameter: 'text.format.name'.");
	if (a->schema == NULL)
		return bad(k, "missing_required_parameter", "text.format.schema",
			   "Missing required parameter: 'text.format.schema'.");
	return !yyjson_is_true(yyjson_obj_get(format, "strict")) ||
	       schema_is_closed(a->schema, true) ||
	       bad(k, "invalid_json_schema", "text.format.schema",
		   "Invalid schema for response_format: 'additionalProperties' is required to be supplied "
		   "and to be false, and every property to be required.");
}

static bool thinks_always(const char *model)
{
	return (model[0] == 'o' && model[1] >= '1' && model[1] <= '9') ||
	       starts_with(model, "gpt-5");
}

static bool fields_are_good(struct call *k, yyjson_val *root)
{
	yyjson_val *max = yyjson_obj_get(root, "max_output_tokens");
	const char *unknown = field_unknown(root, fields);

	if (unknown != NULL && strcmp(unknown, "response_format") == 0)
		return bad(
			k, "unsupported_parameter", unknown,
			"Unsupported parameter: 'response_format'. In the Responses API, this parameter "
			"has moved to 'text.format'.");
	if (unknown != NULL && strcmp(k->vendor, "openai") == 0)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", unknown,
			      "Unknown parameter: '%s'.", unknown);
	if (max != NULL && !yyjson_is_null(max) &&
	    (!yyjson_is_int(max) ||
	     yyjson_get_sint(max) < (thinks_always(k->model) ? OUTPUT_TOKENS_LEAST : 1)))
		return bad(k, "integer_below_min_value", "max_output_tokens",
			   "Invalid 'max_output_tokens': integer below minimum value.");
	if (thinks_always(k->model) && yyjson_is_num(yyjson_obj_get(root, "temperature")) &&
	    yyjson_get_num(yyjson_obj_get(root, "temperature")) != 1)
		return bad(
			k, "unsupported_parameter", "temperature",
			"Unsupported parameter: 'temperature' is not supported with this model.");
	if (yyjson_is_true(yyjson_obj_get(root, "background")) &&
	    yyjson_is_false(yyjson_obj_get(root, "store")))
		return bad(k, NULL, "background", "Background responses need 'store' to be true.");
	return true;
}

static void reasoning_wanted(struct call *k, yyjson_val *root)
{
	yyjson_val *one;
	size_t i, max;

	k->thinks = str_of(yyjson_obj_get(root, "reasoning"), "summary") != NULL;
	yyjson_arr_foreach(yyjson_obj_get(root, "include"), i, max, one)
	{
		if (yyjson_equals_str(one, "reasoning.encrypted_content"))
			k->hidden = true;
	}
}

/* --- state ------------------------------------------------------------------------------------------------------------------ */

static bool before_find(struct reading *r, yyjson_val *root)
{
	struct call *k = r->k;
	const char *id = str_of(root, "previous_response_id");
	yyjson_val *conversation = yyjson_obj_get(root, "conversation");
	const char *talk = yyjson_is_str(conversation) ? yyjson_get_str(conversation)
						       : str_of(conversation, "id");

	if (id != NULL && talk != NULL)
		return bad(
			k, "mutually_exclusive_parameters", "previous_response_id",
			"Mutually exclusive parameters: 'previous_response_id' and 'conversation'.");
	if (id != NULL) {
		r->before = stored_find(id, k->key);
		if (r->before == NULL || r->before->body.len == 0)
			return refuse(k, 400, "invalid_request_error",
				      "previous_response_not_found", "previous_response_id",
				      "Previous response with id '%s' not found.", id);
	}
	if (talk == NULL)
		return true;
	/* a conversation is of the key that spoke in it first */
	if (stored_find(talk, NULL) == NULL)
		(void)stored_add(talk, k->key);
	return stored_find(talk, k->key) != NULL ||
	       refuse(k, 404, "invalid_request_error", NULL, "conversation",
		      "Conversation with id '%s' not found.", talk);
}

static void remember(struct call *k, const struct reading *r)
{
	struct stored *s = stored_add(k->id, k->key);

	responses_body(&s->body, k, responses_status(k));
	stored_bytes += s->body.len;
	text_z(&s->calls,
	       r->before != NULL && r->before->calls.at != NULL ? r->before->calls.at : " ");
	for (int64_t i = 0; i < k->tool_count; i++)
		text_f(&s->calls, "call_%lld_%lld ", (long long)k->turns, (long long)i + 1);
}

/* What of the request is said again in the response. */
static void echo_keep(struct call *k, yyjson_val *root)
{
	static const struct {
		const char *field, *otherwise;
	} echoed[] = {{"instructions", "null"},
		      {"max_output_tokens", "null"},
		      {"parallel_tool_calls", "true"},
		      {"previous_response_id", "null"},
		      {"reasoning", "{\"effort\":null,\"summary\":null}"},
		      {"store", "true"},
		      {"temperature", "1.0"},
		      {"text", "{\"format\":{\"type\":\"text\"}}"},
		      {"tool_choice", "\"auto\""},
		      {"tools", "[]"},
		      {"top_p", "1.0"},
		      {"truncation", "\"disabled\""},
		      {"metadata", "{}"}};

	for (size_t i = 0; i < sizeof(echoed) / sizeof(*echoed); i++) {
		char *json = yyjson_val_write(yyjson_obj_get(root, echoed[i].field), 0, NULL);

		text_f(&k->kept, ",\"%s\":%s", echoed[i].field,
		       json != NULL ? json : echoed[i].otherwise);
		free(json);
	}
}

/* GET, DELETE and cancel of /responses/ID. */
static void stored_serve(struct conn *c)
{
	struct call *k = &c->call;
	struct span path = c->head.start[1];
	const char *at = memmem(path.at, path.len, "/responses/", 11);
	struct stored *s;
	char id[96];

	span_copy((struct span){at + 11, path.len - (size_t)(at + 11 - path.at)}, id, sizeof(id));
	id[strcspn(id, "/?")] = 0;
	s = stored_find(id, k->key);
	if (s == NULL || s->body.len == 0) {
		refuse(k, 404, "invalid_request_error", NULL, NULL,
		       "Response with id '%s' not found.", id);
	} else if (k->verb == RESPONSES_DELETE) {
		stored_drop(s);
		text_f(&k->kept, "{\"id\":\"%s\",\"object\":\"response.deleted\",\"deleted\":true}",
		       id);
	} else {
		text_add(&k->kept, s->body.at, s->body.len);
	}
}

void responses_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *model = str_of(root, "model");
	yyjson_val *max = yyjson_obj_get(root, "max_output_tokens");
	struct ask a = {.allowed = yyjson_is_int(max) ? yyjson_get_sint(max) : INT64_MAX};
	struct reading r = {.k = k, .a = &a};

	snprintf(k->id, sizeof(k->id), "resp_fake%llu", (unsigned long long)k->number);
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	k->one_by_one = true;
	if (k->verb != RESPONSES_CREATE && k->verb != RESPONSES_COUNT) {
		stored_serve(c);
		return;
	}
	if (str_of(root, "instructions") != NULL)
		k->prompt_tokens += 4 + content_words(yyjson_obj_get(root, "instructions"), NULL);
	if (!fields_are_good(k, root) || !before_find(&r, root) || !tools_read(k, &a, root) ||
	    !format_read(k, &a, root) || !input_read(&r, root)) {
		ask_clear(&a);
		return;
	}
	reasoning_wanted(k, root);
	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream")) && k->verb == RESPONSES_CREATE;
	call_decide(k, &a);
	if (k->verb == RESPONSES_COUNT) {
		text_f(&k->kept, "{\"object\":\"response.input_tokens\",\"input_tokens\":%lld}",
		       (long long)k->prompt_tokens);
		return;
	}
	echo_keep(k, root);
	if (k->plan.blocked && k->plan.status == 200)
		bad(k, "invalid_prompt", NULL,
		    "Invalid prompt: it was refused by the content policy.");
	else if (k->plan.status == 200 && !yyjson_is_false(yyjson_obj_get(root, "store")))
		remember(k, &r);
	k->later = yyjson_is_true(yyjson_obj_get(root, "background")) && !k->stream;
}
