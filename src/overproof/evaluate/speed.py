"""How fast a student is on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from overproof.evaluate.student import Student
from overproof.records.certificate import Speed

__all__ = ["measure_speed"]

BATCH = 64
LEAST_S = 1.0  # a shorter throughput run is mostly noise


def measure_speed(student: Student, texts: Sequence[str], *, n_latency: int = 100) -> Speed:
    """Throughput in batches over all ``texts``, and latency of single requests one by one.

    The texts are gone through again until at least a second has passed. Both include
    tokenisation; a first batch warms up and is not counted.

    Args:
        student: the student.
        texts: inputs as they come, such as the test split.
        n_latency: how many single requests are timed.

    Raises:
        ValueError: without any text, or ``n_latency`` below one.
    """
    if not texts or n_latency < 1:
        raise ValueError("speed needs at least one text and one request")
    student.score(texts[:BATCH], BATCH)
    n, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < LEAST_S:
        student.score(texts, BATCH)
        n += len(texts)
        elapsed = time.perf_counter() - start
    latencies = []
    student.score(texts[:1], 1)
    for i in range(n_latency):
        begin = time.perf_counter()
        student.score([texts[i % len(texts)]], 1)
        latencies.append(time.perf_counter() - begin)
    p50, p95 = np.quantile(latencies, [0.5, 0.95])
    return Speed(
        requests_per_second=n / elapsed,
        latency_p50_s=float(p50),
        latency_p95_s=float(p95),
        n=n,
        how=(
            f"ONNX Runtime on {student.threads} CPU thread{'s' if student.threads > 1 else ''}, "
            f"tokenisation included: {n} texts in batches of at most {BATCH} over {elapsed:.1f} s; "
            f"latency of {n_latency} single requests, without a network"
        ),
    )
