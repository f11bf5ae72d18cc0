/* routing/probe.c - is this endpoint there, does it take this key, and does it answer?
 *
 * One to three requests, one after the other, under one deadline: the question for the key, or the list of models; a
 * voice, where one must be named; the paid call. What an answer means is read in probe_read.c.
 *
 * Must never send anything that a tenant wrote but the key and a model's name, never log, never keep an answer. An
 * endpoint may say the key back: it is made unreadable before anything else looks at the body, and again in what is
 * handed on, where JSON's escapes are gone. */
#include "routing/probe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "routing/probe_read.h"
#include "routing/upstream.h"
#include "server/base/clock.h"
#include "server/egress.h"

#define PROBE_BODY_MAX (4u << 20)
#define PROBE_TREE_MAX                                                                             \
	(64u << 20) /* of one answer, parsed: past it the answer is nothing we know */
#define PROBE_CONNECT_MS 5000
#define PROBE_WORDS_MAX	 240

enum step { STEP_AUTH, STEP_LIST, STEP_VOICES, STEP_CALL };

struct probe {
	struct curlm *curlm;
	struct arena *mem;
	const struct profile *profile;
	const struct provider *provider;
	enum probe_action action;
	enum step step;
	struct str model, voice;
	struct candidate target;
	struct curlm_call *up;
	struct secret own;	 /* only while a further request will need it */
	struct secret_mark mark; /* an endpoint may say the key back */
	bool has_secret, audio;
	struct buf body;
	int status;
	int64_t sent_ms, deadline_ms;
	probe_cb *cb;
	void *arg;
};

/* ---- names ---------------------------------------------------------------------------------------- */

static const char *const actions[] = {"test_auth", "list_models", "test_text", "test_voice",
				      "list_voices"};

const char *probe_action_name(enum probe_action a)
{
	return actions[a];
}

enum rc probe_action_parse(struct str name, enum probe_action *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++)
		if (str_is(name, actions[i])) {
			*ret = (enum probe_action)i;
			return RC_OK;
		}
	return RC_INVALID;
}

const char *probe_health_name(enum probe_health h)
{
	static const char *const names[] = {"unknown", "ok", "degraded", "failed"};

	return names[h];
}

static enum rc cannot(struct err *err, const struct provider *p, const char *what)
{
	err_set(err, RC_UNSUPPORTED, "not_supported", "%s has no %s that could be tried", p->label,
		what);
	err_hint(err, "use test_auth or list_models%s",
		 p->text != PROVIDER_TEXT_NONE	   ? ", or test_text"
		 : p->voice != PROVIDER_VOICE_NONE ? ", or test_voice"
						   : "");
	err_field(err, "action");
	return RC_UNSUPPORTED;
}

enum rc probe_possible(const struct provider *p, enum probe_action action, struct str model,
		       struct err *err)
{
	const bool in_path = action == PROBE_TEXT && p->text == PROVIDER_TEXT_GEMINI;

	if (action == PROBE_TEXT && p->text == PROVIDER_TEXT_NONE)
		return cannot(err, p, "text call");
	if (action == PROBE_VOICE && p->voice == PROVIDER_VOICE_NONE)
		return cannot(err, p, "voice call");
	if (action == PROBE_VOICES && p->voice != PROVIDER_VOICE_ELEVENLABS)
		return cannot(err, p, "list of voices");
	if (model.len > 256 || (in_path && model.len > 0 && !egress_path_part_ok(model))) {
		err_set(err, RC_INVALID, "invalid_field", "this is no model's name at %s",
			p->label);
		err_field(err, "model");
		return RC_INVALID;
	}
	/* what a catalogue lists is not what can be called; what to speak with, no list tells */
	if (model.len == 0 && ((action == PROBE_VOICE && !p->voice_model) ||
			       (action == PROBE_TEXT && p->list_is_catalogue))) {
		err_set(err, RC_INVALID, "model_required",
			"%s does not tell which model to try: name it", p->label);
		err_hint(err, "\"model\": the id that your endpoint serves");
		err_field(err, "model");
		return RC_INVALID;
	}
	return RC_OK;
}

/* ---- the end ---------------------------------------------------------------------------------------- */

static struct str redacted(struct probe *p, struct str words)
{
	char *text = arena_strdup(p->mem, words);

	/* before it is cut: half a key would not be known again */
	secret_redact(&p->mark, text, words.len);
	return str_slice(str_of(text, words.len), 0, PROBE_WORDS_MAX);
}

static void finish(struct probe *p, struct probe_result *res)
{
	res->status = p->status;
	res->latency_ms = clock_mono_ms() - p->sent_ms;
	res->model = p->step == STEP_CALL ? p->model : STR_NULL;
	res->words = redacted(p, res->words);
	p->cb(p->arg, res);
	probe_cancel(p);
}

static void finish_failed(struct probe *p, enum probe_health health, const char *reason,
			  struct str words)
{
	struct probe_result res = {.health = health, .reason = reason, .words = words};

	finish(p, &res);
}

/* The endpoint answered, but refused. What it says of a paid call may be about the model, not the key. */
static void finish_refused(struct probe *p, enum error_class class, struct str words)
{
	const bool about_call = p->step == STEP_CALL &&
				(class == ERROR_invalid_request || class == ERROR_not_found);
	/* the question for the key is answered with yes, too, where the account may do little with it */
	const bool key_is_good =
		p->action == PROBE_AUTH && probe_health_of(class) == PROBE_DEGRADED;
	struct probe_result res = {
		.ok = key_is_good,
		.health = about_call ? PROBE_UNKNOWN : probe_health_of(class),
		.about_call = about_call,
		.reason = error_class_name(class),
		.words = arena_printf(p->mem, "the endpoint answered %d%s%.*s", p->status,
				      words.len > 0 ? ": " : "", STR_FMT(words)),
	};

	finish(p, &res);
}

static void finish_no_answer(struct probe *p, enum rc rc, const struct err *err)
{
	struct str words = str_from(err && err->message[0] ? err->message : rc_name(rc));

	switch (rc) {
	case RC_TIMEOUT:
		finish_failed(p, PROBE_UNKNOWN, "timeout",
			      STR("the endpoint did not answer in time"));
		break;
	case RC_DENIED:
		finish_failed(p, PROBE_FAILED, "egress", words);
		break;
	case RC_PROTOCOL:
		if (err && err->code && str_is(str_from(err->code), "upstream_redirect"))
			finish_failed(
				p, PROBE_FAILED, "redirect",
				STR("the endpoint sends elsewhere, and redirects are not followed"));
		else
			finish_failed(p, PROBE_FAILED, "protocol", words);
		break;
	case RC_TOO_LARGE:
		finish_failed(p, PROBE_FAILED, "protocol", STR("the answer is too large"));
		break;
	case RC_UNAVAILABLE: /* a bound on our own side */
		finish_failed(p, PROBE_UNKNOWN, "overloaded", words);
		break;
	default:
		finish_failed(p, PROBE_UNKNOWN, "network", words);
		break;
	}
}

/* ---- the steps ---------------------------------------------------------------------------------------- */

static void on_head(void *arg, const struct curlm_response *r)
{
	struct probe *p = arg;

	p->status = r->status;
	p->audio = str_starts(r->content_type, STR("audio/")) ||
		   str_starts(r->content_type, STR("application/octet-stream"));
}

static bool on_body(void *arg, struct str bytes)
{
	struct probe *p = arg;

	return buf_append(&p->body, bytes) == RC_OK; /* past the cap curlm ends it */
}

static void on_done(void *arg, enum rc rc, const struct err *err);

static bool is_last(const struct probe *p)
{
	return p->step == STEP_CALL || p->action == PROBE_MODELS || p->action == PROBE_VOICES ||
	       (p->action == PROBE_AUTH &&
		!(p->step == STEP_AUTH && p->provider->auth_else_models));
}

static enum rc write_step(struct probe *p, struct str *path, struct str *body)
{
	*body = STR_NULL;
	switch (p->step) {
	case STEP_AUTH:
		*path = str_from(p->provider->path_auth);
		return RC_OK;
	case STEP_LIST:
		*path = str_from(p->provider->path_models);
		return RC_OK;
	case STEP_VOICES:
		*path = p->action == PROBE_VOICES ? STR("/v2/voices?page_size=100")
						  : STR("/v2/voices?page_size=1");
		return RC_OK;
	case STEP_CALL:
		if (p->action == PROBE_VOICE)
			return probe_write_voice(p->provider, p->model, p->voice, p->mem, path,
						 body);
		return probe_write_text(p->provider, p->model, p->mem, path, body);
	}
	return RC_INVALID;
}

/* Send the request of the step. RC_INVALID: what the endpoint listed cannot be asked for; RC_TIMEOUT: no time is left. */
static enum rc send_step(struct probe *p, const struct secret *secret)
{
	const int64_t now = clock_mono_ms(), left = p->deadline_ms - now;
	const struct curlm_handlers h = {on_head, on_body, on_done, p};
	struct upstream_request u = {
		.target = &p->target,
		.secret = secret,
		.timeouts = {.connect = left < PROBE_CONNECT_MS ? left : PROBE_CONNECT_MS,
			     .first_byte = left,
			     .idle = left,
			     .total = left},
		.body_bytes_max = PROBE_BODY_MAX,
	};

	if (left <= 0)
		return RC_TIMEOUT;
	TRY(write_step(p, &u.path, &u.body));
	p->status = 0;
	p->audio = false;
	p->sent_ms = now;
	buf_reset(&p->body);
	p->up = upstream_start(p->curlm, &u, &h, p->mem);
	return RC_OK;
}

static void next_step(struct probe *p, enum step step)
{
	enum rc rc;

	p->step = step;
	if (p->has_secret && p->own.len == 0) {
		finish_failed(p, PROBE_UNKNOWN, "overloaded", STR("no room to keep the key"));
		return;
	}
	rc = send_step(p, p->has_secret ? &p->own : NULL);
	if (is_last(p))
		secret_clear(&p->own);
	if (rc == RC_TIMEOUT)
		finish_no_answer(p, RC_TIMEOUT, NULL);
	else if (rc != RC_OK)
		finish_failed(p, PROBE_UNKNOWN, "invalid_request",
			      STR("the model's name cannot be put to this provider"));
}

static void on_auth(struct probe *p, const struct json *root)
{
	enum error_class class = probe_read_auth(p->provider, root);
	struct probe_result res = {
		.ok = class == ERROR_none || probe_health_of(class) == PROBE_DEGRADED,
		.health = probe_health_of(class),
		.reason = class == ERROR_none ? NULL : error_class_name(class),
	};

	if (class == ERROR_protocol)
		res.words = STR("the endpoint answered, but not as this provider does");
	else if (class == ERROR_quota)
		res.words = STR("the key is good, but nothing is left on its account");
	else if (class == ERROR_permission)
		res.words = STR("the key is good, but its team is blocked");
	else if (class != ERROR_none)
		res.words = STR("the provider says that this key is disabled or blocked");
	finish(p, &res);
}

static bool pattern_matches(const struct profile *profile, struct str model)
{
	for (size_t i = 0; i < profile->models_count; i++)
		if (str_glob(profile->models[i], model))
			return true;
	return profile->models_count == 0;
}

/* Of what the endpoint lists, one that the profile may use. */
static struct str pick(const struct probe *p, const struct str *models, size_t count)
{
	struct str *mine = ARENA_ARRAY(p->mem, struct str, count + 1);
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (pattern_matches(p->profile, models[i]))
			mine[n++] = models[i];
	return probe_pick_model(mine, n, p->action == PROBE_VOICE);
}

static void on_list(struct probe *p, const struct json *root)
{
	struct probe_result res = {.ok = true, .health = PROBE_OK};
	const struct str *models = NULL;

	if (probe_read_models(p->provider, root, p->mem, &models, &res.models_count) != RC_OK) {
		finish_failed(p, PROBE_FAILED, "protocol",
			      STR("the endpoint answered, but not with a list of models"));
		return;
	}
	for (size_t i = 0; i < res.models_count; i++) /* our own copies */
		secret_redact(&p->mark, (char *)models[i].ptr, models[i].len);
	if (p->action == PROBE_TEXT) {
		p->model = pick(p, models, res.models_count);
		if (p->model.len > 0)
			next_step(p, STEP_CALL);
		else
			finish_failed(
				p, PROBE_UNKNOWN, "not_found",
				STR("nothing that is listed looks like a model for text: name one"));
		return;
	}
	res.models = models;
	res.about_call = p->provider->list_is_public;
	res.listed = !p->provider->list_is_catalogue;
	finish(p, &res);
}

static void on_voice_list(struct probe *p, const struct json *root)
{
	struct probe_result res = {.ok = true, .health = PROBE_OK};

	if (probe_read_voices(root, p->mem, &res.voices, &res.voices_count) != RC_OK) {
		finish_failed(p, PROBE_FAILED, "protocol",
			      STR("the endpoint answered, but not with a list of voices"));
		return;
	}
	for (size_t i = 0; i < res.voices_count; i++) { /* our own copies */
		secret_redact(&p->mark, (char *)res.voices[i].id.ptr, res.voices[i].id.len);
		secret_redact(&p->mark, (char *)res.voices[i].name.ptr, res.voices[i].name.len);
	}
	finish(p, &res);
}

static void on_voices(struct probe *p, const struct json *root)
{
	if (p->action == PROBE_VOICES)
		on_voice_list(p, root);
	else if (probe_read_voice(root, p->mem, &p->voice) == RC_OK)
		next_step(p, STEP_CALL);
	else
		finish_failed(p, PROBE_UNKNOWN, "not_found",
			      STR("the endpoint lists no voice to speak with"));
}

static void on_call(struct probe *p, const struct json *root)
{
	struct probe_result res = {.ok = true, .health = PROBE_OK};

	if (p->action == PROBE_VOICE ? p->audio && p->body.len > 0
				     : probe_read_text(p->provider, root))
		finish(p, &res);
	else
		finish_failed(p, PROBE_FAILED, "protocol",
			      p->action == PROBE_VOICE
				      ? STR("the endpoint answered, but not with sound")
				      : STR("the endpoint answered, but not with a completion"));
}

static bool carries_error(const struct json *root)
{
	return json_type(root) == JSON_OBJECT && !json_is_null(json_get(root, "error"));
}

static void on_answer(struct probe *p, const struct json *root)
{
	enum error_class class;

	if (p->status / 100 == 2 && !carries_error(root)) {
		static void (*const on_step[])(struct probe *, const struct json *) = {
			[STEP_AUTH] = on_auth,
			[STEP_LIST] = on_list,
			[STEP_VOICES] = on_voices,
			[STEP_CALL] = on_call,
		};

		on_step[p->step](p, root);
		return;
	}
	class = probe_read_error(p->provider, p->status, buf_str(&p->body), root);
	if (p->step == STEP_AUTH && class == ERROR_permission && p->provider->auth_else_models)
		next_step(p, STEP_LIST);
	else
		finish_refused(p, class, probe_read_words(root, p->mem));
}

static void on_done(void *arg, enum rc rc, const struct err *err)
{
	struct probe *p = arg;
	struct json *root = NULL;
	struct arena *tree;

	p->up = NULL;
	if (rc != RC_OK) {
		finish_no_answer(p, rc, err);
		return;
	}
	secret_redact(&p->mark, p->body.ptr, p->body.len);
	/* Not in the asker's memory: what a stranger answers must not fill it, however often one asks. */
	tree = arena_new(PROBE_TREE_MAX);
	if (json_parse(buf_str(&p->body), JSON_ALLOW_DUPLICATES, tree, &root, NULL) != RC_OK)
		root = NULL; /* sound, HTML, nothing: each step says what it thinks of that */
	on_answer(p, root);  /* what is kept of it is copied */
	arena_free(tree);
}

/* ---- start and stop ------------------------------------------------------------------------------------- */

/* A model that the profile names word for word needs no list. */
static struct str named_model(const struct probe *p, struct str asked)
{
	if (asked.len > 0)
		return asked;
	if (p->action == PROBE_VOICE)
		return str_from(p->provider->voice_model);
	for (size_t i = 0; i < p->profile->models_count; i++)
		if (str_find(p->profile->models[i], '*') < 0 &&
		    probe_possible(p->provider, p->action, p->profile->models[i], NULL) == RC_OK)
			return p->profile->models[i];
	return STR_NULL;
}

static enum step first_step(const struct probe *p)
{
	switch (p->action) {
	case PROBE_AUTH:
		return p->provider->path_auth ? STEP_AUTH : STEP_LIST;
	case PROBE_TEXT:
		return p->model.len > 0 ? STEP_CALL : STEP_LIST;
	case PROBE_VOICE:
		return p->provider->voice == PROVIDER_VOICE_ELEVENLABS ? STEP_VOICES : STEP_CALL;
	case PROBE_VOICES:
		return STEP_VOICES;
	case PROBE_MODELS:
		break;
	}
	return STEP_LIST;
}

struct probe *probe_start(struct curlm *m, const struct profile *profile, enum probe_action action,
			  struct str model, const struct secret *secret, int64_t timeout_ms,
			  struct arena *mem, probe_cb *cb, void *arg)
{
	struct probe *p = calloc(1, sizeof *p);
	enum rc rc;

	if (!p)
		abort();
	if (timeout_ms > PROBE_MS)
		timeout_ms = PROBE_MS;
	*p = (struct probe){
		.curlm = m,
		.mem = mem,
		.profile = profile,
		.provider = profile->provider,
		.action = action,
		.target = {.profile = profile, .provider = profile->provider},
		.has_secret = secret && secret->len > 0,
		.mark = secret_mark(secret),
		.deadline_ms = clock_mono_ms() + (timeout_ms < 1 ? 1 : timeout_ms),
		.cb = cb,
		.arg = arg,
	};
	p->body = BUF_INIT(PROBE_BODY_MAX);
	p->model = named_model(p, model);
	p->step = first_step(p);
	/* no room for a copy: the step that would need it says so */
	if (p->has_secret && !is_last(p) && secret_from(secret_str(secret), &p->own) != RC_OK)
		p->own = SECRET_INIT;
	rc = send_step(p, p->has_secret ? secret : NULL);
	assert(rc == RC_OK); /* probe_possible() has judged the model */
	return p;
}

void probe_cancel(struct probe *p)
{
	if (!p)
		return;
	if (p->up)
		curlm_cancel(p->up);
	secret_clear(&p->own);
	buf_clear(&p->body);
	free(p);
}
