"""Ed25519 signatures of a verdict: who can make one, who can check it, and what does not pass."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from overproof.errors import ConfigError, DataError, MissingExtraError, RunError, SecretError
from overproof.report.audit_ed25519 import (
    SMALL_ORDER,
    Ed25519Signer,
    fingerprint_of,
    parse_fingerprint,
    signed_bytes,
    weak,
)
from overproof.report.audit_key_files import (
    read_public_key,
    read_signing_key,
    signing_key_of,
    write_key_pair,
)
from overproof.report.audit_seal import (
    PAGES,
    SealCheck,
    SealState,
    check_audit_report,
    document_text,
    sealed_document,
)
from overproof.report.audit_seal_words import seal_words
from overproof.report.audit_signers import HmacSigner, SignedBy, Signer

SHARED = b"a shared secret of the parties"
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
OPEN = serialization.NoEncryption()


def signer_of(seed: int) -> Ed25519Signer:
    return Ed25519Signer(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def seal(folder: Path, signer: Signer | None, verdict: str = "trained") -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    pages = dict.fromkeys(PAGES, f"<p>{verdict}</p>")
    document = sealed_document({"verdict": verdict}, pages, signer)
    for name, text in pages.items():
        (folder / name).write_text(text)
    (folder / "verdict.json").write_text(document_text(document))
    return document


def check(folder: Path, document: dict[str, Any], **pinned: Any) -> SealCheck:
    (folder / "verdict.json").write_text(document_text(document))
    return check_audit_report(folder, **pinned)


def test_a_pinned_key_verifies_and_no_other(tmp_path: Path) -> None:
    mine, other = signer_of(1), signer_of(2)
    name = mine.signed_by.name
    seal(tmp_path, mine)
    found = check_audit_report(tmp_path, fingerprint=name)
    assert found.ok
    assert found.signed_by == SignedBy("Ed25519", name, public=True)
    assert found.record == {"verdict": "trained"}
    unpinned = check_audit_report(tmp_path)
    assert (unpinned.state, unpinned.ok) == (SealState.UNPINNED, False)
    assert unpinned.signed_by == found.signed_by
    wrong = check_audit_report(tmp_path, fingerprint=other.signed_by.name)
    assert (wrong.state, name in wrong.reason) == (SealState.OTHER_KEY, True)
    # A forger signs another verdict with a key of their own: consistent, and not the pinned one.
    seal(tmp_path, other, "no evidence")
    assert check_audit_report(tmp_path).state is SealState.UNPINNED
    assert check_audit_report(tmp_path, fingerprint=name).state is SealState.OTHER_KEY


def test_the_two_kinds_do_not_pass_for_each_other(tmp_path: Path) -> None:
    mine = signer_of(1)
    seal(tmp_path, mine)
    found = check_audit_report(tmp_path, SHARED)
    assert (found.state, "not with a shared key" in found.reason) == (SealState.OTHER_KEY, True)
    seal(tmp_path, HmacSigner(SHARED))
    assert check_audit_report(tmp_path, SHARED).ok
    found = check_audit_report(tmp_path, fingerprint=mine.signed_by.name)
    assert (found.state, "not with a public key" in found.reason) == (SealState.OTHER_KEY, True)
    seal(tmp_path, None)
    pinned = check_audit_report(tmp_path, fingerprint=mine.signed_by.name)
    assert pinned.state is SealState.UNSIGNED


def test_what_is_signed_can_be_written_down(tmp_path: Path) -> None:
    """The signed line is that of the documentation: nothing but JSON with sorted names."""
    mine = signer_of(3)
    document = seal(tmp_path, mine)
    signature = document["signature"]
    raw = base64.b64decode(signature["public_key"])
    assert signature["fingerprint"] == "sha256:" + hashlib.sha256(raw).hexdigest()
    page, card = (document["files"][name] for name in PAGES)
    line = (
        f'{{"algorithm":"Ed25519","content_sha256":"{document["content_sha256"]}",'
        f'"files":{{"verdict.html":"{page}","verdict.md":"{card}"}},'
        f'"fingerprint":"{signature["fingerprint"]}","format":"overproof-audit-verdict/1"}}'
    )
    made = signed_bytes(signature["fingerprint"], document["content_sha256"], document["files"])
    assert made == line.encode()
    key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    key.verify(base64.b64decode(signature["value"]), line.encode())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_alone_can_check(tmp_path: Path) -> None:
    pair = write_key_pair(tmp_path / "key")
    document = seal(tmp_path, read_signing_key(pair.private))
    signature = document["signature"]
    line = signed_bytes(pair.fingerprint, document["content_sha256"], document["files"])
    (tmp_path / "line").write_bytes(line)
    (tmp_path / "value").write_bytes(base64.b64decode(signature["value"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(pair.public), "-rawin",
               "-in", str(tmp_path / "line"), "-sigfile", str(tmp_path / "value")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr
    (tmp_path / "line").write_bytes(line.replace(b"sha256:", b"sha257:", 1))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_no_changed_byte_of_the_signature_passes(tmp_path: Path) -> None:
    mine = signer_of(4)
    document = seal(tmp_path, mine)
    whole = (tmp_path / "verdict.json").read_bytes()
    start = whole.index(b'"content_sha256"')
    for at in [*range(start, len(whole), 4), *range(len(whole) - 12, len(whole))]:
        altered = whole[:at] + bytes([whole[at] ^ (1 << at % 7)]) + whole[at + 1 :]
        (tmp_path / "verdict.json").write_bytes(altered)
        try:
            found = check_audit_report(tmp_path, fingerprint=mine.signed_by.name)
        except DataError:
            continue
        assert found.state is SealState.ALTERED, at
    # Base64 has several spellings of the same bytes; one is enough.
    for part in ("value", "public_key"):
        text = document["signature"][part]
        for other in (text + "\n", text.rstrip("="), text.replace("=", "==", 1), "", "é", None):
            changed = document | {"signature": document["signature"] | {part: other}}
            assert check(tmp_path, changed).state is SealState.ALTERED


def test_a_signature_fits_no_other_verdict(tmp_path: Path) -> None:
    mine, other = signer_of(5), signer_of(6)
    first, second = seal(tmp_path, mine), seal(tmp_path, mine, "no evidence")
    moved = second | {"signature": first["signature"]}
    assert check(tmp_path, moved).reason == "the signature does not verify"
    # Nor another key: the fingerprint is part of what is signed.
    stolen = second["signature"] | {
        "public_key": base64.b64encode(other.public).decode(),
        "fingerprint": other.signed_by.name,
    }
    assert check(tmp_path, second | {"signature": stolen}).state is SealState.ALTERED
    renamed = second["signature"] | {"fingerprint": other.signed_by.name}
    assert "not that of the public key" in check(tmp_path, second | {"signature": renamed}).reason
    for bad in ({}, [], 7, {"algorithm": "none"}, {"algorithm": ["Ed25519"]},
                second["signature"] | {"more": 1}):  # fmt: skip
        assert check(tmp_path, second | {"signature": bad}).state is SealState.ALTERED


def times(n: int, x: int, y: int) -> tuple[int, int]:
    """A point of edwards25519 (RFC 8032, section 5.1) added to itself ``n`` times, ``n`` ≥ 1."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    a, b = x, y
    for _ in range(n - 1):
        k = d * a * x * b * y % p
        a, b = (
            (a * y + b * x) * pow(1 + k, -1, p) % p,
            (b * y + a * x) * pow(1 - k, -1, p) % p,
        )
    return a, b


def test_keys_under_which_anyone_can_sign_are_refused(tmp_path: Path) -> None:
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    for encoded in SMALL_ORDER:
        y = int.from_bytes(encoded, "little") % p
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if (x * x - square) % p == 0 else x * pow(2, (p - 1) // 4, p) % p
        assert (x * x - square) % p == 0
        assert times(8, x, y) == (0, 1)
    assert not weak(signer_of(1).public)
    # The forgery itself: without any secret, under the neutral point, for whatever document.
    neutral = bytes([1]) + bytes(31)
    value = base64.b64encode(neutral + bytes(32)).decode()
    public = ed25519.Ed25519PublicKey.from_public_bytes(neutral)
    public.verify(base64.b64decode(value), b"the library accepts it")
    document = seal(tmp_path, signer_of(1))
    document["signature"] |= {
        "public_key": base64.b64encode(neutral).decode(),
        "fingerprint": fingerprint_of(neutral),
        "value": value,
    }
    found = check(tmp_path, document, fingerprint=fingerprint_of(neutral))
    assert (found.state, "anyone can sign" in found.reason) == (SealState.ALTERED, True)
    (tmp_path / "weak.pub").write_bytes(public.public_bytes(PEM, SPKI))
    with pytest.raises(DataError, match="anyone can sign"):
        read_public_key(tmp_path / "weak.pub")


def test_a_key_pair_on_disk(tmp_path: Path) -> None:
    pair = write_key_pair(tmp_path / "deep" / "key.pem")
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
    assert pair.public.name == "key.pem.pub"
    assert fingerprint_of(read_public_key(pair.public)) == pair.fingerprint
    assert read_signing_key(pair.private).signed_by.name == pair.fingerprint
    text = pair.private.read_text()
    named = signing_key_of({"OVERPROOF_AUDIT_SIGNING_KEY": text})
    assert named is not None
    assert named.signed_by.name == pair.fingerprint
    assert text.split("\n")[1] not in repr(named) + repr(HmacSigner(SHARED))
    assert signing_key_of({}) is None
    with pytest.raises(ConfigError, match="exists already"):
        write_key_pair(pair.private)
    pair.private.unlink()
    with pytest.raises(ConfigError, match=r"pub: exists already"):
        write_key_pair(pair.private)
    assert not pair.private.exists()
    pair.public.unlink()
    pair.private.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        write_key_pair(pair.private)
    assert not (tmp_path / "elsewhere").exists()


def test_a_pair_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write_key_pair(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        write_key_pair(tmp_path / "file" / "key")


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    path, pair = tmp_path / "it", write_key_pair(tmp_path / "key")
    private = signer_of(1).private
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = private.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"word"))
    for content, why in (
        (b"", "holds no private key"), (b"\xff\0" * 99, "holds no private key"),
        (pair.public.read_bytes(), "holds no private key"), (locked, "is encrypted"),
        (curve.private_bytes(PEM, PKCS8, OPEN), "another kind"),
        (pair.private.read_bytes()[:-40], "holds no private key"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            read_signing_key(path)
    for content, why in (
        (b"", "holds no public key"), (pair.private.read_bytes(), "is a private key"),
        (curve.public_key().public_bytes(PEM, SPKI), "another kind"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(DataError, match=why):
            read_public_key(path)
    for read in (read_signing_key, read_public_key):
        with pytest.raises(DataError, match="no such file"):
            read(tmp_path / "nowhere")
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path)
    with pytest.raises(SecretError, match="OVERPROOF_AUDIT_SIGNING_KEY"):
        signing_key_of({"OVERPROOF_AUDIT_SIGNING_KEY": "not a key"})


def test_fingerprints_as_they_are_typed() -> None:
    whole = "sha256:" + "0af1" * 16
    pairs = ":".join(["0A", "F1"] * 16)
    for text in (whole, whole[7:], whole.upper(), f" {whole}\n", "SHA256:" + pairs):
        assert parse_fingerprint(text) == whole
    for text in ("", "sha256:", whole[:-1], whole + "0", "sha256:" + "g" * 64, "md5:" + "0" * 64):
        with pytest.raises(ConfigError, match="not a whole SHA-256"):
            parse_fingerprint(text)


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, signer_of(1))
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"cryptography"):
        check_audit_report(tmp_path)
    with pytest.raises(MissingExtraError) as raised:
        write_key_pair(tmp_path / "key")
    assert "overproof[audit]" in str(raised.value)
    assert not (tmp_path / "key").exists()
    seal(tmp_path, HmacSigner(SHARED))
    assert check_audit_report(tmp_path, SHARED).ok


def test_the_page_says_to_whom_it_is_shown() -> None:
    public = signer_of(1).signed_by
    words = seal_words(public)
    assert words.shows.startswith("Anybody can check")
    assert public.name in words.command
    assert "does not show a third party" in seal_words(HmacSigner(SHARED).signed_by).whose
    assert "not signed" in seal_words(None).shows
    assert json.dumps(public.name) == f'"{public.name}"'
