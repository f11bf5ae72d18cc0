"""What coding agents put on the wire, and what they need to read: Claude Code, Codex, Gemini CLI.

Their requests stand in tests/fixtures/clients, MODEL and TEXT to be filled in; "key" is the header the key goes in. What each of
them needs from an answer was measured with the programs themselves; here the same bytes are asked and the answer is held against it.
"""
import functools
import json
import os
import time
import unittest

import matrix
import harness
from matrix import PROVIDERS

FIXTURES = os.path.join(matrix.ROOT, "tests", "fixtures", "clients")


def fixture(name, model=None, text="Look around."):
    with open(os.path.join(FIXTURES, name + ".json")) as f:
        raw = f.read()
    if model:
        raw = raw.replace("MODEL", model)
    return json.loads(raw.replace('"TEXT"', json.dumps(text)))


def events(answer):
    """[(event, data)] of a stream of named events; the name is "" where none stands."""
    found = []
    for block in answer.body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        data = "\n".join(line[5:].lstrip() for line in lines if line.startswith("data:"))
        if data:
            name = next((line[6:].strip() for line in lines if line.startswith("event:")), "")
            found.append((name, data if data == "[DONE]" else json.loads(data)))
    return found


def of_every_provider(test):
    """A test that gets the provider, once for each."""
    @functools.wraps(test)
    def each(self):
        for provider in PROVIDERS:
            with self.subTest(provider=provider):
                test(self, provider)
    return each


class Base(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("agents")
        for provider, (path, secret, model) in PROVIDERS.items():
            models = [model, model + "-breaks"]  # what breaks cools down
            for name in models:
                cls.tg.must("PUT", f"/models/{provider}/{name}", {"capabilities": matrix.CAPABILITIES, "context_window": 200000,
                                                                  "max_output": 64000})
            cls.tg.setup_profile(cls.org, provider, provider=provider, base_url=f"http://127.0.0.1:{cls.fake.port}{path}",
                                 secret=secret, models=models)
        cls.tg.settled()

    def ask(self, request, key=None, **more):
        headers = dict(request["headers"])
        if request["key"]:
            headers[request["key"]] = ("Bearer " if request["key"] == "Authorization" else "") + (key or self.org.key)
        return harness.request(self.tg.data_host, self.tg.data_port, request["method"], request["path"], request.get("body"),
                               {**headers, **more}, timeout=60)

    def upstream(self):
        """(headers in lower case, body) of what the provider got last."""
        last = self.fake.last()
        head = dict(line.split(": ", 1) for line in last["head"].split("\r\n")[1:] if ": " in line)
        return {name.lower(): value for name, value in head.items()}, json.loads(last["body"])

    def model(self, provider):
        return f"{provider}/{PROVIDERS[provider][2]}"


class ClaudeCode(Base):
    def stream(self, answer):
        self.assertStatus(answer, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"), answer.headers)
        self.assertTrue(answer.headers.get("request-id"), "its library reads no other name")
        got = events(answer)
        for name, data in got:  # it goes by the event's name
            self.assertEqual(name, data["type"])
        names = [name for name, _ in got if name != "ping"]
        self.assertEqual((names[0], names[-2:]), ("message_start", ["message_delta", "message_stop"]))
        start, end = got[0][1]["message"], next(data for name, data in got if name == "message_delta")
        self.assertIsInstance(start["usage"]["input_tokens"], int)
        self.assertGreater(end["usage"]["output_tokens"], 0)
        return got, end["delta"]["stop_reason"]

    def said(self, got):
        return "".join(data["delta"].get("text", "") for name, data in got if name == "content_block_delta")

    def test_its_own_provider_gets_what_it_sent(self):
        request = fixture("claude-code-messages", self.model("anthropic"))
        got, reason = self.stream(self.ask(request))
        self.assertEqual(reason, "end_turn")
        self.assertIn("Look around.", self.said(got))
        head, body = self.upstream()
        for name in ("anthropic-beta", "anthropic-version"):  # verbatim: an open list, and a header goes with its fields
            self.assertEqual(head[name], request["headers"][name])
        self.assertNotIn("authorization", head)
        self.assertEqual(head["x-api-key"], PROVIDERS["anthropic"][1])
        self.assertEqual(body, {**request["body"], "model": PROVIDERS["anthropic"][2]})

    def test_unknown_betas_and_fields_pass(self):
        request = fixture("claude-code-messages", self.model("anthropic"))
        request["headers"]["anthropic-beta"] += ",effort-2025-11-24"
        request["body"]["messages"][0]["content"][1]["cache_control"]["ttl"] = "1h"
        request["body"]["metadata"]["x_of_tomorrow"] = 1
        self.ask(request)
        head, body = self.upstream()
        self.assertEqual(head["anthropic-beta"], request["headers"]["anthropic-beta"])
        self.assertEqual(body, {**request["body"], "model": PROVIDERS["anthropic"][2]})

    def test_either_header_takes_the_key(self):
        for header in ("Authorization", "x-api-key"):
            request = fixture("claude-code-messages", self.model("anthropic"))
            request["key"] = header
            self.stream(self.ask(request))

    @of_every_provider
    def test_every_provider_answers_it(self, provider):
        """It sends thinking and context management to a model of any name; what the target does not know stays here."""
        got, reason = self.stream(self.ask(fixture("claude-code-messages", self.model(provider))))
        self.assertEqual(reason, "end_turn")
        self.assertIn("Look around.", self.said(got))

    @of_every_provider
    def test_every_provider_calls_its_tools(self, provider):
        request = fixture("claude-code-messages", self.model(provider), "Use a tool to look around.")
        got, reason = self.stream(self.ask(request))
        self.assertEqual(reason, "tool_use")
        opened = [data["content_block"] for name, data in got if name == "content_block_start"]
        used = next(block for block in opened if block["type"] == "tool_use")
        self.assertIn(used["name"], [tool["name"] for tool in request["body"]["tools"]])
        pieces = [data["delta"]["partial_json"] for name, data in got
                  if name == "content_block_delta" and data["delta"]["type"] == "input_json_delta"]
        # and the turn that follows, as it sends it
        request["body"]["messages"] += [
            {"role": "assistant", "content": [{"type": "tool_use", "id": used["id"], "name": used["name"],
                                               "input": json.loads("".join(pieces) or "{}")}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used["id"], "content": "Nothing is here.",
                                          "cache_control": {"type": "ephemeral"}}]}]
        request["body"]["messages"][0]["content"][1].pop("cache_control")
        request["body"]["thinking"] = {"type": "disabled"}  # the provider's own signed thoughts are not kept here
        request["body"].pop("context_management")
        got, reason = self.stream(self.ask(request))
        self.assertEqual(reason, "end_turn")
        self.assertIn("Nothing is here.", self.said(got))

    def test_tokens_are_counted(self):
        answer = self.ask(fixture("claude-code-count-tokens", self.model("anthropic")))
        self.assertStatus(answer, 200)
        self.assertEqual(list(answer.json), ["input_tokens"])
        self.assertGreater(answer.json["input_tokens"], 0)

    def test_models_are_discovered(self):
        began = time.monotonic()
        answer = self.ask(fixture("claude-code-models"))
        self.assertStatus(answer, 200)  # no redirect
        self.assertLess(time.monotonic() - began, 3 * harness.SLOW)
        for model in answer.json["data"]:
            self.assertEqual(model["type"], "model")
            self.assertTrue(model["id"] and model["display_name"])
        self.assertTrue([m for m in answer.json["data"] if m["id"].startswith(("claude", "anthropic"))], "it shows no others")

    def test_head_is_answered(self):
        answer = self.ask(fixture("claude-code-head"))
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_errors_are_its_own(self):
        wrong = self.ask(fixture("claude-code-messages", self.model("anthropic")), key="tg_00000000_" + "0" * 38)
        self.assertEqual((wrong.status, wrong.json["type"], wrong.json["error"]["type"]), (401, "error", "authentication_error"))
        unknown = self.ask(fixture("claude-code-messages", "claude-nobody-serves"))
        self.assertEqual((unknown.status, unknown.json["error"]["type"]), (404, "not_found_error"))
        self.assertNotIn("data", unknown.json)
        refused = self.ask(fixture("claude-code-messages", self.model("anthropic"), "Be refused. [[status=400]]"))
        self.assertEqual((refused.status, refused.json["error"]["type"]), (400, "invalid_request_error"))
        self.assertEqual(refused.json["error"]["message"], "The fake provider was told to answer 400.")  # its own words

    def test_out_of_credits_it_asks_once(self):
        poor = self.tg.setup_org("poor", credits="0.000001", platform=True)
        answer = self.ask(fixture("claude-code-messages", harness.MODEL), key=poor.key)
        self.assertEqual((answer.status, answer.json["error"]["type"]), (402, "billing_error"))
        self.assertEqual(answer.headers["x-should-retry"], "false")


class Codex(Base):
    def stream(self, answer):
        self.assertStatus(answer, 200)
        got = events(answer)
        for name, data in got:
            self.assertEqual(name, data["type"])
        names = [name for name, _ in got]
        self.assertEqual((names[0], names[-1]), ("response.created", "response.completed"), "it tries again without the last one")
        self.assertEqual([data["sequence_number"] for _, data in got], list(range(len(got))))
        usage = got[-1][1]["response"]["usage"]
        for field in ("input_tokens", "output_tokens", "total_tokens"):
            self.assertIsInstance(usage[field], int)
        return got

    def items(self, got, kind):
        return [data["item"] for name, data in got if name == "response.output_item.done" and data["item"]["type"] == kind]

    def test_its_own_provider_gets_what_it_sent(self):
        request = fixture("codex-responses", self.model("openai"))
        got = self.stream(self.ask(request))
        self.assertIn("Look around.", "".join(data["delta"] for name, data in got if name == "response.output_text.delta"))
        self.assertEqual(self.upstream()[1], {**request["body"], "model": PROVIDERS["openai"][2]})

    @of_every_provider
    def test_every_provider_answers_it(self, provider):
        got = self.stream(self.ask(fixture("codex-responses", self.model(provider))))
        for name in ("response.output_item.added", "response.output_text.delta", "response.output_item.done"):
            self.assertIn(name, [n for n, _ in got])
        message = self.items(got, "message")[-1]
        self.assertIn("Look around.", "".join(part["text"] for part in message["content"]))

    @of_every_provider
    def test_every_provider_calls_its_tools_and_hears_of_them(self, provider):
        request = fixture("codex-responses", self.model(provider), "Use a tool to look around. [[reasoning=5]]")
        got = self.stream(self.ask(request))
        call = self.items(got, "function_call")[0]
        self.assertIsInstance(json.loads(call["arguments"]), dict)
        # store:false: everything that came goes back, sealed thoughts too
        request["body"]["input"] += [data["item"] for name, data in got if name == "response.output_item.done"]
        request["body"]["input"].append({"type": "function_call_output", "call_id": call["call_id"], "output": "Nothing is here."})
        again = self.stream(self.ask(request))
        message = self.items(again, "message")[-1]
        self.assertIn("Nothing is here.", "".join(part["text"] for part in message["content"]))

    def test_sealed_thoughts_come_and_go(self):
        request = fixture("codex-responses", self.model("openai"), "Use a tool to look around. [[reasoning=5]]")
        got = self.stream(self.ask(request))
        thought = self.items(got, "reasoning")[0]
        self.assertTrue(thought["encrypted_content"])
        call = self.items(got, "function_call")[0]
        request["body"]["input"] += [thought, call, {"type": "function_call_output", "call_id": call["call_id"], "output": "Nothing."}]
        self.stream(self.ask(request))
        self.assertEqual(self.upstream()[1]["input"], request["body"]["input"])

    @of_every_provider
    def test_a_tool_of_free_text(self, provider):
        """Responses alone has them (translation.md 3): elsewhere it is a function, its call the tool's own again, and its grammar
        named as what nobody is held to."""
        answer = self.ask(fixture("codex-responses-patch-tool", self.model(provider)))
        self.stream(answer)
        if provider in ("openai", "openrouter", "grok"):  # who speak it get it as it is
            self.assertEqual(self.upstream()[1]["tools"][-1]["type"], "custom")
            return
        self.assertIn("tools[11].format", answer.headers["x-tollgate-dropped"])
        request = fixture("codex-responses-patch-tool", self.model(provider), "Use the tool to change a file.")
        request["body"]["tools"] = request["body"]["tools"][-1:]
        got = self.stream(self.ask(request))
        call = self.items(got, "custom_tool_call")[0]
        self.assertEqual((call["name"], call["input"]), ("apply_patch", "Paris"))  # what the fake provider fills a text with
        self.assertIn("response.custom_tool_call_input.done", [name for name, _ in got])
        self.assertFalse(self.items(got, "function_call"))
        self.assertIn("*** Begin Patch", json.dumps(self.upstream()[1]), "nothing else says how a patch looks")
        request["body"]["input"] += [data["item"] for name, data in got if name == "response.output_item.done"]
        request["body"]["input"].append({"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "It is changed."})
        message = self.items(self.stream(self.ask(request)), "message")[-1]
        self.assertIn("It is changed.", "".join(part["text"] for part in message["content"]))

    def test_models(self):
        answer = self.ask(fixture("codex-models"))
        self.assertStatus(answer, 200)
        self.assertEqual(answer.json["models"], [])
        self.assertTrue(answer.json["data"])

    def test_errors_that_it_stops_at(self):
        unknown = self.ask(fixture("codex-responses", "nobody-serves-this"))
        self.assertEqual((unknown.status, unknown.json["error"]["code"]), (404, "model_not_found"))
        poor = self.tg.setup_org("poor", credits="0.000001", platform=True)
        answer = self.ask(fixture("codex-responses", harness.MODEL), key=poor.key)
        self.assertEqual((answer.status, answer.json["error"]["code"]), (429, "insufficient_quota"))
        self.assertEqual(answer.headers["x-should-retry"], "false")
        long = self.ask(fixture("codex-responses", self.model("openai"), "Too long. [[status=400 code=context_length_exceeded]]"))
        self.assertEqual((long.status, long.json["error"]["code"]), (400, "context_length_exceeded"))

    def test_a_stream_that_breaks_says_so(self):
        request = fixture("codex-responses", self.model("openai") + "-breaks", "Break. [[words=8 chunks=4 error_after=2 error_midstream]]")
        got = events(self.ask(request))
        self.assertIn(got[-1][0], ("response.failed", "error"))
        self.assertNotIn("response.completed", [name for name, _ in got])


class GeminiCLI(Base):
    def stream(self, answer):
        self.assertStatus(answer, 200)
        text = answer.body.decode()
        for line in text.replace("\r\n", "\n").split("\n"):
            self.assertTrue(line == "" or line.startswith("data: "), f"its library takes no other line: {line!r}")
        self.assertNotIn("[DONE]", text)
        got = [data for _, data in events(answer)]
        self.assertTrue(got[-1]["candidates"][0]["finishReason"])
        self.assertGreater(got[-1]["usageMetadata"]["promptTokenCount"], 0)
        return got

    def parts(self, got):
        return [part for data in got for part in data["candidates"][0].get("content", {}).get("parts", [])]

    def said(self, got):
        return "".join(part.get("text", "") for part in self.parts(got) if not part.get("thought"))

    def test_its_own_provider_gets_what_it_sent(self):
        request = fixture("gemini-cli-stream", self.model("gemini"))
        self.assertIn("Look around.", self.said(self.stream(self.ask(request))))
        head, body = self.upstream()
        self.assertEqual(body, request["body"])
        self.assertEqual(head["x-goog-api-key"], PROVIDERS["gemini"][1])

    @of_every_provider
    def test_every_provider_answers_it(self, provider):
        got = self.stream(self.ask(fixture("gemini-cli-stream", self.model(provider))))
        self.assertIn("Look around.", self.said(got))
        self.assertEqual(got[-1]["candidates"][0]["finishReason"], "STOP")

    @of_every_provider
    def test_every_provider_calls_its_tools_and_hears_of_them(self, provider):
        request = fixture("gemini-cli-stream", self.model(provider), "Use a tool to look around.")
        parts = self.parts(self.stream(self.ask(request)))
        call = next(part["functionCall"] for part in parts if "functionCall" in part)
        self.assertIsInstance(call["args"], dict)
        answer = {"name": call["name"], "response": {"output": "Nothing is here."}, **({"id": call["id"]} if "id" in call else {})}
        request["body"]["contents"] += [{"role": "model", "parts": [p for p in parts if not p.get("thought")]},
                                        {"role": "user", "parts": [{"functionResponse": answer}]}]
        self.assertIn("Nothing is here.", self.said(self.stream(self.ask(request))))

    def test_tokens_are_counted(self):
        answer = self.ask(fixture("gemini-cli-count-tokens", self.model("gemini")))
        self.assertStatus(answer, 200)
        self.assertGreater(answer.json["totalTokens"], 0)

    def test_models(self):
        answer = self.ask(fixture("gemini-cli-models"))
        self.assertStatus(answer, 200)
        for model in answer.json["models"]:
            self.assertTrue(model["name"].startswith("models/"))
            self.assertIn("generateContent", model["supportedGenerationMethods"])

    def test_errors_are_its_own(self):
        wrong = self.ask(fixture("gemini-cli-stream", self.model("gemini")), key="tg_00000000_" + "0" * 38)
        self.assertEqual((wrong.status, wrong.json["error"]["status"]), (401, "UNAUTHENTICATED"))
        unknown = self.ask(fixture("gemini-cli-stream", "nobody-serves-this"))
        self.assertEqual((unknown.status, unknown.json["error"]["code"], unknown.json["error"]["status"]), (404, 404, "NOT_FOUND"))
        poor = self.tg.setup_org("poor", credits="0.000001", platform=True)
        answer = self.ask(fixture("gemini-cli-stream", harness.MODEL), key=poor.key)
        self.assertEqual((answer.status, answer.json["error"]["status"]), (429, "RESOURCE_EXHAUSTED"))

    def test_a_stream_that_breaks_says_so_as_its_library_reads_it(self):
        """A bare object in a write of its own, without data: (interface.md)."""
        request = fixture("gemini-cli-stream", self.model("gemini") + "-breaks", "Break. [[words=8 chunks=4 error_after=2 error_midstream]]")
        text = self.ask(request).body.decode()
        last = [line for line in text.replace("\r\n", "\n").split("\n\n") if line.strip()][-1]
        self.assertFalse(last.startswith("data:"), last)
        self.assertIn("error", json.loads(last))


if __name__ == "__main__":
    unittest.main()
