/* server/yaml.h - a YAML document as a JSON tree whose values know their lines.
 *
 * YAML 1.2 core schema, one document, and of that only what JSON can say: mappings with text keys that
 * stand once, sequences, text, numbers, booleans, null. Quoted stays text; a number keeps its
 * literal ("25.00"). Refused: anchors, aliases, foreign tags, .inf, .nan, NUL bytes, a second document.
 *
 * The tree and the lines live in the arena that was given; nothing is freed by hand, one thread. */
#ifndef SERVER_YAML_H
#define SERVER_YAML_H
#include "server/base/arena.h"
#include "server/base/err.h"
#include "server/base/json.h"
#include "server/base/rc.h"
#include "server/base/str.h"

#define YAML_BYTES_MAX	(1024 * 1024) /* a hand-written file is a hundredth of it */
#define YAML_DEPTH_MAX	32	      /* below JSON_DEPTH_MAX */
#define YAML_VALUES_MAX 100000	      /* what fits into YAML_BYTES_MAX with some sense in it */

struct yaml_doc; /* opaque, in its arena */

/* Parse all of `text`. `name` is how errors call the file; it must live as long as the document. On
 * failure `err` reads "NAME:LINE: words" (code "invalid_yaml") and never quotes a value, which may be
 * a secret. RC_TOO_LARGE: past a bound. */
MUST_CHECK enum rc yaml_doc_parse(struct str text, const char *name, struct arena *mem,
				  struct yaml_doc **ret, struct err *err);
/* The same for a file; "-" is standard input. What was read is wiped; the tree goes with the arena. */
MUST_CHECK enum rc yaml_doc_read(const char *path, struct arena *mem, struct yaml_doc **ret,
				 struct err *err);
/* The outermost value; null when there is nothing in the document. */
struct json *yaml_doc_root(const struct yaml_doc *d);
/* Line of `v`, which must be of this tree: of its key if it is a member of a mapping, else where it
 * begins. Counted from 1; 0: not of this tree. Walks the tree: for errors. */
size_t yaml_doc_line(const struct yaml_doc *d, const struct json *v);
/* Refuse `v`: fills `err` with code "invalid_yaml" and "NAME:LINE: words". Returns RC_INVALID. */
enum rc yaml_doc_bad(const struct yaml_doc *d, const struct json *v, struct err *err,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
