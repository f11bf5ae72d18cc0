/* routing/agents.c - named agents of an org: write, read, delete.
 *
 * An agent is a name with a default model; its chain is the route that matches it. What a call on its behalf gets is
 * decided in plan.c. Must never ask whether a default model is served: catalogues and profiles come and go. */
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "sql/queries.h"

#define AGENT_MODEL_MAX	      256
#define AGENT_DESCRIPTION_MAX 1000

/* The words by which a call leaves the choice to its agent would choose nothing. */
static bool default_model_ok(struct http_request *r, struct str model)
{
	if (!model.ptr)
		return true;
	if (str_is(model, "default") || str_is(model, "auto"))
		return admin_refuse(r, "invalid_field", "default_model",
				    "default_model is the word that asks for it",
				    "an alias of the org, provider/model, or a model id");
	for (size_t i = 0; i < model.len; i++)
		if (model.ptr[i] <= ' ' || model.ptr[i] > '~')
			return admin_refuse(r, "invalid_field", "default_model",
					    "default_model is printable ASCII without spaces",
					    "an alias of the org, provider/model, or a model id");
	return model.len > 0 ||
	       admin_refuse(r, "invalid_field", "default_model", "default_model is empty",
			    "leave it out, or null, for none");
}

bool agent_read(struct http_request *r, const struct json *body, struct agent_fields *ret)
{
	struct agent_fields f = {STR_NULL, STR_NULL, STR("active")};
	struct err e = {0};
	enum rc rc = admin_str(body, "default_model", false, AGENT_MODEL_MAX, &f.default_model, &e);

	if (rc == RC_OK)
		rc = admin_str(body, "description", false, AGENT_DESCRIPTION_MAX, &f.description,
			       &e);
	if (rc == RC_OK)
		rc = admin_str(body, "status", false, 16, &f.status, &e);
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return false;
	}
	if (!str_is(f.status, "active") && !str_is(f.status, "disabled"))
		return admin_refuse(r, "invalid_field", "status", "status is active or disabled",
				    "DELETE takes an agent away");
	if (!default_model_ok(r, f.default_model))
		return false;
	*ret = f;
	return true;
}

void agent_add(struct pg_batch *b, struct http_request *r, struct str name,
	       const struct agent_fields *f)
{
	pg_batch_add(b, &sql_routing_agent_put);
	pg_param_str(b, name);
	pg_param_str(b, f->default_model);
	pg_param_str(b, f->description);
	pg_param_str(b, f->status);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
}

void handle_agent_put(struct http_request *r)
{
	struct json *body = admin_body(r, AGENT_FIELDS);
	struct agent_fields f = {STR_NULL, STR_NULL, STR_NULL};
	struct pg_batch *b;

	if (!body || !agent_read(r, body, &f))
		return;
	b = pg_batch_new();
	pg_batch_org_ref(b, r->params[0]);
	agent_add(b, r, r->params[1], &f);
	admin_run(r, b, 200);
}

void handle_agent_list(struct http_request *r)
{
	admin_list(r, &sql_routing_agents_list, true);
}

void handle_agent_show(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_agent_show);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

void handle_agent_delete(struct http_request *r)
{
	struct pg_batch *b = pg_batch_new();

	pg_batch_org_ref(b, r->params[0]);
	pg_batch_add(b, &sql_routing_agent_delete);
	pg_param_str(b, r->params[1]);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}
