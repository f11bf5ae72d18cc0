/* billing/price.c - from usage to money: which line of the book holds, and what it costs.
 *
 * Pure: no clock, no I/O, no allocation but when a book is made. One rule finds the line for a class
 * (price_resolve), and the bound of a call asks that same rule, so a bound can never be cheaper
 * than what is charged later. Rules are those of the price catalogue: a band holds for the whole
 * request; the served tier's lines override; what is absent there keeps the base price; a class
 * that is not priced apart costs what its parent costs. */
#include "billing/price_priv.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "server/base/json.h"

#define PRICE_BOOK_BYTES_MAX (512u << 20) /* PRICE_ROWS_MAX lines and their names */

struct price_line {
	enum usage_class class;
	int64_t band_min_input;
	char tier[PRICE_TIER_SIZE];
	int64_t price_nano, per_units;
};

struct price {
	int64_t nano, per_units;
	bool unstated; /* no rule gives it: charged at what comes closest, and flagged */
};

enum price_side { SIDE_IN, SIDE_OUT, SIDE_CALL, SIDE_CHARS, SIDE_AUDIO_IN, SIDE_COUNT };
struct price_dearest {
	struct price price;
	bool found, fractional; /* fractional: some price is no whole number of nanos per unit */
};
/* The dearest there is for calls of up to the next reach's input, found once when the book is made. */
struct price_reach {
	int64_t input_from;
	struct price_dearest side[SIDE_COUNT];
};

struct price_model {
	struct str provider, model;
	int64_t version;
	const struct price_line *line;
	size_t lines;
	const struct price_reach *reach; /* ascending; the first one from 0 */
	size_t reaches;
};

struct price_book {
	_Atomic int refs;
	struct arena *mem; /* everything below; written only while the book is made */
	struct price_model *model;
	size_t models;
};

static void price_reach_make(struct arena *mem, struct price_model *m);

/* --- the book ------------------------------------------------------------------------------ */

struct price_book *price_book_ref(struct price_book *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void price_book_unref(struct price_book *b)
{
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	arena_free(b->mem);
	free(b);
}

size_t price_book_models(const struct price_book *b)
{
	return b->models;
}

static int price_key_cmp(struct str provider, struct str model, const struct price_model *m)
{
	int c = str_cmp(provider, m->provider);

	return c ? c : str_cmp(model, m->model);
}

static bool price_row_sane(const struct price_row *r)
{
	return r->provider.len > 0 && r->model.len > 0 && (unsigned)r->class < USAGE_CLASS_COUNT &&
	       r->band_min_input >= 0 && r->band_min_input <= USAGE_UNITS_MAX &&
	       r->service_tier.len < PRICE_TIER_SIZE && r->price_nano >= 0 &&
	       r->price_nano <= PRICE_NANO_MAX && r->per_units >= 1 &&
	       r->per_units <= PRICE_PER_UNITS_MAX;
}

static bool price_line_twice(const struct price_model *m, const struct price_line *l)
{
	for (const struct price_line *o = m->line; o < l; o++) {
		if (o->class == l->class && o->band_min_input == l->band_min_input &&
		    strcmp(o->tier, l->tier) == 0)
			return true;
	}
	return false;
}

/* Add one row to the book being made; `b->models` counts the model it belongs to already or opens it. */
static enum rc price_book_add(struct price_book *b, struct price_line *line,
			      const struct price_row *r, struct err *err)
{
	struct price_model *m = b->models ? &b->model[b->models - 1] : NULL;
	int order = m ? price_key_cmp(r->provider, r->model, m) : 1;

	if (!price_row_sane(r) || order < 0)
		return err_set(err, RC_INVALID, "bad_price",
			       "price line out of range or order: %.*s/%.*s", STR_FMT(r->provider),
			       STR_FMT(r->model));
	if (order > 0) {
		m = &b->model[b->models++];
		m->provider = arena_str(b->mem, r->provider);
		m->model = arena_str(b->mem, r->model);
		m->version = r->version;
		m->line = line;
	}
	line->class = r->class;
	line->band_min_input = r->band_min_input;
	if (r->service_tier.len > 0)
		memcpy(line->tier, r->service_tier.ptr, r->service_tier.len);
	line->price_nano = r->price_nano;
	line->per_units = r->per_units;
	if (m->version != r->version || price_line_twice(m, line))
		return err_set(err, RC_INVALID, "bad_price",
			       "two price lines hold at once for %s of %.*s/%.*s",
			       usage_class_name(r->class), STR_FMT(r->provider), STR_FMT(r->model));
	m->lines++;
	return RC_OK;
}

enum rc price_book_new(const struct price_row *rows, size_t count, struct price_book **ret,
		       struct err *err)
{
	struct price_book *b;
	struct price_line *lines;

	if (count > PRICE_ROWS_MAX)
		return err_set(err, RC_TOO_LARGE, "price_book_too_large", "%zu price lines", count);
	b = calloc(1, sizeof *b);
	if (!b)
		abort();
	atomic_init(&b->refs, 1);
	b->mem = arena_new(PRICE_BOOK_BYTES_MAX);
	b->model = ARENA_ARRAY(b->mem, struct price_model, count + 1);
	lines = ARENA_ARRAY(b->mem, struct price_line, count + 1);
	for (size_t i = 0; i < count; i++) {
		enum rc rc = price_book_add(b, &lines[i], &rows[i], err);

		if (rc != RC_OK) {
			price_book_unref(b);
			return rc;
		}
	}
	for (size_t i = 0; i < b->models; i++)
		price_reach_make(b->mem, &b->model[i]);
	*ret = b;
	return RC_OK;
}

const struct price_model *price_find(const struct price_book *b, struct str provider,
				     struct str model)
{
	size_t lo = 0, hi = b ? b->models : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = price_key_cmp(provider, model, &b->model[mid]);

		if (c == 0)
			return &b->model[mid];
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

int64_t price_version(const struct price_model *m)
{
	return m->version;
}

/* --- which price holds --------------------------------------------------------------------- */

/* a > b, exactly: both products are below 2^80. */
static bool price_dearer(struct price a, struct price b)
{
	return (unsigned __int128)(uint64_t)a.nano * (uint64_t)b.per_units >
	       (unsigned __int128)(uint64_t)b.nano * (uint64_t)a.per_units;
}

/* The line of this very class: of the highest band that `total_in` reaches. */
static const struct price_line *price_line_at(const struct price_model *m, enum usage_class class,
					      const char *tier, int64_t total_in)
{
	const struct price_line *best = NULL;

	for (const struct price_line *l = m->line; l < m->line + m->lines; l++) {
		if (l->class == class && l->band_min_input <= total_in &&
		    strcmp(l->tier, tier) == 0 &&
		    (!best || l->band_min_input > best->band_min_input))
			best = l;
	}
	return best;
}

/* The price of this class itself, at the served tier and band. Where the book knows the tier and
 * the band but not both together, the dearer of the two is taken, flagged. */
static bool price_own(const struct price_model *m, enum usage_class class, const char *tier,
		      int64_t total_in, struct price *ret)
{
	const struct price_line *base = price_line_at(m, class, "", total_in);
	const struct price_line *own = tier[0] ? price_line_at(m, class, tier, total_in) : NULL;
	struct price p, q;

	if (!base && !own)
		return false;
	if (!own || !base) {
		const struct price_line *l = own ? own : base;

		*ret = (struct price){l->price_nano, l->per_units, false};
		return true;
	}
	p = (struct price){own->price_nano, own->per_units, false};
	q = (struct price){base->price_nano, base->per_units, true};
	if (base->band_min_input > own->band_min_input) {
		p.unstated = true;
		if (price_dearer(q, p))
			p = q;
	}
	*ret = p;
	return true;
}

/* Whose price a class takes that has none: `ruled` where the catalogue's rules say so. */
struct price_parent {
	bool has, ruled;
	enum usage_class class;
};
static const struct price_parent parents[USAGE_CLASS_COUNT] = {
	[USAGE_in_cached_read] = {true, true, USAGE_in_text},
	[USAGE_in_cache_write_5m] = {true, true, USAGE_in_text},
	[USAGE_in_cache_write_1h] = {true, true, USAGE_in_cache_write_5m},
	[USAGE_in_audio] = {true, true, USAGE_in_text},
	[USAGE_in_image] = {true, true, USAGE_in_text},
	[USAGE_in_tool_prompt] = {true, true, USAGE_in_text},
	[USAGE_embed_tokens] = {true, true, USAGE_in_text},
	[USAGE_in_audio_cached] = {true, false, USAGE_in_audio},
	[USAGE_in_image_cached] = {true, false, USAGE_in_image},
	[USAGE_in_video] = {true, false, USAGE_in_text},
	[USAGE_out_reasoning] = {true, true, USAGE_out_text},
	[USAGE_out_audio] = {true, true, USAGE_out_text},
	[USAGE_out_image] = {true, false, USAGE_out_text},
};

/* What two providers document for a class they do not list: Anthropic's 1-hour cache write costs
 * twice the input, Mistral's cached prompt tokens a tenth of it. Both stay exact. */
static bool price_of_vendor(const struct price_model *m, enum usage_class class, const char *tier,
			    int64_t total_in, struct price *ret)
{
	bool twice = class == USAGE_in_cache_write_1h && str_is(m->provider, "anthropic");
	bool tenth = class == USAGE_in_cached_read && str_is(m->provider, "mistral");

	if ((!twice && !tenth) || !price_own(m, USAGE_in_text, tier, total_in, ret))
		return false;
	if (twice)
		ret->nano *= 2;
	else
		ret->per_units *= 10;
	return true;
}

static bool price_resolve(const struct price_model *m, enum usage_class class, const char *tier,
			  int64_t total_in, struct price *ret)
{
	bool unstated = false;

	while (!price_own(m, class, tier, total_in, ret)) {
		if (price_of_vendor(m, class, tier, total_in, ret))
			break;
		if (!parents[class].has)
			return false;
		unstated |= !parents[class].ruled;
		class = parents[class].class;
	}
	ret->unstated |= unstated;
	return true;
}

/* --- what it costs --------------------------------------------------------------------------- */

enum rc price_cost(int64_t units, int64_t price_nano, int64_t per_units, money_t *ret)
{
	unsigned __int128 n;

	if (units < 0 || price_nano < 0 || per_units < 1)
		return RC_INVALID;
	/* vendor rules take twice or a tenth of a price: hence two and ten times the book's bounds */
	if (units > USAGE_UNITS_MAX || price_nano > 2 * PRICE_NANO_MAX ||
	    per_units > 10 * PRICE_PER_UNITS_MAX)
		return RC_TOO_LARGE;
	n = (unsigned __int128)(uint64_t)units * (uint64_t)price_nano;
	/* n / per + 1/2, floored, without losing the half of an odd `per` */
	n = (2 * n + (uint64_t)per_units) / (2 * (unsigned __int128)(uint64_t)per_units);
	if (n > (unsigned __int128)MONEY_NANO_MAX)
		return RC_TOO_LARGE;
	*ret = money_nano((int64_t)n);
	return RC_OK;
}

static enum rc price_rate_class(const struct price_model *m, const struct usage *u,
				enum usage_class class, int64_t total_in, struct rating *r)
{
	struct rating_line *line;
	struct price p;

	/* how many requests there were is money only where a price says so */
	if (!price_resolve(m, class, u->service_tier, total_in, &p))
		return class == USAGE_requests ? RC_OK : RC_NOT_FOUND;
	if (r->lines == RATING_LINES_MAX)
		return RC_TOO_LARGE;
	line = &r->line[r->lines];
	line->class = class;
	line->units = u->n[class];
	line->price_nano = p.nano;
	line->per_units = p.per_units;
	TRY(price_cost(line->units, p.nano, p.per_units, &line->amount));
	TRY(money_add(r->amount, line->amount, &r->amount));
	if (r->amount.nano > MONEY_NANO_MAX)
		return RC_TOO_LARGE;
	if (p.unstated)
		r->flags |= USAGE_FLAG_CLASS_UNPRICED;
	r->lines++;
	return RC_OK;
}

/* Counted beside tokens, asked for or not: what a price list does not know of them is told, and charged nothing. */
static const enum usage_class beside[] = {
	USAGE_images_n,	     USAGE_audio_out_ms, USAGE_video_ms,
	USAGE_searches,	     USAGE_web_fetches,	 USAGE_file_searches,
	USAGE_code_sessions, USAGE_rerank_units, USAGE_cache_storage_token_hours,
};

static bool is_beside(enum usage_class class)
{
	for (size_t i = 0; i < ARRAY_LEN(beside); i++)
		if (beside[i] == class)
			return true;
	return false;
}

static bool is_sold_by(const struct price_model *m, const struct usage *u, enum usage_class unit)
{
	return u->n[unit] > 0 && price_has(m, unit);
}

/* May a class without a price be left out? Beside what the model is sold by, yes; never all there is. */
static bool may_leave(const struct price_model *m, const struct usage *u, enum usage_class class)
{
	const bool by_unit = is_sold_by(m, u, USAGE_chars) || is_sold_by(m, u, USAGE_audio_in_ms);
	const bool unit = class == USAGE_chars || class == USAGE_audio_in_ms;

	return is_beside(class) || by_unit || (unit && usage_total_in(u) + usage_total_out(u) > 0);
}

enum rc price_rate(const struct price_model *m, const struct usage *u, struct rating *ret)
{
	struct rating r = {.version = m->version};
	int64_t total_in = usage_total_in(u);

	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++) {
		enum rc rc;

		if (u->n[c] == 0)
			continue;
		rc = price_rate_class(m, u, (enum usage_class)c, total_in, &r);
		if (rc == RC_NOT_FOUND && may_leave(m, u, (enum usage_class)c)) {
			r.flags |= USAGE_FLAG_CLASS_UNPRICED;
			continue;
		}
		TRY(rc);
	}
	*ret = r;
	return RC_OK;
}

/* So many units of `line` as are worth its amount without `over`. */
static int64_t units_without(const struct rating_line *line, int64_t over)
{
	const int64_t left = line->amount.nano - over;

	if (left <= 0)
		return 0;
	return (int64_t)((unsigned __int128)(uint64_t)line->units * (uint64_t)left /
			 (uint64_t)line->amount.nano);
}

enum rc price_rate_within(const struct price_model *m, money_t max, struct usage *u,
			  struct rating *ret)
{
	struct rating r;
	enum rc rc = price_rate(m, u, &r);

	if (rc == RC_TOO_LARGE) { /* nobody searches so often: it is not believed at all */
		for (size_t i = 0; i < ARRAY_LEN(beside); i++)
			u->n[beside[i]] = 0;
		u->flags |= USAGE_FLAG_CLAMPED;
		rc = price_rate(m, u, &r);
	}
	TRY(rc);
	for (size_t i = r.lines; i-- > 0 && r.amount.nano > max.nano;) {
		const struct rating_line line = r.line[i];

		if (!is_beside(line.class) || line.amount.nano == 0)
			continue;
		u->n[line.class] = units_without(&line, r.amount.nano - max.nano);
		u->flags |= USAGE_FLAG_CLAMPED;
		TRY(price_rate(m, u, &r));
		/* a line is rounded to the nearest: one unit less is surely below */
		if (r.amount.nano > max.nano && u->n[line.class] > 0) {
			u->n[line.class]--;
			TRY(price_rate(m, u, &r));
		}
	}
	*ret = r;
	return r.amount.nano > max.nano ? RC_TOO_LARGE : RC_OK;
}

/* --- what it can cost at most ------------------------------------------------------------------ */

static const enum usage_class side_in[] = {
	USAGE_in_text,	USAGE_in_cached_read,  USAGE_in_cache_write_5m, USAGE_in_cache_write_1h,
	USAGE_in_audio, USAGE_in_audio_cached, USAGE_in_image,		USAGE_in_image_cached,
	USAGE_in_video, USAGE_in_tool_prompt,  USAGE_embed_tokens,
};
static const enum usage_class side_out[] = {USAGE_out_text, USAGE_out_reasoning, USAGE_out_audio,
					    USAGE_out_image};
static const enum usage_class side_call[] = {USAGE_requests};
static const enum usage_class side_chars[] = {USAGE_chars};
static const enum usage_class side_audio_in[] = {USAGE_audio_in_ms};
static const struct {
	const enum usage_class *class;
	size_t count;
} sides[SIDE_COUNT] = {
	[SIDE_IN] = {side_in, ARRAY_LEN(side_in)},
	[SIDE_OUT] = {side_out, ARRAY_LEN(side_out)},
	[SIDE_CALL] = {side_call, ARRAY_LEN(side_call)},
	[SIDE_CHARS] = {side_chars, ARRAY_LEN(side_chars)},
	[SIDE_AUDIO_IN] = {side_audio_in, ARRAY_LEN(side_audio_in)},
};

static void price_dearest_add(const struct price_model *m, const char *tier, int64_t total_in,
			      struct price_reach *r)
{
	for (size_t side = 0; side < SIDE_COUNT; side++) {
		struct price_dearest *d = &r->side[side];

		for (size_t i = 0; i < sides[side].count; i++) {
			struct price p;

			if (!price_resolve(m, sides[side].class[i], tier, total_in, &p))
				continue;
			d->fractional |= p.nano % p.per_units != 0;
			if (!d->found || price_dearer(p, d->price))
				d->price = p;
			d->found = true;
		}
	}
}

static int price_reach_cmp(const void *a, const void *b)
{
	const struct price_reach *x = a, *y = b;

	return (x->input_from > y->input_from) - (x->input_from < y->input_from);
}

/* Prices change at 0 and at the start of each band, and differ by tier: look at all combinations. A
 * call may end up in any band it can reach, so each reach starts from the one before. */
static void price_reach_make(struct arena *mem, struct price_model *m)
{
	struct price_reach *reach = ARENA_ARRAY(mem, struct price_reach, m->lines + 1);
	size_t n = 1;

	for (size_t i = 0; i < m->lines; i++) {
		bool known = false;

		for (size_t k = 0; k < n; k++)
			known |= reach[k].input_from == m->line[i].band_min_input;
		if (!known)
			reach[n++].input_from = m->line[i].band_min_input;
	}
	qsort(reach, n, sizeof *reach, price_reach_cmp);
	for (size_t k = 0; k < n; k++) {
		if (k > 0)
			memcpy(reach[k].side, reach[k - 1].side, sizeof reach[k].side);
		price_dearest_add(m, "", reach[k].input_from, &reach[k]);
		for (size_t i = 0; i < m->lines; i++) {
			if (m->line[i].tier[0])
				price_dearest_add(m, m->line[i].tier, reach[k].input_from,
						  &reach[k]);
		}
	}
	m->reach = reach;
	m->reaches = n;
}

/* units x dearest price, rounded up; with room for what rounding each line of this side may add. */
static enum rc price_bound_side(const struct price_reach *r, enum price_side side, int64_t units,
				money_t *sum)
{
	const struct price_dearest *d = &r->side[side];
	unsigned __int128 n;

	if (units == 0)
		return RC_OK;
	if (!d->found)
		return RC_NOT_FOUND;
	n = (unsigned __int128)(uint64_t)units * (uint64_t)d->price.nano;
	n = (n + (uint64_t)d->price.per_units - 1) / (uint64_t)d->price.per_units;
	if (d->fractional)
		n += (sides[side].count + 1) / 2;
	if (n > (unsigned __int128)MONEY_NANO_MAX)
		return RC_TOO_LARGE;
	return money_add(*sum, money_nano((int64_t)n), sum);
}

enum rc price_bound_cost(const struct price_model *m, const struct price_bound *b, money_t *ret)
{
	const struct price_reach *r = m->reach;
	money_t sum = MONEY_ZERO;
	int64_t out_units;

	if (b->input_tokens_max < 0 || b->output_tokens_max < 0 || b->choices < 1 ||
	    b->chars_max < 0 || b->audio_in_ms_max < 0)
		return RC_INVALID;
	if (__builtin_mul_overflow(b->output_tokens_max, b->choices, &out_units) ||
	    out_units > USAGE_UNITS_MAX || b->input_tokens_max > USAGE_UNITS_MAX ||
	    b->chars_max > USAGE_UNITS_MAX || b->audio_in_ms_max > USAGE_UNITS_MAX)
		return RC_TOO_LARGE;
	while (r + 1 < m->reach + m->reaches && r[1].input_from <= b->input_tokens_max)
		r++;
	const int64_t units[SIDE_COUNT] = {
		[SIDE_IN] = b->input_tokens_max,
		[SIDE_OUT] = out_units,
		[SIDE_CALL] = r->side[SIDE_CALL].found ? 1 : 0,
		[SIDE_CHARS] = b->chars_max,
		[SIDE_AUDIO_IN] = b->audio_in_ms_max,
	};
	bool priced = !b->any_unit;
	for (enum price_side side = 0; side < SIDE_COUNT; side++) {
		if (b->any_unit && !r->side[side].found)
			continue;
		priced |= units[side] > 0;
		TRY(price_bound_side(r, side, units[side], &sum));
	}
	if (!priced)
		return RC_NOT_FOUND;
	if (sum.nano > MONEY_NANO_MAX)
		return RC_TOO_LARGE;
	*ret = sum;
	return RC_OK;
}

bool price_has(const struct price_model *m, enum usage_class class)
{
	for (const struct price_line *l = m->line; l < m->line + m->lines; l++)
		if (l->class == class)
			return true;
	return false;
}

enum rc price_lines_json(const struct price_model *m, struct buf *out)
{
	struct json_out o;
	char text[MONEY_TEXT_SIZE];

	json_out_begin(&o, out);
	json_arr(&o, NULL);
	for (const struct price_line *l = m->line; l < m->line + m->lines; l++) {
		json_obj(&o, NULL);
		json_put_z(&o, "class", usage_class_name(l->class));
		json_put_str(&o, "price", money_format_short(money_nano(l->price_nano), text));
		json_put_int(&o, "per", l->per_units);
		if (l->band_min_input > 0)
			json_put_int(&o, "above_input_tokens", l->band_min_input - 1);
		if (l->tier[0])
			json_put_z(&o, "service_tier", l->tier);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	return json_out_end(&o);
}
