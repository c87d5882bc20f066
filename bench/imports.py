"""How long the light parts take to load: what every command pays before it begins.

    python bench/imports.py [--quick] [--json]

The target (0.4 s) is the house's budget; the peer is a Python process that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

TARGET_S = 0.4
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import overproof": [sys.executable, "-c", "import overproof"],
    "overproof --help": [sys.executable, "-m", "overproof", "--help"],
}


def seconds(command: list[str], runs: int) -> float:
    """Median wall time of whole processes, after one warm-up."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {name: seconds(command, 5 if options.quick else 21) for name, command in
             COMMANDS.items()}  # fmt: skip
    peer = found.pop("python -c pass")
    rows = [
        {"metric": name, "value": round(value, 3), "target": TARGET_S, "unit": "s",
         "met": value <= TARGET_S,
         "peer": {"name": "bare python", "value": round(peer, 3), "unit": "s"}}
        for name, value in found.items()
    ]  # fmt: skip
    if options.json:
        print(json.dumps({"bench": "imports", "machine": machine(), "rows": rows}))
        return
    print(f"{'':20} {'seconds':>8} {'target':>8} {'bare python':>12}")
    for row in rows:
        print(f"{row['metric']:20} {row['value']:8} {row['target']:8} {row['peer']['value']:12}")


if __name__ == "__main__":
    main()
