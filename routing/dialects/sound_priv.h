/* routing/dialects/sound_priv.h - how long a file of sound is, as far as its bytes tell. Pure. */
#ifndef ROUTING_DIALECTS_SOUND_PRIV_H
#define ROUTING_DIALECTS_SOUND_PRIV_H
#include "routing/call.h"

/* Fills audio_ms, audio_exact and audio_ms_max. A plain WAV is measured; of all else the size bounds the length, at the lowest
 * rate that speech is sent with, and guesses it, at that of an ordinary recording or of an MP3's first frame. */
void sound_measure(struct str file, struct call_counts *ret);

#endif
