"""The lists of models, in the shape of whoever asks."""
import unittest

import harness

NAMES = [f"m-{i:02d}" for i in range(7)]


class Models(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "own", models=NAMES)
        cls.tg.wait_for_model(cls.org, NAMES[-1])

    def ask(self, path, anthropic=False):
        headers = {"anthropic-version": "2023-06-01"} if anthropic else {}
        return self.tg.get(path, self.org.key, headers=headers)

    def test_one_path_two_dialects(self):
        openai = self.ask("/v1/models").json
        self.assertEqual((openai["object"], openai["models"]), ("list", []))
        self.assertLessEqual(set(NAMES), {m["id"] for m in openai["data"]})
        answer = self.ask("/v1/models?limit=1000", anthropic=True)
        self.assertEqual({m["id"] for m in openai["data"]}, {m["id"] for m in answer.json["data"]})
        self.assertEqual({m["type"] for m in answer.json["data"]}, {"model"})
        self.assertTrue(all(m["display_name"] and m["created_at"] for m in answer.json["data"]))
        self.assertFalse(answer.json["has_more"])

    def test_newer_gemini_clients_ask_below_v1(self):
        ask = lambda path: self.tg.get(path, headers={"x-goog-api-key": self.org.key})
        self.assertEqual(ask("/v1/models").json, ask("/v1beta/models").json)
        self.assertEqual(ask(f"/v1/models/{NAMES[0]}").json["name"], f"models/{NAMES[0]}")
        answer = ask("/v1/models/nobody-has-it")
        self.assertEqual((answer.status, answer.json["error"]["status"]), (404, "NOT_FOUND"))
        answer = self.tg.get("/v1/models", headers={"x-goog-api-key": "tg_00000000_" + "0" * 38})
        self.assertEqual((answer.status, answer.json["error"]["status"]), (401, "UNAUTHENTICATED"))

    def test_anthropic_pages(self):
        every = [m["id"] for m in self.ask("/v1/models?limit=1000", anthropic=True).json["data"]]
        seen, after = [], ""
        while True:
            page = self.ask("/v1/models?limit=3" + (f"&after_id={after}" if after else ""), anthropic=True).json
            self.assertLessEqual(len(page["data"]), 3)
            seen += [m["id"] for m in page["data"]]
            self.assertEqual((page["first_id"], page["last_id"]), (page["data"][0]["id"], page["data"][-1]["id"]))
            after = page["last_id"]
            if not page["has_more"]:
                break
        self.assertEqual(seen, every)
        back = self.ask(f"/v1/models?limit=2&before_id={every[4]}", anthropic=True).json
        self.assertEqual([m["id"] for m in back["data"]], every[2:4])
        for bad in ("0", "-1", "x", "1.5"):
            answer = self.ask(f"/v1/models?limit={bad}", anthropic=True)
            self.assertEqual((answer.status, answer.json["type"], answer.json["error"]["type"]), (400, "error", "invalid_request_error"))

    def test_one_model(self):
        one = self.ask(f"/v1/models/{NAMES[0]}", anthropic=True).json
        self.assertEqual((one["type"], one["id"]), ("model", NAMES[0]))
        for path in (f"/v1/models/openai_compatible/{NAMES[0]}", f"/v1/models/openai_compatible%2F{NAMES[0]}"):  # as calls may name it
            self.assertEqual(self.ask(path).json["id"], f"openai_compatible/{NAMES[0]}")
        for other in (f"anthropic/{NAMES[0]}", f"nobody/{NAMES[0]}", "openai_compatible/", f"openai_compatible/{NAMES[0]}x"):
            self.assertStatus(self.ask(f"/v1/models/{other}"), 404)
        answer = self.ask("/v1/models/nobody-has-it", anthropic=True)
        self.assertEqual((answer.status, answer.json["error"]["type"]), (404, "not_found_error"))
        self.assertEqual(answer.json["request_id"], answer.headers["x-request-id"])
        self.assertEqual(answer.headers["request-id"], answer.headers["x-request-id"])
        one = self.ask(f"/v1beta/models/{NAMES[0]}").json
        self.assertEqual(one["name"], f"models/{NAMES[0]}")
        answer = self.ask("/v1beta/models/nobody-has-it")
        self.assertEqual((answer.status, answer.json["error"]["code"], answer.json["error"]["status"]), (404, 404, "NOT_FOUND"))
        self.assertEqual(answer.json["error"]["details"][0]["reason"], "model_not_found")
        self.assertEqual(answer.json["tollgate"]["request_id"], answer.headers["x-request-id"])

    def test_gemini_pages(self):
        every = [m["name"] for m in self.ask("/v1beta/models?pageSize=1000").json["models"]]
        self.assertLessEqual({f"models/{n}" for n in NAMES}, set(every))
        seen, token = [], ""
        while True:
            page = self.ask("/v1beta/models?pageSize=3" + (f"&pageToken={token}" if token else "")).json
            seen += [m["name"] for m in page["models"]]
            token = page.get("nextPageToken")
            if not token:
                break
        self.assertEqual(seen, every)
        self.assertIn("generateContent", page["models"][0]["supportedGenerationMethods"])

    def test_gemini_is_told_what_a_model_is_for(self):
        org = self.tg.setup_org("embeds")
        self.tg.must("POST", "/orgs/embeds/profiles", {
            "name": "g", "provider": "gemini", "secret": "AIza" + "fakeFAKE" * 4 + "fak", "validate": False, "billing_source": "byok",
            "models": ["gemini-embedding-001", "gemini-2.5-flash"]})
        self.tg.settled()
        methods = lambda model: self.tg.get(f"/v1beta/models/{model}", org.key).json["supportedGenerationMethods"]
        self.assertEqual(methods("gemini-embedding-001"), ["embedContent", "batchEmbedContents"])
        self.assertEqual(methods("gemini-2.5-flash"), ["generateContent", "countTokens"])

    def test_a_bad_key_reads_as_the_path_says(self):
        key = self.org.key[:-1] + ("0" if self.org.key[-1] != "0" else "1")
        anthropic = self.tg.get("/v1/models", key, headers={"anthropic-version": "2023-06-01"})
        self.assertEqual((anthropic.status, anthropic.json["error"]["type"]), (401, "authentication_error"))
        gemini = self.tg.get("/v1beta/models", key)
        self.assertEqual((gemini.status, gemini.json["error"]["status"]), (401, "UNAUTHENTICATED"))
        openai = self.tg.get("/v1/models", key)
        self.assertEqual((openai.status, openai.json["error"]["code"]), (401, "invalid_api_key"))


if __name__ == "__main__":
    unittest.main()
