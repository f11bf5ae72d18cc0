-- 0001_floor: roles, schema, tenant tables made the same way everywhere, change feed, audit log.
--
-- The server's own tables. Runs as the login of TOLLGATE_DATABASE_URL; every later migration runs
-- as tollgate_owner with search_path "tollgate, pg_temp". Conventions for all of them:
--   * every table of tenants starts its primary key with org_id and is handed to tg_tenant_table();
--   * functions that write are SECURITY DEFINER with a pinned search_path, EXECUTE revoked from
--     PUBLIC (default privileges below do it) and granted to tollgate_app by name;
--   * a refusal is tg_raise('TG404', 'code', 'words', 'hint');
--   * an admin function works on tg_org(), returns jsonb in the shape of the control plane.

-- Roles belong to the whole cluster: another database may be making them at this moment.
DO $$
DECLARE
	r text;
	-- From Postgres 16 on, membership alone does not allow SET ROLE.
	way text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
	FOREACH r IN ARRAY ARRAY['tollgate_owner', 'tollgate_app'] LOOP
		BEGIN
			IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = r) THEN
				EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', r);
			END IF;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
		IF NOT pg_has_role(current_user, r, way) THEN
			EXECUTE format('GRANT %I TO %I', r, current_user);
		END IF;
	END LOOP;
END $$;

CREATE SCHEMA IF NOT EXISTS tollgate AUTHORIZATION tollgate_owner;
CREATE SCHEMA IF NOT EXISTS tollgate_vault AUTHORIZATION tollgate_owner;
GRANT USAGE ON SCHEMA tollgate TO tollgate_app;
CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA tollgate;

SET LOCAL ROLE tollgate_owner;
SET LOCAL search_path = tollgate, pg_temp;
ALTER DEFAULT PRIVILEGES FOR ROLE tollgate_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- What `tollgate migrate` has applied.
CREATE TABLE migration (
	version int PRIMARY KEY,
	name text NOT NULL,
	sha256 text NOT NULL,
	applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION schema_version() RETURNS int LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$ SELECT coalesce(max(version), 0) FROM migration $$;
GRANT EXECUTE ON FUNCTION schema_version() TO tollgate_app;

-- Who is the tenant of this transaction? After a transaction a custom setting is '' and not NULL.
CREATE FUNCTION tg_org() RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT NULLIF(current_setting('app.org_id', true), '')::uuid $$;
GRANT EXECUTE ON FUNCTION tg_org() TO tollgate_app;

CREATE FUNCTION tg_raise(state text, code text, words text, hint text DEFAULT '') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = state, MESSAGE = code || ': ' || words, HINT = hint;
END $$;
GRANT EXECUTE ON FUNCTION tg_raise(text, text, text, text) TO tollgate_app;

-- Row-level security as every table of tenants has it: the service sees the rows of tg_org() and
-- nothing else; the owner's functions see what they ask for. Under FORCE a definer function sees
-- no row unless a policy names its owner.
CREATE FUNCTION tg_tenant_table(name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
	EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
	EXECUTE format('CREATE POLICY tenant ON %s AS PERMISSIVE FOR ALL TO tollgate_app '
		'USING (org_id = tollgate.tg_org()) WITH CHECK (org_id = tollgate.tg_org())', name);
	EXECUTE format('CREATE POLICY tenant_only ON %s AS RESTRICTIVE FOR ALL TO tollgate_app '
		'USING (org_id = tollgate.tg_org())', name);
	EXECUTE format('CREATE POLICY owner ON %s FOR ALL TO tollgate_owner USING (true) WITH CHECK (true)', name);
END $$;

-- Append-only: a row that stands is never changed or removed, whoever asks.
CREATE FUNCTION tg_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'TG403';
END $$;

CREATE FUNCTION tg_rfc3339(t timestamptz) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;
GRANT EXECUTE ON FUNCTION tg_rfc3339(timestamptz) TO tollgate_app;

-- Nano-credits as a decimal string of credits, nine places.
CREATE FUNCTION tg_credits(nano numeric) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT (round(nano / 1000000000, 9))::numeric(38, 9)::text $$;
GRANT EXECUTE ON FUNCTION tg_credits(numeric) TO tollgate_app;

-- The millisecond in a UUIDv7: when the thing it names was made.
CREATE FUNCTION tg_uuid_time(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT to_timestamp(('x' || lpad(translate(left(id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0) $$;
GRANT EXECUTE ON FUNCTION tg_uuid_time(uuid) TO tollgate_app;

-- UUIDv7 for rows that SQL itself makes (Postgres 15 has none).
CREATE FUNCTION tg_uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS
$$ SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
	PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
	52, 1), 53, 1), 'hex')::uuid $$;
GRANT EXECUTE ON FUNCTION tg_uuid_v7() TO tollgate_app;

-- Change feed. The one-row counter's lock makes commit order sequence order. Never called from a
-- money function: NOTIFY serialises commits.
CREATE TABLE change_counter (one boolean PRIMARY KEY DEFAULT true CHECK (one), seq bigint NOT NULL);
INSERT INTO change_counter VALUES (true, 0);
CREATE TABLE change (
	seq bigint PRIMARY KEY,
	kind text NOT NULL,
	org_id uuid NOT NULL,
	version bigint NOT NULL,
	at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION tg_change(kind text, org uuid, version bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE s bigint;
BEGIN
	UPDATE change_counter SET seq = seq + 1 RETURNING seq INTO s;
	INSERT INTO change(seq, kind, org_id, version) VALUES (s, kind, org, version);
	PERFORM pg_notify('tollgate_change', kind || ':' || org || ':' || version);
END $$;
-- What happened since: the poll that stands behind NOTIFY.
CREATE FUNCTION tg_changes_since(since bigint) RETURNS TABLE (seq bigint, kind text, org_id uuid, version bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS
$$ SELECT c.seq, c.kind, c.org_id, c.version FROM change c WHERE c.seq > since ORDER BY c.seq LIMIT 1000 $$;
GRANT EXECUTE ON FUNCTION tg_changes_since(bigint) TO tollgate_app;
CREATE FUNCTION tg_change_head() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$ SELECT seq FROM change_counter $$;
GRANT EXECUTE ON FUNCTION tg_change_head() TO tollgate_app;

-- Audit log: append-only, hash-chained per org under the lock of its head. The owner's functions
-- call audit_append(); the service itself has audit_record(), which writes for tg_org() alone.
CREATE TABLE audit_head (org_id uuid PRIMARY KEY, last_seq bigint NOT NULL DEFAULT 0, last_hash bytea NOT NULL DEFAULT ''::bytea);
SELECT tg_tenant_table('audit_head');
CREATE TABLE audit (
	org_id uuid NOT NULL,
	seq bigint NOT NULL,
	at timestamptz NOT NULL,
	actor jsonb NOT NULL,
	action text NOT NULL,
	object text NOT NULL,
	result text NOT NULL,
	request_id text NOT NULL,
	prev_hash bytea NOT NULL,
	hash bytea NOT NULL,
	PRIMARY KEY (org_id, seq)
);
SELECT tg_tenant_table('audit');
GRANT SELECT ON audit TO tollgate_app;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION tg_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION tg_append_only();
CREATE FUNCTION audit_append(org uuid, actor jsonb, action text, object text, result text, request_id text)
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
CREATE FUNCTION audit_record(actor jsonb, action text, object text, result text, request_id text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = tollgate, pg_temp AS
$$ SELECT audit_append(tg_org(), actor, action, object, result, request_id) $$;
GRANT EXECUTE ON FUNCTION audit_record(jsonb, text, text, text, text) TO tollgate_app;

-- down
SET LOCAL ROLE tollgate_owner;
DO $$
BEGIN
	IF EXISTS (SELECT 1 FROM tollgate.audit) THEN
		RAISE EXCEPTION 'the audit log has rows: refusing to drop it';
	END IF;
END $$;
DROP SCHEMA tollgate_vault CASCADE;
DROP SCHEMA tollgate CASCADE;
