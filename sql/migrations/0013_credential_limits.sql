-- 0013_credential_limits: how often one actor may update, test and read provider credentials.

-- When each operation of the last hour was taken, oldest first: a sliding window. One row per actor and kind, so that
-- its lock makes the count exact over workers and processes, and its size is bounded by the largest limit there can be.
CREATE TABLE credential_use (
	org_id uuid NOT NULL REFERENCES org (org_id),
	actor text NOT NULL,
	kind text NOT NULL CHECK (kind IN ('update', 'test', 'read')),
	taken timestamptz[] NOT NULL,
	PRIMARY KEY (org_id, actor, kind)
);
SELECT tg_tenant_table('credential_use');

-- Take one operation, in the transaction of what it is for: what fails later in it gives it back. Where none is left
-- it says from when on there is one; the hint's "in N s" becomes Retry-After (server/pg_err.c).
CREATE FUNCTION credential_take(p_kind text, p_actor jsonb, p_limit bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE who text := coalesce(p_actor->>'id', p_actor->>'type'); used timestamptz[]; t timestamptz; again timestamptz;
BEGIN
	INSERT INTO credential_use VALUES (tg_org(), who, p_kind, '{}') ON CONFLICT DO NOTHING;
	SELECT taken INTO used FROM credential_use c
	WHERE c.org_id = tg_org() AND c.actor = who AND c.kind = p_kind FOR UPDATE;
	t := clock_timestamp(); -- behind the lock: the rows' order is their time's
	used := ARRAY(SELECT u FROM unnest(used) u WHERE u > t - interval '1 hour' ORDER BY u);
	IF cardinality(used) >= p_limit THEN
		-- a limit that was lowered meanwhile needs more than the oldest to leave
		again := used[cardinality(used) - p_limit + 1] + interval '1 hour';
		PERFORM tg_raise('TG429', 'credential_rate_limited',
			format('the limit of %s credential %ss an hour is reached', p_limit, p_kind),
			format('in %s s, at %s', greatest(1, ceil(extract(epoch FROM again - t))::bigint), tg_rfc3339(again)));
	END IF;
	UPDATE credential_use c SET taken = used || t WHERE c.org_id = tg_org() AND c.actor = who AND c.kind = p_kind;
	RETURN p_limit - cardinality(used) - 1;
END $$;
GRANT EXECUTE ON FUNCTION credential_take(text, jsonb, bigint) TO tollgate_app;

-- down
DROP FUNCTION credential_take(text, jsonb, bigint);
DROP TABLE credential_use;
