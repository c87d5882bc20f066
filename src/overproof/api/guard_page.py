"""The page of a replay's findings."""

from __future__ import annotations

from pathlib import Path

from overproof.api.guard import need_guard
from overproof.api.guard_files import converted, read_json, read_rows

__all__ = ["guard_report"]


def guard_report(verdicts: Path, out: Path, *, scores: Path | None = None) -> None:
    """Draw the findings of a replay as one self-contained HTML page.

    Args:
        verdicts: as a replay wrote them; its communities and its report are found beside them.
        out: the page to write.
        scores: what `guard_score` came to, as JSON.

    Raises:
        ConfigError: the page would replace a file that it is made from.
        DataError: a file cannot be read, or a field of it is not what a replay writes.
    """
    need_guard()
    from overproof.guard.output_names import refuse_overwriting
    from overproof.guard.replay import communities_path, record_path
    from overproof.guard.scoring import read_verdicts
    from overproof.records.files import write_atomically
    from overproof.report.guard import render_guard_html
    from overproof.report.guard_graph import DrawnCommunity
    from overproof.report.guard_spared import checked_replay

    beside, record = communities_path(verdicts), record_path(verdicts)
    read = [verdicts, beside, record, *([] if scores is None else [scores])]
    refuse_overwriting([out], read, "is read for the page, which would replace it")
    found = read_verdicts(verdicts)
    drawn = [converted(beside, row, DrawnCommunity.from_row) for row in read_rows(beside)]
    replayed = checked_replay(read_json(record), str(record)) if record.is_file() else {}
    spared, in_all = replayed.pop("spared", []), replayed.pop("spared_in_all", {})
    page = render_guard_html(
        found,
        communities=drawn,
        scores=None if scores is None else read_json(scores),
        replay=replayed or None,
        spared=spared,
        spared_in_all=in_all,
        name=verdicts.name,
    )
    write_atomically(out, page)
