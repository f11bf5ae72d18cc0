/* routing/speech.h - a call for speech, in nobody's dialect (the rules are chat.h's). Its answer is bytes of sound, which no
 * dialect reads: they are relayed, or each run of them becomes an event. Pure. */
#ifndef ROUTING_SPEECH_H
#define ROUTING_SPEECH_H
#include "server/base/json.h"

#define SPEECH_CHARS_MAX 4096 /* code points of one call (OpenAI's own bound) */

struct speech {
	struct str text, voice;
	struct str instructions; /* ptr NULL: none */
	struct str format;	 /* "mp3"; never empty */
	struct str speed;	 /* the number's literal; ptr NULL: not said */
	int64_t speed_milli;	 /* the same, times 1000 */
	struct str *hints;	 /* fields that can be left out, by the caller's name for them */
	size_t hints_count;
};

#endif
