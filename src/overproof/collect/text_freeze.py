"""From a text task's examples to a frozen dataset: files, card and manifest in one step."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from overproof.collect.filters.build import Dropped, write_dropped
from overproof.collect.synthesize.protocol import Dropped as Candidate
from overproof.collect.text_card import dataset_card, dataset_info
from overproof.config.load import LoadedTextRecipe
from overproof.records.chat_dataset import (
    TextManifest,
    write_chats,
    write_references,
    write_text_manifest,
)
from overproof.records.exchange import Outcome, Tool
from overproof.records.files import write_atomically
from overproof.records.hashing import file_sha256
from overproof.records.run import RunPaths
from overproof.records.text_dataset import FilterReport, TextExample

__all__ = ["TextFacts", "TextRows", "freeze_text", "outcome_counts", "write_text_failures"]

SPLITS: tuple[Literal["train", "tune", "test"], ...] = ("train", "tune", "test")


@dataclass
class TextRows:
    """Everything that was asked, and what became of it.

    ``asked`` are all examples; ``kept`` the training examples that passed every filter;
    ``dropped`` the others.
    """

    asked: list[TextExample]
    kept: list[TextExample]
    dropped: list[Dropped]
    reports: list[FilterReport]


@dataclass
class TextFacts:
    """How the answers came about, for the manifest."""

    teacher: dict[str, Any]
    tools: tuple[Tool, ...] = ()
    exact_duplicates: int = 0
    near_duplicates: int = 0
    synthesis: tuple[dict[str, Any], ...] = ()
    not_made: Sequence[Candidate] = ()
    gap: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def outcome_counts(examples: Sequence[TextExample]) -> dict[str, dict[str, int]]:
    """Answers by split and outcome, before anything was dropped."""
    counts: dict[str, Counter[str]] = {}
    for example in examples:
        counts.setdefault(example.split, Counter())[example.outcome.value] += 1
    return {split: dict(counts[split]) for split in SPLITS if split in counts}


def freeze_text(loaded: LoadedTextRecipe, rows: TextRows, facts: TextFacts) -> TextManifest:
    """Write the dataset beside its place, and move it there in one step."""
    recipe = loaded.recipe
    paths = RunPaths(loaded.run_dir)
    partial = paths.dir / "dataset.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    held = [e for e in rows.asked if e.split != "train"]
    by_split = {"train": rows.kept}
    by_split |= {name: [e for e in held if e.split == name] for name in ("tune", "test")}
    for name in SPLITS:
        if by_split[name] or name == "train":
            write_chats(partial, name, by_split[name], facts.tools)
    write_references(partial, held)
    write_dropped(partial / "dropped.jsonl", rows.dropped)
    if facts.not_made:
        lines = (each.model_dump_json() for each in facts.not_made)
        write_atomically(partial / "not-synthesized.jsonl", "\n".join(lines) + "\n")
    manifest = TextManifest(
        recipe_sha256=loaded.sha256,
        dataset_sha256=loaded.dataset_sha256,
        input_file=loaded.input_file.name if loaded.input_file else "",
        input_sha256=file_sha256(loaded.input_file) if loaded.input_file else "",
        counts={name: len(split) for name, split in by_split.items()},
        outcomes=outcome_counts(rows.asked),
        exact_duplicates=facts.exact_duplicates,
        near_duplicates=facts.near_duplicates,
        near_duplicate_threshold=recipe.data.near_duplicate,
        filters=tuple(rows.reports),
        synthesis=facts.synthesis,
        gap=facts.gap,
        drift=facts.drift,
        origins=dict(Counter(example.origin.kind for example in rows.kept)),
        provenance=dict(Counter(example.teacher for example in rows.kept)),
        teacher=facts.teacher,
        notes=tuple(facts.notes),
    )
    manifest = manifest.model_copy(update={"files": _hashes(partial)})
    write_atomically(partial / "README.md", dataset_card(recipe, manifest))
    write_atomically(partial / "dataset_info.json", dataset_info(recipe, manifest))
    write_text_manifest(partial, manifest)
    shutil.rmtree(paths.dataset, ignore_errors=True)
    partial.replace(paths.dataset)
    return manifest


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted([*directory.rglob("*.parquet"), *directory.glob("*.jsonl")])
    return {path.relative_to(directory).as_posix(): file_sha256(path) for path in files}


def write_text_failures(path: Path, examples: Sequence[TextExample]) -> None:
    """Write the prompts without a valid answer, one JSON object a line with the reason."""
    lines = [
        json.dumps(
            {
                "split": example.split,
                "item": example.item,
                "sample": example.sample,
                "text": example.asked,
                "outcome": example.outcome.value,
                "reason": example.error,
                "request_keys": list(example.request_keys),
            },
            ensure_ascii=False,
        )
        for example in examples
        if example.outcome is not Outcome.ANSWERED
    ]
    path.unlink(missing_ok=True)
    if lines:
        write_atomically(path, "\n".join(lines) + "\n")
