"""The official libraries, unmodified, against the real binary and the fake provider: every cell of matrix.py.

TG_CELLS, a regular expression, asks the matching cells alone: TG_CELLS='python/gemini/mistral/' ."""
import base64
import concurrent.futures
import os
import re
import unittest

import matrix
import harness
from matrix import LANGUAGES, PROVIDERS, need

WANTED = re.compile(os.environ.get("TG_CELLS", ""))
VOICE = {"openai": ("tts-1", "alloy"), "openai_compatible": ("tts-1", "alloy"), "elevenlabs": ("eleven_flash_v2_5", "21m00Tcm4TlvDq8ikWAM")}
HEARING = {"openai": "gpt-4o-mini-transcribe", "openai_compatible": "whisper-1"}
VECTORS = {"openai": "text-embedding-3-small", "mistral": "mistral-embed", "openai_compatible": "house-embedding", "gemini": "gemini-embedding-001"}


class Control(unittest.TestCase):
    """Each library with a provider of its own dialect and nothing between: what fails here is no fault of the service."""
    OWN = {"openai_chat": "openai", "openai_responses": "openai", "anthropic_messages": "anthropic", "gemini": "gemini"}

    def test_the_libraries_and_the_fake_provider_understand_each_other(self):
        build = matrix.install()
        with harness.FakeProvider() as fake:
            for language in LANGUAGES:
                cells = [c for surface, provider in self.OWN.items() for c in matrix.cells([language], [surface], [provider])
                         if c.scenario != "error_down"]  # which the gateway makes another status of
                base = lambda c: f"http://127.0.0.1:{fake.port}/{c.provider}"
                got = matrix.ask(language, [c.job(base(c), PROVIDERS[c.provider][1], c.model) for c in cells], build)
                for cell in cells:
                    with self.subTest(cell=cell.id):
                        cell.judge(got[cell.id])


class Matrix(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.build = matrix.install()
        cls.org = cls.tg.setup_org("clients", credits=None, platform=False)
        cls.cells = [c for c in matrix.cells() if WANTED.search(c.id)]
        models = {}
        for c in cls.cells:
            models.setdefault(c.provider, set()).add(c.model)
        for kind in (VECTORS, HEARING, {p: m for p, (m, _) in VOICE.items()}):
            for provider, model in kind.items():
                models.setdefault(provider, set()).add(model)
        for provider, names in models.items():
            path, secret, _ = PROVIDERS.get(provider) or ("/elevenlabs", "sk_fakeclientkey", None)
            for name in names:
                cls.tg.must("PUT", f"/models/{provider}/{name}", {"capabilities": matrix.CAPABILITIES, "context_window": 128000,
                                                                  "max_output": 16384})
            cls.tg.setup_profile(cls.org, provider, provider=provider, base_url=f"http://127.0.0.1:{cls.fake.port}{path}",
                                 secret=secret, models=sorted(names))
        cls.tg.settled()

    @property
    def base(self):
        return f"http://{self.tg.data_host}:{self.tg.data_port}"

    def test_every_cell(self):
        verdicts, got = {}, {}
        with concurrent.futures.ThreadPoolExecutor(len(LANGUAGES)) as pool:
            jobs = {la: [c.job(self.base, self.org.key, f"{c.provider}/{c.model}") for c in self.cells if c.language == la] for la in LANGUAGES}
            for answers in pool.map(lambda la: matrix.ask(la, jobs[la], self.build) if jobs[la] else {}, LANGUAGES):
                got.update(answers)
        for cell in self.cells:
            try:
                verdicts[cell] = cell.judge(got[cell.id])
            except AssertionError as e:
                verdicts[cell] = f"FAIL: {e}"
        picture = matrix.picture(verdicts)
        with open(os.path.join(self.build, "matrix.txt"), "w") as f:
            f.write(picture)
        print(picture)
        faults = [f"{c.id}: {word}" for c, word in verdicts.items() if word.startswith("FAIL")]
        passed = sum(word == "ok" for word in verdicts.values())
        refused = sum(word.startswith("refused") for word in verdicts.values())
        print(f"{passed} cells pass, {refused} are refused as the contracts say, {len(faults)} fail")
        self.assertEqual(len(faults), 0)

    def test_who_leaves_is_let_go_of(self):
        """After all those that were cancelled: nothing runs on at a provider, no call is open."""
        harness.wait_until(lambda: self.fake.stats()["in_flight"] == 0, 30, "the providers to be let go")
        harness.wait_until(lambda: self.tg.metric("tollgate_inflight_requests") == 0, 30, "every call to end")

    # --- beside conversations ---

    def more(self, surface, check, models, **more):
        """One job per language and (provider, model): check(got) raises what is wrong."""
        for language in LANGUAGES:
            jobs = [{"id": f"{language}/{surface}/{provider}", "surface": surface, "scenario": surface, "streams": False, "tools": False,
                     "base": self.base, "key": self.org.key, "model": f"{provider}/{model}", "text": "One ship and two.",
                     **{k: v[provider] for k, v in more.items()}} for provider, model in models.items()]
            got = matrix.ask(language, jobs, self.build)
            for job in jobs:
                with self.subTest(job=job["id"]):
                    matrix.no_error(got[job["id"]])
                    check(got[job["id"]])

    def test_embeddings(self):
        def two(got):
            need(got["count"] == 2 and got["length"] > 0, f"{got}")
            need(got["usage"]["input"] > 0, f"usage {got}")

        def one(got):
            need(got["count"] == 1 and got["length"] > 0, f"{got}")
        self.more("openai_embeddings", two, VECTORS)
        self.more("gemini_embeddings", one, {"gemini": VECTORS["gemini"]})

    def test_counting(self):
        def some(got):
            need(got["input"] > 0, f"{got}")
        self.more("anthropic_count", some, {"anthropic": PROVIDERS["anthropic"][2]})
        self.more("gemini_count", some, {"gemini": PROVIDERS["gemini"][2]})

    def test_models(self):
        def listed(prefix=""):
            def check(got):
                for provider in PROVIDERS:
                    need(any(PROVIDERS[provider][2] in i for i in got["ids"]), f"{provider} is not in {got['ids'][:20]}")
                need(all(i.startswith(prefix) for i in got["ids"]), f"{got['ids'][:5]}")
            return check
        one = {"openai": PROVIDERS["openai"][2]}
        self.more("openai_models", listed(), one)
        self.more("anthropic_models", listed(), {"anthropic": PROVIDERS["anthropic"][2]})
        self.more("gemini_models", listed("models/"), {"gemini": PROVIDERS["gemini"][2]})

    def test_speech(self):
        def sound(got):
            need(got["bytes"] > 0 and got["type"].startswith("audio/"), f"{got}")
        self.more("openai_speech", sound, {p: m for p, (m, _) in VOICE.items()}, voice={p: v for p, (_, v) in VOICE.items()})

    def test_transcription(self):
        audio = base64.b64encode(matrix.wav()).decode()
        self.more("openai_transcription", lambda got: need(got["text"], f"{got}"), HEARING, audio=dict.fromkeys(HEARING, audio))


if __name__ == "__main__":
    unittest.main()
