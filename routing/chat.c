/* routing/chat.c - what all dialects share when one is written in another's words.
 *
 * Pure: memory comes from the arena given, and what is large is asked for by the checked form. */
#include "routing/chat.h"

#include <assert.h>
#include <stdio.h>

#include "routing/dialect.h"
#include "routing/provider.h"
#include "server/base/hash.h"
#include "server/base/map.h"

#define OPAQUE_LEAD                                                                                \
	"tollgate1" /* nine bytes: whole groups of base64, so that the mark is a prefix */
#define OPAQUE_BYTES_MAX (32u << 20)
#define DELTAS_AT_ONCE	 8

/* ---- state that only its maker can read ---------------------------------------------------------- */

struct str chat_opaque_wrap(struct arena *mem, const struct chat_opaque *o)
{
	AUTO(buf) struct buf plain = BUF_INIT(OPAQUE_BYTES_MAX);
	AUTO(buf) struct buf text = BUF_INIT(OPAQUE_BYTES_MAX * 2);
	void *copy;

	/* neither dialects nor provider ids have a bar, and a model's is the only thing that may: it has its length */
	if (buf_printf(&plain, OPAQUE_LEAD "|%.*s|%.*s|%zu|%.*s|", STR_FMT(o->dialect),
		       STR_FMT(o->provider), o->model.len, STR_FMT(o->model)) != RC_OK ||
	    buf_append(&plain, o->value) != RC_OK || base64_encode(buf_str(&plain), &text) != RC_OK)
		return STR("");
	if (arena_try_alloc(mem, text.len + 1, &copy) != RC_OK)
		return STR("");
	memcpy(copy, text.ptr, text.len);
	return str_of(copy, text.len);
}

/* The other alphabet, and no padding, are what a client makes of it that takes it for bytes. */
static enum rc base64_plain(struct arena *mem, struct str text, struct str *ret)
{
	const size_t len = text.len + (4 - text.len % 4) % 4;
	char *copy;
	void *p;

	TRY(arena_try_alloc(mem, len + 1, &p));
	copy = p;
	for (size_t i = 0; i < len; i++) {
		char c = i < text.len ? text.ptr[i] : '=';

		copy[i] = (char)(c == '-' ? '+' : c == '_' ? '/' : c);
	}
	*ret = str_of(copy, len);
	return RC_OK;
}

bool chat_opaque_unwrap(struct arena *mem, struct str text, struct chat_opaque *ret)
{
	struct str rest, lead;
	uint64_t model_len;
	size_t len;
	void *plain;

	if (!str_starts(text, STR(CHAT_OPAQUE_MARK)) || text.len > OPAQUE_BYTES_MAX ||
	    base64_plain(mem, text, &text) != RC_OK ||
	    arena_try_alloc(mem, text.len, &plain) != RC_OK ||
	    base64_decode(text, plain, text.len, &len) != RC_OK)
		return false;
	rest = str_of(plain, len);
	lead = str_cut(&rest, '|');
	ret->dialect = str_cut(&rest, '|');
	ret->provider = str_cut(&rest, '|');
	if (!str_is(lead, OPAQUE_LEAD) || str_to_u64(str_cut(&rest, '|'), &model_len) != RC_OK ||
	    rest.len <= model_len || rest.ptr[model_len] != '|')
		return false;
	ret->model = str_slice(rest, 0, model_len);
	ret->value = str_slice(rest, model_len + 1, rest.len);
	return true;
}

bool chat_opaque_fits(const struct chat_opaque *o, const struct dialect_target *t)
{
	return o->value.ptr && str_is(o->provider, t->provider->id) && str_eq(o->model, t->model) &&
	       str_is(o->dialect, t->dialect->name);
}

/* ---- the question ------------------------------------------------------------------------------------ */

static const char *const efforts[] = {"",
#define X(name) #name,
				      CHAT_EFFORTS(X)
#undef X
};

const char *chat_effort_name(enum chat_effort e)
{
	assert(e > CHAT_EFFORT_UNSAID && e < ARRAY_LEN(efforts));
	return efforts[e];
}

enum rc chat_effort_parse(struct str name, enum chat_effort *ret)
{
	for (size_t i = 1; i < ARRAY_LEN(efforts); i++) {
		if (!str_is(name, efforts[i]))
			continue;
		*ret = (enum chat_effort)i;
		return RC_OK;
	}
	return RC_INVALID;
}

void chat_lose(struct chat_losses *l, struct str name)
{
	for (size_t i = 0; i < l->count; i++)
		if (str_eq(l->name[i], name))
			return;
	if (l->count < CHAT_LOSSES_MAX)
		l->name[l->count++] = name;
}

enum rc chat_cannot(struct err *err, const char *provider, const char *field)
{
	err_set(err, RC_UNSUPPORTED, "unsupported_parameter", "%s has no counterpart at %s.", field,
		provider);
	err_hint(err, "Leave it out, or ask for a model of a provider that has it.");
	err_field(err, "%s", field);
	return RC_UNSUPPORTED;
}

enum rc chat_check_needs(const struct chat *chat, const struct dialect_target *t, struct err *err)
{
	char field[128];

	if (chat->needs_count == 0)
		return RC_OK;
	(void)snprintf(field, sizeof field, "%.*s", STR_FMT(chat->needs[0]));
	return chat_cannot(err, t->provider->label, field);
}

/* ---- helpers that every dialect wants --------------------------------------------------------------------- */

bool chat_data_url(struct str url, struct chat_media *ret)
{
	const ptrdiff_t comma = str_find(url, ',');
	struct str head;

	if (comma < 0 || !str_eq_nocase(str_slice(url, 0, 5), STR("data:")))
		return false;
	head = str_slice(url, 5, (size_t)comma);
	if (head.len < 7 || !str_eq_nocase(str_slice(head, head.len - 7, head.len), STR(";base64")))
		return false;
	head = str_slice(head, 0, head.len - 7);
	ret->mime = str_cut(&head, ';');
	ret->data = str_slice(url, (size_t)comma + 1, url.len);
	return true;
}

struct str chat_data_url_make(struct arena *mem, const struct chat_media *m)
{
	const struct str mime = m->mime.len ? m->mime : STR("application/octet-stream");
	const size_t len = 5 + mime.len + 8 + m->data.len;
	char *url;
	void *p;

	if (arena_try_alloc(mem, len + 1, &p) != RC_OK)
		return STR("");
	url = p;
	memcpy(url, "data:", 5);
	memcpy(url + 5, mime.ptr, mime.len);
	memcpy(url + 5 + mime.len, ";base64,", 8);
	memcpy(url + 13 + mime.len, m->data.ptr, m->data.len);
	return str_of(url, len);
}

static enum rc result_name(struct map *calls, struct chat_part *result, struct err *err)
{
	const struct chat_part *call = map_get(calls, result->id);

	if (call) {
		result->name = call->name;
		return RC_OK;
	}
	err_set(err, RC_INVALID, "invalid_request_error",
		"A tool result names the call %.*s, which no turn before it makes.",
		STR_FMT(str_slice(result->id, 0, 64)));
	err_field(err, "messages");
	return RC_INVALID;
}

/* By a table: a body has room for more calls, and results, than could be looked for one by one. */
enum rc chat_name_results(struct chat *chat, struct err *err)
{
	struct map *calls = map_new(0, NULL);
	enum rc rc = RC_OK;

	for (size_t t = 0; t < chat->turns_count; t++) {
		const struct chat_turn *turn = &chat->turns[t];

		for (size_t p = 0; p < turn->parts_count && rc == RC_OK; p++) {
			struct chat_part *part = &turn->parts[p];

			if (part->type == CHAT_TOOL_RESULT)
				rc = result_name(calls, part, err);
			else if (part->type == CHAT_TOOL_CALL)
				map_put(calls, part->id, part);
		}
	}
	map_free(calls);
	return rc;
}

enum rc chat_allowed(const struct chat *chat, struct arena *mem, const bool **ret)
{
	struct map *names;
	bool *allowed;
	void *p;

	*ret = NULL;
	if (chat->choice != CHAT_CHOICE_ALLOWED_AUTO &&
	    chat->choice != CHAT_CHOICE_ALLOWED_REQUIRED)
		return RC_OK;
	TRY(arena_try_alloc(mem, (chat->tools_count + 1) * sizeof *allowed, &p));
	*ret = allowed = p;
	names = map_new(0, NULL);
	for (size_t i = 0; i < chat->choice_names_count; i++)
		map_put(names, chat->choice_names[i], &chat->choice_names[i]);
	for (size_t i = 0; i < chat->tools_count; i++)
		allowed[i] = map_get(names, chat->tools[i].name) != NULL;
	map_free(names);
	return RC_OK;
}

struct str chat_call_id(struct arena *mem, struct str id, const char *prefix, size_t len,
			bool (*fits)(struct str id))
{
	static const char digits[] =
		"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	const size_t before = strlen(prefix);
	uint8_t hash[SHA256_BYTES];
	char *made;

	assert(len <= SHA256_BYTES);
	if (fits(id))
		return id;
	sha256(id, hash);
	made = arena_alloc(mem, before + len + 1);
	memcpy(made, prefix, before);
	for (size_t i = 0; i < len; i++)
		made[before + i] = digits[hash[i] % (sizeof digits - 1)];
	return str_of(made, before + len);
}

enum rc chat_text_add(struct arena *mem, struct chat_text *t, struct str s)
{
	size_t size = t->size ? t->size : 256;
	void *p;

	while (size - t->len < s.len) {
		if (size > SIZE_MAX / 2)
			return RC_TOO_LARGE;
		size *= 2;
	}
	if (size != t->size) {
		TRY(t->ptr ? arena_try_resize(mem, t->ptr, t->size, size, &p)
			   : arena_try_alloc(mem, size, &p));
		t->ptr = p;
		t->size = size;
	}
	if (s.len)
		memcpy(t->ptr + t->len, s.ptr, s.len);
	t->len += s.len;
	return RC_OK;
}

bool chat_braces_close(struct chat_braces *b, struct str piece)
{
	for (size_t i = 0; i < piece.len; i++) {
		const char c = piece.ptr[i];

		if (b->in_string) {
			if (b->escaped)
				b->escaped = false;
			else if (c == '\\')
				b->escaped = true;
			else if (c == '"')
				b->in_string = false;
		} else if (c == '"') {
			b->in_string = true;
		} else if (c == '{' || c == '[') {
			b->depth++;
		} else if ((c == '}' || c == ']') && b->depth > 0 && --b->depth == 0) {
			return true;
		}
	}
	return false;
}

static bool deltas_room(struct arena *mem, struct facts *f)
{
	const size_t size = f->deltas_size ? f->deltas_size * 2 : DELTAS_AT_ONCE;
	void *more;

	if (f->deltas_count < f->deltas_size)
		return true;
	if (f->deltas_count == CHAT_DELTAS_MAX ||
	    arena_try_alloc(mem, size * sizeof *f->deltas, &more) != RC_OK)
		return false;
	if (f->deltas_count)
		memcpy(more, f->deltas, f->deltas_count * sizeof *f->deltas);
	f->deltas = more;
	f->deltas_size = size;
	return true;
}

struct chat_delta *chat_delta_add(struct arena *mem, struct facts *f, enum chat_delta_type type)
{
	static _Thread_local struct chat_delta nowhere; /* where there is not even a last one */
	struct chat_delta *d;

	if (deltas_room(mem, f)) {
		d = &f->deltas[f->deltas_count++];
	} else {
		f->deltas_lost = true;
		d = f->deltas_count ? &f->deltas[f->deltas_count - 1] : &nowhere;
	}
	*d = (struct chat_delta){.type = type};
	return d;
}
