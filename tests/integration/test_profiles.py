"""Provider profiles and routes in the control plane, and the same from the CLI."""
import json
import os

import harness
from harness import MODEL


class Profiles(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")

    def connect(self, **more):
        return self.org.admin("POST", "/profiles", {"name": "p", "provider": "openai_compatible",
                                                    "base_url": self.fake.base_url, "secret": "fake-org-key", **more})

    def test_connect_is_validated_and_masked(self):
        status, envelope = self.connect(name="checked")
        self.assertEqual(status, 201, envelope)
        made = envelope["data"]
        self.assertEqual(made["health"]["status"], "ok")
        self.assertGreater(made["health"]["models"], 0)
        self.assertEqual(made["credential_source"], "organization_auth_profile")
        self.assertNotIn("fake-org-key", json.dumps(envelope))
        self.assertRegex(made["secret"]["fingerprint"], r"^[0-9a-f]{8}$")
        listed = self.org.admin("GET", "/profiles")[1]["data"]
        self.assertNotIn("fake-org-key", json.dumps(listed))

    def test_a_connection_that_does_not_validate_is_not_stored(self):
        status, envelope = self.connect(name="broken", secret="bad")
        self.assertEqual(status, 422, envelope)
        self.assertEqual(envelope["error"]["code"], "connection_failed")
        self.assertTrue(envelope["error"]["hint"])
        self.assertEqual(self.org.admin("GET", "/profiles/broken")[0], 404)

    def test_bad_profiles(self):
        for change, field in (({"provider": "nobody"}, "provider"), ({"provider": "anthropic", "base_url": "https://example.com"}, "base_url"),
                              ({"base_url": "http://169.254.169.254/"}, "base_url"), ({"base_url": "http://127.0.0.1:1/"}, "base_url"),
                              ({"base_url": "file:///etc/passwd"}, "base_url"), ({"base_url": "http://a@b/"}, "base_url"),
                              ({"billing_source": "platform"}, "billing_source"), ({"models": []}, "models"),
                              ({"secret": "with space"}, "secret"), ({"credential_source": "platform_env"}, "credential_source"),
                              ({"credential_source": "platform_vault"}, "credential_source"), ({"priority": -1}, "priority"), ({"name": "a/b"}, None)):
            with self.subTest(change=change):
                status, envelope = self.connect(**{"name": "bad", **change})
                self.assertEqual(status, 400, envelope)
                if field:
                    self.assertEqual(envelope["error"]["field"], field)
        self.assertEqual(self.org.admin("GET", "/profiles/bad")[0], 404)

    def test_rotate_test_disable_revoke(self):
        self.assertEqual(self.connect(name="life", models=["life-model"], validate=False)[0], 201)
        ask = lambda: self.tg.chat({"model": "life-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertEqual(self.org.admin("POST", "/profiles/life/rotate", {"secret": "fake-rotated-key"})[0], 200)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertIn("fake-rotated-key", json.dumps(self.fake.last()))
        status, envelope = self.org.admin("POST", "/profiles/life/test", {"action": "test_auth"})
        self.assertEqual((status, envelope["data"]["ok"]), (200, True), envelope)
        status, envelope = self.org.admin("POST", "/profiles/life/test", {"action": "list_models"})
        self.assertGreater(len(envelope["data"]["detail"]["ids"]), 0)
        self.assertEqual(self.org.admin("PATCH", "/profiles/life", {"status": "disabled"})[0], 200)
        self.tg.settled()
        self.assertNotEqual(ask().status, 200)
        self.assertEqual(self.org.admin("PATCH", "/profiles/life", {"status": "active"})[0], 200)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertEqual(self.org.admin("DELETE", "/profiles/life")[0], 200)
        self.tg.settled()
        self.assertStatus(ask(), 404)
        self.assertEqual(self.tg.sql("SELECT count(*) FROM tollgate.secret s JOIN tollgate.profile p "
                                     "ON p.id = s.id WHERE p.name = 'life'"), [["0"]])

    def test_bad_routes_are_refused_when_written(self):
        good = {"match": {"alias": "fast"}, "targets": [{"provider": "openai_compatible", "model": MODEL}]}
        for change in ({"targets": []}, {"match": {}}, {"targets": [{"profile": "nobody", "model": "m"}]},
                       {"targets": [{"provider": "nobody", "model": "m"}]}, {"targets": [{"model": "m"}]},
                       {"policy": {"choice": "weighted"}}, {"policy": {"max_attempts": 0}}, {"policy": {"max_cost": "1"}},
                       {"policy": {"surprise": 1}}, {"surprise": 1}):
            with self.subTest(change=change):
                status, envelope = self.org.admin("PUT", "/routes/fast", {**good, **change})
                self.assertEqual(status, 400, envelope)
        self.assertEqual(self.org.admin("PUT", "/routes/fast", good)[0], 200)
        self.assertEqual(self.org.admin("PUT", "/routes/again", good)[0], 409)
        self.assertEqual(self.org.admin("GET", "/routes/fast")[1]["data"]["policy"]["max_attempts"], 3)
        self.assertEqual(self.org.admin("DELETE", "/routes/fast")[0], 200)
        self.assertEqual(self.org.admin("GET", "/routes/fast")[0], 404)

    def test_what_cannot_be_a_profile_is_never_tried(self):
        self.connect(name="named", validate=False)
        for bad, field in (({"name": "a b"}, "name"), ({"name": "a/b"}, "name"), ({"name": "\u00e9"}, "name"), ({"name": "a:b"}, "name"),
                           ({"models": ["a\0b"]}, "models")):
            before, taken = self.fake.stats()["models"], self.tg.sql("SELECT sum(cardinality(taken)) FROM tollgate.credential_use")
            for method, path, body in (("POST", "/profiles", {"name": "n", "provider": "openai_compatible", "base_url": self.fake.base_url,
                                                              "secret": "fake-org-key", **bad}), ("PATCH", "/profiles/named", bad)):
                with self.subTest(method=method, **bad):
                    status, envelope = self.org.admin(method, path, body)
                    self.assertEqual((status, envelope["error"]["code"], envelope["error"]["field"]), (400, "invalid_field", field))
            self.assertEqual(self.fake.stats()["models"], before)
            self.assertEqual(self.tg.sql("SELECT sum(cardinality(taken)) FROM tollgate.credential_use"), taken)

    def test_lists_that_no_table_has_page_too(self):
        self.assertEqual(self.connect(name="lists-models", models=["m-%d" % i for i in range(70)], validate=False)[0], 201)
        self.tg.settled()
        self.assertGreaterEqual(len(self.org.admin("GET", "/models?limit=200")[1]["data"]), 70)
        for ask, path, key in ((self.org.admin, "/models", lambda m: (m["profile"], m["id"])), (self.tg.admin, "/providers", lambda p: p["id"])):
            status, envelope = ask("GET", path + "?limit=200")
            self.assertEqual((status, envelope["meta"]["next_cursor"]), (200, None))
            all_, seen, cursor = [key(x) for x in envelope["data"]], [], ""
            while cursor is not None:
                status, envelope = ask("GET", path + "?limit=7" + (f"&cursor={cursor}" if cursor else ""))
                self.assertEqual(status, 200, envelope)
                self.assertLessEqual(len(envelope["data"]), 7)
                seen += [key(x) for x in envelope["data"]]
                cursor = envelope["meta"]["next_cursor"]
            self.assertEqual(seen, all_)
            self.assertEqual(len(ask("GET", path)[1]["data"]), min(50, len(all_)))
            for bad in ("limit=0", "limit=201", "cursor=c2d31", "cursor=c6d", "cursor=x", "colour=red"):
                self.assertEqual(ask("GET", f"{path}?{bad}")[0], 400, bad)
        self.assertEqual(self.org.admin("DELETE", "/profiles/lists-models")[0], 200)

    def test_routes_page_newest_first(self):
        names = ["m-first", "z-second", "a-third", "k-fourth"]
        for name in names:
            self.assertEqual(self.org.admin("PUT", f"/routes/{name}", {"match": {"alias": name}, "targets": [
                {"provider": "openai_compatible", "model": "m"}]})[0], 200)
        seen, cursor = [], ""
        while True:
            status, envelope = self.org.admin("GET", "/routes?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(status, 200, envelope)
            seen += [r["name"] for r in envelope["data"]]
            cursor = envelope["meta"].get("next_cursor")
            if not cursor:
                break
        self.assertEqual([n for n in seen if n in names], names[::-1])
        self.assertEqual(len(seen), len(set(seen)))
        for name in names:
            self.assertEqual(self.org.admin("DELETE", f"/routes/{name}")[0], 200)

    def test_lists_page(self):
        for i in range(5):
            self.assertEqual(self.connect(name=f"page-{i}", validate=False)[0], 201)
        seen, cursor = [], ""
        while True:
            status, envelope = self.org.admin("GET", "/profiles?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(status, 200, envelope)
            self.assertLessEqual(len(envelope["data"]), 2)
            seen += [p["name"] for p in envelope["data"]]
            cursor = envelope["meta"].get("next_cursor")
            if not cursor:
                break
        self.assertEqual(len(seen), len(set(seen)))
        self.assertGreaterEqual(len(seen), 5)
        self.assertEqual(self.org.admin("GET", "/profiles?limit=0")[0], 400)
        self.assertEqual(self.org.admin("GET", "/profiles?colour=red")[0], 400)

    def test_the_same_from_the_terminal(self):
        secret = os.path.join(self.tg.dir, "secret")
        with open(secret, "w") as f:
            f.write("fake-cli-key\n")
        done = self.tg.cli("profile", "create", "--org", "acme", "--name", "cli", "--provider", "openai_compatible",
                           "--base-url", self.fake.base_url, "--models", "cli-model", "--secret-file", secret, "--json")
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        envelope = json.loads(done.stdout)
        self.assertEqual(envelope["data"]["name"], "cli")
        self.assertIsNone(envelope["error"])
        self.assertEqual(self.tg.cli("profile", "list", "--org", "acme").returncode, 0)
        cli = lambda *words, stdin=None: self.tg.cli("profile", *words, "--org", "acme", "--json", stdin=stdin)
        data = lambda done: json.loads(done.stdout)["data"]
        self.assertEqual(data(cli("show", "cli"))["name"], "cli")
        changed = data(cli("change", "cli", "--priority", "7", "--models", "cli-model,cli-other", "--status", "disabled"))
        self.assertEqual((changed["priority"], changed["models"], changed["status"]), (7, ["cli-model", "cli-other"], "disabled"))
        self.assertEqual(data(cli("change", "cli", "--status", "active", "--name", "cli"))["status"], "active")
        self.assertTrue(data(cli("default", "cli"))["default"])
        for action in ("test_auth", "list_models"):
            done = cli("test", "cli", "--action", action)
            self.assertEqual((done.returncode, data(done)["action"], data(done)["ok"]), (0, action, True))
        done = cli("test", "cli", "--action", "test_text", "--model", "demo-model")
        self.assertEqual((done.returncode, data(done)["detail"]["model"]), (0, "demo-model"), done.stdout)
        self.assertEqual(cli("test", "cli", "--action", "test_smell").returncode, 1)
        self.assertEqual(cli("rotate", "cli", "--secret-file", "-", "--validate", stdin="bad\n").returncode, 1)
        self.assertEqual(cli("rotate", "cli", "--secret-file", "-", "--validate", stdin="fake-next-key\n").returncode, 0)
        self.assertEqual(cli("rotate", "cli", "--secret-file", "-", stdin="bad\n").returncode, 0)
        done = cli("test", "cli")
        self.assertEqual((done.returncode, data(done)["reason"]), (1, "auth"))
        self.assertEqual(cli("rotate", "cli", "--secret-file", "-", stdin="fake-next-key\n").returncode, 0)
        self.assertIsNone(data(cli("change", "cli", "--base-url", "https://models.example/v1"))["secret"])
        self.assertEqual(data(cli("change", "cli", "--base-url", self.fake.base_url, "--status", "active"))["secret"], None)
        for usage in (("change", "cli"), ("change", "--name", "x"), ("test",), ("default",), ("change", "cli", "--priority", "x"), ("test", "cli", "--x")):
            self.assertEqual(self.tg.cli("profile", *usage, "--org", "acme").returncode, 2, usage)
        self.assertEqual(data(cli("create", "--name", "cli-2", "--provider", "openai_compatible", "--base-url", self.fake.base_url,
                                  "--no-secret", "--no-validate"))["secret"], None)
        self.assertEqual(data(cli("revoke", "cli-2"))["status"], "revoked")
        missing = self.tg.cli("profile", "show", "--org", "acme", "nobody", "--json")
        self.assertEqual(missing.returncode, 1, missing)
        self.assertEqual(json.loads(missing.stdout)["error"]["code"], "profile_not_found")
        self.assertEqual(self.tg.cli("profile", "frobnicate", "--org", "acme").returncode, 2)
        explained = self.tg.cli("explain", "--org", "acme", "--model", "cli-model", "--json")
        self.assertEqual(json.loads(explained.stdout)["data"]["targets"][0]["profile"], "cli")
        away = self.tg.cli("profile", "list", "--org", "acme", env={"TOLLGATE_ADMIN_LISTEN": f"127.0.0.1:{harness.free_port()}"})
        self.assertEqual(away.returncode, 3)


if __name__ == "__main__":
    import unittest
    unittest.main()
