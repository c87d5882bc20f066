"""What guard measures with, as a directory of frozen files: the shipped one, or a provider's own.

A directory holds two scorers and two calibrations, of accounts and of communities. A calibration
belongs to the scorer that gave its scores; a pair that does not belong together is refused.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from overproof.errors import DataError
from overproof.guard.appeal_weights import ENTERED, fates, shared_weights
from overproof.guard.calibration import Calibration
from overproof.guard.community_calibration import CommunityCalibration
from overproof.guard.pools import LEAST_ACCOUNTS, calibrate_accounts, calibrate_communities
from overproof.guard.recording import LookRecorder
from overproof.guard.scorer import Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.records.hashing import file_sha256

__all__ = [
    "FILES",
    "SHIPPED",
    "Instruments",
    "calibrate",
    "load_scorers",
    "new_recorder",
    "pool_notes",
]

FILES = (
    "accounts.scorer.json",
    "communities.scorer.json",
    "accounts.calibration.bin",
    "communities.calibration.bin",
)
SHIPPED = Path(__file__).with_name("fitted")
DAY_S = 86_400.0
# The share of the least pool that one organisation, or one payer, may make up: a company with
# thousands of keys counts as often as a hundredth of the accounts that a plan must have.
GROUP_SHARE = 0.01
MOST_OF_GROUP, KEPT = "most of one group", "kept from"
APPEALS, STAND_FOR = "appeals", "appeals stand for"
SIMULATED = "the shipped instruments, which were made on simulated traffic"


class Instruments:
    """Two scorers and their calibrations, read from a directory.

    Args:
        directory: holds the four ``FILES``.

    Raises:
        DataError: a file is missing, or is not what its name says.
        HashMismatchError: a file is not what was frozen.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.account_scorer, self.community_scorer = load_scorers(directory)
        self.accounts = Calibration.load(_file(directory, FILES[2]))
        self.communities = CommunityCalibration.load(_file(directory, FILES[3]))

    def identity(self) -> dict[str, str]:
        """The files' hashes, by the words that an error names them with."""
        return {name: file_sha256(self.directory / name) for name in FILES}


def load_scorers(directory: Path) -> tuple[Scorer, Scorer]:
    """The scorers of accounts and of communities.

    Raises:
        DataError: one is missing, or is no scorer.
        HashMismatchError: one is not what was frozen.
    """
    account, community = (Scorer.load(_file(directory, name)) for name in FILES[:2])
    return account, community


def _file(directory: Path, name: str) -> Path:
    if not directory.is_dir():
        raise DataError(
            str(directory),
            "is no directory of frozen files",
            "name what `overproof guard calibrate` wrote",
        )
    if not (directory / name).is_file():
        raise DataError(
            str(directory), f"lacks {name}", "name what `overproof guard calibrate` wrote"
        )
    return directory / name


def new_recorder(only: Collection[str] | None = None) -> LookRecorder:
    """A recorder of the signals in use; of the accounts in ``only``, or of all."""
    return LookRecorder(
        [signal.name for signal in ACCOUNT_SIGNALS],
        [signal.name for signal in COMMUNITY_SIGNALS],
        only,
    )


def calibrate(
    recorder: LookRecorder,
    scorers: Path,
    out: Path,
    *,
    ages_h: Collection[float],
    since: float,
    until: float,
    lag_days: float = 0.0,
    version: str = "1",
    least: int = LEAST_ACCOUNTS,
    least_communities: int = 100,
    per_group: int | None = None,
    appealed: Mapping[str, float] | None = None,
    appeals_left: Mapping[str, int] | None = None,
) -> tuple[Calibration, CommunityCalibration]:
    """Freeze what a recorder saw of a trusted pool into the directory ``out``.

    Where the pool holds no community at all, that of ``scorers`` is kept: it keeps its own date and
    version, which findings print, and `pool_notes` says where it is from.

    Args:
        recorder: looks at trusted accounts and at those of ``appealed``, and at communities of
            none but these.
        scorers: the directory whose scorers are used; they are copied beside the calibrations.
        out: where the four files go; made where it is missing.
        ages_h: the preset ages of the looks.
        since: when the recorded log began, seconds since the epoch.
        until: when it ended.
        lag_days: how far the pool lags behind ``until``.
        version: a name for this calibration.
        least: accounts that a plan, and an age, must have.
        least_communities: communities that a band of sizes must have.
        per_group: accounts of one organisation or payer at most, picked by a hash; a hundredth of
            ``least`` where None.
        appealed: accounts that are not trusted and whose appeal was upheld, with how many honest
            ones each stands for (`audit_weights`). Those of one organisation or payer stand, with
            its trusted accounts, for at most ``per_group``. No community that one of them belongs
            to is taken in: their weight would not be one.
        appeals_left: how many other appeals there are, by why they stand for nobody
            (`without_weight`); they are told with what became of these.

    Raises:
        DataError: nothing is left to calibrate on, or a scorer is missing.
    """
    account_scorer, community_scorer = load_scorers(scorers)
    looks = recorder.accounts
    groups = {name: org for name, org in zip(looks.subjects, looks.groups, strict=True) if org}
    most = max(1, int(least * GROUP_SHARE)) if per_group is None else per_group
    weights = shared_weights(appealed or {}, set(looks.subjects), groups, most)
    accounts = calibrate_accounts(
        looks,
        account_scorer,
        tuple(ages_h),
        until=until,
        groups=groups,
        per_group=most,
        weights=weights,
        lag_days=lag_days,
        version=version,
        least=least,
    )
    became = fates(
        appealed or {}, looks, groups, most,
        ages_h=tuple(ages_h), cut=until - lag_days * DAY_S, least=least,
    )  # fmt: skip
    accounts = _with_appeals(accounts, became, weights, appeals_left or {}, most)
    communities = recorder.communities
    trusted = (appealed or {}).keys().isdisjoint
    frozen = (
        calibrate_communities(
            [communities],
            community_scorer,
            until=until,
            days=(until - since) / DAY_S,
            version=version,
            least=least_communities,
            honest=trusted,
        )
        if any(map(trusted, communities.members))
        else _kept(scorers)
    )
    out.mkdir(parents=True, exist_ok=True)
    if scorers.resolve() != out.resolve():
        for name in FILES[:2]:
            shutil.copyfile(scorers / name, out / name)
    accounts.save(out / FILES[2])
    frozen.save(out / FILES[3])
    return accounts, frozen


def _with_appeals(
    accounts: Calibration,
    became: Mapping[str, str],
    weights: Mapping[str, float],
    others: Mapping[str, int],
    most: int,
) -> Calibration:
    """The calibration with a note of its appeals: what became of each, and what they weigh."""
    about = {
        MOST_OF_GROUP: most,
        APPEALS: dict(Counter(became.values()) + Counter(others)),
        STAND_FOR: sum(weights[name] for name, fate in became.items() if fate == ENTERED),
    }
    return replace(accounts, pool={**accounts.pool, **about})


def pool_notes(accounts: Calibration, communities: CommunityCalibration) -> list[str]:
    """What was taken into calibrations made by `calibrate`, and a warning where it says little."""
    pool = accounts.pool
    beyond = pool["beyond their group's share"]
    notes = [
        f"pool: {pool['accounts']:,} accounts of {pool['groups']:,} organisations or payers, at "
        f"most {pool[MOST_OF_GROUP]:,} of each; {beyond:,} more of theirs "
        "were left out, so that no one customer sets the measure for all"
    ]
    if pool[APPEALS]:
        everybody = accounts.stratum(None).whole.n
        entered = pool[APPEALS].get(ENTERED, 0)
        left = sorted((why, many) for why, many in pool[APPEALS].items() if why != ENTERED)
        notes.append(
            f"appeals: {sum(pool[APPEALS].values()):,}; upheld, of the random audit and entered: "
            f"{entered:,}, for {pool[STAND_FOR]:,.0f} accounts of the {everybody:,.0f} that the "
            "pool stands for" + "".join(f"; {why}: {many:,}" for why, many in left)
        )
    if KEPT in communities.pool:
        notes.append(
            "warning: the trusted accounts form no honest community in this log, so that the "
            "calibration of communities is not of your traffic: it is kept from "
            f"{communities.pool[KEPT]} ({communities.dated[:10]}); read what is found about "
            "communities, and act on none of it"
        )
    return notes


def _kept(scorers: Path) -> CommunityCalibration:
    """The calibration of communities in a directory, with a note that it is of other traffic."""
    found = CommunityCalibration.load(_file(scorers, FILES[3]))
    shipped = scorers.resolve() == SHIPPED.resolve()
    home = SIMULATED if shipped else "the directory of the scorers"
    return replace(found, pool={KEPT: home, **found.pool})
