"""What a table's ending says of its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from overproof.errors import DataError

__all__ = ["BATCH", "DELIMITERS", "ENDINGS", "Format", "table_format", "to_json_line"]

Format = Literal["csv", "tsv", "jsonl", "parquet"]

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
DELIMITERS: dict[Format, str] = {"csv": ",", "tsv": "\t"}
BATCH = 1024  # rows held at a time where a format works in batches


def table_format(path: Path) -> tuple[Format, bool]:
    """Format of a table by its ending, and whether it is gzipped.

    Raises:
        DataError: for an ending that is none of ours.
    """
    name = path.name.lower()
    zipped = name.endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    kind = ENDINGS.get(ending)
    if kind is None or (zipped and kind == "parquet"):
        way_out = "name a .csv, .tsv, .jsonl, .ndjson or .parquet file; text may be gzipped (.gz)"
        if ending == ".json":
            way_out = "put one JSON object on each line and name the file .jsonl"
        shown = ending + (".gz" if zipped else "")
        raise DataError(str(path), f"its ending {shown!r} names no table format", way_out)
    return kind, zipped


def to_json_line(row: Any) -> str:
    """One JSON object on one line; dates and decimals that Parquet holds become strings."""
    return json.dumps(row, ensure_ascii=False, default=str)
