"""Fitting what guard ships with: scorers on some simulated logs, calibrations on others.

    python studies/guard_fit.py --work runs/guard --out src/overproof/guard/fitted

Two kinds of logs, both synthetic, both of the templates called ``fit``; the plans are the TOML
files beside this one:

* *fit* (guard/fit.toml): attack levels L0 to L4 and every honest class; the scorers learn from it.
* *calibration* (guard/honest.toml): honest traffic alone, other seeds, as many customers and as
  much of it as a test log has. Every p-value of the shipped instruments is against these; a
  provider makes its own with ``overproof guard calibrate``.

Logs for the figures are of other seeds and of the templates ``test`` (guard/test.toml);
bench/guard_quality.py reports on them, and nothing here reads them. Each log is simulated and
watched once; what is there already is kept.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from overproof.config.guard import GuardConfig
from overproof.proving.guard_fitting import fit, freeze, simulated, watch, watched

PLANS = Path(__file__).with_name("guard")


def main() -> None:
    """Simulate, watch, fit, freeze."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/guard"))
    parser.add_argument("--out", type=Path, default=Path("src/overproof/guard/fitted"))
    parser.add_argument("--fit", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--calibrate", type=int, nargs="+", default=[*range(201, 213)])
    parser.add_argument("--test", type=int, nargs="*", default=[], help="simulate these as well")
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    wanted = [(asked.work, "fit", seed) for seed in asked.fit]
    wanted += [(asked.work, "honest", seed) for seed in asked.calibrate]
    wanted += [(asked.work, "test", seed) for seed in asked.test]
    with ProcessPoolExecutor(asked.jobs, max_tasks_per_child=1) as pool:
        homes = list(pool.map(made, *zip(*wanted, strict=True)))
    n_fit, n_pool = len(asked.fit), len(asked.calibrate)
    scorers = fit([watched(home) for home in homes[:n_fit]])
    config = GuardConfig()
    frozen = freeze(
        scorers, [watched(home) for home in homes[n_fit : n_fit + n_pool]], asked.out, config
    )
    for line in (*frozen[0].describe(config.looks.false_positive_rate),
                 *frozen[1].describe(config.communities.false_discovery_rate)):  # fmt: skip
        print(line)


def made(work: Path, kind: str, seed: int) -> Path:
    """One log, simulated and (but for those to test on) watched, as far as that is not done."""
    home = work / f"{kind}-{seed}"
    if counts := simulated(PLANS / f"{kind}.toml", seed, home):
        print(f"{home.name}: {counts.events.total():,} events simulated", flush=True)
    if kind != "test":
        watch(home)
        print(f"{home.name}: watched", flush=True)
    return home


if __name__ == "__main__":
    main()
