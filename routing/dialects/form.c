/* routing/dialects/form.c - the reader and the writer of multipart/form-data (RFC 7578, RFC 2046 5.1).
 *
 * Must never copy a part (a file may be all of the body), and never guess where one ends. */
#include "routing/dialects/form_priv.h"

static enum rc bad(struct err *err, const char *field, const char *what)
{
	(void)err_set(err, RC_INVALID, "invalid_request_error", "The form is not well formed: %s.",
		      what);
	err_hint(err, "multipart/form-data, as every HTTP client writes it");
	err_field(err, "%s", field);
	return RC_INVALID;
}

/* --- parameters of a header: ; name=value or ; name="value" ------------------------------------------- */

struct param {
	struct str name, value;
};

static bool is_token_char(char c)
{
	return c > ' ' && c < 127 && !strchr("()<>@,;:\\\"/[]?=", c);
}

/* The next of `rest`. RC_NOT_FOUND: there is none. A backslash in quotes is refused: clients write it in two meanings. */
static enum rc param_next(struct str *rest, struct param *ret)
{
	size_t i = 0;

	*rest = str_trim(*rest);
	if (rest->len == 0)
		return RC_NOT_FOUND;
	if (rest->ptr[0] != ';')
		return RC_INVALID;
	*rest = str_trim(str_slice(*rest, 1, rest->len));
	while (i < rest->len && is_token_char(rest->ptr[i]))
		i++;
	if (i == 0 || i == rest->len || rest->ptr[i] != '=')
		return RC_INVALID;
	ret->name = str_slice(*rest, 0, i);
	*rest = str_slice(*rest, i + 1, rest->len);
	if (rest->len > 0 && rest->ptr[0] == '"') {
		*rest = str_slice(*rest, 1, rest->len);
		for (i = 0; i < rest->len && rest->ptr[i] != '"'; i++)
			if (rest->ptr[i] == '\\')
				return RC_INVALID;
		if (i == rest->len)
			return RC_INVALID;
		ret->value = str_slice(*rest, 0, i);
		*rest = str_slice(*rest, i + 1, rest->len);
		return RC_OK;
	}
	for (i = 0; i < rest->len && is_token_char(rest->ptr[i]);)
		i++;
	ret->value = str_slice(*rest, 0, i);
	*rest = str_slice(*rest, i, rest->len);
	return i > 0 ? RC_OK : RC_INVALID;
}

static bool is_boundary(struct str s)
{
	if (s.len == 0 || s.len > FORM_BOUNDARY_MAX || s.ptr[s.len - 1] == ' ')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		const char c = s.ptr[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    (c == '\0' || !strchr("'()+_,-./:=? ", c)))
			return false;
	}
	return true;
}

static enum rc read_boundary(struct str content_type, struct str *ret, struct err *err)
{
	const ptrdiff_t semicolon = str_find(content_type, ';');
	const size_t len = semicolon < 0 ? content_type.len : (size_t)semicolon;
	struct str rest = str_slice(content_type, len, content_type.len);
	struct str boundary = STR_NULL;
	struct param p;
	enum rc rc;

	if (!str_eq_nocase(str_trim(str_slice(content_type, 0, len)), STR("multipart/form-data")))
		return bad(err, "content-type", "its content type must be multipart/form-data");
	while ((rc = param_next(&rest, &p)) == RC_OK) {
		if (!str_eq_nocase(p.name, STR("boundary")))
			continue;
		if (boundary.ptr)
			return bad(err, "content-type", "it has two boundaries");
		boundary = p.value;
	}
	if (rc != RC_NOT_FOUND || !boundary.ptr || !is_boundary(boundary))
		return bad(err, "content-type", "its content type names no boundary");
	*ret = boundary;
	return RC_OK;
}

/* --- one part --------------------------------------------------------------------------------------------- */

static enum rc read_disposition(struct str value, struct form_part *p, struct err *err)
{
	const ptrdiff_t semicolon = str_find(value, ';');
	struct str rest;
	struct param one;
	enum rc rc;

	if (p->name.ptr)
		return bad(err, "", "a part has two names");
	if (semicolon < 0 ||
	    !str_eq_nocase(str_trim(str_slice(value, 0, (size_t)semicolon)), STR("form-data")))
		return bad(err, "", "a part is no form-data with a name");
	rest = str_slice(value, (size_t)semicolon, value.len);
	while ((rc = param_next(&rest, &one)) == RC_OK) {
		struct str *to = str_eq_nocase(one.name, STR("name"))	    ? &p->name
				 : str_eq_nocase(one.name, STR("filename")) ? &p->filename
									    : NULL;

		if (to && to->ptr)
			return bad(err, "", "a part has a name twice");
		if (to)
			*to = one.value;
	}
	if (rc != RC_NOT_FOUND || p->name.len == 0 || p->name.len > FORM_NAME_BYTES_MAX)
		return bad(err, "", "a part has no name that can be read");
	for (size_t i = 0; i < p->name.len; i++)
		if (p->name.ptr[i] <= ' ' || p->name.ptr[i] > '~')
			return bad(err, "", "a part's name is not printable ASCII");
	return RC_OK;
}

static enum rc read_header(struct str line, struct form_part *p, struct err *err)
{
	const ptrdiff_t colon = str_find(line, ':');
	struct str name, value;

	if (colon <= 0 || line.ptr[0] == ' ' || line.ptr[0] == '\t')
		return bad(err, "", "a part's header is no name and value");
	name = str_slice(line, 0, (size_t)colon);
	value = str_trim(str_slice(line, (size_t)colon + 1, line.len));
	for (size_t i = 0; i < line.len; i++)
		if ((unsigned char)line.ptr[i] < ' ' && line.ptr[i] != '\t')
			return bad(err, "", "a part's header has a control byte");
	if (str_eq_nocase(name, STR("content-disposition")))
		return read_disposition(value, p, err);
	if (str_eq_nocase(name, STR("content-type"))) {
		if (p->content_type.len > 0)
			return bad(err, "", "a part has two types");
		if (str_find_nocase(value, STR("multipart/")) == 0)
			return bad(err, "", "a part has parts of its own");
		p->content_type = value;
	} else if (str_eq_nocase(name, STR("content-transfer-encoding")) &&
		   !str_eq_nocase(value, STR("binary")) && !str_eq_nocase(value, STR("8bit")) &&
		   !str_eq_nocase(value, STR("7bit"))) {
		return bad(err, "", "a part is encoded");
	}
	return RC_OK;
}

/* Headers, an empty line, and the value: all of `p->whole`. */
static enum rc read_part(struct form_part *p, struct err *err)
{
	const ptrdiff_t blank =
		str_find_str(str_slice(p->whole, 0, FORM_HEAD_BYTES_MAX + 4), STR("\r\n\r\n"));
	struct str head;

	if (blank < 0)
		return bad(err, "", "a part has no headers, or too many");
	p->value = str_slice(p->whole, (size_t)blank + 4, p->whole.len);
	head = str_slice(p->whole, 0, (size_t)blank + 2);
	while (head.len > 0) {
		const ptrdiff_t end = str_find_str(head, STR("\r\n"));

		if (end < 0)
			return bad(err, "", "a part's header has no end");
		TRY(read_header(str_slice(head, 0, (size_t)end), p, err));
		head = str_slice(head, (size_t)end + 2, head.len);
	}
	return p->name.ptr ? RC_OK : bad(err, "", "a part has no name");
}

static enum rc add_part(struct form *f, struct str whole, struct err *err)
{
	struct form_part p = {.whole = whole};

	TRY(read_part(&p, err));
	for (size_t i = 0; i < f->count; i++) {
		char field[FORM_NAME_BYTES_MAX + 1];

		if (!str_eq(f->parts[i].name, p.name) || str_ends(p.name, STR("[]")))
			continue;
		memcpy(field, p.name.ptr, p.name.len);
		field[p.name.len] = '\0';
		return bad(err, field, "a part stands twice");
	}
	if (f->count == FORM_PARTS_MAX)
		return err_set(err, RC_TOO_LARGE, "request_too_large",
			       "The form has more than %d parts.", FORM_PARTS_MAX);
	f->parts[f->count++] = p;
	return RC_OK;
}

enum rc form_read(struct str content_type, struct str body, struct arena *mem, struct form **ret,
		  struct err *err)
{
	char mark_text[FORM_BOUNDARY_MAX + 5];
	struct form *f = ARENA_NEW(mem, struct form);
	struct str mark, rest;

	TRY(read_boundary(content_type, &f->boundary, err));
	f->parts = ARENA_ARRAY(mem, struct form_part, FORM_PARTS_MAX);
	memcpy(mark_text, "\r\n--", 4);
	memcpy(mark_text + 4, f->boundary.ptr, f->boundary.len);
	mark = str_of(mark_text, f->boundary.len + 4);
	if (!str_starts(body, str_slice(mark, 2, mark.len)))
		return bad(err, "", "it does not begin with its boundary");
	rest = str_slice(body, mark.len - 2, body.len);
	while (!str_starts(rest, STR("--"))) {
		const char *end;
		size_t len;

		if (!str_starts(rest, STR("\r\n")))
			return bad(err, "", "something stands behind a boundary");
		rest = str_slice(rest, 2, rest.len);
		end = rest.len ? memmem(rest.ptr, rest.len, mark.ptr, mark.len) : NULL;
		if (!end)
			return bad(err, "", "it ends without its boundary");
		len = (size_t)(end - rest.ptr);
		TRY(add_part(f, str_slice(rest, 0, len), err));
		rest = str_slice(rest, len + mark.len, rest.len);
	}
	rest = str_slice(rest, 2, rest.len);
	if (rest.len > 0 && !str_is(rest, "\r\n"))
		return bad(err, "", "something stands behind its end");
	*ret = f;
	return RC_OK;
}

const struct form_part *form_get(const struct form *f, const char *name)
{
	for (size_t i = 0; i < f->count; i++)
		if (str_is(f->parts[i].name, name))
			return &f->parts[i];
	return NULL;
}

/* --- writing ------------------------------------------------------------------------------------------------ */

static enum rc put_mark(struct buf *out, struct str boundary)
{
	return buf_printf(out, "--%.*s\r\n", STR_FMT(boundary));
}

enum rc form_put_field(struct buf *out, struct str boundary, const char *name, struct str value)
{
	TRY(put_mark(out, boundary));
	TRY(buf_printf(out, "Content-Disposition: form-data; name=\"%s\"\r\n\r\n", name));
	TRY(buf_append(out, value));
	return buf_append(out, STR("\r\n"));
}

enum rc form_put_part(struct buf *out, struct str boundary, const struct form_part *p)
{
	TRY(put_mark(out, boundary));
	TRY(buf_append(out, p->whole));
	return buf_append(out, STR("\r\n"));
}

enum rc form_end(struct buf *out, struct str boundary)
{
	return buf_printf(out, "--%.*s--\r\n", STR_FMT(boundary));
}
