/* routing/embed.h - a call for embeddings and its vectors, in nobody's dialect.
 *
 * The same rules as for chat.h: used only where the caller's dialect is not the target's, all strings are borrowed from
 * the arena of the call or of the answer, and numbers keep their literal. Pure. Any thread. */
#ifndef ROUTING_EMBED_H
#define ROUTING_EMBED_H
#include "server/base/json.h"

#define EMBED_INPUTS_MAX 2048  /* what OpenAI takes in one call */
#define EMBED_VALUES_MAX 16384 /* numbers of one vector; the largest known has 4096 */

struct embed_input {
	struct str text;	   /* ptr NULL: `tokens` */
	const struct json *tokens; /* an array of integers; NULL: `text` */
	struct str task_type;	   /* of this input (Gemini); ptr NULL: not said */
	struct str title;	   /* ptr NULL: not said */
	int64_t dimensions;	   /* 0: not said */
};
struct embed {
	struct embed_input *inputs;
	size_t inputs_count;
	int64_t dimensions; /* of all; 0: not said, or the inputs differ in it */
	bool dimensions_differ;
	bool base64;	   /* the caller wants the vectors so; else as numbers */
	struct str *hints; /* fields that can be left out, by the caller's name for them */
	size_t hints_count;
};

struct embed_vector {		   /* one of the two is set */
	const struct json *values; /* an array of numbers */
	struct str base64;	   /* of float32, little endian */
};
/* The vector as base64 of float32, little endian: each decimal literal rounded once, to the nearest float32. RC_PROTOCOL: it
 * holds what is no finite number, or too many. In `mem`. */
MUST_CHECK enum rc embed_base64(struct arena *mem, const struct embed_vector *v, struct str *ret);
/* The vector as a JSON array, appended to `out`. Shortest decimals that read back as the same float32. RC_PROTOCOL: it is
 * no vector. */
MUST_CHECK enum rc embed_values(struct arena *mem, const struct embed_vector *v, struct buf *out);

#endif
