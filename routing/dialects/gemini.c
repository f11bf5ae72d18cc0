/* routing/dialects/gemini.c - the two tables of the Gemini dialect that chats, and what its files share.
 *
 * The vendor's generateContent family: model, verb and streaming stand in the path, so the dialect reads a part of its
 * request beside the body (gemini_path()). A stream is events, or one JSON array where the caller asks for that. */
#include "routing/dialects/gemini_priv.h"

#define KEY_BYTES_MAX 64

/* ---- what stands behind /v1beta/models/ ------------------------------------------------------------ */

static enum rc no_verb(struct str verb, struct err *err)
{
	err_set(err, RC_NOT_FOUND, "not_found", "There is no method %.*s of a model.",
		STR_FMT(str_slice(verb, 0, 64)));
	err_hint(err, "generateContent, streamGenerateContent, countTokens, embedContent and "
		      "batchEmbedContents are there.");
	return RC_NOT_FOUND;
}

static const struct dialect *dialect_of(struct str verb)
{
	static const struct {
		const char *verb;
		const struct dialect *dialect;
	} verbs[] = {
		{"generateContent", &dialect_gemini},
		{"streamGenerateContent", &dialect_gemini},
		{"countTokens", &dialect_gemini_count_tokens},
		{"embedContent", &dialect_gemini_embed},
		{"batchEmbedContents", &dialect_gemini_batch_embed},
	};

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (str_is(verb, verbs[i].verb))
			return verbs[i].dialect;
	return NULL;
}

enum rc gemini_path(struct str rest, struct str query_alt, struct call_head *head,
		    const struct dialect **ret_dialect, struct err *err)
{
	size_t colon = rest.len;
	struct str verb;
	bool streams;
	const struct dialect *dialect;

	while (colon > 0 && rest.ptr[colon - 1] != ':')
		colon--;
	verb = str_slice(rest, colon, rest.len);
	if (colon <= 1)
		return err_set(err, RC_NOT_FOUND, "not_found",
			       "The path names no model and method: models/{model}:{method}.");
	dialect = dialect_of(verb);
	if (!dialect)
		return no_verb(verb, err);
	streams = str_is(verb, "streamGenerateContent");
	if (query_alt.len > 0 && !str_is(query_alt, "sse") && !str_is(query_alt, "json")) {
		err_set(err, RC_INVALID, "invalid_request_error", "alt must be sse or json.");
		err_field(err, "alt");
		return RC_INVALID;
	}
	*ret_dialect = dialect;
	head->model = str_slice(rest, 0, colon - 1);
	head->stream = streams;
	head->stream_array = streams && !str_is(query_alt, "sse");
	return RC_OK;
}

/* ---- what the files share ----------------------------------------------------------------------------- */

struct json *gemini_get(const struct json *of, const char *camel)
{
	struct json *v = json_get(of, camel);
	char snake[KEY_BYTES_MAX];
	size_t n = 0;

	if (v)
		return v;
	for (const char *p = camel; *p && n + 2 < sizeof snake; p++) {
		if (*p >= 'A' && *p <= 'Z') {
			snake[n++] = '_';
			snake[n++] = (char)(*p - 'A' + 'a');
		} else {
			snake[n++] = *p;
		}
	}
	return json_get_s(of, str_of(snake, n));
}

bool gemini_camel(struct str key, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < key.len; i++) {
		const bool joint = key.ptr[i] == '_' && i + 1 < key.len && key.ptr[i + 1] >= 'a' &&
				   key.ptr[i + 1] <= 'z';

		if (n + 1 >= size)
			return false;
		i += joint;
		out[n++] = joint ? (char)(key.ptr[i] - 'a' + 'A') : key.ptr[i];
	}
	out[n] = '\0';
	return true;
}

enum rc gemini_json_text(struct arena *mem, const struct json *v, struct str *ret)
{
	AUTO(buf) struct buf out = BUF_INIT(GEMINI_JSON_MAX);
	void *p;

	TRY(json_write(v, &out));
	TRY(arena_try_alloc(mem, out.len + 1, &p));
	memcpy(p, out.ptr, out.len);
	*ret = str_of(p, out.len);
	return RC_OK;
}

/* "gemini-3-pro", "gemini-2.5-flash-lite", "gemini-flash-latest": an alias without a number is the newest. */
struct gemini_model gemini_model_of(struct str model)
{
	struct gemini_model m = {.flash = str_find_str(model, STR("flash")) >= 0};
	struct str rest = model, major = STR("");

	if (str_starts(rest, STR("models/")))
		rest = str_slice(rest, 7, rest.len);
	if (!str_starts(rest, STR("gemini-")))
		return m;
	rest = str_slice(rest, 7, rest.len);
	for (size_t n = 0; n <= rest.len; n++) {
		if (n < rest.len && rest.ptr[n] >= '0' && rest.ptr[n] <= '9')
			continue;
		major = str_slice(rest, 0, n);
		break;
	}
	m.v3 = str_ends(rest, STR("-latest")) && major.len == 0;
	if (major.len > 1 || (major.len == 1 && major.ptr[0] >= '3'))
		m.v3 = true;
	m.v25 = str_starts(rest, STR("2.5"));
	return m;
}

/* ---- the tables ------------------------------------------------------------------------------------------ */

const struct dialect dialect_gemini = {
	.name = "gemini",
	.operation = OPERATION_chat,
	.errors = ERROR_SHAPE_GEMINI,
	.keepalive = "\n", /* its Python client takes a comment for JSON and raises */
	.finish_ends = true,
	.decode_request = gemini_decode_request,
	.decode_ask = gemini_decode_ask,
	.encode_request = gemini_encode_request,
	.encode_ask = gemini_encode_ask,
	.decode_event = gemini_decode_event,
	.decode_response = gemini_decode_response,
	.classify = gemini_classify,
	.encode_event = gemini_encode_event,
	.encode_deltas = gemini_encode_deltas,
	.encode_end = gemini_encode_end,
	.encode_response = gemini_encode_response,
	.encode_error_event = gemini_encode_error_event,
};

const struct dialect dialect_gemini_count_tokens = {
	.name = "gemini_count_tokens",
	.operation = OPERATION_count_tokens,
	.errors = ERROR_SHAPE_GEMINI,
	.keepalive = "\n",
	.finish_ends = true,
	.decode_request = gemini_count_decode_request,
	.decode_ask = gemini_decode_ask,
	.encode_request = gemini_count_encode_request,
	.encode_ask = gemini_encode_ask,
	.decode_event = gemini_decode_event,
	.decode_response = gemini_count_decode_response,
	.classify = gemini_classify,
	.encode_event = gemini_encode_event,
	.encode_deltas = gemini_encode_deltas,
	.encode_end = gemini_encode_end,
	.encode_response = gemini_count_encode_response,
	.encode_error_event = gemini_encode_error_event,
};
