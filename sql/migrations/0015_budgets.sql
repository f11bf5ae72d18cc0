-- 0015_budgets: limits on what an org, a key or an agent may spend, and alerts at thresholds.
--
--   * A budget counts credits debited, in windows of UTC: budget_counter has a row per budget and window,
--     with what is spent and what calls in flight hold. A row is made when the first call needs it.
--   * A hold takes part in every budget that applies, in the transaction that grants it, under the lock of
--     org_head; a hard budget without room for it refuses it. The lease names the counters it is part of, and
--     so does the usage row that settles it: what is spent is always the sum over the rows that name it, in the
--     window in which the call was authorised, and a repetition counts nothing twice.
--   * An alert's crossing is found by a job that compares counters, never by who moves money.
-- The tables of vault are read and named here, as in org_create(), so that neither room knows the other's.

-- ---- budgets ------------------------------------------------------------------------------------

CREATE TABLE budget (
	org_id uuid NOT NULL REFERENCES org (org_id),
	id uuid NOT NULL,
	name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
	scope text NOT NULL CHECK (scope IN ('org', 'key', 'agent')),
	subject text NOT NULL CHECK (char_length(subject) <= 256), -- a key's id, an agent's name, '' of an org
	limit_nano bigint NOT NULL CHECK (limit_nano BETWEEN 0 AND 100000000000000000),
	period text NOT NULL CHECK (period IN ('day', 'week', 'month', 'total')),
	hard boolean NOT NULL,
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
	of_key boolean NOT NULL DEFAULT false, -- the one that the key itself names as its budget
	created_at timestamptz NOT NULL DEFAULT now(),
	changed_at timestamptz NOT NULL DEFAULT now(),
	deleted_at timestamptz, -- its counters stay: booked calls name them
	PRIMARY KEY (org_id, id),
	CHECK ((scope = 'org') = (subject = '')),
	CHECK (NOT of_key OR (scope = 'key' AND hard))
);
CREATE UNIQUE INDEX budget_name ON budget (org_id, name) WHERE deleted_at IS NULL AND NOT of_key;
SELECT tg_tenant_table('budget');
SELECT audit_watch('budget', 'id', 'changed_at');

-- Whom a budget that is not deleted applies to. A rotated key and the one that took its place share theirs.
CREATE TABLE budget_subject (
	org_id uuid NOT NULL,
	scope text NOT NULL,
	subject text NOT NULL,
	budget_id uuid NOT NULL,
	PRIMARY KEY (org_id, scope, subject, budget_id),
	FOREIGN KEY (org_id, budget_id) REFERENCES budget (org_id, id)
);
SELECT tg_tenant_table('budget_subject');

CREATE TABLE budget_counter (
	org_id uuid NOT NULL,
	id uuid NOT NULL,
	budget_id uuid NOT NULL,
	window_start timestamptz NOT NULL, -- -infinity: the one window of a total
	spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
	held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
	PRIMARY KEY (org_id, id),
	UNIQUE (org_id, budget_id, window_start),
	FOREIGN KEY (org_id, budget_id) REFERENCES budget (org_id, id)
) WITH (fillfactor = 50);
SELECT tg_tenant_table('budget_counter');
GRANT SELECT ON budget, budget_subject, budget_counter TO tollgate_app;

-- The counters that a hold, and the charge that settled it, are part of. NULL: no budget applied.
ALTER TABLE lease ADD COLUMN counters uuid[];
ALTER TABLE usage_charge ADD COLUMN counters uuid[];

-- Days, ISO weeks (from Monday) and months of UTC, whatever the session's time zone.
CREATE FUNCTION budget_window_start(period text, at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT CASE period WHEN 'total' THEN '-infinity'::timestamptz
	ELSE date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END $$;
GRANT EXECUTE ON FUNCTION budget_window_start(text, timestamptz) TO tollgate_app;
CREATE FUNCTION budget_window_end(period text, at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT CASE period WHEN 'total' THEN 'infinity'::timestamptz
	ELSE (date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC' END $$;
GRANT EXECUTE ON FUNCTION budget_window_end(text, timestamptz) TO tollgate_app;

-- Which budgets apply to calls of these orgs, keys and agents, each budget once. (Not in SQL as a language: such a
-- function is planned anew for each statement that calls it.)
CREATE FUNCTION budget_applying(o uuid[], keys uuid[], agents text[]) RETURNS TABLE (org_id uuid, budget_id uuid)
LANGUAGE plpgsql STABLE SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT DISTINCT s.org_id, s.budget_id
	FROM (SELECT DISTINCT x.o, x.key_id, x.agent FROM unnest(o, keys, agents) x(o, key_id, agent)) u
	CROSS JOIN LATERAL (VALUES ('org', ''), ('key', u.key_id::text), ('agent', u.agent)) w(scope, subject)
	JOIN budget_subject s ON s.org_id = u.o AND s.scope = w.scope AND s.subject = w.subject;
END $$;

-- Make the counters that are missing of those budgets' windows around `at`. The caller holds the heads' locks.
CREATE FUNCTION budget_counters_open(o uuid[], keys uuid[], agents text[], at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO budget_counter (org_id, id, budget_id, window_start)
	SELECT b.org_id, tg_uuid_v7(), b.id, budget_window_start(b.period, at)
	FROM budget_applying(o, keys, agents) a JOIN budget b ON b.org_id = a.org_id AND b.id = a.budget_id
	WHERE NOT EXISTS (SELECT 1 FROM budget_counter c WHERE c.org_id = b.org_id AND c.budget_id = b.id
		AND c.window_start = budget_window_start(b.period, at))
	ORDER BY b.org_id, b.id ON CONFLICT DO NOTHING;
END $$;

-- The counters of a charge that no hold was made for: of the budgets that stood when it occurred.
CREATE FUNCTION budget_counters_for(o uuid, key_id uuid, agent text, at timestamptz) RETURNS uuid[]
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM budget_counters_open(ARRAY[o], ARRAY[key_id], ARRAY[agent], at);
	RETURN (SELECT array_agg(c.id ORDER BY c.id) FROM budget_applying(ARRAY[o], ARRAY[key_id], ARRAY[agent]) a
		JOIN budget b ON b.org_id = a.org_id AND b.id = a.budget_id
		JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
			AND c.window_start = budget_window_start(b.period, at)
		WHERE b.created_at <= at);
END $$;

-- ---- the money functions, budgets included -------------------------------------------------------

-- As in 0003, and over_budget: a hard budget has no room. `available` is then what that budget leaves (below
-- zero when its limit was lowered) and `leased` what calls in flight hold of it.
DROP FUNCTION billing_hold_batch(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[]);
CREATE FUNCTION billing_hold_batch(o uuid[], hid uuid[], call uuid[], att bigint[], amt bigint[], ttl_ms bigint[],
	keys uuid[] DEFAULT NULL, agents text[] DEFAULT NULL)
RETURNS TABLE (ord int, outcome text, granted bigint, available bigint, leased bigint, budget_id uuid, budget_name text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n int := coalesce(array_length(o, 1), 0);
	r record; head org_head; cur uuid; posting uuid; live text;
	v_out text[] := array_fill('unknown_org'::text, ARRAY[greatest(n, 1)]);
	v_got bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_av bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_le bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	total bigint := 0; av bigint := 0;
	new_ord int[] := '{}'; new_posting uuid[] := '{}'; new_counters text[] := '{}';
	-- The budgets that some row counts on: one element each.
	b_org uuid[]; b_id uuid[]; b_name text[]; b_counter uuid[]; b_hard boolean[]; b_left bigint[]; b_held bigint[];
	b_more bigint[]; v_budget int[] := array_fill(0, ARRAY[greatest(n, 1)]); p int; pick int; mine uuid[];
	v_budgets text[]; -- per row, which of them; a statement of its own, so that who has no budget pays for none
	tight uuid := '00000000-0000-7000-8000-000000000001';
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id = ANY (o) ORDER BY h.org_id FOR UPDATE OF h;
	IF EXISTS (SELECT 1 FROM budget_subject s WHERE s.org_id = ANY (o)) THEN
		PERFORM budget_counters_open(o, keys, agents, now());
		-- b_left: what is not spent of the limit
		SELECT array_agg(b.org_id), array_agg(b.id), array_agg(b.name), array_agg(c.id),
			array_agg(b.hard AND b.status = 'active'), array_agg(b.limit_nano - c.spent), array_agg(c.held),
			array_agg(0::bigint)
		INTO b_org, b_id, b_name, b_counter, b_hard, b_left, b_held, b_more
		FROM budget b JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
			AND c.window_start = budget_window_start(b.period, now())
		WHERE (b.org_id, b.id) IN (SELECT a.org_id, a.budget_id FROM budget_applying(o, keys, agents) a);
	END IF;
	IF b_id IS NOT NULL THEN
		SELECT array_agg(k.budgets::text ORDER BY k.ord) INTO v_budgets
		FROM (SELECT u.ord, (SELECT array_agg(DISTINCT x.pos::int)
				FROM (VALUES ('org', ''), ('key', u.key_id::text), ('agent', u.agent)) w(scope, subject)
				JOIN budget_subject s ON s.org_id = u.o AND s.scope = w.scope AND s.subject = w.subject
				JOIN unnest(b_id) WITH ORDINALITY x(id, pos) ON x.id = s.budget_id) AS budgets
			FROM unnest(o, keys, agents) WITH ORDINALITY u(o, key_id, agent, ord)) k;
	END IF;
	FOR r IN SELECT u.ord::int AS i, u.o, u.amt, l.granted AS had, l.state,
			min(u.ord) OVER (PARTITION BY u.o, u.hid)::int AS first_i
		FROM unnest(o, hid, amt) WITH ORDINALITY u(o, hid, amt, ord)
		LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hid
		ORDER BY u.o, u.ord LOOP
		IF cur IS DISTINCT FROM r.o THEN
			IF total > 0 THEN
				PERFORM post(cur, posting, ARRAY['lease_grant'], ARRAY[1], ARRAY[2], ARRAY[total], now(),
					'posting', posting, 'service');
			END IF;
			cur := r.o; posting := tg_uuid_v7(); total := 0;
			SELECT * INTO head FROM org_head h WHERE h.org_id = cur;
			SELECT g.status INTO live FROM org g WHERE g.org_id = cur;
			av := coalesce(head.available, 0);
		END IF;
		CONTINUE WHEN head.org_id IS NULL OR live IS NULL;
		IF r.first_i < r.i THEN -- the same hold twice in one batch
			v_out[r.i] := v_out[r.first_i]; v_got[r.i] := v_got[r.first_i]; v_budget[r.i] := v_budget[r.first_i];
			IF v_budget[r.i] > 0 THEN
				v_av[r.i] := v_av[r.first_i]; v_le[r.i] := v_le[r.first_i];
				CONTINUE;
			END IF;
		ELSIF r.state IN ('open', 'draining') THEN
			v_out[r.i] := 'granted'; v_got[r.i] := r.had;
		ELSIF r.state IS NOT NULL THEN
			v_out[r.i] := 'closed';
		ELSIF live <> 'active' THEN
			v_out[r.i] := 'suspended';
		ELSIF r.amt <= 0 OR r.amt > av THEN
			v_out[r.i] := 'short';
		ELSE
			pick := NULL; mine := NULL;
			FOREACH p IN ARRAY coalesce(v_budgets[r.i], '{}')::int[] LOOP
				mine := mine || b_counter[p];
				-- Of several in the way the one that frees itself last is told.
				IF b_hard[p] AND r.amt > b_left[p] - b_held[p] AND (pick IS NULL
					OR (r.amt > b_left[p], b_held[p] - b_left[p]) > (r.amt > b_left[pick], b_held[pick] - b_left[pick])) THEN
					pick := p;
				END IF;
			END LOOP;
			IF pick IS NOT NULL THEN
				v_out[r.i] := 'over_budget'; v_budget[r.i] := pick;
				v_av[r.i] := b_left[pick] - b_held[pick]; v_le[r.i] := b_held[pick];
				CONTINUE;
			END IF;
			FOREACH p IN ARRAY coalesce(v_budgets[r.i], '{}')::int[] LOOP
				b_held[p] := b_held[p] + r.amt; b_more[p] := b_more[p] + r.amt;
			END LOOP;
			av := av - r.amt; total := total + r.amt;
			v_out[r.i] := 'granted'; v_got[r.i] := r.amt;
			new_ord := new_ord || r.i; new_posting := new_posting || posting;
			new_counters := new_counters || mine::text;
		END IF;
		v_av[r.i] := av; v_le[r.i] := head.leased + total;
	END LOOP;
	IF total > 0 THEN
		PERFORM post(cur, posting, ARRAY['lease_grant'], ARRAY[1], ARRAY[2], ARRAY[total], now(), 'posting', posting,
			'service');
	END IF;
	IF b_id IS NOT NULL THEN
		UPDATE budget_counter c SET held = c.held + k.more FROM unnest(b_org, b_counter, b_more) k(org_id, id, more)
		WHERE c.org_id = k.org_id AND c.id = k.id AND k.more > 0;
	END IF;
	INSERT INTO lease (org_id, lease_id, journal_id, epoch, call_id, attempt, posting_id, granted, soft_at, hard_at, counters)
	SELECT o[k.i], hid[k.i], tight, 1, call[k.i], att[k.i]::int, k.posting, amt[k.i],
		now() + ttl_ms[k.i] * interval '1 millisecond', now() + ttl_ms[k.i] * interval '1 millisecond',
		k.counters::uuid[]
	FROM unnest(new_ord, new_posting, new_counters) k(i, posting, counters);
	RETURN QUERY SELECT x.i, v_out[x.i], v_got[x.i], v_av[x.i], v_le[x.i], b_id[v_budget[x.i]], b_name[v_budget[x.i]]
		FROM generate_series(1, n) x(i);
END $$;
GRANT EXECUTE ON FUNCTION billing_hold_batch(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[], uuid[], text[])
	TO tollgate_app;

-- As in 0003; what the holds were part of is given back as well.
CREATE OR REPLACE FUNCTION lease_end(o uuid, ids uuid[], how text) RETURNS bigint
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE back bigint; posting uuid := tg_uuid_v7();
BEGIN
	WITH gone AS (
		SELECT l.lease_id, l.granted - l.consumed - l.returned AS rest, l.counters FROM lease l
		WHERE l.org_id = o AND l.lease_id = ANY (ids) AND l.state IN ('open', 'draining')
	), upd AS (
		UPDATE lease l SET returned = l.returned + g.rest, state = how, closed_at = now() FROM gone g
		WHERE l.org_id = o AND l.lease_id = g.lease_id RETURNING g.rest
	), counted AS (
		UPDATE budget_counter c SET held = c.held - k.rest
		FROM (SELECT x.id, sum(g.rest)::bigint AS rest FROM gone g, unnest(g.counters) x(id) GROUP BY x.id) k
		WHERE c.org_id = o AND c.id = k.id
	) SELECT coalesce(sum(rest), 0)::bigint INTO back FROM upd;
	PERFORM post(o, posting, ARRAY['lease_return'], ARRAY[2], ARRAY[1], ARRAY[back], now(), 'posting', posting, 'service');
	RETURN back;
END $$;

-- As in 0003; a row names the counters it is part of, in which what was held becomes what is spent.
CREATE OR REPLACE FUNCTION billing_settle_batch(o uuid[], call uuid[], att bigint[], hold uuid[], amt bigint[], hash bytea[], doc text[])
RETURNS TABLE (ord int, outcome text, debited bigint, over bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n int := coalesce(array_length(o, 1), 0);
	r record; cur uuid; posting uuid;
	v_out text[] := array_fill(NULL::text, ARRAY[greatest(n, 1)]);
	v_deb bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_over bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	used_org uuid[] := '{}'; used_id uuid[] := '{}'; used_take bigint[] := '{}';
	counted_org uuid[] := '{}'; counted uuid[] := '{}'; counted_held bigint[] := '{}'; counted_spent bigint[] := '{}'; cid uuid;
	back bigint := 0; from_lease bigint := 0; from_av bigint := 0; over_sum bigint := 0;
	av bigint := 0; take bigint; rest bigint; x bigint;
	newest timestamptz; oldest timestamptz;
	tight uuid := '00000000-0000-7000-8000-000000000001';
	after_reclaim int := 65536; -- flags: its hold had been reclaimed
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id IN (SELECT u.o FROM unnest(o, hold, amt) u(o, hold, amt)
		WHERE u.amt <> 0 OR u.hold IS NOT NULL) ORDER BY h.org_id FOR UPDATE OF h;
	FOR r IN
		WITH u AS MATERIALIZED (
			SELECT x.*, tg_uuid_time(x.call) AS at,
				row_number() OVER (PARTITION BY x.o, x.call, x.att ORDER BY x.ord) AS nth
			FROM unnest(o, call, att, hold, amt, hash, doc) WITH ORDINALITY x(o, call, att, hold, amt, hash, doc, ord)
		), p AS MATERIALIZED (
			SELECT d.o, tg_uuid_v7() AS posting FROM (SELECT DISTINCT u.o FROM u) d
		), ins AS (
			INSERT INTO usage_charge (org_id, occurred_at, call_id, attempt, posting_id, lease_id, journal_id, status,
				billing_source, provider, model_requested, model_used, profile, key_id, agent, dialect, price_version,
				amount, rated_amount, basis, flags, usage, lines, attempts, plan, provider_request_id,
				provider_cost_nano, duration_ms, first_event_ms, payload_hash, counters)
			SELECT u.o, u.at, u.call, u.att::int, CASE WHEN u.amt > 0 THEN p.posting END, u.hold, tight, d.status,
				d.source, d.provider, d.model_requested, d.model_used, d.profile, d.key_id, d.agent, d.dialect,
				d.price_version, u.amt, d.rated_amount, d.basis,
				coalesce(d.flags, 0) | CASE WHEN l.state = 'reclaimed' THEN after_reclaim ELSE 0 END,
				d.usage, coalesce(d.lines, '[]'::jsonb), d.attempts, d.plan, d.provider_request_id,
				d.provider_cost_nano, d.duration_ms, d.first_event_ms, u.hash,
				-- where its hold was counted; a charge without one counts where it would have been
				CASE WHEN l.call_id = u.call AND l.attempt = u.att THEN l.counters
					WHEN u.amt > 0 THEN budget_counters_for(u.o, d.key_id, d.agent, u.at) END
			FROM u JOIN p ON p.o = u.o JOIN org_head h ON h.org_id = u.o
			LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hold
			CROSS JOIN LATERAL jsonb_to_record(u.doc::jsonb) AS d(status text, source text, provider text,
				model_requested text, model_used text, profile text, key_id uuid, agent text, dialect text,
				price_version bigint, rated_amount bigint, basis text, flags int, usage jsonb, lines jsonb,
				attempts jsonb, plan jsonb, provider_request_id text, provider_cost_nano bigint,
				duration_ms bigint, first_event_ms bigint)
			WHERE u.nth = 1 AND u.at >= now() - interval '45 days' AND u.at < now() + interval '1 day'
			ORDER BY u.o, u.at, u.call, u.att
			ON CONFLICT DO NOTHING RETURNING org_id, call_id, attempt, counters
		)
		SELECT u.ord::int AS i, u.o AS org, u.amt, u.at, u.hold, p.posting,
			coalesce(l.granted - l.consumed - l.returned, 0) AS held, ins.counters
		FROM ins JOIN u ON u.o = ins.org_id AND u.call = ins.call_id AND u.att = ins.attempt AND u.nth = 1
		JOIN p ON p.o = u.o
		LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hold AND l.call_id = u.call AND l.attempt = u.att
			AND l.state IN ('open', 'draining')
		ORDER BY u.o, (u.amt > coalesce(l.granted, 0)), u.ord -- what is returned first serves what exceeds
	LOOP
		v_out[r.i] := 'new'; v_deb[r.i] := r.amt;
		CONTINUE WHEN r.amt = 0 AND r.held = 0;
		IF cur IS DISTINCT FROM r.org THEN
			IF cur IS NOT NULL THEN
				PERFORM settle_post(cur, posting, back, from_lease, from_av, over_sum, newest, oldest);
			END IF;
			cur := r.org; posting := r.posting; newest := r.at; oldest := r.at;
			back := 0; from_lease := 0; from_av := 0; over_sum := 0;
			SELECT h.available INTO av FROM org_head h WHERE h.org_id = cur;
		END IF;
		newest := greatest(newest, r.at); oldest := least(oldest, r.at);
		take := least(r.amt, r.held); rest := r.amt - take;
		back := back + r.held - take; av := av + r.held - take; from_lease := from_lease + take;
		IF r.held > 0 THEN
			used_org := used_org || cur; used_id := used_id || r.hold; used_take := used_take || take;
		END IF;
		FOREACH cid IN ARRAY coalesce(r.counters, '{}') LOOP
			counted_org := counted_org || cur; counted := counted || cid;
			counted_held := counted_held || r.held; counted_spent := counted_spent || r.amt;
		END LOOP;
		x := least(rest, av);
		av := av - x; from_av := from_av + x; over_sum := over_sum + rest - x;
		v_over[r.i] := rest - x;
	END LOOP;
	IF cur IS NOT NULL THEN
		PERFORM settle_post(cur, posting, back, from_lease, from_av, over_sum, newest, oldest);
	END IF;
	IF counted <> '{}' THEN
		UPDATE budget_counter b SET held = b.held - k.held, spent = b.spent + k.spent
		FROM (SELECT x.o, x.id, sum(x.held)::bigint AS held, sum(x.spent)::bigint AS spent
			FROM unnest(counted_org, counted, counted_held, counted_spent) x(o, id, held, spent) GROUP BY x.o, x.id) k
		WHERE b.org_id = k.o AND b.id = k.id;
	END IF;
	UPDATE lease l SET consumed = l.consumed + k.take, returned = l.granted - l.consumed - k.take,
		state = 'returned', closed_at = now()
	FROM unnest(used_org, used_id, used_take) k(o, id, take) WHERE l.org_id = k.o AND l.lease_id = k.id;

	-- Whatever was not inserted was there before, or may not be booked.
	FOR r IN SELECT u.ord::int AS i, u.*, c.payload_hash AS stood, c.amount AS debited_before, h.org_id AS known
		FROM unnest(o, call, att, hold, amt, hash, doc) WITH ORDINALITY u(o, call, att, hold, amt, hash, doc, ord)
		LEFT JOIN org_head h ON h.org_id = u.o
		LEFT JOIN usage_charge c ON c.org_id = u.o AND c.occurred_at = tg_uuid_time(u.call) AND c.call_id = u.call
			AND c.attempt = u.att
		WHERE v_out[u.ord::int] IS NULL LOOP
		IF r.stood = r.hash THEN
			v_out[r.i] := 'dup'; v_deb[r.i] := r.debited_before;
			CONTINUE;
		END IF;
		v_out[r.i] := CASE WHEN r.stood IS NOT NULL THEN 'conflict' WHEN r.known IS NULL THEN 'unknown_org' ELSE 'too_old' END;
		PERFORM settle_quarantine(r.o, r.call, r.att::int, r.hold, r.amt, r.hash, r.doc,
			CASE v_out[r.i] WHEN 'conflict' THEN 'payload_differs' ELSE v_out[r.i] END, NULL);
	END LOOP;
	RETURN QUERY SELECT k.i, v_out[k.i], v_deb[k.i], v_over[k.i] FROM generate_series(1, n) k(i);
END $$;

-- ---- the control plane's budgets ------------------------------------------------------------------

CREATE FUNCTION budget_json(b budget) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', b.id, 'name', b.name, 'scope', b.scope, 'subject', NULLIF(b.subject, ''),
		'limit', tg_credits(b.limit_nano), 'window', b.period, 'hard', b.hard,
		'status', CASE WHEN b.deleted_at IS NULL THEN b.status ELSE 'deleted' END, 'of_key', b.of_key,
		'spent', tg_credits(coalesce(c.spent, 0)), 'held', tg_credits(coalesce(c.held, 0)),
		'remaining', tg_credits(greatest(b.limit_nano - coalesce(c.spent, 0) - coalesce(c.held, 0), 0)),
		'window_start', CASE WHEN b.period <> 'total' THEN tg_rfc3339(budget_window_start(b.period, now())) END,
		'window_end', CASE WHEN b.period <> 'total' THEN tg_rfc3339(budget_window_end(b.period, now())) END,
		'created_at', tg_rfc3339(b.created_at))
	FROM (SELECT 1) one LEFT JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
		AND c.window_start = budget_window_start(b.period, now())
$$;
GRANT EXECUTE ON FUNCTION budget_json(budget) TO tollgate_app;

-- A decimal of credits as nano-credits, or a refusal that names the field.
CREATE FUNCTION tg_nano(field text, credits text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE
SET search_path = tollgate, pg_temp AS $$
BEGIN
	IF credits IS NULL OR credits !~ '^[0-9]{1,9}(\.[0-9]{1,9})?$' OR credits::numeric > 100000000 THEN
		PERFORM tg_raise('TG400', 'invalid_field', field || ' is not a decimal of credits, 0 to 100000000',
			'a string such as "25.00", at most nine places');
	END IF;
	RETURN (credits::numeric * 1000000000)::bigint;
END $$;

-- Lock the org of this transaction for a write of its configuration.
CREATE FUNCTION billing_org_lock() RETURNS uuid LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM 1 FROM org o WHERE o.org_id = tg_org() AND o.status <> 'deleted' FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	RETURN tg_org();
END $$;

-- Write a budget and whom it applies to. The org is locked. Bounds: 16 budgets of one subject, so that a hold
-- looks at few; 1000 of an org, without those that keys name.
CREATE FUNCTION budget_add(o uuid, new_id uuid, new_name text, new_scope text, new_subject text, nano bigint,
	new_period text, is_hard boolean, is_of_key boolean) RETURNS budget
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE b budget;
BEGIN
	IF (SELECT count(*) FROM budget_subject s WHERE s.org_id = o AND s.scope = new_scope AND s.subject = new_subject) >= 16 THEN
		PERFORM tg_raise('TG409', 'too_many_budgets', 'there are 16 budgets of this ' || new_scope || ', which is the most',
			'delete one, or change it');
	END IF;
	IF NOT is_of_key AND (SELECT count(*) FROM budget x WHERE x.org_id = o AND x.deleted_at IS NULL AND NOT x.of_key) >= 1000 THEN
		PERFORM tg_raise('TG409', 'too_many_budgets', 'this org has 1000 budgets, which is the most', 'delete one');
	END IF;
	INSERT INTO budget (org_id, id, name, scope, subject, limit_nano, period, hard, of_key)
	VALUES (o, new_id, new_name, new_scope, new_subject, nano, new_period, is_hard, is_of_key) RETURNING * INTO b;
	INSERT INTO budget_subject (org_id, scope, subject, budget_id) VALUES (o, new_scope, new_subject, new_id);
	-- A key that this one took the place of, and that still works, spends of it too.
	INSERT INTO budget_subject (org_id, scope, subject, budget_id)
	WITH RECURSIVE before(id) AS (
		SELECT CASE WHEN new_scope = 'key' THEN new_subject::uuid END
		UNION SELECT k.id FROM before f JOIN api_key k ON k.org_id = o AND k.replaced_by = f.id
	)
	SELECT o, new_scope, k.id::text, new_id FROM before f JOIN api_key k ON k.org_id = o AND k.id = f.id
	WHERE k.replaced_by IS NOT NULL AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());
	RETURN b;
END $$;

CREATE FUNCTION budget_create(new_id uuid, new_name text, new_scope text, new_subject text, nano bigint, new_period text,
	is_hard boolean, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := billing_org_lock(); b budget;
BEGIN
	SELECT * INTO b FROM budget x WHERE x.org_id = o AND x.id = new_id;
	IF FOUND THEN
		RETURN budget_json(b);
	END IF;
	IF EXISTS (SELECT 1 FROM budget x WHERE x.org_id = o AND x.name = new_name AND x.deleted_at IS NULL AND NOT x.of_key) THEN
		PERFORM tg_raise('TG409', 'name_taken', 'there is a budget with this name already', 'choose another name');
	END IF;
	IF new_scope = 'key' AND NOT EXISTS (SELECT 1 FROM api_key k WHERE k.org_id = o AND k.id::text = new_subject
			AND k.revoked_at IS NULL AND k.replaced_by IS NULL) THEN
		PERFORM tg_raise('TG400', 'invalid_field', 'subject names no API key of this org that is in use',
			'the id of a key; one that was rotated is named by the key that replaced it');
	END IF;
	b := budget_add(o, new_id, new_name, new_scope, new_subject, nano, new_period, is_hard, false);
	PERFORM org_touch(o, 'budget');
	PERFORM audit_append(o, actor, 'budget.create', b.id::text, 'ok', req);
	RETURN budget_json(b);
END $$;
GRANT EXECUTE ON FUNCTION budget_create(uuid, text, text, text, bigint, text, boolean, jsonb, text) TO tollgate_app;

-- A budget for writing, locked, or a refusal. The org is locked before it.
CREATE FUNCTION budget_take(want uuid) RETURNS budget LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := billing_org_lock(); b budget;
BEGIN
	SELECT * INTO b FROM budget x WHERE x.org_id = o AND x.id = want AND x.deleted_at IS NULL FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'not_found', 'no such budget');
	END IF;
	IF b.of_key AND EXISTS (SELECT 1 FROM api_key k WHERE k.org_id = o AND k.id::text = b.subject AND k.revoked_at IS NULL) THEN
		PERFORM tg_raise('TG409', 'budget_of_key', 'this budget belongs to its API key',
			'change "budget" of the API key ' || b.subject);
	END IF;
	RETURN b;
END $$;

-- NULL: as it is.
CREATE FUNCTION budget_change(want uuid, new_name text, nano bigint, is_hard boolean, new_status text, actor jsonb, req text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE b budget := budget_take(want);
BEGIN
	IF new_name IS NOT NULL AND EXISTS (SELECT 1 FROM budget x WHERE x.org_id = b.org_id AND x.name = new_name
			AND x.id <> b.id AND x.deleted_at IS NULL AND NOT x.of_key) THEN
		PERFORM tg_raise('TG409', 'name_taken', 'there is a budget with this name already', 'choose another name');
	END IF;
	IF b.of_key AND NOT is_hard THEN
		PERFORM tg_raise('TG409', 'budget_of_key', 'the budget of an API key is hard');
	END IF;
	UPDATE budget x SET name = coalesce(new_name, x.name), limit_nano = coalesce(nano, x.limit_nano),
		hard = coalesce(is_hard, x.hard), status = coalesce(new_status, x.status), changed_at = now()
	WHERE x.org_id = b.org_id AND x.id = b.id RETURNING * INTO b;
	PERFORM org_touch(b.org_id, 'budget');
	PERFORM audit_append(b.org_id, actor, 'budget.change', b.id::text, 'ok', req);
	RETURN budget_json(b);
END $$;
GRANT EXECUTE ON FUNCTION budget_change(uuid, text, bigint, boolean, text, jsonb, text) TO tollgate_app;

-- No hold looks at it any more; calls in flight still settle into it. Its alerts go with it.
CREATE FUNCTION budget_remove(o uuid, want uuid) RETURNS budget LANGUAGE plpgsql
SET search_path = tollgate, pg_temp AS $$
DECLARE b budget;
BEGIN
	DELETE FROM budget_subject s WHERE s.org_id = o AND s.budget_id = want;
	UPDATE alert a SET deleted_at = now() WHERE a.org_id = o AND a.budget_id = want AND a.deleted_at IS NULL;
	UPDATE budget x SET deleted_at = now() WHERE x.org_id = o AND x.id = want RETURNING * INTO b;
	RETURN b;
END $$;

CREATE FUNCTION budget_delete(want uuid, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE b budget := budget_take(want);
BEGIN
	b := budget_remove(b.org_id, b.id);
	PERFORM org_touch(b.org_id, 'budget');
	PERFORM audit_append(b.org_id, actor, 'budget.delete', b.id::text, 'ok', req);
	RETURN budget_json(b);
END $$;
GRANT EXECUTE ON FUNCTION budget_delete(uuid, jsonb, text) TO tollgate_app;

-- ---- the budget of an API key ---------------------------------------------------------------------

-- As the key shows it; NULL: it has none.
CREATE FUNCTION key_budget_json(key_id uuid) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('limit', tg_credits(b.limit_nano), 'window', b.period, 'spent', tg_credits(coalesce(c.spent, 0)))
	FROM budget_subject s JOIN budget b ON b.org_id = s.org_id AND b.id = s.budget_id AND b.of_key
	LEFT JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
		AND c.window_start = budget_window_start(b.period, now())
	WHERE s.org_id = tg_org() AND s.scope = 'key' AND s.subject = key_id::text LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION key_budget_json(uuid) TO tollgate_app;
CREATE OR REPLACE FUNCTION key_json(key_id uuid, public_id text, name text, role text, scopes text[], models text[],
	rpm bigint, tpm bigint, expires_at timestamptz, last4 text, created_at timestamptz, revoked_at timestamptz,
	replaced_by uuid, last_used_at timestamptz)
RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('id', key_id, 'name', name, 'prefix', 'tg_' || public_id, 'last4', last4,
	'role', role, 'scopes', to_jsonb(scopes), 'models', to_jsonb(models),
	'limits', jsonb_build_object('rpm', rpm, 'tpm', tpm), 'budget', key_budget_json(key_id),
	'status', CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
		ELSE 'active' END,
	'expires_at', tg_rfc3339(expires_at), 'created_at', tg_rfc3339(created_at),
	'revoked_at', tg_rfc3339(revoked_at), 'replaced_by', replaced_by,
	'last_used_at', tg_rfc3339(last_used_at)) $$;

-- What a developer's own key may not spend, no key that it makes or rotates may: where a hard budget names the
-- actor's key, the other one needs one of the same window that is no larger. NULL: it has none.
CREATE FUNCTION key_budget_check(actor jsonb, period text, nano bigint) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_variable
BEGIN
	IF actor->>'role' = 'developer' AND EXISTS (SELECT 1 FROM budget_subject s
			JOIN budget b ON b.org_id = s.org_id AND b.id = s.budget_id
			WHERE s.org_id = tg_org() AND s.scope = 'key' AND s.subject = actor->>'id' AND b.hard AND b.status = 'active'
				AND (nano IS NULL OR nano > b.limit_nano OR period <> b.period)) THEN
		PERFORM tg_raise('TG403', 'permission_denied', 'budget: may not pass your own key''s',
			'give a budget of the same window, no larger than that of your own key');
	END IF;
END $$;

-- The same for a key that is there, with the budget it has.
CREATE FUNCTION key_budget_within(want uuid, actor jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE b budget;
BEGIN
	SELECT x.* INTO b FROM budget_subject s JOIN budget x ON x.org_id = s.org_id AND x.id = s.budget_id AND x.of_key
	WHERE s.org_id = tg_org() AND s.scope = 'key' AND s.subject = want::text;
	PERFORM key_budget_check(actor, b.period, b.limit_nano);
END $$;
GRANT EXECUTE ON FUNCTION key_budget_within(uuid, jsonb) TO tollgate_app;

-- Set, change or (spec NULL) take away the budget of a key, in the transaction that makes or changes the key: that
-- one has decided that this actor may. A changed limit leaves what is spent; another window is another budget.
CREATE FUNCTION key_budget_put(want uuid, spec jsonb, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := billing_org_lock(); k api_key; was budget; nano bigint; changed boolean := false;
BEGIN
	SELECT * INTO k FROM api_key a WHERE a.org_id = o AND a.id = want;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'not_found', 'no such API key');
	END IF;
	IF k.replaced_by IS NOT NULL THEN
		PERFORM tg_raise('TG409', 'key_rotated', 'this API key was rotated',
			'change the budget of the one that replaced it: ' || k.replaced_by);
	END IF;
	IF spec IS NOT NULL THEN
		nano := tg_nano('budget.limit', spec->>'limit');
	END IF;
	PERFORM key_budget_check(actor, spec->>'window', nano);
	SELECT x.* INTO was FROM budget_subject s JOIN budget x ON x.org_id = s.org_id AND x.id = s.budget_id AND x.of_key
	WHERE s.org_id = o AND s.scope = 'key' AND s.subject = want::text;
	IF was.id IS NOT NULL AND (spec IS NULL OR was.period <> spec->>'window') THEN
		PERFORM budget_remove(o, was.id);
		was := NULL; changed := true;
	END IF;
	IF was.id IS NOT NULL THEN
		UPDATE budget x SET limit_nano = nano, status = 'active', changed_at = now() WHERE x.org_id = o AND x.id = was.id
			AND (x.limit_nano, x.status) IS DISTINCT FROM (nano, 'active');
		changed := FOUND;
	ELSIF spec IS NOT NULL THEN
		PERFORM budget_add(o, tg_uuid_v7(), k.name, 'key', want::text, nano, spec->>'window', true, true);
		changed := true;
	END IF;
	IF changed THEN
		PERFORM org_touch(o, 'budget');
		PERFORM audit_append(o, actor, 'api_key.budget', want::text, 'ok', req);
	END IF;
	RETURN key_json(k);
END $$;
GRANT EXECUTE ON FUNCTION key_budget_put(uuid, jsonb, jsonb, text) TO tollgate_app;

-- Budgets of a rotated key are those of the key that took its place: nothing spent is forgotten, and while the
-- old one still works both spend of the same.
CREATE FUNCTION budget_key_rotated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = tollgate, pg_temp AS $$
BEGIN
	INSERT INTO budget_subject (org_id, scope, subject, budget_id)
	SELECT s.org_id, s.scope, NEW.replaced_by::text, s.budget_id FROM budget_subject s
	WHERE s.org_id = NEW.org_id AND s.scope = 'key' AND s.subject = NEW.id::text ON CONFLICT DO NOTHING;
	UPDATE budget b SET subject = NEW.replaced_by::text
	WHERE b.org_id = NEW.org_id AND b.scope = 'key' AND b.subject = NEW.id::text AND b.deleted_at IS NULL;
	RETURN NULL;
END $$;
CREATE TRIGGER budget_rotated AFTER UPDATE OF replaced_by ON api_key FOR EACH ROW
	WHEN (NEW.replaced_by IS NOT NULL AND OLD.replaced_by IS NULL) EXECUTE FUNCTION budget_key_rotated();

-- ---- alerts ---------------------------------------------------------------------------------------

CREATE TABLE alert (
	org_id uuid NOT NULL REFERENCES org (org_id),
	id uuid NOT NULL,
	name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
	metric text NOT NULL CHECK (metric IN ('budget', 'balance')),
	budget_id uuid,
	threshold_percent int CHECK (threshold_percent BETWEEN 1 AND 1000), -- of the budget's limit
	threshold_nano bigint CHECK (threshold_nano BETWEEN 0 AND 100000000000000000),
	status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
	created_at timestamptz NOT NULL DEFAULT now(),
	changed_at timestamptz NOT NULL DEFAULT now(),
	deleted_at timestamptz,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, budget_id) REFERENCES budget (org_id, id),
	CHECK ((metric = 'budget') = (budget_id IS NOT NULL)),
	CHECK ((threshold_percent IS NULL) <> (threshold_nano IS NULL)),
	CHECK (metric = 'budget' OR threshold_nano IS NOT NULL)
);
CREATE UNIQUE INDEX alert_name ON alert (org_id, name) WHERE deleted_at IS NULL;
SELECT tg_tenant_table('alert');
SELECT audit_watch('alert', 'id', 'changed_at');

-- On which side of its threshold an alert was seen last, per window of its budget (all zeros: of the balance).
-- No row: not crossed.
CREATE TABLE alert_state (
	org_id uuid NOT NULL,
	alert_id uuid NOT NULL,
	counter_id uuid NOT NULL,
	crossed boolean NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, alert_id, counter_id),
	FOREIGN KEY (org_id, alert_id) REFERENCES alert (org_id, id)
);
SELECT tg_tenant_table('alert_state');

CREATE TABLE alert_event (
	org_id uuid NOT NULL,
	id uuid NOT NULL,
	alert_id uuid NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	value bigint NOT NULL, -- spent, or what is left
	threshold bigint NOT NULL,
	limit_nano bigint, -- of the budget, at that time
	window_start timestamptz,
	PRIMARY KEY (org_id, id),
	FOREIGN KEY (org_id, alert_id) REFERENCES alert (org_id, id)
);
CREATE INDEX alert_event_of ON alert_event (org_id, alert_id, id DESC);
SELECT tg_tenant_table('alert_event');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON alert_event FOR EACH ROW EXECUTE FUNCTION tg_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION tg_append_only();
GRANT SELECT ON alert, alert_state, alert_event TO tollgate_app;

CREATE FUNCTION alert_json(a alert) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', a.id, 'name', a.name, 'metric', a.metric, 'budget', a.budget_id,
		'threshold_percent', a.threshold_percent, 'threshold', tg_credits(a.threshold_nano),
		'status', CASE WHEN a.deleted_at IS NULL THEN a.status ELSE 'deleted' END,
		'state', CASE WHEN EXISTS (SELECT 1 FROM alert_state s WHERE s.org_id = a.org_id AND s.alert_id = a.id AND s.crossed
			AND (a.metric = 'balance' OR s.counter_id IN (SELECT c.id FROM budget b
				JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
					AND c.window_start = budget_window_start(b.period, now())
				WHERE b.org_id = a.org_id AND b.id = a.budget_id))) THEN 'crossed' ELSE 'ok' END,
		'last_event_at', (SELECT tg_rfc3339(e.at) FROM alert_event e WHERE e.org_id = a.org_id AND e.alert_id = a.id
			ORDER BY e.id DESC LIMIT 1),
		'created_at', tg_rfc3339(a.created_at))
$$;
GRANT EXECUTE ON FUNCTION alert_json(alert) TO tollgate_app;

CREATE FUNCTION alert_create(new_id uuid, new_name text, new_metric text, of_budget uuid, percent int, nano bigint,
	actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := billing_org_lock(); a alert;
BEGIN
	SELECT * INTO a FROM alert x WHERE x.org_id = o AND x.id = new_id;
	IF FOUND THEN
		RETURN alert_json(a);
	END IF;
	IF of_budget IS NOT NULL AND NOT EXISTS (SELECT 1 FROM budget b WHERE b.org_id = o AND b.id = of_budget
			AND b.deleted_at IS NULL) THEN
		PERFORM tg_raise('TG400', 'invalid_field', 'budget names no budget of this org', 'the id of a budget');
	END IF;
	IF EXISTS (SELECT 1 FROM alert x WHERE x.org_id = o AND x.name = new_name AND x.deleted_at IS NULL) THEN
		PERFORM tg_raise('TG409', 'name_taken', 'there is an alert with this name already', 'choose another name');
	END IF;
	IF (SELECT count(*) FROM alert x WHERE x.org_id = o AND x.deleted_at IS NULL) >= 1000 THEN
		PERFORM tg_raise('TG409', 'too_many_alerts', 'this org has 1000 alerts, which is the most', 'delete one');
	END IF;
	INSERT INTO alert (org_id, id, name, metric, budget_id, threshold_percent, threshold_nano)
	VALUES (o, new_id, new_name, new_metric, of_budget, percent, nano) RETURNING * INTO a;
	PERFORM org_touch(o, 'budget');
	PERFORM audit_append(o, actor, 'alert.create', a.id::text, 'ok', req);
	RETURN alert_json(a);
END $$;
GRANT EXECUTE ON FUNCTION alert_create(uuid, text, text, uuid, int, bigint, jsonb, text) TO tollgate_app;

CREATE FUNCTION alert_take(want uuid) RETURNS alert LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE o uuid := billing_org_lock(); a alert;
BEGIN
	SELECT * INTO a FROM alert x WHERE x.org_id = o AND x.id = want AND x.deleted_at IS NULL FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'not_found', 'no such alert');
	END IF;
	RETURN a;
END $$;

-- NULL: as it is. One of the two thresholds takes the other's place.
CREATE FUNCTION alert_change(want uuid, new_name text, percent int, nano bigint, new_status text, actor jsonb, req text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE a alert := alert_take(want);
BEGIN
	IF new_name IS NOT NULL AND EXISTS (SELECT 1 FROM alert x WHERE x.org_id = a.org_id AND x.name = new_name
			AND x.id <> a.id AND x.deleted_at IS NULL) THEN
		PERFORM tg_raise('TG409', 'name_taken', 'there is an alert with this name already', 'choose another name');
	END IF;
	IF percent IS NOT NULL AND a.metric = 'balance' THEN
		PERFORM tg_raise('TG400', 'invalid_field', 'threshold_percent: a balance has no limit to take it of',
			'give threshold, in credits');
	END IF;
	UPDATE alert x SET name = coalesce(new_name, x.name), status = coalesce(new_status, x.status), changed_at = now(),
		threshold_percent = CASE WHEN nano IS NULL THEN coalesce(percent, x.threshold_percent) END,
		threshold_nano = CASE WHEN percent IS NULL THEN coalesce(nano, x.threshold_nano) END
	WHERE x.org_id = a.org_id AND x.id = a.id RETURNING * INTO a;
	PERFORM org_touch(a.org_id, 'budget');
	PERFORM audit_append(a.org_id, actor, 'alert.change', a.id::text, 'ok', req);
	RETURN alert_json(a);
END $$;
GRANT EXECUTE ON FUNCTION alert_change(uuid, text, int, bigint, text, jsonb, text) TO tollgate_app;

CREATE FUNCTION alert_delete(want uuid, actor jsonb, req text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE a alert := alert_take(want);
BEGIN
	UPDATE alert x SET deleted_at = now() WHERE x.org_id = a.org_id AND x.id = a.id RETURNING * INTO a;
	PERFORM org_touch(a.org_id, 'budget');
	PERFORM audit_append(a.org_id, actor, 'alert.delete', a.id::text, 'ok', req);
	RETURN alert_json(a);
END $$;
GRANT EXECUTE ON FUNCTION alert_delete(uuid, jsonb, text) TO tollgate_app;

-- The job: which alerts changed sides since it looked last, at most max_changes; those that crossed leave an event
-- and are returned. One at a time over all instances. Windows that ended within two days are still looked at: their
-- last calls settle after the end; but not as what was made or changed after the end would have it. A balance counts what calls in flight hold as still there.
CREATE FUNCTION billing_alerts_run(max_changes int)
RETURNS TABLE (org_id uuid, alert_id uuid, name text, metric text, value bigint, threshold bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
DECLARE r record;
BEGIN
	IF NOT pg_try_advisory_xact_lock(hashtext('tollgate.billing_alerts')) THEN
		RETURN;
	END IF;
	FOR r IN SELECT a.org_id AS o, a.id, a.name AS called, a.metric AS what, x.*
		FROM alert a CROSS JOIN LATERAL (
			SELECT c.id AS counter, c.spent AS val, t.threshold AS thr, c.spent >= t.threshold AS crossed,
				b.limit_nano AS lim, c.window_start AS since
			FROM budget b JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
				AND c.window_start >= budget_window_start(b.period, now() - interval '2 days')
			CROSS JOIN LATERAL (SELECT coalesce(a.threshold_nano,
				ceil(b.limit_nano::numeric * a.threshold_percent / 100)::bigint) AS threshold) t
			WHERE a.metric = 'budget' AND b.org_id = a.org_id AND b.id = a.budget_id AND b.status = 'active'
				AND (c.window_start >= budget_window_start(b.period, now())
					OR budget_window_end(b.period, c.window_start) > greatest(a.changed_at, b.changed_at))
			UNION ALL
			SELECT '00000000-0000-0000-0000-000000000000', h.available + h.leased, a.threshold_nano,
				h.available + h.leased <= a.threshold_nano, NULL, NULL
			FROM org_head h WHERE a.metric = 'balance' AND h.org_id = a.org_id) x
		LEFT JOIN alert_state s ON s.org_id = a.org_id AND s.alert_id = a.id AND s.counter_id = x.counter
		WHERE a.status = 'active' AND a.deleted_at IS NULL AND x.crossed <> coalesce(s.crossed, false)
		ORDER BY a.org_id, a.id, x.since LIMIT max_changes LOOP
		INSERT INTO alert_state AS s (org_id, alert_id, counter_id, crossed) VALUES (r.o, r.id, r.counter, r.crossed)
		ON CONFLICT (org_id, alert_id, counter_id) DO UPDATE SET crossed = EXCLUDED.crossed, at = now();
		CONTINUE WHEN NOT r.crossed;
		INSERT INTO alert_event (org_id, id, alert_id, value, threshold, limit_nano, window_start)
		VALUES (r.o, tg_uuid_v7(), r.id, r.val, r.thr, r.lim, NULLIF(r.since, '-infinity'));
		RETURN QUERY SELECT r.o, r.id, r.called, r.what, r.val, r.thr;
	END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION billing_alerts_run(int) TO tollgate_app;

-- ---- audit ----------------------------------------------------------------------------------------

-- Beside ledger_audit(), in its form.
CREATE FUNCTION budget_audit() RETURNS TABLE (name text, must_be_zero boolean, value numeric, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	WITH spent AS (
		SELECT u.org_id, x.id, sum(u.amount) AS amount FROM usage_charge u, unnest(u.counters) x(id) GROUP BY u.org_id, x.id
	), held AS (
		SELECT l.org_id, x.id, sum(l.granted - l.consumed - l.returned) AS amount FROM lease l, unnest(l.counters) x(id)
		WHERE l.state IN ('open', 'draining') GROUP BY l.org_id, x.id
	)
	SELECT 'bad_budget_spent', true, count(*)::numeric, 'what a budget has spent in a window differs from its charges'
		FROM budget_counter c FULL JOIN spent s ON s.org_id = c.org_id AND s.id = c.id
		WHERE c.id IS NULL OR c.spent <> coalesce(s.amount, 0)
	UNION ALL SELECT 'bad_budget_held', true, count(*), 'what a budget holds in a window differs from its open holds'
		FROM budget_counter c FULL JOIN held h ON h.org_id = c.org_id AND h.id = c.id
		WHERE c.id IS NULL OR c.held <> coalesce(h.amount, 0)
	UNION ALL SELECT 'budgets_past_limit', false, count(*), 'hard budgets whose spent and held pass their limit now'
		FROM budget b JOIN budget_counter c ON c.org_id = b.org_id AND c.budget_id = b.id
			AND c.window_start = budget_window_start(b.period, now())
		WHERE b.hard AND b.deleted_at IS NULL AND c.spent + c.held > b.limit_nano
$$;
GRANT EXECUTE ON FUNCTION budget_audit() TO tollgate_app;

-- down
-- What was booked stays as it is: budgets, what they counted and their alerts are forgotten.
DROP TRIGGER budget_rotated ON api_key;
DROP FUNCTION budget_audit(), billing_alerts_run(int), alert_delete(uuid, jsonb, text),
	alert_change(uuid, text, int, bigint, text, jsonb, text), alert_take(uuid),
	alert_create(uuid, text, text, uuid, int, bigint, jsonb, text), alert_json(alert), budget_key_rotated(),
	key_budget_put(uuid, jsonb, jsonb, text), key_budget_within(uuid, jsonb), key_budget_check(jsonb, text, bigint),
	budget_delete(uuid, jsonb, text), budget_remove(uuid, uuid),
	budget_change(uuid, text, bigint, boolean, text, jsonb, text), budget_take(uuid),
	budget_create(uuid, text, text, text, bigint, text, boolean, jsonb, text),
	budget_add(uuid, uuid, text, text, text, bigint, text, boolean, boolean), billing_org_lock(), tg_nano(text, text),
	budget_json(budget);
CREATE OR REPLACE FUNCTION key_json(key_id uuid, public_id text, name text, role text, scopes text[], models text[],
	rpm bigint, tpm bigint, expires_at timestamptz, last4 text, created_at timestamptz, revoked_at timestamptz,
	replaced_by uuid, last_used_at timestamptz)
RETURNS jsonb LANGUAGE sql STABLE AS
$$ SELECT jsonb_build_object('id', key_id, 'name', name, 'prefix', 'tg_' || public_id, 'last4', last4,
	'role', role, 'scopes', to_jsonb(scopes), 'models', to_jsonb(models),
	'limits', jsonb_build_object('rpm', rpm, 'tpm', tpm), 'budget', NULL,
	'status', CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
		ELSE 'active' END,
	'expires_at', tg_rfc3339(expires_at), 'created_at', tg_rfc3339(created_at),
	'revoked_at', tg_rfc3339(revoked_at), 'replaced_by', replaced_by,
	'last_used_at', tg_rfc3339(last_used_at)) $$;
DROP FUNCTION key_budget_json(uuid);
DROP FUNCTION billing_hold_batch(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[], uuid[], text[]);
CREATE FUNCTION billing_hold_batch(o uuid[], hid uuid[], call uuid[], att bigint[], amt bigint[], ttl_ms bigint[])
RETURNS TABLE (ord int, outcome text, granted bigint, available bigint, leased bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n int := coalesce(array_length(o, 1), 0);
	r record; head org_head; cur uuid; posting uuid; live text;
	v_out text[] := array_fill('unknown_org'::text, ARRAY[greatest(n, 1)]);
	v_got bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_av bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_le bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	total bigint := 0; av bigint := 0;
	new_ord int[] := '{}'; new_posting uuid[] := '{}';
	tight uuid := '00000000-0000-7000-8000-000000000001';
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id = ANY (o) ORDER BY h.org_id FOR UPDATE OF h;
	FOR r IN SELECT u.ord::int AS i, u.o, u.amt, l.granted AS had, l.state,
			min(u.ord) OVER (PARTITION BY u.o, u.hid)::int AS first_i
		FROM unnest(o, hid, amt) WITH ORDINALITY u(o, hid, amt, ord)
		LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hid
		ORDER BY u.o, u.ord LOOP
		IF cur IS DISTINCT FROM r.o THEN
			IF total > 0 THEN
				PERFORM post(cur, posting, ARRAY['lease_grant'], ARRAY[1], ARRAY[2], ARRAY[total], now(),
					'posting', posting, 'service');
			END IF;
			cur := r.o; posting := tg_uuid_v7(); total := 0;
			SELECT * INTO head FROM org_head h WHERE h.org_id = cur;
			SELECT g.status INTO live FROM org g WHERE g.org_id = cur;
			av := coalesce(head.available, 0);
		END IF;
		CONTINUE WHEN head.org_id IS NULL OR live IS NULL;
		IF r.first_i < r.i THEN -- the same hold twice in one batch
			v_out[r.i] := v_out[r.first_i]; v_got[r.i] := v_got[r.first_i];
		ELSIF r.state IN ('open', 'draining') THEN
			v_out[r.i] := 'granted'; v_got[r.i] := r.had;
		ELSIF r.state IS NOT NULL THEN
			v_out[r.i] := 'closed';
		ELSIF live <> 'active' THEN
			v_out[r.i] := 'suspended';
		ELSIF r.amt <= 0 OR r.amt > av THEN
			v_out[r.i] := 'short';
		ELSE
			av := av - r.amt; total := total + r.amt;
			v_out[r.i] := 'granted'; v_got[r.i] := r.amt;
			new_ord := new_ord || r.i; new_posting := new_posting || posting;
		END IF;
		v_av[r.i] := av; v_le[r.i] := head.leased + total;
	END LOOP;
	IF total > 0 THEN
		PERFORM post(cur, posting, ARRAY['lease_grant'], ARRAY[1], ARRAY[2], ARRAY[total], now(), 'posting', posting,
			'service');
	END IF;
	INSERT INTO lease (org_id, lease_id, journal_id, epoch, call_id, attempt, posting_id, granted, soft_at, hard_at)
	SELECT o[k.i], hid[k.i], tight, 1, call[k.i], att[k.i]::int, k.posting, amt[k.i],
		now() + ttl_ms[k.i] * interval '1 millisecond', now() + ttl_ms[k.i] * interval '1 millisecond'
	FROM unnest(new_ord, new_posting) k(i, posting);
	RETURN QUERY SELECT x.i, v_out[x.i], v_got[x.i], v_av[x.i], v_le[x.i] FROM generate_series(1, n) x(i);
END $$;
GRANT EXECUTE ON FUNCTION billing_hold_batch(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[]) TO tollgate_app;
CREATE OR REPLACE FUNCTION lease_end(o uuid, ids uuid[], how text) RETURNS bigint
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE back bigint; posting uuid := tg_uuid_v7();
BEGIN
	WITH gone AS (
		SELECT l.lease_id, l.granted - l.consumed - l.returned AS rest FROM lease l
		WHERE l.org_id = o AND l.lease_id = ANY (ids) AND l.state IN ('open', 'draining')
	), upd AS (
		UPDATE lease l SET returned = l.returned + g.rest, state = how, closed_at = now() FROM gone g
		WHERE l.org_id = o AND l.lease_id = g.lease_id RETURNING g.rest
	) SELECT coalesce(sum(rest), 0)::bigint INTO back FROM upd;
	PERFORM post(o, posting, ARRAY['lease_return'], ARRAY[2], ARRAY[1], ARRAY[back], now(), 'posting', posting, 'service');
	RETURN back;
END $$;
CREATE OR REPLACE FUNCTION billing_settle_batch(o uuid[], call uuid[], att bigint[], hold uuid[], amt bigint[], hash bytea[], doc text[])
RETURNS TABLE (ord int, outcome text, debited bigint, over bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n int := coalesce(array_length(o, 1), 0);
	r record; cur uuid; posting uuid;
	v_out text[] := array_fill(NULL::text, ARRAY[greatest(n, 1)]);
	v_deb bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	v_over bigint[] := array_fill(0::bigint, ARRAY[greatest(n, 1)]);
	used_org uuid[] := '{}'; used_id uuid[] := '{}'; used_take bigint[] := '{}';
	back bigint := 0; from_lease bigint := 0; from_av bigint := 0; over_sum bigint := 0;
	av bigint := 0; take bigint; rest bigint; x bigint;
	newest timestamptz; oldest timestamptz;
	tight uuid := '00000000-0000-7000-8000-000000000001';
	after_reclaim int := 65536; -- flags: its hold had been reclaimed
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id IN (SELECT u.o FROM unnest(o, hold, amt) u(o, hold, amt)
		WHERE u.amt <> 0 OR u.hold IS NOT NULL) ORDER BY h.org_id FOR UPDATE OF h;
	FOR r IN
		WITH u AS MATERIALIZED (
			SELECT x.*, tg_uuid_time(x.call) AS at,
				row_number() OVER (PARTITION BY x.o, x.call, x.att ORDER BY x.ord) AS nth
			FROM unnest(o, call, att, hold, amt, hash, doc) WITH ORDINALITY x(o, call, att, hold, amt, hash, doc, ord)
		), p AS MATERIALIZED (
			SELECT d.o, tg_uuid_v7() AS posting FROM (SELECT DISTINCT u.o FROM u) d
		), ins AS (
			INSERT INTO usage_charge (org_id, occurred_at, call_id, attempt, posting_id, lease_id, journal_id, status,
				billing_source, provider, model_requested, model_used, profile, key_id, agent, dialect, price_version,
				amount, rated_amount, basis, flags, usage, lines, attempts, plan, provider_request_id,
				provider_cost_nano, duration_ms, first_event_ms, payload_hash)
			SELECT u.o, u.at, u.call, u.att::int, CASE WHEN u.amt > 0 THEN p.posting END, u.hold, tight, d.status,
				d.source, d.provider, d.model_requested, d.model_used, d.profile, d.key_id, d.agent, d.dialect,
				d.price_version, u.amt, d.rated_amount, d.basis,
				coalesce(d.flags, 0) | CASE WHEN l.state = 'reclaimed' THEN after_reclaim ELSE 0 END,
				d.usage, coalesce(d.lines, '[]'::jsonb), d.attempts, d.plan, d.provider_request_id,
				d.provider_cost_nano, d.duration_ms, d.first_event_ms, u.hash
			FROM u JOIN p ON p.o = u.o JOIN org_head h ON h.org_id = u.o
			LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hold
			CROSS JOIN LATERAL jsonb_to_record(u.doc::jsonb) AS d(status text, source text, provider text,
				model_requested text, model_used text, profile text, key_id uuid, agent text, dialect text,
				price_version bigint, rated_amount bigint, basis text, flags int, usage jsonb, lines jsonb,
				attempts jsonb, plan jsonb, provider_request_id text, provider_cost_nano bigint,
				duration_ms bigint, first_event_ms bigint)
			WHERE u.nth = 1 AND u.at >= now() - interval '45 days' AND u.at < now() + interval '1 day'
			ORDER BY u.o, u.at, u.call, u.att
			ON CONFLICT DO NOTHING RETURNING org_id, call_id, attempt
		)
		SELECT u.ord::int AS i, u.o AS org, u.amt, u.at, u.hold, p.posting,
			coalesce(l.granted - l.consumed - l.returned, 0) AS held
		FROM ins JOIN u ON u.o = ins.org_id AND u.call = ins.call_id AND u.att = ins.attempt AND u.nth = 1
		JOIN p ON p.o = u.o
		LEFT JOIN lease l ON l.org_id = u.o AND l.lease_id = u.hold AND l.call_id = u.call AND l.attempt = u.att
			AND l.state IN ('open', 'draining')
		ORDER BY u.o, (u.amt > coalesce(l.granted, 0)), u.ord -- what is returned first serves what exceeds
	LOOP
		v_out[r.i] := 'new'; v_deb[r.i] := r.amt;
		CONTINUE WHEN r.amt = 0 AND r.held = 0;
		IF cur IS DISTINCT FROM r.org THEN
			IF cur IS NOT NULL THEN
				PERFORM settle_post(cur, posting, back, from_lease, from_av, over_sum, newest, oldest);
			END IF;
			cur := r.org; posting := r.posting; newest := r.at; oldest := r.at;
			back := 0; from_lease := 0; from_av := 0; over_sum := 0;
			SELECT h.available INTO av FROM org_head h WHERE h.org_id = cur;
		END IF;
		newest := greatest(newest, r.at); oldest := least(oldest, r.at);
		take := least(r.amt, r.held); rest := r.amt - take;
		back := back + r.held - take; av := av + r.held - take; from_lease := from_lease + take;
		IF r.held > 0 THEN
			used_org := used_org || cur; used_id := used_id || r.hold; used_take := used_take || take;
		END IF;
		x := least(rest, av);
		av := av - x; from_av := from_av + x; over_sum := over_sum + rest - x;
		v_over[r.i] := rest - x;
	END LOOP;
	IF cur IS NOT NULL THEN
		PERFORM settle_post(cur, posting, back, from_lease, from_av, over_sum, newest, oldest);
	END IF;
	UPDATE lease l SET consumed = l.consumed + k.take, returned = l.granted - l.consumed - k.take,
		state = 'returned', closed_at = now()
	FROM unnest(used_org, used_id, used_take) k(o, id, take) WHERE l.org_id = k.o AND l.lease_id = k.id;

	-- Whatever was not inserted was there before, or may not be booked.
	FOR r IN SELECT u.ord::int AS i, u.*, c.payload_hash AS stood, c.amount AS debited_before, h.org_id AS known
		FROM unnest(o, call, att, hold, amt, hash, doc) WITH ORDINALITY u(o, call, att, hold, amt, hash, doc, ord)
		LEFT JOIN org_head h ON h.org_id = u.o
		LEFT JOIN usage_charge c ON c.org_id = u.o AND c.occurred_at = tg_uuid_time(u.call) AND c.call_id = u.call
			AND c.attempt = u.att
		WHERE v_out[u.ord::int] IS NULL LOOP
		IF r.stood = r.hash THEN
			v_out[r.i] := 'dup'; v_deb[r.i] := r.debited_before;
			CONTINUE;
		END IF;
		v_out[r.i] := CASE WHEN r.stood IS NOT NULL THEN 'conflict' WHEN r.known IS NULL THEN 'unknown_org' ELSE 'too_old' END;
		PERFORM settle_quarantine(r.o, r.call, r.att::int, r.hold, r.amt, r.hash, r.doc,
			CASE v_out[r.i] WHEN 'conflict' THEN 'payload_differs' ELSE v_out[r.i] END, NULL);
	END LOOP;
	RETURN QUERY SELECT k.i, v_out[k.i], v_deb[k.i], v_over[k.i] FROM generate_series(1, n) k(i);
END $$;
DROP FUNCTION budget_counters_for(uuid, uuid, text, timestamptz),
	budget_counters_open(uuid[], uuid[], text[], timestamptz), budget_applying(uuid[], uuid[], text[]),
	budget_window_end(text, timestamptz), budget_window_start(text, timestamptz);
ALTER TABLE usage_charge DROP COLUMN counters;
ALTER TABLE lease DROP COLUMN counters;
DROP TABLE alert_event, alert_state, alert, budget_counter, budget_subject, budget;
