"""Embeddings through the real binary: whose shape the answer has, what it cost, what the provider got."""
import base64
import json
import struct
from decimal import Decimal

import harness

PRICE = Decimal("0.00000015")
VECTORS = "text-embedding-fake"


class Embeddings(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        line = [{"class": "embed_tokens", "price": "0.15", "per": 1000000}]
        cls.tg.must("POST", "/orgs/platform/profiles", {
            "name": "vectors", "provider": "gemini", "base_url": f"http://127.0.0.1:{cls.fake.port}/gemini/v1beta", "secret": "AIzafake-vectors",
            "billing_source": "platform", "models": ["gem-*"], "priority": 10, "default": False, "validate": False})
        for provider, model in (("openai_compatible", VECTORS), ("openai_compatible", "vec-small"), ("gemini", "gem-embedding")):
            cls.tg.must("PUT", f"/models/{provider}/{model}", {"capabilities": ["text"], "context_window": 8, "max_output": None})
            cls.tg.must("PUT", f"/prices/{provider}/{model}", {"book": "sell", "effective_from": None, "lines": line})
        cls.tg.setup_profile(cls.org, "mistral", secret="m" * 32, provider="mistral", models=["mis-embed"],
                             base_url=f"http://127.0.0.1:{cls.fake.port}/mistral/v1")
        for model in (VECTORS, "vec-small", "gem-embedding", "mis-embed"):
            harness.wait_until(lambda: cls.tg.post("/v1/embeddings", {"model": model, "input": "a"}, cls.org.key).status == 200, 10, model)

    def ask(self, **body):
        return self.tg.post("/v1/embeddings", body, self.org.key)

    def row(self, answer):
        status, envelope = self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        self.assertEqual(status, 200, envelope)
        return envelope["data"]

    def test_the_same_dialect_passes_through_and_is_charged_by_its_tokens(self):
        before = self.org.balance()
        # eight texts of a window of eight: the bound is the body's, not the window's
        answer = self.ask(model=VECTORS, input=["one two three"] * 8, dimensions=4, user="u")
        self.assertStatus(answer, 200)
        self.assertEqual(len(answer.json["data"]), 8)
        tokens = answer.json["usage"]["prompt_tokens"]
        self.assertGreaterEqual(tokens, 24)
        self.assertEqual(before - self.org.balance(), tokens * PRICE)
        self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), tokens * PRICE)
        row = self.row(answer)
        self.assertEqual((row["basis"], [(line["class"], line["units"]) for line in row["lines"]]), ("provider_usage", [("embed_tokens", tokens)]))
        self.assertEqual(json.loads(self.fake.last()["body"]), {"model": VECTORS, "input": ["one two three"] * 8, "dimensions": 4, "user": "u"})

    def test_base64_and_token_arrays_pass_through(self):
        plain = self.ask(model=VECTORS, input=[1, 2, 3]).json["data"][0]["embedding"]
        coded = self.ask(model=VECTORS, input=[1, 2, 3], encoding_format="base64").json["data"][0]["embedding"]
        self.assertEqual(list(struct.unpack(f"<{len(plain)}f", base64.b64decode(coded))), plain)

    def test_openai_in_gemini_out(self):
        before = self.org.balance()
        answer = self.ask(model="gem-embedding", input=["abcdefgh", "ijkl"], dimensions=4, user="u")
        self.assertStatus(answer, 200)
        self.assertEqual(answer.json["object"], "list")
        self.assertEqual([d["index"] for d in answer.json["data"]], [0, 1])
        self.assertEqual(answer.headers["x-tollgate-dropped"], "user")
        last = self.fake.last()
        self.assertIn("gem-embedding:batchEmbedContents", last["head"])
        self.assertEqual([r["content"]["parts"][0]["text"] for r in json.loads(last["body"])["requests"]], ["abcdefgh", "ijkl"])
        row = self.row(answer)
        self.assertIn("estimated", json.dumps(row["flags"]) if "flags" in row else json.dumps(row))
        units = row["lines"][0]["units"]
        self.assertEqual(before - self.org.balance(), units * PRICE)
        self.assertEqual(answer.json["usage"], {"prompt_tokens": units, "total_tokens": units})
        coded = self.ask(model="gem-embedding", input=["abcdefgh"], dimensions=4, encoding_format="base64")
        values = list(struct.unpack("<4f", base64.b64decode(coded.json["data"][0]["embedding"])))
        self.assertEqual(values, [struct.unpack("<f", struct.pack("<f", v))[0] for v in answer.json["data"][0]["embedding"]])

    def test_tokens_of_another_vocabulary_are_refused_by_name(self):
        before = self.org.balance()
        answer = self.ask(model="gem-embedding", input=[[1, 2], [3]])
        self.assertStatus(answer, 400)
        self.assertEqual(answer.json["error"]["param"], "input")
        self.assertEqual((self.org.balance(), self.fake.calls()), (before, []))

    def test_mistral_gets_its_own_name_for_the_size(self):
        answer = self.ask(model="mis-embed", input="a b", dimensions=4, user="u")
        self.assertStatus(answer, 200)
        self.assertEqual(len(answer.json["data"][0]["embedding"]), 4)
        self.assertEqual(json.loads(self.fake.last()["body"]), {"model": "mis-embed", "input": "a b", "output_dimension": 4})
        self.assertEqual(answer.headers["x-tollgate-dropped"], "user")
        self.assertEqual(answer.headers["x-tollgate-billing-source"], "byok")

    def test_bad_input_is_refused_and_costs_nothing(self):
        before = self.org.balance()
        for body, field in (({"model": VECTORS}, "input"), ({"model": VECTORS, "input": []}, "input"), ({"model": VECTORS, "input": ["a", 1]}, "input"),
                            ({"model": VECTORS, "input": "a", "dimensions": -1}, "dimensions"), ({"input": "a"}, "model"),
                            ({"model": VECTORS, "input": "a", "encoding_format": "x"}, "encoding_format")):
            answer = self.ask(**body)
            self.assertStatus(answer, 400)
            self.assertEqual(answer.json["error"]["param"], field, answer.json)
        self.assertEqual((self.org.balance(), self.fake.calls()), (before, []))

    def test_a_provider_that_states_nothing_is_estimated(self):
        answer = self.ask(model=VECTORS, input="one two [[no_usage]]")
        self.assertStatus(answer, 200)
        row = self.row(answer)
        self.assertEqual(row["basis"], "est_missing")
        self.assertEqual([(line["class"], line["units"]) for line in row["lines"]], [("embed_tokens", 5)])  # twenty bytes

    def test_a_failure_costs_nothing(self):
        before = self.org.balance()
        self.fake.control(model="vec-small", times=-1, status=400)
        self.assertStatus(self.ask(model="vec-small", input="a"), 400)
        harness.wait_until(lambda: self.org.balance() == before, 10, "the hold to come back")


if __name__ == "__main__":
    import unittest
    unittest.main()
