/* vault/secret_priv.h - the secure heap itself, for the vault's own files. */
#ifndef VAULT_SECRET_PRIV_H
#define VAULT_SECRET_PRIV_H
#include "server/base/err.h"
#include "vault/secret.h"

/* Once per process, before any secret. RC_INVALID: it cannot be had at all. `*locked` is false when it is
 * there but not locked into memory. */
MUST_CHECK enum rc secret_heap_start(struct err *err, bool *locked);
/* Zeroed; NULL when the heap is full: the asker refuses, or drops what it keeps. Any thread. */
void *secret_heap_get(size_t len);
void secret_heap_give(void *ptr, size_t len); /* wipes; NULL is fine */

#endif
