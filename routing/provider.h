/* routing/provider.h - a provider is a row: where, which dialect, which auth header, which quirks.
 * Adding one touches this table, its error markers, and its fixtures. Sources per row in providers.c. */
#ifndef ROUTING_PROVIDER_H
#define ROUTING_PROVIDER_H
#include <stdbool.h>
#include "server/base/str.h"
#include "server/curlm.h"

struct dialect;
struct provider {
	const char *id;	   /* "openai" */
	const char *label; /* for people */
	const struct dialect
		*dialect;	/* NULL: known, but not spoken by this build: refused clearly */
	const char *base_url;	/* default; NULL: the profile must name one */
	bool base_url_settable; /* may a profile name its own? */
	enum curlm_secret_form secret_form;
	const char *secret_header;
	bool secret_required;
	const char *key_prefix; /* format check; NULL: any */
	const char
		*key_example; /* for the error: a shape, never something a scanner takes for real */
	const char *key_page; /* where a person gets one */
	const char *path_chat;	    /* "/chat/completions" */
	const char *path_models;    /* "/models" */
	bool max_completion_tokens; /* reasoning models refuse max_tokens: inject this name */
	bool stream_usage_option;   /* understands stream_options.include_usage */
};
extern const struct provider providers[];	     /* ends with id NULL */
const struct provider *provider_find(struct str id); /* NULL: no such id */

#endif
