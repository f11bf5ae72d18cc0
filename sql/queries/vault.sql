-- Statements of the vault: who calls, orgs, API keys, data keys, sealed records.

-- name: vault_auth_lookup
-- in:  $1 public id of a key
-- out: org_id uuid, slug, tier, status, key_id uuid, name, role, scopes json, models json, rpm bigint, tpm bigint,
--      expires_at_us bigint (0: never), revoked bool, hash bytea, pepper_ver bigint, allow_from json, providers json,
--      billing json ('': not bound); no row: no such key
SELECT a.org_id, a.slug, a.tier, a.status, a.key_id, a.name, a.role, a.scopes, a.models, a.rpm, a.tpm, a.expires_at_us,
	a.revoked, a.hash, a.pepper_ver, b.allow_from, b.providers, b.billing
FROM auth_lookup($1::text) a, auth_bounds(a.org_id, a.key_id) b;

-- name: vault_org_create
-- in:  $1 id uuid, $2 slug, $3 name, $4 tier, $5 actor jsonb, $6 request id
-- out: jsonb
SELECT org_create($1::uuid, $2::text, $3::text, $4::text, $5::jsonb, $6::text);

-- name: vault_org_list
-- in:  $1 limit bigint, $2 cursor ('' from the newest)
-- out: jsonb, text (members of meta)
SELECT data, meta FROM org_list($1::bigint, $2::text);

-- name: vault_org_show
-- The org of this transaction.
-- out: jsonb
SELECT org_json_whole(o) FROM org o WHERE o.org_id = tg_org();

-- name: vault_org_change
-- in:  $1 name, $2 tier, $3 status, $4 settings jsonb (NULL: as it is), $5 actor jsonb, $6 request id
-- out: jsonb
SELECT org_edit($1::text, $2::text, $3::text, $4::jsonb, $5::jsonb, $6::text);

-- name: vault_org_delete
-- in:  $1 actor jsonb, $2 request id
-- out: jsonb
SELECT org_delete($1::jsonb, $2::text);

-- name: vault_key_create
-- in:  $1 id uuid, $2 public id, $3 hash bytea, $4 pepper version bigint, $5 last four, $6 spec jsonb, $7 actor jsonb,
--      $8 request id
-- out: jsonb
SELECT key_make($1::uuid, $2::text, $3::bytea, $4::bigint, $5::text, $6::jsonb, $7::jsonb, $8::text);

-- name: vault_key_budget_put
-- Set, change or (NULL) take away a key's budget; behind key_create or key_change, in their transaction.
-- in:  $1 key id uuid, $2 {"limit":decimal of credits,"window":...} jsonb or NULL, $3 actor jsonb, $4 request id
-- out: jsonb, the key
SELECT key_budget_put($1::uuid, $2::jsonb, $3::jsonb, $4::text) || key_bounds_of($1::uuid);

-- name: vault_key_budget_within
-- Refuses an actor that may spend less than the key.
-- in:  $1 key id uuid, $2 actor jsonb
SELECT key_budget_within($1::uuid, $2::jsonb);

-- name: vault_key_list
-- Newest first, those that the actor may see.
-- in:  $1 actor jsonb, $2 limit bigint, $3 cursor ('' from the newest)
-- out: jsonb, text (members of meta)
WITH page AS (
	SELECT k.id, key_json(k.id, k.public_id, k.name, k.role, k.scopes, k.models, k.rpm, k.tpm, k.expires_at,
		k.last4, k.created_at, k.revoked_at, k.replaced_by, k.last_used_at)
		|| key_bounds_json(k.member_id, k.allow_from, k.providers, k.billing) AS j
	FROM api_key k
	WHERE k.org_id = tg_org() AND key_seen($1::jsonb, k.created_by, k.id)
		AND (tg_cursor_uuid($3::text) IS NULL OR k.id < tg_cursor_uuid($3::text))
	ORDER BY k.id DESC LIMIT $2::bigint + 1
), numbered AS (SELECT page.*, row_number() OVER (ORDER BY id DESC) AS n FROM page)
SELECT COALESCE(jsonb_agg(j ORDER BY n) FILTER (WHERE n <= $2::bigint), '[]'),
	'"next_cursor":' || CASE WHEN count(*) > $2::bigint
		THEN '"' || (max(id::text) FILTER (WHERE n = $2::bigint)) || '"' ELSE 'null' END
FROM numbered;

-- name: vault_key_show
-- in:  $1 actor jsonb, $2 key id uuid
-- out: jsonb; no row: no such key, or not this actor's to see
SELECT key_json(k.id, k.public_id, k.name, k.role, k.scopes, k.models, k.rpm, k.tpm, k.expires_at, k.last4,
	k.created_at, k.revoked_at, k.replaced_by, k.last_used_at)
	|| key_bounds_json(k.member_id, k.allow_from, k.providers, k.billing)
FROM api_key k WHERE k.org_id = tg_org() AND k.id = $2::uuid AND key_seen($1::jsonb, k.created_by, k.id);

-- name: vault_key_change
-- in:  $1 key id uuid, $2 patch jsonb, $3 actor jsonb, $4 request id
-- out: jsonb
SELECT key_alter($1::uuid, $2::jsonb, $3::jsonb, $4::text);

-- name: vault_key_revoke
-- in:  $1 key id uuid, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT key_revoke($1::uuid, $2::jsonb, $3::text) || key_bounds_of($1::uuid);

-- name: vault_key_rotate
-- in:  $1 key id uuid, $2 id of the new one uuid, $3 its public id, $4 its hash bytea, $5 pepper version bigint,
--      $6 its last four, $7 overlap in seconds bigint (0: none), $8 actor jsonb, $9 request id
-- out: jsonb
SELECT key_renew($1::uuid, $2::uuid, $3::text, $4::bytea, $5::bigint, $6::text, $7::bigint, $8::jsonb, $9::text);

-- name: vault_key_used
-- When keys were last used, of any org.
-- in:  $1 org ids uuid[], $2 key ids uuid[], $3 times bigint[] (microseconds since 1970)
-- out: bigint (rows)
SELECT key_used($1::uuid[], $2::uuid[], $3::bigint[]);

-- name: vault_member_invite
-- in:  $1 id uuid, $2 email, $3 role, $4 actor jsonb, $5 request id
-- out: jsonb
SELECT member_invite($1::uuid, $2::text, $3::text, $4::jsonb, $5::text);

-- name: vault_member_list
-- Newest first, the removed too.
-- in:  $1 limit bigint, $2 cursor ('' from the newest)
-- out: jsonb, text (members of meta)
WITH page AS (
	SELECT m, m.id FROM member m
	WHERE m.org_id = tg_org() AND (tg_cursor_uuid($2::text) IS NULL OR m.id < tg_cursor_uuid($2::text))
	ORDER BY m.id DESC LIMIT $1::bigint + 1
), numbered AS (SELECT page.*, row_number() OVER (ORDER BY id DESC) AS n FROM page)
SELECT COALESCE(jsonb_agg(member_json(m) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || (max(id::text) FILTER (WHERE n = $1::bigint)) || '"' ELSE 'null' END
FROM numbered;

-- name: vault_member_show
-- in:  $1 id uuid
-- out: jsonb; no row: no such member
SELECT member_json(m) FROM member m WHERE m.org_id = tg_org() AND m.id = $1::uuid;

-- name: vault_member_role
-- in:  $1 id uuid, $2 role, $3 actor jsonb, $4 request id
-- out: jsonb
SELECT member_role($1::uuid, $2::text, $3::jsonb, $4::text);

-- name: vault_member_remove
-- in:  $1 id uuid, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT member_remove($1::uuid, $2::jsonb, $3::text);

-- name: vault_dek_get
-- Data keys of the org of this transaction, newest first.
-- out: dek_ver bigint, kek_id text, kek_ver int, wrapped bytea, active bool
SELECT dek_ver, kek_id, kek_ver, wrapped, active FROM dek_get();

-- name: vault_dek_put
-- The org's first data key, unless another was faster; what stands afterwards.
-- in:  $1 kek_id, $2 kek_ver int, $3 wrapped bytea
-- out: as vault_dek_get
SELECT dek_ver, kek_id, kek_ver, wrapped, active FROM dek_put($1::text, $2::int, $3::bytea);

-- name: vault_boot
-- out: kek_id text, kek_ver int, canary bytea, needed bool
SELECT kek_id, kek_ver, canary, needed FROM vault_boot();

-- name: vault_canary_put
-- in:  $1 kek_id, $2 kek_ver int, $3 canary bytea
SELECT kek_canary_put($1::text, $2::int, $3::bytea);

-- name: vault_secret_get
-- in:  $1 org_id uuid, $2 id uuid
-- out: row_version bigint, sealed bytea
SELECT row_version, sealed FROM secret WHERE org_id = $1::uuid AND id = $2::uuid;

-- name: vault_secret_put
-- in:  $1 id uuid, $2 field, $3 row_version bigint, $4 sealed bytea, $5 masked, $6 fingerprint
-- out: row_version bigint
SELECT secret_put($1::uuid, $2::text, $3::bigint, $4::bytea, $5::text, $6::text);

-- name: vault_org_resolve
-- The org of this transaction.
-- out: org_id uuid, slug text
SELECT org_id, slug FROM org WHERE org_id = tg_org();

-- name: vault_dek_gate
-- out: min_decrypt_ver bigint of the org of this transaction
SELECT dek_gate();

-- name: vault_dek_all
-- Every data key of the org of this transaction, the pending one too.
-- out: dek_ver bigint, kek_id text, kek_ver int, wrapped bytea, state text, min_decrypt_ver bigint
SELECT dek_ver, kek_id, kek_ver, wrapped, state, dek_gate() FROM dek_all();

-- name: vault_rotation_open
-- in:  $1 kek_id that will wrap, $2 data keys at most bigint
-- out: version bigint, step text (new, pending, resealing); no row: the org has no data key
SELECT next_ver, step FROM dek_rotation_open($1::text, $2::bigint);

-- name: vault_rotation_pending
-- in:  $1 version bigint, $2 kek_id, $3 kek_ver int, $4 wrapped bytea
SELECT dek_rotation_pending($1::bigint, $2::text, $3::int, $4::bytea);

-- name: vault_rotation_promote
-- in:  $1 version bigint, $2 actor jsonb, $3 request id
-- out: bool (false: it was promoted before)
SELECT dek_rotation_promote($1::bigint, $2::jsonb, $3::text);

-- name: vault_secret_page_old
-- in:  $1 version bigint that is not old, $2 after id uuid, $3 limit bigint
-- out: id uuid, seal field text, row_version bigint, sealed bytea
SELECT id, seal_field, row_version, sealed FROM secret_page_old($1::bigint, $2::uuid, $3::bigint);

-- name: vault_secret_reseal
-- in:  $1 version bigint, $2 ids uuid[], $3 row versions bigint[], $4 sealed before bytea[], $5 sealed now bytea[],
--      $6 fingerprints text[]
-- out: bigint (rows; an admin's change meanwhile is left alone)
SELECT secret_reseal($1::bigint, $2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[]);

-- name: vault_rotation_finish
-- in:  $1 version bigint, $2 seconds until what is older is destroyed bigint
-- out: rows left bigint, wait_ms bigint; done when both are 0
SELECT rows_left, wait_ms FROM dek_rotation_finish($1::bigint, $2::bigint);

-- name: vault_orgs_to_rotate
-- in:  $1 begin of the run timestamptz, $2 after org uuid, $3 limit bigint
-- out: org_id uuid, slug text
SELECT org_id, slug FROM vault_orgs_to_rotate($1::timestamptz, $2::uuid, $3::bigint);

-- name: vault_run_begin
-- in:  $1 kind, $2 target
-- out: began timestamptz, done bigint
SELECT began::text, run_done FROM vault_run_begin($1::text, $2::text);

-- name: vault_run_note
-- in:  $1 kind, $2 done besides bigint, $3 failed bigint, $4 at its end bool
SELECT vault_run_note($1::text, $2::bigint, $3::bigint, $4::boolean);

-- name: vault_dek_page_other
-- in:  $1 kek_id, $2 kek_ver int, $3 after org uuid, $4 after version bigint, $5 limit bigint
-- out: org_id uuid, dek_ver bigint, kek_id text, kek_ver int, wrapped bytea, rows left bigint
SELECT org_id, dek_ver, kek_id, kek_ver, wrapped, rows_left
FROM dek_page_other($1::text, $2::int, $3::uuid, $4::bigint, $5::bigint);

-- name: vault_dek_rewrap
-- in:  $1 kek_id, $2 kek_ver int, $3 org ids uuid[], $4 versions bigint[], $5 wrapped before bytea[],
--      $6 wrapped now bytea[], $7 actor jsonb, $8 request id
-- out: bigint (rows)
SELECT dek_rewrap($1::text, $2::int, $3::uuid[], $4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb, $8::text);

-- name: vault_gate_set
-- in:  $1 min_encrypt bigint, $2 min_decrypt bigint (NULL: as it is), $3 actor jsonb, $4 request id
-- out: jsonb
SELECT dek_gate_set($1::bigint, $2::bigint, $3::jsonb, $4::text);

-- name: vault_kek_forget
-- in:  $1 kek_id, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT kek_forget($1::text, $2::jsonb, $3::text);

-- name: vault_secret_page_all
-- in:  $1 after org uuid, $2 after id uuid, $3 limit bigint
-- out: org_id uuid, slug text, id uuid, seal field text, row_version bigint, sealed bytea, name text,
--      unreadable text (as it was told last, or NULL)
SELECT org_id, slug, id, seal_field, row_version, sealed, name, unreadable
FROM secret_page_all($1::uuid, $2::uuid, $3::bigint);

-- name: vault_secret_tried
-- in:  $1 id uuid, $2 row_version bigint, $3 sealed bytea, $4 code (NULL: it opened)
-- out: bool (what is known of it changed)
SELECT secret_tried($1::uuid, $2::bigint, $3::bytea, $4::text);

-- name: vault_master_keys
-- out: kek_id text, kek_ver int, deks bigint, since text, wraps bool (a running node's current one)
SELECT kek_id, kek_ver, deks, since, wraps FROM vault_master_keys();

-- name: vault_report
-- in:  $1 days that backups are kept bigint
-- out: nodes jsonb, runs jsonb, orgs jsonb, shreds jsonb
SELECT nodes, runs, orgs, shreds FROM vault_report($1::bigint);

-- name: vault_node_beat
-- in:  $1 node uuid, $2 name, $3 current kek_id, $4 kek_ids text[], $5 valid for ms bigint
-- out: bool
SELECT node_beat($1::uuid, $2::text, $3::text, $4::text[], $5::bigint);

-- name: vault_dek_sweep
-- in:  $1 at most bigint
-- out: bigint (data keys destroyed)
SELECT dek_sweep($1::bigint);

-- name: vault_node_leave
-- in:  $1 node uuid
SELECT node_leave($1::uuid);

-- name: vault_audit_list
-- Newest first.
-- in:  $1 limit bigint, $2 cursor ('' from the newest), $3 what the action begins with ('' for all)
-- out: jsonb, text (members of meta)
WITH page AS (
	SELECT a.seq, audit_json(a) AS j
	FROM audit a
	WHERE a.org_id = tg_org() AND starts_with(a.action, $3::text)
		AND (tg_cursor_seq($2::text) IS NULL OR a.seq < tg_cursor_seq($2::text))
	ORDER BY a.seq DESC LIMIT $1::bigint + 1
), numbered AS (SELECT page.*, row_number() OVER (ORDER BY seq DESC) AS n FROM page)
SELECT COALESCE(jsonb_agg(j ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || (max(seq) FILTER (WHERE n = $1::bigint)) || '"' ELSE 'null' END
FROM numbered;

-- name: vault_audit_verify
-- The org of this transaction.
-- out: orgs bigint, rows bigint, bad orgs bigint, and of a bad one slug text, org_id text, seq bigint, what text
SELECT count(*) OVER (), v.row_count, count(v.bad_seq) OVER (), v.slug, v.org_id::text, v.bad_seq, v.what
FROM audit_verify() v;

-- name: vault_audit_verify_all
-- The sums, with each of the first 200 bad orgs, or once without one.
-- out: as vault_audit_verify
WITH v AS MATERIALIZED (SELECT org_id, slug, row_count, bad_seq, what FROM audit_verify_all())
SELECT s.orgs, s.row_count, s.bad, b.slug, b.org_id::text, b.bad_seq, b.what
FROM (SELECT count(*) AS orgs, COALESCE(sum(row_count), 0)::bigint AS row_count, count(bad_seq) AS bad FROM v) s
LEFT JOIN LATERAL (SELECT * FROM v WHERE v.bad_seq IS NOT NULL ORDER BY v.slug, v.org_id LIMIT 200) b ON true;
