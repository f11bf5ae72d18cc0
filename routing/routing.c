/* routing/routing.c - the room's tables: paths, commands, start and stop, metrics, how an error reads. */
#include "routing/routing.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/dialect.h"
#include "billing/billing.h"
#include "routing/errors.h"
#include "routing/routing_priv.h"

/* ---- errors in the caller's dialect ------------------------------------------------------------- */

void routing_add_error_headers(struct http_request *r, const struct error_answer *a)
{
	char text[16];

	if (a->should_retry != RETRY_UNSAID)
		http_add_header(r, "x-should-retry",
				a->should_retry == RETRY_YES ? STR("true") : STR("false"));
	if (a->retry_after_s > 0) {
		snprintf(text, sizeof text, "%d", a->retry_after_s);
		http_add_header(r, "Retry-After", str_from(text));
	}
}

/* Whose client asks on this path: it reads its own dialect's errors and no other. */
static enum error_shape shape_of_path(struct http_request *r)
{
	if (str_starts(r->path, STR("/v1/messages")))
		return ERROR_SHAPE_ANTHROPIC;
	if (str_starts(r->path, STR("/v1beta/")) ||
	    (str_starts(r->path, STR("/v1/models")) &&
	     (str_is(r->method, "POST") || http_header(r, "x-goog-api-key").ptr)))
		return ERROR_SHAPE_GEMINI;
	if (str_starts(r->path, STR("/v1/models")) && http_header(r, "anthropic-version").ptr)
		return ERROR_SHAPE_ANTHROPIC;
	return ERROR_SHAPE_OPENAI;
}

static int render_error(struct http_request *r, enum rc rc, const struct err *err, struct buf *body)
{
	const enum error_shape shape = shape_of_path(r);
	struct error_answer a = error_answer(rc, err, shape);

	routing_add_error_headers(r, &a);
	if (shape == ERROR_SHAPE_ANTHROPIC)
		http_add_header(r, "request-id", str_from(r->id_text));
	return error_render(rc, err, r->id_text, shape, STR(""), body);
}

/* ---- the caller's own purse, on the data plane ------------------------------------------------------ */

static void handle_credits(struct http_request *r)
{
	billing_reply_credits(r, vault_principal(r)->org);
}

static void handle_generation(struct http_request *r)
{
	billing_reply_generation(r, vault_principal(r)->org, r->params[0]);
}

/* Calls: the path says the dialect, Gemini's also the model and whether to stream. */
static void handle_chat_completions(struct http_request *r)
{
	flow_begin(r, &dialect_openai_chat, &(struct call_head){0});
}

static void handle_responses(struct http_request *r)
{
	flow_begin(r, &dialect_openai_responses, &(struct call_head){0});
}

static void handle_input_tokens(struct http_request *r)
{
	flow_begin(r, &dialect_openai_input_tokens, &(struct call_head){0});
}

static void handle_messages(struct http_request *r)
{
	flow_begin(r, &dialect_anthropic_messages, &(struct call_head){0});
}

static void handle_count_tokens(struct http_request *r)
{
	flow_begin(r, &dialect_anthropic_count_tokens, &(struct call_head){0});
}

static void handle_gemini(struct http_request *r)
{
	const struct dialect *dialect = NULL;
	struct call_head head = {0};
	struct err e = {0};
	const enum rc rc = gemini_path(r->params[0], http_query(r, "alt"), &head, &dialect, &e);

	if (rc == RC_OK)
		flow_begin(r, dialect, &head);
	else
		http_reply_err(r, rc, &e);
}

static void handle_embeddings(struct http_request *r)
{
	flow_begin(r, &dialect_openai_embeddings, &(struct call_head){0});
}

static void handle_speech(struct http_request *r)
{
	flow_begin(r, &dialect_openai_speech, &(struct call_head){0});
}

static void handle_transcriptions(struct http_request *r)
{
	const struct call_head head = {.content_type = http_header(r, "content-type")};

	flow_begin(r, &dialect_openai_transcription, &head);
}

/* ---- tables --------------------------------------------------------------------------------------------- */

static_assert(BILLING_ROLE_OPERATOR == ROLE_OPERATOR && BILLING_ROLE_OWNER == ROLE_OWNER &&
		      BILLING_ROLE_ADMIN == ROLE_ADMIN &&
		      BILLING_ROLE_DEVELOPER == ROLE_DEVELOPER &&
		      BILLING_ROLE_FINANCE == ROLE_FINANCE && BILLING_ROLE_AUDITOR == ROLE_AUDITOR,
	      "roles are one set of bits, whoever names them");

#define READERS (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN | ROLE_DEVELOPER | ROLE_AUDITOR)
#define WRITERS (ROLE_OPERATOR | ROLE_OWNER | ROLE_ADMIN)
#define CALLERS ROLE_INFERENCE
#define ORG	"/admin/v1/orgs/{org}"

/* An hour slides; the largest limit bounds what is remembered of an actor (sql/migrations/0013). */
#define PER_HOUR(setting, value, words)                                                            \
	{                                                                                          \
		.name = (setting), .type = SETTING_INT, .def = (value), .min = 1, .max = 10000,    \
		.help = (words),                                                                   \
	}
static const struct setting settings[] = {
	PER_HOUR("credential_updates_per_hour", "10",
		 "profiles connected, rotated or moved by one actor of one org"),
	PER_HOUR("credential_tests_per_hour", "20", "profiles tested by one actor of one org"),
	PER_HOUR("credential_reads_per_hour", "50",
		 "single profiles read by one actor of one org; lists do not count"),
	SETTING_LAST};

static const struct endpoint endpoints[] = {
	{"POST", "/v1/chat/completions", SURFACE_DATA, CALLERS, 0, true, handle_chat_completions,
	 "A completion in the OpenAI chat dialect, streamed or not"},
	{"GET", "/v1/models", SURFACE_DATA, CALLERS, 0, false, handle_data_models,
	 "Models this key can ask for"},
	{"GET", "/v1/models/{id...}", SURFACE_DATA, CALLERS, 0, false, handle_data_model,
	 "One model"},
	{"POST", "/v1/models/{model...}", SURFACE_DATA, CALLERS, 0, true, handle_gemini,
	 "The same as below /v1beta: newer Gemini clients ask here"},
	{"GET", "/v1/credits", SURFACE_DATA, CALLERS, 0, false, handle_credits,
	 "The caller's own balance"},
	{"GET", "/v1/generations/{request_id}", SURFACE_DATA, CALLERS, 0, false, handle_generation,
	 "What one call cost"},

	{"POST", "/v1/responses", SURFACE_DATA, CALLERS, 0, true, handle_responses,
	 "A response in the OpenAI Responses dialect, streamed or not"},
	{"POST", "/v1/responses/input_tokens", SURFACE_DATA, CALLERS, 0, true, handle_input_tokens,
	 "How many tokens a response's input has"},
	{"GET", "/v1/responses/{id}", SURFACE_DATA, CALLERS, 0, false, handle_response_get,
	 "A stored response, from the provider that keeps it"},
	{"GET", "/v1/responses/{id}/input_items", SURFACE_DATA, CALLERS, 0, false,
	 handle_response_items, "What a stored response was made from"},
	{"DELETE", "/v1/responses/{id}", SURFACE_DATA, CALLERS, 0, false, handle_response_delete,
	 "Make the provider forget a stored response"},
	{"POST", "/v1/embeddings", SURFACE_DATA, CALLERS, 0, true, handle_embeddings,
	 "Vectors of texts, in the OpenAI dialect"},
	{"POST", "/v1/messages", SURFACE_DATA, CALLERS, 0, true, handle_messages,
	 "A message in Anthropic's dialect, streamed or not"},
	{"POST", "/v1/messages/count_tokens", SURFACE_DATA, CALLERS, 0, true, handle_count_tokens,
	 "How many tokens a message's input has"},
	{"POST", "/v1/audio/speech", SURFACE_DATA, CALLERS, 0, true, handle_speech,
	 "Speech from text: sound, or events with sound in them"},
	{"POST", "/v1/audio/transcriptions", SURFACE_DATA, CALLERS, 0, true, handle_transcriptions,
	 "Text from a recording"},
	{"POST", "/v1beta/models/{model...}", SURFACE_DATA, CALLERS, 0, true, handle_gemini,
	 "generateContent, streamGenerateContent and countTokens in Gemini's dialect"},
	{"GET", "/v1beta/models", SURFACE_DATA, CALLERS, 0, false, handle_gemini_models,
	 "Models this key can ask for, in Gemini's shape"},
	{"GET", "/v1beta/models/{model...}", SURFACE_DATA, CALLERS, 0, false, handle_gemini_model,
	 "One model, in Gemini's shape"},

	{"GET", ORG "/profiles", SURFACE_ADMIN, READERS, 0, false, handle_profile_list,
	 "Provider profiles, secrets masked"},
	{"POST", ORG "/profiles", SURFACE_ADMIN, WRITERS, 0, true, handle_profile_create,
	 "Connect a provider"},
	{"GET", ORG "/profiles/{profile}", SURFACE_ADMIN, READERS, 0, false, handle_profile_show,
	 "One profile"},
	{"PATCH", ORG "/profiles/{profile}", SURFACE_ADMIN, WRITERS, 0, true, handle_profile_change,
	 "Change a profile"},
	{"DELETE", ORG "/profiles/{profile}", SURFACE_ADMIN, WRITERS, 0, false,
	 handle_profile_revoke, "Revoke a profile, its secret with it"},
	{"PUT", ORG "/profiles/{profile}/default", SURFACE_ADMIN, WRITERS, 0, false,
	 handle_profile_default, "Make it the default"},
	{"POST", ORG "/profiles/{profile}/rotate", SURFACE_ADMIN, WRITERS, 0, true,
	 handle_profile_rotate, "Replace its secret"},
	{"POST", ORG "/profiles/{profile}/test", SURFACE_ADMIN, WRITERS, 0, true,
	 handle_profile_test, "Ask the endpoint"},
	{"GET", ORG "/routes", SURFACE_ADMIN, READERS, 0, false, handle_route_list, "Chains"},
	{"POST", ORG "/routes/explain", SURFACE_ADMIN, READERS, 0, true, handle_route_explain,
	 "Which chain would be used and why, without calling anyone"},
	{"GET", ORG "/routes/{name}", SURFACE_ADMIN, READERS, 0, false, handle_route_show,
	 "One chain"},
	{"PUT", ORG "/routes/{name}", SURFACE_ADMIN, WRITERS, 0, true, handle_route_put,
	 "Write a chain"},
	{"DELETE", ORG "/routes/{name}", SURFACE_ADMIN, WRITERS, 0, false, handle_route_delete,
	 "Delete a chain"},
	{"GET", ORG "/agents", SURFACE_ADMIN, READERS, 0, false, handle_agent_list, "Named agents"},
	{"GET", ORG "/agents/{name}", SURFACE_ADMIN, READERS, 0, false, handle_agent_show,
	 "One agent"},
	{"PUT", ORG "/agents/{name}", SURFACE_ADMIN, WRITERS, 0, true, handle_agent_put,
	 "Make or replace an agent"},
	{"DELETE", ORG "/agents/{name}", SURFACE_ADMIN, WRITERS, 0, false, handle_agent_delete,
	 "Delete an agent that no route names"},
	{"POST", ORG "/config/plan", SURFACE_ADMIN, WRITERS, 0, true, handle_config_plan,
	 "The difference between a document and the org"},
	{"POST", ORG "/config/apply", SURFACE_ADMIN, WRITERS, 0, true, handle_config_apply,
	 "Make the org what a document says, in one transaction"},
	{"GET", ORG "/models", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0, false, handle_org_models,
	 "Models this org can use, with capabilities, prices and through which profiles"},

	{"GET", "/admin/v1/providers", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0, false,
	 handle_provider_list, "Known providers"},
	{"GET", "/admin/v1/models", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0, false,
	 handle_model_list, "The platform's catalogue"},
	{"GET", "/admin/v1/models/{provider}/{model...}", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0,
	 false, handle_model_show, "One model"},
	{"PUT", "/admin/v1/models/{provider}/{model...}", SURFACE_ADMIN, ROLE_OPERATOR, 0, true,
	 handle_model_put, "Write a model"},
	{"GET", "/admin/v1/tiers", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0, false,
	 handle_tier_list, "Tiers and their rules"},
	{"GET", "/admin/v1/tiers/{tier}", SURFACE_ADMIN, READERS | ROLE_FINANCE, 0, false,
	 handle_tier_show, "One tier"},
	{"PUT", "/admin/v1/tiers/{tier}", SURFACE_ADMIN, ROLE_OPERATOR, 0, true, handle_tier_put,
	 "Make or replace a tier"},
	{"DELETE", "/admin/v1/tiers/{tier}", SURFACE_ADMIN, ROLE_OPERATOR, 0, false,
	 handle_tier_delete, "Delete a tier that no org has"},
	{.method = NULL}};

#define VALIDATE_HELP                                                                               \
	"ask every endpoint of a file, or of an org, whether it serves the models that use it\n\n"  \
	"  --config FILE   a YAML file of endpoints (- is stdin): asked from here, without a\n"     \
	"                  service and without a database\n"                                        \
	"  --org O         the active profiles of an org, asked by the running service;\n"          \
	"                  --profile P for one of them\n"                                           \
	"  --all           the active profiles of every org; with the others: all there are,\n"     \
	"                  which they ask anyway\n\n"                                               \
	"FILE:\n"                                                                                   \
	"  endpoints:                  # or a list of these, each with name:\n"                     \
	"    main:\n"                                                                               \
	"      provider: openai        # openai_compatible when left out\n"                         \
	"      base_url: https://...   # the provider's own when left out\n"                        \
	"      api_key_env: NAME       # or api_key_file: PATH; never the key itself\n"             \
	"      model_id: gpt-5-mini    # what is used when nobody says otherwise\n"                 \
	"      timeout_s: 10           # of one attempt; here ten seconds at most\n"                \
	"      retry: {max_retries: 0, backoff_s: 0.5}   # or both beside timeout_s\n"              \
	"  endpoint: {...}             # older files: one, without a name; or its URL, and the\n"   \
	"                              # other keys beside it\n"                                    \
	"  default: {endpoint: main, model_id: gpt-5-mini}\n"                                       \
	"  phases: {plan: {model_id: gpt-5}}\n"                                                     \
	"  agents: {writer: {phase: plan, endpoint: main, timeout_s: 5}}\n\n"                       \
	"Field by field, agent goes before its phase, phase before default, default before the\n"   \
	"endpoint's own. An endpoint is asked once, with the least patience of those who use it.\n" \
	"Addresses that are not public must stand in TOLLGATE_EGRESS_ALLOW.\n"                      \
	"Exit status: 0 all good, 1 a connection is bad, 2 usage or the file, 3 no service."

static const struct command commands[] = {
	{"profile",
	 "create | list | show | change | test | rotate | default | revoke  --org O [...]",
	 "provider profiles of an org", routing_command},
	{"route", "put | list | show | delete  --org O [...]", "chains of an org", routing_command},
	{"agent",
	 "put NAME [--default-model M] [--description D] [--status S] | list | show | delete  --org O",
	 "named agents of an org", routing_command},
	{"plan", "FILE [--prune] [--detailed-exitcode]",
	 "the difference between a YAML file and its org; FILE may be -. Exit status 0 also where there "
	 "is one; with --detailed-exitcode 0 none, 2 some, 1 failed, 3 not reached",
	 config_command},
	{"apply", "FILE [--prune] [--version N]",
	 "make the org what a YAML file says, all of it or nothing; N is the version that plan told",
	 config_command},
	{"model", "list | show | put  [PROVIDER MODEL]", "the platform's catalogue",
	 routing_command},
	{"explain",
	 "--org O --model M [--agent A] [--intent I] [--needs vision,tools] [--operation O]",
	 "which chain would be used and why, without calling anyone", routing_command},
	{"validate-connection", "--config FILE | --org O [--profile P] | --all", VALIDATE_HELP,
	 validate_command},
	{NULL, NULL, NULL, NULL}};

/* ---- life ---------------------------------------------------------------------------------------------------- */

static enum rc start(struct service *s, struct err *err)
{
	struct routing_service *rs = calloc(1, sizeof *rs);

	if (!rs)
		abort();
	s->state[MODULE_ROUTING] = rs;
	http_hooks.render_error = render_error;
	return RC_OK;
}

static void stop(struct service *s)
{
	free(s->state[MODULE_ROUTING]);
	s->state[MODULE_ROUTING] = NULL;
}

static enum rc worker_start(struct worker *w, struct err *err)
{
	struct routing_worker *rw = calloc(1, sizeof *rw);

	if (!rw)
		abort();
	rw->worker = w;
	w->state[MODULE_ROUTING] = rw;
	snapshot_worker_start(rw);
	revoke_start(rw);
	return RC_OK;
}

static void worker_stop(struct worker *w)
{
	struct routing_worker *rw = routing_worker(w);

	flow_end_all(rw);
	revoke_stop(rw);
	snapshot_worker_stop(rw);
	map_free(rw->cooldowns);
	free(rw);
	w->state[MODULE_ROUTING] = NULL;
}

static void on_change(struct worker *w, const struct change *c)
{
	snapshot_on_change(routing_worker(w), c);
	revoke_on_change(routing_worker(w), c);
}

static void metrics(struct service *s, struct metrics_out *m)
{
	struct routing_service *rs = s->state[MODULE_ROUTING];
	char labels[64];

	metrics_family(m, "tollgate_calls_total", "counter", "Calls that ended, by outcome");
	metrics_sample(m, "tollgate_calls_total", "outcome=\"answered\"",
		       (int64_t)counter_get(&rs->calls[0]));
	metrics_sample(m, "tollgate_calls_total", "outcome=\"failed\"",
		       (int64_t)counter_get(&rs->calls[1]));
	metrics_family(m, "tollgate_attempts_failed_total", "counter",
		       "Upstream attempts that failed, by class");
	for (int c = 1; c < ERROR_CLASS_COUNT; c++) {
		snprintf(labels, sizeof labels, "class=\"%s\"",
			 error_class_name((enum error_class)c));
		metrics_sample(m, "tollgate_attempts_failed_total", labels,
			       (int64_t)counter_get(&rs->attempts[c]));
	}
	metrics_family(m, "tollgate_fallbacks_total", "counter",
		       "Times a call went on to its next target");
	metrics_sample(m, "tollgate_fallbacks_total", "", (int64_t)counter_get(&rs->fallbacks));
	metrics_family(m, "tollgate_calls_revoked_total", "counter",
		       "Running calls ended because their key, org or profile was taken away");
	metrics_sample(m, "tollgate_calls_revoked_total", "", (int64_t)counter_get(&rs->revoked));
	metrics_family(m, "tollgate_tokens_total", "counter", "Tokens used, by direction");
	metrics_sample(m, "tollgate_tokens_total", "type=\"input\"",
		       (int64_t)counter_get(&rs->tokens_in));
	metrics_sample(m, "tollgate_tokens_total", "type=\"output\"",
		       (int64_t)counter_get(&rs->tokens_out));
	metrics_family(m, "tollgate_request_duration_seconds", "histogram",
		       "A call from its head to its end");
	metrics_hist(m, "tollgate_request_duration_seconds", "", &rs->duration);
	metrics_family(m, "tollgate_overhead_seconds", "histogram",
		       "Time spent in tollgate itself");
	metrics_hist(m, "tollgate_overhead_seconds", "", &rs->overhead);
	metrics_family(m, "tollgate_time_to_first_token_seconds", "histogram",
		       "To the first content of a stream");
	metrics_hist(m, "tollgate_time_to_first_token_seconds", "", &rs->first_event);
}

const struct module routing_module = {
	.name = "routing",
	.slot = MODULE_ROUTING,
	.settings = settings,
	.endpoints = endpoints,
	.commands = commands,
	.metrics = metrics,
	.start = start,
	.worker_start = worker_start,
	.worker_stop = worker_stop,
	.stop = stop,
	.on_change = on_change,
};
