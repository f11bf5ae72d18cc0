"""What other gateways got wrong (security.md 7, the G table), as far as no topic's own test has it."""
import json
import os
import re
import threading
import unittest

import harness
from harness import MODEL

ROUNDS = int(os.environ.get("TG_ROUNDS") or 150)  # of each of eight callers; `make soak` runs many more


class Lessons(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.other = cls.tg.setup_org("other")
        for slug in ("acme", "other"):
            cls.tg.setup_profile(slug, "own", secret=f"fake-key-of-{slug}", models=["own-model"])
        cls.tg.settled()

    @classmethod
    def ask(cls, text, key, model="own-model", **more):
        return cls.tg.chat({"model": model, "messages": [{"role": "user", "content": text}]}, key=key, **more)

    def test_g05_numbers_that_overflow_are_refused_and_cost_nothing(self):
        before = self.org.balance(), self.tg.row_counts()
        for name, values in (("max_tokens", (-1, 0, 1.5, 2 ** 31, 2 ** 63, 2 ** 64, 10 ** 40, "1", None, True)),
                             ("max_completion_tokens", (-1, 0, 2 ** 63, 10 ** 40)), ("n", (-1, 0, 1.5, 2 ** 31, 2 ** 63, "2"))):
            for value in values:
                if value is None:
                    continue  # null is absent
                answer = self.tg.chat({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], name: value}, key=self.org.key)
                self.assertEqual(answer.status, 400, (name, value, answer))
                self.assertEqual(answer.json["error"]["param"], name)
        self.assertEqual((self.org.balance(), self.tg.row_counts()), before)
        for amount in ("-1", "1e3", "0x10", "99999999999999999999", "1.0000000001", 5, 1.5, "", "NaN", "1,00", "\u0661"):
            status, envelope = self.org.admin("POST", "/credits/grants", {"amount": amount, "category": "paid", "reason": "x"})
            self.assertEqual((status, envelope["error"]["field"]), (400, "amount"), (amount, envelope))
        self.assertEqual((self.org.balance(), self.tg.row_counts()), before)

    def test_g13_there_is_no_way_around_by_another_name(self):
        for path in ("/v1/proxy/chat/completions", "/proxy/v1/chat/completions", "/v1/openai/chat/completions", "/chat/completions",
                     "/v1/engines/x/completions", "/key/generate", "/user/new", "/model/new", "/v1/admin/orgs", "/config/update",
                     "/v1/passthrough", "/anthropic/v1/proxy", "/swagger", "/docs", "/debug/pprof", "/server-status", "/.env", "/v1/keys"):
            for surface in ("data", "admin"):
                for method in ("GET", "POST"):
                    answer = harness.request(getattr(self.tg, f"{surface}_host"), getattr(self.tg, f"{surface}_port"), method, path,
                                             {} if method == "POST" else None, {"Authorization": f"Bearer {self.org.key}"})
                    self.assertIn(answer.status, (404, 405), (surface, method, path, answer))

    def test_g22_the_same_question_of_two_orgs_is_asked_twice(self):
        for key in (self.org.key, self.other.key, self.org.key):
            answer = self.ask("The very same words", key)
            self.assertStatus(answer, 200)
            self.assertEqual(answer.headers["cache-control"], "private, no-store")
            self.assertEqual(answer.headers["vary"].lower(), "authorization")
        self.assertEqual([call["key"][-5:] for call in self.fake.calls()], ["-acme", "other", "-acme"])

    def test_g23_what_was_said_is_never_a_page(self):
        evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
        for answer in (self.ask(evil, self.org.key), self.ask("Hi", self.org.key, model=evil), self.tg.get(f"/v1/models/{'%3Cscript%3E'}", self.org.key),
                       self.tg.get("/%3Cscript%3E"), self.tg.get("/admin/v1/orgs/%3Cscript%3E", harness.ADMIN_TOKEN, surface="admin"),
                       self.tg.get("/"), self.tg.get("/metrics", surface="admin")):
            self.assertNotIn("html", answer.headers["content-type"])
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        status, envelope = self.tg.admin("PATCH", "/orgs/acme", {"name": evil})
        self.assertEqual((status, envelope["data"]["name"]), (200, evil))  # text is kept as text

    def test_g27_nothing_a_tenant_writes_is_evaluated(self):
        self.tg.setup_profile(self.org, "templated", models=["templated-model"])
        for text in ("{{7*7}}", "${TOLLGATE_LISTEN}", "$TOLLGATE_LISTEN", "os.environ/TOLLGATE_ADMIN_TOKEN", "env:TOLLGATE_ADMIN_TOKEN", "%(x)s %n %s%s%s",
                     "file:///etc/passwd", "$(id)", "`id`", "{{ config }}", "#{7*7}", "<%= 7*7 %>", "${jndi:ldap://127.0.0.1/x}", "'; DROP TABLE org; --"):
            with self.subTest(text=text):
                self.assertEqual(self.tg.must("PATCH", "/orgs/acme", {"name": text})["name"], text)
                made = self.tg.must("POST", "/orgs/acme/api-keys", {"name": text, "role": "developer"})
                self.assertEqual(made["name"], text)
                self.assertEqual(self.ask(text, self.org.key).json["choices"][0]["message"]["content"].split(" ", 1)[1].split(), text.split())
                secret = text.replace(" ", "_")
                self.assertEqual(self.org.admin("POST", "/profiles/templated/rotate", {"secret": secret})[0], 200)
                self.tg.settled()
                self.assertStatus(self.ask("Hi", self.org.key, model="templated-model"), 200)
                self.assertIn(f"Bearer {secret}\r\n", self.fake.last()["head"], "sent as it was given")
                for name, value in (("provider", text), ("base_url", text)):
                    status, envelope = self.org.admin("POST", "/profiles", {"name": "n", "provider": "openai_compatible",
                                                                            "base_url": self.fake.base_url, "validate": False, name: value})
                    self.assertEqual(status, 400, envelope)
        self.assertEqual(self.tg.must("GET", "/orgs/other")["slug"], "other")

    def test_g03_g07_g29_what_is_not_there_is_not_open(self):
        """No sign-in by another's token, no payment webhook, no provider session handed out: and no path that would take one."""
        for method, path in (("POST", "/webhooks/stripe"), ("POST", "/admin/v1/webhooks/stripe"), ("POST", "/api/stripe/webhook"),
                             ("GET", "/sso/callback"), ("POST", "/admin/v1/login"), ("GET", "/.well-known/openid-configuration"),
                             ("POST", "/v1/realtime/client_secrets"), ("POST", "/v1/realtime/sessions"), ("GET", "/v1/realtime")):
            for surface in ("data", "admin"):
                for headers in ({}, {"Authorization": f"Bearer {self.org.key}"}, {"Stripe-Signature": "t=1,v1="}):
                    answer = harness.request(getattr(self.tg, f"{surface}_host"), getattr(self.tg, f"{surface}_port"), method, path,
                                             {"x": 1} if method == "POST" else None, headers)
                    self.assertEqual(answer.status, 404, (surface, method, path, answer))
        # A token that begins like a good one, or is one with something behind it, is not that one.
        for token in (self.org.key[:-1], self.org.key + "x", self.org.key[:20], self.org.key + "." + self.org.key, "eyJhbGciOiJub25lIn0.e30."):
            self.assertStatus(self.ask("Hi", token), 401)

    def test_g30_two_orgs_at_once_never_see_each_other(self):
        """Eight callers of two orgs, streamed and not, each word said once in the world; buffers and connections are used again."""
        wrong, done = [], []

        def call(number):
            org, slug = ((self.org, "acme"), (self.other, "other"))[number % 2]
            for turn in range(ROUNDS):
                word = f"word-{slug}-{number}-{turn}"
                answer = self.ask(word, org.key, stream=turn % 3 == 0)
                told = re.findall(rb"word-\w+-\d+-\d+", answer.body)
                if answer.status != 200 or not told or set(told) != {word.encode()}:
                    wrong.append((word, answer))
                if answer.headers["x-tollgate-profile"] != "own" or answer.headers["x-tollgate-billing-source"] != "byok":
                    wrong.append((word, answer.headers))
            done.append(number)

        callers = [threading.Thread(target=call, args=(n,)) for n in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        self.assertEqual((wrong[:3], sorted(done)), ([], list(range(8))))
        mine = lambda org: int(self.tg.sql(f"SELECT count(*) FROM tollgate.usage_charge WHERE org_id = '{org.id}' AND billing_source = 'byok'")[0][0])
        for slug, org in (("acme", self.org), ("other", self.other)):
            harness.wait_until(lambda: mine(org) >= 4 * ROUNDS, 20, "every call to be booked on its org")


if __name__ == "__main__":
    unittest.main()
