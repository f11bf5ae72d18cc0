/* routing/dialects/elevenlabs_priv.h - what the two ElevenLabs dialects share. Pure. */
#ifndef ROUTING_DIALECTS_ELEVENLABS_PRIV_H
#define ROUTING_DIALECTS_ELEVENLABS_PRIV_H
#include "routing/call.h"

/* The class of a failure by `detail.status` of its body, for the status alone says too little there. Words as openai_classify(). */
enum error_class elevenlabs_classify(int status, struct str body, struct arena *mem,
				     struct err *err);

#endif
