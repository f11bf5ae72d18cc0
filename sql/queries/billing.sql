-- Billing's statements: holds and settlements in batches, prices, and what the control plane reads.
-- Reads run as tollgate_app under row-level security; writes are functions (0003_billing.sql).

-- name: billing_hold
-- Hold money for a batch of attempts; repeating a hold id answers what it got.
-- in:  $1 org uuid[], $2 hold uuid[], $3 call uuid[], $4 attempt bigint[], $5 amount bigint[], $6 ttl_ms bigint[],
--      $7 key uuid[], $8 agent text[]
-- out: ord int (from 1), outcome text, granted bigint, available bigint, leased bigint, and where a budget refused:
--      its id uuid, its name text
SELECT ord, outcome, granted, available, leased, budget_id, budget_name
FROM billing_hold_batch($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::uuid[],
	$8::text[]) ORDER BY ord;

-- name: billing_release
-- Give holds back unused.
-- in:  $1 org uuid[], $2 hold uuid[]
-- out: nano given back bigint
SELECT billing_release_batch($1::uuid[], $2::uuid[]);

-- name: billing_settle
-- Book charges, each exactly once. A hold of all zeros is none.
-- in:  $1 org uuid[], $2 call uuid[], $3 attempt bigint[], $4 hold uuid[], $5 amount bigint[], $6 hash bytea[], $7 doc text[]
-- out: ord int (from 1), outcome text, debited bigint, over bigint (of it: to overdraft)
SELECT ord, outcome, debited, over FROM billing_settle_batch($1::uuid[], $2::uuid[], $3::bigint[],
	ARRAY(SELECT NULLIF(h.id, '00000000-0000-0000-0000-000000000000') FROM unnest($4::uuid[]) WITH ORDINALITY h(id, pos)
		ORDER BY h.pos), $5::bigint[], $6::bytea[], $7::text[]) ORDER BY ord;

-- name: billing_settle_refused
-- Set one charge aside that the constraints refuse.
-- in:  $1 org uuid, $2 call uuid, $3 attempt bigint, $4 hold uuid, $5 amount bigint, $6 hash bytea, $7 doc text, $8 words text
SELECT billing_settle_refused($1::uuid, $2::uuid, $3::bigint, NULLIF($4::uuid, '00000000-0000-0000-0000-000000000000'),
	$5::bigint, $6::bytea, $7::text, $8::text);

-- name: billing_lease_expire
-- Reclaim holds past their expiry.
-- in:  $1 at most int
-- out: how many int
SELECT billing_lease_expire($1::int);

-- name: billing_grant_expire
-- in:  $1 orgs at most int
-- out: how many grants int
SELECT billing_grant_expire($1::int);

-- name: billing_partitions
-- Partitions of usage_charge ahead of time.
-- out: how many were made int
SELECT billing_partitions();

-- name: billing_prices_load
-- All sell lines in force now, in byte order of their keys.
-- out: provider, model, version bigint, class, band_min_input bigint, service_tier, price_nano bigint, per_units bigint
SELECT b.provider, b.model, b.price_version, b.class, b.band_min_input, b.service_tier, b.price_nano, b.per_units
FROM price_book b
WHERE b.book = 'sell' AND NOT b.batch AND b.region = '' AND b.effective_from <= now()
	AND (b.effective_to IS NULL OR b.effective_to > now())
ORDER BY b.provider COLLATE "C", b.model COLLATE "C", b.price_version, b.class, b.band_min_input, b.service_tier;

-- name: billing_prices_next
-- When the next sell line starts or ends.
-- out: timestamptz or NULL
SELECT min(t.at) FROM (
	SELECT b.effective_from AS at FROM price_book b WHERE b.book = 'sell' AND b.effective_from > now()
	UNION ALL SELECT b.effective_to FROM price_book b WHERE b.book = 'sell' AND b.effective_to > now()) t;

-- name: billing_credits
-- The balance of the transaction's org and the grants that have something left.
-- out: jsonb; no row: no such org
SELECT jsonb_build_object('available', tg_credits(h.available), 'leased', tg_credits(h.leased),
	'overdraft', tg_credits(h.overdraft), 'grants', coalesce((SELECT jsonb_agg(billing_grant_json(g)
		ORDER BY g.priority, g.expires_at NULLS LAST, g.created_at) FROM (SELECT * FROM credit_grant c
		WHERE c.org_id = h.org_id AND c.remaining > 0
		ORDER BY c.priority, c.expires_at NULLS LAST, c.created_at LIMIT 200) g), '[]'::jsonb))
FROM org_head h WHERE h.org_id = tg_org();

-- name: billing_grants
-- All grants, newest first.
-- in:  $1 limit bigint, $2 last id seen uuid or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT g, g.grant_id AS id, row_number() OVER (ORDER BY g.grant_id DESC) AS n FROM credit_grant g
	WHERE g.org_id = tg_org() AND ($2::uuid IS NULL OR g.grant_id < $2::uuid) ORDER BY g.grant_id DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(billing_grant_json(g) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(id::text) FILTER (WHERE n = $1::bigint) || '"' ELSE 'null' END FROM page;

-- name: billing_credit_grant
-- Book credit for the transaction's org, once per key.
-- in:  $1 key, $2 operation, $3 category, $4 amount nano bigint, $5 priority int, $6 expires_at timestamptz or NULL,
--      $7 reason, $8 actor jsonb, $9 request id
-- out: jsonb
SELECT billing_credit_grant($1::text, $2::text, $3::text, $4::bigint, $5::int, $6::timestamptz, $7::text, $8::jsonb, $9::text);

-- name: billing_ledger_entries
-- Transfers of the transaction's org, newest first.
-- in:  $1 limit bigint, $2 last seq seen bigint or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT t.*, row_number() OVER (ORDER BY t.seq DESC) AS n FROM transfer t
	WHERE t.org_id = tg_org() AND ($2::bigint IS NULL OR t.seq < $2::bigint) ORDER BY t.seq DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(jsonb_build_object('seq', p.seq, 'kind', p.kind, 'debit', d.name, 'credit', c.name,
		'amount', tg_credits(p.amount), 'occurred_at', tg_rfc3339(p.occurred_at), 'booked_at', tg_rfc3339(p.booked_at),
		'posting_id', p.posting_id, 'ref', jsonb_build_object('type', p.ref_type, 'id', p.ref_id), 'actor', p.actor,
		'reason', p.reason) ORDER BY p.n) FILTER (WHERE p.n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(p.seq) FILTER (WHERE p.n = $1::bigint) || '"' ELSE 'null' END
FROM page p JOIN account_code d ON d.code = p.debit JOIN account_code c ON c.code = p.credit;

-- name: billing_calls
-- Booked calls of the transaction's org, newest first.
-- in:  $1 limit bigint, $2 last call id seen uuid or NULL, $3 its attempt int or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT u, u.call_id, u.attempt,
		row_number() OVER (ORDER BY u.occurred_at DESC, u.call_id DESC, u.attempt DESC) AS n FROM usage_charge u
	WHERE u.org_id = tg_org() AND ($2::uuid IS NULL
		OR (u.occurred_at, u.call_id, u.attempt) < (tg_uuid_time($2::uuid), $2::uuid, $3::int))
	ORDER BY u.occurred_at DESC, u.call_id DESC, u.attempt DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(billing_call_json(u, false) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(call_id || '-' || attempt) FILTER (WHERE n = $1::bigint) || '"' ELSE 'null' END FROM page;

-- name: billing_call
-- One call: its booked row, or that it is still open. The id alone finds the partition.
-- in:  $1 call id uuid
-- out: jsonb; no row: not known
SELECT x.j FROM (
	SELECT u.attempt, 1 AS booked, billing_call_json(u, true) AS j FROM usage_charge u
	WHERE u.org_id = tg_org() AND u.occurred_at = tg_uuid_time($1::uuid) AND u.call_id = $1::uuid
	UNION ALL
	SELECT l.attempt, 0, jsonb_build_object('request_id', 'req_' || l.call_id, 'attempt', l.attempt,
		'occurred_at', tg_rfc3339(tg_uuid_time(l.call_id)), 'billing_source', 'platform', 'provider', NULL, 'model', NULL,
		'profile', NULL, 'attempts', '[]'::jsonb, 'plan', NULL, 'usage', NULL, 'basis', NULL, 'lines', '[]'::jsonb,
		'amount', tg_credits(0), 'hold', tg_credits(l.granted), 'hold_expires_at', tg_rfc3339(l.hard_at),
		'price_version', NULL, 'status', 'open')
	FROM lease l WHERE l.org_id = tg_org() AND l.call_id = $1::uuid AND l.state IN ('open', 'draining')
) x ORDER BY x.attempt DESC, x.booked DESC LIMIT 1;

-- name: billing_usage
-- Usage of the transaction's org, summed by the dimensions that are asked for.
-- in:  $1 from timestamptz, $2 to timestamptz, $3 day bool, $4 model, $5 profile, $6 billing_source, $7 key, $8 agent, $9 provider
-- out: jsonb
WITH called AS (
	SELECT CASE WHEN $3::bool THEN jsonb_build_object('day', to_char(u.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')) ELSE '{}' END
		|| CASE WHEN $4::bool THEN jsonb_build_object('model', u.model_used) ELSE '{}' END
		|| CASE WHEN $5::bool THEN jsonb_build_object('profile', u.profile) ELSE '{}' END
		|| CASE WHEN $6::bool THEN jsonb_build_object('billing_source', u.billing_source) ELSE '{}' END
		|| CASE WHEN $7::bool THEN jsonb_build_object('key', u.key_id) ELSE '{}' END
		|| CASE WHEN $8::bool THEN jsonb_build_object('agent', u.agent) ELSE '{}' END
		|| CASE WHEN $9::bool THEN jsonb_build_object('provider', u.provider) ELSE '{}' END AS dims,
		u.call_id, u.amount, u.usage
	FROM usage_charge u
	WHERE u.org_id = tg_org() AND u.occurred_at >= $1::timestamptz AND u.occurred_at < $2::timestamptz
), totals AS (
	SELECT c.dims, count(DISTINCT c.call_id) AS calls, sum(c.amount) AS amount FROM called c GROUP BY c.dims
), classes AS (
	SELECT s.dims, jsonb_object_agg(s.class, s.units) AS usage FROM (
		SELECT c.dims, e.key AS class, sum(e.value::numeric) AS units FROM called c, jsonb_each_text(coalesce(c.usage, '{}')) e
		GROUP BY c.dims, e.key) s GROUP BY s.dims
)
SELECT coalesce(jsonb_agg(t.dims || jsonb_build_object('calls', t.calls, 'usage', coalesce(k.usage, '{}'),
	'amount', tg_credits(t.amount)) ORDER BY t.dims->>'day' DESC, t.dims), '[]'::jsonb)
FROM totals t LEFT JOIN classes k ON k.dims = t.dims;

-- name: billing_prices
-- Versions in force, newest first.
-- in:  $1 limit bigint, $2 last version seen bigint or NULL, $3 book, $4 provider or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT d.price_version, row_number() OVER (ORDER BY d.price_version DESC) AS n FROM (
		SELECT DISTINCT b.price_version FROM price_book b WHERE b.book = $3::text
			AND ($4::text IS NULL OR b.provider = $4::text) AND b.effective_from <= now()
			AND (b.effective_to IS NULL OR b.effective_to > now())
			AND ($2::bigint IS NULL OR b.price_version < $2::bigint)) d
	ORDER BY d.price_version DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(price_version_json(price_version) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(price_version) FILTER (WHERE n = $1::bigint) || '"' ELSE 'null' END FROM page;

-- name: billing_price_show
-- One model's price: the version in force (or null), and all versions of the book, newest first.
-- in:  $1 provider, $2 model, $3 book
-- out: jsonb; no row: never priced
SELECT jsonb_build_object('provider', $1::text, 'model', $2::text, 'book', $3::text,
	'current', (SELECT price_version_json(max(b.price_version)) FROM price_book b WHERE b.book = $3::text
		AND b.provider = $1::text AND b.model = $2::text AND b.effective_from <= now()
		AND (b.effective_to IS NULL OR b.effective_to > now())),
	'versions', jsonb_agg(price_version_json(v.price_version) ORDER BY v.effective_from DESC))
FROM (SELECT DISTINCT b.price_version, b.effective_from FROM price_book b WHERE b.book = $3::text AND b.provider = $1::text
	AND b.model = $2::text ORDER BY b.effective_from DESC LIMIT 200) v
HAVING count(*) > 0;

-- name: billing_price_put
-- A new version.
-- in:  $1 provider, $2 model, $3 book, $4 effective_from timestamptz or NULL, $5 lines jsonb, $6 actor jsonb, $7 request id
-- out: jsonb
SELECT billing_price_put($1::text, $2::text, $3::text, $4::timestamptz, $5::jsonb, $6::jsonb, $7::text);

-- name: billing_ledger_audit
-- The whole ledger's counts.
-- out: name text, must_be_zero bool, value text, what text
SELECT name, must_be_zero, value::text, what FROM ledger_audit()
UNION ALL SELECT name, must_be_zero, value::text, what FROM budget_audit();

-- name: billing_budget_create
-- in:  $1 id uuid, $2 name, $3 scope, $4 subject ('' of an org), $5 limit nano bigint, $6 window, $7 hard bool,
--      $8 actor jsonb, $9 request id
-- out: jsonb
SELECT budget_create($1::uuid, $2::text, $3::text, $4::text, $5::bigint, $6::text, $7::boolean, $8::jsonb, $9::text);

-- name: billing_budgets
-- Newest first.
-- in:  $1 limit bigint, $2 last id seen uuid or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT b, b.id, row_number() OVER (ORDER BY b.id DESC) AS n FROM budget b
	WHERE b.org_id = tg_org() AND b.deleted_at IS NULL AND ($2::uuid IS NULL OR b.id < $2::uuid)
	ORDER BY b.id DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(budget_json(b) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(id::text) FILTER (WHERE n = $1::bigint) || '"' ELSE 'null' END FROM page;

-- name: billing_budget
-- in:  $1 id uuid
-- out: jsonb; no row: no such budget
SELECT budget_json(b) FROM budget b WHERE b.org_id = tg_org() AND b.id = $1::uuid AND b.deleted_at IS NULL;

-- name: billing_budget_change
-- in:  $1 id uuid, and NULL for as it is: $2 name, $3 limit nano bigint, $4 hard bool, $5 status; $6 actor jsonb,
--      $7 request id
-- out: jsonb
SELECT budget_change($1::uuid, $2::text, $3::bigint, $4::boolean, $5::text, $6::jsonb, $7::text);

-- name: billing_budget_delete
-- in:  $1 id uuid, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT budget_delete($1::uuid, $2::jsonb, $3::text);

-- name: billing_alert_create
-- in:  $1 id uuid, $2 name, $3 metric, $4 budget uuid or NULL, $5 threshold percent int or NULL, $6 threshold nano
--      bigint or NULL, $7 actor jsonb, $8 request id
-- out: jsonb
SELECT alert_create($1::uuid, $2::text, $3::text, $4::uuid, $5::int, $6::bigint, $7::jsonb, $8::text);

-- name: billing_alerts
-- Newest first.
-- in:  $1 limit bigint, $2 last id seen uuid or NULL
-- out: jsonb, members of meta text
WITH page AS (
	SELECT a, a.id, row_number() OVER (ORDER BY a.id DESC) AS n FROM alert a
	WHERE a.org_id = tg_org() AND a.deleted_at IS NULL AND ($2::uuid IS NULL OR a.id < $2::uuid)
	ORDER BY a.id DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(alert_json(a) ORDER BY n) FILTER (WHERE n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(id::text) FILTER (WHERE n = $1::bigint) || '"' ELSE 'null' END FROM page;

-- name: billing_alert
-- in:  $1 id uuid
-- out: jsonb; no row: no such alert
SELECT alert_json(a) FROM alert a WHERE a.org_id = tg_org() AND a.id = $1::uuid AND a.deleted_at IS NULL;

-- name: billing_alert_change
-- in:  $1 id uuid, and NULL for as it is: $2 name, $3 threshold percent int, $4 threshold nano bigint, $5 status;
--      $6 actor jsonb, $7 request id
-- out: jsonb
SELECT alert_change($1::uuid, $2::text, $3::int, $4::bigint, $5::text, $6::jsonb, $7::text);

-- name: billing_alert_delete
-- in:  $1 id uuid, $2 actor jsonb, $3 request id
-- out: jsonb
SELECT alert_delete($1::uuid, $2::jsonb, $3::text);

-- name: billing_alert_events
-- Crossings of one alert, newest first; those of a deleted alert can still be read.
-- in:  $1 limit bigint, $2 last id seen uuid or NULL, $3 alert id uuid
-- out: jsonb, members of meta text; no row: no such alert
WITH page AS (
	SELECT e.*, row_number() OVER (ORDER BY e.id DESC) AS n FROM alert_event e
	WHERE e.org_id = tg_org() AND e.alert_id = $3::uuid AND ($2::uuid IS NULL OR e.id < $2::uuid)
	ORDER BY e.id DESC LIMIT $1::bigint + 1
)
SELECT coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'at', tg_rfc3339(p.at), 'value', tg_credits(p.value),
		'threshold', tg_credits(p.threshold), 'limit', tg_credits(p.limit_nano),
		'window_start', tg_rfc3339(p.window_start)) ORDER BY p.n) FILTER (WHERE p.n <= $1::bigint), '[]'::jsonb),
	'"next_cursor":' || CASE WHEN count(*) > $1::bigint
		THEN '"' || max(p.id::text) FILTER (WHERE p.n = $1::bigint) || '"' ELSE 'null' END
FROM page p HAVING EXISTS (SELECT 1 FROM alert a WHERE a.org_id = tg_org() AND a.id = $3::uuid);

-- name: billing_alerts_run
-- Which alerts crossed their thresholds since the last run.
-- in:  $1 changes at most int
-- out: org_id uuid, alert_id uuid, name, metric, value bigint, threshold bigint
SELECT org_id, alert_id, name, metric, value, threshold FROM billing_alerts_run($1::int);
