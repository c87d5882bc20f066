"""A finding on the terminal: beside every number what it rests on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overproof.records.audit import Effect, PValue, TestFinding

__all__ = ["finding_lines", "print_finding"]

# Everything that moves a cursor or changes a colour: names from files must not steer a terminal.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LABEL = 12
WHY = {"refused": "refused", "not decided yet: a later look is planned": "undecided"}


def print_finding(finding: TestFinding) -> None:
    """Print a finding, wrapped to the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", min_width=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in finding_lines(finding):
        table.add_row(label, Text(CONTROLS.sub("�", text)))
    Console(highlight=False).print(table)


def finding_lines(finding: TestFinding) -> list[tuple[str, str]]:
    """Label and text of each line."""
    lines = [
        ("test", f"{finding.test}: {finding.standing.value}"),
        ("hypothesis", finding.hypothesis),
        ("n", f"{finding.n:,} {finding.unit}"),
    ]
    for i, p in enumerate(finding.p_values):
        lines += _p_lines(p, "p" if i == 0 else "beside it")
    lines += [("effect", _effect(effect)) for effect in finding.effects]
    if finding.power is not None:
        lines.append(("power", finding.power.words))
    lines += _look_lines(finding.details)
    why = WHY.get(finding.standing.value, "warning")
    lines += [(why, reason) for reason in finding.reasons]
    lines += [("not proved", line) for line in finding.not_proved]
    return lines


def _look_lines(details: dict[str, Any]) -> list[tuple[str, str]]:
    """One line a look of a test in stages."""
    looks = details.get("looks") or ()
    lines = []
    for number, look in enumerate(looks, start=1):
        boundary = "none" if look["boundary"] is None else f"{look['boundary']:g}"
        lines.append((
            f"look {number}",
            f"{look['requests']:,} requests, {look['prompts']:,} prompts scored: sum of ranks "
            f"{look['sum_of_ranks']:g}, boundary {boundary}, α spent {look['spent']:.3g} of "
            f"{look['allowed']:.3g}: {look['decision']}",
        ))  # fmt: skip
    return lines


def _p_lines(p: PValue, label: str) -> list[tuple[str, str]]:
    floor = f", floor {p.floor:.3g}" if p.floor > 0 else ""
    return [
        (label, f"{_small(p)} ({p.exactness.value}{floor}): {p.method}"),
        ("", f"assumes: {p.assumption}"),
    ]


def _small(p: PValue) -> str:
    """Ten to a power where a float would print as nothing."""
    if p.log10 is not None and p.value < 1e-290:
        whole = int(p.log10 // 1)
        return f"{10 ** (p.log10 - whole):.2f}e{whole}"
    return f"{p.value:.3g}"


def _effect(effect: Effect) -> str:
    if effect.value is None:
        ends = ""
        if effect.low is not None and effect.high is not None:
            ends = f"{effect.low:.4g} to {effect.high:.4g}"
        said = ends or "no number"
    elif effect.low is not None and effect.high is not None:
        level = "" if effect.confidence is None else f"{effect.confidence:.0%} "
        said = f"{effect.value:.4g} ({level}interval {effect.low:.4g} to {effect.high:.4g})"
    elif effect.low is not None:
        level = "" if effect.confidence is None else f" with confidence {effect.confidence:.0%}"
        said = f"{effect.low:.4g}{level}, no upper end"
    else:
        said = f"{effect.value:.4g} (no interval)"
    why = f"; {effect.why}" if effect.why else ""
    return f"{effect.name}: {said} {effect.unit}{why}"
