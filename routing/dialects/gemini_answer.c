/* routing/dialects/gemini_answer.c - what a provider of this dialect answers: facts, and deltas where they are wanted.
 *
 * Each chunk of a stream has new parts and the usage so far; a call comes whole, or in pieces where the caller asked for
 * that. There is no word for "stopped to call a tool": a STOP behind a call is that. A prompt that was blocked is an
 * answer without candidates; some finishes without any content are failures of the model, and read as one.
 *
 * Must never end a stream for what it does not know: parts and reasons of other names are passed over. */
#include "routing/dialects/gemini_priv.h"

#define CITATIONS_MAX 256 /* remembered, so that each is told once */
#define SEARCHES_MAX  64  /* of one answer: more than are ever made */
#define WORDS_MAX     256

struct reader {
	struct {
		int64_t calls; /* begun so far */
		bool finished;
		bool thinking; /* a thought that has not been ended */
		bool pieces;   /* a call whose arguments come in pieces is open */
		int64_t piece_index;
		struct gemini_args args;
	} choice[GEMINI_CHOICES_MAX];
	bool content;		       /* of any choice */
	uint64_t cited[CITATIONS_MAX]; /* hashes of what was cited */
	size_t cited_count;
	uint64_t searched[SEARCHES_MAX]; /* hashes of what was searched for */
	size_t searched_count;
	bool grounded;
	struct usage usage; /* the last that was stated */
};

struct at { /* one candidate of one event */
	struct dialect_ctx *ctx;
	struct reader *r;
	struct facts *f;
	int64_t choice;
};

static struct reader *reader_of(struct dialect_ctx *ctx)
{
	if (!ctx->reader)
		ctx->reader = ARENA_NEW(ctx->keep, struct reader);
	return ctx->reader;
}

static struct chat_delta *delta(const struct at *a, enum chat_delta_type type)
{
	struct chat_delta *d = chat_delta_add(a->ctx->mem, a->f, type);

	d->choice = a->choice;
	return d;
}

/* ---- parts ----------------------------------------------------------------------------------------------- */

static void thought_end(const struct at *a, struct str seal)
{
	bool *thinking = &a->r->choice[a->choice].thinking;

	if (a->ctx->translate && (*thinking || seal.len > 0)) {
		struct chat_delta *d = delta(a, CHAT_DELTA_REASONING_END);

		if (seal.len > 0)
			d->opaque = (struct chat_opaque){.value = seal, .dialect = STR("gemini")};
	}
	*thinking = false;
}

static struct str seal_of(const struct json *part)
{
	struct str s = STR_NULL;

	(void)json_string(json_get(part, "thoughtSignature"), &s);
	return s;
}

static void read_thought(const struct at *a, const struct json *part, struct str text)
{
	const struct str seal = seal_of(part);

	if (text.len > 0) {
		a->r->choice[a->choice].thinking = true;
		if (a->ctx->translate)
			delta(a, CHAT_DELTA_REASONING)->text = text;
	}
	if (seal.len > 0)
		thought_end(a, seal);
}

static void read_text(const struct at *a, const struct json *part)
{
	bool thought = false;
	struct str text;

	if (!json_string(json_get(part, "text"), &text))
		return;
	(void)json_bool(json_get(part, "thought"), &thought);
	a->f->text_bytes += (int64_t)text.len;
	a->f->content |= text.len > 0;
	if (thought) {
		read_thought(a, part, text);
		return;
	}
	if (text.len == 0)
		return; /* what closes a stream; a seal on it may be lost */
	thought_end(a, STR_NULL);
	if (a->ctx->translate) {
		struct chat_delta *d = delta(a, CHAT_DELTA_TEXT);
		const struct str seal = seal_of(part);

		d->text = text;
		if (seal.len > 0)
			d->opaque = (struct chat_opaque){.value = seal, .dialect = STR("gemini")};
	}
}

/* ---- calls -------------------------------------------------------------------------------------------------- */

/* Begins the next call. An id of our own is the same whenever this answer is read. */
static void call_begin(const struct at *a, const struct json *call, const struct json *part)
{
	const int64_t index = a->r->choice[a->choice].calls++;
	const struct str seal = seal_of(part);
	struct chat_delta *d;
	struct str name = STR("");

	thought_end(a, STR_NULL);
	(void)json_string(json_get(call, "name"), &name);
	a->f->content = true;
	a->f->text_bytes += (int64_t)name.len;
	if (!a->ctx->translate)
		return;
	d = delta(a, CHAT_DELTA_TOOL_CALL);
	d->index = index;
	d->name = name;
	if (!json_string(json_get(call, "id"), &d->id) || d->id.len == 0)
		d->id = a->choice == 0 ? arena_printf(a->ctx->mem, "call_%.*s_%lld",
						      STR_FMT(a->ctx->id), (long long)index)
				       : arena_printf(a->ctx->mem, "call_%.*s_%lld_%lld",
						      STR_FMT(a->ctx->id), (long long)a->choice,
						      (long long)index);
	if (seal.len > 0)
		d->opaque = (struct chat_opaque){.value = seal, .dialect = STR("gemini")};
}

static void arguments(const struct at *a, int64_t index, struct str text)
{
	struct chat_delta *d = delta(a, CHAT_DELTA_TOOL_ARGUMENTS);

	d->index = index;
	d->text = text;
}

static enum rc pieces_end(const struct at *a)
{
	AUTO(buf) struct buf out = BUF_INIT(GEMINI_JSON_MAX);
	void *p;

	if (!a->r->choice[a->choice].pieces)
		return RC_OK;
	a->r->choice[a->choice].pieces = false;
	if (!a->ctx->translate)
		return RC_OK;
	TRY(gemini_args_write(&a->r->choice[a->choice].args, &out));
	TRY(arena_try_alloc(a->ctx->mem, out.len, &p));
	memcpy(p, out.ptr, out.len);
	arguments(a, a->r->choice[a->choice].piece_index, str_of(p, out.len));
	return RC_OK;
}

static enum rc pieces_add(const struct at *a, const struct json *partial)
{
	struct json_iter it = json_iter(json_type(partial) == JSON_ARRAY ? partial : NULL);
	struct json *one;
	struct str s;

	a->f->content = true;
	while (json_next(&it, NULL, &one)) {
		if (json_string(json_get(one, "stringValue"), &s))
			a->f->text_bytes += (int64_t)s.len;
		if (a->ctx->translate)
			TRY(gemini_args_add(a->ctx->keep, &a->r->choice[a->choice].args, one));
	}
	return RC_OK;
}

/* A call is whole, or begins ("willContinue"), goes on (no name), or ends (nothing in it). */
static enum rc read_call(const struct at *a, const struct json *call, const struct json *part)
{
	const struct json *args = json_get(call, "args"), *partial = json_get(call, "partialArgs");
	struct str name = STR(""), text;
	bool goes_on = false;

	(void)json_string(json_get(call, "name"), &name);
	(void)json_bool(json_get(call, "willContinue"), &goes_on);
	if (name.len > 0) {
		TRY(pieces_end(a)); /* its end part is sometimes missing */
		if (a->r->choice[a->choice].calls == CHAT_CALLS_MAX)
			return RC_PROTOCOL;
		call_begin(a, call, part);
		if (goes_on || partial) {
			a->r->choice[a->choice].pieces = true;
			a->r->choice[a->choice].piece_index = a->r->choice[a->choice].calls - 1;
			a->r->choice[a->choice].args = (struct gemini_args){0};
		}
	} else if (!a->r->choice[a->choice].pieces) {
		return RC_OK; /* the end of nothing */
	}
	if (partial)
		TRY(pieces_add(a, partial));
	if (a->r->choice[a->choice].pieces)
		return goes_on ? RC_OK : pieces_end(a);
	text = STR("{}");
	if (!json_is_null(args))
		TRY(gemini_json_text(a->ctx->mem, args, &text));
	a->f->text_bytes += (int64_t)text.len;
	if (a->ctx->translate)
		arguments(a, a->r->choice[a->choice].calls - 1, text);
	return RC_OK;
}

static enum rc read_part(const struct at *a, const struct json *part)
{
	const struct json *call = json_get(part, "functionCall");
	const struct json *blob = json_get(part, "inlineData");
	bool thought = false;

	if (!json_is_null(call))
		return read_call(a, call, part);
	/* Code that the vendor ran and what came of it: for who asked for it, and that is nobody else's caller. */
	if (json_get(part, "executableCode") || json_get(part, "codeExecutionResult"))
		a->f->content = true;
	if (!json_is_null(blob)) {
		(void)json_bool(json_get(part, "thought"), &thought);
		a->f->content = true;
		if (a->ctx->translate && !thought) {
			struct chat_delta *d;

			thought_end(a, STR_NULL);
			d = delta(a, CHAT_DELTA_MEDIA);
			d->media.mime = STR("");
			(void)json_string(json_get(blob, "mimeType"), &d->media.mime);
			d->media.data = STR("");
			(void)json_string(json_get(blob, "data"), &d->media.data);
		}
	}
	read_text(a, part);
	return RC_OK;
}

/* ---- sources --------------------------------------------------------------------------------------------------- */

static uint64_t mark_of(struct str url, struct str title)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a: told apart, nothing more */

	for (size_t i = 0; i < url.len; i++)
		h = (h ^ (uint8_t)url.ptr[i]) * UINT64_C(1099511628211);
	for (size_t i = 0; i < title.len; i++)
		h = (h ^ (uint8_t)title.ptr[i]) * UINT64_C(1099511628211);
	return h;
}

/* Sources repeat from chunk to chunk. */
static void cite(const struct at *a, struct str url, struct str title, struct str text)
{
	const uint64_t mark = mark_of(url, title);
	struct reader *r = a->r;
	struct chat_delta *d;

	if (url.len == 0 || r->cited_count == CITATIONS_MAX)
		return;
	for (size_t i = 0; i < r->cited_count; i++)
		if (r->cited[i] == mark)
			return;
	r->cited[r->cited_count++] = mark;
	d = delta(a, CHAT_DELTA_CITATION);
	d->media.url = url;
	d->media.name = title;
	d->text = text;
}

static struct str text_in(const struct json *of, const char *key)
{
	struct str s = STR("");

	(void)json_string(json_get(of, key), &s);
	return s;
}

/* The words that rest on chunk `i`: of the first support that names it. */
static struct str supported(const struct json *grounding, int64_t i)
{
	struct json_iter it = json_iter(json_get(grounding, "groundingSupports")), indices;
	struct json *support, *index;
	int64_t n;

	while (json_next(&it, NULL, &support)) {
		indices = json_iter(json_get(support, "groundingChunkIndices"));
		while (json_next(&indices, NULL, &index))
			if (json_int(index, &n) && n == i)
				return text_in(json_get(support, "segment"), "text");
	}
	return STR("");
}

static void read_sources(const struct at *a, const struct json *candidate)
{
	const struct json *grounding = json_get(candidate, "groundingMetadata");
	const struct json *citations = json_get(candidate, "citationMetadata");
	struct json_iter it = json_iter(json_get(grounding, "groundingChunks"));
	struct json *one;
	const struct json *of;

	for (int64_t i = 0; i < CITATIONS_MAX && json_next(&it, NULL, &one); i++) {
		of = json_get(one, "web");
		if (!of)
			of = json_get(one, "retrievedContext");
		if (!of)
			of = json_get(one, "maps");
		cite(a, text_in(of, "uri"), text_in(of, "title"), supported(grounding, i));
	}
	of = json_get(citations, "citations");
	it = json_iter(of ? of : json_get(citations, "citationSources"));
	while (json_next(&it, NULL, &one))
		cite(a, text_in(one, "uri"), text_in(one, "title"), STR(""));
}

/* Searches stand in no usage. From generation 3 on each is paid for; before, and at an alias as prices.json has it, the
 * prompt that was grounded. */
static void read_searches(const struct at *a, const struct json *candidate)
{
	const struct json *grounding = json_get(candidate, "groundingMetadata");
	struct json_iter it = json_iter(json_get(grounding, "webSearchQueries"));
	struct reader *r = a->r;
	struct json *one;
	struct str query;

	r->grounded |= json_len(json_get(grounding, "webSearchQueries")) > 0;
	while (json_next(&it, NULL, &one)) {
		uint64_t mark;
		size_t i = 0;

		if (!json_string(one, &query) || query.len == 0 ||
		    r->searched_count == SEARCHES_MAX)
			continue;
		mark = mark_of(query, STR(""));
		while (i < r->searched_count && r->searched[i] != mark)
			i++;
		if (i == r->searched_count)
			r->searched[r->searched_count++] = mark;
	}
}

static void read_usage(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	struct reader *r = reader_of(ctx);
	const bool each = ctx->target && gemini_model_of(ctx->target->model).v3 &&
			  !str_ends(ctx->target->model, STR("-latest"));
	const int64_t n = each ? (int64_t)r->searched_count : r->grounded;

	gemini_usage_read(json_get(root, "usageMetadata"), &f->usage);
	if (f->usage.present)
		r->usage = f->usage;
	else if (r->usage.present && r->usage.n[USAGE_searches] != n)
		f->usage = r->usage; /* stated before, and searched since */
	if (!f->usage.present)
		return;
	f->usage.n[USAGE_searches] = r->usage.n[USAGE_searches] = n;
}

/* ---- finishes ---------------------------------------------------------------------------------------------------- */

static const struct {
	const char *reason;
	enum finish finish;
} finishes[] = {
	{"STOP", FINISH_STOP},
	{"MAX_TOKENS", FINISH_LENGTH},
	{"SAFETY", FINISH_CONTENT_FILTER},
	{"RECITATION", FINISH_CONTENT_FILTER},
	{"BLOCKLIST", FINISH_CONTENT_FILTER},
	{"PROHIBITED_CONTENT", FINISH_CONTENT_FILTER},
	{"SPII", FINISH_CONTENT_FILTER},
	{"IMAGE_SAFETY", FINISH_CONTENT_FILTER},
	{"IMAGE_PROHIBITED_CONTENT", FINISH_CONTENT_FILTER},
	{"IMAGE_RECITATION", FINISH_CONTENT_FILTER},
	{"FINISH_REASON_UNSPECIFIED", FINISH_NONE},
	{"", FINISH_NONE},
};

static enum finish finish_of(struct str reason)
{
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++)
		if (str_is(reason, finishes[i].reason))
			return finishes[i].finish;
	return FINISH_OTHER;
}

static void finish(const struct at *a, enum finish how)
{
	a->r->choice[a->choice].finished = true;
	a->f->finished++;
	a->f->finish = how;
	if (a->ctx->translate)
		delta(a, CHAT_DELTA_FINISH)->finish = how;
}

static void failed(const struct at *a, struct str reason)
{
	a->f->error = ERROR_server_error;
	(void)err_set(&a->f->err, RC_OK, error_class_name(ERROR_server_error),
		      "The model ended without an answer.");
	err_detail(&a->f->err, "finishReason %.*s", STR_FMT(str_slice(reason, 0, 64)));
}

/* A call that the model got wrong, and its kin: nothing came, so another try may help; else it is a stop. */
static enum rc read_finish(const struct at *a, const struct json *candidate)
{
	struct str reason = text_in(candidate, "finishReason");
	const struct str words = text_in(candidate, "finishMessage");
	enum finish how = finish_of(reason);

	if (how == FINISH_NONE || a->r->choice[a->choice].finished)
		return RC_OK;
	TRY(pieces_end(a));
	thought_end(a, STR_NULL);
	if (how == FINISH_OTHER && !a->r->content && !a->f->content) {
		failed(a, reason);
		return RC_OK;
	}
	if (how == FINISH_OTHER)
		how = FINISH_STOP;
	if (how == FINISH_STOP && a->r->choice[a->choice].calls > 0)
		how = FINISH_TOOL_CALLS;
	if (how == FINISH_CONTENT_FILTER && words.len > 0 && a->ctx->translate)
		delta(a, CHAT_DELTA_REFUSAL)->text = str_slice(words, 0, WORDS_MAX);
	finish(a, how);
	return RC_OK;
}

static enum rc read_candidate(struct dialect_ctx *ctx, const struct json *candidate,
			      struct facts *f)
{
	struct at a = {.ctx = ctx, .r = reader_of(ctx), .f = f};
	const struct json *parts = json_get(json_get(candidate, "content"), "parts");
	struct json_iter it = json_iter(json_type(parts) == JSON_ARRAY ? parts : NULL);
	struct json *part;

	if (json_type(candidate) != JSON_OBJECT)
		return RC_PROTOCOL;
	(void)json_int(json_get(candidate, "index"), &a.choice);
	if (a.choice < 0 || a.choice >= GEMINI_CHOICES_MAX)
		return RC_PROTOCOL;
	while (json_next(&it, NULL, &part))
		TRY(read_part(&a, part));
	read_searches(&a, candidate);
	if (ctx->translate)
		read_sources(&a, candidate);
	return read_finish(&a, candidate);
}

static int64_t choices_wanted(const struct dialect_ctx *ctx)
{
	const int64_t n = ctx->call ? ctx->call->choices : 1;

	return n < 1 ? 1 : n > GEMINI_CHOICES_MAX ? GEMINI_CHOICES_MAX : n;
}

/* A prompt that was blocked: no candidate, and none will come. */
static void read_block(struct dialect_ctx *ctx, const struct json *feedback, struct facts *f)
{
	const struct str reason = text_in(feedback, "blockReason");
	const struct str words = text_in(feedback, "blockReasonMessage");
	struct at a = {.ctx = ctx, .r = reader_of(ctx), .f = f};

	if (reason.len == 0 || str_is(reason, "BLOCKED_REASON_UNSPECIFIED"))
		return;
	f->content = true; /* a refusal is an answer: nobody else is asked the same */
	for (; a.choice < choices_wanted(ctx); a.choice++) {
		if (a.r->choice[a.choice].finished)
			continue;
		if (ctx->translate)
			delta(&a, CHAT_DELTA_REFUSAL)->text =
				words.len > 0
					? words
					: arena_printf(ctx->mem, "The prompt was blocked: %.*s.",
						       STR_FMT(str_slice(reason, 0, 64)));
		finish(&a, FINISH_CONTENT_FILTER);
	}
}

/* ---- an object, an event, an answer -------------------------------------------------------------------------------- */

static enum rc read_facts(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	const struct json *error = gemini_error_of(root), *candidates;
	struct json_iter it;
	struct json *candidate;

	if (error) {
		f->error = gemini_error_read(200, root, &f->err);
		ctx->saw_error = true;
		return RC_OK;
	}
	if (json_type(root) != JSON_OBJECT)
		return RC_PROTOCOL;
	candidates = json_get(root, "candidates");
	if (!json_is_null(candidates) && json_type(candidates) != JSON_ARRAY)
		return RC_PROTOCOL;
	(void)json_string(json_get(root, "modelVersion"), &f->model);
	(void)json_string(json_get(root, "responseId"), &f->id);
	it = json_iter(candidates);
	while (json_next(&it, NULL, &candidate))
		TRY(read_candidate(ctx, candidate, f));
	if (json_len(candidates) == 0)
		read_block(ctx, json_get(root, "promptFeedback"), f);
	read_usage(ctx, root, f);
	reader_of(ctx)->content |= f->content;
	ctx->finished_choices += f->finished;
	ctx->saw_error |= f->error != ERROR_none;
	f->ending = ctx->finished_choices >= choices_wanted(ctx);
	return f->deltas_lost ? RC_PROTOCOL : RC_OK;
}

enum rc gemini_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	/* an error that breaks a stream off comes bare, without "data:" */
	struct str data = str_trim(ev->comment ? ev->raw : ev->data);
	struct json *root;

	if (data.len > 0 && (!ev->comment || data.ptr[0] == '{' || data.ptr[0] == '[')) {
		if (json_parse(data, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
			return RC_PROTOCOL;
		TRY(read_facts(ctx, root, &f));
	}
	*ret = f;
	return RC_OK;
}

/* A whole answer that names no reason for an end has ended all the same. */
static void finish_all(struct dialect_ctx *ctx, const struct json *root, struct facts *f)
{
	struct json_iter it = json_iter(json_get(root, "candidates"));
	struct at a = {.ctx = ctx, .r = reader_of(ctx), .f = f};
	struct json *candidate;

	while (json_next(&it, NULL, &candidate)) {
		a.choice = 0;
		(void)json_int(json_get(candidate, "index"), &a.choice);
		if (a.r->choice[a.choice].finished)
			continue;
		thought_end(&a, STR_NULL);
		finish(&a, a.r->choice[a.choice].calls > 0 ? FINISH_TOOL_CALLS : FINISH_STOP);
	}
}

enum rc gemini_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
		return RC_PROTOCOL;
	TRY(read_facts(ctx, root, &f));
	if (f.error == ERROR_none && json_len(json_get(root, "candidates")) == 0 && f.finished == 0)
		return RC_PROTOCOL; /* neither an answer nor an error */
	if (f.error == ERROR_none)
		finish_all(ctx, root, &f);
	f.terminal = true;
	*ret = f;
	return RC_OK;
}

enum rc gemini_count_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret)
{
	struct facts f = {.usage = USAGE_NONE};
	struct json *root;

	if (json_parse(body, JSON_ALLOW_DUPLICATES, ctx->mem, &root, NULL) != RC_OK)
		return RC_PROTOCOL;
	if (gemini_error_of(root))
		f.error = gemini_error_read(200, root, &f.err);
	else if (!json_int(json_get(root, "totalTokens"), &f.counted) || f.counted < 0)
		return RC_PROTOCOL;
	if (f.counted > USAGE_UNITS_MAX)
		f.counted = USAGE_UNITS_MAX;
	f.terminal = true;
	*ret = f;
	return RC_OK;
}
