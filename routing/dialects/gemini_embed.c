/* routing/dialects/gemini_embed.c - embedContent and batchEmbedContents of the Gemini API, as callers and as the provider
 * speak them.
 *
 * The two are one language with one text or many: a caller's call goes on to its own endpoint, and one of another dialect
 * to the batch. The API states no usage for embeddings; where an answer has usageMetadata it is read. Never a
 * stream. Names come in camelCase or snake_case and go out in camelCase, but for what passes through. */
#include "routing/dialect.h"
#include "routing/dialects/field_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define DIMENSIONS_MAX	    EMBED_VALUES_MAX
#define ESCAPED_BYTES_MAX   6	 /* what one byte of a text can become when it is written: \u007f */
#define REQUEST_BYTES_SLACK 1024 /* a model's name in a request, over what was there */

/* --- a caller's request ------------------------------------------------------------------------- */

static const struct json *get(const struct json *v, const char *camel, const char *snake)
{
	const struct json *found = json_get(v, camel);

	return found ? found : json_get(v, snake);
}

/* The texts of a content; what is no text costs what it likes. */
static enum rc read_content(const struct json *request, struct call *c, struct err *err)
{
	const struct json *parts = json_get(json_get(request, "content"), "parts");
	struct json_iter it = json_iter(parts);
	struct json *part;
	struct str text;

	if (json_type(parts) != JSON_ARRAY || json_len(parts) == 0)
		return field_bad(err, "content", "must have parts");
	while (json_next(&it, NULL, &part)) {
		if (json_string(json_get(part, "text"), &text)) {
			c->text_bytes += text.len;
		} else {
			c->needs |= CAP_VISION;
			c->media_by_url = true;
		}
	}
	c->counts.inputs++;
	return RC_OK;
}

static enum rc read_request(const struct json *request, struct call *c, struct err *err)
{
	const struct json *dimensions =
		get(request, "outputDimensionality", "output_dimensionality");
	int64_t n;

	if (json_type(request) != JSON_OBJECT)
		return field_bad(err, "requests", "must be an array of objects");
	TRY(read_content(request, c, err));
	if (!json_is_null(dimensions) && (!json_int(dimensions, &n) || n < 1 || n > DIMENSIONS_MAX))
		return field_bad(err, "outputDimensionality", "must be a positive integer");
	return RC_OK;
}

static enum rc begin(const struct dialect *d, const struct call_head *head, struct str body,
		     struct arena *mem, struct call *c, struct err *err)
{
	*c = (struct call){.dialect = d,
			   .operation = OPERATION_embeddings,
			   .model = head->model,
			   .choices = 1,
			   .needs = CAP_TEXT,
			   .body_bytes = body.len,
			   .body_text = body};
	TRY(field_model_ok(c->model, err));
	return field_body(body, mem, &c->body, err);
}

static enum rc decode_one(const struct call_head *head, struct str body, struct arena *mem,
			  struct call *ret, struct err *err)
{
	struct call c;

	TRY(begin(&dialect_gemini_embed, head, body, mem, &c, err));
	TRY(read_request(c.body, &c, err));
	*ret = c;
	return RC_OK;
}

static enum rc decode_batch(const struct call_head *head, struct str body, struct arena *mem,
			    struct call *ret, struct err *err)
{
	const struct json *requests;
	struct json_iter it;
	struct json *one;
	struct call c;

	TRY(begin(&dialect_gemini_batch_embed, head, body, mem, &c, err));
	requests = json_get(c.body, "requests");
	if (json_type(requests) != JSON_ARRAY || json_len(requests) == 0)
		return field_bad(err, "requests", "must be an array of at least one request");
	if (json_len(requests) > EMBED_INPUTS_MAX)
		return field_bad(err, "requests", "has more than 2048 entries");
	it = json_iter(requests);
	while (json_next(&it, NULL, &one))
		TRY(read_request(one, &c, err));
	*ret = c;
	return RC_OK;
}

/* All its texts, one line each: another dialect has one text for one vector. */
static enum rc join_parts(const struct json *request, struct arena *mem, struct str *ret)
{
	const struct json *parts = json_get(json_get(request, "content"), "parts");
	struct chat_text text = {.ptr = NULL};
	struct json_iter it = json_iter(parts);
	struct json *part;
	struct str one;

	if (json_len(parts) == 1 && json_string(json_get(json_at(parts, 0), "text"), ret))
		return RC_OK;
	while (json_next(&it, NULL, &part)) {
		if (!json_string(json_get(part, "text"), &one))
			return RC_UNSUPPORTED;
		if (text.len > 0)
			TRY(chat_text_add(mem, &text, STR("\n")));
		TRY(chat_text_add(mem, &text, one));
	}
	*ret = chat_text_str(&text);
	return RC_OK;
}

static enum rc take_request(const struct json *request, struct arena *mem, struct embed *e)
{
	struct embed_input *in = &e->inputs[e->inputs_count++];

	TRY(join_parts(request, mem, &in->text));
	(void)json_string(get(request, "taskType", "task_type"), &in->task_type);
	(void)json_string(json_get(request, "title"), &in->title);
	(void)json_int(get(request, "outputDimensionality", "output_dimensionality"),
		       &in->dimensions);
	if (e->inputs_count == 1)
		e->dimensions = in->dimensions;
	e->dimensions_differ |= in->dimensions != e->dimensions;
	return RC_OK;
}

static enum rc decode_ask(const struct call *c, struct arena *mem, struct ask *ret, struct err *err)
{
	struct json_iter it = json_iter(json_get(c->body, "requests"));
	struct embed e = {.inputs = NULL};
	enum rc rc = RC_OK;
	struct json *one;
	void *inputs;

	TRY(arena_try_alloc(mem, sizeof *e.inputs * (size_t)c->counts.inputs, &inputs));
	e.inputs = inputs;
	if (c->dialect == &dialect_gemini_embed)
		rc = take_request(c->body, mem, &e);
	else
		while (rc == RC_OK && json_next(&it, NULL, &one))
			rc = take_request(one, mem, &e);
	if (rc == RC_UNSUPPORTED)
		return chat_cannot(err, "this target's embeddings", "content.parts");
	TRY(rc);
	ret->embed = e;
	return RC_OK;
}

/* --- the request to Gemini -------------------------------------------------------------------------- */

static bool names_model(const struct json *request, struct str model)
{
	struct str said;

	return json_string(json_get(request, "model"), &said) && str_starts(said, STR("models/")) &&
	       str_eq(str_slice(said, 7, said.len), model);
}

static enum rc quoted_model(const struct dialect_target *t, struct arena *mem, struct str *ret)
{
	return field_quoted(arena_printf(mem, "models/%.*s", STR_FMT(t->model)), mem, ret);
}

/* The path names the model; a body that names it, too, must say the same. */
static enum rc encode_one(const struct call *c, const struct dialect_target *t, struct arena *mem,
			  struct outgoing *out, struct err *err)
{
	struct json_edit edit = {.key = "model"};

	(void)err;
	if (!json_get(c->body, "model") || names_model(c->body, t->model))
		return outgoing_pass(c, NULL, 0, mem, out);
	TRY(quoted_model(t, mem, &edit.raw_json));
	return outgoing_pass(c, &edit, 1, mem, out);
}

static enum rc encode_batch(const struct call *c, const struct dialect_target *t, struct arena *mem,
			    struct outgoing *out, struct err *err)
{
	const struct json *requests = json_get(c->body, "requests");
	AUTO(buf)
	struct buf list = BUF_INIT(c->body_text.len * ESCAPED_BYTES_MAX +
				   json_len(requests) * REQUEST_BYTES_SLACK + 2);
	struct json_edit edit = {.key = "model"}, whole = {.key = "requests"};
	struct json_iter it = json_iter(requests);
	bool same = true, first = true;
	struct json *one;

	(void)err;
	while (json_next(&it, NULL, &one))
		same &= names_model(one, t->model);
	if (same)
		return outgoing_pass(c, NULL, 0, mem, out);
	TRY(quoted_model(t, mem, &edit.raw_json));
	it = json_iter(requests);
	while (json_next(&it, NULL, &one)) {
		TRY(buf_append_char(&list, first ? '[' : ','));
		TRY(json_write_edited(one, &edit, 1, &list));
		first = false;
	}
	TRY(buf_append_char(&list, ']'));
	whole.raw_json = buf_str(&list);
	return outgoing_pass(c, &whole, 1, mem, out);
}

static void put_request(struct json_out *o, const struct embed *e, const struct embed_input *in,
			struct str model)
{
	const int64_t dimensions = in->dimensions > 0 ? in->dimensions : e->dimensions;

	json_obj(o, NULL);
	json_put_str(o, "model", model);
	json_obj(o, "content");
	json_arr(o, "parts");
	json_obj(o, NULL);
	json_put_str(o, "text", in->text);
	json_obj_end(o);
	json_arr_end(o);
	json_obj_end(o);
	if (in->task_type.ptr)
		json_put_str(o, "taskType", in->task_type);
	if (in->title.ptr)
		json_put_str(o, "title", in->title);
	if (dimensions > 0)
		json_put_int(o, "outputDimensionality", dimensions);
	json_obj_end(o);
}

static enum rc encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err)
{
	const struct embed *e = &ask->embed;
	const struct str model = arena_printf(mem, "models/%.*s", STR_FMT(t->model));
	struct json_out o;

	(void)c;
	for (size_t i = 0; i < e->hints_count; i++)
		chat_lose(&out->losses, e->hints[i]);
	json_out_begin(&o, out->body);
	json_obj(&o, NULL);
	json_arr(&o, "requests");
	for (size_t i = 0; i < e->inputs_count; i++) {
		if (e->inputs[i].tokens) /* numbers of another model's vocabulary */
			return chat_cannot(err, t->provider->label, "input");
		put_request(&o, e, &e->inputs[i], model);
	}
	json_arr_end(&o);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* --- answers ------------------------------------------------------------------------------------ */

static void read_usage(const struct json *root, struct usage *u)
{
	int64_t n;

	if (!json_int(json_get(json_get(root, "usageMetadata"), "promptTokenCount"), &n))
		return;
	u->present = true;
	if (n < 0 || n > USAGE_UNITS_MAX)
		u->flags |= USAGE_FLAG_CLAMPED;
	u->n[USAGE_embed_tokens] = n < 0 ? 0 : n > USAGE_UNITS_MAX ? USAGE_UNITS_MAX : n;
}

static enum rc read_vectors(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	const struct json *many = json_get(root, "embeddings"), *one = json_get(root, "embedding");
	const size_t count = many ? json_len(many) : 1;
	struct embed_vector *vectors;
	struct json_iter it = json_iter(many);
	struct json *entry;
	size_t n = 0;
	void *mem;

	if (many ? json_type(many) != JSON_ARRAY || count == 0 : json_type(one) != JSON_OBJECT)
		return RC_PROTOCOL;
	TRY(arena_try_alloc(ctx->mem, sizeof *vectors * count, &mem));
	vectors = mem;
	if (!many)
		vectors[n++].values = json_get(one, "values");
	while (json_next(&it, NULL, &entry))
		vectors[n++].values = json_get(entry, "values");
	for (size_t i = 0; i < n; i++)
		if (json_type(vectors[i].values) != JSON_ARRAY)
			return RC_PROTOCOL;
	f->vectors = vectors;
	f->vectors_count = n;
	return RC_OK;
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE, .terminal = true, .content = true};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	if (openai_error_is(root)) {
		f.content = false;
		f.error = openai_error_read(200, root, &f.err);
		*ret = f;
		return RC_OK;
	}
	TRY(read_vectors(ctx, root, &f));
	if (ctx->call && ctx->call->counts.inputs > 0 &&
	    f.vectors_count != (size_t)ctx->call->counts.inputs)
		return RC_PROTOCOL;
	read_usage(root, &f.usage);
	*ret = f;
	return RC_OK;
}

static enum rc decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	(void)ctx;
	(void)ev;
	(void)ret;
	return RC_PROTOCOL; /* nobody streams vectors */
}

static const struct {
	const char *words; /* anywhere in the body */
	enum error_class class;
} markers[] = {
	{"API_KEY_INVALID", ERROR_auth},
	{"\"FAILED_PRECONDITION\"", ERROR_permission},
	{"input token count", ERROR_context_length},
};

/* The body has OpenAI's frame with words of its own in it (contracts: gemini.md 5). */
static enum error_class classify(int status, struct str body, struct arena *mem, struct err *err)
{
	const enum error_class plain = openai_classify(status, body, mem, err);
	enum error_class class = plain;

	for (size_t i = 0; i < ARRAY_LEN(markers); i++)
		if (status == 400 && str_find_nocase(body, str_from(markers[i].words)) >= 0)
			class = markers[i].class;
	if (class == plain)
		return class;
	if (error_policy(class)->to_caller)
		err->code = "context_length_exceeded";
	else
		(void)err_set(err, RC_OK, error_class_name(class),
			      "The provider refused the credential of this target.");
	return class;
}

static enum rc put_values(struct dialect_ctx *ctx, const struct embed_vector *v, struct buf *out)
{
	TRY(buf_append(out, STR("{\"values\":")));
	TRY(embed_values(ctx->mem, v, out));
	return buf_append_char(out, '}');
}

static enum rc encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	if (ctx->call->dialect == &dialect_gemini_embed) {
		if (f->vectors_count != 1)
			return RC_PROTOCOL;
		TRY(buf_append(out, STR("{\"embedding\":")));
		TRY(put_values(ctx, &f->vectors[0], out));
		return buf_append_char(out, '}');
	}
	TRY(buf_append(out, STR("{\"embeddings\":[")));
	for (size_t i = 0; i < f->vectors_count; i++) {
		if (i > 0)
			TRY(buf_append_char(out, ','));
		TRY(put_values(ctx, &f->vectors[i], out));
	}
	return buf_append(out, STR("]}"));
}

static enum rc encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out)
{
	(void)ctx;
	(void)ev;
	(void)f;
	(void)out;
	return RC_PROTOCOL;
}

static enum rc encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out)
{
	struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_GEMINI);

	return error_json(ERROR_SHAPE_GEMINI, &a, e, NULL, tollgate_json, out);
}

#define SHARED                                                                                     \
	.operation = OPERATION_embeddings, .errors = ERROR_SHAPE_GEMINI, .decode_ask = decode_ask, \
	.decode_event = decode_event, .decode_response = decode_response, .classify = classify,    \
	.encode_event = encode_event, .encode_response = encode_response,                          \
	.encode_error_event = encode_error_event

const struct dialect dialect_gemini_embed = {
	.name = "gemini_embed",
	.decode_request = decode_one,
	.encode_request = encode_one,
	SHARED,
};

const struct dialect dialect_gemini_batch_embed = {
	.name = "gemini_batch_embed",
	.decode_request = decode_batch,
	.encode_request = encode_batch,
	.encode_ask = encode_ask,
	SHARED,
};
