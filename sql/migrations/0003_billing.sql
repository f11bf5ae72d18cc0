-- 0003_billing: the ledger, usage, holds, credit grants and the price book.
--
-- How money moves, in one screen:
--   * org_head holds an org's balances and is changed by post() alone; every change is a row of
--     transfer (one debit and one credit of the same amount), numbered densely per org.
--   * A hold is a lease of exactly its size: post moves it from available to leased before the
--     call goes upstream; settling consumes it, returns the rest and closes it in one transaction.
--   * usage_charge has one row per (org, time of call, call, attempt). That key is what makes
--     booking exactly-once; the same key with another payload is kept apart in settle_conflict.
--   * What the customer paid for is a credit_grant; every posting that spends burns grants, so the
--     sum of what remains of them is always available + leased.
-- Only functions write here, as tollgate_owner. Lock order everywhere: org_head rows ascending by
-- org_id, then everything else of those orgs. Nothing here calls tg_change() but the price book.

-- ---- reference --------------------------------------------------------------------------------

CREATE TABLE account_code (
	code smallint PRIMARY KEY,
	name text NOT NULL UNIQUE,
	normal_side text NOT NULL CHECK (normal_side IN ('debit', 'credit', 'either'))
);
INSERT INTO account_code VALUES
	(1, 'available', 'credit'), (2, 'leased', 'credit'), (3, 'overdraft', 'debit'),
	(4, 'revenue_usage', 'credit'), (5, 'cash_clearing', 'either'), (6, 'promo_expense', 'debit'),
	(7, 'breakage', 'credit'), (8, 'absorbed_cost', 'debit'), (9, 'revenue_platform_fee', 'credit'),
	(10, 'dispute_hold', 'credit'), (11, 'rounding', 'either'), (12, 'suspense', 'either');

-- What may move where. A pair that is not here cannot be posted.
CREATE TABLE pair_allowlist (
	kind text NOT NULL,
	debit smallint NOT NULL REFERENCES account_code (code),
	credit smallint NOT NULL REFERENCES account_code (code),
	PRIMARY KEY (kind, debit, credit)
);
INSERT INTO pair_allowlist VALUES
	('topup', 5, 1), ('promo', 6, 1), ('purchase_fee', 1, 9), ('overdraft_repay', 1, 3),
	('lease_grant', 1, 2), ('lease_return', 2, 1),
	('usage', 2, 4), ('usage_excess', 1, 4), ('usage_overdraft', 3, 4),
	('byok_fee', 2, 9), ('byok_fee', 1, 9), ('byok_fee', 3, 9),
	('expiry', 1, 7), ('refund_usage', 4, 1), ('refund_cash', 1, 5),
	('dispute_open', 1, 10), ('dispute_open', 3, 10), ('dispute_won', 10, 1), ('dispute_lost', 10, 5),
	('absorb', 8, 5);

-- The tiers' fee rules. Zero everywhere until an operator says otherwise: no org pays a new fee
-- because software was installed.
CREATE TABLE tier (
	tier text PRIMARY KEY,
	purchase_fee_ppm int NOT NULL DEFAULT 0 CHECK (purchase_fee_ppm BETWEEN 0 AND 1000000),
	byok_fee_ppm int NOT NULL DEFAULT 0 CHECK (byok_fee_ppm BETWEEN 0 AND 1000000),
	byok_requests_included bigint,
	private_endpoints_max int
);
INSERT INTO tier (tier) VALUES ('free'), ('team'), ('business'), ('enterprise');

-- ---- price book -------------------------------------------------------------------------------

-- All lines of one (book, provider, model) that start together share a version. A line never
-- changes; a newer version only says until when it held.
CREATE SEQUENCE price_version_seq;
CREATE TABLE price_book (
	price_version bigint NOT NULL,
	book text NOT NULL CHECK (book IN ('sell', 'cost')),
	provider text NOT NULL CHECK (length(provider) BETWEEN 1 AND 64),
	model text NOT NULL CHECK (length(model) BETWEEN 1 AND 256),
	class text NOT NULL,
	band_min_input bigint NOT NULL DEFAULT 0 CHECK (band_min_input BETWEEN 0 AND 1099511627776),
	band_mode text NOT NULL DEFAULT 'whole' CHECK (band_mode = 'whole'), -- the whole request at one band
	service_tier text NOT NULL DEFAULT '' CHECK (length(service_tier) <= 15),
	region text NOT NULL DEFAULT '',
	batch boolean NOT NULL DEFAULT false,
	price_nano bigint NOT NULL CHECK (price_nano BETWEEN 0 AND 1125899906842624),
	per_units bigint NOT NULL CHECK (per_units BETWEEN 1 AND 1000000000),
	currency text NOT NULL DEFAULT 'USD' CHECK (currency = 'USD'),
	effective_from timestamptz NOT NULL,
	effective_to timestamptz CHECK (effective_to > effective_from),
	source_url text,
	approved_by text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (price_version, class, band_min_input, service_tier, region, batch),
	CONSTRAINT price_book_one_at_a_time EXCLUDE USING gist (book WITH =, provider WITH =, model WITH =, class WITH =,
		band_min_input WITH =, service_tier WITH =, region WITH =, batch WITH =,
		tstzrange(effective_from, effective_to) WITH &&)
);
CREATE INDEX price_book_model ON price_book (book, provider, model, effective_from DESC);
GRANT SELECT ON price_book, account_code, pair_allowlist, tier TO tollgate_app;

CREATE FUNCTION price_book_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND OLD.effective_to IS NULL AND NEW.effective_to IS NOT NULL
		AND to_jsonb(OLD) - 'effective_to' = to_jsonb(NEW) - 'effective_to' THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'price_book lines never change: % refused', TG_OP USING ERRCODE = 'TG403';
END $$;
CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON price_book FOR EACH ROW EXECUTE FUNCTION price_book_guard();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON price_book FOR EACH STATEMENT EXECUTE FUNCTION tg_append_only();

-- Sell = list x markup. Rating does not read it yet, so nothing but 1 may stand here.
CREATE TABLE markup_rule (
	tier text NOT NULL,
	scope text NOT NULL DEFAULT '*',
	num bigint NOT NULL DEFAULT 1 CHECK (num BETWEEN 1 AND 1048576),
	den bigint NOT NULL DEFAULT 1 CHECK (den BETWEEN 1 AND 1048576),
	fixed_nano bigint NOT NULL DEFAULT 0,
	effective_from timestamptz NOT NULL DEFAULT now(),
	effective_to timestamptz,
	PRIMARY KEY (tier, scope, effective_from),
	CONSTRAINT markup_is_one CHECK (num = den AND fixed_nano = 0)
);
INSERT INTO markup_rule (tier) VALUES ('*');
GRANT SELECT ON markup_rule TO tollgate_app;

-- ---- the ledger -------------------------------------------------------------------------------

CREATE TABLE org_head (
	org_id uuid PRIMARY KEY,
	last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
	available bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
	leased bigint NOT NULL DEFAULT 0 CHECK (leased >= 0),
	overdraft bigint NOT NULL DEFAULT 0 CHECK (overdraft >= 0),
	overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit >= 0)
) WITH (fillfactor = 50);
SELECT tg_tenant_table('org_head');

CREATE TABLE transfer (
	org_id uuid NOT NULL,
	seq bigint NOT NULL CHECK (seq > 0),
	posting_id uuid NOT NULL,
	kind text NOT NULL,
	debit smallint NOT NULL,
	credit smallint NOT NULL,
	amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 100000000000000000),
	occurred_at timestamptz NOT NULL,
	booked_at timestamptz NOT NULL DEFAULT now(),
	ref_type text NOT NULL,
	ref_id uuid NOT NULL,
	actor text NOT NULL,
	reason text,
	PRIMARY KEY (org_id, seq),
	CHECK (debit <> credit)
);
CREATE INDEX transfer_posting ON transfer (org_id, posting_id);
SELECT tg_tenant_table('transfer');

CREATE TABLE usage_charge (
	org_id uuid NOT NULL,
	occurred_at timestamptz NOT NULL,
	call_id uuid NOT NULL,
	attempt int NOT NULL CHECK (attempt BETWEEN 1 AND 1000),
	posting_id uuid, -- where money moved
	lease_id uuid,
	journal_id uuid NOT NULL,
	status text NOT NULL CHECK (status IN ('settled', 'void')),
	billing_source text NOT NULL CHECK (billing_source IN ('platform', 'byok', 'private')),
	provider text NOT NULL,
	model_requested text NOT NULL,
	model_used text NOT NULL,
	profile text,
	key_id uuid,
	agent text,
	dialect text,
	price_version bigint,
	amount bigint NOT NULL CHECK (amount BETWEEN 0 AND 100000000000000000), -- debited
	rated_amount bigint CHECK (rated_amount >= 0), -- sum of lines; null: no price known
	basis text NOT NULL,
	flags int NOT NULL DEFAULT 0,
	usage jsonb,
	lines jsonb NOT NULL DEFAULT '[]',
	attempts jsonb,
	plan jsonb,
	provider_request_id text,
	provider_cost_nano bigint,
	duration_ms bigint,
	first_event_ms bigint,
	payload_hash bytea NOT NULL CHECK (length(payload_hash) = 32),
	booked_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, occurred_at, call_id, attempt),
	CHECK ((amount > 0) = (posting_id IS NOT NULL)),
	CHECK (billing_source = 'platform' OR amount = 0),
	CHECK (status = 'settled' OR amount = 0)
) PARTITION BY RANGE (occurred_at);
SELECT tg_tenant_table('usage_charge');
CREATE INDEX usage_charge_posting ON usage_charge (org_id, posting_id) WHERE posting_id IS NOT NULL;

-- What the customer has: lots of credit. `remaining` is the projection of grant_burn.
CREATE TABLE credit_grant (
	org_id uuid NOT NULL,
	grant_id uuid NOT NULL,
	category text NOT NULL CHECK (category IN ('promo', 'included', 'refund', 'paid')),
	scope jsonb,
	priority int NOT NULL DEFAULT 50 CHECK (priority BETWEEN 0 AND 100),
	cost_basis_nano bigint NOT NULL,
	amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 100000000000000000),
	remaining bigint NOT NULL CHECK (remaining >= 0),
	effective_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz,
	source_type text NOT NULL,
	reason text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, grant_id),
	CHECK (remaining <= amount),
	-- Credit for some models only must not inflate the general balance: refused until burning knows it.
	CONSTRAINT grant_unrestricted CHECK (scope IS NULL)
) WITH (fillfactor = 70);
CREATE INDEX credit_grant_open ON credit_grant (org_id) WHERE remaining > 0;
CREATE INDEX credit_grant_expiring ON credit_grant (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;
SELECT tg_tenant_table('credit_grant');

CREATE TABLE grant_burn (
	org_id uuid NOT NULL,
	posting_id uuid NOT NULL,
	grant_id uuid NOT NULL,
	amount bigint NOT NULL CHECK (amount <> 0), -- negative: given back to the lot
	PRIMARY KEY (org_id, posting_id, grant_id),
	FOREIGN KEY (org_id, grant_id) REFERENCES credit_grant (org_id, grant_id)
);
SELECT tg_tenant_table('grant_burn');

-- The holder of leases: a row per journal. Tight mode has no local journal; all its holds belong to
-- the one row below, made here, whose epoch never changes.
CREATE TABLE journal (
	journal_id uuid PRIMARY KEY,
	instance text NOT NULL UNIQUE,
	epoch bigint NOT NULL DEFAULT 1,
	last_heartbeat timestamptz,
	shipped_lsn bigint NOT NULL DEFAULT 0
);
INSERT INTO journal (journal_id, instance) VALUES ('00000000-0000-7000-8000-000000000001', 'tight');

-- Money set aside. open -> (recall) draining -> returned: ended by its holder; open -> reclaimed:
-- past hard_at, ended by the sweeper. In tight mode it is the hold of one attempt.
CREATE TABLE lease (
	org_id uuid NOT NULL,
	lease_id uuid NOT NULL,
	journal_id uuid NOT NULL,
	epoch bigint NOT NULL,
	call_id uuid,
	attempt int,
	posting_id uuid NOT NULL,
	granted bigint NOT NULL CHECK (granted > 0),
	consumed bigint NOT NULL DEFAULT 0 CHECK (consumed >= 0),
	returned bigint NOT NULL DEFAULT 0 CHECK (returned >= 0),
	state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'draining', 'returned', 'reclaimed')),
	soft_at timestamptz NOT NULL,
	hard_at timestamptz NOT NULL,
	recall boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	closed_at timestamptz,
	PRIMARY KEY (org_id, lease_id),
	CHECK (consumed + returned <= granted),
	CHECK (state IN ('open', 'draining') OR consumed + returned = granted),
	CHECK ((closed_at IS NULL) = (state IN ('open', 'draining')))
) WITH (fillfactor = 70);
CREATE INDEX lease_due ON lease (hard_at) WHERE state IN ('open', 'draining');
CREATE INDEX lease_call ON lease (org_id, call_id) WHERE state IN ('open', 'draining');
CREATE INDEX lease_closed ON lease (closed_at) WHERE closed_at IS NOT NULL;
SELECT tg_tenant_table('lease');

-- Long jobs (batches, video) alone; a call's hold is a lease.
CREATE TABLE hold (
	org_id uuid NOT NULL,
	hold_id uuid NOT NULL,
	amount bigint NOT NULL CHECK (amount > 0),
	state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'posted', 'voided', 'expired')),
	expires_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, hold_id)
);
SELECT tg_tenant_table('hold');

CREATE TABLE adjustment (
	org_id uuid NOT NULL,
	adj_id uuid NOT NULL,
	amount bigint NOT NULL CHECK (amount <> 0),
	reason_code text NOT NULL,
	evidence text NOT NULL,
	requested_by text NOT NULL,
	approved_by text NOT NULL,
	call_id uuid,
	posting_id uuid,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, adj_id),
	CHECK (requested_by <> approved_by)
);
SELECT tg_tenant_table('adjustment');

-- What was answered to a request that moved money; kept at least 30 days.
CREATE TABLE idem (
	org_id uuid NOT NULL,
	idem_key text NOT NULL CHECK (length(idem_key) BETWEEN 1 AND 255),
	request_hash bytea NOT NULL,
	status int NOT NULL,
	response jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, idem_key)
);
SELECT tg_tenant_table('idem');

-- Events of payment providers: known before their org is. No grant to anybody but the owner.
CREATE TABLE ext_event (
	source text NOT NULL,
	event_id text NOT NULL,
	org_id uuid,
	body bytea NOT NULL,
	verified_at timestamptz NOT NULL,
	handled_at timestamptz,
	outcome text,
	PRIMARY KEY (source, event_id)
);

CREATE TABLE period_close (
	org_id uuid NOT NULL,
	period date NOT NULL,
	seq_from bigint NOT NULL,
	seq_to bigint NOT NULL,
	opening jsonb NOT NULL,
	sums jsonb NOT NULL,
	closing jsonb NOT NULL,
	seal_hash bytea,
	statement_id uuid NOT NULL,
	closed_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, period),
	CHECK (seq_to >= seq_from)
);
SELECT tg_tenant_table('period_close');

CREATE TABLE seal (
	org_id uuid NOT NULL,
	seal_no bigint NOT NULL,
	seq_from bigint NOT NULL,
	seq_to bigint NOT NULL,
	prev_hash bytea NOT NULL,
	hash bytea NOT NULL,
	anchored_at timestamptz,
	PRIMARY KEY (org_id, seal_no)
);
SELECT tg_tenant_table('seal');

-- Charges that could not be booked as they came: another payload under the same key, too old, or
-- refused by a constraint. Nothing is lost; a person decides.
CREATE TABLE settle_conflict (
	org_id uuid NOT NULL,
	call_id uuid NOT NULL,
	got_hash bytea NOT NULL,
	attempt int NOT NULL,
	reason text NOT NULL CHECK (reason IN ('payload_differs', 'too_old', 'unknown_org', 'refused')),
	amount bigint NOT NULL,
	lease_id uuid,
	doc text NOT NULL,
	words text,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, call_id, got_hash)
);
SELECT tg_tenant_table('settle_conflict');

GRANT SELECT ON org_head, transfer, usage_charge, credit_grant, grant_burn, lease, hold, adjustment, period_close,
	seal, settle_conflict TO tollgate_app;

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['transfer', 'usage_charge', 'grant_burn', 'adjustment', 'period_close', 'seal',
		'settle_conflict', 'idem'] LOOP
		EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW '
			'EXECUTE FUNCTION tg_append_only()', t);
		EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
			'EXECUTE FUNCTION tg_append_only()', t);
	END LOOP;
END $$;

CREATE FUNCTION credit_grant_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND to_jsonb(OLD) - 'remaining' = to_jsonb(NEW) - 'remaining' THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'credit_grant: only what remains may change: % refused', TG_OP USING ERRCODE = 'TG403';
END $$;
CREATE TRIGGER amount_stands BEFORE UPDATE OR DELETE ON credit_grant FOR EACH ROW EXECUTE FUNCTION credit_grant_guard();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON credit_grant FOR EACH STATEMENT EXECUTE FUNCTION tg_append_only();

-- Partitions of usage_charge: last month to three months ahead. No DEFAULT partition: detaching
-- from one would lock. Row triggers are cloned to a partition, TRUNCATE triggers are not.
CREATE FUNCTION billing_partitions() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
SET search_path = tollgate, pg_temp SET timezone = 'UTC' AS $$
DECLARE m timestamptz; part text; made int := 0;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtext('tollgate.billing_partitions'));
	FOR m IN SELECT generate_series(date_trunc('month', now()) - interval '2 months',
			date_trunc('month', now()) + interval '3 months', interval '1 month') LOOP
		part := 'usage_charge_' || to_char(m, 'YYYY_MM');
		CONTINUE WHEN to_regclass('tollgate.' || part) IS NOT NULL;
		EXECUTE format('CREATE TABLE %I PARTITION OF usage_charge FOR VALUES FROM (%L) TO (%L)', part, m,
			m + interval '1 month');
		PERFORM tg_tenant_table(part::regclass);
		EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT '
			'EXECUTE FUNCTION tg_append_only()', part);
		made := made + 1;
	END LOOP;
	-- Ended holds are of no use once no charge that names them can arrive any more.
	DELETE FROM lease WHERE (org_id, lease_id) IN (SELECT org_id, lease_id FROM lease
		WHERE closed_at < now() - interval '46 days' ORDER BY closed_at LIMIT 10000);
	RETURN made;
END $$;
GRANT EXECUTE ON FUNCTION billing_partitions() TO tollgate_app;
SELECT billing_partitions();

-- ---- posting ----------------------------------------------------------------------------------

-- Book the legs of one posting: the only writer of org_head and transfer. The caller holds the
-- org_head lock. Legs of amount 0 are left out; a pair that is not allowed ends the transaction.
CREATE FUNCTION post(o uuid, posting uuid, kinds text[], debits int[], credits int[], amounts bigint[],
	occurred timestamptz, ref_type text, ref_id uuid, actor text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE
	n bigint := 0; first_seq bigint; i int;
	d_available bigint := 0; d_leased bigint := 0; d_overdraft bigint := 0;
	legs int[] := '{}';
BEGIN
	FOR i IN 1 .. coalesce(array_length(kinds, 1), 0) LOOP
		CONTINUE WHEN amounts[i] = 0;
		IF NOT EXISTS (SELECT 1 FROM pair_allowlist p WHERE p.kind = kinds[i] AND p.debit = debits[i]
			AND p.credit = credits[i]) THEN
			RAISE EXCEPTION 'posting refused: % % -> %', kinds[i], debits[i], credits[i] USING ERRCODE = '23514';
		END IF;
		d_available := d_available + CASE WHEN credits[i] = 1 THEN amounts[i] WHEN debits[i] = 1 THEN -amounts[i] ELSE 0 END;
		d_leased := d_leased + CASE WHEN credits[i] = 2 THEN amounts[i] WHEN debits[i] = 2 THEN -amounts[i] ELSE 0 END;
		d_overdraft := d_overdraft + CASE WHEN debits[i] = 3 THEN amounts[i] WHEN credits[i] = 3 THEN -amounts[i] ELSE 0 END;
		n := n + 1;
		legs[n] := i;
	END LOOP;
	IF n = 0 THEN
		RETURN;
	END IF;
	UPDATE org_head h SET last_seq = h.last_seq + n, available = h.available + d_available,
		leased = h.leased + d_leased, overdraft = h.overdraft + d_overdraft
	WHERE h.org_id = o RETURNING h.last_seq - n INTO first_seq;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'posting refused: no balance row' USING ERRCODE = '23514';
	END IF;
	INSERT INTO transfer (org_id, seq, posting_id, kind, debit, credit, amount, occurred_at, ref_type, ref_id, actor, reason)
	SELECT o, first_seq + l.pos, posting, kinds[l.leg], debits[l.leg], credits[l.leg], amounts[l.leg], occurred,
		post.ref_type, post.ref_id, post.actor, post.reason
	FROM unnest(legs) WITH ORDINALITY l(leg, pos);
END $$;

-- Burn `want` from the org's lots for one posting, in the settled total order; the caller holds the
-- org_head lock. Lots that do not cover the moment the usage occurred come last, so that a call whose
-- hold was granted is always covered.
CREATE FUNCTION grant_burn_for(o uuid, posting uuid, want bigint, occurred timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE g record; rest bigint := want; take bigint;
BEGIN
	IF want = 0 THEN
		RETURN;
	END IF;
	FOR g IN SELECT c.grant_id, c.remaining FROM credit_grant c WHERE c.org_id = o AND c.remaining > 0
		ORDER BY (c.effective_at <= occurred AND (c.expires_at IS NULL OR c.expires_at > occurred)) DESC,
			(c.scope IS NULL), c.priority, c.expires_at ASC NULLS LAST,
			array_position(ARRAY['promo', 'included', 'refund', 'paid'], c.category),
			c.effective_at, c.created_at, c.grant_id LOOP
		take := least(rest, g.remaining);
		UPDATE credit_grant c SET remaining = c.remaining - take WHERE c.org_id = o AND c.grant_id = g.grant_id;
		INSERT INTO grant_burn (org_id, posting_id, grant_id, amount) VALUES (o, posting, g.grant_id, take);
		rest := rest - take;
		EXIT WHEN rest = 0;
	END LOOP;
	IF rest <> 0 THEN
		RAISE EXCEPTION 'grants of % fall short by %', o, rest USING ERRCODE = '23514';
	END IF;
END $$;

-- ---- holds ------------------------------------------------------------------------------------

-- Hold for each row exactly its amount, if the org's available credits cover it. Rows of an org are
-- served in the order given; one that does not fit is refused and the next is looked at. A repeated
-- hold id answers what it got the first time. One lease_grant transfer per org and batch.
--   outcome: granted | short | suspended | closed (it was ended meanwhile) | unknown_org
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

-- End open leases and give what is left of them back. The caller holds the heads' locks.
CREATE FUNCTION lease_end(o uuid, ids uuid[], how text) RETURNS bigint
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

-- Give holds back unused. Ones that are ended already, or never were, are left alone.
CREATE FUNCTION billing_release_batch(o uuid[], hid uuid[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE r record; back bigint := 0;
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id = ANY (o) ORDER BY h.org_id FOR UPDATE OF h;
	FOR r IN SELECT u.o AS org, array_agg(u.hid) AS ids FROM unnest(o, hid) u(o, hid)
		JOIN org_head h ON h.org_id = u.o GROUP BY u.o ORDER BY u.o LOOP
		back := back + lease_end(r.org, r.ids, 'returned');
	END LOOP;
	RETURN back;
END $$;
GRANT EXECUTE ON FUNCTION billing_release_batch(uuid[], uuid[]) TO tollgate_app;

-- The sweeper: reclaim holds past their expiry, at most max_leases a run. One sweeper at a time.
CREATE FUNCTION billing_lease_expire(max_leases int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE r record; ended int := 0;
BEGIN
	IF NOT pg_try_advisory_xact_lock(hashtext('tollgate.billing_lease_expire')) THEN
		RETURN 0;
	END IF;
	FOR r IN SELECT d.org_id, array_agg(d.lease_id) AS ids, count(*)::int AS n FROM (
			SELECT l.org_id, l.lease_id FROM lease l WHERE l.state IN ('open', 'draining') AND l.hard_at < now()
			ORDER BY l.hard_at LIMIT max_leases) d GROUP BY d.org_id ORDER BY d.org_id LOOP
		PERFORM 1 FROM org_head h WHERE h.org_id = r.org_id FOR UPDATE;
		PERFORM lease_end(r.org_id, r.ids, 'reclaimed');
		ended := ended + r.n;
	END LOOP;
	RETURN ended;
END $$;
GRANT EXECUTE ON FUNCTION billing_lease_expire(int) TO tollgate_app;

-- Credit past its date is breakage, but for what open holds may still burn of it.
CREATE FUNCTION billing_grant_expire(max_orgs int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE r record; g record; keep bigint; spare bigint; lost bigint; posting uuid; done int := 0;
BEGIN
	IF NOT pg_try_advisory_xact_lock(hashtext('tollgate.billing_grant_expire')) THEN
		RETURN 0;
	END IF;
	FOR r IN SELECT d.org_id FROM (SELECT DISTINCT c.org_id FROM credit_grant c
			WHERE c.remaining > 0 AND c.expires_at IS NOT NULL AND c.expires_at <= now() LIMIT max_orgs) d ORDER BY d.org_id LOOP
		SELECT h.leased, h.available INTO keep, spare FROM org_head h WHERE h.org_id = r.org_id FOR UPDATE;
		FOR g IN SELECT c.grant_id, c.remaining, c.expires_at FROM credit_grant c WHERE c.org_id = r.org_id
			AND c.remaining > 0 AND c.expires_at <= now() ORDER BY c.priority, c.expires_at, c.grant_id LOOP
			lost := least(greatest(g.remaining - keep, 0), spare);
			keep := greatest(keep - g.remaining, 0);
			CONTINUE WHEN lost = 0;
			spare := spare - lost;
			posting := tg_uuid_v7();
			UPDATE credit_grant c SET remaining = c.remaining - lost WHERE c.org_id = r.org_id AND c.grant_id = g.grant_id;
			INSERT INTO grant_burn (org_id, posting_id, grant_id, amount) VALUES (r.org_id, posting, g.grant_id, lost);
			PERFORM post(r.org_id, posting, ARRAY['expiry'], ARRAY[1], ARRAY[7], ARRAY[lost], g.expires_at, 'grant',
				g.grant_id, 'service', 'credit expired');
			done := done + 1;
		END LOOP;
	END LOOP;
	RETURN done;
END $$;
GRANT EXECUTE ON FUNCTION billing_grant_expire(int) TO tollgate_app;

-- ---- settling ---------------------------------------------------------------------------------

CREATE FUNCTION settle_quarantine(o uuid, call uuid, att int, hold uuid, amt bigint, hash bytea, doc text, why text,
	words text) RETURNS void LANGUAGE sql SET search_path = tollgate, pg_temp AS $$
	INSERT INTO settle_conflict (org_id, call_id, got_hash, attempt, reason, amount, lease_id, doc, words)
	VALUES (o, call, hash, att, why, amt, hold, doc, words) ON CONFLICT DO NOTHING
$$;
-- Keep one charge that the constraints refuse, so that the rest of its batch can be booked.
CREATE FUNCTION billing_settle_refused(o uuid, call uuid, att bigint, hold uuid, amt bigint, hash bytea, doc text,
	words text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	SELECT settle_quarantine(o, call, att::int, hold, amt, hash, doc, 'refused', words)
$$;
GRANT EXECUTE ON FUNCTION billing_settle_refused(uuid, uuid, bigint, uuid, bigint, bytea, text, text) TO tollgate_app;

-- Post what one org's newly booked charges cost, and burn its lots.
CREATE FUNCTION settle_post(o uuid, posting uuid, back bigint, from_lease bigint, from_available bigint, over bigint,
	occurred timestamptz, oldest timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
BEGIN
	PERFORM post(o, posting, ARRAY['lease_return', 'usage', 'usage_excess', 'usage_overdraft'], ARRAY[2, 2, 1, 3],
		ARRAY[1, 4, 4, 4], ARRAY[back, from_lease, from_available, over], occurred, 'posting', posting, 'service');
	PERFORM grant_burn_for(o, posting, from_lease + from_available, oldest);
END $$;

-- Book charges, each exactly once however often it is sent. A charge consumes the hold it names (if
-- that is its own and still open), the rest of which goes back; what the hold does not cover comes
-- from available, then from overdraft: a finished call is always bookable.
--   outcome: new | dup | conflict (payload differs) | too_old | unknown_org
-- `doc` is the charge's descriptive part, JSON. `over`: what went to overdraft for this row.
CREATE FUNCTION billing_settle_batch(o uuid[], call uuid[], att bigint[], hold uuid[], amt bigint[], hash bytea[], doc text[])
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
GRANT EXECUTE ON FUNCTION billing_settle_batch(uuid[], uuid[], bigint[], uuid[], bigint[], bytea[], text[]) TO tollgate_app;

-- ---- credits ----------------------------------------------------------------------------------

CREATE FUNCTION billing_grant_json(g credit_grant) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('id', g.grant_id, 'category', g.category, 'priority', g.priority,
		'amount', tg_credits(g.amount), 'remaining', tg_credits(g.remaining), 'effective_at', tg_rfc3339(g.effective_at),
		'expires_at', tg_rfc3339(g.expires_at), 'reason', g.reason, 'created_at', tg_rfc3339(g.created_at))
$$;
GRANT EXECUTE ON FUNCTION billing_grant_json(credit_grant) TO tollgate_app;

-- Add credit to one org: money in, a lot made, an overdraft repaid first.
CREATE FUNCTION credit_add(o uuid, id uuid, cat text, amt bigint, prio int, expires timestamptz, src text, why text,
	actor text) RETURNS credit_grant
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE head org_head; g credit_grant; repay bigint;
BEGIN
	SELECT * INTO head FROM org_head h WHERE h.org_id = o FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	repay := least(amt, head.overdraft);
	INSERT INTO credit_grant (org_id, grant_id, category, priority, cost_basis_nano, amount, remaining, expires_at,
		source_type, reason)
	VALUES (o, id, cat, prio, CASE cat WHEN 'paid' THEN amt ELSE 0 END, amt, amt - repay, expires, src, why)
	RETURNING * INTO g;
	PERFORM post(o, id, CASE cat WHEN 'paid' THEN ARRAY['topup', 'overdraft_repay'] ELSE ARRAY['promo', 'overdraft_repay'] END,
		ARRAY[CASE cat WHEN 'paid' THEN 5 ELSE 6 END, 1], ARRAY[1, 3], ARRAY[amt, repay], now(), 'grant', id, actor, why);
	IF repay > 0 THEN
		INSERT INTO grant_burn (org_id, posting_id, grant_id, amount) VALUES (o, id, id, repay);
	END IF;
	RETURN g;
END $$;

-- The control plane's grant and top-up. The same key with the same request answers what it answered
-- the first time; with another it is a conflict.
CREATE FUNCTION billing_credit_grant(idem_key text, operation text, cat text, amt bigint, prio int, expires timestamptz,
	why text, actor jsonb, request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE
	o uuid := tg_org(); asked bytea; was idem; g credit_grant; answer jsonb;
BEGIN
	PERFORM 1 FROM org_head h WHERE h.org_id = o FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM tg_raise('TG404', 'org_not_found', 'no such org');
	END IF;
	asked := sha256(convert_to(jsonb_build_array(operation, cat, amt, prio, expires, why)::text, 'UTF8'));
	SELECT * INTO was FROM idem i WHERE i.org_id = o AND i.idem_key = billing_credit_grant.idem_key;
	IF FOUND THEN
		IF was.request_hash <> asked THEN
			PERFORM tg_raise('TG409', 'idempotency_key_reused', 'this Idempotency-Key was used for another request',
				'send a new key for a new request');
		END IF;
		RETURN was.response;
	END IF;
	IF amt <= 0 THEN
		PERFORM tg_raise('TG400', 'invalid_amount', 'amount must be above zero');
	END IF;
	IF expires <= now() THEN
		PERFORM tg_raise('TG400', 'invalid_expires_at', 'expires_at is in the past');
	END IF;
	g := credit_add(o, tg_uuid_v7(), cat, amt, prio, expires, operation, why, coalesce(actor->>'name', 'operator'));
	answer := billing_grant_json(g);
	INSERT INTO idem (org_id, idem_key, request_hash, status, response) VALUES (o, idem_key, asked, 201, answer);
	PERFORM audit_append(o, actor, 'credits.' || operation, g.grant_id::text, 'ok', request_id);
	RETURN answer;
END $$;
GRANT EXECUTE ON FUNCTION billing_credit_grant(text, text, text, bigint, int, timestamptz, text, jsonb, text) TO tollgate_app;

CREATE FUNCTION billing_flags_json(flags int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT coalesce(jsonb_agg(f.name ORDER BY f.bit), '[]'::jsonb) FROM (VALUES (1, 'clamped'), (2, 'usage_inconsistent'),
		(4, 'estimated'), (8, 'class_unpriced'), (16, 'cut'), (65536, 'after_reclaim')) f(bit, name) WHERE flags & f.bit <> 0
$$;

-- One call as the control plane shows it. Runs as the caller: row-level security applies.
CREATE FUNCTION billing_call_json(u usage_charge, whole boolean) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('request_id', 'req_' || u.call_id, 'attempt', u.attempt, 'occurred_at', tg_rfc3339(u.occurred_at),
		'booked_at', tg_rfc3339(u.booked_at), 'billing_source', u.billing_source, 'provider', u.provider,
		'model', u.model_used, 'model_requested', u.model_requested, 'profile', u.profile, 'key_id', u.key_id,
		'agent', u.agent, 'dialect', u.dialect, 'usage', u.usage, 'basis', u.basis, 'flags', billing_flags_json(u.flags),
		'amount', tg_credits(u.amount), 'list_amount', CASE WHEN u.rated_amount IS NOT NULL THEN tg_credits(u.rated_amount) END,
		'price_version', u.price_version, 'status', u.status, 'posting_id', u.posting_id,
		'provider_request_id', u.provider_request_id,
		'provider_cost', CASE WHEN u.provider_cost_nano IS NOT NULL THEN tg_credits(u.provider_cost_nano) END,
		'duration_ms', u.duration_ms, 'first_event_ms', u.first_event_ms)
		|| CASE WHEN whole THEN jsonb_build_object('attempts', coalesce(u.attempts, '[]'::jsonb), 'plan', u.plan,
			'lines', u.lines) ELSE '{}'::jsonb END
$$;
GRANT EXECUTE ON FUNCTION billing_call_json(usage_charge, boolean), billing_flags_json(int) TO tollgate_app;

-- ---- prices -----------------------------------------------------------------------------------

-- A new version of one (book, provider, model): its lines hold from `starts` until the next version
-- that is already there. Lines: [{class, band_min_input, service_tier, batch, price_nano, per_units}].
CREATE FUNCTION price_version_add(p_book text, p_provider text, p_model text, starts timestamptz, ends timestamptz,
	lines jsonb, source text, approved text) RETURNS bigint
LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE v bigint := nextval('price_version_seq');
BEGIN
	UPDATE price_book b SET effective_to = starts WHERE b.book = p_book AND b.provider = p_provider AND b.model = p_model
		AND b.effective_from < starts AND b.effective_to IS NULL;
	INSERT INTO price_book (price_version, book, provider, model, class, band_min_input, service_tier, batch, price_nano,
		per_units, effective_from, effective_to, source_url, approved_by)
	SELECT v, p_book, p_provider, p_model, l.class, coalesce(l.band_min_input, 0), coalesce(l.service_tier, ''),
		coalesce(l.batch, false), l.price_nano, l.per_units, starts, ends, source, approved
	FROM jsonb_to_recordset(lines) AS l(class text, band_min_input bigint, service_tier text, batch boolean,
		price_nano bigint, per_units bigint);
	RETURN v;
END $$;

CREATE FUNCTION price_version_json(v bigint) RETURNS jsonb LANGUAGE sql STABLE SET search_path = tollgate, pg_temp AS $$
	SELECT jsonb_build_object('provider', b.provider, 'model', b.model, 'book', b.book, 'version', b.price_version,
		'effective_from', tg_rfc3339(b.effective_from), 'effective_to', tg_rfc3339(b.effective_to),
		'approved_by', b.approved_by, 'source_url', b.source_url,
		'lines', jsonb_agg(jsonb_strip_nulls(jsonb_build_object('class', b.class,
			'price', trim_scale(b.price_nano::numeric / 1000000000)::text, 'per', b.per_units,
			'above_input_tokens', CASE WHEN b.band_min_input > 0 THEN b.band_min_input - 1 END,
			'service_tier', NULLIF(b.service_tier, ''), 'batch', NULLIF(b.batch, false)))
			ORDER BY b.batch, b.service_tier, b.band_min_input, b.class))
	FROM price_book b WHERE b.price_version = v
	GROUP BY b.provider, b.model, b.book, b.price_version, b.effective_from, b.effective_to, b.approved_by, b.source_url
$$;
GRANT EXECUTE ON FUNCTION price_version_json(bigint) TO tollgate_app;

CREATE FUNCTION billing_price_put(p_provider text, p_model text, p_book text, starts timestamptz, lines jsonb, actor jsonb,
	request_id text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
DECLARE v bigint; at timestamptz := clock_timestamp(); platform uuid := '00000000-0000-7000-8000-000000000000';
BEGIN
	PERFORM pg_advisory_xact_lock(hashtext('tollgate.price_book'));
	IF starts < at - interval '1 minute' THEN
		PERFORM tg_raise('TG400', 'invalid_effective_from', 'effective_from is in the past',
			'a price never changes what is booked already: correct that by an adjustment');
	END IF;
	at := greatest(coalesce(starts, at), at);
	IF EXISTS (SELECT 1 FROM price_book b WHERE b.book = p_book AND b.provider = p_provider AND b.model = p_model
		AND b.effective_from >= at) THEN
		PERFORM tg_raise('TG409', 'later_version_exists', 'a version that starts later is in the book already',
			'let this one start after it');
	END IF;
	-- A version that ends at a known date (an introductory price) and covers `at` cannot be shortened.
	IF EXISTS (SELECT 1 FROM price_book b WHERE b.book = p_book AND b.provider = p_provider AND b.model = p_model
		AND b.effective_to > at) THEN
		PERFORM tg_raise('TG409', 'version_has_an_end', 'the version in force has a fixed end',
			'let this one start at that end or later');
	END IF;
	v := price_version_add(p_book, p_provider, p_model, at, NULL, lines, NULL, coalesce(actor->>'name', 'operator'));
	PERFORM audit_append(platform, actor, 'price.put', p_book || ':' || p_provider || '/' || p_model, 'ok', request_id);
	PERFORM tg_change('price', platform, v);
	RETURN price_version_json(v);
END $$;
GRANT EXECUTE ON FUNCTION billing_price_put(text, text, text, timestamptz, jsonb, jsonb, text) TO tollgate_app;

-- One map of the seed document as price lines. Strings are exact decimals; rates per million units,
-- but per second (kept per 1000 ms), per image and per 1000 searches.
CREATE FUNCTION price_import_lines(price jsonb, mode text, band bigint, tier text, is_batch boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = tollgate, pg_temp AS $$
	WITH named AS (
		SELECT p.key, p.value::numeric * 1000000000 AS nano FROM jsonb_each_text(price) p WHERE p.key <> 'above_input_tokens'
	), mapped AS (
		SELECT CASE n.key
			WHEN 'input' THEN 'in_text' WHEN 'cached_read' THEN 'in_cached_read' WHEN 'cache_write_5m' THEN 'in_cache_write_5m'
			WHEN 'cache_write_1h' THEN 'in_cache_write_1h' WHEN 'output' THEN 'out_text'
			WHEN 'reasoning_output' THEN 'out_reasoning' WHEN 'audio_in' THEN 'in_audio' WHEN 'audio_out' THEN 'out_audio'
			WHEN 'audio_cached_read' THEN 'in_audio_cached' WHEN 'image_in' THEN 'in_image' WHEN 'image_out' THEN 'out_image'
			WHEN 'per_1m_chars_in' THEN 'chars' WHEN 'per_1m_chars_out' THEN 'chars'
			WHEN 'per_second_in' THEN 'audio_in_ms' WHEN 'per_second_out' THEN 'audio_out_ms'
			WHEN 'per_image_in' THEN 'images_n' WHEN 'per_image_out' THEN 'images_n'
			WHEN 'per_1k_web_search' THEN 'searches' END AS class,
			n.nano, CASE WHEN n.key LIKE 'per_second%' OR n.key = 'per_1k_web_search' THEN 1000
				WHEN n.key LIKE 'per_image%' THEN 1 ELSE 1000000 END AS per,
			n.key
		FROM named n
		-- Transcription states one charge twice (in and out): bill it once. Images made beat images read.
		WHERE NOT (n.key = 'per_second_out' AND mode = 'stt')
			AND NOT (n.key = 'per_image_in' AND price ? 'per_image_out')
			AND NOT (n.key = 'per_1m_chars_out' AND price ? 'per_1m_chars_in')
	), twin AS ( -- embeddings count their input in a class of their own
		SELECT m.class, m.nano, m.per, m.key FROM mapped m
		UNION ALL SELECT 'embed_tokens', m.nano, m.per, m.key FROM mapped m WHERE m.key = 'input' AND mode = 'embedding'
	)
	SELECT coalesce(jsonb_agg(jsonb_build_object(
		-- a class this list does not know, or a fraction of a nano, stops the import: NULL breaks a constraint
		'class', t.class, 'band_min_input', band, 'service_tier', tier, 'batch', is_batch,
		'price_nano', CASE WHEN t.nano = trunc(t.nano) THEN t.nano::bigint END, 'per_units', t.per)), '[]'::jsonb)
	FROM twin t
$$;

-- The seed document into both books. A model that a book has already is left as it stands: the
-- operator's prices win over the seed. Returns how many versions were made.
CREATE FUNCTION price_import(doc jsonb) RETURNS int LANGUAGE plpgsql SET search_path = tollgate, pg_temp AS $$
DECLARE m jsonb; p jsonb; b text; lines jsonb; t record; made int := 0; starts timestamptz; ends timestamptz;
	genesis timestamptz := '2020-01-01T00:00:00Z';
BEGIN
	IF doc->>'schema_version' <> '1' OR doc->>'currency' <> 'USD' THEN
		RAISE EXCEPTION 'price document: schema or currency not known';
	END IF;
	PERFORM pg_advisory_xact_lock(hashtext('tollgate.price_book'));
	FOR m IN SELECT jsonb_array_elements(doc->'models') LOOP
		FOREACH b IN ARRAY ARRAY['cost', 'sell'] LOOP
			CONTINUE WHEN EXISTS (SELECT 1 FROM price_book x WHERE x.book = b AND x.provider = m->>'provider'
				AND x.model = m->>'id');
			FOR p IN SELECT jsonb_array_elements(coalesce(m->'price_periods',
				jsonb_build_array(jsonb_build_object('price', m->'price')))) LOOP
				starts := coalesce((p->>'from')::date::timestamp AT TIME ZONE 'UTC', genesis);
				ends := ((p->>'until')::date + 1)::timestamp AT TIME ZONE 'UTC'; -- the last day counts
				lines := price_import_lines((p->'price') || CASE WHEN m ? 'per_1k_web_search'
					THEN jsonb_build_object('per_1k_web_search', m->'per_1k_web_search') ELSE '{}'::jsonb END,
					m->>'mode', 0, '', false);
				FOR t IN SELECT value AS v FROM jsonb_array_elements(coalesce(m->'tiers', '[]'::jsonb)) LOOP
					-- strictly above the threshold
					lines := lines || price_import_lines(t.v, m->>'mode', (t.v->>'above_input_tokens')::bigint + 1, '', false);
				END LOOP;
				FOR t IN SELECT key, value AS v FROM jsonb_each(coalesce(m->'service_tier_price', '{}'::jsonb)) LOOP
					lines := lines || price_import_lines(t.v, m->>'mode', 0,
						CASE t.key WHEN 'batch' THEN '' ELSE t.key END, t.key = 'batch');
				END LOOP;
				PERFORM price_version_add(b, m->>'provider', m->>'id', starts, ends, lines,
					'seed:' || coalesce(m->>'src', '') || ':' || coalesce(doc->>'as_of', ''), 'seed');
				made := made + 1;
			END LOOP;
		END LOOP;
	END LOOP;
	RETURN made;
END $$;

-- ---- audit ------------------------------------------------------------------------------------

-- What must be zero, counted over all orgs; and a few figures that tell a reader how things stand.
CREATE FUNCTION ledger_audit() RETURNS TABLE (name text, must_be_zero boolean, value numeric, what text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tollgate, pg_temp AS $$
	WITH flow AS (
		SELECT t.org_id, count(*) AS n, max(t.seq) AS last_seq,
			sum(CASE WHEN t.credit = 1 THEN t.amount WHEN t.debit = 1 THEN -t.amount ELSE 0 END) AS available,
			sum(CASE WHEN t.credit = 2 THEN t.amount WHEN t.debit = 2 THEN -t.amount ELSE 0 END) AS leased,
			sum(CASE WHEN t.debit = 3 THEN t.amount WHEN t.credit = 3 THEN -t.amount ELSE 0 END) AS overdraft,
			sum(CASE WHEN t.debit IN (5, 6) THEN t.amount WHEN t.credit IN (5, 6) AND t.kind <> 'absorb' THEN -t.amount ELSE 0 END) AS paid_in,
			sum(CASE WHEN t.credit IN (4, 7, 9, 10) THEN t.amount WHEN t.debit IN (4, 7, 9, 10) THEN -t.amount ELSE 0 END) AS spent
		FROM transfer t GROUP BY t.org_id
	), lots AS (
		SELECT g.org_id, sum(g.remaining) AS remaining FROM credit_grant g GROUP BY g.org_id
	), burns AS (
		SELECT b.org_id, b.grant_id, sum(b.amount) AS amount FROM grant_burn b GROUP BY b.org_id, b.grant_id
	), open_leases AS (
		SELECT l.org_id, sum(l.granted - l.consumed - l.returned) AS rest FROM lease l
		WHERE l.state IN ('open', 'draining') GROUP BY l.org_id
	), charged AS (
		SELECT u.org_id, u.posting_id, sum(u.amount) AS amount FROM usage_charge u WHERE u.posting_id IS NOT NULL
		GROUP BY u.org_id, u.posting_id
	), posted AS (
		SELECT t.org_id, t.posting_id, sum(t.amount) AS amount FROM transfer t
		WHERE t.kind IN ('usage', 'usage_excess', 'usage_overdraft') GROUP BY t.org_id, t.posting_id
	)
	SELECT 'bad_transfers', true, count(*)::numeric, 'I1: pair not allowed for its kind' FROM transfer t
		WHERE NOT EXISTS (SELECT 1 FROM pair_allowlist p WHERE p.kind = t.kind AND p.debit = t.debit AND p.credit = t.credit)
	UNION ALL SELECT 'negative_balances', true, count(*), 'I2' FROM org_head h
		WHERE h.available < 0 OR h.leased < 0 OR h.overdraft < 0
	UNION ALL SELECT 'bad_head', true, count(*), 'I3: balance differs from its transfers, or numbers have gaps'
		FROM org_head h FULL JOIN flow f ON f.org_id = h.org_id
		WHERE h.org_id IS NULL OR h.available <> coalesce(f.available, 0) OR h.leased <> coalesce(f.leased, 0)
			OR h.overdraft <> coalesce(f.overdraft, 0) OR h.last_seq <> coalesce(f.n, 0) OR h.last_seq <> coalesce(f.last_seq, 0)
	UNION ALL SELECT 'bad_leases', true, count(*), 'I4: leased differs from the open holds'
		FROM org_head h FULL JOIN open_leases l ON l.org_id = h.org_id
		WHERE h.org_id IS NULL OR h.leased <> coalesce(l.rest, 0)
	UNION ALL SELECT 'bad_grants', true, count(*), 'I5: what remains of grants differs from available + leased'
		FROM org_head h FULL JOIN lots g ON g.org_id = h.org_id
		WHERE h.org_id IS NULL OR h.available + h.leased <> coalesce(g.remaining, 0)
	UNION ALL SELECT 'bad_burns', true, count(*), 'I5: a grant''s remainder differs from its burns'
		FROM credit_grant g LEFT JOIN burns b ON b.org_id = g.org_id AND b.grant_id = g.grant_id
		WHERE g.amount - g.remaining <> coalesce(b.amount, 0)
	UNION ALL SELECT 'bad_postings', true, count(*), 'I6: charges of a posting differ from its transfers'
		FROM charged c FULL JOIN posted p ON p.org_id = c.org_id AND p.posting_id = c.posting_id
		WHERE c.amount IS DISTINCT FROM p.amount
	UNION ALL SELECT 'bad_sources', true, count(*), 'I9: a byok or private call was debited' FROM usage_charge u
		WHERE u.billing_source <> 'platform' AND u.amount <> 0
	UNION ALL SELECT 'bad_lines', true, count(*), 'I10: a charge differs from the sum of its lines' FROM usage_charge u
		WHERE u.rated_amount IS NOT NULL AND (u.rated_amount <> (SELECT coalesce(sum((l->>'amount')::numeric), 0) * 1000000000
			FROM jsonb_array_elements(u.lines) l) OR (u.amount <> 0 AND u.amount <> u.rated_amount))
	UNION ALL SELECT 'bad_conservation', true, count(*), 'I16: what came in is not what is left plus what was spent'
		FROM org_head h JOIN flow f ON f.org_id = h.org_id
		WHERE f.paid_in <> h.available + h.leased + f.spent - h.overdraft
	UNION ALL SELECT 'open_holds_past_expiry', true, count(*), 'holds more than 15 s past their expiry' FROM lease l
		WHERE l.state IN ('open', 'draining') AND l.hard_at < now() - interval '15 seconds'
	UNION ALL SELECT 'open_holds', false, count(*), 'calls in flight' FROM lease l WHERE l.state IN ('open', 'draining')
	UNION ALL SELECT 'settle_conflicts', false, count(*), 'charges set aside for a person to decide' FROM settle_conflict c
	UNION ALL SELECT 'overdraft_nano', false, coalesce(sum(h.overdraft), 0), 'owed by orgs' FROM org_head h
	UNION ALL SELECT 'orgs', false, count(*), 'orgs with a balance row' FROM org_head h
	UNION ALL SELECT 'transfers', false, count(*), 'ledger rows' FROM transfer t
	UNION ALL SELECT 'usage_charges', false, count(*), 'booked calls' FROM usage_charge u
$$;
GRANT EXECUTE ON FUNCTION ledger_audit() TO tollgate_app;

-- Orgs that were there before their ledger (the platform itself).
INSERT INTO org_head (org_id) SELECT o.org_id FROM org o ON CONFLICT DO NOTHING;

-- down
DO $$
BEGIN
	IF EXISTS (SELECT 1 FROM transfer) OR EXISTS (SELECT 1 FROM usage_charge) OR EXISTS (SELECT 1 FROM settle_conflict) THEN
		RAISE EXCEPTION 'the ledger has booked rows: refusing to drop it';
	END IF;
END $$;
DROP FUNCTION ledger_audit(), price_import(jsonb), price_import_lines(jsonb, text, bigint, text, boolean),
	billing_price_put(text, text, text, timestamptz, jsonb, jsonb, text), price_version_json(bigint),
	price_version_add(text, text, text, timestamptz, timestamptz, jsonb, text, text),
	billing_call_json(usage_charge, boolean), billing_flags_json(int),
	billing_credit_grant(text, text, text, bigint, int, timestamptz, text, jsonb, text),
	credit_add(uuid, uuid, text, bigint, int, timestamptz, text, text, text), billing_grant_json(credit_grant),
	billing_settle_batch(uuid[], uuid[], bigint[], uuid[], bigint[], bytea[], text[]),
	settle_post(uuid, uuid, bigint, bigint, bigint, bigint, timestamptz, timestamptz),
	billing_settle_refused(uuid, uuid, bigint, uuid, bigint, bytea, text, text),
	settle_quarantine(uuid, uuid, int, uuid, bigint, bytea, text, text, text), billing_grant_expire(int),
	billing_lease_expire(int), billing_release_batch(uuid[], uuid[]), lease_end(uuid, uuid[], text),
	billing_hold_batch(uuid[], uuid[], uuid[], bigint[], bigint[], bigint[]),
	grant_burn_for(uuid, uuid, bigint, timestamptz),
	post(uuid, uuid, text[], int[], int[], bigint[], timestamptz, text, uuid, text, text), billing_partitions();
DROP TABLE settle_conflict, seal, period_close, ext_event, idem, adjustment, hold, lease, journal, grant_burn, credit_grant,
	usage_charge, transfer, org_head, markup_rule, price_book, tier, pair_allowlist, account_code;
DROP SEQUENCE price_version_seq;
DROP FUNCTION price_book_guard(), credit_grant_guard();
