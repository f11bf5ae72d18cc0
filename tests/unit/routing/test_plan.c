/* test_plan.c - which target, and why: a table of worlds and calls, and the properties that hold in all. */
#include "billing/price_priv.h"
#include "routing/dialect.h"
#include "routing/plan.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (8u << 20)
#define WALL_MS	    INT64_C(1795000000000)
#define MAX	    16

/* What the snapshot and billing rooms bring in the service; here a fixed catalogue is enough. */
static const struct model_info catalogue_rows[] = {
	{STR("openai"), STR("gpt-a"), CAP_TEXT | CAP_VISION | CAP_TOOLS | CAP_JSON, 128000, 16384},
	{STR("openai"), STR("gpt-b"), CAP_TEXT | CAP_TOOLS, 8000, 4096},
	{STR("openai"), STR("gpt-free"), CAP_TEXT, 8000, 4096}, /* without a price */
	{STR("openai"), STR("gpt-odd"), 0, 0, 0},		/* priced, nothing else known */
	{STR("openai_compatible"), STR("gpt-a"), CAP_TEXT, 4000, 1000},
	{STR("elevenlabs"), STR("voice-a"), CAP_TEXT, 4000, 1000},
	{STR("mistral"), STR("mistral-a"), CAP_TEXT, 4000, 1000},
};
struct catalogue {
	int unused;
};
static struct catalogue catalogue;

__attribute__((weak)) const struct model_info *catalogue_find(const struct catalogue *c,
							      struct str provider, struct str model)
{
	for (size_t i = 0; c && i < ARRAY_LEN(catalogue_rows); i++)
		if (str_eq(catalogue_rows[i].provider, provider) &&
		    str_eq(catalogue_rows[i].id, model))
			return &catalogue_rows[i];
	return NULL;
}

static const char *const sources[] = {"platform", "byok", "private"};

__attribute__((weak)) const char *billing_source_name(enum billing_source s)
{
	return sources[s];
}

static struct price_book *book_new(void)
{
	/* gpt-a: 3 and 15 credits a million, gpt-b: 1 and 2, gpt-odd: 1 and 1 */
	static const struct price_row rows[] = {
		{STR("openai"), STR("gpt-a"), 1, USAGE_in_text, 0, STR(""), 3000000000, 1000000},
		{STR("openai"), STR("gpt-a"), 1, USAGE_out_text, 0, STR(""), 15000000000, 1000000},
		{STR("openai"), STR("gpt-b"), 1, USAGE_in_text, 0, STR(""), 1000000000, 1000000},
		{STR("openai"), STR("gpt-b"), 1, USAGE_out_text, 0, STR(""), 2000000000, 1000000},
		{STR("openai"), STR("gpt-odd"), 1, USAGE_in_text, 0, STR(""), 1000000000, 1000000},
		{STR("openai"), STR("gpt-odd"), 1, USAGE_out_text, 0, STR(""), 1000000000, 1000000},
	};
	struct price_book *b = NULL;
	struct err err = {0};

	ck_assert_msg(price_book_new(rows, ARRAY_LEN(rows), &b, &err) == RC_OK, "%s", err.message);
	return b;
}

/* --- a small language for worlds ----------------------------------------------------------------- */
/* profiles: "name provider source models [priority=N] [default] [disabled] [revoked] [nosecret] [badurl]
 *            [listed=a,b]", joined by ';'. models: patterns joined by ','.
 * routes: "name [alias=x] [agent=x] [intent=x] [modality=x] [consent] : target target", joined by ';'.
 * target: profile/model, @provider/model, either with #source (again for more).
 * cooldowns: "profile model|* class seconds", joined by ';'.
 * tier: one that forbids: "byok", "private" or both, joined by ','.
 * agents: "name [default model] [disabled]", joined by ';'; of the org. */

struct world {
	struct arena *mem;
	struct profile profile[2][MAX];
	struct route route[2][MAX];
	struct agent agent[MAX];
	struct tier tier[2];
	struct snapshot snap[2]; /* org, platform */
	struct cooldown cooldown[MAX];
	size_t cooldowns;
	struct str provider;
};

static struct str word(struct str *rest)
{
	struct str w;

	*rest = str_trim(*rest);
	w = str_cut(rest, ' ');
	return w.ptr ? w : STR("");
}

static const struct str *list_of(struct arena *mem, struct str text, size_t *n)
{
	struct str *list = ARENA_ARRAY(mem, struct str, MAX);

	for (*n = 0; text.ptr; (*n)++)
		list[*n] = str_cut(&text, ',');
	return list;
}

static enum billing_source source_of(struct str s)
{
	for (int i = 0; i < 3; i++)
		if (str_is(s, sources[i]))
			return i;
	ck_abort_msg("no source %.*s", STR_FMT(s));
	return BILLING_PLATFORM;
}

static bool option(struct str w, const char *key, struct str *value)
{
	if (!str_starts(w, str_from(key)) || w.len <= strlen(key) || w.ptr[strlen(key)] != '=')
		return false;
	*value = str_slice(w, strlen(key) + 1, w.len);
	return true;
}

static struct profile profile_of(struct arena *mem, struct str text, uint8_t id)
{
	struct profile p = {.id = {.b = {id}},
			    .endpoint_ok = true,
			    .has_secret = true,
			    .priority = 100,
			    .status = STR("active")};
	struct str v;

	p.name = word(&text);
	p.provider = provider_find(word(&text));
	ck_assert_ptr_nonnull(p.provider);
	p.source = source_of(word(&text));
	p.models = list_of(mem, word(&text), &p.models_count);
	while (text.len > 0) {
		struct str w = word(&text);

		if (option(w, "priority", &v))
			ck_assert_int_eq(str_to_i64(v, &p.priority), RC_OK);
		else if (option(w, "listed", &v))
			p.listed = list_of(mem, v, &p.listed_count);
		else if (str_is(w, "default"))
			p.is_default = true;
		else if (str_is(w, "nosecret"))
			p.has_secret = false;
		else if (str_is(w, "badurl"))
			p.endpoint_ok = false;
		else
			p.status = w;
	}
	return p;
}

static struct route_target target_of(struct str text)
{
	struct route_target t = {0};
	struct str selector = str_cut(&text, '/');

	t.model = str_cut(&text, '#');
	while (text.ptr)
		t.billing |= 1u << source_of(str_cut(&text, '#'));
	if (selector.ptr[0] == '@')
		t.provider = str_slice(selector, 1, selector.len);
	else
		t.profile = selector;
	return t;
}

static struct route route_of(struct arena *mem, struct str text)
{
	struct route_target *targets = ARENA_ARRAY(mem, struct route_target, 2 * MAX);
	struct str head = str_cut(&text, ':');
	struct route r = {.name = word(&head), .targets = targets};

	while (head.len > 0) {
		struct str w = word(&head);

		if (!option(w, "alias", &r.alias) && !option(w, "agent", &r.agent) &&
		    !option(w, "intent", &r.intent) && !option(w, "modality", &r.modality) &&
		    str_is(w, "consent"))
			r.allow_platform_fallback = true;
	}
	for (text = str_trim(text); text.len > 0; text = str_trim(text))
		targets[r.targets_count++] = target_of(word(&text));
	return r;
}

static void world_add(struct world *w, int which, const char *profiles, const char *routes)
{
	struct str text = str_from(profiles);
	struct snapshot *s = &w->snap[which];

	for (; text.len > 0; s->profiles_count++)
		w->profile[which][s->profiles_count] =
			profile_of(w->mem, str_trim(str_cut(&text, ';')),
				   (uint8_t)(which * 100 + (int)s->profiles_count + 1));
	text = str_from(routes);
	for (; text.len > 0; s->routes_count++)
		w->route[which][s->routes_count] = route_of(w->mem, str_trim(str_cut(&text, ';')));
	s->profiles = w->profile[which];
	s->routes = w->route[which];
}

static void world_employ(struct world *w, const char *agents)
{
	struct str all = str_from(agents);
	struct snapshot *s = &w->snap[0];

	while (all.len > 0) {
		struct str text = str_cut(&all, ';');
		struct agent *a = &w->agent[s->agents_count++];

		a->name = word(&text);
		while (text.len > 0) {
			struct str next = word(&text);

			if (str_is(next, "disabled"))
				a->disabled = true;
			else
				a->default_model = next;
		}
	}
	s->agents = w->agent;
}

static void world_forbid(struct world *w, const char *what)
{
	w->tier[0] = (struct tier){STR("other"), false, false};
	w->tier[1] = (struct tier){STR("mine"), !strstr(what, "byok"), !strstr(what, "private")};
	w->snap[0].tier = STR("mine");
	w->snap[1].tiers = w->tier;
	w->snap[1].tiers_count = ARRAY_LEN(w->tier);
}

static void world_cool(struct world *w, const char *cooldowns)
{
	struct str all = str_from(cooldowns);

	while (all.len > 0) {
		struct str text = str_cut(&all, ';'), name, model, class;
		struct cooldown *c = &w->cooldown[w->cooldowns++];
		int64_t seconds;

		name = word(&text);
		model = word(&text);
		class = word(&text);
		ck_assert_int_eq(str_to_i64(word(&text), &seconds), RC_OK);
		*c = (struct cooldown){.until_wall_ms = WALL_MS + seconds * 1000};
		if (!str_is(model, "*"))
			c->model = model;
		for (int which = 0; which < 2; which++)
			for (size_t i = 0; i < w->snap[which].profiles_count; i++)
				if (str_eq(w->profile[which][i].name, name))
					c->profile = w->profile[which][i].id;
		for (int k = 0; k < ERROR_CLASS_COUNT; k++)
			if (str_is(class, error_class_name(k)))
				c->class = k;
	}
}

/* --- the table ------------------------------------------------------------------------------------- */

#define PLATFORM "plat openai platform *"
#define BYOK	 "main openai byok *"
#define PRIVATE	 "box openai_compatible private * listed=llama,gpt-a nosecret"

struct row {
	const char *org, *platform, *routes, *cooldowns, *agents, *tier;
	const char *model, *agent, *intent;
	const char *provider; /* the only one that the key may use; NULL: all */
	uint32_t allowed, needs;
	int64_t max_output, choices;
	size_t text_bytes;
	int64_t input;	   /* bytes; 0: 1000 */
	int64_t available; /* nano; 0: not told */
	int64_t budget;	   /* nano that a budget leaves; 0: none told */
	bool by_url;
	const char *want; /* resolved_by: target[=reason] ... [!refusal[:seconds]] */
};

#define P (1u << BILLING_PLATFORM)
#define B (1u << BILLING_BYOK)
#define V (1u << BILLING_PRIVATE)

static const struct row rows[] = {
	/* bare models: own, else the platform's, never both */
	{.org = BYOK, .platform = PLATFORM, .model = "gpt-a", .want = "model: main/gpt-a"},
	{.org = "", .platform = PLATFORM, .model = "gpt-a", .want = "model: plat/gpt-a"},
	{.org = PRIVATE, .platform = PLATFORM, .model = "gpt-a", .want = "model: box/gpt-a"},
	{.org = PRIVATE, .platform = PLATFORM, .model = "gpt-b", .want = "model: plat/gpt-b"},
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: box/gpt-a main/gpt-a"},
	{.org = BYOK, .platform = PLATFORM, .model = "nope", .want = "404"},
	{.org = "", .platform = "", .model = "gpt-a", .want = "404"},
	{.org = BYOK, .platform = "", .model = "GPT-A", .want = "404"},
	{.org = "main openai byok gpt-b", .platform = "", .model = "gpt-a", .want = "404"},
	{.org = "main openai byok my-tuned",
	 .platform = "",
	 .model = "my-tuned",
	 .want = "model: main/my-tuned"},
	{.org = "main openai byok my-*", .platform = "", .model = "my-tuned", .want = "404"},
	{.org = "main openai byok my-* listed=my-tuned",
	 .platform = "",
	 .model = "my-tuned",
	 .want = "model: main/my-tuned"},
	{.org = "main openai byok gpt-*",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: main/gpt-a"},
	{.org = "main openai byok *,gpt-a",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: main/gpt-a"},
	{.org = PRIVATE, .platform = "", .model = "llama", .want = "model: box/llama"},
	{.org = "box openai_compatible private * listed=a/b",
	 .platform = "",
	 .model = "a/b",
	 .want = "model: box/a/b"},
	/* provider/model */
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .model = "openai/gpt-a",
	 .want = "model: main/gpt-a"},
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .model = "openai_compatible/gpt-a",
	 .want = "model: box/gpt-a"},
	{.org = PRIVATE,
	 .platform = PLATFORM,
	 .model = "openai/gpt-a",
	 .want = "model: plat/gpt-a"},
	{.org = BYOK, .platform = PLATFORM, .model = "openai/nope", .want = "404"},
	{.org = BYOK, .platform = PLATFORM, .model = "openai/", .want = "404"},
	{.org = BYOK, .platform = PLATFORM, .model = "/gpt-a", .want = "404"},
	{.org = BYOK, .platform = PLATFORM, .model = "nobody/gpt-a", .want = "404"},
	{.org = "box openai_compatible private * listed=openai/gpt-a",
	 .platform = PLATFORM,
	 .model = "openai/gpt-a",
	 .want = "model: box/openai/gpt-a"}, /* own in any reading: it costs no credits */
	{.org = BYOK ";box openai_compatible private * listed=openai/gpt-a",
	 .platform = PLATFORM,
	 .model = "openai/gpt-a",
	 .want = "model: main/gpt-a"},
	{.org = "box openai_compatible private * listed=openai/gpt-x",
	 .platform = PLATFORM,
	 .model = "openai/gpt-x",
	 .want = "model: box/openai/gpt-x"},
	/* order of profiles: priority, default, name */
	{.org = "b openai byok *;a openai byok *",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: a/gpt-a b/gpt-a"},
	{.org = "a openai byok *;b openai byok * priority=1",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: b/gpt-a a/gpt-a"},
	{.org = "a openai byok *;b openai byok * default",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: b/gpt-a a/gpt-a"},
	{.org = "a openai byok * default;b openai byok * priority=99",
	 .platform = "",
	 .model = "gpt-a",
	 .want = "model: b/gpt-a a/gpt-a"},
	/* profile states; an own profile out of service does not move the bill to the platform's */
	{.org = BYOK " disabled",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: main/gpt-a=disabled !no_route"},
	{.org = BYOK " revoked",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: main/gpt-a=revoked !no_route"},
	{.org = BYOK " nosecret",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: main/gpt-a=disabled !no_route"},
	{.org = BYOK " badurl",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: main/gpt-a=disabled !no_route"},
	{.org = "m elevenlabs byok *",
	 .platform = PLATFORM,
	 .model = "voice-a",
	 .want = "model: m/voice-a=capability_missing:chat !no_route"},
	{.org = BYOK " disabled;b openai byok *",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .want = "model: b/gpt-a main/gpt-a=disabled"},
	/* what the caller restricts */
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .allowed = P,
	 .want = "model: main/gpt-a=billing_not_allowed !no_route"},
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .allowed = V,
	 .want = "model: box/gpt-a main/gpt-a=billing_not_allowed"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .allowed = B | V,
	 .want = "model: plat/gpt-a=billing_not_allowed !no_route"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .allowed = B | P,
	 .want = "model: plat/gpt-a"},
	/* capabilities */
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .needs = CAP_VISION,
	 .want = "model: main/gpt-b=capability_missing:vision !no_route"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .needs = CAP_TOOLS,
	 .want = "model: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-a",
	 .needs = CAP_AUDIO_OUT | CAP_AUDIO_IN,
	 .want = "model: main/gpt-a=capability_missing:audio_in !no_route"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-odd",
	 .needs = CAP_VISION,
	 .want = "model: main/gpt-odd"},
	{.org = PRIVATE,
	 .platform = "",
	 .model = "llama",
	 .needs = CAP_VISION | CAP_TOOLS,
	 .want = "model: box/llama"},
	/* context: only what surely does not fit */
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .text_bytes = 8000 * 16,
	 .want = "model: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .text_bytes = 8001 * 16,
	 .want = "model: main/gpt-b=context_too_long !context_length_exceeded"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .max_output = 8000,
	 .want = "model: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .max_output = 8001,
	 .want = "model: main/gpt-b=context_too_long !context_length_exceeded"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-b",
	 .max_output = 8000,
	 .text_bytes = 16,
	 .want = "model: main/gpt-b=context_too_long !context_length_exceeded"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-odd",
	 .text_bytes = 1u << 30,
	 .max_output = 1000000000,
	 .want = "model: main/gpt-odd"},
	/* money */
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-free",
	 .want = "model: plat/gpt-free=price_unknown !no_route"},
	{.org = "main openai byok gpt-free",
	 .platform = "",
	 .model = "gpt-free",
	 .want = "model: main/gpt-free"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .available = 1,
	 .want = "model: plat/gpt-a=insufficient_credits !insufficient_quota"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .available = 4500000,
	 .want = "model: plat/gpt-a"}, /* 1000 x 3 + 100 x 15 micro */
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .available = 4499999,
	 .want = "model: plat/gpt-a=insufficient_credits !insufficient_quota"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .budget = 4500000,
	 .want = "model: plat/gpt-a"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .available = 4500000,
	 .budget = 4499999,
	 .want = "model: plat/gpt-a=limit_reached !insufficient_quota"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .available = 4499999,
	 .budget = -5,
	 .want = "model: plat/gpt-a=insufficient_credits !insufficient_quota"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .max_output = 100,
	 .choices = 2,
	 .available = 4500000,
	 .want = "model: plat/gpt-a=insufficient_credits !insufficient_quota"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-b",
	 .input = 1000000,
	 .max_output = 1,
	 .available = 8002000,
	 .want = "model: plat/gpt-b"}, /* the window bounds the input */
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-b",
	 .by_url = true,
	 .max_output = 1,
	 .available = 8001999,
	 .want = "model: plat/gpt-b=insufficient_credits !insufficient_quota"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .available = 1,
	 .want = "model: main/gpt-a"},
	/* cooldowns */
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .cooldowns = "main gpt-a rate_limit 42",
	 .want = "model: main/gpt-a=cooling_down:rate_limit:42 !no_route:42"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-b",
	 .cooldowns = "main gpt-a rate_limit 42",
	 .want = "model: main/gpt-b"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .cooldowns = "main * auth 60",
	 .want = "model: main/gpt-a=cooling_down:auth:60 !no_route:60"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-a",
	 .cooldowns = "main gpt-a rate_limit 0",
	 .want = "model: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .model = "gpt-a",
	 .cooldowns = "main gpt-a rate_limit 5;main * quota 18000",
	 .want = "model: main/gpt-a=cooling_down:quota:18000 !no_route:18000"},
	{.org = "a openai byok *;b openai byok *",
	 .platform = "",
	 .model = "gpt-a",
	 .cooldowns = "a gpt-a rate_limit 9",
	 .want = "model: a/gpt-a=cooling_down:rate_limit:9 b/gpt-a"},
	{.org = "a openai byok *;b openai byok *",
	 .platform = "",
	 .model = "gpt-a",
	 .cooldowns = "a gpt-a rate_limit 9;b gpt-a timeout 4",
	 .want = "model: a/gpt-a=cooling_down:rate_limit:9 b/gpt-a=cooling_down:timeout:4 "
		 "!no_route:4"},
	{.org = "a openai byok * disabled;b openai byok *",
	 .platform = "",
	 .model = "gpt-a",
	 .cooldowns = "b gpt-a timeout 4",
	 .want = "model: a/gpt-a=disabled b/gpt-a=cooling_down:timeout:4 !no_route:4"},
	/* aliases and chains */
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a main/gpt-b",
	 .model = "fast",
	 .want = "alias: main/gpt-a main/gpt-b"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=gpt-a : main/gpt-b",
	 .model = "gpt-a",
	 .want = "alias: main/gpt-b"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : gone/gpt-a main/gpt-b",
	 .model = "fast",
	 .want = "alias: gone/gpt-a=revoked main/gpt-b"},
	{.org = "main openai byok gpt-b",
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a=not_served !no_route"},
	{.org = "main openai byok my-*",
	 .platform = "",
	 .routes = "r alias=fast : main/my-new",
	 .model = "fast",
	 .want = "alias: main/my-new"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : plat/gpt-a",
	 .model = "fast",
	 .want = "alias: plat/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-a main/gpt-a @openai/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : ",
	 .model = "fast",
	 .want = "alias: !no_route"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : @nobody/gpt-a",
	 .model = "fast",
	 .want = "alias: nobody/gpt-a=not_served !no_route"},
	/* what the key restricts */
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .provider = "openai_compatible",
	 .want = "model: box/gpt-a main/gpt-a=provider_not_allowed"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .provider = "nobody",
	 .want = "model: main/gpt-a=provider_not_allowed !no_route"},
	{.org = "",
	 .platform = PLATFORM,
	 .model = "gpt-a",
	 .provider = "openai",
	 .want = "model: plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM ";comp openai_compatible platform *",
	 .routes = "r alias=fast : main/gpt-a comp/gpt-a",
	 .model = "fast",
	 .provider = "openai_compatible",
	 .want = "alias: main/gpt-a=provider_not_allowed comp/gpt-a=billing_not_allowed !no_route"},
	/* consent */
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a plat/gpt-a=billing_not_allowed"},
	/* an own profile that is named and gone, or does not serve it, is fallen from all the same */
	{.org = "",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : gone/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: gone/gpt-a=revoked plat/gpt-a=billing_not_allowed !no_route"},
	{.org = "main openai byok gpt-b",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a=not_served plat/gpt-a=billing_not_allowed !no_route"},
	{.org = "",
	 .platform = PLATFORM,
	 .routes = "r alias=fast consent : gone/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: gone/gpt-a=revoked plat/gpt-a"},
	{.org = "",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : gone/gpt-a#platform plat/gpt-a",
	 .model = "fast",
	 .want = "alias: gone/gpt-a=revoked plat/gpt-a"},
	{.org = "",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : gone/gpt-a plat/gpt-a",
	 .model = "fast",
	 .allowed = P,
	 .want = "alias: gone/gpt-a=revoked plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a @openai/gpt-b#platform",
	 .model = "fast",
	 .want = "alias: main/gpt-a main/gpt-b=billing_not_allowed plat/gpt-b=billing_not_allowed"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast consent : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : plat/gpt-a main/gpt-a",
	 .model = "fast",
	 .want = "alias: plat/gpt-a main/gpt-a"},
	{.org = BYOK " disabled",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a=disabled plat/gpt-a=billing_not_allowed !no_route"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .allowed = P,
	 .want = "alias: main/gpt-a=billing_not_allowed plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : @openai/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a plat/gpt-a=billing_not_allowed"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : @openai/gpt-a",
	 .model = "fast",
	 .allowed = P,
	 .want = "alias: main/gpt-a=billing_not_allowed plat/gpt-a=billing_not_allowed !no_route"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast : @openai/gpt-a#platform",
	 .model = "fast",
	 .want = "alias: main/gpt-a=billing_not_allowed plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast consent : @openai/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a plat/gpt-a"},
	{.org = "",
	 .platform = PLATFORM,
	 .routes = "r alias=fast : @openai/gpt-a",
	 .model = "fast",
	 .want = "alias: plat/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .routes = "r alias=fast consent : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .available = 1,
	 .cooldowns = "main gpt-a timeout 7",
	 .want = "alias: main/gpt-a=cooling_down:timeout:7 plat/gpt-a=insufficient_credits "
		 "!no_route:7"},
	{.org = BYOK " disabled",
	 .platform = PLATFORM,
	 .routes = "r alias=fast consent : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .available = 1,
	 .want = "alias: main/gpt-a=disabled plat/gpt-a=insufficient_credits !insufficient_quota"},
	/* context falls to a larger window */
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-b main/gpt-a",
	 .model = "fast",
	 .text_bytes = 9000 * 16,
	 .want = "alias: main/gpt-b=context_too_long main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-b main/gpt-free",
	 .model = "fast",
	 .text_bytes = 9000 * 16,
	 .want = "alias: main/gpt-b=context_too_long main/gpt-free=context_too_long "
		 "!context_length_exceeded"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-b gone/gpt-a",
	 .model = "fast",
	 .text_bytes = 9000 * 16,
	 .want = "alias: main/gpt-b=context_too_long gone/gpt-a=revoked !no_route"},
	/* most specific first */
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-a;s alias=fast agent=bot : main/gpt-b",
	 .model = "fast",
	 .agent = "bot",
	 .want = "alias: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast : main/gpt-a;s alias=fast agent=bot : main/gpt-b",
	 .model = "fast",
	 .agent = "other",
	 .want = "alias: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast intent=code modality=vision : main/gpt-a;"
		   "s alias=fast agent=bot : main/gpt-b",
	 .model = "fast",
	 .agent = "bot",
	 .intent = "code",
	 .needs = CAP_VISION,
	 .want = "alias: main/gpt-b=capability_missing:vision !no_route"},
	{.org = BYOK,
	 .platform = "",
	 .routes =
		 "r alias=fast modality=image : main/gpt-a;s alias=fast modality=text : main/gpt-b",
	 .model = "fast",
	 .needs = CAP_VISION,
	 .want = "alias: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes =
		 "r alias=fast modality=image : main/gpt-a;s alias=fast modality=text : main/gpt-b",
	 .model = "fast",
	 .want = "alias: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r alias=fast agent=bot : main/gpt-a",
	 .model = "fast",
	 .want = "404"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "z alias=fast : main/gpt-a;a alias=fast : main/gpt-b",
	 .model = "fast",
	 .want = "alias: main/gpt-b"},
	/* a call that names no model */
	{.org = BYOK,
	 .platform = "",
	 .routes = "r agent=bot : main/gpt-a;d : main/gpt-b",
	 .model = "auto",
	 .agent = "bot",
	 .want = "agent: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r intent=code : main/gpt-a;d : main/gpt-b",
	 .model = "default",
	 .intent = "code",
	 .want = "route: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r intent=code : main/gpt-a;d : main/gpt-b",
	 .model = "",
	 .intent = "talk",
	 .want = "default: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "d : main/gpt-b",
	 .model = "gpt-a",
	 .agent = "bot",
	 .want = "model: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .routes = "r agent=bot : main/gpt-a",
	 .model = "typo",
	 .agent = "bot",
	 .want = "404"},
	{.org = BYOK, .platform = "", .routes = "", .model = "auto", .want = "404"},
	/* agents: the own chain, else the default model, else what stands for everybody */
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-b",
	 .routes = "r agent=bot : main/gpt-a;d : main/gpt-free",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-b",
	 .routes = "r agent=bot intent=code : main/gpt-a;d : main/gpt-free",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a",
	 .routes = "r intent=code : main/gpt-b",
	 .model = "auto",
	 .agent = "bot",
	 .intent = "code",
	 .want = "agent: main/gpt-a"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot",
	 .routes = "r intent=code : main/gpt-b",
	 .model = "auto",
	 .agent = "bot",
	 .intent = "code",
	 .want = "route: main/gpt-b"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .agents = "bot fast",
	 .routes = "r alias=fast consent : main/gpt-b plat/gpt-b",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: main/gpt-b plat/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot openai/gpt-b;other gpt-a",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: main/gpt-b"},
	{.org = "",
	 .platform = PLATFORM,
	 .agents = "bot gpt-a",
	 .model = "default",
	 .agent = "bot",
	 .want = "agent: plat/gpt-a"},
	/* a default that nobody serves is told, not replaced by what may cost another */
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot typo",
	 .routes = "d : main/gpt-a",
	 .model = "default",
	 .agent = "bot",
	 .want = "404"},
	/* who names a model gets it, whoever asks */
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a",
	 .model = "gpt-b",
	 .agent = "bot",
	 .want = "model: main/gpt-b"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a",
	 .routes = "d alias=default : main/gpt-b",
	 .model = "default",
	 .agent = "bot",
	 .want = "alias: main/gpt-b"},
	/* a name that is no agent of the org is a label */
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a",
	 .routes = "d : main/gpt-b",
	 .model = "default",
	 .agent = "label",
	 .want = "default: main/gpt-b"},
	/* tiers: what is not eligible is passed over, and still counts as the org's own */
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .tier = "byok",
	 .model = "gpt-a",
	 .want = "model: box/gpt-a main/gpt-a=tier_not_eligible"},
	{.org = BYOK ";" PRIVATE,
	 .platform = PLATFORM,
	 .tier = "private",
	 .model = "gpt-a",
	 .want = "model: box/gpt-a=tier_not_eligible main/gpt-a"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .tier = "byok,private",
	 .model = "gpt-a",
	 .want = "model: main/gpt-a=tier_not_eligible !no_route"},
	{.org = BYOK,
	 .platform = PLATFORM,
	 .tier = "byok",
	 .routes = "r alias=fast : main/gpt-a plat/gpt-a",
	 .model = "fast",
	 .want = "alias: main/gpt-a=tier_not_eligible plat/gpt-a=billing_not_allowed !no_route"},
	{.org = "",
	 .platform = PLATFORM,
	 .tier = "byok,private",
	 .model = "gpt-a",
	 .want = "model: plat/gpt-a"},
	{.org = BYOK, .platform = "", .tier = "", .model = "gpt-a", .want = "model: main/gpt-a"},
	/* a disabled agent calls nobody */
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a disabled",
	 .model = "gpt-a",
	 .agent = "bot",
	 .want = "403"},
	{.org = BYOK,
	 .platform = "",
	 .agents = "bot gpt-a disabled",
	 .model = "gpt-a",
	 .want = "model: main/gpt-a"},
	{.org = BYOK, .platform = "", .routes = "", .model = "", .want = "404"},
};

static void world_of(const struct row *row, struct world *w)
{
	*w = (struct world){.mem = arena_new(ARENA_BYTES)};
	world_add(w, 0, row->org, row->routes ? row->routes : "");
	world_add(w, 1, row->platform, "");
	world_cool(w, row->cooldowns ? row->cooldowns : "");
	world_employ(w, row->agents ? row->agents : "");
	if (row->tier)
		world_forbid(w, row->tier);
}

static void input_of(const struct row *row, struct world *w, struct call *call,
		     const struct price_book *book, struct plan_input *in)
{
	w->provider = str_from(row->provider);
	*call = (struct call){
		.dialect = &dialect_openai_chat,
		.model = str_from(row->model),
		.providers = &w->provider,
		.providers_count = row->provider != NULL,
		.agent = row->agent ? str_from(row->agent) : STR(""),
		.intent = row->intent ? str_from(row->intent) : STR(""),
		.billing_allowed = row->allowed,
		.needs = CAP_TEXT | row->needs,
		.max_output = row->max_output,
		.choices = row->choices ? row->choices : 1,
		.text_bytes = row->text_bytes,
		.media_by_url = row->by_url,
	};
	*in = (struct plan_input){
		.call = call,
		.input_tokens_max = row->input ? row->input : 1000,
		.org = &w->snap[0],
		.platform = &w->snap[1],
		.catalogue = &catalogue,
		.book = book,
		.cooldowns = w->cooldown,
		.cooldowns_count = w->cooldowns,
		.wall_ms = WALL_MS,
		.available = money_nano(row->available),
		.available_known = row->available > 0,
		.budget_left = money_nano(row->budget),
		.budget_known = row->budget != 0,
	};
}

static void describe(enum rc rc, const struct plan *p, struct buf *out)
{
	if (rc == RC_NOT_FOUND || rc == RC_DENIED) {
		ck_assert_int_eq(buf_append(out, rc == RC_DENIED ? STR("403") : STR("404")), RC_OK);
		return;
	}
	ck_assert_int_eq(rc, RC_OK);
	ck_assert_int_eq(buf_printf(out, "%s:", p->resolved_by), RC_OK);
	for (size_t i = 0; i < p->candidates_count; i++)
		ck_assert_int_eq(buf_printf(out, " %s%s%s", p->candidates[i].target,
					    p->candidates[i].use ? "" : "=",
					    p->candidates[i].reason),
				 RC_OK);
	if (p->usable == 0)
		ck_assert_int_eq(buf_printf(out, " !%s", p->refusal), RC_OK);
	if (p->usable == 0 && p->retry_after_ms > 0)
		ck_assert_int_eq(buf_printf(out, ":%lld", (long long)p->retry_after_ms / 1000),
				 RC_OK);
}

/* What must hold in every world. */
static void check_sane(const struct plan_input *in, const struct plan *p)
{
	size_t usable = 0;
	bool own = false;

	for (size_t i = 0; i < p->candidates_count; i++) {
		const struct candidate *c = &p->candidates[i];

		usable += c->use;
		ck_assert(c->use == (c->reason[0] == '\0'));
		ck_assert(c->profile != NULL || !c->use);
		if (!c->profile)
			continue;
		ck_assert_int_eq(c->source, c->profile->source);
		ck_assert(c->use == false || in->call->billing_allowed == 0 ||
			  (in->call->billing_allowed & (1u << c->source)));
		if (c->use && c->source == BILLING_PLATFORM) {
			ck_assert_ptr_nonnull(c->price);
			ck_assert_int_gt(c->hold.nano, 0);
			ck_assert(in->call->max_output > 0 || c->max_output_cap > 0);
			/* nobody comes to pay without having said so */
			ck_assert(!own || p->allow_platform_fallback);
		} else if (c->source != BILLING_PLATFORM) {
			ck_assert_int_eq(c->hold.nano, 0);
			ck_assert_int_eq(c->max_output_cap, 0);
			own |= c->use;
		}
	}
	ck_assert_uint_eq(p->usable, usable);
	ck_assert((p->refusal != NULL) == (usable == 0));
	ck_assert_int_ge(p->max_attempts, 1);
	ck_assert_int_gt(p->timeout_ms, 0);
}

START_TEST(plan_of_world)
{
	struct price_book *book = book_new();
	struct buf got = BUF_INIT(65536), again = BUF_INIT(65536);
	struct err err = {0};
	struct plan_input in;
	struct plan plan = {0};
	struct world w;
	struct call call;
	enum rc rc;

	world_of(&rows[_i], &w);
	input_of(&rows[_i], &w, &call, book, &in);
	rc = route_plan_build(&in, w.mem, &plan, &err);
	describe(rc, &plan, &got);
	ck_assert_str_eq(got.ptr, rows[_i].want);
	if (rc == RC_OK) {
		check_sane(&in, &plan);
		ck_assert_int_eq(route_plan_json(&plan, &got), RC_OK);
		ck_assert_int_eq(route_plan_build(&in, w.mem, &plan, &err), RC_OK);
		describe(rc, &plan, &again);
		ck_assert_int_eq(route_plan_json(&plan, &again), RC_OK);
		ck_assert_str_eq(again.ptr, got.ptr); /* the same input, the same plan */
	} else if (rc == RC_DENIED) {
		ck_assert_str_eq(err.code, "agent_disabled");
	} else {
		ck_assert_str_eq(err.code, "model_not_found");
		ck_assert_str_eq(err.field, "model");
	}
	buf_clear(&got);
	buf_clear(&again);
	price_book_unref(book);
	arena_free(w.mem);
}
END_TEST

static uint64_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *state >> 33;
}

/* Worlds made at random from the words above: the rules hold whatever stands beside whatever. */
START_TEST(properties_hold_in_random_worlds)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	static const char *const providers_[] = {"openai", "openai_compatible", "mistral"};
	static const char *const models[] = {"gpt-a", "gpt-b", "gpt-free", "openai/gpt-a", "x"};
	static const char *const states[] = {"",	 "",	     "",	   " disabled",
					     " revoked", " default", " priority=5"};
	struct price_book *book = book_new();
	uint64_t seed = 7;

#define PICK(list) list[next_random(&seed) % ARRAY_LEN(list)]
	for (int round = 0; round < 3000; round++) {
		struct arena *mem = arena_new(ARENA_BYTES);
		struct buf org = BUF_INIT(4096), route = BUF_INIT(4096);
		struct row row = {.platform = PLATFORM, .choices = 1};
		struct plan plan = {0};
		struct plan_input in;
		struct world w;
		struct call call;
		size_t n = next_random(&seed) % 4;

		ck_assert_int_eq(buf_append(&org, STR("")), RC_OK);
		for (size_t i = 0; i < n; i++)
			ck_assert_int_eq(buf_printf(&org, "%s%s %s %s *%s", i ? ";" : "", names[i],
						    PICK(providers_),
						    sources[1 + next_random(&seed) % 2],
						    PICK(states)),
					 RC_OK);
		ck_assert_int_eq(buf_printf(&route, "r alias=x%s :",
					    next_random(&seed) % 3 ? "" : " consent"),
				 RC_OK);
		for (size_t i = 0; i < next_random(&seed) % 5; i++)
			ck_assert_int_eq(
				buf_printf(&route, " %s%s/%s%s", next_random(&seed) % 2 ? "@" : "",
					   next_random(&seed) % 2 ? "openai" : PICK(names),
					   PICK(models), next_random(&seed) % 3 ? "" : "#platform"),
				RC_OK);
		row.org = org.ptr;
		row.routes = route.ptr;
		row.model = PICK(models);
		row.allowed = next_random(&seed) % 3 ? 0 : (uint32_t)(next_random(&seed) % 8);
		row.needs = next_random(&seed) % 4 ? 0 : CAP_VISION;
		row.available = (int64_t)(next_random(&seed) % 2) * 1000000;
		world_of(&row, &w);
		input_of(&row, &w, &call, book, &in);
		if (route_plan_build(&in, mem, &plan, NULL) == RC_OK)
			check_sane(&in, &plan);
		buf_clear(&org);
		buf_clear(&route);
		arena_free(w.mem);
		arena_free(mem);
	}
	price_book_unref(book);
}
END_TEST

START_TEST(hold_and_cap)
{
	const struct row row = {.org = "", .platform = PLATFORM, .model = "gpt-a"};
	struct price_book *book = book_new();
	struct buf json = BUF_INIT(65536);
	struct plan_input in;
	struct plan plan;
	struct world w;
	struct call call;

	world_of(&row, &w);
	input_of(&row, &w, &call, book, &in);
	ck_assert_int_eq(route_plan_build(&in, w.mem, &plan, NULL), RC_OK);
	ck_assert_int_eq(plan.candidates[0].max_output_cap, 16384);
	/* 1000 x 3 + 16384 x 15 credits a million */
	ck_assert_int_eq(plan.candidates[0].hold.nano,
			 INT64_C(1000) * 3000 + INT64_C(16384) * 15000);
	ck_assert_int_eq(plan.max_attempts, PLAN_ATTEMPTS_DEFAULT);
	ck_assert_int_eq(route_plan_json(&plan, &json), RC_OK);
	ck_assert_str_eq(json.ptr,
			 "{\"resolved_by\":\"model\",\"route\":null,\"targets\":[{\"profile\":"
			 "\"plat\",\"provider\":\"openai\",\"model\":\"gpt-a\",\"billing_source\":"
			 "\"platform\",\"verdict\":\"use\",\"reason\":null,\"hold\":\"0.24876\"}],"
			 "\"refusal\":null}");
	/* inline media adds to the bound, an unknown maximum is capped all the same */
	call.media_tokens_max = 500;
	ck_assert_int_eq(route_plan_build(&in, w.mem, &plan, NULL), RC_OK);
	ck_assert_int_eq(plan.candidates[0].hold.nano,
			 INT64_C(1500) * 3000 + INT64_C(16384) * 15000);
	call.model = STR("gpt-odd");
	ck_assert_int_eq(route_plan_build(&in, w.mem, &plan, NULL), RC_OK);
	ck_assert_int_gt(plan.candidates[0].max_output_cap, 0);
	ck_assert_int_eq(plan.candidates[0].hold.nano,
			 (1500 + plan.candidates[0].max_output_cap) * 1000);
	buf_clear(&json);
	price_book_unref(book);
	arena_free(w.mem);
}
END_TEST

START_TEST(platform_without_a_book)
{
	const struct row row = {.org = "", .platform = PLATFORM, .model = "gpt-a"};
	struct plan_input in;
	struct plan plan;
	struct world w;
	struct call call;
	struct err err;

	world_of(&row, &w);
	input_of(&row, &w, &call, NULL, &in);
	ck_assert_int_eq(route_plan_build(&in, w.mem, &plan, NULL), RC_OK);
	ck_assert_str_eq(plan.candidates[0].reason, "price_unknown");
	ck_assert_int_eq(route_plan_refused(&plan, &err), RC_UNAVAILABLE);
	ck_assert_str_eq(err.code, "no_route");
	ck_assert_int_eq(err.retry_after_s, 0);
	arena_free(w.mem);
}
END_TEST

START_TEST(refused_words)
{
	static const struct {
		const char *refusal, *code;
		int64_t ms;
		enum rc rc;
		int seconds;
	} cases[] = {
		{"no_route", "no_route", 4001, RC_UNAVAILABLE, 5},
		{"no_route", "no_route", 0, RC_UNAVAILABLE, 0},
		{"insufficient_quota", "insufficient_quota", 0, RC_LIMIT, 0},
		{"context_length_exceeded", "context_length_exceeded", 0, RC_INVALID, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct plan p = {.refusal = cases[i].refusal, .retry_after_ms = cases[i].ms};
		struct err err = {0};

		ck_assert_int_eq(route_plan_refused(&p, &err), cases[i].rc);
		ck_assert_str_eq(err.code, cases[i].code);
		ck_assert_int_eq(err.retry_after_s, cases[i].seconds);
		ck_assert_str_ne(err.hint, "");
	}
}
END_TEST

/* More profiles and targets than a plan takes: bounded, and still a plan. */
START_TEST(candidates_are_bounded)
{
	enum { N = 3 * PLAN_CANDIDATES_MAX };
	static const struct str any[] = {STR("*")};
	static struct profile many[N];
	static char names[N][16];
	struct snapshot org = {.profiles = many, .profiles_count = N};
	struct snapshot platform = {0};
	struct call call = {.dialect = &dialect_openai_chat,
			    .model = STR("gpt-a"),
			    .needs = CAP_TEXT,
			    .choices = 1};
	struct plan_input in = {.call = &call,
				.org = &org,
				.platform = &platform,
				.catalogue = &catalogue,
				.wall_ms = WALL_MS};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct plan plan;

	for (int i = 0; i < N; i++) {
		snprintf(names[i], sizeof names[i], "p%03d", i);
		many[i] = (struct profile){.id = {.b = {1, (uint8_t)i}},
					   .name = str_from(names[i]),
					   .provider = provider_find(STR("openai")),
					   .endpoint_ok = true,
					   .source = BILLING_BYOK,
					   .models = any,
					   .models_count = 1,
					   .status = STR("active"),
					   .has_secret = true,
					   .priority = N - i};
	}
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, NULL), RC_OK);
	ck_assert_uint_eq(plan.candidates_count, PLAN_CANDIDATES_MAX);
	ck_assert_str_eq(plan.candidates[0].target, "p191/gpt-a");
	arena_free(mem);
}
END_TEST

/* What a provider keeps: only its keeper is asked; an unknown keeper is guessed only where there is one own profile. */
START_TEST(state_goes_to_its_keeper)
{
	static const struct str any[] = {STR("gpt-a")};
	static const struct provider *p;
	struct profile profiles[3];
	struct snapshot org = {.profiles = profiles}, platform = {.profiles = profiles + 2};
	struct call_state state = {
		.kind = "response", .id = STR("resp_1"), .field = "previous_response_id"};
	struct call call = {.dialect = &dialect_openai_chat,
			    .model = STR("gpt-a"),
			    .needs = CAP_TEXT,
			    .choices = 1,
			    .states = &state,
			    .states_count = 1};
	struct plan_input in = {
		.call = &call, .org = &org, .platform = &platform, .wall_ms = WALL_MS};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct plan plan;

	p = provider_find(STR("openai"));
	for (uint8_t i = 0; i < 3; i++)
		profiles[i] = (struct profile){.id = {.b = {1, i}},
					       .name = STR("p"),
					       .provider = p,
					       .endpoint_ok = true,
					       .source = i == 2 ? BILLING_PLATFORM : BILLING_BYOK,
					       .models = any,
					       .models_count = 1,
					       .status = STR("active"),
					       .has_secret = true,
					       .priority = i};
	/* known: the second, though the first goes before it */
	org.profiles_count = 2;
	state.keeper = profiles[1].id;
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 1);
	ck_assert_str_eq(plan.candidates[0].reason, "capability_missing:previous_response_id");
	ck_assert(plan.candidates[1].use);
	/* unknown, and two could have it */
	state.keeper = (struct uuid){{0}};
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 0);
	ck_assert_str_eq(plan.refusal, "state_not_found");
	ck_assert_int_eq(route_plan_refused(&plan, &err), RC_INVALID);
	ck_assert_str_eq(err.code, "previous_response_not_found");
	ck_assert_str_eq(err.field, "previous_response_id");
	/* unknown, and one own profile */
	org.profiles_count = 1;
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 1);
	/* of a profile that is no candidate at all */
	state.keeper = profiles[1].id;
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 0);
	/* the platform's accounts are everybody's: an unknown id is nobody's there */
	org.profiles_count = 0;
	platform.profiles_count = 1;
	state.keeper = (struct uuid){{0}};
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 0);
	state.kind = "file";
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_int_eq(route_plan_refused(&plan, &err), RC_NOT_FOUND);
	ck_assert_str_eq(err.code, "state_not_found");
	arena_free(mem);
}
END_TEST

/* Who is passed over for another reason is no second keeper, and the words name what is not there. */
START_TEST(state_of_the_only_own_account)
{
	static const struct str any[] = {STR("gpt-a")};
	struct profile profiles[3];
	struct snapshot org = {.profiles = profiles}, platform = {.profiles = profiles + 2};
	struct call_state states[] = {
		{.kind = "file", .id = STR("file_1"), .field = "input"},
		{.kind = "conversation", .id = STR("conv_1"), .field = "conversation"}};
	struct call call = {.dialect = &dialect_openai_chat,
			    .model = STR("fast"),
			    .needs = CAP_TEXT,
			    .choices = 1,
			    .states = states,
			    .states_count = 2};
	struct route_target targets[] = {{.provider = STR("openai"), .model = STR("gpt-a")},
					 {.provider = STR("anthropic"), .model = STR("gpt-a")}};
	struct route route = {
		.name = STR("r"), .alias = STR("fast"), .targets = targets, .targets_count = 2};
	struct plan_input in = {
		.call = &call, .org = &org, .platform = &platform, .wall_ms = WALL_MS};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};
	struct plan plan;

	org.routes = &route;
	org.routes_count = 1;
	org.profiles_count = 2;
	platform.profiles_count = 1;
	for (uint8_t i = 0; i < 3; i++)
		profiles[i] = (struct profile){
			.id = {.b = {1, i}},
			.name = STR("p"),
			.provider = provider_find(i == 1 ? STR("anthropic") : STR("openai")),
			.endpoint_ok = true,
			.source = i == 2 ? BILLING_PLATFORM : BILLING_BYOK,
			.models = any,
			.models_count = 1,
			.status = i == 1 ? STR("disabled") : STR("active"),
			.has_secret = true,
			.priority = i};
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.candidates_count, 3); /* the platform's without consent */
	ck_assert_str_eq(plan.candidates[1].reason, "billing_not_allowed");
	ck_assert_str_eq(plan.candidates[2].reason, "disabled");
	ck_assert(plan.candidates[0].use);
	/* the first is where it is asked for, the second elsewhere */
	states[0].keeper = profiles[0].id;
	states[1].keeper = profiles[2].id;
	ck_assert_int_eq(route_plan_build(&in, mem, &plan, &err), RC_OK);
	ck_assert_uint_eq(plan.usable, 0);
	ck_assert_int_eq(route_plan_refused(&plan, &err), RC_NOT_FOUND);
	ck_assert_str_eq(err.field, "conversation");
	ck_assert(strstr(err.message, "conv_1"));
	arena_free(mem);
}
END_TEST

/* What becomes a header holds no control bytes, no separators of ours, whatever names say. */
START_TEST(target_is_a_safe_header)
{
	static const struct str any[] = {STR("a\r\nb: c,d=\xff")};
	struct profile p = {.id = {.b = {1}},
			    .name = STR("n\r\nx"),
			    .provider = provider_find(STR("openai")),
			    .endpoint_ok = true,
			    .source = BILLING_BYOK,
			    .models = any,
			    .models_count = 1,
			    .status = STR("active"),
			    .has_secret = true};
	struct snapshot org = {.profiles = &p, .profiles_count = 1};
	struct call call = {
		.dialect = &dialect_openai_chat, .model = any[0], .needs = CAP_TEXT, .choices = 1};
	struct plan_input in = {.call = &call, .org = &org, .catalogue = &catalogue};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct plan plan;

	ck_assert_int_eq(route_plan_build(&in, mem, &plan, NULL), RC_OK);
	ck_assert_str_eq(plan.candidates[0].target, "n??x/a??b:?c?d??");
	arena_free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("plan");
	TCase *tc = tcase_create("plan");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, plan_of_world, 0, ARRAY_LEN(rows));
	tcase_add_test(tc, properties_hold_in_random_worlds);
	tcase_add_test(tc, hold_and_cap);
	tcase_add_test(tc, platform_without_a_book);
	tcase_add_test(tc, refused_words);
	tcase_add_test(tc, candidates_are_bounded);
	tcase_add_test(tc, state_goes_to_its_keeper);
	tcase_add_test(tc, state_of_the_only_own_account);
	tcase_add_test(tc, target_is_a_safe_header);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
