/* server/base/json.c - strict JSON over yyjson.
 *
 * Numbers are kept as their literals: what is passed on is what came in. Must never recurse on input,
 * and must never hand a text to the parser whose depth was not checked.
 *
 * A `struct json` is a yyjson_val under another name. yyjson lays the values of a document out in one
 * array in the order of the text (its own iterators stand on that), so the checks that follow the
 * parse walk the array and need no stack. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <yyjson.h>

#include "server/base/hash.h"
#include "server/base/json.h"

#define JSON_QUADRATIC_MAX 16	/* up to so many members, comparing pairs beats a table */
#define JSON_REST_BYTES	   1024 /* behind a long string mostly little comes */

static yyjson_val *val(const struct json *v)
{
	return (yyjson_val *)(uintptr_t)v;
}

static struct json *json(const yyjson_val *v)
{
	return (struct json *)(uintptr_t)v;
}

/* --- reading ------------------------------------------------------------------------------------- */

/* A long string of the text, which the parser is spared: it would make room for as many values as so many bytes
 * might hold. */
struct cut {
	size_t from, len; /* what is between its quotes */
	size_t nth;	  /* of the text's strings */
	bool plain;	  /* it says what stands there */
};

struct cuts {
	size_t count, borrow_min;
	struct cut at[JSON_BORROWS_MAX];
};

/* `p` is behind the opening quote. At the closing one, or at `end`. */
static const char *string_end(const char *p, const char *end, bool *escaped)
{
	const char *quote = NULL, *escape;

	*escaped = false;
	while (p < end) {
		/* most strings are short, and escapes come in flocks: there a call costs more than it skips */
		for (int i = 0; i < 16 && *p != '"' && *p != '\\'; i++)
			if (++p == end)
				return end;
		if (*p == '"')
			return p;
		if (!quote || quote < p)
			quote = memchr(p, '"', (size_t)(end - p));
		if (!quote)
			quote = end;
		escape = memchr(p, '\\', (size_t)(quote - p));
		if (!escape)
			return quote;
		*escaped = true;
		p = end - escape > 2 ? escape + 2 : end;
	}
	return end;
}

/* In blocks of a fixed size, which the compiler turns into vectors. Signed, so that beyond ASCII is below ' '. */
static bool is_plain(struct str s)
{
	size_t i = 0;

	for (; i + 64 <= s.len; i += 64) {
		unsigned char bad = 0;

		for (size_t j = 0; j < 64; j++)
			bad |= (unsigned char)((signed char)s.ptr[i + j] < ' ');
		if (bad)
			return false;
	}
	while (i < s.len && (signed char)s.ptr[i] >= ' ')
		i++;
	return i == s.len;
}

static void cut_add(struct cuts *cuts, struct str text, struct cut cut)
{
	if (cuts->count == JSON_BORROWS_MAX)
		return;
	cut.plain = cut.plain && is_plain(str_slice(text, cut.from, cut.from + cut.len));
	cuts->at[cuts->count++] = cut;
}

/* Is it no deeper than the cap? `cuts` gets its long strings; NULL: not asked. */
static enum rc check_depth(struct str text, struct cuts *cuts, struct err *err)
{
	const char *end = text.ptr + text.len;
	size_t depth = 0, strings = 0;

	for (const char *p = text.ptr; p < end; p++) {
		if (*p == '"') {
			const char *from = p + 1;
			bool escaped;

			p = string_end(from, end, &escaped);
			if (cuts && p < end && (size_t)(p - from) >= cuts->borrow_min)
				cut_add(cuts, text,
					(struct cut){.from = (size_t)(from - text.ptr),
						     .len = (size_t)(p - from),
						     .nth = strings,
						     .plain = !escaped});
			strings++;
		} else if (*p == '{' || *p == '[') {
			if (++depth > JSON_DEPTH_MAX)
				return err_set(
					err, RC_INVALID, "invalid_json",
					"invalid JSON: nested deeper than %d levels at byte %zu",
					JSON_DEPTH_MAX, (size_t)(p - text.ptr));
		} else if ((*p == '}' || *p == ']') && depth) {
			depth--;
		}
	}
	return RC_OK;
}

static void *alc_malloc(void *ctx, size_t size)
{
	void *ptr;

	return arena_try_alloc(ctx, size, &ptr) == RC_OK ? ptr : NULL;
}

static void *alc_realloc(void *ctx, void *ptr, size_t size_old, size_t size)
{
	void *fresh;

	return arena_try_resize(ctx, ptr, size_old, size, &fresh) == RC_OK ? fresh : NULL;
}

static void alc_free(void *ctx, void *ptr)
{
	(void)ctx; /* goes with the arena */
	(void)ptr;
}

static struct str literal(const yyjson_val *v)
{
	return str_of(unsafe_yyjson_get_raw(val(json(v))), unsafe_yyjson_get_len(val(json(v))));
}

/* A literal that is too large for a double is refused: readers differ in what they make of it. */
static bool number_is_finite(const yyjson_val *v)
{
	struct str s = literal(v);
	bool plain = true;

	for (size_t i = 0; i < s.len && plain; i++)
		plain = s.ptr[i] != 'e' && s.ptr[i] != 'E';
	if (plain && s.len < 300)
		return true;
	return isfinite(strtod(s.ptr, NULL)) != 0; /* yyjson puts a NUL behind every literal */
}

static bool pair_twice(yyjson_val *object, size_t n, yyjson_val **twice)
{
	yyjson_val *keys[JSON_QUADRATIC_MAX];
	yyjson_obj_iter it = yyjson_obj_iter_with(object);

	for (size_t i = 0; i < n; i++) {
		keys[i] = yyjson_obj_iter_next(&it);
		for (size_t j = 0; j < i; j++) {
			if (unsafe_yyjson_equals(keys[i], keys[j])) {
				*twice = keys[i];
				return true;
			}
		}
	}
	return false;
}

static bool table_twice(yyjson_val *object, size_t n, yyjson_val **twice)
{
	size_t slots_count = 64;
	yyjson_val **slots;
	yyjson_obj_iter it = yyjson_obj_iter_with(object);
	bool found = false;

	while (slots_count < n * 2)
		slots_count *= 2;
	slots = calloc(slots_count, sizeof(*slots));
	if (!slots)
		abort();
	while (n-- && !found) {
		yyjson_val *key = yyjson_obj_iter_next(&it);
		size_t at = hash64(str_of(yyjson_get_str(key), yyjson_get_len(key)));

		for (at &= slots_count - 1; slots[at] && !found; at = (at + 1) & (slots_count - 1))
			found = unsafe_yyjson_equals(slots[at], key);
		if (found)
			*twice = key;
		else
			slots[at] = key;
	}
	free(slots);
	return found;
}

static bool has_duplicate(yyjson_val *object, yyjson_val **twice)
{
	size_t n = unsafe_yyjson_get_len(object);

	if (n <= JSON_QUADRATIC_MAX)
		return pair_twice(object, n, twice);
	return table_twice(object, n, twice);
}

static enum rc check_values(yyjson_doc *doc, enum json_flags flags, struct err *err)
{
	yyjson_val *v = yyjson_doc_get_root(doc);
	yyjson_val *end = v + yyjson_doc_get_val_count(doc);
	yyjson_val *twice = NULL;

	for (; v < end; v++) {
		if (yyjson_is_raw(v) && !number_is_finite(v))
			return err_set(err, RC_INVALID, "invalid_json",
				       "invalid JSON: the number %.*s is out of range",
				       STR_FMT(str_slice(literal(v), 0, 40)));
		if (flags == JSON_NO_DUPLICATES && yyjson_is_obj(v) && has_duplicate(v, &twice))
			return err_set(
				err, RC_INVALID, "invalid_json",
				"invalid JSON: the key \"%.*s\" stands twice in one object",
				(int)(yyjson_get_len(twice) < 64 ? yyjson_get_len(twice) : 64),
				yyjson_get_str(twice));
	}
	return RC_OK;
}

/* The text without what was cut: empty strings stand there. Ours, so that the parser may write into it. */
static enum rc shorten(struct str text, const struct cuts *cuts, struct arena *mem, struct str *ret)
{
	size_t len = text.len, from = 0, at = 0;
	void *ptr;

	for (size_t i = 0; i < cuts->count; i++)
		len -= cuts->at[i].len;
	TRY(arena_try_alloc(mem, len + YYJSON_PADDING_SIZE, &ptr));
	for (size_t i = 0; i <= cuts->count; i++) {
		size_t to = i < cuts->count ? cuts->at[i].from : text.len;

		memcpy((char *)ptr + at, text.ptr + from, to - from);
		at += to - from;
		from = i < cuts->count ? to + cuts->at[i].len : to;
	}
	*ret = str_of(ptr, len);
	return RC_OK;
}

/* `text` has to be ours and padded with YYJSON_READ_INSITU; else it is only read: the cast drops a const that
 * yyjson keeps. */
static yyjson_doc *read_text(struct str text, yyjson_read_flag flags, struct arena *mem,
			     yyjson_read_err *why)
{
	yyjson_alc alc = {alc_malloc, alc_realloc, alc_free, mem};

	return yyjson_read_opts((char *)(uintptr_t)text.ptr, text.len,
				flags | YYJSON_READ_NUMBER_AS_RAW, &alc, why);
}

/* What a cut string says: where it stands or, with escapes or letters beyond ASCII, as the parser reads it. */
static enum rc cut_read(struct str text, const struct cut *cut, struct arena *mem, struct str *ret)
{
	yyjson_read_err why;
	yyjson_doc *doc;

	*ret = str_slice(text, cut->from, cut->from + cut->len);
	if (cut->plain)
		return RC_OK;
	doc = read_text(str_slice(text, cut->from - 1, cut->from + cut->len + 1), 0, mem, &why);
	return doc && json_string(json(yyjson_doc_get_root(doc)), ret) ? RC_OK : RC_INVALID;
}

/* The values are in the order of the text, so the nth string is the nth value that is one. */
static enum rc cuts_put(yyjson_doc *doc, struct str text, const struct cuts *cuts,
			struct arena *mem)
{
	yyjson_val *v = yyjson_doc_get_root(doc);
	size_t strings = 0;
	struct str s;

	for (size_t i = 0; i < cuts->count; v++) {
		if (!yyjson_is_str(v) || strings++ != cuts->at[i].nth)
			continue;
		assert(unsafe_yyjson_get_len(v) == 0);
		TRY(cut_read(text, &cuts->at[i++], mem, &s));
		v->uni.str = s.ptr;
		v->tag = YYJSON_TYPE_STR; /* no subtype: the writer looks for what to escape */
		unsafe_yyjson_set_len(v, s.len);
	}
	return RC_OK;
}

/* The text without its long strings, and then them. */
static enum rc parse_cut(struct str text, const struct cuts *cuts, struct arena *mem,
			 yyjson_doc **ret)
{
	yyjson_read_err why;
	struct str in;

	TRY(shorten(text, cuts, mem, &in));
	*ret = read_text(in, YYJSON_READ_INSITU, mem, &why);
	return *ret ? cuts_put(*ret, text, cuts, mem) : RC_INVALID;
}

static enum rc parse_whole(struct str text, struct arena *mem, yyjson_doc **ret, struct err *err)
{
	yyjson_read_err why;

	*ret = read_text(text, 0, mem, &why);
	if (*ret)
		return RC_OK;
	if (why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
		return err_set(err, RC_TOO_LARGE, "json_too_large",
			       "the JSON needs more memory than a request may use");
	return err_set(err, RC_INVALID, "invalid_json", "invalid JSON at byte %zu: %s", why.pos,
		       why.msg);
}

static enum rc parse(struct str text, enum json_flags flags, struct cuts *cuts, struct arena *mem,
		     struct json **ret, struct err *err)
{
	yyjson_doc *doc = NULL;

	if (text.len == 0)
		return err_set(err, RC_INVALID, "invalid_json", "invalid JSON: it is empty");
	TRY(check_depth(text, cuts, err));
	/* what fails in parts is parsed whole, for its words and place */
	if (!cuts || cuts->count == 0 || parse_cut(text, cuts, mem, &doc) != RC_OK)
		TRY(parse_whole(text, mem, &doc, err));
	TRY(check_values(doc, flags, err));
	*ret = json(yyjson_doc_get_root(doc));
	return RC_OK;
}

enum rc json_parse(struct str text, enum json_flags flags, struct arena *mem, struct json **ret,
		   struct err *err)
{
	return parse(text, flags, NULL, mem, ret, err);
}

enum rc json_parse_held(struct str text, enum json_flags flags, size_t borrow_min,
			struct arena *mem, struct json **ret, struct err *err)
{
	struct cuts *cuts;
	void *ptr;

	if (text.len <= borrow_min || arena_try_alloc(mem, sizeof *cuts, &ptr) != RC_OK)
		return parse(text, flags, NULL, mem, ret, err);
	cuts = ptr;
	cuts->borrow_min = borrow_min ? borrow_min : 1;
	return parse(text, flags, cuts, mem, ret, err);
}

enum json_type json_type(const struct json *v)
{
	int64_t n;

	switch (yyjson_get_type(val(v))) {
	case YYJSON_TYPE_BOOL:
		return JSON_BOOL;
	case YYJSON_TYPE_RAW:
		return json_int(v, &n) ? JSON_INT : JSON_REAL;
	case YYJSON_TYPE_STR:
		return JSON_STRING;
	case YYJSON_TYPE_ARR:
		return JSON_ARRAY;
	case YYJSON_TYPE_OBJ:
		return JSON_OBJECT;
	default:
		return JSON_NULL;
	}
}

const char *json_type_name(enum json_type t)
{
	static const char *const names[] = {"null",   "boolean", "integer", "number",
					    "string", "array",	 "object"};

	return (unsigned int)t < ARRAY_LEN(names) ? names[t] : "unknown";
}

struct json *json_get_s(const struct json *v, struct str key)
{
	return json(yyjson_obj_getn(val(v), key.ptr ? key.ptr : "", key.len));
}

struct json *json_get(const struct json *v, const char *key)
{
	return json_get_s(v, str_from(key));
}

bool json_is_null(const struct json *v)
{
	return !v || yyjson_is_null(val(v));
}

bool json_string(const struct json *v, struct str *ret)
{
	if (!yyjson_is_str(val(v)))
		return false;
	*ret = str_of(unsafe_yyjson_get_str(val(v)), unsafe_yyjson_get_len(val(v)));
	return true;
}

bool json_int(const struct json *v, int64_t *ret)
{
	return yyjson_is_raw(val(v)) && str_to_i64(literal(val(v)), ret) == RC_OK;
}

bool json_bool(const struct json *v, bool *ret)
{
	if (!yyjson_is_bool(val(v)))
		return false;
	*ret = unsafe_yyjson_get_bool(val(v));
	return true;
}

size_t json_len(const struct json *v)
{
	return yyjson_is_ctn(val(v)) ? unsafe_yyjson_get_len(val(v)) : 0;
}

struct json *json_at(const struct json *array, size_t i)
{
	return json(yyjson_arr_get(val(array), i));
}

struct json_iter json_iter(const struct json *v)
{
	struct json_iter it = {.of = v, .i = 0, .next = NULL};

	if (json_len(v))
		it.next = json(unsafe_yyjson_get_first(val(v)));
	return it;
}

bool json_next(struct json_iter *it, struct str *key, struct json **value)
{
	yyjson_val *at = val(it->next);

	if (it->i >= json_len(it->of))
		return false;
	if (yyjson_is_obj(val(it->of))) {
		if (key)
			*key = str_of(unsafe_yyjson_get_str(at), unsafe_yyjson_get_len(at));
		at++; /* a member's value follows its key */
	} else if (key) {
		*key = STR_NULL;
	}
	if (value)
		*value = json(at);
	it->i++;
	if (it->i < json_len(it->of)) /* behind the last one there may be no memory */
		it->next = json(unsafe_yyjson_get_next(at));
	return true;
}

/* --- writing ------------------------------------------------------------------------------------- */

static enum rc write_string(const yyjson_val *v, struct buf *out)
{
	struct str s = literal(v);

	if (s.len >= JSON_BORROW_MIN) /* else what follows it doubles the buffer */
		TRY(buf_reserve(out, s.len + JSON_REST_BYTES));
	TRY(buf_append_char(out, '"'));
	TRY(json_escape(s, out));
	return buf_append_char(out, '"');
}

/* A value without values in it. */
static enum rc write_leaf(yyjson_val *v, struct buf *out)
{
	switch (yyjson_get_type(v)) {
	case YYJSON_TYPE_STR:
		return write_string(v, out);
	case YYJSON_TYPE_RAW:
		return buf_append(out, literal(v));
	case YYJSON_TYPE_BOOL:
		return buf_append(out, unsafe_yyjson_get_bool(v) ? STR("true") : STR("false"));
	case YYJSON_TYPE_ARR:
		return buf_append(out, STR("[]"));
	case YYJSON_TYPE_OBJ:
		return buf_append(out, STR("{}"));
	default:
		return buf_append(out, STR("null"));
	}
}

/* In the order of the array, which is that of the text. */
static enum rc write_all(yyjson_val *v, struct buf *out)
{
	struct {
		size_t left;
		bool object;
	} open[JSON_DEPTH_MAX];
	size_t depth = 0;

	for (;; v++) {
		if (depth && open[depth - 1].object) {
			TRY(write_string(v++, out));
			TRY(buf_append_char(out, ':'));
		}
		if (yyjson_is_ctn(v) && unsafe_yyjson_get_len(v)) {
			assert(depth < JSON_DEPTH_MAX);
			open[depth].left = unsafe_yyjson_get_len(v);
			open[depth].object = yyjson_is_obj(v);
			TRY(buf_append_char(out, open[depth++].object ? '{' : '['));
			continue;
		}
		TRY(write_leaf(v, out));
		while (depth && --open[depth - 1].left == 0)
			TRY(buf_append_char(out, open[--depth].object ? '}' : ']'));
		if (!depth)
			return RC_OK;
		TRY(buf_append_char(out, ','));
	}
}

static bool has_long_string(yyjson_val *v)
{
	const yyjson_val *end = yyjson_is_ctn(v) ? unsafe_yyjson_get_next(v) : v + 1;

	for (; v < end; v++)
		if (yyjson_is_str(v) && unsafe_yyjson_get_len(v) >= JSON_BORROW_MIN)
			return true;
	return false;
}

/* The parser's own writer is twice as fast, but makes room for six times a long string, and then there is a copy. */
static enum rc write_small(const struct json *v, struct buf *out)
{
	size_t len = 0;
	char *text = yyjson_val_write_opts(val(v), YYJSON_WRITE_NOFLAG, NULL, &len, NULL);
	enum rc rc;

	if (!text)
		abort(); /* a parsed value is always writable: only memory can be short */
	rc = buf_append(out, str_of(text, len));
	free(text);
	return rc;
}

enum rc json_write(const struct json *v, struct buf *out)
{
	const size_t len = out->len;
	enum rc rc;

	if (!v)
		return buf_append(out, STR("null"));
	if (!has_long_string(val(v)))
		return write_small(v, out);
	rc = write_all(val(v), out);
	if (rc != RC_OK && out->ptr) { /* as for every append: all or nothing */
		out->len = len;
		out->ptr[len] = '\0';
	}
	return rc;
}

static size_t edit_of(const struct json_edit *edits, size_t n, struct str key)
{
	size_t i = 0;

	while (i < n && !str_is(key, edits[i].key))
		i++;
	return i;
}

static void write_edited(const struct json *object, const struct json_edit *edits, size_t n,
			 bool *written, struct json_out *o)
{
	struct json_iter it = json_iter(object);
	struct str key;
	struct json *value;

	while (json_next(&it, &key, &value)) {
		size_t i = edit_of(edits, n, key);

		if (i == n)
			json_put_value_s(o, key, value);
		else if (edits[i].raw_json.ptr && !written[i])
			json_put_raw(o, edits[i].key, edits[i].raw_json);
		if (i < n)
			written[i] = true;
	}
	for (size_t i = 0; i < n; i++)
		if (edits[i].raw_json.ptr && !written[i])
			json_put_raw(o, edits[i].key, edits[i].raw_json);
}

enum rc json_write_edited(const struct json *object, const struct json_edit *edits, size_t n,
			  struct buf *out)
{
	bool written[JSON_EDITS_MAX] = {false};
	size_t len = out->len;
	struct json_out o;
	enum rc rc;

	assert(n <= JSON_EDITS_MAX);
	if (!yyjson_is_obj(val(object)))
		return RC_INVALID;
	json_out_begin(&o, out);
	json_obj(&o, NULL);
	write_edited(object, edits, n, written, &o);
	json_obj_end(&o);
	rc = json_out_end(&o);
	if (rc != RC_OK && out->ptr) {
		out->len = len;
		out->ptr[len] = '\0';
	}
	return rc;
}

/* --- splicing ------------------------------------------------------------------------------------ */

struct splice {
	const char *open; /* behind the '{' */
	const char *done; /* all of the text before it is in the pieces, or left out */
	const char *last; /* behind the last member that stays; NULL: none yet */
	struct str *pieces;
	size_t count;
	bool full;
};

static void piece(struct splice *s, struct str bytes)
{
	if (bytes.len == 0)
		return;
	if (s->count == JSON_PIECES_MAX)
		s->full = true;
	else
		s->pieces[s->count++] = bytes;
}

static void piece_to(struct splice *s, const char *to)
{
	if (to <= s->done)
		return;
	piece(s, str_of(s->done, (size_t)(to - s->done)));
	s->done = to;
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

/* `p` is at a value of a text that was parsed; behind it. */
static const char *skip_value(const char *p, const char *end)
{
	size_t depth = 0;
	bool escaped;

	do {
		if (*p == '"') {
			p = string_end(p + 1, end, &escaped) + 1;
		} else if (*p == '{' || *p == '[') {
			depth++;
			p++;
		} else if (*p == '}' || *p == ']') {
			depth--;
			p++;
		} else if (depth) {
			p++;
		} else { /* a number or a word */
			while (p < end && !memchr(",]} \t\n\r", *p, 7))
				p++;
		}
	} while (depth && p < end);
	return p;
}

/* A member from its key to behind its value. If it goes, the comma before it goes too or, where none stays before it,
 * the one behind it. */
static void splice_member(struct splice *s, const char *key, const char *value, const char *behind,
			  const struct json_edit *edit, bool written)
{
	if (edit && (!edit->raw_json.ptr || written)) {
		piece_to(s, s->last ? s->last : s->open);
		s->done = behind;
		return;
	}
	if (!s->last && s->done > s->open)
		s->done = key;
	if (edit) {
		piece_to(s, value);
		piece(s, edit->raw_json.len ? edit->raw_json : STR("null"));
		s->done = behind;
	}
	s->last = behind;
}

static void splice_members(struct splice *s, const char *end, const struct json *object,
			   const struct json_edit *edits, size_t n, bool *written)
{
	struct json_iter it = json_iter(object);
	const char *p = s->open;
	struct str key;

	while (json_next(&it, &key, NULL)) {
		const char *from = skip_space(p);
		const char *colon =
			skip_space(skip_value(from, end)); /* a key is skipped like a value */
		const char *value = skip_space(colon + 1);
		size_t i = edit_of(edits, n, key);

		p = skip_value(value, end);
		splice_member(s, from, value, p, i < n ? &edits[i] : NULL, i < n && written[i]);
		if (i < n)
			written[i] = true;
		p = skip_space(p) + 1; /* ',' or '}' */
	}
}

static void splice_append(struct splice *s, const struct json_edit *edit, struct arena *mem)
{
	piece_to(s, s->last ? s->last : s->open);
	piece(s, arena_printf(mem, "%s\"%s\":", s->last ? "," : "", edit->key));
	piece(s, edit->raw_json.len ? edit->raw_json : STR("null"));
	s->last = s->done;
}

enum rc json_splice(struct str text, const struct json *object, const struct json_edit *edits,
		    size_t n, struct arena *mem, struct str pieces[JSON_PIECES_MAX],
		    size_t *ret_count)
{
	bool written[JSON_EDITS_MAX] = {false};
	struct splice s = {.done = text.ptr, .pieces = pieces};

	assert(n <= JSON_EDITS_MAX);
	if (!yyjson_is_obj(val(object)))
		return RC_INVALID;
	s.open = skip_space(text.ptr) + 1;
	splice_members(&s, text.ptr + text.len, object, edits, n, written);
	for (size_t i = 0; i < n; i++)
		if (edits[i].raw_json.ptr && !written[i])
			splice_append(&s, &edits[i], mem);
	piece_to(&s, text.ptr + text.len);
	*ret_count = s.count;
	return s.full ? RC_INVALID : RC_OK;
}

/* --- streamed writing ---------------------------------------------------------------------------- */

void json_out_begin(struct json_out *o, struct buf *buf)
{
	*o = (struct json_out){.buf = buf, .rc = RC_OK, .comma = false};
}

enum rc json_out_end(struct json_out *o)
{
	return o->rc;
}

static void put(struct json_out *o, struct str s)
{
	if (o->rc == RC_OK)
		o->rc = buf_append(o->buf, s);
}

static void put_string(struct json_out *o, struct str s)
{
	put(o, STR("\""));
	if (o->rc == RC_OK)
		o->rc = json_escape(s, o->buf);
	put(o, STR("\""));
}

static void put_key(struct json_out *o, struct str key)
{
	if (o->comma)
		put(o, STR(","));
	o->comma = true;
	if (key.ptr) {
		put_string(o, key);
		put(o, STR(":"));
	}
}

void json_obj(struct json_out *o, const char *key)
{
	put_key(o, str_from(key));
	put(o, STR("{"));
	o->comma = false;
}

void json_obj_end(struct json_out *o)
{
	put(o, STR("}"));
	o->comma = true;
}

void json_arr(struct json_out *o, const char *key)
{
	put_key(o, str_from(key));
	put(o, STR("["));
	o->comma = false;
}

void json_arr_end(struct json_out *o)
{
	put(o, STR("]"));
	o->comma = true;
}

void json_put_str(struct json_out *o, const char *key, struct str v)
{
	put_key(o, str_from(key));
	if (v.ptr)
		put_string(o, v);
	else
		put(o, STR("null"));
}

void json_put_z(struct json_out *o, const char *key, const char *v)
{
	json_put_str(o, key, str_from(v));
}

void json_put_int(struct json_out *o, const char *key, int64_t v)
{
	put_key(o, str_from(key));
	if (o->rc == RC_OK)
		o->rc = buf_printf(o->buf, "%lld", (long long)v);
}

void json_put_bool(struct json_out *o, const char *key, bool v)
{
	put_key(o, str_from(key));
	put(o, v ? STR("true") : STR("false"));
}

void json_put_null(struct json_out *o, const char *key)
{
	put_key(o, str_from(key));
	put(o, STR("null"));
}

void json_put_uuid(struct json_out *o, const char *key, struct uuid v)
{
	char text[UUID_TEXT_SIZE];

	json_put_str(o, key, uuid_format(v, text));
}

void json_put_raw(struct json_out *o, const char *key, struct str json_text)
{
	put_key(o, str_from(key));
	put(o, json_text.len ? json_text : STR("null"));
}

void json_put_value_s(struct json_out *o, struct str key, const struct json *v)
{
	put_key(o, key);
	if (o->rc == RC_OK)
		o->rc = json_write(v, o->buf);
}

void json_put_value(struct json_out *o, const char *key, const struct json *v)
{
	json_put_value_s(o, str_from(key), v);
}

/* Of a fixed number, which the compiler turns into a vector. */
static bool are_plain(const char p[16])
{
	unsigned char bad = 0;

	for (size_t i = 0; i < 16; i++)
		bad |= (unsigned char)((signed char)p[i] < ' ' || p[i] == 0x7f || p[i] == '"' ||
				       p[i] == '\\');
	return !bad;
}

/* How many bytes at the front need no escape: ASCII from space on, but '"', '\\', and DEL. */
static size_t plain_len(struct str s)
{
	size_t n = 0;

	while (n + 16 <= s.len && are_plain(s.ptr + n))
		n += 16;
	while (n < s.len && (unsigned char)s.ptr[n] >= 0x20 && (unsigned char)s.ptr[n] < 0x7f &&
	       s.ptr[n] != '"' && s.ptr[n] != '\\')
		n++;
	return n;
}

static enum rc escape_one(char c, struct buf *out)
{
	switch (c) {
	case '"':
		return buf_append(out, STR("\\\""));
	case '\\':
		return buf_append(out, STR("\\\\"));
	case '\n':
		return buf_append(out, STR("\\n"));
	case '\r':
		return buf_append(out, STR("\\r"));
	case '\t':
		return buf_append(out, STR("\\t"));
	default:
		return buf_printf(out, "\\u%04x", (unsigned int)(unsigned char)c);
	}
}

static enum rc escape_all(struct str s, struct buf *out)
{
	while (s.len) {
		size_t len = plain_len(s);

		if (len) {
			TRY(buf_append(out, str_slice(s, 0, len)));
		} else {
			len = str_utf8_len(s);
			if (len == 1) {
				TRY(escape_one(s.ptr[0], out));
			} else if (len) {
				TRY(buf_append(out, str_slice(s, 0, len)));
			} else {
				len = 1;
				TRY(buf_append(out, STR("\xef\xbf\xbd"))); /* U+FFFD */
			}
		}
		s = str_slice(s, len, s.len);
	}
	return RC_OK;
}

enum rc json_escape(struct str s, struct buf *out)
{
	size_t len = out->len;
	enum rc rc = escape_all(s, out);

	if (rc != RC_OK && out->ptr) { /* as for every append: all or nothing */
		out->len = len;
		out->ptr[len] = '\0';
	}
	return rc;
}
