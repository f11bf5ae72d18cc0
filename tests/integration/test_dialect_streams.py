"""Streams as real providers break them, to callers of each dialect: cut after any event and at any byte, in any framing, silent,
without usage or end. A caller gets the whole answer and its end, or an error event; what was delivered is booked.
"""
import json
import re
import socket
import threading

import harness
from harness import wait_until
from mouth import Mouth
from test_matrix import CALLERS, MODELS
from test_providers import PROVIDERS, key

# By the wire language of their chat; the first of each is asked in each way, the others where they differ.
TELLERS = ["openai", "anthropic", "gemini", "mistral", "openrouter"]
ASKED = "Hello over there [[words=6 chunks=3]]"
SAID = "w1 w2 w3 w4 w5 w6"


def cut(stream):
    """A stream as its events, each with the empty line that ends it."""
    return [e for e in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", stream) if e]


class Part:
    """As much of a stream as came: its text, the error that ended it, and whether it ended as it should."""

    def __init__(self, caller, body):
        self.text, self.error, self.ended, self.blocks = "", None, False, []
        for block in re.split(r"\n\n|\r\n\r\n", body.decode()):
            if block.strip():
                self.blocks.append(block)
                getattr(self, "of_" + caller.name)(block)

    def event(self, block):
        lines = block.split("\n")
        data = "\n".join(line[5:].strip() for line in lines if line.startswith("data:"))
        return "".join(line[6:].strip() for line in lines if line.startswith("event:")), data

    def of_openai_chat(self, block):
        name, data = self.event(block)
        if data == "[DONE]":
            self.ended = True
        elif data:
            chunk = json.loads(data)
            self.error = chunk.get("error") or self.error
            for choice in chunk.get("choices", []):
                self.text += choice["delta"].get("content") or ""

    def of_openai_responses(self, block):
        name, data = self.event(block)
        if data:
            event = json.loads(data)
            assert name == event["type"], block
            if name == "response.output_text.delta":
                self.text += event["delta"]
            elif name == "error":
                self.error = event
            elif name == "response.failed":
                self.error = event["response"]["error"]
            self.ended |= name in ("response.completed", "response.incomplete")

    def of_anthropic_messages(self, block):
        name, data = self.event(block)
        if data:
            event = json.loads(data)
            assert name == event["type"], block
            if name == "content_block_delta":
                self.text += event["delta"].get("text", "")
            elif name == "error":
                self.error = event["error"]
            self.ended |= name == "message_stop"

    def of_gemini(self, block):
        if block.lstrip().startswith("{"):  # as its clients expect an error: no event at all
            self.error = json.loads(block)["error"]
            return
        name, data = self.event(block)
        chunk = json.loads(data)
        for candidate in chunk.get("candidates", []):
            self.text += "".join(p.get("text", "") for p in candidate.get("content", {}).get("parts", []))
            self.ended |= "finishReason" in candidate


def is_whole(events, asked):
    """Did the provider say all that its dialect's streams end with?"""
    said = b"".join(events)
    if "/messages" in asked:
        return b"event: message_stop" in said
    if "/responses" in asked:
        return b"event: response.completed" in said
    return re.search(rb'"finish_reason": ?"|"finishReason"', said) is not None


class Streams(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.mouth = Mouth()
        cls.addClassCleanup(cls.mouth.close)
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "spare", models=["spare-model"])
        cls.made = 0
        cls.free = []

    def profiles(self, provider, count, spare=False):
        """So many connections of their own: what one cools leaves the others alone."""
        names = []
        for _ in range(count):
            Streams.made += 1
            name = f"s{self.made}"
            self.tg.must("POST", "/orgs/acme/profiles", {
                "name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
                "base_url": self.mouth.url(name), "models": [MODELS[provider]]})
            targets = [{"profile": name, "model": MODELS[provider]}] + ([{"profile": "spare", "model": "spare-model"}] if spare else [])
            self.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": name}, "targets": targets, "policy": {}})
            names.append(name)
        return names

    def passes_on(self, name, provider, change=lambda body: [body], end="whole"):
        self.mouth.passes_on(name, self.fake.port, f"/{provider}{PROVIDERS[provider][0]}", change, end)

    def post(self, caller, name, text=ASKED, stream=True, **more):
        path, body = caller.ask(name, text, stream=stream, **more)
        return self.tg.post(path, body, key=self.org.key, headers=caller.headers())

    def row(self, answer):
        call = lambda: self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        wait_until(lambda: call()[0] == 200, 10, "the row")
        return call()[1]["data"]

    # ---- cut after each event -------------------------------------------------------------------------------------------

    def test_a_stream_cut_after_any_event_is_never_a_clean_end(self):
        for provider in TELLERS:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    self.cut_everywhere(caller, provider)

    def cut_everywhere(self, caller, provider):
        first, *_ = self.profiles(provider, 1)
        self.tg.settled()
        self.passes_on(first, provider)
        whole = self.post(caller, first)
        self.assertEqual(whole.status, 200, whole)
        self.assertEqual(caller.read(whole, True).text, SAID)
        asked = self.mouth.asked(first)[0].path
        took = []
        self.passes_on(first, provider, lambda body: took.append(cut(body)) or [body])
        self.post(caller, first)
        events = took[0]
        names = self.profiles(provider, len(events))
        self.tg.settled()
        for k, name in enumerate(names):
            self.passes_on(name, provider, lambda body: cut(body)[:k], ("whole", "fin", "reset")[k % 3])
            answer = self.post(caller, name)
            good = is_whole(events[:k], asked)
            if answer.status != 200:
                self.assertEqual(answer.status, 502, (k, answer))
                self.assertFalse(good)
                continue
            part = Part(caller, answer.body)
            self.assertEqual(part.ended, good, (k, answer.body[-600:]))
            self.assertNotEqual(part.ended, part.error is not None, (k, answer.body[-600:]))
            self.assertTrue(SAID.startswith(part.text), part.text)
            self.assertTrue(part.text or part.ended, "an error after the first content has content before it")
            row = self.row(answer)
            if part.error:
                self.assertIn(row["basis"], ("est_partial", "provider_usage"), row)  # it may have said it before it broke off
                self.assertGreaterEqual(row["usage"]["out_text"], len(part.text) // 4)
                self.assertGreater(row["usage"]["in_text"], 0)
                self.assertIn(answer.headers["x-request-id"], answer.body.decode())

    # ---- any framing ----------------------------------------------------------------------------------------------------

    FRAMINGS = {
        "byte by byte": lambda body: [body[i:i + 1] for i in range(len(body))],
        "in sevens": lambda body: [body[i:i + 7] for i in range(0, len(body), 7)],
        "CRLF": lambda body: [body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")],
        "CRLF in threes": lambda body: (lambda b: [b[i:i + 3] for i in range(0, len(b), 3)])(body.replace(b"\n", b"\r\n")),
        "comments": lambda body: [b": PROCESSING\n\n" + e for e in cut(body)],
        "a mark of order": lambda body: [b"\xef\xbb\xbf" + body],
        "empty lines": lambda body: [b"\n\n\n" + e for e in cut(body)],
        "no space": lambda body: [body.replace(b"data: ", b"data:")],
    }

    def test_the_framing_changes_nothing(self):
        for provider in TELLERS:
            name, *_ = self.profiles(provider, 1)
            self.tg.settled()
            for caller in CALLERS:
                for framing, change in self.FRAMINGS.items():
                    with self.subTest(caller=caller.name, provider=provider, framing=framing):
                        self.passes_on(name, provider, change)
                        got = caller.read(self.post(caller, name), True)
                        self.assertEqual((got.text, got.finish), (SAID, caller.FINISH["stop"]))
                        self.assertEqual(got.tokens[1], 6)

    def test_done_may_be_missing_and_usage_too(self):
        for provider in ("openai", "mistral", "openrouter", "kimi", "grok", "openai_compatible"):
            name, *_ = self.profiles(provider, 1)
            self.tg.settled()
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    if provider == "openai" and caller.name == "openai_responses":
                        continue  # it has no [DONE]
                    self.passes_on(name, provider, lambda body: [body.replace(b"data: [DONE]\n\n", b"")])
                    answer = self.post(caller, name)
                    if not (caller.name == "openai_responses" and b"response.completed" in answer.body and "/responses" in self.mouth.asked(name)[-1].path):
                        self.assertEqual(caller.read(answer, True).text, SAID)
                    self.assertEqual(self.row(answer)["basis"], "provider_usage")
                    self.passes_on(name, provider)
                    answer = self.post(caller, name, ASKED + "[[no_usage]]")
                    part = Part(caller, answer.body)
                    self.assertEqual((part.text, part.error, part.ended), (SAID, None, True), answer.body[-500:])
                    row = self.row(answer)
                    self.assertEqual(row["basis"], "est_missing", row)
                    self.assertGreater(row["usage"]["in_text"], 0)
                    self.assertGreaterEqual(row["usage"]["out_text"], len(SAID) // 4)

    def test_usage_that_is_repeated_is_not_added(self):
        for provider in TELLERS:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, *_ = self.profiles(provider, 1)
                    self.tg.settled()
                    self.passes_on(name, provider)
                    row = self.row(self.post(caller, name, ASKED + "[[cached=2]]"))
                    again = self.row(self.post(caller, name, ASKED + "[[cached=2 usage_always]]"))
                    self.assertEqual(again["usage"]["out_text"], 6)
                    self.assertEqual(again["usage"]["in_cached_read"], 2)
                    self.assertEqual((row["usage"]["out_text"], row["usage"]["in_cached_read"], row["basis"]), (6, 2, "provider_usage"))

    # ---- long lines -----------------------------------------------------------------------------------------------------

    def test_long_lines(self):
        for provider in ("openai", "anthropic", "gemini"):
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, far = self.profiles(provider, 2, spare=True)
                    self.tg.settled()
                    self.passes_on(name, provider)
                    answer = self.post(caller, name, ASKED + f"[[pad={3 << 20}]]")
                    part = Part(caller, answer.body)
                    self.assertTrue(part.ended, answer.body[-300:])
                    self.assertIn(SAID, part.text)
                    self.passes_on(far, provider)
                    self.fake.clear()
                    self.fake.control(key=key(provider, "good"), pad=17 << 20)
                    answer = self.post(caller, far)
                    self.assertEqual(answer.headers["x-tollgate-profile"], "spare", answer)
                    self.assertEqual(caller.read(answer, True).text, SAID)
