"""What is in force counts for the next call: the number on /metrics."""
import unittest

import harness


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
