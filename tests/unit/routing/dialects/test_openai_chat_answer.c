/* test_openai_chat_answer.c - a chat completions answer as deltas, and deltas as a chat completions answer. */
#include "routing/dialect.h"
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"
#include "server/base/json.h"
#include "tests/unit/routing/fixture.h"

#define ARENA_BYTES (64u << 20)
#define OUT_BYTES   (8u << 20)
#define LOG_BYTES   (1u << 20)

static const struct dialect *const d = &dialect_openai_chat;

/* What a stream or an answer brought, one word per delta; texts that follow each other are one. */
struct play {
	struct call call;
	struct dialect_target target;
	struct dialect_ctx ctx;
	struct arena *keep;
	struct buf log, out;
	enum chat_delta_type last;
	int64_t last_index, last_choice;
	struct usage usage;
	enum error_class error;
	bool protocol;
};

static void note(struct play *p, const struct chat_delta *t)
{
	static const char *const kinds[] = {
		[CHAT_DELTA_TEXT] = "text",
		[CHAT_DELTA_REASONING] = "thinks",
		[CHAT_DELTA_REASONING_END] = "thought",
		[CHAT_DELTA_REFUSAL] = "refuses",
		[CHAT_DELTA_TOOL_CALL] = "call",
		[CHAT_DELTA_TOOL_ARGUMENTS] = "arguments",
		[CHAT_DELTA_CITATION] = "cites",
		[CHAT_DELTA_MEDIA] = "media",
		[CHAT_DELTA_FINISH] = "finish",
	};
	const bool joins = p->log.len && p->last == t->type && p->last_index == t->index &&
			   p->last_choice == t->choice &&
			   (t->type == CHAT_DELTA_TEXT || t->type == CHAT_DELTA_REASONING ||
			    t->type == CHAT_DELTA_TOOL_ARGUMENTS || t->type == CHAT_DELTA_REFUSAL);

	if (!joins)
		ck_assert_int_eq(
			buf_printf(&p->log, "%s%s", p->log.len ? " | " : "", kinds[t->type]),
			RC_OK);
	if (t->choice && !joins)
		ck_assert_int_eq(buf_printf(&p->log, "@%d", (int)t->choice), RC_OK);
	if (t->type == CHAT_DELTA_TOOL_CALL)
		ck_assert_int_eq(buf_printf(&p->log, " %d %.*s %.*s", (int)t->index, STR_FMT(t->id),
					    STR_FMT(t->name)),
				 RC_OK);
	if (t->type == CHAT_DELTA_TOOL_ARGUMENTS && !joins)
		ck_assert_int_eq(buf_printf(&p->log, " %d", (int)t->index), RC_OK);
	if (t->type == CHAT_DELTA_FINISH)
		ck_assert_int_eq(buf_printf(&p->log, " %d", (int)t->finish), RC_OK);
	if (t->media.url.ptr || t->media.data.ptr)
		ck_assert_int_eq(
			buf_printf(&p->log, " %.*s %.*s",
				   STR_FMT(t->media.url.ptr ? t->media.url : t->media.data),
				   STR_FMT(t->media.name.ptr ? t->media.name : t->media.mime)),
			RC_OK);
	if (t->opaque.value.ptr)
		ck_assert_int_eq(buf_printf(&p->log, " <%.*s>", STR_FMT(t->opaque.value)), RC_OK);
	if (t->text.len)
		ck_assert_int_eq(buf_printf(&p->log, "%s%.*s", joins ? "" : " ", STR_FMT(t->text)),
				 RC_OK);
	p->last = t->type;
	p->last_index = t->index;
	p->last_choice = t->choice;
}

static void play_begin(struct play *p, const char *provider, bool usage_asked)
{
	*p = (struct play){.usage = USAGE_NONE,
			   .call = {.usage_asked = usage_asked, .choices = 1},
			   .keep = arena_new(ARENA_BYTES),
			   .log = BUF_INIT(LOG_BYTES),
			   .out = BUF_INIT(OUT_BYTES)};
	p->target = (struct dialect_target){
		.provider = provider_find(str_from(provider)), .dialect = d, .model = STR("tm")};
	p->ctx = (struct dialect_ctx){.keep = p->keep,
				      .call = &p->call,
				      .target = &p->target,
				      .id = STR("0192f3a1-0000-7000-8000-00000000abcd"),
				      .created_s = 1770000000,
				      .translate = true};
}

static void play_clear(struct play *p)
{
	buf_clear(&p->log);
	buf_clear(&p->out);
	arena_free(p->keep);
}

static void take(struct play *p, const struct facts *f)
{
	if (f->usage.present)
		p->usage = f->usage;
	if (f->error != ERROR_none)
		p->error = f->error;
	for (size_t i = 0; i < f->deltas_count; i++)
		note(p, &f->deltas[i]);
}

static bool on_event(void *arg, const struct sse_event *ev)
{
	struct play *p = arg;
	struct facts f = {.usage = USAGE_NONE};

	p->ctx.mem =
		arena_new(ARENA_BYTES); /* as a long stream has it: nothing outlives its event */
	if (d->decode_event(&p->ctx, ev, &f) != RC_OK) {
		p->protocol = true;
	} else {
		ck_assert(!f.deltas_lost);
		take(p, &f);
		ck_assert_int_eq(d->encode_deltas(&p->ctx, &f, &p->out), RC_OK);
	}
	arena_free(p->ctx.mem);
	p->ctx.mem = p->keep;
	return true;
}

static void play_stream(struct play *p, const char *provider, struct str wire, size_t step,
			bool usage_asked)
{
	struct sse s;

	play_begin(p, provider, usage_asked);
	sse_init(&s, SSE_LINE_BYTES_MAX);
	for (size_t at = 0; at < wire.len; at += step)
		ck_assert_int_eq(sse_feed(&s, str_slice(wire, at, at + step), on_event, p), RC_OK);
	sse_clear(&s);
	p->ctx.mem = p->keep;
}

#define DATA(x)	 "data: " x "\n\n"
#define CHUNK(x) DATA("{\"id\":\"c\",\"model\":\"m\",\"choices\":[" x "]}")
#define D(x)	 CHUNK("{\"index\":0,\"delta\":{" x "},\"finish_reason\":null}")
#define END(r)	 CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"" r "\"}") DATA("[DONE]")

static const struct {
	const char *provider;
	const char *wire; /* a fixture's name where it ends in .sse */
	const char *log;
	enum error_class error;
} streams[] = {
	{"openai", "chat-text.sse", "text Tall ships \xe2\x9b\xb5 | finish 1", ERROR_none},
	{"openai", "chat-parallel-tools.sse",
	 "call 0 call_a lookup_port | arguments 0 {\"ci | call 1 call_b list_ferries | arguments 0 "
	 "ty\":\"Tallinn\"} | arguments 1 {} | finish 3",
	 ERROR_none},
	{"openai", "chat-error-midstream.sse", "text The har", ERROR_server_error},
	{"openai", "chat-truncated-no-terminator.sse", "text The har", ERROR_none},
	{"openrouter", "openrouter-comments-and-cost.sse", "text Aye. | finish 1", ERROR_none},
	{"openrouter", "openrouter-error-midstream.sse", "text Half an ans", ERROR_rate_limit},
	{"mistral", "mistral-usage-with-finish.sse",
	 "thinks Ports first. | thought | text Riga. | finish 1", ERROR_none},
	{"deepseek", "deepseek-keepalive-reasoning.sse",
	 "thinks Count. | thought | text Four | finish 1", ERROR_none},
	{"grok", "xai-reasoning-additive.sse", "text Yes. | finish 1", ERROR_none},
	{"openrouter", "openrouter-reasoning-details.sse",
	 "thinks Two wharves. | thought <[{\"type\":\"reasoning.text\",\"text\":\"Two wharves.\","
	 "\"signature\":\"c2ln\",\"format\":\"anthropic-claude-v1\",\"index\":0}]> | text Two. | "
	 "call 0 call_q count | arguments 0 {} | thought <[{\"type\":\"reasoning.encrypted\","
	 "\"data\":\"ZW5j\",\"id\":\"call_q\",\"index\":1}]> | finish 3",
	 ERROR_none},
	{"kimi", "kimi-reasoning-tool.sse",
	 "thinks Look it up. | thought | call 0 lookup_port:0 lookup_port | arguments 0 "
	 "{\"city\":\"Riga\"} | finish 3",
	 ERROR_none},
	{"mistral", "mistral-tool-object.sse",
	 "call 0 a1B2c3D4e lookup_port | arguments 0 {\"city\":\"Riga\",\"n\":1.50} | finish 3",
	 ERROR_none},
	/* a refusal; citations; pictures */
	{"openai", D("\"refusal\":\"I can\"") D("\"refusal\":\"not.\"") END("stop"),
	 "refuses I cannot. | finish 1", ERROR_none},
	{"openrouter",
	 D("\"content\":\"See\"")
		 D("\"annotations\":[{\"type\":\"url_citation\",\"url_citation\":{\"url\":"
		   "\"https://x.test\",\"title\":\"X\",\"start_index\":0,\"end_index\":3}}]")
			 D("\"images\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
			   "\"data:image/png;base64,AAAA\"}}]") END("stop"),
	 "text See | cites https://x.test X | media AAAA image/png | finish 1", ERROR_none},
	{"openai", D("\"audio\":{\"transcript\":\"hey\",\"data\":\"AAAA\"}") END("stop"),
	 "text hey | finish 1", ERROR_none},
	/* the form before tools, and servers that key calls their own way */
	{"openai",
	 D("\"function_call\":{\"name\":\"f\",\"arguments\":\"\"}")
		 D("\"function_call\":{\"arguments\":\"{}\"}") END("function_call"),
	 NULL, ERROR_none},
	{"openai_compatible",
	 D("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":"
	   "\"{}\"}}]") D("\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\","
			  "\"arguments\":\"{\"}}]")
		 D("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]") END("stop"),
	 "call 0 a f | arguments 0 {} | call 1 b g | arguments 1 {} | finish 3", ERROR_none},
	{"openai_compatible",
	 D("\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{"
	   "\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]") END("tool_calls"),
	 "call 0 a f | arguments 0 {} | call 1 b f | arguments 1 {} | finish 3", ERROR_none},
	{"openai_compatible",
	 D("\"tool_calls\":[{\"index\":3,\"id\":\"a\",\"function\":{\"arguments\":\"{\"}}]")
		 D("\"tool_calls\":[{\"index\":3,\"function\":{\"name\":\"f\",\"arguments\":"
		   "\"}\"}}]") END("tool_calls"),
	 "call 0 a f | arguments 0 {} | finish 3", ERROR_none},
	/* Gemini's own endpoint of this dialect */
	{"openai_compatible",
	 D("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":"
	   "\"{}\"},\"extra_content\":{\"google\":{\"thought_signature\":\"c2ln\"}}}]") END("stop"),
	 "call 0 a f <c2ln> | arguments 0 {} | finish 3", ERROR_none},
	/* reasoning under both its names is one */
	{"vllm",
	 D("\"reasoning\":\"a\",\"reasoning_content\":\"a\"") D("\"content\":\"b\"") END("eos"),
	 "thinks a | thought | text b | finish 1", ERROR_none},
	{"openai",
	 CHUNK("{\"index\":0,\"delta\":{\"content\":\"x\"}},{\"index\":1,\"delta\":{"
	       "\"content\":\"y\"}}")
		 CHUNK("{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"},{"
		       "\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}"),
	 "text x | text@1 y | finish@1 2 | finish 4", ERROR_none},
	{"openai", D("\"content\":\"x\"") END("stop") END("stop"), "text x | finish 1", ERROR_none},
};

static struct buf wire_of(int i)
{
	struct str s = str_from(streams[i].wire);
	struct buf b = BUF_INIT(OUT_BYTES);

	if (str_ends(s, STR(".sse")))
		return fixture_read(streams[i].wire);
	ck_assert_int_eq(buf_append(&b, s), RC_OK);
	return b;
}

/* At every chunk size; and what is written of it reads as the same again. */
START_TEST(stream_as_deltas)
{
	struct buf wire = wire_of(_i);

	for (size_t step = 1; step <= wire.len; step++) {
		struct play p;

		play_stream(&p, streams[_i].provider, buf_str(&wire), step, true);
		ck_assert(!p.protocol);
		if (streams[_i].log)
			ck_assert_str_eq(p.log.ptr, streams[_i].log);
		ck_assert_int_eq(p.error, streams[_i].error);
		play_clear(&p);
	}
	buf_clear(&wire);
}
END_TEST

/* The log without the seals, which are wrapped on their way. */
static void without_seals(char *log)
{
	char *to = log;

	for (char *at = log; *at;) {
		char *end = at[0] == ' ' && at[1] == '<' ? strstr(at, "> |") : NULL;

		if (at[0] == ' ' && at[1] == '<' && !end)
			end = at + strlen(at) - 1;
		if (end)
			at = end + 1;
		else
			*to++ = *at++;
	}
	*to = '\0';
}

START_TEST(what_is_written_reads_the_same)
{
	struct buf wire = wire_of(_i);
	struct play p, back;

	play_stream(&p, streams[_i].provider, buf_str(&wire), wire.len, true);
	if (p.error == ERROR_none) {
		ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
		ck_assert(str_ends(buf_str(&p.out), STR("data: [DONE]\n\n")));
		play_stream(&back, "openai", buf_str(&p.out), 7, true);
		ck_assert(!back.protocol);
		without_seals(p.log.ptr);
		without_seals(back.log.ptr);
		/* who never finished is finished by us, and choices are in their order */
		if (strstr(p.log.ptr, "finish") && !strstr(p.log.ptr, "@1"))
			ck_assert_str_eq(back.log.ptr, p.log.ptr);
		ck_assert_int_eq(back.usage.present, p.usage.present);
		for (enum usage_class c = 0; c < USAGE_CLASS_COUNT; c++)
			ck_assert_int_eq(back.usage.n[c], p.usage.n[c]);
		ck_assert_uint_eq(back.usage.flags, 0);
		play_clear(&back);
	}
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

START_TEST(truncated_at_every_byte)
{
	struct buf wire = wire_of(_i);

	for (size_t len = 0; len < wire.len; len++) {
		struct play p;

		play_stream(&p, streams[_i].provider, str_of(wire.ptr, len), len ? len : 1, false);
		ck_assert(!p.protocol);
		ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
		play_clear(&p);
	}
	buf_clear(&wire);
}
END_TEST

/* ---- chunks, letter by letter ------------------------------------------------------------------------------ */

#define HEAD                                                                                       \
	"data: {\"id\":\"chatcmpl-0192f3a1-0000-7000-8000-00000000abcd\",\"object\":"              \
	"\"chat.completion.chunk\",\"created\":1770000000,\"model\":\"m\""
#define OUT(delta, finish)                                                                         \
	HEAD ",\"choices\":[{\"index\":0,\"delta\":{" delta "},\"logprobs\":null,"                 \
	     "\"finish_reason\":" finish "}]}\n\n"
#define ROLE OUT("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null")

START_TEST(chunks_are_as_openai_makes_them)
{
	static const char want[] = ROLE OUT("\"reasoning_content\":\"hm\"", "null")
		OUT("\"content\":\"a\\\"b\"", "null")
			OUT("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\","
			    "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]",
			    "null") OUT("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
					"\"{}\"}}]",
					"null") OUT("", "\"tool_calls\"") "data: [DONE]\n\n";
	struct play p;

	play_stream(&p, "deepseek",
		    STR(D("\"reasoning_content\":\"hm\"") D("\"content\":\"a\\\"b\"")
				D("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{"
				  "\"name\":\"f\",\"arguments\":\"{}\"}}]") END("tool_calls")),
		    64, false);
	ck_assert_int_eq(d->encode_end(&p.ctx, &p.usage, &p.out), RC_OK);
	ck_assert_str_eq(p.out.ptr, want);
	play_clear(&p);
}
END_TEST

/* Usage is a chunk of its own for who asked, null before it; nobody else sees any. */
START_TEST(usage_for_who_asked)
{
	struct play p;
	struct usage u = {.present = true, .provider_cost_nano = -1};

	u.n[USAGE_in_text] = 10;
	u.n[USAGE_in_cached_read] = 5;
	u.n[USAGE_in_cache_write_5m] = 2;
	u.n[USAGE_in_cache_write_1h] = 1;
	u.n[USAGE_in_audio_cached] = 4;
	u.n[USAGE_out_text] = 7;
	u.n[USAGE_out_reasoning] = 3;
	play_stream(&p, "openai", STR(D("\"content\":\"a\"")), 64, true);
	ck_assert_int_ge(str_find_str(buf_str(&p.out), STR("\"usage\":null,\"choices\"")), 0);
	ck_assert_int_eq(d->encode_end(&p.ctx, &u, &p.out), RC_OK);
	ck_assert_int_ge(
		str_find_str(
			buf_str(&p.out),
			STR("\"choices\":[],\"usage\":{\"prompt_tokens\":22,\"completion_tokens\":10,"
			    "\"total_tokens\":32,\"prompt_tokens_details\":{\"cached_tokens\":9,"
			    "\"cache_write_tokens\":3,\"audio_tokens\":4},"
			    "\"completion_tokens_details\":{\"reasoning_tokens\":3,"
			    "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
			    "\"rejected_prediction_tokens\":0}}}\n\ndata: [DONE]")),
		0);
	play_clear(&p);
	play_stream(&p, "openai", STR(D("\"content\":\"a\"")), 64, false);
	ck_assert_int_eq(d->encode_end(&p.ctx, &u, &p.out), RC_OK);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("usage")), 0);
	play_clear(&p);
	/* nobody said: no chunk, rather than zeros */
	play_stream(&p, "openai", STR(D("\"content\":\"a\"")), 64, true);
	ck_assert_int_eq(d->encode_end(&p.ctx, &USAGE_NONE, &p.out), RC_OK);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("prompt_tokens")), 0);
	play_clear(&p);
}
END_TEST

/* Another dialect's deltas: the seal is wrapped, with the text it seals, and comes back whole. */
START_TEST(a_seal_survives_the_caller)
{
	struct play p;
	struct facts f = {.usage = USAGE_NONE};
	struct chat_opaque seal = {.value = STR("EqQB=="), .dialect = STR("anthropic_messages")};
	struct json *root, *m;
	struct call call;
	struct ask ask;
	struct err err = {0};
	struct str body;
	struct buf text = BUF_INIT(OUT_BYTES);

	play_begin(&p, "anthropic", false);
	p.ctx.mem = p.keep;
	chat_delta_add(p.keep, &f, CHAT_DELTA_REASONING)->text = STR("Need ");
	chat_delta_add(p.keep, &f, CHAT_DELTA_REASONING)->text = STR("it.");
	chat_delta_add(p.keep, &f, CHAT_DELTA_REASONING_END)->opaque = seal;
	chat_delta_add(p.keep, &f, CHAT_DELTA_REASONING_END)->opaque = seal; /* hidden */
	chat_delta_add(p.keep, &f, CHAT_DELTA_TEXT)->text = STR("So");
	chat_delta_add(p.keep, &f, CHAT_DELTA_FINISH)->finish = FINISH_PAUSE;
	ck_assert_int_eq(d->encode_response(&p.ctx, &f, &p.out), RC_OK);
	ck_assert_int_lt(str_find_str(buf_str(&p.out), STR("EqQB")), 0);
	ck_assert_int_ge(str_find_str(buf_str(&p.out),
				      STR("\"finish_reason\":\"stop\",\"native_finish_reason\":"
					  "\"pause_turn\"")),
			 0);
	ck_assert_int_eq(json_parse(buf_str(&p.out), JSON_NO_DUPLICATES, p.keep, &root, NULL),
			 RC_OK);
	m = json_get(json_at(json_get(root, "choices"), 0), "message");
	ck_assert_int_eq(json_write(m, &text), RC_OK);
	body = arena_printf(p.keep, "{\"model\":\"m\",\"messages\":[%s]}", text.ptr);
	ck_assert_int_eq(d->decode_request(&(struct call_head){0}, body, p.keep, &call, &err),
			 RC_OK);
	ck_assert_int_eq(d->decode_ask(&call, p.keep, &ask, &err), RC_OK);
	ck_assert_uint_eq(ask.chat.turns[0].parts_count, 3);
	for (size_t i = 0; i < 2; i++) {
		const struct chat_part *part = &ask.chat.turns[0].parts[i];

		ck_assert_int_eq(part->type, CHAT_REASONING);
		ck_assert(str_eq(part->opaque.value, seal.value));
		ck_assert(str_is(part->opaque.dialect, "anthropic_messages"));
		ck_assert(str_is(part->opaque.provider, "anthropic"));
		ck_assert(str_is(part->opaque.model, "tm"));
	}
	ck_assert(str_is(ask.chat.turns[0].parts[0].text, "Need it."));
	ck_assert_uint_eq(ask.chat.turns[0].parts[1].text.len, 0);
	ck_assert(str_is(ask.chat.turns[0].parts[2].text, "So"));
	buf_clear(&text);
	play_clear(&p);
}
END_TEST

/* ---- whole answers -------------------------------------------------------------------------------------------- */

#define ANSWER(message, reason)                                                                    \
	"{\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{" message            \
	"},\"finish_reason\":\"" reason                                                            \
	"\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,"                             \
	"\"total_tokens\":5}}"

static const struct {
	const char *body, *log, *message; /* as it is written again */
} answers[] = {
	{ANSWER("\"role\":\"assistant\",\"content\":\"Blue.\"", "stop"), "text Blue. | finish 1",
	 "{\"role\":\"assistant\",\"content\":\"Blue.\",\"refusal\":null,\"annotations\":[]}"},
	{ANSWER("\"content\":null,\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\","
		"\"arguments\":\"{\\\"x\\\":1.0}\"}},{\"id\":\"b\",\"function\":{\"name\":\"g\","
		"\"arguments\":\"\"}}]",
		"tool_calls"),
	 "call 0 a f | arguments 0 {\"x\":1.0} | call 1 b g | finish 3",
	 "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"tool_calls\":[{\"id\":\"a\","
	 "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1.0}\"}},{"
	 "\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}],"
	 "\"annotations\":[]}"},
	{ANSWER("\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":"
		"\"a\"}],\"signature\":\"sg\"},{\"type\":\"text\",\"text\":\"b\"},{\"type\":"
		"\"reference\",\"reference_ids\":[1]}]",
		"stop"),
	 "thinks a | thought <sg> | text b | finish 1", NULL},
	{ANSWER("\"content\":null,\"refusal\":\"No.\"", "stop"), "refuses No. | finish 1",
	 "{\"role\":\"assistant\",\"content\":null,\"refusal\":\"No.\",\"annotations\":[]}"},
	{ANSWER("\"content\":\"Four\",\"reasoning_content\":\"2+2\"", "length"),
	 "thinks 2+2 | thought | text Four | finish 2",
	 "{\"role\":\"assistant\",\"content\":\"Four\",\"refusal\":null,\"reasoning_content\":"
	 "\"2+2\",\"annotations\":[]}"},
	{ANSWER("\"content\":\"\"", "content_filter"), "finish 4",
	 "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null,\"annotations\":[]}"},
	{ANSWER("\"content\":\"\xc3\xa9t\xc3\xa9\",\"annotations\":[{\"type\":\"url_citation\","
		"\"url_citation\":{\"url\":\"https://x.test\",\"title\":\"X\"}}]",
		"stop"),
	 "text \xc3\xa9t\xc3\xa9 | cites https://x.test X | finish 1",
	 "{\"role\":\"assistant\",\"content\":\"\xc3\xa9t\xc3\xa9\",\"refusal\":null,"
	 "\"annotations\":[{\"type\":\"url_citation\",\"url_citation\":{\"url\":\"https://x.test\","
	 "\"title\":\"X\",\"start_index\":3,\"end_index\":3}}]}"},
};

START_TEST(whole_answer_as_deltas)
{
	struct facts f = {.usage = USAGE_NONE};
	struct buf text = BUF_INIT(OUT_BYTES);
	struct json *root;
	struct str s;
	struct play p;

	play_begin(&p, "mistral", false);
	p.ctx.mem = p.keep;
	ck_assert_int_eq(d->decode_response(&p.ctx, str_from(answers[_i].body), &f), RC_OK);
	take(&p, &f);
	ck_assert_str_eq(p.log.ptr, answers[_i].log);
	ck_assert(str_is(f.id, "x"));
	ck_assert_int_eq(d->encode_response(&p.ctx, &f, &p.out), RC_OK);
	ck_assert_int_eq(json_parse(buf_str(&p.out), JSON_NO_DUPLICATES, p.keep, &root, NULL),
			 RC_OK);
	ck_assert(json_string(json_get(root, "model"), &s) && str_is(s, "m"));
	ck_assert(json_string(json_get(root, "object"), &s) && str_is(s, "chat.completion"));
	ck_assert_int_eq(json_len(json_get(root, "usage")), 5);
	ck_assert_int_eq(
		json_write(json_get(json_at(json_get(root, "choices"), 0), "message"), &text),
		RC_OK);
	if (answers[_i].message)
		ck_assert_str_eq(text.ptr, answers[_i].message);
	buf_clear(&text);
	play_clear(&p);
}
END_TEST

START_TEST(calls_without_ids_get_one)
{
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	play_begin(&p, "ollama", false);
	p.ctx.mem = p.keep;
	ck_assert_int_eq(
		d->decode_response(&p.ctx,
				   STR(ANSWER("\"tool_calls\":[{\"function\":{\"name\":\"f\","
					      "\"arguments\":{\"a\":1}}},{\"function\":{\"name\":"
					      "\"f\",\"arguments\":\"{}\"}}]",
					      "stop")),
				   &f),
		RC_OK);
	ck_assert_uint_eq(f.deltas_count, 5);
	ck_assert_uint_eq(f.deltas[0].id.len, 29);
	ck_assert(str_starts(f.deltas[0].id, STR("call_")));
	ck_assert(!str_eq(f.deltas[0].id, f.deltas[2].id));
	ck_assert(str_is(f.deltas[1].text, "{\"a\":1}"));
	ck_assert_int_eq(f.deltas[4].finish, FINISH_TOOL_CALLS);
	play_clear(&p);
}
END_TEST

/* What an event may decide is bounded. */
START_TEST(too_much_is_said_so)
{
	struct buf wire = BUF_INIT(OUT_BYTES);
	struct facts f = {.usage = USAGE_NONE};
	struct play p;

	ck_assert_int_eq(buf_append(&wire, STR("{\"choices\":[{\"delta\":{\"tool_calls\":[")),
			 RC_OK);
	for (int i = 0; i <= CHAT_CALLS_MAX; i++)
		ck_assert_int_eq(buf_printf(&wire,
					    "%s{\"id\":\"c%d\",\"function\":{\"name\":\"f\"}}",
					    i ? "," : "", i),
				 RC_OK);
	ck_assert_int_eq(buf_append(&wire, STR("]}}]}")), RC_OK);
	play_begin(&p, "openai", false);
	p.ctx.mem = p.keep;
	ck_assert_int_eq(d->decode_event(&p.ctx, &(struct sse_event){.data = buf_str(&wire)}, &f),
			 RC_OK);
	ck_assert(f.deltas_lost);
	play_clear(&p);
	play_begin(&p, "openai", false);
	p.ctx.mem = p.keep;
	ck_assert_int_eq(
		d->decode_event(&p.ctx,
				&(struct sse_event){.data = STR("{\"choices\":[{\"index\":128,"
								"\"delta\":{}}]}")},
				&f),
		RC_PROTOCOL);
	play_clear(&p);
	buf_clear(&wire);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("openai_chat_answer");
	TCase *t = tcase_create("answer");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, stream_as_deltas, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(t, what_is_written_reads_the_same, 0, ARRAY_LEN(streams));
	tcase_add_loop_test(t, truncated_at_every_byte, 0, ARRAY_LEN(streams));
	tcase_add_test(t, chunks_are_as_openai_makes_them);
	tcase_add_test(t, usage_for_who_asked);
	tcase_add_test(t, a_seal_survives_the_caller);
	tcase_add_loop_test(t, whole_answer_as_deltas, 0, ARRAY_LEN(answers));
	tcase_add_test(t, calls_without_ids_get_one);
	tcase_add_test(t, too_much_is_said_so);
	suite_add_tcase(s, t);
	return suite_run(s);
}
