/* server/base/json.h - strict JSON in, streamed JSON out; yyjson behind it.
 *
 * Reading: RFC 8259 and nothing more: well-formed UTF-8 without BOM, no NUL bytes, no lone surrogates, no
 * NaN, no 1e400, nothing behind the value, depth at most JSON_DEPTH_MAX (checked before parsing, so
 * the stack is bounded), no duplicate key in any object when JSON_NO_DUPLICATES is asked; where
 * they are allowed, json_get() finds the first. Numbers keep their literal: an integer that does not
 * fit an int64_t is a JSON_REAL and is written back as it came.
 * A document and all its strings live in the arena it was parsed into, but for what json_parse_held() leaves
 * where it stands.
 * Writing: straight into a struct buf, commas and escapes handled; the first failure sticks and is
 * returned by json_out_end(). */
#ifndef SERVER_BASE_JSON_H
#define SERVER_BASE_JSON_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/id.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define JSON_DEPTH_MAX 64

struct json; /* a value inside a parsed document; opaque, never freed by hand */

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_flags { JSON_ALLOW_DUPLICATES = 0, JSON_NO_DUPLICATES = 1 };

/* Parse all of `text`. RC_INVALID with `err` saying where (code "invalid_json"). */
MUST_CHECK enum rc json_parse(struct str text, enum json_flags flags, struct arena *mem,
			      struct json **ret, struct err *err);
/* The same for a text that outlives the document and does not change: strings of `borrow_min` bytes and more
 * that are plain (ASCII without escapes: an inline image) are not copied but point into it, with no NUL behind
 * them. At most JSON_BORROWS_MAX; the rest is copied. */
#define JSON_BORROW_MIN	 32768u /* usual `borrow_min`: a copy of less is cheaper than the care */
#define JSON_BORROWS_MAX 256
MUST_CHECK enum rc json_parse_held(struct str text, enum json_flags flags, size_t borrow_min,
				   struct arena *mem, struct json **ret, struct err *err);
enum json_type json_type(const struct json *v);
const char *json_type_name(enum json_type t);
/* Member of an object, or NULL (also when `v` is NULL or no object). */
struct json *json_get(const struct json *v, const char *key);
struct json *json_get_s(const struct json *v, struct str key);
bool json_is_null(const struct json *v); /* NULL or the null literal: absent either way */
/* False when `v` is absent or of another type; `*ret` is then untouched. */
bool json_string(const struct json *v, struct str *ret);
bool json_int(const struct json *v, int64_t *ret); /* integers only, in range; 5.0 is no integer */
bool json_bool(const struct json *v, bool *ret);
size_t json_len(const struct json *v);			  /* members or elements; 0 for others */
struct json *json_at(const struct json *array, size_t i); /* O(i): iterate instead in loops */

struct json_iter {
	const struct json *of;
	size_t i;
	const struct json *next;
};
struct json_iter json_iter(const struct json *v); /* array or object; anything else is empty */
/* Next element; for objects `*key` is set. False at the end. */
bool json_next(struct json_iter *it, struct str *key, struct json **value);

/* Serialise a value as it stands (numbers keep their literal where yyjson keeps them). */
MUST_CHECK enum rc json_write(const struct json *v, struct buf *out);

/* Write `object` with some top-level members replaced, removed or added; all else is copied in its
 * order. A member that is not there yet is appended. A key that stands twice is written once. */
struct json_edit {
	const char *key;
	struct str raw_json; /* already JSON; ptr NULL removes the member */
};
#define JSON_EDITS_MAX 32 /* more in one call is our bug and asserts */
MUST_CHECK enum rc json_write_edited(const struct json *object, const struct json_edit *edits,
				     size_t n, struct buf *out);
/* The same without writing: what is not edited stays as it stands in `text`, which `object` is the whole of, byte for
 * byte. `pieces` get slices of `text`, of the edits, and what `mem` holds of keys and commas; one behind the
 * other they are the edited text, at most JSON_PIECES_MAX. RC_INVALID: no object, or one with so many
 * duplicates of an edited key that the pieces do not do. */
#define JSON_PIECES_MAX (4 * JSON_EDITS_MAX)
MUST_CHECK enum rc json_splice(struct str text, const struct json *object,
			       const struct json_edit *edits, size_t n, struct arena *mem,
			       struct str pieces[JSON_PIECES_MAX], size_t *ret_count);

struct json_out {
	struct buf *buf;
	enum rc rc;
	bool comma;
};
void json_out_begin(struct json_out *o, struct buf *buf);
MUST_CHECK enum rc json_out_end(struct json_out *o);
/* In an object pass the key, in an array or at the top NULL. */
void json_obj(struct json_out *o, const char *key);
void json_obj_end(struct json_out *o);
void json_arr(struct json_out *o, const char *key);
void json_arr_end(struct json_out *o);
void json_put_str(struct json_out *o, const char *key, struct str v); /* ptr NULL writes null */
void json_put_z(struct json_out *o, const char *key, const char *v);  /* NULL writes null */
void json_put_int(struct json_out *o, const char *key, int64_t v);
void json_put_bool(struct json_out *o, const char *key, bool v);
void json_put_null(struct json_out *o, const char *key);
void json_put_uuid(struct json_out *o, const char *key, struct uuid v);
void json_put_raw(struct json_out *o, const char *key, struct str json); /* already JSON */
void json_put_value(struct json_out *o, const char *key, const struct json *v);
void json_put_value_s(struct json_out *o, struct str key, const struct json *v);
/* Escape `s` as JSON string content without quotes. Bad UTF-8 becomes U+FFFD. */
MUST_CHECK enum rc json_escape(struct str s, struct buf *out);

#endif
