/* server/curlm_head.h - what an upstream's response head may look like, line by line.
 *
 * libcurl forgives what a gateway must not: both a length and chunks, two lengths, an encoding nobody
 * asked for. Pure: one struct per call, no I/O. Lines come as libcurl hands them over. */
#ifndef SERVER_CURLM_HEAD_H
#define SERVER_CURLM_HEAD_H
#include <stdbool.h>
#include "server/base/err.h"
#include "server/base/str.h"
#include "server/curlm.h"

#define CURLM_HEAD_BYTES_MAX	     65536 /* status lines, headers and trailers together */
#define CURLM_HEAD_INFORMATIONAL_MAX 16	   /* 1xx answers before the real one */

struct curlm_head {
	struct curlm_response r; /* points into the arrays below */
	bool complete;		 /* the final head is there and sane */
	bool chunked, http_1_0;
	int lengths, informational;
	size_t bytes;
	char content_type[128], retry_after[64], retry_after_ms[64], request_id[128];
	char character_cost[32], character_count[32];
	char buckets[CURLM_BUCKETS][2][40], bucket_reset[32];
};
/* One line with its line end, the empty one too. RC_PROTOCOL with code "protocol" or
 * "upstream_redirect": the call must end. Lines after `complete` are trailers. */
MUST_CHECK enum rc curlm_head_line(struct curlm_head *h, struct str line, struct err *err);
/* The token characters of RFC 9110; at most 64. */
bool curlm_header_name_ok(struct str name);
/* No control bytes, at most 4 KiB. */
bool curlm_header_value_ok(struct str value);

#endif
