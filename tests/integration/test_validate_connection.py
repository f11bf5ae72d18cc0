"""tollgate validate-connection: a file's endpoints asked from here, and an org's by the running service."""
import http.server
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import ADMIN_TOKEN, BUILD, MODEL, SLOW

GOOD = "fake-good-key-canary"
BAD = "bad-canary-0123456789"  # the fake provider knows no key that begins like this


class Stub:
    """Answers by a function of (path, how many came before): (status, body), or None to be silent.

    Only what comes below `root` counts: a port that was free a moment ago may be another test's dead endpoint."""

    def __init__(self, answer, root=None):
        self.root = root or "/" + secrets.token_hex(8)
        self.seen = []  # (path, Authorization, when)
        self.bodies = []
        self.release = threading.Event()
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                stub.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.do_GET()

            def do_GET(self):
                if not self.path.startswith(stub.root):
                    self.send_error(404)
                    return
                stub.seen.append((self.path, self.headers.get("Authorization"), time.monotonic()))
                got = answer(self.path, len(stub.seen) - 1)
                if got is None:
                    stub.release.wait(60 * SLOW)
                    return
                body = json.dumps(got[1]).encode()
                self.send_response(got[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}{self.root}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def listing(*ids):
    return 200, {"object": "list", "data": [{"id": i, "object": "model"} for i in ids]}


class FromFile(unittest.TestCase):
    """Without a service and without a database: nothing of either is in the environment."""

    @classmethod
    def setUpClass(cls):
        cls.fake = harness.FakeProvider()
        cls.addClassCleanup(cls.fake.close)
        cls.dir = tempfile.mkdtemp(prefix="tollgate-validate-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.url = cls.fake.base_url

    def setUp(self):
        self.fake.clear()

    def run_cli(self, text, *args, status=0, stdin=None, **env):
        path = os.path.join(self.dir, "endpoints.yaml")
        with open(path, "w") as f:
            f.write(text)
        settings = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32", "GOOD_KEY": GOOD, "BAD_KEY": BAD, **env}
        done = subprocess.run([os.path.join(BUILD, "tollgate"), "validate-connection", "--config",
                               "-" if stdin else path, *args], input=stdin or "", capture_output=True, text=True,
                              cwd=self.dir, env={**harness._clean_env(), **{k: v for k, v in settings.items() if v is not None}},
                              timeout=60 * SLOW)
        self.assertEqual(done.returncode, status, done)
        self.assertNotIn("canary", done.stdout + done.stderr)
        return done

    def run_json(self, text, *args, **more):
        done = self.run_cli(text, "--json", *args, **more)
        envelope = json.loads(done.stdout)  # one object, or this fails
        self.assertEqual(set(envelope), {"data", "error", "meta"})
        self.assertEqual(envelope["error"] is None, envelope["data"] is not None)
        self.assertTrue(envelope["meta"]["version"])
        self.assertGreaterEqual(envelope["meta"]["duration_ms"], 0)
        return envelope

    def endpoints(self, text, *args, **more):
        data = self.run_json(text, *args, **more)["data"]
        self.assertEqual(data["valid"], all(e["ok"] for e in data["endpoints"]))
        return {e["name"]: e for e in data["endpoints"]}

    def one(self, fields, status=1, **more):
        """The only endpoint of a file with these fields."""
        return self.endpoints(f"endpoints: {{e: {{{fields}}}}}", status=status, **more)["e"]

    def test_good(self):
        envelope = self.run_json(f"""
            endpoints:
              main: {{base_url: "{self.url}", api_key_env: GOOD_KEY, model_id: {MODEL}}}
              idle: {{base_url: "{self.url}", api_key_env: GOOD_KEY}}
            agents:
              writer: {{endpoint: main}}
              reader: {{endpoint: main, model_id: gpt-5-mini, timeout_s: 2.5}}""", "--all")
        data, meta = envelope["data"], envelope["meta"]
        self.assertEqual((data["valid"], data["source"]), (True, "file"))
        main, idle = data["endpoints"]
        self.assertEqual((main["name"], main["provider"], main["base_url"], main["ok"], main["reason"], main["hint"]),
                         ("main", "openai_compatible", self.url, True, None, None))
        self.assertEqual(main["models"], [
            {"model": MODEL, "listed": True, "used_by": ["endpoint", "agent writer"]},
            {"model": "gpt-5-mini", "listed": True, "used_by": ["agent reader"]}])
        self.assertGreaterEqual(main["latency_ms"], 0)
        self.assertEqual((idle["ok"], idle["models"]), (True, []))
        self.assertEqual(meta["counts"], {"endpoints": 2, "ok": 2, "failed": 0, "models": 2, "models_missing": 0})
        self.assertEqual([(u["kind"], u["name"], u["endpoint"], u["model_id"], u["timeout_s"]) for u in data["uses"]],
                         [("agent", "writer", "main", MODEL, 10), ("agent", "reader", "main", "gpt-5-mini", 2.5)])
        # one question for each: the list was the answer about the key and about the models
        self.assertEqual(self.fake.stats()["models"], 2)

    def test_wrong_key(self):
        e = self.one(f'base_url: "{self.url}", api_key_env: BAD_KEY, model_id: {MODEL}')
        self.assertEqual((e["ok"], e["reason"], e["attempts"]), (False, "auth", 1))
        self.assertIn("401", e["message"])
        self.assertIn("BAD_KEY", e["hint"])
        self.assertEqual(e["models"], [{"model": MODEL, "listed": None, "used_by": ["endpoint"]}])

    def test_dead_with_retries(self):
        port = harness.free_port()
        e = self.one(f'base_url: "http://127.0.0.1:{port}/v1", max_retries: 2, backoff_s: 0.05')
        self.assertEqual((e["ok"], e["reason"], e["attempts"]), (False, "network", 3))
        self.assertIn("base_url", e["hint"])

    def test_the_wait_doubles_and_a_later_answer_counts(self):
        with Stub(lambda path, n: (503, {}) if n < 2 else listing("m")) as s:
            e = self.one(f'base_url: "{s.url}", model_id: m, retry: {{max_retries: 3, backoff_s: 0.2}}', status=0)
            self.assertEqual((e["ok"], e["reason"], e["attempts"], len(s.seen)), (True, None, 3, 3))
            at = [when for _, _, when in s.seen]
            self.assertGreaterEqual(at[1] - at[0], 0.19)
            self.assertGreaterEqual(at[2] - at[1], 0.39)

    def test_no_retry_unless_said_nor_for_what_stays(self):
        with Stub(lambda path, n: (503, {})) as s:
            self.assertEqual(self.one(f'base_url: "{s.url}"')["attempts"], 1)
        with Stub(lambda path, n: (404, {})) as s:
            e = self.one(f'base_url: "{s.url}", max_retries: 3, backoff_s: 0')
            self.assertEqual((e["reason"], e["attempts"], len(s.seen)), ("not_found", 1, 1))
        with Stub(lambda path, n: (429, {})) as s:
            self.assertEqual(self.one(f'base_url: "{s.url}", max_retries: 1, backoff_s: 0', status=0)["attempts"], 2)

    def test_silence_ends_with_the_least_patience(self):
        with Stub(lambda path, n: None) as s:
            began = time.monotonic()
            e = self.endpoints(f"""
                endpoints: {{e: {{base_url: "{s.url}", timeout_s: 600}}}}
                default: {{model_id: m, timeout_s: 9}}
                agents: {{hasty: {{timeout_s: 0.3}}}}""", status=1)["e"]
            self.assertEqual((e["ok"], e["reason"]), (False, "timeout"))
            self.assertLess(time.monotonic() - began, 5 * SLOW)

    def test_many_at_one_time(self):
        with Stub(lambda path, n: None) as s:
            lines = "".join(f'  e{i}: {{base_url: "{s.url}", timeout_s: 0.5}}\n' for i in range(20))
            began = time.monotonic()
            all_of_them = self.endpoints("endpoints:\n" + lines, status=1)
            self.assertEqual(len(all_of_them), 20)
            self.assertTrue(all(e["reason"] == "timeout" for e in all_of_them.values()))
            self.assertLess(time.monotonic() - began, 5 * SLOW)  # one after the other: 10 s
            self.assertTrue(all(e["attempts"] == 1 for e in all_of_them.values()))

    def test_a_model_is_missing(self):
        e = self.one(f'base_url: "{self.url}", api_key_env: GOOD_KEY, model_id: nonsense')
        self.assertEqual((e["ok"], e["reason"]), (False, "model_not_listed"))
        self.assertEqual([m["listed"] for m in e["models"]], [False])

    def test_account_with_nothing_left(self):
        body = {"error": {"code": "insufficient_quota", "type": "insufficient_quota", "message": "no credit"}}
        with Stub(lambda path, n: (429, body)) as s:
            e = self.one(f'base_url: "{s.url}", api_key_env: GOOD_KEY')
            self.assertEqual((e["ok"], e["reason"]), (False, "quota"))

    def test_a_key_that_is_said_back_is_not_shown(self):
        with Stub(lambda path, n: (401, {"error": {"message": f"wrong key {GOOD}"}})) as s:
            self.one(f'base_url: "{s.url}", api_key_env: GOOD_KEY')  # run_cli() looks for it
            self.assertEqual(s.seen[0][1], f"Bearer {GOOD}")

    def test_legacy_forms(self):
        beside = f"endpoint: {self.url}\napi_key_env: GOOD_KEY\nmodel_id: {MODEL}\ntimeout_s: 5\n"
        block = f'endpoint: {{base_url: "{self.url}", api_key_env: GOOD_KEY, model_id: {MODEL}}}\n'
        plain = f'- {{name: endpoint, base_url: "{self.url}", api_key_env: GOOD_KEY, model_id: {MODEL}}}\n'
        for text in (beside, block, plain):
            e = self.endpoints(text)["endpoint"]
            self.assertEqual((e["ok"], e["models"][0]["model"], e["models"][0]["listed"]), (True, MODEL, True))
        self.assertTrue(self.endpoints("", stdin=block)["endpoint"]["ok"])

    def test_agent_over_phase_over_default(self):
        with Stub(lambda path, n: listing("dm", "pm")) as a, Stub(lambda path, n: listing("wm")) as b:
            data = self.run_json(f"""
                endpoints: {{a: {{base_url: "{a.url}"}}, b: {{base_url: "{b.url}"}}}}
                default: {{endpoint: a, model_id: dm}}
                phases: {{plan: {{model_id: pm}}}}
                agents:
                  one: {{phase: plan}}
                  two: {{phase: plan, endpoint: b}}
                  three: {{phase: plan, endpoint: b, model_id: wm}}
                  four: {{endpoint: b}}""", status=1)["data"]
        uses = {u["name"] or u["kind"]: (u["endpoint"], u["model_id"]) for u in data["uses"]}
        self.assertEqual(uses, {"default": ("a", "dm"), "plan": ("a", "pm"), "one": ("a", "pm"), "two": ("b", "pm"),
                                "three": ("b", "wm"), "four": ("b", "dm")})
        a, b = data["endpoints"]
        self.assertTrue(a["ok"])
        self.assertEqual({m["model"]: (m["listed"], m["used_by"]) for m in b["models"]},
                         {"pm": (False, ["agent two"]), "wm": (True, ["agent three"]), "dm": (False, ["agent four"])})

    def test_keys_that_are_not_there(self):
        e = self.one(f'base_url: "{self.url}", api_key_env: GOOD_KEY', GOOD_KEY=None)
        self.assertEqual((e["reason"], e["attempts"], e["latency_ms"]), ("secret_missing", 0, None))
        self.assertIn("GOOD_KEY is not set", e["message"])
        self.assertEqual(self.one("provider: openai")["reason"], "secret_missing")
        e = self.one("provider: openai, api_key_env: GOOD_KEY")  # not of OpenAI's form: it is not sent there
        self.assertEqual((e["reason"], e["attempts"]), ("invalid_secret", 0))
        self.assertIn("platform.openai.com", e["hint"])
        self.assertTrue(e["key_page"].startswith("https://"))
        e = self.one(f'base_url: "{self.url}", api_key_env: GOOD_KEY', GOOD_KEY=GOOD + "\nX-Evil: 1")
        self.assertEqual((e["reason"], e["attempts"]), ("invalid_secret", 0))
        self.assertEqual(self.fake.stats()["models"], 0)

    def test_keys_in_files(self):
        path = os.path.join(self.dir, "key")
        with open(path, "w") as f:
            f.write(GOOD + "\n")
        os.chmod(path, 0o600)
        self.assertTrue(self.one(f'base_url: "{self.url}", api_key_file: {path}', status=0)["ok"])
        os.chmod(path, 0o644)
        e = self.one(f'base_url: "{self.url}", api_key_file: {path}')
        self.assertEqual(e["reason"], "secret_missing")
        self.assertIn("chmod 600", e["message"])
        os.unlink(path)
        self.assertEqual(self.one(f'base_url: "{self.url}", api_key_file: {path}')["reason"], "secret_missing")

    def test_s55_the_service_s_egress_rules_hold(self):
        with Stub(lambda path, n: listing("m")) as s:
            for allow in (None, "127.0.0.1/32:1", "10.0.0.0/8"):
                e = self.one(f'base_url: "{s.url}"', TOLLGATE_EGRESS_ALLOW=allow)
                self.assertEqual((e["reason"], e["attempts"]), ("egress", 0))
                self.assertIn("TOLLGATE_EGRESS_ALLOW", e["hint"])
            e = self.one('base_url: "http://169.254.169.254/v1"', TOLLGATE_EGRESS_ALLOW="169.254.0.0/16")
            self.assertEqual(e["reason"], "egress")
            self.assertEqual(s.seen, [])
        with Stub(lambda path, n: (302, {})) as s:
            self.assertFalse(self.one(f'base_url: "{s.url}"')["ok"])
        e = self.one('base_url: "https://name:secret-canary@h.example/v1"')
        self.assertEqual((e["reason"], e["base_url"]), ("bad_base_url", None))

    def test_a_provider_s_address_is_fixed_but_where_the_list_names_another(self):
        with Stub(lambda path, n: listing("m")) as s:
            e = self.one(f'provider: groq, base_url: "{s.url}", api_key_env: GROQ_KEY, model_id: m', status=0,
                         GROQ_KEY="gsk_fake_canary")
            self.assertEqual((e["ok"], e["base_url"], s.seen[0][1]), (True, s.url, "Bearer gsk_fake_canary"))
        e = self.one('provider: groq, base_url: "https://elsewhere.example/v1", api_key_env: GROQ_KEY', GROQ_KEY="gsk_fake_canary")
        self.assertEqual((e["reason"], e["attempts"]), ("bad_base_url", 0))
        self.assertIn("is fixed", e["message"])

    def test_one_bad_one_does_not_hide_the_others(self):
        got = self.endpoints(f"""
            endpoints:
              good: {{base_url: "{self.url}", api_key_env: GOOD_KEY}}
              bad: {{base_url: "{self.url}", api_key_env: BAD_KEY}}
              none: {{base_url: "{self.url}", api_key_env: NOT_SET}}
              odd: {{base_url: "ftp://h"}}""", status=1)
        self.assertEqual({name: e["reason"] for name, e in got.items()},
                         {"good": None, "bad": "auth", "none": "secret_missing", "odd": "bad_base_url"})
        self.assertTrue(got["good"]["ok"])

    def test_mistakes_in_the_file(self):
        for text, line, words in (("endpoints: [\n", 2, "not YAML"), ("endpoints:\n  a:\n    base: x\n", 3, '"base"'),
                                  ("a: &x 1\nb: *x\n", 1, "anchors"), ("endpoints: {}\nendpoints: {}\n", 2, "twice"),
                                  (f"endpoints:\n  a:\n    base_url: {self.url}\n    timeout_s: soon\n", 4, "timeout_s"),
                                  (f"endpoint: {{base_url: '{self.url}'}}\nagents:\n  w: {{endpoint: other}}\n", 3, "other")):
            error = self.run_json(text, status=2)["error"]
            self.assertEqual(error["code"], "invalid_yaml", text)
            self.assertIn(f"endpoints.yaml:{line}: ", error["message"], text)
            self.assertIn(words, error["message"], text)
        self.assertEqual(self.fake.stats()["models"], 0)

    def test_a_key_in_the_file_is_refused(self):
        error = self.run_json(f"endpoints:\n  a:\n    base_url: {self.url}\n    api_key: {GOOD}\n", status=2)["error"]
        self.assertEqual(error["code"], "inline_secret")
        self.assertIn("endpoints.yaml:4", error["message"])
        self.assertIn("api_key_env", error["hint"])
        self.run_json(f"endpoint: {{base_url: '{self.url}', api_key_env: {GOOD}}}", status=2)
        self.assertEqual(self.fake.stats()["models"], 0)

    def test_usage(self):
        block = f'endpoint: {{base_url: "{self.url}", api_key_env: GOOD_KEY}}\n'
        for args in (["--org", "acme"], ["--profile", "main"], ["--nonsense"], ["word"]):
            self.assertEqual(self.run_json(block, *args, status=2)["error"]["code"], "usage", args)
        self.assertEqual(self.run_json(block, status=2, TOLLGATE_EGRESS_ALLOW="nonsense")["error"]["code"], "invalid_setting")
        run = lambda *args: subprocess.run([os.path.join(BUILD, "tollgate"), "validate-connection", *args],
                                           capture_output=True, text=True, env=harness._clean_env())
        missing = run("--config", os.path.join(self.dir, "nothing"), "--json")
        self.assertEqual((missing.returncode, json.loads(missing.stdout)["error"]["code"]), (2, "unreadable_file"))
        self.assertEqual(run().returncode, 2)
        self.assertEqual(run("--profile", "p").returncode, 2)
        help_text = run("--help")
        self.assertEqual(help_text.returncode, 0)
        for word in ("api_key_env", "model_id", "timeout_s", "max_retries", "phases", "TOLLGATE_EGRESS_ALLOW"):
            self.assertIn(word, help_text.stdout)

    def test_for_a_person(self):
        done = self.run_cli(f"""
            endpoints:
              good: {{base_url: "{self.url}", api_key_env: GOOD_KEY, model_id: "{MODEL}"}}
              bad: {{base_url: "{self.url}", api_key_env: BAD_KEY}}""", status=1)
        self.assertRegex(done.stdout, r"(?m)^\[ ok \]  good  openai_compatible  http://127")
        self.assertRegex(done.stdout, r"(?m)^\[FAIL\]  bad ")
        self.assertRegex(done.stdout, r"fix:  .*BAD_KEY")
        self.assertIn("listed      " + MODEL, done.stdout)
        self.assertTrue(done.stdout.endswith("2 checked, 1 good, 1 bad\n"))
        self.assertEqual(done.stderr, "")

    def test_an_endpoint_does_not_steer_the_terminal(self):
        with Stub(lambda path, n: (401, {"error": {"message": "\x1b[2J\u009b31m\r\nfine"}})) as s:
            done = self.run_cli(f'endpoints: {{"a\\u009bb": {{base_url: "{s.url}"}}}}', status=1)
        for c in "\x1b\u009b\r":
            self.assertNotIn(c, done.stdout)


class OfAnOrg(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "main", secret=GOOD, models=["demo-*", "gpt-5-mini"])
        cls.tg.setup_profile(cls.org, "broken", secret=BAD, billing_source="private")
        cls.tg.setup_profile(cls.org, "off", secret=BAD)
        cls.org.admin("PATCH", "/profiles/off", {"status": "disabled"})
        for name, target in (("fast", {"profile": "main", "model": MODEL}),
                             ("odd", {"provider": "openai_compatible", "model": "demo-nonsense", "billing": ["byok"]})):
            status, envelope = cls.org.admin("PUT", f"/routes/{name}", {"match": {"alias": name}, "targets": [target]})
            assert status == 200, envelope
        cls.empty = cls.tg.setup_org("empty")

    def run_json(self, *args, status=0, env=None):
        done = self.tg.cli("validate-connection", *args, "--json", env=env)
        self.assertEqual(done.returncode, status, done)
        self.assertNotIn("canary", done.stdout + done.stderr)
        envelope = json.loads(done.stdout)
        self.assertEqual(set(envelope), {"data", "error", "meta"})
        self.assertEqual(envelope["error"] is None, envelope["data"] is not None)
        self.assertTrue(envelope["meta"]["version"])
        return envelope

    def test_active_profiles_and_who_uses_them(self):
        envelope = self.run_json("--org", "acme", status=1)
        data = envelope["data"]
        got = {e["name"]: e for e in data["endpoints"]}
        self.assertEqual((data["source"], data["valid"], set(got)), ("org", False, {"main", "broken"}))
        main, broken = got["main"], got["broken"]
        self.assertEqual((main["org"], main["provider"], main["base_url"]), ("acme", "openai_compatible", self.fake.base_url))
        self.assertEqual({m["model"]: (m["listed"], m["used_by"]) for m in main["models"]},
                         {"gpt-5-mini": (True, ["profile"]), MODEL: (True, ["route fast"]),
                          "demo-nonsense": (False, ["route odd"])})
        self.assertEqual((main["ok"], main["reason"]), (False, "model_not_listed"))
        self.assertEqual((broken["ok"], broken["reason"], broken["models"]), (False, "auth", []))
        self.assertIn("tollgate profile rotate --org acme broken", broken["hint"])
        self.assertEqual(envelope["meta"]["counts"]["endpoints"], 2)

    def test_one_profile(self):
        # the service keeps what it found: the test is the one of POST .../test
        data = self.run_json("--org", "acme", "--profile", "broken", status=1)["data"]
        self.assertEqual([e["name"] for e in data["endpoints"]], ["broken"])
        _, shown = self.org.admin("GET", "/profiles/broken")
        self.assertEqual((shown["data"]["health"]["status"], shown["data"]["health"]["reason"]), ("failed", "auth"))
        self.assertEqual(self.run_json("--org", "acme", "--profile", "nobody", status=1)["error"]["code"], "profile_not_found")
        self.assertEqual(self.run_json("--org", "nobody", status=1)["error"]["code"], "org_not_found")

    def test_an_org_without_profiles_is_good(self):
        data = self.run_json("--org", "empty", "--all")["data"]
        self.assertEqual((data["valid"], data["endpoints"]), (True, []))

    def test_every_org(self):
        data = self.run_json("--all", status=1)["data"]
        self.assertEqual({(e["org"], e["name"]) for e in data["endpoints"]},
                         {("acme", "main"), ("acme", "broken"), ("platform", "fake")})

    def test_no_service_and_no_right(self):
        port = harness.free_port()
        self.assertEqual(self.run_json("--org", "acme", status=3, env={"TOLLGATE_ADMIN_LISTEN": f"127.0.0.1:{port}"})
                         ["error"]["code"], "unreachable")
        self.run_json("--org", "acme", status=1, env={"TOLLGATE_ADMIN_TOKEN": ADMIN_TOKEN + "x"})
        self.assertEqual(self.run_json("--org", "acme", status=2, env={"TOLLGATE_ADMIN_TOKEN": ""})["error"]["code"],
                         "no_admin_token")

    def test_for_a_person(self):
        done = self.tg.cli("validate-connection", "--org", "acme", "--profile", "main")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("[FAIL]  acme/main  openai_compatible", done.stdout)
        self.assertIn("NOT LISTED  demo-nonsense  <- route odd", done.stdout)


class Service:
    """The admin API as this command sees it: what is told, page by page, and how each test ends."""

    def __init__(self, tests, **lists):
        self.tests = list(tests)  # (status, body) of each POST .../test
        self.lists = lists

    def __call__(self, path, _):
        path, _, query = path.partition("?")
        what = path.rsplit("/", 1)[1]
        if what == "test":
            return self.tests.pop(0)
        if what not in self.lists:
            return 404, {"data": None, "error": {"code": "not_found", "message": "nothing", "hint": None}, "meta": {}}
        if isinstance(self.lists[what], tuple):
            return self.lists[what]
        pages = self.lists[what]
        at = int(query.partition("cursor=c")[2] or 0)
        return 200, {"data": pages[at] if pages else [], "error": None,
                     "meta": {"next_cursor": f"c{at + 1}" if at + 1 < len(pages) else None}}


def profile(name, provider="openai_compatible", models=("*",), status="active"):
    return {"id": "0000-" + name, "name": name, "provider": provider, "base_url": "https://h.example/v1",
            "billing_source": "byok", "models": list(models), "status": status}


def tested(ok=True, reason=None, ids=None, message=None):
    detail = {"message": message, "models": len(ids or [])}
    if ids is not None:
        detail["ids"] = ids
    return 200, {"data": {"action": "x", "ok": ok, "latency_ms": 7, "reason": reason, "detail": detail}, "error": None, "meta": {}}


class OfAnyService(unittest.TestCase):
    def ask(self, service, *args, status=0):
        with Stub(service, root="/admin/v1") as s:
            done = subprocess.run([os.path.join(BUILD, "tollgate"), "validate-connection", "--json", *(args or ("--org", "o"))],
                                  capture_output=True, text=True, timeout=60 * SLOW, env={
                                      **harness._clean_env(), "TOLLGATE_ADMIN_TOKEN": ADMIN_TOKEN,
                                      "TOLLGATE_ADMIN_LISTEN": f"127.0.0.1:{s.port}"})
        self.assertEqual(done.returncode, status, done)
        self.seen, self.asked = [path for path, _, _ in s.seen], [b["action"] for b in s.bodies]
        envelope = json.loads(done.stdout)
        return {e["name"]: e for e in envelope["data"]["endpoints"]} if envelope["data"] else envelope["error"]

    def test_agents_in_every_form_of_a_model(self):
        got = self.ask(Service(
            [tested(ids=["m1", "m2", "m3", "m4"]), tested(ids=["claude-x"])],
            profiles=[[profile("main")], [profile("claude", "anthropic", ["claude-*"])]],
            routes=[[{"name": "fast", "match": {"alias": "quick"}, "targets": [{"profile": "main", "model": "m1"}]},
                     {"name": "own", "match": {"agent": "chained"}, "targets": [{"provider": "openai_compatible", "model": "m2"}]},
                     {"name": "paid", "match": {"alias": "paid"}, "targets": [{"model": "m9", "billing": ["platform"]}]}]],
            agents=[[{"name": "aliased", "default_model": "quick"}, {"name": "chained", "default_model": None, "route": "own"},
                     {"name": "bare", "default_model": "m3"}, {"name": "off", "default_model": "m8", "status": "disabled"}],
                    [{"name": "full", "default_model": "openai_compatible/m4"}, {"name": "claude", "default_model": "anthropic/claude-x"},
                     {"name": "plain"}]]))
        self.assertEqual({m["model"]: m["used_by"] for m in got["main"]["models"]},
                         {"m1": ["route fast", "agent aliased"], "m2": ["route own", "agent chained"],
                          "m3": ["agent bare"], "m4": ["agent full"]})
        self.assertEqual({m["model"]: (m["listed"], m["used_by"]) for m in got["claude"]["models"]},
                         {"claude-x": (True, ["agent claude"])})
        self.assertTrue(got["main"]["ok"] and got["claude"]["ok"])

    def test_one_test_where_the_list_tells_all(self):
        routes = [[{"name": "r", "match": {}, "targets": [{"model": "m"}]}]]
        self.ask(Service([tested(ids=["m"])], profiles=[[profile("p")]], routes=routes, agents=[]))
        self.assertEqual(self.asked, ["list_models"])
        # OpenRouter's list is public: that it came says nothing of the key
        self.ask(Service([tested(), tested(ids=["m"])], profiles=[[profile("p", "openrouter")]], routes=routes, agents=[]))
        self.assertEqual(self.asked, ["test_auth", "list_models"])
        self.ask(Service([tested()], profiles=[[profile("p")]], routes=[], agents=[]))
        self.assertEqual(self.asked, ["test_auth"])

    def test_the_limit_of_tests_ends_the_asking(self):
        limit = (429, {"data": None, "error": {"code": "credential_rate_limited", "message": "the limit is reached",
                                               "hint": "in 60 s"}, "meta": {}})
        got = self.ask(Service([tested(), limit], profiles=[[profile("a"), profile("b"), profile("c")]],
                               routes=[], agents=[]), status=1)
        self.assertEqual(len(self.asked), 2)
        self.assertEqual({n: (e["ok"], e["reason"], e["attempts"]) for n, e in got.items()},
                         {"a": (True, None, 1), "b": (False, "credential_rate_limited", 0),
                          "c": (False, "credential_rate_limited", 0)})
        self.assertEqual(got["c"]["hint"], "in 60 s")
        # reached between the two questions for one profile: the first answer stands
        routes = [[{"name": "r", "match": {}, "targets": [{"model": "m"}]}]]
        got = self.ask(Service([tested(), limit], profiles=[[profile("p", "openrouter")]], routes=routes, agents=[]))
        self.assertEqual((got["p"]["ok"], got["p"]["reason"], got["p"]["models"][0]["listed"]),
                         (True, "credential_rate_limited", None))

    def test_a_key_that_is_good_and_one_whose_account_is_empty(self):
        for reason, ok in (("permission", True), ("rate_limit", True), ("quota", False), ("auth", False)):
            got = self.ask(Service([tested(False, reason, message="words")], profiles=[[profile("p", models=["m"])]],
                                   routes=[], agents=[]), status=0 if ok else 1)
            self.assertEqual((got["p"]["ok"], got["p"]["reason"], got["p"]["models"][0]["listed"]), (ok, reason, None))
            self.assertTrue(got["p"]["hint"])

    def test_a_service_without_agents_and_one_that_fails(self):
        self.assertTrue(self.ask(Service([tested()], profiles=[[profile("p")]], routes=[]))["p"]["ok"])
        gone = (404, {"data": None, "error": {"code": "org_not_found", "message": "no such org", "hint": None}, "meta": {}})
        self.assertEqual(self.ask(Service([], profiles=[], routes=[], agents=gone), status=1)["code"], "org_not_found")
        away = (503, {"data": None, "error": {"code": "unavailable", "message": "no database", "hint": None}, "meta": {}})
        self.assertEqual(self.ask(Service([], profiles=away), status=3)["code"], "unavailable")
        self.assertEqual(self.ask(Service([away], profiles=[[profile("p")]], routes=[], agents=[]), status=3)["code"], "unavailable")

    def test_every_org_that_is_active(self):
        got = self.ask(Service([tested()], orgs=[[{"slug": "a", "status": "active"}, {"slug": "b", "status": "suspended"}]],
                               profiles=[[profile("p"), profile("q", status="disabled")]], routes=[], agents=[]), "--all")
        self.assertEqual([(e["org"], e["name"]) for e in got.values()], [("a", "p")])
        self.assertFalse([path for path in self.seen if "/orgs/b/" in path])


if __name__ == "__main__":
    unittest.main()
