/* server/base/shelf.c - a table under one lock, all items also in one list by use.
 *
 * The order of reads and changes is one counter: a ticket is its value, and each tag's slot keeps the
 * value at its last change. Two tags in one slot only cost a refusal, and a read brings it again. Must
 * never call `drop` under the lock, and never let an older read replace a newer one. */
#include "server/base/shelf.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/base/hash.h"
#include "server/base/map.h"

#define SHELF_SLOTS 1024

struct shelf_item {
	_Atomic int refs; /* one is the shelf's own while it stands there */
	void *value;
	void (*drop)(void *value);
	uint64_t ticket;
	int64_t read_ms;
	size_t bytes;
	struct shelf_item *newer, *older; /* by use; of those taken out, `older` is the next */
	struct str key, tag;
	char text[]; /* of both */
};

struct shelf {
	pthread_mutex_t lock;
	size_t entries_max, bytes_max, bytes;
	void (*drop)(void *value);
	struct map *items; /* key -> struct shelf_item */
	struct shelf_item *newest, *oldest;
	uint64_t now;			/* the last ticket or change */
	uint64_t change;		/* number of the last change that was brought */
	uint64_t outdated[SHELF_SLOTS]; /* by tag: `now` at its last change */
};

/* ---- items -------------------------------------------------------------------------------------- */

static struct shelf_item *item_new(const struct shelf *s, const struct shelf_put *p)
{
	struct shelf_item *i = calloc(1, sizeof *i + p->key.len + p->tag.len);

	if (!i)
		abort();
	atomic_init(&i->refs, 1);
	i->value = p->value;
	i->drop = s->drop;
	i->ticket = p->ticket;
	i->read_ms = p->read_ms;
	i->bytes = p->bytes;
	i->key = str_of(i->text, p->key.len);
	i->tag = str_of(i->text + p->key.len, p->tag.len);
	if (p->key.len)
		memcpy(i->text, p->key.ptr, p->key.len);
	if (p->tag.len)
		memcpy(i->text + p->key.len, p->tag.ptr, p->tag.len);
	return i;
}

void shelf_give(struct shelf_item *i)
{
	if (!i || atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (i->drop)
		i->drop(i->value);
	free(i);
}

const void *shelf_value(const struct shelf_item *i)
{
	return i->value;
}

uint64_t shelf_item_ticket(const struct shelf_item *i)
{
	return i->ticket;
}

int64_t shelf_read_ms(const struct shelf_item *i)
{
	return i->read_ms;
}

/* ---- under the lock ----------------------------------------------------------------------------- */

static void list_newest(struct shelf *s, struct shelf_item *i)
{
	i->newer = NULL;
	i->older = s->newest;
	if (i->older)
		i->older->newer = i;
	else
		s->oldest = i;
	s->newest = i;
}

static void unlist(struct shelf *s, struct shelf_item *i)
{
	if (i->newer)
		i->newer->older = i->older;
	else
		s->newest = i->older;
	if (i->older)
		i->older->newer = i->newer;
	else
		s->oldest = i->newer;
}

/* Off the shelf and in front of `*out`: the shelf's reference is given back once the lock is free. */
static void take_out(struct shelf *s, struct shelf_item *i, struct shelf_item **out)
{
	const bool stood = map_remove(s->items, i->key);

	assert(stood);
	unlist(s, i);
	s->bytes -= i->bytes;
	i->older = *out;
	*out = i;
}

static uint64_t *slot_of(struct shelf *s, struct str tag)
{
	return &s->outdated[hash64(tag) % SHELF_SLOTS];
}

static void give_all(struct shelf_item *out)
{
	struct shelf_item *next;

	for (; out; out = next) {
		next = out->older; /* nobody else looks at the links of what was taken out */
		shelf_give(out);
	}
}

/* ---- the outside -------------------------------------------------------------------------------- */

struct shelf *shelf_new(size_t entries_max, size_t bytes_max, void (*drop)(void *value))
{
	struct shelf *s = calloc(1, sizeof *s);

	assert(entries_max > 0 && bytes_max > 0);
	if (!s)
		abort();
	pthread_mutex_init(&s->lock, NULL);
	s->entries_max = entries_max;
	s->bytes_max = bytes_max;
	s->drop = drop;
	s->items = map_new(0, NULL);
	return s;
}

void shelf_free(struct shelf *s)
{
	if (!s)
		return;
	shelf_clear(s);
	map_free(s->items);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

uint64_t shelf_ticket(struct shelf *s)
{
	uint64_t ticket;

	pthread_mutex_lock(&s->lock);
	ticket = ++s->now;
	pthread_mutex_unlock(&s->lock);
	return ticket;
}

bool shelf_put(struct shelf *s, const struct shelf_put *p)
{
	struct shelf_item *i = item_new(s, p), *was, *out = NULL;
	bool fits;

	assert(p->ticket > 0);
	pthread_mutex_lock(&s->lock);
	was = map_get(s->items, p->key);
	fits = p->bytes <= s->bytes_max && *slot_of(s, p->tag) < p->ticket &&
	       (!was || was->ticket < p->ticket);
	if (fits) {
		if (was)
			take_out(s, was, &out);
		while (s->oldest &&
		       (map_len(s->items) >= s->entries_max || s->bytes > s->bytes_max - p->bytes))
			take_out(s, s->oldest, &out);
		map_put(s->items, i->key, i);
		list_newest(s, i);
		s->bytes += i->bytes;
	}
	pthread_mutex_unlock(&s->lock);
	give_all(out);
	if (!fits)
		shelf_give(i);
	return fits;
}

struct shelf_item *shelf_get(struct shelf *s, struct str key, uint64_t after)
{
	struct shelf_item *i;

	pthread_mutex_lock(&s->lock);
	i = map_get(s->items, key);
	if (i && i->ticket <= after)
		i = NULL;
	if (i) {
		atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
		unlist(s, i);
		list_newest(s, i);
	}
	pthread_mutex_unlock(&s->lock);
	return i;
}

void shelf_remove(struct shelf *s, struct str key, uint64_t ticket)
{
	struct shelf_item *i, *out = NULL;

	pthread_mutex_lock(&s->lock);
	i = map_get(s->items, key);
	if (i && i->ticket < ticket)
		take_out(s, i, &out);
	pthread_mutex_unlock(&s->lock);
	give_all(out);
}

void shelf_outdate(struct shelf *s, struct str tag, uint64_t change)
{
	struct shelf_item *i, *older, *out = NULL;

	assert(change > 0);
	pthread_mutex_lock(&s->lock);
	if (change > s->change) {
		s->change = change;
		*slot_of(s, tag) = ++s->now;
		for (i = s->newest; i; i = older) {
			older = i->older;
			if (str_eq(i->tag, tag))
				take_out(s, i, &out);
		}
	}
	pthread_mutex_unlock(&s->lock);
	give_all(out);
}

void shelf_clear(struct shelf *s)
{
	struct shelf_item *out = NULL;

	pthread_mutex_lock(&s->lock);
	while (s->oldest)
		take_out(s, s->oldest, &out);
	pthread_mutex_unlock(&s->lock);
	give_all(out);
}

size_t shelf_len(struct shelf *s)
{
	size_t len;

	pthread_mutex_lock(&s->lock);
	len = map_len(s->items);
	pthread_mutex_unlock(&s->lock);
	return len;
}

size_t shelf_bytes(struct shelf *s)
{
	size_t bytes;

	pthread_mutex_lock(&s->lock);
	bytes = s->bytes;
	pthread_mutex_unlock(&s->lock);
	return bytes;
}
