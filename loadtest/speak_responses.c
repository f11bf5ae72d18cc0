/* loadtest/speak_responses.c - OpenAI's Responses, as strict as the provider is.
 *
 * It remembers what it answered, per key, so that a follow-up that goes to another key finds nothing. What
 * is remembered is not counted: usage follows from the request alone. Read it from the end. */
#include <stdio.h>
#include <string.h>
#include "fake.h"

#define STORED_MAX	    1024
#define STORED_BYTES_MAX    (64 * 1024 * 1024)
#define OUTPUT_TOKENS_LEAST 16 /* of reasoning models */

static const char fields[] =
	"model input instructions max_output_tokens max_tool_calls temperature top_p top_logprobs tools "
	"tool_choice parallel_tool_calls text reasoning include store previous_response_id conversation "
	"prompt background stream stream_options metadata service_tier prompt_cache_key "
	"prompt_cache_options prompt_cache_retention safety_identifier user context_management "
	"moderation truncation client_metadata";

static bool bad(struct call *k, const char *code, const char *param, const char *words)
{
	return refuse(k, 400, "invalid_request_error", code, param, "%s", words);
}

/* --- what is remembered ----------------------------------------------------------------------------------- */

/* A response, or a conversation that a key has begun. */
static struct stored {
	char id[96], key[128];
	struct text body;  /* the response as it is given back */
	struct text calls; /* ids of its calls, a space before and after each */
} stored[STORED_MAX];
static size_t stored_next, stored_bytes;

static void stored_drop(struct stored *s)
{
	stored_bytes -= s->body.len;
	text_clear(&s->body);
	text_clear(&s->calls);
	s->id[0] = 0;
}

void responses_forget(void)
{
	for (size_t i = 0; i < STORED_MAX; i++)
		stored_drop(&stored[i]);
}

/* The caller fills in the body and tells its size by stored_sized(). */
static struct stored *stored_add(const char *id, const char *key)
{
	struct stored *s = &stored[stored_next];

	stored_next = (stored_next + 1) % STORED_MAX;
	stored_drop(s);
	if (stored_bytes > STORED_BYTES_MAX)
		responses_forget();
	span_copy(span_z(id), s->id, sizeof(s->id));
	span_copy(span_z(key), s->key, sizeof(s->key));
	return s;
}

/* By id; `key` NULL: anybody's. */
static struct stored *stored_find(const char *id, const char *key)
{
	for (size_t i = 0; i < STORED_MAX; i++)
		if (stored[i].id[0] != 0 && strcmp(stored[i].id, id) == 0 &&
		    (key == NULL || strcmp(stored[i].key, key) == 0))
			return &stored[i];
	return NULL;
}

/* Whether an item of this id is in anything that the key has stored. */
static bool item_is_stored(const char *id, const char *key)
{
	struct text quoted = {0};
	bool is = false;

	text_f(&quoted, "\"id\":\"%s\"", id);
	for (size_t i = 0; i < STORED_MAX && !is; i++)
		is = stored[i].body.len > 0 && strcmp(stored[i].key, key) == 0 &&
		     strstr(stored[i].body.at, quoted.at) != NULL;
	text_clear(&quoted);
	return is;
}

/* --- errors ------------------------------------------------------------------------------------------------- */

static const char *error_code(const struct call *k, int status)
{
	if (k->plan.code[0] != 0)
		return k->plan.code;
	if (k->why[0] != 0)
		return k->why_code;
	return status == 401   ? "invalid_api_key"
	       : status == 404 ? "model_not_found"
	       : status == 429 ? "rate_limit_exceeded"
	       : status == 503 ? "server_is_overloaded"
			       : NULL;
}

static void string_or_null(struct text *t, const char *s)
{
	if (s != NULL && s[0] != 0)
		text_json(t, s, strlen(s));
	else
		text_z(t, "null");
}

static void message_add(struct text *t, const struct call *k, int status)
{
	if (k->why[0] != 0)
		text_json(t, k->why, strlen(k->why));
	else
		text_f(t, "\"The fake provider was told to answer %d.\"", status);
}

static void error_body(struct text *t, const struct call *k, int status)
{
	text_z(t, "{\"error\":{\"message\":");
	message_add(t, k, status);
	text_z(t, ",\"type\":");
	string_or_null(t, k->plan.type[0] != 0	? k->plan.type
			  : k->why_type != NULL ? k->why_type
			  : status == 429	? "requests"
			  : status == 503	? "service_unavailable_error"
			  : status >= 500	? "server_error"
						: "invalid_request_error");
	text_z(t, ",\"param\":");
	string_or_null(t, k->why_param);
	text_z(t, ",\"code\":");
	string_or_null(t, error_code(k, status));
	text_z(t, "}}");
}

/* --- items of the output ------------------------------------------------------------------------------------- */

static const char *status_of(const struct call *k)
{
	if (k->plan.failed)
		return "failed";
	return strcmp(k->finish, "length") == 0 || strcmp(k->finish, "content_filter") == 0
		       ? "incomplete"
		       : "completed";
}

static void reasoning_item(struct text *t, const struct call *k, bool done)
{
	text_f(t, "{\"id\":\"rs_fake%llu\",\"type\":\"reasoning\",\"summary\":[",
	       (unsigned long long)k->number);
	if (done && k->thoughts.words > 0) {
		text_z(t, "{\"type\":\"summary_text\",\"text\":");
		text_json(t, k->thoughts.text.at, k->thoughts.text.len);
		text_z(t, "}");
	}
	text_z(t, "]");
	if (done && k->hidden) {
		text_z(t, ",\"encrypted_content\":\"");
		seal(t, k, "reasoning", span_z(""));
		text_z(t, "\"");
	}
	text_z(t, "}");
}

static void annotation_add(struct text *t, long long i)
{
	text_f(t,
	       "{\"type\":\"url_citation\",\"url\":\"https://example.com/%lld\",\"title\":\"Source "
	       "%lld\",\"start_index\":0,\"end_index\":4}",
	       i, i);
}

static void part_add(struct text *t, const struct call *k, bool done)
{
	if (k->plan.refusal) {
		text_z(t, "{\"type\":\"refusal\",\"refusal\":");
		text_json(t, k->answer.text.at, done ? k->answer.text.len : 0);
		text_z(t, "}");
		return;
	}
	text_z(t, "{\"type\":\"output_text\",\"text\":");
	text_json(t, k->answer.text.at, done ? k->answer.text.len : 0);
	text_z(t, ",\"annotations\":[");
	for (long long i = 1; done && i <= (long long)k->plan.citations; i++) {
		text_z(t, i > 1 ? "," : "");
		annotation_add(t, i);
	}
	text_z(t, "],\"logprobs\":[]}");
}

static void message_item(struct text *t, const struct call *k, bool done)
{
	text_f(t,
	       "{\"id\":\"msg_fake%llu\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"%s\",",
	       (unsigned long long)k->number,
	       !done					 ? "in_progress"
	       : strcmp(status_of(k), "incomplete") == 0 ? "incomplete"
							 : "completed");
	text_z(t, "\"content\":[");
	if (done)
		part_add(t, k, true);
	text_z(t, "]}");
}

static void call_item(struct text *t, const struct call *k, int64_t i, bool done)
{
	const struct tool_call *tool = &k->tools[i];

	text_f(t,
	       "{\"id\":\"fc_fake%llu_%lld\",\"type\":\"function_call\",\"call_id\":\"call_%lld_%lld\","
	       "\"name\":",
	       (unsigned long long)k->number, (long long)i + 1, (long long)k->turns,
	       (long long)i + 1);
	text_json(t, tool->name, strlen(tool->name));
	text_z(t, ",\"arguments\":");
	text_json(t, tool->arguments.text.at, done ? tool->arguments.text.len : 0);
	text_f(t, ",\"status\":\"%s\"}", done ? "completed" : "in_progress");
}

static void search_item(struct text *t, const struct call *k, long long i)
{
	text_f(t,
	       "{\"id\":\"ws_fake%llu_%lld\",\"type\":\"web_search_call\",\"status\":\"completed\","
	       "\"action\":{\"type\":\"search\",\"query\":\"fake\"}}",
	       (unsigned long long)k->number, i);
}

static void output_add(struct text *t, const struct call *k)
{
	const char *between = "";

	text_z(t, "[");
	for (long long i = 1; i <= (long long)k->plan.searches; i++) {
		text_z(t, between);
		search_item(t, k, i);
		between = ",";
	}
	if (k->plan.reasoning > 0) {
		text_z(t, between);
		reasoning_item(t, k, true);
		between = ",";
	}
	if (k->answer.words > 0) {
		text_z(t, between);
		message_item(t, k, true);
		between = ",";
	}
	for (int64_t i = 0; i < k->tool_count; i++) {
		text_z(t, between);
		call_item(t, k, i, true);
		between = ",";
	}
	text_z(t, "]");
}

static void usage_body(struct text *t, const struct call *k)
{
	text_z(t, "{\"input_tokens\":");
	usage_number(t, k, false, k->prompt_tokens);
	text_f(t,
	       ",\"input_tokens_details\":{\"cached_tokens\":%lld,\"cache_write_tokens\":%lld},"
	       "\"output_tokens\":",
	       (long long)k->plan.cached, (long long)k->plan.cache_write);
	usage_number(t, k, true, k->completion_tokens);
	text_f(t, ",\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
	       (long long)k->plan.reasoning, (long long)(k->prompt_tokens + k->completion_tokens));
}

/* The whole object. `status`: as it is now; only an end has output and usage. */
static void response_add(struct text *t, const struct call *k, const char *status)
{
	bool ended = word_among(status, "completed incomplete failed");

	text_f(t,
	       "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":",
	       k->id, (long long)k->created, status);
	if (strcmp(status, "failed") == 0)
		text_f(t, "{\"code\":\"%s\",\"message\":\"The fake provider was told to fail.\"}",
		       k->plan.code[0] != 0 ? k->plan.code : "server_error");
	else
		text_z(t, "null");
	text_z(t, ",\"incomplete_details\":");
	if (strcmp(status, "incomplete") == 0)
		text_f(t, "{\"reason\":\"%s\"}",
		       strcmp(k->finish, "length") == 0 ? "max_output_tokens" : "content_filter");
	else
		text_z(t, "null");
	text_z(t, ",\"model\":");
	text_json(t, k->model, strlen(k->model));
	text_z(t, ",\"output\":");
	if (ended && strcmp(status, "failed") != 0)
		output_add(t, k);
	else
		text_z(t, "[]");
	text_add(t, k->kept.at, k->kept.len);
	if (k->plan.extra)
		text_z(t, ",\"x_unknown\":{\"kept\":true}");
	if (k->plan.pad > 0)
		text_f(t, ",\"x_pad\":\"%0*d\"", (int)k->plan.pad, 0);
	text_z(t, ",\"service_tier\":\"default\",\"usage\":");
	if (ended && !k->plan.no_usage)
		usage_body(t, k);
	else
		text_z(t, "null");
	text_z(t, "}");
}

static void plain_body(struct text *t, const struct call *k)
{
	if (k->verb == RESPONSES_CREATE)
		response_add(t, k, k->later ? "queued" : status_of(k));
	else
		text_add(t, k->kept.at, k->kept.len);
}

/* --- a stream --------------------------------------------------------------------------------------------------- */

/* `t` holds the fields after "type"; the number of the event is added, the text is cleared. */
static void event(struct conn *c, const char *name, struct text *t)
{
	struct text whole = {0};

	text_f(&whole, "{\"type\":\"%s\",%s,\"sequence_number\":%lld}", name, t->at,
	       (long long)c->call.event++);
	text_clear(t);
	stream_event(c, name, &whole);
}

static void lifecycle(struct conn *c, const char *name, const char *status)
{
	struct text t = {0};

	text_z(&t, "\"response\":");
	response_add(&t, &c->call, status);
	event(c, name, &t);
}

static void item_add(struct text *t, const struct call *k, bool done)
{
	text_f(t, "\"output_index\":%lld,\"item\":", (long long)k->block);
	if (k->block_kind == PIECE_THOUGHTS)
		reasoning_item(t, k, done);
	else if (k->block_kind == PIECE_WORDS)
		message_item(t, k, done);
	else
		call_item(t, k, k->block_tool, done);
}

/* What every event of an item begins with; `inner` names its part. */
static void where_add(struct text *t, const struct call *k, const char *inner)
{
	const char *id = k->block_kind == PIECE_THOUGHTS ? "rs_fake"
			 : k->block_kind == PIECE_WORDS	 ? "msg_fake"
							 : "fc_fake";

	text_f(t, "\"item_id\":\"%s%llu", id, (unsigned long long)k->number);
	if (k->block_kind == PIECE_TOOL)
		text_f(t, "_%lld", (long long)k->block_tool + 1);
	text_f(t, "\",\"output_index\":%lld%s", (long long)k->block, inner);
}

static void words_end(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (long long i = 1; i <= (long long)k->plan.citations; i++) {
		where_add(&t, k, ",\"content_index\":0");
		text_f(&t, ",\"annotation_index\":%lld,\"annotation\":", i - 1);
		annotation_add(&t, i);
		event(c, "response.output_text.annotation.added", &t);
	}
	where_add(&t, k, ",\"content_index\":0");
	text_f(&t, ",\"%s\":", k->plan.refusal ? "refusal" : "text");
	text_json(&t, k->answer.text.at, k->answer.text.len);
	text_z(&t, k->plan.refusal ? "" : ",\"logprobs\":[]");
	event(c, k->plan.refusal ? "response.refusal.done" : "response.output_text.done", &t);
	where_add(&t, k, ",\"content_index\":0");
	text_z(&t, ",\"part\":");
	part_add(&t, k, true);
	event(c, "response.content_part.done", &t);
}

static void thoughts_end(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	where_add(&t, k, ",\"summary_index\":0");
	text_z(&t, ",\"text\":");
	text_json(&t, k->thoughts.text.at, k->thoughts.text.len);
	event(c, "response.reasoning_summary_text.done", &t);
	where_add(&t, k, ",\"summary_index\":0");
	text_z(&t, ",\"part\":{\"type\":\"summary_text\",\"text\":");
	text_json(&t, k->thoughts.text.at, k->thoughts.text.len);
	text_z(&t, "}");
	event(c, "response.reasoning_summary_part.done", &t);
}

static void tool_end(struct conn *c)
{
	struct call *k = &c->call;
	const struct tool_call *tool = &k->tools[k->block_tool];
	struct text t = {0};

	where_add(&t, k, "");
	text_z(&t, ",\"name\":");
	text_json(&t, tool->name, strlen(tool->name));
	text_z(&t, ",\"arguments\":");
	text_json(&t, tool->arguments.text.at, tool->arguments.text.len);
	event(c, "response.function_call_arguments.done", &t);
}

static void item_close(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == PIECE_NONE)
		return;
	if (k->block_kind == PIECE_WORDS)
		words_end(c);
	else if (k->block_kind == PIECE_TOOL)
		tool_end(c);
	else if (k->thoughts.words > 0)
		thoughts_end(c);
	item_add(&t, k, true);
	event(c, "response.output_item.done", &t);
	k->block_kind = PIECE_NONE;
}

static void item_open(struct conn *c, enum piece_kind kind, int64_t tool)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->block_kind == kind && k->block_tool == tool)
		return;
	item_close(c);
	k->block++;
	k->block_kind = kind;
	k->block_tool = tool;
	item_add(&t, k, false);
	event(c, "response.output_item.added", &t);
	if (kind == PIECE_WORDS) {
		where_add(&t, k, ",\"content_index\":0");
		text_z(&t, ",\"part\":");
		part_add(&t, k, false);
		event(c, "response.content_part.added", &t);
	} else if (kind == PIECE_THOUGHTS && k->thoughts.words > 0) {
		where_add(
			&t, k,
			",\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}");
		event(c, "response.reasoning_summary_part.added", &t);
	}
}

static void searches_send(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	for (long long i = 1; i <= (long long)k->plan.searches; i++) {
		static const char *const names[] = {"response.output_item.added",
						    "response.output_item.done"};

		k->block++;
		for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
			text_f(&t, "\"output_index\":%lld,\"item\":", (long long)k->block);
			search_item(&t, k, i);
			event(c, names[n], &t);
		}
	}
}

static void stream_open(struct conn *c)
{
	struct call *k = &c->call;

	lifecycle(c, "response.created", "in_progress");
	lifecycle(c, "response.in_progress", "in_progress");
	searches_send(c);
	/* reasoning that is not shown is an item all the same */
	if (k->plan.reasoning > 0 && k->thoughts.words == 0)
		item_open(c, PIECE_THOUGHTS, 0);
}

static void stream_piece(struct conn *c, const struct piece *p)
{
	struct call *k = &c->call;
	struct text t = {0};

	item_open(c, p->kind, p->tool);
	where_add(&t, k,
		  p->kind == PIECE_WORDS      ? ",\"content_index\":0"
		  : p->kind == PIECE_THOUGHTS ? ",\"summary_index\":0"
					      : "");
	text_z(&t, ",\"delta\":");
	text_json(&t, p->bytes.at, p->bytes.len);
	if (p->kind == PIECE_WORDS && !k->plan.refusal)
		text_z(&t, ",\"logprobs\":[],\"obfuscation\":\"abc\"");
	event(c,
	      p->kind == PIECE_THOUGHTS ? "response.reasoning_summary_text.delta"
	      : p->kind == PIECE_TOOL	? "response.function_call_arguments.delta"
	      : k->plan.refusal		? "response.refusal.delta"
					: "response.output_text.delta",
	      &t);
}

static void stream_close(struct conn *c)
{
	struct call *k = &c->call;
	const char *status = status_of(k);
	char name[64];

	item_close(c);
	snprintf(name, sizeof(name), "response.%s", status);
	if (!k->plan.no_done)
		lifecycle(c, name, status);
}

static void stream_fail(struct conn *c)
{
	struct call *k = &c->call;
	struct text t = {0};

	if (k->plan.garbage) {
		text_z(&t, "{\"type\":\"response.output_text.delta\",");
		stream_event(c, "response.output_text.delta", &t);
		return;
	}
	text_z(&t, "\"code\":");
	string_or_null(&t, k->plan.code[0] != 0 ? k->plan.code : "server_error");
	text_z(&t, ",\"message\":");
	message_add(&t, k, 500);
	text_z(&t, ",\"param\":null");
	event(c, "error", &t);
}

/* --- the input ------------------------------------------------------------------------------------------------------ */

struct reading {
	struct call *k;
	struct ask *a;
	const struct stored *before; /* previous_response_id; NULL: none */
	const char *open[TOOLS_MAX]; /* calls without an output */
	size_t open_count;
	bool assistant; /* the last item was the model's */
	bool output;	/* the last item was a tool's */
};

static bool part_read(struct reading *r, yyjson_val *part, bool assistant)
{
	const char *type = str_of(part, "type");
	const char *url = str_of(part, "image_url");
	const char *data = str_of(part, "file_data");
	const char *file_url = str_of(part, "file_url");
	const char *id = str_of(part, "file_id");
	bool image = type != NULL && strcmp(type, "input_image") == 0;

	if (type == NULL || !word_among(type, assistant ? "output_text refusal"
							: "input_text input_image input_file"))
		return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input",
			      "Invalid value: '%s'. Supported values are: %s.",
			      type != NULL ? type : "",
			      assistant ? "'output_text' and 'refusal'"
					: "'input_text', 'input_image', and 'input_file'");
	if (image && url == NULL && id == NULL)
		return bad(
			r->k, "invalid_type", "input",
			"Invalid type for 'input[0].content[0].image_url': expected an image URL, but "
			"got an object instead.");
	if ((url != NULL && !ask_media_uri(r->a, "image", url)) ||
	    (data != NULL &&
	     (!starts_with(data, "data:") || !ask_media_uri(r->a, "document", data))))
		return bad(r->k, "invalid_value", "input", "Invalid 'input': invalid base64 data.");
	if (file_url != NULL)
		ask_media_at(r->a, "document", file_url);
	if (id != NULL)
		ask_media_at(r->a, image ? "image" : "document", id);
	return true;
}

static bool message_read(struct reading *r, yyjson_val *item)
{
	const char *role = str_of(item, "role");
	yyjson_val *content = yyjson_obj_get(item, "content");
	bool assistant;
	yyjson_val *part;
	size_t i, max;

	if (role == NULL || !word_among(role, "user assistant system developer"))
		return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input[0].role",
			      "Invalid value: '%s'. Supported values are: 'assistant', 'system', "
			      "'developer', and 'user'.",
			      role != NULL ? role : "");
	if (field_unknown(item, "type role content id status phase") != NULL)
		return refuse(r->k, 400, "invalid_request_error", "unknown_parameter", "input",
			      "Unknown parameter: 'input[0].%s'.",
			      field_unknown(item, "type role content id status phase"));
	if (!yyjson_is_str(content) && !yyjson_is_arr(content))
		return bad(r->k, "missing_required_parameter", "input[0].content",
			   "Missing required parameter: 'input[0].content'.");
	assistant = strcmp(role, "assistant") == 0;
	yyjson_arr_foreach(content, i, max, part)
	{
		if (!part_read(r, part, assistant))
			return false;
	}
	text_clear(&r->a->said);
	r->k->prompt_tokens += content_words(content, &r->a->said);
	if (!assistant || !r->assistant)
		r->k->prompt_tokens += 4;
	r->a->from_user = strcmp(role, "user") == 0;
	r->assistant = assistant;
	r->output = false;
	return true;
}

static bool function_call_read(struct reading *r, yyjson_val *item)
{
	const char *id = str_of(item, "call_id");

	if (id == NULL || str_of(item, "name") == NULL || str_of(item, "arguments") == NULL)
		return bad(
			r->k, "missing_required_parameter", "input",
			"Missing required parameter: 'input[0].call_id', 'name' or 'arguments'.");
	if (!r->assistant)
		r->k->prompt_tokens += 4;
	if (r->open_count < TOOLS_MAX)
		r->open[r->open_count++] = id;
	r->assistant = true;
	r->output = r->a->from_user = false;
	return true;
}

static bool call_is_known(struct reading *r, const char *id)
{
	char spaced[160];

	for (size_t i = 0; i < r->open_count; i++) {
		if (strcmp(r->open[i], id) == 0) {
			r->open[i] = r->open[--r->open_count];
			return true;
		}
	}
	snprintf(spaced, sizeof(spaced), " %s ", id);
	return r->before != NULL && r->before->calls.at != NULL &&
	       strstr(r->before->calls.at, spaced) != NULL;
}

static bool output_read(struct reading *r, yyjson_val *item)
{
	yyjson_val *output = yyjson_obj_get(item, "output");
	const char *id = str_of(item, "call_id");
	yyjson_val *part;
	size_t i, max;

	if (id == NULL || (!yyjson_is_str(output) && !yyjson_is_arr(output)))
		return bad(r->k, "missing_required_parameter", "input",
			   "Missing required parameter: 'input[0].output' or 'call_id'.");
	if (!call_is_known(r, id))
		return refuse(r->k, 400, "invalid_request_error", NULL, "input",
			      "No tool call found for function call output with call_id %s.", id);
	yyjson_arr_foreach(output, i, max, part)
	{
		if (!part_read(r, part, false))
			return false;
	}
	if (!r->output)
		text_clear(&r->a->said);
	if (r->a->said.len > 0)
		text_z(&r->a->said, " ");
	r->k->prompt_tokens += 4 + content_words(output, &r->a->said);
	r->output = true;
	r->assistant = r->a->from_user = false;
	return true;
}

static bool reasoning_read(struct reading *r, yyjson_val *item)
{
	const char *sealed = str_of(item, "encrypted_content");

	if (!yyjson_is_arr(yyjson_obj_get(item, "summary")))
		return bad(r->k, "missing_required_parameter", "input[0].summary",
			   "Missing required parameter: 'input[0].summary'.");
	if (sealed != NULL && !is_sealed(r->k, "reasoning", span_z(""), sealed))
		return bad(
			r->k, "invalid_encrypted_content", "input",
			"The encrypted content could not be verified. Reason: Encrypted content could "
			"not be decrypted or parsed.");
	if (!r->assistant)
		r->k->prompt_tokens += 4;
	r->assistant = true;
	return true;
}

static bool item_read(struct reading *r, yyjson_val *item)
{
	const char *type = str_of(item, "type");

	if (type == NULL || strcmp(type, "message") == 0)
		return message_read(r, item);
	if (word_among(type, "function_call"))
		return function_call_read(r, item);
	if (word_among(type, "function_call_output custom_tool_call_output"))
		return output_read(r, item);
	if (strcmp(type, "reasoning") == 0)
		return reasoning_read(r, item);
	if (strcmp(type, "custom_tool_call") == 0) {
		if (r->open_count < TOOLS_MAX && str_of(item, "call_id") != NULL)
			r->open[r->open_count++] = str_of(item, "call_id");
		return true;
	}
	if (strcmp(type, "item_reference") == 0)
		return (str_of(item, "id") != NULL &&
			item_is_stored(str_of(item, "id"), r->k->key)) ||
		       refuse(r->k, 404, "invalid_request_error", NULL, "input",
			      "Item with id '%s' not found.",
			      str_of(item, "id") != NULL ? str_of(item, "id") : "");
	if (word_among(type,
		       "web_search_call file_search_call code_interpreter_call computer_call "
		       "computer_call_output image_generation_call mcp_call mcp_list_tools "
		       "mcp_approval_request mcp_approval_response local_shell_call "
		       "local_shell_call_output shell_call shell_call_output apply_patch_call "
		       "apply_patch_call_output tool_search_call compaction"))
		return true;
	return refuse(r->k, 400, "invalid_request_error", "invalid_value", "input",
		      "Invalid value: '%s'. Supported values are: 'message', 'function_call', "
		      "'function_call_output', 'reasoning' and others.",
		      type);
}

static bool input_read(struct reading *r, yyjson_val *root)
{
	yyjson_val *input = yyjson_obj_get(root, "input");
	yyjson_val *item;
	size_t i, max;

	r->a->from_user = true;
	if (yyjson_is_str(input)) {
		r->k->turns = 1;
		r->k->prompt_tokens += 4 + content_words(input, &r->a->said);
		return true;
	}
	if (!yyjson_is_arr(input)) {
		if (input == NULL && (yyjson_obj_get(root, "prompt") != NULL || r->before != NULL))
			return true;
		return bad(r->k, "missing_required_parameter", "input",
			   "Missing required parameter: 'input'.");
	}
	yyjson_arr_foreach(input, i, max, item)
	{
		if (!item_read(r, item))
			return false;
		r->k->turns++;
	}
	return r->open_count == 0 ||
	       refuse(r->k, 400, "invalid_request_error", NULL, "input",
		      "No tool output found for function call %s.", r->open[0]);
}

/* --- tools and settings -------------------------------------------------------------------------------------------------- */

static bool tool_read(struct call *k, struct ask *a, size_t i, yyjson_val *tool)
{
	const char *type = str_of(tool, "type");
	const char *name = str_of(tool, "name");
	yyjson_val *parameters = yyjson_obj_get(tool, "parameters");

	if (type == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools", "Missing required parameter: 'tools[%zu].type'.", i);
	if (strcmp(type, "function") != 0)
		return true; /* hosted, or with a grammar: never called here */
	if (name == NULL)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "tools", "Missing required parameter: 'tools[%zu].name'.", i);
	if (field_unknown(tool, "type name description parameters strict defer_loading "
				"allowed_callers output_schema") != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", "tools",
			      "Unknown parameter: 'tools[%zu].%s'.", i,
			      field_unknown(tool, "type name description parameters strict "
						  "defer_loading allowed_callers output_schema"));
	if (yyjson_is_true(yyjson_obj_get(tool, "strict")) && !schema_is_closed(parameters, true))
		return refuse(
			k, 400, "invalid_request_error", "invalid_function_parameters", "tools",
			"Invalid schema for function '%s': 'additionalProperties' is required to be "
			"supplied and to be false, and every property to be required.",
			name);
	ask_tool(a, name, parameters);
	return true;
}

static bool tools_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *choice = yyjson_obj_get(root, "tool_choice");
	const char *mode = yyjson_get_str(choice);
	const char *type = str_of(choice, "type");
	yyjson_val *tool;
	size_t i, max;

	yyjson_arr_foreach(yyjson_obj_get(root, "tools"), i, max, tool)
	{
		if (!tool_read(k, a, i, tool))
			return false;
	}
	if (yyjson_obj_get(choice, "function") != NULL)
		return bad(k, "unknown_parameter", "tool_choice.function",
			   "Unknown parameter: 'tool_choice.function'.");
	if (mode != NULL && !word_among(mode, "none auto required"))
		return bad(k, "invalid_value", "tool_choice", "Invalid value for 'tool_choice'.");
	if (type != NULL && strcmp(type, "allowed_tools") == 0)
		mode = str_of(choice, "mode");
	if (type != NULL && strcmp(type, "function") == 0)
		a->forced = str_of(choice, "name");
	a->must = mode != NULL && strcmp(mode, "required") == 0;
	a->must_not = mode != NULL && strcmp(mode, "none") == 0;
	for (i = 0; a->forced != NULL && i < a->tool_count; i++)
		if (strcmp(a->tools[i].name, a->forced) == 0)
			return true;
	return a->forced == NULL || bad(k, NULL, "tool_choice",
					"Tool choice 'function' not found in 'tools' parameter.");
}

static bool format_read(struct call *k, struct ask *a, yyjson_val *root)
{
	yyjson_val *text = yyjson_obj_get(root, "text");
	yyjson_val *format = yyjson_obj_get(text, "format");
	const char *type = str_of(format, "type");

	if (field_unknown(text, "format verbosity") != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", "text",
			      "Unknown parameter: 'text.%s'.",
			      field_unknown(text, "format verbosity"));
	if (format == NULL)
		return true;
	if (type == NULL || !word_among(type, "text json_object json_schema"))
		return bad(k, "invalid_value", "text.format.type",
			   "Invalid value for 'text.format.type'.");
	a->json = type[0] == 'j';
	if (strcmp(type, "json_schema") != 0)
		return true;
	a->schema = yyjson_obj_get(format, "schema");
	if (str_of(format, "name") == NULL)
		return bad(k, "missing_required_parameter", "text.format.name",
			   "Missing required parameter: 'text.format.name'.");
	if (a->schema == NULL)
		return bad(k, "missing_required_parameter", "text.format.schema",
			   "Missing required parameter: 'text.format.schema'.");
	return !yyjson_is_true(yyjson_obj_get(format, "strict")) ||
	       schema_is_closed(a->schema, true) ||
	       bad(k, "invalid_json_schema", "text.format.schema",
		   "Invalid schema for response_format: 'additionalProperties' is required to be supplied "
		   "and to be false, and every property to be required.");
}

static bool thinks_always(const char *model)
{
	return (model[0] == 'o' && model[1] >= '1' && model[1] <= '9') ||
	       starts_with(model, "gpt-5");
}

static bool fields_are_good(struct call *k, yyjson_val *root)
{
	yyjson_val *max = yyjson_obj_get(root, "max_output_tokens");
	const char *unknown = field_unknown(root, fields);

	if (unknown != NULL && strcmp(unknown, "response_format") == 0)
		return bad(
			k, "unsupported_parameter", unknown,
			"Unsupported parameter: 'response_format'. In the Responses API, this parameter "
			"has moved to 'text.format'.");
	if (unknown != NULL && strcmp(k->vendor, "openai") == 0)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", unknown,
			      "Unknown parameter: '%s'.", unknown);
	if (max != NULL && !yyjson_is_null(max) &&
	    (!yyjson_is_int(max) ||
	     yyjson_get_sint(max) < (thinks_always(k->model) ? OUTPUT_TOKENS_LEAST : 1)))
		return bad(k, "integer_below_min_value", "max_output_tokens",
			   "Invalid 'max_output_tokens': integer below minimum value.");
	if (thinks_always(k->model) && yyjson_is_num(yyjson_obj_get(root, "temperature")) &&
	    yyjson_get_num(yyjson_obj_get(root, "temperature")) != 1)
		return bad(
			k, "unsupported_parameter", "temperature",
			"Unsupported parameter: 'temperature' is not supported with this model.");
	if (yyjson_is_true(yyjson_obj_get(root, "background")) &&
	    yyjson_is_false(yyjson_obj_get(root, "store")))
		return bad(k, NULL, "background", "Background responses need 'store' to be true.");
	return true;
}

static void reasoning_wanted(struct call *k, yyjson_val *root)
{
	yyjson_val *one;
	size_t i, max;

	k->thinks = str_of(yyjson_obj_get(root, "reasoning"), "summary") != NULL;
	yyjson_arr_foreach(yyjson_obj_get(root, "include"), i, max, one)
	{
		if (yyjson_equals_str(one, "reasoning.encrypted_content"))
			k->hidden = true;
	}
}

/* --- state ------------------------------------------------------------------------------------------------------------------ */

static bool before_find(struct reading *r, yyjson_val *root)
{
	struct call *k = r->k;
	const char *id = str_of(root, "previous_response_id");
	yyjson_val *conversation = yyjson_obj_get(root, "conversation");
	const char *talk = yyjson_is_str(conversation) ? yyjson_get_str(conversation)
						       : str_of(conversation, "id");

	if (id != NULL && talk != NULL)
		return bad(
			k, "mutually_exclusive_parameters", "previous_response_id",
			"Mutually exclusive parameters: 'previous_response_id' and 'conversation'.");
	if (id != NULL) {
		r->before = stored_find(id, k->key);
		if (r->before == NULL || r->before->body.len == 0)
			return refuse(k, 400, "invalid_request_error",
				      "previous_response_not_found", "previous_response_id",
				      "Previous response with id '%s' not found.", id);
	}
	if (talk == NULL)
		return true;
	/* a conversation is of the key that spoke in it first */
	if (stored_find(talk, NULL) == NULL)
		(void)stored_add(talk, k->key);
	return stored_find(talk, k->key) != NULL ||
	       refuse(k, 404, "invalid_request_error", NULL, "conversation",
		      "Conversation with id '%s' not found.", talk);
}

static void remember(struct call *k, const struct reading *r)
{
	struct stored *s = stored_add(k->id, k->key);

	response_add(&s->body, k, status_of(k));
	stored_bytes += s->body.len;
	text_z(&s->calls,
	       r->before != NULL && r->before->calls.at != NULL ? r->before->calls.at : " ");
	for (int64_t i = 0; i < k->tool_count; i++)
		text_f(&s->calls, "call_%lld_%lld ", (long long)k->turns, (long long)i + 1);
}

/* What of the request is said again in the response. */
static void echo_keep(struct call *k, yyjson_val *root)
{
	static const struct {
		const char *field, *otherwise;
	} echoed[] = {{"instructions", "null"},
		      {"max_output_tokens", "null"},
		      {"parallel_tool_calls", "true"},
		      {"previous_response_id", "null"},
		      {"reasoning", "{\"effort\":null,\"summary\":null}"},
		      {"store", "true"},
		      {"temperature", "1.0"},
		      {"text", "{\"format\":{\"type\":\"text\"}}"},
		      {"tool_choice", "\"auto\""},
		      {"tools", "[]"},
		      {"top_p", "1.0"},
		      {"truncation", "\"disabled\""},
		      {"metadata", "{}"}};

	for (size_t i = 0; i < sizeof(echoed) / sizeof(*echoed); i++) {
		char *json = yyjson_val_write(yyjson_obj_get(root, echoed[i].field), 0, NULL);

		text_f(&k->kept, ",\"%s\":%s", echoed[i].field,
		       json != NULL ? json : echoed[i].otherwise);
		free(json);
	}
}

/* GET, DELETE and cancel of /responses/ID. */
static void stored_serve(struct conn *c)
{
	struct call *k = &c->call;
	struct span path = c->head.start[1];
	const char *at = memmem(path.at, path.len, "/responses/", 11);
	struct stored *s;
	char id[96];

	span_copy((struct span){at + 11, path.len - (size_t)(at + 11 - path.at)}, id, sizeof(id));
	id[strcspn(id, "/?")] = 0;
	s = stored_find(id, k->key);
	if (s == NULL || s->body.len == 0) {
		refuse(k, 404, "invalid_request_error", NULL, NULL,
		       "Response with id '%s' not found.", id);
	} else if (k->verb == RESPONSES_DELETE) {
		stored_drop(s);
		text_f(&k->kept, "{\"id\":\"%s\",\"object\":\"response.deleted\",\"deleted\":true}",
		       id);
	} else {
		text_add(&k->kept, s->body.at, s->body.len);
	}
}

static void responses_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *model = str_of(root, "model");
	yyjson_val *max = yyjson_obj_get(root, "max_output_tokens");
	struct ask a = {.allowed = yyjson_is_int(max) ? yyjson_get_sint(max) : INT64_MAX};
	struct reading r = {.k = k, .a = &a};

	snprintf(k->id, sizeof(k->id), "resp_fake%llu", (unsigned long long)k->number);
	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	k->one_by_one = true;
	if (k->verb != RESPONSES_CREATE && k->verb != RESPONSES_COUNT) {
		stored_serve(c);
		return;
	}
	if (str_of(root, "instructions") != NULL)
		k->prompt_tokens += 4 + content_words(yyjson_obj_get(root, "instructions"), NULL);
	if (!fields_are_good(k, root) || !before_find(&r, root) || !tools_read(k, &a, root) ||
	    !format_read(k, &a, root) || !input_read(&r, root)) {
		ask_clear(&a);
		return;
	}
	reasoning_wanted(k, root);
	k->stream = yyjson_is_true(yyjson_obj_get(root, "stream")) && k->verb == RESPONSES_CREATE;
	call_decide(k, &a);
	if (k->verb == RESPONSES_COUNT) {
		text_f(&k->kept, "{\"object\":\"response.input_tokens\",\"input_tokens\":%lld}",
		       (long long)k->prompt_tokens);
		return;
	}
	echo_keep(k, root);
	if (k->plan.blocked && k->plan.status == 200)
		bad(k, "invalid_prompt", NULL,
		    "Invalid prompt: it was refused by the content policy.");
	else if (k->plan.status == 200 && !yyjson_is_false(yyjson_obj_get(root, "store")))
		remember(k, &r);
	k->later = yyjson_is_true(yyjson_obj_get(root, "background")) && !k->stream;
}

const struct speaker speak_responses = {
	.read = responses_read,
	.plain = plain_body,
	.error = error_body,
	.open = stream_open,
	.piece = stream_piece,
	.close = stream_close,
	.fail = stream_fail,
};
