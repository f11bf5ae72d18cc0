"""What is in force counts for the next call: the number on /metrics, and who asks while an older read is on its way."""
import subprocess
import threading
import unittest

import harness
from harness import wait_until


class Held:
    """A table that nobody can read until release(): what asks for it has taken its view of the database before."""

    def __init__(self, tg, table):
        self.tg = tg
        self.session = subprocess.Popen(["psql", "-XqAt", "-d", f"{tg.cluster} dbname={tg.database}"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=harness._clean_env())
        self.session.stdin.write(f"BEGIN; LOCK TABLE tollgate.{table}; SELECT 'held';\n")
        self.session.stdin.flush()
        assert self.session.stdout.readline() == "held\n"

    def waited_for(self, statement):
        wait_until(lambda: self.tg.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
                                       f"current_database() AND query LIKE '%{statement}%'"), 10, f"{statement} to wait")

    def release(self):
        if self.session.poll() is None:
            self.session.communicate("COMMIT;\n", timeout=30)


class Asked(threading.Thread):
    """A request on its way; answer() waits for it."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.got = ask, None
        self.start()

    def run(self):
        self.got = self.ask()

    def answer(self):
        self.join(60 * harness.SLOW)
        return self.got


def asked_behind(tg, ask):
    """Several at once, all connected: the first of them is being worked on by then."""
    asked = [Asked(ask) for _ in range(4)]
    wait_until(lambda: tg.metric("tollgate_http_connections_open") >= 2 + len(asked), 10, "the requests behind the change")
    return asked


class BehindAChange(harness.Case):
    """One worker, and its read of the database held up: it has the state before the change, and comes after it."""
    ENV = {"TOLLGATE_WORKERS": "1", "TOLLGATE_PG_DEADLINE_MS": "30000"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_profile(cls.org, "own", models=["old-model", "new-model"])

    def held(self, table):
        held = Held(self.tg, table)
        self.addCleanup(held.release)
        return held

    def route(self, model):
        self.tg.must("PUT", "/orgs/acme/routes/r", {"match": {"alias": "r"}, "targets": [{"profile": "own", "model": model}]})

    def call(self, model="r", key=None):
        said = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        return self.tg.chat(said, key=key or self.org.key, timeout=60)

    def test_a_call_does_not_wait_for_an_older_picture(self):
        self.route("old-model")
        self.tg.restart()  # nothing is read yet
        self.assertStatus(self.tg.get("/v1/credits", key=self.org.key), 200)  # but for the key
        held = self.held("tier")
        before = Asked(self.call)
        held.waited_for("routing_snapshot")
        self.route("new-model")
        self.tg.settled()
        behind = asked_behind(self.tg, self.call)
        held.release()
        self.assertStatus(before.answer(), 200)
        for call in behind:
            self.assertStatus(call.answer(), 200)
            self.assertEqual(call.answer().headers["x-tollgate-model"], "new-model")

    def test_every_picture_that_a_call_needs_is_as_new(self):
        """The org's is read again, the platform's (the tiers) is on its way since before the change."""
        self.tg.must("PUT", "/tiers/narrow", {"byok": True})
        org = self.tg.setup_org("narrow", platform=False)
        self.tg.must("PATCH", "/orgs/narrow", {"tier": "narrow"})
        self.tg.setup_profile(org, "own", models=["narrow-model"])
        self.tg.restart()
        for key in (org.key, self.org.key):
            self.assertStatus(self.tg.get("/v1/credits", key=key), 200)
        held = self.held("agent")  # all pictures wait; the tiers are written meanwhile
        before = Asked(lambda: self.call("old-model"))
        held.waited_for("routing_snapshot")
        self.tg.must("PUT", "/tiers/narrow", {"byok": False})
        self.tg.settled()
        behind = asked_behind(self.tg, lambda: self.call("narrow-model", org.key))
        held.release()
        self.assertStatus(before.answer(), 200)
        for call in behind:
            self.assertStatus(call.answer(), 503)
            self.assertIn("tier_not_eligible", call.answer().body.decode())

    def test_a_key_is_judged_by_what_it_is_now(self):
        key = self.tg.must("POST", "/orgs/acme/api-keys", {"name": "k", "allow_from": ["10.0.0.0/8"]})
        self.tg.settled()
        held = self.held("key_lookup")
        ask = lambda: self.tg.get("/v1/models", key=key["key"])
        before = Asked(ask)
        held.waited_for("auth_lookup")
        self.tg.must("PATCH", f"/orgs/acme/api-keys/{key['id']}", {"allow_from": ["127.0.0.1"]})
        self.tg.settled()
        behind = asked_behind(self.tg, ask)
        held.release()
        self.assertIn(before.answer().status, (200, 403))
        for request in behind:
            self.assertStatus(request.answer(), 200)


class Number(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme", credits="100.00")

    def seq(self, state):
        return self.tg.metric(f'tollgate_change_seq{{state="{state}"}}')

    def head(self):
        return int(self.tg.sql("SELECT seq FROM tollgate.change_counter")[0][0])

    def test_it_is_that_of_the_newest_change(self):
        for name in ("a", "b"):
            self.tg.setup_profile(self.org, name, models=["m"])
            self.tg.settled()
            self.assertEqual((self.seq("read"), self.seq("in_force")), (self.head(), self.head()))
        self.tg.restart()  # read from nothing: what stands is in force
        self.tg.settled()
        self.assertEqual((self.seq("read"), self.seq("in_force")), (self.head(), self.head()))

    def test_a_price_is_in_force_when_the_number_says_so(self):
        """The price book is read in one thread, for all, and a moment later."""
        said = {"model": harness.MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        for dollars in range(1, 9):
            lines = [{**line, "price": f"{dollars}.00"} for line in harness.PRICE_LINES]
            self.tg.must("PUT", f"/prices/openai_compatible/{harness.MODEL}", {"book": "sell", "effective_from": None, "lines": lines})
            self.tg.settled()
            answer = self.tg.chat(said, key=self.org.key)
            self.assertStatus(answer, 200)
            tokens = answer.usage["prompt_tokens"] + answer.usage["completion_tokens"]
            self.assertEqual(harness.Decimal(answer.headers["x-tollgate-cost"]), harness.Decimal(dollars) * tokens / 1000000)

    def test_who_missed_a_word_of_it_reads_it_all_the_same(self):
        """The connection that listens is gone: the poll of the table does it."""
        self.tg.setup_profile(self.org, "polled", models=["polled-model"])
        for _ in range(4):
            self.tg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate listener' "
                        "AND datname = current_database()")
            self.tg.must("PATCH", "/orgs/acme/profiles/polled", {"priority": 7})
            self.tg.settled()
            self.assertEqual(self.seq("in_force"), self.head())


if __name__ == "__main__":
    unittest.main()
