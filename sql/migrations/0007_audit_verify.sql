-- 0007_audit_verify: is the audit log still what audit_append() made of it?
--
-- Every row is hashed again and held against its neighbour, its place, and the head of its org. Found
-- is whatever was changed, taken out, put in or moved without making the whole rest of the chain and its
-- head anew; against that helps only a head kept elsewhere.

-- The key of a list that counts: what a cursor holds, NULL from the newest.
CREATE FUNCTION tg_cursor_seq(cursor_text text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF cursor_text IS NULL OR cursor_text = '' THEN
		RETURN NULL;
	END IF;
	IF cursor_text !~ '^[0-9]{1,18}$' THEN
		PERFORM tg_raise('TG400', 'invalid_cursor', 'the cursor is not one of this list',
			'pass meta.next_cursor of the page before, unchanged');
	END IF;
	RETURN cursor_text::bigint;
END $$;
GRANT EXECUTE ON FUNCTION tg_cursor_seq(text) TO tollgate_app;

-- The chains of the orgs from `low` to `high`: how many rows each has, and the first place (NULL: none)
-- that is not right. An org has a row from its making on, so one without any has lost them.
CREATE FUNCTION audit_check(low uuid, high uuid)
RETURNS TABLE (org_id uuid, slug text, row_count bigint, bad_seq bigint, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	WITH link AS (
		SELECT a.org_id, a.seq, a.prev_hash, a.hash, row_number() OVER w AS place,
			lag(a.hash, 1, ''::bytea) OVER w AS before,
			sha256(a.prev_hash || convert_to(jsonb_build_array(a.org_id, a.seq, tg_rfc3339(a.at), a.actor,
				a.action, a.object, a.result, a.request_id)::text, 'UTF8')) AS made
		FROM audit a WHERE a.org_id BETWEEN low AND high
		WINDOW w AS (PARTITION BY a.org_id ORDER BY a.seq)
	), chain AS (
		SELECT l.org_id, count(*) AS row_count, max(l.seq) AS last_seq,
			min(least(l.seq, l.place)) FILTER (WHERE l.seq <> l.place) AS gap,
			min(l.seq) FILTER (WHERE l.hash <> l.made) AS changed,
			min(l.seq) FILTER (WHERE l.prev_hash <> l.before) AS unlinked
		FROM link l GROUP BY l.org_id
	), known AS (
		SELECT o.org_id FROM org o WHERE o.org_id BETWEEN low AND high
		UNION SELECT h.org_id FROM audit_head h WHERE h.org_id BETWEEN low AND high
		UNION SELECT c.org_id FROM chain c
	), ended AS (
		SELECT k.org_id, COALESCE(c.row_count, 0) AS row_count, c.gap, c.changed, c.unlinked,
			CASE WHEN h.org_id IS NULL THEN COALESCE(c.last_seq, 0) + 1
				WHEN h.last_seq <> COALESCE(c.last_seq, 0) THEN least(h.last_seq, COALESCE(c.last_seq, 0)) + 1
				WHEN c.last_seq IS NULL THEN 1
				WHEN h.last_hash <> l.hash THEN c.last_seq END AS tail,
			CASE WHEN h.org_id IS NULL THEN 'the head of the chain is missing'
				WHEN c.last_seq IS NULL OR h.last_seq > c.last_seq THEN 'rows are missing from here to the end'
				WHEN h.last_seq < c.last_seq THEN 'the head of the chain does not know this row'
				ELSE 'the head of the chain names another row' END AS tail_what
		FROM known k
		LEFT JOIN chain c ON c.org_id = k.org_id
		LEFT JOIN audit_head h ON h.org_id = k.org_id
		LEFT JOIN audit l ON l.org_id = k.org_id AND l.seq = c.last_seq
	)
	SELECT e.org_id, o.slug, e.row_count, least(e.gap, e.changed, e.unlinked, e.tail),
		CASE least(e.gap, e.changed, e.unlinked, e.tail)
			WHEN e.gap THEN 'a row is missing, or one is too many'
			WHEN e.changed THEN 'the row is not what was written'
			WHEN e.unlinked THEN 'the row does not follow the one before it'
			WHEN e.tail THEN e.tail_what END
	FROM ended e LEFT JOIN org o ON o.org_id = e.org_id
$$;

-- The org of this transaction; no row without one.
CREATE FUNCTION audit_verify() RETURNS TABLE (org_id uuid, slug text, row_count bigint, bad_seq bigint, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS
$$ SELECT c.org_id, c.slug, c.row_count, c.bad_seq, c.what FROM audit_check(tg_org(), tg_org()) c $$;
GRANT EXECUTE ON FUNCTION audit_verify() TO tollgate_app;

-- Every org, deleted ones too.
CREATE FUNCTION audit_verify_all() RETURNS TABLE (org_id uuid, slug text, row_count bigint, bad_seq bigint, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS
$$ SELECT c.org_id, c.slug, c.row_count, c.bad_seq, c.what
	FROM audit_check('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff') c $$;
GRANT EXECUTE ON FUNCTION audit_verify_all() TO tollgate_app;

-- down
DROP FUNCTION audit_verify_all(), audit_verify(), audit_check(uuid, uuid), tg_cursor_seq(text);
