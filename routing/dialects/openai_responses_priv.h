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

#endif
