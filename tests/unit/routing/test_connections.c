/* routing/connections.c: who gets which endpoint and model, field by field; every mistake and its line. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/connections.h"

static struct arena *mem;
static struct connections all;
static struct err err;

static void setup(void)
{
	mem = arena_new(64u << 20);
	err = (struct err){0};
}

static void teardown(void)
{
	arena_free(mem);
}

static enum rc resolve(const char *text)
{
	struct yaml_doc *doc;

	ck_assert_msg(yaml_doc_parse(str_from(text), "f.yaml", mem, &doc, &err) == RC_OK, "%s",
		      err.message);
	return connections_resolve(doc, mem, &all, &err);
}

/* "agent writer(plan)=main/m1 t=10000 r=0 b=500; " for each use. */
static const char *uses_text(void)
{
	AUTO(buf) struct buf out = BUF_INIT(65536);

	for (size_t i = 0; i < all.uses_count; i++) {
		const struct connection_use *u = &all.uses[i];
		struct str e = all.endpoints[u->endpoint].name;

		ck_assert(buf_printf(&out, "%s%s%.*s%s%.*s%s=%.*s/%.*s t=%d r=%d b=%d; ",
				     connection_user_name(u->user), u->name.len ? " " : "",
				     STR_FMT(u->name), u->phase.len ? "(" : "", STR_FMT(u->phase),
				     u->phase.len ? ")" : "", STR_FMT(e), STR_FMT(u->model),
				     (int)u->tuning.timeout_ms, (int)u->tuning.max_retries,
				     (int)u->tuning.backoff_ms) == RC_OK);
	}
	return arena_strdup(mem, buf_str(&out));
}

#define U     "base_url: https://h.example"
#define ONE   "endpoints: {a: {" U "}}\n"
#define TWO   "endpoints: {a: {" U ", model_id: am}, b: {" U "}}\n"
#define USUAL " t=10000 r=0 b=500; "

static const struct row {
	const char *file, *uses;
} rows[] = {
	/* the endpoint goes without saying where there is one */
	{ONE, ""},
	{ONE "default: {model_id: m}", "default=a/m" USUAL},
	{ONE "default: {endpoint: a, model_id: m}", "default=a/m" USUAL},
	{ONE "agents: {w: {model_id: m}}", "agent w=a/m" USUAL},
	{ONE "phases: {p: {model_id: m}}", "phase p=a/m" USUAL},
	/* default and phases may be incomplete: they are there to be completed */
	{TWO "default: {model_id: m}", ""},
	{TWO "default: {timeout_s: 3}\nagents: {w: {endpoint: b, model_id: m}}",
	 "agent w=b/m t=3000 r=0 b=500; "},
	{TWO "phases: {p: {endpoint: b}}", ""},
	{TWO "phases: {p: {endpoint: b}}\nagents: {w: {phase: p, model_id: m}}",
	 "agent w(p)=b/m" USUAL},
	/* the endpoint's own model comes last */
	{TWO "default: {endpoint: a}", "default=a/am" USUAL},
	{TWO "default: {endpoint: a, model_id: dm}", "default=a/dm" USUAL},
	{TWO "agents: {w: {endpoint: a}}", "agent w=a/am" USUAL},
	{TWO "default: {model_id: dm}\nagents: {w: {endpoint: a}}", "agent w=a/dm" USUAL},
	/* agent over phase over default, each field alone */
	{TWO
	 "default: {endpoint: a, model_id: dm}\nphases: {p: {model_id: pm}}\nagents: {w: {phase: p}}",
	 "default=a/dm" USUAL "phase p=a/pm" USUAL "agent w(p)=a/pm" USUAL},
	{TWO
	 "default: {endpoint: a, model_id: dm}\nphases: {p: {endpoint: b}}\nagents: {w: {phase: p}}",
	 "default=a/dm" USUAL "phase p=b/dm" USUAL "agent w(p)=b/dm" USUAL},
	{TWO "default: {endpoint: a, model_id: dm}\nphases: {p: {endpoint: b, model_id: pm}}\n"
	     "agents: {w: {phase: p, endpoint: a}}",
	 "default=a/dm" USUAL "phase p=b/pm" USUAL "agent w(p)=a/pm" USUAL},
	{TWO "default: {endpoint: a, model_id: dm}\nphases: {p: {endpoint: b, model_id: pm}}\n"
	     "agents: {w: {phase: p, model_id: wm}}",
	 "default=a/dm" USUAL "phase p=b/pm" USUAL "agent w(p)=b/wm" USUAL},
	{TWO "default: {endpoint: a, model_id: dm}\nphases: {p: {endpoint: b, model_id: pm}}\n"
	     "agents: {w: {phase: p, endpoint: a, model_id: wm}}",
	 "default=a/dm" USUAL "phase p=b/pm" USUAL "agent w(p)=a/wm" USUAL},
	/* an agent that names no phase knows none */
	{TWO "default: {endpoint: a, model_id: dm}\nphases: {p: {model_id: pm}}\nagents: {w: }",
	 NULL},
	{TWO "default: {endpoint: a, model_id: dm}\nphases: {p: {model_id: pm}}\nagents: {w: {}}",
	 "default=a/dm" USUAL "phase p=a/pm" USUAL "agent w=a/dm" USUAL},
	/* the tuning too */
	{"endpoints: {a: {" U ", timeout_s: 9, max_retries: 4, backoff_s: 1}}\n"
	 "default: {model_id: m}",
	 "default=a/m t=9000 r=4 b=1000; "},
	{"endpoints: {a: {" U ", timeout_s: 9, retry: {max_retries: 4, backoff_s: 1}}}\n"
	 "default: {model_id: m, retry: {max_retries: 3}}\n"
	 "phases: {p: {timeout_s: 2.5}}\nagents: {w: {phase: p, backoff_s: 0.25}}",
	 "default=a/m t=9000 r=3 b=1000; phase p=a/m t=2500 r=3 b=1000; "
	 "agent w(p)=a/m t=2500 r=3 b=250; "},
	{ONE "default: {model_id: m, timeout_s: 120}", "default=a/m t=120000 r=0 b=500; "},
	{ONE "default: {model_id: m, timeout_s: ~, max_retries: }", "default=a/m" USUAL},
	{ONE "default: {model_id: m, timeout_s: 0.100, backoff_s: 0}",
	 "default=a/m t=100 r=0 b=0; "},
	/* forms of the file */
	{"endpoints:\n- {name: a, " U "}\n- {name: b, " U
	 "}\nagents: {w: {endpoint: b, model_id: m}}",
	 "agent w=b/m" USUAL},
	{"- {name: a, " U ", model_id: m}\n- {name: b, " U "}\n", ""},
	{"endpoint: {" U ", model_id: m}\n", ""},
	{"endpoint: {" U ", model_id: m}\ndefault: {}\n", "default=endpoint/m" USUAL},
	{"endpoint: {" U ", model_id: m}\nagents: {w: {}, v: {model_id: vm}}\n",
	 "agent w=endpoint/m" USUAL "agent v=endpoint/vm" USUAL},
	{"endpoint: https://h.example/v1\nmodel_id: m\ntimeout_s: 4\nmax_retries: 1\nagents: {w: {}}\n",
	 "agent w=endpoint/m t=4000 r=1 b=500; "},
	/* both: the single one is what goes without saying */
	{TWO "endpoint: {" U ", model_id: m}\nagents: {w: {}, v: {endpoint: a}}\n",
	 "agent w=endpoint/m" USUAL "agent v=a/am" USUAL},
	{TWO "endpoint: {" U ", model_id: m}\nagents: {w: {endpoint: endpoint}}\n",
	 "agent w=endpoint/m" USUAL},
	{"endpoints: {}\nendpoint: {" U ", model_id: m}\nphases: ~\nagents: ~\ndefault: ~\n", ""},
};

START_TEST(who_gets_what)
{
	const struct row *r = &rows[_i];

	if (!r->uses) {
		ck_assert(resolve(r->file) == RC_INVALID);
		return;
	}
	ck_assert_msg(resolve(r->file) == RC_OK, "%s\n%s", r->file, err.message);
	ck_assert_str_eq(uses_text(), r->uses);
}
END_TEST

static const struct refusal {
	const char *file;
	size_t line;
	const char *words;
} refusals[] = {
	{"", 1, "must be a list"},
	{"words\n", 1, "must be a list"},
	{"{}\n", 1, "no endpoint"},
	{"[]\n", 1, "no endpoint"},
	{"endpoints: {}\n", 1, "no endpoint"},
	{"default: {model_id: m}\n", 1, "no endpoint"},
	{"endpoints: 3\n", 1, "endpoints must be a mapping"},
	{"endpoints:\n  a: 3\n", 2, "endpoints.a must be a mapping"},
	{"endpoints:\n- 3\n", 2, "endpoints[0] must be a mapping"},
	{"endpoints:\n- {" U "}\n", 2, "needs a name"},
	{"endpoints:\n- {name: a, " U "}\n- {name: a, " U "}\n", 3, "\"a\" stands twice"},
	{"endpoints: {'': {" U "}}\n", 1, "a name has"},
	{"endpoints: {a: {name: b, " U "}}\n", 1, "no key of it"},
	{ONE "agent: {}\n", 2, "\"agent\", which is no key"},
	{ONE "model_id: m\n", 2, "\"model_id\", which is no key"},
	{"endpoints:\n  a:\n    " U "\n    timeout: 5\n", 4, "\"timeout\", which is no key"},
	{ONE "agents:\n  w:\n    model_id: m\n    base_url: https://x\n", 5, "\"base_url\""},
	{ONE "default:\n  phase: p\n", 3, "\"phase\""},
	{"endpoints:\n  a: {" U ",\n    timeout_s: '5'}\n", 3, "timeout_s must be a number"},
	{"endpoints:\n  a: {" U ",\n    timeout_s: 0}\n", 3, "timeout_s must be"},
	{"endpoints:\n  a: {" U ",\n    timeout_s: 1e1}\n", 3, "timeout_s must be"},
	{"endpoints:\n  a: {" U ",\n    timeout_s: -1}\n", 3, "timeout_s must be"},
	{"endpoints:\n  a: {" U ",\n    timeout_s: 0.0001}\n", 3, "timeout_s must be"},
	{"endpoints:\n  a: {" U ",\n    timeout_s: 3601}\n", 3, "timeout_s must be"},
	{"endpoints:\n  a: {" U ",\n    max_retries: 1.5}\n", 3, "max_retries must be a whole"},
	{"endpoints:\n  a: {" U ",\n    max_retries: 11}\n", 3, "max_retries must be"},
	{"endpoints:\n  a: {" U ",\n    model_id: 5}\n", 3, "model_id must be text"},
	{"endpoints:\n  a: {" U ",\n    model_id: ''}\n", 3, "model_id must be text"},
	{"endpoints:\n  a: {" U ",\n    model_id: \"a\\tb\"}\n", 3, "model_id must be text"},
	{"endpoints:\n  a: {" U ",\n    retry: 3}\n", 3, "a.retry must be a mapping"},
	{"endpoints:\n  a: {" U ",\n    retry: {times: 3}}\n", 3, "\"times\""},
	{"endpoints:\n  a: {" U ", max_retries: 1,\n    retry: {max_retries: 3}}\n", 3,
	 "said twice"},
	{"endpoints:\n  a: {provider: nobody}\n", 2, "does not exist"},
	{"endpoints:\n  a: {provider: openai_compatible}\n", 2, "needs a base_url"},
	{"endpoints:\n  a: {}\n", 2, "needs a base_url"},
	{"endpoints:\n  a: {" U ", api_key_env: A, api_key_file: b}\n", 2, "keep one"},
	{TWO "agents:\n  w: {model_id: m}\n", 3, "agents.w has no endpoint"},
	{TWO "agents:\n  w: {endpoint: b}\n", 3, "agents.w has no model_id"},
	{TWO "agents:\n  w:\n    model_id: m\n    endpoint: c\n", 5, "no endpoint \"c\""},
	{TWO "default:\n  endpoint: c\n", 3, "no endpoint \"c\""},
	{TWO "agents:\n  w:\n    endpoint: a\n    phase: q\n", 5, "no phase \"q\""},
	{"endpoints: {endpoint: {" U "}}\nendpoint: {" U "}\n", 2, "keep one"},
	{"endpoint: https://h\nbase_url: https://i\n", 2, "\"base_url\""},
};

START_TEST(mistakes_name_their_line)
{
	const struct refusal *r = &refusals[_i];
	char where[32];

	snprintf(where, sizeof where, "f.yaml:%zu: ", r->line);
	ck_assert_msg(resolve(r->file) == RC_INVALID, "%s", r->file);
	ck_assert_str_eq(err.code, "invalid_yaml");
	ck_assert_msg(strncmp(err.message, where, strlen(where)) == 0, "%s\n%s", r->file,
		      err.message);
	ck_assert_msg(strstr(err.message, r->words), "%s\n%s", r->file, err.message);
}
END_TEST

START_TEST(a_secret_in_the_file_is_refused)
{
	static const char *const keys[] = {"api_key", "apiKey",	      "API-KEY",  "key",
					   "secret",  "token",	      "password", "authorization",
					   "headers", "access_token", "bearer"};
	char text[256];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		snprintf(text, sizeof text, "endpoints:\n  a:\n    " U "\n    %s: sk-fake-canary\n",
			 keys[i]);
		ck_assert(resolve(text) == RC_INVALID);
		ck_assert_str_eq(err.code, "inline_secret");
		ck_assert_msg(strncmp(err.message, "f.yaml:4: ", 10) == 0, "%s", err.message);
		ck_assert(strstr(err.hint, "api_key_env") && strstr(err.hint, "api_key_file"));
		ck_assert(!strstr(err.message, "canary") && !strstr(err.hint, "canary"));
		snprintf(text, sizeof text, ONE "agents: {w: {model_id: m, %s: sk-fake-canary}}\n",
			 keys[i]);
		ck_assert(resolve(text) == RC_INVALID);
		ck_assert_str_eq(err.code, "inline_secret");
		snprintf(text, sizeof text, ONE "%s: sk-fake-canary\n", keys[i]);
		ck_assert(resolve(text) == RC_INVALID);
		ck_assert_str_eq(err.code, "inline_secret");
	}
	/* where the name of a variable belongs, a key is not repeated either */
	ck_assert(resolve("endpoints: {a: {" U ", api_key_env: sk-fake-canary}}") == RC_INVALID);
	ck_assert(strstr(err.message, "name of an environment variable"));
	ck_assert(!strstr(err.message, "canary"));
	ck_assert(resolve("endpoints: {a: {" U ", api_key_env: lower_case}}") == RC_INVALID);
	ck_assert(resolve("endpoints: {a: {" U ", api_key_env: 1UP}}") == RC_INVALID);
	ck_assert(resolve("endpoints: {a: {" U ", api_key_env: A_1}}") == RC_OK);
}
END_TEST

START_TEST(endpoints_say_what_they_are)
{
	ck_assert(resolve("endpoints:\n"
			  "  a: {provider: openai, api_key_env: A}\n"
			  "  b: {base_url: 'https://h/v1/', api_key_file: /b}\n"
			  "  c: {provider: mistral, base_url: 'https://api.mistral.ai/v1/'}\n") ==
		  RC_OK);
	ck_assert_uint_eq(all.endpoints_count, 3);
	ck_assert_str_eq(all.endpoints[0].provider->id, "openai");
	ck_assert(str_is(all.endpoints[0].base_url, "https://api.openai.com/v1"));
	ck_assert(str_is(all.endpoints[0].key_env, "A") && all.endpoints[0].key_file.len == 0);
	ck_assert_str_eq(all.endpoints[1].provider->id, "openai_compatible");
	ck_assert(str_is(all.endpoints[1].base_url, "https://h/v1/"));
	ck_assert(str_is(all.endpoints[1].key_file, "/b"));
	ck_assert_str_eq(all.endpoints[2].provider->id, "mistral");
}
END_TEST

START_TEST(models_know_who_wants_them)
{
	const struct connection_endpoint *a, *b;

	ck_assert(resolve("endpoints: {a: {" U ", model_id: m1, timeout_s: 8}, b: {" U
			  ", timeout_s: 7}}\n"
			  "default: {endpoint: a}\n"
			  "phases: {p: {model_id: m2}}\n"
			  "agents:\n"
			  "  x: {phase: p, timeout_s: 3, max_retries: 2}\n"
			  "  y: {model_id: m1, timeout_s: 5, max_retries: 1, backoff_s: 2}\n") ==
		  RC_OK);
	a = &all.endpoints[0];
	b = &all.endpoints[1];
	ck_assert_uint_eq(a->models_count, 2);
	ck_assert(str_is(a->models[0].id, "m1") && str_is(a->models[1].id, "m2"));
	ck_assert_uint_eq(a->models[0].used_by_count, 3);
	ck_assert(str_is(a->models[0].used_by[0], "endpoint"));
	ck_assert(str_is(a->models[0].used_by[1], "default"));
	ck_assert(str_is(a->models[0].used_by[2], "agent y"));
	ck_assert_uint_eq(a->models[1].used_by_count, 2);
	ck_assert(str_is(a->models[1].used_by[0], "phase p"));
	ck_assert(str_is(a->models[1].used_by[1], "agent x"));
	/* the least patient of them is what the endpoint must please */
	ck_assert_int_eq(a->ask.timeout_ms, 3000);
	ck_assert_int_eq(a->ask.max_retries, 0);
	ck_assert_int_eq(a->ask.backoff_ms, 500);
	/* nobody uses b: its own word counts */
	ck_assert_uint_eq(b->models_count, 0);
	ck_assert_int_eq(b->ask.timeout_ms, 7000);
}
END_TEST

START_TEST(the_bounds_hold)
{
	AUTO(buf) struct buf text = BUF_INIT(1u << 20);

	ck_assert(buf_printf(&text, "endpoints:\n") == RC_OK);
	for (int i = 0; i < CONNECTIONS_ENDPOINTS_MAX; i++)
		ck_assert(buf_printf(&text, "  e%d: {" U "}\n", i) == RC_OK);
	ck_assert(resolve(text.ptr) == RC_OK);
	ck_assert(buf_printf(&text, "  more: {" U "}\n") == RC_OK);
	ck_assert(resolve(text.ptr) == RC_INVALID);
	buf_reset(&text);
	ck_assert(buf_printf(&text, ONE "agents:\n") == RC_OK);
	for (int i = 0; i < CONNECTIONS_USES_MAX / 2; i++)
		ck_assert(buf_printf(&text, "  a%d: {model_id: m%d}\n", i, i) == RC_OK);
	ck_assert(resolve(text.ptr) == RC_OK);
	ck_assert_uint_eq(all.endpoints[0].models_count, CONNECTIONS_USES_MAX / 2);
	ck_assert(buf_printf(&text, "  more: {model_id: m}\n") == RC_OK);
	ck_assert(resolve(text.ptr) == RC_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("connections");
	TCase *tc = tcase_create("connections");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 100); /* sanitizers on a loaded machine */
	tcase_add_loop_test(tc, who_gets_what, 0, ARRAY_LEN(rows));
	tcase_add_loop_test(tc, mistakes_name_their_line, 0, ARRAY_LEN(refusals));
	tcase_add_test(tc, a_secret_in_the_file_is_refused);
	tcase_add_test(tc, endpoints_say_what_they_are);
	tcase_add_test(tc, models_know_who_wants_them);
	tcase_add_test(tc, the_bounds_hold);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
