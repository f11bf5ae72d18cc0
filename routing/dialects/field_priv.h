/* routing/dialects/field_priv.h - fields of a request that is no chat, read strictly: what the dialects of embeddings,
 * speech and transcription share. Each gives RC_INVALID with words and the field's name in `err`. Pure. */
#ifndef ROUTING_DIALECTS_FIELD_PRIV_H
#define ROUTING_DIALECTS_FIELD_PRIV_H
#include "routing/call.h"

#define FIELD_MODEL_BYTES_MAX 256

/* Always RC_INVALID: "<field> <what>." */
enum rc field_bad(struct err *err, const char *field, const char *what);
/* One JSON object, no key twice. */
MUST_CHECK enum rc field_body(struct str body, struct arena *mem, struct json **ret,
			      struct err *err);
/* 1 to 256 printable characters. */
MUST_CHECK enum rc field_model_ok(struct str model, struct err *err);
MUST_CHECK enum rc field_model(const struct json *root, struct str *ret, struct err *err);
/* Absent or null leaves *ret as it is. */
MUST_CHECK enum rc field_int(const struct json *root, const char *field, int64_t max, int64_t *ret,
			     struct err *err);
MUST_CHECK enum rc field_string(const struct json *root, const char *field, struct str *ret,
				struct err *err);
/* `s` as a JSON string with its quotes, in `mem`. RC_TOO_LARGE past what it takes. */
MUST_CHECK enum rc field_quoted(struct str s, struct arena *mem, struct str *ret);
/* Unicode code points of well-formed UTF-8. */
int64_t field_code_points(struct str s);

#endif
