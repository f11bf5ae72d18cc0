"""What a call costs, from the fake provider's counting rules (loadtest/README.md) to the cent: the header, the ledger, the usage row
and GET /v1/generations say the same, and the same question costs the same whatever dialect its caller speaks."""
import json
import threading
import http.server
from decimal import Decimal

import harness
import test_matrix
from test_providers import PROVIDERS, key

MODEL = "bill-model"
# nano-credits a unit; all different, so that a token in the wrong class is another bill
PRICE = {"in_text": 3000, "in_cached_read": 300, "in_cache_write_5m": 3750, "in_cache_write_1h": 6000, "in_audio": 32000,
         "in_image": 5000, "in_tool_prompt": 7000, "out_text": 15000, "out_reasoning": 17000, "out_audio": 64000}
LINES = [{"class": c, "price": str(Decimal(n) / 1000), "per": 1000000} for c, n in PRICE.items()]
AT = [p for p in test_matrix.MODELS if p != "elevenlabs"]
CHAT, RESPONSES, MESSAGES, GEMINI = test_matrix.CALLERS
# Their chat answers do not say how much of the output was thought (openai-compatible.md); Kimi speaks nothing else here.
THOUGHT_UNSAID = {"mistral", "kimi"}
# scenario: (providers, what is told to the fake, arguments of ask(), classes beside in_text and out_text)
SCENARIOS = {
    "plain": (AT, "", {}, {}),
    "stream": (AT, "", {"stream": True}, {}),
    "cached": (AT, "[[cached=5]]", {}, {"in_cached_read": 5}),
    "cached stream": (AT, "[[cached=5]]", {"stream": True}, {"in_cached_read": 5}),
    "write": (("anthropic", "openai"), "[[cached=3 cache_write=4]]", {}, {"in_cached_read": 3, "in_cache_write_5m": 4}),
    "write 1h": (("anthropic",), "[[cache_write=4 cache_write_1h=2]]", {}, {"in_cache_write_5m": 4, "in_cache_write_1h": 2}),
    "write stream": (("anthropic",), "[[cached=3 cache_write=4 cache_write_1h=2]]", {"stream": True},
                     {"in_cached_read": 3, "in_cache_write_5m": 4, "in_cache_write_1h": 2}),
    "reasoning": (AT, "[[reasoning=6]]", {}, {"out_reasoning": 6}),
    "reasoning stream": (AT, "[[reasoning=6]]", {"stream": True}, {"out_reasoning": 6}),
    "tools": (AT, "use the tool", {"tools": True}, {}),
    "tools stream": (AT, "use the tool", {"tools": True, "stream": True}, {}),
    "image": (AT, "", {"image": True}, {}),
    "many": (AT, "[[words=40]]", {"stream": True}, {}),
}


def amount(usage):
    return Decimal(sum(PRICE[c] * n for c, n in usage.items())) / 10**9


class Bill(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def platform_profile(cls, name, provider, base_url, model):
        cls.tg.must("POST", "/orgs/platform/profiles", {
            "name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "platform", "validate": False,
            "base_url": base_url, "models": [model]})

    def booked(self, answer):
        """The call as everybody is told of it; all of it has to agree."""
        request = answer.headers["x-request-id"]
        harness.wait_until(lambda: self.tg.get(f"/v1/generations/{request}", key=self.org.key).status == 200, what="the row")
        told = self.tg.get(f"/v1/generations/{request}", key=self.org.key).json
        status, envelope = self.org.admin("GET", f"/usage/calls/{request}")
        self.assertEqual(status, 200, envelope)
        row = envelope["data"]
        for member in ("amount", "usage", "flags", "basis", "provider", "model"):
            self.assertEqual(told[member], row[member], member)
        posted = self.tg.sql(f"""SELECT coalesce(sum(t.amount), 0) FROM tollgate.transfer t JOIN tollgate.usage_charge c USING (org_id, posting_id)
            WHERE 'req_' || c.call_id = '{request}' AND t.kind LIKE 'usage%'""")
        self.assertEqual(Decimal(posted[0][0]) / 10**9, Decimal(row["amount"]), "the ledger's own entry")
        self.assertEqual(sum(Decimal(line["amount"]) for line in row["lines"]), Decimal(row["amount"]), row["lines"])
        if answer.headers.get("x-tollgate-cost"):
            self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), Decimal(row["amount"]))
        return row


class Bills(Bill):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits="1000")
        for provider in AT:
            base = f"http://127.0.0.1:{cls.fake.port}/{provider}{PROVIDERS[provider][0]}"
            cls.platform_profile(provider, provider, base, MODEL)
            cls.tg.setup_model(MODEL, provider, lines=LINES)
            cls.tg.must("PUT", f"/models/{provider}/{MODEL}", {"capabilities": ["text", "vision", "audio_in", "tools", "json"],
                                                              "context_window": 128000, "max_output": 16384})
        cls.tg.settled()

    def expected(self, provider, scenario, text):
        """By the fake's own rules: words, four tokens a message; the answer echoes, and notes a picture in five words."""
        _, _, what, classes = SCENARIOS[scenario]
        total_in = len("Be short.".split()) + 4 + len(text.split()) + 4
        thought = classes.get("out_reasoning", 0)
        out = len("echo Hello over there".split()) + (5 if what.get("image") else 0)
        if what.get("tools"):
            out = len(["weather"] + '{"city": "Paris"}'.split())
        elif scenario == "many":
            out = 40
        want = dict(classes, out_text=out)
        if provider in THOUGHT_UNSAID and thought:
            del want["out_reasoning"]
            want["out_text"] += thought
        want["in_text"] = total_in - sum(n for c, n in classes.items() if c.startswith("in_"))
        return want

    def stated(self, caller, provider, answer, stream):
        """Tokens in and out as the caller is told. A provider of the caller's own dialect speaks for itself: xAI's chat has thought
        beside the completion, in the total alone; Mistral's content is a list."""
        if caller is CHAT and provider in ("grok", "mistral"):
            u = answer.usage
            return u["prompt_tokens"], u["total_tokens"] - u["prompt_tokens"]
        return caller.read(answer, stream).tokens

    def one(self, caller, provider, scenario):
        _, told, what, _ = SCENARIOS[scenario]
        text = f"Hello over there {told}".strip()
        path, body = caller.ask(f"{provider}/{MODEL}", text, **what)
        before = self.org.balance()
        answer = self.tg.post(path, body, key=self.org.key, headers=caller.headers())
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual((answer.headers["x-tollgate-provider"], answer.headers["x-tollgate-billing-source"]), (provider, "platform"))
        row = self.booked(answer)
        want = self.expected(provider, scenario, text)
        self.assertEqual({c: n for c, n in row["usage"].items() if n}, want)
        self.assertEqual((row["flags"], row["basis"]), ([], "provider_usage"))
        self.assertEqual(Decimal(row["amount"]), amount(want))
        self.assertEqual(before - self.org.balance(), amount(want), "what is left is what was")
        # the caller's own dialect, by its own rules of what includes what, says the same
        self.assertEqual(self.stated(caller, provider, answer, bool(what.get("stream"))), (sum(n for c, n in want.items() if c.startswith("in_")), sum(n for c, n in want.items() if c.startswith("out_"))))
        return Decimal(row["amount"])

    def test_every_bill_is_exact_and_the_same_in_every_dialect(self):
        cells = 0
        for scenario, (providers, *_) in SCENARIOS.items():
            for provider in providers:
                cost = {}
                for caller in test_matrix.CALLERS:
                    with self.subTest(scenario=scenario, provider=provider, caller=caller.name):
                        cost[caller.name] = self.one(caller, provider, scenario)
                        cells += 1
                self.assertEqual(len(set(cost.values())), 1, (scenario, provider, cost))
        self.assertGreater(cells, 300)

    def test_sound_is_counted_apart(self):
        sound = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
        text = "Hear this, please [[audio_in=7]]"
        chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}]}]}
        gemini = {"contents": [{"role": "user", "parts": [{"text": text}, {"inlineData": {"mimeType": "audio/wav", "data": sound}}]}]}
        for provider in ("openai", "gemini", "openrouter", "openai_compatible"):
            for path, body in (("/v1/chat/completions", {"model": f"{provider}/{MODEL}", **chat}),
                               (f"/v1beta/models/{provider}/{MODEL}:generateContent", gemini)):
                with self.subTest(provider=provider, path=path):
                    answer = self.tg.post(path, body, key=self.org.key)
                    self.assertEqual(answer.status, 200, answer)
                    row = self.booked(answer)
                    self.assertEqual((row["usage"]["in_audio"], row["usage"]["in_text"]), (7, len(text.split()) + 4 - 7))
                    self.assertEqual(Decimal(row["amount"]), amount(row["usage"]))

    def test_a_search_that_nobody_asked_for_does_not_take_the_hold(self):
        for caller in test_matrix.CALLERS:
            with self.subTest(caller=caller.name):
                path, body = caller.ask(f"anthropic/{MODEL}", "Hello [[searches=2]]")
                answer = self.tg.post(path, body, key=self.org.key, headers=caller.headers())
                self.assertEqual(answer.status, 200, answer)
                row = self.booked(answer)
                self.assertEqual((row["usage"]["searches"], row["flags"]), (2, ["class_unpriced"]))
                self.assertEqual(Decimal(row["amount"]), amount({c: n for c, n in row["usage"].items() if c != "searches"}))

    def test_what_has_no_bound_is_refused_on_the_platforms_account(self):
        asks = [
            (CHAT, "openai", {"web_search_options": {}}, "web_search_options"),
            (CHAT, "openrouter", {"plugins": [{"id": "web"}]}, "plugins"),
            (CHAT, "openrouter", {"models": ["dear/model"]}, "models"),
            (RESPONSES, "openai", {"tools": [{"type": "web_search"}], "max_tool_calls": 1}, "tools"),
            (MESSAGES, "anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]}, "tools"),
            (GEMINI, "gemini", {"tools": [{"googleSearch": {}}]}, "tools"),
        ]
        calls, before = self.fake.stats()["calls"], self.org.balance()
        for caller, provider, more, field in asks:
            with self.subTest(caller=caller.name, field=field):
                path, body = caller.ask(f"{provider}/{MODEL}", "Hello")
                answer = self.tg.post(path, {**body, **more}, key=self.org.key, headers=caller.headers())
                self.assertEqual(answer.status, 400, answer)
                self.assertIn(f"{field} may cost more than can be held", answer.body.decode())
                self.assertIn("price_unknown", answer.body.decode())
        self.assertEqual((self.fake.stats()["calls"], self.org.balance()), (calls, before))

    def test_ones_own_account_has_them(self):
        base = f"http://127.0.0.1:{self.fake.port}/anthropic{PROVIDERS['anthropic'][0]}"
        self.tg.must("POST", "/orgs/acme/profiles", {"name": "own", "provider": "anthropic", "secret": key("anthropic", "good"),
                     "billing_source": "byok", "validate": False, "base_url": base, "models": ["own-claude"]})
        self.tg.settled()
        path, body = MESSAGES.ask("own-claude", "Hello [[searches=3]]")
        body["tools"] = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]
        answer = self.tg.post(path, body, key=self.org.key, headers=MESSAGES.headers())
        self.assertEqual(answer.status, 200, answer)
        row = self.booked(answer)
        self.assertEqual((row["usage"]["searches"], Decimal(row["amount"])), (3, 0))


class Counting(Bill):
    """To count tokens costs nothing, and needs neither credits nor a price."""

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("poor", credits=None)
        for provider in ("anthropic", "gemini", "openai"):
            cls.platform_profile(provider, provider, f"http://127.0.0.1:{cls.fake.port}/{provider}{PROVIDERS[provider][0]}", "free-model")
        cls.tg.settled()

    def test_a_count_is_free(self):
        turn = [{"role": "user", "content": "a b c"}]
        asks = [("/v1/messages/count_tokens", {"model": "anthropic/free-model", "messages": turn}, lambda a: a["input_tokens"]),
                ("/v1/responses/input_tokens", {"model": "openai/free-model", "input": "a b c"}, lambda a: a["input_tokens"]),
                ("/v1beta/models/gemini/free-model:countTokens", {"contents": [{"role": "user", "parts": [{"text": "a b c"}]}]}, lambda a: a["totalTokens"])]
        for path, body, tokens in asks:
            with self.subTest(path=path):
                answer = self.tg.post(path, body, key=self.org.key, headers={"anthropic-version": "2023-06-01"})
                self.assertEqual((answer.status, tokens(answer.json)), (200, 7), answer)
                self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), 0)
                row = self.booked(answer)
                self.assertEqual((row["usage"], row["basis"], row["flags"], Decimal(row["amount"])), (None, "none", [], 0))
        self.assertEqual(self.tg.sql("SELECT count(*) FROM tollgate.lease"), [["0"]])

    def test_a_chat_is_not(self):
        path, body = CHAT.ask("openai/free-model", "Hello")
        answer = self.tg.post(path, body, key=self.org.key)
        self.assertEqual(answer.status, 503, answer)
        self.assertIn("price_unknown", answer.body.decode())


class Stub(http.server.ThreadingHTTPServer):
    """Answers what it is told, word for word: counters that the fake provider does not make."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            said = self.server.says
            stream = isinstance(said, list)
            body = "".join(f"data: {json.dumps(e)}\n\n" for e in said) + "data: [DONE]\n\n" if stream else json.dumps(said)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.says = None
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class Traps(Bill):
    """ledger.md 4.2, each from the provider's words to the ledger."""
    BANDS = LINES + [{"class": "in_text", "price": "6", "per": 1000000, "above_input_tokens": 100},
                     {"class": "out_text", "price": "30", "per": 1000000, "above_input_tokens": 100},
                     {"class": "in_text", "price": "1", "per": 1000000, "service_tier": "flex"}]

    @classmethod
    def prepare(cls):
        cls.stub = Stub()
        cls.addClassCleanup(cls.stub.close)
        cls.org = cls.tg.setup_org("acme", credits="1000")
        for provider in ("openai", "grok", "gemini", "mistral", "openrouter", "kimi", "anthropic"):
            cls.platform_profile(provider, provider, cls.stub.url + PROVIDERS[provider][0], "trap-model")
            cls.tg.setup_model("trap-model", provider, lines=cls.BANDS)
            cls.tg.must("PUT", f"/models/{provider}/trap-model", {"capabilities": ["text", "tools", "json", "audio_in"],
                                                                 "context_window": 128000, "max_output": 16384})
        cls.tg.settled()

    def ask(self, provider, says, text="Hello", stream=False):
        self.stub.says = says
        answer = self.tg.chat({"model": f"{provider}/trap-model", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]},
                              key=self.org.key, stream=stream)
        self.assertEqual(answer.status, 200, answer)
        return answer, self.booked(answer)

    def chat(self, usage, **more):
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "trap-model",
                  "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}], **more}
        return answer if usage is None else {**answer, "usage": usage}

    def chunk(self, delta=None, usage=None, finish=None, choices=True):
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "trap-model",
                 "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}] if choices else []}
        return chunk if usage is None else {**chunk, "usage": usage}

    def gemini(self, usage):
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP", "index": 0}],
                "usageMetadata": usage, "modelVersion": "trap-model", "responseId": "r1"}

    def bill(self, row, want, flags=()):
        self.assertEqual({c: n for c, n in row["usage"].items() if n}, want)
        self.assertEqual(row["flags"], list(flags))
        self.assertEqual(Decimal(row["amount"]), amount({c: n for c, n in want.items() if c in PRICE}))

    def test_xai_reasoning_is_beside_the_completion(self):
        answer, row = self.ask("grok", self.chat({"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 36, "completion_tokens_details": {"reasoning_tokens": 7},
                                                  "prompt_tokens_details": {"text_tokens": 20, "cached_tokens": 8}, "cost_in_usd_ticks": 12345678}))
        self.bill(row, {"in_text": 12, "in_cached_read": 8, "out_text": 9, "out_reasoning": 7})
        self.assertEqual(Decimal(row["provider_cost"]), Decimal("0.001234568"))

    def test_gemini_thoughts_and_tool_prompts_are_beside(self):
        answer, row = self.ask("gemini", self.gemini({"promptTokenCount": 20, "cachedContentTokenCount": 8, "candidatesTokenCount": 9,
                                                      "thoughtsTokenCount": 7, "toolUsePromptTokenCount": 3, "totalTokenCount": 39}))
        self.bill(row, {"in_text": 12, "in_cached_read": 8, "in_tool_prompt": 3, "out_text": 9, "out_reasoning": 7})
        self.assertEqual((answer.usage["prompt_tokens"], answer.usage["completion_tokens"], answer.usage["total_tokens"]), (23, 16, 39))

    def test_mistral_usage_comes_with_the_finish(self):
        usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
        answer, row = self.ask("mistral", [self.chunk({"role": "assistant", "content": "hi"}), self.chunk({"content": ""}, usage, "stop")], stream=True)
        self.bill(row, {"in_text": 20, "out_text": 9})

    def test_mistral_seconds_are_beside_its_tokens(self):
        self.stub.says = self.chat({"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "prompt_audio_seconds": 2})
        answer = self.tg.chat({"model": "mistral/trap-model", "max_tokens": 1000, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "Hear"}, {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}}]}]}, key=self.org.key)
        self.assertEqual(answer.status, 200, answer)
        self.bill(self.booked(answer), {"in_text": 20, "out_text": 9, "audio_in_ms": 2000}, ["class_unpriced"])

    def test_snapshots_are_replaced_never_summed(self):
        usages = [{"prompt_tokens": 20, "completion_tokens": n, "total_tokens": 20 + n} for n in (1, 5, 9)]
        chunks = [self.chunk({"content": "a"}, u) for u in usages[:2]] + [self.chunk({}, None, "stop"), self.chunk(usage=usages[2], choices=False)]
        self.bill(self.ask("openai", chunks, stream=True)[1], {"in_text": 20, "out_text": 9})

    def test_openrouters_cost_is_the_fee_alone_with_an_own_key(self):
        usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "cost": 0.0005}
        row = self.ask("openrouter", self.chat(usage))[1]
        self.bill(row, {"in_text": 20, "out_text": 9})
        self.assertEqual(Decimal(row["provider_cost"]), Decimal("0.0005"))
        usage.update(is_byok=True, cost_details={"upstream_inference_cost": 0.01})
        self.assertEqual(Decimal(self.ask("openrouter", self.chat(usage))[1]["provider_cost"]), Decimal("0.0105"))

    def test_kimi_cached_stands_in_two_places(self):
        for at in ({"cached_tokens": 8}, {"prompt_tokens_details": {"cached_tokens": 8}}, {"cached_tokens": 8, "prompt_tokens_details": {"cached_tokens": 8}}):
            self.bill(self.ask("kimi", self.chat({"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, **at}))[1],
                      {"in_text": 12, "in_cached_read": 8, "out_text": 9})

    def test_absent_is_not_zero(self):
        row = self.ask("openai", self.chat(None))[1]
        self.assertEqual((row["basis"], row["flags"]), ("est_missing", ["estimated"]))
        self.assertGreater(Decimal(row["amount"]), 0)
        row = self.ask("openai", self.chat({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}))[1]
        self.assertEqual((row["basis"], row["flags"], Decimal(row["amount"])), ("provider_usage", [], 0))

    def test_lies_are_clamped_and_never_more_than_the_hold(self):
        for usage, flag in (({"prompt_tokens": -20, "completion_tokens": 9, "total_tokens": 9}, "clamped"),
                            ({"prompt_tokens": 10**15, "completion_tokens": 10**15, "total_tokens": 2 * 10**15}, "clamped"),
                            ({"prompt_tokens": 120000, "completion_tokens": 9, "total_tokens": 120009}, "clamped"),
                            ({"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 30}, "usage_inconsistent")):
            answer, row = self.ask("openai", self.chat(usage))
            hold = next(t["hold"] for t in row["plan"]["targets"] if t["verdict"] == "use")
            self.assertIn(flag, row["flags"], usage)
            self.assertLessEqual(Decimal(row["amount"]), Decimal(hold))
            self.assertGreaterEqual(Decimal(row["amount"]), 0)
        falling = [self.chunk({"content": "a"}, {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}), self.chunk({}, None, "stop"),
                   self.chunk(usage={"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}, choices=False)]
        self.assertIn("usage_inconsistent", self.ask("openai", falling, stream=True)[1]["flags"])

    def test_the_band_goes_by_all_of_the_input(self):
        text = "word " * 200
        under = self.chat({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 60}})
        over = self.chat({"prompt_tokens": 101, "completion_tokens": 10, "total_tokens": 111, "prompt_tokens_details": {"cached_tokens": 60}})
        self.bill(self.ask("openai", under, text)[1], {"in_text": 40, "in_cached_read": 60, "out_text": 10})
        row = self.ask("openai", over, text)[1]
        self.assertEqual(Decimal(row["amount"]), Decimal(41 * 6000 + 60 * 300 + 10 * 30000) / 10**9)
        # Anthropic's input is what was neither read from a cache nor written to it; the band goes by the sum
        self.stub.says = {"id": "msg_1", "type": "message", "role": "assistant", "model": "trap-model", "content": [{"type": "text", "text": "hi"}],
                          "stop_reason": "end_turn", "stop_sequence": None, "usage": {
                              "input_tokens": 41, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10,
                              "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}, "output_tokens": 10}}
        answer = self.tg.chat({"model": "anthropic/trap-model", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}, key=self.org.key)
        row = self.booked(answer)
        self.assertEqual(Decimal(row["amount"]), Decimal(41 * 6000 + 50 * 300 + 4 * 3750 + 6 * 6000 + 10 * 30000) / 10**9)
        self.assertEqual((answer.usage["prompt_tokens"], answer.usage["prompt_tokens_details"]["cached_tokens"]), (101, 50))

    def test_the_tier_that_was_served_is_the_one_that_is_charged(self):
        usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
        for tier, price in (("flex", 1000), ("default", 3000), (None, 3000), ("unheard-of", 3000)):
            more = {"service_tier": tier} if tier else {}
            row = self.ask("openai", self.chat(usage, **more))[1]
            self.assertEqual(Decimal(row["amount"]), Decimal(20 * price + 9 * 15000) / 10**9, tier)


if __name__ == "__main__":
    import unittest
    unittest.main()
