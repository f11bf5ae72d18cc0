/* tests/bench/bench_dialects.c - what it costs to ask, and to be answered, in another dialect.
 *
 *   request   a chat call of 2 KB as the caller wrote it, read and written for the provider
 *   event     a piece of text of a stream, from the provider's event to the caller's; also of a tool call's arguments
 *
 * For each of the callers' dialects and each of the providers', with the arenas and buffers that flow.c gives them.
 * Where both sides speak the same the bytes pass: that is what the others are held against. All pairs take turns, so
 * that a slow moment of the machine meets all. Prints medians, and asserts nothing but that it works.
 * BENCH_ROUNDS (2000). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "routing/dialect.h"
#include "routing/provider.h"

#define ROUNDS_MAX  1000000
#define EVENTS	    64 /* of one stream, timed together */
#define STARTS_MAX  4
#define ARENA_MAX   (8u << 20)
#define BODY_MAX    (1u << 20)
#define SIDES	    4
#define EVENT_KINDS 2

static const struct side {
	const char *name;
	const struct dialect *dialect;
	const char *provider, *model;
	/* Of a stream: what comes first, and then again and again. Each is the data of one event. */
	struct {
		const char *starts[STARTS_MAX], *again;
	} streams[EVENT_KINDS];
} sides[SIDES] = {
	{"chat",
	 &dialect_openai_chat,
	 "openai",
	 "gpt-4.1",
	 {{{"{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
	    "\"model\":\"gpt-4.1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
	    "\"content\":\"\"},\"finish_reason\":null}]}"},
	   "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
	   "\"model\":\"gpt-4.1\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\","
	   "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" weather\"},\"logprobs\":null,"
	   "\"finish_reason\":null}],\"usage\":null}"},
	  {{"{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
	    "\"model\":\"gpt-4.1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
	    "\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"weather\","
	    "\"arguments\":\"{\\\"text\\\":\\\"\"}}]},\"finish_reason\":null}]}"},
	   "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
	   "\"model\":\"gpt-4.1\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\","
	   "\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
	   "\"arguments\":\" weather\"}}]},\"logprobs\":null,\"finish_reason\":null}],"
	   "\"usage\":null}"}}},
	{"responses",
	 &dialect_openai_responses,
	 "openai",
	 "gpt-4.1",
	 {{{"{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\","
	    "\"object\":\"response\",\"created_at\":1760000000,\"status\":\"in_progress\","
	    "\"model\":\"gpt-4.1\",\"output\":[]}}",
	    "{\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,"
	    "\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"in_progress\","
	    "\"role\":\"assistant\",\"content\":[]}}",
	    "{\"type\":\"response.content_part.added\",\"sequence_number\":2,\"item_id\":\"msg_1\","
	    "\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\","
	    "\"annotations\":[]}}"},
	   "{\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"item_id\":\"msg_1\","
	   "\"output_index\":0,\"content_index\":0,\"delta\":\" weather\",\"logprobs\":[],"
	   "\"obfuscation\":\"a1b2c3d4\"}"},
	  {{"{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\","
	    "\"object\":\"response\",\"created_at\":1760000000,\"status\":\"in_progress\","
	    "\"model\":\"gpt-4.1\",\"output\":[]}}",
	    "{\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":0,"
	    "\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"in_progress\","
	    "\"call_id\":\"call_1\",\"name\":\"weather\",\"arguments\":\"\"}}"},
	   "{\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":3,"
	   "\"item_id\":\"fc_1\",\"output_index\":0,\"delta\":\" weather\","
	   "\"obfuscation\":\"a1b2c3d4\"}"}}},
	{"anthropic",
	 &dialect_anthropic_messages,
	 "anthropic",
	 "claude-sonnet-4-5",
	 {{{"{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\","
	    "\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],"
	    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":50,"
	    "\"output_tokens\":1}}}",
	    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\","
	    "\"text\":\"\"}}"},
	   "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\","
	   "\"text\":\" weather\"}}"},
	  {{"{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\","
	    "\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],"
	    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":50,"
	    "\"output_tokens\":1}}}",
	    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\","
	    "\"id\":\"toolu_1\",\"name\":\"weather\",\"input\":{}}}"},
	   "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
	   "\"partial_json\":\" weather\"}}"}}},
	{"gemini",
	 &dialect_gemini,
	 "gemini",
	 "gemini-3-flash-preview",
	 {{{NULL},
	   "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" weather\"}],\"role\":\"model\"},"
	   "\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":50,\"candidatesTokenCount\":3,"
	   "\"totalTokenCount\":53,\"promptTokensDetails\":[{\"modality\":\"TEXT\","
	   "\"tokenCount\":50}]},\"modelVersion\":\"gemini-3-flash-preview\","
	   "\"responseId\":\"r-1\"}"},
	  {{NULL}, NULL}}}, /* its calls come whole */
};

static const char question[] =
	"{\"model\":\"my-model\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
	"\"temperature\":0.70,\"top_p\":0.95,\"max_completion_tokens\":1024,"
	"\"messages\":[{\"role\":\"system\",\"content\":\"You help travellers. Answer in the language of "
	"the question, in at most three sentences, and say where you know it from. Where you do not "
	"know, ask the tools; where they do not know, say so. Times are those of the place, in "
	"twenty-four hours; prices are in its money, and in the traveller's where you know which that is. Warn "
	"of what is closed, late or full on that day before you recommend it.\"},"
	"{\"role\":\"user\",\"content\":\"How is the weather in \\\"Z\\u00fcrich\\\" today?\\nI go there "
	"by train and would like to walk from the station to the lake.\"},"
	"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_a1\",\"type\":\"function\","
	"\"function\":{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Zurich\\\",\\\"days\\\":1}\"}}]},"
	"{\"role\":\"tool\",\"tool_call_id\":\"call_a1\",\"content\":\"{\\\"sky\\\":\\\"rain until noon, then "
	"clouds\\\",\\\"celsius\\\":[9,14],\\\"wind\\\":\\\"light, from the west\\\"}\"},"
	"{\"role\":\"assistant\",\"content\":\"It rains until noon and stays cloudy after that, at 9 to 14 "
	"degrees; an umbrella is enough for the quarter of an hour down to the lake.\"},"
	"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"And tomorrow? If it is dry I would "
	"rather take the boat to Rapperswil and come back by train in the evening. When does the "
	"first one leave, how long does it take, and what does it cost with a half-fare card?\"}]}],"
	"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"description\":\"The weather of "
	"a city for some days\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":"
	"\"string\",\"description\":\"its usual name\"},\"days\":{\"type\":\"integer\",\"minimum\":1,"
	"\"maximum\":14}},\"required\":[\"city\"]}}},{\"type\":\"function\",\"function\":{\"name\":"
	"\"boats\",\"description\":\"Boats between two landing stages on a day\",\"parameters\":{\"type\":"
	"\"object\",\"properties\":{\"from\":{\"type\":\"string\"},\"to\":{\"type\":\"string\"},\"day\":{"
	"\"type\":\"string\"}},\"required\":[\"from\",\"to\"]}}}],\"tool_choice\":\"auto\"}";

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

static void must(bool ok, const char *what, const struct err *err)
{
	if (ok)
		return;
	fprintf(stderr, "bench_dialects: %s: %s (%s)\n", what, err ? err->message : "",
		err ? err->field : "");
	exit(1);
}

static struct dialect_target target_of(const struct side *s)
{
	return (struct dialect_target){.provider = provider_find(str_from(s->provider)),
				       .dialect = s->dialect,
				       .model = str_from(s->model),
				       .max_output_known = 32768};
}

/* As flow.c does it: DECODE, and ENCODE for the first target. */
static void ask(const struct side *here, const struct side *there, struct str body,
		struct arena *mem, struct call *c, struct buf *out)
{
	const struct dialect_target t = target_of(there);
	const struct call_head head = {.model = STR("my-model"), .stream = true};
	struct outgoing o = {.body = out};
	struct err err = {0};

	must(here->dialect->decode_request(&head, body, mem, c, &err) == RC_OK, "decode_request",
	     &err);
	if (here->dialect == there->dialect) {
		must(here->dialect->encode_request(c, &t, mem, &o, &err) == RC_OK, "encode_request",
		     &err);
		return;
	}
	struct ask *asked = ARENA_NEW(mem, struct ask);

	asked->operation = c->operation;
	must(here->dialect->decode_ask(c, mem, asked, &err) == RC_OK, "decode_ask", &err);
	must(buf_reserve(out, body.len + 4096) == RC_OK, "buf_reserve", NULL);
	must(there->dialect->encode_ask(c, asked, &t, mem, &o, &err) == RC_OK, "encode_ask", &err);
}

static int64_t time_request(const struct side *here, const struct side *there, struct str body)
{
	const int64_t began = now_ns();
	struct arena *mem = arena_new(ARENA_MAX);
	AUTO(buf) struct buf out = BUF_INIT(BODY_MAX);
	struct call c;
	int64_t took;

	ask(here, there, body, mem, &c, &out);
	must(out.len > 0, "nothing was written", NULL);
	arena_free(mem);
	took = now_ns() - began;
	return took;
}

/* As flow_relay.c does it. */
static size_t relay(struct dialect_ctx *ctx, const struct dialect *here, struct str data,
		    struct str raw)
{
	AUTO(buf) struct buf out = BUF_INIT(BODY_MAX);
	const struct sse_event ev = {.data = data, .raw = raw};
	struct facts f = {.usage = USAGE_NONE};
	struct arena *keep = ctx->mem;

	ctx->mem = arena_new(ARENA_MAX);
	must(ctx->target->dialect->decode_event(ctx, &ev, &f) == RC_OK && f.error == ERROR_none,
	     "decode_event", &f.err);
	must((ctx->translate ? here->encode_deltas(ctx, &f, &out)
			     : here->encode_event(ctx, &ev, &f, &out)) == RC_OK,
	     "encode", NULL);
	arena_free(ctx->mem);
	ctx->mem = keep;
	return out.len;
}

static int64_t time_events(const struct side *here, const struct side *there, struct str body,
			   int kind)
{
	const struct dialect_target t = target_of(there);
	struct arena *mem = arena_new(ARENA_MAX);
	AUTO(buf) struct buf out = BUF_INIT(BODY_MAX), raw = BUF_INIT(BODY_MAX);
	const struct str again = str_from(there->streams[kind].again);
	struct call c;
	struct dialect_ctx ctx = {.mem = mem,
				  .keep = mem,
				  .call = &c,
				  .target = &t,
				  .id = STR("0199b0c0-0000-7000-8000-000000000001"),
				  .created_s = 1760000000,
				  .translate = here != there};
	int64_t began, took;

	ask(here, there, body, mem, &c, &out);
	for (int i = 0; i < STARTS_MAX && there->streams[kind].starts[i]; i++)
		(void)relay(&ctx, here->dialect, str_from(there->streams[kind].starts[i]),
			    STR("-"));
	must(buf_printf(&raw, "data: %s\n\n", again.ptr) == RC_OK, "no event", NULL);
	(void)relay(&ctx, here->dialect, again, buf_str(&raw)); /* begins the caller's block */
	began = now_ns();
	for (int i = 0; i < EVENTS; i++)
		must(relay(&ctx, here->dialect, again, buf_str(&raw)) > 0 ||
			     kind > 0, /* Gemini waits for all of a call */
		     "an event went missing", NULL);
	took = (now_ns() - began) / EVENTS;
	arena_free(mem);
	return took;
}

enum what { REQUEST, TEXT, ARGUMENTS, WHATS };

static int64_t *samples[WHATS][SIDES][SIDES];

static double percentile_us(enum what w, int here, int there, long n, long percent)
{
	return (double)samples[w][here][there][n * percent / 100] / 1000;
}

static void print_cell(enum what w, int here, int there, long n)
{
	char cell[64] = "-", *end = cell;
	const double p50 = samples[w][here][there] ? percentile_us(w, here, there, n, 50) : 0;

	if (samples[w][here][there])
		end += snprintf(cell, sizeof cell, "%.2f (%.2f-%.2f)", p50,
				percentile_us(w, here, there, n, 10),
				percentile_us(w, here, there, n, 90));
	if (samples[w][here][there] && samples[w][here][here])
		snprintf(end, sizeof cell - (size_t)(end - cell), " %.1fx",
			 p50 / percentile_us(w, here, here, n, 50));
	printf("%26s", cell);
}

static void print_table(enum what w, const char *title, long n)
{
	printf("  %s: p50 us (p10-p90), times the same dialect\n    %-12s", title, "caller");
	for (int i = 0; i < SIDES; i++)
		printf("%26s", sides[i].name);
	printf("\n");
	for (int i = 0; i < SIDES; i++) {
		printf("    %-12s", sides[i].name);
		for (int j = 0; j < SIDES; j++)
			print_cell(w, i, j, n);
		printf("\n");
	}
}

/* The same question in every dialect. */
static void questions(struct buf bodies[SIDES])
{
	for (int i = 0; i < SIDES; i++) {
		struct arena *mem = arena_new(ARENA_MAX);
		struct call c;

		bodies[i] = BUF_INIT(BODY_MAX);
		if (i == 0)
			must(buf_append(&bodies[i], str_from(question)) == RC_OK, "no body", NULL);
		else
			ask(&sides[0], &sides[i], str_from(question), mem, &c, &bodies[i]);
		arena_free(mem);
	}
}

static int64_t time_once(int w, int here, int there, struct str body)
{
	return w == REQUEST ? time_request(&sides[here], &sides[there], body)
			    : time_events(&sides[here], &sides[there], body, w - TEXT);
}

static void round_of_all(long r, const struct buf bodies[SIDES])
{
	for (int i = 0; i < SIDES * SIDES * WHATS; i++) {
		const int here = i / SIDES % SIDES, there = i % SIDES;
		const int w = i / (SIDES * SIDES);

		if (samples[w][here][there])
			samples[w][here][there][r] =
				time_once(w, here, there, buf_str(&bodies[here]));
	}
}

static void samples_new(long n)
{
	for (int i = 0; i < SIDES * SIDES * WHATS; i++) {
		const int there = i % SIDES, w = i / (SIDES * SIDES);

		if (w != REQUEST && !sides[there].streams[w - TEXT].again)
			continue;
		samples[w][i / SIDES % SIDES][there] = calloc((size_t)n, sizeof(int64_t));
		must(samples[w][i / SIDES % SIDES][there], "no memory", NULL);
	}
}

static void samples_sort(long n)
{
	for (int i = 0; i < SIDES * SIDES * WHATS; i++) {
		int64_t *ns = samples[i / (SIDES * SIDES)][i / SIDES % SIDES][i % SIDES];

		if (ns)
			qsort(ns, (size_t)n, sizeof *ns, by_value);
	}
}

int main(void)
{
	const char *given = getenv("BENCH_ROUNDS");
	const long n = given ? strtol(given, NULL, 10) : 2000;
	struct buf bodies[SIDES];

	must(n >= 10 && n <= ROUNDS_MAX, "BENCH_ROUNDS is from 10 to 1000000", NULL);
	questions(bodies);
	samples_new(n);
	for (long r = 0; r < n; r++)
		round_of_all(r, bodies);
	samples_sort(n);
	printf("\ndialects, in process, %ld rounds; a call of", n);
	for (int i = 0; i < SIDES; i++)
		printf(" %zu", bodies[i].len);
	printf(" bytes in each; columns are the provider's\n");
	print_table(REQUEST, "a request read and written", n);
	print_table(TEXT, "an event of text", n);
	print_table(ARGUMENTS, "an event of a call's arguments", n);
	for (int i = 0; i < SIDES * SIDES * WHATS; i++)
		free(samples[i / (SIDES * SIDES)][i / SIDES % SIDES][i % SIDES]);
	for (int i = 0; i < SIDES; i++)
		buf_clear(&bodies[i]);
	return 0;
}
