"""The settings of guard: guard.toml.

Every number that decides how often an honest customer is troubled stands here, so that a provider
can see it, and the realised rate can be set beside it.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["CommunityConfig", "Exemption", "GuardConfig", "LadderConfig", "LooksConfig"]

Rate = Annotated[float, Field(gt=0, lt=1)]
DAY_H = 24.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LooksConfig(_Strict):
    """When an account is looked at, and how sure one must be.

    ``ages_h``: preset ages in hours since guard first saw it. ``false_positive_rate``: of honest
    accounts that come to ``soften`` or above by their own conduct, over all looks of a term.
    ``term_days``: how long a term is; then an account begins anew, with no past, at the age of
    none. Else nobody would look at the conduct of an old account.
    """

    ages_h: tuple[float, ...] = (2.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0)
    false_positive_rate: Rate = 0.00035
    term_days: float = Field(default=14.0, gt=0)
    least_requests: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _ages_rise(self) -> Self:
        if not self.ages_h or any(
            late <= early for early, late in zip((0.0, *self.ages_h), self.ages_h, strict=False)
        ):
            raise ValueError("ages_h must be positive and rise")
        if self.ages_h[-1] > self.term_days * DAY_H:
            raise ValueError("ages_h must lie within term_days: later looks would never come")
        return self


class CommunityConfig(_Strict):
    """How communities are found and judged.

    ``every_h``: hours of event time between passes. ``false_discovery_rate``: nominal, of
    communities reported. ``window_h``: how long shared evidence is remembered. ``rare``: the most
    unrelated payers that may share a thing before it ties nobody together.
    """

    every_h: float = Field(default=6.0, gt=0)
    false_discovery_rate: Rate = 0.05
    window_h: float = Field(default=30 * DAY_H, gt=0)
    rare: int = Field(default=400, ge=2)
    least_members: int = Field(default=3, ge=2)
    resolution: float = Field(default=1.0, gt=0)


class LadderConfig(_Strict):
    """How long each rung lasts unless renewed, and how many families it needs.

    ``families``: of signals, that must agree above ``watch``. ``family_p``: an account's family
    does at this p-value, against all honest accounts of its age. ``alone_p``: a community's does
    at this one; and what renews a rung must be at it by itself, whatever was before.
    ``member_p``: at least ``member_share`` of a community's members must stand out so far by their
    own conduct before the community is acted on, and only those who do are. ``ties``, ``loose_p``:
    a member who shares fewer rare things with the others than this multiple of what the middle
    member shares must have stood out at this p-value, at its own preset looks.
    ``watch_p``: from where conduct is noted, without consequence. ``strong``: a p-value of at most
    this share of the false-positive rate goes one rung further at once. ``rise_after_h``: a rung
    must have stood this long before renewed evidence raises it. ``answer_days``: how long a
    customer has to answer before a renewed ``verify`` blocks.
    """

    families: int = Field(default=2, ge=2)
    family_p: Rate = 0.1
    alone_p: Rate = 0.05
    member_p: Rate = 0.05
    member_share: float = Field(default=0.5, ge=0, le=1)
    ties: float = Field(default=0.33, ge=0, le=1)
    loose_p: Rate = 0.003
    watch_days: float = Field(default=30, gt=0)
    soften_days: float = Field(default=7, gt=0)
    withhold_days: float = Field(default=14, gt=0)
    verify_days: float = Field(default=30, gt=0)
    block_days: float = Field(default=90, gt=0)
    watch_p: Rate = 0.01
    strong: float = Field(default=0.3, ge=0, le=1)
    rise_after_h: float = Field(default=24, gt=0)
    answer_days: float = Field(default=7, gt=0)


class Exemption(_Strict):
    """A declared and permitted use, signed by whoever permitted it.

    ``signature``: HMAC-SHA256 in hexadecimal over the other fields as canonical JSON, under the
    provider's key of exemptions. An entry that does not verify exempts nobody.
    """

    org: str | None = None
    account: str | None = None
    use: str
    until: str
    signed_by: str
    signature: str

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if (self.org is None) == (self.account is None):
            raise ValueError("name an org or an account, not both")
        return self


class GuardConfig(_Strict):
    """Everything that guard can be told; the defaults are the vetted setting."""

    key_env: str = "OVERPROOF_GUARD_KEY"
    exemption_key_env: str = "OVERPROOF_EXEMPTION_KEY"
    late_s: float = Field(default=300.0, ge=0)
    forget_days: float = Field(default=45, gt=0)
    most_accounts: int = Field(default=1_000_000, ge=1)
    most_bad_lines: float = Field(default=0.01, ge=0, le=1)
    looks: LooksConfig = LooksConfig()
    communities: CommunityConfig = CommunityConfig()
    ladder: LadderConfig = LadderConfig()
    exemptions: tuple[Exemption, ...] = ()
