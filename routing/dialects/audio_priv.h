/* routing/dialects/audio_priv.h - what the dialects of speech and transcription share. Pure. */
#ifndef ROUTING_DIALECTS_AUDIO_PRIV_H
#define ROUTING_DIALECTS_AUDIO_PRIV_H
#include "routing/call.h"

/* The types of sound that are passed on; all else that a provider names is no sound. Ends with NULL. */
extern const char *const audio_media[];
/* `usage` of speech and transcription: tokens under their short names (input_tokens, output_tokens) or a duration in seconds,
 * rounded up to milliseconds. `out_is_sound`: what was made is spoken. Absent or of no known kind: present stays false. */
void audio_usage_read(const struct json *usage, bool out_is_sound, struct usage *ret);
/* Seconds, a JSON number, as milliseconds rounded up. False: none, negative, or absurd. */
bool audio_ms(const struct json *seconds, int64_t *ret);

#endif
