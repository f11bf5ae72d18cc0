-- 0016_config_budgets: budgets as a part of the document. One of a key names it by its name, as all in there is named.

CREATE OR REPLACE FUNCTION config_current() RETURNS TABLE (kind text, name text, id text, fields jsonb, masked text, made timestamptz)
LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT 'profile', p.name, p.id::text, jsonb_build_object('provider', p.provider, 'base_url', p.base_url,
		'billing_source', p.billing_source, 'models', p.models, 'priority', p.priority, 'default', p.is_default,
		'status', p.status), s.masked, p.created_at
	FROM profile p LEFT JOIN secret s ON s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'
	WHERE p.org_id = tg_org() AND p.status <> 'revoked'
	UNION ALL
	SELECT 'agent', a.name, a.name, jsonb_build_object('default_model', a.default_model, 'description', a.description,
		'status', a.status), NULL, a.created_at FROM agent a WHERE a.org_id = tg_org()
	UNION ALL
	SELECT 'route', r.name, r.name, jsonb_build_object('match', r.match, 'targets', r.targets, 'policy', r.policy), NULL,
		r.created_at FROM route r WHERE r.org_id = tg_org()
	UNION ALL
	SELECT 'key', k.name, k.id::text, k.fields, NULL, k.made FROM config_keys() k
	UNION ALL
	SELECT 'budget', b.name, b.id::text, jsonb_build_object('scope', b.scope, 'subject', CASE b.scope WHEN 'agent' THEN b.subject
		WHEN 'key' THEN (SELECT k.name FROM api_key k WHERE k.org_id = b.org_id AND k.id::text = b.subject) END,
		'limit', tg_credits(b.limit_nano), 'window', b.period, 'hard', b.hard, 'status', b.status), NULL, b.created_at
	FROM budget b WHERE b.org_id = tg_org() AND b.deleted_at IS NULL AND NOT b.of_key
$$;

-- As a document says it. What a budget is for, and its window, are what it is: another one is another budget, that
-- begins to count anew. It is looked up alone: config_current() makes the whole org's configuration.
CREATE FUNCTION config_budget_put(p_name text, p_fields jsonb, p_id uuid, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE was record; who text := p_fields->>'subject'; nano bigint := tg_nano('limit', p_fields->>'limit');
BEGIN
	SELECT b.id, jsonb_build_object('scope', b.scope, 'subject', CASE b.scope WHEN 'agent' THEN b.subject
		WHEN 'key' THEN (SELECT k.name FROM api_key k WHERE k.org_id = b.org_id AND k.id::text = b.subject) END,
		'window', b.period) AS fields INTO was
	FROM budget b WHERE b.org_id = tg_org() AND b.name = p_name AND b.deleted_at IS NULL AND NOT b.of_key;
	IF FOUND AND was.fields = p_fields - ARRAY['limit', 'hard', 'status'] THEN
		RETURN budget_change(was.id, NULL, nano, (p_fields->>'hard')::boolean, p_fields->>'status', p_actor, p_request_id);
	END IF;
	IF was.id IS NOT NULL THEN
		PERFORM budget_delete(was.id, p_actor, p_request_id);
	END IF;
	IF p_fields->>'scope' = 'key' THEN
		-- of several of this name the one that config_keys() has
		SELECT k.id::text INTO who FROM api_key k
		WHERE k.org_id = tg_org() AND k.name = p_fields->>'subject' AND k.revoked_at IS NULL AND k.replaced_by IS NULL
		ORDER BY (k.expires_at IS NULL OR k.expires_at > now()) DESC, k.id DESC LIMIT 1;
		IF NOT FOUND THEN
			PERFORM tg_raise('TG400', 'key_not_found', 'subject names the API key "' || (p_fields->>'subject')
				|| '", which this org does not have', 'make it in the same document, under keys');
		END IF;
	END IF;
	PERFORM budget_create(p_id, p_name, p_fields->>'scope', coalesce(who, ''), nano, p_fields->>'window',
		(p_fields->>'hard')::boolean, p_actor, p_request_id);
	IF p_fields->>'status' = 'disabled' THEN
		PERFORM budget_change(p_id, NULL, NULL, NULL, 'disabled', p_actor, p_request_id);
	END IF;
	RETURN '{}'::jsonb;
END $$;
GRANT EXECUTE ON FUNCTION config_budget_put(text, jsonb, uuid, jsonb, text) TO tollgate_app;

-- down
DROP FUNCTION config_budget_put(text, jsonb, uuid, jsonb, text);
CREATE OR REPLACE FUNCTION config_current() RETURNS TABLE (kind text, name text, id text, fields jsonb, masked text, made timestamptz)
LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT 'profile', p.name, p.id::text, jsonb_build_object('provider', p.provider, 'base_url', p.base_url,
		'billing_source', p.billing_source, 'models', p.models, 'priority', p.priority, 'default', p.is_default,
		'status', p.status), s.masked, p.created_at
	FROM profile p LEFT JOIN secret s ON s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'
	WHERE p.org_id = tg_org() AND p.status <> 'revoked'
	UNION ALL
	SELECT 'agent', a.name, a.name, jsonb_build_object('default_model', a.default_model, 'description', a.description,
		'status', a.status), NULL, a.created_at FROM agent a WHERE a.org_id = tg_org()
	UNION ALL
	SELECT 'route', r.name, r.name, jsonb_build_object('match', r.match, 'targets', r.targets, 'policy', r.policy), NULL,
		r.created_at FROM route r WHERE r.org_id = tg_org()
	UNION ALL
	SELECT 'key', k.name, k.id::text, k.fields, NULL, k.made FROM config_keys() k
$$;
