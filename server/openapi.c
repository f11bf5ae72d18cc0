/* server/openapi.c - tables of endpoints and the rooms' descriptions, merged into one OpenAPI 3.1 document.
 *
 * The table is the truth: nothing is described here that a row does not serve. The document holds nothing
 * of an installation (no address, no org, no setting), so that anybody may read it. */
#include "server/openapi.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/json.h"

#define OPENAPI_ROOMS_MAX    8
#define OPENAPI_MEMORY_MAX   (16u << 20)
#define OPENAPI_STATUSES_MAX 32

struct writer {
	const struct openapi_input *in;
	struct arena *mem;
	struct json *room[OPENAPI_ROOMS_MAX];
	const char *room_name[OPENAPI_ROOMS_MAX];
	size_t rooms;
	struct json_out o;
	struct buf *gaps;
};

/* What a fragment may hold, and what one operation in it may. */
static const char *const fragment_members[] = {"operations", "schemas",	    "parameters",
					       "responses",  "headers",	    "securitySchemes",
					       "document",   "data_servers"};
static const char *const operation_members[] = {
	"operationId", "description",  "tag",	       "query",		 "headers", "request",
	"status",      "response",     "errors",       "list",		 "plain",   "other",
	"streams",     "content_type", "request_type", "idempotency_key"};
static const char *const component_kinds[] = {"schemas", "parameters", "responses", "headers",
					      "securitySchemes"};

static void gap(struct writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void gap(struct writer *w, const char *fmt, ...)
{
	size_t before = w->gaps->len;
	enum rc rc;
	va_list ap;

	va_start(ap, fmt);
	rc = buf_vprintf(w->gaps, fmt, ap);
	va_end(ap);
	if (rc != RC_OK || buf_append_char(w->gaps, '\n') != RC_OK)
		w->gaps->len = before; /* full: what stands there is enough to act on */
}

/* ---- reading the fragments -------------------------------------------------------------------- */

static void check_members(struct writer *w, const struct json *v, const char *const *known,
			  size_t count, const char *where)
{
	struct json_iter it = json_iter(v);
	struct json *value;
	struct str key;

	while (json_next(&it, &key, &value)) {
		size_t i = 0;

		while (i < count && !str_is(key, known[i]))
			i++;
		if (i == count)
			gap(w, "%s: nobody reads \"%.*s\"", where, STR_FMT(key));
	}
}

static enum rc load(struct writer *w, struct err *err)
{
	char where[128];

	for (const struct openapi_fragment *f = w->in->fragments; f->room; f++) {
		struct json *v = NULL;

		assert(w->rooms < OPENAPI_ROOMS_MAX);
		if (json_parse(str_from(f->json), JSON_NO_DUPLICATES, w->mem, &v, err) != RC_OK) {
			struct err why = *err;

			return err_set(err, RC_INVALID, "bad_description", "%s/openapi.json: %s",
				       f->room, why.message);
		}
		snprintf(where, sizeof where, "%s/openapi.json", f->room);
		check_members(w, v, fragment_members, ARRAY_LEN(fragment_members), where);
		w->room_name[w->rooms] = f->room;
		w->room[w->rooms++] = v;
	}
	return RC_OK;
}

/* Member `key` of the object `kind` of any room. */
static const struct json *find(const struct writer *w, const char *kind, struct str key)
{
	for (size_t i = 0; i < w->rooms; i++) {
		const struct json *v = json_get_s(json_get(w->room[i], kind), key);

		if (v)
			return v;
	}
	return NULL;
}

static const struct json *description(const struct writer *w, const struct endpoint *e)
{
	return find(w, "operations", arena_printf(w->mem, "%s %s", e->method, e->path));
}

/* ---- small parts ------------------------------------------------------------------------------- */

static void put_ref(struct writer *w, const char *key, const char *kind, const char *name)
{
	json_obj(&w->o, key);
	json_put_str(&w->o, "$ref", arena_printf(w->mem, "#/components/%s/%s", kind, name));
	json_obj_end(&w->o);
}

/* Content of one media type. */
static void put_content(struct writer *w, const char *type, const struct json *schema)
{
	json_obj(&w->o, "content");
	json_obj(&w->o, type);
	json_put_value(&w->o, "schema", schema);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
}

static void put_header_id(struct writer *w)
{
	json_obj(&w->o, "headers");
	put_ref(w, "x-request-id", "headers", "x-request-id");
	json_obj_end(&w->o);
}

static bool says(const struct json *d, const char *what)
{
	bool yes = false;

	return json_bool(json_get(d, what), &yes) && yes;
}

/* "{model...}" is "{model}" to OpenAPI, which knows no parameter that runs to the end. */
static struct str path_of(const struct writer *w, const struct endpoint *e)
{
	char *out = arena_strdup(w->mem, str_from(e->path));
	char *dots;

	while ((dots = strstr(out, "...}")) != NULL)
		memmove(dots, dots + 3, strlen(dots + 3) + 1);
	return str_from(out);
}

/* The resource a path belongs to: "profiles" of /admin/v1/orgs/{org}/profiles/{profile}/test. */
static struct str tag_of(const struct endpoint *e, const struct json *d)
{
	struct str rest = str_from(e->path), tag = STR_NULL;

	if (json_string(json_get(d, "tag"), &tag))
		return tag;
	if (!(e->surface & SURFACE_ADMIN))
		return STR("data");
	if (!str_starts(rest, STR("/admin/v1/")))
		return STR("service");
	rest = str_slice(rest, 10, rest.len);
	if (str_starts(rest, STR("orgs/{org}/")))
		rest = str_slice(rest, 11, rest.len);
	return str_cut(&rest, '/');
}

/* ---- parameters -------------------------------------------------------------------------------- */

static void put_path_params(struct writer *w, const struct endpoint *e)
{
	struct str path = path_of(w, e);
	struct str rest = path;

	while (str_find(rest, '{') >= 0) {
		struct str name;

		(void)str_cut(&rest, '{');
		name = str_cut(&rest, '}');
		if (!find(w, "parameters", name))
			gap(w, "%s %s: no room describes the parameter {%.*s}", e->method, e->path,
			    STR_FMT(name));
		put_ref(w, NULL, "parameters", arena_strdup(w->mem, name));
	}
}

static void put_params_in(struct writer *w, const struct endpoint *e, const struct json *list,
			  const char *in)
{
	struct json_iter it = json_iter(list);
	struct json *v;
	struct str name;

	while (json_next(&it, &name, &v)) {
		if (!json_get(v, "description") || !json_get(v, "schema")) {
			gap(w, "%s %s: the parameter %.*s needs a description and a schema",
			    e->method, e->path, STR_FMT(name));
			continue;
		}
		json_obj(&w->o, NULL);
		json_put_str(&w->o, "name", name);
		json_put_z(&w->o, "in", in);
		json_put_value(&w->o, "description", json_get(v, "description"));
		json_put_value(&w->o, "schema", json_get(v, "schema"));
		json_obj_end(&w->o);
	}
}

static void put_params(struct writer *w, const struct endpoint *e, const struct json *d)
{
	json_arr(&w->o, "parameters");
	put_path_params(w, e);
	put_params_in(w, e, json_get(d, "query"), "query");
	put_params_in(w, e, json_get(d, "headers"), "header");
	if (says(d, "list")) {
		put_ref(w, NULL, "parameters", "limit");
		put_ref(w, NULL, "parameters", "cursor");
	}
	if ((e->surface & SURFACE_ADMIN) && strcmp(e->method, "POST") == 0)
		put_ref(w, NULL, "parameters",
			says(d, "idempotency_key") ? "idempotency-key-required"
						   : "idempotency-key");
	json_arr_end(&w->o);
}

/* ---- request and answers ------------------------------------------------------------------------ */

static void put_request(struct writer *w, const struct endpoint *e, const struct json *d)
{
	const struct json *schema = json_get(d, "request");
	struct str type = STR("application/json");

	if (!schema) {
		if (e->body_required)
			gap(w, "%s %s: needs a body, and no \"request\" describes it", e->method,
			    e->path);
		return;
	}
	json_obj(&w->o, "requestBody");
	json_put_bool(&w->o, "required", e->body_required);
	(void)json_string(json_get(d, "request_type"), &type);
	put_content(w, arena_strdup(w->mem, type), schema);
	json_obj_end(&w->o);
}

/* {"data": ..., "error": null, "meta": ...}, nothing else. */
static void put_envelope(struct writer *w, const struct json *schema, bool list)
{
	json_obj(&w->o, "content");
	json_obj(&w->o, "application/json");
	json_obj(&w->o, "schema");
	json_put_z(&w->o, "type", "object");
	json_put_raw(&w->o, "required", STR("[\"data\",\"error\",\"meta\"]"));
	json_put_bool(&w->o, "additionalProperties", false);
	json_obj(&w->o, "properties");
	json_put_value(&w->o, "data", schema);
	json_put_raw(&w->o, "error", STR("{\"type\":\"null\"}"));
	put_ref(w, "meta", "schemas", list ? "MetaPage" : "Meta");
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
	json_obj_end(&w->o);
}

static void put_plain(struct writer *w, const struct json *d, const struct json *schema)
{
	struct str type = STR("application/json");

	(void)json_string(json_get(d, "content_type"), &type);
	json_obj(&w->o, "content");
	json_obj(&w->o, arena_strdup(w->mem, type));
	json_put_value(&w->o, "schema", schema);
	json_obj_end(&w->o);
	if (says(d, "streams"))
		json_put_raw(&w->o, "text/event-stream", STR("{\"schema\":{\"type\":\"string\"}}"));
	json_obj_end(&w->o);
}

static void put_success(struct writer *w, const struct endpoint *e, const struct json *d)
{
	const struct json *schema = json_get(d, "response");
	int64_t status = 200;
	char key[16];

	(void)json_int(json_get(d, "status"), &status);
	snprintf(key, sizeof key, "%d", (int)status);
	json_obj(&w->o, key);
	json_put_z(&w->o, "description", status == 201 ? "Made." : "Done.");
	put_header_id(w);
	if (!schema)
		gap(w, "%s %s: no \"response\" describes its answer", e->method, e->path);
	else if ((e->surface & SURFACE_ADMIN) && !says(d, "plain"))
		put_envelope(w, schema, says(d, "list"));
	else
		put_plain(w, d, schema);
	json_obj_end(&w->o);
}

struct statuses {
	size_t count;
	int64_t of[OPENAPI_STATUSES_MAX];
};

static void add_status(struct statuses *s, int64_t status)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->of[i] == status)
			return;
	assert(s->count < OPENAPI_STATUSES_MAX);
	s->of[s->count++] = status;
}

/* The refusals that follow from the row itself, and those that the description adds. */
static void put_errors(struct writer *w, const struct endpoint *e, const struct json *d)
{
	static const int64_t authenticated[] = {400, 401, 403, 429, 503};
	static const int64_t with_body[] = {411, 413, 415};
	struct json_iter it = json_iter(json_get(d, "errors"));
	struct statuses s = {0};
	struct json *v;
	int64_t status;
	char name[16];

	for (size_t i = 0; e->roles != ROLES_ANYONE && i < ARRAY_LEN(authenticated); i++)
		add_status(&s, authenticated[i]);
	for (size_t i = 0; json_get(d, "request") && i < ARRAY_LEN(with_body); i++)
		add_status(&s, with_body[i]);
	if (strchr(e->path, '{'))
		add_status(&s, 404);
	while (json_next(&it, NULL, &v))
		if (json_int(v, &status))
			add_status(&s, status);
	for (size_t i = 0; i < s.count; i++) {
		snprintf(name, sizeof name, "%d", (int)s.of[i]);
		if (!find(w, "responses", str_from(name)))
			gap(w, "%s %s: no room describes the error %s", e->method, e->path, name);
		put_ref(w, name, "responses", name);
	}
}

/* Answers that are neither the success nor an error of the common form. */
static void put_other(struct writer *w, const struct json *d)
{
	struct json_iter it = json_iter(json_get(d, "other"));
	struct json *v;
	struct str status;

	while (json_next(&it, &status, &v)) {
		json_obj(&w->o, arena_strdup(w->mem, status));
		json_put_value(&w->o, "description", json_get(v, "description"));
		put_header_id(w);
		if (json_get(v, "schema"))
			put_content(w, "application/json", json_get(v, "schema"));
		json_obj_end(&w->o);
	}
}

static void put_responses(struct writer *w, const struct endpoint *e, const struct json *d)
{
	json_obj(&w->o, "responses");
	if (!d) {
		put_ref(w, "default", "responses", "400");
	} else {
		put_success(w, e, d);
		put_other(w, d);
		if (e->surface & SURFACE_ADMIN)
			put_errors(w, e, d);
		else
			put_ref(w, "default", "responses", "data");
	}
	json_obj_end(&w->o);
}

/* ---- operations ----------------------------------------------------------------------------------- */

static void put_who(struct writer *w, const struct endpoint *e)
{
	json_arr(&w->o, "x-roles");
	for (uint32_t bit = 1; bit; bit <<= 1) {
		const char *name =
			e->roles & bit && w->in->role_name ? w->in->role_name(bit) : NULL;

		if (name)
			json_put_z(&w->o, NULL, name);
	}
	json_arr_end(&w->o);
	if (e->roles == ROLES_ANYONE) {
		json_arr(&w->o, "security");
		json_arr_end(&w->o);
	}
}

static void put_listeners(struct writer *w, const struct endpoint *e)
{
	json_arr(&w->o, "x-listeners");
	if (e->surface & SURFACE_DATA)
		json_put_z(&w->o, NULL, "data");
	if (e->surface & SURFACE_ADMIN)
		json_put_z(&w->o, NULL, "admin");
	json_arr_end(&w->o);
	for (size_t i = 0; !(e->surface & SURFACE_ADMIN) && i < w->rooms; i++)
		if (json_get(w->room[i], "data_servers"))
			json_put_value(&w->o, "servers", json_get(w->room[i], "data_servers"));
}

static void put_operation(struct writer *w, const struct endpoint *e)
{
	const struct json *d = description(w, e);
	char where[256], method[16];
	size_t n = 0;

	while (n < sizeof method - 1 && e->method[n]) {
		method[n] = (char)(e->method[n] | 0x20); /* upper-case letters alone */
		n++;
	}
	method[n] = '\0';
	snprintf(where, sizeof where, "%s %s", e->method, e->path);
	if (d)
		check_members(w, d, operation_members, ARRAY_LEN(operation_members), where);
	else
		gap(w, "%s: no room's openapi.json describes it", where);
	json_obj(&w->o, method);
	if (json_get(d, "operationId"))
		json_put_value(&w->o, "operationId", json_get(d, "operationId"));
	else if (d)
		gap(w, "%s: no operationId", where);
	if (!d)
		json_put_bool(&w->o, "x-undescribed", true);
	json_put_z(&w->o, "summary", e->summary);
	if (json_get(d, "description"))
		json_put_value(&w->o, "description", json_get(d, "description"));
	json_arr(&w->o, "tags");
	json_put_str(&w->o, NULL, tag_of(e, d));
	json_arr_end(&w->o);
	if (strstr(e->path, "...}"))
		json_put_z(&w->o, "x-path", e->path);
	put_listeners(w, e);
	put_who(w, e);
	put_params(w, e, d);
	put_request(w, e, d);
	put_responses(w, e, d);
	json_obj_end(&w->o);
}

/* All methods of the path of `first`, if that is the first row with this path. */
static void put_path(struct writer *w, const struct endpoint *first)
{
	bool open = false;

	for (const struct endpoint *const *t = w->in->tables; *t; t++)
		for (const struct endpoint *e = *t; e->path; e++) {
			if (strcmp(e->path, first->path) != 0)
				continue;
			if (!open && e != first)
				return; /* written already */
			if (!open)
				json_obj(&w->o, path_of(w, first).ptr);
			open = true;
			put_operation(w, e);
		}
	json_obj_end(&w->o);
}

static void put_paths(struct writer *w)
{
	json_obj(&w->o, "paths");
	for (const struct endpoint *const *t = w->in->tables; *t; t++)
		for (const struct endpoint *e = *t; e->path; e++)
			put_path(w, e);
	json_obj_end(&w->o);
}

/* A description of what no table serves any more. */
static void check_stale(struct writer *w)
{
	for (size_t i = 0; i < w->rooms; i++) {
		struct json_iter it = json_iter(json_get(w->room[i], "operations"));
		struct json *v;
		struct str key;

		while (json_next(&it, &key, &v)) {
			bool served = false;

			for (const struct endpoint *const *t = w->in->tables; *t && !served; t++)
				for (const struct endpoint *e = *t; e->path && !served; e++)
					served = str_eq(key, arena_printf(w->mem, "%s %s",
									  e->method, e->path));
			if (!served)
				gap(w, "%.*s: described by %s/openapi.json, served by no table",
				    STR_FMT(key), w->room_name[i]);
			for (size_t k = 0; k < i; k++)
				if (json_get_s(json_get(w->room[k], "operations"), key))
					gap(w, "%.*s: described by %s and by %s", STR_FMT(key),
					    w->room_name[k], w->room_name[i]);
		}
	}
}

/* ---- the whole --------------------------------------------------------------------------------------- */

static void put_component_kind(struct writer *w, const char *kind)
{
	json_obj(&w->o, kind);
	for (size_t i = 0; i < w->rooms; i++) {
		struct json_iter it = json_iter(json_get(w->room[i], kind));
		struct json *v;
		struct str name;

		while (json_next(&it, &name, &v)) {
			bool twice = false;

			for (size_t k = 0; k < i; k++)
				twice |= json_get_s(json_get(w->room[k], kind), name) != NULL;
			if (twice)
				gap(w, "%s %.*s: %s/openapi.json is not the first to describe it",
				    kind, STR_FMT(name), w->room_name[i]);
			else
				json_put_value_s(&w->o, name, v);
		}
	}
	json_obj_end(&w->o);
}

static void put_head(struct writer *w)
{
	json_put_z(&w->o, "openapi", "3.1.0");
	for (size_t i = 0; i < w->rooms; i++) {
		const struct json *head = json_get(w->room[i], "document");
		struct json_iter it = json_iter(head), info = json_iter(json_get(head, "info"));
		struct json *v;
		struct str key;

		if (!head)
			continue;
		json_obj(&w->o, "info");
		json_put_z(&w->o, "version", w->in->version);
		while (json_next(&info, &key, &v))
			json_put_value_s(&w->o, key, v);
		json_obj_end(&w->o);
		while (json_next(&it, &key, &v))
			if (!str_is(key, "info"))
				json_put_value_s(&w->o, key, v);
	}
}

enum rc openapi_write(const struct openapi_input *in, struct buf *doc, struct buf *gaps,
		      struct err *err)
{
	struct writer w = {.in = in, .mem = arena_new(OPENAPI_MEMORY_MAX), .gaps = gaps};
	enum rc rc = load(&w, err);

	if (rc == RC_OK) {
		json_out_begin(&w.o, doc);
		json_obj(&w.o, NULL);
		put_head(&w);
		put_paths(&w);
		json_obj(&w.o, "components");
		for (size_t i = 0; i < ARRAY_LEN(component_kinds); i++)
			put_component_kind(&w, component_kinds[i]);
		json_obj_end(&w.o);
		json_obj_end(&w.o);
		check_stale(&w);
		rc = json_out_end(&w.o);
		if (rc != RC_OK)
			rc = err_set(err, rc, "bad_description",
				     "the API's description is larger than its bound");
	}
	arena_free(w.mem);
	return rc;
}
