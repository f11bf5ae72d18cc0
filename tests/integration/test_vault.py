"""Authentication on the wire, master keys at start, secrets at rest."""
import base64
import os
import re
import secrets
import subprocess
import time
import unittest

import harness


def scrambled(key):
    """The same public id and a right checksum over another secret: well-formed, never issued."""
    import zlib
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    body = key[:12] + "".join(secrets.choice(digits) for _ in range(32))
    crc, tail = zlib.crc32(body.encode()), ""
    for _ in range(6):
        tail = digits[crc % 62] + tail
        crc //= 62
    return body + tail


class Authentication(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits=None, platform=False)

    def models(self, headers):
        return self.tg.get("/v1/models", headers=headers)

    def metric(self, name):
        text = self.tg.get("/metrics", surface="admin").body.decode()
        return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M).group(1))

    def test_every_header_carries_a_key(self):
        key = self.org.key
        for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"},
                        {"x-api-key": key}, {"api-key": key}, {"x-goog-api-key": key},
                        {"Authorization": f"Bearer {key}", "x-api-key": key}):
            self.assertStatus(self.models(headers), 200)

    def test_no_or_bad_key(self):
        key = self.org.key
        unknown = scrambled("tg_00000000_" + key[12:])
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Basic {key}"},
                        {"Authorization": key[:-1] + ("1" if key.endswith("0") else "0")}, {"Authorization": "Bearer tg_nothing"},
                        {"x-api-key": ""}, {"x-api-key": "sk-fake-0000"}, {"x-api-key": key[:-1]},
                        {"x-api-key": key + "0"}, {"x-api-key": key.swapcase()},
                        {"x-api-key": scrambled(key)}, {"x-api-key": unknown},
                        {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}):
            answer = self.models(headers)
            self.assertStatus(answer, 401)
            self.assertEqual(answer.json["error"]["code"], "invalid_api_key")
            self.assertTrue(answer.json["tollgate"]["request_id"].startswith("req_"))
            self.assertNotIn(key[12:44], answer.body.decode())

    def test_a12_two_different_keys_or_one_header_twice(self):
        key, other = self.org.key, scrambled(self.org.key)
        answer = self.models({"Authorization": f"Bearer {key}", "x-api-key": other})
        self.assertStatus(answer, 400)
        for name in ("Authorization: Bearer ", "x-api-key: "):
            got, _ = self.tg.raw((f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{name}{key}\r\n{name}{key}\r\n"
                                  "Connection: close\r\n\r\n").encode())
            self.assertTrue(got.startswith(b"HTTP/1.1 400 "), got)

    def test_a03_garbage_is_answered_at_once_and_never_looked_up(self):
        before = self.metric("tollgate_auth_lookups_total")
        for text in ("' OR 1=1 --", "%", "tg_%_%", "x' UNION SELECT pg_sleep(5) --", "a" * 7000,
                     "tg_" + "0" * 47, self.org.key[:-1] + ("0" if self.org.key[-1] != "0" else "1")):
            began = time.monotonic()
            self.assertStatus(self.models({"Authorization": f"Bearer {text}"}), 401)
            self.assertLess(time.monotonic() - began, 3 * harness.SLOW)
        self.assertEqual(self.metric("tollgate_auth_lookups_total"), before)

    def test_unknown_keys_are_looked_up_once_a_second(self):
        unknown = scrambled("tg_" + "".join(secrets.choice("0123456789") for _ in range(8)) + self.org.key[11:])
        before, began = self.metric("tollgate_auth_lookups_total"), time.monotonic()
        for _ in range(20):
            self.assertStatus(self.models({"x-api-key": unknown}), 401)
        # Each of the two workers once, and once more for each second that passed.
        self.assertLessEqual(self.metric("tollgate_auth_lookups_total") - before, 2 + 2 * int(time.monotonic() - began))

    def test_scopes(self):
        admin = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "a", "role": "admin", "scopes": ["admin"]})["key"]
        self.assertStatus(self.tg.get("/v1/models", admin), 403)
        self.assertEqual(self.org.admin("GET", "", token=admin)[0], 200)
        self.assertEqual(self.org.admin("GET", "", token=self.org.key)[0], 403)
        self.assertEqual(self.org.admin("GET", "", token=None)[0], 401)
        self.assertEqual(self.org.admin("GET", "", token="wrong-admin-token-for-tests")[0], 401)

    def test_a05_a_revoked_key_ends_within_two_seconds(self):
        made = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "r"})
        for _ in range(8):  # known to both workers
            self.assertStatus(self.tg.get("/v1/models", made["key"]), 200)
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{made['id']}")
        self.tg.settled(2)
        for _ in range(8):  # connections go to either worker
            self.assertStatus(self.tg.get("/v1/models", made["key"]), 401)

    def test_a06_revoked_though_the_listener_was_cut_off(self):
        made = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "r"})
        self.assertStatus(self.tg.get("/v1/models", made["key"]), 200)
        self.tg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE '%listen%'")
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{made['id']}")
        self.tg.settled(10)
        for _ in range(8):
            self.assertStatus(self.tg.get("/v1/models", made["key"]), 401)

    def test_expiry(self):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        made = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "e", "expires_at": at})
        harness.wait_until(lambda: self.tg.get("/v1/models", made["key"]).status == 401, 6)
        self.assertEqual(self.tg.must("GET", f"/orgs/acme/api-keys/{made['id']}")["status"], "expired")


class Away(unittest.TestCase):
    """Known keys serve on while Postgres is away."""

    def test_known_keys_serve_unknown_ones_wait(self):
        with harness.Postgres() as postgres, \
                harness.Tollgate(postgres=postgres, env={"TOLLGATE_PG_WAIT_MS": 300}) as tg:
            org = tg.setup_org("acme", credits=None, platform=False)
            other = tg.must("POST", "/orgs/acme/api-keys", {"name": "never used"})["key"]
            tg.settled()
            for _ in range(16):
                self.assertEqual(tg.get("/v1/models", org.key).status, 200)
            postgres.stop()
            harness.wait_until(lambda: not tg.ready(), 10)
            for _ in range(8):
                self.assertEqual(tg.get("/v1/models", org.key).status, 200)
            answer = tg.get("/v1/models", other)
            self.assertEqual(answer.status, 503, answer)
            postgres.start()
            harness.wait_until(tg.ready, 20)
            harness.wait_until(lambda: tg.get("/v1/models", other).status == 200, 10)


class MasterKeys(unittest.TestCase):
    """V17: the process refuses to start with a master key that cannot be right, and says which."""

    def refused(self, tg, env, *words, status=2):
        settings = {**tg.env, **env}
        settings = {k: v for k, v in settings.items() if v is not None}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TOLLGATE_")}
        done = subprocess.run([os.path.join(harness.BUILD, "tollgate"), "serve"], capture_output=True, text=True,
                              env={**clean, **settings}, cwd=tg.dir, timeout=30 * harness.SLOW)
        self.assertEqual(done.returncode, status, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return done.stderr

    def test_bad_keys(self):
        with harness.Tollgate(start=False) as tg:
            file = tg.env["TOLLGATE_MASTER_KEY_FILE"]
            no_file = {"TOLLGATE_MASTER_KEY_FILE": None}
            self.refused(tg, no_file, "TOLLGATE_MASTER_KEY")
            for key in (b"short", bytes(32), b"\x42" * 32, bytes(range(32)), bytes(33)):
                text = base64.b64encode(key).decode()
                words = self.refused(tg, {**no_file, "TOLLGATE_MASTER_KEY": text}, "TOLLGATE_MASTER_KEY")
                self.assertNotIn(text, words)
            self.refused(tg, {**no_file, "TOLLGATE_MASTER_KEY": "not base64"}, "TOLLGATE_MASTER_KEY")
            os.chmod(file, 0o644)
            self.refused(tg, {}, file)
            os.chmod(file, 0o600)
            self.refused(tg, {"TOLLGATE_ADMIN_TOKEN": "short"}, "TOLLGATE_ADMIN_TOKEN")

    def test_the_wrong_key_for_this_database(self):
        with harness.Tollgate() as tg:
            org = tg.setup_org("acme", credits=None, platform=False)
            tg.stop()
            first = tg.env["TOLLGATE_MASTER_KEY_FILE"]
            kek = tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary")[0][0]
            new = base64.b64encode(secrets.token_bytes(32)).decode()
            changed = {"TOLLGATE_MASTER_KEY_FILE": None, "TOLLGATE_MASTER_KEY": new}
            self.refused(tg, changed, kek, "TOLLGATE_MASTER_KEYS_OLD")
            # With the earlier one beside it, everything opens and the new one wraps from now on.
            with open(first) as f:
                old = f.read().strip()
            tg.env = {k: v for k, v in tg.env.items() if k != "TOLLGATE_MASTER_KEY_FILE"}
            tg.env.update(TOLLGATE_MASTER_KEY=new, TOLLGATE_MASTER_KEYS_OLD=old)
            tg.start()
            self.assertEqual(tg.get("/v1/models", org.key).status, 200)
            self.assertEqual(len(tg.sql("SELECT kek_id FROM tollgate_vault.kek_canary")), 2)
            beta = tg.setup_org("beta", credits=None, platform=False)
            tg.setup_profile(beta, "main")
            self.assertEqual(tg.sql("SELECT count(*) FROM tollgate_vault.org_dek d WHERE d.kek_id <> "
                                    f"'{kek}'"), [["1"]])
            done = tg.cli("vault", "status", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(kek, done.stdout)
            # V14: neither key is in what the system shows of the process.
            try:
                with open(f"/proc/{tg.process.pid}/environ", "rb") as f:
                    environ = f.read()
            except PermissionError:
                return  # shown to nobody but root
            self.assertNotIn(new.encode(), environ)
            self.assertNotIn(old.encode(), environ)
            self.assertNotIn(harness.ADMIN_TOKEN.encode(), environ)

    def test_a_damaged_canary_or_pepper(self):
        for what, word in (("UPDATE tollgate_vault.kek_canary SET sealed = set_byte(sealed, 20, "
                            "get_byte(sealed, 20) # 1)", "canary"),
                           ("UPDATE tollgate.secret SET sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1) "
                            "WHERE field = 'pepper'", "pepper")):
            with harness.Tollgate() as tg:
                tg.stop()
                tg.sql(what)
                self.refused(tg, {}, word)


class AtRest(harness.Case):
    """V15: nothing that was sealed or hashed stands anywhere in the clear."""

    def test_no_canary_in_dump_or_log(self):
        org = self.tg.setup_org("acme", credits=None, platform=False)
        secret = "fake-provider-secret-" + secrets.token_hex(12)
        profile = self.tg.setup_profile(org, "main", secret=secret)
        self.assertEqual(profile["secret"]["masked"], "…" + secret[-4:])
        dump = subprocess.run(["pg_dump", "-d", f"{self.tg.cluster} dbname={self.tg.database}"],
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(dump.returncode, 0, dump.stderr)
        with open(self.tg.env["TOLLGATE_MASTER_KEY_FILE"]) as f:
            master = f.read().strip()
        with open(self.tg.log) as f:
            log = f.read()
        for text in (dump.stdout, log):
            for canary in (secret, secret.encode().hex(), org.key, org.key[12:44], master,
                           base64.b64decode(master).hex()):
                self.assertNotIn(canary, text)

    def test_equal_secrets_of_two_orgs_cannot_be_linked(self):
        prints = []
        for slug in ("one", "two"):
            org = self.tg.setup_org(slug, credits=None, platform=False)
            prints.append(self.tg.setup_profile(org, "main", secret="fake-shared-secret-0001")["secret"]["fingerprint"])
        self.assertNotEqual(*prints)

    def test_a_moved_secret_does_not_open(self):
        org = self.tg.setup_org("movers", credits="5.00")
        for name in ("a", "b"):
            self.tg.setup_profile(org, name, secret=f"fake-secret-of-{name}-000000")
        self.assertStatus(self.tg.chat("hello", key=org.key), 200)
        self.tg.sql("WITH two AS (SELECT id, sealed, lead(sealed) OVER w AS next, lag(sealed) OVER w AS prev "
                    f"FROM tollgate.secret WHERE org_id = '{org.id}' AND field = 'api_key' WINDOW w AS (ORDER BY id)) "
                    "UPDATE tollgate.secret s SET sealed = COALESCE(two.next, two.prev) FROM two WHERE s.id = two.id")
        self.tg.restart()  # nothing is cached
        before = len(self.tg.fake_calls())
        answer = self.tg.chat("hello", key=org.key)
        self.assertGreaterEqual(answer.status, 500, answer)
        self.assertEqual(len(self.tg.fake_calls()), before)  # neither a foreign key nor the platform's was used
