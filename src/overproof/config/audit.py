"""What an audit plan says: which tests, at which level, decided before any data is seen."""

from __future__ import annotations

import math
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from overproof.config.mistakes import explain
from overproof.config.section import Section
from overproof.errors import ConfigError

__all__ = [
    "AuditPlan",
    "BaseShiftPlan",
    "GhostsPlan",
    "Multiplicity",
    "PhrasingsPlan",
    "PlannedTest",
    "ReferencesPlan",
    "Spending",
    "WatermarkPlan",
    "WeightsPlan",
    "load_audit_plan",
    "parse_audit_plan",
]

MOST_LOOKS = 100
FORM = "a plan is a TOML file: suspect, teacher, alpha, and [[tests]] with their kind"

KEY_WAY_OUT = "state the hash of the secret key, which `overproof audit key` prints"


class Multiplicity(StrEnum):
    """How the level is shared among several tests."""

    HOLM = "holm"
    FIXED_SEQUENCE = "fixed-sequence"


class Spending(StrEnum):
    """How the level is spent over the looks of a staged test."""

    OBRIEN_FLEMING = "obrien-fleming"
    POCOCK = "pocock"


class _Test(Section):
    name: str = Field("", pattern=r"^[\w .-]*$", description="unique; the kind where empty")
    hypothesis: str = Field("", description="the null hypothesis in plain words")


class GhostsPlan(_Test):
    """Served answers against unserved ones, at once or in stages.

    Stages are looks at the first prompts of the log: an even number of them (``looks = 4``), shares
    of all prompts (``[0.25, 0.5, 1.0]``) or numbers of prompts (``[200, 400, 800]``).
    """

    kind: Literal["ghosts"]
    ghosts: int = Field(3, ge=1, le=1000)
    score: Literal["log-ratio", "log-prob", "weighted"] = "log-ratio"
    prompts: int | None = Field(
        None, ge=1, le=10_000_000, description="requests of the log in all; looks need it"
    )
    looks: int | tuple[float, ...] = 1
    spending: Spending = Field(
        Spending.OBRIEN_FLEMING, description="how the level is spent over the looks"
    )

    @property
    def looks_at(self) -> tuple[int, ...]:
        """The number of requests at each look, the last one all; empty where none is stated."""
        if self.prompts is None:
            return ()
        if isinstance(self.looks, int):
            return tuple(math.ceil(self.prompts * (i + 1) / self.looks) for i in range(self.looks))
        if max(self.looks) <= 1:
            # A share times a whole number may end up a rounding error above a whole number.
            return tuple(math.ceil(self.prompts * share - 1e-9) for share in self.looks)
        return tuple(int(count) for count in self.looks)

    @property
    def is_staged(self) -> bool:
        """Whether there is a look before the last."""
        return not (self.looks == 1 or (isinstance(self.looks, tuple) and len(self.looks) == 1))

    @model_validator(mode="after")
    def _in_order(self) -> GhostsPlan:
        _check_looks(self.looks)
        if not self.is_staged:
            if self.looks != 1 and self.looks_at not in ((), (self.prompts,)):
                raise ValueError("looks: the only one is not at all prompts; leave it out")
            return self
        if self.prompts is None:
            raise ValueError(
                "prompts: several looks need the number of requests in all; state it "
                "(`overproof audit power ghosts --looks` gives one)"
            )
        if self.score == "weighted":
            raise ValueError(
                "score: stages are for the sum of ranks; a weighted score has one look"
            )
        at = self.looks_at
        if any(a >= b for a, b in zip((0, *at), at, strict=False)) or at[-1] != self.prompts:
            raise ValueError(
                f"looks: at {', '.join(map(str, at))} of {self.prompts} prompts; they must "
                "increase and end with all"
            )
        return self


def _check_looks(looks: int | tuple[float, ...]) -> None:
    number = looks if isinstance(looks, int) else len(looks)
    if not 1 <= number <= MOST_LOOKS:
        raise ValueError(f"looks: {number} of them; 1 to {MOST_LOOKS} can be planned")
    if isinstance(looks, int):
        return
    if min(looks) <= 0 or not all(math.isfinite(each) for each in looks):
        raise ValueError("looks: one is not above 0")
    if max(looks) > 1 and any(each != int(each) for each in looks):
        raise ValueError("looks: shares and numbers of prompts are mixed; write either")


class WatermarkPlan(_Test):
    """Alternate keys and the tail under the pseudo-random function's model.

    The key and the scheme's settings are planned too: whoever could choose among several after
    seeing the data would find one that fits.
    """

    kind: Literal["watermark"]
    scheme: Literal["kgw", "kgw-selfhash", "unigram", "gumbel", "synthid"]
    keys: int = Field(999, ge=99)
    key_sha256: str | dict[str, str] = Field(
        "",
        description="hash of the secret key, which `overproof audit key` prints; a table of "
        "cohort and hash where there are several",
    )
    settings: dict[str, int | float | str] = Field(
        default_factory=dict, description="of the scheme, as --setting gives them"
    )
    reference: bool = Field(
        False, description="what a reference model expects is taken away before keys are ranked"
    )

    @model_validator(mode="after")
    def _key_is_fixed(self) -> WatermarkPlan:
        table = self.key_sha256
        hashes = list(table.values()) if isinstance(table, dict) else [table]
        if not hashes or not all(hashes):
            raise ValueError(
                "key_sha256: is not there, so the key could still be changed until one fits"
            )
        if not all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes):
            raise ValueError("key_sha256: is no SHA-256 of 64 hex digits")
        return self


class PhrasingsPlan(_Test):
    """Account-keyed phrasings: the secret key ranked among alternates.

    Without ``accounts``, all accounts of the assignment are tested together.
    """

    kind: Literal["phrasings"]
    keys: int = Field(999, ge=999, le=10_000_000)
    assignment: str = Field(
        "",
        pattern=r"^(sha256:[0-9a-f]{64})?$",
        description="hash that `overproof audit assign` printed, so key and slots cannot change",
    )
    accounts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> PhrasingsPlan:
        for account in self.accounts:
            if not account or self.accounts.count(account) > 1:
                raise ValueError(f"accounts: {account!r} is empty or named twice")
        return self


class ReferencesPlan(_Test):
    """Ranks among innocents and decoys."""

    kind: Literal["references"]
    innocents: tuple[str, ...] = ()
    decoys: tuple[str, ...] = ()
    prompts: int = Field(300, ge=1)
    samples: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _apart(self) -> ReferencesPlan:
        if both := sorted(set(self.innocents) & set(self.decoys)):
            raise ValueError(f"decoys: {both[0]!r} is an innocent too; a model has one role")
        return self


class WeightsPlan(_Test):
    """Descent of weights."""

    kind: Literal["weights"]


class BaseShiftPlan(_Test):
    """Shift from a known base, ranked among innocent fine-tunes."""

    kind: Literal["base-shift"]
    base: str = ""
    innocents: tuple[str, ...] = ()


PlannedTest = Annotated[
    GhostsPlan | WatermarkPlan | PhrasingsPlan | ReferencesPlan | WeightsPlan | BaseShiftPlan,
    Field(discriminator="kind"),
]


class AuditPlan(Section):
    """A plan of tests.

    Attributes:
        title: of the audit.
        suspect: the model that is examined.
        teacher: the model it may have learned from.
        alpha: the chance of any wrong "yes", over all tests of the plan together.
        multiplicity: Holm, or one test after another in the order written.
        seed: of everything random.
        tests: at least one.
    """

    title: str = ""
    suspect: str = Field(min_length=1)
    teacher: str = Field(min_length=1)
    alpha: float = Field(0.01, gt=0, le=0.1)
    multiplicity: Multiplicity = Multiplicity.HOLM
    seed: int = Field(0, ge=0)
    tests: tuple[PlannedTest, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _named(self) -> AuditPlan:
        names = self.names()
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tests: two are named {name!r}; give each its own name")
        return self

    @property
    def share(self) -> float:
        """The level that each test has for itself, whatever becomes of the others."""
        if self.multiplicity is Multiplicity.FIXED_SEQUENCE:
            return self.alpha
        return self.alpha / len(self.tests)

    def names(self) -> tuple[str, ...]:
        """Names of the tests in their order."""
        return tuple(test.name or test.kind for test in self.tests)


def parse_audit_plan(text: str, name: str = "plan") -> AuditPlan:
    """Parse and check a plan; ``name`` stands for it in errors.

    Raises:
        ConfigError: not TOML, or not a plan; FILE:LINE is the culprit.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{name}:{found[1]}:{found[2]}" if found else name
        raise ConfigError(where, f"is not TOML: {error}", FORM) from error
    try:
        return AuditPlan.model_validate(raw)
    except ValidationError as error:
        mistake = explain(error, AuditPlan, text, name)
        if "key_sha256" in mistake.reason and not mistake.way_out:
            mistake = ConfigError(mistake.culprit, mistake.reason, KEY_WAY_OUT)
    # Raised out here: the library's error holds the file's values.
    raise mistake


def load_audit_plan(path: Path) -> AuditPlan:
    """Read and check a plan file.

    Raises:
        ConfigError: it is missing, cannot be read, or is no plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), "no such plan", "write one, or name another file") from None
    except IsADirectoryError:
        raise ConfigError(str(path), "is a folder", f"name the plan in it; {FORM}") from None
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be read: {error.strerror or error}", "give permission to read it"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "is no text in UTF-8", FORM) from error
    return parse_audit_plan(text, str(path))
