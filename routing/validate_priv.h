/* routing/validate_priv.h - what `tollgate validate-connection` found, whichever way it asked.
 *
 * validate.c asks endpoints of a file itself; validate_org.c has the running service ask its profiles; both
 * fill a struct check for each, and validate_report.c prints them. All in the command's arena. */
#ifndef ROUTING_VALIDATE_PRIV_H
#define ROUTING_VALIDATE_PRIV_H
#include "routing/connections.h"
#include "server/cli.h"

enum listed { LISTED_UNKNOWN, LISTED_YES, LISTED_NO };
struct check_model {
	struct str id;
	enum listed listed;
	const struct str *used_by;
	size_t used_by_count;
};
struct check {		/* one endpoint, or one profile */
	struct str org; /* empty: of a file */
	struct str name;
	const struct provider *provider;  /* NULL: the service knows it, this program does not */
	struct str provider_id, base_url; /* base_url empty: not known to be harmless to print */
	bool ok;
	struct str reason;	/* machine word; empty: nothing to remark. An `ok` may have one */
	struct str words, hint; /* for a person: what went wrong and why; how to mend it */
	int64_t latency_ms;	/* of the last answer; -1: nothing was asked */
	int64_t attempts;
	struct check_model *models;
	size_t models_count;
};
struct report {
	const char *source; /* "file" or "org" */
	const struct check *checks;
	size_t count;
	const struct connections *connections; /* a file's; NULL: an org's */
	int64_t began_ms;
};

/* How to mend it, and the page where keys are made. `place`: where the key belongs ("put it into ..."). */
struct str check_hint(struct arena *mem, const struct provider *p, struct str reason,
		      const char *place);
/* Take over what was listed; a wanted model that is not there makes the check bad. */
void check_models(struct arena *mem, struct check *c, const struct str *listed, size_t count);
/* Print all; returns the exit status. */
int report_print(struct cli *cli, const struct report *r);
/* meta for a command that ends without a report. */
void report_meta(struct cli *cli, int64_t began_ms);

/* The profiles of one org, or of every org (`org` NULL), asked by the service. `profile` NULL: all active ones. */
int validate_org(struct cli *cli, const char *org, const char *profile, int64_t began_ms);

#endif
