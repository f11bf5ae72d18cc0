/* loadtest/vendors.h - what each provider answers when it is asked for a key, its models, a token or a sound. */
#ifndef LOADTEST_VENDORS_H
#define LOADTEST_VENDORS_H
#include "common.h"

struct vendor_answer {
	int status;
	const char *type;     /* content type */
	const char *location; /* of a redirect; NULL: none */
	struct text body;     /* the asker clears it */
	/* of a call */
	const char *vendor; /* PROVIDER_ID */
	struct span path;   /* behind the provider's own base, without /v1 */
	char key[512];	    /* "": none was sent */
};
enum vendor_found {
	VENDOR_NONE,	 /* the path is below no PROVIDER_ID */
	VENDOR_ANSWERED, /* a probe, or a key that is good for nothing */
	VENDOR_CALL,	 /* the speakers' part; nothing is answered yet */
};
/* Look at a request below /PROVIDER_ID/. README.md has the words in a key. */
enum vendor_found vendor_serve(const struct http_head *head, struct span path, struct span query,
			       struct span body, struct vendor_answer *ret);

#endif
