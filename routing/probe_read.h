/* routing/probe_read.h - what providers answer to a probe, and what a probe asks: pure functions over bytes.
 *
 * No I/O, no clock, no secrets. Sources of the shapes and markers are named in probe_read.c. */
#ifndef ROUTING_PROBE_READ_H
#define ROUTING_PROBE_READ_H
#include "routing/call.h"
#include "routing/probe.h"

/* An answer that is no 2xx (or carries an error in a 2xx): its class, by the provider's markers before the status. */
enum error_class probe_read_error(const struct provider *p, int status, struct str body,
				  const struct json *root);
/* The endpoint's own words, printable, 4096 bytes at most, in `mem`; empty: it had none. */
struct str probe_read_words(const struct json *root, struct arena *mem);
/* A 2xx of path_auth. ERROR_none: good; ERROR_protocol: not the provider's shape. */
enum error_class probe_read_auth(const struct provider *p, const struct json *root);
/* A 2xx of path_models. RC_PROTOCOL: not the provider's shape. Ids are copied into `mem`. */
MUST_CHECK enum rc probe_read_models(const struct provider *p, const struct json *root,
				     struct arena *mem, const struct str **ret, size_t *count);
/* A 2xx of a text call: is there an answer in it? */
bool probe_read_text(const struct provider *p, const struct json *root);
/* ElevenLabs' list of voices: the first one's id, fit for a path. */
MUST_CHECK enum rc probe_read_voice(const struct json *root, struct arena *mem, struct str *ret);

/* The same list: ids and names of the first PROBE_VOICES_MAX. RC_PROTOCOL: not the provider's shape. Copied into `mem`. */
MUST_CHECK enum rc probe_read_voices(const struct json *root, struct arena *mem,
				     const struct probe_voice **ret, size_t *count);

/* Which of these to try, when nobody said: by their names, the small ones first. Empty: none is known to fit. */
struct str probe_pick_model(const struct str *models, size_t count, bool voice);

/* The smallest call, path and body. RC_INVALID: the model or voice id is not fit for a path. */
MUST_CHECK enum rc probe_write_text(const struct provider *p, struct str model, struct arena *mem,
				    struct str *path, struct str *body);
MUST_CHECK enum rc probe_write_voice(const struct provider *p, struct str model, struct str voice,
				     struct arena *mem, struct str *path, struct str *body);

/* What a class says of the connection. */
enum probe_health probe_health_of(enum error_class c);

#endif
