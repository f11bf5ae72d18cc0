/* routing/dialects/words_priv.h - a provider's words on their way to a caller, cleaned of what says who asked. Pure. */
#ifndef ROUTING_DIALECTS_WORDS_PRIV_H
#define ROUTING_DIALECTS_WORDS_PRIV_H
#include "server/base/str.h"

/* What log_scrub() takes out, what a provider left readable of a key that it masked, and addresses of mail ("[mail]"), in
 * place. Returns the new length, never more than `len`. */
size_t words_scrub(char *text, size_t len);

#endif
