/* vault/limits_priv.h - start and end of the table of running minutes. */
#ifndef VAULT_LIMITS_PRIV_H
#define VAULT_LIMITS_PRIV_H
#include <stddef.h>

void limits_start(void); /* once, before any thread */
void limits_stop(void);
size_t limits_count(void); /* keys with a running minute */

#endif
