"""The known answers of vault/aead.c are those of a second implementation (kat.py), which knows the published ones.

tests/unit/vault/test_aead.c holds the service's own functions against the same files."""
import json
import os
import unittest

import kat


class KnownAnswers(unittest.TestCase):
    maxDiff = None

    def stored(self, name):
        with open(os.path.join(kat.FIXTURES, name)) as f:
            return json.load(f)

    def test_v01_v02_the_files_are_what_the_second_implementation_makes(self):
        made = kat.files()
        self.assertEqual(sorted(made), ["kat-aes-256-gcm.json", "kat-hkdf-sha256.json", "kat-hmac-sha256.json"])
        for name, document in made.items():
            self.assertEqual(self.stored(name), document, name)
            self.assertGreater(document["numberOfTests"], 10)

    def test_v01_every_verdict_is_the_second_implementation_s(self):
        for comment, key, iv, aad, msg, ct, tag, valid in kat.gcm_cases():
            opened = kat.open_(key, iv, aad, ct + tag)
            self.assertEqual(opened, msg if valid else None, comment)

    def test_v02_rfc_5869_and_rfc_4231(self):
        for ikm, salt, info, size, okm in kat.RFC5869:
            self.assertEqual(kat.hkdf(ikm, salt, info, size).hex(), okm)
        for comment, key, msg, tag, valid in kat.hmac_cases():
            self.assertEqual(kat.hmac(key, msg) == tag, valid, comment)

    def test_v03_the_published_cases_of_gcm(self):
        for key, iv, aad, msg, ct, tag in (tuple(bytes.fromhex(part) for part in case) for case in kat.SPEC):
            self.assertEqual(kat.seal(key, iv, aad, msg), ct + tag)


if __name__ == "__main__":
    unittest.main()
