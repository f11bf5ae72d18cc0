"""How often one actor may update, test and read credentials in an hour: exact, without effect when refused, and sliding."""
import datetime
import re
import threading

import harness


class Limits(harness.Case):
    ENV = {"TOLLGATE_CREDENTIAL_UPDATES_PER_HOUR": None, "TOLLGATE_CREDENTIAL_TESTS_PER_HOUR": None,
           "TOLLGATE_CREDENTIAL_READS_PER_HOUR": None}  # as they are out of the box
    VERIFY = False
    KINDS = {"update": 10, "test": 20, "read": 50}

    def setUp(self):
        super().setUp()
        self.org = self.tg.setup_org(f"org-{self._testMethodName[-20:].replace('_', '-').lstrip('-')}", platform=False, credits=None)
        self.admin = self.new_admin("first")
        self.must(self.create("p"), 201)
        self.tg.sql("DELETE FROM tollgate.credential_use")

    def new_admin(self, name):
        return self.tg.must("POST", f"/orgs/{self.org.slug}/api-keys", {"name": name, "role": "admin", "scopes": ["admin"]})["key"]

    def ask(self, method, path, body=None, token=None):
        headers = {"Authorization": f"Bearer {token or self.admin}"}
        return harness.request(self.tg.admin_host, self.tg.admin_port, method, f"/admin/v1/orgs/{self.org.slug}/profiles{path}", body, headers)

    def create(self, name, token=None, **more):
        return self.ask("POST", "", {"name": name, "provider": "openai_compatible", "base_url": self.fake.base_url,
                                     "secret": "fake-org-key", "validate": False, **more}, token)

    def must(self, answer, status=200):
        self.assertEqual(answer.status, status, answer)
        return answer.json["data"]

    def do(self, kind, token=None):
        if kind == "update":
            return self.ask("POST", "/p/rotate", {"secret": "fake-next-key"}, token)
        if kind == "test":
            return self.ask("POST", "/p/test", {"action": "test_auth"}, token)
        return self.ask("GET", "/p", None, token)

    def use_up(self, kind, token=None):
        for _ in range(self.KINDS[kind]):
            self.must(self.do(kind, token))

    def refused(self, answer, kind, within=3600):
        self.assertEqual(answer.status, 429, answer)
        error, wait = answer.json["error"], int(answer.headers["retry-after"])
        self.assertEqual(error["code"], "credential_rate_limited")
        self.assertIn(f"{self.KINDS[kind]} credential {kind}s an hour", error["message"])
        told = re.fullmatch(r"in (\d+) s, at (\S+Z)", error["hint"])
        self.assertEqual(int(told[1]), wait)
        at = datetime.datetime.fromisoformat(told[2].replace("Z", "+00:00"))
        left = (at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        self.assertTrue(-2 < left - wait < 2, (left, wait))
        self.assertTrue(within - 60 < wait <= within, (wait, within))

    def test_ten_updates_twenty_tests_fifty_reads(self):
        for kind in self.KINDS:
            with self.subTest(kind=kind):
                self.use_up(kind)
                before, asked = self.tg.row_counts(), self.fake.stats()["models"]
                stands = self.tg.sql("SELECT row_version, fingerprint, updated_at FROM tollgate.secret ORDER BY id")
                self.refused(self.do(kind), kind)
                self.assertEqual(self.tg.row_counts(), before)  # nothing was done, not even written down
                self.assertEqual(self.tg.sql("SELECT row_version, fingerprint, updated_at FROM tollgate.secret ORDER BY id"), stands)
                self.assertEqual(self.fake.stats()["models"], asked)

    def test_all_that_touches_a_secret_is_one_kind_of_update(self):
        for i in range(4):
            self.must(self.create(f"more-{i}"), 201)
        for _ in range(3):
            self.must(self.ask("PATCH", "/p", {"base_url": self.fake.base_url}))
        self.assertEqual(self.create("wrong", secret="bad", validate=True).status, 422)  # a key was tried: that counts
        self.assertEqual(self.create("p").status, 409)
        self.must(self.do("update"))
        before = self.tg.row_counts()
        for answer in (self.do("update"), self.create("again"), self.ask("PATCH", "/p", {"base_url": "https://example.com"}),
                       self.create("wrong", secret="bad", validate=True)):
            self.refused(answer, "update")
        self.assertEqual(self.tg.row_counts(), before)
        # what only needs to be right, and what must always be possible
        self.assertEqual(self.ask("GET", "?limit=200").status, 200)
        self.must(self.ask("PATCH", "/p", {"priority": 3}))
        self.must(self.ask("PUT", "/p/default"))
        self.must(self.ask("DELETE", "/p"))

    def test_what_was_malformed_or_not_there_is_not_counted(self):
        for _ in range(12):
            self.assertEqual(self.create("x", provider="nobody").status, 400)
            self.assertEqual(self.create("x", secret="with space").status, 400)
            self.assertEqual(self.ask("POST", "/nobody/rotate", {"secret": "fake-next-key"}).status, 404)
            self.assertEqual(self.ask("GET", "/nobody").status, 404)
        self.assertEqual(self.tg.sql("SELECT coalesce(sum(cardinality(taken)), 0) FROM tollgate.credential_use"), [["0"]])

    def test_each_actor_of_each_org_has_its_own(self):
        self.use_up("update")
        self.refused(self.do("update"), "update")
        self.must(self.do("update", self.new_admin("second")))
        self.must(self.do("update", harness.ADMIN_TOKEN))
        other = self.tg.setup_org(self.org.slug + "-b", platform=False, credits=None)
        for org, status in ((self.org, 429), (other, 201)):
            for i in range(9):
                self.tg.admin("POST", f"/orgs/{self.org.slug}/profiles/p/rotate", {"secret": "fake-next-key"})
            self.assertEqual(self.tg.admin("POST", f"/orgs/{org.slug}/profiles", {"name": f"op-{org.slug}", "provider": "openai_compatible",
                             "base_url": self.fake.base_url, "validate": False})[0], status)
        owners = self.tg.sql("SELECT count(DISTINCT org_id), count(*) FROM tollgate.credential_use WHERE actor = 'operator' AND kind = 'update'")
        self.assertEqual(owners, [["2", "2"]])

    def test_the_window_slides(self):
        """One after the other leaves the hour, and each that leaves makes room for one."""
        for i in range(10):
            self.must(self.do("update"))
            self.tg.sql(f"""UPDATE tollgate.credential_use SET taken[{i + 1}] = now() - make_interval(secs => 3600 - 300 * ({i} + 1))
                WHERE kind = 'update'""")
        self.refused(self.do("update"), "update", within=300)
        back = lambda s: self.tg.sql(f"""UPDATE tollgate.credential_use SET taken =
            ARRAY(SELECT t - interval '{s} seconds' FROM unnest(taken) t ORDER BY t) WHERE kind = 'update'""")
        back(301)
        self.must(self.do("update"))
        self.refused(self.do("update"), "update", within=300)
        back(600)
        self.must(self.do("update"))
        self.must(self.do("update"))
        self.refused(self.do("update"), "update", within=300)
        back(3600)
        self.use_up("update")
        self.refused(self.do("update"), "update")
        self.assertEqual(self.tg.sql("SELECT cardinality(taken) FROM tollgate.credential_use WHERE kind = 'update'"), [["10"]])

    def test_exact_under_contention_and_over_processes(self):
        """Two processes on one database, twenty-five at once on each: ten get through."""
        second = harness.Tollgate(env={k: None for k in self.ENV}, fake=self.fake, start=False, migrate=False)
        self.addCleanup(second.close)
        for name in ("TOLLGATE_DATABASE_URL", "TOLLGATE_MASTER_KEY_FILE"):
            second.env[name] = self.tg.env[name]
        second.start()
        statuses, ready = [], threading.Barrier(50)

        def one(tg):
            ready.wait()
            statuses.append(harness.request(tg.admin_host, tg.admin_port, "PATCH", f"/admin/v1/orgs/{self.org.slug}/profiles/p",
                                            {"base_url": self.fake.base_url}, {"Authorization": f"Bearer {self.admin}"}).status)

        threads = [threading.Thread(target=one, args=((self.tg, second)[i % 2],)) for i in range(50)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual((statuses.count(200), statuses.count(429)), (10, 40), statuses)

    def test_a_limit_that_is_raised_or_lowered(self):
        self.use_up("update")
        second = harness.Tollgate(env={"TOLLGATE_CREDENTIAL_UPDATES_PER_HOUR": "12"}, fake=self.fake, start=False, migrate=False)
        self.addCleanup(second.close)
        for name in ("TOLLGATE_DATABASE_URL", "TOLLGATE_MASTER_KEY_FILE"):
            second.env[name] = self.tg.env[name]
        second.start()
        rotate = lambda tg: tg.admin("POST", f"/orgs/{self.org.slug}/profiles/p/rotate", {"secret": "fake-next-key"}, token=self.admin)
        self.assertEqual([rotate(second)[0] for _ in range(3)], [200, 200, 429])
        status, envelope = rotate(self.tg)  # ten are allowed here: three have to leave
        self.assertEqual((status, envelope["error"]["code"]), (429, "credential_rate_limited"))
        for value in ("0", "10001", "many"):
            self.assertEqual(self.tg.cli("check-config", env={"TOLLGATE_CREDENTIAL_UPDATES_PER_HOUR": value}).returncode, 2)


if __name__ == "__main__":
    import unittest
    unittest.main()
