"""Answers that must be JSON of a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overproof.config.filters import JsonSchema
from overproof.errors import DataError
from overproof.records.answer_checks import check_schema, schema_problem
from overproof.records.text_dataset import TextExample

__all__ = ["JsonSchemaFilter"]


class JsonSchemaFilter:
    """Drops answers that a program could not read."""

    def __init__(self, config: JsonSchema, home: Path) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._schema = _read(home / config.json_schema)

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Answers that are not JSON, or break the schema."""
        found = (schema_problem(example.answer, self._schema) for example in examples)
        return {
            index: f"answer does not follow the schema: {problem}"
            for index, problem in enumerate(found)
            if problem is not None
        }


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}", "check the path") from error
    except ValueError as error:
        raise DataError(str(path), f"is not JSON: {error}", "write a JSON Schema") from error
    check_schema(schema, str(path))
    checked: dict[str, Any] = schema
    return checked
