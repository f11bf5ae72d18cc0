"""Master keys and data keys change under load, are retired and shredded. test_kill_rotation.py cuts it off."""
import base64
import json
import secrets
import subprocess
import threading
import time
import unittest

import harness
from harness import wait_until

ROTATIONS = 20


def new_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


def with_keys(current, *old):
    """Settings with these master keys. harness gives a file: that one is left out."""
    return {"TOLLGATE_MASTER_KEY_FILE": None, "TOLLGATE_MASTER_KEY": current,
            "TOLLGATE_MASTER_KEYS_OLD": ",".join(old) or None}


class Vault:
    """A service that knows several master keys, and the commands run with any of them as the current one."""

    def __init__(self, keys=1, env=None):
        self.keys = [new_key() for _ in range(keys)]
        self.tg = harness.Tollgate(env={"TOLLGATE_VAULT_HEARTBEAT_MS": 200, **with_keys(*self.keys), **(env or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tg.close()

    def order(self, n):
        """The keys with the n-th in front."""
        return [self.keys[n]] + self.keys[:n] + self.keys[n + 1:]

    def settings(self, keys):
        return {k: v or "" for k, v in with_keys(*keys).items() if k != "TOLLGATE_MASTER_KEY_FILE"}

    def run(self, *args, keys=None):
        """(exit status, data or error, stderr) of `tollgate vault ... --json`."""
        done = self.tg.cli("vault", *args, "--json", env=self.settings(keys or self.keys), timeout=120)
        answer = json.loads(done.stdout) if done.stdout else {"data": None, "error": None}
        return done.returncode, answer["data"] or answer["error"], done.stderr

    def must(self, *args, keys=None):
        status, data, err = self.run(*args, keys=keys)
        assert status == 0, (args, status, data, err)
        return data

    def kek_ids(self):
        return [k["kek_id"] for k in self.must("status")["master_keys"]]

    def deks(self):
        """[[slug, version, state, secrets sealed with it]], oldest first."""
        return self.tg.sql(
            "SELECT o.slug, d.dek_ver, d.state, (SELECT count(*) FROM tollgate.secret s WHERE s.org_id = d.org_id AND "
            "tollgate.sealed_dek_ver(s.sealed) = d.dek_ver) FROM tollgate_vault.org_dek d JOIN tollgate.org o "
            "USING (org_id) ORDER BY 1, 2")

    def old_rows(self):
        """Records that an older data key than the active one sealed."""
        return int(self.tg.sql(
            "SELECT count(*) FROM tollgate.secret s JOIN tollgate_vault.org_dek d ON d.org_id = s.org_id AND "
            "d.state = 'active' WHERE tollgate.sealed_dek_ver(s.sealed) < d.dek_ver")[0][0])


class Load:
    """A steady load of byok calls from several threads; every answer is counted."""

    def __init__(self, tg, orgs, per_s=200, threads=4):
        self.tg, self.orgs, self.pause = tg, orgs, threads / per_s
        self.good, self.bad, self.stopped = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.go, args=(i,)) for i in range(threads)]
        for t in self.threads:
            t.start()

    def go(self, i):
        n = i
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                answer = self.tg.chat({"model": "team-model", "messages": [{"role": "user", "content": f"call {n}"}]},
                                      key=self.orgs[n % len(self.orgs)].key)
                if answer.status == 200:
                    self.good += 1
                else:
                    self.bad.append(repr(answer))
            except OSError as e:
                self.bad.append(repr(e))
            n += 1
            self.stopped.wait(max(0, self.pause - (time.monotonic() - began)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for t in self.threads:
            t.join()


def byok_orgs(tg, count, profiles=3):
    """Orgs whose calls go out with secrets of their own."""
    orgs = []
    for n in range(count):
        org = tg.setup_org(f"team-{n}", credits=None, platform=False)
        for p in range(profiles):
            tg.setup_profile(org, f"p{p}", secret=f"fake-secret-of-team-{n}-{p:04}", models=["team-model"], priority=p)
        orgs.append(org)
    tg.setup_model("team-model")
    for org in orgs:
        tg.wait_for_model(org, "team-model")
    return orgs


class UnderLoad(unittest.TestCase):
    def test_v10_both_keys_rotate_twenty_times_under_load(self):
        with Vault(keys=4) as v:
            orgs = byok_orgs(v.tg, 2)
            with Load(v.tg, orgs) as load:
                for n in range(ROTATIONS):
                    keys = v.order((n + 1) % 4)
                    v.must("rewrap", keys=keys)
                    rotated = v.must("rotate", "--all", "--grace-seconds", str(2 * harness.SLOW), keys=keys)
                    self.assertEqual(rotated["rotated"], 3)  # both, and the platform's own pepper
                    self.assertEqual(v.old_rows(), 0)
                    kek = v.tg.sql("SELECT DISTINCT kek_id FROM tollgate_vault.org_dek")
                    self.assertEqual(len(kek), 1, "a data key is wrapped by another master key")
                    if n % 5 == 0:  # an admin's own change goes on in between
                        secret = f"fake-changed-secret-{n:04}"
                        got = v.tg.must("POST", "/orgs/team-0/profiles/p0/rotate", {"secret": secret})
                        self.assertEqual(got["secret"]["masked"], "…" + secret[-4:])
            self.assertEqual(load.bad, [])
            self.assertGreater(load.good, 500)
            # What is older is destroyed by the running service once its time has come.
            wait_until(lambda: [d[1:3] for d in v.deks()] == [[str(ROTATIONS + 1), "active"]] * 3, 15, "old data keys gone")
            self.assertEqual(v.tg.sql("SELECT count(*) FROM tollgate_vault.dek_destroyed"), [[str(3 * ROTATIONS)]])
            self.assertEqual(v.must("status", "--check")["check"]["unreadable"], 0)
            v.tg.restart()  # the pepper too
            for org in orgs:
                self.assertEqual(call(v.tg, org).status, 200)
            audit = v.tg.cli("audit", "verify")
            self.assertEqual(audit.returncode, 0, audit.stdout)


def call(tg, org):
    return tg.chat({"model": "team-model", "messages": [{"role": "user", "content": "hello"}]}, key=org.key)


class OneOrg(unittest.TestCase):
    def setUp(self):
        self.v = Vault()
        self.addCleanup(self.v.tg.close)
        self.tg = self.v.tg
        self.org, = byok_orgs(self.tg, 1, profiles=1)

    def sealed(self):
        return self.tg.sql(f"SELECT id, row_version, encode(sealed, 'hex') FROM tollgate.secret WHERE org_id = '{self.org.id}'")[0]

    def store(self, hex_text, version=None):
        """Put bytes where the org's one record stands, as a damaged or restored database would have them."""
        self.tg.sql(f"UPDATE tollgate.secret SET sealed = '\\x{hex_text}' WHERE org_id = '{self.org.id}'; "
                    f"SET search_path = tollgate; SELECT tg_change('secret', '{self.org.id}', 0)")
        self.tg.settled()

    def listed(self):
        return self.tg.must("GET", f"/orgs/{self.org.slug}/profiles")[0]["health"]

    def refused(self):
        answer = call(self.tg, self.org)
        self.assertEqual(answer.status, 503, answer)
        return answer

    def test_a_profile_key_that_was_sealed_before_opens_in_the_grace_time(self):
        _, version, old = self.sealed()
        self.v.must("rotate", "--org", "team-0")
        _, same, new = self.sealed()
        self.assertEqual(version, same)  # the same secret, sealed again
        self.assertNotEqual(old, new)
        self.store(old)  # as a call with an older picture has it
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.assertEqual([d[1:] for d in self.v.deks() if d[0] == "team-0"], [["1", "decrypt_only", "1"], ["2", "active", "0"]])
        # A data key is destroyed when no record needs it, whatever the time.
        self.tg.sql("UPDATE tollgate_vault.org_dek SET destroy_after = now() WHERE state = 'decrypt_only'")
        self.assertEqual(self.tg.sql("SELECT tollgate.dek_sweep(10)"), [["0"]])
        self.v.must("rotate", "--org", "team-0", "--grace-seconds", "0")
        self.assertEqual([d[1:] for d in self.v.deks() if d[0] == "team-0"], [["3", "active", "1"]])
        self.assertEqual(call(self.tg, self.org).status, 200)

    def test_an_admins_change_wins_over_a_rotation(self):
        secret_id, version, old = self.sealed()
        self.tg.must("POST", "/orgs/team-0/profiles/p0/rotate", {"secret": "fake-newer-secret-0001"})
        org = f"SET search_path = tollgate; SET app.org_id = '{self.org.id}'; "
        newer = self.sealed()[2]
        # What was read before the change is not written behind it.
        self.assertEqual(self.tg.sql(org + f"SELECT secret_reseal(2, ARRAY['{secret_id}'::uuid], ARRAY[{version}::bigint], "
                                     f"ARRAY['\\x{old}'::bytea], ARRAY[set_byte('\\x{old}'::bytea, 7, 2)], ARRAY['00000000'])"), [["0"]])
        self.assertEqual(self.sealed()[2], newer)
        self.v.must("rotate", "--org", "team-0")
        self.tg.settled()
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.assertIn("fake-newer-secret-0001", self.tg.fake.last()["head"])
        # And nothing that the old data key sealed comes in after the rotation's end.
        with self.assertRaisesRegex(AssertionError, "data_key_rotated"):
            self.tg.sql(org + f"SELECT secret_put('{secret_id}', 'api_key', 3, '\\x{newer}', '****', '00000000')")

    def test_a_secret_erased_and_entered_again_wins_over_a_rotation(self):
        """Its version is 1 again, and a worker that has not heard of the new data key sealed it with the old one."""
        self.tg.restart(TOLLGATE_EGRESS_ALLOW=self.tg.env["TOLLGATE_EGRESS_ALLOW"] + ",127.0.0.2/32:9")
        first = self.sealed()
        base_url = self.tg.sql("SELECT base_url FROM tollgate.profile WHERE name = 'p0'")[0][0]
        self.tg.must("PATCH", "/orgs/team-0/profiles/p0", {"base_url": "http://127.0.0.2:9/v1"})
        self.tg.must("PATCH", "/orgs/team-0/profiles/p0", {"base_url": base_url})
        self.tg.must("POST", "/orgs/team-0/profiles/p0/rotate", {"secret": "fake-entered-again-0001"})
        again = self.sealed()
        self.assertEqual(again[:2], first[:2])
        self.store(first[2])
        rotation = []
        held = subprocess.Popen(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", f"{self.tg.cluster} dbname={self.tg.database}"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        thread = threading.Thread(target=lambda: rotation.append(self.v.run("rotate", "--org", "team-0")))
        try:
            held.stdin.write(f"BEGIN; SELECT 1 FROM tollgate.secret WHERE id = '{first[0]}' FOR UPDATE;\n")
            held.stdin.flush()
            self.assertEqual(held.stdout.readline(), "1\n")
            thread.start()
            wait_until(lambda: self.tg.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                                           "query LIKE '%secret_reseal%'") == [["1"]], 15, "the rotation has read the first")
            held.stdin.write(f"CREATE TEMP TABLE s AS SELECT * FROM tollgate.secret WHERE id = '{first[0]}'; "
                             f"DELETE FROM tollgate.secret WHERE id = '{first[0]}'; "
                             f"UPDATE s SET sealed = '\\x{again[2]}'; INSERT INTO tollgate.secret SELECT * FROM s; COMMIT;\n")
            held.stdin.close()
            self.assertEqual(held.wait(timeout=30), 0)
        finally:
            held.kill()
            held.wait()
            held.stdout.close()
            if thread.ident:
                thread.join()
        self.assertEqual(rotation[0][0], 0, rotation)
        self.assertEqual(self.v.old_rows(), 0)
        self.tg.settled()
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.assertIn("fake-entered-again-0001", self.tg.fake.last()["head"])

    def test_a_node_that_lacks_a_new_key_says_503_and_blames_no_secret(self):
        """It was taken for gone when the key was made: nothing is known there about what that key sealed."""
        self.tg.stop()
        self.tg.env["TOLLGATE_VAULT_HEARTBEAT_MS"] = "60000"
        self.tg.start()
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.tg.sql("DELETE FROM tollgate_vault.node")
        self.v.must("rotate", "--org", "team-0", keys=[new_key()] + self.v.keys)
        self.tg.settled()
        refused = call(self.tg, self.org)
        self.assertEqual((refused.status, refused.json["error"]["code"]), (503, "unavailable"))
        self.assertIn("cannot be opened now", refused.json["error"]["message"])
        self.assertIn("retry-after", {k.lower() for k in refused.headers})
        got = self.tg.admin("POST", "/orgs/team-0/profiles/p0/rotate", {"secret": "fake-cannot-be-sealed-1"})
        self.assertEqual((got[0], got[1]["error"]["code"]), (503, "vault_unavailable"), got)
        self.assertEqual(self.tg.sql("SELECT count(*) FROM tollgate.secret WHERE unreadable IS NOT NULL"), [["0"]])
        self.assertNotEqual(self.listed()["status"], "needs_reconfiguration")

    def test_v11_min_decrypt_raised_and_lowered(self):
        old = self.sealed()[2]
        self.store(old[:-2] + ("00" if old[-2:] != "00" else "01"))
        damaged = self.refused().json["error"]  # what a caller is told of any secret
        self.store(old)
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.v.must("rotate", "--org", "team-0")
        new = self.sealed()[2]
        self.store(old)  # one that a rotation did not reach
        self.assertEqual(call(self.tg, self.org).status, 200)
        gate = self.v.must("gate", "--org", "team-0", "--min-decrypt", "2")
        self.assertEqual((gate["active_ver"], gate["min_encrypt_ver"], gate["min_decrypt_ver"]), (2, 2, 2))
        before = len(self.tg.fake_calls())
        self.tg.settled()
        self.assertEqual(self.refused().json["error"], damaged)
        self.assertEqual(len(self.tg.fake_calls()), before)
        # The admin is told which it is, wherever they look.
        profile = self.tg.must("GET", "/orgs/team-0/profiles")[0]["id"]
        tested = self.tg.must("POST", f"/orgs/team-0/profiles/{profile}/test", {"action": "test_auth"})
        self.assertEqual((tested["ok"], tested["reason"]), (False, "vault_version_retired"))
        self.assertEqual((self.listed()["status"], self.listed()["reason"]),
                         ("needs_reconfiguration", "vault_version_retired"))
        status, data, _ = self.v.run("status", "--check")
        self.assertEqual((status, data["check"]["failed"][0]["code"]), (1, "vault_version_retired"))
        # A rotation does not bring it back either.
        status, data, _ = self.v.run("rotate", "--org", "team-0")
        self.assertEqual((status, data["unreadable"], data["failed"][0]["code"]), (1, 1, "vault_version_retired"))
        # Lowered again it works; a version that cannot be is refused.
        self.v.must("gate", "--org", "team-0", "--min-decrypt", "1")
        self.tg.settled()
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.assertNotEqual(self.listed()["status"], "needs_reconfiguration")
        self.store(new)
        self.assertEqual(self.v.must("status", "--check")["check"]["unreadable"], 0)
        for bad in (("--min-decrypt", "9"), ("--min-encrypt", "0"), ("--min-encrypt", "99")):
            status, data, _ = self.v.run("gate", "--org", "team-0", *bad)
            self.assertEqual((status, data["code"]), (2, "invalid_gate"), bad)
        self.assertEqual(self.v.run("gate", "--org", "team-0")[0], 2)
        self.assertEqual(self.v.run("gate", "--org", "nobody", "--min-decrypt", "1")[1]["code"], "org_not_found")

    def test_a_secret_that_does_not_open_is_reported_and_never_replaced(self):
        good = self.sealed()[2]
        self.store(good[:200] + ("0" if good[200] != "0" else "1") + good[201:])
        self.assertNotEqual(self.listed()["status"], "needs_reconfiguration")  # nobody has tried
        before = len(self.tg.fake_calls())
        self.refused()
        self.assertEqual(len(self.tg.fake_calls()), before)
        wait_until(lambda: self.listed()["status"] == "needs_reconfiguration", 5, "the list to show it")
        self.assertEqual(self.listed()["reason"], "vault_auth")
        status, data, err = self.v.run("status", "--check")
        self.assertEqual(status, 1)
        self.assertEqual([(f["org"], f["what"], f["code"]) for f in data["check"]["failed"]], [("team-0", "p0", "vault_auth")])
        self.assertIn("team-0: p0", err)
        # A rotation leaves it and its data key, and says so; the rest is done.
        status, data, _ = self.v.run("rotate", "--org", "team-0", "--grace-seconds", "0")
        self.assertEqual((status, data["unreadable"]), (1, 1))
        self.assertEqual([d[1:] for d in self.v.deks() if d[0] == "team-0"], [["1", "decrypt_only", "1"], ["2", "active", "0"]])
        # Entered again it is as good as new, and the old data key goes.
        self.tg.must("POST", "/orgs/team-0/profiles/p0/rotate", {"secret": "fake-entered-again-0001"})
        self.assertNotEqual(self.listed()["status"], "needs_reconfiguration")
        self.tg.settled()
        self.assertEqual(call(self.tg, self.org).status, 200)
        wait_until(lambda: [d[1:] for d in self.v.deks() if d[0] == "team-0"] == [["2", "active", "1"]], 10, "the sweep")
        self.assertEqual(self.v.must("status", "--check")["check"]["unreadable"], 0)

    def test_first_distributed_then_promoted(self):
        new = new_key()
        keys = [new] + self.v.keys
        kek = self.tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary")[0][0]
        node = self.v.must("status")["nodes"]
        self.assertEqual([(n["current_master_key"], n["master_keys"]) for n in node], [(kek, [kek])])
        for args in (("rewrap",), ("rotate", "--org", "team-0"), ("rotate", "--all")):
            status, data, _ = self.v.run(*args, keys=keys)
            self.assertEqual((status, data["code"]), (1, "node_without_key"), args)
            self.assertIn(node[0]["name"], data["message"])
        self.assertEqual(self.tg.sql("SELECT DISTINCT kek_id, state FROM tollgate_vault.org_dek"), [[kek, "active"]])
        # A node that is gone without a goodbye counts until its row expires; one that drains says goodbye.
        self.tg.kill()
        self.tg.sql("UPDATE tollgate_vault.node SET expires_at = now() + interval '5 seconds'")
        self.assertEqual(self.v.run("rewrap", keys=keys)[0], 1)
        self.tg.env.update({k: v for k, v in self.v.settings(self.v.keys + [new]).items()})
        self.tg.start()
        wait_until(lambda: len(self.v.must("status")["nodes"]) == 1, 15, "the dead node to be forgotten")
        done = self.v.must("rewrap", keys=keys)
        self.assertEqual((done["rewrapped"], done["failed"]), (2, []))  # the org's, and the platform's
        self.assertEqual(call(self.tg, self.org).status, 200)
        # The old one still wraps what this node makes: not removable before the node has changed over.
        self.assertEqual(done["removable_master_keys"], [])
        self.tg.stop()
        self.assertEqual(self.v.must("status", keys=keys)["nodes"], [])
        self.assertEqual(self.v.must("rewrap", keys=keys)["removable_master_keys"], [kek])
        listed = {k["kek_id"]: k["removable"] for k in self.v.must("status", keys=keys)["master_keys"]}
        self.assertEqual(listed[kek], True)
        self.assertEqual(sorted(listed.values()), [False, True])
        # Without the old one everything opens.
        self.tg.env.update(self.v.settings([new]))
        self.tg.start()
        self.assertEqual(call(self.tg, self.org).status, 200)
        self.assertEqual(self.v.must("status", "--check", keys=[new])["check"]["unreadable"], 0)

    def test_a_command_without_the_master_key_says_which_it_lacks(self):
        self.tg.stop()
        kek = self.tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary")[0][0]
        other = [new_key()]
        before = self.tg.sql("SELECT * FROM tollgate_vault.org_dek ORDER BY 1")
        status, data, _ = self.v.run("rewrap", keys=other)
        self.assertEqual((status, data["rewrapped"], len(data["failed"])), (1, 0, 2))
        self.assertIn(kek, data["failed"][0]["message"])
        status, data, _ = self.v.run("status", "--check", keys=other)
        self.assertEqual((status, {f["code"] for f in data["check"]["failed"]}), (1, {"master_key_missing"}))
        self.assertEqual(self.tg.sql("SELECT count(*) FROM tollgate.secret WHERE unreadable IS NOT NULL"), [["0"]])
        status, data, _ = self.v.run("rotate", "--org", "team-0", keys=other)
        self.assertEqual((status, data["code"]), (2, "master_key_missing"))
        self.assertIn(kek, data["message"])
        self.assertEqual(self.tg.sql("SELECT * FROM tollgate_vault.org_dek ORDER BY 1"), before)
        self.assertEqual(self.tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary"), [[kek]])
        done = self.v.must("rotate", "--org", "team-0", keys=other + self.v.keys)
        self.assertEqual((done["rotated"], done["resealed"]), (1, 1))

    def test_v12_a_shredded_org(self):
        secret_row = self.tg.sql(f"SELECT id, field, row_version, encode(sealed, 'hex') FROM tollgate.secret WHERE org_id = '{self.org.id}'")[0]
        dump = subprocess.run(["pg_dump", "-d", f"{self.tg.cluster} dbname={self.tg.database}"], capture_output=True, timeout=120)
        self.assertEqual(dump.returncode, 0, dump.stderr)
        self.assertEqual(call(self.tg, self.org).status, 200)  # its data key is cached
        self.tg.must("DELETE", "/orgs/team-0")
        self.tg.settled(2)
        self.assertEqual(call(self.tg, self.org).status, 401)
        for table in ("tollgate.secret", "tollgate_vault.org_dek"):
            self.assertEqual(self.tg.sql(f"SELECT count(*) FROM {table} WHERE org_id = '{self.org.id}'"), [["0"]])
        shred, = self.v.must("status")["shreds"]
        self.assertEqual((shred["org"], shred["data_keys"], shred["secrets"], shred["effective"]), ("team-0", 1, 1, False))
        self.assertGreater(shred["shred_effective_at"], shred["shred_requested_at"])
        # Were the org and its record put back without the data key, nothing would open: it is in no cache.
        self.tg.sql("SET search_path = tollgate; "
                    f"UPDATE org SET status = 'active' WHERE org_id = '{self.org.id}'; "
                    f"UPDATE api_key SET revoked_at = NULL WHERE org_id = '{self.org.id}'; "
                    "INSERT INTO secret (org_id, id, field, row_version, sealed, masked, fingerprint) VALUES "
                    f"('{self.org.id}', '{secret_row[0]}', '{secret_row[1]}', {secret_row[2]}, '\\x{secret_row[3]}', '****', "
                    f"'00000000'); SELECT tg_change('key', '{self.org.id}', 0)")
        self.tg.settled()
        before = len(self.tg.fake_calls())
        for _ in range(8):  # both workers
            self.assertEqual(call(self.tg, self.org).status, 503)
        self.assertEqual(len(self.tg.fake_calls()), before)
        self.tg.sql(f"UPDATE tollgate.org SET status = 'deleted' WHERE org_id = '{self.org.id}'")
        self.restored_dump_is_unreadable(dump.stdout)
        self.shred_is_complete_once_the_master_key_is_gone()

    def restored_dump_is_unreadable(self, dump):
        """The dump has the org's wrapped data key. Without the master key it is of no use."""
        name = "tollgate_restored_" + secrets.token_hex(4)
        harness.psql(f"{self.tg.cluster} dbname=postgres", f"CREATE DATABASE {name} OWNER tollgate_login TEMPLATE template0")
        try:
            restored = subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", f"{self.tg.cluster} dbname={name}"],
                                      input=dump, capture_output=True, timeout=120)
            self.assertEqual(restored.returncode, 0, restored.stderr)
            url = {"TOLLGATE_DATABASE_URL": self.tg.env["TOLLGATE_DATABASE_URL"].replace(self.tg.database, name)}
            for keys, unreadable, status in (([new_key()], 2, 1), (self.v.keys, 0, 0)):
                done = self.tg.cli("vault", "status", "--check", "--json", env={**self.v.settings(keys), **url})
                self.assertEqual(done.returncode, status, done.stderr)
                self.assertEqual(json.loads(done.stdout)["data"]["check"]["unreadable"], unreadable)
        finally:
            harness.psql(f"{self.tg.cluster} dbname=postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def shred_is_complete_once_the_master_key_is_gone(self):
        new = new_key()
        old = self.tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary")[0][0]
        self.tg.restart(**self.v.settings([new] + self.v.keys))
        both, only = [new] + self.v.keys, [new]
        self.assertEqual(self.v.run("forget", old, keys=both)[1]["code"], "master_key_in_use")  # configured here
        self.assertEqual(self.v.run("forget", old, keys=only)[1]["code"], "master_key_in_use")  # a node has it
        self.tg.stop()
        self.assertEqual(self.v.run("forget", old, keys=only)[1]["code"], "master_key_in_use")  # it wraps a data key
        self.v.must("rewrap", keys=both)
        shred, = self.v.must("status", keys=only)["shreds"]
        self.assertFalse(shred["effective"])
        self.v.must("forget", old, keys=only)
        shred, = self.v.must("status", keys=only)["shreds"]
        self.assertTrue(shred["effective"])
        self.assertEqual(self.v.run("forget", old, keys=only)[1]["code"], "master_key_not_found")
        self.tg.restart(**self.v.settings(only))
        self.assertEqual(len(self.v.must("status", keys=only)["master_keys"]), 1)

    def test_the_backups_horizon_completes_a_shred_too(self):
        self.tg.must("DELETE", "/orgs/team-0")
        self.tg.sql("UPDATE tollgate_vault.shred SET requested_at = now() - interval '8 days'")
        for days, effective in (("9", False), ("7", True)):
            done = self.tg.cli("vault", "status", "--json", env={**self.v.settings(self.v.keys), "TOLLGATE_VAULT_BACKUP_DAYS": days})
            self.assertEqual(json.loads(done.stdout)["data"]["shreds"][0]["effective"], effective)

    def test_bad_arguments_change_nothing(self):
        before = self.tg.row_counts()
        for args in (("rotate",), ("rotate", "--all", "--org", "team-0"), ("rotate", "--all", "--grace-seconds", "-1"),
                     ("rotate", "--all", "--grace-seconds", "soon"), ("rewrap", "now"), ("forget",), ("forget", "short"),
                     ("status", "--everything"), ("gate",), ("gate", "--org", "team-0", "--min-decrypt", "x"), ("what",)):
            self.assertEqual(self.v.run(*args)[0], 2, args)
        self.assertEqual(self.v.run("rotate", "--org", "nobody")[0], 1)
        after = self.tg.row_counts()
        self.assertEqual({k: n for k, n in after.items() if k != "tollgate_vault.node"},
                         {k: n for k, n in before.items() if k != "tollgate_vault.node"})
        self.assertIn("current", self.tg.cli("vault", "status").stdout)


if __name__ == "__main__":
    unittest.main()
