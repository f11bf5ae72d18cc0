"""An org's own endpoint that answers with as much as it may: the service, which is everybody's, goes on."""
import http.server
import re
import threading

import harness


class Endpoint(http.server.ThreadingHTTPServer):
    """GET /pad-N/models: no model and N bytes of numbers; GET /ids-N/models: 2000 models with names of N bytes."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind, n = re.match(r"/(\w+)-(\d+)/", self.path).groups()
            if kind == "pad":
                text = '{"object":"list","data":[],"pad":[' + "0," * (int(n) // 2) + "0]}"
            else:
                head = self.path.split("/")[2]
                text = '{"data":[' + ",".join(f'{{"id":"{head}{i:04}{"x" * (int(n) - 4 - len(head))}"}}' for i in range(2000)) + "]}"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class Hostile(harness.Case):
    # Statements of 16 MiB: on a busy machine they take longer than the two seconds that one has by default.
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32", "TOLLGATE_PG_DEADLINE_MS": "30000"}
    VERIFY = False

    def setUp(self):
        super().setUp()
        self.endpoint = Endpoint()
        self.addCleanup(self.endpoint.close)
        self.org = self.tg.setup_org(re.sub(r"[^a-z0-9]+", "-", self._testMethodName)[5:40].strip("-"), platform=False, credits=None)
        self.pid = self.tg.process.pid

    def apply(self, paths):
        profiles = [{"name": f"p{i}", "provider": "openai_compatible", "base_url": f"{self.endpoint.url}/{path}", "secret": "fake-key"}
                    for i, path in enumerate(paths)]
        return self.org.admin("POST", "/config/apply", {"config": {"schema_version": 1, "profiles": profiles}})

    def alive(self):
        self.assertIsNone(self.tg.process.poll(), "the service is gone")
        self.assertEqual(self.tg.get("/healthz").status, 200)

    def test_answers_of_many_probes_do_not_add_up(self):
        sizes = [4000000] * 3 + [1000000, 500000, 200000] + [100000] * 20 + [40000] * 10 + [20000] * 10 + [8000] * 18
        status, envelope = self.apply([f"pad-{n}" for n in sizes])
        self.alive()
        self.assertEqual(status, 200, envelope)

    def test_a_picture_that_is_too_large_is_one_org_s_own_trouble(self):
        other = self.tg.setup_org("bystander", platform=False, credits=None)
        self.tg.setup_profile(other, "main", validate=True)
        self.assertEqual(self.apply([f"ids-250/of-{i}-" for i in range(44)])[0], 200)
        explain = lambda: self.org.admin("POST", "/routes/explain", {"model": "m"})
        # a busy machine may need more for so large a picture than a statement has: that is another 503, and passes
        harness.wait_until(lambda: explain()[1]["error"]["code"] != "database_unavailable", 60, "the picture to be read")
        status, envelope = explain()
        self.alive()
        self.assertEqual((status, envelope["error"]["code"]), (503, "org_too_large"))
        status, envelope = other.admin("POST", "/routes/explain", {"model": harness.MODEL})
        self.assertEqual(status, 200, envelope)
        # It can mend that itself: what is revoked counts no more.
        for i in range(30):
            self.assertEqual(self.org.admin("DELETE", f"/profiles/p{i}")[0], 200)
        model = {"model": "of-43-0000" + "x" * 240}
        self.tg.settled()
        self.assertEqual(self.org.admin("POST", "/routes/explain", model)[0], 200, "a picture that fits again")
