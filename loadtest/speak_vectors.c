/* loadtest/speak_vectors.c - embeddings in OpenAI's shape, which most others took over.
 *
 * A vector follows from its text alone; each value is a multiple of 1/1024, so that a float and its text are
 * the same number. A token that was given as a number counts as one. */
#include <string.h>
#include "fake.h"

#define DIMENSIONS     8 /* of a vector nobody told the size of */
#define DIMENSIONS_MAX 4096
#define INPUTS_MAX     2048

static const char openai_fields[] = "model input encoding_format dimensions user";
static const char mistral_fields[] =
	"model input metadata output_dimension output_dtype encoding_format";

static double value_of(struct span text, int64_t i)
{
	return (double)((int64_t)(hash_of((uint64_t)i, text) % 2049) - 1024) / 1024;
}

static void vector_add(struct text *t, struct span text, int64_t dimensions, bool base64)
{
	struct text bytes = {0};

	for (int64_t i = 0; i < dimensions; i++) {
		float f = (float)value_of(text, i);

		if (base64) /* little-endian, as all the machines are that this runs on */
			text_add(&bytes, (const char *)&f, sizeof(f));
		else
			text_f(t, "%s%.10g", i > 0 ? "," : "[", value_of(text, i));
	}
	if (base64) {
		text_z(t, "\"");
		base64_add(t, bytes.at, bytes.len);
		text_z(t, "\"");
	} else {
		text_z(t, "]");
	}
	text_clear(&bytes);
}

static void input_add(struct call *k, yyjson_val *input, int64_t dimensions, bool base64)
{
	struct text said = {0};

	if (yyjson_is_str(input)) {
		k->prompt_tokens += content_words(input, &said);
	} else {
		char *json = yyjson_val_write(input, 0, NULL);

		k->prompt_tokens += (int64_t)yyjson_arr_size(input);
		text_z(&said, json != NULL ? json : "");
		free(json);
	}
	text_f(&k->kept,
	       "%s{\"object\":\"embedding\",\"index\":%lld,\"embedding\":", k->turns > 0 ? "," : "",
	       (long long)k->turns);
	vector_add(&k->kept, (struct span){said.at != NULL ? said.at : "", said.len}, dimensions,
		   base64);
	text_z(&k->kept, "}");
	k->turns++;
	if (k->turns == 1)
		call_plan(k, said.at != NULL ? said.at : "");
	text_clear(&said);
}

static bool fields_are_good(struct call *k, yyjson_val *root)
{
	bool mistral = strcmp(k->vendor, "mistral") == 0;
	const char *format = str_of(root, "encoding_format");
	const char *unknown = NULL;

	if (mistral)
		unknown = field_unknown(root, mistral_fields);
	else if (word_among(k->vendor, "openai azure_openai"))
		unknown = field_unknown(root, openai_fields);
	if (unknown != NULL && mistral)
		return refuse(k, 422, "extra_forbidden", NULL, unknown,
			      "Extra inputs are not permitted");
	if (unknown != NULL)
		return refuse(k, 400, "invalid_request_error", "unknown_parameter", unknown,
			      "Unknown parameter: '%s'.", unknown);
	if (k->model[0] == 0)
		return refuse(k, 400, "invalid_request_error", "missing_required_parameter",
			      "model", "you must provide a model parameter");
	if (format != NULL && !word_among(format, "float base64"))
		return refuse(k, 400, "invalid_request_error", "invalid_value", "encoding_format",
			      "Invalid value for 'encoding_format'.");
	return true;
}

static bool inputs_read(struct call *k, yyjson_val *root)
{
	yyjson_val *input = yyjson_obj_get(root, "input");
	yyjson_val *size = yyjson_obj_get(
		root, strcmp(k->vendor, "mistral") == 0 ? "output_dimension" : "dimensions");
	const char *format = str_of(root, "encoding_format");
	bool base64 = format != NULL && strcmp(format, "base64") == 0;
	int64_t n = yyjson_is_int(size) ? yyjson_get_sint(size) : DIMENSIONS;
	yyjson_val *one;
	size_t i, max;

	if (n < 1 || n > DIMENSIONS_MAX)
		return refuse(k, 400, "invalid_request_error", "invalid_value", "dimensions",
			      "Invalid value for 'dimensions'.");
	if ((!yyjson_is_str(input) || yyjson_get_len(input) == 0) &&
	    (yyjson_arr_size(input) == 0 || yyjson_arr_size(input) > INPUTS_MAX))
		return refuse(k, 400, "invalid_request_error", "invalid_value", "input",
			      "'$.input' is invalid. Please check the API reference.");
	if (yyjson_is_str(input) || yyjson_is_int(yyjson_arr_get_first(input))) {
		input_add(k, input, n, base64);
		return true;
	}
	yyjson_arr_foreach(input, i, max, one)
	{
		if (!yyjson_is_str(one) && !yyjson_is_arr(one))
			return refuse(k, 400, "invalid_request_error", "invalid_value", "input",
				      "'$.input' is invalid. Please check the API reference.");
		input_add(k, one, n, base64);
	}
	return true;
}

static void vectors_read(struct conn *c, yyjson_val *root)
{
	struct call *k = &c->call;
	const char *model = str_of(root, "model");

	span_copy(span_z(model != NULL ? model : ""), k->model, sizeof(k->model));
	if (fields_are_good(k, root))
		(void)inputs_read(k, root);
}

static void plain_body(struct text *t, const struct call *k)
{
	text_z(t, "{\"object\":\"list\",\"data\":[");
	text_add(t, k->kept.at, k->kept.len);
	text_z(t, "],\"model\":");
	text_json(t, k->model, strlen(k->model));
	if (!k->plan.no_usage) {
		text_z(t, ",\"usage\":{\"prompt_tokens\":");
		usage_number(t, k, false, k->prompt_tokens);
		text_f(t, ",\"total_tokens\":%lld}", (long long)k->prompt_tokens);
	}
	text_z(t, "}");
}

static void error_body(struct text *t, const struct call *k, int status)
{
	speak_chat.error(t, k, status);
}

const struct speaker speak_vectors = {
	.read = vectors_read,
	.plain = plain_body,
	.error = error_body,
};
