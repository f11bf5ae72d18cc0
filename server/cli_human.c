/* server/cli_human.c - an object is lines of "key  value", a list of objects is a table.
 *
 * Pure. What came over the wire may hold escape sequences: control characters become '?', so that a
 * name somebody chose cannot move the cursor of the operator who lists it. */
#include "server/cli_human.h"

#define COLUMNS_MAX 64

struct out { /* a buffer and its first failure */
	struct buf *buf;
	enum rc rc;
};

static void put(struct out *o, struct str s)
{
	if (o->rc == RC_OK)
		o->rc = buf_append(o->buf, s);
}

static void put_spaces(struct out *o, size_t n)
{
	while (n-- > 0)
		put(o, STR(" "));
}

/* C0, DEL, and C1 in its UTF-8 form. */
static void put_clean(struct out *o, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c == 0xc2 && i + 1 < s.len && (unsigned char)s.ptr[i + 1] < 0xa0) {
			put(o, STR("?"));
			i++;
		} else {
			put(o, c < 0x20 || c == 0x7f ? STR("?") : str_slice(s, i, i + 1));
		}
	}
}

static size_t width(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++)
		n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
	return n;
}

static bool is_scalar(const struct json *v)
{
	enum json_type t = json_type(v);

	return t != JSON_ARRAY && t != JSON_OBJECT;
}

static bool is_table(const struct json *v)
{
	return json_type(v) == JSON_ARRAY && json_type(json_at(v, 0)) == JSON_OBJECT;
}

/* Fits on a line: a scalar, nothing, or a list of scalars. */
static bool is_short(const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;

	if (is_scalar(v) || json_len(v) == 0)
		return true;
	while (json_type(v) == JSON_ARRAY && json_next(&it, &key, &item))
		if (!is_scalar(item))
			return false;
	return json_type(v) == JSON_ARRAY;
}

static void put_json(struct out *o, const struct json *v)
{
	AUTO(buf) struct buf text = BUF_INIT(o->buf->bytes_max);

	if (o->rc == RC_OK)
		o->rc = json_write(v, &text);
	put_clean(o, buf_str(&text));
}

static void put_scalar(struct out *o, const struct json *v)
{
	struct str s;

	if (json_string(v, &s))
		put_clean(o, s);
	else if (json_is_null(v))
		put(o, STR("-"));
	else
		put_json(o, v);
}

static void put_short(struct out *o, const struct json *v)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;
	bool first = true;

	if (is_scalar(v)) {
		put_scalar(o, v);
		return;
	}
	if (json_len(v) == 0)
		put(o, STR("-"));
	while (json_next(&it, &key, &item)) {
		put(o, first ? STR("") : STR(", "));
		put_scalar(o, item);
		first = false;
	}
}

static void put_cell(struct out *o, const struct json *v)
{
	if (!v || is_short(v)) {
		if (v)
			put_short(o, v);
		return;
	}
	put_json(o, v);
}

/* --- tables --------------------------------------------------------------------------------- */

struct column {
	struct str key;
	size_t width;
};

static size_t cell_width(struct out *o, const struct json *v)
{
	AUTO(buf) struct buf text = BUF_INIT(o->buf->bytes_max);
	struct out cell = {.buf = &text};

	put_cell(&cell, v);
	return width(buf_str(&text));
}

static size_t columns_of(struct out *o, const struct json *rows, struct column *columns)
{
	struct json_iter row_it = json_iter(rows), it;
	struct json *row, *v;
	struct str key;
	size_t n = 0, i, w;

	while (json_next(&row_it, &key, &row)) {
		it = json_iter(row);
		while (json_type(row) == JSON_OBJECT && json_next(&it, &key, &v)) {
			for (i = 0; i < n && !str_eq(columns[i].key, key); i++)
				;
			if (i == COLUMNS_MAX)
				continue;
			if (i == n)
				columns[n++] = (struct column){.key = key, .width = width(key)};
			w = cell_width(o, v);
			if (w > columns[i].width)
				columns[i].width = w;
		}
	}
	return n;
}

static void put_table(struct out *o, const struct json *rows, size_t indent)
{
	struct column columns[COLUMNS_MAX];
	size_t n = columns_of(o, rows, columns);
	struct json_iter it = json_iter(rows);
	struct json *row, *v;
	struct str key;

	put_spaces(o, indent);
	for (size_t i = 0; i < n; i++) {
		put_clean(o, columns[i].key);
		put_spaces(o, i + 1 < n ? columns[i].width - width(columns[i].key) + 2 : 0);
	}
	put(o, STR("\n"));
	while (json_next(&it, &key, &row)) {
		put_spaces(o, indent);
		for (size_t i = 0; i < n; i++) {
			v = json_get_s(row, columns[i].key);
			put_cell(o, v);
			put_spaces(o, i + 1 < n ? columns[i].width - cell_width(o, v) + 2 : 0);
		}
		put(o, STR("\n"));
	}
}

/* --- objects -------------------------------------------------------------------------------- */

static void put_value(struct out *o, const struct json *v, size_t indent);

static void put_object(struct out *o, const struct json *v, size_t indent)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;
	size_t widest = 0;

	while (json_next(&it, &key, &item))
		if (is_short(item) && width(key) > widest)
			widest = width(key);
	it = json_iter(v);
	while (json_next(&it, &key, &item)) {
		put_spaces(o, indent);
		put_clean(o, key);
		if (is_short(item)) {
			put_spaces(o, widest - width(key) + 2);
			put_short(o, item);
			put(o, STR("\n"));
		} else {
			put(o, STR(":\n"));
			put_value(o, item, indent + 2);
		}
	}
}

static void put_value(struct out *o, const struct json *v, size_t indent)
{
	struct json_iter it = json_iter(v);
	struct json *item;
	struct str key;

	if (json_type(v) == JSON_OBJECT && json_len(v) > 0) {
		put_object(o, v, indent);
	} else if (is_table(v)) {
		put_table(o, v, indent);
	} else if (is_short(v)) {
		put_spaces(o, indent);
		put_short(o, v);
		put(o, STR("\n"));
	} else {
		while (json_next(&it, &key, &item))
			put_value(o, item, indent);
	}
}

enum rc cli_human(const struct json *data, struct buf *ret)
{
	struct out o = {.buf = ret};

	if (json_type(data) == JSON_ARRAY && json_len(data) == 0)
		put(&o, STR("(none)\n"));
	else if (!json_is_null(data))
		put_value(&o, data, 0);
	return o.rc;
}
