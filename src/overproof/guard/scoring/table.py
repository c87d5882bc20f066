"""Scores as lines for a terminal."""

from __future__ import annotations

import math

from overproof.guard.scoring.scores import Scores, Share

__all__ = ["table_lines"]


def table_lines(scores: Scores) -> list[str]:
    """The scores in plain text, at most 100 columns."""
    lines = [
        f"{scores.events:,} events in {scores.logs} log{'s' * (scores.logs != 1)}, "
        f"{scores.prevalence:.2%} of accounts attack; intervals at {scores.confidence:.0%}"
        if not math.isnan(scores.prevalence)
        else f"{scores.events:,} events, no labelled account",
    ]
    if scores.levels:
        lines += [
            "",
            "attack    campaigns  caught (half of its accounts)   accounts within    tokens leaked",
        ]
        for level in scores.levels:
            lines.append(
                f"{level.level:<9} {level.campaigns:>9}  {level.caught!s:<31} "
                f"{_short(level.accounts):<18} {_short(level.leaked)}"
            )
            lines.append(
                f"{'':<21}one account or more {_short(level.touched)}; "
                f"median {_number(level.requests_to_detection)} requests, "
                f"{_number(level.hours_to_detection)} h to detection"
            )
    if scores.classes:
        lines += ["", "honest class          groups  accounts  at soften or above"]
        for each in scores.classes:
            mark = "  (worst)" if each.kind == scores.worst and each.caught.value > 0 else ""
            lines.append(
                f"{each.kind:<20} {each.groups:>7} {each.accounts:>9}  {each.caught!s}{mark}"
            )
    communities = scores.communities
    lines += [
        "",
        f"honest accounts accused         {scores.false_positive_rate}",
        f"of the accused, attackers       {scores.positive_predictive_value}",
        "  were attackers another share  "
        + ", ".join(
            f"{_percent(value)} at {float(share):.2%}" for share, value in scores.ppv_at.items()
        ),
        f"false communities               {communities.false_share} of {communities.reported}, "
        f"promised at most {communities.nominal:.0%}",
        f"members of the right campaign   {communities.precision}",
    ]
    if scores.unlabelled:
        lines.append(
            f"{scores.unlabelled} accused accounts are not in the truth and in no figure above"
        )
    return lines


def _short(share: Share) -> str:
    return "–" if math.isnan(share.value) else f"{share.value:.1%}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
