"""The HTTP front's table of malformed and abusive inputs, over the wire to the running service.

Every test sends bytes and looks at the status, at whether the connection was closed, and at how many
answers came. After each refused row no table has a row more and the provider has no call more.
Rows that need load (thousands of connections, a 256 MiB stream, no descriptors) are not here.
"""

import json
import re
import socket
import struct
import time
import unittest

import harness

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
SHORT = {  # deadlines in milliseconds, so that the rows about them take no time
    "TOLLGATE_HTTP_HEAD_TIMEOUT_MS": "400",
    "TOLLGATE_HTTP_BODY_TIMEOUT_MS": "400",
    "TOLLGATE_HTTP_LINGER_MS": "400",
    "TOLLGATE_HTTP_BAD_HEADS_PER_MINUTE_MAX": "0",
}
PATH = "/v1/chat/completions"
EVIL = b"GET /readyz?smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def chat(text="hello", **more):
    return json.dumps({"model": harness.MODEL, "messages": [{"role": "user", "content": text}], **more}).encode()


class Wire(harness.Case):
    ENV = SHORT

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")

    def head(self, *lines, method="POST", path=PATH, version="HTTP/1.1", host="a", key=True):
        out = [f"{method} {path} {version}"]
        if host is not None:
            out.append(f"Host: {host}")
        if key:
            out.append(f"Authorization: Bearer {self.org.key}")
        if method == "POST":
            out.append("Content-Type: application/json")
        raw = "\r\n".join(out).encode("latin-1")
        for line in lines:
            raw += b"\r\n" + (line if isinstance(line, bytes) else line.encode("latin-1"))
        return raw + b"\r\n\r\n"

    def get(self, *lines, path="/readyz", **more):
        return self.head(*lines, method="GET", path=path, key=False, **more)

    def post(self, *lines, body=None, **more):
        body = chat() if body is None else body
        return self.head(*lines, f"Content-Length: {len(body)}", **more) + body

    def chunked(self, body, *lines, **more):
        return self.head("Transfer-Encoding: chunked", *lines, **more) + body

    def send(self, wire, **more):
        got, closed = self.tg.raw(wire, **more)
        return got, [int(s) for s in STATUS.findall(got)], closed


class Refused(Wire):
    """Rows that no endpoint may ever see."""

    VERIFY = True

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.rows = cls.tg.row_counts()

    def tearDown(self):
        self.assertEqual(self.tg.row_counts(), self.rows, "a refused request left a row")
        self.assertEqual(len(self.tg.fake_calls()), 0, "a refused request reached the provider")

    def refuse(self, wire, *statuses):
        """Exactly one answer, one of `statuses`, and then the connection is closed."""
        got, answers, closed = self.send(wire)
        self.assertEqual(len(answers), 1, (wire[:300], got))
        self.assertIn(answers[0], statuses, (wire[:300], got))
        self.assertTrue(closed, (wire[:300], got))
        head, _, body = got.partition(b"\r\n\r\n")
        self.assertIn(b"\r\nconnection: close", head.lower())
        self.assertRegex(head.lower(), rb"x-request-id: req_[0-9a-f-]{36}")
        self.assertIn("tollgate", json.loads(body))

    def refuse_all(self, status, wires):
        for wire in wires:
            with self.subTest(wire=wire[:200]):
                self.refuse(wire, *((status,) if isinstance(status, int) else status))

    # --- request line ---

    def test_h01_no_host(self):
        self.refuse(self.post(host=None), 400)

    def test_h02_two_hosts(self):
        self.refuse_all(400, [self.post("Host: a"), self.post("hOsT: b")])

    def test_h03_bad_host(self):
        self.refuse_all(400, [self.post(host=h) for h in ("a b", "u@a", "a/b", "", "a,b", "a:99999", "[::1")])

    def test_h04_http_0_9(self):
        self.refuse(b"GET /\r\n", 400)

    def test_h06_http_2(self):
        self.refuse_all((400, 505), [self.post(version="HTTP/2.0"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])

    def test_h07_http_1_2(self):
        self.refuse(self.post(version="HTTP/1.2"), 505)

    def test_h08_huge_version(self):
        self.refuse(self.post(version="HTTP/1.99999999999999999999"), 400)

    def test_h09_versions(self):
        self.refuse_all(400, [self.post(version=v) for v in ("HTTQ/1.1", "http/1.1", "HTTP/1", "HTTP/01.1")])

    def test_h10_tls_on_the_plain_port(self):
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
        got, closed = self.tg.raw(hello)
        self.assertEqual((got, closed), (b"", True))

    def test_h11_unknown_method(self):
        self.refuse_all((501, 405), [self.post().replace(b"POST", m, 1) for m in (b"BREW", b"get")])

    def test_h12_long_method(self):
        self.refuse(self.post().replace(b"POST", b"M" * 9216, 1), 400, 501)

    def test_h13_two_empty_lines(self):
        self.refuse(b"\r\n\r\n" + self.post(), 400)

    def test_h14_separators(self):
        self.refuse_all(400, [b" " + self.post(), self.post().replace(b"POST ", b"POST\t", 1)])

    def test_h15_two_spaces(self):
        self.refuse(self.post().replace(b"POST ", b"POST  ", 1), 400)

    def target(self, target):
        return self.post().replace(PATH.encode(), target, 1)

    def test_h16_space(self):
        self.refuse(self.target(b"/v1/chat completions"), 400)

    def test_h17_control_byte(self):
        self.refuse_all(400, [self.target(b"/v1/\x01"), self.target(b"/v1/\x7f")])

    def test_h18_high_byte(self):
        self.refuse(self.target(b"/v1/\xc3\xa4"), 400)

    def test_h19_bad_percent(self):
        self.refuse_all(400, [self.target(b"/v1/%zz"), self.target(b"/v1/%4")])

    def test_h20_fragment(self):
        self.refuse(self.target(PATH.encode() + b"#frag"), 400)

    def test_h21_encoded_nul(self):
        self.refuse(self.target(PATH.encode() + b"%00"), 400)

    def test_h22_raw_nul(self):
        self.refuse(self.target(PATH.encode() + b"\0"), 400)

    def test_h23_absolute_form_of_another_host(self):
        self.refuse(self.target(b"http://b" + PATH.encode()), 400)

    def test_h25_connect_and_trace(self):
        self.refuse_all(405, [b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"])

    def test_h26_long_target(self):
        self.refuse(self.target(b"/" + b"a" * 20480), 414)

    # --- headers ---

    def test_h27_nul_in_value(self):
        self.refuse(self.post(b"X: a\0b"), 400)

    def test_h28_nul_in_name(self):
        self.refuse(self.post(b"X\0: a"), 400)

    def test_h29_bare_cr(self):
        self.refuse(self.post(b"X: a\rb"), 400)

    def test_h30_bare_lf(self):
        self.refuse_all(400, [self.post().replace(b"\r\n", b"\n"), self.post(b"X: a\nY: b")])

    def test_h31_header_behind_a_bare_lf(self):
        self.refuse(self.head(b"X: a\nContent-Length: 5") + b"hello", 400)

    def test_h32_space_before_colon(self):
        self.refuse(self.head(f"Content-Length : {len(EVIL)}") + EVIL, 400)

    def test_h33_tab_before_colon(self):
        self.refuse(self.head(f"Content-Length\t: {len(EVIL)}") + EVIL, 400)

    def test_h34_no_colon(self):
        self.refuse(self.post("nocolon"), 400)

    def test_h35_empty_name(self):
        self.refuse(self.post(": a"), 400)

    def test_h36_folded_header(self):
        self.refuse_all(400, [self.post("X: a\r\n b"), self.post("X: a\r\n\tb")])

    def test_h37_fold_on_the_first(self):
        self.refuse(self.post().replace(b"Host", b" Host", 1), 400)

    def test_h38_space_before_transfer_encoding(self):
        self.refuse(self.head(" Transfer-Encoding: chunked") + b"0\r\n\r\n", 400)

    def test_h39_names(self):
        self.refuse_all(400, [self.post(b"X\xff: a"), self.post("X(: a"), self.post("X Y: a")])

    def test_h40_long_header(self):
        self.refuse(self.post("X: " + "a" * 20480), 431)

    def test_h41_many_headers(self):
        self.refuse(self.post(*[f"X{i}: {i}" for i in range(1000)]), 431)

    def test_h42_two_authorizations(self):
        self.refuse(self.post(f"authorization: Bearer {self.org.key}"), 400)

    # --- framing ---

    def length(self, value):
        if isinstance(value, str):
            value = value.encode()
        return self.head(b"Content-Length: " + value) + b"hello"

    def test_h44_plus(self):
        self.refuse(self.length("+5"), 400)

    def test_h45_no_number(self):
        self.refuse_all(400, [self.length(v) for v in ("-5", "0x5", "5 5", "5,5", "")])

    def test_h46_twice_the_same(self):
        self.refuse(self.head("Content-Length: 5", "Content-Length: 5") + b"hello", 400)

    def test_h47_twice_different(self):
        self.refuse_all(400, [self.head("Content-Length: 5", "Content-Length: 0") + b"hello",
                              self.head("Content-Length: 0", "Content-Length: 5") + b"hello"])

    def test_h48_huge_length(self):
        self.refuse_all(413, [self.length(str(10 ** 20)), self.length(str(2 ** 63 - 1))])

    def test_h49_vertical_tab(self):
        self.refuse(self.length(b"\x0b5"), 400)

    def test_h50_too_large_at_the_head(self):
        began = time.monotonic()
        self.refuse(self.head(f"Content-Length: {32 * 1024 * 1024 + 1}"), 413)
        self.assertLess(time.monotonic() - began, 2 * harness.SLOW)

    def test_h53_no_length(self):
        self.refuse(self.head() + EVIL, 411)

    def test_h54_both_framings(self):
        self.refuse_all(400, [self.head("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
                              self.head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n"])

    def test_h55_other_encodings(self):
        self.refuse(self.head("Transfer-Encoding: identity", "Content-Length: 5") + b"hello", 400, 501)
        self.refuse_all((400, 501), [self.head(f"Transfer-Encoding: {te}") + b"0\r\n\r\n" for te in
                                     ("xchunked", '"chunked"', "chunked, gzip", "chunked,", "identity")])

    def test_h56_gzip_chunked(self):
        self.refuse(self.head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501)

    def test_h57_chunked_twice(self):
        self.refuse(self.chunked(b"0\r\n\r\n", "Transfer-Encoding: chunked"), 400)

    def test_h58_identity_and_chunked(self):
        self.refuse(self.chunked(b"0\r\n\r\n", "Transfer-Encoding: identity"), 400)

    def test_h59_odd_white_space(self):
        self.refuse_all(400, [self.head(b"Transfer-Encoding: " + c + b"chunked") + EVIL for c in (b"\x0b", b"\x0c")])

    def test_h60_space_before_colon(self):
        self.refuse(self.head("Transfer-Encoding : chunked") + EVIL, 400)

    def test_h61_chunked_on_1_0(self):
        self.refuse(self.chunked(b"0\r\n\r\n", version="HTTP/1.0"), 400)

    # --- chunks ---

    def chunks(self, status, *bodies):
        self.refuse_all(status, [self.chunked(b) for b in bodies])

    def test_h62_prefix(self):
        self.chunks(400, b"0x5\r\nhello\r\n0\r\n\r\n", b"0X5\r\nhello\r\n0\r\n\r\n")

    def test_h63_signs_and_spaces(self):
        self.chunks(400, b"+5\r\nhello\r\n0\r\n\r\n", b"-0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n")

    def test_h64_no_number(self):
        self.chunks(400, b"5_0\r\nhello\r\n0\r\n\r\n", b"zz\r\nhello\r\n0\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n")

    def test_h65_huge_size(self):
        self.chunks((400, 413), b"00000000000000005\r\nhello\r\n0\r\n\r\n", b"7fffffffffffffff\r\nhello\r\n0\r\n\r\n")

    def test_h67_extensions(self):
        self.chunks(400, b"5;a=" + b"b" * 102400 + b"\r\nhello\r\n0\r\n\r\n", b"5;a=\rb\r\nhello\r\n0\r\n\r\n",
                    b"5;a=\nb\r\nhello\r\n0\r\n\r\n")

    def test_h68_bare_lf(self):
        self.chunks(400, b"5\nhello\n0\n\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\n")

    def test_h69_longer_than_told(self):
        self.chunks(400, b"5\r\nhelloXX\r\n0\r\n\r\n")

    def test_h70_no_crlf_behind_data(self):
        self.chunks(400, b"5\r\nhello0\r\n\r\n")

    def test_h72_tiny_chunks(self):
        self.chunks(400, b"1\r\nx\r\n" * 200000)

    # --- the order of refusals, deadlines ---

    def test_h73_no_continue_for_the_refused(self):
        self.refuse(self.head("Expect: 100-continue", f"Content-Length: {2 ** 30}"), 413)
        self.refuse(self.head("Expect: 100-continue", "Content-Length: 5", key=False), 401)
        self.refuse(self.head("Expect: 100-continue", "Transfer-Encoding: chunked", key=False), 401)

    def test_h74_other_expectations(self):
        self.refuse(self.post("Expect: tea"), 417)

    def drip(self, whole):
        """A byte every now and then, until the service has enough."""
        with socket.create_connection((self.tg.data_host, self.tg.data_port)) as s:
            began = time.monotonic()
            s.settimeout(0.05)
            got = b""
            for i in range(len(whole)):
                try:
                    s.sendall(whole[i:i + 1])
                    got += s.recv(65536)
                    if got:
                        break
                except socket.timeout:
                    continue
                except ConnectionError:
                    break
            return got, time.monotonic() - began

    def test_h80_dripped_head(self):
        got, took = self.drip(self.post("X: " + "a" * 4000))
        self.assertTrue(got.startswith(b"HTTP/1.1 408 "), got)
        self.assertLess(took, 5 * harness.SLOW)

    def test_h81_dripped_body(self):
        with socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=5 * harness.SLOW) as s:
            s.sendall(self.head("Content-Length: 1000") + b"{")
            self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 408 "))
        got, _ = self.drip(self.head("Content-Length: 1000")[:-1] + b"\n" + b" " * 1000)
        self.assertTrue(got.startswith(b"HTTP/1.1 408 "), got)

    def test_h83_silence(self):
        got, closed = self.tg.raw(b"")
        self.assertEqual((got, closed), (b"", True))

    # --- bodies ---

    def bad_body(self, body, status=400):
        got, answers, _ = self.send(self.post("Connection: close", body=body))
        self.assertEqual(answers, [status], (body[:120], got))
        self.assertIn("error", json.loads(got.partition(b"\r\n\r\n")[2]))

    def test_h88_deep_json(self):
        self.bad_body(b"[" * 10000 + b"]" * 10000)
        self.bad_body(b'{"a":' * 10000 + b"1" + b"}" * 10000)
        self.bad_body(b"[" * (8 * 1024 * 1024))

    def test_h89_json_that_is_none(self):
        good = chat()
        for body in (good.replace(b"{", b'{"model":"x",', 1), good[:-1] + b',"temperature":NaN}',
                     good[:-1] + b',"temperature":1e400}', good.replace(b"hello", b"\\ud800"),
                     b"\xef\xbb\xbf" + good, good.replace(b"hello", b"he\0llo"), good + b"x", good + good, b"",
                     good.replace(b"hello", b"\xff")):
            with self.subTest(body=body[:200]):
                self.bad_body(body)

    def test_h90_numbers_out_of_range(self):
        for more in ({"max_tokens": -1}, {"max_tokens": 10 ** 18}, {"max_tokens": "5"}, {"max_tokens": 0.5},
                     {"n": 10 ** 9}):
            with self.subTest(more=more):
                self.bad_body(chat(**more))

    def test_h92_g26_compressed_body(self):
        self.refuse(self.post("Content-Encoding: gzip"), 415)

    def test_h95_header_injection(self):
        for model in ("x\r\nX-Evil: 1", "x\nX-Evil: 1", "x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"):
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
            got, answers, _ = self.send(self.post("Connection: close", "X-Request-Id: a", body=body))
            self.assertEqual(len(answers), 1, got)
            self.assertIn(answers[0], (400, 404), got)
            head = got.partition(b"\r\n\r\n")[0]
            self.assertNotIn(b"\nx-evil", head.lower())
            self.assertNotRegex(head.replace(b"\r\n", b""), rb"[\x00-\x1f\x7f-\xff]")

    def test_h96_ends_of_the_head(self):
        head = self.post().partition(b"\r\n\r\n")[0]
        self.refuse_all(400, [head + end for end in (b"\r\n\rX", b"\r\n\r\r\n", b"\r\n\n\r", b"\n\r\n", b"\r\r\n\r\n")])

    def test_odd_paths_are_no_second_door(self):
        for path in ("//v1/models", "/v1//models", "/v1/%2e%2e/admin", "/v1/../admin", "/V1/models", "/v1/models/",
                     "/v1/models;x", "/v1/%6dodels", "/admin/v1/orgs"):
            got, answers, _ = self.send(self.head("Connection: close", method="GET", path=path))
            self.assertEqual(answers, [404], (path, got))


class Served(Wire):
    """Rows that are requests, and must be served as exactly one."""

    def one(self, wire, status=200, **more):
        got, answers, closed = self.send(wire, **more)
        self.assertEqual(answers, [status], (wire[:300], got))
        return got

    def test_h05_http_1_0(self):
        for host in (None, "a"):
            got, answers, closed = self.send(self.get(version="HTTP/1.0", host=host))
            self.assertIn(answers, ([200], [400]), got)
            self.assertTrue(closed)

    def test_h13_one_empty_line(self):
        self.one(b"\r\n" + self.get("Connection: close"))

    def test_h23_absolute_form(self):
        self.one(self.get("Connection: close", path="http://a/readyz"))
        wire = self.post("Connection: close").replace(PATH.encode(), b"http://a" + PATH.encode(), 1)
        self.one(wire)
        bare = wire.replace(self.org.key.encode(), b"tg_fake", 1)
        self.one(bare, 401)  # the same door, the same lock

    def test_h24_options(self):
        self.one(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204)
        got, answers, _ = self.send(self.head("Connection: close", "Origin: http://b",
                                              "Access-Control-Request-Method: POST", method="OPTIONS", key=False))
        self.assertIn(answers, ([204], [404]), got)

    def test_h43_underscores(self):
        wire = self.post("Connection: close", key=False)
        for name in ("Authoriz_ation", "x_api_key", "api_key"):
            got = self.one(wire.replace(b"\r\n\r\n", f"\r\n{name}: {self.org.key}\r\n\r\n".encode(), 1), 401)
            self.assertIn(b"invalid_api_key", got)
        body = chat()
        self.one(self.head("Connection: close", f"Content_Length: {len(body)}") + body, 411)

    def test_h51_get_with_body(self):
        got, answers, _ = self.send(self.get(f"Content-Length: {len(EVIL)}") + EVIL + self.get("Connection: close"))
        self.assertIn(answers, ([200, 200], [400]), got)

    def test_h52_head_with_a_request_inside(self):
        head = self.head(f"Content-Length: {len(EVIL)}", method="HEAD", path="/readyz", key=False)
        got, answers, _ = self.send(head + EVIL + self.get("Connection: close"))
        self.assertIn(answers, ([200, 200], [400]), got)

    def test_h66_chunk_extension(self):
        body = chat()
        self.one(self.chunked(b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(body), body), "Connection: close"))

    def test_h71_trailers(self):
        body = chat()
        trailers = b"Authorization: Bearer x\r\nContent-Length: 3\r\nHost: b\r\nX-Org: c\r\n"
        self.one(self.chunked(b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers), "Connection: close"))

    def expect(self, head, body):
        with socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=10 * harness.SLOW) as s:
            s.sendall(head)
            got = s.recv(65536)
            self.assertEqual(got, b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            got = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "), got)

    def test_h73_continue(self):
        body = chat()
        self.expect(self.head("Expect: 100-continue", "Connection: close", f"Content-Length: {len(body)}"), body)

    def test_h75_continue_for_chunks(self):
        body = chat()
        self.expect(self.head("Expect: 100-continue", "Connection: close", "Transfer-Encoding: chunked"),
                    b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    def test_h76_pipelined(self):
        got, answers, _ = self.send(self.get() + self.get("Connection: close"))
        self.assertEqual(answers, [200, 200], got)
        # in order: methods and paths that answer differently
        got, answers, _ = self.send((self.get() + self.get(path="/nowhere")) * 20 + self.get("Connection: close"))
        self.assertEqual(answers, [200, 404] * 20 + [200], got)

    def test_h76_many_pipelined(self):
        wire = self.get(path="/healthz") * 9999 + self.get("Connection: close", path="/healthz")
        got = b""
        with socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=20 * harness.SLOW) as s:
            s.setblocking(True)
            s.settimeout(20 * harness.SLOW)
            sent = 0
            while True:
                if sent < len(wire):
                    sent += s.send(wire[sent:sent + 65536])
                s.settimeout(20 * harness.SLOW if sent == len(wire) else 0.001)
                try:
                    piece = s.recv(1 << 20)
                except socket.timeout:
                    continue
                if not piece:
                    break
                got += piece
                s.settimeout(20 * harness.SLOW)
        self.assertEqual(len(STATUS.findall(got)), 10000)

    def test_h77_bytes_behind_a_stream(self):
        wire = self.post(body=chat("[[words=20 chunks=5 chunk_ms=20]]", stream=True))
        got, answers, _ = self.send(wire + self.get("Connection: close"))
        self.assertEqual(answers, [200, 200], got)
        self.assertLess(got.index(b"[DONE]"), got.rindex(b"HTTP/1.1 200"))

    def test_h78_upgrade(self):
        for protocol in ("h2c", "websocket"):
            got = self.one(self.get("Connection: Upgrade, close", f"Upgrade: {protocol}"))
            self.assertNotIn(b"101", got.split(b"\r\n")[0])

    def test_h79_connection_names_authorization(self):
        self.one(self.post("Connection: close, Authorization"))

    def test_h84_half_close(self):
        got, closed = self.tg.raw(self.post(body=chat("[[delay_ms=200]] hello")), half_close=True,
                                  seconds=10)
        self.assertEqual([int(s) for s in STATUS.findall(got)], [200], got)
        self.assertTrue(closed)

    def booked(self):
        return int(self.tg.sql("SELECT count(*) FROM tollgate.usage_charge")[0][0])

    def test_h85_reset(self):
        for more, directive in (({}, "[[delay_ms=300]] hello"),
                                ({"stream": True}, "[[words=200 chunks=100 chunk_ms=20]] hello")):
            with self.subTest(more=more):
                # what earlier tests called is in the books before this one counts
                harness.wait_until(lambda: self.tg.ready() and self.quiet(), 10, "quiet books")
                self.fake.clear()
                before, arrived = self.booked(), self.fake.stats()
                s = socket.create_connection((self.tg.data_host, self.tg.data_port), timeout=10 * harness.SLOW)
                s.sendall(self.post(body=chat(directive, **more)))
                if more:
                    self.assertTrue(s.recv(12).startswith(b"HTTP/1.1 200"))
                else:
                    harness.wait_until(lambda: self.fake.stats() != arrived, 5, "the provider to be called")
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
                harness.wait_until(self.tg.fake_calls, 10, "the upstream call to end")
                harness.wait_until(lambda: self.booked() > before, 10, "the call in the books")
                self.assertEqual(len(self.tg.fake_calls()), 1)
                self.assertEqual(self.booked(), before + 1)

    def quiet(self):
        before = self.booked()
        self.one(self.get("Connection: close"))
        return self.booked() == before

    def test_h89_null_is_absent(self):
        self.one(self.post("Connection: close", body=chat(max_tokens=None, n=None)))


if __name__ == "__main__":
    unittest.main()
