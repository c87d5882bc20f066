"""What a teacher thought at every token of a dataset, on disk: sparse, sharded, memory-mapped.

    writer = StoreWriter(directory, k=32, vocabulary=49152, kind="top", fingerprint=...)
    for row in rows:                        # one call a training row, in row order
        writer.append(ids, logprobs, tail, known)
    store = writer.finish()
    store.read(17).logprobs                 # (A, K)

Layout of a store::

    00000.bin ...    records of ``logprob_codec``, one a token; a row never spans two files
    rows.bin         uint32: tokens of each row
    manifest.json    ``StoreManifest``, written last

A store is written beside its place and moved there whole: one without a manifest is not a store.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError
from overproof.records.hashing import file_sha256
from overproof.records.logprob_codec import (
    Kind,
    SparseRow,
    decode,
    encode,
    record_dtype,
)
from overproof.records.logprob_manifest import Shard, StoreManifest

__all__ = ["LogprobStore", "Shard", "SparseRow", "StoreManifest", "StoreWriter"]

SHARD_TOKENS = 1 << 17  # 14 MB at k = 32
AGAIN = "remove the directory: it is made again from the teacher's answers"


class LogprobStore:
    """A finished store, opened by ``LogprobStore.open``. It may be read by several processes.

    Attributes:
        directory: where it lies.
        manifest: what it is.
        lengths: tokens of each row.
    """

    def __init__(
        self, directory: Path, manifest: StoreManifest, lengths: npt.NDArray[np.int64]
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.lengths = lengths
        self._ends = np.cumsum([shard.rows for shard in manifest.shards], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._open: dict[int, npt.NDArray[Any]] = {}

    @classmethod
    def open(cls, directory: Path) -> LogprobStore:
        """Open a store after checking the size of every file and the hash of the row index.

        Raises:
            DataError: it is no finished store, or a file is missing or not what was written.
        """
        path = directory / "manifest.json"
        try:
            manifest = StoreManifest.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError(str(directory), "holds no finished log-prob store", AGAIN) from error
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(str(path), f"is damaged: {reason}", AGAIN) from error
        for shard in manifest.shards:
            file = directory / shard.file
            if file.parent != directory or not file.is_file():
                raise DataError(str(file), "is missing", AGAIN)
            wanted = record_dtype(shard.places, manifest.vocabulary).itemsize * shard.tokens
            if not file.stat().st_size == shard.size == wanted:
                reason = f"has {file.stat().st_size} bytes, not the {wanted} that were written"
                raise DataError(str(file), reason, AGAIN)
        index = directory / "rows.bin"
        if not index.is_file() or file_sha256(index) != manifest.rows_sha256:
            raise DataError(str(index), "is not the index that was written", AGAIN)
        lengths = np.fromfile(index, "<u4").astype(np.int64)
        if len(lengths) != manifest.rows or int(lengths.sum()) != manifest.tokens:
            raise DataError(str(index), "does not agree with the manifest", AGAIN)
        return cls(directory, manifest, lengths)

    def __len__(self) -> int:
        return self.manifest.rows

    def __reduce__(self) -> tuple[Any, ...]:
        return LogprobStore.open, (self.directory,)  # a worker process maps the files anew

    @property
    def k(self) -> int:
        """Places that ``read`` returns: as many as the fullest token uses."""
        return self.manifest.k

    @property
    def vocabulary(self) -> int:
        """Ids are below it."""
        return self.manifest.vocabulary

    @property
    def kind(self) -> Kind:
        """``top``: the likeliest tokens. ``sampled``: tokens drawn, with their shares."""
        return self.manifest.kind

    @property
    def fingerprint(self) -> str:
        """What it was made of."""
        return self.manifest.fingerprint

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return self.manifest.tokens

    @property
    def bytes_per_token(self) -> float:
        """Bytes on disk a token: records and index, without the manifest; 0 when empty."""
        size = sum(shard.size for shard in self.manifest.shards) + 4 * len(self)
        return size / self.tokens if self.tokens else 0.0

    def read(self, row: int) -> SparseRow:
        """What is known of the tokens of a row; see ``SparseRow`` for shapes.

        Raises:
            IndexError: there is no such row.
            DataError: the file cannot be mapped any more.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a store of {len(self)}")
        number = int(np.searchsorted(self._ends, row, side="right"))
        shard = self.manifest.shards[number]
        first_row = int(self._ends[number]) - shard.rows
        start = int(self._starts[row] - self._starts[first_row])
        records = self._mapped(number)[start : start + int(self.lengths[row])]
        manifest = self.manifest
        return decode(records, k=manifest.k, vocabulary=manifest.vocabulary, kind=manifest.kind)

    def verify(self) -> None:
        """Hash every file.

        Raises:
            DataError: a file is not what was written.
        """
        for shard in self.manifest.shards:
            if file_sha256(self.directory / shard.file) != shard.sha256:
                raise DataError(str(self.directory / shard.file), "has changed", AGAIN)

    def _mapped(self, number: int) -> npt.NDArray[Any]:
        if (mapped := self._open.get(number)) is None:
            shard = self.manifest.shards[number]
            dtype = record_dtype(shard.places, self.manifest.vocabulary)
            if not shard.tokens:  # nothing to map: rows without a token
                mapped = np.zeros(0, dtype)
            else:
                try:
                    mapped = np.memmap(self.directory / shard.file, dtype, "r")
                except (OSError, ValueError) as error:
                    culprit = str(self.directory / shard.file)
                    raise DataError(culprit, f"cannot be read: {error}", AGAIN) from error
            self._open[number] = mapped
        return mapped


class StoreWriter:
    """Writes a store, row by row; as a context manager it leaves nothing behind on an error.

    Args:
        directory: where the store will be; its parent is made.
        k: places a token at most; for ``sampled`` also how many tokens are drawn.
        vocabulary: ids are below it.
        kind: see ``LogprobStore.kind``.
        fingerprint: names everything that the store is made of.
        shard_tokens: a file is closed when it holds so many tokens.

    Raises:
        ValueError: ``k`` or ``vocabulary`` is out of range.
        DataError: the directory cannot be made.
    """

    def __init__(
        self,
        directory: Path,
        *,
        k: int,
        vocabulary: int,
        kind: Kind,
        fingerprint: str,
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        record_dtype(k, vocabulary)
        self._directory, self._k, self._vocabulary = Path(directory), k, vocabulary
        self._kind: Kind = kind
        self._fingerprint, self._shard_tokens = fingerprint, shard_tokens
        self._rows: list[npt.NDArray[Any]] = []  # records, of the shard under way
        self._waiting = 0
        self._lengths: list[int] = []
        self._shards: list[Shard] = []
        self._known = 0
        parent, name = self._directory.parent, self._directory.name
        self._partial = parent / f".{name}.{secrets.token_hex(4)}.{os.getpid()}.partial"
        self._check_place()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for left in parent.glob(f".{name}.*.partial"):
                if not _is_running(left.name.split(".")[-2]):
                    shutil.rmtree(left, ignore_errors=True)
            self._partial.mkdir()
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon()

    def append(
        self,
        ids: npt.NDArray[Any],
        logprobs: npt.NDArray[Any],
        tail: npt.NDArray[Any],
        known: npt.NDArray[Any],
    ) -> None:
        """Add the next row.

        Args:
            ids: (A, K) int, K at most ``k``.
            logprobs: (A, K), -inf in places that hold nothing.
            tail: (A,) log of the mass that the places leave out, -inf for none.
            known: (A,) bool; where false, the rest is not looked at.

        Raises:
            ValueError: shapes, ids or masses that cannot be; see ``logprob_codec.encode``.
            DataError: the disk is full or not to be written to.
        """
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self._k:
            raise ValueError(f"ids are of shape {ids.shape}, not (A, K) with K in 1..{self._k}")
        n, k = ids.shape
        known = np.asarray(known, np.bool_)
        wide_ids, wide = np.zeros((n, self._k), np.int64), np.full((n, self._k), -np.inf)
        wide_ids[:, :k] = ids
        wide[:, :k] = np.where(known[:, None], logprobs, -np.inf)
        records = encode(
            wide_ids,
            wide,
            np.where(known, tail, -np.inf),
            known,
            vocabulary=self._vocabulary,
            kind=self._kind,
            draws=self._k,
        )
        self._rows.append(records)
        self._lengths.append(len(ids))
        self._known += int(known.sum())
        self._waiting += len(ids)
        if self._waiting >= self._shard_tokens:
            self._write_shard()

    def finish(self, report: dict[str, Any] | None = None) -> LogprobStore:
        """Write what is left and move the store to its place, replacing what lies there.

        Args:
            report: JSON to keep in the manifest.

        Raises:
            DataError: the disk is full or not to be written to.
        """
        self._write_shard()
        lengths = np.asarray(self._lengths, "<u4").tobytes()
        manifest = StoreManifest(
            kind=self._kind,
            k=max((shard.places for shard in self._shards), default=1),
            draws=self._k if self._kind == "sampled" else 0,
            vocabulary=self._vocabulary,
            fingerprint=self._fingerprint,
            rows=len(self._lengths),
            tokens=sum(self._lengths),
            known=self._known,
            rows_sha256=hashlib.sha256(lengths).hexdigest(),
            shards=tuple(self._shards),
            report=report or {},
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
        try:
            self._write("rows.bin", lengths)
            self._write("manifest.json", text.encode() + b"\n")
            self._move()
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            self.abandon()
        return LogprobStore.open(self._directory)

    def abandon(self) -> None:
        """Remove what was written so far; after ``finish`` there is nothing to remove."""
        self._rows = []
        shutil.rmtree(self._partial, ignore_errors=True)

    def _write_shard(self) -> None:
        if not self._rows:
            return
        rows = np.concatenate(self._rows)
        places = max(1, int(rows["count"].max(initial=1)))
        narrow = np.zeros(len(rows), record_dtype(places, self._vocabulary))
        for name in narrow.dtype.names or ():  # what is in use stands at the front
            kept = narrow[name].shape[1:]
            narrow[name] = rows[name][:, : kept[0]] if kept else rows[name]
        content = narrow.tobytes()
        file = f"{len(self._shards):05}.bin"
        try:
            self._write(file, content)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error
        self._shards.append(
            Shard(
                file=file,
                rows=len(self._rows),
                tokens=len(rows),
                places=places,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        )
        self._rows, self._waiting = [], 0

    def _write(self, name: str, content: bytes) -> None:
        with (self._partial / name).open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def _move(self) -> None:
        """Put the finished directory in its place, in one step."""
        self._check_place()
        if self._directory.exists():
            old = self._partial.with_name(f".{self._directory.name}.old.{os.getpid()}.partial")
            shutil.rmtree(old, ignore_errors=True)
            self._directory.rename(old)
            self._partial.rename(self._directory)
            shutil.rmtree(old, ignore_errors=True)
        else:
            self._partial.rename(self._directory)

    def _check_place(self) -> None:
        """Nothing but a store is ever replaced."""
        place = self._directory
        if not place.exists() or (place / "manifest.json").is_file():
            return
        if not place.is_dir() or any(place.iterdir()):
            raise DataError(
                str(place), "is there and is no log-prob store", "move it away, or remove it"
            )

    def _unwritable(self, error: OSError) -> DataError:
        said = error.strerror or str(error)
        return DataError(
            str(self._directory),
            f"cannot be written: {said}",
            "free some space (a store takes about 110 bytes a token at k = 32), or check who may "
            "write there",
        )


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
