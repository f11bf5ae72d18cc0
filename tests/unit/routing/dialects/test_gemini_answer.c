/* test_gemini_answer.c - what a provider of the Gemini dialect answers: streams, whole answers, usage, errors. */
#include "server/base/json.h"
#include "tests/unit/routing/dialects/gemini_test.h"

static const struct dialect *const d = &dialect_gemini;

struct play { /* a stream, decoded with its deltas, and passed through */
	struct dialect_ctx ctx;
	struct dialect_target target;
	struct call call;
	struct usage usage;
	enum error_class error;
	struct err err;
	struct buf deltas, out;
	bool ending, content, protocol;
	int64_t text_bytes;
	enum finish finish;
	char model[64], id[64];
};

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f;

	p->ctx.mem = arena_new(ARENA_BYTES);
	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
	} else {
		if (f.usage.present)
			p->usage = f.usage;
		if (f.error != ERROR_none) {
			p->error = f.error;
			p->err = f.err;
		}
		if (f.finish != FINISH_NONE)
			p->finish = f.finish;
		p->ending |= f.ending;
		p->content |= f.content;
		p->text_bytes += f.text_bytes;
		if (f.model.len > 0)
			snprintf(p->model, sizeof p->model, "%.*s", STR_FMT(f.model));
		if (f.id.len > 0)
			snprintf(p->id, sizeof p->id, "%.*s", STR_FMT(f.id));
		say_deltas(&p->deltas, &f);
		ck_assert_int_eq(d->encode_event(&p->ctx, ev, &f, &p->out), RC_OK);
	}
	arena_free(p->ctx.mem);
	return true;
}

static void play_begin(struct play *p, int64_t choices, bool array, bool translate)
{
	*p = (struct play){.usage = USAGE_NONE,
			   .call = {.choices = choices, .stream = true, .stream_array = array},
			   .target = gemini_target("gemini", "gemini-3-pro")};
	p->ctx.keep = arena_new(ARENA_BYTES);
	p->ctx.call = &p->call;
	p->ctx.target = &p->target;
	p->ctx.id = STR(FIXTURE_ID);
	p->ctx.translate = translate;
	buf_init(&p->out, OUT_BYTES);
	buf_init(&p->deltas, OUT_BYTES);
	ck_assert_int_eq(buf_append(&p->deltas, STR("")), RC_OK);
}

static void play_stream(struct play *p, struct str wire, size_t step)
{
	struct sse s;

	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += step)
		ck_assert_int_eq(sse_feed(&s, str_slice(wire, at, at + step), on_event, p), RC_OK);
	sse_clear(&s);
}

static void play_clear(struct play *p)
{
	arena_free(p->ctx.keep);
	buf_clear(&p->out);
	buf_clear(&p->deltas);
}

/* ---- streams ----------------------------------------------------------------------------------------- */

#define CALL_ID "call_" FIXTURE_ID "_"

static const struct {
	const char *name, *deltas;
	int64_t text_bytes;
	enum finish finish;
	int64_t n
		[6]; /* in_text, in_cached_read, in_tool_prompt, out_text, out_reasoning, searches */
	enum error_class error;
} streams[] = {
	{"gemini-thought-text.sse",
	 "R:Weighing ports.|E:|T:Ri|T:ga.|F1|",
	 20,
	 FINISH_STOP,
	 {24, 16, 0, 3, 20},
	 ERROR_none},
	{"gemini-parallel-calls.sse",
	 "C0 lookup_port#" CALL_ID "0~c2ln|A0:{\"city\":\"Tallinn\"}|C1 list_ferries#" CALL_ID
	 "1~|A1:{}|F3|",
	 43,
	 FINISH_TOOL_CALLS,
	 {40, 0, 0, 14, 20},
	 ERROR_none},
	{"gemini-call-in-pieces.sse",
	 "C0 book#" CALL_ID
	 "0~c2lnMQ==|A0:{\"city\":\"Tallinn\",\"days\":[1.50,2],\"opt\":{\"a.b\":"
	 "{\"on\":true}}}|C1 list#" CALL_ID "1~|A1:{\"n\":12345678901234567890}|F3|",
	 41,
	 FINISH_TOOL_CALLS,
	 {20, 0, 0, 7, 0},
	 ERROR_none},
	{"gemini-grounded.sse",
	 "T:It rains.|T: Much.|@https://weather.example/x Weather It rains.|@https://weather.example/y"
	 "  |@https://book.example/  |F1|",
	 15,
	 FINISH_STOP,
	 {8, 0, 20, 5, 0, 1},
	 ERROR_none},
	{"gemini-error-midstream.sse",
	 "T:On its |",
	 7,
	 FINISH_NONE,
	 {9, 0, 0, 0, 0},
	 ERROR_overloaded},
};

static void check_stream(const struct play *p, int i)
{
	const int64_t *n = p->usage.n;

	ck_assert(!p->protocol);
	ck_assert_str_eq(p->deltas.ptr, streams[i].deltas);
	ck_assert_int_eq(p->error, streams[i].error);
	ck_assert_int_eq(p->text_bytes, streams[i].text_bytes);
	ck_assert_int_eq(p->finish, streams[i].finish);
	ck_assert_int_eq(p->ctx.finished_choices, streams[i].finish != FINISH_NONE);
	ck_assert_int_eq(p->ending, streams[i].finish != FINISH_NONE);
	ck_assert(p->content && p->model[0] && p->id[0]);
	ck_assert(p->usage.present);
	ck_assert_uint_eq(p->usage.flags, 0);
	ck_assert_int_eq(n[USAGE_in_text], streams[i].n[0]);
	ck_assert_int_eq(n[USAGE_in_cached_read], streams[i].n[1]);
	ck_assert_int_eq(n[USAGE_in_tool_prompt], streams[i].n[2]);
	ck_assert_int_eq(n[USAGE_out_text], streams[i].n[3]);
	ck_assert_int_eq(n[USAGE_out_reasoning], streams[i].n[4]);
	ck_assert_int_eq(n[USAGE_searches], streams[i].n[5]);
}

START_TEST(stream_is_read_however_it_is_cut)
{
	struct buf wire = fixture_read(streams[_i].name);

	for (size_t step = 1; step <= wire.len; step++) {
		struct play p;

		play_begin(&p, 1, false, true);
		play_stream(&p, buf_str(&wire), step);
		check_stream(&p, _i);
		if (p.error == ERROR_none) /* passed through, nothing is changed */
			ck_assert(str_eq(buf_str(&p.out), buf_str(&wire)));
		play_clear(&p);
	}
	buf_clear(&wire);
}
END_TEST

START_TEST(facts_are_the_same_without_deltas)
{
	struct buf wire = fixture_read(streams[_i].name);
	struct play p;

	play_begin(&p, 1, false, false);
	play_stream(&p, buf_str(&wire), 1000);
	ck_assert_str_eq(p.deltas.ptr, "");
	ck_assert_int_eq(p.text_bytes, streams[_i].text_bytes);
	ck_assert_int_eq(p.finish, streams[_i].finish);
	ck_assert_int_eq(p.error, streams[_i].error);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

/* Cut behind any event: what came is counted, and the end is never there before its event. */
START_TEST(a_cut_stream_is_not_whole)
{
	struct buf wire = fixture_read(streams[_i].name);
	size_t events = 0, seen = 0;

	for (size_t at = 0; at + 6 < wire.len; at++)
		events += memcmp(wire.ptr + at, "data: ", 6) == 0;
	for (size_t at = 1; at < wire.len; at++) {
		struct play p;

		if (memcmp(wire.ptr + at, "data: ", 6 < wire.len - at ? 6 : wire.len - at) != 0)
			continue;
		seen++;
		play_begin(&p, 1, false, true);
		play_stream(&p, str_slice(buf_str(&wire), 0, at), 7);
		ck_assert(!p.ending && !p.protocol && p.error == ERROR_none);
		ck_assert_int_eq(p.ctx.finished_choices, 0);
		ck_assert(str_starts(str_from(streams[_i].deltas), buf_str(&p.deltas)));
		play_clear(&p);
	}
	ck_assert_uint_eq(seen + 1, events);
	buf_clear(&wire);
}
END_TEST

START_TEST(a_stream_as_an_array_is_one_value)
{
	struct buf wire = fixture_read("gemini-thought-text.sse");
	struct json *root;
	struct play p;

	play_begin(&p, 1, true, false);
	play_stream(&p, buf_str(&wire), 100);
	ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&p.out), JSON_NO_DUPLICATES, p.ctx.keep, &root, NULL),
			 RC_OK);
	ck_assert_int_eq(json_type(root), JSON_ARRAY);
	ck_assert_uint_eq(json_len(root), 3);
	play_clear(&p);
	play_begin(&p, 1, true, false); /* nothing came: still a value */
	ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
	ck_assert_str_eq(p.out.ptr, "[]");
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

#define EVENT(json) "data: " json "\n\n"
#define TEXT(t)	    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" t "\"}]}}]}"

static const struct {
	const char *wire, *deltas;
	int64_t choices;
	enum finish finish;
	enum error_class error;
	bool protocol, ending;
} oddities[] = {
	/* candidates interleave; the stream ends with the last of them */
	{EVENT("{\"candidates\":[{\"index\":1,\"content\":{\"parts\":[{\"text\":\"b\"}]},"
	       "\"finishReason\":\"STOP\"},{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}"),
	 "1/T:b|1/F1|T:a|", 2, FINISH_STOP, ERROR_none, false, false},
	{EVENT("{\"candidates\":[{\"index\":1,\"finishReason\":\"STOP\"},{\"finishReason\":"
	       "\"MAX_TOKENS\"}]}"),
	 "1/F1|F2|", 2, FINISH_LENGTH, ERROR_none, false, true},
	/* a reason that is repeated counts once */
	{EVENT("{\"candidates\":[{\"finishReason\":\"STOP\"}]}")
		 EVENT("{\"candidates\":[{\"finishReason\":\"STOP\"}]}"),
	 "F1|", 1, FINISH_STOP, ERROR_none, false, true},
	{EVENT("{\"candidates\":[{\"finishReason\":\"FINISH_REASON_UNSPECIFIED\"}]}"), "", 1,
	 FINISH_NONE, ERROR_none, false, false},
	/* content filters */
	{EVENT(TEXT("a")) EVENT("{\"candidates\":[{\"finishReason\":\"SAFETY\",\"finishMessage\":"
				"\"no\"}]}"),
	 "T:a|N:no|F4|", 1, FINISH_CONTENT_FILTER, ERROR_none, false, true},
	{EVENT("{\"candidates\":[{\"finishReason\":\"IMAGE_RECITATION\"}]}"), "F4|", 1,
	 FINISH_CONTENT_FILTER, ERROR_none, false, true},
	/* a prompt that was blocked ends all choices */
	{EVENT("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":"
	       "{\"promptTokenCount\":3}}"),
	 "N:The prompt was blocked: SAFETY.|F4|1/N:The prompt was blocked: SAFETY.|1/F4|", 2,
	 FINISH_CONTENT_FILTER, ERROR_none, false, true},
	/* the model's own failures: an error while nothing has come, a stop after */
	{EVENT("{\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]}"), "", 1,
	 FINISH_NONE, ERROR_server_error, false, false},
	{EVENT("{\"candidates\":[{\"finishReason\":\"NEWS\"}]}"), "", 1, FINISH_NONE,
	 ERROR_server_error, false, false},
	{EVENT(TEXT("a")) EVENT("{\"candidates\":[{\"finishReason\":\"UNEXPECTED_TOOL_CALL\"}]}"),
	 "T:a|F1|", 1, FINISH_STOP, ERROR_none, false, true},
	/* a thought that is sealed, one that is not, a seal alone, pictures */
	{EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"t\",\"thought\":true,"
	       "\"thoughtSignature\":\"cw==\"},{\"text\":\"a\"},{\"text\":\"\",\"thought\":true,"
	       "\"thoughtSignature\":\"eA==\"},{\"inlineData\":{\"mimeType\":\"image/png\","
	       "\"data\":\"AA==\"}},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"BB==\"},"
	       "\"thought\":true}]}}]}"),
	 "R:t|E:cw==|T:a|E:eA==|M:image/png AA==|", 1, FINISH_NONE, ERROR_none, false, false},
	{EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"t\",\"thought\":true}]},"
	       "\"finishReason\":\"STOP\"}]}"),
	 "R:t|E:|F1|", 1, FINISH_STOP, ERROR_none, false, true},
	/* a call's own id stays; pieces whose end part is missing */
	{EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\","
	       "\"id\":\"x1\"}},{\"functionCall\":{\"name\":\"g\",\"willContinue\":true}}]}}]}")
		 EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"partialArgs\":"
		       "[{\"jsonPath\":\"$.a\",\"nullValue\":\"NULL_VALUE\"}],\"willContinue\":true}}]},"
		       "\"finishReason\":\"STOP\"}]}"),
	 "C0 f#x1~|A0:{}|C1 g#" CALL_ID "1~|A1:{\"a\":null}|F3|", 1, FINISH_TOOL_CALLS, ERROR_none,
	 false, true},
	/* errors inside: an object, one in an array, a bare one */
	{EVENT("{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}"), "", 1, FINISH_NONE,
	 ERROR_rate_limit, false, false},
	{EVENT("[{\"error\":{\"code\":500,\"status\":\"INTERNAL\"}}]"), "", 1, FINISH_NONE,
	 ERROR_server_error, false, false},
	{"{\"error\":{\"code\":504,\"status\":\"DEADLINE_EXCEEDED\"}}\n\n", "", 1, FINISH_NONE,
	 ERROR_timeout, false, false},
	/* what is no answer at all, and what is nothing */
	{EVENT("nonsense"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("7"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("{\"candidates\":{}}"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("{\"candidates\":[7]}"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("{\"candidates\":[{\"index\":99}]}"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("{\"candidates\":[{\"index\":-1}]}"), "", 1, FINISH_NONE, ERROR_none, true, false},
	{EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"g\","
	       "\"partialArgs\":[{\"jsonPath\":\"oops\",\"stringValue\":\"x\"}]}}]}}]}"),
	 "", 1, FINISH_NONE, ERROR_none, true, false},
	{": ping\n\n\n\ndata:\n\n" EVENT("{}"), "", 1, FINISH_NONE, ERROR_none, false, false},
	{EVENT("{\"candidates\":[{\"content\":{},\"news\":1},{\"content\":{\"parts\":[{\"news\":{}}]}}]}"),
	 "", 1, FINISH_NONE, ERROR_none, false, false},
};

START_TEST(odd_stream_is_read)
{
	struct play p;

	play_begin(&p, oddities[_i].choices, false, true);
	play_stream(&p, str_from(oddities[_i].wire), 11);
	ck_assert_int_eq(p.protocol, oddities[_i].protocol);
	ck_assert_str_eq(p.deltas.ptr, oddities[_i].deltas);
	ck_assert_int_eq(p.finish, oddities[_i].finish);
	ck_assert_int_eq(p.error, oddities[_i].error);
	ck_assert_int_eq(p.ending, oddities[_i].ending);
	ck_assert((p.error == ERROR_none) == (p.err.code == NULL));
	play_clear(&p);
}
END_TEST

/* ---- whole answers ------------------------------------------------------------------------------------- */

static const struct {
	const char *body, *deltas;
	enum rc rc;
	enum error_class error;
} answers[] = {
	{"{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Sure.\"}]},"
	 "\"finishReason\":\"STOP\",\"index\":0}],\"modelVersion\":\"m\",\"responseId\":\"r\"}",
	 "T:Sure.|F1|", RC_OK, ERROR_none},
	{"{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":"
	 "{\"a\":1.10}}}]}}]}",
	 "C0 f#" CALL_ID "0~|A0:{\"a\":1.10}|F3|", RC_OK, ERROR_none},
	{"{\"candidates\":[{\"finishReason\":\"MAX_TOKENS\"}]}", "F2|", RC_OK, ERROR_none},
	{"[{\"error\":{\"code\":503,\"message\":\"x\",\"status\":\"UNAVAILABLE\"}}]", "", RC_OK,
	 ERROR_overloaded},
	{"{}", "", RC_PROTOCOL, ERROR_none},
	{"{\"candidates\":[]}", "", RC_PROTOCOL, ERROR_none},
	{"{\"promptFeedback\":{}}", "", RC_PROTOCOL, ERROR_none},
	{"<html>", "", RC_PROTOCOL, ERROR_none},
	{"[]", "", RC_PROTOCOL, ERROR_none},
};

START_TEST(whole_answer_is_read)
{
	struct play p;
	struct facts f = {0};

	play_begin(&p, 1, false, true);
	p.ctx.mem = p.ctx.keep;
	ck_assert_int_eq(d->decode_response(&p.ctx, str_from(answers[_i].body), &f),
			 answers[_i].rc);
	if (answers[_i].rc == RC_OK) {
		say_deltas(&p.deltas, &f);
		ck_assert_str_eq(p.deltas.ptr, answers[_i].deltas);
		ck_assert_int_eq(f.error, answers[_i].error);
	}
	play_clear(&p);
}
END_TEST

START_TEST(blocked_prompt_is_a_refusal_that_cost_its_prompt)
{
	struct buf body = fixture_read("gemini-blocked-prompt.json");
	struct facts f = {0};
	struct play p;

	play_begin(&p, 1, false, true);
	p.ctx.mem = p.ctx.keep;
	ck_assert_int_eq(d->decode_response(&p.ctx, buf_str(&body), &f), RC_OK);
	say_deltas(&p.deltas, &f);
	ck_assert_str_eq(p.deltas.ptr, "N:The prompt was blocked: PROHIBITED_CONTENT.|F4|");
	ck_assert_int_eq(f.finish, FINISH_CONTENT_FILTER);
	ck_assert(f.content && f.ending && f.usage.present);
	ck_assert_int_eq(f.usage.n[USAGE_in_text], 12);
	ck_assert_int_eq(f.text_bytes, 0); /* the words are not the model's */
	play_clear(&p);
	buf_clear(&body);
}
END_TEST

static const struct {
	const char *body;
	enum rc rc;
	int64_t counted;
} counts[] = {
	{"{\"totalTokens\":31,\"cachedContentTokenCount\":4}", RC_OK, 31},
	{"{\"totalTokens\":0}", RC_OK, 0},
	{"{}", RC_PROTOCOL, 0},
	{"{\"totalTokens\":-1}", RC_PROTOCOL, 0},
	{"{\"totalTokens\":\"31\"}", RC_PROTOCOL, 0},
	{"[", RC_PROTOCOL, 0},
};

START_TEST(count_is_read)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct dialect_ctx ctx = {.mem = mem, .keep = mem};
	struct buf out = BUF_INIT(OUT_BYTES);
	struct facts f = {0};

	ck_assert_int_eq(
		dialect_gemini_count_tokens.decode_response(&ctx, str_from(counts[_i].body), &f),
		counts[_i].rc);
	ck_assert_int_eq(f.counted, counts[_i].counted);
	if (counts[_i].rc == RC_OK) {
		ck_assert_int_eq(dialect_gemini_count_tokens.encode_response(&ctx, &f, &out),
				 RC_OK);
		ck_assert(!f.usage.present);
		ck_assert_int_eq(
			dialect_gemini_count_tokens.decode_response(&ctx, buf_str(&out), &f),
			RC_OK);
		ck_assert_int_eq(f.counted, counts[_i].counted);
	}
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

/* ---- usage --------------------------------------------------------------------------------------------------- */

/* A search is counted once however often it is repeated, and also where it comes behind the last usage. */
START_TEST(searches_are_counted)
{
#define QUERIES(q)                                                                                 \
	EVENT("{\"candidates\":[{\"groundingMetadata\":{\"webSearchQueries\":[" q "]}}]}")
	static const char wire[] = EVENT("{\"usageMetadata\":{\"promptTokenCount\":3}}")
		QUERIES("\"a\",\"b\"") QUERIES("\"b\",\"c\",\"\",7") QUERIES("");
	static const char *const models[] = {"gemini-3-pro", "gemini-2.5-pro"};
	struct play p;

	play_begin(&p, 1, false, false);
	p.target.model = str_from(models[_i]);
	play_stream(&p, str_from(wire), 13);
	ck_assert_int_eq(p.usage.n[USAGE_searches], _i == 0 ? 3 : 1);
	ck_assert_int_eq(p.usage.n[USAGE_in_text], 3);
	play_clear(&p);
}
END_TEST

#define C USAGE_FLAG_CLAMPED
#define I USAGE_FLAG_INCONSISTENT

static const struct {
	const char *what, *usage;
	bool present;
	uint32_t flags;
	int64_t in_text, cached, in_audio, audio_cached, in_image, image_cached, in_video, tools;
	int64_t out_text, reasoning, out_audio, out_image;
} usages[] = {
	{"absent is not zero", "{}", false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"nor is null", "{\"promptTokenCount\":null}", false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	 0},
	{"zero is stated", "{\"promptTokenCount\":0}", true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"thoughts are outside the candidates",
	 "{\"promptTokenCount\":40,\"candidatesTokenCount\":6,\"thoughtsTokenCount\":30,"
	 "\"totalTokenCount\":76}",
	 true, 0, 40, 0, 0, 0, 0, 0, 0, 0, 6, 30, 0, 0},
	{"the cached are inside the prompt",
	 "{\"promptTokenCount\":40,\"cachedContentTokenCount\":16,\"candidatesTokenCount\":3,"
	 "\"totalTokenCount\":43}",
	 true, 0, 24, 16, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0},
	{"what tools fed back is outside the prompt",
	 "{\"promptTokenCount\":8,\"toolUsePromptTokenCount\":20,\"candidatesTokenCount\":5,"
	 "\"totalTokenCount\":33}",
	 true, 0, 8, 0, 0, 0, 0, 0, 0, 20, 5, 0, 0, 0},
	{"early chunks have no candidates",
	 "{\"promptTokenCount\":40,\"totalTokenCount\":60,\"thoughtsTokenCount\":20}", true, 0, 40,
	 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0},
	{"a total without its candidates says them",
	 "{\"promptTokenCount\":40,\"totalTokenCount\":60}", true, 0, 40, 0, 0, 0, 0, 0, 0, 0, 20,
	 0, 0, 0},
	{"media of the prompt",
	 "{\"promptTokenCount\":100,\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":10},"
	 "{\"modality\":\"IMAGE\",\"tokenCount\":20},{\"modality\":\"AUDIO\",\"tokenCount\":30},"
	 "{\"modality\":\"VIDEO\",\"tokenCount\":25},{\"modality\":\"DOCUMENT\",\"tokenCount\":15}]}",
	 true, 0, 25, 0, 30, 0, 20, 0, 25, 0, 0, 0, 0, 0},
	{"cached media by its details",
	 "{\"promptTokenCount\":100,\"cachedContentTokenCount\":50,\"promptTokensDetails\":["
	 "{\"modality\":\"IMAGE\",\"tokenCount\":20},{\"modality\":\"AUDIO\",\"tokenCount\":30}],"
	 "\"cacheTokensDetails\":[{\"modality\":\"AUDIO\",\"tokenCount\":30},{\"modality\":\"IMAGE\","
	 "\"tokenCount\":5},{\"modality\":\"TEXT\",\"tokenCount\":15}]}",
	 true, 0, 35, 15, 0, 30, 15, 5, 0, 0, 0, 0, 0, 0},
	{"cached media without details",
	 "{\"promptTokenCount\":100,\"cachedContentTokenCount\":90,\"promptTokensDetails\":["
	 "{\"modality\":\"AUDIO\",\"tokenCount\":30}]}",
	 true, 0, 0, 70, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0},
	{"media of the answer",
	 "{\"promptTokenCount\":1,\"candidatesTokenCount\":50,\"candidatesTokensDetails\":["
	 "{\"modality\":\"AUDIO\",\"tokenCount\":20},{\"modality\":\"IMAGE\",\"tokenCount\":25}]}",
	 true, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 20, 25},
	{"more cached than there was", "{\"promptTokenCount\":10,\"cachedContentTokenCount\":16}",
	 true, I, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"more media than there was",
	 "{\"promptTokenCount\":10,\"promptTokensDetails\":[{\"modality\":\"AUDIO\","
	 "\"tokenCount\":30}]}",
	 true, I, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"more media than answer",
	 "{\"candidatesTokenCount\":10,\"candidatesTokensDetails\":[{\"modality\":\"IMAGE\","
	 "\"tokenCount\":30}]}",
	 true, I, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10},
	{"a total above its parts is paid for",
	 "{\"promptTokenCount\":10,\"candidatesTokenCount\":5,\"totalTokenCount\":40}", true, I, 10,
	 0, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0},
	{"a total below them is not",
	 "{\"promptTokenCount\":10,\"candidatesTokenCount\":5,\"totalTokenCount\":4}", true, I, 10,
	 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0},
	{"negative", "{\"promptTokenCount\":-5,\"candidatesTokenCount\":3}", true, C, 0, 0, 0, 0, 0,
	 0, 0, 0, 3, 0, 0, 0},
	{"absurd", "{\"promptTokenCount\":99999999999999999999,\"candidatesTokenCount\":3}", true,
	 C, USAGE_UNITS_MAX, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0},
	{"a fraction", "{\"promptTokenCount\":4.6}", true, C, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	{"a number as a string", "{\"promptTokenCount\":\"12\"}", true, 0, 12, 0, 0, 0, 0, 0, 0, 0,
	 0, 0, 0, 0},
	{"no number", "{\"promptTokenCount\":[],\"candidatesTokenCount\":2}", true, C, 0, 0, 0, 0,
	 0, 0, 0, 0, 2, 0, 0, 0},
	{"not an object", "7", false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
};

START_TEST(usage_is_disjoint)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;
	struct usage u;
	int64_t sum = 0;
	const int64_t want[] = {
		usages[_i].in_text,	 usages[_i].cached,    usages[_i].in_audio,
		usages[_i].audio_cached, usages[_i].in_image,  usages[_i].image_cached,
		usages[_i].in_video,	 usages[_i].tools,     usages[_i].out_text,
		usages[_i].reasoning,	 usages[_i].out_audio, usages[_i].out_image,
	};
	static const enum usage_class classes[] = {
		USAGE_in_text,	USAGE_in_cached_read,  USAGE_in_audio,	USAGE_in_audio_cached,
		USAGE_in_image, USAGE_in_image_cached, USAGE_in_video,	USAGE_in_tool_prompt,
		USAGE_out_text, USAGE_out_reasoning,   USAGE_out_audio, USAGE_out_image,
	};

	ck_assert_int_eq(
		json_parse(str_from(usages[_i].usage), JSON_NO_DUPLICATES, mem, &root, NULL),
		RC_OK);
	gemini_usage_read(root, &u);
	ck_assert_msg(u.present == usages[_i].present, "%s", usages[_i].what);
	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		ck_assert_msg(u.n[classes[i]] == want[i], "%s: %s is %lld", usages[_i].what,
			      usage_class_name(classes[i]), (long long)u.n[classes[i]]);
		sum += u.n[classes[i]];
	}
	ck_assert_int_eq(sum, usage_total_in(&u) + usage_total_out(&u));
	ck_assert_msg(u.flags == usages[_i].flags, "%s: flags %u", usages[_i].what, u.flags);
	arena_free(mem);
}
END_TEST

START_TEST(tier_is_the_served_one)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct json *root;
	struct usage u;

	ck_assert_int_eq(json_parse(STR("{\"promptTokenCount\":1,\"serviceTier\":\"PRIORITY\"}"),
				    JSON_NO_DUPLICATES, mem, &root, NULL),
			 RC_OK);
	gemini_usage_read(root, &u);
	ck_assert_str_eq(u.service_tier, "priority");
	arena_free(mem);
}
END_TEST

/* What is written is read as the same, for all that this dialect can say. */
START_TEST(usage_goes_round)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	struct usage u = USAGE_NONE, back;
	struct json_out o;
	struct json *root;

	u.present = true;
	u.n[USAGE_in_text] = 11;
	u.n[USAGE_in_cached_read] = 7;
	u.n[USAGE_in_audio] = 5;
	u.n[USAGE_in_audio_cached] = 3;
	u.n[USAGE_in_image] = 2;
	u.n[USAGE_in_video] = 13;
	u.n[USAGE_in_tool_prompt] = 17;
	u.n[USAGE_out_text] = 19;
	u.n[USAGE_out_reasoning] = 23;
	u.n[USAGE_out_image] = 29;
	snprintf(u.service_tier, sizeof u.service_tier, "flex");
	json_out_begin(&o, &out);
	json_obj(&o, NULL);
	gemini_usage_write(&o, &u);
	json_obj_end(&o);
	ck_assert_int_eq(json_out_end(&o), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&out), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	gemini_usage_read(json_get(root, "usageMetadata"), &back);
	ck_assert_mem_eq(back.n, u.n, sizeof u.n);
	ck_assert_str_eq(back.service_tier, "flex");
	ck_assert_uint_eq(back.flags, 0);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

/* ---- errors ----------------------------------------------------------------------------------------------------- */

START_TEST(errors_of_the_contract)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf text = fixture_read("errors-gemini.json"), body = BUF_INIT(OUT_BYTES);
	struct json *root, *one;
	struct json_iter it;
	int seen = 0;

	ck_assert_int_eq(json_parse(buf_str(&text), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	it = json_iter(root);
	while (json_next(&it, NULL, &one)) {
		struct str provider, class;
		struct err err = {0};
		enum error_class c;
		int64_t status, ms = 0;

		ck_assert(json_string(json_get(one, "provider"), &provider));
		if (!str_is(provider, "gemini"))
			continue;
		seen++;
		ck_assert(json_string(json_get(one, "class"), &class));
		ck_assert(json_int(json_get(one, "status"), &status));
		(void)json_int(json_get(one, "retry_after_ms"), &ms);
		buf_reset(&body);
		ck_assert_int_eq(json_write(json_get(one, "body"), &body), RC_OK);
		c = d->classify((int)status, buf_str(&body), mem, &err);
		ck_assert_msg(str_is(class, error_class_name(c)), "%s", body.ptr);
		ck_assert_int_eq(err.retry_after_s, (int)((ms + 999) / 1000));
		ck_assert_ptr_nonnull(err.code);
	}
	ck_assert_int_ge(seen, 3);
	buf_clear(&body);
	buf_clear(&text);
	arena_free(mem);
}
END_TEST

#define E(code, status, message, more)                                                             \
	"{\"error\":{\"code\":" #code ",\"status\":\"" status "\",\"message\":\"" message          \
	"\"" more "}}"

static const struct {
	int status;
	const char *body;
	enum error_class class;
	int wait_s;
	const char *words; /* part of what the caller reads; NULL: whatever */
} failures[] = {
	{400, E(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", ""),
	 ERROR_auth, 0, NULL},
	{400, E(400, "INVALID_ARGUMENT", "Unknown name \\\"x\\\"", ""), ERROR_invalid_request, 0,
	 "Unknown name"},
	{400,
	 E(400, "INVALID_ARGUMENT",
	   "The input token count (9) exceeds the maximum number of tokens allowed (8).", ""),
	 ERROR_context_length, 0, "exceeds"},
	{400, E(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", ""),
	 ERROR_permission, 0, NULL},
	{400, E(400, "FAILED_PRECONDITION", "Please enable billing on project 1234567890123.", ""),
	 ERROR_quota, 0, NULL},
	{401, E(401, "UNAUTHENTICATED", "x", ""), ERROR_auth, 0, NULL},
	{402, E(402, "RESOURCE_EXHAUSTED", "Prepay credits depleted.", ""), ERROR_quota, 0, NULL},
	{403, E(403, "PERMISSION_DENIED", "Consumer 'projects/1234567890123' suspended.", ""),
	 ERROR_permission, 0, NULL},
	{404, E(404, "NOT_FOUND", "models/x is not found", ""), ERROR_not_found, 0, NULL},
	{429,
	 E(429, "RESOURCE_EXHAUSTED", "Quota exceeded for input token count per minute.",
	   ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":"
	   "\"0.5s\"}]"),
	 ERROR_rate_limit, 1, NULL},
	{429,
	 E(429, "RESOURCE_EXHAUSTED", "Quota.",
	   ",\"details\":[{\"@type\":\"t/QuotaFailure\",\"violations\":[{\"quotaId\":"
	   "\"GenerateRequestsPerDayPerProject\"}]},{\"retryDelay\":\"17s\"}]"),
	 ERROR_quota, 17, NULL},
	{429, "[" E(429, "RESOURCE_EXHAUSTED", "Slow down.", "") "]", ERROR_rate_limit, 0, NULL},
	{500, E(500, "INTERNAL", "x", ""), ERROR_server_error, 0, NULL},
	{500, E(500, "INTERNAL", "The input context is too long.", ""), ERROR_context_length, 0,
	 NULL},
	{503, E(503, "UNAVAILABLE", "overloaded", ""), ERROR_overloaded, 0, NULL},
	{504, E(504, "DEADLINE_EXCEEDED", "x", ""), ERROR_timeout, 0, NULL},
	{200, E(429, "", "x", ""), ERROR_rate_limit, 0, NULL},
	{503, "<html>busy</html>", ERROR_overloaded, 0, NULL},
	{429, "", ERROR_rate_limit, 0, NULL},
	{302, "", ERROR_protocol, 0, NULL},
	{400, "{\"error\":\"no\"}", ERROR_invalid_request, 0, "no"},
	{400, "{\"error\":{\"code\":\"invalid_request\",\"message\":\"new surface\"}}",
	 ERROR_invalid_request, 0, "new surface"},
	{429,
	 E(429, "RESOURCE_EXHAUSTED", "x", ",\"details\":[{\"retryDelay\":\"99999999999999s\"}]"),
	 ERROR_rate_limit, 86400, NULL},
	{429, E(429, "RESOURCE_EXHAUSTED", "x", ",\"details\":[{\"retryDelay\":\"-3s\"}]"),
	 ERROR_rate_limit, 0, NULL},
};

START_TEST(failure_has_its_class)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err err = {0};

	ck_assert_int_eq(d->classify(failures[_i].status, str_from(failures[_i].body), mem, &err),
			 failures[_i].class);
	ck_assert_int_eq(err.retry_after_s, failures[_i].wait_s);
	if (failures[_i].words)
		ck_assert_msg(strstr(err.message, failures[_i].words) != NULL, "%s", err.message);
	ck_assert_ptr_null(strstr(err.message, "1234567890123"));
	ck_assert_ptr_null(strstr(err.detail, "1234567890123"));
	arena_free(mem);
}
END_TEST

START_TEST(error_event_is_bare)
{
	struct buf out = BUF_INIT(OUT_BYTES);
	struct arena *mem = arena_new(ARENA_BYTES);
	struct err e = {0};
	struct json *root;
	struct str s;
	int64_t code;

	(void)err_set(&e, RC_NETWORK, "all_targets_failed", "It broke.");
	ck_assert_int_eq(d->encode_error_event(&e, STR("{\"code\":\"x\"}"), &out), RC_OK);
	ck_assert_int_eq(out.ptr[0], '{');
	ck_assert_int_eq(out.ptr[out.len - 1],
			 '}'); /* no end of a block that would be passed over */
	ck_assert_int_eq(json_parse(buf_str(&out), JSON_NO_DUPLICATES, mem, &root, NULL), RC_OK);
	ck_assert(json_int(json_get(json_get(root, "error"), "code"), &code) && code == 502);
	ck_assert(json_string(json_get(json_get(root, "error"), "status"), &s));
	ck_assert(str_is(s, "UNAVAILABLE"));
	ck_assert_ptr_nonnull(json_get(root, "tollgate"));
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gemini_answer");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, stream_is_read_however_it_is_cut, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(t, facts_are_the_same_without_deltas, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(t, a_cut_stream_is_not_whole, 0, ARRAY_LEN(streams));
	tcase_add_test(t, a_stream_as_an_array_is_one_value);
	tcase_add_loop_test(t, odd_stream_is_read, 0, ARRAY_LEN(oddities));
	tcase_add_loop_test(t, whole_answer_is_read, 0, ARRAY_LEN(answers));
	tcase_add_test(t, blocked_prompt_is_a_refusal_that_cost_its_prompt);
	tcase_add_loop_test(t, count_is_read, 0, ARRAY_LEN(counts));
	tcase_add_loop_test(t, usage_is_disjoint, 0, ARRAY_LEN(usages));
	tcase_add_loop_test(t, searches_are_counted, 0, 2);
	tcase_add_test(t, tier_is_the_served_one);
	tcase_add_test(t, usage_goes_round);
	tcase_add_test(t, errors_of_the_contract);
	tcase_add_loop_test(t, failure_has_its_class, 0, ARRAY_LEN(failures));
	tcase_add_test(t, error_event_is_bare);
	suite_add_tcase(s, t);
	return suite_run(s);
}
