-- 0019_vault_rotation: data keys and master keys are changed under load, and what was shredded is told honestly.
--
-- A data key is pending, active, decrypt_only, and then destroyed: its row is gone and dek_destroyed remembers
-- that it was. Lock order of the functions here: gate, node table, the rows concerned, change counter, audit head.
-- None takes an org's row, and nothing that holds one asks for a gate but to share it.

-- Which data key a sealed record wants: public, at a fixed place (security.md 1.4).
CREATE FUNCTION sealed_dek_ver(sealed bytea) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (get_byte(sealed, 4)::bigint << 24) + (get_byte(sealed, 5) << 16) + (get_byte(sealed, 6) << 8)
	+ get_byte(sealed, 7) $$;
GRANT EXECUTE ON FUNCTION sealed_dek_ver(bytea) TO tollgate_app;

-- unreadable: why this record did not open when somebody tried last; NULL: it did, or nobody tried.
ALTER TABLE secret ADD COLUMN unreadable text CHECK (unreadable IN ('vault_auth', 'vault_version_retired'));
CREATE INDEX secret_dek_ver ON secret (org_id, sealed_dek_ver(sealed));

-- Nothing is sealed with an older data key than min_encrypt_ver, nothing opened with one older than
-- min_decrypt_ver, whatever keys there are. Its row's lock orders who seals and who ends a rotation.
CREATE TABLE tollgate_vault.org_gate (
	org_id uuid PRIMARY KEY,
	min_encrypt_ver bigint NOT NULL DEFAULT 1,
	min_decrypt_ver bigint NOT NULL DEFAULT 1 CHECK (min_decrypt_ver >= 1),
	CHECK (min_decrypt_ver <= min_encrypt_ver)
);
SELECT tg_tenant_table('tollgate_vault.org_gate');

-- Every master key that ever wrapped a data key of the org: what a backup needs to read it.
CREATE TABLE tollgate_vault.org_kek (
	org_id uuid NOT NULL,
	kek_id text NOT NULL,
	kek_ver int NOT NULL,
	since timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, kek_id, kek_ver)
);
SELECT tg_tenant_table('tollgate_vault.org_kek');

-- The operator said that no copy of this master key exists any more.
CREATE TABLE tollgate_vault.kek_retired (
	kek_id text NOT NULL,
	kek_ver int NOT NULL,
	retired_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (kek_id, kek_ver)
);

CREATE TABLE tollgate_vault.dek_destroyed (
	org_id uuid NOT NULL,
	dek_ver bigint NOT NULL,
	destroyed_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, dek_ver)
);
SELECT tg_tenant_table('tollgate_vault.dek_destroyed');

-- destroy_after: nothing is sealed with it any more, and calls that hold an older picture end before this.
ALTER TABLE tollgate_vault.org_dek ADD COLUMN destroy_after timestamptz;
CREATE UNIQUE INDEX org_dek_active ON tollgate_vault.org_dek (org_id) WHERE state = 'active';
CREATE UNIQUE INDEX org_dek_pending ON tollgate_vault.org_dek (org_id) WHERE state = 'pending';
CREATE INDEX org_dek_destroy ON tollgate_vault.org_dek (destroy_after) WHERE state = 'decrypt_only';

-- How far the org's rotation is; a row without finished_at is gone on with.
CREATE TABLE tollgate_vault.dek_rotation (
	org_id uuid PRIMARY KEY,
	to_ver bigint NOT NULL,
	resealed bigint NOT NULL DEFAULT 0,
	promoted_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz
);
SELECT tg_tenant_table('tollgate_vault.dek_rotation');

-- The same of what goes over all orgs. `target`: the master key of a rewrap.
CREATE TABLE tollgate_vault.run (
	kind text PRIMARY KEY CHECK (kind IN ('rotate_all', 'rewrap')),
	target text NOT NULL,
	done bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz
);

-- The running services, and the master keys each can unwrap with; current_kek wraps what it makes.
CREATE TABLE tollgate_vault.node (
	node_id uuid PRIMARY KEY,
	name text NOT NULL CHECK (length(name) <= 200),
	current_kek text NOT NULL,
	kek_ids text[] NOT NULL CHECK (cardinality(kek_ids) BETWEEN 1 AND 64),
	started_at timestamptz NOT NULL DEFAULT now(),
	seen_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL
);

CREATE TABLE tollgate_vault.shred (
	org_id uuid PRIMARY KEY,
	requested_at timestamptz NOT NULL DEFAULT now(),
	data_keys bigint NOT NULL,
	secrets bigint NOT NULL
);
SELECT tg_tenant_table('tollgate_vault.shred');

CREATE FUNCTION org_dek_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO tollgate_vault.org_gate (org_id) VALUES (NEW.org_id) ON CONFLICT DO NOTHING;
	INSERT INTO tollgate_vault.org_kek (org_id, kek_id, kek_ver) VALUES (NEW.org_id, NEW.kek_id, NEW.kek_ver)
		ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OF kek_id, kek_ver ON tollgate_vault.org_dek
	FOR EACH ROW EXECUTE FUNCTION org_dek_note();
INSERT INTO tollgate_vault.org_gate (org_id) SELECT DISTINCT org_id FROM tollgate_vault.org_dek;
INSERT INTO tollgate_vault.org_kek (org_id, kek_id, kek_ver) SELECT DISTINCT org_id, kek_id, kek_ver
	FROM tollgate_vault.org_dek;

-- Whoever deletes an org shreds what it had sealed. Its data keys go with org_delete() itself.
CREATE FUNCTION org_shred() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE gone bigint;
BEGIN
	DELETE FROM secret s WHERE s.org_id = NEW.org_id;
	GET DIAGNOSTICS gone = ROW_COUNT;
	INSERT INTO tollgate_vault.shred (org_id, data_keys, secrets)
		SELECT NEW.org_id, count(*), gone FROM tollgate_vault.org_dek d WHERE d.org_id = NEW.org_id
		ON CONFLICT DO NOTHING;
	DELETE FROM tollgate_vault.dek_rotation r WHERE r.org_id = NEW.org_id;
	RETURN NULL;
END $$;
CREATE TRIGGER shred AFTER UPDATE OF status ON org FOR EACH ROW
	WHEN (NEW.status = 'deleted' AND OLD.status <> 'deleted') EXECUTE FUNCTION org_shred();

-- ---- nodes --------------------------------------------------------------------------------------

CREATE FUNCTION node_beat(id uuid, node_name text, current text, keks text[], ttl_ms bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO tollgate_vault.node AS n (node_id, name, current_kek, kek_ids, expires_at)
		VALUES (id, node_name, current, keks, now() + ttl_ms * interval '1 ms')
		ON CONFLICT (node_id) DO UPDATE SET current_kek = EXCLUDED.current_kek, kek_ids = EXCLUDED.kek_ids,
			seen_at = now(), expires_at = EXCLUDED.expires_at;
	DELETE FROM tollgate_vault.node n WHERE n.expires_at < now() - interval '1 hour';
	RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION node_beat(uuid, text, text, text[], bigint) TO tollgate_app;

CREATE FUNCTION node_leave(id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	DELETE FROM tollgate_vault.node n WHERE n.node_id = id;
	RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION node_leave(uuid) TO tollgate_app;

-- Refuse unless every running node can unwrap with this master key: first it is distributed, then it wraps. The
-- table's lock stands until the end of the transaction, so that a node that starts meanwhile reads what was
-- changed, or was seen here.
CREATE FUNCTION node_check(kek text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n tollgate_vault.node;
BEGIN
	LOCK TABLE tollgate_vault.node IN SHARE MODE;
	SELECT * INTO n FROM tollgate_vault.node o WHERE o.expires_at > clock_timestamp() AND NOT kek = ANY (o.kek_ids)
		ORDER BY o.name LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'node_without_key', format('the running node %s cannot unwrap with master key %s',
			n.name, kek), 'give every node that key (TOLLGATE_MASTER_KEYS_OLD, or TOLLGATE_MASTER_KEY), start it '
			'again, then repeat; one that is gone is forgotten at ' || tg_rfc3339(n.expires_at));
	END IF;
END $$;

-- ---- rotation of an org's data key --------------------------------------------------------------

-- Every data key of the org of this transaction, the pending one too.
CREATE FUNCTION dek_all() RETURNS TABLE (dek_ver bigint, kek_id text, kek_ver int, wrapped bytea, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT d.dek_ver, d.kek_id, d.kek_ver, d.wrapped, d.state
	FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org() ORDER BY d.dek_ver DESC LIMIT 16
$$;
GRANT EXECUTE ON FUNCTION dek_all() TO tollgate_app;

CREATE FUNCTION dek_gate() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$
	SELECT COALESCE((SELECT g.min_decrypt_ver FROM tollgate_vault.org_gate g WHERE g.org_id = tg_org()), 1)
$$;
GRANT EXECUTE ON FUNCTION dek_gate() TO tollgate_app;

-- What a rotation has to do next: go on with 'resealing' or 'pending' of that version, or make it ('new'). No
-- row: the org has no data key. `keys_max`: a worker keeps no more.
CREATE FUNCTION dek_rotation_open(kek text, keys_max bigint) RETURNS TABLE (next_ver bigint, step text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint; soonest timestamptz;
BEGIN
	PERFORM node_check(kek);
	SELECT r.to_ver INTO n FROM tollgate_vault.dek_rotation r WHERE r.org_id = tg_org() AND r.finished_at IS NULL;
	IF FOUND THEN
		RETURN QUERY SELECT n, 'resealing';
		RETURN;
	END IF;
	SELECT d.dek_ver INTO n FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org() AND d.state = 'pending';
	IF FOUND THEN
		RETURN QUERY SELECT n, 'pending';
		RETURN;
	END IF;
	SELECT count(*), min(d.destroy_after) INTO n, soonest FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org();
	IF n >= keys_max THEN
		PERFORM tg_raise('TG409', 'too_many_data_keys', n || ' data keys of this org stand, and no more are kept',
			COALESCE('the next of them is destroyed after ' || tg_rfc3339(soonest)
			|| ' by the running service, if nothing needs it', 'tollgate vault status shows what needs them'));
	END IF;
	IF n > 0 THEN
		RETURN QUERY SELECT 1 + GREATEST((SELECT max(d.dek_ver) FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org()),
			(SELECT max(d.dek_ver) FROM tollgate_vault.dek_destroyed d WHERE d.org_id = tg_org())), 'new';
	END IF;
END $$;
GRANT EXECUTE ON FUNCTION dek_rotation_open(text, bigint) TO tollgate_app;

-- The next data key, which nobody seals with yet; what stands already stays.
CREATE FUNCTION dek_rotation_pending(ver bigint, kek text, kekver int, wrapped_key bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM 1 FROM tollgate_vault.org_gate g WHERE g.org_id = tg_org() FOR UPDATE;
	INSERT INTO tollgate_vault.org_dek (org_id, dek_ver, kek_id, kek_ver, wrapped, state)
		SELECT tg_org(), ver, kek, kekver, wrapped_key, 'pending'
		WHERE EXISTS (SELECT 1 FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org() AND d.state = 'active'
			AND d.dek_ver < ver)
		ON CONFLICT DO NOTHING;
	RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION dek_rotation_pending(bigint, text, int, bytea) TO tollgate_app;

-- From now on version `ver` seals; the one before opens. Again is no error.
CREATE FUNCTION dek_rotation_promote(ver bigint, actor jsonb, req text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE d tollgate_vault.org_dek; o uuid := tg_org();
BEGIN
	PERFORM 1 FROM tollgate_vault.org_gate g WHERE g.org_id = o FOR UPDATE;
	SELECT * INTO d FROM tollgate_vault.org_dek k WHERE k.org_id = o AND k.dek_ver = ver;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG409', 'data_key_gone', 'the data key that was made is gone', 'was the org deleted? else repeat');
	END IF;
	IF d.state <> 'pending' THEN
		RETURN false;
	END IF;
	PERFORM node_check(d.kek_id);
	UPDATE tollgate_vault.org_dek k SET state = 'decrypt_only' WHERE k.org_id = o AND k.state = 'active';
	UPDATE tollgate_vault.org_dek k SET state = 'active' WHERE k.org_id = o AND k.dek_ver = ver;
	INSERT INTO tollgate_vault.dek_rotation AS r (org_id, to_ver) VALUES (o, ver)
		ON CONFLICT (org_id) DO UPDATE SET to_ver = EXCLUDED.to_ver, resealed = 0, promoted_at = now(),
			updated_at = now(), finished_at = NULL;
	PERFORM tg_change('vault', o, ver);
	PERFORM audit_append(o, actor, 'vault.rotate', 'data_key:' || ver, 'ok', req);
	RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION dek_rotation_promote(bigint, jsonb, text) TO tollgate_app;

-- What the seal of a record names as its field: of a provider's secret the endpoint's origin too, with its port
-- always written. routing/profiles.c says the same where it seals.
CREATE FUNCTION secret_seal_field(s secret) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$
	SELECT COALESCE((SELECT s.field || ' ' || m[1] || '://' || m[2]
			|| COALESCE(m[3], CASE m[1] WHEN 'https' THEN ':443' ELSE ':80' END)
		FROM profile p, regexp_match(p.base_url, '^(https?)://(\[[^]]*\]|[^:/]+)(:[0-9]+)?') AS m
		WHERE p.org_id = s.org_id AND p.id = s.id AND s.field = 'api_key'), s.field)
$$;

-- Records of the org of this transaction that an older data key than `ver` sealed.
CREATE FUNCTION secret_page_old(ver bigint, after uuid, lim bigint)
RETURNS TABLE (id uuid, seal_field text, row_version bigint, sealed bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT s.id, secret_seal_field(s), s.row_version, s.sealed FROM secret s
	WHERE s.org_id = tg_org() AND sealed_dek_ver(s.sealed) < ver AND s.id > after ORDER BY s.id LIMIT lim
$$;
GRANT EXECUTE ON FUNCTION secret_page_old(bigint, uuid, bigint) TO tollgate_app;

-- The same records sealed with version `ver`. The row version stays: what is sealed is the same secret. An admin's own
-- change wins, whichever comes first: it makes the next version, or, where the secret was erased and entered again,
-- version 1 once more; so the bytes that were read must be those that stand.
CREATE FUNCTION secret_reseal(ver bigint, ids uuid[], versions bigint[], was bytea[], sealed_bytes bytea[],
	prints text[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint;
BEGIN
	PERFORM 1 FROM secret s WHERE s.org_id = tg_org() AND s.id = ANY (ids) ORDER BY s.id FOR UPDATE;
	UPDATE secret s SET sealed = u.sealed, fingerprint = u.print, unreadable = NULL
	FROM unnest(ids, versions, was, sealed_bytes, prints) AS u (id, version, was, sealed, print)
	WHERE s.org_id = tg_org() AND s.id = u.id AND s.row_version = u.version AND s.sealed = u.was
		AND sealed_dek_ver(s.sealed) < ver
		AND sealed_dek_ver(u.sealed) = ver;
	GET DIAGNOSTICS n = ROW_COUNT;
	UPDATE tollgate_vault.dek_rotation r SET resealed = r.resealed + n, updated_at = now()
		WHERE r.org_id = tg_org() AND r.to_ver = ver;
	IF n > 0 THEN
		PERFORM tg_change('secret', tg_org(), ver);
	END IF;
	RETURN n;
END $$;
GRANT EXECUTE ON FUNCTION secret_reseal(bigint, uuid[], bigint[], bytea[], bytea[], text[]) TO tollgate_app;

-- End the rotation to `ver`: nothing older seals any more, and what is older is destroyed `grace_s` from now.
-- Not done while records are left, or (wait_ms) before every node has heard that there is a new one.
-- A record that does not open is not waited for: it keeps its data key, and is told of.
CREATE FUNCTION dek_rotation_finish(ver bigint, grace_s bigint) RETURNS TABLE (rows_left bigint, wait_ms bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint; early bigint := 0; o uuid := tg_org();
BEGIN
	PERFORM 1 FROM tollgate_vault.org_gate g WHERE g.org_id = o FOR UPDATE; -- who seals right now comes first
	SELECT count(*) INTO n FROM secret s WHERE s.org_id = o AND sealed_dek_ver(s.sealed) < ver AND s.unreadable IS NULL;
	IF EXISTS (SELECT 1 FROM tollgate_vault.node x WHERE x.expires_at > clock_timestamp()) THEN
		SELECT GREATEST(0, ceil(extract(epoch FROM r.promoted_at + interval '2 seconds' - clock_timestamp()) * 1000))
			INTO early FROM tollgate_vault.dek_rotation r WHERE r.org_id = o AND r.to_ver = ver;
	END IF;
	IF n = 0 AND COALESCE(early, 0) = 0 THEN
		UPDATE tollgate_vault.org_gate g SET min_encrypt_ver = GREATEST(g.min_encrypt_ver, ver) WHERE g.org_id = o;
		UPDATE tollgate_vault.org_dek d SET destroy_after = now() + grace_s * interval '1 second'
			WHERE d.org_id = o AND d.state = 'decrypt_only' AND d.destroy_after IS NULL;
		UPDATE tollgate_vault.dek_rotation r SET finished_at = now(), updated_at = now()
			WHERE r.org_id = o AND r.to_ver = ver AND r.finished_at IS NULL;
	END IF;
	RETURN QUERY SELECT n, COALESCE(early, 0);
END $$;
GRANT EXECUTE ON FUNCTION dek_rotation_finish(bigint, bigint) TO tollgate_app;

-- Destroy data keys whose time has come and that no record needs. Any org's, a few at a time.
CREATE FUNCTION dek_sweep(lim bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE d record; n bigint := 0;
BEGIN
	FOR d IN SELECT k.org_id, k.dek_ver FROM tollgate_vault.org_dek k
		WHERE k.state = 'decrypt_only' AND k.destroy_after <= now()
			AND NOT EXISTS (SELECT 1 FROM secret s WHERE s.org_id = k.org_id AND sealed_dek_ver(s.sealed) = k.dek_ver)
		ORDER BY k.org_id, k.dek_ver LIMIT lim
	LOOP
		PERFORM 1 FROM tollgate_vault.org_gate g WHERE g.org_id = d.org_id AND g.min_encrypt_ver > d.dek_ver
			FOR UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND;
		CONTINUE WHEN EXISTS (SELECT 1 FROM secret s WHERE s.org_id = d.org_id AND sealed_dek_ver(s.sealed) = d.dek_ver);
		DELETE FROM tollgate_vault.org_dek k WHERE k.org_id = d.org_id AND k.dek_ver = d.dek_ver;
		CONTINUE WHEN NOT FOUND;
		INSERT INTO tollgate_vault.dek_destroyed (org_id, dek_ver) VALUES (d.org_id, d.dek_ver) ON CONFLICT DO NOTHING;
		UPDATE tollgate_vault.org_gate g SET min_decrypt_ver = GREATEST(g.min_decrypt_ver,
			(SELECT min(k.dek_ver) FROM tollgate_vault.org_dek k WHERE k.org_id = d.org_id AND k.state <> 'pending'))
			WHERE g.org_id = d.org_id;
		PERFORM tg_change('vault', d.org_id, d.dek_ver);
		PERFORM audit_append(d.org_id, '{"type": "service"}', 'vault.destroy', 'data_key:' || d.dek_ver, 'ok', 'sweep');
		n := n + 1;
	END LOOP;
	RETURN n;
END $$;
GRANT EXECUTE ON FUNCTION dek_sweep(bigint) TO tollgate_app;

-- The least versions that seal and that open (NULL: as it is).
CREATE FUNCTION dek_gate_set(min_encrypt bigint, min_decrypt bigint, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE g tollgate_vault.org_gate; top bigint; wanted text;
BEGIN
	SELECT * INTO g FROM tollgate_vault.org_gate x WHERE x.org_id = tg_org() FOR UPDATE;
	SELECT max(d.dek_ver) INTO top FROM tollgate_vault.org_dek d WHERE d.org_id = tg_org() AND d.state = 'active';
	IF g.org_id IS NULL OR top IS NULL THEN
		PERFORM tg_raise('TG404', 'no_data_key', 'this org has no data key yet', 'it gets one with its first secret');
	END IF;
	g.min_encrypt_ver := COALESCE(min_encrypt, g.min_encrypt_ver);
	g.min_decrypt_ver := COALESCE(min_decrypt, g.min_decrypt_ver);
	IF g.min_decrypt_ver < 1 OR g.min_decrypt_ver > g.min_encrypt_ver OR g.min_encrypt_ver > top THEN
		PERFORM tg_raise('TG400', 'invalid_gate', format('1 <= min_decrypt (%s) <= min_encrypt (%s) <= active version (%s)'
			' does not hold', g.min_decrypt_ver, g.min_encrypt_ver, top), 'tollgate vault status names the versions');
	END IF;
	UPDATE tollgate_vault.org_gate x SET min_encrypt_ver = g.min_encrypt_ver, min_decrypt_ver = g.min_decrypt_ver
		WHERE x.org_id = g.org_id;
	wanted := format('min_encrypt:%s min_decrypt:%s', g.min_encrypt_ver, g.min_decrypt_ver);
	PERFORM tg_change('vault', g.org_id, top);
	PERFORM audit_append(g.org_id, actor, 'vault.gate', wanted, 'ok', req);
	RETURN jsonb_build_object('org_id', g.org_id, 'active_ver', top, 'min_encrypt_ver', g.min_encrypt_ver,
		'min_decrypt_ver', g.min_decrypt_ver);
END $$;
GRANT EXECUTE ON FUNCTION dek_gate_set(bigint, bigint, jsonb, text) TO tollgate_app;

-- Orgs with a data key that is older than the run, or whose rotation is not at its end; by id.
CREATE FUNCTION vault_orgs_to_rotate(begun timestamptz, after uuid, lim bigint) RETURNS TABLE (org_id uuid, slug text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT o.org_id, o.slug FROM org o JOIN tollgate_vault.org_dek d ON d.org_id = o.org_id AND d.state = 'active'
		LEFT JOIN tollgate_vault.dek_rotation r ON r.org_id = o.org_id AND r.finished_at IS NULL
	WHERE o.status <> 'deleted' AND o.org_id > after AND (d.created_at < begun OR r.org_id IS NOT NULL)
	ORDER BY o.org_id LIMIT lim
$$;
GRANT EXECUTE ON FUNCTION vault_orgs_to_rotate(timestamptz, uuid, bigint) TO tollgate_app;

-- ---- runs over all orgs, and the change of the master key ------------------------------------------

-- The run of this kind and target that is not at its end, or a new one.
CREATE FUNCTION vault_run_begin(run_kind text, run_target text) RETURNS TABLE (began timestamptz, run_done bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO tollgate_vault.run AS r (kind, target) VALUES (run_kind, run_target)
	ON CONFLICT (kind) DO UPDATE SET target = EXCLUDED.target, done = 0, failed = 0, started_at = now(),
		updated_at = now(), finished_at = NULL
	WHERE r.finished_at IS NOT NULL OR r.target <> EXCLUDED.target;
	RETURN QUERY SELECT r.started_at, r.done FROM tollgate_vault.run r WHERE r.kind = run_kind;
END $$;
GRANT EXECUTE ON FUNCTION vault_run_begin(text, text) TO tollgate_app;

CREATE FUNCTION vault_run_note(run_kind text, more bigint, bad bigint, at_end boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	UPDATE tollgate_vault.run r SET done = r.done + more, failed = bad, updated_at = now(),
		finished_at = CASE WHEN at_end THEN now() END WHERE r.kind = run_kind;
	RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION vault_run_note(text, bigint, bigint, boolean) TO tollgate_app;

-- Data keys of all orgs that another master key wraps than this one.
CREATE FUNCTION dek_page_other(kek text, kekver int, after_org uuid, after_ver bigint, lim bigint)
RETURNS TABLE (org_id uuid, dek_ver bigint, kek_id text, kek_ver int, wrapped bytea, rows_left bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT d.org_id, d.dek_ver, d.kek_id, d.kek_ver, d.wrapped, count(*) OVER ()
	FROM tollgate_vault.org_dek d
	WHERE (d.kek_id, d.kek_ver) <> (kek, kekver) AND (d.org_id, d.dek_ver) > (after_org, after_ver)
	ORDER BY d.org_id, d.dek_ver LIMIT lim
$$;
GRANT EXECUTE ON FUNCTION dek_page_other(text, int, uuid, bigint, bigint) TO tollgate_app;

CREATE FUNCTION dek_rewrap(kek text, kekver int, orgs uuid[], vers bigint[], old_wrapped bytea[], new_wrapped bytea[],
	actor jsonb, req text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE changed record; n bigint := 0;
BEGIN
	PERFORM node_check(kek);
	PERFORM 1 FROM tollgate_vault.org_dek d WHERE d.org_id = ANY (orgs) ORDER BY d.org_id, d.dek_ver FOR UPDATE;
	FOR changed IN
		WITH u AS (SELECT * FROM unnest(orgs, vers, old_wrapped, new_wrapped) AS u (org_id, dek_ver, was, now)),
		done AS (UPDATE tollgate_vault.org_dek d SET kek_id = kek, kek_ver = kekver, wrapped = u.now FROM u
			WHERE d.org_id = u.org_id AND d.dek_ver = u.dek_ver AND d.wrapped = u.was RETURNING d.org_id)
		SELECT done.org_id, count(*) AS keys FROM done GROUP BY done.org_id ORDER BY done.org_id
	LOOP
		PERFORM audit_append(changed.org_id, actor, 'vault.rewrap', 'master_key:' || kek, 'ok', req);
		n := n + changed.keys;
	END LOOP;
	UPDATE tollgate_vault.run r SET done = r.done + n, updated_at = now() WHERE r.kind = 'rewrap' AND r.target = kek;
	RETURN n;
END $$;
GRANT EXECUTE ON FUNCTION dek_rewrap(text, int, uuid[], bigint[], bytea[], bytea[], jsonb, text) TO tollgate_app;

-- The operator says: no copy of this master key is left. Refused while anything needs it.
CREATE FUNCTION kek_forget(kek text, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE n bigint; who text;
BEGIN
	LOCK TABLE tollgate_vault.node IN SHARE MODE;
	SELECT o.name INTO who FROM tollgate_vault.node o WHERE o.expires_at > clock_timestamp() AND kek = ANY (o.kek_ids)
		ORDER BY o.name LIMIT 1;
	IF FOUND THEN
		PERFORM tg_raise('TG409', 'master_key_in_use', format('the running node %s still has master key %s', who, kek),
			'take it out of TOLLGATE_MASTER_KEYS_OLD on every node first');
	END IF;
	SELECT count(*) INTO n FROM tollgate_vault.org_dek d WHERE d.kek_id = kek;
	IF n > 0 THEN
		PERFORM tg_raise('TG409', 'master_key_in_use', format('%s data keys are wrapped by master key %s', n, kek),
			'tollgate vault rewrap wraps them by the current one');
	END IF;
	IF NOT EXISTS (SELECT 1 FROM tollgate_vault.kek_canary c WHERE c.kek_id = kek) THEN
		PERFORM tg_raise('TG404', 'master_key_not_found', 'this database knows no such master key',
			'tollgate vault status lists those it knows');
	END IF;
	INSERT INTO tollgate_vault.kek_retired (kek_id, kek_ver) SELECT c.kek_id, c.kek_ver
		FROM tollgate_vault.kek_canary c WHERE c.kek_id = kek ON CONFLICT DO NOTHING;
	DELETE FROM tollgate_vault.kek_canary c WHERE c.kek_id = kek;
	PERFORM audit_append('00000000-0000-7000-8000-000000000000', actor, 'vault.forget', 'master_key:' || kek, 'ok', req);
	RETURN jsonb_build_object('kek_id', kek, 'forgotten', true);
END $$;
GRANT EXECUTE ON FUNCTION kek_forget(text, jsonb, text) TO tollgate_app;

-- ---- records that do not open -----------------------------------------------------------------------

CREATE FUNCTION secret_page_all(after_org uuid, after_id uuid, lim bigint)
RETURNS TABLE (org_id uuid, slug text, id uuid, seal_field text, row_version bigint, sealed bytea, name text,
	unreadable text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT s.org_id, o.slug, s.id, secret_seal_field(s), s.row_version, s.sealed,
		COALESCE((SELECT p.name FROM profile p WHERE p.org_id = s.org_id AND p.id = s.id), s.field),
		s.unreadable
	FROM secret s JOIN org o ON o.org_id = s.org_id
	WHERE (s.org_id, s.id) > (after_org, after_id) ORDER BY s.org_id, s.id LIMIT lim
$$;
GRANT EXECUTE ON FUNCTION secret_page_all(uuid, uuid, bigint) TO tollgate_app;

-- What became of opening a record of the org of this transaction: a code, or NULL when it opened. Only if the
-- record that was tried is the one that stands.
CREATE FUNCTION secret_tried(secret_id uuid, version bigint, sealed_bytes bytea, code text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	UPDATE secret s SET unreadable = code WHERE s.org_id = tg_org() AND s.id = secret_id AND s.row_version = version
		AND s.sealed = sealed_bytes AND s.unreadable IS DISTINCT FROM code;
	RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION secret_tried(uuid, bigint, bytea, text) TO tollgate_app;

-- A profile's health as lists show it: a stored secret that cannot open, as far as that is known without trying,
-- comes before what a probe found once. In plpgsql, which keeps its plan: a page has 200 of them.
CREATE FUNCTION profile_health_shown(p profile) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$
DECLARE trouble text;
BEGIN
	SELECT CASE WHEN sealed_dek_ver(s.sealed) < g.min_decrypt_ver THEN 'vault_version_retired'
		WHEN d.dek_ver IS NULL THEN 'vault_auth'
		WHEN s.unreadable = 'vault_version_retired' THEN NULL -- the gate was lowered since
		ELSE s.unreadable END
	INTO trouble FROM secret s
		LEFT JOIN tollgate_vault.org_gate g ON g.org_id = s.org_id
		LEFT JOIN tollgate_vault.org_dek d ON d.org_id = s.org_id AND d.dek_ver = sealed_dek_ver(s.sealed)
			AND d.state <> 'pending'
	WHERE s.org_id = p.org_id AND s.org_id = tg_org() AND s.id = p.id AND s.field = 'api_key';
	RETURN CASE WHEN trouble IS NULL THEN p.health
		ELSE p.health || jsonb_build_object('status', 'needs_reconfiguration', 'reason', trouble) END;
END $$;
GRANT EXECUTE ON FUNCTION profile_health_shown(profile) TO tollgate_app;

CREATE OR REPLACE FUNCTION profile_json(p profile) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', p.id, 'name', p.name, 'provider', p.provider, 'base_url', p.base_url,
		'billing_source', p.billing_source,
		'credential_source', CASE p.billing_source WHEN 'platform' THEN 'platform_vault' ELSE 'organization_auth_profile' END,
		'secret', (SELECT jsonb_build_object('masked', s.masked, 'fingerprint', s.fingerprint,
			'updated_at', tg_rfc3339(s.updated_at)) FROM secret s
			WHERE s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'),
		'models', p.models, 'priority', p.priority, 'default', p.is_default, 'status', p.status,
		'health', profile_health_shown(p), 'cooldown', cooldown_json(p.org_id, p.id),
		'created_at', tg_rfc3339(p.created_at), 'updated_at', tg_rfc3339(p.updated_at))
$$;

-- As it was, and: nothing is sealed with a data key that a finished rotation left behind.
CREATE OR REPLACE FUNCTION secret_put(secret_id uuid, field_name text, version bigint, sealed_bytes bytea,
	masked_text text, fingerprint_text text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE least_ver bigint;
BEGIN
	SELECT g.min_encrypt_ver INTO least_ver FROM tollgate_vault.org_gate g WHERE g.org_id = tg_org() FOR SHARE;
	IF sealed_dek_ver(sealed_bytes) < least_ver THEN
		PERFORM tg_raise('TG409', 'data_key_rotated', 'the org''s data key was changed at this moment',
			'repeat the request');
	END IF;
	IF version = 1 THEN
		INSERT INTO secret VALUES (tg_org(), secret_id, field_name, 1, sealed_bytes, masked_text,
			fingerprint_text, now()) ON CONFLICT DO NOTHING;
	ELSE
		UPDATE secret s SET row_version = version, sealed = sealed_bytes, masked = masked_text,
			fingerprint = fingerprint_text, updated_at = now(), unreadable = NULL
		WHERE s.org_id = tg_org() AND s.id = secret_id AND s.field = field_name
			AND s.row_version = version - 1;
	END IF;
	IF NOT EXISTS (SELECT 1 FROM secret s WHERE s.org_id = tg_org() AND s.id = secret_id
			AND s.row_version = version AND s.sealed = sealed_bytes) THEN
		PERFORM tg_raise('TG409', 'secret_changed', 'the secret was changed meanwhile', 'read it again and repeat');
	END IF;
	RETURN version;
END $$;

-- ---- for `tollgate vault status` --------------------------------------------------------------------

-- Each master key: data keys it wraps, and whether a running node wraps new ones by it.
CREATE FUNCTION vault_master_keys() RETURNS TABLE (kek_id text, kek_ver int, deks bigint, since text, wraps boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT c.kek_id, c.kek_ver, (SELECT count(*) FROM tollgate_vault.org_dek d WHERE d.kek_id = c.kek_id
			AND d.kek_ver = c.kek_ver), tg_rfc3339(c.created_at),
		EXISTS (SELECT 1 FROM tollgate_vault.node n WHERE n.current_kek = c.kek_id AND n.expires_at > now())
	FROM tollgate_vault.kek_canary c ORDER BY c.created_at DESC LIMIT 100
$$;
GRANT EXECUTE ON FUNCTION vault_master_keys() TO tollgate_app;

-- When a shred is complete: no master key that ever wrapped is left, or no backup reaches back so far.
CREATE FUNCTION shred_effective_at(s tollgate_vault.shred, backup_days bigint) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT LEAST(s.requested_at + backup_days * interval '1 day', GREATEST(s.requested_at,
		(SELECT CASE WHEN count(*) = count(r.retired_at) THEN COALESCE(max(r.retired_at), s.requested_at)
			ELSE 'infinity' END
		FROM tollgate_vault.org_kek k LEFT JOIN tollgate_vault.kek_retired r USING (kek_id, kek_ver)
		WHERE k.org_id = s.org_id)))
$$;

-- Nodes, runs, orgs whose data keys are more than one or in the course of a change, and shreds: 200 each.
CREATE FUNCTION vault_report(backup_days bigint) RETURNS TABLE (nodes jsonb, runs jsonb, orgs jsonb, shreds jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT (SELECT COALESCE(jsonb_agg(jsonb_build_object('name', n.name, 'current_master_key', n.current_kek,
			'master_keys', n.kek_ids, 'seen_at', tg_rfc3339(n.seen_at)) ORDER BY n.name), '[]')
		FROM (SELECT * FROM tollgate_vault.node x WHERE x.expires_at > now() LIMIT 200) n),
	(SELECT COALESCE(jsonb_agg(jsonb_build_object('kind', r.kind, 'target', NULLIF(r.target, ''), 'done', r.done,
			'failed', r.failed, 'started_at', tg_rfc3339(r.started_at), 'updated_at', tg_rfc3339(r.updated_at),
			'finished_at', tg_rfc3339(r.finished_at)) ORDER BY r.kind), '[]') FROM tollgate_vault.run r),
	(SELECT COALESCE(jsonb_agg(jsonb_build_object('org', o.slug, 'org_id', o.org_id,
			'min_encrypt_ver', g.min_encrypt_ver, 'min_decrypt_ver', g.min_decrypt_ver,
			'rotation', (SELECT jsonb_build_object('to_ver', r.to_ver, 'resealed', r.resealed,
				'started_at', tg_rfc3339(r.promoted_at), 'finished_at', tg_rfc3339(r.finished_at))
				FROM tollgate_vault.dek_rotation r WHERE r.org_id = o.org_id),
			'data_keys', (SELECT jsonb_agg(jsonb_build_object('ver', d.dek_ver, 'state', d.state,
				'master_key', d.kek_id, 'destroy_after', tg_rfc3339(d.destroy_after), 'secrets',
				(SELECT count(*) FROM secret s WHERE s.org_id = d.org_id AND sealed_dek_ver(s.sealed) = d.dek_ver))
				ORDER BY d.dek_ver) FROM tollgate_vault.org_dek d WHERE d.org_id = o.org_id),
			'destroyed', (SELECT count(*) FROM tollgate_vault.dek_destroyed x WHERE x.org_id = o.org_id)
			) ORDER BY o.slug), '[]')
		FROM (SELECT x.org_id, x.slug FROM org x WHERE x.status <> 'deleted' AND (
			EXISTS (SELECT 1 FROM tollgate_vault.org_dek d WHERE d.org_id = x.org_id AND d.state <> 'active')
			OR EXISTS (SELECT 1 FROM tollgate_vault.dek_rotation r WHERE r.org_id = x.org_id AND r.finished_at IS NULL)
			OR EXISTS (SELECT 1 FROM tollgate_vault.org_gate y WHERE y.org_id = x.org_id AND y.min_encrypt_ver > 1))
			ORDER BY x.slug LIMIT 200) o JOIN tollgate_vault.org_gate g USING (org_id)),
	(SELECT COALESCE(jsonb_agg(jsonb_build_object('org_id', s.org_id, 'org', o.slug, 'data_keys', s.data_keys,
			'secrets', s.secrets, 'shred_requested_at', tg_rfc3339(s.requested_at),
			'shred_effective_at', tg_rfc3339(shred_effective_at(s, backup_days)),
			'effective', shred_effective_at(s, backup_days) <= now()) ORDER BY s.requested_at DESC), '[]')
		FROM (SELECT * FROM tollgate_vault.shred x ORDER BY x.requested_at DESC LIMIT 200) s
		JOIN org o ON o.org_id = s.org_id)
$$;
GRANT EXECUTE ON FUNCTION vault_report(bigint) TO tollgate_app;

-- down
DROP FUNCTION vault_report(bigint);
DROP FUNCTION shred_effective_at(tollgate_vault.shred, bigint);
DROP FUNCTION vault_master_keys();
CREATE OR REPLACE FUNCTION secret_put(secret_id uuid, field_name text, version bigint, sealed_bytes bytea,
	masked_text text, fingerprint_text text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF version = 1 THEN
		INSERT INTO secret VALUES (tg_org(), secret_id, field_name, 1, sealed_bytes, masked_text,
			fingerprint_text, now()) ON CONFLICT DO NOTHING;
	ELSE
		UPDATE secret s SET row_version = version, sealed = sealed_bytes, masked = masked_text,
			fingerprint = fingerprint_text, updated_at = now()
		WHERE s.org_id = tg_org() AND s.id = secret_id AND s.field = field_name
			AND s.row_version = version - 1;
	END IF;
	IF NOT EXISTS (SELECT 1 FROM secret s WHERE s.org_id = tg_org() AND s.id = secret_id
			AND s.row_version = version AND s.sealed = sealed_bytes) THEN
		PERFORM tg_raise('TG409', 'secret_changed', 'the secret was changed meanwhile', 'read it again and repeat');
	END IF;
	RETURN version;
END $$;
CREATE OR REPLACE FUNCTION profile_json(p profile) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', p.id, 'name', p.name, 'provider', p.provider, 'base_url', p.base_url,
		'billing_source', p.billing_source,
		'credential_source', CASE p.billing_source WHEN 'platform' THEN 'platform_vault' ELSE 'organization_auth_profile' END,
		'secret', (SELECT jsonb_build_object('masked', s.masked, 'fingerprint', s.fingerprint,
			'updated_at', tg_rfc3339(s.updated_at)) FROM secret s
			WHERE s.org_id = p.org_id AND s.id = p.id AND s.field = 'api_key'),
		'models', p.models, 'priority', p.priority, 'default', p.is_default, 'status', p.status,
		'health', p.health, 'cooldown', cooldown_json(p.org_id, p.id),
		'created_at', tg_rfc3339(p.created_at), 'updated_at', tg_rfc3339(p.updated_at))
$$;
DROP FUNCTION profile_health_shown(profile);
DROP FUNCTION secret_tried(uuid, bigint, bytea, text);
DROP FUNCTION secret_page_all(uuid, uuid, bigint);
DROP FUNCTION kek_forget(text, jsonb, text);
DROP FUNCTION dek_rewrap(text, int, uuid[], bigint[], bytea[], bytea[], jsonb, text);
DROP FUNCTION dek_page_other(text, int, uuid, bigint, bigint);
DROP FUNCTION vault_run_note(text, bigint, bigint, boolean);
DROP FUNCTION vault_run_begin(text, text);
DROP FUNCTION vault_orgs_to_rotate(timestamptz, uuid, bigint);
DROP FUNCTION dek_gate_set(bigint, bigint, jsonb, text);
DROP FUNCTION dek_sweep(bigint);
DROP FUNCTION dek_rotation_finish(bigint, bigint);
DROP FUNCTION secret_reseal(bigint, uuid[], bigint[], bytea[], bytea[], text[]);
DROP FUNCTION secret_page_old(bigint, uuid, bigint);
DROP FUNCTION secret_seal_field(secret);
DROP FUNCTION dek_rotation_promote(bigint, jsonb, text);
DROP FUNCTION dek_rotation_pending(bigint, text, int, bytea);
DROP FUNCTION dek_rotation_open(text, bigint);
DROP FUNCTION dek_gate();
DROP FUNCTION dek_all();
DROP FUNCTION node_check(text);
DROP FUNCTION node_leave(uuid);
DROP FUNCTION node_beat(uuid, text, text, text[], bigint);
DROP TRIGGER shred ON org;
DROP FUNCTION org_shred();
DROP TRIGGER note ON tollgate_vault.org_dek;
DROP FUNCTION org_dek_note();
DROP TABLE tollgate_vault.shred;
DROP TABLE tollgate_vault.node;
DROP TABLE tollgate_vault.run;
DROP TABLE tollgate_vault.dek_rotation;
DROP INDEX tollgate_vault.org_dek_destroy;
DROP INDEX tollgate_vault.org_dek_pending;
DROP INDEX tollgate_vault.org_dek_active;
ALTER TABLE tollgate_vault.org_dek DROP COLUMN destroy_after;
DROP TABLE tollgate_vault.dek_destroyed;
DROP TABLE tollgate_vault.kek_retired;
DROP TABLE tollgate_vault.org_kek;
DROP TABLE tollgate_vault.org_gate;
DROP INDEX secret_dek_ver;
ALTER TABLE secret DROP COLUMN unreadable;
DROP FUNCTION sealed_dek_ver(bytea);
