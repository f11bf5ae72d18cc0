"""The audit log: every write stands in it once, everyone who may reads it in pages, and what was done to it is found."""
import json
import threading
import unittest

import harness

ROLES = ("owner", "admin", "developer", "finance", "auditor")
SECRETS = ("fake-audit-secret-1", "fake-audit-secret-2")  # not secrets: made up for these tests
OPERATOR = {"type": "operator"}


def verify(tg, *args, status=0):
    done = tg.cli("audit", "verify", *args, "--json")
    assert done.returncode == status, done
    return json.loads(done.stdout)["data"]


class Written(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits=None, platform=False)

    def ask(self, method, path, body=None, status=200, token=harness.ADMIN_TOKEN, org="acme"):
        got, envelope = self.tg.admin(method, f"/orgs/{org}{path}" if org else path, body, token=token)
        self.assertEqual(got, status, (method, path, envelope))
        return envelope["data"] or {}, envelope["meta"]["request_id"] if "meta" in envelope else None

    def rows(self, query="?limit=200", org="acme", token=harness.ADMIN_TOKEN):
        return self.tg.must("GET", f"/orgs/{org}/audit{query}", token=token)

    def test_every_write_once_with_who_what_and_which_and_no_secret(self):
        made, _ = self.ask("POST", "/api-keys", {"name": "Ann", "role": "admin", "scopes": ["admin"]}, 201)
        token = made["key"]
        ann = {"type": "api_key", "id": made["id"], "name": "Ann", "role": "admin"}
        expected, changed = [], []

        def write(method, path, body, action, object_, status=200, result="ok", by=ann):
            before = self.rows()[0]["seq"]
            data, request_id = self.ask(method, path, body, status, token if by is ann else harness.ADMIN_TOKEN)
            row = self.rows()[0]
            self.assertEqual(row["seq"], before + 1, (method, path))
            self.assertRegex(row.pop("at"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            expected.append({"seq": before + 1, "actor": by, "action": action, "object": object_ or data["id"],
                             "result": result, "request_id": request_id, "ip": "127.0.0.1", "changes": row["changes"],
                             "provider": "openai_compatible" if action.startswith("profile.") else None})
            changed.append({c["object"].partition("/")[0] for c in row["changes"]})
            self.assertEqual(row, expected[-1])
            return data

        def refuse(method, path, body, status, by=token):
            before = self.rows()[0]["seq"]
            self.ask(method, path, body, status, by)
            self.assertEqual(self.rows()[0]["seq"], before, (method, path))

        route = {"match": {"alias": "fast"}, "targets": [{"provider": "openai_compatible", "model": harness.MODEL}]}
        profile = {"name": "team", "provider": "openai_compatible", "base_url": self.fake.base_url, "secret": SECRETS[0],
                   "validate": False}
        key = write("POST", "/api-keys", {"name": "k", "role": "developer"}, "api_key.create", None, 201)["id"]
        write("PATCH", f"/api-keys/{key}", {"name": "k2"}, "api_key.change", key)
        write("DELETE", f"/api-keys/{key}", None, "api_key.revoke", key)
        team = write("POST", "/profiles", profile, "profile.create", None, 201)["id"]
        write("PATCH", "/profiles/team", {"priority": 7}, "profile.change", team)
        write("PUT", "/profiles/team/default", None, "profile.change", team)
        write("POST", "/profiles/team/rotate", {"secret": SECRETS[1]}, "profile.rotate", team)
        write("POST", "/profiles/team/test", {"action": "test_auth"}, "profile.test", team)
        write("PUT", "/routes/fast", route, "route.put", "fast")
        write("DELETE", "/routes/fast", None, "route.delete", "fast")
        write("DELETE", "/profiles/team", None, "profile.revoke", team)
        grant = write("POST", "/credits/grants", {"amount": "1.00", "category": "paid", "priority": 50, "expires_at": None,
                                                  "reason": "test"}, "credits.grant", None, 201, by=OPERATOR)["id"]
        self.assertTrue(grant)
        # What each of them changed: a test of a profile nothing, a rotation the secret and not the profile.
        self.assertEqual(changed, [{"api_key"}, {"api_key"}, {"api_key"}, {"profile", "secret"}, {"profile"}, {"profile"},
                                   {"secret"}, set(), {"route"}, {"route"}, {"profile", "secret"}, set()])
        refuse("POST", "/api-keys", {"name": "k", "role": "owner"}, 403)
        refuse("POST", "/api-keys", {"name": "k", "surprise": 1}, 400)
        refuse("POST", "/profiles", {**profile, "secret": [SECRETS[0]]}, 400)
        refuse("DELETE", "/routes/never", None, 404)
        refuse("PATCH", "", {"status": "suspended"}, 403)
        refuse("GET", "/profiles", None, 200)
        self.assertEqual(self.rows()[:len(expected)], [{**row, "at": kept["at"]} for row, kept in
                                                       zip(reversed(expected), self.rows())])
        text = json.dumps(self.rows()) + json.dumps(self.tg.sql("SELECT a::text FROM tollgate.audit a"))
        for secret in (*SECRETS, token, self.org.key, harness.ADMIN_TOKEN):
            self.assertNotIn(secret, text)

    def test_what_is_the_platforms_stands_in_the_platforms_log(self):
        self.tg.setup_model("logged")
        got = [(row["actor"], row["action"], row["object"], row["provider"]) for row in self.rows(org="platform")[:2]]
        self.assertEqual(got, [(OPERATOR, "price.put", "sell:openai_compatible/logged", "openai_compatible"),
                               (OPERATOR, "model.put", "openai_compatible/logged", "openai_compatible")])
        self.assertNotIn("model.put", [row["action"] for row in self.rows()])

    def test_an_entry_takes_up_what_the_one_before_left(self):
        """Each object's hash before a change is the one after the last: unless somebody went past the service."""
        self.tg.setup_org("hashed", credits=None, platform=False)
        self.tg.setup_profile("hashed", "team")
        for priority in (5, 6, 6, 5):
            self.ask("PATCH", "/profiles/team", {"priority": priority}, org="hashed")
        self.ask("POST", "/profiles/team/rotate", {"secret": "fake-audit-secret-3"}, org="hashed")
        self.tg.sql("UPDATE tollgate.profile SET models = '{x}' WHERE name = 'team'")
        self.ask("PATCH", "/profiles/team", {"priority": 7}, org="hashed")
        self.ask("DELETE", "/profiles/team", org="hashed")
        links = {}
        for row in reversed(self.rows("?action=profile.", "hashed")):
            for change in row["changes"]:
                links.setdefault(change["object"].partition("/")[0], []).append((change["before"], change["after"]))
        profile, secret = links["profile"], links["secret"]
        self.assertIsNone(profile[0][0])
        self.assertEqual(len(profile), 6)  # the third PATCH changed nothing
        self.assertEqual([a[1] == b[0] for a, b in zip(profile, profile[1:])], [True, True, True, False, True])
        self.assertEqual((profile[1], profile[0][1] != profile[1][1], profile[3][1]), (profile[1], True, profile[1][1]))
        self.assertEqual([a[1] == b[0] for a, b in zip(secret, secret[1:])], [True, True])
        self.assertEqual((secret[0][0], secret[-1][1], len(secret)), (None, None, 3))
        for pair in profile + secret:
            for value in pair:
                self.assertRegex(value or "0" * 64, "^[0-9a-f]{64}$")

    def test_what_binds_a_key_is_told_too(self):
        """The same of API keys and members, whichever of a request's functions wrote the row last."""
        self.tg.setup_org("bound", credits=None, platform=False)
        member, _ = self.ask("POST", "/members", {"email": "bound@example.com", "role": "admin"}, status=201, org="bound")
        key, _ = self.ask("POST", "/api-keys", {"name": "k", "member": member["id"], "allow_from": ["127.0.0.0/8"], "providers": ["openai"],
                                                "budget": {"limit": "5", "window": "day"}}, status=201, org="bound")
        self.ask("PATCH", f"/api-keys/{key['id']}", {"allow_from": ["127.0.0.0/8", "10.0.0.0/8"]}, org="bound")
        self.ask("PATCH", f"/api-keys/{key['id']}", {"name": "l", "providers": None}, org="bound")
        self.ask("PATCH", f"/api-keys/{key['id']}", {"budget": {"limit": "6", "window": "day"}}, org="bound")
        new, _ = self.ask("POST", f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 600}, status=201, org="bound")
        self.ask("PATCH", f"/api-keys/{new['id']}", {"billing": ["byok"]}, org="bound")
        for one in (key, new):
            self.ask("DELETE", f"/api-keys/{one['id']}", org="bound")
        links = {}
        for row in reversed(self.rows("?limit=200", "bound")):
            for change in row["changes"]:
                links.setdefault(change["object"], []).append((change["before"], change["after"]))
        self.assertEqual({(name.partition("/")[0], len(told)) for name, told in links.items()},
                         {("org", 1), ("member", 2), ("api_key", 1), ("api_key", 7), ("api_key", 4), ("budget", 3)}, links)
        for name, told in links.items():
            with self.subTest(object=name):
                self.assertIsNone(told[0][0])
                self.assertEqual([a[1] for a in told[:-1]], [b[0] for b in told[1:]])
        for name, told in links.items():
            table, _, ident = name.partition("/")
            now = self.tg.sql(f"SELECT encode(sha256(convert_to((to_jsonb(t) - '{{version,last_used_at,changed_at}}'::text[])::text, 'UTF8')), 'hex') "
                              f"FROM tollgate.{table} t WHERE {'org_id' if table == 'org' else 'id'} = '{ident}'")
            self.assertEqual([[told[-1][1]]], now, f"{name} is not as its last entry left it")

    def test_pages_newest_first(self):
        self.tg.setup_org("paged", credits=None, platform=False)
        for i in range(5):
            self.ask("PATCH", "", {"name": f"P{i}"}, org="paged")
        seen, cursor = [], ""
        while True:
            status, page = self.tg.admin("GET", f"/orgs/paged/audit?limit=3{cursor}")
            self.assertEqual(status, 200, page)
            self.assertLessEqual(len(page["data"]), 3)
            seen += page["data"]
            if not page["meta"]["next_cursor"]:
                break
            cursor = "&cursor=" + page["meta"]["next_cursor"]
            self.ask("PATCH", "", {"name": "while a page is read"}, org="paged")  # moves no row into a later page
        self.assertEqual([row["seq"] for row in seen], [7, 6, 5, 4, 3, 2, 1])
        self.assertEqual([row["action"] for row in seen], ["org.change"] * 5 + ["api_key.create", "org.create"])
        # The cursor of another list is none of this one.
        other = self.tg.admin("GET", "/orgs?limit=1")[1]["meta"]["next_cursor"]
        for bad in ("limit=0", "limit=201", "cursor=%00", "cursor=x", f"cursor={other}", "surprise=1", "Action=org."):
            self.assertEqual(self.tg.admin("GET", f"/orgs/paged/audit?{bad}")[0], 400, bad)

    def test_the_action_filter(self):
        self.tg.setup_org("sifted", credits=None, platform=False)
        for i in range(3):
            self.ask("PATCH", "", {"name": f"S{i}"}, org="sifted")
        actions = lambda query: [row["action"] for row in self.rows(query, "sifted")]
        self.assertEqual(actions("?action=org."), ["org.change"] * 3 + ["org.create"])
        self.assertEqual(actions("?action=api_key.create"), ["api_key.create"])
        self.assertEqual(actions("?action=rg"), [])
        self.assertEqual(actions("?action=org_change"), [])  # '_' is itself
        first = self.tg.admin("GET", "/orgs/sifted/audit?action=org.&limit=2")[1]
        more = self.rows(f"?action=org.&limit=2&cursor={first['meta']['next_cursor']}", "sifted")
        self.assertEqual([row["action"] for row in more], ["org.change", "org.create"])
        for bad in ("", "%25", "org.%25", "ORG", "org'--", "a" * 65, "%00"):
            self.assertEqual(self.tg.admin("GET", f"/orgs/sifted/audit?action={bad}")[0], 400, bad)

    def test_who_reads_it(self):
        for role in ROLES:
            key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": role, "role": role, "scopes": ["admin"]})["key"]
            for org, status in (("acme", 200 if role in ("owner", "admin", "auditor") else 403), ("platform", 404)):
                self.assertEqual(self.tg.admin("GET", f"/orgs/{org}/audit", token=key)[0], status, (role, org))
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                self.assertEqual(self.tg.admin(method, "/orgs/acme/audit", {}, token=key)[0], 405, (role, method))

    def refused(self, statement, words, role="tollgate_app"):
        with self.assertRaises(AssertionError, msg=statement) as caught:
            self.tg.sql(f"SET ROLE {role}; SET search_path = tollgate; SET app.org_id = '{self.org.id}'; {statement}")
        self.assertRegex(str(caught.exception), words)

    def test_the_service_cannot_write_the_table(self):
        row = f"('{self.org.id}', 999, now(), '{{}}', 'a', 'b', 'ok', 'r', '', '')"
        for statement in (f"INSERT INTO audit VALUES {row}", "UPDATE audit SET result = 'no'", "DELETE FROM audit",
                          "TRUNCATE audit", "UPDATE audit_head SET last_seq = 0", "DELETE FROM audit_head",
                          "SELECT * FROM audit_head", "ALTER TABLE audit DISABLE TRIGGER append_only",
                          f"SELECT audit_append('{self.org.id}', '{{}}', 'a', 'b', 'ok', 'r')",
                          f"SELECT audit_check('{self.org.id}', '{self.org.id}')"):
            self.refused(statement, "permission denied|must be owner")
        for statement in ("UPDATE audit SET result = 'no'", "DELETE FROM audit", "TRUNCATE audit"):
            self.refused(statement, "append-only", "tollgate_owner")

    def test_the_service_puts_no_words_into_what_the_database_notes(self):
        """What changed is told by the tables alone: whatever a session says of it is nothing, and keeps nothing from being written."""
        forged = '{"provider":"forged","changes":{"profile/x":{"before":null,"after":"forged"}}}'
        elsewhere = self.tg.sql("SET search_path = tollgate; UPDATE model SET updated_at = now(); SELECT current_setting('app.audit_note')")
        who = '\'{"type": "service"}\''
        session = f"SET ROLE tollgate_app; SET search_path = tollgate; SET app.org_id = '{self.org.id}'; "
        self.assertTrue(elsewhere)
        for words in ("no json", "{", "5", '{"more":true}', '{"more":"x"}', '{"changes":5}', '{"changes":{"a/b":1}}', forged,
                      "0" * 64 + forged, elsewhere[0][0]):
            with self.subTest(words=words):
                quoted = words.replace("'", "''")
                self.tg.sql(session + f"SET app.audit_note = '{quoted}'; SELECT audit_record({who}, 'test.words', 'o', 'ok', 'r')")
                row = self.rows("?limit=1")[0]
                self.assertEqual((row["action"], row["provider"], row["changes"]), ("test.words", None, []))
                self.tg.sql(session + f"SET app.audit_note = '{quoted}'; SELECT agent_put('noted', 'm', NULL, 'active', {who}, 'r')")
                row = self.rows("?limit=1")[0]
                self.assertEqual((row["action"], [c["object"] for c in row["changes"]]), ("agent.put", ["agent/noted"]))
                self.tg.sql(session + f"SELECT agent_delete('noted', {who}, 'r')")
        self.refused("SELECT audit_note_seal('x')", "permission denied")
        self.refused("SELECT * FROM audit_note_key", "permission denied")
        self.assertTrue(verify(self.tg, "--org", "acme")["ok"])

    def test_it_sees_one_org(self):
        ask = lambda what, org: self.tg.sql(f"SET ROLE tollgate_app; SET search_path = tollgate; SET app.org_id = '{org}'; {what}")
        self.assertEqual(ask("SELECT DISTINCT org_id FROM audit", self.org.id), [[self.org.id]])
        self.assertEqual(ask("SELECT org_id, slug, bad_seq FROM audit_verify()", self.org.id), [[self.org.id, "acme", ""]])
        self.assertEqual(ask("SELECT 1 FROM audit UNION ALL SELECT 1 FROM audit_verify()", ""), [])

    def test_verify_while_rows_are_written(self):
        names = [self.tg.setup_org(f"busy-{i}", credits=None, platform=False).slug for i in range(3)]
        stop, wrong = threading.Event(), []

        def write(slug):
            while not stop.is_set():
                status, envelope = self.tg.admin("PATCH", f"/orgs/{slug}", {"name": slug})
                if status != 200:
                    wrong.append(envelope)

        threads = [threading.Thread(target=write, args=(slug,)) for slug in names]
        for thread in threads:
            thread.start()
        try:
            seen = [verify(self.tg)["rows"] for _ in range(8)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])
        self.assertGreater(seen[-1], seen[0])

    def test_the_commands(self):
        self.tg.setup_org("typed", credits=None, platform=False)
        rows, orgs = self.tg.sql("SELECT count(*), (SELECT count(*) FROM tollgate.org) FROM tollgate.audit")[0]
        done = self.tg.cli("audit", "verify")
        self.assertEqual((done.returncode, done.stdout), (0, f"audit verify: ok ({rows} rows, {orgs} orgs)\n"), done)
        done = self.tg.cli("audit", "verify", "--org", "typed")
        self.assertEqual((done.returncode, done.stdout), (0, "audit verify: ok (2 rows, 1 orgs)\n"), done)
        self.assertEqual(verify(self.tg, "--org", "typed"), {"rows": 2, "orgs": 1, "bad_orgs": 0, "bad": [], "ok": True})
        listed = json.loads(self.tg.cli("audit", "list", "--org", "typed", "--json").stdout)["data"]
        self.assertEqual(listed, self.rows(org="typed"))
        done = self.tg.cli("audit", "list", "--org", "typed", "--action", "org.")
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("org.create", done.stdout)
        self.assertNotIn("api_key.create", done.stdout)
        cursor = self.tg.admin("GET", "/orgs/typed/audit?limit=1")[1]["meta"]["next_cursor"]
        listed = json.loads(self.tg.cli("audit", "list", "--org", "typed", "--cursor", cursor, "--json").stdout)["data"]
        self.assertEqual([row["seq"] for row in listed], [1])
        for status, args in ((1, ("verify", "--org", "never-was")), (2, ("verify", "--org", "a/b")), (2, ("verify", "acme")),
                             (2, ("verify", "--surprise")), (2, ("list",)), (2, ("list", "--org", "typed", "--action", "a&b=c")),
                             (2, ("list", "--org", "typed", "--cursor", "a&b")), (2, ()), (2, ("repair",))):
            self.assertEqual(self.tg.cli("audit", *args).returncode, status, args)
        away = f"host=127.0.0.1 port={harness.free_port()} user=nobody"
        self.assertEqual(self.tg.cli("audit", "verify", env={"TOLLGATE_DATABASE_URL": away}).returncode, 3)


REHASHED = """UPDATE audit SET action = 'x.y' WHERE org_id = {org} AND seq = 3;
    UPDATE audit a SET hash = audit_hash(a) WHERE org_id = {org} AND seq = 3"""
SWAPPED = """UPDATE audit SET seq = 100 WHERE org_id = {org} AND seq = 2; UPDATE audit SET seq = 2 WHERE org_id = {org} AND seq = 3;
    UPDATE audit SET seq = 3 WHERE org_id = {org} AND seq = 100"""
ROW = "INSERT INTO audit SELECT org_id, {seq}, at, actor, action, object, result, request_id, hash, hash, ip FROM audit " \
      "WHERE org_id = {{org}} AND seq = 5"

# What is done to the log of an org with five rows, the first place that is not right, and a word of what is said of it.
TAMPERED = {
    "result": ("UPDATE audit SET result = 'denied' WHERE org_id = {org} AND seq = 3", 3, "not what was written"),
    "actor": ("UPDATE audit SET actor = '{{\"type\": \"migration\"}}' WHERE org_id = {org} AND seq = 2", 2, "not what was written"),
    "action": ("UPDATE audit SET action = 'x.y' WHERE org_id = {org} AND seq = 5", 5, "not what was written"),
    "object": ("UPDATE audit SET object = object || ' ' WHERE org_id = {org} AND seq = 1", 1, "not what was written"),
    "at": ("UPDATE audit SET at = at + interval '1 microsecond' WHERE org_id = {org} AND seq = 4", 4, "not what was written"),
    "request-id": ("UPDATE audit SET request_id = 'req_x' WHERE org_id = {org} AND seq = 4", 4, "not what was written"),
    "ip": ("UPDATE audit SET ip = '127.0.0.2' WHERE org_id = {org} AND seq = 3", 3, "not what was written"),
    "provider": ("UPDATE audit SET provider = 'openai' WHERE org_id = {org} AND seq = 3", 3, "not what was written"),
    "changes": ("UPDATE audit SET changes = NULL WHERE org_id = {org} AND seq = 3", 3, "not what was written"),
    "cut-to-the-old-form": ("UPDATE audit SET changes = NULL, ip = NULL WHERE org_id = {org} AND seq = 3", 3, "not what was written"),
    "two": ("UPDATE audit SET result = 'no' WHERE org_id = {org} AND seq IN (2, 4)", 2, "not what was written"),
    "rehashed": (REHASHED, 4, "does not follow"),
    "deleted": ("DELETE FROM audit WHERE org_id = {org} AND seq = 3", 3, "missing"),
    "deleted-first": ("DELETE FROM audit WHERE org_id = {org} AND seq = 1", 1, "missing"),
    "deleted-last": ("DELETE FROM audit WHERE org_id = {org} AND seq = 5", 5, "missing"),
    "deleted-end": ("DELETE FROM audit WHERE org_id = {org} AND seq >= 3", 3, "missing"),
    "deleted-all": ("DELETE FROM audit WHERE org_id = {org}", 1, "missing"),
    "deleted-all-and-head": ("DELETE FROM audit WHERE org_id = {org}; DELETE FROM audit_head WHERE org_id = {org}", 1, "missing"),
    "deleted-all-head-anew": ("DELETE FROM audit WHERE org_id = {org}; UPDATE audit_head SET last_seq = 0, last_hash = '' "
                              "WHERE org_id = {org}", 1, "missing"),
    "closed-up": ("DELETE FROM audit WHERE org_id = {org} AND seq = 3; UPDATE audit SET seq = 3 WHERE org_id = {org} AND seq = 4; "
                  "UPDATE audit SET seq = 4 WHERE org_id = {org} AND seq = 5", 3, "not what was written"),
    "swapped": (SWAPPED, 2, "not what was written"),
    "put-before": (ROW.format(seq=0), 0, "too many"),
    "put-behind": (ROW.format(seq=6), 6, ""),
    "of-another": ("DELETE FROM audit WHERE org_id = {org} AND seq = 3; INSERT INTO audit SELECT {org}, seq, at, actor, action, object, "
                   "result, request_id, prev_hash, hash FROM audit WHERE org_id = {clean} AND seq = 3", 3, "not what was written"),
    "head-back": ("UPDATE audit_head SET last_seq = 3, last_hash = (SELECT hash FROM audit WHERE org_id = {org} AND seq = 3) "
                  "WHERE org_id = {org}", 4, "does not know"),
    "head-hash": ("UPDATE audit_head SET last_hash = '' WHERE org_id = {org}", 5, "another row"),
    "head-gone": ("DELETE FROM audit_head WHERE org_id = {org}", 6, "head of the chain is missing"),
}


class Tampered(harness.Case):
    """By somebody who may do everything in the database but does not know how the chain is made, or cannot make all of it."""

    @classmethod
    def prepare(cls):
        cls.clean = cls.make("clean")

    @classmethod
    def make(cls, slug):
        org = cls.tg.must("POST", "/orgs", {"slug": slug, "name": slug})["id"]
        for i in range(4):
            cls.tg.must("PATCH", f"/orgs/{slug}", {"name": f"{slug} {i}"})
        return org

    def test_every_way_is_found_and_named(self):
        everything = {}
        for name, (statements, seq, words) in TAMPERED.items():
            org = self.make(name)
            self.assertTrue(verify(self.tg, "--org", name)["ok"])
            self.tg.sql("SET search_path = tollgate; ALTER TABLE audit DISABLE TRIGGER append_only; "
                        + statements.format(org=f"'{org}'", clean=f"'{self.clean}'")
                        + "; ALTER TABLE audit ENABLE TRIGGER append_only")
            with self.subTest(name=name):
                found = verify(self.tg, "--org", name, status=1)
                self.assertEqual((found["ok"], found["bad_orgs"], len(found["bad"])), (False, 1, 1), found)
                bad = found["bad"][0]
                self.assertEqual((bad["org"], bad["org_id"], bad["seq"]), (name, org, seq), bad)
                self.assertIn(words, bad["what"])
            everything[name] = seq
        found = verify(self.tg, status=1)
        self.assertEqual({bad["org"]: bad["seq"] for bad in found["bad"]}, everything)
        self.assertEqual(found["bad_orgs"], len(everything))
        done = self.tg.cli("audit", "verify")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("BAD deleted: seq 3: a row is missing", done.stdout)
        self.assertRegex(done.stdout, r"\naudit verify: failed \(\d+ rows, \d+ orgs\)\n$")
        self.assertTrue(verify(self.tg, "--org", "clean")["ok"])
        # An org that was deleted the right way keeps its log, and the log is proved.
        self.make("leaving")
        self.tg.must("DELETE", "/orgs/leaving")
        self.assertNotIn("leaving", [bad["org"] for bad in verify(self.tg, status=1)["bad"]])
        self.tg.sql("SET search_path = tollgate; ALTER TABLE audit DISABLE TRIGGER append_only; DELETE FROM audit WHERE "
                    "action = 'org.delete'; ALTER TABLE audit ENABLE TRIGGER append_only")
        self.assertIn(("leaving", 6), [(bad["org"], bad["seq"]) for bad in verify(self.tg, status=1)["bad"]])


class Migration(unittest.TestCase):
    def test_down_and_up_again(self):
        functions = "SELECT count(*) FROM pg_proc WHERE proname IN ('audit_verify', 'audit_verify_all', 'audit_check', 'tg_cursor_seq')"
        with harness.Tollgate(start=False) as tg:
            version = int(tg.sql("SELECT max(version) FROM tollgate.migration")[0][0])
            done = tg.cli("migrate", "down", str(version - 6))
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual(tg.sql(functions), [["0"]])
            tg.migrate()
            self.assertEqual(tg.sql(functions), [["4"]])
            self.assertTrue(verify(tg)["ok"])
