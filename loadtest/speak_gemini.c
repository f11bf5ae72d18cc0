/* loadtest/speak_gemini.c - Gemini's generateContent and its sisters: answers, streams and errors.
 *
 * What it refuses is in speak_gemini_read.c. The signature of a thought is made of the model and the
 * function's name, so that one of another origin is found out. Read it from the end. */
#include <string.h>
#include "fake.h"

/* --- errors ------------------------------------------------------------------------------------------------- */

static const char *status_name(int status)
{
	static const struct {
		int status;
		const char *name;
	} names[] = {
		{400, "INVALID_ARGUMENT"},  {401, "UNAUTHENTICATED"}, {402, "RESOURCE_EXHAUSTED"},
		{403, "PERMISSION_DENIED"}, {404, "NOT_FOUND"},	      {429, "RESOURCE_EXHAUSTED"},
		{499, "CANCELLED"},	    {503, "UNAVAILABLE"},     {504, "DEADLINE_EXCEEDED"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].status == status)
			return names[i].name;
	return status < 500 ? "INVALID_ARGUMENT" : "INTERNAL";
}

static void details_add(struct text *t, const struct call *k)
{
	const char *reason = k->plan.code[0] != 0 ? k->plan.code : k->why_code;
	const char *between = "";

	text_z(t, ",\"details\":[");
	if (reason != NULL) {
		text_z(t, "{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
		text_json(t, reason, strlen(reason));
		text_z(t, ",\"domain\":\"googleapis.com\"}");
		between = ",";
	}
	if (k->plan.retry_after[0] != 0)
		text_f(t,
		       "%s{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"%ss\"}",
		       between, k->plan.retry_after);
	text_z(t, "]");
}

static void error_body(struct text *t, const struct call *k, int status)
{
	const char *name = k->plan.type[0] != 0	 ? k->plan.type
			   : k->why_type != NULL ? k->why_type
						 : status_name(status);

	text_f(t, "{\"error\":{\"code\":%d,\"message\":", status);
	if (k->why[0] != 0)
		text_json(t, k->why, strlen(k->why));
	else
		text_f(t, "\"The fake provider was told to answer %d.\"", status);
	text_z(t, ",\"status\":");
	text_json(t, name, strlen(name));
	details_add(t, k);
	text_z(t, "}}");
}

/* --- the answer ---------------------------------------------------------------------------------------------- */

static const char *finish_reason(const struct call *k)
{
	if (k->plan.refusal || strcmp(k->finish, "content_filter") == 0)
		return "SAFETY";
	if (strcmp(k->finish, "length") == 0)
		return "MAX_TOKENS";
	if (strcmp(k->finish, "stop") == 0 || strcmp(k->finish, "tool_calls") == 0)
		return "STOP";
	return k->finish;
}

/* A running snapshot; what is zero is left out. */
static void usage_body(struct text *t, const struct call *k, int64_t visible, int64_t thoughts)
{
	const struct plan *p = &k->plan;

	text_z(t, "{\"promptTokenCount\":");
	usage_number(t, k, false, k->prompt_tokens);
	if (visible > 0 || p->usage[0] != 0) {
		text_z(t, ",\"candidatesTokenCount\":");
		usage_number(t, k, true, visible);
	}
	text_f(t, ",\"totalTokenCount\":%lld", (long long)k->prompt_tokens + visible + thoughts);
	if (thoughts > 0)
		text_f(t, ",\"thoughtsTokenCount\":%lld", (long long)thoughts);
	if (p->cached > 0)
		text_f(t, ",\"cachedContentTokenCount\":%lld", (long long)p->cached);
	text_f(t, ",\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":%lld}",
	       (long long)k->prompt_tokens - p->audio_in);
	if (p->audio_in > 0)
		text_f(t, ",{\"modality\":\"AUDIO\",\"tokenCount\":%lld}", (long long)p->audio_in);
	text_z(t, "]}");
}

/* Everything after the candidates. */
static void answer_close(struct text *t, const struct call *k, int64_t visible, int64_t thoughts)
{
	if (!k->plan.no_usage) {
		text_z(t, ",\"usageMetadata\":");
		usage_body(t, k, visible, thoughts);
	}
	if (k->plan.extra)
		text_z(t, ",\"xUnknown\":{\"kept\":true}");
	text_z(t, ",\"modelVersion\":");
	text_json(t, k->model, strlen(k->model));
	text_z(t, ",\"responseId\":");
	text_json(t, k->id, strlen(k->id));
	text_z(t, "}");
}

static void part_text(struct text *t, struct span s, bool thought)
{
	text_z(t, "{\"text\":");
	text_json(t, s.at, s.len);
	text_z(t, thought ? ",\"thought\":true}" : "}");
}

/* The first call of an answer carries the signature of the thought that led to all. */
static void part_call(struct text *t, const struct call *k, int64_t i)
{
	const struct tool_call *tool = &k->tools[i];

	text_z(t, "{\"functionCall\":{\"name\":");
	text_json(t, tool->name, strlen(tool->name));
	text_z(t, ",\"args\":");
	text_z(t, tool->arguments.text.at);
	text_z(t, "}");
	if (i == 0) {
		text_z(t, ",\"thoughtSignature\":\"");
		seal(t, k, "thought", span_z(tool->name));
		text_z(t, "\"");
	}
	text_z(t, "}");
}

static void citations_add(struct text *t, const struct call *k)
{
	if (k->plan.citations <= 0)
		return;
	text_z(t, ",\"citationMetadata\":{\"citationSources\":[");
	for (long long i = 1; i <= (long long)k->plan.citations; i++)
		text_f(t,
		       "%s{\"startIndex\":0,\"endIndex\":4,\"uri\":\"https://example.com/%lld\","
		       "\"title\":\"Source %lld\"}",
		       i > 1 ? "," : "", i, i);
	text_z(t, "]}");
}

static void parts_add(struct text *t, const struct call *k)
{
	const char *between = "";

	if (k->thoughts.words > 0) {
		part_text(t, (struct span){k->thoughts.text.at, k->thoughts.text.len}, true);
		between = ",";
	}
	if (k->answer.words > 0) {
		text_z(t, between);
		part_text(t, (struct span){k->answer.text.at, k->answer.text.len}, false);
		between = ",";
	}
	for (int64_t i = 0; i < k->tool_count; i++) {
		text_z(t, between);
		part_call(t, k, i);
		between = ",";
	}
}

static void candidate_add(struct text *t, const struct call *k, int64_t i)
{
	text_z(t, i > 0 ? ",{" : "{");
	if (!k->plan.refusal && !k->plan.null_content) {
		text_z(t, "\"content\":{\"role\":\"model\",\"parts\":[");
		parts_add(t, k);
		text_z(t, "]},");
	}
	text_f(t, "\"finishReason\":\"%s\",\"index\":%lld", finish_reason(k), (long long)i);
	citations_add(t, k);
	text_z(t, "}");
}

static void blocked_body(struct text *t, const struct call *k)
{
	text_f(t,
	       "{\"promptFeedback\":{\"blockReason\":\"PROHIBITED_CONTENT\"},\"usageMetadata\":{"
	       "\"promptTokenCount\":%lld,\"totalTokenCount\":%lld},\"modelVersion\":",
	       (long long)k->prompt_tokens, (long long)k->prompt_tokens);
	text_json(t, k->model, strlen(k->model));
	text_z(t, "}");
}

static void plain_body(struct text *t, const struct call *k)
{
	if (k->verb == GEMINI_COUNT) {
		text_f(t, "{\"totalTokens\":%lld}", (long long)k->prompt_tokens);
		return;
	}
	if (k->verb == GEMINI_EMBED || k->verb == GEMINI_EMBED_MANY) {
		text_add(t, k->kept.at, k->kept.len);
		return;
	}
	if (k->plan.blocked) {
		blocked_body(t, k);
		return;
	}
	text_z(t, "{\"candidates\":[");
	for (int64_t i = 0; i < k->choices; i++)
		candidate_add(t, k, i);
	text_z(t, "]");
	if (k->plan.pad > 0)
		text_f(t, ",\"xPad\":\"%0*d\"", (int)k->plan.pad, 0);
	answer_close(t, k, out_words(k), k->plan.reasoning);
}

/* --- a stream ------------------------------------------------------------------------------------------------- */

/* An event, or the next element of the array that is the whole body. */
static void chunk_send(struct conn *c, struct text *t)
{
	struct call *k = &c->call;
	struct text element = {0};

	if (k->events) {
		stream_event(c, NULL, t);
		return;
	}
	text_z(&element, k->event++ == 0 ? "[" : ",\r\n");
	text_add(&element, t->at, t->len);
	stream_bytes(c, (struct span){element.at, element.len});
	text_clear(&element);
	text_clear(t);
}

/* What is visible of the answer up to now, in tokens. */
static int64_t visible_now(const struct call *k)
{
	int64_t n = k->answer.chunks > 0 ? k->answer.step * k->answer.words / k->answer.chunks : 0;

	for (int64_t i = 0; i < k->tool_count; i++)
		if (k->tools[i].arguments.step > 0)
			n += k->tools[i].arguments.words + 1;
	return n * k->choices;
}

static void stream_open(struct conn *c)
{
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.refusal || k->plan.blocked)
		return;
	text_z(&t, "{\"candidates\":[");
	for (int64_t i = 0; i < k->choices; i++) {
		text_z(&t, i > 0 ? "," : "");
		text_z(&t, "{\"content\":{\"role\":\"model\",\"parts\":[");
		if (p->kind == PIECE_TOOL)
			part_call(&t, k, p->tool);
		else
			part_text(&t, p->bytes, p->kind == PIECE_THOUGHTS);
		text_f(&t, "]},\"index\":%lld}", (long long)i);
	}
	text_z(&t, "]");
	answer_close(&t, k, visible_now(k), k->plan.reasoning);
	chunk_send(c, &t);
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.blocked) {
		blocked_body(&t, k);
		chunk_send(c, &t);
	} else if (!k->plan.no_done) {
		text_z(&t, "{\"candidates\":[");
		for (int64_t i = 0; i < k->choices; i++) {
			text_z(&t, i > 0 ? ",{" : "{");
			if (!k->plan.refusal)
				text_z(&t, "\"content\":{\"role\":\"model\",\"parts\":[{\"text\":"
					   "\"\"}]},");
			text_f(&t, "\"finishReason\":\"%s\",\"index\":%lld", finish_reason(k),
			       (long long)i);
			citations_add(&t, k);
			text_z(&t, "}");
		}
		text_z(&t, "]");
		answer_close(&t, k, out_words(k), k->plan.reasoning);
		chunk_send(c, &t);
	}
	if (!k->events && k->event > 0)
		stream_bytes(c, span_z("]"));
}

/* The error stands where a chunk would, without `data:`. */
static void stream_fail(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.garbage)
		text_z(&t, "{\"candidates\":[{\"content\":");
	else
		error_body(&t, k, 503);
	if (k->events) {
		stream_bytes(c, (struct span){t.at, t.len});
		text_clear(&t);
	} else {
		chunk_send(c, &t);
		stream_bytes(c, span_z("]"));
	}
}

const struct speaker speak_gemini = {
	.read = gemini_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
