/* routing/dialects/form_priv.h - multipart/form-data, read strictly; its parts are slices of the body. Pure.
 *
 * Two readers of one form must never see two forms: what a lenient reader might take another way (text before the first or
 * behind the last boundary, bare line feeds, a name twice, a part in a part, an encoding) is refused. */
#ifndef ROUTING_DIALECTS_FORM_PRIV_H
#define ROUTING_DIALECTS_FORM_PRIV_H
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/err.h"

#define FORM_PARTS_MAX	    64
#define FORM_HEAD_BYTES_MAX 4096 /* of one part's headers */
#define FORM_NAME_BYTES_MAX 128
#define FORM_BOUNDARY_MAX   70 /* RFC 2046 */

struct form_part {
	struct str name;
	struct str filename;	 /* ptr NULL: it is a field */
	struct str content_type; /* may be empty */
	struct str whole;	 /* with its headers, without the boundaries around it */
	struct str value;
};
struct form {
	struct str boundary;
	struct form_part *parts;
	size_t count;
};
/* `content_type` is the request's header. RC_INVALID with words, field "content-type" or the part's name; RC_TOO_LARGE past a
 * bound. A name may stand twice only where it ends in "[]". */
MUST_CHECK enum rc form_read(struct str content_type, struct str body, struct arena *mem,
			     struct form **ret, struct err *err);
const struct form_part *form_get(const struct form *f,
				 const char *name); /* the first; NULL: none */

/* Writing with the boundary of a form that was read: none of that form's parts can hold it. A value must hold no line feed. */
MUST_CHECK enum rc form_put_field(struct buf *out, struct str boundary, const char *name,
				  struct str value);
/* A part as it came. */
MUST_CHECK enum rc form_put_part(struct buf *out, struct str boundary, const struct form_part *p);
MUST_CHECK enum rc form_end(struct buf *out, struct str boundary);

#endif
