"""A master key that never leaves its keeper: data keys wrapped by a transit engine (security.md 1.3, V18, F50).

The engine is fake_transit.py: real AES-GCM, versions, tokens that end, and every way to fail."""
import base64
import json
import os
import re
import signal
import subprocess
import time
import unittest

import harness
from fake_transit import FakeTransit
from harness import Tollgate


def transit_id(tg):
    return tg.sql("SELECT DISTINCT kek_id FROM tollgate_vault.org_dek")[0][0]


class TransitCase(unittest.TestCase):
    """One engine and one service per test; `tg.org` has one byok profile that answers to model `byok-1`."""

    def service(self, transit, start=True, master=False, **env):
        settings = {**transit.env(), "TOLLGATE_VAULT_TRANSIT_TIMEOUT_MS": "1000", "TOLLGATE_LOG_LEVEL": "debug", **env}
        tg = Tollgate(env={**settings, **({} if master else {"TOLLGATE_MASTER_KEY_FILE": None})}, start=False)
        self.addCleanup(tg.close)
        if start:
            tg.start()
        return tg

    def engine(self):
        transit = FakeTransit()
        self.addCleanup(transit.close)
        return transit

    def byok(self, tg, slug="acme", model="byok-1"):
        org = tg.setup_org(slug, credits=None, platform=False)
        tg.setup_profile(org, "main", models=[model], secret=f"fake-secret-of-{slug}-0001")
        tg.settled()
        self.assertEqual(self.ask(tg, org, model).status, 200)
        return org

    def ask(self, tg, org, model="byok-1"):
        return tg.chat({"model": model, "messages": [{"role": "user", "content": "Hi"}]}, key=org.key)

    def refused(self, tg, env, *words):
        settings = {k: v for k, v in {**tg.env, **env}.items() if v is not None}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TOLLGATE_")}
        done = subprocess.run([os.path.join(harness.BUILD, "tollgate"), "serve"], capture_output=True, text=True,
                              env={**clean, **settings}, cwd=tg.dir, timeout=30 * harness.SLOW)
        self.assertEqual(done.returncode, 2, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return done.stderr

    def metric(self, tg, name):
        text = tg.get("/metrics", surface="admin").body.decode()
        return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M).group(1))


class Wrapping(TransitCase):
    def test_data_keys_are_wrapped_there_and_bound_to_their_place(self):
        transit = self.engine()
        tg = self.service(transit)
        org = self.byok(tg)
        self.assertIn("Bearer fake-secret-of-acme-0001", tg.fake.last()["head"])
        rows = tg.sql("SELECT org_id, kek_ver, convert_from(wrapped, 'UTF8') FROM tollgate_vault.org_dek ORDER BY 1")
        self.assertEqual(len(rows), 2)  # the platform's, for the pepper, and the org's
        for _, version, wrapped in rows:
            self.assertEqual(version, "1")
            self.assertRegex(wrapped, r"^vault:v1:[A-Za-z0-9+/]{80}$")
        self.assertEqual(tg.sql("SELECT count(*) FROM tollgate_vault.kek_canary"), [["1"]])
        self.assertRegex(transit_id(tg), r"^[0-9a-f]{16}$")
        # Every request carries the token and what the key is bound to; none fetches the key itself.
        for r in transit.requests:
            self.assertEqual(r.token, transit.token)
            self.assertEqual(r.method, "POST")
            if "renew" not in r.path:
                self.assertIn(r.path, ("/v1/transit/encrypt/tollgate", "/v1/transit/decrypt/tollgate"))
                aad = base64.b64decode(json.loads(r.body)["associated_data"])
                self.assertRegex(aad, rb"^tg-(dek-aad|kek-canary)-1\0\0\0")
        aads = {json.loads(r.body)["associated_data"] for r in transit.requests if "encrypt" in r.path}
        self.assertEqual(len(aads), 3)  # two orgs' keys and the canary
        # Another org's wrapped key in this one's place does not open: what it is bound to is authenticated there.
        beta = self.byok(tg, "beta", "byok-2")
        tg.stop()
        tg.sql(f"UPDATE tollgate_vault.org_dek d SET wrapped = o.wrapped FROM tollgate_vault.org_dek o "
               f"WHERE d.org_id = '{beta.id}' AND o.org_id = '{org.id}'")
        tg.start()
        self.assertEqual(self.ask(tg, org).status, 200)
        before = len(tg.fake_calls())
        self.assertGreaterEqual(self.ask(tg, beta, "byok-2").status, 500)
        self.assertEqual(len(tg.fake_calls()), before)

    def test_the_key_is_rotated_there_while_the_service_runs(self):
        transit = self.engine()
        tg = self.service(transit)
        org = self.byok(tg)
        transit.keys["tollgate"].rotate()
        beta = self.byok(tg, "beta", "byok-2")
        self.assertEqual(tg.sql(f"SELECT kek_ver FROM tollgate_vault.org_dek WHERE org_id = '{beta.id}'"), [["2"]])
        self.assertEqual(sorted(tg.sql("SELECT kek_ver FROM tollgate_vault.kek_canary")), [["1"], ["2"]])
        tg.restart()
        self.assertEqual(self.ask(tg, org).status, 200)
        self.assertEqual(self.ask(tg, beta, "byok-2").status, 200)
        # V11: a version that is needed is refused there now: it is named, and nothing serves meanwhile.
        tg.stop()
        transit.keys["tollgate"].min_decryption_version = 2
        self.refused(tg, {}, transit_id(tg), "version 1", "min_decryption_version")
        transit.keys["tollgate"].min_decryption_version = 1
        tg.start()
        self.assertEqual(self.ask(tg, org).status, 200)
        # One that nothing needs may be gone.
        tg.stop()
        tg.sql(f"DELETE FROM tollgate_vault.org_dek WHERE org_id = '{beta.id}'")
        del transit.keys["tollgate"].versions[1:]
        tg.sql("UPDATE tollgate_vault.kek_canary SET created_at = created_at - interval '1 day' WHERE kek_ver = 2")
        tg.start()
        self.assertEqual(self.ask(tg, org).status, 200)

    def test_from_local_keys_to_transit_and_back(self):
        transit = self.engine()
        tg = self.service(transit, start=False, master=True)
        there = {k: tg.env.pop(k) for k in list(tg.env) if "TRANSIT" in k}
        tg.start()
        org = self.byok(tg)
        local = tg.sql("SELECT kek_id FROM tollgate_vault.org_dek")[0][0]
        self.assertEqual(transit.requests, [])
        # Both: the local key opens what it wrapped, transit wraps what is new.
        tg.restart(**there)
        self.assertEqual(self.ask(tg, org).status, 200)
        beta = self.byok(tg, "beta", "byok-2")
        remote = tg.sql(f"SELECT kek_id FROM tollgate_vault.org_dek WHERE org_id = '{beta.id}'")[0][0]
        self.assertNotEqual(remote, local)
        done = tg.cli("vault", "status", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        keys = {k["kek_id"]: k for k in json.loads(done.stdout)["data"]["master_keys"]}
        self.assertEqual((keys[local]["current"], keys[local]["configured"]), (False, True))
        self.assertEqual((keys[remote]["current"], keys[remote]["configured"]), (True, True))
        # The way back: transit opens what it wrapped, the local key wraps.
        tg.restart(TOLLGATE_VAULT_TRANSIT_CURRENT="false")
        gamma = self.byok(tg, "gamma", "byok-3")
        self.assertEqual(tg.sql(f"SELECT kek_id FROM tollgate_vault.org_dek WHERE org_id = '{gamma.id}'"), [[local]])
        self.assertEqual(self.ask(tg, beta, "byok-2").status, 200)
        # Either of the two missing while it is needed: refused by name.
        tg.stop()
        without = {k: None for k in tg.env if "TRANSIT" in k}
        self.refused(tg, without, remote, "TOLLGATE_VAULT_TRANSIT_URL")
        self.refused(tg, {"TOLLGATE_MASTER_KEY_FILE": None, "TOLLGATE_VAULT_TRANSIT_CURRENT": None}, local)

    def test_a_namespace_and_another_mount(self):
        transit = FakeTransit(mount="team/transit")
        self.addCleanup(transit.close)
        tg = self.service(transit, TOLLGATE_VAULT_TRANSIT_MOUNT="team/transit", TOLLGATE_VAULT_TRANSIT_NAMESPACE="eu/prod")
        self.byok(tg)
        self.assertTrue(all(r.namespace == "eu/prod" for r in transit.requests))
        self.assertIn("/v1/team/transit/encrypt/tollgate", {r.path for r in transit.requests})


class Operating(TransitCase):
    """`tollgate vault rewrap` and `rotate` with a key that is kept elsewhere."""

    def wrapped_by(self, tg):
        return {tuple(row) for row in tg.sql("SELECT kek_id, kek_ver FROM tollgate_vault.org_dek")}

    def vault(self, tg, *args, status=0):
        done = tg.cli("vault", *args, "--json")
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_v10_rewrapped_there_to_its_new_version_and_back(self):
        transit = self.engine()
        tg = self.service(transit, start=False, master=True, TOLLGATE_VAULT_HEARTBEAT_MS="200")
        there = {k: tg.env.pop(k) for k in list(tg.env) if "TRANSIT" in k}
        tg.start()
        orgs = [self.byok(tg, f"org-{i}", f"byok-{i}") for i in range(3)]
        local = self.wrapped_by(tg)

        def all_served():
            for i, org in enumerate(orgs):
                self.assertEqual(self.ask(tg, org, f"byok-{i}").status, 200)

        tg.restart(**there)
        self.assertEqual(self.vault(tg, "rewrap")["data"]["rewrapped"], 4)
        remote = self.wrapped_by(tg)
        self.assertEqual({ver for _, ver in remote}, {"1"})
        self.assertFalse(remote & local)
        all_served()
        tg.restart(TOLLGATE_MASTER_KEY_FILE="")  # needed no more
        all_served()
        # A new version there: what stands moves to it, and the old one may go.
        transit.keys["tollgate"].rotate()
        self.assertEqual(self.vault(tg, "rewrap")["data"]["rewrapped"], 4)
        self.assertEqual({ver for _, ver in self.wrapped_by(tg)}, {"2"})
        transit.keys["tollgate"].min_decryption_version = 2
        tg.restart()
        all_served()
        # Data keys rotate under it, and their plaintext never stands in the database.
        self.vault(tg, "rotate", "--all")
        all_served()
        # While the engine is away nothing is changed, and nothing is called damaged.
        before = tg.sql("SELECT org_id, dek_ver, wrapped FROM tollgate_vault.org_dek ORDER BY 1, 2")
        transit.mode = "sealed"
        for command in (("rotate", "--all"), ("rewrap",)):
            done = tg.cli("vault", *command, "--json")
            self.assertNotEqual(done.returncode, 0, done.stdout)
            self.assertNotIn("vault_auth", done.stdout + done.stderr)
        self.assertEqual(tg.sql("SELECT org_id, dek_ver, wrapped FROM tollgate_vault.org_dek ORDER BY 1, 2"), before)
        self.assertEqual(tg.sql("SELECT count(*) FROM tollgate.secret WHERE unreadable IS NOT NULL"), [["0"]])
        transit.mode = "ok"
        # The way back.
        master = os.path.join(tg.dir, "master.key")
        tg.stop()
        tg.env.update(TOLLGATE_MASTER_KEY_FILE=master, TOLLGATE_VAULT_TRANSIT_CURRENT="false")
        tg.start()
        self.vault(tg, "rewrap")
        self.assertEqual(self.wrapped_by(tg), local)
        tg.stop()
        for name in [k for k in tg.env if "TRANSIT" in k]:
            del tg.env[name]
        tg.start()
        all_served()


class Settings(TransitCase):
    def test_v17_what_cannot_be_right_is_refused_by_name(self):
        transit = self.engine()
        tg = self.service(transit, start=False)
        file = os.path.join(tg.dir, "token")
        with open(file, "w") as f:
            f.write(transit.token + "\n")
        os.chmod(file, 0o644)
        none = {"TOLLGATE_VAULT_TRANSIT_TOKEN": None}
        for env, *words in (
                ({"TOLLGATE_VAULT_TRANSIT_KEY": None}, "TOLLGATE_VAULT_TRANSIT_KEY"),
                ({"TOLLGATE_VAULT_TRANSIT_URL": None}, "without TOLLGATE_VAULT_TRANSIT_URL"),
                (none, "TOLLGATE_VAULT_TRANSIT_TOKEN"),
                ({**none, "TOLLGATE_VAULT_TRANSIT_TOKEN_FILE": file}, file),
                ({**none, "TOLLGATE_VAULT_TRANSIT_TOKEN_FILE": file + "-none"}, file + "-none"),
                ({"TOLLGATE_VAULT_TRANSIT_TOKEN": "two words"}, "TOLLGATE_VAULT_TRANSIT_TOKEN"),
                ({"TOLLGATE_VAULT_TRANSIT_URL": "http://10.0.0.1:8200"}, "loopback"),
                ({"TOLLGATE_VAULT_TRANSIT_URL": "http://vault.example:8200"}, "TOLLGATE_VAULT_TRANSIT_URL"),
                ({"TOLLGATE_VAULT_TRANSIT_URL": "https://u:p@vault.example"}, "TOLLGATE_VAULT_TRANSIT_URL"),
                ({"TOLLGATE_VAULT_TRANSIT_URL": "https://169.254.169.254"}, "TOLLGATE_VAULT_TRANSIT_URL"),
                ({"TOLLGATE_VAULT_TRANSIT_KEY": "a/../b"}, "TOLLGATE_VAULT_TRANSIT_KEY"),
                ({"TOLLGATE_VAULT_TRANSIT_MOUNT": "../sys"}, "TOLLGATE_VAULT_TRANSIT_MOUNT"),
                ({"TOLLGATE_VAULT_TRANSIT_NAMESPACE": "a b"}, "TOLLGATE_VAULT_TRANSIT_NAMESPACE"),
                ({"TOLLGATE_VAULT_TRANSIT_CA_FILE": file + "-none"}, "TOLLGATE_VAULT_TRANSIT_CA_FILE"),
                ({"TOLLGATE_VAULT_TRANSIT_CURRENT": "false"}, "TOLLGATE_MASTER_KEY"),
                ({"TOLLGATE_VAULT_TRANSIT_TIMEOUT_MS": "5"}, "vault_transit_timeout_ms".upper())):
            said = self.refused(tg, env, *words)
            self.assertNotIn(transit.token, said)
        self.assertEqual(transit.requests, [])


class Failing(TransitCase):
    """V18, F50: while the engine is away what is cached serves to the end of its time, and nothing storms it."""

    TTL = 3 * harness.SLOW

    def cached_then_refused(self, transit, fail):
        """Serve, fail, serve until the TTL, refuse with Retry-After, mend, serve. Returns the time it failed."""
        tg = self.service(transit, TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS=self.TTL, TOLLGATE_WORKERS="1")
        org = self.byok(tg)
        unwrapped = max(r.at for r in transit.requests if "decrypt" in r.path)
        transit.clear()
        fail()
        failed = time.monotonic()
        served = 0
        while time.monotonic() < unwrapped + self.TTL * 0.6:
            self.assertEqual(self.ask(tg, org).status, 200)
            served += 1
        self.assertGreater(served, 5)
        refusal = harness.wait_until(lambda: next((a for a in [self.ask(tg, org)] if a.status != 200), None), self.TTL + 8)
        self.assertGreater(time.monotonic(), unwrapped + self.TTL * 0.9)
        self.assertEqual(refusal.status, 503, refusal)
        self.assertGreaterEqual(int(refusal.headers["Retry-After"]), 1)
        self.assertEqual(refusal.json["tollgate"]["reason"], "vault_unavailable")
        before = len(tg.fake_calls())
        for _ in range(30):
            self.assertEqual(self.ask(tg, org).status, 503)
        self.assertEqual(len(tg.fake_calls()), before)  # neither another key nor the platform's
        self.assertTrue(tg.ready())  # everybody's engine is the same: no other replica would do better
        self.assertEqual(self.metric(tg, "tollgate_vault_transit_up"), 0)
        return tg, org, failed

    def no_storm(self, transit, failed):
        """Pauses double from half a second: few requests however many calls came."""
        spent = time.monotonic() - failed
        allowed = 4 + 2 * spent  # renewal of the token and the data key, at half a second in the beginning
        self.assertLessEqual(len(transit.requests), allowed, [r[:4] for r in transit.requests])
        self.assertLessEqual(transit.most_at_once, 2)

    def mended(self, transit, tg, org):
        transit.mode = "ok"
        harness.wait_until(lambda: self.ask(tg, org).status == 200, 40, "calls to be served again")
        self.assertEqual(self.metric(tg, "tollgate_vault_transit_up"), 1)

    def test_v18_sealed(self):
        transit = self.engine()
        tg, org, failed = self.cached_then_refused(transit, lambda: setattr(transit, "mode", "sealed"))
        self.no_storm(transit, failed)
        self.mended(transit, tg, org)

    def test_v18_503(self):
        transit = self.engine()
        tg, org, failed = self.cached_then_refused(transit, lambda: setattr(transit, "mode", "maintenance"))
        self.no_storm(transit, failed)
        self.mended(transit, tg, org)

    def test_v18_slow(self):
        transit = self.engine()
        transit.slow_s = 30
        tg, org, failed = self.cached_then_refused(transit, lambda: setattr(transit, "mode", "silent"))
        self.assertLess(len(transit.requests), 4 + 2 * (time.monotonic() - failed))
        transit.gone.set()
        self.mended(transit, tg, org)

    def test_v18_away(self):
        transit = self.engine()
        tg, org, failed = self.cached_then_refused(transit, transit.stop)
        transit.start()
        self.mended(transit, tg, org)

    def test_v18_garbage_redirects_and_too_much(self):
        transit = self.engine()
        tg = self.service(transit, TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS="1", TOLLGATE_WORKERS="1")
        org = self.byok(tg)
        for mode in ("garbage", "strange", "html", "redirect", "busy", "echo"):
            transit.mode = mode
            harness.wait_until(lambda: self.ask(tg, org).status == 503, 20, mode)
            self.mended(transit, tg, org)
        self.assertEqual(transit.count("elsewhere"), 0)
        with open(tg.log) as f:
            self.assertNotIn(transit.token, f.read())  # the echo's words are not ours

    def test_v18_many_orgs_at_once_do_not_storm(self):
        transit = self.engine()
        tg = self.service(transit, TOLLGATE_WORKERS="2")
        orgs = [self.byok(tg, f"org-{i}", f"byok-{i}") for i in range(8)]
        tg.stop()
        transit.clear()
        tg.start()
        for _ in range(10):
            for i, org in enumerate(orgs):
                self.assertEqual(self.ask(tg, org, f"byok-{i}").status, 200)
        # Unwrapped once per org, whichever worker asked; and the pepper, the canary, the token.
        self.assertLessEqual(transit.count("decrypt"), len(orgs) * 2 + 4)
        self.assertEqual(transit.count("encrypt"), 0)
        tg.stop()
        tg.start()
        transit.mode = "sealed"
        transit.clear()
        for _ in range(20):
            for i, org in enumerate(orgs):
                self.assertEqual(self.ask(tg, org, f"byok-{i}").status, 503)
        self.assertLessEqual(len(transit.requests), 12, [r[:4] for r in transit.requests])

    def test_v18_postgres_and_the_engine_away_together(self):
        transit = self.engine()
        with harness.Postgres() as postgres:
            with Tollgate(postgres=postgres, env={**transit.env(), "TOLLGATE_MASTER_KEY_FILE": None, "TOLLGATE_PG_WAIT_MS": "300",
                                                  "TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS": "1"}) as tg:
                org = self.byok(tg)
                for _ in range(8):
                    self.assertEqual(self.ask(tg, org).status, 200)
                transit.mode = "sealed"
                postgres.stop()
                harness.wait_until(lambda: not tg.ready(), 10)
                # Nobody can say what stands: what is known serves for TOLLGATE_STALE_SECONDS, past the TTL.
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    self.assertEqual(self.ask(tg, org).status, 200)
                postgres.start()
                harness.wait_until(tg.ready, 20)
                harness.wait_until(lambda: self.ask(tg, org).status == 503, 10)
                transit.mode = "ok"
                harness.wait_until(lambda: self.ask(tg, org).status == 200, 40)


class Boot(TransitCase):
    def reasons(self, tg):
        return " ".join(tg.get("/readyz").json["reasons"])

    def test_v18_boot_with_the_engine_away_is_not_ready_and_never_ends(self):
        transit = self.engine()
        tg = self.service(transit, start=False)
        for fail, words in ((transit.stop, "cannot be reached"), (lambda: setattr(transit, "mode", "sealed"), "sealed"),
                            (lambda: setattr(transit, "mode", "garbage"), "not that of a transit engine")):
            fail()
            tg.start(ready=False)
            harness.wait_until(lambda: words in self.reasons(tg), 10, words)
            self.assertEqual(tg.get("/readyz").status, 503)
            self.assertIsNone(tg.process.poll())
            self.assertEqual(tg.sql("SELECT count(*) FROM tollgate_vault.org_dek"), [["0"]])  # nothing was made up
            tg.stop()
            if transit.server is None:
                transit.start()
            transit.mode = "ok"
        tg.start()
        self.byok(tg)
        # And again, with keys that are needed.
        tg.stop()
        transit.mode = "sealed"
        tg.start(ready=False)
        harness.wait_until(lambda: "sealed" in self.reasons(tg), 10)
        transit.mode = "ok"
        harness.wait_until(tg.ready, 40)

    def test_v18_a_wrong_key_ends_the_start(self):
        transit = self.engine()
        tg = self.service(transit)
        self.byok(tg)
        tg.stop()
        kek = transit_id(tg)
        # Another key of the same name: another engine, or one restored from nothing.
        other = self.engine()
        self.refused(tg, other.env(), kek, "canary", "TOLLGATE_VAULT_TRANSIT_KEY")
        # The key is gone.
        empty = self.engine()
        empty.keys["elsewhere"] = empty.keys.pop("tollgate")
        self.refused(tg, empty.env(key="tollgate"), kek)
        # Another name is another key.
        self.refused(tg, {**empty.env(), }, kek, "wrapped by master key")
        tg.start()

    def test_v17_v18_a_damaged_canary_ends_the_start(self):
        transit = self.engine()
        tg = self.service(transit)
        tg.stop()
        tg.sql("UPDATE tollgate_vault.kek_canary SET sealed = convert_to('vault:v2:AAAA', 'UTF8')")
        self.refused(tg, {}, "canary")


class Tokens(TransitCase):
    def token_file(self, tg, token):
        path = os.path.join(tg.dir, "token")
        with open(path + ".new", "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(token + "\n")
        os.rename(path + ".new", path)
        return path

    def service_with_file(self, transit, token, **env):
        tg = self.service(transit, start=False, TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS="1", TOLLGATE_WORKERS="1", **env)
        del tg.env["TOLLGATE_VAULT_TRANSIT_TOKEN"]
        tg.env["TOLLGATE_VAULT_TRANSIT_TOKEN_FILE"] = self.token_file(tg, token)
        tg.start()
        return tg

    def test_v18_a_token_is_renewed_before_it_ends(self):
        transit = self.engine()
        transit.token = transit.add_token(ttl=2 * harness.SLOW)
        tg = self.service(transit, start=False, TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS="1")
        token = transit.tokens[transit.token]
        token.ends = time.monotonic() + 20
        tg.start()
        org = self.byok(tg)
        harness.wait_until(lambda: token.renewed >= 4, 20)
        self.assertEqual(self.ask(tg, org).status, 200)
        self.assertFalse([r for r in transit.requests if r.status == 403])

    def test_v18_an_expired_token_is_replaced_from_its_file(self):
        transit = self.engine()
        tg = self.service_with_file(transit, transit.token)
        org = self.byok(tg)
        # It ends, and nobody renewed the file: refused, and the engine is not stormed with it.
        old, transit.token = transit.token, transit.add_token()
        del transit.tokens[old]
        harness.wait_until(lambda: self.ask(tg, org).status == 503, 10)
        transit.clear()
        for _ in range(30):
            self.assertEqual(self.ask(tg, org).status, 503)
        self.assertLessEqual(len(transit.requests), 8)
        # A fresh one is found without a word from anybody.
        self.token_file(tg, transit.token)
        harness.wait_until(lambda: self.ask(tg, org).status == 200, 40)
        self.assertEqual({r.token for r in transit.requests if r.status == 200}, {transit.token})

    def test_v18_the_token_file_is_read_on_hup(self):
        transit = self.engine()
        tg = self.service_with_file(transit, transit.token)
        org = self.byok(tg)
        fresh = transit.add_token()
        transit.clear()
        self.token_file(tg, fresh)
        tg.process.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: self.ask(tg, org).status == 200 and any(r.token == fresh for r in transit.requests), 20)
        # A file that is open to others, or empty, is not taken; the earlier token stays.
        path = tg.env["TOLLGATE_VAULT_TRANSIT_TOKEN_FILE"]
        os.chmod(path, 0o644)
        tg.process.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: any("kept as it was" in str(line) for line in tg.log_lines()), 10)
        self.assertEqual(self.ask(tg, org).status, 200)

    def test_v18_a_token_that_cannot_be_renewed_is_told_once(self):
        transit = self.engine()
        transit.token = transit.add_token(ttl=3600, renewable=False)
        tg = self.service(transit)
        harness.wait_until(lambda: any("cannot be renewed" in str(line.get("msg", line.get("message")))
                                       for line in tg.log_lines()), 10)
        self.assertEqual(transit.count("renew-self"), 1)


class Canary(TransitCase):
    """V13 to V15 for the token and for data keys on their way."""

    def test_v15_the_token_is_in_no_log_and_no_answer(self):
        transit = self.engine()
        tg = self.service(transit, TOLLGATE_VAULT_DATA_KEY_TTL_SECONDS="1", TOLLGATE_WORKERS="1")
        org = self.byok(tg)
        said = []
        for mode in ("echo", "sealed", "garbage", "ok"):
            transit.mode = mode
            harness.wait_until(lambda: self.ask(tg, org).status == (200 if mode == "ok" else 503), 40)
            said += [str(self.ask(tg, org)), str(tg.get("/readyz").body), str(tg.get("/metrics", surface="admin").body)]
        for args in (("check-config", "--json"), ("check-config",), ("vault", "status", "--json")):
            done = tg.cli(*args)
            said += [done.stdout, done.stderr]
        dump = subprocess.run(["pg_dump", "-d", f"{tg.cluster} dbname={tg.database}"], capture_output=True, text=True, timeout=120)
        self.assertEqual(dump.returncode, 0, dump.stderr)
        with open(tg.log, errors="replace") as f:
            said += [dump.stdout, f.read()]
        for text in said:
            self.assertNotIn(transit.token, text)
            for plain in transit.plain:
                if not plain.startswith(b"tollgate master key canary"):
                    for form in (base64.b64encode(plain).decode(), plain.hex()):
                        self.assertNotIn(form, text)

    def test_v14_the_token_is_not_in_the_environment_that_is_shown(self):
        transit = self.engine()
        tg = self.service(transit)
        try:
            with open(f"/proc/{tg.process.pid}/environ", "rb") as f:
                self.assertNotIn(transit.token.encode(), f.read())
        except PermissionError:
            pass  # not to be looked at is better still

    @unittest.skipIf(harness.SAN, "a sanitizer keeps what was freed")
    def test_v13_neither_token_nor_data_key_is_left_outside_the_secure_heap(self):
        from test_canary import memory_hits_or_skip
        transit = self.engine()
        transit.token = transit.add_token(ttl=600)
        tg = self.service(transit)
        for i in range(5):
            self.byok(tg, f"org-{i}", f"byok-{i + 10}")
        self.assertIn("decrypt", transit.requests[-1].path)  # nothing came after that overwrote its traces
        time.sleep(1.2)
        keys = [p for p in transit.plain if not p.startswith(b"tollgate master key canary")]
        self.assertGreaterEqual(len(keys), 6)
        texts = [base64.b64encode(p).decode()[:40] for p in keys]
        self.assertEqual(memory_hits_or_skip(self, tg.process.pid, texts), {})  # nowhere at all
        # As they are, in the secure heap alone; and they do stand there, so that this test looks at the right place.
        self.assertIn(transit.token, memory_hits_or_skip(self, tg.process.pid, [transit.token]))
        self.assertEqual(memory_hits_or_skip(self, tg.process.pid, [transit.token, *keys], but_secure_heap=True), {})


if __name__ == "__main__":
    unittest.main()
