-- 0009_audit_detail: from where, of which provider, and what was changed.
--
-- An audited function says what it did by audit_append(), as before. What it changed is noted by triggers on
-- the tables concerned, within its transaction: of each row a hash before and after, so that two entries
-- about one object show whether somebody changed it between them behind the service's back. No value is kept.

ALTER TABLE audit ADD COLUMN ip text, ADD COLUMN provider text, ADD COLUMN changes jsonb;

-- What an entry's hash is made of. Entries from before this migration have none of the three new things
-- and keep the hash they were written with.
CREATE FUNCTION audit_hash(a audit) RETURNS bytea LANGUAGE sql STABLE AS $$
	SELECT sha256((a).prev_hash || convert_to((CASE
		WHEN (a).ip IS NULL AND (a).provider IS NULL AND (a).changes IS NULL
		THEN jsonb_build_array((a).org_id, (a).seq, tg_rfc3339((a).at), (a).actor, (a).action, (a).object,
			(a).result, (a).request_id)
		ELSE jsonb_build_array((a).org_id, (a).seq, tg_rfc3339((a).at), (a).actor, (a).action, (a).object,
			(a).result, (a).request_id, (a).ip, (a).provider, (a).changes) END)::text, 'UTF8'))
$$;

-- What this transaction has changed since its last entry: {"changes":{"table/key":{"before","after"}},"provider"}.
-- It waits in a setting, which every role may set: so it is sealed, with a key that the service cannot read, for this
-- transaction alone. What is not sealed so is nothing: it is not told, and must not keep an entry from being written.
CREATE TABLE audit_note_key (one boolean PRIMARY KEY DEFAULT true CHECK (one), key bytea NOT NULL);
INSERT INTO audit_note_key (key) VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
CREATE FUNCTION audit_note_seal(note text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT encode(sha256(k.key || sha256(k.key || convert_to(pg_current_xact_id_if_assigned()::text || ' ' || note, 'UTF8'))),
		'hex') FROM audit_note_key k
$$;
CREATE FUNCTION audit_noted() RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN s.it <> '' AND left(s.it, 64) = audit_note_seal(substr(s.it, 65)) THEN substr(s.it, 65)::jsonb ELSE '{}' END
	FROM (SELECT current_setting('app.audit_note', true) AS it) s
$$;
CREATE FUNCTION audit_noted_set(noted jsonb) RETURNS void LANGUAGE sql AS
$$ SELECT set_config('app.audit_note', audit_note_seal(noted::text) || noted::text, true) $$;

-- More rows than this of one transaction (an import, a statement by hand) are not told one by one.
CREATE FUNCTION audit_changes_max() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 100 $$;

-- For triggers of audit_watch(): argument 0 names the column that is the row's key ('' for a table of which
-- only the provider matters), the others what changes without anybody having changed anything.
CREATE FUNCTION audit_note() RETURNS trigger LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE
	was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
	is_now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
	row_now jsonb := COALESCE(is_now, was);
	noted jsonb := audit_noted();
	place text := TG_TABLE_NAME || '/' || (row_now->>TG_ARGV[0]);
	before text;
	after text;
BEGIN
	IF (noted->>'more')::bool THEN
		RETURN NULL;
	END IF;
	IF row_now->>'provider' IS NOT NULL THEN
		noted := noted || jsonb_build_object('provider', row_now->>'provider');
	END IF;
	IF TG_ARGV[0] <> '' THEN
		was := was - TG_ARGV[1:];
		is_now := is_now - TG_ARGV[1:];
		IF was IS DISTINCT FROM is_now THEN
			before := encode(sha256(convert_to(was::text, 'UTF8')), 'hex');
			after := encode(sha256(convert_to(is_now::text, 'UTF8')), 'hex');
			IF noted #> ARRAY['changes', place] IS NOT NULL THEN
				before := noted #>> ARRAY['changes', place, 'before'];
			ELSIF (SELECT count(*) FROM jsonb_object_keys(noted->'changes')) >= audit_changes_max() THEN
				PERFORM audit_noted_set(noted || '{"more": true}');
				RETURN NULL;
			END IF;
			noted := jsonb_set(noted || jsonb_build_object('changes', COALESCE(noted->'changes', '{}')),
				ARRAY['changes', place], jsonb_build_object('before', before, 'after', after));
		END IF;
	END IF;
	PERFORM audit_noted_set(noted);
	RETURN NULL;
END $$;

-- Whoever makes a table of configuration calls this once for it. `still` are columns that do not count.
CREATE FUNCTION audit_watch(of_table text, key text, VARIADIC still text[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER audit_note AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
		'EXECUTE FUNCTION audit_note(%s)', of_table,
		(SELECT string_agg(quote_literal(c), ', ' ORDER BY n) FROM unnest(key || still) WITH ORDINALITY AS u (c, n)));
END $$;
SELECT audit_watch('org', 'org_id', 'version');
SELECT audit_watch('member', 'id');
SELECT audit_watch('profile', 'id', 'health', 'listed', 'updated_at');
SELECT audit_watch('route', 'name', 'updated_at');
SELECT audit_watch('agent', 'name', 'updated_at');
SELECT audit_watch('model', 'id', 'updated_at');
SELECT audit_watch('price_book', '');
-- A secret sealed anew under another data key is the same secret, and keeps its version; its fingerprint is made with that key.
SELECT audit_watch('secret', 'id', 'sealed', 'fingerprint', 'unreadable', 'updated_at');
-- Keys write down when they were used, all day long: that is no change, and must not cost one.
CREATE TRIGGER audit_note AFTER INSERT OR DELETE ON api_key FOR EACH ROW EXECUTE FUNCTION audit_note('id', 'last_used_at');
CREATE TRIGGER audit_note_update AFTER UPDATE ON api_key FOR EACH ROW
	WHEN (OLD.last_used_at IS NOT DISTINCT FROM NEW.last_used_at) EXECUTE FUNCTION audit_note('id', 'last_used_at');

-- As before, and with what was noted. The actor's "ip" becomes a column of its own.
CREATE OR REPLACE FUNCTION audit_append(org uuid, actor jsonb, action text, object text, result text, request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE h audit_head; a audit; noted jsonb := audit_noted();
BEGIN
	SELECT * INTO h FROM audit_head WHERE audit_head.org_id = org FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	a.org_id := org;
	a.seq := h.last_seq + 1;
	a.at := clock_timestamp();
	a.actor := actor - 'ip';
	a.action := action;
	a.object := object;
	a.result := result;
	a.request_id := request_id;
	a.prev_hash := h.last_hash;
	a.ip := actor->>'ip';
	a.provider := noted->>'provider';
	a.changes := noted->'changes';
	IF (noted->>'more')::bool THEN -- told as an object of its own, which no table has
		a.changes := a.changes || '{"more": {"before": null, "after": null}}';
	END IF;
	a.hash := audit_hash(a);
	INSERT INTO audit SELECT a.*;
	UPDATE audit_head SET last_seq = a.seq, last_hash = a.hash WHERE audit_head.org_id = org;
	PERFORM set_config('app.audit_note', '', true);
END $$;

-- An entry of its own for what a function changed after the entry of the one that it is built on; none if nothing.
CREATE FUNCTION audit_append_rest(org uuid, actor jsonb, action text, object text, request_id text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF audit_noted() ? 'changes' THEN
		PERFORM audit_append(org, actor, action, object, 'ok', request_id);
	END IF;
END $$;

CREATE FUNCTION audit_json(a audit) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('seq', a.seq, 'at', tg_rfc3339(a.at), 'actor', a.actor, 'action', a.action,
		'object', a.object, 'result', a.result, 'provider', a.provider, 'ip', a.ip, 'request_id', a.request_id,
		'changes', (SELECT COALESCE(jsonb_agg(c.value || jsonb_build_object('object', c.key) ORDER BY c.key), '[]')
			FROM jsonb_each(a.changes) c))
$$;
GRANT EXECUTE ON FUNCTION audit_json(audit) TO tollgate_app;

-- As 0007 made it, with the new hash.
CREATE OR REPLACE FUNCTION audit_check(low uuid, high uuid)
RETURNS TABLE (org_id uuid, slug text, row_count bigint, bad_seq bigint, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	WITH link AS (
		SELECT a.org_id, a.seq, a.prev_hash, a.hash, row_number() OVER w AS place,
			lag(a.hash, 1, ''::bytea) OVER w AS before,
			audit_hash(a) AS made
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

-- down
DO $$
BEGIN
	IF EXISTS (SELECT 1 FROM audit WHERE ip IS NOT NULL OR provider IS NOT NULL OR changes IS NOT NULL) THEN
		RAISE EXCEPTION 'the audit log has entries that say more than the version before can hold: refusing to cut them';
	END IF;
END $$;
CREATE OR REPLACE FUNCTION audit_check(low uuid, high uuid)
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
CREATE OR REPLACE FUNCTION audit_append(org uuid, actor jsonb, action text, object text, result text, request_id text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE h audit_head; t timestamptz := clock_timestamp(); d bytea;
BEGIN
	SELECT * INTO h FROM audit_head WHERE audit_head.org_id = org FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	d := sha256(h.last_hash || convert_to(jsonb_build_array(org, h.last_seq + 1, tg_rfc3339(t), actor,
		action, object, result, request_id)::text, 'UTF8'));
	INSERT INTO audit VALUES (org, h.last_seq + 1, t, actor, action, object, result, request_id, h.last_hash, d);
	UPDATE audit_head SET last_seq = h.last_seq + 1, last_hash = d WHERE audit_head.org_id = org;
END $$;
DROP FUNCTION audit_json(audit);
DROP FUNCTION audit_append_rest(uuid, jsonb, text, text, text);
DROP TRIGGER audit_note ON org;
DROP TRIGGER audit_note ON member;
DROP TRIGGER audit_note ON profile;
DROP TRIGGER audit_note ON route;
DROP TRIGGER audit_note ON agent;
DROP TRIGGER audit_note ON model;
DROP TRIGGER audit_note ON price_book;
DROP TRIGGER audit_note ON secret;
DROP TRIGGER audit_note ON api_key;
DROP TRIGGER audit_note_update ON api_key;
DROP FUNCTION audit_watch(text, text, text[]);
DROP FUNCTION audit_note();
DROP FUNCTION audit_changes_max();
DROP FUNCTION audit_noted_set(jsonb);
DROP FUNCTION audit_noted();
DROP FUNCTION audit_note_seal(text);
DROP TABLE audit_note_key;
DROP FUNCTION audit_hash(audit);
ALTER TABLE audit DROP COLUMN ip, DROP COLUMN provider, DROP COLUMN changes;
