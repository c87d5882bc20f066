"""Keys for signing verdicts on disk: PEM files, as ``openssl`` reads and writes them too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from overproof.errors import ConfigError, DataError, RunError, SecretError
from overproof.records.files import create_new
from overproof.report.audit_ed25519 import Ed25519Signer, fingerprint_of, library, weak

__all__ = [
    "SIGNING_KEY_ENV",
    "KeyPair",
    "read_public_key",
    "read_signing_key",
    "signing_key_of",
    "write_key_pair",
]

SIGNING_KEY_ENV = "OVERPROOF_AUDIT_SIGNING_KEY"
MAKE_ONE = "`overproof audit signing-key --out FILE` makes one"
MOST_BYTES = 65_536  # of a file with a key: enough for any, and an endless file ends


class KeyPair(NamedTuple):
    """A key pair on disk."""

    private: Path
    public: Path
    fingerprint: str


def _read(path: Path, way_out: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES)
    except FileNotFoundError:
        raise DataError(str(path), "no such file", way_out) from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error


def read_signing_key(path: Path) -> Ed25519Signer:
    """A private key from a PEM file (PKCS #8, RFC 5958), not encrypted.

    Raises:
        DataError: the file cannot be read, or holds no such key.
        MissingExtraError: cryptography is not installed.
    """
    return _private(_read(path, MAKE_ONE), str(path))


def signing_key_of(environ: Mapping[str, str] | None = None) -> Ed25519Signer | None:
    """A private key from ``OVERPROOF_AUDIT_SIGNING_KEY``, the PEM itself; None where it is empty.

    Raises:
        SecretError: the variable holds no such key.
        MissingExtraError: cryptography is not installed.
    """
    text = (os.environ if environ is None else environ).get(SIGNING_KEY_ENV, "").strip()
    if not text:
        return None
    try:
        return _private(text.encode("utf-8", "surrogateescape"), SIGNING_KEY_ENV)
    except DataError as error:
        raise SecretError(error.culprit, error.reason, error.way_out) from None


def _private(pem: bytes, culprit: str) -> Ed25519Signer:
    crypto = library()
    reason = "holds no private key in PEM (PKCS #8)"
    try:
        key = crypto.serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        key, reason = None, "is encrypted"
    except (ValueError, crypto.exceptions.UnsupportedAlgorithm):
        key = None
    # Raised out here: the library's errors are not ours to vouch for around a secret.
    if key is None:
        way_out = MAKE_ONE
        if reason == "is encrypted":
            way_out = "`openssl pkey -in FILE` decrypts it; keep the result to yourself"
        raise DataError(culprit, reason, way_out)
    if not isinstance(key, crypto.ed25519.Ed25519PrivateKey):
        raise DataError(culprit, "is a private key of another kind than Ed25519", MAKE_ONE)
    return Ed25519Signer(key)


def read_public_key(path: Path) -> bytes:
    """The 32 raw bytes of a public key from a PEM file (SubjectPublicKeyInfo, RFC 8410).

    Raises:
        DataError: the file cannot be read, or holds no such key.
        MissingExtraError: cryptography is not installed.
    """
    pem = _read(path, "the file that ends in .pub, from the signer")
    if b"PRIVATE KEY-----" in pem:
        raise DataError(
            str(path), "is a private key", "give the public one, and keep this one to yourself"
        )
    crypto = library()
    try:
        key = crypto.serialization.load_pem_public_key(pem)
    except (ValueError, crypto.exceptions.UnsupportedAlgorithm):
        raise DataError(
            str(path), "holds no public key in PEM", "the signer's file that ends in .pub"
        ) from None
    if not isinstance(key, crypto.ed25519.Ed25519PublicKey):
        raise DataError(str(path), "is a public key of another kind than Ed25519")
    public: bytes = key.public_bytes_raw()
    if weak(public):
        raise DataError(str(path), "is a public key under which anyone can sign")
    return public


def write_key_pair(path: Path) -> KeyPair:
    """Make a key pair: the private key at ``path``, for its owner alone, ``path``.pub beside it.

    Neither is ever overwritten; where one cannot be written, none is left.

    Raises:
        ConfigError: one of the files exists.
        RunError: the folder cannot be written to.
        MissingExtraError: cryptography is not installed.
    """
    if not path.name or path.is_dir():
        raise ConfigError(str(path), "is a folder", "name a file in it")
    crypto = library()
    serialization = crypto.serialization
    public_path = path.with_name(path.name + ".pub")
    key = crypto.ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot be made: {error.strerror or error}"
        raise RunError(str(path.parent), reason, "name another folder") from error
    for each in (path, public_path):
        if each.exists() or each.is_symlink():
            raise _exists(each)
    _create(path, private, 0o600)
    try:
        _create(public_path, public, 0o644)
    except BaseException:  # Ctrl-C too: half a pair would stand in the way of the next try
        path.unlink(missing_ok=True)
        raise
    return KeyPair(path, public_path, fingerprint_of(key.public_key().public_bytes_raw()))


def _exists(path: Path) -> ConfigError:
    return ConfigError(str(path), "exists already", "keys are never overwritten: name another file")


def _not_written(path: Path, error: OSError) -> RunError:
    reason = f"cannot be written: {error.strerror or error}"
    return RunError(str(path), reason, "make room or give permission, or name another folder")


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a new file whole, or leave none.

    Raises:
        ConfigError: it exists.
        RunError: it cannot be written.
    """
    try:
        create_new(path, content, mode)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _not_written(path, error) from error
