"""Attacks on who calls (security.md 2.6, 7): what is sent for a key, what is put into a body, what comes back."""
import binascii
import math
import statistics
import threading
import time
import unittest
import uuid

import harness
import test_access
from harness import MODEL, SLOW, wait_until

CANARY = "fake-canary-secret-0123456789"
FORBIDDEN = ("role", "org_id", "balance", "id", "created_at", "spend", "hash", "settings", "created_by", "member_id")
EACH = 8


class Base(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")

    @classmethod
    def key(cls, token=harness.ADMIN_TOKEN, org="acme", **more):
        return cls.tg.must("POST", f"/orgs/{org}/api-keys", {"name": "k", **more}, token=token)

    def ask(self, method, path, body=None, token=harness.ADMIN_TOKEN):
        return self.tg.admin(method, path, body, token=token)

    def metric(self, name):
        text = self.tg.get("/metrics", surface="admin").body.decode()
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith(name))


class Callers(Base):
    def attack(self, headers, surface):
        """Raw, since a client library would mend it: (status, seconds)."""
        path = "/v1/models" if surface == "data" else "/admin/v1/orgs"
        began = time.monotonic()
        got, _ = self.tg.raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n", surface, 10)
        return int(got.split(b" ", 2)[1]), time.monotonic() - began

    def test_a03_g01_what_is_sent_as_a_key_never_becomes_sql(self):
        good = self.org.key.encode()
        texts = [b"'", b"%", b"' OR '1'='1", b"x' UNION SELECT pg_sleep(5)--", b"tg_'; DROP TABLE tollgate.api_key;--",
                 b"tg_%%%%%%%%_" + b"%" * 38, b"tg_________" + b"_" * 39, b"A" * 8192, b"tg_" + b"A" * 8000, good + b"'", good[:-1] + b"%",
                 good[:11] + b"'" + good[12:], good + b" " + good, b"\xff\xfe" + good, b"$1", b"\\x00", b"tg_NULL", b"null", b"0"]
        lookups, counts = self.metric("tollgate_auth_lookups_total"), self.tg.row_counts()
        for surface in ("data", "admin"):
            for text in texts:
                for name in (b"Authorization: Bearer ", b"x-api-key: ", b"api-key: ", b"x-goog-api-key: "):
                    status, took = self.attack(name + text + b"\r\n", surface)
                    self.assertIn(status, (400, 401, 431), (name, text))
                    if b"\xff" not in text and len(text) < 4000:
                        self.assertEqual(status, 401, (name, text))
                    self.assertLess(took, 1.0 * SLOW)
            self.assertEqual(self.attack(b"Authorization: Bearer a\0b\r\n", surface)[0], 400)
        # None of them was ever looked up, so nothing of them reached Postgres.
        self.assertEqual(self.metric("tollgate_auth_lookups_total"), lookups)
        self.assertEqual(self.tg.row_counts(), counts)
        self.assertStatus(self.tg.get("/v1/models", self.org.key), 200)

    def test_a09_unknown_id_and_wrong_secret_read_the_same(self):
        """The answers are the same to the letter; both cost one HMAC and one comparison. The times are shown, not judged."""
        known = self.key()["key"]
        unknown, wrong = self.forged(), self.forged(known[3:11])
        answers = []
        for key in (unknown, wrong):
            answer = self.tg.get("/v1/models", key)
            self.assertEqual(answer.status, 401)
            body = answer.json
            body["tollgate"].pop("request_id")
            answers.append((body, sorted(h.lower() for h in answer.headers.keys())))
        self.assertEqual(*answers)
        took = {unknown: [], wrong: []}
        for _ in range(200):
            for key in took:
                began = time.perf_counter()
                self.tg.get("/v1/models", key)
                took[key].append(time.perf_counter() - began)
        a, b = took[unknown], took[wrong]
        t = (statistics.mean(a) - statistics.mean(b)) / math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
        print(f"A09: t = {t:.2f} over {len(a)} pairs (unknown id, wrong secret of a known id)")

    def forged(self, public_id=None):
        """A key of the right form whose secret nobody made: drawn until its checksum, computed here, is right."""
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        made = self.key()["key"]
        for alphabet in (digits, digits[:10] + digits[36:] + digits[10:36]):
            def tail(text):
                n, out = binascii.crc32(text.encode()), ""
                for _ in range(6):
                    n, out = n // 62, alphabet[n % 62] + out
                return out
            if made.endswith(tail(made[:-6])):
                text = "tg_" + (public_id or "0aB3dE6f") + "_" + "Z9" * 16
                return text + tail(text)
        self.fail("how the checksum is written has changed")

    def test_a12_two_credentials_in_one_request(self):
        a, b = self.key()["key"], self.key()["key"]
        both = lambda *headers: self.attack("".join(h + "\r\n" for h in headers).encode(), "data")[0]
        self.assertEqual(both(f"Authorization: Bearer {a}"), 200)
        self.assertEqual(both(f"Authorization: Bearer {a}", f"x-api-key: {a}"), 200)
        for headers in ((f"Authorization: Bearer {a}", f"x-api-key: {b}"), (f"api-key: {a}", f"x-goog-api-key: {b}"),
                        (f"Authorization: Bearer {a}", f"Authorization: Bearer {a}"), (f"x-api-key: {a}", f"x-api-key: {b}"),
                        (f"Authorization: Bearer {a}", "x-api-key: "), (f"Authorization: Basic {a}", f"x-api-key: {a}")):
            self.assertEqual(both(*headers), 400, headers)

    def test_a10_no_cookie_speaks_for_anybody(self):
        """There is no session to ride on: what writes wants the key itself, wherever the page comes from."""
        counts, asked = self.tg.row_counts(), 0
        for method, path, roles in test_access.CONTROL:
            if method == "GET" or roles is test_access.ANYONE:
                continue
            for headers in ({"Cookie": f"__Host-tg_s={harness.ADMIN_TOKEN}; token={self.org.key}", "Origin": "http://evil.example"},
                            {"Cookie": f"Authorization=Bearer {harness.ADMIN_TOKEN}", "Sec-Fetch-Site": "same-origin"}):
                status, envelope = self.tg.admin(method, test_access.concrete(path, "acme")[len("/admin/v1"):], {}, token=None, headers=headers)
                self.assertEqual(status, 401, (method, path, envelope))
                asked += 1
        self.assertGreater(asked, 40)
        self.assertEqual(self.tg.row_counts(), counts)

    def test_a16_a17_g07_no_webhook_is_open(self):
        """There are none: nothing takes an event without a key, and nothing buffers one."""
        before = self.org.balance()
        for surface in ("data", "admin"):
            for path in ("/webhook", "/webhooks", "/webhooks/stripe", "/v1/webhooks", "/api/webhook", "/admin/v1/webhooks",
                         "/admin/v1/orgs/acme/webhooks", "/admin/v1/webhooks/stripe", "/payment/notify"):
                for key in (None, harness.ADMIN_TOKEN):
                    headers = {"Authorization": f"Bearer {key}"} if key else {}
                    answer = harness.request(getattr(self.tg, f"{surface}_host"), getattr(self.tg, f"{surface}_port"), "POST", path,
                                             {"type": "credit", "amount": "1000000"}, headers)
                    self.assertEqual(answer.status, 404, (surface, path))
            got, _ = self.tg.raw(b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n" + b"x" * 65536, surface, 5)
            self.assertRegex(got, rb"^HTTP/1.1 (404|413) ")
        self.assertEqual(self.org.balance(), before)

    def test_g22_nothing_is_cached_across_orgs(self):
        other = self.tg.setup_org("other")
        calls = len(self.tg.fake_calls())
        body = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": "The same words"}]}
        answers = [self.tg.chat(body, key=key) for key in (self.org.key, other.key, self.org.key)]
        self.assertEqual(len(self.tg.fake_calls()), calls + 3)
        for answer in answers:
            self.assertStatus(answer, 200)
            self.assertIn("no-store", answer.headers["Cache-Control"])
            self.assertIn("Authorization", answer.headers["Vary"])
        ids = {a.headers["x-request-id"] for a in answers}
        self.assertEqual(len(ids), 3)
        path = "/v1/generations/" + answers[1].headers["x-request-id"]
        self.assertEqual(self.tg.get(path, self.org.key).status, 404)
        self.assertEqual(self.tg.get(path, other.key).status, 200)

    def test_g09_a_callers_request_id_never_names_a_charge(self):
        before, call = self.org.balance(), f"req_{uuid.uuid4()}"
        answers = [self.tg.chat("Hello", key=self.org.key, headers={"x-request-id": call}) for _ in range(2)]
        for answer in answers:
            self.assertStatus(answer, 200)
            self.assertNotEqual(answer.headers["x-request-id"], call)
        self.assertNotEqual(*[a.headers["x-request-id"] for a in answers])
        rows = self.tg.sql("SELECT amount FROM tollgate.usage_charge WHERE call_id IN ("
                           + ",".join(f"'{a.headers['x-request-id'][4:]}'" for a in answers) + ")")
        self.assertEqual(len(rows), 2)
        self.assertEqual(before - self.org.balance(), harness.Decimal(sum(int(r[0]) for r in rows)) / 10**9)

    def test_g06_changing_a_profile_in_a_loop_moves_no_balance(self):
        org = self.tg.setup_org("loop", credits="5.00")
        stop, answers = threading.Event(), []
        name = "fake"

        def change():
            n = 0
            while not stop.is_set():
                n += 1
                self.tg.must("PATCH", f"/orgs/platform/profiles/{name}", {"priority": 100 + n % 3})
                self.tg.must("PATCH", "/orgs/loop", {"name": f"Loop {n}", "settings": {"key_max_days": 1 + n % 9}})
                self.tg.must("PATCH", f"/orgs/loop/api-keys/{org.key_id}", {"name": f"k {n}"})

        def call():
            for _ in range(15):
                answers.append(self.tg.chat("Hello there", key=org.key))
        threads = [threading.Thread(target=change, daemon=True)] + [threading.Thread(target=call, daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        try:
            for t in threads[1:]:
                t.join()
        finally:
            stop.set()
            threads[0].join()
        self.assertEqual({a.status for a in answers}, {200})
        spent = sum(harness.Decimal(a.headers["x-tollgate-cost"]) for a in answers)
        self.assertGreater(spent, 0)
        wait_until(lambda: self.tg.sql(f"SELECT count(*) FROM tollgate.lease WHERE state = 'open' AND org_id = '{org.id}'") == [["0"]])
        self.assertEqual(org.balance(), harness.Decimal("5.00") - spent)

    def test_g15_a_providers_realm_is_not_followed(self):
        with harness.FakeProvider() as trap:
            self.tg.setup_profile(self.org, "realm", models=["realm-model"], secret=CANARY)
            self.tg.wait_for_model(self.org, "realm-model")
            self.fake.control(key=CANARY, times=-1, status=401,
                              header=f"WWW-Authenticate:Bearer realm=\"http://127.0.0.1:{trap.port}/token\",service=\"x\"")
            answer = self.tg.chat({"model": "realm-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
            self.assertEqual(answer.status, 502, answer)
            self.assertIsNone(answer.headers["www-authenticate"])
            self.assertNotIn(str(trap.port), str(answer.headers) + answer.body.decode())
            self.assertEqual(trap.stats()["calls"], 0)
        # A page that resolves to us cannot speak for anybody: there is no ambient authority, whatever Host says.
        for host in ("evil.example", "localhost:4000/#@evil", "127.0.0.1:1"):
            answer = self.tg.get("/admin/v1/orgs", headers={"Host": host, "Origin": "http://evil.example", "Cookie": "session=1"},
                                 surface="admin")
            self.assertIn(answer.status, (400, 401))


class Defaults(unittest.TestCase):
    def test_g24_secrets_that_everybody_knows_do_not_start(self):
        known = ("123456", "sk-1234", "root/123456", "12345678", "admin", "changeme", "a" * 32, "12341234123412341234", "passwordpassword",
                 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        with harness.Tollgate(start=False) as tg:
            for token in known:
                done = tg.cli("serve", env={"TOLLGATE_ADMIN_TOKEN": token})
                self.assertEqual(done.returncode, 2, (token, done))
                self.assertIn("TOLLGATE_ADMIN_TOKEN", done.stderr)
                self.assertNotIn(token + " ", done.stderr.split("TOLLGATE_ADMIN_TOKEN", 1)[1])
            for master in ("A" * 43 + "=", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "c2VjcmV0"):
                done = tg.cli("serve", env={"TOLLGATE_MASTER_KEY_FILE": "", "TOLLGATE_MASTER_KEY": master})
                self.assertEqual(done.returncode, 2, (master, done))
                self.assertNotIn(master, done.stderr)


class Bodies(Base):
    def test_a02_g20_mass_assignment(self):
        """No body of any writing endpoint takes what is not its own."""
        self.tg.setup_profile(self.org, "main")
        member = self.tg.must("POST", "/orgs/acme/members", {"email": "a@example.com", "role": "developer"})
        state = lambda: self.tg.sql("SELECT (SELECT json_agg(o ORDER BY org_id) FROM tollgate.org o), (SELECT json_agg(k ORDER BY id) FROM "
                                    "tollgate.api_key k), (SELECT json_agg(p ORDER BY id) FROM tollgate.profile p), "
                                    "(SELECT json_agg(m ORDER BY id) FROM tollgate.member m)")
        self.tg.must("PUT", "/orgs/acme/profiles/main/default", {})
        before, counts, asked = state(), self.tg.row_counts(), 0
        own = {("POST", "/api-keys"): {"role"}, ("POST", "/members"): {"role"}, ("PATCH", "/members/{member}"): {"role"},
               ("PATCH", ""): {"settings"}}
        for method, path, _ in test_access.CONTROL:
            if method not in ("POST", "PUT", "PATCH"):
                continue
            mine = own.get((method, path.replace(test_access.ORG, "")), set())
            real = path.replace("{org}", "acme").replace("{profile}", "main").replace("{member}", member["id"])
            if "/api-keys/{id}" in path:
                real = real.replace("{id}", self.org.key_id)
            real = test_access.concrete(real, "acme")[len("/admin/v1"):]
            for field in FORBIDDEN:
                if field in mine:
                    continue
                for value in ("owner", 1, None, {"x": 1}):
                    with self.subTest(method=method, path=path, field=field, value=value):
                        status, envelope = self.ask(method, real, {field: value})
                        self.assertEqual(status, 400, envelope)
                        self.assertEqual((envelope["error"]["code"], envelope["error"].get("field")), ("unknown_field", field))
                        asked += 1
        self.assertGreater(asked, 300)
        self.assertEqual(state(), before)
        self.assertEqual(self.tg.row_counts(), counts)

    def test_a04_g23_parameters_of_lists_are_named_and_plain(self):
        for method, path, roles in test_access.CONTROL:
            if method != "GET" or roles is test_access.ANYONE:
                continue
            real = test_access.concrete(path, "acme")[len("/admin/v1"):]
            for query in ("q=%25%25%25%25", "search=%25_%25_%25", "name=a%25", "filter=x", "order=name;DROP"):
                status, envelope = self.ask("GET", f"{real}?{query}")
                self.assertIn(status, (400, 404), (path, query, envelope))
                if "{" not in path.replace("{org}", ""):
                    self.assertEqual(status, 400, (path, query))
        # The one that searches takes the beginning of a name, and a wildcard is no name.
        total = len(self.ask("GET", "/orgs/acme/audit?limit=200")[1]["data"])
        self.assertGreater(total, 0)
        for action in ("%25", "_", "api%25", "%25key", "a" * 65, "*", "api_key.%25", "%27"):
            began = time.monotonic()
            status, envelope = self.ask("GET", f"/orgs/acme/audit?action={action}")
            self.assertIn(status, (200, 400), envelope)
            self.assertEqual(envelope["data"] or [], [], action)
            self.assertLess(time.monotonic() - began, 2 * SLOW)

    def test_a11_g19_nothing_that_is_shown_is_a_secret(self):
        """Every GET there is, over rows that have secrets."""
        admin = self.key(role="owner", scopes=["admin", "inference"])
        dev = self.key(role="developer", token=admin["key"])
        profile = self.tg.setup_profile(self.org, "canary", secret=CANARY)
        self.tg.must("POST", f"/orgs/acme/api-keys/{dev['id']}/rotate", {"overlap_seconds": 60})
        member = self.tg.must("POST", "/orgs/acme/members", {"email": "b@example.com", "role": "auditor"})
        self.tg.must("PUT", "/orgs/acme/routes/r", {"match": {"alias": "r"}, "targets": [{"profile": "canary", "model": "x"}]})
        call = self.tg.chat("Hello", key=self.org.key)
        hashes = [row[0] for row in self.tg.sql("SELECT encode(hash, 'hex') FROM tollgate.api_key UNION ALL "
                                                "SELECT encode(sealed, 'hex') FROM tollgate.secret UNION ALL SELECT encode(sealed, 'base64') "
                                                "FROM tollgate.secret UNION ALL SELECT encode(hash, 'base64') FROM tollgate.api_key")]
        words = {"hash", "sealed", "secret_key", "token", "password", "pepper", "wrapped", "api_key", "private_key", "ciphertext", "key"}
        seen = 0

        def walk(value, path):
            if isinstance(value, dict):
                for name, inner in value.items():
                    self.assertNotIn(name, words, path)
                    if name == "secret" and inner is not None:
                        self.assertEqual(set(inner), {"masked", "fingerprint", "updated_at"}, path)
                    walk(inner, f"{path}.{name}")
            elif isinstance(value, list):
                for inner in value:
                    walk(inner, path)
            elif isinstance(value, str):
                self.assertNotRegex(value, r"tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", path)
        for method, path, roles in test_access.CONTROL:
            if method != "GET" or roles is test_access.ANYONE:
                continue
            real = path.replace("{org}", "acme").replace("{profile}", "canary").replace("{member}", member["id"]).replace("{name}", "r")
            real = real.replace("{request_id}", call.headers["x-request-id"]).replace("/{provider}/{model...}", f"/openai_compatible/{MODEL}")
            if "/api-keys/" in path:
                real = real.replace("{id}", dev["id"])
            real = test_access.concrete(real, "acme")
            for token in (harness.ADMIN_TOKEN, admin["key"]):
                answer = self.tg.get(real, token, surface="admin")
                if token == harness.ADMIN_TOKEN and "{" not in path.replace("{org}", ""):
                    self.assertStatus(answer, 200)
                text = answer.body.decode()
                for secret in (CANARY, CANARY[:-4], admin["key"], dev["key"], dev["key"][12:44], self.org.key, harness.ADMIN_TOKEN,
                               harness.PLATFORM_SECRET, *[h for h in hashes if len(h) > 16]):
                    self.assertNotIn(secret, text, real)
                if answer.status == 200:
                    seen += 1
                    walk(answer.json["data"], real)
        self.assertGreater(seen, 30)
        self.assertEqual(profile["secret"]["masked"][-4:], CANARY[-4:])


class Bounds(Base):
    """What a key is bound to, and A08: no key makes one that may more."""

    def refused(self, got, status, code):
        self.assertEqual((got[0], got[1]["error"]["code"]), (status, code), got)

    def statuses(self, key, **headers):
        return {self.tg.get("/v1/models", key, headers=headers).status for _ in range(EACH)}

    def test_shape_and_bad_input(self):
        made = self.key(allow_from=["10.0.0.0/8", "127.0.0.1", "FD00::/8"], providers=["openai", "gemini"], billing=["byok"])
        self.assertEqual((made["allow_from"], made["providers"], made["billing"], made["member"]),
                         (["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"], ["openai", "gemini"], ["byok"], None))
        path = f"/orgs/acme/api-keys/{made['id']}"
        self.assertEqual(self.tg.must("GET", path), {k: v for k, v in made.items() if k != "key"})
        listed = [k for k in self.tg.admin("GET", "/orgs/acme/api-keys?limit=200")[1]["data"] if k["id"] == made["id"]]
        self.assertEqual(listed[0]["allow_from"], made["allow_from"])
        changed = self.tg.must("PATCH", path, {"providers": None})
        self.assertEqual((changed["providers"], changed["billing"], changed["allow_from"]), (None, ["byok"], made["allow_from"]))
        new = self.tg.must("POST", path + "/rotate", {})
        self.assertEqual((new["allow_from"], new["providers"], new["billing"]), (made["allow_from"], None, ["byok"]))
        self.assertEqual(new["replaces"]["allow_from"], made["allow_from"])
        counts = self.tg.row_counts()
        path = f"/orgs/acme/api-keys/{new['id']}"
        for body in ({"allow_from": []}, {"allow_from": "10.0.0.0/8"}, {"allow_from": ["10.0.0.1/8"]}, {"allow_from": ["x"]},
                     {"allow_from": [1]}, {"allow_from": ["10.0.0.0/33"]}, {"allow_from": ["10.0.0.0/8"] * 65}, {"providers": []},
                     {"providers": ["Open AI"]}, {"providers": [""]}, {"providers": ["a" * 33]}, {"providers": {"a": 1}}, {"billing": []},
                     {"billing": ["free"]}, {"billing": "byok"}):
            field = next(iter(body))
            for method, at, more in (("POST", "/orgs/acme/api-keys", {"name": "k"}), ("PATCH", path, {})):
                status, envelope = self.ask(method, at, {**more, **body})
                self.assertEqual((status, envelope["error"].get("field")), (400, field), envelope)
        self.refused(self.ask("PATCH", path, {"member": str(uuid.uuid4())}), 400, "unknown_field")
        self.assertEqual(self.tg.row_counts(), counts)

    def test_where_a_key_may_be_used_from(self):
        here, elsewhere = self.key(allow_from=["127.0.0.0/8"]), self.key(allow_from=["10.0.0.0/8", "::1/128"])
        self.assertEqual(self.statuses(here["key"]), {200})
        for lie in ({}, {"X-Forwarded-For": "10.1.2.3"}, {"X-Real-IP": "10.1.2.3"}, {"Forwarded": "for=10.1.2.3"}):
            self.assertEqual(self.statuses(elsewhere["key"], **lie), {403}, lie)
        answer = self.tg.chat("Hello", key=elsewhere["key"])
        self.assertEqual((answer.status, answer.json["error"]["code"]), (403, "permission_denied"))
        admin = self.key(role="owner", scopes=["admin"], allow_from=["10.0.0.0/8"])
        self.refused(self.ask("GET", "/orgs/acme", token=admin["key"]), 403, "permission_denied")
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{elsewhere['id']}", {"allow_from": ["127.0.0.1"]})
        self.tg.settled(2)
        self.assertEqual(self.statuses(elsewhere["key"]), {200})
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{here['id']}", {"allow_from": ["192.0.2.0/24"]})
        self.tg.settled(2)
        self.assertEqual(self.statuses(here["key"]), {403})

    def test_which_providers_and_whose_money(self):
        self.tg.setup_profile(self.org, "own", models=["own-model"])
        self.tg.wait_for_model(self.org, "own-model")
        ask = lambda key, model=MODEL, **headers: self.tg.chat(
            {"model": model, "messages": [{"role": "user", "content": "Hi"}]}, key=key["key"], headers=headers)
        names = lambda key: {m["id"] for m in self.tg.get("/v1/models", key["key"]).json["data"]}
        calls = len(self.tg.fake_calls())
        stranger = self.key(providers=["anthropic", "no_such"])
        answer = ask(stranger)
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "no_route"), answer)
        self.assertEqual({t["reason"] for t in answer.json["tollgate"]["targets"]}, {"provider_not_allowed"})
        self.assertEqual(names(stranger), set())
        byok = self.key(billing=["byok"])
        self.assertEqual(ask(byok).status, 503)
        answer = ask(byok, **{"x-tollgate-billing": "platform"})
        self.assertEqual((answer.status, answer.json["error"]["code"]), (403, "permission_denied"))
        self.assertEqual(len(self.tg.fake_calls()), calls)
        self.assertEqual(ask(byok, "own-model").status, 200)
        self.assertEqual(ask(byok, "own-model", **{"x-tollgate-billing": "byok,platform"}).status, 200)
        self.assertIn("own-model", names(byok))
        self.assertNotIn(MODEL, names(byok))
        platform = self.key(billing=["platform"], providers=["openai_compatible"])
        self.assertEqual(ask(platform).status, 200)
        self.assertEqual(ask(platform, "own-model").status, 503)

    def test_a08_g20_a_developers_key_makes_none_that_may_more(self):
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        sooner = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
        dev = self.key(role="developer", scopes=["admin"], models=["demo-*"], limits={"rpm": 600, "tpm": 1000}, expires_at=soon,
                       allow_from=["127.0.0.0/8", "10.0.0.0/8"], providers=["openai_compatible", "openai"], billing=["platform", "byok"])
        good = {"name": "k", "models": ["demo-model"], "limits": {"rpm": 600, "tpm": 10}, "expires_at": sooner,
                "allow_from": ["127.0.0.1", "10.2.0.0/16"], "providers": ["openai"], "billing": ["byok"]}
        made = self.tg.must("POST", "/orgs/acme/api-keys", good, token=dev["key"])
        path = f"/orgs/acme/api-keys/{made['id']}"
        more = ({"models": ["*"]}, {"models": ["demo*"]}, {"limits": {"rpm": 601, "tpm": 10}}, {"limits": {"rpm": None, "tpm": 10}},
                {"expires_at": None}, {"expires_at": later}, {"allow_from": None}, {"allow_from": ["0.0.0.0/0"]},
                {"allow_from": ["127.0.0.1", "192.0.2.1"]}, {"allow_from": ["10.0.0.0/7"]}, {"allow_from": ["::/0"]}, {"providers": None},
                {"providers": ["openai", "gemini"]}, {"billing": None}, {"billing": ["byok", "private"]})
        counts = self.tg.row_counts()
        for change in more:
            got = self.ask("POST", "/orgs/acme/api-keys", {**good, **change}, dev["key"])
            self.refused(got, 403, "permission_denied")
            self.refused(self.ask("PATCH", path, change, dev["key"]), 403, "permission_denied")
        for left_out in ("expires_at", "allow_from", "providers", "billing"):
            got = self.ask("POST", "/orgs/acme/api-keys", {k: v for k, v in good.items() if k != left_out}, dev["key"])
            self.refused(got, 403, "permission_denied")
        for role in ("owner", "admin", "finance", "auditor"):
            self.refused(self.ask("POST", "/orgs/acme/api-keys", {**good, "role": role}, dev["key"]), 403, "permission_denied")
        self.assertEqual(self.tg.row_counts(), counts)
        # What an admin widened, it cannot take over by rotating.
        for change in ({"expires_at": later}, {"allow_from": None}, {"providers": None}, {"billing": None}):
            self.tg.must("PATCH", path, change)
            self.refused(self.ask("POST", path + "/rotate", {}, dev["key"]), 403, "permission_denied")
            self.tg.must("PATCH", path, {k: v for k, v in good.items() if k != "name"})
        new = self.tg.must("POST", path + "/rotate", {}, token=dev["key"])
        self.assertEqual((new["providers"], new["billing"], new["allow_from"]), (["openai"], ["byok"], ["127.0.0.1/32", "10.2.0.0/16"]))


if __name__ == "__main__":
    unittest.main()
