/* routing/dialects/openai_chat_deltas.c - a chat completions answer as deltas, for a caller who speaks another dialect.
 *
 * Reads what all servers of this dialect make of it: content as a string or as parts (Mistral), reasoning under either of
 * its names or among the content, OpenRouter's details with their seals, tool calls keyed by index, by id or by neither, the
 * function call before tools. What spans events is kept per choice: whether reasoning is open, which calls have begun.
 * Lenient: what it does not know it passes over; an event never decides more memory than a small factor of its bytes. */
#include "routing/dialects/openai_priv.h"

#define DETAILS_BYTES_MAX (32u << 20) /* of one block of reasoning, written as JSON */
#define CALL_ID_MADE	  24

struct call_open {
	int64_t key;   /* the provider's index; -1: it gave none */
	struct str id; /* as the provider has it; may be empty */
	bool begun;
	struct chat_text early; /* arguments that came before the name */
};
struct detail { /* of OpenRouter's reasoning_details: fragments of one index are one detail */
	int64_t index;
	struct str type, id, format;
	struct chat_text text; /* or summary, or data */
	struct chat_text signature;
};
struct choice_state {
	bool reasoning, finished;
	bool named; /* reasoning has a name of its own here: details only repeat it */
	struct call_open *calls;
	size_t calls_count, calls_size;
	struct detail *details;
	size_t details_count, details_size;
	struct str signature; /* Mistral's, of the reasoning that is open */
};
struct reader {
	struct choice_state *choices[OPENAI_CHOICES_MAX];
};

struct reading {
	struct dialect_ctx *ctx;
	struct facts *f;
	struct choice_state *s;
	int64_t choice;
	enum rc rc; /* the first failure sticks */
};

static struct chat_delta *add(struct reading *r, enum chat_delta_type type)
{
	struct chat_delta *d = chat_delta_add(r->ctx->mem, r->f, type);

	d->choice = r->choice;
	return d;
}

static struct str text_at(const struct json *of, const char *key)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(of, key), &s);
	return s.len ? s : STR_NULL;
}

static void keep_text(struct reading *r, struct chat_text *t, struct str s)
{
	if (r->rc == RC_OK && s.len)
		r->rc = chat_text_add(r->ctx->keep, t, s);
}

static struct str kept(struct reading *r, struct str s)
{
	struct chat_text t = {0};

	keep_text(r, &t, s);
	return chat_text_str(&t);
}

/* An array in `keep` with room for one more: doubled when it is full. NULL: no memory, and r->rc says so. */
static void *room_for_one(struct reading *r, void *array, size_t count, size_t *size, size_t each)
{
	const size_t more = *size ? *size * 2 : 4;
	void *p = array;

	if (count < *size)
		return array;
	if (r->rc == RC_OK)
		r->rc = array ? arena_try_resize(r->ctx->keep, array, *size * each, more * each, &p)
			      : arena_try_alloc(r->ctx->keep, more * each, &p);
	if (r->rc != RC_OK)
		return NULL;
	*size = more;
	return p;
}

/* ---- reasoning ------------------------------------------------------------------------------------------- */

static void put_detail(struct json_out *o, const struct detail *d)
{
	const bool summary = str_is(d->type, "reasoning.summary");
	const bool sealed = str_is(d->type, "reasoning.encrypted");

	json_obj(o, NULL);
	json_put_str(o, "type", d->type);
	if (d->text.len || !d->signature.len)
		json_put_str(o,
			     sealed    ? "data"
			     : summary ? "summary"
				       : "text",
			     chat_text_str(&d->text));
	if (d->signature.len)
		json_put_str(o, "signature", chat_text_str(&d->signature));
	if (d->id.len)
		json_put_str(o, "id", d->id);
	if (d->format.len)
		json_put_str(o, "format", d->format);
	if (d->index >= 0)
		json_put_int(o, "index", d->index);
	json_obj_end(o);
}

/* The details so far as the array that goes back; ptr NULL: none holds state, so nothing must. */
static struct str details_take(struct reading *r)
{
	AUTO(buf) struct buf text = BUF_INIT(DETAILS_BYTES_MAX);
	struct choice_state *s = r->s;
	struct chat_text copy = {0};
	struct json_out o;
	bool state = false;

	json_out_begin(&o, &text);
	json_arr(&o, NULL);
	for (size_t i = 0; i < s->details_count; i++) {
		state |= s->details[i].signature.len > 0 ||
			 str_is(s->details[i].type, "reasoning.encrypted");
		put_detail(&o, &s->details[i]);
	}
	json_arr_end(&o);
	s->details_count = 0;
	if (!state || r->rc != RC_OK)
		return STR_NULL;
	r->rc = json_out_end(&o);
	if (r->rc == RC_OK)
		r->rc = chat_text_add(r->ctx->mem, &copy, buf_str(&text));
	return chat_text_str(&copy);
}

static void reasoning_end(struct reading *r)
{
	struct choice_state *s = r->s;
	struct str seal = s->signature;
	struct chat_delta *d;

	if (!seal.ptr)
		seal = details_take(r);
	if (!s->reasoning && !seal.ptr)
		return;
	d = add(r, CHAT_DELTA_REASONING_END);
	if (seal.ptr)
		d->opaque = (struct chat_opaque){.value = seal, .dialect = STR("openai_chat")};
	s->reasoning = false;
	s->signature = STR_NULL;
}

static void reasoning(struct reading *r, struct str text)
{
	if (text.len == 0)
		return;
	add(r, CHAT_DELTA_REASONING)->text = text;
	r->s->reasoning = true;
}

static struct detail *detail_for(struct reading *r, struct str type, int64_t index)
{
	struct choice_state *s = r->s;
	struct detail *d = s->details_count ? &s->details[s->details_count - 1] : NULL;

	if (d && d->index == index && str_eq(d->type, type) && d->signature.len == 0 &&
	    !str_is(type, "reasoning.encrypted"))
		return d;
	d = room_for_one(r, s->details, s->details_count, &s->details_size, sizeof *d);
	if (!d)
		return NULL;
	s->details = d;
	d = &s->details[s->details_count++];
	*d = (struct detail){.index = index, .type = kept(r, type)};
	return d;
}

/* Gathers one fragment, and gives its text. */
static struct str read_detail(struct reading *r, const struct json *v)
{
	const struct str type = text_at(v, "type");
	struct str text = text_at(v, "text");
	int64_t index = -1;
	struct detail *d;

	if (!text.ptr)
		text = text_at(v, "summary");
	(void)json_int(json_get(v, "index"), &index);
	if (!type.ptr || r->rc != RC_OK || (d = detail_for(r, type, index)) == NULL)
		return text;
	keep_text(r, &d->text, text.ptr ? text : text_at(v, "data"));
	keep_text(r, &d->signature, text_at(v, "signature"));
	if (!d->id.len)
		d->id = kept(r, text_at(v, "id"));
	if (!d->format.len)
		d->format = kept(r, text_at(v, "format"));
	return text;
}

/* The same text stands under two names, or in the details alone. */
static void read_reasoning(struct reading *r, const struct json *m)
{
	struct json_iter it = json_iter(json_get(m, "reasoning_details"));
	struct str text = text_at(m, "reasoning_content");
	struct json *v;

	if (!text.ptr)
		text = text_at(m, "reasoning");
	r->s->named |= text.ptr != NULL;
	reasoning(r, text);
	while (json_next(&it, NULL, &v)) {
		struct str said = read_detail(r, v);

		if (!r->s->named)
			reasoning(r, said);
	}
}

/* ---- content --------------------------------------------------------------------------------------------- */

static void text(struct reading *r, enum chat_delta_type type, struct str s)
{
	if (s.len == 0)
		return;
	reasoning_end(r);
	add(r, type)->text = s;
}

static void image(struct reading *r, const struct json *v)
{
	struct str url = text_at(v, "url");
	struct chat_delta *d;

	if (!url.ptr && !json_string(v, &url))
		return;
	reasoning_end(r);
	d = add(r, CHAT_DELTA_MEDIA);
	if (!chat_data_url(url, &d->media))
		d->media.url = url;
}

static void citation(struct reading *r, struct str url, struct str title)
{
	struct chat_delta *d;

	if (!url.ptr)
		return;
	d = add(r, CHAT_DELTA_CITATION);
	d->text = STR("");
	d->media.url = url;
	d->media.name = title;
}

static void read_thinking(struct reading *r, const struct json *part)
{
	struct json_iter it = json_iter(json_get(part, "thinking"));
	struct str signature = text_at(part, "signature");
	struct json *piece;

	reasoning(r, text_at(part, "thinking"));
	while (json_next(&it, NULL, &piece))
		reasoning(r, text_at(piece, "text"));
	if (signature.ptr)
		r->s->signature = kept(r, signature);
}

static void read_part(struct reading *r, const struct json *part)
{
	const struct str type = text_at(part, "type");

	if (str_is(type, "thinking"))
		read_thinking(r, part);
	else if (str_is(type, "image_url"))
		image(r, json_get(part, "image_url"));
	else if (str_is(type, "refusal"))
		text(r, CHAT_DELTA_REFUSAL, text_at(part, "refusal"));
	else if (str_is(type, "tool_reference"))
		citation(r, text_at(part, "url"), text_at(part, "title"));
	else
		text(r, CHAT_DELTA_TEXT, text_at(part, "text"));
}

static void read_content(struct reading *r, const struct json *content)
{
	struct json_iter it = json_iter(content);
	struct json *part;
	struct str s;

	if (json_string(content, &s)) {
		text(r, CHAT_DELTA_TEXT, s);
		return;
	}
	while (json_type(content) == JSON_ARRAY && json_next(&it, NULL, &part))
		read_part(r, part);
}

static void read_annotations(struct reading *r, const struct json *annotations)
{
	struct json_iter it = json_iter(annotations);
	struct json *v;

	while (json_type(annotations) == JSON_ARRAY && json_next(&it, NULL, &v)) {
		const struct json *of = json_get(v, "url_citation");

		citation(r, text_at(of, "url"), text_at(of, "title"));
	}
}

static void read_images(struct reading *r, const struct json *images)
{
	struct json_iter it = json_iter(images);
	struct json *v;

	while (json_type(images) == JSON_ARRAY && json_next(&it, NULL, &v))
		image(r, json_get(v, "image_url"));
}

/* ---- tool calls -------------------------------------------------------------------------------------------- */

/* Which call a fragment is of. Servers differ: an index per call, one index for all with ids that tell, or neither. */
static struct call_open *call_find(const struct choice_state *s, int64_t key, struct str id,
				   bool named)
{
	for (size_t i = s->calls_count; i-- > 0;) {
		struct call_open *c = &s->calls[i];

		if (key >= 0 ? c->key != key : i + 1 < s->calls_count)
			continue;
		if (id.len && c->id.len && !str_eq(c->id, id))
			return NULL; /* a new one under an index that was used */
		return key < 0 && !id.len && named && c->begun ? NULL : c;
	}
	return NULL;
}

static struct call_open *call_for(struct reading *r, int64_t key, struct str id, bool named)
{
	struct choice_state *s = r->s;
	struct call_open *c = call_find(s, key, id, named);

	if (!c && s->calls_count == CHAT_CALLS_MAX) {
		r->f->deltas_lost = true;
		return NULL;
	}
	if (!c) {
		c = room_for_one(r, s->calls, s->calls_count, &s->calls_size, sizeof *c);
		if (!c)
			return NULL;
		s->calls = c;
		c = &s->calls[s->calls_count++];
		*c = (struct call_open){.key = key};
	}
	if (id.len && !c->id.len)
		c->id = kept(r, id);
	return c;
}

static bool fits_never(struct str id)
{
	(void)id;
	return false;
}

static void call_begin(struct reading *r, struct call_open *c, struct str name)
{
	const int64_t index = c - r->s->calls;
	struct chat_delta *d = add(r, CHAT_DELTA_TOOL_CALL);

	d->index = index;
	d->name = name;
	d->id = c->id;
	if (!c->id.len)
		d->id = chat_call_id(r->ctx->mem,
				     arena_printf(r->ctx->mem, "%.*s/%lld/%lld",
						  STR_FMT(r->ctx->id), (long long)r->choice,
						  (long long)index),
				     "call_", CALL_ID_MADE, fits_never);
	c->begun = true;
	if (!c->early.len)
		return;
	d = add(r, CHAT_DELTA_TOOL_ARGUMENTS);
	d->index = index;
	d->text = chat_text_str(&c->early);
}

/* A string, a fragment of one, or the object itself. */
static struct str arguments_of(struct reading *r, const struct json *v)
{
	AUTO(buf) struct buf text = BUF_INIT(DETAILS_BYTES_MAX);
	struct chat_text copy = {0};
	struct str s;

	if (json_string(v, &s))
		return s;
	if (json_type(v) != JSON_OBJECT || r->rc != RC_OK)
		return STR("");
	r->rc = json_write(v, &text);
	if (r->rc == RC_OK)
		r->rc = chat_text_add(r->ctx->mem, &copy, buf_str(&text));
	return chat_text_str(&copy);
}

static void read_function(struct reading *r, struct call_open *c, const struct json *function,
			  struct str signature)
{
	const struct str name = text_at(function, "name");
	const struct str arguments = arguments_of(r, json_get(function, "arguments"));
	struct chat_delta *d;

	if (!c->begun && name.ptr) {
		const size_t at = r->f->deltas_count;

		call_begin(r, c, name);
		if (signature.ptr && at < r->f->deltas_count)
			r->f->deltas[at].opaque = (struct chat_opaque){
				.value = signature, .dialect = STR("openai_chat")};
	}
	if (arguments.len == 0)
		return;
	if (!c->begun) {
		keep_text(r, &c->early, arguments);
		return;
	}
	d = add(r, CHAT_DELTA_TOOL_ARGUMENTS);
	d->index = c - r->s->calls;
	d->text = arguments;
}

static void read_calls(struct reading *r, const struct json *m)
{
	const struct json *calls = json_get(m, "tool_calls");
	const struct json *legacy = json_get(m, "function_call");
	struct json_iter it = json_iter(calls);
	struct call_open *c;
	struct json *v;

	while (json_type(calls) == JSON_ARRAY && json_next(&it, NULL, &v)) {
		const struct json *function = json_get(v, "function");
		int64_t key = -1;

		(void)json_int(json_get(v, "index"), &key);
		reasoning_end(r);
		c = call_for(r, key, text_at(v, "id"), text_at(function, "name").ptr != NULL);
		if (c)
			read_function(r, c, function,
				      text_at(json_get(json_get(v, "extra_content"), "google"),
					      "thought_signature"));
	}
	if (json_type(legacy) != JSON_OBJECT)
		return;
	reasoning_end(r);
	c = call_for(r, 0, STR_NULL, false);
	if (c)
		read_function(r, c, legacy, STR_NULL);
}

/* ---- a choice ------------------------------------------------------------------------------------------------ */

/* A forced call ends with `stop` at OpenAI: that there are calls says more than the reason. */
static void read_finish(struct reading *r, const struct json *choice)
{
	const struct str reason = text_at(choice, "finish_reason");
	struct chat_delta *d;

	if (!reason.ptr || r->s->finished)
		return;
	reasoning_end(r);
	d = add(r, CHAT_DELTA_FINISH);
	d->text = STR("");
	d->finish = openai_chat_finish(reason);
	if (d->finish == FINISH_STOP && r->s->calls_count > 0)
		d->finish = FINISH_TOOL_CALLS;
	r->s->finished = true;
}

static void read_message(struct reading *r, const struct json *m)
{
	read_reasoning(r, m);
	read_content(r, json_get(m, "content"));
	text(r, CHAT_DELTA_REFUSAL, text_at(m, "refusal"));
	text(r, CHAT_DELTA_TEXT, text_at(json_get(m, "audio"), "transcript"));
	read_images(r, json_get(m, "images"));
	read_annotations(r, json_get(m, "annotations"));
	read_calls(r, m);
}

static enum rc read_choice(struct dialect_ctx *ctx, const struct json *choice, struct facts *f)
{
	struct reader *reader = ctx->reader;
	struct reading r = {.ctx = ctx, .f = f};
	const struct json *m = json_get(choice, "delta");

	(void)json_int(json_get(choice, "index"), &r.choice);
	if (r.choice < 0 || r.choice >= OPENAI_CHOICES_MAX)
		return RC_PROTOCOL;
	if (!reader->choices[r.choice])
		reader->choices[r.choice] = ARENA_NEW(ctx->keep, struct choice_state);
	r.s = reader->choices[r.choice];
	read_message(&r, json_is_null(m) ? json_get(choice, "message") : m);
	read_finish(&r, choice);
	return r.rc;
}

enum rc openai_chat_deltas(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	struct json_iter it = json_iter(json_get(root, "choices"));
	struct json *choice;

	if (!ctx->reader)
		ctx->reader = ARENA_NEW(ctx->keep, struct reader);
	while (json_next(&it, NULL, &choice))
		TRY(read_choice(ctx, choice, f));
	return RC_OK;
}
