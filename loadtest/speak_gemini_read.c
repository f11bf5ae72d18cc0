/* loadtest/speak_gemini_read.c - what Gemini's generateContent and its sisters take, and what they refuse.
 *
 * Requests may be written in camelCase or in snake_case. Written from the provider's reference, not from
 * the service's encoder. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define DIMENSIONS	8 /* of a vector nobody told the size of */
#define CONTENT_TOKENS	4 /* for each turn, as for a message of chat completions */
#define STOPS_ALLOWED	5
#define SKIP_SIGNATURES "skip_thought_signature_validator"

static const struct {
	const char *name;
	int verb;
} verbs[] = {{":generateContent", GEMINI_GENERATE},
	     {":streamGenerateContent", GEMINI_STREAM},
	     {":countTokens", GEMINI_COUNT},
	     {":embedContent", GEMINI_EMBED},
	     {":batchEmbedContents", GEMINI_EMBED_MANY}};

/* --- names in both spellings ------------------------------------------------------------------------------- */

static void camel(const char *name, char *to, size_t size)
{
	size_t n = 0;

	for (; *name != 0 && n + 1 < size; name++) {
		if (*name == '_' && name[1] >= 'a' && name[1] <= 'z')
			to[n++] = (char)(*++name - 32);
		else
			to[n++] = *name;
	}
	to[n] = 0;
}

static yyjson_val *get(yyjson_val *object, const char *field)
{
	yyjson_val *name, *value;
	char spelt[64];
	size_t i, max;

	yyjson_obj_foreach(object, i, max, name, value)
	{
		camel(yyjson_get_str(name), spelt, sizeof(spelt));
		if (strcmp(spelt, field) == 0)
			return value;
	}
	return NULL;
}

static const char *get_str(yyjson_val *object, const char *field)
{
	return yyjson_get_str(get(object, field));
}

static bool fields_are_known(struct call *k, yyjson_val *object, const char *where,
			     const char *names)
{
	yyjson_val *name, *value;
	char spelt[64];
	size_t i, max;

	yyjson_obj_foreach(object, i, max, name, value)
	{
		camel(yyjson_get_str(name), spelt, sizeof(spelt));
		if (!word_among(spelt, names))
			return refuse(
				k, 400, "INVALID_ARGUMENT", NULL, where,
				"Invalid JSON payload received. Unknown name \"%s\"%s%s%s: Cannot "
				"find field.",
				yyjson_get_str(name), where[0] != 0 ? " at '" : "", where,
				where[0] != 0 ? "'" : "");
	}
	return true;
}

static bool bad(struct call *k, const char *words)
{
	return refuse(k, 400, "INVALID_ARGUMENT", NULL, NULL, "%s", words);
}

/* --- contents -------------------------------------------------------------------------------------------------- */

struct reading {
	struct call *k;
	struct ask *a;
	bool signs;		      /* the model wants its signatures back */
	const char *calls[TOOLS_MAX]; /* names of the last model turn's calls */
	const char *call_ids[TOOLS_MAX];
	size_t call_count, answered;
	bool first_call;   /* of this turn */
	bool results_said; /* the last words of this turn are results */
};

static bool blob_read(struct reading *r, yyjson_val *blob)
{
	const char *type = get_str(blob, "mimeType");
	const char *data = get_str(blob, "data");
	int64_t bytes = data != NULL ? base64_bytes(span_z(data)) : -1;

	if (!fields_are_known(r->k, blob, "contents.parts.inline_data", "mimeType data"))
		return false;
	if (type == NULL || type[0] == 0)
		return bad(r->k, "Unable to process input: mimeType is required for inlineData");
	if (bytes < 0)
		return bad(r->k,
			   "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), "
			   "Base64 decoding failed");
	ask_media(r->a,
		  starts_with(type, "image/")	? "image"
		  : starts_with(type, "audio/") ? "audio"
						: "document",
		  type, bytes);
	return true;
}

static bool file_read(struct reading *r, yyjson_val *file)
{
	const char *type = get_str(file, "mimeType");
	const char *uri = get_str(file, "fileUri");

	if (!fields_are_known(r->k, file, "contents.parts.file_data", "mimeType fileUri"))
		return false;
	if (uri == NULL)
		return bad(r->k, "fileData: fileUri is required");
	ask_media_at(r->a,
		     type == NULL || starts_with(type, "image/") ? "image"
		     : starts_with(type, "audio/")		 ? "audio"
								 : "document",
		     uri);
	return true;
}

static bool signature_is_good(struct reading *r, yyjson_val *part, const char *name)
{
	const char *signature = get_str(part, "thoughtSignature");

	if (signature == NULL)
		return !r->first_call || !r->signs ||
		       refuse(r->k, 400, "INVALID_ARGUMENT", NULL, NULL,
			      "Function call is missing a thought_signature in functionCall parts. This "
			      "is required for tools to work correctly, and missing thought_signature may "
			      "lead to degraded model performance. Function call: `%s`",
			      name);
	return strcmp(signature, SKIP_SIGNATURES) == 0 ||
	       is_sealed(r->k, "thought", span_z(name), signature) ||
	       bad(r->k, "Corrupted thought signature.");
}

static bool call_read(struct reading *r, yyjson_val *part, yyjson_val *call, bool model)
{
	const char *name = get_str(call, "name");
	yyjson_val *args = get(call, "args");

	if (!model)
		return bad(r->k,
			   "Please ensure that function call turns come from the role 'model'.");
	if (!fields_are_known(r->k, call, "contents.parts.function_call", "name args id"))
		return false;
	if (name == NULL || name[0] == 0)
		return bad(
			r->k,
			"GenerateContentRequest.contents.parts.function_call.name: Name cannot be "
			"empty.");
	if (args != NULL && !yyjson_is_obj(args))
		return bad(r->k, "Invalid value at 'contents.parts.function_call.args' "
				 "(type.googleapis.com/google.protobuf.Struct)");
	if (!signature_is_good(r, part, name))
		return false;
	r->first_call = false;
	if (r->call_count < TOOLS_MAX) {
		r->call_ids[r->call_count] = get_str(call, "id");
		r->calls[r->call_count++] = name;
	}
	return true;
}

/* The words of a result are those of its only text, as other dialects would have sent it. */
static void response_words(struct reading *r, yyjson_val *response)
{
	yyjson_val *first = NULL;
	yyjson_val *name, *value;
	size_t i, max;
	char *json;

	yyjson_obj_foreach(response, i, max, name, value)
	{
		first = value;
	}
	if (yyjson_obj_size(response) == 1 && yyjson_is_str(first)) {
		r->k->prompt_tokens += words_of(span_z(yyjson_get_str(first)), NULL, 0);
		said_add(&r->a->said, yyjson_get_str(first));
		return;
	}
	json = yyjson_val_write(response, 0, NULL);
	if (json != NULL) {
		r->k->prompt_tokens += words_of(span_z(json), NULL, 0);
		said_add(&r->a->said, json);
	}
	free(json);
}

static bool response_read(struct reading *r, yyjson_val *response)
{
	const char *name = get_str(response, "name");
	const char *id = get_str(response, "id");
	size_t i = r->answered;

	if (!fields_are_known(r->k, response, "contents.parts.function_response",
			      "name response id parts willContinue scheduling"))
		return false;
	if (name == NULL || name[0] == 0)
		return bad(
			r->k,
			"GenerateContentRequest.contents.parts.function_response.name: Name cannot "
			"be empty.");
	if (!yyjson_is_obj(get(response, "response")))
		return bad(r->k, "Invalid value at 'contents.parts.function_response.response' "
				 "(type.googleapis.com/google.protobuf.Struct)");
	if (r->answered >= r->call_count)
		return bad(
			r->k,
			"Please ensure that the number of function response parts is equal to the "
			"number of function call parts of the function call turn.");
	for (size_t n = 0; id != NULL && n < r->call_count; n++)
		if (r->call_ids[n] != NULL && strcmp(r->call_ids[n], id) == 0)
			i = n;
	if (strcmp(r->calls[i], name) != 0)
		return bad(
			r->k,
			"Please ensure that the function response name matches the function call "
			"name of the function call turn.");
	r->answered++;
	r->results_said = true;
	r->k->prompt_tokens += CONTENT_TOKENS;
	response_words(r, get(response, "response"));
	return true;
}

static bool part_read(struct reading *r, yyjson_val *part, bool model, bool *words)
{
	static const char *const data[] = {"text",
					   "inlineData",
					   "fileData",
					   "functionCall",
					   "functionResponse",
					   "executableCode",
					   "codeExecutionResult"};
	int count = 0;
	yyjson_val *text = get(part, "text");

	if (!fields_are_known(
		    r->k, part, "contents.parts",
		    "text inlineData fileData functionCall functionResponse executableCode "
		    "codeExecutionResult thought thoughtSignature videoMetadata "
		    "mediaResolution partMetadata"))
		return false;
	for (size_t i = 0; i < sizeof(data) / sizeof(*data); i++)
		count += get(part, data[i]) != NULL;
	if (count == 0)
		return bad(
			r->k,
			"GenerateContentRequest.contents.parts.data: required oneof field 'data' "
			"must have one initialized field");
	if (count > 1)
		return bad(
			r->k,
			"Invalid value at 'contents.parts' (oneof), oneof field 'data' is already "
			"set.");
	if (get(part, "functionCall") != NULL)
		return call_read(r, part, get(part, "functionCall"), model);
	if (get(part, "functionResponse") != NULL)
		return response_read(r, get(part, "functionResponse"));
	*words = true;
	if (get(part, "inlineData") != NULL)
		return blob_read(r, get(part, "inlineData"));
	if (get(part, "fileData") != NULL)
		return file_read(r, get(part, "fileData"));
	if (text != NULL && !yyjson_is_str(text))
		return bad(r->k, "Invalid value at 'contents.parts.text' (TYPE_STRING)");
	if (text == NULL || yyjson_is_true(get(part, "thought")))
		return true;
	r->k->prompt_tokens += words_of(span_z(yyjson_get_str(text)), NULL, 0);
	if (!model && r->results_said)
		text_clear(&r->a->said); /* what comes after the results is said back */
	r->results_said = false;
	if (!model)
		said_add(&r->a->said, yyjson_get_str(text));
	return true;
}

static bool calls_unanswered(struct reading *r)
{
	return r->answered == r->call_count ||
	       bad(r->k,
		   "Please ensure that function call turn comes immediately after a user turn or "
		   "after a function response turn, and that the number of function response parts is "
		   "equal to the number of function call parts of the function call turn.");
}

static bool content_read(struct reading *r, yyjson_val *content, bool first)
{
	const char *role = get_str(content, "role");
	bool model = role != NULL && strcmp(role, "model") == 0;
	yyjson_val *parts = get(content, "parts");
	bool words = false;
	yyjson_val *part;
	size_t i, max;

	if (!fields_are_known(r->k, content, "contents", "role parts"))
		return false;
	if (role != NULL && !word_among(role, "user model function"))
		return bad(r->k, "Please use a valid role: user, model.");
	if (first && model)
		return bad(r->k, "Please ensure that multiturn requests start with a user turn.");
	if (yyjson_arr_size(parts) == 0)
		return bad(
			r->k,
			"GenerateContentRequest.contents.parts: contents.parts must not be empty.");
	if (model && !calls_unanswered(r))
		return false;
	if (model)
		r->call_count = r->answered = 0;
	r->first_call = true;
	r->results_said = false;
	text_clear(&r->a->said);
	yyjson_arr_foreach(parts, i, max, part)
	{
		if (!part_read(r, part, model, &words))
			return false;
	}
	if (!model && !calls_unanswered(r))
		return false;
	r->a->from_user = !model && !r->results_said;
	if (words || model)
		r->k->prompt_tokens += CONTENT_TOKENS;
	if (!model)
		r->call_count = r->answered = 0;
	return true;
}

static bool contents_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *contents = get(root, "contents");
	yyjson_val *content;
	size_t i, max;

	if (yyjson_arr_size(contents) == 0)
		return bad(r->k, "GenerateContentRequest.contents: contents is not specified");
	yyjson_arr_foreach(contents, i, max, content)
	{
		if (!content_read(r, content, i == 0))
			return false;
		r->k->turns++;
	}
	return r->call_count == 0 ||
	       bad(r->k,
		   "Please ensure that function call turn is followed by a function response turn.");
}

static bool system_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *system = get(root, "systemInstruction");
	yyjson_val *parts = get(system, "parts");
	yyjson_val *part;
	size_t i, max;

	if (system == NULL)
		return true;
	if (!fields_are_known(r->k, system, "system_instruction", "role parts"))
		return false;
	if (yyjson_is_obj(parts))
		r->k->prompt_tokens += content_words(get(parts, "text"), NULL);
	yyjson_arr_foreach(parts, i, max, part)
	{
		if (!fields_are_known(r->k, part, "system_instruction.parts",
				      "text thought thoughtSignature partMetadata"))
			return false;
		if (!yyjson_is_str(get(part, "text")))
			return bad(
				r->k,
				"system_instruction.parts.data: required oneof field 'data' must "
				"have one initialized field");
		r->k->prompt_tokens += content_words(get(part, "text"), NULL);
	}
	r->k->prompt_tokens += CONTENT_TOKENS;
	return true;
}

/* --- tools and settings ------------------------------------------------------------------------------------------- */

/* The subset of OpenAPI that `Schema` is. */
static bool schema_is_plain(struct call *k, yyjson_val *schema, const char *where)
{
	yyjson_val *name, *property;
	size_t i, max;

	if (schema == NULL)
		return true;
	if (!yyjson_is_obj(schema))
		return refuse(k, 400, "INVALID_ARGUMENT", NULL, NULL, "Invalid value at '%s'",
			      where);
	if (!fields_are_known(
		    k, schema, where,
		    "type format title description nullable enum items minItems maxItems "
		    "minLength maxLength minProperties maxProperties minimum maximum properties "
		    "propertyOrdering required anyOf pattern example default"))
		return false;
	if (yyjson_is_arr(get(schema, "type")))
		return refuse(
			k, 400, "INVALID_ARGUMENT", NULL, NULL,
			"Invalid value at '%s.type': Proto field is not repeating, cannot start list.",
			where);
	yyjson_obj_foreach(get(schema, "properties"), i, max, name, property)
	{
		if (!schema_is_plain(k, property, where))
			return false;
	}
	return schema_is_plain(k, get(schema, "items"), where);
}

static bool is_function_name(const char *name)
{
	return name != NULL && strlen(name) <= 128 &&
	       ((name[0] >= 'a' && name[0] <= 'z') || (name[0] >= 'A' && name[0] <= 'Z') ||
		name[0] == '_') &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") ==
		       strlen(name);
}

static bool function_read(struct call *k, struct ask *a, yyjson_val *function)
{
	yyjson_val *parameters = get(function, "parameters");
	yyjson_val *schema = get(function, "parametersJsonSchema");

	if (!fields_are_known(k, function, "tools.function_declarations",
			      "name description parameters parametersJsonSchema response "
			      "responseJsonSchema behavior"))
		return false;
	if (!is_function_name(get_str(function, "name")))
		return bad(
			k,
			"GenerateContentRequest.tools.function_declarations.name: Invalid function "
			"name. Must start with a letter or an underscore.");
	if (parameters != NULL && schema != NULL)
		return bad(k, "parameters and parametersJsonSchema cannot be set together.");
	if (!schema_is_plain(k, parameters, "tools.function_declarations.parameters"))
		return false;
	ask_tool(a, get_str(function, "name"), parameters != NULL ? parameters : schema);
	return true;
}

static bool choice_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *config = get(root, "toolConfig");
	yyjson_val *calling = get(config, "functionCallingConfig");
	yyjson_val *allowed = get(calling, "allowedFunctionNames");
	const char *mode = get_str(calling, "mode");

	if (!fields_are_known(
		    k, config, "tool_config",
		    "functionCallingConfig retrievalConfig includeServerSideToolInvocations") ||
	    !fields_are_known(k, calling, "tool_config.function_calling_config",
			      "mode allowedFunctionNames streamFunctionCallArguments"))
		return false;
	if (mode != NULL && !word_among(mode, "AUTO ANY NONE VALIDATED MODE_UNSPECIFIED"))
		return bad(k, "Invalid value at 'tool_config.function_calling_config.mode'");
	if (allowed != NULL && (mode == NULL || !word_among(mode, "ANY VALIDATED")))
		return bad(
			k,
			"Allowed function names should only be set when the function calling mode is "
			"ANY or VALIDATED.");
	a->must = mode != NULL && strcmp(mode, "ANY") == 0;
	a->must_not = mode != NULL && strcmp(mode, "NONE") == 0;
	if (a->must)
		a->forced = yyjson_get_str(yyjson_arr_get_first(allowed));
	if (a->must && a->tool_count == 0)
		return bad(k, "Function calling mode ANY needs function declarations.");
	return true;
}

static bool tools_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *tool, *function;
	size_t i, n, max, functions;

	yyjson_arr_foreach(get(root, "tools"), i, max, tool)
	{
		if (!fields_are_known(k, tool, "tools",
				      "functionDeclarations googleSearch googleSearchRetrieval "
				      "codeExecution urlContext googleMaps fileSearch computerUse"))
			return false;
		yyjson_arr_foreach(get(tool, "functionDeclarations"), n, functions, function)
		{
			if (!function_read(k, a, function))
				return false;
		}
	}
	return choice_read(k, a, root);
}

static bool thinking_is_good(struct call *k, yyjson_val *config)
{
	yyjson_val *thinking = get(config, "thinkingConfig");
	yyjson_val *shown = get(thinking, "includeThoughts");
	const char *level = get_str(thinking, "thinkingLevel");

	if (!fields_are_known(k, thinking, "generation_config.thinking_config",
			      "includeThoughts thinkingBudget thinkingLevel"))
		return false;
	if (level != NULL && get(thinking, "thinkingBudget") != NULL)
		return bad(k, "You can only set only one of thinking budget and thinking level.");
	if (level != NULL && !word_among(level, "MINIMAL LOW MEDIUM HIGH minimal low medium high "
						"THINKING_LEVEL_UNSPECIFIED"))
		return bad(k,
			   "Invalid value at 'generation_config.thinking_config.thinking_level'");
	if (level != NULL && starts_with(k->model, "gemini-2"))
		return bad(k, "Thinking level is not supported for this model.");
	k->thinks = !yyjson_is_false(shown);
	return true;
}

static bool format_read(struct call *k, struct ask *a, yyjson_val *config)
{
	const char *type = get_str(config, "responseMimeType");
	yyjson_val *schema = get(config, "responseSchema");
	yyjson_val *json_schema = get(config, "responseJsonSchema");

	if (type != NULL && !word_among(type, "text/plain application/json text/x.enum"))
		return bad(k,
			   "GenerateContentRequest.generation_config.response_mime_type: allowed "
			   "mimetypes are `text/plain`, `application/json`, `text/x.enum`.");
	a->json = type != NULL && strcmp(type, "application/json") == 0;
	if (schema != NULL && json_schema != NULL)
		return bad(k, "response_schema and response_json_schema cannot be set together.");
	if ((schema != NULL || json_schema != NULL) &&
	    (type == NULL || strcmp(type, "text/plain") == 0))
		return bad(k, "response_schema is only supported with response_mime_type "
			      "application/json.");
	if (!schema_is_plain(k, schema, "generation_config.response_schema"))
		return false;
	a->schema = schema != NULL ? schema : json_schema;
	if (a->json && a->tool_count > 0 && starts_with(k->model, "gemini-2"))
		return bad(k, "Function calling with a response mime type: 'application/json' is "
			      "unsupported");
	return true;
}

static bool config_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *config = get(root, "generationConfig");
	yyjson_val *temperature = get(config, "temperature");
	yyjson_val *count = get(config, "candidateCount");
	yyjson_val *max = get(config, "maxOutputTokens");

	k->thinks = true;
	if (!fields_are_known(
		    k, config, "generation_config",
		    "temperature topP topK candidateCount maxOutputTokens stopSequences seed "
		    "presencePenalty frequencyPenalty responseLogprobs logprobs responseMimeType "
		    "responseSchema responseJsonSchema responseFormat responseModalities "
		    "mediaResolution speechConfig imageConfig thinkingConfig "
		    "enableEnhancedCivicAnswers"))
		return false;
	if (yyjson_is_num(temperature) &&
	    (yyjson_get_num(temperature) < 0 || yyjson_get_num(temperature) > 2))
		return bad(k, "temperature must be in the range [0.0, 2.0].");
	if (count != NULL && (yyjson_get_sint(count) < 1 || yyjson_get_sint(count) > 8))
		return bad(k, "candidateCount must be in the range [1, 8].");
	if (yyjson_arr_size(get(config, "stopSequences")) > STOPS_ALLOWED)
		return bad(k, "stopSequences: at most 5 are allowed.");
	if (max != NULL && (!yyjson_is_int(max) || yyjson_get_sint(max) < 1))
		return bad(k, "max_output_tokens must be positive.");
	k->choices = count != NULL ? yyjson_get_sint(count) : 1;
	a->allowed = max != NULL ? yyjson_get_sint(max) : INT64_MAX;
	ask_stops(a, get(config, "stopSequences"));
	return thinking_is_good(k, config) && format_read(k, a, config);
}

/* --- vectors --------------------------------------------------------------------------------------------------------- */

static bool vector_add(struct call *k, struct text *t, yyjson_val *request, const char *names)
{
	yyjson_val *content = get(request, "content");
	yyjson_val *size = get(request, "outputDimensionality");
	struct text said = {0};
	int64_t n = yyjson_is_int(size) ? yyjson_get_sint(size) : DIMENSIONS;

	if (!fields_are_known(k, request, "", names) ||
	    !fields_are_known(k, content, "content", "role parts"))
		return false;
	if (yyjson_arr_size(get(content, "parts")) == 0)
		return bad(k, "EmbedContentRequest.content: contains no parts.");
	if (n < 1 || n > 4096)
		return bad(k, "outputDimensionality is out of range.");
	k->prompt_tokens += content_words(get(content, "parts"), &said);
	text_z(t, "{\"values\":[");
	for (int64_t i = 0; i < n; i++)
		text_f(t, "%s%.10g", i > 0 ? "," : "",
		       (double)((int64_t)(hash_of((uint64_t)i, (struct span){said.at, said.len}) %
					  2049) -
				1024) /
			       1024);
	text_z(t, "]}");
	call_plan(k, said.at != NULL ? said.at : "");
	text_clear(&said);
	return true;
}

static bool embed_read(struct call *k, yyjson_val *root)
{
	yyjson_val *request;
	size_t i, max;

	if (k->verb == GEMINI_EMBED) {
		text_z(&k->kept, "{\"embedding\":");
		if (!vector_add(k, &k->kept, root,
				"model content taskType title outputDimensionality"))
			return false;
		text_z(&k->kept, "}");
		return true;
	}
	if (!fields_are_known(k, root, "", "requests"))
		return false;
	if (yyjson_arr_size(get(root, "requests")) == 0)
		return bad(k, "BatchEmbedContentsRequest.requests: requests must not be empty.");
	text_z(&k->kept, "{\"embeddings\":[");
	yyjson_arr_foreach(get(root, "requests"), i, max, request)
	{
		if (get_str(request, "model") == NULL)
			return bad(k,
				   "BatchEmbedContentsRequest.requests.model: model is required.");
		text_z(&k->kept, i > 0 ? "," : "");
		if (!vector_add(k, &k->kept, request,
				"model content taskType title outputDimensionality"))
			return false;
	}
	text_z(&k->kept, "]}");
	return true;
}

/* --- the request -------------------------------------------------------------------------------------------------------- */

static bool generate_read(struct reading *r, yyjson_val *root)
{
	const char *fields =
		"contents systemInstruction tools toolConfig safetySettings generationConfig "
		"cachedContent serviceTier model";

	if (!fields_are_known(r->k, root, "", fields))
		return false;
	r->signs = starts_with(r->k->model, "gemini-3");
	return tools_read(r->k, r->a, root) && config_read(r->k, r->a, root) &&
	       system_read(r, root) && contents_read(r, root);
}

static bool count_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *whole = get(root, "generateContentRequest");

	if (!fields_are_known(r->k, root, "", "contents generateContentRequest model"))
		return false;
	return generate_read(r, whole != NULL ? whole : root);
}

/* Model and verb from /models/MODEL:VERB. */
static bool path_read(struct conn *c)
{
	struct call *k = &c->call;
	struct span path = c->head.start[1];
	const char *at = memmem(path.at, path.len, "/models/", 8);
	const char *query = memchr(path.at, '?', path.len);
	struct span rest = {at + 8, path.len - (size_t)(at + 8 - path.at)};
	const char *colon;

	if (query != NULL) {
		rest.len = (size_t)(query - rest.at);
		k->events =
			memmem(query, path.len - (size_t)(query - path.at), "alt=sse", 7) != NULL;
	}
	colon = memrchr(rest.at, ':', rest.len);
	if (colon != NULL) {
		struct span verb = {colon, rest.len - (size_t)(colon - rest.at)};

		span_copy((struct span){rest.at, (size_t)(colon - rest.at)}, k->model,
			  sizeof(k->model));
		for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
			if (span_is(verb, verbs[i].name)) {
				k->verb = verbs[i].verb;
				return true;
			}
		}
	}
	return refuse(k, 404, "NOT_FOUND", NULL, NULL, "There is no such method.");
}

void gemini_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	struct ask a = {.allowed = INT64_MAX};
	struct reading r = {.k = k, .a = &a};
	bool good = path_read(c);

	snprintf(k->id, sizeof(k->id), "fake%llu", (unsigned long long)k->number);
	if (good && (k->verb == GEMINI_EMBED || k->verb == GEMINI_EMBED_MANY)) {
		(void)embed_read(k, root);
		return;
	}
	k->one_by_one = k->whole_calls = true;
	if (good && k->verb == GEMINI_COUNT)
		good = count_read(&r, root);
	else if (good)
		good = generate_read(&r, root);
	if (!good) {
		ask_clear(&a);
		return;
	}
	k->stream = k->verb == GEMINI_STREAM;
	if (k->stream && !k->events)
		k->type = "application/json; charset=UTF-8";
	call_decide(k, &a);
}
