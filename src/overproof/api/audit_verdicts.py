"""The ends of an audit: what it would take beforehand, what it comes to afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_plans import PLAN
from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.audit.attestation import Attestation
    from overproof.records.audit import Effect, TestFinding
    from overproof.report.audit_signers import SignedBy, Signer

__all__ = ["Verdict", "audit_power", "audit_verdict"]

USED = "share of the log's prompts that was used, at least"  # as the ghosts test names it
MILLION = 1e6
MOST_REFERENCES = 9_999  # models of each kind; nobody has more
MOST_EXACT = 20_000  # prompts for which the exact power is computed in seconds


@dataclass(frozen=True)
class Verdict:
    """A verdict with what it was made of.

    Attributes:
        attestation: verdict, words and what they rest on.
        findings: by name.
        files: that were written.
        signed_by: with what; None where it is not signed.
    """

    attestation: Attestation
    findings: Mapping[str, TestFinding]
    files: tuple[Path, ...]
    signed_by: SignedBy | None = None


def audit_verdict(
    directory: Path,
    *,
    given_away: str | None = None,
    out: Path | None = None,
    log_tokens: float | None = None,
    training_tokens: tuple[float, float] | None = None,
    shadows: Path | None = None,
    signing_key: Path | None = None,
) -> Verdict:
    """Join all findings beside a plan into one verdict, and write its pages.

    Args:
        directory: with the sealed plan and its findings.
        given_away: the plan's hash as it was published before the data were seen.
        out: where the pages go; the plan's directory where it is None.
        log_tokens: tokens of the log's answers, for the share of the training data.
        training_tokens: smallest and largest stated size of the suspect's training data.
        shadows: JSONL of shadow students, for the dose equivalent: ``{"recipe": "…",
            "dose_percent": 5, "seed": 0, "effect": 0.012}``, the effect measured as the watermark
            test measures it on the suspect.
        signing_key: PEM file of an Ed25519 key that signs. Without it signs what the environment
            holds: such a key in ``OVERPROOF_AUDIT_SIGNING_KEY``, or a shared secret in
            ``OVERPROOF_AUDIT_KEY``; without any the verdict is unsigned.

    Raises:
        DataError: the plan or a finding was altered, or the key cannot be read.
        ConfigError: no plan, a finding of another kind than planned, or two keys.
        SecretError: a variable holds no key.
        MissingExtraError: an Ed25519 key was given, and cryptography is not installed.
    """
    from overproof.api.audit_grounds import finding_digests
    from overproof.audit.attestation import attest
    from overproof.audit.finding_files import read_findings
    from overproof.audit.preregistration import read_data_digests, read_sealed_plan
    from overproof.report.audit import write_audit_report

    signer = _signer(signing_key)
    sealed = read_sealed_plan(directory / PLAN, given_away)
    findings = read_findings(directory, sealed.sha256)
    data = read_data_digests(sealed)
    how_much = _how_much(findings, log_tokens, training_tokens, _dose(findings, shadows))
    attestation = attest(sealed, findings, how_much=how_much, data=data)
    files = write_audit_report(
        attestation.to_json(),
        findings,
        out or directory,
        plan=sealed.plan,
        data=[asdict(each) for each in data],
        finding_files=finding_digests(directory),
        signer=signer,
    )
    signed_by = None if signer is None else signer.signed_by
    return Verdict(attestation, findings, tuple(files), signed_by)


def _signer(signing_key: Path | None) -> Signer | None:
    """Who signs; a key named on the command line goes before one in the environment."""
    from overproof.report.audit_key_files import (
        SIGNING_KEY_ENV,
        read_signing_key,
        signing_key_of,
    )
    from overproof.report.audit_signers import KEY_ENV, HmacSigner, audit_key

    if signing_key is not None:
        return read_signing_key(signing_key)
    private, shared = signing_key_of(), audit_key()
    if private is not None and shared is not None:
        raise ConfigError(
            f"{SIGNING_KEY_ENV} and {KEY_ENV}", "are both set, and a verdict has one signature",
            "unset one, or name the key with --signing-key",
        )  # fmt: skip
    return private if shared is None else HmacSigner(shared)


def _how_much(
    findings: Mapping[str, TestFinding],
    log_tokens: float | None,
    training_tokens: tuple[float, float] | None,
    dose: Effect,
) -> tuple[Effect, ...]:
    """The four quantities, as far as the findings determine them."""
    from overproof.audit import quantities

    if training_tokens is not None and log_tokens is None:
        raise ConfigError(
            "a range of the training data's size", "needs the log's", "give --log-tokens too"
        )
    bounds = [
        effect
        for finding in findings.values()
        if finding.test == "ghosts"
        for effect in finding.effects
        if effect.name == USED and effect.low is not None
    ]
    best = bounds[0] if len(bounds) == 1 else None
    of_log = quantities.share_of_log(
        None if best is None else best.low,
        0.95 if best is None or best.confidence is None else best.confidence,
        "" if best is None else best.why,
    )
    if len(bounds) > 1:
        of_log = quantities.not_identifiable(
            of_log.name, "several tests of ghosts bound the shares of several logs; see each"
        )
    return quantities.HowMuch(
        of_log=of_log,
        of_training_data=quantities.share_of_training_data(
            of_log, log_tokens or 0.0, training_tokens
        ),
        dose=dose,
        of_output=quantities.not_identifiable(
            quantities.OUTPUT,
            "a student's diluted trace is not watermarked text; the pivots of a Gumbel watermark, "
            "one for each unique context of text that may have been served directly, would "
            "identify it (overproof.audit.quantities.watermarked_share)",
        ),
    ).effects()


def _dose(findings: Mapping[str, TestFinding], shadows: Path | None) -> Effect:
    """The dose equivalent of the watermark's effect among shadow students, or why there is none."""
    from overproof.audit import dose
    from overproof.audit.quantities import not_identifiable
    from overproof.audit.shadow_files import read_shadows

    if shadows is None:
        return not_identifiable(
            dose.NAME,
            "no shadow students were trained to compare the suspect with; students of three or "
            "more recipes at three or more doses, and the watermark's effect on each, would "
            "identify it (--shadows FILE)",
            dose.UNIT,
        )
    students = read_shadows(shadows)
    marked = [
        finding.effects[0]
        for finding in findings.values()
        if finding.test == "watermark" and finding.effects
    ]
    if len(marked) != 1:
        reason = (
            f"{len(marked)} watermark tests have an effect; shadow students are compared by one"
        )
        return not_identifiable(dose.NAME, reason, dose.UNIT)
    value, error = marked[0].value, _standard_error(marked[0])
    if value is None or error is None:
        reason = f"the suspect's effect ({marked[0].name}) has no interval, so its error is unknown"
        return not_identifiable(dose.NAME, reason, dose.UNIT)
    found = dose.dose_equivalent(value, students, error=error)
    return replace(found, why=f"{found.why}; compared by {marked[0].name}")


def _standard_error(effect: Effect) -> float | None:
    """From the interval, as if it were normal; None where it has no two ends."""
    from statistics import NormalDist

    if effect.low is None or effect.high is None or effect.confidence is None:
        return None
    reach = NormalDist().inv_cdf(0.5 + effect.confidence / 2)
    return (effect.high - effect.low) / (2 * reach)


def audit_power(
    test: str,
    *,
    alpha: float = 0.01,
    power: float = 0.9,
    share: float = 0.2,
    auc: float = 0.75,
    ghosts: int = 3,
    tokens: float = 300.0,
    usd_drawn: float | None = None,
    usd_scored: float | None = None,
    shift: float | None = None,
    green: float = 0.25,
) -> dict[str, float | int | str | None]:
    """What a wished power needs, and what it costs.

    Args:
        test: ``ghosts``, ``watermark``, ``references`` or ``base-shift``.
        alpha: the level of the one test.
        power: the wished probability of finding what is there.
        share: ghosts: of the log's prompts that was used.
        auc: ghosts: the chance that a used answer outranks a ghost.
        ghosts: K, unserved answers a prompt.
        tokens: of an answer.
        usd_drawn: dollars a million tokens that the teacher draws.
        usd_scored: dollars a million tokens that the suspect scores.
        shift: watermark: green rate above the share of green tokens (default .0088, of a
            supervised student of marked answers); references: standard deviations (default 3).
        green: watermark: the share of green tokens.

    Raises:
        ConfigError: no such test, or a number out of its range.
    """
    try:
        if test == "ghosts":
            wished = {"share": share, "auc": auc, "ghosts": ghosts, "alpha": alpha, "power": power}
            return _ghosts(wished, tokens, usd_drawn, usd_scored)
        if test == "watermark":
            return _watermark(alpha, power, 0.0088 if shift is None else shift, green)
        if test in ("references", "base-shift"):
            return _references(alpha, power, 3.0 if shift is None else shift)
    except ValueError as error:
        raise ConfigError(f"planning of {test}", str(error), "see `audit power --help`") from error
    raise ConfigError(
        f"planning of {test!r}", "is not known",
        "one of ghosts, watermark, references, base-shift (weights need no planning: the files "
        "are all there is)",
    )  # fmt: skip


def _ghosts(
    wished: Mapping[str, Any], tokens: float, usd_drawn: float | None, usd_scored: float | None
) -> dict[str, float | int | str | None]:
    from overproof.audit import planning

    if not tokens > 0 or any(price is not None and price < 0 for price in (usd_drawn, usd_scored)):
        raise ValueError("an answer has tokens, and a price is not negative")
    formula = planning.prompts_needed(**wished)
    exact = formula
    if formula <= MOST_EXACT:
        exact = planning.prompts_needed_exactly(**wished)
    cost = planning.ghost_cost(
        exact,
        wished["ghosts"],
        tokens,
        usd_per_drawn=None if usd_drawn is None else usd_drawn / MILLION,
        usd_per_scored=None if usd_scored is None else usd_scored / MILLION,
    )
    found: dict[str, float | int | str | None] = {
        "test": "ghosts", **wished,
        "prompts": exact, "prompts_by_formula": formula,
        "ghost_tokens": cost.ghost_tokens, "scored_tokens": cost.scored_tokens, "usd": cost.usd,
        "cheapest_ghosts": None,
    }  # fmt: skip
    if usd_drawn is not None and usd_scored is not None and usd_drawn + usd_scored > 0:
        found["cheapest_ghosts"] = planning.cheapest_ghosts(
            tokens, usd_per_drawn=usd_drawn / MILLION, usd_per_scored=usd_scored / MILLION
        )
    return found


def _watermark(
    alpha: float, power: float, shift: float, green: float
) -> dict[str, float | int | str | None]:
    from overproof.audit.alternate_keys import alternates_needed
    from overproof.audit.radioactivity import tokens_needed

    return {
        "test": "watermark", "alpha": alpha, "power": power, "shift": shift, "green": green,
        "scored_pairs": tokens_needed(shift, green, alpha=alpha, power=power),
        "alternate_keys": max(999, alternates_needed(alpha / 10)),
        "fewest_keys": alternates_needed(alpha),
    }  # fmt: skip


def _references(alpha: float, power: float, shift: float) -> dict[str, float | int | str | None]:
    from overproof.audit.reference_power import fewest_references, references_needed

    if not 0 < power < 1 or not shift > 0:
        raise ValueError("power lies between 0 and 1, the shift is above 0")
    fewest = fewest_references(alpha)
    if fewest > MOST_REFERENCES:
        raise ConfigError(
            f"a level of {alpha:g}",
            f"is below the floor of every test among models that anyone has: it needs {fewest:,} "
            "references of each kind",
            f"plan {1 / (MOST_REFERENCES + 1):g} or more, or a test that rests on randomness of "
            "the provider's own (ghosts, watermark, phrasings)",
        )
    return {
        "test": "references", "alpha": alpha, "power": power, "shift": shift,
        "fewest_of_each": fewest,
        "needed_of_each": references_needed(shift, alpha, power),
    }  # fmt: skip
