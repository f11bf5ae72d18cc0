"""Every provider connected, tested, rotated, moved and revoked, on the shapes and errors that are its own.

The keys are made up: what is written in one is what the fake provider makes of it (loadtest/vendors.c)."""
import json
import socket
import threading
import time

import harness

# id: (the path of its address, what its keys start with, how many characters they have or 0)
PROVIDERS = {
    "openai": ("/v1", "sk-", 0), "openai_compatible": ("/v1", "", 0), "openrouter": ("/api/v1", "sk-or-", 0),
    "anthropic": ("", "sk-ant-", 0), "gemini": ("/v1beta", "AIza", 0), "grok": ("/v1", "xai-", 0),
    "mistral": ("/v1", "", 32), "kimi": ("/v1", "sk-", 0), "elevenlabs": ("", "sk_", 0), "deepseek": ("", "sk-", 0),
    "groq": ("/openai/v1", "gsk_", 0), "together": ("/v1", "", 0), "azure_openai": ("/openai/v1", "", 0),
    "vllm": ("/v1", "", 0), "ollama": ("/v1", "", 0), "lm_studio": ("/v1", "", 0), "llama_cpp": ("/v1", "", 0),
}
HEADERS = {"anthropic": "x-api-key: ", "gemini": "x-goog-api-key: ", "elevenlabs": "xi-api-key: ", "azure_openai": "api-key: "}
PAID = ("test_text", "test_voice")
# what a key's word does: (status of connecting, health, reason)
FATES = {
    "good": (201, "ok", None), "bad": (422, None, "auth"), "echo": (422, None, "auth"), "broke": (201, "degraded", "quota"),
    "limited": (201, "degraded", "rate_limit"), "restricted": (201, "degraded", "permission"), "down": (422, None, "overloaded"),
    "garbage": (422, None, "protocol"), "redirect": (422, None, "redirect"),
}


def key(provider, word):
    prefix, length = PROVIDERS[provider][1:]
    text = prefix + "fake" + word + "key"
    return text.ljust(length, "0")


class Providers(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")

    def address(self, provider, port=None):
        return f"http://127.0.0.1:{port or self.fake.port}/{provider}{PROVIDERS[provider][0]}"

    def connect(self, provider, word, name=None, **more):
        return self.org.admin("POST", "/profiles", {"name": name or f"{provider}-{word}", "provider": provider, "secret": key(provider, word),
                                                    "base_url": self.address(provider), **more})

    def made(self, provider, word, name, **more):
        status, envelope = self.connect(provider, word, name, **more)
        self.assertEqual(status, 201, envelope)
        return envelope["data"]

    def ask(self, name, action, **more):
        status, envelope = self.org.admin("POST", f"/profiles/{name}/test", {"action": action, **more})
        self.assertEqual(status, 200, envelope)
        return envelope["data"]

    def show(self, name):
        return self.org.admin("GET", f"/profiles/{name}")[1]["data"]

    # --- connecting: every provider, every fate ---

    def test_every_provider_and_every_fate_of_a_key(self):
        self.assertEqual({p["id"] for p in self.tg.must("GET", "/providers")}, set(PROVIDERS))
        for provider in PROVIDERS:
            for word, (status, health, reason) in FATES.items():
                if (provider, word) == ("elevenlabs", "restricted"):
                    health, reason = "ok", None  # it may not ask who it is, but it lists models
                with self.subTest(provider=provider, word=word):
                    before = self.tg.row_counts()
                    got, envelope = self.connect(provider, word)
                    self.assertEqual(got, status, envelope)
                    self.assertNotIn(key(provider, word), json.dumps(envelope))
                    if status == 201:
                        self.assertEqual((envelope["data"]["health"]["status"], envelope["data"]["health"]["reason"]), (health, reason))
                        self.assertEqual(envelope["data"]["secret"]["masked"][-4:], key(provider, word)[-4:] if len(key(provider, word)) >= 20 else "****")
                        continue
                    error = envelope["error"]
                    self.assertEqual(error["code"], "connection_failed")
                    self.assertIn(f"({reason})", error["message"])
                    self.assertTrue(error["hint"])
                    after = self.tg.row_counts()
                    self.assertEqual(after.pop("tollgate.audit"), before.pop("tollgate.audit") + 1)  # that it was tried
                    after.pop("tollgate.credential_use"), before.pop("tollgate.credential_use")
                    self.assertEqual(after, before)

    def test_what_a_good_key_lists(self):
        for provider in PROVIDERS:
            with self.subTest(provider=provider):
                made = self.made(provider, "good", f"lists-{provider}")
                self.assertEqual(made["health"]["models"], 3, made)
                data = self.ask(f"lists-{provider}", "list_models")
                self.assertTrue(data["ok"])
                self.assertEqual(data["detail"]["models"], 3)
                mini = "eleven_fake-mini" if provider == "elevenlabs" else "fake-mini"
                self.assertIn(mini, data["detail"]["ids"])  # without Gemini's "models/"
                head = self.fake.last()["head"]
                self.assertIn(HEADERS.get(provider, "Authorization: Bearer ").lower() + key(provider, "good").lower(), head.lower())
                self.assertEqual("anthropic-version: 2023-06-01" in head, provider == "anthropic")
                # a catalogue is not what can be called
                listed = self.tg.sql(f"SELECT cardinality(listed) FROM tollgate.profile WHERE name = 'lists-{provider}'")
                self.assertEqual(listed, [["0" if provider == "azure_openai" else "3"]])

    def test_a_list_that_anybody_gets_is_no_word_about_the_key(self):
        # OpenRouter's list of models comes with any key (contracts, openai-compatible 0).
        self.made("openrouter", "bad", "anybodys", validate=False)
        self.assertFalse(self.ask("anybodys", "test_auth")["ok"])
        before = self.show("anybodys")["health"]
        self.assertEqual((before["status"], before["reason"]), ("failed", "auth"))
        data = self.ask("anybodys", "list_models")
        self.assertEqual((data["ok"], data["detail"]["models"]), (True, 3))
        self.assertEqual(self.show("anybodys")["health"], before, "the key is as wrong as before")

    def test_a_dead_endpoint_answers_within_ten_seconds(self):
        """Accepted by the kernel, answered by nobody: every provider's probe, all at once."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as dead:
            port, answers = dead.getsockname()[1], {}

            def one(provider):
                began = time.monotonic()
                answers[provider] = (*self.connect(provider, "good", f"dead-{provider}", base_url=self.address(provider, port)),
                                     time.monotonic() - began)

            threads = [threading.Thread(target=one, args=(p,)) for p in PROVIDERS]
            [t.start() for t in threads]
            [t.join() for t in threads]
        for provider in PROVIDERS:
            with self.subTest(provider=provider):
                status, envelope, took = answers[provider]
                self.assertEqual(status, 422, envelope)
                self.assertIn("(timeout)", envelope["error"]["message"])
                self.assertIn("nothing is known of the key", envelope["error"]["hint"])
                self.assertLess(took, 10.5 * harness.SLOW)

    def test_nobody_listens(self):
        port = harness.free_port()
        status, envelope = self.connect("grok", "good", "refused", base_url=self.address("grok", port))
        self.assertEqual(status, 422, envelope)
        self.assertIn("(network)", envelope["error"]["message"])

    # --- the form of a key, the address ---

    def test_a_key_of_somebody_else_is_said_so_before_anything_is_sent(self):
        before = self.tg.row_counts()
        for provider, secret, owner in (("openai", "sk-ant-fake-key", "Anthropic"), ("anthropic", "sk-fake-key", "OpenAI"),
                                        ("openai", "sk-or-fake-key", "OpenRouter"), ("mistral", "gsk_fake", "Groq"),
                                        ("gemini", "xai-fake", "xAI"), ("elevenlabs", "AIzafake", "Google Gemini"),
                                        ("openai", "nothing-like-it", None), ("mistral", "too-short", None),
                                        ("vllm", "tg_" + "a" * 46, "this service"), ("grok", "tg_" + "a" * 46, "this service")):
            with self.subTest(provider=provider, secret=secret):
                status, envelope = self.connect(provider, "good", "form", secret=secret)
                self.assertEqual((status, envelope["error"]["code"], envelope["error"]["field"]), (400, "invalid_secret", "secret"))
                self.assertIn(owner or "does not look like a key of", envelope["error"]["message"])
                self.assertIn("look like", envelope["error"]["hint"])
                self.assertNotIn(secret, json.dumps(envelope))
        status, envelope = self.org.admin("POST", "/profiles", {"name": "form", "provider": "anthropic"})
        self.assertEqual(status, 400)
        self.assertIn("https://console.anthropic.com/settings/keys", envelope["error"]["hint"])
        self.assertEqual(self.tg.row_counts(), before)
        self.assertEqual(self.fake.stats()["models"], 0)

    def test_a_fixed_address_moves_only_where_the_operator_allows_it(self):
        for base_url in ("https://example.com/v1", "https://api.openai.com/v1", "https://8.8.8.8/v1"):
            status, envelope = self.connect("anthropic", "good", "elsewhere", base_url=base_url, validate=False)
            self.assertEqual((status, envelope["error"]["field"]), (400, "base_url"), base_url)
        self.made("anthropic", "good", "allowed", validate=False)
        for base_url in ("https://res.openai.azure.com/openai/v1/%2e%2e", "https://res.openai.azure.com/a;b", "https://r.openai.azure.com//v1",
                         "https://res.openai.azure.com/openai/deployments/-x"):
            status, envelope = self.connect("azure_openai", "good", "parts", base_url=base_url, validate=False)
            self.assertEqual((status, envelope["error"]["field"]), (400, "base_url"), base_url)

    # --- tests ---

    def test_the_smallest_paid_call(self):
        supported = {p["id"]: p["tests"] for p in self.tg.must("GET", "/providers")}
        for provider in PROVIDERS:
            self.made(provider, "good", f"paid-{provider}", validate=False)
            for action in PAID:
                with self.subTest(provider=provider, action=action):
                    name = {} if provider not in ("azure_openai", "openai_compatible") else {"model": "fake-mini"}
                    status, envelope = self.org.admin("POST", f"/profiles/paid-{provider}/test", {"action": action, **name})
                    if action not in supported[provider]:
                        self.assertEqual((status, envelope["error"]["code"], envelope["error"]["field"]), (400, "not_supported", "action"))
                        continue
                    self.assertEqual((status, envelope["data"]["ok"]), (200, True), envelope)
                    self.assertTrue(envelope["data"]["detail"]["model"])
                    body = json.loads(self.fake.last()["body"])
                    limit = body.get("max_tokens", body.get("max_completion_tokens", body.get("generationConfig", {}).get("maxOutputTokens", 1)))
                    self.assertLessEqual(limit, 16)
                    self.assertNotIn("embedding", envelope["data"]["detail"]["model"])
                    self.assertEqual(self.show(f"paid-{provider}")["health"]["status"], "ok")
        self.assertEqual([p for p in supported if "test_text" not in supported[p]], ["elevenlabs"])
        self.assertIn("test_voice", supported["openai"])
        status, envelope = self.org.admin("POST", "/profiles/paid-azure_openai/test", {"action": "test_text"})
        self.assertEqual((status, envelope["error"]["code"], envelope["error"]["field"]), (400, "model_required", "model"))
        status, envelope = self.org.admin("POST", "/profiles/paid-gemini/test", {"action": "test_text", "model": "a/../../b"})
        self.assertEqual((status, envelope["error"]["field"]), (400, "model"))

    def test_a_refused_call_says_nothing_of_the_key(self):
        for provider in ("openai", "anthropic", "gemini"):
            self.made(provider, "good", f"model-{provider}")
            data = self.ask(f"model-{provider}", "test_text", model="no-such-model")
            self.assertEqual((data["ok"], data["reason"]), (False, "not_found"))
            self.assertEqual(self.show(f"model-{provider}")["health"]["status"], "ok")
            self.made(provider, "broke", f"broke-{provider}", validate=False)
            data = self.ask(f"broke-{provider}", "test_text", model="fake-mini")
            self.assertEqual((data["ok"], data["reason"], data["detail"]["health"]["status"]), (False, "quota", "degraded"))

    def test_health_a_bad_minute_does_not_overturn_it(self):
        self.made("openai", "good", "weather")
        self.assertEqual(self.show("weather")["health"]["status"], "ok")
        models = self.show("weather")["health"]["models"]
        steps = (("down", "degraded", "overloaded", False), ("limited", "degraded", "rate_limit", True), ("bad", "failed", "auth", False))
        for word, health, reason, ok in steps:
            self.tg.must("POST", "/orgs/acme/profiles/weather/rotate", {"secret": key("openai", "good"), "validate": True})
            self.assertEqual(self.show("weather")["health"]["status"], "ok")
            # the endpoint changes its mind about a key, not the key itself: as if it were another one
            self.tg.must("POST", "/orgs/acme/profiles/weather/rotate", {"secret": key("openai", word)})
            self.assertEqual(self.show("weather")["health"]["status"], "unknown")
            self.tg.sql("""UPDATE tollgate.profile SET health = health || '{"status":"ok"}' WHERE name = 'weather'""")
            data = self.ask("weather", "test_auth")
            self.assertEqual((data["ok"], data["reason"]), (ok, reason))
            shown = self.show("weather")["health"]
            self.assertEqual((shown["status"], shown["reason"], shown["models"]), (health, reason, models))
            self.assertEqual(data["detail"]["health"], shown)
        # what is known to be wrong stays wrong through an outage; what was never known stays unknown
        self.tg.must("POST", "/orgs/acme/profiles/weather/rotate", {"secret": key("openai", "down")})
        self.ask("weather", "test_auth")
        self.assertEqual(self.show("weather")["health"]["status"], "unknown")
        self.tg.sql("""UPDATE tollgate.profile SET health = health || '{"status":"failed","reason":"auth"}' WHERE name = 'weather'""")
        self.ask("weather", "test_auth")
        self.assertEqual((self.show("weather")["health"]["status"], self.show("weather")["health"]["reason"]), ("failed", "auth"))

    def test_an_endpoint_that_says_the_key_back(self):
        for provider in PROVIDERS:
            for word in ("echo", "echoescaped"):
                self.made(provider, word, f"{word}-{provider}", validate=False)
                for action in ("test_auth", "list_models"):
                    with self.subTest(provider=provider, action=action, word=word):
                        data = self.ask(f"{word}-{provider}", action)
                        self.assertNotIn(key(provider, word), json.dumps(data))
                        if (provider, action) == ("openrouter", "list_models"):
                            self.assertTrue(data["ok"])  # its list is public: it says nothing of the key
                            continue
                        self.assertEqual((data["ok"], data["reason"]), (False, "auth"))
                        self.assertIn("****", data["detail"]["message"])
        with open(self.tg.log) as f:
            log = f.read()
        for provider in PROVIDERS:
            self.assertNotIn(key(provider, "echo"), log)
            stored = self.tg.sql("SELECT health::text || listed::text FROM tollgate.profile UNION ALL "
                                 "SELECT action || object || result || actor::text FROM tollgate.audit")
            self.assertNotIn(key(provider, "echo"), json.dumps(stored))

    def test_s55_a_test_obeys_the_rules_of_every_other_call(self):
        """Whatever stands in the row: it is judged again, and no redirect is followed."""
        for i, url in enumerate(("http://169.254.169.254/latest", "http://10.0.0.1:8000/v1", "https://[::1]:8443/v1", "http://localhost:8000/v1",
                                 f"http://127.0.0.1:{self.tg.admin_port}/admin/v1", "file:///etc/passwd")):
            self.made("vllm", "good", f"s55-{i}", validate=False)
            self.tg.sql(f"UPDATE tollgate.profile SET base_url = '{url}' WHERE name = 's55-{i}'")
            for action in ("test_auth", "list_models", "test_text"):
                data = self.ask(f"s55-{i}", action)
                self.assertEqual((data["ok"], data["reason"], data["detail"]["health"]["status"]), (False, "egress", "failed"), (url, data))
        self.made("vllm", "redirect", "s55-away", validate=False)
        for action in ("test_auth", "list_models", "test_text"):
            self.assertEqual(self.ask("s55-away", action)["reason"], "redirect")

    def test_a_secret_that_does_not_open_is_reported(self):
        self.made("openai", "good", "torn")
        self.tg.sql("UPDATE tollgate.secret s SET sealed = overlay(sealed PLACING '\\x00000000'::bytea FROM 150) FROM tollgate.profile p "
                    "WHERE p.id = s.id AND p.name = 'torn'")
        asked = self.fake.stats()["models"]
        data = self.ask("torn", "test_auth")
        self.assertEqual((data["ok"], data["reason"], data["detail"]["health"]["status"]), (False, "needs_reconfiguration", "needs_reconfiguration"))
        for _ in range(3):  # the vault tells it once a minute; a test's own answer does not hang on that
            self.tg.sql("UPDATE tollgate.secret SET unreadable = NULL WHERE unreadable IS NOT NULL")
            self.assertEqual(self.ask("torn", "test_auth")["detail"]["health"]["status"], "needs_reconfiguration")
            self.assertEqual(self.show("torn")["health"]["status"], "needs_reconfiguration")
        self.assertEqual(self.fake.stats()["models"], asked)
        self.tg.must("POST", "/orgs/acme/profiles/torn/rotate", {"secret": key("openai", "good"), "validate": True})
        self.assertTrue(self.ask("torn", "test_auth")["ok"])

    # --- rotate, move, default ---

    def test_rotate_validated_or_not(self):
        before = self.made("kimi", "good", "turn")["secret"]
        status, envelope = self.org.admin("POST", "/profiles/turn/rotate", {"secret": key("kimi", "bad"), "validate": True})
        self.assertEqual((status, envelope["error"]["code"]), (422, "connection_failed"))
        self.assertEqual(self.show("turn")["secret"], before)
        self.assertTrue(self.ask("turn", "test_auth")["ok"])
        self.assertEqual(self.tg.sql("SELECT result FROM tollgate.audit WHERE action = 'profile.rotate' ORDER BY seq DESC LIMIT 1"), [["auth"]])
        status, envelope = self.org.admin("POST", "/profiles/turn/rotate", {"secret": key("kimi", "broke"), "validate": True})
        self.assertEqual((status, envelope["data"]["health"]["status"], envelope["data"]["health"]["reason"]), (200, "degraded", "quota"))
        status, envelope = self.org.admin("POST", "/profiles/turn/rotate", {"secret": key("kimi", "bad")})
        self.assertEqual((status, envelope["data"]["health"]["status"]), (200, "unknown"))
        self.assertNotEqual(envelope["data"]["secret"]["fingerprint"], before["fingerprint"])
        self.assertEqual(self.ask("turn", "test_auth")["reason"], "auth")  # the new key at once, not a cached one

    def test_s54_another_origin_erases_the_secret(self):
        made = self.made("openai_compatible", "good", "mover", models=["mover-model"])
        other = harness.FakeProvider()
        self.addCleanup(other.close)
        call = {"model": "mover-model", "messages": [{"role": "user", "content": "Hi"}]}
        root = f"http://127.0.0.1:{self.fake.port}"
        self.assertEqual(self.org.admin("PATCH", "/profiles/mover", {"base_url": root + "/v1"})[1]["data"]["secret"], made["secret"])
        self.assertEqual(self.show("mover")["status"], "active")
        self.tg.settled()
        self.assertStatus(self.tg.chat(call, key=self.org.key), 200)
        status, envelope = self.org.admin("PATCH", "/profiles/mover", {"base_url": f"http://127.0.0.1:{other.port}/v1"})
        moved = envelope["data"]
        self.assertEqual((status, moved["secret"], moved["status"], moved["health"]["status"]), (200, None, "disabled", "unknown"))
        self.assertEqual(self.tg.sql(f"SELECT count(*) FROM tollgate.secret WHERE id = '{moved['id']}'"), [["0"]])
        explain = lambda: self.tg.must("POST", "/orgs/acme/routes/explain", {"model": "mover-model"})["targets"][0]
        self.tg.settled()
        self.assertEqual(explain()["reason"], "disabled")
        self.assertNotEqual(self.tg.chat(call, key=self.org.key).status, 200)
        self.assertEqual(other.stats()["calls"] + other.stats()["models"], 0)
        self.assertIn("profile.secret_erased", [row[0] for row in self.tg.sql("SELECT action FROM tollgate.audit")])
        # back to where the secret was for: it stays gone
        self.assertIsNone(self.org.admin("PATCH", "/profiles/mover", {"base_url": made["base_url"]})[1]["data"]["secret"])
        status, envelope = self.org.admin("PATCH", "/profiles/mover", {"base_url": f"http://127.0.0.1:{other.port}/v1"})
        back = self.tg.must("POST", "/orgs/acme/profiles/mover/rotate", {"secret": "fake-new-secret"})
        self.assertEqual(back["status"], "active")
        self.tg.settled()
        self.assertStatus(self.tg.chat(call, key=self.org.key), 200)
        self.assertIn("fake-new-secret", other.last()["head"])
        self.assertNotIn(key("openai_compatible", "good"), json.dumps(other.last()))

    def test_s54_what_was_disabled_stays_so_and_what_needs_no_secret_says_so(self):
        self.made("vllm", "good", "off", validate=False)
        self.tg.must("PATCH", "/orgs/acme/profiles/off", {"status": "disabled"})
        port = harness.free_port()
        self.tg.must("PATCH", "/orgs/acme/profiles/off", {"base_url": self.address("vllm", port)})
        self.assertEqual(self.tg.must("POST", "/orgs/acme/profiles/off/rotate", {"secret": "fake-other"})["status"], "disabled")
        self.made("vllm", "good", "open", validate=False)
        moved = self.tg.must("PATCH", "/orgs/acme/profiles/open", {"base_url": self.address("vllm", port), "status": "active"})
        self.assertEqual((moved["status"], moved["secret"]), ("active", None))
        for change in ({"base_url": "http://127.0.0.1:1@8.8.8.8/"}, {"base_url": "https://169.254.169.254/"}, {"base_url": 7}, {"base_url": ""}):
            status, envelope = self.org.admin("PATCH", "/profiles/open", change)
            self.assertEqual((status, envelope["error"]["field"]), (400, "base_url"), change)
        self.assertEqual(self.show("open")["base_url"], self.address("vllm", port))
        self.made("anthropic", "good", "fixed", validate=False)
        self.assertEqual(self.org.admin("PATCH", "/profiles/fixed", {"base_url": "https://example.com"})[0], 400)
        self.assertIsNotNone(self.show("fixed")["secret"])
        self.assertEqual(self.ask("open", "test_auth")["reason"], "network")

    def test_a_default_per_provider_and_an_order(self):
        names = [p["name"] for p in (self.made("groq", "good", f"groq-{i}", validate=False, default=True, models=["groq-model"]) for i in range(3))]
        self.made("kimi", "good", "kimi-one", validate=False, default=True)
        defaults = lambda: {p["name"] for p in self.org.admin("GET", "/profiles?limit=200")[1]["data"] if p["default"]}
        self.assertEqual(defaults() & {*names, "kimi-one"}, {"groq-2", "kimi-one"})
        self.assertTrue(self.tg.must("PUT", "/orgs/acme/profiles/groq-0/default")["default"])
        self.assertEqual(defaults() & {*names, "kimi-one"}, {"groq-0", "kimi-one"})
        self.tg.must("PATCH", "/orgs/acme/profiles/groq-1", {"priority": 1})
        targets = lambda: [t["profile"] for t in self.tg.must("POST", "/orgs/acme/routes/explain", {"model": "groq/groq-model"})["targets"]]
        self.tg.settled()
        self.assertEqual(targets()[:3], ["groq-1", "groq-0", "groq-2"])  # priority, then the default, then the rest
        threads = [threading.Thread(target=lambda n=n: self.org.admin("PUT", f"/profiles/{n}/default")) for n in names * 3]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(len(defaults() & set(names)), 1)

    # --- calls ---

    def test_what_a_provider_has_no_call_for_passes_it_over(self):
        self.assertEqual({p["id"] for p in self.tg.must("GET", "/providers") if p["supported"]}, set(PROVIDERS))
        self.made("elevenlabs", "good", "mute", models=["silent"], validate=False)
        self.tg.settled()
        told = self.tg.must("POST", "/orgs/acme/routes/explain", {"model": "elevenlabs/silent"})["targets"][0]
        self.assertEqual((told["verdict"], told["reason"]), ("skip", "capability_missing:chat"))
        explain = lambda operation: self.org.admin("POST", "/routes/explain", {"model": "elevenlabs/silent", "operation": operation})
        for operation, verdict in (("speech", "use"), ("transcription", "use"), ("embeddings", "skip"), ("count_tokens", "skip")):
            self.assertEqual(explain(operation)[1]["data"]["targets"][0]["verdict"], verdict, operation)
        for bad in ("talk", "", 7, []):
            status, envelope = explain(bad)
            self.assertEqual((status, envelope["error"]["code"], envelope["error"]["field"]), (400, "invalid_field", "operation"))
        asked = lambda: self.fake.stats()["calls"] + self.fake.stats()["models"]
        calls = asked()
        answer = self.tg.chat({"model": "silent", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "no_route"), answer)
        self.assertIn("capability_missing:chat", json.dumps(answer.json["tollgate"]["targets"]))
        self.assertEqual(asked(), calls)

    def test_what_a_provider_would_refuse_is_mended_or_named(self):
        self.made("mistral", "good", "strict", models=["strict-model"], validate=False)
        ask = lambda **more: self.tg.chat({"model": "mistral/strict-model", "max_completion_tokens": 9, "seed": 4, "user": "u-1", "store": True,
                                           "messages": [{"role": "developer", "content": "Short."}, {"role": "user", "content": "Hi"}], **more},
                                          key=self.org.key)
        harness.wait_until(lambda: all(ask().status == 200 for _ in range(8)), 5, "the workers to know the profile")
        answer, told = ask(safe_prompt=True), self.fake.last()["body"]
        told = json.loads(told) if isinstance(told, str) else told
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.headers["x-tollgate-dropped"], "user, store")
        self.assertEqual(told, {"model": "strict-model", "max_tokens": 9, "random_seed": 4, "safe_prompt": True,
                                "messages": [{"role": "system", "content": "Short."}, {"role": "user", "content": "Hi"}]})
        calls = self.fake.stats()["calls"]
        answer = ask(logit_bias={"1": 1})
        self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["param"]),
                         (400, "unsupported_parameter", "logit_bias"), answer)
        self.assertEqual(self.fake.stats()["calls"], calls)

    def test_revoke_ends_it(self):
        made = self.made("anthropic", "good", "gone")
        self.assertEqual(self.org.admin("DELETE", "/profiles/gone")[1]["data"]["status"], "revoked")
        for method, path, body in (("POST", "/test", {"action": "test_auth"}), ("POST", "/rotate", {"secret": key("anthropic", "good")}),
                                   ("PATCH", "", {"base_url": self.address("anthropic")}), ("PUT", "/default", None)):
            status, envelope = self.org.admin(method, f"/profiles/{made['id']}{path}", body)
            self.assertEqual((status, envelope["error"]["code"]), (409, "profile_revoked"), (method, path))
        self.assertIsNone(self.show(made["id"])["secret"])


class ManyProfiles(harness.Case):
    VERIFY = False

    def test_a_page_of_ten_thousand(self):
        """The statement behind the list: one index, a page's rows and no more. The time is shown, not asserted."""
        org = self.tg.setup_org("many", platform=False, credits=None)
        self.tg.sql(f"""INSERT INTO tollgate.profile (org_id, id, name, provider, base_url, billing_source)
            SELECT '{org.id}', tollgate.tg_uuid_v7(), 'p' || n, 'openai', 'https://api.openai.com/v1', 'byok' FROM generate_series(1, 10000) n""")
        self.tg.sql("ANALYZE tollgate.profile")
        seen, cursor, times = 0, "", []
        while True:
            began = time.monotonic()
            status, envelope = org.admin("GET", "/profiles?limit=200" + cursor)
            times.append((time.monotonic() - began) * 1000)
            self.assertEqual((status, len(envelope["data"])), (200, 200))
            seen += 200
            if not envelope["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + envelope["meta"]["next_cursor"]
        self.assertEqual(seen, 10000)
        began = time.monotonic()
        self.assertEqual(org.admin("GET", "/profiles/p5000")[0], 200)
        one = (time.monotonic() - began) * 1000
        print(f"\n10,000 profiles: a page of 200 takes {sorted(times)[25]:.1f} ms (worst {max(times):.1f} ms), one by name {one:.1f} ms")
        plan = json.dumps(self.tg.sql(f"""SET enable_seqscan = off; EXPLAIN SELECT p FROM tollgate.profile p WHERE p.org_id = '{org.id}'
            AND p.id < 'ffffffff-ffff-ffff-ffff-ffffffffffff' ORDER BY p.id DESC LIMIT 201"""))
        self.assertIn("Index Scan Backward", plan)
        self.assertNotIn("Sort", plan)
        status, envelope = org.admin("GET", "/profiles?cursor=c61")
        self.assertEqual(status, 400, envelope)


if __name__ == "__main__":
    import unittest
    unittest.main()
