/* loadtest/fake.h - what the parts of the fake provider share.
 *
 * A call is read by the speaker of its dialect (speak_*.c) into a struct ask, ask.c decides what is
 * answered, and wire.c sends it piece by piece in the speaker's shapes. fake_provider.c owns the
 * connections. One thread; nothing here locks. */
#ifndef LOADTEST_FAKE_H
#define LOADTEST_FAKE_H
#include <stddef.h>
#include <yyjson.h>
#include "common.h"

#define NO	       INT64_MIN /* a number nobody told */
#define TOOLS_MAX      128	 /* defined by a request; more are not looked at */
#define TOOL_CALLS_MAX 16	 /* made by an answer */
#define STOPS_MAX      8

struct conn;
struct speaker;

/* --- plan.c: what a call is told to do ------------------------------------------------------------ */

struct plan {
	int64_t status, delay_ms, first_ms, words, chunks, chunk_ms, dribble;
	int64_t cut_after, stall_after, error_after, reasoning, cached, cache_write, tools, pad;
	int64_t cache_write_1h, audio_in, preamble, citations, searches;
	char retry_after[32], retry_after_ms[32], redirect[512], usage[128], code[64], type[64];
	char cut[8], tag[64], header[256], finish[32], id[64];
	bool no_usage, usage_always, garbage, html, error_midstream, no_done, gzip, cl_te, empty;
	bool to_close, crlf, comments, extra, no_length, text, null_content;
	bool think, refusal, blocked, failed;
};
struct plan plan_none(void);
/* name=value name=value, cut at `separator`. Unknown names are nobody's business. */
void plan_read(struct plan *p, struct span s, char separator);
void plan_read_message(struct plan *p, struct span s); /* every [[...]] of it */
/* What POST /_control said about a key or a model. */
bool rule_add(struct span body);
void rules_clear(void);
void rules_apply(struct plan *p, const char *key, const char *model);

/* --- a call ------------------------------------------------------------------------------------------ */

struct utter { /* what is said, and how far it was streamed */
	struct text text;
	int64_t words, chunks, step; /* chunks: to send, step: sent */
	size_t sent;		     /* bytes */
};

enum piece_kind { PIECE_NONE, PIECE_THOUGHTS, PIECE_WORDS, PIECE_TOOL };

struct call {
	bool active, stream, include_usage, answered;
	const struct speaker *speaker;
	const char *vendor; /* the PROVIDER_ID of the path; "": none */
	int verb;	    /* which of the speaker's endpoints */
	struct plan plan;
	char path[160], key[128], model[128], request_id[96], idempotency_key[96];
	char id[96];
	uint64_t number; /* of this call; ids are made of it */
	int64_t created, prompt_tokens, completion_tokens, choices;
	int64_t turns; /* of the conversation; ids of tool calls are made of it */
	/* how the speaker wants it */
	bool thinks;	  /* the reasoning is shown */
	bool hidden;	  /* but without its words */
	bool one_by_one;  /* parallel calls do not take turns in a stream */
	bool whole_calls; /* the arguments of a call are not cut */
	bool events;	  /* Gemini: a stream of events, not an array */
	bool later;	  /* Responses: answered as queued */
	const char *type; /* content type; NULL: JSON, or events for a stream */
	struct text head; /* more header lines */
	struct text kept; /* what the speaker has to remember until the end */
	/* of a stream: numbers of the next event and of the open block */
	int64_t event, block, block_tool;
	enum piece_kind block_kind;
	/* a request that is refused */
	char why[512], why_param[160];
	const char *why_type, *why_code;
	const char *finish; /* in OpenAI's words */
	char stop[64];	    /* the stop sequence that was met */
	struct utter thoughts, answer;
	struct tool_call {
		char name[132];
		struct utter arguments;
	} tools[TOOL_CALLS_MAX];
	int64_t tool_count;
	int64_t step, chunks; /* of a stream: pieces sent, to send */
	int status;
	size_t body_bytes;
	uint64_t began_us;
	bool head_sent, padded, ended;
};

/* The next piece of a stream. */
struct piece {
	enum piece_kind kind;
	int64_t tool; /* which of them */
	struct span bytes;
};

/* A dialect: how a call is read and how its answer is written. */
struct speaker {
	/* `root` is NULL where the body is no JSON; the call is in `c` */
	void (*read)(struct conn *c, yyjson_val *root);
	void (*plain)(struct text *t, const struct call *k);
	void (*error)(struct text *t, const struct call *k, int status);
	/* of a stream: before the first content, a piece of it, its end, an end by an error */
	void (*open)(struct conn *c);
	void (*piece)(struct conn *c, const struct piece *p);
	void (*close)(struct conn *c);
	void (*fail)(struct conn *c);
};
extern const struct speaker speak_chat, speak_anthropic, speak_gemini, speak_responses,
	speak_vectors, speak_voice;
/* The speakers' endpoints: `verb` of a call. */
enum { ANTHROPIC_MESSAGES, ANTHROPIC_COUNT };
enum { GEMINI_GENERATE, GEMINI_STREAM, GEMINI_COUNT, GEMINI_EMBED, GEMINI_EMBED_MANY };
enum { RESPONSES_CREATE, RESPONSES_COUNT, RESPONSES_GET, RESPONSES_DELETE, RESPONSES_CANCEL };
enum { VOICE_SPEECH, VOICE_TRANSCRIPTION, VOICE_ELEVEN, VOICE_ELEVEN_STREAM, VOICE_ELEVEN_TEXT };

/* --- ask.c: what a request says, and what is answered to it ---------------------------------------------- */

/* What any dialect can ask for. Everything in it is borrowed from the request but the texts. */
struct ask {
	struct text said;   /* the words of the last turn */
	struct text seen;   /* what was not words: [image 1 68 bytes image/png] */
	bool from_user;	    /* the last turn is a user's, and no tool's result */
	int64_t allowed;    /* tokens of the answer */
	bool json;	    /* a JSON text is asked for */
	yyjson_val *schema; /* that fits this one; NULL: any */
	const char *stops[STOPS_MAX];
	size_t stop_count;
	int images, documents, audios;
	struct tool {
		const char *name;
		yyjson_val *schema;
	} tools[TOOLS_MAX];
	size_t tool_count;
	bool must, must_not; /* call a tool */
	const char *forced;  /* this one */
};
void ask_clear(struct ask *a);
/* Note a picture, a document or a sound: "image", its type and its base64, or where it is. */
void ask_media(struct ask *a, const char *kind, const char *type, int64_t bytes);
void ask_media_at(struct ask *a, const char *kind, const char *where);
/* The same for a data: URI or any other address. False: a data: URI that is none. */
bool ask_media_uri(struct ask *a, const char *kind, const char *uri);
void ask_stops(struct ask *a, yyjson_val *stops); /* a text or an array of them */
void ask_tool(struct ask *a, const char *name, yyjson_val *schema);
/* Read the directives: of the model, of what was said, of the rules. call_decide() does it, too. */
void call_plan(struct call *k, const char *said);
/* Read the directives, choose the answer or the tools to call, count. Clears `a`. */
void call_decide(struct call *k, struct ask *a);
/* Refuse the request; the first reason stands. Returns false. */
bool refuse(struct call *k, int status, const char *type, const char *code, const char *param,
	    const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Count the words of `s`; the first `max` of them, one space between, go to `out` without [[...]]. */
int64_t words_of(struct span s, struct text *out, int64_t max);
/* Words of a text or of all texts of an array of parts; `text` (if any) gets the text itself. */
int64_t content_words(yyjson_val *content, struct text *text);
void said_add(struct text *said, const char *words); /* a space between */
/* The first field of `object` that is not among `names` (one space between); NULL: none. */
const char *field_unknown(yyjson_val *object, const char *names);
bool word_among(const char *word, const char *words);
bool starts_with(const char *s, const char *prefix);
bool is_json_object(const char *text); /* the arguments of a tool call, "" too */
const char *str_of(yyjson_val *object, const char *field); /* NULL: none */
/* One of the two numbers of usage=P,C, or the true one. */
void usage_number(struct text *t, const struct call *k, bool output, int64_t value);
int64_t out_words(const struct call *k); /* the tokens of the answer without its reasoning */
/* A text that only this program makes of `bytes` for this model: a signature. */
void seal(struct text *t, const struct call *k, const char *what, struct span bytes);
bool is_sealed(const struct call *k, const char *what, struct span bytes, const char *seal);
void base64_add(struct text *t, const void *bytes, size_t len);
int64_t base64_bytes(struct span s); /* how many they are; -1: it is none */
uint64_t hash_of(uint64_t seed, struct span s);
/* Whether a schema is what `strict` wants: closed objects; `required`: every property of them. */
bool schema_is_closed(yyjson_val *schema, bool required);

/* --- wire.c: an answer as bytes ------------------------------------------------------------------------------ */

struct conn {
	int fd;
	uint32_t events;
	struct text in, out, body;
	size_t out_sent;
	struct http_head head;
	struct http_body reading;
	bool in_body, close_after, reset_after, gone;
	struct call call;
	uint64_t due_us;	   /* of the timer; 0: none */
	size_t timer_at;	   /* place in the heap, from 1 */
	struct conn *next, **link; /* of all connections; of the dead ones `next` only */
};
const char *reason_of(int status);
void answer(struct conn *c, int status, const char *type, struct span body);
/* One event of a stream; `data` is cleared. `name` NULL: none. */
void stream_event(struct conn *c, const char *name, struct text *data);
void stream_bytes(struct conn *c, struct span s); /* a piece of a stream that has no events */
void call_step(struct conn *c);			  /* go on with an answer: a bounded amount of it */

/* --- between a speaker and its reader -------------------------------------------------------------------------- */

void anthropic_read(struct conn *c, yyjson_val *root);
void gemini_read(struct conn *c, yyjson_val *root);
void responses_read(struct conn *c, yyjson_val *root);
void responses_forget(void); /* all that was stored */
/* How the response ends, and the whole of it as it is in `status`: output and usage at an end only. */
const char *responses_status(const struct call *k);
void responses_body(struct text *t, const struct call *k, const char *status);

/* --- fake_provider.c -------------------------------------------------------------------------------------------- */

void timer_start(struct conn *c, int64_t ms);

#endif
