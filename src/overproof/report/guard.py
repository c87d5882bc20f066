"""What guard found, as one self-contained HTML page: verdicts in, page out.

Names of accounts come from outside and may be hostile: they are escaped, cut, and rid of characters
that would turn the writing round. Of prompts nothing is shown, because nothing of them is in a
verdict.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from markupsafe import Markup

from overproof import __version__
from overproof.records.traffic import Action, TrafficVerdict
from overproof.report import facts
from overproof.report.guard_cases import Case, cases_of
from overproof.report.guard_charts import Line, Step, ladder_chart, timeline_chart
from overproof.report.guard_graph import DrawnCommunity, Graph, draw_graph
from overproof.report.guard_spared import dated, spared_tables
from overproof.report.guard_words import plain, plain_values, tail, when
from overproof.report.html import environment
from overproof.report.svg import markup

__all__ = ["Case", "Findings", "render_guard_html"]

WIDE, NARROW = 780.0, 335.0
MOST_GRAPHS, MOST_LINES, MOST_ROWS, MOST_MEMBERS = 12, 24, 200, 400


class Findings:
    """A replay's verdicts, arranged for the page.

    Args:
        verdicts: in any order.
        communities: as drawn beside the verdicts; the latest drawing of each counts.
    """

    def __init__(
        self, verdicts: Sequence[TrafficVerdict], communities: Sequence[DrawnCommunity] = ()
    ) -> None:
        self.verdicts = len(verdicts)
        self.cases = sorted(
            cases_of(verdicts, communities),
            key=lambda case: (-case.highest.rung, case.kind == "account", case.last.decided_at),
        )
        self.acted_accounts = {member for case in self.cases for member in case.held}

    @cached_property
    def acted(self) -> list[Case]:
        """Those that came to ``soften`` or above."""
        return [case for case in self.cases if case.caught_at is not None]

    @cached_property
    def communities(self) -> list[Case]:
        """Communities and organisations, the gravest first."""
        return [case for case in self.cases if case.kind != "account"]

    @cached_property
    def accounts(self) -> list[Case]:
        """Accounts with verdicts of their own, the gravest first."""
        return [case for case in self.cases if case.kind == "account"]

    @cached_property
    def exempt(self) -> list[Case]:
        """Spared, because a signed entry permits what they do."""
        return [case for case in self.cases if case.exempt is not None]

    @cached_property
    def one_family(self) -> list[Case]:
        """Only watched, and only one family of signals speaks against them."""
        return [
            case
            for case in self.cases
            if case.highest is Action.WATCH and case.exempt is None and len(case.families) < 2
        ]

    @cached_property
    def lapsed(self) -> list[Case]:
        """Whose last rung ran out before the last decision of all."""
        end = max((case.last.decided_at for case in self.cases), default=0.0)
        return [
            case
            for case in self.acted
            if case.last.expires_at is not None and case.last.expires_at <= end
        ]

    @cached_property
    def rungs(self) -> Counter[Action]:
        """Subjects by their highest rung."""
        return Counter(case.highest for case in self.cases)

    @cached_property
    def families(self) -> list[tuple[str, int, list[tuple[str, int]]]]:
        """Families with how many acted-on subjects they speak against, and by which signals."""
        subjects: Counter[str] = Counter()
        signals: dict[str, Counter[str]] = defaultdict(Counter)
        for case in self.acted:
            subjects.update(case.families)
            for one in case.evidence:
                signals[one.family][one.signal] += 1
        return [(name, n, signals[name].most_common(8)) for name, n in subjects.most_common()]

    @cached_property
    def grounds(self) -> list[tuple[str, int, int, int, float]]:
        """What error rates rest on: assumption, verdicts, smallest and largest n, the floor."""
        of: dict[str, list[TrafficVerdict]] = defaultdict(list)
        for case in self.cases:
            for verdict in case.verdicts:
                of[verdict.assumption].append(verdict)
        rows = []
        for assumption, verdicts in of.items():
            sizes = [verdict.n_calibration for verdict in verdicts]
            floor = 1 / (max(sizes) + 1)
            rows.append((assumption, len(verdicts), min(sizes), max(sizes), floor))
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def graph(self, case: Case) -> Graph | None:
        """The community as a picture, where a drawing of it came along."""
        drawn = case.drawing
        if drawn is None:
            return None
        key = f"graph-{self.communities.index(case) + 1}"
        own = {one.last.subject.id for one in self.accounts if one.caught_at is not None}
        named = DrawnCommunity(
            plain(drawn.id),
            drawn.at,
            drawn.members,
            tuple((a, b, plain(kind, 24), weight) for a, b, kind, weight in drawn.edges),
        )
        return draw_graph(named, key, own, shown=plain)

    def ladder(self) -> Markup:
        """Subjects by their highest rung."""
        return _both("ladder", lambda key, width: ladder_chart(self.rungs, key, width))

    def timeline(self) -> Markup | None:
        """When the gravest came to which rung."""
        lines = [
            Line(
                case.name,
                tuple(Step(v.decided_at, v.expires_at, v.action) for v in case.verdicts),
            )
            for case in self.cases[:MOST_LINES]
        ]
        if not lines:
            return None
        return _both("timeline", lambda key, width: timeline_chart(lines, key, width))


def _both(key: str, draw: Callable[[str, float], str]) -> Markup:
    """One chart at two sizes; the page shows the one that fits."""
    wide, narrow = draw(f"{key}-wide", WIDE), draw(f"{key}-narrow", NARROW)
    return markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _headline(findings: Findings) -> str:
    if not findings.cases:
        return "Nothing found"
    if not findings.acted:
        return "Watched, nothing done"
    groups = sum(case.kind != "account" for case in findings.acted)
    alone = len(findings.acted) - groups
    said = []
    if groups:
        said.append(_counted(groups, "group", "groups"))
    if alone:
        said.append(_counted(alone, "account", "accounts"))
    return " and ".join(said)


def render_guard_html(
    verdicts: Sequence[TrafficVerdict],
    *,
    communities: Sequence[DrawnCommunity] = (),
    scores: Mapping[str, Any] | None = None,
    replay: Mapping[str, Any] | None = None,
    spared: Sequence[Mapping[str, Any]] = (),
    spared_in_all: Mapping[str, int] | None = None,
    name: str = "traffic",
    made_at: str = "",
) -> str:
    """The findings as an HTML page.

    Args:
        verdicts: of one replay.
        communities: their drawings, from ``NAME.communities.jsonl``.
        scores: verdicts against truth, as ``overproof guard score --json`` gives them.
        replay: counts of the replay: lines, events, bad lines; ``since`` and ``until`` are times.
        spared: further rows of who was spared: any keys, the same in each; ``at`` is a time, and
            ``reason`` tells who was permitted from whose conduct did not stand out.
        spared_in_all: how many there were of each reason of which ``spared`` holds but some.
        name: of the log.
        made_at: ISO 8601; left out if empty, so that equal findings are equal pages.

    Returns:
        One document with inline CSS and SVG. Every text from outside is escaped.
    """
    findings = Findings(verdicts, communities)
    permitted, quiet = spared_tables(
        spared, MOST_ROWS, held=findings.acted_accounts, in_all=spared_in_all
    )
    made = environment()
    return made.get_template("guard_report.html.j2").render(
        findings=findings,
        headline=_headline(findings),
        graphs=[(case, findings.graph(case)) for case in findings.communities[:MOST_GRAPHS]],
        scores=facts.groups(plain_values(scores)) if scores else [],
        replay=facts.groups(plain_values(dated(replay))) if replay else [],
        permitted=permitted,
        quiet=quiet,
        name=plain(name),
        made_at=made_at,
        version=__version__,
        plain=plain,
        when=when,
        tail=tail,
        limits={
            "graphs": MOST_GRAPHS,
            "lines": MOST_LINES,
            "rows": MOST_ROWS,
            "members": MOST_MEMBERS,
        },
        rungs=[action for action in Action if action is not Action.LOG],
    )
