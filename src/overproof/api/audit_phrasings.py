"""Account-keyed phrasings: sealing what to serve to whom, and testing a black-box suspect."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.api.audit_plans import Setting, flagged, setting_of
from overproof.errors import ConfigError

if TYPE_CHECKING:
    from overproof.audit.phrasing_files import SealedPhrasings
    from overproof.records.audit import TestFinding

__all__ = ["audit_assign", "audit_phrasings", "audit_power_phrasings"]

Progress = Callable[[int, int], None]


def audit_assign(slots: Path, out: Path, accounts: Sequence[str] = ()) -> SealedPhrasings:
    """Draw a secret key and seal which phrasing each account gets, before any is served.

    Args:
        slots: JSONL of slots with their equivalent phrasings.
        out: gets the secret files and the manifest, whose hash is to be published.
        accounts: to whom phrasings are assigned now; others may be tested if none is named.

    Raises:
        DataError: the slots cannot be used.
        ConfigError: something was sealed there before.
    """
    from overproof.audit.phrasing_files import read_phrasing_slots, seal_phrasings

    return seal_phrasings(read_phrasing_slots(slots), out, accounts)


def audit_phrasings(
    texts: Path,
    *,
    assignment: Path,
    published: str | None = None,
    accounts: Sequence[str] = (),
    served: Path | None = None,
    keys: int | None = None,
    plan: Path | None = None,
    name: str | None = None,
    alpha: float | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """Does a black-box suspect use the phrasings that a secret key chose for these accounts?

    Args:
        texts: JSONL of what the suspect said.
        assignment: directory of `audit_assign`.
        published: the assignment's hash as it was published; the plan's where there is one.
        accounts: whose phrasings are looked for; the plan's, or all that were assigned.
        served: JSONL of the slots that really went out, by account. It describes and decides
            nothing: the p-value counts all slots that were assigned.
        keys: alternate keys; the plan's, or enough for the level.
        plan: directory of the sealed plan.
        name: of the test in the plan.
        alpha: the level, where there is no plan.
        progress: called as keys are tried.

    Raises:
        ConfigError: other settings than planned, another assignment than published, no account.
        DataError: a file cannot be read, or was changed after it was sealed.
    """
    from overproof.audit import phrasing_files as files
    from overproof.audit.phrasings import MIN_ALTERNATES, describe_served, phrasings_test
    from overproof.records.audit import Standing

    setting = setting_of("phrasings", plan, name, alpha)
    sealed = files.read_sealed_phrasings(assignment)
    warning = _as_planned(setting, sealed, published, keys)
    chosen = _accounts(setting, sealed, accounts)
    planned: Any = setting.planned
    level = setting.share
    tried = keys or (planned.keys if planned else None)
    if tried is None:
        tried = max(MIN_ALTERNATES, math.ceil(10 / level - 1e-9) - 1)
    if tried < MIN_ALTERNATES:
        raise ConfigError(f"{tried} keys", "are too few", f"try {MIN_ALTERNATES} or more")
    said = files.read_phrasing_texts(texts, sealed.slots)
    went_out = None if served is None else files.read_served_slots(served)
    setting.note(alternates=tried, accounts=sorted(chosen), assignment=sealed.sha256)
    setting.record([texts, assignment / files.MANIFEST])  # what went out changes no p-value
    counts = files.count_phrasings(sealed.slots, said)
    slots = files.slots_of_accounts(counts, chosen)
    finding = phrasings_test(
        sealed.key, slots, alternates=tried, seed=setting.seed, alpha=level, progress=progress
    )
    details = {**finding.details, "texts": len(said), "assignment": sealed.sha256,
               "used_slots": sum(any(each) for each in counts.values())}  # fmt: skip
    if went_out is not None:
        details["went_out"] = describe_served(sealed.key, slots, went_out)
    finding = replace(finding, details=details)
    if finding.standing is not Standing.REFUSED and warning:
        finding = flagged(finding, warning)
    return setting.keep(finding)


def _as_planned(
    setting: Setting, sealed: SealedPhrasings, published: str | None, keys: int | None
) -> str:
    """Refuse another assignment than was published; returns a warning where none was."""
    if keys is not None:
        setting.require({"keys": keys})
    planned: Any = setting.planned
    if planned is not None and planned.assignment:
        setting.require({"assignment": sealed.sha256})
    elif published is None:
        return (
            "the assignment's hash was not compared with a published one: that the key was drawn "
            "before it was used rests on its keeper"
        )
    if published is not None and published.removeprefix("sha256:").lower() != sealed.sha256[7:]:
        raise ConfigError(
            "the assignment", f"has the hash {sealed.sha256}, not {published}",
            "use the assignment whose hash was published",
        )  # fmt: skip
    return ""


def _accounts(setting: Setting, sealed: SealedPhrasings, given: Sequence[str]) -> Sequence[str]:
    planned: Any = setting.planned
    if planned is not None and given and set(planned.accounts) != set(given):
        raise ConfigError(
            f"{setting.name}.accounts",
            "are others than planned" if planned.accounts else "were planned to be all together",
            "test under the plan as sealed",
        )
    chosen = given or (planned.accounts if planned else ()) or sealed.accounts
    if not chosen:
        raise ConfigError(
            "the accounts", "are named nowhere: neither in the assignment nor in a plan",
            "name them in the plan, or give --accounts",
        )  # fmt: skip
    if sealed.accounts:
        for account in chosen:
            if account not in sealed.accounts:
                raise ConfigError(
                    f"the account {account!r}", "was assigned nothing", "check its name"
                )
    return chosen


def audit_power_phrasings(
    *, share: float = 0.2, phrasings: int = 2, alpha: float = 0.01, power: float = 0.9
) -> dict[str, Any]:
    """How many slots a wished power needs.

    Args:
        share: of the slots at which the suspect follows the key.
        phrasings: to choose among at each.
        alpha: the level of the one test.
        power: the wished probability of a find.

    Raises:
        ConfigError: a number out of its range.
    """
    from overproof.audit.phrasings import MIN_ALTERNATES, slots_needed

    try:
        slots = slots_needed(share, phrasings, alpha=alpha, power=power)
    except ValueError as error:
        raise ConfigError(
            "planning of phrasings", str(error), "see `audit power --help`"
        ) from error
    return {
        "test": "phrasings", "alpha": alpha, "power": power, "share": share,
        "phrasings": phrasings, "slots": slots,
        "alternate_keys": max(MIN_ALTERNATES, math.ceil(10 / alpha - 1e-9) - 1),
    }  # fmt: skip
