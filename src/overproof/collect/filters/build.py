"""From ``[[filters]]`` to filters, and from examples to those that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overproof.collect.filters.decontaminate import DecontaminateFilter
from overproof.collect.filters.exact import Exact
from overproof.collect.filters.json_schema import JsonSchemaFilter
from overproof.collect.filters.judge import JudgeFilter
from overproof.collect.filters.language import LanguageFilter
from overproof.collect.filters.length import LengthFilter
from overproof.collect.filters.near_duplicate import NearDuplicate
from overproof.collect.filters.protocol import Filter, FilterTools
from overproof.collect.filters.reasoning_gym import ReasoningGymFilter
from overproof.collect.filters.refusals import RefusalFilter
from overproof.collect.filters.regex import RegexFilter
from overproof.collect.filters.repetition import RepetitionFilter
from overproof.collect.filters.self_consistency import SelfConsistencyFilter
from overproof.collect.filters.semantic_duplicate import SemanticDuplicate
from overproof.collect.filters.unit_tests import UnitTestFilter
from overproof.config import filters as kinds
from overproof.records.exchange import Outcome
from overproof.records.files import write_atomically
from overproof.records.table_format import to_json_line
from overproof.records.text_dataset import FilterReport, TextExample

__all__ = ["Dropped", "Filtered", "build", "decontaminator", "run_filters", "write_dropped"]


@dataclass(frozen=True)
class Dropped:
    """An example that was dropped, by which filter, and why: ``what: detail``."""

    example: TextExample
    filter: str
    reason: str


@dataclass(frozen=True)
class Filtered:
    """What was kept, in order; what was dropped, in the order of the filters; what they say."""

    kept: list[TextExample]
    dropped: list[Dropped]
    reports: list[FilterReport]


_FILTERS: dict[type, Callable[[Any, FilterTools], Filter]] = {
    kinds.ExactDuplicates: lambda config, _: Exact(config),
    kinds.NearDuplicates: lambda config, tools: NearDuplicate(config, tools.seed),
    kinds.SemanticDuplicates: lambda config, _: SemanticDuplicate(config),
    kinds.Length: lambda config, tools: LengthFilter(config, tools.home),
    kinds.Language: lambda config, _: LanguageFilter(config),
    kinds.Refusals: lambda config, _: RefusalFilter(config),
    kinds.Repetition: lambda config, _: RepetitionFilter(config),
    kinds.Regex: lambda config, _: RegexFilter(config),
    kinds.JsonSchema: lambda config, tools: JsonSchemaFilter(config, tools.home),
    kinds.ReasoningGym: lambda config, _: ReasoningGymFilter(config),
    kinds.UnitTests: lambda config, _: UnitTestFilter(config),
    kinds.SelfConsistency: lambda config, _: SelfConsistencyFilter(config),
    kinds.Judge: JudgeFilter,
    kinds.Decontaminate: DecontaminateFilter,
}


def build(config: kinds.FilterConfig, tools: FilterTools) -> Filter:
    """The filter of one entry of ``[[filters]]``. A new kind is a line in the table above.

    Raises:
        OverproofError: a file or model that it names cannot be had.
    """
    return _FILTERS[type(config)](config, tools)


def decontaminator(tools: FilterTools, files: Sequence[kinds.BenchmarkFile] = ()) -> Filter:
    """The filter that keeps ``tools.held_out`` and ``files`` out, whatever a recipe lists."""
    return build(kinds.Decontaminate(kind="decontaminate", files=tuple(files)), tools)


async def run_filters(filters: Sequence[Filter], examples: Sequence[TextExample]) -> Filtered:
    """Run filters one after another, each on what the ones before it kept.

    Only answered examples are training data: others are dropped first, under ``outcome``.
    A filter that fails raises; it never passes what it did not look at.

    Returns:
        Kept and dropped, together all of ``examples``, and a report a filter.
    """
    kept = list(examples)
    dropped: list[Dropped] = []
    reports: list[FilterReport] = []
    unanswered = {
        index: f"{example.outcome.value}: {example.error}".rstrip(": ")
        for index, example in enumerate(kept)
        if example.outcome is not Outcome.ANSWERED
    }
    if unanswered:
        kept = _part("outcome", kept, unanswered, (), dropped, reports)
    names = Counter[str]()
    for one in filters:
        names[one.name] += 1
        name = one.name if names[one.name] == 1 else f"{one.name} ({names[one.name]})"
        reasons = await one.drops(kept)
        kept = _part(name, kept, reasons, tuple(one.notes), dropped, reports)
    return Filtered(kept, dropped, reports)


def _part(  # noqa: PLR0917
    name: str,
    examples: list[TextExample],
    reasons: dict[int, str],
    notes: tuple[str, ...],
    dropped: list[Dropped],
    reports: list[FilterReport],
) -> list[TextExample]:
    """Move what has a reason to ``dropped``; report it; the rest."""
    counts = Counter(reason.partition(": ")[0] for reason in reasons.values())
    reports.append(
        FilterReport(
            name=name,
            seen=len(examples),
            dropped=len(reasons),
            reasons=dict(counts.most_common()),
            notes=notes,
        )
    )
    dropped.extend(Dropped(examples[index], name, reasons[index]) for index in sorted(reasons))
    return [example for index, example in enumerate(examples) if index not in reasons]


def write_dropped(path: Path, dropped: Sequence[Dropped]) -> None:
    """Write what was dropped as JSONL: ``filter``, ``reason`` and the whole ``example`` a line."""
    lines = [
        to_json_line(
            {
                "filter": one.filter,
                "reason": one.reason,
                "example": one.example.model_dump(mode="json"),
            }
        )
        for one in dropped
    ]
    # Half a surrogate pair in an answer is JSON too, as an escape.
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))
