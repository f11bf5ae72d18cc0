/* routing/dialects/gemini_request.c - a caller's request: what decides routing, money and size, and its way on to a
 * provider of the same dialect.
 *
 * Read strictly what money is held on: right types, no key twice, and no field in both of its spellings (two parsers would
 * read two calls). All else passes through. Model and streaming stand in the path, so for the vendor itself nothing of
 * the body changes but the cap that makes a hold's bound true, and seals that another provider made. */
#include <assert.h>
#include "routing/dialects/gemini_priv.h"

#define MODEL_BYTES_MAX	 256
#define MAX_OUTPUT_LIMIT INT64_C(1000000000)
/* What one inline image can cost whatever its bytes, wherever the call may be routed (openai_chat.c). */
#define IMAGE_TOKENS_MAX 50000
#define FIELD_BYTES_MAX	 96
#define FILES_HOST	 "https://generativelanguage.googleapis.com/"

static enum rc bad(struct err *err, const char *field, const char *what)
{
	(void)err_set(err, RC_INVALID, "invalid_request_error", "%s %s.", field, what);
	err_field(err, "%s", field);
	return RC_INVALID;
}

/* A member in either spelling; in both it is refused. *ret NULL: absent or null. */
static enum rc member(const struct json *of, const char *camel, const char *field,
		      const struct json **ret, struct err *err)
{
	const struct json *plain = json_get(of, camel), *v = gemini_get(of, camel);
	char snake[FIELD_BYTES_MAX];
	struct json_iter it = json_iter(plain ? of : NULL);
	struct str key;

	*ret = json_is_null(v) ? NULL : v;
	while (json_next(&it, &key, NULL))
		if (str_find(key, '_') >= 0 && gemini_camel(key, snake, sizeof snake) &&
		    strcmp(snake, camel) == 0)
			return bad(err, field, "stands there in both of its spellings");
	return RC_OK;
}

static enum rc read_model(struct str model, struct call *c, struct err *err)
{
	if (str_starts(model, STR("models/")))
		model = str_slice(model, 7, model.len);
	if (model.len == 0 || model.len > MODEL_BYTES_MAX)
		return bad(err, "model", "must have 1 to 256 characters");
	for (size_t i = 0; i < model.len; i++)
		if (model.ptr[i] <= ' ' || model.ptr[i] > '~')
			return bad(err, "model", "must be printable ASCII without spaces");
	c->model = model;
	return RC_OK;
}

/* ---- what is in a part ------------------------------------------------------------------------------- */

struct reading {
	struct call *call;
	struct arena *mem;
	struct err *err;
	size_t states_size;
};

static enum rc add_state(struct reading *r, const char *kind, struct str id, const char *field)
{
	return call_state_add(r->call, r->mem, kind, field, id) == RC_OK
		       ? RC_OK
		       : bad(r->err, field, "names more files than one call may use");
}

static bool mime_is(struct str mime, const char *family)
{
	return str_eq_nocase(str_slice(mime, 0, strlen(family)), str_from(family));
}

static void media_needs(struct call *c, struct str mime)
{
	if (mime_is(mime, "audio/"))
		c->needs |= CAP_AUDIO_IN;
	else if (!mime_is(mime, "text/"))
		c->needs |= CAP_VISION;
}

static enum rc inline_part(struct reading *r, const struct json *blob)
{
	const struct json *mime_at, *data_at;
	struct str mime, data;

	TRY(member(blob, "mimeType", "contents", &mime_at, r->err));
	TRY(member(blob, "data", "contents", &data_at, r->err));
	if (!json_string(mime_at, &mime) || !json_string(data_at, &data))
		return bad(r->err, "contents", "has inlineData without a mimeType and data");
	media_needs(r->call, mime);
	if (mime_is(mime, "image/"))
		r->call->media_tokens_max += IMAGE_TOKENS_MAX;
	else if (!mime_is(mime, "audio/") && !mime_is(mime, "text/"))
		/* pages and frames are read as text and pictures: their bytes bound nothing */
		r->call->media_by_url = true;
	return RC_OK;
}

/* Is it a file that the provider keeps (Files API, a bucket), and not an address that anybody can fetch? */
static bool is_kept(struct str uri)
{
	return mime_is(uri, FILES_HOST) || (!mime_is(uri, "https://") && !mime_is(uri, "http://"));
}

static enum rc file_part(struct reading *r, const struct json *file)
{
	const struct json *mime_at, *uri_at;
	struct str mime = STR(""), uri;

	TRY(member(file, "fileUri", "contents", &uri_at, r->err));
	TRY(member(file, "mimeType", "contents", &mime_at, r->err));
	if (!json_string(uri_at, &uri) || uri.len == 0)
		return bad(r->err, "contents", "has fileData without a fileUri");
	(void)json_string(mime_at, &mime);
	media_needs(r->call, mime);
	r->call->media_by_url = true;
	return is_kept(uri) ? add_state(r, "file", uri, "contents") : RC_OK;
}

static enum rc read_part(struct reading *r, const struct json *part)
{
	const struct json *text, *blob, *file;
	struct str s;

	if (json_type(part) != JSON_OBJECT)
		return bad(r->err, "contents", "has a part that is no object");
	TRY(member(part, "text", "contents", &text, r->err));
	TRY(member(part, "inlineData", "contents", &blob, r->err));
	TRY(member(part, "fileData", "contents", &file, r->err));
	if (text && !json_string(text, &s))
		return bad(r->err, "contents", "has a text that is no string");
	if (text)
		r->call->text_bytes += s.len;
	if (blob)
		TRY(inline_part(r, blob));
	return file ? file_part(r, file) : RC_OK;
}

static enum rc read_parts(struct reading *r, const struct json *content, const char *field)
{
	const struct json *parts;
	struct json_iter it;
	struct json *part;

	if (json_type(content) != JSON_OBJECT)
		return bad(r->err, field, "has an entry that is no object with parts");
	TRY(member(content, "parts", field, &parts, r->err));
	if (parts && json_type(parts) != JSON_ARRAY)
		return bad(r->err, field, "has parts that are no array");
	it = json_iter(parts);
	while (json_next(&it, NULL, &part))
		TRY(read_part(r, part));
	return RC_OK;
}

static enum rc read_contents(struct reading *r, const struct json *root)
{
	const struct json *contents = json_get(root, "contents"), *system;
	struct json_iter it = json_iter(contents);
	struct json *content;

	if (json_is_null(contents))
		return bad(r->err, "contents", "is required");
	if (json_type(contents) != JSON_ARRAY || json_len(contents) == 0)
		return bad(r->err, "contents", "must be an array of at least one entry");
	while (json_next(&it, NULL, &content))
		TRY(read_parts(r, content, "contents"));
	TRY(member(root, "systemInstruction", "systemInstruction", &system, r->err));
	if (system && json_type(system) != JSON_STRING)
		return read_parts(r, system, "systemInstruction");
	return RC_OK;
}

/* ---- what is beside the contents ------------------------------------------------------------------ */

static enum rc read_tools(struct reading *r, const struct json *root)
{
	const struct json *tools = json_get(root, "tools");
	struct json_iter it = json_iter(tools);
	struct json *tool;

	if (json_is_null(tools))
		return RC_OK;
	if (json_type(tools) != JSON_ARRAY)
		return bad(r->err, "tools", "must be an array");
	while (json_next(&it, NULL, &tool)) {
		const struct json *functions, *computer;

		if (json_type(tool) != JSON_OBJECT)
			return bad(r->err, "tools", "has an entry that is no object");
		TRY(member(tool, "functionDeclarations", "tools", &functions, r->err));
		if (functions && json_type(functions) != JSON_ARRAY)
			return bad(r->err, "tools", "has functionDeclarations that are no array");
		r->call->needs |= CAP_TOOLS;
		/* what a tool of the vendor's own finds becomes input, and nothing here says how much */
		if (json_len(tool) > (functions ? 1u : 0u))
			r->call->media_by_url = true;
		/* ... but a computer, which is the caller's own, they all run at the vendor's */
		TRY(member(tool, "computerUse", "tools", &computer, r->err));
		if (json_len(tool) > (functions ? 1u : 0u) + (computer ? 1u : 0u))
			r->call->beyond_hold = "tools";
	}
	return RC_OK;
}

static enum rc read_int(struct reading *r, const struct json *config, const char *name,
			const char *field, int64_t max, int64_t *ret)
{
	const struct json *v;
	int64_t n;

	TRY(member(config, name, field, &v, r->err));
	if (!v)
		return RC_OK;
	if (json_int(v, &n) && n >= 1 && n <= max) {
		*ret = n;
		return RC_OK;
	}
	(void)bad(r->err, field, "must be a positive integer");
	err_hint(r->err, "An integer from 1 to %lld, without quotes or a fraction.",
		 (long long)max);
	return RC_INVALID;
}

static enum rc read_modalities(struct reading *r, const struct json *config)
{
	static const char field[] = "generationConfig.responseModalities";
	const struct json *v;
	struct json_iter it;
	struct json *one;
	struct str s;

	TRY(member(config, "responseModalities", field, &v, r->err));
	if (v && json_type(v) != JSON_ARRAY)
		return bad(r->err, field, "must be an array of strings");
	it = json_iter(v);
	while (json_next(&it, NULL, &one)) {
		if (!json_string(one, &s))
			return bad(r->err, field, "must be an array of strings");
		if (str_eq_nocase(s, STR("AUDIO")))
			r->call->needs |= CAP_AUDIO_OUT;
	}
	return RC_OK;
}

static enum rc read_format(struct reading *r, const struct json *config)
{
	static const char field[] = "generationConfig.responseMimeType";
	const struct json *mime, *schema, *json_schema;
	struct str s = STR("");

	TRY(member(config, "responseMimeType", field, &mime, r->err));
	TRY(member(config, "responseSchema", "generationConfig.responseSchema", &schema, r->err));
	TRY(member(config, "responseJsonSchema", "generationConfig.responseJsonSchema",
		   &json_schema, r->err));
	if (mime && !json_string(mime, &s))
		return bad(r->err, field, "must be a string");
	if (str_is(s, "application/json") || schema || json_schema)
		r->call->needs |= CAP_JSON;
	return RC_OK;
}

static enum rc read_config(struct reading *r, const struct json *root)
{
	const struct json *config;

	TRY(member(root, "generationConfig", "generationConfig", &config, r->err));
	if (!config)
		return RC_OK;
	if (json_type(config) != JSON_OBJECT)
		return bad(r->err, "generationConfig", "must be an object");
	TRY(read_int(r, config, "maxOutputTokens", "generationConfig.maxOutputTokens",
		     MAX_OUTPUT_LIMIT, &r->call->max_output));
	TRY(read_int(r, config, "candidateCount", "generationConfig.candidateCount",
		     GEMINI_CHOICES_MAX, &r->call->choices));
	TRY(read_modalities(r, config));
	return read_format(r, config);
}

static enum rc read_cache(struct reading *r, const struct json *root)
{
	const struct json *v;
	struct str name;

	TRY(member(root, "cachedContent", "cachedContent", &v, r->err));
	if (!v)
		return RC_OK;
	if (!json_string(v, &name) || name.len == 0)
		return bad(r->err, "cachedContent", "must be a string");
	r->call->media_by_url = true; /* its tokens are input, and their number stands elsewhere */
	return add_state(r, "cache", name, "cachedContent");
}

static enum rc read_question(struct reading *r, const struct json *root)
{
	TRY(read_contents(r, root));
	TRY(read_tools(r, root));
	TRY(read_config(r, root));
	return read_cache(r, root);
}

static enum rc begin(const struct call_head *head, struct str body, struct arena *mem,
		     struct call *c, struct err *err)
{
	if (!head->model.ptr)
		return bad(err, "model", "must be named by the path");
	TRY(read_model(head->model, c, err));
	TRY(json_parse_held(body, JSON_NO_DUPLICATES, JSON_BORROW_MIN, mem, &c->body, err));
	if (json_type(c->body) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_request_error",
			       "The body must be a JSON object.");
	return RC_OK;
}

enum rc gemini_decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_gemini,
			 .operation = OPERATION_chat,
			 .stream = head->stream,
			 .stream_array = head->stream && head->stream_array,
			 .content_type = head->content_type,
			 .usage_asked = true, /* every chunk of this dialect has it */
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};
	struct reading r = {.call = &c, .mem = mem, .err = err};

	TRY(begin(head, body, mem, &c, err));
	TRY(read_question(&r, c.body));
	*ret = c;
	return RC_OK;
}

const struct json *gemini_question(const struct call *c)
{
	const struct json *inner = c->operation == OPERATION_count_tokens
					   ? gemini_get(c->body, "generateContentRequest")
					   : NULL;

	return json_is_null(inner) ? c->body : inner;
}

enum rc gemini_count_decode_request(const struct call_head *head, struct str body,
				    struct arena *mem, struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_gemini_count_tokens,
			 .operation = OPERATION_count_tokens,
			 .content_type = head->content_type,
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};
	struct reading r = {.call = &c, .mem = mem, .err = err};
	const struct json *inner;

	TRY(begin(head, body, mem, &c, err));
	TRY(member(c.body, "generateContentRequest", "generateContentRequest", &inner, err));
	if (inner && json_type(inner) != JSON_OBJECT)
		return bad(err, "generateContentRequest", "must be an object");
	if (inner && !json_is_null(json_get(c.body, "contents")))
		return bad(err, "contents", "stands beside generateContentRequest");
	TRY(read_question(&r, gemini_question(&c)));
	*ret = c;
	return RC_OK;
}

/* ---- to a provider of the same dialect -------------------------------------------------------------- */

/* Does this part hold a seal that is wrapped? */
static bool is_wrapped(const struct json *part)
{
	struct str seal;

	return json_string(gemini_get(part, "thoughtSignature"), &seal) &&
	       str_starts(seal, STR(CHAT_OPAQUE_MARK));
}

/* A part with a wrapped seal: with its own where this target made it; a call of another maker says so; a thought of
 * another maker is left out; a text loses the seal alone. */
static enum rc put_sealed(struct json_out *o, const struct json *part,
			  const struct dialect_target *t, struct arena *mem)
{
	struct json_edit edits[] = {{"thoughtSignature", STR_NULL},
				    {"thought_signature", STR_NULL}};
	AUTO(buf) struct buf out = BUF_INIT(GEMINI_JSON_MAX);
	AUTO(buf) struct buf seal = BUF_INIT(GEMINI_JSON_MAX);
	struct chat_opaque opaque = {0};
	bool thought = false;
	struct str text;

	(void)json_string(gemini_get(part, "thoughtSignature"), &text);
	(void)json_bool(json_get(part, "thought"), &thought);
	if (chat_opaque_unwrap(mem, text, &opaque) && opaque.value.len > 0 &&
	    chat_opaque_fits(&opaque, t)) {
		TRY(buf_append_char(&seal, '"'));
		TRY(json_escape(opaque.value, &seal));
		TRY(buf_append_char(&seal, '"'));
		edits[0].raw_json = buf_str(&seal);
	} else if (gemini_get(part, "functionCall")) {
		if (gemini_model_of(t->model).v3)
			edits[0].raw_json = STR("\"" GEMINI_FOREIGN_SEAL "\"");
	} else if (thought) {
		return RC_OK;
	}
	TRY(json_write_edited(part, edits, ARRAY_LEN(edits), &out));
	json_put_raw(o, NULL, buf_str(&out));
	return RC_OK;
}

static enum rc put_content(struct json_out *o, const struct json *content,
			   const struct dialect_target *t, struct arena *mem)
{
	struct json_iter it = json_iter(content), parts;
	struct json *v, *part;
	struct str key;

	json_obj(o, NULL);
	while (json_next(&it, &key, &v)) {
		if (!str_is(key, "parts")) {
			json_put_value_s(o, key, v);
			continue;
		}
		json_arr(o, "parts");
		parts = json_iter(v);
		while (json_next(&parts, NULL, &part)) {
			if (is_wrapped(part))
				TRY(put_sealed(o, part, t, mem));
			else
				json_put_value(o, NULL, part);
		}
		json_arr_end(o);
	}
	json_obj_end(o);
	return RC_OK;
}

/* `contents` without the seals of others. */
static enum rc contents_unsealed(const struct json *question, const struct dialect_target *t,
				 struct arena *mem, struct buf *out)
{
	struct json_iter it = json_iter(json_get(question, "contents"));
	struct json *content;
	struct json_out o;

	json_out_begin(&o, out);
	json_arr(&o, NULL);
	while (json_next(&it, NULL, &content))
		TRY(put_content(&o, content, t, mem));
	json_arr_end(&o);
	return json_out_end(&o);
}

static bool has_seals(const struct call *c)
{
	return str_find_str(c->body_text, STR(CHAT_OPAQUE_MARK)) >= 0;
}

static const char *config_key(const struct json *question)
{
	return json_get(question, "generation_config") && !json_get(question, "generationConfig")
		       ? "generation_config"
		       : "generationConfig";
}

/* generationConfig with the cap in it, whatever else it says. */
static enum rc config_capped(const struct json *question, int64_t cap, struct arena *mem,
			     struct buf *out)
{
	const struct json *config = json_get(question, config_key(question));
	const struct json_edit edits[] = {
		{"maxOutputTokens", arena_printf(mem, "%lld", (long long)cap)},
		{"max_output_tokens", STR_NULL}, /* it was null */
	};

	if (json_is_null(config))
		return buf_printf(out, "{\"maxOutputTokens\":%lld}", (long long)cap);
	return json_write_edited(config, edits, ARRAY_LEN(edits), out);
}

enum rc gemini_encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err)
{
	AUTO(buf) struct buf contents = BUF_INIT(GEMINI_JSON_MAX);
	AUTO(buf) struct buf config = BUF_INIT(GEMINI_JSON_MAX);
	struct json_edit edits[2];
	size_t n = 0;

	(void)err; /* the vendor's own words are never refused here */
	if (has_seals(c)) {
		TRY(contents_unsealed(c->body, t, mem, &contents));
		edits[n++] = (struct json_edit){"contents", buf_str(&contents)};
	}
	if (c->max_output == 0 && t->max_output_cap > 0) {
		TRY(config_capped(c->body, t->max_output_cap, mem, &config));
		edits[n++] = (struct json_edit){config_key(c->body), buf_str(&config)};
	}
	return outgoing_pass(c, edits, n, mem, out);
}

/* The wrapped form names the model a second time. */
enum rc gemini_count_encode_request(const struct call *c, const struct dialect_target *t,
				    struct arena *mem, struct outgoing *out, struct err *err)
{
	AUTO(buf) struct buf contents = BUF_INIT(GEMINI_JSON_MAX);
	AUTO(buf) struct buf inner = BUF_INIT(GEMINI_JSON_MAX);
	AUTO(buf) struct buf model = BUF_INIT(MODEL_BYTES_MAX * 8);
	const struct json *question = gemini_question(c);
	struct json_edit edits[2], outer;
	size_t n = 0;

	(void)err;
	if (has_seals(c)) {
		TRY(contents_unsealed(question, t, mem, &contents));
		edits[n++] = (struct json_edit){"contents", buf_str(&contents)};
	}
	if (question == c->body)
		return outgoing_pass(c, edits, n, mem, out);
	TRY(buf_append(&model, STR("\"models/")));
	TRY(json_escape(t->model, &model));
	TRY(buf_append_char(&model, '"'));
	edits[n++] = (struct json_edit){"model", buf_str(&model)};
	TRY(json_write_edited(question, edits, n, &inner));
	outer = (struct json_edit){json_get(c->body, "generateContentRequest")
					   ? "generateContentRequest"
					   : "generate_content_request",
				   buf_str(&inner)};
	return outgoing_pass(c, &outer, 1, mem, out);
}
