/* routing/outgoing.c - the caller's body on its way to a provider of the same dialect.
 *
 * What is not edited leaves byte for byte: numbers, escapes and spaces as they came. A large body is sent from where
 * it stands, in the request's buffer, which lives as long as the call; it must never be copied here. */
#include "routing/dialect.h"

#define OUTGOING_COPY_MAX                                                                          \
	65536u /* up to here a copy is cheaper than to gather pieces at each send */

/* Into one buffer, of the right size at once. */
static enum rc join(const struct str *pieces, size_t count, struct buf *out)
{
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += pieces[i].len;
	TRY(buf_reserve(out, len));
	for (size_t i = 0; i < count; i++)
		TRY(buf_append(out, pieces[i]));
	return RC_OK;
}

/* What is edited may stand in a buffer that ends with its function. RC_TOO_LARGE: it is no small part. */
static enum rc keep_edits(const struct json_edit *edits, size_t n, struct arena *mem,
			  struct json_edit *ret)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += edits[i].raw_json.len;
	if (len > OUTGOING_COPY_MAX)
		return RC_TOO_LARGE;
	for (size_t i = 0; i < n; i++) {
		ret[i] = edits[i];
		if (edits[i].raw_json.ptr)
			ret[i].raw_json = arena_str(mem, edits[i].raw_json);
	}
	return RC_OK;
}

enum rc outgoing_pass(const struct call *c, const struct json_edit *edits, size_t n,
		      struct arena *mem, struct outgoing *out)
{
	struct str *pieces = ARENA_ARRAY(mem, struct str, JSON_PIECES_MAX);
	struct json_edit kept[JSON_EDITS_MAX];
	const bool large =
		c->body_text.len > OUTGOING_COPY_MAX && keep_edits(edits, n, mem, kept) == RC_OK;
	size_t count = 1;

	pieces[0] = c->body_text;
	if (n > 0)
		TRY(json_splice(c->body_text, c->body, large ? kept : edits, n, mem, pieces,
				&count));
	if (!large)
		return join(pieces, count, out->body);
	out->pieces = pieces;
	out->pieces_count = count;
	return RC_OK;
}
