/* loadtest/speak_chat.h - how the providers that speak chat completions differ. Private to speak_chat*.c. */
#ifndef LOADTEST_SPEAK_CHAT_H
#define LOADTEST_SPEAK_CHAT_H
#include "fake.h"

/* What is particular in what a provider takes and says: contracts of OpenAI-compatible providers. */
struct manner {
	const char *vendor;
	const char *fields;  /* of a request, the only ones it takes; NULL: any */
	const char *refused; /* those it knows and does not take */
	const char *
		thoughts; /* the field that reasoning is shown in; NULL: hidden; "chunks": Mistral's */
	bool strict;	  /* messages must be in order */
	bool nine;	  /* ids of tool calls are nine letters and digits */
	bool thoughts_back;	/* reasoning must come back with the calls it led to */
	bool additive;		/* reasoning stands beside the completion's tokens */
	bool usage_with_finish; /* always, in the last chunk of the choice */
	bool usage_unasked;	/* always, in a chunk of its own */
};
const struct manner *manner_of(const char *vendor);
/* Refuse what this provider would. True: the request is in order. */
bool chat_is_good(struct call *k, const struct manner *m, yyjson_val *root);
void chat_error(struct text *t, const struct call *k, int status);

#endif
