"""Starting, waiting, refusing to start, draining: the process as an operator sees it."""
import json
import os
import signal
import subprocess
import threading
import unittest

import harness
from harness import MODEL, SLOW, Tollgate, request, wait_until


class Settings(harness.Case):
    def test_check_config_prints_the_effective_one_masked(self):
        done = self.tg.cli("check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("drain_seconds", done.stdout)
        self.assertNotIn(harness.ADMIN_TOKEN, done.stdout)
        parsed = json.loads(self.tg.cli("check-config", "--json").stdout)
        self.assertIsNone(parsed["error"])

    def test_a_wrong_setting_stops_the_start_with_one_sentence_that_names_it(self):
        for name, value in (("TOLLGATE_WORKERS", "many"), ("TOLLGATE_LOG_LEVEL", "loud"), ("TOLLGATE_EGRESS_ALLOW", "10.0.0.0/33"),
                            ("TOLLGATE_DRAIN_SECONDS", "-1"), ("TOLLGATE_SURPRISE", "1"), ("TOLLGATE_TLS_CERT_FILE", "/nowhere.pem")):
            with self.subTest(name=name):
                done = self.tg.cli("serve", env={name: value, "TOLLGATE_LISTEN": "127.0.0.1:0", "TOLLGATE_ADMIN_LISTEN": "127.0.0.1:0"})
                self.assertEqual(done.returncode, 2, done)
                said = [line for line in done.stderr.splitlines() if line.strip()]
                self.assertEqual(len(said), 1, done.stderr)
                self.assertIn(name[len("TOLLGATE_"):].lower(), said[0].lower())

    def test_a_missing_or_open_master_key_stops_the_start(self):
        path = os.path.join(self.tg.dir, "open.key")
        with open(path, "w") as f:
            f.write(open(self.tg.env["TOLLGATE_MASTER_KEY_FILE"]).read())
        os.chmod(path, 0o644)
        for value in (path, "/nowhere"):
            done = self.tg.cli("serve", env={"TOLLGATE_MASTER_KEY_FILE": value})
            self.assertEqual(done.returncode, 2, done)
            self.assertIn("master_key", done.stderr.lower())

    def test_a_file_is_read_and_the_environment_wins(self):
        path = os.path.join(self.tg.dir, "tollgate.yaml")
        with open(path, "w") as f:
            f.write("drain_seconds: 7\nworkers: 3\n")
        values = self.tg.cli("check-config", "--config", path).stdout
        self.assertRegex(values, r"drain_seconds:\s*7\b")
        self.assertRegex(values, r"workers:\s*2\b")
        with open(path, "a") as f:
            f.write("surprise: 1\n")
        done = self.tg.cli("check-config", "--config", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn("surprise", done.stdout + done.stderr)

    def test_usage(self):
        self.assertEqual(self.tg.cli().returncode, 2)
        self.assertEqual(self.tg.cli("frobnicate").returncode, 2)
        helped = self.tg.cli("--help")
        self.assertEqual(helped.returncode, 0)
        for word in ("serve", "migrate", "ledger", "vault", "profile", "TOLLGATE_", "egress_allow"):
            self.assertIn(word, helped.stdout)

    def test_migrations_are_idempotent_and_checked(self):
        self.assertEqual(self.tg.cli("migrate", "up").returncode, 0)
        status = json.loads(self.tg.cli("migrate", "status", "--json").stdout)
        self.assertIsNone(status["error"])
        self.tg.setup_org("booked")
        self.assertEqual(self.tg.chat("Hello").status, 200)
        version = int(self.tg.sql("SELECT max(version) FROM tollgate.migration")[0][0])
        refused = self.tg.cli("migrate", "down", str(version))  # booked rows stand in 0003's tables
        self.assertEqual(refused.returncode, 1, refused)
        self.assertEqual(self.tg.sql("SELECT count(*) FROM tollgate.usage_charge"), [["1"]])
        self.tg.migrate()
        was = self.tg.sql("SELECT sha256 FROM tollgate.migration WHERE version = 2")[0][0]
        self.tg.sql("UPDATE tollgate.migration SET sha256 = repeat('0', 64) WHERE version = 2")
        changed = self.tg.cli("migrate", "up")
        self.tg.sql(f"UPDATE tollgate.migration SET sha256 = '{was}' WHERE version = 2")
        self.assertEqual(changed.returncode, 1, changed)
        self.assertIn("0002", changed.stdout + changed.stderr)

    def test_health_ready_metrics_root(self):
        for surface in ("data", "admin"):
            self.assertEqual(self.tg.get("/healthz", surface=surface).status, 200)
            self.assertTrue(self.tg.get("/readyz", surface=surface).json["ready"])
        metrics = self.tg.get("/metrics", surface="admin")
        self.assertEqual(metrics.status, 200)
        self.assertIn("tollgate_calls_total", metrics.body.decode())
        self.assertEqual(self.tg.get("/metrics").status, 404)
        self.assertEqual(request(self.tg.data_host, self.tg.data_port, "HEAD", "/").status, 200)


class PostgresAway(unittest.TestCase):
    def test_it_waits_for_postgres_and_says_so(self):
        with harness.Postgres() as cluster:
            with Tollgate(postgres=cluster, start=False) as tg:
                cluster.stop()
                tg.start(ready=False)
                away = tg.get("/readyz")
                self.assertEqual(away.status, 503)
                self.assertIn("postgres is not reachable: the log says why", away.json["reasons"])
                for told in (str(cluster.port), cluster.dir, "tollgate_login", tg.database):  # anyone may ask
                    self.assertNotIn(told, away.body.decode())
                wait_until(lambda: [line for line in tg.log_lines() if cluster.dir in line.get("why", "")], 5, "the log to say why")
                self.assertEqual(tg.get("/healthz").status, 200)
                done = tg.cli("ledger", "verify")
                self.assertEqual(done.returncode, 3, done)
                cluster.start()
                wait_until(tg.ready, 40, "readiness once Postgres is back")

    def test_calls_while_postgres_is_away_and_after(self):
        with harness.Postgres() as cluster:
            with Tollgate(postgres=cluster) as tg:
                org = tg.setup_org("acme")
                tg.setup_profile(org, "team", models=["team-model"])
                byok = {"model": "team-model", "messages": [{"role": "user", "content": "Hi [[delay_ms=1500]]"}]}
                self.assertEqual(tg.chat({**byok, "messages": [{"role": "user", "content": "Hi"}]}).status, 200)
                self.assertEqual(tg.chat("Hello").status, 200)
                before = org.balance()
                answers = []
                late = threading.Thread(target=lambda: answers.append(tg.chat("Hi [[delay_ms=1500]]", timeout=90)))
                late.start()
                wait_until(lambda: tg.sql("SELECT 1 FROM tollgate.lease WHERE consumed + returned < granted"), 10, "the hold")
                cluster.stop(signal.SIGQUIT)
                refused = tg.chat("Hello", timeout=60)
                self.assertEqual(refused.status, 503, refused)
                self.assertEqual(refused.json["error"]["code"], "billing_unavailable")
                self.assertTrue(refused.headers["retry-after"])
                cluster.start()
                late.join()
                # The late call's booking was tried again until it went through, and then its caller was answered.
                self.assertEqual(answers[0].status, 200, answers[0])
                wait_until(tg.ready, 40, "readiness")
                self.assertEqual(before - org.balance(), harness.Decimal(answers[0].headers["x-tollgate-cost"]))
                self.assertIn("ledger verify: ok", tg.verify())


class Drain(unittest.TestCase):
    def test_term_lets_a_stream_finish_and_exits_0(self):
        with Tollgate() as tg:
            org = tg.setup_org("acme")
            answers = []
            stream = threading.Thread(target=lambda: answers.append(
                tg.chat("Hi [[chunks=20 chunk_ms=50]]", stream=True)))
            stream.start()
            wait_until(lambda: tg.sql("SELECT 1 FROM tollgate.lease WHERE consumed + returned < granted"), 10, "the hold")
            tg.process.send_signal(signal.SIGTERM)
            wait_until(lambda: _refuses(tg), 10, "the closed listener")
            stream.join()
            self.assertEqual(tg.process.wait(30 * SLOW), 0)
            self.assertTrue(answers[0].done, answers[0])
            tg.process = None
            tg.start()
            self.assertEqual(10 - org.balance(), harness.Decimal(
                org.admin("GET", f"/usage/calls/{answers[0].headers['x-request-id']}")[1]["data"]["amount"]))

    def test_a_drain_that_takes_too_long_cuts_and_books(self):
        with Tollgate(env={"TOLLGATE_DRAIN_SECONDS": "1"}) as tg:
            tg.setup_org("acme")
            answers = []
            stream = threading.Thread(target=lambda: answers.append(
                tg.chat("Hi [[chunks=400 chunk_ms=50]]", stream=True)))
            stream.start()
            wait_until(lambda: tg.sql("SELECT 1 FROM tollgate.lease WHERE consumed + returned < granted"), 10, "the hold")
            tg.process.send_signal(signal.SIGTERM)
            stream.join()
            self.assertEqual(tg.process.wait(30 * SLOW), 0)
            self.assertFalse(answers[0].done)
            tg.process = None
            self.assertEqual(tg.sql("SELECT count(*) FROM tollgate.usage_charge"), [["1"]])
            self.assertIn("ledger verify: ok", tg.verify())


def _refuses(tg):
    try:
        request(tg.data_host, tg.data_port, "GET", "/healthz", timeout=2)
        return False
    except OSError:
        return True


class Tls(unittest.TestCase):
    def test_both_listeners_speak_tls_and_hup_reloads(self):
        import ssl
        import tempfile
        with tempfile.TemporaryDirectory() as d:
            cert, key = os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")

            def make(name):
                subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                                "-subj", f"/CN={name}"], check=True, capture_output=True)

            def common_name(port):
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                import socket
                with socket.create_connection(("127.0.0.1", port), timeout=10) as s, context.wrap_socket(s) as t:
                    t.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    self.assertIn(b"200", t.recv(100))
                    der = t.getpeercert(binary_form=True)
                return subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, check=True,
                                      capture_output=True).stdout.decode()

            make("first")
            tg = Tollgate(env={"TOLLGATE_TLS_CERT_FILE": cert, "TOLLGATE_TLS_KEY_FILE": key}, start=False)
            try:
                tg.start(ready=False)
                self.assertIn("first", common_name(tg.data_port))
                self.assertIn("first", common_name(tg.admin_port))
                make("second")
                tg.process.send_signal(signal.SIGHUP)
                wait_until(lambda: "second" in common_name(tg.data_port), 10, "the new certificate")
            finally:
                tg.close()


if __name__ == "__main__":
    unittest.main()
