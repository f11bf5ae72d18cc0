"""Every dialect in, every provider out: four callers, nine providers, what each gets.

A cell passes when the caller, in its own words, got what the provider was told to say, and its usage; or it is refused with the
reason that REFUSED names and the contracts justify. `make matrix` prints the table.
"""
import base64
import json
import os
import unittest

import harness
from test_providers import PROVIDERS, key

# One model per provider that the catalogue knows with all that is asked here.
MODELS = {
    "openai": "gpt-4.1", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash-preview", "openrouter": "openai/gpt-5.4",
    "grok": "grok-4.3", "mistral": "mistral-large-2512", "kimi": "kimi-k2.6", "elevenlabs": "eleven_flash_v2_5",
    "openai_compatible": "own-model",
}
SCENARIOS = ["plain", "stream", "tools", "structured", "image"]
# (caller, provider, scenario) with "*" for any: the reason a target is passed over with, and where it stands why.
REFUSED = {
    ("*", "elevenlabs", "*"): "capability_missing:chat",  # voice.md: speech and transcription, no chat
}
PNG = base64.b64encode(
    bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
                  "08d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082")).decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
          "required": ["city", "days"], "additionalProperties": False}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}


def refused(caller, provider, scenario):
    for k in ((caller, provider, scenario), (caller, provider, "*"), ("*", provider, scenario), ("*", provider, "*"), (caller, "*", scenario)):
        if k in REFUSED:
            return REFUSED[k]
    return None


class Got:
    """An answer, whoever said it: text, tool calls as (id, name, arguments), finish, tokens in and out."""

    def __init__(self):
        self.text, self.reasoning, self.calls, self.finish, self.tokens, self.seals = "", "", [], None, None, []

    def call(self, at, **more):
        while len(self.calls) <= at:
            self.calls.append({"id": "", "name": "", "arguments": ""})
        for k, v in more.items():
            self.calls[at][k] += v or ""


class Caller:
    """One dialect, from the caller's side. ask() builds a request, read() understands an answer."""

    def headers(self):
        return {}

    def events(self, answer):
        """[(name, object)] of a stream, held against the framing that the dialect's clients need."""
        got = []
        for block in answer.body.decode().replace("\r\n", "\n").split("\n\n"):
            lines = [line for line in block.split("\n") if line and not line.startswith(":")]
            name = "".join(line[6:].strip() for line in lines if line.startswith("event:"))
            data = "\n".join(line[5:].strip() for line in lines if line.startswith("data:"))
            if data:
                got.append((name, data))
        return got


class Chat(Caller):
    name = "openai_chat"

    def ask(self, model, text, stream=False, tools=False, schema=False, image=False, turn=None, **more):
        content = text if not image else [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]
        body = {"model": model, "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": content}], "max_completion_tokens": 200}
        if stream:
            body.update(stream=True, stream_options={"include_usage": True})
        if tools:
            body["tools"] = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}]
        if schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True}}
        if turn:
            body["messages"] += [turn.message] + [{"role": "tool", "tool_call_id": c["id"], "content": f"sunny {i}"} for i, c in enumerate(turn.calls)]
        return "/v1/chat/completions", {**body, **more}

    def usage(self, got, u):
        if u:
            assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"], u
            got.tokens = (u["prompt_tokens"], u["completion_tokens"])

    def read(self, answer, stream):
        got = Got()
        if not stream:
            body = answer.json
            message = body["choices"][0]["message"]
            assert body["object"] == "chat.completion" and isinstance(body["created"], int) and body["id"], body
            got.text, got.finish = message.get("content") or "", body["choices"][0]["finish_reason"]
            got.reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
            for i, c in enumerate(message.get("tool_calls") or []):
                got.call(i, id=c["id"], name=c["function"]["name"], arguments=c["function"]["arguments"])
            got.message = message
            self.usage(got, body.get("usage"))
            return got
        events = self.events(answer)
        assert events[-1][1] == "[DONE]", events[-1]
        for name, data in events[:-1]:
            assert not name, name
            chunk = json.loads(data)
            assert chunk["object"] == "chat.completion.chunk", chunk
            self.usage(got, chunk.get("usage"))
            for choice in chunk["choices"]:
                delta = choice["delta"]
                got.text += delta.get("content") or ""
                got.reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
                got.finish = choice.get("finish_reason") or got.finish
                for c in delta.get("tool_calls") or []:
                    got.call(c["index"], id=c.get("id", ""), name=c["function"].get("name", ""), arguments=c["function"].get("arguments", ""))
        return got

    FINISH = {"stop": "stop", "tools": "tool_calls"}


class Responses(Caller):
    name = "openai_responses"

    def ask(self, model, text, stream=False, tools=False, schema=False, image=False, turn=None, **more):
        parts = [{"type": "input_text", "text": text}]
        if image:
            parts.append({"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"})
        body = {"model": model, "instructions": "Be short.", "input": [{"role": "user", "content": parts}], "max_output_tokens": 200, "store": False}
        if stream:
            body["stream"] = True
        if tools:
            body["tools"] = [{"type": "function", "name": "weather", "description": "The weather.", "parameters": PARAMETERS, "strict": True}]
        if schema:
            body["text"] = {"format": {"type": "json_schema", "name": "trip", "schema": SCHEMA, "strict": True}}
        if turn:
            body["input"] += turn.message + [{"type": "function_call_output", "call_id": c["id"], "output": f"sunny {i}"} for i, c in enumerate(turn.calls)]
        return "/v1/responses", {**body, **more}

    def whole(self, body):
        got = Got()
        assert body["object"] == "response" and body["status"] in ("completed", "incomplete"), body
        for item in body["output"]:
            if item["type"] == "message":
                got.text += "".join(p["text"] for p in item["content"] if p["type"] == "output_text")
            elif item["type"] == "reasoning":
                got.reasoning += "".join(p["text"] for p in item["summary"])
            elif item["type"] == "function_call":
                got.call(len(got.calls), id=item["call_id"], name=item["name"], arguments=item["arguments"])
        got.finish = "tool_calls" if got.calls else "stop" if body["status"] == "completed" else body["incomplete_details"]["reason"]
        u = body["usage"]
        if u:
            assert u["total_tokens"] == u["input_tokens"] + u["output_tokens"], u
            got.tokens = (u["input_tokens"], u["output_tokens"])
        got.message = body["output"]
        return got

    def read(self, answer, stream):
        if not stream:
            return self.whole(answer.json)
        events = [(name, json.loads(data)) for name, data in self.events(answer)]
        assert [e["sequence_number"] for _, e in events] == sorted(e["sequence_number"] for _, e in events)
        assert all(name == e["type"] for name, e in events), events
        assert events[0][0] == "response.created" and events[-1][0] in ("response.completed", "response.incomplete"), (events[0], events[-1])
        text = "".join(e["delta"] for name, e in events if name == "response.output_text.delta")
        done = "".join(e["text"] for name, e in events if name == "response.output_text.done")
        got = self.whole(events[-1][1]["response"])
        assert got.text == text == done, (got.text, text, done)
        added = [e for name, e in events if name == "response.output_item.added"]
        ended = [e for name, e in events if name == "response.output_item.done"]
        assert [e["output_index"] for e in added] == [e["output_index"] for e in ended] == list(range(len(added))), events
        return got

    FINISH = {"stop": "stop", "tools": "tool_calls"}


class Messages(Caller):
    name = "anthropic_messages"

    def headers(self):
        return {"anthropic-version": "2023-06-01"}

    def ask(self, model, text, stream=False, tools=False, schema=False, image=False, turn=None, **more):
        content = [{"type": "text", "text": text}]
        if image:
            content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}})
        body = {"model": model, "max_tokens": 200, "system": "Be short.", "messages": [{"role": "user", "content": content}]}
        if stream:
            body["stream"] = True
        if tools:
            body["tools"] = [{"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}]
        if schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if turn:
            body["messages"] += [{"role": "assistant", "content": turn.message},
                                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": c["id"], "content": f"sunny {i}"} for i, c in enumerate(turn.calls)]}]
        return "/v1/messages?beta=true", {**body, **more}

    def whole(self, body):
        got = Got()
        assert body["type"] == "message" and body["role"] == "assistant" and body["id"], body
        for block in body["content"]:
            if block["type"] == "text":
                got.text += block["text"]
            elif block["type"] == "thinking":
                got.reasoning += block["thinking"]
            elif block["type"] == "tool_use":
                got.call(len(got.calls), id=block["id"], name=block["name"], arguments=json.dumps(block["input"]))
        got.finish = body["stop_reason"]
        u = body["usage"]
        got.tokens = (u["input_tokens"] + (u.get("cache_read_input_tokens") or 0) + (u.get("cache_creation_input_tokens") or 0), u["output_tokens"])
        got.message = body["content"]
        return got

    def read(self, answer, stream):
        if not stream:
            return self.whole(answer.json)
        message, args, open_at, seen = None, {}, None, []
        for name, data in self.events(answer):
            e = json.loads(data)
            assert name == e["type"], (name, e)
            seen.append(name)
            if name == "message_start":
                message = e["message"]
                assert message["content"] == []
            elif name == "content_block_start":
                assert open_at is None and e["index"] == len(message["content"]), e
                open_at = e["index"]
                message["content"].append(e["content_block"])
            elif name == "content_block_delta":
                assert e["index"] == open_at, e
                block, delta = message["content"][open_at], e["delta"]
                if delta["type"] == "text_delta":
                    block["text"] += delta["text"]
                elif delta["type"] == "thinking_delta":
                    block["thinking"] += delta["thinking"]
                elif delta["type"] == "signature_delta":
                    block["signature"] = delta["signature"]
                elif delta["type"] == "input_json_delta":
                    args[open_at] = args.get(open_at, "") + delta["partial_json"]
            elif name == "content_block_stop":
                assert e["index"] == open_at, e
                if message["content"][open_at]["type"] == "tool_use":
                    message["content"][open_at]["input"] = json.loads(args.get(open_at) or "{}")
                open_at = None
            elif name == "message_delta":
                message["stop_reason"] = e["delta"]["stop_reason"]
                message["usage"].update({k: v for k, v in e["usage"].items() if v is not None})
        assert seen[0] == "message_start" and seen[-1] == "message_stop" and open_at is None, seen
        return self.whole(message)

    FINISH = {"stop": "end_turn", "tools": "tool_use"}


class Gemini(Caller):
    name = "gemini"

    def ask(self, model, text, stream=False, tools=False, schema=False, image=False, turn=None, **more):
        parts = [{"text": text}]
        if image:
            parts.append({"inlineData": {"mimeType": "image/png", "data": PNG}})
        config = {"maxOutputTokens": 200}
        if schema:
            config.update(responseMimeType="application/json", responseJsonSchema=SCHEMA)
        body = {"contents": [{"role": "user", "parts": parts}], "systemInstruction": {"parts": [{"text": "Be short."}]}, "generationConfig": config}
        if tools:
            body["tools"] = [{"functionDeclarations": [{"name": "weather", "description": "The weather.", "parametersJsonSchema": PARAMETERS}]}]
        if turn:
            body["contents"] += [turn.message, {"role": "user", "parts": [
                {"functionResponse": {"name": c["name"], "response": {"result": f"sunny {i}"}, **({"id": c["id"]} if c["id"] else {})}} for i, c in enumerate(turn.calls)]}]
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"), {**body, **more}

    def read(self, answer, stream):
        got, parts = Got(), []
        chunks = [json.loads(data) for _, data in self.events(answer)] if stream else [answer.json]
        for chunk in chunks:
            for candidate in chunk.get("candidates", []):
                parts += candidate.get("content", {}).get("parts", [])
                got.finish = candidate.get("finishReason") or got.finish
            u = chunk.get("usageMetadata")
            if u:
                got.tokens = (u.get("promptTokenCount", 0) + u.get("toolUsePromptTokenCount", 0), u.get("candidatesTokenCount", 0) + u.get("thoughtsTokenCount", 0))
                total = u.get("totalTokenCount")
        assert got.tokens is None or sum(got.tokens) == total, chunks[-1]
        for part in parts:
            if "functionCall" in part:
                c = part["functionCall"]
                got.call(len(got.calls), id=c.get("id", ""), name=c["name"], arguments=json.dumps(c.get("args", {})))
            elif part.get("thought"):
                got.reasoning += part["text"]
            else:
                got.text += part.get("text", "")
        got.message = {"role": "model", "parts": [p for p in parts if p.get("text") != ""]}
        return got

    FINISH = {"stop": "STOP", "tools": "STOP"}


CALLERS = [Chat(), Responses(), Messages(), Gemini()]


class Matrix(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}
    cells = {}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        for provider, model in MODELS.items():
            cls.tg.must("POST", "/orgs/acme/profiles", {
                "name": provider, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
                "base_url": f"http://127.0.0.1:{cls.fake.port}/{provider}{PROVIDERS[provider][0]}", "models": [model]})
        cls.tg.settled()

    @classmethod
    def tearDownClass(cls):
        path = os.environ.get("TG_MATRIX")
        if path:
            with open(path, "w") as f:
                f.write(table(cls.cells))
        super().tearDownClass()

    def send(self, caller, provider, text, stream=False, **what):
        path, body = caller.ask(f"{provider}/{MODELS[provider]}", text, stream=stream, **what)
        return self.tg.post(path, body, key=self.org.key, headers=caller.headers())

    def whole(self, caller, provider, text, stream=False, **what):
        answer = self.send(caller, provider, text, stream, **what)
        self.assertEqual(answer.status, 200, answer)
        self.assertFalse(answer.broken)
        self.assertEqual(answer.headers["x-tollgate-provider"], provider)
        self.assertEqual(answer.headers["x-tollgate-billing-source"], "byok")
        got = caller.read(answer, stream)
        self.assertIsNotNone(got.tokens, answer)
        self.assertTrue(got.tokens[0] > 0 and got.tokens[1] > 0, got.tokens)
        return got

    def cell_plain(self, caller, provider, stream=False):
        got = self.whole(caller, provider, "Hello over there", stream)
        self.assertEqual(got.text, "echo Hello over there")
        self.assertEqual(got.finish, caller.FINISH["stop"])

    def cell_stream(self, caller, provider):
        self.cell_plain(caller, provider, stream=True)

    def cell_tools(self, caller, provider):
        for stream in (False, True):
            got = self.whole(caller, provider, "Use the tool", stream, tools=True)
            self.assertEqual([(c["name"], sorted(json.loads(c["arguments"]))) for c in got.calls], [("weather", ["city"])])
            self.assertEqual(got.finish, caller.FINISH["tools"])
        turn = self.whole(caller, provider, "Use the tool", tools=True)
        again = self.whole(caller, provider, "Use the tool", tools=True, turn=turn)
        self.assertIn("sunny 0", again.text)
        self.assertEqual(again.calls, [])

    def cell_structured(self, caller, provider):
        for stream in (False, True):
            got = self.whole(caller, provider, "A trip", stream, schema=True)
            self.assertEqual(sorted(json.loads(got.text)), ["city", "days"])

    def cell_image(self, caller, provider):
        got = self.whole(caller, provider, "What is it", image=True)
        self.assertIn(f"{len(base64.b64decode(PNG))} bytes image/png", got.text)

    def refuse(self, caller, provider, scenario, reason):
        calls = self.fake.stats()["calls"]
        what = {"stream": {"stream": True}, "tools": {"tools": True}, "structured": {"schema": True}, "image": {"image": True}}.get(scenario, {})
        answer = self.send(caller, provider, "Hello", **what)
        self.assertGreaterEqual(answer.status, 400, answer)
        self.assertIn(reason, [t["reason"] for t in answer.json["tollgate"]["targets"]], answer)
        self.assertEqual(self.fake.stats()["calls"], calls, "nobody was asked")

    def test_every_cell(self):
        for caller in CALLERS:
            for provider in MODELS:
                for scenario in SCENARIOS:
                    with self.subTest(caller=caller.name, provider=provider, scenario=scenario):
                        self.cells[caller.name, provider, scenario] = "FAILED"
                        reason = refused(caller.name, provider, scenario)
                        if reason:
                            self.refuse(caller, provider, scenario, reason)
                        else:
                            getattr(self, "cell_" + scenario)(caller, provider)
                        self.cells[caller.name, provider, scenario] = reason or "passes"
        self.assertEqual(len(self.cells), len(CALLERS) * len(MODELS) * len(SCENARIOS))


def table(cells):
    lines = [f"{'caller':20}{'provider':20}" + "".join(f"{s:14}" for s in SCENARIOS)]
    notes = []
    for caller in CALLERS:
        for provider in MODELS:
            row = [cells.get((caller.name, provider, s), "not run") for s in SCENARIOS]
            for i, word in enumerate(row):
                if word not in ("passes", "FAILED", "not run"):
                    if word not in notes:
                        notes.append(word)
                    row[i] = f"refused [{notes.index(word) + 1}]"
            lines.append(f"{caller.name:20}{provider:20}" + "".join(f"{word:14}" for word in row))
    lines += [f"[{i + 1}] {note}" for i, note in enumerate(notes)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    unittest.main()
