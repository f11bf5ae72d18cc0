"""Members of an org, their roles and their keys; the org's own settings."""
import calendar
import json
import socket
import time
import unittest
import uuid

import harness

ROLES = ("owner", "admin", "developer", "finance", "auditor")
MAY = {"operator": set(ROLES), "owner": set(ROLES), "admin": {"developer", "finance", "auditor"}}
# Which roles a key may have whose member has the role.
FITS = {"owner": set(ROLES), "admin": set(ROLES) - {"owner"}, "developer": {"developer"}, "finance": {"finance"},
        "auditor": {"auditor"}}


class Base(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits=None, platform=False)
        cls.other = cls.tg.setup_org("beta", credits=None, platform=False)
        cls.roles = {role: cls.key(role=role, scopes=["admin"]) for role in ROLES}
        cls.count = 0

    @classmethod
    def key(cls, token=harness.ADMIN_TOKEN, org="acme", **more):
        return cls.tg.must("POST", f"/orgs/{org}/api-keys", {"name": "k", **more}, token=token)

    def ask(self, method, path, body=None, role="operator", org="acme", token=None):
        token = token or (harness.ADMIN_TOKEN if role == "operator" else self.roles[role]["key"])
        return self.tg.admin(method, f"/orgs/{org}{path}", body, token=token)

    def refused(self, got, status, code):
        self.assertEqual((got[0], got[1]["error"]["code"]), (status, code), got)

    def invite(self, role="developer", email=None, **more):
        type(self).count += 1
        status, envelope = self.ask("POST", "/members", {"email": email or f"m{self.count}@example.com", "role": role}, **more)
        self.assertEqual(status, 201, envelope)
        return envelope["data"]

    def show(self, member):
        return self.tg.must("GET", f"/orgs/acme/members/{member['id']}")

    def key_status(self, key):
        return self.tg.must("GET", f"/orgs/acme/api-keys/{key['id']}")["status"]

    def audit(self, action):
        return self.tg.sql(f"SELECT object FROM tollgate.audit WHERE action = '{action}' AND org_id = '{self.org.id}' ORDER BY seq")


class Members(Base):
    def test_invite_show_list(self):
        made = self.invite("admin", "Ann.Lee+x@Example.COM")
        self.assertEqual(set(made), {"id", "email", "role", "status", "created_at", "removed_at"})
        self.assertEqual((made["email"], made["role"], made["status"], made["removed_at"]),
                         ("ann.lee+x@example.com", "admin", "invited", None))
        self.assertEqual(self.show(made), made)
        ids = [self.invite()["id"] for _ in range(5)]
        seen, cursor = [], ""
        while True:
            status, page = self.ask("GET", f"/members?limit=2{cursor}")
            self.assertEqual(status, 200, page)
            seen += [m["id"] for m in page["data"]]
            if not page["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + page["meta"]["next_cursor"]
        self.assertEqual(seen[:5], ids[::-1])
        self.assertEqual(len(seen), len(set(seen)))
        self.assertIn(made["id"], seen)
        self.assertIn([made["id"]], self.audit("member.invite"))
        for bad in ("limit=0", "limit=201", "cursor=x", "email=ann"):
            self.assertEqual(self.ask("GET", "/members?" + bad)[0], 400, bad)

    def test_bad_input_leaves_nothing(self):
        before = self.tg.row_counts()
        for email in ("", " ", "ann", "ann@", "@example.com", "ann@example", "a b@example.com", "ann@exa mple.com", "ann@@example.com",
                      "ann@example..com", ".ann@example.com", "ann.@example.com", "a..n@example.com", "ann@-x.com", "ann@x-.com",
                      "ann@example.com.", "\"a\"@example.com", "ann@[127.0.0.1]", "a\u0000n@example.com", "änn@example.com",
                      "a" * 65 + "@example.com", "ann@" + "a" * 64 + ".com", "a@" + "b." * 130 + "com", 7, None, ["ann@example.com"]):
            self.assertEqual(self.ask("POST", "/members", {"email": email, "role": "admin"})[0], 400, email)
        for role in ("operator", "root", "", 1, None):
            self.assertEqual(self.ask("POST", "/members", {"email": "a@example.com", "role": role})[0], 400, role)
        for body in ({}, {"email": "a@example.com"}, {"role": "admin"}, []):
            self.assertEqual(self.ask("POST", "/members", body)[0], 400, body)
        self.assertEqual(self.tg.row_counts(), before)
        for bad in ("x", "%27", str(uuid.uuid4())):
            self.refused(self.ask("GET", f"/members/{bad}"), 404, "not_found")
            self.refused(self.ask("PATCH", f"/members/{bad}", {"role": "admin"}), 404, "not_found")
            self.refused(self.ask("DELETE", f"/members/{bad}"), 404, "not_found")

    def test_one_member_per_address_and_invited_again_after_removal(self):
        first = self.invite(email="twice@example.com")
        self.refused(self.ask("POST", "/members", {"email": "TWICE@example.com", "role": "auditor"}), 409, "member_exists")
        # another org may have the same person
        self.assertEqual(self.ask("POST", "/members", {"email": "twice@example.com", "role": "auditor"}, org="beta")[0], 201)
        gone = self.tg.must("DELETE", f"/orgs/acme/members/{first['id']}")
        self.assertEqual((gone["status"], gone["keys_revoked"]), ("removed", 0))
        self.assertIsNotNone(gone["removed_at"])
        counts = self.tg.row_counts()
        self.assertEqual(self.tg.must("DELETE", f"/orgs/acme/members/{first['id']}")["status"], "removed")
        self.assertEqual(self.tg.row_counts(), counts)  # again is no error, and no second line in the log
        self.refused(self.ask("PATCH", f"/members/{first['id']}", {"role": "admin"}), 409, "member_removed")
        again = self.invite(email="twice@example.com")
        self.assertNotEqual(again["id"], first["id"])
        self.assertEqual(self.show(first)["status"], "removed")

    def test_g20_a_role_grants_changes_and_removes_only_what_it_may(self):
        for actor in ("operator",) + ROLES:
            may = MAY.get(actor, set())
            for role in ROLES:
                with self.subTest(actor=actor, role=role):
                    got = self.ask("POST", "/members", {"email": f"{actor}.{role}@example.com", "role": role}, actor)
                    self.assertEqual(got[0], 201 if role in may else 403, got)
                    member = self.invite(role)
                    for to in ROLES:
                        got = self.ask("PATCH", f"/members/{member['id']}", {"role": to}, actor)
                        allowed = role in may and to in may
                        self.assertEqual(got[0], 200 if allowed else 403, (to, got))
                        if allowed:
                            self.tg.must("PATCH", f"/orgs/acme/members/{member['id']}", {"role": role})
                    self.assertEqual(self.show(member)["role"], role)
                    got = self.ask("DELETE", f"/members/{member['id']}", role=actor)
                    self.assertEqual(got[0], 200 if role in may else 403, got)
                    self.assertEqual(self.show(member)["status"], "removed" if role in may else "invited")
                    reads = actor in ("operator", "owner", "admin", "auditor")
                    self.assertEqual(self.ask("GET", f"/members/{member['id']}", role=actor)[0], 200 if reads else 403)

    def test_g20_nobody_raises_itself(self):
        for role in ("admin", "developer", "finance", "auditor"):
            me = self.invite(role)
            mine = self.key(role=role, scopes=["admin"], member=me["id"])
            for to in ROLES:
                got = self.ask("PATCH", f"/members/{me['id']}", {"role": to}, token=mine["key"])
                self.assertEqual(got[0], 403, (role, to, got))
            self.assertEqual(self.show(me)["role"], role)

    def test_another_orgs_members_do_not_exist(self):
        theirs = self.tg.must("POST", "/orgs/beta/members", {"email": "z@example.com", "role": "developer"})
        for method, body in (("GET", None), ("PATCH", {"role": "auditor"}), ("DELETE", None)):
            self.refused(self.ask(method, f"/members/{theirs['id']}", body, "owner"), 404, "not_found")
            self.refused(self.ask(method, f"/members/{theirs['id']}", body, "owner", org="beta"), 404, "org_not_found")
        self.assertEqual(self.ask("GET", "/members", role="owner", org="beta")[0], 404)
        got = self.ask("POST", "/api-keys", {"name": "k", "member": theirs["id"]}, "owner")
        self.refused(got, 400, "member_not_found")
        self.assertEqual(self.tg.must("GET", f"/orgs/beta/members/{theirs['id']}")["role"], "developer")

    def test_the_last_owner_stays(self):
        self.tg.setup_org("solo", credits=None, platform=False)
        one = self.ask("POST", "/members", {"email": "one@example.com", "role": "owner"}, org="solo")[1]["data"]
        key = self.key(org="solo", role="owner", scopes=["admin"], member=one["id"])
        path, token = f"/members/{one['id']}", key["key"]
        for got in (self.ask("DELETE", path, org="solo"), self.ask("DELETE", path, org="solo", token=token),
                    self.ask("PATCH", path, {"role": "admin"}, org="solo", token=token)):
            self.refused(got, 409, "last_owner")
        self.assertEqual(self.ask("PATCH", path, {"role": "owner"}, org="solo")[0], 200)
        two = self.ask("POST", "/members", {"email": "two@example.com", "role": "owner"}, org="solo", token=token)[1]["data"]
        # Stepping down is free when another is there; the owner's key goes with it.
        got = self.ask("PATCH", path, {"role": "admin"}, org="solo", token=token)
        self.assertEqual((got[0], got[1]["data"]["role"], got[1]["data"]["keys_revoked"]), (200, "admin", 1))
        self.tg.settled(3)
        self.assertEqual(self.ask("GET", "/members", org="solo", token=token)[0], 401)
        self.refused(self.ask("DELETE", f"/members/{two['id']}", org="solo"), 409, "last_owner")

    # --- keys of members ---

    def test_a_members_key_is_never_above_the_member(self):
        for member_role, fits in FITS.items():
            member = self.invite(member_role)
            for role in ROLES:
                got = self.ask("POST", "/api-keys", {"name": "k", "role": role, "member": member["id"]})
                self.assertEqual(got[0], 201 if role in fits else 403, (member_role, role, got))
                if role in fits:
                    self.assertEqual(got[1]["data"]["member"], member["id"])
            self.assertEqual(self.show(member)["status"], "active")  # with its first key
        for bad in ("x", 7, ["x"], "%"):
            self.refused(self.ask("POST", "/api-keys", {"name": "k", "member": bad}), 400, "invalid_field")
        self.refused(self.ask("POST", "/api-keys", {"name": "k", "member": str(uuid.uuid4())}), 400, "member_not_found")
        self.assertIsNone(self.key()["member"])
        gone = self.invite()
        self.tg.must("DELETE", f"/orgs/acme/members/{gone['id']}")
        self.refused(self.ask("POST", "/api-keys", {"name": "k", "member": gone["id"]}), 400, "member_not_found")

    def test_g21_removal_and_demotion_end_keys(self):
        member, bystander = self.invite("admin"), self.invite("admin")
        high = self.key(role="admin", scopes=["admin"], member=member["id"])
        low = self.key(role="developer", scopes=["inference", "admin"], member=member["id"])
        rotated = self.tg.must("POST", f"/orgs/acme/api-keys/{low['id']}/rotate", {"overlap_seconds": 600})
        self.assertEqual(rotated["member"], member["id"])
        theirs = self.key(role="admin", scopes=["admin"], member=bystander["id"])
        self.assertEqual(self.ask("GET", "/members", token=high["key"])[0], 200)
        changed = self.tg.must("PATCH", f"/orgs/acme/members/{member['id']}", {"role": "developer"})
        self.assertEqual((changed["role"], changed["keys_revoked"]), ("developer", 1))
        self.tg.settled(2)
        self.assertEqual(self.ask("GET", "/members", token=high["key"])[0], 401)
        self.assertEqual([self.key_status(k) for k in (high, low, rotated, theirs)], ["revoked", "active", "active", "active"])
        # Sideways is not within either.
        changed = self.tg.must("PATCH", f"/orgs/acme/members/{member['id']}", {"role": "auditor"})
        self.assertEqual((changed["keys_revoked"], self.key_status(low), self.key_status(rotated)), (2, "revoked", "revoked"))
        last = self.key(role="auditor", member=member["id"])
        gone = self.tg.must("DELETE", f"/orgs/acme/members/{member['id']}")
        self.assertEqual((gone["keys_revoked"], self.key_status(last), self.key_status(theirs)), (1, "revoked", "active"))
        self.tg.settled(2)
        self.assertEqual(self.tg.get("/v1/models", last["key"]).status, 401)
        revoked = self.audit("api_key.revoke")
        for key in (high, low, rotated, last):
            self.assertEqual(revoked.count([key["id"]]), 1)
        self.assertIn([member["id"]], self.audit("member.remove"))
        self.assertIn([member["id"] + " auditor"], self.audit("member.role"))

    def test_g21_who_is_revoked_while_its_body_comes_does_nothing(self):
        """The request's head came while its key stood, its body when that was revoked."""
        member = self.invite("developer")
        model = {"model": harness.MODEL, "messages": [{"role": "user", "content": "too late"}]}
        for surface, method, path, body in (
                ("admin", "POST", "/admin/v1/orgs/acme/api-keys", {"name": "left-behind", "role": "developer"}),
                ("admin", "PATCH", f"/admin/v1/orgs/acme/members/{member['id']}", {"role": "finance"}),
                ("admin", "PATCH", "/admin/v1/orgs/acme", {"name": "left behind"}),
                ("data", "POST", "/v1/chat/completions", model)):
            key = self.key(role="admin", scopes=["admin", "inference"])
            text = json.dumps(body).encode()
            host, port = getattr(self.tg, surface + "_host"), getattr(self.tg, surface + "_port")
            with socket.create_connection((host, port), timeout=20 * harness.SLOW) as s:
                s.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key['key']}\r\n"
                          f"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {len(text)}\r\n"
                          "Connection: close\r\n\r\n".encode())
                self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 100"))
                self.tg.must("DELETE", f"/orgs/acme/api-keys/{key['id']}")
                self.tg.settled()
                self.assertEqual(self.ask("GET", "/members", token=key["key"])[0], 401)
                self.assertEqual({self.tg.chat(model, key=key["key"]).status for _ in range(6)}, {401})
                before = self.tg.row_counts(), self.show(member), self.tg.must("GET", "/orgs/acme")
                calls = self.tg.fake.stats()
                s.sendall(text)
                answer = b"".join(iter(lambda: s.recv(65536), b""))
            self.assertTrue(answer.startswith(b"HTTP/1.1 401"), answer)
            self.assertEqual((self.tg.row_counts(), self.show(member), self.tg.must("GET", "/orgs/acme")), before)
            self.assertEqual(self.tg.fake.stats(), calls)

    def test_g21_what_a_worker_has_not_heard_of_the_database_refuses(self):
        key = self.key(role="admin", scopes=["admin"])
        self.tg.must("DELETE", f"/orgs/acme/api-keys/{key['id']}")
        other, member = self.key()["id"], self.invite()["id"]
        actor = json.dumps({"type": "api_key", "id": key["id"], "name": "k", "role": "admin"})
        spec = '{"name": "left-behind", "role": "developer", "scopes": ["inference"], "models": ["*"]}'
        before = self.tg.row_counts()
        for call in (f"key_make('{uuid.uuid4()}', 'leftover', sha256('x'), 1, 'xxxx', '{spec}', '{actor}', 'r')",
                     f"key_alter('{other}', '{{\"models\": [\"a\"]}}', '{actor}', 'r')",
                     f"key_renew('{other}', '{uuid.uuid4()}', 'leftover', sha256('x'), 1, 'xxxx', 0, '{actor}', 'r')",
                     f"member_invite('{uuid.uuid4()}', 'left@example.com', 'developer', '{actor}', 'r')",
                     f"member_role('{member}', 'finance', '{actor}', 'r')", f"member_remove('{member}', '{actor}', 'r')"):
            with self.assertRaisesRegex(AssertionError, "was revoked, or has expired"):
                self.tg.sql(f"SET search_path = tollgate; SET app.org_id = '{self.org.id}'; SELECT {call}")
        self.assertEqual(self.tg.row_counts(), before)

    def test_every_bound_of_a_key_stands_in_the_audit_log(self):
        def told(key):
            """[[action, before, after]] of the key's row, oldest first."""
            return self.tg.sql("SELECT a.action, c.value->>'before', c.value->>'after' FROM tollgate.audit a, "
                               f"jsonb_each(a.changes) c WHERE a.org_id = '{self.org.id}' AND c.key = 'api_key/{key}' ORDER BY a.seq")

        member = self.invite("developer")
        key = self.key(member=member["id"], allow_from=["10.0.0.0/8"])["id"]
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key}", {"allow_from": None})
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key}", {"providers": ["openai"], "name": "n"})
        lines = told(key)
        self.assertEqual([line[0] for line in lines],
                         ["api_key.create", "api_key.bind", "api_key.bind", "api_key.change", "api_key.bind"])
        for before, after in zip(lines, lines[1:]):  # without a gap
            self.assertEqual(after[1], before[2])
        new = self.tg.must("POST", f"/orgs/acme/api-keys/{key}/rotate", {})["id"]
        self.assertEqual([line[0] for line in told(new)], ["api_key.rotate", "api_key.bind"])
        activated = self.tg.sql(f"SELECT a.action FROM tollgate.audit a WHERE a.changes ? 'member/{member['id']}' ORDER BY a.seq")
        self.assertEqual(activated, [["member.invite"], ["api_key.bind"]])

    def test_what_a_developer_makes_goes_with_it(self):
        me, other = self.invite(), self.invite()
        mine = self.key(role="developer", scopes=["admin"], member=me["id"])
        made = self.key(token=mine["key"])
        self.assertEqual(made["member"], me["id"])
        self.assertEqual(self.key(token=mine["key"], member=me["id"])["member"], me["id"])
        self.refused(self.ask("POST", "/api-keys", {"name": "k", "member": other["id"]}, token=mine["key"]), 403, "permission_denied")
        self.assertEqual(self.tg.must("DELETE", f"/orgs/acme/members/{me['id']}")["keys_revoked"], 3)
        self.tg.settled(2)
        self.assertEqual(self.tg.get("/v1/models", made["key"]).status, 401)

    def test_cli(self):
        run = lambda *args: self.tg.cli("member", *args, "--org", "acme", "--json")
        data = lambda done: json.loads(done.stdout)["data"]
        made = run("invite", "--email", "cli@example.com", "--role", "admin")
        self.assertEqual(made.returncode, 0, made.stderr)
        member = data(made)["id"]
        self.assertEqual(data(run("list"))[0]["email"], "cli@example.com")
        self.assertEqual(data(run("show", member))["role"], "admin")
        self.assertEqual(data(run("role", member, "auditor"))["role"], "auditor")
        self.assertEqual(data(run("remove", member))["status"], "removed")
        self.assertEqual(run("role", member, "admin").returncode, 1)
        for bad in (("invite",), ("invite", "--email", "x@example.com"), ("role", member), ("remove",), ("show", "a/b"), ("make",),
                    ("list", "--role", "x")):
            self.assertEqual(run(*bad).returncode, 2, bad)
        self.assertEqual(self.tg.cli("member", "list").returncode, 2)
        org = lambda *args: self.tg.cli("org", "change", "acme", *args, "--json")
        self.assertEqual(data(org("--set", "key_max_days=30", "--set", "revoked_streams=finish"))["settings"],
                         {"key_max_days": 30, "revoked_streams": "finish"})
        self.assertEqual(data(org("--set", "key_max_days=null", "--set", "revoked_streams=null"))["settings"],
                         {"key_max_days": None, "revoked_streams": "cut"})
        for bad in (("--set", "key_max_days"), ("--set", "=1"), ("--set", ""), ("--unset", "x")):
            self.assertEqual(org(*bad).returncode, 2, bad)
        self.assertEqual(org("--set", "colour=red").returncode, 1)
        key = self.tg.cli("key", "create", "--org", "acme", "--name", "cli", "--allow-from", "127.0.0.0/8,::1", "--providers", "openai",
                          "--billing", "byok,private", "--member", self.invite()["id"], "--json")
        self.assertEqual(key.returncode, 0, key.stderr)
        self.assertEqual((data(key)["allow_from"], data(key)["providers"], data(key)["billing"]),
                         (["127.0.0.0/8", "::1/128"], ["openai"], ["byok", "private"]))


class Settings(Base):
    def settings(self, **change):
        return self.ask("PATCH", "", {"settings": change})

    def tearDown(self):
        self.tg.must("PATCH", "/orgs/acme", {"settings": {"key_max_days": None, "revoked_streams": None}})

    def test_merge(self):
        self.assertEqual(self.settings(key_max_days=90)[1]["data"]["settings"], {"key_max_days": 90, "revoked_streams": "cut"})
        got = self.settings(revoked_streams="finish")[1]["data"]["settings"]
        self.assertEqual(got, {"key_max_days": 90, "revoked_streams": "finish"})
        self.assertEqual(self.tg.must("GET", "/orgs/acme")["settings"], got)
        self.assertEqual(self.settings(key_max_days=None)[1]["data"]["settings"], {"key_max_days": None, "revoked_streams": "finish"})
        both = self.ask("PATCH", "", {"name": "New", "settings": {"revoked_streams": None}})[1]["data"]
        self.assertEqual((both["name"], both["settings"]), ("New", {"key_max_days": None, "revoked_streams": "cut"}))
        self.assertGreaterEqual(len(self.audit("org.settings")), 4)
        self.assertEqual(self.tg.sql("SELECT settings FROM tollgate.org WHERE slug = 'acme'"), [["{}"]])

    def test_bad_input_changes_nothing(self):
        before = self.tg.row_counts()
        for change, field in (({"key_max_days": 0}, "settings.key_max_days"), ({"key_max_days": 3651}, "settings.key_max_days"),
                              ({"key_max_days": 1.5}, "settings.key_max_days"), ({"key_max_days": "9"}, "settings.key_max_days"),
                              ({"revoked_streams": "maybe"}, "settings.revoked_streams"), ({"revoked_streams": True}, "settings.revoked_streams"),
                              ({"colour": "red"}, "settings.colour"), ({"colour": None}, "settings.colour"), ({}, "settings"),
                              ({"key_max_days": 9, "tier": "gold"}, "settings.tier")):
            status, envelope = self.settings(**change)
            self.assertEqual((status, envelope["error"].get("field")), (400, field), envelope)
        for bad in (None, [], "x", 1):
            self.assertEqual(self.ask("PATCH", "", {"settings": bad})[0], 400, bad)
        self.assertEqual(self.tg.row_counts(), before)
        for role in ("developer", "finance", "auditor"):
            self.assertEqual(self.ask("PATCH", "", {"settings": {"key_max_days": 1}}, role)[0], 403)
        self.assertEqual(self.ask("PATCH", "", {"settings": {"key_max_days": 9}, "tier": "gold"}, "owner")[0], 403)
        self.assertEqual(self.tg.must("GET", "/orgs/acme")["settings"]["key_max_days"], None)

    def test_how_long_a_key_may_live(self):
        days = lambda n: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + n * 86400))
        old = self.key()
        self.assertEqual(self.settings(key_max_days=10)[0], 200)
        for more in ({}, {"expires_at": None}, {"expires_at": days(11)}):
            counts = self.tg.row_counts()
            got = self.ask("POST", "/api-keys", {"name": "k", **more}, "owner")
            self.refused(got, 400, "expiry_policy")
            self.assertEqual(self.tg.row_counts(), counts)
        made = self.key(expires_at=days(9))
        path = f"/api-keys/{made['id']}"
        for bad in (None, days(11)):
            self.refused(self.ask("PATCH", path, {"expires_at": bad}), 400, "expiry_policy")
        self.assertEqual(self.tg.must("GET", f"/orgs/acme{path}")["expires_at"], made["expires_at"])
        self.assertEqual(self.ask("PATCH", path, {"expires_at": days(8)})[0], 200)
        # What stood before the rule stands; a change of something else is free, a rotation brings it under the rule.
        self.assertEqual(self.ask("PATCH", f"/api-keys/{old['id']}", {"name": "still"})[0], 200)
        new = self.tg.must("POST", f"/orgs/acme/api-keys/{old['id']}/rotate", {"overlap_seconds": 60})
        self.assertLess(abs(seconds_of(new["expires_at"]) - time.time() - 10 * 86400), 600)
        self.assertIsNone(old["expires_at"])


class Back(unittest.TestCase):
    def test_the_way_back_forgets_no_member_and_no_bound(self):
        with harness.Tollgate() as tg:
            tg.setup_org("acme", credits=None, platform=False)
            steps = lambda: tg.sql("SELECT count(*) FROM tollgate.migration WHERE version >= "
                                   "(SELECT version FROM tollgate.migration WHERE name LIKE '%members%')")[0][0]
            member = tg.must("POST", "/orgs/acme/members", {"email": "a@example.com", "role": "developer"})
            key = tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "allow_from": ["127.0.0.1"]})
            tg.stop()
            refused = tg.cli("migrate", "down", steps())
            self.assertEqual(refused.returncode, 1, refused)
            self.assertEqual(tg.sql(f"SELECT email FROM tollgate.member WHERE id = '{member['id']}'"), [["a@example.com"]])
            tg.sql(f"DELETE FROM tollgate.member; UPDATE tollgate.api_key SET revoked_at = now() WHERE id = '{key['id']}'")
            done = tg.cli("migrate", "down", steps())
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual(tg.sql("SELECT to_regproc('tollgate.member_invite') IS NULL"), [["t"]])
            tg.migrate()
            tg.start()
            self.assertEqual(tg.must("GET", "/orgs/acme/members"), [])


def seconds_of(text):
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


if __name__ == "__main__":
    unittest.main()
