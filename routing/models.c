/* routing/models.c - the platform's catalogue of models, and its providers. */
#include <stdio.h>

#include "routing/errors.h"
#include "routing/routing_priv.h"
#include "server/admin.h"
#include "sql/queries.h"

#define MODELS_BYTES_MAX (8u << 20)

/* ---- the catalogue (operator) ------------------------------------------------------------------ */

void handle_model_list(struct http_request *r)
{
	admin_list(r, &sql_routing_models_list, false);
}

void handle_model_show(struct http_request *r)
{
	struct pg_batch *b;

	if (!admin_query_only(r, ""))
		return;
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_model_show);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	admin_run(r, b, 200);
}

static enum rc read_capabilities(const struct json *list, struct str out[8], size_t *count,
				 struct err *e)
{
	struct json_iter it = json_iter(list);
	struct json *item;
	uint32_t bit, seen = 0;

	*count = 0;
	if (json_type(list) != JSON_ARRAY || json_len(list) == 0 || json_len(list) > 6) {
		err_set(e, RC_INVALID, "invalid_field",
			"capabilities is not a list of capabilities");
		err_hint(e, "text, vision, audio_in, audio_out, tools, json");
		err_field(e, "capabilities");
		return RC_INVALID;
	}
	while (json_next(&it, NULL, &item)) {
		if (!json_string(item, &out[*count]) ||
		    capability_parse(out[*count], &bit) != RC_OK || (seen & bit)) {
			err_set(e, RC_INVALID, "invalid_field",
				"capabilities has an entry that is none, or stands twice");
			err_hint(e, "text, vision, audio_in, audio_out, tools, json");
			err_field(e, "capabilities");
			return RC_INVALID;
		}
		seen |= bit;
		(*count)++;
	}
	return RC_OK;
}

static bool model_id_ok(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if ((unsigned char)id.ptr[i] < 0x20 || id.ptr[i] == 0x7f)
			return false;
	return id.len > 0 && id.len <= 256;
}

void handle_model_put(struct http_request *r)
{
	struct json *body = admin_body(r, "capabilities context_window max_output");
	int64_t window = 0, max_output = 0;
	struct str caps[8];
	struct err e = {0};
	struct pg_batch *b;
	size_t n;
	enum rc rc;

	if (!body)
		return;
	rc = read_capabilities(json_get(body, "capabilities"), caps, &n, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "context_window", false, 1, INT64_C(1) << 40, &window, &e);
	if (rc == RC_OK)
		rc = admin_int(body, "max_output", false, 1, INT64_C(1) << 40, &max_output, &e);
	if (rc == RC_OK && !provider_find(r->params[0])) {
		rc = err_set(&e, RC_NOT_FOUND, "unknown_provider",
			     "there is no provider of this id");
		err_hint(&e, "GET /admin/v1/providers lists them");
	}
	if (rc == RC_OK && !model_id_ok(r->params[1]))
		rc = err_set(
			&e, RC_INVALID, "invalid_field",
			"a model id has 1 to 256 characters, none of them a control character");
	if (rc != RC_OK) {
		http_reply_err(r, rc, &e);
		return;
	}
	b = pg_batch_new();
	pg_batch_add(b, &sql_routing_model_put);
	pg_param_str(b, r->params[0]);
	pg_param_str(b, r->params[1]);
	pg_param_str_array(b, caps, n);
	if (window)
		pg_param_int(b, window);
	else
		pg_param_null(b);
	if (max_output)
		pg_param_int(b, max_output);
	else
		pg_param_null(b);
	pg_param_str(b, admin_actor(r));
	pg_param_z(b, r->id_text);
	admin_run(r, b, 200);
}

bool slice_read(struct http_request *r, struct slice *ret)
{
	struct admin_page page;
	int64_t first = 0;

	if (!admin_query_only(r, "limit cursor") || !admin_page(r, &page))
		return false;
	if (page.cursor.len && (str_to_i64(page.cursor, &first) != RC_OK || first < 0))
		return admin_refuse(r, "invalid_cursor", "cursor", "cursor is not one of ours",
				    "pass meta.next_cursor of the page before, unchanged");
	*ret = (struct slice){.first = (size_t)first, .limit = (size_t)page.limit};
	return true;
}

bool slice_takes(struct slice *s)
{
	const size_t n = s->at++;

	s->more = s->more || (s->limit && n >= s->first + s->limit);
	return !s->limit || (n >= s->first && n < s->first + s->limit);
}

void slice_reply(struct http_request *r, const struct slice *s, struct str list)
{
	AUTO(buf) struct buf meta = BUF_INIT(256);
	struct str next = STR("");

	if (s->more)
		next = arena_printf(r->mem, "%zu", s->first + s->limit);
	if (admin_meta(r->mem, next, &meta) == RC_OK)
		http_reply_data(r, 200, list, buf_str(&meta));
	else
		http_reply_err(r, RC_TOO_LARGE, NULL);
}

void handle_provider_list(struct http_request *r)
{
	AUTO(buf) struct buf out = BUF_INIT(MODELS_BYTES_MAX);
	struct slice page = {0};
	struct json_out o;

	if (!slice_read(r, &page))
		return;
	json_out_begin(&o, &out);
	json_arr(&o, NULL);
	for (const struct provider *p = providers; p->id; p++) {
		if (!slice_takes(&page))
			continue;
		json_obj(&o, NULL);
		json_put_z(&o, "id", p->id);
		json_put_z(&o, "label", p->label);
		json_put_z(&o, "base_url", p->base_url);
		json_put_bool(&o, "base_url_settable", p->base_url_settable);
		json_put_bool(&o, "secret_required", p->secret_required);
		json_put_z(&o, "key_example", p->key_example);
		json_put_z(&o, "key_page", p->key_page);
		json_put_z(&o, "dialect", p->speaks);
		json_put_bool(&o, "supported",
			      p->endpoints[0].dialect != NULL); /* calls, not connecting */
		json_arr(&o, "tests");
		json_put_z(&o, NULL, probe_action_name(PROBE_AUTH));
		json_put_z(&o, NULL, probe_action_name(PROBE_MODELS));
		if (p->text != PROVIDER_TEXT_NONE)
			json_put_z(&o, NULL, probe_action_name(PROBE_TEXT));
		if (p->voice != PROVIDER_VOICE_NONE)
			json_put_z(&o, NULL, probe_action_name(PROBE_VOICE));
		if (p->voice == PROVIDER_VOICE_ELEVENLABS)
			json_put_z(&o, NULL, probe_action_name(PROBE_VOICES));
		json_arr_end(&o);
		json_obj_end(&o);
	}
	json_arr_end(&o);
	if (json_out_end(&o) == RC_OK)
		slice_reply(r, &page, buf_str(&out));
	else
		http_reply_err(r, RC_TOO_LARGE, NULL);
}
