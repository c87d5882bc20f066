"""The tests of an audit that rest on a suspect's log-probs: ghosts, and the shift from a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_looks import ghosts_look
from overproof.api.audit_plans import (
    LOG,
    flagged,
    model_name,
    require_models,
    setting_of,
    weight_files,
)
from overproof.api.audit_served import (
    EMPTY,
    Models,
    planned_reference,
    require_ghosts,
    same_host,
    scored_pools,
    served_log,
    without_empty,
)
from overproof.errors import ConfigError, DataError

if TYPE_CHECKING:
    from overproof.audit.base_shift import AnswerScores
    from overproof.audit.served import Pool, ServedRequest
    from overproof.records.audit import TestFinding

__all__ = ["audit_base_shift", "audit_ghosts"]

Progress = Callable[[int, int], None]


def audit_ghosts(
    log: Path,
    *,
    suspect: str | None = None,
    reference: str | None = None,
    key_env: str | None = None,
    raw: bool = False,
    commitment: Path | None = None,
    root: str | None = None,
    index_root: str | None = None,
    plan: Path | None = None,
    name: str | None = None,
    alpha: float | None = None,
    use_was_blind: bool = False,
    look: int | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """Did the suspect see which of several answers was served?

    Args:
        log: JSONL, a ledger or its run directory, or a directory of `audit_commit`.
        suspect: weights, or ``MODEL@http://HOST/v1``; None where the log has its log-probs.
        reference: a model that never saw the log, for the score; likewise.
        key_env: the variable with the key of the suspect's server.
        raw: prompts as plain text, without a chat template.
        commitment: directory of `audit_commit` that ``log`` is held against.
        root: of the log as it was published.
        index_root: of the served indices as it was published.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.
        use_was_blind: attested: use did not depend on which answer was served.
        look: of a test that is planned in stages; the next one where it is None.
        progress: called as answers are scored.

    Raises:
        ConfigError: other settings than planned, roots without a commitment, or a look that was
            not planned or is out of order.
        DataError: the log cannot be read, or is not the one of an earlier look.
        TeacherError: the suspect's server failed for good.
        ModelError: the suspect's weights cannot be loaded.
    """
    from overproof.audit.commitments import Integrity
    from overproof.audit.ghosts import GhostSettings, Statistic, ghosts_test
    from overproof.audit.served import pools_of

    setting = setting_of("ghosts", plan, name, alpha)
    if (log / LOG).is_file() and commitment is None:
        commitment = log
    if commitment is None and (root or index_root):
        raise ConfigError("a root", "is of no commitment", "give --commitment DIR")
    planned: Any = setting.planned
    is_staged = planned is not None and planned.is_staged
    if look is not None and not is_staged:
        raise ConfigError(f"look {look}", "is of no plan in stages", "leave --look out")
    requests, check, files, left_out = served_log(log, commitment, root, index_root)
    models = Models(suspect, reference, key_env, raw, progress)
    if is_staged:
        return ghosts_look(setting, requests, check, files, models, wanted=look,
                           use_was_blind=use_was_blind, left_out=left_out)  # fmt: skip
    requests, said = _as_many_as_planned(requests, None if planned is None else planned.prompts)
    pooling, empty = without_empty(pools_of(requests))
    require_ghosts(setting, pooling.pools)
    setting.note(suspect=model_name(suspect), reference=model_name(reference), raw=raw,
                 use_was_blind=use_was_blind)  # fmt: skip
    setting.record([*files, *weight_files(suspect), *weight_files(reference)])
    if check is None or check.integrity is Integrity.INTACT:  # an altered log is not worth scoring
        pooling = models.score(pooling, setting.seed)
    is_weighted = planned is not None and planned.score == "weighted"
    finding = ghosts_test(
        pooling,
        GhostSettings(  # the level is for the words on power; correction is the verdict's
            alpha=setting.share, statistic=Statistic.WEIGHTED if is_weighted else Statistic.RANKS,
            use_was_blind=use_was_blind, seed=setting.seed,
        ),
        commitment=check,
        reference=planned_reference(setting, pooling.pools),
    )  # fmt: skip
    for reason in (EMPTY.format(empty) if empty else "", said, left_out):
        finding = flagged(finding, reason) if reason else finding
    return setting.keep(finding)


def _as_many_as_planned(
    requests: Sequence[ServedRequest], planned: int | None
) -> tuple[Sequence[ServedRequest], str]:
    """The first of the log, as many as the plan states, and what is to be said of the others."""
    if planned is None or len(requests) == planned:
        return requests, ""
    if len(requests) < planned:
        return requests, f"{len(requests):,} request(s) came of the {planned:,} that were planned"
    more = len(requests) - planned
    return requests[:planned], f"{more:,} request(s) behind the planned {planned:,} were left out"


def audit_base_shift(
    answers: Path,
    *,
    suspect: str | None = None,
    base: str | None = None,
    innocents: Sequence[str] = (),
    key_env: str | None = None,
    raw: bool = False,
    plan: Path | None = None,
    name: str | None = None,
    alpha: float | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """Did fine-tuning move the suspect from its base towards this teacher's answers?

    Args:
        answers: JSONL of each prompt's answers, of the teacher and of decoys. Log-probs in it are
            those of ``suspect``, ``base``, and innocents by whatever other name.
        suspect: weights, or ``MODEL@http://HOST/v1``.
        base: likewise.
        innocents: fine-tunes of the same base.
        key_env: the variable with the key of the suspect's server.
        raw: prompts as plain text.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.
        progress: called as answers are scored.

    Raises:
        ConfigError: other models than planned.
        DataError: log-probs or token counts are missing.
    """
    from overproof.audit.base_shift import base_shift_test
    from overproof.audit.suspects import parse_source
    from overproof.audit.texts import models_of, read_contrasts

    setting = setting_of("base-shift", plan, name, alpha)
    pools = read_contrasts(answers)
    setting.note(
        suspect=model_name(suspect), base=model_name(base), raw=raw,
        innocents=sorted(str(model_name(each)) for each in innocents),
    )  # fmt: skip
    setting.record([answers, *(f for m in (suspect, base, *innocents) for f in weight_files(m))])
    named = [("base", base), ("suspect", suspect), *((each, each) for each in innocents)]
    for model, text in named:  # the base first: lengths are counted in its tokens
        if text is not None:
            own_key = key_env if model == "suspect" or same_host(text, suspect) else None
            source = parse_source(text, key_env=own_key, raw=raw)
            pools = scored_pools(pools, model, source, setting.seed, progress)
    known = models_of(pools)
    if "suspect" not in known:
        raise DataError(
            str(answers), "lacks the suspect's log-probs of an answer", "give --suspect MODEL"
        )
    others = [model for model in known if model not in ("suspect", "base", "teacher")]
    planned: Any = setting.planned
    if planned is not None:
        require_models(setting, "innocents", planned.innocents, others)
        if planned.base and base is not None:
            setting.require({"base": base})
    if any(answer.tokens is None for pool in pools for answer in pool.answers):
        raise DataError(
            str(answers), "has answers without 'tokens'", "count them in the base's tokenizer"
        )
    finding = base_shift_test(
        _scores(pools, "suspect"),
        _scores(pools, "base") if "base" in known else None,
        [_scores(pools, model) for model in others],
        [float(pool.answers[0].tokens or 0) for pool in pools],
        [[float(answer.tokens or 0) for answer in pool.answers[1:]] for pool in pools],
        alpha=setting.alpha,
        seed=setting.seed,
        share=setting.share,
    )
    return setting.keep(finding)


def _scores(pools: Sequence[Pool], model: str) -> AnswerScores:
    """A model's log-probs: of the teacher's answers, and of the decoys'."""
    from overproof.audit.base_shift import AnswerScores

    return AnswerScores(
        model,
        [pool.answers[0].logprobs[model] for pool in pools],
        [[answer.logprobs[model] for answer in pool.answers[1:]] for pool in pools],
    )
