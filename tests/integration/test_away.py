"""Postgres goes away while several workers serve: what one of them has learned keeps serving on all of them."""
import http.client
import json
import threading
import unittest

import harness
from harness import SLOW, Tollgate, wait_until

WORKERS = 3
CALLS = 20  # on connections of their own: one worker getting them all is a chance of 3 in 3 ** 20


def body(model, words="Hi"):
    return {"model": model, "messages": [{"role": "user", "content": words}]}


def call_over_one_connection(tg, calls):
    """Each (key, model) in turn, on one connection: only one worker gets to know them."""
    connection = http.client.HTTPConnection(tg.data_host, tg.data_port, timeout=30 * SLOW)
    try:
        for key, model in calls:
            connection.request("POST", "/v1/chat/completions", json.dumps(body(model)),
                               {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, (model, answer.status, said)
    finally:
        connection.close()


class Away(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = harness.Postgres()
        cls.addClassCleanup(cls.cluster.close)

    def all_serve(self, tg, pairs):
        """CALLS calls of each (key, model), all at once: every one is answered now, with Postgres away."""
        answers = []
        threads = [threading.Thread(target=lambda key=key, model=model: answers.append(tg.chat(body(model), key=key, timeout=60)))
                   for key, model in pairs for _ in range(CALLS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([a for a in answers if a.status != 200], [])
        self.assertEqual(len(answers), len(threads))

    def refused_everywhere(self, tg, key):
        """No worker and no cache serves the key any more, within the bound of a revocation."""
        tg.settled(2)
        self.assertEqual({tg.chat(body("own-model"), key=key, timeout=60).status for _ in range(CALLS)} - {401, 503}, set())

    def test_what_one_worker_knows_serves_on_all(self):
        with Tollgate(postgres=self.cluster, env={"TOLLGATE_WORKERS": WORKERS}) as tg:
            org = tg.setup_org("acme")
            tg.setup_profile(org, "own", models=["own-model"])
            tg.setup_profile(org, "inside", billing_source="private", models=["inside-model"])
            other = org.admin("POST", "/api-keys", {"name": "other", "role": "developer", "scopes": ["inference"]})[1]["data"]
            gone = org.admin("POST", "/api-keys", {"name": "gone", "role": "developer", "scopes": ["inference"]})[1]["data"]
            self.assertEqual(org.admin("DELETE", f"/api-keys/{gone['id']}")[0], 200)
            tg.wait_for_model(org, "own-model")
            call_over_one_connection(tg, [(org.key, "own-model"), (org.key, "inside-model"), (org.key, harness.MODEL),
                                          (other["key"], "own-model")])
            self.assertEqual(tg.chat(body("own-model"), key=gone["key"]).status, 401)
            self.cluster.stop()
            try:
                self.all_serve(tg, [(org.key, "own-model"), (org.key, "inside-model"), (other["key"], "own-model")])
                for _ in range(4):
                    refused = tg.chat(body(harness.MODEL), key=org.key, timeout=60)
                    self.assertEqual(refused.status, 503, refused)
                    self.assertEqual(refused.json["error"]["code"], "billing_unavailable")
                    self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
                for _ in range(6):  # revoked is as well known as valid
                    self.assertEqual(tg.chat(body("own-model"), key=gone["key"], timeout=60).status, 401)
            finally:
                if self.cluster.process is None:
                    self.cluster.start()
            wait_until(lambda: org.admin("GET", "")[0] == 200, 20, "the admin API")
            self.assertEqual(org.admin("DELETE", f"/api-keys/{other['id']}")[0], 200)
            self.refused_everywhere(tg, other["key"])
            wait_until(tg.ready, 40, "readiness")
            wait_until(lambda: tg.chat(body("own-model"), key=org.key).status == 200, 20, "the other key")
            # What was answered with Postgres away is booked once it is back, beside the three calls before.
            counted = "SELECT count(*) FROM tollgate.usage_charge WHERE billing_source <> 'platform'"
            wait_until(lambda: int(tg.sql(counted)[0][0]) >= 3 * CALLS + 3, 20, "the late usage rows")
            self.assertIn("ledger verify: ok", tg.verify())

    def test_a_key_revoked_just_before_is_served_by_nobody(self):
        with Tollgate(postgres=self.cluster, env={"TOLLGATE_WORKERS": WORKERS}) as tg:
            org = tg.setup_org("acme")
            tg.setup_profile(org, "own", models=["own-model"])
            tg.wait_for_model(org, "own-model")
            for _ in range(3):
                self.assertEqual(tg.chat(body("own-model"), key=org.key).status, 200)
            self.assertEqual(org.admin("DELETE", f"/api-keys/{org.key_id}")[0], 200)
            self.refused_everywhere(tg, org.key)
            self.cluster.stop()
            try:
                for _ in range(4):
                    self.assertIn(tg.chat(body("own-model"), key=org.key, timeout=60).status, (401, 503))
            finally:
                self.cluster.start()
            wait_until(tg.ready, 40, "readiness")

    def test_it_serves_no_longer_than_it_may(self):
        with Tollgate(postgres=self.cluster, env={"TOLLGATE_WORKERS": WORKERS, "TOLLGATE_STALE_SECONDS": "6"}) as tg:
            org = tg.setup_org("acme")
            tg.setup_profile(org, "own", models=["own-model"])
            tg.wait_for_model(org, "own-model")
            call_over_one_connection(tg, [(org.key, "own-model")])
            self.cluster.stop()
            try:
                self.all_serve(tg, [(org.key, "own-model")])
                refused = lambda: tg.chat(body("own-model"), key=org.key, timeout=60).status == 503
                # each worker has its own clock for what it read last
                wait_until(lambda: all(refused() for _ in range(4)), 30, "the end of every worker's patience")
                answer = tg.chat(body("own-model"), key=org.key, timeout=60)
                self.assertEqual(answer.status, 503, answer)
                self.assertTrue(answer.headers["retry-after"])
            finally:
                if self.cluster.process is None:
                    self.cluster.start()
            wait_until(lambda: tg.chat(body("own-model"), key=org.key).status == 200, 40, "service once Postgres is back")


if __name__ == "__main__":
    unittest.main()
