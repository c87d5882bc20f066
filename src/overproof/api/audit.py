"""Was this model trained on that one, and how much? One function a test; each gives a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_looks import audit_power_in_stages
from overproof.api.audit_phrasings import audit_assign, audit_phrasings, audit_power_phrasings
from overproof.api.audit_plans import (
    Setting,
    audit_commit,
    audit_draw,
    audit_seal,
    audit_verify,
    flagged,
    require_models,
    setting_of,
    weight_files,
)
from overproof.api.audit_scores import audit_base_shift, audit_ghosts
from overproof.api.audit_verdicts import audit_power, audit_verdict
from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.audit.radioactivity import Plan
    from overproof.audit.texts import TokenTexts
    from overproof.audit.watermarks.schemes import Key, Scheme
    from overproof.records.audit import TestFinding

__all__ = [
    "audit_assign",
    "audit_base_shift",
    "audit_commit",
    "audit_draw",
    "audit_ghosts",
    "audit_key",
    "audit_phrasings",
    "audit_power",
    "audit_power_in_stages",
    "audit_power_phrasings",
    "audit_references",
    "audit_seal",
    "audit_verdict",
    "audit_verify",
    "audit_watermark",
    "audit_weights",
]

Progress = Callable[[int, int], None]


def audit_watermark(
    texts: Path,
    *,
    scheme: str | None = None,
    key_env: str | None = None,
    key_file: Path | None = None,
    tokenizer: Path | None = None,
    vocabulary: int | None = None,
    settings: Mapping[str, Any] | None = None,
    keys: int | None = None,
    weights: str | None = None,
    reference: str | None = None,
    plan: Path | None = None,
    name: str | None = None,
    alpha: float | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """Does a suspect's text, or its distribution, lean towards a watermark?

    Args:
        texts: JSONL; see `overproof.audit.texts`.
        scheme: as `overproof.audit.watermarks.schemes.make_scheme` knows it; the plan's if None.
        key_env: variable with the key.
        key_file: or a file with it, or with one a cohort.
        tokenizer: directory of the teacher's tokenizer.
        vocabulary: size that the scheme draws over; the tokenizer's where it is None.
        settings: of the scheme.
        keys: alternate keys; the plan's, or enough for the level.
        weights: the suspect's weights, to sum its probability of green tokens.
        reference: weights of a model with the teacher's tokenizer that never saw marked text, best
            the teacher itself; what it expects is taken away, see `overproof.audit.contrast`.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.
        progress: called as keys are tried.

    Raises:
        ConfigError: other settings than planned, a guessable key, no vocabulary.
        SecretError: the key's variable is not set.
        DataError: texts that cannot be read, or ids beyond the vocabulary.
    """
    from overproof.audit.radioactivity import Plan
    from overproof.audit.secret_keys import read_keys
    from overproof.audit.texts import open_tokenizer, read_texts

    setting = setting_of("watermark", plan, name, alpha)
    secret = read_keys(key_env, key_file)
    planned: Any = setting.planned
    opened = None if tokenizer is None else open_tokenizer(tokenizer)
    drawn_over = vocabulary or (opened.size if opened else None)
    settings = _as_planned(
        setting, secret, scheme, keys, settings, vocabulary=drawn_over, weights=weights,
        tokenizer=opened.sha256 if opened else None, reference=reference,
    )  # fmt: skip
    made = _scheme(scheme or (planned.scheme if planned else None), drawn_over, settings)
    for key in secret.values():
        made.check_key(key)
    read = read_texts(texts, opened)
    setting.record([texts, *weight_files(weights), *weight_files(reference)])
    chosen = Plan(
        alpha=setting.alpha, alternates=keys or (planned.keys if planned else None),
        seed=setting.seed, share=setting.share,
    )  # fmt: skip
    finding = _watermark_finding(
        read, made, secret, chosen, weights=weights, reference=reference,
        tokenizer=opened.sha256 if opened else None, progress=progress,
    )  # fmt: skip
    return setting.keep(replace(finding, test="watermark"))


def _watermark_finding(
    read: TokenTexts,
    scheme: Scheme,
    secret: Mapping[str, Key],
    plan: Plan,
    *,
    weights: str | None,
    reference: str | None,
    tokenizer: str | None,
    progress: Progress | None,
) -> TestFinding:
    """The form of the test that what is at hand allows; ``tokenizer`` is the teacher's."""
    from overproof.audit.contrast import contrast_test
    from overproof.audit.green_mass import green_mass_test
    from overproof.audit.radioactivity import cohort_test, watermark_test

    suspect = None if weights is None else _probabilities(weights, tokenizer)
    if reference is not None:
        finding = contrast_test(
            read.texts, _probabilities(reference, tokenizer), scheme, _only(secret),
            suspect=suspect, prompts=read.prompts, plan=plan, progress=progress,
        )  # fmt: skip
    elif suspect is not None:
        finding = green_mass_test(
            read.texts, suspect, scheme, _only(secret), prompts=read.prompts, plan=plan,
            progress=progress,
        )  # fmt: skip
    elif "" in secret:
        finding = watermark_test(
            read.texts, scheme, secret[""], prompts=read.prompts, plan=plan,
            tokenizer=read.tokenizer, teacher_tokenizer=tokenizer, progress=progress,
        )  # fmt: skip
    else:
        finding = cohort_test(
            read.texts, scheme, secret, prompts=read.prompts, plan=plan, progress=progress
        )
    return finding


def _as_planned(
    setting: Setting,
    secret: Mapping[str, Key],
    scheme: str | None,
    keys: int | None,
    settings: Mapping[str, Any] | None,
    *,
    vocabulary: int | None,
    tokenizer: str | None,
    weights: str | None,
    reference: str | None,
) -> Mapping[str, Any]:
    """Refuse what was planned otherwise, and note the rest; returns the scheme's settings."""
    from overproof.api.audit_plans import model_name
    from overproof.audit.secret_keys import key_sha256

    hashes = {name: key_sha256(key) for name, key in secret.items()}
    if scheme is not None:
        setting.require({"scheme": scheme})
    if keys is not None:
        setting.require({"keys": keys})
    planned: Any = setting.planned
    given = dict(settings or {})
    if planned is not None:
        setting.require({"reference": reference is not None})
        if given:
            setting.require({"settings": given})
        setting.require({"key_sha256": hashes.get("", hashes)})
        scheme, keys, given = planned.scheme, planned.keys, dict(planned.settings)
    setting.note(
        scheme=scheme, keys=keys, settings=given, key_sha256=hashes, vocabulary=vocabulary,
        tokenizer=tokenizer, weights=model_name(weights), reference=model_name(reference),
        uses_weights=weights is not None, uses_reference=reference is not None,
    )  # fmt: skip
    return given


def _only(secret: Mapping[str, Key]) -> Key:
    if len(secret) != 1:
        raise ConfigError(f"{len(secret)} keys", "are one too many here", "give one key")
    return next(iter(secret.values()))


def _scheme(name: str | None, vocabulary: int | None, settings: Mapping[str, Any] | None) -> Scheme:
    from overproof.audit.watermarks.schemes import make_scheme

    if name is None:
        raise ConfigError("the watermark's scheme", "is not named", "give --scheme")
    if vocabulary is None:
        raise ConfigError(
            "the vocabulary", "is not known",
            "give --tokenizer, or --vocabulary as the teacher's watermark used it",
        )  # fmt: skip
    try:
        return make_scheme(name, vocabulary, **dict(settings or {}))
    except ValueError as error:
        raise ConfigError(f"watermark {name!r}", str(error), "see its settings") from error


def _probabilities(weights: str, teachers: str | None) -> Callable[[Any, Any], Any]:
    from overproof.audit.watermarks.pairs import vocabulary_hash
    from overproof.clients.local_scores import load_scores

    scores = load_scores(weights, raw=True)
    if teachers is not None and vocabulary_hash(scores.vocabulary) != teachers:
        raise ConfigError(
            weights,
            "has another tokenizer than the teacher: its probabilities are of other tokens",
            "test the suspect's text without it",
        )
    return scores.probabilities


def audit_key(scheme: str, out: Path, settings: Mapping[str, Any] | None = None) -> str:
    """Draw a secret key for serving and write it, readable by its owner alone.

    Returns:
        Its SHA-256, for ``key_sha256`` in a plan.

    Raises:
        ConfigError: no such scheme, or the file exists.
    """
    from overproof.audit.secret_keys import key_sha256, write_key
    from overproof.audit.watermarks.schemes import fresh_key

    key = fresh_key(_scheme(scheme, 1 << 16, settings))
    write_key(out, key)
    return key_sha256(key)


def audit_references(
    answers: Path,
    *,
    models: Path | None = None,
    plan: Path | None = None,
    name: str | None = None,
    alpha: float | None = None,
) -> TestFinding:
    """Is the suspect nearer to this teacher than innocent models are, and than to decoys?

    Args:
        answers: JSONL of what all models answered.
        models: JSONL of what is known of them.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.

    Raises:
        ConfigError: other models than planned.
        DataError: a file cannot be read.
    """
    from overproof.audit.reference_answers import read_answers, read_models
    from overproof.audit.references import references_test

    setting = setting_of("references", plan, name, alpha)
    cards = None if models is None else read_models(models)
    read = read_answers(answers, cards)
    planned: Any = setting.planned
    reason = ""
    if planned is not None:
        require_models(setting, "innocents", planned.innocents, read.innocents)
        require_models(setting, "decoys", planned.decoys, read.decoys)
        if len(read.prompts) < planned.prompts or read.samples < planned.samples:
            reason = (
                f"{len(read.prompts)} prompts of {read.samples} samples came; planned were "
                f"{planned.prompts} of {planned.samples}"
            )
    setting.record([answers] if models is None else [answers, models])
    finding = references_test(read, alpha=setting.alpha, seed=setting.seed, share=setting.share)
    return setting.keep(flagged(finding, reason) if reason else finding)


def audit_weights(
    suspect: Path, other: Path, *, plan: Path | None = None, name: str | None = None,
    alpha: float | None = None,
) -> TestFinding:  # fmt: skip
    """Do the suspect's weights start from another model's?

    Args:
        suspect: a safetensors file, or a directory of them.
        other: the model that it may descend from.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.

    Raises:
        DataError: a file cannot be read.
    """
    from overproof.audit.weights import weights_test

    setting = setting_of("weights", plan, name, alpha)
    if suspect.resolve() == other.resolve():
        raise ConfigError(str(suspect), "is compared with itself", "name two models")
    setting.record([*weight_files(str(suspect)), *weight_files(str(other))])
    return setting.keep(weights_test(suspect, other, seed=setting.seed, alpha=setting.share))
