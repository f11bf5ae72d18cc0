/* routing/connections.c - who uses which endpoint with which model: the file's words, looked up field by field.
 *
 * Reading comes first (one struct of fields for each block of the file, every key known, every type right), then
 * resolving. Must never accept a secret in the file, nor repeat one that somebody wrote there. */
#include "routing/connections.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>

#define NAME_BYTES_MAX	64
#define TEXT_BYTES_MAX	512
#define TIMEOUT_MS_MAX	(3600 * 1000) /* a call's; a ping takes ten seconds of it at most */
#define BACKOFF_MS_MAX	(60 * 1000)
#define NOT_SAID	(-1)
#define WHERE_BYTES_MAX 96

/* ---- one block ----------------------------------------------------------------------------------------- */

struct fields { /* empty, or NOT_SAID: the block does not say */
	struct str name, endpoint, phase, provider, base_url, key_env, key_file, model_id;
	int64_t timeout_ms, max_retries, backoff_ms;
	const struct json *at; /* for errors */
};

enum group { /* which blocks have a field */
	     IN_ENDPOINT = 1,
	     IN_USE = 2,
	     IN_AGENT = 4,
	     IN_LIST = 8, /* an endpoint of a list: its name is a field */
	     IN_RETRY = 16
};
enum type { TEXT, NAME, ENV, SECONDS, COUNT };

static const struct field {
	const char *key;
	unsigned int groups;
	enum type type;
	size_t offset;
	int64_t min, max;
} table[] = {
#define AT(member) offsetof(struct fields, member)
	{"name", IN_LIST, NAME, AT(name), 0, 0},
	{"endpoint", IN_USE | IN_AGENT, NAME, AT(endpoint), 0, 0},
	{"phase", IN_AGENT, NAME, AT(phase), 0, 0},
	{"provider", IN_ENDPOINT | IN_LIST, NAME, AT(provider), 0, 0},
	{"base_url", IN_ENDPOINT | IN_LIST, TEXT, AT(base_url), 0, 0},
	{"api_key_env", IN_ENDPOINT | IN_LIST, ENV, AT(key_env), 0, 0},
	{"api_key_file", IN_ENDPOINT | IN_LIST, TEXT, AT(key_file), 0, 0},
	{"model_id", IN_ENDPOINT | IN_LIST | IN_USE | IN_AGENT, TEXT, AT(model_id), 0, 0},
	{"timeout_s", IN_ENDPOINT | IN_LIST | IN_USE | IN_AGENT, SECONDS, AT(timeout_ms), 100,
	 TIMEOUT_MS_MAX},
	{"max_retries", IN_ENDPOINT | IN_LIST | IN_USE | IN_AGENT | IN_RETRY, COUNT,
	 AT(max_retries), 0, CONNECTIONS_RETRIES_MAX},
	{"backoff_s", IN_ENDPOINT | IN_LIST | IN_USE | IN_AGENT | IN_RETRY, SECONDS, AT(backoff_ms),
	 0, BACKOFF_MS_MAX},
#undef AT
};

struct reader {
	const struct yaml_doc *doc;
	struct arena *mem;
	struct err *err;
};

static const struct fields nothing = {
	.timeout_ms = NOT_SAID, .max_retries = NOT_SAID, .backoff_ms = NOT_SAID};

/* Text that a terminal may see as it is. */
static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return false;
	return true;
}

/* Upper case alone, so that hardly any key passes for the name of a variable. */
static bool is_env_name(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!(s.ptr[i] == '_' || (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z') ||
		      (i > 0 && s.ptr[i] >= '0' && s.ptr[i] <= '9')))
			return false;
	return s.len > 0 && s.len <= 128;
}

/* "2", "0.25": in thousandths. */
static bool read_seconds(const struct json *v, int64_t *ret)
{
	AUTO(buf) struct buf text = BUF_INIT(128);
	struct str part, whole;
	int64_t n, thousandths = 0, unit = 100;

	if ((json_type(v) != JSON_INT && json_type(v) != JSON_REAL) ||
	    json_write(v, &text) != RC_OK)
		return false;
	part = buf_str(&text);
	whole = str_cut(&part, '.');
	if (whole.len > 9 || str_to_i64(whole, &n) != RC_OK || n < 0)
		return false;
	for (size_t i = 0; part.ptr && i < part.len; i++, unit /= 10) {
		if (part.ptr[i] < '0' || part.ptr[i] > '9' || (unit == 0 && part.ptr[i] != '0'))
			return false;
		thousandths += unit * (part.ptr[i] - '0');
	}
	*ret = n * 1000 + thousandths;
	return true;
}

static const char *expected(enum type t)
{
	switch (t) {
	case TEXT:
		return "text of 1 to 512 characters";
	case NAME:
		return "a name of 1 to 64 characters";
	case ENV:
		return "the name of an environment variable, in upper case, such as OPENAI_API_KEY; "
		       "the key itself does not belong here";
	case SECONDS:
		return "a number of seconds";
	case COUNT:
		return "a whole number";
	}
	return "something else";
}

static bool read_value(const struct field *f, const struct json *v, struct fields *out)
{
	void *to = (char *)out + f->offset;
	int64_t n = 0;
	struct str s;

	if (f->type == SECONDS || f->type == COUNT) {
		if (!(f->type == COUNT ? json_int(v, &n) : read_seconds(v, &n)) || n < f->min ||
		    n > f->max)
			return false;
		memcpy(to, &n, sizeof n);
		return true;
	}
	if (!json_string(v, &s) || s.len == 0 || !is_printable(s) ||
	    s.len > (f->type == NAME ? NAME_BYTES_MAX : TEXT_BYTES_MAX) ||
	    (f->type == ENV && !is_env_name(s)))
		return false;
	memcpy(to, &s, sizeof s);
	return true;
}

static bool said(const struct field *f, const struct fields *in)
{
	const void *at = (const char *)in + f->offset;
	struct str s;
	int64_t n;

	if (f->type == SECONDS || f->type == COUNT) {
		memcpy(&n, at, sizeof n);
		return n != NOT_SAID;
	}
	memcpy(&s, at, sizeof s);
	return s.len > 0;
}

/* Keys under which people put a key. Compared without case, '-' and '_'. */
static bool is_secret_key(struct str key)
{
	static const char *const words[] = {
		"apikey",     "key",	      "secret",	       "token",	      "password",
		"passwd",     "accesstoken",  "authtoken",     "bearertoken", "secretkey",
		"accesskey",  "clientsecret", "authorization", "bearer",      "auth",
		"credential", "credentials",  "headers"};
	char squeezed[32];
	size_t n = 0;

	for (size_t i = 0; i < key.len; i++) {
		char c = key.ptr[i];

		if (c == '-' || c == '_')
			continue;
		if (n == sizeof squeezed)
			return false;
		squeezed[n++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (str_is(str_of(squeezed, n), words[i]))
			return true;
	return false;
}

static enum rc refuse_secret(struct reader *r, const struct json *v, const char *where,
			     struct str key)
{
	yaml_doc_bad(r->doc, v, r->err, "%s has \"%.*s\": a secret does not belong into this file",
		     where, STR_FMT(str_slice(key, 0, 32)));
	err_hint(r->err, "Write api_key_env: NAME for a key in the environment, or api_key_file: "
			 "PATH for one in a file that only you can read.");
	if (r->err)
		r->err->code = "inline_secret";
	return RC_INVALID;
}

static struct str known_keys(struct reader *r, unsigned int groups)
{
	AUTO(buf) struct buf out = BUF_INIT(512);
	enum rc rc = RC_OK;

	for (size_t i = 0; i < ARRAY_LEN(table) && rc == RC_OK; i++)
		if (table[i].groups & groups)
			rc = buf_printf(&out, "%s%s", out.len ? ", " : "", table[i].key);
	if (rc == RC_OK && !(groups & IN_RETRY))
		rc = buf_append(&out, STR(", retry"));
	return rc == RC_OK ? arena_str(r->mem, buf_str(&out)) : STR("");
}

static enum rc refuse_unknown(struct reader *r, const struct json *v, const char *where,
			      struct str key, struct str known)
{
	if (is_secret_key(key))
		return refuse_secret(r, v, where, key);
	yaml_doc_bad(r->doc, v, r->err, "%s has \"%.*s\", which is no key of it", where,
		     STR_FMT(str_slice(key, 0, 32)));
	err_hint(r->err, "known: %.*s", STR_FMT(known));
	return RC_INVALID;
}

static const struct field *field_find(struct str key, unsigned int groups)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if ((table[i].groups & groups) && str_is(key, table[i].key))
			return &table[i];
	return NULL;
}

static enum rc read_block(struct reader *r, const struct json *block, unsigned int groups,
			  const char *where, struct fields *ret);

static enum rc read_member(struct reader *r, struct str key, const struct json *v,
			   unsigned int groups, const char *where, struct fields *ret)
{
	const struct field *f = field_find(key, groups);
	char inner[WHERE_BYTES_MAX];

	if (!f && str_is(key, "retry") && !(groups & IN_RETRY)) {
		(void)snprintf(inner, sizeof inner, "%s.retry", where);
		return read_block(r, v, IN_RETRY, inner, ret);
	}
	if (!f)
		return refuse_unknown(r, v, where, key, known_keys(r, groups));
	if (json_is_null(v))
		return RC_OK; /* "timeout_s:" and nothing behind it says nothing */
	if (said(f, ret))
		return yaml_doc_bad(r->doc, v, r->err, "%s.%s is said twice", where, f->key);
	if (read_value(f, v, ret))
		return RC_OK;
	yaml_doc_bad(r->doc, v, r->err, "%s.%s must be %s", where, f->key, expected(f->type));
	if (f->type == SECONDS)
		err_hint(r->err, "from %lld.%lld to %lld seconds, thousandths at most",
			 (long long)f->min / 1000, (long long)f->min % 1000 / 100,
			 (long long)f->max / 1000);
	if (f->type == COUNT)
		err_hint(r->err, "from %lld to %lld", (long long)f->min, (long long)f->max);
	return RC_INVALID;
}

/* Adds to what `ret` has: a `retry` block is part of its owner. */
static enum rc read_block(struct reader *r, const struct json *block, unsigned int groups,
			  const char *where, struct fields *ret)
{
	struct json_iter it = json_iter(block);
	struct json *v;
	struct str key;

	if (json_type(block) != JSON_OBJECT)
		return yaml_doc_bad(r->doc, block, r->err, "%s must be a mapping", where);
	if (!ret->at)
		ret->at = block;
	while (json_next(&it, &key, &v))
		TRY(read_member(r, key, v, groups, where, ret));
	return RC_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------- */

struct named {
	struct str name;
	struct fields fields;
};
struct file {
	struct named *endpoints, *phases, *agents;
	size_t endpoints_count, phases_count, agents_count;
	ptrdiff_t fallback;  /* the endpoint of who names none; -1: there is none */
	struct fields first; /* default */
	bool has_default;
};

static enum rc check_name(struct reader *r, const struct json *v, const char *what, struct str name)
{
	if (name.len > 0 && name.len <= NAME_BYTES_MAX && is_printable(name))
		return RC_OK;
	return yaml_doc_bad(r->doc, v, r->err,
			    "%s: a name has 1 to %d characters, none of them a control character",
			    what, NAME_BYTES_MAX);
}

/* A mapping of names to blocks. */
static enum rc read_named(struct reader *r, const struct json *v, unsigned int groups,
			  const char *what, size_t max, struct named **ret, size_t *count)
{
	struct json_iter it = json_iter(v);
	char where[WHERE_BYTES_MAX];
	struct json *block;
	struct named *list;
	struct str name;
	size_t n = 0;

	if (json_is_null(v))
		return RC_OK;
	if (json_type(v) != JSON_OBJECT)
		return yaml_doc_bad(r->doc, v, r->err, "%s must be a mapping of names", what);
	if (json_len(v) > max)
		return yaml_doc_bad(r->doc, v, r->err, "%s: more than %zu", what, max);
	list = ARENA_ARRAY(r->mem, struct named, json_len(v) + 1);
	while (json_next(&it, &name, &block)) {
		TRY(check_name(r, block, what, name));
		(void)snprintf(where, sizeof where, "%s.%.*s", what, STR_FMT(name));
		list[n] = (struct named){.name = name, .fields = nothing};
		TRY(read_block(r, block, groups, where, &list[n++].fields));
	}
	*ret = list;
	*count = n;
	return RC_OK;
}

/* A list of blocks with `name`. */
static enum rc read_list(struct reader *r, const struct json *v, struct file *f)
{
	struct json_iter it = json_iter(v);
	char where[WHERE_BYTES_MAX];
	struct json *block;
	struct named *n;

	if (json_len(v) > CONNECTIONS_ENDPOINTS_MAX)
		return yaml_doc_bad(r->doc, v, r->err, "endpoints: more than %d",
				    CONNECTIONS_ENDPOINTS_MAX);
	f->endpoints = ARENA_ARRAY(r->mem, struct named, json_len(v) + 2);
	while (json_next(&it, NULL, &block)) {
		n = &f->endpoints[f->endpoints_count];
		n->fields = nothing;
		(void)snprintf(where, sizeof where, "endpoints[%zu]", f->endpoints_count);
		TRY(read_block(r, block, IN_LIST, where, &n->fields));
		n->name = n->fields.name;
		if (n->name.len == 0)
			return yaml_doc_bad(r->doc, block, r->err, "%s needs a name", where);
		for (size_t i = 0; i < f->endpoints_count; i++)
			if (str_eq(f->endpoints[i].name, n->name))
				return yaml_doc_bad(r->doc, block, r->err,
						    "the endpoint \"%.*s\" stands twice",
						    STR_FMT(n->name));
		f->endpoints_count++;
	}
	return RC_OK;
}

static ptrdiff_t index_of(const struct named *list, size_t count, struct str name)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(list[i].name, name))
			return (ptrdiff_t)i;
	return -1;
}

/* The one endpoint of older files: a block, or a URL with its fields beside it (`beside`). */
static enum rc read_legacy(struct reader *r, const struct json *v, const struct fields *beside,
			   struct file *f)
{
	struct named *grown, *n;

	if (index_of(f->endpoints, f->endpoints_count, STR("endpoint")) >= 0)
		return yaml_doc_bad(r->doc, v, r->err,
				    "\"endpoint\" stands here and under endpoints: keep one");
	grown = ARENA_ARRAY(r->mem, struct named, f->endpoints_count + 1);
	if (f->endpoints_count)
		memcpy(grown, f->endpoints, f->endpoints_count * sizeof *grown);
	f->endpoints = grown;
	f->fallback = (ptrdiff_t)f->endpoints_count;
	n = &grown[f->endpoints_count++];
	*n = (struct named){.name = STR("endpoint"), .fields = *beside};
	if (json_type(v) != JSON_STRING)
		return read_block(r, v, IN_ENDPOINT, "endpoint", &n->fields);
	n->fields.at = v;
	if (!read_value(field_find(STR("base_url"), IN_ENDPOINT), v, &n->fields))
		return yaml_doc_bad(r->doc, v, r->err, "endpoint must be %s", expected(TEXT));
	return RC_OK;
}

/* The outermost keys; those of the endpoint count only beside `endpoint: URL`. */
static enum rc read_outer(struct reader *r, const struct json *root, struct fields *beside)
{
	static const char *const blocks[] = {"endpoints", "endpoint", "default", "phases",
					     "agents"};
	const bool has_url = json_type(json_get(root, "endpoint")) == JSON_STRING;
	struct json_iter it = json_iter(root);
	struct json *v;
	struct str key;
	bool known;

	while (json_next(&it, &key, &v)) {
		known = false;
		for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
			known = known || str_is(key, blocks[i]);
		if (known)
			continue;
		if (!has_url || str_is(key, "base_url"))
			return refuse_unknown(r, v, "the file", key,
					      STR("endpoints, endpoint, default, phases, agents"));
		TRY(read_member(r, key, v, IN_ENDPOINT, "endpoint", beside));
	}
	return RC_OK;
}

static enum rc read_file(struct reader *r, struct file *f)
{
	const struct json *root = yaml_doc_root(r->doc);
	const struct json *list = json_get(root, "endpoints"), *one = json_get(root, "endpoint");
	const struct json *first = json_get(root, "default");
	struct fields beside = nothing;

	*f = (struct file){.fallback = -1, .first = nothing};
	if (json_type(root) == JSON_ARRAY)
		TRY(read_list(r, root, f));
	else if (json_type(root) != JSON_OBJECT)
		return yaml_doc_bad(r->doc, root, r->err,
				    "the file must be a list of endpoints, or a mapping with "
				    "endpoints or endpoint");
	TRY(json_type(root) == JSON_OBJECT ? read_outer(r, root, &beside) : RC_OK);
	if (json_type(list) == JSON_ARRAY && list)
		TRY(read_list(r, list, f));
	else
		TRY(read_named(r, list, IN_ENDPOINT, "endpoints", CONNECTIONS_ENDPOINTS_MAX,
			       &f->endpoints, &f->endpoints_count));
	if (!json_is_null(one))
		TRY(read_legacy(r, one, &beside, f));
	if (f->endpoints_count == 0) {
		yaml_doc_bad(r->doc, root, r->err, "there is no endpoint in it");
		err_hint(r->err, "Write endpoints: and below it a name with provider or base_url.");
		return RC_INVALID;
	}
	if (f->endpoints_count == 1)
		f->fallback = 0;
	f->has_default = !json_is_null(first);
	if (f->has_default)
		TRY(read_block(r, first, IN_USE, "default", &f->first));
	TRY(read_named(r, json_get(root, "phases"), IN_USE, "phases", CONNECTIONS_USES_MAX / 2,
		       &f->phases, &f->phases_count));
	return read_named(r, json_get(root, "agents"), IN_AGENT, "agents", CONNECTIONS_USES_MAX / 2,
			  &f->agents, &f->agents_count);
}

/* ---- endpoints ------------------------------------------------------------------------------------------ */

/* Whether it may be called is the asker's to judge. */
static enum rc resolve_address(struct reader *r, const struct named *n,
			       struct connection_endpoint *e)
{
	e->base_url = n->fields.base_url.len ? n->fields.base_url : str_from(e->provider->base_url);
	if (e->base_url.len > 0)
		return RC_OK;
	return yaml_doc_bad(r->doc, n->fields.at, r->err,
			    "the endpoint \"%.*s\" needs a base_url: %s has none of its own",
			    STR_FMT(n->name), e->provider->label);
}

static enum rc resolve_endpoint(struct reader *r, const struct named *n,
				struct connection_endpoint *e)
{
	const struct fields *f = &n->fields;

	*e = (struct connection_endpoint){.name = n->name,
					  .key_env = f->key_env,
					  .key_file = f->key_file,
					  .model_id = f->model_id};
	e->own.timeout_ms = f->timeout_ms == NOT_SAID ? CONNECTIONS_TIMEOUT_MS : f->timeout_ms;
	e->own.max_retries = f->max_retries == NOT_SAID ? 0 : f->max_retries;
	e->own.backoff_ms = f->backoff_ms == NOT_SAID ? CONNECTIONS_BACKOFF_MS : f->backoff_ms;
	e->ask = e->own;
	if (f->key_env.len && f->key_file.len)
		return yaml_doc_bad(
			r->doc, f->at, r->err,
			"the endpoint \"%.*s\" has api_key_env and api_key_file: keep one",
			STR_FMT(n->name));
	e->provider = provider_find(f->provider.len ? f->provider : STR("openai_compatible"));
	if (!e->provider) {
		yaml_doc_bad(r->doc, f->at, r->err,
			     "the endpoint \"%.*s\" names a provider that does not exist",
			     STR_FMT(n->name));
		err_hint(r->err, "openai, anthropic, gemini, grok, mistral, kimi, openrouter, "
				 "elevenlabs, or openai_compatible with a base_url; GET "
				 "/admin/v1/providers lists all");
		return RC_INVALID;
	}
	return resolve_address(r, n, e);
}

/* ---- uses ------------------------------------------------------------------------------------------------ */

#define LAYERS_MAX 3

const char *connection_user_name(enum connection_user u)
{
	static const char *const names[] = {"default", "phase", "agent"};

	return names[u];
}

static struct str text_of(const struct fields *const *layers, size_t offset)
{
	struct str s;

	for (size_t i = 0; i < LAYERS_MAX; i++) {
		if (!layers[i])
			continue;
		memcpy(&s, (const char *)layers[i] + offset, sizeof s);
		if (s.len > 0)
			return s;
	}
	return STR_NULL;
}

static int64_t number_of(const struct fields *const *layers, size_t offset, int64_t otherwise)
{
	int64_t n;

	for (size_t i = 0; i < LAYERS_MAX; i++) {
		if (!layers[i])
			continue;
		memcpy(&n, (const char *)layers[i] + offset, sizeof n);
		if (n != NOT_SAID)
			return n;
	}
	return otherwise;
}

struct resolver {
	struct reader *r;
	const struct file *file;
	struct connections *to;
	struct connection_use *uses;
};

static const struct fields *layer_saying_endpoint(const struct fields *const *layers)
{
	for (size_t i = 0; i < LAYERS_MAX; i++)
		if (layers[i] && layers[i]->endpoint.len)
			return layers[i];
	return NULL;
}

/* -1 when none is named and none goes without saying; RC_INVALID when the named one is not there. */
static enum rc endpoint_of(struct resolver *s, const struct fields *const *layers, ptrdiff_t *ret)
{
	const struct fields *by = layer_saying_endpoint(layers);

	*ret = s->file->fallback;
	if (!by)
		return RC_OK;
	*ret = index_of(s->file->endpoints, s->file->endpoints_count, by->endpoint);
	if (*ret >= 0)
		return RC_OK;
	return yaml_doc_bad(s->r->doc, json_get(by->at, "endpoint"), s->r->err,
			    "there is no endpoint \"%.*s\"", STR_FMT(by->endpoint));
}

/* What is missing is the agent's mistake; a phase or default may be there to be completed. */
static enum rc incomplete(struct resolver *s, const struct connection_use *u,
			  const struct fields *at, const char *what)
{
	if (u->user != CONNECTION_AGENT)
		return RC_OK;
	yaml_doc_bad(s->r->doc, at->at, s->r->err, "agents.%.*s has no %s", STR_FMT(u->name), what);
	err_hint(s->r->err, "Write %s there, in its phase, or in default.", what);
	return RC_INVALID;
}

static enum rc resolve_use(struct resolver *s, struct connection_use u,
			   const struct fields *const *layers, const struct fields *at)
{
	const struct connection_endpoint *e;
	ptrdiff_t i;

	TRY(endpoint_of(s, layers, &i));
	if (i < 0)
		return incomplete(s, &u, at, "endpoint");
	e = &s->to->endpoints[i];
	u.endpoint = (size_t)i;
	u.model = text_of(layers, offsetof(struct fields, model_id));
	if (u.model.len == 0)
		u.model = e->model_id;
	if (u.model.len == 0)
		return incomplete(s, &u, at, "model_id");
	u.tuning.timeout_ms =
		number_of(layers, offsetof(struct fields, timeout_ms), e->own.timeout_ms);
	u.tuning.max_retries =
		number_of(layers, offsetof(struct fields, max_retries), e->own.max_retries);
	u.tuning.backoff_ms =
		number_of(layers, offsetof(struct fields, backoff_ms), e->own.backoff_ms);
	s->uses[s->to->uses_count++] = u;
	return RC_OK;
}

static enum rc resolve_agent(struct resolver *s, const struct named *a)
{
	const struct file *f = s->file;
	struct connection_use u = {
		.user = CONNECTION_AGENT, .name = a->name, .phase = a->fields.phase};
	const struct fields *layers[LAYERS_MAX] = {&a->fields, NULL, &f->first};
	ptrdiff_t phase;

	if (u.phase.len) {
		phase = index_of(f->phases, f->phases_count, u.phase);
		if (phase < 0)
			return yaml_doc_bad(s->r->doc, json_get(a->fields.at, "phase"), s->r->err,
					    "there is no phase \"%.*s\"", STR_FMT(u.phase));
		layers[1] = &f->phases[phase].fields;
	}
	return resolve_use(s, u, layers, &a->fields);
}

static enum rc resolve_uses(struct resolver *s)
{
	const struct file *f = s->file;

	if (f->has_default) {
		const struct fields *layers[LAYERS_MAX] = {NULL, NULL, &f->first};

		TRY(resolve_use(s, (struct connection_use){.user = CONNECTION_DEFAULT}, layers,
				&f->first));
	}
	for (size_t i = 0; i < f->phases_count; i++) {
		const struct fields *layers[LAYERS_MAX] = {NULL, &f->phases[i].fields, &f->first};

		TRY(resolve_use(s,
				(struct connection_use){.user = CONNECTION_PHASE,
							.name = f->phases[i].name},
				layers, &f->phases[i].fields));
	}
	for (size_t i = 0; i < f->agents_count; i++)
		TRY(resolve_agent(s, &f->agents[i]));
	return RC_OK;
}

/* ---- what is wanted of each endpoint -------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void least_patient(const struct connections *c, struct connection_endpoint *e, size_t index)
{
	for (size_t i = 0; i < c->uses_count; i++) {
		const struct connection_tuning *t = &c->uses[i].tuning;

		if (c->uses[i].endpoint != index)
			continue;
		if (e->uses_count++ == 0)
			e->ask = *t;
		e->ask.timeout_ms = smaller(e->ask.timeout_ms, t->timeout_ms);
		e->ask.max_retries = smaller(e->ask.max_retries, t->max_retries);
		e->ask.backoff_ms = smaller(e->ask.backoff_ms, t->backoff_ms);
	}
}

static struct str user_words(struct arena *mem, const struct connection_use *u)
{
	if (u->user == CONNECTION_DEFAULT)
		return STR("default");
	return arena_printf(mem, "%s %.*s", connection_user_name(u->user), STR_FMT(u->name));
}

static bool is_user(const struct connection_use *u, size_t index, struct str model)
{
	return u->endpoint == index && str_eq(u->model, model);
}

static bool wanted_before(const struct connections *c, const struct connection_endpoint *e,
			  size_t index, size_t before, struct str model)
{
	if (str_eq(e->model_id, model))
		return true;
	for (size_t i = 0; i < before; i++)
		if (is_user(&c->uses[i], index, model))
			return true;
	return false;
}

static void model_add(const struct connections *c, struct connection_endpoint *e, size_t index,
		      struct str model, struct connection_model *m, struct arena *mem)
{
	size_t n = str_eq(e->model_id, model) ? 1 : 0;
	struct str *by;

	for (size_t i = 0; i < c->uses_count; i++)
		n += is_user(&c->uses[i], index, model);
	by = ARENA_ARRAY(mem, struct str, n + 1);
	*m = (struct connection_model){.id = model, .used_by = by};
	if (str_eq(e->model_id, model))
		by[m->used_by_count++] = STR("endpoint");
	for (size_t i = 0; i < c->uses_count; i++)
		if (is_user(&c->uses[i], index, model))
			by[m->used_by_count++] = user_words(mem, &c->uses[i]);
	e->models_count++;
}

static void resolve_models(const struct connections *c, size_t index, struct arena *mem)
{
	struct connection_endpoint *e = &c->endpoints[index];
	struct connection_model *list;

	least_patient(c, e, index);
	list = ARENA_ARRAY(mem, struct connection_model, e->uses_count + 1);
	e->models = list;
	if (e->model_id.len)
		model_add(c, e, index, e->model_id, &list[0], mem);
	for (size_t i = 0; i < c->uses_count; i++)
		if (c->uses[i].endpoint == index &&
		    !wanted_before(c, e, index, i, c->uses[i].model))
			model_add(c, e, index, c->uses[i].model, &list[e->models_count], mem);
}

enum rc connections_resolve(const struct yaml_doc *d, struct arena *mem, struct connections *ret,
			    struct err *err)
{
	struct reader r = {.doc = d, .mem = mem, .err = err};
	struct connections c = {.endpoints = NULL};
	struct resolver s = {.r = &r, .to = &c};
	struct file f;

	TRY(read_file(&r, &f));
	c.endpoints = ARENA_ARRAY(mem, struct connection_endpoint, f.endpoints_count);
	c.endpoints_count = f.endpoints_count;
	for (size_t i = 0; i < f.endpoints_count; i++)
		TRY(resolve_endpoint(&r, &f.endpoints[i], &c.endpoints[i]));
	s.file = &f;
	s.uses = ARENA_ARRAY(mem, struct connection_use, 1 + f.phases_count + f.agents_count);
	TRY(resolve_uses(&s));
	c.uses = s.uses;
	for (size_t i = 0; i < c.endpoints_count; i++)
		resolve_models(&c, i, mem);
	*ret = c;
	return RC_OK;
}
