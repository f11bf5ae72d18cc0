"""The official OpenAI client library for Node, unmodified, against the real binary and the fake provider."""
import json
import os
import shutil
import subprocess
import unittest

import matrix
import harness


class OpenAINode(harness.Case):
    @classmethod
    def prepare(cls):
        build = matrix.install()
        shutil.copy(os.path.join(matrix.HERE, "openai.mjs"), build)
        org = cls.tg.setup_org("node-client")
        env = dict(os.environ, BASE_URL=f"http://{cls.tg.data_host}:{cls.tg.data_port}/v1", API_KEY=org.key,
                   MODEL=harness.MODEL)
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "https_proxy"):
            env.pop(name, None)
        run = subprocess.run(["node", "openai.mjs"], cwd=build, env=env, capture_output=True, text=True, timeout=120)
        if run.returncode != 0:
            raise AssertionError(f"the client failed: {run.stderr[-2000:]}")
        cls.got = json.loads(run.stdout)

    def test_chat_completes_and_tells_its_cost(self):
        chat = self.got["chat"]
        self.assertTrue(chat["text"])
        self.assertEqual(chat["finish"], "stop")
        self.assertEqual(chat["billing"], "platform")
        self.assertGreater(float(chat["cost"]), 0)
        self.assertTrue(chat["request_id"].startswith("req_"))
        self.assertEqual(chat["usage"]["total_tokens"],
                         chat["usage"]["prompt_tokens"] + chat["usage"]["completion_tokens"])

    def test_stream_completes_with_usage(self):
        stream = self.got["stream"]
        self.assertTrue(stream["text"])
        self.assertEqual(stream["finish"], "stop")
        self.assertGreater(stream["usage"]["completion_tokens"], 0)
        self.assertGreater(stream["chunks"], 2)

    def test_usage_that_was_not_asked_for_is_stripped(self):
        self.assertEqual(self.got["unasked"]["usage_chunks"], 0)
        self.assertEqual(self.got["unasked"]["text"], self.got["stream"]["text"])

    def test_tool_call_and_its_result(self):
        tool = self.got["tool"]
        self.assertEqual(tool["name"], "lookup_port")
        self.assertEqual(tool["finish"], "tool_calls")
        self.assertIsInstance(tool["arguments"], dict)
        self.assertTrue(tool["answer"])

    def test_models_lists_what_the_key_can_ask_for(self):
        self.assertIn("demo-model", self.got["models"])

    def test_errors_are_the_librarys_own_classes(self):
        self.assertEqual(self.got["bad_key"]["status"], 401)
        self.assertEqual(self.got["bad_key"]["name"], "AuthenticationError")
        self.assertEqual(self.got["bad_key"]["code"], "invalid_api_key")
        self.assertEqual(self.got["bad_model"]["status"], 404)
        self.assertEqual(self.got["bad_model"]["code"], "model_not_found")
        self.assertTrue(self.got["bad_model"]["request_id"].startswith("req_"))


if __name__ == "__main__":
    unittest.main()
