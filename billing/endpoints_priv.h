/* billing/endpoints_priv.h - the control plane's handlers, for the table in endpoints.c. */
#ifndef BILLING_ENDPOINTS_PRIV_H
#define BILLING_ENDPOINTS_PRIV_H
#include "billing/money.h"
#include "server/http/http.h"

struct json;
struct pg_batch;
struct sql_query;

/* credits.c */
void credits_show(struct http_request *r);
void grants_list(struct http_request *r);
void grants_create(struct http_request *r);
void topup_create(struct http_request *r);
void ledger_entries(struct http_request *r);
void calls_list(struct http_request *r);
void calls_show(struct http_request *r);
void usage_sums(struct http_request *r);
/* budgets.c */
void budgets_create(struct http_request *r);
void budgets_list(struct http_request *r);
void budgets_show(struct http_request *r);
void budgets_change(struct http_request *r);
void budgets_delete(struct http_request *r);
/* alerts.c */
void alerts_create(struct http_request *r);
void alerts_list(struct http_request *r);
void alerts_show(struct http_request *r);
void alerts_change(struct http_request *r);
void alerts_delete(struct http_request *r);
void alerts_events(struct http_request *r);
/* prices.c */
void prices_list(struct http_request *r);
void prices_show(struct http_request *r);
void prices_put(struct http_request *r);

enum rc billing_bad_field(struct err *err, const char *field, const char *words);
/* Add a cursor that is a number (or NULL) as the next parameter. On failure answers and frees `b`. */
bool billing_page_int(struct http_request *r, struct str cursor, struct pg_batch *b);
bool billing_page_uuid(struct http_request *r, struct str cursor, struct pg_batch *b); /* an id */
/* A batch in the transaction of the org that the path's first parameter names, its first statement begun. */
struct pg_batch *billing_org_batch(struct http_request *r, const struct sql_query *q);

/* budgets.c, for alerts.c too. Readers of fields: as those of server/admin.h. */
enum rc billing_read_money(const struct json *body, const char *field, bool required, bool *given,
			   money_t *ret, struct err *err);
enum rc billing_read_name(const struct json *body, bool required, struct str *ret, struct err *err);
enum rc billing_read_status(const struct json *body, struct str *ret, struct err *err);
/* The {id} of the path; answers 404 itself: what is no id names nothing. */
bool billing_path_id(struct http_request *r, const char *what, struct uuid *ret);
/* Answer with a list over ($1 limit, $2 last id seen, and $3 the id it is of, if one is given). */
void billing_list(struct http_request *r, const struct sql_query *q, const struct uuid *of);
/* Add who calls and the request's id, the last two parameters of every write, and answer with what it returns. */
void billing_submit(struct http_request *r, struct pg_batch *b, int status);
void billing_param_opt(struct pg_batch *b, bool given, int64_t value); /* NULL unless given */

#endif
