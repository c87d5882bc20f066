"""The student at run time: ONNX Runtime and a fast tokenizer, without torch.

Shapes: N texts, B batch, T tokens of the longest text in a batch, L labels.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from overproof.errors import StudentError
from overproof.records.certificate import Certificate
from overproof.records.student import StudentCard

__all__ = ["PromptFrame", "Scores", "Student", "find_student", "log_softmax"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# On a CPU, passes beyond the caches are slower: MiniLM labelled 113 texts/s with 512 tokens a pass,
# 70 with 2,048 and 84 with 64 (bench/predict.py compares whole runs).
TOKENS_A_PASS = 512
INPUTS = {"input_ids", "attention_mask"}
WINDOW = 50  # batches that are tokenised and sorted by length together; bounds the memory


@dataclass(frozen=True)
class PromptFrame:
    """The text that the recipe's user template puts before and after ``{{ input }}``.

    Kept as ``prompt.json``, ``{"prefix": str, "suffix": str}``, in the student or the run
    directory. A program that talked to the teacher sends the input inside this frame, but the
    student was trained on the input alone.
    """

    prefix: str = ""
    suffix: str = ""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The frame of a student directory or its run; an empty one where there is none.

        Raises:
            StudentError: when prompt.json is there and not what it should be.
        """
        for home in (directory, directory.resolve().parent.parent):
            path = home / "prompt.json"
            if not path.is_file():
                continue
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                prefix, suffix = data["prefix"], data["suffix"]
                if not (isinstance(prefix, str) and isinstance(suffix, str)):
                    raise TypeError("prefix and suffix must be texts")
            except (ValueError, KeyError, TypeError) as error:
                raise StudentError(
                    str(path),
                    f"is not a prompt frame ({type(error).__name__}: {error})",
                    'write {"prefix": "…", "suffix": "…"}, or remove the file',
                ) from error
            return cls(prefix, suffix)
        return cls()

    def input_of(self, message: str) -> str:
        """The input inside ``message``; the whole message where the frame is not around it.

        White space at the outer ends of the message may differ from the template's.
        """
        for text, prefix, suffix in (
            (message, self.prefix, self.suffix),
            (message.strip(), self.prefix.lstrip(), self.suffix.rstrip()),
        ):
            inner = len(text) - len(prefix) - len(suffix)
            if inner >= 0 and text.startswith(prefix) and text.endswith(suffix):
                return text[len(prefix) : len(prefix) + inner]
        return message


@dataclass(frozen=True)
class Scores:
    """``logits`` (N, L) before temperature, and the tokens (N,) that were read of each text."""

    logits: Floats
    n_tokens: Ints


def log_softmax(logits: Floats) -> Floats:
    """Natural logarithm of the softmax over the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normaliser: Floats = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.asarray(shifted - normaliser, dtype=np.float64)


class Student:
    """A finished student, ready to label texts. Safe to use from several threads.

    Attributes:
        card: what it is and how it was made.
        directory: the student directory.
        labels: the labels, in the order of every probability vector.
        frame: what the recipe's prompt puts around an input.
        threads: CPU threads that inference uses.
    """

    def __init__(
        self, card: StudentCard, directory: Path, tokenizer: Any, session: Any, threads: int
    ) -> None:
        self.card = card
        self.directory = directory
        self.labels = card.labels
        self.frame = PromptFrame.load(directory)
        self.threads = threads
        self._tokenizer = tokenizer
        self._pad_id = int((tokenizer.padding or {}).get("pad_id", 0))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(card.max_length)
        self._session = session

    @classmethod
    def load(cls, directory: Path, *, threads: int | None = None) -> Self:
        """Load a student directory, or the student that a run directory recommends.

        Args:
            directory: ``RUN/students/NAME``, or ``RUN``.
            threads: CPU threads of inference; all that this process may use when left out.

        Raises:
            StudentError: when there is no finished student, or a file of it cannot be used.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        directory = find_student(directory)
        card = StudentCard.load(directory)
        try:
            tokenizer = Tokenizer.from_file(str(_file(directory, "tokenizer.json")))
        except StudentError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise _broken(directory / "tokenizer.json", "tokenizer", error) from error
        threads = threads or _cpus()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors reach us as exceptions
        # Threads that spin while they wait cost half as much again in CPU time, and starve
        # whatever else runs here, such as the server's event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = _file(directory, "model.onnx")
        try:
            session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise _broken(model, "ONNX model", error) from error
        _check_model(model, session, card)
        return cls(card, directory, tokenizer, session, threads)

    def score(self, texts: Sequence[str], batch_size: int = 64) -> Scores:
        """Logits and token counts of ``texts``, in their order.

        Texts are sorted by length before they are cut into batches of at most ``batch_size``, so
        that little is padded.

        Raises:
            StudentError: when the model fails or gives a logit that is not finite.
        """
        logits = np.empty((len(texts), len(self.labels)), dtype=np.float64)
        n_tokens = np.empty(len(texts), dtype=np.int64)
        window = batch_size * WINDOW
        for start in range(0, len(texts), window):
            encodings = self._tokenizer.encode_batch_fast(list(texts[start : start + window]))
            tokens = [encoding.ids for encoding in encodings]
            n_tokens[start : start + window] = [len(ids) for ids in tokens]
            for batch in _by_length(tokens, batch_size):
                logits[start + batch] = self._run([tokens[i] for i in batch])
        return Scores(logits, n_tokens)

    def logits(self, texts: Sequence[str], batch_size: int = 64) -> Floats:
        """Logits (N, L) before temperature."""
        return self.score(texts, batch_size).logits

    def log_probabilities(self, logits: Floats) -> Floats:
        """Calibrated log-probabilities, in nats: ``log softmax(logits / temperature)``."""
        return log_softmax(logits / self.card.temperature)

    def predict_proba(self, texts: Sequence[str], batch_size: int = 64) -> Floats:
        """Calibrated probabilities (N, L); each row sums to one."""
        return np.exp(self.log_probabilities(self.logits(texts, batch_size)))

    def _run(self, tokens: Sequence[Sequence[int]]) -> Floats:
        longest = max(1, *(len(ids) for ids in tokens))  # (B, T) with T at least 1
        input_ids = np.full((len(tokens), longest), self._pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        model = self.directory / "model.onnx"
        try:
            logits = self._session.run(["logits"], feed)[0]
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise StudentError(
                str(model), f"fails on a batch of {input_ids.shape}: {error}", "train it again"
            ) from error
        if logits.shape != (len(tokens), len(self.labels)) or not np.isfinite(logits).all():
            raise StudentError(
                str(model),
                f"gives no finite logit for each of the {len(self.labels)} labels",
                "train it again",
            )
        return np.asarray(logits, dtype=np.float64)


def _cpus() -> int:
    """CPUs that this process may use; not every system can tell them from all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _by_length(tokens: Sequence[Sequence[int]], batch_size: int) -> Iterator[Ints]:
    """Indices of batches, longest texts first: the runtime's memory then grows only once.

    A batch holds at most ``batch_size`` texts and, unless it is one text alone, at most
    ``TOKENS_A_PASS`` tokens with its padding.
    """
    lengths = [max(1, len(ids)) for ids in tokens]
    order = np.argsort([-length for length in lengths], kind="stable")
    start = 0
    while start < len(order):
        size = min(batch_size, max(1, TOKENS_A_PASS // lengths[order[start]]))
        yield order[start : start + size]
        start += size


def find_student(directory: Path) -> Path:
    """The student directory that ``directory`` stands for.

    A run directory stands for the student that its certificate recommends, else for its only
    finished student.

    Raises:
        StudentError: when there is none, or more than one and no recommendation.
    """
    if (directory / "student.json").is_file():
        return directory
    if not directory.is_dir():
        raise _no_directory(directory)
    home = directory / "students"
    finished = {path.parent.name: path.parent for path in sorted(home.glob("*/student.json"))}
    recommended = _recommended(directory / "certificate.json")
    if recommended is not None:
        for name, found in finished.items():
            if recommended in (name, StudentCard.load(found).name):
                return found
        raise StudentError(
            str(directory / "certificate.json"),
            f"recommends the student {recommended!r}, which is not in {home}",
            "run `overproof train`, or name a student directory",
        )
    if len(finished) == 1:
        return next(iter(finished.values()))
    if finished:
        raise StudentError(
            str(directory),
            "holds several students and no certificate that recommends one",
            "name one of them: " + ", ".join(str(path) for path in finished.values()),
        )
    raise StudentError(
        str(directory),
        "holds no finished student (no student.json)",
        "name a directory such as RUN/students/encoder, or run `overproof train`",
    )


def _recommended(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        return Certificate.model_validate_json(path.read_bytes()).recommended
    except ValueError as error:
        raise StudentError(
            str(path), f"is not a certificate: {error}", "name a student directory instead"
        ) from error


def _no_directory(directory: Path) -> StudentError:
    parent = directory.parent
    there = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    near = difflib.get_close_matches(directory.name, there, n=1, cutoff=0.5)
    way_out = f"did you mean {parent / near[0]}?" if near else "name RUN/students/NAME, or RUN"
    return StudentError(str(directory), "is not a directory", way_out)


def _file(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise StudentError(str(path), "is missing", "run `overproof train` again to export it")
    return path


def _broken(path: Path, what: str, error: Exception) -> StudentError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return StudentError(
        str(path), f"is not a usable {what}: {first}", "run `overproof train` again"
    )


def _check_model(path: Path, session: Any, card: StudentCard) -> None:
    inputs = {node.name for node in session.get_inputs()}
    outputs = {node.name: node.shape for node in session.get_outputs()}
    if inputs != INPUTS or "logits" not in outputs:
        raise StudentError(
            str(path),
            f"takes {sorted(inputs)} and gives {sorted(outputs)}, not a student's "
            "input_ids, attention_mask → logits",
            "run `overproof train` again",
        )
    width = outputs["logits"][-1]
    if isinstance(width, int) and width != len(card.labels):
        raise StudentError(
            str(path),
            f"gives {width} logits for the {len(card.labels)} labels of student.json",
            "the two files are not of one student: run `overproof train` again",
        )
