/* test_holds.c - no bill is ever more than its hold, whatever is asked and whatever a provider says that was used; and
 * what cannot be held for is not sent to the platform's account. */
#include "billing/price_priv.h"
#include "routing/bound.h"
#include "routing/dialect.h"
#include "routing/plan.h"
#include "tests/unit/routing/fixture.h"

#define M	    1000000
#define ARENA_BYTES (8u << 20)
#define WALL_MS	    INT64_C(1795000000000)
#define LINES_MAX   160

struct catalogue {
	struct model_info info;
};

__attribute__((weak)) const struct model_info *catalogue_find(const struct catalogue *c,
							      struct str provider, struct str model)
{
	(void)provider;
	return c && str_eq(model, c->info.id) ? &c->info : NULL;
}

__attribute__((weak)) const char *billing_source_name(enum billing_source s)
{
	return s == BILLING_PLATFORM ? "platform" : "own";
}

static int64_t below(int64_t n)
{
	return n <= 0 ? 0 : random() % n;
}

static const struct str named_m[] = {STR("m")};

/* One profile that serves all, of the platform or of the org. */
struct world {
	struct profile profile;
	struct snapshot org, platform;
	struct catalogue catalogue;
	struct plan_input in;
	struct plan plan;
};

static void world_make(struct world *w, const char *provider, enum billing_source source,
		       const struct call *call, const struct price_book *book)
{
	struct snapshot *of = source == BILLING_PLATFORM ? &w->platform : &w->org;

	w->profile = (struct profile){.id = {.b = {1}},
				      .name = STR("p"),
				      .provider = provider_find(str_from(provider)),
				      .endpoint_ok = true,
				      .source = source,
				      .models = named_m,
				      .models_count = 1,
				      .status = STR("active"),
				      .has_secret = true};
	*of = (struct snapshot){.profiles = &w->profile, .profiles_count = 1};
	w->in = (struct plan_input){.call = call,
				    .input_tokens_max = (int64_t)call->body_bytes,
				    .input_is_window = call->media_by_url,
				    .org = &w->org,
				    .platform = &w->platform,
				    .catalogue = &w->catalogue,
				    .book = book,
				    .wall_ms = WALL_MS};
}

static const struct candidate *planned(struct world *w, struct arena *mem)
{
	ck_assert_int_eq(route_plan_build(&w->in, mem, &w->plan, NULL), RC_OK);
	ck_assert_uint_eq(w->plan.candidates_count, 1);
	return &w->plan.candidates[0];
}

/* ---- prices and usage at random --------------------------------------------------------------------- */

static struct price_row row(enum usage_class class, int64_t price, int64_t per)
{
	return (struct price_row){.provider = STR("openai"),
				  .model = STR("m"),
				  .version = 1,
				  .class = class,
				  .service_tier = STR(""),
				  .price_nano = price,
				  .per_units = per};
}

static const char *const tiers[] = {"", "flex", "priority"};

static struct price_book *random_book(void)
{
	struct price_row rows[LINES_MAX];
	struct price_book *b = NULL;
	size_t n = 0, base;
	const int64_t per = below(3) ? M : 1 + below(1000);

	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++)
		if (c == USAGE_in_text || c == USAGE_out_text || below(3) == 0)
			rows[n++] = row((enum usage_class)c, below(5000000), per);
	base = n;
	for (size_t i = 0; i < base; i++) {
		if (below(3) == 0) {
			rows[n] = rows[i];
			rows[n].band_min_input = 1 + below(3000);
			rows[n++].price_nano = below(9000000);
		}
		if (below(3) == 0) {
			rows[n] = rows[i];
			rows[n].service_tier = str_from(tiers[1 + below(2)]);
			rows[n++].price_nano = below(9000000);
		}
	}
	ck_assert_uint_le(n, LINES_MAX);
	ck_assert_int_eq(price_book_new(rows, n, &b, NULL), RC_OK);
	return b;
}

static struct call random_call(void)
{
	static const enum operation operations[] = {OPERATION_chat,   OPERATION_chat,
						    OPERATION_chat,   OPERATION_embeddings,
						    OPERATION_speech, OPERATION_transcription};
	static const uint32_t needs[] = {0, CAP_TOOLS, CAP_JSON, CAP_AUDIO_IN, CAP_VISION};
	static const struct dialect *const of[] = {
		[OPERATION_chat] = &dialect_openai_chat,
		[OPERATION_embeddings] = &dialect_openai_embeddings,
		[OPERATION_speech] = &dialect_openai_speech,
		[OPERATION_transcription] = &dialect_openai_transcription};
	struct call c = {.model = STR("m"), .choices = 1 + below(3)};

	c.operation = operations[below(ARRAY_LEN(operations))];
	c.dialect = of[c.operation];
	c.needs = CAP_TEXT | needs[below(ARRAY_LEN(needs))];
	c.body_bytes = (size_t)(60 + below(5000));
	c.text_bytes = c.body_bytes / 4;
	c.media_by_url = below(5) == 0;
	c.max_output = below(2) ? 0 : 1 + below(500);
	c.media_tokens_max = below(4) ? 0 : below(4000);
	c.counts.inputs = 1 + below(5);
	c.counts.chars = 1 + below(4096);
	c.counts.audio_ms = 1 + below(100000);
	c.counts.audio_ms_max = c.counts.audio_ms * 2;
	return c;
}

/* From modest to absurd, in any class. */
static struct usage random_usage(void)
{
	struct usage u = USAGE_NONE;

	for (unsigned c = 0; c < USAGE_CLASS_COUNT; c++)
		if (below(3) == 0)
			u.n[c] = below(below(2) ? 300 : below(2) ? 100000 : USAGE_UNITS_MAX);
	u.present = true;
	strcpy(u.service_tier, tiers[below(3)]);
	return u;
}

/* As flow_charge.c does it. */
START_TEST(no_bill_is_more_than_its_hold)
{
	int rated = 0, cut = 0;

	srandom(41);
	for (int i = 0; i < 6000; i++) {
		struct arena *mem = arena_new(ARENA_BYTES);
		struct price_book *book = random_book();
		struct call call = random_call();
		struct world w = {.plan = {0}};
		const struct candidate *c;

		w.catalogue.info = (struct model_info){.id = below(4) ? STR("m") : STR("other"),
						       .context_window = below(3) ? 8000 : 0,
						       .max_output = below(2) ? 400 : 0};
		world_make(&w, "openai", BILLING_PLATFORM, &call, book);
		c = planned(&w, mem);
		for (int k = 0; c->use && k < 20; k++) {
			struct usage u = random_usage();
			struct rating r = {.lines = 0};
			enum rc rc;

			bound_clamp(&c->bound, &u);
			rc = price_rate_within(c->price, c->hold, &u, &r);
			if (rc != RC_OK) { /* then the hold is taken, no more */
				ck_assert_msg(rc == RC_NOT_FOUND, "%d: operation %d, hold %lld", rc,
					      call.operation, (long long)c->hold.nano);
				continue;
			}
			ck_assert_int_le(r.amount.nano, c->hold.nano);
			rated++;
			cut += (u.flags & USAGE_FLAG_CLAMPED) != 0;
		}
		price_book_unref(book);
		arena_free(mem);
	}
	ck_assert_int_gt(rated, 10000); /* it was about something */
	ck_assert_int_gt(cut, 1000);
}
END_TEST

/* ---- what costs nothing, and what has no bound ------------------------------------------------------- */

START_TEST(to_count_tokens_is_held_for_by_nobody)
{
	static const struct dialect *const counts[] = {&dialect_anthropic_count_tokens,
						       &dialect_gemini_count_tokens,
						       &dialect_openai_input_tokens};
	static const char *const at[] = {"anthropic", "gemini", "openai"};

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		struct call call = {.dialect = counts[i],
				    .operation = OPERATION_count_tokens,
				    .model = STR("unheard-of"),
				    .choices = 1,
				    .needs = CAP_TEXT | CAP_TOOLS,
				    .body_bytes = 100000,
				    .media_by_url = true,
				    .beyond_hold = "tools"};
		struct arena *mem = arena_new(ARENA_BYTES);
		static const struct str named[] = {STR("unheard-of")};
		struct world w = {.plan = {0}};
		const struct candidate *c;

		world_make(&w, at[i], BILLING_PLATFORM, &call, NULL); /* no price at all */
		w.profile.models = named;
		w.in.available_known = true; /* of which there is nothing */
		c = planned(&w, mem);
		ck_assert_msg(c->use, "%s: %s", at[i], c->reason);
		ck_assert_int_eq(c->hold.nano, 0);
		arena_free(mem);
	}
}
END_TEST

START_TEST(what_has_no_bound_is_for_ones_own_account)
{
	static const struct {
		const char *provider, *model, *field, *want;
	} cases[] = {
		{"openai", "m", "tools", "tools"},	   {"openai", "m", NULL, NULL},
		{"openrouter", "m:online", NULL, "model"}, {"openrouter", "m:free", NULL, NULL},
		{"openai", "m:online", NULL, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str named[] = {str_from(cases[i].model)};
		const struct price_row rows[] = {
			{str_from(cases[i].provider), named[0], 1, USAGE_in_text, 0, STR(""), M, M},
			{str_from(cases[i].provider), named[0], 1, USAGE_out_text, 0, STR(""), M,
			 M},
			{str_from(cases[i].provider), named[0], 1, USAGE_searches, 0, STR(""), M,
			 1}};
		struct call call = {.dialect = &dialect_openai_chat,
				    .model = named[0],
				    .choices = 1,
				    .needs = CAP_TEXT,
				    .body_bytes = 100,
				    .beyond_hold = cases[i].field};
		struct arena *mem = arena_new(ARENA_BYTES);
		struct price_book *book = NULL;
		struct err err = {0};

		ck_assert_int_eq(price_book_new(rows, ARRAY_LEN(rows), &book, NULL), RC_OK);
		for (int own = 0; own < 2; own++) {
			struct world w = {.plan = {0}};
			const struct candidate *c;

			world_make(&w, cases[i].provider, own ? BILLING_BYOK : BILLING_PLATFORM,
				   &call, book);
			w.profile.models = named;
			c = planned(&w, mem);
			ck_assert_int_eq(c->use, own || !cases[i].want);
			if (c->use)
				continue;
			ck_assert_str_eq(c->reason, "price_unknown");
			ck_assert_str_eq(w.plan.refusal, "unsupported_parameter");
			ck_assert_int_eq(route_plan_refused(&w.plan, &err), RC_INVALID);
			ck_assert_str_eq(err.code, "unsupported_parameter");
			ck_assert_str_eq(err.field, cases[i].want);
			ck_assert_ptr_nonnull(strstr(err.message, cases[i].want));
			ck_assert_str_ne(err.hint, "");
		}
		price_book_unref(book);
		arena_free(mem);
	}
}
END_TEST

/* ---- how each dialect says it ------------------------------------------------------------------------ */

static const struct {
	const struct dialect *dialect;
	const char *body, *want;
} asked[] = {
#define CHAT(rest) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" rest "}"
	{&dialect_openai_chat, CHAT(""), NULL},
	{&dialect_openai_chat,
	 CHAT(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"), NULL},
	{&dialect_openai_chat,
	 CHAT(",\"tools\":[{\"type\":\"custom\",\"custom\":{\"name\":\"f\"}}]"), NULL},
	{&dialect_openai_chat,
	 CHAT(",\"tools\":[{\"type\":\"builtin_function\",\"function\":{\"name\":\"$web_search\"}}]"),
	 "tools"},
	{&dialect_openai_chat, CHAT(",\"web_search_options\":{}"), "web_search_options"},
	{&dialect_openai_chat, CHAT(",\"web_search_options\":null,\"plugins\":[],\"models\":[]"),
	 NULL},
	{&dialect_openai_chat, CHAT(",\"plugins\":[{\"id\":\"web\"}]"), "plugins"},
	{&dialect_openai_chat, CHAT(",\"models\":[\"dear/model\"]"), "models"},
	{&dialect_openai_chat, CHAT(",\"search_parameters\":{\"mode\":\"auto\"}"),
	 "search_parameters"},
#define RESP(rest) "{\"model\":\"m\",\"input\":\"hi\"" rest "}"
	{&dialect_openai_responses, RESP(""), NULL},
	{&dialect_openai_responses,
	 RESP(",\"tools\":[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"custom\",\"name\":\"g\"},"
	      "{\"type\":\"local_shell\"},{\"type\":\"apply_patch\"},{\"type\":\"computer_use_preview\"},"
	      "{\"type\":\"shell\"},{\"type\":\"shell\",\"environment\":{\"type\":\"local\"}},"
	      "{\"type\":\"tool_search\",\"execution\":\"client\"}]"),
	 NULL},
	{&dialect_openai_responses, RESP(",\"tools\":[{\"type\":\"web_search\"}]"), "tools"},
	{&dialect_openai_responses,
	 RESP(",\"tools\":[{\"type\":\"web_search_preview_2025_03_11\"}]"), "tools"},
	{&dialect_openai_responses,
	 RESP(",\"tools\":[{\"type\":\"code_interpreter\",\"container\":{\"type\":\"auto\"}}]"),
	 "tools"},
	{&dialect_openai_responses, RESP(",\"tools\":[{\"type\":\"image_generation\"}]"), "tools"},
	{&dialect_openai_responses, RESP(",\"tools\":[{\"type\":\"mcp\",\"server_label\":\"x\"}]"),
	 "tools"},
	{&dialect_openai_responses, RESP(",\"tools\":[{\"type\":\"tool_search\"}]"), "tools"},
	{&dialect_openai_responses,
	 RESP(",\"tools\":[{\"type\":\"shell\",\"environment\":{\"type\":\"container_auto\"}}]"),
	 "tools"},
	{&dialect_openai_responses, RESP(",\"prompt\":{\"id\":\"pmpt_1\"}"), "prompt"},
#define ANT(rest)                                                                                      \
	"{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" rest \
	"}"
	{&dialect_anthropic_messages, ANT(""), NULL},
	{&dialect_anthropic_messages,
	 ANT(",\"tools\":[{\"name\":\"f\",\"input_schema\":{}},{\"type\":\"custom\",\"name\":\"g\",\"input_schema\":{}},"
	     "{\"type\":\"bash_20250124\",\"name\":\"bash\"},{\"type\":\"text_editor_20250728\",\"name\":\"e\"},"
	     "{\"type\":\"memory_20250818\",\"name\":\"memory\"},{\"type\":\"computer_20250124\",\"name\":\"computer\"}]"),
	 NULL},
	{&dialect_anthropic_messages,
	 ANT(",\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\",\"max_uses\":2}]"),
	 "tools"},
	{&dialect_anthropic_messages,
	 ANT(",\"tools\":[{\"type\":\"web_fetch_20260318\",\"name\":\"web_fetch\"}]"), "tools"},
	{&dialect_anthropic_messages,
	 ANT(",\"tools\":[{\"type\":\"code_execution_20260521\",\"name\":\"code_execution\"}]"),
	 "tools"},
	{&dialect_anthropic_messages,
	 ANT(",\"tools\":[{\"type\":\"advisor_20260301\",\"name\":\"advisor\"}]"), "tools"},
	{&dialect_anthropic_messages,
	 ANT(",\"mcp_servers\":[{\"type\":\"url\",\"url\":\"https://x\",\"name\":\"x\"}]"),
	 "mcp_servers"},
	{&dialect_anthropic_messages, ANT(",\"fallbacks\":[{\"model\":\"dear\"}]"), "fallbacks"},
	{&dialect_anthropic_messages, ANT(",\"speed\":\"fast\""), "speed"},
	{&dialect_anthropic_messages, ANT(",\"speed\":\"standard\",\"inference_geo\":\"global\""),
	 NULL},
	{&dialect_anthropic_messages, ANT(",\"inference_geo\":\"us\""), "inference_geo"},
#define GEM(rest) "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]}]" rest "}"
	{&dialect_gemini, GEM(""), NULL},
	{&dialect_gemini,
	 GEM(",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\"}]},{\"computerUse\":{}}]"),
	 NULL},
	{&dialect_gemini, GEM(",\"tools\":[{\"googleSearch\":{}}]"), "tools"},
	{&dialect_gemini,
	 GEM(",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\"}],\"codeExecution\":{}}]"),
	 "tools"},
	{&dialect_gemini, GEM(",\"tools\":[{\"url_context\":{}}]"), "tools"},
	{&dialect_gemini, GEM(",\"tools\":[{\"fileSearch\":{}}]"), "tools"},
	{&dialect_gemini, GEM(",\"tools\":[{\"googleMaps\":{}}]"), "tools"},
};

START_TEST(each_dialect_says_what_has_no_bound)
{
	const struct call_head head = {.model = asked[_i].dialect == &dialect_gemini ? STR("m")
										     : STR_NULL};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct call c = {0};
	struct err err = {0};

	ck_assert_msg(asked[_i].dialect->decode_request(&head, str_from(asked[_i].body), mem, &c,
							&err) == RC_OK,
		      "%s: %s", asked[_i].body, err.message);
	if (asked[_i].want) {
		ck_assert_msg(c.beyond_hold != NULL, "%s", asked[_i].body);
		ck_assert_str_eq(c.beyond_hold, asked[_i].want);
	} else {
		ck_assert_msg(c.beyond_hold == NULL, "%s: %s", asked[_i].body, c.beyond_hold);
	}
	arena_free(mem);
}
END_TEST

/* ---- the maximum that makes the bound true is really sent --------------------------------------------- */

#define CAP 777

/* The number under the one of its names that stands in the body; -1: none, or several that differ. */
static int64_t size_in(const struct json *root)
{
	static const char *const names[] = {"max_tokens", "max_completion_tokens",
					    "max_output_tokens"};
	const struct json *config = json_get(root, "generationConfig");
	int64_t n = -1, one;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (json_int(json_get(root, names[i]), &one))
			n = n < 0 || n == one ? one : INT64_MAX;
	if (json_int(json_get(config, "maxOutputTokens"), &one))
		n = n < 0 || n == one ? one : INT64_MAX;
	return n;
}

static void encode(const struct dialect *caller, const struct provider *p,
		   const struct provider_endpoint *e, const char *body, int64_t cap)
{
	const struct call_head head = {.model = caller == &dialect_gemini ? STR("m") : STR_NULL};
	const struct dialect_target t = {
		.provider = p, .dialect = e->dialect, .model = STR("m"), .max_output_cap = cap};
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(1u << 20);
	struct outgoing o = {.body = &out};
	struct ask *ask = ARENA_NEW(mem, struct ask);
	struct json *root = NULL;
	struct call c = {0};
	struct err err = {0};
	enum rc rc;

	ck_assert_int_eq(caller->decode_request(&head, str_from(body), mem, &c, &err), RC_OK);
	if (caller == e->dialect) {
		rc = e->dialect->encode_request(&c, &t, mem, &o, &err);
	} else {
		ask->operation = c.operation;
		ck_assert_int_eq(caller->decode_ask(&c, mem, ask, &err), RC_OK);
		rc = e->dialect->encode_ask(&c, ask, &t, mem, &o, &err);
	}
	ck_assert_msg(rc == RC_OK, "%s to %s of %s: %s", caller->name, e->dialect->name, p->id,
		      err.message);
	ck_assert_int_eq(json_parse(buf_str(&out), JSON_NO_DUPLICATES, mem, &root, &err), RC_OK);
	ck_assert_msg(size_in(root) == CAP, "%s to %s of %s: %s", caller->name, e->dialect->name,
		      p->id, out.ptr);
	buf_clear(&out);
	arena_free(mem);
}

/* Said by nobody it is put in; said by the caller it is his, whatever his dialect calls it. */
START_TEST(a_maximum_is_always_sent)
{
	static const struct {
		const struct dialect *caller;
		const char *silent, *says;
	} bodies[] = {
		{&dialect_openai_chat, CHAT(""), CHAT(",\"max_tokens\":777")},
		{&dialect_openai_chat, CHAT(",\"max_tokens\":null"),
		 CHAT(",\"max_completion_tokens\":777")},
		{&dialect_openai_responses, RESP(""), RESP(",\"max_output_tokens\":777")},
		{&dialect_openai_responses, RESP(",\"max_output_tokens\":null"), NULL},
		{&dialect_anthropic_messages, NULL,
		 "{\"model\":\"m\",\"max_tokens\":777,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"},
		{&dialect_gemini, GEM(""), GEM(",\"generationConfig\":{\"maxOutputTokens\":777}")},
		{&dialect_gemini,
		 GEM(",\"generationConfig\":{\"maxOutputTokens\":null,\"temperature\":1}"), NULL},
	};

	for (const struct provider *p = providers; p->id; p++)
		for (const struct provider_endpoint *e = p->endpoints; e->dialect; e++)
			for (size_t i = 0;
			     e->dialect->operation == OPERATION_chat && i < ARRAY_LEN(bodies);
			     i++) {
				if (bodies[i].silent)
					encode(bodies[i].caller, p, e, bodies[i].silent, CAP);
				if (bodies[i].says)
					encode(bodies[i].caller, p, e, bodies[i].says, 0);
			}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("routing/holds");
	TCase *t = tcase_create("holds");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, no_bill_is_more_than_its_hold);
	tcase_add_test(t, to_count_tokens_is_held_for_by_nobody);
	tcase_add_test(t, what_has_no_bound_is_for_ones_own_account);
	tcase_add_loop_test(t, each_dialect_says_what_has_no_bound, 0, ARRAY_LEN(asked));
	tcase_add_test(t, a_maximum_is_always_sent);
	suite_add_tcase(s, t);
	return suite_run(s);
}
