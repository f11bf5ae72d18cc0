/* billing/endpoints.c - the control plane's table: method, path, who may. */
#include "billing/endpoints_priv.h"

#include "billing/billing_priv.h"

#define SMALL_BODY (64u << 10)

#define MAY_BOOK BILLING_ROLE_OPERATOR
#define SEES_MONEY                                                                                 \
	(BILLING_ROLE_OPERATOR | BILLING_ROLE_OWNER | BILLING_ROLE_ADMIN | BILLING_ROLE_FINANCE |  \
	 BILLING_ROLE_AUDITOR)
#define MAY_LIMIT  (BILLING_ROLE_OPERATOR | BILLING_ROLE_OWNER | BILLING_ROLE_ADMIN)
#define SEES_USAGE (SEES_MONEY | BILLING_ROLE_DEVELOPER)

const struct endpoint billing_endpoints[] = {
	{"GET", "/admin/v1/orgs/{org}/credits", SURFACE_ADMIN, SEES_MONEY, 0, false, credits_show,
	 "balance: available, leased, overdraft, and grants"},
	{"GET", "/admin/v1/orgs/{org}/credits/grants", SURFACE_ADMIN, SEES_MONEY, 0, false,
	 grants_list, "all grants of credit"},
	{"POST", "/admin/v1/orgs/{org}/credits/grants", SURFACE_ADMIN, MAY_BOOK, SMALL_BODY, true,
	 grants_create, "grant credit"},
	{"POST", "/admin/v1/orgs/{org}/credits/top-up", SURFACE_ADMIN, MAY_BOOK, SMALL_BODY, true,
	 topup_create, "book a payment as credit"},
	{"GET", "/admin/v1/orgs/{org}/ledger/entries", SURFACE_ADMIN, SEES_MONEY, 0, false,
	 ledger_entries, "ledger entries, newest first"},
	{"GET", "/admin/v1/orgs/{org}/usage", SURFACE_ADMIN, SEES_USAGE, 0, false, usage_sums,
	 "usage summed by day, model, profile, key, agent, billing source"},
	{"GET", "/admin/v1/orgs/{org}/usage/calls", SURFACE_ADMIN, SEES_USAGE, 0, false, calls_list,
	 "booked calls, newest first"},
	{"GET", "/admin/v1/orgs/{org}/usage/calls/{request_id}", SURFACE_ADMIN, SEES_USAGE, 0,
	 false, calls_show, "one call: attempts, plan, usage, price lines, amount"},
	{"GET", "/admin/v1/orgs/{org}/budgets", SURFACE_ADMIN, SEES_USAGE, 0, false, budgets_list,
	 "budgets of the org, its keys and agents, newest first"},
	{"POST", "/admin/v1/orgs/{org}/budgets", SURFACE_ADMIN, MAY_LIMIT, SMALL_BODY, true,
	 budgets_create, "limit what the org, a key or an agent may spend"},
	{"GET", "/admin/v1/orgs/{org}/budgets/{id}", SURFACE_ADMIN, SEES_USAGE, 0, false,
	 budgets_show, "one budget: limit, spent, held, remaining"},
	{"PATCH", "/admin/v1/orgs/{org}/budgets/{id}", SURFACE_ADMIN, MAY_LIMIT, SMALL_BODY, true,
	 budgets_change, "change a budget's name, limit, hard or status"},
	{"DELETE", "/admin/v1/orgs/{org}/budgets/{id}", SURFACE_ADMIN, MAY_LIMIT, 0, false,
	 budgets_delete, "delete a budget and its alerts"},
	{"GET", "/admin/v1/orgs/{org}/alerts", SURFACE_ADMIN, SEES_MONEY, 0, false, alerts_list,
	 "alerts and their state, newest first"},
	{"POST", "/admin/v1/orgs/{org}/alerts", SURFACE_ADMIN, MAY_LIMIT, SMALL_BODY, true,
	 alerts_create, "watch a budget or the balance"},
	{"GET", "/admin/v1/orgs/{org}/alerts/{id}", SURFACE_ADMIN, SEES_MONEY, 0, false,
	 alerts_show, "one alert and its state"},
	{"PATCH", "/admin/v1/orgs/{org}/alerts/{id}", SURFACE_ADMIN, MAY_LIMIT, SMALL_BODY, true,
	 alerts_change, "change an alert's name, threshold or status"},
	{"DELETE", "/admin/v1/orgs/{org}/alerts/{id}", SURFACE_ADMIN, MAY_LIMIT, 0, false,
	 alerts_delete, "delete an alert"},
	{"GET", "/admin/v1/orgs/{org}/alerts/{id}/events", SURFACE_ADMIN, SEES_MONEY, 0, false,
	 alerts_events, "when the alert's threshold was crossed, newest first"},
	{"GET", "/admin/v1/prices", SURFACE_ADMIN, SEES_USAGE, 0, false, prices_list,
	 "price versions in force"},
	{"GET", "/admin/v1/prices/{provider}/{model...}", SURFACE_ADMIN, SEES_USAGE, 0, false,
	 prices_show, "one model's price and its versions"},
	{"PUT", "/admin/v1/prices/{provider}/{model...}", SURFACE_ADMIN, MAY_BOOK, SMALL_BODY, true,
	 prices_put, "a new price version"},
	{NULL, NULL, 0, 0, 0, false, NULL, NULL},
};
