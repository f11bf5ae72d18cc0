"""Every case of security.md's tables that this version answers for has a test that is called by its id.

V vault, A auth, S egress, G what other gateways got wrong. `test_v10_…`, `s31_s46_…` (two ids of S: from one to the other)."""
import glob
import os
import re
import unittest

import harness

LATER = {"G25"}  # a caller that left: read on for its usage, not cancelled upstream (F44)
NO_TEST = {"G28"}  # how packages are chosen: ops/bootstrap takes distribution packages alone


class Ids(unittest.TestCase):
    def test_every_id_has_its_test(self):
        found = {}
        for path in (glob.glob(os.path.join(harness.ROOT, "tests", "**", "*.py"), recursive=True) +
                     glob.glob(os.path.join(harness.ROOT, "tests", "**", "*.c"), recursive=True)):
            with open(path, errors="replace") as f:
                text = f.read()
            for name in re.findall(r"def (test_\w+)|START_TEST\((\w+)\)", text):
                ids = re.findall(r"(?<![a-z0-9])([vasg])(\d\d)(?![0-9a-z])", "".join(name).replace("_", " "))
                of_s = [int(number) for letter, number in ids if letter == "s"]
                if len(of_s) == 2:
                    ids += [("s", f"{number:02}") for number in range(of_s[0], of_s[1])]
                for letter, number in ids:
                    found.setdefault(letter.upper() + number, set()).add("".join(name))
        wanted = {f"{letter}{number:02}" for letter, last in (("V", 19), ("A", 17), ("S", 60), ("G", 30)) for number in range(1, last + 1)}
        self.assertEqual(sorted(wanted - set(found)), sorted(LATER | NO_TEST))


if __name__ == "__main__":
    unittest.main()
