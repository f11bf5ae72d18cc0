/* loadtest/vendors.h - what each provider answers when it is asked for a key, its models, a token or a sound. */
#ifndef LOADTEST_VENDORS_H
#define LOADTEST_VENDORS_H
#include "common.h"

struct vendor_answer {
	int status;
	const char *type;     /* content type */
	const char *location; /* of a redirect; NULL: none */
	struct text body;     /* the asker clears it */
};
/* Answer a request below /PROVIDER_ID/; false: the path is below none. README.md has the words in a key. */
bool vendor_serve(const struct http_head *head, struct span path, struct span body,
		  struct vendor_answer *ret);

#endif
