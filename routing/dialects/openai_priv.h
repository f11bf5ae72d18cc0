/* routing/dialects/openai_priv.h - what the OpenAI-shaped dialects share: usage, errors. */
#ifndef ROUTING_DIALECTS_OPENAI_PRIV_H
#define ROUTING_DIALECTS_OPENAI_PRIV_H
#include "routing/call.h"

/* `usage` as chat completions state it, mapped to disjoint classes that add up to the provider's totals. Not
 * an object, or without counters: `present` stays false. Never negative, never past USAGE_UNITS_MAX. */
void openai_usage_read(const struct json *usage, struct usage *ret);
/* The same of the Responses API, whose counters have other names. What its hosted tools did is not in it. */
void openai_usage_read_responses(const struct json *usage, struct usage *ret);
/* `literal` is a JSON number. Its value times 10^scale, rounded half away from zero, clamped to int64. Exact. */
MUST_CHECK enum rc openai_decimal(struct str literal, int scale, int64_t *ret);

/* The class of a failure, and its words, from a parsed body (NULL: there was none) and the status; 200 for an
 * error inside a good answer. `err` has no key fragment, account or organisation in it. */
enum error_class openai_error_read(int status, const struct json *body, struct err *err);
/* Does this object carry an error (`error` not null, or the flat form)? */
bool openai_error_is(const struct json *body);
enum error_class openai_classify(int status, struct str body, struct arena *mem, struct err *err);

#endif
