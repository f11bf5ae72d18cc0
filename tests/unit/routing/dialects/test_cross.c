/* test_cross.c - the four chat dialects against each other, with questions and answers made at random.
 *
 * What both of two dialects can say survives the way through what stands between them; what does not is named as lost, or
 * refused with a field: nothing is silently gone. A failure prints the seed: CROSS_SEED=<n> takes it again, CROSS_ROUNDS=<n>
 * looks longer. */
#include "routing/dialect.h"
#include "routing/dialects/anthropic_priv.h"
#include "routing/dialects/openai_responses_priv.h"
#include "routing/provider.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (8u << 20)
#define ROUNDS	    150
#define CALLS_MAX   4
#define SEED_USUAL  UINT64_C(20260722)

/* ---- who is asked ------------------------------------------------------------------------------------------------ */

static const struct tongue {
	const struct dialect *d;
	const char *provider, *model;
} tongues[] = {
	{&dialect_openai_chat, "openai", "gpt-4.1"},
	{&dialect_openai_chat, "openai", "gpt-5.2"},
	{&dialect_openai_chat, "openrouter", "some/model"},
	{&dialect_openai_chat, "mistral", "mistral-large-latest"},
	{&dialect_openai_chat, "kimi", "kimi-k2"},
	{&dialect_openai_chat, "openai_compatible", "llama"},
	{&dialect_openai_responses, "openai", "gpt-5.2"},
	{&dialect_anthropic_messages, "anthropic", "claude-opus-4-6"},
	{&dialect_anthropic_messages, "anthropic", "claude-haiku-4-5"},
	{&dialect_gemini, "gemini", "gemini-3-flash"},
	{&dialect_gemini, "gemini", "gemini-2.5-flash"},
};
#define TONGUES ARRAY_LEN(tongues)

static struct dialect_target target_of(const struct tongue *t)
{
	return (struct dialect_target){.provider = provider_find(str_from(t->provider)),
				       .dialect = t->d,
				       .model = str_from(t->model)};
}

/* ---- chance ------------------------------------------------------------------------------------------------------- */

struct dice {
	uint64_t state, seed;
	struct arena *mem;
	bool no_result_images; /* before its generation 3 Gemini has them behind all results */
};

/* From the environment; `usual` where it says nothing that is a number. */
static uint64_t said_or(const char *name, uint64_t usual)
{
	const char *said = getenv(name);
	uint64_t n;

	return said && str_to_u64(str_from(said), &n) == RC_OK ? n : usual;
}

static uint64_t seed_of(uint64_t round)
{
	return said_or("CROSS_SEED", SEED_USUAL) + round;
}

static int rounds(void)
{
	return (int)said_or("CROSS_ROUNDS", ROUNDS);
}

static void dice_begin(struct dice *d, uint64_t round)
{
	d->seed = seed_of(round);
	d->state = d->seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	d->mem = arena_new(ARENA_BYTES);
}

static uint64_t roll(struct dice *d, uint64_t sides) /* from 0 */
{
	uint64_t z = d->state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (z ^ (z >> 31)) % sides;
}

static bool one_in(struct dice *d, uint64_t n)
{
	return roll(d, n) == 0;
}

static struct str words(struct dice *d)
{
	static const char *const pieces[] = {
		"a",	     "word",	   "\"quoted\"",       "back\\slash",
		"\xc3\xa9",  "two\nlines", "\xf0\x9f\x98\x80", "<b>&",
		"{\"a\":1}", "\x7f",	   "tab\there",	       "data: [DONE]",
		"% d"};
	struct str s = STR("w");

	for (uint64_t n = 1 + roll(d, 4); n > 0; n--)
		s = arena_printf(d->mem, "%.*s %s", STR_FMT(s), pieces[roll(d, ARRAY_LEN(pieces))]);
	return s;
}

static const struct json *json_of(struct dice *d, struct str text)
{
	struct json *v;

	ck_assert_int_eq(json_parse(text, JSON_NO_DUPLICATES, d->mem, &v, NULL), RC_OK);
	return v;
}

static struct str text_of(struct arena *mem, const struct json *v)
{
	AUTO(buf) struct buf b = BUF_INIT(OUT_BYTES);

	if (!v)
		return STR("-");
	ck_assert_int_eq(json_write(v, &b), RC_OK);
	return arena_str(mem, buf_str(&b));
}

static struct str arguments(struct dice *d)
{
	static const char *const all[] = {"{}", "{\"n\":1.50}", "{\"s\":\"}{\\\"\\u00e9\"}",
					  "{\"big\":12345678901234567890,\"l\":[1,{},[]]}"};

	return str_from(all[roll(d, ARRAY_LEN(all))]);
}

/* ---- a question at random --------------------------------------------------------------------------------------------- */

struct question {
	struct call call;
	struct chat chat;
};

static struct chat_part text_part(struct dice *d)
{
	struct chat_part p = {.type = CHAT_TEXT, .text = words(d)};

	if (one_in(d, 8))
		p.cache = one_in(d, 3) ? CHAT_CACHE_1H : CHAT_CACHE_5M;
	return p;
}

static struct chat_part image_part(struct dice *d)
{
	struct chat_part p = {.type = CHAT_IMAGE};

	if (one_in(d, 2)) {
		p.media.url = STR("https://example.com/a.png");
		p.media.mime = STR("");
	} else {
		p.media.mime = STR("image/png");
		p.media.data = STR("iVBORw0KGgo=");
	}
	if (one_in(d, 3))
		p.media.detail = one_in(d, 2) ? STR("low") : STR("high");
	return p;
}

static struct chat_part document_part(struct dice *d)
{
	struct chat_part p = {.type = CHAT_DOCUMENT, .media.mime = STR("application/pdf")};

	if (one_in(d, 2))
		p.media.data = STR("JVBERi0xLjQ=");
	else if (one_in(d, 2))
		p.media.url = STR("https://example.com/a.pdf");
	else
		p.media = (struct chat_media){.mime = STR("text/plain"), .text = words(d)};
	if (one_in(d, 2))
		p.media.name = STR("a name.pdf");
	return p;
}

static struct chat_part user_part(struct dice *d)
{
	switch (roll(d, 12)) {
	case 0:
		return image_part(d);
	case 1:
		return document_part(d);
	case 2:
		return one_in(d, 3) ? (struct chat_part){.type = CHAT_AUDIO,
							 .media = {.mime = STR("audio/wav"),
								   .data = STR("UklGRg==")}}
				    : text_part(d);
	default:
		return text_part(d);
	}
}

static void turn_add(struct question *q, enum chat_role role, struct chat_part *parts, size_t n)
{
	q->chat.turns[q->chat.turns_count++] = (struct chat_turn){role, parts, n};
}

static struct chat_part result_part(struct dice *d, const struct chat_part *call)
{
	struct chat_part p = {.type = CHAT_TOOL_RESULT,
			      .id = call->id,
			      .name = call->name,
			      .is_error = one_in(d, 8),
			      .parts = ARENA_ARRAY(d->mem, struct chat_part, 2)};

	p.parts[p.parts_count++] = (struct chat_part){.type = CHAT_TEXT, .text = words(d)};
	if (one_in(d, 10) && !d->no_result_images)
		p.parts[p.parts_count++] = (struct chat_part){
			.type = CHAT_IMAGE,
			.media = {.mime = STR("image/png"), .data = STR("iVBORw0KGgo=")}};
	return p;
}

/* What an assistant said, and what came of its calls. */
static void exchange_add(struct dice *d, struct question *q)
{
	struct chat_part *said = ARENA_ARRAY(d->mem, struct chat_part, 3 + CALLS_MAX);
	struct chat_part *next = ARENA_ARRAY(d->mem, struct chat_part, 3 + CALLS_MAX);
	size_t n = 0, m = 0;

	if (one_in(d, 4))
		said[n++] = (struct chat_part){.type = CHAT_REASONING, .text = words(d)};
	if (one_in(d, 2))
		said[n++] = (struct chat_part){.type = CHAT_TEXT, .text = words(d)};
	for (uint64_t calls = q->chat.tools_count ? roll(d, CALLS_MAX) : 0; calls > 0; calls--) {
		said[n] = (struct chat_part){
			.type = CHAT_TOOL_CALL,
			.id = arena_printf(d->mem, "call_%08llx", (long long)roll(d, 1u << 31)),
			.name = q->chat.tools[roll(d, q->chat.tools_count)].name,
			.arguments = arguments(d)};
		next[m++] = result_part(d, &said[n++]);
	}
	if (n == 0 || said[n - 1].type == CHAT_REASONING) /* that alone is no turn */
		said[n++] = (struct chat_part){.type = CHAT_TEXT, .text = words(d)};
	if (m == 0 || one_in(d, 2))
		next[m++] = user_part(d);
	turn_add(q, CHAT_ASSISTANT, said, n);
	turn_add(q, CHAT_USER, next, m);
}

static void tools_add(struct dice *d, struct question *q)
{
	static const char *const names[] = {"get", "put_all", "look-up"};
	struct chat *c = &q->chat;

	c->tools = ARENA_ARRAY(d->mem, struct chat_tool, 3);
	c->tools_count = roll(d, 4);
	for (size_t i = 0; i < c->tools_count; i++) {
		c->tools[i] = (struct chat_tool){
			.name = str_from(names[i]),
			.strict = (int)roll(d, 3) - 1,
			.parameters = json_of(
				d, STR("{\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
				       "\"number\"}},\"additionalProperties\":false}"))};
		if (one_in(d, 2))
			c->tools[i].description = words(d);
		if (one_in(d, 10))
			c->tools[i].cache = CHAT_CACHE_5M;
	}
	if (c->tools_count == 0)
		return;
	if (one_in(d, 3))
		c->parallel_tools = one_in(d, 2);
	c->choice = one_in(d, 2) ? (enum chat_choice)roll(d, 7) : CHAT_CHOICE_UNSAID;
	if (c->choice < CHAT_CHOICE_NAMED)
		return;
	c->choice_names = ARENA_ARRAY(d->mem, struct str, 3);
	c->choice_names_count = c->choice == CHAT_CHOICE_NAMED ? 1 : 1 + roll(d, c->tools_count);
	for (size_t i = 0; i < c->choice_names_count; i++)
		c->choice_names[i] = str_from(names[i]);
}

static const struct json *maybe(struct dice *d, const char *literal)
{
	return one_in(d, 8) ? json_of(d, str_from(literal)) : NULL;
}

static void parameters_add(struct dice *d, struct question *q)
{
	static const char *const tiers[] = {"auto", "default", "flex", "priority"};
	struct chat *c = &q->chat;

	c->temperature = maybe(d, "0.70");
	c->top_p = maybe(d, "0.90");
	c->top_k = maybe(d, "40");
	c->seed = maybe(d, "7");
	c->presence_penalty = maybe(d, "0.10");
	c->frequency_penalty = maybe(d, "-0.10");
	c->metadata = maybe(d, "{\"k\":\"v\"}");
	if (one_in(d, 20))
		c->logprobs = json_of(d, STR("true"));
	if (one_in(d, 20))
		c->logit_bias = json_of(d, STR("{\"50256\":-100}"));
	if (one_in(d, 6)) {
		c->stop = ARENA_ARRAY(d->mem, struct str, 6);
		c->stop_count = 1 + roll(d, 6);
		for (size_t i = 0; i < c->stop_count; i++)
			c->stop[i] = words(d);
	}
	if (one_in(d, 4))
		c->effort = (enum chat_effort)(1 + roll(d, 7));
	else if (one_in(d, 6))
		c->reasoning_tokens = (int64_t)roll(d, 3) * 3000;
	if (one_in(d, 8))
		c->verbosity = STR("low");
	if (one_in(d, 6))
		c->service_tier = str_from(tiers[roll(d, 4)]);
	if (one_in(d, 8))
		c->end_user = STR("user-1");
	if (one_in(d, 8))
		c->cache_key = STR("key-1");
	if (one_in(d, 5)) {
		c->format = one_in(d, 4) ? CHAT_FORMAT_JSON : CHAT_FORMAT_SCHEMA;
		if (c->format == CHAT_FORMAT_SCHEMA) {
			c->schema = json_of(d, STR("{\"type\":\"object\",\"properties\":{},"
						   "\"additionalProperties\":false}"));
			c->schema_name = one_in(d, 2) ? STR("an_answer") : STR_NULL;
			c->schema_description = one_in(d, 3) ? words(d) : STR_NULL;
			c->schema_strict = (int)roll(d, 3) - 1;
		}
	}
}

static void question_make(struct dice *d, struct question *q)
{
	struct chat_part *parts;

	*q = (struct question){.call = {.choices = one_in(d, 16) ? 2 : 1,
					.operation = OPERATION_chat,
					.stream = one_in(d, 2),
					.max_output = (int64_t)roll(d, 3) * 2048},
			       .chat = {.parallel_tools = -1,
					.schema_strict = -1,
					.reasoning_tokens = -1,
					.reasoning_shown = -1}};
	q->chat.turns = ARENA_ARRAY(d->mem, struct chat_turn, 16);
	tools_add(d, q);
	if (one_in(d, 3)) {
		parts = ARENA_ARRAY(d->mem, struct chat_part, 1);
		parts[0] = text_part(d);
		turn_add(q, one_in(d, 4) ? CHAT_DEVELOPER : CHAT_SYSTEM, parts, 1);
	}
	parts = ARENA_ARRAY(d->mem, struct chat_part, 3);
	parts[0] = user_part(d);
	parts[1] = user_part(d);
	turn_add(q, CHAT_USER, parts, 1 + roll(d, 2));
	for (uint64_t n = roll(d, 4); n > 0; n--)
		exchange_add(d, q);
	parameters_add(d, q);
}

/* ---- what a question says, by features ----------------------------------------------------------------------------------- */

#define FEATURES(X)                                                                                \
	X(system, "")                                                                              \
	X(turns, "")                                                                               \
	X(reasoning, "reasoning|thinking|thought")                                                 \
	X(cache, "cache")                                                                          \
	X(detail, "detail|mediaResolution")                                                        \
	X(names, "filename|title|displayName|file.name")                                           \
	X(errors, "is_error|error")                                                                \
	X(tools, "")                                                                               \
	X(strict, "strict")                                                                        \
	X(choice, "")                                                                              \
	X(parallel, "parallel")                                                                    \
	X(format, "")                                                                              \
	X(schema_name, "name")                                                                     \
	X(schema_description, "description")                                                       \
	X(schema_strict, "strict")                                                                 \
	X(temperature, "temperature")                                                              \
	X(top_p, "top_p|topP")                                                                     \
	X(top_k, "top_k|topK")                                                                     \
	X(seed, "seed")                                                                            \
	X(presence, "presence")                                                                    \
	X(frequency, "frequency")                                                                  \
	X(stop, "")                                                                                \
	X(effort, "reasoning|thinking")                                                            \
	X(verbosity, "verbosity")                                                                  \
	X(tier, "service_tier|serviceTier")                                                        \
	X(user, "user|safety_identifier")                                                          \
	X(cache_key, "cache_key")                                                                  \
	X(metadata, "metadata|labels")                                                             \
	X(logprobs, "")                                                                            \
	X(logit_bias, "")                                                                          \
	X(max_output, "")                                                                          \
	X(choices, "")                                                                             \
	X(stream, "")
enum feature {
#define X(name, losses) F_##name,
	FEATURES(X)
#undef X
		F_COUNT
};
static const struct {
	const char *name, *losses; /* by which of these it may be lost; "": never */
} features[] = {
#define X(name, losses) {#name, losses},
	FEATURES(X)
#undef X
};

struct said {
	struct buf b[F_COUNT];
};

static void say(struct said *s, enum feature f, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void say(struct said *s, enum feature f, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	ck_assert_int_lt(vsnprintf(text, sizeof text, fmt, ap), (int)sizeof text);
	va_end(ap);
	ck_assert_int_eq(buf_append(&s->b[f], str_from(text)), RC_OK);
}

static void say_media(struct said *s, const char *kind, const struct chat_media *m)
{
	say(s, F_turns, "%s data=%.*s url=%.*s\n", kind, STR_FMT(m->data), STR_FMT(m->url));
	if (m->detail.len && !str_is(m->detail, "auto"))
		say(s, F_detail, "%.*s\n", STR_FMT(m->detail));
	if (m->name.len && !str_is(m->name, "document.pdf"))
		say(s, F_names, "%.*s\n", STR_FMT(m->name));
}

static void say_part(struct said *s, struct arena *mem, const struct chat_part *p)
{
	struct json *v;

	if (p->cache != CHAT_CACHE_NONE)
		say(s, F_cache, "%d\n", p->cache);
	switch (p->type) {
	case CHAT_TEXT:
	case CHAT_REFUSAL:
		say(s, F_turns, "text %.*s\n", STR_FMT(p->text));
		break;
	case CHAT_IMAGE:
		say_media(s, "image", &p->media);
		break;
	case CHAT_AUDIO:
		say_media(s, "audio", &p->media);
		break;
	case CHAT_VIDEO:
		say_media(s, "video", &p->media);
		break;
	case CHAT_DOCUMENT:
		if (!p->media.text.ptr) {
			say_media(s, "document", &p->media);
			break;
		}
		say(s, F_turns, "text %.*s\n", STR_FMT(p->media.text));
		if (p->media.name.len)
			say(s, F_names, "%.*s\n", STR_FMT(p->media.name));
		break;
	case CHAT_TOOL_CALL:
		ck_assert_int_eq(json_parse(p->arguments, JSON_ALLOW_DUPLICATES, mem, &v, NULL),
				 RC_OK);
		say(s, F_turns, "call %.*s %.*s\n", STR_FMT(p->name), STR_FMT(text_of(mem, v)));
		break;
	case CHAT_TOOL_RESULT:
		say(s, F_turns, "result %.*s\n", STR_FMT(p->name));
		say(s, F_errors, "%d", p->is_error);
		for (size_t i = 0; i < p->parts_count; i++)
			say_part(s, mem, &p->parts[i]);
		say(s, F_turns, "result's end\n");
		break;
	case CHAT_REASONING:
		say(s, F_reasoning, "%.*s %.*s\n", STR_FMT(p->text), STR_FMT(p->opaque.value));
		break;
	}
}

static void say_turns(struct said *s, struct arena *mem, const struct chat *c)
{
	int side = -1;

	for (size_t t = 0; t < c->turns_count; t++) {
		const struct chat_turn *turn = &c->turns[t];
		const int now = turn->role == CHAT_ASSISTANT;
		bool system = turn->role == CHAT_SYSTEM || turn->role == CHAT_DEVELOPER;

		if (!system && now != side)
			say(s, F_turns, "%s:\n", now ? "assistant" : "user");
		side = system ? side : now;
		for (size_t i = 0; i < turn->parts_count; i++) {
			if (system && turn->parts[i].cache != CHAT_CACHE_NONE)
				say(s, F_cache, "%d\n", turn->parts[i].cache);
			if (system)
				say(s, F_system, "%.*s\n", STR_FMT(turn->parts[i].text));
			else
				say_part(s, mem, &turn->parts[i]);
		}
	}
}

static bool may_be_called(const struct chat *c, struct str name)
{
	if (c->choice < CHAT_CHOICE_NAMED)
		return true;
	for (size_t i = 0; i < c->choice_names_count; i++)
		if (str_eq(c->choice_names[i], name))
			return true;
	return false;
}

/* The tools that may be called, and what is said of them: however that was said. */
static void say_tools(struct said *s, struct arena *mem, const struct chat *c)
{
	static const char *const modes[] = {"auto",  "auto", "none",	"required",
					    "named", "auto", "required"};
	struct str only = c->choice == CHAT_CHOICE_NAMED ? c->choice_names[0] : STR("");
	size_t n = 0;

	for (size_t i = 0; i < c->tools_count; i++) {
		const struct chat_tool *t = &c->tools[i];

		if (!may_be_called(c, t->name))
			continue;
		n++;
		only = c->choice == CHAT_CHOICE_NAMED ? only : t->name;
		say(s, F_tools, "%.*s %.*s %.*s\n", STR_FMT(t->name), STR_FMT(t->description),
		    STR_FMT(text_of(mem, t->parameters)));
		say(s, F_strict, "%d", t->strict == 1);
		if (t->cache != CHAT_CACHE_NONE)
			say(s, F_cache, "tool %d\n", t->cache);
	}
	if (c->choice == CHAT_CHOICE_NAMED ||
	    (n == 1 && str_is(str_from(modes[c->choice]), "required")))
		say(s, F_choice, "named %.*s", STR_FMT(only));
	else
		say(s, F_choice, "%s", modes[c->choice]);
	say(s, F_parallel, "%d", c->parallel_tools != 0 || c->choice == CHAT_CHOICE_NONE);
}

static void say_number(struct said *s, struct arena *mem, enum feature f, const struct json *v)
{
	say(s, f, "%.*s", STR_FMT(text_of(mem, v)));
}

static void say_all(struct said *s, struct arena *mem, const struct question *q)
{
	const struct chat *c = &q->chat;

	for (int i = 0; i < F_COUNT; i++)
		s->b[i] = BUF_INIT(OUT_BYTES);
	say_turns(s, mem, c);
	say_tools(s, mem, c);
	say(s, F_format, "%d %.*s", c->format, STR_FMT(text_of(mem, c->schema)));
	say(s, F_schema_name, "%.*s",
	    STR_FMT(str_is(c->schema_name, "response") ? STR("") : c->schema_name));
	say(s, F_schema_description, "%.*s", STR_FMT(c->schema_description));
	say(s, F_schema_strict, "%d", c->schema_strict == 1);
	say_number(s, mem, F_temperature, c->temperature);
	say_number(s, mem, F_top_p, c->top_p);
	say_number(s, mem, F_top_k, c->top_k);
	say_number(s, mem, F_seed, c->seed);
	say_number(s, mem, F_presence, c->presence_penalty);
	say_number(s, mem, F_frequency, c->frequency_penalty);
	say_number(s, mem, F_metadata, c->metadata);
	say_number(s, mem, F_logprobs, c->logprobs);
	say_number(s, mem, F_logit_bias, c->logit_bias);
	for (size_t i = 0; i < c->stop_count; i++)
		say(s, F_stop, "%.*s\n", STR_FMT(c->stop[i]));
	/* how much is translated by the nearest word; that it is wanted, or not, must stay */
	say(s, F_effort, "%s",
	    c->effort == CHAT_EFFORT_none || c->reasoning_tokens == 0	 ? "none"
	    : c->effort != CHAT_EFFORT_UNSAID || c->reasoning_tokens > 0 ? "some"
									 : "unsaid");
	say(s, F_verbosity, "%.*s", STR_FMT(c->verbosity));
	if (!str_is(c->service_tier, "auto") && !str_is(c->service_tier, "default"))
		say(s, F_tier, "%.*s", STR_FMT(c->service_tier));
	say(s, F_user, "%s", c->end_user.len ? "said" : ""); /* hashed on its way to Anthropic */
	say(s, F_cache_key, "%.*s", STR_FMT(c->cache_key));
	say(s, F_max_output, "%lld", (long long)q->call.max_output);
	say(s, F_choices, "%lld", (long long)q->call.choices);
	say(s, F_stream, "%d", q->call.stream);
}

static void said_clear(struct said *s)
{
	for (int i = 0; i < F_COUNT; i++)
		buf_clear(&s->b[i]);
}

static bool is_lost(const struct chat_losses *l, const char *names)
{
	struct str rest = str_from(names);

	while (rest.len > 0) {
		const struct str one = str_cut(&rest, '|');

		for (size_t i = 0; i < l->count; i++)
			if (str_find_str(l->name[i], one) >= 0)
				return true;
	}
	return false;
}

/* ---- one way ---------------------------------------------------------------------------------------------------------------- */

struct way { /* a question in the words of one tongue */
	struct buf body;
	struct outgoing out;
	struct err err;
	enum rc rc;
};

static void way_write(struct way *w, const struct tongue *to, const struct question *q,
		      struct arena *mem)
{
	const struct dialect_target t = target_of(to);
	const struct ask ask = {.operation = OPERATION_chat, .chat = q->chat};

	*w = (struct way){.body = BUF_INIT(OUT_BYTES)};
	w->out.body = &w->body;
	w->rc = to->d->encode_ask(&q->call, &ask, &t, mem, &w->out, &w->err);
}

static void way_read(struct way *w, const struct tongue *from, bool stream, struct arena *mem,
		     struct question *ret)
{
	const struct call_head head = {.model = str_from(from->model), .stream = stream};
	const struct call_head none = {0};
	struct err err = {0};
	struct ask ask = {0};
	enum rc rc;

	rc = from->d->decode_request(from->d == &dialect_gemini ? &head : &none, buf_str(&w->body),
				     mem, &ret->call, &err);
	ck_assert_msg(rc == RC_OK, "%s: %s\n%.*s", from->d->name, err.message,
		      STR_FMT(buf_str(&w->body)));
	rc = from->d->decode_ask(&ret->call, mem, &ask, &err);
	ck_assert_msg(rc == RC_OK, "%s: %s\n%.*s", from->d->name, err.message,
		      STR_FMT(buf_str(&w->body)));
	ret->chat = ask.chat;
}

/* What is said in another way there, and is the same. */
static bool is_excused(enum feature f, struct str before, struct str after,
		       const struct question *is, const struct tongue *to)
{
	const bool anthropic = to->d == &dialect_anthropic_messages;
	const struct dialect_target t = target_of(to);

	/* a model that has no reasoning does none */
	if (f == F_effort && to->d == &dialect_openai_chat)
		return str_is(before, "none") && str_is(after, "unsaid") &&
		       provider_chat(t.provider, t.model)->efforts == 0;
	/* JSON by a forced tool, where there is no other way to it */
	if ((f == F_tools || f == F_choice || f == F_parallel || f == F_format || f == F_strict ||
	     f == F_schema_strict) &&
	    anthropic)
		return (is->chat.tools_count == 1 &&
			str_is(is->chat.tools[0].name, ANTHROPIC_JSON_TOOL)) ||
		       f == F_schema_strict; /* a schema is always held to */
	return false;
}

static void compare(const struct dice *d, const struct question *before,
		    const struct question *after, const struct way *w, const struct tongue *from,
		    const struct tongue *to)
{
	struct said a, b;

	say_all(&a, d->mem, before);
	say_all(&b, d->mem, after);
	for (int i = 0; i < F_COUNT; i++) {
		const struct str x = buf_str(&a.b[i]), y = buf_str(&b.b[i]);

		if (str_eq(x, y) || is_lost(&w->out.losses, features[i].losses))
			continue;
		if (is_excused((enum feature)i, x, y, after, to))
			continue;
		if (i == F_max_output && before->call.max_output == 0)
			continue; /* where a maximum must be said */
		ck_abort_msg(
			"CROSS_SEED=%llu: %s of %s -> %s (%s): silently another\n--- was\n%.*s\n"
			"--- is\n%.*s\n--- body\n%.*s",
			(unsigned long long)d->seed, features[i].name,
			from ? from->d->name : "chat", to->d->name, to->model, STR_FMT(x),
			STR_FMT(y), STR_FMT(buf_str(&w->body)));
	}
	said_clear(&a);
	said_clear(&b);
}

static void refused(const struct dice *d, const struct way *w, const struct tongue *to)
{
	ck_assert_msg(w->rc == RC_UNSUPPORTED && w->err.field[0] && w->err.code,
		      "CROSS_SEED=%llu: %s refuses without a field: %s",
		      (unsigned long long)d->seed, to->d->name, w->err.message);
}

/* `from` asks what was made at random, `to` is asked in its place. True: nobody refused. */
static bool ask_across(struct dice *d, const struct tongue *from, const struct tongue *to)
{
	struct question made, first, second;
	struct way a, b = {.rc = RC_UNSUPPORTED};
	bool whole = false;

	question_make(d, &made);
	made.call.dialect = from->d;
	way_write(&a, from, &made, d->mem);
	if (a.rc == RC_OK) {
		way_read(&a, from, made.call.stream, d->mem, &first);
		compare(d, &made, &first, &a, NULL, from);
		if (first.chat.tools_count == 1 &&
		    str_is(first.chat.tools[0].name, ANTHROPIC_JSON_TOOL)) {
			buf_clear(&a.body);
			return false; /* our own tool, which no caller has */
		}
		way_write(&b, to, &first, d->mem);
		if (b.rc == RC_OK) {
			way_read(&b, to, first.call.stream, d->mem, &second);
			compare(d, &first, &second, &b, from, to);
			whole = true;
		} else {
			refused(d, &b, to);
		}
	} else {
		refused(d, &a, from);
	}
	buf_clear(&a.body);
	buf_clear(&b.body);
	return whole;
}

static bool is_old_gemini(const struct tongue *t)
{
	return str_starts(str_from(t->model), STR("gemini-2"));
}

START_TEST(questions_survive_or_say_what_does_not)
{
	const struct tongue *from = &tongues[_i % TONGUES], *to = &tongues[_i / TONGUES];
	int whole = 0;
	struct dice d;

	for (int i = 0; i < rounds(); i++) {
		dice_begin(&d, (uint64_t)i);
		d.no_result_images = is_old_gemini(from) || is_old_gemini(to);
		whole += ask_across(&d, from, to);
		arena_free(d.mem);
	}
	ck_assert_msg(whole * 8 >= rounds(), "%s -> %s: only %d of %d went through", from->d->name,
		      to->d->name, whole, rounds());
}
END_TEST

/* ---- answers at random ------------------------------------------------------------------------------------------------------ */

#define SEALS_MAX  4
#define EVENTS_MAX 64

struct heard_call {
	struct str id, name;
	struct chat_text arguments;
};
struct heard {				  /* of choice 0 */
	struct chat_text said, reasoning; /* said: texts and refusals, in their order */
	struct heard_call calls[CALLS_MAX];
	size_t calls_count;
	struct str seals[SEALS_MAX];
	size_t seals_count, cites;
	enum finish finish;
	int finished;
	bool terminal;
	struct usage usage;
};

struct script { /* an answer: its events, each some deltas */
	struct facts events[EVENTS_MAX];
	size_t count;
	struct heard means;
};

static void text_add(struct arena *mem, struct chat_text *t, struct str s)
{
	ck_assert_int_eq(chat_text_add(mem, t, s), RC_OK);
}

static void hear_seal(struct heard *h, struct str value)
{
	ck_assert_uint_lt(h->seals_count, SEALS_MAX);
	h->seals[h->seals_count++] = value;
}

static void hear_delta(struct arena *mem, struct heard *h, const struct chat_delta *d)
{
	struct heard_call *call = &h->calls[d->index];

	ck_assert_int_eq(d->choice, 0);
	ck_assert(d->index >= 0 && d->index < CALLS_MAX);
	if (d->opaque.value.ptr)
		hear_seal(h, arena_str(mem, d->opaque.value));
	switch (d->type) {
	case CHAT_DELTA_TEXT:
	case CHAT_DELTA_REFUSAL:
		text_add(mem, &h->said, d->text);
		break;
	case CHAT_DELTA_REASONING:
		text_add(mem, &h->reasoning, d->text);
		break;
	case CHAT_DELTA_TOOL_CALL:
		ck_assert_int_eq(d->index, (int64_t)h->calls_count++);
		call->id = arena_str(mem, d->id);
		call->name = arena_str(mem, d->name);
		break;
	case CHAT_DELTA_TOOL_ARGUMENTS:
		ck_assert_uint_lt((size_t)d->index, h->calls_count);
		text_add(mem, &call->arguments, d->text);
		break;
	case CHAT_DELTA_CITATION:
		h->cites++;
		break;
	case CHAT_DELTA_FINISH:
		h->finish = d->finish;
		break;
	default:
		break;
	}
}

static void hear(struct arena *mem, struct heard *h, const struct facts *f)
{
	ck_assert(f->error == ERROR_none && !f->deltas_lost);
	for (size_t i = 0; i < f->deltas_count; i++)
		hear_delta(mem, h, &f->deltas[i]);
	h->finished += f->finished;
	h->terminal |= f->terminal;
	if (f->usage.present)
		h->usage = f->usage;
}

static struct chat_delta *delta(struct dice *d, struct script *s, enum chat_delta_type type)
{
	if (s->count == 0 || (one_in(d, 2) && s->count < EVENTS_MAX))
		s->events[s->count++] = (struct facts){.usage = USAGE_NONE};
	return chat_delta_add(d->mem, &s->events[s->count - 1], type);
}

static void script_reasoning(struct dice *d, struct script *s)
{
	for (uint64_t n = 1 + roll(d, 3); n > 0; n--)
		delta(d, s, CHAT_DELTA_REASONING)->text = words(d);
	if (one_in(d, 2))
		delta(d, s, CHAT_DELTA_REASONING_END)->opaque =
			(struct chat_opaque){.value = STR("state-1"), .dialect = STR("gemini")};
	else
		delta(d, s, CHAT_DELTA_REASONING_END);
}

/* Calls whose arguments come in pieces, turn by turn. */
static void script_calls(struct dice *d, struct script *s)
{
	const int64_t n = 1 + (int64_t)roll(d, CALLS_MAX);
	struct str rest[CALLS_MAX];
	bool more = true;

	for (int64_t i = 0; i < n; i++) {
		struct chat_delta *c = delta(d, s, CHAT_DELTA_TOOL_CALL);

		c->index = i;
		c->id = arena_printf(d->mem, "call_%d", (int)i);
		c->name = STR("get");
		if (i == 0 && one_in(d, 3))
			c->opaque = (struct chat_opaque){.value = STR("state-2"),
							 .dialect = STR("gemini")};
		rest[i] = arguments(d);
	}
	while (more) {
		more = false;
		for (int64_t i = 0; i < n; i++) {
			const size_t take = 1 + roll(d, 9);
			struct chat_delta *c;

			if (rest[i].len == 0)
				continue;
			c = delta(d, s, CHAT_DELTA_TOOL_ARGUMENTS);
			c->index = i;
			c->text = str_slice(rest[i], 0, take < rest[i].len ? take : rest[i].len);
			rest[i] = str_slice(rest[i], c->text.len, rest[i].len);
			more = true;
		}
	}
}

static void script_usage(struct dice *d, struct usage *u)
{
	static const int classes[] = {USAGE_in_text,	       USAGE_in_cached_read,
				      USAGE_in_cache_write_5m, USAGE_in_cache_write_1h,
				      USAGE_in_audio,	       USAGE_out_text,
				      USAGE_out_reasoning};

	*u = USAGE_NONE;
	u->present = true;
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		u->n[classes[i]] = one_in(d, 3) ? 0 : (int64_t)roll(d, 100000);
	u->n[USAGE_in_text]++; /* nobody states nothing at all */
	u->n[USAGE_out_text]++;
}

static void script_make(struct dice *d, struct script *s, struct usage *usage)
{
	static const enum finish plain[] = {FINISH_STOP, FINISH_LENGTH, FINISH_CONTENT_FILTER};
	enum finish finish = plain[roll(d, 3)];

	*s = (struct script){0};
	if (one_in(d, 2))
		script_reasoning(d, s);
	if (one_in(d, 6))
		delta(d, s, CHAT_DELTA_REFUSAL)->text = words(d);
	else
		for (uint64_t n = 1 + roll(d, 4); n > 0; n--)
			delta(d, s, CHAT_DELTA_TEXT)->text = words(d);
	if (one_in(d, 4) &&
	    s->events[s->count - 1].deltas[s->events[s->count - 1].deltas_count - 1].type ==
		    CHAT_DELTA_TEXT) {
		struct chat_delta *c = delta(d, s, CHAT_DELTA_CITATION);

		c->media.url = STR("https://example.com/source");
		c->media.name = STR("a source");
		c->text = STR("");
	}
	if (one_in(d, 2)) {
		script_calls(d, s);
		finish = one_in(d, 4) ? FINISH_LENGTH : FINISH_TOOL_CALLS;
	}
	delta(d, s, CHAT_DELTA_FINISH)->finish = finish;
	script_usage(d, usage);
	for (size_t i = 0; i < s->count; i++)
		hear(d->mem, &s->means, &s->events[i]);
}

/* ---- written and read again --------------------------------------------------------------------------------------------------- */

struct ear {
	struct dialect_ctx ctx;
	struct heard h;
	struct arena *mem;
	size_t events, stop_at; /* no more than these are heard */
};

static bool on_heard(void *arg, const struct sse_event *ev)
{
	struct facts f = {.usage = USAGE_NONE};
	struct ear *e = arg;

	if (e->events++ >= e->stop_at)
		return true;
	ck_assert_msg(e->ctx.target->dialect->decode_event(&e->ctx, ev, &f) == RC_OK, "%.*s",
		      STR_FMT(ev->raw));
	hear(e->mem, &e->h, &f);
	return true;
}

static void ear_begin(struct ear *e, struct dice *d, const struct dialect_target *t,
		      const struct call *c)
{
	*e = (struct ear){.mem = d->mem, .stop_at = SIZE_MAX};
	e->ctx = (struct dialect_ctx){.mem = d->mem,
				      .keep = d->mem,
				      .call = c,
				      .target = t,
				      .id = STR("id-1"),
				      .translate = true};
}

/* The first `stop_at` events of `wire`, in pieces of `chunk` bytes. Returns how many there are. */
static size_t ear_feed(struct ear *e, struct str wire, size_t chunk, size_t stop_at)
{
	struct sse s;

	e->stop_at = stop_at;
	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += chunk)
		ck_assert_int_eq(
			sse_feed(&s,
				 str_slice(wire, at, at + chunk < wire.len ? at + chunk : wire.len),
				 on_heard, e),
			RC_OK);
	ck_assert(!sse_end(&s));
	sse_clear(&s);
	return e->events;
}

static bool is_whole(const struct ear *e)
{
	return e->ctx.target->dialect->finish_ends ? e->h.finished > 0 : e->h.terminal;
}

/* What was kept for the maker comes back in some wrapping: is `seal` in it? */
static bool has_seal(struct arena *mem, const struct heard *h, struct str seal)
{
	for (size_t i = 0; i < h->seals_count; i++) {
		struct str rest = h->seals[i];
		ptrdiff_t at;

		while ((at = str_find_str(rest, STR(CHAT_OPAQUE_MARK))) >= 0) {
			struct chat_opaque o = {0};
			size_t end = (size_t)at;

			while (end < rest.len && rest.ptr[end] != '"')
				end++;
			if (chat_opaque_unwrap(mem, str_slice(rest, (size_t)at, end), &o) &&
			    str_ends(o.value, seal) && str_is(o.provider, "gemini"))
				return true;
			rest = str_slice(rest, end, rest.len);
		}
	}
	return false;
}

static void check_usage(const struct dice *d, const struct dialect *by, const struct usage *was,
			const struct usage *is)
{
	const bool anthropic = by == &dialect_anthropic_messages, gemini = by == &dialect_gemini;
	const int64_t writes = was->n[USAGE_in_cache_write_5m] + was->n[USAGE_in_cache_write_1h];
	const unsigned long long seed = d->seed;

	ck_assert_msg(is->present && is->flags == 0, "CROSS_SEED=%llu: %s", seed, by->name);
	ck_assert_msg(usage_total_in(is) == usage_total_in(was) &&
			      usage_total_out(is) == usage_total_out(was),
		      "CROSS_SEED=%llu: %s: %lld in, %lld out of %lld, %lld", seed, by->name,
		      (long long)usage_total_in(is), (long long)usage_total_out(is),
		      (long long)usage_total_in(was), (long long)usage_total_out(was));
	ck_assert_msg(is->n[USAGE_in_cached_read] == was->n[USAGE_in_cached_read] &&
			      is->n[USAGE_out_reasoning] == was->n[USAGE_out_reasoning],
		      "CROSS_SEED=%llu: %s", seed, by->name);
	if (anthropic)
		ck_assert_msg(is->n[USAGE_in_cache_write_5m] == was->n[USAGE_in_cache_write_5m] &&
				      is->n[USAGE_in_cache_write_1h] ==
					      was->n[USAGE_in_cache_write_1h],
			      "CROSS_SEED=%llu: %s", seed, by->name);
	else if (!gemini) /* which has no words for them */
		ck_assert_msg(is->n[USAGE_in_cache_write_5m] == writes, "CROSS_SEED=%llu: %s", seed,
			      by->name);
	if (by == &dialect_openai_chat || gemini)
		ck_assert_msg(is->n[USAGE_in_audio] == was->n[USAGE_in_audio],
			      "CROSS_SEED=%llu: %s", seed, by->name);
}

static void check_heard(const struct dice *d, const struct dialect *by, const char *how,
			const struct heard *was, const struct heard *is)
{
	const unsigned long long seed = d->seed;

#define SAME(what, a, b)                                                                           \
	ck_assert_msg(str_eq(a, b), "CROSS_SEED=%llu: %s %s: " what " %.*s is %.*s", seed,         \
		      by->name, how, STR_FMT(a), STR_FMT(b))
	SAME("text", chat_text_str(&was->said), chat_text_str(&is->said));
	SAME("reasoning", chat_text_str(&was->reasoning), chat_text_str(&is->reasoning));
	ck_assert_msg(was->calls_count == is->calls_count, "CROSS_SEED=%llu: %s %s: %zu calls",
		      seed, by->name, how, is->calls_count);
	for (size_t i = 0; i < was->calls_count; i++) {
		struct json *a, *b;

		SAME("id", was->calls[i].id, is->calls[i].id);
		SAME("name", was->calls[i].name, is->calls[i].name);
		ck_assert_int_eq(json_parse(chat_text_str(&was->calls[i].arguments),
					    JSON_NO_DUPLICATES, d->mem, &a, NULL),
				 RC_OK);
		ck_assert_int_eq(json_parse(chat_text_str(&is->calls[i].arguments),
					    JSON_NO_DUPLICATES, d->mem, &b, NULL),
				 RC_OK);
		SAME("arguments", text_of(d->mem, a), text_of(d->mem, b));
	}
#undef SAME
	ck_assert_msg(was->cites == is->cites && was->finish == is->finish && is->finished == 1,
		      "CROSS_SEED=%llu: %s %s: %zu sources, finish %d, %d of them", seed, by->name,
		      how, is->cites, is->finish, is->finished);
	for (size_t i = 0; i < was->seals_count; i++)
		ck_assert_msg(has_seal(d->mem, is, was->seals[i]),
			      "CROSS_SEED=%llu: %s %s: no %.*s", seed, by->name, how,
			      STR_FMT(was->seals[i]));
}

static const struct dialect *const dialects[] = {&dialect_openai_chat, &dialect_openai_responses,
						 &dialect_anthropic_messages, &dialect_gemini};

static void answer_trip(struct dice *d, const struct dialect *by)
{
	static const size_t chunks[] = {1, 2, 3, 7, 64, 4096};
	AUTO(buf) struct buf stream = BUF_INIT(OUT_BYTES);
	AUTO(buf) struct buf whole = BUF_INIT(OUT_BYTES);
	const struct dialect_target maker = {.provider = provider_find(STR("gemini")),
					     .dialect = &dialect_gemini,
					     .model = STR("gemini-3-pro")};
	const struct dialect_target t = {
		.provider = maker.provider, .dialect = by, .model = STR("m")};
	const struct call c = {.dialect = by, .usage_asked = true, .stream = true, .choices = 1};
	struct script script;
	struct facts all = {.usage = USAGE_NONE};
	struct usage usage;
	struct ear e;
	size_t events;

	script_make(d, &script, &usage);
	ear_begin(&e, d, &maker, &c);
	for (size_t i = 0; i < script.count; i++)
		ck_assert_int_eq(by->encode_deltas(&e.ctx, &script.events[i], &stream), RC_OK);
	ck_assert_int_eq(by->encode_end(&e.ctx, &usage, &stream), RC_OK);
	for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
		ear_begin(&e, d, &t, &c);
		events = ear_feed(&e, buf_str(&stream), chunks[i], SIZE_MAX);
		ck_assert(is_whole(&e));
		check_heard(d, by, "streamed", &script.means, &e.h);
		check_usage(d, by, &usage, &e.h.usage);
	}
	for (size_t n = 0; n < events;
	     n++) { /* cut behind each event: whole only where nothing is missing */
		ear_begin(&e, d, &t, &c);
		(void)ear_feed(&e, buf_str(&stream), 4096, n);
		if (is_whole(&e))
			check_heard(d, by, "cut", &script.means, &e.h);
	}
	for (size_t i = 0; i < script.count; i++)
		for (size_t j = 0; j < script.events[i].deltas_count; j++) {
			struct chat_delta *to = chat_delta_add(d->mem, &all, CHAT_DELTA_TEXT);

			*to = script.events[i].deltas[j];
		}
	all.usage = usage;
	ear_begin(&e, d, &maker, &c);
	ck_assert_int_eq(by->encode_response(&e.ctx, &all, &whole), RC_OK);
	ear_begin(&e, d, &t, &c);
	all = (struct facts){.usage = USAGE_NONE};
	ck_assert_int_eq(by->decode_response(&e.ctx, buf_str(&whole), &all), RC_OK);
	hear(d->mem, &e.h, &all);
	check_heard(d, by, "whole", &script.means, &e.h);
	check_usage(d, by, &usage, &e.h.usage);
}

START_TEST(answers_are_read_as_they_were_written)
{
	struct dice d;

	for (int i = 0; i < rounds(); i++) {
		dice_begin(&d, (uint64_t)i);
		answer_trip(&d, dialects[_i]);
		arena_free(d.mem);
	}
}
END_TEST

/* ---- seals ------------------------------------------------------------------------------------------------------------------ */

#define SECRET "c3RhdGUtb2YtaXRzLW1ha2Vy"

/* A history in the words of `by` whose seal, as its callers are given it, is of `maker`. */
static void sealed_body(struct dice *d, const struct tongue *by, const struct tongue *maker,
			struct buf *body)
{
	const bool responses = maker->d == &dialect_openai_responses;
	const bool chat = maker->d == &dialect_openai_chat;
	struct chat_opaque o = {.dialect = str_from(maker->d->name),
				.provider = str_from(maker->provider),
				.model = str_from(maker->model)};
	const char *rest = chat ? "[{\"type\":\"reasoning.encrypted\",\"data\":\"" SECRET "\"}]"
			   : responses ? "rs_1|" SECRET
				       : SECRET;
	const char *format;
	struct str seal;

	o.value =
		arena_printf(d->mem, "%s%s", by->d == &dialect_openai_responses ? "r|" : "", rest);
	seal = chat_opaque_wrap(d->mem, &o);
	format =
		by->d == &dialect_openai_chat
			? "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
			  "{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"t\","
			  "\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"t\","
			  "\"signature\":\"%.*s\"}]},{\"role\":\"user\",\"content\":\"q\"}]}"
		: by->d == &dialect_openai_responses
			? "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"q\"},"
			  "{\"type\":\"reasoning\",\"id\":\"rs_9\",\"summary\":[{\"type\":\"summary_text\","
			  "\"text\":\"t\"}],\"encrypted_content\":\"%.*s\"},"
			  "{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"q\"}]}"
		: by->d == &dialect_gemini
			? "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"q\"}]},"
			  "{\"role\":\"model\",\"parts\":[{\"text\":\"t\",\"thought\":true,"
			  "\"thoughtSignature\":\"%.*s\"},{\"text\":\"a\"}]},"
			  "{\"role\":\"user\",\"parts\":[{\"text\":\"q\"}]}]}"
			: "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
			  "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\","
			  "\"signature\":\"%.*s\"},{\"type\":\"text\",\"text\":\"a\"}]},"
			  "{\"role\":\"user\",\"content\":\"q\"}]}";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	ck_assert_int_eq(buf_printf(body, format, STR_FMT(seal)), RC_OK);
#pragma GCC diagnostic pop
}

/* For who makes seals of its own, and for everybody who may be asked next. */
START_TEST(a_seal_reaches_its_maker_and_nobody_else)
{
	static const size_t makers[] = {2, 6, 7, 9};
	const struct tongue *by = &tongues[_i % TONGUES];
	const struct tongue *maker = &tongues[makers[_i / TONGUES]];

	for (size_t i = 0; i < TONGUES; i++) {
		const struct tongue *to = &tongues[i];
		const struct dialect_target t = target_of(to);
		struct dice d;
		struct way w = {.body = BUF_INIT(OUT_BYTES)}, out = {.body = BUF_INIT(OUT_BYTES)};
		struct question q;
		bool home, sent;
		enum rc rc;

		dice_begin(&d, 0);
		sealed_body(&d, by, maker, &w.body);
		way_read(&w, by, false, d.mem, &q);
		if (to->d == by->d) {
			struct outgoing pass = {.body = &out.body};

			q.call.body_text = buf_str(&w.body);
			rc = to->d->encode_request(&q.call, &t, d.mem, &pass, &out.err);
			ck_assert_uint_eq(pass.pieces_count, 0);
		} else {
			way_write(&out, to, &q, d.mem);
			rc = out.rc;
		}
		ck_assert_msg(rc == RC_OK, "%s -> %s: %s", by->d->name, to->d->name,
			      out.err.message);
		home = to == maker;
		sent = str_find_str(buf_str(&out.body), STR(SECRET)) >= 0;
		ck_assert_msg(str_find_str(buf_str(&out.body), STR(CHAT_OPAQUE_MARK)) < 0,
			      "%s -> %s: %.*s", by->d->name, to->d->name,
			      STR_FMT(buf_str(&out.body)));
		/* wrapped although maker and caller speak alike, it may go home or be left out */
		ck_assert_msg(sent == home || (home && to->d == by->d), "%s of %s -> %s (%s): %.*s",
			      by->d->name, maker->d->name, to->d->name, to->model,
			      STR_FMT(buf_str(&out.body)));
		buf_clear(&w.body);
		buf_clear(&out.body);
		arena_free(d.mem);
	}
}
END_TEST

/* ---- bodies that are nothing but many small things ----------------------------------------------------------------------- */

/* A quarter of what is allowed, and of flow.c's arena of a request and what it keeps for small things. */
#define BODY_BYTES    (8u << 20)
#define REQUEST_BYTES (128u << 20)
#define RESERVE_BYTES (16u << 20)

static const struct {
	const struct dialect *d;
	const char *head, *each, *tail; /* each: with its number */
} hostile[] = {
	{&dialect_openai_chat, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[",
	 "{\"type\":\"x\"},", "{\"type\":\"x\"}]}]}"},
	{&dialect_openai_chat, "{\"model\":\"m\",", "\"k%07d\":1,",
	 "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}"},
	{&dialect_openai_chat, "{\"model\":\"m\",\"messages\":[",
	 "{\"role\":\"user\",\"name\":\"n%d\",\"content\":\"\"},",
	 "{\"role\":\"user\",\"content\":\"q\"}]}"},
	{&dialect_openai_responses, "{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":[",
	 "{\"type\":\"x\"},", "{\"type\":\"x\"}]}]}"},
	{&dialect_openai_responses, "{\"model\":\"m\",\"input\":[", "{\"type\":\"x%d\"},",
	 "{\"role\":\"user\",\"content\":\"q\"}]}"},
	{&dialect_openai_responses, "{\"model\":\"m\",\"input\":\"q\",\"tools\":[",
	 "{\"type\":\"x%d\"},", "{\"type\":\"x\"}]}"},
	{&dialect_openai_responses, "{\"model\":\"m\",\"input\":\"q\",\"include\":[", "\"x%d\",",
	 "\"x\"]}"},
	{&dialect_anthropic_messages,
	 "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],"
	 "\"output_config\":{",
	 "\"k%07d\":1,", "\"x\":1}}"},
	{&dialect_anthropic_messages,
	 "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[",
	 "{\"type\":\"x%d\"},", "{\"type\":\"text\",\"text\":\"q\"}]}]}"},
	{&dialect_anthropic_messages,
	 "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],"
	 "\"metadata\":{",
	 "\"k%07d\":1,", "\"x\":1}}"},
	{&dialect_gemini, "{\"contents\":[{\"parts\":[", "{\"x\":%d},", "{\"text\":\"q\"}]}]}"},
	{&dialect_gemini, "{\"contents\":[{\"parts\":[{", "\"k%07d\":1,", "\"text2\":\"q\"}]}]}"},
	{&dialect_gemini, "{\"contents\":[{\"parts\":[{\"text\":\"q\"}]}],\"generationConfig\":{",
	 "\"k%07d\":1,", "\"x\":1}}"},
	{&dialect_gemini, "{\"contents\":[{\"parts\":[{\"text\":\"q\"}]}],\"tools\":[",
	 "{\"x%d\":{}},", "{}]}"},
};

static void hostile_body(int which, int most, struct buf *body)
{
	char one[128];

	ck_assert_int_eq(buf_append(body, str_from(hostile[which].head)), RC_OK);
	for (int i = 0; i < most; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(one, sizeof one, hostile[which].each, i);
#pragma GCC diagnostic pop
		if (body->len + strlen(one) + 64 > BODY_BYTES)
			break;
		ck_assert_int_eq(buf_append(body, str_from(one)), RC_OK);
	}
	ck_assert_int_eq(buf_append(body, str_from(hostile[which].tail)), RC_OK);
}

/* Read, or refused in time and with words: it neither ends the process nor holds the loop. As many as are taken, and as many
 * as a body has room for. */
START_TEST(many_small_things_are_read_or_refused)
{
	static const int counts[] = {90000, INT32_MAX};
	const int which = _i / 2;
	const struct call_head head = {.model = STR("m")};
	AUTO(buf) struct buf body = BUF_INIT(BODY_BYTES + 4096);
	struct arena *mem = arena_new(REQUEST_BYTES);
	struct err err = {0};
	struct ask ask = {0};
	struct call c;
	enum rc rc;

	arena_reserve(mem, RESERVE_BYTES);
	hostile_body(which, counts[_i % 2], &body);
	rc = hostile[which].d->decode_request(&head, buf_str(&body), mem, &c, &err);
	if (rc == RC_OK)
		rc = hostile[which].d->decode_ask(&c, mem, &ask, &err);
	ck_assert_msg(rc == RC_OK || rc == RC_TOO_LARGE || rc == RC_INVALID, "%d", rc);
	ck_assert_uint_le(ask.chat.hints_count, 64);
	ck_assert_uint_le(ask.chat.needs_count, 64);
	arena_free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cross");
	TCase *t = tcase_create("questions");

	printf("CROSS_SEED=%llu\n", (unsigned long long)seed_of(0));
	tcase_add_loop_test(t, questions_survive_or_say_what_does_not, 0, TONGUES * TONGUES);
	suite_add_tcase(s, t);
	t = tcase_create("answers");
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, answers_are_read_as_they_were_written, 0, ARRAY_LEN(dialects));
	suite_add_tcase(s, t);
	t = tcase_create("seals");
	tcase_add_loop_test(t, a_seal_reaches_its_maker_and_nobody_else, 0, 4 * TONGUES);
	suite_add_tcase(s, t);
	t = tcase_create("hostile bodies");
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, many_small_things_are_read_or_refused, 0, 2 * ARRAY_LEN(hostile));
	suite_add_tcase(s, t);
	return suite_run(s);
}
