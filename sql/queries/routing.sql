-- name: routing_snapshot
-- An org's whole routing picture. Runs in the org's own transaction.
-- out: picture jsonb; no row when the org does not exist
SELECT routing_snapshot() || routing_snapshot_agents() || routing_snapshot_tiers();

-- name: routing_catalogue
-- out: provider text, id text, capabilities text (comma list), context_window bigint, max_output bigint
SELECT provider, id, array_to_string(capabilities, ','), coalesce(context_window, 0), coalesce(max_output, 0)
FROM model ORDER BY provider, id;

-- name: routing_models_list
-- in:  $1 limit bigint, $2 cursor text ("provider/id" of the last one seen, or empty)
-- out: models jsonb, meta members text
WITH page AS (
	SELECT m, m.provider || '/' || m.id AS k FROM model m
	WHERE $2 = '' OR m.provider || '/' || m.id > $2 ORDER BY m.provider || '/' || m.id LIMIT $1::bigint + 1
), shown AS (SELECT * FROM page ORDER BY k LIMIT $1::bigint)
SELECT coalesce((SELECT jsonb_agg(model_json(m) ORDER BY k) FROM shown), '[]'::jsonb),
	CASE WHEN (SELECT count(*) FROM page) > $1::bigint THEN (SELECT max(k) FROM shown) END;

-- name: routing_model_show
-- in: $1 provider text, $2 id text
SELECT model_json(m) FROM model m WHERE m.provider = $1 AND m.id = $2;

-- name: routing_model_put
-- in: $1 provider, $2 id, $3 capabilities text[], $4 context_window bigint, $5 max_output bigint, $6 actor jsonb, $7 request_id
SELECT model_put($1, $2, $3::text[], $4::bigint, $5::bigint, $6::jsonb, $7);

-- name: routing_profiles_list
-- in:  $1 limit bigint, $2 cursor text (id of the last one seen, or empty)
-- out: profiles jsonb, last id text or NULL
WITH page AS (
	SELECT p FROM profile p WHERE p.org_id = tg_org()
		AND p.id < coalesce(tg_cursor_uuid($2), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
	ORDER BY p.id DESC LIMIT $1::bigint + 1
), shown AS (SELECT p FROM page ORDER BY (p).id DESC LIMIT $1::bigint)
SELECT coalesce((SELECT jsonb_agg(profile_json(p) ORDER BY (p).id DESC) FROM shown), '[]'::jsonb),
	CASE WHEN (SELECT count(*) FROM page) > $1::bigint THEN (SELECT (p).id::text FROM shown ORDER BY (p).id LIMIT 1) END;

-- name: routing_profile_show
-- in: $1 id or name
SELECT profile_json(profile_get($1));

-- name: routing_profile_create
SELECT profile_create($1::uuid, $2, $3, $4, $5, $6::text[], $7::int, $8::boolean, $9::bytea, $10, $11, $12::text[], $13::jsonb, $14::jsonb, $15);

-- name: routing_profile_change
-- in: $1 id or name, $2 name, $3 models text[], $4 priority int, $5 default bool, $6 status, $7 base_url, $8 actor, $9 request_id; NULL leaves as is
SELECT profile_change($1, $2, $3::text[], $4::int, $5::boolean, $6, $7, $8::jsonb, $9);

-- name: routing_profile_secret_version
-- out: profile_id uuid, next_version bigint, provider text, base_url text
SELECT profile_id, next_version, provider, base_url FROM profile_secret_version($1);

-- name: routing_profile_rotate
-- in: $1 id uuid, $2 row_version, $3 base_url, $4 sealed, $5 masked, $6 fingerprint, $7 listed text[], $8 health jsonb, $9 actor, $10 request_id
SELECT profile_rotate($1::uuid, $2::bigint, $3, $4::bytea, $5, $6, $7::text[], $8::jsonb, $9::jsonb, $10);

-- name: routing_profile_open
-- A profile and its sealed secret, for a test.
-- in:  $1 id or name
-- out: id uuid, provider, base_url, status text, models jsonb, listed jsonb, row_version bigint (0: no secret), sealed bytea
SELECT p.id, p.provider, p.base_url, p.status, to_jsonb(p.models), to_jsonb(p.listed), coalesce(s.row_version, 0), s.sealed
FROM profile_get($1) p LEFT JOIN secret s ON s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key';

-- name: routing_profile_revoke
SELECT profile_revoke($1, $2::jsonb, $3);

-- name: routing_profile_tested
-- in: $1 id uuid, $2 row_version, $3 action, $4 health jsonb or NULL, $5 listed text[] or NULL, $6 result, $7 actor, $8 request_id
SELECT profile_tested($1::uuid, $2::bigint, $3, $4::jsonb, $5::text[], $6, $7::jsonb, $8);

-- name: routing_profile_refused
-- in: $1 action, $2 object, $3 reason, $4 actor, $5 request_id
SELECT profile_refused($1, $2, $3, $4::jsonb, $5);

-- name: routing_credential_take
-- One operation of the hour's, or the refusal that ends the batch.
-- in: $1 kind ("update", "test", "read"), $2 actor jsonb, $3 limit bigint
SELECT credential_take($1, $2::jsonb, $3::bigint);

-- name: routing_routes_list
-- Newest first.
-- in:  $1 limit bigint, $2 cursor text (the last one's key, or empty)
WITH keyed AS (
	SELECT r, (to_char(r.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || ' ' || r.name) COLLATE "C" AS k
	FROM route r WHERE r.org_id = tg_org()
), page AS (
	SELECT r, k FROM keyed WHERE $2 = '' OR k < $2 ORDER BY k DESC LIMIT $1::bigint + 1
), shown AS (SELECT r, k FROM page ORDER BY k DESC LIMIT $1::bigint)
SELECT coalesce((SELECT jsonb_agg(route_json(r) ORDER BY k DESC) FROM shown), '[]'::jsonb),
	CASE WHEN (SELECT count(*) FROM page) > $1::bigint THEN (SELECT min(k) FROM shown) END;

-- name: routing_route_show
SELECT route_json(r) FROM route r WHERE r.org_id = tg_org() AND r.name = $1;

-- name: routing_route_put
SELECT route_put($1, $2::jsonb, $3::jsonb, $4::jsonb, $5::jsonb, $6);

-- name: routing_route_delete
SELECT route_delete($1, $2::jsonb, $3);

-- name: routing_cooldown_set
-- in: $1 profile uuid, $2 model text, $3 class text, $4 retry_after_s bigint, $5 row_version of the secret that failed bigint
SELECT cooldown_set($1::uuid, $2, $3, $4::bigint, $5::bigint);

-- name: routing_cooldown_clear
SELECT cooldown_clear($1::uuid, $2);

-- name: routing_org_funds
-- What explain needs to know of the purse: the balance, and the least that a hard budget of the org or the agent leaves.
-- in:  $1 agent text or NULL
-- out: available bigint (nano), left bigint (nano; NULL: no such budget); no row when the org has no balance
SELECT h.available, (SELECT min(b.limit_nano - coalesce(c.spent, 0) - coalesce(c.held, 0))
	FROM budget_subject s JOIN budget b ON b.org_id = s.org_id AND b.id = s.budget_id AND b.hard AND b.status = 'active'
	LEFT JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
		AND c.window_start = budget_window_start(b.period, now())
	WHERE s.org_id = h.org_id AND (s.scope, s.subject) IN (('org', ''), ('agent', $1::text)))
FROM org_head h WHERE h.org_id = tg_org();

-- name: routing_org
-- The id behind a slug, in the org's own transaction.
-- out: org_id uuid
SELECT tg_org();

-- name: routing_agents_list
-- Newest first.
-- in:  $1 limit bigint, $2 cursor text (the last one's key, or empty)
WITH keyed AS (
	SELECT a, (to_char(a.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || ' ' || a.name) COLLATE "C" AS k
	FROM agent a WHERE a.org_id = tg_org()
), page AS (
	SELECT a, k FROM keyed WHERE $2 = '' OR k < $2 ORDER BY k DESC LIMIT $1::bigint + 1
), shown AS (SELECT a, k FROM page ORDER BY k DESC LIMIT $1::bigint)
SELECT coalesce((SELECT jsonb_agg(agent_json(a) ORDER BY k DESC) FROM shown), '[]'::jsonb),
	CASE WHEN (SELECT count(*) FROM page) > $1::bigint THEN (SELECT min(k) FROM shown) END;

-- name: routing_agent_show
SELECT agent_json(a) FROM agent a WHERE a.org_id = tg_org() AND a.name = $1;

-- name: routing_agent_put
-- in: $1 name, $2 default_model, $3 description, $4 status, $5 actor jsonb, $6 request_id
SELECT agent_put($1, $2, $3, $4, $5::jsonb, $6);

-- name: routing_agent_delete
SELECT agent_delete($1, $2::jsonb, $3);

-- name: routing_tiers_list
-- Newest first.
-- in:  $1 limit bigint, $2 cursor text (the last one's key, or empty)
WITH keyed AS (
	SELECT t, (to_char(t.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS') || ' ' || t.tier) COLLATE "C" AS k FROM tier t
), page AS (
	SELECT t, k FROM keyed WHERE $2 = '' OR k < $2 ORDER BY k DESC LIMIT $1::bigint + 1
), shown AS (SELECT t, k FROM page ORDER BY k DESC LIMIT $1::bigint)
SELECT coalesce((SELECT jsonb_agg(tier_json(t) ORDER BY k DESC) FROM shown), '[]'::jsonb),
	CASE WHEN (SELECT count(*) FROM page) > $1::bigint THEN (SELECT min(k) FROM shown) END;

-- name: routing_tier_show
SELECT tier_json(t) FROM tier t WHERE t.tier = $1;

-- name: routing_tier_put
-- in: $1 name, $2 label, $3 byok bool, $4 private bool, $5 max_profiles int, $6 max_api_keys int, $7 actor jsonb, $8 request_id
SELECT tier_put($1, $2, $3::boolean, $4::boolean, $5::int, $6::int, $7::jsonb, $8);

-- name: routing_tier_delete
SELECT tier_delete($1, $2::jsonb, $3);

-- name: routing_tier_profile_check
-- Refuses where the org's tier allows no further profile that is billed so.
-- in: $1 billing source
SELECT tier_profile_check($1);

-- name: routing_config_secrets
-- What stands of the profiles that a document names, for the comparison of their secrets.
-- in:  $1 names text[]
-- out: name, id uuid, base_url, row_version bigint (0: no secret), sealed bytea
SELECT p.name, p.id, p.base_url, coalesce(s.row_version, 0), s.sealed
FROM profile p LEFT JOIN secret s ON s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'
WHERE p.org_id = tg_org() AND p.status <> 'revoked' AND p.name = ANY ($1::text[]);

-- name: routing_config_org
-- out: org_id uuid, version bigint
SELECT org_id, version FROM org WHERE org_id = tg_org();

-- name: routing_config_plan
-- in: $1 what is wanted jsonb, $2 org as the document names it or NULL, $3 managed_by, $4 prune bool
SELECT config_plan($1::jsonb, $2, $3, $4::boolean);

-- name: routing_config_begin
-- in: $1 version bigint
SELECT config_begin($1::bigint);

-- name: routing_config_end
-- in: $1 the plan's actions jsonb, $2 managed_by, $3 actor jsonb, $4 request_id
-- out: version bigint
SELECT config_end($1::jsonb, $2, $3::jsonb, $4);

-- name: routing_config_budget_put
-- in: $1 name, $2 fields jsonb, $3 id of a new one uuid, $4 actor jsonb, $5 request_id
SELECT config_budget_put($1, $2::jsonb, $3::uuid, $4::jsonb, $5);

-- name: routing_standing
-- Which of these running calls, of any org, may not go on.
-- in:  $1 callers' orgs uuid[], $2 their keys uuid[], $3 owners of the profiles uuid[], $4 profiles uuid[] (zero: nobody is
--      being asked), $5 sent with a secret bigint[] (0, 1)
-- out: n bigint (from 1), verdict text: key, org, profile
SELECT n, verdict FROM calls_standing($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[]);

-- name: routing_state_find
-- in:  $1 id hashes bytea[]
-- out: n bigint (from 1, the place in $1), profile_id uuid; no row for what is not known
SELECT a.n, s.profile_id FROM unnest($1::bytea[]) WITH ORDINALITY a (id_hash, n)
JOIN provider_state s ON s.org_id = tg_org() AND s.id_hash = a.id_hash;

-- name: routing_state_keep
-- in: $1 id hash bytea, $2 profile uuid
SELECT provider_state_keep($1::bytea, $2::uuid);
