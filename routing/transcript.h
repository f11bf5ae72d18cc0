/* routing/transcript.h - a call to transcribe and what was heard, in nobody's dialect (the rules are chat.h's). Times are in
 * milliseconds. Pure. */
#ifndef ROUTING_TRANSCRIPT_H
#define ROUTING_TRANSCRIPT_H
#include "server/base/json.h"

#define TRANSCRIPT_SPANS_MAX 200000 /* words or segments of one answer: a day of speech */
#define TRANSCRIPT_TERMS_MAX 64	    /* keywords of one call: a form has no more parts */

enum transcript_format {
	TRANSCRIPT_JSON,
	TRANSCRIPT_TEXT,
	TRANSCRIPT_SRT,
	TRANSCRIPT_VTT,
	TRANSCRIPT_VERBOSE,
	TRANSCRIPT_DIARIZED,
};

struct transcribe {
	enum transcript_format format;
	struct str language, temperature; /* ptr NULL: not said */
	struct str keywords[TRANSCRIPT_TERMS_MAX];
	size_t keywords_count;
	bool words, segments;			 /* timestamps that the caller asked for */
	const char *hints[TRANSCRIPT_TERMS_MAX]; /* fields that can be left out */
	size_t hints_count;
	const char *needs; /* a field that cannot; NULL: none */
};

struct transcript_span {
	int64_t start_ms, end_ms;
	struct str text, speaker; /* speaker may be empty */
	bool glued;		  /* a word: no space before it */
};
struct transcript {
	struct str text;
	struct str language; /* code or name, as the provider has it; may be empty */
	int64_t duration_ms; /* -1: not said */
	struct transcript_span *words, *segments;
	size_t words_count, segments_count;
};

#endif
