/* test_gemini_ask.c - a question of the Gemini dialect read whole, and questions of others in its words. */
#include "server/base/json.h"
#include "tests/unit/routing/dialects/gemini_test.h"

static const struct dialect *const d = &dialect_gemini;

struct asked {
	struct arena *mem;
	struct call call;
	struct ask ask;
	struct buf body;
	struct outgoing out;
	struct err err;
	enum rc rc;
};

static void asked_begin(struct asked *a)
{
	*a = (struct asked){.mem = arena_new(ARENA_BYTES)};
	buf_init(&a->body, OUT_BYTES);
	a->out.body = &a->body;
}

static void asked_end(struct asked *a)
{
	buf_clear(&a->body);
	arena_free(a->mem);
}

static void decode(struct asked *a, const char *body)
{
	const struct call_head head = {.model = STR("m")};

	asked_begin(a);
	ck_assert_msg(d->decode_request(&head, str_from(body), a->mem, &a->call, &a->err) == RC_OK,
		      "%s: %s", body, a->err.message);
	a->rc = d->decode_ask(&a->call, a->mem, &a->ask, &a->err);
}

/* ---- read -------------------------------------------------------------------------------------------- */

/* The turns as one line: "u[T:hi]m[C f#id{}~seal]u[R f#id=text]". */
static const char *turns(struct asked *a)
{
	struct buf out = BUF_INIT(OUT_BYTES);
	const char *text;

	for (size_t t = 0; t < a->ask.chat.turns_count; t++) {
		const struct chat_turn *turn = &a->ask.chat.turns[t];

		say(&out, "%c[", "sdum"[turn->role]);
		for (size_t i = 0; i < turn->parts_count; i++) {
			const struct chat_part *p = &turn->parts[i];

			switch (p->type) {
			case CHAT_TEXT:
				say(&out, "T:%.*s", STR_FMT(p->text));
				break;
			case CHAT_REASONING:
				say(&out, "R:%.*s", STR_FMT(p->text));
				break;
			case CHAT_TOOL_CALL:
				say(&out, "C:%.*s#%.*s%.*s", STR_FMT(p->name), STR_FMT(p->id),
				    STR_FMT(p->arguments));
				break;
			case CHAT_TOOL_RESULT:
				say(&out, "%s:%.*s#%.*s=", p->is_error ? "X" : "A",
				    STR_FMT(p->name), STR_FMT(p->id));
				for (size_t j = 0; j < p->parts_count; j++) {
					const struct str one = p->parts[j].type == CHAT_TEXT
								       ? p->parts[j].text
								       : p->parts[j].media.mime;

					say(&out, "%.*s", STR_FMT(one));
				}
				break;
			default:
				say(&out, "%c:%.*s %.*s%.*s%.*s",
				    p->type == CHAT_IMAGE   ? 'I'
				    : p->type == CHAT_AUDIO ? 'S'
				    : p->type == CHAT_VIDEO ? 'V'
							    : 'D',
				    STR_FMT(p->media.mime), STR_FMT(p->media.data),
				    STR_FMT(p->media.url), STR_FMT(p->media.file_id));
				break;
			}
			if (p->opaque.value.ptr)
				say(&out, "~%.*s", STR_FMT(p->opaque.value));
			say(&out, ";");
		}
		say(&out, "]");
	}
	text = arena_strdup(a->mem, buf_str(&out));
	buf_clear(&out);
	return text;
}

#define U(parts)  "{\"role\":\"user\",\"parts\":[" parts "]}"
#define MO(parts) "{\"role\":\"model\",\"parts\":[" parts "]}"
#define T(t)	  "{\"text\":\"" t "\"}"
#define CALL(n)	  "{\"functionCall\":{\"name\":\"" n "\",\"args\":{}}}"
#define RES(n, r) "{\"functionResponse\":{\"name\":\"" n "\",\"response\":" r "}}"

static const struct {
	const char *contents, *turns;
} histories[] = {
	{U(T("hi")), "u[T:hi;]"},
	{"{\"parts\":[" T("hi") "]}", "u[T:hi;]"},
	{U(T("a") "," T("") "," T("b")) "," MO(T("c")), "u[T:a;T:b;]m[T:c;]"},
	{U(T("a")) "," U(T("b")), "u[T:a;]u[T:b;]"},
	{U(T("a")) "," MO(
		 "{\"text\":\"t\",\"thought\":true,\"thoughtSignature\":\"cw==\"}," T("b")),
	 "u[T:a;]m[R:t~cw==;T:b;]"},
/* thought in pieces is one; a seal ends it */
#define THOUGHT(t, more) "{\"text\":\"" t "\",\"thought\":true" more "}"
	{U(T("a")) "," MO(THOUGHT("t", "") "," THOUGHT("u", "") "," THOUGHT(
		 "",
		 ",\"thoughtSignature\":\"cw==\"") "," THOUGHT("v",
							       "") "," T("b")) "," MO(THOUGHT("w",
											      "")),
	 "u[T:a;]m[R:tu~cw==;R:v;T:b;]m[R:w;]"},
	/* results find their calls by name and order, and stand first */
	{U(T("a")) "," MO(CALL("f") "," CALL("g") "," CALL("f")) "," U(
		 T("more") "," RES("f", "{\"result\":\"1\"}") "," RES(
			 "f", "{\"output\":\"2\"}") "," RES("g", "{\"x\":1.10}")),
	 "u[T:a;]m[C:f#call_0{};C:g#call_1{};C:f#call_2{};]u[A:f#call_0=1;A:f#call_2=2;A:g#call_1={"
	 "\"x\":1.10};T:more;]"},
	/* results in turns of their own are one turn's */
	{U(T("a")) "," MO(CALL("f") "," CALL("g")) "," U(
		 RES("f", "{\"error\":\"no\"}")) ",{\"role\":"
						 "\"function\",\"parts\":[" RES("g", "{}") "]}",
	 "u[T:a;]m[C:f#call_0{};C:g#call_1{};]u[X:f#call_0=no;A:g#call_1={};]"},
	/* ids where there are some */
	{U(T("a")) "," MO(
		 "{\"function_call\":{\"id\":\"i1\",\"name\":\"f\",\"args\":{\"n\":1e2}}},"
		 "{\"functionCall\":{\"id\":\"i2\",\"name\":\"f\"}}") "," U("{\"function_response\":{\"id\":\"i2\",\"name\":\"f\",\"response\":{\"result\":[1]}}}"
									    ",{\"functionResponse\":{\"id\":\"other\",\"name\":\"f\",\"response\":{}}}"),
	 "u[T:a;]m[C:f#i1{\"n\":1e2};C:f#i2{};]u[A:f#i2=[1];A:f#i1={};]"},
	/* a later step's calls are told from an earlier's */
	{U(T("a")) "," MO(CALL("f")) "," U(RES("f", "{}")) "," MO(CALL("f")) "," U(RES("f", "{}")),
	 "u[T:a;]m[C:f#call_0{};]u[A:f#call_0={};]m[C:f#call_1{};]u[A:f#call_1={};]"},
	/* a result with a picture */
	{U(T("a")) "," MO(CALL("f")) "," U(
		 "{\"functionResponse\":{\"name\":\"f\",\"response\":{\"result\":\"see\"},\"parts\":[{"
		 "\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA==\"}}]}}"),
	 "u[T:a;]m[C:f#call_0{};]u[A:f#call_0=seeimage/png;]"},
	{U("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA==\"}},{\"inline_data\":{"
	   "\"mime_type\":\"audio/wav\",\"data\":\"BB==\"}},{\"inlineData\":{\"mimeType\":"
	   "\"application/pdf\",\"data\":\"CC==\"}},{\"fileData\":{\"fileUri\":"
	   "\"https://youtu.be/x\"}},{\"fileData\":{\"fileUri\":\"https://x.example/a\",\"mimeType\":"
	   "\"image/png\"}}"),
	 "u[I:image/png AA==;S:audio/wav BB==;D:application/pdf CC==;V: https://youtu.be/x;I:image/png "
	 "https://x.example/a;]"},
	/* the literal for history of others is no seal */
	{U(T("a")) "," MO("{\"functionCall\":{\"name\":\"f\"},\"thoughtSignature\":"
			  "\"skip_thought_signature_validator\"}"),
	 "u[T:a;]m[C:f#call_0{};]"},
};

START_TEST(history_is_read)
{
	struct buf body = BUF_INIT(OUT_BYTES);
	struct asked a;

	say(&body, "{\"contents\":[%s]}", histories[_i].contents);
	decode(&a, body.ptr);
	ck_assert_msg(a.rc == RC_OK, "%s", a.err.message);
	ck_assert_str_eq(turns(&a), histories[_i].turns);
	ck_assert_uint_eq(a.ask.chat.needs_count, 0);
	asked_end(&a);
	buf_clear(&body);
}
END_TEST

static const struct {
	const char *body, *field;
} nonsense[] = {
	{"{\"contents\":[" U(RES("f", "{}")) "]}", "contents[0].parts[0]"},
	{"{\"contents\":[" U(T("a")) "," MO(CALL("f")) "," U(
		 RES("f", "{}") "," RES("f", "{}")) "]}",
	 "contents[2].parts[1]"},
	{"{\"contents\":[" U(T("a")) "," MO(CALL("f")) "," U(RES("g", "{}")) "]}",
	 "contents[2].parts[0]"},
	{"{\"contents\":[" U(CALL("f")) "]}", "contents[0].parts[0]"},
	{"{\"contents\":[" MO(RES("f", "{}")) "]}", "contents[0].parts[0]"},
	{"{\"contents\":[" U(T("a")) "," MO("{\"functionCall\":{\"args\":{}}}") "]}",
	 "contents[1].parts[0]"},
	{"{\"contents\":[" U(T("a")) "," MO("{\"functionCall\":{\"name\":\"f\",\"args\":[]}}") "]}",
	 "contents[1].parts[0]"},
	{"{\"contents\":[{\"role\":\"system\",\"parts\":[]}]}", "contents[0].role"},
#define H "{\"contents\":[" U(T("a")) "],"
	{H "\"tools\":[{\"functionDeclarations\":[{}]}]}", "tools"},
	{H "\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"parameters\":7}]}]}", "tools"},
	{H "\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"parameters\":{},"
	   "\"parametersJsonSchema\":{}}]}]}",
	 "tools"},
	{H "\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"MAYBE\"}}}",
	 "toolConfig.functionCallingConfig.mode"},
	{H "\"generationConfig\":{\"temperature\":\"1\"}}", "generationConfig.temperature"},
	{H "\"generationConfig\":{\"stopSequences\":\"x\"}}", "generationConfig.stopSequences"},
	{H "\"generationConfig\":{\"stopSequences\":[1]}}", "generationConfig.stopSequences"},
	{H "\"generationConfig\":{\"responseSchema\":{},\"responseJsonSchema\":{}}}",
	 "generationConfig.responseJsonSchema"},
	{H "\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":-2}}}",
	 "generationConfig.thinkingConfig.thinkingBudget"},
};

START_TEST(nonsense_is_refused)
{
	struct asked a;

	decode(&a, nonsense[_i].body);
	ck_assert_int_eq(a.rc, RC_INVALID);
	ck_assert_str_eq(a.err.field, nonsense[_i].field);
	asked_end(&a);
}
END_TEST

static const struct {
	const char *body, *needs, *hints;
} beside[] = {
	{H "\"x\":1}", "", "x "},
	{H "\"safetySettings\":[],\"labels\":{}}", "", "safetySettings labels "},
	{H "\"cachedContent\":\"cachedContents/c\"}", "cachedContent ", ""},
	{H "\"tools\":[{\"googleSearch\":{}},{\"codeExecution\":{}}]}",
	 "tools[0].googleSearch tools[1].codeExecution ", ""},
	{H "\"generationConfig\":{\"speechConfig\":{},\"mediaResolution\":\"x\",\"imageConfig\":{},"
	   "\"responseModalities\":[\"TEXT\",\"IMAGE\"]}}",
	 "generationConfig.responseModalities generationConfig.speechConfig "
	 "generationConfig.imageConfig ",
	 "generationConfig.mediaResolution "},
	{H "\"generationConfig\":{\"responseMimeType\":\"text/x.enum\",\"seed\":1}}",
	 "generationConfig.responseMimeType ", ""},
	{"{\"contents\":[" U("{\"fileData\":{\"fileUri\":\"gs://x\"}}") "]}",
	 "contents[0].parts[0].fileData ", ""},
	{"{\"contents\":[" U(T("a")) "," MO(T("b") ",{\"executableCode\":{}}") "]}",
	 "contents[1].parts[1].executableCode ", ""},
	{"{\"contents\":[" U("{\"text\":\"a\",\"videoMetadata\":{\"fps\":1}}") "]}",
	 "contents[0].parts[0].videoMetadata ", ""},
};

START_TEST(what_nobody_else_has_is_named)
{
	struct buf needs = BUF_INIT(OUT_BYTES), hints = BUF_INIT(OUT_BYTES);
	struct asked a;

	decode(&a, beside[_i].body);
	ck_assert_int_eq(a.rc, RC_OK);
	say(&needs, "%s", "");
	say(&hints, "%s", "");
	for (size_t i = 0; i < a.ask.chat.needs_count; i++)
		say(&needs, "%.*s ", STR_FMT(a.ask.chat.needs[i]));
	for (size_t i = 0; i < a.ask.chat.hints_count; i++)
		say(&hints, "%.*s ", STR_FMT(a.ask.chat.hints[i]));
	ck_assert_str_eq(needs.ptr, beside[_i].needs);
	ck_assert_str_eq(hints.ptr, beside[_i].hints);
	buf_clear(&needs);
	buf_clear(&hints);
	asked_end(&a);
}
END_TEST

START_TEST(parameters_are_read)
{
	struct chat *c;
	struct asked a;

	decode(&a, H
	       "\"systemInstruction\":{\"role\":\"user\",\"parts\":[{\"text\":\"be\"}]},"
	       "\"serviceTier\":\"standard\",\"generationConfig\":{\"temperature\":0.20,\"topP\":"
	       "0.9,\"top_k\":40,\"seed\":7,\"presencePenalty\":0.1,\"frequencyPenalty\":0.2,"
	       "\"stopSequences\":[\"x\",\"y\"],\"responseLogprobs\":true,\"logprobs\":3,"
	       "\"responseMimeType\":\"application/json\",\"responseSchema\":{\"type\":\"OBJECT\"},"
	       "\"thinkingConfig\":{\"includeThoughts\":true,\"thinkingLevel\":\"LOW\","
	       "\"thinkingBudget\":-1}},\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"ANY\","
	       "\"allowedFunctionNames\":[\"f\"]}}}");
	c = &a.ask.chat;
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_str_eq(turns(&a), "s[T:be;]u[T:a;]");
	ck_assert(c->temperature && c->top_p && c->top_k && c->seed && c->presence_penalty &&
		  c->frequency_penalty && c->logprobs && c->top_logprobs && c->schema);
	ck_assert_int_eq(c->format, CHAT_FORMAT_SCHEMA);
	ck_assert_int_eq(c->effort, CHAT_EFFORT_low);
	ck_assert_int_eq(c->reasoning_tokens, -1);
	ck_assert_int_eq(c->reasoning_shown, 1);
	ck_assert_int_eq(c->choice, CHAT_CHOICE_NAMED);
	ck_assert(str_is(c->choice_names[0], "f"));
	ck_assert_uint_eq(c->stop_count, 2);
	ck_assert(str_is(c->service_tier, "default"));
	ck_assert_int_eq(c->parallel_tools, -1);
	asked_end(&a);
}
END_TEST

static const struct {
	const char *mode;
	enum chat_choice choice;
} choices[] = {
	{"{\"mode\":\"AUTO\"}", CHAT_CHOICE_AUTO},
	{"{\"mode\":\"NONE\"}", CHAT_CHOICE_NONE},
	{"{\"mode\":\"ANY\"}", CHAT_CHOICE_REQUIRED},
	{"{\"mode\":\"VALIDATED\"}", CHAT_CHOICE_AUTO},
	{"{\"mode\":\"ANY\",\"allowed_function_names\":[\"f\",\"g\"]}",
	 CHAT_CHOICE_ALLOWED_REQUIRED},
	{"{\"mode\":\"VALIDATED\",\"allowedFunctionNames\":[\"f\"]}", CHAT_CHOICE_ALLOWED_AUTO},
	{"{}", CHAT_CHOICE_UNSAID},
	{"null", CHAT_CHOICE_UNSAID},
};

START_TEST(tool_choice_is_read)
{
	struct buf body = BUF_INIT(OUT_BYTES);
	struct asked a;

	say(&body, H "\"tool_config\":{\"function_calling_config\":%s}}", choices[_i].mode);
	decode(&a, body.ptr);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_int_eq(a.ask.chat.choice, choices[_i].choice);
	asked_end(&a);
	buf_clear(&body);
}
END_TEST

static const struct {
	const char *schema, *want;
} schemas[] = {
	{"{\"type\":\"STRING\"}", "{\"type\":\"string\"}"},
	{"{\"type\":\"object\"}", "{\"type\":\"object\"}"},
	{"{\"type\":\"STRING\",\"nullable\":true,\"enum\":[\"a\"]}",
	 "{\"type\":[\"string\",\"null\"],\"enum\":[\"a\",null]}"},
	{"{\"type\":\"ARRAY\",\"items\":{\"type\":\"INTEGER\",\"format\":\"int64\"},\"minItems\":\"2\","
	 "\"max_items\":\"5\"}",
	 "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"format\":\"int64\"},\"minItems\":2,"
	 "\"maxItems\":5}"},
	{"{\"type\":\"OBJECT\",\"properties\":{\"a\":{\"type\":\"NUMBER\",\"minimum\":0.50},\"type\":{"
	 "\"type\":\"BOOLEAN\"},\"q\\\"\":{}},\"required\":[\"a\"],\"propertyOrdering\":[\"a\"]}",
	 "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\",\"minimum\":0.50},\"type\":{"
	 "\"type\":\"boolean\"},\"q\\\"\":{}},\"required\":[\"a\"]}"},
	{"{\"anyOf\":[{\"type\":\"STRING\"},{\"type\":\"NULL\"}],\"nullable\":true,\"example\":\"x\"}",
	 "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"},{\"type\":\"null\"}],\"examples\":["
	 "\"x\"]}"},
	{"{\"type\":\"TYPE_UNSPECIFIED\",\"description\":\"d\"}", "{\"description\":\"d\"}"},
	{"{}", "{}"},
};

START_TEST(schema_becomes_json_schema)
{
	struct arena *mem = arena_new(ARENA_BYTES);
	struct buf out = BUF_INIT(OUT_BYTES);
	const struct json *got;
	struct json *root;

	ck_assert_int_eq(
		json_parse(str_from(schemas[_i].schema), JSON_NO_DUPLICATES, mem, &root, NULL),
		RC_OK);
	ck_assert_int_eq(gemini_schema(mem, root, &got), RC_OK);
	ck_assert_int_eq(json_write(got, &out), RC_OK);
	ck_assert_str_eq(out.ptr, schemas[_i].want);
	buf_clear(&out);
	arena_free(mem);
}
END_TEST

/* ---- written ------------------------------------------------------------------------------------------- */

/* Read here and written for a target of this dialect again. */
static void round_trip(struct asked *a, const char *body, const char *model)
{
	struct dialect_target t = gemini_target("gemini", model);

	decode(a, body);
	ck_assert_msg(a->rc == RC_OK, "%s", a->err.message);
	a->rc = d->encode_ask(&a->call, &a->ask, &t, a->mem, &a->out, &a->err);
}

#define B(contents, more) "{\"contents\":[" contents "]" more "}"
#define G		  ",\"generationConfig\":{}"

static const struct {
	const char *body, *model, *want; /* NULL: the same but for spelling of nothing */
} trips[] = {
	{B(U(T("hi")), ""), "gemini-3-pro", B(U(T("hi")), G)},
	{B(U(T("a")) "," MO(T("b")) "," U(T("c")), G), "gemini-3-pro", NULL},
	{B(U(T("a")) "," U(T("b")), G), "gemini-3-pro", B(U(T("a") "," T("b")), G)},
	{"{\"contents\":[" U(T("a")) "],\"systemInstruction\":{\"parts\":[" T("be") "]}}",
	 "gemini-3-pro",
	 "{\"systemInstruction\":{\"parts\":[" T("be") "]},\"contents\":[" U(T("a")) "]" G "}"},
	/* calls get ids; those of others the literal, the first of parallel ones alone, from generation 3 on */
	{B(U(T("a")) "," MO(CALL("f") "," CALL("g")) "," U(
		   RES("f", "{\"error\":\"no\"}") "," RES("g", "{\"x\":[1.0]}")),
	   ""),
	 "gemini-3-pro",
	 B(U(T("a")) "," MO(
		   "{\"functionCall\":{\"id\":\"call_0\",\"name\":\"f\",\"args\":{}},"
		   "\"thoughtSignature\":\"skip_thought_signature_validator\"},{\"functionCall\":{"
		   "\"id\":\"call_1\",\"name\":\"g\",\"args\":{}}}") "," U("{\"functionResponse\":{"
									   "\"id\":\"call_0\","
									   "\"name\":\"f\","
									   "\"response\":{\"error\":"
									   "\"no\"}}},{"
									   "\"functionResponse\":{"
									   "\"id\":\"call_1\","
									   "\"name\":\"g\","
									   "\"response\":{\"x\":[1."
									   "0]}}}"),
	   G)},
	{B(U(T("a")) "," MO("{\"functionCall\":{\"id\":\"i\",\"name\":\"f\",\"args\":{\"n\":1.10}}}") "," U(
		   "{\"functionResponse\":{\"id\":\"i\",\"name\":\"f\",\"response\":{\"result\":\"7\"}}}"),
	   G),
	 "gemini-2.5-flash", NULL},
	/* a seal of a maker that is not named is not sent on; thoughts without their seal neither */
	{B(U(T("a")) "," MO(
		   "{\"text\":\"t\",\"thought\":true},{\"text\":\"b\",\"thoughtSignature\":"
		   "\"cw==\"}"),
	   ""),
	 "gemini-3-pro", B(U(T("a")) "," MO(T("b")), G)},
	{B(U("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AA==\"}},{\"inlineData\":{"
	     "\"mimeType\":\"audio/wav\",\"data\":\"AA==\"}},{\"inlineData\":{\"mimeType\":"
	     "\"application/pdf\",\"data\":\"AA==\"}},{\"fileData\":{\"fileUri\":"
	     "\"https://x.example/a\",\"mimeType\":\"video/mp4\"}}"),
	   G),
	 "gemini-3-pro", NULL},
	/* all functions in one entry, with plain JSON Schema */
	{B(U(T("a")),
	   ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"description\":\"d\","
	   "\"parameters\":{\"type\":\"OBJECT\"}}]},{\"functionDeclarations\":[{\"name\":\"g\"}]}],"
	   "\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"VALIDATED\","
	   "\"allowedFunctionNames\":[\"g\"]}}"),
	 "gemini-3-pro",
	 B(U(T("a")),
	   ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\",\"description\":\"d\","
	   "\"parametersJsonSchema\":{\"type\":\"object\"}},{\"name\":\"g\"}]}],\"toolConfig\":{"
	   "\"functionCallingConfig\":{\"mode\":\"VALIDATED\",\"allowedFunctionNames\":[\"g\"]}}" G)},
	{B(U(T("a")),
	   ",\"serviceTier\":\"flex\",\"generationConfig\":{\"maxOutputTokens\":9,\"candidateCount\":2,"
	   "\"temperature\":0.20,\"topP\":0.9,\"topK\":40,\"seed\":7,\"presencePenalty\":0.1,"
	   "\"frequencyPenalty\":0.2,\"stopSequences\":[\"x\"],\"responseMimeType\":"
	   "\"application/json\",\"responseJsonSchema\":{\"type\":\"object\"},\"thinkingConfig\":{"
	   "\"includeThoughts\":true,\"thinkingLevel\":\"MEDIUM\"}}"),
	 "gemini-3-pro", NULL},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":512}}"),
	 "gemini-2.5-flash", NULL},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":0}}"),
	 "gemini-2.5-flash", NULL},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":0}}"),
	 "gemini-2.5-pro",
	 B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":128}}")},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":4000}}"),
	 "gemini-3-pro",
	 B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingLevel\":\"LOW\"}}")},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingLevel\":\"MINIMAL\"}}"),
	 "gemini-3-flash", NULL},
	{B(U(T("a")), ",\"generationConfig\":{\"thinkingConfig\":{\"thinkingLevel\":\"HIGH\"}}"),
	 "gemini-2.0-flash", B(U(T("a")), G)},
};

START_TEST(question_goes_round)
{
	const char *want = trips[_i].want ? trips[_i].want : trips[_i].body;
	struct asked a;

	round_trip(&a, trips[_i].body, trips[_i].model);
	ck_assert_msg(a.rc == RC_OK, "%s", a.err.message);
	ck_assert_str_eq(a.body.ptr, want);
	asked_end(&a);
}
END_TEST

static const struct {
	const char *body, *model, *field;
} refusals[] = {
	{B(U(T("a")), ",\"cachedContent\":\"cachedContents/c\""), "gemini-3-pro", "cachedContent"},
	{B(U(T("a")), ",\"generationConfig\":{\"responseLogprobs\":true}"), "gemini-3-pro",
	 "logprobs"},
	{B(U(T("a")),
	   ",\"generationConfig\":{\"stopSequences\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\"]}"),
	 "gemini-3-pro", "stop"},
	{B(MO(T("a")) "," U(T("b")), ""), "gemini-3-pro", "messages[0].role"},
	{B(U(T("")), ""), "gemini-3-pro", "messages"},
	{B(U("{\"fileData\":{\"fileUri\":\"http://x.example/a.png\",\"mimeType\":\"image/png\"}}"),
	   ""),
	 "gemini-3-pro", "messages[0].image"},
	{B(U("{\"inlineData\":{\"mimeType\":\"application/zip\",\"data\":\"AA==\"}}"), ""),
	 "gemini-3-pro", "messages[0].document"},
	{B(U(T("a")), ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"1f\"}]}]"),
	 "gemini-3-pro", "tools[0].name"},
	{B(U(T("a")),
	   ",\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\"}]}],\"generationConfig\":{"
	   "\"responseMimeType\":\"application/json\"}"),
	 "gemini-2.5-pro", "response_format"},
};

START_TEST(what_cannot_be_said_is_refused)
{
	struct asked a;

	round_trip(&a, refusals[_i].body, refusals[_i].model);
	ck_assert_int_eq(a.rc, RC_UNSUPPORTED);
	ck_assert_str_eq(a.err.field, refusals[_i].field);
	asked_end(&a);
}
END_TEST

/* A question made by hand, as another dialect's decoder would. */
static void write(struct asked *a, struct chat chat, const char *model)
{
	struct dialect_target t = gemini_target("gemini", model);

	asked_begin(a);
	a->call = (struct call){.dialect = &dialect_openai_chat, .choices = 1};
	a->ask.chat = chat;
	t.max_output_cap = 77;
	a->rc = d->encode_ask(&a->call, &a->ask, &t, a->mem, &a->out, &a->err);
}

#define CHAT_OF(parts_)                                                                            \
	(struct chat)                                                                              \
	{                                                                                          \
		.turns = &(struct chat_turn){.role = CHAT_USER,                                    \
					     .parts = (parts_),                                    \
					     .parts_count = ARRAY_LEN(parts_)},                    \
		.turns_count = 1, .parallel_tools = -1, .schema_strict = -1,                       \
		.reasoning_tokens = -1, .reasoning_shown = -1                                      \
	}

static bool lost(const struct asked *a, const char *name)
{
	for (size_t i = 0; i < a->out.losses.count; i++)
		if (str_is(a->out.losses.name[i], name))
			return true;
	return false;
}

START_TEST(what_is_left_out_is_named)
{
	struct chat_part part = {.type = CHAT_TEXT, .text = STR("a"), .cache = CHAT_CACHE_5M};
	struct chat_tool tool = {.name = STR("f"), .strict = 1};
	struct str hint = STR("store");
	struct chat_part *parts = &part;
	struct chat c = CHAT_OF(((struct chat_part[]){*parts}));
	struct asked a;

	c.tools = &tool;
	c.tools_count = 1;
	c.parallel_tools = 0;
	c.verbosity = c.end_user = c.cache_key = STR("x");
	c.hints = &hint;
	c.hints_count = 1;
	c.service_tier = STR("scale");
	c.effort = CHAT_EFFORT_none;
	write(&a, c, "gemini-3-pro");
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert(lost(&a, "prompt_cache_breakpoint") && lost(&a, "strict") &&
		  lost(&a, "parallel_tool_calls") && lost(&a, "verbosity") && lost(&a, "user") &&
		  lost(&a, "prompt_cache_key") && lost(&a, "store") && lost(&a, "service_tier") &&
		  lost(&a, "reasoning_effort"));
	ck_assert_uint_eq(a.out.losses.count, 9);
	ck_assert_ptr_nonnull(strstr(a.body.ptr, "\"maxOutputTokens\":77"));
	ck_assert_ptr_nonnull(strstr(a.body.ptr, "\"thinkingLevel\":\"LOW\""));
	asked_end(&a);
}
END_TEST

START_TEST(media_of_others_find_their_type)
{
	static const struct {
		struct chat_part part;
		const char *want; /* NULL: refused */
	} cases[] = {
		{{.type = CHAT_IMAGE, .media = {.url = {"https://x.example/a.PNG?b=.gif", 30}}},
		 "\"mimeType\":\"image/png\""},
		{{.type = CHAT_IMAGE, .media = {.url = {"https://x.example/a", 19}}}, NULL},
		{{.type = CHAT_IMAGE,
		  .media = {.url = {"https://x.example/a", 19}, .mime = {"image/webp", 10}}},
		 "\"mimeType\":\"image/webp\""},
		{{.type = CHAT_IMAGE, .media = {.file_id = {"file-1", 6}}}, NULL},
		{{.type = CHAT_AUDIO, .media = {.data = {"AA==", 4}, .mime = {"audio/mpeg", 10}}},
		 "\"mimeType\":\"audio/mp3\""},
		{{.type = CHAT_DOCUMENT, .media = {.text = {"plain", 5}}}, "{\"text\":\"plain\"}"},
		{{.type = CHAT_VIDEO, .media = {.url = {"https://youtu.be/x", 18}}},
		 "\"mimeType\":\"video/mp4\""},
		{{.type = CHAT_IMAGE,
		  .media = {.data = {"AA==", 4}, .mime = {"image/png", 9}, .detail = {"low", 3}}},
		 "\"mediaResolution\":{\"level\":\"MEDIA_RESOLUTION_LOW\"}"},
	};
	struct chat_part parts[] = {cases[_i].part};
	struct asked a;

	write(&a, CHAT_OF(parts), "gemini-3-pro");
	ck_assert_int_eq(a.rc, cases[_i].want ? RC_OK : RC_UNSUPPORTED);
	if (cases[_i].want)
		ck_assert_msg(strstr(a.body.ptr, cases[_i].want) != NULL, "%s", a.body.ptr);
	asked_end(&a);
}
END_TEST

START_TEST(a_seal_goes_to_its_maker_alone)
{
	static const char *const models[] = {"gemini-3-pro", "gemini-3.5-flash"};
	struct chat_opaque seal = {.value = STR("cw=="),
				   .dialect = STR("gemini"),
				   .provider = STR("gemini"),
				   .model = STR("gemini-3-pro")};
	struct chat_part user[] = {{.type = CHAT_TEXT, .text = STR("a")}};
	struct chat_part model[] = {
		{.type = CHAT_REASONING, .text = STR("t"), .opaque = seal},
		{.type = CHAT_TOOL_CALL,
		 .id = STR("c1"),
		 .name = STR("f"),
		 .arguments = STR("{}"),
		 .opaque = seal},
	};
	struct chat_turn both[] = {{CHAT_USER, user, 1}, {CHAT_ASSISTANT, model, 2}};
	struct chat c = CHAT_OF(user);
	struct asked a;

	c.turns = both;
	c.turns_count = 2;
	write(&a, c, models[_i]);
	ck_assert_int_eq(a.rc, RC_OK);
	ck_assert_int_eq(strstr(a.body.ptr, "\"thought\":true") != NULL, _i == 0);
	ck_assert_ptr_nonnull(strstr(a.body.ptr, _i == 0 ? "\"thoughtSignature\":\"cw==\""
							 : "\"" GEMINI_FOREIGN_SEAL "\""));
	ck_assert_int_eq(lost(&a, "reasoning_content"), _i == 1);
	asked_end(&a);
}
END_TEST

START_TEST(system_turns_find_their_place)
{
	struct chat_part one[] = {{.type = CHAT_TEXT, .text = STR("one")}};
	struct chat_part two[] = {{.type = CHAT_TEXT, .text = STR("two")}};
	struct chat_turn all[] = {{CHAT_SYSTEM, one, 1},
				  {CHAT_DEVELOPER, two, 1},
				  {CHAT_USER, one, 1},
				  {CHAT_SYSTEM, two, 1}};
	struct chat c = CHAT_OF(one);
	struct asked a;

	c.turns = all;
	c.turns_count = 4;
	write(&a, c, "gemini-3-pro");
	ck_assert(str_starts(buf_str(&a.body),
			     STR("{\"systemInstruction\":{\"parts\":[{\"text\":\"one\"},{\"text\":"
				 "\"two\"}]},\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":"
				 "\"one\"},{\"text\":\"two\"}]}]")));
	asked_end(&a);
	c.turns_count = 2; /* nothing else: the last is what is asked */
	write(&a, c, "gemini-3-pro");
	ck_assert(str_starts(
		buf_str(&a.body),
		STR("{\"systemInstruction\":{\"parts\":[{\"text\":\"one\"}]},"
		    "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"two\"}]}]")));
	asked_end(&a);
}
END_TEST

START_TEST(bad_arguments_are_the_callers_fault)
{
	static const char *const texts[] = {"{", "[]", "7", "{} {}"};
	struct chat_part user[] = {{.type = CHAT_TEXT, .text = STR("a")}};
	struct chat_part model[] = {{.type = CHAT_TOOL_CALL,
				     .id = STR("c1"),
				     .name = STR("f"),
				     .arguments = str_from(texts[_i])}};
	struct chat_turn both[] = {{CHAT_USER, user, 1}, {CHAT_ASSISTANT, model, 1}};
	struct chat c = CHAT_OF(user);
	struct asked a;

	c.turns = both;
	c.turns_count = 2;
	write(&a, c, "gemini-3-pro");
	ck_assert_int_eq(a.rc, RC_INVALID);
	ck_assert_str_eq(a.err.field, "messages[1]");
	asked_end(&a);
}
END_TEST

START_TEST(a_count_names_its_model)
{
	const struct call_head head = {.model = STR("m")};
	struct dialect_target t = gemini_target("gemini", "gemini-3-pro");
	struct asked a;

	asked_begin(&a);
	t.dialect = &dialect_gemini_count_tokens;
	ck_assert_int_eq(
		dialect_gemini_count_tokens.decode_request(
			&head, STR("{\"contents\":[" U(T("a")) "]}"), a.mem, &a.call, &a.err),
		RC_OK);
	ck_assert_int_eq(dialect_gemini_count_tokens.decode_ask(&a.call, a.mem, &a.ask, &a.err),
			 RC_OK);
	ck_assert_int_eq(a.ask.operation, OPERATION_count_tokens);
	ck_assert_int_eq(
		dialect_gemini_count_tokens.encode_ask(&a.call, &a.ask, &t, a.mem, &a.out, &a.err),
		RC_OK);
	ck_assert_str_eq(a.body.ptr,
			 "{\"generateContentRequest\":{\"model\":\"models/gemini-3-pro\","
			 "\"contents\":[" U(T("a")) "]" G "}}");
	asked_end(&a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gemini_ask");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, history_is_read, 0, ARRAY_LEN(histories));
	tcase_add_loop_test(t, nonsense_is_refused, 0, ARRAY_LEN(nonsense));
	tcase_add_loop_test(t, what_nobody_else_has_is_named, 0, ARRAY_LEN(beside));
	tcase_add_test(t, parameters_are_read);
	tcase_add_loop_test(t, tool_choice_is_read, 0, ARRAY_LEN(choices));
	tcase_add_loop_test(t, schema_becomes_json_schema, 0, ARRAY_LEN(schemas));
	tcase_add_loop_test(t, question_goes_round, 0, ARRAY_LEN(trips));
	tcase_add_loop_test(t, what_cannot_be_said_is_refused, 0, ARRAY_LEN(refusals));
	tcase_add_test(t, what_is_left_out_is_named);
	tcase_add_loop_test(t, media_of_others_find_their_type, 0, 8);
	tcase_add_loop_test(t, a_seal_goes_to_its_maker_alone, 0, 2);
	tcase_add_test(t, system_turns_find_their_place);
	tcase_add_loop_test(t, bad_arguments_are_the_callers_fault, 0, 4);
	tcase_add_test(t, a_count_names_its_model);
	suite_add_tcase(s, t);
	return suite_run(s);
}
