/* vault/secret_priv.h - the secure heap itself, for the vault's own files. */
#ifndef VAULT_SECRET_PRIV_H
#define VAULT_SECRET_PRIV_H
#include "vault/secret.h"

/* Zeroed; NULL when the heap is full: the asker refuses, or drops what it keeps. Any thread. */
void *secret_heap_get(size_t len);
void secret_heap_give(void *ptr, size_t len); /* wipes; NULL is fine */

#endif
