"""Read the study's certified runs into one table, one plot and the page that shows them.

    python studies/study.py configs/study-cpu.toml --page docs/study.md --plot docs/img/study.svg

Students of one kind differ in their seed alone and are named KIND-SEED. The page keeps what people
wrote on it: only the part between its two markers is made here.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from overproof.config.load import LoadedTextRecipe, load_any
from overproof.errors import ConfigError, OverproofError, RunError
from overproof.evaluate.scorers.build import build_scorer
from overproof.evaluate.text.answers import requests_for
from overproof.evaluate.text.entrants import Entrant, Said, student_entrant, teacher_entrant
from overproof.evaluate.text.rows import HeldOutRow, open_if_there, read_held_out
from overproof.evaluate.text.scoring import Field
from overproof.evaluate.text.store import Given
from overproof.records.chat_dataset import TextManifest
from overproof.records.files import write_atomically
from overproof.records.lm_student import LmStudentCard
from overproof.records.run import RunPaths
from overproof.records.text_certificate import Contestant, TextCertificate
from overproof.report.dots import Dot, DotRow, Guide, dot_chart

__all__ = ["Figure", "Group", "groups_of", "over_prompts_and_seeds", "page_with", "plot", "table"]

Floats = npt.NDArray[np.float64]
BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"
LEGEND = {
    "sft": "SFT on the teacher's text",
    "warm": "SFT, half of the tokens",
    "sparse_kd": "KD from top-20 log-probs",
    "sampled_kd": "KD from sampled tokens",
    "dense_kd": "KD from all logits",
    "on_policy": "half SFT, half on-policy KD",
}
STYLE = """
svg{font-family:system-ui,"Segoe UI","Helvetica Neue",Arial,sans-serif;background:#fbfaf6}
text{font-size:13px;fill:#1e1d1a}.tick,.guide-text{fill:#615c52;font-size:12px}
.grid,.rule{stroke:#dcd7cb}.rule{stroke-dasharray:1 3}.axis{stroke:#615c52}
.guide{stroke:#1e1d1a}.guide.ceiling{stroke-dasharray:1 4;stroke-width:1.8}
.range{stroke:#1f4e79;stroke-width:2}.range.student-2{stroke:#5c7f9f;stroke-width:1}
.range.baseline{stroke:#615c52}.mark{stroke:#1f4e79;fill:#1f4e79;stroke-width:1.8}
.mark.student-2{fill:#fbfaf6;stroke:#5c7f9f}.mark.baseline{fill:#fbfaf6;stroke:#615c52}
"""


@dataclass(frozen=True)
class Figure:
    """An estimate with its interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Group:
    """Students that differ in their seed: what is certified of them, and their scores.

    ``tokens`` and ``seconds`` count what the student read that this one started with.

    Shapes: S seeds, P prompts.
    """

    kind: str
    students: tuple[Contestant, ...]
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    scores: Floats  # (S, P)


def over_prompts_and_seeds(linear: Floats, estimate: float, confidence: float = 0.95) -> Figure:
    """An interval that allows for other prompts and for other seeds.

    The variance of a mean over P prompts and S seeds that are crossed: what prompts bring, taken
    from the means over seeds, and what seeds bring, taken from the means over prompts. Each holds
    the noise that belongs to a prompt and a seed together, so that it is counted twice and the
    interval is a little wide. Degrees of freedom by Satterthwaite (Biometrics Bulletin 2, 1946):
    three seeds have two, and where seeds matter most the interval shows it.

    Args:
        linear: (S, P) contributions whose mean is what varies; their level does not matter.
        estimate: the middle of the interval.
        confidence: of the interval.
    """
    n_seeds, n_prompts = linear.shape
    of_prompts = float(linear.mean(0).var(ddof=1)) / n_prompts
    of_seeds = float(linear.mean(1).var(ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    total = of_prompts + of_seeds
    if total == 0.0:
        return Figure(estimate, estimate, estimate)
    below = of_prompts**2 / (n_prompts - 1)
    below += of_seeds**2 / (n_seeds - 1) if n_seeds > 1 else 0.0
    half = float(student_t.ppf((1 + confidence) / 2, total**2 / below)) * math.sqrt(total)
    return Figure(estimate, estimate - half, estimate + half)


def retention(scores: Floats, teacher: Floats) -> Figure:
    """Mean score as a share of the teacher's, by the delta method.

    Args:
        scores: (S, P).
        teacher: (P,) its scores on the same prompts.
    """
    ratio = float(scores.mean() / teacher.mean())
    return over_prompts_and_seeds((scores - ratio * teacher) / teacher.mean(), ratio)


def groups_of(certificate: TextCertificate, run: Path, scores: Mapping[str, Floats]) -> list[Group]:
    """The students of a run by method, in the order of the certificate.

    Raises:
        RunError: a student has no scores, or the run has no students.
    """
    found: dict[str, list[Contestant]] = {}
    for one in certificate.contestants:
        if one.role == "student":
            found.setdefault(re.sub(r"-\d+$", "", one.name), []).append(one)
    if not found:
        raise RunError(str(run), "has no students in its certificate", "train them first")
    groups = []
    for kind, students in found.items():
        for one in students:
            if one.name not in scores:
                raise RunError(str(run), f"has no answers of {one.name}", "run `overproof certify`")
        read = [_with_starts(run / "students", one.name) for one in students]
        groups.append(
            Group(
                kind,
                tuple(students),
                tuple(sum(card.tokens for card in cards) for cards in read),
                tuple(sum(card.train_seconds for card in cards) for cards in read),
                np.stack([scores[one.name] for one in students]),
            )
        )
    return groups


def _with_starts(students: Path, name: str | None) -> list[LmStudentCard]:
    """The cards of a student and of those that it started with."""
    cards: list[LmStudentCard] = []
    while name is not None:
        cards.append(LmStudentCard.load(students / name))
        name = cards[-1].start
    return cards


def _named(group: Group) -> str:
    return LEGEND.get(group.kind, group.kind)


def table(certificate: TextCertificate, groups: Sequence[Group], teacher: Floats) -> str:
    """The study's table, in Markdown."""
    first = next((g for g in groups if g.kind == "sft"), None)
    lines = [
        "| method | solved | retention | minus SFT | says what the teacher says | broken output "
        "| tokens read | minutes to train |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in certificate.contestants:
        if one.role != "student":
            told = "1" if one.role == "teacher" else _mean([one.retention]) or "n/a"
            lines.append(
                f"| {one.name} | {one.score.estimate:.3f} [{one.score.low:.3f}, "
                f"{one.score.high:.3f}] | {told} | | {_mean([one.agreement])} "
                f"| {one.degeneration.any.estimate:.3f} | | |"
            )
    for group in groups:
        solved = over_prompts_and_seeds(group.scores, float(group.scores.mean()))
        minus = ""
        if first is not None and group is not first and first.scores.shape == group.scores.shape:
            gaps = group.scores - first.scores  # one prompt, one seed: paired in both
            minus = _signed(over_prompts_and_seeds(gaps, float(gaps.mean())))
        tokens, seconds = group.tokens, group.seconds
        lines.append(
            f"| {_named(group)} | {solved} | {retention(group.scores, teacher)} | {minus} "
            f"| {_mean([one.agreement for one in group.students])} "
            f"| {np.mean([one.degeneration.any.estimate for one in group.students]):.3f} "
            f"| {np.mean(tokens):,.0f} | {np.mean(seconds) / 60:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _mean(intervals: Sequence[object]) -> str:
    known = [getattr(each, "estimate", None) for each in intervals]
    values = [value for value in known if value is not None]
    return f"{np.mean(values):.3f}" if values else ""


def _signed(figure: Figure) -> str:
    return f"{figure.estimate:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def by_task(groups: Sequence[Group], tasks: Sequence[str], teacher: Floats) -> str:
    """Solved by task: the teacher and the mean of each method's seeds, in Markdown."""
    names = sorted(set(tasks))
    lines = [
        "| task | prompts | teacher | " + " | ".join(_named(g) for g in groups) + " |",
        "|---|---|---|" + "---|" * len(groups),
    ]
    for name in names:
        chosen = np.array([task == name for task in tasks])
        cells = [f"{group.scores[:, chosen].mean():.3f}" for group in groups]
        lines.append(
            f"| {name} | {chosen.sum()} | {teacher[chosen].mean():.3f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def plot(groups: Sequence[Group], teacher: Floats, base: Contestant | None) -> str:
    """Retention of every method with its interval, and of each seed below it, as SVG."""
    rows = []
    for group in groups:
        whole = retention(group.scores, teacher)
        dots = [Dot(whole.estimate, whole.low, whole.high, "student")]
        for one in group.scores:
            each = retention(one[None], teacher)
            dots.append(Dot(each.estimate, each.low, each.high, "student-2"))
        rows.append(DotRow(_named(group), str(whole), tuple(dots)))
    if base is not None and base.retention is not None:
        r = base.retention
        figure = Figure(r.estimate, r.low, r.high)
        rows.append(
            DotRow("untrained base", str(figure), (Dot(r.estimate, r.low, r.high, "baseline"),))
        )
    dots = [dot for row in rows for dot in row.dots]
    drawn = dot_chart(
        rows,
        key="study",
        title="Retention by method",
        description="; ".join(f"{row.name}: {row.value}" for row in rows),
        axis=(min([0.0, *(dot.low for dot in dots)]), max([1.02, *(dot.high for dot in dots)])),
        tick=lambda value: f"{100 * value:.0f} %",
        guides=[Guide(1.0, "teacher", "ceiling")],
        caption="share of the teacher's score; filled: over prompts and seeds, hollow: each seed",
        width=860.0,
    )
    head, _, body = drawn.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{body}\n'


def page_with(page: str, made: str) -> str:
    """The page with what stands between its markers replaced.

    Raises:
        RunError: the page lacks a marker.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise RunError(
            "the page", "lacks the markers that the table goes between",
            f"write {BEGIN} and {END} on lines of their own",
        )  # fmt: skip
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n{END}{rest.partition(END)[2]}"


@dataclass(frozen=True)
class Scored:
    """Scores of the test prompts: the teacher's and each student's, with the prompts' tasks.

    Shapes: P prompts.
    """

    tasks: tuple[str, ...]
    teacher: Floats
    students: dict[str, Floats]


def scored(loaded: LoadedTextRecipe) -> Scored:
    """Score the answers that certification kept, prompt by prompt.

    Raises:
        RunError: a student was not certified, or was trained anew since.
    """
    recipe, paths = loaded.recipe, RunPaths(loaded.run_dir)
    settings = recipe.certificate
    rows = read_held_out(paths.dataset, "test")
    field = Field(rows, build_scorer(settings, None), settings.confidence, 200, recipe.run.seed)
    with open_if_there(paths.ledger) as ledger:
        teacher = teacher_entrant(rows, ledger, TextManifest.load(paths.dataset))
    found: dict[str, Floats] = {}
    for directory in sorted((paths.students).glob("*/student.json")):
        entrant = student_entrant(recipe, directory.parent, LmStudentCard.load(directory.parent))
        entrant.said = _said(loaded, entrant, rows)
        found[entrant.name] = field.score(entrant).values
    return Scored(tuple(row.made_by for row in rows), field.score(teacher).values, found)


def _said(loaded: LoadedTextRecipe, entrant: Entrant, rows: Sequence[HeldOutRow]) -> list[Said]:
    path = loaded.run_dir / "answers" / entrant.name / "test.jsonl"
    weights = entrant.weights
    if weights is None or not path.exists():
        raise RunError(str(path), "is not there", "run `overproof certify`")
    kept = [
        given
        for line in path.read_text(encoding="utf-8").splitlines()
        if (given := Given.model_validate_json(line)).weights == weights.sha256
    ]
    known = {given.key: given for given in kept}
    said = []
    for request in requests_for(loaded.recipe, rows, "student"):
        if request.key not in known:
            raise RunError(str(path), "lacks answers of these weights", "run `overproof certify`")
        said.append(Said.by_weights(known[request.key]))
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Write table and plot."""
    parser = argparse.ArgumentParser(description="Table and plot of the study.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--page", type=Path, help="the page that holds the table")
    parser.add_argument("--plot", type=Path, help="where the plot goes")
    arguments = parser.parse_args(argv)
    try:
        loaded = load_any(arguments.recipe)
        if not isinstance(loaded, LoadedTextRecipe):
            raise ConfigError(str(arguments.recipe), "is no recipe of a text task")
        certificate = TextCertificate.load(RunPaths(loaded.run_dir).certificate)
        told = scored(loaded)
        groups = groups_of(certificate, loaded.run_dir, told.students)
        made = table(certificate, groups, told.teacher)
        made += "\n" + by_task(groups, told.tasks, told.teacher)
        print(made)
        if arguments.plot:
            base = next((c for c in certificate.contestants if c.role == "baseline"), None)
            arguments.plot.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(arguments.plot, plot(groups, told.teacher, base))
        if arguments.page:
            page = arguments.page.read_text(encoding="utf-8")
            write_atomically(arguments.page, page_with(page, made))
    except OverproofError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
