"""The life of a call through the real binary: who answers, who pays, what is told, what is booked."""
import json
import socket
import threading
from decimal import Decimal

import harness
from harness import MODEL, wait_until

PRICE_IN, PRICE_OUT = Decimal("0.000003"), Decimal("0.000015")


def cost_of(usage):
    """The harness's price list applied to an answer's own usage, by hand."""
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return ((usage["prompt_tokens"] - cached) * PRICE_IN + cached * PRICE_IN / 10
            + usage["completion_tokens"] * PRICE_OUT)


class Calls(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "team", models=["team-model", "small-*"])
        cls.tg.setup_profile(cls.org, "own", billing_source="private", secret="fake-own-key", models=["own-model"])
        cls.tg.setup_profile(cls.org, "busy", secret="fake-busy-key", models=["busy-model"])

    def setUp(self):
        """No test is answered by what another one cooled down."""
        super().setUp()
        if self.tg.sql("DELETE FROM tollgate.cooldown RETURNING 1"):
            self.tg.restart()

    def chat(self, body, key=None, **more):
        return self.tg.chat(body, key=key or self.org.key, **more)

    def row(self, answer):
        status, envelope = self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        self.assertEqual(status, 200, envelope)
        return envelope["data"]

    def test_plain_platform_call_is_charged_what_its_usage_says(self):
        before = self.org.balance()
        answer = self.chat("Name a harbour.")
        self.assertStatus(answer, 200)
        cost = cost_of(answer.usage)
        self.assertGreater(cost, 0)
        self.assertEqual(before - self.org.balance(), cost)
        self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), cost)
        self.assertEqual(answer.headers["x-tollgate-billing-source"], "platform")
        self.assertEqual(answer.headers["x-tollgate-provider"], "openai_compatible")
        self.assertEqual(answer.headers["x-tollgate-model"], MODEL)
        self.assertEqual(answer.headers["x-tollgate-attempts"], "1")
        self.assertIsNone(answer.headers["x-tollgate-fallback"])
        self.assertRegex(answer.headers["x-tollgate-overhead-ms"], r"^\d+\.\d{3}$")
        row = self.row(answer)
        self.assertEqual(row["status"], "settled")
        self.assertEqual(Decimal(row["amount"]), cost)
        self.assertEqual(sum(Decimal(line["amount"]) for line in row["lines"]), cost)
        self.assertEqual(row["basis"], "provider_usage")
        self.assertEqual(row["attempts"][0]["outcome"], "ok")
        self.assertEqual(row["plan"]["targets"][0]["verdict"], "use")

    def test_stream_is_booked_before_its_last_event_and_usage_is_stripped_unless_asked(self):
        before = self.org.balance()
        asked = self.chat("Count the ships.", stream=True)
        self.assertStatus(asked, 200)
        self.assertTrue(asked.done)
        self.assertEqual(asked.headers["content-type"].split(";")[0], "text/event-stream")
        self.assertEqual(asked.headers["cache-control"], "no-cache")
        self.assertEqual(asked.headers["x-accel-buffering"], "no")
        self.assertEqual(before - self.org.balance(), cost_of(asked.usage))
        unasked = self.chat({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Count the ships."}]})
        self.assertTrue(unasked.done)
        self.assertIsNone(unasked.usage)
        self.assertEqual(unasked.text, asked.text)
        self.assertEqual(before - self.org.balance(), 2 * cost_of(asked.usage))

    def test_byok_and_private_calls_write_usage_and_move_no_money(self):
        before = self.org.balance()
        entries = self.org.admin("GET", "/ledger/entries")[1]["data"]
        for model, source in (("team-model", "byok"), ("own-model", "private")):
            answer = self.chat({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
            self.assertStatus(answer, 200)
            self.assertEqual(answer.headers["x-tollgate-billing-source"], source)
            self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), 0)
            row = self.row(answer)
            self.assertEqual(row["billing_source"], source)
            self.assertEqual(Decimal(row["amount"]), 0)
            self.assertGreater(row["usage"]["in_text"], 0)
        self.assertEqual(self.org.balance(), before)
        self.assertEqual(self.org.admin("GET", "/ledger/entries")[1]["data"], entries)

    def test_the_providers_secret_is_the_profiles_and_nothing_of_the_caller_leaks(self):
        self.chat({"model": "team-model", "messages": [{"role": "user", "content": "Hello"}]})
        head = self.fake.last()["head"]
        text = head if isinstance(head, str) else json.dumps(head)
        self.assertIn("fake-org-key", text)
        self.assertNotIn(self.org.key, text)

    def test_unknown_fields_survive_and_the_model_is_the_targets(self):
        self.chat({"model": "openai_compatible/" + MODEL, "messages": [{"role": "user", "content": "Hello"}],
                      "vendor_extension": {"deep": [1, 2.50, "é"]}, "seed": 12345678901234567890})
        body = self.fake.last()["body"]
        body = json.loads(body) if isinstance(body, str) else body
        self.assertEqual(body["model"], MODEL)
        self.assertEqual(body["vendor_extension"], {"deep": [1, 2.5, "é"]})
        self.assertEqual(body["seed"], 12345678901234567890)

    def test_a_stream_asks_the_provider_for_usage(self):
        self.chat({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hello"}]})
        body = self.fake.last()["body"]
        body = json.loads(body) if isinstance(body, str) else body
        self.assertTrue(body["stream_options"]["include_usage"])

    def test_a_call_without_a_maximum_gets_the_models(self):
        self.chat("Hello")
        body = self.fake.last()["body"]
        body = json.loads(body) if isinstance(body, str) else body
        self.assertEqual(body.get("max_tokens") or body.get("max_completion_tokens"), 16384)

    def test_missing_usage_is_estimated_and_flagged(self):
        answer = self.chat("Hello [[no_usage]]")
        self.assertStatus(answer, 200)
        row = self.row(answer)
        self.assertEqual(row["basis"], "est_missing")
        self.assertGreater(Decimal(row["amount"]), 0)

    def test_absurd_usage_is_clamped_never_negative(self):
        for lie in ("-5,-5", "1000000000000000000,1000000000000000000", "0.5,0.5",
                    "1000000000000,1000000000000 cache_write=1000000000000"):
            before = self.org.balance()
            answer = self.chat(f"Hello [[usage={lie}]]")
            self.assertStatus(answer, 200)
            spent = before - self.org.balance()
            self.assertGreaterEqual(spent, 0)
            self.assertLess(spent, Decimal("1"))

    def test_n_choices_all_arrive_in_a_stream(self):
        answer = self.chat({"model": MODEL, "stream": True, "n": 3, "messages": [{"role": "user", "content": "Hello"}]})
        self.assertTrue(answer.done)
        finished = {c["index"] for e in answer.events for c in e.get("choices", []) if c.get("finish_reason")}
        self.assertEqual(finished, {0, 1, 2})

    def test_an_error_after_the_first_content_is_an_error_event(self):
        before = self.org.balance()
        answer = self.chat("Hello [[error_midstream]] [[words=30]]", stream=True)
        self.assertStatus(answer, 200)
        self.assertFalse(answer.done)
        self.assertTrue(any("error" in event for event in answer.events), answer)
        row = self.row(answer)
        self.assertIn(row["basis"], ("est_partial", "provider_usage"))
        self.assertGreaterEqual(before - self.org.balance(), 0)

    def test_a_stream_that_is_cut_ends_in_an_error_event(self):
        answer = self.chat("Hello [[cut_after=3]] [[words=30]]", stream=True)
        self.assertFalse(answer.done)
        self.assertTrue(any("error" in event for event in answer.events), answer)

    def test_garbage_is_a_failure_that_costs_nothing(self):
        for what in ("[[garbage]]", "[[html]]", "[[empty]]", "[[redirect=http://127.0.0.1:1/]]", "[[gzip]]", "[[cl_te]]"):
            org = self.tg.setup_org("garbage-" + "".join(c for c in what if c.isalpha()).lower()[:12], platform=False)
            before = org.balance()
            answer = self.chat("Hello " + what, key=org.key)
            self.assertIn(answer.status, (429, 502), (what, answer))
            self.assertIn("tollgate", answer.json)
            wait_until(lambda: org.balance() == before, 10, f"the hold of {what} to be given back")
            self.setUp()

    def test_a_callers_mistake_is_told_in_the_providers_words_and_nobody_else_is_asked(self):
        answer = self.chat("Hello [[status=400]]")
        self.assertStatus(answer, 400)
        self.assertEqual(len(self.tg.fake_calls()), 1)
        self.assertEqual(answer.headers["x-should-retry"], "false")

    def test_models_lists_what_can_be_asked_for(self):
        listed = self.tg.get("/v1/models", key=self.org.key).json
        ids = [m["id"] for m in listed["data"]]
        for model in ("team-model", "own-model", MODEL):
            self.assertIn(model, ids)
        self.assertEqual(listed["models"], [])
        one = self.tg.get("/v1/models/team-model", key=self.org.key)
        self.assertEqual(one.json["id"], "team-model")
        self.assertStatus(self.tg.get("/v1/models/nobody", key=self.org.key), 404)

    def test_credits_and_generation_are_the_callers_own(self):
        answer = self.chat("Hello")
        request_id = answer.headers["x-request-id"]
        mine = self.tg.get(f"/v1/generations/{request_id}", key=self.org.key)
        self.assertStatus(mine, 200)
        self.assertEqual(mine.json["request_id"], request_id)
        stranger = self.tg.setup_org("stranger", platform=False)
        self.assertStatus(self.tg.get(f"/v1/generations/{request_id}", key=stranger.key), 404)
        self.assertEqual(Decimal(self.tg.get("/v1/credits", key=stranger.key).json["available"]), 10)

    def test_g08_a_caller_who_leaves_still_pays_what_was_used_once(self):
        org = self.tg.setup_org("leaver", platform=False)
        before = org.balance()
        body = json.dumps({"model": MODEL, "stream": True,
                           "messages": [{"role": "user", "content": "Hello [[chunks=20 chunk_ms=20]]"}]}).encode()
        with socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=20) as s:
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      b"Authorization: Bearer " + org.key.encode() + b"\r\nContent-Length: " + str(len(body)).encode()
                      + b"\r\n\r\n" + body)
            got = b""
            while b"data:" not in got:
                got += s.recv(4096)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        calls = lambda: [c for c in org.admin("GET", "/usage/calls")[1]["data"]]
        row = wait_until(calls, 20, "the abandoned call's booking")[0]
        self.assertGreater(before - org.balance(), 0)
        self.assertEqual(before - org.balance(), Decimal(row["amount"]))
        self.assertEqual(len(calls()), 1)


class Fallback(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        for name in ("one", "two", "three"):
            cls.tg.setup_profile(cls.org, name, secret=f"fake-{name}-key", models=[f"{name}-model"])
        cls.route("chain", "assistant", [{"profile": "one", "model": "one-model"}, {"profile": "two", "model": "two-model"}])
        cls.route("consent", "with-consent", [{"profile": "three", "model": "three-model"},
                                              {"provider": "openai_compatible", "model": MODEL, "billing": ["platform"]}],
                  allow_platform_fallback=True)
        cls.route("no-consent", "without-consent", [{"profile": "three", "model": "three-model"},
                                                    {"provider": "openai_compatible", "model": MODEL, "billing": ["platform"]}])

    @classmethod
    def route(cls, name, alias, targets, **policy):
        return cls.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": alias}, "targets": targets, "policy": policy})

    def setUp(self):
        super().setUp()
        self.tg.sql("DELETE FROM tollgate.cooldown")
        self.tg.restart()

    def ask(self, alias, **more):
        return self.tg.chat({"model": alias, "messages": [{"role": "user", "content": "Hello"}], **more})

    def fail(self, name, status=429, **more):
        self.fake.control(key=f"fake-{name}-key", status=status, times=-1, **more)

    def test_a_429_falls_to_the_next_target_and_cools_the_first(self):
        self.fake.control(key="fake-one-key", status=429, retry_after=30, times=-1)
        answer = self.ask("assistant")
        self.assertStatus(answer, 200)
        self.assertEqual(answer.headers["x-tollgate-profile"], "two")
        self.assertEqual(answer.headers["x-tollgate-attempts"], "2")
        self.assertEqual(answer.headers["x-tollgate-fallback"], "one/one-model=rate_limit")
        wait_until(lambda: self.tg.sql("SELECT 1 FROM tollgate.cooldown WHERE class = 'rate_limit'"), 10, "the stored cooldown")
        self.tg.settled()
        for _ in range(4):
            again = self.ask("assistant")
            self.assertEqual(again.headers["x-tollgate-attempts"], "1")
            self.assertRegex(again.headers["x-tollgate-fallback"], r"^one/one-model=cooling_down:rate_limit:\d+$")

    def test_each_retryable_class_falls_over(self):
        for status in (500, 502, 503, 529, 401, 403, 404):
            with self.subTest(status=status):
                self.setUp()
                self.fake.control(key="fake-one-key", status=status, times=-1)
                answer = self.ask("assistant")
                self.assertStatus(answer, 200)
                self.assertEqual(answer.headers["x-tollgate-profile"], "two")

    def test_a_stream_falls_over_before_its_first_content(self):
        self.fake.control(key="fake-one-key", status=503, times=-1)
        answer = self.ask("assistant", stream=True)
        self.assertTrue(answer.done)
        self.assertEqual(answer.headers["x-tollgate-profile"], "two")

    def test_cooldowns_survive_a_restart(self):
        self.fake.control(key="fake-one-key", status=429, retry_after=60, times=1)
        self.ask("assistant")
        wait_until(lambda: self.tg.sql("SELECT 1 FROM tollgate.cooldown"), 10, "the stored cooldown")
        self.tg.restart()
        self.assertIn("cooling_down:rate_limit", self.ask("assistant").headers["x-tollgate-fallback"])

    def test_a_success_after_a_cooldown_ends_it(self):
        self.fake.control(key="fake-one-key", status=429, times=1)
        self.ask("assistant")
        wait_until(lambda: self.tg.sql("SELECT 1 FROM tollgate.cooldown"), 10, "the stored cooldown")
        self.tg.sql("UPDATE tollgate.cooldown SET until = now() - interval '1 second', failures = 3")
        self.tg.restart()
        self.assertEqual(self.ask("assistant").headers["x-tollgate-profile"], "one")
        wait_until(lambda: not self.tg.sql("SELECT 1 FROM tollgate.cooldown"), 10, "the forgotten cooldown")

    def test_a_rotated_key_ends_the_cooldown_where_it_was_seen_too(self):
        """The worker that saw the failure keeps a note of its own; a quota's would stand for five hours."""
        self.fail("one", status=429, code="insufficient_quota", type="insufficient_quota")
        for _ in range(20):  # every worker has seen it
            self.assertEqual(self.ask("assistant").headers["x-tollgate-profile"], "two")
        wait_until(lambda: self.tg.sql("SELECT 1 FROM tollgate.cooldown WHERE class = 'quota'"), 10, "the stored cooldown")
        self.fake.clear()
        self.assertEqual(self.org.admin("POST", "/profiles/one/rotate", {"secret": "fake-one-key"})[0], 200)
        self.tg.settled(3)
        self.assertEqual({self.ask("assistant").headers["x-tollgate-profile"] for _ in range(10)}, {"one"})

    def test_a_failure_of_the_key_before_does_not_cool_the_next(self):
        """The call that fails and the rotation are on their way at once: whichever comes first, the new key is asked."""
        for _ in range(40):
            self.fake.clear()
            self.fake.control(key="fake-one-key", status=401)
            self.assertStatus(self.ask("assistant"), 200)
            self.assertEqual(self.org.admin("POST", "/profiles/one/rotate", {"secret": "fake-one-key"})[0], 200)
            wait_until(lambda: self.ask("assistant").headers["x-tollgate-profile"] == "one", 3, "the new key to be used")

    def test_all_failed_answers_the_last_class(self):
        for name in ("one", "two"):
            self.fake.control(key=f"fake-{name}-key", status=500, times=-1)
        answer = self.ask("assistant")
        self.assertStatus(answer, 502)
        self.assertEqual(answer.json["error"]["code"], "all_targets_failed")
        self.assertEqual(answer.headers["x-should-retry"], "true")
        self.assertEqual(len(answer.json["tollgate"]["targets"]), 2)
        cooling = wait_until(lambda: (lambda a: a.status == 429 and a)(self.ask("assistant")), 5, "the other workers to know")
        self.assertEqual(cooling.json["error"]["code"], "no_route")
        self.assertGreater(int(cooling.headers["retry-after"]), 0)

    def test_falling_from_byok_to_the_platform_needs_consent(self):
        self.fake.control(key="fake-three-key", status=429, times=-1)
        before = self.org.balance()
        denied = self.ask("without-consent")
        self.assertNotEqual(denied.status, 200)
        self.assertEqual(self.org.balance(), before)
        self.tg.sql("DELETE FROM tollgate.cooldown")
        self.tg.restart()
        allowed = self.ask("with-consent")
        self.assertStatus(allowed, 200)
        self.assertEqual(allowed.headers["x-tollgate-billing-source"], "platform")
        self.assertEqual(before - self.org.balance(), cost_of(allowed.usage))

    def test_the_billing_header_restricts_the_chain(self):
        answer = self.tg.chat({"model": "with-consent", "messages": [{"role": "user", "content": "Hello"}]},
                              headers={"x-tollgate-billing": "platform"})
        self.assertStatus(answer, 200)
        self.assertEqual(answer.headers["x-tollgate-billing-source"], "platform")
        self.assertEqual(answer.headers["x-tollgate-fallback"], "three/three-model=billing_not_allowed")
        bad = self.tg.chat({"model": "with-consent", "messages": [{"role": "user", "content": "Hello"}]},
                           headers={"x-tollgate-billing": "cash"})
        self.assertStatus(bad, 400)

    def test_explain_names_a_target_that_nobody_answers_to(self):
        self.route("odd", "odd", [{"profile": "one", "model": "two-model"}, {"profile": "two", "model": "two-model"}])
        self.tg.settled()
        plan = self.org.admin("POST", "/routes/explain", {"model": "odd"})[1]["data"]
        self.assertEqual([(t["profile"], t["verdict"], t["reason"]) for t in plan["targets"]],
                         [("one", "skip", "not_served"), ("two", "use", None)])

    def test_explain_says_what_a_call_then_does(self):
        status, envelope = self.org.admin("POST", "/routes/explain", {"model": "assistant"})
        self.assertEqual(status, 200, envelope)
        plan = envelope["data"]
        self.assertEqual(plan["resolved_by"], "alias")
        self.assertEqual([t["profile"] for t in plan["targets"]], ["one", "two"])
        self.assertEqual([t["verdict"] for t in plan["targets"]], ["use", "use"])
        answer = self.ask("assistant")
        status, envelope = self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        self.assertEqual(envelope["data"]["plan"], plan)


class Purse(harness.Case):
    @classmethod
    def prepare(cls):
        cls.tg.setup_org("rich")  # returns once the platform's model can be asked for

    def test_out_of_credits_is_refused_before_anybody_is_asked(self):
        org = self.tg.setup_org("poor", credits="0.0001", platform=False)
        answer = self.tg.chat("Hello")
        self.assertStatus(answer, 429)
        self.assertEqual(answer.json["error"]["code"], "insufficient_quota")
        self.assertEqual(answer.headers["x-should-retry"], "false")
        told = answer.json["tollgate"]
        self.assertGreater(Decimal(told["needed"]), Decimal(told["available"]))
        self.assertEqual(Decimal(told["held"]), 0)
        self.assertEqual(self.tg.fake_calls(), [])
        self.assertEqual(org.balance(), Decimal("0.0001"))

    def test_an_affordable_maximum_passes_where_the_models_does_not(self):
        self.tg.setup_org("frugal", credits="0.01", platform=False)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        self.assertStatus(self.tg.chat(body), 429)
        self.assertStatus(self.tg.chat({**body, "max_tokens": 50}), 200)

    def test_g10_no_price_is_refused_never_free(self):
        self.tg.setup_org("unpriced")
        self.tg.must("PUT", "/models/openai_compatible/no-price", {"capabilities": ["text"]})
        self.tg.settled()
        self.assertStatus(self.tg.chat({"model": "no-price", "messages": [{"role": "user", "content": "Hi"}]}), 503)
        self.assertEqual(self.tg.fake_calls(), [])

    def test_concurrent_calls_never_overspend(self):
        org = self.tg.setup_org("tight", credits="0.02", platform=False)  # a call of max_tokens 100 holds about 0.0016
        body = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello [[delay_ms=300]]"}]}
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.tg.chat(body, key=org.key))) for _ in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        statuses = [a.status for a in answers]
        self.assertEqual(set(statuses), {200, 429})
        refused = [a for a in answers if a.status == 429]
        self.assertTrue(all(a.json["error"]["code"] in ("rate_limit_exceeded", "insufficient_quota") for a in refused))
        spent = sum(cost_of(a.usage) for a in answers if a.status == 200)
        self.assertEqual(Decimal("0.02") - org.balance(), spent)
        self.assertGreaterEqual(org.balance(), 0)

    def test_rpm_is_enforced_and_told(self):
        self.tg.setup_org("limited", limits={"rpm": 3})
        answers = [self.tg.chat("Hello") for _ in range(5)]
        self.assertEqual([a.status for a in answers], [200, 200, 200, 429, 429])
        self.assertEqual(answers[0].headers["x-ratelimit-limit-requests"], "3")
        self.assertEqual(answers[0].headers["x-ratelimit-remaining-requests"], "2")
        self.assertEqual(answers[3].json["error"]["code"], "rate_limit_exceeded")
        self.assertEqual(answers[3].headers["x-should-retry"], "true")
        self.assertGreater(int(answers[3].headers["retry-after"]), 0)


    def test_an_unknown_hold_is_not_asked_for_again(self):
        """The ledger does not answer in time: no second target is tried under the same hold, nothing stays held."""
        org = self.tg.setup_org("unanswered", platform=False)
        self.tg.setup_model("second-model")
        self.tg.must("PUT", "/orgs/unanswered/routes/both", {
            "match": {"alias": "both"}, "policy": {},
            "targets": [{"provider": "openai_compatible", "model": m} for m in (MODEL, "second-model")]})
        body = {"model": "both", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
        self.tg.settled()
        self.assertStatus(self.tg.chat(body, key=org.key), 200)
        before, asked = org.balance(), len(self.tg.fake_calls())
        locked = threading.Thread(target=lambda: self.tg.sql(
            f"BEGIN; SELECT 1 FROM tollgate.org_head WHERE org_id = '{org.id}' FOR UPDATE; SELECT pg_sleep(3); COMMIT"))
        locked.start()
        wait_until(lambda: self.tg.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = "
                                       "current_database()"), 10, "the lock")
        answer = self.tg.chat(body, key=org.key)
        locked.join()
        self.assertStatus(answer, 503)
        self.assertEqual(answer.json["error"]["code"], "billing_unavailable")
        self.assertEqual(len(self.tg.fake_calls()), asked)
        wait_until(lambda: org.balance() == before, 10, "what may have been held to be given back")


class Leavers(harness.Case):
    """Calls that end before their answer does."""
    ENV = {"TOLLGATE_WORKERS": "1", "TOLLGATE_DRAIN_SECONDS": "1"}

    def call(self, org, content):
        body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": content}]}).encode()
        s = socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=20)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Authorization: Bearer " + org.key.encode() + b"\r\nContent-Length: " + str(len(body)).encode()
                  + b"\r\n\r\n" + body)
        return s

    @staticmethod
    def leave(s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        s.close()

    def held(self, org):
        return int(self.tg.sql(f"SELECT count(*) FROM tollgate.lease WHERE org_id = '{org.id}' AND state = 'open'")[0][0])

    def test_leaving_while_the_org_is_read(self):
        org = self.tg.setup_org("unread")
        self.tg.restart()
        self.assertStatus(self.tg.get("/v1/credits", key=org.key), 200)  # the key is known, the org's picture is not
        locked = threading.Thread(target=lambda: self.tg.sql(
            "BEGIN; LOCK TABLE tollgate.profile; SELECT pg_sleep(1.5); COMMIT"))
        locked.start()
        wait_until(lambda: self.tg.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = "
                                       "current_database()"), 10, "the lock")
        s = self.call(org, "Hello")
        wait_until(lambda: self.tg.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
                                       "current_database()"), 10, "the picture to be asked for")
        self.leave(s)
        locked.join()
        self.assertStatus(self.tg.chat("Hello", key=org.key), 200)

    def test_stopping_cools_nobody_and_gives_holds_back(self):
        org = self.tg.setup_org("stopped")
        before = org.balance()
        with self.call(org, "Hello [[delay_ms=8000]]"):
            wait_until(lambda: self.held(org) == 1 and self.fake.stats(), 10, "the call")
            self.tg.restart()
        self.assertEqual(self.tg.sql("SELECT class FROM tollgate.cooldown"), [])
        self.assertEqual(self.held(org), 0)
        self.assertEqual(org.balance(), before)
        self.assertStatus(self.tg.chat("Hello", key=org.key), 200)

    def test_more_leavers_than_are_read_on_pay_an_estimate_and_cool_nobody(self):
        org = self.tg.setup_org("leavers", credits="100.00")
        calls = [self.call(org, "Hello [[first_ms=3000]]") for _ in range(70)]
        wait_until(lambda: self.held(org) == 70, 20, "the calls")
        for s in calls:
            self.leave(s)
        booked = lambda: self.tg.sql("SELECT status, basis, count(*), min(amount) > 0 FROM tollgate.usage_charge "
                                     f"WHERE org_id = '{org.id}' GROUP BY 1, 2 ORDER BY 2")
        wait_until(lambda: sum(int(r[2]) for r in booked()) == 70, 20, "the bookings")
        self.assertEqual(booked(), [["settled", "est_disconnect", "6", "t"], ["settled", "provider_usage", "64", "t"]])
        self.assertEqual(self.held(org), 0)
        self.assertEqual(self.tg.sql("SELECT class FROM tollgate.cooldown"), [])

    def test_a_tenants_short_deadline_does_not_cool_what_all_share(self):
        org = self.tg.setup_org("hasty")
        self.tg.must("PUT", "/orgs/hasty/routes/hasty", {
            "match": {"alias": "hasty"}, "targets": [{"provider": "openai_compatible", "model": MODEL}],
            "policy": {"timeout_ms": 300}})
        body = {"model": "hasty", "messages": [{"role": "user", "content": "Hello [[delay_ms=1000]]"}]}
        self.tg.settled()
        self.assertStatus(self.tg.chat(body, key=org.key), 504)
        self.assertStatus(self.tg.chat("Hello", key=self.tg.setup_org("patient", platform=False).key), 200)
        self.assertEqual(self.tg.sql("SELECT class FROM tollgate.cooldown"), [])

    def test_a_silent_stream_gets_a_keep_alive_before_its_first_content(self):
        answer = self.tg.chat("Hello [[first_ms=12000]]", key=self.tg.setup_org("silent").key, stream=True)
        self.assertStatus(answer, 200)
        self.assertTrue(answer.body.startswith(b": "), answer.body[:60])
        self.assertLess(answer.first_event_s, 11.5 * harness.SLOW)
        self.assertTrue(answer.done)


class BadInput(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")

    def refused(self, body, status=400, code=None, **more):
        before = self.org.balance()
        more.setdefault("key", self.org.key)
        answer = self.tg.post("/v1/chat/completions", body, **more)
        self.assertStatus(answer, status)
        told = answer.json
        self.assertEqual(told["tollgate"]["request_id"], answer.headers["x-request-id"])
        self.assertTrue(told["error"]["message"])
        self.assertTrue(told["tollgate"]["hint"], told)
        if code:
            self.assertEqual(told["error"]["code"], code)
        self.assertEqual(self.tg.fake_calls(), [])
        self.assertEqual(self.org.balance(), before)
        return told

    def test_bodies_that_are_no_calls(self):
        good = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        for body in ("", "{", "[]", "null", "{}", '{"model":"a","model":"b","messages":[]}', '{"model":5,"messages":[]}',
                     '{"model":"demo-model","messages":"hi"}', '{"model":"demo-model","messages":[]}',
                     '{"model":"demo-model","messages":[{"role":"user","content":"\\ud800"}]}', "{\"a\":NaN}", "[" * 20000,
                     {**good, "max_tokens": -1}, {**good, "max_tokens": 10**18}, {**good, "max_tokens": "5"},
                     {**good, "max_tokens": 0.5}, {**good, "n": 10**9}, {**good, "stream": "yes"}):
            with self.subTest(body=str(body)[:60]):
                self.refused(body)

    def test_null_is_absent(self):
        self.assertStatus(self.tg.chat({"model": MODEL, "max_tokens": None, "n": None, "stream": None,
                                        "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key), 200)

    def test_keys(self):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        self.refused(body, 401, "invalid_api_key", key="")
        self.refused(body, 401, "invalid_api_key", key="tg_nonsense")
        self.refused(body, 401, "invalid_api_key", key=self.org.key[:-1] + ("0" if self.org.key[-1] != "0" else "1"))
        self.refused(body, 400, key=self.org.key, headers={"x-api-key": "tg_other"})

    def test_unknown_model(self):
        self.refused({"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]}, 404, "model_not_found")

    def test_a_model_the_key_may_not_use(self):
        narrow = self.tg.setup_org("narrow", platform=False, models=["other-*"])
        self.refused({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}, 403, "permission_denied", key=narrow.key)

    def test_the_connection_is_sane_after_a_refusal(self):
        import http.client
        c = http.client.HTTPConnection(self.tg.data_host, self.tg.data_port, timeout=20)
        head = {"Authorization": f"Bearer {self.org.key}", "Content-Type": "application/json"}
        for body, status in (("{", 400), (json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}), 200)):
            c.request("POST", "/v1/chat/completions", body, head)
            answer = c.getresponse()
            answer.read()
            self.assertEqual(answer.status, status)
        c.close()

    def test_admin_bodies(self):
        for path, body, field in (("/orgs", {"slug": "x1", "name": "X", "tier": "business", "spend": 5}, "spend"),
                                  ("/orgs/acme/profiles", {"name": "p", "provider": "openai", "api_base": "http://x"}, "api_base")):
            status, envelope = self.tg.admin("POST", path, body)
            self.assertEqual(status, 400, envelope)
            self.assertIsNone(envelope["data"])
            self.assertEqual(envelope["error"]["code"], "unknown_field")
            self.assertIn(field, envelope["error"]["field"])
            self.assertTrue(envelope["error"]["hint"])
            self.assertTrue(envelope["error"]["request_id"].startswith("req_"))
        status, envelope = self.tg.admin("POST", "/orgs", '{"slug":"a","slug":"b"}')
        self.assertEqual(status, 400, envelope)


if __name__ == "__main__":
    import unittest
    unittest.main()
