"""Tiers: the resource, and that each of its rules is held."""
import threading

import harness
from harness import MODEL


class Tiers(harness.Case):
    @classmethod
    def prepare(cls):
        cls.tg.setup_platform()
        cls.count = 0

    def put(self, name, **body):
        return self.tg.must("PUT", f"/tiers/{name}", body)

    def org(self, tier):
        type(self).count += 1
        org = self.tg.setup_org(f"org-{self.count}", credits=None)
        self.tg.must("PATCH", f"/orgs/{org.slug}", {"tier": tier})
        return org

    def connect(self, org, name, **more):
        return org.admin("POST", "/profiles", {"name": name, "provider": "openai_compatible", "base_url": self.fake.base_url,
                                               "secret": "fake-org-key", "models": [f"{org.slug}-model"], **more})

    def refused(self, answer, code):
        self.assertEqual((answer[0], answer[1]["error"]["code"]), (403, code), answer)
        self.assertTrue(answer[1]["error"]["hint"])

    def test_the_resource(self):
        self.assertLessEqual({"free", "standard", "business", "enterprise", "platform"},
                             {t["name"] for t in self.tg.must("GET", "/tiers?limit=200")})
        made = self.put("gold", label="Gold", byok=False, max_profiles=3)
        self.assertEqual({k: v for k, v in made.items() if not k.endswith("_at")}, {
            "name": "gold", "label": "Gold", "byok": False, "private": True, "max_profiles": 3, "max_api_keys": None})
        replaced = self.put("gold")
        self.assertEqual((replaced["label"], replaced["byok"], replaced["max_profiles"], replaced["created_at"]),
                         ("gold", True, None, made["created_at"]))
        self.assertEqual(self.tg.must("GET", "/tiers/gold"), replaced)
        org = self.org("gold")
        status, envelope = self.tg.admin("DELETE", "/tiers/gold")
        self.assertEqual((status, envelope["error"]["code"]), (409, "tier_in_use"))
        self.tg.must("PATCH", f"/orgs/{org.slug}", {"tier": "business"})
        self.tg.must("DELETE", "/tiers/gold")
        self.assertEqual(self.tg.admin("GET", "/tiers/gold")[0], 404)
        self.assertEqual(self.tg.admin("DELETE", "/tiers/gold")[0], 404)
        actions = [row["action"] for row in self.tg.must("GET", "/orgs/platform/audit?limit=3")]
        self.assertEqual(actions, ["tier.delete", "tier.put", "tier.put"])

    def test_bad_tiers(self):
        before = self.tg.row_counts()
        for name, body, field in (("t", {"surprise": 1}, "surprise"), ("t", {"byok": "yes"}, "byok"), ("t", {"private": 1}, "private"),
                                  ("t", {"max_profiles": -1}, "max_profiles"), ("t", {"max_api_keys": 1.5}, "max_api_keys"),
                                  ("t", {"label": " "}, "label"), ("t", {"label": "l" * 201}, "label"), ("Gold", {}, None),
                                  ("n" * 33, {}, None)):
            with self.subTest(name=name, body=body):
                status, envelope = self.tg.admin("PUT", f"/tiers/{name}", body)
                self.assertEqual(status, 400, envelope)
                self.assertEqual(envelope["error"].get("field"), field)
        self.assertEqual(self.tg.row_counts(), before)

    def test_lists_page(self):
        for i in range(3):
            self.put(f"page-{i}")
        seen, cursor = [], ""
        while True:
            status, envelope = self.tg.admin("GET", "/tiers?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(status, 200, envelope)
            seen += [t["name"] for t in envelope["data"]]
            cursor = envelope["meta"].get("next_cursor")
            if not cursor:
                break
        self.assertEqual([n for n in seen if n.startswith("page-")], ["page-2", "page-1", "page-0"])
        self.assertEqual(len(seen), len(set(seen)))

    def test_an_org_has_a_tier_that_there_is(self):
        before = self.tg.row_counts()
        status, envelope = self.tg.admin("POST", "/orgs", {"slug": "nowhere", "name": "N", "tier": "no-such-tier"})
        self.assertEqual((status, envelope["error"]["code"]), (400, "tier_not_found"))
        status, envelope = self.tg.admin("PATCH", "/orgs/platform", {"tier": "no-such-tier"})
        self.assertEqual((status, envelope["error"]["code"]), (400, "tier_not_found"))
        self.assertEqual(self.tg.row_counts(), before)
        self.assertEqual(self.tg.must("POST", "/orgs", {"slug": "plain", "name": "P"})["tier"], "standard")

    def test_what_is_not_eligible_is_not_connected(self):
        self.put("no-byok", byok=False)
        self.put("no-private", private=False)
        org = self.org("no-byok")
        before = self.tg.row_counts()
        self.refused(self.connect(org, "p"), "tier_not_eligible")
        self.refused(self.connect(org, "p", validate=False), "tier_not_eligible")
        self.assertEqual(self.fake.stats()["models"], 0, "the endpoint was asked for nothing")
        self.assertEqual(self.tg.row_counts(), before)
        self.assertEqual(self.connect(org, "p", billing_source="private")[0], 201)
        self.assertEqual(self.fake.stats()["models"], 1)
        org = self.org("no-private")
        self.refused(self.connect(org, "p", billing_source="private"), "tier_not_eligible")
        self.assertEqual(self.connect(org, "p")[0], 201)

    def test_what_is_connected_and_not_eligible_any_more_is_passed_over(self):
        self.put("shrinking")
        org = self.org("shrinking")
        model = f"{org.slug}-model"
        self.assertEqual(self.connect(org, "p", validate=False)[0], 201)
        ask = lambda: self.tg.chat({"model": model, "messages": [{"role": "user", "content": "Hi"}]}, key=org.key)
        self.tg.settled()
        self.assertStatus(ask(), 200)
        self.put("shrinking", byok=False)
        self.tg.settled()
        self.fake.clear()
        answer = ask()
        self.assertStatus(answer, 503)
        self.assertIn("tier_not_eligible", answer.headers.get("x-tollgate-fallback", "") + str(answer.json))
        self.assertEqual(self.fake.calls(), [])
        explain = lambda: org.admin("POST", "/routes/explain", {"model": model})[1]["data"]["targets"][0]
        self.assertEqual((explain()["verdict"], explain()["reason"]), ("skip", "tier_not_eligible"))
        self.tg.must("PATCH", f"/orgs/{org.slug}", {"tier": "business"})
        self.tg.settled()
        self.assertStatus(ask(), 200)

    def test_profiles_are_counted(self):
        self.put("two", max_profiles=2)
        org = self.org("two")
        for name in ("a", "b"):
            self.assertEqual(self.connect(org, name, validate=False)[0], 201)
        before = self.tg.row_counts()
        self.refused(self.connect(org, "c", validate=False), "tier_limit")
        self.assertEqual(self.tg.row_counts(), before)
        self.assertEqual(org.admin("DELETE", "/profiles/a")[0], 200)
        # Two at once for the one place that is free.
        answers = []
        threads = [threading.Thread(target=lambda n=n: answers.append(self.connect(org, n, validate=False)[0])) for n in "cdef"]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(answers), [201, 403, 403, 403])

    def test_api_keys_are_counted_and_still_rotate(self):
        self.put("two-keys", max_api_keys=2)
        org = self.org("two-keys")  # has one
        make = lambda **more: org.admin("POST", "/api-keys", {"name": "k", **more})
        status, envelope = make()
        self.assertEqual(status, 201, envelope)
        second = envelope["data"]["id"]
        before = self.tg.row_counts()
        self.refused(make(), "tier_limit")
        self.assertEqual(self.tg.row_counts(), before)
        status, envelope = org.admin("POST", f"/api-keys/{second}/rotate", {"overlap_seconds": 600})
        self.assertEqual(status, 201, envelope)
        self.refused(make(), "tier_limit")
        self.put("two-keys", max_api_keys=0)
        status, envelope = org.admin("POST", f"/api-keys/{envelope['data']['id']}/rotate", {})
        self.assertEqual(status, 201, "a rotation makes no further key, however few are allowed")
        self.put("two-keys", max_api_keys=2)
        self.assertEqual(org.admin("DELETE", f"/api-keys/{envelope['data']['id']}")[0], 200)
        self.assertEqual(make()[0], 201)

    def test_platform_calls_do_not_ask_the_tier(self):
        self.put("nothing", byok=False, private=False, max_profiles=0)
        org = self.tg.setup_org("paying")
        self.tg.must("PATCH", "/orgs/paying", {"tier": "nothing"})
        self.assertStatus(self.tg.chat({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}, key=org.key), 200)


if __name__ == "__main__":
    import unittest
    unittest.main()
