"""A body of 5 MB with an inline image: sent on byte for byte, and without being kept twice."""
import base64
import json
import os
import unittest

import harness

IMAGE = base64.b64encode(os.urandom(3_700_000)).decode()
# spaces, a number's literal and escapes that no writer of ours would choose
HEAD = '{ "model" : "%s",\n "temperature":0.70, "messages":[{"role":"user","content":[{"type":"text","text":"caf\\u00e9 \\/"},'
REST = '{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}]}] , "x_unknown" : 1E2 %s}'


def body(model, more="", image=IMAGE):
    return (HEAD % model + REST % (image, more)).encode()


class LargeBodies(harness.Case):
    ENV = {"TOLLGATE_WORKERS": "1"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        for name in ("first", "second"):
            cls.tg.setup_profile(cls.org, name, secret=f"fake-{name}-key", models=["picture-*"])
        cls.tg.must("PUT", "/orgs/acme/routes/pictures", {"match": {"alias": "pictures"}, "targets": [
            {"profile": "first", "model": "picture-1"}, {"profile": "second", "model": "picture-2"}]})
        cls.tg.must("PUT", "/orgs/acme/routes/same", {"match": {"alias": "picture-1"}, "targets": [
            {"profile": "first", "model": "picture-1"}]})
        cls.tg.wait_for_model(cls.org, "pictures")

    def sent(self):
        return self.fake.last()["body"].encode()

    def test_bytes_pass_as_they_came(self):
        asked = body("picture-1", ', "max_tokens":5')
        self.assertStatus(self.tg.post("/v1/chat/completions", asked, self.org.key), 200)
        self.assertTrue(self.sent() == asked)

    def test_only_what_must_change_is_changed(self):
        self.assertStatus(self.tg.post("/v1/chat/completions", body("pictures", ', "stream":true, "max_tokens":5'),
                                       self.org.key), 200)
        self.assertTrue(self.sent() == body(
            "picture-1", ', "stream":true, "max_tokens":5,"stream_options":{"include_usage":true}'))

    def test_the_next_target_gets_all_of_it_too(self):
        self.fake.control(key="fake-first-key", times=1, status=500)
        answer = self.tg.post("/v1/chat/completions", body("pictures", ', "max_tokens":5'), self.org.key)
        self.assertStatus(answer, 200)
        self.assertTrue(self.sent() == body("picture-2", ', "max_tokens":5'))
        self.tg.sql("DELETE FROM tollgate.cooldown")
        self.tg.restart()

    def test_after_a_provider_that_refuses_or_hangs_up(self):
        for rule in ({"status": 401}, {"cut_after": 0}):
            self.fake.control(key="fake-first-key", times=1, **rule)
            answer = self.tg.post("/v1/chat/completions", body("pictures", ', "max_tokens":5'), self.org.key)
            self.assertStatus(answer, 200)
            self.assertTrue(self.sent() == body("picture-2", ', "max_tokens":5'))
            self.tg.sql("DELETE FROM tollgate.cooldown")
            self.tg.restart()

    def test_what_is_no_json_is_refused_with_its_place(self):
        cases = ((body("picture-1") + b"x", "byte %d" % len(body("picture-1"))), (body("picture-1", ", nul"), "invalid JSON"),
                 (body("picture-1", "", IMAGE + "\n"), "invalid JSON"), (body("picture-1", ', "x_unknown":2'), "stands twice"))
        for asked, words in cases:
            answer = self.tg.post("/v1/chat/completions", asked, self.org.key)
            self.assertStatus(answer, 400)
            self.assertIn(words, answer.json["error"]["message"])
        self.assertEqual(self.fake.calls(), [])

    @unittest.skipIf(harness.SAN, "a sanitizer has memory of its own")
    def test_memory_is_at_most_two_bodies(self):
        def peak():
            with open(f"/proc/{self.tg.process.pid}/status") as f:
                return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))

        escaped = IMAGE.replace("/", "\\/")
        for asked in (body("pictures", ', "max_tokens":5'), body("picture-1", "", escaped)):
            self.tg.restart()
            small = json.dumps({"model": "picture-1", "messages": [{"role": "user", "content": "hi"}]}).encode()
            for _ in range(20):
                self.assertStatus(self.tg.post("/v1/chat/completions", small, self.org.key), 200)
            before = peak()
            for _ in range(5):
                self.assertStatus(self.tg.post("/v1/chat/completions", asked, self.org.key), 200)
            self.assertLess((peak() - before) / len(asked), 2.2)  # and what the sockets of a call take
