/* routing/dialects/anthropic_priv.h - what the files of the Anthropic Messages dialect share. */
#ifndef ROUTING_DIALECTS_ANTHROPIC_PRIV_H
#define ROUTING_DIALECTS_ANTHROPIC_PRIV_H
#include "routing/dialect.h"

#define ANTHROPIC_NAME "anthropic_messages" /* whose words a seal is in, at both operations */

/* Where a model can be held to JSON only by making it call a tool, this is the tool: its input is the answer's text. */
#define ANTHROPIC_JSON_TOOL "tollgate_json_answer"
/* A seal whose value begins with one of these stands for more than a signature; base64 has no colon. */
#define ANTHROPIC_REDACTED "redacted:" /* data of a redacted_thinking block */
#define ANTHROPIC_OF_CALL  "call:"     /* of the tool call behind it, not of reasoning */

/* The target as the one that makes seals: counting asks the same model. */
static inline struct dialect_target anthropic_maker(const struct dialect_target *t)
{
	struct dialect_target maker = *t;

	maker.dialect = &dialect_anthropic_messages;
	return maker;
}

/* ---- the caller's request: anthropic_request.c, anthropic_ask.c ---- */
enum rc anthropic_decode_messages(const struct call_head *head, struct str body, struct arena *mem,
				  struct call *ret, struct err *err);
enum rc anthropic_decode_count(const struct call_head *head, struct str body, struct arena *mem,
			       struct call *ret, struct err *err);
enum rc anthropic_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			     struct err *err);

/* ---- the request to a provider: anthropic_request.c, anthropic_question.c ---- */
enum rc anthropic_encode_request(const struct call *c, const struct dialect_target *t,
				 struct arena *mem, struct outgoing *out, struct err *err);
bool anthropic_refuses_state(const struct err *said);
enum rc anthropic_encode_ask(const struct call *c, const struct ask *ask,
			     const struct dialect_target *t, struct arena *mem,
			     struct outgoing *out, struct err *err);

/* What a model of the family takes; an id that says no version is taken for the newest. Sources in anthropic_model.c. */
struct anthropic_model {
	bool thinks;	 /* has a thinking mode at all */
	bool adaptive;	 /* decides itself how long, by effort; else it has a budget of tokens */
	bool sampling;	 /* takes temperature, top_p, top_k */
	bool one_of_two; /* temperature or top_p, not both */
	bool structured; /* output_config.format */
	bool prefill;	 /* the last turn may be the assistant's */
};
struct anthropic_model anthropic_model_of(struct str id);

/* A JSON Schema as structured outputs want it: additionalProperties false on every object that does not say. Everything
 * else, number literals too, as it stands. */
void anthropic_put_schema(struct json_out *o, const char *key, const struct json *schema);

/* A tool's name as Anthropic takes it, and back. A name that fits stays; another is written so that it can be read
 * back without a memory of it. False: it cannot be written within the length that a name may have. */
bool anthropic_name_out(struct arena *mem, struct str name, struct str *ret);
struct str anthropic_name_in(struct arena *mem, struct str name);

/* ---- the provider's answer: anthropic_answer.c, anthropic_usage.c ---- */
enum rc anthropic_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       struct facts *ret);
enum rc anthropic_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret);
enum rc anthropic_decode_counted(struct dialect_ctx *ctx, struct str body, struct facts *ret);

/* The counters of one answer as they stand: each event's usage replaces what it names. Zeroed at first. */
struct anthropic_usage {
	bool said_in, said_out;
	uint32_t flags;
	int64_t input, cache_read, cache_write, write_5m, write_1h;
	bool split; /* the two above were stated */
	int64_t output, thinking;
	int64_t searches, fetches;
	char service_tier[16];
};
/* Takes in one usage object and says what the counters then amount to. Not an object: present stays false. */
void anthropic_usage_read(struct anthropic_usage *u, const struct json *usage, struct usage *ret);
/* The members of a usage object for a caller of this dialect. */
void anthropic_put_usage(struct json_out *o, const struct usage *u);

/* ---- the answer to the caller: anthropic_writer.c ---- */
enum rc anthropic_encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			       const struct facts *f, struct buf *out);
enum rc anthropic_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc anthropic_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out);
enum rc anthropic_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc anthropic_encode_counted(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc anthropic_encode_error_event(const struct err *e, struct str tollgate_json,
				     struct buf *out);

#endif
