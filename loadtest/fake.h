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
	char retry_after[32], retry_after_ms[32], redirect[512], usage[128], code[64], type[64];
	char cut[8], tag[64], header[256], finish[32], id[64];
	bool no_usage, usage_always, garbage, html, error_midstream, no_done, gzip, cl_te, empty;
	bool to_close, crlf, comments, extra, no_length, text, null_content;
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

struct call {
	bool active, stream, include_usage, answered;
	const struct speaker *speaker;
	struct plan plan;
	char path[64], key[128], model[128], request_id[96], idempotency_key[96];
	char id[96];
	int64_t created, prompt_tokens, completion_tokens, choices;
	const char *finish;
	struct utter answer;
	struct tool_call {
		char name[72];
		struct utter arguments;
	} tools[TOOL_CALLS_MAX];
	int64_t tool_count;
	int64_t step, chunks; /* of a stream: pieces sent, to send */
	int status;
	size_t body_bytes;
	uint64_t began_us;
	bool head_sent, ended;
};

/* The next piece of a stream. */
struct piece {
	enum { PIECE_WORDS, PIECE_TOOL } kind;
	int64_t tool; /* which of them */
	struct span bytes;
};

/* A dialect: how a call is read and how its answer is written. */
struct speaker {
	void (*read)(struct call *k, yyjson_val *root);
	void (*plain)(struct text *t, const struct call *k);
	void (*error)(struct text *t, const struct call *k, int status);
	/* of a stream: before the first content, a piece of it, its end, an end by an error */
	void (*open)(struct conn *c);
	void (*piece)(struct conn *c, const struct piece *p);
	void (*close)(struct conn *c);
	void (*fail)(struct conn *c);
};
extern const struct speaker speak_chat;

/* --- ask.c: what a request says, and what is answered to it ---------------------------------------------- */

/* What any dialect can ask for. Everything in it is borrowed from the request but `said`. */
struct ask {
	struct text said; /* the words of the last turn */
	bool from_user;	  /* it is a user's, and no tool's result */
	int64_t allowed;  /* tokens of the answer */
	bool json;	  /* a JSON text is asked for */
	struct tool {
		const char *name;
		yyjson_val *schema;
	} tools[TOOLS_MAX];
	size_t tool_count;
	bool must, must_not; /* call a tool */
	const char *forced;  /* this one */
};
/* Count the words of `s`; the first `max` of them, one space between, go to `out` without [[...]]. */
int64_t words_of(struct span s, struct text *out, int64_t max);
/* Words of a text or of all texts of an array of parts; `text` (if any) gets the text itself. */
int64_t content_words(yyjson_val *content, struct text *text);
/* Read the directives, choose the answer or the tools to call, count. Ends with `ask` cleared. */
void call_decide(struct call *k, struct ask *a);

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
/* One event of a stream; `data` is cleared. */
void stream_event(struct conn *c, struct text *data);
void call_step(struct conn *c); /* go on with an answer: a bounded amount of it */

/* --- fake_provider.c -------------------------------------------------------------------------------------------- */

void timer_start(struct conn *c, int64_t ms);

#endif
