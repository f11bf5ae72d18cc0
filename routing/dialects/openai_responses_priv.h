/* routing/dialects/openai_responses_priv.h - the parts of the Responses dialect: question, answer, writer. */
#ifndef ROUTING_DIALECTS_OPENAI_RESPONSES_PRIV_H
#define ROUTING_DIALECTS_OPENAI_RESPONSES_PRIV_H
#include "routing/dialect.h"

#define RESPONSES_ITEMS_MAX 4096 /* output items of one answer; more is a broken protocol */

/* Whose words a seal is in. Its value is the reasoning item's id, a bar, and its encrypted content: they are only good
 * together. Both dialects below have the one name. */
#define RESPONSES_SEAL_DIALECT "openai_responses"

/* What a caller of this dialect is given to keep always stands in a reasoning item. The wrapped value begins with what it
 * seals, for the part that it is put back to. */
enum responses_seal {
	RESPONSES_SEAL_REASONING = 'r',
	RESPONSES_SEAL_CALL = 'c', /* of the call behind the item */
	RESPONSES_SEAL_TEXT = 't', /* of the text before it */
};

/* openai_responses_question.c */
enum rc responses_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			     struct err *err);
enum rc responses_encode_ask(const struct call *c, const struct ask *ask,
			     const struct dialect_target *t, struct arena *mem,
			     struct outgoing *out, struct err *err);

/* openai_responses_answer.c */
enum rc responses_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       struct facts *ret);
enum rc responses_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret);

/* openai_responses_writer.c */
enum rc responses_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc responses_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out);
enum rc responses_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc responses_encode_error_event(const struct err *e, struct str tollgate_json,
				     struct buf *out);

/* openai_responses_custom.c: a tool of type custom as a function with the one property "input" */
/* Its parameters. `ret_grammar`: it has a grammar, which is only told. RC_INVALID: a grammar without its words;
 * RC_TOO_LARGE: it does not fit in `mem`. */
MUST_CHECK enum rc responses_custom_schema(struct arena *mem, const struct json *tool,
					   const struct json **ret_schema, bool *ret_grammar);
/* The input of a call as the function's arguments, and back; arguments of another shape are the input as they stand. */
MUST_CHECK enum rc responses_custom_arguments(struct arena *mem, struct str input, struct str *ret);
struct str responses_custom_input(struct arena *mem, struct str arguments);
/* The names of the caller's custom tools, in order, in `mem`; `c` may be NULL. RC_TOO_LARGE: it does not fit. */
MUST_CHECK enum rc responses_custom_names(struct arena *mem, const struct call *c, struct str **ret,
					  size_t *ret_count);
bool responses_is_custom(const struct str *names, size_t count, struct str name);

#endif
