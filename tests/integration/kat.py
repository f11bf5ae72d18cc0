"""A second implementation of what vault/aead.c does, written from the standards alone: AES-256-GCM (FIPS 197, SP 800-38D),
HMAC-SHA-256 (FIPS 198-1, FIPS 180-4) and HKDF (RFC 5869), without OpenSSL or any other library's cipher or digest.

    python3 tests/integration/kat.py     writes the known answers to tests/fixtures/ again

The files have the shape of the vectors that Wycheproof publishes, so that one reader does for both; every value in
them is made up here or stands in an RFC. Slow, and open to whoever can measure time: for tests alone.
"""
import json
import os
import struct

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures")


# --- AES-256 -----------------------------------------------------------------------------------------------

def _times(a, b):
    """In GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11b if a & 0x80 else 0)
        b >>= 1
    return product


def _make_sbox():
    box = []
    for value in range(256):
        inverse = next((i for i in range(256) if _times(value, i) == 1), 0)
        box.append(0x63 ^ inverse ^ _rotate8(inverse, 1) ^ _rotate8(inverse, 2) ^ _rotate8(inverse, 3) ^ _rotate8(inverse, 4))
    return bytes(box)


def _rotate8(v, n):
    return ((v << n) | (v >> (8 - n))) & 0xff


_SBOX = _make_sbox()
_X2 = bytes(_times(2, v) for v in range(256))


class Aes256:
    def __init__(self, key):
        assert len(key) == 32
        words, turn = [key[i:i + 4] for i in range(0, 32, 4)], 1
        for i in range(8, 60):
            word = words[-1]
            if i % 8 == 0:
                word = bytes(_SBOX[b] for b in word[1:] + word[:1])
                word = bytes([word[0] ^ turn]) + word[1:]
                turn = _times(turn, 2)
            elif i % 8 == 4:
                word = bytes(_SBOX[b] for b in word)
            words.append(bytes(a ^ b for a, b in zip(word, words[-8])))
        self.rounds = [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]

    def encrypt(self, block):
        state = bytes(a ^ b for a, b in zip(block, self.rounds[0]))
        for number in range(1, 15):
            state = bytes(_SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16))  # SubBytes and ShiftRows
            if number < 14:
                mixed = bytearray()
                for c in range(0, 16, 4):
                    a, every = state[c:c + 4], state[c] ^ state[c + 1] ^ state[c + 2] ^ state[c + 3]
                    mixed += bytes(a[i] ^ every ^ _X2[a[i] ^ a[(i + 1) % 4]] for i in range(4))
                state = bytes(mixed)
            state = bytes(a ^ b for a, b in zip(state, self.rounds[number]))
        return state


# --- GCM ---------------------------------------------------------------------------------------------------

def _ghash(subkey, data):
    total = 0
    for at in range(0, len(data), 16):
        total ^= int.from_bytes(data[at:at + 16], "big")
        product, factor = 0, subkey
        for bit in range(127, -1, -1):
            product ^= factor if (total >> bit) & 1 else 0
            factor = (factor >> 1) ^ (0xe1 << 120 if factor & 1 else 0)
        total = product
    return total


def _padded(data):
    return data + bytes(-len(data) % 16)


def _gcm(key, nonce, aad, data, sealed):
    """(data under the key stream, tag of the ciphertext among the two)."""
    aes = Aes256(key)
    assert len(nonce) == 12
    subkey = int.from_bytes(aes.encrypt(bytes(16)), "big")
    stream = b"".join(aes.encrypt(nonce + struct.pack(">I", n + 2)) for n in range((len(data) + 15) // 16))
    out = bytes(a ^ b for a, b in zip(data, stream))
    text = data if sealed else out
    lengths = struct.pack(">QQ", 8 * len(aad), 8 * len(text))
    tag = _ghash(subkey, _padded(aad) + _padded(text) + lengths) ^ int.from_bytes(aes.encrypt(nonce + b"\0\0\0\1"), "big")
    return out, tag.to_bytes(16, "big")


def seal(key, nonce, aad, plain):
    text, tag = _gcm(key, nonce, aad, plain, False)
    return text + tag


def open_(key, nonce, aad, sealed):
    """None: the tag does not fit."""
    plain, tag = _gcm(key, nonce, aad, sealed[:-16], True)
    return plain if len(sealed) >= 16 and tag == sealed[-16:] else None


# --- SHA-256, HMAC, HKDF -----------------------------------------------------------------------------------

def _primes(n):
    found = []
    candidate = 2
    while len(found) < n:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def _root_bits(n, power):
    """The first 32 bits behind the point of the square (2) or cube (3) root."""
    low, high = 0, n << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle ** power <= n << (32 * power) else (low, middle)
    return low & 0xffffffff


_START = [_root_bits(p, 2) for p in _primes(8)]
_ROUND = [_root_bits(p, 3) for p in _primes(64)]


def sha256(data):
    def turn(v, n):
        return (v >> n | v << (32 - n)) & 0xffffffff

    state = list(_START)
    data = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack(">Q", 8 * len(data))
    for at in range(0, len(data), 64):
        w = list(struct.unpack(">16I", data[at:at + 64]))
        for i in range(16, 64):
            s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3
            s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10
            w.append((w[i - 16] + s0 + w[i - 7] + s1) & 0xffffffff)
        a, b, c, d, e, f, g, h = state
        for i in range(64):
            t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + _ROUND[i] + w[i]
            t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, h = (t1 + t2) & 0xffffffff, a, b, c, (d + t1) & 0xffffffff, e, f, g
        state = [(x + y) & 0xffffffff for x, y in zip(state, (a, b, c, d, e, f, g, h))]
    return struct.pack(">8I", *state)


def hmac(key, data):
    key = (sha256(key) if len(key) > 64 else key).ljust(64, b"\0")
    return sha256(bytes(b ^ 0x5c for b in key) + sha256(bytes(b ^ 0x36 for b in key) + data))


def hkdf(ikm, salt, info, size):
    prk, out, last = hmac(salt or bytes(32), ikm), b"", b""
    while len(out) < size:
        last = hmac(prk, last + info + bytes([len(out) // 32 + 1]))
        out += last
    return out[:size]


# --- the files ---------------------------------------------------------------------------------------------

def _bytes(name, n):
    """Always the same for a name, and nobody's secret."""
    out = b""
    while len(out) < n:
        out += sha256(f"tollgate known answers: {name} {len(out)}".encode())
    return out[:n]


def _flip(data, bit):
    return data[:bit // 8] + bytes([data[bit // 8] ^ 0x80 >> bit % 8]) + data[bit // 8 + 1:]


# "The Galois/Counter Mode of Operation (GCM)", McGrew and Viega, test cases 13 to 16: key, iv, aad, msg, ct, tag
SPEC = (
    ("00" * 32, "00" * 12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
    ("feffe9928665731c6d6a8f9467308308" * 2, "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"),
    ("feffe9928665731c6d6a8f9467308308" * 2, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"))


def gcm_cases():
    """(comment, key, iv, aad, msg, ct, tag, valid)"""
    for number, case in enumerate(SPEC):
        yield f"GCM test case {number + 13}", *(bytes.fromhex(part) for part in case), True
    sizes = ((0, 0), (0, 13), (1, 0), (15, 20), (16, 16), (17, 64), (31, 1), (32, 97), (33, 33), (64, 0), (66, 148), (255, 12),
             (1024, 148), (4096, 20), (65, 4096))
    for number, (size, aad_size) in enumerate(sizes):
        key, iv = _bytes(f"key {number}", 32), _bytes(f"iv {number}", 12)
        aad, msg = _bytes(f"aad {number}", aad_size), _bytes(f"msg {number}", size)
        yield f"{size} bytes, {aad_size} besides", key, iv, aad, msg, *_cut(seal(key, iv, aad, msg)), True
    for name, key, iv in (("zero key and iv", bytes(32), bytes(12)), ("all ones", b"\xff" * 32, b"\xff" * 12),
                          ("high iv", _bytes("key c", 32), b"\xff" * 11 + b"\xfe")):
        yield name, key, iv, b"", bytes(48), *_cut(seal(key, iv, b"", bytes(48))), True
    key, iv, aad, msg = _bytes("key t", 32), _bytes("iv t", 12), _bytes("aad t", 20), _bytes("msg t", 32)
    ct, tag = _cut(seal(key, iv, aad, msg))
    for bit in (0, 1, 7, 8, 31, 32, 33, 63, 64, 71, 77, 80, 95, 96, 97, 103, 104, 119, 120, 126, 127):
        yield f"bit {bit} of the tag flipped", key, iv, aad, msg, ct, _flip(tag, bit), False
    for bit in (0, 127, 128, 255):
        yield f"bit {bit} of the text flipped", key, iv, aad, msg, _flip(ct, bit), tag, False
    for bit in (0, 79, 159):
        yield f"bit {bit} of what is besides flipped", key, iv, _flip(aad, bit), msg, ct, tag, False
    for bit in (0, 47, 95):
        yield f"bit {bit} of the iv flipped", key, _flip(iv, bit), aad, msg, ct, tag, False
    for bit in (0, 128, 255):
        yield f"bit {bit} of the key flipped", _flip(key, bit), iv, aad, msg, ct, tag, False
    yield "tag of zeros", key, iv, aad, msg, ct, bytes(16), False
    yield "tag of ones", key, iv, aad, msg, ct, b"\xff" * 16, False
    yield "every bit of the tag flipped", key, iv, aad, msg, ct, bytes(b ^ 0xff for b in tag), False
    yield "the text cut", key, iv, aad, msg, ct[:-1], tag, False
    yield "the text longer", key, iv, aad, msg, ct + b"\0", tag, False
    yield "nothing besides", key, iv, b"", msg, ct, tag, False
    yield "text and what is besides swapped", key, iv, ct, msg, aad, tag, False


def _cut(sealed):
    return sealed[:-16], sealed[-16:]


RFC5869 = (  # A.1 to A.3: ikm, salt, info, size, okm
    (b"\x0b" * 22, bytes(range(13)), bytes(range(0xf0, 0xfa)), 42,
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    (bytes(range(0x50)), bytes(range(0x60, 0xb0)), bytes(range(0xb0, 0x100)), 82,
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793"
     "a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"),
    (b"\x0b" * 22, b"", b"", 42, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"))


def hkdf_cases():
    """(comment, ikm, salt, info, size, okm)"""
    for number, (ikm, salt, info, size, okm) in enumerate(RFC5869):
        yield f"RFC 5869 A.{number + 1}", ikm, salt, info, size, bytes.fromhex(okm)
    for number, (ikm, salt, info, size) in enumerate(((32, 32, 26, 64), (32, 0, 9, 32), (1, 32, 0, 1), (32, 64, 32, 31), (32, 65, 1, 33),
                                                      (64, 1, 200, 64), (65, 32, 16, 65), (128, 100, 100, 255), (32, 32, 26, 8160))):
        parts = [_bytes(f"hkdf {number} {name}", n) for name, n in (("ikm", ikm), ("salt", salt), ("info", info))]
        yield f"{ikm} bytes, salt {salt}, info {info}, {size} wanted", *parts, size, hkdf(*parts, size)


def hmac_cases():
    """(comment, key, msg, tag, valid)"""
    # RFC 4231, 1 to 4, 6 and 7
    yield "RFC 4231 1", b"\x0b" * 20, b"Hi There", bytes.fromhex(
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"), True
    yield "RFC 4231 2", b"Jefe", b"what do ya want for nothing?", bytes.fromhex(
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"), True
    yield "RFC 4231 3", b"\xaa" * 20, b"\xdd" * 50, bytes.fromhex(
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"), True
    yield "RFC 4231 4", bytes(range(1, 26)), b"\xcd" * 50, bytes.fromhex(
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"), True
    yield "RFC 4231 6", b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First", bytes.fromhex(
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"), True
    for number, (key_size, size) in enumerate(((0, 0), (1, 1), (32, 0), (32, 50), (63, 55), (64, 56), (65, 63), (64, 64), (128, 1000))):
        key, msg = _bytes(f"hmac key {number}", key_size), _bytes(f"hmac msg {number}", size)
        yield f"key of {key_size} bytes, {size} bytes", key, msg, hmac(key, msg), True
    key, msg = _bytes("hmac key t", 32), _bytes("hmac msg t", 47)
    for bit in (0, 128, 255):
        yield f"bit {bit} flipped", key, msg, _flip(hmac(key, msg), bit), False


def _file(algorithm, group, tests):
    for number, test in enumerate(tests):
        test["tcId"] = number + 1
    return {"algorithm": algorithm, "numberOfTests": len(tests),
            "header": ["tollgate's own known answers, made by tests/integration/kat.py; test_kat.py makes them again"],
            "testGroups": [{**group, "tests": tests}]}


def files():
    """{name: document}"""
    verdict = {True: "valid", False: "invalid"}
    return {
        "kat-aes-256-gcm.json": _file("AES-GCM", {"ivSize": 96, "keySize": 256, "tagSize": 128}, [
            {"comment": c, "key": k.hex(), "iv": i.hex(), "aad": a.hex(), "msg": m.hex(), "ct": t.hex(), "tag": g.hex(),
             "result": verdict[ok]} for c, k, i, a, m, t, g, ok in gcm_cases()]),
        "kat-hkdf-sha256.json": _file("HKDF-SHA-256", {"keySize": 0}, [
            {"comment": c, "ikm": k.hex(), "salt": s.hex(), "info": i.hex(), "size": n, "okm": o.hex(), "result": "valid"}
            for c, k, s, i, n, o in hkdf_cases()]),
        "kat-hmac-sha256.json": _file("HMACSHA256", {"keySize": 0, "tagSize": 256}, [
            {"comment": c, "key": k.hex(), "msg": m.hex(), "tag": t.hex(), "result": verdict[ok]}
            for c, k, m, t, ok in hmac_cases()])}


if __name__ == "__main__":
    for name, document in files().items():
        with open(os.path.join(FIXTURES, name), "w") as f:
            json.dump(document, f, indent=1)
            f.write("\n")
