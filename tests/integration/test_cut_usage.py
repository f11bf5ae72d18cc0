"""A stream that breaks off after it stated its input, as Anthropic's first event does: what was delivered is booked."""
import http.server
import json
import threading

import harness

WORDS = "word " * 80  # 400 bytes


class Endpoint(http.server.ThreadingHTTPServer):
    """Says usage with the first chunk, sends WORDS, and is gone; `finish` ends the answer as it should be."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            whole = asked["messages"][0]["content"] == "whole"
            bare = asked["messages"][0]["content"] == "bare"
            usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if bare:  # no "data:", no blank line
                self.wfile.write(b'{"error": {"message": "slower", "type": "requests", "code": "rate_limit_exceeded"}}\n')
                return
            self.say({"choices": [{"index": 0, "delta": {"role": "assistant"}}], "usage": usage})
            self.say({"choices": [{"index": 0, "delta": {"content": WORDS}}]})
            if whole:
                self.say({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})

        def say(self, event):
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class CutUsage(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.endpoint = Endpoint()
        cls.addClassCleanup(cls.endpoint.close)
        cls.tg.setup_profile(cls.org, "own", billing_source="private", base_url=cls.endpoint.url, models=["own-model"])
        cls.tg.setup_profile(cls.org, "bare", billing_source="private", base_url=cls.endpoint.url, models=["bare-model"])

    def booked(self, text):
        answer = self.tg.chat({"model": "own-model", "stream": True, "messages": [{"role": "user", "content": text}]}, key=self.org.key)
        self.assertEqual(answer.status, 200, answer)
        call = lambda: self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        harness.wait_until(lambda: call()[0] == 200, 10, "the row")
        row = call()[1]["data"]
        return row["basis"], row["usage"]["in_text"], row["usage"]["out_text"]

    def test_what_was_delivered_is_the_least(self):
        self.assertEqual(self.booked("cut"), ("est_partial", 1000, len(WORDS) // 4))

    def test_a_whole_answer_is_what_its_provider_says(self):
        self.assertEqual(self.booked("whole"), ("provider_usage", 1000, 1))

    def test_a_bare_error_at_the_end_is_that_error(self):
        answer = self.tg.chat({"model": "bare-model", "stream": True, "messages": [{"role": "user", "content": "bare"}]}, key=self.org.key)
        self.assertEqual((answer.status, answer.json["error"]["type"]), (429, "rate_limit_error"), answer)
