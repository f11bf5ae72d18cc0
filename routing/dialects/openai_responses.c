/* routing/dialects/openai_responses.c - OpenAI Responses: the call as it comes in, and as it passes through.
 *
 * Read strictly is what decides routing, money and size: money is held on what is read here, so no key may stand twice.
 * A call that builds on what a provider keeps (an earlier response, a conversation, a file) says so in call.states, and its
 * input's size is not known. What a provider would go on with behind the call (background) is refused: its usage could not
 * be booked with it. This file never looks at an answer. */
#include <stdio.h>

#include "routing/dialects/openai_priv.h"
#include "routing/dialects/openai_responses_priv.h"
#include "routing/provider.h"

#define MODEL_BYTES_MAX	 256
#define MAX_OUTPUT_LIMIT INT64_C(1000000000)
#define IMAGE_TOKENS_MAX 50000 /* as for chat completions: the dearest picture known, rounded up */
#define EDITS_MAX	 3
#define EDIT_SLACK_BYTES (64u << 10)

/* --- a caller's request ------------------------------------------------------------------------- */

static enum rc bad(struct err *err, const char *field, const char *what)
{
	(void)err_set(err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(err, "%s", field);
	return RC_INVALID;
}

static enum rc bad_item(struct err *err, size_t item, const char *what)
{
	char field[48];

	(void)snprintf(field, sizeof field, "input[%zu]", item);
	return bad(err, field, what);
}

static enum rc read_model(const struct json *root, struct call *c, struct err *err)
{
	const struct json *v = json_get(root, "model");

	if (json_is_null(v))
		return bad(err, "model", "is required");
	if (!json_string(v, &c->model))
		return bad(err, "model", "must be a string");
	if (c->model.len == 0 || c->model.len > MODEL_BYTES_MAX)
		return bad(err, "model", "must have 1 to 256 characters");
	for (size_t i = 0; i < c->model.len; i++)
		if (c->model.ptr[i] <= ' ' || c->model.ptr[i] > '~')
			return bad(err, "model", "must be printable ASCII without spaces");
	return RC_OK;
}

/* Absent or null leaves *ret as it is. */
static enum rc read_bool(const struct json *root, const char *field, bool *ret, struct err *err)
{
	const struct json *v = json_get(root, field);

	if (json_is_null(v) || json_bool(v, ret))
		return RC_OK;
	return bad(err, field, "must be true or false");
}

static enum rc read_max_output(const struct json *root, struct call *c, struct err *err)
{
	const struct json *v = json_get(root, "max_output_tokens");
	int64_t n;

	if (json_is_null(v))
		return RC_OK;
	if (json_int(v, &n) && n >= 1 && n <= MAX_OUTPUT_LIMIT) {
		c->max_output = n;
		return RC_OK;
	}
	(void)bad(err, "max_output_tokens", "must be a positive integer");
	err_hint(err, "An integer from 1 to %lld, without quotes or a fraction.",
		 (long long)MAX_OUTPUT_LIMIT);
	return RC_INVALID;
}

/* --- state that a provider keeps --- */

static enum rc state_add(struct call *c, struct arena *mem, const char *kind, const char *field,
			 struct str id, struct err *err)
{
	if (call_state_add(c, mem, kind, field, id) != RC_OK)
		return bad(err, field, "names more files and responses than one call may");
	c->media_by_url = true; /* how large it is only the provider knows */
	return RC_OK;
}

/* Keys that name what a provider keeps, wherever in a tool or an item they stand. */
static const struct {
	const char *key, *kind;
} state_keys[] = {
	{"file_id", "file"},
	{"file_ids", "file"},
	{"vector_store_ids", "vector_store"},
	{"container_id", "container"},
	{"container", "container"},
};

static enum rc state_value(struct call *c, struct arena *mem, const char *kind, const char *field,
			   const struct json *v, struct err *err)
{
	struct json_iter it;
	struct json *one;
	struct str id;

	if (json_string(v, &id))
		return state_add(c, mem, kind, field, id, err);
	it = json_iter(json_type(v) == JSON_ARRAY ? v : NULL);
	while (json_next(&it, NULL, &one))
		if (json_string(one, &id))
			TRY(state_add(c, mem, kind, field, id, err));
	return RC_OK;
}

/* Depth is bounded by the parser (JSON_DEPTH_MAX). A schema may have properties of these names: it is not looked into. */
static enum rc states_find(struct call *c, struct arena *mem, const char *field,
			   const struct json *v, struct err *err)
{
	struct json_iter it = json_iter(v);
	struct str key = STR_NULL;
	struct json *member;

	while (json_next(&it, &key, &member)) {
		if (json_type(v) == JSON_OBJECT) {
			if (str_is(key, "parameters") || str_is(key, "schema"))
				continue;
			for (size_t i = 0; i < ARRAY_LEN(state_keys); i++)
				if (str_is(key, state_keys[i].key))
					TRY(state_value(c, mem, state_keys[i].kind, field, member,
							err));
		}
		if (json_len(member) > 0)
			TRY(states_find(c, mem, field, member, err));
	}
	return RC_OK;
}

static enum rc read_states(struct call *c, struct arena *mem, struct err *err)
{
	const struct json *previous = json_get(c->body, "previous_response_id");
	const struct json *conversation = json_get(c->body, "conversation");
	struct str id;

	if (!json_is_null(previous)) {
		if (!json_string(previous, &id) || id.len == 0)
			return bad(err, "previous_response_id", "must be the id of a response");
		TRY(state_add(c, mem, "response", "previous_response_id", id, err));
	}
	if (!json_is_null(conversation)) {
		if ((!json_string(conversation, &id) &&
		     !json_string(json_get(conversation, "id"), &id)) ||
		    id.len == 0)
			return bad(err, "conversation", "must be an id, or an object with one");
		TRY(state_add(c, mem, "conversation", "conversation", id, err));
	}
	if (!json_is_null(json_get(c->body, "prompt")))
		c->media_by_url = true; /* a text that only the provider knows */
	TRY(states_find(c, mem, "input", json_get(c->body, "input"), err));
	return states_find(c, mem, "tools", json_get(c->body, "tools"), err);
}

/* --- input --- */

static void image_part(const struct json *part, struct call *c)
{
	struct str url = STR_NULL;

	c->needs |= CAP_VISION;
	(void)json_string(json_get(part, "image_url"), &url);
	if (str_eq_nocase(str_slice(url, 0, 5), STR("data:")))
		c->media_tokens_max += IMAGE_TOKENS_MAX;
	else
		c->media_by_url = true;
}

/* What is no more than its bytes; of all else nobody knows here how many tokens it is. */
static const char *const text_parts[] = {"input_text", "output_text", "text", "refusal",
					 "summary_text"};
static const char *const text_items[] = {"function_call", "custom_tool_call", "reasoning"};

static bool is_text(struct str type, const char *const *types, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_is(type, types[i]))
			return true;
	return false;
}

static enum rc read_content(const struct json *content, size_t item, struct call *c,
			    struct err *err)
{
	struct json_iter it = json_iter(content);
	struct json *part;
	struct str text, type;

	if (json_string(content, &text))
		c->text_bytes += text.len;
	if (json_is_null(content) || json_type(content) == JSON_STRING)
		return RC_OK;
	if (json_type(content) != JSON_ARRAY)
		return bad_item(err, item, "has a content that is no string or array");
	while (json_next(&it, NULL, &part)) {
		if (json_type(part) != JSON_OBJECT || !json_string(json_get(part, "type"), &type))
			return bad_item(err, item, "has a part that is no object with a type");
		if (json_string(json_get(part, "text"), &text))
			c->text_bytes += text.len;
		if (str_is(type, "input_image"))
			image_part(part, c);
		else if (str_is(type, "input_audio"))
			c->needs |= CAP_AUDIO_IN;
		else if (!is_text(type, text_parts, ARRAY_LEN(text_parts)))
			/* a file's pages are read as text and pictures: more tokens than bytes are possible */
			c->media_by_url = true;
		if (str_is(type, "input_file"))
			c->needs |= CAP_VISION;
	}
	return RC_OK;
}

static enum rc read_item(const struct json *item, size_t i, struct call *c, struct arena *mem,
			 struct err *err)
{
	struct str type = STR("message"), id;

	if (json_type(item) != JSON_OBJECT)
		return bad_item(err, i, "must be an object");
	if (!json_is_null(json_get(item, "type")) && !json_string(json_get(item, "type"), &type))
		return bad_item(err, i, "has a type that is no string");
	if (str_is(type, "item_reference")) {
		if (!json_string(json_get(item, "id"), &id))
			return bad_item(err, i, "must have the id that it refers to");
		return state_add(c, mem, "item", "input", id, err);
	}
	if (str_is(type, "message")) {
		if (json_type(json_get(item, "role")) != JSON_STRING)
			return bad_item(err, i, "must have a role");
		return read_content(json_get(item, "content"), i, c, err);
	}
	if (str_is(type, "function_call_output") || str_is(type, "custom_tool_call_output"))
		return read_content(json_get(item, "output"), i, c, err);
	if (!is_text(type, text_items, ARRAY_LEN(text_items)))
		c->media_by_url = true;
	return RC_OK;
}

static enum rc read_input(struct call *c, struct arena *mem, struct err *err)
{
	const struct json *input = json_get(c->body, "input");
	const struct json *instructions = json_get(c->body, "instructions");
	struct json_iter it = json_iter(input);
	struct json *item;
	struct str text;

	if (json_string(instructions, &text))
		c->text_bytes += text.len;
	else if (!json_is_null(instructions))
		return bad(err, "instructions", "must be a string");
	if (json_is_null(input)) {
		if (json_is_null(json_get(c->body, "previous_response_id")) &&
		    json_is_null(json_get(c->body, "conversation")) &&
		    json_is_null(json_get(c->body, "prompt")))
			return bad(err, "input", "is required");
		return RC_OK;
	}
	if (json_string(input, &text)) {
		c->text_bytes += text.len;
		return RC_OK;
	}
	if (json_type(input) != JSON_ARRAY)
		return bad(err, "input", "must be a string or an array of items");
	for (size_t i = 0; json_next(&it, NULL, &item); i++)
		TRY(read_item(item, i, c, mem, err));
	return RC_OK;
}

/* --- the rest --- */

/* A shell without a place is the caller's; a search over deferred tools is, where it says so. */
static bool is_own_tool(const struct json *tool, struct str type)
{
	static const char *const own[] = {"function", "custom", "namespace", "local_shell",
					  "apply_patch"};
	struct str place;

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (str_is(type, own[i]))
			return true;
	if (str_is(type, "shell"))
		return !json_string(json_get(json_get(tool, "environment"), "type"), &place) ||
		       str_is(place, "local");
	if (str_is(type, "tool_search"))
		return json_string(json_get(tool, "execution"), &place) && str_is(place, "client");
	return str_starts(type, STR("computer"));
}

/* OpenRouter's: searches, and models beside the one that is priced. */
static void read_dearer(struct call *c)
{
	if (json_len(json_get(c->body, "plugins")) > 0)
		c->beyond_hold = "plugins";
	if (json_len(json_get(c->body, "models")) > 0)
		c->beyond_hold = "models";
	if (!json_is_null(json_get(c->body, "prompt"))) /* it may bring tools of its own */
		c->beyond_hold = "prompt";
}

static enum rc read_tools(struct call *c, struct err *err)
{
	const struct json *tools = json_get(c->body, "tools");
	struct json_iter it = json_iter(tools);
	struct json *tool;
	struct str type;

	if (json_is_null(tools))
		return RC_OK;
	if (json_type(tools) != JSON_ARRAY)
		return bad(err, "tools", "must be an array");
	if (json_len(tools) > 0)
		c->needs |= CAP_TOOLS;
	while (json_next(&it, NULL, &tool)) {
		if (!json_string(json_get(tool, "type"), &type))
			return bad(err, "tools", "has an entry that is no object with a type");
		/* what a hosted tool brings back is input, too, and nobody knows how much */
		if (!str_is(type, "function") && !str_is(type, "custom"))
			c->media_by_url = true;
		if (!is_own_tool(tool, type))
			c->beyond_hold = "tools";
	}
	return RC_OK;
}

static enum rc read_format(struct call *c, struct err *err)
{
	const struct json *text = json_get(c->body, "text");
	const struct json *format = json_get(text, "format");
	struct str type;

	if (!json_is_null(text) && json_type(text) != JSON_OBJECT)
		return bad(err, "text", "must be an object");
	if (json_is_null(format))
		return RC_OK;
	if (!json_string(json_get(format, "type"), &type))
		return bad(err, "text.format", "must be an object with a type");
	if (str_is(type, "json_object") || str_is(type, "json_schema"))
		c->needs |= CAP_JSON;
	return RC_OK;
}

/* What a response and the count of its input have in common. */
static enum rc read_question(struct str body, struct arena *mem, struct call *c, struct err *err)
{
	TRY(json_parse_held(body, JSON_NO_DUPLICATES, JSON_BORROW_MIN, mem, &c->body, err));
	if (json_type(c->body) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_request_error",
			       "The body must be a JSON object.");
	TRY(read_model(c->body, c, err));
	TRY(read_input(c, mem, err));
	TRY(read_states(c, mem, err));
	TRY(read_tools(c, err));
	read_dearer(c);
	return read_format(c, err);
}

static enum rc refuse_background(const struct call *c, struct err *err)
{
	bool background = false;

	TRY(read_bool(c->body, "background", &background, err));
	if (!background)
		return RC_OK;
	(void)err_set(err, RC_INVALID, "unsupported_parameter",
		      "background is not offered: what such a response uses is only known "
		      "when the call is long over.");
	err_hint(err, "Leave it out, and stream the response.");
	err_field(err, "background");
	return RC_INVALID;
}

static enum rc decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_responses,
			 .operation = OPERATION_chat,
			 .choices = 1,
			 .usage_asked = true, /* it stands in the last event, always */
			 .keeps_state = true,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};

	(void)head; /* all of it is in the body */
	TRY(read_question(body, mem, &c, err));
	TRY(refuse_background(&c, err));
	TRY(read_bool(c.body, "stream", &c.stream, err));
	TRY(read_bool(c.body, "store", &c.keeps_state, err));
	TRY(read_max_output(c.body, &c, err));
	*ret = c;
	return RC_OK;
}

static enum rc count_decode_request(const struct call_head *head, struct str body,
				    struct arena *mem, struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_input_tokens,
			 .operation = OPERATION_count_tokens,
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};

	(void)head;
	TRY(read_question(body, mem, &c, err));
	*ret = c;
	return RC_OK;
}

/* --- the request to a provider -------------------------------------------------------------------- */

static enum rc quoted(struct str s, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(MODEL_BYTES_MAX * 8);

	TRY(buf_append_char(&out, '"'));
	TRY(json_escape(s, &out));
	TRY(buf_append_char(&out, '"'));
	*ret = arena_str(mem, buf_str(&out));
	return RC_OK;
}

static bool is_of_another(const struct json *item, const struct dialect_target *t)
{
	struct str seal, type;

	return json_string(json_get(item, "encrypted_content"), &seal) &&
	       (t->stateless || str_starts(seal, STR(CHAT_OPAQUE_MARK))) &&
	       json_string(json_get(item, "type"), &type) && str_is(type, "reasoning");
}

/* The input without the reasoning that a provider of another dialect made. */
static enum rc input_without_seals(const struct call *c, const struct dialect_target *t,
				   struct buf *raw)
{
	struct json_iter it = json_iter(json_get(c->body, "input"));
	struct json_out o;
	struct json *item;

	json_out_begin(&o, raw);
	json_arr(&o, NULL);
	while (json_next(&it, NULL, &item))
		if (!is_of_another(item, t))
			json_put_value(&o, NULL, item);
	json_arr_end(&o);
	return json_out_end(&o);
}

static bool has_seals(const struct call *c, const struct dialect_target *t)
{
	struct json_iter it;
	struct json *item;

	if (!t->stateless && str_find_str(c->body_text, STR(CHAT_OPAQUE_MARK)) < 0)
		return false;
	it = json_iter(json_get(c->body, "input"));
	while (json_next(&it, NULL, &item))
		if (is_of_another(item, t))
			return true;
	return false;
}

static enum rc encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err)
{
	/* what was escaped is no longer when it is written again */
	AUTO(buf) struct buf input = BUF_INIT(c->body_bytes + EDIT_SLACK_BYTES);
	struct json_edit edits[EDITS_MAX];
	size_t n = 0;

	(void)err;
	if (!str_eq(c->model, t->model)) {
		edits[n].key = "model";
		TRY(quoted(t->model, mem, &edits[n++].raw_json));
	}
	if (has_seals(c, t)) {
		TRY(input_without_seals(c, t, &input));
		chat_lose(&out->losses, STR("input.reasoning"));
		edits[n++] = (struct json_edit){"input", buf_str(&input)};
	}
	if (c->operation == OPERATION_chat && c->max_output == 0 && t->max_output_cap > 0)
		edits[n++] =
			(struct json_edit){"max_output_tokens",
					   arena_printf(mem, "%lld", (long long)t->max_output_cap)};
	return outgoing_pass(c, edits, n, mem, out);
}

static bool refuses_state(const struct err *said)
{
	return str_find_nocase(str_from(said->message), STR("encrypted content")) >= 0 ||
	       str_find_nocase(str_from(said->message), STR("encrypted_content")) >= 0;
}

static enum rc encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out)
{
	(void)ctx;
	if (f->error !=
	    ERROR_none) /* their words may name keys and accounts: f->err is what may be seen */
		return responses_encode_error_event(&f->err, STR_NULL, out);
	return buf_append(out, ev->raw);
}

/* --- a count of the input ------------------------------------------------------------------------- */

static enum rc count_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
				  struct facts *ret)
{
	(void)ctx;
	(void)ev;
	(void)ret;
	return RC_PROTOCOL; /* a count is never streamed */
}

static enum rc count_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE, .terminal = true};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
		return RC_PROTOCOL;
	if (openai_error_is(root))
		f.error = openai_error_read(200, root, &f.err);
	else if (!json_int(json_get(root, "input_tokens"), &f.counted) || f.counted < 0)
		return RC_PROTOCOL;
	ctx->saw_error |= f.error != ERROR_none;
	*ret = f;
	return RC_OK;
}

static enum rc count_encode_nothing(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	(void)ctx;
	(void)f;
	(void)out;
	return RC_OK;
}

static enum rc count_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out)
{
	(void)ctx;
	(void)usage;
	(void)out;
	return RC_OK;
}

static enum rc count_encode_response(struct dialect_ctx *ctx, const struct facts *f,
				     struct buf *out)
{
	(void)ctx;
	return buf_printf(out, "{\"object\":\"response.input_tokens\",\"input_tokens\":%lld}",
			  (long long)f->counted);
}

const struct dialect dialect_openai_responses = {
	.name = RESPONSES_SEAL_DIALECT,
	.operation = OPERATION_chat,
	.errors = ERROR_SHAPE_OPENAI,
	.keepalive = ": keep-alive\n\n",
	.finish_ends = false,
	.decode_request = decode_request,
	.decode_ask = responses_decode_ask,
	.encode_request = encode_request,
	.encode_ask = responses_encode_ask,
	.decode_event = responses_decode_event,
	.decode_response = responses_decode_response,
	.classify = openai_classify,
	.refuses_state = refuses_state,
	.encode_event = encode_event,
	.encode_deltas = responses_encode_deltas,
	.encode_end = responses_encode_end,
	.encode_response = responses_encode_response,
	.encode_error_event = responses_encode_error_event,
};

const struct dialect dialect_openai_input_tokens = {
	.name = "openai_input_tokens",
	.operation = OPERATION_count_tokens,
	.errors = ERROR_SHAPE_OPENAI,
	.keepalive = ": keep-alive\n\n",
	.finish_ends = true,
	.decode_request = count_decode_request,
	.decode_ask = responses_decode_ask,
	.encode_request = encode_request,
	.encode_ask = responses_encode_ask,
	.decode_event = count_decode_event,
	.decode_response = count_decode_response,
	.classify = openai_classify,
	.encode_event = encode_event,
	.encode_deltas = count_encode_nothing,
	.encode_end = count_encode_end,
	.encode_response = count_encode_response,
	.encode_error_event = responses_encode_error_event,
};
