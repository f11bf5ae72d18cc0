/* loadtest/speak_chat.c - chat completions, as OpenAI and the many who took them over say them.
 *
 * Without a PROVIDER_ID the answers are OpenAI's and nothing is minded; speak_chat_rules.c has what a
 * provider refuses. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "speak_chat.h"

#define NANO_IN	 3000 /* what OpenRouter and xAI charge here for a token, in 10^-9 USD */
#define NANO_OUT 15000

static bool is_vendor(const struct call *k, const char *vendors)
{
	return word_among(k->vendor, vendors);
}

/* --- usage --------------------------------------------------------------------------------------------- */

static int64_t cost_nano(const struct call *k)
{
	return k->prompt_tokens * NANO_IN + k->completion_tokens * NANO_OUT;
}

static void details_add(struct text *t, const struct call *k)
{
	text_f(t,
	       ",\"prompt_tokens_details\":{\"cached_tokens\":%lld,"
	       "\"cache_write_tokens\":%lld,\"audio_tokens\":%lld},\"completion_tokens_details\":{"
	       "\"reasoning_tokens\":%lld,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
	       "\"rejected_prediction_tokens\":0}",
	       (long long)k->plan.cached, (long long)k->plan.cache_write,
	       (long long)k->plan.audio_in, (long long)k->plan.reasoning);
}

static void grok_details(struct text *t, const struct call *k)
{
	text_f(t,
	       ",\"prompt_tokens_details\":{\"text_tokens\":%lld,\"audio_tokens\":%lld,"
	       "\"image_tokens\":0,\"cached_tokens\":%lld},\"completion_tokens_details\":{"
	       "\"reasoning_tokens\":%lld,\"audio_tokens\":0},\"num_sources_used\":%lld,"
	       "\"cost_in_usd_ticks\":%lld",
	       (long long)k->prompt_tokens - k->plan.audio_in, (long long)k->plan.audio_in,
	       (long long)k->plan.cached, (long long)k->plan.reasoning, (long long)k->plan.searches,
	       (long long)cost_nano(k) * 10);
}

static void vendor_details(struct text *t, const struct call *k)
{
	long long cached = (long long)k->plan.cached;

	if (is_vendor(k, "grok")) {
		grok_details(t, k);
	} else if (is_vendor(k, "kimi")) {
		text_f(t, ",\"cached_tokens\":%lld", cached);
	} else if (is_vendor(k, "deepseek")) {
		text_f(t,
		       ",\"prompt_cache_hit_tokens\":%lld,\"prompt_cache_miss_tokens\":%lld,"
		       "\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
		       "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}",
		       cached, (long long)k->prompt_tokens - cached, cached,
		       (long long)k->plan.reasoning);
	} else if (is_vendor(k, "mistral llama_cpp vllm")) {
		if (cached > 0)
			text_f(t, ",\"prompt_tokens_details\":{\"cached_tokens\":%lld}", cached);
		else if (is_vendor(k, "vllm"))
			text_z(t, ",\"prompt_tokens_details\":null");
	} else if (!is_vendor(k, "ollama lm_studio")) {
		details_add(t, k);
	}
	if (is_vendor(k, "openrouter"))
		text_f(t,
		       ",\"cost\":%lld.%09lld,\"is_byok\":false,\"cost_details\":{"
		       "\"upstream_inference_cost\":null}",
		       (long long)cost_nano(k) / 1000000000, (long long)cost_nano(k) % 1000000000);
	if (is_vendor(k, "groq"))
		text_z(t, ",\"queue_time\":0.01,\"prompt_time\":0.01,\"completion_time\":0.02,"
			  "\"total_time\":0.03");
}

static void usage_body(struct text *t, const struct call *k)
{
	int64_t completion = manner_of(k->vendor)->additive ? out_words(k) : k->completion_tokens;

	text_z(t, "{\"prompt_tokens\":");
	usage_number(t, k, false, k->prompt_tokens);
	text_z(t, ",\"completion_tokens\":");
	usage_number(t, k, true, completion);
	text_f(t, ",\"total_tokens\":%lld", (long long)k->prompt_tokens + k->completion_tokens);
	vendor_details(t, k);
	text_z(t, "}");
}

/* --- an answer that is not streamed ---------------------------------------------------------------------- */

/* Up to and including the fields every object of an answer starts with. */
static void object_open(struct text *t, const struct call *k, const char *object)
{
	text_z(t, "{\"id\":");
	text_json(t, k->id, strlen(k->id));
	text_f(t, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, (long long)k->created);
	text_json(t, k->model, strlen(k->model));
	if (is_vendor(k, "openrouter"))
		text_z(t, ",\"provider\":\"ExampleCloud\"");
	else
		text_z(t, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_fake\"");
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	text_z(t, ",\"choices\":[");
}

static void tool_id(struct text *t, const struct call *k, int64_t i)
{
	const struct manner *m = manner_of(k->vendor);
	long long n = (long long)i + 1;

	if (k->vendor[0] == 0)
		text_f(t, "\"call_%lld\"", n);
	else if (m->nine)
		text_f(t, "\"fk%04lld%03lld\"", (long long)k->turns % 10000, n);
	else
		text_f(t, "\"%s_%lld_%lld\"",
		       m->thoughts_back && k->thoughts.words == 0 ? "plain" : "call",
		       (long long)k->turns, n);
}

/* One call; with its arguments or, as a stream begins it, without. */
static void tool_add(struct text *t, const struct call *k, int64_t i, bool indexed,
		     bool with_arguments)
{
	const struct tool_call *tool = &k->tools[i];

	text_z(t, "{");
	if (indexed)
		text_f(t, "\"index\":%lld,", (long long)i);
	text_z(t, "\"id\":");
	tool_id(t, k, i);
	text_z(t, ",\"type\":\"function\",\"function\":{\"name\":");
	text_json(t, tool->name, strlen(tool->name));
	text_z(t, ",\"arguments\":");
	text_json(t, tool->arguments.text.at, with_arguments ? tool->arguments.text.len : 0);
	text_z(t, "}");
	if (i == 0 && is_vendor(k, "gemini")) {
		text_z(t, ",\"extra_content\":{\"google\":{\"thought_signature\":\"");
		seal(t, k, "thought", span_z(tool->name));
		text_z(t, "\"}}");
	}
	text_z(t, "}");
}

static void tool_calls(struct text *t, const struct call *k, bool indexed, bool with_arguments)
{
	text_z(t, "\"tool_calls\":[");
	for (int64_t i = 0; i < k->tool_count; i++) {
		text_z(t, i > 0 ? "," : "");
		tool_add(t, k, i, indexed, with_arguments);
	}
	text_z(t, "]");
}

static void annotations(struct text *t, const struct call *k)
{
	text_z(t, "\"annotations\":[");
	for (long long i = 1; i <= (long long)k->plan.citations; i++)
		text_f(t,
		       "%s{\"type\":\"url_citation\",\"url_citation\":{\"url\":"
		       "\"https://example.com/%lld\",\"title\":\"Source %lld\",\"start_index\":0,"
		       "\"end_index\":4}}",
		       i > 1 ? "," : "", i, i);
	text_z(t, "]");
}

/* Reasoning as a field, or as a piece of one. */
static void thoughts_add(struct text *t, const struct call *k, struct span s)
{
	const char *field = manner_of(k->vendor)->thoughts;

	if (field != NULL && strcmp(field, "chunks") == 0) {
		text_z(t, "\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\","
			  "\"text\":");
		text_json(t, s.at, s.len);
		text_z(t, "}]}]");
		return;
	}
	text_f(t, "\"%s\":", field != NULL ? field : "reasoning_content");
	text_json(t, s.at, s.len);
	if (is_vendor(k, "openrouter")) {
		text_z(t,
		       ",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"format\":"
		       "\"unknown\",\"text\":");
		text_json(t, s.at, s.len);
		text_z(t, "}]");
	}
}

static bool has_refusal(const struct call *k)
{
	return k->plan.refusal && (k->vendor[0] == 0 || is_vendor(k, "openai azure_openai"));
}

/* The content of a message; Mistral's is an array where there was thought. */
static void content_add(struct text *t, const struct call *k)
{
	const char *field = manner_of(k->vendor)->thoughts;

	if (k->thoughts.words > 0 && field != NULL && strcmp(field, "chunks") == 0) {
		thoughts_add(t, k, (struct span){k->thoughts.text.at, k->thoughts.text.len});
		if (k->answer.words > 0) {
			t->len--; /* into the array */
			text_z(t, ",{\"type\":\"text\",\"text\":");
			text_json(t, k->answer.text.at, k->answer.text.len);
			text_z(t, "}]");
		}
		return;
	}
	text_z(t, "\"content\":");
	if ((k->tool_count > 0 && k->answer.words == 0) || k->plan.null_content || has_refusal(k))
		text_z(t, "null");
	else
		text_json(t, k->answer.text.at, k->answer.text.len);
	if (k->thoughts.words > 0) {
		text_z(t, ",");
		thoughts_add(t, k, (struct span){k->thoughts.text.at, k->thoughts.text.len});
	}
}

/* What follows `finish_reason` in a choice. */
static void choice_close(struct text *t, const struct call *k, const char *finish)
{
	if (is_vendor(k, "openrouter") && finish != NULL)
		text_f(t, ",\"native_finish_reason\":\"%s\"", finish);
	if (is_vendor(k, "azure_openai"))
		text_z(t, ",\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":"
			  "\"safe\"}}");
	text_z(t, "}");
}

static void pad_add(struct text *t, const struct call *k)
{
	if (k->plan.pad <= 0)
		return;
	text_z(t, ",\"x_pad\":\"");
	for (int64_t i = 0; i < k->plan.pad; i++)
		text_add(t, "p", 1);
	text_z(t, "\"");
}

static void timings_add(struct text *t, const struct call *k)
{
	if (is_vendor(k, "llama_cpp"))
		text_f(t, ",\"timings\":{\"cache_n\":%lld,\"prompt_n\":%lld,\"predicted_n\":%lld}",
		       (long long)k->plan.cached, (long long)k->prompt_tokens - k->plan.cached,
		       (long long)k->completion_tokens);
}

static void choice_add(struct text *t, const struct call *k, int64_t i)
{
	text_f(t, "%s{\"index\":%lld,\"message\":{\"role\":\"assistant\",", i > 0 ? "," : "",
	       (long long)i);
	content_add(t, k);
	text_z(t, ",\"refusal\":");
	if (has_refusal(k))
		text_json(t, k->answer.text.at, k->answer.text.len);
	else
		text_z(t, "null");
	text_z(t, ",");
	annotations(t, k);
	if (k->tool_count > 0) {
		text_z(t, ",");
		tool_calls(t, k, false, true);
	}
	text_f(t, "},\"logprobs\":null,\"finish_reason\":\"%s\"", k->finish);
	choice_close(t, k, k->finish);
}

static void plain_body(struct text *t, const struct call *k)
{
	if (is_vendor(k, "openrouter") && k->plan.failed) {
		chat_error(t, k, 502); /* with HTTP's 200 */
		return;
	}
	if (is_vendor(k, "deepseek"))
		text_z(t, "\n\n"); /* it kept the connection alive */
	object_open(t, k, "chat.completion");
	for (int64_t i = 0; i < k->choices; i++)
		choice_add(t, k, i);
	text_z(t, "]");
	pad_add(t, k);
	if (!k->plan.no_usage) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
		timings_add(t, k);
	}
	text_z(t, "}");
}

/* --- a stream --------------------------------------------------------------------------------------------- */

static void chunk_close(struct text *t, const struct call *k, bool with_usage)
{
	text_z(t, "]");
	if (k->plan.usage_always || (with_usage && !k->plan.no_usage)) {
		text_z(t, ",\"usage\":");
		usage_body(t, k);
		timings_add(t, k);
	} else if (k->include_usage && !manner_of(k->vendor)->usage_with_finish) {
		text_z(t, ",\"usage\":null");
	}
	if (is_vendor(k, "groq") && with_usage) {
		text_f(t, ",\"x_groq\":{\"id\":\"req_%llu\",\"usage\":",
		       (unsigned long long)k->number);
		usage_body(t, k);
		text_z(t, "}");
	}
	text_z(t, "}");
}

/* One chunk for one choice; `delta` is what stands between the braces of its delta. */
static void stream_chunk(struct conn *c, int64_t choice, struct span delta, const char *finish)
{
	const struct call *k = &c->call;
	struct text t = {0};

	object_open(&t, k, "chat.completion.chunk");
	text_f(&t, "{\"index\":%lld,\"delta\":{", (long long)choice);
	text_add(&t, delta.at, delta.len);
	text_z(&t, "},\"logprobs\":null,\"finish_reason\":");
	if (finish != NULL)
		text_f(&t, "\"%s\"", finish);
	else
		text_z(&t, "null");
	choice_close(&t, k, finish);
	chunk_close(&t, k,
		    finish != NULL &&
			    (manner_of(k->vendor)->usage_with_finish || is_vendor(k, "groq")));
	stream_event(c, NULL, &t);
}

/* What some send before the first chunk. */
static void stream_preface(struct conn *c)
{
	const struct call *k = &c->call;
	struct text t = {0};

	if (is_vendor(k, "openrouter"))
		stream_bytes(c, span_z(": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"));
	if (is_vendor(k, "deepseek"))
		stream_bytes(c, span_z(": keep-alive\n\n"));
	if (is_vendor(k, "azure_openai")) {
		object_open(&t, k, "chat.completion.chunk");
		text_z(&t, "],\"prompt_filter_results\":[{\"prompt_index\":0,"
			   "\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":"
			   "\"safe\"}}}]}");
		stream_event(c, NULL, &t);
	}
}

static void stream_open(struct conn *c)
{
	const struct call *k = &c->call;
	struct text delta = {0};

	stream_preface(c);
	for (int64_t i = 0; i < k->choices; i++) {
		text_z(&delta, "\"role\":\"assistant\",\"content\":");
		text_z(&delta, k->tool_count > 0 || has_refusal(k) ? "null" : "\"\"");
		text_z(&delta, ",\"refusal\":null");
		if (k->tool_count > 0 && k->vendor[0] == 0) {
			text_z(&delta, ",");
			tool_calls(&delta, k, true, false);
		}
		stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
		text_clear(&delta);
	}
}

/* A call begins with its name; Mistral's comes whole. */
static void tool_piece(struct text *delta, const struct call *k, const struct piece *p)
{
	if (k->whole_calls) {
		text_z(delta, "\"tool_calls\":[");
		tool_add(delta, k, p->tool, true, true);
		text_z(delta, "]");
		return;
	}
	text_f(delta,
	       "\"tool_calls\":[{\"index\":%lld,\"function\":{\"arguments\":", (long long)p->tool);
	text_json(delta, p->bytes.at, p->bytes.len);
	text_z(delta, "}}]");
}

static void tool_begin(struct conn *c, int64_t choice, const struct piece *p)
{
	const struct call *k = &c->call;
	struct text delta = {0};

	if (k->vendor[0] == 0 || k->whole_calls || k->tools[p->tool].arguments.step != 1)
		return;
	text_z(&delta, "\"tool_calls\":[");
	tool_add(&delta, k, p->tool, true, false);
	text_z(&delta, "]");
	stream_chunk(c, choice, (struct span){delta.at, delta.len}, NULL);
	text_clear(&delta);
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	const struct call *k = &c->call;
	struct text delta = {0};

	for (int64_t i = 0; i < k->choices; i++) {
		if (p->kind == PIECE_TOOL) {
			tool_begin(c, i, p);
			tool_piece(&delta, k, p);
		} else if (p->kind == PIECE_THOUGHTS) {
			thoughts_add(&delta, k, p->bytes);
		} else {
			text_z(&delta, has_refusal(k) ? "\"refusal\":" : "\"content\":");
			text_json(&delta, p->bytes.at, p->bytes.len);
		}
		stream_chunk(c, i, (struct span){delta.at, delta.len}, NULL);
		text_clear(&delta);
	}
}

static void usage_chunk(struct conn *c)
{
	const struct call *k = &c->call;
	struct text t = {0};

	object_open(&t, k, "chat.completion.chunk");
	if (is_vendor(k, "openrouter"))
		text_z(&t, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
			   "\"finish_reason\":null}");
	chunk_close(&t, k, true);
	stream_event(c, NULL, &t);
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	const struct manner *m = manner_of(k->vendor);
	struct text t = {0};

	if (k->plan.citations > 0)
		annotations(&t, k);
	for (int64_t i = 0; i < k->choices; i++)
		stream_chunk(c, i, (struct span){t.at != NULL ? t.at : "", t.len}, k->finish);
	text_clear(&t);
	if ((k->include_usage || m->usage_unasked) && !m->usage_with_finish && !k->plan.no_usage)
		usage_chunk(c);
	if (!k->plan.no_done) {
		text_z(&t, "[DONE]");
		stream_event(c, NULL, &t);
	}
}

/* A failure after the head: the error as an event, then the end of the stream, no [DONE]. */
static void stream_fail(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.garbage) {
		text_z(&t, "{\"id\":\"chatcmpl-broken\",\"choices\":[{\"index\":0,");
	} else if (is_vendor(k, "openrouter")) {
		object_open(&t, k, "chat.completion.chunk");
		text_z(&t,
		       "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}],");
		chat_error(&k->kept, k, 502);
		text_z(&t, k->kept.at + 1); /* "error":{...}} */
	} else {
		chat_error(&t, k, 500);
	}
	stream_event(c, NULL, &t);
}

/* --- what the request says --------------------------------------------------------------------------- */

static void tools_read(struct ask *a, yyjson_val *root)
{
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	const char *mode = yyjson_get_str(choice);
	yyjson_val *allowed = yyjson_obj_get(choice, "allowed_tools");
	yyjson_val *tool;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, max, tool)
	{
		yyjson_val *f = yyjson_obj_get(tool, "function");

		ask_tool(a, str_of(f, "name"), yyjson_obj_get(f, "parameters"));
	}
	if (allowed != NULL)
		mode = str_of(allowed, "mode");
	a->forced = str_of(yyjson_obj_get(choice, "function"), "name");
	a->must = mode != NULL && (strcmp(mode, "required") == 0 || strcmp(mode, "any") == 0);
	a->must_not = mode != NULL && strcmp(mode, "none") == 0;
}

static int64_t allowed_read(yyjson_val *root)
{
	yyjson_val *max = yyjson_obj_get(root, "max_completion_tokens");

	if (!yyjson_is_int(max))
		max = yyjson_obj_get(root, "max_tokens");
	return yyjson_is_int(max) ? yyjson_get_sint(max) : INT64_MAX;
}

static bool bad_media(struct call *k)
{
	return refuse(k, 400, "invalid_request_error", "invalid_image_url", "messages",
		      "Invalid base64 data in the messages.");
}

static bool audio_read(struct call *k, struct ask *a, yyjson_val *audio)
{
	const char *data = yyjson_is_str(audio) ? yyjson_get_str(audio) : str_of(audio, "data");
	const char *format = str_of(audio, "format");
	int64_t bytes = data != NULL ? base64_bytes(span_z(data)) : -1;
	char type[64];

	if (bytes < 0)
		return bad_media(k);
	snprintf(type, sizeof(type), "audio/%s", format != NULL ? format : "unknown");
	ask_media(a, "audio", type, bytes);
	return true;
}

static bool part_read(struct call *k, struct ask *a, yyjson_val *part)
{
	yyjson_val *image = yyjson_obj_get(part, "image_url");
	yyjson_val *audio = yyjson_obj_get(part, "input_audio");
	yyjson_val *file = yyjson_obj_get(part, "file");
	const char *url = yyjson_is_str(image) ? yyjson_get_str(image) : str_of(image, "url");
	const char *document = str_of(part, "document_url");
	const char *data = str_of(file, "file_data");
	const char *id = str_of(file, "file_id");

	if (url != NULL && !ask_media_uri(a, "image", url))
		return bad_media(k);
	if (url != NULL && is_vendor(k, "ollama") && !starts_with(url, "data:"))
		return refuse(k, 400, "invalid_request_error", NULL, NULL, "invalid image input");
	if (audio != NULL && !audio_read(k, a, audio))
		return false;
	if (data != NULL && (!starts_with(data, "data:") || !ask_media_uri(a, "document", data)))
		return bad_media(k);
	if (document != NULL && !ask_media_uri(a, "document", document))
		return bad_media(k);
	if (id != NULL)
		ask_media_at(a, "document", id);
	return true;
}

static bool messages_read(struct call *k, struct ask *a, yyjson_val *root)
{
	const char *role = NULL;
	yyjson_val *message, *part;
	size_t i, n, max, parts;

	yyjson_arr_foreach(yyjson_obj_get(root, "messages"), i, max, message)
	{
		yyjson_val *content = yyjson_obj_get(message, "content");
		const char *before = role;

		role = str_of(message, "role");
		if (before != NULL && role != NULL && strcmp(role, "tool") == 0 &&
		    strcmp(before, "tool") == 0)
			said_add(&a->said, "");
		else
			text_clear(&a->said);
		k->prompt_tokens += 4 + content_words(content, &a->said);
		k->turns++;
		yyjson_arr_foreach(content, n, parts, part)
		{
			if (!part_read(k, a, part))
				return false;
		}
	}
	a->from_user = role != NULL && strcmp(role, "user") == 0;
	return true;
}

static void format_read(struct ask *a, yyjson_val *root)
{
	yyjson_val *format = yyjson_obj_get(root, "response_format");
	yyjson_val *schema = yyjson_obj_get(format, "json_schema");
	const char *type = str_of(format, "type");

	a->json = type != NULL && starts_with(type, "json");
	a->schema = yyjson_obj_get(schema, "schema");
	if (a->schema == NULL)
		a->schema = yyjson_obj_get(format, "schema"); /* llama.cpp's */
}

/* OpenAI makes sure that the model knows of JSON, too. */
static bool json_is_said(struct call *k, yyjson_val *root)
{
	const char *type = str_of(yyjson_obj_get(root, "response_format"), "type");
	char *messages;
	bool said;

	if (type == NULL || strcmp(type, "json_object") != 0 ||
	    !is_vendor(k, "openai azure_openai"))
		return true;
	messages = yyjson_val_write(yyjson_obj_get(root, "messages"), 0, NULL);
	said = messages != NULL && strcasestr(messages, "json") != NULL;
	free(messages);
	return said || refuse(k, 400, "invalid_request_error", NULL, "messages",
			      "'messages' must contain the word 'json' in some form, to use "
			      "'response_format' of type 'json_object'.");
}

static void chat_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const struct manner *m = manner_of(k->vendor);
	const char *model = str_of(root, "model");
	yyjson_val *options = yyjson_obj_get(root, "stream_options");
	yyjson_val *n = yyjson_obj_get(root, "n");
	struct ask a = {.allowed = allowed_read(root)};

	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
	k->include_usage = k->stream && yyjson_is_true(yyjson_obj_get(options, "include_usage"));
	k->choices = yyjson_is_int(n) && yyjson_get_sint(n) > 1 ? yyjson_get_sint(n) : 1;
	k->thinks = m->thoughts != NULL && k->vendor[0] != 0;
	k->whole_calls = m->nine;
	k->one_by_one = k->vendor[0] != 0 && !is_vendor(k, "openai azure_openai together");
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	if (is_vendor(k, "openrouter")) {
		snprintf(k->id, sizeof(k->id), "gen-fake%llu", (unsigned long long)k->number);
		text_f(&k->head, "X-Generation-Id: %s\r\n", k->id);
	}
	if (!chat_is_good(k, m, root) || !json_is_said(k, root) || !messages_read(k, &a, root)) {
		ask_clear(&a);
		return;
	}
	format_read(&a, root);
	ask_stops(&a, yyjson_obj_get(root, "stop"));
	tools_read(&a, root);
	call_decide(k, &a);
	if (k->plan.refusal && !has_refusal(k) && k->plan.finish[0] == 0)
		k->finish = "content_filter";
	if (k->plan.blocked && k->plan.status == 200)
		refuse(k, 400, "invalid_request_error", "content_policy_violation", NULL,
		       "The prompt was refused by the content policy.");
}

const struct speaker speak_chat = {
	.read = chat_read,
	.plain = plain_body,
	.error = chat_error,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
