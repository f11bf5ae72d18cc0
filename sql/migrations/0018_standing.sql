-- 0018_standing: may a call that runs go on? Asked by the workers for their running calls after a change.

-- What ends call number n: 'key' (revoked), 'org' (suspended or deleted), 'profile' (of org `owners`: revoked, disabled,
-- or with_secret and the secret is gone; NULL: nobody is being asked). No row: it goes on. An expired key lets its calls
-- end by themselves, and so does a setting revoked_streams 'finish' of the org whose key or profile it is; a deleted
-- org has no say.
CREATE FUNCTION calls_standing(orgs uuid[], keys uuid[], owners uuid[], profiles uuid[], with_secret bigint[])
RETURNS TABLE (n bigint, verdict text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT judged.n, judged.verdict FROM (
		SELECT c.n, CASE
			WHEN o.status = 'deleted' THEN 'org'
			WHEN k.revoked_at IS NOT NULL AND o.settings->>'revoked_streams' IS DISTINCT FROM 'finish' THEN 'key'
			WHEN o.status <> 'active' AND o.settings->>'revoked_streams' IS DISTINCT FROM 'finish' THEN 'org'
			WHEN p.id IS NOT NULL AND w.settings->>'revoked_streams' IS DISTINCT FROM 'finish' AND (p.status <> 'active'
				OR (c.secret <> 0 AND NOT EXISTS (SELECT 1 FROM secret s WHERE s.org_id = p.org_id AND s.id = p.id)))
				THEN 'profile'
			END AS verdict
		FROM unnest(orgs, keys, owners, profiles, with_secret) WITH ORDINALITY AS c (org, key, owner, profile, secret, n)
			JOIN org o ON o.org_id = c.org
			JOIN api_key k ON k.org_id = c.org AND k.id = c.key
			LEFT JOIN profile p ON p.org_id = c.owner AND p.id = c.profile
			LEFT JOIN org w ON w.org_id = c.owner
	) judged WHERE judged.verdict IS NOT NULL
$$;
GRANT EXECUTE ON FUNCTION calls_standing(uuid[], uuid[], uuid[], uuid[], bigint[]) TO tollgate_app;

-- down
DROP FUNCTION calls_standing(uuid[], uuid[], uuid[], uuid[], bigint[]);
