-- 0014_org_config: an org's configuration as one document: the difference to what stands, and one transaction that
-- makes it so. The writing is done by the functions that the single endpoints use; here is what stands around them.

-- What an apply has written, and for which document: what `prune` may take away. A mark speaks of the thing that
-- stood when it was made: one that was deleted and made again by hand is younger than its mark.
CREATE TABLE config_mark (
	org_id uuid NOT NULL REFERENCES org (org_id),
	kind text NOT NULL,
	name text NOT NULL,
	managed_by text NOT NULL CHECK (managed_by ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	marked_at timestamptz NOT NULL,
	PRIMARY KEY (org_id, kind, name)
);
SELECT tg_tenant_table('config_mark');
GRANT SELECT ON config_mark TO tollgate_app;

-- Of an API key's rows of one name: those that took no end. An expired one stands for its name where no other does.
CREATE FUNCTION config_keys() RETURNS TABLE (name text, id uuid, live bigint, fields jsonb, made timestamptz)
LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT DISTINCT ON (k.name) k.name, k.id,
		count(*) FILTER (WHERE k.expires_at IS NULL OR k.expires_at > now()) OVER (PARTITION BY k.name),
		jsonb_build_object('role', k.role, 'scopes', k.scopes, 'models', k.models,
			'limits', jsonb_build_object('rpm', k.rpm, 'tpm', k.tpm), 'expires_at', tg_rfc3339(k.expires_at)),
		k.created_at
	FROM api_key k WHERE k.org_id = tg_org() AND k.revoked_at IS NULL AND k.replaced_by IS NULL
	ORDER BY k.name, (k.expires_at IS NULL OR k.expires_at > now()) DESC, k.id DESC
$$;
GRANT EXECUTE ON FUNCTION config_keys() TO tollgate_app;

-- What stands, each kind in the fields that a document says of it.
CREATE FUNCTION config_current() RETURNS TABLE (kind text, name text, id text, fields jsonb, masked text, made timestamptz)
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
GRANT EXECUTE ON FUNCTION config_current() TO tollgate_app;

-- The difference between `p_want` and what stands. p_want: [{"kind","name","fields":{...},"secret":does it differ}],
-- no secret in it. Raises where the document asks for what cannot be.
CREATE FUNCTION config_plan(p_want jsonb, p_org text, p_managed_by text, p_prune boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = tollgate, pg_temp AS $$
DECLARE o org; acts jsonb; rest jsonb; bad text;
BEGIN
	SELECT * INTO o FROM org WHERE org_id = tg_org();
	IF p_org NOT IN (o.slug, o.org_id::text) THEN
		PERFORM tg_raise('TG400', 'org_mismatch', 'the document is for the org "' || p_org || '", and not for this one',
			'ask for that org, or change "org" in the document');
	END IF;
	SELECT k.name INTO bad FROM config_keys() k JOIN jsonb_array_elements(p_want) d
		ON d->>'kind' = 'key' AND d->>'name' = k.name WHERE k.live > 1 LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'ambiguous_key', 'there are several API keys named "' || bad || '"',
			'a document knows a key by its name: rename or revoke all but one');
	END IF;
	SELECT jsonb_agg(jsonb_build_object('kind', w.kind, 'name', w.name, 'action', w.action, 'changes', w.changes,
		'replaces', w.replaces, 'id', w.id) ORDER BY w.i)
	INTO acts FROM (
		SELECT d.i, d.v->>'kind' AS kind, d.v->>'name' AS name, h.id, c.changes,
			CASE WHEN h.name IS NULL THEN 'create' WHEN c.changes = '[]' THEN 'none' ELSE 'update' END AS action,
			h.name IS NOT NULL AND d.v->>'kind' = 'profile' AND EXISTS (SELECT 1 FROM jsonb_array_elements(c.changes) x
				WHERE x->>'field' IN ('provider', 'base_url', 'billing_source')) AS replaces
		FROM jsonb_array_elements(p_want) WITH ORDINALITY d(v, i)
		LEFT JOIN config_current() h ON h.kind = d.v->>'kind' AND h.name = d.v->>'name'
		CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(x.one ORDER BY x.field), '[]'::jsonb) AS changes FROM (
			SELECT f.key AS field, jsonb_build_object('field', f.key, 'before', h.fields->f.key, 'after', f.value) AS one
			FROM jsonb_each(d.v->'fields') f WHERE h.name IS NULL OR h.fields->f.key IS DISTINCT FROM f.value
			UNION ALL
			SELECT 'secret', jsonb_build_object('field', 'secret', 'before', h.masked, 'after', '(new)')
			WHERE (d.v->>'secret')::boolean) x) c
	) w;
	SELECT a->>'name' INTO bad FROM jsonb_array_elements(acts) a, jsonb_array_elements(a->'changes') c
	WHERE a->>'kind' = 'key' AND a->>'action' = 'update' AND c->>'field' IN ('role', 'scopes') LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'key_fixed', 'role and scopes of the API key "' || bad || '" are what it was made with',
			'give the key of the other role another name, and revoke this one');
	END IF;
	SELECT a->>'name' INTO bad FROM jsonb_array_elements(acts) a, jsonb_array_elements(a->'changes') c
	WHERE a->>'kind' = 'key' AND c->>'field' = 'expires_at' AND (c->>'after')::timestamptz <= now() LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG400', 'invalid_field', 'keys.' || bad || '.expires_at lies in the past', 'a later time, or null for never');
	END IF;
	-- What the document does not name: its own work of before, or somebody else's.
	SELECT coalesce(jsonb_agg(jsonb_build_object('kind', h.kind, 'name', h.name, 'id', h.id,
		'mine', m.name IS NOT NULL) ORDER BY h.kind, h.name), '[]'::jsonb) INTO rest
	FROM config_current() h
	LEFT JOIN config_mark m ON m.org_id = o.org_id AND m.kind = h.kind AND m.name = h.name
		AND m.managed_by = p_managed_by AND m.marked_at >= h.made
	WHERE NOT EXISTS (SELECT 1 FROM jsonb_array_elements(p_want) d WHERE d->>'kind' = h.kind AND d->>'name' = h.name);
	acts := coalesce(acts, '[]'::jsonb) || coalesce((SELECT jsonb_agg(jsonb_build_object('kind', r->'kind', 'name', r->'name',
		'action', 'delete', 'changes', '[]'::jsonb, 'replaces', false, 'id', r->'id'))
		FROM jsonb_array_elements(rest) r WHERE p_prune AND (r->>'mine')::boolean), '[]'::jsonb);
	RETURN jsonb_build_object('org', o.slug, 'version', o.version, 'actions', acts,
		'unmanaged', coalesce((SELECT jsonb_agg(jsonb_build_object('kind', r->'kind', 'name', r->'name'))
			FROM jsonb_array_elements(rest) r WHERE NOT (p_prune AND (r->>'mine')::boolean)), '[]'::jsonb),
		'summary', (SELECT jsonb_build_object('create', count(*) FILTER (WHERE a->>'action' = 'create'),
			'update', count(*) FILTER (WHERE a->>'action' = 'update'),
			'delete', count(*) FILTER (WHERE a->>'action' = 'delete'),
			'none', count(*) FILTER (WHERE a->>'action' = 'none')) FROM jsonb_array_elements(acts) a));
END $$;
GRANT EXECUTE ON FUNCTION config_plan(jsonb, text, text, boolean) TO tollgate_app;

-- First in the transaction: what was planned holds for this version of the org alone, and for as long as this lasts.
CREATE FUNCTION config_begin(p_version bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE v bigint;
BEGIN
	SELECT version INTO v FROM org WHERE org_id = tg_org() AND status <> 'deleted' FOR UPDATE;
	IF v IS DISTINCT FROM p_version THEN
		PERFORM tg_raise('TG409', 'config_changed', 'the org was changed since this was planned', 'plan again, and look at what is new');
	END IF;
	RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION config_begin(bigint) TO tollgate_app;

-- Last in it: whose work this is, and one row that holds the many together. p_done: the actions of the plan.
CREATE FUNCTION config_end(p_done jsonb, p_managed_by text, p_actor jsonb, p_request_id text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := tg_org(); n int[];
BEGIN
	INSERT INTO config_mark (org_id, kind, name, managed_by, marked_at)
	SELECT o, d->>'kind', d->>'name', p_managed_by, now() FROM jsonb_array_elements(p_done) d
	WHERE d->>'action' IN ('create', 'update')
	ON CONFLICT (org_id, kind, name) DO UPDATE SET managed_by = EXCLUDED.managed_by, marked_at = EXCLUDED.marked_at;
	DELETE FROM config_mark m USING jsonb_array_elements(p_done) d
	WHERE m.org_id = o AND m.kind = d->>'kind' AND m.name = d->>'name' AND d->>'action' = 'delete';
	SELECT ARRAY[count(*) FILTER (WHERE d->>'action' = 'create'), count(*) FILTER (WHERE d->>'action' = 'update'),
		count(*) FILTER (WHERE d->>'action' = 'delete')] INTO n FROM jsonb_array_elements(p_done) d;
	PERFORM audit_append(o, p_actor, 'config.apply', format('%s: %s created, %s updated, %s deleted', p_managed_by,
		n[1], n[2], n[3]), 'ok', p_request_id);
	RETURN (SELECT version FROM org WHERE org_id = o);
END $$;
GRANT EXECUTE ON FUNCTION config_end(jsonb, text, jsonb, text) TO tollgate_app;

-- down
DROP FUNCTION config_end(jsonb, text, jsonb, text);
DROP FUNCTION config_begin(bigint);
DROP FUNCTION config_plan(jsonb, text, text, boolean);
DROP FUNCTION config_current();
DROP FUNCTION config_keys();
DROP TABLE config_mark;
