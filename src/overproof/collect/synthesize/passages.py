"""Passages: documents cut at the ends of paragraphs and sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from overproof.config.synthesize import Documents
from overproof.errors import ConfigError, DataError
from overproof.records.hashing import text_hash
from overproof.records.table_format import ENDINGS
from overproof.records.tables import iter_table

__all__ = ["Passage", "cut", "document_files", "read_passages"]

TEXT_ENDINGS = (".txt", ".md", ".markdown")
_PARAGRAPH = re.compile(r"\n[ \t\r]*(?:\n[ \t\r]*)+")
# A sentence ends at its stop, with closing quotes and brackets, before white space; in scripts
# without spaces, at the stop itself.
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])")


@dataclass(frozen=True)
class Passage:
    """A piece of a document. ``start`` is its first character there, counting from 0."""

    text: str
    source: str
    number: int
    start: int

    @property
    def item(self) -> str:
        """Its content address."""
        return text_hash(self.text)


def read_passages(config: Documents, home: Path) -> tuple[list[Passage], list[str]]:
    """The distinct passages of all documents, with what was left out, in words.

    Raises:
        ConfigError: a name or pattern that no file has.
        DataError: a file that cannot be read, or no passage in any.
    """
    passages: dict[str, Passage] = {}
    repeats = short = 0
    files = document_files(config.files, home)
    for path in files:
        for source, text in _documents(path, config):
            for number, (start, piece) in enumerate(cut(text, config.chunk), start=1):
                if len(piece) < config.min_chunk:
                    short += 1
                    continue
                passage = Passage(piece, source, number, start)
                repeats += passage.item in passages
                passages.setdefault(passage.item, passage)
    notes = [f"passages: {len(passages)}, from {len(files)} file{'s' if len(files) != 1 else ''}"]
    if short:
        notes.append(f"passages of fewer than {config.min_chunk} characters left out: {short}")
    if repeats:
        notes.append(f"repeats of a passage left out: {repeats}")
    if not passages:
        raise DataError(
            ", ".join(config.files),
            f"holds no passage of at least {config.min_chunk} characters",
            "lower min_chunk, or name other files",
        )
    return list(passages.values()), notes


def document_files(names: Sequence[str], home: Path) -> list[Path]:
    """The files that names and patterns stand for, each once, patterns in order of name.

    Raises:
        ConfigError: a name or pattern that no file has, or a file of a kind that is not read.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = home / name
        matches = [path]
        if not path.exists() and any(sign in name for sign in "*?["):
            root, pattern = (Path(path.anchor), str(path.relative_to(path.anchor)))
            matches = sorted(match for match in root.glob(pattern) if match.is_file())
        if path.is_dir():
            raise ConfigError(
                "synthesize.files", f"{name} is a folder", f"say {name.rstrip('/')}/*.txt"
            )
        if not matches or not matches[0].exists():
            raise ConfigError("synthesize.files", f"there is no file {name}", _nearest(path))
        found.update(dict.fromkeys(matches))
    for path in found:
        if not _is_text(path) and not _is_table(path):
            raise ConfigError(
                "synthesize.files",
                f"{path.name}: its ending {path.suffix!r} is not one that is read",
                f"name {', '.join((*TEXT_ENDINGS, *ENDINGS))} files; turn others into text first",
            )
    return list(found)


def cut(text: str, size: int) -> list[tuple[int, str]]:
    """Cut a text into pieces of at most ``size`` characters, at the best places there are.

    Paragraphs are joined while they fit; one that is too long is cut at the ends of sentences, and
    a sentence that is too long between words, and a word in the middle. Nothing but white space
    is lost.

    Returns:
        Pieces with their first character's place in the text.
    """
    pieces: list[tuple[int, int]] = []
    for start, end in _spans(text, size):
        if pieces and end - pieces[-1][0] <= size:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return [(start, text[start:end]) for start, end in pieces]


def _spans(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``size`` characters: paragraphs, else sentences, else words."""
    for start, end in _split(text, 0, len(text), _PARAGRAPH):
        if end - start <= size:
            yield start, end
            continue
        for first, last in _split(text, start, end, _SENTENCE):
            if last - first <= size:
                yield first, last
                continue
            yield from _by_words(text, first, last, size)


def _split(text: str, start: int, end: int, at: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Spans between the matches of a pattern, white space trimmed, empty ones left out."""
    begin = start
    for found in at.finditer(text, start, end):
        # Closing quotes belong to the sentence before.
        stop = found.start() + len(found[0].rstrip()) if found[0] else found.start()
        yield from _trimmed(text, begin, stop)
        begin = found.end()
    yield from _trimmed(text, begin, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _by_words(text: str, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    while end - start > size:
        space = max(text.rfind(sign, start + 1, start + size + 1) for sign in " \n\t")
        stop = space if space > start else start + size
        yield from _trimmed(text, start, stop)
        start = stop
    yield from _trimmed(text, start, end)


def _documents(path: Path, config: Documents) -> Iterator[tuple[str, str]]:
    """The documents of a file, each with what to call it."""
    if not _is_text(path):
        rows = iter_table(path, columns=[config.column], encoding=config.encoding)
        for number, row in enumerate(rows, start=1):
            value = row[config.column]
            if value is None:
                continue
            if not isinstance(value, str):
                raise DataError(
                    f"{path}: row {number}",
                    f"column {config.column!r} holds {type(value).__name__}, not text",
                )
            yield f"{path.name}: row {number}", value
        return
    try:
        encoding = "utf-8-sig" if config.encoding.lower() in ("utf-8", "utf8") else config.encoding
        yield path.name, path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            str(path),
            f"is not {config.encoding}: {error.reason} at byte {error.start + 1}",
            "say encoding = 'latin-1', or whatever it is in",
        ) from None
    except LookupError:
        raise ConfigError(
            "synthesize.encoding", f"there is no encoding {config.encoding!r}"
        ) from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_ENDINGS


def _is_table(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(".gz")).suffix in ENDINGS


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return "names are relative to the recipe's directory"
    there = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "names are relative to the recipe's directory"
