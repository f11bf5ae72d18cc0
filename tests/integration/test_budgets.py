"""Budgets and alerts: what an org, a key or an agent may spend, exactly, whoever calls at once; and who is told."""
import json
import os
import random
import statistics
import threading
import time
import unittest
import uuid
from decimal import Decimal

import harness
import test_billing
from harness import MODEL, wait_until
from test_billing import array, document, uuid_v7

NANO = 10**9
FAR = 600000
WINDOWS = ("day", "week", "month", "total")
ROLES = ("owner", "admin", "developer", "finance", "auditor")


def credits(nano):
    return f"{nano // NANO}.{nano % NANO:09d}"


def nano(text):
    return int(Decimal(text) * NANO)


class BudgetCase(test_billing.LedgerCase):
    def budget(self, org, limit, window="total", scope="org", subject=None, **more):
        """`limit` in nano-credits."""
        body = {"name": "b" + uuid.uuid4().hex[:8], "scope": scope, "limit": credits(limit), "window": window, **more}
        if subject is not None:
            body["subject"] = subject
        return self.tg.must("POST", f"/orgs/{org}/budgets", body)

    def shown(self, org, budget):
        got = self.tg.must("GET", f"/orgs/{org}/budgets/{budget['id']}")
        return nano(got["spent"]), nano(got["held"]), nano(got["remaining"])

    def counters_of(self, *budgets):
        """(spent, held) of each one's newest window."""
        rows = self.sql("SELECT DISTINCT ON (budget_id) budget_id, spent, held FROM budget_counter WHERE budget_id = ANY "
                        f"({array('uuid', [b['id'] for b in budgets])}) ORDER BY budget_id, window_start DESC")
        found = {r[0]: (int(r[1]), int(r[2])) for r in rows}
        return [found.get(b["id"], (0, 0)) for b in budgets]

    def counters(self, budget):
        return self.counters_of(budget)[0]

    def hold_as(self, key, agent, *rows):
        """hold(), for a key and an agent: (outcome, available, held, budget's name) per row."""
        org, hold, call, attempt, amount, ttl = zip(*rows)
        return [(r[1], int(r[3]), int(r[4]), r[6]) for r in self.app(
            f"SELECT * FROM billing_hold_batch({array('uuid', org)}, {array('uuid', hold)}, {array('uuid', call)}, "
            f"{array('bigint', attempt)}, {array('bigint', amount)}, {array('bigint', ttl)}, "
            f"{array('uuid', [key] * len(rows))}, {array('text', [agent] * len(rows))}) ORDER BY ord")]

    def key(self, org, **more):
        return self.tg.must("POST", f"/orgs/{org}/api-keys", {"name": "k", **more})

    def assertClean(self):
        bad = self.app("SELECT name, value FROM ledger_audit() WHERE must_be_zero AND value <> 0 UNION ALL "
                       "SELECT name, value FROM budget_audit() WHERE must_be_zero AND value <> 0")
        self.assertEqual(bad, [])


class Counting(BudgetCase):
    """The counters, through the functions that the service calls."""

    def test_a_hold_that_is_settled_moves_from_held_to_spent_once(self):
        org = self.org(10000)
        budget = self.budget(org, 1000)
        self.assertEqual(self.shown(org, budget), (0, 0, 1000))
        hold, call = uuid_v7(), uuid_v7()
        self.assertEqual(self.hold((org, hold, call, 1, 600, FAR)), ["granted"])
        self.assertEqual(self.shown(org, budget), (0, 600, 400))
        self.assertEqual(self.hold((org, hold, call, 1, 600, FAR)), ["granted"])  # asked again: not held twice
        charge = (org, call, 1, hold, 250, document(250))
        self.assertEqual([o for o, _, _ in self.settle(charge, charge)], ["new", "dup"])
        self.assertEqual(self.settle(charge), [("dup", 250, 0)])
        self.assertEqual(self.shown(org, budget), (250, 0, 750))
        self.assertEqual(self.settle((org, call, 1, hold, 240, document(240)))[0][0], "conflict")
        self.assertEqual(self.shown(org, budget), (250, 0, 750))
        self.assertClean()

    def test_a_refusal_names_the_budget_and_moves_nothing(self):
        org = self.org(10000)
        wide, tight = self.budget(org, 1000, name="wide"), self.budget(org, 500, name="tight", window="month")
        soft = self.budget(org, 1, name="soft", hard=False)
        self.hold((org, uuid_v7(), uuid_v7(), 1, 300, FAR))
        before = self.head(org)
        self.assertEqual(self.hold_as(None, None, (org, uuid_v7(), uuid_v7(), 1, 201, FAR)), [("over_budget", 200, 300, "tight")])
        self.assertEqual(self.head(org), before)
        # What calls in flight free again is told of the one that they free last.
        self.assertEqual(self.hold_as(None, None, (org, uuid_v7(), uuid_v7(), 1, 1001, FAR))[0][3], "tight")
        self.assertEqual([self.counters(b) for b in (wide, tight, soft)], [(0, 300)] * 3)
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 200, FAR)), ["granted"])  # to the last nano
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, FAR)), ["over_budget"])
        self.assertClean()

    def test_rows_of_one_batch_share_what_is_left(self):
        org, other = self.org(10000), self.org(10000)
        budget = self.budget(org, 1000)
        rows = [(o, uuid_v7(), uuid_v7(), 1, 300, FAR) for _ in range(4) for o in (org, other)]
        got = self.hold(*rows)
        self.assertEqual([o for o, row in zip(got, rows) if row[0] == org], ["granted"] * 3 + ["over_budget"])
        self.assertEqual({o for o, row in zip(got, rows) if row[0] == other}, {"granted"})
        self.assertEqual(self.counters(budget), (0, 900))
        self.assertClean()

    def test_the_same_hold_twice_in_one_batch_gets_one_answer(self):
        org = self.org(10000)
        budget = self.budget(org, 500, name="tight")
        for amount, answer in ((501, ("over_budget", 500, 0, "tight")), (500, ("granted", 9500, 500, ""))):
            row = (org, uuid_v7(), uuid_v7(), 1, amount, FAR)
            self.assertEqual(self.hold_as(None, None, row, row), [answer] * 2)
        self.assertEqual(self.counters(budget), (0, 500))
        self.assertClean()

    def test_scopes(self):
        org = self.org(10000)
        one, two = self.key(org)["id"], self.key(org)["id"]
        of_key, of_agent = self.budget(org, 500, scope="key", subject=one), self.budget(org, 400, scope="agent", subject="bot")
        of_org = self.budget(org, 1000)

        def ask(key, agent, amount):
            return self.hold_as(key, agent, (org, uuid_v7(), uuid_v7(), 1, amount, FAR))[0][0]

        self.assertEqual(ask(one, None, 500), "granted")
        self.assertEqual(ask(one, "other", 1), "over_budget")
        self.assertEqual(ask(two, "bot", 400), "granted")
        self.assertEqual(ask(two, "bot", 1), "over_budget")
        self.assertEqual(ask(two, "Bot", 100), "granted")
        self.assertEqual(ask(two, None, 1), "over_budget")  # the org's is full
        self.assertEqual([self.counters(b) for b in (of_key, of_agent, of_org)], [(0, 500), (0, 400), (0, 1000)])
        self.assertClean()

    def test_what_exceeds_its_hold_is_spent_all_the_same(self):
        org = self.org(1000)
        budget = self.budget(org, 700)
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 600, FAR))
        self.settle((org, call, 1, hold, 1500, document(1500)))
        self.assertEqual(self.shown(org, budget), (1500, 0, 0))
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, FAR)), ["short"])
        self.grant(org, 5000)
        self.assertEqual(self.hold_as(None, None, (org, uuid_v7(), uuid_v7(), 1, 1, FAR))[0][:3], ("over_budget", -800, 0))
        self.assertClean()

    def test_an_expired_hold_frees_its_budget_and_its_late_charge_still_counts(self):
        org = self.org(1000)
        budget = self.budget(org, 500)
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 500, -1))
        wait_until(lambda: self.counters(budget) == (0, 0), 20, "the sweeper")
        self.assertEqual(self.settle((org, call, 1, hold, 30, document(30))), [("new", 30, 0)])
        self.assertEqual(self.counters(budget), (30, 0))
        self.assertClean()

    def test_a_charge_without_a_hold_counts_where_its_key_and_agent_stand(self):
        org = self.org(1000)
        key = self.key(org)["id"]
        mine = self.budget(org, 500, scope="key", subject=key)
        agents = self.budget(org, 500, scope="agent", subject="bot")
        self.settle((org, uuid_v7(), 1, None, 30, document(30, key_id=key, agent="bot")),
                    (org, uuid_v7(), 1, None, 5, document(5, key_id=key)))
        self.settle((org, uuid_v7(time.time() - 3600), 1, None, 7, document(7, key_id=key)))  # before there was a budget
        for source in ("byok", "private"):
            self.settle((org, uuid_v7(), 1, None, 0, document(99, source, key_id=key)))
        self.assertEqual((self.counters(mine), self.counters(agents)), ((35, 0), (30, 0)))
        # The hold of another call is not this one's.
        hold = uuid_v7()
        self.hold_as(None, "bot", (org, hold, uuid_v7(), 1, 100, FAR))
        self.settle((org, uuid_v7(), 1, hold, 3, document(3, key_id=key)))
        self.assertEqual((self.counters(mine), self.counters(agents)), ((38, 0), (30, 100)))
        self.assertClean()

    def test_f59_windows_are_utc(self):
        cases = (("day", "2028-02-29T23:59:59.999Z", "2028-02-29", "2028-03-01"), ("day", "2028-03-01T00:00:00Z", "2028-03-01", "2028-03-02"),
                 ("week", "2027-01-03T23:59:59Z", "2026-12-28", "2027-01-04"), ("week", "2027-01-04T00:00:00Z", "2027-01-04", "2027-01-11"),
                 ("month", "2028-02-29T12:00:00Z", "2028-02-01", "2028-03-01"), ("month", "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01"),
                 ("day", "2026-03-29T01:30:00Z", "2026-03-29", "2026-03-30"))  # a change of clocks in Berlin
        for zone in ("UTC", "Europe/Berlin", "Pacific/Kiritimati"):
            for period, at, start, end in cases:
                got = self.sql(f"SET timezone = '{zone}'; SELECT tg_rfc3339(budget_window_start('{period}', '{at}')), "
                               f"tg_rfc3339(budget_window_end('{period}', '{at}'))")
                self.assertEqual(got, [[f"{start}T00:00:00.000000Z", f"{end}T00:00:00.000000Z"]], (zone, period, at))

    def test_a_new_window_begins_at_zero_and_the_old_one_keeps_its_calls(self):
        org = self.org(10000)
        budgets = [self.budget(org, 500, window=w) for w in WINDOWS]
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 500, FAR))
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, FAR)), ["over_budget"])
        # As if all of it had been in the window before.
        self.sql("UPDATE budget_counter c SET window_start = budget_window_start(b.period, c.window_start - interval '1 hour') "
                 f"FROM budget b WHERE b.id = c.budget_id AND b.period <> 'total' AND c.org_id = '{org}'")
        self.tg.must("PATCH", f"/orgs/{org}/budgets/{budgets[3]['id']}", {"limit": credits(1000)})
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 400, FAR)), ["granted"])
        self.settle((org, call, 1, hold, 450, document(450)))
        self.assertEqual([self.counters(b) for b in budgets], [(0, 400)] * 3 + [(450, 400)])
        self.assertEqual(self.sql(f"SELECT count(*), min(spent), max(spent), max(held) FROM budget_counter WHERE org_id = '{org}' "
                                  "AND window_start < now() - interval '1 minute' AND isfinite(window_start) AND spent > 0"),
                         [["3", "450", "450", "0"]])
        got = self.tg.must("GET", f"/orgs/{org}/budgets/{budgets[0]['id']}")
        self.assertEqual(got["window_start"][10:], "T00:00:00.000000Z")
        self.assertIsNone(self.tg.must("GET", f"/orgs/{org}/budgets/{budgets[3]['id']}")["window_start"])
        self.assertClean()

    def test_changed_disabled_and_deleted_while_calls_are_in_flight(self):
        org = self.org(10000)
        budget = self.budget(org, 500)
        path = f"/orgs/{org}/budgets/{budget['id']}"
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 400, FAR))
        self.tg.must("PATCH", path, {"limit": credits(100)})
        self.assertEqual(self.shown(org, budget), (0, 400, 0))
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, FAR)), ["over_budget"])
        for patch in ({"status": "disabled"}, {"status": "active", "hard": False}):
            self.tg.must("PATCH", path, patch)
            self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 1, FAR)), ["granted"], patch)
        self.assertEqual(self.counters(budget), (0, 402))  # it counts on
        self.tg.must("PATCH", path, {"hard": True})
        self.assertEqual(self.tg.must("DELETE", path)["status"], "deleted")
        self.assertEqual(self.tg.admin("GET", path)[0], 404)
        self.assertEqual(self.tg.admin("DELETE", path)[0], 404)
        self.assertEqual(self.hold((org, uuid_v7(), uuid_v7(), 1, 5000, FAR)), ["granted"])
        self.settle((org, call, 1, hold, 300, document(300)))
        self.assertEqual(self.counters(budget), (300, 2))
        self.assertClean()

    def test_g04_concurrent_callers_get_exactly_what_the_budget_affords(self):
        org = self.org(1000000)
        budget = self.budget(org, 3700)
        granted, failed, lock = [], [], threading.Lock()

        def caller():
            try:
                rows = [(org, uuid_v7(), uuid_v7(), 1, 100, FAR) for _ in range(10)]
                got = self.hold(*rows)
                with lock:
                    granted.extend(row for row, outcome in zip(rows, got) if outcome == "granted")
            except BaseException as e:  # noqa: B902 - told below
                failed.append(e)

        threads = [threading.Thread(target=caller) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual((len(granted), failed), (37, []))
        self.assertEqual(self.counters(budget), (0, 3700))
        self.settle(*[(o, call, 1, hold, 60, document(60)) for o, hold, call, _, _, _ in granted[:20]])
        self.release(org, *[row[1] for row in granted[20:]])
        self.assertEqual(self.counters(budget), (1200, 0))
        self.assertClean()

    def test_random_operations_against_a_model(self):
        """Holds, charges, releases, expiries, changed limits and rotated keys; the seed is in the message."""
        seed = random.SystemRandom().randrange(1 << 30)
        rng = random.Random(seed)
        org = self.org(10**12)
        keys = [self.key(org)["id"] for _ in range(2)]
        made = [self.budget(org, 9000), self.budget(org, 5000, scope="key", subject=keys[0], window="day"),
                self.budget(org, 4000, scope="agent", subject="bot", window="week"), self.budget(org, 2000, hard=False, window="month")]
        model = [{"limit": nano(b["limit"]), "hard": b["hard"], "spent": 0, "held": 0} for b in made]
        live, done = [], []
        roots = {keys[0]: 0, keys[1]: None}  # the key budget that a key's calls count on

        def applying(key, agent):
            return [0, 3] + ([1] if roots[key] == 0 else []) + ([2] if agent == "bot" else [])

        for step in range(90):
            with self.subTest(seed=seed, step=step):
                op = rng.choice(["hold", "hold", "hold", "settle", "settle", "release", "expire", "repeat", "limit", "rotate"])
                if op == "hold":
                    rows, expected = [], []
                    key, agent = rng.choice(list(roots)), rng.choice([None, "bot"])
                    on = applying(key, agent)
                    for _ in range(rng.randrange(1, 4)):
                        amount = rng.randrange(1, 1500)
                        row = (org, uuid_v7(), uuid_v7(), 1, amount, FAR)
                        fits = all(not model[b]["hard"] or model[b]["spent"] + model[b]["held"] + amount <= model[b]["limit"] for b in on)
                        rows.append(row)
                        expected.append("granted" if fits else "over_budget")
                        if fits:
                            live.append((row, on))
                            for b in on:
                                model[b]["held"] += amount
                    self.assertEqual([o[0] for o in self.hold_as(key, agent, *rows)], expected)
                elif op == "settle" and live:
                    (_, hold, call, _, held, _), on = live.pop(rng.randrange(len(live)))
                    amount = rng.choice([0, rng.randrange(held + 1), rng.randrange(2 * held + 1)])
                    charge = (org, call, 1, hold, amount, document(amount))
                    self.assertEqual(self.settle(charge)[0][:2], ("new", amount))
                    done.append(charge)
                    for b in on:
                        model[b]["held"] -= held
                        model[b]["spent"] += amount
                elif op in ("release", "expire") and live:
                    (_, hold, _, _, held, _), on = live.pop(rng.randrange(len(live)))
                    if op == "release":
                        self.release(org, hold, hold, uuid_v7())
                    else:
                        self.sql(f"UPDATE lease SET hard_at = now() - interval '1 second' WHERE lease_id = '{hold}'")
                        # the service's own sweeper may be the one that ends it
                        wait_until(lambda: self.app("SELECT billing_lease_expire(10)") and self.sql(
                            f"SELECT state FROM lease WHERE lease_id = '{hold}'") == [["reclaimed"]], 10, "the expiry")
                    for b in on:
                        model[b]["held"] -= held
                elif op == "repeat" and done:
                    charge = rng.choice(done)
                    self.assertEqual(self.settle(charge)[0][:2], ("dup", charge[4]))
                elif op == "limit":
                    b = rng.randrange(len(made))
                    model[b]["limit"] = rng.randrange(12000)
                    self.tg.must("PATCH", f"/orgs/{org}/budgets/{made[b]['id']}", {"limit": credits(model[b]["limit"])})
                elif op == "rotate" and len(roots) < 6:
                    newest = [k for k in roots if k not in {r[0] for r in self.sql(
                        f"SELECT id FROM api_key WHERE org_id = '{org}' AND replaced_by IS NOT NULL")}]
                    old = rng.choice(newest)
                    roots[self.tg.must("POST", f"/orgs/{org}/api-keys/{old}/rotate", {"overlap_seconds": 600})["id"]] = roots[old]
                self.assertEqual(self.counters_of(*made), [(m["spent"], m["held"]) for m in model])
        self.assertClean()

    def test_verify_names_a_counter_that_was_changed(self):
        org = self.org(1000)
        budget = self.budget(org, 500)
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 100, FAR), (org, uuid_v7(), uuid_v7(), 1, 50, FAR))
        self.settle((org, call, 1, hold, 60, document(60)))
        for column, name in (("spent", "bad_budget_spent"), ("held", "bad_budget_held")):
            for sign in "+-":
                self.sql(f"UPDATE budget_counter SET {column} = {column} {sign} 1 WHERE budget_id = '{budget['id']}'")
                done = self.tg.cli("ledger", "verify")
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"BAD  {name}", done.stdout)
                self.sql(f"UPDATE budget_counter SET {column} = {column} {'-' if sign == '+' else '+'} 1 "
                         f"WHERE budget_id = '{budget['id']}'")
        self.tg.verify()

    def test_the_service_writes_no_budget_table_and_sees_its_own_org_alone(self):
        mine, other = self.org(1000), self.org(1000)
        for org in (mine, other):
            budget = self.budget(org, 500)
            self.tg.must("POST", f"/orgs/{org}/alerts", {"name": "a", "metric": "budget", "budget": budget["id"], "threshold_percent": 50})
            self.settle((org, uuid_v7(), 1, None, 400, document(400)))
        wait_until(lambda: len(self.sql(f"SELECT 1 FROM alert_event WHERE org_id IN ('{mine}', '{other}')")) == 2, 20, "the job")
        for table in ("budget", "budget_subject", "budget_counter", "alert", "alert_state", "alert_event"):
            self.assertEqual(self.app(f"SELECT DISTINCT org_id FROM {table}", mine), [[mine]], table)
            self.assertEqual(self.app(f"SELECT count(*) FROM {table}"), [["0"]], table)
            for statement in (f"INSERT INTO {table} SELECT * FROM {table}", f"UPDATE {table} SET org_id = org_id",
                              f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with self.subTest(statement), self.assertRaisesRegex(AssertionError, "permission denied"):
                    self.app(statement, mine)
        for statement in ("UPDATE alert_event SET value = 0", "DELETE FROM alert_event", "TRUNCATE alert_event"):
            with self.subTest(statement), self.assertRaisesRegex(AssertionError, "append-only"):
                self.sql(statement)
        for call in (f"budget_add('{mine}', '{mine}', 'x', 'org', '', 5, 'day', true, false)", f"budget_remove('{mine}', '{mine}')",
                     f"budget_counters_for('{mine}', NULL, NULL, now())", "billing_org_lock()"):
            with self.subTest(call), self.assertRaisesRegex(AssertionError, "permission denied"):
                self.app(f"SELECT {call}", mine)


class ControlPlane(BudgetCase):
    @classmethod
    def prepare(cls):
        cls.one = cls.tg.setup_org("one", platform=False)
        cls.two = cls.tg.setup_org("two", platform=False)
        cls.roles = {role: cls.tg.must("POST", "/orgs/one/api-keys", {"name": role, "role": role, "scopes": ["admin"]})["key"]
                     for role in ROLES}

    def good(self, **more):
        return {"name": "n" + uuid.uuid4().hex[:8], "scope": "org", "limit": "25.00", "window": "month", **more}

    def test_create_list_show_change_delete(self):
        status, envelope = self.one.admin("POST", "/budgets", self.good(name="team"))
        self.assertEqual(status, 201, envelope)
        made = envelope["data"]
        self.assertEqual({k: made[k] for k in ("name", "scope", "subject", "limit", "window", "hard", "status", "spent", "held", "remaining")},
                         {"name": "team", "scope": "org", "subject": None, "limit": "25.000000000", "window": "month", "hard": True,
                          "status": "active", "spent": "0.000000000", "held": "0.000000000", "remaining": "25.000000000"})
        self.assertRegex(made["window_start"], r"^\d{4}-\d\d-01T00:00:00\.000000Z$")
        self.assertLess(made["window_start"], made["window_end"])
        path = f"/budgets/{made['id']}"
        self.assertEqual(self.one.admin("GET", path)[1]["data"], made)
        self.assertEqual(self.two.admin("GET", path)[0], 404)
        self.assertEqual(self.two.admin("PATCH", path, {"limit": "1"})[0], 404)
        self.assertEqual(self.two.admin("DELETE", path)[0], 404)
        changed = self.one.admin("PATCH", path, {"limit": "0", "name": "crew", "hard": False, "status": "disabled"})[1]["data"]
        self.assertEqual([changed[k] for k in ("limit", "name", "hard", "status", "remaining")],
                         ["0.000000000", "crew", False, "disabled", "0.000000000"])
        self.assertEqual(self.one.admin("PATCH", path, {"window": "day"})[0], 400)
        self.assertEqual(self.one.admin("PATCH", path, {})[1]["error"]["code"], "nothing_to_change")
        audits = self.tg.sql(f"SELECT action FROM tollgate.audit WHERE object = '{made['id']}' ORDER BY seq")
        self.assertEqual(audits, [["budget.create"], ["budget.change"]])
        self.assertEqual(self.one.admin("DELETE", path)[0], 200)
        self.assertEqual(self.one.admin("GET", path)[0], 404)
        self.assertEqual(self.one.admin("POST", "/budgets", self.good(name="crew"))[0], 201)  # the name is free again

    def test_lists_go_page_by_page_newest_first(self):
        org = self.tg.setup_org("pages", platform=False)
        made = [org.admin("POST", "/budgets", self.good())[1]["data"]["id"] for _ in range(5)]
        got, cursor = [], ""
        while True:
            _, envelope = org.admin("GET", f"/budgets?limit=2{cursor}")
            got += [b["id"] for b in envelope["data"]]
            if not envelope["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + envelope["meta"]["next_cursor"]
        self.assertEqual(got, made[::-1])
        for query in ("limit=0", "limit=201", "cursor=nonsense", "what=1"):
            self.assertEqual(org.admin("GET", f"/budgets?{query}")[0], 400, query)

    def test_g11_bad_budgets_change_nothing(self):
        key = self.tg.must("POST", "/orgs/one/api-keys", {"name": "x"})["id"]
        foreign = self.tg.must("POST", "/orgs/two/api-keys", {"name": "x"})["id"]
        self.one.admin("POST", "/budgets", self.good(name="taken"))
        before = self.tg.row_counts()
        cases = [({"limit": v}, 400, "limit") for v in (
            "-1", "-0.000000001", "1e3", "1.0000000001", "100000000.000000001", "99999999999999999999", "NaN", "Infinity", "", " 1",
            "1 ", "1,0", "0x10", "+1", "1\u0000", 25, 25.0, 1e308, True, None, ["1"], {"a": 1})]
        cases += [({"window": v}, 400, "window") for v in ("year", "Day", "", 1, None, "day\u0000")]
        cases += [({"name": v}, 400, "name") for v in ("", "  ", None, 7, "x" * 201, "a\u0000b")]
        cases += [({"scope": v}, 400, "scope") for v in ("team", "", None, 1)]
        cases += [({"subject": "x"}, 400, "subject"), ({"scope": "key"}, 400, "subject"), ({"scope": "agent"}, 400, "subject"),
                  ({"scope": "key", "subject": "nonsense"}, 400, "subject"), ({"scope": "agent", "subject": ""}, 400, "subject"),
                  ({"scope": "agent", "subject": "a" * 201}, 400, "subject"), ({"scope": "agent", "subject": "a\u0000"}, 400, "subject"),
                  ({"hard": "yes"}, 400, "hard"), ({"hard": 1}, 400, "hard"), ({"webhook": "https://x"}, 400, "webhook"),
                  ({"id": str(uuid.uuid4())}, 400, "id"), ({"spent": "0"}, 400, "spent"), ({"org_id": "x"}, 400, "org_id"),
                  ({"scope": "key", "subject": str(uuid.uuid4())}, 400, None), ({"scope": "key", "subject": foreign}, 400, None),
                  ({"name": "taken"}, 409, None)]
        for change, wanted, field in cases:
            status, envelope = self.one.admin("POST", "/budgets", self.good(**change))
            self.assertEqual(status, wanted, (change, envelope))
            self.assertTrue(envelope["error"]["code"])
            if field:
                self.assertEqual(envelope["error"].get("field"), field, (change, envelope))
        for raw in (b'{"name":"a","name":"b","scope":"org","limit":"1","window":"day"}', b'{"limit":"1","limit":"2"}', b"[]", b"nonsense"):
            self.assertEqual(self.one.admin("POST", "/budgets", raw)[0], 400, raw)
        self.assertEqual(self.tg.row_counts(), before)
        # ids are taken in any spelling
        made = self.one.admin("POST", "/budgets", self.good(scope="key", subject=key.upper()))[1]["data"]
        self.assertEqual(made["subject"], key)

    def test_the_same_bounds_for_patches(self):
        made = self.one.admin("POST", "/budgets", self.good())[1]["data"]
        path = f"/budgets/{made['id']}"
        for patch in ({"limit": "-1"}, {"limit": 1.5}, {"limit": "1e9"}, {"status": "deleted"}, {"hard": "no"}, {"name": ""},
                      {"scope": "key"}, {"name": None}):
            self.assertEqual(self.one.admin("PATCH", path, patch)[0], 400, patch)
        self.assertEqual(self.one.admin("GET", path)[1]["data"], made)
        for bad in ("nonsense", str(uuid.uuid4())):
            for method, body in (("GET", None), ("PATCH", {"limit": "1"}), ("DELETE", None)):
                self.assertEqual(self.one.admin(method, f"/budgets/{bad}", body)[0], 404, (method, bad))

    def test_at_most_sixteen_of_one_subject(self):
        org = self.tg.setup_org("many", platform=False)
        for n in range(17):
            status, envelope = org.admin("POST", "/budgets", self.good(scope="agent", subject="bot"))
            self.assertEqual(status, 201 if n < 16 else 409, envelope)
        self.assertEqual(envelope["error"]["code"], "too_many_budgets")

    def test_roles(self):
        budget = self.one.admin("POST", "/budgets", self.good())[1]["data"]
        alert = self.one.admin("POST", "/alerts", {"name": "roles", "metric": "balance", "threshold": "1"})[1]["data"]
        for role in ROLES:
            ask = lambda method, path, body=None: self.one.admin(method, path, body, token=self.roles[role])[0]
            writes, money = role in ("owner", "admin"), role != "developer"
            with self.subTest(role):
                self.assertEqual(ask("GET", "/budgets"), 200)
                self.assertEqual(ask("GET", f"/budgets/{budget['id']}"), 200)
                self.assertEqual(ask("POST", "/budgets", self.good()), 201 if writes else 403)
                self.assertEqual(ask("PATCH", f"/budgets/{budget['id']}", {"limit": "3"}), 200 if writes else 403)
                for path in ("/alerts", f"/alerts/{alert['id']}", f"/alerts/{alert['id']}/events"):
                    self.assertEqual(ask("GET", path), 200 if money else 403)
                self.assertEqual(ask("PATCH", f"/alerts/{alert['id']}", {"threshold": "2"}), 200 if writes else 403)
                if not writes:
                    self.assertEqual(ask("DELETE", f"/budgets/{budget['id']}"), 403)
                    self.assertEqual(ask("DELETE", f"/alerts/{alert['id']}"), 403)
        # the audit log says who
        actors = self.tg.sql(f"SELECT actor->>'role' FROM tollgate.audit WHERE object = '{budget['id']}' AND action = 'budget.change' ORDER BY seq")
        self.assertEqual(actors, [["owner"], ["admin"]])

    def test_the_command_line(self):
        run = lambda *args: self.tg.cli(*args, "--json")
        done = run("budget", "create", "--org", "two", "--name", "from a terminal", "--limit", "5", "--window", "day", "--agent", "bot", "--soft")
        self.assertEqual(done.returncode, 0, done.stderr)
        made = json.loads(done.stdout)["data"]
        self.assertEqual([made[k] for k in ("scope", "subject", "limit", "window", "hard")], ["agent", "bot", "5.000000000", "day", False])
        done = run("budget", "change", "--org", "two", "--id", made["id"], "--limit", "6", "--hard")
        self.assertEqual(json.loads(done.stdout)["data"]["limit"], "6.000000000")
        self.assertTrue(json.loads(run("budget", "show", "--org", "two", "--id", made["id"]).stdout)["data"]["hard"])
        self.assertIn(made["id"], [b["id"] for b in json.loads(run("budget", "list", "--org", "two").stdout)["data"]])
        done = run("alert", "create", "--org", "two", "--name", "a", "--budget", made["id"], "--percent", "80")
        alert = json.loads(done.stdout)["data"]
        self.assertEqual((alert["threshold_percent"], alert["threshold"], alert["state"]), (80, None, "ok"))
        done = run("alert", "create", "--org", "two", "--name", "low", "--balance", "1.5")
        self.assertEqual(json.loads(done.stdout)["data"]["threshold"], "1.500000000")
        done = run("alert", "change", "--org", "two", "--id", alert["id"], "--threshold", "2")
        self.assertEqual([json.loads(done.stdout)["data"][k] for k in ("threshold_percent", "threshold")], [None, "2.000000000"])
        self.assertEqual(json.loads(run("alert", "events", "--org", "two", "--id", alert["id"]).stdout)["data"], [])
        self.assertEqual(len(json.loads(run("alert", "list", "--org", "two").stdout)["data"]), 2)
        self.assertEqual(json.loads(run("alert", "show", "--org", "two", "--id", alert["id"]).stdout)["data"]["name"], "a")
        self.assertEqual(run("alert", "delete", "--org", "two", "--id", alert["id"]).returncode, 0)
        self.assertEqual(run("budget", "delete", "--org", "two", "--id", made["id"]).returncode, 0)
        self.assertEqual(run("budget", "show", "--org", "two", "--id", made["id"]).returncode, 1)
        for args in (("budget",), ("budget", "create", "--org", "two"), ("budget", "list"), ("budget", "list", "--org", "two", "--id", "x"),
                     ("budget", "show", "--org", "two"), ("budget", "show", "--org", "../x", "--id", "y"), ("budget", "list", "--org", "two", "--soft"),
                     ("budget", "create", "--org", "two", "--name", "n", "--limit", "1", "--window", "day", "--key", "k", "--agent", "a"),
                     ("alert",), ("alert", "create", "--org", "two", "--name", "n"), ("alert", "nonsense", "--org", "two"),
                     ("alert", "create", "--org", "two", "--name", "n", "--budget", "x", "--balance", "1"), ("budget", "nonsense")):
            self.assertEqual(self.tg.cli(*args).returncode, 2, args)
        self.assertEqual(run("budget", "create", "--org", "two", "--name", "n", "--limit", "-1", "--window", "day").returncode, 1)


class KeyBudgets(BudgetCase):
    @classmethod
    def prepare(cls):
        cls.acme = cls.tg.setup_org("acme", "1000", platform=False)

    def make(self, token=harness.ADMIN_TOKEN, **more):
        return self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", **more}, token=token)

    def show(self, key):
        return self.tg.must("GET", f"/orgs/acme/api-keys/{key['id']}")

    def of_key(self, key):
        return [b for b in self.tg.must("GET", "/orgs/acme/budgets?limit=200") if b["of_key"] and b["subject"] == key["id"]]

    def spend(self, key, amount, settle=None):
        hold, call = uuid_v7(), uuid_v7()
        got = self.hold_as(key["id"], None, (self.acme.id, hold, call, 1, amount, FAR))[0][0]
        if got == "granted" and settle is not None:
            self.settle((self.acme.id, call, 1, hold, settle, document(settle)))
        return got

    def test_create_change_and_take_away(self):
        key = self.make(budget={"limit": "25.00", "window": "month"})
        self.assertEqual(key["budget"], {"limit": "25.000000000", "window": "month", "spent": "0.000000000"})
        self.assertEqual(self.show(key)["budget"], key["budget"])
        self.assertIn(key["budget"], [k["budget"] for k in self.tg.must("GET", "/orgs/acme/api-keys?limit=200") if k["id"] == key["id"]])
        rows = self.of_key(key)
        self.assertEqual([(b["scope"], b["hard"], b["name"], b["window"]) for b in rows], [("key", True, "k", "month")])
        self.assertEqual(self.spend(key, 24 * NANO, 10 * NANO), "granted")
        self.assertEqual(self.spend(key, 16 * NANO), "over_budget")
        path = f"/orgs/acme/api-keys/{key['id']}"
        changed = self.tg.must("PATCH", path, {"budget": {"limit": "30", "window": "month"}})
        self.assertEqual(changed["budget"], {"limit": "30.000000000", "window": "month", "spent": "10.000000000"})
        self.assertEqual(self.of_key(key)[0]["id"], rows[0]["id"])
        self.assertEqual(self.tg.must("PATCH", path, {"name": "renamed"})["budget"], changed["budget"])  # left out: as it is
        changed = self.tg.must("PATCH", path, {"budget": {"limit": "30", "window": "day"}, "limits": {"rpm": 600}})
        self.assertEqual(changed["budget"], {"limit": "30.000000000", "window": "day", "spent": "0.000000000"})
        self.assertEqual(changed["limits"]["rpm"], 600)
        self.assertIsNone(self.tg.must("PATCH", path, {"budget": None})["budget"])
        self.assertEqual(self.of_key(key), [])
        self.assertEqual(self.spend(key, 10**6), "granted")
        audits = self.tg.sql(f"SELECT action, count(*) FROM tollgate.audit WHERE object = '{key['id']}' GROUP BY 1 ORDER BY 1")
        self.assertEqual(audits, [["api_key.budget", "4"], ["api_key.change", "4"], ["api_key.create", "1"]])
        self.assertClean()

    def test_it_is_changed_through_its_key_alone(self):
        key = self.make(budget={"limit": "1", "window": "total"})
        path = f"/orgs/acme/budgets/{self.of_key(key)[0]['id']}"
        for method, body in (("PATCH", {"limit": "9"}), ("PATCH", {"hard": False}), ("DELETE", None)):
            status, envelope = self.tg.admin(method, path, body)
            self.assertEqual((status, envelope["error"]["code"]), (409, "budget_of_key"))
            self.assertIn(key["id"], envelope["error"]["hint"])
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{key['id']}")
        self.assertEqual(len(self.of_key(key)), 1)  # revoked: it stays, and can be taken away
        self.assertEqual(self.tg.admin("PATCH", path, {"hard": False})[0], 409)
        self.tg.must("DELETE", path)
        self.assertEqual(self.of_key(key), [])

    def test_bad_budgets_leave_no_key(self):
        before = self.tg.row_counts()
        key = self.tg.must("GET", "/orgs/acme/api-keys")[0]
        for budget, field in (({"limit": "1"}, "budget.window"), ({"window": "day"}, "budget.limit"), ({"limit": 1, "window": "day"}, "budget.limit"),
                              ({"limit": "-1", "window": "day"}, "budget.limit"), ({"limit": "1e2", "window": "day"}, "budget.limit"),
                              ({"limit": "1.", "window": "day"}, "budget.limit"), ({"limit": ".5", "window": "day"}, "budget.limit"),
                              ({"limit": "1.0000000001", "window": "day"}, "budget.limit"), ({"limit": "1\u0000", "window": "day"}, "budget.limit"),
                              ({"limit": "1234567890", "window": "day"}, "budget.limit"), ({"limit": "1", "window": "year"}, "budget.window"),
                              ({"limit": "1", "window": 7}, "budget.window"), ({"limit": "1", "window": "day", "hard": False}, "budget.hard"),
                              ({"limit": "200000000", "window": "day"}, None), ("25", "budget"), ([], "budget"), (25, "budget"), (True, "budget")):
            for method, path in (("POST", "/orgs/acme/api-keys"), ("PATCH", f"/orgs/acme/api-keys/{key['id']}")):
                status, envelope = self.tg.admin(method, path, {"name": "k", "budget": budget})
                self.assertEqual(status, 400, (budget, envelope))
                if field:
                    self.assertEqual(envelope["error"]["field"], field, (budget, envelope))
        self.assertEqual(self.tg.row_counts(), before)

    def test_rotation_moves_it_and_forgets_nothing_spent(self):
        key = self.make(budget={"limit": "10", "window": "total"})
        extra = self.budget("acme", 20 * NANO, scope="key", subject=key["id"])
        self.assertEqual(self.spend(key, 4 * NANO, 3 * NANO), "granted")
        new = self.tg.must("POST", f"/orgs/acme/api-keys/{key['id']}/rotate", {"overlap_seconds": 600})
        self.assertEqual(new["budget"], {"limit": "10.000000000", "window": "total", "spent": "3.000000000"})
        self.assertEqual([b["spent"] for b in self.of_key(new)], ["3.000000000"])
        self.assertEqual(self.of_key(key), [])
        self.assertEqual(self.tg.must("GET", f"/orgs/acme/budgets/{extra['id']}")["subject"], new["id"])
        # In the overlap both spend of the same.
        self.assertEqual(self.spend(key, 5 * NANO), "granted")
        self.assertEqual(self.spend(new, 3 * NANO), "over_budget")
        self.assertEqual(self.spend(new, 2 * NANO), "granted")
        self.assertEqual(self.spend(key, 1), "over_budget")
        status, envelope = self.tg.admin("PATCH", f"/orgs/acme/api-keys/{key['id']}", {"budget": None})
        self.assertEqual((status, envelope["error"]["code"]), (409, "key_rotated"))
        self.assertEqual(self.tg.admin("POST", "/orgs/acme/budgets", {"name": "old", "scope": "key", "subject": key["id"],
                                                                      "limit": "1", "window": "day"})[0], 400)
        third = self.tg.must("POST", f"/orgs/acme/api-keys/{new['id']}/rotate", {"overlap_seconds": 0})
        self.assertEqual(third["budget"]["spent"], "3.000000000")
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{third['id']}", {"budget": {"limit": "11", "window": "total"}})
        self.assertEqual(self.spend(third, NANO), "granted")
        self.assertEqual(self.spend(third, 1), "over_budget")
        self.assertClean()

    def test_what_is_set_in_the_overlap_binds_the_old_key_too(self):
        """A rotated key that still works is no way round a budget that its successor gets afterwards."""
        first = self.make(budget={"limit": "10", "window": "day"})
        rotate = lambda key, overlap: self.tg.must("POST", f"/orgs/acme/api-keys/{key['id']}/rotate", {"overlap_seconds": overlap})
        between = rotate(first, 600)
        key = rotate(between, 0)
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key['id']}", {"budget": {"limit": "5", "window": "month"}})
        self.assertEqual(self.spend(key, 3 * NANO), "granted")
        self.assertEqual(self.spend(first, 3 * NANO), "over_budget")
        self.budget("acme", NANO, scope="key", subject=key["id"])
        self.assertEqual(self.spend(first, 2 * NANO), "over_budget")
        self.assertEqual(self.spend(first, NANO), "granted")
        self.assertEqual(self.spend(key, 1), "over_budget")
        self.assertEqual(self.sql(f"SELECT count(*) FROM budget_subject WHERE subject = '{between['id']}'"), [["0"]])  # it is revoked
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key['id']}", {"budget": None})
        self.assertEqual(self.spend(first, 1), "over_budget")  # of the other one
        self.assertClean()

    def test_a_developer_gives_no_more_than_its_own_key_may(self):
        dev = self.make(role="developer", scopes=["admin"], budget={"limit": "5", "window": "month"})
        ask = lambda method, path, body: self.tg.admin(method, path, body, token=dev["key"])
        before = self.tg.row_counts()
        for budget in ({}, {"budget": None}, {"budget": {"limit": "5.000000001", "window": "month"}}, {"budget": {"limit": "1", "window": "day"}}):
            status, envelope = ask("POST", "/orgs/acme/api-keys", {"name": "k", **budget})
            self.assertEqual((status, envelope["error"]["code"]), (403, "permission_denied"), budget)
        self.assertEqual(self.tg.row_counts(), before)
        status, envelope = ask("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": "5", "window": "month"}})
        self.assertEqual(status, 201, envelope)
        made = f"/orgs/acme/api-keys/{envelope['data']['id']}"
        self.assertEqual(ask("PATCH", made, {"budget": None})[0], 403)
        self.assertEqual(ask("PATCH", made, {"budget": {"limit": "6", "window": "month"}})[0], 403)
        self.assertEqual(ask("PATCH", made, {"budget": {"limit": "4", "window": "month"}})[0], 200)
        self.assertEqual(ask("PATCH", f"/orgs/acme/api-keys/{dev['id']}", {"budget": None})[0], 403)
        self.tg.must("PATCH", made, {"budget": None})  # by the operator
        self.assertEqual(ask("POST", made + "/rotate", {})[0], 403)
        self.tg.must("PATCH", made, {"budget": {"limit": "1", "window": "month"}})
        self.assertEqual(ask("POST", made + "/rotate", {})[0], 201)


class Calls(BudgetCase):
    """Budgets in front of real calls."""

    @classmethod
    def prepare(cls):
        cls.acme = cls.tg.setup_org("acme", credits="1000")
        cls.tg.setup_profile(cls.acme, "own", models=["own-model"])
        cls.tg.must("PUT", "/orgs/acme/routes/either", {"match": {"alias": "either"}, "policy": {}, "targets": [
            {"provider": "openai_compatible", "model": MODEL, "billing": ["platform"]}, {"profile": "own", "model": "own-model"}]})
        cls.tg.wait_for_model(cls.acme, "either")
        cls.tg.wait_for_model(cls.acme, "own-model")

    def body(self, text="Hello", model=MODEL):
        return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]}

    def cost_all_of_the_hold(self, body):
        """The provider counts each byte as a token and all of max_tokens: what is charged is what was held."""
        sent = json.dumps(body)
        self.fake.control(model=body["model"], usage=f"{len(sent)},{body['max_tokens']}", times=-1)
        return (3 * len(sent) + 15 * body["max_tokens"]) * 1000

    def test_over_budget(self):
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": 'the "b" key', "budget": {"limit": "0", "window": "day"}})
        before, rows = self.acme.balance(), self.tg.row_counts()
        answer = self.tg.chat(self.body(), key=key["key"])
        self.assertStatus(answer, 429)
        self.assertEqual((answer.json["error"]["code"], answer.json["error"]["type"]), ("insufficient_quota", "insufficient_quota"))
        self.assertIn("over budget", answer.json["error"]["message"])
        self.assertEqual(answer.headers["x-should-retry"], "false")
        self.assertIsNone(answer.headers["retry-after"])
        told = answer.json["tollgate"]
        budget = self.tg.must("GET", "/orgs/acme/budgets")[0]
        self.assertEqual(told["budget"], {"id": budget["id"], "name": 'the "b" key'})
        self.assertEqual((Decimal(told["available"]), Decimal(told["held"])), (0, 0))
        self.assertGreater(Decimal(told["needed"]), 0)
        self.assertEqual([t["reason"] for t in told["targets"]], ["limit_reached"])
        self.assertEqual(self.tg.fake_calls(), [])
        self.assertEqual(self.acme.balance(), before)
        rows["tollgate.budget_counter"] += 1
        self.assertEqual(self.tg.row_counts(), rows)
        # a call that the platform does not pay for is not the budget's
        self.assertStatus(self.tg.chat(self.body(model="own-model"), key=key["key"]), 200)
        self.assertEqual(self.counters(budget), (0, 0))

    def test_the_orgs_own_key_serves_where_the_budget_ends(self):
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": "0.01", "window": "day"}})
        self.assertEqual(self.tg.chat(self.body(model="either"), key=key["key"]).headers["x-tollgate-billing-source"], "platform")
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key['id']}", {"budget": {"limit": "0", "window": "day"}})
        answer = self.tg.chat(self.body(model="either"), key=key["key"])
        self.assertStatus(answer, 200)
        self.assertEqual(answer.headers["x-tollgate-billing-source"], "byok")
        self.assertRegex(answer.headers["x-tollgate-fallback"], "=limit_reached$")

    def test_what_calls_in_flight_hold_passes_with_time(self):
        body = self.body("Wait [[delay_ms=4000]]")
        hold = self.cost_all_of_the_hold(body)
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": credits(hold + 5), "window": "day"}})
        first = threading.Thread(target=self.tg.chat, args=(body,), kwargs={"key": key["key"]})
        first.start()
        budget = self.tg.must("GET", "/orgs/acme/budgets")[0]
        wait_until(lambda: self.counters(budget)[1] == hold, 10, "the first call's hold")
        answer = self.tg.chat(body, key=key["key"])
        first.join()
        self.assertStatus(answer, 429)
        self.assertEqual(answer.json["error"]["code"], "rate_limit_exceeded")
        self.assertEqual(answer.headers["x-should-retry"], "true")
        self.assertGreater(int(answer.headers["retry-after"]), 0)
        self.assertEqual((nano(answer.json["tollgate"]["held"]), nano(answer.json["tollgate"]["available"])), (hold, 5))
        self.assertEqual(answer.json["tollgate"]["budget"]["id"], budget["id"])
        answer = self.tg.chat(body, key=key["key"])
        self.assertEqual(answer.json["error"]["code"], "insufficient_quota")

    def test_agents(self):
        self.budget("acme", 0, scope="agent", subject="bot-1", name="bots")
        key = self.acme.key
        self.assertStatus(self.tg.chat(self.body(), key=key), 200)
        self.assertStatus(self.tg.chat(self.body(), key=key, headers={"x-tollgate-agent": "bot-2"}), 200)
        refused = self.tg.chat(self.body(), key=key, headers={"x-tollgate-agent": "bot-1"})
        self.assertEqual(refused.json["tollgate"]["budget"]["name"], "bots")
        # What is no agent's name harms nobody.
        for agent in (b"\xff\xfe", b"a" * 900, "bot-1\u00e9".encode()):
            self.assertStatus(self.tg.chat(self.body(), key=key, headers={"x-tollgate-agent": agent}), 200)

    def test_explain_says_so_too(self):
        org = self.tg.setup_org("asked", platform=False)
        self.tg.wait_for_model(org)
        explain = lambda **more: self.tg.must("POST", "/orgs/asked/routes/explain", {"model": MODEL, "input_tokens": 100, "max_output": 100, **more})
        self.budget("asked", 0, scope="agent", subject="bot")
        self.budget("asked", 5, hard=False)
        self.assertEqual([t["verdict"] for t in explain()["targets"]], ["use"])
        self.assertEqual([t["reason"] for t in explain(agent="bot")["targets"]], ["limit_reached"])
        self.assertEqual(explain(agent="bot")["refusal"], "insufficient_quota")
        self.budget("asked", 5)
        self.assertEqual([t["reason"] for t in explain()["targets"]], ["limit_reached"])

    def concurrent(self, calls, key, body):
        answers, lock = [], threading.Lock()

        def one():
            try:
                answer = self.tg.chat(body, key=key, timeout=60)
            except OSError:
                return
            with lock:
                answers.append(answer)

        threads = [threading.Thread(target=one) for _ in range(calls)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return answers

    def test_g04_two_hundred_at_once_and_exactly_what_the_budget_affords_passes(self):
        body = self.body("All at once")
        hold = self.cost_all_of_the_hold(body)
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": credits(37 * hold + hold - 1), "window": "day"}})
        before = self.acme.balance()
        answers = self.concurrent(200, key["key"], body)
        self.assertEqual(sorted({a.status for a in answers}), [200, 429])
        self.assertEqual(len([a for a in answers if a.status == 200]), 37)
        self.assertEqual(len(answers), 200)
        self.assertEqual(nano(str(before - self.acme.balance())), 37 * hold)
        self.assertEqual(nano(self.tg.must("GET", f"/orgs/acme/api-keys/{key['id']}")["budget"]["spent"]), 37 * hold)
        self.assertLessEqual({a.json["error"]["code"] for a in answers if a.status == 429}, {"insufficient_quota", "rate_limit_exceeded"})
        self.assertClean()

    def test_killed_in_the_middle_the_budget_is_exact(self):
        body = self.body("Killed [[delay_ms=300]]")
        hold = self.cost_all_of_the_hold(body)
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": credits(120 * hold), "window": "month"}})
        answers = []
        load = threading.Thread(target=lambda: answers.extend(self.concurrent(200, key["key"], body)))
        load.start()
        budget = self.tg.must("GET", "/orgs/acme/budgets")[0]
        wait_until(lambda: self.counters(budget)[0] > 0, 20, "the first booked call")
        self.tg.kill()
        load.join()
        finished = len([a for a in answers if a.status == 200 and not a.broken])
        self.tg.start()
        self.assertIn("ledger verify: ok", self.tg.verify())
        spent, held = self.counters(budget)
        booked = int(self.sql(f"SELECT count(*) FROM usage_charge WHERE key_id = '{key['id']}' AND amount = {hold}")[0][0])
        self.assertEqual(spent, booked * hold)
        self.assertGreaterEqual(booked, finished)
        self.assertLessEqual(spent + held, 120 * hold)
        self.assertEqual(held % hold, 0)
        # The holds of those that never came back expire, and with them their part of the budget.
        self.sql("UPDATE lease SET hard_at = now() - interval '1 second' WHERE state = 'open'")
        wait_until(lambda: self.counters(budget) == (spent, 0), 20, "the sweeper")
        left = 120 - booked
        answers = self.concurrent(left + 10, key["key"], body)
        self.assertEqual(len([a for a in answers if a.status == 200]), left)
        self.assertEqual(self.counters(budget), (120 * hold, 0))
        self.assertClean()

    def test_calls_without_budgets_cost_no_further_round_trip(self):
        """Counts statements; prints times, which prove nothing on a shared machine."""
        def metric(name):
            for line in self.tg.get("/metrics", surface="admin").body.decode().splitlines():
                if line.startswith(name + " "):
                    return int(line.split()[1])
            raise AssertionError(name)

        batches = 'tollgate_billing_batches_total{kind="%s"}'
        bare = self.tg.setup_org("bare", "100", platform=False)
        self.tg.wait_for_model(bare)
        for label, budgets in (("no budget", []), ("one of the org", ["org"]), ("four", ["org", "key", "agent"])):
            for scope in budgets:
                self.budget("bare", 50 * NANO, scope=scope, window="month",
                            subject={"org": None, "key": bare.key_id, "agent": "bot"}[scope])
            times = []
            for _ in range(60):
                before = [metric(batches % k) for k in ("hold", "settle")]
                began = time.monotonic()
                answer = self.tg.chat(self.body(), key=bare.key, headers={"x-tollgate-agent": "bot"})
                times.append(time.monotonic() - began)
                self.assertStatus(answer, 200)
                self.assertEqual([metric(batches % k) for k in ("hold", "settle")], [n + 1 for n in before])
            print(f"median of {len(times)} calls, {label}: {statistics.median(times) * 1000:.2f} ms", flush=True)


class Alerts(BudgetCase):
    @classmethod
    def prepare(cls):
        cls.acme = cls.tg.setup_org("acme", platform=False)

    def alert(self, org, **more):
        return self.tg.must("POST", f"/orgs/{org}/alerts", {"name": "a" + uuid.uuid4().hex[:8], **more})

    def events(self, org, alert):
        return self.tg.must("GET", f"/orgs/{org}/alerts/{alert['id']}/events")

    def state(self, org, alert):
        return self.tg.must("GET", f"/orgs/{org}/alerts/{alert['id']}")["state"]

    def spend(self, org, amount):
        self.settle((org, uuid_v7(), 1, None, amount, document(amount)))

    def look(self):
        """The job looks now: the service's own is not waited for, and whichever of the two finds something is the same."""
        self.app("SELECT pg_advisory_lock(hashtext('tollgate.billing_alerts')); SELECT * FROM billing_alerts_run(100)")

    def test_once_per_crossing_and_again_after_going_back(self):
        org = self.org(10**6)
        budget = self.budget(org, 1000)
        alert = self.alert(org, metric="budget", budget=budget["id"], threshold_percent=80)
        self.assertEqual((alert["state"], alert["last_event_at"]), ("ok", None))
        self.spend(org, 799)
        self.look()
        self.assertEqual((self.state(org, alert), self.events(org, alert)), ("ok", []))
        self.spend(org, 1)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 1)
        self.spend(org, 50)
        for _ in range(3):
            self.look()
        self.assertEqual(self.state(org, alert), "crossed")
        events = self.events(org, alert)
        self.assertEqual([(e["value"], e["threshold"], e["limit"]) for e in events], [(credits(800), credits(800), credits(1000))])
        self.assertEqual(self.tg.must("GET", f"/orgs/{org}/alerts")[0]["last_event_at"], events[0]["at"])
        # A higher limit puts it back; what is spent then crosses again.
        self.tg.must("PATCH", f"/orgs/{org}/budgets/{budget['id']}", {"limit": credits(2000)})
        self.look()
        self.assertEqual(self.state(org, alert), "ok")
        self.spend(org, 750)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 2)
        self.assertEqual(self.tg.admin("GET", f"/orgs/{self.acme.slug}/alerts/{alert['id']}/events")[0], 404)

    def test_each_window_anew(self):
        org = self.org(10**6)
        budget = self.budget(org, 1000, window="day")
        alert = self.alert(org, metric="budget", budget=budget["id"], threshold=credits(500))
        self.spend(org, 600)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 1)
        self.sql(f"UPDATE budget_counter SET window_start = window_start - interval '1 day' WHERE budget_id = '{budget['id']}'")
        self.assertEqual(self.state(org, alert), "ok")
        self.spend(org, 500)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 2)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 2)

    def test_what_is_over_is_not_judged_anew(self):
        """A window that ended is looked at for its late calls; an alert or a limit of today says nothing of it."""
        org = self.org(10**6)
        budget = self.budget(org, 1000, window="day")
        old = self.alert(org, metric="budget", budget=budget["id"], threshold=credits(700))
        self.spend(org, 600)
        self.look()
        yesterday = "UPDATE {} SET {} = {} - interval '1 day' WHERE {} = '{}'"
        self.sql(yesterday.format("budget_counter", "window_start", "window_start", "budget_id", budget["id"]))
        made = self.alert(org, metric="budget", budget=budget["id"], threshold=credits(500))
        self.look()
        self.tg.must("PATCH", f"/orgs/{org}/alerts/{made['id']}", {"threshold_percent": 50})
        self.look()
        self.assertEqual((self.events(org, made), self.events(org, old)), ([], []))
        # Whoever watched it then still hears of what was booked late.
        for column in ("changed_at", "created_at"):
            self.sql(f"UPDATE budget SET {column} = now() - interval '2 days' WHERE id = '{budget['id']}'")
        self.sql(yesterday.format("alert", "changed_at", "changed_at", "id", old["id"]))
        self.settle((org, uuid_v7(time.time() - 86400), 1, None, 200, document(200)))
        self.look()
        self.assertEqual((self.events(org, made), [e["value"] for e in self.events(org, old)]), ([], [credits(800)]))
        # And a limit of today crosses nothing of yesterday.
        self.sql(yesterday.format("alert", "changed_at", "changed_at", "id", made["id"]))
        self.tg.must("PATCH", f"/orgs/{org}/budgets/{budget['id']}", {"limit": credits(100)})
        self.look()
        self.assertEqual(self.events(org, made), [])

    def test_the_balance(self):
        org = self.org(1000)
        alert = self.alert(org, metric="balance", threshold=credits(400))
        hold, call = uuid_v7(), uuid_v7()
        self.hold((org, hold, call, 1, 900, FAR))
        self.look()
        self.assertEqual(self.events(org, alert), [])  # held, not gone
        self.settle((org, call, 1, hold, 600, document(600)))
        self.look()
        self.assertEqual(len(self.events(org, alert)), 1)
        self.assertEqual((self.events(org, alert)[0]["value"], self.events(org, alert)[0]["window_start"]), (credits(400), None))
        self.grant(org, 500)
        self.look()
        self.assertEqual(self.state(org, alert), "ok")
        self.spend(org, 700)
        self.look()
        self.assertEqual(len(self.events(org, alert)), 2)

    def test_disabled_and_deleted_ones_are_silent(self):
        org = self.org(10**6)
        budget = self.budget(org, 1000)
        kinds = [self.alert(org, metric="budget", budget=budget["id"], threshold_percent=p) for p in (10, 20, 30)]
        self.tg.must("PATCH", f"/orgs/{org}/alerts/{kinds[0]['id']}", {"status": "disabled"})
        self.assertEqual(self.tg.must("DELETE", f"/orgs/{org}/alerts/{kinds[1]['id']}")["status"], "deleted")
        self.spend(org, 900)
        self.look()
        self.assertEqual([len(self.events(org, a)) for a in kinds], [0, 0, 1])
        self.tg.must("DELETE", f"/orgs/{org}/budgets/{budget['id']}")
        self.assertEqual(self.tg.must("GET", f"/orgs/{org}/alerts"), [])
        self.assertEqual(len(self.events(org, kinds[2])), 1)  # what happened stays

    def test_the_log_and_the_metric_say_it_once(self):
        org = self.org(10**6)
        offset = os.path.getsize(self.tg.log)
        alert = self.alert(org, metric="balance", threshold=credits(10**6))
        told = lambda: [line for line in self.tg.log_lines(offset) if line.get("alert") == alert["id"]]
        wait_until(told, 20, "the log line")
        self.assertEqual((told()[0]["metric"], told()[0]["name"]), ("balance", alert["name"]))
        metrics = self.tg.get("/metrics", surface="admin").body.decode()
        self.assertRegex(metrics, r'(?m)^tollgate_alerts_total\{metric="balance"\} [1-9]')
        self.assertEqual((len(told()), len(self.events(org, alert))), (1, 1))

    def test_bad_alerts_change_nothing(self):
        mine = self.tg.must("POST", "/orgs/acme/budgets", {"name": "for alerts", "scope": "org", "limit": "1", "window": "day"})["id"]
        foreign = self.budget(self.org(), 5)["id"]
        self.alert("acme", metric="balance", threshold="1", name="taken")
        before = self.tg.row_counts()
        good = {"name": "x", "metric": "budget", "budget": mine, "threshold_percent": 50}
        cases = [({"metric": v}, "metric") for v in ("spend", "", None, 1)]
        cases += [({"threshold_percent": v}, "threshold_percent") for v in (0, -1, 1001, 1.5, "50", True, 2**63)]
        cases += [({"threshold_percent": None, "threshold": v}, "threshold") for v in ("-1", 5, "1e3", "", "1\u0000", None)]
        cases += [({"threshold": "5"}, "threshold"), ({"budget": None}, "budget"), ({"budget": "x"}, "budget"), ({"metric": "balance"}, "budget"),
                  ({"metric": "balance", "budget": None}, "threshold_percent"), ({"name": ""}, "name"), ({"name": None}, "name"),
                  ({"webhook": "https://example.org"}, "webhook"), ({"status": "active"}, "status"), ({"budget": foreign}, None),
                  ({"budget": str(uuid.uuid4())}, None)]
        for change, field in cases:
            status, envelope = self.tg.admin("POST", "/orgs/acme/alerts", {**good, **change})
            self.assertEqual(status, 400, (change, envelope))
            if field:
                self.assertEqual(envelope["error"]["field"], field, (change, envelope))
        self.assertEqual(self.tg.admin("POST", "/orgs/acme/alerts", {"name": "taken", "metric": "balance", "threshold": "2"})[0], 409)
        self.assertEqual(self.tg.row_counts(), before)
        alert = self.alert("acme", metric="balance", threshold="1")
        for patch in ({"threshold_percent": 5}, {"metric": "budget"}, {}, {"status": "gone"}, {"threshold": "x"}, {"webhook": "x"},
                      {"threshold": "1", "threshold_percent": 5}):
            self.assertEqual(self.tg.admin("PATCH", f"/orgs/acme/alerts/{alert['id']}", patch)[0], 400, patch)
        for method, path in (("GET", ""), ("GET", "/events"), ("PATCH", ""), ("DELETE", "")):
            for bad in ("nonsense", str(uuid.uuid4()), alert["id"]):
                org = "acme" if bad != alert["id"] else self.org()
                got = self.tg.admin(method, f"/orgs/{org}/alerts/{bad}{path}", {"name": "y"} if method == "PATCH" else None)
                self.assertEqual(got[0], 404, (method, path, bad, got))


class Migration(unittest.TestCase):
    def test_the_way_back_keeps_what_is_booked(self):
        with harness.Tollgate() as tg:
            org = tg.setup_org("acme")
            key = tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "budget": {"limit": "5", "window": "day"}})
            tg.must("POST", "/orgs/acme/alerts", {"name": "a", "metric": "balance", "threshold": "100"})
            for _ in range(3):
                assert tg.chat("Hello", key=key["key"]).status == 200
            left = org.balance()
            self.assertGreater(nano(tg.must("GET", f"/orgs/acme/api-keys/{key['id']}")["budget"]["spent"]), 0)
            tg.stop()
            version, mine = (int(v) for v in tg.sql("SELECT max(version), max(version) FILTER (WHERE name ~ '(^|[0-9]_)budgets$') "
                                                    "FROM tollgate.migration")[0])
            booked = "SELECT call_id, amount, lines FROM tollgate.usage_charge ORDER BY call_id"
            before = tg.sql(booked)
            self.assertEqual(len(before), 3)
            done = tg.cli("migrate", "down", str(version - mine + 1))
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual(tg.sql("SELECT to_regclass('tollgate.budget') IS NULL, to_regproc('tollgate.budget_audit') IS NULL"), [["t", "t"]])
            self.assertEqual(tg.sql(booked), before)
            self.assertEqual(tg.sql("SET search_path = tollgate; SELECT name FROM ledger_audit() WHERE must_be_zero AND value <> 0"), [])
            tg.migrate()
            tg.start()
            self.assertEqual(org.balance(), left)
            self.assertIsNone(tg.must("GET", f"/orgs/acme/api-keys/{key['id']}")["budget"])
            self.assertEqual(tg.chat("Hello", key=key["key"]).status, 200)
            tg.verify()


if __name__ == "__main__":
    unittest.main()
