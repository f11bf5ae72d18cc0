/* routing/dialects/anthropic_request.c - what a caller of the Messages API asks, as far as routing and money are
 * concerned, and the same bytes on their way to a provider that speaks it, too.
 *
 * Read strictly, because money is held on it: model, max_tokens, the media in the turns, the tools. All else is none of
 * our business here and passes through: betas' fields must never be listed, or their next version would break. */
#include <assert.h>
#include "routing/dialects/anthropic_priv.h"

#define MODEL_BYTES_MAX	 256
#define MAX_OUTPUT_LIMIT INT64_C(1000000000)
/* What one inline image can cost whatever its bytes: as for the other dialects, whose models a call may end at. */
#define IMAGE_TOKENS_MAX 50000
#define EDITS_MAX	 4

/* --- a caller's request ------------------------------------------------------------------------- */

struct reading {
	struct call *c;
	struct arena *mem;
	struct err *err;
};

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

/* 0 fills the cache and answers nothing: the smallest answer there is bounds it. */
static enum rc read_max_tokens(const struct json *root, struct call *c, struct err *err)
{
	const struct json *v = json_get(root, "max_tokens");
	int64_t n;

	if (json_is_null(v))
		return bad(err, "max_tokens", "is required");
	if (!json_int(v, &n) || n < 0 || n > MAX_OUTPUT_LIMIT) {
		(void)bad(err, "max_tokens", "must be an integer that is not negative");
		err_hint(err, "An integer from 0 to %lld, without quotes or a fraction.",
			 (long long)MAX_OUTPUT_LIMIT);
		return RC_INVALID;
	}
	c->max_output = n > 0 ? n : 1;
	return RC_OK;
}

static enum rc state_add(struct reading *r, const char *kind, struct str id, const char *field)
{
	return call_state_add(r->c, r->mem, kind, field, id) == RC_OK
		       ? RC_OK
		       : bad(r->err, field, "names too many files: 64 are taken");
}

static enum rc read_file(struct reading *r, const struct json *of)
{
	struct str id;

	if (!json_string(json_get(of, "file_id"), &id) || id.len == 0)
		return bad(r->err, "messages", "has a file without a file_id");
	r->c->media_by_url = true;
	return state_add(r, "file", id, "messages");
}

static enum rc read_content(struct reading *r, const struct json *content, const char *field);

/* `source` of an image or a document. */
static enum rc read_source(struct reading *r, const struct json *source, bool is_image)
{
	struct str type, text;

	if (!json_string(json_get(source, "type"), &type))
		return bad(r->err, "messages", "has an image or document without a typed source");
	if (str_is(type, "text")) {
		if (json_string(json_get(source, "data"), &text))
			r->c->text_bytes += text.len;
		return RC_OK;
	}
	if (str_is(type, "content"))
		return read_content(r, json_get(source, "content"), "messages");
	r->c->needs |= CAP_VISION;
	if (str_is(type, "file"))
		return read_file(r, source);
	/* a document's pages are read as text and pictures: a compressed page can be smaller than its tokens */
	if (is_image && str_is(type, "base64"))
		r->c->media_tokens_max += IMAGE_TOKENS_MAX;
	else
		r->c->media_by_url = true;
	return RC_OK;
}

static enum rc read_block(struct reading *r, const struct json *b, const char *field)
{
	struct str type, text;

	if (json_type(b) != JSON_OBJECT || !json_string(json_get(b, "type"), &type))
		return bad(r->err, field, "has a block that is no object with a type");
	if (str_is(type, "text")) {
		if (!json_string(json_get(b, "text"), &text))
			return bad(r->err, field, "has a text block without text");
		r->c->text_bytes += text.len;
		return RC_OK;
	}
	if (str_is(type, "image") || str_is(type, "document"))
		return read_source(r, json_get(b, "source"), str_is(type, "image"));
	if (str_is(type, "tool_result") || str_is(type, "search_result"))
		return read_content(r, json_get(b, "content"), field);
	if (str_is(type, "container_upload"))
		return read_file(r, b);
	if (str_is(type, "web_fetch_tool_result"))
		r->c->media_by_url = true; /* the page that was fetched, or its pages */
	return RC_OK;
}

/* A string, or blocks; JSON's own depth bounds how deep results hold documents. */
static enum rc read_content(struct reading *r, const struct json *content, const char *field)
{
	struct json_iter it;
	struct json *b;
	struct str text;

	if (json_is_null(content))
		return RC_OK;
	if (json_string(content, &text)) {
		r->c->text_bytes += text.len;
		return RC_OK;
	}
	if (json_type(content) != JSON_ARRAY)
		return bad(r->err, field, "has a content that is neither string nor array");
	it = json_iter(content);
	while (json_next(&it, NULL, &b))
		TRY(read_block(r, b, field));
	return RC_OK;
}

static enum rc read_messages(struct reading *r, const struct json *root)
{
	const struct json *messages = json_get(root, "messages");
	struct json_iter it = json_iter(messages);
	struct json *m;
	struct str role;

	if (json_is_null(messages))
		return bad(r->err, "messages", "is required");
	if (json_type(messages) != JSON_ARRAY || json_len(messages) == 0)
		return bad(r->err, "messages", "must be an array of at least one message");
	while (json_next(&it, NULL, &m)) {
		if (json_type(m) != JSON_OBJECT || !json_string(json_get(m, "role"), &role))
			return bad(r->err, "messages",
				   "has an entry that is no object with a role");
		if (json_is_null(json_get(m, "content")))
			return bad(r->err, "messages", "has an entry without content");
		TRY(read_content(r, json_get(m, "content"), "messages"));
	}
	return RC_OK;
}

/* Tools that the caller runs itself; all others with a type of their own the provider runs. */
static bool is_own_tool(struct str type)
{
	static const char *const own[] = {"custom",    "bash_",	   "text_editor_",
					  "computer_", "browser_", "memory_"};

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (str_starts(type, str_from(own[i])))
			return true;
	return false;
}

static enum rc read_tools(struct reading *r, const struct json *root)
{
	const struct json *tools = json_get(root, "tools");
	struct json_iter it = json_iter(tools);
	struct json *tool;
	struct str type;

	if (!json_is_null(tools) && json_type(tools) != JSON_ARRAY)
		return bad(r->err, "tools", "must be an array");
	while (json_next(&it, NULL, &tool)) {
		if (json_type(tool) != JSON_OBJECT)
			return bad(r->err, "tools", "has an entry that is no object");
		r->c->needs |= CAP_TOOLS;
		/* what a search or a fetched page brings is input, too */
		if (json_string(json_get(tool, "type"), &type) && !is_own_tool(type)) {
			r->c->media_by_url = true;
			r->c->beyond_hold = "tools";
		}
	}
	if (json_len(json_get(root, "mcp_servers")) > 0) {
		r->c->needs |= CAP_TOOLS;
		r->c->media_by_url = true;
		r->c->beyond_hold = "mcp_servers";
	}
	return RC_OK;
}

/* Beta: another model answers, or the same at a multiple of its price. */
static void read_dearer(struct call *c, const struct json *root)
{
	struct str s;

	if (json_len(json_get(root, "fallbacks")) > 0)
		c->beyond_hold = "fallbacks";
	if (json_string(json_get(root, "speed"), &s) && !str_is(s, "standard"))
		c->beyond_hold = "speed";
	if (json_string(json_get(root, "inference_geo"), &s) && !str_is(s, "global"))
		c->beyond_hold = "inference_geo";
}

static enum rc read_format(struct reading *r, const struct json *root)
{
	const struct json *config = json_get(root, "output_config");
	const struct json *older = json_get(root, "output_format");

	if (!json_is_null(config) && json_type(config) != JSON_OBJECT)
		return bad(r->err, "output_config", "must be an object");
	if (!json_is_null(older) && json_type(older) != JSON_OBJECT)
		return bad(r->err, "output_format", "must be an object");
	if (!json_is_null(older) || !json_is_null(json_get(config, "format")))
		r->c->needs |= CAP_JSON;
	return RC_OK;
}

static enum rc read_container(struct reading *r, const struct json *root)
{
	const struct json *v = json_get(root, "container");
	struct str id;

	if (json_is_null(v) || (json_type(v) == JSON_OBJECT && json_is_null(json_get(v, "id"))))
		return RC_OK;
	if ((!json_string(v, &id) && !json_string(json_get(v, "id"), &id)) || id.len == 0)
		return bad(r->err, "container", "must be an id, or an object with one");
	return state_add(r, "container", id, "container");
}

static enum rc read_request(const struct dialect *d, struct str body, struct arena *mem,
			    struct call *ret, struct err *err)
{
	struct call c = {.dialect = d,
			 .operation = d->operation,
			 .choices = 1,
			 .needs = CAP_TEXT,
			 .body_bytes = body.len,
			 .body_text = body};
	struct reading r = {&c, mem, err};
	const struct json *stream;

	TRY(json_parse_held(body, JSON_NO_DUPLICATES, JSON_BORROW_MIN, mem, &c.body, err));
	if (json_type(c.body) != JSON_OBJECT)
		return err_set(err, RC_INVALID, "invalid_request_error",
			       "The body must be a JSON object.");
	TRY(read_model(c.body, &c, err));
	if (d->operation == OPERATION_chat) {
		TRY(read_max_tokens(c.body, &c, err));
		stream = json_get(c.body, "stream");
		if (!json_is_null(stream) && !json_bool(stream, &c.stream))
			return bad(err, "stream", "must be true or false");
	}
	TRY(read_content(&r, json_get(c.body, "system"), "system"));
	TRY(read_messages(&r, c.body));
	TRY(read_tools(&r, c.body));
	read_dearer(&c, c.body);
	TRY(read_format(&r, c.body));
	TRY(read_container(&r, c.body));
	*ret = c;
	return RC_OK;
}

enum rc anthropic_decode_messages(const struct call_head *head, struct str body, struct arena *mem,
				  struct call *ret, struct err *err)
{
	(void)head; /* all of it is in the body */
	return read_request(&dialect_anthropic_messages, body, mem, ret, err);
}

enum rc anthropic_decode_count(const struct call_head *head, struct str body, struct arena *mem,
			       struct call *ret, struct err *err)
{
	(void)head;
	return read_request(&dialect_anthropic_count_tokens, body, mem, ret, err);
}

/* --- the same bytes to a provider ------------------------------------------------------------------- */

enum seal { SEAL_OWN, SEAL_UNWRAPPED, SEAL_FOREIGN };

/* Whose state is in this block? SEAL_UNWRAPPED: this target's, in our wrapping: `ret` is what it made. */
static enum seal seal_of(const struct json *block, const char *key, const struct dialect_target *t,
			 struct arena *mem, struct str *ret)
{
	struct chat_opaque o = {0};
	struct str text;

	if (!json_string(json_get(block, key), &text) || !str_starts(text, STR(CHAT_OPAQUE_MARK)))
		return SEAL_OWN;
	if (!chat_opaque_unwrap(mem, text, &o) || !chat_opaque_fits(&o, t) || o.value.len == 0)
		return SEAL_FOREIGN;
	*ret = o.value;
	return SEAL_UNWRAPPED;
}

static const char *seal_key(const struct json *block)
{
	struct str type = STR_NULL;

	(void)json_string(json_get(block, "type"), &type);
	if (str_is(type, "thinking"))
		return "signature";
	return str_is(type, "redacted_thinking") ? "data" : NULL;
}

struct stripping {
	const struct dialect_target *t;
	struct arena *mem;
	struct json_out o;
	bool lost; /* reasoning of somebody else was taken out */
	bool open; /* ... of the turn that called the tools whose results come now */
};

static void put_edited(struct stripping *x, const struct json *of, const char *key, struct str raw)
{
	AUTO(buf) struct buf whole = BUF_INIT(x->o.buf->bytes_max);
	const struct json_edit edit = {key, raw};

	if (x->o.rc == RC_OK)
		x->o.rc = json_write_edited(of, &edit, 1, &whole);
	json_put_raw(&x->o, NULL, buf_str(&whole));
}

/* A text without the citations that we wrote for another provider's sources: this one could not read them back. */
static void put_text(struct stripping *x, const struct json *block)
{
	AUTO(buf) struct buf list = BUF_INIT(x->o.buf->bytes_max);
	struct json_iter it = json_iter(json_get(block, "citations"));
	struct json_out o;
	struct json *cite;
	struct str value;
	bool any = false;

	json_out_begin(&o, &list);
	json_arr(&o, NULL);
	while (json_next(&it, NULL, &cite)) {
		if (seal_of(cite, "encrypted_index", x->t, x->mem, &value) != SEAL_OWN)
			continue;
		json_put_value(&o, NULL, cite);
		any = true;
	}
	json_arr_end(&o);
	if (x->o.rc == RC_OK)
		x->o.rc = json_out_end(&o);
	put_edited(x, block, "citations", any ? buf_str(&list) : STR_NULL);
}

static bool cites_others(const struct stripping *x, const struct json *block)
{
	struct json_iter it = json_iter(json_get(block, "citations"));
	struct json *cite;
	struct str value;

	while (json_next(&it, NULL, &cite))
		if (seal_of(cite, "encrypted_index", x->t, x->mem, &value) != SEAL_OWN)
			return true;
	return false;
}

static void put_sealed(struct stripping *x, const struct json *block, const char *key,
		       struct str value)
{
	AUTO(buf) struct buf raw = BUF_INIT(x->o.buf->bytes_max);
	struct json_out o;

	json_out_begin(&o, &raw);
	json_put_str(&o, NULL, value);
	if (x->o.rc == RC_OK)
		x->o.rc = json_out_end(&o);
	put_edited(x, block, key, buf_str(&raw));
}

/* Blocks that may go there; how many of them were written. */
static size_t put_blocks(struct stripping *x, const struct json *content)
{
	struct json_iter it = json_iter(content);
	struct json *b;
	struct str value;
	size_t n = 0;

	while (json_next(&it, NULL, &b)) {
		const char *key = seal_key(b);
		const enum seal seal = key ? seal_of(b, key, x->t, x->mem, &value) : SEAL_OWN;

		if (seal == SEAL_FOREIGN || (key && x->t->stateless)) {
			x->lost = true;
			continue;
		}
		n++;
		if (seal == SEAL_UNWRAPPED)
			put_sealed(x, b, key, value);
		else if (cites_others(x, b))
			put_text(x, b);
		else
			json_put_value(&x->o, NULL, b);
	}
	return n;
}

static bool has_block(const struct json *content, const char *type)
{
	struct json_iter it = json_iter(content);
	struct json *b;
	struct str s;

	while (json_next(&it, NULL, &b))
		if (json_string(json_get(b, "type"), &s) && str_is(s, type))
			return true;
	return false;
}

/* A turn that was nothing but such state goes whole: the server merges its neighbours. */
static void put_message(struct stripping *x, const struct json *m)
{
	AUTO(buf) struct buf blocks = BUF_INIT(x->o.buf->bytes_max);
	const struct json *content = json_get(m, "content");
	struct stripping inner = {.t = x->t, .mem = x->mem};
	size_t n;

	if (json_type(content) != JSON_ARRAY) {
		json_put_value(&x->o, NULL, m);
		return;
	}
	json_out_begin(&inner.o, &blocks);
	json_arr(&inner.o, NULL);
	n = put_blocks(&inner, content);
	json_arr_end(&inner.o);
	if (has_block(content, "tool_use"))
		x->open = inner.lost;
	x->lost |= inner.lost;
	if (x->o.rc == RC_OK)
		x->o.rc = json_out_end(&inner.o);
	if (n == 0 && inner.lost)
		return;
	put_edited(x, m, "content", buf_str(&blocks));
}

/* Were tools called since the caller's last own words, whose results come now, and nothing thought? So it is where another
 * provider answered that turn, or the caller left its thinking out. */
static bool turn_lacks_thinking(const struct json *messages)
{
	struct json_iter it = json_iter(messages);
	bool called = false, thought = false, results = false;
	const struct json *content;
	struct json *m;
	struct str role;

	while (json_next(&it, NULL, &m)) {
		content = json_get(m, "content");
		results = has_block(content, "tool_result");
		if (json_string(json_get(m, "role"), &role) && str_is(role, "assistant")) {
			called |= has_block(content, "tool_use");
			thought |= has_block(content, "thinking") ||
				   has_block(content, "redacted_thinking");
		} else if (!results) {
			called = thought = false;
		}
	}
	return results && called && !thought;
}

/* A budget of thinking wants the turn of the open calls to begin with its own thinking. */
static bool is_budgeted(const struct json *root)
{
	struct str type;

	return json_string(json_get(json_get(root, "thinking"), "type"), &type) &&
	       str_is(type, "enabled");
}

/* `messages` without what another provider made; what it cost is named. */
static enum rc strip_seals(const struct call *c, struct stripping *x, struct buf *messages,
			   struct outgoing *out)
{
	struct json_iter it = json_iter(json_get(c->body, "messages"));
	struct json *m, *last = NULL;

	json_out_begin(&x->o, messages);
	json_arr(&x->o, NULL);
	while (json_next(&it, NULL, &m)) {
		put_message(x, m);
		last = m;
	}
	json_arr_end(&x->o);
	x->open = x->open && has_block(json_get(last, "content"), "tool_result");
	if (x->lost)
		chat_lose(&out->losses, STR("messages.thinking"));
	return json_out_end(&x->o);
}

static enum rc quoted(struct str s, struct arena *mem, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(MODEL_BYTES_MAX * 8);

	TRY(buf_append_char(&out, '"'));
	TRY(json_escape(s, &out));
	TRY(buf_append_char(&out, '"'));
	*ret = arena_str(mem, buf_str(&out));
	return RC_OK;
}

enum rc anthropic_encode_request(const struct call *c, const struct dialect_target *t,
				 struct arena *mem, struct outgoing *out, struct err *err)
{
	AUTO(buf) struct buf messages = BUF_INIT(out->body->bytes_max);
	const struct dialect_target maker = anthropic_maker(t);
	struct stripping x = {.t = &maker, .mem = mem};
	struct json_edit edits[EDITS_MAX];
	struct str raw;
	size_t n = 0;

	(void)err;
	if (!str_eq(c->model, t->model)) {
		TRY(quoted(t->model, mem, &raw));
		edits[n++] = (struct json_edit){"model", raw};
	}
	if (t->stateless || str_find_str(c->body_text, STR(CHAT_OPAQUE_MARK)) >= 0) {
		TRY(strip_seals(c, &x, &messages, out));
		edits[n++] = (struct json_edit){"messages", buf_str(&messages)};
	}
	if (is_budgeted(c->body) &&
	    (x.open || turn_lacks_thinking(json_get(c->body, "messages")))) {
		edits[n++] = (struct json_edit){"thinking", STR("{\"type\":\"disabled\"}")};
		chat_lose(&out->losses, STR("thinking"));
	}
	assert(n <= EDITS_MAX);
	return outgoing_pass(c, edits, n, mem, out);
}

bool anthropic_refuses_state(const struct err *said)
{
	const struct str words = str_from(said->message);

	return str_find_str(words, STR("signature")) >= 0 &&
	       str_find_str(words, STR("thinking")) >= 0;
}
