/* routing/bound.h - what a call that is no chat can use at most, and what it used where its provider does not say.
 *
 * Chat is bounded by its bytes and its window (plan.c) and estimated from bytes (flow_charge.c). Embeddings have many
 * inputs in one call, each up to a window; speech is priced by characters at one model and by tokens at another;
 * transcription by tokens or by time. Pure. Any thread. */
#ifndef ROUTING_BOUND_H
#define ROUTING_BOUND_H
#include "billing/price.h"
#include "routing/call.h"

struct model_info;

/* Is it one of the operations that this file speaks for? */
bool bound_is_for(const struct call *c);
/* The most it can use at a model of `info` (NULL: not in the catalogue). */
void bound_of_call(const struct call *c, const struct model_info *info, struct price_bound *ret);
/* Fills `u`, which nobody stated, in the classes that `price` (NULL: none) has. `got` are the bytes that came back.
 * True: exact, for it is counted by what the request itself shows; else flagged as an estimate. */
bool bound_estimate(const struct call *c, const struct price_model *price, int64_t got,
		    struct usage *u);
/* The tokens that inputs of so many bytes are taken for: what an answer tells where its provider does not. */
int64_t bound_tokens_of_bytes(int64_t bytes);
/* Cuts what is over the bound, and flags it: the hold was made for no more. */
void bound_clamp(const struct price_bound *b, struct usage *u);

#endif
