/* routing/dialect.h - a wire language: one table of pure functions, used on the caller's side and the
 * provider's. Same dialect on both sides is the fast path: bytes pass through, only what must change is
 * changed. Two dialects of one operation meet in what stands between them (chat.h for calls that chat). Nothing
 * in here does I/O, reads a clock, logs, or allocates outside the arena it is given. */
#ifndef ROUTING_DIALECT_H
#define ROUTING_DIALECT_H
#include "routing/call.h"
#include "routing/chat.h"
#include "routing/embed.h"
#include "routing/speech.h"
#include "routing/transcript.h"
#include "routing/sse.h"

struct provider;

struct dialect_target { /* what the target needs to be asked */
	const struct provider *provider;
	const struct dialect *dialect; /* of the endpoint that is asked */
	struct str model;	       /* upstream's own id */
	int64_t max_output_cap; /* injected when the caller set no maximum, so that the hold's bound is true; 0: none known */
	int64_t max_output_known; /* the catalogue's, for a dialect that must always name one; 0: not known */
	bool stateless; /* it refused reasoning that the caller kept as not its own: none of it goes there */
};

/* What was asked, read whole, for a target of another dialect. One member by operation. */
struct ask {
	enum operation operation;
	struct chat chat;   /* chat, count_tokens */
	struct embed embed; /* embeddings */
	struct speech speech;
	struct transcribe transcribe;
};

/* A request on its way to a provider. */
struct outgoing {
	struct buf *body; /* appended to */
	/* Instead of `body`, of a large one that passes (outgoing_pass()): slices of the caller's bytes and of `mem`. */
	const struct str *pieces;
	size_t pieces_count; /* 0: `body` */
	struct str
		path; /* the endpoint's, its {model} filled in; a dialect may replace it (in `mem`) */
	struct str content_type;   /* "application/json" unless the dialect says otherwise */
	struct chat_losses losses; /* what had to be left out */
};

/* What the head of a good answer says beside its type. */
struct dialect_head {
	struct str character_cost, character_count; /* as sent; len 0: absent */
};

/* Who writes a body anew reserves what the caller's has, and this: grown bit by bit a large one would stand there twice
 * at each step. */
#define OUTGOING_SLACK 4096

/* For encode_request(): the caller's body with `edits` of its top level, all else byte for byte. A large one is not
 * copied; what is edited is. `c->body` may be NULL where `n` is 0. RC_TOO_LARGE: past the cap of `out->body`. */
MUST_CHECK enum rc outgoing_pass(const struct call *c, const struct json_edit *edits, size_t n,
				 struct arena *mem, struct outgoing *out);

/* State of one attempt's answer. Zeroed but for the first block when the attempt begins. */
struct dialect_ctx {
	/* Scratch: the parsed event and the strings of its facts. Nothing outlives its event, so a long stream
	 * may give a fresh arena from time to time. */
	struct arena *mem;
	struct arena *
		keep; /* lives as long as the attempt: for `reader` and `writer` and what they gather */
	const struct call *call;
	const struct dialect_target *target;
	struct str
		id; /* of the call, letters, digits and hyphens: what ids of our own are made from */
	int64_t created_s; /* when the attempt began, wall clock */
	bool translate;	   /* the caller's dialect is another: facts need their deltas */
	/* Of the whole answer as the caller gets it, where it is not application/json; static. By who decodes or encodes it. */
	const char *answer_type;

	int finished_choices;
	bool saw_error;
	void *reader; /* the provider's dialect keeps here what spans events; in `keep`; NULL at first */
	void *writer; /* the caller's dialect, the same */
};

struct dialect {
	const char *name; /* "openai_chat" */
	enum operation operation;
	enum error_shape errors;
	const char *keepalive; /* for a stream that has nothing to say */
	bool finish_ends; /* its streams end with the last finish; else only with their terminal event */
	const char *
		terminator; /* what stands behind such a stream: added where a provider left it out; NULL: nothing */
	/* Its answer may be bytes of one of these types, relayed as they come (a stream that has no events); ends with NULL. NULL:
	 * never. What the caller is told of the type is one of these words and nothing that a provider made up. */
	const char *const *media;

	/* ---- the caller's request ---- */
	/* What decides routing, money and the size of the answer, read strictly. RC_INVALID with code, words, hint, field in
	 * `err`. `head` is what stands beside the body. `body` outlives `mem` and does not change: the tree may
	 * point into it. */
	enum rc (*decode_request)(const struct call_head *head, struct str body, struct arena *mem,
				  struct call *ret, struct err *err);
	/* All of it, for a target of another dialect: RC_INVALID as above, RC_TOO_LARGE past the bounds of chat.h. NULL: this
	 * dialect is never translated. */
	enum rc (*decode_ask)(const struct call *c, struct arena *mem, struct ask *ret,
			      struct err *err);
	/* ---- the request to a provider ---- */
	/* The caller's own bytes, for a target of the same dialect. Changes `model`, injects usage and maximum output, takes
	 * out state that another provider made (CHAT_OPAQUE_MARK) and what this provider would refuse the whole request
	 * for; all else passes through. RC_UNSUPPORTED, RC_INVALID: as encode_ask(). */
	enum rc (*encode_request)(const struct call *c, const struct dialect_target *t,
				  struct arena *mem, struct outgoing *out, struct err *err);
	/* In this dialect what was asked in another. RC_UNSUPPORTED: it has no words for a field that `err` names
	 * (chat_cannot()). RC_INVALID: what was asked makes no sense anywhere. NULL: nothing is translated to it. */
	enum rc (*encode_ask)(const struct call *c, const struct ask *ask,
			      const struct dialect_target *t, struct arena *mem,
			      struct outgoing *out, struct err *err);

	/* ---- the provider's answer ---- */
	/* The head of a good answer, before any of its body: usage that stands there. NULL: nothing does. */
	void (*decode_head)(struct dialect_ctx *ctx, const struct dialect_head *h,
			    struct facts *ret);
	/* One event of a stream. RC_PROTOCOL: not JSON, or of the wrong shape. Deltas only where ctx->translate. */
	enum rc (*decode_event)(struct dialect_ctx *ctx, const struct sse_event *ev,
				struct facts *ret);
	/* An answer that is not streamed. */
	enum rc (*decode_response)(struct dialect_ctx *ctx, struct str body, struct facts *ret);
	/* A failure: class by in-band markers, then code, type, status. `err` gets the provider's words where the
	 * caller may see them, and retry_after_s where the body says how long. `body` may be HTML or empty. */
	enum error_class (*classify)(int status, struct str body, struct arena *mem,
				     struct err *err);

	/* Is this refusal one of reasoning that another provider of this dialect made? What passes as it is does not say whose it
	 * is, so only who reads it can tell. `said` is what classify() gave. NULL: never. */
	bool (*refuses_state)(const struct err *said);

	/* ---- the answer to the caller ---- */
	/* The event of a provider of this dialect as the caller gets it: its own bytes, or nothing (stripped usage). */
	enum rc (*encode_event)(struct dialect_ctx *ctx, const struct sse_event *ev,
				const struct facts *f, struct buf *out);
	/* What the deltas of one event are in this dialect, zero or more whole events. Finishes are remembered, not written. */
	enum rc (*encode_deltas)(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
	/* Bytes of `media` for a caller of this dialect who asked for events. NULL: there are none. */
	enum rc (*encode_bytes)(struct dialect_ctx *ctx, struct str bytes, struct buf *out);
	/* The end of a stream that was translated: finish, `usage` (not present: nobody said), terminal event. */
	enum rc (*encode_end)(struct dialect_ctx *ctx, const struct usage *usage, struct buf *out);
	/* Does this dialect ask its own providers for another form than the caller's, so that the answer is written anew with
	 * encode_response() although nothing is translated? NULL: never. */
	bool (*rewrites)(const struct call *c);
	/* A whole answer for a caller who asked for events, complete. NULL: such an answer is a broken protocol. */
	enum rc (*encode_whole)(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
	/* A whole translated answer. */
	enum rc (*encode_response)(struct dialect_ctx *ctx, const struct facts *f, struct buf *out);
	/* An error after the stream began, as the dialect's own error event. */
	enum rc (*encode_error_event)(const struct err *e, struct str tollgate_json,
				      struct buf *out);
};
extern const struct dialect dialect_openai_chat;
extern const struct dialect dialect_anthropic_messages, dialect_anthropic_count_tokens;
extern const struct dialect dialect_gemini, dialect_gemini_count_tokens;

/* What follows /v1beta/models/ in a caller's path, percent-decoded: "gemini-3-pro:streamGenerateContent"; the model runs to
 * the last colon. `query_alt` is the query's alt, "sse" or "json"; ptr NULL: none. Fills model, stream and stream_array of
 * `head`, borrowed from `rest`. RC_NOT_FOUND: no such method; RC_INVALID: another alt. */
MUST_CHECK enum rc gemini_path(struct str rest, struct str query_alt, struct call_head *head,
			       const struct dialect **ret_dialect, struct err *err);
extern const struct dialect dialect_openai_responses;
extern const struct dialect dialect_openai_input_tokens;
extern const struct dialect dialect_openai_embeddings;
extern const struct dialect dialect_gemini_embed, dialect_gemini_batch_embed;
extern const struct dialect dialect_openai_speech, dialect_openai_transcription;
extern const struct dialect dialect_elevenlabs_speech, dialect_elevenlabs_transcription;

#endif
