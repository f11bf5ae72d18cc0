/* routing/chat.h - a chat call and its answer, in nobody's dialect: what stands between two wire languages.
 *
 * Used only where the caller's dialect is not the target's; where they are the same, bytes pass through and nothing of
 * this is made. A caller's dialect reads its request into struct chat once (decode_ask), each target's dialect writes it
 * in its own words (encode_ask). An answer is a list of deltas: a stream's event has the few that it brought, a whole
 * answer has all, and the caller's dialect writes either.
 *
 * All strings are borrowed from the arena of the call (requests) or of the event (deltas): numbers keep their literal and
 * texts are unescaped. Pure: no I/O, no clock, no log, nothing allocated outside the arena given. Any thread. */
#ifndef ROUTING_CHAT_H
#define ROUTING_CHAT_H
#include "routing/call.h"

struct dialect_target;

/* A request's own bytes bound most of what is read from it; these bound what small pieces blow up to: past one of them
 * decoding ends in RC_TOO_LARGE. */
#define CHAT_TURNS_MAX	100000 /* what Anthropic takes, the most of all */
#define CHAT_PARTS_MAX	100000 /* of all turns together, those inside tool results too */
#define CHAT_TOOLS_MAX	10000
#define CHAT_CALLS_MAX	1024  /* tool calls of one answer */
#define CHAT_DELTAS_MAX 65536 /* of one event, or of a whole answer; more is a broken protocol */

/* ---- state that only its maker can read ---------------------------------------------------------- */

/* Anthropic signatures and redacted thinking, Gemini thought signatures, encrypted reasoning of Responses. They are bound to
 * who made them: a target that is somebody else must not get them. What a caller of another dialect is given to keep is
 * chat_opaque_wrap()'s text, which says whose it is; a value in its own dialect's field that is not wrapped was made by a
 * provider of that dialect (provider and model empty: not said). */
struct chat_opaque {
	struct str value;   /* ptr NULL: none */
	struct str dialect; /* whose words it is in: "gemini" */
	struct str provider, model;
};
/* What every wrapped value begins with: base64 of "tollgate1". A body without it holds none. */
#define CHAT_OPAQUE_MARK "dG9sbGdhdGUx"
/* Standard base64, so that it fits wherever any provider's own state fits. */
struct str chat_opaque_wrap(struct arena *mem, const struct chat_opaque *o);
/* False: not wrapped by us. */
bool chat_opaque_unwrap(struct arena *mem, struct str text, struct chat_opaque *ret);
/* Was it made by this very provider and model? Then, and only then, it may be sent there. */
bool chat_opaque_fits(const struct chat_opaque *o, const struct dialect_target *t);

/* ---- the question ------------------------------------------------------------------------------------ */

struct chat_media {
	struct str mime;    /* "image/png"; empty: not said */
	struct str data;    /* base64 as it came; ptr NULL: not inline */
	struct str url;	    /* http(s) or a provider's own scheme; ptr NULL: none */
	struct str file_id; /* a provider's own name for it; ptr NULL: none */
	struct str text;    /* a document that is plain text; ptr NULL: none */
	struct str name;    /* file name or title; may be empty */
	struct str detail;  /* of an image: auto, low, high; empty: not said */
};

enum chat_cache {
	CHAT_CACHE_NONE,
	CHAT_CACHE_5M,
	CHAT_CACHE_1H
}; /* a prompt-cache mark behind it */

enum chat_part_type {
	CHAT_TEXT,
	CHAT_IMAGE,
	CHAT_AUDIO,
	CHAT_VIDEO,
	CHAT_DOCUMENT,
	CHAT_TOOL_CALL,	  /* of an assistant turn */
	CHAT_TOOL_RESULT, /* of a user turn */
	CHAT_REASONING,	  /* of an assistant turn; text may be empty where only state is kept */
	CHAT_REFUSAL,	  /* of an assistant turn */
};
struct chat_part {
	enum chat_part_type type;
	struct str text;	 /* CHAT_TEXT, CHAT_REASONING, CHAT_REFUSAL */
	struct chat_media media; /* CHAT_IMAGE, CHAT_AUDIO, CHAT_VIDEO, CHAT_DOCUMENT */
	struct str id;		 /* tool call and result: the call's id as the caller has it */
	struct str name;	 /* tool call; result: filled from the call it answers */
	struct str arguments; /* tool call: the JSON text of an object, "{}" where it was empty */
	struct chat_part *parts; /* tool result: CHAT_TEXT, CHAT_IMAGE, CHAT_DOCUMENT */
	size_t parts_count;
	bool is_error; /* tool result */
	struct chat_opaque
		opaque; /* CHAT_REASONING: its seal; CHAT_TOOL_CALL, CHAT_TEXT: Gemini's signature */
	enum chat_cache cache;
};

enum chat_role { CHAT_SYSTEM, CHAT_DEVELOPER, CHAT_USER, CHAT_ASSISTANT };
/* Turns stand in the caller's order and are not merged, but for the tool results of one assistant turn: they are parts of one
 * user turn, before what else that turn says. A dialect that has tool results elsewhere, or no two turns of one role in a
 * row, splits and merges when it writes. */
struct chat_turn {
	enum chat_role role;
	struct chat_part *parts;
	size_t parts_count;
};

enum chat_tool_kind {
	CHAT_TOOL_FUNCTION,
	CHAT_TOOL_CUSTOM, /* free-form input of a chat completion; Responses' are functions */
	CHAT_TOOL_HOSTED, /* run by the provider: web search, code execution ... */
};
struct chat_tool {
	enum chat_tool_kind kind;
	struct str name;	       /* of a hosted tool its type, "web_search_20250305" */
	struct str description;	       /* ptr NULL: none */
	const struct json *parameters; /* JSON Schema; NULL: none */
	int strict;		       /* -1: not said */
	enum chat_cache cache;
};

enum chat_choice { /* tool_choice */
		   CHAT_CHOICE_UNSAID,
		   CHAT_CHOICE_AUTO,
		   CHAT_CHOICE_NONE,
		   CHAT_CHOICE_REQUIRED,
		   CHAT_CHOICE_NAMED,		 /* names[0] */
		   CHAT_CHOICE_ALLOWED_AUTO,	 /* only these may be called */
		   CHAT_CHOICE_ALLOWED_REQUIRED, /* ... and one of them must be */
};

enum chat_format { CHAT_FORMAT_TEXT, CHAT_FORMAT_JSON, CHAT_FORMAT_SCHEMA };

#define CHAT_EFFORTS(X) X(none) X(minimal) X(low) X(medium) X(high) X(xhigh) X(max)
enum chat_effort {
	CHAT_EFFORT_UNSAID,
#define X(name) CHAT_EFFORT_##name,
	CHAT_EFFORTS(X)
#undef X
};
const char *chat_effort_name(enum chat_effort e); /* never of UNSAID */
MUST_CHECK enum rc chat_effort_parse(struct str name, enum chat_effort *ret);

/* Numbers and maps that pass as they are: NULL: not said. Their type is checked by who decodes. */
struct chat {
	struct chat_turn *turns;
	size_t turns_count;
	struct chat_tool *tools;
	size_t tools_count;
	enum chat_choice choice;
	struct str *choice_names;
	size_t choice_names_count;
	int parallel_tools; /* -1: not said */

	enum chat_format format;
	struct str schema_name, schema_description; /* ptr NULL: none */
	const struct json *schema;
	int schema_strict; /* -1: not said */

	const struct json *temperature, *top_p, *top_k, *seed, *presence_penalty,
		*frequency_penalty;
	const struct json *logit_bias, *logprobs, *top_logprobs; /* logprobs: true or absent */
	struct str *stop;
	size_t stop_count;

	enum chat_effort effort;
	int64_t reasoning_tokens; /* a budget; -1: not said (Gemini's "dynamic" is not said, too), 0: none wanted */
	int reasoning_shown; /* should the answer show it? -1: not said */
	bool state_wanted;   /* the caller keeps encrypted reasoning itself (Responses include) */

	struct str verbosity, service_tier, end_user, cache_key; /* ptr NULL: not said */
	const struct json *metadata;

	/* Fields of the request that no other dialect has, by the caller's name for them. `hints` can be left out and the answer
	 * is still one to this question: they are named as lost. `needs` cannot: a target of another dialect is passed over. */
	struct str *hints;
	size_t hints_count;
	struct str *needs;
	size_t needs_count;
};

/* What was left out on the way, by the caller's names: told in x-tollgate-dropped. Each name once. */
#define CHAT_LOSSES_MAX 32
struct chat_losses {
	struct str name[CHAT_LOSSES_MAX];
	size_t count;
};
void chat_lose(struct chat_losses *l, struct str name);

/* RC_UNSUPPORTED: this target has no words for `field` of the request ("logprobs", "messages[3].content[1].input_audio");
 * the plan passes over it as capability_missing:<field>, and who has no other target left is told 400. */
enum rc chat_cannot(struct err *err, const char *provider, const char *field);
/* The same for the first of chat->needs; RC_OK where there is none. */
MUST_CHECK enum rc chat_check_needs(const struct chat *chat, const struct dialect_target *t,
				    struct err *err);

/* ---- helpers that every dialect wants --------------------------------------------------------------------- */

/* "data:image/png;base64,AAAA" into mime and data. False: no data URL in base64. */
bool chat_data_url(struct str url, struct chat_media *ret);
struct str chat_data_url_make(struct arena *mem, const struct chat_media *m);
/* Fill `name` of each tool result from the call it answers. RC_INVALID: it answers none. */
MUST_CHECK enum rc chat_name_results(struct chat *chat, struct err *err);
/* Which of chat->tools may be called where the choice names some of them (CHAT_CHOICE_ALLOWED_*): one bool each, in `mem`.
 * *ret NULL: all of them. */
MUST_CHECK enum rc chat_allowed(const struct chat *chat, struct arena *mem, const bool **ret);
/* A call id as a target wants it: the same for a call and its result, in every turn. An id that fits stays as it is; any other
 * becomes `prefix` and `len` letters and digits made from it. */
struct str chat_call_id(struct arena *mem, struct str id, const char *prefix, size_t len,
			bool (*fits)(struct str id));
/* Text that grows in an arena, for what a writer must still have at the end. Zero-initialise. */
struct chat_text {
	char *ptr;
	size_t len, size;
};
MUST_CHECK enum rc chat_text_add(struct arena *mem, struct chat_text *t, struct str s);
/* Reads on in the text of a JSON object that comes in pieces. True: its last brace has come, and behind it only white space is
 * JSON; no parser is needed to know when it is worth one. Zero-initialise. */
struct chat_braces {
	int depth;
	bool in_string, escaped;
};
bool chat_braces_close(struct chat_braces *b, struct str piece);
static inline struct str chat_text_str(const struct chat_text *t)
{
	return str_of(t->ptr ? t->ptr : "", t->len);
}

/* ---- the answer -------------------------------------------------------------------------------------------- */

enum chat_delta_type {
	CHAT_DELTA_TEXT,
	CHAT_DELTA_REASONING,
	/* Ends the reasoning before it: opaque.value is its seal; with no reasoning before it, it stands for hidden reasoning. */
	CHAT_DELTA_REASONING_END,
	CHAT_DELTA_REFUSAL,
	CHAT_DELTA_TOOL_CALL, /* begins call `index`: id, name; opaque: Gemini's signature */
	CHAT_DELTA_TOOL_ARGUMENTS, /* a fragment of call `index`: text; fragments of calls may interleave */
	CHAT_DELTA_CITATION, /* url, title in media.url, media.name; text: the words cited, may be empty */
	CHAT_DELTA_MEDIA,  /* an image or sound made by the model */
	CHAT_DELTA_FINISH, /* of `choice`: finish; text: the stop sequence that was met, or empty */
};
struct chat_delta {
	enum chat_delta_type type;
	int64_t choice; /* from 0 */
	int64_t index; /* of a tool call among those of its choice, from 0, in order of appearance */
	struct str text;
	struct str id,
		name; /* a call's id is never empty: a reader whose dialect has none makes one */
	struct chat_opaque
		opaque; /* of a delta only `value` and `dialect` are set: who made it is the target */
	struct chat_media media;
	enum finish finish;
};
/* A new delta at the end of `f`, in `mem`; zeroed but for its type. Never NULL: past the bound, or what `mem` has, it is the
 * last one again, or one of nobody's, and f->deltas_lost says so, which ends the attempt. */
struct chat_delta *chat_delta_add(struct arena *mem, struct facts *f, enum chat_delta_type type);

#endif
