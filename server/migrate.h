/* server/migrate.h - schema migrations, embedded, checksummed, one at a time under an advisory lock. */
#ifndef SERVER_MIGRATE_H
#define SERVER_MIGRATE_H
#include <stddef.h>

struct sql_migration { /* generated from sql/migrations/NNNN_name.sql; "-- down" starts the way back */
	int version;
	const char *name;
	const char *up;
	const char *down;   /* NULL: there is no way back */
	const char *sha256; /* of the file with includes expanded, hex */
};
extern const struct sql_migration sql_migrations[];
extern const size_t sql_migrations_count;

struct cli;
int migrate_command(struct cli *cli, int argc, char **argv); /* up | down [N] | status */
#endif
