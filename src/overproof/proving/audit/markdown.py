"""The study's tables for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["to_markdown"]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _share(row: dict[str, Any]) -> str:
    if not row["n"]:
        return "-"
    return f"{row['k']}/{row['n']} ({row['low']:.2f} to {row['high']:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def to_markdown(tables: dict[str, Any]) -> str:
    """All tables, each under a heading with what it says."""
    plan = tables["plan"]
    parts = [
        "# Audit study",
        f"Plan `{tables['fingerprint']}`, seed {plan['seed']}: {plan['seeds']} student(s) of each "
        f"kind and dose, {plan['innocents']} innocents, {plan['decoys']} decoys, a log of "
        f"{plan['log']} prompts with {plan['ghosts']} ghosts each. Intervals hold 95 % "
        "(Clopper and Pearson).",
        "## Power",
        "How many students each test found at its level. References and base shift reject at "
        f"{plan['alpha_references']:g}, the others at {plan['alpha']:g}.",
        _table(
            ("student", "dose", "test", "found", "refused", "median p"),
            [
                (r["arm"], r["dose"], r["test"], _share(r), r["refused"], r["median_p"])
                for r in tables["power"]
            ],
        ),
        "## False positives",
        "Models that never saw A; one model is one draw.",
        _table(
            ("models", "test", "level", "rejected", "refused"),
            [
                (r["arm"], r["test"], r["alpha"], _share(r), r["refused"])
                for r in tables["false_positives"]
            ],
        ),
        "Within those models, other served answers and other keys. Draws within one model share "
        "its text, so the interval is too narrow where that matters (keys).",
        _table(
            ("test", "level", "models", "rejected"),
            [(r["test"], r["alpha"], r["models"], _share(r)) for r in tables["redraws"]],
        ),
        *_amounts(tables),
        "## Descent of the weights",
        _table(
            ("models", "descend", "rejected", "median p"),
            [(r["arm"], r["descends"], _share(r), r["median_p"]) for r in tables["weights"]],
        ),
        "## Controls that must be refused",
        _table(
            ("log", "standing", "mean rank of the served", "expected", "why"),
            [
                (r["control"], r["standing"], r["mean_rank"], r["expected_rank"],
                 "; ".join(r["reasons"]))
                for r in tables["controls"]
            ],
        ),
        "## Cost",
        _table(("stage", "CPU seconds"), [(k, round(v)) for k, v in tables["cpu_s"].items()]),
        f"Prompts: {tables['texts']['prompts']}; not to be had: "
        f"{tables['texts']['missing'] or 'nothing'}.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _amounts(tables: dict[str, Any]) -> list[str]:
    return [
        "## Share of the log that was used",
        "The lower bound at 95 % against the truth; prompts reported at a false-discovery rate of "
        "5 %.",
        _table(
            ("model", "dose", "true share", "median bound", "covered", "AUC", "reported", "wrong"),
            [
                (r["arm"], r["dose"], r["true_share"], r["median_bound"], _share(r["covered"]),
                 r["auc"], r["reported"], r["reported_wrongly"])
                for r in tables["shares"]
            ],
        ),
        "Replicates: ranks of used prompts drawn from a student's, the others uniform.",
        _table(
            ("true share", "covered", "median bound"),
            [(r["share"], _share(r["interval"]), r["median"]) for r in tables["coverage"]],
        ),
        "## Dose equivalent",
        _table(
            ("student", "dose in %", "excess", "estimate", "low", "high", "covered",
             "why"),
            [
                (r["name"], r["dose"], r["effect"], r["estimate"], r["low"], r["high"],
                 r["covered"], r["why"])
                for r in tables["doses"]
            ],
        ),
    ]  # fmt: skip
