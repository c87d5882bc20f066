"""The cost ledger of a certificate: what a request costs, and when a student has paid."""

from __future__ import annotations

import pytest
from certified_world import COSTS, SPEEDS, World, certify, recipe

from overproof.records.certificate import Speed


def test_costs_and_break_even() -> None:
    found = certify(World())
    assert found.candidate("teacher").cost_per_million_usd == pytest.approx(2000.0)
    student = 0.36 / 3600 / 400 * 1e6
    assert found.candidate("encoder").cost_per_million_usd == pytest.approx(student)
    making = 2.0 + 100 / 3600 * 0.36
    assert found.break_even_requests == pytest.approx(making / (0.002 - student / 1e6))
    assert "After about 1,0" in found.break_even_text
    assert "$2.01 to collect and train, " in found.break_even_text  # certifying is not priced


def test_unknown_prices_stay_unknown() -> None:
    unpriced = [COSTS[0].model_copy(update={"usd": None})]
    found = certify(World(), costs=unpriced)
    assert found.candidate("teacher").cost_per_million_usd is None
    assert "price unknown" in found.candidate("teacher").cost_basis
    assert found.break_even_requests is None
    assert "unknown costs" in found.break_even_text


def test_an_embedded_teacher_costs_machine_time() -> None:
    local = recipe().model_copy(
        update={"teacher": recipe().teacher.model_copy(update={"kind": "embedded"})}
    )
    unpriced = [COSTS[0].model_copy(update={"usd": 0.0}), COSTS[1]]
    found = certify(World(), recipe=local, costs=unpriced)
    teacher = 0.36 / 3600 / 5 * 1e6
    assert found.candidate("teacher").cost_per_million_usd == pytest.approx(teacher)
    making = 1000 / 5 / 3600 * 0.36 + 100 / 3600 * 0.36
    saved = (teacher - 0.36 / 3600 / 400 * 1e6) / 1e6
    assert found.break_even_requests == pytest.approx(making / saved)
    slow = certify(
        World(), recipe=local, costs=unpriced,
        speeds={name: Speed(requests_per_second=1.0) for name in SPEEDS},
    )  # fmt: skip
    assert slow.break_even_requests is None
    assert slow.break_even_text.startswith("Never")
