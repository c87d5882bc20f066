"""Where the students of a text task come from: teacher, licence, terms, data, bases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.config.text_recipe import TextRecipe
from overproof.records.chat_dataset import TextManifest
from overproof.records.lm_student import LmStudentCard

__all__ = ["text_provenance"]


def text_provenance(
    recipe: TextRecipe, manifest: TextManifest, cards: Mapping[str, LmStudentCard]
) -> dict[str, Any]:
    """What the certificate's ``provenance`` holds; shares are of the training examples."""
    terms = recipe.teacher.terms
    total = sum(manifest.provenance.values())
    origins = sum(manifest.origins.values())
    teacher = {
        "kind": recipe.teacher.kind,
        "model": recipe.teacher.model,
        "licence": terms.licence,
        "attestation": terms.attestation,
        "terms_url": terms.url,
        "terms_version": "not recorded",
    } | manifest.teacher
    if recipe.teacher.kind in ("embedded", "local"):
        teacher["note"] = "run by overproof on this machine; no API was asked"
    return {
        "teacher": teacher,
        "teacher_shares": {who: n / total for who, n in manifest.provenance.items() if total},
        "origin_shares": {kind: n / origins for kind, n in manifest.origins.items() if origins},
        "students": {
            name: {
                "method": card.method,
                "base": card.base,
                "base_licence": card.base_licence,
                "start": card.start,
                "parameters": card.parameters,
                "trained_parameters": card.trainable,
                "training_tokens": card.tokens,
                "answer_tokens": card.answer_tokens,
                "training_examples": card.n_train,
                "precision": card.precision,
                "seed": card.seed,
                "config_sha256": card.config_sha256,
                "notes": list(card.notes),
            }
            for name, card in cards.items()
        },
        "splits": dict(manifest.counts),
        "input_file": manifest.input_file,
        "input_sha256": manifest.input_sha256,
        "exact_duplicates_removed": manifest.exact_duplicates,
        "near_duplicates_removed": manifest.near_duplicates,
        "near_duplicate_threshold": manifest.near_duplicate_threshold,
        "training_examples_dropped": sum(report.dropped for report in manifest.filters),
        "decontaminated": any(r.name == "decontaminate" for r in manifest.filters),
    }
