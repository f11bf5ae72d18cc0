/* routing/dialects/openai_chat.c - OpenAI chat completions, as callers and as providers speak it.
 *
 * Requests are read strictly, because money is held on what they say: what decides routing, price or the size of
 * the answer must have its right type, and no key may stand twice (two parsers would read two calls). All
 * else is none of our business and passes through. Answers are read leniently: unknown fields and values are
 * normal, only what is not JSON, or not an object, is a broken protocol.
 *
 * Here is what every call needs, whatever its target speaks: what decides routing and money of a request, the facts of an
 * answer, and the table itself. openai_chat_pass.c has the request's way to a provider of this dialect; _ask.c and _tell.c
 * the whole question, read and written, _deltas.c and _answer.c the whole answer, where the other side speaks another. */
#include "routing/dialect.h"
#include "routing/dialects/openai_priv.h"
#include "routing/errors.h"

#define MODEL_BYTES_MAX	 256
#define MAX_OUTPUT_LIMIT INT64_C(1000000000)
/* What one inline image can cost whatever its bytes: the dearest known is 48,169 tokens (a 768x2048 picture in
 * high detail at a small model). A file's pages are not bounded by its bytes at all: see content_part(). */
#define IMAGE_TOKENS_MAX 50000

/* --- a caller's request ------------------------------------------------------------------------- */

static enum rc bad(struct err *err, const char *field, const char *what)
{
	(void)err_set(err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(err, "%s", field);
	return RC_INVALID;
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

static enum rc read_int(const struct json *root, const char *field, int64_t max, int64_t *ret,
			struct err *err)
{
	const struct json *v = json_get(root, field);
	int64_t n;

	if (json_is_null(v))
		return RC_OK;
	if (json_int(v, &n) && n >= 1 && n <= max) {
		*ret = n;
		return RC_OK;
	}
	(void)bad(err, field, "must be a positive integer");
	err_hint(err, "An integer from 1 to %lld, without quotes or a fraction.", (long long)max);
	return RC_INVALID;
}

static enum rc read_max_output(const struct json *root, struct call *c, struct err *err)
{
	int64_t modern = 0, legacy = 0;

	TRY(read_int(root, "max_completion_tokens", MAX_OUTPUT_LIMIT, &modern, err));
	TRY(read_int(root, "max_tokens", MAX_OUTPUT_LIMIT, &legacy, err));
	if (modern && legacy && modern != legacy) {
		(void)bad(err, "max_tokens", "differs from max_completion_tokens");
		err_hint(err, "Send one of the two.");
		return RC_INVALID;
	}
	c->max_output = modern ? modern : legacy;
	return RC_OK;
}

static enum rc read_stream(const struct json *root, struct call *c, struct err *err)
{
	const struct json *options = json_get(root, "stream_options");

	TRY(read_bool(root, "stream", &c->stream, err));
	if (json_is_null(options))
		return RC_OK;
	if (json_type(options) != JSON_OBJECT)
		return bad(err, "stream_options", "must be an object");
	if (!c->stream)
		return bad(err, "stream_options", "is only allowed when stream is true");
	if (read_bool(options, "include_usage", &c->usage_asked, err) != RC_OK)
		return bad(err, "stream_options.include_usage", "must be true or false");
	return RC_OK;
}

static bool is_data_url(struct str url)
{
	return str_eq_nocase(str_slice(url, 0, 5), STR("data:"));
}

/* {"image_url": {"url": "…"}}, or a bare string as some servers have it. */
static enum rc image_part(const struct json *part, const char *key, struct call *c, struct err *err)
{
	const struct json *v = json_get(part, key);
	struct str url;

	if (!json_string(v, &url) && !json_string(json_get(v, "url"), &url))
		return bad(err, "messages", "has an image without a url");
	c->needs |= CAP_VISION;
	if (is_data_url(url))
		c->media_tokens_max += IMAGE_TOKENS_MAX;
	else
		c->media_by_url = true;
	return RC_OK;
}

/* What the provider keeps: a file, or the sound of an earlier answer. How large it is only it knows. */
static enum rc kept_part(const char *kind, const struct json *id, struct call *c, struct arena *mem,
			 struct err *err)
{
	struct str text;

	if (!json_string(id, &text))
		return RC_OK;
	c->media_by_url = true;
	if (call_state_add(c, mem, kind, "messages", text) != RC_OK)
		return bad(err, "messages", "has more files than one call may name");
	return RC_OK;
}

static enum rc content_part(const struct json *part, struct call *c, struct arena *mem,
			    struct err *err)
{
	struct str type, text;

	if (json_type(part) != JSON_OBJECT || !json_string(json_get(part, "type"), &type))
		return bad(err, "messages", "has a content part that is no object with a type");
	if (json_string(json_get(part, "text"), &text))
		c->text_bytes += text.len;
	/* Mistral's stands beside the type */
	TRY(kept_part("file", json_get(part, "file_id"), c, mem, err));
	TRY(kept_part("file", json_get(json_get(part, "file"), "file_id"), c, mem, err));
	if (str_is(type, "image_url"))
		return image_part(part, "image_url", c, err);
	if (str_is(type, "video_url")) {
		c->needs |= CAP_VISION;
		c->media_by_url = true;
	} else if (str_is(type, "input_audio")) {
		c->needs |= CAP_AUDIO_IN;
	} else if (str_is(type, "file")) {
		/* its pages are read as text and pictures; a compressed page can be smaller than its tokens */
		c->needs |= CAP_VISION;
		c->media_by_url = true;
	}
	return RC_OK;
}

static enum rc read_content(const struct json *content, struct call *c, struct arena *mem,
			    struct err *err)
{
	struct json_iter it;
	struct json *part;
	struct str text;

	if (json_is_null(content))
		return RC_OK;
	if (json_string(content, &text)) {
		c->text_bytes += text.len;
		return RC_OK;
	}
	if (json_type(content) != JSON_ARRAY)
		return bad(err, "messages", "has a content that is no string, array or null");
	it = json_iter(content);
	while (json_next(&it, NULL, &part))
		TRY(content_part(part, c, mem, err));
	return RC_OK;
}

static enum rc read_messages(const struct json *root, struct call *c, struct arena *mem,
			     struct err *err)
{
	const struct json *messages = json_get(root, "messages");
	struct json_iter it = json_iter(messages);
	struct json *m;
	struct str role;

	if (json_is_null(messages))
		return bad(err, "messages", "is required");
	if (json_type(messages) != JSON_ARRAY || json_len(messages) == 0)
		return bad(err, "messages", "must be an array of at least one message");
	while (json_next(&it, NULL, &m)) {
		if (json_type(m) != JSON_OBJECT || !json_string(json_get(m, "role"), &role))
			return bad(err, "messages", "has an entry that is no object with a role");
		TRY(read_content(json_get(m, "content"), c, mem, err));
		if (!json_is_null(json_get(m, "audio")))
			c->media_by_url = true;
		TRY(kept_part("audio", json_get(json_get(m, "audio"), "id"), c, mem, err));
	}
	return RC_OK;
}

static enum rc read_array(const struct json *root, const char *field, uint32_t need, struct call *c,
			  struct err *err)
{
	const struct json *v = json_get(root, field);

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_ARRAY)
		return bad(err, field, "must be an array");
	if (json_len(v) > 0)
		c->needs |= need;
	return RC_OK;
}

static enum rc read_needs(const struct json *root, struct call *c, struct err *err)
{
	const struct json *format = json_get(root, "response_format");
	struct json_iter it;
	struct json *v;
	struct str s;

	TRY(read_array(root, "tools", CAP_TOOLS, c, err));
	TRY(read_array(root, "functions", CAP_TOOLS, c, err)); /* the form before tools */
	TRY(read_array(root, "modalities", 0, c, err));
	it = json_iter(json_get(root, "modalities"));
	while (json_next(&it, NULL, &v)) {
		if (!json_string(v, &s))
			return bad(err, "modalities", "must be an array of strings");
		if (str_is(s, "audio"))
			c->needs |= CAP_AUDIO_OUT;
	}
	if (json_is_null(format))
		return RC_OK;
	if (json_type(format) != JSON_OBJECT || !json_string(json_get(format, "type"), &s))
		return bad(err, "response_format", "must be an object with a type");
	if (str_is(s, "json_object") || str_is(s, "json_schema"))
		c->needs |= CAP_JSON;
	return RC_OK;
}

/* What a provider runs itself (Kimi's builtin_function, OpenRouter's plugins, xAI's live search), and models beside the one
 * that is priced. */
static void read_beyond(struct call *c)
{
	static const char *const fields[] = {"web_search_options", "search_parameters", "plugins",
					     "models"};
	struct json_iter it = json_iter(json_get(c->body, "tools"));
	struct json *tool;
	struct str type;

	while (json_next(&it, NULL, &tool))
		if (json_string(json_get(tool, "type"), &type) && !str_is(type, "function") &&
		    !str_is(type, "custom"))
			c->beyond_hold = "tools";
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		const struct json *v = json_get(c->body, fields[i]);

		if (!json_is_null(v) && (json_type(v) != JSON_ARRAY || json_len(v) > 0))
			c->beyond_hold = fields[i];
	}
}

static enum rc decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_chat,
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};

	(void)head; /* all of it is in the body */
	TRY(json_parse_held(body, JSON_NO_DUPLICATES, JSON_BORROW_MIN, mem, &c.body, err));
	if (json_type(c.body) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_request_error",
			       "The body must be a JSON object.");
	TRY(read_model(c.body, &c, err));
	TRY(read_messages(c.body, &c, mem, err));
	TRY(read_stream(c.body, &c, err));
	TRY(read_max_output(c.body, &c, err));
	TRY(read_int(c.body, "n", OPENAI_CHOICES_MAX, &c.choices, err));
	TRY(read_needs(c.body, &c, err));
	read_beyond(&c);
	*ret = c;
	return RC_OK;
}

/* --- answers ------------------------------------------------------------------------------------ */

/* Text, wherever it stands: a string, or parts with strings in them (Mistral's thinking nests them). */
static int64_t text_len(const struct json *v)
{
	struct json_iter it;
	struct json *part, *inner;
	struct str s;
	int64_t n = 0;

	if (!v)
		return 0;
	if (json_string(v, &s))
		return (int64_t)s.len;
	it = json_iter(json_type(v) == JSON_ARRAY ? v : NULL);
	while (json_next(&it, NULL, &part)) {
		struct json_iter deep = json_iter(json_get(part, "thinking"));

		if (json_string(json_get(part, "text"), &s))
			n += (int64_t)s.len;
		while (json_next(&deep, NULL, &inner))
			if (json_string(json_get(inner, "text"), &s))
				n += (int64_t)s.len;
	}
	return n;
}

static int64_t call_len(const struct json *function)
{
	return text_len(json_get(function, "name")) + text_len(json_get(function, "arguments"));
}

/* A message, or a delta of one. */
static void read_message(const struct json *m, struct facts *f)
{
	static const char *const texts[] = {"content", "refusal", "reasoning_content", "reasoning"};
	const struct json *calls = json_get(m, "tool_calls"), *audio = json_get(m, "audio");
	struct json_iter it = json_iter(calls);
	struct json *call;
	int64_t len = 0;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		const struct json *v = json_get(m, texts[i]);

		if (i == 3 && len > 0 && json_get(m, "reasoning_content"))
			continue; /* the same text under its two names */
		len += text_len(v);
		f->content |= v && json_type(v) == JSON_ARRAY && json_len(v) > 0;
	}
	while (json_next(&it, NULL, &call)) {
		f->content = true;
		len += call_len(json_get(call, "function"));
		len += text_len(json_get(json_get(call, "custom"), "input"));
	}
	if (!json_is_null(json_get(m, "function_call"))) {
		f->content = true;
		len += call_len(json_get(m, "function_call"));
	}
	if (!json_is_null(audio)) {
		f->content = true;
		len += text_len(json_get(audio, "transcript"));
		if (json_string(json_get(audio, "id"), &f->state_id))
			f->state_kind = "audio"; /* a later call says it again by this alone */
	}
	f->content |= len > 0 || json_len(json_get(m, "images")) > 0;
	f->text_bytes += len;
}

static const struct {
	const char *reason;
	enum finish finish;
	enum error_class error;
} finishes[] = {
	{"stop", FINISH_STOP, ERROR_none},
	{"eos", FINISH_STOP, ERROR_none},
	{"length", FINISH_LENGTH, ERROR_none},
	{"model_length", FINISH_LENGTH, ERROR_none},
	{"tool_calls", FINISH_TOOL_CALLS, ERROR_none},
	{"function_call", FINISH_TOOL_CALLS, ERROR_none},
	{"content_filter", FINISH_CONTENT_FILTER, ERROR_none},
	{"error", FINISH_OTHER, ERROR_server_error},
	{"insufficient_system_resource", FINISH_OTHER, ERROR_overloaded},
};

enum finish openai_chat_finish(struct str reason)
{
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++)
		if (str_is(reason, finishes[i].reason))
			return finishes[i].finish;
	return FINISH_OTHER;
}

static void read_finish(struct str reason, struct facts *f)
{
	f->finished++;
	f->finish = FINISH_OTHER;
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++) {
		if (!str_is(reason, finishes[i].reason))
			continue;
		f->finish = finishes[i].finish;
		if (finishes[i].error == ERROR_none || f->error != ERROR_none)
			return;
		f->error = finishes[i].error;
		(void)err_set(&f->err, RC_OK, error_class_name(f->error),
			      "The provider ended the answer with an error.");
		return;
	}
}

static void read_choice(const struct json *choice, struct facts *f)
{
	const struct json *m = json_get(choice, "delta");
	struct str reason;

	read_message(m ? m : json_get(choice, "message"), f);
	if (openai_error_is(choice) && f->error == ERROR_none)
		f->error = openai_error_read(200, choice, &f->err);
	if (json_string(json_get(choice, "finish_reason"), &reason))
		read_finish(reason, f);
}

static void read_tier(const struct json *root, struct usage *u)
{
	struct str tier;

	if (!json_string(json_get(root, "service_tier"), &tier) ||
	    tier.len >= sizeof u->service_tier)
		return;
	for (size_t i = 0; i < tier.len; i++)
		if (tier.ptr[i] <= ' ' || tier.ptr[i] > '~')
			return;
	memcpy(u->service_tier, tier.ptr, tier.len);
	u->service_tier[tier.len] = '\0';
}

/* Where OpenAI puts it, where Groq repeats it, where older Moonshot servers have it. */
static void read_usage(const struct json *root, struct facts *f)
{
	const struct json *usage = json_get(root, "usage");

	if (json_is_null(usage))
		usage = json_get(json_get(root, "x_groq"), "usage");
	if (json_is_null(usage))
		usage = json_get(json_at(json_get(root, "choices"), 0), "usage");
	openai_usage_read(usage, &f->usage);
	if (f->usage.present)
		read_tier(root, &f->usage);
}

/* Facts of one parsed object, an event's or a whole answer's. */
static enum rc read_facts(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	const struct json *choices = json_get(root, "choices");
	const struct json *groq = json_get(root, "x_groq");
	struct json_iter it;
	struct json *choice;

	if (json_type(root) != JSON_OBJECT ||
	    (!json_is_null(choices) && json_type(choices) != JSON_ARRAY))
		return RC_PROTOCOL;
	(void)json_string(json_get(root, "model"), &f->model);
	(void)json_string(json_get(root, "id"), &f->id);
	if (openai_error_is(root))
		f->error = openai_error_read(200, root, &f->err);
	else if (!json_is_null(json_get(groq, "error")))
		f->error = openai_error_read(200, groq, &f->err);
	it = json_iter(choices);
	while (json_next(&it, NULL, &choice))
		read_choice(choice, f);
	read_usage(root, f);
	f->usage_only = f->usage.present && json_len(choices) == 0;
	ctx->finished_choices += f->finished;
	f->ending = ctx->call && ctx->finished_choices >= ctx->call->choices;
	ctx->saw_error |= f->error != ERROR_none;
	return ctx->translate && f->error == ERROR_none ? openai_chat_deltas(ctx, root, f) : RC_OK;
}

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct str data = str_trim(ev->data);
	struct json *root;

	if (str_is(data, "[DONE]")) {
		f.terminal = f.ending = true;
	} else if (!ev->comment && data.len > 0) {
		if (json_parse(data, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
			return RC_PROTOCOL;
		TRY(read_facts(ctx, root, &f));
	}
	*ret = f;
	return RC_OK;
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
		return RC_PROTOCOL;
	TRY(read_facts(ctx, root, &f));
	if (f.error == ERROR_none && json_len(json_get(root, "choices")) == 0)
		return RC_PROTOCOL; /* neither an answer nor an error */
	f.usage_only = false;
	f.terminal = true;
	*ret = f;
	return RC_OK;
}

static enum rc encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_OPENAI);
	size_t before = out->len;
	enum rc rc = buf_append(out, STR("data: "));

	if (rc == RC_OK)
		rc = error_json(ERROR_SHAPE_OPENAI, &a, e, NULL, tollgate_json, out);
	if (rc == RC_OK)
		rc = buf_append(out, STR("\n\n"));
	if (rc != RC_OK && out->ptr) {
		out->len = before;
		out->ptr[before] = '\0';
	}
	return rc;
}

static enum rc encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out)
{
	if (f->error !=
	    ERROR_none) /* their words may name keys and accounts: f->err is what may be seen */
		return encode_error_event(&f->err, STR_NULL, out);
	if (f->usage_only && !ctx->call->usage_asked)
		return RC_OK;
	return buf_append(out, ev->raw);
}

const struct dialect dialect_openai_chat = {
	.name = "openai_chat",
	.operation = OPERATION_chat,
	.errors = ERROR_SHAPE_OPENAI,
	.keepalive = ": keep-alive\n\n",
	.terminator = "data: [DONE]\n\n",
	.finish_ends = true,
	.decode_request = decode_request,
	.decode_ask = openai_chat_decode_ask,
	.encode_request = openai_chat_encode_request,
	.encode_ask = openai_chat_encode_ask,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = openai_classify,
	.encode_event = encode_event,
	.encode_deltas = openai_chat_encode_deltas,
	.encode_end = openai_chat_encode_end,
	.encode_response = openai_chat_encode_response,
	.encode_error_event = encode_error_event,
};
