"""The process and its sockets: unix listeners, HUP, TERM once and twice, requests that are under way, peers that leave."""
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import SLOW, Tollgate, request, wait_until


class SlowProvider:
    """A provider that takes the connection and says nothing until it is told."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    def accept(self):
        self.listener.settimeout(10 * SLOW)
        connection, _ = self.listener.accept()
        connection.settimeout(10 * SLOW)
        connection.recv(65536)
        return connection

    def answer(self, connection):
        body = b'{"object":"list","data":[{"id":"slow-model"}]}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self):
        self.listener.close()


def profile(base_url, **more):
    return {"name": "slow", "provider": "openai_compatible", "base_url": base_url, "secret": "fake-slow-key", **more}


class Term(unittest.TestCase):
    def setUp(self):
        self.slow = SlowProvider()
        self.addCleanup(self.slow.close)

    def test_a_request_of_the_control_plane_is_answered_before_the_end(self):
        with Tollgate(start=False) as tg:
            tg.env["TOLLGATE_EGRESS_ALLOW"] += f",127.0.0.1/32:{self.slow.port}"
            tg.start()
            org = tg.setup_org("acme", platform=False, credits=None)
            answers = []
            asking = threading.Thread(target=lambda: answers.append(org.admin("POST", "/profiles", profile(self.slow.base_url))))
            asking.start()
            connection = self.slow.accept()
            tg.process.send_signal(signal.SIGTERM)
            wait_until(lambda: any(line.get("msg") == "draining" for line in tg.log_lines()), 10, "the drain")
            time.sleep(0.5)
            self.assertIsNone(tg.process.poll())
            self.slow.answer(connection)
            asking.join()
            self.assertEqual(answers[0][0], 201, answers)
            self.assertEqual(tg.process.wait(20 * SLOW), 0)
            tg.process = None
            self.assertEqual(tg.sql("SELECT name FROM tollgate.profile"), [["slow"]])

    def test_a_second_term_cuts_what_still_runs_and_books_it(self):
        with Tollgate() as tg:
            tg.setup_org("acme")
            answers = []
            stream = threading.Thread(target=lambda: answers.append(tg.chat("Hi [[chunks=2000 chunk_ms=50]]", stream=True)))
            stream.start()
            wait_until(lambda: tg.sql("SELECT 1 FROM tollgate.lease WHERE consumed + returned < granted"), 10, "the hold")
            tg.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            self.assertIsNone(tg.process.poll())
            began = time.monotonic()
            tg.process.send_signal(signal.SIGTERM)
            self.assertEqual(tg.process.wait(30 * SLOW), 0)
            self.assertLess(time.monotonic() - began, 12 * SLOW)
            tg.process = None
            stream.join()
            self.assertFalse(answers[0].done)
            self.assertEqual(tg.sql("SELECT count(*) FROM tollgate.usage_charge"), [["1"]])
            self.assertIn("ledger verify: ok", tg.verify())


class Hup(unittest.TestCase):
    def test_the_file_is_read_again(self):
        with tempfile.TemporaryDirectory() as d, Tollgate(start=False) as tg:
            path = os.path.join(d, "tollgate.yaml")

            def write(text):
                with open(path, "w") as f:
                    f.write(text)

            write("log_level: info\nstale_seconds: 60\n")
            with open(tg.log, "ab") as log:
                tg.process = subprocess.Popen([os.path.join(harness.BUILD, "tollgate"), "serve", "--config", path],
                                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=tg.dir,
                                              env={**harness._clean_env(), **tg.env})
            said = lambda text: wait_until(lambda: [line for line in tg.log_lines() if text in json.dumps(line)], 10, text)
            for line in wait_until(lambda: [x for x in tg.log_lines() if x.get("msg") == "ready"] and
                                   [x for x in tg.log_lines() if x.get("msg") == "listening"], 20, "readiness"):
                host, _, port = line["address"].rpartition(":")
                setattr(tg, f"{line['surface']}_host", host)
                setattr(tg, f"{line['surface']}_port", int(port))
            refuse = lambda: tg.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            refuse()
            self.assertNotIn('"level": "debug"', json.dumps(tg.log_lines()))
            write("log_level: debug\nstale_seconds: 90\n")
            tg.process.send_signal(signal.SIGHUP)
            said("reloaded")
            said("stale_seconds")  # takes a start, and says so
            refuse()
            said('"level": "debug"')
            write("log_level: debug\nsurprise: 1\n")
            tg.process.send_signal(signal.SIGHUP)
            said("surprise")
            self.assertTrue(tg.ready())  # everything as it was


class Unix(unittest.TestCase):
    def test_both_listeners_on_unix_sockets(self):
        with tempfile.TemporaryDirectory() as d, Tollgate(start=False) as tg:
            data, admin = os.path.join(d, "data.sock"), os.path.join(d, "admin.sock")
            tg.env.update(TOLLGATE_LISTEN="unix:" + data, TOLLGATE_ADMIN_LISTEN="unix:" + admin, TOLLGATE_WORKERS="2")
            for _ in range(2):  # the second time over what a KILL left behind
                with open(tg.log, "ab") as log:
                    process = subprocess.Popen([os.path.join(harness.BUILD, "tollgate"), "serve"], stdin=subprocess.DEVNULL,
                                               stdout=log, stderr=log, cwd=tg.dir, env={**harness._clean_env(), **tg.env})
                try:
                    wait_until(lambda: self.ask(data, "/readyz") == 200, 20, "readiness")
                    self.assertEqual([self.ask(data, "/healthz") for _ in range(20)], [200] * 20)
                    self.assertEqual(self.ask(admin, "/metrics"), 200)
                    self.assertEqual(self.ask(data, "/metrics"), 404)
                    self.assertEqual(self.ask(data, "/v1/models"), 401)
                    done = tg.cli("org", "list", "--json")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIsNone(json.loads(done.stdout)["error"])
                    # A path that somebody serves is not taken over.
                    second = tg.cli("serve")
                    self.assertEqual(second.returncode, 3, second.stderr)
                    self.assertEqual(self.ask(data, "/healthz"), 200)
                    process.kill()
                    process.wait()
                    self.assertTrue(os.path.exists(data))
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
            with open(tg.log, "ab") as log:
                process = subprocess.Popen([os.path.join(harness.BUILD, "tollgate"), "serve"], stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log, cwd=tg.dir, env={**harness._clean_env(), **tg.env})
            wait_until(lambda: self.ask(data, "/readyz") == 200, 20, "readiness")
            process.terminate()
            self.assertEqual(process.wait(20 * SLOW), 0)
            self.assertEqual(os.listdir(d), [])

    def ask(self, path, target):
        connection = http.client.HTTPConnection("unix", timeout=10 * SLOW)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10 * SLOW)
        try:
            connection.sock.connect(path)
            connection.request("GET", target)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()


class PeersThatLeave(harness.Case):
    """Handlers that wait for Postgres, the vault, a picture or a provider while their caller hangs up: the sanitizers'
    test. What was asked for is done or not done, and the process goes on."""

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "main")
        cls.key = cls.tg.must("POST", "/orgs/acme/api-keys", {"name": "a", "role": "owner", "scopes": ["admin"]})["key"]

    def test_hang_up_at_any_moment(self):
        tg, rng = self.tg, random.Random(4711)
        slow = profile(self.fake.base_url)
        asks = [("POST", "/orgs/acme/profiles", lambda i: {**slow, "name": f"p{i}"}),
                ("POST", "/orgs/acme/profiles", lambda i: {**slow, "name": f"q{i}", "validate": False}),
                ("POST", "/orgs/acme/profiles/main/test", lambda i: {"action": "test_auth"}),
                ("POST", "/orgs/acme/profiles/main/test", lambda i: {"action": "list_models"}),
                ("POST", "/orgs/acme/profiles/main/rotate", lambda i: {"secret": f"fake-rotated-{i}"}),
                ("POST", "/orgs/acme/routes/explain", lambda i: {"model": harness.MODEL}),
                ("PUT", "/orgs/acme/routes/fast", lambda i: {"match": {"alias": "fast"}, "targets": [
                    {"provider": "openai_compatible", "model": harness.MODEL}]}),
                ("GET", "/orgs/acme/models", None), ("GET", "/orgs/acme/profiles", None), ("GET", "/orgs/acme/credits", None),
                ("POST", "/orgs/acme/api-keys", lambda i: {"name": f"k{i}"}), ("GET", "/orgs/acme/usage/calls", None),
                ("POST", "/orgs", lambda i: {"slug": f"s{i}", "name": "s"}), ("GET", "/prices", None)]
        data = [("GET", "/v1/models", None), ("GET", "/v1/models/" + harness.MODEL, None), ("GET", "/v1/credits", None),
                ("POST", "/v1/chat/completions", lambda i: {"model": harness.MODEL, "messages": [{"role": "user", "content": "Hi"}]})]
        for i in range(400):
            on_admin = rng.random() < 0.8
            method, path, body = rng.choice(asks if on_admin else data)
            text = json.dumps(body(i)) if body else ""
            port = tg.admin_port if on_admin else tg.data_port
            key = (rng.choice([harness.ADMIN_TOKEN, self.key]) if on_admin else self.org.key)
            head = (f"{method} {'/admin/v1' if on_admin else ''}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
                    f"Idempotency-Key: {i}\r\nContent-Length: {len(text)}\r\n\r\n{text}").encode()
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                cut = len(head) if rng.random() < 0.8 else rng.randrange(len(head))
                s.sendall(head[:cut])
                if rng.random() < 0.7:
                    time.sleep(rng.random() * 0.01)
                # A reset rather than a close, so that it is noticed at once.
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        wait_until(lambda: self.org.admin("POST", "/profiles/main/rotate", {"secret": "fake-org-key"})[0] == 200, 10)
        self.assertEqual(self.org.admin("POST", "/profiles/main/test", {"action": "test_auth"})[0], 200)
        self.assertStatus(tg.chat("Hello", key=self.org.key), 200)
        metrics = lambda: tg.get("/metrics", surface="admin").body.decode()
        wait_until(lambda: "\ntollgate_inflight_requests 0\n" in metrics(), 20, "every call to end")
        wait_until(lambda: "\ntollgate_http_connections_open 1\n" in metrics(), 20, "every connection to go")

    def test_hang_up_while_a_provider_is_asked_and_then_the_end(self):
        slow = SlowProvider()
        try:
            with Tollgate(start=False) as tg:
                tg.env["TOLLGATE_EGRESS_ALLOW"] += f",127.0.0.1/32:{slow.port}"
                tg.env["TOLLGATE_DRAIN_SECONDS"] = "1"
                tg.start()
                tg.setup_org("acme", platform=False, credits=None)
                held = []
                for i in range(3):
                    body = json.dumps(profile(slow.base_url, name=f"gone{i}")).encode()
                    with socket.create_connection(("127.0.0.1", tg.admin_port)) as s:
                        s.sendall(b"POST /admin/v1/orgs/acme/profiles HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " +
                                  harness.ADMIN_TOKEN.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                        held.append(slow.accept())
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                slow.answer(held[0])
                held[1].close()
                wait_until(lambda: tg.sql("SELECT 1 FROM tollgate.profile WHERE name = 'gone0'"), 10, "what was asked for")
                tg.stop(60)  # one provider is still silent
        finally:
            slow.close()


if __name__ == "__main__":
    unittest.main()
