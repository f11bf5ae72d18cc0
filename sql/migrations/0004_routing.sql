-- 0004_routing: the catalogue of models, and per org its profiles, routes and cooldowns.
--
-- A profile's provider secret is the vault's row (org_id, profile id, 'api_key'). The platform's own
-- profiles are those of the org 'platform'; a tenant's statements cannot see them.

-- The catalogue: what a provider offers and what it can do. Platform-wide, no tenant's data.
CREATE TABLE model (
	provider text NOT NULL,
	id text NOT NULL CHECK (length(id) BETWEEN 1 AND 256),
	mode text NOT NULL DEFAULT 'chat',
	capabilities text[] NOT NULL DEFAULT '{}'
		CHECK (capabilities <@ ARRAY['text', 'vision', 'audio_in', 'audio_out', 'tools', 'json']),
	context_window bigint CHECK (context_window > 0),
	max_output bigint CHECK (max_output > 0),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (provider, id)
);
GRANT SELECT ON model TO tollgate_app;

CREATE TABLE profile (
	org_id uuid NOT NULL REFERENCES org (org_id),
	id uuid NOT NULL,
	name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	provider text NOT NULL,
	base_url text NOT NULL CHECK (length(base_url) <= 512),
	billing_source text NOT NULL CHECK (billing_source IN ('platform', 'byok', 'private')),
	models text[] NOT NULL DEFAULT '{*}',
	listed text[] NOT NULL DEFAULT '{}', -- the endpoint's own last listing
	priority int NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 1000000),
	is_default boolean NOT NULL DEFAULT false,
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'revoked')),
	health jsonb NOT NULL DEFAULT '{"status":"unknown","reason":null,"checked_at":null,"latency_ms":null,"models":null}',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id),
	CHECK ((billing_source = 'platform') = (org_id = '00000000-0000-7000-8000-000000000000'))
);
CREATE UNIQUE INDEX profile_name ON profile (org_id, name) WHERE status <> 'revoked';
SELECT tg_tenant_table('profile');
GRANT SELECT ON profile TO tollgate_app;

CREATE TABLE route (
	org_id uuid NOT NULL REFERENCES org (org_id),
	name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
	match jsonb NOT NULL,
	targets jsonb NOT NULL CHECK (jsonb_array_length(targets) BETWEEN 1 AND 16),
	policy jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, name)
);
SELECT tg_tenant_table('route');
GRANT SELECT ON route TO tollgate_app;

-- Named agents with a default model; their own resource comes with the routing matrix.
CREATE TABLE agent (
	org_id uuid NOT NULL REFERENCES org (org_id),
	name text NOT NULL,
	default_model text,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, name)
);
SELECT tg_tenant_table('agent');
GRANT SELECT ON agent TO tollgate_app;

CREATE TABLE cooldown (
	org_id uuid NOT NULL REFERENCES org (org_id),
	profile_id uuid NOT NULL,
	model text NOT NULL, -- '': the whole profile
	class text NOT NULL,
	failures int NOT NULL,
	until timestamptz NOT NULL,
	PRIMARY KEY (org_id, profile_id, model),
	FOREIGN KEY (org_id, profile_id) REFERENCES profile (org_id, id) ON DELETE CASCADE
);
SELECT tg_tenant_table('cooldown');
GRANT SELECT ON cooldown TO tollgate_app;

-- ---- catalogue ---------------------------------------------------------------------------------

CREATE FUNCTION model_json(m model) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('provider', m.provider, 'id', m.id, 'mode', m.mode, 'capabilities', m.capabilities,
		'context_window', m.context_window, 'max_output', m.max_output)
$$;
GRANT EXECUTE ON FUNCTION model_json(model) TO tollgate_app;

CREATE FUNCTION model_put(p_provider text, p_id text, p_capabilities text[], p_context bigint, p_max_output bigint,
	p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE m model; platform uuid := '00000000-0000-7000-8000-000000000000';
BEGIN
	INSERT INTO model (provider, id, capabilities, context_window, max_output)
	VALUES (p_provider, p_id, p_capabilities, p_context, p_max_output)
	ON CONFLICT (provider, id) DO UPDATE SET capabilities = EXCLUDED.capabilities,
		context_window = EXCLUDED.context_window, max_output = EXCLUDED.max_output, updated_at = now()
	RETURNING * INTO m;
	PERFORM org_touch(platform, 'model');
	PERFORM audit_append(platform, p_actor, 'model.put', p_provider || '/' || p_id, 'ok', p_request_id);
	RETURN model_json(m);
END $$;
GRANT EXECUTE ON FUNCTION model_put(text, text, text[], bigint, bigint, jsonb, text) TO tollgate_app;

-- The seed document of sql/seed/prices.json: capabilities and windows; prices are billing's.
CREATE FUNCTION model_import(doc jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint;
BEGIN
	INSERT INTO model (provider, id, mode, capabilities, context_window, max_output)
	SELECT m->>'provider', m->>'id', coalesce(m->>'mode', 'chat'),
		ARRAY(SELECT c FROM jsonb_array_elements_text(coalesce(m->'caps', '[]'::jsonb)) c
			WHERE c IN ('text', 'vision', 'audio_in', 'audio_out', 'tools', 'json')),
		NULLIF((m->>'context')::bigint, 0), NULLIF((m->>'max_output')::bigint, 0)
	FROM jsonb_array_elements(doc->'models') m
	ON CONFLICT (provider, id) DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;

-- ---- profiles ----------------------------------------------------------------------------------

CREATE FUNCTION cooldown_json(org uuid, prof uuid) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('class', c.class, 'model', NULLIF(c.model, ''), 'until', tg_rfc3339(c.until),
		'failures', c.failures)
	FROM cooldown c WHERE c.org_id = org AND c.profile_id = prof AND c.until > now()
	ORDER BY c.until DESC LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION cooldown_json(uuid, uuid) TO tollgate_app;

CREATE FUNCTION profile_json(p profile) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', p.id, 'name', p.name, 'provider', p.provider, 'base_url', p.base_url,
		'billing_source', p.billing_source,
		'credential_source', CASE p.billing_source WHEN 'platform' THEN 'platform_vault' ELSE 'organization_auth_profile' END,
		'secret', (SELECT jsonb_build_object('masked', s.masked, 'fingerprint', s.fingerprint,
			'updated_at', tg_rfc3339(s.updated_at)) FROM secret s
			WHERE s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'),
		'models', p.models, 'priority', p.priority, 'default', p.is_default, 'status', p.status,
		'health', p.health, 'cooldown', cooldown_json(p.org_id, p.id),
		'created_at', tg_rfc3339(p.created_at), 'updated_at', tg_rfc3339(p.updated_at))
$$;
GRANT EXECUTE ON FUNCTION profile_json(profile) TO tollgate_app;

CREATE FUNCTION profile_get(p_ref text) RETURNS profile
LANGUAGE plpgsql STABLE SET search_path = tollgate, pg_temp AS $$
DECLARE p profile;
BEGIN
	SELECT * INTO p FROM profile WHERE org_id = tg_org() AND (id::text = p_ref OR (name = p_ref AND status <> 'revoked'))
	ORDER BY id DESC LIMIT 1;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'profile_not_found', 'no such profile', 'list them with GET /admin/v1/orgs/{org}/profiles');
	END IF;
	RETURN p;
END $$;
GRANT EXECUTE ON FUNCTION profile_get(text) TO tollgate_app;

-- `p_sealed` NULL: the endpoint needs no secret. `p_listed` NULL: not probed.
CREATE FUNCTION profile_create(p_id uuid, p_name text, p_provider text, p_base_url text, p_billing text,
	p_models text[], p_priority int, p_default boolean, p_sealed bytea, p_masked text, p_fingerprint text,
	p_listed text[], p_health jsonb, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile; o uuid := tg_org();
BEGIN
	IF EXISTS (SELECT 1 FROM profile WHERE org_id = o AND name = p_name AND status <> 'revoked') THEN
		PERFORM tg_raise('TG409', 'profile_exists', 'a profile of this name exists', 'choose another name, or rotate its secret');
	END IF;
	IF p_default THEN
		UPDATE profile SET is_default = false, updated_at = now() WHERE org_id = o AND is_default;
	END IF;
	INSERT INTO profile (org_id, id, name, provider, base_url, billing_source, models, priority, is_default, listed, health)
	VALUES (o, p_id, p_name, p_provider, p_base_url, p_billing, p_models, p_priority, p_default,
		coalesce(p_listed, '{}'), coalesce(p_health,
		'{"status":"unknown","reason":null,"checked_at":null,"latency_ms":null,"models":null}'::jsonb))
	RETURNING * INTO p;
	IF p_sealed IS NOT NULL THEN
		PERFORM secret_put(p_id, 'api_key', 1, p_sealed, p_masked, p_fingerprint);
	END IF;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.create', p_id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_create(uuid, text, text, text, text, text[], int, boolean, bytea, text, text, text[], jsonb, jsonb, text) TO tollgate_app;

-- NULL: leave as it is.
CREATE FUNCTION profile_change(p_ref text, p_name text, p_models text[], p_priority int, p_default boolean, p_status text,
	p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_ref); o uuid := tg_org();
BEGIN
	IF p.status = 'revoked' THEN
		PERFORM tg_raise('TG409', 'profile_revoked', 'this profile is revoked', 'connect a new one');
	END IF;
	IF p_name IS NOT NULL AND EXISTS (SELECT 1 FROM profile WHERE org_id = o AND name = p_name AND id <> p.id AND status <> 'revoked') THEN
		PERFORM tg_raise('TG409', 'profile_exists', 'a profile of this name exists', 'choose another name');
	END IF;
	IF p_default THEN
		UPDATE profile SET is_default = false, updated_at = now() WHERE org_id = o AND is_default AND id <> p.id;
	END IF;
	UPDATE profile SET name = coalesce(p_name, name), models = coalesce(p_models, models),
		priority = coalesce(p_priority, priority), is_default = coalesce(p_default, is_default),
		status = coalesce(p_status, status), updated_at = now()
	WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.change', p.id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_change(text, text, text[], int, boolean, text, jsonb, text) TO tollgate_app;

-- The version a rotation would seal for: the stored one plus one.
CREATE FUNCTION profile_secret_version(p_ref text, OUT profile_id uuid, OUT next_version bigint, OUT provider text,
	OUT base_url text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_ref);
BEGIN
	profile_id := p.id;
	provider := p.provider;
	base_url := p.base_url;
	SELECT coalesce(max(s.row_version), 0) + 1 INTO next_version FROM secret s
	WHERE s.org_id = tg_org() AND s.id = p.id AND s.field = 'api_key';
END $$;
GRANT EXECUTE ON FUNCTION profile_secret_version(text) TO tollgate_app;

-- A changed key clears its cooldowns.
CREATE FUNCTION profile_rotate(p_id uuid, p_version bigint, p_sealed bytea, p_masked text, p_fingerprint text,
	p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_id::text); o uuid := tg_org();
BEGIN
	IF p.status = 'revoked' THEN
		PERFORM tg_raise('TG409', 'profile_revoked', 'this profile is revoked', 'connect a new one');
	END IF;
	PERFORM secret_put(p.id, 'api_key', p_version, p_sealed, p_masked, p_fingerprint);
	DELETE FROM cooldown WHERE org_id = o AND profile_id = p.id;
	UPDATE profile SET updated_at = now() WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.rotate', p.id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_rotate(uuid, bigint, bytea, text, text, jsonb, text) TO tollgate_app;

CREATE FUNCTION profile_revoke(p_ref text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_ref); o uuid := tg_org();
BEGIN
	DELETE FROM secret WHERE org_id = o AND id = p.id;
	DELETE FROM cooldown WHERE org_id = o AND profile_id = p.id;
	UPDATE profile SET status = 'revoked', is_default = false, updated_at = now()
	WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.revoke', p.id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_revoke(text, jsonb, text) TO tollgate_app;

-- What a probe found. No content of a probe is kept. `p_listed` NULL: the listing stays.
CREATE FUNCTION profile_health(p_id uuid, p_health jsonb, p_listed text[], p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_id::text); o uuid := tg_org();
BEGIN
	UPDATE profile SET health = p_health, listed = coalesce(p_listed, listed)
	WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.test', p.id::text, p_health->>'status', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_health(uuid, jsonb, text[], jsonb, text) TO tollgate_app;

-- ---- routes ------------------------------------------------------------------------------------

CREATE FUNCTION route_json(r route) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('name', r.name, 'match', r.match, 'targets', r.targets, 'policy', r.policy,
		'created_at', tg_rfc3339(r.created_at), 'updated_at', tg_rfc3339(r.updated_at))
$$;
GRANT EXECUTE ON FUNCTION route_json(route) TO tollgate_app;

CREATE FUNCTION route_put(p_name text, p_match jsonb, p_targets jsonb, p_policy jsonb, p_actor jsonb, p_request_id text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE r route; o uuid := tg_org(); t jsonb; taken text;
BEGIN
	FOR t IN SELECT * FROM jsonb_array_elements(p_targets) LOOP
		IF t->>'profile' IS NOT NULL AND NOT EXISTS (SELECT 1 FROM profile WHERE org_id = o AND name = t->>'profile'
				AND status <> 'revoked') THEN
			PERFORM tg_raise('TG400', 'profile_not_found', 'targets name the profile "' || (t->>'profile') || '", which this org does not have',
				'connect it first, or name a provider instead');
		END IF;
	END LOOP;
	SELECT name INTO taken FROM route WHERE org_id = o AND name <> p_name AND match = p_match;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'route_exists', 'the route "' || taken || '" matches the same calls', 'change that one, or match something else');
	END IF;
	INSERT INTO route (org_id, name, match, targets, policy) VALUES (o, p_name, p_match, p_targets, p_policy)
	ON CONFLICT (org_id, name) DO UPDATE SET match = EXCLUDED.match, targets = EXCLUDED.targets,
		policy = EXCLUDED.policy, updated_at = now()
	RETURNING * INTO r;
	PERFORM org_touch(o, 'route');
	PERFORM audit_append(o, p_actor, 'route.put', p_name, 'ok', p_request_id);
	RETURN route_json(r);
END $$;
GRANT EXECUTE ON FUNCTION route_put(text, jsonb, jsonb, jsonb, jsonb, text) TO tollgate_app;

CREATE FUNCTION route_delete(p_name text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE r route; o uuid := tg_org();
BEGIN
	DELETE FROM route WHERE org_id = o AND name = p_name RETURNING * INTO r;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'route_not_found', 'no such route');
	END IF;
	PERFORM org_touch(o, 'route');
	PERFORM audit_append(o, p_actor, 'route.delete', p_name, 'ok', p_request_id);
	RETURN route_json(r);
END $$;
GRANT EXECUTE ON FUNCTION route_delete(text, jsonb, text) TO tollgate_app;

-- ---- cooldowns ---------------------------------------------------------------------------------

-- 60 s, 5 min, 25 min, 1 h at most; quota 5 h doubling to 24 h; never below the provider's own wait
-- (24 h at most). A failure long after the last deadline starts the growth anew.
CREATE FUNCTION cooldown_set(p_profile uuid, p_model text, p_class text, p_retry_after_s bigint) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := tg_org(); n int; wait_s bigint; u timestamptz;
BEGIN
	PERFORM 1 FROM profile WHERE org_id = o AND id = p_profile;
	IF NOT FOUND THEN
		RETURN NULL; -- gone meanwhile: nothing to cool
	END IF;
	INSERT INTO cooldown (org_id, profile_id, model, class, failures, until) VALUES (o, p_profile, p_model, p_class, 1, now())
	ON CONFLICT (org_id, profile_id, model) DO UPDATE SET class = EXCLUDED.class, failures = CASE
		WHEN cooldown.until > now() THEN cooldown.failures -- calls that were in flight when it began do not add up
		WHEN cooldown.until < now() - interval '1 hour' THEN 1 ELSE least(cooldown.failures + 1, 10) END
	RETURNING failures INTO n;
	wait_s := CASE WHEN p_class = 'quota' THEN least(18000 * (1 << (n - 1)), 86400)
		ELSE least((60 * power(5, n - 1))::bigint, 3600) END;
	wait_s := greatest(wait_s, least(coalesce(p_retry_after_s, 0), 86400));
	UPDATE cooldown SET until = greatest(until, now() + make_interval(secs => wait_s))
	WHERE org_id = o AND profile_id = p_profile AND model = p_model RETURNING until INTO u;
	PERFORM tg_change('cooldown', o, 0);
	RETURN u;
END $$;
GRANT EXECUTE ON FUNCTION cooldown_set(uuid, text, text, bigint) TO tollgate_app;

CREATE FUNCTION cooldown_clear(p_profile uuid, p_model text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := tg_org();
BEGIN
	DELETE FROM cooldown WHERE org_id = o AND profile_id = p_profile AND model IN (p_model, '');
	IF FOUND THEN
		PERFORM tg_change('cooldown', o, 0);
		RETURN true;
	END IF;
	RETURN false;
END $$;
GRANT EXECUTE ON FUNCTION cooldown_clear(uuid, text) TO tollgate_app;

-- ---- the org's whole picture, in one statement ------------------------------------------------------

CREATE FUNCTION routing_snapshot() RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('version', o.version, 'slug', o.slug, 'tier', o.tier, 'status', o.status,
		'profiles', coalesce((SELECT jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'provider', p.provider,
				'base_url', p.base_url, 'billing_source', p.billing_source, 'models', p.models, 'listed', p.listed,
				'priority', p.priority, 'default', p.is_default, 'status', p.status,
				'secret', (SELECT jsonb_build_object('row_version', s.row_version, 'sealed', translate(encode(s.sealed, 'base64'), E'\n', ''))
					FROM secret s WHERE s.org_id = o.org_id AND s.id = p.id AND s.field = 'api_key'))
				ORDER BY p.priority, p.is_default DESC, p.name)
			FROM profile p WHERE p.org_id = o.org_id AND p.status <> 'revoked'), '[]'::jsonb),
		'routes', coalesce((SELECT jsonb_agg(route_json(r) ORDER BY r.name) FROM route r WHERE r.org_id = o.org_id), '[]'::jsonb),
		'cooldowns', coalesce((SELECT jsonb_agg(jsonb_build_object('profile', c.profile_id, 'model', c.model, 'class', c.class,
				'failures', c.failures, 'until_ms', (extract(epoch FROM c.until) * 1000)::bigint))
			FROM cooldown c WHERE c.org_id = o.org_id), '[]'::jsonb))
	FROM org o WHERE o.org_id = tg_org()
$$;
GRANT EXECUTE ON FUNCTION routing_snapshot() TO tollgate_app;

-- down
DROP FUNCTION routing_snapshot();
DROP FUNCTION cooldown_clear(uuid, text);
DROP FUNCTION cooldown_set(uuid, text, text, bigint);
DROP FUNCTION route_delete(text, jsonb, text);
DROP FUNCTION route_put(text, jsonb, jsonb, jsonb, jsonb, text);
DROP FUNCTION route_json(route);
DROP FUNCTION profile_health(uuid, jsonb, text[], jsonb, text);
DROP FUNCTION profile_revoke(text, jsonb, text);
DROP FUNCTION profile_rotate(uuid, bigint, bytea, text, text, jsonb, text);
DROP FUNCTION profile_secret_version(text);
DROP FUNCTION profile_change(text, text, text[], int, boolean, text, jsonb, text);
DROP FUNCTION profile_create(uuid, text, text, text, text, text[], int, boolean, bytea, text, text, text[], jsonb, jsonb, text);
DROP FUNCTION profile_get(text);
DROP FUNCTION profile_json(profile);
DROP FUNCTION cooldown_json(uuid, uuid);
DROP FUNCTION model_import(jsonb);
DROP FUNCTION model_put(text, text, text[], bigint, bigint, jsonb, text);
DROP FUNCTION model_json(model);
DROP TABLE cooldown;
DROP TABLE agent;
DROP TABLE route;
DROP TABLE profile;
DROP TABLE model;
