"""Answers that were imported: the commonest start, with no teacher to ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from overproof.clients.terms import TermsVerdict, check_terms, of_answers, refusal
from overproof.clients.terms_list import TermsEntry, strictest
from overproof.collect.inputs import last_user_text
from overproof.collect.labels import parse_answer
from overproof.collect.signal import LabelAnswer
from overproof.config.recipe import TeacherConfig
from overproof.errors import TermsError
from overproof.records.exchange import Completion, Exchange, Outcome
from overproof.records.hashing import text_hash

__all__ = ["LedgerQuestioner", "imported_terms"]


def imported_terms(exchanges: Iterable[Exchange], config: TeacherConfig) -> TermsVerdict:
    """Licence and terms of the imported answers, if a model may be trained on all of them.

    What a log leaves open, the recipe's ``[teacher.terms]`` may settle. What it forbids, or what is
    known to be forbidden to answers of that model, only an attestation settles: in the recipe, or
    imported with the log.

    Raises:
        TermsError: neither the log nor the recipe says that they may train a model, or terms that
            are known forbid it.
    """
    licences: dict[str, None] = {}
    terms: dict[str, None] = {}
    verdict = check_terms(config)
    known: dict[tuple[str, str], TermsEntry | None] = {}
    strict: list[TermsEntry] = []
    for exchange in exchanges:
        if not exchange.source.startswith("imported:"):
            continue
        answered_by = (exchange.request.model, exchange.licence)
        if answered_by not in known:
            known[answered_by] = strictest(of_answers(*answered_by))
            strict += [entry for entry in [known[answered_by]] if entry is not None]
        said = _settled(exchange, config, verdict, known[answered_by])
        terms[said] = None
        unsaid = exchange.licence == "unknown"
        licences[config.terms.licence if unsaid else exchange.licence] = None
    worst = strictest(strict)
    update: dict[str, object] = {
        "licence": "; ".join(licences) or "unknown",
        "terms": "; ".join(terms),
    }
    if worst is not None:
        update |= {"terms_say": worst.verdict, "clause": worst.says, "source": worst.source}
    return verdict.model_copy(update=update)


def _settled(
    exchange: Exchange, config: TeacherConfig, verdict: TermsVerdict, known: TermsEntry | None
) -> str:
    """The terms of one answer in words, if it may train a model."""
    said = exchange.terms.strip()
    folded = said.casefold()
    if folded.startswith("attested"):
        return said
    open_ = folded in ("", "unknown")
    if config.terms.training == "attested":
        return verdict.terms if open_ else said if _allows(folded) else f"{said}; {verdict.terms}"
    culprit = f"{exchange.source.removeprefix('imported:')} (answers of {exchange.teacher})"
    if known is not None and known.verdict != "yes":
        refusal(culprit, known)
    if _allows(folded):
        return said
    if open_ and config.terms.training == "allowed":
        return verdict.terms
    raise TermsError(
        culprit,
        "nobody has said that these answers may train a model: the terms that were imported with "
        f"them are {said!r}",
        "read the teacher's terms, then write under [teacher.terms] either training = "
        '"allowed" with licence and url, or training = "attested" with attestation = "the '
        'right you hold"; or import the log into a new ledger with `--terms allowed`'
        if open_
        else 'training = "allowed" does not override them; if you hold a right, write under '
        '[teacher.terms] training = "attested" with attestation = "the right you hold"',
    )


def _allows(folded: str) -> bool:
    return folded.startswith("allowed")


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
