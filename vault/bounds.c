/* vault/bounds.c - what an API key may further be bound to: networks, providers, billing sources; whose it is.
 *
 * Forms are checked here, as keys.c does for the rest of a key; who may grant what is decided in SQL
 * (key_bind). Provider ids are another room's: here they are words, and one that nobody has lets nothing through. */
#include "vault/cidr_priv.h"
#include "vault/vault_priv.h"

#define BOUNDS_MAX	 64 /* as the table's CHECK */
#define PROVIDER_LEN_MAX 32

static bool provider_ok(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.ptr[i] < 'a' || s.ptr[i] > 'z') && (s.ptr[i] < '0' || s.ptr[i] > '9') &&
		    s.ptr[i] != '_')
			return false;
	return s.len > 0 && s.len <= PROVIDER_LEN_MAX;
}

static bool put_network(struct json_out *spec, struct str s)
{
	char text[CIDR_TEXT_SIZE];
	struct cidr c;

	if (cidr_parse(s, &c))
		return false;
	json_put_str(spec, NULL, cidr_format(&c, text));
	return true;
}

static bool put_provider(struct json_out *spec, struct str s)
{
	if (provider_ok(s))
		json_put_str(spec, NULL, s);
	return provider_ok(s);
}

static bool put_source(struct json_out *spec, struct str s)
{
	const bool ok = str_is(s, "platform") || str_is(s, "byok") || str_is(s, "private");

	if (ok)
		json_put_str(spec, NULL, s);
	return ok;
}

/* A list of 1 to BOUNDS_MAX words; null takes the bound away, absent leaves it. */
static enum rc put_list(const struct json *body, const char *field,
			bool (*put)(struct json_out *spec, struct str s), const char *form,
			struct json_out *spec, struct err *err)
{
	const struct json *list = json_get(body, field);
	struct json_iter it = json_iter(list);
	struct json *one;
	struct str s;

	if (!list)
		return RC_OK;
	if (json_is_null(list)) {
		json_put_null(spec, field);
		return RC_OK;
	}
	if (json_type(list) != JSON_ARRAY || json_len(list) == 0 || json_len(list) > BOUNDS_MAX)
		return vault_bad_field(err, field, form);
	json_arr(spec, field);
	while (json_next(&it, NULL, &one))
		if (!json_string(one, &s) || !put(spec, s))
			return vault_bad_field(err, field, form);
	json_arr_end(spec);
	return RC_OK;
}

static enum rc put_member(const struct json *body, struct json_out *spec, struct err *err)
{
	const struct json *member = json_get(body, "member");
	struct uuid id;
	struct str s;

	if (json_is_null(member))
		return RC_OK;
	if (!json_string(member, &s) || uuid_parse(s, &id) != RC_OK)
		return vault_bad_field(err, "member", "is the id of a member of this org");
	json_put_uuid(spec, "member", id);
	return RC_OK;
}

enum rc bounds_put(const struct json *body, bool make, struct json_out *spec, struct err *err)
{
	if (make)
		TRY(put_member(body, spec, err));
	TRY(put_list(
		body, "allow_from", put_network,
		"is a list of 1 to 64 networks such as 10.0.0.0/8 or fd00::/8, or null for anywhere",
		spec, err));
	TRY(put_list(body, "providers", put_provider,
		     "is a list of 1 to 64 provider ids, or null for all", spec, err));
	return put_list(body, "billing", put_source,
			"is a list of platform, byok and private, or null for all", spec, err);
}
