"""The admin API from a terminal: every command with --json prints one envelope and nothing else on stdout."""
import json
import os
import unittest

import harness
from harness import MODEL


class Commands(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        assert cls.tg.chat("Hello", key=cls.org.key).status == 200
        route = {"match": {"alias": "fast"}, "targets": [{"provider": "openai_compatible", "model": MODEL}]}
        price = {"book": "sell", "lines": [{"class": "in_text", "price": "1.00", "per": 1000000},
                                           {"class": "out_text", "price": "2.00", "per": 1000000}]}
        for name, text in (("secret", "fake-cli-key\n"), ("bad", "bad\n"), ("route", json.dumps(route)), ("price", json.dumps(price))):
            with open(os.path.join(cls.tg.dir, name), "w") as f:
                f.write(text)

    def run_json(self, *args, status=0, **more):
        done = self.tg.cli(*args, "--json", **more)
        self.assertEqual(done.returncode, status, (args, done))
        envelope = json.loads(done.stdout)  # one object, or this fails
        self.assertEqual(set(envelope), {"data", "error", "meta"}, args)
        self.assertEqual(envelope["error"] is None, envelope["data"] is not None, args)
        if envelope["error"]:
            self.assertTrue(envelope["error"]["code"] and envelope["error"]["message"], args)
        self.assertNotIn("fake-cli-key", done.stdout + done.stderr)
        return envelope["data"] if status == 0 else envelope["error"] or envelope["data"]

    def test_orgs_and_keys(self):
        self.assertEqual(self.run_json("org", "create", "--slug", "beta")["slug"], "beta")
        self.assertEqual(self.run_json("org", "change", "beta", "--name", "Beta", "--tier", "free")["tier"], "free")
        self.assertEqual(self.run_json("org", "show", "beta")["name"], "Beta")
        self.assertIn("beta", [o["slug"] for o in self.run_json("org", "list")])
        key = self.run_json("key", "create", "--org", "beta", "--name", "k", "--rpm", "5", "--scopes", "inference,admin")
        self.assertTrue(key["key"].startswith("tg_"))
        shown = self.run_json("key", "show", "--org", "beta", key["id"])
        self.assertEqual((shown["limits"]["rpm"], shown.get("key")), (5, None))
        self.assertEqual(self.run_json("key", "revoke", "--org", "beta", key["id"])["status"], "revoked")
        self.assertEqual(len(self.run_json("key", "list", "--org", "beta")), 1)
        self.assertEqual(self.run_json("org", "show", "nobody", status=1)["code"], "org_not_found")

    def test_profiles_and_routes(self):
        connect = ("profile", "create", "--org", "acme", "--provider", "openai_compatible", "--base-url", self.fake.base_url)
        self.assertEqual(self.run_json(*connect, "--name", "one", "--secret-file", "secret")["name"], "one")
        self.run_json(*connect, "--name", "two", "--secret-file", "-", stdin="fake-cli-key\n")
        self.assertTrue(self.run_json("profile", "test", "--org", "acme", "one")["ok"])
        self.run_json("profile", "rotate", "--org", "acme", "one", "--secret-file", "bad")
        # A bad connection is what was asked about: the answer comes, and the exit status says it.
        self.assertEqual(self.run_json("profile", "test", "--org", "acme", "one", status=1)["reason"], "auth")
        self.assertEqual(self.run_json(*connect, "--name", "three", "--secret-file", "bad", status=1)["code"], "connection_failed")
        self.assertEqual(self.run_json("profile", "revoke", "--org", "acme", "one")["status"], "revoked")
        self.run_json("profile", "list", "--org", "acme")
        self.assertEqual(self.run_json("route", "put", "fast", "--org", "acme", "--file", "route")["name"], "fast")
        self.assertEqual(self.run_json("route", "show", "fast", "--org", "acme")["match"]["alias"], "fast")
        self.assertEqual(len(self.run_json("route", "list", "--org", "acme")), 1)
        self.run_json("route", "delete", "fast", "--org", "acme")
        self.assertEqual(self.run_json("route", "show", "fast", "--org", "acme", status=1)["code"], "not_found")
        self.run_json("explain", "--org", "acme", "--model", MODEL)

    def test_money(self):
        self.run_json("credit", "grant", "--org", "acme", "--amount", "1.00", "--reason", "test")
        self.run_json("credit", "top-up", "--org", "acme", "--amount", "2.00", "--reason", "test")
        self.assertGreaterEqual(len(self.run_json("credit", "grants", "--org", "acme")), 3)
        self.assertIn("available", self.run_json("credit", "show", "--org", "acme"))
        self.assertIn("debit", self.run_json("credit", "entries", "--org", "acme")[0])
        call = self.run_json("usage", "calls", "--org", "acme")[0]
        self.assertEqual(self.run_json("usage", "call", "--org", "acme", "--id", call["request_id"])["amount"], call["amount"])
        self.assertEqual(self.run_json("usage", "sums", "--org", "acme", "--group-by", "model")[0]["model"], MODEL)
        self.run_json("price", "list")
        self.run_json("model", "put", "openai_compatible", "a/model", "--capabilities", "text")
        self.run_json("price", "put", "openai_compatible", "a/model", "--file", "price")
        self.run_json("price", "show", "openai_compatible", "a/model")
        self.assertTrue(self.run_json("ledger", "verify")["ok"])
        self.run_json("vault", "status")
        self.run_json("migrate", "status")

    def test_usage_and_what_is_not_reachable(self):
        for args in (("frobnicate",), (), ("org",), ("org", "frob"), ("key", "list"), ("profile",), ("profile", "list"), ("route",),
                     ("route", "put", "x", "--org", "acme", "--file", "/nowhere"), ("credit",), ("usage",), ("price",), ("explain",),
                     ("usage", "call", "--org", "acme", "--id", "../credits"), ("org", "list", "--surprise"), ("migrate", "sideways"),
                     ("price", "put", "openai", "m"), ("credit", "top-up", "--org", "acme", "--amount", "1", "--reason", "r",
                                                      "--category", "promo"), ("org", "list", "--config", "/nowhere")):
            self.assertTrue(self.run_json(*args, status=2)["code"], args)
        free = f"127.0.0.1:{harness.free_port()}"
        self.run_json("org", "list", status=3, env={"TOLLGATE_ADMIN_LISTEN": free})
        self.run_json("org", "list", status=2, env={"TOLLGATE_ADMIN_TOKEN": ""})
        self.run_json("org", "list", status=1, env={"TOLLGATE_ADMIN_TOKEN": "fake-wrong-token-0000"})
        password = "fakepassword"
        done = self.tg.cli("ledger", "verify", "--json", env={"TOLLGATE_DATABASE_URL": f"postgres://x:{password}@{free}/x"})
        self.assertEqual(done.returncode, 3, done)
        self.assertNotIn(password, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
