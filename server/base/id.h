/* server/base/id.h - ids are UUIDv7, made here, never by the database.
 *
 * The first 48 bits are the wall clock's millisecond, so an id alone tells when it was made
 * (uuid_time_ms) and which partition holds its row. Thread-safe: ids made by one thread ascend. */
#ifndef SERVER_BASE_ID_H
#define SERVER_BASE_ID_H
#include <stdbool.h>
#include <stdint.h>
#include "server/base/rc.h"
#include "server/base/str.h"

struct uuid {
	uint8_t b[16];
};
struct org_id { /* a uuid that no other kind of id can be mistaken for */
	struct uuid u;
};

#define UUID_TEXT_SIZE 37 /* 36 characters and NUL */

struct uuid uuid_v7(void);
struct uuid uuid_v7_at(int64_t wall_ms); /* same millisecond twice still gives two ids */
int64_t uuid_time_ms(struct uuid u);
bool uuid_is_zero(struct uuid u);
static inline bool uuid_eq(struct uuid a, struct uuid b)
{
	return memcmp(a.b, b.b, sizeof a.b) == 0;
}
struct str uuid_format(struct uuid u, char out[UUID_TEXT_SIZE]); /* hyphenated lower case */
MUST_CHECK enum rc uuid_parse(struct str s, struct uuid *ret);	 /* the hyphenated form only */

/* The platform is an org too; its id is settled (architecture.md, "Settled on day one"). */
extern const struct org_id org_id_platform; /* 00000000-0000-7000-8000-000000000000 */

#endif
