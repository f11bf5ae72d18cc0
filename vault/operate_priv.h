/* vault/operate_priv.h - what the commands of `tollgate vault` share: the database, the master keys, an org's
 * data keys.
 *
 * They work on the database and need no running service, but mind those that run. Everything is
 * blocking, and may be cut off at any point: what is done is stored, and the next call goes on. */
#ifndef VAULT_OPERATE_PRIV_H
#define VAULT_OPERATE_PRIV_H
#include "server/base/buf.h"
#include "server/cli.h"
#include "server/pg.h"
#include "vault/kek_priv.h"

#define OPERATE_USAGE                                                                              \
	"status [--check] | rotate --org ORG|--all [--grace-seconds N] | rewrap | gate --org ORG " \
	"[--min-encrypt N] [--min-decrypt N] | forget MASTER_KEY_ID"
#define OPERATE_BATCH	  100 /* rows in one transaction (security.md 1.5) */
#define OPERATE_LIST_MAX  200 /* things named in an answer */
#define OPERATE_BODY_MAX  (4u << 20)
#define OPERATE_KEYS_MAX  16 /* dek_all() answers no more */
#define OPERATE_KEYS_LIVE 7  /* and another one made: 8 are what a worker keeps (vault/dek.c) */

struct operate {
	struct cli *cli;
	struct cli_db *db;
	struct keyring ring;
	const char *kek_id; /* of the master key that wraps */
	int64_t kek_ver;    /* its newest version; 0 before operate_current() */
	struct kek_text canary;
};

/* An org's data keys, in the secure heap. */
struct operate_keys {
	struct org_id org;
	int64_t min_ver;
	size_t count;
	struct {
		uint32_t ver;
		bool pending;
		uint8_t *key;	  /* NULL: */
		char missing[17]; /* its master key is not configured here; "": it is damaged */
	} keys[OPERATE_KEYS_MAX];
};

/* One record, in the arena of whoever asked for it. */
struct operate_record {
	struct org_id org;
	struct uuid id;
	const char *field;
	int64_t row_version;
	struct str sealed;
	struct str slug, name, unreadable; /* of vault_secret_page_all */
};

MUST_CHECK enum rc operate_open(struct operate *o, struct cli *cli, struct err *err);
void operate_close(struct operate *o);
/* Run and forget the rows. */
MUST_CHECK enum rc operate_do(struct operate *o, struct pg_batch *b, struct err *err);
/* The number or bool in the first column of the first row of the last statement. */
MUST_CHECK enum rc operate_number(struct operate *o, struct pg_batch *b, int64_t *ret,
				  struct err *err);
/* Ask for the newest version of the current master key. */
MUST_CHECK enum rc operate_current(struct operate *o, struct err *err);
/* The current master key's newest version gets its canary, if it has none: nothing is wrapped without. */
MUST_CHECK enum rc operate_canary(struct operate *o, struct err *err);

/* The only two places here that use a master key; what is kept elsewhere is asked and waited for. After
 * operate_canary(), and by that very version: RC_CONFLICT when it was rotated since. `out` is appended to; `dek` has
 * room for 32 bytes. */
MUST_CHECK enum rc operate_wrap(const struct operate *o, struct org_id org, uint32_t ver,
				const uint8_t *dek, struct buf *out);
MUST_CHECK enum rc operate_unwrap(const struct operate *o, struct org_id org, uint32_t ver,
				  struct str kek_id, int64_t kek_ver, struct str wrapped,
				  uint8_t *dek);

MUST_CHECK enum rc operate_keys_load(struct operate *o, struct org_id org, struct operate_keys *k,
				     struct err *err);
void operate_keys_clear(struct operate_keys *k);
/* RC_NOT_FOUND: the master key of its data key is not configured here: nothing is known about the record.
 * RC_CORRUPT: `*code` says why. */
MUST_CHECK enum rc operate_record_open(const struct operate_keys *k, const struct operate_record *r,
				       struct secret *plain, const char **code);
/* A record of the org of `b`'s transaction did, or did not (code), open. */
void operate_tried(struct pg_batch *b, const struct operate_record *r, const char *code);

/* Who does it, for the audit log. */
#define OPERATE_ACTOR "{\"type\": \"operator\", \"name\": \"tollgate vault\"}"
#define OPERATE_REQ   "command"

/* What failed, for the end of a command: at most OPERATE_LIST_MAX are named, all are counted. */
struct operate_bad {
	struct json_out json; /* an array of objects, begun by operate_bad_begin() */
	struct buf text;
	int64_t count;
};
void operate_bad_begin(struct operate_bad *bad);
/* Also says it on stderr. */
void operate_bad_add(struct operate_bad *bad, struct str org, struct str what, const char *code,
		     const char *words);
/* As member `name`; and gives the text back. */
void operate_bad_end(struct operate_bad *bad, struct json_out *o, const char *name);

int operate_status(struct cli *cli, int argc, char **argv);
int operate_rotate(struct cli *cli, int argc, char **argv);
int operate_rewrap(struct cli *cli, int argc, char **argv);
int operate_gate(struct cli *cli, int argc, char **argv);
int operate_forget(struct cli *cli, int argc, char **argv);

#endif
