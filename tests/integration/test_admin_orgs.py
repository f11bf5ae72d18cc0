"""Orgs and API keys in the control plane: shapes, roles, other orgs' things, what is refused."""
import json

import harness

SETTINGS = {"key_max_days": None, "revoked_streams": "cut"}
ROLES = ("owner", "admin", "developer", "finance", "auditor")


class Orgs(harness.Case):
    def test_create_show_list_change(self):
        made = self.tg.must("POST", "/orgs", {"slug": "acme", "name": "Acme", "tier": "business"})
        self.assertEqual(set(made), {"id", "slug", "name", "tier", "status", "created_at"})
        self.assertEqual((made["slug"], made["name"], made["tier"], made["status"]),
                         ("acme", "Acme", "business", "active"))
        self.assertRegex(made["created_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        for ref in ("acme", made["id"], made["id"].upper()):
            self.assertEqual(self.tg.must("GET", f"/orgs/{ref}"), {**made, "settings": SETTINGS})
        changed = self.tg.must("PATCH", "/orgs/acme", {"name": "Acme 2", "tier": "free"})
        self.assertEqual(changed, {**made, "settings": SETTINGS, "name": "Acme 2", "tier": "free"})
        self.assertEqual(self.tg.sql("SELECT action FROM tollgate.audit WHERE org_id = "
                                     f"'{made['id']}' ORDER BY seq"), [["org.create"], ["org.change"]])
        self.assertEqual(self.tg.sql(f"SELECT version FROM tollgate.org WHERE slug = 'acme'"), [["2"]])

    def test_the_platform_is_there_and_stays(self):
        platform = self.tg.must("GET", "/orgs/platform")
        self.assertEqual(platform["id"], "00000000-0000-7000-8000-000000000000")
        self.assertEqual(self.tg.admin("DELETE", "/orgs/platform")[0], 409)
        self.assertEqual(self.tg.admin("PATCH", "/orgs/platform", {"status": "suspended"})[0], 409)
        self.assertEqual(self.tg.admin("POST", "/orgs", {"slug": "platform", "name": "x"})[0], 409)

    def test_lists_are_newest_first_and_paged(self):
        for i in range(5):
            self.tg.must("POST", "/orgs", {"slug": f"page-{i}", "name": "p"})
        seen, cursor = [], ""
        while True:
            status, page = self.tg.admin("GET", f"/orgs?limit=2{cursor}")
            self.assertEqual(status, 200, page)
            self.assertLessEqual(len(page["data"]), 2)
            seen += [org["slug"] for org in page["data"]]
            if not page["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + page["meta"]["next_cursor"]
        self.assertEqual(len(seen), len(set(seen)))
        self.assertEqual([s for s in seen if s.startswith("page-")], [f"page-{i}" for i in (4, 3, 2, 1, 0)])
        self.assertEqual(seen[-1], "platform")
        for bad in ("limit=0", "limit=201", "limit=x", "cursor=nonsense", "sort=name"):
            self.assertEqual(self.tg.admin("GET", "/orgs?" + bad)[0], 400, bad)

    def test_bad_bodies(self):
        good = {"slug": "good", "name": "Good"}
        for change, field in (({"slug": "Upper"}, "slug"), ({"slug": "-x"}, "slug"), ({"slug": ""}, "slug"),
                              ({"slug": None}, "slug"), ({"slug": 7}, "slug"), ({"slug": "a" * 64}, "slug"),
                              ({"slug": "019a0000-0000-7000-8000-000000000001"}, "slug"),
                              ({"slug": "a\u0000b"}, "slug"), ({"name": ""}, "name"), ({"name": "  "}, "name"),
                              ({"name": "n" * 201}, "name"), ({"tier": "A B"}, "tier"),
                              ({"role": "operator"}, "role"), ({"org_id": "x"}, "org_id"),
                              ({"balance": "1"}, "balance"), ({"id": "x"}, "id"),
                              ({"created_at": "x"}, "created_at"), ({"spend": 0}, "spend")):
            before = self.tg.row_counts()
            status, envelope = self.tg.admin("POST", "/orgs", {**good, **change})
            self.assertEqual(status, 400, (change, envelope))
            self.assertEqual(envelope["error"]["field"], field)
            self.assertTrue(envelope["error"]["request_id"].startswith("req_"))
            self.assertEqual(self.tg.row_counts(), before)
        for body in ("", "[]", "{", '{"slug":"a","slug":"b","name":"x"}', "null"):
            self.assertIn(self.tg.admin("POST", "/orgs", body)[0], (400, 411), body)

    def test_two_of_one_slug(self):
        self.tg.must("POST", "/orgs", {"slug": "taken", "name": "one"})
        status, envelope = self.tg.admin("POST", "/orgs", {"slug": "taken", "name": "two"})
        self.assertEqual((status, envelope["error"]["code"]), (409, "slug_taken"))

    def test_suspended_reads_but_does_not_call(self):
        org = self.tg.setup_org("sleepy", credits=None, platform=False, role="owner",
                                scopes=["admin", "inference"])
        self.assertEqual(org.admin("GET", "", token=org.key)[0], 200)
        self.tg.must("PATCH", "/orgs/sleepy", {"status": "suspended"})
        self.tg.settled(2)
        self.assertEqual(self.tg.get("/v1/models", org.key).status, 403)
        self.assertEqual(org.admin("PATCH", "", {"name": "x"}, token=org.key)[0], 403)
        self.assertEqual(org.admin("GET", "/api-keys", token=org.key)[0], 200)
        self.assertEqual(org.admin("POST", "/api-keys", {"name": "x"}, token=org.key)[0], 403)
        self.tg.must("PATCH", "/orgs/sleepy", {"status": "active"})
        self.tg.settled(2)
        self.assertEqual(self.tg.get("/v1/models", org.key).status, 200)

    def test_delete_shreds(self):
        org = self.tg.setup_org("gone", credits=None, platform=False)
        self.tg.setup_profile(org, "main")
        deks = f"SELECT count(*) FROM tollgate_vault.org_dek WHERE org_id = '{org.id}'"
        self.assertEqual(self.tg.sql(deks), [["1"]])
        self.assertEqual(self.tg.get("/v1/models", org.key).status, 200)
        self.assertEqual(self.tg.must("DELETE", "/orgs/gone")["data_keys_shredded"], 1)
        self.assertEqual(self.tg.sql(deks), [["0"]])
        self.assertEqual(self.tg.admin("GET", "/orgs/gone")[0], 404)
        self.tg.settled(2)
        self.assertEqual(self.tg.get("/v1/models", org.key).status, 401)
        self.assertEqual(self.tg.admin("POST", "/orgs", {"slug": "gone", "name": "again"})[0], 409)


class Keys(harness.Case):
    @classmethod
    def prepare(cls):
        cls.orgs = {}
        for slug in ("acme", "beta"):
            cls.orgs[slug] = cls.tg.setup_org(slug, credits=None, platform=False)
        cls.keys = {role: cls.make(role=role, scopes=["admin", "inference"]) for role in ROLES}

    @classmethod
    def make(cls, org="acme", token=harness.ADMIN_TOKEN, **more):
        return cls.tg.must("POST", f"/orgs/{org}/api-keys", {"name": "k", **more}, token=token)

    def ask(self, method, path, body=None, role="owner", org="acme"):
        token = harness.ADMIN_TOKEN if role == "operator" else self.keys[role]["key"]
        return self.tg.admin(method, f"/orgs/{org}{path}", body, token=token)

    def test_shape_and_the_key_shown_once(self):
        made = self.make(name="backend", role="developer", scopes=["inference"], models=["gpt-*", "x/y"],
                         limits={"rpm": 600, "tpm": 1000000}, expires_at="2999-01-01T00:00:00Z")
        self.assertRegex(made["key"], r"^tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$")
        self.assertEqual(made["last4"], made["key"][-4:])
        self.assertEqual(made["limits"], {"rpm": 600, "tpm": 1000000})
        self.assertEqual(made["models"], ["gpt-*", "x/y"])
        self.assertEqual(made["status"], "active")
        shown = self.tg.must("GET", f"/orgs/acme/api-keys/{made['id']}")
        self.assertEqual(shown, {k: v for k, v in made.items() if k != "key"})
        listed = json.dumps(self.tg.admin("GET", "/orgs/acme/api-keys?limit=200")[1])
        self.assertNotIn(made["key"], listed)
        self.assertNotIn(made["key"][12:44], listed)
        # Neither the database nor the log holds it.
        self.assertEqual(self.tg.sql("SELECT octet_length(hash) FROM tollgate.api_key "
                                     f"WHERE id = '{made['id']}'"), [["32"]])
        with open(self.tg.log) as log:
            self.assertNotIn(made["key"], log.read())

    def test_defaults(self):
        made = self.make()
        self.assertEqual((made["role"], made["scopes"], made["models"], made["limits"], made["expires_at"]),
                         ("developer", ["inference"], ["*"], {"rpm": None, "tpm": None}, None))

    def test_bad_bodies(self):
        for change, field in (({"role": "operator"}, "role"), ({"role": 1}, "role"), ({"scopes": []}, "scopes"),
                              ({"scopes": ["all"]}, "scopes"), ({"scopes": "admin"}, "scopes"),
                              ({"scopes": ["admin", "admin"]}, "scopes"), ({"models": []}, "models"),
                              ({"models": [""]}, "models"), ({"models": [1]}, "models"),
                              ({"models": ["a"] * 257}, "models"), ({"limits": {"rpm": 0}}, "limits.rpm"),
                              ({"limits": {"rpm": 1.5}}, "limits.rpm"), ({"limits": {"tpm": -1}}, "limits.tpm"),
                              ({"limits": {"tpm": "9"}}, "limits.tpm"), ({"limits": {"rps": 1}}, "limits.rps"),
                              ({"limits": [1]}, "limits"), ({"expires_at": "tomorrow"}, "expires_at"),
                              ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"), ({"name": None}, "name"),
                              ({"key": "tg_x"}, "key"), ({"org_id": "x"}, "org_id"), ({"hash": "x"}, "hash")):
            status, envelope = self.tg.admin("POST", "/orgs/acme/api-keys", {"name": "k", **change})
            self.assertEqual((status, envelope["error"].get("field")), (400, field), (change, envelope))

    def test_change(self):
        made = self.make()
        path = f"/orgs/acme/api-keys/{made['id']}"
        changed = self.tg.must("PATCH", path, {"limits": {"rpm": 5}})
        self.assertEqual(changed["limits"], {"rpm": 5, "tpm": None})
        changed = self.tg.must("PATCH", path, {"limits": {"tpm": 9}, "name": "new", "models": ["a*"]})
        self.assertEqual((changed["limits"], changed["name"], changed["models"]), ({"rpm": 5, "tpm": 9}, "new", ["a*"]))
        self.assertEqual(self.tg.must("PATCH", path, {"limits": {"rpm": None}})["limits"], {"rpm": None, "tpm": 9})
        self.assertEqual(self.tg.must("PATCH", path, {"limits": None})["limits"], {"rpm": None, "tpm": None})
        for body in ({}, {"role": "owner"}, {"scopes": ["admin"]}, {"status": "active"}, {"revoked_at": None}):
            self.assertEqual(self.tg.admin("PATCH", path, body)[0], 400, body)
        self.tg.must("DELETE", path)
        self.assertEqual(self.tg.admin("PATCH", path, {"name": "x"})[0], 409)

    def test_who_may_read(self):
        for role in ROLES + ("operator",):
            self.assertEqual(self.ask("GET", "", role=role)[0], 200, role)
            wanted = 403 if role == "finance" else 200
            self.assertEqual(self.ask("GET", "/api-keys", role=role)[0], wanted, role)
        listed = self.ask("GET", "/api-keys?limit=200", role="auditor")[1]
        for key in self.keys.values():
            self.assertNotIn(key["key"], json.dumps(listed))

    def test_orgs_are_the_operators_to_make(self):
        for role in ROLES:
            token = self.keys[role]["key"]
            self.assertEqual(self.tg.admin("GET", "/orgs", token=token)[0], 403, role)
            self.assertEqual(self.tg.admin("POST", "/orgs", {"slug": "new", "name": "n"}, token=token)[0], 403)
            self.assertEqual(self.ask("DELETE", "", role=role)[0], 403)
            self.assertEqual(self.ask("PATCH", "", {"tier": "gold"}, role)[0], 403)
            self.assertEqual(self.ask("PATCH", "", {"status": "suspended"}, role)[0], 403)
            wanted = 200 if role in ("owner", "admin") else 403
            self.assertEqual(self.ask("PATCH", "", {"name": "Acme"}, role)[0], wanted, role)

    def test_a_role_grants_only_below_itself(self):
        may = {"operator": set(ROLES), "owner": {"admin", "developer", "finance", "auditor"},
               "admin": {"developer", "finance", "auditor"}, "developer": {"developer"},
               "finance": set(), "auditor": set()}
        for actor, roles in may.items():
            for role in ROLES:
                status, envelope = self.ask("POST", "/api-keys", {"name": "k", "role": role}, actor)
                self.assertEqual(status, 201 if role in roles else 403, (actor, role, envelope))

    def test_a_role_changes_only_below_itself(self):
        may = {"operator": set(ROLES), "owner": {"admin", "developer", "finance", "auditor"},
               "admin": {"developer", "finance", "auditor"}}
        for role in ROLES:
            made = self.make(role=role, scopes=["admin"])
            for actor in ("admin", "owner", "operator"):
                wanted = 200 if role in may[actor] else 403
                path = f"/api-keys/{made['id']}"
                self.assertEqual(self.ask("PATCH", path, {"name": "x"}, actor)[0], wanted, (actor, role))
            for actor in ("finance", "auditor"):
                self.assertEqual(self.ask("DELETE", path, role=actor)[0], 403)
            for actor in ("admin", "owner", "operator"):
                status = self.ask("DELETE", path, role=actor)[0]
                self.assertEqual(status, 200 if role in may[actor] else 403, (actor, role))
        own = self.make(role="admin", scopes=["admin"])
        status, _ = self.tg.admin("PATCH", f"/orgs/acme/api-keys/{own['id']}", {"limits": None}, token=own["key"])
        self.assertEqual(status, 403)
        status, _ = self.tg.admin("DELETE", f"/orgs/acme/api-keys/{own['id']}", token=own["key"])
        self.assertEqual(status, 200)  # a key may always end itself

    def test_a_developer_sees_and_changes_what_it_made(self):
        other = self.make()
        mine = self.make(token=self.keys["developer"]["key"])
        listed = {k["id"] for k in self.ask("GET", "/api-keys?limit=200", role="developer")[1]["data"]}
        self.assertIn(mine["id"], listed)
        self.assertIn(self.keys["developer"]["id"], listed)
        self.assertNotIn(other["id"], listed)
        for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
            self.assertEqual(self.ask(method, f"/api-keys/{other['id']}", body, "developer")[0], 404, method)
            self.assertEqual(self.ask(method, f"/api-keys/{mine['id']}", body, "developer")[0], 200, method)

    def test_a_developers_key_grants_no_more_than_it_has(self):
        bound = self.make(scopes=["admin"], models=["gpt-*"], limits={"rpm": 10})
        for body, wanted in (({}, 400), ({"models": ["*"]}, 403), ({"models": ["claude-x"]}, 403),
                             ({"models": ["gpt-5"]}, 403), ({"models": ["gpt-5"], "limits": {"rpm": 11}}, 403),
                             ({"models": ["gpt-5", "gpt-4*"], "limits": {"rpm": 10}}, 201)):
            status, envelope = self.tg.admin("POST", "/orgs/acme/api-keys", {"name": "k", **body}, token=bound["key"])
            self.assertEqual(status, wanted, (body, envelope))
        path = f"/orgs/acme/api-keys/{envelope['data']['id']}"
        for body in ({"limits": None}, {"limits": {"rpm": None}}, {"limits": {"rpm": 11}}, {"models": ["*"]}):
            self.assertIn(self.tg.admin("PATCH", path, body, token=bound["key"])[0], (400, 403), body)

    def test_another_org_does_not_exist(self):
        theirs = self.make(org="beta")
        for role in ROLES:
            for org in ("beta", self.orgs["beta"].id, "nobody"):
                for method, path, body in (("GET", "", None), ("GET", "/api-keys", None),
                                           ("GET", f"/api-keys/{theirs['id']}", None)):
                    status, envelope = self.ask(method, path, body, role, org)
                    self.assertEqual(status, 404, (role, org, path, envelope))
            # Under its own org's path another org's key is not found either.
            if role in ("owner", "admin", "developer"):
                for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
                    self.assertEqual(self.ask(method, f"/api-keys/{theirs['id']}", body, role)[0], 404)
        self.assertEqual(self.tg.must("GET", f"/orgs/beta/api-keys/{theirs['id']}")["status"], "active")
        self.assertEqual(self.ask("GET", "", org=self.orgs["acme"].id.upper())[0], 200)

    def test_other_spellings_of_a_path(self):
        token = {"Authorization": f"Bearer {self.keys['owner']['key']}"}
        for path in ("/admin/v1/orgs/acme/", "/admin//v1/orgs/acme", "/Admin/v1/orgs/acme",
                     "/admin/v1/orgs/acme/../beta", "/admin/v1/orgs/acme;x", "/admin/v1/orgs/%62eta"):
            answer = self.tg.get(path, headers=token, surface="admin")
            self.assertIn(answer.status, (400, 404), path)

    def test_ids_that_are_none(self):
        for bad in ("x", "00000000", "019a0000-0000-7000-8000-00000000000g", "%27"):
            self.assertEqual(self.ask("GET", f"/api-keys/{bad}")[0], 404, bad)
        self.assertEqual(self.ask("POST", f"/api-keys/{self.keys['owner']['id']}", {})[0], 405)

    def test_audit_and_changes(self):
        made = self.make(token=self.keys["admin"]["key"])
        rows = self.tg.sql("SELECT actor->>'type', actor->>'role', actor->>'id', action, object, result "
                           f"FROM tollgate.audit WHERE object = '{made['id']}'")
        self.assertEqual(rows, [["api_key", "admin", self.keys["admin"]["id"], "api_key.create", made["id"], "ok"]])
        kinds = self.tg.sql("SELECT DISTINCT kind FROM tollgate.change WHERE org_id = "
                            f"'{self.orgs['acme'].id}' ORDER BY 1")
        self.assertIn(["key"], kinds)
