"""The experiment on the attackers and customers of the traffic simulator, in closed loop."""

from __future__ import annotations

from collections import defaultdict

import pytest

from overproof.config.traffic import TrafficPlan
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.throttling import Design, Experiment, ExperimentResult, Outcome, analyse
from overproof.proving.traffic.simulate import simulate
from overproof.records.traffic import Event, Truth

DAY_S = 86_400.0
PLAN = TrafficPlan(
    seed=7, bank="test", days=2.5, campaigns={"L3": 1, "L4": 1}, accounts={"L4": (40, 40)},
    each_class=0, groups={"framework-user": 2}, heavy_events=1_000, contamination=None,
    real_text=(),
)  # fmt: skip


def experiments(plan: TrafficPlan) -> dict[str, ExperimentResult]:
    """One experiment from the second day on each campaign, and on all framework users together."""
    told: list[Truth] = []
    for _ in simulate(plan, on_truth=told.append):
        pass
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for truth in told:
        groups[truth.level or truth.kind].append(truth.account)
    driven = {
        name: Experiment(
            Design(name, b"sixteen bytes at least", tuple(accounts), plan.start_s + DAY_S)
        )
        for name, accounts in groups.items()
    }
    owner = {account: name for name, accounts in groups.items() for account in accounts}
    sketcher = Fingerprinter(b"the winter of seven foxes")

    def throttle(event: Event) -> float | None:
        if event.account not in owner:  # one of a shared queue that is first used when others wait
            return None
        prompt = sketcher.sketch(event).prompt
        return driven[owner[event.account]].ask(event.account, event.ts, prompt)

    for _ in simulate(plan, throttle=throttle):
        pass
    return {
        name: analyse(each.design, each.observations(plan.end_s)) for name, each in driven.items()
    }


@pytest.mark.slow
def test_simulated_campaigns_react_and_framework_users_do_not() -> None:
    found = experiments(PLAN)
    for level in ("L3", "L4"):
        assert found[level].outcome is Outcome.REACTS
        assert found[level].p_value < 1e-3
        assert found[level].prompts.share.low > 0.5
    assert found["framework-user"].outcome is not Outcome.REACTS
