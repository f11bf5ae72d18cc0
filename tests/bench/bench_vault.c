/* tests/bench/bench_vault.c - what a secret costs: opened, attached, and refused.
 *
 *   open      envelope_open(): derive, compare the commitment, decrypt
 *   attach    what a call does besides: copy, mark, write into a header line, wipe
 *   refuse    every way in which a record does not open, against a wrong tag: Welch's t over
 *             interleaved samples. Below 4.5 in absolute value nothing can be told apart.
 *
 * Prints, and asserts nothing but that things open and do not: a busy machine is no bug. All keys and
 * secrets here are made up. BENCH_SAMPLES (100000) of each. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "vault/envelope_priv.h"
#include "vault/secret_priv.h"

#define SAMPLES_MAX 10000000L
#define KEPT	    0.9 /* of the samples of a class: the slowest are the machine's */
#define CLASSES	    7

static uint8_t dek[ENVELOPE_DEK_BYTES];
static struct secret_ref ref = {.field = "api_key https://api.example.com:443", .row_version = 3};
static const char text[] = "fake-provider-secret-of-a-usual-length-0123456789abcdef";

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
	fprintf(stderr, "bench_vault: %s\n", what);
	exit(1);
}

static void print_times(const char *name, int64_t *ns, long n)
{
	qsort(ns, (size_t)n, sizeof *ns, by_value);
	printf("  %-28s p50 %7.2f us   p99 %7.2f us   p99.9 %7.2f us\n", name,
	       (double)ns[n / 2] / 1000, (double)ns[n * 99 / 100] / 1000,
	       (double)ns[n * 999 / 1000] / 1000);
}

/* What routing/flow.c and server/curlm.c do with an opened secret, one after the other. */
static void attach(const struct secret *plain)
{
	AUTO(secret) struct secret own = SECRET_INIT;
	char line[4096];
	struct secret_mark mark;
	int len;

	must(secret_from(secret_str(plain), &own) == RC_OK, "the secure heap is full");
	len = snprintf(line, sizeof line, "Authorization: Bearer ");
	memcpy(line + len, own.ptr, own.len);
	line[(size_t)len + own.len] = '\0';
	char *node = strdup(line);

	mark = secret_mark(&own);
	must(node && mark.len == own.len, "not marked");
	OPENSSL_cleanse(line, (size_t)len + own.len);
	OPENSSL_cleanse(node, (size_t)len + own.len);
	free(node);
}

static void bench_open(struct str blob, long n)
{
	int64_t *open_ns = calloc((size_t)n, sizeof *open_ns);
	int64_t *all_ns = calloc((size_t)n, sizeof *all_ns);

	must(open_ns && all_ns, "no memory");
	for (long i = 0; i < n; i++) {
		struct secret plain = SECRET_INIT;
		const int64_t t0 = now_ns();
		int64_t t1;

		must(envelope_open(dek, 7, &ref, blob, &plain) == RC_OK, "does not open");
		t1 = now_ns();
		attach(&plain);
		secret_clear(&plain);
		all_ns[i] = now_ns() - t0;
		open_ns[i] = t1 - t0;
	}
	print_times("secret opened", open_ns, n);
	print_times("secret opened and attached", all_ns, n);
	free(open_ns);
	free(all_ns);
}

/* ---- failures --------------------------------------------------------------------------------------- */

struct class
{
	const char *name;
	size_t flip;	 /* byte of the record; 0: none */
	bool key, moved; /* another data key; another row */
	int64_t *ns;
	double mean, var; /* of the KEPT part */
};

static int64_t refuse_once(const struct class *c, struct str blob)
{
	char copy[ENVELOPE_BYTES_MAX];
	uint8_t key[ENVELOPE_DEK_BYTES];
	struct secret_ref where = ref;
	struct secret plain = SECRET_INIT;
	int64_t began, took;
	enum rc rc;

	memcpy(copy, blob.ptr, blob.len);
	memcpy(key, dek, sizeof key);
	if (c->flip > 0)
		copy[c->flip] = (char)(copy[c->flip] ^ 1);
	key[0] ^= (uint8_t)c->key;
	where.row_version += c->moved;
	began = now_ns();
	rc = envelope_open(key, 7, &where, str_of(copy, blob.len), &plain);
	took = now_ns() - began;
	must(rc == RC_CORRUPT && !plain.ptr, "a broken record was not refused");
	return took;
}

static void shuffle(size_t order[CLASSES])
{
	static uint64_t state = UINT64_C(0x9e3779b97f4a7c15); /* xorshift: any order will do */

	for (size_t i = 0; i < CLASSES; i++) {
		size_t at;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		at = state % (i + 1);
		order[i] = order[at];
		order[at] = i;
	}
}

static void class_sum(struct class *c, long n)
{
	const long kept = (long)((double)n * KEPT);

	qsort(c->ns, (size_t)n, sizeof *c->ns, by_value);
	c->mean = c->var = 0;
	for (long i = 0; i < kept; i++)
		c->mean += (double)c->ns[i] / (double)kept;
	for (long i = 0; i < kept; i++)
		c->var += ((double)c->ns[i] - c->mean) * ((double)c->ns[i] - c->mean) /
			  (double)(kept - 1);
}

static double root(double x)
{
	double r = x > 1 ? x : 1;

	for (int i = 0; i < 60; i++)
		r = (r + x / r) / 2;
	return r;
}

static void bench_refuse(struct str blob, long n)
{
	struct class classes[CLASSES] = {
		{.name = "wrong tag", .flip = blob.len - 1},
		{.name = "wrong ciphertext", .flip = 90},
		{.name = "wrong commitment", .flip = 60},
		{.name = "wrong nonce", .flip = 45},
		{.name = "wrong salt", .flip = 10},
		{.name = "another data key", .key = true},
		{.name = "another row", .moved = true},
	};
	const double kept = (double)n * KEPT;

	for (size_t c = 0; c < CLASSES; c++)
		must((classes[c].ns = calloc((size_t)n, sizeof(int64_t))) != NULL, "no memory");
	for (long i = 0; i < n; i++) { /* all in turn, each time in another order */
		size_t order[CLASSES];

		shuffle(order);
		for (size_t c = 0; c < CLASSES; c++)
			classes[order[c]].ns[i] = refuse_once(&classes[order[c]], blob);
	}
	for (size_t c = 0; c < CLASSES; c++)
		class_sum(&classes[c], n);
	for (size_t c = 0; c < CLASSES; c++) {
		const double diff = classes[c].mean - classes[0].mean;
		const double err = root((classes[c].var + classes[0].var) / kept);

		printf("  %-28s mean %6.0f ns   difference %+6.1f ns   t %+7.2f\n", classes[c].name,
		       classes[c].mean, diff, c == 0 ? 0.0 : diff / err);
		free(classes[c].ns);
	}
}

int main(void)
{
	const char *samples = getenv("BENCH_SAMPLES");
	const long n = samples ? strtol(samples, NULL, 10) : 100000;
	AUTO(buf) struct buf blob = BUF_INIT(ENVELOPE_BYTES_MAX + 1);
	struct err err = {0};
	bool locked;

	must(n >= 1000 && n <= SAMPLES_MAX, "BENCH_SAMPLES is from 1000 to 10000000");
	must(secret_heap_start(&err, &locked) == RC_OK, err.message);
	must(aead_start() == RC_OK, "no AES-256-GCM");
	for (size_t i = 0; i < sizeof dek; i++)
		dek[i] = (uint8_t)(i * 7 + 3);
	must(envelope_seal(dek, 7, &ref, str_from(text), &blob) == RC_OK, "does not seal");
	printf("\nvault, in process, %ld samples each%s\n", n,
	       locked ? "" : " (secure heap not locked into memory)");
	bench_open(buf_str(&blob), n);
	printf("  refused (t: Welch's, against a wrong tag; %.0f %% of the samples kept)\n",
	       KEPT * 100);
	bench_refuse(buf_str(&blob), n);
	aead_stop();
	return 0;
}
