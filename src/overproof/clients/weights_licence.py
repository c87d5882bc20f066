"""The licence of weights that run here: from the registry, the recipe, or files beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from overproof.clients import registry
from overproof.clients.terms_list import TermsEntry, of_licence, of_licence_text, of_model_name
from overproof.config.teacher import TeacherConfig
from overproof.errors import ModelError

__all__ = ["FoundLicence", "licence_of_weights"]

_MOST_BYTES = 1 << 20
_FIELD = re.compile(
    r"^(license|license_name)\s*:\s*[\"']?([^\"'#\n]+?)[\"']?\s*(?:#.*)?$", re.MULTILINE
)
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


class FoundLicence(NamedTuple):
    """A licence as it is named, what is known of it, and where it was found.

    ``names`` may hold one that no entry knows: then nothing speaks for it.
    """

    names: tuple[str, ...]
    entries: tuple[TermsEntry, ...]
    where: str
    unknown: tuple[str, ...] = ()


def licence_of_weights(config: TeacherConfig) -> FoundLicence:
    """What is known of the licence of ``config``'s weights; every source counts, not the best."""
    names: dict[str, str] = {}
    entries: list[TermsEntry] = []
    unknown: list[str] = []

    def take(name: str, where: str) -> None:
        found = of_licence(name)
        names.setdefault(name, where)
        entries.extend(found)
        if not found:
            unknown.append(name)

    pinned = _registered(config.model)
    if pinned and pinned != "unknown":
        take(pinned, "the registry of models")
    if config.terms.licence != "unknown":
        take(config.terms.licence, "the recipe")
    for name, text, where in _beside(config.model):
        if name:
            take(name, where)
        elif found := of_licence_text(text):
            names.setdefault(_said(found[0]), where)
            entries.extend(found)
    entries.extend(of_model_name(config.model, weights=True))
    where = ", ".join(dict.fromkeys(names.values()))
    return FoundLicence(tuple(names), tuple(dict.fromkeys(entries)), where, tuple(unknown))


def _said(entry: TermsEntry) -> str:
    return entry.licences[0] if entry.licences else entry.name


def _registered(model: str) -> str | None:
    found = registry.find(model)
    if found is None and registry.is_hub_name(model):
        try:
            found = registry.info(model)
        except ModelError:
            return None
    return found.licence if found else None


def _beside(model: str) -> list[tuple[str, str, str]]:
    """``(name, text, where)`` of model cards and licences in the model's directory.

    Beside a single file only a model card speaks for it: a LICENSE there may be of anything.
    """
    try:
        path = registry.resolve(model)
    except ModelError:
        return []
    home = path if path.is_dir() else path.parent
    found: list[tuple[str, str, str]] = []
    card = home / "README.md"
    if (text := _text(card)) and (front := _FRONT.match(text)):
        fields = dict(_FIELD.findall(front[1]))
        name = fields.get("license", "")
        if name.casefold() in ("other", ""):
            name = fields.get("license_name", "")
        if name:
            found.append((name, "", str(card)))
    for file in _files(home) if path.is_dir() else ():
        if file.name.upper().startswith(("LICENSE", "LICENCE")) and (text := _text(file)):
            found.append(("", text, str(file)))
    return found


def _files(home: Path) -> list[Path]:
    try:
        return sorted(home.iterdir())
    except OSError:
        return []  # what cannot be read speaks for nothing


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""
