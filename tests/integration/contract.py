"""The API's own description (GET /admin/v1/openapi.json), held against what the service answers.

harness.Tollgate.admin() asks for every answer it gets: is this status described for this operation, and is the body
what the description says, member by member? And of a request that was taken: does the description allow it?
So every integration test is a test of the description too. Standard library only.

The schemas are JSON Schema 2020-12, of which this knows the keywords in use; another one raises, so that none
is passed over in silence.
"""

import datetime
import json
import re
import urllib.parse

# What breaks HTTP itself is answered before the path is looked at.
TRANSPORT = {400, 405, 408, 411, 413, 414, 415, 417, 431, 505}
NOTES = {"description", "default", "$comment", "title", "examples"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
TYPES = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v == int(v))),
    "number": lambda v: not isinstance(v, bool) and isinstance(v, (int, float)),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


def _date(text):
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text)) and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _time(text):
    m = TIME.fullmatch(text)
    return bool(m) and _date(m[1]) and int(m[2]) < 24 and int(m[3]) < 60 and int(m[4]) <= 60


FORMATS = {"uuid": lambda v: bool(UUID.fullmatch(v.lower())), "date-time": _time, "date": _date}


def same(a, b):
    """Equal as JSON: 1 is not true."""
    return type(a) is type(b) and a == b or (TYPES["number"](a) and TYPES["number"](b) and a == b)


def once(pairs):
    """For json.loads(): an object that names a member twice is none."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a member stands twice in {[k for k, _ in pairs]}")
    return found


class Contract:
    def __init__(self, document):
        self.document = document
        self.seen = set()  # (operationId, status) of every answer that was checked
        self.operations = {}  # (method, template): operation
        self.paths = []  # (compiled, bytes spelled out, template)
        for template, item in document["paths"].items():
            spelled = template
            for method, operation in item.items():
                self.operations[method.upper(), template] = operation
                spelled = operation.get("x-path", spelled)
            pattern = "".join(
                re.escape(part) if i % 2 == 0 else ".+" if part.endswith("...") else "[^/]+"
                for i, part in enumerate(re.split(r"[{}]", spelled)))
            literal = len("".join(re.split(r"[{}]", spelled)[::2]))
            self.paths.append((re.compile(pattern, re.S), literal, template))

    # --- schemas ---

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"][2:].split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def problems(self, schema, value, at="body"):
        """What is wrong with the value, in words; empty when nothing is."""
        if schema is True:
            return []
        if schema is False:
            return [f"{at} may not be there"]
        found = []
        for keyword, wanted in schema.items():
            if keyword in NOTES or keyword.startswith("x-"):
                continue
            check = getattr(self, "_" + keyword.replace("$", ""), None)
            if check is None:
                raise NotImplementedError(f"{at}: this checker does not know the keyword {keyword!r}")
            found += check(schema, wanted, value, at)
        return found

    def _ref(self, schema, wanted, value, at):
        return self.problems(self.resolve({"$ref": wanted}), value, at)

    def _type(self, schema, wanted, value, at):
        names = [wanted] if isinstance(wanted, str) else wanted
        return [] if any(TYPES[n](value) for n in names) else [f"{at} is {value!r:.80}, not {' or '.join(names)}"]

    def _enum(self, schema, wanted, value, at):
        return [] if any(same(value, w) for w in wanted) else [f"{at} is {value!r:.80}, none of {wanted}"]

    def _const(self, schema, wanted, value, at):
        return [] if same(value, wanted) else [f"{at} is {value!r:.80}, not {wanted!r}"]

    def _anyOf(self, schema, wanted, value, at):
        found = [self.problems(s, value, at) for s in wanted]
        return [] if not all(found) else [f"{at} is none of what it may be: {found}"]

    def _properties(self, schema, wanted, value, at):
        if not isinstance(value, dict):
            return []
        return [p for name, s in wanted.items() if name in value for p in self.problems(s, value[name], f"{at}.{name}")]

    def _required(self, schema, wanted, value, at):
        return [f"{at}.{name} is missing" for name in wanted if isinstance(value, dict) and name not in value]

    def _additionalProperties(self, schema, wanted, value, at):
        if not isinstance(value, dict):
            return []
        more = [name for name in value if name not in schema.get("properties", {})]
        if wanted is False:
            return [f"{at}.{name} is not described" for name in more]
        return [p for name in more for p in self.problems(wanted, value[name], f"{at}.{name}")]

    def _propertyNames(self, schema, wanted, value, at):
        return [p for name in (value if isinstance(value, dict) else ()) for p in self.problems(wanted, name, f"{at}: a name")]

    def _minProperties(self, schema, wanted, value, at):
        return [f"{at} is empty"] if isinstance(value, dict) and len(value) < wanted else []

    def _items(self, schema, wanted, value, at):
        return [p for i, v in enumerate(value if isinstance(value, list) else ()) for p in self.problems(wanted, v, f"{at}[{i}]")]

    def _minItems(self, schema, wanted, value, at):
        return [f"{at} has {len(value)} items"] if isinstance(value, list) and len(value) < wanted else []

    def _maxItems(self, schema, wanted, value, at):
        return [f"{at} has {len(value)} items"] if isinstance(value, list) and len(value) > wanted else []

    def _uniqueItems(self, schema, wanted, value, at):
        twice = wanted and isinstance(value, list) and any(same(a, b) for i, a in enumerate(value) for b in value[:i])
        return [f"{at} names something twice"] if twice else []

    def _minLength(self, schema, wanted, value, at):
        return [f"{at} is too short"] if isinstance(value, str) and len(value) < wanted else []

    def _maxLength(self, schema, wanted, value, at):
        return [f"{at} is too long"] if isinstance(value, str) and len(value) > wanted else []

    def _pattern(self, schema, wanted, value, at):
        # In ECMA 262, which JSON Schema means, $ is the very end.
        pattern = wanted[:-1] + r"\Z" if wanted.endswith("$") else wanted
        return [f"{at} is {value!r:.80}, not {wanted}"] if isinstance(value, str) and not re.search(pattern, value) else []

    def _format(self, schema, wanted, value, at):
        return [f"{at} is {value!r:.80}, no {wanted}"] if isinstance(value, str) and not FORMATS[wanted](value) else []

    def _minimum(self, schema, wanted, value, at):
        return [f"{at} is {value}, below {wanted}"] if TYPES["number"](value) and value < wanted else []

    def _maximum(self, schema, wanted, value, at):
        return [f"{at} is {value}, above {wanted}"] if TYPES["number"](value) and value > wanted else []

    # --- operations ---

    def find(self, method, path):
        """(template, operation) of a request; operation None: the path does not take the method; both None: no such path."""
        fits = [(literal, template) for pattern, literal, template in self.paths if pattern.fullmatch(path.split("?")[0])]
        method = "GET" if method == "HEAD" else method
        for _, template in sorted(fits, reverse=True):
            if (method, template) in self.operations:
                return template, self.operations[method, template]
        return (max(fits)[1] if fits else None), None

    def request_schema(self, operation):
        body = operation.get("requestBody")
        return body["content"]["application/json"]["schema"] if body else None

    def _answer(self, operation, status):
        described = operation["responses"].get(str(status)) if operation else None
        if described is None and (operation is None and status in (401, 403, 404, 405) or status in TRANSPORT):
            described = self.document["components"]["responses"]["400"]
        return self.resolve(described) if described is not None else None

    def check(self, method, path, body, answer):
        """AssertionError when the answer is not as described, or a request was taken that is not."""
        template, operation = self.find(method, path)
        if operation and operation.get("x-undescribed"):
            return  # test_openapi names it
        where = f"{method} {template or path}: {answer.status}"
        described = self._answer(operation, answer.status)
        assert described is not None, f"{where} is not described: {answer}"
        if operation:
            self.seen.add((operation["operationId"], answer.status))
        assert answer.headers.get("x-request-id"), f"{where} has no x-request-id"
        content = described.get("content")
        if method == "HEAD" or not content:
            assert answer.body == b"", f"{where} has a body: {answer}"
            return
        kind = answer.headers.get("content-type")
        assert kind in content, f"{where}: content type {kind}, described {list(content)}"
        if kind == "application/json":
            value = json.loads(answer.body.decode("utf-8"), object_pairs_hook=once)
            found = self.problems(content[kind]["schema"], value)
            assert not found, f"{where}: not as described: {'; '.join(found)}\n{answer}"
        if answer.status < 300 and operation:
            self._check_taken(where, operation, path, body)

    def _check_taken(self, where, operation, path, body):
        schema = self.request_schema(operation)
        if schema is not None and body is not None:
            value = body if not isinstance(body, (str, bytes)) else json.loads(body)
            found = self.problems(schema, value)
            assert not found, f"{where}: taken, though the description does not allow it: {'; '.join(found)}"
        known = {p["name"]: p["schema"] for p in map(self.resolve, operation["parameters"]) if p["in"] == "query"}
        for name, text in urllib.parse.parse_qsl(path.partition("?")[2], keep_blank_values=True):
            assert name in known, f"{where}: the query parameter {name} was taken and is not described"
            found = self.problems(known[name], self.from_text(known[name], text), name)
            assert not found or text == "", f"{where}: taken, though the description does not allow it: {'; '.join(found)}"

    def from_text(self, schema, text):
        """A query parameter as the value its schema speaks of."""
        numeric = self.resolve(schema).get("type") == "integer"
        return int(text) if numeric and re.fullmatch(r"-?\d+", text) else text


_of_binary = None


def of(tollgate):
    """The contract of the binary under test, asked for once."""
    global _of_binary
    if _of_binary is None:
        answer = tollgate.get("/admin/v1/openapi.json", surface="admin")
        assert answer.status == 200, answer
        _of_binary = Contract(json.loads(answer.body, object_pairs_hook=once))
    return _of_binary
