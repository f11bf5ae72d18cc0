/* billing/endpoints_priv.h - the control plane's handlers, for the table in endpoints.c. */
#ifndef BILLING_ENDPOINTS_PRIV_H
#define BILLING_ENDPOINTS_PRIV_H
#include "server/http/http.h"

struct pg_batch;

/* credits.c */
void credits_show(struct http_request *r);
void grants_list(struct http_request *r);
void grants_create(struct http_request *r);
void topup_create(struct http_request *r);
void ledger_entries(struct http_request *r);
void calls_list(struct http_request *r);
void calls_show(struct http_request *r);
void usage_sums(struct http_request *r);
/* prices.c */
void prices_list(struct http_request *r);
void prices_show(struct http_request *r);
void prices_put(struct http_request *r);

enum rc billing_bad_field(struct err *err, const char *field, const char *words);
/* Add a cursor that is a number (or NULL) as the next parameter. On failure answers and frees `b`. */
bool billing_page_int(struct http_request *r, struct str cursor, struct pg_batch *b);

#endif
