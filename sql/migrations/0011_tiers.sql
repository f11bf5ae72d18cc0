-- 0011_tiers: what an org of a tier may have. Platform-wide, the operator's; no tenant's data.
--
-- The rules stand in triggers: whichever function writes a profile, a key or an org's tier, they hold. What an
-- org has when its tier changes stays; calls through a profile that is no longer eligible are passed over
-- (routing/plan.c). All tiers begin without limits, so that nothing that runs changes by this.

-- The table is 0003's, which has the fees there.
ALTER TABLE tier ADD COLUMN label text CHECK (char_length(label) BETWEEN 1 AND 200), -- NULL: its name
	ADD COLUMN byok boolean NOT NULL DEFAULT true,
	ADD COLUMN private boolean NOT NULL DEFAULT true,
	ADD COLUMN max_profiles int CHECK (max_profiles >= 0), -- NULL: no limit
	ADD COLUMN max_api_keys int CHECK (max_api_keys >= 0),
	ADD COLUMN created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	ADD COLUMN updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	ADD CONSTRAINT tier_name CHECK (tier ~ '^[a-z0-9][a-z0-9_-]{0,31}$'); -- as org.tier

SELECT audit_watch('tier', 'tier', 'updated_at');

INSERT INTO tier (tier) VALUES ('standard'), ('platform') ON CONFLICT DO NOTHING;
INSERT INTO tier (tier) SELECT DISTINCT tier FROM org ON CONFLICT DO NOTHING;

CREATE FUNCTION tier_json(t tier) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('name', t.tier, 'label', coalesce(t.label, t.tier), 'byok', t.byok, 'private', t.private,
		'max_profiles', t.max_profiles, 'max_api_keys', t.max_api_keys,
		'created_at', tg_rfc3339(t.created_at), 'updated_at', tg_rfc3339(t.updated_at))
$$;
GRANT EXECUTE ON FUNCTION tier_json(tier) TO tollgate_app;

CREATE FUNCTION tier_put(p_name text, p_label text, p_byok boolean, p_private boolean, p_max_profiles int,
	p_max_api_keys int, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE t tier; platform uuid := '00000000-0000-7000-8000-000000000000';
BEGIN
	PERFORM 1 FROM org WHERE org_id = platform FOR UPDATE;
	IF p_name !~ '^[a-z0-9][a-z0-9_-]{0,31}$' THEN
		PERFORM tg_raise('TG400', 'invalid_name', 'this is no name for a tier',
			'1 to 32 lower-case letters, digits, "-" and "_", the first a letter or digit');
	END IF;
	IF NOT EXISTS (SELECT 1 FROM tier WHERE tier = p_name) AND (SELECT count(*) FROM tier) >= 100 THEN
		PERFORM tg_raise('TG409', 'too_many_tiers', 'there are 100 tiers, which is the most', 'delete one that no org has');
	END IF;
	INSERT INTO tier (tier, label, byok, private, max_profiles, max_api_keys)
	VALUES (p_name, p_label, p_byok, p_private, p_max_profiles, p_max_api_keys)
	ON CONFLICT (tier) DO UPDATE SET label = EXCLUDED.label, byok = EXCLUDED.byok, private = EXCLUDED.private,
		max_profiles = EXCLUDED.max_profiles, max_api_keys = EXCLUDED.max_api_keys, updated_at = clock_timestamp()
	RETURNING * INTO t;
	PERFORM org_touch(platform, 'tier');
	PERFORM audit_append(platform, p_actor, 'tier.put', p_name, 'ok', p_request_id);
	RETURN tier_json(t);
END $$;
GRANT EXECUTE ON FUNCTION tier_put(text, text, boolean, boolean, int, int, jsonb, text) TO tollgate_app;

CREATE FUNCTION tier_delete(p_name text, p_actor jsonb, p_request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE t tier; platform uuid := '00000000-0000-7000-8000-000000000000';
BEGIN
	PERFORM 1 FROM org WHERE org_id = platform FOR UPDATE;
	-- An org that is being given this tier holds its row: it is seen below once that is done.
	SELECT * INTO t FROM tier WHERE tier = p_name FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'tier_not_found', 'no such tier');
	END IF;
	IF EXISTS (SELECT 1 FROM org WHERE tier = p_name AND status <> 'deleted') THEN
		PERFORM tg_raise('TG409', 'tier_in_use', 'there are orgs of this tier', 'move them to another tier first');
	END IF;
	DELETE FROM tier WHERE tier = p_name;
	PERFORM org_touch(platform, 'tier');
	PERFORM audit_append(platform, p_actor, 'tier.delete', p_name, 'ok', p_request_id);
	RETURN tier_json(t);
END $$;
GRANT EXECUTE ON FUNCTION tier_delete(text, jsonb, text) TO tollgate_app;

CREATE FUNCTION org_tier_check() RETURNS trigger LANGUAGE plpgsql
SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.tier = OLD.tier THEN
		RETURN NEW;
	END IF;
	PERFORM 1 FROM tier WHERE tier = NEW.tier FOR KEY SHARE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG400', 'tier_not_found', 'there is no tier of this name', 'GET /admin/v1/tiers lists them');
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER tier_exists BEFORE INSERT OR UPDATE OF tier ON org FOR EACH ROW EXECUTE FUNCTION org_tier_check();

-- May the org of this transaction connect one more profile that is billed this way? Asked before a connection is
-- tried out, and again by the trigger when it is stored.
CREATE FUNCTION tier_profile_check(p_billing text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE t tier; o uuid := tg_org();
BEGIN
	PERFORM 1 FROM org WHERE org_id = o FOR UPDATE;
	SELECT tier.* INTO t FROM org JOIN tier ON tier.tier = org.tier WHERE org.org_id = o;
	IF NOT FOUND THEN
		RETURN true; -- a deleted org's tier may be gone
	END IF;
	IF (p_billing = 'byok' AND NOT t.byok) OR (p_billing = 'private' AND NOT t.private) THEN
		PERFORM tg_raise('TG403', 'tier_not_eligible', 'the tier "' || t.tier || '" has no ' || p_billing || ' profiles',
			'the operator can move the org to another tier');
	END IF;
	IF t.max_profiles IS NULL THEN
		RETURN true; -- nothing to count
	END IF;
	IF (SELECT count(*) FROM profile WHERE org_id = o AND status <> 'revoked') >= t.max_profiles THEN
		PERFORM tg_raise('TG403', 'tier_limit', 'the tier "' || t.tier || '" has ' || t.max_profiles || ' profiles at most',
			'revoke one that is not used, or ask the operator for another tier');
	END IF;
	RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION tier_profile_check(text) TO tollgate_app;
CREATE FUNCTION profile_tier_check() RETURNS trigger LANGUAGE plpgsql
SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM tier_profile_check(NEW.billing_source);
	RETURN NEW;
END $$;
CREATE TRIGGER tier_allows BEFORE INSERT ON profile FOR EACH ROW EXECUTE FUNCTION profile_tier_check();

-- Deferred, because a rotation has both keys until it ends; a key that takes another's place is no further one. A
-- deferred trigger runs as the service, so it is a definer's.
CREATE FUNCTION key_tier_check() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE t tier;
BEGIN
	SELECT tier.* INTO t FROM org JOIN tier ON tier.tier = org.tier WHERE org.org_id = NEW.org_id;
	IF t.max_api_keys IS NULL OR EXISTS (SELECT 1 FROM api_key WHERE org_id = NEW.org_id AND replaced_by = NEW.id) THEN
		RETURN NULL;
	END IF;
	IF (SELECT count(*) FROM api_key WHERE org_id = NEW.org_id AND revoked_at IS NULL AND replaced_by IS NULL
			AND (expires_at IS NULL OR expires_at > now())) > t.max_api_keys THEN
		PERFORM tg_raise('TG403', 'tier_limit', 'the tier "' || t.tier || '" has ' || t.max_api_keys || ' API keys at most',
			'revoke one that is not used, or ask the operator for another tier');
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tier_allows AFTER INSERT ON api_key DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION key_tier_check();

-- The rules stand in the platform's picture alone: a changed tier is one picture to read again, not a million.
CREATE FUNCTION routing_snapshot_tiers() RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT CASE WHEN tg_org() = '00000000-0000-7000-8000-000000000000' THEN
		(SELECT jsonb_build_object('tiers', jsonb_agg(jsonb_build_object('name', t.tier, 'byok', t.byok,
			'private', t.private) ORDER BY t.tier)) FROM tier t) ELSE '{}'::jsonb END
$$;
GRANT EXECUTE ON FUNCTION routing_snapshot_tiers() TO tollgate_app;

-- down
-- Orgs keep the words of their tiers; the rules go.
DROP FUNCTION routing_snapshot_tiers();
DROP TRIGGER tier_allows ON api_key;
DROP FUNCTION key_tier_check();
DROP TRIGGER tier_allows ON profile;
DROP FUNCTION profile_tier_check();
DROP FUNCTION tier_profile_check(text);
DROP TRIGGER tier_exists ON org;
DROP FUNCTION org_tier_check();
DROP FUNCTION tier_delete(text, jsonb, text);
DROP FUNCTION tier_put(text, text, boolean, boolean, int, int, jsonb, text);
DROP FUNCTION tier_json(tier);
DROP TRIGGER audit_note ON tier;
DELETE FROM tier WHERE tier NOT IN ('free', 'team', 'business', 'enterprise');
ALTER TABLE tier DROP CONSTRAINT tier_name, DROP COLUMN label, DROP COLUMN byok, DROP COLUMN private,
	DROP COLUMN max_profiles, DROP COLUMN max_api_keys, DROP COLUMN created_at, DROP COLUMN updated_at;
