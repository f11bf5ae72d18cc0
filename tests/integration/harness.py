"""What the integration tests stand on: a private Postgres, the fake provider, and tollgate itself.

    class Billing(harness.Case):
        def test_a_platform_call_is_charged(self):
            org = self.tg.setup_org("acme")
            answer = self.tg.chat({"model": "demo-model", "messages": [...]}, key=org.key)

Standard library only, Python 3.9 or later. Everything listens on loopback at a port the system
picks, lives in a temporary folder, and is ended by its process id. Nothing of the system is touched.

Environment: BUILD (the build folder, default build), SAN (non-empty: a sanitizer build, waits are
longer), TG_TEST_PG (libpq string of a cluster to share; tests/run sets it), TG_KEEP (keep folders).
"""

import atexit
import base64
import ctypes
import glob
import http.client
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import uuid
from decimal import Decimal

import contract

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD") or "build")
SAN = os.environ.get("SAN", "")
SLOW = 5 if SAN else 1  # waits are this much longer under a sanitizer
KEEP = bool(os.environ.get("TG_KEEP"))

ADMIN_TOKEN = "fake-admin-token-for-tests"  # not a secret: made up for these tests
PLATFORM_SECRET = "fake-platform-key"
MODEL = "demo-model"
PRICE_LINES = [
    {"class": "in_text", "price": "3.00", "per": 1000000},
    {"class": "in_cached_read", "price": "0.30", "per": 1000000},
    {"class": "out_text", "price": "15.00", "per": 1000000},
    {"class": "out_reasoning", "price": "15.00", "per": 1000000},
]

REPORT = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: |"
    r"Assertion .* failed|^=+ERROR", re.M)


def wait_until(question, seconds=10, what="a condition"):
    """Ask until the answer is true; return it. AssertionError when it never is."""
    end = time.monotonic() + seconds * SLOW
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds * SLOW} s for {what}")
        time.sleep(0.02)


def _dies_with_us(signo):
    """For preexec_fn: the child gets a signal when the thread that started it is gone."""
    if threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signo)


def _end(process, signo, seconds):
    """Signal a process of ours and wait; the hard way after `seconds`. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(signo)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def _tail(path, lines=30):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return "(no log)"


class Postgres:
    """A private cluster. Root starts it as the user postgres (or nobody), others as themselves.

    durable=True keeps fsync on, for tests that pull the rug from under Postgres itself."""

    def __init__(self, durable=False):
        self.durable = durable
        self.process = None
        self.port = None
        self.bin = self._find_bin()
        self.user = {}
        self.dir = tempfile.mkdtemp(prefix="tollgate-pg-")
        if os.geteuid() == 0:
            self.user = self._unprivileged()
            os.chown(self.dir, self.user["user"], self.user["group"])
        self.data = os.path.join(self.dir, "data")
        self.log = os.path.join(self.dir, "log")
        self._run([f"{self.bin}/initdb", "-D", self.data, "-A", "trust", "-U", "postgres",
                   "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8"])
        self.start()
        self.sql("CREATE ROLE tollgate_login LOGIN NOSUPERUSER NOBYPASSRLS CREATEROLE")

    @staticmethod
    def _find_bin():
        found = [d for d in glob.glob("/usr/lib/postgresql/*/bin") if os.access(d + "/initdb", os.X_OK)]
        if found:
            return max(found, key=lambda d: int(re.search(r"(\d+)/bin$", d).group(1)))
        on_path = shutil.which("initdb")
        if on_path:
            return os.path.dirname(os.path.realpath(on_path))
        raise RuntimeError("no Postgres server programs: install the package postgresql")

    @staticmethod
    def _unprivileged():
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        raise RuntimeError("Postgres does not run as root, and there is no user to run it as")

    def _run(self, command):
        done = subprocess.run(command, cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, env=_clean_env(), **self.user)
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")

    def start(self):
        """Start (again), on the port of last time if there was one."""
        for _ in range(5):
            port = self.port or free_port()
            settings = {"port": port, "listen_addresses": "127.0.0.1",
                        "unix_socket_directories": self.dir, "max_connections": 200,
                        "shared_buffers": "64MB", "timezone": "UTC",
                        "log_min_messages": "warning"}
            if not self.durable:
                settings.update(fsync="off", full_page_writes="off")
            command = [f"{self.bin}/postgres", "-D", self.data]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=_clean_env(), preexec_fn=_dies_with_us(signal.SIGINT), **self.user)
            try:
                wait_until(lambda: self._answers(port) or self.process.poll() is not None, 60)
            except AssertionError:
                self.stop()
            if self.process is not None and self.process.poll() is None:
                self.port = port
                return
        raise RuntimeError("Postgres does not start: " + _tail(self.log))

    def _answers(self, port):
        return subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", self.dir, "-p", str(port)],
                              env=_clean_env()).returncode == 0

    def stop(self, signo=signal.SIGINT):
        """SIGINT: fast shutdown; SIGQUIT: as after a crash."""
        if self.process is not None:
            _end(self.process, signo, 30)
            self.process = None

    def close(self):
        self.stop()
        if not KEEP:
            shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def conninfo(self):
        """As the superuser, without a database."""
        return f"host={self.dir} port={self.port} user=postgres"

    def sql(self, query, database="postgres"):
        return psql(f"{self.conninfo} dbname={database}", query)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_shared = None


def shared_postgres():
    """libpq string of the cluster of this run: the one of tests/run, else one of our own."""
    global _shared
    given = os.environ.get("TG_TEST_PG")
    if given:
        return given
    if _shared is None:
        _shared = Postgres()
        atexit.register(_shared.close)
    return _shared.conninfo


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _clean_env():
    """Our environment without what would lead a child astray."""
    return {k: v for k, v in os.environ.items()
            if not k.startswith(("TOLLGATE_", "PG", "TG_", "MAKE")) and not k.lower().endswith("_proxy")}


def psql(conninfo, query):
    """Rows as lists of strings; NULL is the empty string."""
    done = subprocess.run(["psql", "-XqAt", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-d", conninfo],
                          input=query, capture_output=True, text=True, env=_clean_env(), timeout=120)
    if done.returncode != 0:
        raise AssertionError(f"psql: {done.stderr.strip()}\n{query}")
    return [line.split("\x1f") for line in done.stdout.splitlines()]


class Answer:
    """An HTTP answer. `events` are the JSON objects of a stream; `done` says [DONE] came; `broken`
    that the connection broke off; `first_event_s` is when the first bytes of the body came."""

    def __init__(self, status, headers, body=b"", broken=False, first_event_s=None):
        self.status = status
        self.headers = headers  # email.message.Message: get() ignores case
        self.body = body
        self.broken = broken
        self.first_event_s = first_event_s

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data_lines(self):
        return [line[5:].strip() for line in self.body.decode("utf-8", "replace").splitlines()
                if line.startswith("data:")]

    @property
    def events(self):
        return [json.loads(line) for line in self.data_lines if line != "[DONE]"]

    @property
    def done(self):
        return "[DONE]" in self.data_lines

    @property
    def text(self):
        """What the assistant said, of a plain answer or put together from a stream."""
        if "text/event-stream" in (self.headers.get("content-type") or ""):
            return "".join(choice["delta"].get("content") or "" for event in self.events
                           for choice in event.get("choices", []) if choice["index"] == 0)
        return self.json["choices"][0]["message"]["content"]

    @property
    def usage(self):
        if "text/event-stream" in (self.headers.get("content-type") or ""):
            return next((e["usage"] for e in reversed(self.events) if e.get("usage")), None)
        return self.json.get("usage")

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:400]!r}{' broken' if self.broken else ''}>"


def request(host, port, method, path, body=None, headers=None, timeout=30):
    """One HTTP request on a connection of its own. `body`: bytes, text, or what becomes JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=timeout * SLOW)
    try:
        connection.request(method, path, body, headers)
        got = connection.getresponse()
        answer = Answer(got.status, got.headers)
        body = bytearray()
        try:
            while True:
                piece = got.read1(65536)
                if not piece:
                    break
                if answer.first_event_s is None:
                    answer.first_event_s = time.monotonic() - began
                body += piece
            length = got.headers.get("Content-Length")
            if length is not None and method != "HEAD" and len(body) < int(length):
                answer.broken = True
        except (http.client.HTTPException, ConnectionError):
            answer.broken = True
        answer.body = bytes(body)
        return answer
    finally:
        connection.close()


class FakeProvider:
    """build/fake_provider; loadtest/README.md says what it can be told."""

    def __init__(self, log=None):
        self.dir = tempfile.mkdtemp(prefix="tollgate-fake-")
        self.errors = os.path.join(self.dir, "stderr")
        self.log = log
        command = [os.path.join(BUILD, "fake_provider"), "--listen", "127.0.0.1:0"]
        if log:
            command += ["--log", log]
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=_clean_env(), preexec_fn=_dies_with_us(signal.SIGTERM))
        line = self.process.stdout.readline()
        match = re.match(r"listening 127\.0\.0\.1:(\d+)$", line.strip())
        if not match:
            raise RuntimeError("the fake provider does not start: " + _tail(self.errors))
        self.port = int(match.group(1))
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    def _ask(self, method, path, body=None):
        answer = request("127.0.0.1", self.port, method, path, body)
        assert answer.status == 200, answer
        return answer.json

    def control(self, **rule):
        """control(key="…", model="…", times=2, status=429, retry_after=1): see the README."""
        return self._ask("POST", "/_control", rule)

    def clear(self):
        """Forget all rules and the log."""
        self._ask("DELETE", "/_control")
        self._ask("DELETE", "/_log")

    def calls(self):
        """The calls that ended, oldest first."""
        return self._ask("GET", "/_log")

    def stats(self):
        return self._ask("GET", "/_stats")

    def last(self):
        """{"head": …, "body": …} of the last call, as it came over the wire."""
        return self._ask("GET", "/_last")

    def requests(self):
        """The last requests that it got, oldest first: {method, path, query, headers, body}."""
        return self._ask("GET", "/_calls")

    def close(self):
        status = _end(self.process, signal.SIGTERM, 10 * SLOW)
        self.process.stdout.close()
        report = _tail(self.errors, 80)
        if not KEEP:
            shutil.rmtree(self.dir, ignore_errors=True)
        assert status == 0, f"the fake provider ended with {status}: {report}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Org:
    """What setup_org() made: slug, id, key (the API key's text), key_id, tg."""

    def __init__(self, tg, slug):
        self.tg = tg
        self.slug = slug
        self.id = None
        self.key = None
        self.key_id = None

    def admin(self, method, path, body=None, **more):
        return self.tg.admin(method, f"/orgs/{self.slug}{path}", body, **more)

    def balance(self):
        status, envelope = self.admin("GET", "/credits")
        assert status == 200, envelope
        return Decimal(envelope["data"]["available"])


class Tollgate:
    """A database of its own, migrated, and a running service on it.

    Attributes: data_host, data_port, admin_host, admin_port, key (of the last setup_org), fake, env.
    Leaving the context stops it and asserts that it ended well."""

    def __init__(self, fake=None, postgres=None, env=None, start=True, migrate=True):
        self.dir = tempfile.mkdtemp(prefix="tollgate-test-")
        self.log = os.path.join(self.dir, "log")
        self.process = None
        self.key = None
        self.data_host = self.admin_host = "127.0.0.1"
        self.data_port = self.admin_port = None
        self._own_fake = fake is None
        self.fake = fake or FakeProvider()
        self._postgres = postgres
        self.database = "tollgate_" + secrets.token_hex(6)
        psql(f"{self.cluster} dbname=postgres",
             f"CREATE DATABASE {self.database} OWNER tollgate_login TEMPLATE template0")
        master_key = os.path.join(self.dir, "master.key")
        with os.fdopen(os.open(master_key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")
        self.env = {
            "TOLLGATE_DATABASE_URL": self._login_conninfo(),
            "TOLLGATE_LISTEN": "127.0.0.1:0",
            "TOLLGATE_ADMIN_LISTEN": "127.0.0.1:0",
            "TOLLGATE_MASTER_KEY_FILE": master_key,
            "TOLLGATE_ADMIN_TOKEN": ADMIN_TOKEN,
            "TOLLGATE_EGRESS_ALLOW": f"127.0.0.1/32:{self.fake.port}",
            "TOLLGATE_WORKERS": "2",
            "TOLLGATE_CREDENTIAL_UPDATES_PER_HOUR": "10000",  # its own tests are in test_credential_limits.py
            "TOLLGATE_CREDENTIAL_TESTS_PER_HOUR": "10000",
            "TOLLGATE_CREDENTIAL_READS_PER_HOUR": "10000",
            "TOLLGATE_JOURNAL_DIR": os.path.join(self.dir, "journal"),
        }
        for name, value in (env or {}).items():
            if value is None:
                self.env.pop(name, None)
            else:
                self.env[name] = str(value)
        try:
            if migrate:
                self.migrate()
            if start:
                self.start()
        except BaseException:
            self._discard()
            raise

    # --- the process ---

    @property
    def cluster(self):
        return self._postgres.conninfo if self._postgres else shared_postgres()

    def _login_conninfo(self):
        return re.sub(r"\buser=\S+", "user=tollgate_login", self.cluster) + f" dbname={self.database}"

    def cli(self, *args, stdin=None, env=None, timeout=60):
        """Run the binary with this instance's settings: a CompletedProcess with text output."""
        settings = dict(self.env)
        if self.admin_port:
            settings["TOLLGATE_ADMIN_LISTEN"] = f"{self.admin_host}:{self.admin_port}"
            settings["TOLLGATE_LISTEN"] = f"{self.data_host}:{self.data_port}"
        settings.update(env or {})
        return subprocess.run([os.path.join(BUILD, "tollgate"), *args], input=stdin or "",
                              capture_output=True, text=True, cwd=self.dir,
                              env={**_clean_env(), **settings}, timeout=timeout * SLOW)

    def migrate(self):
        done = self.cli("migrate", "up", timeout=120)
        assert done.returncode == 0, f"migrate up ended with {done.returncode}: {done.stdout}{done.stderr}"

    def start(self, ready=True):
        """Start serving; ready=False returns once both listeners are up, whatever /readyz says."""
        assert self.process is None, "it runs already"
        offset = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "tollgate"), "serve"], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self.dir, env={**_clean_env(), **self.env},
                preexec_fn=_dies_with_us(signal.SIGKILL))

        def listening():
            if self.process.poll() is not None:
                status, self.process = self.process.returncode, None
                raise AssertionError(f"serve ended with {status}:\n" + _tail(self.log))
            for line in self.log_lines(offset):
                if line.get("msg", line.get("message")) == "listening":
                    host, _, port = str(line.get("address", "")).rpartition(":")
                    setattr(self, f"{line.get('surface')}_host", host)
                    setattr(self, f"{line.get('surface')}_port", int(port))
            return self.data_port and self.admin_port

        self.data_port = self.admin_port = None
        wait_until(listening, 20, "both listeners")
        if ready:
            wait_until(self.ready, 20, "/readyz")

    def ready(self):
        try:
            return request(self.data_host, self.data_port, "GET", "/readyz", timeout=5).status == 200
        except OSError:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError("serve ended:\n" + _tail(self.log))
            return False

    def stop(self, seconds=30):
        """TERM; asserts that it drains, exits 0, and that no sanitizer complained."""
        if self.process is None:
            return
        running = self.process.poll() is None
        status = _end(self.process, signal.SIGTERM, seconds * SLOW)
        self.process = None
        with open(self.log, errors="replace") as f:
            log = f.read()
        report = REPORT.search(log)
        assert not report, log[report.start():report.start() + 6000]
        assert running, f"serve had ended by itself with {status}:\n" + _tail(self.log)
        assert status == 0, f"serve ended with {status} on TERM:\n" + _tail(self.log)

    def kill(self):
        """KILL: no drain, no goodbye."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self, **env):
        """Stop cleanly (if it runs) and start again on the same database."""
        self.stop()
        self.env.update(env)
        self.start()

    def _discard(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        try:
            if self._own_fake:
                self.fake.close()
            if self._postgres is None or self._postgres.process is not None:
                psql(f"{self.cluster} dbname=postgres",
                     f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        finally:
            if not KEEP:
                shutil.rmtree(self.dir, ignore_errors=True)

    def close(self):
        try:
            self.stop()
        finally:
            self._discard()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- asking it ---

    def admin(self, method, path, body=None, token=ADMIN_TOKEN, headers=None):
        """Control plane, below /admin/v1: (status, envelope). POST gets an Idempotency-Key. The answer, and what
        was taken, has to be as the API's own description says."""
        headers = dict(headers or {})
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        if method == "POST":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        answer = request(self.admin_host, self.admin_port, method, "/admin/v1" + path, body, headers)
        contract.of(self).check(method, "/admin/v1" + path, body, answer)
        return answer.status, answer.json if answer.body else None

    def get(self, path, key=None, headers=None, surface="data"):
        headers = dict(headers or {})
        if key:
            headers.setdefault("Authorization", f"Bearer {key}")
        return request(getattr(self, f"{surface}_host"), getattr(self, f"{surface}_port"), "GET", path,
                       headers=headers)

    def post(self, path, body, key=None, headers=None, timeout=30):
        """Data plane. key=None: the key of the last setup_org; key="": no key."""
        headers = dict(headers or {})
        key = self.key if key is None else key
        if key and not any(h.lower() == "authorization" for h in headers):
            headers["Authorization"] = f"Bearer {key}"
        headers.setdefault("Content-Type", "application/json")
        return request(self.data_host, self.data_port, "POST", path, body, headers, timeout)

    def chat(self, body, key=None, headers=None, stream=False, timeout=30):
        """POST /v1/chat/completions. A text as body is one user message to the demo model."""
        if isinstance(body, str):
            body = {"model": MODEL, "messages": [{"role": "user", "content": body}]}
        if stream:
            body = {"stream": True, "stream_options": {"include_usage": True}, **body}
        return self.post("/v1/chat/completions", body, key, headers, timeout)

    def raw(self, data, surface="data", seconds=2, half_close=False):
        """Send bytes as they are; whatever comes back until the end or `seconds` of silence.
        Returns (bytes, closed)."""
        host, port = getattr(self, f"{surface}_host"), getattr(self, f"{surface}_port")
        got = b""
        with socket.create_connection((host, port), timeout=seconds * SLOW) as s:
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass
            while True:
                try:
                    piece = s.recv(65536)
                except socket.timeout:
                    return got, False
                except ConnectionError:
                    return got, True
                if not piece:
                    return got, True
                got += piece

    # --- preparing it ---

    def must(self, method, path, body=None, **more):
        """admin() that has to succeed; the data of the envelope."""
        status, envelope = self.admin(method, path, body, **more)
        assert status in (200, 201), f"{method} {path}: {status} {envelope}"
        return envelope["data"]

    def setup_platform(self):
        """The platform's org, its profile for the fake provider, the demo model and its price."""
        status, _ = self.admin("GET", "/orgs/platform")
        if status == 404:
            self.must("POST", "/orgs", {"slug": "platform", "name": "Platform", "tier": "business"})
        status, envelope = self.admin("POST", "/orgs/platform/profiles", {
            "name": "fake", "provider": "openai_compatible", "base_url": self.fake.base_url,
            "secret": PLATFORM_SECRET, "billing_source": "platform", "models": ["*"],
            "priority": 100, "default": True, "validate": False})
        assert status in (201, 409), (status, envelope)
        if status == 201:
            self.setup_model(MODEL)

    def setup_model(self, model, provider="openai_compatible", lines=None):
        self.must("PUT", f"/models/{provider}/{model}", {
            "capabilities": ["text", "tools", "json"], "context_window": 128000, "max_output": 16384})
        self.must("PUT", f"/prices/{provider}/{model}",
                  {"book": "sell", "effective_from": None, "lines": lines or PRICE_LINES})

    def setup_org(self, slug, credits="10.00", platform=True, **key):
        """An org with an API key and, unless None, credits. Further arguments go into the key."""
        if platform:
            self.setup_platform()
        org = Org(self, slug)
        org.id = self.must("POST", "/orgs", {"slug": slug, "name": slug.title(), "tier": "business"})["id"]
        if credits is not None:
            self.must("POST", f"/orgs/{slug}/credits/grants", {
                "amount": credits, "category": "paid", "priority": 50, "expires_at": None,
                "reason": "test"})
        made = self.must("POST", f"/orgs/{slug}/api-keys",
                         {"name": "test", "role": "developer", "scopes": ["inference"], **key})
        org.key, org.key_id = made["key"], made["id"]
        self.key = org.key
        self.settled()
        return org

    def wait_for_model(self, org, model=MODEL):
        """Wait until calls for it would go out, from every worker."""
        def usable():
            status, envelope = self.admin("POST", f"/orgs/{getattr(org, 'slug', org)}/routes/explain",
                                          {"model": model})
            return status == 200 and any(t["verdict"] == "use" for t in envelope["data"]["targets"])
        wait_until(usable, 10, f"{model} to be usable")
        self.settled()

    def settled(self, seconds=10):
        """Wait until every change that is committed now is in force in every thread. A change reaches the workers
        one after the other, a moment after it was stored: one call that goes by it says nothing of the next call."""
        head = int(self.sql("SELECT seq FROM tollgate.change_counter")[0][0])
        wait_until(lambda: self.metric('tollgate_change_seq{state="in_force"}') >= head, seconds,
                   f"change {head} to be in force")

    def setup_profile(self, org, name, billing_source="byok", secret="fake-org-key", **more):
        """A profile of an org for the fake provider; returns its data."""
        return self.must("POST", f"/orgs/{getattr(org, 'slug', org)}/profiles", {
            "name": name, "provider": "openai_compatible", "base_url": self.fake.base_url,
            "secret": secret, "billing_source": billing_source, "models": ["*"], "priority": 100,
            "default": False, "validate": False, **more})

    # --- looking at it ---

    def sql(self, query):
        """Rows as lists of strings, as the superuser: no row-level security in the way."""
        return psql(f"{self.cluster} dbname={self.database}", query)

    def metric(self, name):
        """One sample of /metrics, by its name with labels as it stands there; None: it does not."""
        for line in self.get("/metrics", surface="admin").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line[len(name) + 1:])
        return None

    def row_counts(self):
        """{"tollgate.orgs": 3, …}: every table there is, so that 'no row was left' can be said."""
        rows = self.sql(
            "SELECT n.nspname || '.' || c.relname, (xpath('/row/c/text()', query_to_xml(format("
            "'SELECT count(*) AS c FROM %I.%I', n.nspname, c.relname), false, true, '')))[1]::text "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' "
            "AND n.nspname LIKE 'tollgate%' ORDER BY 1")
        return {name: int(count) for name, count in rows}

    def fake_calls(self):
        return self.fake.calls()

    def log_lines(self, offset=0):
        """The service's log as objects; a line that is not JSON is {"raw": line}."""
        lines = []
        try:
            with open(self.log, errors="replace") as f:
                f.seek(offset)
                for line in f:
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        entry = {"raw": line.rstrip("\n")}
                    lines.append(entry if isinstance(entry, dict) else {"raw": line})
        except FileNotFoundError:
            pass
        return lines

    def verify(self):
        """`tollgate ledger verify`; asserts that it is clean. Returns its output."""
        done = self.cli("ledger", "verify", timeout=120)
        assert done.returncode == 0, f"ledger verify ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout


class Case(unittest.TestCase):
    """One fake provider, one database and one running service per test class, as cls.tg.

    ENV: settings beside the harness's own. The ledger has to verify when the class is done."""

    ENV = {}
    VERIFY = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tg = Tollgate(env=cls.ENV)
        cls.addClassCleanup(cls.tg.close)
        cls.fake = cls.tg.fake
        try:
            cls.prepare()
        except BaseException:
            print(_tail(cls.tg.log))
            raise

    @classmethod
    def prepare(cls):
        """For subclasses: orgs, profiles, routes."""

    @classmethod
    def tearDownClass(cls):
        if cls.VERIFY and cls.tg.process is not None:
            cls.tg.verify()
        super().tearDownClass()

    def setUp(self):
        self.fake.clear()

    def assertStatus(self, answer, status):
        self.assertEqual(answer.status, status, answer)
