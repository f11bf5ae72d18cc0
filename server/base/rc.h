/* server/base/rc.h - what a function that can fail returns.
 *
 * RC_OK is zero. Outputs come last and are written only on RC_OK. Words for a
 * person go once into a struct err (err.h), where the cause is first known. */
#ifndef SERVER_BASE_RC_H
#define SERVER_BASE_RC_H

#define RC_LIST(X)                                                                                 \
	X(OK)	       /* done */                                                                  \
	X(INVALID)     /* the input is wrong and will stay wrong */                                \
	X(TOO_LARGE)   /* past a named bound */                                                    \
	X(LIMIT)       /* a limit or a balance does not cover it now */                            \
	X(NOT_FOUND)   /* no such thing, or not yours */                                           \
	X(CONFLICT)    /* it exists already, or changed meanwhile */                               \
	X(DENIED)      /* authenticated, but not allowed; or authentication failed */              \
	X(UNAVAILABLE) /* a dependency is away; later may work */                                  \
	X(TIMEOUT)     /* a deadline passed */                                                     \
	X(CANCELLED)   /* the asker withdrew it */                                                 \
	X(PROTOCOL)    /* the peer broke its protocol */                                           \
	X(NETWORK)     /* connect, reset, TLS */                                                   \
	X(CORRUPT)     /* stored data does not verify */                                           \
	X(UNSUPPORTED) /* a part that is not there: refused, never faked */                        \
	X(IO)	       /* the operating system said no */

enum rc {
#define X(name) RC_##name,
	RC_LIST(X)
#undef X
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* A static lower-case name for logs, "ok", "invalid", ... Never NULL. */
const char *rc_name(enum rc rc);

/* Return the first failure of a chain of calls. */
#define TRY(expr)                                                                                  \
	do {                                                                                       \
		enum rc try_rc_ = (expr);                                                          \
		if (try_rc_ != RC_OK)                                                              \
			return try_rc_;                                                            \
	} while (0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* AUTO(buf) struct buf b = BUF_INIT(n); calls buf_clear(&b) when the scope is left. */
#define AUTO(name) __attribute__((cleanup(name##_clear)))

#endif
