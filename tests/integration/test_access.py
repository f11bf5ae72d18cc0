"""Who may what: every endpoint of the binary, asked by every role, of its own org and of another (A01, A13, A14, A15)."""
import glob
import os
import re
import unittest
import uuid

import harness

READ = {"operator", "owner", "admin", "developer", "finance", "auditor"}
WRITE = {"operator", "owner", "admin"}
CONFIG = READ - {"finance"}
KEYS = WRITE | {"developer"}
MONEY = READ - {"developer"}
AUDIT = WRITE | {"auditor"}
OPERATOR = {"operator"}
ANYONE = None
ORG = "/admin/v1/orgs/{org}"

# Method, path, roles. An endpoint that stands in the source and not here, or the other way round, fails the test.
CONTROL = (
    ("POST", "/admin/v1/orgs", OPERATOR), ("GET", "/admin/v1/orgs", OPERATOR),
    ("GET", ORG, READ), ("PATCH", ORG, WRITE), ("DELETE", ORG, OPERATOR),
    ("POST", ORG + "/members", WRITE), ("GET", ORG + "/members", AUDIT), ("GET", ORG + "/members/{member}", AUDIT),
    ("PATCH", ORG + "/members/{member}", WRITE), ("DELETE", ORG + "/members/{member}", WRITE),
    ("POST", ORG + "/api-keys", KEYS), ("GET", ORG + "/api-keys", CONFIG), ("GET", ORG + "/api-keys/{id}", CONFIG),
    ("PATCH", ORG + "/api-keys/{id}", KEYS), ("DELETE", ORG + "/api-keys/{id}", KEYS),
    ("POST", ORG + "/api-keys/{id}/rotate", KEYS),
    ("GET", ORG + "/audit", AUDIT),
    ("GET", ORG + "/profiles", CONFIG), ("POST", ORG + "/profiles", WRITE), ("GET", ORG + "/profiles/{profile}", CONFIG),
    ("PATCH", ORG + "/profiles/{profile}", WRITE), ("DELETE", ORG + "/profiles/{profile}", WRITE),
    ("PUT", ORG + "/profiles/{profile}/default", WRITE), ("POST", ORG + "/profiles/{profile}/rotate", WRITE),
    ("POST", ORG + "/profiles/{profile}/test", WRITE),
    ("GET", ORG + "/routes", CONFIG), ("POST", ORG + "/routes/explain", CONFIG), ("GET", ORG + "/routes/{name}", CONFIG),
    ("PUT", ORG + "/routes/{name}", WRITE), ("DELETE", ORG + "/routes/{name}", WRITE), ("GET", ORG + "/models", READ),
    ("GET", ORG + "/agents", CONFIG), ("GET", ORG + "/agents/{name}", CONFIG), ("PUT", ORG + "/agents/{name}", WRITE),
    ("DELETE", ORG + "/agents/{name}", WRITE), ("POST", ORG + "/config/plan", WRITE), ("POST", ORG + "/config/apply", WRITE),
    ("GET", ORG + "/credits", MONEY), ("GET", ORG + "/credits/grants", MONEY), ("POST", ORG + "/credits/grants", OPERATOR),
    ("POST", ORG + "/credits/top-up", OPERATOR), ("GET", ORG + "/ledger/entries", MONEY), ("GET", ORG + "/usage", READ),
    ("GET", ORG + "/usage/calls", READ), ("GET", ORG + "/usage/calls/{request_id}", READ),
    ("GET", ORG + "/budgets", READ), ("POST", ORG + "/budgets", WRITE), ("GET", ORG + "/budgets/{id}", READ),
    ("PATCH", ORG + "/budgets/{id}", WRITE), ("DELETE", ORG + "/budgets/{id}", WRITE),
    ("GET", ORG + "/alerts", MONEY), ("POST", ORG + "/alerts", WRITE), ("GET", ORG + "/alerts/{id}", MONEY),
    ("PATCH", ORG + "/alerts/{id}", WRITE), ("DELETE", ORG + "/alerts/{id}", WRITE),
    ("GET", ORG + "/alerts/{id}/events", MONEY),
    ("GET", "/admin/v1/providers", READ), ("GET", "/admin/v1/models", READ),
    ("GET", "/admin/v1/models/{provider}/{model...}", READ), ("PUT", "/admin/v1/models/{provider}/{model...}", OPERATOR),
    ("GET", "/admin/v1/tiers", READ), ("GET", "/admin/v1/tiers/{tier}", READ), ("PUT", "/admin/v1/tiers/{tier}", OPERATOR),
    ("DELETE", "/admin/v1/tiers/{tier}", OPERATOR),
    ("GET", "/admin/v1/prices", READ), ("GET", "/admin/v1/prices/{provider}/{model...}", READ),
    ("PUT", "/admin/v1/prices/{provider}/{model...}", OPERATOR),
    ("GET", "/admin/v1/openapi.json", ANYONE),
    ("GET", "/", ANYONE), ("GET", "/healthz", ANYONE), ("GET", "/readyz", ANYONE), ("GET", "/metrics", ANYONE),
)
DATA = (
    ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/{id...}"), ("GET", "/v1/credits"),
    ("GET", "/v1/generations/{request_id}"), ("POST", "/v1/responses"), ("POST", "/v1/embeddings"),
    ("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/audio/speech"),
    ("POST", "/v1/audio/transcriptions"), ("POST", "/v1/responses/input_tokens"), ("GET", "/v1/responses/{id}"), ("GET", "/v1/responses/{id}/input_items"), ("DELETE", "/v1/responses/{id}"), ("POST", "/v1/models/{model...}"), ("POST", "/v1beta/models/{model...}"), ("GET", "/v1beta/models"), ("GET", "/v1beta/models/{model...}"),
)
ALIASES = {"/v1/": ("/openai/v1/", "/anthropic/v1/"), "/v1beta/": ("/genai/v1beta/",)}


def endpoints_of_the_source():
    """(method, path) of every row of a struct endpoint table."""
    found = set()
    for path in glob.glob(os.path.join(harness.ROOT, "*", "*.c")) + glob.glob(os.path.join(harness.ROOT, "*", "*", "*.c")):
        if "/tests/" in path or "/build/" in path:
            continue
        with open(path) as f:
            text = f.read()
        for table in re.findall(r"const struct endpoint \w+\[\] = \{(.*?)\n(?:\t\{NULL|\t\{\.method = NULL)", text, re.S):
            for method, org, rest in re.findall(r'\{"([A-Z]+)",\s*(ORG)?\s*(?:"([^"]*)")?,', table):
                found.add((method, (ORG if org else "") + rest))
    return found


def concrete(path, org):
    for name, value in (("{org}", org), ("{id}", str(uuid.uuid4())), ("{member}", str(uuid.uuid4())),
                        ("{profile}", "nothing"), ("{name}", "nothing"), ("{tier}", "nothing"),
                        ("{request_id}", "req_" + str(uuid.uuid4())), ("{provider}", "openai"), ("{model...}", "nothing"),
                        ("{id...}", "nothing")):
        path = path.replace(name, value)
    return path


class Access(harness.Case):
    ENV = {"TOLLGATE_HTTP_BAD_HEADS_PER_MINUTE_MAX": 10000}  # g02 sends that many
    @classmethod
    def prepare(cls):
        cls.own = cls.tg.setup_org("own", platform=False, credits=None)
        cls.other = cls.tg.setup_org("other", platform=False, credits=None)
        cls.keys = {role: cls.tg.must("POST", "/orgs/own/api-keys", {"name": role, "role": role, "scopes": ["admin"]})["key"]
                    for role in READ - OPERATOR}
        cls.keys["operator"] = harness.ADMIN_TOKEN
        # A high role does not make a data key one of the control plane.
        cls.inference = cls.tg.must("POST", "/orgs/own/api-keys", {"name": "i", "role": "owner", "scopes": ["inference"]})["key"]
        for key in [*cls.keys.values(), cls.inference]:  # known to the control thread, so that a cell takes no time
            cls.ask("GET", "/admin/v1/providers", key)

    @classmethod
    def ask(cls, method, path, key=None, surface="admin", headers=None):
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        body = b'{"surprise":1}' if method in ("POST", "PUT", "PATCH") else None
        return harness.request(getattr(cls.tg, f"{surface}_host"), getattr(cls.tg, f"{surface}_port"), method, path, body, headers)

    def test_the_table_is_whole(self):
        self.assertEqual(endpoints_of_the_source(), {row[:2] for row in CONTROL + DATA})

    def test_a01_every_role_on_every_endpoint(self):
        before, cells = self.tg.row_counts(), 0
        unknown = {}
        for method, path, roles in CONTROL:
            for role, key in [*self.keys.items(), ("inference", self.inference), ("none", None), ("garbage", "tg_nothing")]:
                for org in ("own", "other", self.other.id, "never-was") if "{org}" in path else ("own",):
                    if (method, path, role) == ("DELETE", ORG, "operator"):
                        org = "never-was"
                    answer = self.ask(method, concrete(path, org), key)
                    cells += 1
                    with self.subTest(method=method, path=path, role=role, org=org, answer=answer):
                        if roles is ANYONE:
                            self.assertEqual(answer.status, 200)
                        elif role in ("none", "garbage"):
                            self.assertEqual(answer.status, 401)
                        elif org != "own" and role != "operator":
                            # Another's org and one that never was read the same, whatever the role.
                            self.assertEqual(answer.status, 404)
                            error = answer.json["error"]
                            error.pop("request_id")
                            self.assertEqual(unknown.setdefault("error", error), error)
                        elif role in roles:
                            self.assertNotIn(answer.status, (401, 403, 405, 500, 501, 503))
                        else:
                            self.assertEqual(answer.status, 403)
                            self.assertEqual(answer.json["error"]["code"], "permission_denied")
        self.assertGreaterEqual(cells, 600)
        self.assertEqual(self.tg.row_counts(), before)

    def test_a15_data_plane_and_its_aliases(self):
        for method, path in DATA:
            spellings = [path] + [path.replace(at, alias, 1) for at, to in ALIASES.items() if path.startswith(at) for alias in to]
            for spelled in spellings:
                with self.subTest(method=method, path=spelled):
                    ask = lambda key: self.ask(method, concrete(spelled, "own"), key, "data").status
                    self.assertEqual(ask(None), 401)
                    self.assertEqual(ask(harness.ADMIN_TOKEN), 401)
                    for role in READ - OPERATOR:
                        self.assertEqual(ask(self.keys[role]), 403)
                    self.assertNotIn(ask(self.inference), (401, 403, 405))

    def test_a13_a14_g02_the_decision_is_about_the_matched_path(self):
        developer = self.keys["developer"]
        for path in ("/admin/v1/orgs/other/credits/../../own", "/admin/v1/orgs/own/../other", "/admin/v1/orgs/%2e%2e/orgs/other",
                     "/admin/v1//orgs/other", "/ADMIN/v1/orgs/other", "/admin/v1/orgs/other;x", "/admin/v1/orgs/other/",
                     "/admin/v1/orgs/own%2fother", "/v1/models", "/v1/%2e%2e/admin/v1/orgs/other", "/admin/v1/orgs/OWN"):
            answer = self.ask("GET", path, developer)
            self.assertIn(answer.status, (400, 403, 404), (path, answer))
        for headers in ({"Host": "localhost:4000"}, {"X-Forwarded-Host": "evil"}, {"X-Original-URL": "/admin/v1/providers"},
                        {"X-HTTP-Method-Override": "GET"}):
            self.assertEqual(self.ask("GET", "/admin/v1/orgs", developer, headers=headers).status, 403)
            self.assertEqual(self.ask("GET", "/admin/v1/orgs", None, headers=headers).status, 401)
        for path in ("/admin/v1/orgs", "/metrics", "/admin/v1/providers"):
            self.assertEqual(self.ask("GET", path, harness.ADMIN_TOKEN, "data").status, 404)
        got, _ = self.tg.raw(b"GET http://127.0.0.1/admin/v1/orgs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", "admin")
        self.assertRegex(got, rb"^HTTP/1.1 (400|401|404) ")
        # On every route: neither a Host that looks like a path nor what a proxy might say opens it.
        for method, path, roles in CONTROL:
            if roles is ANYONE:
                continue
            for headers in ({"Host": "localhost:4000/#@evil"}, {"Host": "127.0.0.1:1/healthz?"}, {"X-Forwarded-Host": "localhost/#"},
                            {"X-Forwarded-Prefix": "/healthz"}, {"X-Rewrite-URL": "/healthz"}, {"X-Forwarded-For": "127.0.0.1"}):
                self.assertIn(self.ask(method, concrete(path, "own"), None, headers=headers).status, (400, 401), (path, headers))

    def test_suspended_and_deleted(self):
        org = self.tg.setup_org("gone", platform=False, credits=None)
        admin = self.tg.must("POST", "/orgs/gone/api-keys", {"name": "a", "role": "admin", "scopes": ["admin"]})["key"]
        status = lambda method, path, key, surface: self.ask(method, path, key, surface).status
        self.assertEqual(status("GET", "/v1/models", org.key, "data"), 200)
        self.assertEqual(status("POST", "/admin/v1/orgs/gone/api-keys", admin, "admin"), 400)
        self.tg.must("PATCH", "/orgs/gone", {"status": "suspended"})
        self.tg.settled(3)
        self.assertEqual({status("GET", "/v1/models", org.key, "data") for _ in range(6)}, {403})
        self.assertEqual(status("POST", "/admin/v1/orgs/gone/api-keys", admin, "admin"), 403)
        self.assertEqual(status("GET", "/admin/v1/orgs/gone/api-keys", admin, "admin"), 200)  # may look
        self.tg.must("PATCH", "/orgs/gone", {"status": "active"})
        self.tg.settled(3)
        self.assertEqual({status("GET", "/v1/models", org.key, "data") for _ in range(6)}, {200})
        self.tg.must("DELETE", "/orgs/gone")
        self.tg.settled(3)
        self.assertEqual({status("GET", "/v1/models", org.key, "data") for _ in range(6)}, {401})
        self.assertEqual(status("GET", "/admin/v1/orgs/gone", admin, "admin"), 401)
        self.assertEqual(self.tg.admin("GET", "/orgs/gone")[0], 404)


if __name__ == "__main__":
    unittest.main()
