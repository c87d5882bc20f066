"""Whether a secret key of guard could be guessed: one rule for all of them.

No rule can tell that a key is secret. This one refuses what people type where a random key is
asked for: one character over and over, rows of the alphabet and of the keyboard, bytes counted up,
a short block again and again, a password, words such as stand in an example. What ``openssl rand``
prints passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["LEAST_KEY", "STRONG", "weakness_of"]

LEAST_KEY = 16  # bytes
STRONG = "make one with: openssl rand -hex 32"
REGULAR = "is too regular to be secret"
LEAST_DISTINCT = 8
LEAST_DISTINCT_HEX = 6  # under 32 digits: of random keys of 16, 12 in 1,000 have fewer than 8
LEAST_FREE = 11  # bytes, where each run counts for two
HEX = frozenset(b"0123456789abcdefABCDEF")
WORDS = (
    b"admin", b"asdfg", b"azerty", b"changeme", b"default", b"dragon", b"example", b"guest",
    b"hallo", b"hello", b"iloveyou", b"letmein", b"login", b"master", b"monkey", b"overproof",
    b"passphrase", b"passw", b"qaz2wsx", b"qazwsx", b"qwert", b"secret", b"sunshine", b"test",
    b"trustno", b"welcome", b"zxcvb", b"1q2w3e", b"1qaz2wsx",
)  # fmt: skip
# Each counts for one byte, wherever it stands: such a key is a sentence, not a secret.
PLAIN_WORDS = (
    "access account admin and any api app auth battery change changeme client "
    "cloud code company correct customer data default demo dev development dummy encryption enter "
    "env example exemption fake fill fingerprint fixme foobar for from gateway goes good guard "
    "hello here hmac horse hunter2 insert into just key local long longer made make master mine "
    "model must name new not now our overproof passphrase passw0rd password pass paste phrase "
    "placeholder please private prod production project provider put random really replace root "
    "salt sample secret secure server service set should sign some something staging staple "
    "string strong super test testing that the this todo token use user value very word words "
    "world you your is it me my "
    "qwerty poiuy lkjhg mnbvc zaq1 xsw2 2wsx 4rfv"
)
A_WORD = re.compile(
    b"[-_. ]?(?:" + "|".join(sorted(PLAIN_WORDS.split(), key=len, reverse=True)).encode() + b")"
)
PLAIN_LETTERS = bytes.maketrans(b"@0$5!3", b"aossie")


def weakness_of(key: bytes) -> str | None:
    """Why ``key`` could be guessed, in words that follow its name; None where nothing says so.

    A key is too short under 16 bytes. It is too regular if it has few distinct bytes; is made of
    rows such as ``12345678`` or ``fedcba``, or of two that take turns, or of bytes in hexadecimal
    each as far from the one before; is a short block repeated, the last time perhaps in part;
    begins with a word that passwords begin with, in any case, with ``@`` for ``a`` and so on; or is
    little more than plain words.
    """
    if len(key) < LEAST_KEY:
        return f"has {len(key)} bytes, and {LEAST_KEY} are the least"
    short_hex = len(key) < 2 * LEAST_KEY and HEX.issuperset(key)
    if len(set(key)) < (LEAST_DISTINCT_HEX if short_hex else LEAST_DISTINCT):
        return REGULAR
    if _free(key) < LEAST_FREE or _begins_with_a_word(key) or _in_words(key) or _counted(key):
        return REGULAR
    block = _block(key)
    return None if len(block) == len(key) or weakness_of(block) is None else REGULAR


def _free(key: Sequence[int], steps: Sequence[int] = (-1, 0, 1)) -> int:
    """The length, where each run counts for two bytes: its first one and its direction.

    A run is three bytes or more, each by the same step, one of ``steps``, above the one before.
    """
    free, run, before = len(key), 1, 0
    for early, late in pairwise(key):
        step = (late - early) % 256
        run = run + 1 if run > 1 and step == before else 2
        if run > 2 and (step - 256 if step > 127 else step) in steps:
            free -= 1
        before = step
    return free


def _counted(key: bytes) -> bool:
    """Whether every second byte makes rows and the others too, or bytes in hexadecimal do.

    Half of them or more would have to: of random ones not one key in a hundred million has that.
    """
    if all(2 * _free(strand) <= len(strand) for strand in (key[::2], key[1::2])):
        return True
    if len(key) % 2 or not HEX.issuperset(key):
        return False
    plain = bytes.fromhex(key.decode())
    return 2 * _free(plain, range(-128, 128)) <= len(plain)


def _in_words(key: bytes) -> bool:
    lower = key.lower()
    return any(
        _free(A_WORD.sub(b"\0", said)) < LEAST_FREE
        for said in (lower, lower.translate(PLAIN_LETTERS))
        if A_WORD.search(said)
    )


def _begins_with_a_word(key: bytes) -> bool:
    lower = key.lower()
    return lower.startswith(WORDS) or lower.translate(PLAIN_LETTERS).startswith(WORDS)


def _block(key: bytes) -> bytes:
    """The shortest beginning that, repeated once and a half or more, gives the key; or the key."""
    for length in range(1, 2 * len(key) // 3 + 1):
        if key[length:] == key[:-length]:
            return key[:length]
    return key
