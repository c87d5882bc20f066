"""What every process that ``torchrun`` starts does in the test of several processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_chats import Plain, load_tiny, make_chats, make_config

from overproof.errors import StudentError
from overproof.train.lm.launch import first_process_first, process_group, process_number
from overproof.train.lm.parts import Batch
from overproof.train.lm.trainer import fit

# Where a step is one chat, one of two processes has nothing to do.
RUNS: dict[str, dict[str, Any]] = {
    "packed": {"epochs": 1},
    "one chat a step": {"max_tokens": 150, "batch_tokens": 20, "micro_tokens": 20},
}


class SpoiledOnTheSecond(Plain):
    """Its loss is no number in the second process alone, at the third step."""

    step = 0

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        self.step = step
        return batch

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        loss = super().loss(model, batch)
        return loss * float("nan") if self.step == 2 and process_number() == 1 else loss


def run_all(base: Path, out: Path) -> dict[str, Any]:
    """Every run of ``RUNS``, and one that fails; what this process saw of them."""
    torch.set_num_threads(1)
    seen: dict[str, Any] = {}
    for name, settings in RUNS.items():
        student = load_tiny(base)
        told: list[float] = []
        done = fit(
            student, Plain(), make_chats(24), make_chats(6, seed=1), make_config(**settings),
            out=out / name, seed=5, progress=lambda share, _, told=told: told.append(share),
        )  # fmt: skip
        seen[name] = {
            "losses": done.losses, "tokens": done.tokens, "answer_tokens": done.answer_tokens,
            "tune": done.tune_loss, "base": done.base_tune_loss, "told": len(told),
            "weights": torch.cat([p.flatten() for p in student.module.parameters()]).tolist(),
        }  # fmt: skip
    try:
        fit(
            load_tiny(base), SpoiledOnTheSecond(), make_chats(24), [], make_config(),
            out=out / "spoiled", seed=5,
        )  # fmt: skip
    except StudentError as error:
        seen["error"] = str(error)
    return seen


def main(base: str, out: str) -> None:
    """Run, and let the first process leave a file for the others to find."""
    with process_group():
        left = Path(out) / "left.txt"
        with first_process_first():
            if process_number() == 0:
                left.write_text("made by the first process")
            found = left.exists()
        seen = run_all(Path(base), Path(out)) | {"found": found}
    Path(out, f"process-{process_number()}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
