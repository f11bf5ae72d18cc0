/* routing/call.c - the names and the policy that stand behind struct call.
 *
 * Pure tables. A new error class or capability is a row here and nothing else. */
#include "routing/call.h"
#include <assert.h>

const char *error_class_name(enum error_class c)
{
	static const char *const names[ERROR_CLASS_COUNT] = {
#define X(name) #name,
		ERROR_CLASSES(X)
#undef X
	};

	assert((unsigned)c < ERROR_CLASS_COUNT);
	return names[c];
}

const char *operation_name(enum operation o)
{
	static const char *const names[OPERATION_COUNT] = {
#define X(name) #name,
		OPERATIONS(X)
#undef X
	};

	assert((unsigned)o < OPERATION_COUNT);
	return names[o];
}

/* architecture.md 5: who is asked next, who rests meanwhile, and who must mend it. A cooled profile rests for
 * all of its models; the sticky classes (auth, permission, quota) are about the credential, not the model. */
const struct error_policy *error_policy(enum error_class c)
{
	static const struct error_policy policies[ERROR_CLASS_COUNT] = {
		[ERROR_none] = {.fall_over = false},
		[ERROR_auth] = {.fall_over = true, .cool_profile = true},
		[ERROR_permission] = {.fall_over = true, .cool_profile = true},
		[ERROR_not_found] = {.fall_over = true, .cool_model = true},
		[ERROR_rate_limit] = {.fall_over = true, .retry_same = true, .cool_model = true},
		[ERROR_quota] = {.fall_over = true, .cool_profile = true},
		/* the next target helps only with a larger window: the flow looks at that */
		[ERROR_context_length] = {.fall_over = true, .to_caller = true},
		[ERROR_content_policy] = {.to_caller = true},
		[ERROR_invalid_request] = {.to_caller = true},
		[ERROR_timeout] = {.fall_over = true, .retry_same = true, .cool_model = true},
		[ERROR_overloaded] = {.fall_over = true, .retry_same = true, .cool_model = true},
		[ERROR_server_error] = {.fall_over = true, .retry_same = true, .cool_model = true},
		[ERROR_network] = {.fall_over = true, .retry_same = true, .cool_model = true},
		[ERROR_protocol] = {.fall_over = true, .cool_model = true},
	};

	assert((unsigned)c < ERROR_CLASS_COUNT);
	return &policies[c];
}

static const struct {
	enum capability bit;
	const char *name;
} capabilities[] = {
	{CAP_TEXT, "text"},	      {CAP_VISION, "vision"}, {CAP_AUDIO_IN, "audio_in"},
	{CAP_AUDIO_OUT, "audio_out"}, {CAP_TOOLS, "tools"},   {CAP_JSON, "json"},
};

const char *capability_name(enum capability c)
{
	for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
		if (capabilities[i].bit == c)
			return capabilities[i].name;
	assert(false && "one capability bit");
	return "";
}

enum rc capability_parse(struct str name, uint32_t *ret_bit)
{
	for (size_t i = 0; i < ARRAY_LEN(capabilities); i++) {
		if (!str_is(name, capabilities[i].name))
			continue;
		*ret_bit = (uint32_t)capabilities[i].bit;
		return RC_OK;
	}
	return RC_INVALID;
}

enum rc call_state_add(struct call *c, struct arena *mem, const char *kind, const char *field,
		       struct str id)
{
	for (size_t i = 0; i < c->states_count; i++)
		if (str_eq(c->states[i].id, id) && strcmp(c->states[i].kind, kind) == 0)
			return RC_OK;
	if (c->states_count == CALL_STATES_MAX)
		return RC_TOO_LARGE;
	if (!c->states)
		c->states = ARENA_ARRAY(mem, struct call_state, CALL_STATES_MAX);
	c->states[c->states_count++] = (struct call_state){.kind = kind, .id = id, .field = field};
	return RC_OK;
}
