/* routing/dialects/openai_embeddings.c - POST /embeddings, as callers and as OpenAI-shaped providers speak it.
 *
 * One answer, never a stream. Both sides speaking it is the fast path: bytes go through but for `model`, and for what
 * Mistral would refuse the whole request for. Must never send a vector through a double. */
#include "routing/bound.h"
#include "routing/dialect.h"
#include "routing/dialects/field_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/errors.h"
#include "routing/provider.h"

#define DIMENSIONS_MAX	    EMBED_VALUES_MAX
#define TOKENS_OF_INPUT_MAX 1000000 /* of one array; no model takes a hundredth of it */
#define EDITS_MAX	    5

/* --- a caller's request ------------------------------------------------------------------------- */

static bool is_tokens(const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *one;
	int64_t n;

	if (json_type(v) != JSON_ARRAY || json_len(v) == 0 || json_len(v) > TOKENS_OF_INPUT_MAX)
		return false;
	while (json_next(&it, NULL, &one))
		if (!json_int(one, &n) || n < 0)
			return false;
	return true;
}

/* One input: a text or an array of tokens. What it counts as for an estimate: its bytes, or four for each token. */
static enum rc read_input(const struct json *v, struct call *c, struct err *err)
{
	struct str text;

	if (json_string(v, &text)) {
		if (text.len == 0)
			return field_bad(err, "input", "must not be an empty string");
		c->text_bytes += text.len;
	} else if (is_tokens(v)) {
		c->text_bytes += json_len(v) * 4;
	} else {
		return field_bad(err, "input",
				 "must be a string, an array of strings, or arrays of tokens");
	}
	c->counts.inputs++;
	return RC_OK;
}

static bool is_many(const struct json *input)
{
	const enum json_type first = json_type(json_at(input, 0));

	return json_type(input) == JSON_ARRAY && (first == JSON_STRING || first == JSON_ARRAY);
}

static enum rc read_inputs(const struct json *root, struct call *c, struct err *err)
{
	const struct json *input = json_get(root, "input");
	struct json_iter it;
	struct json *one;
	enum json_type first;

	if (json_is_null(input))
		return field_bad(err, "input", "is required");
	if (json_type(input) == JSON_ARRAY && json_len(input) == 0)
		return field_bad(err, "input", "must not be empty");
	if (!is_many(input))
		return read_input(input, c, err);
	if (json_len(input) > EMBED_INPUTS_MAX)
		return field_bad(err, "input", "has more than 2048 entries");
	first = json_type(json_at(input, 0));
	it = json_iter(input);
	while (json_next(&it, NULL, &one)) {
		if (json_type(one) != first)
			return field_bad(err, "input", "mixes texts and tokens");
		TRY(read_input(one, c, err));
	}
	return RC_OK;
}

static enum rc read_format(const struct json *root, bool *base64, struct err *err)
{
	struct str format = STR("float");

	TRY(field_string(root, "encoding_format", &format, err));
	*base64 = str_is(format, "base64");
	if (*base64 || str_is(format, "float"))
		return RC_OK;
	return field_bad(err, "encoding_format", "must be float or base64");
}

static enum rc decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err)
{
	struct call c = {.dialect = &dialect_openai_embeddings,
			 .operation = OPERATION_embeddings,
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};
	int64_t dimensions = 0;
	bool base64;

	(void)head;
	TRY(field_body(body, mem, &c.body, err));
	TRY(field_model(c.body, &c.model, err));
	TRY(read_inputs(c.body, &c, err));
	TRY(read_format(c.body, &base64, err));
	TRY(field_int(c.body, "dimensions", DIMENSIONS_MAX, &dimensions, err));
	*ret = c;
	return RC_OK;
}

/* Fields that say nothing about the vectors. */
static enum rc read_hints(const struct json *root, struct arena *mem, struct embed *e)
{
	static const char *const known[] = {"model", "input", "encoding_format", "dimensions"};
	struct json_iter it = json_iter(root);
	struct str key;
	struct json *v;
	void *names;

	TRY(arena_try_alloc(mem, sizeof *e->hints * (json_len(root) + 1), &names));
	e->hints = names;
	while (json_next(&it, &key, &v)) {
		bool is_known = json_is_null(v);

		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			is_known |= str_is(key, known[i]);
		if (!is_known)
			e->hints[e->hints_count++] = key;
	}
	return RC_OK;
}

static void take_input(const struct json *v, struct embed *e)
{
	struct embed_input *in = &e->inputs[e->inputs_count++];

	if (!json_string(v, &in->text))
		in->tokens = v;
	in->dimensions = e->dimensions;
}

static enum rc decode_ask(const struct call *c, struct arena *mem, struct ask *ret, struct err *err)
{
	const struct json *input = json_get(c->body, "input");
	struct embed e = {.inputs = NULL};
	struct json_iter it = json_iter(input);
	struct json *one;
	void *inputs;

	TRY(arena_try_alloc(mem, sizeof *e.inputs * (size_t)c->counts.inputs, &inputs));
	e.inputs = inputs;
	TRY(read_format(c->body, &e.base64, err));
	TRY(field_int(c->body, "dimensions", DIMENSIONS_MAX, &e.dimensions, err));
	if (!is_many(input))
		take_input(input, &e);
	else
		while (json_next(&it, NULL, &one))
			take_input(one, &e);
	TRY(read_hints(c->body, mem, &e));
	ret->embed = e;
	return RC_OK;
}

/* --- the request to a provider -------------------------------------------------------------------- */

/* Mistral refuses a field that it does not know; it has a name of its own for the size, and takes texts alone. */
static bool is_mistral(const struct dialect_target *t)
{
	return str_is(str_from(t->provider->id), "mistral");
}

static enum rc edits_for_mistral(const struct call *c, const struct dialect_target *t,
				 struct arena *mem, struct json_edit *edits, size_t *n,
				 struct outgoing *out, struct err *err)
{
	const struct json *input = json_get(c->body, "input");
	int64_t dimensions = 0;

	if (json_type(input) == JSON_ARRAY && json_type(json_at(input, 0)) != JSON_STRING)
		return chat_cannot(err, t->provider->label, "input");
	TRY(field_int(c->body, "dimensions", DIMENSIONS_MAX, &dimensions, err));
	if (json_get(c->body, "dimensions"))
		edits[(*n)++] = (struct json_edit){"dimensions", STR_NULL};
	if (dimensions > 0)
		edits[(*n)++] = (struct json_edit){
			"output_dimension", arena_printf(mem, "%lld", (long long)dimensions)};
	if (json_get(c->body, "user")) {
		edits[(*n)++] = (struct json_edit){"user", STR_NULL};
		chat_lose(&out->losses, STR("user"));
	}
	return RC_OK;
}

static enum rc encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err)
{
	struct json_edit edits[EDITS_MAX];
	size_t n = 0;

	if (!str_eq(c->model, t->model)) {
		edits[n].key = "model";
		TRY(field_quoted(t->model, mem, &edits[n++].raw_json));
	}
	if (is_mistral(t))
		TRY(edits_for_mistral(c, t, mem, edits, &n, out, err));
	return outgoing_pass(c, edits, n, mem, out);
}

/* Many texts in, and the answer as numbers: each dialect that asks this way has them so. */
static enum rc encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err)
{
	const struct embed *e = &ask->embed;
	struct json_out o;

	(void)c;
	(void)mem;
	if (e->dimensions_differ)
		return chat_cannot(err, t->provider->label, "requests.outputDimensionality");
	for (size_t i = 0; i < e->hints_count; i++)
		chat_lose(&out->losses, e->hints[i]);
	json_out_begin(&o, out->body);
	json_obj(&o, NULL);
	json_put_str(&o, "model", t->model);
	json_arr(&o, "input");
	for (size_t i = 0; i < e->inputs_count; i++) {
		const struct embed_input *in = &e->inputs[i];

		if (in->task_type.ptr)
			chat_lose(&out->losses, STR("taskType"));
		if (in->title.ptr)
			chat_lose(&out->losses, STR("title"));
		json_put_str(&o, NULL, in->text);
	}
	json_arr_end(&o);
	if (e->dimensions > 0)
		json_put_int(&o, is_mistral(t) ? "output_dimension" : "dimensions", e->dimensions);
	json_obj_end(&o);
	return json_out_end(&o);
}

/* --- answers ------------------------------------------------------------------------------------ */

/* prompt_tokens are what was embedded; nothing is made. */
static void read_usage(const struct json *root, struct usage *ret)
{
	struct usage u;
	int64_t in;

	openai_usage_read(json_get(root, "usage"), &u);
	*ret = u;
	if (!u.present)
		return;
	in = usage_total_in(&u);
	if (usage_total_out(&u) > 0)
		ret->flags |= USAGE_FLAG_INCONSISTENT;
	memset(ret->n, 0, sizeof ret->n);
	ret->n[USAGE_embed_tokens] = in < USAGE_UNITS_MAX ? in : USAGE_UNITS_MAX;
}

/* By their `index`, which every provider states and no two share. */
static enum rc read_vectors(struct dialect_ctx *ctx, const struct json *data, struct facts *f)
{
	const size_t count = json_len(data);
	struct embed_vector *vectors;
	struct json_iter it = json_iter(data);
	struct json *one;
	size_t at = 0;
	void *mem;

	TRY(arena_try_alloc(ctx->mem, sizeof *vectors * count, &mem));
	vectors = mem;
	while (json_next(&it, NULL, &one)) {
		const struct json *v = json_get(one, "embedding");
		int64_t index = (int64_t)at++;
		struct embed_vector *to;

		(void)json_int(json_get(one, "index"), &index);
		if (index < 0 || (size_t)index >= count)
			return RC_PROTOCOL;
		to = &vectors[index];
		if (to->values || to->base64.ptr)
			return RC_PROTOCOL;
		if (json_type(v) == JSON_ARRAY)
			to->values = v;
		else if (!v || !json_string(v, &to->base64))
			return RC_PROTOCOL;
	}
	f->vectors = vectors;
	f->vectors_count = count;
	return RC_OK;
}

static enum rc decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE, .terminal = true};
	const struct json *data;
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK ||
	    json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	data = json_get(root, "data");
	if (openai_error_is(root)) {
		f.error = openai_error_read(200, root, &f.err);
		*ret = f;
		return RC_OK;
	}
	if (json_type(data) != JSON_ARRAY || json_len(data) == 0)
		return RC_PROTOCOL;
	if (ctx->call && ctx->call->counts.inputs > 0 &&
	    json_len(data) != (size_t)ctx->call->counts.inputs)
		return RC_PROTOCOL; /* a text without its vector, or the other way */
	(void)json_string(json_get(root, "model"), &f.model);
	read_usage(root, &f.usage);
	TRY(read_vectors(ctx, data, &f));
	f.content = true;
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

static enum rc put_vector(struct dialect_ctx *ctx, const struct embed_vector *v, bool base64,
			  struct buf *out)
{
	struct str text;

	if (!base64)
		return embed_values(ctx->mem, v, out);
	TRY(embed_base64(ctx->mem, v, &text));
	TRY(buf_append_char(out, '"'));
	TRY(buf_append(out, text));
	return buf_append_char(out, '"');
}

static enum rc encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out)
{
	struct str model = f->model.len ? f->model : ctx->target->model;
	int64_t tokens = f->usage.n[USAGE_embed_tokens];
	struct err err;
	struct str quoted;
	bool base64;

	TRY(read_format(ctx->call->body, &base64, &err));
	TRY(field_quoted(model, ctx->mem, &quoted));
	if (!f->usage.present)
		tokens = bound_tokens_of_bytes((int64_t)ctx->call->text_bytes);
	TRY(buf_append(out, STR("{\"object\":\"list\",\"data\":[")));
	for (size_t i = 0; i < f->vectors_count; i++) {
		TRY(buf_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
			       i ? "," : "", i));
		TRY(put_vector(ctx, &f->vectors[i], base64, out));
		TRY(buf_append_char(out, '}'));
	}
	return buf_printf(out,
			  "],\"model\":%.*s,\"usage\":{\"prompt_tokens\":%lld,"
			  "\"total_tokens\":%lld}}",
			  STR_FMT(quoted), (long long)tokens, (long long)tokens);
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
	struct error_answer a = error_answer(RC_NETWORK, e, ERROR_SHAPE_OPENAI);

	return error_json(ERROR_SHAPE_OPENAI, &a, e, NULL, tollgate_json, out);
}

const struct dialect dialect_openai_embeddings = {
	.name = "openai_embeddings",
	.operation = OPERATION_embeddings,
	.errors = ERROR_SHAPE_OPENAI,
	.decode_request = decode_request,
	.decode_ask = decode_ask,
	.encode_request = encode_request,
	.encode_ask = encode_ask,
	.decode_event = decode_event,
	.decode_response = decode_response,
	.classify = openai_classify,
	.encode_event = encode_event,
	.encode_response = encode_response,
	.encode_error_event = encode_error_event,
};
