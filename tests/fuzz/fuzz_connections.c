/* tests/fuzz/fuzz_connections.c - connections.c over any YAML: no crash, and what is accepted is whole.
 *
 * Properties: every use has an endpoint that is there and a model; every endpoint has an address and a provider, and
 * wants each model once, of somebody; its patience is never more than a user's; a refusal has a code and a place. */
#include <stdlib.h>

#include "routing/connections.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_endpoint(const struct connections *c, size_t index)
{
	const struct connection_endpoint *e = &c->endpoints[index];
	size_t wanted = e->model_id.len ? 1 : 0, by = 0;

	require(e->name.len && e->provider && e->base_url.len);
	require(!(e->key_env.len && e->key_file.len));
	require(e->ask.timeout_ms >= 100 && e->ask.max_retries >= 0 && e->ask.backoff_ms >= 0);
	for (size_t i = 0; i < c->uses_count; i++) {
		if (c->uses[i].endpoint != index)
			continue;
		wanted++;
		require(e->ask.timeout_ms <= c->uses[i].tuning.timeout_ms);
		require(e->ask.max_retries <= c->uses[i].tuning.max_retries);
	}
	for (size_t i = 0; i < e->models_count; i++) {
		require(e->models[i].id.len && e->models[i].used_by_count);
		by += e->models[i].used_by_count;
		for (size_t k = 0; k < i; k++)
			require(!str_eq(e->models[i].id, e->models[k].id));
	}
	require(by == wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(64u << 20);
	struct connections c;
	struct yaml_doc *doc;
	struct err err = {0};
	enum rc rc = yaml_doc_parse(str_of(data, size), "f", mem, &doc, &err);

	if (rc == RC_OK) {
		err = (struct err){0};
		rc = connections_resolve(doc, mem, &c, &err);
		if (rc == RC_OK) {
			require(c.endpoints_count > 0);
			for (size_t i = 0; i < c.uses_count; i++)
				require(c.uses[i].endpoint < c.endpoints_count &&
					c.uses[i].model.len);
			for (size_t i = 0; i < c.endpoints_count; i++)
				check_endpoint(&c, i);
		} else {
			require(rc == RC_INVALID && err.code && !strncmp(err.message, "f:", 2));
		}
	}
	arena_free(mem);
	return 0;
}
