"""The API's description: whole, well-formed, and true of every operation, also under input that nobody would send.

What the other tests do is held against it as well: contract.py. In here every operation is asked once with success
and once with what it must refuse, and then with made-up requests, good and spoilt, from a seed that a failure names
(TG_SEED takes it again, TG_ROUNDS times as many).
"""
import copy
import json
import os
import random
import re
import unittest
import urllib.parse
import uuid

import contract
import harness
from test_access import CONTROL, DATA

SEED = os.environ.get("TG_SEED") or str(random.SystemRandom().randrange(1 << 32))
ROUNDS = int(os.environ.get("TG_ROUNDS") or 1)
GOOD, BAD = 6 * ROUNDS, 24 * ROUNDS  # generated requests an operation
METHODS = {"get", "put", "post", "patch", "delete"}
NASTY = ("", "\0", "a\0b", "'", '"', "\\", "%00", "../..", "..", "\u202e", "\ud800", "\U0001f600" * 50, "é" * 200, "A" * 70000,
         "null", "-1", "{}", "' OR 1=1 --", "${x}", "\r\nX: y", " ", "\t", "00000000-0000-0000-0000-000000000000")
NUMBERS = (0, -1, 1, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, -(1 << 63), 10 ** 30, 0.5, -0.0, 1e300)


def walk(node, at=""):
    """Every object of a document, with where it stands."""
    if isinstance(node, dict):
        yield at, node
        for name, value in node.items():
            yield from walk(value, f"{at}/{name}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from walk(value, f"{at}/{i}")


class Document(harness.Case):
    VERIFY = False

    @classmethod
    def prepare(cls):
        cls.contract = contract.of(cls.tg)
        cls.document = cls.contract.document
        cls.operations = [(path, method, operation) for path, item in cls.document["paths"].items()
                          for method, operation in item.items()]

    def test_every_endpoint_is_described(self):
        """A failure lists what is missing: describe it in the room's openapi.json, as server/README.md says."""
        bare = [f"{method.upper()} {path}" for path, method, operation in self.operations if operation.get("x-undescribed")]
        self.assertEqual(bare, [], "endpoints that no openapi.json describes")
        told = {(method.upper(), operation.get("x-path", path)) for path, method, operation in self.operations}
        self.assertEqual(told, {row[:2] for row in CONTROL + DATA})
        for line in self.tg.log_lines():
            self.assertNotIn("gaps", line.get("msg", ""), line)

    def test_roles_are_those_of_the_tables(self):
        described = {(method.upper(), o.get("x-path", path)): o for path, method, o in self.operations}
        for row in CONTROL:
            operation = described[row[:2]]
            self.assertEqual(set(operation["x-roles"]), row[2] or set(), row)
            self.assertEqual("security" in operation, row[2] is None, row)

    def test_it_is_openapi_3_1(self):
        self.assertRegex(self.document["openapi"], r"^3\.1\.\d$")
        self.assertEqual(set(self.document), {"openapi", "info", "servers", "security", "paths", "components"})
        self.assertEqual(set(self.document["info"]), {"title", "description", "version"})
        version = json.loads(self.tg.cli("version", "--json").stdout)["data"]["version"]
        self.assertEqual(self.document["info"]["version"], version)
        ids = [operation["operationId"] for _, _, operation in self.operations]
        self.assertEqual(sorted(ids), sorted(set(ids)))
        for path, method, operation in self.operations:
            with self.subTest(path=path, method=method):
                self.assertIn(method, METHODS)
                self.assertTrue(path.startswith("/"))
                self.assertTrue(operation["summary"])
                self.assertRegex(operation["operationId"], r"^[a-z][A-Za-z0-9]+$")
                parameters = [self.contract.resolve(p) for p in operation["parameters"]]
                self.assertEqual([p["name"] for p in parameters if p["in"] == "path"], re.findall(r"\{(\w+)\}", path))
                names = [(p["in"], p["name"]) for p in parameters]
                self.assertEqual(len(names), len(set(names)))
                for p in parameters:
                    self.assertLessEqual({"name", "in", "description", "schema"}, set(p))
                    self.assertEqual(p.get("required", False), p["in"] == "path" or "requires" in p["description"]
                                     or p["name"] == "Idempotency-Key" and "Money moves" in p["description"])
                self.assertTrue(all(re.fullmatch(r"[1-5]\d\d|default", status) for status in operation["responses"]))
                self.assertEqual("default" in operation["responses"], "data" in operation["x-listeners"]
                                 and operation["x-listeners"] == ["data"])
                for answer in operation["responses"].values():
                    self.assertTrue(self.contract.resolve(answer)["description"])

    def test_references_resolve_and_nothing_is_left_over(self):
        used = set()
        for at, node in walk(self.document):
            if isinstance(node.get("$ref"), str):
                with self.subTest(at=at, ref=node["$ref"]):
                    self.assertTrue(node["$ref"].startswith("#/components/"))
                    self.contract.resolve(node)
                    used.add(tuple(node["$ref"].split("/")[2:]))
        kept = {(kind, name) for kind, members in self.document["components"].items() if kind != "securitySchemes"
                for name in members}
        self.assertEqual(kept - used, set(), "components that nothing refers to")

    def test_schemas_are_closed_and_known(self):
        """An object says what may be beside its members; a keyword that the checker does not know would check nothing."""
        for at, node in walk(self.document):
            kind = node.get("type")
            if "/properties" in at and at.rsplit("/", 1)[1] == "properties" or not isinstance(kind, (str, list)):
                continue
            if kind == "object" or "object" in kind and isinstance(kind, list):
                with self.subTest(at=at):
                    self.assertIn("additionalProperties", node)
                    self.assertLessEqual(set(node.get("required", ())), set(node.get("properties", node.get("required", ()))))
            if "pattern" in node:
                re.compile(node["pattern"])
        for name, schema in self.document["components"]["schemas"].items():
            for value in (None, True, 1, "x", [], {}, [{}], {"x": 1}):
                self.contract.problems(schema, value, name)

    def test_it_is_served_to_anybody_and_cached(self):
        first = self.tg.get("/admin/v1/openapi.json", surface="admin")
        self.assertEqual((first.status, first.headers["content-type"]), (200, "application/json"))
        tag = first.headers["etag"]
        self.assertRegex(tag, r'^"[0-9a-f]{64}"$')
        again = self.tg.get("/admin/v1/openapi.json", surface="admin", headers={"If-None-Match": f'"x", {tag}'})
        self.assertEqual((again.status, again.body, again.headers["etag"]), (304, b"", tag))
        other = self.tg.get("/admin/v1/openapi.json", surface="admin", headers={"If-None-Match": '"x"'})
        self.assertEqual((other.status, other.body), (200, first.body))
        head = harness.request(self.tg.admin_host, self.tg.admin_port, "HEAD", "/admin/v1/openapi.json")
        self.assertEqual((head.status, head.body, head.headers["content-length"]), (200, b"", str(len(first.body))))
        self.assertEqual(self.tg.get("/admin/v1/openapi.json").status, 404)  # not on the data plane's listener
        self.assertEqual(self.tg.get("/admin/v1/openapi.json?x=1", surface="admin").status, 400)
        with open(os.path.join(self.tg.dir, "master.key")) as f:
            secrets = [harness.ADMIN_TOKEN, f.read().strip(), self.tg.database, str(self.tg.admin_port), str(self.tg.fake.port)]
        for secret in secrets:
            self.assertNotIn(secret.encode(), first.body)


class Checker(unittest.TestCase):
    """The checker itself, or all of this says nothing."""

    def setUp(self):
        self.contract = contract.Contract({"paths": {}, "components": {"schemas": {"A": {
            "type": "object", "additionalProperties": False, "required": ["n"],
            "properties": {"n": {"type": ["integer", "null"], "minimum": 1, "maximum": 5}, "t": {"type": "string", "format": "date-time"},
                           "l": {"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": True, "items": {"enum": ["a", 1]}},
                           "s": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 3}, "c": {"const": True}}}}}})

    def test_it_tells_good_from_bad(self):
        schema = {"$ref": "#/components/schemas/A"}
        for good in ({"n": 1}, {"n": None}, {"n": 5, "t": "2026-01-02T03:04:05.678Z", "l": ["a", 1], "s": "ab", "c": True}):
            self.assertEqual(self.contract.problems(schema, good), [])
        for bad in ({}, [], None, {"n": True}, {"n": 0}, {"n": 6}, {"n": "1"}, {"n": 1, "x": 1}, {"n": 1.5},
                    {"n": 1, "t": "yesterday"}, {"n": 1, "t": "2026-13-02T03:04:05Z"}, {"n": 1, "t": "2026-01-02"}, {"n": 1, "l": []},
                    {"n": 1, "l": ["a", "a"]}, {"n": 1, "l": ["a", 1, "a"]}, {"n": 1, "l": [True]}, {"n": 1, "s": "a"},
                    {"n": 1, "s": "abcd"}, {"n": 1, "s": "ab\n"}, {"n": 1, "c": 1}):
            self.assertNotEqual(self.contract.problems(schema, bad), [], bad)
        with self.assertRaises(NotImplementedError):
            self.contract.problems({"dependentRequired": {}}, {})
        with self.assertRaises(ValueError):
            json.loads('{"a":1,"a":2}', object_pairs_hook=contract.once)


class Maker:
    """Values from schemas: such that fit, and such that do not."""

    def __init__(self, checker, dice):
        self.checker = checker
        self.dice = dice

    def good(self, schema, name=""):
        schema = self.checker.resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.dice.choice(schema["enum"])
        if "anyOf" in schema:
            return self.good(self.dice.choice(schema["anyOf"]), name)
        if "examples" in schema and self.dice.random() < 0.5:
            return self.dice.choice(schema["examples"])
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        kind = self.dice.choice([k for k in kinds if k != "null"] * 3 + ["null"] * ("null" in kinds))
        return getattr(self, "_" + kind)(schema, name)

    def _null(self, schema, name):
        return None

    def _boolean(self, schema, name):
        return self.dice.random() < 0.5

    def _integer(self, schema, name):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1 << 40)
        return self.dice.choice([low, high, self.dice.randint(low, high), min(high, low + 100)])

    def _number(self, schema, name):
        return self.dice.choice([0, 1, 0.2, 0.75])

    def _string(self, schema, name):
        if schema.get("format") == "date-time":
            return self.dice.choice(["2031-02-03T04:05:06Z", "2031-02-03T04:05:06.789+02:00", "2026-01-01T00:00:00Z"])
        if schema.get("format") == "date":
            return "2026-01-02"
        if schema.get("format") == "uuid":
            return str(uuid.UUID(int=self.dice.getrandbits(128)))
        for _ in range(200):
            text = "".join(self.dice.choices("abc019.-_, ", k=self.dice.choice((1, 2, 3, 8, 20))))
            text = self.dice.choice([text, text.strip(" ,.-_") or "a", "1", "7.25", "day", "c61", "openai"])
            if not self.checker.problems({k: v for k, v in schema.items() if k != "type"}, text):
                return text
        return self.dice.choice(schema["examples"])  # a pattern that no made-up text fits has some

    def _array(self, schema, name):
        low, high = schema.get("minItems", 0), schema.get("maxItems", 8)
        made = [self.good(schema["items"]) for _ in range(self.dice.randint(low, min(high, low + 2)))]
        if schema.get("uniqueItems"):
            made = [v for i, v in enumerate(made) if v not in made[:i]]
        return made

    def _object(self, schema, name):
        must = schema.get("required", ())
        wanted = [n for n in schema.get("properties", {}) if n in must or self.dice.random() < 0.6]
        made = {n: self.good(schema["properties"][n], n) for n in wanted}
        if len(made) < schema.get("minProperties", 0):
            n = self.dice.choice(list(schema["properties"]))
            made[n] = self.good(schema["properties"][n], n)
        return made

    def crossings(self, schema, value):
        """The value, each time past one of the bounds of its schema."""
        schema = self.checker.resolve(schema)
        kinds = schema.get("type", ())
        wrong = [None, "surprise \n", -1.5, True, {"surprise": 1}, [[]]]
        for name, past in (("minimum", -1), ("maximum", 1)):
            if name in schema:
                wrong.append(schema[name] + past)
        if "maxLength" in schema:
            wrong.append("a" * (schema["maxLength"] + 1))
        if "minLength" in schema or "enum" in schema or "pattern" in schema:
            wrong.append("")
        if "pattern" in schema and isinstance(value, str):
            wrong += [value + "\n", "\n" + value, value + "\0"]
        if "array" in kinds:
            items = value if isinstance(value, list) and value else [self.good(schema["items"])]
            wrong += [[], [*items, items[0]], items * (schema.get("maxItems", 8) // len(items) + 1)]
            wrong += [[bad] for bad in self.crossings(schema["items"], items[0])]
        if "object" in kinds:
            value = value if isinstance(value, dict) else self.good({**schema, "type": "object"})
            wrong += [{k: v for k, v in value.items() if k != gone} for gone in schema.get("required", ())]
            wrong += [{**value, name: bad} for name, inner in schema.get("properties", {}).items()
                      for bad in self.crossings(inner, value.get(name))]
        for each in schema.get("anyOf", ()):
            wrong += self.crossings(each, value)
        return [bad for bad in wrong if self.checker.problems(schema, bad)]

    def spoilt(self, value):
        """The value with one place of it made into something else."""
        value = copy.deepcopy(value)
        places = [(holder, key) for _, holder in walk({"": value}) for key in holder] + \
                 [(holder, i) for holder in self._lists(value) for i in range(len(holder))]
        root = {"": value}
        places = [(root, "")] + [p for p in places if p[1] != ""]
        holder, key = self.dice.choice(places)
        how = self.dice.randrange(7)
        if how == 0 and isinstance(holder[key], dict):
            holder[key]["surprise"] = 1
        elif how == 1 and isinstance(holder, dict) and holder is not root:
            del holder[key]
        elif how == 2 and isinstance(holder[key], list):
            holder[key] = holder[key] * 300
        elif how == 3:
            nest = 0
            for _ in range(self.dice.choice((2, 40, 63, 64, 65, 500))):
                nest = self.dice.choice(([nest], {"a": nest}))
            holder[key] = nest
        elif how == 4:
            holder[key] = self.dice.choice(NUMBERS)
        else:
            holder[key] = self.dice.choice((None, True, False, [], {}, [None], {"": ""}) + NASTY)
        return root[""]

    def _lists(self, value):
        for _, holder in walk({"": value}):
            yield from (v for v in holder.values() if isinstance(v, list))


class Operations(harness.Case):
    """Every described operation of the control plane, against a service that has one of everything."""

    # What is refused here in numbers is what an attacker sends: none of it may end in a locked door for the others.
    ENV = {"TOLLGATE_HTTP_BAD_HEADS_PER_MINUTE_MAX": 0}
    SHORT = {"listAlertEvents"}  # lists that cannot be made long in here

    @classmethod
    def prepare(cls):
        cls.contract = contract.of(cls.tg)
        cls.org = cls.tg.setup_org("acme", credits="1000.00")
        cls.tg.setup_profile(cls.org, "main", billing_source="byok")
        cls.tg.must("PUT", "/orgs/acme/routes/fast", {"match": {"alias": "fast"}, "targets": [{"profile": "main", "model": "m"}]})
        cls.tg.must("PUT", f"/prices/openai_compatible/{harness.MODEL}", {"book": "cost", "lines": harness.PRICE_LINES})
        cls.call = cls.tg.chat("hello").headers["x-request-id"]
        harness.wait_until(lambda: cls.tg.admin("GET", f"/orgs/acme/usage/calls/{cls.call}")[0] == 200, 10)
        cls.key = cls.tg.must("POST", "/orgs/acme/api-keys", {"name": "spare"})["id"]
        cls.tg.must("PUT", "/orgs/acme/agents/fast", {})
        cls.member = cls.tg.must("POST", "/orgs/acme/members", {"email": "first@example.com", "role": "owner"})["id"]
        cls.budget = cls.tg.must("POST", "/orgs/acme/budgets", {"name": "b", "scope": "org", "limit": "500", "window": "month"})["id"]
        cls.alert = cls.tg.must("POST", "/orgs/acme/alerts", {"name": "a", "metric": "budget", "budget": cls.budget,
                                                              "threshold_percent": 90})["id"]
        # What stands in a path, where something is to be found; a new thing for what takes it away.
        cls.known = {"org": "acme", "budgets/id": cls.budget, "alerts/id": cls.alert, "member": cls.member, "tier": "business", "id": cls.key, "profile": "main", "name": "fast", "request_id": cls.call,
                     "provider": "openai_compatible", "model": harness.MODEL}

    def spare_key(self):
        return self.tg.must("POST", "/orgs/acme/api-keys", {"name": "to go"})["id"]

    def spare_profile(self):
        name = "p" + uuid.uuid4().hex[:8]
        self.tg.setup_profile(self.org, name)
        return name

    def spare_org(self):
        slug = "o" + uuid.uuid4().hex[:8]
        self.tg.must("POST", "/orgs", {"slug": slug, "name": slug})
        return slug

    def spare_agent(self):
        name = "a" + uuid.uuid4().hex[:8]
        self.tg.must("PUT", f"/orgs/acme/agents/{name}", {})
        return name

    def spare_tier(self):
        name = "t" + uuid.uuid4().hex[:8]
        self.tg.must("PUT", f"/tiers/{name}", {})
        return name

    def spare_member(self, role="developer"):
        return self.tg.must("POST", "/orgs/acme/members", {"email": f"{uuid.uuid4().hex[:8]}@example.com", "role": role})["id"]

    def spare_budget(self):
        return self.tg.must("POST", "/orgs/acme/budgets", {"name": uuid.uuid4().hex, "scope": "org", "limit": "1000", "window": "total"})["id"]

    def spare_alert(self):
        return self.tg.must("POST", "/orgs/acme/alerts", {"name": uuid.uuid4().hex, "metric": "balance", "threshold": "0.5"})["id"]

    def config(self):
        name = "c" + uuid.uuid4().hex[:8]
        return {"schema_version": 1, "org": "acme", "managed_by": name,
                "profiles": [{"name": name, "provider": "openai_compatible", "base_url": self.fake.base_url, "secret": "fake-key",
                              "models": ["*"], "priority": 7, "default": False, "status": "active", "validate": False}],
                "agents": [{"name": name, "default_model": name, "description": "d", "status": None}],
                "routes": [{"name": name, "match": {"alias": name}, "targets": [{"profile": name, "model": "m"}],
                            "policy": {"max_attempts": 2}}],
                "keys": [{"name": name, "role": "developer", "scopes": ["inference"], "models": [name], "limits": {"rpm": 3},
                          "expires_at": "2031-01-01T00:00:00Z"}]}

    def spare_route(self):
        name = "r" + uuid.uuid4().hex[:8]
        self.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": name}, "targets": [{"profile": "main", "model": "m"}]})
        return name

    # A request that succeeds, for each operation that a GET of what is there does not make: what differs in the path,
    # the body, the status. An operation that is new and needs more than its path is added here.
    def examples(self):
        model = "/" + harness.MODEL
        grant = {"amount": "1.50", "category": "promo", "priority": 10, "expires_at": "2031-01-01T00:00:00Z", "reason": "example"}
        lines = [{"class": "in_text", "price": "1.25", "per": 1000000}, {"class": "in_text", "price": "2", "above_input_tokens": 200000}]
        fresh = lambda: "e" + uuid.uuid4().hex[:8]
        return {
            "putAgent": lambda: ({"name": fresh()}, {"default_model": "fast", "description": "d", "status": "active"}),
            "deleteAgent": lambda: ({"name": self.spare_agent()}, None),
            "putTier": lambda: ({"tier": fresh()}, {"label": "L", "byok": True, "private": None, "max_profiles": 5, "max_api_keys": None}),
            "deleteTier": lambda: ({"tier": self.spare_tier()}, None),
            "inviteMember": lambda: ({}, {"email": fresh() + "@example.com", "role": "finance"}),
            "changeMember": lambda: ({"member": self.spare_member()}, {"role": "auditor"}),
            "removeMember": lambda: ({"member": self.spare_member()}, None),
            "createBudget": lambda: ({}, {"name": fresh(), "scope": "key", "subject": self.key, "limit": "9.5", "window": "day", "hard": False}),
            "changeBudget": lambda: ({"id": self.spare_budget()}, {"name": fresh(), "limit": "99", "hard": False, "status": "disabled"}),
            "deleteBudget": lambda: ({"id": self.spare_budget()}, None),
            "createAlert": lambda: ({}, {"name": fresh(), "metric": "budget", "budget": self.budget, "threshold_percent": 80,
                                         "threshold": None}),
            "changeAlert": lambda: ({"id": self.spare_alert()}, {"name": fresh(), "threshold": "2", "status": "disabled"}),
            "deleteAlert": lambda: ({"id": self.spare_alert()}, None),
            "planConfig": lambda: ({}, {"config": self.config(), "prune": True}),
            "applyConfig": lambda: ({}, {"config": self.config(), "prune": False, "version": None}),
            "createOrg": lambda: ({}, {"slug": fresh(), "name": "Example", "tier": "business"}),
            "changeOrg": lambda: ({"org": self.spare_org()}, {"name": "Other", "tier": "team", "status": "suspended",
                                                               "settings": {"key_max_days": 90, "revoked_streams": None}}),
            "deleteOrg": lambda: ({"org": self.spare_org()}, None),
            "createApiKey": lambda: ({}, {"name": "k", "role": "admin", "scopes": ["admin", "inference"], "models": ["gpt-*"],
                                          "limits": {"rpm": 5, "tpm": None}, "budget": None, "expires_at": "2031-01-01T00:00:00Z",
                                          "member": self.member, "allow_from": ["127.0.0.0/8"], "providers": ["openai"],
                                          "billing": ["byok"]}),
            "changeApiKey": lambda: ({"id": self.spare_key()}, {"name": "n", "limits": {"rpm": 7}, "expires_at": None}),
            "revokeApiKey": lambda: ({"id": self.spare_key()}, None),
            "rotateApiKey": lambda: ({"id": self.spare_key()}, {"overlap_seconds": 60}),
            "createProfile": lambda: ({}, {"name": fresh(), "provider": "openai_compatible", "base_url": self.fake.base_url,
                                           "secret": "fake-org-key", "billing_source": "private", "models": ["*"], "priority": 5,
                                           "default": True, "validate": True}),
            "changeProfile": lambda: ({"profile": self.spare_profile()}, {"name": fresh(), "models": ["a*"], "priority": 3,
                                                                          "default": False, "status": "disabled"}),
            "revokeProfile": lambda: ({"profile": self.spare_profile()}, None),
            "setDefaultProfile": lambda: ({}, None),
            "rotateProfile": lambda: ({"profile": self.spare_profile()}, {"secret": "fake-other-key"}),
            "testProfile": lambda: ({}, {"action": "list_models"}),
            "explain": lambda: ({}, {"model": "fast", "agent": None, "intent": "chat", "needs": ["tools"], "input_tokens": 10,
                                     "max_output": 10}),
            "putRoute": lambda: ({"name": fresh()}, {
                "match": {"alias": fresh(), "agent": None, "intent": None, "modality": None},
                "targets": [{"profile": "main", "model": "m"}, {"provider": "openai", "model": "n", "billing": ["platform"]}],
                "policy": {"allow_platform_fallback": True, "max_attempts": 2, "timeout_ms": 1000, "retry_budget": 0.2,
                           "choice": "order", "max_cost": None}}),
            "deleteRoute": lambda: ({"name": self.spare_route()}, None),
            "putModel": lambda: ({"model": fresh() + model}, {"capabilities": ["text", "json"], "context_window": 9, "max_output": None}),
            "createGrant": lambda: ({}, grant),
            "createTopUp": lambda: ({}, {"amount": "2", "reason": "example"}),
            "putPrice": lambda: ({"model": fresh() + model}, {"book": "cost", "effective_from": None, "lines": lines}),
        }

    def ours(self):
        """(method, template, operation) of all that the control plane's listener serves."""
        return [(method, template, operation) for (method, template), operation in self.contract.operations.items()
                if "admin" in operation["x-listeners"]]

    def path(self, template, given=None, query=""):
        values = {**self.known, **(given or {})}
        # "budgets/id" is the {id} behind /budgets/, where that is another one than everywhere.
        pick = lambda m: values.get(m[2]) if m[2] in (given or {}) else values.get(f"{m[1]}/{m[2]}", values.get(m[2]))
        path = re.sub(r"(?:([\w-]+)/)?\{(\w+)\}", lambda m: (m[1] + "/" if m[1] else "") +
                      urllib.parse.quote(pick(m), safe="/" if m[2] == "model" else ""), template)
        return path + ("?" + query if query else "")

    def ask(self, method, path, body=None, headers=None, token=harness.ADMIN_TOKEN):
        """One request whose answer has to be as described; never a failure of ours, whatever was sent."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        if method == "POST":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        answer = harness.request(self.tg.admin_host, self.tg.admin_port, method, path, body, headers)
        self.assertLess(answer.status, 500, (method, path, body if body is None else str(body)[:2000], answer))
        self.contract.check(method, path, body, answer)
        return answer

    def test_every_operation_succeeds_once(self):
        examples = self.examples()
        for method, template, operation in self.ours():
            values, body = examples.pop(operation["operationId"], lambda: ({}, None))()
            wanted = min(int(s) for s in operation["responses"] if s.isdigit())
            with self.subTest(operation=operation["operationId"]):
                self.assertLess(wanted, 300)
                answer = self.ask(method, self.path(template, values), body)
                self.assertEqual(answer.status, wanted, answer)
        self.assertEqual(list(examples), [], "examples of operations that are not described")

    def test_every_query_parameter_is_taken_and_checked(self):
        for method, template, operation in self.ours():
            known = {p["name"]: p for p in map(self.contract.resolve, operation["parameters"]) if p["in"] == "query"}
            maker = Maker(self.contract, random.Random(SEED))
            if not template.startswith("/admin/"):
                continue
            with self.subTest(operation=operation["operationId"]):
                # The body would be taken: the query alone decides.
                values, body = self.examples().get(operation["operationId"], lambda: ({}, None))()
                before = self.tg.row_counts() if method != "GET" else None
                for query in ("surprise=1", "%6cimit=1", "org=acme", *(f"{name}=1&{name}=1" for name in known),
                              *(f"{name}=%00" for name in known if name != "provider")):
                    answer = self.ask(method, self.path(template, values, query), body)
                    self.assertEqual(answer.status, 400, (query, answer))
                if before is not None:
                    self.assertEqual(self.tg.row_counts(), before)
                for name, p in known.items():
                    if name == "cursor":  # a real one, below
                        continue
                    for _ in range(3):
                        query = urllib.parse.urlencode({name: maker.good(p["schema"], name)})
                        if name == "from":
                            query += "&to=2031-03-01T00:00:00Z" if "2031" in query else "&to=2026-02-01"
                        self.assertEqual(self.ask(method, self.path(template, None, query)).status, 200, query)

    def test_every_list_pages_through_all_of_it(self):
        for n in range(3):
            self.spare_key(), self.spare_profile(), self.spare_org(), self.spare_agent(), self.spare_member(), self.spare_budget(), self.spare_alert(), self.spare_route()
            self.tg.must("POST", "/orgs/acme/credits/top-up", {"amount": "1", "reason": "page"})
            self.tg.chat("page")
        harness.wait_until(lambda: len(self.tg.must("GET", "/orgs/acme/usage/calls")) >= 4, 10)
        for method, template, operation in self.ours():
            if "MetaPage" not in json.dumps(operation["responses"]):
                continue
            with self.subTest(operation=operation["operationId"]):
                whole, pages, cursor = self.ask("GET", self.path(template, None, "limit=200")).json, [], ""
                while cursor is not None and len(pages) < 12:
                    query = "limit=20" if "prices" in template or template.endswith("v1/models") else "limit=2"
                    page = self.ask("GET", self.path(template, None, query + (f"&cursor={cursor}" if cursor else ""))).json
                    pages += page["data"]
                    cursor = page["meta"]["next_cursor"]
                self.assertGreater(len(pages), -1 if operation["operationId"] in self.SHORT else 2)
                self.assertEqual(pages, whole["data"][:len(pages)])

    def test_every_body_is_refused_with_a_surprise_in_it(self):
        examples = self.examples()
        for method, template, operation in self.ours():
            if not operation.get("requestBody"):
                continue
            values, body = examples[operation["operationId"]]()
            path, before = self.path(template, values), self.tg.row_counts()
            inner = [{**body, name: {**value, "surprise": 1}} for name, value in body.items() if isinstance(value, dict)]
            for bad in ({**body, "surprise": 1}, [body], "text", None, 1, b"", b"{", b"\xff\xfe", b"{}{}",
                        json.dumps(body)[:-1] + ',"surprise":1}', '{"a":' * 70 + "1" + "}" * 70, *inner,
                        json.dumps(body)[:-1] + "," + json.dumps(body)[1:]):  # each member twice
                with self.subTest(operation=operation["operationId"], bad=bad):
                    raw = bad if isinstance(bad, (bytes, str)) and bad != "text" else json.dumps(bad)
                    answer = self.ask(method, path, raw)
                    self.assertEqual(answer.status, 400, answer)
            self.assertEqual(self.tg.row_counts(), before, operation["operationId"])

    def test_every_bound_is_kept(self):
        examples, asked = self.examples(), 0
        for method, template, operation in self.ours():
            schema = self.contract.request_schema(operation)
            if schema is None:
                continue
            maker = Maker(self.contract, random.Random(1))
            values, body = examples[operation["operationId"]]()
            path, before = self.path(template, values), self.tg.row_counts()
            for bad in maker.crossings(schema, body):
                with self.subTest(operation=operation["operationId"], bad=str(bad)[:2000]):
                    answer, asked = self.ask(method, path, json.dumps(bad)), asked + 1
                    self.assertEqual(answer.status, 400, answer)
            self.assertEqual(self.tg.row_counts(), before, operation["operationId"])
        self.assertGreater(asked, 500)

    # --- made-up requests ---

    def harmless(self, body):
        """A generated connection would reach out: to the fake provider or nowhere."""
        parts = [body, *self.profiles_in(body)]
        for part in parts:
            if not isinstance(part, dict) or not {"base_url", "secret", "validate"} & set(part):
                continue
            if isinstance(part.get("base_url"), str) and len(part["base_url"]) < 513:
                part["base_url"] = self.fake.base_url
            if isinstance(part.get("provider"), str):
                part["provider"] = "openai_compatible"
        return body

    @staticmethod
    def profiles_in(body):
        config = body.get("config") if isinstance(body, dict) else None
        profiles = config.get("profiles") if isinstance(config, dict) else None
        return profiles if isinstance(profiles, list) else []

    @staticmethod
    def sendable(value):
        """What has no bytes in UTF-8 (a lone surrogate) can stand in JSON, as an escape, and nowhere else."""
        return value.replace("\ud800", "?") if isinstance(value, str) else value

    def some_path(self, dice, template, good):
        values = {}
        for name in re.findall(r"\{(\w+)\}", template):
            if not good and dice.random() < 0.4:
                values[name] = self.sendable(dice.choice(NASTY))[:3000] or "%"
            elif dice.random() < 0.2:
                values[name] = dice.choice((str(uuid.uuid4()), "nothing", "01990000-0000-7000-8000-000000000000"))
        return self.path(template, values)

    def some_request(self, dice, maker, template, operation, good):
        """(path, body, does the description allow the body?)"""
        path, schema, body, fits = self.some_path(dice, template, good), self.contract.request_schema(operation), None, True
        if schema is not None:
            body = maker.good(schema)
            body = self.harmless(body if good else maker.spoilt(body))
            fits = not self.contract.problems(schema, body)
            body = json.dumps(body)
        query = {}
        for p in map(self.contract.resolve, operation["parameters"]):
            if p["in"] == "query" and dice.random() < 0.4:
                query[p["name"]] = maker.good(p["schema"]) if good or dice.random() < 0.5 else \
                    self.sendable(dice.choice(NASTY + NUMBERS))
        return path + ("?" + urllib.parse.urlencode(query)[:6000] if query else ""), body, fits

    def generated(self, good):
        """Ask every operation with made-up requests. What its description does not allow has to be refused, and to leave
        nothing behind. Returns how many were taken and how many were not allowed."""
        taken = unfit = 0
        for method, template, operation in self.ours():
            name = operation["operationId"]
            if name == "deleteOrg":
                continue  # would take away what the others need
            dice = random.Random(f"{SEED} {name} {good}")
            maker = Maker(self.contract, dice)
            requests = [self.some_request(dice, maker, template, operation, good) for _ in range(GOOD if good else BAD)]
            before = self.tg.row_counts()
            for path, body, fits in requests:
                if not fits:
                    with self.subTest(operation=name, path=path[:200], body=body[:2000], seed=SEED):
                        answer, unfit = self.ask(method, path, body), unfit + 1
                        self.assertGreaterEqual(answer.status, 400, answer)
            self.assertEqual(self.tg.row_counts(), before, (name, SEED))
            for path, body, fits in requests:
                if fits:
                    with self.subTest(operation=name, path=path[:200], body=body and body[:2000], seed=SEED):
                        taken += self.ask(method, path, body).status < 300
        return taken, unfit

    def test_generated_requests_that_fit(self):
        taken, unfit = self.generated(True)
        self.assertEqual(unfit, 0)
        self.assertGreater(taken, GOOD * len(self.ours()) // 3, SEED)  # else it asks for nothing real

    def test_generated_requests_that_are_spoilt(self):
        _, unfit = self.generated(False)
        self.assertGreater(unfit, 100 * ROUNDS, SEED)


if __name__ == "__main__":
    unittest.main()
