"""Where a profile may lead and whom its secret may reach (security.md 3.1), over the control plane and a real call."""
import json
import socket
import unittest

import harness
from harness import Tollgate


class OwnAddresses(unittest.TestCase):
    def test_no_profile_leads_back_here_whatever_the_allow_list_says(self):
        with harness.Postgres() as cluster:
            with Tollgate(postgres=cluster, start=False) as tg:
                tg.env["TOLLGATE_EGRESS_ALLOW"] = "127.0.0.0/8,[::1/128]"
                tg.env["TOLLGATE_DATABASE_URL"] = (f"host=localhost port={cluster.port} user=tollgate_login "
                                                   f"dbname={tg.database}")
                tg.start()
                org = tg.setup_org("acme", platform=False, credits=None)
                connect = lambda url: org.admin("POST", "/profiles", {
                    "name": "loop", "provider": "openai_compatible", "base_url": url, "secret": "fake-org-key",
                    "validate": False})
                for port in (tg.data_port, tg.admin_port, cluster.port):
                    status, envelope = connect(f"http://127.0.0.1:{port}/v1")
                    self.assertEqual(status, 400, envelope)
                    self.assertEqual(envelope["error"]["code"], "egress_denied")
                    self.assertEqual(envelope["error"]["field"], "base_url")
                status, envelope = connect(f"http://[::1]:{cluster.port}/v1")
                self.assertEqual(status, 400, envelope)
                self.assertEqual(connect(tg.fake.base_url)[0], 201)

    def test_a_wildcard_listener_is_denied_at_every_address(self):
        with Tollgate(start=False) as tg:
            tg.env["TOLLGATE_EGRESS_ALLOW"] = "0.0.0.0/0"
            tg.env["TOLLGATE_LISTEN"] = "0.0.0.0:0"
            tg.start()
            org = tg.setup_org("acme", platform=False, credits=None)
            status, envelope = org.admin("POST", "/profiles", {
                "name": "loop", "provider": "openai_compatible", "base_url": f"http://127.0.0.1:{tg.data_port}",
                "secret": "fake-org-key", "validate": False})
            self.assertEqual(status, 400, envelope)


class Binding(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits=None)
        cls.thief = harness.FakeProvider()
        cls.addClassCleanup(cls.thief.close)
        cls.tg.env["TOLLGATE_EGRESS_ALLOW"] += f",127.0.0.1/32:{cls.thief.port}"
        cls.tg.restart()

    def setUp(self):
        super().setUp()
        self.thief.clear()

    def test_s53_s54_a_secret_opens_for_its_origin_alone(self):
        """Somebody who can write to the database points a profile at another host: nothing is sent there."""
        self.tg.setup_profile(self.org, "bound", models=["bound-model"])
        ask = lambda: self.tg.chat({"model": "bound-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.tg.sql(f"UPDATE tollgate.profile SET base_url = '{self.thief.base_url}' WHERE name = 'bound'")
        self.tg.restart()
        self.fake.clear()
        answer = ask()
        self.assertGreaterEqual(answer.status, 500, answer)
        self.assertEqual((self.thief.calls(), self.fake.calls()), ([], []))
        status, envelope = self.org.admin("POST", "/profiles/bound/test", {"action": "test_auth"})
        self.assertEqual((status, envelope["data"]["reason"]), (200, "needs_reconfiguration"))
        # Entered anew it is bound to the new place, and another path of the old one would have been no other origin.
        self.assertEqual(self.org.admin("POST", "/profiles/bound/rotate", {"secret": "fake-org-key-2"})[0], 200)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertIn("Bearer fake-org-key-2", json.dumps(self.thief.last()))
        self.tg.sql(f"UPDATE tollgate.profile SET base_url = '{self.thief.base_url}/' WHERE name = 'bound'")
        self.tg.restart()
        self.assertStatus(ask(), 200)

    def test_s55_a_test_of_the_connection_takes_the_same_way(self):
        """Stored while it was allowed, tested when it is not any more: nothing is sent, by no button."""
        self.tg.setup_profile(self.org, "narrowed", base_url=self.thief.base_url, models=["narrowed-model"])
        allowed = self.tg.env["TOLLGATE_EGRESS_ALLOW"]
        self.tg.restart(TOLLGATE_EGRESS_ALLOW=f"127.0.0.1/32:{self.fake.port}")
        try:
            for action in ("test_auth", "list_models"):
                status, envelope = self.org.admin("POST", "/profiles/narrowed/test", {"action": action})
                self.assertEqual((status, envelope["data"]["ok"], envelope["data"]["reason"]), (200, False, "egress"), envelope)
            answer = self.tg.chat({"model": "narrowed-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "no_route"), answer)
            status, envelope = self.org.admin("POST", "/profiles", {
                "name": "again", "provider": "openai_compatible", "base_url": self.thief.base_url, "secret": "fake-org-key"})
            self.assertEqual((status, envelope["error"]["code"]), (400, "egress_denied"), envelope)
            self.assertEqual(self.thief.calls(), [])
        finally:
            self.tg.restart(TOLLGATE_EGRESS_ALLOW=allowed)
            self.thief.clear()

    def test_s56_s57_no_other_address_can_be_given(self):
        """No webhook, no discovery document, no callback: every field that could hold one is unknown."""
        route = {"match": {"alias": "hook"}, "targets": [{"provider": "openai_compatible", "model": harness.MODEL}]}
        url = "http://169.254.169.254/"
        for name in ("webhook", "webhook_url", "callback_url", "jwks_uri", "issuer", "oidc", "proxy", "api_base", "base_url", "url"):
            for method, path, body in (("POST", "/api-keys", {"name": "k", "role": "developer"}), ("PUT", "/routes/hook", route),
                                       ("PATCH", "", {"name": "Acme"})):
                status, envelope = self.org.admin(method, path, {**body, name: url})
                self.assertEqual((status, envelope["error"]["field"]), (400, name), (path, envelope))

    def test_g12_s58_an_address_in_a_call_is_never_asked(self):
        """image_url and its like go to the provider as they are; a base URL in a call is refused or means nothing."""
        trap = socket.socket()
        trap.bind(("127.0.0.1", 0))
        trap.listen(8)
        trap.setblocking(False)
        self.addCleanup(trap.close)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/cat.png"
        self.tg.setup_profile(self.org, "seeing", models=["seeing-model"])
        body = {"model": "seeing-model", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": url}},
            {"type": "file", "file": {"file_url": url}}]}]}
        ask = lambda **more: self.tg.chat({**body, **more}, key=self.org.key)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertIn(url, self.fake.last()["body"])
        for name in ("api_base", "base_url", "endpoint", "custom_llm_provider", "provider_url", "proxy"):
            answer = ask(**{name: url})
            self.assertIn(answer.status, (200, 400), (name, answer))
        for name in ("x-portkey-custom-host", "x-api-base", "x-base-url", "x-forwarded-host", "x-tollgate-base-url", "forwarded"):
            answer = self.tg.chat(body, key=self.org.key, headers={name: url})
            self.assertIn(answer.status, (200, 400), (name, answer))
        with self.assertRaises(BlockingIOError):
            trap.accept()
        self.assertEqual(self.thief.calls(), [])

    def test_s59_nothing_a_caller_says_ends_a_header(self):
        self.tg.setup_profile(self.org, "clean", models=["clean"])
        plain = {"messages": [{"role": "user", "content": "Hi"}]}
        self.tg.settled()
        self.assertStatus(self.tg.chat({"model": "clean", **plain}, key=self.org.key), 200)
        for model in ("clean\r\nX-Evil: 1", "clean\nX-Evil: 1", "clean\0", "clean\r\n\r\nGET / HTTP/1.1\r\n\r\n"):
            answer = self.tg.chat({"model": model, **plain}, key=self.org.key)
            self.assertIn(answer.status, (200, 400, 404), (model, answer))
            self.assertNotIn("x-evil", {name.lower() for name in answer.headers.keys()})
            if answer.status == 200:
                self.assertNotIn("x-evil", self.fake.last()["head"].lower())
        for name in (b"x-tollgate-agent", b"x-tollgate-intent", b"x-tollgate-session", b"traceparent", b"user-agent", b"openai-beta"):
            for value in (b"a\rX-Evil: 1", b"a\x00b", b"a\x7fb", b"a\x0bb"):
                body = b'{"model":"clean","messages":[{"role":"user","content":"Hi"}]}'
                got, _ = self.tg.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + self.org.key.encode() +
                                     b"\r\nContent-Type: application/json\r\nConnection: close\r\n" + name + b": " + value +
                                     b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                self.assertRegex(got, rb"^HTTP/1.1 (400|404) ", (name, value))
                self.assertNotIn(b"x-evil", got.lower())
        for org in ("acme%0d%0aX-Evil:%201", "acme%00", "acme%0a"):
            self.assertIn(self.tg.admin("GET", f"/orgs/{org}")[0], (400, 404))
        for secret in ("fake\r\nX-Evil: 1", "fake\nkey", "fake\0key", "fake key", "fake\u00e9"):
            status, envelope = self.org.admin("POST", "/profiles/clean/rotate", {"secret": secret})
            self.assertEqual((status, envelope["error"]["field"]), (400, "secret"))
        self.assertNotIn("x-evil", json.dumps(self.fake.calls()).lower())

    def test_s60_names_are_ascii(self):
        for host in ("b\u00fccher.example", "\uff41.example", "\u2460.example", "ex\u00adample.com", "\u0430pple.example"):
            status, envelope = self.org.admin("POST", "/profiles", {
                "name": "idn", "provider": "openai_compatible", "base_url": f"https://{host}/v1", "secret": "fake-org-key", "validate": False})
            self.assertEqual((status, envelope["error"]["field"]), (400, "base_url"), envelope)

    def test_g15_who_a_provider_says_to_ask_is_not_asked(self):
        """A 401 with another realm, a redirect, a Refresh: the secret goes nowhere else."""
        self.tg.setup_profile(self.org, "realm", models=["realm-model"])
        body = {"model": "realm-model", "messages": [{"role": "user", "content": "Hi"}]}
        self.tg.settled()
        self.assertStatus(self.tg.chat(body, key=self.org.key), 200)
        rule = {"key": "fake-org-key", "model": "realm-model"}
        for told in ({"status": 401, "header": f'WWW-Authenticate:Bearer realm="{self.thief.base_url}/token"'},
                     {"redirect": self.thief.base_url + "/chat/completions"},
                     {"header": f"Refresh:0;url={self.thief.base_url}"}, {"header": f"Alt-Svc:h2=\":{self.thief.port}\""}):
            self.fake.clear()
            self.fake.control(**rule, **told)
            self.org.admin("POST", "/profiles/realm/rotate", {"secret": "fake-org-key"})  # ends the cooldown of the case before
            self.tg.settled()
            self.tg.chat(body, key=self.org.key)
            self.assertEqual(len(self.fake.calls()), 1, "the call was to go out")
        self.assertEqual(self.thief.calls(), [])

    def test_only_named_headers_of_a_provider_come_back(self):
        """G16 and security.md 3.3: what a provider sets is for us to read; the caller gets ours."""
        self.tg.setup_profile(self.org, "chatty", models=["chatty-model"])
        body = {"model": "chatty-model", "messages": [{"role": "user", "content": "Hi"}]}
        self.tg.settled()
        self.assertStatus(self.tg.chat(body, key=self.org.key), 200)
        for name in ("x-goog-api-key", "authorization", "set-cookie", "openai-organization", "server", "x-request-id", "via", "location",
                     "access-control-allow-origin", "x-tollgate-cost", "x-should-retry", "strict-transport-security", "x-ratelimit-limit-requests"):
            for stream in (False, True):
                self.fake.control(key="fake-org-key", model="chatty-model", header=f"{name}:fake-told-by-provider")
                answer = self.tg.chat(body, key=self.org.key, stream=stream)
                self.assertStatus(answer, 200)
                self.assertNotIn("fake-told-by-provider", str(answer.headers), name)
                self.assertRegex(answer.headers["x-request-id"], "^req_")
        self.assertEqual(answer.headers["cache-control"], "no-cache")

    def test_numbers_and_names_that_cannot_be(self):
        route = {"match": {"alias": "odd"}, "targets": [{"provider": "openai_compatible", "model": harness.MODEL}]}
        for budget, status in ((-1, 400), (-0.5, 400), (1.5, 400), (2, 400), ("0.2", 400), (1e-3, 200), (0, 200), (1.0, 200), (0.25, 200)):
            got, envelope = self.org.admin("PUT", "/routes/odd", {**route, "policy": {"retry_budget": budget}})
            self.assertEqual(got, status, (budget, envelope))
        for name in ("a%0db", "a%7f", "%ff", "a" * 257):
            self.assertEqual(self.tg.admin("PUT", f"/models/openai/{name}", {"capabilities": ["text"]})[0], 400, name)

    def test_the_audit_log_names_the_key_that_did_it(self):
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "auditee", "role": "admin", "scopes": ["admin"]})
        made = {"name": "audited", "provider": "openai_compatible", "base_url": self.fake.base_url, "validate": False}
        self.assertEqual(self.org.admin("POST", "/profiles", made, token=key["key"])[0], 201)
        actor = json.loads(self.tg.sql("SELECT actor FROM tollgate.audit WHERE action = 'profile.create' ORDER BY seq DESC")[0][0])
        self.assertEqual(actor, {"type": "api_key", "id": key["id"], "name": "auditee", "role": "admin"})

    def test_s54_a_profile_that_moves_takes_no_secret_along(self):
        self.tg.setup_profile(self.org, "moved", secret="fake-left-behind", models=["moved-model"])
        status, envelope = self.org.admin("PATCH", "/profiles/moved", {"base_url": self.thief.base_url})
        self.assertEqual((status, envelope["data"]["secret"], envelope["data"]["status"]), (200, None, "disabled"))
        self.org.admin("POST", "/profiles/moved/test", {"action": "list_models"})  # asks the new endpoint, as nobody
        self.assertNotIn("fake-left-behind", json.dumps(self.thief.last()))

    def test_a_key_of_the_wrong_form_is_refused_when_it_is_rotated_too(self):
        made = {"name": "form", "provider": "openai", "secret": "sk-fake-0000000000000000", "validate": False}
        self.assertEqual(self.org.admin("POST", "/profiles", {**made, "secret": "gsk_fake-000000"})[0], 400)
        self.assertEqual(self.org.admin("POST", "/profiles", made)[0], 201)
        before = self.org.admin("GET", "/profiles/form")[1]["data"]["secret"]
        for secret in ("gsk_fake-0000000", "", "sk-fake 000", "sk-fake\u0000", "sk-\u00e4" + "0" * 20, "sk-" + "0" * 5000, 7, None):
            status, envelope = self.org.admin("POST", "/profiles/form/rotate", {"secret": secret})
            self.assertEqual((status, envelope["error"]["field"]), (400, "secret"), envelope)
        self.assertEqual(self.org.admin("GET", "/profiles/form")[1]["data"]["secret"], before)
        self.assertEqual(self.org.admin("POST", "/profiles/form/rotate", {"secret": "sk-fake-1111111111111111"})[0], 200)
        self.assertEqual(self.org.admin("POST", "/profiles/nobody/rotate", {"secret": "sk-fake-1111111111111111"})[0], 404)
        for secret in ("", " "):  # an endpoint that needs none is connected without the field
            status, envelope = self.org.admin("POST", "/profiles", {
                "name": "none", "provider": "openai_compatible", "base_url": self.fake.base_url, "secret": secret, "validate": False})
            self.assertEqual(status, 400, envelope)


if __name__ == "__main__":
    unittest.main()
