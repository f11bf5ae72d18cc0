/* server/base/rc.c - the names of the return codes. Must never decide anything. */
#include "server/base/rc.h"

static const char *const names[] = {
	"ok",	    "invalid", "too_large",   "limit",	     "not_found",
	"conflict", "denied",  "unavailable", "timeout",     "cancelled",
	"protocol", "network", "corrupt",     "unsupported", "io",
};
#define X(name) +1
_Static_assert(ARRAY_LEN(names) == 0 RC_LIST(X), "a name for every code");
#undef X

const char *rc_name(enum rc rc)
{
	return (unsigned int)rc < ARRAY_LEN(names) ? names[rc] : "unknown";
}
