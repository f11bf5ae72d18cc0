"""Streams as real providers break them, to callers of each dialect: cut after any event and at any byte, in any framing, silent,
without usage or end. A caller gets the whole answer and its end, or an error event; what was delivered is booked.
"""
import json
import re
import socket
import threading
import time
from decimal import Decimal

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
        cls.free = {}

    def profiles(self, provider, count, spare=False):
        """So many connections of their own: what one cools leaves the others alone."""
        free = self.free.setdefault((provider, spare), [])
        if len(free) < count:
            free += [self.made_profile(provider, spare) for _ in range(count + 15)]
            self.tg.settled()
        return [free.pop() for _ in range(count)]

    def made_profile(self, provider, spare):
        Streams.made += 1
        name = f"s{self.made}"
        self.tg.must("POST", "/orgs/acme/profiles", {
            "name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
            "base_url": self.mouth.url(name), "models": [MODELS[provider]]})
        targets = [{"profile": name, "model": MODELS[provider]}] + ([{"profile": "spare", "model": "spare-model"}] if spare else [])
        self.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": name}, "targets": targets, "policy": {}})
        return name

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

    def test_who_said_all_and_stays_is_not_waited_for(self):
        never = threading.Event()
        self.addCleanup(never.set)
        for provider in ("openai", "anthropic", "mistral"):
            name, *_ = self.profiles(provider, 1)
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    self.passes_on(name, provider, lambda body: [body, never])
                    began = time.monotonic()
                    answer = self.post(caller, name)
                    self.assertLess(time.monotonic() - began, 5 * harness.SLOW)
                    self.assertEqual(caller.read(answer, True).text, SAID)
                    row = self.row(answer)
                    self.assertEqual((row["basis"], row["usage"]["out_text"]), ("provider_usage", 6))

    def test_usage_that_is_repeated_is_not_added(self):
        for provider in TELLERS:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, *_ = self.profiles(provider, 1)
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

    # ---- errors in the midst ----------------------------------------------------------------------------------------------

    TYPES = {"openai_chat": ("type", "server_error"), "openai_responses": ("code", "all_targets_failed"),
             "anthropic_messages": ("type", "api_error"), "gemini": ("status", "UNAVAILABLE")}

    def test_an_error_behind_content_is_the_dialects_own(self):
        for provider in TELLERS + ["grok", "kimi", "openai_compatible"]:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, *_ = self.profiles(provider, 1, spare=True)
                    self.passes_on(name, provider)
                    answer = self.post(caller, name, "Hello [[words=30 chunks=10 error_after=4]]")
                    self.assertEqual(answer.status, 200, answer)
                    part = Part(caller, answer.body)
                    self.assertFalse(part.ended)
                    self.assertTrue(part.text.startswith("w1 w2") and len(part.text.split()) < 30, part.text)
                    member, word = self.TYPES[caller.name]
                    self.assertEqual(part.error[member], word, part.error)
                    self.assertIn(answer.headers["x-request-id"], part.blocks[-1])
                    self.assertEqual(answer.headers["x-tollgate-profile"], name, "it had begun: nobody else is asked")
                    row = self.row(answer)
                    self.assertEqual((row["status"], row["attempts"][-1]["billed"]), ("settled", True))
                    self.assertGreaterEqual(row["usage"]["out_text"], len(part.text) // 4)

    def test_an_error_before_content_falls_over_in_a_stream_too(self):
        """Events have come by then: none of them reaches the caller."""
        for provider in TELLERS + ["grok", "kimi", "openai_compatible"]:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, *_ = self.profiles(provider, 1, spare=True)
                    self.passes_on(name, provider, lambda body: [e for e in cut(body) if b"ello" not in e and b"echo" not in e])
                    self.fake.clear()
                    self.fake.control(key=key(provider, "good"), error_after=1, times=-1)
                    answer = self.post(caller, name, "Hello")
                    got = caller.read(answer, True)
                    self.assertEqual(answer.headers["x-tollgate-profile"], "spare", answer)
                    self.assertRegex(answer.headers["x-tollgate-fallback"], rf"^{name}/{MODELS[provider]}=(server_error|overloaded)$")
                    self.assertEqual(got.text, "echo Hello")
                    row = self.row(answer)
                    self.assertEqual([a["billed"] for a in row["attempts"]], [False, True])

    def test_an_error_in_an_array_is_its_last_element(self):
        caller = CALLERS[3]
        for provider in TELLERS:
            with self.subTest(provider=provider):
                good, bad = self.profiles(provider, 2)
                for name, text in ((good, ASKED), (bad, "Hello [[words=30 chunks=10 error_after=4]]")):
                    self.passes_on(name, provider)
                    path, body = caller.ask(name, text, stream=True)
                    answer = self.tg.post(path.replace("?alt=sse", ""), body, key=self.org.key)
                    self.assertEqual(answer.headers["content-type"].split(";")[0], "application/json")
                    chunks = answer.json
                    said = "".join(p["text"] for c in chunks for k in c.get("candidates", []) for p in k.get("content", {}).get("parts", []))
                    if name == good:
                        self.assertEqual(said, SAID)
                        self.assertEqual(chunks[-1]["candidates"][0]["finishReason"], "STOP")
                        self.assertEqual(chunks[-1]["usageMetadata"]["candidatesTokenCount"], 6)
                    else:
                        self.assertTrue(said.startswith("w1 w2"), said)
                        self.assertEqual(chunks[-1]["error"]["status"], "UNAVAILABLE")
                        self.assertEqual([c for c in chunks[:-1] if "error" in c], [])

    # ---- silence, and callers who leave ---------------------------------------------------------------------------------------

    def open(self, caller, name, array=False):
        """A stream as bytes of a connection that this test can leave."""
        path, body = caller.ask(name, ASKED, stream=True)
        if array:
            path = path.replace("?alt=sse", "")
        data = json.dumps(body).encode()
        head = "".join(f"{k}: {v}\r\n" for k, v in caller.headers().items())
        s = socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=40 * harness.SLOW)
        s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {self.org.key}\r\nContent-Type: application/json\r\n{head}"
                  f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return s

    def until(self, s, found, got=b""):
        while not found(got):
            piece = s.recv(65536)
            self.assertTrue(piece, got)
            got += piece
        return got

    def rest(self, s, got):
        while (piece := s.recv(65536)):
            got += piece
        s.close()
        head, _, body = got.partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head.split(b"\r\n")[0])
        whole = b""
        while body:  # chunks
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[:int(size, 16)], body[int(size, 16) + 2:]
        return harness.Answer(200, dict(h.decode().lower().split(": ", 1) for h in head.split(b"\r\n")[1:]), whole)

    WORDS = {"openai_chat": b": keep-alive\n\n", "openai_responses": b": keep-alive\n\n",
             "anthropic_messages": b'event: ping\ndata: {"type": "ping"}\n\n', "gemini": b"\n"}

    def silence(self, caller, provider, end, name, array, problems):
        """A provider that says nothing until the caller got its keep-alive; then its answer, or a failure."""
        try:
            heard = threading.Event()

            def say(body):
                if end == "behind content":
                    events = cut(body)
                    at = next(i for i, e in enumerate(events) if b"w1" in e) + 1
                    return [*events[:at], heard, *events[at:]]
                return [b": wait\n\n", heard, body if end == "content" else b""]

            self.passes_on(name, provider, say, "fin" if end in ("fail", "fall over") else "whole")
            s, began = self.open(caller, name, array), time.monotonic()
            word = self.WORDS[caller.name]
            body = lambda got: got.partition(b"\r\n\r\n")[2]
            if end == "behind content":
                got = self.until(s, lambda got: b"w1" in got)
                self.assertIn(b"w1", got)
                seen = len(got)
                got = self.until(s, lambda got: re.sub(rb"\s", b"", word) in re.sub(rb"\s", b"", got[seen:]) and len(got) > seen, got)
            else:
                got = self.until(s, lambda got: len(body(got)) > 3)
                said = body(got).partition(b"\r\n")[2]
                self.assertEqual(re.sub(rb"\s", b"", said), re.sub(rb"\s", b"", word))
            self.assertLess(time.monotonic() - began, 15 * harness.SLOW)
            heard.set()
            answer = self.rest(s, got)
            if array:
                chunks = answer.json
                part = Part(caller, b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks if "error" not in c))
                part.error = chunks[-1].get("error") if end == "fail" else None
            else:
                part = Part(caller, answer.body.replace(b"\n\n\n", b"\n\n").lstrip(b"\n"))
            if end == "fail":
                self.assertEqual((part.text, part.ended), ("", False))
                member, type_ = self.TYPES[caller.name]
                self.assertEqual(part.error[member], type_, answer.body)
            else:
                self.assertEqual((part.text, part.error, part.ended), (SAID, None, True), answer.body)
        except BaseException as e:  # told by the test's own thread
            heard.set()
            problems.append((caller.name, provider, end, array, repr(e)[:600]))

    def test_silence_is_broken_within_15_seconds(self):
        cases = [(caller, provider, end, False) for caller in CALLERS for provider in ("openai", "anthropic", "gemini")
                 for end in ("content", "behind content", "fail", "fall over")]
        cases += [(CALLERS[3], provider, end, True) for provider in ("openai", "gemini") for end in ("content", "fail", "fall over")]
        ready = []
        for caller, provider, end, array in cases:
            ready.append((caller, provider, end, self.profiles(provider, 1, spare=end == "fall over")[0], array))
        problems, threads = [], []
        for case in ready:
            threads.append(threading.Thread(target=self.silence, args=(*case, problems)))
            threads[-1].start()
        for t in threads:
            t.join(60 * harness.SLOW)
        self.assertEqual(problems, [])

    def test_g08_who_leaves_in_the_midst_pays_once_what_was_used(self):
        for provider in TELLERS:
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider):
                    name, *_ = self.profiles(provider, 1)
                    gone = threading.Event()

                    def say(body):
                        events = cut(body)
                        at = next(i for i, e in enumerate(events) if b"w1" in e) + 1
                        return [*events[:at], gone, *events[at:]]

                    self.passes_on(name, provider, say)
                    s = self.open(caller, name)
                    got = self.until(s, lambda got: b"w1" in got)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    s.close()
                    request_id = re.search(rb"x-request-id: (\S+)", got, re.I).group(1).decode()
                    gone.set()
                    call = lambda: self.org.admin("GET", f"/usage/calls/{request_id}")
                    wait_until(lambda: call()[0] == 200, 20, "the row")
                    row = call()[1]["data"]
                    self.assertEqual((row["basis"], row["usage"]["out_text"], row["status"]), ("provider_usage", 6, "settled"), row)

    # ---- what the platform pays -------------------------------------------------------------------------------------------------

    def test_what_was_delivered_of_a_failed_stream_is_charged_to_the_nano(self):
        """And what failed before its first content is not."""
        for provider in TELLERS[:3]:
            name = f"paid-{provider}"
            self.tg.must("PUT", f"/models/{provider}/{name}", {"capabilities": ["text"], "context_window": 100000, "max_output": 1000})
            self.tg.must("PUT", f"/prices/{provider}/{name}", {"book": "sell", "effective_from": None, "lines": harness.PRICE_LINES})
            self.tg.must("POST", "/orgs/platform/profiles", {
                "name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "platform", "validate": False,
                "base_url": self.mouth.url(name), "models": [name]})
            self.tg.settled()
            for caller in CALLERS:
                for text, whole in (("Hello [[words=30 chunks=10 error_after=4]]", False), (ASKED, True)):
                    with self.subTest(caller=caller.name, provider=provider, whole=whole):
                        self.passes_on(name, provider)
                        before = self.org.balance()
                        answer = self.post(caller, name, text)
                        self.assertEqual((answer.status, answer.headers["x-tollgate-billing-source"]), (200, "platform"), answer)
                        self.assertEqual(Part(caller, answer.body).ended, whole)
                        row = self.row(answer)
                        lines = {line["class"]: Decimal(line["amount"]) for line in row["lines"]}
                        for line in row["lines"]:
                            self.assertEqual(Decimal(line["amount"]), Decimal(line["units"]) * Decimal(line["price"]) / line["per"])
                        wait_until(lambda: before - self.org.balance() == sum(lines.values()), 10, "the booking")
                        self.assertEqual(sum(lines.values()), Decimal(row["amount"]))
                        self.assertGreater(lines["in_text"], 0)
                        self.assertEqual(lines["out_text"], Decimal(row["usage"]["out_text"]) * Decimal("0.000015"))
                        if whole:
                            self.assertEqual(row["usage"]["out_text"], 6)
                        else:  # cooled by its failure
                            self.tg.must("POST", f"/orgs/platform/profiles/{name}/rotate", {"secret": key(provider, "good")})
                            self.tg.settled()
            for caller in CALLERS:
                with self.subTest(caller=caller.name, provider=provider, before="content"):
                    self.passes_on(name, provider, lambda body: [e for e in cut(body)[:1] if b"w1" not in e])
                    before = self.org.balance()
                    answer = self.post(caller, name)
                    self.assertEqual(answer.status, 502, answer)
                    wait_until(lambda: self.org.balance() == before, 10, "the hold to be given back")
                    self.tg.must("POST", f"/orgs/platform/profiles/{name}/rotate", {"secret": key(provider, "good")})
                    self.tg.settled()
