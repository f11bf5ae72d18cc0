/* routing/dialects/anthropic_question.c - a chat that was asked in another dialect, in the words of the Messages API.
 *
 * Refused by name before any money is held: what the API has no words for (several choices, sound, token biases, files of
 * others, JSON where neither schema nor tool can hold the model to it). Left out and named: what changes an answer's
 * taste and not what it answers. Never invents a turn: a conversation that begins with the assistant is refused.
 * Numbers go on as the literals they came in. */
#include <assert.h>
#include <ctype.h>
#include "routing/dialects/anthropic_priv.h"
#include "routing/dialects/openai_priv.h"
#include "routing/provider.h"
#include "server/base/hash.h"

#define MAX_TOKENS_DEFAULT                                                                         \
	4096 /* where neither the caller nor the catalogue says: what every model can */
#define BUDGET_MIN	1024 /* the API's own */
#define CACHE_MARKS_MAX 4    /* the API's own */
#define NANO		INT64_C(1000000000)

enum thinking { THINK_UNSAID, THINK_OFF, THINK_ADAPTIVE, THINK_BUDGET };

struct asking {
	const struct call *c;
	const struct chat *chat;
	const struct dialect_target *t;
	struct arena *mem;
	struct outgoing *out;
	struct err *err;
	struct json_out o;
	struct anthropic_model model;
	const bool *allowed; /* of the tools; NULL: all */
	int64_t max_tokens;
	enum thinking thinking;
	int64_t budget;
	bool by_tool;	     /* JSON by a forced tool */
	bool count_only;     /* count_tokens: what does not count is not sent */
	size_t marks_before; /* cache marks that go, because only the last four may stay */
	bool mark_short;     /* a mark of five minutes was written: longer ones may not follow */
};

/* ---- what a field is called where it was said -------------------------------------------------------------- */

struct word {
	const char *chat, *responses, *gemini;
};
static const struct word
	w_turns = {"messages", "input", "contents"},
	w_n = {"n", "n", "generationConfig.candidateCount"},
	w_stop = {"stop", "stop", "generationConfig.stopSequences"},
	w_format = {"response_format", "text.format", "generationConfig.responseMimeType"},
	w_effort = {"reasoning_effort", "reasoning", "generationConfig.thinkingConfig"},
	w_temperature = {"temperature", "temperature", "generationConfig.temperature"},
	w_top_p = {"top_p", "top_p", "generationConfig.topP"},
	w_top_k = {"top_k", "top_k", "generationConfig.topK"},
	w_seed = {"seed", "seed", "generationConfig.seed"},
	w_presence = {"presence_penalty", "presence_penalty", "generationConfig.presencePenalty"},
	w_frequency = {"frequency_penalty", "frequency_penalty",
		       "generationConfig.frequencyPenalty"},
	w_logprobs = {"logprobs", "top_logprobs", "generationConfig.responseLogprobs"},
	w_bias = {"logit_bias", "logit_bias", "logit_bias"}, w_tools = {"tools", "tools", "tools"},
	w_choice = {"tool_choice", "tool_choice", "toolConfig"},
	w_strict = {"tools.function.strict", "tools.strict", "tools.strict"},
	w_schema_name = {"response_format.json_schema.name", "text.format.name", "name"},
	w_schema_words = {"response_format.json_schema.description", "text.format.description",
			  "description"},
	w_tier = {"service_tier", "service_tier", "serviceTier"},
	w_verbosity = {"verbosity", "text.verbosity", "verbosity"},
	w_cache_key = {"prompt_cache_key", "prompt_cache_key", "prompt_cache_key"},
	w_metadata = {"metadata", "metadata", "labels"},
	w_detail = {"image_url.detail", "input_image.detail", "mediaResolution"},
	w_marks = {"prompt_cache_breakpoint", "prompt_cache_breakpoint", "prompt_cache_breakpoint"},
	w_reasoning = {"messages.reasoning_content", "input.reasoning", "contents.parts.thought"};

static const char *word(const struct asking *x, const struct word *w)
{
	if (str_starts(str_from(x->c->dialect->name), STR("gemini")))
		return w->gemini;
	return strcmp(x->c->dialect->name, "openai_responses") == 0 ? w->responses : w->chat;
}

static void lose(struct asking *x, const struct word *w)
{
	chat_lose(&x->out->losses, str_from(word(x, w)));
}

static enum rc cannot(struct asking *x, const struct word *w)
{
	return chat_cannot(x->err, x->t->provider->label, word(x, w));
}

/* ---- what is refused, what is left out ---------------------------------------------------------------------- */

static enum rc check_question(struct asking *x)
{
	const struct chat *chat = x->chat;

	TRY(chat_check_needs(chat, x->t, x->err));
	if (x->c->choices > 1)
		return cannot(x, &w_n);
	if (chat->logprobs || chat->top_logprobs)
		return cannot(x, &w_logprobs);
	if (json_len(chat->logit_bias) > 0)
		return cannot(x, &w_bias);
	for (size_t i = 0; i < chat->tools_count; i++)
		if (chat->tools[i].kind != CHAT_TOOL_FUNCTION)
			return cannot(x, &w_tools);
	for (size_t i = 0; i < chat->stop_count; i++) {
		size_t blank = 0;

		while (blank < chat->stop[i].len &&
		       isspace((unsigned char)chat->stop[i].ptr[blank]))
			blank++;
		if (blank == chat->stop[i].len)
			return cannot(x, &w_stop);
	}
	return RC_OK;
}

static void name_losses(struct asking *x)
{
	const struct chat *chat = x->chat;

	for (size_t i = 0; i < chat->hints_count; i++)
		chat_lose(&x->out->losses, chat->hints[i]);
	if (x->count_only)
		return;		   /* nothing is answered: what shapes an answer loses nothing */
	if (chat->schema_name.len) /* of no matter but to who asked */
		lose(x, &w_schema_name);
	if (chat->schema_description.len && x->model.structured)
		lose(x, &w_schema_words);
	if (chat->seed)
		lose(x, &w_seed);
	if (chat->presence_penalty)
		lose(x, &w_presence);
	if (chat->frequency_penalty)
		lose(x, &w_frequency);
	if (chat->verbosity.ptr)
		lose(x, &w_verbosity);
	if (chat->cache_key.ptr)
		lose(x, &w_cache_key);
	if (json_len(chat->metadata) > 0)
		lose(x, &w_metadata);
}

/* ---- how much, and with how much thought ----------------------------------------------------------------------- */

static int64_t max_tokens_of(const struct asking *x)
{
	const int64_t known = x->t->max_output_known;
	int64_t n = x->c->max_output;

	if (n == 0)
		n = x->t->max_output_cap ? x->t->max_output_cap
		    : known		 ? known
					 : MAX_TOKENS_DEFAULT;
	return known > 0 && n > known ? known : n; /* more is refused, and could not come anyway */
}

static bool wants_thought(const struct chat *chat)
{
	return chat->reasoning_tokens > 0 ||
	       (chat->reasoning_tokens < 0 && chat->effort != CHAT_EFFORT_UNSAID &&
		chat->effort != CHAT_EFFORT_none);
}

static bool wants_no_thought(const struct chat *chat)
{
	return chat->reasoning_tokens == 0 || chat->effort == CHAT_EFFORT_none;
}

/* The tokens that an effort amounts to where the API wants tokens (translation.md 5). */
static int64_t budget_of(const struct chat *chat)
{
	static const int64_t budgets[] = {[CHAT_EFFORT_minimal] = 1024, [CHAT_EFFORT_low] = 4096,
					  [CHAT_EFFORT_medium] = 8192,	[CHAT_EFFORT_high] = 24576,
					  [CHAT_EFFORT_xhigh] = 32000,	[CHAT_EFFORT_max] = 32000};
	const int64_t n =
		chat->reasoning_tokens > 0 ? chat->reasoning_tokens : budgets[chat->effort];

	return n < BUDGET_MIN ? BUDGET_MIN : n;
}

static enum chat_effort effort_of(const struct chat *chat)
{
	if (chat->effort != CHAT_EFFORT_UNSAID)
		return chat->effort == CHAT_EFFORT_minimal ? CHAT_EFFORT_low : chat->effort;
	if (chat->reasoning_tokens <= 4096)
		return CHAT_EFFORT_low;
	if (chat->reasoning_tokens <= 8192)
		return CHAT_EFFORT_medium;
	return chat->reasoning_tokens <= 24576 ? CHAT_EFFORT_high : CHAT_EFFORT_xhigh;
}

static bool has_seal(const struct asking *x, const struct chat_turn *turn)
{
	for (size_t i = 0; i < turn->parts_count; i++)
		if (turn->parts[i].type == CHAT_REASONING && turn->parts[i].opaque.value.len &&
		    chat_opaque_fits(&turn->parts[i].opaque, x->t))
			return true;
	return false;
}

static bool has_part(const struct chat_turn *turn, enum chat_part_type type)
{
	for (size_t i = 0; i < turn->parts_count; i++)
		if (turn->parts[i].type == type)
			return true;
	return false;
}

/* The turn whose calls are answered now has to begin with its own thinking, which another provider's cannot be. */
static bool state_is_missing(const struct asking *x)
{
	const struct chat *chat = x->chat;
	size_t i = chat->turns_count;

	if (i == 0 || !has_part(&chat->turns[i - 1], CHAT_TOOL_RESULT))
		return false;
	while (i-- > 0)
		if (chat->turns[i].role == CHAT_ASSISTANT)
			return has_part(&chat->turns[i], CHAT_TOOL_CALL) &&
			       !has_seal(x, &chat->turns[i]);
	return false;
}

static bool is_forced(const struct chat *chat)
{
	return chat->choice == CHAT_CHOICE_REQUIRED || chat->choice == CHAT_CHOICE_NAMED ||
	       chat->choice == CHAT_CHOICE_ALLOWED_REQUIRED;
}

static bool ends_with_assistant(const struct chat *chat)
{
	return chat->turns_count > 0 && chat->turns[chat->turns_count - 1].role == CHAT_ASSISTANT;
}

static void decide_thinking(struct asking *x)
{
	const struct chat *chat = x->chat;
	const int64_t room = x->max_tokens - x->max_tokens / 4; /* a quarter stays for the answer */

	if (!x->model.thinks) {
		if (wants_thought(chat))
			lose(x, &w_effort);
		return;
	}
	if (wants_no_thought(chat))
		x->thinking = THINK_OFF;
	if (!wants_thought(chat) || wants_no_thought(chat))
		return;
	x->budget = budget_of(chat);
	if (x->budget > room)
		x->budget = room;
	if ((chat->tools_count > 0 && is_forced(chat)) || ends_with_assistant(chat) ||
	    (!x->model.adaptive && (x->budget < BUDGET_MIN || state_is_missing(x)))) {
		x->thinking = THINK_OFF;
		lose(x, &w_effort);
		return;
	}
	x->thinking = x->model.adaptive ? THINK_ADAPTIVE : THINK_BUDGET;
}

static enum rc decide_format(struct asking *x)
{
	const struct chat *chat = x->chat;
	struct str type;

	if (chat->format == CHAT_FORMAT_TEXT ||
	    (chat->format == CHAT_FORMAT_SCHEMA && x->model.structured))
		return RC_OK;
	if (x->count_only)
		return RC_OK; /* the few words of the tool are no reason to refuse a count */
	/* the forced tool is the answer: there is no place for others, nor for thinking, beside it */
	if (chat->tools_count > 0 || wants_thought(chat) || ends_with_assistant(chat))
		return cannot(x, &w_format);
	if (chat->format == CHAT_FORMAT_SCHEMA &&
	    (!json_string(json_get(chat->schema, "type"), &type) || !str_is(type, "object")))
		return cannot(x, &w_format);
	x->by_tool = true;
	return RC_OK;
}

static void put_thinking(struct asking *x)
{
	static const char *const types[] = {[THINK_OFF] = "disabled",
					    [THINK_ADAPTIVE] = "adaptive",
					    [THINK_BUDGET] = "enabled"};
	const bool on = x->thinking == THINK_ADAPTIVE || x->thinking == THINK_BUDGET;

	if (x->thinking == THINK_UNSAID)
		return;
	json_obj(&x->o, "thinking");
	json_put_z(&x->o, "type", types[x->thinking]);
	if (x->thinking == THINK_BUDGET)
		json_put_int(&x->o, "budget_tokens", x->budget);
	if (on && x->chat->reasoning_shown >= 0)
		json_put_z(&x->o, "display", x->chat->reasoning_shown ? "summarized" : "omitted");
	json_obj_end(&x->o);
}

static void put_output_config(struct asking *x)
{
	const bool schema = x->chat->format == CHAT_FORMAT_SCHEMA && x->model.structured;
	const bool effort = x->thinking == THINK_ADAPTIVE;

	if (!schema && !effort)
		return;
	json_obj(&x->o, "output_config");
	if (effort)
		json_put_z(&x->o, "effort", chat_effort_name(effort_of(x->chat)));
	if (schema) {
		json_obj(&x->o, "format");
		json_put_z(&x->o, "type", "json_schema");
		anthropic_put_schema(&x->o, "schema", x->chat->schema);
		json_obj_end(&x->o);
	}
	json_obj_end(&x->o);
}

/* ---- sampling ------------------------------------------------------------------------------------------------ */

/* Its value in billionths, to compare: what is sent is the literal. */
static int64_t nano_of(const struct json *number)
{
	AUTO(buf) struct buf text = BUF_INIT(512);
	int64_t n = 0;

	if (json_write(number, &text) != RC_OK || openai_decimal(buf_str(&text), 9, &n) != RC_OK)
		return 0;
	return n;
}

static void put_sampling(struct asking *x)
{
	const struct chat *chat = x->chat;
	const bool on = x->thinking == THINK_ADAPTIVE || x->thinking == THINK_BUDGET;
	const bool takes = x->model.sampling && !on; /* with thinking only the defaults are taken */
	const int64_t temperature = chat->temperature ? nano_of(chat->temperature) : NANO;

	if (chat->temperature && !takes && temperature != NANO)
		lose(x, &w_temperature);
	if (chat->temperature && takes) {
		if (temperature < 0 || temperature > NANO)
			json_put_int(&x->o, "temperature", temperature > 0);
		else
			json_put_value(&x->o, "temperature", chat->temperature);
	}
	if (chat->top_p && takes && !(chat->temperature && x->model.one_of_two))
		json_put_value(&x->o, "top_p", chat->top_p);
	else if (chat->top_p && nano_of(chat->top_p) != NANO)
		lose(x, &w_top_p);
	if (chat->top_k && takes)
		json_put_value(&x->o, "top_k", chat->top_k);
	else if (chat->top_k)
		lose(x, &w_top_k);
}

static void put_labels(struct asking *x)
{
	const struct str tier = x->chat->service_tier;
	uint8_t hash[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	if (x->chat->end_user.len) { /* an opaque id: theirs may be a name or an address */
		sha256(x->chat->end_user, hash);
		hex_encode(str_of(hash, sizeof hash), hex);
		json_obj(&x->o, "metadata");
		json_put_z(&x->o, "user_id", hex);
		json_obj_end(&x->o);
	}
	if (str_is(tier, "auto"))
		json_put_z(&x->o, "service_tier", "auto");
	else if (str_is(tier, "default") || str_is(tier, "standard"))
		json_put_z(&x->o, "service_tier", "standard_only");
	else if (tier.len)
		lose(x, &w_tier);
}

/* ---- tools -------------------------------------------------------------------------------------------------------- */

static void put_mark(struct asking *x, enum chat_cache cache)
{
	if (cache == CHAT_CACHE_NONE)
		return;
	if (x->marks_before > 0) {
		x->marks_before--;
		lose(x, &w_marks);
		return;
	}
	if (cache == CHAT_CACHE_1H && x->mark_short)
		lose(x, &w_marks); /* it is one of five minutes now */
	x->mark_short |= cache == CHAT_CACHE_5M;
	json_obj(&x->o, "cache_control");
	json_put_z(&x->o, "type", "ephemeral");
	if (!x->mark_short)
		json_put_z(&x->o, "ttl", "1h");
	json_obj_end(&x->o);
}

static enum rc put_parameters(struct asking *x, const struct json *schema, bool closed)
{
	const struct json *type = json_get(schema, "type");
	struct json_iter it = json_iter(schema);
	struct str s, key;
	struct json *v;

	if (type && (!json_string(type, &s) || !str_is(s, "object")))
		return cannot(x, &w_tools);
	if (closed && type) {
		anthropic_put_schema(&x->o, "input_schema", schema);
		return RC_OK;
	}
	json_obj(&x->o, "input_schema");
	if (!type)
		json_put_z(&x->o, "type", "object");
	while (json_next(&it, &key, &v))
		json_put_value_s(&x->o, key, v);
	json_obj_end(&x->o);
	return RC_OK;
}

static enum rc put_tool(struct asking *x, const struct chat_tool *tool)
{
	const bool strict = tool->strict == 1 && x->model.structured;
	struct str name;

	if (!anthropic_name_out(x->mem, tool->name, &name))
		return cannot(x, &w_tools);
	json_obj(&x->o, NULL);
	json_put_str(&x->o, "name", name);
	if (tool->description.ptr)
		json_put_str(&x->o, "description", tool->description);
	TRY(put_parameters(x, tool->parameters, strict));
	if (strict)
		json_put_bool(&x->o, "strict", true);
	else if (tool->strict == 1)
		lose(x, &w_strict);
	put_mark(x, tool->cache);
	json_obj_end(&x->o);
	return RC_OK;
}

static void put_choice(struct asking *x)
{
	static const char *const types[] = {
		[CHAT_CHOICE_UNSAID] = "auto",	       [CHAT_CHOICE_AUTO] = "auto",
		[CHAT_CHOICE_NONE] = "none",	       [CHAT_CHOICE_REQUIRED] = "any",
		[CHAT_CHOICE_NAMED] = "tool",	       [CHAT_CHOICE_ALLOWED_AUTO] = "auto",
		[CHAT_CHOICE_ALLOWED_REQUIRED] = "any"};
	const struct chat *chat = x->chat;
	struct str name = STR("");

	if (chat->choice == CHAT_CHOICE_UNSAID && chat->parallel_tools != 0)
		return;
	json_obj(&x->o, "tool_choice");
	json_put_z(&x->o, "type", types[chat->choice]);
	if (chat->choice == CHAT_CHOICE_NAMED && chat->choice_names_count > 0 &&
	    anthropic_name_out(x->mem, chat->choice_names[0], &name))
		json_put_str(&x->o, "name", name);
	if (chat->parallel_tools == 0 && chat->choice != CHAT_CHOICE_NONE)
		json_put_bool(&x->o, "disable_parallel_tool_use", true);
	json_obj_end(&x->o);
}

static enum rc put_json_tool(struct asking *x)
{
	const struct chat *chat = x->chat;

	json_arr(&x->o, "tools");
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "name", ANTHROPIC_JSON_TOOL);
	json_put_str(&x->o, "description",
		     chat->schema_description.len
			     ? chat->schema_description
			     : STR("Give the whole answer as the input of this tool."));
	if (chat->format == CHAT_FORMAT_SCHEMA)
		json_put_value(&x->o, "input_schema", chat->schema);
	else
		json_put_raw(&x->o, "input_schema", STR("{\"type\":\"object\"}"));
	json_obj_end(&x->o);
	json_arr_end(&x->o);
	json_put_raw(&x->o, "tool_choice",
		     STR("{\"type\":\"tool\",\"name\":\"" ANTHROPIC_JSON_TOOL
			 "\",\"disable_parallel_tool_use\":true}"));
	return RC_OK;
}

static enum rc put_tools(struct asking *x)
{
	const struct chat *chat = x->chat;
	size_t n = 0;

	if (x->by_tool)
		return put_json_tool(x);
	if (chat->tools_count == 0)
		return RC_OK; /* a choice without tools is refused, and chooses nothing */
	json_arr(&x->o, "tools");
	for (size_t i = 0; i < chat->tools_count; i++) {
		if (x->allowed && !x->allowed[i])
			continue;
		TRY(put_tool(x, &chat->tools[i]));
		n++;
	}
	json_arr_end(&x->o);
	if (n == 0)
		return cannot(x, &w_choice);
	put_choice(x);
	return RC_OK;
}

/* ---- content --------------------------------------------------------------------------------------------------------- */

static bool is_blank(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!isspace((unsigned char)s.ptr[i]))
			return false;
	return true;
}

static bool part_sends(const struct asking *x, const struct chat_part *p)
{
	if (p->type == CHAT_TEXT || p->type == CHAT_REFUSAL)
		return !is_blank(p->text);
	if (p->type == CHAT_REASONING)
		return x->thinking != THINK_OFF && p->opaque.value.len &&
		       chat_opaque_fits(&p->opaque, x->t);
	return true;
}

static void put_text(struct asking *x, struct str text, enum chat_cache cache)
{
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "type", "text");
	json_put_str(&x->o, "text", text);
	put_mark(x, cache);
	json_obj_end(&x->o);
}

static void put_source(struct asking *x, const char *type, struct str mime, const char *key,
		       struct str value)
{
	json_obj(&x->o, "source");
	json_put_z(&x->o, "type", type);
	if (mime.len)
		json_put_str(&x->o, "media_type", mime);
	json_put_str(&x->o, key, value);
	json_obj_end(&x->o);
}

/* The image types that are taken; an inline image that does not say is told by its first bytes. */
static struct str image_mime(const struct chat_media *m)
{
	static const struct {
		const char *mime, *lead;
	} kinds[] = {{"image/jpeg", "/9j/"},
		     {"image/png", "iVBORw0KGgo"},
		     {"image/gif", "R0lGOD"},
		     {"image/webp", "UklGR"}};

	if (str_eq_nocase(m->mime, STR("image/jpg")))
		return STR("image/jpeg");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (m->mime.len ? str_eq_nocase(m->mime, str_from(kinds[i].mime))
				: str_starts(m->data, str_from(kinds[i].lead)))
			return str_from(kinds[i].mime);
	return STR_NULL;
}

static bool is_web(struct str url)
{
	return str_eq_nocase(str_slice(url, 0, 8), STR("https://")) ||
	       str_eq_nocase(str_slice(url, 0, 7), STR("http://"));
}

static enum rc put_image(struct asking *x, const struct chat_part *p)
{
	struct chat_media m = p->media;
	struct str mime;

	if (m.url.ptr && chat_data_url(m.url, &m))
		m.url = STR_NULL;
	mime = m.data.ptr ? image_mime(&m) : STR_NULL;
	if (m.data.ptr ? !mime.ptr : !is_web(m.url))
		return cannot(x, &w_turns);
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "type", "image");
	if (m.data.ptr)
		put_source(x, "base64", mime, "data", m.data);
	else
		put_source(x, "url", STR_NULL, "url", m.url);
	if (m.detail.len && !str_is(m.detail, "auto"))
		lose(x, &w_detail);
	put_mark(x, p->cache);
	json_obj_end(&x->o);
	return RC_OK;
}

/* A text file that came as base64 is sent as what it is: the API takes only PDF in base64. */
static bool text_of_data(struct asking *x, struct chat_media *m)
{
	size_t len;
	void *text;

	if (!m->data.ptr || !str_eq_nocase(str_slice(m->mime, 0, 5), STR("text/")))
		return false;
	if (arena_try_alloc(x->mem, m->data.len + 1, &text) != RC_OK ||
	    base64_decode(m->data, text, m->data.len + 1, &len) != RC_OK)
		return false;
	m->text = str_of(text, len);
	return str_is_utf8(m->text) && len > 0;
}

static bool is_pdf(const struct chat_media *m)
{
	return str_eq_nocase(m->mime, STR("application/pdf")) ||
	       (m->mime.len == 0 && str_starts(m->data, STR("JVBERi0")));
}

static enum rc put_document(struct asking *x, const struct chat_part *p)
{
	struct chat_media m = p->media;
	const bool is_text = m.text.ptr ? !is_blank(m.text) : text_of_data(x, &m);

	if (!is_text && m.data.ptr && !is_pdf(&m))
		return cannot(x, &w_turns);
	if (!is_text && !m.data.ptr && !is_web(m.url))
		return cannot(x, &w_turns);
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "type", "document");
	if (is_text)
		put_source(x, "text", STR("text/plain"), "data", m.text);
	else if (m.data.ptr)
		put_source(x, "base64", STR("application/pdf"), "data", m.data);
	else
		put_source(x, "url", STR_NULL, "url", m.url);
	if (m.name.len)
		json_put_str(&x->o, "title", m.name);
	put_mark(x, p->cache);
	json_obj_end(&x->o);
	return RC_OK;
}

static bool id_fits(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!isalnum((unsigned char)id.ptr[i]) && id.ptr[i] != '_' && id.ptr[i] != '-')
			return false;
	return id.len > 0;
}

static struct str call_id(struct asking *x, struct str id)
{
	return chat_call_id(x->mem, id, "toolu_", 24, id_fits);
}

static enum rc put_call(struct asking *x, const struct chat_part *p)
{
	struct str name;

	if (!anthropic_name_out(x->mem, p->name, &name))
		return cannot(x, &w_turns);
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "type", "tool_use");
	json_put_str(&x->o, "id", call_id(x, p->id));
	json_put_str(&x->o, "name", name);
	json_put_raw(&x->o, "input", p->arguments.len ? p->arguments : STR("{}"));
	put_mark(x, p->cache);
	json_obj_end(&x->o);
	return RC_OK;
}

static enum rc put_part(struct asking *x, const struct chat_part *p);

static enum rc put_result(struct asking *x, const struct chat_part *p)
{
	size_t sends = 0;

	for (size_t i = 0; i < p->parts_count; i++)
		sends += part_sends(x, &p->parts[i]);
	json_obj(&x->o, NULL);
	json_put_z(&x->o, "type", "tool_result");
	json_put_str(&x->o, "tool_use_id", call_id(x, p->id));
	if (sends == 1 && p->parts_count == 1 && p->parts[0].type == CHAT_TEXT) {
		json_put_str(&x->o, "content", p->parts[0].text);
	} else if (sends > 0) {
		json_arr(&x->o, "content");
		for (size_t i = 0; i < p->parts_count; i++)
			if (part_sends(x, &p->parts[i]))
				TRY(put_part(x, &p->parts[i]));
		json_arr_end(&x->o);
	}
	if (p->is_error)
		json_put_bool(&x->o, "is_error", true);
	put_mark(x, p->cache);
	json_obj_end(&x->o);
	return RC_OK;
}

/* Only what this very model made comes here (part_sends). */
static void put_reasoning(struct asking *x, const struct chat_part *p)
{
	const struct str value = p->opaque.value;

	json_obj(&x->o, NULL);
	if (str_starts(value, STR(ANTHROPIC_REDACTED))) {
		json_put_z(&x->o, "type", "redacted_thinking");
		json_put_str(&x->o, "data",
			     str_slice(value, sizeof ANTHROPIC_REDACTED - 1, value.len));
	} else {
		json_put_z(&x->o, "type", "thinking");
		json_put_str(&x->o, "thinking", p->text.ptr ? p->text : STR(""));
		json_put_str(&x->o, "signature", value);
	}
	json_obj_end(&x->o);
}

static enum rc put_part(struct asking *x, const struct chat_part *p)
{
	switch (p->type) {
	case CHAT_TEXT:
	case CHAT_REFUSAL:
		put_text(x, p->text, p->cache);
		return RC_OK;
	case CHAT_IMAGE:
		return put_image(x, p);
	case CHAT_DOCUMENT:
		return put_document(x, p);
	case CHAT_TOOL_CALL:
		return put_call(x, p);
	case CHAT_TOOL_RESULT:
		return put_result(x, p);
	case CHAT_REASONING:
		put_reasoning(x, p);
		return RC_OK;
	case CHAT_AUDIO:
	case CHAT_VIDEO:
		break;
	}
	return cannot(x, &w_turns);
}

/* ---- turns -------------------------------------------------------------------------------------------------------------- */

static bool is_system(const struct chat_turn *turn)
{
	return turn->role == CHAT_SYSTEM || turn->role == CHAT_DEVELOPER;
}

static bool turn_sends(const struct asking *x, const struct chat_turn *turn)
{
	for (size_t i = 0; i < turn->parts_count; i++)
		if (part_sends(x, &turn->parts[i]))
			return true;
	return false;
}

/* What was said over the conversation's head in its midst: a user's text, told apart by a tag. */
static enum rc put_aside(struct asking *x, const struct chat_part *p)
{
	struct chat_text text = {0};

	TRY(chat_text_add(x->mem, &text, STR("<system>\n")));
	TRY(chat_text_add(x->mem, &text, p->text));
	TRY(chat_text_add(x->mem, &text, STR("\n</system>")));
	put_text(x, chat_text_str(&text), p->cache);
	return RC_OK;
}

/* The parts of turns [from, to) of one side: `results` first, then all else. */
static enum rc put_run(struct asking *x, size_t from, size_t to, bool results)
{
	for (size_t t = from; t < to; t++) {
		const struct chat_turn *turn = &x->chat->turns[t];

		for (size_t i = 0; i < turn->parts_count; i++) {
			const struct chat_part *p = &turn->parts[i];

			if ((p->type == CHAT_TOOL_RESULT) != results)
				continue;
			if (p->type == CHAT_REASONING && !part_sends(x, p) && p->text.len)
				lose(x, &w_reasoning);
			if (!part_sends(x, p))
				continue;
			if (is_system(turn) && p->type == CHAT_TEXT)
				TRY(put_aside(x, p));
			else
				TRY(put_part(x, p));
		}
	}
	return RC_OK;
}

/* Turns of one side in a row are one message; those with nothing to say are none. Returns the first behind them. */
static size_t run_end(const struct asking *x, size_t from)
{
	const struct chat_turn *turns = x->chat->turns;
	const bool assistant = turns[from].role == CHAT_ASSISTANT;
	size_t to = from + 1;

	while (to < x->chat->turns_count &&
	       (!turn_sends(x, &turns[to]) || (turns[to].role == CHAT_ASSISTANT) == assistant))
		to++;
	return to;
}

/* A last turn of the assistant's is one to be gone on with: not every model does, and none behind white space. */
static enum rc check_last(struct asking *x, size_t from, size_t to)
{
	const struct chat_part *last = NULL;

	for (size_t t = from; t < to; t++)
		for (size_t i = 0; i < x->chat->turns[t].parts_count; i++)
			if (part_sends(x, &x->chat->turns[t].parts[i]))
				last = &x->chat->turns[t].parts[i];
	assert(last);
	if (last->type == CHAT_TOOL_CALL) {
		(void)err_set(x->err, RC_INVALID, "invalid_request_error",
			      "The conversation ends with a tool call that has no result.");
		err_field(x->err, "%s", word(x, &w_turns));
		return RC_INVALID;
	}
	if (!x->model.prefill || last->type != CHAT_TEXT || last->text.len == 0 ||
	    isspace((unsigned char)last->text.ptr[last->text.len - 1]))
		return cannot(x, &w_turns);
	return RC_OK;
}

static enum rc put_messages(struct asking *x, size_t from)
{
	const struct chat *chat = x->chat;
	bool any = false;

	json_arr(&x->o, "messages");
	for (size_t i = from, to; i < chat->turns_count; i = to) {
		const bool assistant = chat->turns[i].role == CHAT_ASSISTANT;

		to = i + 1;
		if (!turn_sends(x, &chat->turns[i]))
			continue;
		if (assistant && !any)
			return cannot(x, &w_turns); /* it would need a turn that nobody wrote */
		any = true;
		to = run_end(x, i);
		json_obj(&x->o, NULL);
		json_put_z(&x->o, "role", assistant ? "assistant" : "user");
		json_arr(&x->o, "content");
		TRY(put_run(x, i, to, true));
		TRY(put_run(x, i, to, false));
		json_arr_end(&x->o);
		json_obj_end(&x->o);
		if (assistant && to == chat->turns_count)
			TRY(check_last(x, i, to));
	}
	json_arr_end(&x->o);
	return any ? RC_OK : cannot(x, &w_turns);
}

static enum rc put_system(struct asking *x, size_t *ret_behind)
{
	const struct chat *chat = x->chat;
	bool any = false;

	for (*ret_behind = 0; *ret_behind < chat->turns_count; (*ret_behind)++) {
		const struct chat_turn *turn = &chat->turns[*ret_behind];

		if (!is_system(turn))
			break;
		for (size_t i = 0; i < turn->parts_count; i++) {
			if (turn->parts[i].type != CHAT_TEXT)
				return cannot(x, &w_turns);
			if (!part_sends(x, &turn->parts[i]))
				continue;
			if (!any)
				json_arr(&x->o, "system");
			any = true;
			put_text(x, turn->parts[i].text, turn->parts[i].cache);
		}
	}
	if (any)
		json_arr_end(&x->o);
	return RC_OK;
}

static size_t marks_in(const struct asking *x)
{
	const struct chat *chat = x->chat;
	size_t n = 0;

	for (size_t i = 0; i < chat->tools_count; i++)
		n += chat->tools[i].cache != CHAT_CACHE_NONE && (!x->allowed || x->allowed[i]);
	for (size_t t = 0; t < chat->turns_count; t++) {
		for (size_t i = 0; i < chat->turns[t].parts_count; i++) {
			const struct chat_part *p = &chat->turns[t].parts[i];

			n += p->cache != CHAT_CACHE_NONE && part_sends(x, p) &&
			     p->type != CHAT_REASONING;
			for (size_t k = 0; k < p->parts_count; k++)
				n += p->parts[k].cache != CHAT_CACHE_NONE &&
				     part_sends(x, &p->parts[k]);
		}
	}
	return n;
}

/* ---- all of it --------------------------------------------------------------------------------------------------------------- */

static void put_stop(struct asking *x)
{
	if (x->chat->stop_count == 0)
		return;
	json_arr(&x->o, "stop_sequences");
	for (size_t i = 0; i < x->chat->stop_count; i++)
		json_put_str(&x->o, NULL, x->chat->stop[i]);
	json_arr_end(&x->o);
}

static enum rc put_all(struct asking *x)
{
	size_t behind;

	json_obj(&x->o, NULL);
	json_put_str(&x->o, "model", x->t->model);
	if (!x->count_only) {
		json_put_int(&x->o, "max_tokens", x->max_tokens);
		if (x->c->stream)
			json_put_bool(&x->o, "stream", true);
	}
	TRY(put_tools(x));
	TRY(put_system(x, &behind));
	TRY(put_messages(x, behind));
	put_thinking(x);
	put_output_config(x);
	if (!x->count_only) {
		put_sampling(x);
		put_stop(x);
		put_labels(x);
	}
	json_obj_end(&x->o);
	return json_out_end(&x->o);
}

enum rc anthropic_encode_ask(const struct call *c, const struct ask *ask,
			     const struct dialect_target *t, struct arena *mem,
			     struct outgoing *out, struct err *err)
{
	const struct dialect_target maker = anthropic_maker(t);
	struct asking x = {.c = c,
			   .chat = &ask->chat,
			   .t = &maker,
			   .mem = mem,
			   .out = out,
			   .err = err,
			   .model = anthropic_model_of(t->model),
			   .count_only = c->operation == OPERATION_count_tokens};
	size_t marks;

	TRY(check_question(&x));
	name_losses(&x);
	x.max_tokens = max_tokens_of(&x);
	decide_thinking(&x);
	TRY(decide_format(&x));
	TRY(chat_allowed(x.chat, mem, &x.allowed));
	marks = marks_in(&x);
	x.marks_before = marks > CACHE_MARKS_MAX ? marks - CACHE_MARKS_MAX : 0;
	json_out_begin(&x.o, out->body);
	return put_all(&x);
}
