"""The fake provider's other dialects keep their word, too: what it says, what it counts and what it refuses.

Every test of translation believes it. What is checked here is written down in the contracts of the providers."""

import base64
import json
import struct
import unittest

import harness

PIXEL = base64.b64encode(b"\x89PNG" + bytes(64)).decode()  # 68 bytes
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 9}},
          "required": ["city", "days"], "additionalProperties": False}
KEY = "fake-key-of-dialects"

# name: (path, path of a stream, header of the key)
CHATS = {"openai": "/openai/v1", "azure_openai": "/azure_openai/openai/v1", "openrouter": "/openrouter/api/v1",
         "grok": "/grok/v1", "mistral": "/mistral/v1", "kimi": "/kimi/v1", "deepseek": "/deepseek",
         "groq": "/groq/openai/v1", "together": "/together/v1", "vllm": "/vllm/v1", "ollama": "/ollama/v1",
         "lm_studio": "/lm_studio/v1", "llama_cpp": "/llama_cpp/v1", "": "/v1"}
DIALECTS = ["anthropic", "gemini", "responses", *(f"chat:{v}" for v in CHATS)]


class Said:
    """What any dialect answered: text, thoughts, calls [(name, arguments)], finish, usage, and whether it ended."""

    def __init__(self):
        self.text = self.thoughts = ""
        self.calls, self.finish, self.usage, self.ended = [], None, None, False
        self.opaque = None  # signature or sealed reasoning


def sse(answer):
    """[(event or None, data)] of a stream; comments and empty lines are nothing."""
    found = []
    for block in answer.body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name = next((line[7:] for line in lines if line.startswith("event: ")), None)
            data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
            found.append((name, data))
    return found


class Dialects(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.fake = harness.FakeProvider()
        cls.addClassCleanup(cls.fake.close)

    def setUp(self):
        self.fake.clear()

    # --- asking -----------------------------------------------------------------------------------------

    def post(self, path, body, key=KEY, method="POST", **headers):
        auth = {"Authorization": f"Bearer {key}"}
        for part, header in (("/anthropic", "x-api-key"), ("/gemini", "x-goog-api-key"), ("/elevenlabs", "xi-api-key"),
                             ("/azure_openai", "api-key")):
            if path.startswith(part):
                auth = {header: key}
        if path.startswith("/anthropic"):
            auth["anthropic-version"] = "2023-06-01"
        auth.update(headers)
        auth = {name: value for name, value in auth.items() if value is not None}
        return harness.request("127.0.0.1", self.fake.port, method, path, body, auth)

    def anthropic(self, *messages, **more):
        if messages and isinstance(messages[0], str):
            messages = [{"role": "user", "content": messages[0]}]
        body = {"model": "claude-x", "max_tokens": 2000, "messages": list(messages), **more}
        return self.post("/anthropic/v1/messages", {k: v for k, v in body.items() if v is not None})

    def gemini(self, *contents, model="gemini-3-x", stream=False, **more):
        if contents and isinstance(contents[0], str):
            contents = [{"role": "user", "parts": [{"text": contents[0]}]}]
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return self.post(f"/gemini/v1beta/models/{model}:{verb}", {"contents": list(contents), **more})

    def responses(self, given, key=KEY, **more):
        return self.post("/openai/v1/responses", {"model": "gpt-x", "input": given, **more}, key=key)

    def chat(self, vendor, *messages, **more):
        if messages and isinstance(messages[0], str):
            messages = [{"role": "user", "content": messages[0]}]
        return self.post(CHATS[vendor] + "/chat/completions", {"model": "some-model", "messages": list(messages), **more})

    def ask(self, dialect, words, stream=False, tools=None, schema=None, image=False):
        """The same in any dialect: one user's turn."""
        if dialect == "anthropic":
            content = words if not image else [{"type": "text", "text": words}, {"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": PIXEL}}]
            more = {"tools": [{"name": n, "input_schema": s} for n, s in tools]} if tools else {}
            if schema:
                more["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
            return self.anthropic({"role": "user", "content": content}, stream=stream, **more)
        if dialect == "gemini":
            parts = [{"text": words}] + ([{"inlineData": {"mimeType": "image/png", "data": PIXEL}}] if image else [])
            more = {"tools": [{"functionDeclarations": [{"name": n, "parametersJsonSchema": s} for n, s in tools]}]} if tools else {}
            if schema:
                more["generationConfig"] = {"responseMimeType": "application/json", "responseJsonSchema": schema}
            return self.gemini({"role": "user", "parts": parts}, stream=stream, **more)
        if dialect == "responses":
            parts = [{"type": "input_text", "text": words}]
            if image:
                parts.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"})
            more = {"tools": [{"type": "function", "name": n, "parameters": s} for n, s in tools]} if tools else {}
            if schema:
                more["text"] = {"format": {"type": "json_schema", "name": "it", "schema": schema, "strict": True}}
            return self.responses([{"role": "user", "content": parts}], stream=stream, reasoning={"summary": "auto"}, **more)
        vendor = dialect.partition(":")[2]
        content = words if not image else [{"type": "text", "text": words}, {
            "type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
        more = {"tools": [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in tools]} if tools else {}
        if schema:
            more["response_format"] = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}
        if stream:
            more["stream"] = True
            if vendor not in ("mistral",):
                more["stream_options"] = {"include_usage": True}
        return self.chat(vendor, {"role": "user", "content": content}, **more)

    # --- reading ----------------------------------------------------------------------------------------

    def read(self, dialect, answer):
        self.assertEqual(answer.status, 200, answer)
        streamed = "event-stream" in answer.headers["content-type"]
        reader = {"anthropic": self.read_anthropic, "gemini": self.read_gemini, "responses": self.read_responses}.get(
            dialect, self.read_chat)
        return reader(answer, streamed)

    def read_anthropic(self, answer, streamed):
        said = Said()
        if not streamed:
            message = answer.json
            blocks, said.finish, said.usage, said.ended = message["content"], message["stop_reason"], message["usage"], True
        else:
            blocks, open_at = [], None
            for name, data in sse(answer):
                event = json.loads(data)
                self.assertEqual(event["type"], name)
                if name == "message_start":
                    said.usage = dict(event["message"]["usage"])
                    self.assertEqual(event["message"]["content"], [])
                elif name == "content_block_start":
                    self.assertIsNone(open_at, "blocks overlap")
                    open_at = event["index"]
                    self.assertEqual(open_at, len(blocks))
                    blocks.append(dict(event["content_block"], json=""))
                elif name == "content_block_delta":
                    self.assertEqual(event["index"], open_at)
                    delta = event["delta"]
                    kind = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}.get(delta["type"])
                    if kind:
                        blocks[-1][kind] += delta[kind]
                    elif delta["type"] == "input_json_delta":
                        blocks[-1]["json"] += delta["partial_json"]
                elif name == "content_block_stop":
                    self.assertEqual(event["index"], open_at)
                    open_at = None
                elif name == "message_delta":
                    said.finish = event["delta"]["stop_reason"]
                    said.usage.update(event["usage"])
                said.ended = name == "message_stop"
        for block in blocks:
            if block["type"] == "text":
                said.text += block["text"]
            elif block["type"] == "thinking":
                said.thoughts, said.opaque = block["thinking"], block["signature"]
            elif block["type"] == "tool_use":
                said.calls.append((block["name"], json.loads(block["json"]) if streamed else block["input"]))
        u = said.usage
        if u:
            cached, written = u["cache_read_input_tokens"], u["cache_creation_input_tokens"]
            said.vector = (u["input_tokens"] + cached + written, cached,
                           u["output_tokens"] - u.get("output_tokens_details", {}).get("thinking_tokens", 0),
                           u.get("output_tokens_details", {}).get("thinking_tokens", 0))
        return said

    def read_gemini(self, answer, streamed):
        said = Said()
        chunks = [json.loads(data) for _, data in sse(answer)] if streamed else [answer.json]
        for chunk in chunks:
            for candidate in chunk.get("candidates", []):
                said.finish = candidate.get("finishReason", said.finish)
                for part in candidate.get("content", {}).get("parts", []):
                    if part.get("thought"):
                        said.thoughts += part["text"]
                    elif "text" in part:
                        said.text += part["text"]
                    else:
                        said.opaque = said.opaque or part.get("thoughtSignature")
                        said.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
            said.usage = chunk.get("usageMetadata", said.usage)
        u = said.usage
        said.ended = said.finish is not None
        if u:
            out, thoughts = u.get("candidatesTokenCount", 0), u.get("thoughtsTokenCount", 0)
            self.assertEqual(u["totalTokenCount"], u["promptTokenCount"] + out + thoughts)
            said.vector = (u["promptTokenCount"], u.get("cachedContentTokenCount", 0), out, thoughts)
        return said

    def read_responses(self, answer, streamed):
        said = Said()
        response, deltas = (answer.json if not streamed else None), ""
        if streamed:
            for number, (name, data) in enumerate(sse(answer)):
                event = json.loads(data)
                self.assertEqual((event["type"], event["sequence_number"]), (name, number))
                if name == "response.output_text.delta":
                    deltas += event["delta"]
                if name in ("response.completed", "response.failed", "response.incomplete"):
                    response = event["response"]
        if response is None:
            return said
        said.ended, said.finish, said.usage = True, response["status"], response["usage"]
        for item in response["output"]:
            if item["type"] == "message":
                said.text += "".join(p.get("text", "") for p in item["content"])
            elif item["type"] == "reasoning":
                said.thoughts = "".join(p["text"] for p in item["summary"])
                said.opaque = item.get("encrypted_content")
            elif item["type"] == "function_call":
                said.calls.append((item["name"], json.loads(item["arguments"])))
        if streamed:
            self.assertEqual(deltas, said.text)
        u = said.usage
        if u:
            thoughts = u["output_tokens_details"]["reasoning_tokens"]
            self.assertEqual(u["total_tokens"], u["input_tokens"] + u["output_tokens"])
            said.vector = (u["input_tokens"], u["input_tokens_details"]["cached_tokens"], u["output_tokens"] - thoughts, thoughts)
        return said

    def read_chat(self, answer, streamed):
        said, calls = Said(), {}
        if streamed:
            chunks = [json.loads(data) for _, data in sse(answer) if data != "[DONE]"]
            said.ended = sse(answer)[-1][1] == "[DONE]"
            parts = [(c["delta"], c.get("finish_reason")) for chunk in chunks for c in chunk["choices"] if c["index"] == 0]
            said.usage = next((c["usage"] for c in reversed(chunks) if c.get("usage")), None)
        else:
            choice = answer.json["choices"][0]
            parts, said.usage, said.ended = [(choice["message"], choice["finish_reason"])], answer.json.get("usage"), True
        for part, finish in parts:
            said.finish = finish or said.finish
            content = part.get("content") or ""
            if isinstance(content, list):
                for chunk in content:
                    if chunk["type"] == "thinking":
                        said.thoughts += "".join(t["text"] for t in chunk["thinking"])
                    else:
                        said.text += chunk["text"]
            else:
                said.text += content
            said.thoughts += part.get("reasoning_content") or part.get("reasoning") or ""
            for i, call in enumerate(part.get("tool_calls") or []):
                one = calls.setdefault(call.get("index", i), {"name": "", "arguments": ""})
                one["name"] += call["function"].get("name") or ""
                one["arguments"] += call["function"]["arguments"]
        said.calls = [(calls[i]["name"], json.loads(calls[i]["arguments"])) for i in sorted(calls)]
        return said

    # --- one vocabulary ----------------------------------------------------------------------------------

    TOOLS = [("weather", {"type": "object", "properties": {"city": {"type": "string"}}}), ("ferries", {"type": "object"})]

    def test_the_same_words_cost_the_same_and_a_stream_says_what_a_plain_answer_says(self):
        for dialect in DIALECTS:
            for stream in (False, True):
                with self.subTest(dialect=dialect, stream=stream):
                    said = self.read(dialect, self.ask(dialect, "one two [[words=4 reasoning=5 cached=3]]", stream))
                    self.assertEqual((said.text, said.calls, said.ended), ("w1 w2 w3 w4", [], True))
                    u = said.usage
                    if dialect in ("anthropic", "gemini", "responses"):
                        self.assertEqual(said.vector, (5 + 4, 3, 4, 5))
                    else:
                        out = 4 if dialect == "chat:grok" else 9  # xAI counts reasoning beside
                        self.assertEqual((u["prompt_tokens"], u["completion_tokens"], u["total_tokens"]), (9, out, 18))
                    if dialect not in ("chat:openai", "chat:azure_openai", "chat:"):  # these hide it
                        self.assertEqual(said.thoughts, "r1 r2 r3 r4 r5")

    def test_parallel_calls_in_every_dialect(self):
        for dialect in DIALECTS:
            for stream in (False, True):
                with self.subTest(dialect=dialect, stream=stream):
                    said = self.read(dialect, self.ask(dialect, "call [[tools=2]]", stream, tools=self.TOOLS))
                    self.assertEqual(said.calls, [("weather", {"city": "Paris"}), ("ferries", {})])
                    self.assertEqual(said.finish, {"anthropic": "tool_use", "gemini": "STOP", "responses": "completed"}.get(
                        dialect, "tool_calls"))
                    self.assertEqual(said.text, "")
                    if dialect in ("anthropic", "gemini", "responses"):
                        self.assertEqual(said.vector, (2 + 4, 0, 3 + 2, 0))
                    elif said.usage:
                        self.assertEqual((said.usage["prompt_tokens"], said.usage["completion_tokens"]), (6, 5))

    def test_words_before_calls(self):
        for dialect in ("anthropic", "gemini", "responses", "chat:openai"):
            said = self.read(dialect, self.ask(dialect, "tool [[preamble=2]]", True, tools=self.TOOLS))
            self.assertEqual((said.text, len(said.calls)), ("w1 w2", 1), dialect)

    def test_structured_output_fits_the_schema(self):
        for dialect in DIALECTS:
            if dialect == "chat:deepseek":
                continue  # has no schemas, see the refusals
            for stream in (False, True):
                with self.subTest(dialect=dialect, stream=stream):
                    said = self.read(dialect, self.ask(dialect, "as json", stream, schema=SCHEMA))
                    self.assertEqual(json.loads(said.text), {"city": "Paris", "days": 9})

    def test_a_schema_with_everything(self):
        schema = {"type": "object", "additionalProperties": False, "$defs": {"leaf": {"type": "string", "enum": ["b", "c"]}},
                  "properties": {"a": {"$ref": "#/$defs/leaf"}, "n": {"anyOf": [{"type": "null"}, {"type": "string"}]},
                                 "l": {"type": "array", "minItems": 2, "items": {"const": 3}}, "o": {
                                     "type": "object", "additionalProperties": False, "properties": {"y": {"type": ["boolean", "null"]}}}}}
        said = self.read("anthropic", self.ask("anthropic", "x", schema=schema))
        self.assertEqual(json.loads(said.text), {"a": "b", "n": None, "l": [3, 3], "o": {"y": True}})

    def test_media_is_said_to_have_arrived(self):
        for dialect in DIALECTS:
            with self.subTest(dialect=dialect):
                said = self.read(dialect, self.ask(dialect, "look", image=True))
                self.assertEqual(said.text, "echo look [image 1 68 bytes image/png]")
        audio = {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}
        pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}}
        self.assertEqual(self.chat("openai", {"role": "user", "content": [audio, pdf]}).text,
                         "echo [audio 1 68 bytes audio/wav] [document 1 68 bytes application/pdf]")
        said = self.read("anthropic", self.anthropic({"role": "user", "content": [
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}))
        self.assertEqual(said.text, "echo [document 1 68 bytes application/pdf] [image 1 at https://example.com/a.png]")

    def test_limits_stops_and_refusals(self):
        told = "[[words=10]]"
        said = self.read("anthropic", self.anthropic(told, max_tokens=3))
        self.assertEqual((said.text, said.finish, said.usage["output_tokens"]), ("w1 w2 w3", "max_tokens", 3))
        said = self.read("gemini", self.gemini(told, generationConfig={"maxOutputTokens": 3}))
        self.assertEqual((said.text, said.finish), ("w1 w2 w3", "MAX_TOKENS"))
        answer = self.responses(told, max_output_tokens=3).json
        self.assertEqual((answer["status"], answer["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        answer = self.anthropic(told, stop_sequences=["w4"]).json
        self.assertEqual((answer["content"][0]["text"], answer["stop_reason"], answer["stop_sequence"]), ("w1 w2 w3", "stop_sequence", "w4"))
        self.assertEqual(self.chat("openai", told, stop=["w4"]).text, "w1 w2 w3")
        no = "[[refusal]]"
        answer = self.anthropic(no).json
        self.assertEqual((answer["stop_reason"], answer["stop_details"]["type"]), ("refusal", "refusal"))
        self.assertEqual(self.gemini(no).json["candidates"], [{"finishReason": "SAFETY", "index": 0}])
        self.assertEqual(self.responses(no).json["output"][0]["content"], [{"type": "refusal", "refusal": "I cannot help with that."}])
        message = self.chat("openai", no).json["choices"][0]["message"]
        self.assertEqual((message["content"], message["refusal"]), (None, "I cannot help with that."))
        self.assertEqual(self.chat("mistral", no).json["choices"][0]["finish_reason"], "content_filter")

    def test_citations(self):
        for dialect, kind in (("anthropic", "citations_delta"), ("responses", "response.output_text.annotation.added")):
            self.assertEqual(self.ask(dialect, "x [[citations=2]]", True).body.decode().count(f'"type":"{kind}"'), 2)
        self.assertEqual(len(self.ask("chat:openai", "x [[citations=2]]").json["choices"][0]["message"]["annotations"]), 2)
        self.assertEqual(len(self.ask("gemini", "x [[citations=2]]").json["candidates"][0]["citationMetadata"]["citationSources"]), 2)

    def test_results_of_tools_are_quoted(self):
        chat = [{"role": "user", "content": "go"}, {"role": "assistant", "content": None, "tool_calls": [
            {"id": i, "type": "function", "function": {"name": "weather", "arguments": "{}"}} for i in ("aaaaaaaa1", "aaaaaaaa2")]},
            {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "sun 20"}, {"role": "tool", "tool_call_id": "aaaaaaaa2", "content": "rain"}]
        tools = [{"type": "function", "function": {"name": "weather"}}]
        for vendor in CHATS:
            if vendor not in ("kimi", "deepseek"):
                answer = self.chat(vendor, *chat, tools=tools)
                self.assertEqual((answer.status, answer.json["choices"][0]["message"]["content"]), (200, "echo sun 20 rain"), vendor)
                self.assertEqual(answer.usage["prompt_tokens"], 4 * 4 + 4)
        said = self.read("anthropic", self.anthropic(
            {"role": "user", "content": "go"}, {"role": "assistant", "content": [
                {"type": "tool_use", "id": i, "name": "weather", "input": {}} for i in ("t1", "t2")]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sun 20"},
                                         {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "rain"}]}]},
            tools=[{"name": "weather", "input_schema": {"type": "object"}}]))
        self.assertEqual((said.text, said.vector[0]), ("echo sun 20 rain", 20))
        said = self.read("gemini", self.gemini(
            {"role": "user", "parts": [{"text": "go"}]}, {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}},
                                                                                   {"functionCall": {"name": "ferries"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "sun 20"}}},
                                       {"functionResponse": {"name": "ferries", "response": {"result": "rain"}}}]}, model="gemini-2.5-x"))
        self.assertEqual((said.text, said.vector[0]), ("echo sun 20 rain", 20))
        after = {"text": "and then"}
        said = self.read("gemini", self.gemini(
            {"role": "user", "parts": [{"text": "go"}]}, {"role": "model", "parts": [{"functionCall": {"name": "weather"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"result": "sun 20"}}}, after]}, model="gemini-2.5-x"))
        self.assertEqual((said.text, said.vector[0]), ("echo and then", 5 + 4 * 4))
        said = self.read("anthropic", self.anthropic(
            {"role": "user", "content": "go"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "w", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sun 20"}]},
            {"role": "user", "content": [dict(after, type="text")]}))
        self.assertEqual((said.text, said.vector[0]), ("echo and then", 5 + 4 * 4))
        said = self.read("responses", self.responses([
            {"role": "user", "content": "go"}, {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "sun 20"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]}]))
        self.assertEqual((said.text, said.vector[0]), ("echo sun 20 rain", 20))

    # --- errors --------------------------------------------------------------------------------------------

    def test_errors_in_each_dialects_words(self):
        for status, kind in ((400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"), (404, "not_found_error"),
                             (413, "request_too_large"), (429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")):
            answer = self.anthropic(f"[[status={status} retry_after=7]]")
            self.assertEqual((answer.status, answer.json["type"], answer.json["error"]["type"]), (status, "error", kind))
            self.assertEqual(answer.headers["Retry-After"], "7")
        for status, name in ((400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"), (429, "RESOURCE_EXHAUSTED"),
                             (500, "INTERNAL"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED")):
            answer = self.gemini(f"[[status={status} retry_after=7]]")
            error = answer.json["error"]
            self.assertEqual((answer.status, error["code"], error["status"]), (status, status, name))
            self.assertEqual((error["details"][0]["retryDelay"], answer.headers["Retry-After"]), ("7s", None))
        self.assertEqual(self.responses("[[status=429]]").json["error"]["code"], "rate_limit_exceeded")
        shapes = {"openai": lambda e: e["error"]["code"] == "rate_limit_exceeded", "mistral": lambda e: e["object"] == "error",
                  "grok": lambda e: isinstance(e["error"], str) and e["code"], "kimi": lambda e: e["error"]["type"] == "rate_limit_reached_error",
                  "openrouter": lambda e: e["error"]["code"] == 429 and e["error"]["metadata"]["error_type"] == "rate_limit_exceeded",
                  "azure_openai": lambda e: e["error"]["code"] == "429", "llama_cpp": lambda e: e["error"]["code"] == 429,
                  "lm_studio": lambda e: isinstance(e["error"], str)}
        for vendor, shape in shapes.items():
            answer = self.chat(vendor, "[[status=429]]")
            self.assertTrue(answer.status == 429 and shape(answer.json), answer)

    def test_errors_after_the_first_byte(self):
        told = "[[words=6 chunks=6 error_midstream]]"
        name, data = sse(self.anthropic(told, stream=True))[-1]
        self.assertEqual((name, json.loads(data)["error"]["type"]), ("error", "overloaded_error"))
        answer = self.gemini(told, stream=True)
        self.assertEqual(json.loads(answer.body.decode().split("\n\n")[-1])["error"]["status"], "UNAVAILABLE")
        name, data = sse(self.responses(told, stream=True))[-1]
        self.assertEqual((name, json.loads(data)["code"], json.loads(data)["param"]), ("error", "server_error", None))
        last = json.loads(sse(self.chat("openrouter", told, stream=True))[-1][1])
        self.assertEqual((last["error"]["code"], last["choices"][0]["finish_reason"]), (502, "error"))
        failed = self.responses("[[failed]]")
        self.assertEqual((failed.status, failed.json["status"], failed.json["error"]["code"]), (200, "failed", "server_error"))
        self.assertEqual(sse(self.responses("[[failed]]", stream=True))[-1][0], "response.failed")
        failed = self.chat("openrouter", "[[failed]]")
        self.assertEqual((failed.status, list(failed.json)), (200, ["error"]))

    def test_a_stream_without_its_end_and_one_that_breaks(self):
        for dialect in ("anthropic", "gemini", "responses", "chat:openai"):
            with self.subTest(dialect=dialect):
                self.assertFalse(self.read(dialect, self.ask(dialect, "[[words=3 no_done]]", True)).ended)
                self.assertTrue(self.ask(dialect, "[[words=9 cut_after=3]]", True).broken)

    def test_events_may_be_cut_anywhere(self):
        for dialect in ("anthropic", "gemini", "responses"):
            for how in ("dribble=7", "crlf", "comments", "to_close"):
                said = self.read(dialect, self.ask(dialect, f"[[words=3 {how}]]", True))
                self.assertEqual((said.text, said.ended), ("w1 w2 w3", True), (dialect, how))

    def test_long_lines(self):
        for dialect in ("anthropic", "gemini", "responses", "chat:openai"):
            answer = self.ask(dialect, "[[words=2 pad=200000]]", True)
            self.assertGreater(max(map(len, answer.body.split(b"\n"))), 200000)
            self.assertEqual(self.read(dialect, answer).text, "w1 w2")

    def test_blocked_prompts(self):
        answer = self.gemini("a [[blocked]]")
        self.assertEqual((answer.status, answer.json["promptFeedback"]["blockReason"], answer.json["usageMetadata"]["promptTokenCount"]),
                         (200, "PROHIBITED_CONTENT", 6))
        self.assertNotIn("candidates", answer.json)
        self.assertIn("content filtering policy", self.anthropic("[[blocked]]").json["error"]["message"])
        error = self.chat("azure_openai", "[[blocked]]").json["error"]
        self.assertEqual((error["code"], error["innererror"]["code"]), ("content_filter", "ResponsibleAIPolicyViolation"))
        self.assertEqual(self.responses("[[blocked]]").json["error"]["code"], "invalid_prompt")

    def test_rules_and_keys(self):
        self.fake.control(key=KEY, status=503)
        self.assertEqual(self.anthropic("a").status, 503)
        self.assertEqual(self.anthropic("a").status, 200)
        self.assertEqual(self.anthropic("a", model="m+status=404").json["error"]["message"], "model: m+status=404")
        answer = self.post("/v1beta/models/m:generateContent", {"contents": []}, key="bad-one")
        self.assertEqual((answer.status, answer.json["error"]["details"][0]["reason"]), (400, "API_KEY_INVALID"))
        for path in ("/v1/messages", "/v1/responses"):
            self.assertEqual(self.post(path, {}, key="bad").status, 401)
        for path, status in (("/anthropic/v1/messages", 401), ("/gemini/v1beta/models/m:generateContent", 400), ("/grok/v1/chat/completions", 400)):
            self.assertEqual(self.post(path, {}, key="fake-bad-key").status, status)
        self.assertEqual(self.post("/gemini/v1beta/models/m:generateContent?key=fake-in-query", {"contents": [{"parts": [{"text": "a"}]}]},
                                   **{"x-goog-api-key": None}).status, 200)

    # --- Anthropic -------------------------------------------------------------------------------------------

    def refused(self, answer, words, status=400):
        self.assertEqual(answer.status, status, answer)
        self.assertIn(words, answer.body.decode())

    def test_anthropic_refuses(self):
        user = {"role": "user", "content": "go"}
        use = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "w", "input": {}}]}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
        text = {"type": "text", "text": "and"}
        tools = [{"name": "w", "input_schema": {"type": "object"}}]
        thinks = {"type": "enabled", "budget_tokens": 1024}

        def image(kind):
            return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": PIXEL}}

        for words, messages, more in (
                ("max_tokens: Field required", [user], {"max_tokens": None}),
                ("seed: Extra inputs are not permitted", [user], {"seed": 1}),
                ("context_management: Extra inputs", [user], {"context_management": {}}),
                ("must be non-empty", [{"role": "user", "content": [{"type": "text", "text": ""}]}], {}),
                ("non-empty content", [{"role": "user", "content": ""}], {}),
                ("tool_choice may only be specified", [user], {"tool_choice": {"type": "auto"}}),
                ("first message must use", [{"role": "assistant", "content": "hi"}, user], {}),
                ("role: Input should be", [{"role": "system", "content": "hi"}, user], {}),
                ("unexpected `tool_use_id`", [{"role": "user", "content": [result]}], {}),
                ("must come before", [user, {"role": "user", "content": [result]}], {}),
                ("unexpected `tool_use_id`", [user, use, {"role": "user", "content": [dict(result, tool_use_id="t2")]}], {}),
                ("without `tool_result` blocks", [user, use, user], {}),
                ("without `tool_result` blocks", [user, use], {}),
                ("must come before", [user, use, {"role": "user", "content": [text, result]}], {}),
                ("valid dictionary", [user, {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "w", "input": "{}"}]}], {}),
                ("media_type: Input should be", [{"role": "user", "content": [image("image/tiff")]}], {}),
                ("Input tag 'input_audio'", [{"role": "user", "content": [{"type": "input_audio"}]}], {}),
                ("Input tag 'image_url'", [{"role": "user", "content": [{"type": "image_url"}]}], {}),
                ("greater than or equal to 1024", [user], {"thinking": {"type": "enabled", "budget_tokens": 1023}}),
                ("must be greater than", [user], {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
                ("forces tool use", [user], {"thinking": thinks, "tools": tools, "tool_choice": {"type": "any"}}),
                ("Expected `thinking`", [user, use, {"role": "user", "content": [result]}], {"thinking": thinks, "tools": tools}),
                ("temperature", [user], {"temperature": 1.5}),
                ("deprecated for this model", [user], {"temperature": 0.5, "model": "claude-opus-5"}),
                ("input_schema: Field required", [user], {"tools": [{"name": "w"}]}),
                ("function: Extra inputs", [user], {"tools": [{"name": "w", "input_schema": {"type": "object"}, "function": {}}]}),
                ("additionalProperties", [user], {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
                ("trailing whitespace", [user, {"role": "assistant", "content": "well "}], {}),
                ("non-whitespace", [user], {"stop_sequences": ["\n"]}),
                ("metadata", [user], {"metadata": {"trace": "x"}})):
            with self.subTest(words=words):
                answer = self.anthropic(*messages, **more)
                self.refused(answer, words)
                self.assertEqual((answer.json["type"], answer.json["error"]["type"]), ("error", "invalid_request_error"))
        self.refused(self.post("/anthropic/v1/messages", {}, **{"anthropic-version": None}), "anthropic-version")
        self.assertEqual(self.anthropic(user, {"role": "user", "content": "merged"}, {"role": "assistant", "content": "well"}).status, 200)
        beta = self.post("/anthropic/v1/messages?beta=true", {"model": "m", "max_tokens": 9, "messages": [user], "context_management": {}},
                         **{"anthropic-beta": "context-management-2025-06-27"})
        self.assertEqual(beta.status, 200)

    def test_anthropic_signatures(self):
        tools = [{"name": "w", "input_schema": {"type": "object"}}]
        thinks = {"type": "enabled", "budget_tokens": 1024}
        first = self.anthropic("tool [[reasoning=3]]", tools=tools, thinking=thinks).json["content"]
        self.assertEqual([b["type"] for b in first], ["thinking", "tool_use"])
        talk = [{"role": "user", "content": "tool"}, {"role": "assistant", "content": first},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first[1]["id"], "content": "x"}]}]
        self.assertEqual(self.anthropic(*talk, tools=tools, thinking=thinks).status, 200)
        self.refused(self.anthropic(*talk, tools=tools, thinking=thinks, model="claude-y"), "Invalid `signature` in `thinking` block")
        first[0]["thinking"] += "!"
        self.refused(self.anthropic(*talk, tools=tools, thinking=thinks), "messages.1.content.0: Invalid `signature`")
        hidden = self.anthropic("x [[reasoning=3]]", thinking={"type": "adaptive", "display": "omitted"}).json["content"][0]
        self.assertEqual(hidden["thinking"], "")
        self.assertEqual(self.anthropic({"role": "user", "content": "x"}, {"role": "assistant", "content": [hidden]},
                                        {"role": "user", "content": "y"}).status, 200)

    def test_anthropic_counts(self):
        answer = self.post("/anthropic/v1/messages/count_tokens", {"model": "m", "system": "be it", "messages": [{"role": "user", "content": "a b c"}]})
        self.assertEqual(answer.json, {"input_tokens": 2 + 4 + 3 + 4})
        self.refused(self.post("/anthropic/v1/messages/count_tokens", {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}), "max_tokens")
        u = self.anthropic("a b [[cached=1 cache_write=2 cache_write_1h=1]]", stream=True)
        start = json.loads(sse(u)[0][1])["message"]["usage"]
        self.assertEqual((start["input_tokens"], start["cache_read_input_tokens"], start["cache_creation_input_tokens"], start["cache_creation"],
                          start["output_tokens"]), (5, 1, 3, {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1}, 1))

    # --- Gemini ------------------------------------------------------------------------------------------------

    def test_gemini_refuses(self):
        def user(*parts):
            return {"role": "user", "parts": list(parts)}

        go = user({"text": "go"})
        sign = {"thoughtSignature": "skip_thought_signature_validator"}
        model = {"role": "model", "parts": [{"functionCall": {"name": "w", "args": {}}, **sign}]}

        def result(name="w", response=None):
            return {"functionResponse": {"name": name, "response": {"result": "x"} if response is None else response}}

        for words, contents, more in (
                ("Unknown name \\\"messages\\\"", [go], {"messages": []}),
                ("Unknown name \\\"labels\\\"", [go], {"labels": {}}),
                ("Unknown name \\\"max_tokens\\\"", [go], {"generationConfig": {"max_tokens": 1}}),
                ("required oneof field 'data'", [user({"thought": True})], {}),
                ("already set", [user({"text": "a", "inlineData": {"mimeType": "image/png", "data": PIXEL}})], {}),
                ("parts must not be empty", [user()], {}),
                ("contents is not specified", [], {}),
                ("start with a user turn", [{"role": "model", "parts": [{"text": "a"}]}], {}),
                ("valid role", [{"role": "assistant", "parts": [{"text": "a"}]}], {}),
                ("function_response.response", [go, model, user(result(response="x"))], {}),
                ("response name matches", [go, model, user(result("v"))], {}),
                ("number of function response parts", [go, model, user(result(), result())], {}),
                ("function response parts", [go, model, go], {}),
                ("number of function response parts", [go, user(result())], {}),
                ("missing a thought_signature", [go, {"role": "model", "parts": [{"functionCall": {"name": "w"}}]}, user(result())], {}),
                ("Corrupted thought signature", [go, {"role": "model", "parts": [{"functionCall": {"name": "w"}, "thoughtSignature": "c2ln"}]}, user(result())], {}),
                ("Base64 decoding failed", [user({"inlineData": {"mimeType": "image/png", "data": "%%%"}})], {}),
                ("displayName", [user({"inlineData": {"mimeType": "image/png", "data": PIXEL, "displayName": "a"}})], {}),
                ("additionalProperties", [go], {"tools": [{"functionDeclarations": [{"name": "w", "parameters": SCHEMA}]}]}),
                ("Invalid function name", [go], {"tools": [{"functionDeclarations": [{"name": "1w"}]}]}),
                ("Allowed function names", [go], {"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["w"]}}}),
                ("thinking budget and thinking level", [go], {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}}),
                ("response_mime_type", [go], {"generationConfig": {"responseJsonSchema": SCHEMA}}),
                ("at most 5", [go], {"generationConfig": {"stopSequences": list("abcdef")}})):
            with self.subTest(words=words):
                answer = self.gemini(*contents, **more)
                self.refused(answer, words)
                self.assertEqual(answer.json["error"]["status"], "INVALID_ARGUMENT")
        self.assertEqual(self.gemini(go, model, user(result())).status, 200)
        self.assertEqual(self.gemini({"parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]},
                                     system_instruction={"parts": [{"text": "be it"}]}, generation_config={"max_output_tokens": 9}).status, 200)

    def test_gemini_signatures_and_arrays(self):
        parts = self.ask("gemini", "tool [[tools=2]]", tools=self.TOOLS).json["candidates"][0]["content"]["parts"]
        self.assertEqual(["thoughtSignature" in p for p in parts], [True, False])
        results = [{"functionResponse": {"name": p["functionCall"]["name"], "response": {}}} for p in parts]
        talk = [{"role": "user", "parts": [{"text": "tool"}]}, {"role": "model", "parts": parts}, {"role": "user", "parts": results}]
        self.assertEqual(self.gemini(*talk).status, 200)
        self.refused(self.gemini(*talk, model="gemini-3-y"), "Corrupted")
        answer = self.post("/gemini/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "[[words=3]]"}]}]})
        self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")
        self.assertEqual(["".join(p["text"] for p in c["candidates"][0]["content"]["parts"]) for c in answer.json], ["w1", " w2", " w3", ""])
        self.assertEqual([c["usageMetadata"].get("candidatesTokenCount") for c in answer.json], [1, 2, 3, 3])
        self.assertIn("thoughts", self.gemini("[[reasoning=2]]", generationConfig={"thinkingConfig": {"includeThoughts": False}}).body.decode())
        self.assertNotIn('"thought":true', self.gemini("[[reasoning=2]]", generationConfig={"thinkingConfig": {"includeThoughts": False}}).body.decode())

    def test_gemini_counts_and_embeds(self):
        contents = [{"role": "user", "parts": [{"text": "a b c"}]}]
        for body in ({"contents": contents}, {"generateContentRequest": {"model": "models/m", "contents": contents}}):
            self.assertEqual(self.post("/gemini/v1beta/models/m:countTokens", body).json, {"totalTokens": 7})
        one = self.post("/gemini/v1beta/models/m:embedContent", {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 5}).json["embedding"]["values"]
        many = self.post("/gemini/v1beta/models/m:batchEmbedContents", {"requests": [
            {"model": "models/m", "content": {"parts": [{"text": t}]}, "outputDimensionality": 5} for t in "ab"]}).json["embeddings"]
        self.assertEqual((len(one), many[0]["values"], len(many)), (5, one, 2))
        self.assertNotEqual(many[1]["values"], one)

    # --- Responses -----------------------------------------------------------------------------------------------

    def test_responses_refuses(self):
        for words, given, more in (
                ("Unknown parameter: 'messages'", "a", {"messages": []}),
                ("has moved to 'text.format'", "a", {"response_format": {"type": "json_object"}}),
                ("tools[0].name", "a", {"tools": [{"type": "function", "function": {"name": "w"}}]}),
                ("No tool call found", [{"type": "function_call_output", "call_id": "c9", "output": "x"}], {}),
                ("No tool output found", [{"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"}], {}),
                ("Unknown parameter: 'tool_choice.function'", "a", {"tool_choice": {"type": "function", "function": {"name": "w"}}}),
                ("text.format.name", "a", {"text": {"format": {"type": "json_schema", "json_schema": {}}}}),
                ("Invalid schema", "a", {"text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object"}}}}),
                ("Invalid value: 'text'", [{"role": "user", "content": [{"type": "text", "text": "a"}]}], {}),
                ("Invalid value: 'tool'", [{"role": "tool", "content": "a"}], {}),
                ("expected an image URL", [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}], {}),
                ("could not be verified", [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "Zm9yZWlnbg=="}], {}),
                ("Item with id", [{"type": "item_reference", "id": "msg_1"}], {}),
                ("below minimum", "a", {"model": "gpt-5-mini", "max_output_tokens": 1}),
                ("store", "a", {"background": True, "store": False})):
            with self.subTest(words=words):
                answer = self.responses(given, **more)
                self.assertIn(answer.status, (400, 404))
                self.refused(answer, words, answer.status)
                self.assertEqual(answer.json["error"]["type"], "invalid_request_error")

    def test_responses_remember_per_key(self):
        first = self.responses("tool", tools=[{"type": "function", "name": "w", "parameters": {"type": "object"}}]).json
        call = first["output"][0]
        follow = [{"type": "function_call_output", "call_id": call["call_id"], "output": "x"}]
        self.assertEqual(self.responses(follow, previous_response_id=first["id"]).status, 200)
        foreign = self.responses(follow, previous_response_id=first["id"], key="fake-other-key")
        self.assertEqual((foreign.status, foreign.json["error"]["code"], foreign.json["error"]["param"]),
                         (400, "previous_response_not_found", "previous_response_id"))
        path = f"/openai/v1/responses/{first['id']}"
        self.assertEqual(self.post(path, None, method="GET").json, first)
        self.assertEqual(self.post(path, None, key="fake-other-key", method="GET").status, 404)
        self.assertTrue(self.post(path, None, method="DELETE").json["deleted"])
        self.assertEqual(self.post(path, None, method="GET").status, 404)
        forgotten = self.responses("a", store=False).json["id"]
        self.assertEqual(self.post(f"/openai/v1/responses/{forgotten}", None, method="GET").status, 404)
        self.assertEqual(self.responses("a", conversation="conv_1").status, 200)
        self.assertEqual(self.responses("a", conversation={"id": "conv_1"}, key="fake-other-key").status, 404)
        queued = self.responses("a", background=True).json
        self.assertEqual((queued["status"], queued["output"], queued["usage"]), ("queued", [], None))
        self.assertEqual(self.post(f"/openai/v1/responses/{queued['id']}", None, method="GET").json["status"], "completed")
        self.assertEqual(self.post("/openai/v1/responses/input_tokens", {"model": "m", "input": "a b"}).json,
                         {"object": "response.input_tokens", "input_tokens": 6})

    def test_responses_sealed_reasoning_and_order_of_events(self):
        answer = self.responses("tool [[reasoning=2 preamble=1]]", stream=True, store=False, include=["reasoning.encrypted_content"],
                                tools=[{"type": "function", "name": "w", "parameters": {"type": "object"}}])
        self.assertEqual([name.removeprefix("response.") for name, _ in sse(answer)], [
            "created", "in_progress", "output_item.added", "output_item.done", "output_item.added", "content_part.added",
            "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "output_item.added",
            "function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed"])
        output = json.loads(sse(answer)[-1][1])["response"]["output"]
        self.assertEqual([i["type"] for i in output], ["reasoning", "message", "function_call"])
        self.assertEqual(output[0]["summary"], [])
        again = [*output, {"type": "function_call_output", "call_id": output[2]["call_id"], "output": "x"}]
        self.assertEqual(self.responses(again, store=False).status, 200)
        self.refused(self.responses(again, store=False, model="gpt-y"), "invalid_encrypted_content")

    # --- chat completions ------------------------------------------------------------------------------------------

    def test_chat_refuses(self):
        user = {"role": "user", "content": "go"}

        def calls(i="aaaaaaaa1", **more):
            return {"role": "assistant", "content": None, "tool_calls": [
                {"id": i, "type": "function", "function": {"name": "w", "arguments": "{}"}}], **more}

        def result(i="aaaaaaaa1"):
            return {"role": "tool", "tool_call_id": i, "content": "x"}

        for vendor, status, words, messages, more in (
                ("openai", 400, "Unknown parameter: 'top_k'", [user], {"top_k": 1}),
                ("openai", 400, "max_completion_tokens", [user], {"model": "gpt-5-mini", "max_tokens": 9}),
                ("openai", 400, "max_completion_tokens", [user], {"model": "o3", "max_tokens": 9}),
                ("openai", 400, "unsupported_value", [user], {"model": "gpt-5-mini", "temperature": 0}),
                ("openai", 400, "preceeding", [user, result()], {}),
                ("openai", 400, "must be followed by tool messages", [user, calls(), user], {}),
                ("openai", 400, "must be followed by tool messages", [user, calls()], {}),
                ("openai", 400, "Invalid schema", [user], {"tools": [{"type": "function", "function": {"name": "w", "strict": True, "parameters": {"type": "object"}}}]}),
                ("openai", 400, "tools[0].function", [user], {"tools": [{"type": "function", "name": "w"}]}),
                ("openai", 400, "only allowed when 'tools'", [user], {"tool_choice": "auto"}),
                ("openai", 400, "contain the word 'json'", [user], {"response_format": {"type": "json_object"}}),
                ("openai", 400, "Invalid value: 'thinking'", [{"role": "user", "content": [{"type": "thinking"}]}], {}),
                ("openai", 400, "stream_options", [user], {"stream_options": {"include_usage": True}}),
                ("openai", 400, "got null", [{"role": "user", "content": None}], {}),
                *(("mistral", 422, name, [user], {name: value}) for name, value in (
                    ("stream_options", {"include_usage": True}), ("max_completion_tokens", 9), ("seed", 1), ("user", "u"), ("store", True),
                    ("logit_bias", {}), ("logprobs", True), ("reasoning", {}))),
                ("mistral", 422, "developer", [{"role": "developer", "content": "a"}, user], {}),
                ("mistral", 422, "name", [dict(user, name="me")], {}),
                ("mistral", 400, "length of 9", [user, calls("call_1"), result("call_1")], {}),
                ("mistral", 400, "Expected last role", [user, {"role": "assistant", "content": "a"}], {}),
                ("kimi", 400, "reasoning_content is missing", [user, calls(), result()], {}),
                ("deepseek", 400, "reasoning_content is missing", [user, calls(), result()], {}),
                ("deepseek", 400, "unavailable", [user], {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
                ("groq", 400, "logprobs", [user], {"logprobs": True}),
                ("groq", 400, "'n' must be 1", [user], {"n": 2}),
                ("groq", 400, "name", [dict(user, name="me")], {}),
                ("grok", 400, "not supported on this model", [user], {"model": "grok-4.3", "stop": ["a"]}),
                ("kimi", 400, "fixed for this model", [user], {"model": "kimi-k2.6", "temperature": 0.3}),
                ("together", 400, "must be an integer", [user], {"logprobs": True}),
                ("lm_studio", 400, "json_schema", [user], {"response_format": {"type": "json_object"}}),
                ("ollama", 400, "invalid image", [{"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}], {}),
                ("ollama", 200, "echo", [user], {"anything": 1})):
            with self.subTest(vendor=vendor, words=words):
                self.refused(self.chat(vendor, *messages, **more), words, status)
        for vendor, model in (("kimi", "moonshot-v1-8k"), ("deepseek", "deepseek-chat")):
            self.assertEqual(self.chat(vendor, user, calls(), result(), model=model).status, 200)
        for vendor in ("kimi", "deepseek"):
            self.assertEqual(self.chat(vendor, user, calls(reasoning_content="r1"), result()).status, 200)
            self.assertEqual(self.chat(vendor, user, calls(), result(), thinking={"type": "disabled"}).status, 200)
            tools = [{"type": "function", "function": {"name": "w"}}]
            for words in ("tool", "tool [[reasoning=2]]"):
                message = self.chat(vendor, words, tools=tools).json["choices"][0]["message"]
                message = {k: message[k] for k in ("role", "content", "tool_calls", "reasoning_content") if k in message}
                self.assertEqual(self.chat(vendor, user, message, result(message["tool_calls"][0]["id"]), tools=tools).status, 200)
        made = self.chat("mistral", "tool", tools=[{"type": "function", "function": {"name": "w"}}]).json["choices"][0]["message"]["tool_calls"][0]["id"]
        self.assertRegex(made, "^[a-zA-Z0-9]{9}$")

    def test_chat_usage_as_each_states_it(self):
        told = "a [[words=2 reasoning=5 cached=1]]"
        grok = self.chat("grok", told).usage
        self.assertEqual((grok["completion_tokens"], grok["completion_tokens_details"]["reasoning_tokens"], grok["total_tokens"]), (2, 5, 8 + 2 + 5))
        self.assertEqual(grok["cost_in_usd_ticks"], (8 * 3000 + 7 * 15000) * 10)
        self.assertEqual(self.chat("kimi", told).usage["cached_tokens"], 1)
        deepseek = self.chat("deepseek", told)
        self.assertTrue(deepseek.body.startswith(b"\n\n"))
        self.assertEqual((deepseek.usage["prompt_cache_hit_tokens"], deepseek.usage["prompt_cache_miss_tokens"]), (1, 7))
        self.assertEqual(self.chat("openrouter", told).usage["cost"], (8 * 3000 + 7 * 15000) / 1e9)
        self.assertEqual(set(self.chat("ollama", told).usage), {"prompt_tokens", "completion_tokens", "total_tokens"})
        self.assertIn("timings", self.chat("llama_cpp", told).json)

        def chunks(vendor, **more):
            return [json.loads(d) for _, d in sse(self.chat(vendor, told, stream=True, **more)) if d != "[DONE]"]

        for vendor in ("mistral", "together", "deepseek"):
            last = chunks(vendor)[-1]
            self.assertEqual((last["choices"][0]["finish_reason"], last["usage"]["completion_tokens"]), ("stop", 7), vendor)
        last = chunks("openrouter")[-1]
        self.assertTrue(last["choices"] and last["usage"]["cost"])
        self.assertEqual(chunks("azure_openai")[0]["choices"], [])
        self.assertIn("usage", chunks("groq")[-1]["x_groq"])
        self.assertTrue(all(not c.get("usage") for c in chunks("openai")))
        self.assertEqual(chunks("openai", stream_options={"include_usage": True})[-1]["choices"], [])
        comments = self.chat("openrouter", told, stream=True).body
        self.assertTrue(comments.startswith(b": OPENROUTER PROCESSING\n\n"))

    def test_other_dialects_of_a_provider(self):
        message = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        for path in ("/openrouter/api/v1/messages", "/grok/v1/messages", "/deepseek/anthropic/v1/messages", "/v1/messages"):
            headers = {"anthropic-version": "2023-06-01"} if path == "/v1/messages" else {}
            self.assertEqual(self.post(path, message, **headers).json["type"], "message", path)
        for path in ("/grok/v1/responses", "/azure_openai/openai/v1/responses", "/openrouter/api/v1/responses", "/v1/responses"):
            self.assertEqual(self.post(path, {"model": "m", "input": "a"}).json["object"], "response", path)
        self.assertEqual(self.post("/gemini/v1beta/openai/chat/completions", {"model": "m", "messages": message["messages"]},
                                   ).json["object"], "chat.completion")
        for path in ("/mistral/v1/responses", "/anthropic/v1/chat/completions", "/openai/v1/messages", "/kimi/v1/models/m:generateContent"):
            self.assertEqual(self.post(path, message).status, 404, path)

    # --- vectors and voice -------------------------------------------------------------------------------------------

    def test_embeddings(self):
        def embed(given, vendor="/openai/v1", **more):
            return self.post(vendor + "/embeddings", {"model": "m", "input": given, **more})

        floats = embed(["a b", "c"], dimensions=4).json
        self.assertEqual((floats["usage"], [d["index"] for d in floats["data"]]), ({"prompt_tokens": 3, "total_tokens": 3}, [0, 1]))
        packed = embed("a b", dimensions=4, encoding_format="base64").json["data"][0]["embedding"]
        self.assertEqual(list(struct.unpack("<4f", base64.b64decode(packed))), floats["data"][0]["embedding"])
        self.assertEqual(embed([1, 2, 3]).json["usage"]["prompt_tokens"], 3)
        self.assertEqual(len(embed([[1, 2], [3]]).json["data"]), 2)
        self.refused(embed("a", foo=1), "Unknown parameter")
        self.refused(embed("a", "/mistral/v1", dimensions=3), "dimensions", 422)
        self.refused(embed([]), "is invalid")
        self.assertEqual(embed("a [[status=429]]").status, 429)

    def test_speech(self):
        answer = self.post("/openai/v1/audio/speech", {"model": "tts", "input": "hello", "voice": "alloy"})
        self.assertEqual((answer.headers["content-type"], len(answer.body), answer.body[:3]), ("audio/mpeg", 3 + 5 * 16, b"ID3"))
        body = {"model": "gpt-4o-mini-tts", "input": "hello you", "voice": "alloy", "response_format": "wav"}
        plain = self.post("/openai/v1/audio/speech", body)
        events = [json.loads(d) for _, d in sse(self.post("/openai/v1/audio/speech", {**body, "stream_format": "sse"}))]
        self.assertEqual(b"".join(base64.b64decode(e["audio"]) for e in events[:-1]), plain.body)
        self.assertEqual(events[-1], {"type": "speech.audio.done", "usage": {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}})
        self.refused(self.post("/openai/v1/audio/speech", {"model": "m", "input": "a"}), "voice")
        self.refused(self.post("/openai/v1/audio/speech", {**body, "response_format": "mp4"}), "mp4")
        self.assertTrue(self.post("/openai/v1/audio/speech", {**body, "input": "a [[cut_after=2]]"}).broken)

    def form(self, path, file=b"x" * 20000, **fields):
        body = b"".join(f'--frontier\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items())
        if file is not None:
            body += b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n' + file + b"\r\n"
        return self.post(path, body + b"--frontier--\r\n", **{"Content-Type": "multipart/form-data; boundary=frontier"})

    def test_transcriptions(self):
        path = "/openai/v1/audio/transcriptions"
        heard = "heard 20000 bytes of a.wav"
        answer = self.form(path, model="gpt-4o-transcribe").json
        self.assertEqual((answer["text"], answer["usage"]), (heard, {
            "type": "tokens", "input_tokens": 20, "input_token_details": {"text_tokens": 0, "audio_tokens": 20}, "output_tokens": 5, "total_tokens": 25}))
        self.assertEqual(self.form(path, model="whisper-1").json["usage"], {"type": "duration", "seconds": 2})
        verbose = self.form(path, model="whisper-1", response_format="verbose_json", **{"timestamp_granularities[]": "word"}).json
        self.assertEqual((verbose["duration"], len(verbose["words"]), verbose["segments"][0]["end"]), (2, 5, 2))
        for kind, start in (("text", heard), ("srt", "1\n00:00:00,000 --> "), ("vtt", "WEBVTT\n\n")):
            self.assertTrue(self.form(path, model="whisper-1", response_format=kind).body.decode().startswith(start), kind)
        events = [json.loads(d) for _, d in sse(self.form(path, model="gpt-4o-transcribe", stream="true"))]
        self.assertEqual("".join(e["delta"] for e in events[:-1]), heard)
        self.assertEqual((events[-1]["type"], events[-1]["text"], events[-1]["usage"]["output_tokens"]), ("transcript.text.done", heard, 5))
        self.refused(self.form(path), "model")
        self.refused(self.form(path, None, model="m"), "Field required")
        self.refused(self.form(path, model="m", response_format="doc"), "doc")

    def test_elevenlabs(self):
        answer = self.post("/elevenlabs/v1/text-to-speech/voice1?output_format=pcm_24000", {"text": "hello", "model_id": "eleven_flash_v2_5"})
        self.assertEqual((answer.status, answer.headers["content-type"], answer.headers["character-cost"], answer.headers["x-character-count"]),
                         (200, "audio/pcm", "3", "5"))
        stream = self.post("/elevenlabs/v1/text-to-speech/aaaaaaaaaaaaaaaaaaaa/stream", {"text": "hello"})
        self.assertEqual((stream.headers["Transfer-Encoding"], stream.headers["character-cost"], len(stream.body)), ("chunked", "5", 83))
        self.refused(self.post("/elevenlabs/v1/text-to-speech/nobody", {"text": "a"}), '"status":"voice_not_found"', 404)
        self.refused(self.post("/elevenlabs/v1/text-to-speech/voice1", {"input": "a"}), '"loc":["body"', 422)
        self.refused(self.post("/elevenlabs/v1/text-to-speech/voice1", {"text": "a [[status=401 code=quota_exceeded]]"}), "quota_exceeded", 401)
        self.assertEqual(self.post("/elevenlabs/v1/voices", None, method="GET").json["voices"][0]["voice_id"], "voice1")
        text = self.form("/elevenlabs/v1/speech-to-text", model_id="scribe_v1").json
        self.assertEqual((text["text"], text["audio_duration_secs"], len(text["words"])), ("heard 20000 bytes of a.wav", 2, 5))
        self.refused(self.form("/elevenlabs/v1/speech-to-text", model_id="whisper-1"), "invalid_model_id")

    # --- what was sent -----------------------------------------------------------------------------------------------

    def test_requests_are_kept_without_their_keys(self):
        self.anthropic("first")
        self.post("/gemini/v1beta/models/m:generateContent?key=fake-in-a-query&x=1", {"contents": [{"parts": [{"text": "a"}]}]}, **{"x-goog-api-key": None})
        self.form("/openai/v1/audio/transcriptions", b"\xff\xfe", model="m")
        kept = self.fake.requests()
        self.assertEqual([(k["method"], k["path"]) for k in kept], [
            ("POST", "/anthropic/v1/messages"), ("POST", "/gemini/v1beta/models/m:generateContent"), ("POST", "/openai/v1/audio/transcriptions")])
        self.assertEqual(json.loads(kept[0]["body"])["messages"], [{"role": "user", "content": "first"}])
        self.assertEqual((kept[0]["headers"]["anthropic-version"], kept[0]["headers"]["x-api-key"]), ("2023-06-01", "***" + KEY[-8:]))
        self.assertEqual(kept[1]["query"], "key=***&x=1")
        self.assertIn(b"\xff\xfe", base64.b64decode(kept[2]["body_base64"]))
        self.assertNotIn(KEY, json.dumps(kept))
        log = json.dumps(self.fake.calls())
        self.assertNotIn(KEY, log)
        self.assertNotIn("fake-in-a-query", log)


if __name__ == "__main__":
    unittest.main()
