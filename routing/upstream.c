/* routing/upstream.c - an attempt as an outgoing request. */
#include "routing/upstream.h"

#include <stdlib.h>
#include <time.h>

#include "routing/provider.h"

#define UPSTREAM_HEADERS_MAX 8
#define UPSTREAM_WAIT_MAX_S  (24 * 3600)

/* What a caller may say to a provider through us (security.md 3.2); never Host, Cookie or credentials. */
static const char *const forwarded[] = {"openai-beta", "traceparent"};

struct curlm_call *upstream_start(struct curlm *m, const struct upstream_request *u,
				  const struct curlm_handlers *h, struct arena *mem)
{
	const struct provider *p = u->target->provider;
	struct curlm_header headers[UPSTREAM_HEADERS_MAX];
	char id[UUID_TEXT_SIZE];
	size_t n = 0;

	headers[n++] = (struct curlm_header){"Accept", u->stream ? STR("text/event-stream")
								 : STR("application/json")};
	headers[n++] = (struct curlm_header){"User-Agent", STR("tollgate")};
	if (u->body.len > 0)
		headers[n++] = (struct curlm_header){"Content-Type", STR("application/json")};
	if (p->header_name)
		headers[n++] = (struct curlm_header){p->header_name, str_from(p->header_value)};
	for (size_t i = 0; u->client && i < ARRAY_LEN(forwarded); i++) {
		struct str value = http_header(u->client, forwarded[i]);

		if (value.ptr && value.len <= 512)
			headers[n++] = (struct curlm_header){forwarded[i], value};
	}
	struct curlm_request r = {
		.method = u->body.len > 0 ? "POST" : "GET",
		.base = u->target->profile->base_url,
		.path = u->path,
		.headers = headers,
		.headers_count = n,
		.secret_form = u->secret ? p->secret_form : CURLM_SECRET_NONE,
		.secret_header = p->secret_header,
		.secret = u->secret ? secret_str(u->secret) : STR_NULL,
		.body = u->body,
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
	if (r->retry_after.len == 0 || r->retry_after.len >= sizeof date)
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
