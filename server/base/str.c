/* server/base/str.c - questions about borrowed bytes.
 *
 * Nothing here allocates, nothing depends on the locale, nothing reads past `len`. */
#include "server/base/str.h"

static unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u + ('a' - 'A')) : u;
}

static bool equal_nocase(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

bool str_eq_nocase(struct str a, struct str b)
{
	return a.len == b.len && equal_nocase(a.ptr, b.ptr, a.len);
}

int str_cmp(struct str a, struct str b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int diff = len ? memcmp(a.ptr, b.ptr, len) : 0;

	if (diff)
		return diff;
	return (a.len > b.len) - (a.len < b.len);
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && str_eq(str_of(s.ptr, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_eq(str_slice(s, s.len - suffix.len, s.len), suffix);
}

ptrdiff_t str_find(struct str s, char c)
{
	const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;

	return at ? at - s.ptr : -1;
}

ptrdiff_t str_find_str(struct str s, struct str needle)
{
	const char *at;

	if (needle.len == 0)
		return 0;
	if (needle.len > s.len)
		return -1;
	at = memmem(s.ptr, s.len, needle.ptr, needle.len);
	return at ? at - s.ptr : -1;
}

ptrdiff_t str_find_nocase(struct str s, struct str needle)
{
	if (needle.len == 0)
		return 0;
	for (size_t i = 0; i + needle.len <= s.len; i++)
		if (equal_nocase(s.ptr + i, needle.ptr, needle.len))
			return (ptrdiff_t)i;
	return -1;
}

struct str str_slice(struct str s, size_t from, size_t to)
{
	if (to > s.len)
		to = s.len;
	if (from > to)
		from = to;
	return str_of(from ? s.ptr + from : s.ptr, to - from); /* NULL + 0 is not C */
}

struct str str_trim(struct str s)
{
	size_t from = 0;
	size_t to = s.len;

	while (from < to && (s.ptr[from] == ' ' || s.ptr[from] == '\t'))
		from++;
	while (to > from && (s.ptr[to - 1] == ' ' || s.ptr[to - 1] == '\t'))
		to--;
	return str_slice(s, from, to);
}

struct str str_cut(struct str *rest, char sep)
{
	ptrdiff_t at = str_find(*rest, sep);
	struct str whole = *rest;

	if (at < 0) {
		*rest = STR_NULL;
		return whole;
	}
	*rest = str_slice(whole, (size_t)at + 1, whole.len);
	return str_slice(whole, 0, (size_t)at);
}

bool str_glob(struct str pattern, struct str s)
{
	size_t p = 0;
	size_t i = 0;
	size_t star = SIZE_MAX; /* where to come back to: the last '*' seen, ... */
	size_t taken = 0;	/* ... and how much of `s` it has swallowed */

	while (i < s.len) {
		if (p < pattern.len && pattern.ptr[p] == '*') {
			star = p++;
			taken = i;
		} else if (p < pattern.len && pattern.ptr[p] == s.ptr[i]) {
			p++;
			i++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			i = ++taken;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.ptr[p] == '*')
		p++;
	return p == pattern.len;
}

enum rc str_to_u64(struct str s, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.len == 0)
		return RC_INVALID;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return RC_INVALID;
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(s.ptr[i] - '0'), &n))
			return RC_INVALID;
	}
	*ret = n;
	return RC_OK;
}

enum rc str_to_i64(struct str s, int64_t *ret)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	uint64_t n;

	TRY(str_to_u64(negative ? str_slice(s, 1, s.len) : s, &n));
	if (n > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return RC_INVALID;
	*ret = negative ? (int64_t)(0 - n) : (int64_t)n;
	return RC_OK;
}

/* Length of the well-formed sequence at the front of `s`; 0: there is none. */
size_t str_utf8_len(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t len;

	if (s.len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0; /* overlong */
	else if (p[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (p[0] == 0xf0)
		low = 0x90; /* overlong */
	else if (p[0] == 0xf4)
		high = 0x8f; /* past U+10FFFF */
	if (s.len < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return len;
}

bool str_is_utf8(struct str s)
{
	while (s.len) {
		size_t len = str_utf8_len(s);

		if (len == 0)
			return false;
		s = str_slice(s, len, s.len);
	}
	return true;
}
