-- 0021_config_budget_put: a budget of a document is looked up alone. It had the whole org's configuration made for each,
-- and a hundred of them in an org of ten thousand profiles took longer than a batch may.

CREATE OR REPLACE FUNCTION config_budget_put(p_name text, p_fields jsonb, p_id uuid, p_actor jsonb, p_request_id text) RETURNS jsonb
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

-- down
CREATE OR REPLACE FUNCTION config_budget_put(p_name text, p_fields jsonb, p_id uuid, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE was record; who text := p_fields->>'subject'; nano bigint := tg_nano('limit', p_fields->>'limit');
BEGIN
	SELECT c.id::uuid, c.fields INTO was FROM config_current() c WHERE c.kind = 'budget' AND c.name = p_name;
	IF FOUND AND was.fields - ARRAY['limit', 'hard', 'status'] = p_fields - ARRAY['limit', 'hard', 'status'] THEN
		RETURN budget_change(was.id, NULL, nano, (p_fields->>'hard')::boolean, p_fields->>'status', p_actor, p_request_id);
	END IF;
	IF was.id IS NOT NULL THEN
		PERFORM budget_delete(was.id, p_actor, p_request_id);
	END IF;
	IF p_fields->>'scope' = 'key' THEN
		SELECT k.id::text INTO who FROM config_keys() k WHERE k.name = p_fields->>'subject';
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
