/* routing/dialects/anthropic_usage.c - the Messages API's counters as disjoint classes, and back.
 *
 * input_tokens is beside the cache's reads and writes; output_tokens has the thinking in it. A stream states them several
 * times, each time as the total so far: what is named replaces, null and absent keep. The split of cache writes by time to
 * live stands in the first event alone. What does not add up is flagged; nothing read here is negative or unbounded. */
#include "routing/dialects/anthropic_priv.h"

/* True: it is stated. Anything but a plain integer in range is flagged. */
static bool count(struct anthropic_usage *u, const struct json *of, const char *key, int64_t *ret)
{
	const struct json *v = json_get(of, key);
	int64_t n;

	if (json_is_null(v))
		return false;
	if (!json_int(v, &n)) { /* 5.0, "5", 10^30: not ours to round */
		u->flags |= USAGE_FLAG_CLAMPED;
		return false;
	}
	if (n < 0 || n > USAGE_UNITS_MAX) {
		u->flags |= USAGE_FLAG_CLAMPED;
		n = n < 0 ? 0 : USAGE_UNITS_MAX;
	}
	*ret = n;
	return true;
}

static void add(int64_t *to, int64_t n)
{
	*to = *to > USAGE_UNITS_MAX - n ? USAGE_UNITS_MAX : *to + n;
}

/* cache_creation may be null: then the longest-lived class is not known, and the usual one is meant (anthropic.md 2.6). */
static void read_writes(struct anthropic_usage *u, const struct json *usage)
{
	const struct json *split = json_get(usage, "cache_creation");
	const bool total = count(u, usage, "cache_creation_input_tokens", &u->cache_write);
	int64_t m5 = 0, h1 = 0;
	bool has_5m, has_1h;

	if (json_type(split) != JSON_OBJECT)
		return;
	has_5m = count(u, split, "ephemeral_5m_input_tokens", &m5);
	has_1h = count(u, split, "ephemeral_1h_input_tokens", &h1);
	if (!has_5m && !has_1h)
		return;
	u->split = true;
	u->write_5m = m5;
	u->write_1h = h1;
	add(&m5, h1);
	if (!total)
		u->cache_write = m5;
	else if (u->cache_write != m5)
		u->flags |= USAGE_FLAG_INCONSISTENT;
}

/* Sub-calls of one answer (beta). Unless a fallback answered, they are what is billed: the totals leave compaction out.
 * An advisor is another model at another rate: counted here so that it is not given away, and flagged. */
static void read_iterations(struct anthropic_usage *u, const struct json *iterations)
{
	struct json_iter it = json_iter(json_type(iterations) == JSON_ARRAY ? iterations : NULL);
	struct anthropic_usage sum = {.flags = u->flags};
	bool any = false;
	struct json *one;
	struct str type;

	while (json_next(&it, NULL, &one)) {
		struct anthropic_usage part = {0};

		if (!json_string(json_get(one, "type"), &type))
			continue;
		if (str_is(type, "fallback_message"))
			return; /* the totals are the fallback's already */
		if (str_is(type, "advisor_message"))
			sum.flags |= USAGE_FLAG_INCONSISTENT;
		(void)count(&part, one, "input_tokens", &part.input);
		(void)count(&part, one, "output_tokens", &part.output);
		(void)count(&part, one, "cache_read_input_tokens", &part.cache_read);
		read_writes(&part, one);
		add(&sum.input, part.input);
		add(&sum.output, part.output);
		add(&sum.cache_read, part.cache_read);
		add(&sum.cache_write, part.cache_write);
		add(&sum.write_5m, part.split ? part.write_5m : part.cache_write);
		add(&sum.write_1h, part.write_1h);
		sum.flags |= part.flags;
		any = true;
	}
	if (!any)
		return;
	u->input = sum.input;
	u->output = sum.output;
	u->cache_read = sum.cache_read;
	u->cache_write = sum.cache_write;
	u->write_5m = sum.write_5m;
	u->write_1h = sum.write_1h;
	u->split = true;
	u->flags = sum.flags;
}

static void read_tier(struct anthropic_usage *u, const struct json *usage)
{
	struct str tier;

	if (!json_string(json_get(usage, "service_tier"), &tier) ||
	    tier.len >= sizeof u->service_tier)
		return;
	for (size_t i = 0; i < tier.len; i++)
		if (tier.ptr[i] <= ' ' || tier.ptr[i] > '~')
			return;
	memcpy(u->service_tier, tier.ptr, tier.len);
	u->service_tier[tier.len] = '\0';
}

/* Writes by class. What a later total has beyond the split is of the class that the split had; below it the split is not
 * to be believed, and the dearer class goes first. */
static void map_writes(struct anthropic_usage *u, struct usage *ret)
{
	int64_t h1 = u->split ? u->write_1h : 0;

	if (u->split && u->write_5m + u->write_1h > u->cache_write)
		u->flags |= USAGE_FLAG_INCONSISTENT;
	if (u->split && u->write_5m == 0 && u->write_1h > 0)
		h1 = u->cache_write;
	if (h1 > u->cache_write)
		h1 = u->cache_write;
	ret->n[USAGE_in_cache_write_1h] = h1;
	ret->n[USAGE_in_cache_write_5m] = u->cache_write - h1;
}

static void map_all(struct anthropic_usage *u, struct usage *ret)
{
	int64_t thinking = u->thinking;

	if (thinking > u->output) {
		u->flags |= USAGE_FLAG_INCONSISTENT;
		thinking = 0;
	}
	map_writes(u, ret);
	ret->n[USAGE_in_text] = u->input;
	ret->n[USAGE_in_cached_read] = u->cache_read;
	ret->n[USAGE_out_reasoning] = thinking;
	ret->n[USAGE_out_text] = u->output - thinking;
	ret->n[USAGE_searches] = u->searches;
	ret->n[USAGE_web_fetches] = u->fetches;
	ret->flags = u->flags;
	memcpy(ret->service_tier, u->service_tier, sizeof ret->service_tier);
}

void anthropic_usage_read(struct anthropic_usage *u, const struct json *usage, struct usage *ret)
{
	const struct json *tools = json_get(usage, "server_tool_use");

	*ret = USAGE_NONE;
	if (!usage || json_type(usage) != JSON_OBJECT)
		return;
	u->said_in |= count(u, usage, "input_tokens", &u->input);
	u->said_out |= count(u, usage, "output_tokens", &u->output);
	(void)count(u, usage, "cache_read_input_tokens", &u->cache_read);
	read_writes(u, usage);
	(void)count(u, json_get(usage, "output_tokens_details"), "thinking_tokens", &u->thinking);
	(void)count(u, tools, "web_search_requests", &u->searches);
	(void)count(u, tools, "web_fetch_requests", &u->fetches);
	read_iterations(u, json_get(usage, "iterations"));
	read_tier(u, usage);
	if (!u->said_in && !u->said_out)
		return;
	ret->present = true;
	map_all(u, ret);
}

void anthropic_put_usage(struct json_out *o, const struct usage *u)
{
	const int64_t read = u->n[USAGE_in_cached_read] + u->n[USAGE_in_audio_cached] +
			     u->n[USAGE_in_image_cached];
	const int64_t m5 = u->n[USAGE_in_cache_write_5m], h1 = u->n[USAGE_in_cache_write_1h];

	json_put_int(o, "input_tokens", usage_total_in(u) - read - m5 - h1);
	json_put_int(o, "cache_creation_input_tokens", m5 + h1);
	json_put_int(o, "cache_read_input_tokens", read);
	json_obj(o, "cache_creation");
	json_put_int(o, "ephemeral_5m_input_tokens", m5);
	json_put_int(o, "ephemeral_1h_input_tokens", h1);
	json_obj_end(o);
	json_put_int(o, "output_tokens", usage_total_out(u));
	json_obj(o, "output_tokens_details");
	json_put_int(o, "thinking_tokens", u->n[USAGE_out_reasoning]);
	json_obj_end(o);
	if (u->n[USAGE_searches] == 0 && u->n[USAGE_web_fetches] == 0)
		return;
	json_obj(o, "server_tool_use");
	json_put_int(o, "web_search_requests", u->n[USAGE_searches]);
	json_put_int(o, "web_fetch_requests", u->n[USAGE_web_fetches]);
	json_obj_end(o);
}
