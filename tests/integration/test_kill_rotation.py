"""V10: `tollgate vault rotate` and `rewrap` are killed in the middle under load, gone on with, and no call fails.

TG_ROUNDS rounds (make soak: many; here five)."""
import os
import random
import signal
import subprocess
import threading
import unittest

import harness
import test_rotation
from harness import SLOW, wait_until

ROUNDS = int(os.environ.get("TG_ROUNDS") or 5)


class Kill(unittest.TestCase):
    def cut_off(self, v, args, keys, after_s, begun=lambda: True):
        """Run it, KILL it a while after it has begun; True if that came before its end."""
        clean = {k: x for k, x in os.environ.items() if not k.startswith("TOLLGATE_")}
        process = subprocess.Popen([os.path.join(harness.BUILD, "tollgate"), "vault", *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=v.tg.dir,
                                   env={**clean, **v.tg.env, **v.settings(keys)})
        try:
            wait_until(begun, 10, "the command to begin")
            threading.Event().wait(after_s)
        finally:
            process.send_signal(signal.SIGKILL)
            ended = process.wait()
        return ended == -signal.SIGKILL

    def test_v10_killed_in_the_middle_and_gone_on_with(self):
        rotate = ("rotate", "--all", "--grace-seconds", str(2 * SLOW))
        with test_rotation.Vault(keys=3) as v:
            orgs = test_rotation.byok_orgs(v.tg, 2, profiles=120)
            rotating = "SELECT 1 FROM tollgate_vault.run WHERE kind = 'rotate_all' AND finished_at IS NULL"
            cut = halfway = 0
            with test_rotation.Load(v.tg, orgs, per_s=100) as load:
                for n in range(ROUNDS):
                    keys = v.order((n + 1) % 3)
                    after_s = random.choice((0, 0.02, 0.05, 0.1, 0.5, 1)) * random.random() * SLOW
                    self.assertTrue(self.cut_off(v, rotate, keys, after_s, lambda: v.tg.sql(rotating)))
                    self.assertEqual(v.tg.sql(rotating), [["1"]])
                    halfway += v.old_rows() > 0
                    v.must(*rotate, keys=keys)
                    self.assertEqual((v.old_rows(), v.tg.sql(rotating)), (0, []))
                    cut += self.cut_off(v, ("rewrap",), keys, random.uniform(0.005, 0.05) * SLOW)
                    v.must("rewrap", keys=keys)
                    self.assertEqual(len(v.tg.sql("SELECT DISTINCT kek_id FROM tollgate_vault.org_dek")), 1)
                    self.assertTrue(all(r["finished_at"] for r in v.must("status", keys=keys)["runs"]))
            self.assertEqual(load.bad, [])
            self.assertGreater(load.good, 50)
            print(f"{ROUNDS} rotations cut off, {halfway} with records on both sides, and {cut} rewraps; "
                  f"{load.good} calls, none failed", flush=True)
            check = v.must("status", "--check")["check"]
            self.assertEqual((check["secrets"], check["unreadable"]), (241, 0))
            # One active data key each, nothing pending.
            wait_until(lambda: [d[2] for d in v.deks()] == ["active"] * 3, 15, "old data keys gone")


if __name__ == "__main__":
    unittest.main()
