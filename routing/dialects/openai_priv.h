/* routing/dialects/openai_priv.h - what the OpenAI-shaped dialects share: usage, errors; and what the files of chat
 * completions have of each other. */
#ifndef ROUTING_DIALECTS_OPENAI_PRIV_H
#define ROUTING_DIALECTS_OPENAI_PRIV_H
#include "routing/call.h"
#include "routing/dialect.h"

/* `usage` as chat completions state it, mapped to disjoint classes that add up to the provider's totals. Not
 * an object, or without counters: `present` stays false. Never negative, never past USAGE_UNITS_MAX. */
void openai_usage_read(const struct json *usage, struct usage *ret);
/* The same of the Responses API, whose counters have other names. What its hosted tools did is not in it. */
void openai_usage_read_responses(const struct json *usage, struct usage *ret);
/* The way back: the member `key` as chat completions state usage. */
void openai_usage_write(struct json_out *o, const char *key, const struct usage *u);
/* `literal` is a JSON number. Its value times 10^scale, rounded half away from zero, clamped to int64. Exact. */
MUST_CHECK enum rc openai_decimal(struct str literal, int scale, int64_t *ret);

/* The class of a failure, and its words, from a parsed body (NULL: there was none) and the status; 200 for an
 * error inside a good answer. `err` has no key fragment, account or organisation in it. */
enum error_class openai_error_read(int status, const struct json *body, struct err *err);
/* Does this object carry an error (`error` not null, or the flat form)? */
bool openai_error_is(const struct json *body);
enum error_class openai_classify(int status, struct str body, struct arena *mem, struct err *err);

/* ---- chat completions ------------------------------------------------------------------------------ */

#define OPENAI_CHOICES_MAX 128 /* the API's own limit for n */

/* What a finish_reason means; a provider's own words for an error are FINISH_OTHER. */
enum finish openai_chat_finish(struct str reason);
/* Does a call id fit where ids are nine letters and digits? */
bool openai_chat_id_is_nine(struct str id);

/* openai_chat_ask.c, openai_chat_tell.c, openai_chat_pass.c: members of the table in dialect.h */
enum rc openai_chat_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			       struct err *err);
enum rc openai_chat_encode_ask(const struct call *c, const struct ask *ask,
			       const struct dialect_target *t, struct arena *mem,
			       struct outgoing *out, struct err *err);
enum rc openai_chat_encode_request(const struct call *c, const struct dialect_target *t,
				   struct arena *mem, struct outgoing *out, struct err *err);

/* openai_chat_deltas.c: what one parsed object, an event's or a whole answer's, brought. RC_TOO_LARGE: more than there is
 * memory for. */
MUST_CHECK enum rc openai_chat_deltas(struct dialect_ctx *ctx, const struct json *root,
				      struct facts *f);

/* openai_chat_answer.c: members of the table in dialect.h */
enum rc openai_chat_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc openai_chat_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out);
enum rc openai_chat_encode_response(struct dialect_ctx *ctx, const struct facts *f,
				    struct buf *out);

#endif
