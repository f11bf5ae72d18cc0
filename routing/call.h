/* routing/call.h - what was asked, in nobody's dialect, and what came back, as facts.
 *
 * Values in the request's arena. Decoding fills struct call; from then on nobody reads the body but the
 * dialect that encodes it for a target. Pure: no I/O, no clock, no log. */
#ifndef ROUTING_CALL_H
#define ROUTING_CALL_H
#include <stdbool.h>
#include <stdint.h>
#include "billing/usage.h"
#include "server/base/arena.h"
#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/base/id.h"
#include "server/base/json.h"

struct dialect;
struct chat_delta;
struct embed_vector;
struct form;
struct transcript;

/* One class per provider failure (architecture.md); contracts/translation.md 10 has the markers. */
#define ERROR_CLASSES(X)                                                                           \
	X(none)                                                                                    \
	X(auth)                                                                                    \
	X(permission)                                                                              \
	X(not_found)                                                                               \
	X(rate_limit)                                                                              \
	X(quota)                                                                                   \
	X(context_length)                                                                          \
	X(content_policy)                                                                          \
	X(invalid_request)                                                                         \
	X(timeout)                                                                                 \
	X(overloaded)                                                                              \
	X(server_error)                                                                            \
	X(network)                                                                                 \
	X(protocol)
enum error_class {
#define X(name) ERROR_##name,
	ERROR_CLASSES(X)
#undef X
		ERROR_CLASS_COUNT
};
const char *error_class_name(enum error_class c);

/* How an error reads. */
enum error_shape {
	ERROR_SHAPE_OPENAI,
	ERROR_SHAPE_ANTHROPIC,
	ERROR_SHAPE_GEMINI,
	ERROR_SHAPE_COUNT
};

enum capability {
	CAP_TEXT = 1,
	CAP_VISION = 2,
	CAP_AUDIO_IN = 4,
	CAP_AUDIO_OUT = 8,
	CAP_TOOLS = 16,
	CAP_JSON = 32
};
const char *capability_name(enum capability c); /* one bit */
MUST_CHECK enum rc capability_parse(struct str name, uint32_t *ret_bit);

/* What a call wants done; a provider has an endpoint for each that it can do (provider.h). */
#define OPERATIONS(X)                                                                              \
	X(chat)                                                                                    \
	X(count_tokens)                                                                            \
	X(embeddings)                                                                              \
	X(speech)                                                                                  \
	X(transcription)
enum operation {
#define X(name) OPERATION_##name,
	OPERATIONS(X)
#undef X
		OPERATION_COUNT
};
const char *operation_name(enum operation o);

/* What a call says beside its body. */
struct call_head {
	struct str model;  /* named by the path; ptr NULL: the body names it */
	bool stream;	   /* the path says so */
	bool stream_array; /* ... and as one JSON array instead of events (Gemini without alt=sse) */
	struct str content_type; /* of the body; may be empty */
};

/* State that a provider keeps and a call builds on: an earlier response, a conversation, a file, a cache. It is only where it
 * was made: the call goes there or nowhere. */
struct call_state {
	/* "response", "conversation", "item", "file", "cache", "container", "vector_store": static */
	const char *kind;
	struct str id;
	const char *field;  /* of the request that names it: static */
	struct uuid keeper; /* the profile that has it, once looked up (kept.h); zero: not known */
};
#define CALL_STATES_MAX 64

/* What a call that is no chat is measured by, known before it is sent (routing/bound.h). */
struct call_counts {
	int64_t inputs;	      /* embeddings: how many vectors are asked for */
	int64_t chars;	      /* speech: code points to be spoken */
	bool slow;	      /* speech: ... slower than usual */
	int64_t audio_ms;     /* transcription: how long the sound is, as far as its file tells */
	bool audio_exact;     /* ... which says so itself; else it is a guess from its size */
	int64_t audio_ms_max; /* ... and what it cannot be longer than */
};

struct call {
	const struct dialect *dialect; /* the caller's */
	enum operation operation;
	struct str model; /* as asked */
	bool stream;
	bool stream_array; /* of call_head */
	bool bytes; /* what the caller gets is sound, byte by byte, and no events; with `stream` */
	struct str content_type; /* of call_head */
	const struct form *form; /* the body's parts, where it is a form (form_priv.h); else NULL */
	struct call_state *states;
	size_t states_count;
	bool keeps_state; /* the answer is kept by the provider, and a later call may build on it (Responses store) */
	bool usage_asked;   /* stream_options.include_usage: else our injected one is stripped */
	int64_t max_output; /* tokens; 0: the caller said nothing */
	int64_t choices;    /* n, at least 1 */
	uint32_t needs;	    /* capability bits, read off the call itself */
	bool media_by_url;  /* size unknown: the input bound is the context window */
	/* The caller's field that may cost what no hold bounds: a tool that the provider runs itself (rounds of its own, counted
	 * by the search or the session), another model than the one that is priced. NULL: none. Static. */
	const char *beyond_hold;
	size_t body_bytes; /* for the input bound: every byte may be a token */
	int64_t media_tokens_max; /* what inline media may cost beyond their own bytes: add it to the bound */
	size_t text_bytes; /* of the messages' text alone: for a lower bound of the input */
	struct call_counts counts;
	struct json *body;    /* the parsed tree; unknown fields survive */
	struct str body_text; /* the caller's exact bytes */
	/* from headers, set by flow.c */
	struct str agent, intent, session;
	uint32_t billing_allowed; /* bits 1 << enum billing_source; 0: no restriction asked */
	/* from the caller's key: the only providers it may use; count 0: all */
	const struct str *providers;
	size_t providers_count;
};

enum finish {
	FINISH_NONE,
	FINISH_STOP,
	FINISH_LENGTH,
	FINISH_TOOL_CALLS,
	FINISH_CONTENT_FILTER,
	FINISH_PAUSE, /* Anthropic's pause_turn: the caller sends the answer back to go on */
	FINISH_OTHER
};

struct facts {	      /* of one stream event, or of a whole answer */
	bool content; /* text, reasoning, refusal, audio or a tool call: nothing can fall back after it */
	bool usage_only; /* carries usage and no choice: stripped when the caller did not ask */
	bool terminal;	 /* the dialect's end marker ([DONE]) */
	bool ending; /* the last choice is at its end: this and all behind it waits for the booking */
	int64_t text_bytes; /* visible and reasoning bytes in it, for estimates */
	enum finish finish; /* of the last choice that finished in it */
	int finished;	    /* how many choices finished in it */
	struct usage usage; /* .present: cumulative so far: replace, never sum */
	struct str model;   /* as the provider names it; may be empty */
	struct str id;	    /* the provider's own of the answer; may be empty */
	/* What the provider keeps of it, where it says so: as struct call_state has it. Empty: nothing. */
	struct str state_id;
	const char *state_kind;
	/* what it brought, where dialect_ctx.translate asks for it (chat.h) */
	struct chat_delta *deltas;
	size_t deltas_count, deltas_size;
	bool deltas_lost;		    /* there were more than CHAT_DELTAS_MAX */
	int64_t counted;		    /* count_tokens: the input's tokens */
	const struct embed_vector *vectors; /* embeddings, in the order of the inputs (embed.h) */
	size_t vectors_count;
	const struct transcript
		*transcript;	/* transcription; NULL: it was not read (transcript.h) */
	enum error_class error; /* none, or an error carried inside (HTTP 200 can be a failure) */
	struct err err;		/* words of that error, safe for the caller */
};

/* `c` builds on what a provider keeps: named once, however often it is said. RC_TOO_LARGE past CALL_STATES_MAX. */
MUST_CHECK enum rc call_state_add(struct call *c, struct arena *mem, const char *kind,
				  const char *field, struct str id);

/* What may be retried, cooled, answered: one row per class (architecture.md 5). */
struct error_policy {
	bool fall_over;	   /* try the next target */
	bool retry_same;   /* the last candidate left may be tried again */
	bool cool_model;   /* cool (profile, model) */
	bool cool_profile; /* cool the whole profile */
	bool to_caller;	   /* the caller must mend it: answer 400 */
};
const struct error_policy *error_policy(enum error_class c);

#endif
