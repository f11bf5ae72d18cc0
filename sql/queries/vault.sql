-- Statements of the vault: who calls, orgs, API keys, data keys, sealed records.

-- name: vault_auth_lookup
-- in:  $1 public id of a key
-- out: org_id uuid, slug, tier, status, key_id uuid, name, role, scopes json, models json, rpm bigint, tpm bigint,
--      expires_at_us bigint (0: never), revoked bool, hash bytea, pepper_ver bigint; no row: no such key
SELECT org_id, slug, tier, status, key_id, name, role, scopes, models, rpm, tpm, expires_at_us, revoked, hash,
	pepper_ver FROM auth_lookup($1::text);

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
SELECT org_json(o) FROM org o WHERE o.org_id = tg_org();

-- name: vault_org_change
-- in:  $1 name, $2 tier, $3 status (NULL: as it is), $4 actor jsonb, $5 request id
-- out: jsonb
SELECT org_change($1::text, $2::text, $3::text, $4::jsonb, $5::text);

-- name: vault_org_delete
-- in:  $1 actor jsonb, $2 request id
-- out: jsonb
SELECT org_delete($1::jsonb, $2::text);

-- name: vault_key_create
-- in:  $1 id uuid, $2 public id, $3 hash bytea, $4 pepper version bigint, $5 last four, $6 spec jsonb, $7 actor jsonb,
--      $8 request id
-- out: jsonb
SELECT key_create($1::uuid, $2::text, $3::bytea, $4::bigint, $5::text, $6::jsonb, $7::jsonb, $8::text);

-- name: vault_key_list
-- Newest first, those that the actor may see.
-- in:  $1 actor jsonb, $2 limit bigint, $3 cursor ('' from the newest)
-- out: jsonb, text (members of meta)
WITH page AS (
	SELECT k.id, key_json(k.id, k.public_id, k.name, k.role, k.scopes, k.models, k.rpm, k.tpm, k.expires_at,
		k.last4, k.created_at, k.revoked_at) AS j
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
	k.created_at, k.revoked_at)
FROM api_key k WHERE k.org_id = tg_org() AND k.id = $2::uuid AND key_seen($1::jsonb, k.created_by, k.id);

-- name: vault_key_change
-- in:  $1 key id uuid, $2 patch jsonb, $3 actor jsonb, $4 request id
-- out: jsonb
SELECT key_change($1::uuid, $2::jsonb, $3::jsonb, $4::text);

-- name: vault_key_revoke
-- in:  $1 key id uuid, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT key_revoke($1::uuid, $2::jsonb, $3::text);

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

-- name: vault_status
-- out: kek_id text, kek_ver int, deks bigint, since text
SELECT kek_id, kek_ver, deks, since FROM vault_status();
