"""What an export is and how it was proved: ``export.json`` beside the files it speaks of.

``overproof export STUDENT`` writes to ``STUDENT/export/`` where nothing else is said::

    NAME.q8_0.gguf         one file a format
    safetensors/           a directory that transformers and vLLM load
    export.json            ``Exports``: one report a format
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from overproof.errors import StudentError
from overproof.records.exchange import Record
from overproof.records.files import write_atomically

__all__ = ["ExportFormat", "ExportReport", "Exports", "GgufProof", "HfProof"]

ExportFormat = Literal["gguf-f16", "gguf-q8_0", "gguf-q4_0", "safetensors"]
MANIFEST = "export.json"


class HfProof(Record):
    """A directory loaded again by transformers, against the student in memory.

    ``worst_logit`` is the largest absolute difference of a logit over ``positions``;
    ``same_answers`` how many of ``prompts`` get the same greedy answer. ``same_tokens`` texts of
    ``texts`` have the same tokens. ``merge_difference`` is what merging a LoRA moved a logit by.
    """

    dtype: str
    prompts: int
    positions: int
    worst_logit: float
    same_answers: int
    texts: int
    same_tokens: int
    merge_difference: float | None = None


class GgufProof(Record):
    """A GGUF file run by llama.cpp, against transformers on the weights it was made of.

    Over ``positions`` of ``prompts`` chats, given the same tokens before: ``agreement`` is the
    share where both have the same likeliest token (or llama.cpp's is within 0.02 nats of it: a tie
    but for rounding), ``mean_difference`` the mean absolute difference, in nats, of the
    log-probability of llama.cpp's likeliest token, and ``worst_difference`` the largest.
    ``same_answers`` is the share of chats with the same greedy answer up to ``answer_tokens``
    tokens. ``texts`` and as many as ``prompts`` rendered chats were split into the same tokens.
    ``least_agreement`` and ``most_difference`` are what was tolerated.
    """

    prompts: int
    positions: int
    agreement: float
    mean_difference: float
    worst_difference: float
    same_answers: float
    answer_tokens: int
    texts: int
    least_agreement: float
    most_difference: float
    engine: str


class ExportReport(Record):
    """One export: ``file`` is relative to ``export.json``, a file or a directory."""

    format: ExportFormat
    student: str
    file: str
    bytes: int
    sha256: str
    seconds: float
    proof: GgufProof | HfProof
    notes: tuple[str, ...] = ()


class Exports(Record):
    """Every export of a directory, one a format, the newest of each."""

    exports: tuple[ExportReport, ...] = Field(default=())

    @classmethod
    def load(cls, directory: Path) -> Exports:
        """Read ``export.json``; none where there is no such file.

        Raises:
            StudentError: it cannot be read.
        """
        path = directory / MANIFEST
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {str(error).splitlines()[0]}"
            raise StudentError(str(path), reason, "remove it and export again") from error

    def add(self, report: ExportReport, directory: Path) -> Exports:
        """Write these with ``report`` in the place of an earlier one of its format."""
        others = tuple(e for e in self.exports if e.file != report.file)
        told = Exports(exports=(*others, report))
        text = json.dumps(told.model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_atomically(directory / MANIFEST, text + "\n")
        return told
