"""``overproof ledger cost`` and ``provenance``: what was spent, and on whose answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from overproof.records.certificate import CostLine
    from overproof.records.ledger_provenance import Provenance, ProvenanceLine

__all__ = ["cost_command", "provenance_command"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NUMBERS = {
    "calls", "batch", "tokens in", "cached", "cache writes", "tokens out", "reasoning",
    "teacher s", "US $", "rows", "answer tokens",
}  # fmt: skip


def cost_command(
    path: Annotated[
        Path, typer.Argument(help="A ledger file, or a run directory that holds one.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Calls, tokens, teacher time and money by teacher, model and outcome."""
    from overproof.clients.pricing import Prices
    from overproof.collect.budget import spent_before
    from overproof.config.teacher import TeacherConfig
    from overproof.records.ledger import Ledger, ledger_path
    from overproof.records.ledger_costs import total_cost

    with Ledger.open(ledger_path(path)) as ledger:
        lines = ledger.costs()
        # Every exchange says what it cost; a price is needed for none.
        free = Prices(TeacherConfig(kind="fake", model="any"))
        _, lost = spent_before(ledger.entries(), free)
    total = total_cost(lines)
    if as_json:
        rows = [line.model_dump(mode="json") for line in lines]
        killed = {"calls": lost.calls, "tokens": lost.tokens, "usd": lost.usd}
        total_row = total.model_dump(mode="json")
        print(json.dumps({"lines": rows, "total": total_row, "killed_at_most": killed}))
        return
    _print_costs(lines, total)
    if lost.calls:
        print(
            f"and, by sessions that were killed, up to {lost.calls:,} calls, {lost.tokens:,} "
            f"tokens and ${lost.usd:,.6f} more: nobody counted"
        )


def _print_costs(lines: list[CostLine], total: CostLine) -> None:
    from rich.console import Console

    # Figures that are nothing everywhere would only take the names' room.
    columns: list[tuple[str, Callable[[CostLine], str], object]] = [
        ("calls", lambda line: f"{line.calls:,}", True),
        ("batch", lambda line: f"{line.batch_calls:,}", total.batch_calls),
        ("tokens in", lambda line: f"{line.input_tokens:,}", True),
        ("cached", lambda line: f"{line.cached_tokens:,}", total.cached_tokens),
        ("cache writes", lambda line: f"{line.cache_write_tokens:,}", total.cache_write_tokens),
        ("tokens out", lambda line: f"{line.output_tokens:,}", True),
        ("reasoning", lambda line: f"{line.reasoning_tokens:,}", total.reasoning_tokens),
        ("teacher s", lambda line: _or_unknown(line.seconds, "{:,.1f}"), True),
        ("US $", lambda line: _or_unknown(line.usd, "{:,.6f}"), True),
    ]
    shown = [(name, say) for name, say, is_there in columns if is_there]
    table = _table("what", *(name for name, _ in shown))
    table.columns[0].no_wrap = False  # names give way before figures do
    for number, line in enumerate([*lines, total]):
        if number == len(lines):
            table.add_section()
        table.add_row(_safe(line.what), *(say(line) for _, say in shown))
    console = Console()
    console.print(table)
    if words := _uncertain(total.usd, total.uncertain_usd, total.uncertain_calls):
        console.print(words, highlight=False)


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def _uncertain(usd: float | None, uncertain: float, calls: int) -> str:
    """What may have been billed beyond what was counted; empty where nothing may."""
    if not calls and not uncertain:
        return ""
    known = "an unknown sum" if usd is None else _dollars(usd)
    what = f"{calls:,} call{'' if calls == 1 else 's'} that timed out or broke off"
    if not uncertain:
        return f"{known}, and an unknown sum more for {what}: no price is known"
    return f"{known}, and up to {_dollars(uncertain)} more for {what}: they may have been billed"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:,.4f}"


def provenance_command(
    path: Annotated[
        Path, typer.Argument(help="A run, a ledger file, or a student's directory.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """How much of a dataset or a student came from which teacher, under which terms.

    For a run: the answers behind the training rows of its frozen dataset; for a student: those of
    the dataset that it was trained on; for a ledger: every answer in it.
    """
    from overproof.records.ledger_provenance import provenance_of

    found = provenance_of(path)
    if as_json:
        print(found.model_dump_json())
        return
    _print_provenance(found)


def _print_provenance(found: Provenance) -> None:
    from rich.console import Console

    console = Console()
    whats = {
        "ledger": "every answer of the ledger",
        "dataset": "the answers behind the training rows of the dataset",
        "student": "the answers behind the training rows of the student",
    }
    console.print(f"{whats[found.of]} {found.name}", highlight=False, markup=False)
    table = _table("teacher", "licence", "terms", "rows", "answer tokens", "calls", "US $")
    for column in table.columns[:3]:
        column.no_wrap = False
    for line in found.lines:
        name = line.teacher + (" (imported)" if line.imported else "")
        table.add_row(
            _safe(name),
            _safe(line.licence),
            _safe(line.terms),
            _part(line.rows, line.share_of_rows),
            _part(line.answer_tokens, line.share_of_tokens),
            _part(line.calls, line.share_of_calls),
            _money(line),
        )
    console.print(table if found.lines else "nothing was collected or imported")
    said = []
    uncertain = sum(line.uncertain_usd for line in found.lines)
    calls = sum(line.uncertain_calls for line in found.lines)
    if words := _uncertain(sum(line.usd for line in found.lines), uncertain, calls):
        said.append(words)
    said += [f"prompts: {count:,} from {origin}" for origin, count in found.origins.items()]
    said += [
        f"attested for {note.get('teacher', 'the teacher')}: {note.get('attestation', '')}"
        for note in found.attestations
    ]
    said += [f"terms read in version {version}" for version in found.terms_versions]
    for sentence in dict.fromkeys([*said, *found.notes]):
        console.print(_safe(sentence), highlight=False)


def _part(count: int, share: float | None) -> str:
    return f"{count:,}" if share is None else f"{count:,} ({share:.0%})"


def _money(line: ProvenanceLine) -> str:
    priced = line.calls - line.unpriced_calls
    if line.calls and not priced:
        return "unknown"
    words = f"{line.usd:,.6f}"
    if line.share_of_usd is not None:
        words += f" ({line.share_of_usd:.0%})"
    return words + (f" + {line.unpriced_calls:,} unknown" if line.unpriced_calls else "")


def _table(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    return table


def _safe(text: str) -> Any:
    from rich.text import Text

    from overproof.cli.ledger import CONTROLS

    return Text(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text))
