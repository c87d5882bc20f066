"""Whether a secret key of guard could be guessed: one rule for all of them.

No rule can tell that a key is secret. This one refuses what people type where a random key is
asked for: one character over and over, rows of the alphabet and of the keyboard, a short block
again and again, a password. What ``openssl rand`` prints passes.
"""

from __future__ import annotations

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
PLAIN_LETTERS = bytes.maketrans(b"@0$5!3", b"aossie")


def weakness_of(key: bytes) -> str | None:
    """Why ``key`` could be guessed, in words that follow its name; None where nothing says so.

    A key is too short under 16 bytes. It is too regular if it has few distinct bytes; is made of
    rows such as ``12345678`` or ``fedcba``; is a short block repeated, the last time perhaps in
    part; or begins with a word that passwords begin with, in any case, with ``@`` for ``a`` and so
    on.
    """
    if len(key) < LEAST_KEY:
        return f"has {len(key)} bytes, and {LEAST_KEY} are the least"
    short_hex = len(key) < 2 * LEAST_KEY and HEX.issuperset(key)
    if len(set(key)) < (LEAST_DISTINCT_HEX if short_hex else LEAST_DISTINCT):
        return REGULAR
    if _free_bytes(key) < LEAST_FREE or _begins_with_a_word(key):
        return REGULAR
    block = _block(key)
    return None if len(block) == len(key) or weakness_of(block) is None else REGULAR


def _free_bytes(key: bytes) -> int:
    """The length, where each run counts for two bytes: its first one and its direction.

    A run is three bytes or more, each by the same step above the one before: by 1, by -1 or by 0.
    """
    free, run, before = len(key), 1, 0
    for early, late in pairwise(key):
        step = late - early
        run = run + 1 if run > 1 and step == before else 2
        if run > 2 and abs(step) <= 1:
            free -= 1
        before = step
    return free


def _begins_with_a_word(key: bytes) -> bool:
    lower = key.lower()
    return lower.startswith(WORDS) or lower.translate(PLAIN_LETTERS).startswith(WORDS)


def _block(key: bytes) -> bytes:
    """The shortest beginning that, repeated, gives the key; the key where nothing repeats."""
    for length in range(1, len(key) // 2 + 1):
        if key[length:] == key[:-length]:
            return key[:length]
    return key
