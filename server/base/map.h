/* server/base/map.h - string-keyed hash table and a bounded LRU on top of it. One thread each.
 *
 * Keys are copied, values are borrowed pointers; `drop` (may be NULL) is called for every value that
 * leaves the table: replaced, removed, evicted or cleared. */
#ifndef SERVER_BASE_MAP_H
#define SERVER_BASE_MAP_H
#include <stdbool.h>
#include <stddef.h>
#include "server/base/str.h"

struct map;

/* entries_max 0: unbounded; otherwise the least recently got or put entry makes room. */
struct map *map_new(size_t entries_max, void (*drop)(void *value));
void map_free(struct map *m);
void *map_get(struct map *m, struct str key); /* NULL: absent */
void map_put(struct map *m, struct str key, void *value);
bool map_remove(struct map *m, struct str key); /* drops the value */
void map_clear(struct map *m);
size_t map_len(const struct map *m);
/* Visit all; the callback may not change the map. Return false from it to stop. */
void map_each(struct map *m, bool (*visit)(void *arg, struct str key, void *value), void *arg);
/* Remove every entry for which `match` says true. */
void map_remove_if(struct map *m, bool (*match)(void *arg, struct str key, void *value), void *arg);

#endif
