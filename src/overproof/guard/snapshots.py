"""Snapshots: all that guard remembers, in one file, so that a replay goes on where it stood.

A snapshot is a magic word, then a zstd stream of frames: eight bytes of length, MessagePack. The
first frame is the header (format, identity), the last the BLAKE2b hash of all before it. Long
lists travel in pieces, so that writing a million accounts never holds their encoding whole. The
file is written beside its place and renamed: a crash leaves the old snapshot or the new one.

A snapshot made under another configuration, key or calibration would go on with another
experiment and call it the same; it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from overproof.errors import DataError, RunError
from overproof.guard.sketching import EnvironmentSketcher
from overproof.records.files import atomically

if TYPE_CHECKING:
    from overproof.guard.parts import Sketcher

__all__ = ["FORMAT", "check_key", "read_snapshot", "write_snapshot"]

FORMAT = 2
MAGIC = b"overproof guard\n"
PIECE = 4096
DEPTH = 6
MOST_KEYS = 256
LARGEST_FRAME = 1 << 31

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()


def write_snapshot(path: Path, identity: Mapping[str, str], state: Mapping[str, Any]) -> int:
    """Write ``state`` to ``path`` atomically; returns the bytes written.

    Args:
        path: the snapshot's place; its folder is made.
        identity: what a later run must agree with, such as the hash of the configuration.
        state: plain lists, dicts, numbers (64 bits), strings and bytes; iterators become lists.

    Raises:
        OSError: a full disk, a missing permission; the old snapshot is still there.
    """
    import pyarrow

    with atomically(path) as partial:
        with partial.open("wb") as stream:
            stream.write(MAGIC)
            with pyarrow.CompressedOutputStream(stream, "zstd") as out:
                digest = blake2b(digest_size=32)
                _put(out, digest, {"format": FORMAT, "identity": dict(identity)})
                for frame in _frames((), state):
                    _put(out, digest, frame)
                _put(out, digest, {"blake2b": digest.digest()})
        size = partial.stat().st_size  # closing the stream wrote its last bytes
    _sync_folder(path.parent)
    return size


def read_snapshot(
    path: Path,
    identity: Mapping[str, str],
    *,
    anew: str = "replay from the start, without --resume",
) -> dict[str, Any]:
    """Read a snapshot that was written under ``identity``.

    Args:
        path: the snapshot.
        identity: as `write_snapshot` was given.
        anew: how to do without it, in words.

    Raises:
        DataError: the file is missing, is no snapshot, or is damaged.
        RunError: it is of another format, configuration, key, calibration or log; the reason
            names every difference.
    """
    import pyarrow

    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError(str(path), "there is no such snapshot", anew) from None
    with stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise DataError(str(path), "is no snapshot of guard", "name one")
        try:
            with pyarrow.CompressedInputStream(stream, "zstd") as source:
                return _read(path, source, identity, anew)
        except (OSError, EOFError, msgspec.DecodeError, ValueError) as error:
            raise DataError(str(path), f"is damaged: {error}", anew) from error


def check_key(path: Path, key: str, sketcher: Sketcher | None) -> None:
    """See that later texts get fingerprints under the key of those in a snapshot.

    Args:
        path: the snapshot.
        key: its key's ``key_id``; empty where no text was met.
        sketcher: of later texts; opened if it has to be.

    Raises:
        RunError: it is another key.
        SecretError: it is not set.
    """
    if not key:
        return
    if isinstance(sketcher, EnvironmentSketcher):
        sketcher.open()
    if key != getattr(sketcher, "key_id", ""):
        reason = "was made with another key"
        raise RunError(str(path), reason, "set the key that it was made with")


def _read(path: Path, source: Any, identity: Mapping[str, str], anew: str) -> dict[str, Any]:
    digest = blake2b(digest_size=32)
    header = _take(source, digest)
    _check(path, header, identity, anew)
    state: dict[str, Any] = {}
    while True:
        expected = digest.digest()
        frame = _take(source, digest)
        if isinstance(frame, dict):
            if frame.get("blake2b") != expected:
                raise ValueError("its hash is not that of its content")
            return state
        keys, piece, value = frame
        home = state
        for key in keys[:-1]:
            home = home[key]
        if piece:
            home.setdefault(keys[-1], []).extend(value)
        else:
            home[keys[-1]] = value


def _check(path: Path, header: Any, identity: Mapping[str, str], anew: str) -> None:
    if not isinstance(header, dict) or "format" not in header:
        raise ValueError("it has no header")
    if header["format"] != FORMAT:
        raise RunError(
            str(path),
            f"is a snapshot of format {header['format']}; this version reads {FORMAT}",
            anew,
        )
    theirs = header["identity"]
    other = sorted(name for name in {*theirs, *identity} if theirs.get(name) != identity.get(name))
    if other:
        raise RunError(
            str(path),
            f"was made with another {', another '.join(other)}",
            f"give what it was made with, or {anew}",
        )


def _frames(keys: tuple[str, ...], value: Any) -> Iterator[tuple[Sequence[str], bool, Any]]:
    """A state in pieces: (keys on the way to it, is it a piece of a list, the plain value)."""
    if _opened(keys, value):
        if keys:
            yield keys, False, {}
        for key, item in value.items():
            yield from _frames((*keys, key), item)
    elif (isinstance(value, list | tuple) and len(value) > PIECE) or isinstance(value, Iterator):
        yield keys, True, []
        items = iter(value)
        while piece := list(islice(items, PIECE)):
            yield keys, True, piece
    else:
        yield keys, False, value


def _opened(keys: tuple[str, ...], value: Any) -> bool:
    """Is this a small dict of parts, each of which may be long?"""
    return (
        isinstance(value, Mapping)
        and len(keys) < DEPTH
        and len(value) <= MOST_KEYS
        and all(type(key) is str for key in value)
    )


def _put(out: Any, digest: blake2b, frame: Any) -> None:
    data = _ENCODER.encode(frame)
    data = len(data).to_bytes(8, "big") + data
    digest.update(data)
    out.write(data)


def _take(source: Any, digest: blake2b) -> Any:
    length = _exactly(source, 8)
    size = int.from_bytes(length, "big")
    if size > LARGEST_FRAME:
        raise ValueError("a frame has no sensible length")
    data = _exactly(source, size)
    digest.update(length)
    digest.update(data)
    return _DECODER.decode(data)


def _exactly(source: Any, size: int) -> bytes:
    data = bytes(source.read(size))
    if len(data) != size:
        raise EOFError("it ends early")
    return data


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last; a file system that cannot do so keeps its own order."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
