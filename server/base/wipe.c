/* server/base/wipe.c - free and realloc that overwrite.
 *
 * Must never hand back a block whose old bytes still stand somewhere. */
#include "server/base/wipe.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void wipe_free(void *ptr)
{
	if (!ptr)
		return;
	explicit_bzero(ptr, malloc_usable_size(ptr));
	free(ptr);
}

void *wipe_realloc(void *ptr, size_t size)
{
	size_t old = ptr ? malloc_usable_size(ptr) : 0;
	void *fresh;

	if (ptr && size <= old && size >= old / 2)
		return ptr;
	fresh = malloc(size);
	if (fresh && ptr) {
		memcpy(fresh, ptr, old < size ? old : size);
		wipe_free(ptr);
	}
	return fresh;
}
