"""A run is a directory: where everything of it lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.errors import RunError
from overproof.records.files import write_atomically

if TYPE_CHECKING:
    from overproof.records.dataset import DatasetManifest

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

    def check_recipe(self, recipe_sha256: str, begun: Callable[[], bool] = lambda: False) -> None:
        """Check that the run was not begun under another recipe.

        Args:
            recipe_sha256: the recipe's content hash.
            begun: tells whether anything was collected under the recorded recipe; asked only
                where that is another one and no dataset is there to tell.

        Raises:
            RunError: collecting began under another recipe.
        """
        if not self.resolved.exists():
            return
        try:
            known = json.loads(self.resolved.read_text())["recipe_sha256"]
        except (ValueError, TypeError, KeyError):
            raise RunError(
                str(self.resolved),
                "is damaged: it does not say which recipe the run was begun with",
                "restore it, or give the recipe a [run] dir of its own",
            ) from None
        if known == recipe_sha256 or not (self.dataset.exists() or begun()):
            return
        raise RunError(
            str(self.dir),
            "was frozen under another recipe: its task, data, teacher, seed or certificate "
            "section has changed since",
            "give the changed recipe a [run] dir of its own (copy ledger.sqlite there to keep the "
            "answers already paid for), or restore the recipe",
        )

    def freeze(
        self,
        recipe_sha256: str,
        resolved: dict[str, Any],
        begun: Callable[[], bool] = lambda: False,
    ) -> None:
        """Record the resolved recipe, or check that it is the one recorded before.

        Raises:
            RunError: see ``check_recipe``.
        """
        self.check_recipe(recipe_sha256, begun)
        body = {"recipe_sha256": recipe_sha256, "recipe": resolved}
        write_atomically(self.resolved, json.dumps(body, indent=2, ensure_ascii=False) + "\n")

    def check_dataset(self, manifest: DatasetManifest, recipe_sha256: str) -> None:
        """Check that the dataset was frozen under this recipe.

        Raises:
            RunError: it was frozen under another one.
        """
        if manifest.recipe_sha256 != recipe_sha256:
            raise RunError(
                str(self.dir),
                "was collected under another recipe than this one: the margin, the task and the "
                "data are fixed before anything is collected",
                "restore the recipe, or give the changed one a [run] dir of its own",
            )
