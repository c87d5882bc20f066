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
    return {
        "commands.md": commands(),
        "recipe.md": recipe(),
        "text-recipe.md": text_recipe(),
        "guard-settings.md": guard_settings(),
    }


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
    """Every section of a label task's recipe with its keys and defaults."""
    from overproof.config.recipe import Recipe

    head = "# The recipe of a label task\n\nGenerated from the code by `make docs`. "
    head += (
        "`overproof init` writes one with comments. [Text tasks](text-recipe.md) have another.\n"
    )
    return head + "".join(_sections(Recipe, set()))


def text_recipe() -> str:
    """Every section of a text task's recipe; those that both kinds share are not repeated."""
    from overproof.config.running import BaseRecipe
    from overproof.config.text_recipe import TextRecipe

    head = "# The recipe of a text task\n\nGenerated from the code by `make docs`. "
    head += "`overproof init --task text` writes one with comments. `[run]`, `[teacher]`, "
    head += "`[budget]` and `[drift]` are those of a [label task](recipe.md).\n"
    return head + "".join(_sections(TextRecipe, set(BaseRecipe.model_fields)))


def guard_settings() -> str:
    """Every section of guard.toml."""
    from overproof.config.guard import GuardConfig

    parts = ["# guard.toml\n\nGenerated from the code by `make docs`. "]
    parts.append("Without a file guard uses these defaults; `--config` names one.\n")
    parts.append("\n## at the top\n\n| key | default |\n|---|---|\n")
    for key, field in GuardConfig.model_fields.items():
        if not _models(field.annotation):
            parts.append(f"| `{key}` | `{field.default!r}` |\n")
    for key, field in GuardConfig.model_fields.items():
        for model in _models(field.annotation):
            title = f"[[{key}]]" if key == "exemptions" else f"[{key}]"
            _section(model, title, key, parts)
    return "".join(parts)


def _sections(recipe: Any, without: set[str]) -> list[str]:
    parts: list[str] = []
    for key, field in recipe.model_fields.items():
        if key in without:
            continue
        kinds = _models(field.annotation)
        several = len(kinds) > 1
        for kind in kinds:
            _section(kind, f"[[{key}]]" if several else f"[{key}]", key, parts)
    return parts


def _section(model: Any, title: str, name: str, parts: list[str]) -> None:
    fields = model.model_fields
    told_by = next((key for key in ("kind", "method") if key in fields), "")
    kind = get_args(fields[told_by].annotation) if told_by and title.startswith("[[") else ()
    shown = f'{title} {told_by} = "{kind[0]}"' if kind else title
    parts.append(f"\n## {shown}\n\n{_unwrapped(model.__doc__ or '')}\n\n")
    shared = _unwrapped(model.__base__.__doc__ or "") if title == "[[students]]" else ""
    if shared and not any(shared in part for part in parts):
        parts.append(f"{shared}\n\n")
    parts.append("| key | default |\n|---|---|\n")
    children = []
    for key, field in fields.items():
        inner = _models(field.annotation)
        if len(inner) == 1 and title.startswith("[[") and field.annotation is not inner[0]:
            child_title = f"[{name}.{key}]"
            if not any(f"## {child_title}\n" in part for part in parts):
                children.append((inner[0], child_title, f"{name}.{key}"))
        elif len(inner) == 1:
            children.append((inner[0], f"[{name}.{key}]", f"{name}.{key}"))
            continue
        value = field.get_default(call_default_factory=True)
        default = "**required**" if field.is_required() else f"`{value!r}`"
        parts.append(f"| `{field.alias or key}` | {default} |\n")
    for child, child_title, child_name in children:
        _section(child, child_title, child_name, parts)


def _models(annotation: Any) -> list[Any]:
    """The models that an annotation names, however deep."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models(part)]


def _unwrapped(doc: str) -> str:
    """A docstring as Markdown: its indentation and reST's double back-ticks taken off."""
    lines = [line.strip() for line in doc.strip().splitlines()]
    return "\n".join(lines).replace("``", "`")


if __name__ == "__main__":
    for file_name, page in pages().items():
        (HERE / file_name).write_text(page)
