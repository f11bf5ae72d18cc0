"""What callers say in one dialect and providers hear in another: tools, reasoning, refusals, sources, counts, and what has no words."""
import base64
import json

import harness
from mouth import Mouth
from test_matrix import CALLERS, MODELS, PARAMETERS
from test_providers import PROVIDERS, key

CHAT, RESPONSES, MESSAGES, GEMINI = CALLERS
TALKERS = [p for p in MODELS if p != "elevenlabs"]
MARK = "dG9sbGdhdGUx"  # what a seal begins with that is kept for its maker
THINKS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash-preview", "kimi": "kimi-k2.6", "openrouter": "openai/gpt-5.4",
          "grok": "grok-4.3", "mistral": "mistral-large-2512", "openai_compatible": "own-model"}
THINKING = {
    "openai_chat": {"reasoning_effort": "low", "max_completion_tokens": 2000},
    "openai_responses": {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False, "max_output_tokens": 2000},
    "anthropic_messages": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
    "gemini": {"generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"}, "maxOutputTokens": 2000}},
}


class Words(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.mouth = Mouth()
        cls.addClassCleanup(cls.mouth.close)
        cls.chains = cls.tg.setup_org("chains")  # what fails there cools nothing here
        cls.org = cls.tg.setup_org("acme")
        for provider in TALKERS:
            cls.profile(provider, provider, f"http://127.0.0.1:{cls.fake.port}/{provider}{PROVIDERS[provider][0]}")
        cls.profile("said", "openai_compatible", cls.mouth.url("said"), ["said-model"])
        cls.tg.settled()

    @classmethod
    def profile(cls, name, provider, url, models=None):
        models = models or sorted({MODELS[provider], THINKS[provider]})
        cls.tg.must("POST", "/orgs/acme/profiles", {"name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok",
                                                    "validate": False, "base_url": url, "models": models})

    @classmethod
    def route(cls, name, targets, org="acme"):
        cls.tg.must("PUT", f"/orgs/{org}/routes/{name}", {"match": {"alias": name}, "targets": targets, "policy": {}})

    def post(self, caller, model, text="Hello", stream=False, **more):
        tools, who = more.pop("tools", False), more.pop("key", self.org.key)
        path, body = caller.ask(model, text, stream=stream, tools=tools is True, **more)
        if tools not in (True, False):
            body["tools"] = tools
        return self.tg.post(path, body, key=who, headers=caller.headers())

    def whole(self, caller, provider, text="Hello", stream=False, model=None, **more):
        answer = self.post(caller, f"{provider}/{model or MODELS[provider]}", text, stream, **more)
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.headers["x-tollgate-provider"], provider)
        got = caller.read(answer, stream)
        if stream and caller is CHAT:
            got.message = self.put_together(answer)
        if caller is GEMINI:  # an empty part may hold a seal
            chunks = [json.loads(d) for _, d in caller.events(answer)] if stream else [answer.json]
            parts = [p for chunk in chunks for c in chunk.get("candidates", []) for p in c.get("content", {}).get("parts", [])]
            got.message = {"role": "model", "parts": [p for p in parts if p.get("text") != "" or "thoughtSignature" in p]}
        got.answer = answer
        return got

    def put_together(self, answer):
        """The message of a stream, as clients of chat completions send it back."""
        message = {"role": "assistant", "content": ""}
        for chunk in answer.events:
            for delta in (choice["delta"] for choice in chunk["choices"]):
                for k in ("content", "reasoning_content"):
                    if delta.get(k):
                        message[k] = message.get(k, "") + delta[k]
                for entry in delta.get("reasoning_details") or []:
                    details = message.setdefault("reasoning_details", [])
                    last = details[-1] if details else {}
                    if last.get("type") == entry["type"] and last.get("index") == entry.get("index"):
                        last.update({k: last[k] + v if k in ("text", "summary") and k in last else v for k, v in entry.items() if v is not None})
                    else:
                        details.append(dict(entry))
                for call in delta.get("tool_calls") or []:
                    calls = message.setdefault("tool_calls", [])
                    if call["index"] == len(calls):
                        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
                    at = calls[call["index"]]
                    at["id"] += call.get("id") or ""
                    at["function"]["name"] += call["function"].get("name") or ""
                    at["function"]["arguments"] += call["function"].get("arguments") or ""
                    if "extra_content" in call:
                        at["extra_content"] = call["extra_content"]
        return message

    def every(self, check, providers=TALKERS, streams=(False, True)):
        for provider in providers:
            for caller in CALLERS:
                for stream in streams:
                    with self.subTest(caller=caller.name, provider=provider, stream=stream):
                        check(caller, provider, stream)

    # ---- tools --------------------------------------------------------------------------------------------------------

    def test_parallel_calls_and_their_results(self):
        def check(caller, provider, stream):
            turn = self.whole(caller, provider, "Use the tool [[tools=3]]", stream, tools=True)
            self.assertEqual([c["name"] for c in turn.calls], ["weather"] * 3)
            self.assertEqual([json.loads(c["arguments"]) for c in turn.calls], [{"city": "Paris"}] * 3)
            self.assertEqual(len({c["id"] for c in turn.calls}), 1 if not turn.calls[0]["id"] else 3)
            self.assertEqual(turn.finish, caller.FINISH["tools"])
            again = self.whole(caller, provider, "Use the tool [[tools=3]]", stream, tools=True, turn=turn)
            for i in range(3):
                self.assertIn(f"sunny {i}", again.text)
        self.every(check)

    def test_words_before_the_calls(self):
        def check(caller, provider, stream):
            turn = self.whole(caller, provider, "Use the tool [[tools=2 preamble=3]]", stream, tools=True)
            self.assertEqual((turn.text, len(turn.calls)), ("w1 w2 w3", 2))
        self.every(check)

    def test_calls_whose_fragments_interleave(self):
        def chunk(calls, finish=None):
            return ("data: " + json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "own-model", "choices": [
                {"index": 0, "delta": {"tool_calls": calls} if calls else {}, "finish_reason": finish}]}) + "\n\n").encode()
        part = lambda i, text, name=None: {"index": i, **({"id": f"call_{i}", "type": "function"} if name else {}),
                                           "function": {**({"name": name} if name else {}), "arguments": text}}
        said = [chunk([part(0, "", "weather")]), chunk([part(1, '{"ci', "weather")]), chunk([part(0, '{"city"')]), chunk([part(1, 'ty":"Oslo"')]),
                chunk([part(0, ':"Riga"'), part(1, "}")]), chunk([part(2, "", "weather")]), chunk([part(0, "}")]), chunk(None, "tool_calls"), b"data: [DONE]\n\n"]
        for caller in CALLERS:
            with self.subTest(caller=caller.name):
                self.mouth.says("said", 200, said)
                answer = self.post(caller, "said-model", "Use the tool", True, tools=True)
                self.assertEqual(answer.status, 200, answer)
                if caller is RESPONSES:  # items overlap there, so that each stands where it began
                    done = [json.loads(d) for n, d in caller.events(answer) if n == "response.completed"][0]["response"]["output"]
                    calls = [(c["name"], json.loads(c["arguments"] or "{}")) for c in done]
                elif caller is CHAT:
                    got = {}
                    for _, data in caller.events(answer)[:-1]:
                        for c in json.loads(data)["choices"][0]["delta"].get("tool_calls", []) if json.loads(data)["choices"] else []:
                            at = got.setdefault(c["index"], ["", ""])
                            at[0] += c["function"].get("name", "")
                            at[1] += c["function"].get("arguments", "")
                    calls = [(n, json.loads(a or "{}")) for n, a in got.values()]
                else:
                    calls = [(c["name"], json.loads(c["arguments"])) for c in caller.read(answer, True).calls]
                self.assertEqual(calls, [("weather", {"city": "Riga"}), ("weather", {"city": "Oslo"}), ("weather", {})])

    # ---- reasoning -----------------------------------------------------------------------------------------------------

    def test_reasoning_is_shown_and_comes_back_to_its_maker_only(self):
        """The fake provider refuses a seal that it did not make, and a turn that lacks one it needs."""
        for maker in ("anthropic", "gemini", "openai", "kimi", "openrouter"):
            for caller in CALLERS:
                for stream in (False, True):
                    with self.subTest(caller=caller.name, maker=maker, stream=stream):
                        self.converse(caller, maker, stream)

    def converse(self, caller, maker, stream):
        text, more = "Use the tool [[reasoning=3 tools=2]]", THINKING[caller.name]
        turn = self.whole(caller, maker, text, stream, model=THINKS[maker], tools=True, **more)
        self.assertEqual(len(turn.calls), 2)
        if maker != "openai" or caller is RESPONSES:  # its chat shows none
            self.assertEqual(turn.reasoning.split(), ["r1", "r2", "r3"], turn.answer)
        again = self.whole(caller, maker, text, stream, model=THINKS[maker], tools=True, turn=turn, **more)
        self.assertIn("sunny 1", again.text)
        seals = self.seals(turn)
        if maker in ("anthropic", "gemini") or (maker == "openai" and caller is RESPONSES):
            self.assertTrue(seals, turn.message)
            sent = json.dumps(self.fake.requests()[-1])
            for seal in seals:
                self.assertIn(self.unwrapped(seal), sent)
        for other in ("anthropic", "gemini", "openai", "kimi", "mistral", "grok", "openai_compatible"):
            if other == maker:
                continue
            with self.subTest(caller=caller.name, maker=maker, other=other, stream=stream):
                got = self.whole(caller, other, text, stream, model=THINKS[other], tools=True, turn=turn, **more)
                self.assertIn("sunny 1", got.text)
                sent = json.dumps(self.fake.requests()[-1])
                self.assertNotIn(MARK, sent)
                for seal in seals:
                    self.assertNotIn(self.unwrapped(seal), sent)

    def seals(self, turn):
        found = []

        def walk(v):
            if isinstance(v, dict):
                for k, of in v.items():
                    if k in ("signature", "thoughtSignature", "thought_signature", "encrypted_content", "data") and isinstance(of, str) and of:
                        found.append(of)
                    walk(of)
            elif isinstance(v, list):
                for of in v:
                    walk(of)
        walk(turn.message)
        return [s for s in found if self.unwrapped(s)]

    def unwrapped(self, seal):
        """What its maker made; a wrapped seal has it behind who made it."""
        if not seal.startswith(MARK):
            return seal
        return base64.b64decode(seal + "=" * (-len(seal) % 4)).decode("latin1").rsplit("|", 1)[-1].removeprefix("call:")

    # ---- what an answer has beside words -------------------------------------------------------------------------------

    def test_what_was_cached_is_told(self):
        def check(caller, provider, stream):
            if caller is CHAT and provider in ("grok", "mistral"):
                return  # its own way to count, and thought in the content: they pass as they are
            got = self.whole(caller, provider, "one two three four five six [[cached=5 reasoning=2]]", stream, model=THINKS[provider], **THINKING[caller.name])
            row = self.org.admin("GET", f"/usage/calls/{got.answer.headers['x-request-id']}")[1]["data"]
            self.assertEqual(row["usage"]["in_cached_read"], 5)
            told = got.answer.body.decode()
            for name in {"openai_chat": ('"cached_tokens":',), "openai_responses": ('"cached_tokens":',), "anthropic_messages": ('"cache_read_input_tokens":',),
                         "gemini": ('"cachedContentTokenCount":',)}[caller.name]:
                self.assertRegex(told, name + " ?5")
            self.assertEqual(got.tokens, (sum(v for k, v in row["usage"].items() if k.startswith("in_")), sum(v for k, v in row["usage"].items() if k.startswith("out_"))))
        self.every(check)

    FINISH = {"openai_chat": ("content_filter",), "openai_responses": ("content_filter",), "anthropic_messages": ("refusal",), "gemini": ("SAFETY",)}

    def test_a_refusal_reads_as_one(self):
        def check(caller, provider, stream):
            got = self.whole(caller, provider, "Do it [[refusal]]", stream)
            told = got.answer.body.decode()
            if got.finish not in self.FINISH[caller.name]:  # OpenAI's own way: words that decline, and a plain stop
                self.assertIn(provider, ("openai", "openrouter", "grok"))
                self.assertRegex(told.lower() + got.text.lower(), r"i cannot help with that|\"refusal\": ?\"")
        self.every(check)

    def probe(self, caller, provider, stream):
        """What the provider said to the same question, in its own words."""
        asked = self.fake.requests()[-1]
        return harness.request("127.0.0.1", self.fake.port, "POST", asked["path"] + ("?" + asked["query"] if asked["query"] else ""), asked["body"], {
            **{k: v for k, v in asked["headers"].items() if k in ("content-type", "anthropic-version")},
            **{h: "fake-probe" for h in ("x-api-key", "x-goog-api-key")}, "authorization": "Bearer fake-probe"}).body.decode()

    def test_sources_are_told_or_named_as_lost(self):
        def check(caller, provider, stream):
            got = self.whole(caller, provider, "Where [[citations=2 words=4]]", stream)
            self.assertEqual(got.text.split()[:4], ["w1", "w2", "w3", "w4"])
            if "example.com/1" in got.answer.body.decode():
                self.assertIn("example.com/2", got.answer.body.decode())
                return
            if "example.com/1" in self.probe(caller, provider, stream):
                self.fail(f"{caller.name} at {provider}: sources are lost in silence")
        self.every(check)

    def test_a_blocked_prompt_and_a_failed_answer(self):
        """HTTP's 200 may be a refusal, or a failure."""
        for caller in CALLERS:
            for stream in (False, True):
                with self.subTest(caller=caller.name, stream=stream, what="blocked"):
                    got = self.whole(caller, "gemini", "Hello [[blocked]]", stream)
                    self.assertIn(got.finish, self.FINISH[caller.name] + ((None,) if caller is GEMINI else ()))
                    if caller is GEMINI:
                        self.assertIn("blockReason", got.answer.body.decode())
                with self.subTest(caller=caller.name, stream=stream, what="policy"):
                    answer = self.post(caller, f"openai/{MODELS['openai']}", "Hello [[blocked]]", stream)
                    self.assertEqual((answer.status, answer.headers["x-should-retry"]), (400, "false"), answer)
                    self.assertEqual(answer.headers["x-tollgate-fallback"], f"openai/{MODELS['openai']}=content_policy")

    def test_what_no_provider_kept_is_named(self):
        asked = {CHAT: ({"seed": 7, "metadata": {"a": "b"}, "user": "u-1", "logit_bias": {}, "verbosity": "low"}, {"seed", "metadata", "verbosity"}),
                 RESPONSES: ({"metadata": {"a": "b"}, "truncation": "auto", "safety_identifier": "u-1"}, {"metadata", "truncation"}),
                 GEMINI: ({"generationConfig": {"seed": 7, "topK": 3, "presencePenalty": 0.5, "maxOutputTokens": 100}, "safetySettings": []}, {"seed", "presencePenalty"})}
        for caller, (more, lost) in asked.items():
            with self.subTest(caller=caller.name):
                got = self.whole(caller, "anthropic", **more)
                dropped = (got.answer.headers["x-tollgate-dropped"] or "").replace("generationConfig.", "").split(", ")
                self.assertEqual(lost - set(dropped), set(), dropped)

    # ---- what has no words there ---------------------------------------------------------------------------------------

    def refused(self, caller, provider, field, reason, stream=False, **more):
        calls, balance = self.fake.stats()["calls"], self.org.balance()
        answer = self.post(caller, f"{provider}/{MODELS[provider]}", stream=stream, **more)
        self.assertEqual(answer.status, 400, answer)
        self.assertEqual(self.fake.stats()["calls"], calls, "nobody was asked")
        self.assertEqual(self.org.balance(), balance)
        self.assertIn(f"capability_missing:{reason}", [t["reason"] for t in answer.json["tollgate"]["targets"]], answer)
        self.assertIn(field, answer.body.decode())
        self.assertEqual(answer.headers["x-should-retry"], "false")

    def test_several_choices(self):
        for provider in TALKERS:
            for stream in (False, True):
                with self.subTest(provider=provider, stream=stream):
                    if provider in ("anthropic", "openrouter", "grok", "kimi"):
                        answer = self.post(CHAT, f"{provider}/{MODELS[provider]}", stream=stream, n=2)
                        if answer.status == 200:
                            self.assertEqual(self.choices(answer, stream), {0: "echo Hello", 1: "echo Hello"})
                        else:
                            self.refused(CHAT, provider, "n", "n", stream, n=2)
                        continue
                    answer = self.post(CHAT, f"{provider}/{MODELS[provider]}", stream=stream, n=2)
                    self.assertEqual(answer.status, 200, answer)
                    self.assertEqual(self.choices(answer, stream), {0: "echo Hello", 1: "echo Hello"})
        more = {"generationConfig": {"candidateCount": 2}}
        self.refused(GEMINI, "anthropic", "candidateCount", "generationConfig.candidateCount", **more)
        for stream in (False, True):
            answer = self.post(GEMINI, f"openai/{MODELS['openai']}", stream=stream, **more)
            self.assertEqual(answer.status, 200, answer)
            said = {}
            for chunk in [json.loads(d) for _, d in GEMINI.events(answer)] if stream else [answer.json]:
                for candidate in chunk.get("candidates", []):
                    at = candidate.get("index", 0)
                    said[at] = said.get(at, "") + "".join(p["text"] for p in candidate.get("content", {}).get("parts", []))
            self.assertEqual(said, {0: "echo Hello", 1: "echo Hello"})

    def choices(self, answer, stream):
        said = {}
        for event in answer.events if stream else [answer.json]:
            for choice in event["choices"]:
                words = choice["delta" if stream else "message"].get("content") or ""
                said[choice["index"]] = said.get(choice["index"], "") + words
        return said

    def test_where_to_stop(self):
        asks = {CHAT: {"stop": ["w3"]}, MESSAGES: {"stop_sequences": ["w3"]}, GEMINI: {"generationConfig": {"stopSequences": ["w3"], "maxOutputTokens": 100}}}
        for caller, more in asks.items():
            for provider in TALKERS:
                for stream in (False, True):
                    with self.subTest(caller=caller.name, provider=provider, stream=stream):
                        answer = self.post(caller, f"{provider}/{MODELS[provider]}", "Hello [[words=6]]", stream, **more)
                        if answer.status == 400:
                            self.assertEqual(provider, "grok", answer)  # its reasoning models refuse stop
                            field = "generationConfig.stopSequences" if caller is GEMINI else next(iter(more))
                            self.refused(caller, provider, field, field, stream, **more)
                            continue
                        got = caller.read(answer, stream)
                        self.assertEqual(got.text.split(), ["w1", "w2"])
                        if caller is MESSAGES:
                            self.assertIn(got.finish, ("end_turn", "stop_sequence"))
                        else:
                            self.assertEqual(got.finish, caller.FINISH["stop"])

    def test_what_cannot_be_said_is_refused_by_its_name(self):
        for caller, provider, field, reason, more in (
                (CHAT, "anthropic", "logprobs", "logprobs", {"logprobs": True}),
                (CHAT, "anthropic", "logit_bias", "logit_bias", {"logit_bias": {"5": 1}}),
                (CHAT, "gemini", "logit_bias", "logit_bias", {"logit_bias": {"5": 1}}),
                (CHAT, "anthropic", "web_search_options", "web_search_options", {"web_search_options": {}}),
                (CHAT, "anthropic", "audio", "", {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
                (CHAT, "anthropic", "input_audio", "", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}]}),
                (CHAT, "gemini", "messages[0]", "", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-abc"}}]}]}),
                (RESPONSES, "anthropic", "tools", "", {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
                (RESPONSES, "gemini", "tools", "", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}),
                (MESSAGES, "openai", "tools", "", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                (MESSAGES, "gemini", "mcp_servers", "mcp_servers", {"mcp_servers": [{"type": "url", "url": "https://h.example", "name": "n"}]}),
                (GEMINI, "openai", "cachedContent", "", {"cachedContent": "cachedContents/abc"}),
                (GEMINI, "anthropic", "tools", "", {"tools": [{"googleSearch": {}}]})):
            with self.subTest(caller=caller.name, provider=provider, field=field):
                calls = self.fake.stats()["calls"]
                answer = self.post(caller, f"{provider}/{MODELS[provider]}", **more)
                if answer.status == 404:  # it names what a provider keeps
                    self.assertIn("state_not_found", answer.body.decode())
                    continue
                if answer.status != 400:  # the model's own, not its dialect's
                    self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "no_route"), answer)
                    field = "capability_missing:audio_in" if "input" in field else "capability_missing:audio_out"
                self.assertEqual(self.fake.stats()["calls"], calls, "nobody was asked")
                self.assertIn(field, answer.body.decode())
                self.assertEqual(answer.headers["x-should-retry"], "false")
                if reason:
                    self.assertEqual(answer.headers["x-tollgate-fallback"], f"{provider}/{MODELS[provider]}=capability_missing:{reason}")

    # ---- from one dialect to the next -------------------------------------------------------------------------------------

    def test_a_chain_over_three_dialects(self):
        for caller in CALLERS:
            for failing in (0, 1, 2):
                for stream in (False, True):
                    with self.subTest(caller=caller.name, failing=failing, stream=stream):
                        self.chain(caller, failing, stream)

    def chain(self, caller, failing, stream):
        chain = ["anthropic", "gemini", "openai"]
        name = f"chain-{caller.name}-{failing}-{int(stream)}"
        for provider in chain:
            self.tg.must("POST", "/orgs/chains/profiles", {
                "name": f"{name}-{provider}", "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
                "base_url": self.mouth.url(f"{name}-{provider}"), "models": [MODELS[provider]]})
        self.route(name, [{"profile": f"{name}-{p}", "model": MODELS[p]} for p in chain], "chains")
        self.tg.settled()
        for i, provider in enumerate(chain):
            if i < failing:  # the first says so at once, the second in the midst of what comes before content
                self.mouth.says(f"{name}-{provider}", 529 if i == 0 else 200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}} if i == 0
                                else [b'data: {"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}\r\n\r\n'] if stream
                                else {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})
            else:
                self.mouth.passes_on(f"{name}-{provider}", self.fake.port, f"/{provider}{PROVIDERS[provider][0]}", lambda body: [body] if stream else body)
        answer = self.post(caller, name, "Hello there", stream, key=self.chains.key)
        self.assertEqual(answer.status, 200, answer)
        got = caller.read(answer, stream)
        self.assertEqual((got.text, got.finish), ("echo Hello there", caller.FINISH["stop"]))
        self.assertEqual(answer.headers["x-tollgate-provider"], chain[failing])
        self.assertEqual(answer.headers["x-tollgate-attempts"], str(failing + 1))
        told = [f"{name}-{p}/{MODELS[p]}=overloaded" for p in chain[:failing]]
        self.assertEqual(answer.headers["x-tollgate-fallback"], ", ".join(told) or None)

    def test_who_has_no_words_is_passed_over(self):
        said = {CHAT: ({"n": 2}, "n"), GEMINI: ({"generationConfig": {"candidateCount": 2}}, "generationConfig.candidateCount"),
                RESPONSES: ({"tools": [{"type": "web_search"}]}, "tools")}
        self.route("words", [{"profile": "anthropic", "model": MODELS["anthropic"]}, {"profile": "openai", "model": MODELS["openai"]}])
        self.tg.settled()
        for caller, (more, field) in said.items():
            with self.subTest(caller=caller.name):
                answer = self.post(caller, "words", **more)
                self.assertEqual(answer.status, 200, answer)
                self.assertEqual(answer.headers["x-tollgate-provider"], "openai")
                self.assertTrue(answer.headers["x-tollgate-fallback"].startswith(f"anthropic/{MODELS['anthropic']}=capability_missing:{field}"), answer.headers["x-tollgate-fallback"])

    # ---- counting ---------------------------------------------------------------------------------------------------------

    def test_tokens_are_counted_by_who_can(self):
        asks = {"messages": lambda m: ("/v1/messages/count_tokens", {"model": m, "messages": [{"role": "user", "content": "one two three"}]}, "input_tokens"),
                "gemini": lambda m: (f"/v1beta/models/{m}:countTokens", {"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]}, "totalTokens"),
                "responses": lambda m: ("/v1/responses/input_tokens", {"model": m, "input": "one two three"}, "input_tokens")}
        for name, ask in asks.items():
            for provider in TALKERS:
                with self.subTest(ask=name, provider=provider):
                    path, body, member = ask(f"{provider}/{MODELS[provider]}")
                    calls, balance = self.fake.stats()["calls"], self.org.balance()
                    answer = self.tg.post(path, body, key=self.org.key, headers={"anthropic-version": "2023-06-01"} if name == "messages" else {})
                    self.assertEqual(self.org.balance(), balance)
                    if answer.status == 200:
                        self.assertEqual(answer.json[member], 7, answer)
                        self.assertIn(provider, ("anthropic", "gemini", "openai", "openrouter", "grok", "kimi", "openai_compatible"))
                        continue
                    self.assertNotIn(provider, ("anthropic", "gemini", "openai"), answer)
                    self.assertEqual(self.fake.stats()["calls"], calls, answer)
                    self.assertIn("capability_missing", str([t["reason"] for t in answer.json["tollgate"]["targets"]]))
