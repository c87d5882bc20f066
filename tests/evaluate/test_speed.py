from __future__ import annotations

import pytest

from overproof.evaluate import speed
from overproof.evaluate.speed import measure_speed
from overproof.evaluate.student import Student


def test_speed_counts_what_it_did(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "LEAST_S", 0.05)
    measured = measure_speed(student, ["good film", "a bad film"] * 5, n_latency=7)
    assert measured.n >= 10
    assert measured.n % 10 == 0
    assert measured.requests_per_second is not None
    assert measured.requests_per_second > 0
    assert measured.latency_p50_s is not None
    assert measured.latency_p95_s is not None
    assert 0 < measured.latency_p50_s <= measured.latency_p95_s
    assert "7 single requests" in measured.how
    assert "1 CPU thread," in measured.how


def test_speed_of_nothing(student: Student) -> None:
    with pytest.raises(ValueError, match="at least one"):
        measure_speed(student, [])
