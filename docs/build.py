"""Writes the generated pages of the docs: the command line and the recipe, from the code itself.

    python docs/build.py

A test fails when a page differs from what this writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

HERE = Path(__file__).resolve().parent


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"commands.md": commands(), "recipe.md": recipe()}


def commands() -> str:
    """Every command with its help."""
    os.environ["COLUMNS"] = "100"
    import typer
    from typer.testing import CliRunner

    from overproof.cli.commands import register
    from overproof.cli.main import app

    register(app)
    runner = CliRunner()

    def help_of(*names: str) -> str:
        return runner.invoke(app, [*names, "--help"], prog_name="overproof").output.strip()

    group: Any = typer.main.get_command(app)
    parts = ["# Commands\n\nGenerated from the code by `make docs`.\n\n```text\n", help_of()]
    parts.append("\n```\n")
    for name, command in group.commands.items():
        inner = list(getattr(command, "commands", {}))
        for names in [(name,)] if not inner else [(name, sub) for sub in inner]:
            shown = help_of(*names)
            parts.append(f"\n## overproof {' '.join(names)}\n\n```text\n{shown}\n```\n")
    return "".join(parts)


def recipe() -> str:
    """Every section of a recipe with its keys and defaults."""
    from pydantic import BaseModel

    from overproof.config.recipe import Recipe

    parts = ["# The recipe\n\nGenerated from the code by `make docs`. `overproof init` writes one "
             "with comments.\n"]  # fmt: skip

    def inner(annotation: Any) -> type[BaseModel] | None:
        kinds = [annotation, *get_args(annotation)]
        return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)

    def section(model: type[BaseModel], name: str) -> None:
        plain = {k: f for k, f in model.model_fields.items() if inner(f.annotation) is None}
        parts.append(f"\n## [{name}]\n\n{_unwrapped(model.__doc__ or '')}\n\n")
        parts.append("| key | default |\n|---|---|\n")
        for key, field in plain.items():
            value = field.get_default(call_default_factory=True)
            default = "**required**" if field.is_required() else f"`{value!r}`"
            parts.append(f"| `{key}` | {default} |\n")
        for key, field in model.model_fields.items():
            if (child := inner(field.annotation)) is not None:
                section(child, f"{name}.{key}")

    for key, field in Recipe.model_fields.items():
        child = inner(field.annotation)
        assert child is not None
        section(child, key)
    return "".join(parts)


def _unwrapped(doc: str) -> str:
    """A docstring as Markdown: its indentation and reST's double back-ticks taken off."""
    lines = [line.strip() for line in doc.strip().splitlines()]
    return "\n".join(lines).replace("``", "`")


if __name__ == "__main__":
    for file_name, page in pages().items():
        (HERE / file_name).write_text(page)
