"""Secrets that everything is asked about afterwards: logs at debug, Postgres' log with every statement, a dump,
metrics, error bodies, the process's own memory (security.md 1.6, V13 to V16, G16 to G18).

All of them are made up here."""
import base64
import json
import os
import re
import resource
import secrets
import socketserver
import subprocess
import threading
import time
import unittest

import harness
from harness import Tollgate


class EchoProvider(socketserver.ThreadingTCPServer):
    """A provider that says back whatever key it was sent, with the status that the model or `status` names."""
    allow_reuse_address = daemon_threads = True

    def __init__(self):
        self.status, self.asked = 200, 0
        super().__init__(("127.0.0.1", 0), EchoHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class EchoHandler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = self.rfile.read(int(length.group(1))) if length else b""
            key = re.search(rb"(?i)authorization: bearer (\S+)", head).group(1).decode()
            self.server.asked += bool(body)
            told = re.search(rb'"model":\s*"echo-(\d+)', body)
            status = int(told.group(1)) if told else self.server.status
            says = {"error": {"message": f"Incorrect API key provided: {key}. You can find it at {key[:4]}",
                              "type": "invalid_request_error", "param": key, "code": key}}
            if status == 200 and not body:
                says = {"object": "list", "data": [{"id": "echo-400"}, {"id": "echo-401"}]}
            text = json.dumps(says).encode()
            extra = f"x-request-id: {key}\r\nx-echo: {key}\r\nretry-after: {key}\r\n".encode()
            if b'"stream":true' in body.replace(b" ", b"") and status == 200:
                text = b'data: {"error":{"message":"the key ' + key.encode() + b' is bad"}}\n\ndata: [DONE]\n\n'
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + extra +
                                 b"Content-Length: %d\r\n\r\n" % len(text) + text)
            else:
                self.wfile.write(b"HTTP/1.1 %d Echo\r\nContent-Type: application/json\r\n" % status + extra +
                                 b"Content-Length: %d\r\n\r\n" % len(text) + text)


def secure_heap(pid):
    """Where OpenSSL's secure heap is: the mappings kept out of a core and (where it may be) locked: {"start-end"}."""
    spans, span = set(), ""
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ rw", line):
                span = line.split()[0]
            elif re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                span = ""
            elif span and line.startswith("VmFlags:") and " dd" in line and " gd" not in line:
                spans.add(span)
    return spans


def memory_hits(pid, canaries, but=()):
    """Where in the writable memory of a process, but for the mappings of `but`, a canary (text or bytes) stands:
    {canary: [mapping]}."""
    hits = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, mode, *_ = line.split()
            start, end = (int(x, 16) for x in span.split("-"))
            if "w" not in mode or end - start > 1 << 32 or span in but:
                continue
            for at in range(start, end, 1 << 24):
                try:
                    mem.seek(max(start, at - 256))
                    piece = mem.read(min(1 << 24, end - at) + at - max(start, at - 256))
                except (OSError, ValueError, OverflowError):
                    continue
                for canary in canaries:
                    found = piece.find(canary if isinstance(canary, bytes) else canary.encode())
                    if found >= 0:
                        hits.setdefault(canary, []).append((line.strip(), piece[max(0, found - 80):found + 80]))
    return hits


def memory_hits_or_skip(test, pid, canaries, but_secure_heap=False):
    try:
        return memory_hits(pid, canaries, secure_heap(pid) if but_secure_heap else ())
    except PermissionError:
        test.skipTest("the memory of the process cannot be read (this needs root)")


class Canaries(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = harness.Postgres()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.sql("ALTER ROLE tollgate_login SET log_statement = 'all'; "
                        "ALTER ROLE tollgate_login SET log_parameter_max_length_on_error = -1; "
                        "ALTER ROLE tollgate_login SET log_min_error_statement = 'debug5'")
        cls.echo = EchoProvider()
        cls.addClassCleanup(cls.echo.server_close)
        cls.addClassCleanup(cls.echo.shutdown)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        cls.tg = Tollgate(postgres=cls.cluster, env={"TOLLGATE_LOG_LEVEL": "debug"}, start=False)
        cls.addClassCleanup(cls.tg.close)
        cls.tg.env["TOLLGATE_EGRESS_ALLOW"] += f",127.0.0.1/32:{cls.echo.server_address[1]}"
        cls.tg.start()
        cls.said = []  # every byte that anyone was answered
        cls.provoke()

    @classmethod
    def note(cls, answer):
        cls.said.append(f"{answer.status} {answer.headers} {answer.body.decode('utf-8', 'replace')}")
        return answer

    @classmethod
    def ask(cls, org, method, path, body=None):
        status, envelope = org.admin(method, path, body)
        cls.said.append(f"{method} {path} {status} {json.dumps(envelope, ensure_ascii=False)}")
        return status, envelope

    @classmethod
    def provoke(cls):
        """Create, call, fail, rotate, test, time out, collide: with secrets that look like nobody's key."""
        tg = cls.tg
        cls.first, cls.second, cls.third = ("Canary" + secrets.token_hex(16) for _ in range(3))
        org = cls.org = tg.setup_org("acme")
        profile = {"name": "echo", "provider": "openai_compatible", "base_url": cls.echo.base_url, "secret": cls.first,
                   "models": ["echo-400-again"], "validate": False}
        assert cls.ask(org, "POST", "/profiles", profile)[0] == 201
        assert cls.ask(org, "POST", "/profiles", profile)[0] == 409  # a constraint with the secret in flight
        for status in (200, 400, 401, 403, 404, 418, 429, 500):
            cls.echo.status = status
            cls.ask(org, "POST", "/profiles", {**profile, "name": f"tried-{status}", "validate": True})
            cls.ask(org, "POST", "/profiles/echo/test", {"action": "test_auth"})
            cls.ask(org, "POST", "/profiles/echo/test", {"action": "list_models"})
        # Refused bodies that hold the secret: a wrong type, an unknown field, a duplicate, half of one, another place.
        for bad in ({**profile, "priority": cls.third}, {**profile, "secret": cls.third + " x"}, {**profile, "secret": [cls.third]},
                    {**profile, "provider": "openai", "secret": cls.third}, json.dumps(profile)[:-9]):
            assert cls.ask(org, "POST", "/profiles", bad)[0] == 400
        statuses = (200, 400, 401, 403, 404, 418, 429, 500)
        for name in [f"echo-{status}-{how}" for status in statuses for how in ("plain", "stream")]:
            assert cls.ask(org, "POST", "/profiles", {**profile, "name": name, "models": [name]})[0] == 201
        tg.settled()
        for status in statuses:
            for how in ("plain", "stream"):
                cls.note(tg.chat({"model": f"echo-{status}-{how}", "messages": [{"role": "user", "content": "Hi"}],
                                  "stream": how == "stream"}, key=org.key))
        assert cls.echo.asked >= 2 * len(statuses), cls.echo.asked
        assert cls.ask(org, "POST", "/profiles/echo/rotate", {"secret": cls.second})[0] == 200
        cls.ask(org, "POST", "/profiles/echo/rotate", {"secret": cls.third + "\n"})
        tg.settled()
        cls.note(tg.chat({"model": "echo-400-again", "messages": [{"role": "user", "content": "Hi"}]}, key=org.key))
        cls.ask(org, "GET", "/profiles/echo")
        cls.ask(org, "GET", "/profiles")
        cls.made = tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "role": "admin", "scopes": ["admin", "inference"]})
        for headers in ({"Authorization": f"Bearer {cls.made['key']}x"}, {"x-api-key": cls.made["key"]},
                        {"x-api-key": cls.made["key"], "api-key": org.key}):
            cls.note(tg.get("/v1/models", headers=headers))
        tg.get(f"/v1/models/{cls.made['key']}", cls.made["key"])  # said back to who sent it, and never logged
        tg.raw(f"GET / HTTP/1.1\r\nHost: x\r\nHost: {org.key}\r\nAuthorization: Bearer {org.key}\r\n\r\n".encode())
        cls.ask(org, "GET", "/api-keys")
        cls.ask(org, "GET", f"/api-keys/{cls.made['id']}")
        cls.note(tg.get("/metrics", surface="admin"))
        cls.note(tg.get("/readyz"))
        secret_file = os.path.join(tg.dir, "secret")
        with open(secret_file, "w") as f:
            f.write(cls.second + "\n")
        for args in (("profile", "rotate", "--org", "acme", "echo", "--secret-file", secret_file), ("check-config",),
                     ("profile", "rotate", "--org", "nobody", "echo", "--secret-file", secret_file, "--json"),
                     ("profile", "test", "--org", "acme", "echo", "--json"), ("key", "list", "--org", "acme"),
                     ("check-config", "--json"), ("vault", "status", "--json")):
            done = tg.cli(*args)
            cls.said.append(f"{args} {done.stdout} {done.stderr}")
        with open(tg.env["TOLLGATE_MASTER_KEY_FILE"]) as f:
            cls.master = f.read().strip()

    def canaries(self):
        return [self.first, self.second, self.third, self.org.key, self.org.key[12:44],
                self.made["key"], self.made["key"][12:44], self.master, harness.ADMIN_TOKEN]

    def nowhere(self, where, text, canaries=None):
        for canary in canaries or self.canaries():
            for form in (canary, canary.encode().hex()):
                at = text.find(form)
                self.assertEqual(at, -1, f"{where}: …{text[max(0, at - 300):at + 100]}…")

    def test_v15_g17_not_in_the_log_at_debug(self):
        with open(self.tg.log, errors="replace") as f:
            log = f.read()
        self.assertIn('"level":"debug"', log)
        self.nowhere("log", log)

    def test_v16_not_in_postgres_log_of_every_statement(self):
        with open(self.cluster.log, errors="replace") as f:
            log = f.read()
        self.assertIn("profile_create", log)
        self.assertIn("detail:  parameters:", log.lower())  # a capital P from Postgres 16 on
        self.nowhere("postgres log", log)

    def test_v15_g18_not_in_a_dump(self):
        dump = subprocess.run(["pg_dump", "-d", f"{self.tg.cluster} dbname={self.tg.database}"], capture_output=True,
                              text=True, timeout=120)
        self.assertEqual(dump.returncode, 0, dump.stderr)
        self.assertIn("profile.rotate", dump.stdout)  # the audit log is in it
        self.nowhere("pg_dump", dump.stdout)

    def test_g16_not_in_any_answer(self):
        for said in self.said:
            self.nowhere("answer", said)

    def test_v14_not_in_what_the_system_shows_and_no_core(self):
        with open(f"/proc/{self.tg.process.pid}/limits") as f:
            core = re.search(r"Max core file size\s+(\S+)\s+(\S+)", f.read())
        self.assertEqual(core.groups(), ("0", "0"))
        try:
            with open(f"/proc/{self.tg.process.pid}/environ", errors="replace") as f:
                self.nowhere("environ", f.read())
            with open(f"/proc/{self.tg.process.pid}/cmdline", errors="replace") as f:
                self.nowhere("cmdline", f.read())
        except PermissionError:
            pass  # not to be looked at is better still

    @unittest.skipIf(harness.SAN, "a sanitizer keeps what was freed")
    def test_v13_not_in_memory_a_second_after_use(self):
        """Of a provider that does not say it back: bodies in one piece and in two, tries, calls, a rotation."""
        common = "Canary" + secrets.token_hex(16)
        tg, org, secret = self.tg, self.org, [common + str(i) for i in range(4)]
        self.assertEqual(memory_hits_or_skip(self, tg.process.pid, [harness.PLATFORM_SECRET]), {})
        profile = {"name": "quiet", "provider": "openai_compatible", "base_url": tg.fake.base_url, "models": ["quiet-1"]}
        self.assertEqual(org.admin("POST", "/profiles", {**profile, "secret": secret[0]})[0], 201)
        self.assertEqual(org.admin("POST", "/profiles", {**profile, "secret": secret[1], "priority": "x"})[0], 400)
        for length in (f"Content-Length: %d\r\n", "Transfer-Encoding: chunked\r\n"):
            body = json.dumps({**profile, "name": secrets.token_hex(4), "secret": secret[2], "validate": False})
            length = length % len(body) if "%" in length else length
            if "chunked" in length:
                body = "".join(f"1\r\n{c}\r\n" for c in body[:40]) + f"{len(body) - 40:x}\r\n{body[40:]}\r\n0\r\n\r\n"
            got, _ = tg.raw(f"POST /admin/v1/orgs/acme/profiles HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                            f"{harness.ADMIN_TOKEN}\r\nConnection: close\r\n{length}\r\n{body}".encode(), surface="admin")
            self.assertIn(b" 201 ", got.splitlines()[0])
        for i in range(10):
            for stream in (False, True):
                tg.chat({"model": "quiet-1", "messages": [{"role": "user", "content": "Hi"}]}, key=org.key, stream=stream)
        self.assertEqual(org.admin("POST", "/profiles/quiet/rotate", {"secret": secret[3]})[0], 200)
        self.assertEqual(org.admin("POST", "/profiles/quiet/test", {"action": "test_auth"})[0], 200)
        tg.chat({"model": "quiet-1", "messages": [{"role": "user", "content": "Hi"}]}, key=org.key)
        self.assertIn(f"Bearer {common}", json.dumps(tg.fake.last()))
        time.sleep(1.2)
        self.assertEqual(memory_hits_or_skip(self, tg.process.pid, [common]), {})

    @unittest.skipIf(harness.SAN, "a sanitizer keeps what was freed")
    def test_v13_not_in_memory_after_a_thousand_requests(self):
        """The long form: plain and streamed, answered and failed, from eight clients at once; then idle for a second."""
        tg, org, secret = self.tg, self.org, "Canary" + secrets.token_hex(16)
        self.assertEqual(org.admin("POST", "/profiles", {
            "name": "long", "provider": "openai_compatible", "base_url": tg.fake.base_url, "models": ["long-1"],
            "secret": secret, "validate": False})[0], 201)
        said = {"messages": [{"role": "user", "content": "Hi"}], "model": "long-1"}
        tg.settled()
        self.assertEqual(tg.chat(said, key=org.key).status, 200)
        statuses, lock = {}, threading.Lock()

        def client(number):
            for i in range(125):
                words = f"Hi {number} {i}" + (" [[status=400]]" if i % 25 == 24 else "")
                answer = tg.chat({**said, "messages": [{"role": "user", "content": words}]}, key=org.key, stream=i % 2 == 1)
                with lock:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
        clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        self.assertEqual(sum(statuses.values()), 1000, statuses)
        self.assertGreater(statuses.get(200, 0), 900, statuses)
        self.assertIn(f"Bearer {secret}", json.dumps(tg.fake.last()))
        time.sleep(1.2)
        master = base64.b64decode(self.master)
        canaries = [secret, org.key[12:44], self.made["key"][12:44], harness.ADMIN_TOKEN, self.master, self.master[:-1], master]
        self.assertEqual(memory_hits_or_skip(self, tg.process.pid, canaries, but_secure_heap=True), {})
        # The master key does stand in the secure heap, which is one small mapping: what was left out is that alone.
        self.assertIn(master, memory_hits_or_skip(self, tg.process.pid, [master]))
        spans = [[int(x, 16) for x in span.split("-")] for span in secure_heap(tg.process.pid)]
        self.assertLessEqual(sum(end - start for start, end in spans), 4 << 20, spans)


if __name__ == "__main__":
    unittest.main()
