"""What README.md tells a newcomer to type, typed: its blocks as they stand, and `make run ONCE=1`."""
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from decimal import Decimal

import harness
from harness import BUILD, ROOT, SLOW

sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))
import matrix  # noqa: E402

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
    README = readme.read()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
KEY_FILE = "sk-fake-key-for-the-readme\n"  # not a secret: made up for these tests


def block(language, word):
    """The one block of README.md in that language that holds the word."""
    found = [text for lang, text in BLOCKS if lang == language and word in text]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} {language} blocks of README.md hold {word!r}")
    return found[0]


class Examples(harness.Case):
    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.setup_model("demo-large")
        cls.tg.wait_for_model(cls.org, "demo-large")
        cls.dir = tempfile.mkdtemp(prefix="tollgate-readme-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        with open(os.path.join(cls.dir, "key.txt"), "w") as f:
            f.write(KEY_FILE)
        os.chmod(os.path.join(cls.dir, "key.txt"), 0o600)

    def run_in_dir(self, command, **more):
        """With the settings README.md names and nothing else of tollgate's; its standard output."""
        env = {**harness._clean_env(), "BASE": f"http://{self.tg.data_host}:{self.tg.data_port}/v1",
               "KEY": self.org.key, "PATH": BUILD + os.pathsep + os.environ["PATH"], **more}
        done = subprocess.run(command, cwd=self.dir, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60 * SLOW)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIsNone(harness.REPORT.search(done.stderr), done.stderr)
        return done.stdout

    def operate(self, text):
        return self.run_in_dir(["bash", "-euc", text], ENDPOINT=self.fake.base_url,
                               TOLLGATE_ADMIN_LISTEN=f"{self.tg.admin_host}:{self.tg.admin_port}",
                               TOLLGATE_ADMIN_TOKEN=harness.ADMIN_TOKEN,
                               TOLLGATE_DATABASE_URL=self.tg.env["TOLLGATE_DATABASE_URL"],
                               TOLLGATE_MASTER_KEY_FILE=self.tg.env["TOLLGATE_MASTER_KEY_FILE"])

    def test_every_block_is_here(self):
        known = [block("sh", word) for word in ("make run", "curl", "profile create", "apply", "credit grant", "vault rotate")]
        known += [block("js", "openai"), block("yaml", "schema_version")]
        self.assertEqual([text for lang, text in BLOCKS if lang and text not in known], [])

    def test_the_make_lines_name_targets(self):
        with open(os.path.join(ROOT, "Makefile")) as f:
            targets = set(" ".join(re.findall(r"^([a-z][a-z ]*):", f.read(), re.M)).split())
        named = set(re.findall(r"\bmake ([a-z]+)\b", README))
        self.assertLessEqual({"run", "test"}, named)
        self.assertLessEqual(named, targets)

    def test_the_curl_example(self):
        self.fake.clear()
        chat, response, message, gemini = map(json.loads, self.run_in_dir(["bash", "-euc", block("sh", "curl")]).splitlines())
        said = {chat["choices"][0]["message"]["content"], response["output"][0]["content"][0]["text"], message["content"][0]["text"],
                gemini["candidates"][0]["content"]["parts"][0]["text"]}
        self.assertEqual(said, {"echo Name a harbour."})
        self.assertEqual([c["model"] for c in self.fake.calls()], ["demo-large"] * 4)

    def test_the_library_example(self):
        installed = matrix.install()
        link = os.path.join(self.dir, "node_modules")
        if not os.path.islink(link):
            os.symlink(os.path.join(installed, "node_modules"), link)
        with open(os.path.join(self.dir, "example.mjs"), "w") as f:
            f.write(block("js", "openai"))
        self.assertTrue(self.run_in_dir(["node", "example.mjs"]).strip())
        self.assertEqual(self.fake.calls()[-1]["model"], "demo-large")

    def test_the_headers_it_names(self):
        answer = self.tg.chat({"model": "demo-large", "messages": [{"role": "user", "content": "Hello"}]}, key=self.org.key)
        self.assertStatus(answer, 200)
        for name in re.findall(r"`(x-tollgate-[a-z-]+)`", README):
            if name not in ("x-tollgate-fallback", "x-tollgate-dropped"):  # of an answer that fell back, or lost something
                self.assertIn(name, answer.headers)
        record = self.tg.get("/v1/generations/" + answer.headers["x-request-id"], key=self.org.key)
        self.assertStatus(record, 200)

    def test_what_an_org_admin_types(self):
        """From nothing to a tested connection; the file then changes what it says otherwise, and nothing the second time."""
        began = time.monotonic()
        out = self.operate(block("sh", "profile create"))
        print(f"\norg admin: nothing to a tested BYOK connection in {time.monotonic() - began:.1f} s of commands")
        self.assertNotIn(KEY_FILE.strip(), out)
        made = self.tg.must("GET", "/orgs/harbour/profiles")
        self.assertEqual([(p["name"], p["provider"], p["health"]["status"], p["billing_source"]) for p in made],
                         [("main", "openai", "ok", "byok")])
        self.assertRegex(out, r"(?s)tg_\w{8}_\w{38}.*main.*openai.*gpt-5-mini.*\buse\b")
        key = re.search(r"tg_\w{8}_\w{38}", out).group(0)
        self.tg.settled()
        self.assertStatus(self.tg.chat({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]}, key=key), 200)
        with open(os.path.join(self.dir, "harbour.yaml"), "w") as f:
            f.write(block("yaml", "schema_version").replace("https://api.openai.com/v1", self.fake.base_url))
        self.assertRegex(self.operate(block("sh", "apply")), r"tg_\w{8}_\w{38}")
        version = self.tg.sql("SELECT version FROM tollgate.org WHERE slug = 'harbour'")
        self.assertNotRegex(self.operate("tollgate apply harbour.yaml"), r"tg_\w{8}_\w{38}")
        self.assertEqual(self.tg.sql("SELECT version FROM tollgate.org WHERE slug = 'harbour'"), version)
        self.assertEqual([b["limit"] for b in self.tg.must("GET", "/orgs/harbour/budgets")], ["200.000000000"])

    def test_what_an_operator_types(self):
        self.tg.setup_profile(self.org, "sealed")
        out = self.operate(block("sh", "vault rotate"))
        self.assertIn("audit verify: ok", out)
        self.assertEqual(self.tg.sql("SELECT max(dek_ver) FROM tollgate_vault.org_dek d JOIN tollgate.org o USING (org_id) "
                                     "WHERE o.slug = 'acme' AND d.state = 'active'"), [["2"]])

    def test_what_finance_types(self):
        before = self.org.balance()
        out = self.operate(block("sh", "credit grant"))
        self.assertEqual(self.org.balance() - before, Decimal("10"))
        self.assertIn("invoice 1042", json.dumps(self.org.admin("GET", "/credits")[1]))
        self.assertEqual(out.splitlines()[-1], "ledger verify: ok")


CALL = re.compile(
    r"call (?P<name>\w+): provider=(?P<provider>\S+) model=(?P<model>\S+) billing=(?P<billing>byok|private|platform) "
    r"in=(?P<in>\d+) out=(?P<out>\d+) charged=(?P<charged>\d+\.\d+) attempts=(?P<attempts>\d+) fallback=(?P<fallback>\S+) "
    r"ms=(?P<ms>\d+(?:\.\d+)?)")


class MakeRun(unittest.TestCase):
    """ops/run with ONCE=1: what `make run ONCE=1` starts once everything is built."""

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="tollgate-readme-run-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        os.chmod(cls.dir, 0o755)  # its Postgres is another user's when root runs it
        cls.mark = secrets.token_hex(8)
        cls.done = subprocess.run(
            [os.path.join(ROOT, "ops", "run")], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180 * SLOW,
            env={**harness._clean_env(), "ONCE": "1", "BUILD": BUILD, "TMPDIR": cls.dir, "MARK": cls.mark})
        cls.lines = cls.done.stdout.splitlines()
        cls.calls = {}
        for line in cls.lines:
            match = CALL.fullmatch(line)
            if match:
                cls.calls[match["name"]] = match

    def test_it_ends_well(self):
        self.assertEqual(self.done.returncode, 0, self.done.stdout + self.done.stderr)
        self.assertIsNone(harness.REPORT.search(self.done.stdout + self.done.stderr))

    def test_it_prints_five_calls_the_balance_and_the_verdict(self):
        self.assertEqual([line.split()[0] for line in self.lines if line], ["call"] * 5 + ["balance:", "ledger"], self.done)
        self.assertEqual(list(self.calls), ["plain", "stream", "byok", "private", "fallback"], self.done.stdout)
        for call in self.calls.values():
            self.assertGreater(int(call["in"]), 0, call[0])
            self.assertGreater(int(call["out"]), 0, call[0])
        self.assertEqual(self.lines[-1], "ledger verify: ok")

    def test_only_platform_calls_are_charged(self):
        billing = {name: call["billing"] for name, call in self.calls.items()}
        self.assertEqual(billing, {"plain": "platform", "stream": "platform", "byok": "byok", "private": "private",
                                   "fallback": "platform"})
        for call in self.calls.values():
            self.assertEqual(Decimal(call["charged"]) > 0, call["billing"] == "platform", call[0])

    def test_one_fell_back_after_a_429(self):
        for name, call in self.calls.items():
            if name == "fallback":
                self.assertEqual(call["attempts"], "2", call[0])
                self.assertRegex(call["fallback"], r"(^|,)[^=,]+=rate_limit(,|$)")
            else:
                self.assertEqual((call["attempts"], call["fallback"]), ("1", "-"), call[0])

    def test_the_balance_fell_by_what_was_charged(self):
        balance = re.fullmatch(r"balance: before=(\d+\.\d+) after=(\d+\.\d+)", self.lines[-2] if len(self.lines) > 1 else "")
        self.assertTrue(balance, self.done.stdout)
        charged = sum(Decimal(call["charged"]) for call in self.calls.values())
        self.assertEqual(Decimal(balance[1]) - Decimal(balance[2]), charged, self.done.stdout)

    def test_it_leaves_nothing_behind(self):
        self.assertEqual(os.listdir(self.dir), [])
        self.assertEqual(self.left_running(), [])

    def left_running(self):
        """Processes with our mark in their environment, or our folder in their arguments or as their place."""
        left = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            traces = b""
            for name in ("environ", "cmdline"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as f:
                        traces += f.read()
                except OSError:
                    pass
            try:
                traces += os.readlink(f"/proc/{pid}/cwd").encode()
            except OSError:
                pass
            if self.mark.encode() in traces or self.dir.encode() in traces:
                left.append(traces[-200:])
        return left


if __name__ == "__main__":
    unittest.main()
