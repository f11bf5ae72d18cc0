/* routing/orgconfig_priv.h - an org's configuration as one document: what its parts are.
 *
 * A kind is a row: how a part of it is read, stored and taken away. Everything lives in the request's arena. */
#ifndef ROUTING_ORGCONFIG_PRIV_H
#define ROUTING_ORGCONFIG_PRIV_H
#include "routing/routing_priv.h"

#define CONFIG_STATEMENTS_MAX 3 /* that one item takes */

enum config_action { CONFIG_KEEP, CONFIG_CREATE, CONFIG_UPDATE, CONFIG_DELETE };

struct config_kind;
struct config_item {
	const struct config_kind *kind;
	struct str name;
	struct str fields; /* JSON, in the words of config_current() */
	enum config_action action;
	bool replaces;	     /* a profile that goes elsewhere: a new one takes its place */
	bool fields_differ;  /* not only the secret */
	bool secret_differs; /* from what is stored; also where nothing is */
	struct str id;	     /* of what stands: a profile's, a key's, else its name */

	struct work *work; /* a profile's */
	struct str status; /* a profile's */
	bool stands;
	struct uuid stored_id;
	int64_t stored_version; /* of its secret; 0: it has none */
	struct str stored_url, sealed;

	struct route_texts route;
	struct agent_fields agent;

	struct str spec, patch; /* a key's, to make and to change it */
	struct vault_new_key key;
};

struct config_kind {
	const char *name; /* "profile" */
	const char *list; /* "profiles": the member of the document */
	const char *fields;
	size_t max;	 /* in one document */
	bool drop_first; /* before anything is stored; else behind it */
	/* The rest of the item from `body`; answers where it refuses. */
	bool (*read)(struct http_request *r, const struct json *body, struct config_item *it);
	/* Add the statements that make it so; `*count` is how many. */
	enum rc (*add)(struct http_request *r, struct pg_batch *b, struct config_item *it,
		       size_t *count, struct err *err);
	const struct sql_query *drop; /* ($1 id or name, $2 actor, $3 request id) */
};
extern const struct config_kind
	config_kinds[]; /* in the order they are stored; ends with name NULL */

#endif
