"""The fake provider keeps its word: every other integration test computes bills from it."""

import unittest

import harness


class FakeProviderTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fake = harness.FakeProvider()
        cls.addClassCleanup(cls.fake.close)

    def setUp(self):
        self.fake.clear()

    def chat(self, content, key="fake-key-1", **more):
        body = {"model": "demo-model", "messages": [{"role": "user", "content": content}], **more}
        return harness.request("127.0.0.1", self.fake.port, "POST", "/v1/chat/completions", body,
                               {"Authorization": f"Bearer {key}"} if key else {})

    def test_tokens_are_words(self):
        answer = self.chat("one two  three\nfour")
        self.assertEqual((answer.status, answer.text), (200, "echo one two three four"))
        self.assertEqual(answer.usage["prompt_tokens"], 4 + 4)
        self.assertEqual(answer.usage["completion_tokens"], 5)

    def test_a_stream_says_and_counts_the_same(self):
        for chunks in (1, 3, 7):
            with self.subTest(chunks=chunks):
                content = f"a b c d [[chunks={chunks} words=7]]"
                plain = self.chat(content)
                stream = self.chat(content, stream=True, stream_options={"include_usage": True})
                self.assertEqual(stream.text, plain.text)
                self.assertEqual(stream.usage, plain.usage)
                self.assertTrue(stream.done)
                self.assertEqual(sum(bool(e["choices"] and e["choices"][0]["delta"].get("content"))
                                     for e in stream.events), chunks)

    def test_no_usage_chunk_unless_asked(self):
        self.assertTrue(all("usage" not in e for e in self.chat("a", stream=True).events))

    def test_limit_and_reasoning(self):
        answer = self.chat("[[words=10 reasoning=3]]", max_tokens=7)
        self.assertEqual(answer.usage["completion_tokens"], 7)
        self.assertEqual(answer.usage["completion_tokens_details"]["reasoning_tokens"], 3)
        self.assertEqual(answer.json["choices"][0]["finish_reason"], "length")

    def test_tool_call(self):
        tool = {"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}}}}
        for stream in (False, True):
            answer = self.chat("use the tool", tools=[tool], stream=stream)
            parts = ([c["delta"] for e in answer.events for c in e["choices"]] if stream
                     else [answer.json["choices"][0]["message"]])
            calls = [t["function"] for p in parts for t in p.get("tool_calls", [])]
            self.assertEqual(calls[0]["name"], "weather")
            self.assertEqual("".join(c["arguments"] for c in calls), '{"city": "Paris"}')

    def test_keys(self):
        for key in (None, "bad", "bad-2"):
            answer = self.chat("a", key=key)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (401, "invalid_api_key"))

    def test_directives_in_message_model_and_rule(self):
        self.assertEqual(self.chat("[[status=503]]").status, 503)
        self.assertEqual(self.chat("a", model="demo-model+status=404").status, 404)
        self.fake.control(key="fake-key-2", times=2, status=429, retry_after=1)
        first = self.chat("a", key="fake-key-2")
        self.assertEqual((first.status, first.headers["Retry-After"]), (429, "1"))
        self.assertEqual(self.chat("a", key="fake-key-1").status, 200)
        self.assertEqual(self.chat("a", key="fake-key-2").status, 429)
        self.assertEqual(self.chat("a", key="fake-key-2").status, 200)

    def test_broken_streams(self):
        cut = self.chat("[[chunks=9 cut_after=3]]", stream=True)
        self.assertTrue(cut.broken)
        self.assertEqual(cut.text, "w1 w2 w3")
        self.assertTrue(self.chat("[[cut_after=20]]").broken)
        failed = self.chat("[[chunks=4 error_midstream]]", stream=True)
        self.assertFalse(failed.broken or failed.done)
        self.assertIn("error", failed.events[-1])
        self.assertFalse(self.chat("[[no_done]]", stream=True).done)
        self.assertEqual([c["finished"] for c in self.fake.calls()], [False, False, True, True])

    def test_a_slow_call_holds_up_nobody(self):
        import threading
        slow = threading.Thread(target=self.chat, args=("[[delay_ms=1500]]",))
        slow.start()
        harness.wait_until(lambda: self.fake.stats()["in_flight"] == 1)
        self.assertEqual(self.chat("quick").status, 200)
        self.assertEqual(self.fake.stats()["in_flight"], 1)
        slow.join()

    def test_log(self):
        self.chat("one [[tag=t1]]", stream=True)
        call, = self.fake.calls()
        self.assertEqual((call["tag"], call["stream"], call["prompt_tokens"], call["finished"]),
                         ("t1", True, 6, True))
        self.assertIn("[[tag=t1]]", self.fake.last()["body"])


if __name__ == "__main__":
    unittest.main()
