/* server/base/str.h - a borrowed run of bytes: pointer and length, never owned,
 * not NUL-terminated unless it came from a literal or an arena_str* call. */
#ifndef SERVER_BASE_STR_H
#define SERVER_BASE_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "server/base/rc.h"

struct str {
	const char *ptr;
	size_t len;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NULL     ((struct str){NULL, 0})
/* printf("%.*s", STR_FMT(s)) */
#define STR_FMT(s) (int)(s).len, (s).ptr

static inline struct str str_from(const char *z) /* NULL gives STR_NULL */
{
	return (struct str){z, z ? strlen(z) : 0};
}
static inline struct str str_of(const void *ptr, size_t len)
{
	return (struct str){ptr, len};
}
static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool str_is(struct str a, const char *z)
{
	return str_eq(a, str_from(z));
}
bool str_eq_nocase(struct str a, struct str b); /* ASCII only */
int str_cmp(struct str a, struct str b);	/* memcmp order, then length */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Index of the first `c`, or -1. */
ptrdiff_t str_find(struct str s, char c);
/* Index of the first `needle`, or -1. Case-insensitive in the second form (ASCII). */
ptrdiff_t str_find_str(struct str s, struct str needle);
ptrdiff_t str_find_nocase(struct str s, struct str needle);
struct str str_slice(struct str s, size_t from, size_t to); /* clamps both ends */
struct str str_trim(struct str s);			    /* spaces and tabs, both ends */
/* Cut `*rest` at the first `sep`: returns what is before it, moves `*rest` behind it.
 * Without a separator the whole is returned and *rest becomes STR_NULL (ptr NULL). */
struct str str_cut(struct str *rest, char sep);
/* Does `pattern`, in which '*' is any run of characters, match all of `s`? Linear space, no recursion. */
bool str_glob(struct str pattern, struct str s);
/* Whole string, decimal digits (one leading '-' in the signed form), in range; else RC_INVALID. */
MUST_CHECK enum rc str_to_i64(struct str s, int64_t *ret);
MUST_CHECK enum rc str_to_u64(struct str s, uint64_t *ret);
/* Well-formed UTF-8 (no surrogates, no overlongs, at most U+10FFFF)? */
bool str_is_utf8(struct str s);
/* Bytes of the well-formed UTF-8 sequence at the front of `s`; 0: there is none. */
size_t str_utf8_len(struct str s);

#endif
