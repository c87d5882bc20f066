"""Answers that were imported: the commonest start, with no teacher to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from overproof.clients.terms import TermsVerdict, check_terms
from overproof.collect.inputs import last_user_text
from overproof.collect.labels import parse_answer
from overproof.collect.signal import LabelAnswer
from overproof.config.recipe import TeacherConfig
from overproof.errors import TermsError
from overproof.records.exchange import Completion, Exchange, Outcome
from overproof.records.hashing import text_hash

__all__ = ["LedgerQuestioner", "imported_terms"]

PERMITTED = ("allowed", "attested")


def imported_terms(exchanges: Iterable[Exchange], config: TeacherConfig) -> TermsVerdict:
    """Licence and terms of the imported answers, if a model may be trained on all of them.

    What a log leaves open, or forbids, the recipe's ``[teacher.terms]`` may settle.

    Raises:
        TermsError: neither the log nor the recipe says that they may train a model.
    """
    licences: dict[str, None] = {}
    terms: dict[str, None] = {}
    verdict = check_terms(config)
    for exchange in exchanges:
        if not exchange.source.startswith("imported:"):
            continue
        said = exchange.terms.strip()
        if said.casefold().startswith(PERMITTED):
            terms[said] = None
        elif config.terms.training in PERMITTED:
            terms[verdict.terms if said == "unknown" else f"{said}; {verdict.terms}"] = None
        else:
            raise TermsError(
                f"{exchange.source.removeprefix('imported:')} (answers of {exchange.teacher})",
                "nobody has said that these answers may train a model: the terms that were "
                f"imported with them are {said!r}",
                "read the teacher's terms, then write under [teacher.terms] either training = "
                '"allowed" with licence and url, or training = "attested" with attestation = "the '
                'right you hold"; or import the log into a new ledger with `--terms allowed`',
            )
        unsaid = exchange.licence == "unknown"
        licences[config.terms.licence if unsaid else exchange.licence] = None
    return verdict.model_copy(
        update={"licence": "; ".join(licences) or "unknown", "terms": "; ".join(terms)}
    )


class LedgerQuestioner:
    """Reads label votes from imported exchanges; several answers on one input are its votes.

    Args:
        exchanges: the ledger's, in order; only imported ones are used.
        labels: the words for each label; an answer may also be the label itself.
    """

    def __init__(self, exchanges: Iterable[Exchange], labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._answers: dict[str, list[Exchange]] = {}
        self.sources: dict[str, int] = {}
        for exchange in exchanges:
            if exchange.source.startswith("imported:"):
                key = text_hash(last_user_text(exchange))
                self._answers.setdefault(key, []).append(exchange)

    async def ask(self, text: str) -> LabelAnswer:
        """The votes on one input; ``FAILED`` where nothing was imported for it."""
        size = len(self._labels)
        zeros = np.zeros(size)
        exchanges = self._answers.get(text_hash(text), [])
        if not exchanges:
            return LabelAnswer(
                Outcome.FAILED, zeros, zeros, zeros, (), "no imported answer for this input"
            )
        keys = tuple(exchange.request.key for exchange in exchanges)
        counts = np.zeros(size)
        for exchange in exchanges:
            label = self._label_of(exchange.completion)
            if label is not None:
                counts[list(self._labels).index(label)] += 1
        if not counts.sum():
            first = exchanges[0].completion
            answered = first.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
            outcome = Outcome.MALFORMED if answered else first.outcome
            error = f"names none of the labels: {first.text[:80]!r}"
            return LabelAnswer(outcome, zeros, zeros, zeros, keys, error)
        low = counts / len(exchanges)
        point = (counts + 0.5 / size) / (counts.sum() + 0.5)
        return LabelAnswer(Outcome.ANSWERED, low, low + (1 - low.sum()), point, keys)

    def _label_of(self, completion: Completion) -> str | None:
        if completion.outcome not in (Outcome.ANSWERED, Outcome.TRUNCATED):
            return None  # a refusal that begins with "No" is no vote for "no"
        text = completion.text
        names = {label: label for label in self._labels}
        return parse_answer(text, self._labels, fold=True) or parse_answer(text, names, fold=True)
