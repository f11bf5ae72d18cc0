"""Named agents: the resource, and what a call on an agent's behalf gets."""
import json

import harness
from harness import MODEL


class Agents(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "own", models=["own-a", "own-b"])

    def put(self, name, **body):
        return self.org.admin("PUT", f"/agents/{name}", body)

    def ask(self, model="default", agent=None, **headers):
        headers = {**({"x-tollgate-agent": agent} if agent else {}), **headers}
        return self.tg.chat({"model": model, "messages": [{"role": "user", "content": "Hi"}]}, key=self.org.key, headers=headers)

    def explain(self, **body):
        return self.org.admin("POST", "/routes/explain", {"model": "default", **body})

    def gets(self, agent, model):
        self.tg.settled()
        self.assertEqual(self.ask(agent=agent).headers.get("x-tollgate-model"), model)

    def test_the_resource(self):
        status, envelope = self.put("helper", default_model="own-a", description="Answers mail")
        self.assertEqual(status, 200, envelope)
        made = envelope["data"]
        self.assertEqual({k: made[k] for k in ("name", "default_model", "description", "status", "route")},
                         {"name": "helper", "default_model": "own-a", "description": "Answers mail", "status": "active", "route": None})
        self.assertRegex(made["created_at"], r"Z$")
        replaced = self.put("helper")[1]["data"]
        self.assertEqual((replaced["default_model"], replaced["description"], replaced["created_at"]), (None, None, made["created_at"]))
        self.assertEqual(self.org.admin("GET", "/agents/helper")[1]["data"], replaced)
        self.assertEqual(self.org.admin("DELETE", "/agents/helper")[0], 200)
        self.assertEqual(self.org.admin("GET", "/agents/helper")[0], 404)
        status, envelope = self.org.admin("DELETE", "/agents/helper")
        self.assertEqual((status, envelope["error"]["code"]), (404, "agent_not_found"))
        actions = [row["action"] for row in self.org.admin("GET", "/audit?limit=3")[1]["data"]]
        self.assertEqual(actions, ["agent.delete", "agent.put", "agent.put"])

    def test_bad_agents_leave_nothing(self):
        before = self.tg.row_counts()
        for name, body, field in (("x", {"surprise": 1}, "surprise"), ("x", {"default_model": ""}, "default_model"),
                                  ("x", {"default_model": "default"}, "default_model"), ("x", {"default_model": "auto"}, "default_model"),
                                  ("x", {"default_model": "a b"}, "default_model"), ("x", {"default_model": 1}, "default_model"),
                                  ("x", {"default_model": "m" * 257}, "default_model"), ("x", {"status": "gone"}, "status"),
                                  ("x", {"description": "d" * 1001}, "description"), ("a%20b", {}, None), ("a%2Fb", {}, None),
                                  ("-a", {}, None), ("n" * 65, {}, None)):
            with self.subTest(name=name, body=body):
                status, envelope = self.put(name, **body)
                self.assertEqual(status, 400, envelope)
                self.assertEqual(envelope["error"].get("field"), field)
        self.assertEqual(self.tg.row_counts(), before)

    def test_lists_page_newest_first(self):
        names = [f"page-{i}" for i in range(5)]
        for name in names:
            self.assertEqual(self.put(name)[0], 200)
        seen, cursor = [], ""
        while True:
            status, envelope = self.org.admin("GET", "/agents?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(status, 200, envelope)
            self.assertLessEqual(len(envelope["data"]), 2)
            seen += [a["name"] for a in envelope["data"]]
            cursor = envelope["meta"].get("next_cursor")
            if not cursor:
                break
        self.assertEqual([n for n in seen if n in names], names[::-1])
        self.assertEqual(len(seen), len(set(seen)))

    def test_a_route_names_agents_that_are_there(self):
        route = {"match": {"agent": "nobody"}, "targets": [{"profile": "own", "model": "own-b"}]}
        before = self.tg.row_counts()
        status, envelope = self.org.admin("PUT", "/routes/of-nobody", route)
        self.assertEqual((status, envelope["error"]["code"]), (400, "agent_not_found"))
        self.assertEqual(self.tg.row_counts(), before)
        self.assertEqual(self.put("clerk")[0], 200)
        self.assertEqual(self.org.admin("PUT", "/routes/clerk-code", {**route, "match": {"agent": "clerk", "intent": "code"}})[0], 200)
        self.assertIsNone(self.org.admin("GET", "/agents/clerk")[1]["data"]["route"])
        self.assertEqual(self.org.admin("PUT", "/routes/clerk-all", {**route, "match": {"agent": "clerk"}})[0], 200)
        self.assertEqual(self.org.admin("GET", "/agents/clerk")[1]["data"]["route"], "clerk-all")
        status, envelope = self.org.admin("DELETE", "/agents/clerk")
        self.assertEqual((status, envelope["error"]["code"]), (409, "agent_in_use"))
        for name in ("clerk-code", "clerk-all"):
            self.assertEqual(self.org.admin("DELETE", f"/routes/{name}")[0], 200)
        self.assertEqual(self.org.admin("DELETE", "/agents/clerk")[0], 200)

    def test_calls_of_an_agent(self):
        self.assertEqual(self.put("bot", default_model="own-a")[0], 200)
        self.gets("bot", "own-a")
        explained = self.explain(agent="bot")[1]["data"]
        self.assertEqual((explained["resolved_by"], explained["targets"][0]["model"]), ("agent", "own-a"))
        # The chain that names the agent goes before its default model; who names a model gets that.
        self.assertEqual(self.org.admin("PUT", "/routes/bot", {"match": {"agent": "bot"}, "targets": [
            {"profile": "own", "model": "own-b"}]})[0], 200)
        self.gets("bot", "own-b")
        self.assertEqual(self.explain(agent="bot")[1]["data"]["route"], "bot")
        self.assertEqual(self.ask("own-a", "bot").headers["x-tollgate-model"], "own-a")
        self.assertEqual(self.org.admin("DELETE", "/routes/bot")[0], 200)
        self.gets("bot", "own-a")
        # The platform's credits pay where the default is its model, and the row says for whom.
        self.assertEqual(self.put("bot", default_model=MODEL)[0], 200)
        self.gets("bot", MODEL)
        answer = self.ask(agent="bot")
        self.assertStatus(answer, 200)
        row = self.tg.must("GET", f"/orgs/acme/usage/calls/{answer.headers['x-request-id']}")
        self.assertEqual((row["agent"], row["plan"]["resolved_by"], row["billing_source"]), ("bot", "agent", "platform"))
        self.assertIn("bot", {r["agent"] for r in self.tg.must("GET", "/orgs/acme/usage?group_by=agent")})

    def test_a_default_that_nobody_serves(self):
        self.assertEqual(self.put("lost", default_model="no-such-model")[0], 200)
        self.tg.settled()
        self.fake.clear()
        answer = self.ask(agent="lost")
        self.assertStatus(answer, 404)
        self.assertEqual(answer.json["error"]["code"], "model_not_found")
        self.assertIn("no-such-model", json.dumps(answer.json))
        self.assertEqual(self.fake.calls(), [])

    def test_a_disabled_agent_calls_nobody(self):
        self.assertEqual(self.put("off", default_model="own-a", status="disabled")[0], 200)
        self.tg.settled()
        self.fake.clear()
        before = self.tg.row_counts()
        answer = self.ask("own-a", "off")
        self.assertStatus(answer, 403)
        self.assertEqual((answer.json["error"]["code"], answer.json["tollgate"]["reason"] if "tollgate" in answer.json
                          else answer.json["error"]["tollgate"]["reason"]), ("permission_denied", "agent_disabled"))
        self.assertEqual(self.fake.calls(), [])
        self.assertEqual(self.tg.row_counts(), before)
        self.assertStatus(self.ask("own-a"), 200)
        # A name that is no agent is a label of the caller's own.
        self.assertStatus(self.ask("own-a", "just-a-label"), 200)

    def test_the_same_from_the_terminal(self):
        done = self.tg.cli("agent", "put", "cli", "--org", "acme", "--default-model", "own-a", "--json")
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertEqual(json.loads(done.stdout)["data"]["default_model"], "own-a")
        self.assertEqual(self.tg.cli("agent", "list", "--org", "acme").returncode, 0)
        self.assertEqual(self.tg.cli("agent", "delete", "cli", "--org", "acme").returncode, 0)
        self.assertEqual(self.tg.cli("agent", "show", "cli", "--org", "acme").returncode, 1)
        self.assertEqual(self.tg.cli("agent", "frobnicate", "--org", "acme").returncode, 2)


if __name__ == "__main__":
    import unittest
    unittest.main()
