"""What the tests on log-probs share: the log with its commitment, the models, their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from overproof.api.audit_commits import LOG, audit_verify
from overproof.api.audit_plans import Setting
from overproof.errors import ConfigError, DataError

if TYPE_CHECKING:
    from overproof.audit.commitments import CommitmentCheck, SealedRequest
    from overproof.audit.served import Pool, Pooling, ServedRequest
    from overproof.audit.suspects import ModelSource

__all__ = [
    "EMPTY",
    "Models",
    "planned_reference",
    "require_ghosts",
    "same_host",
    "scored_pools",
    "served_log",
    "sources_of",
    "without_empty",
]

Progress = Callable[[int, int], None]
INCOMPLETE = (
    "{} prompt(s) of the ledger left out whole: a sample of theirs failed, was asked twice, or is "
    "the only one"
)
EMPTY = "{} prompt(s) left out whole: an answer to them is empty"


@dataclass(frozen=True)
class Models:
    """What scores answers: None where the log has the log-probs.

    Attributes:
        suspect: weights, or ``MODEL@http://HOST/v1``.
        reference: a model that never saw the log; likewise.
        key_env: the variable with the key of the suspect's server.
        raw: prompts as plain text.
        progress: called as answers are scored.
    """

    suspect: str | None = None
    reference: str | None = None
    key_env: str | None = None
    raw: bool = False
    progress: Progress | None = None

    def named(self) -> dict[str, str | None]:
        """Suspect and reference by their names in a score."""
        return {"suspect": self.suspect, "reference": self.reference}

    def score(self, pooling: Pooling, seed: int) -> Pooling:
        """The same pools with the log-probs of each model that is given.

        Raises:
            OverproofError: a model cannot be loaded or asked, or an answer not scored.
        """
        pools: Sequence[Pool] = pooling.pools
        sources = sources_of(self.suspect, self.reference, key_env=self.key_env, raw=self.raw)
        for model, source in sources if pools else ():
            pools = scored_pools(pools, model, source, seed, self.progress)
        return replace(pooling, pools=tuple(pools))


def require_ghosts(setting: Setting, pools: Sequence[Pool]) -> None:
    """Refuse another number of ghosts than planned."""
    if setting.planned is None or not pools:
        return
    common = Counter(pool.ghosts for pool in pools).most_common(1)[0][0]
    setting.require({"ghosts": common})


def sources_of(
    suspect: str | None, reference: str | None, *, key_env: str | None, raw: bool
) -> list[tuple[str, ModelSource]]:
    """The models to score with; a key goes to the suspect's server, and to no other."""
    from overproof.audit.suspects import parse_source

    found = []
    for model, text in (("suspect", suspect), ("reference", reference)):
        if text is not None:
            own = key_env if model == "suspect" or same_host(text, suspect) else None
            found.append((model, parse_source(text, key_env=own, raw=raw)))
    return found


def served_log(
    log: Path, commitment: Path | None, root: str | None, index_root: str | None
) -> tuple[Sequence[ServedRequest], CommitmentCheck | None, list[Path], str]:
    """The requests, their commitment's check, the files of both, and what had to be left out."""
    from overproof.audit.sealed_requests import held_against
    from overproof.audit.served import read_served, requests_of_log
    from overproof.audit.served_ledger import requests_of_ledger
    from overproof.records.ledger import Ledger, ledger_path

    check: CommitmentCheck | None = None
    sealed: Sequence[SealedRequest] = ()
    if commitment is not None:
        check, sealed = audit_verify(commitment, root=root, index_root=index_root)
        if commitment == log:
            return requests_of_log(sealed), check, [log / LOG], ""
    left_out = ""
    if log.is_dir() or log.suffix in (".db", ".sqlite", ".ledger"):
        file = ledger_path(log)
        if log.is_dir() and not file.exists():
            raise DataError(
                str(log), "is a directory without a ledger",
                "name a JSON Lines file, a run directory, a ledger, or what `audit commit` wrote "
                "(as log and as --commitment)",
            )  # fmt: skip
        with Ledger.open(file) as ledger:
            reading = requests_of_ledger(ledger)
        requests: Sequence[ServedRequest] = reading.requests
        if reading.incomplete:
            left_out = INCOMPLETE.format(reading.incomplete)
        if not requests:
            raise DataError(
                str(file), "has no served answer with ghosts", "draw several samples a request"
            )
    else:
        file = log
        requests = read_served(log)
    if check is not None:
        check = held_against(requests, check, sealed)
    return requests, check, [file], left_out


def without_empty(pooling: Pooling) -> tuple[Pooling, int]:
    """Leave out pools with an empty answer, whichever it is: nothing can be scored there."""
    kept = tuple(pool for pool in pooling.pools if all(each.text for each in pool.answers))
    return replace(pooling, pools=kept), len(pooling.pools) - len(kept)


def planned_reference(setting: Setting, pools: Sequence[Pool]) -> str | None:
    """Which log-probs the score subtracts, as planned."""
    has = any("reference" in answer.logprobs for pool in pools for answer in pool.answers)
    planned: Any = setting.planned
    if planned is not None and planned.score == "log-prob":
        return None
    if planned is not None and planned.score == "log-ratio" and pools and not has:
        raise ConfigError(
            f"{setting.name}.score", "was planned as log-ratio; log-probs of a reference are "
            "missing", "give --reference, or a log with them",
        )  # fmt: skip
    return "reference" if has else None


def scored_pools(
    pools: Sequence[Pool],
    model: str,
    source: ModelSource,
    seed: int,
    progress: Progress | None,
) -> list[Pool]:
    """The pools with the log-probs of one model more, under the name ``model``."""
    from overproof.audit.ghost_scores import attach_logprobs
    from overproof.audit.suspects import open_scorer

    with open_scorer(source, progress) as scorer:
        return attach_logprobs(pools, model, scorer, seed)


def same_host(text: str, suspect: str | None) -> bool:
    """Whether two servers are one: a key is sent to the server it belongs to, and no other."""
    if suspect is None or "@http" not in text or "@http" not in suspect:
        return False
    ours, theirs = (urlsplit(each[each.find("@http") + 1 :]) for each in (text, suspect))
    return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
