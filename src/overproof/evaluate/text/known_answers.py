"""Whether test prompts have what the recipe's scorer reads, told before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overproof.config.text_certificate import TextCertificateConfig
from overproof.errors import DataError
from overproof.evaluate.scorers.build import build_scorer
from overproof.evaluate.scorers.protocol import Answer, Known
from overproof.records.text_dataset import Prompt

__all__ = ["missing_references"]


def missing_references(
    config: TextCertificateConfig,
    prompts_test: Sequence[Prompt],
    schema: Mapping[str, Any] | None = None,
) -> str | None:
    """Why the certificate could not be computed on these test prompts, and the way out.

    Every prompt is put to the very scorer that ``certify`` uses, with an empty answer, so that
    nothing is refused here that would pass there, nor the reverse.

    Args:
        config: the recipe's ``[certificate]``.
        prompts_test: the test split's prompts as they are known by now; none where all of them are
            still to be made.
        schema: the JSON Schema of a task with ``answer = "json"``.

    Returns:
        A sentence; ``None`` where there is nothing to complain of.
    """
    try:
        scorer = build_scorer(config, schema)
    except DataError as error:
        return str(error)
    if scorer.needs == "teacher":
        return None
    refused: list[DataError] = []
    for prompt in prompts_test:
        try:
            scorer.score(Answer(""), Known(prompt.item, prompt.reference, prompt.facts))
        except DataError as error:
            refused.append(error)
    if not refused:
        return None
    count = f"{len(refused):,} of {len(prompts_test):,} test prompts"
    return (
        f"certificate.scorer = '{config.scorer}' cannot score {count}, so nothing could be "
        f"certified in the end. The first: {refused[0]}"
    )
