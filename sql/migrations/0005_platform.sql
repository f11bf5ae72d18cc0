-- 0005_platform: one function makes an org, and the platform is the first.
--
-- It stands behind the tables of vault and billing because it writes both: so neither room knows
-- the other's. Repeating (new_id, new_slug) returns the org that stands.

CREATE FUNCTION org_create(new_id uuid, new_slug text, new_name text, new_tier text, actor jsonb, req text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o org;
BEGIN
	SELECT * INTO o FROM org WHERE org_id = new_id AND slug = new_slug;
	IF FOUND THEN
		RETURN org_json(o);
	END IF;
	IF EXISTS (SELECT 1 FROM org_slug WHERE slug = new_slug) THEN
		PERFORM tg_raise('TG409', 'slug_taken', 'there is an org with this slug already', 'choose another slug');
	END IF;
	INSERT INTO org (org_id, slug, name, tier) VALUES (new_id, new_slug, new_name, new_tier) RETURNING * INTO o;
	INSERT INTO org_slug VALUES (new_slug, new_id);
	INSERT INTO org_head (org_id) VALUES (new_id);
	INSERT INTO audit_head (org_id) VALUES (new_id);
	PERFORM tg_change('org', new_id, o.version);
	PERFORM audit_append(new_id, actor, 'org.create', new_slug, 'ok', req);
	RETURN org_json(o);
END $$;
GRANT EXECUTE ON FUNCTION org_create(uuid, text, text, text, jsonb, text) TO tollgate_app;

SELECT org_create('00000000-0000-7000-8000-000000000000', 'platform', 'Platform', 'platform',
	'{"type": "migration"}', 'migration-0005');

-- down
DO $$
BEGIN
	IF EXISTS (SELECT 1 FROM org WHERE slug <> 'platform') OR EXISTS (SELECT 1 FROM api_key)
		OR (SELECT last_seq FROM audit_head WHERE org_id = '00000000-0000-7000-8000-000000000000') > 1
		OR (SELECT last_seq FROM org_head WHERE org_id = '00000000-0000-7000-8000-000000000000') > 0 THEN
		RAISE EXCEPTION 'there are orgs, keys or booked rows: refusing to take the platform org away';
	END IF;
END $$;
-- Nothing happened since: its one audit row is this migration's own.
ALTER TABLE audit DISABLE TRIGGER append_only;
DELETE FROM audit;
ALTER TABLE audit ENABLE TRIGGER append_only;
DELETE FROM audit_head;
DELETE FROM org_head;
DELETE FROM secret;
DELETE FROM tollgate_vault.org_dek;
DELETE FROM org_slug;
DELETE FROM org;
DROP FUNCTION org_create(uuid, text, text, text, jsonb, text);
