/* tests/bench/bench_json.c - what a body costs to be read and to be sent on, by its size and by the way.
 *
 *   parse       json_parse(): every string is copied         held    json_parse_held(): long ones are not
 *   edit        json_write_edited(): all of it written anew   splice  json_splice(): slices, nothing is written
 *
 * A chat call of 2 KB, and the same with an inline image: as base64 and, as some clients write it, with every '/'
 * escaped. The ways take turns, so that a slow moment of the machine meets all. Prints medians, and asserts
 * nothing but that it works. BENCH_ROUNDS (200; of the small one a hundred times as many). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/base/json.h"

#define ROUNDS_MAX 10000
#define BODY_MAX   (16u << 20)

static const struct json_edit edits[] = {{"model", STR("\"another-model\"")},
					 {"max_tokens", STR("4096")}};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_json: %s\n", what);
	exit(1);
}

enum way { PARSE, HELD, EDIT, SPLICE, WAYS };

/* One body, read and changed, each way once. */
static void once(struct str body, int64_t ns[WAYS], size_t arena_bytes_of[WAYS])
{
	AUTO(buf) struct buf out = BUF_INIT(2 * BODY_MAX);
	struct arena *mem = arena_new(16 * BODY_MAX), *held = arena_new(16 * BODY_MAX);
	struct str pieces[JSON_PIECES_MAX];
	struct json *copied, *v;
	size_t count;
	int64_t at[WAYS + 1];

	at[0] = now_ns();
	must(json_parse(body, JSON_NO_DUPLICATES, mem, &copied, NULL) == RC_OK, "does not parse");
	at[1] = now_ns();
	must(json_parse_held(body, JSON_NO_DUPLICATES, JSON_BORROW_MIN, held, &v, NULL) == RC_OK,
	     "does not parse where it stands");
	at[2] = now_ns();
	must(json_write_edited(copied, edits, ARRAY_LEN(edits), &out) == RC_OK, "is not written");
	at[3] = now_ns();
	must(json_splice(body, v, edits, ARRAY_LEN(edits), held, pieces, &count) == RC_OK,
	     "is not spliced");
	at[4] = now_ns();
	for (int i = 0; i < WAYS; i++)
		ns[i] = at[i + 1] - at[i];
	arena_bytes_of[PARSE] = arena_bytes(mem);
	arena_bytes_of[HELD] = arena_bytes(held);
	arena_bytes_of[EDIT] = out.cap;
	arena_bytes_of[SPLICE] = 0;
	arena_free(mem);
	arena_free(held);
}

static void measure(const char *name, struct str body, int rounds)
{
	static const char *const ways[WAYS] = {"parse", "held", "edit", "splice"};
	int64_t *ns[WAYS], one[WAYS], p50[WAYS];
	size_t bytes[WAYS];

	for (int w = 0; w < WAYS; w++)
		must((ns[w] = calloc((size_t)rounds, sizeof(int64_t))) != NULL, "no memory");
	for (int i = 0; i < rounds; i++) {
		once(body, one, bytes);
		for (int w = 0; w < WAYS; w++)
			ns[w][i] = one[w];
	}
	printf("  %s, %zu bytes, %d rounds\n", name, body.len, rounds);
	for (int w = 0; w < WAYS; w++) {
		qsort(ns[w], (size_t)rounds, sizeof(int64_t), by_value);
		p50[w] = ns[w][rounds / 2];
		printf("    %-8s p50 %9.2f us   p10 %9.2f   p90 %9.2f   %5.2f bodies of memory",
		       ways[w], (double)p50[w] / 1000, (double)ns[w][rounds / 10] / 1000,
		       (double)ns[w][rounds * 9 / 10] / 1000, (double)bytes[w] / (double)body.len);
		if (w == HELD || w == SPLICE)
			printf("   %.2f of %s", (double)p50[w] / (double)p50[w - 1], ways[w - 1]);
		printf("\n");
		free(ns[w]);
	}
}

/* A chat call whose last part is an image of `image` bytes. */
static void chat(size_t image, bool escaped, struct buf *body)
{
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint64_t state = UINT64_C(0x9e3779b97f4a7c15); /* xorshift: any picture will do */
	bool ok = buf_append(body,
			     STR("{\"model\":\"a-model\",\"temperature\":0.70,\"messages\":[")) ==
		  RC_OK;

	for (int i = 0; i < 8; i++)
		ok = ok && buf_printf(body,
				      "{\"role\":\"%s\",\"content\":\"%d: How is the weather in "
				      "\\\"Z\\u00fcrich\\\" today?\\nIt rains, %0*d says, and will "
				      "go on to do so.\"},",
				      i % 2 ? "assistant" : "user", i, 100, i) == RC_OK;
	ok = ok &&
	     buf_append(body, STR("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
				  "\"image_url\":{\"url\":\"data:image/png;base64,")) == RC_OK;
	for (size_t i = 0; ok && i < image; i++) {
		char c;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		c = base64[state % 64];
		ok = (!escaped || c != '/' || buf_append_char(body, '\\') == RC_OK) &&
		     buf_append_char(body, c) == RC_OK;
	}
	ok = ok && buf_append(body, STR("\"}}]}],\"max_tokens\":100}")) == RC_OK;
	must(ok, "no body");
}

int main(void)
{
	const char *given = getenv("BENCH_ROUNDS");
	const long rounds = given ? strtol(given, NULL, 10) : 200;
	struct buf small = BUF_INIT(BODY_MAX), large = BUF_INIT(BODY_MAX), odd = BUF_INIT(BODY_MAX);

	must(rounds >= 10 && rounds <= ROUNDS_MAX, "BENCH_ROUNDS is from 10 to 10000");
	chat(16, false, &small);
	chat(5000000, false, &large);
	chat(5000000, true, &odd);
	printf("\nJSON bodies, in process\n");
	measure("a chat call", buf_str(&small), (int)rounds * 100);
	measure("with an image", buf_str(&large), (int)rounds);
	measure("with an image, escaped", buf_str(&odd), (int)rounds);
	buf_clear(&small);
	buf_clear(&large);
	buf_clear(&odd);
	return 0;
}
