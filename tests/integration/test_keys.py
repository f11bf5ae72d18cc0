"""API keys over time: a new secret for the same grant, and when a key was last used."""
import json
import threading
import time
import unittest

import harness
from harness import MODEL, wait_until

ROLES = ("owner", "admin", "developer", "finance", "auditor")
GRANT = ("name", "role", "scopes", "models", "limits", "budget")
EACH = 8  # connections go to either of two workers: that many in a row have reached both, or nearly so


class Keys(harness.Case):
    ENV = {"TOLLGATE_VAULT_LAST_USED_FLUSH_MS": "200", "TOLLGATE_LOG_LEVEL": "debug"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.roles = {role: cls.make(role=role, scopes=["admin"]) for role in ROLES}

    @classmethod
    def make(cls, token=harness.ADMIN_TOKEN, **more):
        return cls.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", **more}, token=token)

    def rotate(self, key_id, token=harness.ADMIN_TOKEN, org="acme", **body):
        return self.tg.admin("POST", f"/orgs/{org}/api-keys/{key_id}/rotate", body, token=token)

    def rotated(self, key_id, **more):
        status, envelope = self.rotate(key_id, **more)
        self.assertEqual(status, 201, envelope)
        return envelope["data"]

    def refused(self, got, status, code):
        self.assertEqual((got[0], got[1]["error"]["code"]), (status, code), got)

    def show(self, key_id):
        return self.tg.must("GET", f"/orgs/acme/api-keys/{key_id}")

    def statuses(self, key):
        return {self.tg.get("/v1/models", key).status for _ in range(EACH)}

    def dies(self, key, seconds=2):
        """Refused by both workers, and by no other answer than 401, within that time."""
        def refused():
            status = self.tg.get("/v1/models", key).status
            self.assertIn(status, (200, 401))
            return status == 401
        self.tg.settled(seconds)
        wait_until(refused, seconds)  # a key that expires does so by the clock, in all threads at once
        self.assertEqual(self.statuses(key), {401})

    def audits(self, key_id):
        return self.tg.sql(f"SELECT actor, result FROM tollgate.audit WHERE action = 'api_key.rotate' AND object = '{key_id}'")

    # --- rotation ---

    def test_overlap_serves_both_then_the_old_one_ends(self):
        old = self.make(name="backend", models=["demo-*", "x/y"], limits={"rpm": 600000, "tpm": None},
                        expires_at="2999-01-01T00:00:00Z")
        self.assertEqual(self.statuses(old["key"]), {200})
        began = time.time()
        new = self.rotated(old["id"], overlap_seconds=5 * harness.SLOW)
        self.assertRegex(new["key"], r"^tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$")
        self.assertNotEqual((new["id"], new["key"], new["prefix"]), (old["id"], old["key"], old["prefix"]))
        for field in (*GRANT, "expires_at"):
            self.assertEqual(new[field], old[field], field)
        self.assertEqual((new["status"], new["last4"], new["replaced_by"]), ("active", new["key"][-4:], None))
        replaced = new["replaces"]
        self.assertEqual((replaced["id"], replaced["status"], replaced["replaced_by"], replaced["revoked_at"]),
                         (old["id"], "active", new["id"], None))
        until = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began + 12 * harness.SLOW))
        self.assertLess(replaced["expires_at"], until)
        self.assertEqual(self.statuses(new["key"]) | self.statuses(old["key"]), {200})
        self.dies(old["key"], 8)
        self.assertEqual(self.show(old["id"])["status"], "expired")
        self.assertEqual(self.statuses(new["key"]), {200})
        self.assertEqual(self.show(new["id"])["expires_at"], "2999-01-01T00:00:00.000000Z")

    def test_no_overlap_ends_the_old_one_at_once(self):
        for body in ({}, {"overlap_seconds": 0}, {"overlap_seconds": None}):
            old = self.make()
            self.assertEqual(self.statuses(old["key"]), {200})  # known to both workers
            new = self.rotated(old["id"], **body)
            self.dies(old["key"])
            self.assertEqual(self.statuses(new["key"]), {200})
            shown = self.show(old["id"])
            self.assertEqual((shown["status"], shown["replaced_by"]), ("revoked", new["id"]))

    def test_an_overlap_never_prolongs(self):
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        old = self.make(expires_at=soon)
        new = self.rotated(old["id"], overlap_seconds=604800)
        self.assertEqual(new["replaces"]["expires_at"], old["expires_at"])
        self.assertEqual(new["expires_at"], old["expires_at"])

    def test_a_stream_goes_on(self):
        old, got = self.make(), []
        call = threading.Thread(target=lambda: got.append(self.tg.chat(
            {"model": MODEL, "messages": [{"role": "user", "content": "Hello [[words=60]] [[chunks=60]] [[chunk_ms=150]]"}]},
            key=old["key"], stream=True)))
        before = len(self.tg.fake_calls())
        call.start()
        wait_until(lambda: self.tg.sql("SELECT 1 FROM tollgate.lease WHERE state = 'open'"), 10, "the stream")
        self.rotated(old["id"], overlap_seconds=1)
        self.dies(old["key"], 4)
        self.assertTrue(call.is_alive(), "the stream was to be longer")
        call.join(30 * harness.SLOW)
        self.assertStatus(got[0], 200)
        self.assertTrue(got[0].done and not got[0].broken, got[0])
        self.assertEqual(len(got[0].text.split()), 60)
        self.assertEqual(len(self.tg.fake_calls()), before + 1)

    def test_bad_input(self):
        key, counts = self.make(), None
        counts = self.tg.row_counts()
        for value in (-1, 604801, 1.5, "60", True, [], {}, 10**30):
            status, envelope = self.rotate(key["id"], overlap_seconds=value)
            self.assertEqual(status, 400, (value, envelope))
        self.refused(self.rotate(key["id"], overlap_seconds=-1), 400, "invalid_field")
        self.refused(self.rotate(key["id"], key="tg_x"), 400, "unknown_field")
        self.refused(self.rotate(key["id"], role="owner"), 400, "unknown_field")
        self.assertEqual(self.tg.admin("POST", f"/orgs/acme/api-keys/{key['id']}/rotate", [1])[0], 400)
        self.assertEqual(self.tg.admin("GET", f"/orgs/acme/api-keys/{key['id']}/rotate")[0], 405)
        for bad in ("nothing", "00000000-0000-7000-8000-000000000000", "%27"):
            self.refused(self.rotate(bad), 404, "not_found")
        self.assertEqual(self.tg.row_counts(), counts)
        self.assertEqual(self.statuses(key["key"]), {200})

    def test_the_dead_and_the_replaced_are_refused(self):
        revoked = self.make()
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{revoked['id']}")
        self.refused(self.rotate(revoked["id"]), 409, "key_revoked")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        expired = self.make(expires_at=at)
        wait_until(lambda: self.show(expired["id"])["status"] == "expired", 6)
        self.refused(self.rotate(expired["id"], overlap_seconds=60), 409, "key_expired")
        # Once is enough, in the overlap too: a request sent twice makes one key and one line in the audit log.
        old = self.make()
        new = self.rotated(old["id"], overlap_seconds=600)
        again = self.rotate(old["id"], overlap_seconds=600)
        self.refused(again, 409, "key_rotated")
        self.assertIn(new["id"], again[1]["error"]["hint"])
        self.assertEqual(len(self.audits(old["id"])), 1)
        third = self.rotated(new["id"])
        self.assertEqual(self.statuses(third["key"]), {200})
        # A repeated statement (its answer was lost) tells what stands and writes nothing.
        counts = self.tg.row_counts()
        rows = self.tg.sql("WITH o AS (SELECT set_config('app.org_id', org_id::text, false), * FROM tollgate.api_key "
                           f"WHERE id = '{third['id']}') SELECT tollgate.key_rotate('{new['id']}', o.id, o.public_id, o.hash, "
                           "o.pepper_ver, o.last4, 0, '{\"type\":\"operator\"}', 'req_again') FROM o")
        self.assertEqual(json.loads(rows[0][0])["id"], third["id"])
        self.assertEqual(self.tg.row_counts(), counts)

    def test_two_at_once_make_one(self):
        key, got = self.make(), []
        calls = [threading.Thread(target=lambda: got.append(self.rotate(key["id"], overlap_seconds=60)[0])) for _ in range(6)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        self.assertEqual(sorted(got), [201] + [409] * 5)
        self.assertEqual(len(self.audits(key["id"])), 1)

    # --- who may ---

    def test_roles(self):
        may = {"owner": {"admin", "developer", "finance", "auditor"}, "admin": {"developer", "finance", "auditor"}}
        for actor in ROLES:
            for role in ROLES:
                key = self.make(role=role)
                got = self.rotate(key["id"], token=self.roles[actor]["key"])
                if role in may.get(actor, ()):
                    self.assertEqual(got[0], 201, (actor, role, got))
                    self.assertEqual(got[1]["data"]["role"], role)
                else:
                    self.assertEqual(got[0], 404 if actor == "developer" else 403, (actor, role, got))
                    self.assertEqual(self.show(key["id"])["status"], "active")
        for actor in ROLES:  # nobody its own: a role is not below itself
            self.refused(self.rotate(self.roles[actor]["id"], token=self.roles[actor]["key"]), 403, "permission_denied")

    def test_another_org(self):
        other = self.tg.setup_org("beta", credits=None, platform=False)
        owner = self.roles["owner"]["key"]
        self.refused(self.rotate(other.key_id, token=owner), 404, "not_found")
        self.refused(self.rotate(other.key_id, token=owner, org="beta"), 404, "org_not_found")
        self.assertEqual(self.statuses(other.key), {200})

    def test_a_developer_rotates_what_it_made_and_no_more_than_it_may(self):
        dev = self.make(role="developer", scopes=["admin"], models=["demo-*", "a_b", "50%"], limits={"rpm": 60000, "tpm": 1000})
        bound = {"limits": {"rpm": 60000, "tpm": 1000}}
        mine = self.make(token=dev["key"], models=["demo-x*", "a_b", "50%"], **bound)
        path = f"/orgs/acme/api-keys/{mine['id']}"
        for more in ({"models": ["*"]}, {"models": ["demo*"]}, {"models": ["axb"]}, {"models": ["50x"]}, {"limits": {"rpm": 60001}},
                     {"limits": {"tpm": None}}):
            self.tg.must("PATCH", path, more)
            self.refused(self.rotate(mine["id"], token=dev["key"]), 403, "permission_denied")
            self.tg.must("PATCH", path, {"models": ["demo-x*", "a_b", "50%"], **bound})
        new = self.rotated(mine["id"], token=dev["key"])
        self.assertEqual(new["models"], ["demo-x*", "a_b", "50%"])
        # By somebody else it stays the developer's; and of a developer's key the new one sees what the old one made.
        new = self.rotated(new["id"])
        self.assertEqual(self.tg.admin("GET", f"/orgs/acme/api-keys/{new['id']}", token=dev["key"])[0], 200)
        dev2 = self.rotated(dev["id"])
        self.assertEqual(self.tg.admin("GET", f"/orgs/acme/api-keys/{new['id']}", token=dev2["key"])[0], 200)
        self.rotated(new["id"], token=dev2["key"])

    # --- what is written ---

    def test_audit_and_log_hold_no_secret(self):
        key = self.make()
        new = self.rotated(key["id"], token=self.roles["owner"]["key"], overlap_seconds=60)
        (actor, result), = self.audits(key["id"])
        self.assertEqual((json.loads(actor)["id"], result), (self.roles["owner"]["id"], "ok"))
        listed = json.dumps(self.tg.admin("GET", "/orgs/acme/api-keys?limit=200")[1]) + json.dumps(self.show(new["id"]))
        audit = json.dumps(self.tg.sql("SELECT row_to_json(a) FROM tollgate.audit a"))
        row = json.dumps(self.tg.sql(f"SELECT row_to_json(k) FROM tollgate.api_key k WHERE id = '{new['id']}'"))
        with open(self.tg.log) as f:
            log = f.read()
        for text in (listed, audit, row, log):
            self.assertNotIn(new["key"], text)
            self.assertNotIn(new["key"][12:44], text)
        self.assertIn(new["id"], listed)

    def test_cli(self):
        key = self.make()
        done = self.tg.cli("key", "rotate", "--org", "acme", key["id"], "--overlap-seconds", "60", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        new = json.loads(done.stdout)
        new = new.get("data", new)
        self.assertEqual(new["replaces"]["id"], key["id"])
        self.assertEqual(self.statuses(new["key"]) | self.statuses(key["key"]), {200})
        self.assertEqual(self.tg.cli("key", "rotate", "--org", "acme", new["id"]).returncode, 0)
        self.assertEqual(self.show(new["id"])["status"], "revoked")
        for bad in (("rotate", "--org", "acme"), ("rotate", new["id"]), ("rotate", "--org", "acme", "a/b"),
                    ("rotate", "--org", "acme", new["id"], "--overlap-seconds", "x"),
                    ("rotate", "--org", "acme", new["id"], "--role", "owner")):
            self.assertEqual(self.tg.cli("key", *bad).returncode, 2, bad)

    # --- last used ---

    def test_last_used(self):
        key, idle = self.make(), self.make()
        self.assertIsNone(self.show(key["id"])["last_used_at"])
        self.tg.get("/v1/models", key["key"][:-1] + ("0" if key["key"][-1] != "0" else "1"))
        before = self.tg.sql("SELECT tollgate.tg_rfc3339(clock_timestamp())")[0][0]
        self.assertEqual(self.statuses(key["key"]), {200})
        wait_until(lambda: self.show(key["id"])["last_used_at"], 5, "the use to be written down")
        first = self.show(key["id"])["last_used_at"]
        self.assertGreaterEqual(first, before)
        listed = {k["id"]: k["last_used_at"] for k in self.tg.admin("GET", "/orgs/acme/api-keys?limit=200")[1]["data"]}
        self.assertGreaterEqual(listed[key["id"]], first)
        self.assertStatus(self.tg.get("/v1/models", key["key"]), 200)
        wait_until(lambda: self.show(key["id"])["last_used_at"] > first, 5, "the later use")
        self.assertIsNone(self.show(idle["id"])["last_used_at"])
        # In the control plane it counts as well; a key that is refused was not used.
        wait_until(lambda: self.tg.admin("GET", "/orgs/acme", token=self.roles["auditor"]["key"])[0] == 200
                   and self.show(self.roles["auditor"]["id"])["last_used_at"], 5)
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{idle['id']}")
        self.assertEqual(self.tg.get("/v1/models", idle["key"]).status, 401)


class LastUsed(harness.Case):
    """With the default interval of a minute nothing is written before the drain."""

    def test_written_at_drain_and_never_per_request(self):
        org = self.tg.setup_org("acme", credits=None, platform=False)
        for _ in range(EACH):
            self.assertStatus(self.tg.get("/v1/models", org.key), 200)
        used = lambda: self.tg.sql(f"SELECT last_used_at FROM tollgate.api_key WHERE id = '{org.key_id}'")
        version = lambda: self.tg.sql(f"SELECT xmin FROM tollgate.api_key WHERE id = '{org.key_id}'")
        row = version()
        for _ in range(50):
            self.assertStatus(self.tg.get("/v1/models", org.key), 200)
        self.assertEqual(version(), row)
        self.assertIn(used()[0][0], ("", None))
        self.tg.restart()
        self.assertNotIn(used()[0][0], ("", None))

    def test_it_never_goes_back(self):
        org = self.tg.setup_org("beta", credits=None, platform=False)
        self.assertStatus(self.tg.get("/v1/models", org.key), 200)
        self.tg.sql(f"UPDATE tollgate.api_key SET last_used_at = '2999-01-01T00:00:00Z' WHERE id = '{org.key_id}'")
        self.tg.restart()
        self.assertIn("2999-01-01", self.tg.must("GET", f"/orgs/beta/api-keys/{org.key_id}")["last_used_at"])

    def test_a_use_outlives_a_flush_that_failed(self):
        with harness.Postgres() as postgres, harness.Tollgate(postgres=postgres, env={
                "TOLLGATE_PG_WAIT_MS": 300, "TOLLGATE_VAULT_LAST_USED_FLUSH_MS": 300}) as tg:
            org = tg.setup_org("acme", credits=None, platform=False)
            used = lambda: tg.sql(f"SELECT last_used_at FROM tollgate.api_key WHERE id = '{org.key_id}'")[0][0]
            for _ in range(EACH):
                self.assertStatus(tg.get("/v1/models", org.key), 200)
            wait_until(used, 10, "the first use")
            postgres.stop()
            wait_until(lambda: not tg.ready(), 10)
            before = time.time()
            self.assertStatus(tg.get("/v1/models", org.key), 200)
            wait_until(lambda: any("last used" in str(line.get("msg")) for line in tg.log_lines()), 10, "a failed flush")
            postgres.start()
            wait_until(tg.ready, 20)
            wait_until(lambda: float(tg.sql("SELECT extract(epoch FROM last_used_at) FROM tollgate.api_key "
                                            f"WHERE id = '{org.key_id}'")[0][0]) >= before, 10, "the use")
            postgres.stop()
            began = time.monotonic()
            self.assertStatus(tg.get("/v1/models", org.key), 200)
            tg.stop()
            self.assertLess(time.monotonic() - began, 10 * harness.SLOW)
            postgres.start()


if __name__ == "__main__":
    unittest.main()
