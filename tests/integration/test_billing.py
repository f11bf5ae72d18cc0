"""The ledger on a real Postgres: holds, charges, credit, isolation, and the control plane of money.

The money functions are called as the service calls them (role tollgate_app), from many connections at
once; after each step the audit has to be clean."""

import hashlib
import json
import os
import random
import threading
import time
import unittest
import uuid
from decimal import Decimal

import harness

MONEY_TABLES = ["org_head", "transfer", "usage_charge", "credit_grant", "grant_burn", "lease", "hold", "adjustment",
                "idem", "ext_event", "period_close", "seal", "settle_conflict", "journal", "price_book", "markup_rule",
                "tier", "pair_allowlist", "account_code"]
APPEND_ONLY = ["transfer", "usage_charge", "grant_burn", "adjustment", "period_close", "seal", "settle_conflict", "idem"]


def uuid_v7(at=None):
    raw = bytearray(int((at or time.time()) * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def array(kind, values):
    def literal(v):
        return "NULL" if v is None else str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'"
    return f"ARRAY[{','.join(literal(v) for v in values)}]::{kind}[]"


def document(amount, source="platform", status="settled", **more):
    return json.dumps({"status": status, "source": source, "provider": "p", "model_requested": "m", "model_used": "m",
                       "basis": "provider_usage", "rated_amount": amount, "usage": {"in_text": amount},
                       "lines": [{"class": "in_text", "units": amount, "price": "0.001", "per": 1000000,
                                  "amount": f"{amount // 10**9}.{amount % 10**9:09d}"}], **more})


class LedgerCase(harness.Case):
    def sql(self, query, role=None, org=None):
        setup = "SET search_path = tollgate, pg_temp;"
        if role:
            setup += f"SET ROLE {role};"
        if org:
            setup += f"SET app.org_id = '{org}';"
        return self.tg.sql(setup + query)

    def app(self, query, org=None):
        return self.sql(query, "tollgate_app", org)

    def org(self, credit=0):
        slug = "o" + uuid.uuid4().hex[:12]
        org = self.tg.must("POST", "/orgs", {"slug": slug, "name": slug, "tier": "business"})["id"]
        if credit:
            self.grant(org, credit)
        return org

    def grant(self, org, nano, expires="NULL", category="paid", priority=50):
        self.app(f"SELECT billing_credit_grant('{uuid.uuid4()}', 'grant', '{category}', {nano}, {priority}, {expires}, "
                 f"'test', '{{\"type\":\"operator\"}}', 'req_test')", org)

    def hold(self, *rows):
        """Rows (org, hold, call, attempt, amount, ttl_ms); answers outcome per row."""
        org, hold, call, attempt, amount, ttl = zip(*rows)
        return [r[1] for r in self.app(
            f"SELECT * FROM billing_hold_batch({array('uuid', org)}, {array('uuid', hold)}, {array('uuid', call)}, "
            f"{array('bigint', attempt)}, {array('bigint', amount)}, {array('bigint', ttl)}) ORDER BY ord")]

    def settle(self, *rows):
        """Rows (org, call, attempt, hold, amount, document); answers (outcome, debited, over) per row."""
        org, call, attempt, hold, amount, docs = zip(*rows)
        hashes = ["\\x" + hashlib.sha256(repr(row).encode()).hexdigest() for row in rows]
        return [(r[1], int(r[2]), int(r[3])) for r in self.app(
            f"SELECT * FROM billing_settle_batch({array('uuid', org)}, {array('uuid', call)}, {array('bigint', attempt)}, "
            f"{array('uuid', hold)}, {array('bigint', amount)}, {array('bytea', hashes)}, {array('text', docs)}) ORDER BY ord")]

    def release(self, org, *holds):
        self.app(f"SELECT billing_release_batch({array('uuid', [org] * len(holds))}, {array('uuid', holds)})")

    def head(self, org):
        """(available, leased, overdraft)"""
        return tuple(int(v) for v in self.sql(
            f"SELECT available, leased, overdraft FROM org_head WHERE org_id = '{org}'")[0])

    def assertClean(self):
        bad = self.app("SELECT name, value FROM ledger_audit() WHERE must_be_zero AND value <> 0")
        self.assertEqual(bad, [])


class Ledger(LedgerCase):
    def test_a_charge_above_hold_and_balance_is_overdraft_that_the_next_payment_repays(self):
        org = self.org(1000)
        hold, call = uuid_v7(), uuid_v7()
        self.assertEqual(self.hold((org, hold, call, 1, 600, 60000)), ["granted"])
        self.assertEqual(self.head(org), (400, 600, 0))
        self.assertEqual(self.settle((org, call, 1, hold, 1500, document(1500))), [("new", 1500, 500)])
        self.assertEqual(self.head(org), (0, 0, 500))
        self.assertClean()
        self.grant(org, 2000)
        self.assertEqual(self.head(org), (1500, 0, 0))
        self.assertClean()

    def test_asking_again_changes_nothing(self):
        org = self.org(1000)
        hold, call = uuid_v7(), uuid_v7()
        row = (org, hold, call, 1, 300, 60000)
        self.assertEqual(self.hold(row, row), ["granted", "granted"])
        self.assertEqual(self.hold(row), ["granted"])
        self.assertEqual(self.head(org), (700, 300, 0))
        charge = (org, call, 1, hold, 120, document(120))
        self.assertEqual([o for o, _, _ in self.settle(charge, charge)], ["new", "dup"])
        self.assertEqual(self.settle(charge), [("dup", 120, 0)])
        self.assertEqual(self.head(org), (880, 0, 0))
        self.assertEqual(self.hold(row), ["closed"])
        self.assertClean()

    def test_another_payload_under_the_same_key_is_kept_apart(self):
        org = self.org(1000)
        call = uuid_v7()
        self.settle((org, call, 1, None, 100, document(100)))
        self.assertEqual(self.settle((org, call, 1, None, 90, document(90))), [("conflict", 0, 0)])
        self.assertEqual(self.head(org), (900, 0, 0))
        self.assertEqual(self.sql(f"SELECT reason, amount FROM settle_conflict WHERE call_id = '{call}'"),
                         [["payload_differs", "90"]])
        self.assertClean()

    def test_too_old_and_unknown_orgs_are_kept_apart_and_the_rest_is_booked(self):
        org, old, nobody = self.org(1000), uuid_v7(time.time() - 50 * 86400), uuid_v7()
        self.assertEqual([o for o, _, _ in self.settle(
            (org, old, 1, None, 5, document(5)), (nobody, uuid_v7(), 1, None, 5, document(5)),
            (org, uuid_v7(), 1, None, 5, document(5)))], ["too_old", "unknown_org", "new"])
        self.assertEqual(self.head(org), (995, 0, 0))
        self.assertClean()

    def test_a_hold_left_behind_comes_back_and_its_late_charge_is_still_booked(self):
        org = self.org(1000)
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 400, -1))
        harness.wait_until(lambda: self.head(org) == (1000, 0, 0), 20, "the sweeper")
        self.assertEqual(self.settle((org, call, 1, hold, 30, document(30))), [("new", 30, 0)])
        self.assertEqual(self.head(org), (970, 0, 0))
        self.assertEqual(self.sql(f"SELECT flags FROM usage_charge WHERE call_id = '{call}'"), [["65536"]])
        self.assertClean()

    def test_a_charge_cannot_spend_the_hold_of_another_call(self):
        org = self.org(1000)
        hold = uuid_v7()
        self.hold((org, hold, uuid_v7(), 1, 900, 60000))
        self.assertEqual(self.settle((org, uuid_v7(), 1, hold, 300, document(300))), [("new", 300, 200)])
        self.assertEqual(self.head(org), (0, 900, 200))
        self.assertClean()
        self.release(org, hold)
        self.assertEqual(self.head(org), (900, 0, 200))
        self.assertClean()

    def test_suspended_orgs_hold_nothing(self):
        org = self.org(1000)
        self.sql(f"UPDATE org SET status = 'suspended' WHERE org_id = '{org}'")
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, 60000)), ["suspended"])
        self.assertEqual(self.head(org), (1000, 0, 0))

    def test_what_the_customer_brought_is_never_debited(self):
        org = self.org(1000)
        for source in ("byok", "private"):
            self.assertEqual(self.settle((org, uuid_v7(), 1, None, 0, document(77, source))), [("new", 0, 0)])
            with self.assertRaisesRegex(AssertionError, "check constraint"):
                self.settle((org, uuid_v7(), 1, None, 77, document(77, source)))
        self.assertEqual(self.head(org), (1000, 0, 0))
        self.assertClean()

    def test_credit_burns_in_the_settled_order_and_expires(self):
        org = self.org()
        self.grant(org, 100, category="paid")
        self.grant(org, 100, category="promo")
        self.grant(org, 100, expires="now() + interval '1 day'")
        self.grant(org, 100, priority=1)
        self.settle((org, uuid_v7(), 1, None, 250, document(250)))
        left = self.sql(f"SELECT category, priority, expires_at IS NOT NULL, remaining FROM credit_grant "
                        f"WHERE org_id = '{org}' ORDER BY remaining, priority")
        self.assertEqual(left, [["paid", "1", "f", "0"], ["paid", "50", "t", "0"], ["promo", "50", "f", "50"],
                                ["paid", "50", "f", "100"]])
        self.grant(org, 40, expires="now() + interval '1 second'")
        self.hold((org, uuid_v7(), uuid_v7(), 1, 15, 60000))
        harness.wait_until(lambda: self.head(org)[0] == 150, 20, "the credit to expire")
        self.assertEqual(self.head(org), (150, 15, 0))  # what an open hold may still burn is kept
        self.assertClean()

    def test_concurrent_callers_get_exactly_what_the_balance_affords(self):
        org = self.org(3700)
        granted, lock = [], threading.Lock()

        def caller():
            rows = [(org, uuid_v7(), uuid_v7(), 1, 100, 60000) for _ in range(10)]
            for row, outcome in zip(rows, self.hold(*rows)):
                if outcome == "granted":
                    with lock:
                        granted.append(row)

        self.run_all([caller] * 20)
        self.assertEqual(len(granted), 37)
        self.assertEqual(self.head(org), (0, 3700, 0))
        self.assertClean()

        outcomes = []

        def shipper():  # everybody ships everything
            mine = granted[:]
            random.shuffle(mine)
            got = self.settle(*[(org, call, 1, hold, 60, document(60)) for _, hold, call, _, _, _ in mine])
            with lock:
                outcomes.extend(o for o, _, _ in got)

        self.run_all([shipper] * 8)
        self.assertEqual(sorted(set(outcomes)), ["dup", "new"])
        self.assertEqual(outcomes.count("new"), 37)
        self.assertEqual(self.head(org), (3700 - 37 * 60, 0, 0))
        self.assertClean()

    def test_the_sweeper_locks_balances_in_one_order(self):
        """It has a hold of the higher org to give back and credit of the lower one to expire; another transaction
        locks the lower, then the higher, as all do. Whoever met a deadlock would fail here."""
        low, high = sorted((self.org(1000), self.org(1000)))
        self.grant(low, 50, expires="now() + interval '1 second'")
        self.hold((high, uuid_v7(), uuid_v7(), 1, 15, 1500))
        lock = "SELECT 1 FROM org_head WHERE org_id = '{}' FOR UPDATE; "
        self.sql("SET deadlock_timeout = '100ms';" + 9 * (
            "BEGIN; " + lock.format(low) + "SELECT pg_sleep(0.8); " + lock.format(high) + "COMMIT;"))
        harness.wait_until(lambda: self.head(low) == (1000, 0, 0) and self.head(high) == (1000, 0, 0), 20, "the sweeper")
        self.assertClean()

    def run_all(self, jobs):
        failed = []

        def guarded(job):
            try:
                job()
            except BaseException as e:  # noqa: B902 - told below
                failed.append(e)

        threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failed, [])

    def test_random_operations_keep_every_invariant(self):
        """Against a model of a few lines; the seed is in the message."""
        seed = random.SystemRandom().randrange(1 << 30)
        rng = random.Random(seed)
        orgs = [self.org(rng.randrange(1000, 5000)) for _ in range(3)]
        model = {o: list(self.head(o)) for o in orgs}
        live, done = [], []
        for step in range(80):
            with self.subTest(seed=seed, step=step):
                org = rng.choice(orgs)
                have = model[org]
                op = rng.choice(["hold", "hold", "settle", "settle", "release", "repeat", "grant", "bare"])
                if op == "hold":
                    amount = rng.randrange(1, 1500)
                    row = (org, uuid_v7(), uuid_v7(), 1, amount, 600000)
                    fits = amount <= have[0]
                    self.assertEqual(self.hold(row), ["granted" if fits else "short"])
                    if fits:
                        have[0] -= amount
                        have[1] += amount
                        live.append(row)
                elif op == "settle" and live:
                    o, hold, call, _, held, _ = live.pop(rng.randrange(len(live)))
                    amount = rng.choice([0, rng.randrange(held + 1), rng.randrange(2 * held + 1)])
                    charge = (o, call, 1, hold, amount, document(amount))
                    self.assertEqual(self.settle(charge)[0][:2], ("new", amount))
                    self.charge(model[o], held, amount)
                    done.append(charge)
                elif op == "release" and live:
                    o, hold, _, _, held, _ = live.pop(rng.randrange(len(live)))
                    self.release(o, hold, hold, uuid_v7())
                    model[o][1] -= held
                    model[o][0] += held
                elif op == "repeat" and done:
                    charge = rng.choice(done)
                    self.assertEqual(self.settle(charge)[0][:2], ("dup", charge[4]))
                elif op == "grant":
                    amount = rng.randrange(1, 800)
                    self.grant(org, amount, category=rng.choice(["paid", "promo", "included"]))
                    repaid = min(amount, have[2])
                    have[2] -= repaid
                    have[0] += amount - repaid
                elif op == "bare":
                    amount = rng.randrange(0, 600)
                    charge = (org, uuid_v7(), rng.randrange(1, 4), None, amount, document(amount))
                    self.settle(charge)
                    self.charge(have, 0, amount)
                    done.append(charge)
                self.assertEqual(self.state(orgs), ([tuple(model[o]) for o in orgs], []))

    def state(self, orgs):
        """Balances of all, and what the audit finds, in one go."""
        rows = self.sql("SELECT org_id, available, leased, overdraft FROM org_head WHERE org_id = ANY "
                        f"({array('uuid', orgs)}); SET ROLE tollgate_app; "
                        "SELECT name, value FROM ledger_audit() WHERE must_be_zero AND value <> 0")
        heads = {r[0]: tuple(int(v) for v in r[1:]) for r in rows if len(r) == 4}
        return [heads[o] for o in orgs], [r for r in rows if len(r) == 2]

    @staticmethod
    def charge(have, held, amount):
        have[1] -= held
        have[0] += max(0, held - amount)
        rest = max(0, amount - held)
        from_available = min(rest, have[0])
        have[0] -= from_available
        have[2] += rest - from_available


class Isolation(LedgerCase):
    """T16: the service's role can read its own tenant, call functions, and nothing else."""

    def partitions(self):
        return [r[0] for r in self.sql("SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                                       "WHERE i.inhparent = 'usage_charge'::regclass")]

    def test_the_service_cannot_write_a_money_table(self):
        tables = MONEY_TABLES + self.partitions()
        first = dict(self.sql("SELECT attrelid::regclass, attname FROM pg_attribute WHERE attnum = 1 AND attrelid = ANY "
                              f"({array('regclass', tables)})"))
        statements = [s for t in tables for s in (f"INSERT INTO {t} SELECT * FROM {t}", f"DELETE FROM {t}", f"TRUNCATE {t}",
                                                  f"UPDATE {t} SET {first[t]} = {first[t]}")]
        self.assertEqual(len(statements), 4 * len(tables))
        done = self.app("CREATE TEMP TABLE tried (statement text, outcome text); DO $$ DECLARE s text; BEGIN "
                        f"FOREACH s IN ARRAY {array('text', statements)} LOOP BEGIN EXECUTE s; "
                        "INSERT INTO tried VALUES (s, 'done'); EXCEPTION WHEN insufficient_privilege THEN "
                        "INSERT INTO tried VALUES (s, 'refused'); END; END LOOP; END $$; SELECT statement, outcome FROM tried")
        self.assertEqual(len(done), len(statements))
        self.assertEqual([s for s, outcome in done if outcome != "refused"], [])

    def test_what_is_booked_cannot_be_changed_by_anybody(self):
        org = self.org(1000)
        self.settle((org, uuid_v7(), 1, None, 10, document(10)))
        for table in APPEND_ONLY + self.partitions():
            with self.subTest(table), self.assertRaisesRegex(AssertionError, "append-only"):
                self.sql(f"TRUNCATE {table}")
        for statement in (f"UPDATE transfer SET amount = amount + 1 WHERE org_id = '{org}'",
                          f"DELETE FROM transfer WHERE org_id = '{org}'",
                          f"UPDATE usage_charge SET amount = 0 WHERE org_id = '{org}'",
                          f"DELETE FROM usage_charge WHERE org_id = '{org}'",
                          f"UPDATE credit_grant SET amount = 1 WHERE org_id = '{org}'",
                          f"DELETE FROM credit_grant WHERE org_id = '{org}'",
                          "UPDATE price_book SET price_nano = 0", "DELETE FROM price_book"):
            with self.subTest(statement), self.assertRaisesRegex(AssertionError, "append-only|only what remains|never change"):
                self.sql(statement)

    def test_an_org_sees_its_own_rows_alone(self):
        mine, other = self.org(1000), self.org(1000)
        for org in (mine, other):
            self.settle((org, uuid_v7(), 1, None, 10, document(10)))
        for table in ("org_head", "transfer", "usage_charge", "credit_grant", "grant_burn"):
            self.assertEqual(self.app(f"SELECT DISTINCT org_id FROM {table}", mine), [[mine]])
            self.assertEqual(self.app(f"SELECT count(*) FROM {table}"), [["0"]])

    def test_only_the_service_functions_can_be_called(self):
        org = self.org(1000)
        for call in (f"post('{org}', '{org}', ARRAY['topup'], ARRAY[5], ARRAY[1], ARRAY[5::bigint], now(), 'x', '{org}', 'x')",
                     f"credit_add('{org}', '{org}', 'paid', 5, 50, NULL, 'x', 'x', 'x')",
                     f"lease_end('{org}', '{{}}', 'returned')", "price_import('{}')"):
            with self.subTest(call), self.assertRaisesRegex(AssertionError, "permission denied"):
                self.app(f"SELECT {call}")

    def test_a_pair_that_is_not_allowed_cannot_be_posted(self):
        org = self.org(1000)
        with self.assertRaisesRegex(AssertionError, "posting refused"):
            self.sql(f"SELECT post('{org}', '{org}', ARRAY['usage'], ARRAY[5], ARRAY[1], ARRAY[5::bigint], now(), 'x', "
                     f"'{org}', 'x')", "tollgate_owner")
        self.assertEqual(self.head(org), (1000, 0, 0))


class ControlPlane(LedgerCase):
    @classmethod
    def prepare(cls):
        cls.one = cls.tg.setup_org("one", "10.00")
        cls.two = cls.tg.setup_org("two", "1.00")

    def book(self, org, amount, **more):
        call = uuid_v7()
        self.settle((org.id, call, 1, None, amount, document(amount, **more)))
        return call

    def test_a_grant_is_booked_once_per_key(self):
        body = {"amount": "2.50", "category": "promo", "priority": 10, "expires_at": "2036-01-01T00:00:00Z", "reason": "welcome"}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        before = self.one.balance()
        first = self.one.admin("POST", "/credits/grants", body, headers=key)
        again = self.one.admin("POST", "/credits/grants", body, headers=key)
        self.assertEqual(first[0], 201, first)
        self.assertEqual(again[1]["data"], first[1]["data"])
        self.assertEqual(self.one.balance(), before + Decimal("2.5"))
        status, envelope = self.one.admin("POST", "/credits/grants", {**body, "amount": "3"}, headers=key)
        self.assertEqual((status, envelope["error"]["code"]), (409, "idempotency_key_reused"))
        self.assertEqual(self.one.balance(), before + Decimal("2.5"))
        self.assertIn(first[1]["data"]["id"], [g["id"] for g in self.tg.must("GET", "/orgs/one/credits")["grants"]])
        self.assertEqual(self.tg.must("GET", "/orgs/one/credits/grants?limit=1")[0]["reason"], "welcome")
        self.assertClean()

    def test_a_top_up_and_its_refusals(self):
        before = self.two.balance()
        data = self.tg.must("POST", "/orgs/two/credits/top-up", {"amount": "0.000000001", "reason": "invoice 7"})
        self.assertEqual(data["category"], "paid")
        self.assertEqual(self.two.balance(), before + Decimal("0.000000001"))
        for body in ({"amount": 5, "reason": "x"}, {"amount": "-1", "reason": "x"}, {"amount": "0", "reason": "x"},
                     {"amount": "1.0000000001", "reason": "x"}, {"amount": "1e3", "reason": "x"}, {"amount": "1"},
                     {"amount": "1", "reason": "x", "category": "paid"}, {"amount": "100000001", "reason": "x"}):
            status, envelope = self.two.admin("POST", "/credits/top-up", body)
            self.assertEqual(status, 400, (body, envelope))
        answer = harness.request(self.tg.admin_host, self.tg.admin_port, "POST", "/admin/v1/orgs/two/credits/top-up",
                                 {"amount": "1", "reason": "x"}, {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"})
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "idempotency_key_required"))
        self.assertEqual(self.two.balance(), before + Decimal("0.000000001"))
        self.assertEqual(self.tg.admin("GET", "/orgs/nobody/credits")[0], 404)

    def test_only_the_operator_books_credit(self):
        owner = self.tg.must("POST", "/orgs/one/api-keys", {"name": "o", "role": "owner", "scopes": ["admin"]})["key"]
        body = {"amount": "1.00", "reason": "please"}
        before = self.one.balance()
        self.assertEqual(self.one.admin("POST", "/credits/top-up", body, token=owner)[0], 403)
        self.assertEqual(self.one.admin("POST", "/credits/grants", body, token=owner)[0], 403)
        self.assertEqual(self.one.admin("GET", "/credits", token=owner)[0], 200)
        self.assertEqual(self.two.admin("GET", "/credits", token=owner)[0], 404)
        self.assertEqual(self.tg.admin("PUT", "/prices/openai/x", {"lines": [{"class": "in_text", "price": "1"}]},
                                       token=owner)[0], 403)
        self.assertEqual(self.one.balance(), before)

    def test_entries_page_by_page(self):
        for _ in range(3):
            self.book(self.one, 7)
        seen, cursor = [], ""
        while True:
            status, envelope = self.one.admin("GET", f"/ledger/entries?limit=2{cursor}")
            self.assertEqual(status, 200)
            seen += envelope["data"]
            if not envelope["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + envelope["meta"]["next_cursor"]
        self.assertEqual([e["seq"] for e in seen], list(range(len(seen), 0, -1)))
        self.assertEqual(seen[0]["kind"], "usage_excess")
        self.assertEqual((seen[0]["debit"], seen[0]["credit"]), ("available", "revenue_usage"))
        self.assertEqual(Decimal(seen[0]["amount"]), Decimal("0.000000007"))
        self.assertEqual(self.one.admin("GET", "/ledger/entries?cursor=zzz")[0], 400)
        self.assertEqual(self.one.admin("GET", "/ledger/entries?page=2")[0], 400)

    def test_a_call_tells_what_it_cost(self):
        call = self.book(self.one, 1234, attempts=[{"n": 1, "target": "t", "outcome": "ok", "billed": True}], agent="a")
        for name in (f"req_{call}", call):
            data = self.tg.must("GET", f"/orgs/one/usage/calls/{name}")
            self.assertEqual(data["status"], "settled")
            self.assertEqual(Decimal(data["amount"]), Decimal("0.000001234"))
            self.assertEqual(data["usage"], {"in_text": 1234})
            self.assertEqual(data["attempts"][0]["target"], "t")
            self.assertEqual(sum(Decimal(l["amount"]) for l in data["lines"]), Decimal(data["amount"]))
        self.assertEqual(self.two.admin("GET", f"/usage/calls/req_{call}")[0], 404)
        self.assertEqual(self.one.admin("GET", f"/usage/calls/req_{uuid_v7()}")[0], 404)
        self.assertEqual(self.one.admin("GET", "/usage/calls/nonsense")[0], 404)
        hold, waiting = uuid_v7(), uuid_v7()
        self.hold((self.one.id, hold, waiting, 1, 10, 60000))
        self.assertEqual(self.tg.must("GET", f"/orgs/one/usage/calls/req_{waiting}")["status"], "open")
        self.release(self.one.id, hold)
        listed, cursor = [], ""
        while True:
            _, envelope = self.one.admin("GET", f"/usage/calls?limit=1{cursor}")
            listed += [c["request_id"] for c in envelope["data"]]
            if not envelope["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + envelope["meta"]["next_cursor"]
        self.assertIn(f"req_{call}", listed)
        self.assertEqual(len(listed), len(set(listed)))

    def test_usage_sums(self):
        org = self.tg.setup_org("sums", None, platform=False)
        self.book(org, 5)
        self.book(org, 6, agent="a")
        self.settle((org.id, uuid_v7(), 1, None, 0, document(9, "byok")))
        rows = self.tg.must("GET", "/orgs/sums/usage?group_by=billing_source")
        by_source = {r["billing_source"]: r for r in rows}
        self.assertEqual((by_source["platform"]["calls"], by_source["platform"]["usage"]), (2, {"in_text": 11}))
        self.assertEqual(Decimal(by_source["platform"]["amount"]), Decimal("0.000000011"))
        self.assertEqual((by_source["byok"]["calls"], Decimal(by_source["byok"]["amount"])), (1, 0))
        self.assertEqual({r["agent"] for r in self.tg.must("GET", "/orgs/sums/usage?group_by=day,agent")}, {None, "a"})
        self.assertEqual(self.tg.must("GET", "/orgs/sums/usage?from=2020-01-01&to=2020-02-01"), [])
        for query in ("group_by=colour", "from=yesterday", "from=2026-02-01&to=2026-01-01", "from=2000-01-01", "what=1"):
            self.assertEqual(org.admin("GET", f"/usage?{query}")[0], 400, query)

    def test_a_price_is_added_never_changed(self):
        path = "/prices/openai/vendor/model-x"
        self.assertEqual(self.tg.admin("GET", path)[0], 404)
        first = self.tg.must("PUT", path, {"book": "sell", "effective_from": None, "lines": [
            {"class": "in_text", "price": "3.00", "per": 1000000}, {"class": "out_text", "price": "15.00", "per": 1000000},
            {"class": "in_text", "price": "6.00", "above_input_tokens": 200000},
            {"class": "in_text", "price": "1.50", "service_tier": "flex"}]})
        second = self.tg.must("PUT", path, {"lines": [{"class": "in_text", "price": "2.00", "per": 1000000}]})
        self.assertGreater(second["version"], first["version"])
        shown = self.tg.must("GET", path)
        self.assertEqual(shown["current"]["version"], second["version"])
        self.assertEqual([v["version"] for v in shown["versions"]], [second["version"], first["version"]])
        self.assertEqual(shown["versions"][1]["effective_to"], second["effective_from"])
        self.assertEqual(len(shown["versions"][1]["lines"]), 4)
        later = self.tg.must("PUT", path, {"effective_from": "2036-01-01T00:00:00Z",
                                           "lines": [{"class": "in_text", "price": "1.00"}]})
        self.assertEqual(self.tg.must("GET", path)["current"]["version"], second["version"])
        self.assertEqual(self.tg.admin("PUT", path, {"lines": [{"class": "in_text", "price": "4"}]})[0], 409)
        self.assertGreater(later["version"], second["version"])
        for body in ({}, {"lines": []}, {"lines": [{"class": "in_txt", "price": "1"}]}, {"lines": [{"class": "in_text", "price": 1}]},
                     {"lines": [{"class": "in_text", "price": "-1"}]}, {"lines": [{"class": "in_text", "price": "1", "pre": 1}]},
                     {"lines": [{"class": "in_text", "price": "1", "per": 0}]}, {"lines": ["in_text"]},
                     {"lines": [{"class": "in_text", "price": "1"}, {"class": "in_text", "price": "2"}]},
                     {"book": "list", "lines": [{"class": "in_text", "price": "1"}]},
                     {"effective_from": "2020-01-01T00:00:00Z", "lines": [{"class": "in_text", "price": "1"}]}):
            status, envelope = self.tg.admin("PUT", "/prices/openai/model-y", body)
            self.assertEqual(status, 400, (body, envelope))

    def test_the_seed_is_in_both_books(self):
        shown = self.tg.must("GET", "/prices/anthropic/claude-sonnet-5")
        self.assertEqual([v["effective_from"][:10] for v in shown["versions"]], ["2026-09-01", "2020-01-01"])
        self.assertEqual(shown["versions"][1]["effective_to"][:10], "2026-09-01")
        self.assertEqual(self.tg.must("GET", "/prices/anthropic/claude-sonnet-5?book=cost")["book"], "cost")
        listed = self.tg.must("GET", "/prices?provider=gemini&limit=200")
        self.assertTrue(listed and all(p["provider"] == "gemini" for p in listed))

    def test_the_command_line(self):
        done = self.tg.cli("credit", "grant", "--org", "two", "--amount", "0.5", "--reason", "from a terminal", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(Decimal(json.loads(done.stdout)["data"]["amount"]), Decimal("0.5"))
        done = self.tg.cli("credit", "show", "--org", "two", "--json")
        self.assertEqual(Decimal(json.loads(done.stdout)["data"]["available"]), self.two.balance())
        self.assertIn("ledger verify: ok", self.tg.cli("ledger", "verify").stdout)
        self.assertTrue(json.loads(self.tg.cli("ledger", "verify", "--json").stdout)["data"]["ok"])
        for verb in ("export", "statement", "reconcile", "nonsense"):
            self.assertEqual(self.tg.cli("ledger", verb).returncode, 2)
        self.assertEqual(self.tg.cli("credit", "grant", "--org", "two").returncode, 2)
        self.assertEqual(self.tg.cli("ledger", "verify", env={
            "TOLLGATE_DATABASE_URL": f"host=127.0.0.1 port={harness.free_port()} dbname=x"}).returncode, 3)


class Tampered(LedgerCase):
    VERIFY = False

    def test_verify_names_what_was_changed(self):
        org = self.org(1000)
        self.tg.verify()
        self.sql(f"UPDATE org_head SET available = available + 1 WHERE org_id = '{org}'")
        done = self.tg.cli("ledger", "verify")
        self.assertEqual(done.returncode, 1)
        self.assertIn("BAD  bad_head", done.stdout)
        self.assertIn("BAD  bad_grants", done.stdout)
        self.sql(f"UPDATE org_head SET available = available - 1 WHERE org_id = '{org}'")
        self.tg.verify()


if __name__ == "__main__":
    unittest.main()
