/* routing/connections.h - a file that lists endpoints and who uses them, resolved.
 *
 * The file is a person's own, not the service's configuration. Endpoints stand under `endpoints` (by name, or a
 * list of them with `name`), as one legacy `endpoint`, or as the outermost list. Whoever uses them stands in
 * `default`, `phases.<name>` and `agents.<name>`; each of their fields is looked up alone: agent over phase (the
 * one that the agent names) over default over the endpoint's own. Pure: nothing is opened, asked or read here. */
#ifndef ROUTING_CONNECTIONS_H
#define ROUTING_CONNECTIONS_H
#include "routing/provider.h"
#include "server/yaml.h"

#define CONNECTIONS_ENDPOINTS_MAX 200  /* a person wrote them; each is a call */
#define CONNECTIONS_USES_MAX	  2000 /* phases and agents together */
#define CONNECTIONS_TIMEOUT_MS	  10000
#define CONNECTIONS_BACKOFF_MS	  500
#define CONNECTIONS_RETRIES_MAX	  10

struct connection_tuning {
	int64_t timeout_ms;  /* of one attempt */
	int64_t max_retries; /* after the first attempt; 0 unless said */
	int64_t backoff_ms;  /* before the first retry; doubled for each further one */
};
struct connection_model {
	struct str id;
	const struct str *used_by; /* "agent writer", "phase plan", "default", "endpoint" */
	size_t used_by_count;
};
struct connection_endpoint {
	struct str name;
	const struct provider *provider;
	struct str base_url;	      /* as written, or the provider's own; not judged yet */
	struct str key_env, key_file; /* where its key is; both empty: it has none */
	struct str model_id;	      /* its own; empty: none */
	struct connection_tuning own; /* what it says itself, or the defaults */
	struct connection_tuning
		ask; /* the least patient of those who use it; `own` when nobody does */
	const struct connection_model *models; /* wanted of it, in the order of the file */
	size_t models_count;
	size_t uses_count;
};
enum connection_user { CONNECTION_DEFAULT, CONNECTION_PHASE, CONNECTION_AGENT };
const char *connection_user_name(enum connection_user u);
struct connection_use { /* who, and what comes out for them */
	enum connection_user user;
	struct str name;  /* empty for default */
	struct str phase; /* an agent's; empty: none */
	size_t endpoint;  /* index */
	struct str model;
	struct connection_tuning tuning;
};
struct connections {
	struct connection_endpoint *endpoints;
	size_t endpoints_count;
	const struct connection_use
		*uses; /* default, phases, agents; who names nothing complete is left
					    * out, but an agent: that is an error */
	size_t uses_count;
};

/* All results live in `mem` and point into `d`. RC_INVALID: `err` has file and line, and never a value that may be a
 * secret; code "inline_secret" where one was written into the file. */
MUST_CHECK enum rc connections_resolve(const struct yaml_doc *d, struct arena *mem,
				       struct connections *ret, struct err *err);

#endif
