"""A transit engine for tests: the part of HashiCorp Vault's and OpenBao's HTTP API that wraps data keys, on loopback.

Real AES-256-GCM with associated data (kat.py), versions, min_decryption_version, tokens that end and are renewed. It can
be told to misbehave: `mode` is ok, sealed, maintenance, busy, slow, silent, garbage, strange, html, redirect, echo or down.
Every key and token in here is made up.

    with FakeTransit() as transit:
        transit.mode = "sealed"
        transit.requests       # [Request(at, method, path, token, status, body)]
"""
import base64
import collections
import http.server
import json
import secrets
import socket
import sys
import threading
import time

import kat

Request = collections.namedtuple("Request", "at method path token namespace status body")


class Refusal(Exception):
    def __init__(self, status, *words):
        super().__init__(status, words)
        self.status, self.words = status, list(words)


class Key:
    def __init__(self):
        self.versions = [secrets.token_bytes(32)]
        self.min_decryption_version = 1

    def rotate(self):
        self.versions.append(secrets.token_bytes(32))


class Token:
    def __init__(self, ttl, renewable=True):
        self.ttl, self.renewable, self.renewed = ttl, renewable, 0
        self.ends = time.monotonic() + ttl if ttl else None


class FakeTransit:
    def __init__(self, key="tollgate", mount="transit"):
        self.mode, self.slow_s = "ok", 30
        self.mount, self.keys = mount, {key: Key()}
        self.tokens = {}
        self.token = self.add_token()
        self.requests, self.plain, self.lock = [], [], threading.Lock()
        self.running = self.most_at_once = 0
        self.gone = threading.Event()  # ends those that sleep
        self.port = None
        self.server = None
        self.start()

    def add_token(self, ttl=0, renewable=True):
        name = "hvs.fake-" + secrets.token_hex(16)
        self.tokens[name] = Token(ttl, renewable)
        return name

    # --- the process ---

    def start(self):
        """Listen (again), on the port of last time if there was one."""
        transit = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                transit.handle(self)

            do_GET = do_PUT = do_POST

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = daemon_threads = True
            connections = set()

            def handle_error(self, request, address):
                if not isinstance(sys.exc_info()[1], ConnectionError):  # that is what a client may do
                    super().handle_error(request, address)

            def process_request(self, request, address):
                self.connections.add(request)
                super().process_request(request, address)

            def shutdown_request(self, request):
                self.connections.discard(request)
                super().shutdown_request(request)

        self.server = Server(("127.0.0.1", self.port or 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Away: connections are cut, new ones refused."""
        server, self.server = self.server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for connection in list(server.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.gone.set()
        self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def env(self, token_file=None, key=None, **more):
        """Settings that lead here."""
        settings = {"TOLLGATE_VAULT_TRANSIT_URL": self.url, "TOLLGATE_VAULT_TRANSIT_KEY": key or next(iter(self.keys))}
        settings["TOLLGATE_VAULT_TRANSIT_TOKEN" + ("_FILE" if token_file else "")] = token_file or self.token
        return {**settings, **more}

    def count(self, what=""):
        with self.lock:
            return sum(what in r.path for r in self.requests)

    def clear(self):
        with self.lock:
            self.requests.clear()
            self.most_at_once = 0

    # --- one request ---

    def handle(self, h):
        body = h.rfile.read(int(h.headers.get("Content-Length") or 0))
        with self.lock:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        status = 0
        try:
            status = self.answer(h, body)
        except (ConnectionError, socket.timeout):
            pass
        finally:
            with self.lock:
                self.running -= 1
                self.requests.append(Request(time.monotonic(), h.command, h.path, h.headers.get("X-Vault-Token"),
                                             h.headers.get("X-Vault-Namespace"), status, body))

    def answer(self, h, body):
        mode = self.mode
        if mode in ("slow", "silent"):
            self.gone.wait(self.slow_s)
            if mode == "silent":
                h.close_connection = True
                return 0
        if mode == "sealed":
            return self.send(h, 503, {"errors": ["Vault is sealed"]})
        if mode == "maintenance":
            return self.send(h, 503, {"errors": []})
        if mode == "busy":
            return self.send(h, 429, {"errors": ["request path rate limit quota exceeded"]})
        if mode == "garbage":
            return self.send_bytes(h, 200, b'{"data":{"ciphertext":"vault:vX:\xff\xfe"')
        if mode == "strange":
            return self.send(h, 200, {"data": {"ciphertext": "vault:v0:", "plaintext": "c2hvcnQ="}, "auth": {"lease_duration": "x"}})
        if mode == "html":
            return self.send_bytes(h, 200, b"<html>" + b"x" * 70000)
        if mode == "redirect":
            return self.send(h, 307, {}, Location=f"http://127.0.0.1:{self.port}/elsewhere")
        if mode == "echo":
            return self.send(h, 500, {"errors": [h.headers.get("X-Vault-Token", ""), body.decode("utf-8", "replace")]})
        try:
            return self.send(h, 200, self.do(h, body))
        except Refusal as e:
            return self.send(h, e.status, {"errors": e.words})

    @staticmethod
    def send(h, status, document, **headers):
        return FakeTransit.send_bytes(h, status, json.dumps(document).encode(), **headers)

    @staticmethod
    def send_bytes(h, status, text, **headers):
        h.send_response(status)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(text)
        return status

    def do(self, h, body):
        token = self.tokens.get(h.headers.get("X-Vault-Token"))
        if token is None or (token.ends is not None and token.ends < time.monotonic()):
            raise Refusal(403, "permission denied")
        if h.path == "/v1/auth/token/renew-self":
            if not token.renewable:
                raise Refusal(400, "lease is not renewable")
            token.renewed += 1
            token.ends = time.monotonic() + token.ttl if token.ttl else None
            return {"auth": {"client_token": h.headers["X-Vault-Token"], "lease_duration": token.ttl, "renewable": bool(token.ttl)}}
        part, _, rest = h.path.removeprefix("/v1/").partition(self.mount + "/")
        if part or "/" not in rest:
            raise Refusal(404, "no handler for route")
        verb, name = rest.split("/", 1)
        key = self.keys.get(name)
        if key is None:
            raise Refusal(400, "encryption key not found")
        if verb == "keys":
            return {"data": {"latest_version": len(key.versions), "min_decryption_version": key.min_decryption_version}}
        asked = json.loads(body)
        aad = base64.b64decode(asked.get("associated_data", ""), validate=True)
        if verb == "encrypt":
            return {"data": self.encrypt(key, asked, aad)}
        if verb == "decrypt":
            return {"request_id": secrets.token_hex(8), "data": self.decrypt(key, asked, aad)}
        raise Refusal(404, "no handler for route")

    def encrypt(self, key, asked, aad):
        version = asked.get("key_version") or len(key.versions)
        if not 1 <= version <= len(key.versions):
            raise Refusal(400, "requested version for encryption is higher than the latest key version")
        plain, nonce = base64.b64decode(asked["plaintext"], validate=True), secrets.token_bytes(12)
        with self.lock:
            self.plain.append(plain)
        sealed = nonce + kat.seal(key.versions[version - 1], nonce, aad, plain)
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}

    @staticmethod
    def decrypt(key, asked, aad):
        name, version, text = asked["ciphertext"].split(":", 2)
        version = int(version[1:])
        if name != "vault" or version > len(key.versions):
            raise Refusal(400, "invalid ciphertext: version is too new")
        if version < key.min_decryption_version:
            raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        sealed = base64.b64decode(text, validate=True)
        plain = kat.open_(key.versions[version - 1], sealed[:12], aad, sealed[12:])
        if plain is None:
            raise Refusal(400, "cipher: message authentication failed")
        return {"plaintext": base64.b64encode(plain).decode()}
