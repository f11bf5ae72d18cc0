/* server/base/shelf.h - what one thread of this process has read, for all the others. Any thread.
 *
 * A second level behind caches that belong to one thread each: asked on a miss alone, so its one
 * lock is never on a hot path. Bounded by entries and bytes; the least recently got makes room. What
 * it keeps is immutable, counted, and of this process only.
 *
 * It never shows what is known to be outdated. An asker takes a ticket before it reads at the
 * source and puts what came with that ticket: refused when something with the same tag was dropped
 * since, or when a later read of that key stands already. So the reply that is on its way while its
 * subject changes cannot come in behind the change. */
#ifndef SERVER_BASE_SHELF_H
#define SERVER_BASE_SHELF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "server/base/str.h"

struct shelf;
struct shelf_item; /* counted; lives on after it left the shelf */

struct shelf_put {
	struct str key, tag; /* copied; the tag says with whom it is dropped */
	uint64_t ticket;
	int64_t read_ms; /* handed back by shelf_read_ms() */
	size_t bytes;	 /* what it counts for */
	void *value;	 /* taken */
};

/* `drop` gets each value once nobody refers to it, on whatever thread that is; never under the lock. */
struct shelf *shelf_new(size_t entries_max, size_t bytes_max, void (*drop)(void *value));
void shelf_free(struct shelf *s); /* NULL is fine; items still referred to live on */

/* Before reading at the source. Never 0; a later ticket is a greater one. */
uint64_t shelf_ticket(struct shelf *s);
/* False: refused (see above, or larger than the whole shelf); the value is dropped. */
bool shelf_put(struct shelf *s, const struct shelf_put *p);
/* A reference to what was read with a later ticket than `after` (0: whenever); NULL: nothing. */
struct shelf_item *shelf_get(struct shelf *s, struct str key, uint64_t after);
void shelf_give(struct shelf_item *i); /* the reference back; NULL is fine */
const void *shelf_value(const struct shelf_item *i);
uint64_t shelf_item_ticket(const struct shelf_item *i);
int64_t shelf_read_ms(const struct shelf_item *i);

/* The source, asked with that ticket, has no such thing. */
void shelf_remove(struct shelf *s, struct str key, uint64_t ticket);
/* What has this tag is outdated. The threads that share a shelf hear of the same changes in the same order and
 * number them from 1: the first to bring one does the work, and what was read since then stays. */
void shelf_outdate(struct shelf *s, struct str tag, uint64_t change);
void shelf_clear(struct shelf *s); /* to save room: nothing is outdated */
size_t shelf_len(struct shelf *s);
size_t shelf_bytes(struct shelf *s);

#endif
