/* routing/dialects/transcript_priv.h - a transcript as a caller of OpenAI's dialect wants it. Pure. */
#ifndef ROUTING_DIALECTS_TRANSCRIPT_PRIV_H
#define ROUTING_DIALECTS_TRANSCRIPT_PRIV_H
#include "routing/call.h"
#include "routing/transcript.h"

/* The whole answer; `usage` (not present: left out) goes into the forms that have one. `want_words`, `want_segments`: the
 * timestamps of verbose_json. */
MUST_CHECK enum rc transcript_write(const struct transcript *t, const struct transcribe *ask,
				    const struct usage *usage, struct buf *out);
/* {"type":"tokens",...} or {"type":"duration",...}; nothing where `usage` says neither. */
void transcript_put_usage(struct json_out *o, const struct usage *usage);
/* Words joined into segments: a sentence, a breath, another speaker. In `mem`. */
MUST_CHECK enum rc transcript_segment(struct transcript *t, struct arena *mem);

#endif
