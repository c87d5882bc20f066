"""The machine that measured, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["machine_in_words"]


def machine_in_words() -> str:
    """Processor, cores and system, in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].split(":", 1)[1].strip() if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"
