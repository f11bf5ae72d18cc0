/* server/curlm_head.c - judge an upstream's response head (security.md 3.3).
 *
 * Whatever two readers could frame differently is refused: the call ends and its connection is closed,
 * so that nothing left over can be taken for the next answer. Must never repeat what the upstream
 * said in words for a caller. */
#include "server/curlm_head.h"

#define HEADER_NAME_MAX	 64
#define HEADER_VALUE_MAX 4096

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool curlm_header_name_ok(struct str name)
{
	if (name.len == 0 || name.len > HEADER_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (!is_token(name.ptr[i]))
			return false;
	return true;
}

bool curlm_header_value_ok(struct str value)
{
	if (value.len > HEADER_VALUE_MAX)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c < 0x20 || c == 0x7f)
			return false;
	}
	return true;
}

static enum rc bad(struct err *err, const char *why)
{
	err_set(err, RC_PROTOCOL, "protocol", "The upstream broke HTTP: %s.", why);
	return RC_PROTOCOL;
}

static enum rc head_begin(struct curlm_head *h, struct str line, struct err *err)
{
	struct str rest = line;
	struct str version = str_cut(&rest, ' '), code;
	uint64_t status;

	if (!rest.ptr || (!str_is(version, "HTTP/1.1") && !str_is(version, "HTTP/1.0")))
		return bad(err, "its status line is not of HTTP/1.0 or HTTP/1.1");
	code = str_cut(&rest, ' ');
	if (code.len != 3 || str_to_u64(code, &status) != RC_OK || status < 100 || status > 599)
		return bad(err, "its status is not a number from 100 to 599");
	h->r = (struct curlm_response){.status = (int)status};
	h->http_1_0 = str_is(version, "HTTP/1.0");
	h->chunked = false;
	h->lengths = 0;
	return RC_OK;
}

static enum rc head_end(struct curlm_head *h, struct err *err)
{
	if (h->r.status == 101)
		return bad(err, "it switched protocols unasked");
	if (h->r.status < 200) {
		if (++h->informational > CURLM_HEAD_INFORMATIONAL_MAX)
			return bad(err, "too many informational answers");
		h->r = (struct curlm_response){0};
		return RC_OK;
	}
	if (h->chunked && h->lengths > 0)
		return bad(err, "its answer has both a length and chunks");
	if (h->chunked && h->http_1_0)
		return bad(err, "it sent chunks in HTTP/1.0");
	if (h->r.status >= 300 && h->r.status < 400) {
		err_set(err, RC_PROTOCOL, "upstream_redirect",
			"The upstream answered with a redirect (%d), which is never followed.",
			h->r.status);
		err_hint(err, "Set the provider's base URL to the address it redirects to, if "
			      "that is where the secret may go.");
		return RC_PROTOCOL;
	}
	h->complete = true;
	return RC_OK;
}

static enum rc head_length(struct curlm_head *h, struct str value, struct err *err)
{
	uint64_t n;

	if (++h->lengths > 1)
		return bad(err, "its answer has two lengths");
	if (value.len == 0 || value.len > 18 || value.ptr[0] == '+' ||
	    str_to_u64(value, &n) != RC_OK)
		return bad(err, "its length is not a number");
	return RC_OK;
}

static struct str keep(char *to, size_t size, struct str value)
{
	size_t len = value.len < size ? value.len : size;

	memcpy(to, value.ptr, len);
	return (struct str){to, len};
}

/* anthropic-ratelimit-{bucket}-{remaining,reset}: which bucket has how much, and until when. */
static void head_bucket(struct curlm_head *h, struct str name, struct str value)
{
	static const char *const buckets[CURLM_BUCKETS] = {"requests-", "tokens-", "input-tokens-",
							   "output-tokens-"};
	const struct str rest = str_slice(name, sizeof "anthropic-ratelimit-" - 1, name.len);

	for (size_t i = 0; i < CURLM_BUCKETS; i++) {
		const size_t len = strlen(buckets[i]);
		struct curlm_bucket *b = &h->r.buckets[i];

		if (rest.len <= len ||
		    !str_eq_nocase(str_slice(rest, 0, len), str_from(buckets[i])))
			continue;
		if (str_eq_nocase(str_slice(rest, len, rest.len), STR("remaining")))
			b->remaining = keep(h->buckets[i][0], sizeof h->buckets[i][0], value);
		else if (str_eq_nocase(str_slice(rest, len, rest.len), STR("reset")))
			b->reset = keep(h->buckets[i][1], sizeof h->buckets[i][1], value);
	}
}

static enum rc head_field(struct curlm_head *h, struct str name, struct str value, struct err *err)
{
	if (str_eq_nocase(name, STR("content-length")))
		return head_length(h, value, err);
	if (str_eq_nocase(name, STR("transfer-encoding"))) {
		if (h->chunked || !str_eq_nocase(value, STR("chunked")))
			return bad(err, "its transfer encoding is not plainly chunked");
		h->chunked = true;
	} else if (str_eq_nocase(name, STR("content-encoding"))) {
		if (value.len > 0 && !str_eq_nocase(value, STR("identity")))
			return bad(err, "it compressed the answer unasked");
	} else if (str_eq_nocase(name, STR("content-type"))) {
		h->r.content_type = keep(h->content_type, sizeof h->content_type, value);
	} else if (str_eq_nocase(name, STR("retry-after"))) {
		h->r.retry_after = keep(h->retry_after, sizeof h->retry_after, value);
	} else if (str_eq_nocase(name, STR("retry-after-ms"))) {
		h->r.retry_after_ms = keep(h->retry_after_ms, sizeof h->retry_after_ms, value);
	} else if (str_eq_nocase(name, STR("x-request-id")) ||
		   (str_eq_nocase(name, STR("request-id")) && h->r.request_id.len == 0)) {
		h->r.request_id = keep(h->request_id, sizeof h->request_id, value);
	} else if (str_eq_nocase(name, STR("character-cost"))) {
		h->r.character_cost = keep(h->character_cost, sizeof h->character_cost, value);
	} else if (str_eq_nocase(name, STR("x-character-count"))) {
		h->r.character_count = keep(h->character_count, sizeof h->character_count, value);
	} else if (str_eq_nocase(name, STR("x-ratelimit-reset"))) {
		h->r.bucket_reset = keep(h->bucket_reset, sizeof h->bucket_reset, value);
	} else if (str_find_nocase(name, STR("anthropic-ratelimit-")) == 0) {
		head_bucket(h, name, value);
	}
	return RC_OK;
}

enum rc curlm_head_line(struct curlm_head *h, struct str line, struct err *err)
{
	struct str name, rest;

	h->bytes += line.len;
	if (h->bytes > CURLM_HEAD_BYTES_MAX)
		return bad(err, "its headers are larger than 64 KiB");
	while (line.len > 0 && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
		line.len--;
	if (h->complete) /* trailers: nothing in them is used */
		return RC_OK;
	if (h->r.status == 0)
		return head_begin(h, line, err);
	if (line.len == 0)
		return head_end(h, err);
	if (memchr(line.ptr, '\0', line.len) || memchr(line.ptr, '\r', line.len))
		return bad(err, "a header holds a NUL or a bare carriage return");
	rest = line;
	name = str_cut(&rest, ':');
	if (!rest.ptr || !curlm_header_name_ok(name))
		return bad(err, "a header has no proper name");
	return head_field(h, name, str_trim(rest), err);
}
