"""Where caller and provider speak the same dialect: what neither side here knows passes byte for byte and in order."""
import json

import harness
from mouth import Mouth
from test_matrix import CALLERS, MODELS
from test_providers import key

CHAT, RESPONSES, MESSAGES, GEMINI = CALLERS
# what no client of today sends, in an order, with spaces and numbers that a rewrite would change
ODD = '"zeta" : {"b":1.50,"a":[1e2, 12345678901234567890 ,"\\u00e9\\/"]} ,"alpha":null'


def head(caller, model, stream):
    """A request's body as text, and its path."""
    if caller is CHAT:
        return "/v1/chat/completions", f'{{"model":"{model}" , {ODD}, "messages":[{{"role":"user","content":"Hello","odd":{{ "x" : 1.0 }}}}],"max_completion_tokens":50' + (
            ',"stream":true,"stream_options":{"include_usage":true,"odd":true}' if stream else "") + "}"
    if caller is RESPONSES:
        return "/v1/responses", f'{{"model":"{model}" , {ODD}, "input":[{{"type":"message","role":"user","content":"Hello","odd":{{ "x" : 1.0 }}}}],"max_output_tokens":50' + (
            ',"stream":true' if stream else "") + "}"
    if caller is MESSAGES:
        return "/v1/messages?beta=true", f'{{"model":"{model}" , {ODD}, "messages":[{{"role":"user","content":"Hello","odd":{{ "x" : 1.0 }}}}],"max_tokens":50' + (
            ',"stream":true' if stream else "") + "}"
    return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"), (
        f'{{ {ODD}, "contents":[{{"role":"user","parts":[{{"text":"Hello","odd":{{ "x" : 1.0 }}}}]}}],"generationConfig":{{"maxOutputTokens":50,"odd":true}}}}')


ANSWERS = {
    CHAT: f'{{"id":"x-1", {ODD} ,"object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"odd":{{ "y" : 2.0}},"message":{{"role":"assistant","content":"Hi"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"odd":7}}}}',
    RESPONSES: f'{{"id":"resp_1", {ODD} ,"object":"response","created_at":1,"status":"completed","model":"m","output":[{{"type":"odd_item","y":2.0}},{{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{{"type":"output_text","text":"Hi","annotations":[]}}]}}],"usage":{{"input_tokens":3,"output_tokens":1,"total_tokens":4,"odd":7}}}}',
    MESSAGES: f'{{"id":"msg_1", {ODD} ,"type":"message","role":"assistant","model":"m","content":[{{"type":"odd_block","y":2.0}},{{"type":"text","text":"Hi"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":3,"output_tokens":1,"odd":7}}}}',
    GEMINI: f'{{"candidates":[{{"odd":{{ "y" : 2.0}},"content":{{"role":"model","parts":[{{"text":"Hi","oddPart":1}}]}},"finishReason":"STOP","index":0}}], {ODD} ,"usageMetadata":{{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4,"odd":7}}}}',
}


def chunk(delta, finish="null", more=""):
    return f'data: {{"id":"x-1","object":"chat.completion.chunk","created":1,"model":"m" , {ODD},"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish},"odd":[ ]}}]{more}}}\n\n'


def event(name, members):
    return f'event: {name}\ndata: {{"type":"{name}" , {ODD}, {members}}}\n\n'


STREAMS = {
    CHAT: [chunk('{"role":"assistant","content":""}'), chunk('{"content":"H","odd":1}'), ": a comment\n\n", "event: odd\nid: 7\nretry: 10\ndata: {\"choices\":[],\"odd\":true}\n\n",
           chunk('{"content":"i"}'), chunk("{}", '"stop"'),
           f'data: {{"id":"x-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"odd":7}}}}\n\n', "data: [DONE]\n\n"],
    RESPONSES: [event("response.created", '"sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","output":[]}'),
                event("response.odd", '"sequence_number":1'),
                event("response.output_item.added", '"sequence_number":2,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}'),
                event("response.output_text.delta", '"sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hi"'), ": a comment\n\n",
                event("response.odder", '"sequence_number":4'),
                event("response.completed", '"sequence_number":5,"response":' + ANSWERS[RESPONSES])],
    MESSAGES: [event("message_start", '"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}'),
               event("ping", '"odd":1'), event("content_block_start", '"index":0,"content_block":{"type":"text","text":""}'),
               event("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"Hi"}'), event("odd_event", '"index":0'),
               event("content_block_delta", '"index":0,"delta":{"type":"odd_delta","odd":"Hi"}'), ": a comment\n\n", event("ping", '"odd":2'),
               event("content_block_stop", '"index":0'), event("message_delta", '"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":1,"odd":7}'),
               event("message_stop", '"odd":3')],
    GEMINI: [f'data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"H"}}]}},"index":0}}], {ODD}}}\r\n\r\n',
             f'data: {{"odd":{{"x":1}}, {ODD}}}\r\n\r\n',
             f'data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"i"}}]}},"finishReason":"STOP","index":0}}], {ODD},"usageMetadata":{{"promptTokenCount":3,"candidatesTokenCount":1,"totalTokenCount":4,"odd":7}}}}\r\n\r\n'],
}
HOME = {CHAT: "openai_compatible", RESPONSES: "openai", MESSAGES: "anthropic", GEMINI: "gemini"}
BETAS = {"anthropic-version": "2023-06-01", "anthropic-beta": "one-2025-01-01,two-2026-02-02", "openai-beta": "odd=v2", "x-goog-api-client": "genai-js/9 gl-node/99"}


class Bytes(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.mouth = Mouth()
        cls.addClassCleanup(cls.mouth.close)
        cls.org = cls.tg.setup_org("acme")
        for provider in sorted({*HOME.values(), "mistral"}):
            cls.tg.must("POST", "/orgs/acme/profiles", {
                "name": provider, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
                "base_url": cls.mouth.url(provider), "models": [MODELS[provider]]})
        cls.tg.settled()

    def ask(self, caller, provider, stream, headers=None):
        path, body = head(caller, f"{provider}/{MODELS[provider]}", stream)
        return body, self.tg.post(path, body.encode(), key=self.org.key, headers={"Content-Type": "application/json", **(headers or {})})

    def test_a_request_passes_but_for_its_model(self):
        for caller, provider in HOME.items():
            for stream in (False, True):
                with self.subTest(caller=caller.name, stream=stream):
                    self.mouth.says(provider, 200, [s.encode() for s in STREAMS[caller]] if stream else ANSWERS[caller])
                    sent, answer = self.ask(caller, provider, stream)
                    self.assertEqual(answer.status, 200, answer)
                    asked = self.mouth.asked(provider)[-1]
                    self.assertEqual(asked.body.decode(), sent.replace(f"{provider}/{MODELS[provider]}", MODELS[provider]))
                    self.assertNotIn("beta=true", asked.path)

    def test_an_answer_passes_whole(self):
        for caller, provider in HOME.items():
            with self.subTest(caller=caller.name):
                self.mouth.says(provider, 200, ANSWERS[caller])
                self.assertEqual(self.ask(caller, provider, False)[1].body.decode(), ANSWERS[caller])

    def test_a_stream_passes_whole(self):
        for caller, provider in HOME.items():
            for cut in (None, 1, 11):
                with self.subTest(caller=caller.name, cut=cut):
                    said = "".join(STREAMS[caller]).encode()
                    self.mouth.says(provider, 200, [said[i:i + cut] for i in range(0, len(said), cut)] if cut else [said])
                    self.assertEqual(self.ask(caller, provider, True)[1].body.decode(), said.decode())

    def test_usage_is_asked_for_and_taken_out_again(self):
        said = STREAMS[CHAT]
        for text in (',"stream":true,"stream_options":{"include_usage":false,"odd":true}', ',"stream":true'):
            with self.subTest(text=text):
                self.mouth.says("openai_compatible", 200, [s.encode() for s in said])
                path, body = head(CHAT, MODELS["openai_compatible"], False)
                answer = self.tg.post(path, (body[:-1] + text + "}").encode(), key=self.org.key, headers={"Content-Type": "application/json"})
                asked = self.mouth.asked("openai_compatible")[-1].json
                self.assertIs(asked["stream_options"]["include_usage"], True)
                self.assertEqual("odd" in asked["stream_options"], "odd" in text)
                self.assertEqual(answer.body.decode(), "".join(said[:-2] + said[-1:]))
                row = self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")[1]["data"]
                self.assertEqual((row["basis"], row["usage"]), ("provider_usage", {"in_text": 3, "out_text": 1}))

    def test_a_dialects_headers_go_to_its_own_providers_only(self):
        for caller in CALLERS:
            for provider in {*HOME.values(), "mistral"}:
                with self.subTest(caller=caller.name, provider=provider):
                    self.mouth.says(provider, 500, "{}")
                    before = len(self.mouth.asked(provider))
                    self.ask(caller, provider, False, BETAS)
                    self.tg.must("POST", f"/orgs/acme/profiles/{provider}/rotate", {"secret": key(provider, "good")})  # cooled
                    self.tg.settled()
                    asked = self.mouth.asked(provider)
                    self.assertEqual(len(asked), before + 1)
                    got = dict(asked[-1].headers)
                    home = {"openai_chat": ("openai", "openai_compatible", "mistral"), "openai_responses": ("openai",)}.get(
                        caller.name, (HOME[caller],))
                    for name, value in BETAS.items():
                        if provider in home:
                            self.assertEqual(got[name], value)
                        elif name == "anthropic-version" and provider == "anthropic":
                            self.assertEqual(got[name], "2023-06-01")
                        else:
                            self.assertNotIn(name, got)
                    for name in ("x-tollgate-agent", "cookie"):
                        self.assertNotIn(name, got)
                    self.assertNotIn(self.org.key, str(asked[-1].headers))
