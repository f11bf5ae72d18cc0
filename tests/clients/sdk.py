"""The official libraries for Python, unmodified, told nothing but base URL and key. As node.mjs: a JSON object with "jobs" on
standard input, a line of JSON per job on standard output; tests/clients/matrix.py asks and judges."""
import base64
import functools
import json
import sys
import traceback

import anthropic
import openai
from google import genai

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "ships": {"type": "integer"}},
          "required": ["city", "ships"], "additionalProperties": False}
TOOL = {"name": "lookup_port", "description": "Find a port",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}
RESULT = "Tallinn has one."
EMPTY = {"text": "", "reasoning": "", "finish": None, "usage": None, "calls": []}


def drain(stream, job, got, take):
    """As in node.mjs."""
    got["pieces"] = 0
    for event in stream:
        if take(event):
            got["pieces"] += 1
        if job["scenario"] == "cancel" and got["pieces"] >= 2:
            got["cancelled"] = True
            break


# ---- OpenAI: chat completions

# One client for all its calls, as programs have it: to make one is dear. Google's hangs up when nobody holds it.
@functools.cache
def client_openai_at(base, key):
    return openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=60)


def client_openai(job):
    return client_openai_at(job["base"], job["key"])


def chat_body(job, messages):
    body = {"model": job["model"], "messages": messages}
    if job["tools"]:
        body["tools"] = [{"type": "function", "function": TOOL}]
    if "structured" in job["scenario"]:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "port", "strict": True, "schema": SCHEMA}}
    if "reasoning" in job["scenario"]:
        body["reasoning_effort"] = "low"
    return body


def tokens(usage, input_name, output_name):
    return usage and {"input": getattr(usage, input_name), "output": getattr(usage, output_name), "total": getattr(usage, "total_tokens", None)}


def said(message):
    """(text, reasoning) of a message or delta. A provider of this very dialect is heard in its own words: OpenRouter's reasoning is
    called so, Mistral's stands among the parts of the content."""
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
    if not isinstance(message.content, list):
        return message.content or "", reasoning
    thought = [t for part in message.content if part["type"] == "thinking" for t in part["thinking"]]
    return "".join(p["text"] for p in message.content if p["type"] == "text"), "".join(t["text"] for t in thought)


def chat_got(answer):
    message = answer.choices[0].message
    text, reasoning = said(message)
    return {"text": text, "reasoning": reasoning,
            "finish": answer.choices[0].finish_reason, "request": getattr(answer, "_request_id", None),
            "calls": [{"name": c.function.name, "args": json.loads(c.function.arguments), "id": c.id} for c in message.tool_calls or []],
            "usage": tokens(answer.usage, "prompt_tokens", "completion_tokens")}


def chat(job, got):
    client = client_openai(job)
    content = job["text"]
    if job["scenario"] == "image":
        content = [{"type": "text", "text": content}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + job["image"]}}]
    messages = [{"role": "user", "content": content}]
    if job["streams"]:
        got.update(json.loads(json.dumps(EMPTY)))

        def take(chunk):
            if chunk.usage:
                got["usage"] = tokens(chunk.usage, "prompt_tokens", "completion_tokens")
            if not chunk.choices:
                return False
            delta = chunk.choices[0].delta
            text, reasoning = said(delta)
            got["text"] += text
            got["reasoning"] += reasoning
            got["finish"] = chunk.choices[0].finish_reason or got["finish"]
            for c in delta.tool_calls or []:
                while len(got["calls"]) <= c.index:
                    got["calls"].append({"name": "", "json": ""})
                got["calls"][c.index]["name"] += c.function.name or ""
                got["calls"][c.index]["json"] += c.function.arguments or ""
            return bool(delta.content or delta.tool_calls)
        body = {**chat_body(job, messages), "stream_options": {"include_usage": True}}
        if job["tools"]:  # the helper takes strict ones alone
            with client.chat.completions.create(**body, stream=True) as stream:
                drain(stream, job, got, take)
            return
        with client.chat.completions.stream(**body) as stream:
            drain((event.chunk for event in stream if event.type == "chunk"), job, got, take)
            if not got.get("cancelled"):
                got["whole"] = chat_got(stream.get_final_completion())  # put together by the library
        return
    first = client.chat.completions.create(**chat_body(job, messages))
    got.update(chat_got(first))
    if job["tools"] and got["calls"]:
        results = [{"role": "tool", "tool_call_id": c["id"], "content": RESULT} for c in got["calls"]]
        got["second"] = chat_got(client.chat.completions.create(
            **chat_body(job, [*messages, first.choices[0].message.to_dict(), *results])))


# ---- OpenAI: responses

def responses_body(job, asked):
    body = {"model": job["model"], "input": asked, "store": False}
    if job["tools"]:
        body["tools"] = [{"type": "function", **TOOL, "strict": True}]
    if "structured" in job["scenario"]:
        body["text"] = {"format": {"type": "json_schema", "name": "port", "strict": True, "schema": SCHEMA}}
    if "reasoning" in job["scenario"]:
        body["reasoning"] = {"effort": "low", "summary": "auto"}
        body["include"] = ["reasoning.encrypted_content"]
    return body


def responses_got(answer):
    thoughts = [part.text for item in answer.output if item.type == "reasoning" for part in [*(item.summary or []), *(item.content or [])]]
    return {"text": answer.output_text, "reasoning": "".join(thoughts), "finish": answer.status, "request": getattr(answer, "_request_id", None),
            "calls": [{"name": i.name, "args": json.loads(i.arguments), "id": i.call_id} for i in answer.output if i.type == "function_call"],
            "usage": tokens(answer.usage, "input_tokens", "output_tokens")}


class Told(Exception):
    """An error that a stream says instead of breaking off."""

    def __init__(self, kind, error):
        super().__init__(getattr(error, "message", str(error)))
        self.kind, self.code = kind, getattr(error, "code", None)


def responses(job, got):
    client = client_openai(job)
    content = [{"type": "input_text", "text": job["text"]}]
    if job["scenario"] == "image":
        content.append({"type": "input_image", "image_url": "data:image/png;base64," + job["image"], "detail": "auto"})
    asked = [{"role": "user", "content": content}]
    if job["streams"]:
        got.update(json.loads(json.dumps(EMPTY)))

        def take(event):
            if event.type == "error":
                raise Told("error event", event)
            if event.type == "response.failed":
                raise Told("response.failed", event.response.error)
            if event.type == "response.output_text.delta":
                got["text"] += event.delta
            elif event.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
                got["reasoning"] += event.delta
            elif event.type == "response.output_item.done" and event.item.type == "function_call":
                got["calls"].append({"name": event.item.name, "args": json.loads(event.item.arguments)})
            elif event.type in ("response.completed", "response.incomplete"):
                got["finish"] = event.response.status
                got["usage"] = tokens(event.response.usage, "input_tokens", "output_tokens")
            return event.type in ("response.output_text.delta", "response.function_call_arguments.delta")
        with client.responses.stream(**responses_body(job, asked)) as stream:
            drain(stream, job, got, take)
            if not got.get("cancelled"):
                got["whole"] = responses_got(stream.get_final_response())  # put together by the library
        return
    first = client.responses.create(**responses_body(job, asked))
    got.update(responses_got(first))
    if job["tools"] and got["calls"]:
        outputs = [{"type": "function_call_output", "call_id": c["id"], "output": RESULT} for c in got["calls"]]
        got["second"] = responses_got(client.responses.create(
            **responses_body(job, [*asked, *[item.to_dict() for item in first.output], *outputs])))


# ---- Anthropic: messages

@functools.cache
def client_anthropic_at(base, key):
    return anthropic.Anthropic(base_url=base, api_key=key, max_retries=0, timeout=60)


def client_anthropic(job):
    return client_anthropic_at(job["base"], job["key"])


def messages_body(job, messages):
    body = {"model": job["model"], "max_tokens": 4000, "messages": messages}
    if job["tools"]:
        body["tools"] = [{"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["parameters"]}]
    if "structured" in job["scenario"]:
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if "reasoning" in job["scenario"]:
        body["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    return body


def messages_got(answer):
    of = lambda kind: [block for block in answer.content if block.type == kind]
    return {"text": "".join(b.text for b in of("text")), "reasoning": "".join(b.thinking for b in of("thinking")),
            "finish": answer.stop_reason, "request": getattr(answer, "_request_id", None),
            "calls": [{"name": b.name, "args": b.input, "id": b.id} for b in of("tool_use")],
            "usage": tokens(answer.usage, "input_tokens", "output_tokens")}


def messages(job, got):
    client = client_anthropic(job)
    content = [{"type": "text", "text": job["text"]}]
    if job["scenario"] == "image":
        content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": job["image"]}})
    asked = [{"role": "user", "content": content}]
    if job["streams"]:
        got.update(json.loads(json.dumps(EMPTY)))

        def take(event):
            if event.type != "content_block_delta":
                return False
            if event.delta.type == "text_delta":
                got["text"] += event.delta.text
            if event.delta.type == "thinking_delta":
                got["reasoning"] += event.delta.thinking
            return event.delta.type in ("text_delta", "input_json_delta")
        with client.messages.stream(**messages_body(job, asked)) as stream:
            drain(stream, job, got, take)
            if not got.get("cancelled"):
                got.update(messages_got(stream.get_final_message()))  # put together by the library
        return
    first = client.messages.create(**messages_body(job, asked))
    got.update(messages_got(first))
    if job["tools"] and got["calls"]:
        results = [{"type": "tool_result", "tool_use_id": c["id"], "content": RESULT} for c in got["calls"]]
        got["second"] = messages_got(client.messages.create(**messages_body(job, [
            *asked, {"role": "assistant", "content": [b.to_dict() for b in first.content]}, {"role": "user", "content": results}])))


# ---- Google: generateContent

@functools.cache
def client_genai_at(base, key):
    return genai.Client(api_key=key, http_options=genai.types.HttpOptions(base_url=base, timeout=60000))


def client_genai(job):
    return client_genai_at(job["base"], job["key"])


def generate_config(job):
    config = {"automatic_function_calling": {"disable": True}}
    if job["tools"]:
        config["tools"] = [{"function_declarations": [
            {"name": TOOL["name"], "description": TOOL["description"], "parameters_json_schema": TOOL["parameters"]}]}]
    if "structured" in job["scenario"]:
        config.update(response_mime_type="application/json", response_json_schema=SCHEMA)
    if "reasoning" in job["scenario"]:
        config["thinking_config"] = {"include_thoughts": True, "thinking_budget": 1024}
    return config


def generate_got(answer):
    content = answer.candidates[0].content if answer.candidates else None
    parts = content.parts or [] if content else []
    usage = answer.usage_metadata
    finish = answer.candidates[0].finish_reason if answer.candidates else None
    return {"text": "".join(p.text for p in parts if p.text and not p.thought),
            "reasoning": "".join(p.text for p in parts if p.text and p.thought), "finish": finish and finish.value,
            "calls": [{"name": c.name, "args": c.args, "id": c.id} for c in answer.function_calls or []],
            "usage": usage and {"input": usage.prompt_token_count,
                                "output": (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)}}


def generate(job, got):
    client = client_genai(job)
    parts = [genai.types.Part.from_text(text=job["text"])]
    if job["scenario"] == "image":
        parts.append(genai.types.Part.from_bytes(data=base64.b64decode(job["image"]), mime_type="image/png"))
    contents = [genai.types.Content(role="user", parts=parts)]
    asked = {"model": job["model"], "config": generate_config(job)}
    if job["streams"]:
        got.update(json.loads(json.dumps(EMPTY)))

        def take(chunk):
            one = generate_got(chunk)
            for name in ("text", "reasoning", "calls"):
                got[name] += one[name]
            got["finish"], got["usage"] = one["finish"] or got["finish"], one["usage"] or got["usage"]
            return bool(one["text"] or one["calls"])
        stream = client.models.generate_content_stream(contents=contents, **asked)
        drain(stream, job, got, take)
        stream.close()
        return
    first = client.models.generate_content(contents=contents, **asked)
    got.update(generate_got(first))
    if job["tools"] and got["calls"]:
        results = [genai.types.Part(function_response=genai.types.FunctionResponse(
            name=c["name"], id=c["id"], response={"output": RESULT})) for c in got["calls"]]
        got["second"] = generate_got(client.models.generate_content(
            contents=[*contents, first.candidates[0].content, genai.types.Content(role="user", parts=results)], **asked))


# ---- what is asked beside conversations

def vectors_got(vectors, usage=None):
    return {"count": len(vectors), "length": len(vectors[0]) if vectors else 0, "usage": usage}


def openai_embeddings(job):
    answer = client_openai(job).embeddings.create(model=job["model"], input=["one ship", "two ships"])
    return vectors_got([d.embedding for d in answer.data], {"input": answer.usage.prompt_tokens})


def openai_models(job):
    client = client_openai(job)
    return {"ids": [m.id for m in client.models.list()], "one": client.models.retrieve(job["model"]).id}


def openai_speech(job):
    answer = client_openai(job).audio.speech.create(model=job["model"], voice=job["voice"], input=job["text"], response_format="mp3")
    return {"bytes": len(answer.content), "type": answer.response.headers.get("content-type")}


def openai_transcription(job):
    file = ("said.wav", base64.b64decode(job["audio"]), "audio/wav")
    return {"text": client_openai(job).audio.transcriptions.create(model=job["model"], file=file).text}


def anthropic_count(job):
    body = {"model": job["model"], "messages": [{"role": "user", "content": job["text"]}]}
    return {"input": client_anthropic(job).messages.count_tokens(**body).input_tokens}


def anthropic_models(job):
    client = client_anthropic(job)
    return {"ids": [m.id for m in client.models.list(limit=1000)], "one": client.models.retrieve(job["model"]).id}


def gemini_count(job):
    return {"input": client_genai(job).models.count_tokens(model=job["model"], contents=job["text"]).total_tokens}


def gemini_embeddings(job):
    return vectors_got([e.values for e in client_genai(job).models.embed_content(model=job["model"], contents=["one ship"]).embeddings])


def gemini_models(job):
    return {"ids": [m.name for m in client_genai(job).models.list()]}


MORE = {f.__name__: f for f in (openai_embeddings, openai_models, openai_speech, openai_transcription, anthropic_count, anthropic_models,
                                gemini_count, gemini_embeddings, gemini_models)}
SURFACES = {"openai_chat": chat, "openai_responses": responses, "anthropic_messages": messages, "gemini": generate}


def error_of(e):
    body = getattr(e, "body", None)
    kind = body.get("error", {}).get("type") if isinstance(body, dict) and isinstance(body.get("error"), dict) else None
    status = getattr(e, "status_code", None) or (getattr(e, "code", None) if isinstance(getattr(e, "code", None), int) else None)
    code = getattr(e, "code", None)
    return {"name": getattr(e, "kind", type(e).__name__), "class": type(e).__name__, "status": status,
            "code": code if isinstance(code, str) else getattr(e, "status", None) or kind, "type": getattr(e, "type", None),
            "message": (str(e) or type(e).__name__)[:600], "request": getattr(e, "request_id", None),
            "where": traceback.format_exc()[-600:]}


for job in json.load(sys.stdin)["jobs"]:
    got = {}
    try:
        if job["surface"] in MORE:
            got.update(MORE[job["surface"]](job))
        else:
            SURFACES[job["surface"]](job, got)
        for call in got.get("calls", []):
            if "json" in call:
                call["args"] = json.loads(call["json"] or "{}")
    except Exception as e:  # what the library makes of it is the result
        got["error"] = error_of(e)
    print(json.dumps({"id": job["id"], **got}, default=str), flush=True)
