"""A provider that says exactly the bytes it was told, for tests of what a real one may say.

    mouth.says("first", 429, {"error": …}, {"Retry-After": "7"})     a plain answer
    mouth.says("first", 200, [b"data: …", event, b"…"])             a stream: pieces, with an Event to wait for between them
    mouth.url("first")                                              the base_url of a profile
    mouth.asked("first")                                            what it was asked: [Asked]
"""
import json
import socket
import socketserver
import threading

import harness


class Asked:
    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        try:
            while self.one():
                pass
        except (ConnectionError, ValueError):
            pass

    def one(self):
        first = self.rfile.readline().decode().split(" ")
        if len(first) < 3:
            return False
        headers = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")):
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        length = int(dict(headers).get("content-length", 0))
        body = self.rfile.read(length)
        mouth, name = self.server.mouth, first[1].split("/")[1]
        with mouth.lock:
            asked = Asked(first[1], headers, body)
            mouth.log.setdefault(name, []).append(asked)
            said = mouth.scripts.get(name)
        if not said:
            return False
        return self.answer(*(said(asked) if callable(said) else said))

    def answer(self, status, body, headers, end):
        stream = isinstance(body, list)
        headers = {"Content-Type": "text/event-stream" if stream else "application/json", **headers}
        if stream:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        self.wfile.write(head.encode() + (b"" if stream else body))
        for piece in body if stream else []:
            if isinstance(piece, threading.Event):
                piece.wait(60)
            elif piece:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if stream and end == "whole":
            self.wfile.write(b"0\r\n\r\n")
        if end == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return end == "whole"


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request, address):
        pass  # a connection that ended is no error here


class Mouth:
    def __init__(self):
        self.lock, self.scripts, self.log = threading.Lock(), {}, {}
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.mouth = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"

    def says(self, name, status=200, body=b"", headers=None, end="whole"):
        """`end` of a stream: "whole", "fin" (its last chunk is missing) or "reset"."""
        if isinstance(body, (dict, str)):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        with self.lock:
            self.scripts[name] = (status, body, headers or {}, end)

    def passes_on(self, name, port, prefix, change, end="whole"):
        """What the fake provider at `port` answers, below `prefix` there, in the pieces that change(bytes) makes of it."""
        def say(asked):
            headers = {k: v for k, v in asked.headers if k not in ("host", "content-length", "accept-encoding", "connection")}
            got = harness.request("127.0.0.1", port, "POST", prefix + asked.path[len(name) + 1:], asked.body, headers)
            kind = {"Content-Type": got.headers["content-type"]}
            return (got.status, change(got.body), kind, end) if got.status == 200 else (got.status, got.body, kind, "whole")
        with self.lock:
            self.scripts[name] = say

    def asked(self, name):
        with self.lock:
            return list(self.log.get(name, []))

    def close(self):
        self.server.shutdown()
        self.server.server_close()
