"""What a simulated log holds: the plan of ``overproof proving traffic``.

Rates a day and account, and durations, are the published ones; what is shrunk, and by how much,
stands here as a number, and in the log's manifest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["HONEST_CLASSES", "LEVELS", "PUBLISHED_ACCOUNTS", "TrafficPlan"]

HONEST_CLASSES = (
    "chat",
    "coding-agent",
    "batch-etl",
    "evaluator",
    "framework-user",
    "corporate-multikey",
    "reseller",
    "llm-judge",
    "red-team",
    "release-day",
    "synthetic-permitted",
    "ab-test",
)
LEVELS = ("L0", "L1", "L2", "L3", "L4", "L5")
# Accounts of a campaign as published; the plan's sizes are what they are shrunk to.
PUBLISHED_ACCOUNTS = {"L0": 1, "L1": 10, "L2": 300, "L3": 5_000, "L4": 25_000, "L5": 25_000}

Count = Annotated[int, Field(ge=0)]
Span = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Source = Literal["trec", "gym"]


def _sizes() -> dict[str, Span]:
    return {
        "L0": (1, 1),
        "L1": (10, 10),
        "L2": (8, 16),
        "L3": (25, 50),
        "L4": (40, 80),
        "L5": (10, 20),
    }


class TrafficPlan(BaseModel):
    """A simulated log, whole: the same plan gives the same log, byte for byte.

    Attributes:
        seed: of every random choice.
        bank: family of templates; ``fit`` and ``test`` share no run of eight words.
        start: first moment of the log, RFC 3339.
        days: its length.
        campaigns: how many of each attack level.
        accounts: fewest and most accounts of a campaign, by level.
        groups: honest groups of each class; a class not named has ``each_class`` of them.
        contamination: share of attackers among accounts. Reached by adding ordinary light chat
            accounts; ``None`` adds none. The honest groups alone may already hold it below.
        heavy_events: about how many requests the heavy honest groups send in all.
        top_share: part of them that the ten heaviest send (published: 0.63 to 0.93).
        heavy_scale: what the published median of a heavy tenant, 37,867 requests a day, is
            multiplied by.
        framework_users: fewest and most users of one framework.
        text_chars: longest text written out for one payload; ``input_tokens`` tell the length
            before the cut.
        real_text: packaged prompts to use. ``auto`` takes what is installed, and the manifest says
            which; a name makes it an error to miss it; ``()`` takes none.
        release_at: when a new model is released, as a share of the log.
        sketch_key: events carry keyed sketches under this key, and no text. Never written down.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    bank: Literal["fit", "test"] = "fit"
    start: str = "2026-03-02T00:00:00Z"
    days: float = Field(default=14.0, gt=0, le=400)
    campaigns: dict[str, Count] = Field(
        default_factory=lambda: {"L0": 30, "L1": 4, "L2": 4, "L3": 4, "L4": 4, "L5": 2}
    )
    accounts: dict[str, Span] = Field(default_factory=_sizes)
    each_class: Count = 30
    groups: dict[str, Count] = Field(default_factory=dict)
    contamination: float | None = Field(default=0.01, gt=0, lt=1)
    heavy_events: int = Field(default=1_200_000, ge=0)
    top_share: float = Field(default=0.68, gt=0, lt=1)
    heavy_scale: float = Field(default=0.01, gt=0, le=1)
    framework_users: Span = (15, 60)
    text_chars: int = Field(default=1_200, ge=80, le=100_000)
    real_text: Literal["auto"] | tuple[Source, ...] = "auto"
    release_at: float = Field(default=0.45, ge=0, le=1)
    sketch_key: bytes | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        for name in (*self.campaigns, *self.accounts):
            if name not in LEVELS:
                raise ValueError(f"{name!r} is no attack level; there are {', '.join(LEVELS)}")
        for name in self.groups:
            if name not in HONEST_CLASSES:
                known = ", ".join(HONEST_CLASSES)
                raise ValueError(f"{name!r} is no honest class; there are {known}")
        for name, (low, high) in (
            *self.accounts.items(),
            ("framework_users", self.framework_users),
        ):
            if low > high:
                raise ValueError(f"{name}: fewest accounts {low} are more than most {high}")
        _ = self.start_s
        return self

    @property
    def start_s(self) -> float:
        """The first moment in seconds since the epoch."""
        moment = datetime.fromisoformat(self.start)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    @property
    def end_s(self) -> float:
        """The moment after the last, in seconds since the epoch."""
        return self.start_s + self.days * 86_400.0

    def n_groups(self, kind: str) -> int:
        """Honest groups of the class ``kind``."""
        return self.groups.get(kind, self.each_class)

    def size(self, level: str) -> tuple[int, int]:
        """Fewest and most accounts of a campaign of this level."""
        return self.accounts.get(level) or _sizes()[level]

    @classmethod
    def small(cls, seed: int = 0, **changes: object) -> TrafficPlan:
        """About 60,000 events over four days: every class and every level, a few of each."""
        plan = {
            "seed": seed,
            "days": 4.0,
            "campaigns": {"L0": 3, "L1": 1, "L2": 1, "L3": 1, "L4": 1, "L5": 1},
            "accounts": _sizes() | {"L2": (8, 8), "L3": (25, 25), "L4": (40, 40)},
            "each_class": 3,
            "contamination": 0.08,
            "heavy_events": 15_000,
            "framework_users": (10, 20),
        }
        return cls.model_validate(plan | changes)

    @classmethod
    def standard(cls, seed: int = 0, **changes: object) -> TrafficPlan:
        """Two to three million events over 14 days; ten seeds give 300 groups a class."""
        return cls.model_validate({"seed": seed} | changes)
