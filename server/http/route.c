/* server/http/route.c - from a path to an endpoint.
 *
 * A path is matched as it was sent: nothing is normalised, so there is no second spelling of a
 * route that a check elsewhere might miss. Empty segments, dot segments (encoded or not), ';' and
 * trailing slashes belong to no route. Only what a {name} caught is decoded, and only afterwards. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include <assert.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

struct str http_percent_decode(struct arena *mem, struct str s, bool plus)
{
	char *out = arena_alloc(mem, s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		int hi = -1, lo = -1;

		if (s.ptr[i] == '%' && s.len - i > 2) {
			hi = hex_value(s.ptr[i + 1]);
			lo = hex_value(s.ptr[i + 2]);
		}
		if (hi >= 0 && lo >= 0) {
			out[n++] = (char)(hi << 4 | lo);
			i += 2;
			continue;
		}
		out[n++] = plus && s.ptr[i] == '+' ? ' ' : s.ptr[i];
	}
	return str_of(out, n);
}

/* The aliases of interface.md: other names for the same doors, so what guards the doors guards them. */
struct str http_alias(struct str path)
{
	static const struct {
		struct str prefix;
		size_t keep; /* bytes of the prefix's end that stay */
	} aliases[] = {
		{{"/openai/v1", 10}, 3}, /* leaves "/v1" */
		{{"/anthropic", 10}, 0},
		{{"/genai", 6}, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
		size_t n = aliases[i].prefix.len;

		if (!str_starts(path, aliases[i].prefix) || (path.len > n && path.ptr[n] != '/'))
			continue;
		path = str_slice(path, n - aliases[i].keep, path.len);
		return path.len ? path : STR("/");
	}
	return path;
}

/* One character of a segment, decoded; moves `*i` behind it. */
static char decoded_at(struct str s, size_t *i)
{
	if (s.ptr[*i] == '%' && s.len - *i > 2 && hex_value(s.ptr[*i + 1]) >= 0 &&
	    hex_value(s.ptr[*i + 2]) >= 0) {
		char c = (char)(hex_value(s.ptr[*i + 1]) << 4 | hex_value(s.ptr[*i + 2]));

		*i += 3;
		return c;
	}
	return s.ptr[(*i)++];
}

/* No empty part and no dot part, after decoding, with an encoded slash counted as a slash. */
static bool path_is_plain(struct str path)
{
	size_t part = 0, dots = 0;

	if (path.len == 0 || path.ptr[0] != '/')
		return false;
	if (path.len == 1)
		return true;
	for (size_t i = 1; i < path.len;) {
		char c = decoded_at(path, &i);

		if (c == ';')
			return false;
		if (c != '/') {
			part++;
			dots += c == '.';
			continue;
		}
		if (part == 0 || (dots == part && part <= 2))
			return false;
		part = dots = 0;
	}
	return part > 0 && !(dots == part && part <= 2);
}

struct match {
	struct str params[HTTP_PATH_PARAMS_MAX];
	size_t params_count, literal_bytes;
};

/* One "{name}" or "{name...}" and the literal that follows it inside the segment. */
static const char *match_param(const char *pat, struct str path, size_t *at, struct match *m)
{
	const char *end = strchr(pat, '}');
	bool rest = end && end - pat > 3 && memcmp(end - 3, "...", 3) == 0;
	size_t suffix, stop = *at, value;

	assert(end && m->params_count < HTTP_PATH_PARAMS_MAX);
	suffix = rest ? strlen(end + 1) : strcspn(end + 1, "/");
	while (stop < path.len && (rest || path.ptr[stop] != '/'))
		stop++;
	if (stop - *at <= suffix)
		return NULL;
	value = stop - *at - suffix;
	if (suffix && memcmp(path.ptr + *at + value, end + 1, suffix) != 0)
		return NULL;
	m->params[m->params_count++] = str_slice(path, *at, *at + value);
	m->literal_bytes += suffix;
	*at = stop;
	return end + 1 + suffix;
}

static bool match_path(const char *pat, struct str path, struct match *m)
{
	size_t at = 0;

	*m = (struct match){.params_count = 0};
	while (*pat) {
		if (*pat == '{') {
			pat = match_param(pat, path, &at, m);
			if (!pat)
				return false;
			continue;
		}
		if (at >= path.len || path.ptr[at] != *pat)
			return false;
		at++;
		pat++;
		m->literal_bytes++;
	}
	return at == path.len;
}

static void allow_add(struct buf *allowed, const char *method)
{
	struct str have = buf_str(allowed);

	while (have.ptr && have.len > 0)
		if (str_is(str_trim(str_cut(&have, ',')), method))
			return;
	/* the list is as long as there are methods: it cannot outgrow any buffer we are given */
	if (buf_printf(allowed, "%s%s", allowed->len ? ", " : "", method) != RC_OK)
		return;
	if (strcmp(method, "GET") == 0)
		allow_add(allowed, "HEAD");
}

const struct endpoint *http_route(const struct endpoint *const *tables, enum surface s,
				  struct str method, struct str path,
				  struct str params[HTTP_PATH_PARAMS_MAX], struct buf *allowed)
{
	const struct endpoint *best = NULL;
	size_t best_literal = 0;
	struct match m;

	if (!path_is_plain(path))
		return NULL;
	for (; *tables; tables++) {
		for (const struct endpoint *e = *tables; e->path; e++) {
			if (!(e->surface & s) || !match_path(e->path, path, &m))
				continue;
			if (allowed)
				allow_add(allowed, e->method);
			if (!str_is(method, e->method) &&
			    !(str_is(method, "HEAD") && strcmp(e->method, "GET") == 0))
				continue;
			/* the more of the path is spelled out, the closer the match */
			if (best && m.literal_bytes <= best_literal)
				continue;
			best = e;
			best_literal = m.literal_bytes;
			memcpy(params, m.params, sizeof m.params);
		}
	}
	return best;
}

struct str http_header(const struct http_request *r, const char *name)
{
	for (size_t i = 0; i < r->headers_count; i++)
		if (str_eq_nocase(r->headers[i].name, str_from(name)))
			return r->headers[i].value;
	return STR_NULL;
}

struct str http_query(struct http_request *r, const char *name)
{
	struct str rest = r->query;

	while (rest.ptr && rest.len > 0) {
		struct str value = str_cut(&rest, '&');
		struct str key = str_cut(&value, '=');

		if (str_is(http_percent_decode(r->mem, key, true), name))
			return http_percent_decode(r->mem, value.ptr ? value : STR(""), true);
	}
	return STR_NULL;
}
