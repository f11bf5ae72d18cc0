"""KILL in the middle of 200 concurrent calls: what a client saw finished is in the ledger, and the ledger is clean.

TG_ROUNDS rounds (make soak: many; here one), each on the same database."""
import os
import threading
import unittest

import harness
from harness import MODEL, SLOW, wait_until

CALLS = 200
ROUNDS = int(os.environ.get("TG_ROUNDS") or 1)


class Kill(harness.Case):
    VERIFY = False  # each round does

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits="1000.00")
        cls.tg.setup_profile(cls.org, "team", models=["team-model"])

    def one(self, i, finished, broken):
        """A third each: plain, streamed, the org's own key."""
        model = "team-model" if i % 3 == 2 else MODEL
        body = {"model": model, "max_tokens": 64,
                "messages": [{"role": "user", "content": f"Call {i} [[chunks=8 chunk_ms={10 + i % 17}]] [[delay_ms={i % 23 * 7}]]"}]}
        try:
            answer = self.tg.chat(body, stream=i % 3 == 1, key=self.org.key)
        except OSError:
            broken.append(i)
            return
        whole = answer.status == 200 and not answer.broken
        if i % 3 == 1:
            whole = whole and answer.done and not any("error" in e for e in answer.events)
        (finished if whole else broken).append(answer.headers["x-request-id"] if whole else i)

    def round(self, after_s):
        finished, broken = [], []
        threads = [threading.Thread(target=self.one, args=(i, finished, broken)) for i in range(CALLS)]
        for t in threads:
            t.start()
        # Killed once some calls have ended and most are still under way.
        wait_until(lambda: len(finished) >= 5, 20, "the first finished calls")
        threading.Event().wait(after_s)
        self.tg.kill()
        for t in threads:
            t.join()
        self.assertGreater(len(broken), 0, "nothing was under way when it was killed")
        self.tg.start()
        self.assertIn("ledger verify: ok", self.tg.verify())
        booked = {row[0] for row in self.tg.sql("SELECT 'req_' || call_id FROM tollgate.usage_charge")}
        missing = [c for c in finished if c not in booked]
        self.assertEqual(missing, [], "finished at the client, missing in the ledger")
        past = self.tg.sql("SELECT count(*) FROM tollgate.lease WHERE consumed + returned < granted "
                           "AND state NOT IN ('returned', 'reclaimed') AND hard_at < now() - interval '30 seconds'")
        self.assertEqual(past, [["0"]], "open holds older than their expiry")
        return len(finished), len(broken)

    def test_kill_under_load_loses_nothing_a_client_saw(self):
        for n in range(ROUNDS):
            done, cut = self.round(0.01 * (n % 30) * SLOW)
            print(f"round {n + 1}: {done} finished, {cut} cut", flush=True)
        # and it goes on serving
        self.assertStatus(self.tg.chat("Hello", key=self.org.key), 200)


if __name__ == "__main__":
    unittest.main()
