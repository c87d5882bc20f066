"""A planned look of the ghosts test: what is due, on which data, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_plans import Setting, flagged, weight_files
from overproof.api.audit_served import (
    EMPTY,
    Models,
    planned_reference,
    require_ghosts,
    without_empty,
)
from overproof.errors import ConfigError, DataError, OverproofError

if TYPE_CHECKING:
    from overproof.audit.commitments import CommitmentCheck
    from overproof.audit.looks import LookRecord
    from overproof.audit.sequential import SequentialPlan
    from overproof.audit.served import Pool, Pooling, ServedRequest
    from overproof.records.audit import TestFinding

__all__ = ["audit_power_in_stages", "ghosts_look"]

FROM_LOG = "log-probs in the log"


@dataclass(frozen=True)
class _Due:
    """The look that is due, before the suspect is asked."""

    plan: SequentialPlan
    records: Sequence[LookRecord]
    opened: LookRecord
    batches: Sequence[Pooling]
    empty: int

    @property
    def kept(self) -> LookRecord | None:
        """The same look, where it was taken before."""
        place = self.opened.look - 1
        record = self.records[place] if place < len(self.records) else None
        return record if record is not None and record.models else None


def ghosts_look(
    setting: Setting,
    requests: Sequence[ServedRequest],
    check: CommitmentCheck | None,
    files: Sequence[Path],
    models: Models,
    *,
    wanted: int | None = None,
    use_was_blind: bool = False,
    left_out: str = "",
) -> TestFinding:
    """Take the look that is due, on the first of the log's requests.

    What earlier looks saw is kept as it was scored then; the suspect is asked about new requests
    alone.

    Args:
        setting: of a test that is planned in stages.
        requests: of the log, in its order.
        check: the log held against its commitment.
        files: where both come from, to be noted by digest.
        models: what scores the answers.
        wanted: which look; the next where it is None.
        use_was_blind: attested: use did not depend on which answer was served.
        left_out: what the log had to leave out, in words; empty for nothing.

    Raises:
        ConfigError: a look that was not planned, is out of order or comes too early, or other
            models than before.
        DataError: other requests than before.
    """
    from overproof.audit import staged_ghosts
    from overproof.audit.ghosts import GhostSettings
    from overproof.audit.looks import Fate, scores_of

    due = _due(setting, requests, models, wanted)
    settings = GhostSettings(alpha=due.plan.alpha, use_was_blind=use_was_blind, seed=setting.seed)
    early = staged_ghosts.refused_early(due.batches, due.plan, settings, check)
    if due.kept is None:
        _write(setting, replace(due.opened, fate=Fate.OPENED if early is None else Fate.REFUSED))
    setting.record([*files, *(f for text in models.named().values() for f in weight_files(text))])
    if early is not None:
        return setting.keep(early)
    scored = _scored(setting, due, models)
    finding = staged_ghosts.staged_ghosts_test(
        scored, due.plan, settings, commitment=check,
        reference=planned_reference(setting, _pools(scored)),
    )  # fmt: skip
    fate, words = _came_to(finding)
    record = replace(due.opened, fate=fate, words=words)
    if fate is not Fate.REFUSED:
        kept = scores_of(scored[-1].pools)
        record = replace(record, models=_identities(models), pools=kept)
    _write(setting, record)
    finding = flagged(finding, left_out) if left_out else finding
    return setting.keep(_with_left_out(finding, due, len(requests)))


def _due(
    setting: Setting, requests: Sequence[ServedRequest], models: Models, wanted: int | None
) -> _Due:
    """Which look it is, and that it may be taken: every mistake is told before it is opened."""
    from overproof.audit.looks import LookRecord, due_look, request_digest, require_same_data
    from overproof.audit.staged_ghosts import batches_of, sequential_plan

    assert setting.sealed is not None
    planned: Any = setting.planned
    plan = sequential_plan(planned, setting.sealed.plan.share)
    records = _records(setting)
    look = due_look(setting.name, records, plan.looks, wanted)
    _require_enough(setting.name, look, plan.looks, len(requests))
    used = requests[: plan.looks[look - 1]]
    digests = [request_digest(request) for request in used]
    wheres = [request.where for request in used]
    require_same_data(setting.name, records, digests, _identities(models), wheres)
    found = [without_empty(batch) for batch in batches_of(used, plan.looks[:look])]
    batches = [pooling for pooling, _ in found]
    require_ghosts(setting, _pools(batches))
    if models.reference is None:
        planned_reference(setting, _pools(batches))
    new = digests[plan.looks[look - 2] if look > 1 else 0 :]
    opened = LookRecord(look, tuple(new))
    return _Due(plan, records, opened, batches, sum(empty for _, empty in found))


def _scored(setting: Setting, due: _Due, models: Models) -> list[Pooling]:
    """Earlier looks as they were scored then, and this one now, unless it was taken before."""
    from overproof.audit.looks import Fate, with_scores

    known = [*due.records[: due.opened.look - 1], *([due.kept] if due.kept else [])]
    scored = [
        replace(batch, pools=tuple(with_scores(batch.pools, each.pools, f"look {each.look}")))
        for batch, each in zip(due.batches, known, strict=False)
    ]
    if due.kept is not None:
        return scored
    try:
        return [*scored, models.score(due.batches[-1], setting.seed)]
    except OverproofError:  # nothing was shown of what the suspect said
        _write(setting, replace(due.opened, fate=Fate.REFUSED))
        raise


def _pools(batches: Sequence[Pooling]) -> list[Pool]:
    return [pool for batch in batches for pool in batch.pools]


def _write(setting: Setting, record: LookRecord) -> None:
    from overproof.audit.looks import write_look

    assert setting.sealed is not None
    assert setting.directory is not None
    write_look(setting.directory, setting.name, setting.sealed.sha256, record)


def _with_left_out(finding: TestFinding, due: _Due, there: int) -> TestFinding:
    if due.empty:
        finding = flagged(finding, EMPTY.format(due.empty))
    if (more := there - due.plan.looks[-1]) > 0:
        finding = flagged(
            finding, f"{more:,} request(s) behind the planned {due.plan.looks[-1]:,} were left out"
        )
    return finding


def _records(setting: Setting) -> list[LookRecord]:
    """Looks so far. A journal that knows of one where none is left shows that it was removed."""
    from overproof.audit.looks import FOLDER, read_looks
    from overproof.audit.preregistration import read_data_digests

    assert setting.sealed is not None
    assert setting.directory is not None
    records = read_looks(setting.directory, setting.name, setting.sealed.sha256)
    if not records and any(
        digest.test == setting.name for digest in read_data_digests(setting.sealed)
    ):
        raise DataError(
            str(setting.directory / FOLDER),
            f"has no look of {setting.name}, and the journal of data says that one was taken",
            "restore the folder; a look cannot be taken twice",
        )
    return records


def _require_enough(name: str, look: int, planned: Sequence[int], there: int) -> None:
    if there < planned[look - 1]:
        at = ", ".join(f"{n:,}" for n in planned)
        raise ConfigError(
            f"{name}: look {look} of {len(planned)}",
            f"was planned at {planned[look - 1]:,} requests; the log has {there:,}",
            f"looks are taken at {at} requests and at no other number: come back with more",
        )


def _identity(model: str | None) -> str:
    """What must stay the same from look to look: a server's model by name, weights by digest."""
    from overproof.records.hashing import content_hash, file_sha256

    if model is None:
        return FROM_LOG
    files = weight_files(model)
    if not files:
        return model.partition("@http")[0]
    try:
        return content_hash([file_sha256(file) for file in files])
    except OSError as error:
        raise DataError(model, f"cannot be read: {error.strerror or error}") from error


def _identities(models: Models) -> dict[str, str]:
    return {model: _identity(text) for model, text in models.named().items()}


def _came_to(finding: TestFinding) -> tuple[Any, str]:
    """The fate of a look, and a few words on it."""
    from overproof.audit.looks import Fate
    from overproof.records.audit import Standing

    if finding.standing is Standing.REFUSED:
        return Fate.REFUSED, finding.reasons[0]
    if finding.standing is Standing.INTERIM or finding.p is None:
        return Fate.CONTINUE, finding.reasons[0]
    return Fate.DECIDED, f"{finding.details['looks'][-1]['decision']}, p = {finding.p:.3g}"


def audit_power_in_stages(
    looks: int,
    *,
    spending: str = "obrien-fleming",
    share: float = 0.2,
    auc: float = 0.75,
    ghosts: int = 3,
    alpha: float = 0.01,
    power: float = 0.9,
) -> dict[str, Any]:
    """What a ghosts test of several even looks needs and saves.

    Args:
        looks: how many.
        spending: ``obrien-fleming`` or ``pocock``.
        share: of the log's prompts that was used.
        auc: the chance that a used answer outranks a ghost.
        ghosts: K.
        alpha: of all looks together.
        power: the wished probability of a rejection at any look.

    Returns:
        ``prompts`` in all, ``at`` (each look's), ``boundaries``, ``spent``, ``by_look``, and the
        ``expected_prompts`` seen until the test ends, used and unused.

    Raises:
        ConfigError: a number out of its range, or no such spending.
    """
    from overproof.audit import staged_planning
    from overproof.audit.sequential import SequentialPlan
    from overproof.audit.staged_ghosts import SPENDINGS
    from overproof.config.audit import MOST_LOOKS, Spending

    if not 1 <= looks <= MOST_LOOKS:
        raise ConfigError("--looks", f"is {looks}", f"1 to {MOST_LOOKS} can be planned")
    if spending not in tuple(Spending):
        raise ConfigError("--spending", f"is {spending!r}", f"one of {', '.join(Spending)}")
    spends = SPENDINGS[Spending(spending)]
    try:
        prompts = staged_planning.staged_prompts_needed(
            share, auc, looks=looks, ghosts=ghosts, alpha=alpha, power=power, spending=spends
        )
        at = staged_planning.even_looks(prompts, looks)
        found = staged_planning.staged_power(SequentialPlan(at, ghosts, alpha, spends), share, auc)
    except ValueError as error:
        raise ConfigError("planning of ghosts in stages", str(error), "see --help") from error
    return {
        "looks": looks, "spending": spending, "prompts": prompts, "at": list(at),
        "boundaries": list(found.boundaries), "spent": list(found.spent),
        "by_look": list(found.by_look), "power_in_all": found.power,
        "expected_prompts": found.expected_prompts,
        "expected_prompts_if_unused": found.expected_if_unused,
    }  # fmt: skip
