"""A key that could be guessed is refused; a random one never is."""

from __future__ import annotations

import base64
import random
import string

import pytest

from overproof.errors import ConfigError, SecretError
from overproof.guard.exemptions import sign
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.key_strength import weakness_of

GUESSED = (
    b"password12345678",
    b"0123456789abcdef",
    b"abcdefghabcdefghabcdefgh",
    b"fedcba9876543210",
    b"zyxwvutsrqponmlkjihgfedcba",
    b"abcd1234efgh5678",
    b"mycompny12345678",
    b"aaaabbbbccccddddeeee",
    b"ababababababababab",
    b"Xk7!pQXk7!pQXk7!pQXk7!pQ",  # a block of six
    b"0123456789abcdef" * 4,
    b"P@ssw0rd-of-the-company",
    b"Passphrase of ours 2026",
    b"letmein-please-99-now",
    b"QwErTyUiOpAsDfGh",
    b"$ecret-of-the-house-7",
    b"changeme-changeme-later",
    b"00112233445566778899aabbccddeeff",
    b"00112233445566778899AABBCCDDEEFF" * 2,
    b"0102030405060708090a0b0c0d0e0f10",
    b"ffeeddccbbaa99887766554433221100",
    b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    b"a1b2c3d4e5f6g7h8",
    b"0f1e2d3c4b5a6978",
    b"your-key-here-please",
    b"YOUR_SECRET_KEY_GOES_HERE",
    b"<your key here 123>",
    b"replace-me-please-1",
    b"thisisaverysecretkey",
    b"my-guard-key-2026",
    b"correcthorsebatterystaple",
    "überproof-überproof".encode(),
)


@pytest.mark.parametrize("key", GUESSED)
def test_what_people_type_is_refused(key: bytes) -> None:
    assert "regular" in (weakness_of(key) or "")
    with pytest.raises(SecretError, match="too regular"):
        Fingerprinter(key)
    with pytest.raises(ConfigError, match="too regular"):
        sign({"org": "o", "use": "u", "until": "2027-01-31", "signed_by": "Ada"}, key)


@pytest.mark.parametrize("key", [b"", b"short", b"Xk7!pQ9zRv2#mLd"])
def test_under_sixteen_bytes_is_short(key: bytes) -> None:
    assert "are the least" in (weakness_of(key) or "")


def keys(seed: int) -> dict[str, bytes]:
    """One random key of each kind that people make."""
    chance = random.Random(seed)
    size = chance.randrange(16, 65)
    words = string.ascii_letters + string.digits
    return {
        "hex": chance.randbytes(size).hex().encode(),
        "short hex": chance.randbytes(8).hex().encode(),
        "base64": base64.b64encode(chance.randbytes(size)),
        "short base64": base64.b64encode(chance.randbytes(12)),
        "url": base64.urlsafe_b64encode(chance.randbytes(size)).rstrip(b"="),
        "bytes": chance.randbytes(size),
        "letters": "".join(chance.choices(words, k=size)).encode(),
    }


def test_no_random_key_is_refused() -> None:
    made = [(kind, key) for seed in range(2_000) for kind, key in keys(seed).items()]
    assert [one for one in made if weakness_of(one[1]) is not None] == []
    assert len(made) == 14_000


@pytest.mark.parametrize("kind", ["hex of 16", "hex of 32", "base64", "urlsafe"])
def test_of_twenty_thousand_of_each_kind_that_is_advised_none_is_refused(kind: str) -> None:
    chance = random.Random(kind)
    made = {
        "hex of 16": lambda: chance.randbytes(16).hex().encode(),
        "hex of 32": lambda: chance.randbytes(32).hex().encode(),
        "base64": lambda: base64.b64encode(chance.randbytes(32)),
        "urlsafe": lambda: base64.urlsafe_b64encode(chance.randbytes(16)).rstrip(b"="),
    }[kind]
    assert [key for key in (made() for _ in range(20_000)) if weakness_of(key)] == []


def test_a_good_key_twice_over_is_as_good_as_once() -> None:
    key = random.Random(0).randbytes(16).hex().encode()
    assert weakness_of(key * 2) is None
    assert "regular" in (weakness_of(key[:12] * 4) or "")
