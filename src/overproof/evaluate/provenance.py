"""Where a student comes from: teacher, licence, terms, data, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overproof.config.recipe import Recipe
from overproof.records.dataset import DatasetManifest, LabelRow
from overproof.records.hashing import content_hash
from overproof.records.student import StudentCard

__all__ = ["provenance"]


def provenance(
    recipe: Recipe,
    manifest: DatasetManifest,
    train: Sequence[LabelRow],
    cards: Mapping[str, StudentCard],
) -> dict[str, Any]:
    """What the certificate's ``provenance`` holds.

    ``shares`` are shares of the training examples by the source of their label; a row without a
    valid answer was no example.
    """
    terms = recipe.teacher.terms
    trained_on = sum(row.label is not None for row in train)
    total = sum(manifest.provenance.values())
    teacher = {
        "kind": recipe.teacher.kind,
        "model": recipe.teacher.model,
        "licence": terms.licence,
        "attestation": terms.attestation,
        "terms_url": terms.url,
        "terms_version": "not recorded",
    } | manifest.teacher
    if recipe.teacher.kind == "embedded":
        teacher["note"] = "run by overproof on this machine with llama.cpp; no API was asked"
    return {
        "teacher": teacher,
        "shares": {source: count / total for source, count in manifest.provenance.items() if total},
        "training_examples": trained_on,
        "calibration": manifest.calibration.model_dump(mode="json"),
        "signal": manifest.signal,
        "rendering": manifest.rendering,
        "second_asking": manifest.second_asking,
        "prior": recipe.task.prior,
        "students": {
            name: {
                "kind": card.kind,
                "base": card.base,
                "base_licence": card.base_licence,
                "temperature": card.temperature,
                "seed": card.seed,
                "onnx_max_difference": card.onnx_max_difference,
            }
            for name, card in cards.items()
        },
        "dataset_sha256": content_hash(manifest.model_dump(mode="json")),
        "recipe_sha256": manifest.recipe_sha256,
        "input_file": manifest.input_file,
        "input_sha256": manifest.input_sha256,
        "exact_duplicates_removed": manifest.exact_duplicates,
        "near_duplicates_removed": manifest.near_duplicates,
        "near_duplicate_threshold": manifest.near_duplicate_threshold,
        "decontaminated": True,
    }
