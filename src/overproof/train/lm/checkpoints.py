"""Checkpoints that a kill at any moment cannot spoil.

Layout, under the directory that ``fit`` was given::

    KEY/step-000050/            a whole checkpoint of the student that KEY is the hash of
        weights.safetensors     what is trained, and nothing else
        state.pt                optimizer, schedule, random states
        trainer_state.json      as transformers' Trainer reads it
        curve.json              what was measured so far
        complete.json           sizes of the files above; written last
    KEY/writing-000100/         one that is being written, or was when the process was killed

Every file is synced before ``complete.json`` is written, and that before the directory gets its
name. The one before goes only once the next is whole and a step after it was finite: weights may
be spoiled without showing it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overproof.errors import StudentError
from overproof.records.files import write_atomically

__all__ = ["Checkpoint", "Checkpoints"]

MARKER = "complete.json"
WEIGHTS = "weights.safetensors"
STATE = "state.pt"
CURVE = "curve.json"
KEY_LENGTH = 16


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk, taken after ``step`` steps."""

    path: Path
    step: int

    def weights(self) -> dict[str, Any]:
        """Tensors by the names of their parameters, on the CPU."""
        from safetensors.torch import load_file

        return dict(self._read(WEIGHTS, load_file))

    def state(self) -> dict[str, Any]:
        """Optimizer, schedule and random states."""
        import torch

        def load(path: Path) -> Any:
            return torch.load(path, map_location="cpu", weights_only=True)

        return dict(self._read(STATE, load))

    def curve(self) -> dict[str, Any]:
        """What was measured until then."""
        return dict(self._read(CURVE, lambda path: json.loads(path.read_text(encoding="utf-8"))))

    def _read(self, name: str, load: Callable[[Path], Any]) -> Any:
        path = self.path / name
        try:
            return load(path)
        except Exception as error:
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise StudentError(
                str(path),
                f"is damaged: {said}",
                f"remove {self.path}: training then begins anew",
            ) from error


class Checkpoints:
    """The checkpoints of one student.

    Args:
        directory: for all of them; made when the first is written.
        key: hash of everything that the weights depend on. Those of another key are left alone.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory / key.rpartition(":")[2][:KEY_LENGTH]
        self._may_have_two = True

    def last(self, before: int | None = None) -> Checkpoint | None:
        """The latest whole one, of less than ``before`` steps; ``None`` where there is none."""
        found = [one for one in self._whole() if before is None or one.step < before]
        return max(found, key=lambda one: one.step, default=None)

    def settle(self) -> None:
        """A finite step has followed the latest: let those before it go."""
        if self._may_have_two:
            self._keep(self.last())
            self._may_have_two = False

    def doubt(self, step: int) -> None:
        """No finite step followed that of ``step``: let it go, where an earlier one is there."""
        earlier = self.last(before=step)
        if earlier is not None:
            self._keep(earlier)

    def _keep(self, *kept: Checkpoint | None) -> None:
        """Remove all others, and nothing where there is none to keep."""
        paths = {one.path for one in kept if one is not None}
        for old in self.directory.glob("step-*"):
            if paths and old not in paths:
                shutil.rmtree(old, ignore_errors=True)

    def _whole(self) -> list[Checkpoint]:
        found = []
        for path in self.directory.glob("step-*"):
            try:
                marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
                sizes = {name: (path / name).stat().st_size for name in marker["files"]}
            except (OSError, ValueError, KeyError):
                continue
            if sizes == marker["files"]:
                found.append(Checkpoint(path, int(marker["step"])))
        return found

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Any],
        state: Mapping[str, Any],
        curve: Mapping[str, Any],
        trainer_state: Callable[[Path], None],
    ) -> Checkpoint:
        """Write a checkpoint; the one before stays until ``settle`` is called.

        Args:
            step: how many steps were taken.
            weights: tensors by name.
            state: for ``torch.save``.
            curve: for JSON.
            trainer_state: writes transformers' own state to a path.

        Raises:
            StudentError: it could not be written, for want of room or otherwise; the last whole
                one is still there.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        final = self.directory / f"step-{step:06d}"
        partial = self.directory / f"writing-{step:06d}"
        before = self.last(before=step)
        try:
            self._clear()
            partial.mkdir(parents=True)
            tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
            save_file(tensors, partial / WEIGHTS)
            torch.save(dict(state), partial / STATE)
            trainer_state(partial / "trainer_state.json")
            (partial / CURVE).write_text(json.dumps(curve), encoding="utf-8")
            files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
            for name in files:
                _sync(partial / name)
            write_atomically(partial / MARKER, json.dumps({"step": step, "files": files}))
            _sync(partial)
            if final.exists():  # not whole, or it would have been resumed from
                shutil.rmtree(final)
            partial.rename(final)
            _sync(self.directory)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise self._unwritten(step, partial, error) from error
        made = Checkpoint(final, step)
        self._keep(before, made)
        self._may_have_two = True
        return made

    def _clear(self) -> None:
        """Remove what a killed process left half written."""
        for path in self.directory.glob("writing-*"):
            shutil.rmtree(path)

    def _unwritten(self, step: int, path: Path, error: Exception) -> StudentError:
        last = self.last()
        said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        free = shutil.disk_usage(_existing(self.directory)).free
        kept = f"; the one of step {last.step} is kept" if last else ""
        return StudentError(
            f"the checkpoint of step {step} ({path})",
            f"could not be written: {said} ({free / 1e9:.1f} GB are free there)" + kept,
            "make room (a checkpoint is three times the size of what is trained, and two of them "
            "stand side by side for a moment), then run the same command again: it goes on from "
            "the last one",
        )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _sync(path: Path) -> None:
    """Have a file or directory on the disk, not only in the kernel's memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
