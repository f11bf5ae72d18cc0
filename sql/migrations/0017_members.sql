-- 0017_members: people of an org, what an API key may further be bound to, and an org's own settings.
--
-- What keys and orgs had before stays in its functions; what is new wraps them (key_make, key_alter,
-- key_renew, org_edit), in the same transaction.

-- One living member per address; who was removed can be invited again, as somebody new.
ALTER TABLE member DROP CONSTRAINT member_org_id_email_key, ADD COLUMN removed_at timestamptz,
	ADD CONSTRAINT member_removed CHECK ((status = 'removed') = (removed_at IS NOT NULL)),
	ADD CONSTRAINT member_email_lower CHECK (email = lower(email));
CREATE UNIQUE INDEX member_email ON member (org_id, email) WHERE status <> 'removed';

-- NULL: not bound in this. member_id: whose key it is; it ends with that membership.
ALTER TABLE api_key ADD COLUMN member_id uuid,
	ADD COLUMN allow_from cidr[] CHECK (cardinality(allow_from) BETWEEN 1 AND 64),
	ADD COLUMN providers text[] CHECK (cardinality(providers) BETWEEN 1 AND 64),
	ADD COLUMN billing text[] CHECK (cardinality(billing) > 0 AND billing <@ ARRAY['platform', 'byok', 'private']),
	ADD FOREIGN KEY (org_id, member_id) REFERENCES member (org_id, id);
CREATE INDEX api_key_member ON api_key (org_id, member_id) WHERE member_id IS NOT NULL;
GRANT SELECT (member_id, allow_from, providers, billing) ON api_key TO tollgate_app;

-- Only what differs from the default.
ALTER TABLE org ADD COLUMN settings jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object');

-- ---- settings -----------------------------------------------------------------------------------

CREATE FUNCTION org_settings_json(settings jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_build_object('key_max_days', NULL, 'revoked_streams', 'cut') || settings $$;
GRANT EXECUTE ON FUNCTION org_settings_json(jsonb) TO tollgate_app;

CREATE FUNCTION org_json_whole(o org) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS
$$ SELECT org_json(o) || jsonb_build_object('settings', org_settings_json(o.settings)) $$;
GRANT EXECUTE ON FUNCTION org_json_whole(org) TO tollgate_app;

-- Change what is given (NULL: as it is). `new_settings` is merged; a member that is null goes back to its default.
CREATE FUNCTION org_edit(new_name text, new_tier text, new_status text, new_settings jsonb, actor jsonb, req text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o org;
BEGIN
	IF COALESCE(new_name, new_tier, new_status) IS NOT NULL THEN
		PERFORM org_change(new_name, new_tier, new_status, actor, req);
	END IF;
	IF new_settings IS NOT NULL THEN
		UPDATE org SET settings = jsonb_strip_nulls(settings || new_settings)
			WHERE org_id = tg_org() AND status <> 'deleted';
		PERFORM org_touch(tg_org(), 'org');
		PERFORM audit_append(tg_org(), actor, 'org.settings', new_settings::text, 'ok', req);
	END IF;
	SELECT * INTO o FROM org WHERE org_id = tg_org();
	RETURN org_json_whole(o);
END $$;
GRANT EXECUTE ON FUNCTION org_edit(text, text, text, jsonb, jsonb, text) TO tollgate_app;

-- ---- who acts -----------------------------------------------------------------------------------

-- Whoever was let in may have been revoked since: its request's body came slowly, or a worker had not heard yet.
-- Such a key leaves no other key, and no member, behind. Called when the org is locked, as revoking locks it.
CREATE FUNCTION actor_stands(actor jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF actor->>'type' = 'api_key' AND NOT EXISTS (SELECT 1 FROM api_key a
			WHERE a.org_id = tg_org() AND a.id = (actor->>'id')::uuid AND a.revoked_at IS NULL
			AND (a.expires_at IS NULL OR a.expires_at > clock_timestamp())) THEN
		PERFORM tg_raise('TG403', 'permission_denied', 'your API key was revoked, or has expired, while this was asked',
			'use another key');
	END IF;
END $$;

-- ---- members ------------------------------------------------------------------------------------

-- May a member of `member_role` have a key of `role`? Of the three lowest none is within another.
CREATE FUNCTION role_fits(role text, member_role text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT role = member_role OR member_role = 'owner' OR (member_role = 'admin' AND role <> 'owner') $$;

-- May this actor make, change or remove a member of that role? An owner all, an admin those below itself.
CREATE FUNCTION member_may(actor jsonb, role text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT actor->>'type' = 'operator' OR COALESCE(actor->>'role' = 'owner', false)
	OR (COALESCE(actor->>'role' = 'admin', false) AND role_level(role) < role_level('admin')) $$;

CREATE FUNCTION member_json(m member) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS
$$ SELECT jsonb_build_object('id', m.id, 'email', m.email, 'role', m.role, 'status', m.status,
	'created_at', tg_rfc3339(m.created_at), 'removed_at', tg_rfc3339(m.removed_at)) $$;
GRANT EXECUTE ON FUNCTION member_json(member) TO tollgate_app;

CREATE FUNCTION member_refuse() RETURNS void LANGUAGE sql AS
$$ SELECT tg_raise('TG403', 'permission_denied', 'an admin grants, changes and removes only what is below itself',
	'ask an owner of the org') $$;

-- `address` is lower case already. Repeating new_id returns what stands.
CREATE FUNCTION member_invite(new_id uuid, address text, new_role text, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE m member;
BEGIN
	PERFORM 1 FROM org o WHERE o.org_id = tg_org() AND o.status <> 'deleted' FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	PERFORM actor_stands(actor);
	IF NOT member_may(actor, new_role) THEN
		PERFORM member_refuse();
	END IF;
	SELECT * INTO m FROM member WHERE org_id = tg_org() AND id = new_id;
	IF FOUND THEN
		RETURN member_json(m);
	END IF;
	IF EXISTS (SELECT 1 FROM member WHERE org_id = tg_org() AND email = address AND status <> 'removed') THEN
		PERFORM tg_raise('TG409', 'member_exists', 'a member of this org has this address already',
			'change its role instead');
	END IF;
	INSERT INTO member (org_id, id, email, role) VALUES (tg_org(), new_id, address, new_role) RETURNING * INTO m;
	PERFORM org_touch(m.org_id, 'member');
	PERFORM audit_append(m.org_id, actor, 'member.invite', m.id::text, 'ok', req);
	RETURN member_json(m);
END $$;
GRANT EXECUTE ON FUNCTION member_invite(uuid, text, text, jsonb, text) TO tollgate_app;

-- The member for writing, locked behind its org, or a refusal.
CREATE FUNCTION member_take(want uuid, actor jsonb) RETURNS member
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE m member;
BEGIN
	PERFORM 1 FROM org o WHERE o.org_id = tg_org() FOR UPDATE;
	PERFORM actor_stands(actor);
	SELECT * INTO m FROM member WHERE org_id = tg_org() AND id = want FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'not_found', 'no such member');
	END IF;
	IF NOT member_may(actor, m.role) THEN
		PERFORM member_refuse();
	END IF;
	RETURN m;
END $$;

-- An org that once had owners keeps one: nobody but the platform's staff could make the next.
CREATE FUNCTION member_keep_owner(m member) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF m.role = 'owner' AND NOT EXISTS (SELECT 1 FROM member x WHERE x.org_id = m.org_id AND x.id <> m.id
			AND x.role = 'owner' AND x.status <> 'removed') THEN
		PERFORM tg_raise('TG409', 'last_owner', 'this is the last owner of the org',
			'make another member an owner first');
	END IF;
END $$;

-- Revoke a member's keys that `keep_role` does not cover (NULL: all). One change, a line in the log for each.
CREATE FUNCTION member_keys_revoke(m member, keep_role text, actor jsonb, req text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE ids uuid[]; one uuid;
BEGIN
	WITH gone AS (
		UPDATE api_key a SET revoked_at = now()
		WHERE a.org_id = m.org_id AND a.member_id = m.id AND a.revoked_at IS NULL
			AND NOT COALESCE(role_fits(a.role, keep_role), false)
		RETURNING a.id
	) SELECT COALESCE(array_agg(id ORDER BY id), '{}') INTO ids FROM gone;
	PERFORM org_touch(m.org_id, CASE WHEN cardinality(ids) > 0 THEN 'key' ELSE 'member' END);
	FOREACH one IN ARRAY ids LOOP
		PERFORM audit_append(m.org_id, actor, 'api_key.revoke', one::text, 'ok', req);
	END LOOP;
	RETURN cardinality(ids);
END $$;

CREATE FUNCTION member_role(want uuid, new_role text, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE m member := member_take(want, actor); gone bigint;
BEGIN
	IF m.status = 'removed' THEN
		PERFORM tg_raise('TG409', 'member_removed', 'this member was removed', 'invite the address again');
	END IF;
	IF NOT member_may(actor, new_role) THEN
		PERFORM member_refuse();
	END IF;
	IF new_role <> 'owner' THEN
		PERFORM member_keep_owner(m);
	END IF;
	UPDATE member SET role = new_role WHERE org_id = m.org_id AND id = m.id RETURNING * INTO m;
	gone := member_keys_revoke(m, new_role, actor, req);
	PERFORM audit_append(m.org_id, actor, 'member.role', m.id::text || ' ' || new_role, 'ok', req);
	RETURN member_json(m) || jsonb_build_object('keys_revoked', gone);
END $$;
GRANT EXECUTE ON FUNCTION member_role(uuid, text, jsonb, text) TO tollgate_app;

-- Remove; again is no error.
CREATE FUNCTION member_remove(want uuid, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE m member := member_take(want, actor); gone bigint := 0;
BEGIN
	IF m.status <> 'removed' THEN
		PERFORM member_keep_owner(m);
		UPDATE member SET status = 'removed', removed_at = now() WHERE org_id = m.org_id AND id = m.id
			RETURNING * INTO m;
		gone := member_keys_revoke(m, NULL, actor, req);
		PERFORM audit_append(m.org_id, actor, 'member.remove', m.id::text, 'ok', req);
	END IF;
	RETURN member_json(m) || jsonb_build_object('keys_revoked', gone);
END $$;
GRANT EXECUTE ON FUNCTION member_remove(uuid, jsonb, text) TO tollgate_app;

-- ---- what a key is further bound to --------------------------------------------------------------

CREATE FUNCTION key_bounds_json(member_id uuid, allow_from cidr[], providers text[], billing text[]) RETURNS jsonb
LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('member', member_id, 'allow_from', to_jsonb(allow_from::text[]),
	'providers', to_jsonb(providers), 'billing', to_jsonb(billing)) $$;
GRANT EXECUTE ON FUNCTION key_bounds_json(uuid, cidr[], text[], text[]) TO tollgate_app;
CREATE FUNCTION key_bounds_json(k api_key) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS
$$ SELECT key_bounds_json(k.member_id, k.allow_from, k.providers, k.billing) $$;

-- The same for a key of this transaction's org, behind functions that know nothing of bounds.
CREATE FUNCTION key_bounds_of(key_id uuid) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT key_bounds_json(k.member_id, k.allow_from, k.providers, k.billing)
	FROM api_key k WHERE k.org_id = tg_org() AND k.id = key_bounds_of.key_id
$$;
GRANT EXECUTE ON FUNCTION key_bounds_of(uuid) TO tollgate_app;

-- The same beside auth_lookup(): lists as JSON text, '' where the key is not bound.
CREATE FUNCTION auth_bounds(org uuid, key uuid) RETURNS TABLE (allow_from text, providers text, billing text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT COALESCE(to_jsonb(k.allow_from::text[])::text, ''), COALESCE(to_jsonb(k.providers)::text, ''),
		COALESCE(to_jsonb(k.billing)::text, '')
	FROM api_key k WHERE k.org_id = org AND k.id = key
$$;
GRANT EXECUTE ON FUNCTION auth_bounds(uuid, uuid) TO tollgate_app;

-- A developer's key makes none that may more, or longer, or from elsewhere, than itself.
CREATE FUNCTION key_refuse_more(k api_key, actor jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE own api_key; what text;
BEGIN
	IF actor->>'role' IS DISTINCT FROM 'developer' THEN
		RETURN;
	END IF;
	SELECT * INTO own FROM api_key a WHERE a.org_id = k.org_id AND a.id = (actor->>'id')::uuid;
	what := CASE
		WHEN own.id IS NULL THEN 'all'
		WHEN NOT key_within(k, own) THEN 'models, limits'
		WHEN own.expires_at IS NOT NULL AND NOT COALESCE(k.expires_at <= own.expires_at, false) THEN 'expires_at'
		WHEN own.providers IS NOT NULL AND NOT COALESCE(k.providers <@ own.providers, false) THEN 'providers'
		WHEN own.billing IS NOT NULL AND NOT COALESCE(k.billing <@ own.billing, false) THEN 'billing'
		WHEN own.allow_from IS NOT NULL AND (k.allow_from IS NULL OR EXISTS (SELECT 1 FROM unnest(k.allow_from) AS c
			WHERE NOT EXISTS (SELECT 1 FROM unnest(own.allow_from) AS o WHERE c <<= o))) THEN 'allow_from'
		END;
	IF what IS NOT NULL THEN
		PERFORM tg_raise('TG403', 'permission_denied', what || ': this API key may do more than your own',
			'name what your own key has, or ask an admin of the org');
	END IF;
END $$;

-- The org's rule on how long a key may live, counted from when it was made.
CREATE FUNCTION key_life_max(k api_key) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS
$$ SELECT k.created_at + make_interval(days => (o.settings->>'key_max_days')::int) FROM org o WHERE o.org_id = k.org_id $$;

-- Write what `spec` has of allow_from, providers, billing, and refuse what the org's rules or the actor's own key do
-- not cover. `expiry`: expires_at was given.
CREATE FUNCTION key_bind(want uuid, spec jsonb, expiry boolean, actor jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE k api_key; last_day timestamptz;
BEGIN
	UPDATE api_key a SET
		allow_from = CASE WHEN spec ? 'allow_from' THEN (SELECT array_agg(v::cidr) FROM
			jsonb_array_elements_text(NULLIF(spec->'allow_from', 'null')) AS v) ELSE a.allow_from END,
		providers = CASE WHEN spec ? 'providers' THEN (SELECT array_agg(v) FROM
			jsonb_array_elements_text(NULLIF(spec->'providers', 'null')) AS v) ELSE a.providers END,
		billing = CASE WHEN spec ? 'billing' THEN (SELECT array_agg(v) FROM
			jsonb_array_elements_text(NULLIF(spec->'billing', 'null')) AS v) ELSE a.billing END
	WHERE a.org_id = tg_org() AND a.id = want RETURNING * INTO k;
	last_day := key_life_max(k);
	IF expiry AND last_day IS NOT NULL AND NOT COALESCE(k.expires_at <= last_day, false) THEN
		PERFORM tg_raise('TG400', 'expiry_policy', 'expires_at: by the org''s setting key_max_days this key may live until '
			|| tg_rfc3339(last_day) || ' at most', 'give an expires_at that is not later');
	END IF;
	PERFORM key_refuse_more(k, actor);
	RETURN key_json(k) || key_bounds_json(k);
END $$;

-- key_create(), and whose key it is: what a developer's key makes belongs to its own member.
CREATE FUNCTION key_make(key_id uuid, pub text, key_hash bytea, pepper bigint, tail text, spec jsonb, actor jsonb,
	req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE k api_key; m member; whose uuid := (spec->>'member')::uuid; own uuid; answer jsonb;
BEGIN
	PERFORM key_create(key_id, pub, key_hash, pepper, tail, spec, actor, req);
	PERFORM actor_stands(actor);
	SELECT * INTO k FROM api_key a WHERE a.org_id = tg_org() AND a.id = key_id;
	IF k.created_at <> now() THEN -- repeated: its answer was lost
		RETURN key_json(k) || key_bounds_json(k);
	END IF;
	IF actor->>'role' = 'developer' THEN
		SELECT a.member_id INTO own FROM api_key a WHERE a.org_id = k.org_id AND a.id = (actor->>'id')::uuid;
		IF whose IS DISTINCT FROM own AND whose IS NOT NULL THEN
			PERFORM tg_raise('TG403', 'permission_denied', 'member: a developer makes keys for itself alone',
				'leave member out, or ask an admin of the org');
		END IF;
		whose := own;
	END IF;
	IF whose IS NOT NULL THEN
		SELECT * INTO m FROM member x WHERE x.org_id = k.org_id AND x.id = whose AND x.status <> 'removed' FOR UPDATE;
		IF NOT FOUND THEN
			PERFORM tg_raise('TG400', 'member_not_found', 'member: nobody of this org has this id',
				'list them with GET /admin/v1/orgs/{org}/members');
		END IF;
		IF NOT role_fits(k.role, m.role) THEN
			PERFORM tg_raise('TG403', 'permission_denied', 'role: above the member''s own, which is ' || m.role,
				'change the member''s role first, or give its key a lower one');
		END IF;
		UPDATE member x SET status = 'active' WHERE x.org_id = m.org_id AND x.id = m.id AND x.status = 'invited';
		UPDATE api_key a SET member_id = m.id WHERE a.org_id = k.org_id AND a.id = k.id;
	END IF;
	answer := key_bind(key_id, spec, true, actor);
	PERFORM audit_append_rest(k.org_id, actor, 'api_key.bind', key_id::text, req);
	RETURN answer;
END $$;
GRANT EXECUTE ON FUNCTION key_make(uuid, text, bytea, bigint, text, jsonb, jsonb, text) TO tollgate_app;

CREATE FUNCTION key_alter(want uuid, patch jsonb, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE answer jsonb;
BEGIN
	PERFORM key_change(want, patch, actor, req);
	PERFORM actor_stands(actor);
	answer := key_bind(want, patch, patch ? 'expires_at', actor);
	PERFORM audit_append_rest(tg_org(), actor, 'api_key.bind', want::text, req);
	RETURN answer;
END $$;
GRANT EXECUTE ON FUNCTION key_alter(uuid, jsonb, jsonb, text) TO tollgate_app;

-- key_rotate(), with all that binds the old key; the new one lives no longer than the org's rule allows.
CREATE FUNCTION key_renew(want uuid, new_id uuid, pub text, key_hash bytea, pepper bigint, tail text,
	overlap bigint, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE answer jsonb := key_rotate(want, new_id, pub, key_hash, pepper, tail, overlap, actor, req);
	was api_key; k api_key;
BEGIN
	PERFORM actor_stands(actor);
	SELECT * INTO was FROM api_key a WHERE a.org_id = tg_org() AND a.id = want;
	SELECT * INTO k FROM api_key a WHERE a.org_id = tg_org() AND a.id = new_id;
	IF k.created_at = now() THEN
		UPDATE api_key a SET member_id = was.member_id, allow_from = was.allow_from, providers = was.providers,
			billing = was.billing, expires_at = LEAST(a.expires_at, key_life_max(k))
		WHERE a.org_id = k.org_id AND a.id = k.id RETURNING * INTO k;
		PERFORM key_refuse_more(k, actor);
		PERFORM audit_append_rest(k.org_id, actor, 'api_key.bind', new_id::text, req);
	END IF;
	RETURN answer || key_json(k) || key_bounds_json(k) || jsonb_build_object('replaces',
		key_json(was) || key_bounds_json(was));
END $$;
GRANT EXECUTE ON FUNCTION key_renew(uuid, uuid, text, bytea, bigint, text, bigint, jsonb, text) TO tollgate_app;

-- down
-- Bounds of keys and settings of orgs are forgotten: refused while there are any that a key would shed.
DO $$
BEGIN
	IF EXISTS (SELECT 1 FROM member) OR EXISTS (SELECT 1 FROM api_key
			WHERE COALESCE(allow_from::text, providers::text, billing::text) IS NOT NULL AND revoked_at IS NULL) THEN
		RAISE EXCEPTION 'there are members, or keys bound by address, provider or billing source: refusing to forget them';
	END IF;
END $$;
DROP FUNCTION key_renew(uuid, uuid, text, bytea, bigint, text, bigint, jsonb, text);
DROP FUNCTION key_alter(uuid, jsonb, jsonb, text);
DROP FUNCTION key_make(uuid, text, bytea, bigint, text, jsonb, jsonb, text);
DROP FUNCTION key_bind(uuid, jsonb, boolean, jsonb);
DROP FUNCTION key_life_max(api_key);
DROP FUNCTION key_refuse_more(api_key, jsonb);
DROP FUNCTION auth_bounds(uuid, uuid);
DROP FUNCTION key_bounds_of(uuid);
DROP FUNCTION key_bounds_json(api_key);
DROP FUNCTION key_bounds_json(uuid, cidr[], text[], text[]);
DROP FUNCTION member_remove(uuid, jsonb, text);
DROP FUNCTION member_role(uuid, text, jsonb, text);
DROP FUNCTION member_keys_revoke(member, text, jsonb, text);
DROP FUNCTION member_keep_owner(member);
DROP FUNCTION member_take(uuid, jsonb);
DROP FUNCTION member_invite(uuid, text, text, jsonb, text);
DROP FUNCTION member_refuse();
DROP FUNCTION member_json(member);
DROP FUNCTION member_may(jsonb, text);
DROP FUNCTION role_fits(text, text);
DROP FUNCTION actor_stands(jsonb);
DROP FUNCTION org_edit(text, text, text, jsonb, jsonb, text);
DROP FUNCTION org_json_whole(org);
DROP FUNCTION org_settings_json(jsonb);
ALTER TABLE org DROP COLUMN settings;
ALTER TABLE api_key DROP COLUMN member_id, DROP COLUMN allow_from, DROP COLUMN providers, DROP COLUMN billing;
DROP INDEX member_email;
ALTER TABLE member DROP CONSTRAINT member_email_lower, DROP CONSTRAINT member_removed, DROP COLUMN removed_at,
	ADD UNIQUE (org_id, email);
