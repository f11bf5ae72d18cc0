/* routing/dialects/openai_responses_custom.c - tools whose input is free text, for targets that know functions alone.
 *
 * Such a tool becomes a function with one string, "input", and a call of that function the tool's call again: it says the
 * same, but for a grammar, which nobody else can hold a model to. That is told the model in words and named as lost. Never
 * makes anything up: a call whose arguments are not of that shape has what the model said as its input. */
#include <stdlib.h>

#include "routing/dialects/openai_responses_priv.h"

#define JSON_MAX (64u << 20) /* of one input or grammar as JSON; bodies and answers are smaller */

static enum rc keep_text(struct arena *mem, const struct buf *text, struct str *ret)
{
	void *p;

	TRY(arena_try_alloc(mem, text->len + 1, &p));
	memcpy(p, text->ptr, text->len);
	*ret = str_of(p, text->len);
	return RC_OK;
}

/* `syntax` empty: any text. */
static enum rc schema_text(struct str syntax, struct str definition, struct buf *ret)
{
	AUTO(buf) struct buf words = BUF_INIT(JSON_MAX);
	struct json_out o;

	TRY(buf_append(&words, STR("The whole input, as plain text.")));
	if (syntax.len > 0)
		TRY(buf_printf(&words, " It must be in the language of this %.*s grammar:\n%.*s",
			       STR_FMT(syntax), STR_FMT(definition)));
	json_out_begin(&o, ret);
	json_obj(&o, NULL);
	json_put_z(&o, "type", "object");
	json_obj(&o, "properties");
	json_obj(&o, "input");
	json_put_z(&o, "type", "string");
	json_put_str(&o, "description", buf_str(&words));
	json_obj_end(&o);
	json_obj_end(&o);
	json_put_raw(&o, "required", STR("[\"input\"]"));
	json_put_bool(&o, "additionalProperties", false);
	json_obj_end(&o);
	return json_out_end(&o);
}

enum rc responses_custom_schema(struct arena *mem, const struct json *tool,
				const struct json **ret_schema, bool *ret_grammar)
{
	AUTO(buf) struct buf text = BUF_INIT(JSON_MAX);
	const struct json *format = json_get(tool, "format");
	struct str type, kept, syntax = STR(""), definition = STR("");
	struct json *schema;

	*ret_grammar = json_string(json_get(format, "type"), &type) && str_is(type, "grammar");
	if (*ret_grammar && (!json_string(json_get(format, "syntax"), &syntax) || syntax.len == 0 ||
			     !json_string(json_get(format, "definition"), &definition)))
		return RC_INVALID;
	TRY(schema_text(syntax, definition, &text));
	TRY(keep_text(mem, &text, &kept));
	TRY(json_parse(kept, JSON_NO_DUPLICATES, mem, &schema, NULL));
	*ret_schema = schema;
	return RC_OK;
}

enum rc responses_custom_arguments(struct arena *mem, struct str input, struct str *ret)
{
	AUTO(buf) struct buf text = BUF_INIT(JSON_MAX);
	struct json_out o;

	json_out_begin(&o, &text);
	json_obj(&o, NULL);
	json_put_str(&o, "input", input);
	json_obj_end(&o);
	TRY(json_out_end(&o));
	return keep_text(mem, &text, ret);
}

struct str responses_custom_input(struct arena *mem, struct str arguments)
{
	struct json *v;
	struct str input;

	if (json_parse(arguments, JSON_ALLOW_DUPLICATES, mem, &v, NULL) != RC_OK)
		return arguments;
	if (json_string(json_get(v, "input"), &input))
		return input;
	return json_type(v) == JSON_OBJECT && json_len(v) == 0 ? STR("") : arguments;
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

enum rc responses_custom_names(struct arena *mem, const struct call *c, struct str **ret,
			       size_t *ret_count)
{
	const struct json *tools = c ? json_get(c->body, "tools") : NULL;
	struct json_iter it = json_iter(tools);
	struct str type, *names;
	struct json *v;
	size_t n = 0;
	void *p;

	TRY(arena_try_alloc(mem, (json_len(tools) + 1) * sizeof *names, &p));
	names = p;
	while (json_next(&it, NULL, &v))
		if (json_string(json_get(v, "type"), &type) && str_is(type, "custom") &&
		    json_string(json_get(v, "name"), &names[n]))
			n++;
	if (n > 1)
		qsort(names, n, sizeof *names, by_name);
	*ret = names;
	*ret_count = n;
	return RC_OK;
}

bool responses_is_custom(const struct str *names, size_t count, struct str name)
{
	return count > 0 && bsearch(&name, names, count, sizeof *names, by_name);
}
