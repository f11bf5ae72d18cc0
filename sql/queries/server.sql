-- The floor's own statements: sessions, tenants, changes, audit, migrations.

-- name: server_role_check
-- Who are we after the role was taken, and would row-level security bind that role?
-- out: role text, unbound bool
SELECT rolname::text, rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user;

-- name: server_listen
-- The channel follows as a quoted identifier: LISTEN takes no parameter.
LISTEN

-- name: server_set_org
-- The tenant of this transaction, for row-level security.
-- in:  $1 org_id text
SELECT set_config('app.org_id', $1, true);

-- name: server_set_org_ref
-- The same by id or slug; raises TG404.
-- in:  $1 id or slug text
SELECT set_config('app.org_id', org_resolve($1)::text, true);

-- name: server_schema_version
-- The highest migration that is applied.
-- out: version int
SELECT schema_version();

-- name: server_changes_since
-- Configuration changes behind a position, oldest first, at most 1000.
-- in:  $1 seq bigint
-- out: seq bigint, kind text, org_id uuid, version bigint
SELECT seq, kind, org_id, version FROM tg_changes_since($1::bigint);

-- name: server_feed_head
-- Where the feed of changes stands, and the schema with it.
-- out: version int, seq bigint
SELECT schema_version(), tg_change_head();

-- name: server_audit_append
-- One row in the audit chain of the transaction's org; goes last in its batch, it takes the chain's lock.
-- in:  $1 actor jsonb, $2 action text, $3 object text, $4 result text, $5 request_id text
SELECT audit_record($1::jsonb, $2::text, $3::text, $4::text, $5::text);

-- name: server_begin
BEGIN

-- name: server_commit
COMMIT

-- name: server_rollback
ROLLBACK

-- name: server_migrate_lock
-- One migration at a time in this database; held until the session ends.
SELECT pg_advisory_lock(8317406128330371);

-- name: server_migrate_exists
-- out: one bool: is there a schema of ours?
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = 'tollgate' AND c.relname = 'migration');

-- name: server_migrate_owner
-- What every migration but the first runs as.
SET LOCAL ROLE tollgate_owner

-- name: server_migrate_path
SET LOCAL search_path = tollgate, pg_temp

-- name: server_migrate_list
-- out: version int, name text, sha256 text, applied_at text
SELECT version, name, sha256, tollgate.tg_rfc3339(applied_at) FROM tollgate.migration ORDER BY version;

-- name: server_migrate_record
-- in:  $1 version int, $2 name text, $3 sha256 text
INSERT INTO tollgate.migration (version, name, sha256) VALUES ($1::int, $2, $3);

-- name: server_migrate_forget
-- in:  $1 version int
DELETE FROM tollgate.migration WHERE version = $1::int;
