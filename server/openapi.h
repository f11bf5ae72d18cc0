/* server/openapi.h - the API's own description, OpenAPI 3.1, made from the endpoint tables.
 *
 * A table row says method, path, listener, who may, and a summary. What a row cannot hold (fields and answers)
 * stands in the room's openapi.json; server/README.md says how one is written. */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H
#include "server/base/buf.h"
#include "server/http/http.h"

struct openapi_fragment { /* the text of ROOM/openapi.json */
	const char *room;
	const char *json;
};
/* Made by server/embed at build time; ends in a row of NULLs. */
extern const struct openapi_fragment openapi_fragments[];

struct openapi_input {
	const struct endpoint *const *tables; /* NULL-ended */
	const struct openapi_fragment *fragments;
	const char *version;
	const char *(*role_name)(
		uint32_t bit); /* as http_hooks.role_name; NULL: roles are not named */
};
/* Write the whole document into `doc`. What tables and fragments do not agree on goes into `gaps`, a line each:
 * an endpoint without a description, a description without an endpoint, a member nobody reads, a name
 * that is given twice or not at all. An endpoint without a description is shown with what its row says and
 * "x-undescribed". RC_INVALID: a fragment is no JSON; `err` names it. Any one thread. */
MUST_CHECK enum rc openapi_write(const struct openapi_input *in, struct buf *doc, struct buf *gaps,
				 struct err *err);

#endif
