/* routing/flow.h - the states of a call, in order; flow.c tells the story. */
#ifndef ROUTING_FLOW_H
#define ROUTING_FLOW_H

/* Verb starts something, -ING waits for it. */
#define FLOW_STATES(X)                                                                             \
	X(DECODE)                                                                                  \
	X(RESOLVE)                                                                                 \
	X(RESOLVING)                                                                               \
	X(FIND)                                                                                    \
	X(FINDING)                                                                                 \
	X(PLAN)                                                                                    \
	X(TARGET)                                                                                  \
	X(ENCODE)                                                                                  \
	X(AUTHORISE)                                                                               \
	X(AUTHORISING)                                                                             \
	X(OPEN)                                                                                    \
	X(OPENING)                                                                                 \
	X(SEND)                                                                                    \
	X(RELAYING)                                                                                \
	X(SETTLE)                                                                                  \
	X(SETTLING)                                                                                \
	X(ANSWER)                                                                                  \
	X(REFUSE)                                                                                  \
	X(DONE)

enum flow_state {
	FLOW_WAIT = -1, /* not a state: nothing to do until a callback comes */
#define X(name) FLOW_##name,
	FLOW_STATES(X)
#undef X
		FLOW_STATE_COUNT
};

/* Why it ended: logged and counted. */
#define FLOW_ENDS(X)                                                                               \
	X(answered)                                                                                \
	X(refused)     /* the caller's input, key or purse */                                      \
	X(no_target)   /* nobody could be asked */                                                 \
	X(failed)      /* everybody who was asked failed */                                        \
	X(cut)	       /* failed after the first content */                                        \
	X(revoked)     /* its key, org or profile was taken away while it ran */                   \
	X(deadline)    /* the call's time was up */                                                \
	X(client_gone) /* the caller left; what was used is still booked */                        \
	X(unbooked)    /* the booking did not come through in time; it goes on behind */           \
	X(stopped)     /* the process ends */
enum flow_end {
#define X(name) FLOW_END_##name,
	FLOW_ENDS(X)
#undef X
};

#endif
