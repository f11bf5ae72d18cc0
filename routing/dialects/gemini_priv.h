/* routing/dialects/gemini_priv.h - what the files of the Gemini dialect share. */
#ifndef ROUTING_DIALECTS_GEMINI_PRIV_H
#define ROUTING_DIALECTS_GEMINI_PRIV_H
#include "routing/dialect.h"

#define GEMINI_CHOICES_MAX 8	       /* the API's own limit for candidateCount */
#define GEMINI_JSON_MAX	   (64u << 20) /* of one value that is written anew */
/* Signature of a call that no Gemini model made: the API takes it for history of another maker. */
#define GEMINI_FOREIGN_SEAL "skip_thought_signature_validator"

/* ---- reading: requests come in either spelling, answers in camelCase ---------------------------- */

/* Member `camel` ("inlineData") of an object, or the same in snake_case ("inline_data"). NULL: neither. */
struct json *gemini_get(const struct json *of, const char *camel);
/* "max_items" to "maxItems", in `out`; false: it does not fit. */
bool gemini_camel(struct str key, char *out, size_t size);
/* A value as JSON text. RC_TOO_LARGE past GEMINI_JSON_MAX or the arena. */
MUST_CHECK enum rc gemini_json_text(struct arena *mem, const struct json *v, struct str *ret);
/* Schema, the OpenAPI subset of `parameters` and `responseSchema`, as JSON Schema. RC_INVALID: it is no object. */
MUST_CHECK enum rc gemini_schema(struct arena *mem, const struct json *schema,
				 const struct json **ret);

/* Which of the vendor's generations is this? The model's name says. */
struct gemini_model {
	bool v3;    /* 3 and later: thinkingLevel, signatures are held against */
	bool v25;   /* thinkingBudget */
	bool flash; /* thinking can be turned off, or down to MINIMAL */
};
struct gemini_model gemini_model_of(struct str model);

/* ---- the parts of the two tables (gemini.c) ------------------------------------------------------ */

enum rc gemini_decode_request(const struct call_head *head, struct str body, struct arena *mem,
			      struct call *ret, struct err *err);
enum rc gemini_count_decode_request(const struct call_head *head, struct str body,
				    struct arena *mem, struct call *ret, struct err *err);
enum rc gemini_encode_request(const struct call *c, const struct dialect_target *t,
			      struct arena *mem, struct outgoing *out, struct err *err);
enum rc gemini_count_encode_request(const struct call *c, const struct dialect_target *t,
				    struct arena *mem, struct outgoing *out, struct err *err);
/* The object that has `contents`: the body, or what countTokens wraps. */
const struct json *gemini_question(const struct call *c);

enum rc gemini_decode_ask(const struct call *c, struct arena *mem, struct ask *ret,
			  struct err *err);
enum rc gemini_encode_ask(const struct call *c, const struct ask *ask,
			  const struct dialect_target *t, struct arena *mem, struct outgoing *out,
			  struct err *err);

enum rc gemini_decode_event(struct dialect_ctx *ctx, const struct sse_event *ev, struct facts *ret);
enum rc gemini_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret);
enum rc gemini_count_decode_response(struct dialect_ctx *ctx, struct str body, struct facts *ret);

enum rc gemini_encode_event(struct dialect_ctx *ctx, const struct sse_event *ev,
			    const struct facts *f, struct buf *out);
enum rc gemini_encode_deltas(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc gemini_encode_end(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out);
enum rc gemini_encode_response(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
enum rc gemini_count_encode_response(struct dialect_ctx *ctx, const struct facts *f,
				     struct buf *out);
enum rc gemini_encode_error_event(const struct err *e, struct str tollgate_json, struct buf *out);

/* ---- usage and errors ------------------------------------------------------------------------------ */

/* usageMetadata as disjoint classes that add up to the provider's totals. Not an object, or without counters: `present`
 * stays false. Never negative, never past USAGE_UNITS_MAX. */
void gemini_usage_read(const struct json *usage, struct usage *ret);
/* The other way, as member usageMetadata; nothing where usage is not present. */
void gemini_usage_write(struct json_out *o, const struct usage *u);

/* The error object in `body`, bare or in an array of one; NULL: there is none. */
const struct json *gemini_error_of(const struct json *body);
/* Class and words of a failure; `body` NULL: only the status is known (200: inside a good answer). */
enum error_class gemini_error_read(int status, const struct json *body, struct err *err);
enum error_class gemini_classify(int status, struct str body, struct arena *mem, struct err *err);

/* ---- function calls that come in pieces -------------------------------------------------------------- */

/* The arguments of one call, gathered from {jsonPath, value} fragments. Zero-initialise. */
struct gemini_args {
	struct gemini_arg *root;
	size_t count;
};
/* One element of partialArgs. RC_PROTOCOL: a path that cannot be, or past the bounds. */
MUST_CHECK enum rc gemini_args_add(struct arena *mem, struct gemini_args *a,
				   const struct json *partial);
/* What has been gathered as the JSON text of an object. */
MUST_CHECK enum rc gemini_args_write(const struct gemini_args *a, struct buf *out);

#endif
