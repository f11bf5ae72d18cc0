"""What a caller of each dialect gets when a provider fails before its first byte, in that provider's own words.

Every failure is told twice: alone it becomes the caller's own error (interface.md's table); with another target behind it, it is
passed over where its class may be, and nobody notices.
"""
import threading
import time

import harness
from mouth import Mouth
from test_matrix import CALLERS, MODELS
from test_providers import PROVIDERS, key

# What no caller may read: parts of a key, an organisation's id, an address of an account.
SECRETS = ("sk-fakefr", "FrAg", "org-FAKE0123456789abcdef", "someone@example.test", "proj_FAKE0123456789")
LEAK = "Key sk-fakefr****FrAg of org-FAKE0123456789abcdef (someone@example.test, proj_FAKE0123456789). "


def openai(message, type_=None, code=None, param=None):
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def anthropic(type_, message, **more):
    return {"type": "error", "error": {"type": type_, "message": message, **more}, "request_id": "req_fake"}


def gemini(code, status, message, details=()):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def rfc3339(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


GOOGLE = "type.googleapis.com/google.rpc."
HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
# (provider, class, status, body, headers, seconds to wait or None)
FAILURES = [
    ("openai", "auth", 401, openai("Incorrect API key provided. " + LEAK, "invalid_request_error", "invalid_api_key"), {}, None),
    ("openai", "permission", 403, openai("Country not supported.", "request_forbidden", "unsupported_country"), {}, None),
    ("openai", "not_found", 404, openai("No such model.", "invalid_request_error", "model_not_found"), {}, None),
    ("openai", "rate_limit", 429, openai("Rate limit reached. " + LEAK, "requests", "rate_limit_exceeded"), {"retry-after": "37"}, 37),
    ("openai", "rate_limit", 429, openai("Rate limit reached.", "requests", "rate_limit_exceeded"), {"retry-after-ms": "41500", "retry-after": "37"}, 42),
    ("openai", "quota", 429, openai("Quota. " + LEAK, "insufficient_quota", "insufficient_quota"), {}, None),
    ("openai", "context_length", 400, openai("Too many tokens.", "invalid_request_error", "context_length_exceeded", "messages"), {}, None),
    ("openai", "content_policy", 400, openai("Not that.", "invalid_request_error", "content_policy_violation"), {}, None),
    ("openai", "invalid_request", 400, openai("Wrong value. " + LEAK, "invalid_request_error", "invalid_value", "temperature"), {}, None),
    ("openai", "overloaded", 503, openai("Busy.", "service_unavailable_error", "server_is_overloaded"), {}, None),
    ("openai", "server_error", 500, openai("Oops.", "server_error"), {}, None),
    ("openai", "timeout", 504, openai("Too slow.", "server_error"), {}, None),
    ("openai", "server_error", 502, HTML, {"Content-Type": "text/html"}, None),
    ("openai", "server_error", 500, "", {}, None),
    ("openai", "protocol", 200, HTML, {"Content-Type": "text/html"}, None),
    ("openai", "protocol", 200, "", {}, None),
    ("anthropic", "auth", 401, anthropic("authentication_error", "invalid x-api-key " + LEAK), {}, None),
    ("anthropic", "permission", 403, anthropic("permission_error", "Your key may not."), {}, None),
    ("anthropic", "not_found", 404, anthropic("not_found_error", "model: x"), {}, None),
    ("anthropic", "rate_limit", 429, anthropic("rate_limit_error", "This would exceed the limit of " + LEAK), {"retry-after": "33"}, 33),
    ("anthropic", "rate_limit", 429, anthropic("rate_limit_error", "Exceeded."), {
        "anthropic-ratelimit-requests-remaining": "12", "anthropic-ratelimit-requests-reset": lambda: rfc3339(500),
        "anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": lambda: rfc3339(55)}, 55),
    ("anthropic", "quota", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the API. " + LEAK), {}, None),
    ("anthropic", "quota", 429, anthropic("rate_limit_error", "Cap.", details={"error_code": "enforced_spend_limit_reached"}), {}, None),
    ("anthropic", "context_length", 400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), {}, None),
    ("anthropic", "content_policy", 400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), {}, None),
    ("anthropic", "invalid_request", 400, anthropic("invalid_request_error", "messages.0: wrong"), {}, None),
    ("anthropic", "overloaded", 529, anthropic("overloaded_error", "Overloaded"), {}, None),
    ("anthropic", "server_error", 500, anthropic("api_error", "Internal server error"), {}, None),
    ("anthropic", "timeout", 504, anthropic("timeout_error", "Too slow"), {}, None),
    ("gemini", "auth", 400, gemini(400, "INVALID_ARGUMENT", "API key not valid. " + LEAK, [
        {"@type": GOOGLE + "ErrorInfo", "reason": "API_KEY_INVALID"}]), {}, None),
    ("gemini", "permission", 403, gemini(403, "PERMISSION_DENIED", "Not you."), {}, None),
    ("gemini", "not_found", 404, gemini(404, "NOT_FOUND", "models/x is not found"), {}, None),
    ("gemini", "rate_limit", 429, gemini(429, "RESOURCE_EXHAUSTED", "Quota exceeded for a minute. " + LEAK, [
        {"@type": GOOGLE + "RetryInfo", "retryDelay": "38.5s"}]), {}, 39),
    ("gemini", "context_length", 400, gemini(400, "INVALID_ARGUMENT", "The input token count (2000000) exceeds the maximum"), {}, None),
    ("gemini", "invalid_request", 400, gemini(400, "INVALID_ARGUMENT", "Unknown name"), {}, None),
    ("gemini", "overloaded", 503, gemini(503, "UNAVAILABLE", "The model is overloaded."), {}, None),
    ("gemini", "server_error", 500, gemini(500, "INTERNAL", "An internal error has occurred."), {}, None),
    ("gemini", "timeout", 504, gemini(504, "DEADLINE_EXCEEDED", "Deadline expired."), {}, None),
    ("mistral", "auth", 401, {"message": "Unauthorized", "request_id": "x"}, {}, None),
    ("mistral", "invalid_request", 422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra"}]},
                                         "type": "invalid_request_error"}, {}, None),
    ("kimi", "quota", 429, {"error": {"message": "Your account org-FAKE0123456789abcdef is suspended", "type": "exceeded_current_quota_error"}}, {}, None),
    ("kimi", "overloaded", 429, {"error": {"message": "busy", "type": "engine_overloaded_error"}}, {}, None),
    ("openrouter", "rate_limit", 429, {"error": {"code": 429, "message": "Rate limit exceeded"}},
     {"X-RateLimit-Reset": lambda: str(int((time.time() + 47) * 1000))}, 47),
    ("openrouter", "quota", 402, {"error": {"code": 402, "message": "Insufficient credits"}}, {}, None),
    ("openrouter", "server_error", 200, {"error": {"code": 502, "message": "Provider failed", "metadata": {"error_type": "provider_unavailable"}}}, {}, None),
    ("grok", "auth", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***xx."}, {}, None),
    ("openai_compatible", "context_length", 400, {"error": {"message": "This model's maximum context length is 8192 tokens.", "type": "BadRequestError", "code": 400}}, {}, None),
]
MENDED_BY_CALLER = ("invalid_request", "context_length", "content_policy")
HOME = {"openai_chat": ("openai", "openai_compatible"), "openai_responses": ("openai",), "anthropic_messages": ("anthropic",), "gemini": ("gemini",)}
PASSES = {"openai_chat": (429, "no_route"), "openai_responses": (429, "no_route"), "anthropic_messages": (529, "overloaded_error"),
          "gemini": (503, "UNAVAILABLE")}


def expected(caller, class_):
    """(status, type or code as the caller's dialect calls it, x-should-retry)"""
    shape = {"anthropic_messages": 1, "gemini": 2}.get(caller, 0)
    if class_ == "rate_limit":
        return (*PASSES[caller], "true")
    if class_ == "timeout":
        return 504, ("upstream_timeout", "api_error", "DEADLINE_EXCEEDED")[shape], "true"
    if class_ in MENDED_BY_CALLER:
        return 400, (None, "invalid_request_error", "INVALID_ARGUMENT")[shape], "false"
    return 502, ("all_targets_failed", "api_error", "UNAVAILABLE")[shape], "true"


class Errors(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.mouth = Mouth()
        cls.addClassCleanup(cls.mouth.close)
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "spare", models=["spare-model"])
        cls.at = 0
        cls.profiles = {}
        # a profile for each: what one cools is not asked by the next
        for i, (provider, *_) in enumerate(FAILURES):
            for caller in CALLERS:
                for chain in (False, True):
                    cls.profile(provider, f"{i}-{caller.name}-{int(chain)}", chain)
        cls.tg.settled()

    @classmethod
    def profile(cls, provider, name, chain):
        cls.tg.must("POST", "/orgs/acme/profiles", {
            "name": name, "provider": provider, "secret": key(provider, "good"), "billing_source": "byok", "validate": False,
            "base_url": cls.mouth.url(name), "models": [MODELS[provider]]})
        targets = [{"profile": name, "model": MODELS[provider]}] + ([{"profile": "spare", "model": "spare-model"}] if chain else [])
        cls.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": name}, "targets": targets, "policy": {}})

    def failure(self, i, caller, chain, stream):
        provider, class_, status, body, headers, wait = FAILURES[i]
        name = f"{i}-{caller.name}-{int(chain)}"
        self.mouth.says(name, status, body, {k: v() if callable(v) else v for k, v in headers.items()})
        path, ask = caller.ask(name, "Hello", stream=stream)
        answer = self.tg.post(path, ask, key=self.org.key, headers=caller.headers())
        self.assertEqual(len(self.mouth.asked(name)), 1)
        return name, answer

    def told(self, caller, answer, class_, target):
        """The caller's own error, whole."""
        status, word, retry = expected(caller.name, class_)
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.headers["x-should-retry"], retry, answer)
        self.assertEqual(answer.headers["content-type"].split(";")[0], "application/json")
        request_id = answer.headers["x-request-id"]
        self.assertRegex(request_id, r"^req_[0-9a-f]{8}-[0-9a-f-]{27}$")
        body, error = answer.json, answer.json["error"]
        self.assertTrue(error["message"])
        if caller.name == "anthropic_messages":
            self.assertEqual((body["type"], error["type"], body["request_id"]), ("error", word, request_id))
            self.assertEqual(answer.headers["request-id"], request_id)
        elif caller.name == "gemini":
            self.assertEqual((error["code"], error["status"]), (status, word))
        else:
            self.assertEqual(set(error), {"message", "type", "param", "code"})
            self.assertEqual(error["type"], {429: "rate_limit_error", 400: "invalid_request_error"}.get(status, "server_error"))
            if word:
                self.assertEqual(error["code"], word)
        own = body["tollgate"]
        self.assertEqual(own["request_id"], request_id)
        self.assertTrue(own["code"] and own["reason"] and own["hint"], own)
        self.assertEqual([(t["target"], t["reason"]) for t in own["targets"]], [(target, class_)])
        self.assertEqual(answer.headers["x-tollgate-fallback"], f"{target}={class_}")
        for secret in SECRETS:
            self.assertNotIn(secret, str(answer.headers) + answer.body.decode())

    def test_each_failure_alone_is_the_callers_own_error(self):
        before, rows = self.org.balance(), self.tg.row_counts()
        for i, (provider, class_, status, body, headers, wait) in enumerate(FAILURES):
            for at, caller in enumerate(CALLERS):
                with self.subTest(provider=provider, error=class_, status=status, caller=caller.name, n=i):
                    name, answer = self.failure(i, caller, False, stream=(i + at) % 2 == 1)
                    self.told(caller, answer, class_, f"{name}/{MODELS[provider]}")
                    if class_ in MENDED_BY_CALLER and provider in HOME[caller.name]:
                        words = (body.get("error") or body)["message"]
                        self.assertIn((words if isinstance(words, str) else "Extra").split("Key")[0], answer.json["error"]["message"])
                    if class_ == "rate_limit":
                        waits = int(answer.headers["retry-after"])
                        self.assertTrue(wait - 2 <= waits <= wait + 1, (waits, wait))
                        if caller.name == "gemini":
                            details = {d["@type"]: d for d in answer.json["error"]["details"]}
                            self.assertEqual(details[GOOGLE + "RetryInfo"]["retryDelay"], f"{waits}s")
                    else:
                        self.assertIsNone(answer.headers["retry-after"])
        self.assertEqual(self.org.balance(), before)
        after = self.tg.row_counts()
        for table in ("tollgate.ledger_entry", "tollgate.posting"):
            self.assertEqual(after.get(table), rows.get(table))

    def test_each_failure_falls_over_where_its_class_may(self):
        for i, (provider, class_, status, *_) in enumerate(FAILURES):
            for at, caller in enumerate(CALLERS):
                with self.subTest(provider=provider, error=class_, status=status, caller=caller.name, n=i):
                    stream = (i + at) % 2 == 0
                    name, answer = self.failure(i, caller, True, stream)
                    target = f"{name}/{MODELS[provider]}"
                    if class_ in ("invalid_request", "content_policy"):
                        self.assertEqual(answer.status, 400, answer)
                        self.assertEqual(answer.headers["x-tollgate-attempts"], "1")
                        continue
                    if class_ == "context_length" and provider != "openai_compatible":  # the spare's window is not known to be larger
                        self.assertEqual(answer.status, 400, answer)
                        self.assertEqual([t["reason"] for t in answer.json["tollgate"]["targets"]], [class_, "context_too_long"])
                        continue
                    self.assertEqual(answer.status, 200, answer)
                    self.assertEqual(answer.headers["x-tollgate-profile"], "spare")
                    self.assertEqual(answer.headers["x-tollgate-fallback"], f"{target}={class_}")
                    got = caller.read(answer, stream)
                    self.assertEqual((got.text, got.finish), ("echo Hello", caller.FINISH["stop"]))

    def test_who_says_nothing_or_is_not_there(self):
        """Nobody there, a connection that breaks at once, and one that says nothing until the call's time is up."""
        never = threading.Event()
        self.addCleanup(never.set)
        for what, class_ in (("gone", "network"), ("breaks", "network"), ("silent", "timeout")):
            for caller in CALLERS:
                for stream in (False, True):
                    with self.subTest(what=what, caller=caller.name, stream=stream):
                        name = f"{what}-{caller.name}-{int(stream)}"
                        self.tg.must("POST", "/orgs/acme/profiles", {
                            "name": name, "provider": "anthropic", "secret": key("anthropic", "good"), "billing_source": "byok", "validate": False,
                            "base_url": self.mouth.url(name) if what != "gone" else f"http://127.0.0.1:{harness.free_port()}", "models": [MODELS["anthropic"]]})
                        self.tg.must("PUT", f"/orgs/acme/routes/{name}", {"match": {"alias": name}, "targets": [{"profile": name, "model": MODELS["anthropic"]}],
                                                                          "policy": {"timeout_ms": 700 * harness.SLOW}})
                        self.tg.settled()
                        if what == "silent":
                            self.mouth.says(name, 200, [never])
                        path, ask = caller.ask(name, "Hello", stream=stream)
                        answer = self.tg.post(path, ask, key=self.org.key, headers=caller.headers())
                        self.told(caller, answer, class_, f"{name}/{MODELS['anthropic']}")
