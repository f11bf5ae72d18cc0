/* server/yaml.c - YAML to the one tree that the house reads, strictly.
 *
 * libyaml's events are written as JSON text, which json.c parses: so there is one kind of tree, and
 * its rules hold here too. Beside the text a line is kept for each value, in the order of the text.
 * Must never expand anything (aliases are how a small file becomes a large one), never guess (yes, no
 * and 1_000 are text in YAML 1.2), and never put a value into an error. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "server/base/hash.h"
#include "server/yaml.h"

#define YAML_TEXT_BYTES_MAX                                                                        \
	(8 * YAML_BYTES_MAX)	  /* as JSON: an escape grows from two bytes to six */
#define YAML_NUMBER_LEN_MAX  100  /* digits beyond any use */
#define YAML_MEMBERS_MAX     4096 /* of one mapping: its keys are compared with each other */
#define YAML_KEYS_FIRST	     16
#define YAML_LINES_FIRST     256
#define YAML_SHOWN_BYTES_MAX 64 /* of a key, in an error */

struct yaml_doc {
	const char *name;
	struct json *root;
	size_t *lines; /* of each value, in the order of the text */
	size_t count;
};

struct key {
	uint64_t hash;
	struct str text;
};

struct level { /* a mapping or sequence that is open */
	bool is_mapping;
	bool key_next; /* of a mapping: a key comes now */
	size_t key_line;
	struct key *keys;
	size_t count, cap;
};

struct reader {
	const char *name;
	yaml_parser_t parser;
	yaml_event_t event;
	struct arena *mem;
	struct buf text;
	struct json_out out;
	struct str key; /* of the value that comes; ptr NULL: it has none */
	size_t *lines;
	size_t count, cap;
	struct level levels[YAML_DEPTH_MAX];
	size_t depth;
	struct err *err;
};

enum scalar { SCALAR_TEXT, SCALAR_NULL, SCALAR_BOOL, SCALAR_INT, SCALAR_FLOAT, SCALAR_BEYOND };

/* --- errors ------------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static enum rc bad(struct reader *r, enum rc rc, size_t line,
							 const char *fmt, ...)
{
	char words[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	return err_set(r->err, rc, "invalid_yaml", "%s:%zu: %s", r->name, line, words);
}

static size_t event_line(const struct reader *r)
{
	return r->event.start_mark.line + 1;
}

static enum rc next(struct reader *r)
{
	yaml_event_delete(&r->event);
	if (yaml_parser_parse(&r->parser, &r->event))
		return RC_OK;
	if (r->parser.error == YAML_MEMORY_ERROR)
		abort();
	return bad(r, RC_INVALID, r->parser.problem_mark.line + 1, "this is not YAML: %s",
		   r->parser.problem ? r->parser.problem : "it cannot be read");
}

/* --- what a scalar is: the core schema of YAML 1.2, section 10.3.2 --------------------------------- */

static bool one_of(struct str s, const char *const *words)
{
	for (; *words; words++)
		if (str_is(s, *words))
			return true;
	return false;
}

static size_t digits(struct str s, size_t at)
{
	size_t n = 0;

	while (at + n < s.len && s.ptr[at + n] >= '0' && s.ptr[at + n] <= '9')
		n++;
	return n;
}

static size_t sign(struct str s)
{
	return s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+') ? 1 : 0;
}

/* Base 8 or 16: the value, or false. Without a sign, as the schema has it. */
static bool based(struct str s, int *base)
{
	const char *set = NULL;

	if (str_starts(s, STR("0o")))
		set = "01234567", *base = 8;
	else if (str_starts(s, STR("0x")))
		set = "0123456789abcdefABCDEF", *base = 16;
	if (!set || s.len < 3)
		return false;
	for (size_t i = 2; i < s.len; i++)
		if (s.ptr[i] == '\0' || !strchr(set, s.ptr[i]))
			return false;
	return true;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static enum scalar number(struct str s)
{
	size_t at = sign(s);
	size_t whole = digits(s, at), part = 0;
	bool is_float = false;
	int base;

	if (based(s, &base))
		return SCALAR_INT;
	at += whole;
	if (at < s.len && s.ptr[at] == '.') {
		is_float = true;
		part = digits(s, ++at);
		at += part;
	}
	if (whole + part == 0)
		return SCALAR_TEXT;
	if (at < s.len && (s.ptr[at] == 'e' || s.ptr[at] == 'E')) {
		is_float = true;
		at++;
		if (at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+'))
			at++;
		whole = digits(s, at);
		at += whole;
		if (whole == 0)
			return SCALAR_TEXT;
	}
	if (at != s.len)
		return SCALAR_TEXT;
	return is_float ? SCALAR_FLOAT : SCALAR_INT;
}

static enum scalar plain(struct str s)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const bools[] = {"true",  "True",  "TRUE", "false",
					    "False", "FALSE", NULL};
	static const char *const beyond[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};

	if (one_of(s, nulls))
		return SCALAR_NULL;
	if (one_of(s, bools))
		return SCALAR_BOOL;
	if (one_of(s, beyond) || (sign(s) && one_of(str_slice(s, 1, s.len), beyond) &&
				  s.ptr[s.len - 1] != 'n' && s.ptr[s.len - 1] != 'N'))
		return SCALAR_BEYOND;
	return number(s);
}

static struct str event_text(const yaml_event_t *e)
{
	return str_of(e->data.scalar.value, e->data.scalar.length);
}

/* What the event's tag and quotes make of its text; false: they contradict each other. */
static bool scalar_of(const yaml_event_t *e, enum scalar *ret)
{
	struct str tag = str_from((const char *)e->data.scalar.tag);
	enum scalar is = plain(event_text(e));

	if (!tag.ptr) {
		*ret = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? is : SCALAR_TEXT;
		return true;
	}
	if (str_is(tag, "!") || str_is(tag, YAML_STR_TAG))
		*ret = SCALAR_TEXT;
	else if (str_is(tag, YAML_NULL_TAG))
		*ret = SCALAR_NULL;
	else if (str_is(tag, YAML_BOOL_TAG))
		*ret = SCALAR_BOOL;
	else if (str_is(tag, YAML_INT_TAG))
		*ret = SCALAR_INT;
	else if (str_is(tag, YAML_FLOAT_TAG))
		*ret = SCALAR_FLOAT;
	else
		return false;
	if (*ret == SCALAR_FLOAT && (is == SCALAR_BEYOND || is == SCALAR_INT)) {
		*ret = is;
		return true;
	}
	return *ret == SCALAR_TEXT || *ret == is;
}

/* --- one number, as JSON writes it ------------------------------------------------------------------ */

/* "+007.": no plus, no leading zeros, a digit on both sides of the point. */
static enum rc put_decimal(struct reader *r, struct str s, struct buf *out)
{
	size_t at = sign(s), n;

	if (at && s.ptr[0] == '-')
		TRY(buf_append_char(out, '-'));
	n = digits(s, at);
	while (n > 1 && s.ptr[at] == '0')
		at++, n--;
	TRY(n ? buf_append(out, str_slice(s, at, at + n)) : buf_append_char(out, '0'));
	at += n;
	if (at < s.len && s.ptr[at] == '.') {
		n = digits(s, at + 1);
		TRY(buf_append(out, str_slice(s, at, at + 1 + n)));
		TRY(n ? RC_OK : buf_append_char(out, '0'));
		at += 1 + n;
	}
	TRY(buf_append(out, str_slice(s, at, s.len)));
	if (!isfinite(strtod(out->ptr, NULL)))
		return bad(r, RC_INVALID, event_line(r), "this number is out of range");
	return RC_OK;
}

static enum rc put_number(struct reader *r, struct str s)
{
	AUTO(buf) struct buf text = BUF_INIT(2 * YAML_NUMBER_LEN_MAX);
	unsigned long long n;
	int base;

	if (s.len > YAML_NUMBER_LEN_MAX)
		return bad(r, RC_INVALID, event_line(r), "this number is out of range");
	if (based(s, &base)) {
		errno = 0;
		n = strtoull(s.ptr + 2, NULL, base); /* libyaml puts a NUL behind every scalar */
		if (errno != 0 || n > INT64_MAX)
			return bad(r, RC_INVALID, event_line(r), "this number is out of range");
		TRY(buf_printf(&text, "%llu", n));
	} else {
		TRY(put_decimal(r, s, &text));
	}
	json_put_raw(&r->out, r->key.ptr, buf_str(&text));
	return RC_OK;
}

/* --- events ----------------------------------------------------------------------------------------- */

/* Room for one more in a table of the arena that doubles. */
static enum rc room(struct reader *r, void *table, size_t *cap, size_t count, size_t first,
		    size_t size, void **ret)
{
	size_t wanted = *cap ? *cap * 2 : first;

	*ret = table;
	if (count < *cap)
		return RC_OK;
	if (arena_try_resize(r->mem, table, *cap * size, wanted * size, ret) != RC_OK)
		return bad(r, RC_TOO_LARGE, event_line(r), "the file is too large");
	*cap = wanted;
	return RC_OK;
}

static enum rc line_add(struct reader *r, size_t line)
{
	void *lines;

	if (r->count == YAML_VALUES_MAX)
		return bad(r, RC_TOO_LARGE, line, "more than %d values", YAML_VALUES_MAX);
	TRY(room(r, r->lines, &r->cap, r->count, YAML_LINES_FIRST, sizeof *r->lines, &lines));
	r->lines = lines;
	r->lines[r->count++] = line;
	return RC_OK;
}

static struct level *top(struct reader *r)
{
	return r->depth ? &r->levels[r->depth - 1] : NULL;
}

/* A value begins: where it is, and under which key. */
static enum rc value_begins(struct reader *r)
{
	struct level *l = top(r);

	if (!l || !l->is_mapping)
		return line_add(r, event_line(r));
	l->key_next = true;
	return line_add(r, l->key_line);
}

static enum rc key_add(struct reader *r, struct level *l, struct str text)
{
	struct key k = {.hash = hash64(text)};
	void *keys, *copy;

	if (l->count == YAML_MEMBERS_MAX)
		return bad(r, RC_TOO_LARGE, event_line(r), "more than %d members",
			   YAML_MEMBERS_MAX);
	for (size_t i = 0; i < l->count; i++)
		if (l->keys[i].hash == k.hash && str_eq(l->keys[i].text, text))
			return bad(r, RC_INVALID, event_line(r), "\"%.*s\" stands twice here",
				   STR_FMT(str_slice(text, 0, YAML_SHOWN_BYTES_MAX)));
	TRY(room(r, l->keys, &l->cap, l->count, YAML_KEYS_FIRST, sizeof k, &keys));
	l->keys = keys;
	if (arena_try_alloc(r->mem, text.len + 1, &copy) != RC_OK)
		return bad(r, RC_TOO_LARGE, event_line(r), "the file is too large");
	k.text = str_of(memcpy(copy, text.ptr, text.len), text.len);
	l->keys[l->count++] = k;
	r->key = k.text;
	l->key_line = event_line(r);
	l->key_next = false;
	return RC_OK;
}

static enum rc on_key(struct reader *r, struct level *l)
{
	enum scalar is;

	if (r->event.type != YAML_SCALAR_EVENT)
		return bad(r, RC_INVALID, event_line(r), "a key must be plain text");
	if (!scalar_of(&r->event, &is) || is == SCALAR_NULL)
		return bad(r, RC_INVALID, event_line(r), "a key must be plain text");
	return key_add(r, l, event_text(&r->event));
}

static enum rc on_scalar(struct reader *r)
{
	struct str s = event_text(&r->event);
	enum scalar is;

	if (!scalar_of(&r->event, &is))
		return bad(r, RC_INVALID, event_line(r),
			   "the tag is not of YAML's core ones, or does not fit the value");
	TRY(value_begins(r));
	switch (is) {
	case SCALAR_TEXT:
		json_put_str(&r->out, r->key.ptr, s);
		return RC_OK;
	case SCALAR_NULL:
		json_put_null(&r->out, r->key.ptr);
		return RC_OK;
	case SCALAR_BOOL:
		json_put_bool(&r->out, r->key.ptr, s.ptr[0] == 't' || s.ptr[0] == 'T');
		return RC_OK;
	case SCALAR_INT:
	case SCALAR_FLOAT:
		return put_number(r, s);
	case SCALAR_BEYOND:
		break;
	}
	return bad(r, RC_INVALID, event_line(r), "there is no such number here");
}

static enum rc on_open(struct reader *r, bool is_mapping)
{
	const yaml_event_t *e = &r->event;
	const char *core = is_mapping ? YAML_MAP_TAG : YAML_SEQ_TAG;
	const char *tag = is_mapping ? (const char *)e->data.mapping_start.tag
				     : (const char *)e->data.sequence_start.tag;

	if (tag && strcmp(tag, core) != 0 && strcmp(tag, "!") != 0)
		return bad(r, RC_INVALID, event_line(r),
			   "the tag is not of YAML's core ones, or does not fit the value");
	if (r->depth == YAML_DEPTH_MAX)
		return bad(r, RC_TOO_LARGE, event_line(r), "nested deeper than %d levels",
			   YAML_DEPTH_MAX);
	TRY(value_begins(r));
	if (is_mapping)
		json_obj(&r->out, r->key.ptr);
	else
		json_arr(&r->out, r->key.ptr);
	r->levels[r->depth++] = (struct level){.is_mapping = is_mapping, .key_next = true};
	return RC_OK;
}

static bool has_anchor(const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return e->data.scalar.anchor != NULL;
	case YAML_SEQUENCE_START_EVENT:
		return e->data.sequence_start.anchor != NULL;
	case YAML_MAPPING_START_EVENT:
		return e->data.mapping_start.anchor != NULL;
	default:
		return e->type == YAML_ALIAS_EVENT;
	}
}

static enum rc on_event(struct reader *r)
{
	struct level *l = top(r);
	enum rc rc = RC_OK;

	if (has_anchor(&r->event))
		return bad(r, RC_INVALID, event_line(r),
			   "anchors and aliases are not taken: write it out");
	if (r->event.type == YAML_SCALAR_EVENT &&
	    memchr(r->event.data.scalar.value, '\0', r->event.data.scalar.length))
		return bad(r, RC_INVALID, event_line(r), "a NUL byte stands in this text");
	if (r->event.type == YAML_MAPPING_END_EVENT) {
		json_obj_end(&r->out);
		r->depth--;
	} else if (r->event.type == YAML_SEQUENCE_END_EVENT) {
		json_arr_end(&r->out);
		r->depth--;
	} else if (l && l->is_mapping && l->key_next) {
		return on_key(r, l);
	} else if (r->event.type == YAML_SCALAR_EVENT) {
		rc = on_scalar(r);
	} else {
		rc = on_open(r, r->event.type == YAML_MAPPING_START_EVENT);
	}
	r->key = STR_NULL;
	return rc;
}

static enum rc document(struct reader *r)
{
	TRY(next(r)); /* stream start */
	TRY(next(r));
	if (r->event.type == YAML_STREAM_END_EVENT) {
		json_put_null(&r->out, NULL);
		return line_add(r, 1);
	}
	do { /* the document's start is behind us */
		TRY(next(r));
		TRY(on_event(r));
	} while (r->depth > 0);
	TRY(next(r)); /* document end */
	TRY(next(r));
	if (r->event.type != YAML_STREAM_END_EVENT)
		return bad(r, RC_INVALID, event_line(r), "a second document begins here");
	return RC_OK;
}

static enum rc finish(struct reader *r, struct yaml_doc **ret)
{
	struct yaml_doc *d = ARENA_NEW(r->mem, struct yaml_doc);

	if (json_out_end(&r->out) != RC_OK)
		return bad(r, RC_TOO_LARGE, 1, "the file is too large");
	TRY(json_parse(buf_str(&r->text), JSON_NO_DUPLICATES, r->mem, &d->root, r->err));
	d->name = r->name;
	d->lines = r->lines;
	d->count = r->count;
	*ret = d;
	return RC_OK;
}

enum rc yaml_doc_parse(struct str text, const char *name, struct arena *mem, struct yaml_doc **ret,
		       struct err *err)
{
	struct reader r = {
		.name = name, .mem = mem, .text = BUF_INIT(YAML_TEXT_BYTES_MAX), .err = err};
	enum rc rc;

	if (text.len > YAML_BYTES_MAX)
		return bad(&r, RC_TOO_LARGE, 1, "the file is larger than %d bytes", YAML_BYTES_MAX);
	if (!yaml_parser_initialize(&r.parser))
		abort();
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.ptr ? text.ptr : ""),
				     text.len);
	json_out_begin(&r.out, &r.text);
	rc = document(&r);
	if (rc == RC_OK)
		rc = finish(&r, ret);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	if (r.text.ptr)
		explicit_bzero(r.text.ptr, r.text.cap);
	buf_clear(&r.text);
	return rc;
}

/* --- files ------------------------------------------------------------------------------------------ */

static enum rc read_all(FILE *f, const char *path, struct buf *out, struct err *err)
{
	if (buf_reserve(out, YAML_BYTES_MAX + 1) != RC_OK)
		abort();
	out->len = fread(out->ptr, 1, YAML_BYTES_MAX + 1, f);
	out->ptr[out->len] = '\0';
	if (ferror(f))
		return err_set(err, RC_IO, "unreadable_file", "%s cannot be read: %s", path,
			       strerror(errno));
	return RC_OK;
}

enum rc yaml_doc_read(const char *path, struct arena *mem, struct yaml_doc **ret, struct err *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	struct buf text = BUF_INIT(YAML_BYTES_MAX + 1);
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	enum rc rc;

	if (!f)
		return err_set(err, RC_IO, "unreadable_file", "%s cannot be read: %s", path,
			       strerror(errno));
	rc = read_all(f, path, &text, err);
	if (!is_stdin)
		fclose(f);
	if (rc == RC_OK)
		rc = yaml_doc_parse(buf_str(&text), is_stdin ? "standard input" : path, mem, ret,
				    err);
	explicit_bzero(text.ptr, text.cap);
	buf_clear(&text);
	return rc;
}

/* --- questions -------------------------------------------------------------------------------------- */

struct json *yaml_doc_root(const struct yaml_doc *d)
{
	return d->root;
}

/* Values are numbered as they stand in the text. Not deeper than YAML_DEPTH_MAX. */
static bool find(const struct json *at, const struct json *v, size_t *n)
{
	struct json_iter it = json_iter(at);
	struct json *child;

	if (at == v)
		return true;
	while (json_next(&it, NULL, &child)) {
		++*n;
		if (find(child, v, n))
			return true;
	}
	return false;
}

size_t yaml_doc_line(const struct yaml_doc *d, const struct json *v)
{
	size_t n = 0;

	if (!v || !find(d->root, v, &n))
		return 0;
	assert(n < d->count);
	return d->lines[n];
}

enum rc yaml_doc_bad(const struct yaml_doc *d, const struct json *v, struct err *err,
		     const char *fmt, ...)
{
	char words[320];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	return err_set(err, RC_INVALID, "invalid_yaml", "%s:%zu: %s", d->name, yaml_doc_line(d, v),
		       words);
}
