/* server/http/parse.c - the two readers of parse.h.
 *
 * Read it in this order: the states, scan_head() with one small function per state, judge() for
 * what only a whole head can tell, then scan_chunked(). The scanner goes byte by byte and refuses
 * at the first byte that cannot be, so a verdict needs no look ahead. It must never be lenient
 * because "clients do that": whatever two readers could understand differently is refused. */
#include "server/http/parse.h"
#include <assert.h>

const struct http_parse_limits http_parse_limits_default = {
	.target_bytes_max = 8192,
	.header_line_bytes_max = 8192,
	.headers_bytes_max = 32768,
	.headers_max = HTTP_HEADERS_MAX,
	.body_bytes_max = 32u * 1024u * 1024u,
};

/* --- verdicts ------------------------------------------------------------------------------- */
#define FAULTS(X)                                                                                  \
	X(line, 400, "malformed_request", "The request line is malformed.")                        \
	X(leading, 400, "malformed_request", "More than one empty line before the request.")       \
	X(method, 405, "method_not_allowed", "This method is not taken here.")                     \
	X(method_long, 400, "malformed_request", "The method is too long to be one.")              \
	X(target, 400, "malformed_target", "The request target holds a byte that no URI may.")     \
	X(target_form, 400, "malformed_target",                                                    \
	  "The request target has a form that is not taken.")                                      \
	X(target_long, 414, "target_too_long", "The request target is too long.")                  \
	X(version, 505, "version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")    \
	X(bare_lf, 400, "malformed_request", "A line does not end in CR LF.")                      \
	X(bare_cr, 400, "malformed_header", "A carriage return stands without its line feed.")     \
	X(fold, 400, "malformed_header", "A header line starts with white space.")                 \
	X(name, 400, "malformed_header", "A header name is empty or holds a byte it may not.")     \
	X(value, 400, "malformed_header", "A header value holds a control byte.")                  \
	X(header_line, 431, "header_too_large", "A header line is too long.")                      \
	X(headers, 431, "header_too_large", "The headers are too large together.")                 \
	X(headers_many, 431, "header_too_large", "There are too many headers.")                    \
	X(repeated, 400, "repeated_header", "A header that may come only once came twice.")        \
	X(host, 400, "bad_host", "There must be exactly one Host header, with a valid value.")     \
	X(host_other, 400, "bad_host", "Host and the target name different hosts.")                \
	X(length, 400, "bad_content_length", "Content-Length is not a number.")                    \
	X(length_and_te, 400, "bad_framing",                                                       \
	  "Content-Length and Transfer-Encoding may not come together.")                           \
	X(te, 400, "bad_transfer_encoding", "Transfer-Encoding may only be chunked.")              \
	X(te_list, 501, "bad_transfer_encoding", "This Transfer-Encoding is not spoken here.")     \
	X(te_http10, 400, "bad_transfer_encoding", "HTTP/1.0 knows no Transfer-Encoding.")         \
	X(expect, 417, "bad_expect", "Only Expect: 100-continue can be met.")                      \
	X(body_large, 413, "request_too_large", "The request body is too large.")                  \
	X(chunk, 400, "malformed_chunk", "The chunked body is malformed.")                         \
	X(chunk_cost, 400, "malformed_chunk", "The chunks are too small for what they carry.")     \
	X(trailer, 400, "malformed_trailer", "The trailers are malformed or too large.")           \
	X(framing, 400, "bad_framing", "The request could be read in more than one way.")

#define X(name, st, cd, msg)                                                                       \
	static const struct http_fault fault_##name = {                                            \
		.status = (st), .code = (cd), .message = (msg)};
FAULTS(X)
#undef X

enum state {
	AT_START,
	AT_START_LF,
	AT_METHOD,
	AT_TARGET,
	AT_PERCENT_1,
	AT_PERCENT_2,
	AT_VERSION,
	AT_LINE_LF,
	AT_FIELD,
	AT_NAME,
	AT_VALUE,
	AT_VALUE_LF,
	AT_END_LF,
	AT_HEAD_DONE,
	AT_LENGTH,
	AT_CHUNK_SIZE,
	AT_CHUNK_EXT,
	AT_CHUNK_LF,
	AT_DATA,
	AT_DATA_CR,
	AT_DATA_LF,
	AT_TRAILER,
	AT_TRAILER_NAME,
	AT_TRAILER_VALUE,
	AT_TRAILER_LF,
	AT_TRAILERS_LF,
	AT_DONE,
	AT_BAD
};

/* --- bytes ---------------------------------------------------------------------------------- */
static bool is_alnum(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_one_of(unsigned char c, const char *set)
{
	return c != 0 && strchr(set, c) != NULL;
}

static bool is_token(unsigned char c)
{
	return is_alnum(c) || is_one_of(c, "!#$%&'*+-.^_`|~");
}

/* RFC 3986, without '%', which has states of its own. Brackets are for a host alone: judge(). */
static bool is_target(unsigned char c)
{
	return is_alnum(c) || is_one_of(c, "-._~!$&'()*+,;=:@/?[]");
}

static bool is_value(unsigned char c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static struct http_span span(size_t from, size_t to)
{
	assert(from <= to && to <= UINT16_MAX);
	return (struct http_span){(uint16_t)from, (uint16_t)(to - from)};
}

struct str http_parser_str(const struct http_parser *p, struct http_span s)
{
	assert((size_t)s.from + s.len <= p->head.len);
	return s.len ? str_of(p->head.ptr + s.from, s.len) : STR("");
}

struct str http_parser_head_bytes(const struct http_parser *p)
{
	return buf_str(&p->head);
}

/* --- the head, byte by byte ------------------------------------------------------------------ */
/* Each of these looks at byte `c` at p->pos of the head and returns why it cannot be, or NULL.
 * p->head holds all bytes before and including `c`. */

static const struct http_fault *at_start(struct http_parser *p, unsigned char c)
{
	if (c == '\r') {
		p->state = AT_START_LF;
		return p->crlf_seen ? &fault_leading : NULL;
	}
	if (c < 'A' || c > 'Z')
		return is_token(c) ? &fault_method : &fault_line;
	p->start = p->mark = p->pos;
	p->state = AT_METHOD;
	return NULL;
}

static const struct http_fault *method_end(struct http_parser *p)
{
	static const char *const taken[] = {"GET",   "HEAD",   "POST",	 "PUT",
					    "PATCH", "DELETE", "OPTIONS"};
	struct str m;

	p->method = span(p->mark, p->pos);
	m = http_parser_str(p, p->method);
	p->mark = p->pos + 1;
	p->state = AT_TARGET;
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		if (str_is(m, taken[i]))
			return NULL;
	return str_is(m, "PRI") ? &fault_version : &fault_method;
}

static const struct http_fault *at_method(struct http_parser *p, unsigned char c)
{
	if (c == ' ')
		return method_end(p);
	if (!is_token(c))
		return &fault_line;
	return p->pos - p->mark >= HTTP_METHOD_BYTES_MAX ? &fault_method_long : NULL;
}

static const struct http_fault *at_target(struct http_parser *p, unsigned char c)
{
	if (c == ' ') {
		p->target = span(p->mark, p->pos);
		p->mark = p->pos + 1;
		p->state = AT_VERSION;
		return p->target.len == 0 ? &fault_line : NULL;
	}
	if (c == '%')
		p->state = AT_PERCENT_1;
	else if (!is_target(c))
		return c == '\r' || c == '\n' ? &fault_line : &fault_target;
	if (p->pos - p->mark >= p->limits->target_bytes_max)
		return &fault_target_long;
	return NULL;
}

static const struct http_fault *at_percent(struct http_parser *p, unsigned char c)
{
	if (hex_value(c) < 0)
		return &fault_target;
	if (p->state == AT_PERCENT_1) {
		p->state = AT_PERCENT_2;
		return NULL;
	}
	p->state = AT_TARGET;
	return c == '0' && p->head.ptr[p->pos - 1] == '0' ? &fault_target : NULL;
}

static const struct http_fault *at_version(struct http_parser *p, unsigned char c)
{
	static const char like[] = "HTTP/0.0\r"; /* '0': any digit */
	size_t i = p->pos - p->mark;
	const char *v = p->head.ptr + p->mark;

	assert(i < sizeof like - 1);
	if (like[i] == '0' ? (c < '0' || c > '9') : c != (unsigned char)like[i])
		return &fault_line;
	if (c != '\r')
		return NULL;
	if (v[5] != '1' || (v[7] != '0' && v[7] != '1'))
		return &fault_version;
	p->http10 = v[7] == '0';
	p->state = AT_LINE_LF;
	return NULL;
}

static const struct http_fault *at_field(struct http_parser *p, unsigned char c)
{
	if (c == '\r') {
		p->state = AT_END_LF;
		return NULL;
	}
	if (c == '\n')
		return &fault_bare_lf;
	if (c == ' ' || c == '\t')
		return &fault_fold;
	if (!is_token(c))
		return &fault_name;
	if (p->lines++ >= p->limits->headers_max)
		return &fault_headers_many;
	p->mark = p->pos;
	p->line_bytes = 1;
	p->underscore = c == '_';
	p->state = AT_NAME;
	return NULL;
}

static const struct http_fault *at_name(struct http_parser *p, unsigned char c)
{
	if (c == ':') {
		p->name = span(p->mark, p->pos);
		p->mark = p->pos + 1;
		p->state = AT_VALUE;
		return NULL;
	}
	p->underscore |= c == '_';
	return is_token(c) ? NULL : &fault_name;
}

static const struct http_fault *at_value(struct http_parser *p, unsigned char c)
{
	const char *h = p->head.ptr;
	size_t from = p->mark, to = p->pos;

	if (c == '\n')
		return &fault_bare_lf;
	if (c != '\r')
		return is_value(c) ? NULL : &fault_value;
	while (from < to && (h[from] == ' ' || h[from] == '\t'))
		from++;
	while (to > from && (h[to - 1] == ' ' || h[to - 1] == '\t'))
		to--;
	/* A name with '_' could be taken for the one with '-' by whoever reads it next: it is not there. */
	if (!p->underscore)
		p->fields[p->fields_count++] = (struct http_field){p->name, span(from, to)};
	p->state = AT_VALUE_LF;
	return NULL;
}

static const struct http_fault *at_lf(struct http_parser *p, unsigned char c, enum state next)
{
	if (c != '\n')
		return &fault_bare_cr;
	p->state = (int)next;
	return NULL;
}

static const struct http_fault *head_bounds(struct http_parser *p)
{
	if (p->state < AT_FIELD)
		return p->pos - p->start >= HTTP_LINE_BYTES_MAX ? &fault_target_long : NULL;
	if (++p->line_bytes > p->limits->header_line_bytes_max + 2)
		return &fault_header_line;
	return ++p->headers_bytes > p->limits->headers_bytes_max ? &fault_headers : NULL;
}

static const struct http_fault *head_byte(struct http_parser *p, unsigned char c)
{
	const struct http_fault *f = head_bounds(p);

	if (f)
		return f;
	switch ((enum state)p->state) {
	case AT_START:
		return at_start(p, c);
	case AT_START_LF:
		p->crlf_seen = true;
		return at_lf(p, c, AT_START);
	case AT_METHOD:
		return at_method(p, c);
	case AT_TARGET:
		return at_target(p, c);
	case AT_PERCENT_1:
	case AT_PERCENT_2:
		return at_percent(p, c);
	case AT_VERSION:
		return at_version(p, c);
	case AT_LINE_LF:
	case AT_VALUE_LF:
		p->line_bytes = 0;
		return at_lf(p, c, AT_FIELD);
	case AT_FIELD:
		return at_field(p, c);
	case AT_NAME:
		return at_name(p, c);
	case AT_VALUE:
		return at_value(p, c);
	case AT_END_LF:
		return at_lf(p, c, AT_HEAD_DONE);
	default:
		assert(false && "no head state");
		return &fault_line;
	}
}

/* --- what only a whole head can tell ---------------------------------------------------------- */
/* host [":" port] as we are willing to read it: a name, an IPv4 or a bracketed IPv6 address. */
static bool host_ok(struct str h)
{
	size_t i = 0, host_len, digits = 0;
	unsigned port = 0;

	if (h.len > 0 && h.ptr[0] == '[') {
		for (i = 1; i < h.len && h.ptr[i] != ']'; i++)
			if (hex_value((unsigned char)h.ptr[i]) < 0 && h.ptr[i] != ':' &&
			    h.ptr[i] != '.')
				return false;
		host_len = i - 1;
		if (i++ >= h.len)
			return false;
	} else {
		for (; i < h.len && h.ptr[i] != ':'; i++)
			if (!is_alnum((unsigned char)h.ptr[i]) &&
			    !is_one_of((unsigned char)h.ptr[i], "-._~"))
				return false;
		host_len = i;
	}
	if (host_len == 0 || host_len > 255)
		return false;
	if (i == h.len)
		return true;
	if (h.ptr[i++] != ':')
		return false;
	for (; i < h.len && digits <= 5; i++, digits++) {
		if (h.ptr[i] < '0' || h.ptr[i] > '9')
			return false;
		port = port * 10 + (unsigned)(h.ptr[i] - '0');
	}
	return i == h.len && digits > 0 && port <= 65535;
}

/* These may stand once: two of them, and two readers could choose differently. */
enum single {
	ONE_HOST,
	ONE_LENGTH,
	ONE_TE,
	ONE_EXPECT,
	ONE_AUTHORIZATION,
	ONE_X_API_KEY,
	ONE_API_KEY,
	ONE_GOOG_KEY,
	ONE_TYPE,
	ONE_ENCODING,
	ONE_COUNT
};
static const char *const single_names[ONE_COUNT] = {
	"host",	     "content-length", "transfer-encoding", "expect",	    "authorization",
	"x-api-key", "api-key",	       "x-goog-api-key",    "content-type", "content-encoding"};

static bool list_has(struct str list, const char *token)
{
	while (list.ptr)
		if (str_eq_nocase(str_trim(str_cut(&list, ',')), str_from(token)))
			return true;
	return false;
}

static const struct http_fault *singles_find(struct http_parser *p,
					     const struct http_field *one[ONE_COUNT])
{
	for (size_t i = 0; i < p->fields_count; i++) {
		struct str name = http_parser_str(p, p->fields[i].name);
		struct str value = http_parser_str(p, p->fields[i].value);

		for (size_t k = 0; k < ONE_COUNT; k++) {
			if (!str_eq_nocase(name, str_from(single_names[k])))
				continue;
			if (one[k])
				return k == ONE_HOST ? &fault_host : &fault_repeated;
			one[k] = &p->fields[i];
		}
		if (str_eq_nocase(name, STR("connection")) && list_has(value, "close"))
			p->keep_alive = false;
	}
	return NULL;
}

static const struct http_fault *judge_length(struct http_parser *p, struct str v)
{
	uint64_t n = 0;

	if (v.len == 0)
		return &fault_length;
	for (size_t i = 0; i < v.len; i++)
		if (v.ptr[i] < '0' || v.ptr[i] > '9')
			return &fault_length;
	for (size_t i = 0; i < v.len; i++) {
		if (n > (uint64_t)INT64_MAX / 10)
			return &fault_body_large;
		n = n * 10 + (uint64_t)(v.ptr[i] - '0');
	}
	if (n > p->limits->body_bytes_max)
		return &fault_body_large;
	p->has_length = true;
	p->content_length = n;
	return NULL;
}

static const struct http_fault *judge_te(struct http_parser *p, struct str v)
{
	struct str rest = v, last = STR("");

	if (p->http10)
		return &fault_te_http10;
	if (str_eq_nocase(v, STR("chunked"))) {
		p->chunked = true;
		return NULL;
	}
	while (rest.ptr) {
		last = str_trim(str_cut(&rest, ','));
		if (last.len == 0)
			return &fault_te;
		for (size_t i = 0; i < last.len; i++)
			if (!is_token((unsigned char)last.ptr[i]))
				return &fault_te;
	}
	/* "chunked, chunked" is two framings; "gzip, chunked" is one that we do not speak. */
	return str_eq_nocase(last, STR("chunked")) && !str_starts(v, STR("chunked"))
		       ? &fault_te_list
		       : &fault_te;
}

static const struct http_fault *judge_framing(struct http_parser *p,
					      const struct http_field *one[ONE_COUNT])
{
	if (one[ONE_TE] && one[ONE_LENGTH])
		return &fault_length_and_te;
	if (one[ONE_LENGTH])
		return judge_length(p, http_parser_str(p, one[ONE_LENGTH]->value));
	if (one[ONE_TE])
		return judge_te(p, http_parser_str(p, one[ONE_TE]->value));
	return NULL;
}

/* Split the target into path and query; `*authority` is set for the absolute form. */
static const struct http_fault *judge_target(struct http_parser *p, struct str *authority)
{
	struct str t = http_parser_str(p, p->target);
	size_t skip = 0, end;

	*authority = STR_NULL;
	if (str_is(t, "*")) {
		p->asterisk = true;
		return str_is(http_parser_str(p, p->method), "OPTIONS") ? NULL : &fault_target_form;
	}
	if (t.ptr[0] != '/') {
		if (str_find_nocase(t, STR("http://")) == 0)
			skip = 7;
		else if (str_find_nocase(t, STR("https://")) == 0)
			skip = 8;
		else
			return &fault_target_form;
		for (end = skip; end < t.len && t.ptr[end] != '/' && t.ptr[end] != '?'; end++)
			;
		*authority = str_slice(t, skip, end);
		skip = end;
		if (!host_ok(*authority))
			return &fault_target_form;
	}
	for (end = skip; end < t.len && t.ptr[end] != '?'; end++)
		;
	p->path = span(p->target.from + skip, p->target.from + end);
	p->query = span(p->target.from + (end < t.len ? end + 1 : end), p->target.from + t.len);
	for (end = skip; end < t.len; end++)
		if (t.ptr[end] == '[' || t.ptr[end] == ']')
			return &fault_target;
	return NULL;
}

static const struct http_fault *judge(struct http_parser *p)
{
	const struct http_field *one[ONE_COUNT] = {NULL};
	const struct http_fault *f;
	struct str authority, host, expect;

	p->keep_alive = !p->http10;
	f = judge_target(p, &authority);
	if (!f)
		f = singles_find(p, one);
	if (f)
		return f;
	host = one[ONE_HOST] ? http_parser_str(p, one[ONE_HOST]->value) : STR_NULL;
	if (!one[ONE_HOST] ? !p->http10 : !host_ok(host))
		return &fault_host;
	if (authority.ptr && one[ONE_HOST] && !str_eq_nocase(authority, host))
		return &fault_host_other;
	f = judge_framing(p, one);
	if (f)
		return f;
	if (one[ONE_EXPECT] && !p->http10) {
		expect = http_parser_str(p, one[ONE_EXPECT]->value);
		p->expect_continue = str_eq_nocase(expect, STR("100-continue"));
		if (!p->expect_continue)
			return &fault_expect;
	}
	return NULL;
}

/* --- the second reader ------------------------------------------------------------------------ */
static int ll_on_headers_complete(llhttp_t *ll)
{
	struct http_parser *p = ll->data;

	p->ll_head = true;
	ll->upgrade = 0; /* Upgrade is ignored: the connection stays HTTP/1.1 */
	return 0;
}

static int ll_on_body(llhttp_t *ll, const char *at, size_t len)
{
	struct http_parser *p = ll->data;

	if (p->sink_rc == RC_OK)
		p->sink_rc = p->sink(p->sink_arg, str_of(at, len));
	return p->sink_rc == RC_OK ? 0 : -1;
}

static int ll_on_message_complete(llhttp_t *ll)
{
	struct http_parser *p = ll->data;

	p->ll_done = true;
	return 0;
}

static const llhttp_settings_t *ll_settings(void)
{
	static const llhttp_settings_t s = {.on_headers_complete = ll_on_headers_complete,
					    .on_body = ll_on_body,
					    .on_message_complete = ll_on_message_complete};
	return &s;
}

static const struct http_fault *ll_feed(struct http_parser *p, const char *at, size_t len,
					const struct http_fault *otherwise)
{
	if (len == 0)
		return NULL;
	if (p->ll_done)
		return &fault_framing;
	if (llhttp_execute(&p->ll, at, len) == HPE_OK)
		return NULL;
	return p->sink_rc != RC_OK ? &fault_body_large : otherwise;
}

static const struct http_fault *ll_head(struct http_parser *p)
{
	const struct http_fault *f;

	llhttp_init(&p->ll, HTTP_REQUEST, ll_settings());
	p->ll.data = p;
	f = ll_feed(p, p->head.ptr + p->start, p->head.len - p->start, &fault_framing);
	if (f)
		return f;
	if (!p->ll_head || p->ll_done == http_parser_has_body(p))
		return &fault_framing;
	if (p->chunked != ((p->ll.flags & F_CHUNKED) != 0) && !p->ll_done)
		return &fault_framing;
	return NULL;
}

#define HEAD_SLICE_BYTES 1024u

/* --- feeding a head ---------------------------------------------------------------------------- */
void http_parser_init(struct http_parser *p, const struct http_parse_limits *limits)
{
	*p = (struct http_parser){.limits = limits};
	assert(limits->headers_max <= HTTP_HEADERS_MAX);
	assert(limits->headers_bytes_max + HTTP_LINE_BYTES_MAX <= HTTP_HEAD_BYTES_MAX);
	buf_init(&p->head, HTTP_HEAD_BYTES_MAX + 64);
	http_parser_next(p);
}

void http_parser_clear(struct http_parser *p)
{
	if (p)
		buf_clear(&p->head);
}

void http_parser_next(struct http_parser *p)
{
	const struct http_parse_limits *limits = p->limits;
	struct buf head = p->head;

	/* An idle connection keeps what an ordinary head needs, not what the largest needed. */
	if (head.ptr) /* a key stood in it */
		explicit_bzero(head.ptr, head.len);
	if (head.cap > 4096)
		buf_clear(&head);
	else
		buf_reset(&head);
	*p = (struct http_parser){.limits = limits, .head = head, .state = AT_START};
	p->body_max = limits->body_bytes_max;
}

bool http_parser_begun(const struct http_parser *p)
{
	return p->pos > 0;
}

static enum http_parse refuse(struct http_parser *p, const struct http_fault *f)
{
	p->fault = f;
	p->state = AT_BAD;
	return HTTP_PARSE_BAD;
}

static enum http_parse head_end(struct http_parser *p)
{
	const struct http_fault *f = judge(p);

	if (!f)
		f = ll_head(p);
	if (f)
		return refuse(p, f);
	if (p->chunked)
		p->state = AT_CHUNK_SIZE;
	else if (p->content_length > 0)
		p->state = AT_LENGTH;
	else
		p->state = AT_DONE;
	p->left = p->chunked ? 0 : p->content_length;
	return HTTP_PARSE_DONE;
}

static enum http_parse head_slice(struct http_parser *p, struct str in, size_t *used)
{
	size_t before = p->head.len, i;

	if (buf_append(&p->head, in) != RC_OK)
		return refuse(p, &fault_headers);
	for (i = 0; i < in.len && p->state != AT_HEAD_DONE; i++) {
		const struct http_fault *f = head_byte(p, (unsigned char)in.ptr[i]);

		p->pos++;
		if (f)
			return refuse(p, f);
	}
	*used += i;
	/* bytes of the body are not the head's, and may be secret */
	explicit_bzero(p->head.ptr + before + i, in.len - i);
	p->head.len = before + i;
	return p->state == AT_HEAD_DONE ? head_end(p) : HTTP_PARSE_MORE;
}

enum http_parse http_parser_head(struct http_parser *p, struct str in, size_t *used)
{
	enum http_parse got = HTTP_PARSE_MORE;

	assert(p->state < AT_HEAD_DONE);
	*used = 0;
	if (p->pos == 0 && in.len > 0 && in.ptr[0] == 0x16) {
		p->state = AT_BAD;
		return HTTP_PARSE_NOT_HTTP;
	}
	/* in slices, so that a body that came along is not copied to look for the head's end */
	while (got == HTTP_PARSE_MORE && *used < in.len)
		got = head_slice(p, str_slice(in, *used, *used + HEAD_SLICE_BYTES), used);
	return got;
}

/* --- the body ------------------------------------------------------------------------------------ */
bool http_parser_has_body(const struct http_parser *p)
{
	return p->chunked || p->content_length > 0;
}

void http_parser_body_max(struct http_parser *p, uint64_t bytes_max)
{
	if (bytes_max < p->body_max)
		p->body_max = bytes_max;
}

static const struct http_fault *chunk_size_end(struct http_parser *p)
{
	if (p->left > p->body_max || p->payload > p->body_max - p->left)
		return &fault_body_large;
	p->payload += p->left;
	p->cost += HTTP_CHUNK_COST_BYTES;
	if (p->left > 0 && p->cost > HTTP_CHUNK_COST_FREE + HTTP_CHUNK_COST_FACTOR * p->payload)
		return &fault_chunk_cost;
	return NULL;
}

static const struct http_fault *chunk_size_byte(struct http_parser *p, unsigned char c)
{
	int v = hex_value(c);

	if (v >= 0) {
		if (++p->digits > HTTP_CHUNK_DIGITS_MAX)
			return &fault_chunk;
		p->left = p->left << 4 | (uint64_t)v;
		return NULL;
	}
	if (p->digits == 0 || (c != '\r' && c != ';'))
		return &fault_chunk;
	p->ext_bytes = 0;
	p->state = c == ';' ? AT_CHUNK_EXT : AT_CHUNK_LF;
	return c == '\r' ? chunk_size_end(p) : NULL;
}

static const struct http_fault *chunk_ext_byte(struct http_parser *p, unsigned char c)
{
	if (c == '\r') {
		p->state = AT_CHUNK_LF;
		return chunk_size_end(p);
	}
	return is_value(c) && ++p->ext_bytes <= HTTP_CHUNK_EXT_MAX ? NULL : &fault_chunk;
}

static const struct http_fault *trailer_byte(struct http_parser *p, unsigned char c)
{
	if (++p->trailer_bytes > HTTP_TRAILER_BYTES_MAX)
		return &fault_trailer;
	switch ((enum state)p->state) {
	case AT_TRAILER:
		p->state = c == '\r' ? AT_TRAILERS_LF : AT_TRAILER_NAME;
		return c == '\r' || is_token(c) ? NULL : &fault_trailer;
	case AT_TRAILER_NAME:
		if (c == ':')
			p->state = AT_TRAILER_VALUE;
		return c == ':' || is_token(c) ? NULL : &fault_trailer;
	case AT_TRAILER_VALUE:
		if (c == '\r')
			p->state = AT_TRAILER_LF;
		return c == '\r' || is_value(c) ? NULL : &fault_trailer;
	case AT_TRAILER_LF:
		p->state = AT_TRAILER;
		return c == '\n' ? NULL : &fault_trailer;
	default:
		p->state = AT_DONE;
		return c == '\n' ? NULL : &fault_trailer;
	}
}

static const struct http_fault *chunk_byte(struct http_parser *p, unsigned char c)
{
	p->cost++;
	switch ((enum state)p->state) {
	case AT_CHUNK_SIZE:
		return chunk_size_byte(p, c);
	case AT_CHUNK_EXT:
		return chunk_ext_byte(p, c);
	case AT_CHUNK_LF:
		p->state = p->left > 0 ? AT_DATA : AT_TRAILER;
		return c == '\n' ? NULL : &fault_chunk;
	case AT_DATA_CR:
		p->state = AT_DATA_LF;
		return c == '\r' ? NULL : &fault_chunk;
	case AT_DATA_LF:
		p->state = AT_CHUNK_SIZE;
		p->digits = 0;
		p->left = 0;
		return c == '\n' ? NULL : &fault_chunk;
	default:
		return trailer_byte(p, c);
	}
}

static bool in_trailers(const struct http_parser *p)
{
	return p->state >= AT_TRAILER && p->state <= AT_TRAILERS_LF;
}

/* llhttp reads the framing of the chunks but not the trailers: to it a Content-Length there would
 * be a second framing, to us it is a field nobody looks at. It is given an empty trailer instead. */
static const struct http_fault *scan_chunked(struct http_parser *p, struct str in, size_t *used)
{
	const struct http_fault *f = NULL, *g;
	size_t i = 0, fed = 0;

	while (i < in.len && p->state != AT_DONE && !f) {
		bool before = in_trailers(p);

		if (p->state == AT_DATA) {
			size_t n = in.len - i < p->left ? in.len - i : (size_t)p->left;

			p->left -= n;
			i += n;
			if (p->left == 0)
				p->state = AT_DATA_CR;
			continue;
		}
		f = chunk_byte(p, (unsigned char)in.ptr[i]);
		if (f)
			break;
		i++;
		if (!before)
			fed = i;
	}
	*used = i;
	/* what stands before the bad byte is judged first, as if it had come alone */
	g = ll_feed(p, in.ptr, in_trailers(p) || p->state == AT_DONE ? fed : i, &fault_chunk);
	if (g)
		return g;
	if (!f && p->state == AT_DONE)
		f = ll_feed(p, "\r\n", 2, &fault_chunk);
	return f;
}

static const struct http_fault *scan_length(struct http_parser *p, struct str in, size_t *used)
{
	size_t n = in.len < p->left ? in.len : (size_t)p->left;
	const struct http_fault *f = ll_feed(p, in.ptr, n, &fault_framing);

	p->left -= n;
	*used = n;
	if (p->left == 0)
		p->state = AT_DONE;
	return f;
}

enum http_parse http_parser_body(struct http_parser *p, struct str in, size_t *used,
				 http_body_sink *sink, void *arg)
{
	const struct http_fault *f;

	assert(p->state > AT_HEAD_DONE && p->state <= AT_DONE);
	*used = 0;
	if (p->state == AT_DONE)
		return HTTP_PARSE_DONE;
	if (!p->chunked && p->content_length > p->body_max)
		return refuse(p, &fault_body_large);
	p->sink = sink;
	p->sink_arg = arg;
	p->sink_rc = RC_OK;
	f = p->chunked ? scan_chunked(p, in, used) : scan_length(p, in, used);
	if (!f && p->state == AT_DONE && !p->ll_done)
		f = &fault_framing;
	if (f)
		return refuse(p, f);
	return p->state == AT_DONE ? HTTP_PARSE_DONE : HTTP_PARSE_MORE;
}
