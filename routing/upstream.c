/* routing/upstream.c - an attempt as an outgoing request. */
#include "routing/upstream.h"

#include <stdlib.h>
#include <time.h>

#include "routing/provider.h"
#include "server/base/clock.h"

#define UPSTREAM_HEADERS_MAX	  12
#define UPSTREAM_HEADER_BYTES_MAX 4096 /* a list of betas is long */
#define UPSTREAM_WAIT_MAX_S	  (24 * 3600)
#define UPSTREAM_EPOCH_MS_MIN	  1000000000000 /* 2001: less is no time in epoch milliseconds */

/* What a caller may say to a provider through us (security.md 3.2); never Host, Cookie or credentials. */
static const char *const forwarded[] = {"traceparent"};
/* ... and what belongs to the dialect's own body: only where both sides speak it. Whatever the caller sends goes, for a
 * field in the body may need its name in the header. */
static const char *const forwarded_own[] = {"openai-beta", "anthropic-version", "anthropic-beta",
					    "x-goog-api-client"};

struct str upstream_path(const struct provider_endpoint *e, struct str model, bool stream,
			 struct arena *mem)
{
	static const char hex[] = "0123456789ABCDEF";
	const struct str path = str_from(stream && e->path_stream ? e->path_stream : e->path);
	const ptrdiff_t at = str_find_str(path, STR("{model}"));
	char *name = arena_alloc(mem, model.len * 3 + 1);
	size_t n = 0;

	if (at < 0)
		return path;
	for (size_t i = 0; i < model.len; i++) {
		const unsigned char c = (unsigned char)model.ptr[i];

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    memchr("-._~/:@", c, 7)) {
			name[n++] = (char)c;
		} else {
			name[n++] = '%';
			name[n++] = hex[c >> 4];
			name[n++] = hex[c & 15];
		}
	}
	return arena_printf(mem, "%.*s%.*s%.*s", (int)at, path.ptr, (int)n, name,
			    STR_FMT(str_slice(path, (size_t)at + 7, path.len)));
}

static void forward(const struct http_request *client, const char *const *names, size_t count,
		    struct curlm_header *headers, size_t *n)
{
	for (size_t i = 0; client && i < count; i++) {
		struct str value = http_header(client, names[i]);

		if (value.ptr && value.len <= UPSTREAM_HEADER_BYTES_MAX)
			headers[(*n)++] = (struct curlm_header){names[i], value};
	}
}

static bool has_header(const struct curlm_header *headers, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq_nocase(str_from(headers[i].name), str_from(name)))
			return true;
	return false;
}

struct curlm_call *upstream_start(struct curlm *m, const struct upstream_request *u,
				  const struct curlm_handlers *h, struct arena *mem)
{
	const struct provider *p = u->target->provider;
	struct curlm_header headers[UPSTREAM_HEADERS_MAX];
	const bool asks = u->body.len > 0 || u->pieces_count > 0;
	char id[UUID_TEXT_SIZE];
	size_t n = 0;

	headers[n++] = (struct curlm_header){"Accept", u->any_type ? STR("*/*")
						       : u->stream ? STR("text/event-stream")
								   : STR("application/json")};
	headers[n++] = (struct curlm_header){"User-Agent", STR("tollgate")};
	if (asks)
		headers[n++] = (struct curlm_header){"Content-Type",
						     u->content_type.len ? u->content_type
									 : STR("application/json")};
	forward(u->client, forwarded, ARRAY_LEN(forwarded), headers, &n);
	if (u->same_dialect)
		forward(u->client, forwarded_own, ARRAY_LEN(forwarded_own), headers, &n);
	if (p->header_name && !has_header(headers, n, p->header_name))
		headers[n++] = (struct curlm_header){p->header_name, str_from(p->header_value)};
	struct curlm_request r = {
		.method = u->method ? u->method
			  : asks    ? "POST"
				    : "GET",
		.base = u->target->profile->base_url,
		.path = u->path,
		.headers = headers,
		.headers_count = n,
		.secret_form = u->secret ? p->secret_form : CURLM_SECRET_NONE,
		.secret_header = p->secret_header,
		.secret = u->secret ? secret_str(u->secret) : STR_NULL,
		.body = u->body,
		.pieces = u->pieces,
		.pieces_count = u->pieces_count,
		.stream = u->stream,
		.timeouts = u->timeouts,
		.body_bytes_max = u->body_bytes_max,
		.pool_key = arena_str(mem, uuid_format(u->target->profile->id, id)),
	};
	return curlm_start(m, &r, h);
}

static int64_t capped(int64_t s)
{
	return s < 0 ? 0 : s > UPSTREAM_WAIT_MAX_S ? UPSTREAM_WAIT_MAX_S : s;
}

/* "12", "12.5": whole units, rounded up; -1 if it is no such number. */
static int64_t number_up(struct str s)
{
	ptrdiff_t dot = str_find(s, '.');
	struct str whole = dot < 0 ? s : str_slice(s, 0, (size_t)dot);
	int64_t n;

	if (str_to_i64(whole, &n) != RC_OK)
		return -1;
	return dot < 0 || n == INT64_MAX ? n : n + 1;
}

/* Of a refusal for its rate: when the buckets that are empty are filled again. Anthropic names each of its own by a
 * time (anthropic.md); OpenRouter has one, in epoch milliseconds (openai-compatible.md), which no other vendor's header
 * of that name looks like. 0: not said. */
static int64_t refilled_after_s(const struct curlm_response *r, int64_t wall_ms)
{
	int64_t until_ms = 0, us, n;

	if (r->status != 429)
		return 0;
	for (size_t i = 0; i < CURLM_BUCKETS; i++)
		if (str_is(str_trim(r->buckets[i].remaining), "0") &&
		    clock_parse_rfc3339(str_trim(r->buckets[i].reset), &us) == RC_OK &&
		    us / 1000 > until_ms)
			until_ms = us / 1000;
	if (until_ms == 0 && str_to_i64(str_trim(r->bucket_reset), &n) == RC_OK &&
	    n >= UPSTREAM_EPOCH_MS_MIN)
		until_ms = n;
	return until_ms > wall_ms ? capped((until_ms - wall_ms + 999) / 1000) : 0;
}

int64_t upstream_retry_after_s(const struct curlm_response *r, int64_t wall_ms)
{
	struct tm tm = {0};
	char date[64];
	int64_t n;

	if (r->retry_after_ms.len > 0) {
		n = number_up(str_trim(r->retry_after_ms));
		if (n >= 0)
			return capped(n / 1000 + (n % 1000 != 0));
	}
	if (r->retry_after.len == 0)
		return refilled_after_s(r, wall_ms);
	if (r->retry_after.len >= sizeof date)
		return 0;
	n = number_up(str_trim(r->retry_after));
	if (n >= 0 || r->retry_after.ptr[0] == '-')
		return capped(n);
	memcpy(date, r->retry_after.ptr, r->retry_after.len);
	date[r->retry_after.len] = '\0';
	if (!strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		return 0;
	return capped((int64_t)timegm(&tm) - wall_ms / 1000);
}
