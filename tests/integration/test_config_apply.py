"""`tollgate plan` and `tollgate apply`: an org's configuration as one file. Every secret in here is made up."""
import json
import os
import random
import re
import signal
import threading
import unittest

import harness
from harness import Tollgate

SECRET = "fake-declared-canary-secret"
ROTATED = "fake-declared-canary-rotated"


class Document(harness.Case):
    """An org per test, named after it."""

    def setUp(self):
        super().setUp()
        self.slug = re.sub(r"[^a-z0-9]+", "-", self._testMethodName)[:60].strip("-")
        self.org = self.tg.setup_org(self.slug, platform=False, credits=None)
        self.own_key = {"kind": "key", "name": "test"}

    def profile(self, name="main", **more):
        return {"name": name, "provider": "openai_compatible", "base_url": self.fake.base_url, "secret": SECRET,
                "validate": False, **more}

    def document(self, **more):
        return {"schema_version": 1, "org": self.slug, **more}

    def full(self):
        return self.document(
            profiles=[self.profile(models=["m-*"], priority=5, default=True), self.profile("spare", secret=None)],
            agents=[{"name": "bot", "default_model": "fast", "description": "Answers mail"}],
            routes=[{"name": "fast", "match": {"alias": "fast"}, "targets": [{"profile": "main", "model": "m-1"},
                                                                             {"profile": "spare", "model": "m-2"}]},
                    {"name": "bot", "match": {"agent": "bot"}, "targets": [{"profile": "main", "model": "m-1"}],
                     "policy": {"max_attempts": 2}}],
            keys=[{"name": "backend", "scopes": ["inference"], "models": ["fast"], "limits": {"rpm": 60},
                   "expires_at": "2099-01-01T00:00:00+01:00"}])

    def plan(self, config, **more):
        return self.org.admin("POST", "/config/plan", {"config": config, **more})

    def apply(self, config, **more):
        return self.org.admin("POST", "/config/apply", {"config": config, **more})

    def planned(self, config, **more):
        status, envelope = self.plan(config, **more)
        self.assertEqual(status, 200, envelope)
        return {(a["kind"], a["name"]): a for a in envelope["data"]["actions"] if a["action"] != "none"}

    def applied(self, config, **more):
        status, envelope = self.apply(config, **more)
        self.assertEqual(status, 200, envelope)
        return envelope["data"]

    def rows(self):
        """Without what may stay: the org's data key, made when its first secret is sealed, what was taken of the hour's
        credential operations, and the audit log's word on a connection that did not validate."""
        may_stay = ("tollgate_vault.org_dek", "tollgate_vault.org_kek", "tollgate_vault.org_gate", "tollgate.credential_use", "tollgate.audit")
        return {name: n for name, n in self.tg.row_counts().items() if name not in may_stay}

    def audited(self):
        return [row["action"] for row in self.org.admin("GET", "/audit?limit=200")[1]["data"]]

    def log(self):
        with open(self.tg.log, errors="replace") as f:
            return f.read()

    def version(self):
        return int(self.tg.sql(f"SELECT version FROM tollgate.org WHERE slug = '{self.slug}'")[0][0])

    def refused(self, answer, status, code, field=None):
        self.assertEqual((answer[0], answer[1]["error"]["code"]), (status, code), answer)
        if field is not None:
            self.assertEqual(answer[1]["error"].get("field"), field, answer)
        return answer[1]["error"]


class Apply(Document):
    def test_from_nothing_and_again(self):
        before = self.rows()
        planned = self.plan(self.full())[1]["data"]
        self.assertEqual(planned["summary"], {"create": 6, "update": 0, "delete": 0, "none": 0})
        self.assertEqual(planned["unmanaged"], [self.own_key])
        self.assertEqual(self.rows(), before, "a plan writes nothing")
        done = self.applied(self.full(), version=planned["version"])
        self.assertTrue(done["applied"])
        self.assertEqual([k["name"] for k in done["keys"]], ["backend"])
        self.assertRegex(done["keys"][0]["key"], r"^tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$")
        # It is what was asked for, and it works.
        profile = self.org.admin("GET", "/profiles/main")[1]["data"]
        self.assertEqual({k: profile[k] for k in ("models", "priority", "default", "status", "base_url", "provider")},
                         {"models": ["m-*"], "priority": 5, "default": True, "status": "active", "base_url": self.fake.base_url,
                          "provider": "openai_compatible"})
        self.assertIsNone(self.org.admin("GET", "/profiles/spare")[1]["data"]["secret"])
        self.assertEqual(self.org.admin("GET", "/agents/bot")[1]["data"]["route"], "bot")
        self.assertEqual(self.org.admin("GET", "/routes/bot")[1]["data"]["policy"]["max_attempts"], 2)
        key = self.org.admin("GET", f"/api-keys/{done['keys'][0]['id']}")[1]["data"]
        self.assertEqual((key["models"], key["limits"], key["expires_at"]),
                         (["fast"], {"rpm": 60, "tpm": None}, "2098-12-31T23:00:00.000000Z"))
        ask = lambda: self.tg.chat({"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}, key=done["keys"][0]["key"])
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertIn(SECRET, json.dumps(self.fake.last()))
        # Again: nothing, and nothing said.
        rows, version, audited = self.rows(), self.version(), self.audited()
        again = self.applied(self.full())
        self.assertEqual(again["summary"], {"create": 0, "update": 0, "delete": 0, "none": 6})
        self.assertEqual((again["applied"], again["keys"], again["version"]), (False, [], version))
        self.assertEqual((self.rows(), self.version(), self.audited()), (rows, version, audited))

    def test_drift_is_shown_and_mended(self):
        self.applied(self.full())
        self.assertEqual(self.org.admin("PATCH", "/profiles/main", {"priority": 7, "models": ["other"]})[0], 200)
        self.assertEqual(self.org.admin("PUT", "/agents/bot", {})[0], 200)
        self.assertEqual(self.org.admin("DELETE", "/routes/fast")[0], 200)
        self.assertEqual(self.org.admin("PUT", "/agents/stranger", {})[0], 200)
        planned = self.plan(self.full())[1]["data"]
        changed = {a["name"]: (a["action"], {c["field"]: (c["before"], c["after"]) for c in a["changes"]})
                   for a in planned["actions"] if a["action"] == "update"}
        self.assertEqual(changed, {
            "main": ("update", {"priority": (7, 5), "models": (["other"], ["m-*"])}),
            "bot": ("update", {"default_model": (None, "fast"), "description": (None, "Answers mail")})})
        self.assertEqual(planned["summary"], {"create": 1, "update": 2, "delete": 0, "none": 3})
        self.assertEqual(planned["unmanaged"], [{"kind": "agent", "name": "stranger"}, self.own_key])
        self.applied(self.full())
        self.assertEqual(self.planned(self.full()), {})
        self.assertEqual(self.org.admin("GET", "/agents/stranger")[0], 200)

    def test_a_changed_secret_is_seen_and_never_shown(self):
        config = self.document(profiles=[self.profile(models=["declared-model"])])
        self.applied(config)
        fingerprint = self.org.admin("GET", "/profiles/main")[1]["data"]["secret"]["fingerprint"]
        config["profiles"][0]["secret"] = ROTATED
        status, envelope = self.plan(config)
        change = self.planned(config)["profile", "main"]
        self.assertEqual(change["changes"], [{"field": "secret", "before": change["changes"][0]["before"], "after": "(new)"}])
        self.assertNotIn(ROTATED, json.dumps(envelope))
        self.assertEqual(self.org.admin("GET", "/profiles/main")[1]["data"]["secret"]["fingerprint"], fingerprint)
        done = self.applied(config)
        self.assertNotIn(ROTATED, json.dumps(done))
        profile = self.org.admin("GET", "/profiles/main")[1]["data"]
        self.assertNotEqual(profile["secret"]["fingerprint"], fingerprint)
        self.assertEqual(self.planned(config), {})
        ask = lambda: self.tg.chat({"model": "declared-model", "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.assertIn(ROTATED, json.dumps(self.fake.last()))
        # Rotated behind its back: drift, of which no more is told than that.
        self.assertEqual(self.org.admin("POST", "/profiles/main/rotate", {"secret": "fake-behind-its-back"})[0], 200)
        self.assertEqual([c["field"] for c in self.planned(config)["profile", "main"]["changes"]], ["secret"])
        # A document that says nothing of the secret leaves it alone.
        del config["profiles"][0]["secret"]
        self.assertEqual(self.planned(config), {})

    def test_a_secret_that_does_not_open_is_mended(self):
        config = self.document(profiles=[self.profile(), self.profile("other")])
        self.applied(config)
        self.tg.sql("UPDATE tollgate.secret SET sealed = overlay(sealed PLACING '\\xffffffff'::bytea FROM 120) WHERE id = "
                    f"(SELECT id FROM tollgate.profile WHERE name = 'main' AND org_id = '{self.org.id}')")
        self.assertEqual(list(self.planned(config)), [("profile", "main")])
        self.applied(config)
        self.assertEqual(self.planned(config), {})

    def test_a_rename_is_a_new_one_and_the_old_is_told(self):
        config = self.document(agents=[{"name": "old"}], profiles=[self.profile()])
        self.applied(config)
        config["agents"][0]["name"] = "new"
        planned = self.plan(config)[1]["data"]
        self.assertEqual(planned["summary"], {"create": 1, "update": 0, "delete": 0, "none": 1})
        self.assertIn({"kind": "agent", "name": "old"}, planned["unmanaged"])
        self.applied(config, prune=True)
        self.assertEqual(self.org.admin("GET", "/agents/old")[0], 404)
        self.assertEqual(self.org.admin("GET", "/agents/new")[0], 200)

    def test_prune_takes_its_own_and_nothing_else(self):
        self.applied(self.full())
        self.assertEqual(self.org.admin("PUT", "/agents/by-hand", {})[0], 200)
        self.applied(self.document(managed_by="elsewhere", agents=[{"name": "theirs"}]))
        # Made again by hand since: no longer the document's work.
        self.assertEqual(self.org.admin("DELETE", "/routes/fast")[0], 200)
        self.assertEqual(self.org.admin("PUT", "/routes/fast", {"match": {"alias": "fast"}, "targets": [
            {"provider": "openai", "model": "m"}]})[0], 200)
        small = self.document(profiles=[self.profile("spare", secret=None)])
        self.assertEqual(self.planned(small), {})
        self.assertEqual({k for k, a in self.planned(small, prune=True).items() if a["action"] == "delete"},
                         {("profile", "main"), ("agent", "bot"), ("route", "bot"), ("key", "backend")})
        done = self.applied(small, prune=True)
        self.assertEqual(done["summary"], {"create": 0, "update": 0, "delete": 4, "none": 1})
        left = {(u["kind"], u["name"]) for u in self.plan(small)[1]["data"]["unmanaged"]}
        self.assertEqual(left, {("agent", "by-hand"), ("agent", "theirs"), ("route", "fast"), ("key", "test")})
        self.assertEqual(self.applied(small, prune=True)["applied"], False)

    def test_a_profile_that_goes_elsewhere_is_a_new_one(self):
        config = self.document(profiles=[self.profile(default=True)])
        self.applied(config)
        was = self.org.admin("GET", "/profiles/main")[1]["data"]
        config["profiles"][0]["base_url"] = self.fake.base_url + "/deeper"
        action = self.planned(config)["profile", "main"]
        self.assertEqual((action["action"], action["replaces"]), ("update", True))
        self.applied(config)
        now = self.org.admin("GET", "/profiles/main")[1]["data"]
        self.assertNotEqual(now["id"], was["id"])
        self.assertEqual((now["base_url"], now["default"]), (self.fake.base_url + "/deeper", True))
        self.assertEqual(self.org.admin("GET", f"/profiles/{was['id']}")[1]["data"]["status"], "revoked")
        self.assertEqual(self.planned(config), {})

    def test_a_disabled_profile_is_one(self):
        config = self.document(profiles=[self.profile(status="disabled")])
        self.applied(config)
        self.assertEqual(self.org.admin("GET", "/profiles/main")[1]["data"]["status"], "disabled")
        self.assertEqual(self.planned(config), {})
        config["profiles"][0]["status"] = "active"
        self.applied(config)
        self.assertEqual(self.org.admin("GET", "/profiles/main")[1]["data"]["status"], "active")

    def test_the_org_changed_since_the_plan(self):
        config = self.document(agents=[{"name": "a"}])
        version = self.plan(config)[1]["data"]["version"]
        self.assertEqual(self.org.admin("PUT", "/agents/meanwhile", {})[0], 200)
        before = self.rows()
        self.refused(self.apply(config, version=version), 409, "config_changed")
        self.assertEqual(self.rows(), before)
        self.applied(config, version=self.plan(config)[1]["data"]["version"])

    def test_two_applies_at_once(self):
        """Each is whole, and the later one sees the earlier or is refused."""
        answers = []
        docs = [self.document(agents=[{"name": f"a{i}", "description": str(n)} for i in range(20)]) for n in range(6)]
        threads = [threading.Thread(target=lambda d=d: answers.append(self.apply(d))) for d in docs]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertLessEqual({a[0] for a in answers}, {200, 409})
        self.assertIn(200, {a[0] for a in answers})
        said = {a["description"] for a in self.org.admin("GET", "/agents?limit=200")[1]["data"]}
        self.assertEqual(len(said), 1, "all of one document")

    def test_all_or_nothing(self):
        """The last thing is wrong, each time in another way: what was before it is not there either."""
        route = {"name": "last", "match": {"alias": "last"}, "targets": [{"profile": "nobody", "model": "m"}]}
        good = self.full()
        self.assertEqual(self.org.admin("PUT", "/routes/taken", {"match": {"alias": "taken"}, "targets": [
            {"provider": "openai", "model": "m"}]})[0], 200)
        cases = (
            ({**good, "routes": good["routes"] + [route]}, 400, "profile_not_found", "routes.last"),
            ({**good, "routes": good["routes"] + [{**route, "match": {"agent": "nobody"}, "targets": [
                {"profile": "main", "model": "m"}]}]}, 400, "agent_not_found", "routes.last"),
            ({**good, "routes": good["routes"] + [{**route, "match": {"alias": "taken"}, "targets": [
                {"profile": "main", "model": "m"}]}]}, 409, "route_exists", "routes.last"),
            ({**good, "keys": good["keys"] + [{"name": "late", "expires_at": "2020-01-01T00:00:00Z"}]}, 400, "invalid_field", None),
            ({**good, "profiles": good["profiles"] + [self.profile("broken", secret="bad", validate=True)]}, 422,
             "connection_failed", "profiles.broken"))
        before, audited = self.rows(), self.audited()
        for config, status, code, field in cases:
            with self.subTest(code=code):
                error = self.refused(self.apply(config), status, code, field)
                self.assertIn("late" if field is None else field, error["message"])
                self.assertEqual(self.rows(), before)
        self.assertEqual(self.audited(), ["profile.create"] + audited, "one word, of the connection that was tried")
        self.applied(good)

    def test_what_a_tier_refuses_undoes_the_rest(self):
        self.tg.must("PUT", "/tiers/small", {"max_profiles": 1, "max_api_keys": 1})
        self.tg.must("PATCH", f"/orgs/{self.slug}", {"tier": "small"})
        before = self.rows()
        config = self.document(agents=[{"name": "a"}], keys=[{"name": "second"}])
        self.refused(self.apply(config), 403, "tier_limit")
        config = self.document(agents=[{"name": "a"}], profiles=[self.profile("one"), self.profile("two")])
        self.refused(self.apply(config), 403, "tier_limit", "profiles.two")
        self.assertEqual(self.rows(), before)

    def test_a_role_gives_only_below_itself(self):
        admin = self.tg.must("POST", f"/orgs/{self.slug}/api-keys", {"name": "adm", "role": "admin", "scopes": ["admin"]})["key"]
        before = self.rows()
        config = self.document(agents=[{"name": "a"}], keys=[{"name": "k", "role": "owner"}])
        answer = self.tg.admin("POST", f"/orgs/{self.slug}/config/apply", {"config": config}, token=admin)
        self.refused(answer, 403, "permission_denied", "keys.k")
        self.assertEqual(self.rows(), before)
        config["keys"][0]["role"] = "developer"
        self.assertEqual(self.tg.admin("POST", f"/orgs/{self.slug}/config/apply", {"config": config}, token=admin)[0], 200)

    def test_keys(self):
        config = self.document(keys=[{"name": "k", "models": ["a"], "limits": {"rpm": 5, "tpm": 6}}])
        made = self.applied(config)["keys"][0]
        config["keys"][0].update(models=["b"], limits={"tpm": 7}, expires_at="2098-01-01T00:00:00Z")
        done = self.applied(config)
        self.assertEqual(done["keys"], [], "a key is shown once")
        key = self.org.admin("GET", f"/api-keys/{made['id']}")[1]["data"]
        self.assertEqual((key["models"], key["limits"], key["expires_at"]),
                         (["b"], {"rpm": None, "tpm": 7}, "2098-01-01T00:00:00.000000Z"))
        # Rotated: the one in its place is the key of that name.
        self.assertEqual(self.org.admin("POST", f"/api-keys/{made['id']}/rotate", {"overlap_seconds": 600})[0], 201)
        self.assertEqual(self.planned(config), {})
        self.refused(self.plan({**config, "keys": [{**config["keys"][0], "role": "finance"}]}), 409, "key_fixed")
        self.refused(self.plan({**config, "keys": [{**config["keys"][0], "scopes": ["admin"]}]}), 409, "key_fixed")
        # Expired since: as it was asked for, until somebody asks for more.
        self.tg.sql("UPDATE tollgate.api_key SET expires_at = '2020-01-01T00:00:00Z' WHERE name = 'k' AND replaced_by IS NULL "
                    f"AND org_id = '{self.org.id}'")
        config["keys"][0]["expires_at"] = "2020-01-01T00:00:00Z"
        self.assertEqual(self.planned(config), {})
        # Two of one name, and the document cannot mean one.
        for _ in range(2):
            self.assertEqual(self.org.admin("POST", "/api-keys", {"name": "twin"})[0], 201)
        self.refused(self.plan(self.document(keys=[{"name": "twin"}])), 409, "ambiguous_key")

    def test_budgets(self):
        budget = {"name": "of backend", "scope": "key", "subject": "backend", "limit": "25", "window": "month"}
        config = self.document(keys=[{"name": "backend"}], agents=[{"name": "bot"}], budgets=[
            budget, {"name": "all", "scope": "org", "limit": "100.5", "window": "total", "hard": False},
            {"name": "of bot", "scope": "agent", "subject": "bot", "limit": "1", "window": "day", "status": "disabled"}])
        done = self.applied(config)
        self.assertEqual(done["summary"]["create"], 5)
        stands = {b["name"]: b for b in self.org.admin("GET", "/budgets")[1]["data"]}
        self.assertEqual((stands["of backend"]["subject"], stands["of backend"]["limit"], stands["of backend"]["hard"]),
                         (done["keys"][0]["id"], "25.000000000", True))
        self.assertEqual((stands["all"]["scope"], stands["all"]["window"], stands["all"]["hard"]), ("org", "total", False))
        self.assertEqual((stands["of bot"]["subject"], stands["of bot"]["status"]), ("bot", "disabled"))
        self.assertEqual(self.planned(config), {})
        # A limit is changed in place, a window makes another budget; drift is seen.
        budget["limit"] = "30.00"
        self.applied(config)
        changed = self.org.admin("GET", f"/budgets/{stands['of backend']['id']}")[1]["data"]
        self.assertEqual((changed["limit"], changed["status"]), ("30.000000000", "active"))
        budget["window"] = "week"
        self.applied(config)
        self.assertEqual(self.org.admin("GET", f"/budgets/{stands['of backend']['id']}")[0], 404)
        self.assertEqual(self.planned(config), {})
        self.assertEqual(self.org.admin("PATCH", f"/budgets/{stands['all']['id']}", {"limit": "5"})[0], 200)
        self.assertEqual([c["field"] for c in self.planned(config)["budget", "all"]["changes"]], ["limit"])
        # A rotated key keeps its name, and its budget.
        self.assertEqual(self.org.admin("POST", f"/api-keys/{done['keys'][0]['id']}/rotate", {})[0], 201)
        self.assertEqual(list(self.planned(config)), [("budget", "all")])
        before = self.rows()
        nobody = {**config, "budgets": [{**budget, "name": "x", "subject": "nobody"}]}
        self.refused(self.apply(nobody), 400, "key_not_found", "budgets.x")
        self.assertEqual(self.rows(), before)
        config["budgets"] = []
        self.assertEqual(self.applied(config, prune=True)["summary"]["delete"], 3)
        self.assertEqual(self.org.admin("GET", "/budgets")[1]["data"], [])

    def test_bad_documents(self):
        good = self.full()
        cases = [({**good, "schema_version": 2}, "not_supported", "schema_version"), ({**good, "org": "another"}, "org_mismatch", None),
                 ({k: v for k, v in good.items() if k != "schema_version"}, "invalid_field", "schema_version"),
                 ({**good, "surprise": 1}, "unknown_field", "surprise"), ({**good, "budgets": [{}]}, "invalid_field", "budgets[0].name"),
                 ({**good, "budgets": [{"name": "b", "scope": "all"}]}, "invalid_field", "budgets.b.limit"),
                 ({**good, "budgets": [{"name": "b", "scope": "all", "limit": "1", "window": "day"}]}, "invalid_field", "budgets.b.scope"),
                 ({**good, "budgets": [{"name": "b", "scope": "org", "limit": "-1", "window": "day"}]}, "invalid_field", "budgets.b.limit"),
                 ({**good, "budgets": [{"name": "b", "scope": "org", "limit": "1", "window": "year"}]}, "invalid_field", "budgets.b.window"),
                 ({**good, "budgets": [{"name": "b", "scope": "key", "limit": "1", "window": "day"}]}, "invalid_field", "budgets.b.subject"),
                 ({**good, "managed_by": "a b"}, "invalid_field", "managed_by"), ([], "invalid_field", "config"),
                 ({**good, "profiles": {}}, "invalid_field", "profiles"), ({**good, "agents": [1]}, "invalid_field", "agents[0]"),
                 ({**good, "agents": [{"name": f"a{i}"} for i in range(101)]}, "invalid_field", "agents"),
                 ({**good, "agents": [{"name": "a"}, {"name": "a"}]}, "invalid_field", "agents.a.name"),
                 ({**good, "agents": [{}]}, "invalid_field", "agents[0].name"),
                 ({**good, "agents": [{"name": "a/b"}]}, "invalid_field", "agents[0].name"),
                 ({**good, "agents": [{"name": "a", "model": "x"}]}, "unknown_field", "agents.a.model"),
                 ({**good, "profiles": [self.profile(secret_env="X")]}, "unknown_field", "profiles.main.secret_env"),
                 ({**good, "profiles": [self.profile(secret="a b")]}, "invalid_secret", "profiles.main.secret"),
                 ({**good, "profiles": [self.profile(base_url="http://127.0.0.1:1/")]}, None, "profiles.main.base_url"),
                 ({**good, "profiles": [self.profile(status="revoked")]}, "invalid_field", "profiles.main.status"),
                 ({**good, "profiles": [self.profile(default=True), self.profile("b", default=True)]}, "invalid_field", "profiles"),
                 ({**good, "profiles": [{"name": "o", "provider": "openai"}]}, "secret_missing", "profiles.o.secret"),
                 ({**good, "routes": [{"name": "r", "match": {}, "targets": []}]}, "invalid_field", "routes.r.match"),
                 ({**good, "routes": [{"name": "r", "match": {"alias": "x"}, "targets": []}]}, "invalid_field", "routes.r.targets"),
                 ({**good, "keys": [{"name": "k", "limits": {"rpm": 0}}]}, "invalid_field", "keys.k.limits.rpm"),
                 ({**good, "keys": [{"name": "k", "expires_at": "soon"}]}, "invalid_field", "keys.k.expires_at"),
                 ({**good, "keys": [{"name": "k", "key": "tg_x"}]}, "unknown_field", "keys.k.key")]
        before = self.rows()
        for config, code, field in cases:
            for ask in (self.plan, self.apply):
                with self.subTest(code=code, field=field, ask=ask.__name__):
                    status, envelope = ask(config)
                    self.assertEqual(status, 400, envelope)
                    self.assertEqual(envelope["error"].get("field"), field, envelope)
                    if code:
                        self.assertEqual(envelope["error"]["code"], code)
                    self.assertNotIn(SECRET, json.dumps(envelope))
        self.refused(self.apply(good, version="1"), 400, "invalid_field", "version")
        self.refused(self.plan(good, version=1), 400, "unknown_field", "version")
        self.assertEqual(self.rows(), before)

    def test_validation_is_before_anything(self):
        config = self.document(profiles=[self.profile(validate=True)])
        self.applied(config)
        self.assertEqual(self.org.admin("GET", "/profiles/main")[1]["data"]["health"]["status"], "ok")
        self.assertGreater(self.fake.stats()["models"], 0)
        self.fake.clear()
        self.applied({**config, "agents": [{"name": "a"}]})
        self.assertEqual(self.fake.stats()["models"], 0, "what stands is not tried again")
        before = self.rows()
        config["profiles"][0]["secret"] = "bad"
        self.refused(self.apply(config), 422, "connection_failed", "profiles.main")
        self.assertEqual(self.rows(), before)

    def test_an_apply_is_one_credential_operation(self):
        taken = lambda: {kind: int(n) for kind, n in self.tg.sql(
            f"SELECT kind, cardinality(taken) FROM tollgate.credential_use WHERE org_id = '{self.org.id}'")}
        config = self.document(profiles=[self.profile(f"p{i}") for i in range(5)])
        self.applied(config)
        self.assertEqual(taken(), {"update": 1, "read": 1})
        self.assertEqual(self.planned(config), {})
        self.assertEqual(taken(), {"update": 1, "read": 2})
        self.applied({**config, "agents": [{"name": "a"}]})
        self.assertEqual(taken()["update"], 1, "no credential is touched")
        self.applied(self.document(agents=[{"name": "b"}]))
        self.assertEqual(taken(), {"update": 1, "read": 3}, "no secret, no read")

    def test_apply_then_plan_is_empty_for_whatever_documents(self):
        """A random document on whatever the ones before have left, several times over."""
        rng = random.Random(11)
        for round_ in range(25):
            profiles = [self.profile(n, secret=rng.choice([SECRET, ROTATED]), models=rng.sample(["a", "b*", "*"], rng.randint(1, 3)),
                                     priority=rng.randint(0, 3), status=rng.choice(["active", "disabled"]),
                                     billing_source=rng.choice(["byok", "private"]),
                                     base_url=self.fake.base_url + rng.choice(["", "/x"]))
                        for n in rng.sample(["p", "q", "r"], rng.randint(0, 3))]
            if profiles and rng.random() < 0.5:
                rng.choice(profiles)["default"] = True
            agents = [{"name": n, **rng.choice([{}, {"default_model": "m"}, {"description": "d", "status": "disabled"}])}
                      for n in rng.sample(["x", "y", "z"], rng.randint(0, 3))]
            routes = [{"name": n, "match": {"alias": n, "agent": rng.choice([None, *(a["name"] for a in agents)]),
                                            "intent": rng.choice([None, "code"])},
                       "targets": [rng.choice([{"profile": p["name"], "model": "m"} for p in profiles] + [
                           {"provider": "openai", "model": "m", "billing": ["byok"]}]) for _ in range(rng.randint(1, 2))],
                       "policy": rng.choice([None, {"max_attempts": 1}, {"retry_budget": 0.2, "allow_platform_fallback": True}])}
                      for n in rng.sample(["s", "t", "u"], rng.randint(0, 3))]
            keys = [{"name": n, "models": rng.choice([["*"], ["a", "b"]]), "limits": rng.choice([None, {}, {"rpm": 3}, {"tpm": 4}]),
                     "expires_at": rng.choice([None, "2099-06-01T12:00:00Z"])} for n in rng.sample(["k", "l"], rng.randint(0, 2))]
            config = self.document(profiles=profiles, agents=agents, routes=routes, keys=keys)
            prune = rng.random() < 0.5
            with self.subTest(round=round_, config=config, prune=prune):
                expected = self.plan(config, prune=prune)[1]["data"]
                done = self.apply(config, prune=prune)
                if done[0] == 409 and done[1]["error"]["code"] == "agent_in_use":
                    continue  # pruned away while a hand-made route names it
                self.assertEqual(done[0], 200, done)
                self.assertEqual(done[1]["data"]["actions"], expected["actions"])
                self.assertEqual(self.planned(config, prune=prune), {})
                rows = self.rows()
                self.assertEqual(self.applied(config, prune=prune)["applied"], False)
                self.assertEqual(self.rows(), rows)

    def test_audit_says_what_was_done_and_no_secret(self):
        self.applied(self.full())
        rows = self.org.admin("GET", "/audit?limit=50")[1]["data"]
        self.assertEqual(rows[0]["action"], "config.apply")
        self.assertEqual(rows[0]["object"], "default: 6 created, 0 updated, 0 deleted")
        self.assertEqual(sum(r["request_id"] == rows[0]["request_id"] for r in rows), 7)
        self.assertEqual(self.tg.cli("audit", "verify").returncode, 0)
        everything = json.dumps(rows) + self.log()
        for secret in (SECRET, ROTATED):
            self.assertNotIn(secret, everything)
        dump = "\n".join(str(self.tg.sql(f"SELECT * FROM tollgate.{t}")) for t in
                         ("audit", "config_mark", "profile", "route", "agent", "api_key", "secret", "change"))
        self.assertNotIn(SECRET, dump)


class LargeOrg(Document):
    # One batch of 364 writes takes a second and a half on a busy machine with two cores, and a batch has two by default.
    ENV = {"TOLLGATE_PG_DEADLINE_MS": "10000"}

    def test_a_full_document_in_a_large_org(self):
        """What one batch may take does not depend on what else the org has."""
        self.tg.sql("INSERT INTO tollgate.profile (org_id, id, name, provider, base_url, billing_source, models, priority, is_default, listed, health) "
                    f"SELECT '{self.org.id}', gen_random_uuid(), 'many-' || i, 'openai_compatible', '{self.fake.base_url}', 'byok', '{{*}}', 100, "
                    "false, '{}', tollgate.profile_health_none() FROM generate_series(1, 10000) i")
        config = self.document(agents=[{"name": f"a{i}"} for i in range(100)], keys=[{"name": f"k{i}"} for i in range(100)],
                               budgets=[{"name": f"b{i}", "scope": "agent" if i % 2 else "key", "subject": f"{'a' if i % 2 else 'k'}{i}",
                                         "limit": "1", "window": "day"} for i in range(100)],
                               profiles=[self.profile(f"p{i}") for i in range(64)])
        self.assertEqual(self.applied(config)["summary"]["create"], 364)
        for budget in config["budgets"]:
            budget["limit"] = "2"
        self.assertEqual(self.applied(config)["summary"], {"create": 0, "update": 100, "delete": 0, "none": 264})
        self.assertEqual(self.planned(config), {})


class Terminal(Document):
    def file(self, text, name="org.yaml"):
        path = os.path.join(self.tg.dir, self.slug + "-" + name)
        with open(path, "w") as f:
            f.write(text)
        return path

    YAML = """\
# What acme has.
schema_version: 1
org: {org}
profiles:
  - name: main
    provider: openai_compatible
    base_url: {base_url}
    models: ["m-*"]
    priority: 5
    default: true
    secret_env: TEST_DECLARED_SECRET
  - name: spare
    provider: openai_compatible
    base_url: {base_url}
    secret_file: {secret_file}
    validate: false
routes:
  - name: fast
    match: {{alias: fast}}
    targets:
      - {{profile: main, model: m-1}}
    policy: {{retry_budget: 0.2}}
agents:
  - name: bot
    default_model: fast
keys:
  - name: backend
    role: developer
    scopes: [inference]
    limits: {{rpm: 60}}
    expires_at: 2099-01-01T00:00:00Z
"""

    def yaml(self):
        secret = self.file("fake-secret-of-a-file\n", "secret")
        return self.file(self.YAML.format(org=self.slug, base_url=self.fake.base_url, secret_file=os.path.basename(secret)))

    def run_cli(self, *args, env=None):
        return self.tg.cli(*args, env={"TEST_DECLARED_SECRET": SECRET, **(env or {})})

    def test_plan_apply_and_again(self):
        path = self.yaml()
        before = self.rows()
        planned = self.run_cli("plan", path)
        self.assertEqual(planned.returncode, 0, planned.stderr)
        for line in ("+ profile \"main\"", "+ key \"backend\"", "secret: \"(new)\"", "5 to create, 0 to update, 0 to delete",
                     "unmanaged: key \"test\""):
            self.assertIn(line, planned.stdout)
        self.assertEqual(self.run_cli("plan", path, "--detailed-exitcode").returncode, 2)
        self.assertEqual(self.rows(), before)
        done = self.run_cli("apply", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        keys = re.findall(r"tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", done.stdout)
        self.assertEqual(len(keys), 1)
        self.assertEqual(self.org.admin("GET", "/profiles/main")[1]["data"]["health"]["status"], "ok")
        again = self.run_cli("apply", path, "--json")
        envelope = json.loads(again.stdout)
        self.assertEqual((again.returncode, envelope["data"]["applied"], envelope["data"]["keys"]), (0, False, []))
        self.assertEqual(self.run_cli("plan", path, "--detailed-exitcode").returncode, 0)
        drifted = self.run_cli("plan", path, "--json", "--detailed-exitcode", env={"TEST_DECLARED_SECRET": ROTATED})
        self.assertEqual(drifted.returncode, 2)
        self.assertEqual(json.loads(drifted.stdout)["data"]["summary"]["update"], 1)
        everything = "".join(d.stdout + d.stderr for d in (planned, done, again, drifted)) + self.log()
        for secret in (SECRET, ROTATED, "fake-secret-of-a-file"):
            self.assertNotIn(secret, everything)
        self.assertNotIn(keys[0], self.log())

    def test_the_reviewed_version_or_none(self):
        path = self.yaml()
        version = json.loads(self.run_cli("plan", path, "--json").stdout)["data"]["version"]
        self.assertEqual(self.org.admin("PUT", "/agents/meanwhile", {})[0], 200)
        done = self.run_cli("apply", path, "--version", str(version), "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]["code"]), (1, "config_changed"))
        self.assertEqual(self.org.admin("GET", "/profiles/main")[0], 404)
        self.assertEqual(self.run_cli("apply", path, "--version", "x").returncode, 2)

    def test_nothing_is_asked_before_all_secrets_are_there(self):
        away = {"TOLLGATE_ADMIN_LISTEN": f"127.0.0.1:{harness.free_port()}"}
        path = self.yaml()
        for command in ("plan", "apply"):
            for value in ({"TEST_DECLARED_SECRET": ""}, {}):
                env = {**away, **value}
                done = self.tg.cli(command, path, "--json", env=env)
                self.assertEqual(done.returncode, 2, done)
                error = json.loads(done.stdout)["error"]
                self.assertEqual(error["code"], "secret_missing")
                self.assertIn("TEST_DECLARED_SECRET", error["message"])
                self.assertIn(":11:", error["message"])
            self.assertEqual(self.run_cli(command, path, env=away).returncode, 3, "with them it is asked")
        with open(path) as f:
            gone = self.file(f.read().replace("secret_file: ", "secret_file: no-such-"), "gone.yaml")
        self.assertEqual(self.run_cli("plan", gone, env=away).returncode, 2)

    def test_files_that_are_refused_here(self):
        away = {"TOLLGATE_ADMIN_LISTEN": f"127.0.0.1:{harness.free_port()}"}
        head = f"schema_version: 1\norg: {self.slug}\n"
        for text, code, line in ((head + "profiles:\n  - name: p\n    secret: fake-inline-secret\n", "inline_secret", ":5:"),
                                 (head + "profiles:\n  - name: p\n    secret_env: A\n    secret_file: b\n", "invalid_yaml", ":6:"),
                                 (head + "profiles:\n  - just text\n", "invalid_yaml", ":4:"),
                                 (head + "profiles: [\n", "invalid_yaml", ":"), (head + "org: twice\n", "invalid_yaml", ":3:"),
                                 ("schema_version: 1\n", "invalid_yaml", "org"), ("- a list\n", "invalid_yaml", "org"), ("", "invalid_yaml", "org")):
            with self.subTest(text=text):
                for detailed in ((), ("--detailed-exitcode",)):
                    done = self.run_cli("plan", self.file(text), "--json", *detailed, env=away)
                    self.assertEqual(done.returncode, 1 if detailed else 2, done)
                    error = json.loads(done.stdout)["error"]
                    self.assertEqual(error["code"], code, error)
                    self.assertIn(line, error["message"])
                    self.assertNotIn("fake-inline-secret", done.stdout + done.stderr)
        self.assertEqual(self.run_cli("plan", "/no/such/file").returncode, 2)
        self.assertEqual(self.run_cli("plan").returncode, 2)
        self.assertEqual(self.run_cli("plan", "--detailed-exitcode").returncode, 1, "2 says that there is a difference")
        # The secret itself where its variable's name belongs: not set, and not repeated.
        misplaced = self.file(head + "profiles:\n  - name: p\n    secret_env: fakeXmisplacedXsecret\n")
        for how in ((), ("--json",)):
            done = self.run_cli("plan", misplaced, *how, env=away)
            self.assertEqual(done.returncode, 2, done)
            self.assertNotIn("fakeXmisplacedXsecret", done.stdout + done.stderr)
            self.assertIn(":5:", done.stdout + done.stderr)
        self.assertEqual(self.run_cli("apply", self.yaml(), "--detailed-exitcode").returncode, 2)

    def test_what_the_service_refuses(self):
        path = self.file(f"schema_version: 1\norg: {self.slug}\nagents:\n  - name: a\n    colour: red\n")
        done = self.run_cli("plan", path, "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["error"]["field"]), (2, "agents.a.colour"))
        self.assertEqual(self.run_cli("plan", path, "--detailed-exitcode").returncode, 1)
        nobody = self.file("schema_version: 1\norg: never-was\n")
        self.assertEqual(self.run_cli("apply", nobody).returncode, 1)


class PostgresDies(unittest.TestCase):
    def test_in_the_middle_of_an_apply(self):
        """KILL of Postgres while a large apply runs: afterwards there is all of it or nothing."""
        with harness.Postgres() as cluster, Tollgate(postgres=cluster) as tg:
            for round_ in range(3):
                org = tg.setup_org(f"acme-{round_}", platform=False, credits=None)
                config = {"schema_version": 1, "agents": [{"name": f"a{i}"} for i in range(100)],
                          "keys": [{"name": f"k{i}"} for i in range(100)]}
                answers = []
                t = threading.Thread(target=lambda: answers.append(org.admin("POST", "/config/apply", {"config": config})))
                t.start()
                if round_ > 0:
                    harness.wait_until(lambda: tg.sql("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE "
                                                      "'%agent_put%'") != [["0"]] or not t.is_alive(), 5, "the apply to be at work")
                cluster.stop(signal.SIGQUIT)
                t.join()
                cluster.start()
                harness.wait_until(tg.ready, 20, "the service to be back")
                counts = [int(tg.sql(f"SELECT count(*) FROM tollgate.{table} WHERE org_id = '{org.id}'")[0][0])
                          for table in ("agent", "api_key")]
                self.assertIn(answers[0][0], (200, 503))
                self.assertIn(counts, ([0, 1], [100, 101]), (round_, answers))
                if answers[0][0] == 200:
                    self.assertEqual(counts, [100, 101])


if __name__ == "__main__":
    unittest.main()
