/* routing/dialects/anthropic_messages.c - the Anthropic Messages API, as callers and as providers speak it: its two tables.
 *
 * Both sides speaking it is the fast path: bytes go through as they came, with every beta's fields and events, but for
 * `model` and for state that another provider made. What the functions do is told where they stand: the question in
 * anthropic_request.c, anthropic_ask.c and anthropic_question.c, the answer in anthropic_answer.c and anthropic_writer.c. */
#include "routing/dialects/anthropic_priv.h"
#include "routing/dialects/openai_priv.h"

#define KEEPALIVE "event: ping\ndata: {\"type\": \"ping\"}\n\n"

const struct dialect dialect_anthropic_messages = {
	.name = ANTHROPIC_NAME,
	.operation = OPERATION_chat,
	.errors = ERROR_SHAPE_ANTHROPIC,
	.keepalive = KEEPALIVE,
	.finish_ends = false, /* message_stop does */
	.decode_request = anthropic_decode_messages,
	.decode_ask = anthropic_decode_ask,
	.encode_request = anthropic_encode_request,
	.encode_ask = anthropic_encode_ask,
	.decode_event = anthropic_decode_event,
	.decode_response = anthropic_decode_response,
	.classify =
		openai_classify, /* one table has the markers of all error shapes with an `error` object */
	.refuses_state = anthropic_refuses_state,
	.encode_event = anthropic_encode_event,
	.encode_deltas = anthropic_encode_deltas,
	.encode_end = anthropic_encode_end,
	.encode_response = anthropic_encode_response,
	.encode_error_event = anthropic_encode_error_event,
};

/* How long a question is: the same question, one number for an answer, never a stream. */
const struct dialect dialect_anthropic_count_tokens = {
	.name = "anthropic_count_tokens",
	.operation = OPERATION_count_tokens,
	.errors = ERROR_SHAPE_ANTHROPIC,
	.keepalive = KEEPALIVE,
	.finish_ends = false,
	.decode_request = anthropic_decode_count,
	.decode_ask = anthropic_decode_ask,
	.encode_request = anthropic_encode_request,
	.encode_ask = anthropic_encode_ask,
	.decode_event = anthropic_decode_event,
	.decode_response = anthropic_decode_counted,
	.classify = openai_classify,
	.encode_event = anthropic_encode_event,
	.encode_deltas = anthropic_encode_deltas,
	.encode_end = anthropic_encode_end,
	.encode_response = anthropic_encode_counted,
	.encode_error_event = anthropic_encode_error_event,
};
