/* server/cli_human.h - JSON as a person reads it in a terminal: aligned keys, tables for lists. */
#ifndef SERVER_CLI_HUMAN_H
#define SERVER_CLI_HUMAN_H
#include "server/base/buf.h"
#include "server/base/json.h"

/* RC_TOO_LARGE when it does not fit into `out`. Nothing of the data can steer the terminal. */
MUST_CHECK enum rc cli_human(const struct json *data, struct buf *out);

#endif
