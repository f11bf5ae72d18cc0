-- 0012_profiles: an endpoint that moves loses its secret, health that a bad minute does not overturn, a default per
-- provider, and statements that stay quick with ten thousand profiles.

-- Its endpoint moved and its secret was erased: it is disabled until a new one comes, and then active again.
ALTER TABLE profile ADD COLUMN awaits_secret boolean NOT NULL DEFAULT false;

-- Two defaults of one provider cannot stand side by side.
CREATE UNIQUE INDEX profile_default ON profile (org_id, provider) WHERE is_default;

CREATE FUNCTION profile_health_none() RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT '{"status":"unknown","reason":null,"checked_at":null,"latency_ms":null,"models":null}'::jsonb $$;

-- Scheme, host and port of a base_url, which stands here as egress_parse() wrote it.
CREATE FUNCTION profile_origin(p_base_url text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT substring(p_base_url FROM '^[a-z]+://[^/]+') $$;

-- What a probe found, on what was known. A probe that learned nothing of the key (status unknown: a timeout, a 5xx)
-- leaves a good connection degraded and a bad one bad; a probe that listed nothing leaves the number of models.
CREATE FUNCTION profile_health_merge(old jsonb, new jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT CASE
		WHEN new IS NULL THEN old
		WHEN new->>'status' = 'unknown' AND old->>'status' = 'failed' THEN old || jsonb_build_object(
			'checked_at', new->'checked_at', 'latency_ms', new->'latency_ms')
		ELSE new || jsonb_build_object(
			'status', CASE WHEN new->>'status' = 'unknown' AND old->>'status' IN ('ok', 'degraded')
				THEN 'degraded' ELSE new->>'status' END,
			'models', coalesce(NULLIF(new->'models', 'null'::jsonb), old->'models')) END
$$;

-- By id, or by name where none has that id. Each is one step in an index.
CREATE OR REPLACE FUNCTION profile_get(p_ref text) RETURNS profile
LANGUAGE plpgsql STABLE SET search_path = tollgate, pg_temp AS $$
DECLARE p profile;
BEGIN
	IF p_ref ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' THEN
		SELECT * INTO p FROM profile WHERE org_id = tg_org() AND id = p_ref::uuid;
		IF FOUND THEN
			RETURN p;
		END IF;
	END IF;
	SELECT * INTO p FROM profile WHERE org_id = tg_org() AND name = p_ref AND status <> 'revoked';
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'profile_not_found', 'no such profile', 'list them with GET /admin/v1/orgs/{org}/profiles');
	END IF;
	RETURN p;
END $$;

-- The row for a change, locked; revoked ones stay as they are.
CREATE FUNCTION profile_take(p_ref text) RETURNS profile
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_get(p_ref);
BEGIN
	PERFORM 1 FROM org WHERE org_id = p.org_id FOR NO KEY UPDATE;
	SELECT * INTO p FROM profile WHERE org_id = p.org_id AND id = p.id FOR UPDATE;
	IF p.status = 'revoked' THEN
		PERFORM tg_raise('TG409', 'profile_revoked', 'this profile is revoked', 'connect a new one');
	END IF;
	RETURN p;
END $$;

CREATE FUNCTION profile_name_free(p_id uuid, p_name text, p_hint text) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM profile WHERE org_id = tg_org() AND name = p_name AND id <> p_id AND status <> 'revoked') THEN
		PERFORM tg_raise('TG409', 'profile_exists', 'a profile of this name exists', p_hint);
	END IF;
END $$;

-- `p_sealed` NULL: the endpoint needs no secret. `p_listed` NULL: not probed.
CREATE OR REPLACE FUNCTION profile_create(p_id uuid, p_name text, p_provider text, p_base_url text, p_billing text,
	p_models text[], p_priority int, p_default boolean, p_sealed bytea, p_masked text, p_fingerprint text,
	p_listed text[], p_health jsonb, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile; o uuid := tg_org();
BEGIN
	PERFORM 1 FROM org WHERE org_id = o FOR NO KEY UPDATE;
	PERFORM profile_name_free(p_id, p_name, 'choose another name, or rotate its secret');
	IF p_default THEN
		UPDATE profile SET is_default = false, updated_at = now() WHERE org_id = o AND provider = p_provider AND is_default;
	END IF;
	INSERT INTO profile (org_id, id, name, provider, base_url, billing_source, models, priority, is_default, listed, health)
	VALUES (o, p_id, p_name, p_provider, p_base_url, p_billing, p_models, p_priority, p_default,
		coalesce(p_listed, '{}'), coalesce(p_health, profile_health_none()))
	RETURNING * INTO p;
	IF p_sealed IS NOT NULL THEN
		PERFORM secret_put(p_id, 'api_key', 1, p_sealed, p_masked, p_fingerprint);
	END IF;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.create', p_id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;

-- NULL: leave as it is. Another scheme, host or port erases the secret, and what was known of the endpoint with it.
CREATE FUNCTION profile_change(p_ref text, p_name text, p_models text[], p_priority int, p_default boolean, p_status text,
	p_base_url text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_take(p_ref); o uuid := tg_org(); moved boolean; erased boolean := false;
BEGIN
	moved := profile_origin(p_base_url) IS DISTINCT FROM profile_origin(p.base_url) AND p_base_url IS NOT NULL;
	PERFORM profile_name_free(p.id, p_name, 'choose another name');
	IF p_default THEN
		UPDATE profile SET is_default = false, updated_at = now()
		WHERE org_id = o AND provider = p.provider AND is_default AND id <> p.id;
	END IF;
	IF moved THEN
		DELETE FROM secret WHERE org_id = o AND id = p.id;
		erased := FOUND OR p.awaits_secret;
		DELETE FROM cooldown WHERE org_id = o AND profile_id = p.id;
	END IF;
	UPDATE profile SET name = coalesce(p_name, name), models = coalesce(p_models, models),
		priority = coalesce(p_priority, priority), is_default = coalesce(p_default, is_default),
		base_url = coalesce(p_base_url, base_url),
		listed = CASE WHEN moved THEN '{}' ELSE listed END,
		health = CASE WHEN moved THEN profile_health_none() ELSE health END,
		-- whoever says "active" of a profile without its secret means an endpoint that needs none
		awaits_secret = (awaits_secret OR (erased AND status = 'active')) AND p_status IS NULL,
		status = coalesce(p_status, CASE WHEN erased THEN 'disabled' ELSE status END), updated_at = now()
	WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.change', p.id::text, 'ok', p_request_id);
	IF erased THEN
		PERFORM audit_append(o, p_actor, 'profile.secret_erased', p.id::text, 'ok', p_request_id);
	END IF;
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_change(text, text, text[], int, boolean, text, text, jsonb, text) TO tollgate_app;

-- A changed key clears its cooldowns, and what was known of the old one. `p_base_url`: what it was sealed for.
-- `p_health` NULL: not tried.
CREATE FUNCTION profile_rotate(p_id uuid, p_version bigint, p_base_url text, p_sealed bytea, p_masked text,
	p_fingerprint text, p_listed text[], p_health jsonb, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_take(p_id::text); o uuid := tg_org();
BEGIN
	IF profile_origin(p.base_url) <> profile_origin(p_base_url) THEN
		PERFORM tg_raise('TG409', 'secret_changed', 'the endpoint was changed meanwhile', 'read it again and repeat');
	END IF;
	PERFORM secret_put(p.id, 'api_key', p_version, p_sealed, p_masked, p_fingerprint);
	DELETE FROM cooldown WHERE org_id = o AND profile_id = p.id;
	UPDATE profile SET updated_at = now(), listed = coalesce(p_listed, listed),
		health = profile_health_none() || coalesce(p_health, jsonb_build_object('models', health->'models')),
		status = CASE WHEN awaits_secret THEN 'active' ELSE status END, awaits_secret = false
	WHERE org_id = o AND id = p.id RETURNING * INTO p;
	PERFORM org_touch(o, 'profile');
	PERFORM audit_append(o, p_actor, 'profile.rotate', p.id::text, 'ok', p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_rotate(uuid, bigint, text, bytea, text, text, text[], jsonb, jsonb, text) TO tollgate_app;

-- What a test found of the secret of `p_version` (0: none): of another that came meanwhile it says nothing, and only
-- that it ran is kept. `p_health` NULL: it said nothing of the connection. No content of a probe is kept.
CREATE FUNCTION profile_tested(p_id uuid, p_version bigint, p_action text, p_health jsonb, p_listed text[],
	p_result text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE p profile := profile_take(p_id::text); o uuid := tg_org(); v bigint;
BEGIN
	SELECT coalesce(max(s.row_version), 0) INTO v FROM secret s WHERE s.org_id = o AND s.id = p.id AND s.field = 'api_key';
	IF v = p_version AND (p_health IS NOT NULL OR p_listed IS NOT NULL) THEN
		UPDATE profile SET health = profile_health_merge(health, p_health), listed = coalesce(p_listed, listed)
		WHERE org_id = o AND id = p.id RETURNING * INTO p;
		PERFORM org_touch(o, 'profile');
	END IF;
	PERFORM audit_append(o, p_actor, 'profile.' || p_action, p.id::text, p_result, p_request_id);
	RETURN profile_json(p);
END $$;
GRANT EXECUTE ON FUNCTION profile_tested(uuid, bigint, text, jsonb, text[], text, jsonb, text) TO tollgate_app;

-- A connection that was tried and not stored: nothing but that.
CREATE FUNCTION profile_refused(p_action text, p_object text, p_reason text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM audit_append(tg_org(), p_actor, p_action, p_object, p_reason, p_request_id);
	RETURN '{}'::jsonb;
END $$;
GRANT EXECUTE ON FUNCTION profile_refused(text, text, text, jsonb, text) TO tollgate_app;

DROP FUNCTION profile_change(text, text, text[], int, boolean, text, jsonb, text);
DROP FUNCTION profile_rotate(uuid, bigint, bytea, text, text, jsonb, text);
DROP FUNCTION profile_health(uuid, jsonb, text[], jsonb, text);

-- down
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
CREATE OR REPLACE FUNCTION profile_get(p_ref text) RETURNS profile
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
CREATE OR REPLACE FUNCTION profile_create(p_id uuid, p_name text, p_provider text, p_base_url text, p_billing text,
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
DROP FUNCTION profile_refused(text, text, text, jsonb, text);
DROP FUNCTION profile_tested(uuid, bigint, text, jsonb, text[], text, jsonb, text);
DROP FUNCTION profile_rotate(uuid, bigint, text, bytea, text, text, text[], jsonb, jsonb, text);
DROP FUNCTION profile_change(text, text, text[], int, boolean, text, text, jsonb, text);
DROP FUNCTION profile_name_free(uuid, text, text);
DROP FUNCTION profile_take(text);
DROP FUNCTION profile_health_merge(jsonb, jsonb);
DROP FUNCTION profile_origin(text);
DROP FUNCTION profile_health_none();
DROP INDEX profile_default;
ALTER TABLE profile DROP COLUMN awaits_secret;
