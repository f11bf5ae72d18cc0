"""Where a profile may lead and whom its secret may reach (security.md 3.1), over the control plane and a real call."""
import json
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

    def test_s53_s54_a_secret_opens_for_its_origin_alone(self):
        """Somebody who can write to the database points a profile at another host: nothing is sent there."""
        self.tg.setup_profile(self.org, "bound", models=["bound-model"])
        ask = lambda: self.tg.chat({"model": "bound-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
        harness.wait_until(lambda: ask().status == 200, 5, "the profile")
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
        harness.wait_until(lambda: ask().status == 200, 5, "the new secret")
        self.assertIn("Bearer fake-org-key-2", json.dumps(self.thief.last()))
        self.tg.sql(f"UPDATE tollgate.profile SET base_url = '{self.thief.base_url}/' WHERE name = 'bound'")
        self.tg.restart()
        self.assertStatus(ask(), 200)

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

    def test_the_base_url_of_a_profile_is_not_changed_in_place(self):
        self.tg.setup_profile(self.org, "fixed", models=["fixed-model"])
        status, envelope = self.org.admin("PATCH", "/profiles/fixed", {"base_url": self.thief.base_url})
        self.assertEqual((status, envelope["error"]["field"]), (400, "base_url"))

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
