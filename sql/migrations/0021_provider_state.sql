-- 0021_provider_state: which profile keeps what a later call may build on (a stored response, a container).

-- State lives in one provider account: a follow-up goes there or nowhere. Only a hash of its id stands here, and only for the
-- org whose call made it, so that no org can build on another's state in an account that both are served from.
CREATE TABLE provider_state (
	org_id uuid NOT NULL REFERENCES org (org_id),
	id_hash bytea NOT NULL CHECK (length(id_hash) = 32),
	profile_id uuid NOT NULL, -- the platform's, too: no foreign key
	kept_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, id_hash)
);
CREATE INDEX provider_state_age ON provider_state (org_id, kept_at);
SELECT tg_tenant_table('provider_state');
GRANT SELECT ON provider_state TO tollgate_app;

-- Remember one, and forget some of what no provider keeps any more (stored responses live 30 days).
CREATE FUNCTION provider_state_keep(p_id_hash bytea, p_profile uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO provider_state (org_id, id_hash, profile_id) VALUES (tg_org(), p_id_hash, p_profile)
	ON CONFLICT (org_id, id_hash) DO UPDATE SET profile_id = EXCLUDED.profile_id, kept_at = now();
	DELETE FROM provider_state s WHERE s.org_id = tg_org() AND s.id_hash IN (
		SELECT o.id_hash FROM provider_state o
		WHERE o.org_id = tg_org() AND o.kept_at < now() - interval '32 days'
		ORDER BY o.kept_at LIMIT 20 FOR UPDATE SKIP LOCKED);
END $$;
GRANT EXECUTE ON FUNCTION provider_state_keep(bytea, uuid) TO tollgate_app;

-- down
DROP FUNCTION provider_state_keep(bytea, uuid);
DROP TABLE provider_state;
