"""Every official client library, every provider, every kind of call: what is asked, what has to come, and what may be refused.

A cell is (language, surface, provider, scenario). The client programs (node.mjs, sdk.py) know nothing of this table: they get a
base URL, a key, a model and a text, and say what their library made of the answer. The texts carry the fake provider's
directives (loadtest/README.md), so what has to come is known to the word.
"""
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import harness  # noqa: E402

LANGUAGES = ("node", "python")
SURFACES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")
# where each provider's API begins on the fake provider, a key that looks like one of its own, and the model that is asked
PROVIDERS = {
    "openai": ("/openai/v1", "sk-fakeclientkey", "gpt-5-mini"),
    "anthropic": ("/anthropic", "sk-ant-fakeclientkey", "claude-sonnet-4-5"),
    "gemini": ("/gemini/v1beta", "AIzafakeclientkey", "gemini-2.5-flash"),
    "openrouter": ("/openrouter/api/v1", "sk-or-fakeclientkey", "anthropic/claude-sonnet-4.6"),
    "grok": ("/grok/v1", "xai-fakeclientkey", "grok-4.3"),
    "mistral": ("/mistral/v1", "fakeclientkey0000000000000000000", "magistral-medium-latest"),
    "kimi": ("/kimi/v1", "sk-fakeclientkey", "kimi-k2.5"),
    "openai_compatible": ("/openai_compatible/v1", "fakeclientkey", "house-model"),
}
CAPABILITIES = ["text", "vision", "audio_in", "audio_out", "tools", "json"]


def png():
    """One red pixel."""
    chunk = lambda kind, data: (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big"))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]))
            + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b""))


def wav():
    """A tenth of a second of silence."""
    data = b"\0\0" * 800
    return (b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little") + (1).to_bytes(2, "little")
            + (1).to_bytes(2, "little") + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + (2).to_bytes(2, "little")
            + (16).to_bytes(2, "little") + b"data" + len(data).to_bytes(4, "little") + data)


# ---- what has to come ----------------------------------------------------------------------------------

ENDED = {"openai_chat": "stop", "openai_responses": "completed", "anthropic_messages": "end_turn", "gemini": "STOP"}
CALLED = {"openai_chat": "tool_calls", "openai_responses": "completed", "anthropic_messages": "tool_use", "gemini": "STOP"}


def need(condition, words):
    if not condition:
        raise AssertionError(words)


def no_error(got):
    error = got.get("error")
    need(not error, error and f"{error['status']} {error['name']}: {error['message']}")


def usage_is_there(got):
    need(got["usage"], "no usage")
    need(got["usage"]["input"] > 0 and got["usage"]["output"] > 0, f"usage {got['usage']}")


def same_as_put_together(cell, got):
    """What the library itself makes of a stream's events is what they said one by one."""
    whole = got.get("whole")
    if (cell.surface, cell.provider, cell.scenario) == ("openai_chat", "mistral", "stream_reasoning"):
        return  # Mistral's content is parts there, passed on as they are; OpenAI's helper takes them for text
    for name in ("text", "finish", "usage") if whole else ():
        need(whole[name] == got[name], f"put together, {name} is {whole[name]!r}")
    calls = lambda of: [(c["name"], c["args"]) for c in of["calls"]]
    need(not whole or calls(whole) == calls(got), f"put together, the calls are {whole and whole['calls']}")


def says(text):
    def check(cell, got):
        no_error(got)
        need(got["text"] == text, f"text {got['text']!r}")
        need(got["finish"] == ENDED[cell.surface], f"finish {got['finish']!r}")
        usage_is_there(got)
        need(not cell.streams or got["pieces"] > 1, "the stream came in one piece")
    return check


def calls(count):
    def check(cell, got):
        no_error(got)
        need(len(got["calls"]) == count, f"{len(got['calls'])} tool calls")
        for call in got["calls"]:
            need(call["name"] == "lookup_port" and call["args"] == {"city": "Paris"}, f"tool call {call}")
        need(got["finish"] == CALLED[cell.surface], f"finish {got['finish']!r}")
        usage_is_there(got)
        if not cell.streams:
            second = got.get("second")
            need(second, "no second turn")
            need("Tallinn has one." in second["text"], f"second turn says {second['text']!r}")
            need(second["finish"] == ENDED[cell.surface] and not second["calls"], f"second turn ends {second['finish']!r}")
    return check


def fits_the_schema(cell, got):
    no_error(got)
    try:
        value = json.loads(got["text"])
    except ValueError:
        raise AssertionError(f"not JSON: {got['text']!r}")
    need(set(value) == {"city", "ships"} and isinstance(value["ships"], int), f"{value} does not fit")
    need(got["finish"] == ENDED[cell.surface], f"finish {got['finish']!r}")


def saw_the_image(cell, got):
    no_error(got)
    need(re.search(rf"\[image 1 {len(png())} bytes image/png\]", got["text"]), f"text {got['text']!r}")


def thinks(cell, got):
    no_error(got)
    # openai.md: chat completions count reasoning and do not show it
    need(got["reasoning"] or (cell.provider == "openai" and cell.surface != "openai_responses"), "no reasoning")
    need(got["text"] == "echo Think.", f"text {got['text']!r}")
    usage = got["usage"]
    # openai-compatible.md: xAI's completion_tokens are without it, its total is not; a provider of the caller's dialect is passed on
    told = usage["total"] - usage["input"] if (cell.provider, cell.surface) == ("grok", "openai_chat") else usage["output"]
    need(told >= 2 + 7, f"reasoning is not in the usage {got['usage']}")


# the class that the library itself raises
CLASSES = {
    400: {"openai_chat": "BadRequestError", "openai_responses": "BadRequestError", "anthropic_messages": "BadRequestError"},
    502: {"openai_chat": "InternalServerError", "openai_responses": "InternalServerError", "anthropic_messages": "InternalServerError"},
}


def fails(status):
    def check(cell, got):
        error = got.get("error")
        need(error, f"no error but {str(got)[:200]}")
        need(error["status"] == status, f"status {error['status']}: {error['message']}")
        name = CLASSES[status].get(cell.surface) or {"node": "ApiError", "python": "ClientError" if status < 500 else "ServerError"}[cell.language]
        need(error["class"] == name, f"a {error['class']}, not a {name}")
    return check


def breaks(cell, got):
    error = got.get("error")
    need(error, f"no error but {str(got)[:200]}")
    need(error["status"] in (None, 200, 500, 502, 503, 529), f"status {error['status']}")
    need(got.get("pieces", 0) >= 1 and got["text"].startswith("w1"), f"nothing came before it: {error['status']}: {error['message']}")
    need(error["class"] not in ("SyntaxError", "JSONDecodeError", "TypeError", "AttributeError", "UnknownApiResponseError", "ValidationError"),
         f"the library does not understand the error: {error['class']}: {error['message']}")


def leaves(cell, got):
    no_error(got)
    need(got.get("cancelled"), f"it ended by itself: {str(got)[:200]}")


# name: text, streams, tools, what has to come
SCENARIOS = {
    "plain": ("Name a harbour.", False, False, says("echo Name a harbour.")),
    "stream": ("Count the ships. [[words=6 chunks=3]]", True, False, says("w1 w2 w3 w4 w5 w6")),
    "tools": ("Use the tool to find a port.", False, True, calls(1)),
    "stream_tools": ("Use the tool to find a port.", True, True, calls(1)),
    "parallel_tools": ("Use the tool twice. [[tools=2]]", False, True, calls(2)),
    "stream_parallel_tools": ("Use the tool twice. [[tools=2]]", True, True, calls(2)),
    "structured": ("How many ships are there?", False, False, fits_the_schema),
    "stream_structured": ("How many ships are there?", True, False, fits_the_schema),
    "image": ("Look at this.", False, False, saw_the_image),
    "reasoning": ("Think. [[reasoning=7]]", False, False, thinks),
    "stream_reasoning": ("Think. [[reasoning=7]]", True, False, thinks),
    "error_caller": ("Be refused. [[status=400]]", False, False, fails(400)),
    "error_down": ("Be down. [[status=503]]", False, False, fails(502)),
    "stream_error_caller": ("Be refused. [[status=400]]", True, False, fails(400)),
    "error_midstream": ("Break. [[words=8 chunks=4 error_after=2 error_midstream]]", True, False, breaks),
    "cancel": ("Go on. [[words=400 chunks=400 chunk_ms=50]]", True, False, leaves),
}
OWN_MODEL = ("error_down", "error_midstream")  # these cool the target down: one of its own for each cell

# What a contract lets be refused: (surface or None, provider or None, scenario or None): (status, words in the message, which section
# says so). A refusal that is not named here is a fault, and so is a call that is named here and passes. None is: all of these can be said
# to every provider.
REFUSED = {}


class Cell:
    def __init__(self, language, surface, provider, scenario):
        self.language, self.surface, self.provider, self.scenario = language, surface, provider, scenario
        self.text, self.streams, self.tools, self.check = SCENARIOS[scenario]

    @property
    def id(self):
        return f"{self.language}/{self.surface}/{self.provider}/{self.scenario}"

    @property
    def model(self):
        name = PROVIDERS[self.provider][2]
        return name if self.scenario not in OWN_MODEL else f"{name}-{self.language}-{self.surface}-{self.scenario}".replace("_", "-")

    def job(self, base, key, model):
        return {"id": self.id, "surface": self.surface, "scenario": self.scenario, "text": self.text, "streams": self.streams,
                "tools": self.tools, "base": base, "key": key, "model": model, "image": base64.b64encode(png()).decode()}

    def refusal(self):
        for (surface, provider, scenario), why in REFUSED.items():
            if surface in (None, self.surface) and provider in (None, self.provider) and scenario in (None, self.scenario):
                return why
        return None

    def judge(self, got):
        """"ok", or "refused: ..." where a contract says so; AssertionError for anything else."""
        refusal = self.refusal()
        if refusal is None:
            self.check(self, got)
            same_as_put_together(self, got)
            return "ok"
        status, words, section = refusal
        error = got.get("error")
        need(error, f"it was to be refused ({section}) and passes")
        need(error["status"] == status and words in error["message"], f"refused otherwise: {error['status']} {error['message']}")
        return f"refused: {status} {words} ({section})"


def cells(languages=LANGUAGES, surfaces=SURFACES, providers=tuple(PROVIDERS), scenarios=tuple(SCENARIOS)):
    return [Cell(*which) for which in ((la, su, pr, sc) for la in languages for su in surfaces for pr in providers for sc in scenarios)]


# ---- the libraries -----------------------------------------------------------------------------------------

def is_current(build, names):
    """Are the files that say what to install those that were installed? Copies them if not."""
    same = True
    for name in names:
        with open(os.path.join(HERE, name), "rb") as f:
            want = f.read()
        path = os.path.join(build, name)
        have = None
        if os.path.exists(path):
            with open(path, "rb") as f:
                have = f.read()
        if have != want:
            same = False
            shutil.copy(os.path.join(HERE, name), path)
    return same


def install():
    """The lock files' exact versions into build/clients, each from the index that this machine is set up with."""
    build = os.path.join(ROOT, "build", "clients")
    os.makedirs(build, exist_ok=True)
    if not is_current(build, ("package.json", "package-lock.json")) or not os.path.isdir(os.path.join(build, "node_modules", "openai")):
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                       cwd=build, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    shutil.copy(os.path.join(HERE, "node.mjs"), build)
    target = os.path.join(build, "python")
    version = os.path.join(target, f"python-{sys.version_info[0]}.{sys.version_info[1]}")  # wheels are made for one
    if not is_current(build, ("requirements.txt",)) or not os.path.exists(version):
        if sys.version_info < (3, 11):
            raise RuntimeError("the libraries for Python need Python 3.11 or later")
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                        "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", target, "-r", "requirements.txt"],
                       cwd=build, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                       env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"})
        open(version, "w").close()
    return build


def ask(language, jobs, build, timeout=1200):
    """{id: what the library made of it}; no settings of this machine reach the library."""
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")}
    command = ["node", "node.mjs"]
    if language == "python":
        clean["PYTHONPATH"] = os.path.join(build, "python")
        command = [sys.executable, "-B", os.path.join(HERE, "sdk.py")]
    done = subprocess.run(command, input=json.dumps({"jobs": jobs}), cwd=build, env=clean, capture_output=True, text=True,
                          timeout=timeout * harness.SLOW)
    got = {line["id"]: line for line in map(json.loads, filter(None, done.stdout.splitlines()))}
    if done.returncode != 0 or len(got) != len(jobs):
        raise AssertionError(f"the client for {language} ended with {done.returncode} after {len(got)} of {len(jobs)}: {done.stderr[-3000:]}")
    return got


# ---- the picture -------------------------------------------------------------------------------------------

def picture(verdicts):
    """{cell: word}: a table per surface, with the refusals and faults in full behind them."""
    lines, notes = [], []
    for language in LANGUAGES:
        for surface in SURFACES:
            of = {(c.provider, c.scenario): w for c, w in verdicts.items() if (c.language, c.surface) == (language, surface)}
            if not of:
                continue
            providers = [p for p in PROVIDERS if any(k[0] == p for k in of)]
            lines += ["", f"{language} {surface}", " " * 22 + " ".join(f"{p[:10]:>10}" for p in providers)]
            for scenario in [s for s in SCENARIOS if any(k[1] == s for k in of)]:
                words = [of.get((p, scenario), "") for p in providers]
                lines.append(f"{scenario:22}" + " ".join(f"{w.split(':')[0]:>10}" for w in words))
    for cell, word in verdicts.items():
        if word != "ok":
            notes.append(f"{cell.id}: {word}")
    return "\n".join(lines + [""] + notes)
