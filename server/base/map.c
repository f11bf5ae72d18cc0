/* server/base/map.c - string-keyed table with chaining; all entries also stand in one list, from the
 * most recently used to the least. Must never call `drop` for an entry that is still in the table. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/base/hash.h"
#include "server/base/map.h"

#define MAP_SLOTS_FIRST 16

struct entry {
	struct entry *chain;	     /* same slot */
	struct entry *newer, *older; /* order of use */
	uint64_t hash;
	void *value;
	size_t key_len;
	char key[];
};

struct map {
	struct entry **slots;
	size_t slots_count; /* a power of two */
	size_t len, entries_max;
	struct entry *newest, *oldest;
	void (*drop)(void *value);
};

static void *must(void *ptr)
{
	if (!ptr)
		abort();
	return ptr;
}

struct map *map_new(size_t entries_max, void (*drop)(void *value))
{
	struct map *m = must(calloc(1, sizeof *m));

	m->slots_count = MAP_SLOTS_FIRST;
	m->slots = must(calloc(m->slots_count, sizeof *m->slots));
	m->entries_max = entries_max;
	m->drop = drop;
	return m;
}

void map_free(struct map *m)
{
	if (!m)
		return;
	map_clear(m);
	free(m->slots);
	free(m);
}

static struct str key_of(const struct entry *e)
{
	return str_of(e->key, e->key_len);
}

static struct entry **find(struct map *m, struct str key, uint64_t hash)
{
	struct entry **at = &m->slots[hash & (m->slots_count - 1)];

	while (*at && ((*at)->hash != hash || !str_eq(key_of(*at), key)))
		at = &(*at)->chain;
	return at;
}

static void unlist(struct map *m, struct entry *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		m->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		m->oldest = e->newer;
}

static void list_newest(struct map *m, struct entry *e)
{
	e->newer = NULL;
	e->older = m->newest;
	if (e->older)
		e->older->newer = e;
	else
		m->oldest = e;
	m->newest = e;
}

static void touch(struct map *m, struct entry *e)
{
	if (m->newest == e)
		return;
	unlist(m, e);
	list_newest(m, e);
}

static void drop_value(struct map *m, void *value)
{
	if (m->drop)
		m->drop(value);
}

/* Out of the table first: `drop` may look at the map. */
static void remove_at(struct map *m, struct entry **at)
{
	struct entry *e = *at;
	void *value;

	assert(e); /* every entry in the list stands in its slot */
	value = e->value;
	*at = e->chain;
	unlist(m, e);
	m->len--;
	free(e);
	drop_value(m, value);
}

static void grow(struct map *m)
{
	size_t count = m->slots_count * 2;
	struct entry **slots = must(calloc(count, sizeof *slots));

	for (struct entry *e = m->newest; e; e = e->older) {
		struct entry **at = &slots[e->hash & (count - 1)];

		e->chain = *at;
		*at = e;
	}
	free(m->slots);
	m->slots = slots;
	m->slots_count = count;
}

void *map_get(struct map *m, struct str key)
{
	struct entry *e = *find(m, key, hash64(key));

	if (!e)
		return NULL;
	if (m->entries_max)
		touch(m, e);
	return e->value;
}

static void replace(struct map *m, struct entry *e, void *value)
{
	void *old = e->value;

	e->value = value;
	touch(m, e);
	if (old != value)
		drop_value(m, old);
}

void map_put(struct map *m, struct str key, void *value)
{
	uint64_t hash = hash64(key);
	struct entry **at = find(m, key, hash);
	struct entry *e = *at;

	if (e) {
		replace(m, e, value);
		return;
	}
	e = must(malloc(sizeof *e + key.len));
	e->hash = hash;
	e->value = value;
	e->key_len = key.len;
	if (key.len)
		memcpy(e->key, key.ptr, key.len);
	e->chain = NULL;
	*at = e;
	list_newest(m, e);
	m->len++;
	if (m->entries_max && m->len > m->entries_max)
		remove_at(m, find(m, key_of(m->oldest), m->oldest->hash));
	if (m->len > m->slots_count)
		grow(m);
}

bool map_remove(struct map *m, struct str key)
{
	struct entry **at = find(m, key, hash64(key));

	if (!*at)
		return false;
	remove_at(m, at);
	return true;
}

void map_clear(struct map *m)
{
	while (m->oldest)
		remove_at(m, find(m, key_of(m->oldest), m->oldest->hash));
}

size_t map_len(const struct map *m)
{
	return m->len;
}

void map_each(struct map *m, bool (*visit)(void *arg, struct str key, void *value), void *arg)
{
	for (struct entry *e = m->newest; e; e = e->older)
		if (!visit(arg, key_of(e), e->value))
			return;
}

void map_remove_if(struct map *m, bool (*match)(void *arg, struct str key, void *value), void *arg)
{
	struct entry *next;

	for (struct entry *e = m->newest; e; e = next) {
		next = e->older;
		if (match(arg, key_of(e), e->value))
			remove_at(m, find(m, key_of(e), e->hash));
	}
}
