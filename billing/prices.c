/* billing/prices.c - the control plane of the price book: read it, add a version.
 *
 * A version is added, never changed; what is booked already keeps the price it was rated with. */
#include "billing/endpoints_priv.h"

#include <string.h>
#include "billing/billing_priv.h"
#include "server/admin.h"
#include "server/base/clock.h"
#include "server/base/json.h"
#include "sql/queries.h"

#define PRICE_LINES_MAX	  200
#define PROVIDER_MAX	  64
#define MODEL_MAX	  256
#define LINES_BYTES_MAX	  (64u << 10)
#define PER_UNITS_DEFAULT 1000000

static bool book_ok(struct http_request *r, struct str book)
{
	struct err err = {0};

	if (str_is(book, "sell") || str_is(book, "cost"))
		return true;
	billing_bad_field(&err, "book", "is not known");
	err_hint(&err, "sell or cost");
	http_reply_err(r, RC_INVALID, &err);
	return false;
}

void prices_list(struct http_request *r)
{
	struct admin_page page;
	struct str book, provider;
	struct pg_batch *b;

	if (!admin_query_only(r, "limit cursor book provider") || !admin_page(r, &page))
		return;
	book = http_query(r, "book");
	provider = http_query(r, "provider");
	if (!book.ptr)
		book = STR("sell");
	if (!book_ok(r, book))
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_billing_prices);
	pg_param_int(b, page.limit);
	if (!billing_page_int(r, page.cursor, b))
		return;
	pg_param_str(b, book);
	pg_param_str(b, provider.len ? provider : STR_NULL);
	admin_run(r, b, 200);
}

void prices_show(struct http_request *r)
{
	struct str book;
	struct pg_batch *b;

	if (!admin_query_only(r, "book"))
		return;
	book = http_query(r, "book");
	if (!book.ptr)
		book = STR("sell");
	if (!book_ok(r, book))
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_billing_price_show);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, book);
	admin_run(r, b, 200);
}

struct line_request {
	enum usage_class class;
	money_t price;
	int64_t per, above;
	struct str tier;
};

/* Say which line, too: "lines[3].price". */
static enum rc bad_line(struct err *err, size_t i, const char *member, const char *words)
{
	err_set(err, RC_INVALID, "invalid_field", "lines[%zu].%s %s", i, member, words);
	err_field(err, "lines[%zu].%s", i, member);
	return RC_INVALID;
}

static enum rc line_fields_known(const struct json *line, size_t i, struct err *err)
{
	static const char *const known[] = {"class", "price", "per", "above_input_tokens",
					    "service_tier"};
	struct json_iter it = json_iter(line);
	struct json *value;
	struct str key;

	while (json_next(&it, &key, &value)) {
		size_t k = 0;

		while (k < ARRAY_LEN(known) && !str_is(key, known[k]))
			k++;
		if (k < ARRAY_LEN(known))
			continue;
		err_set(err, RC_INVALID, "unknown_field", "unknown field \"lines[%zu].%.*s\"", i,
			STR_FMT(key));
		err_field(err, "lines[%zu].%.*s", i, STR_FMT(key));
		return RC_INVALID;
	}
	return RC_OK;
}

static enum rc read_line(const struct json *line, size_t i, struct line_request *l, struct err *err)
{
	struct str class = STR_NULL, price = STR_NULL;

	*l = (struct line_request){.per = PER_UNITS_DEFAULT, .above = -1, .tier = STR("")};
	if (json_type(line) != JSON_OBJECT)
		return bad_line(err, i, "class", "is missing: a line is an object");
	TRY(line_fields_known(line, i, err));
	if (!json_string(json_get(line, "class"), &class) ||
	    usage_class_parse(class, &l->class) != RC_OK)
		return bad_line(err, i, "class", "is not a usage class");
	if (!json_string(json_get(line, "price"), &price) ||
	    money_parse(price, false, &l->price) != RC_OK || l->price.nano > PRICE_NANO_MAX)
		return bad_line(err, i, "price", "is not a decimal string of credits");
	if (!json_is_null(json_get(line, "per")) && (!json_int(json_get(line, "per"), &l->per) ||
						     l->per < 1 || l->per > PRICE_PER_UNITS_MAX))
		return bad_line(err, i, "per", "must be an integer from 1 to 1000000000");
	if (!json_is_null(json_get(line, "above_input_tokens")) &&
	    (!json_int(json_get(line, "above_input_tokens"), &l->above) || l->above < 0 ||
	     l->above >= USAGE_UNITS_MAX))
		return bad_line(err, i, "above_input_tokens", "must be a number of tokens");
	if (!json_is_null(json_get(line, "service_tier")) &&
	    (!json_string(json_get(line, "service_tier"), &l->tier) ||
	     l->tier.len >= PRICE_TIER_SIZE ||
	     (l->tier.len && memchr(l->tier.ptr, 0, l->tier.len))))
		return bad_line(err, i, "service_tier", "must be a word of at most 15 bytes");
	return RC_OK;
}

static bool line_twice(const struct line_request *l, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (l[k].class == l[i].class && l[k].above == l[i].above &&
		    str_eq(l[k].tier, l[i].tier))
			return true;
	}
	return false;
}

static void line_write(struct json_out *o, const struct line_request *l)
{
	json_obj(o, NULL);
	json_put_z(o, "class", usage_class_name(l->class));
	json_put_int(o, "band_min_input", l->above + 1);
	json_put_str(o, "service_tier", l->tier);
	json_put_int(o, "price_nano", l->price.nano);
	json_put_int(o, "per_units", l->per);
	json_obj_end(o);
}

/* The lines as price_version_add() takes them. */
static enum rc read_lines(struct arena *mem, const struct json *lines, struct buf *out,
			  struct err *err)
{
	struct line_request *l = ARENA_ARRAY(mem, struct line_request, PRICE_LINES_MAX);
	struct json_iter it = json_iter(lines);
	struct json *line;
	struct json_out o;
	size_t i = 0;

	if (json_type(lines) != JSON_ARRAY || json_len(lines) == 0 ||
	    json_len(lines) > PRICE_LINES_MAX)
		return billing_bad_field(err, "lines", "must be an array of 1 to 200 lines");
	json_out_begin(&o, out);
	json_arr(&o, NULL);
	for (; json_next(&it, NULL, &line); i++) {
		TRY(read_line(line, i, &l[i], err));
		if (line_twice(l, i))
			return bad_line(err, i, "class",
					"is priced twice for the same band and tier");
		line_write(&o, &l[i]);
	}
	json_arr_end(&o);
	return json_out_end(&o);
}

struct price_request {
	struct str book;
	bool starts;
	int64_t starts_us;
};

static enum rc read_price(struct http_request *r, const struct json *body, struct price_request *p,
			  struct buf *lines, struct err *err)
{
	struct str starts = STR_NULL;

	*p = (struct price_request){.book = STR("sell")};
	if (r->params[0].len > PROVIDER_MAX || r->params[1].len > MODEL_MAX || !r->params[1].len)
		return billing_bad_field(err, "model", "is too long");
	TRY(admin_str(body, "book", false, 8, &p->book, err));
	if (!str_is(p->book, "sell") && !str_is(p->book, "cost"))
		return billing_bad_field(err, "book", "must be sell or cost");
	TRY(admin_str(body, "effective_from", false, CLOCK_RFC3339_SIZE + 8, &starts, err));
	p->starts = starts.ptr != NULL;
	if (p->starts && clock_parse_rfc3339(starts, &p->starts_us) != RC_OK)
		return billing_bad_field(err, "effective_from", "is not an RFC 3339 time");
	return read_lines(r->mem, json_get(body, "lines"), lines, err);
}

void prices_put(struct http_request *r)
{
	AUTO(buf) struct buf lines = BUF_INIT(LINES_BYTES_MAX);
	struct json *body = admin_body(r, "book effective_from lines");
	struct price_request p;
	struct pg_batch *b;
	struct err err = {0};
	enum rc rc;

	if (!body)
		return;
	rc = read_price(r, body, &p, &lines, &err);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &err);
		return;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_billing_price_put);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, p.book);
	if (p.starts)
		pg_param_time(b, p.starts_us);
	else
		pg_param_null(b);
	pg_param_str(b, buf_str(&lines));
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
