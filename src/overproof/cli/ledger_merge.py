"""``overproof ledger merge``: the ledgers of shards become one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["merge_command"]


def merge_command(
    into: Annotated[
        Path, typer.Argument(help="The ledger that takes the rows, or its run directory.")
    ],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FROM...", help="Ledgers, or run directories, to copy from."),
    ],
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for whoever is writing to one of them.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Join other ledgers to one, each as a chain of its own; again, and only what is new comes.

    Each is verified first, and nothing of it is changed. `verify` then checks every chain.
    """
    from overproof.records.ledger import ledger_path
    from overproof.records.ledger_merge import merge_ledgers

    report = merge_ledgers(ledger_path(into), [ledger_path(s) for s in sources], wait_s=wait)
    if as_json:
        print(report.model_dump_json())
        return
    for source in report.sources:
        brought = f"{source.rows} new rows" if source.rows else "nothing new"
        print(f"{source.path}: {brought}")
    print(f"{report.into}: joined {report.rows} rows, {report.exchanges} of them exchanges")
    if report.asked_twice:
        print(
            f"asked twice: {report.asked_twice}. Both answers are kept and both were paid for; "
            "the one that came into the ledger last is used"
        )
    if report.erased:
        print(f"erased: {report.erased}, as the tombstones that came along ask")
    print(f"head: {report.head}")
