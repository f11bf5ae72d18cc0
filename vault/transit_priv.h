/* vault/transit_priv.h - a master key that never leaves its keeper: HTTP to a transit engine of HashiCorp Vault or
 * OpenBao (openbao: website/content/api-docs/secret/transit.mdx).
 *
 * 32 bytes are sealed and opened there under associated data; what comes back is "vault:vN:..." and is stored as it
 * is. The process keeps one struct transit (settings, token, circuit; any thread); each loop has a link of its
 * own. Both bodies of each request hold a key or could: they are wiped everywhere once used. */
#ifndef VAULT_TRANSIT_PRIV_H
#define VAULT_TRANSIT_PRIV_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/arena.h"
#include "server/base/err.h"
#include "server/config.h"
#include "vault/aead_priv.h"

#define TRANSIT_PLAIN_BYTES 32
#define TRANSIT_TEXT_MAX    4096 /* what org_dek takes */
#define TRANSIT_ID_SIZE	    17

struct loop;
struct transit;
struct transit_link;

/* `*ret` is NULL when no URL is set. RC_INVALID: one sentence that names the setting. */
MUST_CHECK enum rc transit_load(const struct config *c, struct transit **ret, struct err *err);
void transit_free(struct transit *t); /* after its links; NULL is fine */
/* 16 hex digits made of mount and key name: the same wherever that key is served from. */
const char *transit_id(const struct transit *t);
bool transit_is_current(
	const struct transit *t); /* else it opens what it wrapped, and wraps nothing */
/* Is it answering? If not, `words` says what was the matter last. Any thread. */
bool transit_is_well(struct transit *t, char *words, size_t size);
/* Read the token's file again, if it came from one. Any thread. True: there is another token now. */
bool transit_token_reload(struct transit *t);

enum transit_result { TRANSIT_OK, TRANSIT_REFUSED, TRANSIT_FAILED, TRANSIT_SHORT, TRANSIT_RESULTS };
uint64_t transit_count(struct transit *t, enum transit_result r); /* requests, by how they ended */

/* What was last sealed as a key version's canary; ciphertext, so no secret. False: none of that version. */
bool transit_canary_get(struct transit *t, int64_t ver, char text[TRANSIT_TEXT_MAX], size_t *len);
void transit_canary_put(struct transit *t, int64_t ver, struct str text);

/* --- one loop's way there -------------------------------------------------------------------- */
struct transit_link *transit_link_new(struct transit *t, struct loop *l);
void transit_link_free(struct transit_link *l); /* running calls end without callbacks */

struct transit_answer {			    /* valid during the callback */
	struct str text;		    /* sealed: "vault:vN:..." */
	int64_t ver;			    /* its N */
	uint8_t plain[TRANSIT_PLAIN_BYTES]; /* opened; wiped when the callback returned */
	int64_t lease_s; /* renewed: 0 when the token lives as long as it likes */
	bool renewable;
};
/* Once, later, on the link's loop. RC_CORRUPT: it was answered that this does not open. RC_DENIED: the token
 * cannot be renewed. RC_UNAVAILABLE: anything else; `err` has words and retry_after_s. Nothing that the keeper said is in the words. */
typedef void transit_cb(void *arg, enum rc rc, const struct transit_answer *a,
			const struct err *err);
struct transit_call;
/* `ver` 0: the newest version of the key. `plain` and `aad` are copied. */
struct transit_call *transit_seal(struct transit_link *l, const uint8_t plain[TRANSIT_PLAIN_BYTES],
				  struct str aad, int64_t ver, transit_cb *cb, void *arg);
struct transit_call *transit_open(struct transit_link *l, struct str text, struct str aad,
				  transit_cb *cb, void *arg);
void transit_cancel(struct transit_call *c); /* no callback after this */
/* Keep the token alive for as long as this link lives: renewed when half of its time is over. One per process. */
void transit_link_renew(struct transit_link *l);

/* --- what is read from outside; pure --------------------------------------------------------- */
/* "vault:v7:..." of printable ASCII, at most TRANSIT_TEXT_MAX bytes. */
bool transit_text_ver(struct str text, int64_t *ver);
enum transit_what { TRANSIT_SEAL, TRANSIT_OPEN, TRANSIT_RENEW };
/* The body of a 200. RC_PROTOCOL: it is not what a transit engine answers. `ret->text` lives in `mem`. */
MUST_CHECK enum rc transit_read(enum transit_what what, struct str body, struct arena *mem,
				struct transit_answer *ret);

#endif
