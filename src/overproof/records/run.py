"""A run is a directory: where everything of it lies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overproof.errors import RunError
from overproof.records.files import write_atomically

__all__ = ["RunPaths"]


@dataclass(frozen=True)
class RunPaths:
    """Paths of a run directory."""

    dir: Path

    @property
    def resolved(self) -> Path:
        """The resolved recipe, secrets left out."""
        return self.dir / "resolved.json"

    @property
    def ledger(self) -> Path:
        """Every exchange with the teacher."""
        return self.dir / "ledger.sqlite"

    @property
    def dataset(self) -> Path:
        """The frozen dataset."""
        return self.dir / "dataset"

    @property
    def students(self) -> Path:
        """One directory a student."""
        return self.dir / "students"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.dir / "certificate.json"

    @property
    def failed(self) -> Path:
        """Inputs without a valid answer, with the reason for each."""
        return self.dir / "failed.jsonl"

    @property
    def looks(self) -> Path:
        """The log of looks at the test set."""
        return self.dir / "looks.jsonl"

    @property
    def logs(self) -> Path:
        """Logs of the embedded teacher."""
        return self.dir / "logs"

    def freeze(self, recipe_sha256: str, resolved: dict[str, Any]) -> None:
        """Record the resolved recipe, or check that it is the one recorded before.

        Raises:
            RunError: collecting began under another recipe.
        """
        if self.resolved.exists():
            known = json.loads(self.resolved.read_text()).get("recipe_sha256")
            if known != recipe_sha256 and self.dataset.exists():
                raise RunError(
                    str(self.dir),
                    "was frozen under another recipe: its task, data, teacher, seed or "
                    "certificate section has changed since",
                    "give the changed recipe a [run] dir of its own (copy ledger.sqlite there to "
                    "keep the answers already paid for), or restore the recipe",
                )
        body = {"recipe_sha256": recipe_sha256, "recipe": resolved}
        write_atomically(self.resolved, json.dumps(body, indent=2, ensure_ascii=False) + "\n")
