"""What a provider keeps for a later call: the follow-up goes to the profile that has it, or to nobody."""
import unittest

import harness
from mouth import Mouth
from test_providers import PROVIDERS, key

MODEL = "gpt-4.1"


class State(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    def profile(self, org, name, secret, provider="openai", **more):
        return self.tg.must("POST", f"/orgs/{org if isinstance(org, str) else org.slug}/profiles", {
            "name": name, "provider": provider, "secret": secret, "validate": False, "models": [MODEL], "billing_source": "byok",
            "base_url": f"http://127.0.0.1:{self.fake.port}/{provider}{PROVIDERS[provider][0]}", **more})

    def ask(self, org, text="Hello", **more):
        return self.tg.post("/v1/responses", {"model": MODEL, "input": text, **more}, key=org.key)

    def test_a_follow_up_goes_where_the_response_is(self):
        org = self.tg.setup_org("follow")
        self.profile(org, "first", "sk-fakefirst", priority=1)
        self.profile(org, "second", "sk-fakesecond", priority=2)
        self.tg.settled()
        self.fake.control(key="sk-fakefirst", times=1, status=500)
        made = self.ask(org)
        self.assertEqual((made.status, made.headers["x-tollgate-profile"]), (200, "second"), made)
        org.admin("POST", "/profiles/first/rotate", {"secret": "sk-fakefirst2"})  # clears its cooldown: it would go first again
        self.tg.settled()
        self.assertEqual(self.ask(org).headers["x-tollgate-profile"], "first")
        for stream in (False, True):
            again = self.ask(org, "And on", previous_response_id=made.json["id"], stream=stream)
            self.assertEqual((again.status, again.headers["x-tollgate-profile"]), (200, "second"), again)
            self.assertIn("first/gpt-4.1=capability_missing:previous_response_id", again.headers["x-tollgate-fallback"])
        self.assertEqual(self.tg.sql("SELECT count(DISTINCT profile_id) FROM tollgate.provider_state"), [["2"]])
        self.assertNotIn(made.json["id"], str(self.tg.sql("SELECT * FROM tollgate.provider_state")))

    def test_what_nobody_keeps_is_refused_in_the_dialects_words(self):
        org = self.tg.setup_org("nobody")
        self.profile(org, "first", "sk-fakefirst", priority=1)
        self.profile(org, "second", "sk-fakesecond", priority=2)
        self.tg.settled()
        before, rows = self.fake.stats()["calls"], self.tg.row_counts()
        answer = self.ask(org, previous_response_id="resp_never_made")
        self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["param"]),
                         (400, "previous_response_not_found", "previous_response_id"), answer)
        self.assertIn("resp_never_made", answer.json["error"]["message"])
        self.assertEqual(answer.headers["x-should-retry"], "false")
        answer = self.ask(org, conversation="conv_x")
        self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["param"]), (404, "state_not_found", "conversation"))
        self.assertEqual(self.fake.stats()["calls"], before)
        self.assertEqual(self.tg.row_counts(), rows)

    def test_one_own_account_is_no_guess(self):
        org = self.tg.setup_org("single")
        self.profile(org, "only", "sk-fakeonly")
        self.tg.settled()
        # asked there, and told by the provider itself that it is not there
        answer = self.ask(org, previous_response_id="resp_never_made")
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "previous_response_not_found"), answer)
        self.assertEqual(answer.headers["x-tollgate-profile"], "only")

    def test_no_org_builds_on_anothers_in_the_platforms_account(self):
        self.profile("platform", "shared", "sk-fakeshared", billing_source="platform")
        mine, other = self.tg.setup_org("mine"), self.tg.setup_org("other")
        self.tg.settled()
        made = self.ask(mine)
        self.assertEqual((made.status, made.headers["x-tollgate-billing-source"]), (200, "platform"), made)
        self.assertEqual(self.ask(mine, previous_response_id=made.json["id"]).status, 200)
        before, balance = self.fake.stats()["calls"], other.balance()
        answer = self.ask(other, previous_response_id=made.json["id"])
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "previous_response_not_found"), answer)
        self.assertEqual((self.fake.stats()["calls"], other.balance()), (before, balance))

    def test_a_stored_response_is_read_and_deleted_where_it_is(self):
        self.profile("platform", "kept", "sk-fakekept", billing_source="platform")
        mine, other = self.tg.setup_org("reads"), self.tg.setup_org("reads-not")
        self.tg.settled()
        made = self.ask(mine, "Remember me")
        path = f"/v1/responses/{made.json['id']}"
        rows, balance = self.tg.sql("SELECT count(*) FROM tollgate.usage_charge"), mine.balance()
        again = self.tg.get(path, mine.key)
        self.assertEqual((again.status, again.json["id"], again.json["output"]), (200, made.json["id"], made.json["output"]), again)
        self.assertEqual((again.headers["x-tollgate-provider"], again.headers["x-tollgate-profile"]), ("openai", "kept"))
        before = self.fake.stats()["calls"]
        for who, where in ((other, path), (mine, "/v1/responses/resp_none"), (mine, "/v1/responses/a%20b"), (other, path + "/input_items")):
            answer = self.tg.get(where, who.key)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (404, "state_not_found"), answer)
        delete = lambda org: harness.request(self.tg.data_host, self.tg.data_port, "DELETE", path, headers={"Authorization": f"Bearer {org.key}"})
        self.assertEqual(delete(other).status, 404)
        self.assertEqual(self.tg.get(path + "?stream=true", mine.key).json["error"]["code"], "not_supported")
        self.assertEqual(self.fake.stats()["calls"], before)
        self.assertEqual(delete(mine).status, 200)
        self.assertEqual(self.tg.get(path, mine.key).status, 404)
        self.assertEqual((self.tg.sql("SELECT count(*) FROM tollgate.usage_charge"), mine.balance()), (rows, balance))

    def test_a_file_of_a_chat_is_not_sent_where_nobody_knows_it(self):
        self.profile("platform", "files", "sk-fakefiles", billing_source="platform", models=["gpt-4.1-mini"])
        org, several = self.tg.setup_org("chatfile"), self.tg.setup_org("chatfiles")
        for name in ("one", "two"):
            self.profile(several, name, "sk-fake" + name)
        self.tg.settled()
        parts = ({"content": [{"type": "file", "file": {"file_id": "file-of-another"}}], "role": "user"},
                 {"role": "assistant", "audio": {"id": "audio_of_another"}})
        for who, model in ((org, "gpt-4.1-mini"), (several, MODEL)):
            before, balance, rows = self.fake.stats()["calls"], who.balance(), self.tg.row_counts()
            for part in parts:
                answer = self.tg.post("/v1/chat/completions", {"model": model, "messages": [part, {"role": "user", "content": "Go on"}]}, key=who.key)
                self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["param"]), (404, "state_not_found", "messages"), answer)
            self.assertEqual((self.fake.stats()["calls"], who.balance(), self.tg.row_counts()), (before, balance, rows))
        single = self.tg.setup_org("chatfile-own")
        self.profile(single, "mine", "sk-fakemine")
        self.tg.settled()
        answer = self.tg.post("/v1/chat/completions", {"model": MODEL, "messages": [parts[0]]}, key=single.key)
        self.assertEqual((answer.status, answer.headers["x-tollgate-profile"]), (200, "mine"), answer)

    def test_what_is_asked_of_a_stored_response_goes_along(self):
        mouth = Mouth()
        self.addCleanup(mouth.close)
        org = self.tg.setup_org("items")
        self.profile(org, "mouth", "sk-fakemouth", base_url=mouth.url("kept"))
        self.tg.settled()
        answer = {"id": "resp_said", "object": "response", "status": "completed", "model": MODEL, "store": True, "output": []}
        items = {"object": "list", "data": [], "has_more": False}
        wrong = {"error": {"message": "Not that one.", "type": "invalid_request_error", "param": "include", "code": "invalid_value"}}
        rows = lambda: self.tg.row_counts()["tollgate.provider_state"]
        before = rows()
        mouth.says("kept", 200, {**answer, "id": "resp_" + "x" * 5000})
        self.assertEqual((self.ask(org).status, rows()), (200, before))  # what is so long is no id
        self.assertEqual(self.ask(org, previous_response_id="resp_" + "x" * 100000).status, 200)  # asked of the only account
        mouth.says("kept", 200, answer)
        self.assertEqual((self.ask(org).status, rows()), (200, before + 1))
        mouth.says("kept", 200, items)
        path = "/v1/responses/resp_said"
        got = self.tg.get(path + "/input_items?limit=2&include%5B%5D=a.b&order=asc&include%5B%5D=c.d&other=x", org.key)
        self.assertEqual((got.status, got.json), (200, items), got)
        self.assertEqual(mouth.asked("kept")[-1].path, "/kept/responses/resp_said/input_items?limit=2&include%5B%5D=a.b&order=asc&include%5B%5D=c.d")
        asked = len(mouth.asked("kept"))
        for query, field in (("limit=%20", "limit"), ("include%5B%5D=", "include"), ("after=" + "x" * 200, "after")):
            got = self.tg.get(f"{path}/input_items?{query}", org.key)
            self.assertEqual((got.status, got.json["error"]["param"]), (400, field), got)
        self.assertEqual(len(mouth.asked("kept")), asked)
        mouth.says("kept", 400, wrong)
        got = self.tg.get(path + "?include=x", org.key)
        self.assertEqual((got.status, {k: got.json["error"][k] for k in ("message", "param", "code")}),
                         (400, {"message": "Not that one.", "param": "include", "code": "invalid_value"}), got)

    def test_what_is_not_kept_is_not_remembered(self):
        org = self.tg.setup_org("light")
        self.profile(org, "only", "sk-fakelight")
        self.tg.settled()
        rows = lambda: int(self.tg.sql(f"SELECT count(*) FROM tollgate.provider_state s JOIN tollgate.org o USING (org_id) WHERE o.slug = 'light'")[0][0])
        self.assertEqual(self.ask(org, store=False).status, 200)
        self.assertEqual(rows(), 0)
        self.assertEqual(self.ask(org).status, 200)
        self.assertEqual(rows(), 1)

    def test_a_translated_answer_is_kept_by_nobody(self):
        org = self.tg.setup_org("translated")
        self.tg.must("POST", "/orgs/translated/profiles", {
            "name": "claude", "provider": "anthropic", "secret": key("anthropic", "good"), "validate": False, "models": ["claude-sonnet-4-5"],
            "billing_source": "byok", "base_url": f"http://127.0.0.1:{self.fake.port}/anthropic"})
        self.tg.settled()
        ask = lambda **more: self.tg.post("/v1/responses", {"model": "claude-sonnet-4-5", "input": "Hello", **more}, key=org.key)
        made = ask()
        self.assertEqual((made.status, made.json["store"]), (200, False), made)
        before = self.fake.stats()["calls"]
        answer = ask(previous_response_id=made.json["id"])
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "previous_response_not_found"), answer)
        self.assertEqual(self.fake.stats()["calls"], before)

    def test_a_call_is_logged_with_both_its_dialects(self):
        org = self.tg.setup_org("logged")
        self.tg.must("POST", "/orgs/logged/profiles", {
            "name": "claude", "provider": "anthropic", "secret": key("anthropic", "good"), "validate": False, "models": ["claude-sonnet-4-5"],
            "billing_source": "byok", "base_url": f"http://127.0.0.1:{self.fake.port}/anthropic"})
        self.tg.settled()
        question = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello"}], "seed": 1}
        made = self.tg.post("/v1/chat/completions", question, key=org.key)
        self.assertEqual((made.status, made.headers["x-tollgate-dropped"]), (200, "seed"), made)
        # nobody was asked, so nothing was left out
        refused = self.tg.post("/v1/chat/completions", {**question, "logit_bias": {"1": 1}}, key=org.key)
        self.assertEqual((refused.status, refused.json["error"]["param"], refused.headers.get("x-tollgate-dropped")), (400, "logit_bias", None), refused)
        counted = self.tg.post("/v1/messages/count_tokens", {k: question[k] for k in ("model", "messages")}, key=org.key)
        self.assertEqual(counted.status, 200, counted)
        lines = lambda: {line["request_id"]: line for line in self.tg.log_lines() if line.get("msg") == "call"}
        told = lambda answer: tuple(lines()[answer.headers["x-request-id"]][k] for k in ("gen_ai.operation.name", "dialect", "target_dialect"))
        harness.wait_until(lambda: counted.headers["x-request-id"] in lines())
        self.assertEqual(told(made), ("chat", "openai_chat", "anthropic_messages"))
        self.assertEqual(told(refused), ("chat", "openai_chat", None))
        self.assertEqual(told(counted)[0], "count_tokens")

    def test_background_is_refused(self):
        org = self.tg.setup_org("ground")
        self.profile(org, "only", "sk-fakeground")
        self.tg.settled()
        before = self.fake.stats()["calls"]
        answer = self.ask(org, background=True)
        self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["param"]), (400, "unsupported_parameter", "background"), answer)
        self.assertEqual(self.fake.stats()["calls"], before)


if __name__ == "__main__":
    unittest.main()
