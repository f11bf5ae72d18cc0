-- 0008_key_rotation: a new secret for the grant of an API key, and when a key was last used.

-- replaced_by: the key that took this one's place. last_used_at: as the workers' memory said it last, up to a
-- minute behind; a request never writes it.
ALTER TABLE api_key ADD COLUMN replaced_by uuid, ADD COLUMN last_used_at timestamptz,
	ADD FOREIGN KEY (org_id, replaced_by) REFERENCES api_key (org_id, id);
GRANT SELECT (replaced_by, last_used_at) ON api_key TO tollgate_app;

CREATE FUNCTION key_json(key_id uuid, public_id text, name text, role text, scopes text[], models text[],
	rpm bigint, tpm bigint, expires_at timestamptz, last4 text, created_at timestamptz, revoked_at timestamptz,
	replaced_by uuid, last_used_at timestamptz)
RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('id', key_id, 'name', name, 'prefix', 'tg_' || public_id, 'last4', last4,
	'role', role, 'scopes', to_jsonb(scopes), 'models', to_jsonb(models),
	'limits', jsonb_build_object('rpm', rpm, 'tpm', tpm), 'budget', NULL,
	'status', CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
		ELSE 'active' END,
	'expires_at', tg_rfc3339(expires_at), 'created_at', tg_rfc3339(created_at),
	'revoked_at', tg_rfc3339(revoked_at), 'replaced_by', replaced_by,
	'last_used_at', tg_rfc3339(last_used_at)) $$;
GRANT EXECUTE ON FUNCTION key_json(uuid, text, text, text, text[], text[], bigint, bigint, timestamptz,
	text, timestamptz, timestamptz, uuid, timestamptz) TO tollgate_app;
CREATE OR REPLACE FUNCTION key_json(k api_key) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT key_json(k.id, k.public_id, k.name, k.role, k.scopes, k.models, k.rpm, k.tpm, k.expires_at,
	k.last4, k.created_at, k.revoked_at, k.replaced_by, k.last_used_at) $$;
DROP FUNCTION key_json(uuid, text, text, text, text[], text[], bigint, bigint, timestamptz, text,
	timestamptz, timestamptz);

-- Does key `outer_key` allow all that `inner_key` does? A pattern is within another when that one matches it
-- letter by letter, its '*' included; so it is where keys are made.
CREATE FUNCTION key_within(inner_key api_key, outer_key api_key) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT COALESCE(inner_key.rpm <= outer_key.rpm, outer_key.rpm IS NULL)
	AND COALESCE(inner_key.tpm <= outer_key.tpm, outer_key.tpm IS NULL)
	AND NOT EXISTS (SELECT 1 FROM unnest(inner_key.models) AS m WHERE NOT EXISTS (
		SELECT 1 FROM unnest(outer_key.models) AS p WHERE m LIKE
			replace(replace(replace(replace(p, '!', '!!'), '%', '!%'), '_', '!_'), '*', '%') ESCAPE '!')) $$;

-- A new secret for the grant of key `want`: a new row with all of its rights and its expiry. The old one
-- works for `overlap` seconds more, never longer than it would have; 0: it is revoked. What the old one made
-- belongs to the new one. Repeating (new_id, key_hash) returns what stands and says nothing twice.
CREATE FUNCTION key_rotate(want uuid, new_id uuid, pub text, key_hash bytea, pepper bigint, tail text,
	overlap bigint, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE was api_key := key_take(want, actor, true); k api_key; own api_key;
BEGIN
	SELECT * INTO k FROM api_key a WHERE a.org_id = was.org_id AND a.id = new_id AND a.id = was.replaced_by
		AND a.hash = key_hash;
	IF FOUND THEN
		RETURN key_json(k) || jsonb_build_object('replaces', key_json(was));
	END IF;
	IF was.replaced_by IS NOT NULL THEN
		PERFORM tg_raise('TG409', 'key_rotated', 'this API key was rotated before',
			'rotate or revoke the one that replaced it: ' || was.replaced_by);
	END IF;
	IF was.revoked_at IS NOT NULL THEN
		PERFORM tg_raise('TG409', 'key_revoked', 'this API key is revoked', 'make a new one');
	END IF;
	IF was.expires_at <= now() THEN
		PERFORM tg_raise('TG409', 'key_expired', 'this API key has expired', 'make a new one');
	END IF;
	IF actor->>'role' = 'developer' THEN
		SELECT * INTO own FROM api_key a WHERE a.org_id = was.org_id AND a.id = (actor->>'id')::uuid;
		IF NOT COALESCE(key_within(was, own), false) THEN
			PERFORM tg_raise('TG403', 'permission_denied', 'this API key may do more than your own',
				'ask an admin of the org');
		END IF;
	END IF;
	INSERT INTO key_lookup VALUES (pub, was.org_id, new_id) ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG409', 'key_id_taken', 'this public id is taken', 'draw another');
	END IF;
	INSERT INTO api_key (org_id, id, public_id, name, role, scopes, models, rpm, tpm, expires_at, hash,
		pepper_ver, last4, created_by)
	VALUES (was.org_id, new_id, pub, was.name, was.role, was.scopes, was.models, was.rpm, was.tpm,
		was.expires_at, key_hash, pepper, tail, was.created_by)
	RETURNING * INTO k;
	UPDATE api_key a SET created_by = new_id WHERE a.org_id = was.org_id AND a.created_by = was.id;
	UPDATE api_key a SET replaced_by = new_id,
		revoked_at = CASE WHEN overlap = 0 THEN now() END,
		expires_at = CASE WHEN overlap = 0 THEN a.expires_at
			ELSE LEAST(a.expires_at, now() + overlap * interval '1 second') END
	WHERE a.org_id = was.org_id AND a.id = was.id RETURNING * INTO was;
	PERFORM org_touch(was.org_id, 'key');
	PERFORM audit_append(was.org_id, actor, 'api_key.rotate', was.id::text, 'ok', req);
	RETURN key_json(k) || jsonb_build_object('replaces', key_json(was));
END $$;
GRANT EXECUTE ON FUNCTION key_rotate(uuid, uuid, text, bytea, bigint, text, bigint, jsonb, text) TO tollgate_app;

-- When keys were last used, of any org: what a worker has seen since it last said so. Never goes back. The rows
-- are locked in one order, so that two workers that say it at once do not lock each other out.
CREATE FUNCTION key_used(orgs uuid[], keys uuid[], at_us bigint[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint;
BEGIN
	WITH used AS (
		SELECT k.org_id, k.id, 'epoch'::timestamptz + u.us * interval '1 microsecond' AS at
		FROM unnest(orgs, keys, at_us) AS u (org, key, us)
			JOIN api_key k ON k.org_id = u.org AND k.id = u.key
		ORDER BY k.org_id, k.id FOR NO KEY UPDATE OF k
	)
	UPDATE api_key a SET last_used_at = GREATEST(a.last_used_at, used.at) FROM used
	WHERE a.org_id = used.org_id AND a.id = used.id;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
GRANT EXECUTE ON FUNCTION key_used(uuid[], uuid[], bigint[]) TO tollgate_app;

-- down
-- The keys stay as they are; which replaced which, and when each was last used, is forgotten.
DROP FUNCTION key_used(uuid[], uuid[], bigint[]);
DROP FUNCTION key_rotate(uuid, uuid, text, bytea, bigint, text, bigint, jsonb, text);
DROP FUNCTION key_within(api_key, api_key);
CREATE FUNCTION key_json(key_id uuid, public_id text, name text, role text, scopes text[], models text[],
	rpm bigint, tpm bigint, expires_at timestamptz, last4 text, created_at timestamptz, revoked_at timestamptz)
RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('id', key_id, 'name', name, 'prefix', 'tg_' || public_id, 'last4', last4,
	'role', role, 'scopes', to_jsonb(scopes), 'models', to_jsonb(models),
	'limits', jsonb_build_object('rpm', rpm, 'tpm', tpm), 'budget', NULL,
	'status', CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
		ELSE 'active' END,
	'expires_at', tg_rfc3339(expires_at), 'created_at', tg_rfc3339(created_at),
	'revoked_at', tg_rfc3339(revoked_at)) $$;
GRANT EXECUTE ON FUNCTION key_json(uuid, text, text, text, text[], text[], bigint, bigint, timestamptz,
	text, timestamptz, timestamptz) TO tollgate_app;
CREATE OR REPLACE FUNCTION key_json(k api_key) RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT key_json(k.id, k.public_id, k.name, k.role, k.scopes, k.models, k.rpm, k.tpm, k.expires_at,
	k.last4, k.created_at, k.revoked_at) $$;
DROP FUNCTION key_json(uuid, text, text, text, text[], text[], bigint, bigint, timestamptz, text,
	timestamptz, timestamptz, uuid, timestamptz);
ALTER TABLE api_key DROP COLUMN replaced_by, DROP COLUMN last_used_at;
